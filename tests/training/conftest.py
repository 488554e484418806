"""Fixtures for training tests."""

from __future__ import annotations

import importlib.util
import sys
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
