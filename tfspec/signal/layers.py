"""The transforms of :mod:`tfspec.signal.stft` as Keras layers, for models that take samples.

They are made of reshapes, slices, additions and products with constants only
(:mod:`tfspec.signal.matrix_dft`), so that they convert to built-in TFLite operators of static
shapes.

Spectra are pairs of tensors, real and imaginary part, each `(batch, frames, bins)`: time comes
before frequency, as the matrix products make it.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfspec.errors import ConfigError
from tfspec.signal.matrix_dft import FactoredDft, fit_length, float32, frame, overlap_add, product
from tfspec.signal.stft import StftConfig, add_window_energy, analysis_window, overlap_rows

# Largest magnitude of a full-scale signal in half-precision-safe units. Its square, 16384, leaves a
# factor of 4 to the largest float16; 2**-14, the smallest normal float16, is 126 dB below.
FP16_FULL_SCALE = 128.0


def fp16_scale(config: StftConfig) -> float:
    """Factor that keeps spectra and power spectra within float16.

    A power of two, so that it costs no accuracy: a signal in [-1, 1] gets magnitudes of at most
    128, whatever the window. Half precision then resolves 126 dB of magnitudes below full scale.
    """
    peak = float(np.sum(np.abs(analysis_window(config))))
    return float(2.0 ** np.floor(np.log2(FP16_FULL_SCALE / peak)))


class _StftConfigLayer(keras.layers.Layer):
    """A layer made from an `StftConfig` (or its dictionary), computing in float32."""

    def __init__(self, config: StftConfig | dict[str, Any], **options: Any) -> None:
        options.setdefault("dtype", "float32")
        super().__init__(**options)
        self.config = config if isinstance(config, StftConfig) else StftConfig.from_dict(config)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        return {**super().get_config(), "config": self.config.to_dict()}


@keras.saving.register_keras_serializable(package="tfspec")
class StftLayer(_StftConfigLayer):
    """Short-time Fourier transform, numerically that of `tfspec.signal.stft.stft`.

    Args:
        config: the transform's setting; centred padding, window and lengths as in `stft`.
        scale: factor on the spectrum; `fp16_scale(config)` keeps it within half precision.

    Input shape:
        `(batch, samples)`, samples known.

    Output shape:
        Real and imaginary part, each `(batch, config.frames(samples), config.n_bins)`.
    """

    def __init__(
        self, config: StftConfig | dict[str, Any], *, scale: float = 1.0, **options: Any
    ) -> None:
        super().__init__(config, **options)
        self.scale = float(scale)
        self._dft = FactoredDft(self.config.n_fft)
        self._window = float32(analysis_window(self.config) * self.scale)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Refuses lengths that are unknown or have no frame."""
        _check_samples(input_shape, self.name)
        if self.config.frames(input_shape[1] or 0) == 0:
            raise ConfigError(
                f"layer {self.name} needs at least {self.config.samples_for(1)} samples. "
                f"Received: {input_shape[1]}"
            )
        self.built = True

    def call(self, waveform: Any) -> tuple[Any, Any]:
        """Real and imaginary part of the spectrum."""
        config = self.config
        n_frames = config.frames(waveform.shape[1])
        if config.padding:
            waveform = ops.pad(waveform, [(0, 0), (config.padding, config.padding)])
        frames = frame(waveform, config.n_fft, config.hop_length, n_frames)
        return self._dft.forward(frames * self._window, config.n_bins)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[Any, Any]:
        """Shapes of real and imaginary part."""
        frames = self.config.frames(input_shape[1] or 0)
        shape = (input_shape[0], frames, self.config.n_bins)
        return shape, shape

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        return {**super().get_config(), "scale": self.scale}


def _check_samples(shape: tuple[int | None, ...], name: str) -> None:
    if len(shape) != 2 or shape[1] is None:
        raise ConfigError(
            f"layer {name} takes (batch, samples) of a fixed number of samples. Received: {shape}"
        )


@keras.saving.register_keras_serializable(package="tfspec")
class MagnitudeLayer(keras.layers.Layer):
    """Magnitude or power of a spectrum.

    Half precision holds the squares of spectra that were scaled by `fp16_scale`, and no others:
    a full-scale sine has a magnitude of n_fft / 4 under a Hann window.

    Args:
        power: whether the square of the magnitude is returned.

    Input shape:
        Real and imaginary part of the same shape.

    Output shape:
        That shape.
    """

    def __init__(self, *, power: bool = False, **options: Any) -> None:
        options.setdefault("dtype", "float32")
        super().__init__(**options)
        self.power = power

    def call(self, spectrum: Any) -> Any:
        """Square root of the sum of squares, or the sum itself."""
        real, imaginary = spectrum
        power = real * real + imaginary * imaginary
        return power if self.power else ops.sqrt(power)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of one part."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        return {**super().get_config(), "power": self.power}


@keras.saving.register_keras_serializable(package="tfspec")
class IstftLayer(_StftConfigLayer):
    """Inverse transform by overlap-add, numerically that of `tfspec.signal.stft.istft`.

    Args:
        config: the setting that the spectrum was made with.
        length: samples to return.
        scale: that of `StftLayer`.

    Input shape:
        Real and imaginary part, each `(batch, frames, config.n_bins)`; the Nyquist bin included.

    Output shape:
        `(batch, length)`.
    """

    def __init__(
        self,
        config: StftConfig | dict[str, Any],
        *,
        length: int,
        scale: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(config, **options)
        if length < 1:
            raise ConfigError(f"`length` must be >= 1. Received: length={length}")
        self.length, self.scale = int(length), float(scale)
        self._dft = FactoredDft(self.config.n_fft)
        # The energy of overlapping windows repeats with the hop: its inverse belongs to the window.
        self._energy = _steady_energy(self.config)
        repeated = np.resize(self._energy, self.config.n_fft)
        self._window = float32(analysis_window(self.config) / repeated)

    def build(self, input_shape: Any) -> None:
        """Refuses spectra of another transform."""
        if tuple(input_shape[0][1:]) != tuple(input_shape[1][1:]) or (
            input_shape[0][-1] != self.config.n_bins or input_shape[0][1] is None
        ):
            raise ConfigError(
                f"layer {self.name} takes two tensors (batch, frames, {self.config.n_bins}) of a "
                f"fixed number of frames. Received: {input_shape}"
            )
        self.built = True

    def call(self, spectrum: Any) -> Any:
        """Samples."""
        config = self.config
        frames = self.windowed_frames(spectrum)
        samples = overlap_add(frames, config.hop_length)[:, config.padding :]
        known = min(self.length, samples.shape[1])
        samples = self._correct_edges(samples[:, :known], frames.shape[1])
        return fit_length(samples, self.length)

    def windowed_frames(self, spectrum: Any) -> Any:
        """`(batch, frames, n_fft)`: frames whose overlapping sum is the signal."""
        real, imaginary = spectrum
        return self._dft.inverse(real, imaginary, 1.0 / self.scale) * self._window

    def _correct_edges(self, samples: Any, n_frames: int) -> Any:
        """Multiplies the ends, where fewer windows overlap, by steady over actual energy."""
        config, known = self.config, samples.shape[1]
        rows = np.zeros((n_frames + overlap_rows(config), config.hop_length))
        steady = np.tile(self._energy, len(rows))
        add_window_energy(rows, n_frames, config)
        energy = rows.reshape(-1)
        ratio = steady / np.where(energy > np.finfo(np.float32).tiny, energy, 1.0)
        ratio = ratio[config.padding : config.padding + known]
        wrong = np.flatnonzero(np.abs(ratio - 1.0) > 1e-9)
        if len(wrong) == 0:
            return samples
        right = np.flatnonzero(np.abs(ratio - 1.0) <= 1e-9)
        if len(right) == 0 or np.any((wrong > right[0]) & (wrong < right[-1])):
            return samples * float32(ratio)
        start, stop = int(right[0]), int(right[-1]) + 1
        parts = [samples[:, start:stop]]
        if start:
            parts.insert(0, samples[:, :start] * float32(ratio[:start]))
        if stop < known:
            parts.append(samples[:, stop:] * float32(ratio[stop:]))
        return ops.concatenate(parts, axis=1)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        """`(batch, length)`."""
        return (input_shape[0][0], self.length)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        return {**super().get_config(), "length": self.length, "scale": self.scale}


def _steady_energy(config: StftConfig) -> np.ndarray:
    """Sum of squared windows over one hop, away from the edges; 1 where no window reaches."""
    rows = np.zeros((1 + overlap_rows(config), config.hop_length))
    add_window_energy(rows, 1, config)
    energy = rows.sum(axis=0)
    return np.where(energy > np.finfo(np.float32).tiny, energy, 1.0)


@keras.saving.register_keras_serializable(package="tfspec")
class MelLayer(_StftConfigLayer):
    """Mel bands of a power or magnitude spectrum: a product with librosa's filter bank.

    Args:
        config: the setting that the spectrum was made with.
        n_mels: number of bands.
        fmin: lower edge of the lowest band, Hz.
        fmax: upper edge of the highest band, Hz; half the sample rate when None.
        mel_scale: `slaney` or `htk`.
        mel_norm: `slaney` (bands of equal area) or None (peaks of 1).

    Input shape:
        `(batch, frames, config.n_bins)`.

    Output shape:
        `(batch, frames, n_mels)`.
    """

    def __init__(
        self,
        config: StftConfig | dict[str, Any],
        *,
        n_mels: int = 64,
        fmin: float = 0.0,
        fmax: float | None = None,
        mel_scale: str = "slaney",
        mel_norm: str | None = "slaney",
        **options: Any,
    ) -> None:
        import librosa

        super().__init__(config, **options)
        self.n_mels, self.fmin, self.fmax = n_mels, fmin, fmax
        self.mel_scale, self.mel_norm = mel_scale, mel_norm
        _check_mel(self.config, n_mels, fmin, fmax, mel_scale, mel_norm)
        filters = librosa.filters.mel(
            sr=self.config.sample_rate,
            n_fft=self.config.n_fft,
            n_mels=n_mels,
            fmin=fmin,
            fmax=fmax,
            htk=mel_scale == "htk",
            norm="slaney" if mel_norm == "slaney" else None,
        )
        self._filters = float32(filters.T)

    def call(self, spectrum: Any) -> Any:
        """Weighted sums of bins."""
        return product(spectrum, self._filters)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[Any, ...]:
        """`(batch, frames, n_mels)`."""
        return (*input_shape[:-1], self.n_mels)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        names = ("n_mels", "fmin", "fmax", "mel_scale", "mel_norm")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _check_mel(
    config: StftConfig,
    n_mels: int,
    fmin: float,
    fmax: float | None,
    mel_scale: str,
    mel_norm: str | None,
) -> None:
    nyquist = config.sample_rate / 2
    if not (n_mels >= 1 and 0 <= fmin < (nyquist if fmax is None else fmax) <= nyquist):
        raise ConfigError(
            f"mel bands need n_mels >= 1 and 0 <= fmin < fmax <= {nyquist:g} Hz. "
            f"Received: n_mels={n_mels}, fmin={fmin}, fmax={fmax}"
        )
    if mel_scale not in ("slaney", "htk") or mel_norm not in ("slaney", None):
        raise ConfigError(
            "`mel_scale` must be 'slaney' or 'htk' and `mel_norm` 'slaney' or None. "
            f"Received: mel_scale={mel_scale!r}, mel_norm={mel_norm!r}"
        )


@keras.saving.register_keras_serializable(package="tfspec")
class LogLayer(keras.layers.Layer):
    """Natural logarithm, `log(max(x / scale, floor) + offset)`.

    Args:
        offset: added before the logarithm.
        floor: smallest value let through; 0 lets all pass.
        scale: factor that the input was multiplied by on its way, e.g. the square of
            `fp16_scale(config)` for a power spectrum. It is taken off after the logarithm, where
            half precision can hold the result.

    Input shape:
        Any; values >= 0.

    Output shape:
        Same.
    """

    def __init__(
        self, *, offset: float = 1e-6, floor: float = 0.0, scale: float = 1.0, **options: Any
    ) -> None:
        options.setdefault("dtype", "float32")
        super().__init__(**options)
        if offset < 0 or floor < 0 or offset + floor <= 0 or scale <= 0:
            raise ConfigError(
                "`offset` and `floor` must be >= 0 and not both 0, `scale` > 0. Received: "
                f"offset={offset}, floor={floor}, scale={scale}"
            )
        self.offset, self.floor, self.scale = float(offset), float(floor), float(scale)

    def call(self, x: Any) -> Any:
        """The logarithm, element by element."""
        if self.floor:
            x = ops.maximum(x, self.floor * self.scale)
        if self.offset:
            x = x + self.offset * self.scale
        return ops.log(x) - float(np.log(self.scale))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same shape as the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        own = {"offset": self.offset, "floor": self.floor, "scale": self.scale}
        return {**super().get_config(), **own}
