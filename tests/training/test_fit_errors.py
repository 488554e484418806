"""What `fit` refuses, and how it says so."""

from __future__ import annotations

import math

import pytest

from tfspec.errors import ConfigError, TrainingError


def test_other_models_and_damaged_checkpoints_are_named(tiny, train, tmp_path):
    train(tmp_path, epochs=1)
    sgd = tiny.tiny_model(optimizer="sgd")
    with pytest.raises(TrainingError, match=r"optimizer variables.*another model"):
        train(tmp_path, sgd)
    wide = tiny.keras.Sequential([tiny.keras.Input((6,)), tiny.keras.layers.Dense(2)])
    wide.compile("adam", "mae", metrics=["mse"])
    with pytest.raises(TrainingError, match="belongs to another model"):
        train(tmp_path, wide)
    checkpoint = tmp_path / "checkpoints" / "last.npz"
    whole = checkpoint.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"PK" + whole[2:900]):
        checkpoint.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"last\.npz: is no usable checkpoint"):
            train(tmp_path)
    checkpoint.unlink()
    with pytest.raises(TrainingError, match=r"holds model\.keras but no last\.npz"):
        train(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: must be at least 1; received 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch: must be at least 1 or None"),
        ({"mode": "up"}, "mode: must be 'min' or 'max'; received 'up'"),
        ({"checkpoint_seconds": -1}, "checkpoint_seconds: must be at least 0"),
        ({"checkpoint_seconds": math.nan}, "checkpoint_seconds: must be at least 0"),
        ({"monitor": "val_sdr"}, r"monitor: must be one of \['loss', 'mse'\]"),
    ],
)
def test_bad_arguments(train, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, **options)


def test_uncompiled_models_and_empty_data(tiny, train, tmp_path):
    model = tiny.keras.Sequential([tiny.keras.Input((6,)), tiny.keras.layers.Dense(2)])
    with pytest.raises(ConfigError, match="must be compiled"):
        train(tmp_path, model)
    with pytest.raises(TrainingError, match=r"epoch_data\(0\): gave no batch"):
        train(tmp_path, epoch_data=lambda epoch: tiny.epoch_data(epoch).take(0))
