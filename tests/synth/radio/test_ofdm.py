"""Waveforms against an independent receiver, and their spectrum against the standards."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from tfspec.synth.radio.numerology import LTE_BLOCKS, NR_BLOCKS, Numerology
from tfspec.synth.radio.ofdm import ResourceGrid, modulate, taper_length

RATE = 30_720_000


def random_grid(
    rng: np.random.Generator, spacing: int, n_blocks: int, n_symbols: int, rate: int = RATE
) -> ResourceGrid:
    values = rng.choice([1, 1j, -1, -1j], (n_symbols, 12 * n_blocks)).astype(np.complex64)
    return ResourceGrid(
        numerology=Numerology(spacing, rate),
        first_symbol=0,
        bins=np.arange(12 * n_blocks) - 6 * n_blocks,
        values=values,
    )


def waveform(grid: ResourceGrid, frequency: float, milliseconds: int) -> np.ndarray:
    out = np.zeros(milliseconds * grid.numerology.samples_per_subframe, np.complex64)
    modulate(grid, frequency, out)
    return out


def received(samples: np.ndarray, grid: ResourceGrid, symbol: int, frequency: float) -> np.ndarray:
    """One symbol as a receiver sees it: moved to 0 Hz, prefix removed, transformed."""
    numerology = grid.numerology
    length = numerology.fft_length
    subframe, place = divmod(symbol, numerology.symbols_per_subframe)
    start = subframe * numerology.samples_per_subframe + numerology.symbol_starts[place]
    t = start + numerology.prefix_lengths[place] + np.arange(length)
    turned = samples[t] * np.exp(-2j * np.pi * frequency * t / numerology.sample_rate)
    spectrum = np.fft.fft(turned) / np.sqrt(length)
    return spectrum[grid.bins % length]


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([15_000, 30_000, 60_000]),
    st.floats(-5e6, 5e6),
    st.integers(0, 2**16),
)
def test_a_receiver_gets_the_grid_back(spacing: int, frequency: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = random_grid(rng, spacing, 11, 14 * spacing // 15_000)
    samples = waveform(grid, frequency, 1)
    for symbol in range(0, len(grid.values), 3):
        got = received(samples, grid, symbol, frequency)
        # Single precision; the crossfade of symbols ends within the prefix.
        np.testing.assert_allclose(got, grid.values[symbol], atol=2e-4)


def test_symbols_are_continued_by_their_prefix(rng: np.random.Generator) -> None:
    frequency = 1_234_567.0
    grid = random_grid(rng, 15_000, 25, 14)
    samples = waveform(grid, frequency, 1)
    baseband = samples * np.exp(-2j * np.pi * frequency * np.arange(samples.size) / RATE)
    taper = taper_length(grid.numerology)
    for start, prefix in zip(grid.starts, grid.prefixes, strict=True):
        head = baseband[start + taper : start + prefix]
        tail = baseband[start + taper + 2048 : start + prefix + 2048]
        np.testing.assert_allclose(head, tail, atol=2e-4)
    assert grid.prefixes.tolist() == 2 * [160, *6 * [144]]


def test_a_resource_element_has_unit_energy(rng: np.random.Generator) -> None:
    grid = random_grid(rng, 15_000, 25, 14)
    grid.values[:] = 0
    grid.values[4, 77] = 1
    samples = waveform(grid, 0.0, 1)
    start = grid.starts[4] + grid.prefixes[4]
    assert np.sum(np.abs(samples[start : start + 2048]) ** 2) == pytest.approx(1.0, rel=1e-5)
    assert not samples[: grid.starts[4]].any()
    assert not samples[grid.stops[4] + taper_length(grid.numerology) :].any()


def test_signals_add_up_in_place_and_are_cut_at_the_end(rng: np.random.Generator) -> None:
    grid = random_grid(rng, 15_000, 6, 14)
    whole = waveform(grid, 0.0, 2)
    short = np.ones(12_345, np.complex64)
    modulate(grid, 0.0, short)
    np.testing.assert_allclose(short - 1, whole[:12_345], atol=1e-6)


def spectrum(samples: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    frequency, power = scipy.signal.welch(
        samples, rate, "blackmanharris", 8192, return_onesided=False, detrend=False
    )
    order = np.argsort(frequency)
    return frequency[order], power[order]


CARRIERS = [("lte", 15_000, bandwidth, blocks) for bandwidth, blocks in LTE_BLOCKS.items()] + [
    ("nr", spacing, bandwidth, NR_BLOCKS[spacing][bandwidth])
    for spacing, bandwidth in [
        (15_000, 5_000_000),
        (15_000, 20_000_000),
        (30_000, 10_000_000),
        (30_000, 40_000_000),
        (60_000, 25_000_000),
    ]
]


@pytest.mark.parametrize(("kind", "spacing", "bandwidth", "blocks"), CARRIERS)
def test_occupied_bandwidth_is_that_of_the_resource_blocks(
    kind: str, spacing: int, bandwidth: int, blocks: int
) -> None:
    rate = 61_440_000
    rng = np.random.default_rng(blocks)
    grid = random_grid(rng, spacing, blocks, 56 * spacing // 15_000, rate)
    if kind == "lte":  # DC left out
        half = 6 * blocks
        bins = np.concatenate([np.arange(-half, 0), np.arange(1, half + 1)])
        grid = ResourceGrid(
            numerology=grid.numerology, first_symbol=0, bins=bins, values=grid.values
        )
    frequency, power = spectrum(waveform(grid, 0.0, 4), rate)
    share = np.cumsum(power) / power.sum()
    low, high = np.interp([0.005, 0.995], share, frequency)
    # TS 36.104 clause 6.6.1, TS 38.104 clause 6.6.2: 99 % of the power within the channel. Of a
    # flat spectrum 99 % lie in 99 % of its width; symbols that begin and end add 0.5 % of power
    # beyond the edges at most, so that 1.5 % cover both and the resolution of 7.5 kHz.
    edges = grid.block_edges
    occupied = edges[-1, 1] - edges[0, 0]
    assert occupied == 12 * blocks * spacing + (spacing if kind == "lte" else 0)
    assert high - low < bandwidth
    assert high - low == pytest.approx(0.99 * occupied, rel=0.015, abs=15e3)
    assert (high + low) / 2 == pytest.approx(0.0 if kind == "lte" else -spacing / 2, abs=30e3)
    # The power falls at the edges of the outermost blocks, where the label ends: four subcarriers
    # further, sin(x) / x of the outer ones has left 1 / (8 pi^2).
    level = np.median(power[np.abs(frequency) < occupied / 3])
    for edge, outward in ((edges[0, 0], -1), (edges[-1, 1], 1)):
        inside = np.abs(frequency - edge + outward * 4 * spacing) < spacing
        outside = np.abs(frequency - edge - outward * 4 * spacing) < spacing
        assert power[inside].mean() > 0.7 * level
        assert power[outside].mean() < 0.05 * level


@pytest.mark.parametrize(("spacing", "bandwidth"), [(15_000, 10_000_000), (30_000, 20_000_000)])
def test_neighbouring_channels_stay_clean(spacing: int, bandwidth: int) -> None:
    rate = 61_440_000
    blocks = NR_BLOCKS[spacing][bandwidth]
    grid = random_grid(np.random.default_rng(0), spacing, blocks, 56 * spacing // 15_000, rate)
    frequency, power = spectrum(waveform(grid, 0.0, 4), rate)
    half = 6 * blocks * spacing
    own = power[np.abs(frequency) < half].sum()
    next_to_it = power[np.abs(frequency - bandwidth) < half].sum()
    # TS 36.104 clause 6.6.2.1 and TS 38.104 clause 6.6.3.2 ask for 45 dB.
    assert 10 * np.log10(own / next_to_it) > 45.0
