"""Symbol lengths and channel bandwidths against the tables of the standards."""

from __future__ import annotations

import numpy as np
import pytest

from tfspec.errors import ConfigError
from tfspec.synth.radio.numerology import LTE_BLOCKS, NR_BLOCKS, Numerology

# TS 38.104 table 5.3.3-1, minimum guard bands in kHz for 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60,
# 70, 80, 90 and 100 MHz: another table than the one that is tested.
BANDWIDTHS = (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100)
GUARDS = {
    15: (242.5, 312.5, 382.5, 452.5, 522.5, 592.5, 572.5, 552.5, 712.5, 692.5),
    30: (505, 665, 645, 805, 785, 945, 925, 905, 1065, 1045, 825, 965, 925, 885, 845),
    60: (None, 1010, 990, 1330, 1310, 1290, 1630, 1610, 1590, 1570, 1530, 1490, 1450, 1410, 1370),
}


@pytest.mark.parametrize("spacing", [15, 30, 60])
def test_nr_bandwidths_leave_the_guard_bands_of_the_standard(spacing: int) -> None:
    table = NR_BLOCKS[1000 * spacing]
    guards = {
        1_000_000 * megahertz: guard
        for megahertz, guard in zip(BANDWIDTHS, GUARDS[spacing], strict=False)
        if guard is not None
    }
    assert set(table) == set(guards)
    for bandwidth, blocks in table.items():
        # The equation of the table's note.
        guard = (bandwidth / 1e3 - blocks * spacing * 12) / 2 - spacing / 2
        assert guard == guards[bandwidth]


def test_lte_bandwidths_use_ninety_percent() -> None:
    assert list(LTE_BLOCKS.values()) == [6, 15, 25, 50, 75, 100]
    for bandwidth, blocks in LTE_BLOCKS.items():
        share = blocks * 180e3 / bandwidth
        assert share == pytest.approx(0.9 if bandwidth >= 3e6 else 0.771, abs=1e-3)


def test_lte_symbols_have_the_lengths_of_the_standard() -> None:
    # TS 36.211 table 6.12-1 in units of Ts, at a rate of 1 / Ts: 160 or 144 and 2048 samples.
    numerology = Numerology(15_000, 30_720_000)
    assert numerology.fft_length == 2048
    assert numerology.prefix_lengths.tolist() == 2 * [160, *6 * [144]]
    assert numerology.symbol_starts[7] == 15360  # Tslot of clause 4
    assert numerology.symbol_starts[6] + 144 == 15360 - 2048  # useful part of the PSS of slot 0


@pytest.mark.parametrize("spacing", [15_000, 30_000, 60_000])
@pytest.mark.parametrize("rate", [7_680_000, 61_440_000, 122_880_000])
def test_symbols_follow_the_formula_in_basic_time_units(spacing: int, rate: int) -> None:
    numerology = Numerology(spacing, rate)
    # TS 38.211 clause 5.3.1, written out in units of Tc = 1 / (480 kHz * 4096) with kappa = 64.
    mu, kappa = {15_000: 0, 30_000: 1, 60_000: 2}[spacing], 64
    unit = 1.0 / (480e3 * 4096)
    start = 0.0
    for symbol in range(14 * 2**mu):
        prefix = 144 * kappa / 2**mu + (16 * kappa if symbol in (0, 7 * 2**mu) else 0)
        assert numerology.symbol_starts[symbol] / rate == pytest.approx(start * unit, abs=1e-13)
        assert numerology.prefix_lengths[symbol] / rate == pytest.approx(prefix * unit, abs=1e-13)
        start += prefix + 2048 * kappa / 2**mu
    assert start * unit == pytest.approx(1e-3, abs=1e-13)
    assert numerology.symbols_per_subframe == 14 * 2**mu
    assert numerology.samples_per_subframe == rate // 1000


@pytest.mark.parametrize(
    ("spacing", "rate", "message"),
    [
        (120_000, 61_440_000, r"`spacing` must be one of \[15000, 30000, 60000\] Hz.*120000"),
        (15_000, 20_000_000, "`sample_rate` must be a multiple of 7680000 Hz.*20000000"),
    ],
)
def test_other_numerologies_are_refused(spacing: int, rate: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Numerology(spacing, rate)


def test_prefixes_are_whole_numbers() -> None:
    for spacing in NR_BLOCKS:
        numerology = Numerology(spacing, 7_680_000)
        lengths = numerology.prefix_lengths + numerology.fft_length
        assert lengths.sum() == 7680
        assert np.all(np.diff(numerology.symbol_starts) == lengths[:-1])
