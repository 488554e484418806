"""DeepLabV3+, the reference of the field, on a backbone from Keras Applications.

"Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation" (Chen et al.,
ECCV 2018). Trained from scratch: spectrograms are no photographs, and nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import keras
from keras import layers

from tfspec.errors import ConfigError
from tfspec.segmentation.models.lightsegnet import BATCH_NORM

# Rates of the three atrous convolutions by output stride, section 4 of the DeepLabV3 paper.
ATROUS_RATES: Mapping[int, tuple[int, int, int]] = MappingProxyType(
    {16: (6, 12, 18), 8: (12, 24, 36)}
)
_NOMINAL = 256  # side of the image on which strides are read off


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Backbone:
    """Where a Keras Application's features are: at stride 4, and before its classifier."""

    build: Callable[..., keras.Model]
    low: str
    high: str


_BACKBONES: Mapping[str, _Backbone] = MappingProxyType(
    {
        # The 1280 filters behind block 16 serve the classifier, and the MobileNetV2 paper leaves
        # them out for segmentation.
        "mobilenet_v2": _Backbone(
            build=keras.applications.MobileNetV2, low="block_2_add", high="block_16_project_BN"
        ),
        "resnet50": _Backbone(
            build=keras.applications.ResNet50, low="conv2_block3_out", high="conv5_block3_out"
        ),
    }
)


def deeplab_v3_plus(
    input_shape: tuple[int, int, int] = (256, 256, 3),
    n_classes: int = 3,
    *,
    backbone: str = "mobilenet_v2",
    output_stride: int = 16,
    atrous_rates: Sequence[int] | None = None,
    filters: int = 256,
    dropout: float = 0.1,
    name: str = "deeplab_v3_plus",
) -> keras.Model:
    """Builds DeepLabV3+ with atrous separable convolutions.

    Strides of the backbone beyond `output_stride` are removed and the convolutions behind them
    dilated, so that they see what they would have seen. Batch normalisation averages as in
    PyTorch (momentum 0.9): with MobileNetV2's 0.999, ten short epochs would end before its
    averages have followed.

    Args:
        input_shape: `(height, width, channels)`; height and width are multiples of
            `output_stride`, at least 32.
        n_classes: classes, at least 2.
        backbone: `"mobilenet_v2"` or `"resnet50"`, weights from scratch.
        output_stride: 16 or 8: input size over size of the encoder's output.
        atrous_rates: dilations of the pyramid's 3x3 convolutions; None: (6, 12, 18), doubled for
            an output stride of 8. Where a rate exceeds the feature map (256 / 16 = 16), only the
            centre of the kernel meets values.
        filters: of pyramid and decoder.
        dropout: behind the pyramid, in [0, 1).
        name: name of the model.

    Returns:
        A functional model; the layers of the backbone keep Keras' names.

    Input shape:
        `(batch, height, width, channels)`: image, scaled to the order of 1.

    Output shape:
        `(batch, height, width, n_classes)`: logits.

    Raises:
        ConfigError: an argument outside its range.
    """
    _check(input_shape, n_classes, backbone, output_stride)
    rates = ATROUS_RATES[output_stride] if atrous_rates is None else tuple(atrous_rates)
    if not rates or min(rates) < 1 or filters < 1 or not 0.0 <= dropout < 1.0:
        raise ConfigError(
            "`atrous_rates` and `filters` must be >= 1, `dropout` in [0, 1). Received: "
            f"atrous_rates={rates}, filters={filters}, dropout={dropout}"
        )
    inputs = keras.Input(input_shape, name="image")
    low, high = _features(inputs, _BACKBONES[backbone], output_stride)
    x = _pyramid(high, rates, filters)
    x = layers.Dropout(dropout, name="pyramid_dropout")(x)
    x = layers.UpSampling2D(output_stride // 4, interpolation="bilinear", name="decoder_up")(x)
    # 48 filters: section 4.1 of the paper, so that the pyramid's outweigh the low-level ones.
    low = _conv(low, 48, "decoder_low")
    x = layers.Concatenate(name="decoder_concat")([x, low])
    for index in (1, 2):
        x = _separable(x, filters, 1, f"decoder_{index}")
    x = layers.Conv2D(n_classes, 1, name="classifier")(x)
    logits = layers.UpSampling2D(4, interpolation="bilinear", name="logits")(x)
    return keras.Model(inputs, logits, name=name)


def _features(inputs, backbone: _Backbone, output_stride: int):
    """Low-level features at stride 4 and high-level ones at `output_stride`."""
    nominal = (_NOMINAL, _NOMINAL, inputs.shape[-1])
    plain = backbone.build(include_top=False, weights=None, input_shape=nominal)
    dilated = keras.models.clone_model(
        plain, input_tensors=inputs, clone_function=lambda layer: _dilated(layer, output_stride)
    )
    return dilated.get_layer(backbone.low).output, dilated.get_layer(backbone.high).output


def _dilated(layer: keras.Layer, output_stride: int) -> keras.Layer:
    """A copy of a backbone's layer, without strides beyond `output_stride`."""
    config = layer.get_config()
    if isinstance(layer, layers.BatchNormalization):
        config["momentum"] = BATCH_NORM["momentum"]
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.ZeroPadding2D)):
        # Padding makes the size odd: 17 of 256 is still stride 16.
        stride = 2 ** round(math.log2(_NOMINAL / layer.input.shape[1]))
        if isinstance(layer, layers.ZeroPadding2D) and stride >= output_stride:
            return layers.Identity(name=layer.name)  # it served a stride that is removed
        if not isinstance(layer, layers.ZeroPadding2D) and stride >= output_stride:
            config.update(strides=(1, 1), padding="same")
            config["dilation_rate"] = stride // output_stride
    return type(layer).from_config(config)


def _pyramid(x, rates: Sequence[int], filters: int):
    """Atrous spatial pyramid pooling: 1x1, atrous 3x3 and the mean of the image, joined."""
    branches = [_conv(x, filters, "pyramid_1x1")]
    branches += [_separable(x, filters, rate, f"pyramid_rate_{rate}") for rate in rates]
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="pyramid_mean")(x)
    mean = _conv(mean, filters, "pyramid_image")
    size = tuple(x.shape[1:3])
    branches.append(
        layers.UpSampling2D(size, interpolation="bilinear", name="pyramid_image_up")(mean)
    )
    return _conv(layers.Concatenate(name="pyramid_concat")(branches), filters, "pyramid_join")


def _conv(x, filters: int, name: str):
    """1x1 convolution, batch normalisation, ReLU."""
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(**BATCH_NORM, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _separable(x, filters: int, rate: int, name: str):
    """Atrous separable convolution, section 3.1: normalisation and ReLU behind both halves."""
    x = layers.DepthwiseConv2D(
        3, padding="same", dilation_rate=rate, use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = layers.BatchNormalization(**BATCH_NORM, name=f"{name}_depthwise_bn")(x)
    x = layers.ReLU(name=f"{name}_depthwise_relu")(x)
    return _conv(x, filters, name)


def _check(
    input_shape: tuple[int, int, int], n_classes: int, backbone: str, output_stride: int
) -> None:
    if backbone not in _BACKBONES:
        raise ConfigError(
            f"`backbone` must be one of {sorted(_BACKBONES)}. Received: backbone={backbone!r}"
        )
    if output_stride not in ATROUS_RATES:
        raise ConfigError(
            f"`output_stride` must be one of {sorted(ATROUS_RATES)}. Received: "
            f"output_stride={output_stride}"
        )
    if len(input_shape) != 3 or any(n % output_stride or n < 32 for n in input_shape[:2]):
        raise ConfigError(
            "`input_shape` must be (height, width, channels) with height and width multiples of "
            f"output_stride = {output_stride}, at least 32. Received: "
            f"input_shape={tuple(input_shape)}"
        )
    if n_classes < 2:
        raise ConfigError(f"`n_classes` must be >= 2. Received: n_classes={n_classes}")
