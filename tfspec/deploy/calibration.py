"""Calibration data: real, already scaled segments from which the quantiser learns its ranges.

Wrong calibration data converts without any error and gives a file that sounds bad, so it is
checked before the conversion starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfspec.errors import ExportError

MIN_SEGMENTS = 16  # export.md: 16-32 real segments, loud and quiet

# Random numbers are told from recordings by the lack of any structure, in standard deviations of
# what chance does; fewer values prove nothing.
_CHANCE = 6.0
_MIN_NOISE_VALUES = 1 << 15
_MAX_NOISE_VALUES = 1 << 22  # more would only take time
# Kolmogorov's statistic; draws from the distribution exceed it in one of 100,000 cases.
_SAME_DISTRIBUTION = 2.5


def check_calibration(
    data: Any, input_shape: Sequence[int], *, minimum: int = MIN_SEGMENTS
) -> np.ndarray:
    """Checks calibration segments and returns them as float32.

    Args:
        data: array of shape `(segments, *input_shape)`, real numbers, scaled exactly as the
            model's input is in use.
        input_shape: shape of one segment without the batch axis, e.g. `(512, 128, 1)`.
        minimum: least number of segments that are not constant.

    Returns:
        A float32 array of the same shape.

    Raises:
        ExportError: no data, another type or shape, NaN or infinite values, constant data, or
            too few segments.
    """
    shape = tuple(input_shape)
    array = _as_real(data)
    if array.size == 0:
        raise ExportError(
            f"`calibration` is empty: shape {array.shape}; give at least {minimum} real segments "
            f"of shape {shape}"
        )
    if array.shape[1:] != shape:
        raise ExportError(
            f"`calibration` must have the shape (segments, {', '.join(map(str, shape))}). "
            f"Received: shape {array.shape}"
        )
    _check_values(array, minimum)
    return array


def _as_real(data: Any) -> np.ndarray:
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ExportError(
            "`calibration` must be one array of equally shaped segments. "
            f"Received: {type(data).__name__} of unequal shapes"
        ) from error
    if array.size and array.dtype.kind not in "fiu":
        raise ExportError(
            f"`calibration` must hold real numbers. Received: dtype {array.dtype}; give scaled "
            "model inputs such as magnitudes"
        )
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf and is refused below
        return array.astype(np.float32)


def _check_values(array: np.ndarray, minimum: int) -> None:
    rows = array.reshape(len(array), -1)
    bad = ~np.isfinite(rows)
    if bad.any():
        first = int(np.argmax(bad.any(axis=1)))
        raise ExportError(
            f"`calibration` holds {int(bad.sum())} NaN or infinite values, the first in segment "
            f"{first}; all must be finite"
        )
    varying = int(np.sum(rows.max(axis=1) > rows.min(axis=1)))
    if varying == 0:
        raise ExportError(
            f"`calibration` is constant: each of its {len(array)} segments has one value (the "
            f"first {rows[0, 0]:g}); give real, scaled training segments"
        )
    if varying < minimum:
        raise ExportError(
            f"`calibration` must have at least {minimum} segments that are not constant. "
            f"Received: {varying} of {len(array)}"
        )


def refuse_noise(segments: np.ndarray) -> None:
    """Refuses random numbers in the place of recordings.

    A recording of noise is no random number: its neighbouring values resemble each other, some
    places are louder than others, or segments differ in level. Each of 400 recordings alone, rain
    and sea waves among them, had four times the structure below which data are refused. They must
    also be uniformly or normally distributed, as `numpy.random` gives them, in all segments
    together. Random numbers that were filtered, transformed by an STFT or given several levels
    pass: nothing proves that they are not recordings.

    Args:
        segments: checked segments `(segments, ...)`; of less than 32,768 values none are refused.

    Raises:
        ExportError: the values are independent random numbers.
    """
    if segments.size < _MIN_NOISE_VALUES:
        return
    if structure(segments) < _CHANCE and _is_uniform_or_normal(_sample(segments)):
        raise ExportError(
            f"`calibration` is random: its {segments.size} values are independent of place, "
            "neighbours and segment; give real, scaled training segments"
        )


def structure(segments: np.ndarray) -> float:
    """How far segments are from independent draws, in standard deviations of what chance does.

    The largest of the following, for the values and for their squared distance from the mean:
    correlation of neighbours along each axis, differences between the segments' means, differences
    between the means of places.

    Args:
        segments: finite, not all equal, of shape `(segments, ...)`.
    """
    values = _sample(segments)
    values = values - values.mean()
    powers = values**2
    return max(_structure(values), _structure(powers - powers.mean()))


def _sample(segments: np.ndarray) -> np.ndarray:
    """Every so many segments, so that their values are few enough."""
    return np.asarray(segments[:: -(-segments.size // _MAX_NOISE_VALUES)], np.float64)


def _is_uniform_or_normal(values: np.ndarray) -> bool:
    """Kolmogorov's test for either distribution with the range or the moments of the values."""
    from scipy.special import ndtr

    ordered = np.sort(values, axis=None)
    ranks = (np.arange(ordered.size) + 0.5) / ordered.size
    uniform = (ordered - ordered[0]) / (ordered[-1] - ordered[0])
    normal = ndtr((ordered - ordered.mean()) / ordered.std())
    distance = min(float(np.abs(cdf - ranks).max()) for cdf in (uniform, normal))
    return distance * np.sqrt(ordered.size) < _SAME_DISTRIBUTION


def _structure(values: np.ndarray) -> float:
    """Largest deviation of values with mean 0 from what independent ones show."""
    variance = float(np.mean(values**2))
    if variance == 0:  # all equal: no random numbers
        return float("inf")
    found = []
    for axis in range(1, values.ndim):
        one, next_one = (np.delete(values, end, axis) for end in (-1, 0))
        if one.size:
            found.append(abs(float(np.sum(one * next_one))) / (variance * np.sqrt(one.size)))
    rows = values.reshape(len(values), -1)
    for axis in (0, 1):
        # Squared means of independent values, times their number, are chi-squared distributed.
        squares = rows.mean(axis=axis) ** 2 * rows.shape[axis] / variance
        found.append(float(squares.sum() - squares.size) / np.sqrt(2 * squares.size))
    return max(found)


def describe_calibration(segments: np.ndarray, rows: Sequence[int] | None = None) -> dict[str, Any]:
    """Returns what a card records about calibration data, so that the data can be recognised.

    Args:
        segments: checked segments of shape `(segments, ...)`.
        rows: which of the given segments these are; all when None.
    """
    chosen = range(len(segments)) if rows is None else rows
    flat = segments.reshape(len(segments), -1).astype(np.float64)
    levels = np.sqrt(np.mean(flat**2, axis=1))
    loud = float(levels.max())
    heard = levels[levels > 0]
    spread = 20 * np.log10(loud / float(heard.min())) if len(heard) else 0.0
    return {
        "segments": len(segments),
        "rows": [int(row) for row in chosen],
        "shape": [int(n) for n in segments.shape[1:]],
        "min": float(segments.min()),
        "max": float(segments.max()),
        "mean": float(flat.mean()),
        "level_spread_db": round(float(spread), 2),
        "sha256": hashlib.sha256(np.ascontiguousarray(segments).tobytes()).hexdigest(),
    }
