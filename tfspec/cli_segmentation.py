"""The verbs of `tfspec` for segmentation; TensorFlow is imported inside a verb."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tfspec.cli_common import (
    Cache,
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
from tfspec.errors import ConfigError

DataOption = Annotated[
    str,
    typer.Option(
        help="radio, radio:N synthetic captures, a folder with input/ and label/, or "
        "tfds:spectrum_sensing/CONFIG."
    ),
]
LayoutOption = Annotated[str | None, typer.Option(help="Of a folder: paper or mathworks.")]
UnknownOption = Annotated[
    str | None, typer.Option(help="Colours that are no class: error, ignore or legacy.")
]


def register(app: typer.Typer, train_app: typer.Typer) -> None:
    """Adds the verbs to the command line.

    Args:
        app: of `tfspec`.
        train_app: of `tfspec train`.
    """
    train_app.command("segmentation")(train_segmentation)
    app.command("segment")(segment)


def train_segmentation(
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run goes on.")],
    data: DataOption = "radio",
    preset: Annotated[
        str,
        typer.Option(help="paper, lightsegnet, micro-128, micro-64, nano-64 or deeplab."),
    ] = "lightsegnet",
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Of the learning rate: constant or cosine.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="Rows of the images.")] = None,
    width: Annotated[int | None, typer.Option(help="Columns of the images.")] = None,
    channels: Annotated[int | None, typer.Option(help="3 for colours, 1 for levels.")] = None,
    loss: Annotated[str | None, typer.Option(help="ce+dice, ce or dice.")] = None,
    class_weights: Annotated[
        str | None, typer.Option(help="One number per class, comma-separated, or balanced.")
    ] = None,
    augmentation: Annotated[str | None, typer.Option(help="none or paper.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Of deeplab: mobilenet_v2 or resnet50.")
    ] = None,
    layout: LayoutOption = None,
    unknown: UnknownOption = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and dropout.")] = None,
    data_seed: Annotated[
        int | None, typer.Option(help="Of synthetic captures and of the division.")
    ] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(help="Held out to choose the best epoch.")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="Held out of training altogether.")
    ] = None,
    manual_dir: ManualDir = None,
    cache: Cache = None,
    deterministic: Annotated[
        bool, typer.Option(help="Bit-identical reruns, a little slower.")
    ] = False,
) -> None:
    """Train a network that finds signals in spectrograms; rerun to continue."""
    changes = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "height": height,
        "width": width,
        "channels": channels,
        "scaling": "unit" if channels == 1 else None,
        "loss": loss,
        "class_weights": _class_weights(class_weights),
        "augmentation": augmentation,
        "backbone": backbone,
        "layout": layout,
        "unknown": unknown,
        "seed": seed,
        "data_seed": data_seed,
        "validation_fraction": validation_fraction,
        "test_fraction": test_fraction,
    }
    from tfspec.segmentation.recipe import SegmentationRecipe

    recipe = SegmentationRecipe.preset(preset, **given_options(changes))
    quiet_tensorflow()
    from tfspec.segmentation.train import train

    with progress_bar("preparing spectrograms") as update:
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


def segment(
    files: Annotated[
        list[Path], typer.Argument(help="PNG pictures; IQ as SigMF, .npy or raw files.")
    ],
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder; each file gets a folder of its name.")],
    sample_rate: Annotated[
        float | None, typer.Option(help="Of NumPy and raw IQ files, Hz, such as 61.44e6.")
    ] = None,
    datatype: Annotated[
        str | None, typer.Option(help="Of raw IQ files, as SigMF names it, such as ci16_le.")
    ] = None,
    center_frequency: Annotated[
        float, typer.Option(help="In the middle of files that do not state it, Hz.")
    ] = 0.0,
    orientation: Annotated[
        str | None,
        typer.Option(help="Rows of pictures: frequency_up, frequency_down, time_up, time_down."),
    ] = None,
    resize: Annotated[bool, typer.Option(help="Stretch pictures of another size.")] = False,
    picture_ms: Annotated[
        float | None, typer.Option(help="Time that a picture shows; as in training if none.")
    ] = None,
    picture_hz: Annotated[
        float | None, typer.Option(help="Bandwidth of a picture; as in training if none.")
    ] = None,
    min_pixels: Annotated[int, typer.Option(help="Smaller regions are left out.")] = 8,
    pictures: Annotated[
        bool, typer.Option(help="Overlays and label maps as PNG; long recordings in pages.")
    ] = True,
) -> None:
    """Find signals in spectrograms and IQ: overlay, label map, table of regions."""

    quiet_tensorflow()
    from tfspec.segmentation.files import SegmentOptions, segment_files
    from tfspec.segmentation.predict import Segmenter

    options = SegmentOptions(
        sample_rate=sample_rate,
        datatype=datatype,
        orientation=orientation,
        resize=resize,
        picture_duration=None if picture_ms is None else picture_ms / 1e3,
        picture_bandwidth=picture_hz,
        center_frequency=center_frequency,
        min_pixels=min_pixels,
        pictures=pictures,
    )
    segmenter = Segmenter(model)
    with progress_bar("segmenting") as update:
        written, errors = segment_files(
            files, segmenter, out, options, progress=_over_files(files, update)
        )
    for paths in written.values():
        for path in paths:
            typer.echo(str(path))
    for error in errors.values():
        typer.echo(f"error: {error}", err=True)
    if errors:
        raise typer.Exit(2)


def evaluate(
    models: list[Path],
    *,
    data: str = "radio",
    split: str = "test",
    seed: int | None = None,
    layout: str | None = None,
    unknown: str | None = None,
    manual_dir: Path | None = None,
    cache: Path | None = None,
    out: Path | None = None,
) -> None:
    """Scores networks and prints their table.

    Args:
        models: model folders or `.tflite` files.
        data: as for `train segmentation`.
        split: `train`, `validation`, `test` or `all`.
        seed: of synthetic captures, and of the division of a folder; as in training when
            None, like all that follows.
        layout: of a folder.
        unknown: what becomes of colours that are no class.
        manual_dir: folder of the pictures for `tfds:NAME`.
        cache: folder for what is made or decoded.
        out: folder for the scores; they are only printed when None.
    """
    from tfspec.segmentation.evaluate import ScoringOptions, score_models

    options = ScoringOptions(
        split=split,
        data_seed=seed,
        layout=layout,
        unknown=unknown,
        cache=cache,
        manual_dir=manual_dir,
    )
    with progress_bar("scoring") as update:
        evaluation = score_models(
            dict(zip(row_names(models), models, strict=True)),
            data,
            options,
            progress=lambda done, total, row: update(done, total, row),
        )
    typer.echo(evaluation.table().markdown)
    if evaluation.curve_chart() is not None:
        typer.echo(evaluation.curve_table().markdown)
    if out is not None:
        evaluation.save(out)


def export(
    run: Path,
    *,
    out: Path | None = None,
    precision: str | None = None,
    target: str | None = None,
    max_arena: str | None = None,
    max_flash: str | None = None,
    output: str = "logits",
) -> None:
    """Exports a network and prints its files.

    Args:
        run: model folder.
        out: folder to write; `RUN/export` when None.
        precision: comma-separated; those of the target when None.
        target: device, by name or file.
        max_arena: most memory for tensors, such as `192K`.
        max_flash: most flash.
        output: `logits`, or `labels`: class numbers, in float precisions.
    """
    from tfspec.segmentation.export import export_segmenter

    report = export_segmenter(
        run,
        out,
        output=output,
        precisions=comma_separated(precision),
        target=target,
        max_arena=size_option("--max-arena", max_arena),
        max_flash=size_option("--max-flash", max_flash),
    )
    for name, path in report.files.items():
        facts = report.card["files"][name]
        typer.echo(
            f"{path}: {facts['bytes'] / 1e3:.0f} kB, mean IoU {facts['score']:.4f} (Keras "
            f"{report.card['keras_score']:.4f}), {facts['latency_ms']:.1f} ms per image on one "
            "thread"
        )


def report(
    run: Path,
    *,
    data: str | None = None,
    model: list[Path] | None = None,
    out: Path | None = None,
    cache: Path | None = None,
) -> None:
    """Writes the report of a run.

    Args:
        run: run folder.
        data: to score, draw and time the networks on; curves only when None.
        model: further networks, e.g. a `.tflite` file.
        out: HTML file; `RUN/report.html` when None.
        cache: folder for what is made or decoded.
    """
    from tfspec.segmentation.evaluate import ScoringOptions
    from tfspec.segmentation.report import examine, write_report

    if model and data is None:
        raise ConfigError("--model needs --data to compare the models on, such as radio:1000")
    examined = None
    if data is not None:
        rows = report_rows([run, *(model or [])])
        examined = examine(rows, data, ScoringOptions(cache=cache))
        typer.echo(examined.evaluation.table().markdown)
    typer.echo(str(write_report(run, out or run / "report.html", examined=examined)))


def _class_weights(text: str | None) -> tuple[float, ...] | str | None:
    """The weights of `1,2.5,2` as numbers; words as they are."""
    if text is None or "," not in text:
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--class-weights must be numbers such as 1,2.5,2 or balanced. Received: {text!r}"
        ) from None


def _over_files(
    files: list[Path], update: Callable[[int, int, str], None]
) -> Callable[[str, int, int], None]:
    """One bar over all files, in thousandths of a file."""
    places = {str(path): number for number, path in enumerate(files)}

    def show(name: str, done: int, total: int) -> None:
        thousandths = 1000 * places[name] + 1000 * done // max(total, 1)
        update(thousandths, 1000 * len(files), Path(name).name)

    return show
