"""Where a capture holds synchronisation signals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from tfspec.synth.radio import lte
from tfspec.synth.radio.ofdm import ResourceGrid
from tfspec.synth.radio.ssb import SYNC_FIRST


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyncSignal:
    """One primary or secondary synchronisation signal.

    Attributes:
        kind: `"pss"` or `"sss"`.
        time: Start of the useful part of its symbol, seconds from the start of the capture.
        frequency: Of its middle, Hz from the receiver's centre: the subcarrier that LTE leaves out
            between the halves, the 64th of 127 of NR.
        spacing: Subcarrier spacing, Hz.
    """

    kind: str
    time: float
    frequency: float
    spacing: int


def sync_signals(
    grid: ResourceGrid, rows: Iterable[tuple[str, int]], middle: int, frequency: float, delay: int
) -> list[SyncSignal]:
    """Describes rows of a grid that hold synchronisation signals and were sent.

    Args:
        grid: What a carrier sends.
        rows: Kind and row of each signal.
        middle: Subcarrier, counted from the carrier's frequency, on which they are centred.
        frequency: The carrier's frequency, Hz.
        delay: Samples from the start of the grid's first subframe to the start of the capture.
    """
    spacing, rate = grid.numerology.spacing, grid.numerology.sample_rate
    useful = grid.starts + grid.prefixes - delay
    return [
        SyncSignal(
            kind=kind,
            time=float(useful[row] / rate),
            frequency=float(frequency + middle * spacing),
            spacing=spacing,
        )
        for kind, row in rows
        if grid.values[row].any()
    ]


def lte_sync(
    grid: ResourceGrid, first_subframe: int, frequency: float, delay: int
) -> list[SyncSignal]:
    """Synchronisation signals of an LTE carrier, in order of time."""
    n_subframes = len(grid.values) // lte.SYMBOLS
    place = (first_subframe + np.arange(n_subframes)) % 10
    rows = [
        (kind, lte.SYMBOLS * subframe + symbol)
        for subframe in np.flatnonzero(np.isin(place, lte.SYNC_SUBFRAMES))
        for kind, symbol in (("sss", lte.SSS_SYMBOL), ("pss", lte.PSS_SYMBOL))
    ]
    return sync_signals(grid, rows, 0, frequency, delay)


def nr_sync(blocks: Iterable[ResourceGrid], frequency: float, delay: int) -> list[SyncSignal]:
    """Synchronisation signals of NR synchronisation blocks, in order of time."""
    return [
        signal
        for block in blocks
        for signal in sync_signals(
            block,
            (("pss", 0), ("sss", 2)),
            int(block.bins[SYNC_FIRST + 63]),
            frequency,
            delay,
        )
    ]
