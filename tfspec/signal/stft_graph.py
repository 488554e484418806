"""The transforms of :mod:`tfspec.signal.stft` as TensorFlow operations, usable in `tf.data`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfspec.errors import AudioError
from tfspec.signal.stft import StftConfig, analysis_window, check_spectrogram

_TINY = 1.1754943508222875e-38  # smallest normal float32: below it no window covers the sample


def stft_graph(waveform: tf.Tensor, config: StftConfig) -> tf.Tensor:
    """Short-time Fourier transform along the last axis.

    Args:
        waveform: Floating-point `(..., samples)` of known rank; computed in float32.
        config: The transform's setting.

    Returns:
        complex64 `(..., n_bins, config.frames(samples))`, DC first.

    Raises:
        AudioError: If the waveform is not a tensor of real floating-point samples.
    """
    waveform = tf.convert_to_tensor(waveform)
    rank = waveform.shape.rank
    if rank is None or rank < 1 or not waveform.dtype.is_floating:
        raise AudioError(
            "`waveform` must be floating point of shape (..., samples). "
            f"Received: {waveform.dtype.name} of shape {waveform.shape}"
        )
    waveform = tf.cast(waveform, tf.float32)
    if config.padding:
        waveform = tf.pad(waveform, [[0, 0]] * (rank - 1) + [[config.padding] * 2])
    frames = tf.signal.frame(waveform, config.n_fft, config.hop_length)
    window = tf.constant(analysis_window(config), tf.float32)
    return tf.linalg.matrix_transpose(tf.signal.rfft(frames * window, [config.n_fft]))


def istft_graph(
    spectrogram: tf.Tensor, config: StftConfig, *, length: int | tf.Tensor | None = None
) -> tf.Tensor:
    """Inverse short-time Fourier transform: least squares for the squared window.

    Args:
        spectrogram: complex `(..., n_bins, frames)` of known rank, the Nyquist bin included.
        config: The setting that the spectrogram was made with.
        length: Samples to return, an int or a scalar integer tensor; longer signals are cut and
            shorter ones get zeros at the end. None returns `config.samples_for(frames)`.

    Returns:
        float32 `(..., length)`.

    Raises:
        AudioError: If the spectrogram has another type or number of bins.
    """
    spectrogram = tf.convert_to_tensor(spectrogram)
    shape = tuple(spectrogram.shape) if spectrogram.shape.rank is not None else ()
    check_spectrogram(shape, spectrogram.dtype.as_numpy_dtype, config)
    by_frame = tf.linalg.matrix_transpose(tf.cast(spectrogram, tf.complex64))
    n_frames = tf.shape(by_frame)[-2]
    window = analysis_window(config)
    frames = tf.signal.irfft(by_frame, [config.n_fft]) * tf.constant(window, tf.float32)
    samples = tf.signal.overlap_and_add(frames, config.hop_length)
    # In float64 so that the sum of many squares adds no error of its own.
    squares = tf.tile(tf.constant(window**2, tf.float64)[None], [n_frames, 1])
    energy = tf.cast(tf.signal.overlap_and_add(squares, config.hop_length), tf.float32)
    samples /= tf.where(energy > _TINY, energy, tf.ones_like(energy))
    if length is None:
        length = tf.maximum(
            0, config.n_fft - 2 * config.padding + config.hop_length * (n_frames - 1)
        )
    return _fix_length(samples[..., config.padding :], length)


def _fix_length(samples: tf.Tensor, length: int | tf.Tensor) -> tf.Tensor:
    """Cut or zero-pad the last axis to `length`, keeping the static shape when it is known."""
    rank = samples.shape.rank
    samples = samples[..., :length]
    missing = length - tf.shape(samples)[-1]
    samples = tf.pad(samples, [[0, 0]] * (rank - 1) + [[0, missing]])
    if isinstance(length, int):
        samples = tf.ensure_shape(samples, [*samples.shape[:-1], length])
    return samples


def drop_nyquist_graph(spec: tf.Tensor, axis: int = -2) -> tf.Tensor:
    """Spectrogram without its last bin along `axis` (-3 when channels are last)."""
    spec = tf.convert_to_tensor(spec)
    index: list[Any] = [slice(None)] * spec.shape.rank
    index[axis] = slice(0, -1)
    return spec[tuple(index)]


def restore_nyquist_graph(
    spec: tf.Tensor, nyquist: tf.Tensor | None = None, axis: int = -2
) -> tf.Tensor:
    """Inverse of `drop_nyquist_graph`: append the Nyquist bin.

    Args:
        spec: Spectrogram without its Nyquist bin.
        nyquist: The bin to append, of the shape of `spec` with 1 along `axis`; None appends
            zeros, which loses exactly the energy of the Nyquist bin.
        axis: Frequency axis.

    Raises:
        AudioError: If `nyquist` has another static shape.
    """
    spec = tf.convert_to_tensor(spec)
    expected = spec.shape.as_list()
    expected[axis] = 1
    if nyquist is None:
        index: list[Any] = [slice(None)] * spec.shape.rank
        index[axis] = slice(0, 1)
        nyquist = tf.zeros_like(spec[tuple(index)])
    nyquist = tf.cast(nyquist, spec.dtype)
    if not nyquist.shape.is_compatible_with(expected):
        raise AudioError(
            f"`nyquist` must have the shape {tuple(expected)}. Received: shape {nyquist.shape}"
        )
    return tf.concat([spec, nyquist], axis=axis)
