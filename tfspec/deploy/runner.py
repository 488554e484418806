"""Running an exported .tflite with NumPy in and out.

Needs NumPy and the LiteRT wheel only; never TensorFlow, so that it works on small machines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfspec.deploy.metadata import INSTALL_HINT, read_bytes, read_metadata
from tfspec.errors import ModelError


class TfliteModel:
    """A .tflite written by `tfspec export`, called like a function.

    Args:
        path: the .tflite file.
        num_threads: threads of one inference; `None` leaves the choice to LiteRT (one).

    Attributes:
        path: the file, as given.
        metadata: the description embedded at export: `front_end`, `precision`, names and shapes.
        input_shape: `(1, ...)`, the batch axis included; export files are static.
        output_shape: likewise.
        input_name: name of the input in the signature.
        output_name: name of the output in the signature.

    Raises:
        ModelError: missing or damaged file, one without tfspec metadata, or one that LiteRT
            cannot run.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise ModelError(f"`num_threads` must be >= 1. Received: num_threads={num_threads}")
        self.path = path
        self.num_threads = num_threads
        data, name = read_bytes(path)
        self.metadata: dict[str, Any] = read_metadata(path)
        self._runner = _signature_runner(data, name, num_threads)
        self.input_name, self._input = _only(self._runner.get_input_details(), name, "input")
        self.output_name, self._output = _only(self._runner.get_output_details(), name, "output")
        self.input_shape = tuple(int(n) for n in self._input["shape"])
        self.output_shape = tuple(int(n) for n in self._output["shape"])

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Runs the segments of a batch one after the other.

        Integer files are fed and read through their scale and zero point, so that values mean
        the same for every precision.

        Args:
            batch: real array of shape `(segments, *input_shape[1:])`.

        Returns:
            float32 array of shape `(segments, *output_shape[1:])`.

        Raises:
            ModelError: the batch has another shape.
        """
        batch = np.asarray(batch)
        if batch.shape[1:] != self.input_shape[1:] or batch.ndim != len(self.input_shape):
            raise ModelError(
                f"{self.path}: expects segments of shape {self.input_shape[1:]} behind a batch "
                f"axis. Received: shape {batch.shape}"
            )
        outputs = np.empty((len(batch), *self.output_shape[1:]), np.float32)
        for index in range(len(batch)):
            fed = as_input(batch[index : index + 1], self._input)
            result = self._runner(**{self.input_name: fed})[self.output_name]
            outputs[index] = _dequantize(result, self._output)[0]
        return outputs


def _signature_runner(data: bytes, name: str, num_threads: int | None) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ModelError(INSTALL_HINT) from error
    try:
        interpreter = Interpreter(model_content=data, num_threads=num_threads)
        signatures = list(interpreter.get_signature_list())
        if len(signatures) != 1:
            raise ModelError(f"{name}: must have one signature. Received: {signatures}")
        return interpreter.get_signature_runner(signatures[0])
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{name}: LiteRT cannot run it ({_first_line(error)})") from error


def _only(details: dict[str, Any], name: str, role: str) -> tuple[str, dict[str, Any]]:
    if len(details) != 1:
        raise ModelError(f"{name}: must have one {role}. Received: {sorted(details)}")
    return next(iter(details.items()))


def quantize(values: np.ndarray, scale: float, zero_point: int, dtype: np.dtype[Any]) -> np.ndarray:
    """The integers that stand for real values: `value = scale * (integer - zero_point)`."""
    limits = np.iinfo(dtype)
    steps = np.round(values.astype(np.float32) / scale) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(dtype)


def as_input(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Real values as the tensor that LiteRT describes by `detail` takes them."""
    dtype = np.dtype(detail["dtype"])
    if dtype.kind == "f":
        return np.ascontiguousarray(values, dtype)
    scale, zero_point = detail["quantization"]
    return quantize(values, scale, zero_point, dtype)


def _dequantize(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    if values.dtype.kind == "f":
        return values
    scale, zero_point = detail["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def latency_ms(
    function: Callable[[np.ndarray], Any], batch: np.ndarray, *, seconds: float = 0.5
) -> float:
    """Measures the least time of one call, in milliseconds.

    The minimum is the figure least disturbed by whatever else the machine does.

    Args:
        function: what to call.
        batch: its argument, usually one segment.
        seconds: time spent measuring after one unmeasured call; at least three calls are made.
    """
    function(batch)
    best, calls, spent = float("inf"), 0, 0.0
    while calls < 3 or spent < seconds:
        start = time.perf_counter()
        function(batch)
        elapsed = time.perf_counter() - start
        best, calls, spent = min(best, elapsed), calls + 1, spent + elapsed
    return 1e3 * best
