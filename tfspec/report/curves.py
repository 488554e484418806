"""Line charts of a quantity against another, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from tfspec.report.canvas import BLUE, GREEN, GREY, ORANGE, STYLE, new_figure, png_bytes

_COLOURS = (BLUE, ORANGE, GREEN, GREY, "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = "osD^vP*"
_STYLES = ("-", "--", ":", "-.")


def line_chart(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    whole_x: bool = False,
    y_limits: tuple[float, float] | None = None,
) -> bytes:
    """Draws curves that share both axes.

    Args:
        curves: name in the legend to its points, `(x, y)`; NaN leaves a gap.
        x_label: quantity and unit of the horizontal axis.
        y_label: quantity and unit of the vertical axis.
        log_x: logarithmic horizontal axis, to base 2.
        log_y: logarithmic vertical axis.
        whole_x: whether horizontal values count something.
        y_limits: of the vertical axis; those of the values when None.

    Returns:
        A PNG image.

    Raises:
        ValueError: no curve, or one whose `x` and `y` differ in length.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one curve. Received: none")
    with matplotlib.rc_context(STYLE):
        figure = new_figure(7.2, 3.6)
        axis = figure.subplots()
        for index, (name, (x, y)) in enumerate(curves.items()):
            if len(x) != len(y):
                raise ValueError(
                    f"`curves` must have as many x as y. Received: {name!r} with {len(x)} and "
                    f"{len(y)}"
                )
            turn, kind = divmod(index, len(_COLOURS))
            axis.plot(
                np.asarray(x, dtype=float),
                np.asarray(y, dtype=float),
                _STYLES[(index + turn) % len(_STYLES)],
                marker=_MARKERS[kind],
                ms=4,
                color=_COLOURS[kind],
                label=name,
            )
        if log_x:
            axis.set_xscale("log", base=2)
        if log_y:
            axis.set_yscale("log")
        if whole_x:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if y_limits is not None:
            axis.set_ylim(*y_limits)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.grid(axis="both")
        axis.legend(loc="best")
        return png_bytes(figure)
