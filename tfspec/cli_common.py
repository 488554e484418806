"""What the verbs of all tasks share; nothing here imports TensorFlow."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tfspec.errors import ConfigError, ModelError

Model = Annotated[Path, typer.Option("--model", help="Model folder or .tflite file of tfspec.")]
Cache = Annotated[Path | None, typer.Option(help="Folder for prepared data.")]
ManualDir = Annotated[
    Path | None, typer.Option(help="Folder of the unpacked data set, for tfds:NAME.")
]


def task_of(model: Path) -> str:
    """The task of a model folder or `.tflite` file: `separation` or `segmentation`.

    Raises:
        ModelError: no model, or one that does not say.
    """
    if not model.exists():
        raise ModelError(f"{model}: no such model; give a model folder or a .tflite file")
    if model.is_dir():
        from tfspec.training.run import model_metadata

        task = model_metadata(model)["task"]
    elif model.suffix == ".tflite":
        from tfspec.deploy.metadata import read_metadata

        front_end = read_metadata(model).get("front_end")
        task = front_end.get("task") if isinstance(front_end, Mapping) else None
    else:
        raise ModelError(f"{model}: is not a model; give a model folder or a .tflite file")
    if not isinstance(task, str):
        raise ModelError(f"{model}: does not say which task it is for; train or export it again")
    return task


def call_for_task(task: str, verb: Callable[..., None], *given: Any, **options: Any) -> None:
    """Calls the verb of a task with the options that the user gave.

    Args:
        task: for the message.
        verb: of that task; its parameters are the options that it takes.
        *given: its positional arguments.
        **options: by name; None where the user gave none.

    Raises:
        ConfigError: an option that this task does not have.
    """
    known = inspect.signature(verb).parameters
    options = given_options(options)
    for name in options:
        if name not in known:
            raise ConfigError(f"--{name.replace('_', '-')} is not for {task} models; leave it out")
    verb(*given, **options)


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def comma_separated(text: str | None) -> tuple[str, ...] | None:
    """The names of a comma-separated option; None when it was not given."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def size_option(option: str, text: str | None) -> int | None:
    """Bytes of an option such as `192K`; None when it was not given."""
    from tfspec.deploy.fit import parse_size

    try:
        return None if text is None else parse_size(text)
    except ConfigError as error:
        raise ConfigError(f"{option} {error}") from None


def row_names(models: list[Path]) -> list[str]:
    """Short names that still tell the models apart."""
    names = [model.name for model in models]
    return names if len(set(names)) == len(names) else [str(model) for model in models]


def report_rows(models: list[Path]) -> dict[str, Path]:
    """Rows of a report: the run itself first, then files by the end of their names."""
    names = ["Keras", *(path.stem.removeprefix("model_") for path in models[1:])]
    return dict(zip(names, models, strict=True))


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's start-up messages away from the user's terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def progress_bar(what: str, *, bar_each: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with remaining time on standard error; plain silence when that is no terminal.

    Args:
        what: stands before the bar.
        bar_each: a bar for each name, such as a file, rather than one for all.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), TextColumn("{task.description}"), BarColumn(bar_width=30))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        tasks: dict[str, Any] = {}

        def update(done: int, total: int, name: str) -> None:
            key = name if bar_each else what
            if key not in tasks:
                tasks[key] = bar.add_task(name, total=total)
            bar.update(tasks[key], completed=done, total=total, description=name)
            if done >= total:
                bar.update(tasks[key], visible=False)

        yield update
