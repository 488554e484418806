"""Each callback on its own, in plain `model.fit`."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from rich.console import Console

from tfspec.errors import ConfigError, TrainingError
from tfspec.training.reproducibility import set_seeds


def test_callbacks_in_plain_keras(tiny, tmp_path):
    from tfspec.training import callbacks as module

    output = io.StringIO()
    console = Console(file=output, width=120)
    callbacks = [
        module.NanGuard(),
        module.ProgressBar(2, console=console),
        module.HistoryCsv(tmp_path / "history.csv"),
        module.TensorBoardScalars(tmp_path / "logs"),
    ]
    model = tiny.tiny_model()
    history = model.fit(
        *tiny.arrays(0),
        batch_size=4,
        epochs=2,
        validation_data=tiny.validation_data(),
        callbacks=callbacks,
        verbose=0,
    ).history
    callbacks[-1].close()
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == history["val_loss"]
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert re.match(r"epoch 1/2  loss \S+  mse \S+  val_loss \S+ .* s  0:00:0\d left", lines[0])
    assert "left" not in lines[1]
    assert list((tmp_path / "logs" / "train").iterdir())


def test_nan_guard_in_plain_keras(tiny):
    from tfspec.training.callbacks import NanGuard

    x, y = tiny.arrays(0)
    x[9, 0] = np.inf
    guard = NanGuard(lambda epoch, step: [f"batch {epoch} {step}"])
    with pytest.raises(TrainingError, match=r"epoch 1, step 3: .* comes from batch 0 2;"):
        tiny.tiny_model().fit(x, y, batch_size=4, shuffle=False, callbacks=[guard], verbose=0)
    # Four batches per call of the graph: the guard can only name all four.
    model = tiny.tiny_model(steps_per_execution=4)
    with pytest.raises(TrainingError, match=r"step 1 to 4: .* from batch 0 0, .* batch 0 3;"):
        model.fit(x, y, batch_size=4, shuffle=False, callbacks=[guard], verbose=0)


def test_progress_line_on_a_terminal(tiny):
    from tfspec.training.callbacks import ProgressBar

    output = io.StringIO()
    console = Console(file=output, width=120, force_terminal=True, color_system=None)
    bar = ProgressBar(1, console=console)
    bar.set_params({"steps": 8})
    with bar:
        bar.on_train_begin()
        bar.on_epoch_begin(0)
        for batch in range(4):
            bar.on_train_batch_end(batch, {"loss": 0.25})
        bar._bar.refresh()
        bar.on_test_begin()
        bar._bar.refresh()
    text = output.getvalue()
    assert re.search(r"epoch 1/1 .*4/8 loss 0\.25 0:00:00 left", text)
    assert "epoch 1/1 validation" in text


def test_tensorboard_missing_is_said(tmp_path, monkeypatch):
    from tfspec.training.callbacks import TensorBoardScalars

    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        TensorBoardScalars(tmp_path)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
def test_seeds_out_of_range(seed):
    with pytest.raises(ConfigError, match="seed: must be an integer from 0"):
        set_seeds(seed)


def test_seeds_make_equal_models(tiny):
    built = []
    for _ in range(2):
        set_seeds(11, deterministic=False)
        built.append(tiny.tiny_model().get_weights())
    for a, b in zip(*built, strict=True):
        np.testing.assert_array_equal(a, b)
