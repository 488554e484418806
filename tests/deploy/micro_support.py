"""Builds and runs the C front end of `tflite/micro` on the host and on emulated boards.

The program is `qemu/runner.c`: it reads commands from a file and writes the results to another,
so a test is "the same numbers as Python" on every target.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import importlib
import shutil
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MICRO = ROOT / "tflite" / "micro"
OPERATIONS = (
    *("cosine", "rfft", "irfft", "stft", "features", "quantize", "segment", "separator"),
    *("stft_q15", "magnitude_q15", "log_mel_q15", "ln_q16", "quantize_q16"),
)


def load_script(name: str) -> ModuleType:
    """A script of `tflite/micro`, imported as it imports its neighbours: by its bare name."""
    if str(MICRO) not in sys.path:
        sys.path.insert(0, str(MICRO))
    return importlib.import_module(name)


toolchain = load_script("toolchain")


@dataclasses.dataclass
class Command:
    """One operation of the runner and its data; `runner.c` says what each takes."""

    operation: str
    ints: Sequence[int] = ()
    floats: Any = ()
    shorts: Any = ()

    def to_bytes(self) -> bytes:
        """As `runner.c` reads it. Shorts may be uint16 or int16."""
        ints = np.asarray(self.ints, np.int64).astype(np.uint32)
        floats = np.asarray(self.floats, np.float32).ravel()
        shorts = np.asarray(self.shorts, np.int64).ravel().astype(np.uint16)
        head = (OPERATIONS.index(self.operation), ints.size, floats.size, shorts.size)
        return struct.pack("<4I", *head) + ints.tobytes() + floats.tobytes() + shorts.tobytes()


class Runner:
    """The runner program of one target."""

    def __init__(self, target: Any, folder: Path, extra: Sequence[str] = ()) -> None:
        self.target, self.folder = target, folder
        source = toolchain.QEMU_FILES / "runner.c"
        self.program = toolchain.build_program(source, folder, target, extra)

    def run(self, *commands: Command) -> list[bytes]:
        """Results of the commands, in their order."""
        (self.folder / "in.bin").write_bytes(b"".join(c.to_bytes() for c in commands))
        toolchain.run_program(self.program, self.target, self.folder)
        data = (self.folder / "out.bin").read_bytes()
        results = []
        while data:
            (size,) = struct.unpack_from("<I", data)
            results.append(data[4 : 4 + size])
            data = data[4 + size :]
        assert len(results) == len(commands)
        return results

    def floats(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Result of one command as float32."""
        return np.frombuffer(self.run(Command(*args, **kwargs))[0], np.float32)


def library_objects() -> list[Path]:
    """The library's object files for the host."""
    folder = runner("host").folder
    return [folder / f"{source.stem}.o" for source in toolchain.library_sources()]


def unpack_spectrum(packed: np.ndarray) -> np.ndarray:
    """Packed `(..., n_fft)` spectra as complex `(..., n_fft / 2 + 1)`."""
    pairs = packed.reshape(*packed.shape[:-1], -1, 2).astype(np.float64)
    bins = pairs[..., 0] + 1j * pairs[..., 1]
    full = np.concatenate([bins, np.zeros_like(bins[..., :1])], axis=-1)
    full[..., 0], full[..., -1] = pairs[..., 0, 0], pairs[..., 0, 1]
    return full


def pack_spectrum(bins: np.ndarray) -> np.ndarray:
    """Complex `(..., n_fft / 2 + 1)` as packed float32 `(..., n_fft)`."""
    pairs = np.stack([bins.real, bins.imag], axis=-1)[..., :-1, :].astype(np.float32)
    pairs[..., 0, 1] = bins[..., -1].real
    return pairs.reshape(*bins.shape[:-1], -1)


def sparse_bank(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, length and concatenated weights of a `(bands, bins)` filter bank."""
    starts, lengths, values = [], [], []
    for row in weights:
        used = np.flatnonzero(row)
        first, last = (used[0], used[-1] + 1) if used.size else (0, 0)
        starts.append(first)
        lengths.append(last - first)
        values.append(row[first:last])
    return np.array(starts), np.array(lengths), np.concatenate(values)


def round_half_away(values: np.ndarray) -> np.ndarray:
    """TFLite's rounding, exact for float32 values computed in float64."""
    return np.trunc(values + np.copysign(0.5, values))


def snr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Power of the reference over that of the difference, dB."""
    error = np.sum(np.square(reference - estimate))
    return float(10 * np.log10(np.sum(np.square(reference)) / max(error, 1e-300)))


SIZES = [32, 64, 128, 256, 512, 1024, 2048, 4096]
_SLOW_TARGETS = ("cortex-m3", "cortex-m7", "cortex-m55")


def target_params(*, host: bool = True) -> list[Any]:
    """Names of the targets for `parametrize`; those whose sisters suffice are slow."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in _SLOW_TARGETS else [])
        for name in toolchain.TARGETS
        if host or name != "host"
    ]


@functools.cache
def _build_folder() -> Path:
    """A folder that all test files share and that goes when Python does."""
    folder = tempfile.mkdtemp(prefix="tfspec_micro_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def _built(name: str) -> Runner:
    return Runner(toolchain.TARGETS[name], _build_folder() / name)


def runner(name: str) -> Runner:
    """The runner of a target, built once; skips the test if a tool is missing."""
    if missing := toolchain.missing_tool(toolchain.TARGETS[name]):
        pytest.skip(f"{missing} is not installed")
    return _built(name)


def music(rng: np.random.Generator, n: int) -> np.ndarray:
    """Decaying harmonics over noise, float32 in [-0.9, 0.9]."""
    t = np.arange(n) / 8000
    tone = sum(np.sin(2 * np.pi * 180 * k * t) / k for k in range(1, 9)) * np.exp(-3 * (t % 0.4))
    x = tone + 0.05 * rng.standard_normal(n)
    return (0.9 * x / np.abs(x).max()).astype(np.float32)


def hard_signals(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """16-bit signals that are hard on fixed point, each for its own reason."""
    t = np.arange(n)
    signals = {
        "full-scale noise": rng.uniform(-1, 1, n),
        "noise at -60 dB": 1e-3 * rng.standard_normal(n),
        "single steps": np.round(rng.standard_normal(n)) / 32768,
        "sine": np.sin(2 * np.pi * 0.1234 * t),
        "square wave": np.sign(np.sin(2 * np.pi * 0.03 * t)),
        "harmonics": music(rng, n),
        "impulses": (t % 100 == 17) * 1.0,
        "dc": np.ones(n),
        "nyquist": (-1.0) ** t,
        "silence": np.zeros(n),
    }
    return {
        name: np.clip(np.round(x * 32768), -32768, 32767).astype(np.int16)
        for name, x in signals.items()
    }
