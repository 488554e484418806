"""What `convert_arm.py` and `convert_micro.py` have in common: a Keras model to verified TFLite."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfspec.errors import ConfigError, ExportError, ModelError, TfspecError

if TYPE_CHECKING:
    from tfspec.deploy.export import ExportReport

MODEL = typer.Argument(help="A run folder of `tfspec train`, or a .keras file.")
Size = Annotated[str | None, typer.Option(help="Bytes, such as 192K or 1M.")]


def run(runtime: str, default_target: str, text: str | None) -> None:
    """Runs the command line of a converter script.

    Args:
        runtime: `litert` or `tflm`; targets of the other one are refused.
        default_target: when none is named.
        text: shown by --help.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def command(
        model: Annotated[Path, MODEL],
        out: Annotated[Path, typer.Option(help="Folder to write.")],
        target: Annotated[str, typer.Option(help="Name, or a .toml file.")] = default_target,
        precision: Annotated[
            str | None, typer.Option(help="Comma-separated; those of the target if none.")
        ] = None,
        calibration: Annotated[
            Path | None, typer.Option(help=".npy of scaled segments; needed for a .keras file.")
        ] = None,
        front_end: Annotated[
            Path | None, typer.Option(help="JSON that says how the input is made from audio.")
        ] = None,
        labels: Annotated[
            Path | None, typer.Option(help="Text file, one class in each line.")
        ] = None,
        max_arena: Size = None,
        max_flash: Size = None,
    ) -> None:
        from tfspec.deploy.fit import parse_size

        options = {
            "target": _target(target, runtime),
            "precisions": None if precision is None else precision.split(","),
            "max_arena": None if max_arena is None else parse_size(max_arena),
            "max_flash": None if max_flash is None else parse_size(max_flash),
        }
        if model.is_dir():
            from tfspec.separation.export import export_separator

            report = export_separator(model, out, **options)
        else:
            report = _export_file(model, out, calibration, front_end, labels, options)
        _show(report)

    command.__doc__ = text
    try:
        typer.run(command)
    except TfspecError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


def _target(name: str, runtime: str) -> Any:
    from tfspec.deploy.targets import load_target

    target = load_target(name)
    if target.runtime != runtime:
        script = {"litert": "convert_arm.py", "tflm": "convert_micro.py"}[target.runtime]
        raise ConfigError(f"--target {name} is for {target.runtime}; use {script}")
    return target


def _export_file(
    model: Path,
    out: Path,
    calibration: Path | None,
    front_end: Path | None,
    labels: Path | None,
    options: dict[str, Any],
) -> ExportReport:
    import keras
    import numpy as np

    # Register the layers that a model may have.
    import tfspec.deploy.label_map
    import tfspec.separation.models
    import tfspec.signal.layers_streaming  # noqa: F401
    from tfspec.deploy.export import export
    from tfspec.signal.files import read_json

    if calibration is None:
        raise ExportError(f"{model}: needs --calibration: real, scaled segments in a .npy file")
    try:
        network = keras.models.load_model(model)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{model}: cannot be read as a Keras model ({_first(error)})") from error
    try:
        segments = np.load(calibration)
        names = [] if labels is None else labels.read_text(encoding="utf-8").splitlines()
        description = {} if front_end is None else read_json(front_end)
    except (OSError, ValueError) as error:
        raise ExportError(f"an input cannot be read: {_first(error)}") from error
    return export(
        network, out, front_end=description, calibration=segments, labels=names, **options
    )


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]


def _show(report: ExportReport) -> None:
    for precision, path in report.files.items():
        facts = report.card["files"][precision]
        line = f"{path}: {facts['bytes'] / 1e3:.0f} kB, "
        if facts["snr_db"] is None:
            line += f"{facts['agreement']:.2%} of the labels as in Keras"
        else:
            line += f"{facts['snr_db']:.1f} dB SNR against Keras"
        fit = facts.get("device", {}).get("fit", {})
        if fit.get("ram_bytes"):
            line += (
                f", {fit['ram_bytes'] / 1024:.0f} KB RAM, {fit['flash_bytes'] / 1024:.0f} KB flash"
            )
        typer.echo(line)
    typer.echo(f"{report.folder / 'CARD.md'}: what it is, how to use it, how good it is")
