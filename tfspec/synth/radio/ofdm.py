"""Resource grids and the complex baseband that they become."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.fft

from tfspec.synth.radio.numerology import SUBCARRIERS_PER_BLOCK, Numerology


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResourceGrid:
    """Consecutive OFDM symbols of one subcarrier spacing, from the start of a subframe.

    Attributes:
        numerology: Spacing and symbol lengths.
        first_symbol: Number of the first row, counted from the start of the first subframe.
        bins: Places of the subcarriers, in subcarriers from the carrier's frequency, int64
            `(subcarriers,)`, ascending.
        values: complex64 `(symbols, subcarriers)`; 0 where nothing is sent.
    """

    numerology: Numerology
    first_symbol: int
    bins: np.ndarray
    values: np.ndarray

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """First sample of each symbol's cyclic prefix, from the first subframe; int64."""
        number = self.first_symbol + np.arange(len(self.values))
        subframe, symbol = np.divmod(number, self.numerology.symbols_per_subframe)
        return (
            subframe * self.numerology.samples_per_subframe + self.numerology.symbol_starts[symbol]
        )

    @functools.cached_property
    def prefixes(self) -> np.ndarray:
        """Samples of each symbol's cyclic prefix; int64."""
        number = self.first_symbol + np.arange(len(self.values))
        return self.numerology.prefix_lengths[number % self.numerology.symbols_per_subframe]

    @property
    def stops(self) -> np.ndarray:
        """Sample after the last one of each symbol; int64."""
        return self.starts + self.prefixes + self.numerology.fft_length

    @functools.cached_property
    def occupied_blocks(self) -> np.ndarray:
        """Which resource blocks carry energy, bool `(symbols, blocks)`."""
        blocks = self.values.reshape(len(self.values), -1, SUBCARRIERS_PER_BLOCK)
        return (blocks != 0).any(axis=-1)

    @functools.cached_property
    def block_edges(self) -> np.ndarray:
        """Lowest and highest frequency of each block from the carrier's, Hz, `(blocks, 2)`."""
        bins = self.bins.reshape(-1, SUBCARRIERS_PER_BLOCK)
        return (bins[:, [0, -1]] + np.array([-0.5, 0.5])) * self.numerology.spacing


def taper_length(numerology: Numerology) -> int:
    """Samples over which neighbouring symbols are crossfaded: a quarter of the short prefix.

    The standards leave the shape of the transition to the transmitter (TS 36.211 clause 6.12), yet
    demand a clean neighbouring channel (TS 36.104 clause 6.6.2, TS 38.104 clause 6.6.3).
    """
    return int(numerology.prefix_lengths.min()) // 4


def modulate(grid: ResourceGrid, frequency: float, out: np.ndarray) -> None:
    """Adds the waveform of a grid, moved in frequency, to a signal in place.

    A resource element of magnitude 1 has mean power `1 / fft_length`: the transform is unitary.

    Args:
        grid: What is sent.
        frequency: Where the carrier lies, Hz; any value within the band.
        out: complex64 `(samples,)`, sample 0 at the start of the first subframe; symbols that
            reach beyond its end are cut.
    """
    numerology, n_fft = grid.numerology, grid.numerology.fft_length
    sent = np.flatnonzero((grid.values != 0).any(axis=1))
    if not sent.size:
        return
    shift = round(frequency / numerology.spacing)
    turn = 2.0 * np.pi * (frequency - shift * numerology.spacing) / numerology.sample_rate
    useful = grid.starts[sent] + grid.prefixes[sent]
    # The oscillator runs on from symbol to symbol; within a symbol `shift` is part of the bins.
    phase = 2.0 * np.pi * np.mod(frequency / numerology.sample_rate * useful, 1.0)
    spectrum = np.zeros((sent.size, n_fft), np.complex64)
    spectrum[:, (grid.bins + shift) % n_fft] = grid.values[sent]
    spectrum *= np.exp(1j * phase).astype(np.complex64)[:, None]
    bodies = scipy.fft.ifft(spectrum, axis=1, norm="ortho", overwrite_x=True)
    bodies *= np.exp(1j * turn * np.arange(n_fft)).astype(np.complex64)
    _overlap(bodies, grid, sent, np.complex64(np.exp(1j * turn * n_fft)), out)


def _overlap(
    bodies: np.ndarray, grid: ResourceGrid, sent: np.ndarray, period: np.complex64, out: np.ndarray
) -> None:
    """Adds symbols with their prefixes and crossfades; one length later the phase is `period`."""
    taper, n_fft = taper_length(grid.numerology), grid.numerology.fft_length
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(taper) + 0.5) / taper)).astype(np.float32)
    longest = int(grid.prefixes.max())
    heads = bodies[:, n_fft - longest :] * np.conj(period)
    tails = bodies[:, :taper] * (period * rise[::-1])
    for index, symbol in enumerate(sent):
        start, prefix = int(grid.starts[symbol]), int(grid.prefixes[symbol])
        head = heads[index, longest - prefix :]
        head[:taper] *= rise
        stop = start + prefix + n_fft
        if stop + taper <= out.size:
            out[start : start + prefix] += head
            out[start + prefix : stop] += bodies[index]
            out[stop : stop + taper] += tails[index]
        elif start < out.size:
            whole = np.concatenate([head, bodies[index], tails[index]])
            out[start:] += whole[: out.size - start]
