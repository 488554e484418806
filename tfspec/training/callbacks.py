"""Keras callbacks: progress with remaining time, NaN guard, history CSV, TensorBoard scalars.

Each also works on its own in plain `model.fit(..., callbacks=[...])`; `tfspec.training.fit` drives
the same objects and adds checkpoints. Epochs and steps count from 0 in callables, as in Keras, and
from 1 in everything that is shown or written.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from tfspec.errors import ConfigError, TrainingError
from tfspec.signal.files import atomic_path

DescribeBatch = Callable[[int, int], Sequence[str]]
_MAX_FILES = 8  # a message with all files of a batch of 64 is no longer one line


class NanGuard(keras.callbacks.Callback):
    """Stops training at the first batch that makes the loss NaN or infinite.

    Keras shows the mean loss since the epoch began; one bad batch makes it non-finite, so the
    first non-finite mean is the first bad batch.

    Args:
        describe_batch: gives the source files of batch `step` of epoch `epoch`, both from 0.

    Attributes:
        first_step: batches of this epoch that an earlier process trained on.

    Raises:
        TrainingError: from `fit`, naming epoch, step and source files.
    """

    def __init__(self, describe_batch: DescribeBatch | None = None) -> None:
        super().__init__()
        self.first_step = 0
        self._describe_batch = describe_batch
        self._epoch = 0
        self._next_step = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch
        self._next_step = self.first_step

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Checks the loss."""
        step = self.first_step + batch
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            self.fail(f"the loss became {loss}", self._next_step, step)
        self._next_step = step + 1

    def fail(self, what: str, first_step: int, last_step: int) -> None:
        """Raises the TrainingError about steps `first_step` to `last_step` of this epoch."""
        # With `steps_per_execution` above 1, Keras reports several batches at once.
        steps = str(first_step + 1)
        if last_step > first_step:
            steps = f"{steps} to {last_step + 1}"
        raise TrainingError(
            f"epoch {self._epoch + 1}, step {steps}: {what};{self._sources(first_step, last_step)}"
            " look for NaN, infinite or silent input there, or lower the learning rate"
        )

    def _sources(self, first_step: int, last_step: int) -> str:
        if self._describe_batch is None:
            return ""
        names: dict[str, None] = {}
        for step in range(first_step, last_step + 1):
            names.update(dict.fromkeys(self._describe_batch(self._epoch, step)))
        shown = ", ".join(list(names)[:_MAX_FILES])
        more = f" and {len(names) - _MAX_FILES} more" if len(names) > _MAX_FILES else ""
        return f" the batch comes from {shown}{more};" if names else ""


class ProgressBar(keras.callbacks.Callback):
    """One live line with the step, current losses and remaining time, and a line per epoch.

    The remaining time is that of the whole training, validation included. Where the output is no
    terminal, only the line per epoch is written.

    Args:
        epochs: index after the last epoch.
        steps_per_epoch: batches per epoch, None when unknown before the first has ended.
        console: where to write; standard error when None.

    Attributes:
        first_step: batches of this epoch that an earlier process trained on.
    """

    def __init__(
        self, epochs: int, steps_per_epoch: int | None = None, console: Console | None = None
    ) -> None:
        super().__init__()
        self.first_step = 0
        self.steps_per_epoch = steps_per_epoch
        self.console = console or Console(stderr=True)
        self._epochs = epochs
        self._epoch = 0
        self._task: TaskID | None = None
        self._clock: float | None = None
        self._done = 0
        self._step = 0
        self._held = False
        self._epoch_start = 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> ProgressBar:
        """Keeps the line over several calls of `model.fit`."""
        self._held = True
        return self

    def __exit__(self, *exception: object) -> None:
        """Removes the line."""
        self._held = False
        self._bar.stop()

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Shows the line."""
        if steps := (self.params or {}).get("steps"):
            self.steps_per_epoch = self.first_step + steps
        self._bar.start()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Removes the line, unless more calls of `model.fit` follow."""
        if not self._held:
            self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the epoch's bar."""
        self._epoch = epoch
        self._epoch_start = time.monotonic()
        self._step = self.first_step
        if self._task is None:
            self._task = self._bar.add_task("", values="", left="")
        self._bar.reset(
            self._task,
            description=f"epoch {epoch + 1}/{self._epochs}",
            total=self.steps_per_epoch,
            completed=self.first_step,
            values="",
            left=self._left(self.first_step),
        )

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Moves the bar."""
        step = self.first_step + batch + 1
        # The clock starts after the first batch, which also compiles the training step.
        if self._clock is None:
            self._clock = time.monotonic()
        else:
            self._done += step - self._step
        self._step = step
        if self._task is not None:
            values = _values(logs or {})
            self._bar.update(self._task, completed=step, values=values, left=self._left(step))

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Says that the validation data are being scored."""
        if self._task is not None:
            text = f"epoch {self._epoch + 1}/{self._epochs} validation"
            self._bar.update(self._task, description=text)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the epoch's line."""
        self.steps_per_epoch = self._step or self.steps_per_epoch
        seconds = (logs or {}).get("seconds", time.monotonic() - self._epoch_start)
        values = _values(logs or {})
        left = self._left(0, self._epochs - epoch - 1)
        self.say(f"epoch {epoch + 1}/{self._epochs}  {values}  {seconds:.1f} s  {left}".rstrip())

    def say(self, text: str) -> None:
        """Writes one line above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _left(self, step: int, epochs: int | None = None) -> str:
        """Remaining time of the whole training as text, empty while unknown."""
        if self._clock is None or not self._done or not self.steps_per_epoch:
            return ""
        epochs = self._epochs - self._epoch if epochs is None else epochs
        if epochs == 0:
            return ""
        seconds = (time.monotonic() - self._clock) / self._done
        return f"{_clock_text(seconds * (epochs * self.steps_per_epoch - step))} left"


class HistoryCsv(keras.callbacks.Callback):
    """Rewrites a CSV file with one row per epoch after every epoch.

    For plain `model.fit`; `tfspec.training.fit` keeps the rows in its checkpoint instead.

    Args:
        path: file to write.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = Path(path)
        self._rows: list[dict[str, Any]] = []
        self._start = 0.0

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Forgets earlier rows."""
        self._rows = []

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the file."""
        seconds = time.monotonic() - self._start
        self._rows.append(epoch_row(self.model, epoch, logs or {}, seconds))
        write_history(self._path, self._rows)


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes each epoch's values for TensorBoard, training and validation in one chart.

    Keras' own callback opens new files at every `model.fit`, which resuming calls once per epoch.

    Args:
        path: folder for the logs.

    Raises:
        ConfigError: the package `tensorboard` is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"{path}: TensorBoard logs need a package; pip install tensorboard"
            ) from error
        self._path = Path(path)
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the values of the epoch, at step `epoch + 1`."""
        import tensorflow as tf

        for name, value in (logs or {}).items():
            if name == "epoch":
                continue
            part = "validation" if name.startswith("val_") else "train"
            if part not in self._writers:
                self._writers[part] = tf.summary.create_file_writer(str(self._path / part))
            with self._writers[part].as_default():
                tf.summary.scalar(f"epoch/{name.removeprefix('val_')}", value, step=epoch + 1)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def epoch_row(
    model: keras.Model, epoch: int, logs: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """One record of the history: epoch from 1, losses first, then metrics, rate and seconds."""
    values = {name: float(value) for name, value in logs.items()}
    first = {name: values.pop(name) for name in ("loss", "val_loss") if name in values}
    values.pop("learning_rate", None)
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    return {"epoch": epoch + 1, **first, **values, "learning_rate": rate, "seconds": seconds}


def write_history(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as CSV, atomically; numbers with all the digits that give them back exactly."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "seconds": f"{row['seconds']:.3f}"})


def _values(logs: Mapping[str, Any]) -> str:
    hidden = ("epoch", "seconds", "learning_rate")
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items() if name not in hidden)


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
