"""Fixtures for training tests."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TINY_RUN = Path(__file__).with_name("tiny_run.py")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module `tiny_run`, which is also run as a script."""
    spec = importlib.util.spec_from_file_location("tiny_run", TINY_RUN)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_run"] = module  # AutoGraph looks functions' modules up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C works: a test run started in the background inherits an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def train(tiny: ModuleType) -> Any:
    """Calls `fit` on tiny data; keyword arguments replace the usual ones."""
    from tfspec.training.fit import fit
    from tfspec.training.run import RunFolder

    def call(folder: Path, model: Any = None, **options: Any) -> Any:
        if model is None:
            tiny.keras.utils.set_random_seed(3)
            model = tiny.tiny_model()
        usual = {
            "epoch_data": tiny.epoch_data,
            "validation": tiny.validation_data(),
            "epochs": tiny.EPOCHS,
            "verbose": False,
        }
        run = RunFolder.create(folder, **tiny.RECORD)
        return model, fit(model, run=run, **{**usual, **options})

    return call
