"""Places of NR's signals, counted by hand from TS 38.211 and TS 38.213."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synth.radio.registers import gold_bit_by_bit
from tfspec.synth.radio.nr import NrCell, downlink_symbols, draw_cell, nr_grids
from tfspec.synth.radio.numerology import NR_BLOCKS
from tfspec.synth.radio.ofdm import ResourceGrid
from tfspec.synth.radio.sequences import nr_pss, nr_sss
from tfspec.synth.radio.ssb import PERIODS, SsbPattern, candidate_symbols, ssb_blocks, ssb_values
from tfspec.synth.radio.sync import nr_sync
from tfspec.synth.radio.traffic import Load

IDLE = Load(kind="idle", active=0.0, burst=1e-3, filling=(0.0, 0.0))
FULL = Load(kind="full", active=1.0, burst=1e-3, filling=(1.0, 1.0))
RATE = 30_720_000


def pattern(case: str = "C", **changes: object) -> SsbPattern:
    options: dict[str, object] = {
        "case": case,
        "period": 20,
        "half_frame": 0,
        "sent": (True,) * 4,
        "first_bin": -120,
    }
    return SsbPattern(**{**options, **changes})  # type: ignore[arg-type]


def cell(spacing: int = 30_000, blocks: int = 51, **changes: object) -> NrCell:
    options: dict[str, object] = {
        "n_blocks": blocks,
        "spacing": spacing,
        "cell_id": 500,
        "ssb": pattern("A" if spacing == 15_000 else "C"),
        "control_symbols": 2,
        "dmrs_symbol": 2,
        "extra_dmrs": (11,),
        "tdd": (),
    }
    return NrCell(**{**options, **changes})  # type: ignore[arg-type]


def grids(what: NrCell, load: Load, subframes: int = 10, first: int = 0) -> list[ResourceGrid]:
    return nr_grids(
        np.random.default_rng(0),
        what,
        load,
        sample_rate=RATE,
        first_subframe=first,
        n_subframes=subframes,
        max_silence=None,
    )


@pytest.mark.parametrize(
    ("case", "blocks", "symbols"),
    [
        # TS 38.213 clause 4.1, written out.
        ("A", 4, (2, 8, 16, 22)),
        ("A", 8, (2, 8, 16, 22, 30, 36, 44, 50)),
        ("B", 4, (4, 8, 16, 20)),
        ("B", 8, (4, 8, 16, 20, 32, 36, 44, 48)),
        ("C", 4, (2, 8, 16, 22)),
        ("C", 8, (2, 8, 16, 22, 30, 36, 44, 50)),
    ],
)
def test_candidate_blocks(case: str, blocks: int, symbols: tuple[int, ...]) -> None:
    assert candidate_symbols(case, blocks) == symbols
    assert pattern(case).spacing == (15_000 if case == "A" else 30_000)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from("ABC"),
    st.sampled_from(PERIODS),
    st.integers(0, 1),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.integers(0, 159),
    st.integers(1, 60),
)
def test_blocks_repeat_with_their_period(
    case: str, period: int, half: int, sent: list[bool], first: int, length: int
) -> None:
    what = pattern(case, period=period, half_frame=half, sent=tuple(sent))
    got = {(p.first_symbol, p.index) for p in ssb_blocks(what, first, length)}
    # Every half frame since system frame number 0 is asked whether it has a burst.
    per_ms = 14 * what.spacing // 15_000
    expected = set()
    for half_frame in range(-1, 60):
        begin = 5 * half_frame
        due = (begin % period == 0) if period == 5 else ((begin - 5 * half) % period == 0)
        for index, symbol in enumerate(candidate_symbols(case, 4)):
            at = (begin - first) * per_ms + symbol
            if due and sent[index] and at >= 0 and at + 4 <= length * per_ms:
                expected.add((at, index))
    assert got == expected


def test_a_block_holds_the_signals_of_the_standard() -> None:
    with np.load(Path(__file__).parent / "golden" / "py3gpp.npz") as file:
        golden = dict(file)
    for row, cell_id in enumerate(golden["cells"].tolist()):
        values = ssb_values(np.random.default_rng(0), cell_id, 5, 0, 8)
        np.testing.assert_array_equal(values[0, 56:183], nr_pss(cell_id % 3))
        np.testing.assert_array_equal(values[2, 56:183], nr_sss(cell_id // 3, cell_id % 3))
        # TS 38.211 table 7.4.3.1-1: nothing else beside the PSS, 8 and 9 empty subcarriers
        # beside the SSS.
        assert not values[0, :56].any() and not values[0, 183:].any()
        assert not values[2, 48:56].any() and not values[2, 183:192].any()
        flat = values.reshape(-1)
        np.testing.assert_allclose(flat[golden["pbch_places"][row]], golden["pbch"][row, 5])
        sent = set(np.flatnonzero(flat)) - set(golden["pbch_places"][row].tolist())
        places = set(golden["broadcast_places"][row].tolist())
        assert places <= sent and len(places) == 432  # 864 bits, TS 38.211 clause 7.3.3.1
        assert len(sent - places) == 2 * 127


@pytest.mark.parametrize(("spacing", "case"), [(15_000, "A"), (30_000, "B"), (30_000, "C")])
def test_synchronisation_times_are_those_of_the_frame(spacing: int, case: str) -> None:
    what = cell(spacing, 51, ssb=pattern(case, period=10, half_frame=1, first_bin=-100))
    delay = 777
    made = grids(what, IDLE, subframes=20, first=2)
    signals = nr_sync(made[1:], 2e6, delay)
    # A candidate at symbol l begins l symbols of 2192 kappa / 2^mu and one extra 16 kappa for each
    # 0.5 ms that has begun, counted at the symbol itself (TS 38.211 clause 5.3.1).
    mu = spacing // 30_000
    expected = []
    for frame in (0, 1):
        for symbol in candidate_symbols(case, 4):
            long = 1 + symbol // (7 * 2**mu)
            useful = symbol * 2192 / 2**mu + 144 / 2**mu + 16 * long
            expected.append(3e-3 + 10e-3 * frame + useful / 30.72e6 - delay / RATE)
    assert [s.time for s in signals if s.kind == "pss"] == pytest.approx(expected, abs=1e-12)
    for primary, secondary in zip(signals[::2], signals[1::2], strict=True):
        assert (primary.kind, secondary.kind) == ("pss", "sss")
        two_symbols = 2 * 2192 / 2**mu / 30.72e6
        extra = secondary.time - primary.time - two_symbols
        assert extra == pytest.approx(0, abs=1e-12) or extra == pytest.approx(16 / 30.72e6)
        # Subcarrier 56 + 63 of the block is the middle one of 127.
        assert primary.frequency == 2e6 + (-100 + 119) * spacing


def test_an_idle_carrier_sends_synchronisation_blocks_alone() -> None:
    made = grids(cell(), IDLE, subframes=40)
    assert not made[0].values.any()
    assert len(made) == 1 + 2 * 4  # bursts at 0 and 20 ms


def test_data_keep_away_from_synchronisation_blocks() -> None:
    for what in (cell(), cell(60_000, 51, ssb=pattern("C")), cell(60_000, 51, ssb=pattern("A"))):
        made = grids(what, FULL)
        rate, data = float(RATE), made[0]
        assert len(made) > 1
        for block in made[1:]:
            low, high = block.block_edges[0, 0], block.block_edges[-1, 1]
            met = 0
            for row in range(len(data.values)):
                together = data.starts[row] < block.stops[-1] and block.starts[0] < data.stops[row]
                f = data.bins * what.spacing
                inside = (f > low) & (f < high)
                assert inside.any()
                if together:
                    met += 1
                    assert not data.values[row, inside].any()
            assert met >= 4 and rate > 0
        assert np.mean(data.values != 0) > 0.7


def test_data_reference_signals_have_their_places_and_values() -> None:
    what = cell(15_000, 25, cell_id=321, ssb=pattern("A", period=160))
    values = grids(what, FULL, first=20)[0].values.reshape(10, 14, 300)
    for slot in (0, 4, 9):
        for symbol in (2, 11):
            c_init = (2**17 * (14 * slot + symbol + 1) * (2 * 321 + 1) + 2 * 321) % 2**31
            bits = np.array(gold_bit_by_bit(c_init, 300))
            expected = (1 - 2 * bits[::2]) + 1j * (1 - 2 * bits[1::2])  # 3 dB above the data
            np.testing.assert_allclose(values[slot, symbol, ::2], expected, atol=1e-6)
            assert not values[slot, symbol, 1::2].any()
    data = values[:, [3, 4, 5, 6, 7, 8, 9, 10, 12, 13]]
    assert np.all(data != 0)
    assert np.mean(np.abs(data) ** 2) == pytest.approx(1.0, rel=0.02)  # 3 % for 3000 of 256QAM


def test_control_has_reference_signals_in_every_fourth_element() -> None:
    what = cell(15_000, 50, cell_id=77, ssb=pattern("A", period=160))
    values = grids(what, FULL, first=20)[0].values.reshape(10, 14, 600)
    used = 0
    for slot in range(10):
        for symbol in (0, 1):
            c_init = (2**17 * (14 * slot + symbol + 1) * (2 * 77 + 1) + 2 * 77) % 2**31
            bits = np.array(gold_bit_by_bit(c_init, 300))
            expected = ((1 - 2 * bits[::2]) + 1j * (1 - 2 * bits[1::2])) / np.sqrt(2)
            row = values[slot, symbol]
            # Bundles of 6 groups: 3 blocks of 2 symbols, all sent or all silent.
            bundles = (row[:576] != 0).reshape(16, 36)
            assert set(bundles.sum(axis=1)) <= {0, 36}
            used += bundles.any(axis=1).sum()
            sent = row[1::4] != 0
            np.testing.assert_allclose(row[1::4][sent], expected[sent], atol=1e-6)
            assert not row[576:].any()  # 48 of 50 blocks are a multiple of 6
    assert 20 < used < 320


@pytest.mark.parametrize("tdd", [(3, 10, 1), (7, 6, 2)])
def test_uplink_symbols_are_silent(tdd: tuple[int, ...]) -> None:
    what = cell(tdd=tdd)
    period = tdd[0] + 1 + tdd[2]
    made = grids(what, FULL)
    values = made[0].values.reshape(20, 14, -1)
    energy = np.abs(values).sum(axis=2) > 0
    for slot in range(20):
        place = slot % period
        count = 14 if place < tdd[0] else tdd[1] if place == tdd[0] else 0
        assert energy[slot].tolist() == [symbol < count for symbol in range(14)]
    assert downlink_symbols(what, np.arange(20)).sum() == energy.sum()


def test_blocks_in_uplink_symbols_are_left_out() -> None:
    # Slot 3 of this pattern has 10 downlink symbols: the block at symbol 44 = 3 * 14 + 2 fits, the
    # one at 50 = 3 * 14 + 8 does not.
    what = cell(ssb=pattern("C", sent=(True,) * 8), tdd=(3, 10, 1))
    made = grids(what, FULL, subframes=5)
    assert [grid.first_symbol for grid in made[1:]] == [2, 8, 16, 22, 30, 36, 44]


def test_drawn_cells_are_allowed() -> None:
    rng = np.random.default_rng(0)
    for spacing, table in NR_BLOCKS.items():
        for blocks in table.values():
            what = draw_cell(rng, blocks, spacing)
            assert what.dmrs_symbol >= what.control_symbols
            half = 6 * blocks * spacing
            low = what.ssb.first_bin * what.ssb.spacing
            assert -half <= low and low + 240 * what.ssb.spacing <= half
            assert any(what.ssb.sent) and what.ssb.period in PERIODS
    # 20 blocks of 30 kHz do not fit into 5 MHz.
    assert draw_cell(rng, 11, 30_000).ssb.case == "A"


@pytest.mark.parametrize(("blocks", "group"), [(25, 2), (51, 4), (106, 8), (273, 16)])
def test_resource_block_groups(blocks: int, group: int) -> None:
    assert cell(blocks=blocks).group == group  # TS 38.214 table 5.1.2.2.1-1
