"""Label maps: which class covers a pixel.

The rule. Every carrier covers a part of the time-frequency plane, exactly known:

* `"carrier"`: its occupied bandwidth (resource blocks x 12 x subcarrier spacing, TS 36.104 clause
  5.6, TS 38.104 clause 5.3.2) from the start of the first to the end of the last slot in which it
  is on. Empty slots, uplink slots and unscheduled blocks in between belong to it.
* `"resources"`: the resource blocks that carry energy in an OFDM symbol, where a block that falls
  silent for no more than 0.5 ms, one slot of 15 kHz, is counted as carrying on. LTE carriers are
  covered as long as they are on, since their reference signals come at least every 0.29 ms in
  every block; of an idle NR carrier only the synchronisation blocks remain.

A pixel belongs to a class when the class covers at least half of the pixel's area, and to noise
otherwise; when two classes do, the one that covers more wins. Row and column edges are those of
`tfspec.synth.radio.images`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfspec.synth.radio.classes import CLASS_NAMES, NOISE
from tfspec.synth.radio.images import ImageConfig
from tfspec.synth.radio.ofdm import ResourceGrid

BRIDGED = 0.5e-3  # seconds
# Where half of a pixel is covered, rounding must not decide.
_HALF = 0.5 - 1e-6


def overlaps(edges: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Share of each cell that each interval covers.

    Args:
        edges: Ascending, `(cells + 1,)`, evenly spaced.
        low: Starts of the intervals, `(n,)`.
        high: Ends, `(n,)`.

    Returns:
        float64 `(cells, n)` in 0 to 1.
    """
    start, stop = edges[:-1, None], edges[1:, None]
    shared = np.minimum(stop, high) - np.maximum(start, low)
    return np.maximum(shared, 0.0) / (stop - start)


def band_cover(
    image: ImageConfig, band: tuple[float, float], time: tuple[float, float]
) -> np.ndarray:
    """Share of each pixel inside a band in Hz and an interval in seconds, `(height, width)`."""
    rows = overlaps(image.frequency_edges[::-1], np.array([band[0]]), np.array([band[1]]))
    columns = overlaps(image.time_edges, np.array([time[0]]), np.array([time[1]]))
    return rows[::-1] * columns.T


def resource_cover(
    image: ImageConfig, grids: Iterable[ResourceGrid], frequency: float, delay: int
) -> np.ndarray:
    """Share of each pixel that resource blocks with energy cover, `(height, width)`.

    Args:
        image: The pixels.
        grids: What a carrier sends.
        frequency: The carrier's frequency, Hz.
        delay: Samples from the start of the grids' first subframe to the start of the image.
    """
    cover = np.zeros((image.height, image.width))
    for grid in grids:
        rate = grid.numerology.sample_rate
        starts, stops = (grid.starts - delay) / rate, (grid.stops - delay) / rate
        used = bridge(grid.occupied_blocks, round(BRIDGED * 14 * grid.numerology.spacing / 15))
        edges = grid.block_edges + frequency
        rows = overlaps(image.frequency_edges[::-1], edges[:, 0], edges[:, 1])
        columns = overlaps(image.time_edges, starts, stops)
        cover += rows[::-1] @ (used.T @ columns.T)
    return np.minimum(cover, 1.0)


def bridge(used: np.ndarray, longest: int) -> np.ndarray:
    """Fills gaps of at most `longest` rows between used entries of a column; bool, same shape."""
    n_rows = len(used)
    number = np.arange(n_rows)[:, None]
    before = np.maximum.accumulate(np.where(used, number, -n_rows - longest - 1), axis=0)
    after = np.minimum.accumulate(np.where(used, number, 2 * n_rows + longest + 1)[::-1], axis=0)[
        ::-1
    ]
    return used | (after - before - 1 <= longest)


def label_map(image: ImageConfig, covers: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """The class of each pixel.

    Args:
        image: The pixels.
        covers: Class and covered share of each pixel, one for each carrier.

    Returns:
        uint8 `(height, width)`, indices into `CLASS_NAMES`.
    """
    totals = np.zeros((len(CLASS_NAMES), image.height, image.width))
    for number, cover in covers:
        totals[number] += cover
    totals[NOISE] = _HALF
    return totals.argmax(axis=0).astype(np.uint8)
