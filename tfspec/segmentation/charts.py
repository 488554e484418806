"""Charts of segmentation: scores over epochs and over SNR, and label maps beside the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from tfspec.datasets.spectrum_sensing_images import IGNORE
from tfspec.report import figures
from tfspec.segmentation.regions import ImageAxes

_LINE_COLOURS = (figures.BLUE, figures.ORANGE, figures.GREEN, "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = "osD^vP"
_STYLES = ("-", "--", ":", "-.")
# Of the classes: the first is the background, the last is for pixels to ignore.
_CLASS_COLOURS = ("#22223B", figures.ORANGE, "#56B4E9", figures.GREEN, "#CC79A7", "#F0E442")
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


def line_chart(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    whole_x: bool = False,
    y_limits: tuple[float, float] | None = None,
) -> bytes:
    """Draws curves that share both axes.

    Args:
        curves: name in the legend to its points, `(x, y)`; NaN leaves a gap.
        x_label: quantity and unit of the horizontal axis.
        y_label: quantity and unit of the vertical axis.
        whole_x: whether horizontal values count something.
        y_limits: of the vertical axis; those of the values when None.

    Returns:
        A PNG image.

    Raises:
        ValueError: no curve, or one whose `x` and `y` differ in length.
    """
    uneven = [name for name, (x, y) in curves.items() if len(x) != len(y)]
    if not curves or uneven:
        raise ValueError(
            "`curves` must hold curves with as many x as y. "
            f"Received: {list(curves)}, uneven: {uneven}"
        )
    with matplotlib.rc_context(figures._STYLE):
        figure = figures._figure(7.2, 3.6)
        axis = figure.subplots()
        for index, (name, (x, y)) in enumerate(curves.items()):
            turn, kind = divmod(index, len(_LINE_COLOURS))
            axis.plot(
                np.asarray(x, dtype=float),
                np.asarray(y, dtype=float),
                _STYLES[(index + turn) % len(_STYLES)],
                marker=_MARKERS[kind],
                ms=4,
                color=_LINE_COLOURS[kind],
                label=name,
            )
        if whole_x:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if y_limits is not None:
            axis.set_ylim(*y_limits)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.grid()
        axis.legend(loc="best")
        return figures._png(figure)


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
    with matplotlib.rc_context(figures._STYLE):
        figure = figures._figure(8.4, 0.7 + 2.3 * len(cases))
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
        return figures._png(figure)


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
