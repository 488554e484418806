"""`tflite/convert_arm.py` and `convert_micro.py` as a user runs them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfspec.deploy.targets import device_folder

FRONT_END = {"stft": {"sample_rate": 8000, "n_fft": 128, "hop_length": 64}, "segment_frames": 32}


def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(device_folder() / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def model(unet, segments, tmp_path_factory):
    """The test's network, its calibration data and its front end as files."""
    folder = tmp_path_factory.mktemp("model")
    unet.save(folder / "unet.keras")
    np.save(folder / "segments.npy", segments)
    (folder / "front_end.json").write_text(json.dumps(FRONT_END))
    return folder


@pytest.mark.slow
def test_arm(model, tmp_path):
    done = run(
        *("convert_arm.py", model / "unet.keras", "--out", tmp_path / "out"),
        *("--calibration", model / "segments.npy", "--precision", "float32"),
    )
    assert done.returncode == 0, done.stderr
    assert "model_float32.tflite: " in done.stdout and "dB SNR against Keras" in done.stdout
    assert (tmp_path / "out" / "CARD.md").is_file()


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None, reason="needs the extra `micro`"
)
def test_micro(model, tmp_path):
    done = run(
        *("convert_micro.py", model / "unet.keras", "--out", tmp_path / "out"),
        *("--calibration", model / "segments.npy", "--front-end", model / "front_end.json"),
        *("--target", "cortex-m7", "--max-flash", "1M"),
    )
    assert done.returncode == 0, done.stderr
    assert " KB RAM, " in done.stdout
    assert (tmp_path / "out" / "c" / "full_int8" / "tfspec_model.h").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("convert_arm.py", [], "needs --calibration"),
        ("convert_arm.py", ["--target", "cortex-m7"], "is for tflm; use convert_micro.py"),
        ("convert_micro.py", ["--target", "android"], "is for litert; use convert_arm.py"),
        ("convert_micro.py", ["--max-arena", "0"], "budget of zero"),
        ("convert_micro.py", ["--calibration", "nothing.npy"], "nothing.npy"),
    ],
)
def test_mistakes_are_one_line(model, tmp_path, script, arguments, message):
    done = run(script, model / "unet.keras", "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ") and message in line
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()
