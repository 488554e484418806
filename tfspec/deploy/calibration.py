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


def describe_calibration(segments: np.ndarray) -> dict[str, Any]:
    """Returns what a card records about calibration data, so that the data can be recognised.

    Args:
        segments: checked segments of shape `(segments, ...)`.
    """
    rows = segments.reshape(len(segments), -1).astype(np.float64)
    levels = np.sqrt(np.mean(rows**2, axis=1))
    loud = float(levels.max())
    heard = levels[levels > 0]
    spread = 20 * np.log10(loud / float(heard.min())) if len(heard) else 0.0
    return {
        "segments": len(segments),
        "shape": [int(n) for n in segments.shape[1:]],
        "min": float(segments.min()),
        "max": float(segments.max()),
        "mean": float(rows.mean()),
        "level_spread_db": round(float(spread), 2),
        "sha256": hashlib.sha256(np.ascontiguousarray(segments).tobytes()).hexdigest(),
    }
