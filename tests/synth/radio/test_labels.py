"""Label maps against areas counted on a fine grid and gaps filled one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfspec.synth.radio.classes import LTE, NOISE, NR
from tfspec.synth.radio.images import ImageConfig
from tfspec.synth.radio.labels import band_cover, bridge, label_map, overlaps, resource_cover
from tfspec.synth.radio.numerology import Numerology
from tfspec.synth.radio.ofdm import ResourceGrid

IMAGE = ImageConfig(sample_rate=7_680_000, n_samples=76_800, height=32, width=16)


@settings(max_examples=50, deadline=None)
@given(st.floats(-4e6, 4e6), st.floats(0, 3e6), st.floats(-0.002, 0.01), st.floats(0, 0.01))
def test_cover_is_the_share_of_the_area(
    low: float, width: float, start: float, long: float
) -> None:
    cover = band_cover(IMAGE, (low, low + width), (start, start + long))
    fine = 40  # points along each side of a pixel
    f = IMAGE.frequency_edges[0] - (np.arange(32 * fine) + 0.5) / fine * IMAGE.row_bandwidth
    t = (np.arange(16 * fine) + 0.5) / fine * IMAGE.column_period
    inside = ((f > low) & (f < low + width))[:, None] & ((t > start) & (t < start + long))
    counted = inside.reshape(32, fine, 16, fine).mean(axis=(1, 3))
    # Each side is counted to within one of 40 points.
    np.testing.assert_allclose(cover, counted, atol=2 / fine + 1e-9)


def test_overlaps_add_up_to_the_interval() -> None:
    edges = np.linspace(0, 8, 9)
    shares = overlaps(edges, np.array([0.5, -3.0]), np.array([2.25, 100.0]))
    np.testing.assert_allclose(shares[:, 0], [0.5, 1, 0.25, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(shares[:, 1], 1.0)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 30), st.integers(1, 3))), st.integers(0, 8))
def test_gaps_are_bridged_one_by_one(used: np.ndarray, longest: int) -> None:
    expected = used.copy()
    for column in range(used.shape[1]):
        sent = np.flatnonzero(used[:, column])
        for before, after in itertools.pairwise(sent):
            if after - before - 1 <= longest:
                expected[before:after, column] = True
    np.testing.assert_array_equal(bridge(used, longest), expected)


def test_half_of_a_pixel_decides() -> None:
    none, half, most = np.zeros((32, 16)), np.full((32, 16), 0.5), np.full((32, 16), 0.6)
    assert label_map(IMAGE, []).tolist() == np.full((32, 16), NOISE).tolist()
    assert np.all(label_map(IMAGE, [(LTE, half)]) == LTE)
    assert np.all(label_map(IMAGE, [(LTE, half - 0.001)]) == NOISE)
    assert np.all(label_map(IMAGE, [(LTE, half), (NR, most)]) == NR)
    # Two carriers of a class together.
    assert np.all(label_map(IMAGE, [(NR, half / 2), (NR, half / 2), (LTE, none)]) == NR)
    assert label_map(IMAGE, []).dtype == np.uint8


def block_grid(rows: dict[int, list[int]], n_symbols: int = 140) -> ResourceGrid:
    """A carrier of 8 blocks of 15 kHz that sends the given blocks in the given symbols."""
    values = np.zeros((n_symbols, 96), np.complex64)
    for symbol, blocks in rows.items():
        for block in blocks:
            values[symbol, 12 * block + 3] = 1.0
    return ResourceGrid(
        numerology=Numerology(15_000, 7_680_000),
        first_symbol=0,
        bins=np.arange(96) - 48,
        values=values,
    )


def test_resources_cover_what_is_sent_and_short_gaps() -> None:
    image = ImageConfig(sample_rate=7_680_000, n_samples=76_800, height=512, width=140)
    # Block 2 in symbols 20 to 27, a gap of 7 symbols (0.5 ms), and again; block 5 with a gap of 8.
    sent = {symbol: [2] for symbol in (*range(20, 28), *range(35, 40))}
    sent |= {symbol: [5] for symbol in (*range(60, 64), *range(72, 75))}
    cover = resource_cover(image, [block_grid(sent)], 1e6, 0)
    labels = label_map(image, [(LTE, cover)])
    frequency = (image.frequency_edges[:-1] + image.frequency_edges[1:]) / 2
    time = (image.time_edges[:-1] + image.time_edges[1:]) / 2
    numerology = Numerology(15_000, 7_680_000)

    def start(symbol: int) -> float:
        subframe, place = divmod(symbol, 14)
        return subframe * 1e-3 + numerology.symbol_starts[place] / 7.68e6

    for block, spans in ((2, [(20, 40)]), (5, [(60, 64), (72, 75)])):
        low = 1e6 + (12 * block - 48 - 0.5) * 15e3
        rows = (frequency > low) & (frequency < low + 180e3)
        inside = np.zeros(time.size, bool)
        for first, last in spans:
            inside |= (time > start(first)) & (time < start(last))
        assert inside.sum() > 5
        np.testing.assert_array_equal(labels[rows] == LTE, np.tile(inside, (rows.sum(), 1)))
    assert (labels == LTE).sum() == (cover > 0.5).sum() > 0


def test_a_delay_moves_the_cover_to_the_left() -> None:
    image = ImageConfig(sample_rate=7_680_000, n_samples=38_400, height=32, width=40)
    grid = block_grid({symbol: list(range(8)) for symbol in range(28, 56)})
    cover = resource_cover(image, [grid], 0.0, 7_680)  # symbols 28 to 55 last from 2 to 4 ms
    columns = cover[16]
    np.testing.assert_allclose(columns[8:24], 1.0, atol=1e-9)
    np.testing.assert_allclose(columns[[*range(8), *range(24, 40)]], 0.0, atol=1e-9)


@pytest.mark.parametrize("spacing", [15_000, 30_000, 60_000])
def test_half_a_millisecond_is_bridged_at_every_spacing(spacing: int) -> None:
    per_slot = 7 * spacing // 15_000  # symbols in 0.5 ms
    values = np.zeros((4 * per_slot + 2, 12), np.complex64)
    values[[0, per_slot + 1, 2 * per_slot + 3]] = 1.0
    grid = ResourceGrid(
        numerology=Numerology(spacing, 7_680_000), first_symbol=0, bins=np.arange(12), values=values
    )
    image = ImageConfig(sample_rate=7_680_000, n_samples=7_680, height=512, width=64)
    cover = resource_cover(image, [grid], 0.0, 0)
    row = int(np.argmax(cover.max(axis=1)))
    columns = cover[row] > 0.5
    # The first gap has as many symbols as 0.5 ms and is bridged, the second has one more.
    end_of_second = (per_slot + 2) / (2 * per_slot) * 64
    assert columns[: int(end_of_second) - 1].all()
    assert not columns[int(end_of_second) + 2 : 62].all()
