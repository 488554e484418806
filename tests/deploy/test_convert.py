"""Real conversions, compared with Keras; files and models that the gate must refuse."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from tfspec.deploy.convert import PRECISIONS, convert, cut_model, float32_model
from tfspec.deploy.inspect import gate_problems, inspect_tflite
from tfspec.deploy.verify import compare
from tfspec.errors import ExportError, ModelError


def run(content: bytes, segments: np.ndarray) -> np.ndarray:
    """Runs float input segments straight through LiteRT, not through our runner."""
    runner = Interpreter(model_content=content).get_signature_runner()
    return np.concatenate([runner(spectrogram=s[None])["mask"] for s in segments])


@pytest.mark.parametrize(
    ("precision", "least_snr"),
    # Measured here 133, 70, 46 and 42 dB; the bounds are those that an export must meet.
    [("float32", 100), ("float16", 60), ("dynamic_range", 30), ("int8", 35)],
)
def test_converted_files_agree_with_keras(converted, unet, held_out, precision, least_snr):
    expected = np.asarray(unet(held_out, training=False))
    got = run(converted[precision], held_out)
    result = compare(expected, got)
    assert result.snr_db >= least_snr
    if precision == "float32":
        assert result.max_abs_error <= 1e-5 * result.peak


def test_int16x8_is_nearer_to_keras_than_int8(converted, unet, held_out):
    runner = Interpreter(model_content=converted["int16x8"]).get_signature_runner()
    (end_in,), (end_out,) = (
        end().values() for end in (runner.get_input_details, runner.get_output_details)
    )
    steps = np.round(held_out / end_in["quantization"][0]).astype(np.int16)  # zero point 0
    got = np.concatenate([runner(spectrogram=s[None])["mask"] for s in steps])
    expected = np.asarray(unet(held_out, training=False))
    snr = compare(expected, got * np.float32(end_out["quantization"][0])).snr_db
    # Measured 51 dB, and 42 dB in int8; 40 dB is what an export must meet.
    assert snr >= 40 and snr > compare(expected, run(converted["int8"], held_out)).snr_db


@pytest.mark.parametrize("precision", PRECISIONS)
def test_files_pass_the_gate_and_have_static_named_ends(converted, unet, precision):
    report = inspect_tflite(converted[precision])
    assert gate_problems(report, precision) == []
    kind = {"full_int8": "int8", "int16x8": "int16"}.get(precision, "float32")
    (end_in,), (end_out,) = report.inputs, report.outputs
    assert (report.signature, end_in.name, end_out.name) == (
        "serving_default",
        "spectrogram",
        "mask",
    )
    assert end_in.shape == end_out.shape == (1, 64, 32, 1)
    assert end_in.dtype == end_out.dtype == kind
    assert (end_in.scale is not None) == (kind != "float32")
    assert report.bytes == len(converted[precision])
    assert report.min_runtime_version is not None
    # Batch normalisation is folded: convolutions, and nothing that normalises.
    assert report.ops["CONV_2D"] == 6 and report.ops["TRANSPOSE_CONV"] == 2
    assert not {"MUL", "ADD", "RSQRT"} & set(report.ops)


def test_sizes_and_weights_follow_the_precision(converted):
    reports = {p: inspect_tflite(b) for p, b in converted.items()}
    weights = {p: report.weight_bytes for p, report in reports.items()}
    assert weights["float16"] < 0.6 * weights["float32"]
    assert weights["int8"] < 0.4 * weights["float32"]
    assert reports["int8"].per_channel and not reports["float32"].per_channel
    assert reports["full_int8"].tensor_types.keys() <= {"INT8", "INT32"}
    assert reports["int16x8"].tensor_types.keys() <= {"INT8", "INT16", "INT32", "INT64"}


def test_full_int8_equals_int8_with_float_ends(converted, held_out):
    runner = Interpreter(model_content=converted["full_int8"]).get_signature_runner()
    feed, out = runner.get_input_details()["spectrogram"], runner.get_output_details()["mask"]
    scale, zero = feed["quantization"]
    steps = np.clip(np.round(held_out[:1] / scale) + zero, -128, 127).astype(np.int8)
    scale, zero = out["quantization"]
    got = (runner(spectrogram=steps)["mask"].astype(np.float32) - zero) * scale
    np.testing.assert_allclose(got, run(converted["int8"], held_out[:1]), atol=1e-6)


def test_gate_names_the_layers_that_stay_in_float(build_unet, segments):
    """Group normalisation passes the converter as int8 with float islands, and the gate not."""

    def group_norm(name):
        return layers.GroupNormalization(groups=4, name=name)

    model = build_unet(norm=group_norm)
    files = convert(model, ["float32", "int8"], calibration=segments)
    names = [layer.name for layer in model.layers]
    report = inspect_tflite(files["int8"], layer_names=names)
    problems = gate_problems(report, "int8")
    assert any("layer encoder_1_norm stays in float (operator SQUARE)" in p for p in problems)
    assert all("BatchNormalization" in p for p in problems)
    assert gate_problems(inspect_tflite(files["float32"]), "float32") == []


def test_gate_refuses_operators_outside_the_target(converted):
    report = inspect_tflite(converted["float32"], layer_names=["up_0"])
    problems = gate_problems(report, "float32", allowed_ops={"CONV_2D", "LOGISTIC"})
    assert any("layer up_0 needs the operator TRANSPOSE_CONV" in problem for problem in problems)


def test_gate_refuses_a_float_file_that_claims_int8(converted):
    problems = gate_problems(inspect_tflite(converted["float32"]), "int8")
    assert any("stays in float (operator CONV_2D)" in problem for problem in problems)
    problems = gate_problems(inspect_tflite(converted["int8"]), "full_int8")
    assert any("spectrogram must be int8, but is float32" in problem for problem in problems)


def edited(content: bytes, edit) -> bytes:
    from ai_edge_litert.tools import flatbuffer_utils

    tree = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    edit(tree)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(tree))


def test_gate_refuses_nan_weights_external_buffers_and_dynamic_shapes(converted):
    def spoil_weights(tree):
        largest = max(tree.buffers, key=lambda b: 0 if b.data is None else len(b.data))
        largest.data = np.full(len(largest.data) // 4, np.nan, np.float32).view(np.uint8)

    def move_out(tree):
        tree.buffers[-1].offset, tree.buffers[-1].size = 4096, 16

    def open_time(tree):
        tree.subgraphs[0].tensors[0].shapeSignature = [1, 64, -1, 1]

    def unname(tree):
        tree.signatureDefs = []

    for edit, message in (
        (spoil_weights, "weights are not finite"),
        (move_out, "1 buffers lie outside the flatbuffer"),
        (open_time, "1 tensors are dynamic"),
        (unname, "no signature"),
    ):
        report = inspect_tflite(edited(converted["float32"], edit))
        problems = gate_problems(report, "float32")
        assert len(problems) == 1 and message in problems[0]


def simple(layer, shape=(8, 8, 1)) -> keras.Model:
    inputs = keras.Input(shape, name="spectrogram")
    return keras.Model(inputs, layer(layers.Conv2D(2, 3, name="front")(inputs)), name="simple")


def test_flex_operators_are_refused_with_the_layer():
    class Beta(layers.Layer):
        def call(self, inputs):
            import tensorflow as tf

            x = tf.nn.sigmoid(inputs)
            return tf.math.betainc(x, x, x)

    message = "conversion to float32 failed: layer beta_part needs Betainc"
    with pytest.raises(ExportError, match=message) as caught:
        convert(simple(Beta(name="beta_part")))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_crashing_converter_is_one_error_not_our_death():
    """An LSTM that is not unrolled kills the int8 converter with a signal."""
    inputs = keras.Input((16, 4), name="features")
    model = keras.Model(inputs, layers.LSTM(8, return_sequences=True)(inputs))
    data = np.random.default_rng(0).random((16, 16, 4))
    with pytest.raises(ExportError, match=r"converter crashed \(SIG\w+\) at int8; recurrent"):
        convert(model, ["int8"], calibration=data)


def test_time_limit_stops_the_converter(unet):
    with pytest.raises(ExportError, match=r"did not finish starting within 0.01 s"):
        convert(unet, time_limit=0.01)


@pytest.mark.slow
def test_mixed_precision_models_export_as_float32(build_unet, held_out):
    model = build_unet(dtype="mixed_float16", name="mixed")
    assert model.get_layer("encoder_1_conv").compute_dtype == "float16"
    plain = float32_model(model)
    assert plain.get_layer("encoder_1_conv").compute_dtype == "float32"
    report = inspect_tflite(convert(model)["float32"])
    assert gate_problems(report, "float32") == []
    assert "CAST" not in report.ops
    expected = np.asarray(model(held_out, training=False))
    # float16 arithmetic on the Keras side: 2**-11 per operation over some ten operations.
    np.testing.assert_allclose(np.asarray(plain(held_out)), expected, atol=5e-3)


def test_cut_model_keeps_the_weights_and_drops_the_ends():
    inputs = keras.Input((8, 8, 1), name="magnitude")
    root = layers.Lambda(keras.ops.sqrt, name="compress")(inputs)
    mask = layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="mask")(root)
    model = keras.Model(inputs, layers.Multiply(name="estimate")([mask, inputs]), name="full")
    core = cut_model(model, first="compress", last="mask")
    x = np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32)
    estimate = np.asarray(core(np.sqrt(x))) * x
    np.testing.assert_allclose(np.asarray(model(x)), estimate, rtol=1e-6)
    report = inspect_tflite(convert(core, input_name="compressed")["float32"])
    assert (report.inputs[0].name, report.outputs[0].name) == ("compressed", "mask")
    assert report.ops.keys() == {"CONV_2D", "LOGISTIC"}
    with pytest.raises(ExportError, match="model full has no layer 'nowhere'"):
        cut_model(model, first="nowhere")


def test_arguments_are_checked_before_any_work(unet, build_unet, segments):
    with pytest.raises(ExportError, match=r"must list some of float32.* Received: \['int4'\]"):
        convert(unet, ["int4"])
    with pytest.raises(ExportError, match=r"Received: 'int8'"):
        convert(unet, "int8")
    with pytest.raises(ExportError, match="precision int8 needs `calibration`"):
        convert(unet, ["float32", "int8"])
    with pytest.raises(ExportError, match=r"shape \(segments, 64, 32, 1\)"):
        convert(unet, ["int8"], calibration=segments[:, :32])
    with pytest.raises(ExportError, match=r"fixed dimensions .*\(None, 64, None, 1\)"):
        convert(build_unet(shape=(64, None, 1)))
    a, b = keras.Input((4,)), keras.Input((4,))
    with pytest.raises(ExportError, match=r"one input and one output\. Received: 2 inputs"):
        convert(keras.Model([a, b], layers.Add()([a, b])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"RIFF0000WAVEfmt ", "is not a .tflite file"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "is damaged"),
    ],
)
def test_inspecting_what_is_no_model(tmp_path, content, message):
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"a.tflite: {message}"):
        inspect_tflite(path)


def test_inspecting_damaged_files_never_shows_a_traceback(converted):
    rng = np.random.default_rng(0)
    for _ in range(20):
        data = bytearray(converted["int8"])
        for place in rng.integers(8, len(data), 300):
            data[place] = rng.integers(256)
        try:
            inspect_tflite(bytes(data))  # damage in the weights alone is not visible
        except ModelError as error:
            assert "damaged" in str(error)
