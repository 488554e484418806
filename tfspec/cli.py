"""The `tfspec` command. TensorFlow is imported inside a verb, so that `--help` answers at once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tfspec.errors import ConfigError, TfspecError

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

Model = Annotated[Path, typer.Option("--model", help="Model folder or .tflite file of tfspec.")]
Share = Annotated[
    str | None,
    typer.Option(help="How targets share the mixture's spectrogram: none, ratio or wiener."),
]


@train_app.command("separation")
def train_separation(
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run goes on.")],
    data: Annotated[
        str, typer.Option(help="synth, synth:N songs, a folder of songs, or tfds:musdb18/CONFIG.")
    ] = "synth",
    preset: Annotated[
        str,
        typer.Option(
            help="Vocals: paper, small, tiny, micro, nano. Several targets: wave, wave-micro, "
            "channels, channels-micro, jansson."
        ),
    ] = "paper",
    targets: Annotated[
        str | None,
        typer.Option(help="Comma-separated: vocals, drums, bass, other, accompaniment."),
    ] = None,
    depth: Annotated[int | None, typer.Option(help="Of the network.")] = None,
    base_filters: Annotated[int | None, typer.Option(help="Of its first level.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Of the learning rate: constant or cosine.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="mae, mse or weighted_l1.")] = None,
    scaler: Annotated[str | None, typer.Option(help="max, minmax or robust.")] = None,
    axis: Annotated[str | None, typer.Option(help="frequency, time or segment.")] = None,
    fractions: Annotated[str | None, typer.Option(help="paper, code or none.")] = None,
    stereo: Annotated[
        bool | None, typer.Option("--stereo/--mono", help="Audio that a wave preset takes.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Least length of what a wave preset estimates at once.")
    ] = None,
    context: Annotated[
        bool | None,
        typer.Option(help="Wave presets: real audio around each segment instead of zeros."),
    ] = None,
    difference: Annotated[
        bool | None, typer.Option(help="Wave presets: the last target is what the others leave.")
    ] = None,
    upsampling: Annotated[
        str | None, typer.Option(help="Wave presets: linear, learned or nearest.")
    ] = None,
    mixing_gain: Annotated[
        float | None, typer.Option(help="Lowest gain of randomly mixed sources; 1 is none.")
    ] = None,
    swap_channels: Annotated[
        bool | None, typer.Option(help="Random mixing swaps left and right of sources.")
    ] = None,
    recombine: Annotated[
        bool | None, typer.Option(help="Random mixing adds up sources of different songs.")
    ] = None,
    head_leak: Annotated[
        float | None,
        typer.Option(help="Channels presets: 0.1 keeps sources from falling silent with mse."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(help="Held-out songs, where the data do not fix them.")
    ] = None,
    manual_dir: Annotated[
        Path | None, typer.Option(help="Folder of the unpacked data set, for tfds:NAME.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared songs.")] = None,
    deterministic: Annotated[
        bool, typer.Option(help="Bit-identical reruns, a little slower.")
    ] = False,
) -> None:
    """Train a separator; rerun the same command to continue."""
    from tfspec.separation.recipe import SeparationRecipe

    changes = {
        "targets": _names(targets),
        "depth": depth,
        "base_filters": base_filters,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "loss": loss,
        "scaler_kind": scaler,
        "scaler_axis": axis,
        "fractions": fractions,
        "mixing_gain": mixing_gain,
        "swap_channels": swap_channels,
        "recombine": recombine,
        "head_leak": head_leak,
        "seed": seed,
        "validation_fraction": validation_fraction,
    }
    wave = {
        "channels": None if stereo is None else 1 + stereo,
        "samples": samples,
        "context": context,
        "difference": difference,
        "upsampling": upsampling,
    }
    recipe = SeparationRecipe.preset(preset, **_given(changes))
    if _given(wave):
        recipe = recipe.with_wave(**_given(wave))
    _quiet_tensorflow()
    from tfspec.separation.train import train

    with _progress("preparing songs") as update:
        history = train(
            data,
            out,
            recipe,
            manual_dir=manual_dir,
            cache=cache,
            deterministic=deterministic,
            progress=lambda done, total, name: update(done, total, name),
        )
    typer.echo(
        f"{out}: {len(history.rows)} epochs; best {history.monitor} {history.best_value:.5f} "
        f"in epoch {history.best_epoch}"
    )


@app.command()
def separate(
    files: Annotated[list[Path], typer.Argument(help="Audio files.")],
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder; each file gets a folder of its name.")],
    high_band: Annotated[
        str, typer.Option(help="Above the model's band: extend, zero or mixture.")
    ] = "extend",
    suffix: Annotated[str, typer.Option("--format", help="wav or flac.")] = "wav",
    subtype: Annotated[str, typer.Option(help="PCM_16, PCM_24 or FLOAT.")] = "PCM_16",
    overlap_frames: Annotated[
        int | None, typer.Option(help="Cross-fade of segments; a quarter segment if none.")
    ] = None,
    share: Share = None,
) -> None:
    """Write the stems of each file, at its own sample rate."""
    _quiet_tensorflow()
    from tfspec.separation.files import separate_files
    from tfspec.separation.predict import Separator

    separator = Separator(model, high_band=high_band, overlap_frames=overlap_frames, share=share)
    with _progress("separating") as update:
        written, errors = separate_files(
            files,
            separator,
            out,
            suffix=suffix.lower(),
            subtype=subtype.upper(),
            progress=lambda name, done, total: update(done, total, Path(name).name),
        )
    for stems in written.values():
        for file in stems.values():
            typer.echo(str(file))
    for error in errors.values():
        typer.echo(f"error: {error}", err=True)
    if errors:
        raise typer.Exit(2)


@app.command()
def evaluate(
    models: Annotated[list[Path], typer.Argument(help="Model folders or .tflite files.")],
    data: Annotated[str, typer.Option(help="As for `train separation`.")] = "synth",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    protocol: Annotated[
        str, typer.Option(help="museval, or paper for its table only.")
    ] = "museval",
    targets: Annotated[
        str | None,
        typer.Option(help="What is scored, such as vocals; the first model's targets if none."),
    ] = None,
    share: Share = None,
    seed: Annotated[int, typer.Option(help="Of synthetic songs and of the split.")] = 42,
    workers: Annotated[int | None, typer.Option(help="Scoring processes.")] = None,
    manual_dir: Annotated[Path | None, typer.Option(help="As for `train separation`.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json, .csv, .md.")] = None,
) -> None:
    """Score models beside the mixture, equal shares of it, and ideal ratio masks."""
    _quiet_tensorflow()
    from tfspec.datasets.tracks import open_tracks
    from tfspec.separation.evaluate import BASELINES
    from tfspec.separation.scores import score_models
    from tfspec.signal.files import atomic_path, write_json

    tracks = open_tracks(data, split=split, seed=seed, manual_dir=manual_dir)
    names = _row_names(models)
    total = len(tracks) * (len(models) + len(BASELINES))
    with _progress("scoring") as update:
        evaluation = score_models(
            dict(zip(names, models, strict=True)),
            tracks,
            targets=_names(targets),
            protocol=protocol,
            share=share,
            workers=workers,
            progress=lambda done, name: update(done, total, name),
        )
    table = evaluation.table()
    typer.echo(table.markdown)
    for failure in evaluation.failures:
        typer.echo(f"error: {failure}", err=True)
    if out is not None:
        write_json(out / "scores.json", evaluation.metrics())
        for suffix, text in ((".csv", table.csv), (".md", table.markdown)):
            with atomic_path(out / f"scores{suffix}") as temporary:
                temporary.write_text(text, encoding="utf-8")
        if protocol == "museval":
            evaluation.save_songs(out / "museval")
    if evaluation.failures:
        raise typer.Exit(2)


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
        typer.Option(help="Samples in, stems out: fixed (one segment) or streaming (blocks)."),
    ] = None,
) -> None:
    """Convert a trained model to verified .tflite files."""
    _quiet_tensorflow()
    from tfspec.separation.export import export_separator

    if waveform is not None:
        _export_waveform(run, out, waveform, precision, target)
        return
    report = export_separator(
        run,
        out,
        precisions=None if precision is None else [p.strip() for p in precision.split(",")],
        target=target,
        max_arena=_size("--max-arena", max_arena),
        max_flash=_size("--max-flash", max_flash),
    )
    for name, path in report.files.items():
        facts = report.card["files"][name]
        typer.echo(
            f"{path}: {facts['bytes'] / 1e3:.0f} kB, {facts['snr_db']:.1f} dB SNR against Keras, "
            f"{facts['latency_ms']:.1f} ms per segment on one thread"
        )


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    song: Annotated[
        Path | None, typer.Option(help="Folder with mixture.wav, vocals.wav, ... of one song.")
    ] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="Further models, e.g. a .tflite file.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML file; RUN/report.html if none.")] = None,
) -> None:
    """Write a one-file HTML report; with a song, listen and compare."""
    _quiet_tensorflow()
    from tfspec.separation.report import examine_song, write_report

    examined = None
    if song is not None:
        from tfspec.datasets.folder import song_track

        models = [run, *(model or [])]
        rows = ["Keras", *(path.stem.removeprefix("model_") for path in models[1:])]
        examined = examine_song(song_track(song, "test"), dict(zip(rows, models, strict=True)))
        typer.echo(examined.evaluation.table().markdown)
    typer.echo(str(write_report(run, out or run / "report.html", song=examined)))


def _export_waveform(
    run: Path, out: Path | None, form: str, precision: str | None, target: str | None
) -> None:
    from tfspec.errors import ConfigError
    from tfspec.separation.waveform_export import PRECISIONS, export_waveform

    if target is not None:
        raise ConfigError(
            "--waveform and --target exclude each other: waveform models hold float transforms; "
            "leave --target out"
        )
    wanted = PRECISIONS if precision is None else [p.strip() for p in precision.split(",")]
    report = export_waveform(run, out, form=form, precisions=wanted)
    for name, path in report.files.items():
        facts = report.card["files"][name]
        typer.echo(
            f"{path}: {facts['bytes'] / 1e3:.0f} kB, {facts['snr_db']:.1f} dB SNR against "
            f"`tfspec separate`, {facts['latency_ms']:.1f} ms per call on one thread"
        )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _names(text: str | None) -> tuple[str, ...] | None:
    """The names of a comma-separated option; None when it was not given."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def _size(option: str, text: str | None) -> int | None:
    """Bytes of an option such as `192K`; None when it was not given."""
    from tfspec.deploy.fit import parse_size
    from tfspec.errors import ConfigError

    try:
        return None if text is None else parse_size(text)
    except ConfigError as error:
        raise ConfigError(f"{option} {error}") from None


def _row_names(models: list[Path]) -> list[str]:
    """Short names that still tell the models apart."""
    names = [model.name for model in models]
    return names if len(set(names)) == len(names) else [str(model) for model in models]


def _quiet_tensorflow() -> None:
    """Keeps TensorFlow's start-up messages away from the user's terminal."""
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def _progress(what: str) -> Iterator[Any]:
    """A bar with remaining time on standard error; plain silence when that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), TextColumn("{task.description}"), BarColumn(bar_width=30))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        tasks: dict[str, Any] = {}

        def update(done: int, total: int, name: str) -> None:
            key = name if what == "separating" else what
            if key not in tasks:
                tasks[key] = bar.add_task(name, total=total)
            bar.update(tasks[key], completed=done, total=total, description=name)
            if done >= total:
                bar.update(tasks[key], visible=False)

        yield update


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


__all__ = ["ConfigError", "app", "main"]
