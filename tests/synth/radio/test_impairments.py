"""Noise and receiver faults against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from tfspec.synth.radio.impairments import (
    Impairments,
    complex_noise,
    draw_impairments,
    impair,
    phase_noise,
)

RATE = 61_440_000.0
QUIET = {"phase_noise": -200.0}


def tone(frequency: float, n: int = 1 << 16) -> np.ndarray:
    return np.exp(2j * np.pi * frequency / RATE * np.arange(n)).astype(np.complex64)


def level(iq: np.ndarray, frequency: float) -> float:
    """Power at one frequency, dB."""
    return float(10 * np.log10(np.abs(np.mean(iq * np.conj(tone(frequency, iq.size)))) ** 2))


def test_noise_is_white_gaussian_and_of_unit_variance() -> None:
    noise = complex_noise(np.random.default_rng(0), 400_000)
    assert noise.dtype == np.complex64 and noise.shape == (400_000,)
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(1.0, rel=0.01)  # 0.16 % expected
    assert abs(np.mean(noise)) < 0.01
    parts = noise.view(np.float32) * np.sqrt(2.0)
    # 65,536 levels cannot be told from a normal distribution by 20,000 values.
    assert scipy.stats.kstest(parts[:20_000], "norm").pvalue > 1e-3
    assert np.abs(parts).max() == pytest.approx(4.3, abs=0.1)
    assert abs(np.mean(noise * noise)) < 0.01  # circular
    _, power = scipy.signal.welch(noise, nperseg=256, return_onesided=False, detrend=False)
    # About 3000 windows in each bin: 2 %, five times that for 256 bins.
    np.testing.assert_allclose(power, 1.0, rtol=0.1)


def test_phase_noise_has_the_variance_and_spectrum_of_its_formula() -> None:
    step, level_db, corner = 0.5e-6, -80.0, 20e3
    phase = phase_noise(np.random.default_rng(0), 1 << 20, step, level_db, corner)
    variance = np.pi * corner * 10 ** (level_db / 10)
    # 0.5 s hold about 30,000 independent values: 1 %, four times that.
    assert np.var(phase) == pytest.approx(variance, rel=0.04)
    assert np.mean(phase[:1] ** 2) < 20 * variance
    frequency, power = scipy.signal.welch(phase, 1 / step, nperseg=1 << 14)
    for at in (2e3, 20e3, 100e3):
        near = (frequency > 0.9 * at) & (frequency < 1.1 * at)
        expected = 2 * 10 ** (level_db / 10) / (1 + (at / corner) ** 2)  # one-sided
        assert power[near].mean() == pytest.approx(expected, rel=0.1)


def test_a_quiet_receiver_changes_nothing() -> None:
    iq = complex_noise(np.random.default_rng(0), 10_001)
    before = iq.copy()
    impair(np.random.default_rng(1), iq, Impairments(**QUIET), RATE)
    np.testing.assert_allclose(iq, before, atol=1e-5)


def test_phase_noise_spreads_a_tone_and_keeps_its_power() -> None:
    iq = tone(3e6)
    impair(np.random.default_rng(0), iq, Impairments(phase_noise=-80.0, phase_corner=1e5), RATE)
    # Interpolation between steps takes a little off the unit circle: half of the squared change.
    np.testing.assert_allclose(np.abs(iq), 1.0, atol=0.01)
    variance = np.pi * 1e5 * 1e-8
    assert np.var(np.angle(iq * np.conj(tone(3e6)))) == pytest.approx(variance, rel=0.3)


@pytest.mark.parametrize(("gain", "phase"), [(0.5, 0.0), (0.0, 0.05), (-0.3, 0.02)])
def test_iq_imbalance_mirrors_a_tone(gain: float, phase: float) -> None:
    faults = Impairments(**QUIET, gain_imbalance=gain, phase_imbalance=phase)
    iq = tone(15 * RATE / (1 << 16))  # whole periods: tone and image are orthogonal
    frequency = 15 * RATE / (1 << 16)
    impair(np.random.default_rng(0), iq, faults, RATE)
    assert level(iq, frequency) == pytest.approx(0.0, abs=1e-3)
    rejection = level(iq, frequency) - level(iq, -frequency)
    assert rejection == pytest.approx(faults.image_rejection_db, abs=0.05)
    # The textbook approximation for small faults: 4 / (g^2 + p^2).
    g = 10 ** (gain / 20) - 1
    assert rejection == pytest.approx(10 * np.log10(4 / (g**2 + phase**2)), abs=0.3)


def test_dc_offset_is_relative_to_the_signal() -> None:
    iq = 7 * tone(40 * RATE / (1 << 16))
    impair(np.random.default_rng(0), iq, Impairments(**QUIET, dc_offset=0.06 - 0.08j), RATE)
    assert np.mean(iq) == pytest.approx(7 * (0.06 - 0.08j), abs=1e-3)


def test_drawn_receivers_reject_images_by_45_db() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_impairments(rng) for _ in range(500)]
    assert min(faults.image_rejection_db for faults in drawn) > 45.0
    offsets = 20 * np.log10([abs(faults.dc_offset) for faults in drawn])
    assert offsets.min() >= -45.01 and offsets.max() <= -19.99
