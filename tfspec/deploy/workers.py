"""Processes of their own for native code that was seen to crash and to hang.

A request is a JSON object with the `folder` that both sides work in and the `parent` process. The
worker notes in `current` what it is doing, and writes to `log` whatever its libraries print.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any


def run_worker_module(module: str, request: dict[str, Any], time_limit: float) -> int:
    """Runs `python -m module REQUEST` and returns its exit status.

    Args:
        module: full name of the module.
        request: JSON values; see above.
        time_limit: seconds until the process is stopped.

    Raises:
        subprocess.TimeoutExpired: it did not finish.
    """
    folder = Path(request["folder"])
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    command = [sys.executable, "-m", module, str(folder / "request.json")]
    with (folder / "log").open("wb") as log:
        return subprocess.run(
            command, stdout=log, stderr=log, env=environment, timeout=time_limit
        ).returncode


def current_step(folder: Path) -> str:
    """What the worker was doing last."""
    current = folder / "current"
    return current.read_text(encoding="utf-8") if current.exists() else "starting"


def cause_of_end(folder: Path, status: int) -> str:
    """Why a worker that left no error of its own ended: a signal, or its last line."""
    if status < 0:
        return f"crashed ({signal.Signals(-status).name})"
    lines = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"stopped with status {status} ({lines[-1] if lines else 'no message'})"


def end_with(parent: int) -> None:
    """Ends this process, from now on, when its parent is gone: nobody waits for the result."""

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
