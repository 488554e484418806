"""The vocal U-Net against the layer table of the paper's code."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tfspec.errors import ConfigError
from tfspec.separation.models import PRESETS, vocal_unet

SMALL_SHAPE = (64, 32, 1)


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def closed_form(base: int, depth: int) -> int:
    """Trained parameters without biases in front of batch normalisation, from the layer table."""
    widths = [base * 2**level for level in range(depth + 1)]
    pairs = [(1, base), *itertools.pairwise(widths)]  # encoder and bottleneck
    pairs += [(2 * width, width) for width in widths[:-1]]  # decoder, behind the concatenation
    blocks = sum(9 * (fed * made + made * made) + 4 * made for fed, made in pairs)
    ups = sum(4 * 2 * width * width + width for width in widths[:-1])
    return blocks + ups + base + 1


@pytest.mark.parametrize(
    ("preset", "total", "trained", "shape"),
    [
        # The published network, counted from its layer table in closed form (papers: 31,054,145).
        ("paper", 31_054_145, 31_042_369, (512, 128)),
        ("small", 1_949_257, closed_form(8, 5), (512, 128)),
        ("tiny", 121_737, closed_form(8, 3), (512, 128)),
        ("micro", 121_737, closed_form(8, 3), (128, 32)),
        ("nano", 30_821, closed_form(4, 3), (128, 32)),
    ],
)
def test_parameter_counts(preset, total, trained, shape):
    model = vocal_unet(**PRESETS[preset])
    assert model.count_params() == total
    assert trainable(model) == trained
    assert model.output_shape == (None, *shape, 1)


@pytest.mark.parametrize(
    ("depth", "trained"), [(1, 403_649), (2, 1_864_257), (3, 7_701_825), (4, 31_042_369)]
)
def test_depth_family(depth, trained):
    assert trainable(vocal_unet(depth=depth)) == trained


def test_layer_sequence_is_the_original():
    kinds = [type(layer).__name__ for layer in vocal_unet(depth=2).layers]
    block = ["Conv2D", "BatchNormalization", "ReLU"] * 2
    up = ["Conv2DTranspose", "Concatenate", *block]
    expected = ["InputLayer", *block, "MaxPooling2D", *block, "MaxPooling2D", *block, *up, *up]
    assert kinds == [*expected, "Conv2D"]


def test_concatenation_is_upsampled_then_skip():
    layer = vocal_unet(depth=2).get_layer("decoder_1_concat")
    assert [tensor._keras_history.operation.name for tensor in layer.input] == [
        "decoder_1_up",
        "encoder_1_relu_2",
    ]


def test_mask_output_is_a_ratio_of_the_input(rng):
    model = vocal_unet(SMALL_SHAPE, base_filters=4, depth=2, output="mask")
    mixture = rng.random((3, *SMALL_SHAPE)).astype(np.float32)
    mask_model = keras.Model(model.inputs, model.get_layer("mask").output)
    mask, estimate = mask_model.predict(mixture, verbose=0), model.predict(mixture, verbose=0)
    assert mask.min() >= 0 and mask.max() <= 1
    np.testing.assert_allclose(estimate, mask * mixture, rtol=1e-6)


def test_saves_and_loads_equal(tmp_path, rng):
    model = vocal_unet(SMALL_SHAPE, base_filters=4, depth=2, output="mask")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    mixture = rng.random((2, *SMALL_SHAPE)).astype(np.float32)
    np.testing.assert_array_equal(
        model.predict(mixture, verbose=0), again.predict(mixture, verbose=0)
    )


def test_one_step_lowers_the_loss(rng):
    keras.utils.set_random_seed(0)
    model = vocal_unet(SMALL_SHAPE, base_filters=4, depth=2, output="mask")
    model.compile(keras.optimizers.Adam(1e-2), "mae")
    mixture = rng.random((4, *SMALL_SHAPE)).astype(np.float32)
    losses = [model.train_on_batch(mixture, 0.2 * mixture) for _ in range(10)]
    assert losses[-1] < losses[0]


JAX_STEP = """
import keras, numpy as np, sys
from tfspec.separation.models import vocal_unet
assert keras.backend.backend() == "jax"
model = vocal_unet((64, 32, 1), base_filters=4, depth=2, output=sys.argv[3])
x = np.load(sys.argv[1])
model.compile("adam", "mae")
model.train_on_batch(x, 0.3 * x)
model.save(sys.argv[2])
np.save(sys.argv[2] + ".npy", model.predict(x, verbose=0))
"""


@pytest.mark.slow
@pytest.mark.parametrize("output", ["magnitude", "mask"])
def test_trains_on_jax_and_runs_on_tensorflow(tmp_path, rng, output):
    pytest.importorskip("jax", reason="the jax extra is not installed")
    mixture = rng.random((2, *SMALL_SHAPE)).astype(np.float32)
    np.save(tmp_path / "x.npy", mixture)
    path = tmp_path / "model.keras"
    subprocess.run(
        [sys.executable, "-c", JAX_STEP, str(tmp_path / "x.npy"), str(path), output],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        check=True,
    )
    model = keras.saving.load_model(path)
    # Two float32 implementations of the same convolutions: rounding of 1e-7 over ten layers.
    expected = np.load(f"{path}.npy")
    np.testing.assert_allclose(
        model.predict(mixture, verbose=0), expected, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": "masks"}, "output='masks'"),
        ({"depth": 0}, "depth=0"),
        ({"base_filters": 0}, "base_filters=0"),
        ({"input_shape": (513, 128, 1)}, "multiples of"),
        ({"input_shape": (512, 128)}, "input_shape="),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        vocal_unet(**arguments)
