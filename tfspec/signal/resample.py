"""Sample rate conversion by soxr: whole waveforms, and block by block with the same result."""

from __future__ import annotations

import numpy as np
import soxr

from tfspec.errors import ConfigError


def _check_rates(source_rate: int, target_rate: int) -> None:
    for name, rate in (("source_rate", source_rate), ("target_rate", target_rate)):
        if rate < 1:
            raise ConfigError(f"{name}: must be at least 1 Hz. Received: {rate!r}")


def resample(waveform: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Changes the sample rate (soxr, high quality, linear phase, no delay).

    Args:
        waveform: `(samples,)` or `(samples, channels)`.
        source_rate: sample rate of `waveform`, Hz.
        target_rate: wanted sample rate, Hz.

    Returns:
        float32, `samples * target_rate / source_rate` long to within one sample; the input
        itself (as float32) when the rates are equal.
    """
    _check_rates(source_rate, target_rate)
    waveform = np.asarray(waveform, dtype=np.float32)
    if source_rate == target_rate:
        return waveform
    return soxr.resample(waveform, source_rate, target_rate)


class StreamResampler:
    """Resamples a waveform block by block in bounded memory.

    The concatenated results equal `resample` of the concatenated blocks. soxr holds some samples
    back, so a block may return fewer samples than it brought, or none; the last call flushes.

    Args:
        source_rate: sample rate of the blocks, Hz.
        target_rate: wanted sample rate, Hz.
        channels: number of channels of every block.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int) -> None:
        _check_rates(source_rate, target_rate)
        self.source_rate = source_rate
        self.target_rate = target_rate
        self.channels = channels
        self._stream: soxr.ResampleStream | None = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32")

    def process(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Takes the next block and returns what can be computed so far.

        Args:
            block: `(samples, channels)`, any length, zero included.
            last: whether this is the last block; the resampler cannot be used after it.

        Returns:
            float32 `(new_samples, channels)`.
        """
        block = np.ascontiguousarray(block, dtype=np.float32)
        if block.ndim != 2 or block.shape[1] != self.channels:
            raise ValueError(
                f"`block` must be (samples, {self.channels}). Received: shape {block.shape}"
            )
        if self._stream is None:
            return block
        return self._stream.resample_chunk(block, last=last)
