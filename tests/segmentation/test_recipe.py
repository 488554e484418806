"""Recipes and front ends: the paper's values, round trips, one-line errors."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tfspec.errors import ConfigError
from tfspec.segmentation.front_end import SCALINGS, FrontEnd
from tfspec.segmentation.recipe import MODEL_PRESETS, SegmentationRecipe
from tfspec.synth.radio import RadioConfig


def test_defaults_are_the_published_code():
    """`train.py` of the paper: sizes, Adam, loss, batch, epochs, no active augmentation."""
    recipe = SegmentationRecipe()
    assert recipe == SegmentationRecipe.preset("paper")
    assert (recipe.widths, recipe.dropout, recipe.squeeze) == ((26, 52, 96), (0.2, 0.2, 0.3), True)
    assert (recipe.learning_rate, recipe.l2, recipe.schedule) == (5e-4, 1e-4, "constant")
    assert (recipe.batch_size, recipe.epochs, recipe.loss) == (16, 10, "ce+dice")
    assert (recipe.augmentation, recipe.scaling) == ("none", "imagenet")
    assert recipe.front_end.input_shape == (256, 256, 3)


def test_device_presets_build_the_networks_of_their_size():
    from tfspec.segmentation.models import PRESETS, lightsegnet
    from tfspec.segmentation.train import build_model

    for name, arguments in PRESETS.items():
        built = build_model(SegmentationRecipe.preset(name))
        expected = lightsegnet(**arguments)
        assert built.input_shape == expected.input_shape
        assert built.output_shape == expected.output_shape
        shapes = [[w.shape for w in m.weights] for m in (built, expected)]
        assert shapes[0] == shapes[1]
        assert [layer.name for layer in built.layers if layer.weights] == [
            layer.name for layer in expected.layers if layer.weights
        ]


@pytest.mark.parametrize("preset", sorted(MODEL_PRESETS))
def test_json_gives_an_equal_recipe_back(preset):
    recipe = SegmentationRecipe.preset(
        preset, class_weights=(1.0, 2.0, 3.0), radio=RadioConfig(snr_db=(0.0, 10.0)), seed=7
    )
    assert SegmentationRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_captures_have_the_size_of_the_recipe():
    recipe = SegmentationRecipe.preset("micro-64", radio=RadioConfig(duration=0.02))
    assert (recipe.radio.image_height, recipe.radio.image_width) == (64, 64)
    assert recipe.front_end.image.n_samples == 1_228_800  # 20 ms at 61.44 MHz
    assert recipe.front_end.axes.hz_per_row == 960_000
    assert recipe.front_end.axes.seconds_per_column == pytest.approx(0.02 / 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "unet"}, "`model` must be one of .*'unet'"),
        ({"loss": "focal"}, "`loss` must be one of .*'focal'"),
        ({"epochs": 0}, "`epochs` must be in 1..100000. Received: epochs=0"),
        ({"channels": 2}, "`channels` must be 3, or 1"),
        ({"channels": 1}, "`channels` must be 3, or 1 with scaling 'unit'"),
        ({"classes": ("noise", "noise")}, "`classes` must be two or more different"),
        ({"class_weights": (1.0, 2.0)}, "a weight > 0 for each of"),
        ({"class_weights": (1.0, 2.0, 0.0)}, "a weight > 0 for each of"),
        ({"class_weights": "inverse"}, "'balanced'"),
        ({"validation_fraction": 0.6, "test_fraction": 0.4}, "leave something to train on"),
        ({"height": 255}, "`height` must be even"),
        ({"unknown": "guess"}, "`unknown` must be one of"),
    ],
)
def test_wrong_values_are_named(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        SegmentationRecipe(**changes)
    assert "\n" not in str(caught.value)


def test_unknown_preset_and_field():
    with pytest.raises(ConfigError, match=r"`preset` must be one of .*micro-64.*'tiny'"):
        SegmentationRecipe.preset("tiny")
    with pytest.raises(ConfigError, match=r"unknown recipe fields \['width_'\]"):
        SegmentationRecipe.preset("paper", width_=3)
    with pytest.raises(ConfigError, match=r"unknown recipe fields \['old'\]"):
        SegmentationRecipe.from_dict({**SegmentationRecipe().to_dict(), "old": 1})


def test_label_layout_says_what_becomes_of_other_colours():
    assert SegmentationRecipe().label_layout.unknown == "error"
    assert SegmentationRecipe(unknown="ignore").label_layout.unknown == "ignore"
    assert SegmentationRecipe(unknown="legacy").label_layout.legacy_unknown == 0


def test_front_end_round_trip():
    front_end = SegmentationRecipe.preset("micro-128").front_end
    values = json.loads(json.dumps(front_end.to_dict()))
    assert FrontEnd.from_dict(values) == front_end
    # Elsewhere in tfspec a sample rate on this level means audio.
    assert "sample_rate" not in values and values["task"] == "segmentation"
    with pytest.raises(ConfigError, match="is a model for 'separation'"):
        FrontEnd.from_dict({**values, "task": "separation"})


def test_pictures_have_no_known_colour_map():
    front_end = SegmentationRecipe(layout="mathworks").picture_front_end
    assert (front_end.orientation, front_end.colour_map) == ("time_up", None)
    with pytest.raises(ConfigError, match=r"colour map is not known.*radio:N"):
        front_end.image  # noqa: B018


def test_scaling_is_that_of_the_published_code(rng):
    import tensorflow as tf

    from tfspec.segmentation.augment import IMAGENET_MEAN, IMAGENET_STD, imagenet_normalize

    assert SCALINGS["imagenet"] == (IMAGENET_MEAN, IMAGENET_STD)
    colours = rng.random((2, 5, 7, 3)).astype(np.float32)
    front_end = SegmentationRecipe().front_end
    scaled = front_end.scaled(colours)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, imagenet_normalize(tf.constant(colours)).numpy())
    # Training scales tensors, prediction arrays: the same bits.
    np.testing.assert_array_equal(scaled, front_end.scaled(tf.constant(colours)).numpy())
    np.testing.assert_allclose(front_end.unscaled(scaled), colours, atol=1e-6)
    levels = rng.random((4, 4, 1)).astype(np.float32)
    unit = dataclasses.replace(front_end, channels=1, scaling="unit")
    np.testing.assert_array_equal(unit.scaled(levels), levels)
