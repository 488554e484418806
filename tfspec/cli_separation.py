"""The verbs of `tfspec` for separation; TensorFlow is imported inside a verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfspec.cli_common import (
    ManualDir,
    Model,
    comma_separated,
    given_options,
    progress_bar,
    quiet_tensorflow,
    report_rows,
    row_names,
    size_option,
)

Share = Annotated[
    str | None,
    typer.Option(help="How targets share the mixture's spectrogram: none, ratio or wiener."),
]


def register(app: typer.Typer, train_app: typer.Typer) -> None:
    """Adds the verbs that only this task has.

    Args:
        app: of `tfspec`.
        train_app: of `tfspec train`.
    """
    train_app.command("separation")(train_separation)
    app.command("separate")(separate)


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
    sample_rate: Annotated[
        int | None, typer.Option(help="Presets on spectrograms: Hz that the network hears.")
    ] = None,
    n_fft: Annotated[
        int | None, typer.Option(help="Presets on spectrograms: length of the transform.")
    ] = None,
    hop_length: Annotated[
        int | None, typer.Option(help="Presets on spectrograms: samples between frames.")
    ] = None,
    segment_frames: Annotated[
        int | None, typer.Option(help="Presets on spectrograms: frames of a segment.")
    ] = None,
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
    manual_dir: ManualDir = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared songs.")] = None,
    deterministic: Annotated[
        bool, typer.Option(help="Bit-identical reruns, a little slower.")
    ] = False,
) -> None:
    """Train a separator; rerun the same command to continue."""
    from tfspec.separation.recipe import SeparationRecipe

    changes = {
        "targets": comma_separated(targets),
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
        "segment_frames": segment_frames,
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
    stft = {"sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length}
    recipe = SeparationRecipe.preset(preset, **given_options(changes))
    if given_options(stft):
        recipe = recipe.with_stft(**given_options(stft))
    if given_options(wave):
        recipe = recipe.with_wave(**given_options(wave))
    quiet_tensorflow()
    from tfspec.separation.train import train

    with progress_bar("preparing songs") as update:
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
    quiet_tensorflow()
    from tfspec.separation.files import separate_files
    from tfspec.separation.predict import Separator

    separator = Separator(model, high_band=high_band, overlap_frames=overlap_frames, share=share)
    with progress_bar("separating", bar_each=True) as update:
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


def evaluate(
    models: list[Path],
    *,
    data: str = "synth",
    split: str = "test",
    protocol: str = "museval",
    targets: str | None = None,
    share: str | None = None,
    seed: int = 42,
    workers: int | None = None,
    manual_dir: Path | None = None,
    out: Path | None = None,
) -> None:
    """Scores separators beside the mixture, equal shares of it, and ideal ratio masks.

    Args:
        models: model folders or `.tflite` files.
        data: as for `train separation`.
        split: `train`, `validation` or `test`.
        protocol: `museval`, or `paper` for the paper's table only.
        targets: what is scored, comma-separated; the first model's targets when None.
        share: how targets share the mixture's spectrogram.
        seed: of synthetic songs and of the split.
        workers: scoring processes.
        manual_dir: folder of the unpacked data set, for `tfds:NAME`.
        out: folder for the scores; they are only printed when None.
    """
    from tfspec.datasets.tracks import open_tracks
    from tfspec.separation.evaluate import BASELINES
    from tfspec.separation.scores import score_models
    from tfspec.signal.files import atomic_path, write_json

    tracks = open_tracks(data, split=split, seed=seed, manual_dir=manual_dir)
    names = row_names(models)
    total = len(tracks) * (len(models) + len(BASELINES))
    with progress_bar("scoring") as update:
        evaluation = score_models(
            dict(zip(names, models, strict=True)),
            tracks,
            targets=comma_separated(targets),
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


def export(
    run: Path,
    *,
    out: Path | None = None,
    precision: str | None = None,
    target: str | None = None,
    max_arena: str | None = None,
    max_flash: str | None = None,
    waveform: str | None = None,
) -> None:
    """Exports a separator and prints its files.

    Args:
        run: model folder.
        out: folder to write; `RUN/export` when None.
        precision: comma-separated; those of the target when None.
        target: device, by name or file.
        max_arena: most memory for tensors, such as `192K`.
        max_flash: most flash.
        waveform: samples in, stems out: `fixed` or `streaming`.
    """
    from tfspec.separation.export import export_separator

    if waveform is not None:
        _export_waveform(run, out, waveform, precision, target)
        return
    report = export_separator(
        run,
        out,
        precisions=comma_separated(precision),
        target=target,
        max_arena=size_option("--max-arena", max_arena),
        max_flash=size_option("--max-flash", max_flash),
    )
    for name, path in report.files.items():
        facts = report.card["files"][name]
        typer.echo(
            f"{path}: {facts['bytes'] / 1e3:.0f} kB, {facts['snr_db']:.1f} dB SNR against Keras, "
            f"{facts['latency_ms']:.1f} ms per segment on one thread"
        )


def report(
    run: Path,
    *,
    song: Path | None = None,
    model: list[Path] | None = None,
    out: Path | None = None,
) -> None:
    """Writes the report of a run.

    Args:
        run: run folder.
        song: folder with `mixture.wav`, `vocals.wav`, ... of a song to listen to.
        model: further models, e.g. a `.tflite` file.
        out: HTML file; `RUN/report.html` when None.
    """
    from tfspec.separation.report import examine_song, write_report

    examined = None
    if song is not None:
        from tfspec.datasets.folder import song_track

        models = [run, *(model or [])]
        examined = examine_song(song_track(song, "test"), report_rows(models))
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
    wanted = comma_separated(precision) or PRECISIONS
    report = export_waveform(run, out, form=form, precisions=wanted)
    for name, path in report.files.items():
        facts = report.card["files"][name]
        typer.echo(
            f"{path}: {facts['bytes'] / 1e3:.0f} kB, {facts['snr_db']:.1f} dB SNR against "
            f"`tfspec separate`, {facts['latency_ms']:.1f} ms per call on one thread"
        )
