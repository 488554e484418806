"""`fit`: Keras' own `model.fit`, epoch by epoch, with resuming, guards and records.

An interrupted training goes on where it stood, in the middle of an epoch if need be, and ends with
the same bits as one that was never interrupted; `tfspec.training.reproducibility` says what that
takes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from tfspec.errors import ConfigError, TrainingError
from tfspec.signal.files import read_json, write_json
from tfspec.training.allocator import keep_freed_memory
from tfspec.training.callbacks import (
    DescribeBatch,
    NanGuard,
    ProgressBar,
    TensorBoardScalars,
    epoch_row,
    write_history,
)
from tfspec.training.interrupt import StopRequest, TrainingInterrupted, catch_stop
from tfspec.training.run import RunFolder
from tfspec.training.state import (
    Position,
    SavedState,
    check_finite,
    create_variables,
    metric_values,
    no_step_without_a_batch,
    save_state,
)

if TYPE_CHECKING:
    import tensorflow as tf

EpochData = Callable[[int], "tf.data.Dataset"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingHistory:
    """What a training did, over all its interruptions.

    Attributes:
        rows: one record per epoch, as in `history.csv`; `epoch` counts from 1.
        monitor: the value that decides which epoch is best.
        best_epoch: the epoch in `model.keras`, counted from 1.
        best_value: its monitored value.
        resumed: whether this call continued an earlier one.
        already_finished: whether there was nothing left to train.
    """

    rows: tuple[Mapping[str, Any], ...]
    monitor: str
    best_epoch: int
    best_value: float
    resumed: bool
    already_finished: bool

    @property
    def epoch(self) -> list[int]:
        """Epoch indices from 0, as in `keras.callbacks.History`."""
        return [row["epoch"] - 1 for row in self.rows]

    @property
    def history(self) -> dict[str, list[float]]:
        """Values by name, as in `keras.callbacks.History`."""
        names = dict.fromkeys(name for row in self.rows for name in row if name != "epoch")
        return {name: [row.get(name, math.nan) for row in self.rows] for name in names}


def fit(
    model: keras.Model,
    *,
    run: RunFolder,
    epoch_data: EpochData,
    validation: tf.data.Dataset | None,
    epochs: int,
    steps_per_epoch: int | None = None,
    monitor: str = "val_loss",
    mode: Literal["min", "max"] = "min",
    describe_batch: DescribeBatch | None = None,
    checkpoint_seconds: float = 120.0,
    verbose: bool = True,
) -> TrainingHistory:
    """Trains a compiled model, or continues the training that `run` holds.

    Leaves the last epoch's state in `model` and the best epoch's in `run.model_path`. Ctrl-C and
    SIGTERM take effect after the current batch; a second one stops at once, at the price of what
    was done since the last checkpoint.

    Args:
        model: compiled; on resuming, built and compiled the same way again.
        run: where everything is written.
        epoch_data: gives the batches of one epoch, counted from 0, the same at every call.
        validation: batches scored after every epoch, in the same order each time, or None.
        epochs: epochs in all, earlier ones included; a larger number prolongs a finished run.
        steps_per_epoch: at most this many batches per epoch; all when None.
        monitor: value by which the best epoch is chosen; without validation data, the training
            value of the same name.
        mode: whether a smaller or a larger monitored value is better.
        describe_batch: source files of batch `step` of epoch `epoch`, both from 0, for errors.
        checkpoint_seconds: longest time between checkpoints inside an epoch, in seconds; 0 for one
            after every batch, `math.inf` for none but at the end of epochs.
        verbose: show progress on standard error.

    Raises:
        ConfigError: an argument is out of range, or `monitor` is not a value of this model.
        TrainingError: the loss or a weight became NaN or infinite, an epoch had no batch, the
            checkpoint belongs to another model, or another process trains in the folder.
        TrainingInterrupted: Ctrl-C or SIGTERM; call again to continue.
    """
    _check_arguments(model, epochs, steps_per_epoch, mode, checkpoint_seconds)
    if validation is None:
        monitor = monitor.removeprefix("val_")
    keep_freed_memory()
    with run.lock():
        progress = ProgressBar(epochs, steps_per_epoch) if verbose else None
        training = _Training(model, run, monitor, mode, describe_batch, checkpoint_seconds)
        start = training.position.epoch
        data = epoch_data(min(start, epochs - 1))
        training.begin(data)
        if progress:
            _announce(run, training.position, epochs, progress)
        show = progress or contextlib.nullcontext()
        say = progress.say if progress else None
        with catch_stop(say) as stop, contextlib.closing(training), show:
            for epoch in range(start, epochs):
                data = data if epoch == start else epoch_data(epoch)
                data = data if steps_per_epoch is None else data.take(steps_per_epoch)
                training.epoch(epoch, data, validation, stop, progress)
        return training.finish(start >= epochs)


class _Training(keras.callbacks.Callback):
    """State of one `fit` call; as a callback, sees every batch between Keras' own steps."""

    def __init__(
        self,
        model: keras.Model,
        run: RunFolder,
        monitor: str,
        mode: str,
        describe_batch: DescribeBatch | None,
        checkpoint_seconds: float,
    ) -> None:
        super().__init__()
        self.set_model(model)
        self.position = Position(monitor=f"{mode} {monitor}")
        self._run = run
        self._monitor = monitor
        self._sign = 1.0 if mode == "min" else -1.0
        self._guard = NanGuard(describe_batch)
        self._checkpoint_seconds = checkpoint_seconds
        self._board = TensorBoardScalars(run.logs_path)
        self._stop = StopRequest()
        self._saved = self._read_checkpoint()
        self._row: dict[str, Any] = {}
        self._restored_logs: dict[str, float] = {}
        self._metrics_before_validation: list[np.ndarray] | None = None
        self._resumed = self._saved is not None
        self._saved_at = self._clock = time.monotonic()

    def _read_checkpoint(self) -> SavedState | None:
        path = self._run.checkpoint_path
        if not path.exists():
            if self._run.model_path.exists():
                raise TrainingError(
                    f"{self._run.path}: holds model.keras but no {path.name} to continue from;"
                    " give another folder"
                )
            return None
        saved = SavedState(path)
        if saved.position.monitor != self.position.monitor:
            raise TrainingError(
                f"{self._run.path}: chose its best epoch by {saved.position.monitor!r}, now"
                f" {self.position.monitor!r}; use the same or give another folder"
            )
        self.position = saved.position
        return saved

    def begin(self, data: tf.data.Dataset) -> None:
        """Restores the checkpoint, or writes the first one."""
        create_variables(self.model, data)
        if self._saved is None:
            # Rerunning after a kill starts from these very weights, whatever the seed was.
            save_state(self._run.checkpoint_path, self.model, self.position)
        else:
            self._saved.restore(self.model)
            # A kill between checkpoint and table leaves the table one epoch short.
            write_history(self._run.history_path, self.position.rows)

    def epoch(
        self,
        epoch: int,
        data: tf.data.Dataset,
        validation: tf.data.Dataset | None,
        stop: StopRequest,
        progress: ProgressBar | None,
    ) -> None:
        """Trains one epoch, or the rest of one, and saves."""
        self._stop = stop
        self._guard.first_step = self.position.step
        callbacks: list[keras.callbacks.Callback] = [self._guard, self]
        if progress:
            progress.first_step = self.position.step
            callbacks.append(progress)
        self._clock = time.monotonic() - self.position.seconds
        with warnings.catch_warnings(), no_step_without_a_batch(self.model):
            # Keras says so at the end of every data set of unknown size, and after an epoch that
            # was interrupted between its last batch and its validation.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            self.model.fit(
                data.skip(self.position.step),
                initial_epoch=epoch,
                epochs=epoch + 1,
                validation_data=validation,
                callbacks=callbacks,
                shuffle=False,  # the data set is; Keras would warn
                verbose=0,
            )
        # After `fit` has returned, because it ends by moving averaged weights (`use_ema`) into
        # the model.
        self._save()
        write_history(self._run.history_path, self.position.rows)
        self._board.on_epoch_end(epoch, self._row)
        if progress:
            progress.steps_per_epoch = self.position.steps_per_epoch
        if stop.requested:
            self._leave()

    def finish(self, already_finished: bool) -> TrainingHistory:
        """Writes `metrics.json` and sums up."""
        position, path = self.position, self._run.metrics_path
        best = position.rows[position.best_epoch or 0]
        metrics = read_json(path) if path.exists() else {}
        metrics["training"] = {
            "monitor": self._monitor,
            "best_epoch": best["epoch"],
            "best": _finite(best),
            "last": _finite(position.rows[-1]),
            "seconds": sum(row["seconds"] for row in position.rows),
        }
        write_json(path, metrics)
        return TrainingHistory(
            rows=tuple(position.rows),
            monitor=self._monitor,
            best_epoch=best["epoch"],
            best_value=best[self._monitor],
            resumed=self._resumed,
            already_finished=already_finished,
        )

    def close(self) -> None:
        """Closes the TensorBoard files."""
        self._board.close()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Restores the metrics of a started epoch, which Keras has just reset."""
        self._restored_logs = {}
        if self._saved is not None and self.position.step > 0:
            self._saved.restore_metrics(self.model)
            self._restored_logs = _flat(self.model.get_metrics_result())
        self._saved = None  # frees the arrays

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Saves when it is time, and leaves when asked to."""
        names = set(logs or {})
        if self._monitor.removeprefix("val_") not in names:
            raise ConfigError(
                f"monitor: must be one of {sorted(names)}, with or without val_;"
                f" received {self._monitor!r}"
            )
        self.position.step = self._guard.first_step + batch + 1
        if self._stop.requested:
            self._save()
            self._leave()
        if time.monotonic() - self._saved_at >= self._checkpoint_seconds:
            self._save()

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Keeps the training metrics, which Keras resets for the validation."""
        self._metrics_before_validation = metric_values(self.model)

    def on_test_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Leaves when asked to; the resumed run repeats the validation."""
        if self._stop.requested:
            self._save(self._metrics_before_validation)
            self._leave()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch and keeps the model if it is the best so far."""
        position = self.position
        logs = {} if logs is None else logs
        for name, value in self._restored_logs.items():
            logs.setdefault(name, value)  # no batch was left: Keras reports the validation only
        if position.step == 0:
            raise TrainingError(
                f"epoch_data({epoch}): gave no batch; use more data or a smaller batch size"
            )
        with self._naming_the_batch():
            check_finite(self.model)
        self._row = epoch_row(self.model, epoch, logs, time.monotonic() - self._clock)
        logs["seconds"] = self._row["seconds"]  # for the progress line, which comes next
        rows = [*position.rows, self._row]
        best = position.best_epoch
        if best is None or self._better(self._row, rows[best]):
            best = epoch
            self._run.save_model(self.model)
        self.position = Position(
            epoch=epoch + 1,
            steps_per_epoch=position.step,
            monitor=position.monitor,
            best_epoch=best,
            rows=rows,
        )

    def _better(self, new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
        value, best = new[self._monitor], old[self._monitor]
        if not math.isfinite(best):
            return math.isfinite(value)
        return self._sign * value < self._sign * best

    @contextlib.contextmanager
    def _naming_the_batch(self) -> Iterator[None]:
        try:
            yield
        except TrainingError as error:
            step = max(self.position.step, 1) - 1
            self._guard.fail(str(error), step, step)

    def _save(self, metrics: list[np.ndarray] | None = None) -> None:
        if self.position.step > 0:
            self.position.seconds = time.monotonic() - self._clock
        with self._naming_the_batch():
            save_state(self._run.checkpoint_path, self.model, self.position, metrics=metrics)
        self._saved_at = time.monotonic()

    def _leave(self) -> None:
        epoch, step = self.position.epoch, self.position.step
        raise TrainingInterrupted(
            f"{self._run.path}: interrupted at epoch {epoch + 1}, step {step + 1}; the state is"
            " saved, run the same command again to continue",
            epoch,
            step,
        )


def _announce(run: RunFolder, position: Position, epochs: int, progress: ProgressBar) -> None:
    """Says where a resumed run stands."""
    progress.steps_per_epoch = position.steps_per_epoch or progress.steps_per_epoch
    if position.epoch >= epochs:
        done = f"{position.epoch} epochs are done"
        progress.say(f"{run.path}: {done}, {epochs} were asked for; give more epochs to go on")
    elif position.epoch or position.step:
        place = f"epoch {position.epoch + 1}, step {position.step + 1}"
        progress.say(f"{run.path}: continuing at {place}")


def _flat(results: Mapping[str, Any]) -> dict[str, float]:
    """Metrics by name, as Keras logs them: a metric that gives several takes part with each."""
    values: dict[str, float] = {}
    for name, value in results.items():
        values.update(_flat(value) if isinstance(value, Mapping) else {name: float(value)})
    return values


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows neither NaN nor infinity."""
    return {name: value if math.isfinite(value) else None for name, value in row.items()}


def _check_arguments(
    model: keras.Model, epochs: int, steps: int | None, mode: str, seconds: float
) -> None:
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            "Keras backend: resuming needs 'tensorflow'; received"
            f" {keras.backend.backend()!r}, with which plain model.fit works"
        )
    if not model.compiled or model.optimizer is None:
        raise ConfigError("model: must be compiled with an optimizer; call model.compile first")
    if epochs < 1:
        raise ConfigError(f"epochs: must be at least 1; received {epochs}")
    if steps is not None and steps < 1:
        raise ConfigError(f"steps_per_epoch: must be at least 1 or None; received {steps}")
    if mode not in ("min", "max"):
        raise ConfigError(f"mode: must be 'min' or 'max'; received {mode!r}")
    if not seconds >= 0:
        raise ConfigError(f"checkpoint_seconds: must be at least 0; received {seconds}")
