"""Pictures of segmentation: label maps beside the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from tfspec.datasets.spectrum_sensing_images import IGNORE
from tfspec.report.canvas import GREEN, ORANGE, STYLE, new_figure, png_bytes
from tfspec.segmentation.regions import ImageAxes

# Of the classes: the first is the background, the last is for pixels to ignore.
_CLASS_COLOURS = ("#22223B", ORANGE, "#56B4E9", GREEN, "#CC79A7", "#F0E442")
_IGNORED = "#FFFFFF"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One example with its truth and what a network made of it; lowest frequency first.

    Attributes:
        title: above the row.
        image: uint8 `(frequency, time, 3)`.
        truth: true classes, `(frequency, time)`.
        labels: predicted classes, same shape.
    """

    title: str
    image: np.ndarray
    truth: np.ndarray
    labels: np.ndarray


def case_panel(cases: Sequence[Case], axes: ImageAxes, *, classes: Sequence[str]) -> bytes:
    """Draws examples one below the other: spectrogram, true classes, predicted classes.

    Args:
        cases: what to draw, all of one size.
        axes: what the pixels of all of them stand for.
        classes: names of the classes, by number.

    Returns:
        A PNG image.

    Raises:
        ValueError: there is no case, or an image and its labels differ in size.
    """
    for case in cases:
        sizes = {case.image.shape[:2], case.truth.shape, case.labels.shape}
        if len(sizes) != 1:
            raise ValueError(f"a case must be of one size. Received: {case.title}: {sorted(sizes)}")
    if not cases:
        raise ValueError("`cases` must hold at least one case. Received: none")
    rows, columns = cases[0].truth.shape
    low = axes.lowest_frequency / 1e6
    high = low + rows * axes.hz_per_row / 1e6
    left = 1e3 * axes.start
    extent = (left, left + 1e3 * columns * axes.seconds_per_column, low, high)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8.4, 0.7 + 2.3 * len(cases))
        grid = figure.subplots(len(cases), 3, sharex=True, sharey=True, squeeze=False)
        for row, (case, places) in enumerate(zip(cases, grid, strict=True)):
            shown = (case.image, _coloured(case.truth), _coloured(case.labels))
            for axis, picture in zip(places, shown, strict=True):
                axis.imshow(
                    picture,
                    origin="lower",
                    aspect="auto",
                    interpolation="nearest",
                    extent=extent,
                )
            _label(places, case, first=row == 0, last=row == len(cases) - 1)
        handles = [
            Patch(facecolor=_class_colour(number), edgecolor="#666666", label=name)
            for number, name in enumerate(classes)
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
        return png_bytes(figure)


def _label(places: Sequence[Axes], case: Case, *, first: bool, last: bool) -> None:
    titles = ("spectrogram", "truth", "network") if first else ("", "", "")
    for axis, title in zip(places, titles, strict=True):
        axis.set_title(title)
        axis.set_xlabel("time (ms)" if last else "")
    places[0].set_ylabel(f"{case.title}\nfrequency (MHz)")


def _class_colour(number: int) -> str:
    return _CLASS_COLOURS[number % len(_CLASS_COLOURS)]


def _coloured(labels: np.ndarray) -> np.ndarray:
    """Colours of a label map, float `(frequency, time, 3)`."""
    table = np.array([to_rgb(_class_colour(number)) for number in range(IGNORE)])
    table = np.concatenate([table, [to_rgb(_IGNORED)]])
    return table[labels]
