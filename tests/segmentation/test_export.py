"""Exports of trained networks: the same classes, scores by precision, devices, label maps."""

from __future__ import annotations

import importlib.util
import json
import shutil

import keras
import numpy as np
import pytest

from tests.segmentation.small_spectrograms import SIZE, blocks, recipe
from tfspec.errors import ConfigError, ExportError, ModelError
from tfspec.segmentation.estimators import load_segmenter, resized
from tfspec.segmentation.export import (
    _check_same,
    device_model,
    export_segmenter,
    load_calibration,
    smaller_models,
    with_label_map,
)
from tfspec.segmentation.recipe import SegmentationRecipe
from tfspec.segmentation.train import build_model, train

needs_micro = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None or importlib.util.find_spec("ethosu") is None,
    reason="needs the extra `micro`",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network that knows its task, so that quantisation costs what it usually does."""
    folder = tmp_path_factory.mktemp("runs") / "blocks"
    own = recipe(epochs=12, learning_rate=1e-2, output_stride=2)
    train(blocks(48, 32), folder, own, cache=folder.parent / "cache", verbose=False)
    return folder


@pytest.fixture(scope="module")
def exported(run):
    return export_segmenter(run, precisions=("float32", "int8"))


def test_calibration_is_kept_with_the_run(run):
    arrays = load_calibration(run)
    assert arrays["calibration"].shape == (32, SIZE, SIZE, 1)
    assert arrays["images"].shape == (32, SIZE, SIZE, 1)
    assert arrays["labels"].shape == (32, SIZE, SIZE) and arrays["labels"].dtype == np.uint8
    # Levels in 255ths, rounded to 11 bits.
    steps = 255 * arrays["images"]
    np.testing.assert_allclose(steps, np.rint(steps), atol=0.13)


def test_files_find_the_same_classes(run, exported, rng):
    images = load_calibration(run)["images"]
    reference = load_segmenter(run)(images)
    for precision, least in (("float32", 0.9999), ("int8", 0.97)):
        found = load_segmenter(exported.files[precision])(images)
        assert np.mean(found.labels == reference.labels) >= least
        assert found.class_probs.shape == (32, SIZE, SIZE, 3)
    float32 = load_segmenter(exported.files["float32"])(images)
    # The form for devices adds up in another order.
    np.testing.assert_allclose(float32.class_probs, reference.class_probs, atol=1e-4)


def test_card_has_the_mean_iou_of_every_precision(exported):
    card = exported.card
    assert card["labels"] == ["noise", "lte", "nr"] and card["kind"] == "regression"
    assert card["keras_score"] > 0.8
    for precision in ("float32", "int8"):
        assert card["files"][precision]["score"] >= card["keras_score"] - 0.005
        assert card["files"][precision]["inputs"][0]["name"] == "image"
        assert card["files"][precision]["outputs"][0]["shape"] == [1, SIZE // 2, SIZE // 2, 3]
    assert "Classes, in order: noise, lte, nr" in (exported.folder / "CARD.md").read_text()


def test_label_maps_are_for_apps(run, tmp_path):
    report = export_segmenter(run, tmp_path / "labels", output="labels", precisions=("float32",))
    images = load_calibration(run)["images"]
    found = load_segmenter(report.files["float32"])(images)
    assert found.class_probs is None
    assert np.mean(found.labels == load_segmenter(run)(images).labels) >= 0.999
    with pytest.raises(ExportError, match="a label map comes in float precisions only"):
        export_segmenter(run, tmp_path / "int8", output="labels", precisions=("int8",))
    with pytest.raises(ConfigError, match="`output` must be one of"):
        export_segmenter(run, tmp_path / "x", output="mask")


def test_label_map_is_the_largest_of_the_enlarged_logits(rng):
    model = build_model(recipe(output_stride=2))
    images = rng.random((2, SIZE, SIZE, 1)).astype(np.float32)
    logits = keras.ops.convert_to_numpy(model(images, training=False))
    labels = keras.ops.convert_to_numpy(with_label_map(model)(images, training=False))
    expected = resized(logits, (SIZE, SIZE)).argmax(-1)
    # Untrained logits are close to each other: rounding decides a few pixels.
    assert labels.shape == expected.shape and np.mean(labels == expected) > 0.999


def test_other_networks_are_exported_as_they_are():
    model = build_model(recipe())
    assert device_model(model) is not model
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 1)])
    assert device_model(other) is other


def test_a_device_form_that_computes_something_else_is_refused(rng):
    model = build_model(recipe())
    device = device_model(model)
    images = rng.random((1, SIZE, SIZE, 1)).astype(np.float32)
    _check_same(model, device, images)
    device.layers[1].set_weights([w + 0.1 for w in device.layers[1].get_weights()])
    with pytest.raises(ExportError, match="its form for devices differs by"):
        _check_same(model, device, images)


def test_smaller_models_are_smaller(run):
    from tfspec.deploy.complexity import count_macs

    names = [variant.name for variant in smaller_models(run)]
    assert names == [
        "height=16, width=16",
        "preset micro-128",
        "preset micro-64",
        "preset nano-64",
    ]
    shutil.copy(run / "recipe.json", run.parent / "recipe.json")
    text = json.loads((run / "recipe.json").read_text()) | {"output_stride": None}
    (run.parent / "recipe.json").write_text(json.dumps(text))
    first = smaller_models(run.parent)[0]
    assert first.name == "output_stride=2"
    model, front_end = first.build()
    assert count_macs(model) < count_macs(build_model(recipe()))
    assert front_end["task"] == "segmentation"


def test_missing_calibration_is_named(run, tmp_path):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("calibration.npz"))
    with pytest.raises(ModelError, match=r"calibration\.npz: cannot be read .* training images"):
        export_segmenter(tmp_path / "run")


@needs_micro
@pytest.mark.slow
@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m55-ethos-u55-128"])
def test_device_presets_run_on_microcontrollers(tmp_path, target):
    """The whole network at 64 x 64: inside 512 KB, nothing on an Ethos-U55's CPU."""
    own = SegmentationRecipe.preset(
        "micro-64", height=64, width=64, epochs=4, batch_size=8, learning_rate=1e-2
    )
    own = SegmentationRecipe.from_dict(
        {
            **own.to_dict(),
            "radio": {
                **own.radio.to_dict(),
                "sample_rate": 15_360_000,
                "duration": 0.005,
                "snr_db": [20.0, 40.0],
            },
        }
    )
    train("radio:96", tmp_path / "run", own, cache=tmp_path / "cache", verbose=False)
    report = export_segmenter(tmp_path / "run", target=target)
    device = report.card["files"]["full_int8"]["device"]
    assert device["fit"]["fits"] and device["fit"]["ram_bytes"] <= 512 * 1024
    if "ethos" in target:
        assert device["vela"]["cpu_operators"] == []
    else:
        # TensorFlow Lite Micro computes what LiteRT's reference kernels compute.
        assert device["micro_against_reference"]["max_steps"] == 0
        assert (report.folder / "c" / "full_int8" / "tfspec_model.cc").exists()
