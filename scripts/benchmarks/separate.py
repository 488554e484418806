"""Speed and memory of separating long files, and how near the network comes to the processor."""

from __future__ import annotations

import dataclasses
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
from tfspec.datasets.tracks import SOURCES
from tfspec.separation.presets import WaveOptions
from tfspec.separation.recipe import SeparationRecipe
from tfspec.signal.audio import AudioWriter

RATE = 44100
MINUTES = (1.0, 10.0, 180.0)
QUICK_MINUTES = (0.25, 0.5, 1.0)
# Of models of several targets; they take longer and need no more memory for longer files.
STEM_MINUTES = (1.0, 2.0)
QUICK_STEM_MINUTES = (0.1, 0.2)
MEMORY_LIMIT_MB = 1536.0

# Runs in a process of its own, whose peak memory is then that of one separation.
_CHILD = """
import json, re, sys, time
from tfspec.separation import Separator
from tfspec.separation.files import separate_file
from tfspec.separation.recipe import SeparationRecipe
from tfspec.separation.train import build_model
recipe = SeparationRecipe.from_dict(json.loads(sys.argv[3]))
separator = Separator(build_model(recipe), front_end=recipe.front_end)
start = time.perf_counter()
separate_file(sys.argv[1], separator, sys.argv[2])
seconds = time.perf_counter() - start
# Not ru_maxrss, which a process inherits from the one that started it.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps({"seconds": seconds, "peak_mb": peak}))
"""


def vocal_rows(quick: bool) -> list[Row]:
    """Separates files of three lengths with a vocal model, and measures the paper's network.

    Args:
        quick: short files and the tiny preset; shows that the benchmark works.
    """
    lengths = QUICK_MINUTES if quick else MINUTES
    preset = "tiny" if quick else "small"
    recipe = SeparationRecipe.preset(preset)
    runs = {minutes: _separate(minutes, recipe) for minutes in lengths}
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
    small = {"base_filters": 2, "segment_frames": 32} if quick else {}
    paper = {"the paper preset": SeparationRecipe.preset("paper", **small)}
    return rows + _network_rows(paper, quick, at_least=(0.8, 0.6))


def _stem_recipes(quick: bool) -> dict[str, SeparationRecipe]:
    """Models of four stems; with `quick` a small one, which shows that the benchmark works."""
    stereo = WaveOptions(channels=2)
    if quick:
        small = SeparationRecipe.preset("wave", wave=stereo, base_filters=2, depth=2)
        return {"a small `wave`, stereo": small}
    return {
        "`wave`, 12 levels, stereo": SeparationRecipe.preset("wave", wave=stereo),
        "`channels`, 4 levels": SeparationRecipe.preset("channels"),
        "`jansson` of four stems": SeparationRecipe.preset("jansson", targets=SOURCES),
    }


def stem_rows(quick: bool) -> list[Row]:
    """Real-time factor, growth of memory and FLOP/s of the models of several targets.

    Args:
        quick: shorter files and smaller models; shows that the benchmark works.
    """
    rows = []
    for name, recipe in _stem_recipes(quick).items():
        lengths = QUICK_STEM_MINUTES if quick else STEM_MINUTES
        short, long = (_separate(minutes, recipe) for minutes in lengths)
        rows += [
            Row(
                name=f"{name} (Keras float32) on {lengths[1]:g} min of 44.1 kHz stereo",
                value=60 * lengths[1] / long["seconds"],
                unit="x real time",
                details={"seconds": long["seconds"], "peak memory in MB": long["peak_mb"]},
            ),
            Row(
                name=f"{name}: peak memory, {lengths[1]:g} min against {lengths[0]:g} min",
                value=long["peak_mb"] / short["peak_mb"],
                unit="times",
                at_most=1.1,
            ),
        ]
    return rows + _network_rows(_stem_recipes(quick), quick)


def _separate(minutes: float, recipe: SeparationRecipe) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder) / "song.wav"
        _write_song(song, minutes)
        out, made_by = str(Path(folder) / "out"), json.dumps(recipe.to_dict())
        command = [sys.executable, "-c", _CHILD, str(song), out, made_by]
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


def _network_rows(
    recipes: dict[str, SeparationRecipe],
    quick: bool,
    *,
    at_least: tuple[float | None, float | None] = (None, None),
) -> list[Row]:
    """FLOP/s of networks over a matrix product's, taking turns; forward and in training."""
    import tensorflow as tf

    size, repeats = (512, 2) if quick else (4096, 5)
    matrix = tf.random.stateless_uniform((size, size), (0, 2))
    product = tf.function(lambda x: tf.matmul(x, x))

    def multiply() -> object:
        return product(matrix).numpy()

    return [
        row
        for name, recipe in recipes.items()
        for row in _flops_rows(name, recipe, 2, multiply, size, repeats, at_least)
    ]


def _flops_rows(
    name: str,
    recipe: SeparationRecipe,
    batch: int,
    multiply: Callable[[], object],
    size: int,
    repeats: int,
    bounds: tuple[float | None, float | None],
) -> list[Row]:
    """Forward pass and training step of one network against a product of `size` x `size`."""
    import tensorflow as tf

    from tfspec.deploy.complexity import count_macs
    from tfspec.separation.train import build_model, compile_model

    if recipe.loss == "weighted_l1":
        recipe = dataclasses.replace(recipe, loss="mae")  # needs no weights from data
    model = build_model(recipe)
    compile_model(model, recipe, steps_per_epoch=1000)
    inputs = tf.random.stateless_uniform((batch, *model.input_shape[1:]), (0, 1))
    targets = tf.zeros((batch, *model.output_shape[1:]))
    forward = tf.function(lambda x: model(x, training=False))
    flop = 2.0 * batch * count_macs(model)
    # A training step is a forward pass and two products of the same size going back.
    return [
        _flops_row(f"{name}'s {what}", run, work, multiply, 2.0 * size**3, repeats, bound)
        for what, run, work, bound in (
            ("forward pass", lambda: forward(inputs).numpy(), flop, bounds[0]),
            ("training step", lambda: model.train_on_batch(inputs, targets), 3 * flop, bounds[1]),
        )
    ]


def _flops_row(
    name: str,
    run: Callable[[], object],
    flop: float,
    product: Callable[[], object],
    product_flop: float,
    repeats: int,
    bound: float | None,
) -> Row:
    run()
    product()
    pairs = [(_seconds(product), _seconds(run)) for _ in range(repeats)]
    ratios = [(flop / ours) / (product_flop / theirs) for theirs, ours in pairs]
    return Row(
        name=f"FLOP/s of {name} over a float32 matrix product's",
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
