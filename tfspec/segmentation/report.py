"""One-file report of a segmentation run: curves, scores by SNR, good and bad cases, latencies."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfspec.errors import DataError
from tfspec.report.curves import line_chart
from tfspec.report.figures import latency_chart, loss_curves
from tfspec.report.html import ReportPage
from tfspec.segmentation.charts import Case, case_panel
from tfspec.segmentation.estimators import SegmentationEstimator, load_segmenter
from tfspec.segmentation.evaluate import ScoringOptions, open_scored, score_models
from tfspec.segmentation.scores import STRONG_DB, Evaluation
from tfspec.segmentation.stores import ExampleStore
from tfspec.signal.files import read_json, write_json
from tfspec.synth.radio.images import colour_image

if TYPE_CHECKING:
    from tfspec.datasets.spectrum_sensing_folder import LabelledSpectrogram

_LATENCY_REPEATS = 15
_CASES = 3  # good ones, and as many bad ones


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examination:
    """What was found out about networks on one data set.

    Attributes:
        evaluation: scores of all of them.
        good: picture of the first network's best cases, PNG.
        bad: picture of its worst.
        latencies: row -> seconds per image, several measurements.
    """

    evaluation: Evaluation
    good: bytes
    bad: bytes
    latencies: dict[str, list[float]]

    def to_json(self) -> dict[str, Any]:
        """Scores and latencies as JSON values."""
        latency = {row: 1e3 * float(np.median(v)) for row, v in self.latencies.items()}
        return {**self.evaluation.metrics(), "latency_ms": latency}


def examine(
    models: Mapping[str, str | os.PathLike[str]],
    data: str | Sequence[LabelledSpectrogram] = "radio",
    options: ScoringOptions | None = None,
) -> Examination:
    """Scores and times networks, and draws what the first one does well and badly.

    Args:
        models: row -> model folder or `.tflite` file.
        data: as for `score_models`.
        options: as for `score_models`.
    """
    options = (options or ScoringOptions()).as_trained(models.values())
    estimators = {row: load_segmenter(path) for row, path in models.items()}
    evaluation = score_models(estimators, data, options)
    first, estimator = next(iter(estimators.items()))
    store = open_scored(data, estimator.front_end, options)
    good, bad = good_and_bad(evaluation.rows[first].image_iou, store)
    return Examination(
        evaluation=evaluation,
        good=draw_cases(estimator, store, good),
        bad=draw_cases(estimator, store, bad),
        latencies=measure_latencies(estimators),
    )


def good_and_bad(
    image_iou: Mapping[str, float], store: ExampleStore, count: int = _CASES
) -> tuple[list[int], list[int]]:
    """Numbers of typical good and of the worst examples.

    The best examples hold nothing but noise; good ones are therefore those of the upper quartile
    that have a signal, weakest signal first.

    Args:
        image_iou: mean IoU by name of example.
        store: the examples.
        count: of each kind.
    """
    numbers = {example.name: number for number, example in enumerate(store)}
    ordered = sorted(
        (name for name, iou in image_iou.items() if math.isfinite(iou)), key=image_iou.__getitem__
    )
    upper = [numbers[name] for name in ordered[3 * len(ordered) // 4 :]]
    snr = store.snr_db
    with_signal = [number for number in upper if math.isfinite(snr[number])] or upper
    good = sorted(with_signal, key=lambda number: (snr[number], number))[:count]
    return good, [numbers[name] for name in ordered[:count]]


def draw_cases(
    estimator: SegmentationEstimator, store: ExampleStore, numbers: Sequence[int]
) -> bytes:
    """Draws examples with their true and their predicted classes.

    Args:
        estimator: the network.
        store: the examples.
        numbers: which of them.

    Returns:
        A PNG image.
    """
    front_end = estimator.front_end
    cases = []
    for number in numbers:
        image, truth = store.load(number)
        labels = estimator(front_end.scaled(image)[None]).labels[0]
        snr = store[number].snr_db
        title = f"{snr:.0f} dB" if math.isfinite(snr) else store[number].name
        cases.append(Case(title=title, image=_shown(image), truth=truth, labels=labels))
    return case_panel(cases, front_end.axes, classes=front_end.classes)


def measure_latencies(
    estimators: Mapping[str, SegmentationEstimator],
) -> dict[str, list[float]]:
    """Seconds per image, all cores; networks take turns, so noise hits them alike."""
    times: dict[str, list[float]] = {row: [] for row in estimators}
    rng = np.random.default_rng(0)
    inputs = {
        row: estimator.front_end.scaled(
            rng.random((1, *estimator.front_end.input_shape), np.float32)
        )
        for row, estimator in estimators.items()
    }
    for row, estimator in estimators.items():
        estimator(inputs[row])  # the first call traces
    for _ in range(_LATENCY_REPEATS):
        for row, estimator in estimators.items():
            start = time.perf_counter()
            estimator(inputs[row])
            times[row].append(time.perf_counter() - start)
    return times


def write_report(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    examined: Examination | None = None,
    machine: str = "",
) -> Path:
    """Writes the report of a run folder.

    Args:
        run: a run folder with `history.csv` and `tfspec.json`.
        out: HTML file; scores and latencies go beside it as `scores.json`.
        examined: what `examine` found; left out when None.
        machine: named beside the latencies.

    Returns:
        The HTML file.

    Raises:
        DataError: the run has no history yet.
        ModelError: it is no run folder.
    """
    run, out = Path(run), Path(out)
    metadata, recipe = read_json(run / "tfspec.json"), read_json(run / "recipe.json")
    rows = history(run / "history.csv")
    data = metadata["data"]
    page = ReportPage(
        f"Spectrogram segmentation: {run.name}",
        f"{recipe['model']} on images of {recipe['height']} x {recipe['width']} x "
        f"{recipe['channels']}, trained for {len(rows)} epochs on {data['name']} "
        f"({data['licence']}), seed {metadata['seed']}.",
    )
    if examined is not None:
        _add_examination(page, examined, machine)
        write_json(out.with_name("scores.json"), examined.to_json())
    page.add_heading("Training")
    page.add_figure(loss_curves(rows), f"Loss ({recipe['loss']}).")
    page.add_figure(
        iou_curves({"": rows}),
        "Mean IoU; of training, a running value while dropout is on and weights still change.",
    )
    page.add_table("Recipe", ["setting", "value"], [[k, str(v)] for k, v in recipe.items()])
    page.write(out)
    return out


def iou_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> bytes:
    """Draws training and validation mean IoU over the epochs.

    Args:
        histories: name of a run -> rows of `history`.

    Returns:
        A PNG image.
    """
    curves = {}
    for name, rows in histories.items():
        epochs = [row["epoch"] + 1 for row in rows]
        for part, column in (("training", "mean_iou"), ("validation", "val_mean_iou")):
            curves[f"{name}, {part}" if name else part] = (epochs, [row[column] for row in rows])
    return line_chart(curves, x_label="epoch", y_label="mean IoU", whole_x=True)


def history(path: Path) -> list[dict[str, Any]]:
    """Rows of `history.csv`, epochs counted from 0 as the figures want them.

    Raises:
        DataError: there is none yet.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]
    except OSError as error:
        raise DataError(f"{path}: cannot be read; train at least one epoch first") from error
    return [{**row, "epoch": int(row["epoch"]) - 1} for row in rows]


def _add_examination(page: ReportPage, examined: Examination, machine: str) -> None:
    evaluation = examined.evaluation
    first = next(iter(evaluation.rows.values()))
    page.add_heading(f"Scores on {evaluation.data}, {evaluation.split} split")
    columns = ["", "mean IoU", *(f"IoU {name}" for name in first.classes), "pixel accuracy"]
    columns += ["mean class accuracy", "boundary F1", f"mean IoU from {STRONG_DB:g} dB"]
    page.add_table(
        "Scores",
        columns,
        [
            [
                row,
                found.scores.mean_iou,
                *found.scores.iou,
                found.scores.pixel_acc,
                found.scores.mean_class_acc,
                float(np.nanmean(found.boundary_f1)),
                found.strong_iou,
            ]
            for row, found in evaluation.rows.items()
        ],
        decimals=4,
        note="From one confusion matrix over all pixels; SNR: of an image's weakest signal.",
    )
    chart = evaluation.curve_chart()
    if chart is not None:
        page.add_figure(chart, "Mean IoU by the SNR of the weakest signal, in ranges of 5 dB.")
    page.add_figure(examined.good, "Good cases: weak signals of the best quarter.")
    page.add_figure(examined.bad, "The worst cases.")
    page.add_heading("Latency")
    page.add_figure(
        latency_chart(examined.latencies, reference=next(iter(examined.latencies))),
        f"Time per image, all cores{', ' + machine if machine else ''}; median of "
        f"{_LATENCY_REPEATS} alternating calls.",
    )


def _shown(image: np.ndarray) -> np.ndarray:
    """An image in [0, 1] as uint8 colours."""
    if image.shape[2] == 1:
        return colour_image(image[..., 0])
    return np.rint(255.0 * image).astype(np.uint8)
