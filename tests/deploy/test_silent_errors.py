"""Errors that neither the converter nor an interpreter reports: each must be refused here.

Every model of `reject_models` runs without complaint somewhere and is wrong; the tests show that
the gate names it, and that the numeric comparison finds it where there is one.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tests.deploy.handmade import mask_network
from tests.deploy.reject_models import (
    edited,
    float_island,
    int8_convolution,
    reduction,
    rescaling,
    tile,
    unset_variable,
    with_external_buffers,
    without_weights,
)
from tfspec.deploy.inspect import gate_problems, inspect_tflite
from tfspec.deploy.micro import (
    TFLM_ADVICE,
    TFLM_OPS,
    TFLM_OPS_INT16,
    micro_bound,
    micro_problems,
    reference_outputs,
    run_micro,
    steps_apart,
)
from tfspec.deploy.targets import load_target
from tfspec.errors import ExportError, ModelError

needs_micro = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is not installed"
)


def noise(shape: tuple[int, ...], dtype: str = "int8", limit: int = 128) -> np.ndarray:
    return np.random.default_rng(7).integers(-limit, limit, (3, *shape)).astype(dtype)


def problems(content: bytes, precision: str = "full_int8") -> list[str]:
    return micro_problems(inspect_tflite(content), precision)


def test_the_sound_model_passes():
    """Otherwise the refusals below would prove nothing; it has a fused ReLU6, which is right."""
    assert problems(int8_convolution()) == []
    assert problems(reduction("MEAN")) == problems(rescaling("RELU")) == []


def test_unfused_relu6_is_refused_by_name():
    (problem,) = problems(rescaling("RELU6"))
    assert "layer mask needs the operator RELU6" in problem
    assert "right behind a convolution" in problem
    # In float there is no scale to lose, and LiteRT computes it correctly.
    assert problems(rescaling("RELU6", scales=False), "float32") == []
    assert gate_problems(inspect_tflite(rescaling("RELU6")), "full_int8") == []


@needs_micro
def test_unfused_relu6_is_found_by_comparison_too():
    """Were the operator allowed, the outputs would still refuse the file; ReLU is the control."""
    inputs = noise((64,))
    for name, wrong in (("RELU6", True), ("RELU", False)):
        content = rescaling(name)
        reference = reference_outputs(content, inputs)
        exact = np.clip(inputs / 16.0, 0, 6 if name == "RELU6" else None) / (6 / 255) - 128
        # One step for rounding: the reference is right.
        assert np.abs(reference - np.clip(exact, -128, 127)).max() <= 1
        run = run_micro(content, inputs, measure_arena=False)
        most, mean, fraction = steps_apart(run.outputs, reference)
        bound = micro_bound(inspect_tflite(content), "full_int8")
        assert (most > bound) == wrong
        if wrong:
            assert most > 100 and mean > 20 and fraction > 0.5  # nothing like rounding


def test_tile_is_refused_with_what_to_use():
    (problem,) = problems(tile())
    assert "needs the operator TILE" in problem
    assert 'keras.ops.image.resize(..., "nearest")' in problem
    # The comparison on the host takes kernels that have it.
    inputs = noise((4, 4, 2))
    np.testing.assert_array_equal(reference_outputs(tile(), inputs), np.tile(inputs, (1, 2, 2, 1)))


@needs_micro
def test_tile_has_no_kernel():
    with pytest.raises(ExportError, match=r"refuses it: it has no kernel for TILE; replace Up"):
        run_micro(tile(), noise((4, 4, 2)))


@pytest.mark.parametrize("wide", [False, True])
def test_sums_are_refused(wide):
    (problem,) = problems(reduction("SUM", wide=wide), "int16x8" if wide else "full_int8")
    assert "needs the operator SUM" in problem and "use the mean" in problem


@pytest.mark.parametrize(("wide", "limit"), [(False, 128), (True, 2000)])
def test_the_reference_kernel_of_sum_is_wrong_and_avoided(wide, limit):
    from ai_edge_litert.interpreter import OpResolverType

    from tfspec.deploy.micro import _run_litert

    content = reduction("SUM", wide=wide)
    inputs = noise((8, 16, 2), "int16" if wide else "int8", limit)
    # Steps of 1/16 in, of 1 out.
    exact = np.clip(inputs.sum(axis=2) / 16, *((-32768, 32767) if wide else (-128, 127)))
    wrong = _run_litert(content, inputs, OpResolverType.BUILTIN_REF)
    assert np.abs(wrong - exact).max() > 50
    assert np.abs(reference_outputs(content, inputs) - exact).max() <= 1


def test_float_islands_are_refused():
    found = problems(float_island())
    assert any("layer compress stays in float (operator SQRT)" in problem for problem in found)
    report = inspect_tflite(float_island())
    assert any("stays in float" in problem for problem in gate_problems(report, "full_int8"))


def test_external_buffers_are_refused():
    content = with_external_buffers(int8_convolution())
    expected = "1 buffers lie outside the flatbuffer"
    assert problems(content) == [expected]
    assert gate_problems(inspect_tflite(content), "full_int8") == [expected]


@needs_micro
def test_external_buffers_are_found_by_comparison_too():
    """LiteRT reads them; TensorFlow Lite Micro runs on whatever lies there and reports success."""
    inputs = noise((6, 6, 16))
    whole, outside = int8_convolution(), with_external_buffers(int8_convolution())
    expected = reference_outputs(whole, inputs)
    np.testing.assert_array_equal(reference_outputs(outside, inputs), expected)
    np.testing.assert_array_equal(run_micro(whole, inputs).outputs, expected)
    run = run_micro(outside, inputs, measure_arena=False)
    assert steps_apart(run.outputs, expected)[0] > micro_bound(inspect_tflite(outside), "full_int8")


def test_weights_that_are_not_numbers_are_refused():
    kernel = np.ones((3, 3), np.float32)
    assert problems(mask_network(kernel, 0.0, 4, 4), "float32") == []
    kernel[1, 1] = np.nan
    for content in (mask_network(kernel, 0.0, 4, 4), mask_network(kernel * 0, np.inf, 4, 4)):
        assert any("weights are not finite" in problem for problem in problems(content, "float32"))


def test_weights_left_behind_in_variables_are_refused():
    """Two ways into the converter write such files; LiteRT runs them on memory never written."""
    found = problems(unset_variable(), "float32")
    for operator in ("VAR_HANDLE", "READ_VARIABLE"):
        assert any(f"needs the operator {operator}" in problem for problem in found)
    found = gate_problems(inspect_tflite(unset_variable()), "float32")
    assert any("1 tensors have the type RESOURCE" in problem for problem in found)


def test_missing_weights_are_refused():
    """TensorFlow Lite Micro runs such a file; LiteRT, which it is compared with, does not."""
    found = gate_problems(inspect_tflite(without_weights(int8_convolution())), "full_int8")
    assert any(problem.startswith("weights are missing") for problem in found)
    with pytest.raises(ModelError, match=r"LiteRT cannot run it \(Input tensor 1 lacks data\)"):
        reference_outputs(without_weights(int8_convolution()), noise((6, 6, 16)))
    with pytest.raises(ModelError, match=r"LiteRT cannot run it \(Cannot set tensor"):
        reference_outputs(int8_convolution(), noise((6, 5, 16)))


def test_unnamed_and_dynamic_files_are_refused():
    def unname(tree):
        tree.signatureDefs = []

    def open_time(tree):
        tree.subgraphs[0].tensors[0].shapeSignature = [1, -1, 6, 16]

    assert "no signature" in problems(edited(int8_convolution(), unname))[0]
    assert "shapes must be static" in problems(edited(int8_convolution(), open_time))[0]


@pytest.mark.parametrize("precision", ["float16", "dynamic_range"])
def test_precisions_that_the_interpreter_refuses(precision):
    (problem,) = problems(int8_convolution(), precision)
    assert f"Received: {precision}" in problem


def test_every_operator_left_out_has_its_advice():
    """And the targets for microcontrollers allow nothing that is not allowed here."""
    assert not {"RELU6", "SUM", "TILE", "SQRT"} & TFLM_OPS
    assert TFLM_OPS_INT16 < TFLM_OPS
    assert TFLM_ADVICE.keys() >= TFLM_OPS - TFLM_OPS_INT16
    assert {"RELU6", "SUM", "TILE", "GELU", "SQRT", "WHILE"} <= TFLM_ADVICE.keys()
    target = load_target("cortex-m4")
    assert target.operators_for("full_int8") <= TFLM_OPS
    assert target.operators_for("int16x8") <= TFLM_OPS_INT16


@needs_micro
@pytest.mark.slow
def test_keras_models_with_these_errors_convert_without_one_and_are_refused():
    import keras
    from keras import layers

    from tfspec.deploy.convert import convert

    inputs = keras.Input((16, 16, 2), name="spectrogram")
    front = layers.Conv2D(4, 3, padding="same", name="front")(inputs)
    # Behind a concatenation there is nothing that a ReLU6 could be fused with.
    joined = layers.Concatenate(name="joined")([front, inputs])
    x = layers.ReLU(6.0, name="limited")(joined)
    limited = layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x)
    larger = layers.UpSampling2D(2, name="larger")(front)
    segments = np.random.default_rng(0).normal(0, 4, (16, 16, 16, 2))
    files = {
        name: convert(keras.Model(inputs, end), ["full_int8"], calibration=segments)["full_int8"]
        for name, end in (("RELU6", limited), ("TILE", larger))
    }
    for name, content in files.items():
        assert gate_problems(inspect_tflite(content), "full_int8") == []
        found = problems(content)
        assert found and all(f"needs the operator {name}" in problem for problem in found)
    tensors = noise((16, 16, 2))
    run = run_micro(files["RELU6"], tensors, measure_arena=False)
    # Measured: 174 steps at most, 75 in the mean, of a sigmoid that has 256.
    assert steps_apart(run.outputs, reference_outputs(files["RELU6"], tensors))[0] > 50
