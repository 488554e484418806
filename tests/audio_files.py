"""Audio files for tests, made here: whole ones, and ones that are cut off or broken."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="the ffmpeg program is not installed"
)
LOSSLESS = ("wav", "flac")
LOSSY = ("ogg", "mp3")


def tones(seconds: float = 1.0, sample_rate: int = 44100, channels: int = 2) -> np.ndarray:
    """Sines of another frequency in each channel, `(samples, channels)` float32."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    frequencies = 220.0 * (1 + np.arange(channels))
    return (0.5 * np.sin(2 * np.pi * frequencies * time[:, None])).astype(np.float32)


def noise(seconds: float = 1.0, sample_rate: int = 44100, channels: int = 2) -> np.ndarray:
    """White noise, the hardest signal for a codec: its MP3 frames borrow bits from each other."""
    rng = np.random.default_rng(7)
    shape = (round(seconds * sample_rate), channels)
    return (0.2 * rng.standard_normal(shape)).clip(-0.99, 0.99).astype(np.float32)


def make(path: Path, waveform: np.ndarray, sample_rate: int = 44100, **options: object) -> Path:
    """Writes by libsndfile; the suffix chooses the format (WAV, FLAC, OGG Vorbis, MP3)."""
    soundfile.write(path, waveform, sample_rate, **options)  # type: ignore[arg-type]
    return path


def make_by_ffmpeg(
    path: Path, waveform: np.ndarray, sample_rate: int = 44100, *options: str
) -> Path:
    """Encodes by ffmpeg; the suffix chooses the format (M4A, AAC, and any other)."""
    source = make(path.with_name(path.name + ".source.wav"), waveform, sample_rate, subtype="FLOAT")
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(source), *options, str(path)]
    subprocess.run(command, check=True)
    source.unlink()
    return path


def make_stems(path: Path, stems: list[np.ndarray], sample_rate: int = 44100) -> Path:
    """A stem MP4: one AAC stream per waveform."""
    sources = [
        make(path.with_name(f"{path.stem}.{number}.wav"), stem, sample_rate, subtype="FLOAT")
        for number, stem in enumerate(stems)
    ]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y"]
    for source in sources:
        command += ["-i", str(source)]
    for number in range(len(stems)):
        command += ["-map", str(number)]
    subprocess.run([*command, "-c:a", "aac", "-b:a", "256k", str(path)], check=True)
    for source in sources:
        source.unlink()
    return path


def cut(path: Path, n_bytes: int) -> Path:
    """A copy of a file that ends after `n_bytes` (from its end when negative)."""
    shorter = path.with_name(f"cut_{path.name}")
    shorter.write_bytes(path.read_bytes()[:n_bytes])
    return shorter


def mp3_frame_length(header: bytes) -> int:
    """Length of a 44.1 kHz MPEG-1 layer 3 frame, written out again for the tests."""
    bitrates = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    return 144 * 1000 * bitrates[header[2] >> 4] // 44100 + (header[2] >> 1 & 1)


def without_xing(path: Path) -> Path:
    """A copy of a 44.1 kHz MP3 file without the first frame, which declares the length."""
    data = path.read_bytes()
    assert b"Xing" in data[:200] or b"Info" in data[:200]
    headless = path.with_name(f"headless_{path.name}")
    headless.write_bytes(data[mp3_frame_length(data[:4]) :])
    return headless


def with_id3(path: Path, n_bytes: int = 5000) -> Path:
    """A copy of an MP3 file with an ID3v2 tag before it and an ID3v1 tag behind it."""
    size = bytes(n_bytes >> shift & 127 for shift in (21, 14, 7, 0))
    tagged = path.with_name(f"tagged_{path.name}")
    first = b"ID3\x03\0\0" + size + bytes(n_bytes)
    tagged.write_bytes(first + path.read_bytes() + b"TAG" + bytes(125))
    return tagged


def wav_bytes(
    samples: bytes,
    *,
    sample_rate: int = 8000,
    channels: int = 1,
    bits: int = 16,
    code: int = 1,
    promised: int | None = None,
    chunks: bytes = b"",
) -> bytes:
    """A WAV file from its parts, so that its header can be wrong.

    Args:
        samples: contents of the data chunk.
        sample_rate: Hz.
        channels: number of channels.
        bits: bits per sample.
        code: 1 for PCM, 3 for float.
        promised: length that the data chunk claims, the true one when `None`.
        chunks: further chunks before the data.
    """
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, sample_rate, sample_rate * frame, frame, bits)
    size = len(samples) if promised is None else promised
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + chunks
    body += b"data" + struct.pack("<I", size) + samples
    return b"RIFF" + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


def one_line(error: pytest.ExceptionInfo[BaseException], path: object) -> None:
    """Checks that a message names the file and takes one line."""
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
