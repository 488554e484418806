"""Waveform models as TFLite files: whole, with an integer core, or in three parts.

An STFT in 8 bits is useless (8.7 dB), the network is not. The TFLite quantiser takes all or
nothing, so the network is quantised as a file of its own and joined with the float32 ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfspec.deploy import convert as deploy
from tfspec.deploy.calibration import MIN_SEGMENTS, check_calibration
from tfspec.deploy.metadata import parse_model
from tfspec.errors import ExportError

PRECISIONS = ("float32", "float16")
CORE_PRECISIONS = ("float16", "dynamic_range", "int8")
PARTS = ("analysis", "core", "synthesis")


def convert_waveform(
    model: keras.Model,
    precisions: Sequence[str] = ("float32", "float16"),
    *,
    core_precision: str | None = None,
    calibration: np.ndarray | None = None,
    time_limit: float = 1800.0,
) -> dict[str, bytes]:
    """Converts a waveform model to TFLite files with named inputs and outputs.

    Args:
        model: of `tfspec.separation.waveform.waveform_model`.
        precisions: of the whole file, out of `PRECISIONS`; may be empty.
        core_precision: one of `CORE_PRECISIONS` makes one more file, `core_NAME`, in which the
            network alone has this precision; transforms and scaling stay float32.
        calibration: for an int8 core: real inputs of the core `(segments, bins, frames, 1)`, i.e.
            square roots of scaled magnitudes, loud and quiet.
        time_limit: seconds until a conversion is given up.

    Returns:
        The .tflite by precision.

    Raises:
        ExportError: unknown precision, another model, unusable calibration, a failed conversion.
    """
    unknown = [p for p in precisions if p not in PRECISIONS]
    if isinstance(precisions, str) or unknown or not (precisions or core_precision):
        raise ExportError(
            f"`precisions` must list some of {', '.join(PRECISIONS)}. Received: {precisions!r}"
        )
    _check_core_precision(core_precision)
    _part(model, "core")
    files = _convert_ends(model, precisions, time_limit) if precisions else {}
    if core_precision is not None:
        parts = convert_parts(model, core_precision, calibration=calibration, time_limit=time_limit)
        files[f"core_{core_precision}"] = join_tflite(list(parts.values()), list(model.output))
    return files


def convert_parts(
    model: keras.Model,
    core_precision: str = "int8",
    *,
    calibration: np.ndarray | None = None,
    time_limit: float = 1800.0,
) -> dict[str, bytes]:
    """The waveform model as three files to run one after the other.

    Tensors of the same name belong together: `analysis` (float32) gives `core_input` and what the
    synthesis needs, `core` makes `mask` of it, `synthesis` (float32) the stems.

    Args:
        model: of `waveform_model`.
        core_precision: one of `CORE_PRECISIONS`.
        calibration: see `convert_waveform`.
        time_limit: seconds until a conversion is given up.

    Returns:
        The .tflite by name, in the order of `PARTS`.

    Raises:
        ExportError: as `convert_waveform`.
    """
    _check_core_precision(core_precision)
    analysis, core, synthesis = (_part(model, name) for name in PARTS)
    if calibration is not None:
        calibration = _grouped(calibration, tuple(core.inputs[0].shape))
    quantised = deploy.convert(
        core,
        (core_precision,),
        calibration=calibration,
        input_name="core_input",
        output_name="mask",
        time_limit=time_limit,
    )
    return {
        "analysis": _convert_ends(analysis, ("float32",), time_limit)["float32"],
        "core": quantised[core_precision],
        "synthesis": _convert_ends(synthesis, ("float32",), time_limit)["float32"],
    }


def _check_core_precision(core_precision: str | None) -> None:
    if core_precision is not None and core_precision not in CORE_PRECISIONS:
        raise ExportError(
            f"`core_precision` must be one of {', '.join(CORE_PRECISIONS)} or None. "
            f"Received: {core_precision!r}"
        )


def _part(model: keras.Model, name: str) -> keras.Model:
    if not any(layer.name == name for layer in model.layers):
        raise ExportError(
            f"model {model.name} must be made by `waveform_model`; it has no layer {name!r}"
        )
    return model.get_layer(name)


def _grouped(calibration: np.ndarray, shape: tuple[int | None, ...]) -> np.ndarray:
    """Segments in groups of as many as the core takes at a time, some of them used twice."""
    segments = check_calibration(calibration, tuple(n or 0 for n in shape[-3:]))
    if len(shape) == 4:
        return segments
    count = shape[1] or 1
    groups = max(-(-len(segments) // count), MIN_SEGMENTS)
    return np.resize(segments, (groups, count, *segments.shape[1:]))


def _convert_ends(
    model: keras.Model, precisions: Sequence[str], time_limit: float
) -> dict[str, bytes]:
    """Converts a model with several inputs and outputs; the outputs are named by a dictionary."""
    import tensorflow as tf

    names = [tensor.name for tensor in model.inputs]
    signature = [tf.TensorSpec(t.shape, tf.float32, name=t.name) for t in model.inputs]

    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)

    with tempfile.TemporaryDirectory(prefix="tfspec-convert-") as folder:
        request: dict[str, Any] = {
            "folder": folder,
            "parent": os.getpid(),
            "saved_model": str(Path(folder, "saved_model")),
            "signature": deploy.SIGNATURE,
            "input_name": names[0],
            "precisions": list(precisions),
        }
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(deploy.SIGNATURE, serve, input_signature=signature)
        archive.write_out(request["saved_model"], verbose=False)
        return deploy.run_worker(request, time_limit)


def join_tflite(parts: Sequence[bytes], outputs: Sequence[str]) -> bytes:
    """Joins .tflite files into one graph: an output feeds the inputs of the same name behind it.

    Args:
        parts: files with one signature each, in the order in which they run.
        outputs: names of the outputs of the whole.

    Returns:
        A file with one signature, whose inputs are those that no earlier part makes.

    Raises:
        ModelError: a part is not a .tflite.
        ExportError: no part makes one of `outputs`.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    whole = parse_model(parts[0])
    signature, graph = whole.signatureDefs[0], whole.subgraphs[0]
    known = _ends(signature.inputs) | _ends(signature.outputs)
    inputs = _ends(signature.inputs)
    for part in parts[1:]:
        inputs |= _append(whole, parse_model(part), known)
    missing = [name for name in outputs if name not in known]
    if missing:
        raise ExportError(f"no part makes the output {missing[0]!r}; they make {sorted(known)}")
    ends = {name: known[name] for name in outputs}
    graph.inputs, graph.outputs = list(inputs.values()), list(ends.values())
    signature.inputs, signature.outputs = _mappings(inputs), _mappings(ends)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(whole))


def _append(whole: Any, part: Any, known: dict[str, int]) -> dict[str, int]:
    """Appends the operators of `part`; returns its inputs that were not known yet."""
    signature, source, graph = part.signatureDefs[0], part.subgraphs[0], whole.subgraphs[0]
    own_inputs = _ends(signature.inputs)
    tensors = {own_inputs[name]: known[name] for name in own_inputs if name in known}
    for index, tensor in enumerate(source.tensors):
        if index not in tensors:
            tensors[index] = len(graph.tensors)
            tensor.buffer = _copied_buffer(whole, part, tensor.buffer)
            graph.tensors.append(tensor)
    codes = [_code_index(whole, code) for code in part.operatorCodes]
    for operator in source.operators:
        operator.opcodeIndex = codes[operator.opcodeIndex]
        operator.inputs = [tensors[i] if i >= 0 else -1 for i in operator.inputs]
        operator.outputs = [tensors[i] for i in operator.outputs]
        graph.operators.append(operator)
    known |= {name: tensors[index] for name, index in _ends(signature.outputs).items()}
    new = {name: tensors[i] for name, i in own_inputs.items() if name not in known}
    known |= new
    _raise_runtime_version(whole, part)
    return new


def _copied_buffer(whole: Any, part: Any, index: int) -> int:
    buffer = part.buffers[index]
    if buffer.data is None or len(buffer.data) == 0:
        return 0  # the empty buffer of every file: a tensor without constant data
    whole.buffers.append(buffer)
    return len(whole.buffers) - 1


def _code_index(whole: Any, code: Any) -> int:
    def key(entry: Any) -> tuple[Any, ...]:
        return entry.builtinCode, entry.deprecatedBuiltinCode, entry.version, entry.customCode

    for index, present in enumerate(whole.operatorCodes):
        if key(present) == key(code):
            return index
    whole.operatorCodes.append(code)
    return len(whole.operatorCodes) - 1


def _raise_runtime_version(whole: Any, part: Any) -> None:
    """The whole needs the newest runtime that one of its parts needs."""
    entries = [_runtime_version(model) for model in (whole, part)]
    if None not in entries and entries[1][0] > entries[0][0]:
        whole.buffers[entries[0][1]].data = entries[1][2]


def _runtime_version(model: Any) -> Any:
    for entry in model.metadata or []:
        if entry.name in (b"min_runtime_version", "min_runtime_version"):
            data = model.buffers[entry.buffer].data
            text = bytes(data).rstrip(b"\0").decode("ascii")
            return tuple(int(n) for n in text.split(".")), entry.buffer, data
    return None


def _ends(mappings: Any) -> dict[str, int]:
    return {
        m.name.decode("utf-8") if isinstance(m.name, bytes) else m.name: int(m.tensorIndex)
        for m in mappings or []
    }


def _mappings(ends: dict[str, int]) -> list[Any]:
    from ai_edge_litert import schema_py_generated as schema

    mappings = []
    for name, index in ends.items():
        mapping = schema.TensorMapT()
        mapping.name, mapping.tensorIndex = name, index
        mappings.append(mapping)
    return mappings
