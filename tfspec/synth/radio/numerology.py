"""Subcarrier spacings, symbol lengths and channel bandwidths of LTE and NR.

The cyclic prefixes of TS 36.211 clause 6.12 (15 kHz, normal) and of TS 38.211 clause 5.3.1 are one
formula in units of Ts = 1 / 30.72 MHz: 144 / 2^mu, and 16 more in the first symbol of each half
subframe; the useful part has 2048 / 2^mu.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from tfspec.errors import ConfigError

SUBCARRIERS_PER_BLOCK = 12  # TS 36.211 table 6.2.3-1, TS 38.211 clause 4.4.4.1
BASE_RATE = 30_720_000  # Hz, 1 / Ts of TS 36.211 clause 4
FRAME = 0.01  # seconds, TS 36.211 clause 4.1, TS 38.211 clause 4.3.1
SUBFRAMES_PER_FRAME = 10

# Channel bandwidth in Hz to resource blocks, TS 36.104 table 5.6-1.
LTE_BLOCKS: dict[int, int] = {
    1_400_000: 6,
    3_000_000: 15,
    5_000_000: 25,
    10_000_000: 50,
    15_000_000: 75,
    20_000_000: 100,
}

_NR_BANDWIDTHS = (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100)  # MHz
# The columns of TS 38.104 table 5.3.2-1 (frequency range 1); 0 where the combination is not used.
_NR_BLOCKS = {
    15_000: (25, 52, 79, 106, 133, 160, 188, 216, 242, 270, 0, 0, 0, 0, 0),
    30_000: (11, 24, 38, 51, 65, 78, 92, 106, 119, 133, 162, 189, 217, 245, 273),
    60_000: (0, 11, 18, 24, 31, 38, 44, 51, 58, 65, 79, 93, 107, 121, 135),
}
# Subcarrier spacing in Hz to channel bandwidth in Hz to resource blocks.
NR_BLOCKS: dict[int, dict[int, int]] = {
    spacing: {
        megahertz * 1_000_000: blocks
        for megahertz, blocks in zip(_NR_BANDWIDTHS, row, strict=True)
        if blocks
    }
    for spacing, row in _NR_BLOCKS.items()
}


@dataclasses.dataclass(frozen=True)
class Numerology:
    """OFDM symbols of one subcarrier spacing at one sample rate, normal cyclic prefix.

    Args:
        spacing: Subcarrier spacing, 15000, 30000 or 60000 Hz.
        sample_rate: Hz; a multiple of 7.68 MHz, so that every length is a whole number.

    Raises:
        ConfigError: Another spacing, or a rate at which a length is not whole.
    """

    spacing: int
    sample_rate: int

    def __post_init__(self) -> None:
        if self.spacing not in _NR_BLOCKS:
            raise ConfigError(
                f"`spacing` must be one of {sorted(_NR_BLOCKS)} Hz. "
                f"Received: spacing={self.spacing!r}"
            )
        if self.sample_rate % 7_680_000:
            raise ConfigError(
                "`sample_rate` must be a multiple of 7680000 Hz. "
                f"Received: sample_rate={self.sample_rate!r}"
            )

    @property
    def slots_per_subframe(self) -> int:
        """2^mu slots of 14 symbols in a millisecond (TS 38.211 table 4.3.2-1)."""
        return self.spacing // 15_000

    @property
    def symbols_per_subframe(self) -> int:
        """OFDM symbols in a millisecond."""
        return 14 * self.slots_per_subframe

    @property
    def samples_per_subframe(self) -> int:
        """Samples in a millisecond."""
        return self.sample_rate // 1000

    @property
    def fft_length(self) -> int:
        """Samples of the useful part of a symbol."""
        return self.sample_rate // self.spacing

    @functools.cached_property
    def prefix_lengths(self) -> np.ndarray:
        """Samples of the cyclic prefix of each symbol of a subframe, int64."""
        lengths = np.full(self.symbols_per_subframe, 144 // self.slots_per_subframe)
        lengths[:: self.symbols_per_subframe // 2] += 16
        return lengths * self.sample_rate // BASE_RATE

    @functools.cached_property
    def symbol_starts(self) -> np.ndarray:
        """First sample of the cyclic prefix of each symbol of a subframe, int64."""
        lengths = self.prefix_lengths + self.fft_length
        return np.cumsum(lengths) - lengths
