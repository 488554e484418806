"""The verbs of segmentation as a user meets them: one-line errors, exit statuses, end to end."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.segmentation.small_spectrograms import SIZE, blocks, recipe


def tfspec(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from tfspec.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd or ROOT, env=environment)


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """The error message: one line, no traceback, exit status 2."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    from tfspec.segmentation.train import train

    folder = tmp_path_factory.mktemp("cli") / "run"
    train("radio:48", folder, recipe(epochs=1), cache=folder.parent / "cache", verbose=False)
    return folder


def test_help_needs_no_tensorflow():
    script = (
        "import sys, typer\n"
        "from tfspec.cli_segmentation import register\n"
        "app, train = typer.Typer(), typer.Typer()\n"
        "register(app, train)\n"
        "app.add_typer(train, name='train')\n"
        "from typer.testing import CliRunner\n"
        "for words in (['segment', '--help'], ['train', 'segmentation', '--help']):\n"
        "    done = CliRunner().invoke(app, words)\n"
        "    assert done.exit_code == 0, done.output\n"
        "    print(done.output)\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "--sample-rate" in done.stdout and "--class-weights" in done.stdout


def test_segment_and_a_bad_file(run, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (SIZE, SIZE), np.uint8)).save(tmp_path / "p.png")
    samples = rng.integers(-999, 999, 2 * 76_800, np.int16)
    samples.tofile(tmp_path / "iq.cs16")
    (tmp_path / "cut.cs16").write_bytes(samples.tobytes()[:-1])
    done = tfspec(
        *("segment", tmp_path / "p.png", tmp_path / "iq.cs16", tmp_path / "cut.cs16"),
        *("--model", run, "--out", tmp_path / "out", "--sample-rate", "15.36e6"),
    )
    assert "cut.cs16: its 307199 bytes" in one_error(done)
    for name in ("p", "iq"):
        for file in ("overlay.png", "labels.png", "labels.npy", "regions.csv"):
            assert (tmp_path / "out" / name / file).exists()
            assert str(tmp_path / "out" / name / file) in done.stdout
        assert np.load(tmp_path / "out" / name / "labels.npy").shape == (SIZE, SIZE)
    with (tmp_path / "out" / "iq" / "regions.csv").open(newline="") as file:
        assert next(csv.reader(file))[:3] == ["class", "start_ms", "stop_ms"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "segmentation", "--out", "OUT", "--preset", "huge"], "'huge'"),
        (["train", "segmentation", "--out", "OUT", "--data", "nowhere"], "nowhere"),
        (["train", "segmentation", "--out", "OUT", "--loss", "l3"], "'l3'"),
        (["train", "segmentation", "--out", "OUT", "--class-weights", "1,x"], "'1,x'"),
        (["segment", "x.png", "--model", "missing", "--out", "OUT"], "no such model"),
        (["segment", "x.png", "--model", "m", "--out", "OUT", "--min-pixels", "0"], "min_pixels"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    places = {"OUT": str(tmp_path / "out")}
    done = tfspec(*(places.get(a, a) for a in arguments), cwd=tmp_path)
    assert message in one_error(done)


def test_a_separation_model_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    metadata = {"task": "separation", "front_end": {"task": "separation"}}
    (tmp_path / "run" / "tfspec.json").write_text(json.dumps(metadata))
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.save(tmp_path / "run" / "model.keras")
    done = tfspec("segment", "x.png", "--model", tmp_path / "run", "--out", tmp_path / "out")
    assert "is a model for 'separation'" in one_error(done)


def test_evaluate_and_report(run, tmp_path, capsys, monkeypatch):
    """The functions that `tfspec evaluate` and `tfspec report` call for this task."""
    from tfspec import cli_segmentation

    cache = tmp_path / "cache"
    cli_segmentation.evaluate(
        [run], data="radio:48", split="validation", cache=cache, out=tmp_path / "scores"
    )
    printed = capsys.readouterr().out
    assert "| run |" in printed and "SNR from dB" in printed
    assert (tmp_path / "scores" / "scores.json").exists()
    cli_segmentation.report(run, data="radio:48", cache=cache, out=tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Scores on radio:48" in page and "mean class accuracy" in page
    assert page.count("data:image/png") == 6  # SNR, good, bad, latency, loss, IoU
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["latency_ms"]["Keras"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "RUN", "--share", "ratio"], "--share is not for segmentation models"),
        (["export", "RUN", "--waveform", "fixed"], "--waveform is not for segmentation models"),
        (["export", "RUN", "--output", "masks"], "`output` must be one of"),
        (["report", "RUN", "--song", "x"], "--song is not for segmentation models"),
        (["report", "RUN", "--model", "RUN"], "--model needs --data"),
        (["evaluate", "x.tflite"], "x.tflite: no such model"),
        (["evaluate", "NOTES"], "notes.txt: is not a model"),
        (["export", "ODD"], "is a model for 'cooking', which this tfspec does not know"),
    ],
)
def test_what_another_task_has(run, tmp_path, arguments, message):
    (tmp_path / "notes.txt").write_text("x")
    shutil.copytree(run, tmp_path / "odd")
    (tmp_path / "odd" / "tfspec.json").write_text('{"task": "cooking"}')
    places = {"RUN": run, "NOTES": tmp_path / "notes.txt", "ODD": tmp_path / "odd"}
    done = tfspec(*(places.get(a, a) for a in arguments), cwd=tmp_path)
    assert message in one_error(done)


@pytest.mark.slow
def test_train_export_and_segment_from_the_command_line(tmp_path):
    from tests.segmentation.test_data import picture_folder

    picture_folder(tmp_path / "set", count=12)
    done = tfspec(
        *("train", "segmentation", "--data", tmp_path / "set", "--out", tmp_path / "run"),
        *("--preset", "micro-64", "--height", 32, "--width", 32, "--channels", 3),
        *("--epochs", 1, "--batch-size", 4, "--cache", tmp_path / "cache", "--seed", 3),
    )
    assert done.returncode == 0, done.stderr
    assert "best val_mean_iou" in done.stdout
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["seed"] == 3
    done = tfspec(
        *("segment", tmp_path / "set" / "input" / "p0.png", "--model", tmp_path / "run"),
        *("--out", tmp_path / "out", "--no-pictures"),
    )
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "out" / "p0").iterdir())
    assert names == ["labels.npy", "regions.csv"]
    assert blocks(1, 0)[0].name == "blocks-0"
