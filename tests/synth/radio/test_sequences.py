"""Sequences against bit-by-bit registers, closed forms and an unrelated implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synth.radio.registers import gold_bit_by_bit, nr_pss_bit_by_bit
from tfspec.synth.radio.sequences import (
    constellations,
    gold_sequences,
    lte_pss,
    lte_sss,
    lte_sss_shifts,
    nr_pss,
    nr_sss,
    qpsk_reference,
)
from tfspec.synth.radio.ssb import pbch_reference


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """What py3gpp 0.6.0 computes; see `golden/README.md`."""
    with np.load(Path(__file__).parent / "golden" / "py3gpp.npz") as file:
        return dict(file)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 700))
def test_gold_sequences_equal_the_registers(c_init: int, length: int) -> None:
    assert gold_sequences(c_init, length).tolist() == gold_bit_by_bit(c_init, length)


def test_gold_sequences_come_in_batches(golden: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(gold_sequences(golden["states"], 300), golden["gold"])
    assert gold_sequences(golden["states"].reshape(2, 3), 10).shape == (2, 3, 10)


def test_reference_signals_follow_the_signs_of_pairs() -> None:
    half = np.sqrt(0.5)
    got = qpsk_reference(np.array([0, 0, 0, 1, 1, 0, 1, 1]))
    # 1e-7: single precision.
    np.testing.assert_allclose(got, half * np.array([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j]), atol=1e-7)


@pytest.mark.parametrize(("n_id_2", "root"), [(0, 25), (1, 29), (2, 34)])
def test_lte_pss_is_a_zadoff_chu_sequence(n_id_2: int, root: int) -> None:
    # TS 36.211 clause 6.11.1.1, the two lines of the definition.
    expected = [np.exp(-1j * np.pi * root * n * (n + 1) / 63) for n in range(31)]
    expected += [np.exp(-1j * np.pi * root * (n + 1) * (n + 2) / 63) for n in range(31, 62)]
    np.testing.assert_allclose(lte_pss(n_id_2), expected, atol=1e-6)
    # With the element at DC put back, a Zadoff-Chu sequence has a flat spectrum.
    whole = np.insert(lte_pss(n_id_2), 31, np.exp(-1j * np.pi * root * 31 * 32 / 63))
    np.testing.assert_allclose(np.abs(np.fft.fft(whole)), np.sqrt(63), rtol=1e-5)


def test_lte_sss_shifts_are_those_of_the_table() -> None:
    # TS 36.211 table 6.11.2.1-1 lists pairs by their distance, 1 to 7, and then by the first.
    table = [(m, m + distance) for distance in range(1, 8) for m in range(31 - distance)][:168]
    assert [lte_sss_shifts(group) for group in range(168)] == table
    assert table[0] == (0, 1) and table[30] == (0, 2) and table[167] == (2, 9)


def lte_sss_as_written(n_id_1: int, n_id_2: int, subframe: int) -> list[int]:
    """The formulas of TS 36.211 clause 6.11.2.1, element by element."""

    def register(step) -> list[int]:  # type: ignore[no-untyped-def]
        x = [0, 0, 0, 0, 1]
        for i in range(26):
            x.append(step(x, i) % 2)
        return [1 - 2 * bit for bit in x]

    s = register(lambda x, i: x[i + 2] + x[i])
    c = register(lambda x, i: x[i + 3] + x[i])
    z = register(lambda x, i: x[i + 4] + x[i + 2] + x[i + 1] + x[i])
    m_0, m_1 = lte_sss_shifts(n_id_1)
    d = []
    for n in range(31):
        first, second = (m_0, m_1) if subframe == 0 else (m_1, m_0)
        d.append(s[(n + first) % 31] * c[(n + n_id_2) % 31])
        scrambled = c[(n + n_id_2 + 3) % 31] * z[(n + first % 8) % 31]
        d.append(s[(n + second) % 31] * scrambled)
    return d


@pytest.mark.parametrize("cell", [0, 1, 2, 100, 301, 503])
@pytest.mark.parametrize("subframe", [0, 5])
def test_lte_sss_equals_the_formulas(cell: int, subframe: int) -> None:
    group, identity = divmod(cell, 3)
    got = lte_sss(group, identity, subframe)
    assert got.tolist() == lte_sss_as_written(group, identity, subframe)


def test_lte_sss_tell_groups_and_halves_apart() -> None:
    every = np.array([lte_sss(n, 1, sub) for n in range(168) for sub in (0, 5)])
    products = every @ every.T - 62 * np.eye(len(every))
    assert np.abs(products).max() < 62  # no two are equal or opposite


def test_nr_sequences_equal_an_unrelated_implementation(golden: dict[str, np.ndarray]) -> None:
    for row, cell in enumerate(golden["cells"].tolist()):
        np.testing.assert_array_equal(nr_pss(cell % 3), golden["pss"][row])
        assert nr_pss(cell % 3).tolist() == nr_pss_bit_by_bit(cell % 3)
        np.testing.assert_array_equal(nr_sss(*divmod(cell, 3)), golden["sss"][row])
        for number in range(8):
            # Numbers 4 to 7 are the second half frame of carriers with four candidates.
            expected = golden["pbch"][row, number]
            eight = pbch_reference(cell, number, 0, 8)
            four = pbch_reference(cell, number % 4, number // 4, 4)
            np.testing.assert_allclose(eight, expected, atol=1e-6)
            np.testing.assert_allclose(four, expected, atol=1e-6)


def test_nr_pss_are_shifts_with_flat_correlation() -> None:
    sequences = np.array([nr_pss(n) for n in range(3)])
    # A sequence of maximal length correlates with its shifts by -1.
    np.testing.assert_array_equal(sequences @ sequences.T, 128 * np.eye(3) - 1)


def test_constellations_have_unit_energy_and_the_right_sizes() -> None:
    table = constellations()
    assert [np.unique(row.round(5)).size for row in table] == [4, 16, 64, 256]
    np.testing.assert_allclose(np.mean(np.abs(table) ** 2, axis=1), 1.0, rtol=1e-5)
    # TS 36.211 table 7.1.3-1: 16QAM has levels 1 and 3 over sqrt(10).
    levels = np.array([-3, -1, 1, 3]) / np.sqrt(10)
    np.testing.assert_allclose(np.unique(table[1].real.round(6)), levels, atol=1e-5)
