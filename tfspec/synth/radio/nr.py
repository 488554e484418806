"""Downlink of an NR carrier in frequency range 1 (TS 38.211, TS 38.213).

As in LTE, what receivers know is exact (PSS, SSS, demodulation reference signals of PBCH, PDCCH and
PDSCH) and what carries data has random symbols at the real places.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfspec.synth.radio.lte import random_symbols
from tfspec.synth.radio.numerology import Numerology
from tfspec.synth.radio.ofdm import ResourceGrid
from tfspec.synth.radio.sequences import constellations, gold_sequences, qpsk_reference
from tfspec.synth.radio.ssb import SsbPattern, ssb_blocks, ssb_grids
from tfspec.synth.radio.traffic import Load, allocate, schedule

SYMBOLS = 14  # of a slot, TS 38.211 table 4.3.2-1
# Symbols of the PDSCH's reference signals after the first one, for allocations that last to the
# end of the slot: TS 38.211 table 7.4.1.1.2-3, single-symbol, mapping type A.
_ADDITIONAL_DMRS: tuple[tuple[int, ...], ...] = ((), (11,), (7, 11))
# Downlink slots, downlink symbols of the slot after them, uplink slots: common choices of
# tdd-UL-DL-ConfigurationCommon (TS 38.213 clause 11.1) by spacing; () is FDD.
TDD_PATTERNS: dict[int, tuple[tuple[int, ...], ...]] = {
    15_000: ((), (), (3, 10, 1)),
    30_000: ((), (3, 10, 1), (7, 6, 2)),
    60_000: ((), (7, 6, 2)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NrCell:
    """Static properties of an NR carrier.

    Attributes:
        n_blocks: Resource blocks.
        spacing: Subcarrier spacing of control and data, Hz.
        cell_id: Physical cell identity, 0 to 1007.
        ssb: Synchronisation blocks.
        control_symbols: Symbols of the control resource set, 1 to 3.
        dmrs_symbol: First symbol with a reference signal of the PDSCH, 2 or 3.
        extra_dmrs: Further such symbols of a slot.
        tdd: Entry of `TDD_PATTERNS`.
    """

    n_blocks: int
    spacing: int
    cell_id: int
    ssb: SsbPattern
    control_symbols: int
    dmrs_symbol: int
    extra_dmrs: tuple[int, ...]
    tdd: tuple[int, ...]

    @property
    def n_subcarriers(self) -> int:
        """Subcarriers of the carrier."""
        return 12 * self.n_blocks

    @property
    def group(self) -> int:
        """Resource blocks of a group, TS 38.214 table 5.1.2.2.1-1, configuration 1."""
        return 2 << int(np.searchsorted((36, 72, 144), self.n_blocks))


def draw_cell(rng: np.random.Generator, n_blocks: int, spacing: int) -> NrCell:
    """Draws a cell of a given bandwidth and subcarrier spacing."""
    cell_id = int(rng.integers(1008))
    patterns = TDD_PATTERNS[spacing]
    control = int(rng.integers(1, 4))
    return NrCell(
        n_blocks=n_blocks,
        spacing=spacing,
        cell_id=cell_id,
        ssb=SsbPattern.draw(rng, n_blocks, spacing),
        control_symbols=control,
        # A reference signal in symbol 2 must not meet a third control symbol.
        dmrs_symbol=3 if control == 3 else int(rng.integers(2, 4)),
        extra_dmrs=_ADDITIONAL_DMRS[int(rng.integers(3))],
        tdd=patterns[int(rng.integers(len(patterns)))],
    )


def nr_grids(
    rng: np.random.Generator,
    cell: NrCell,
    load: Load,
    *,
    sample_rate: int,
    first_subframe: int,
    n_subframes: int,
    max_silence: float | None,
) -> list[ResourceGrid]:
    """Fills the subframes of a carrier.

    Args:
        rng: Source of traffic and data.
        cell: The carrier.
        load: Its traffic.
        sample_rate: Hz.
        first_subframe: Number of the first subframe since system frame number 0.
        n_subframes: Subframes to fill.
        max_silence: Longest time without a scheduled slot, seconds.

    Returns:
        The grid of control and data, then one grid for each synchronisation block, whose spacing
        may differ.
    """
    numerology = Numerology(cell.spacing, sample_rate)
    n_slots = n_subframes * numerology.slots_per_subframe
    slots = first_subframe * numerology.slots_per_subframe + np.arange(n_slots)
    downlink = downlink_symbols(cell, slots)
    duration = 1e-3 / numerology.slots_per_subframe
    active = schedule(rng, load, downlink[:, 0], duration, max_silence)
    blocks = allocate(rng, load, active, cell.n_blocks, cell.group)
    alphabet = rng.integers(0, 4, (n_slots, 1, 1))
    values = random_symbols(rng, alphabet, (n_slots, SYMBOLS, cell.n_subcarriers))
    values[:, cell.control_symbols :] *= np.repeat(blocks, 12, axis=1)[:, None]
    _data_references(values, cell, slots, blocks)
    _control(rng, values, cell, slots, active)
    values *= downlink[..., None]
    grid = ResourceGrid(
        numerology=numerology,
        first_symbol=0,
        # The block grid lies as close to the carrier's frequency as it can: TS 38.104 table
        # 5.4.2.2-1 puts it on subcarrier 0 of block N/2, or 6 of the middle one for odd N.
        bins=np.arange(cell.n_subcarriers) - cell.n_subcarriers // 2,
        values=values.reshape(-1, cell.n_subcarriers),
    )
    places = ssb_blocks(cell.ssb, first_subframe, n_subframes)
    ssb = ssb_grids(rng, cell.ssb, cell.cell_id, places, sample_rate)
    ssb = [block for block in ssb if _all_downlink(block, grid, downlink)]
    for block in ssb:
        _clear(grid, block)
    return [grid, *ssb]


def downlink_symbols(cell: NrCell, slots: np.ndarray) -> np.ndarray:
    """Which symbols of the given slots the base station may send in, bool `(slots, 14)`."""
    if not cell.tdd:
        return np.ones((slots.size, SYMBOLS), bool)
    whole, part, uplink = cell.tdd
    place = slots % (whole + 1 + uplink)
    count = np.where(place < whole, SYMBOLS, np.where(place == whole, part, 0))
    return np.arange(SYMBOLS) < count[:, None]


def _data_references(
    values: np.ndarray, cell: NrCell, slots: np.ndarray, blocks: np.ndarray
) -> None:
    """Reference signals of the PDSCH: type 1, one port, the other comb left empty.

    TS 38.211 clause 7.4.1.1; 3 dB above the data, TS 38.214 table 4.1-1.
    """
    n_id = cell.cell_id
    in_frame = slots % (10 * cell.spacing // 15_000)
    used = np.repeat(blocks, 6, axis=1)
    for symbol in (cell.dmrs_symbol, *cell.extra_dmrs):
        c_init = ((SYMBOLS * in_frame + symbol + 1) * (2 * n_id + 1) << 17) + 2 * n_id
        sequence = qpsk_reference(gold_sequences(c_init % (1 << 31), cell.n_subcarriers))
        values[:, symbol] = 0.0
        values[:, symbol, ::2] = np.float32(np.sqrt(2.0)) * sequence * used


def _control(
    rng: np.random.Generator,
    values: np.ndarray,
    cell: NrCell,
    slots: np.ndarray,
    active: np.ndarray,
) -> None:
    """PDCCH in scheduled slots: interleaved bundles of 6 resource element groups, and its DM-RS.

    The control resource set spans the band in steps of 6 blocks (TS 38.211 clause 7.3.2.2); its
    reference signals are every fourth element from the second on (clause 7.4.1.3).
    """
    n_control, n_id = cell.control_symbols, cell.cell_id
    blocks_per_bundle = 6 // n_control
    n_bundles = cell.n_blocks // 6 * n_control
    share = rng.uniform(0.1, 0.9, (slots.size, 1)) * active[:, None]
    used = rng.random((slots.size, n_bundles)) < share
    # At least one control channel element, 6 groups, in a slot that is scheduled.
    used[np.arange(slots.size), rng.integers(0, n_bundles, slots.size)] |= active
    elements = np.repeat(used, 12 * blocks_per_bundle, axis=1)
    in_frame = slots % (10 * cell.spacing // 15_000)
    alphabet = constellations()[0]
    for symbol in range(n_control):
        row = values[:, symbol]
        row[:] = np.take(alphabet, rng.integers(0, 4, row.shape))
        c_init = ((SYMBOLS * in_frame + symbol + 1) * (2 * n_id + 1) << 17) + 2 * n_id
        bits = gold_sequences(c_init % (1 << 31), 6 * cell.n_blocks)
        row[:, 1::4] = qpsk_reference(bits)
        row[:, : elements.shape[1]] *= elements
        row[:, elements.shape[1] :] = 0.0


def _all_downlink(block: ResourceGrid, grid: ResourceGrid, downlink: np.ndarray) -> bool:
    """Whether a synchronisation block lies in symbols that may be sent."""
    meets = (grid.starts < block.stops[-1]) & (grid.stops > block.starts[0])
    return bool(downlink.reshape(-1)[meets].all())


def _clear(grid: ResourceGrid, block: ResourceGrid) -> None:
    """Takes data off every resource block that meets a synchronisation block (TS 38.214 5.1.4)."""
    meets = (grid.starts < block.stops[-1]) & (grid.stops > block.starts[0])
    low, high = block.block_edges[0, 0], block.block_edges[-1, 1]
    taken = (grid.block_edges[:, 0] < high) & (grid.block_edges[:, 1] > low)
    rows = np.flatnonzero(meets)
    columns = np.flatnonzero(np.repeat(taken, 12))
    grid.values[rows[:, None], columns] = 0.0
