"""A process killed with SIGKILL inside an epoch, and run again, ends like one that was not."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("tiny_run.py")
ROOT = Path(__file__).parents[2]


def start(folder: Path, seconds_per_batch: float, checkpoint_seconds: float) -> subprocess.Popen:
    # One thread, as the promise of equal bits needs deterministic sums.
    one_thread = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    environment = {**os.environ, **one_thread, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), str(folder)]
    return subprocess.Popen(
        [*command, str(seconds_per_batch), str(checkpoint_seconds)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen) -> str:
    _, messages = child.communicate(timeout=120)
    assert child.returncode == 0, messages
    return messages


def position(folder: Path) -> tuple[int, int]:
    """Epoch and step of the checkpoint on disk."""
    with zipfile.ZipFile(folder / "checkpoints" / "last.npz") as archive:
        meta = np.lib.format.read_array(archive.open("meta.npy"))
    place = json.loads(meta.tobytes())["position"]
    return place["epoch"], place["step"]


def kill_at(child: subprocess.Popen, folder: Path, place: tuple[int, int]) -> None:
    """Kills the child as soon as its checkpoint has reached a place."""
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "last.npz").exists() or position(folder) < place:
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL


def result(folder: Path) -> tuple[list[dict[str, str]], list[np.ndarray]]:
    with (folder / "history.csv").open(newline="") as file:
        rows = [{k: v for k, v in r.items() if k != "seconds"} for r in csv.DictReader(file)]
    with np.load(folder / "weights.npz") as archive:
        return rows, [archive[name] for name in archive.files]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint_seconds", "kills"),
    [(0.0, [(1, 3)]), (0.25, [(0, 2), (1, 2)])],
    ids=["every batch", "every quarter second, twice"],
)
def test_sigkill_inside_an_epoch(tmp_path, checkpoint_seconds, kills):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = start(whole, 0.0, 120.0)
    for place in kills:
        kill_at(start(killed, 0.1, checkpoint_seconds), killed, place)
        epoch, step = position(killed)
        assert 0 < step < 8, "the kill was meant for the midst of an epoch"
    messages = finish(start(killed, 0.0, checkpoint_seconds))
    assert f"continuing at epoch {epoch + 1}, step {step + 1}" in messages
    finish(uninterrupted)
    rows, weights = result(killed)
    expected_rows, expected_weights = result(whole)
    assert len(rows) == 3
    assert rows == expected_rows
    for a, b in zip(weights, expected_weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list(killed.rglob("*.partial*"))
