"""Statistics over songs, and score tables as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfspec.errors import ConfigError
from tfspec.separation.metrics import MUSEVAL_METRICS, finite_median
from tfspec.separation.paper_protocol import PAPER_METRICS

# Metrics of each protocol's columns; a table has those of one protocol only.
PROTOCOLS = {"museval": (*MUSEVAL_METRICS, "SI-SDR"), "paper": PAPER_METRICS}
_NOTES = {
    "museval": "museval: BSS eval v4, 1 s frames, median over frames, median over songs, dB.",
    "paper": (
        "paper: the vocal_unet paper's own protocol (mir_eval, mixture phase, swapped arguments), "
        "mean over excerpts, dB; comparable with its table only."
    ),
}
_COUNTS = {"museval": "songs", "paper": "excerpts"}
Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]


class ScoreTable(NamedTuple):
    """One table in two formats."""

    markdown: str
    csv: str


def statistics(values: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, Any]:
    """Median over songs of each metric, with dictionaries `mean` and `std`, and `songs`.

    Values that are not finite (silent songs, perfect copies) are left out; `songs` says how many
    had a finite value of the first metric.
    """
    columns = {name: np.array([song[name] for song in values], np.float64) for name in names}
    finite = {name: column[np.isfinite(column)] for name, column in columns.items()}
    result: dict[str, Any] = {name: finite_median(column) for name, column in finite.items()}
    result["mean"] = {name: float(c.mean()) if c.size else math.nan for name, c in finite.items()}
    result["std"] = {name: float(c.std()) if c.size else math.nan for name, c in finite.items()}
    result["songs"] = int(finite[names[0]].size)
    return result


def scores_table(rows: Rows, *, protocol: str, digits: int = 2) -> ScoreTable:
    """Tabulates one protocol's scores.

    Args:
        rows: row -> target -> metric -> dB, as in `Evaluation.rows` or metrics.json.
        protocol: `museval` or `paper`; named in every column.
        digits: decimals in Markdown; CSV has four.

    Returns:
        Markdown with a line on what the numbers are, and CSV. Missing values are `n/a` in
        Markdown and empty in CSV.

    Raises:
        ConfigError: `protocol` is not known.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"`protocol` must be one of {sorted(PROTOCOLS)}. Received: {protocol!r}")
    targets = list(dict.fromkeys(target for row in rows.values() for target in row))
    columns = [(target, metric) for target in targets for metric in PROTOCOLS[protocol]]
    cells = [
        (name, [row.get(target, {}).get(metric) for target, metric in columns])
        for name, row in rows.items()
    ]
    # Songs that failed or are silent are missing from a row: every row says how many it has.
    count = _COUNTS[protocol]
    counts = [str(min((t.get(count, 0) for t in row.values()), default=0)) for row in rows.values()]
    titles = [*(f"{target} {metric} ({protocol})" for target, metric in columns), count]
    lines = [f"| row | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for (name, values), number in zip(cells, counts, strict=True):
        texts = [*(_text(value, digits, "n/a") for value in values), number]
        lines.append(f"| {' | '.join([name.replace('|', '/'), *texts])} |")
    lines += ["", _NOTES[protocol], ""]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["row", *(f"{protocol} {target} {metric} dB" for target, metric in columns), count]
    )
    for (name, values), number in zip(cells, counts, strict=True):
        writer.writerow([name, *(_text(value, 4, "") for value in values), number])
    return ScoreTable("\n".join(lines), buffer.getvalue())


def json_number(value: Any) -> Any:
    """Copy of nested dictionaries and lists in which numbers that are not finite are None."""
    if isinstance(value, Mapping):
        return {key: json_number(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_number(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def _text(value: float | None, digits: int, missing: str) -> str:
    return missing if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
