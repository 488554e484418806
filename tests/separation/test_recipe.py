"""Recipes: the paper's defaults, round trips, and values that are refused."""

from __future__ import annotations

import json

import pytest

from tfspec.errors import ConfigError
from tfspec.separation.presets import MODEL_PRESETS, VOCAL_PRESETS, WaveOptions
from tfspec.separation.recipe import SeparationRecipe
from tfspec.signal.stft import StftConfig


def test_defaults_are_the_papers():
    recipe = SeparationRecipe()
    assert recipe.stft == StftConfig(sample_rate=11025, n_fft=1024, hop_length=256)
    assert recipe.front_end.input_shape == (512, 128, 1)
    assert (recipe.learning_rate, recipe.batch_size, recipe.epochs) == (1e-3, 64, 20)
    assert (recipe.loss, recipe.scaler_kind, recipe.scaler_axis) == ("mae", "max", "frequency")
    # 40 / 40 / 20 per cent.
    shares = [value / sum(recipe.fraction_values) for value in recipe.fraction_values]
    assert shares == pytest.approx([0.4, 0.4, 0.2])
    assert not any(getattr(recipe, name) for name in vars(recipe) if name.startswith("legacy"))


@pytest.mark.parametrize("preset", MODEL_PRESETS)
def test_json_round_trip(preset):
    legacy = {"legacy_prefix": True} if preset in VOCAL_PRESETS else {"recombine": True}
    recipe = SeparationRecipe.preset(preset, epochs=3, depth=2, **legacy)
    again = SeparationRecipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "huber"}, "'huber'"),
        ({"scaler_kind": "l2"}, "'l2'"),
        ({"scaler_axis": "bins"}, "'bins'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"epochs": -1}, "epochs=-1"),
        ({"segment_frames": 100}, "multiple of 16"),
        ({"learning_rate": 2.0}, "learning_rate"),
        ({"fractions": "half"}, "'half'"),
        ({"targets": ("drums",)}, "drums"),
        ({"model": "huge"}, "'huge'"),
    ],
)
def test_bad_values(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        SeparationRecipe(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("small", {"mixing_gain": 0.7}, "random mixing is for models of several targets"),
        ("small", {"wave": WaveOptions()}, "`wave` is for Wave-U-Nets"),
        ("wave", {"wave": None}, "`wave` is for Wave-U-Nets"),
        ("wave", {"fractions": "paper"}, "fractions='paper'"),
        ("channels", {"legacy_split": True}, "legacy_split"),
        ("channels", {"min_vocal_level": 0.1}, "min_vocal_level=0.1"),
        ("channels", {"source_weights": (0.5, 0.5)}, "2 weights for 4 targets"),
        ("wave", {"targets": ("vocals", "guitar")}, "guitar"),
        ("jansson", {"scaler_kind": "robust"}, "scaler_kind='robust'"),
    ],
)
def test_options_that_a_family_lacks(preset, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        SeparationRecipe.preset(preset, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"upsampling": "cubic"}, "cubic"), ({"samples": 1}, "samples"), ({"sample_rate": 5}, "rate")],
)
def test_bad_wave_options(options, message):
    with pytest.raises(ConfigError, match=message):
        WaveOptions(**options)


def test_wave_options_change_one_by_one():
    recipe = SeparationRecipe.preset("wave").with_wave(context=True, channels=2)
    assert recipe.wave == WaveOptions(context=True, channels=2)
    assert recipe.front_end.margin > 0
    with pytest.raises(ConfigError, match=r"\['context'\] are options of the presets wave and"):
        SeparationRecipe.preset("small").with_wave(context=True)


def test_options_of_the_transform_change_one_by_one():
    recipe = SeparationRecipe.preset("channels-micro").with_stft(n_fft=1024)
    assert (recipe.stft.n_fft, recipe.stft.hop_length, recipe.stft.sample_rate) == (1024, 128, 8000)
    with pytest.raises(ConfigError, match=r"\['n_fft'\] are options of presets on spectrograms"):
        SeparationRecipe.preset("wave").with_stft(n_fft=1024)


def test_masks_need_the_max_scaler():
    with pytest.raises(ConfigError, match="scaler_kind='robust'"):
        SeparationRecipe.preset("small", scaler_kind="robust")


def test_unknown_fields_are_named():
    with pytest.raises(ConfigError, match="epoch'"):
        SeparationRecipe.preset("tiny", epoch=3)
    with pytest.raises(ConfigError, match="unknown recipe fields"):
        SeparationRecipe.from_dict({**SeparationRecipe().to_dict(), "colour": "red"})
