"""LightSegNet, of "Semantic Segmentation of Spectrogram Signals with LightSegNet".

The defaults are the layer sequence of the paper's code. Widths, resolution, squeeze-and-excitation
and the resolution of the output are arguments, for the ablation and for devices; so is a decoder
without concatenation, which computes the same numbers in a third less memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import layers

from tfspec.errors import ConfigError, ModelError

OUTPUT_STRIDES = (1, 2, 4)
# PyTorch's defaults, in Keras' terms: PyTorch's momentum of 0.1 is the weight of the new value.
BATCH_NORM: Mapping[str, Any] = MappingProxyType({"momentum": 0.9, "epsilon": 1e-5})
_MICRO: Mapping[str, Any] = MappingProxyType({"widths": (8, 16, 32), "concatenation": False})

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # The published network.
        "paper": MappingProxyType({"input_shape": (256, 256, 3), "widths": (26, 52, 96)}),
        # Cortex-M7 class microcontrollers: the same logits from four times the input.
        "micro-128": MappingProxyType({"input_shape": (128, 128, 1), **_MICRO, "output_stride": 2}),
        "micro-64": MappingProxyType({"input_shape": (64, 64, 1), **_MICRO}),
        # Cortex-M4 class microcontrollers.
        "nano-64": MappingProxyType({"input_shape": (64, 64, 1), **_MICRO, "output_stride": 2}),
    }
)

_Weights = dict[str, list[np.ndarray]]


def lightsegnet(
    input_shape: tuple[int, int, int] = (256, 256, 3),
    n_classes: int = 3,
    *,
    widths: tuple[int, int, int] = (26, 52, 96),
    squeeze: bool = True,
    concatenation: bool = True,
    dropout: tuple[float, float, float] = (0.2, 0.2, 0.3),
    output_stride: int = 1,
    name: str = "lightsegnet",
) -> keras.Model:
    """Builds LightSegNet; `lightsegnet(**PRESETS["micro-64"])` builds a preset.

    Two encoder blocks with 2x2 max pooling, a bottleneck with squeeze-and-excitation between its
    two convolutions, two decoder blocks behind bilinear upsampling; a block is two times 3x3
    convolution, batch normalisation, ReLU. Convolutions start from an un-truncated Kaiming normal
    with zero biases, as the published code's do.

    Presets, for three classes; the peak is that of the activations in int8, and the interpreter's
    arena is a few per cent larger:

        name       input      logits   parameters  multiply-adds  peak
        paper      256x256x3  256x256  295,419     4,700 M        9,984 KiB
        micro-128  128x128x1  64x64     28,179        77 M          256 KiB
        micro-64   64x64x1    64x64     30,507        29 M          128 KiB
        nano-64    64x64x1    32x32     28,179        19 M           64 KiB

    Args:
        input_shape: `(height, width, channels)`; height and width are multiples of 4.
        n_classes: classes, at least 2.
        widths: filters of the first encoder, the second encoder and the bottleneck; the third is a
            multiple of 4 when `squeeze` is on.
        squeeze: squeeze-and-excitation in the bottleneck.
        concatenation: False replaces `conv(concat(up, skip))` by `conv_up(up) + conv_skip(skip)`:
            the same function with the same number of parameters, whose largest moment holds
            `up + skip + output` instead of `up + skip + concat`. `convert_weights` turns one form
            into the other; `device_form` makes what to export of either.
        dropout: rates of the channel dropout behind the two encoders and the bottleneck, in [0, 1).
        output_stride: 1, 2 or 4: the logits have `1 / output_stride` of the input's height and
            width. 2 leaves out the second decoder block, 4 both. tfspec's losses and metrics bring
            such logits to the size of the labels.
        name: name of the model.

    Returns:
        A functional model with layers of fixed names.

    Input shape:
        `(batch, height, width, channels)`: image, scaled to the order of 1.

    Output shape:
        `(batch, height / output_stride, width / output_stride, n_classes)`: logits.

    Raises:
        ConfigError: an argument outside its range.
    """
    _check_shape(input_shape, n_classes)
    _check_options(widths, squeeze, dropout, output_stride)
    inputs = keras.Input(input_shape, name="image")
    join = _concatenated if concatenation else _split
    x = _body(inputs, widths, squeeze, dropout, output_stride, join)
    logits = _conv(n_classes, 1, x.shape[-1], "logits")(x)
    return keras.Model(inputs, logits, name=name)


def convert_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies LightSegNet's weights, also between the forms with and without concatenation.

    Args:
        source: has the weights.
        target: gets them; its arguments are those of `source` except for `concatenation`,
            `dropout` and the input's height and width.

    Raises:
        ModelError: the two differ in more than that; nothing is copied then.
    """
    weights = _split_weights(_weights_of(source))
    wanted = _weights_of(target)
    _assign(target, weights if _is_split(wanted) else _joined_weights(weights), source.name)


def device_form(model: keras.Model) -> keras.Model:
    """Returns the same function in the form for devices: split, and its norms folded.

    Where `conv_up(up) + conv_skip(skip)` is batch-normalised after the sum, a converter can fold
    the norm into neither convolution: it multiplies in integers once more, and gives one scale to
    the sums of all channels, whose ranges differ. Here both convolutions have the norm's factors
    in their weights. For inference only; outputs differ from the model's by float rounding.

    Args:
        model: that `lightsegnet` made, of either form.

    Raises:
        ModelError: another model.
    """
    weights = _weights_of(model)
    if not {"encoder_1_conv_1", "encoder_2_conv_1", "bottleneck_conv_1", "logits"} <= set(weights):
        raise ModelError(f"{model.name}: must be a LightSegNet. Received: other layers")
    widths = [weights[f"{block}_conv_1"][0].shape[-1] for block in ("encoder_1", "encoder_2")]
    widths.append(weights["bottleneck_conv_1"][0].shape[-1])
    inputs = keras.Input(model.input_shape[1:], name="image")
    stride = model.input_shape[1] // model.output_shape[1]
    x = _body(inputs, widths, "squeeze_1" in weights, (0.0, 0.0, 0.0), stride, _folded)
    logits = _conv(weights["logits"][0].shape[-1], 1, x.shape[-1], "logits")(x)
    device = keras.Model(inputs, logits, name=model.name)
    _assign(device, _folded_weights(_split_weights(weights)), model.name)
    return device


def _body(inputs, widths, squeeze: bool, dropout, output_stride: int, join):
    """Everything in front of the logits; `join` is how a decoder takes its skip connection in."""
    x, skips = inputs, []
    for level, filters in enumerate(widths[:2], start=1):
        x = _conv_block(x, filters, f"encoder_{level}")
        x = layers.SpatialDropout2D(dropout[level - 1], name=f"encoder_{level}_dropout")(x)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder_{level}_pool")(x)
    x = _conv_bn_relu(x, widths[2], "bottleneck", 1)
    if squeeze:
        x = _squeeze(x, widths[2])
    x = _conv_bn_relu(x, widths[2], "bottleneck", 2)
    x = layers.SpatialDropout2D(dropout[2], name="bottleneck_dropout")(x)
    # The paper counts its decoders from the bottleneck up.
    for level in range(1, 4 - output_stride.bit_length()):
        block, skip = f"decoder_{level}", skips[-level]
        up = layers.UpSampling2D(2, interpolation="bilinear", name=f"{block}_up")(x)
        x = _conv_bn_relu(join(up, skip, block), skip.shape[-1], block, 2)
    return x


def _conv(
    filters: int, size: int, channels: int, name: str, *, use_bias: bool = True
) -> layers.Conv2D:
    """A convolution with PyTorch's `kaiming_normal_`, as for `channels` inputs."""
    # Keras' HeNormal is truncated, and knows nothing of the other half of a split convolution.
    normal = keras.initializers.RandomNormal(stddev=math.sqrt(2 / (size * size * channels)))
    return layers.Conv2D(
        filters, size, padding="same", use_bias=use_bias, kernel_initializer=normal, name=name
    )


def _bn_relu(x, name: str, index: int):
    x = layers.BatchNormalization(**BATCH_NORM, name=f"{name}_bn_{index}")(x)
    return layers.ReLU(name=f"{name}_relu_{index}")(x)


def _conv_bn_relu(x, filters: int, name: str, index: int):
    return _bn_relu(_conv(filters, 3, x.shape[-1], f"{name}_conv_{index}")(x), name, index)


def _conv_block(x, filters: int, name: str):
    return _conv_bn_relu(_conv_bn_relu(x, filters, name, 1), filters, name, 2)


def _squeeze(x, filters: int):
    """Scales each channel by a factor in (0, 1) made of all channels' means."""
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze_mean")(x)
    hidden = layers.ReLU(name="squeeze_relu")(_conv(filters // 4, 1, filters, "squeeze_1")(mean))
    logits = _conv(filters, 1, filters // 4, "squeeze_2")(hidden)
    factors = layers.Activation("sigmoid", name="squeeze_sigmoid")(logits)
    return layers.Multiply(name="squeeze_scale")([x, factors])


def _concatenated(up, skip, name: str):
    x = layers.Concatenate(name=f"{name}_concat")([up, skip])
    return _conv_bn_relu(x, skip.shape[-1], name, 1)


def _split(up, skip, name: str):
    return _bn_relu(_sum_of_halves(up, skip, name), name, 1)


def _folded(up, skip, name: str):
    return layers.ReLU(name=f"{name}_relu_1")(_sum_of_halves(up, skip, name))


def _sum_of_halves(up, skip, name: str):
    filters, channels = skip.shape[-1], up.shape[-1] + skip.shape[-1]
    of_up = _conv(filters, 3, channels, f"{name}_conv_1_up")(up)
    of_skip = _conv(filters, 3, channels, f"{name}_conv_1_skip", use_bias=False)(skip)
    return layers.Add(name=f"{name}_add")([of_up, of_skip])


def _weights_of(model: keras.Model) -> _Weights:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def _is_split(weights: _Weights) -> bool:
    return any(name.endswith("_conv_1_up") for name in weights)


def _split_weights(weights: _Weights) -> _Weights:
    """The weights with each decoder's first convolution cut in two; split ones as they are."""
    result = dict(weights)
    for name in ("decoder_1_conv_1", "decoder_2_conv_1"):
        if name in weights:
            kernel, bias = result.pop(name)
            # [upsampled, skip], of which the skip connection is as wide as the output.
            cut = kernel.shape[2] - kernel.shape[3]
            result[f"{name}_up"] = [kernel[:, :, :cut], bias]
            result[f"{name}_skip"] = [kernel[:, :, cut:]]
    return result


def _joined_weights(weights: _Weights) -> _Weights:
    """The inverse of `_split_weights`."""
    result = dict(weights)
    for name in ("decoder_1_conv_1", "decoder_2_conv_1"):
        if f"{name}_up" in weights:
            (up, bias), (skip,) = result.pop(f"{name}_up"), result.pop(f"{name}_skip")
            result[name] = [np.concatenate([up, skip], axis=2), bias]
    return result


def _folded_weights(weights: _Weights) -> _Weights:
    """Split weights with the norm behind the sum multiplied into both convolutions."""
    result = dict(weights)
    for block in ("decoder_1", "decoder_2"):
        if f"{block}_conv_1_up" in weights:
            gamma, beta, mean, variance = result.pop(f"{block}_bn_1")
            scale = gamma / np.sqrt(variance + BATCH_NORM["epsilon"])
            (up, bias), (skip,) = weights[f"{block}_conv_1_up"], weights[f"{block}_conv_1_skip"]
            result[f"{block}_conv_1_up"] = [up * scale, (bias - mean) * scale + beta]
            result[f"{block}_conv_1_skip"] = [skip * scale]
    return result


def _assign(model: keras.Model, weights: _Weights, source: str) -> None:
    wanted = {name: [w.shape for w in values] for name, values in _weights_of(model).items()}
    found = {name: [w.shape for w in values] for name, values in weights.items()}
    if wanted != found:
        names = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
        raise ModelError(
            f"{model.name}: must be a LightSegNet built like {source} except for its form. "
            f"Received: other weights in {', '.join(names)}"
        )
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)


def _check_shape(input_shape: tuple[int, int, int], n_classes: int) -> None:
    if len(input_shape) != 3 or any(n % 4 or n < 4 for n in input_shape[:2]):
        raise ConfigError(
            "`input_shape` must be (height, width, channels) with height and width multiples of 4. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    if n_classes < 2:
        raise ConfigError(f"`n_classes` must be >= 2. Received: n_classes={n_classes}")


def _check_options(
    widths: tuple[int, int, int],
    squeeze: bool,
    dropout: tuple[float, float, float],
    output_stride: int,
) -> None:
    if len(widths) != 3 or any(width < 1 for width in widths) or (squeeze and widths[2] % 4):
        raise ConfigError(
            "`widths` must be three numbers of filters >= 1, with squeeze=True the third a "
            f"multiple of 4. Received: widths={tuple(widths)}"
        )
    if len(dropout) != 3 or not all(0.0 <= rate < 1.0 for rate in dropout):
        raise ConfigError(
            f"`dropout` must be three rates in [0, 1). Received: dropout={tuple(dropout)}"
        )
    if output_stride not in OUTPUT_STRIDES:
        raise ConfigError(
            f"`output_stride` must be one of {OUTPUT_STRIDES}. Received: "
            f"output_stride={output_stride}"
        )
