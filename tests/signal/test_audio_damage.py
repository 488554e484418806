"""Audio files that are cut off, broken or no audio at all, and MP3 files with odd headers."""

from __future__ import annotations

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


def test_mp3_without_a_length_header_is_read_to_its_end(tmp_path):
    """libsndfile guesses the length from the first frame: here far too short."""
    loud_then_silent = np.concatenate([noise(1.0), np.zeros((441000, 2), np.float32)])
    path = make(
        tmp_path / "a.mp3", loud_then_silent, bitrate_mode="VARIABLE", compression_level=0.0
    )
    headless = audio_files.without_xing(path)
    expected, _ = audio.read_audio(path)
    waveform, _ = audio.read_audio(headless)
    assert len(soundfile.read(headless)[0]) < len(expected)  # the fault that this is about
    assert audio.audio_info(headless).n_samples == len(waveform)
    assert len(waveform) % 1152 == 0
    # Without the header nobody knows the encoder's delay: 576 samples, and 529 of the decoder.
    np.testing.assert_allclose(waveform[1105 : 1105 + len(expected)], expected, atol=2e-7)


def test_mp3_with_tags(tmp_path):
    path = make(tmp_path / "a.mp3", tones(1.0))
    expected, _ = audio.read_audio(path)
    np.testing.assert_array_equal(audio.read_audio(audio_files.with_id3(path))[0], expected)
    headless = audio_files.with_id3(audio_files.without_xing(path))
    np.testing.assert_allclose(
        audio.read_audio(headless)[0][1105 : 1105 + len(expected)], expected, atol=2e-7
    )


def test_mp3_with_a_wrong_byte_count_is_whole(tmp_path):
    """Editors leave such headers; the frames are all there."""
    path = make(tmp_path / "a.mp3", tones(1.0))
    expected, _ = audio.read_audio(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"Xing" if b"Xing" in data[:100] else b"Info")
    data[at + 12 : at + 16] = (len(data) + 1000).to_bytes(4, "big")
    path.write_bytes(data)
    np.testing.assert_array_equal(audio.read_audio(path)[0], expected)


def test_mp3_cut_between_frames_misses_declared_frames(tmp_path):
    path = make(tmp_path / "a.mp3", tones(1.0), bitrate_mode="CONSTANT", compression_level=0.5)
    data = path.read_bytes()
    end = 0
    while end < len(data) // 2:
        end += audio_files.mp3_frame_length(data[end : end + 4])
    shorter = audio_files.cut(path, end)
    with pytest.raises(AudioError, match=r"promises \d+ frames and \d+ are there") as error:
        audio.read_audio(shorter)
    one_line(error, shorter)


def test_mp3_with_a_vbri_header(tmp_path):
    """Fraunhofer's encoder declares the number of frames in a tag of its own."""
    path = audio_files.without_xing(make(tmp_path / "a.mp3", tones(1.0)))
    expected, _ = audio.read_audio(path)
    frames = path.read_bytes()
    n_frames = (len(expected) // 1152).to_bytes(4, "big")
    tag = b"\xff\xfb\x90\x00" + bytes(32) + b"VBRI" + bytes(10) + n_frames
    tagged = tmp_path / "vbri.mp3"
    tagged.write_bytes(tag.ljust(417, b"\0") + frames)  # 128 kbit/s: 417 bytes
    np.testing.assert_allclose(audio.read_audio(tagged)[0], expected, atol=2e-7)
    end = 0
    while end < len(frames) // 2:
        end += audio_files.mp3_frame_length(frames[end : end + 4])
    with pytest.raises(AudioError, match=r"promises \d+ frames and \d+ are there"):
        audio.read_audio(audio_files.cut(tagged, 417 + end))


@pytest.mark.parametrize("headless", [True, False])
@pytest.mark.parametrize("tagged", [True, False])
def test_joined_mp3_files_are_read_to_the_end(tmp_path, headless, tagged):
    """The header of the first speaks for the first only: libsndfile would stop there."""
    paths = [make(tmp_path / f"{number}.mp3", noise(1.0 + number)) for number in range(2)]
    expected, _ = audio.read_audio(paths[1])
    if headless:
        paths = [audio_files.without_xing(path) for path in paths]
    if tagged:
        paths = [audio_files.with_id3(path, n_bytes=100_000) for path in paths]
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(b"".join(path.read_bytes() for path in paths))
    waveform, _ = audio.read_audio(joined)
    assert audio.audio_info(joined).n_samples == len(waveform)
    assert len(waveform) > 3.0 * 44100
    blocks = list(audio.stream_audio(joined, block_length=10000))
    np.testing.assert_array_equal(np.concatenate(blocks), waveform)
    # Where the second one begins, its own delay included; its first frames lack borrowed bits.
    correlation = np.correlate(waveform[:, 0], expected[44100:48196, 0])
    begin = int(np.argmax(correlation)) - 44100
    assert 44100 <= begin <= 44100 + 4 * 1152
    np.testing.assert_allclose(
        waveform[begin + 5000 : begin + len(expected)], expected[5000:], atol=1e-6
    )


@pytest.mark.parametrize("headless", [True, False])
def test_mp3_with_a_hole(tmp_path, headless):
    path = make(tmp_path / "a.mp3", noise(3.0))
    if headless:
        path = audio_files.without_xing(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    path.write_bytes(data)
    with pytest.raises(AudioError, match="cut off or damaged"):
        audio.read_audio(path)


def test_missing_file(tmp_path):
    with pytest.raises(AudioError, match=r"none\.wav: does not exist") as error:
        audio.read_audio(tmp_path / "none.wav")
    one_line(error, tmp_path)


def test_folder(tmp_path):
    with pytest.raises(AudioError, match="is a folder; give an audio file") as error:
        audio.audio_info(tmp_path)
    one_line(error, tmp_path)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a"])
def test_empty_file(tmp_path, name):
    path = tmp_path / name
    path.touch()
    with pytest.raises(AudioError, match=r"is empty \(0 bytes\)") as error:
        audio.read_audio(path)
    one_line(error, path)


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_no_samples(tmp_path, suffix):
    path = make(tmp_path / f"a.{suffix}", tones(0.0))
    with pytest.raises(AudioError, match="has a header but no samples") as error:
        audio.read_audio(path)
    one_line(error, path)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.m4a"])
@pytest.mark.parametrize("text", ["x", "no sound here, only words\n" * 200])
def test_text(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(AudioError, match="is not audio that can be read") as error:
        audio.read_audio(path)
    one_line(error, path)


def test_wav_whose_header_promises_more(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(audio_files.wav_bytes(bytes(1000), promised=4000))
    with pytest.raises(AudioError, match="promises 4000 bytes of samples and 1000") as error:
        audio.read_audio(path)
    one_line(error, path)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
@shared_folder
@given(fraction=st.floats(0, 1))
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, suffix, fraction):
    path = tmp_path / f"a.{suffix}"
    if not path.exists():
        make(path, tones(1.0))
    size = path.stat().st_size
    shorter = audio_files.cut(path, min(max(1, round(fraction * size)), size - 1))
    with pytest.raises(AudioError, match=r"cut off or damaged|is not audio") as error:
        audio.read_audio(shorter)
    one_line(error, shorter)


@pytest.mark.parametrize("fraction", [0.3, 0.77, 0.99])
def test_mp3_without_a_length_header_cut_within_a_frame(tmp_path, fraction):
    path = audio_files.without_xing(make(tmp_path / "a.mp3", tones(1.0)))
    shorter = audio_files.cut(path, round(fraction * path.stat().st_size))
    with pytest.raises(AudioError, match=r"last frame is not whole|within a frame header"):
        audio.audio_info(shorter)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_a_number(tmp_path, value):
    waveform = tones(2.0)
    waveform[70000, 1] = value
    path = make(tmp_path / "a.wav", waveform, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"sample 70000 \(1\.587 s\) is NaN or infinite") as error:
        audio.read_audio(path)
    one_line(error, path)
    with pytest.raises(AudioError, match="sample 70000"):
        list(audio.stream_audio(path, block_length=1000))


def test_block_length(tmp_path):
    with pytest.raises(ConfigError, match="block_length: must be at least 1"):
        next(audio.stream_audio(tmp_path / "a.wav", block_length=0))
