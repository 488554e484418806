"""Spectrogram-Channels U-Net and the U-Net of Jansson et al. against their tables."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.separation.wave_models import run
from tfspec.deploy.complexity import count_macs, peak_activation
from tfspec.errors import ConfigError
from tfspec.separation.models import jansson_unet, spectrogram_channels_unet

BUILDERS = {"channels": spectrogram_channels_unet, "jansson": jansson_unet}
FOUR = ("bass", "drums", "other", "vocals")
SMALL_SHAPE = (32, 16, 1)
SMALL = {"targets": ("drums", "accompaniment"), "depth": 3, "base_filters": 4}


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def magnitudes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.random(shape).astype(np.float32)


def awake(model: keras.Model) -> keras.Model:
    """Gives every weight a value that matters; only moving variances keep theirs."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name != "moving_variance":
            weight.assign(weight + rng.normal(0, 0.1, weight.shape).astype(np.float32))
    return model


# --- Spectrogram-Channels U-Net


@pytest.mark.parametrize(
    ("shape", "settings", "trained", "gmacs"),
    [
        ((1025, 173, 1), {}, 11_422_082, 40.85),
        ((1024, 176, 1), {"targets": FOUR}, 11_422_148, 40.86),
        ((1024, 128, 1), {}, 11_422_082, 29.7),
        # The ablation's 2-D network and its neighbours.
        ((1024, 256, 1), {"depth": 1}, 144_578, 16.7),
        ((1024, 256, 1), {"depth": 2}, 682_498, 31.0),
        ((1024, 256, 1), {"depth": 3}, 2_831_490, 45.2),
        ((1024, 256, 1), {"depth": 4}, 11_422_082, 59.4),
        ((1024, 256, 1), {"depth": 2, "base_filters": 64}, 2_724_866, 123.7),
    ],
)
def test_channels_counts_equal_the_table(shape, settings, trained, gmacs):
    model = spectrogram_channels_unet(shape, **settings)
    assert trainable(model) == trained
    assert count_macs(model) / 1e9 == pytest.approx(gmacs, rel=4e-3)  # three digits or more
    assert model.output_shape == (None, *shape[:2], len(settings.get("targets", "ab")))


def test_channels_peak_of_the_ablations_network():
    # Skip 32 + upsampled 32 + both 64 at full resolution: 32 MiB in int8.
    assert peak_activation(spectrogram_channels_unet((1024, 256, 1), depth=2)) == 32 * 2**20


def test_channels_layer_sequence():
    model = spectrogram_channels_unet((8, 8, 1), depth=1)
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "BatchNormalization", "ReLU"] * 2
    up = ["Conv2DTranspose", "BatchNormalization", "ReLU", "Dropout", "Concatenate"]
    assert kinds == ["InputLayer", *block, "MaxPooling2D", *block, *up, *block, "Conv2D"]
    assert [t._keras_history.operation.name for t in model.get_layer("decoder_1_concat").input] == [
        "encoder_1_relu_2",
        "decoder_1_dropout",
    ]
    assert model.get_layer("decoder_1_dropout").rate == 0.4
    norm = model.get_layer("encoder_1_bn_1")
    assert (norm.momentum, norm.epsilon) == (0.9, 1e-5)


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ((1025, 173), (1024, 176)),  # the paper's
        ((1024, 176), (1024, 176)),
        ((33, 16), (32, 16)),
        ((32, 13), (32, 16)),
        ((41, 7), (48, 16)),  # 40 bins are no multiple of 16 either
        ((2, 1), (16, 16)),
        ((3, 17), (16, 32)),
    ],
)
def test_any_size_comes_back(shape, inside):
    model = spectrogram_channels_unet((*shape, 1), base_filters=2)
    assert model.output_shape == (None, *shape, 2)
    assert model.get_layer("magnitudes").output.shape == (None, *inside, 2)


def test_fitting_is_zeros_around_the_same_network(rng):
    options = {**SMALL, "depth": 2}
    fitted = awake(spectrogram_channels_unet((27, 13, 1), **options))
    plain = spectrogram_channels_unet((28, 16, 1), **options)
    plain.set_weights(fitted.get_weights())
    x = magnitudes(rng, 2, 27, 13, 1)
    filled = np.zeros((2, 28, 16, 1), np.float32)
    filled[:, :26, :13] = x[:, :26]
    got, expected = run(fitted, x), run(plain, filled)
    np.testing.assert_array_equal(got[:, :26], expected[:, :26, :13])
    assert (got[:, 26] == 0).all()  # the Nyquist bin
    assert got[:, :26].max() > 0


def test_leak_is_of_the_gradient_only(rng):
    """The same function and weights; a channel that is zero everywhere still learns."""
    plain, leaky = (
        spectrogram_channels_unet(SMALL_SHAPE, **SMALL, head_leak=leak) for leak in (0.0, 0.1)
    )
    awake(plain)
    leaky.set_weights(plain.get_weights())
    mixture = magnitudes(rng, 2, *SMALL_SHAPE)
    np.testing.assert_array_equal(run(leaky, mixture), run(plain, mixture))
    truth = np.ones((2, *leaky.output_shape[1:]), np.float32)
    for model, name in ((plain, "magnitudes"), (leaky, "magnitudes_conv")):
        head = model.get_layer(name)
        kernel, bias = head.get_weights()
        head.set_weights([np.zeros_like(kernel), np.full_like(bias, -1.0)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        # An error of 1 everywhere: dL/dy = -2 / targets, of which a tenth leaks to the bias.
        assert model.train_on_batch(mixture, truth) == pytest.approx(1.0)
        moved = head.get_weights()[1] + 1.0
        expected = 0.0 if model is plain else 0.1 * 0.1 * 2 / len(bias)
        np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-9)
    again = keras.models.clone_model(leaky)
    assert again.get_layer("magnitudes").slope == 0.1


def test_channels_are_rectified_sums_of_the_last_features(rng):
    model = awake(spectrogram_channels_unet(SMALL_SHAPE, **{**SMALL, "targets": FOUR}))
    kernel = rng.normal(size=(1, 1, 4, 4)).astype(np.float32)
    bias = np.array([-0.5, 0.5, -0.2, 0.2], np.float32)
    model.get_layer("magnitudes").set_weights([kernel, bias])
    body = keras.Model(model.inputs, model.get_layer("decoder_1_relu_2").output)
    mixture = magnitudes(rng, 2, *SMALL_SHAPE)
    sums = run(body, mixture).astype(np.float64) @ kernel[0, 0] + bias
    assert (sums < 0).any() and (sums > 0).any()
    estimate = run(model, mixture)
    # Four products, each rounded in float32.
    np.testing.assert_allclose(estimate, np.maximum(sums, 0), atol=1e-6 * np.abs(sums).max())


# --- U-Net of Jansson et al.


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({}, 9_823_313),
        # A further mask: 25 weights for each of its 32 inputs and a bias.
        ({"targets": ("accompaniment", "vocals")}, 9_823_313 + 25 * 32 + 1),
        ({"compress": True}, 9_823_313),
    ],
)
def test_jansson_counts_equal_the_table(settings, trained):
    model = jansson_unet(**settings)
    assert trainable(model) == trained
    mask = keras.Model(model.inputs, model.get_layer("mask").output)
    assert peak_activation(mask) == 2**20
    if len(settings.get("targets", ("vocals",))) == 1:
        assert count_macs(model) / 1e6 == pytest.approx(753.7, abs=0.051)
        assert model.output_shape == (None, 512, 128, 1)


def test_jansson_layer_sequence():
    model = jansson_unet(base_filters=2)
    down = ["Conv2D", "BatchNormalization", "LeakyReLU"]
    up = ["Conv2DTranspose", "BatchNormalization", "ReLU"]
    expected = ["InputLayer", *down * 6, *[*up, "Dropout", "Concatenate"] * 3]
    expected += [*up, "Concatenate"] * 2 + ["Conv2DTranspose", "Multiply"]
    assert [type(layer).__name__ for layer in model.layers] == expected
    filters = [model.get_layer(f"encoder_{level}_conv").filters for level in range(1, 7)]
    assert filters == [2, 4, 8, 16, 32, 64]
    assert [model.get_layer(f"decoder_{n}_up").filters for n in range(5, 0, -1)] == filters[4::-1]
    assert [t._keras_history.operation.name for t in model.get_layer("decoder_5_concat").input] == [
        "encoder_5_leaky_relu",
        "decoder_5_dropout",
    ]
    assert model.get_layer("encoder_1_leaky_relu").negative_slope == pytest.approx(0.2)


@pytest.mark.parametrize("compress", [False, True])
def test_jansson_masks_the_mixture(rng, compress):
    model = awake(jansson_unet(SMALL_SHAPE, compress=compress, **SMALL))
    mixture = magnitudes(rng, 3, *SMALL_SHAPE)
    core = keras.Model(model.inputs, model.get_layer("mask").output)
    mask, estimate = run(core, mixture), run(model, mixture)
    assert mask.shape == (3, 32, 16, 2)
    assert mask.min() >= 0 and mask.max() <= 1 and np.ptp(mask) > 0.01
    # The one mixture times the mask of each source.
    np.testing.assert_allclose(estimate, mask * mixture, rtol=1e-6)
    if compress:
        plain = jansson_unet(SMALL_SHAPE, **SMALL)
        plain.set_weights(model.get_weights())
        core = keras.Model(plain.inputs, plain.get_layer("mask").output)
        np.testing.assert_allclose(run(core, np.sqrt(mixture)), mask, atol=1e-6)


# --- both


@pytest.mark.parametrize("kind", BUILDERS)
def test_saves_and_loads_equal(tmp_path, rng, kind):
    model = awake(BUILDERS[kind](SMALL_SHAPE, **SMALL))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    mixture = magnitudes(rng, 2, *SMALL_SHAPE)
    np.testing.assert_array_equal(run(model, mixture), run(again, mixture))


@pytest.mark.parametrize("kind", BUILDERS)
def test_steps_lower_the_loss(rng, kind):
    keras.utils.set_random_seed(0)
    depth = {"channels": 1, "jansson": 2}[kind]  # one decoder level each
    model = BUILDERS[kind](SMALL_SHAPE, **{**SMALL, "depth": depth})
    # Compiling the graph takes longer than these few steps.
    model.compile(keras.optimizers.Adam(1e-2), "mae", run_eagerly=True)
    mixture = magnitudes(rng, 4, *SMALL_SHAPE)
    sources = np.concatenate([0.2 * mixture, 0.8 * mixture], axis=-1)
    losses = [model.train_on_batch(mixture, sources) for _ in range(8)]
    assert losses[-1] < losses[0]


JAX_STEP = """
import keras, numpy as np, sys
from tfspec.separation import models
assert keras.backend.backend() == "jax"
build = getattr(models, sys.argv[3])
model = build((33, 16, 1) if "channels" in sys.argv[3] else (32, 16, 1), depth=3, base_filters=4)
x = np.load(sys.argv[1])[:, : model.input_shape[1]]
model.compile("adam", "mae")
model.train_on_batch(x, np.repeat(0.3 * x, model.output_shape[-1], axis=-1))
model.save(sys.argv[2])
np.save(sys.argv[2] + ".npy", model.predict(x, verbose=0))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spectrogram_channels_unet", "jansson_unet"])
def test_trains_on_jax_and_runs_on_tensorflow(tmp_path, rng, name):
    pytest.importorskip("jax", reason="the jax extra is not installed")
    mixture = magnitudes(rng, 2, 33, 16, 1)
    np.save(tmp_path / "x.npy", mixture)
    path = tmp_path / "model.keras"
    subprocess.run(
        [sys.executable, "-c", JAX_STEP, str(tmp_path / "x.npy"), str(path), name],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        check=True,
    )
    model = keras.saving.load_model(path)
    expected = np.load(f"{path}.npy")
    got = run(model, mixture[:, : model.input_shape[1]])
    # Two float32 implementations of the same convolutions: rounding of 1e-7 over ten layers.
    np.testing.assert_allclose(got, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("channels", {"depth": 5}, "`depth` must be in 1..4. Received: depth=5"),
        ("channels", {"depth": 0}, "depth=0"),
        ("channels", {"input_shape": (1, 16, 1)}, "at least 2 bins"),
        ("channels", {"input_shape": (512, 16)}, "input_shape="),
        ("channels", {"input_shape": (512, 16, 2)}, "input_shape="),
        ("jansson", {"depth": 0}, "`depth` must be in 1..8. Received: depth=0"),
        ("jansson", {"input_shape": (513, 128, 1)}, r"multiples of 2\*\*depth = 64"),
        ("jansson", {"input_shape": (512, 96, 1)}, "input_shape="),
        ("jansson", {"input_shape": (512, 128, 2)}, "input_shape="),
        *[
            (kind, *case)
            for kind in BUILDERS
            for case in (
                ({"base_filters": 0}, "base_filters=0"),
                ({"dropout": 1.0}, "dropout=1.0"),
                ({"targets": []}, r"targets=\[\]"),
                ({"targets": "vocals"}, "targets='vocals'"),
                ({"targets": ("drums", "drums")}, "different"),
            )
        ],
    ],
)
def test_bad_arguments(kind, arguments, message):
    with pytest.raises(ConfigError, match=message):
        BUILDERS[kind](**arguments)
