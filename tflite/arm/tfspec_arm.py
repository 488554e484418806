"""What both runners share: the model and its description, WAV files, and figures to print.

Needs NumPy and the LiteRT wheel (`ai-edge-litert`); neither TensorFlow, Keras nor tfspec.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
import wave
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

METADATA = "tfspec.json"
_PCM_BYTES = {8: 1, 16: 2, 24: 3, 32: 4}


class RunnerError(Exception):
    """Something the user can mend; printed as one line."""


def main_of(run: Callable[[list[str]], None]) -> int:
    """Runs a program, with one line on standard error instead of a traceback; its exit status."""
    try:
        run(sys.argv[1:])
    except RunnerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


class Model:
    """A .tflite that `tfspec export` wrote, called with real values.

    Args:
        path: the file.
        num_threads: of one inference.

    Attributes:
        metadata: the embedded `tfspec.json`.
        labels: class names, from the description or the zipped label file; may be empty.
        input_shape: `(1, ...)`.
        output_shape: `(1, ...)`.
        seconds: time of each call so far.

    Raises:
        RunnerError: missing, damaged, without description, or LiteRT is not installed.
    """

    def __init__(self, path: str, num_threads: int) -> None:
        self.path = path
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise RunnerError(f"{path}: cannot be read ({error.strerror})") from error
        if data[4:8] != b"TFL3":
            raise RunnerError(f"{path}: is not a .tflite file")
        self.metadata = _metadata(data, path)
        self.labels = self._labels(data)
        self._run = _signature(data, path, num_threads)
        self._input_name, self._input = _only(self._run.get_input_details(), path, "input")
        self._output_name, self._output = _only(self._run.get_output_details(), path, "output")
        self.input_shape = tuple(int(n) for n in self._input["shape"])
        self.output_shape = tuple(int(n) for n in self._output["shape"])
        self.seconds: list[float] = []

    @property
    def front_end(self) -> dict[str, Any]:
        """How the input is made from audio, as exported."""
        front_end = self.metadata.get("front_end")
        return front_end if isinstance(front_end, dict) else {}

    @property
    def task(self) -> str | None:
        """`separation`, `segmentation`, `classification` or another."""
        return self.front_end.get("task") or self.metadata.get("task")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Runs one segment of shape `input_shape`; float32 of shape `output_shape`."""
        fed = _quantize(values, self._input)
        start = time.perf_counter()
        result = self._run(**{self._input_name: fed})[self._output_name]
        self.seconds.append(time.perf_counter() - start)
        return _dequantize(result, self._output)

    def _labels(self, data: bytes) -> list[str]:
        labels = self.metadata.get("labels") or self.front_end.get("labels") or []
        if not labels and zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = [name for name in archive.namelist() if name.endswith(".txt")]
                labels = archive.read(names[0]).decode("utf-8").splitlines() if names else []
        return [str(label) for label in labels]


def _metadata(data: bytes, path: str) -> dict[str, Any]:
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise RunnerError("LiteRT is missing; run: pip install ai-edge-litert") from error
    try:
        model = schema.Model.GetRootAs(data, 0)
        for index in range(model.MetadataLength()):
            entry = model.Metadata(index)
            if entry.Name() == METADATA.encode():
                description = json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
                return dict(description)
    except Exception as error:
        # The generated reader checks nothing: damage shows as whatever error comes first.
        raise RunnerError(f"{path}: is damaged (its tables do not parse)") from error
    raise RunnerError(f"{path}: has no {METADATA}; use a file that `tfspec export` wrote")


def _signature(data: bytes, path: str, num_threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    if num_threads < 1:
        raise RunnerError(f"--threads must be at least 1. Received: {num_threads}")
    try:
        interpreter = Interpreter(model_content=data, num_threads=num_threads)
        return interpreter.get_signature_runner()
    except (ValueError, RuntimeError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunnerError(f"{path}: LiteRT cannot run it ({line})") from error


def _only(details: dict[str, Any], path: str, role: str) -> tuple[str, dict[str, Any]]:
    if len(details) != 1:
        raise RunnerError(f"{path}: must have one {role}. Received: {sorted(details)}")
    return next(iter(details.items()))


def _quantize(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    dtype = np.dtype(detail["dtype"])
    if dtype.kind == "f":
        return np.ascontiguousarray(values, dtype)
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(dtype)
    steps = np.round(values.astype(np.float32) / scale) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(dtype)


def _dequantize(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if values.dtype.kind == "f" or scale == 0:  # no scale: numbers of classes
        return np.array(values, np.float32)
    return (values.astype(np.float32) - zero_point) * np.float32(scale)


class WavReader:
    """A PCM WAV file of any length, read by position.

    Args:
        path: WAV of 8, 16, 24 or 32-bit integers.

    Raises:
        RunnerError: missing, not PCM WAV, or cut off.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = wave.open(path, "rb")  # noqa: SIM115  closed by __exit__
        except OSError as error:
            raise RunnerError(f"{path}: cannot be read ({error.strerror})") from error
        except (wave.Error, EOFError) as error:
            raise RunnerError(
                f"{path}: is not a PCM WAV file ({error}); convert it: "
                "ffmpeg -i IN -c:a pcm_s16le OUT.wav"
            ) from error
        self.sample_rate = self._file.getframerate()
        self.channels = self._file.getnchannels()
        self.n_samples = self._file.getnframes()
        self._width = self._file.getsampwidth()

    def __enter__(self) -> WavReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start .. stop`, float32 `(samples, channels)`; zeros outside the file."""
        first, last = (min(max(edge, 0), self.n_samples) for edge in (start, stop))
        self._file.setpos(first)
        raw = self._file.readframes(last - first)
        if len(raw) != (last - first) * self._width * self.channels:
            raise RunnerError(f"{self.path}: is cut off; its header promises more samples")
        samples = _from_pcm(raw, self._width).reshape(-1, self.channels)
        whole = np.zeros((stop - start, self.channels), np.float32)
        whole[max(first - start, 0) :][: len(samples)] = samples
        return whole


def _from_pcm(raw: bytes, width: int) -> np.ndarray:
    if width == 1:  # the only unsigned format
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:
        spread = np.zeros((len(raw) // 3, 4), np.uint8)
        spread[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return (spread.view("<i4")[:, 0] >> 8).astype(np.float32) / 2**23
    return np.frombuffer(raw, f"<i{width}").astype(np.float32) / 2 ** (8 * width - 1)


class WavWriter:
    """Writes a PCM WAV file; used inside `wav_writers`."""

    def __init__(self, path: Path, sample_rate: int, channels: int, bits: int) -> None:
        self._steps, self._width = 2 ** (bits - 1), _PCM_BYTES[bits]
        self._file = wave.open(str(path), "wb")  # noqa: SIM115  closed by close
        self._file.setframerate(sample_rate)
        self._file.setnchannels(channels)
        self._file.setsampwidth(self._width)

    def write(self, samples: np.ndarray) -> np.ndarray:
        """Writes `(samples, channels)` in [-1, 1] and returns the values after rounding."""
        steps = np.round(samples.astype(np.float64) * self._steps)
        steps = steps.clip(-self._steps, self._steps - 1).astype("<i4")
        raw = steps[..., None].view(np.uint8)[..., : self._width]
        self._file.writeframes(raw.tobytes())
        return (steps / self._steps).astype(np.float32)

    def close(self) -> None:
        """Completes the header."""
        self._file.close()


@contextlib.contextmanager
def wav_writers(
    paths: list[Path], sample_rate: int, channels: int, bits: int
) -> Iterator[list[WavWriter]]:
    """Files that appear together when the block succeeds, and not at all otherwise.

    Raises:
        RunnerError: a file cannot be written.
    """
    partial = [path.with_name(f".{path.name}.{os.getpid()}.partial") for path in paths]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        writers = [WavWriter(path, sample_rate, channels, bits) for path in partial]
        try:
            yield writers
        finally:
            for writer in writers:
                writer.close()
        for temporary, path in zip(partial, paths, strict=True):
            os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunnerError(f"{paths[0].parent}: cannot be written ({reason})") from error
    finally:
        for temporary in partial:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def peak_memory_mb() -> float:
    """Greatest resident memory of this program so far (Linux).

    Not `ru_maxrss`: a program inherits that from the one that started it.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RunnerError("/proc/self/status: no VmHWM line; this program needs Linux")


def figures(model: Model, audio_seconds: float, elapsed: float) -> str:
    """One line: speed, latency of the network, and peak memory of this process."""
    peak = peak_memory_mb()
    least, mean = 1e3 * min(model.seconds), 1e3 * sum(model.seconds) / len(model.seconds)
    return (
        f"{audio_seconds:.2f} s of audio in {elapsed:.2f} s "
        f"({audio_seconds / elapsed:.1f} x real time); network: {len(model.seconds)} calls, "
        f"least {least:.2f} ms, mean {mean:.2f} ms; peak memory {peak:.0f} MB"
    )
