"""Synchronisation signal and physical broadcast channel blocks of NR."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfspec.synth.radio.numerology import Numerology
from tfspec.synth.radio.ofdm import ResourceGrid
from tfspec.synth.radio.sequences import (
    constellations,
    gold_sequences,
    nr_pss,
    nr_sss,
    qpsk_reference,
)

SSB_SUBCARRIERS, SSB_SYMBOLS = 240, 4  # TS 38.211 clause 7.4.3.1
SYNC_FIRST = 56  # first of the 127 subcarriers of PSS and SSS, TS 38.211 table 7.4.3.1-1
PERIODS = (5, 10, 20, 40, 80, 160)  # ms, ssb-periodicityServingCell of TS 38.331
# First symbols of the candidate blocks of a half frame, TS 38.213 clause 4.1: spacing, the first
# symbols, the step n counts in, n up to 3 GHz and up to 6 GHz.
CASES: dict[str, tuple[int, tuple[int, ...], int, int, int]] = {
    "A": (15_000, (2, 8), 14, 2, 4),
    "B": (30_000, (4, 8, 16, 20), 28, 1, 2),
    "C": (30_000, (2, 8), 14, 2, 4),
}


def candidate_symbols(case: str, n_blocks: int) -> tuple[int, ...]:
    """First symbols of the candidate blocks, counted from the start of the half frame.

    Args:
        case: "A", "B" or "C".
        n_blocks: 4 (carriers below 3 GHz) or 8.
    """
    _, first, step, few, many = CASES[case]
    count = few if n_blocks == 4 else many
    return tuple(symbol + step * n for n in range(count) for symbol in first)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SsbPattern:
    """When and where a carrier sends synchronisation blocks.

    Attributes:
        case: "A", "B" or "C", TS 38.213 clause 4.1.
        period: ms, one of `PERIODS`.
        half_frame: Half of the radio frame, 0 or 1.
        sent: Whether each of the 4 or 8 candidates is sent (ssb-PositionsInBurst).
        first_bin: Lowest subcarrier, counted from the carrier's frequency in the block's spacing.
    """

    case: str
    period: int
    half_frame: int
    sent: tuple[bool, ...]
    first_bin: int

    @property
    def spacing(self) -> int:
        """Subcarrier spacing of the block, Hz."""
        return CASES[self.case][0]

    @classmethod
    def draw(cls, rng: np.random.Generator, n_blocks: int, spacing: int) -> SsbPattern:
        """Draws a pattern for a carrier of `n_blocks` resource blocks of `spacing` Hz.

        Blocks have 15 or 30 kHz also where data have 60 kHz (TS 38.104 table 5.4.3.3-1), and 15 kHz
        where 20 blocks of 30 kHz do not fit.
        """
        half = 6 * n_blocks * spacing  # Hz; half of the carrier
        fits = [case for case in CASES if 2 * half >= SSB_SUBCARRIERS * CASES[case][0]]
        own = [case for case in fits if CASES[case][0] == spacing] or fits
        case = str(rng.choice(own))
        candidates = int(rng.choice([4, 8]))
        sent = rng.random(candidates) < rng.uniform(0.3, 1.0)
        sent[rng.integers(candidates)] = True
        # The last subcarriers of block and carrier may coincide.
        room = (12 * n_blocks - 1) * spacing // CASES[case][0] - (SSB_SUBCARRIERS - 1)
        return cls(
            case=case,
            period=int(rng.choice(PERIODS, p=[0.1, 0.2, 0.4, 0.15, 0.1, 0.05])),
            half_frame=int(rng.integers(2)),
            sent=tuple(bool(value) for value in sent),
            first_bin=int(rng.integers(0, room + 1)) - half // CASES[case][0],
        )


@dataclasses.dataclass(frozen=True)
class SsbPlace:
    """One synchronisation block within a capture.

    Attributes:
        index: Index of the candidate in its half frame.
        half_frame: 0 or 1.
        first_symbol: Of the block's spacing, from the start of the capture's first subframe.
    """

    index: int
    half_frame: int
    first_symbol: int


def ssb_blocks(pattern: SsbPattern, first_subframe: int, n_subframes: int) -> list[SsbPlace]:
    """Blocks that lie within the given subframes.

    Args:
        pattern: The carrier's pattern.
        first_subframe: Number of the first subframe since system frame number 0.
        n_subframes: Number of subframes.
    """
    per_subframe = 14 * pattern.spacing // 15_000
    candidates = candidate_symbols(pattern.case, len(pattern.sent))
    # A period of 5 ms uses both halves of every frame; TS 38.213 clause 4.1.
    phase = 0 if pattern.period == 5 else 5 * pattern.half_frame
    places = []
    last = first_subframe + n_subframes
    start = (first_subframe - phase) // pattern.period * pattern.period + phase
    for burst in range(start, last, pattern.period):
        for index, symbol in enumerate(candidates):
            first = (burst - first_subframe) * per_subframe + symbol
            if pattern.sent[index] and 0 <= first <= n_subframes * per_subframe - SSB_SYMBOLS:
                places.append(SsbPlace(index, burst // 5 % 2, first))
    return places


def ssb_grids(
    rng: np.random.Generator,
    pattern: SsbPattern,
    cell_id: int,
    places: list[SsbPlace],
    sample_rate: int,
) -> list[ResourceGrid]:
    """Fills synchronisation blocks, TS 38.211 table 7.4.3.1-1."""
    numerology = Numerology(pattern.spacing, sample_rate)
    bins = pattern.first_bin + np.arange(SSB_SUBCARRIERS)
    grids = []
    for place in places:
        values = ssb_values(rng, cell_id, place.index, place.half_frame, len(pattern.sent))
        grids.append(
            ResourceGrid(
                numerology=numerology, first_symbol=place.first_symbol, bins=bins, values=values
            )
        )
    return grids


def pbch_reference(cell_id: int, index: int, half_frame: int, n_candidates: int) -> np.ndarray:
    """Reference signal of the broadcast channel, TS 38.211 clause 7.4.1.4.1; complex64 `(144,)`."""
    number = index + 4 * half_frame if n_candidates == 4 else index % 8
    c_init = ((number + 1) * (cell_id // 4 + 1) << 11) + ((number + 1) << 6) + cell_id % 4
    return qpsk_reference(gold_sequences(c_init, 288))


def ssb_values(
    rng: np.random.Generator, cell_id: int, index: int, half_frame: int, n_candidates: int
) -> np.ndarray:
    """Resource elements of one block, complex64 `(4, 240)`."""
    n_id_1, n_id_2 = divmod(cell_id, 3)  # TS 38.211 clause 7.4.2.1
    values = np.zeros((SSB_SYMBOLS, SSB_SUBCARRIERS), np.complex64)
    band = slice(SYNC_FIRST, SYNC_FIRST + 127)
    broadcast = np.zeros(values.shape, bool)
    broadcast[[1, 3]] = True
    broadcast[2, :48] = broadcast[2, 192:] = True
    values[broadcast] = np.take(constellations()[0], rng.integers(0, 4, broadcast.sum()))
    reference = broadcast.copy()
    reference[:, np.arange(SSB_SUBCARRIERS) % 4 != cell_id % 4] = False
    values[reference] = pbch_reference(cell_id, index, half_frame, n_candidates)
    values[0, band], values[2, band] = nr_pss(n_id_2), nr_sss(n_id_1, n_id_2)
    return values
