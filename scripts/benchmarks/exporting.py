"""Latency of every exported precision in LiteRT over Keras on the same input."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.report import Row

REQUIRED = 3.5  # int8 of the paper's network; needs a processor with int8 dot products
THREADS = (1, 2)
# int16x8 is for TensorFlow Lite Micro: LiteRT has reference kernels only.
PRECISIONS = ("float32", "float16", "dynamic_range", "int8")


def export_rows(quick: bool) -> list[Row]:
    """Latencies of the `small` and the `paper` preset with random weights.

    Args:
        quick: the `nano` and the `micro` preset instead; shows that the benchmark works.
    """
    presets = ("nano", "micro") if quick else ("small", "paper")
    return [row for preset in presets for row in _preset_rows(preset, 3 if quick else 7)]


def _preset_rows(preset: str, repeats: int) -> list[Row]:
    import tensorflow as tf

    from tfspec.deploy.convert import convert, cut_model
    from tfspec.deploy.metadata import embed_metadata
    from tfspec.deploy.runner import TfliteModel
    from tfspec.separation import PRESETS, vocal_unet

    model = vocal_unet(**PRESETS[preset])
    if PRESETS[preset]["output"] == "mask":
        model = cut_model(model, first="compress", last="mask")
    shape = tuple(model.inputs[0].shape[1:])
    segments = np.random.default_rng(0).random((16, *shape), np.float32)
    segment = segments[:1]
    function = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    files = convert(model, PRECISIONS, calibration=segments)
    ways: dict[str, Callable[[], object]] = {
        "Keras, compiled function": lambda: function(segment).numpy(),
        "Keras, model.predict": lambda: model.predict(segment, verbose=0),
    }
    with tempfile.TemporaryDirectory() as folder:
        for precision, content in files.items():
            path = Path(folder) / f"{precision}.tflite"
            path.write_bytes(embed_metadata(content, {"front_end": {}}))
            for threads in THREADS:
                runner = TfliteModel(path, num_threads=threads)
                name = f"{precision}, {threads} thread{'s' * (threads > 1)}"
                ways[name] = partial(runner, segment)
        return _rows(preset, ways, repeats)


def _rows(preset: str, ways: dict[str, Callable[[], object]], repeats: int) -> list[Row]:
    for run in ways.values():
        run()
    # All ways take turns, so that a busy machine slows them alike.
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    keras = seconds["Keras, compiled function"]
    rows = []
    for name, measured in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(keras, measured, strict=True)]
        rows.append(
            Row(
                name=f"`{preset}`: {name}, over Keras's compiled float32 function",
                value=statistics.median(ratios),
                unit="times",
                low=min(ratios),
                high=max(ratios),
                at_least=REQUIRED if (preset, name) == ("paper", "int8, 2 threads") else None,
                details={"milliseconds": 1e3 * min(measured)},
            )
        )
    return rows
