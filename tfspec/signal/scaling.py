"""Scalers of magnitude spectrograms as graph operations (papers' Min/Max and Quantile).

A scaler is fitted on the mixture alone and applied to the mixture and its targets, so that a
model's output can be brought back with what is known when the target is not.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfspec.errors import ConfigError
from tfspec.signal.order_statistics import percentiles

SCALER_KINDS = ("max", "minmax", "robust")
SCALER_AXES = ("frequency", "time", "segment")

# Axes of (..., frequency, time, channels) over which each statistic is taken.
_REDUCED = {"frequency": (-2,), "time": (-3,), "segment": (-3, -2)}


class ScalerState(NamedTuple):
    """Statistics of one mixture (or a batch): `x_scaled = (x - center) / scale`.

    Both have the mixture's shape with 1 along the axes that the statistic was taken over.
    """

    center: tf.Tensor
    scale: tf.Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaler:
    """Scaler of `(..., frequency, time, channels)` tensors; statistics are per channel.

    Args:
        kind: "max" divides by the maximum (the original code's Min/Max; a maximum of 0 leaves
            the values untouched), "minmax" is `(x - min) / (max - min)` (the paper's formula),
            "robust" is `(x - median) / interquartile range` (scikit-learn's RobustScaler).
        axis: "frequency" takes one statistic per bin over the time steps, "time" one per step
            over the bins, "segment" one for the whole spectrogram.
        quantile_range: The two percentiles whose distance is the scale of "robust".

    Raises:
        ConfigError: If a value is not allowed.
    """

    kind: str = "max"
    axis: str = "frequency"
    quantile_range: tuple[float, float] = (25.0, 75.0)

    def __post_init__(self) -> None:
        for name, allowed in (("kind", SCALER_KINDS), ("axis", SCALER_AXES)):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(
                    f"`{name}` must be one of {list(allowed)}. Received: {name}={value!r}"
                )
        object.__setattr__(self, "quantile_range", _checked_range(self.quantile_range))

    def fit(self, mixture: tf.Tensor | np.ndarray) -> ScalerState:
        """Statistics of a mixture.

        Args:
            mixture: Finite float32 or float64 `(..., frequency, time, channels)`.

        Returns:
            `center` and `scale`, broadcastable with `mixture` and of its type. A zero range scales
            by 1: for "max" only 0 is zero; for "minmax" less than 10 machine epsilons of the type,
            and for "robust" less than 10 of float64 (what scikit-learn does for float32 input).

        Raises:
            ConfigError: If the rank is unknown or below 3, or the type is another one.
        """
        mixture = _as_tensor(mixture)
        axes = list(_REDUCED[self.axis])
        if self.kind == "max":
            scale = tf.reduce_max(mixture, axes, keepdims=True)
            # Subnormal numbers count as 0: TensorFlow's kernels flush them, then divide by 0.
            is_zero = tf.abs(scale) < np.finfo(scale.dtype.as_numpy_dtype).tiny
            scale = tf.where(is_zero, tf.ones_like(scale), scale)
            return ScalerState(tf.zeros_like(scale), scale)
        if self.kind == "minmax":
            center = tf.reduce_min(mixture, axes, keepdims=True)
            value_range = tf.reduce_max(mixture, axes, keepdims=True) - center
        else:
            low, high = self.quantile_range
            # `np.percentile` interpolates between float32 values in float64, and scikit-learn
            # applies its zero-range rule there: float32 epsilons would scale quiet bins otherwise.
            lower, center, upper = _percentiles(mixture, self.axis, (low, 50.0, high))
            value_range = upper - lower
        is_zero = value_range < 10 * np.finfo(value_range.dtype.as_numpy_dtype).eps
        scale = tf.where(is_zero, tf.ones_like(value_range), value_range)
        return ScalerState(tf.cast(center, mixture.dtype), tf.cast(scale, mixture.dtype))

    def transform(self, x: tf.Tensor | np.ndarray, state: ScalerState) -> tf.Tensor:
        """Scale a mixture, target or estimate: `(x - center) / scale`, in the state's type."""
        x = tf.cast(x, state.scale.dtype)
        return x / state.scale if self.kind == "max" else (x - state.center) / state.scale

    def inverse(self, x: tf.Tensor | np.ndarray, state: ScalerState) -> tf.Tensor:
        """Undo `transform`: `x * scale + center`, in the state's type."""
        x = tf.cast(x, state.scale.dtype) * state.scale
        return x if self.kind == "max" else x + state.center

    def fit_transform(
        self, mixture: tf.Tensor | np.ndarray, *targets: tf.Tensor | np.ndarray
    ) -> tuple[Any, ...]:
        """Fit on the mixture, scale it and its targets: `(mixture, *targets, state)`."""
        state = self.fit(mixture)
        return (*(self.transform(x, state) for x in (mixture, *targets)), state)


def _checked_range(value: Any) -> tuple[float, float]:
    """`value` as two increasing percentiles; ConfigError otherwise."""
    try:
        low, high = (float(percentile) for percentile in value)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0.0 <= low < high <= 100.0:
        raise ConfigError(
            "`quantile_range` must be two increasing percentiles from 0 to 100. "
            f"Received: quantile_range={value!r}"
        )
    return low, high


def _as_tensor(mixture: tf.Tensor | np.ndarray) -> tf.Tensor:
    """`mixture` as a tensor, its rank and type checked."""
    mixture = tf.convert_to_tensor(mixture)
    rank = mixture.shape.rank
    if rank is None or rank < 3 or mixture.dtype not in (tf.float32, tf.float64):
        raise ConfigError(
            "`mixture` must be float32 or float64 of shape (..., frequency, time, channels). "
            f"Received: {mixture.dtype.name} of shape {mixture.shape}"
        )
    return mixture


def _percentiles(x: tf.Tensor, axis: str, wanted: tuple[float, ...]) -> list[tf.Tensor]:
    """Percentiles in float64, the reduced axes kept as 1."""

    def of_one(example: tf.Tensor) -> list[tf.Tensor]:
        return [
            _restore_axes(value, axis)
            for value in percentiles(_values_first(example, axis), wanted)
        ]

    if x.shape.rank == 4 and not tf.executing_eagerly():
        # One example fits the processor's cache, a batch does not; and it is one shape to compile
        # for, whatever the size of the batch.
        results = tf.map_fn(
            lambda example: tf.stack(of_one(example)), x, fn_output_signature=tf.float64
        )
        return tf.unstack(results, len(wanted), axis=1)
    return of_one(x)


def _restore_axes(statistic: tf.Tensor, axis: str) -> tf.Tensor:
    """Put the reduced axes back, of length 1: `(..., frequency, time, channels)`."""
    for reduced in reversed(_REDUCED[axis]):
        statistic = tf.expand_dims(statistic, reduced)
    return statistic


def _values_first(x: tf.Tensor, axis: str) -> tf.Tensor:
    """Move the values of each statistic to the first axis: `(values, ...)`.

    With one channel, "time" moves no more than an axis of length 1, which TensorFlow does
    without copying.
    """
    rank = x.shape.rank
    lead = list(range(rank - 3))
    frequency, time, channel = rank - 3, rank - 2, rank - 1
    order = {
        "frequency": [time, *lead, frequency, channel],
        "time": [frequency, *lead, time, channel],
        "segment": [frequency, time, *lead, channel],
    }[axis]
    values = tf.transpose(x, order)
    if axis == "segment":
        values = tf.reshape(values, tf.concat([[-1], tf.shape(values)[2:]], 0))
        n_bins, n_frames = x.shape[frequency], x.shape[time]
        size = None if n_bins is None or n_frames is None else n_bins * n_frames
        values = tf.ensure_shape(values, [size, *x.shape[:-3], x.shape[channel]])
    return values
