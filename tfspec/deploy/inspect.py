"""Reading a .tflite back: operators, types, sizes; and the gate that refuses unusable files.

A converter that returns has proved little: float operators stay inside "int8" files, weights go
missing and buffers end up outside the flatbuffer, all without an error.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from tfspec.deploy.convert import INTEGER
from tfspec.deploy.metadata import parse_model, read_bytes
from tfspec.errors import ModelError

# Built-in operators that LiteRT's CPU runtime has kernels for and that spectrogram models use.
LITERT_OPS = frozenset(
    """
    ABS ADD ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D DEPTHWISE_CONV_2D
    DEPTH_TO_SPACE DEQUANTIZE DIV ELU EXP EXPAND_DIMS FULLY_CONNECTED GATHER GELU HARD_SWISH
    LEAKY_RELU LOG LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
    PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RSQRT SELECT SELECT_V2 SLICE SOFTMAX SPACE_TO_DEPTH
    SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE
    TRANSPOSE TRANSPOSE_CONV UNPACK
    """.split()  # noqa: SIM905 - a hundred lines otherwise
)

# What to use instead, for operators that models commonly bring in.
ADVICE = MappingProxyType(
    {
        "NEG": "use BatchNormalization instead of Group/LayerNormalization",
        "SQUARE": "write x * x, or use BatchNormalization instead of Group/LayerNormalization",
        "RSQRT": "use BatchNormalization instead of Group/LayerNormalization",
        "GELU": "use ReLU or SiLU",
        "ELU": "use ReLU",
        "LOG": "compute the logarithm before the model, in float",
        "EXP": "compute the exponential outside the model, in float",
        "SQRT": "compute the square root before the model, in float",
        "POW": "compute the power before the model, in float",
        "RFFT2D": "compute the STFT before the model",
        "COMPLEX_ABS": "compute the STFT before the model",
        "WHILE": "build the recurrent layer with unroll=True",
        "TILE": 'use keras.ops.image.resize(..., "nearest")',
    }
)

_FLOATS = frozenset({"FLOAT16", "FLOAT32", "FLOAT64", "BFLOAT16"})
_REFUSED_TYPES = frozenset({"COMPLEX64", "COMPLEX128", "STRING", "RESOURCE", "VARIANT"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """An input or output as the signature names it; `real = scale * (q - zero_point)`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpInfo:
    """An operator and the Keras layer it comes from."""

    name: str
    layer: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfliteReport:
    """What a .tflite holds. `float_ops` lists operators on float data between input and output."""

    bytes: int
    weight_bytes: int
    ops: dict[str, int]
    tensor_types: dict[str, int]
    signature: str | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: tuple[OpInfo, ...]
    float_ops: tuple[OpInfo, ...]
    dynamic_tensors: tuple[str, ...]
    external_buffers: int
    nonfinite_weights: tuple[str, ...]
    per_channel: bool
    min_runtime_version: str | None
    missing_weights: tuple[str, ...] = ()


def inspect_tflite(
    source: str | os.PathLike[str] | bytes, *, layer_names: Collection[str] = ()
) -> TfliteReport:
    """Reads a .tflite back.

    Args:
        source: file or its bytes.
        layer_names: names of the Keras model's layers; tensor names are matched against them,
            otherwise the layer is guessed from the tensor's name.

    Raises:
        ModelError: missing, not a .tflite, or damaged.
    """
    data, name = read_bytes(source)
    model = parse_model(source)
    try:
        report = _report(model, len(data), frozenset(layer_names))
        return dataclasses.replace(report, external_buffers=_external_buffers(data))
    except (IndexError, TypeError, AttributeError, KeyError, ValueError) as error:
        raise ModelError(f"{name}: is damaged (its tables contradict each other)") from error


def _report(model: Any, size: int, layer_names: frozenset[str]) -> TfliteReport:
    graphs = model.subgraphs
    operators = [_op_info(model, g, op, layer_names) for g in graphs for op in g.operators]
    floats = [
        _op_info(model, g, op, layer_names)
        for g in graphs
        for op in g.operators
        if _runs_on_float(model, g, op)
    ]
    weights = [(t, _constant(model, t)) for g in graphs for t in g.tensors]
    signature = model.signatureDefs[0] if model.signatureDefs else None
    return TfliteReport(
        bytes=size,
        weight_bytes=sum(0 if raw is None else raw.nbytes for _, raw in weights),
        ops=dict(Counter(op.name for op in operators)),
        tensor_types=dict(Counter(_dtype(t) for g in graphs for t in g.tensors)),
        signature=_text(signature.signatureKey) if signature else None,
        inputs=_ends(graphs[0], signature.inputs if signature else None, graphs[0].inputs),
        outputs=_ends(graphs[0], signature.outputs if signature else None, graphs[0].outputs),
        operators=tuple(operators),
        float_ops=tuple(floats),
        dynamic_tensors=tuple(_text(t.name) for g in graphs for t in g.tensors if _is_dynamic(t)),
        external_buffers=0,
        nonfinite_weights=tuple(
            _text(t.name) for t, raw in weights if raw is not None and not _is_finite(t, raw)
        ),
        per_channel=any(raw is not None and len(_scales(t)) > 1 for t, raw in weights),
        min_runtime_version=_runtime_version(model),
        missing_weights=tuple(name for g in graphs for name in _missing_weights(model, g)),
    )


def _external_buffers(data: bytes) -> int:
    """Counts buffers outside the flatbuffer; `parse_model` has pulled them in already."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    return sum(1 for buffer in buffers if buffer.Offset() or buffer.Size())


def _op_info(model: Any, graph: Any, op: Any, layer_names: frozenset[str]) -> OpInfo:
    code = model.operatorCodes[op.opcodeIndex]
    name = f"CUSTOM {_text(code.customCode)}" if code.customCode else _op_name(code)
    tensor = graph.tensors[op.outputs[0]] if len(op.outputs) else None
    return OpInfo(name=name, layer=_layer(_text(tensor.name) if tensor else "", layer_names))


def _op_name(code: Any) -> str:
    # Old files hold codes below 127 in the deprecated field only.
    value = max(code.builtinCode, code.deprecatedBuiltinCode)
    return _enum_names("BuiltinOperator")[value]


def _layer(tensor_name: str, layer_names: frozenset[str]) -> str:
    """Layer of a tensor named like `unet_1/encoder_0_relu_1/Relu;unet_1/encoder_0_conv_1/...`."""
    for part in tensor_name.split(";")[0].split("/"):
        bare = re.sub(r"_\d+$", "", part)  # tracing a layer again appends a counter to its name
        for candidate in (part, bare):
            if candidate in layer_names:
                return candidate
    parts = tensor_name.split(";")[0].split("/")
    if parts[0].startswith("StatefulPartitionedCall"):
        return "(output)"  # the converter renames what the graph returns
    return re.sub(r"_\d+$", "", parts[1]) if len(parts) > 2 else tensor_name


def _runs_on_float(model: Any, graph: Any, op: Any) -> bool:
    """Whether the operator touches float data other than at the file's float input or output."""
    name = _op_name(model.operatorCodes[op.opcodeIndex])
    if name == "QUANTIZE" and op.inputs[0] in list(graph.inputs):
        return False
    if name == "DEQUANTIZE" and op.outputs[0] in list(graph.outputs):
        return False
    ends = [int(i) for i in (*op.inputs, *op.outputs) if i >= 0]
    return any(_dtype(graph.tensors[i]) in _FLOATS for i in ends)


def _ends(graph: Any, named: Any, indices: Sequence[int]) -> tuple[TensorInfo, ...]:
    if named is None:
        pairs = [(_text(graph.tensors[i].name), graph.tensors[i]) for i in indices]
    else:
        pairs = [(_text(entry.name), graph.tensors[entry.tensorIndex]) for entry in named]
    return tuple(_tensor_info(name, tensor) for name, tensor in pairs)


def _tensor_info(name: str, tensor: Any) -> TensorInfo:
    scales = _scales(tensor)
    return TensorInfo(
        name=name,
        shape=tuple(int(n) for n in (tensor.shape if tensor.shape is not None else ())),
        dtype=_dtype(tensor).lower(),
        scale=float(scales[0]) if len(scales) else None,
        zero_point=int(tensor.quantization.zeroPoint[0]) if len(scales) else None,
    )


def _scales(tensor: Any) -> Sequence[float]:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return ()
    return quantization.scale


def _constant(model: Any, tensor: Any) -> np.ndarray | None:
    raw = model.buffers[tensor.buffer].data
    return None if raw is None or len(raw) == 0 else np.frombuffer(raw, np.uint8)


def _missing_weights(model: Any, graph: Any) -> Iterator[str]:
    """Tensors that operators read and that nothing fills."""
    filled = {*graph.inputs, *(i for op in graph.operators for i in op.outputs)}
    read = dict.fromkeys(i for op in graph.operators for i in op.inputs if i >= 0)
    for index in read:
        tensor = graph.tensors[index]
        if index not in filled and not tensor.isVariable and _constant(model, tensor) is None:
            yield _text(tensor.name)


def _is_finite(tensor: Any, raw: np.ndarray) -> bool:
    kind = {"FLOAT32": np.float32, "FLOAT16": np.float16}.get(_dtype(tensor))
    return kind is None or bool(np.isfinite(raw.view(kind)).all())


def _is_dynamic(tensor: Any) -> bool:
    return tensor.shapeSignature is not None and any(n < 0 for n in tensor.shapeSignature)


def _runtime_version(model: Any) -> str | None:
    for entry in model.metadata or []:
        if _text(entry.name) == "min_runtime_version":
            return bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode("ascii", "replace")
    return None


def _dtype(tensor: Any) -> str:
    return _enum_names("TensorType")[tensor.type]


def _enum_names(enum: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    members = vars(getattr(schema, enum)).items()
    return {value: name for name, value in members if isinstance(value, int)}


def _text(name: bytes | str | None) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else (name or "")


def gate_problems(
    report: TfliteReport, precision: str, *, allowed_ops: Collection[str] = LITERT_OPS
) -> list[str]:
    """Returns why a converted file must not be shipped; empty when nothing is wrong.

    Args:
        report: of the converted file.
        precision: what the file claims to be, one of `tfspec.deploy.convert.PRECISIONS`.
        allowed_ops: operators that the target runs.
    """
    problems = [
        f"layer {op.layer} needs the operator {op.name}, which the target does not run"
        + _advice(op.name)
        for op in _unique(report.operators)
        if op.name not in allowed_ops
    ]
    if precision in INTEGER:
        problems += _integer_problems(report, precision)
    for kind in sorted(_REFUSED_TYPES & set(report.tensor_types)):
        problems.append(f"{report.tensor_types[kind]} tensors have the type {kind}")
    if report.dynamic_tensors:
        problems.append(
            f"shapes must be static, but {len(report.dynamic_tensors)} tensors are dynamic, "
            f"first {report.dynamic_tensors[0]}"
        )
    if report.external_buffers:
        problems.append(f"{report.external_buffers} buffers lie outside the flatbuffer")
    if report.nonfinite_weights:
        problems.append(f"weights are not finite: {report.nonfinite_weights[0]}")
    if report.missing_weights:
        problems.append(f"weights are missing: {report.missing_weights[0]}")
    if report.signature is None:
        problems.append("the file has no signature, so its inputs and outputs have no names")
    return problems


def _integer_problems(report: TfliteReport, precision: str) -> list[str]:
    # The conversions around a float operator are its shadow; name them only when nothing else is.
    islands = [op for op in report.float_ops if op.name not in ("QUANTIZE", "DEQUANTIZE")]
    problems = [
        f"layer {op.layer} stays in float (operator {op.name})" + _advice(op.name)
        for op in _unique(islands or report.float_ops)
    ]
    wanted = INTEGER[precision]
    for end in (*report.inputs, *report.outputs):
        if end.dtype != wanted:
            problems.append(f"{end.name} must be {wanted}, but is {end.dtype}")
    return problems


def _unique(ops: Sequence[OpInfo]) -> list[OpInfo]:
    return list(dict.fromkeys(ops))


def _advice(op: str) -> str:
    return f"; {ADVICE[op]}" if op in ADVICE else ""
