"""Tables of the reproduction, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightsegnet.settings import PAPER_TABLE
from tfspec.signal.files import atomic_path

_COLUMNS = {
    "train loss": ("loss", "train_loss"),
    "val loss": ("val_loss", "val_loss"),
    "train IoU": ("mean_iou", "train_iou"),
    "val IoU": ("val_mean_iou", "val_iou"),
}


def write_epochs(out: Path, history: Sequence[Mapping[str, float]], caption: str) -> None:
    """Writes `epochs.csv` and `epochs.md`: ours beside the paper's, epoch by epoch.

    Args:
        out: folder.
        history: rows of the run's `history.csv`, epochs from 0.
        caption: what ours were made from.
    """
    header = ["epoch", *(f"{whose} {name}" for name in _COLUMNS for whose in ("paper:", "ours:"))]
    lines = []
    for row in history:
        epoch = int(row["epoch"])
        paper = PAPER_TABLE[epoch] if epoch < len(PAPER_TABLE) else None
        cells = [str(epoch + 1)]
        for ours, theirs in _COLUMNS.values():
            cells.append("" if paper is None else f"{getattr(paper, theirs):.4f}")
            cells.append(f"{row[ours]:.4f}")
        lines.append(cells)
    write_table(out, "epochs", header, lines, caption)


def write_networks(out: Path, rows: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Writes `networks.csv` and `networks.md`: scores, size and speed of each network.

    Args:
        out: folder.
        rows: of `network_facts` with the scores of `ModelScores.to_json` under `scores`.
        caption: what they were scored on.
    """
    header = ["network", "image", "mean IoU", "mean IoU from 10 dB", "pixel accuracy"]
    header += ["boundary F1", "parameters", "MMACs", "ms per image", "training minutes"]
    lines = []
    for row in rows:
        scores = row["scores"]
        cells = [row["name"], "x".join(map(str, scores["image_size"]))]
        for key in ("mean_iou", "mean_iou_from_10_db", "pixel_acc", "boundary_f1"):
            cells.append("" if scores[key] is None else f"{scores[key]:.4f}")
        cells.append("" if row["parameters"] is None else f"{row['parameters']:,}")
        cells.append("" if row["macs"] is None else f"{row['macs'] / 1e6:,.0f}")
        cells.append(f"{row['latency_ms']:.1f}")
        cells.append("" if row["minutes"] is None else f"{row['minutes']:.1f}")
        lines.append(cells)
    write_table(out, "networks", header, lines, caption)


def write_ablation(
    out: Path, runs: Mapping[str, Sequence[Mapping[str, float]]], caption: str
) -> None:
    """Writes `ablation.csv` and `ablation.md`: mean and spread over the seeds.

    Args:
        out: folder.
        runs: variant -> for each seed the mean IoU of the best epoch in `validation`, of the test
            set in `test` and of its strong signals in `strong`.
        caption: what they were made from.
    """
    names = {"validation": "validation mean IoU", "test": "test mean IoU"}
    names["strong"] = "test mean IoU from 10 dB"
    header = ["variant", "runs"]
    header += [f"{name}{part}" for name in names.values() for part in ("", " (spread)")]
    header += ["test mean IoU of each run", "difference to the first"]
    first = float(np.mean([run["test"] for run in next(iter(runs.values()))]))
    lines = []
    for variant, found in runs.items():
        cells = [variant, str(len(found))]
        for key in names:
            values = np.array([run[key] for run in found], np.float64)
            cells += [f"{values.mean():.4f}", f"{_spread(values):.4f}"]
        values = np.array([run["test"] for run in found])
        cells.append(" ".join(f"{value:.4f}" for value in values))
        cells.append(f"{values.mean() - first:+.4f}")
        lines.append(cells)
    note = (
        "Spread: standard deviation over the seeds of weights, order, dropout and augmentation "
        "(n - 1); the data are the same. A difference below the spreads says nothing."
    )
    write_table(out, "ablation", header, lines, f"{caption}\n\n{note}")


def write_table(
    out: Path, name: str, header: Sequence[str], lines: Sequence[Sequence[str]], caption: str
) -> None:
    """Writes `NAME.csv` and `NAME.md`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    rows = [_line(header), _line(["---"] * len(header)), *map(_line, lines)]
    for suffix, content in (
        (".csv", text.getvalue()),
        (".md", "\n".join([caption, "", *rows, ""])),
    ):
        with atomic_path(out / f"{name}{suffix}") as temporary:
            temporary.write_text(content, encoding="utf-8")


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
