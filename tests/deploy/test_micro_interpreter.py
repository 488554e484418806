"""TensorFlow Lite Micro's interpreter on the host, against LiteRT and against closed forms."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tfspec.deploy.micro as micro
from tests.deploy.handmade import int8_sigmoid, mask_network
from tests.deploy.reject_models import (
    int8_convolution,
    one_operator,
    reduction,
    two_inputs,
)
from tfspec.deploy.inspect import inspect_tflite
from tfspec.deploy.micro import (
    MICRO_INSTALL_HINT,
    TFLM_OPS,
    TFLM_OPS_INT16,
    micro_bound,
    micro_problems,
    reference_outputs,
    run_micro,
    steps_apart,
)
from tfspec.deploy.micro_worker import smallest
from tfspec.errors import ExportError, ModelError

needs_micro = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is not installed"
)


def all_steps() -> np.ndarray:
    """Every int8 value, two segments of 128."""
    return np.arange(-128, 128, dtype=np.int8).reshape(2, 128)


@needs_micro
def test_a_sigmoid_gives_its_closed_form_and_litert_numbers():
    content, steps = int8_sigmoid(128, float_ends=False), all_steps()
    run = run_micro(content, steps)
    exact = 256 / (1 + np.exp(-(steps - 3.0) / 16)) - 128
    # Both ends rounded: one step at most from the true value.
    assert np.abs(run.outputs - exact.clip(-128, 127)).max() <= 1
    assert run.outputs.dtype == np.int8 and run.outputs.shape == (2, 128)
    assert steps_apart(run.outputs, reference_outputs(content, steps)) == (0, 0.0, 0.0)


@needs_micro
def test_float_files_and_float_ends_run_too():
    rng = np.random.default_rng(0)
    content = mask_network(rng.standard_normal((3, 3)), -1.0, 8, 4)
    segments = rng.random((3, 8, 4, 1)).astype(np.float32)
    got = run_micro(content, segments, measure_arena=False).outputs
    np.testing.assert_allclose(got, reference_outputs(content, segments), atol=1e-6)
    content, values = int8_sigmoid(16, float_ends=True), rng.normal(0, 3, (2, 16))
    got = run_micro(content, values.astype(np.float32), measure_arena=False).outputs
    np.testing.assert_array_equal(got, reference_outputs(content, values.astype(np.float32)))


@needs_micro
@pytest.mark.parametrize("content", [int8_convolution(), reduction("MEAN")], ids=["conv", "mean"])
def test_the_arena_is_the_smallest_that_works(content):
    """MEAN is here because the interpreter crashes, not fails, when its arena is too small."""
    shape = inspect_tflite(content).inputs[0].shape
    inputs = np.random.default_rng(1).integers(-128, 128, (2, *shape[1:])).astype(np.int8)
    run = run_micro(content, inputs)
    ends = [inspect_tflite(content).inputs[0].shape, inspect_tflite(content).outputs[0].shape]
    # Input and output lie in it together, the interpreter's own structures beside them.
    tensors = sum(int(np.prod(end)) for end in ends)
    assert tensors < run.arena_bytes < tensors + 4096
    assert run.arena_bytes % 16 == 0
    np.testing.assert_array_equal(
        run.outputs, run_micro(content, inputs, measure_arena=False).outputs
    )
    assert runs_in(content, run.arena_bytes) and not runs_in(content, run.arena_bytes - 16)


def runs_in(content: bytes, arena: int) -> bool:
    """Tries an arena in a process of its own, independently of the worker."""
    import subprocess
    import sys

    code = (
        "import sys; from tflite_micro import runtime; data = sys.stdin.buffer.read();"
        f"i = runtime.Interpreter.from_bytes(data, arena_size={arena}); i.invoke()"
    )
    return (
        subprocess.run([sys.executable, "-c", code], input=content, capture_output=True).returncode
        == 0
    )


@pytest.mark.parametrize("answer", [16, 1024, 435568, 2**24])
@pytest.mark.parametrize("error", [-(10**6), -5000, -16, 0, 7, 16, 9999, 10**6])
def test_the_search_finds_the_size_whatever_the_hint(answer, error):
    tried: list[int] = []

    def works(size: int) -> bool:
        tried.append(size)
        return size >= answer

    assert smallest(works, answer + error) == answer
    assert all(size > 0 and size % 16 == 0 for size in tried)
    # Few where the hint is right, some logarithm of how far it is off otherwise.
    assert len(tried) <= 5 + 1.6 * np.log2(1 + abs(error) / 16)


@needs_micro
def test_wrong_inputs_are_one_line():
    content = int8_sigmoid(16, float_ends=False)
    with pytest.raises(ExportError, match=r"int8 of shape \(n, 16\)\. Received: float32 of shape"):
        run_micro(content, np.zeros((2, 16), np.float32))
    with pytest.raises(ExportError, match=r"Received: int8 of shape \(2, 8\)"):
        run_micro(content, np.zeros((2, 8), np.int8))
    with pytest.raises(ExportError, match=r"at least one input. Received: shape \(0, 16\)"):
        run_micro(content, np.zeros((0, 16), np.int8))
    with pytest.raises(ModelError, match=r"is not a \.tflite file"):
        run_micro(b"RIFF0000WAVEfmt ", np.zeros((1, 16), np.int8))


@needs_micro
def test_kernels_that_refuse_are_named():
    """SQRT has a kernel, but none for int8."""
    content = one_operator("SQRT", (1, 8), (1, 8))
    with pytest.raises(ExportError, match=r"kernel of SQRT .*; compute the square root") as caught:
        run_micro(content, np.zeros((1, 8), np.int8))
    assert "\n" not in str(caught.value)


@needs_micro
def test_the_time_limit_ends_the_process():
    start = time.monotonic()
    with pytest.raises(ExportError, match=r"did not finish starting within 0.01 s and was stopped"):
        run_micro(int8_sigmoid(16, float_ends=False), np.zeros((1, 16), np.int8), time_limit=0.01)
    assert time.monotonic() - start < 20


@needs_micro
def test_a_damaged_file_ends_its_own_process_only():
    """Offsets that lead out of the file: refused or a crash, by chance, but an ExportError."""
    data = bytearray(int8_convolution())
    data[64:400] = bytes([0xEE]) * 336
    with pytest.raises(ExportError, match=r"TensorFlow Lite Micro (refuses it|crashed|stopped)"):
        run_micro(bytes(data), np.zeros((1, 6, 6, 16), np.int8))


def test_absent_interpreter_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(micro.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError) as caught:
        run_micro(int8_sigmoid(16, float_ends=False), all_steps()[:, :16])
    assert str(caught.value) == MICRO_INSTALL_HINT
    assert 'pip install "tfspec[micro]"' in MICRO_INSTALL_HINT


def test_steps_apart_counts_steps():
    a = np.array([[-128, 0, 127, 5]], np.int8)
    b = np.array([[127, 0, 127, 6]], np.int8)
    assert steps_apart(a, b) == (255, 64.0, 0.5)  # no overflow at the far ends
    for other in (b[:, :3], b.astype(np.float32)):
        with pytest.raises(ValueError, match="integer arrays of one shape"):
            steps_apart(a, other)


def test_the_bound_follows_the_operators():
    convolution, matrix = (
        inspect_tflite(int8_convolution()),
        inspect_tflite(one_operator("BATCH_MATMUL", (1, 8), (1, 8))),
    )
    assert micro_bound(convolution, "full_int8") == 0
    assert micro_bound(matrix, "full_int8") == 2
    assert micro_bound(convolution, "int16x8") == 5
    # No reference kernel: compared with optimised ones, which differ from reference ones.
    assert micro_bound(inspect_tflite(reduction("SUM")), "full_int8") == 6


# --- Every operator that is allowed, in Keras models of which the outputs are compared. ---


def convolutions(x: Any) -> Any:
    from keras import layers

    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))  # fused
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    pooled = layers.Concatenate()([layers.MaxPooling2D()(x), layers.AveragePooling2D(2)(x)])
    x = layers.Conv2DTranspose(8, 2, strides=2)(pooled) + x
    x = x * layers.Conv2D(8, 1, activation="sigmoid")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(5, activation="softmax", kernel_initializer="random_normal")(x * 40)


def shapes(x: Any) -> Any:
    from keras import layers, ops

    x = layers.Conv2D(4, 3, padding="same")(x)
    parts = ops.split(ops.flip(layers.ZeroPadding2D(1)(x), axis=1), 2, axis=3)
    uneven = ops.split(x, [1], axis=3)
    x = ops.concatenate([part[:, 1:-1, 1:-1] for part in parts] + list(uneven), axis=-1)
    x = ops.transpose(ops.slice(x, (0, 2, 0, 0), (1, 8, 16, 4)), (0, 2, 1, 3))
    rows = ops.reshape(x, (1, 16, 4, 8))
    x = ops.stack([rows[:, :, 2], rows[:, :, 0]], axis=1)[:, :, ::2]
    return layers.Conv2D(2, 1)(ops.image.resize(x, (4, 16), "nearest"))


def pointwise(x: Any) -> Any:
    from keras import layers, ops

    y = layers.Conv2D(2, 3, padding="same")(x)
    joined = layers.ReLU()(layers.Concatenate()([x, y]))
    z = layers.Conv2D(2, 1)(joined)
    pieces = [layers.LeakyReLU(0.2)(z), ops.tanh(z), ops.maximum(y, z), ops.minimum(y, z)]
    return layers.Conv2D(2, 1)(ops.concatenate([*pieces, ops.subtract(y, z), y * z]))


def attention(x: Any) -> Any:
    from keras import layers, ops

    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = ops.reshape(x, (1, 64, 8))
    scores = ops.matmul(x, ops.transpose(layers.Dense(8)(x), (0, 2, 1)))
    return ops.matmul(ops.softmax(scores * 0.3), x)


def int8_only(x: Any) -> Any:
    from keras import layers, ops

    small = layers.Conv2D(4, 3, padding="same")(x)
    large = ops.image.resize(ops.max(ops.reshape(small, (1, 8, 2, 16, 4)), axis=2), (16, 16))
    edge = ops.pad(large, ((0, 0), (1, 0), (1, 0), (0, 0)), mode="reflect")[:, 1:, 1:]
    rows = ops.take(edge, [0, 3, 3, 1, 2, 7, 9, 11, 5, 4, 6, 8, 10, 12, 13, 15], axis=1)
    y = layers.PReLU(shared_axes=[1, 2], alpha_initializer="glorot_uniform")(rows)
    y = layers.Activation("hard_swish")(layers.Conv2D(4, 1)(y))
    y = y / (1.5 + ops.sigmoid(small))
    centred = y - ops.mean(y, axis=(1, 2), keepdims=True)
    power = ops.mean(centred * centred, axis=(1, 2), keepdims=True)
    return centred * ops.rsqrt(power + 1e-2)


def rearranged(x: Any) -> Any:
    from keras import layers, ops

    x = layers.Conv2D(2, 3, padding="same")(x)
    return layers.Conv2D(4, 1)(ops.nn.depth_to_space(ops.nn.space_to_depth(x, 2), 2))


Build = Callable[[Any], Any]
BOTH: tuple[Build, ...] = (convolutions, shapes, pointwise, attention)
INT8_ONLY: tuple[Build, ...] = (int8_only, rearranged)


def moving(name: str, wide: bool = False) -> bytes:
    """An operator that moves integers only, and that the converter hardly ever writes."""
    kinds = schema.BuiltinOptions
    if name == "EXPAND_DIMS":
        options = (kinds.ExpandDimsOptions, schema.ExpandDimsOptionsT())
        shapes, constant = ((1, 8), (1, 1, 8)), [1]
        return one_operator(name, *shapes, constant=constant, options=options, wide=wide)
    if name == "SQUEEZE":
        squeeze = schema.SqueezeOptionsT()
        squeeze.squeezeDims = [1]
        options = (kinds.SqueezeOptions, squeeze)
    else:
        unpack = schema.UnpackOptionsT()
        unpack.num, unpack.axis = 1, 1
        options = (kinds.UnpackOptions, unpack)
    return one_operator(name, (1, 1, 8), (1, 8), options=options, wide=wide)


MOVING = ("EXPAND_DIMS", "SQUEEZE", "UNPACK")


@needs_micro
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", MOVING)
def test_operators_that_move_data_keep_it(name, wide):
    content = moving(name, wide)
    (start,), (end,) = inspect_tflite(content).inputs, inspect_tflite(content).outputs
    values = np.array([-128, -127, -1, 0, 1, 2, 126, 127], start.dtype).reshape(start.shape)
    got = run_micro(content, values, measure_arena=False).outputs
    np.testing.assert_array_equal(got, values.reshape(end.shape))
    assert micro_problems(inspect_tflite(content), "int16x8" if wide else "full_int8") == []


RARE = ("ABS", "PADV2", "SQUARED_DIFFERENCE")


@needs_micro
@pytest.mark.parametrize(
    ("name", "wide"), [*((name, False) for name in RARE), ("ABS", True), ("PADV2", True)]
)
def test_rare_operators_give_what_litert_gives(name, wide):
    rng = np.random.default_rng(6)
    shape = (1, 4, 4, 2)
    if name == "ABS":
        scales = ((1 / 16, 0), (1 / 32, -128))
        content = one_operator(name, shape, shape, scales=scales, version=2, wide=wide)
    elif name == "PADV2":
        content = two_inputs(name, shape, np.array([-7]), (1, 6, 6, 2), wide)
    else:
        content = two_inputs(name, shape, rng.integers(-127, 128, shape), shape, wide)
    inputs = rng.integers(-128, 128, (8, 4, 4, 2)).astype(np.int16 if wide else np.int8)
    reference = reference_outputs(content, inputs)
    assert len(np.unique(reference)) > 50
    got = run_micro(content, inputs, measure_arena=False).outputs
    np.testing.assert_array_equal(got, reference)


@pytest.fixture(scope="module")
def operator_files() -> dict[tuple[str, str], bytes]:
    """The models above by name and precision, and what the converter never writes itself."""
    import keras

    from tfspec.deploy.convert import convert

    keras.utils.set_random_seed(2)
    segments = np.random.default_rng(3).normal(0, 2, (16, 16, 16, 2)).astype(np.float32)
    files = {}
    for build in (*BOTH, *INT8_ONLY):
        inputs = keras.Input((16, 16, 2), batch_size=1, name="spectrogram")
        model = keras.Model(inputs, build(inputs), name=build.__name__)
        precisions = ("full_int8", "int16x8") if build in BOTH else ("full_int8",)
        if build is convolutions:
            precisions = ("int8", *precisions)
        for precision, content in convert(model, precisions, calibration=segments).items():
            files[build.__name__, precision] = content
    return files


@needs_micro
@pytest.mark.slow
def test_allowed_operators_give_what_litert_gives(operator_files):
    """Within the bound, in every model; and together these models hold every allowed operator."""
    rng = np.random.default_rng(4)
    seen: dict[str, set[str]] = {"int8": set(), "full_int8": set(), "int16x8": set()}
    for (name, precision), content in operator_files.items():
        report = inspect_tflite(content)
        assert micro_problems(report, precision) == [], (name, precision)
        seen[precision] |= report.ops.keys()
        (feed,) = report.inputs
        if precision == "int8":
            inputs = rng.normal(0, 2, (2, 16, 16, 2)).astype(np.float32)
        else:
            assert feed.scale is not None and feed.zero_point is not None
            steps = rng.normal(0, 2, (2, 16, 16, 2)) / feed.scale + feed.zero_point
            limits = np.iinfo(feed.dtype)
            inputs = steps.clip(limits.min, limits.max).astype(feed.dtype)
        run = run_micro(content, inputs, measure_arena=False)
        reference = reference_outputs(content, inputs)
        if precision == "int8":
            steps = (run.outputs - reference) * 256  # of the softmax
            assert np.abs(steps).max() <= micro_bound(report, precision), name
            continue
        assert np.ptp(reference.astype(np.int64)) > 50, name  # not a constant
        most, _, _ = steps_apart(run.outputs, reference)
        assert most <= micro_bound(report, precision), (name, precision, most)
    assert seen["full_int8"] | seen["int8"] | {*MOVING, *RARE} == TFLM_OPS
    assert seen["int16x8"] | {*MOVING, "ABS", "PADV2", "DEQUANTIZE"} == TFLM_OPS_INT16


@needs_micro
@pytest.mark.slow
def test_the_vocal_unet_is_bit_equal_and_its_arena_is_found_soon():
    from tfspec.deploy.convert import convert, cut_model
    from tfspec.separation.models.vocal_unet import PRESETS, vocal_unet

    kwargs: dict[str, Any] = {**PRESETS["tiny"], "input_shape": (128, 64, 1)}
    core = cut_model(vocal_unet(**kwargs), first="compress", last="mask")
    segments = np.random.default_rng(0).random((16, 128, 64, 1)) ** 2
    content = convert(core, ["full_int8"], calibration=segments)["full_int8"]
    inputs = np.random.default_rng(1).integers(-128, 128, (2, 128, 64, 1)).astype(np.int8)
    run = run_micro(content, inputs)
    assert steps_apart(run.outputs, reference_outputs(content, inputs)) == (0, 0.0, 0.0)
    # Measured 435,568: the decoder's last concatenation (16 x 128 x 64), what it joins and 4 %.
    assert 3 * 8 * 128 * 64 <= run.arena_bytes <= 440_000
