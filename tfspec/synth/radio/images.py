"""From complex baseband to the images that networks see.

Axes of every image and label map of this package: `(frequency, time)`. Row 0 is the highest
frequency and the last row the lowest, so that frequency ascends upward when the array is shown as a
picture; the receiver's centre frequency (0 Hz) is the boundary between the two middle rows. Column
0 is the earliest time. Row `r` of `H` covers `rate / 2 - (r + 1) * rate / H` to `rate / 2 - r *
rate / H`, column `c` covers `c` to `c + 1` column periods.

The transform is `tfspec.signal.stft` of the real and the imaginary part: Hann windows of at least
1024 samples, four or more bins to a row. A pixel is the mean power density over its area, whatever
the size of the image, so that all samples count; the public set looks at 256 samples per column.
"""

from __future__ import annotations

import dataclasses
import functools

import matplotlib
import numpy as np

from tfspec.errors import ConfigError, DataError
from tfspec.signal.stft import StftConfig, analysis_window, transform_frames

_MIN_FFT = 1024
_BINS_PER_ROW = 4  # at least; keeps the windows' skirts within a row
# Hops of five eighths of a window lose no samples and cost a fifth less than half a window.
_MAX_HOP = 5 / 8
_BLOCK_FRAMES = 240  # frames transformed at once; they stay in the cache
_LEVELS = 65535  # steps of the float image, so that stored and computed images are equal


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How complex samples become an image.

    Args:
        sample_rate: Samples per second, Hz.
        n_samples: Complex samples of one image.
        height: Rows, even.
        width: Columns.
        colour_map: Name of the matplotlib colour map of the RGB form.

    Raises:
        ConfigError: A value is outside its range.
    """

    sample_rate: float
    n_samples: int
    height: int = 256
    width: int = 256
    colour_map: str = "viridis"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sample_rate) and self.sample_rate > 0):
            raise ConfigError(
                f"`sample_rate` must be positive. Received: sample_rate={self.sample_rate!r}"
            )
        for name, least in (("height", 2), ("width", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 4096:
                raise ConfigError(
                    f"`{name}` must be an integer from {least} to 4096. Received: {name}={value!r}"
                )
        if self.height % 2:
            raise ConfigError(
                "`height` must be even, so that 0 Hz lies between two rows. "
                f"Received: height={self.height}"
            )
        if self.n_samples < self.width:
            raise ConfigError(
                f"`n_samples` must be at least the width, {self.width}. "
                f"Received: n_samples={self.n_samples}"
            )
        if self.colour_map not in matplotlib.colormaps:
            raise ConfigError(
                "`colour_map` must be a colour map of matplotlib, such as 'viridis'. "
                f"Received: colour_map={self.colour_map!r}"
            )

    @property
    def frames_per_column(self) -> int:
        """Transforms that are averaged in a pixel."""
        samples = self.n_samples // self.width
        return max(-(-samples // int(_MAX_HOP * self.n_fft)), 1)

    @property
    def n_fft(self) -> int:
        """Length of the transform: a multiple of `height`."""
        return self.height * max(_BINS_PER_ROW, -(-_MIN_FFT // self.height))

    @property
    def hop_length(self) -> int:
        """Samples between transforms."""
        return self.n_samples // self.width // self.frames_per_column

    @property
    def stft(self) -> StftConfig:
        """The transform of the real and of the imaginary part."""
        return StftConfig(
            sample_rate=max(round(self.sample_rate), 1),
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            center=False,
            drop_nyquist=False,
        )

    @property
    def column_period(self) -> float:
        """Time that a column covers, seconds."""
        return self.frames_per_column * self.hop_length / self.sample_rate

    @property
    def row_bandwidth(self) -> float:
        """Bandwidth that a row covers, Hz."""
        return self.sample_rate / self.height

    @property
    def time_edges(self) -> np.ndarray:
        """Where columns begin, and the end of the last one; seconds, `(width + 1,)`."""
        return np.arange(self.width + 1) * self.column_period

    @property
    def frequency_edges(self) -> np.ndarray:
        """Upper edge of each row, and the lower edge of the last; Hz, `(height + 1,)`."""
        return self.sample_rate / 2 - np.arange(self.height + 1) * self.row_bandwidth


def power_spectrogram(iq: np.ndarray, config: ImageConfig) -> np.ndarray:
    """Mean power density of each pixel.

    Args:
        iq: Complex `(samples,)` of at least `config.n_samples`; more are not looked at.
        config: The image.

    Returns:
        float32 `(height, width)`; white noise of variance 1 has mean 1 everywhere.

    Raises:
        DataError: Not complex samples, too few, or not finite.
    """
    iq = np.asarray(iq)
    if iq.ndim != 1 or not np.iscomplexobj(iq) or iq.size < config.n_samples:
        raise DataError(
            f"`iq` must be {config.n_samples} complex samples or more. "
            f"Received: {iq.dtype} of shape {iq.shape}"
        )
    iq = iq[: config.n_samples]
    stft, per_column, width = config.stft, config.frames_per_column, config.width
    # A frame is centred on the middle of its hop: the first one begins before the first sample.
    lead = (stft.n_fft - stft.hop_length) // 2
    step = max(_BLOCK_FRAMES // per_column, 1)
    power = np.empty((width, stft.n_fft), np.float32)
    for column in range(0, width, step):
        stop = min(column + step, width)
        frames = (stop - column) * per_column
        start = column * per_column * stft.hop_length - lead
        parts = _parts(iq, start, stft.samples_for(frames))
        power[column:stop] = (
            _two_sided(parts, stft, frames).reshape(stop - column, per_column, -1).mean(axis=1)
        )
    if not np.isfinite(power).all():
        raise DataError("`iq` must be finite. Received: NaN or infinite samples")
    return _rows(power, config.height)


def _parts(iq: np.ndarray, start: int, length: int) -> np.ndarray:
    """Real and imaginary part of samples, zeros outside; float32 `(2, length)`."""
    out = np.zeros((2, length), np.float32)
    first, last = max(start, 0), min(start + length, iq.size)
    out[0, first - start : last - start] = iq.real[first:last]
    out[1, first - start : last - start] = iq.imag[first:last]
    return out


def _two_sided(parts: np.ndarray, stft: StftConfig, n_frames: int) -> np.ndarray:
    """Power of the complex signal by frequency, ascending from -rate/2; `(frames, n_fft)`.

    The transforms R and Q of the real and imaginary part give R + jQ at positive frequencies, and
    the conjugate of R - jQ at negative ones.
    """
    spectra = np.swapaxes(transform_frames(parts, stft, n_frames), -1, -2)
    real, imaginary = spectra[0], spectra[1]
    gain = np.float32(1.0 / np.sum(np.square(analysis_window(stft))))
    half = stft.n_fft // 2
    out = np.empty((n_frames, stft.n_fft), np.float32)
    both = real.real**2 + real.imag**2 + imaginary.real**2 + imaginary.imag**2
    cross = 2.0 * (real.imag * imaginary.real - real.real * imaginary.imag)
    out[:, half:] = (both + cross)[:, :half]
    out[:, half:0:-1] = (both - cross)[:, :half]
    out[:, 0] = (both - cross)[:, half]
    out *= gain
    return out


def _rows(power: np.ndarray, height: int) -> np.ndarray:
    """Averages bins over rows, half of a bin where it lies on an edge; frequency descending."""
    width, n_fft = power.shape
    bins = n_fft // height
    groups = power.reshape(width, height, bins)
    total = groups.sum(axis=2) - 0.5 * groups[:, :, 0]
    total += 0.5 * np.roll(groups[:, :, 0], -1, axis=1)
    return np.ascontiguousarray((total / bins)[:, ::-1].T.astype(np.float32))


def scale_power(power: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The single-channel form of an image: decibels, stretched from 0 to 1.

    The weakest pixel becomes 0 and the strongest 1, as in the public set, so that no absolute level
    has to be known. Values are multiples of 1/65535.

    Args:
        power: Mean power of each pixel, `(..., height, width)`.

    Returns:
        float32 of the same shape, and the levels in dB that became 0 and 1.
    """
    decibels = 10.0 * np.log10(np.maximum(power, np.finfo(np.float32).tiny))
    low, high = float(decibels.min()), float(decibels.max())
    stretched = (decibels - low) / max(high - low, 1e-6)
    return (np.rint(stretched * _LEVELS) / _LEVELS).astype(np.float32), low, high


def colour_image(spectrogram: np.ndarray, colour_map: str = "viridis") -> np.ndarray:
    """The RGB form of an image, like the PNG files of the public set.

    Args:
        spectrogram: float32 in 0 to 1, of any shape.
        colour_map: Name of a matplotlib colour map; entry `round(255 x)` of 256 is taken.

    Returns:
        uint8 `(..., 3)`.
    """
    table = _colours(colour_map)
    return table[np.rint(np.asarray(spectrogram) * 255.0).astype(np.uint8)]


@functools.lru_cache(maxsize=8)
def _colours(name: str) -> np.ndarray:
    # Rounded: matplotlib's own bytes are cut off, and of 256 greys only 232 are left.
    table = np.rint(255.0 * matplotlib.colormaps[name](np.arange(256))[:, :3]).astype(np.uint8)
    table.setflags(write=False)
    return table
