"""Scores of segmentation networks on one data set: tables, JSON, and the curve over SNR."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfspec.report.curves import line_chart
from tfspec.segmentation.metrics import Scores, SnrBin
from tfspec.signal.files import atomic_path, write_json

STRONG_DB = 10.0  # the signals of these examples should be found
BOUNDARY = 0.0075  # of the image's diagonal, the usual tolerance of boundaries; a pixel at least


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelScores:
    """What one network reaches.

    Attributes:
        classes: names of its classes.
        size: `(frequency, time)` of its images, pixels.
        scores: over all pixels.
        boundary_f1: of each class, mean over the images; NaN where no boundary is.
        tolerance: of the boundaries, pixels.
        curve: by signal-to-noise ratio of the weakest signal, the last range without signal;
            empty where no ratio is known.
        strong: scores of the examples of `STRONG_DB` and more; None where there is none.
        image_iou: mean IoU of each example, by its name.
    """

    classes: tuple[str, ...]
    size: tuple[int, int]
    scores: Scores
    boundary_f1: tuple[float, ...]
    tolerance: float
    curve: tuple[SnrBin, ...]
    strong: Scores | None
    image_iou: dict[str, float]

    @property
    def strong_iou(self) -> float:
        """Mean IoU of the examples of `STRONG_DB` and more; NaN where there is none."""
        return math.nan if self.strong is None else self.strong.mean_iou

    def to_json(self) -> dict[str, Any]:
        """As JSON values; what is not defined is None."""
        boundary = [_json(value) for value in self.boundary_f1]
        return {
            **self.scores.to_dict(self.classes),
            "boundary_f1": _json(mean_of_defined(self.boundary_f1)),
            "boundary_f1_by_class": dict(zip(self.classes, boundary, strict=True)),
            "boundary_tolerance_pixels": self.tolerance,
            "image_size": list(self.size),
            "images": len(self.image_iou),
            f"mean_iou_from_{STRONG_DB:g}_db": _json(self.strong_iou),
            "by_snr": [
                {
                    "low_db": _json(part.low_db),
                    "high_db": _json(part.high_db),
                    "images": part.examples,
                    **part.scores.to_dict(self.classes),
                }
                for part in self.curve
            ],
        }


class ScoreTable(NamedTuple):
    """One table in two formats."""

    markdown: str
    csv: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of networks on one data set.

    Attributes:
        data: what they were scored on.
        split: part of it.
        rows: row (the network's name) -> its scores.
    """

    data: str
    split: str
    rows: dict[str, ModelScores]

    def metrics(self) -> dict[str, Any]:
        """As JSON values."""
        rows = {row: found.to_json() for row, found in self.rows.items()}
        return {"data": self.data, "split": self.split, "rows": rows}

    def table(self) -> ScoreTable:
        """One line per network, as Markdown and CSV."""
        classes = list(dict.fromkeys(name for row in self.rows.values() for name in row.classes))
        header = ["row", "mean IoU", *(f"IoU {name}" for name in classes)]
        header += ["pixel accuracy", "mean class accuracy", "boundary F1"]
        header += [f"mean IoU from {STRONG_DB:g} dB", "image", "images"]
        lines = [[row, *_cells(found, classes)] for row, found in self.rows.items()]
        note = (
            f"{self.data}, {self.split} split; all scores but the boundary F1 from one confusion "
            f"matrix over all pixels; boundaries to {100 * BOUNDARY:g} % of the diagonal, a pixel "
            "at least; SNR: of an image's weakest signal."
        )
        return _as_table(header, lines, note)

    def curve_table(self) -> ScoreTable:
        """One line per network and range of signal-to-noise ratios."""
        classes = list(dict.fromkeys(name for row in self.rows.values() for name in row.classes))
        header = ["row", "SNR from dB", "to dB", "mean IoU", *(f"IoU {name}" for name in classes)]
        lines = [
            [row, *_range_cells(part, found, classes), part.examples]
            for row, found in self.rows.items()
            for part in found.curve
        ]
        return _as_table([*header, "images"], lines, f"{self.data}, {self.split} split.")

    def curve_chart(self) -> bytes | None:
        """Mean IoU over the signal-to-noise ratio as PNG; None where no ratio is known."""
        curves = {}
        for row, found in self.rows.items():
            parts = [part for part in found.curve if math.isfinite(part.low_db)]
            if parts:
                middles = [(part.low_db + part.high_db) / 2 for part in parts]
                curves[row] = (middles, [part.scores.mean_iou for part in parts])
        if not curves:
            return None
        return line_chart(
            curves,
            x_label="SNR of the weakest signal (dB)",
            y_label="mean IoU",
            y_limits=(0.0, 1.02),
        )

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes `scores.json`, `.csv` and `.md`, and by SNR `snr.csv`, `.md` and `.png`.

        Raises:
            OutputError: a file cannot be written.
        """
        out = Path(folder)
        write_json(out / "scores.json", self.metrics())
        table, curve = self.table(), self.curve_table()
        texts = {"scores.csv": table.csv, "scores.md": table.markdown}
        chart = self.curve_chart()
        if chart is not None:
            texts |= {"snr.csv": curve.csv, "snr.md": curve.markdown}
        for name, text in texts.items():
            with atomic_path(out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        if chart is not None:
            with atomic_path(out / "snr.png") as temporary:
                temporary.write_bytes(chart)
            texts["snr.png"] = ""
        return [out / name for name in ("scores.json", *texts)]


def _cells(found: ModelScores, classes: Sequence[str]) -> list[Any]:
    scores = found.scores
    return [
        scores.mean_iou,
        *_by_class(scores, found, classes),
        scores.pixel_acc,
        scores.mean_class_acc,
        mean_of_defined(found.boundary_f1),
        found.strong_iou,
        f"{found.size[0]}x{found.size[1]}",
        len(found.image_iou),
    ]


def _by_class(scores: Scores, found: ModelScores, classes: Sequence[str]) -> list[float]:
    own = dict(zip(found.classes, scores.iou, strict=True))
    return [own.get(name, math.nan) for name in classes]


def _range_cells(part: SnrBin, found: ModelScores, classes: Sequence[str]) -> list[Any]:
    known = math.isfinite(part.low_db)
    limits = [f"{part.low_db:g}", f"{part.high_db:g}"] if known else ["no signal", ""]
    return [*limits, part.scores.mean_iou, *_by_class(part.scores, found, classes)]


def _as_table(header: Sequence[str], lines: Sequence[Sequence[Any]], note: str) -> ScoreTable:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *([_text(cell, 6, "") for cell in line] for line in lines)])
    rows = [header, ["---"] * len(header)]
    rows += [[_text(cell, 4, "n/a").replace("|", "/") for cell in line] for line in lines]
    markdown = "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", note, ""])
    return ScoreTable(markdown, text.getvalue())


def _text(cell: Any, digits: int, missing: str) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.{digits}f}" if math.isfinite(cell) else missing


def mean_of_defined(values: Sequence[float] | np.ndarray) -> float:
    """Mean of what is defined; NaN when nothing is."""
    defined = [value for value in values if math.isfinite(value)]
    return float(np.mean(defined)) if defined else math.nan


def _json(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
