"""Decoding, resampling and transforming a folder of songs, in seconds of audio per second."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.report import Row
from tfspec.signal.audio import audio_info, read_audio
from tfspec.signal.stft import StftConfig, stft
from tfspec.synth.songs import synthesize_song

_FORMATS = ("wav", "flac", "mp3")
_SAMPLE_RATE = 44100
_REQUIRED = 200.0


def write_songs(folder: Path, *, n_songs: int, duration: float) -> list[Path]:
    """Writes stereo songs at 44.1 kHz, each as WAV, FLAC and MP3."""
    paths = []
    for seed in range(n_songs):
        song = synthesize_song(seed, duration=duration, sample_rate=_SAMPLE_RATE)
        for file_format in _FORMATS:
            path = folder / f"song_{seed}.{file_format}"
            soundfile.write(path, song.mixture, _SAMPLE_RATE)
            paths.append(path)
    return paths


def front_end(path: Path, config: StftConfig) -> np.ndarray:
    """What training does to a file once: mono, resampled, magnitudes."""
    waveform, _ = read_audio(path, sample_rate=config.sample_rate, channels=1)
    return np.abs(stft(waveform[:, 0], config))


def speed(paths: Sequence[Path], *, repeats: int) -> list[Row]:
    """Times real time of `front_end` over a folder with 2 threads, and of each format alone."""
    rows = [_row("folder of songs", paths, repeats, _REQUIRED)]
    for file_format in _FORMATS:
        chosen = [path for path in paths if path.suffix == f".{file_format}"]
        rows.append(_row(file_format.upper(), chosen, repeats, None))
    return rows


def _row(name: str, paths: Sequence[Path], repeats: int, at_least: float | None) -> Row:
    config = StftConfig()
    seconds = sum(audio_info(path).duration for path in paths)
    speeds, cpu = [], []
    for _ in range(repeats):
        cpu_start, start = time.process_time(), time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(lambda path: front_end(path, config), paths):
                pass
        speeds.append(seconds / (time.perf_counter() - start))
        cpu.append(seconds / (time.process_time() - cpu_start))
    return Row(
        name=f"decode + resample + STFT, {name}",
        value=statistics.median(speeds),
        unit="x real time",
        low=min(speeds),
        high=max(speeds),
        at_least=at_least,
        details={
            "files": len(paths),
            "audio minutes": seconds / 60,
            "x real time per CPU second": statistics.median(cpu),
            "threads": 2,
            "cores": len(os.sched_getaffinity(0)),
            "repeats": repeats,
        },
    )
