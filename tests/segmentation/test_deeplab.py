"""DeepLabV3+ against Keras Applications, the atrous principle and the paper's layer table."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tfspec.deploy.convert import convert
from tfspec.deploy.inspect import inspect_tflite
from tfspec.deploy.metadata import embed_metadata
from tfspec.deploy.runner import TfliteModel
from tfspec.errors import ConfigError
from tfspec.segmentation.losses import CrossEntropyDice
from tfspec.segmentation.models import deeplab_v3_plus

APPLICATIONS = {
    "mobilenet_v2": (keras.applications.MobileNetV2, "block_16_project_BN", "block_2_add"),
    "resnet50": (keras.applications.ResNet50, "conv5_block3_out", "conv2_block3_out"),
}


@pytest.mark.parametrize(
    ("backbone", "stride", "first"),
    [
        # A removed stride kept every second pixel: MobileNetV2's padding the odd ones, ResNet50's
        # 1x1 convolutions the even ones. With two removed, every fourth is left.
        ("mobilenet_v2", 16, 1),
        ("mobilenet_v2", 8, 3),
        ("resnet50", 16, 0),
        pytest.param("resnet50", 8, 0, marks=pytest.mark.slow),
    ],
)
def test_removed_strides_leave_the_values_and_add_those_between(rng, backbone, stride, first):
    model = deeplab_v3_plus((64, 96, 1), backbone=backbone, output_stride=stride, filters=8)
    build, high, low = APPLICATIONS[backbone]
    plain = build(include_top=False, weights=None, input_shape=(64, 96, 1))
    for layer in plain.layers:
        if layer.weights and layer.name in {other.name for other in model.layers}:
            # Statistics as from training, or dozens of layers would let the values vanish.
            weights = [
                rng.normal(0, np.sqrt(2 / np.prod(w.shape[:3])), w.shape)
                for w in layer.get_weights()
            ]
            if isinstance(layer, keras.layers.BatchNormalization):
                weights = [rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()]
            layer.set_weights(weights)
            model.get_layer(layer.name).set_weights(weights)
    image = rng.normal(size=(1, 64, 96, 1)).astype(np.float32)
    results = []
    for network in (plain, model):
        ends = [network.get_layer(name).output for name in (low, high)]
        results.append(keras.Model(network.inputs, ends).predict(image, verbose=0))
    (plain_low, plain_high), (our_low, our_high) = results
    step = 32 // stride
    assert our_high.shape[1:3] == (64 // stride, 96 // stride)
    assert np.std(plain_high) > 0
    # Rounding of float32 over some 50 layers.
    atol = 1e-4 * np.abs(plain_high).max()
    np.testing.assert_allclose(our_high[:, first::step, first::step], plain_high, atol=atol)
    np.testing.assert_allclose(our_low, plain_low, atol=1e-5 * np.abs(plain_low).max())


def head_parameters(low: int, high: int, filters: int, classes: int) -> int:
    """Parameters behind the backbone, from the paper's description; a norm has four per channel."""

    def conv(fed: int, made: int) -> int:
        return fed * made + 4 * made

    def separable(fed: int, made: int) -> int:
        return 9 * fed + 4 * fed + conv(fed, made)

    pyramid = 2 * conv(high, filters) + 3 * separable(high, filters)  # 1x1, image; three rates
    pyramid += conv(5 * filters, filters)
    decoder = conv(low, 48) + separable(filters + 48, filters) + separable(filters, filters)
    return pyramid + decoder + filters * classes + classes


@pytest.mark.parametrize(
    ("backbone", "parameters", "low", "high"),
    [
        # Keras' documentation: 2,257,984 and 23,587,712 parameters without top. MobileNetV2's last
        # 1x1 convolution (320 to 1280, and its norm) is left out.
        ("mobilenet_v2", 2_257_984 - 320 * 1280 - 4 * 1280, 24, 320),
        ("resnet50", 23_587_712, 256, 2048),
    ],
)
def test_parameter_counts(backbone, parameters, low, high):
    model = deeplab_v3_plus((64, 64, 3), 5, backbone=backbone)
    assert model.count_params() == parameters + head_parameters(low, high, 256, 5)


@pytest.mark.parametrize(("stride", "rates"), [(16, (6, 12, 18)), (8, (12, 24, 36))])
def test_atrous_rates_of_the_paper(stride, rates):
    model = deeplab_v3_plus((64, 64, 1), output_stride=stride, filters=8)
    for rate in rates:
        layer = model.get_layer(f"pyramid_rate_{rate}_depthwise")
        assert layer.dilation_rate == (rate, rate)
        assert layer.output.shape[1:3] == (64 // stride, 64 // stride)
    assert len(model.get_layer("pyramid_concat").input) == 5
    # Section 4.1: 48 low-level filters join at stride 4.
    shapes = [tuple(tensor.shape[1:]) for tensor in model.get_layer("decoder_concat").input]
    assert shapes == [(16, 16, 8), (16, 16, 48)]


def test_norms_follow_within_a_short_training():
    model = deeplab_v3_plus((32, 32, 1), filters=8)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in norms} == {0.9}


@pytest.mark.parametrize("shape", [(64, 64, 1), (32, 96, 3)])
def test_logits_have_the_size_of_the_image(shape):
    model = deeplab_v3_plus(shape, 4, filters=8)
    assert model.output_shape == (None, *shape[:2], 4)
    assert model.output_names == ["logits"]
    assert [tensor.name for tensor in model.inputs] == ["image"]


def test_learns_and_comes_back_from_disk(tmp_path, rng):
    keras.utils.set_random_seed(0)
    model = deeplab_v3_plus((32, 32, 1), filters=8, dropout=0.0)
    model.compile(keras.optimizers.Adam(1e-3), CrossEntropyDice())
    labels = np.broadcast_to(np.arange(32)[:, None] // 11, (4, 32, 32)).astype(np.uint8)
    images = (labels[..., None] + rng.normal(0, 0.1, (4, 32, 32, 1))).astype(np.float32)
    losses = [float(model.train_on_batch(images, labels)) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), model.predict(images, verbose=0)
    )


JAX_STEP = """
import keras, numpy as np, sys
from tfspec.segmentation.losses import CrossEntropyDice
from tfspec.segmentation.models import deeplab_v3_plus
assert keras.backend.backend() == "jax"
images = np.load(sys.argv[1] + "/images.npy")
model = deeplab_v3_plus((32, 32, 1), filters=8)
model.compile("adam", CrossEntropyDice())
model.train_on_batch(images, (images[..., 0] > 0).astype("uint8"))
model.save(sys.argv[1] + "/model.keras")
np.save(sys.argv[1] + "/logits.npy", model.predict(images, verbose=0))
"""


@pytest.mark.slow
def test_trains_on_jax_and_runs_on_tensorflow(tmp_path, rng):
    pytest.importorskip("jax", reason="the jax extra is not installed")
    images = rng.normal(size=(2, 32, 32, 1)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    subprocess.run(
        [sys.executable, "-c", JAX_STEP, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        check=True,
    )
    model = keras.saving.load_model(tmp_path / "model.keras")
    expected = np.load(tmp_path / "logits.npy")
    # Two float32 implementations over some 60 layers.
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected, atol=1e-4 * np.abs(expected).max()
    )


@pytest.mark.slow
def test_converts_with_dilations_inside_the_convolutions(rng):
    model = deeplab_v3_plus((64, 64, 1), filters=16)
    images = np.cumsum(rng.normal(size=(32, 64, 64, 1)), axis=1).astype(np.float32) / 8
    files = convert(model, ["float32", "full_int8"], calibration=images)
    for content in files.values():
        assert not {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"} & set(inspect_tflite(content).ops)
    expected = model.predict(images[:2], verbose=0)
    run = TfliteModel(embed_metadata(files["float32"], {"front_end": {}}))
    # Measured 3e-7 of the peak.
    np.testing.assert_allclose(run(images[:2]), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet18"}, "backbone='resnet18'"),
        ({"output_stride": 32}, "output_stride=32"),
        ({"input_shape": (72, 64, 3)}, r"multiples of output_stride = 16.*\(72, 64, 3\)"),
        ({"input_shape": (16, 64, 3)}, "at least 32"),
        ({"input_shape": (64, 64)}, "input_shape="),
        ({"n_classes": 1}, "n_classes=1"),
        ({"atrous_rates": ()}, "atrous_rates="),
        ({"atrous_rates": (0, 6)}, "atrous_rates="),
        ({"filters": 0}, "filters=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        deeplab_v3_plus(**arguments)
