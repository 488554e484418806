"""Test vectors of an exported file: what goes in, what must come out, and how closely.

Laid out as in Arm's model zoo, so that a port to any device or language can be checked without
Python:

    index.json                  types, shapes, scales, zero points, tolerance, files
    testing_input/NAME/0.npy    one array per vector, in the tensor's own type, batch axis included
    testing_input/NAME/0.bin    the same values, raw, little-endian, row by row
    testing_output/NAME/0.npy   likewise
    testing_output/NAME/0.bin

Needs NumPy and the LiteRT wheel only; never TensorFlow.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfspec.deploy.metadata import INSTALL_HINT, parse_model, read_bytes, read_metadata
from tfspec.deploy.runner import _only, as_input
from tfspec.errors import ExportError, ModelError, OutputError
from tfspec.signal.files import read_json, write_json

INDEX = "index.json"
INPUTS, OUTPUTS = "testing_input", "testing_output"

# Float outputs: of the peak, at least of 1 where the last is not float32. float32 kernels differ
# by 1e-6 between processors; GPU delegates compute a float16 file in half precision; dynamic range
# was seen to differ by 8e-3 between runtimes.
_RELATIVE = {"float32": 1e-5, "float16": 5e-3, "dynamic_range": 2e-2}
# Label maps: share of equal numbers. Other rounding changes bins whose two best classes tie.
_EQUAL_LABELS = {"float32": 0.999}
_EQUAL_LABELS_OTHERS = 0.97
# Integer kernels: XNNPACK was seen up to 6 steps from the reference kernels.
_STEPS = 6


def write_vectors(
    folder: str | os.PathLike[str], tflite_path: str | os.PathLike[str], inputs: np.ndarray
) -> dict[str, Any]:
    """Runs real inputs through a file and writes both ends; replaces earlier vectors.

    The outputs are those of LiteRT's default kernels; of a file with integer ends those of the
    reference kernels, which TFLite Micro equals (two steps apart at most, at dense layers).

    Args:
        folder: folder to write.
        tflite_path: a file that `tfspec export` wrote.
        inputs: real values `(vectors, *input_shape[1:])`, scaled as in use; quantised here for
            integer files.

    Returns:
        What `index.json` says. Its `tolerance` holds `absolute` (in the output's own unit) and,
        for integers, `steps`; for label maps instead `equal`, the share of numbers that must agree.

    Raises:
        ModelError: the file is missing, damaged or without tfspec metadata.
        ExportError: the inputs have another shape, none, or values that are not finite.
        OutputError: the folder cannot be written, or holds something else than vectors.
    """
    final = Path(folder)
    if (
        final.exists()
        and not (final / INDEX).is_file()
        and (final.is_file() or any(final.iterdir()))
    ):
        raise OutputError(f"{final}: holds something else than test vectors; choose another folder")
    data, name = read_bytes(tflite_path)
    description = read_metadata(data)
    precision = description.get("precision")
    runner = _Runner(data, name)
    values = _checked(inputs, tuple(runner.input["shape"]))
    fed = [as_input(value[None], runner.input) for value in values]
    made = [runner(array) for array in fed]
    index = {
        "format": 1,
        "model": Path(name).name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "precision": precision,
        "kernels": runner.kernels,
        "vectors": len(fed),
        "input": _end(runner.input_name, runner.input, INPUTS),
        "output": _end(runner.output_name, runner.output, OUTPUTS),
        "tolerance": _label_tolerance(precision)
        if description.get("kind") == "labels"
        else _tolerance(data, precision, runner.output, np.stack(made)),
    }
    _write(final, index, fed, made)
    return index


def check_vectors(
    folder: str | os.PathLike[str], predict: Callable[[np.ndarray], np.ndarray]
) -> list[str]:
    """Compares an implementation with the vectors of a folder.

    Args:
        folder: what `write_vectors` wrote.
        predict: from one input array, batch axis and type as in the index (integers for integer
            files), to the output array in the type of the index.

    Returns:
        One line per problem, naming vector, figure and tolerance; empty when all agree.

    Raises:
        ModelError: the folder or a file in it is missing or damaged.
    """
    folder = Path(folder)
    index = read_json(folder / INDEX)
    try:
        count, ends = int(index["vectors"]), (index["input"], index["output"])
        limit = index["tolerance"]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / INDEX}: lacks the field {error}; write it again") from error
    problems = []
    for number in range(count):
        fed, expected = (_load(folder, end, number) for end in ends)
        problem = _compare(np.asarray(predict(fed)), expected, ends[1], limit)
        if problem:
            problems.append(f"vector {number}: {problem}")
    return problems


class _Runner:
    """One signature of a file, in the types of its tensors."""

    def __init__(self, data: bytes, name: str) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError as error:
            raise ModelError(INSTALL_HINT) from error
        self.kernels = "default"
        try:
            interpreter = Interpreter(model_content=data)
            if any(d["dtype"] != np.float32 for d in interpreter.get_input_details()):
                self.kernels = "reference"
                interpreter = Interpreter(
                    model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
                )
            signatures = list(interpreter.get_signature_list())
            if len(signatures) != 1:
                raise ModelError(f"{name}: must have one signature. Received: {signatures}")
            self._run = interpreter.get_signature_runner(signatures[0])
        except (ValueError, RuntimeError) as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"{name}: LiteRT cannot run it ({line})") from error
        self.input_name, self.input = _only(self._run.get_input_details(), name, "input")
        self.output_name, self.output = _only(self._run.get_output_details(), name, "output")

    def __call__(self, array: np.ndarray) -> np.ndarray:
        return np.array(self._run(**{self.input_name: array})[self.output_name])


def _checked(inputs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(inputs)
    if values.ndim != len(shape) or values.shape[1:] != shape[1:] or len(values) == 0:
        raise ExportError(
            f"`inputs` must have shape (vectors, {', '.join(map(str, shape[1:]))}), at least one "
            f"vector. Received: shape {values.shape}"
        )
    if not np.issubdtype(values.dtype, np.floating) or not np.isfinite(values).all():
        raise ExportError(
            f"`inputs` must be finite real values, also for integer files. Received: {values.dtype}"
            f" with {int(np.sum(~np.isfinite(values)))} that are not finite"
        )
    return values.astype(np.float32)


def _end(name: str, detail: dict[str, Any], folder: str) -> dict[str, Any]:
    dtype = np.dtype(detail["dtype"])
    scale, zero_point = detail["quantization"]
    integer = dtype.kind != "f"
    return {
        "name": name,
        "folder": f"{folder}/{name}",
        "dtype": dtype.name,
        "shape": [int(n) for n in detail["shape"]],
        "scale": float(scale) if integer else None,
        "zero_point": int(zero_point) if integer else None,
    }


def _tolerance(
    data: bytes, precision: str | None, detail: dict[str, Any], outputs: np.ndarray
) -> dict[str, Any]:
    """How far another implementation may be off: in steps, or in the output's own unit."""
    if np.dtype(detail["dtype"]).kind != "f":
        return {"steps": _STEPS, "absolute": float(_STEPS * detail["quantization"][0])}
    step = _output_step(data)
    if step is not None:  # integer inside, float ends
        return {"steps": None, "absolute": _STEPS * step}
    peak = float(np.abs(outputs).max())
    relative = _RELATIVE.get(precision or "float32", _RELATIVE["float32"])
    return {"steps": None, "absolute": relative * (peak if relative < 1e-4 else max(1.0, peak))}


def _label_tolerance(precision: str | None) -> dict[str, Any]:
    """Which share of a label map's numbers another implementation must give; the rest is free."""
    share = _EQUAL_LABELS.get(precision or "float32", _EQUAL_LABELS_OTHERS)
    return {"steps": None, "absolute": None, "equal": share}


def _output_step(data: bytes) -> float | None:
    """Scale of the integer tensor that a last DEQUANTIZE turns into the output."""
    from ai_edge_litert import schema_py_generated as schema

    tree = parse_model(data)
    graph = tree.subgraphs[0]
    for operator in graph.operators:
        code = tree.operatorCodes[operator.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        if graph.outputs[0] in list(operator.outputs):
            scales = graph.tensors[operator.inputs[0]].quantization
            if builtin == schema.BuiltinOperator.DEQUANTIZE and scales is not None:
                return None if scales.scale is None else float(scales.scale[0])
    return None


def _write(
    final: Path, index: dict[str, Any], inputs: list[np.ndarray], outputs: list[np.ndarray]
) -> None:
    """Writes a folder beside `final` that then takes its place: complete or not at all."""
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        for end, arrays in ((index["input"], inputs), (index["output"], outputs)):
            (temporary / end["folder"]).mkdir(parents=True)
            for number, array in enumerate(arrays):
                stem = temporary / end["folder"] / str(number)
                little = array.astype(array.dtype.newbyteorder("<"))
                np.save(stem.with_suffix(".npy"), little)
                stem.with_suffix(".bin").write_bytes(little.tobytes())
        write_json(temporary / INDEX, index)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
    except OSError as error:
        raise OutputError(
            f"{final}: cannot be written ({error.strerror or error}); choose another place"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(folder: Path, end: dict[str, Any], number: int) -> np.ndarray:
    path = folder / end["folder"] / f"{number}.npy"
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); write the vectors again") from error
    if list(array.shape) != end["shape"] or array.dtype != np.dtype(end["dtype"]):
        raise ModelError(
            f"{path}: must be {end['dtype']} of shape {end['shape']}. Received: {array.dtype} of "
            f"shape {list(array.shape)}; write the vectors again"
        )
    return array


def _compare(
    got: np.ndarray, expected: np.ndarray, end: dict[str, Any], limit: dict[str, Any]
) -> str | None:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return (
            f"output must be {expected.dtype} of shape {expected.shape}. Received: {got.dtype} of "
            f"shape {got.shape}"
        )
    error = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    if not np.isfinite(error).all():
        return f"output has {int(np.sum(~np.isfinite(got)))} values that are not finite"
    if limit.get("equal") is not None:
        share = float(np.mean(got == expected))
        few = f"{end['name']} has {share:.2%} of the labels (at least {limit['equal']:.2%})"
        return None if share >= limit["equal"] else few
    unit, bound = ("steps", limit["steps"]) if limit["steps"] is not None else ("", None)
    bound = limit["absolute"] if bound is None else bound
    if float(error.max()) <= bound:
        return None
    return (
        f"{end['name']} is off by up to {error.max():.4g} {unit}".rstrip()
        + f" at {tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))}"
        f" (at most {bound:.4g})"
    )
