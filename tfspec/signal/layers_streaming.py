"""Keras layers that cut long signals into segments and join what a network makes of them.

The cutting, the padding of the end with silence and the weights of the cross-fades are those of
:class:`tfspec.separation.predict.Separator`. The streaming layers do the same for endless signals:
what must be remembered between calls is an explicit input and output.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfspec.errors import ConfigError
from tfspec.signal.layers import IstftLayer
from tfspec.signal.matrix_dft import frame, overlap_add
from tfspec.signal.stft import StftConfig, overlap_rows

# Levels below this share a scale: the smallest normal float16, so that silence is never divided by
# zero in half precision. In the units of `fp16_scale` it is 126 dB below full scale.
LEVEL_FLOOR = 2.0**-14
LEVEL_KINDS = ("max", "minmax")

_LEVEL_AXES = {"frequency": (2,), "time": (1,), "segment": (1, 2)}


def segment_count(n_frames: int, segment_frames: int, overlap_frames: int) -> int:
    """Segments that cover `n_frames` frames, the last one padded with silence."""
    hop = segment_frames - overlap_frames
    return max(1, -(-max(n_frames - overlap_frames, 0) // hop))


class _SegmentsLayer(keras.layers.Layer):
    """A layer about segments of `segment_frames` frames, neighbours sharing `overlap_frames`."""

    def __init__(self, *, segment_frames: int, overlap_frames: int, **options: Any) -> None:
        options.setdefault("dtype", "float32")
        super().__init__(**options)
        if not 0 <= overlap_frames <= segment_frames // 2:
            raise ConfigError(
                f"`overlap_frames` must be in 0..{segment_frames // 2} (half a segment). "
                f"Received: overlap_frames={overlap_frames}"
            )
        self.segment_frames, self.overlap_frames = segment_frames, overlap_frames
        self.step_frames = segment_frames - overlap_frames
        ramp = np.arange(1, overlap_frames + 1) / (overlap_frames + 1)
        self.fade_in = ramp.astype(np.float32)[:, None]

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        own = {"segment_frames": self.segment_frames, "overlap_frames": self.overlap_frames}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="tfspec")
class SegmentLayer(_SegmentsLayer):
    """Cuts a spectrogram into overlapping segments in a network's layout.

    Args:
        segment_frames: frames of a segment.
        overlap_frames: frames that neighbours share, up to half a segment.

    Input shape:
        `(batch, frames, bins)`.

    Output shape:
        `(batch * segments, bins, segment_frames, 1)`; the end is padded with zeros.
    """

    def call(self, spectrogram: Any) -> Any:
        """The segments, those of one example after each other."""
        n_frames, n_bins = spectrogram.shape[1:]
        count = segment_count(n_frames, self.segment_frames, self.overlap_frames)
        flat = ops.reshape(spectrogram, (-1, n_frames * n_bins))
        flat = frame(flat, self.segment_frames * n_bins, self.step_frames * n_bins, count)
        segments = ops.reshape(flat, (-1, self.segment_frames, n_bins))
        segments = ops.transpose(segments, (0, 2, 1))
        return ops.reshape(segments, (-1, n_bins, self.segment_frames, 1))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[Any, ...]:
        """Shape of the segments."""
        batch, n_frames, n_bins = input_shape
        count = segment_count(n_frames or 0, self.segment_frames, self.overlap_frames)
        return (None if batch is None else batch * count, n_bins, self.segment_frames, 1)


@keras.saving.register_keras_serializable(package="tfspec")
class CrossFadeLayer(_SegmentsLayer):
    """Joins the masks of overlapping segments with weights that sum to 1.

    Args:
        n_frames: frames of the whole.
        segment_frames: frames of a segment.
        overlap_frames: frames that neighbours share; the weight moves linearly over them.

    Input shape:
        `(batch * segments, bins, segment_frames, 1)`.

    Output shape:
        `(batch, n_frames, bins)`.
    """

    def __init__(self, *, n_frames: int, **options: Any) -> None:
        super().__init__(**options)
        self.n_frames = n_frames
        self._count = segment_count(n_frames, self.segment_frames, self.overlap_frames)

    def call(self, masks: Any) -> Any:
        """The mask of the whole signal."""
        n_bins, size = masks.shape[1], self.segment_frames
        x = ops.transpose(ops.reshape(masks, (-1, n_bins, size)), (0, 2, 1))
        x = ops.reshape(x, (-1, self._count, size, n_bins))
        if self.overlap_frames and self._count > 1:
            x = x * self._weights()
        x = ops.reshape(x, (-1, self._count, size * n_bins))
        x = overlap_add(x, self.step_frames * n_bins)
        x = ops.reshape(x, (-1, x.shape[-1] // n_bins, n_bins))
        return x[:, : self.n_frames]

    def _weights(self) -> np.ndarray:
        weights = np.ones((self._count, self.segment_frames, 1), np.float32)
        weights[1:, : self.overlap_frames] = self.fade_in
        weights[:-1, self.step_frames :] = 1.0 - self.fade_in
        return weights

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[Any, ...]:
        """`(batch, n_frames, bins)`."""
        batch = input_shape[0]
        return (None if batch is None else batch // self._count, self.n_frames, input_shape[1])

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        return {**super().get_config(), "n_frames": self.n_frames}


@keras.saving.register_keras_serializable(package="tfspec")
class StreamingCrossFadeLayer(_SegmentsLayer):
    """`CrossFadeLayer` one segment at a time.

    Input shape:
        One segment's mask `(batch, bins, segment_frames, 1)` and the state
        `(batch, overlap_frames, bins)`, zeros at the start.

    Output shape:
        Final masks `(batch, segment_frames - overlap_frames, bins)` and the next state.
    """

    def call(self, inputs: Any) -> tuple[Any, Any]:
        """The frames that no later segment reaches, and the faded rest."""
        masks, state = inputs
        n_bins = masks.shape[1]
        x = ops.transpose(ops.reshape(masks, (-1, n_bins, self.segment_frames)), (0, 2, 1))
        overlap = self.overlap_frames
        start = x[:, :overlap] * self.fade_in + state
        rest = x[:, self.step_frames :] * (1.0 - self.fade_in)
        if overlap == self.step_frames:
            return start, rest
        return ops.concatenate([start, x[:, overlap : self.step_frames]], axis=1), rest

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, Any]:
        """Shapes of masks and state."""
        batch, n_bins = input_shape[0][:2]
        return (batch, self.step_frames, n_bins), (batch, self.overlap_frames, n_bins)


@keras.saving.register_keras_serializable(package="tfspec")
class LevelLayer(keras.layers.Layer):
    """Scales segments by their own level, as `tfspec.signal.scaling.Scaler` does.

    Args:
        kind: `max` divides by the maximum, `minmax` is `(x - min) / (max - min)`. A range below
            `LEVEL_FLOOR` counts as that.
        axis: `frequency` takes one statistic per bin, `time` one per frame, `segment` one in all.

    Input shape:
        `(batch, bins, frames, channels)`, values >= 0.

    Output shape:
        Same.
    """

    def __init__(self, *, kind: str = "max", axis: str = "segment", **options: Any) -> None:
        options.setdefault("dtype", "float32")
        super().__init__(**options)
        if kind not in LEVEL_KINDS:
            raise ConfigError(
                f"`kind` must be one of {list(LEVEL_KINDS)}: quantiles need a sort, which has no "
                f"form that every device runs. Received: kind={kind!r}"
            )
        if axis not in _LEVEL_AXES:
            raise ConfigError(
                f"`axis` must be one of {sorted(_LEVEL_AXES)}. Received: axis={axis!r}"
            )
        self.kind, self.axis = kind, axis

    def call(self, segments: Any) -> Any:
        """Values in [0, 1]."""
        axes = _LEVEL_AXES[self.axis]
        level = ops.max(segments, axis=axes, keepdims=True)
        if self.kind == "minmax":
            lowest = ops.min(segments, axis=axes, keepdims=True)
            segments, level = segments - lowest, level - lowest
        return segments / ops.maximum(level, LEVEL_FLOOR)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same shape as the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        return {**super().get_config(), "kind": self.kind, "axis": self.axis}


@keras.saving.register_keras_serializable(package="tfspec")
class ExtendMaskLayer(keras.layers.Layer):
    """Continues a mask over bins above a model's band with the mean of its top bins.

    Args:
        n_bins: bins of the result.
        top: bins averaged.

    Input shape:
        `(batch, frames, fewer bins)`.

    Output shape:
        `(batch, frames, n_bins)`.
    """

    def __init__(self, *, n_bins: int, top: int, **options: Any) -> None:
        options.setdefault("dtype", "float32")
        super().__init__(**options)
        self.n_bins, self.top = n_bins, top

    def call(self, x: Any) -> Any:  # Keras would fill an argument named `mask` by itself
        """The mask with one mean repeated above it."""
        missing = self.n_bins - x.shape[-1]
        mean = ops.mean(x[..., -self.top :], axis=-1, keepdims=True)
        return ops.concatenate([x, *[mean] * missing], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[Any, ...]:
        """`(batch, frames, n_bins)`."""
        return (*input_shape[:-1], self.n_bins)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        return {**super().get_config(), "n_bins": self.n_bins, "top": self.top}


@keras.saving.register_keras_serializable(package="tfspec")
class StreamingIstftLayer(IstftLayer):
    """`IstftLayer` some frames at a time, away from the edges of the signal.

    Args:
        config: the setting that the spectrum was made with.
        scale: that of `StftLayer`.

    Input shape:
        Real and imaginary part, each `(batch, frames, config.n_bins)`, and the state
        `(batch, state_samples(config))`, zeros at the start.

    Output shape:
        `(batch, frames * config.hop_length)` samples, those that begin where the first frame does,
        and the next state.
    """

    def __init__(self, config: StftConfig | dict[str, Any], **options: Any) -> None:
        options.pop("length", None)  # decided by the input; `IstftLayer` saves it
        super().__init__(config, length=1, **options)

    @staticmethod
    def state_samples(config: StftConfig) -> int:
        """Samples that later frames add to."""
        return overlap_rows(config) * config.hop_length

    def call(self, inputs: Any) -> tuple[Any, Any]:
        """Finished samples and the sums that are not finished."""
        real, imaginary, state = inputs
        frames = self.windowed_frames((real, imaginary))
        samples = overlap_add(frames, self.config.hop_length)
        finished, size = real.shape[1] * self.config.hop_length, state.shape[1]
        samples = samples + ops.pad(state, [(0, 0), (0, finished)])
        return samples[:, :finished], samples[:, finished : finished + size]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shapes of samples and state."""
        batch, frames = input_shape[0][:2]
        return (batch, frames * self.config.hop_length), tuple(input_shape[2])
