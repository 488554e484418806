"""LightSegNet against the paper's layer table and a transcription of its formulas in NumPy."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tfspec.deploy.complexity import count_macs, peak_activation
from tfspec.deploy.convert import convert
from tfspec.deploy.inspect import inspect_tflite
from tfspec.deploy.metadata import embed_metadata
from tfspec.deploy.micro import micro_problems, reference_outputs, run_micro
from tfspec.deploy.runner import TfliteModel
from tfspec.deploy.targets import load_target
from tfspec.deploy.vela import compile_vela
from tfspec.errors import ConfigError, ModelError
from tfspec.segmentation.losses import CrossEntropyDice
from tfspec.segmentation.metrics import ConfusionMatrix
from tfspec.segmentation.models import PRESETS, convert_weights, device_form, lightsegnet
from tfspec.training.coupled_l2 import CoupledL2Adam

SMALL = {"input_shape": (64, 64, 3), "widths": (8, 16, 32)}
TINY = {"input_shape": (8, 12, 3), "widths": (2, 3, 8)}
KIB = 1024


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def with_random_weights(rng: np.random.Generator, **arguments) -> keras.Model:
    """A model whose every weight, statistics included, is random; variances are positive."""
    model = lightsegnet(**arguments)
    for weight in model.weights:
        if "moving_variance" in weight.path:
            weight.assign(rng.uniform(0.5, 2.0, weight.shape))
        else:
            weight.assign(rng.normal(0.0, 0.4, weight.shape))
    return model


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for the rounding of float32 over some ten layers of sums in another order."""
    return bool(np.abs(a - b).max() <= 1e-5 * np.abs(b).max())


def test_layer_table_of_the_paper():
    model = lightsegnet()
    counts = {layer.name: layer.count_params() for layer in model.layers if layer.weights}
    norms = {name: counts.pop(name) for name in [*counts] if "_bn_" in name}
    assert list(counts.values()) == [
        *(728, 6_110),
        *(12_220, 24_388),
        *(45_024, 2_328, 2_400, 83_040),
        *(69_316, 24_388),
        *(18_278, 6_110),
        81,
    ]
    # Gamma, beta and two statistics per channel.
    assert list(norms.values()) == [4 * n for n in (26, 26, 52, 52, 96, 96, 52, 52, 26, 26)]


@pytest.mark.parametrize(
    ("arguments", "trained", "total"),
    [
        # Published architecture; the 295,419.
        ({}, 295_419, 296_427),
        # The specification's count for (8, 16, 32) on three channels.
        ({"widths": (8, 16, 32)}, 30_651, 30_651 + 2 * 160),
        (PRESETS["micro-64"], 30_507, 30_507 + 2 * 160),
        (PRESETS["micro-128"], 28_179, 28_179 + 2 * 144),
        (PRESETS["nano-64"], 28_179, 28_179 + 2 * 144),
    ],
)
def test_parameter_counts(arguments, trained, total):
    for concatenation in (True, False):
        model = lightsegnet(**{**arguments, "concatenation": concatenation})
        assert (trainable(model), model.count_params()) == (trained, total)


@pytest.mark.parametrize(
    ("arguments", "mmacs", "peak"),
    [
        # Specification, 4.2 and 4.5. Peak: up + skip + concat, 52 + 26 + 78 at full resolution.
        ({}, 4_700, 10_223_616),
        # Without concatenation 52 + 26 + 26: a third less.
        ({"concatenation": False}, 4_700, 256 * 256 * 104),
        ({"input_shape": (64, 64, 3)}, 294, 64 * 64 * 156),
        (SMALL, 29.3, 192 * KIB),
        ({**SMALL, "output_stride": 2}, 19.8, 96 * KIB),
        ({**SMALL, "output_stride": 4}, 10.4, 64 * KIB),
        ({**SMALL, "input_shape": (128, 128, 3)}, 117, 768 * KIB),
        ({**SMALL, "input_shape": (128, 128, 3), "output_stride": 2}, 79.2, 384 * KIB),
        ({**SMALL, "input_shape": (128, 128, 3), "output_stride": 4}, 41.4, 256 * KIB),
        # The table in the docstring.
        (PRESETS["paper"], 4_700, 9_984 * KIB),
        (PRESETS["micro-128"], 77, 256 * KIB),
        (PRESETS["micro-64"], 29, 128 * KIB),
        (PRESETS["nano-64"], 19, 64 * KIB),
    ],
)
def test_operations_and_memory(arguments, mmacs, peak):
    model = lightsegnet(**arguments)
    # The specification rounds to three digits.
    assert count_macs(model) / 1e6 == pytest.approx(mmacs, rel=0.02)
    assert peak_activation(model) == peak


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (256, 256), (64, 128), (4, 8)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_output_shape(size, stride):
    model = lightsegnet((*size, 1), 4, widths=(2, 2, 4), output_stride=stride)
    assert model.output_shape == (None, size[0] // stride, size[1] // stride, 4)
    assert model.output_names == ["logits"]
    assert [tensor.name for tensor in model.inputs] == ["image"]


def test_layer_sequence_is_the_original():
    names = [layer.name for layer in lightsegnet().layers]
    encoder = ["conv_1", "bn_1", "relu_1", "conv_2", "bn_2", "relu_2", "dropout", "pool"]
    decoder = ["up", "concat", "conv_1", "bn_1", "relu_1", "conv_2", "bn_2", "relu_2"]
    squeeze = ["mean", "1", "relu", "2", "sigmoid", "scale"]
    assert names == [
        "image",
        *(f"encoder_1_{part}" for part in encoder),
        *(f"encoder_2_{part}" for part in encoder),
        *(f"bottleneck_{part}" for part in encoder[:3]),
        *(f"squeeze_{part}" for part in squeeze),
        *(f"bottleneck_{part}" for part in encoder[3:7]),
        *(f"decoder_1_{part}" for part in decoder),
        *(f"decoder_2_{part}" for part in decoder),
        "logits",
    ]


def test_batch_normalisation_and_dropout_are_pytorchs():
    layers = lightsegnet(dropout=(0.1, 0.2, 0.3)).layers
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(n.epsilon, n.momentum) for n in norms} == {(1e-5, 0.9)}
    drops = [layer for layer in layers if isinstance(layer, keras.layers.SpatialDropout2D)]
    assert [layer.rate for layer in drops] == [0.1, 0.2, 0.3]


def test_initial_weights_are_kaiming_normal_without_truncation():
    keras.utils.set_random_seed(3)
    model = lightsegnet()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            np.testing.assert_array_equal(bias, 0.0)
            wanted = np.sqrt(2 / np.prod(kernel.shape[:3]))
            # The deviation of n normal numbers scatters by 1 / sqrt(2 n); five of these.
            assert kernel.std() == pytest.approx(wanted, rel=5 / np.sqrt(2 * kernel.size))
    # Keras' HeNormal ends at 2.3 deviations; of 82,944 normal numbers the largest lies beyond 3.5
    # with a probability of 1 - 1e-17.
    kernel = model.get_layer("bottleneck_conv_2").get_weights()[0]
    assert np.abs(kernel).max() > 3.5 * np.sqrt(2 / (9 * 96))


def test_halves_of_a_split_convolution_start_like_the_whole():
    keras.utils.set_random_seed(3)
    model = lightsegnet(concatenation=False)
    for half in ("up", "skip"):
        kernel = model.get_layer(f"decoder_1_conv_1_{half}").get_weights()[0]
        wanted = np.sqrt(2 / (9 * (96 + 52)))
        assert kernel.std() == pytest.approx(wanted, rel=5 / np.sqrt(2 * kernel.size))


# --- The network in NumPy, written from the specification (4.2), not from the Keras code. ---


def conv(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Zero-padded cross-correlation, stride 1, `(height, width, channels)`."""
    size = kernel.shape[0]
    padded = np.pad(x, [(size // 2, size // 2)] * 2 + [(0, 0)])
    out = np.zeros((*x.shape[:2], kernel.shape[3]))
    for i, j in itertools.product(range(size), repeat=2):
        out += padded[i : i + x.shape[0], j : j + x.shape[1]] @ kernel[i, j]
    return out + bias


def upsampled(x: np.ndarray) -> np.ndarray:
    """Twice the size, bilinear between pixel centres (`align_corners=False`), edges repeated."""
    for axis in (0, 1):
        x = np.moveaxis(x, axis, 0)
        before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
        pairs = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=1)
        x = np.moveaxis(pairs.reshape(-1, *x.shape[1:]), 0, axis)
    return x


class Transcription:
    """Runs the layers of the table with the weights of a Keras model."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def weights(self, name: str) -> list[np.ndarray]:
        return [w.astype(np.float64) for w in self.model.get_layer(name).get_weights()]

    def cbr(self, x: np.ndarray, block: str, index: int) -> np.ndarray:
        x = conv(x, *self.weights(f"{block}_conv_{index}"))
        gamma, beta, mean, variance = self.weights(f"{block}_bn_{index}")
        return np.maximum(gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta, 0.0)

    def squeeze(self, x: np.ndarray) -> np.ndarray:
        (k1, b1), (k2, b2) = self.weights("squeeze_1"), self.weights("squeeze_2")
        hidden = np.maximum(x.mean(axis=(0, 1)) @ k1[0, 0] + b1, 0.0)
        return x / (1 + np.exp(-(hidden @ k2[0, 0] + b2)))

    def logits(self, x: np.ndarray, stride: int, squeeze: bool) -> np.ndarray:
        skips = []
        for block in ("encoder_1", "encoder_2"):
            x = self.cbr(self.cbr(x, block, 1), block, 2)
            skips.append(x)
            x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3))
        x = self.cbr(x, "bottleneck", 1)
        x = self.cbr(self.squeeze(x) if squeeze else x, "bottleneck", 2)
        for decoder in range(1, {1: 3, 2: 2, 4: 1}[stride]):
            x = np.concatenate([upsampled(x), skips[-decoder]], axis=-1)
            x = self.cbr(self.cbr(x, f"decoder_{decoder}", 1), f"decoder_{decoder}", 2)
        return conv(x, *self.weights("logits"))


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("squeeze", [True, False])
def test_every_number_is_that_of_the_transcription(rng, stride, squeeze):
    model = with_random_weights(rng, **TINY, output_stride=stride, squeeze=squeeze)
    images = rng.normal(size=(2, 8, 12, 3)).astype(np.float32)
    expected = [Transcription(model).logits(image, stride, squeeze) for image in images]
    assert close(model.predict(images, verbose=0), np.stack(expected))


def test_squeeze_with_zero_weights_halves():
    model = lightsegnet((8, 8, 1), widths=(2, 2, 8))
    for name in ("squeeze_1", "squeeze_2"):
        layer = model.get_layer(name)
        layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    ends = [model.get_layer(name).output for name in ("bottleneck_relu_1", "squeeze_scale")]
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    before, after = keras.Model(model.inputs, ends).predict(image, verbose=0)
    assert before.max() > 0
    np.testing.assert_array_equal(after, 0.5 * before)


# --- Forms ---


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_without_concatenation_is_the_same_function(rng, stride):
    joined = with_random_weights(rng, **TINY, output_stride=stride)
    split = lightsegnet(**TINY, output_stride=stride, concatenation=False)
    convert_weights(joined, split)
    images = rng.normal(size=(2, 8, 12, 3)).astype(np.float32)
    assert close(split.predict(images, verbose=0), joined.predict(images, verbose=0))
    again = lightsegnet(**TINY, output_stride=stride)
    convert_weights(split, again)
    for weight, expected in zip(again.get_weights(), joined.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_both_forms_learn_alike(rng):
    joined = with_random_weights(rng, **TINY, dropout=(0, 0, 0))
    split = lightsegnet(**TINY, dropout=(0, 0, 0), concatenation=False)
    convert_weights(joined, split)
    images = rng.normal(size=(4, 8, 12, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (4, 8, 12))
    for model in (joined, split):
        model.compile(keras.optimizers.SGD(0.1), CrossEntropyDice())
        model.train_on_batch(images, labels)
    result = lightsegnet(**TINY)
    convert_weights(split, result)
    for weight, expected in zip(result.get_weights(), joined.get_weights(), strict=True):
        # Two orders of adding up some hundred products in float32.
        np.testing.assert_allclose(weight, expected, atol=1e-5)


def test_weights_fit_another_resolution(rng):
    model = with_random_weights(rng, **TINY)
    larger = lightsegnet(**{**TINY, "input_shape": (16, 16, 3)})
    convert_weights(model, larger)
    for weight, expected in zip(larger.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"squeeze": False}, "squeeze_1, squeeze_2"),
        ({"n_classes": 4}, "logits"),
        ({"output_stride": 2}, "decoder_2"),
        ({"input_shape": (8, 12, 1)}, "encoder_1_conv_1"),
    ],
)
def test_weights_of_another_network_are_refused(changes, named):
    model = lightsegnet(**{**TINY, **changes}, concatenation=False)
    before = model.get_weights()
    with pytest.raises(ModelError, match=named):
        convert_weights(lightsegnet(**TINY), model)
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("concatenation", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"squeeze": False, "n_classes": 4}, {"output_stride": 2}, {"output_stride": 4}]
)
def test_device_form_is_the_same_function(rng, concatenation, changes):
    model = with_random_weights(rng, **TINY, **changes, concatenation=concatenation)
    device = device_form(model)
    images = rng.normal(size=(2, 8, 12, 3)).astype(np.float32)
    assert close(device.predict(images, verbose=0), model.predict(images, verbose=0))
    names = {layer.name for layer in device.layers}
    assert not names & {"decoder_1_bn_1", "decoder_2_bn_1", "decoder_1_concat", "decoder_2_concat"}
    assert (device.name, device.output_names) == (model.name, ["logits"])


def test_device_form_of_another_model():
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs), name="other")
    with pytest.raises(ModelError, match="other: must be a LightSegNet"):
        device_form(model)


# --- Life of a model ---


def stripes(rng: np.random.Generator, count: int, shape: tuple[int, int, int]) -> tuple:
    """Images whose classes are levels of horizontal stripes, in weak noise, and their labels."""
    rows = np.sort(rng.integers(0, shape[0], (count, 2)), axis=1)
    labels = (np.arange(shape[0]) >= rows[..., None]).sum(axis=1)[:, :, None]
    labels = np.broadcast_to(labels, (count, *shape[:2]))
    noise = rng.normal(0.0, 0.05, (count, *shape))
    return (labels[..., None] / 2 + noise).astype(np.float32), labels.astype(np.uint8)


def test_learns_and_comes_back_from_disk(tmp_path, rng):
    keras.utils.set_random_seed(0)
    model = lightsegnet((16, 16, 1), widths=(4, 8, 8), output_stride=2)
    model.compile(CoupledL2Adam(1e-2), CrossEntropyDice(), metrics=[ConfusionMatrix(3)])
    images, labels = stripes(rng, 16, (16, 16, 1))
    first = model.evaluate(images, labels, return_dict=True, verbose=0)
    model.fit(images, labels, batch_size=8, epochs=15, verbose=0)
    last = model.evaluate(images, labels, return_dict=True, verbose=0)
    assert last["loss"] < 0.5 * first["loss"]
    assert last["mean_iou"] > 0.8
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    assert again.evaluate(images, labels, return_dict=True, verbose=0) == last
    assert isinstance(again.optimizer, CoupledL2Adam)


JAX_STEP = """
import json, keras, numpy as np, sys
from tfspec.segmentation.losses import CrossEntropyDice
from tfspec.training.coupled_l2 import CoupledL2Adam
from tfspec.segmentation.metrics import ConfusionMatrix
from tfspec.segmentation.models import lightsegnet
assert keras.backend.backend() == "jax"
folder = sys.argv[1]
arguments = json.loads(sys.argv[2])
model = lightsegnet((16, 16, 1), widths=(4, 8, 8), **arguments)
images, labels = np.load(folder + "/images.npy"), np.load(folder + "/labels.npy")
loss = CrossEntropyDice(class_weights=(1.0, 2.0, 3.0))
model.compile(CoupledL2Adam(1e-2), loss, metrics=[ConfusionMatrix(3)])
model.fit(images, labels, batch_size=4, epochs=1, verbose=0)
model.save(folder + "/model.keras")
np.save(folder + "/logits.npy", model.predict(images, verbose=0))
scores = model.evaluate(images, labels, batch_size=8, return_dict=True, verbose=0)
json.dump(scores, open(folder + "/scores.json", "w"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", ['{"output_stride": 2}', '{"concatenation": false}', '{"squeeze": false}']
)
def test_trains_on_jax_and_runs_on_tensorflow(tmp_path, rng, arguments):
    import json

    pytest.importorskip("jax", reason="the jax extra is not installed")
    images, labels = stripes(rng, 8, (16, 16, 1))
    labels[0, :2] = 255
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    subprocess.run(
        [sys.executable, "-c", JAX_STEP, str(tmp_path), arguments],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        check=True,
    )
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert close(model.predict(images, verbose=0), np.load(tmp_path / "logits.npy"))
    scores = model.evaluate(images, labels, batch_size=8, return_dict=True, verbose=0)
    expected = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == set(expected)
    # Loss: rounding. Scores: of 2016 pixels, one or two may lie on the border of two classes.
    assert scores["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for name in ("mean_iou", "pixel_acc", "mean_class_acc", "iou_0", "iou_1", "iou_2"):
        assert scores[name] == pytest.approx(expected[name], abs=2e-3)


# --- Devices ---


@pytest.fixture(scope="module", params=["micro-128", "micro-64", "nano-64"])
def exported(request) -> tuple[str, keras.Model, np.ndarray, dict[str, bytes]]:
    """A preset with statistics of real passes, in float32 and int8."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(5)
    model = lightsegnet(**PRESETS[request.param])
    images, labels = stripes(rng, 32, model.input_shape[1:])
    model.compile(keras.optimizers.Adam(1e-2), CrossEntropyDice())
    model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    files = convert(device_form(model), ["float32", "full_int8"], calibration=images)
    return request.param, model, images, files


@pytest.mark.slow
def test_float_file_gives_the_models_numbers(exported):
    # Also that the converter's upsampling has Keras' pixel centres.
    _, model, images, files = exported
    expected = model.predict(images[:4], verbose=0)
    file = embed_metadata(files["float32"], {"front_end": {}})
    assert close(TfliteModel(file)(images[:4]), expected)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is not installed"
)
def test_int8_runs_in_tflite_micro_within_the_target(exported):
    name, model, images, files = exported
    report = inspect_tflite(files["full_int8"])
    target = load_target("cortex-m4" if name == "nano-64" else "cortex-m7")
    operators = target.operators_for("full_int8")
    assert micro_problems(report, "full_int8", operators) == []
    # Nothing between the convolutions of the decoder but their sum: the norm is folded.
    assert "CONCATENATION" not in report.ops
    assert report.ops["MUL"] == 1  # squeeze-and-excitation
    inputs = np.round(images[:2] / report.inputs[0].scale + report.inputs[0].zero_point)
    inputs = np.clip(inputs, -128, 127).astype(np.int8)
    run = run_micro(files["full_int8"], inputs)
    np.testing.assert_array_equal(run.outputs, reference_outputs(files["full_int8"], inputs))
    assert run.arena_bytes < 1.15 * peak_activation(model)
    assert run.arena_bytes <= target.ram_bytes - target.reserved_ram_bytes


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None, reason="ethos-u-vela is not installed"
)
def test_int8_goes_to_the_npu_whole(exported):
    *_, files = exported
    report = compile_vela(files["full_int8"], load_target("cortex-m55-ethos-u55-128").npu)
    assert report.cpu_operators == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (62, 64, 1)}, r"multiples of 4.*input_shape=\(62, 64, 1\)"),
        ({"input_shape": (64, 0, 1)}, "input_shape="),
        ({"input_shape": (64, 64)}, "input_shape="),
        ({"n_classes": 1}, "n_classes=1"),
        ({"widths": (8, 16)}, r"widths=\(8, 16\)"),
        ({"widths": (0, 16, 32)}, "widths="),
        ({"widths": (8, 16, 30)}, "multiple of 4"),
        ({"dropout": (0.2, 0.2)}, "dropout="),
        ({"dropout": (0.2, 0.2, 1.0)}, "dropout="),
        ({"output_stride": 8}, "output_stride=8"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        lightsegnet(**arguments)
