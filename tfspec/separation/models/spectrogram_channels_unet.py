"""The Spectrogram-Channels U-Net: each output channel is the magnitude of one source.

After J. Oh, D. Kim and S.-Y. Yun, "Spectrogram-channels U-Net: a source separation model viewing
each channel as the spectrogram of each source" (arXiv 1810.11520). Its text gives no layer table;
this is the network on which three independent implementations agree. Depth 2 stands for the
two-layer 2-D network of "Audio Segmentation with U-Net architecture: Ablation study of Depth
Variations in 1-D and 2-D Audio Representations", which names no more than its two layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from tfspec.errors import ConfigError
from tfspec.separation.models.blocks import LeakyGradientReLU, check_source_names

MAX_DEPTH = 4
# Of PyTorch, in which the implementations are written (their 0.1 counts the other way round).
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}


def spectrogram_channels_unet(
    input_shape: tuple[int, int, int] = (1025, 173, 1),
    *,
    targets: Sequence[str] = ("accompaniment", "vocals"),
    depth: int = 4,
    base_filters: int = 32,
    dropout: float = 0.4,
    head_leak: float = 0.0,
    name: str = "spectrogram_channels_unet",
) -> keras.Model:
    """Builds the Spectrogram-Channels U-Net; the defaults are the paper's 2 s at 44.1 kHz.

    Per level: two 3x3 convolutions with batch normalisation and ReLU, then 2x2 max pooling; back
    up by a 5x5 transposed convolution with stride 2, batch normalisation, ReLU and dropout,
    concatenated as [skip, upsampled]. The number of filters doubles with each level. The sources
    are magnitudes, not masks: nothing ties their sum to the mixture.

    Any number of bins and frames will do. Of an odd number of bins the last, the Nyquist
    frequency, is left out and comes back as zeros; bins and frames are filled up with zeros, at
    the top and at the end, to multiples of `2**depth` and cut back to length.

    Args:
        input_shape: `(frequency, time, 1)`.
        targets: names of the sources, in the order of the output's channels.
        depth: number of poolings, 1..4.
        base_filters: filters of the first level.
        dropout: share of values dropped behind each transposed convolution, in [0, 1).
        head_leak: share of the gradient that passes the last ReLU in training where it is zero, in
            [0, 1); see `LeakyGradientReLU`. 0 as published; with squared errors a source can
            otherwise fall silent for good.
        name: name of the model.

    Returns:
        A functional model. Layer `magnitudes` is the head, before bins and frames are fitted.

    Input shape:
        `(batch, frequency, time, 1)`: scaled linear mixture magnitude, >= 0.

    Output shape:
        `(batch, frequency, time, targets)`: scaled magnitude of each source, >= 0.

    Raises:
        ConfigError: an argument outside its range.
    """
    check_source_names(targets)
    _check_arguments(input_shape, depth, base_filters, {"dropout": dropout, "head_leak": head_leak})
    inputs = keras.Input(input_shape, name="mixture_magnitude")
    x, skips = _fill_up(inputs, 2**depth), []
    for level in range(1, depth + 1):
        x = _conv_block(x, base_filters * 2 ** (level - 1), f"encoder_{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder_{level}_pool")(x)
    x = _conv_block(x, base_filters * 2**depth, "bottleneck")
    for level in range(depth, 0, -1):
        block, filters = f"decoder_{level}", base_filters * 2 ** (level - 1)
        x = layers.Conv2DTranspose(filters, 5, strides=2, padding="same", name=f"{block}_up")(x)
        x = layers.BatchNormalization(name=f"{block}_up_bn", **BATCH_NORM)(x)
        x = layers.ReLU(name=f"{block}_up_relu")(x)
        x = layers.Dropout(dropout, name=f"{block}_dropout")(x)
        x = layers.Concatenate(name=f"{block}_concat")([skips[level - 1], x])
        x = _conv_block(x, filters, block)
    if head_leak:
        x = layers.Conv2D(len(targets), 1, name="magnitudes_conv")(x)
        x = LeakyGradientReLU(head_leak, name="magnitudes")(x)
    else:
        x = layers.Conv2D(len(targets), 1, activation="relu", name="magnitudes")(x)
    return keras.Model(inputs, _cut_back(x, input_shape), name=name)


def _fill_up(x, multiple: int):
    """Leaves the Nyquist bin out and adds zero bins and frames up to a multiple."""
    bins, frames = x.shape[1:3]
    if bins % 2:
        x = layers.Cropping2D(((0, 1), (0, 0)), name="drop_nyquist")(x)
    more_bins, more_frames = -(bins - bins % 2) % multiple, -frames % multiple
    if more_bins or more_frames:
        x = layers.ZeroPadding2D(((0, more_bins), (0, more_frames)), name="fill_up")(x)
    return x


def _cut_back(x, input_shape: tuple[int, int, int]):
    """Undoes `_fill_up`; the Nyquist bin becomes zero."""
    bins, frames = input_shape[:2]
    kept = bins - bins % 2
    extra_bins, extra_frames = x.shape[1] - kept, x.shape[2] - frames
    if extra_bins or extra_frames:
        x = layers.Cropping2D(((0, extra_bins), (0, extra_frames)), name="cut_back")(x)
    if kept < bins:
        x = layers.ZeroPadding2D(((0, 1), (0, 0)), name="append_nyquist")(x)
    return x


def _conv_block(x, filters: int, name: str):
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""
    for index in (1, 2):
        # The biases in front of batch normalisation do nothing but count, as published.
        x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv_{index}")(x)
        x = layers.BatchNormalization(name=f"{name}_bn_{index}", **BATCH_NORM)(x)
        x = layers.ReLU(name=f"{name}_relu_{index}")(x)
    return x


def _check_arguments(
    input_shape: tuple[int, int, int], depth: int, base_filters: int, shares: dict[str, float]
) -> None:
    if not 1 <= depth <= MAX_DEPTH:
        raise ConfigError(f"`depth` must be in 1..{MAX_DEPTH}. Received: depth={depth}")
    if base_filters < 1:
        raise ConfigError(f"`base_filters` must be >= 1. Received: base_filters={base_filters}")
    for argument, value in shares.items():
        if not 0 <= value < 1:
            raise ConfigError(f"`{argument}` must be in [0, 1). Received: {argument}={value}")
    if len(input_shape) != 3 or input_shape[0] < 2 or input_shape[1] < 1 or input_shape[2] != 1:
        raise ConfigError(
            "`input_shape` must be (frequency, time, 1) with at least 2 bins and 1 frame. "
            f"Received: input_shape={tuple(input_shape)}"
        )
