"""A tiny training with everything that a checkpoint must hold; tests import it or run it.

As a script: `python tiny_run.py FOLDER SECONDS_PER_BATCH CHECKPOINT_SECONDS` trains to the end
or continues, and writes the last weights to `FOLDER/weights.npz`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from tfspec.training.fit import fit
from tfspec.training.reproducibility import set_seeds
from tfspec.training.run import RunFolder

EPOCHS = 3
STEPS = 8
BATCH = 4
RECORD: dict[str, Any] = {
    "recipe": {"learning_rate": 0.01, "epochs": EPOCHS, "stft": {"n_fft": 1024}},
    "task": "separation",
    "front_end": {"sample_rate": 11025},
    "targets": ("vocals",),
    "data": {"name": "synth", "licence": "CC0"},
    "seed": 7,
}


def tiny_model(**compile_options: Any) -> keras.Model:
    """Dense layers with batch normalisation, dropout and Adam: each kind of state once."""
    inputs = keras.Input((6,), name="input")
    x = keras.layers.Dense(8, name="dense")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(0.3, name="drop")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x), name="tiny")
    options = {"optimizer": keras.optimizers.Adam(0.01), "loss": "mae", "metrics": ["mse"]}
    model.compile(**{**options, **compile_options})
    return model


def arrays(seed: int, examples: int = STEPS * BATCH) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (examples, 6) and targets (examples, 2)."""
    x = np.random.default_rng(seed).normal(size=(examples, 6)).astype(np.float32)
    return x, x[:, :2] * 0.5 + x[:, 2:4] ** 2


def epoch_data(epoch: int) -> tf.data.Dataset:
    """8 batches of 4, other ones in every epoch, of a size that tf.data cannot know."""
    data = tf.data.Dataset.from_tensor_slices(arrays(100 + epoch))
    data = data.shuffle(64, seed=epoch, reshuffle_each_iteration=False)
    return data.filter(lambda x, y: tf.constant(True)).batch(BATCH).prefetch(1)


def validation_data() -> tf.data.Dataset:
    """2 batches of 8."""
    return tf.data.Dataset.from_tensor_slices(arrays(99, 16)).batch(8)


def state(model: keras.Model) -> list[np.ndarray]:
    """Every variable of model and optimizer."""
    return [np.array(v) for v in [*model.variables, *model.optimizer.variables]]


def main(folder: Path, seconds_per_batch: float, checkpoint_seconds: float) -> None:
    """Trains or continues in `folder`."""
    set_seeds(7)

    def slow(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def wait(value: np.ndarray) -> np.ndarray:
            time.sleep(seconds_per_batch)
            return value

        same = tf.numpy_function(wait, [x], tf.float32)
        same.set_shape(x.shape)
        return same, y

    def data(epoch: int) -> tf.data.Dataset:
        return epoch_data(epoch).map(slow) if seconds_per_batch else epoch_data(epoch)

    model = tiny_model()
    fit(
        model,
        run=RunFolder.create(folder, **RECORD),
        epoch_data=data,
        validation=validation_data(),
        epochs=EPOCHS,
        checkpoint_seconds=checkpoint_seconds,
    )
    np.savez(folder / "weights.npz", *state(model))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
