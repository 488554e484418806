"""Running a .tflite in TensorFlow Lite Micro's own interpreter on this machine.

Its reference kernels give, bit for bit, what LiteRT's reference kernels give, except where the
interpreter is silently wrong; so a difference is a reason not to ship. The arena is measured.
The interpreter runs in a process of its own with a time limit. Never imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import re
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tfspec.deploy.inspect import ADVICE, OpInfo, TfliteReport, gate_problems, inspect_tflite
from tfspec.deploy.metadata import INSTALL_HINT, read_bytes
from tfspec.deploy.workers import cause_of_end, current_step, run_worker_module
from tfspec.errors import ExportError, ModelError

MICRO_INSTALL_HINT = (
    'TensorFlow Lite Micro\'s interpreter is not installed; run: pip install "tfspec[micro]"'
)

# Operators whose kernels were measured to give what LiteRT's give. A fused ReLU6 is no operator.
TFLM_OPS_INT16 = frozenset(
    """
    ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE
    EXPAND_DIMS FULLY_CONNECTED LEAKY_RELU LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD
    PADV2 QUANTIZE RELU RESHAPE RESIZE_NEAREST_NEIGHBOR REVERSE_V2 SLICE SOFTMAX SPLIT SPLIT_V
    SQUEEZE STRIDED_SLICE SUB TANH TRANSPOSE TRANSPOSE_CONV UNPACK
    """.split()  # noqa: SIM905 - a hundred lines otherwise
)
TFLM_OPS = TFLM_OPS_INT16 | frozenset(
    """
    DEPTH_TO_SPACE DIV GATHER HARD_SWISH MIRROR_PAD PRELU REDUCE_MAX RESIZE_BILINEAR RSQRT
    SPACE_TO_DEPTH SQUARED_DIFFERENCE
    """.split()  # noqa: SIM905
)
TFLM_OPS_FLOAT = TFLM_OPS | frozenset(
    {"ELU", "EXP", "LOG", "NEG", "RELU6", "SQRT", "SQUARE", "SUM"}
)

# What to use instead of operators that TensorFlow Lite Micro lacks or computes wrongly.
TFLM_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        **ADVICE,
        "RELU6": "put ReLU6 right behind a convolution or addition, where it is fused, or use "
        "ReLU: on its own it ignores the change of scale and gives wrong numbers",
        "SUM": "use the mean: LiteRT's reference gives wrong sums of integers, so that none can "
        "be verified",
        "SELECT": "use ReLU or SiLU instead of SELU",
        "SELECT_V2": "use ReLU or SiLU instead of SELU",
        "TILE": 'replace UpSampling2D(interpolation="nearest") by keras.ops.image.resize(..., '
        '"nearest") or Conv2DTranspose',
        "RESIZE_BILINEAR": "use Conv2DTranspose, or int8",
        "REDUCE_MAX": "use average pooling, or int8",
        "DEPTH_TO_SPACE": "use Conv2DTranspose, or int8",
        "SQUARED_DIFFERENCE": "subtract and multiply, or use int8",
        "SPACE_TO_DEPTH": "use a strided convolution, or int8",
        "MIRROR_PAD": "pad with zeros, or use int8",
        "DIV": "multiply by the reciprocal, or use int8",
        "GATHER": "reshape into hops and concatenate shifted parts, or use int8",
        "PRELU": "use ReLU, or int8",
        "HARD_SWISH": "use ReLU, or int8",
    }
)

# Largest difference from LiteRT's reference kernels, in steps of the output's quantisation.
ROUNDING_STEPS = 2
INT16_STEPS = 5
# They round differently; 1 step was seen in 2 % of the values of an unfused ReLU.
_ROUNDING_OPS = frozenset({"FULLY_CONNECTED", "BATCH_MATMUL", "RELU"})
TFLM_OPS_BY_PRECISION: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "float32": TFLM_OPS_FLOAT,
        "int8": TFLM_OPS,
        "full_int8": TFLM_OPS,
        "int16x8": TFLM_OPS_INT16,
    }
)
# LiteRT's reference kernel of SUM is wrong in integers, its optimised one right; it has none for
# the others. Then all operators of the model run on optimised kernels, which round differently.
_WRONG_IN_REFERENCE = frozenset({"SUM"})
_NOT_IN_REFERENCE = _WRONG_IN_REFERENCE | {"DEPTH_TO_SPACE", "ELU", "TILE"}
OPTIMISED_STEPS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class MicroRun:
    """What TensorFlow Lite Micro computed and needed.

    Attributes:
        outputs: raw integer or float outputs, `(n, *output_shape[1:])`.
        arena_bytes: smallest arena that ran on this machine, a multiple of 16; the
            arena that was used when it was not measured. Pointers have 64 bits here: a
            32-bit target needs up to 1 % less.
    """

    outputs: np.ndarray
    arena_bytes: int


def run_micro(
    model: str | os.PathLike[str] | bytes,
    inputs: np.ndarray,
    *,
    measure_arena: bool = True,
    time_limit: float = 300.0,
) -> MicroRun:
    """Runs a model with one input and one output in TensorFlow Lite Micro.

    Args:
        model: .tflite file or its bytes.
        inputs: raw tensors `(n, *input_shape[1:])` of the input's own type, n >= 1.
        measure_arena: whether to find the smallest arena; otherwise a huge one is used.
        time_limit: seconds until the run is given up.

    Raises:
        ExportError: the interpreter is not installed, lacks a kernel, refuses the model or the
            inputs, crashes, or does not finish.
        ModelError: the file cannot be read.
    """
    if importlib.util.find_spec("tflite_micro") is None:
        raise ExportError(MICRO_INSTALL_HINT)
    data, name = read_bytes(model)
    array = np.ascontiguousarray(inputs)
    if array.ndim == 0 or len(array) == 0:
        raise ExportError(f"`inputs` must hold at least one input. Received: shape {array.shape}")
    with tempfile.TemporaryDirectory(prefix="tfspec-micro-") as folder:
        request: dict[str, Any] = {
            "folder": folder,
            "parent": os.getpid(),
            "model": str(Path(folder, "model.tflite")),
            "inputs": str(Path(folder, "inputs.npy")),
            "log": str(Path(folder, "log")),
            "measure_arena": measure_arena,
            "time_limit": math.ceil(time_limit),
        }
        Path(request["model"]).write_bytes(data)
        np.save(request["inputs"], array)
        return _run_worker(request, name, time_limit)


def _run_worker(request: dict[str, Any], name: str, time_limit: float) -> MicroRun:
    folder = Path(request["folder"])
    try:
        status = run_worker_module("tfspec.deploy.micro_worker", request, time_limit)
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"{name}: TensorFlow Lite Micro did not finish {current_step(folder)} within "
            f"{time_limit:g} s and was stopped; recurrent layers without unroll=True never "
            "return, else raise the limit"
        ) from None
    if status != 0:
        raise ExportError(f"{name}: {_failure(folder, status)}")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return MicroRun(outputs=np.load(folder / "outputs.npy"), **result)


def _failure(folder: Path, status: int) -> str:
    log = (folder / "log").read_text(encoding="utf-8", errors="replace")
    report = folder / "error.json"
    if report.exists():
        kind, _, message = json.loads(report.read_text(encoding="utf-8"))["message"].partition(": ")
        if kind == "ValueError":
            return message
        return f"TensorFlow Lite Micro refuses it: {_explain(log) or message}"
    return f"TensorFlow Lite Micro {cause_of_end(folder, status)} at {current_step(folder)}"


def _explain(log: str) -> str:
    """Turns what the interpreter wrote into one line naming the operator."""
    missing = re.search(r"(?:builtin opcode|op code|custom op)\W+'?(\w+)", log)
    if missing is not None:
        return f"it has no kernel for {missing[1]}" + _advice(missing[1])
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("[RecordingMicroAllocator]")]
    node = re.search(r"Node (\w+) \(number \d+\) failed to (\w+)", log)
    if node is None:
        return lines[-1][:200] if lines else ""
    place = next(i for i, line in enumerate(lines) if node[0] in line)
    cause = f" ({lines[place - 1][:200]})" if place else ""
    return f"its kernel of {node[1]} failed to {node[2]}{cause}" + _advice(node[1])


def _advice(op: str) -> str:
    return f"; {TFLM_ADVICE[op]}" if op in TFLM_ADVICE else ""


def reference_outputs(model: str | os.PathLike[str] | bytes, inputs: np.ndarray) -> np.ndarray:
    """Runs a model on LiteRT's reference kernels, raw tensors in and out.

    Where the reference lacks a kernel (TILE and DEPTH_TO_SPACE in int8, ELU) or is wrong (SUM of
    integers), LiteRT's optimised kernels without XNNPACK take its place.

    Args:
        model: .tflite file or its bytes, with one input and one output.
        inputs: `(n, *input_shape[1:])` of the input's own type, n >= 1.

    Raises:
        ModelError: LiteRT is not installed or cannot run the model on these inputs.
    """
    data, name = read_bytes(model)
    try:
        from ai_edge_litert.interpreter import OpResolverType
    except ImportError as error:
        raise ModelError(INSTALL_HINT) from error
    kinds = [OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES]
    if _WRONG_IN_REFERENCE & inspect_tflite(data).ops.keys():
        kinds = kinds[1:]
    reason = ""
    for kind in kinds:
        try:
            return _run_litert(data, inputs, kind)
        except (RuntimeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise ModelError(f"{name}: LiteRT cannot run it ({reason})")


def _run_litert(data: bytes, inputs: np.ndarray, kind: Any) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    start = interpreter.get_input_details()[0]["index"]
    end = interpreter.get_output_details()[0]["index"]
    outputs = []
    for index in range(len(inputs)):
        interpreter.set_tensor(start, inputs[index : index + 1])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(end))
    return np.concatenate(outputs)


def steps_apart(a: np.ndarray, b: np.ndarray) -> tuple[int, float, float]:
    """Difference of two raw integer outputs of the same shape, in quantisation steps.

    Returns:
        Largest and mean difference, and the fraction of values that differ.

    Raises:
        ValueError: the arrays are not integer, empty, or differ in shape.
    """
    if a.dtype.kind not in "iu" or b.dtype.kind not in "iu" or a.shape != b.shape or not a.size:
        raise ValueError(
            "`a` and `b` must be integer arrays of one shape. Received: "
            f"{a.dtype} {a.shape} and {b.dtype} {b.shape}"
        )
    apart = np.abs(a.astype(np.int64) - b.astype(np.int64))
    return int(apart.max()), float(apart.mean()), float(np.mean(apart > 0))


def micro_bound(report: TfliteReport, precision: str) -> int:
    """Most steps by which TensorFlow Lite Micro may differ from LiteRT's reference.

    Args:
        report: of the converted file.
        precision: of the file; `"int16x8"` has its own bound.
    """
    if _NOT_IN_REFERENCE & report.ops.keys():
        return OPTIMISED_STEPS
    if precision == "int16x8":
        return INT16_STEPS
    return ROUNDING_STEPS if _ROUNDING_OPS & report.ops.keys() else 0


def micro_problems(
    report: TfliteReport, precision: str, operators: Collection[str] | None = None
) -> list[str]:
    """Returns why a file must not be shipped to TensorFlow Lite Micro; empty when nothing is.

    The inspection gate with the operators that the interpreter computes correctly.

    Args:
        report: of the converted file.
        precision: what the file claims to be: `"full_int8"`, `"int8"`, `"int16x8"`, `"float32"`.
        operators: of these, what the target runs; None: all.
    """
    allowed = TFLM_OPS_BY_PRECISION.get(precision)
    if allowed is None:
        return [
            f"TensorFlow Lite Micro runs {', '.join(TFLM_OPS_BY_PRECISION)} files only. "
            f"Received: {precision}"
        ]
    if operators is not None:
        allowed = allowed.intersection(operators)
    refused = dict.fromkeys(op for op in report.operators if op.name not in allowed)
    problems = [_refusal(op) for op in refused]
    return problems + gate_problems(report, precision, allowed_ops=report.ops.keys())


def _refusal(op: OpInfo) -> str:
    return (
        f"layer {op.layer} needs the operator {op.name}, which TensorFlow Lite Micro lacks or "
        f"computes wrongly{_advice(op.name)}"
    )
