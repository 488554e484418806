"""M4A, AAC and stem MP4 through ffmpeg; stempeg is the reference for stems."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import audio_files
from tests.audio_files import make, needs_ffmpeg, noise, one_line, tones
from tfspec.errors import AudioError
from tfspec.signal import audio


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["m4a", "mp4", "aac", "mka"])
def test_ffmpeg_formats(tmp_path, suffix):
    expected = tones(1.0)
    codec = ("-c:a", "aac", "-b:a", "256k")
    path = audio_files.make_by_ffmpeg(tmp_path / f"a.{suffix}", expected, 44100, *codec)
    whole, sample_rate = audio.read_audio(path)
    info = audio.audio_info(path)
    assert (sample_rate, whole.shape[1], info.n_samples) == (44100, 2, len(whole))
    # The first frame is the encoder's delay (1024), except where MP4 says so; the last is padded.
    assert len(whole) == 44100 if info.format == "mp4" else 44100 <= len(whole) <= 44100 + 3072
    part, _ = audio.read_audio(path, start=0.5, duration=0.25)
    np.testing.assert_array_equal(part, whole[22050 : 22050 + 11025])
    blocks = list(audio.stream_audio(path, block_length=1000))
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    if info.format == "mp4":  # tolerance as for the lossy codecs above
        assert np.sqrt(np.mean((whole - expected)[2048:-2048] ** 2)) < 8e-3


@needs_ffmpeg
def test_mpeg_layer_2(tmp_path):
    """Made by ffmpeg, read by libsndfile; it has no header that declares a length."""
    path = audio_files.make_by_ffmpeg(tmp_path / "a.mp2", tones(1.0))
    waveform, _ = audio.read_audio(path)
    assert audio.audio_info(path).n_samples == len(waveform)
    assert len(waveform) % 1152 == 0
    # The encoder's and the decoder's filters delay the sound by 481 samples.
    error = waveform[481 : 481 + 43000] - tones(1.0)[:43000]
    assert np.sqrt(np.mean(error[1000:] ** 2)) < 8e-3  # as for the lossy codecs in test_audio.py


@needs_ffmpeg
def test_stems(tmp_path):
    stems = [tones(0.5) * gain for gain in (0.9, 0.6, 0.3)]
    path = audio_files.make_stems(tmp_path / "a.stem.mp4", stems)
    waveforms, sample_rate = audio.read_stems(path)
    assert (waveforms.shape, sample_rate) == ((3, 22050, 2), 44100)
    for waveform, expected in zip(waveforms, stems, strict=True):
        assert np.sqrt(np.mean((waveform - expected)[2048:-2048] ** 2)) < 8e-3  # as above
    np.testing.assert_array_equal(audio.read_audio(path)[0], waveforms[0])
    chosen, _ = audio.read_stems(path, stems=[2, 0])
    np.testing.assert_array_equal(chosen, waveforms[[2, 0]])
    padded, _ = audio.read_stems(path, padded=True)
    assert padded.shape[1] >= 22050
    np.testing.assert_array_equal(padded[:, :22050], waveforms)
    with pytest.raises(AudioError, match="has audio streams 0 to 2") as error:
        audio.read_stems(path, stems=[3])
    one_line(error, path)


@needs_ffmpeg
def test_stems_that_differ(tmp_path):
    path = audio_files.make_stems(tmp_path / "a.mp4", [tones(0.5), tones(0.25)])
    with pytest.raises(AudioError, match="its stems differ") as error:
        audio.read_stems(path)
    one_line(error, path)


def test_stems_of_a_wav(tmp_path):
    path = make(tmp_path / "a.wav", tones(0.1))
    with pytest.raises(AudioError, match="is wav, which holds no stems"):
        audio.read_stems(path)


@needs_ffmpeg
@pytest.mark.parametrize("faststart", [True, False])
@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.97])
def test_mp4_that_is_cut(tmp_path, faststart, fraction):
    options = ("-movflags", "+faststart") if faststart else ()
    path = audio_files.make_by_ffmpeg(tmp_path / "a.m4a", tones(1.0), 44100, *options)
    shorter = audio_files.cut(path, round(fraction * path.stat().st_size))
    with pytest.raises(AudioError, match="cut off or damaged") as error:
        audio.read_audio(shorter)
    one_line(error, shorter)


@needs_ffmpeg
def test_aac_that_is_cut(tmp_path):
    path = audio_files.make_by_ffmpeg(tmp_path / "a.aac", tones(1.0))
    with pytest.raises(AudioError, match="last frame is not whole"):
        audio.read_audio(audio_files.cut(path, -5))


@needs_ffmpeg
def test_mp4_with_damaged_frames(tmp_path):
    path = audio_files.make_by_ffmpeg(tmp_path / "a.m4a", noise(1.0))
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") + 2000
    data[at : at + 3000] = b"\xff" * 3000
    path.write_bytes(data)
    with pytest.raises(AudioError, match="cut off or damaged") as error:
        audio.read_audio(path)
    one_line(error, path)


@needs_ffmpeg
def test_mp4_without_sound(tmp_path):
    path = tmp_path / "a.mp4"
    source = ["-f", "lavfi", "-i", "color=s=16x16:d=0.2"]
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *source, str(path)], check=True)
    with pytest.raises(AudioError, match="has no audio stream") as error:
        audio.read_audio(path)
    one_line(error, path)


@needs_ffmpeg
def test_without_ffmpeg(tmp_path, monkeypatch):
    path = audio_files.make_by_ffmpeg(tmp_path / "a.m4a", tones(0.1))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match=r"needs the ffprobe program.*apt-get install") as error:
        audio.read_audio(path)
    one_line(error, path)


@needs_ffmpeg
def test_an_abandoned_stream_ends_ffmpeg(tmp_path):
    path = audio_files.make_by_ffmpeg(tmp_path / "a.m4a", tones(20.0))
    blocks = audio.stream_audio(path, block_length=100)
    next(blocks)
    blocks.close()
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("this system does not list child processes")
    names = [Path(f"/proc/{child}/comm").read_text() for child in children.read_text().split()]
    assert "ffmpeg\n" not in names


@pytest.mark.slow
@needs_ffmpeg
def test_real_stems_equal_stempeg(shared_data):
    stempeg = pytest.importorskip("stempeg")
    (path,) = (shared_data / "musdb18-7-sample").rglob("*.stem.mp4")
    expected, sample_rate = stempeg.read_stems(str(path))
    padded, rate = audio.read_stems(path, padded=True)
    assert rate == sample_rate
    np.testing.assert_array_equal(padded, expected.astype(np.float32))
    assert audio.audio_info(path).n_samples == audio.read_stems(path, stems=[0])[0].shape[1]
