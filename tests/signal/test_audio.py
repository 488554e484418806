"""Reading audio files.

References: the standard library's `wave`, closed forms, and soundfile reading a whole file at once.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import audio_files
from tests.audio_files import make, noise, one_line, tones
from tfspec.errors import AudioError, ConfigError
from tfspec.signal import audio

# The folder of a test is shared by its examples: each overwrites what the one before wrote.
shared_folder = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_wav_samples_equal_the_standard_library(tmp_path):
    path = make(tmp_path / "a.wav", tones(0.1), subtype="PCM_16")
    with wave.open(str(path)) as reader:
        steps = np.frombuffer(reader.readframes(reader.getnframes()), "<i2").reshape(-1, 2)
    waveform, sample_rate = audio.read_audio(path)
    assert sample_rate == 44100
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, steps / 32768)  # both exact in float32


@pytest.mark.parametrize("suffix", audio_files.LOSSLESS + audio_files.LOSSY)
@pytest.mark.parametrize(("sample_rate", "channels"), [(8000, 1), (44100, 2), (48000, 2)])
def test_reads_every_format_at_any_rate(tmp_path, suffix, sample_rate, channels):
    expected = tones(0.5, sample_rate, channels)
    path = make(tmp_path / f"a.{suffix}", expected, sample_rate)
    waveform, rate = audio.read_audio(path)
    info = audio.audio_info(path)
    assert (rate, waveform.shape) == (sample_rate, expected.shape)
    assert (info.sample_rate, info.channels, info.n_samples) == (rate, channels, len(expected))
    assert info.format == suffix
    assert info.duration == pytest.approx(0.5)
    # Lossy codecs: up to 0.006 measured; a shift by one sample alone would cost 0.010 or more.
    error = np.sqrt(np.mean((waveform - expected)[200:-200] ** 2))
    assert error < (1e-4 if suffix in audio_files.LOSSLESS else 8e-3)


@pytest.mark.parametrize("sample_rate", [1000, 384000])
def test_reads_the_lowest_and_the_highest_rate(tmp_path, sample_rate):
    path = make(tmp_path / "a.wav", tones(0.02, sample_rate), sample_rate)
    assert audio.read_audio(path)[1] == sample_rate


@pytest.mark.parametrize("sample_rate", [1, 999, 384001])
def test_refuses_rates_outside(tmp_path, sample_rate):
    path = make(tmp_path / "a.wav", tones(0.1), sample_rate)
    with pytest.raises(AudioError, match=rf"{sample_rate} Hz is outside 1000 to 384000") as error:
        audio.read_audio(path)
    one_line(error, path)


def test_reads_eight_channels(tmp_path):
    expected = tones(0.1, channels=8)
    path = make(tmp_path / "a.wav", expected, subtype="FLOAT")
    waveform, _ = audio.read_audio(path)
    np.testing.assert_array_equal(waveform, expected)
    mean, _ = audio.read_audio(path, channels=1)
    np.testing.assert_allclose(mean[:, 0], expected.mean(axis=1), atol=1e-7)  # one rounding
    with pytest.raises(AudioError, match="has 8 channels and 2 are wanted") as error:
        audio.read_audio(path, channels=2)
    one_line(error, path)


def test_mono_is_repeated(tmp_path):
    path = make(tmp_path / "a.wav", tones(0.1, channels=1))
    stereo, _ = audio.read_audio(path, channels=2)
    mono, _ = audio.read_audio(path)
    np.testing.assert_array_equal(stereo, np.repeat(mono, 2, axis=1))


@pytest.mark.parametrize("suffix", audio_files.LOSSLESS + audio_files.LOSSY)
@pytest.mark.parametrize("name", ["a.xyz", "a", "a.wav", "a.mp3", "a.raw", "-a:b.flac"])
def test_the_content_decides_not_the_name(tmp_path, suffix, name):
    expected, _ = audio.read_audio(make(tmp_path / f"true.{suffix}", tones(0.1)))
    path = (tmp_path / f"true.{suffix}").rename(tmp_path / name)
    np.testing.assert_array_equal(audio.read_audio(path)[0], expected)


@pytest.mark.parametrize("suffix", audio_files.LOSSLESS + audio_files.LOSSY)
@shared_folder
@given(start=st.floats(0, 1.9), duration=st.floats(0.001, 3), block_length=st.integers(1, 90000))
def test_parts_and_blocks_equal_the_whole(tmp_path, suffix, start, duration, block_length):
    """Noise, so that an MP3 or Vorbis decoder that lost its state by seeking is seen."""
    path = tmp_path / f"a.{suffix}"
    if not path.exists():
        options = {"bitrate_mode": "CONSTANT", "compression_level": 0.9} if suffix == "mp3" else {}
        make(path, noise(2.0, 48000), 48000, **options)
    whole = soundfile.read(path, dtype="float32", always_2d=True)[0]
    first = round(start * 48000)
    part, _ = audio.read_audio(path, start=start, duration=duration)
    expected = whole[first : first + max(1, round(duration * 48000))]
    # libsndfile scales MP3 samples through int16-like blocks: one float32 rounding apart at most.
    np.testing.assert_allclose(part, expected, atol=2e-7)
    if block_length < 500:  # millions of tiny blocks would show nothing more
        block_length += 500
    blocks = list(audio.stream_audio(path, block_length=block_length))
    assert {len(block) for block in blocks[:-1]} <= {block_length}
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=2e-7)


def test_start_beyond_the_end(tmp_path):
    path = make(tmp_path / "a.wav", tones(0.5))
    with pytest.raises(AudioError, match=r"is 0\.500 s long; start at 0\.5 s is past that"):
        audio.read_audio(path, start=0.5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"start": -1.0}, "start: must be 0 s or more"),
        ({"start": float("nan")}, "start: must be 0 s or more"),
        ({"duration": 0.0}, "duration: must be more than 0 s"),
        ({"sample_rate": 0}, "sample_rate: must be at least 1 Hz"),
    ],
)
def test_refuses_ranges_that_mean_nothing(tmp_path, option, message):
    path = make(tmp_path / "a.wav", tones(0.1))
    with pytest.raises(ConfigError, match=message):
        audio.read_audio(path, **option)


def test_streaming_ten_minutes_needs_little_memory(tmp_path):
    path = tmp_path / "long.wav"
    n_bytes = 600 * 44100 * 4
    path.write_bytes(audio_files.wav_bytes(b"", channels=2, sample_rate=44100, promised=n_bytes))
    os.truncate(path, path.stat().st_size + n_bytes)  # silence that takes no disk space
    tracemalloc.start()
    total = sum(
        len(block) for block in audio.stream_audio(path, block_length=44100, sample_rate=11025)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 600 * 11025
    assert peak < 8e6  # the whole file is 212 MB as float32


def test_flac_that_does_not_say_how_long_it_is(tmp_path):
    path = make(tmp_path / "a.flac", tones(2.0))
    expected, _ = audio.read_audio(path)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # what ffmpeg writes to a pipe
    path.write_bytes(data)
    assert audio.audio_info(path).n_samples == len(expected)
    np.testing.assert_array_equal(audio.read_audio(path)[0], expected)
    np.testing.assert_array_equal(audio.read_audio(path, start=1.5)[0], expected[66150:])


def test_wav_that_was_written_to_a_pipe(tmp_path):
    samples = tones(0.1, channels=1).astype("<f4").tobytes()
    path = tmp_path / "a.wav"
    path.write_bytes(audio_files.wav_bytes(samples, bits=32, code=3, promised=0xFFFFFFFF))
    assert len(audio.read_audio(path)[0]) == 4410


def test_aiff_and_other_libsndfile_formats(tmp_path):
    for suffix in ("aiff", "au", "caf"):
        path = make(tmp_path / f"a.{suffix}", tones(0.1))
        assert len(audio.read_audio(path)[0]) == 4410
        assert audio.audio_info(path).format == suffix


def test_audio_does_not_import_tensorflow():
    program = "import sys, tfspec.signal.audio; sys.exit('tensorflow' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0


def test_files_are_closed(tmp_path):
    path = make(tmp_path / "a.wav", tones(0.1))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    opened = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(min(50, limit)):
        audio.read_audio(path)
        audio.read_audio(audio_files.make(tmp_path / "a.mp3", tones(0.1)))
    if opened:
        assert len(os.listdir("/proc/self/fd")) <= opened + 1
