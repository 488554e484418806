"""Speed and memory of tfspec on this machine, against what the project promises.

    python scripts/benchmark.py pipeline --out results/pipeline.json
    python scripts/benchmark.py pipeline --quick --check

Each command prints a Markdown table, writes the same as JSON with `--out`, and with `--check`
ends with exit status 1 if a stated number is missed. Comparisons alternate between the two ways,
so that a busy machine slows both alike.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from benchmarks.report import Row, machine, markdown, save

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

app = typer.Typer(
    help="Measure speed and memory on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path | None, typer.Option(help="Write the results to this JSON file as well.")]
Check = Annotated[bool, typer.Option("--check", help="Exit status 1 if a number is missed.")]
Quick = Annotated[bool, typer.Option("--quick", help="Under a minute; numbers are rougher.")]


@app.callback()
def main() -> None:
    """Measure speed and memory on this machine."""


@app.command()
def pipeline(out: Out = None, check: Check = False, quick: Quick = False) -> None:
    """Input pipeline against the paper's way; memory; decoding of a folder."""
    from benchmarks import decoding, scaling

    # Passes over the songs in one run of the paper's way and of ours: about a second each, since
    # starting a pipeline weighs more in a shorter run.
    epochs = {"max": (4, 8), "minmax": (4, 8), "robust": (1, 4)}
    songs = scaling.synthetic_songs(1 if quick else 3, 75.0)
    rows = scaling.throughput(songs, batch_size=64, repeats=2 if quick else 5, epochs=epochs)
    rows += scaling.memory(1_000 if quick else 10_000, at_most_mib=10.0)
    with tempfile.TemporaryDirectory() as folder:
        paths = decoding.write_songs(
            Path(folder), n_songs=1 if quick else 4, duration=30.0 if quick else 120.0
        )
        rows += decoding.speed(paths, repeats=2 if quick else 5)
    _finish("Input pipeline", rows, out, check)


@app.command()
def separate(
    out: Out = None,
    check: Check = False,
    quick: Quick = False,
    models: Annotated[
        str, typer.Option(help="vocals (1, 10 and 180 minutes), stems (1 and 2 minutes), or all.")
    ] = "all",
) -> None:
    """Separation of long files; networks against a matrix product."""
    from benchmarks.separate import stem_rows, vocal_rows

    parts = {"vocals": [vocal_rows], "stems": [stem_rows], "all": [vocal_rows, stem_rows]}
    if models not in parts:
        typer.echo(
            f"error: --models must be one of {sorted(parts)}. Received: {models!r}", err=True
        )
        raise typer.Exit(2)
    _finish("Separation", [row for part in parts[models] for row in part(quick)], out, check)


@app.command()
def export(out: Out = None, check: Check = False, quick: Quick = False) -> None:
    """LiteRT latency of every precision, with 1 and 2 threads, against Keras."""
    from benchmarks.exporting import export_rows

    _finish("Export", export_rows(quick), out, check)


@app.command()
def quantisation(
    runs: Annotated[list[Path], typer.Argument(help="Folders of trained separation models.")],
    out: Out = None,
    check: Check = False,
) -> None:
    """SDR that int8 costs trained models, at full level and 20 dB below."""
    from benchmarks.quantisation import quantisation_rows

    import tfspec.separation.models  # noqa: F401  registers the layers that the files name

    _finish("Quantisation", [row for run in runs for row in quantisation_rows(run)], out, check)


@app.command()
def segment(out: Out = None, check: Check = False, quick: Quick = False) -> None:
    """Images per second of segmentation networks against DeepLabV3+; IQ against real time."""
    from benchmarks.segment import segment_rows

    _finish("Segmentation", segment_rows(quick), out, check)


def _finish(title: str, rows: Sequence[Row], out: Path | None, check: bool) -> None:
    """Prints and saves the results; with `check`, missed requirements end in exit status 1."""
    on = machine()
    typer.echo(markdown(title, rows, on))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        save(out, title, rows, on)
    missed = [row.name for row in rows if row.met is False]
    if check and missed:
        typer.echo(f"missed: {'; '.join(missed)}", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
