"""Keras functional model -> .tflite bytes, by the converter and settings that were measured best.

Static batch-1 signature with named input and output through `keras.export.ExportArchive`, built-in
operators only, the built-in quantiser (per channel). The converter runs in a process of its own
with a time limit.
"""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from tfspec.deploy.calibration import check_calibration
from tfspec.deploy.workers import cause_of_end, current_step, run_worker_module
from tfspec.errors import ExportError

if TYPE_CHECKING:
    import keras

PRECISIONS = ("float32", "float16", "dynamic_range", "int8", "full_int8", "int16x8")
# Precisions with quantised activations, which need calibration and keep no operator in float; and
# the type of their input and output.
INTEGER = MappingProxyType({"int8": "float32", "full_int8": "int8", "int16x8": "int16"})
SIGNATURE = "serving_default"


def convert(
    model: keras.Model,
    precisions: Sequence[str] = ("float32",),
    *,
    calibration: np.ndarray | None = None,
    input_name: str | None = None,
    output_name: str | None = None,
    time_limit: float = 1800.0,
) -> dict[str, bytes]:
    """Converts a model with one input and one output.

    Args:
        model: functional model; all dimensions but the batch fixed.
        precisions: of `PRECISIONS`: `"float32"`; `"float16"` (weights, halves the file);
            `"dynamic_range"` (int8 weights, float activations); `"int8"` (integer inside, float
            input and output: Android, web); `"full_int8"` (integer throughout); `"int16x8"`
            (16-bit activations, int8 weights, integer throughout: TensorFlow Lite Micro and
            Ethos-U; LiteRT runs it many times slower than float).
        calibration: scaled segments `(segments, *model.input_shape[1:])`, needed by the integer
            precisions.
        input_name: name of the input in the signature; default: that of the model's input.
        output_name: likewise; default: name of the layer that makes the output.
        time_limit: seconds until the conversion is given up.

    Returns:
        The .tflite by precision. The same model and calibration give the same bytes.

    Raises:
        ExportError: unknown precision, dynamic shapes, unusable calibration, an operator without
            a built-in TFLite form (named), a crashed or endless conversion.
    """
    check_precisions(precisions)
    shape = static_input_shape(model)
    names = (input_name or _input_name(model), output_name or _output_name(model))
    integer = [p for p in precisions if p in INTEGER]
    if integer and calibration is None:
        raise ExportError(f"precision {integer[0]} needs `calibration`: real scaled segments")
    with tempfile.TemporaryDirectory(prefix="tfspec-convert-") as folder:
        request: dict[str, Any] = {
            "folder": folder,
            "parent": os.getpid(),
            "saved_model": str(Path(folder, "saved_model")),
            "signature": SIGNATURE,
            "input_name": names[0],
            "precisions": list(precisions),
        }
        if integer:
            segments = check_calibration(calibration, shape[1:])
            request["calibration"] = str(Path(folder, "calibration.npz"))
            np.savez(request["calibration"], segments=segments)
        _save(float32_model(model), request["saved_model"], shape, *names)
        return run_worker(request, time_limit)


def check_precisions(precisions: Sequence[str]) -> None:
    """Raises ExportError unless `precisions` is a non-empty list out of `PRECISIONS`."""
    unknown = [p for p in precisions if p not in PRECISIONS]
    if isinstance(precisions, str) or unknown or not precisions:
        raise ExportError(
            f"`precisions` must list some of {', '.join(PRECISIONS)}. Received: {precisions!r}"
        )


def static_input_shape(model: keras.Model) -> tuple[int, ...]:
    """Returns `(1, ...)`, the input's shape for one segment.

    Raises:
        ExportError: more than one input or output, or a dimension that is not fixed.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ExportError(
            f"model {model.name} must have one input and one output. Received: "
            f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
        )
    shape = tuple(model.inputs[0].shape)
    if any(n is None for n in shape[1:]):
        raise ExportError(
            f"model {model.name} must have fixed dimensions behind the batch axis. Received: "
            f"input shape {shape}; build it for one segment length"
        )
    return (1, *shape[1:])


def cut_model(
    model: keras.Model, *, first: str | None = None, last: str | None = None
) -> keras.Model:
    """Returns the part of a model that runs on the device, sharing the model's weights.

    Used to leave compression and the final product with the magnitudes in float, outside the
    graph: a linear magnitude inside an int8 graph costs up to 1 dB on quiet segments.

    Args:
        model: functional model.
        first: layer whose *output* becomes the input; default: the model's own input.
        last: layer whose output becomes the output; default: the model's own output.

    Raises:
        ExportError: the model has no such layer.
    """
    import keras

    start = model.inputs[0] if first is None else _layer(model, first).output
    end = model.outputs[0] if last is None else _layer(model, last).output
    return keras.Model(start, end, name=model.name)


def _layer(model: keras.Model, name: str) -> keras.layers.Layer:
    try:
        return model.get_layer(name)
    except ValueError:
        raise ExportError(f"model {model.name} has no layer {name!r}") from None


def float32_model(model: keras.Model) -> keras.Model:
    """Returns the model itself, or its float32 copy when it was built for mixed precision.

    Mixed-precision graphs convert to casts and Flex operators that no device runs.
    """
    import keras

    policies = [layer.dtype_policy for layer in model._flatten_layers()]
    if all(policy.compute_dtype == "float32" for policy in policies):
        return model
    config = _with_float32(copy.deepcopy(model.get_config()))
    plain = keras.Model.from_config(config)
    plain.set_weights(model.get_weights())
    return plain


def _with_float32(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy":
            return {**value, "config": {"name": "float32"}}
        return {
            key: "float32" if key == "dtype" and isinstance(item, str) else _with_float32(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_with_float32(item) for item in value)
    return value


def _input_name(model: keras.Model) -> str:
    name = model.inputs[0].name
    # Keras numbers inputs without a name, differently in each process.
    return "input" if name.startswith("keras_tensor") else _identifier(name)


def _output_name(model: keras.Model) -> str:
    return _identifier(model.output_names[0])


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _save(
    model: keras.Model, folder: str, shape: tuple[int, ...], input_name: str, output_name: str
) -> None:
    """Writes a SavedModel; unlike a .keras file it needs no custom layer class to be read."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "export needs Keras on TensorFlow; set KERAS_BACKEND=tensorflow. "
            f"Received: {keras.backend.backend()}"
        )
    import tensorflow as tf

    def serve(segment: tf.Tensor) -> dict[str, tf.Tensor]:
        return {output_name: model(segment, training=False)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    specification = tf.TensorSpec(shape, tf.float32, name=input_name)
    archive.add_endpoint(SIGNATURE, serve, input_signature=[specification])
    archive.write_out(folder, verbose=False)


def run_worker(request: dict[str, Any], time_limit: float) -> dict[str, bytes]:
    """Converts a SavedModel in a process of its own.

    Args:
        request: `folder` to work in, `saved_model`, `signature`, `precisions`, `parent` (this
            process), and for integers `input_name` and `calibration`.
        time_limit: seconds until it is given up.

    Raises:
        ExportError: it failed, crashed or did not finish.
    """
    folder = Path(request["folder"])
    try:
        status = run_worker_module("tfspec.deploy.convert_worker", request, time_limit)
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"the converter did not finish {current_step(folder)} within {time_limit:g} s and was "
            "stopped; raise the limit, or leave this precision out"
        ) from None
    if status != 0:
        raise ExportError(_failure(folder, status))
    return {p: (folder / f"{p}.tflite").read_bytes() for p in request["precisions"]}


def _failure(folder: Path, status: int) -> str:
    report = folder / "error.json"
    if report.exists():
        error = json.loads(report.read_text(encoding="utf-8"))
        return f"conversion to {error['precision']} failed: {_explain(error['message'])}"
    if status == -signal.SIGTERM:
        return f"the converter was stopped from outside at {current_step(folder)}"
    return (
        f"the converter {cause_of_end(folder, status)} at {current_step(folder)}; recurrent "
        "layers without unroll=True are a known cause, else leave this precision out"
    )


def _explain(message: str) -> str:
    """Turns the converter's page of MLIR into one line naming layer and operator."""
    # e.g. fused["Betainc:", "functional_1/lambda_1/Betainc@__inference_..."] ... 'tf.Betainc' op
    operator = re.search(r"'(?:tf|tfl)\.(\w+)' op", message)
    if operator is None:
        return message.strip().splitlines()[0][:300]
    place = re.search(rf'"[^"/]*/([^"@]*)/{operator[1]}\w*@', message)
    layer = re.sub(r"_\d+$", "", place[1]) if place else "?"
    return (
        f"layer {layer} needs {operator[1]}, which is no built-in TFLite operator; replace the "
        "layer or keep it outside the exported model"
    )
