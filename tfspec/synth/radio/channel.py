"""Tapped-delay fading with Doppler, as base station tests prescribe it.

A channel acts on the resource elements: over one OFDM symbol it is constant and, for paths within
the cyclic prefix, convolves circularly, so that multiplying by its frequency response is exactly
what a receiver sees. A path later than the prefix (the last of ETU in LTE, by 0.3 us) keeps its
power but not the interference between symbols that it would cause.
"""

from __future__ import annotations

import dataclasses

import numpy as np

# Plane waves per path. Their sum is Gaussian to within what a few hundred symbols can show.
_WAVES = 16


@dataclasses.dataclass(frozen=True)
class TapProfile:
    """Mean power of each path of a channel.

    Attributes:
        delays: Excess delays in seconds.
        powers: Mean powers, which add up to 1.
    """

    delays: np.ndarray
    powers: np.ndarray

    @property
    def delay_spread(self) -> float:
        """Root mean square delay spread, seconds."""
        mean = float(self.powers @ self.delays)
        return float(np.sqrt(self.powers @ (self.delays - mean) ** 2))


def _profile(delays_ns: tuple[float, ...], powers_db: tuple[float, ...]) -> TapProfile:
    powers = 10.0 ** (np.array(powers_db) / 10.0)
    return TapProfile(np.array(delays_ns) * 1e-9, powers / powers.sum())


# The three of LTE are TS 36.104 tables B.2-2 to B.2-4, those of NR TS 38.104 tables G.2.1.1-2 to
# G.2.1.1-4 (the name ends in the delay spread in nanoseconds).
PROFILES: dict[str, TapProfile] = {
    "EPA": _profile((0, 30, 70, 90, 110, 190, 410), (0, -1, -2, -3, -8, -17.2, -20.8)),
    "EVA": _profile(
        (0, 30, 150, 310, 370, 710, 1090, 1730, 2510),
        (0, -1.5, -1.4, -3.6, -0.6, -9.1, -7, -12, -16.9),
    ),
    "ETU": _profile(
        (0, 50, 120, 200, 230, 500, 1600, 2300, 5000), (-1, -1, -1, 0, 0, 0, -3, -5, -7)
    ),
    "TDLA30": _profile(
        (0, 10, 15, 20, 25, 50, 65, 75, 105, 135, 150, 290),
        (-15.5, 0, -5.1, -5.1, -9.6, -8.2, -13.1, -11.5, -11, -16.2, -16.6, -26.2),
    ),
    "TDLB100": _profile(
        (0, 10, 20, 30, 35, 45, 55, 120, 170, 245, 330, 480),
        (0, -2.2, -0.6, -0.6, -0.3, -1.2, -5.9, -2.2, -0.8, -6.3, -7.5, -7.1),
    ),
    "TDLC300": _profile(
        (0, 65, 70, 190, 195, 200, 240, 325, 520, 1045, 1510, 2595),
        (-6.9, 0, -7.7, -2.5, -2.4, -9.9, -8, -6.6, -7.1, -13, -14.2, -16),
    ),
}
# Profiles and Doppler frequencies in Hz that are tested together: TS 36.104 clauses 8.2 and B.2,
# TS 38.104 clause G.2.1.2.
LTE_CHANNELS = (("EPA", 5.0), ("EVA", 5.0), ("EVA", 70.0), ("ETU", 70.0), ("ETU", 300.0))
NR_CHANNELS = (("TDLA30", 10.0), ("TDLB100", 400.0), ("TDLC300", 100.0))


def path_gains(
    rng: np.random.Generator, profile: TapProfile, doppler: float, times: np.ndarray
) -> np.ndarray:
    """Rayleigh fading paths with the classical (Jakes) Doppler spectrum, TS 36.104 clause B.2.

    Each path is a sum of plane waves from directions spread evenly over the circle, with random
    phases: its autocorrelation is `J0(2 pi doppler lag)`.

    Args:
        rng: Source of directions and phases.
        profile: The paths' mean powers.
        doppler: Largest Doppler frequency, Hz.
        times: Seconds, `(n,)`.

    Returns:
        complex64 `(paths, n)`.
    """
    size = (profile.powers.size, _WAVES)
    directions = 2.0 * np.pi * (np.arange(_WAVES) + rng.random(size)) / _WAVES
    phases = 2.0 * np.pi * rng.random(size)
    turns = (2.0 * np.pi * doppler * np.cos(directions))[..., None] * times
    waves = np.exp(1j * (turns + phases[..., None]).astype(np.float32))
    return waves.sum(axis=1) * np.sqrt(profile.powers / _WAVES).astype(np.float32)[:, None]


def frequency_response(
    gains: np.ndarray, profile: TapProfile, frequencies: np.ndarray
) -> np.ndarray:
    """Response of a channel.

    Args:
        gains: complex64 `(paths, n)`.
        profile: The paths' delays.
        frequencies: Hz, `(m,)`.

    Returns:
        complex64 `(n, m)`.
    """
    turns = np.exp(-2j * np.pi * profile.delays[:, None] * frequencies)
    return gains.T @ turns.astype(np.complex64)
