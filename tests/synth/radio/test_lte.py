"""Places of LTE's signals, counted by hand from TS 36.211."""

from __future__ import annotations

import numpy as np
import pytest

from tests.synth.radio.registers import gold_bit_by_bit
from tfspec.synth.radio.lte import LteCell, draw_cell, lte_grid, reference_places
from tfspec.synth.radio.numerology import LTE_BLOCKS
from tfspec.synth.radio.ofdm import ResourceGrid
from tfspec.synth.radio.sequences import lte_pss, lte_sss
from tfspec.synth.radio.sync import lte_sync
from tfspec.synth.radio.traffic import Load

IDLE = Load(kind="idle", active=0.0, burst=1e-3, filling=(0.0, 0.0))
FULL = Load(kind="full", active=1.0, burst=1e-3, filling=(1.0, 1.0))
RATE = 30_720_000


def cell(blocks: int = 25, cell_id: int = 1, ports: int = 1, control: int = 2) -> LteCell:
    return LteCell(
        n_blocks=blocks, cell_id=cell_id, ports=ports, reference_gain=1.0, control_symbols=control
    )


def grid(
    what: LteCell, load: Load, subframes: int = 10, first: int = 0, seed: int = 0
) -> ResourceGrid:
    return lte_grid(
        np.random.default_rng(seed),
        what,
        load,
        sample_rate=RATE,
        first_subframe=first,
        n_subframes=subframes,
    )


@pytest.mark.parametrize("blocks", [6, 25, 100])
def test_synchronisation_signals_are_in_the_last_symbols_of_slots_0_and_10(blocks: int) -> None:
    made = grid(cell(blocks, cell_id=3 * 57 + 2), FULL)
    values = made.values.reshape(20, 7, 12 * blocks)
    middle = 6 * blocks
    for slot in range(20):
        is_pss = np.allclose(values[slot, 6, middle - 31 : middle + 31], lte_pss(2), atol=1e-6)
        assert is_pss == (slot in (0, 10))
    for slot, subframe in ((0, 0), (10, 5)):
        np.testing.assert_array_equal(
            values[slot, 5, middle - 31 : middle + 31], lte_sss(57, 2, subframe)
        )
        for symbol in (5, 6):  # five subcarriers on each side are reserved
            assert not values[slot, symbol, middle - 36 : middle - 31].any()
            assert not values[slot, symbol, middle + 31 : middle + 36].any()


def test_synchronisation_times_are_those_of_the_frame() -> None:
    # A capture that starts 0.25 ms into subframe 3, on a carrier at 1 MHz.
    delay = RATE // 4000
    made = grid(cell(), IDLE, subframes=20, first=13)
    signals = lte_sync(made, 13, 1e6, delay)
    # The useful part of the PSS ends with slot 0, that of the SSS one symbol of 144 + 2048 Ts
    # earlier; subframe 5 follows 2 ms after subframe 3.
    unit = 1 / 30.72e6
    pss = [2e-3 + 5e-3 * n - 0.25e-3 + 15360 * unit - 2048 * unit for n in range(4)]
    sss = [time - 2192 * unit for time in pss]
    assert [s.time for s in signals if s.kind == "pss"] == pytest.approx(pss, abs=1e-12)
    assert [s.time for s in signals if s.kind == "sss"] == pytest.approx(sss, abs=1e-12)
    assert {s.frequency for s in signals} == {1e6} and {s.spacing for s in signals} == {15_000}


def test_reference_signals_have_their_places_and_values() -> None:
    what = cell(blocks=15, cell_id=10)
    values = grid(what, IDLE).values.reshape(20, 7, 180)
    for slot in (0, 7, 19):
        for symbol, first in ((0, 10 % 6), (4, (10 + 3) % 6)):
            c_init = 2**10 * (7 * (slot + 1) + symbol + 1) * (2 * 10 + 1) + 2 * 10 + 1
            bits = gold_bit_by_bit(c_init, 440)
            for m in range(2 * 15):
                real, imaginary = (1 - 2 * bits[2 * (m + 110 - 15) + k] for k in (0, 1))
                expected = (real + 1j * imaginary) / np.sqrt(2)
                assert values[slot, symbol, 6 * m + first] == pytest.approx(expected, abs=1e-6)


def test_the_second_port_takes_the_places_between() -> None:
    one, two = cell(cell_id=7), cell(cell_id=7, ports=2)
    for symbol in (0, 4, 7, 11):
        first = set(reference_places(one, 0, symbol))
        second = set(reference_places(two, 1, symbol))
        assert not first & second
        assert {k % 3 for k in first | second} == {7 % 3}
    assert (grid(two, IDLE).values[4 + 14] != 0).sum() == 2 * (
        grid(one, IDLE).values[4 + 14] != 0
    ).sum()


def test_an_idle_carrier_sends_control_and_reference_signals_alone() -> None:
    values = grid(cell(control=3), IDLE).values.reshape(10, 14, 300)
    for subframe in (1, 2, 3, 4, 6, 7, 8, 9):
        sent = (values[subframe] != 0).sum(axis=1)
        assert sent[3:].tolist() == [0, 50, 0, 0, 50, 0, 0, 0, 50, 0, 0]


def test_a_full_carrier_leaves_nothing_but_reserved_elements_empty() -> None:
    values = grid(cell(control=1), FULL).values.reshape(10, 14, 300)
    empty = values[:, 1:] == 0
    # Five reserved subcarriers at either side of PSS and SSS in subframes 0 and 5; in two symbols
    # of the PBCH the places of ports 0 and 1, or 2 and 3, less those of the reference signal of
    # the only port, which are in the first of them: 72 / 3 + 72 / 3 - 72 / 6.
    assert empty.sum(axis=(1, 2)).tolist() == [20 + 36, 0, 0, 0, 0, 20, 0, 0, 0, 0]


def test_the_broadcast_channel_has_240_elements() -> None:
    idle = grid(cell(cell_id=5, ports=2), IDLE).values.reshape(10, 14, 300)
    middle = slice(150 - 36, 150 + 36)
    sent = idle[0, 7:11, middle] != 0
    # 1920 bits over four frames of QPSK (TS 36.211 clause 6.6.1), and 24 reference signals.
    assert sent.sum() == 1920 // 4 // 2 + 24
    assert not idle[1, 8:11, middle].any()


def test_the_format_indicator_is_always_sent_at_its_place() -> None:
    what = cell(blocks=50, cell_id=123)
    # TS 36.211 clause 6.7.4: four groups, a quarter of the band apart.
    start = 6 * (123 % 100)
    places = [(start + n * 50 // 2 * 6) % 600 for n in range(4)]
    symbols = grid(what, IDLE).values.reshape(10, 14, 600)[:, 0]
    for place in places:
        assert (symbols[:, place : place + 6] != 0).sum(axis=1).tolist() == 10 * [5]  # 4 and 1 CRS


@pytest.mark.parametrize(
    ("blocks", "group"), [(6, 1), (15, 2), (25, 2), (50, 3), (75, 4), (100, 4)]
)
def test_resource_block_groups(blocks: int, group: int) -> None:
    assert cell(blocks).group == group  # TS 36.213 table 7.1.6.1-1


def test_bins_skip_dc_and_span_the_band() -> None:
    made = grid(cell(6), IDLE)
    assert made.bins.tolist() == [*range(-36, 0), *range(1, 37)]
    assert made.block_edges[0, 0] == -36.5 * 15e3 and made.block_edges[-1, 1] == 36.5 * 15e3


def test_drawn_cells_are_allowed() -> None:
    rng = np.random.default_rng(0)
    for blocks in LTE_BLOCKS.values():
        drawn = [draw_cell(rng, blocks) for _ in range(100)]
        assert all(0 <= what.cell_id < 504 and what.ports in (1, 2) for what in drawn)
        # TS 36.211 table 6.7-1: 2 to 4 control symbols in narrow carriers, otherwise 1 to 3.
        allowed = {2, 3, 4} if blocks <= 10 else {1, 2, 3}
        assert {what.control_symbols for what in drawn} == allowed
