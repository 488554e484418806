"""Fading channels against closed forms and a tapped delay line in the time domain."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

from tfspec.synth.radio.channel import (
    LTE_CHANNELS,
    NR_CHANNELS,
    PROFILES,
    frequency_response,
    path_gains,
)
from tfspec.synth.radio.numerology import Numerology
from tfspec.synth.radio.ofdm import ResourceGrid, modulate


@pytest.mark.parametrize(
    ("name", "nanoseconds", "paths"),
    [
        # Root mean square delay spreads that TS 36.104 table B.2-1 and TS 38.104 table G.2.1.1-1
        # state; delays are rounded to 5 or 10 ns, which matters most for EPA.
        ("EPA", 45, 7),
        ("EVA", 357, 9),
        ("ETU", 991, 9),
        ("TDLA30", 30, 12),
        ("TDLB100", 100, 12),
        ("TDLC300", 300, 12),
    ],
)
def test_profiles_have_the_delay_spread_of_the_standard(
    name: str, nanoseconds: float, paths: int
) -> None:
    profile = PROFILES[name]
    assert profile.delay_spread * 1e9 == pytest.approx(nanoseconds, rel=0.05)
    assert profile.powers.size == profile.delays.size == paths
    assert profile.powers.sum() == pytest.approx(1.0)
    assert np.all(np.diff(profile.delays) > 0) and profile.delays[0] == 0


def test_every_channel_that_is_drawn_exists() -> None:
    assert {name for name, _ in (*LTE_CHANNELS, *NR_CHANNELS)} == set(PROFILES)


def test_mean_power_of_each_path_is_that_of_the_profile() -> None:
    profile = PROFILES["EVA"]
    rng = np.random.default_rng(0)
    # Many short channels rather than a long one: directions are drawn once per channel.
    power = np.mean(
        [np.abs(path_gains(rng, profile, 70.0, np.array([0.0, 0.3]))) ** 2 for _ in range(4000)],
        axis=(0, 2),
    )
    # 8000 values of an exponential distribution: 1.1 %, and four times that for nine paths.
    np.testing.assert_allclose(power, profile.powers, rtol=0.045)


def test_doppler_spectrum_is_that_of_scattering_from_all_sides() -> None:
    profile, doppler = PROFILES["TDLC300"], 100.0
    lags = np.linspace(0.0, 0.025, 26)  # two and a half turns
    rng = np.random.default_rng(1)
    products = []
    for _ in range(1500):
        gains = path_gains(rng, profile, doppler, lags) / np.sqrt(profile.powers)[:, None]
        products.append(gains * np.conj(gains[:, :1]))
    got = np.mean(products, axis=(0, 1))
    # Clarke's model: J0(2 pi f t). 18,000 products of magnitude 1: 0.75 %, four times that allowed.
    np.testing.assert_allclose(got, scipy.special.j0(2 * np.pi * doppler * lags), atol=0.03)


def test_paths_fade_as_rayleigh_and_independently() -> None:
    profile = PROFILES["EPA"]
    rng = np.random.default_rng(2)
    gains = np.concatenate(
        [path_gains(rng, profile, 5.0, np.array([0.0])) for _ in range(3000)], axis=1
    )
    power = np.abs(gains) ** 2 / profile.powers[:, None]
    # Exponential power: a share exp(-1) above the mean; 16 waves come within 0.02 of it.
    assert np.mean(power > 1.0) == pytest.approx(np.exp(-1), abs=0.02)
    scaled = gains / np.sqrt(profile.powers)[:, None]
    correlation = scaled @ scaled.conj().T / 3000
    # Standard error 1 / sqrt(3000); four of them.
    assert np.abs(correlation - np.diag(np.diag(correlation))).max() < 0.075


def test_frequency_response_is_the_sum_of_the_paths() -> None:
    profile = PROFILES["TDLB100"]
    gains = path_gains(np.random.default_rng(0), profile, 5.0, np.array([0.0, 1.0]))
    frequencies = np.array([-3e6, 0.0, 1.5e6])
    response = frequency_response(gains, profile, frequencies)
    for moment in range(2):
        for place, f in enumerate(frequencies):
            expected = sum(
                gains[path, moment] * np.exp(-2j * np.pi * f * profile.delays[path])
                for path in range(12)
            )
            assert response[moment, place] == pytest.approx(expected, abs=1e-5)


def test_a_receiver_cannot_tell_it_from_a_tapped_delay_line() -> None:
    """Elements times response, modulated, equal modulated elements through delayed paths."""
    rate = 61_440_000
    rng = np.random.default_rng(3)
    numerology = Numerology(15_000, rate)
    bins = np.arange(300) - 150
    values = rng.choice([1, 1j, -1, -1j], (14, 300)).astype(np.complex64)
    grid = ResourceGrid(numerology=numerology, first_symbol=0, bins=bins, values=values)
    sent = np.zeros(rate // 1000, np.complex64)
    modulate(grid, 0.0, sent)

    profile = PROFILES["EVA"]
    # Delays on the grid of samples, so that the delay line needs no interpolation.
    delays = np.round(profile.delays * rate).astype(int)
    exact = type(profile)(delays / rate, profile.powers)
    gains = path_gains(rng, exact, 0.0, np.zeros(1))
    line = sum(gains[path, 0] * np.roll(sent, delay) for path, delay in enumerate(delays))

    response = frequency_response(np.repeat(gains, 14, axis=1), exact, bins * 15e3)
    made = np.zeros(rate // 1000, np.complex64)
    behind = ResourceGrid(
        numerology=numerology, first_symbol=0, bins=bins, values=values * response
    )
    modulate(behind, 0.0, made)
    for start, prefix in zip(grid.starts, grid.prefixes, strict=True):
        useful = slice(start + prefix, start + prefix + numerology.fft_length)
        # Single precision: 300 elements of 14 symbols add up.
        np.testing.assert_allclose(made[useful], line[useful], atol=5e-4)
