"""Short-time Fourier transform and its inverse for audio that arrives in blocks.

The concatenated results equal :func:`tfspec.signal.stft.stft` and `istft` of the whole signal for
every way of cutting it; memory is bounded by one block plus one frame.
"""

from __future__ import annotations

import numpy as np

from tfspec.errors import AudioError, ConfigError
from tfspec.signal.stft import (
    StftConfig,
    _positive_int,
    add_window_energy,
    check_spectrogram,
    divide_by_window,
    inverse_frames,
    overlap_rows,
    transform_frames,
)


class StreamingStft:
    """Analyses a waveform block by block; a frame is returned once its last sample arrived.

    Args:
        config: The transform's setting.
        channels: Channels of every block.
    """

    def __init__(self, config: StftConfig, channels: int) -> None:
        self.config = config
        self.channels = _positive_int("channels", channels)
        self.reset()

    def reset(self) -> None:
        """Forget everything and start a new signal."""
        self._pending = np.zeros((self.channels, self.config.padding), np.float32)
        self._finished = False

    def process(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Add a block and return the frames that it completes.

        Args:
            block: Floating-point `(n, channels)`; n may be 0.
            last: Whether the signal ends with this block.

        Returns:
            complex64 `(channels, n_bins, new_frames)`; new_frames may be 0.

        Raises:
            AudioError: If the block has another shape or type.
            RuntimeError: If the signal has already ended.
        """
        if self._finished:
            raise RuntimeError("The signal has ended; call reset() to start another.")
        block = np.asarray(block)
        if (
            block.ndim != 2
            or block.shape[1] != self.channels
            or not np.issubdtype(block.dtype, np.floating)
        ):
            raise AudioError(
                f"`block` must be floating point of shape (samples, {self.channels}). "
                f"Received: {block.dtype} of shape {block.shape}"
            )
        config, parts = self.config, [self._pending, block.T.astype(np.float32, copy=False)]
        if last:
            parts.append(np.zeros((self.channels, config.padding), np.float32))
        signal = np.concatenate(parts, axis=1)
        n_frames = max(0, 1 + (signal.shape[1] - config.n_fft) // config.hop_length)
        spectrogram = transform_frames(signal, config, n_frames)
        # A copy, so that the small remainder does not keep the whole block alive.
        self._pending = signal[:, n_frames * config.hop_length :].copy()
        self._finished = last
        return spectrogram


class StreamingIstft:
    """Synthesises a waveform block by block; a sample is returned once no frame can change it.

    Args:
        config: The setting that the spectrogram was made with.
        channels: Channels of every block.
    """

    def __init__(self, config: StftConfig, channels: int) -> None:
        self.config = config
        self.channels = _positive_int("channels", channels)
        self.reset()

    def reset(self) -> None:
        """Forget everything and start a new signal."""
        reach, hop = overlap_rows(self.config), self.config.hop_length
        self._rows = np.zeros((self.channels, reach, hop), np.float32)
        self._energy = np.zeros((reach, hop))
        self._ready = np.zeros((self.channels, 0), np.float32)
        self._skip = self.config.padding
        self._frames = 0
        self._returned = 0
        self._length: int | None = None
        self._finished = False

    def process(
        self, spec: np.ndarray, last: bool = False, length: int | None = None
    ) -> np.ndarray:
        """Add frames and return the samples that they complete.

        Args:
            spec: complex `(channels, n_bins, new_frames)`; new_frames may be 0.
            last: Whether the signal ends with this block.
            length: Samples of the whole signal, as in `istft`; it may come with any block. None
                ends after `config.samples_for(frames)`.

        Returns:
            float32 `(n, channels)`; n may be 0.

        Raises:
            AudioError: If the block has another shape or type.
            ConfigError: If `length` is less than what was already returned.
            RuntimeError: If the signal has already ended.
        """
        if self._finished:
            raise RuntimeError("The signal has ended; call reset() to start another.")
        spec = np.asarray(spec)
        check_spectrogram(spec.shape, spec.dtype, self.config)
        if spec.ndim != 3 or spec.shape[0] != self.channels:
            raise AudioError(
                f"`spec` must have the shape ({self.channels}, {self.config.n_bins}, frames). "
                f"Received: shape {spec.shape}"
            )
        if length is not None:
            if length < self._returned:
                raise ConfigError(
                    f"`length` must be at least the {self._returned} samples already returned; "
                    f"give it with an earlier block. Received: length={length}"
                )
            self._length = length
        self._add_frames(spec)
        return self._finish() if last else self._take(self._safe_length())

    def _add_frames(self, spec: np.ndarray) -> None:
        """Overlap-add new frames and move the rows that are complete to the ready samples."""
        n_new, hop, reach = spec.shape[2], self.config.hop_length, overlap_rows(self.config)
        rows = np.zeros((self.channels, n_new + reach, hop), np.float32)
        rows[:, :reach] = self._rows
        inverse_frames(spec, rows, self.config)
        energy = np.zeros((n_new + reach, hop))
        energy[:reach] = self._energy
        add_window_energy(energy, n_new, self.config)
        self._queue(rows[:, :n_new], energy[:n_new])
        self._rows, self._energy = rows[:, n_new:].copy(), energy[n_new:].copy()
        self._frames += n_new

    def _queue(self, rows: np.ndarray, energy: np.ndarray) -> None:
        """Normalise finished rows and append them, without the padding before the first sample."""
        samples = divide_by_window(rows.reshape(self.channels, -1), energy.reshape(-1))
        skipped = min(self._skip, samples.shape[1])
        self._skip -= skipped
        self._ready = np.concatenate([self._ready, samples[:, skipped:]], axis=1)

    def _safe_length(self) -> int:
        """Samples that the signal has for sure, however it ends."""
        safe = self.config.samples_for(self._frames)
        return safe if self._length is None else self._length

    def _take(self, end: int) -> np.ndarray:
        """Return ready samples up to sample `end` of the signal."""
        count = max(0, min(self._ready.shape[1], end - self._returned))
        samples, self._ready = self._ready[:, :count], self._ready[:, count:].copy()
        self._returned += count
        return samples.T

    def _finish(self) -> np.ndarray:
        """Return the rest of the signal, cut or zero-padded to its length."""
        self._finished = True
        end = self._safe_length()
        self._queue(self._rows, self._energy)
        samples = self._take(end)
        missing = end - self._returned
        self._returned += missing
        return np.pad(samples, ((0, missing), (0, 0)))
