"""Short-time Fourier transform and its inverse in NumPy, and the setting that both share.

Conventions are librosa's: ``center=True`` pads ``n_fft // 2`` zeros on each side, frame ``i`` is
centred on sample ``i * hop_length``, windows are periodic and centred in the frame, and the
inverse divides by the summed squared window. This module does not import TensorFlow; the same
transforms as graph operations are in :mod:`tfspec.signal.stft_graph`.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.fft

from tfspec.errors import AudioError, ConfigError

# Coefficients of w[n] = sum_k (-1)^k a_k cos(2 pi k n / N): the periodic form, names as in librosa.
_WINDOWS: dict[str, tuple[float, ...]] = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "boxcar": (1.0,),
}
# Samples transformed at once: 1 MB of float32 stays in the cache, so long files do not pay for
# a frame matrix n_fft / hop_length times their size.
_BLOCK_SAMPLES = 1 << 18


@dataclasses.dataclass(frozen=True, kw_only=True)
class StftConfig:
    """Setting of a short-time Fourier transform; the defaults are the paper's front end.

    Args:
        sample_rate: Samples per second, Hz.
        n_fft: DFT length in samples; even, so that a Nyquist bin exists.
        hop_length: Step between frames in samples, at most the window length.
        win_length: Window length in samples, at most `n_fft`; None means `n_fft`. A shorter
            window is centred in the frame, as in librosa.
        window: One of "hann", "hamming", "blackman", "boxcar"; always the periodic form.
        center: Whether `n_fft // 2` zeros are padded on each side before framing.
        drop_nyquist: Whether models see the spectrogram without its last bin.

    Raises:
        ConfigError: If a value is of the wrong type or outside its range.
    """

    sample_rate: int = 11025
    n_fft: int = 1024
    hop_length: int = 256
    win_length: int | None = None
    window: str = "hann"
    center: bool = True
    drop_nyquist: bool = True

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop_length", "win_length"):
            value = getattr(self, name)
            if name != "win_length" or value is not None:
                object.__setattr__(self, name, _positive_int(name, value))
        for name in ("center", "drop_nyquist"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(
                    f"`{name}` must be True or False. Received: {name}={getattr(self, name)!r}"
                )
        if self.n_fft % 2:
            raise ConfigError(f"`n_fft` must be even. Received: n_fft={self.n_fft}")
        if self.window_length > self.n_fft:
            raise ConfigError(
                f"`win_length` must be at most n_fft={self.n_fft}. "
                f"Received: win_length={self.win_length}"
            )
        if self.hop_length > self.window_length:
            raise ConfigError(
                f"`hop_length` must be at most the window length {self.window_length}, or samples "
                f"are skipped. Received: hop_length={self.hop_length}"
            )
        if not isinstance(self.window, str) or self.window not in _WINDOWS:
            raise ConfigError(
                f"`window` must be one of {sorted(_WINDOWS)}. Received: window={self.window!r}"
            )

    @property
    def window_length(self) -> int:
        """Window length in samples with None resolved to `n_fft`."""
        return self.n_fft if self.win_length is None else self.win_length

    @property
    def padding(self) -> int:
        """Zeros padded on each side before framing, in samples."""
        return self.n_fft // 2 if self.center else 0

    @property
    def n_bins(self) -> int:
        """Frequency bins of the transform, DC and Nyquist included."""
        return self.n_fft // 2 + 1

    @property
    def n_model_bins(self) -> int:
        """Frequency bins that a model sees: `n_bins`, less the Nyquist bin if it is dropped."""
        return self.n_bins - int(self.drop_nyquist)

    @property
    def bin_width(self) -> float:
        """Distance between bins, Hz."""
        return self.sample_rate / self.n_fft

    @property
    def frame_period(self) -> float:
        """Time between frames, seconds."""
        return self.hop_length / self.sample_rate

    def frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples.

        Without centring, a waveform shorter than `n_fft` has no frame.
        """
        if n_samples < 0:
            raise ConfigError(f"`n_samples` must not be negative. Received: n_samples={n_samples}")
        return max(0, 1 + (n_samples + 2 * self.padding - self.n_fft) // self.hop_length)

    def samples_for(self, n_frames: int) -> int:
        """Smallest number of samples that has `n_frames` frames; 0 for no frames."""
        if n_frames < 0:
            raise ConfigError(f"`n_frames` must not be negative. Received: n_frames={n_frames}")
        if n_frames == 0:
            return 0
        return self.n_fft - 2 * self.padding + self.hop_length * (n_frames - 1)

    def scaled(self, factor: int) -> StftConfig:
        """The same transform at `factor` times the sample rate: bins and frames line up.

        Bin `k` keeps its frequency and frame `i` its time, so a mask made at 11,025 Hz with
        1024/256 applies to the lowest bins of 44,100 Hz with 4096/1024.
        """
        factor = _positive_int("factor", factor)
        return dataclasses.replace(
            self,
            sample_rate=self.sample_rate * factor,
            n_fft=self.n_fft * factor,
            hop_length=self.hop_length * factor,
            win_length=None if self.win_length is None else self.win_length * factor,
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StftConfig:
        """Inverse of `to_dict`; fields that are missing take their defaults.

        Raises:
            ConfigError: If a key is not a field, or a value is not allowed.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(str(key) for key in values if key not in known)
        if unknown:
            raise ConfigError(f"StftConfig has the fields {known}. Received: unknown {unknown}")
        return cls(**values)


def _positive_int(name: str, value: Any) -> int:
    """`value` as an int >= 1, whatever integer type it has; ConfigError otherwise."""
    try:
        number = 0 if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ConfigError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return number


@functools.lru_cache(maxsize=32)
def analysis_window(config: StftConfig) -> np.ndarray:
    """Window of one frame, centred in zeros when shorter than the frame.

    Returns:
        float64 array `(n_fft,)`, read-only because it is shared between calls.
    """
    length = config.window_length
    phase = 2.0 * np.pi * np.arange(length) / length
    window = np.zeros(length)
    for order, weight in enumerate(_WINDOWS[config.window]):
        window += (-1) ** order * weight * np.cos(order * phase)
    if length == 1:  # the formula has no meaning for one sample; SciPy and librosa use 1
        window[:] = 1.0
    left = (config.n_fft - length) // 2
    frame = np.pad(window, (left, config.n_fft - length - left))
    frame.setflags(write=False)
    return frame


def transform_frames(padded: np.ndarray, config: StftConfig, n_frames: int) -> np.ndarray:
    """Windowed DFT of the first `n_frames` frames of an already padded signal.

    Args:
        padded: float32 `(..., samples)` with at least `n_fft + (n_frames - 1) * hop_length`.
        config: The transform's setting.
        n_frames: Frames to compute.

    Returns:
        complex64 `(..., n_bins, n_frames)`, a transposed view of frames stored one after another.
    """
    out = np.empty((*padded.shape[:-1], n_frames, config.n_bins), np.complex64)
    if n_frames > 0:
        window = analysis_window(config).astype(np.float32)
        view = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft, axis=-1)
        view = view[..., :: config.hop_length, :]
        step = max(1, _BLOCK_SAMPLES // config.n_fft)
        for start in range(0, n_frames, step):
            stop = min(start + step, n_frames)
            frames = view[..., start:stop, :] * window
            out[..., start:stop, :] = scipy.fft.rfft(frames, axis=-1, overwrite_x=True)
    return np.swapaxes(out, -1, -2)


def stft(waveform: np.ndarray, config: StftConfig) -> np.ndarray:
    """Short-time Fourier transform along the last axis.

    Args:
        waveform: Floating-point `(..., samples)`; computed in float32.
        config: The transform's setting.

    Returns:
        complex64 `(..., n_bins, config.frames(samples))`, DC first.

    Raises:
        AudioError: If the waveform is not an array of real floating-point samples.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim < 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise AudioError(
            "`waveform` must be floating point of shape (..., samples). "
            f"Received: {waveform.dtype} of shape {waveform.shape}"
        )
    n_frames = config.frames(waveform.shape[-1])
    waveform = waveform.astype(np.float32, copy=False)
    if config.padding:
        widths = [(0, 0)] * (waveform.ndim - 1) + [(config.padding, config.padding)]
        waveform = np.pad(waveform, widths)
    return transform_frames(waveform, config, n_frames)


def check_spectrogram(shape: tuple[int | None, ...], dtype: np.dtype, config: StftConfig) -> None:
    """Raise AudioError unless a spectrogram is complex `(..., n_bins, frames)`."""
    if len(shape) < 2 or shape[-2] != config.n_bins or not np.issubdtype(dtype, np.complexfloating):
        raise AudioError(
            f"`spectrogram` must be complex of shape (..., {config.n_bins}, frames); restore the "
            f"Nyquist bin first. Received: {np.dtype(dtype).name} of shape {tuple(shape)}"
        )


def overlap_add(frames: np.ndarray, rows: np.ndarray, first: int = 0) -> None:
    """Add overlapping frames in place into a signal that is cut into rows of one hop.

    Args:
        frames: `(..., n_frames, n_fft)`, or anything that broadcasts to it.
        rows: `(..., at least first + n_frames + ceil(n_fft / hop_length) - 1, hop_length)`.
        first: Row at which the first frame starts.
    """
    n_frames, hop = frames.shape[-2], rows.shape[-1]
    for piece, start in enumerate(range(0, frames.shape[-1], hop)):
        part = frames[..., start : start + hop]
        row = first + piece
        rows[..., row : row + n_frames, : part.shape[-1]] += part


def inverse_frames(spectrogram: np.ndarray, rows: np.ndarray, config: StftConfig) -> None:
    """Invert each frame, window it and overlap-add it in place into `rows`.

    Args:
        spectrogram: complex `(..., n_bins, n_frames)`.
        rows: float32 `(..., at least n_frames + overlap_rows(config) , hop_length)`.
        config: The transform's setting.
    """
    window = analysis_window(config).astype(np.float32)
    by_frame = np.swapaxes(spectrogram, -1, -2)
    step = max(1, _BLOCK_SAMPLES // config.n_fft)
    for start in range(0, by_frame.shape[-2], step):
        block = by_frame[..., start : start + step, :].astype(np.complex64, copy=False)
        frames = scipy.fft.irfft(block, n=config.n_fft, axis=-1)
        frames *= window
        overlap_add(frames, rows, start)


def overlap_rows(config: StftConfig) -> int:
    """Rows of one hop that a frame reaches beyond the row in which it starts."""
    return -(-config.n_fft // config.hop_length) - 1


def add_window_energy(rows: np.ndarray, n_frames: int, config: StftConfig) -> None:
    """Add the squared windows of `n_frames` frames in place into float64 `rows`."""
    energy = np.square(analysis_window(config))
    overlap_add(np.broadcast_to(energy, (n_frames, config.n_fft)), rows)


def divide_by_window(samples: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Divide by the summed squared window, leaving samples that no window covers as they are."""
    covered = energy > np.finfo(np.float32).tiny
    return (samples / np.where(covered, energy, 1.0).astype(np.float32)).astype(
        np.float32, copy=False
    )


def istft(spectrogram: np.ndarray, config: StftConfig, *, length: int | None = None) -> np.ndarray:
    """Inverse short-time Fourier transform: least squares for the squared window.

    Args:
        spectrogram: complex `(..., n_bins, frames)`, the Nyquist bin included.
        config: The setting that the spectrogram was made with.
        length: Samples to return; longer signals are cut and shorter ones get zeros at the end.
            None returns `config.samples_for(frames)`.

    Returns:
        float32 `(..., length)`.

    Raises:
        AudioError: If the spectrogram has another type or number of bins.
        ConfigError: If `length` is negative.
    """
    spectrogram = np.asarray(spectrogram)
    check_spectrogram(spectrogram.shape, spectrogram.dtype, config)
    n_frames, hop = spectrogram.shape[-1], config.hop_length
    if length is None:
        length = config.samples_for(n_frames)
    if length < 0:
        raise ConfigError(f"`length` must not be negative. Received: length={length}")
    # Frames that start after the last wanted sample cannot reach it.
    n_frames = min(n_frames, -(-(config.padding + length) // hop))
    lead = spectrogram.shape[:-2]
    if n_frames == 0:
        return np.zeros((*lead, length), np.float32)
    n_rows = n_frames + overlap_rows(config)
    rows = np.zeros((*lead, n_rows, hop), np.float32)
    inverse_frames(spectrogram[..., :n_frames], rows, config)
    energy = np.zeros((n_rows, hop))
    add_window_energy(energy, n_frames, config)
    wanted = slice(config.padding, config.padding + length)
    samples = rows.reshape(*lead, n_rows * hop)[..., wanted]
    samples = divide_by_window(samples, energy.reshape(-1)[wanted])
    missing = length - samples.shape[-1]
    if missing:
        samples = np.pad(samples, [(0, 0)] * len(lead) + [(0, missing)])
    return samples


def drop_nyquist(spec: np.ndarray, axis: int = -2) -> np.ndarray:
    """Spectrogram without its last bin along `axis` (-3 when channels are last); a view."""
    spec = np.asarray(spec)
    index = [slice(None)] * spec.ndim
    index[axis] = slice(0, -1)
    return spec[tuple(index)]


def restore_nyquist(
    spec: np.ndarray, nyquist: np.ndarray | None = None, axis: int = -2
) -> np.ndarray:
    """Inverse of `drop_nyquist`: append the Nyquist bin.

    Args:
        spec: Spectrogram without its Nyquist bin.
        nyquist: The bin to append, of the shape of `spec` with 1 along `axis`; None appends
            zeros, which loses exactly the energy of the Nyquist bin.
        axis: Frequency axis.

    Raises:
        AudioError: If `nyquist` has another shape.
    """
    spec = np.asarray(spec)
    shape = list(spec.shape)
    shape[axis] = 1
    if nyquist is None:
        nyquist = np.zeros(shape, spec.dtype)
    elif np.shape(nyquist) != tuple(shape):
        raise AudioError(
            f"`nyquist` must have the shape {tuple(shape)}. Received: shape {np.shape(nyquist)}"
        )
    return np.concatenate([spec, np.asarray(nyquist, spec.dtype)], axis=axis)
