"""Speed and memory of separating long files, and how near the network comes to the processor."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import Row
from tfspec.signal.audio import AudioWriter

RATE = 44100
MINUTES = (1.0, 10.0, 180.0)
QUICK_MINUTES = (0.25, 0.5, 1.0)
MEMORY_LIMIT_MB = 1536.0

# Runs in a process of its own, whose peak memory is then that of one separation.
_CHILD = """
import json, re, sys, time
from tfspec.separation import PRESETS, Separator, vocal_unet
from tfspec.separation.files import separate_file
separator = Separator(vocal_unet(**PRESETS[sys.argv[3]]))
start = time.perf_counter()
separate_file(sys.argv[1], separator, sys.argv[2])
seconds = time.perf_counter() - start
# Not ru_maxrss, which a process inherits from the one that started it.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps({"seconds": seconds, "peak_mb": peak}))
"""


def separate_rows(quick: bool) -> list[Row]:
    """Separates files of three lengths and measures the paper's network.

    Args:
        quick: short files and the tiny preset; shows that the benchmark works.
    """
    lengths = QUICK_MINUTES if quick else MINUTES
    preset = "tiny" if quick else "small"
    runs = {minutes: _separate(minutes, preset) for minutes in lengths}
    rows = [
        Row(
            name=f"`{preset}` (Keras float32) on {minutes:g} min of 44.1 kHz stereo",
            value=60 * minutes / run["seconds"],
            unit="x real time",
            details={"seconds": run["seconds"], "peak memory in MB": run["peak_mb"]},
        )
        for minutes, run in runs.items()
    ]
    short, middle, long = (runs[minutes] for minutes in lengths)
    per_minute = [run["seconds"] / minutes for minutes, run in runs.items()]
    rows += [
        Row(
            name=f"time per minute of audio, {lengths[2]:g} min against {lengths[1]:g} min",
            value=per_minute[2] / per_minute[1],
            unit="times",
            at_most=None if quick else 1.2,
        ),
        Row(
            name=f"peak memory, {lengths[2]:g} min against {lengths[1]:g} min",
            value=long["peak_mb"] / middle["peak_mb"],
            unit="times",
            at_most=1.1,
        ),
        Row(
            name=f"peak memory of {lengths[2]:g} min",
            value=max(run["peak_mb"] for run in (short, middle, long)),
            unit="MB",
            at_most=MEMORY_LIMIT_MB,
        ),
    ]
    return rows + _network_rows(quick)


def _separate(minutes: float, preset: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder) / "song.wav"
        _write_song(song, minutes)
        command = [sys.executable, "-c", _CHILD, str(song), str(Path(folder) / "out"), preset]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout.splitlines()[-1])


def _write_song(path: Path, minutes: float) -> None:
    """A synthetic song, repeated; neither speed nor memory depends on what is heard."""
    from tfspec.synth.songs import synthesize_song

    block = synthesize_song(0, duration=15.0, sample_rate=RATE).mixture
    left = round(60 * minutes * RATE)
    with AudioWriter(path, RATE, 2) as writer:
        while left:
            writer.write(block[:left])
            left -= min(left, len(block))


def _network_rows(quick: bool) -> list[Row]:
    """FLOP/s of the paper's network over that of a matrix product, taking turns."""
    import tensorflow as tf

    from tfspec.deploy.complexity import count_macs
    from tfspec.separation import PRESETS, vocal_unet
    from tfspec.separation.recipe import SeparationRecipe
    from tfspec.separation.train import compile_model

    shape = (64, 32, 1) if quick else (512, 128, 1)
    batch, size, repeats = (1, 512, 2) if quick else (2, 4096, 5)
    model = vocal_unet(shape, **PRESETS["paper"])
    compile_model(model, SeparationRecipe(), steps_per_epoch=1000)
    segments = tf.random.stateless_uniform((batch, *shape), (0, 1))
    matrix = tf.random.stateless_uniform((size, size), (0, 2))
    forward = tf.function(lambda x: model(x, training=False))
    product = tf.function(lambda x: tf.matmul(x, x))
    flop = 2.0 * batch * count_macs(model)
    # A training step is a forward pass and two products of the same size going back.
    return [
        _flops_row(name, run, work, lambda: product(matrix).numpy(), 2.0 * size**3, repeats, bound)
        for name, run, work, bound in (
            ("forward pass", lambda: forward(segments).numpy(), flop, 0.8),
            ("training step", lambda: model.train_on_batch(segments, segments), 3 * flop, 0.6),
        )
    ]


def _flops_row(
    name: str,
    run: Callable[[], object],
    flop: float,
    product: Callable[[], object],
    product_flop: float,
    repeats: int,
    bound: float,
) -> Row:
    run()
    product()
    pairs = [(_seconds(product), _seconds(run)) for _ in range(repeats)]
    ratios = [(flop / ours) / (product_flop / theirs) for theirs, ours in pairs]
    return Row(
        name=f"FLOP/s of the paper preset's {name} over a float32 matrix product's",
        value=statistics.median(ratios),
        unit="times",
        low=min(ratios),
        high=max(ratios),
        at_least=bound,
        details={
            "network GFLOP/s": float(np.median([flop / ours for _, ours in pairs])) / 1e9,
            "matrix GFLOP/s": float(np.median([product_flop / t for t, _ in pairs])) / 1e9,
            "repeats": repeats,
        },
    )


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
