"""What a receiver adds to what the antenna hears: noise, phase noise, IQ imbalance, DC offset."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.signal
import scipy.special

# Phase noise is made at this many times less than the sample rate and interpolated: it has decayed
# at the frequencies beyond.
_PHASE_STEP = 32
_TABLE_BITS = 16
_BLOCK = 1 << 15  # samples; a multiple of _PHASE_STEP


@dataclasses.dataclass(frozen=True, kw_only=True)
class Impairments:
    """Faults of a direct-conversion receiver.

    Attributes:
        phase_noise: Single-sideband phase noise near the carrier, dBc/Hz.
        phase_corner: Frequency from which on it falls by 20 dB per decade, Hz.
        gain_imbalance: Gain of the imaginary over that of the real part, dB.
        phase_imbalance: Deviation from 90 degrees between the two, radians.
        dc_offset: Complex constant, relative to the root mean square of the signal.
    """

    phase_noise: float = -95.0
    phase_corner: float = 30_000.0
    gain_imbalance: float = 0.0
    phase_imbalance: float = 0.0
    dc_offset: complex = 0.0

    @property
    def image_rejection_db(self) -> float:
        """Power of a signal over that of its mirror image at the negative frequency, dB."""
        gain = 10.0 ** (self.gain_imbalance / 20.0) * np.exp(1j * self.phase_imbalance)
        mirror = max(float(abs(1.0 - np.conj(gain)) ** 2), 1e-30)
        return float(10.0 * np.log10(abs(1.0 + gain) ** 2 / mirror))


def draw_impairments(rng: np.random.Generator) -> Impairments:
    """A receiver of the quality of a calibrated software radio.

    Its mirror images lie at least 45 dB below their signals, since no receiver with worse ones
    could tell a weak carrier from the image of a strong one.
    """
    level = 10.0 ** (rng.uniform(-45.0, -20.0) / 20.0)
    return Impairments(
        phase_noise=float(rng.uniform(-110.0, -90.0)),
        phase_corner=float(10.0 ** rng.uniform(4.0, 5.0)),
        gain_imbalance=float(rng.uniform(-0.06, 0.06)),
        phase_imbalance=float(rng.uniform(-0.006, 0.006)),
        dc_offset=complex(level * np.exp(2j * np.pi * rng.random())),
    )


def complex_noise(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """White Gaussian noise of variance 1.

    Drawn from 65,536 equally likely levels, as a 16-bit converter would deliver it, which takes a
    third of the time of exact normal numbers; the largest level is 4.3 standard deviations.

    Returns:
        complex64 `(n_samples,)`.
    """
    levels = _normal_levels()
    indices = rng.bit_generator.random_raw(-(-n_samples // 2)).view(np.uint16)
    parts = np.empty(indices.size, np.float32)
    for start in range(0, indices.size, _BLOCK):
        piece = slice(start, start + _BLOCK)
        np.take(levels, indices[piece], out=parts[piece], mode="wrap")
    return parts[: 2 * n_samples].view(np.complex64)


@functools.cache
def _normal_levels() -> np.ndarray:
    """Quantiles of the normal distribution of variance 1/2, float32 `(65536,)`."""
    levels = scipy.special.ndtri((np.arange(1 << _TABLE_BITS) + 0.5) / (1 << _TABLE_BITS))
    return (levels * np.sqrt(0.5 / np.mean(levels**2))).astype(np.float32)


def phase_noise(
    rng: np.random.Generator, n_steps: int, step: float, level_db: float, corner: float
) -> np.ndarray:
    """Phase of an oscillator in a first-order loop.

    Its spectrum is `S(f) = L / (1 + (f / corner)^2)` on both sides, so its variance is
    `pi * corner * L`: an Ornstein-Uhlenbeck process, sampled exactly.

    Args:
        rng: Source of the noise.
        n_steps: Values to return.
        step: Seconds between them.
        level_db: `10 log10 L`, dBc/Hz.
        corner: Hz.

    Returns:
        Radians, float64 `(n_steps,)`.
    """
    deviation = np.sqrt(np.pi * corner * 10.0 ** (level_db / 10.0))
    memory = np.exp(-2.0 * np.pi * corner * step)
    drive = rng.standard_normal(n_steps)
    drive[0] /= np.sqrt(1.0 - memory**2)  # starts in its steady state
    drive *= deviation * np.sqrt(1.0 - memory**2)
    return scipy.signal.lfilter([1.0], [1.0, -memory], drive)


def impair(
    rng: np.random.Generator, iq: np.ndarray, faults: Impairments, sample_rate: float
) -> None:
    """Passes a signal through a receiver, in place.

    Args:
        rng: Source of the phase noise.
        iq: complex64 `(samples,)`.
        faults: The receiver.
        sample_rate: Hz.
    """
    level = np.sqrt(np.vdot(iq, iq).real / max(iq.size, 1))
    points = _oscillator(rng, -(-iq.size // _PHASE_STEP) + 1, faults, sample_rate)
    offset = np.complex64(level * faults.dc_offset)
    for start in range(0, iq.size, _BLOCK):  # pieces that stay in the cache
        piece = iq[start : start + _BLOCK]
        _turn(piece, points[start // _PHASE_STEP :])
        _imbalance(piece, faults)
        piece += offset


def _oscillator(
    rng: np.random.Generator, n_steps: int, faults: Impairments, sample_rate: float
) -> np.ndarray:
    """Points on or near the unit circle, one for every `_PHASE_STEP` samples; complex64."""
    step = _PHASE_STEP / sample_rate
    phase = phase_noise(rng, n_steps, step, faults.phase_noise, faults.phase_corner)
    return np.exp(1j * phase).astype(np.complex64)


def _turn(piece: np.ndarray, points: np.ndarray) -> None:
    """Multiplies by the oscillator, interpolated linearly between its steps, in place."""
    ramp = (np.arange(_PHASE_STEP) / _PHASE_STEP).astype(np.float32)
    n_steps = -(-piece.size // _PHASE_STEP)
    change = points[1 : n_steps + 1] - points[:n_steps]
    turns = change[:, None] * ramp
    turns += points[:n_steps, None]
    piece *= turns.reshape(-1)[: piece.size]


def _imbalance(piece: np.ndarray, faults: Impairments) -> None:
    """Adds the mirror image: re' = re, im' = g (im cos p + re sin p), at equal wanted power."""
    gain = 10.0 ** (faults.gain_imbalance / 20.0) * np.exp(1j * faults.phase_imbalance)
    keep = np.float32(1.0 / abs((1.0 + gain) / 2.0))
    parts = piece.view(np.float32).reshape(-1, 2)
    leak = np.float32(gain.imag) * parts[:, 0]
    parts *= np.array([keep, keep * gain.real], np.float32)
    parts[:, 1] += keep * leak
