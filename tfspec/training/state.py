"""The whole state of a training in one file: what a resumed run needs to go on bit for bit.

`checkpoints/last.npz` is an uncompressed NumPy archive with

    model/N      every model variable, in Keras' order: weights, batch-normalisation statistics and
                 the states of the seed generators that layers own (dropout, random augmentation)
    optimizer/N  step counter, learning rate, moments, loss scale
    metrics/N    running sums of the metrics of a started epoch
    meta         UTF-8 JSON: the place in the training (`Position`), and each variable's shape

It is written beside its final name, flushed to disk and renamed, so that a process killed at any
moment leaves either the old or the new file. It holds arrays and JSON only and is read without
pickle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfspec.errors import TrainingError
from tfspec.signal.files import atomic_path

if TYPE_CHECKING:
    import keras

_FORMAT = 1


@dataclasses.dataclass(kw_only=True)
class Position:
    """Where a training stands.

    Attributes:
        epoch: index of the current epoch, from 0; equals the number of finished epochs.
        step: batches already trained on in this epoch.
        steps_per_epoch: batches of a whole epoch, None until one has ended.
        seconds: time spent in this epoch so far.
        monitor: name and direction of the value that decides which epoch is best.
        best_epoch: index of the best epoch, None before the first has ended.
        rows: one record per finished epoch, as in `history.csv`.
    """

    epoch: int = 0
    step: int = 0
    steps_per_epoch: int | None = None
    seconds: float = 0.0
    monitor: str = "min val_loss"
    best_epoch: int | None = None
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class SavedState:
    """A checkpoint read back from disk.

    Args:
        path: file that `save_state` wrote.

    Raises:
        TrainingError: the file is damaged or of another version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                self._arrays = {name: archive[name] for name in archive.files}
            self._meta = json.loads(self._arrays.pop("meta").tobytes())
            if self._meta["format"] != _FORMAT:
                raise ValueError(f"format {self._meta['format']}, expected {_FORMAT}")
            self.position = Position(**self._meta["position"])
        # zipfile, zlib, struct and NumPy each have their own ways to say "damaged".
        except Exception as error:
            raise TrainingError(
                f"{self.path}: is no usable checkpoint ({type(error).__name__}: {error});"
                " delete it to train from the start"
            ) from error

    def restore(self, model: keras.Model) -> None:
        """Sets model and optimizer variables; the variables must exist (`create_variables`).

        Raises:
            TrainingError: the checkpoint is of another model or optimizer.
        """
        self._assign("model", model.variables)
        self._assign("optimizer", model.optimizer.variables)

    def restore_metrics(self, model: keras.Model) -> None:
        """Sets the metrics' running sums; call it after Keras has reset them."""
        self._assign("metrics", model.metrics_variables)

    def _assign(self, group: str, variables: Sequence[Any]) -> None:
        saved = self._meta["variables"][group]
        if len(saved) != len(variables):
            raise TrainingError(
                f"{self.path}: holds {len(saved)} {group} variables, this model has"
                f" {len(variables)}; it belongs to another model"
            )
        # Two passes: a mismatch must not leave the model half restored.
        for variable, (name, shape, dtype) in zip(variables, saved, strict=True):
            if list(variable.shape) != shape or variable.dtype != dtype:
                raise TrainingError(
                    f"{self.path}: {name} is {dtype}{shape}, this model's {variable.path} is"
                    f" {variable.dtype}{list(variable.shape)}; it belongs to another model"
                )
        for index, variable in enumerate(variables):
            array = self._arrays[f"{group}/{index}"]
            like = _array(variable)
            # Types that NumPy does not know (bfloat16) are stored as their bytes.
            variable.assign(array.view(like.dtype).reshape(like.shape))


def save_state(
    path: str | os.PathLike[str],
    model: keras.Model,
    position: Position,
    *,
    metrics: Sequence[np.ndarray] | None = None,
) -> None:
    """Writes a checkpoint atomically.

    Args:
        path: file to replace, `.npz`.
        model: a compiled model whose variables exist (`create_variables`).
        position: where the training stands.
        metrics: values of the metric variables; the current ones when None.

    Raises:
        TrainingError: a weight is NaN or infinite; the file on disk stays as it was.
        OutputError: the file cannot be written.
    """
    check_finite(model)
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    meta = {
        "format": _FORMAT,
        "position": dataclasses.asdict(position),
        "variables": {
            group: [[v.path, list(v.shape), str(v.dtype)] for v in variables]
            for group, variables in groups.items()
        },
    }
    arrays = {
        f"{group}/{index}": _storable(_array(variable))
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }
    for index, value in enumerate(metrics or ()):
        arrays[f"metrics/{index}"] = _storable(value)
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type,unused-ignore]
        file.flush()
        os.fsync(file.fileno())  # a power cut must not leave a renamed but empty file


def metric_values(model: keras.Model) -> list[np.ndarray]:
    """Copies of the metric variables, in the order in which `save_state` stores them."""
    return [_array(variable) for variable in model.metrics_variables]


def check_finite(model: keras.Model) -> None:
    """Raises TrainingError naming the first trainable weight that is NaN or infinite."""
    for variable in model.trainable_variables:
        # A sum is NaN or infinite when a value is, and needs no array of truth values.
        if not np.isfinite(np.sum(_array(variable), dtype=np.float64)):
            raise TrainingError(f"weight {variable.path} became NaN or infinite")


def create_variables(model: keras.Model, dataset: Any) -> None:
    """Makes every variable that training will hold, without training.

    Keras creates metric and optimizer variables inside the first training step; a checkpoint has to
    be taken or restored before it. Runs one forward pass with `training=False`, on zeros where the
    data set's shapes are known and on its first batch otherwise.

    Args:
        model: compiled model; built on return.
        dataset: `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)` batches.
    """
    import keras

    batch = _example_batch(dataset)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    y_pred = model(x, training=False)
    model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
    model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
    model.reset_metrics()
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


@contextlib.contextmanager
def no_step_without_a_batch(model: keras.Model) -> Iterator[None]:
    """Makes the model's training step start only when there is a batch.

    Keras finds the end of a data set of unknown size by running one step too many. The step fails
    for want of a batch, but what needs none has run by then: Adam's step counter and the seeds of
    dropout advance (seen with Keras 3.15: 9 steps counted for 8 batches). A resumed epoch would
    meet its end another number of times, and so continue from other values.
    """
    model.make_train_function()
    step = model.train_function

    def guarded(iterator: Iterator[Any]) -> Any:
        first = next(iterator)  # StopIteration at the end, which is what Keras waits for
        return step(itertools.chain([first], iterator))

    model.train_function = guarded
    try:
        yield
    finally:
        model.train_function = step


def _example_batch(dataset: Any) -> Any:
    import tensorflow as tf

    specs = tf.nest.flatten(dataset.element_spec)
    known = all(
        isinstance(spec, tf.TensorSpec) and spec.shape.rank and None not in spec.shape[1:]
        for spec in specs
    )
    if known:
        zeros = [tf.zeros([spec.shape[0] or 1, *spec.shape[1:]], spec.dtype) for spec in specs]
        return tf.nest.pack_sequence_as(dataset.element_spec, zeros)
    for batch in dataset.take(1):
        return batch
    raise TrainingError("epoch_data(0): gave no batch; use more data or a smaller batch size")


def _array(variable: Any) -> np.ndarray:
    import keras

    return np.array(keras.ops.convert_to_numpy(variable))


def _storable(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(array.tobytes(), np.uint8) if array.dtype.kind == "V" else array
