"""Images per second of LightSegNet against DeepLabV3+, in Keras and LiteRT, in one run."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.report import Row
from tfspec.segmentation.recipe import SegmentationRecipe

PRECISIONS = ("float32", "int8")
THREADS = 2
REFERENCE = "DeepLabV3+"


def segment_rows(quick: bool) -> list[Row]:
    """Images per second of three networks, and how long IQ takes against real time.

    Args:
        quick: small images; shows that the benchmark works.
    """
    size = {"height": 64, "width": 64} if quick else {}
    recipes = {
        "LightSegNet": SegmentationRecipe.preset("paper", **size),
        REFERENCE: SegmentationRecipe.preset("deeplab", **size),
        "LightSegNet micro-64": SegmentationRecipe.preset("micro-64"),
    }
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[tuple[str, str], Callable[[], object]] = {}
        facts: dict[str, dict[str, float]] = {}
        for name, recipe in recipes.items():
            own, facts[name] = _ways(name, recipe, Path(folder))
            ways |= own
        rows = _rows(ways, facts, 3 if quick else 9)
    return [*rows, _recording_row(recipes["LightSegNet"], quick)]


def _ways(
    name: str, recipe: SegmentationRecipe, folder: Path
) -> tuple[dict[tuple[str, str], Callable[[], object]], dict[str, float]]:
    """How one network runs on an image, and its size. Random weights: speed does not depend."""
    import tensorflow as tf

    from tfspec.deploy.complexity import count_macs
    from tfspec.deploy.convert import convert
    from tfspec.deploy.metadata import embed_metadata
    from tfspec.deploy.runner import TfliteModel
    from tfspec.segmentation.export import device_model
    from tfspec.segmentation.train import build_model

    model = build_model(recipe)
    images = np.random.default_rng(0).random((16, *recipe.front_end.input_shape), np.float32)
    image = images[:1]
    function = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    ways: dict[tuple[str, str], Callable[[], object]] = {
        (name, "Keras"): lambda: function(image).numpy()
    }
    for precision, content in convert(device_model(model), PRECISIONS, calibration=images).items():
        path = folder / f"{len(name)}-{precision}.tflite"
        path.write_bytes(embed_metadata(content, {"front_end": {}}))
        runner = TfliteModel(path, num_threads=THREADS)
        ways[name, f"LiteRT {precision}"] = partial(runner, image)
    facts = {"parameters": float(model.count_params()), "MMACs": count_macs(model) / 1e6}
    return ways, facts


def _rows(
    ways: dict[tuple[str, str], Callable[[], object]],
    facts: dict[str, dict[str, float]],
    repeats: int,
) -> list[Row]:
    for run in ways.values():
        run()
    # All ways take turns, so that a busy machine slows them alike.
    seconds: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - start)
    rows = []
    for (name, how), measured in seconds.items():
        reference = seconds[REFERENCE, how]
        speeds = [1.0 / value for value in measured]
        ratios = [theirs / ours for theirs, ours in zip(reference, measured, strict=True)]
        details = dict(facts[name])
        if name != REFERENCE:
            details |= {f"times as fast as {REFERENCE}": statistics.median(ratios)}
        rows.append(
            Row(
                name=f"{name}, {how}, {THREADS} threads",
                value=statistics.median(speeds),
                unit="images/s",
                low=min(speeds),
                high=max(speeds),
                details=details,
            )
        )
    return rows


def _recording_row(recipe: SegmentationRecipe, quick: bool) -> Row:
    """IQ to label maps, without writing them: time of computing per time of recording."""
    from tfspec.segmentation.predict import Segmenter
    from tfspec.segmentation.train import build_model
    from tfspec.signal.iq import open_iq

    segmenter = Segmenter(build_model(recipe), front_end=recipe.front_end)
    rate, windows = recipe.radio.sample_rate, 2 if quick else 10
    samples = round(windows * recipe.radio.duration * rate)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.cs16"
        rng.integers(-1000, 1000, 2 * samples, np.int16).tofile(path)
        recording = open_iq(path, sample_rate=rate)
        next(segmenter.recording(recording))  # the first call traces
        start = time.perf_counter()
        images = sum(1 for _ in segmenter.recording(recording))
        spent = time.perf_counter() - start
    return Row(
        name=f"IQ of {rate / 1e6:g} MHz to label maps of LightSegNet (Keras)",
        value=spent / (windows * recipe.radio.duration),
        unit="s per s of recording",
        details={"ms per image": 1e3 * spent / images, "images": images},
    )
