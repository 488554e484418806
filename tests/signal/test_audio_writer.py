"""Writing audio files; the standard library's `wave` and closed forms are the reference."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.audio_files import noise, one_line, tones
from tfspec.errors import AudioError, ConfigError, OutputError
from tfspec.signal import audio

# The folder of a test is shared by its examples: each overwrites what the one before wrote.
shared_folder = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
@shared_folder
@given(values=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=50))
def test_pcm_is_rounded_and_clipped(tmp_path, suffix, subtype, bits, values):
    path = tmp_path / f"a.{suffix}"
    audio.write_audio(path, np.array(values, np.float32), 44100, subtype=subtype)
    top = 2 ** (bits - 1)
    expected = np.clip(np.rint(np.array(values, np.float64) * top), -top, top - 1) / top
    np.testing.assert_array_equal(audio.read_audio(path)[0][:, 0], expected.astype(np.float32))
    assert soundfile.info(path).subtype == subtype


def test_clipping_does_not_wrap(tmp_path):
    path = tmp_path / "a.wav"
    audio.write_audio(path, np.array([1.0, 1.5, 100.0, -1.0, -1.5, -100.0]), 44100)
    with wave.open(str(path)) as reader:
        steps = np.frombuffer(reader.readframes(6), "<i2")
    np.testing.assert_array_equal(steps, [32767] * 3 + [-32768] * 3)


def test_float_keeps_what_is_beyond_one(tmp_path):
    expected = 3 * noise(0.1)
    audio.write_audio(tmp_path / "a.wav", expected, 96000, subtype="FLOAT")
    waveform, sample_rate = audio.read_audio(tmp_path / "a.wav")
    assert sample_rate == 96000
    np.testing.assert_array_equal(waveform, expected)


def test_writing_in_blocks_equals_writing_at_once(tmp_path):
    waveform = noise(0.5)
    audio.write_audio(tmp_path / "a.flac", waveform, 44100, subtype="PCM_24")
    with audio.AudioWriter(tmp_path / "new" / "b.flac", 44100, 2, "PCM_24") as writer:
        for begin in range(0, len(waveform), 1000):
            writer.write(waveform[begin : begin + 1000])
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "new" / "b.flac").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.wav"
    audio.write_audio(path, tones(0.1), 44100)
    before = path.read_bytes()
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        audio.AudioWriter(path, 44100, 2) as writer,
    ):
        writer.write(tones(0.1))
        raise RuntimeError("in the middle")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize(
    ("name", "subtype", "channels", "error", "message"),
    [
        ("a.flac", "FLOAT", 2, ConfigError, "FLAC has no float samples; use PCM_24"),
        ("a.wav", "PCM_8", 2, ConfigError, "subtype: must be one of"),
        ("a.mp3", "PCM_16", 2, OutputError, r"cannot write \.mp3; use \.wav or \.flac"),
        ("a", "PCM_16", 2, OutputError, "no suffix"),
        ("a.flac", "PCM_16", 9, ConfigError, "cannot hold 9 channels"),
    ],
)
def test_writer_refuses(tmp_path, name, subtype, channels, error, message):
    with pytest.raises(error, match=message):
        audio.write_audio(tmp_path / name, tones(0.1, channels=channels), 44100, subtype=subtype)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.zeros((0, 2)), "there are no samples to write"),
        (np.zeros((2, 3, 4)), "samples must be"),
    ],
)
def test_writer_refuses_waveforms(tmp_path, waveform, message):
    with pytest.raises(AudioError, match=message) as error:
        audio.write_audio(tmp_path / "a.wav", waveform, 44100)
    one_line(error, tmp_path / "a.wav")
    assert os.listdir(tmp_path) == []


def test_flac_at_a_rate_it_cannot_hold(tmp_path):
    with pytest.raises(OutputError, match="cannot be written") as error:
        audio.write_audio(tmp_path / "a.flac", tones(0.1), 700001)
    one_line(error, tmp_path / "a.flac")
    assert os.listdir(tmp_path) == []


def test_wav_does_not_grow_beyond_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr("tfspec.signal.audio_writer._MAX_WAV_BYTES", 1000)
    with pytest.raises(OutputError, match=r"WAV holds 4 GiB at most; write \.flac"):
        audio.write_audio(tmp_path / "a.wav", tones(0.1), 44100)
    audio.write_audio(tmp_path / "a.flac", tones(0.1), 44100)


@pytest.mark.parametrize("name", ["file/a.wav", "file/new/a.wav"])
def test_output_folder_is_a_file(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file is not a folder; choose another place") as error:
        audio.write_audio(tmp_path / name, tones(0.1), 44100)
    one_line(error, tmp_path / name)


def test_output_is_a_folder(tmp_path):
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(OutputError, match=r"cannot be written \(Is a directory\)"):
        audio.write_audio(tmp_path / "a.wav", tones(0.1), 44100)
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder nobody can write to")
def test_output_folder_cannot_be_written():
    with pytest.raises(OutputError, match="cannot be written") as error:
        audio.write_audio("/proc/a.wav", tones(0.1), 44100)
    one_line(error, "/proc/a.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_disk_full(tmp_path, suffix):
    """A limit on file size stands for the full disk: both make the write itself fail."""
    path = tmp_path / f"a.{suffix}"
    program = (
        "import resource, signal, sys, numpy as np\n"
        "from tfspec.errors import OutputError\n"
        "from tfspec.signal.audio import write_audio\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))\n"
        "waveform = np.random.default_rng(0).uniform(-1, 1, (100000, 2))\n"
        "try:\n"
        "    write_audio(sys.argv[1], waveform, 44100)\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert f"{path}: " in done.stdout
    assert "disk full?" in done.stdout
    assert done.stdout.count("\n") == 1
    assert os.listdir(tmp_path) == []
