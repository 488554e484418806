"""The process that runs TensorFlow Lite Micro: `python -m tfspec.deploy.micro_worker REQUEST`.

A process of its own because the interpreter is native code that hangs on some graphs and crashes
on others. Writes `outputs.npy` and `result.json` into the request's folder; on failure
`error.json` instead. What the native code says goes to the request's log.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfspec.deploy.workers import end_with

ALIGNMENT = 16  # of everything in an arena, bytes
# Untouched pages cost nothing. No microcontroller has a hundredth of this.
LARGEST_ARENA = 256 * 2**20


def main(request_path: str) -> int:
    """Runs what the JSON file at `request_path` says; returns the exit status."""
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    folder = Path(request["folder"])
    end_with(request["parent"])
    try:
        outputs, arena = _run(request)
    except Exception as error:
        report = {"message": f"{type(error).__name__}: {error}"}
        (folder / "error.json").write_text(json.dumps(report), encoding="utf-8")
        return 1
    np.save(folder / "outputs.npy", outputs)
    (folder / "result.json").write_text(json.dumps({"arena_bytes": arena}), encoding="utf-8")
    return 0


def _run(request: dict[str, Any]) -> tuple[np.ndarray, int]:
    data = Path(request["model"]).read_bytes()
    inputs = np.load(request["inputs"])
    current = Path(request["folder"], "current")
    current.write_text("preparing the model", encoding="utf-8")
    interpreter = _interpreter(data, LARGEST_ARENA)
    _check_ends(interpreter, inputs)
    arena = LARGEST_ARENA
    if request["measure_arena"]:
        hint = _recorded_bytes(interpreter, Path(request["log"]))
        current.write_text("measuring the arena", encoding="utf-8")
        limit = request["time_limit"]
        arena = smallest(lambda size: _prepares(data, size, limit), hint)
        # The outputs come from the arena that is reported: preparing alone proves little.
        interpreter = _interpreter(data, arena)
    outputs = []
    for index in range(len(inputs)):
        current.write_text(f"running input {index}", encoding="utf-8")
        interpreter.set_input(inputs[index : index + 1], 0)
        interpreter.invoke()
        outputs.append(np.array(interpreter.get_output(0)))
    return np.concatenate(outputs), arena


def _interpreter(data: bytes, arena: int) -> Any:
    from tflite_micro import runtime

    return runtime.Interpreter.from_bytes(data, arena_size=arena)


def _check_ends(interpreter: Any, inputs: np.ndarray) -> None:
    detail = interpreter.get_input_details(0)
    shape, dtype = tuple(int(n) for n in detail["shape"]), np.dtype(detail["dtype"])
    if inputs.shape[1:] != shape[1:] or shape[0] != 1 or inputs.dtype != dtype:
        raise ValueError(
            f"`inputs` must be {dtype} of shape (n, {', '.join(map(str, shape[1:]))}). "
            f"Received: {inputs.dtype} of shape {inputs.shape}"
        )


def _recorded_bytes(interpreter: Any, log: Path) -> int:
    """What the interpreter says it allocated; near the smallest arena, on either side of it."""
    interpreter.print_allocations()
    text = log.read_text(encoding="utf-8", errors="replace")
    totals = re.findall(r"Arena allocation total (\d+) bytes", text)
    return int(totals[-1]) if totals else ALIGNMENT


def _prepares(data: bytes, arena: int, limit: int) -> bool:
    """Whether an arena suffices, tried in a process of its own: some kernels crash for want of it.

    Forked, because importing the interpreter takes longer than preparing a model.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(limit)  # nobody else would end a child that hangs
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the log is for the real run
            _interpreter(data, arena)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def smallest(works: Callable[[int], bool], hint: int) -> int:
    """Finds the least size that works, a positive multiple of 16.

    Args:
        works: tells whether a size in bytes works; once true, true for all larger ones.
        hint: where to look first; the nearer the answer, the fewer calls.
    """
    size = max(1, -(-hint // ALIGNMENT)) * ALIGNMENT
    step = ALIGNMENT
    if works(size):
        high = size
        low = high - step
        while low > 0 and works(low):
            step *= 4
            high, low = low, max(low - step, 0)
    else:
        low, high = size, size + step
        while not works(high):
            step *= 4
            low, high = high, high + step
    while high - low > ALIGNMENT:
        middle = (low + high) // (2 * ALIGNMENT) * ALIGNMENT
        low, high = (low, middle) if works(middle) else (middle, high)
    return high


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
