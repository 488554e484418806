"""Downlink of an LTE carrier: FDD frames of 15 kHz and normal cyclic prefix (TS 36.211).

Signals that a receiver knows (synchronisation, cell-specific reference) are exact. Channels that
carry data (PBCH, PCFICH, PHICH and PDCCH, PDSCH) have their resource elements at the real places
and random symbols in them, as scrambled code words are.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfspec.synth.radio.numerology import SUBFRAMES_PER_FRAME, Numerology
from tfspec.synth.radio.ofdm import ResourceGrid
from tfspec.synth.radio.sequences import (
    constellations,
    gold_sequences,
    lte_pss,
    lte_sss,
    qpsk_reference,
)
from tfspec.synth.radio.traffic import Load, allocate, schedule

SYMBOLS = 14  # of a subframe: two slots of 7, TS 36.211 table 6.2.3-1
PSS_SYMBOL, SSS_SYMBOL = 6, 5  # of subframes 0 and 5, TS 36.211 clauses 6.11.1.2 and 6.11.2.2
SYNC_SUBFRAMES = (0, 5)
PBCH_SYMBOLS = (7, 8, 9, 10)  # of subframe 0: the first four of slot 1, TS 36.211 clause 6.6.4
CRS_SYMBOLS = (0, 4, 7, 11)  # ports 0 and 1, TS 36.211 clause 6.10.1.2
_CENTRE = 72  # subcarriers of the six middle blocks
_MAX_BLOCKS = 110  # N_RB^max,DL of TS 36.211 clause 6.10.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LteCell:
    """Static properties of an LTE carrier.

    Attributes:
        n_blocks: Resource blocks, 6 to 100.
        cell_id: Physical cell identity, 0 to 503.
        ports: Antenna ports with reference signals, 1 or 2.
        reference_gain: Amplitude of reference signals over data; sqrt(2) is the usual boost
            (P_B = 1 of TS 36.213 table 5.2-1 with rho_A = -3 dB).
        control_symbols: Symbols of the control region, 1 to 4 (TS 36.211 table 6.7-1).
    """

    n_blocks: int
    cell_id: int
    ports: int
    reference_gain: float
    control_symbols: int

    @property
    def n_subcarriers(self) -> int:
        """Subcarriers, DC not counted."""
        return 12 * self.n_blocks

    @property
    def group(self) -> int:
        """Resource blocks of a group, TS 36.213 table 7.1.6.1-1."""
        return int(np.searchsorted((10, 26, 63), self.n_blocks)) + 1


def draw_cell(rng: np.random.Generator, n_blocks: int) -> LteCell:
    """Draws a cell of a given bandwidth."""
    fewest = 2 if n_blocks <= 10 else 1
    return LteCell(
        n_blocks=n_blocks,
        cell_id=int(rng.integers(504)),
        ports=int(rng.integers(1, 3)),
        reference_gain=float(rng.choice([1.0, np.sqrt(2.0)])),
        control_symbols=fewest + int(rng.integers(3)),
    )


def lte_grid(
    rng: np.random.Generator,
    cell: LteCell,
    load: Load,
    *,
    sample_rate: int,
    first_subframe: int,
    n_subframes: int,
) -> ResourceGrid:
    """Fills the subframes of a carrier.

    Args:
        rng: Source of traffic and data.
        cell: The carrier.
        load: Its traffic.
        sample_rate: Hz.
        first_subframe: Number of the first subframe within a radio frame, 0 to 9.
        n_subframes: Subframes to fill.

    Returns:
        The grid, its first row at the start of the first subframe.
    """
    frame_place = (first_subframe + np.arange(n_subframes)) % SUBFRAMES_PER_FRAME
    active = schedule(rng, load, np.ones(n_subframes, bool), 1e-3, None)
    blocks = allocate(rng, load, active, cell.n_blocks, cell.group)
    shape = (n_subframes, SYMBOLS, cell.n_subcarriers)
    sent = np.zeros(shape, bool)
    sent[:, cell.control_symbols :] = np.repeat(blocks, 12, axis=1)[:, None]
    _control_region(rng, sent, cell)
    _reserve(sent, cell, frame_place)
    alphabet = rng.integers(0, 4, (n_subframes, 1, 1)).repeat(SYMBOLS, axis=1)
    alphabet[:, : cell.control_symbols] = 0  # control channels are QPSK
    values = random_symbols(rng, alphabet, shape) * sent
    _reference_signals(values, cell, frame_place)
    _synchronisation(rng, values, cell, frame_place)
    half = cell.n_subcarriers // 2
    # The subcarrier at DC is left out: TS 36.211 clause 6.12.
    bins = np.concatenate([np.arange(-half, 0), np.arange(1, half + 1)])
    return ResourceGrid(
        numerology=Numerology(15_000, sample_rate),
        first_symbol=0,
        bins=bins,
        values=values.reshape(-1, cell.n_subcarriers),
    )


def random_symbols(
    rng: np.random.Generator, alphabet: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Data symbols of mean energy 1.

    Args:
        rng: Source of the data.
        alphabet: Row of `constellations()` to take them from, broadcast to `shape`.
        shape: Of the result.

    Returns:
        complex64 of `shape`.
    """
    data = np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)
    return np.take(constellations(), data + alphabet.astype(np.uint16) * np.uint16(256))


def _control_region(rng: np.random.Generator, sent: np.ndarray, cell: LteCell) -> None:
    """PCFICH at its place, PHICH and PDCCH in a random share of the resource element groups.

    A group has 6 subcarriers in the first symbol, where reference signals take 2 of them, and 4 in
    the others (TS 36.211 clause 6.2.4); control channel elements are interleaved over all groups
    of the band (clause 6.8.5), so that a partly used region looks random.
    """
    n_subframes = len(sent)
    share = rng.uniform(0.1, 0.95, (n_subframes, 1))
    for symbol in range(cell.control_symbols):
        width = 6 if symbol == 0 else 4
        used = rng.random((n_subframes, cell.n_subcarriers // width)) < share
        sent[:, symbol] = np.repeat(used, width, axis=1)
    # TS 36.211 clause 6.7.4.
    first = 6 * (cell.cell_id % (2 * cell.n_blocks))
    for index in range(4):
        place = (first + (index * cell.n_blocks // 2) * 6) % cell.n_subcarriers
        sent[:, 0, place : place + 6] = True


def reference_places(cell: LteCell, port: int, symbol: int) -> np.ndarray:
    """Subcarriers of the reference signal of a port, TS 36.211 clause 6.10.1.2; int64."""
    first = symbol % 7 == 0
    shift = (0 if first == (port == 0) else 3) + cell.cell_id % 6
    return 6 * np.arange(2 * cell.n_blocks) + shift % 6


def _reserve(sent: np.ndarray, cell: LteCell, frame_place: np.ndarray) -> None:
    """Takes data off the places of reference, synchronisation and broadcast signals."""
    for symbol in CRS_SYMBOLS:
        # Control is mapped as if there were two ports: TS 36.211 clause 6.2.4.
        for port in range(2 if symbol < cell.control_symbols else cell.ports):
            sent[:, symbol, reference_places(cell, port, symbol)] = False
    middle = slice(cell.n_subcarriers // 2 - _CENTRE // 2, cell.n_subcarriers // 2 + _CENTRE // 2)
    with_sync = np.isin(frame_place, SYNC_SUBFRAMES)
    for symbol in (SSS_SYMBOL, PSS_SYMBOL):
        sent[with_sync, symbol, middle] = False
    for symbol in PBCH_SYMBOLS:
        sent[frame_place == 0, symbol, middle] = False


def _reference_signals(values: np.ndarray, cell: LteCell, frame_place: np.ndarray) -> None:
    """Cell-specific reference signals, TS 36.211 clause 6.10.1.1."""
    n_id, unused = cell.cell_id, _MAX_BLOCKS - cell.n_blocks
    used = slice(unused, unused + 2 * cell.n_blocks)
    for symbol in CRS_SYMBOLS:
        slot, place = 2 * frame_place + symbol // 7, symbol % 7
        c_init = 1024 * (7 * (slot + 1) + place + 1) * (2 * n_id + 1) + 2 * n_id + 1
        sequence = qpsk_reference(gold_sequences(c_init, 4 * _MAX_BLOCKS))[:, used]
        for port in range(cell.ports):
            places = reference_places(cell, port, symbol)
            values[:, symbol, places] = np.float32(cell.reference_gain) * sequence


def _synchronisation(
    rng: np.random.Generator, values: np.ndarray, cell: LteCell, frame_place: np.ndarray
) -> None:
    """PSS, SSS and PBCH in the middle of the band."""
    middle = cell.n_subcarriers // 2
    n_id_1, n_id_2 = divmod(cell.cell_id, 3)  # TS 36.211 clause 6.11
    band = slice(middle - 31, middle + 31)
    for subframe in SYNC_SUBFRAMES:
        rows = frame_place == subframe
        values[rows, PSS_SYMBOL, band] = lte_pss(n_id_2)
        values[rows, SSS_SYMBOL, band] = lte_sss(n_id_1, n_id_2, subframe)
    rows = np.flatnonzero(frame_place == 0)
    places = middle - _CENTRE // 2 + np.arange(_CENTRE)
    for symbol in PBCH_SYMBOLS:
        # The reference signals of four ports are left out, however many there are: clause 6.6.4.
        taken = symbol in PBCH_SYMBOLS[:2]
        free = places[(places % 3 != cell.cell_id % 3) | (not taken)]
        data = rng.integers(0, 4, (rows.size, free.size))
        values[rows[:, None], symbol, free] = np.take(constellations()[0], data)
