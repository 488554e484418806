"""The `tfspec` command. TensorFlow is imported inside a verb, so that `--help` answers at once."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from tfspec import cli_segmentation, cli_separation
from tfspec.cli_common import Cache, ManualDir, call_for_task, quiet_tensorflow, task_of
from tfspec.errors import ModelError, TfspecError

app = typer.Typer(
    name="tfspec",
    help="Train spectrogram models in Keras, ship them as verified TFLite.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
train_app = typer.Typer(help="Train a model into a run folder.", no_args_is_help=True)
app.add_typer(train_app, name="train")

_TASKS: dict[str, ModuleType] = {
    "separation": cli_separation,
    "segmentation": cli_segmentation,
}
for _verbs in _TASKS.values():
    _verbs.register(app, train_app)


@app.command()
def evaluate(
    models: Annotated[list[Path], typer.Argument(help="Model folders or .tflite files.")],
    data: Annotated[
        str | None,
        typer.Option(help="As for `train`; synth for separation, radio for segmentation if none."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test; test if none.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of synthetic data and of the split.")] = None,
    manual_dir: ManualDir = None,
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json, .csv, .md.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Separation: museval, or paper for its table only.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            help="Separation: what is scored, such as vocals; the first model's targets if none."
        ),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            help="Separation: how targets share the mixture's spectrogram: none, ratio or wiener."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Separation: scoring processes.")] = None,
    layout: Annotated[
        str | None, typer.Option(help="Segmentation, of a folder: paper or mathworks.")
    ] = None,
    unknown: Annotated[
        str | None,
        typer.Option(help="Segmentation, colours that are no class: error, ignore or legacy."),
    ] = None,
    cache: Cache = None,
) -> None:
    """Score models beside each other and beside the baselines of their task."""
    quiet_tensorflow()
    task = task_of(models[0])
    call_for_task(
        task,
        _verbs_for(task, models[0]).evaluate,
        models,
        data=data,
        split=split,
        seed=seed,
        manual_dir=manual_dir,
        out=out,
        protocol=protocol,
        targets=targets,
        share=share,
        workers=workers,
        layout=layout,
        unknown=unknown,
        cache=cache,
    )


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run or model folder.")],
    precision: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: float32, float16, dynamic_range, int8, full_int8, int16x8. "
            "If none, those of the target, else float32,float16,int8."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; RUN/export if none.")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Device, such as linux-arm64, android, cortex-m7; or a .toml file."),
    ] = None,
    max_arena: Annotated[
        str | None, typer.Option(help="Most RAM for tensors, such as 192K.")
    ] = None,
    max_flash: Annotated[
        str | None, typer.Option(help="Most flash for model and front end, such as 1M.")
    ] = None,
    waveform: Annotated[
        str | None,
        typer.Option(
            help="Separation: samples in, stems out: fixed (one segment) or streaming (blocks)."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Segmentation: logits, or labels: class numbers, in float precisions."),
    ] = None,
) -> None:
    """Convert a trained model to verified .tflite files."""
    quiet_tensorflow()
    task = task_of(run)
    call_for_task(
        task,
        _verbs_for(task, run).export,
        run,
        out=out,
        precision=precision,
        target=target,
        max_arena=max_arena,
        max_flash=max_flash,
        waveform=waveform,
        output=output,
    )


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    model: Annotated[
        list[Path] | None, typer.Option(help="Further models, e.g. a .tflite file.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML file; RUN/report.html if none.")] = None,
    song: Annotated[
        Path | None,
        typer.Option(
            help="Separation: folder with mixture.wav, vocals.wav, ... of one song to listen to."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Segmentation: what to score, draw and time, as for `train`.")
    ] = None,
    cache: Cache = None,
) -> None:
    """Write a one-file HTML report; with data of the task, compare models on them."""
    quiet_tensorflow()
    task = task_of(run)
    call_for_task(
        task,
        _verbs_for(task, run).report,
        run,
        model=model,
        out=out,
        song=song,
        data=data,
        cache=cache,
    )


def _verbs_for(task: str, model: Path) -> ModuleType:
    """The verbs of a task."""
    if task not in _TASKS:
        raise ModelError(
            f"{model}: is a model for {task!r}, which this tfspec does not know; it knows "
            f"{', '.join(_TASKS)}"
        )
    return _TASKS[task]


def main() -> None:
    """Entry point: errors that a user can cause are one line and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app(standalone_mode=True)
    except TfspecError as error:
        from tfspec.training.interrupt import TrainingInterrupted

        sys.stderr.write(f"error: {error}\n")
        sys.exit(130 if isinstance(error, TrainingInterrupted) else 2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
