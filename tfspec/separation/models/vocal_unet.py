"""The U-Net of "Spectral Mapping of Singing Voices: U-Net-Assisted Vocal Segmentation".

The defaults are the layer sequence of the paper's published code. `output="mask"` adds the
ratio-mask head that the paper's introduction describes but its code does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
from keras import layers

from tfspec.errors import ConfigError
from tfspec.separation.models.blocks import SquareRoot

OUTPUTS = ("magnitude", "mask")

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # 31,054,145 parameters: the published network.
        "paper": MappingProxyType(
            {"base_filters": 64, "depth": 4, "output": "magnitude", "use_bias": True}
        ),
        # 1.9 M parameters: the recommended model for computers, phones and ARM boards. As many as
        # with 16 filters and depth 4, at under a third of the operations and twice the context.
        "small": MappingProxyType(
            {"base_filters": 8, "depth": 5, "output": "mask", "use_bias": False}
        ),
        # 0.12 M parameters: for quick experiments and small devices.
        "tiny": MappingProxyType(
            {"base_filters": 8, "depth": 3, "output": "mask", "use_bias": False}
        ),
        # `tiny` on segments of half a second at 8 kHz: Cortex-M7 class microcontrollers.
        "micro": MappingProxyType(
            {
                "input_shape": (128, 32, 1),
                "base_filters": 8,
                "depth": 3,
                "output": "mask",
                "use_bias": False,
            }
        ),
        # Half as wide, a quarter of the operations: Cortex-M4 class microcontrollers.
        "nano": MappingProxyType(
            {
                "input_shape": (128, 32, 1),
                "base_filters": 4,
                "depth": 3,
                "output": "mask",
                "use_bias": False,
            }
        ),
    }
)


def vocal_unet(
    input_shape: tuple[int, int, int] = (512, 128, 1),
    *,
    base_filters: int = 64,
    depth: int = 4,
    output: str = "magnitude",
    use_bias: bool = True,
    name: str = "vocal_unet",
) -> keras.Model:
    """Builds the vocal U-Net; `vocal_unet(**PRESETS["small"])` builds a preset.

    Per level: two 3x3 convolutions with batch normalisation and ReLU, then 2x2 max pooling; back
    up by 2x2 transposed convolutions with stride 2, concatenated as [upsampled, skip]. The
    number of filters doubles with each level.

    Args:
        input_shape: `(frequency, time, channels)`; frequency and time are multiples of
            `2**depth`.
        base_filters: filters of the first level.
        depth: number of poolings, 1..6.
        output: `"magnitude"` regresses the scaled vocal magnitude directly, as the published
            code does; the output is linear, hence unbounded and at times negative. `"mask"`
            compresses the input by a square root, predicts a ratio mask in [0, 1] (layer
            `mask`) and returns mask x input (layer `estimate`), which separates better and
            survives int8.
        use_bias: biases of the convolutions in front of batch normalisation. They change
            nothing but the parameter count; the published network has them.
        name: name of the model.

    Returns:
        A functional model.

    Input shape:
        `(batch, frequency, time, channels)`: scaled linear mixture magnitude, >= 0.

    Output shape:
        Same: scaled magnitude of the vocals.

    Raises:
        ConfigError: an argument outside its range.
    """
    _check_arguments(input_shape, base_filters, depth, output)
    inputs = keras.Input(input_shape, name="mixture_magnitude")
    x = SquareRoot(name="compress")(inputs) if output == "mask" else inputs
    skips = []
    for level in range(depth):
        x = _conv_block(x, base_filters * 2**level, use_bias, f"encoder_{level + 1}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder_{level + 1}_pool")(x)
    x = _conv_block(x, base_filters * 2**depth, use_bias, "bottleneck")
    for level in reversed(range(depth)):
        block = f"decoder_{level + 1}"
        filters = base_filters * 2**level
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same", name=f"{block}_up")(x)
        x = layers.Concatenate(name=f"{block}_concat")([x, skips[level]])
        x = _conv_block(x, filters, use_bias, block)
    channels = input_shape[-1]
    if output == "magnitude":
        # The source writes Conv1D(1, 1), which Keras 3 rejects on 4-D tensors; same arithmetic.
        return keras.Model(inputs, layers.Conv2D(channels, 1, name="magnitude")(x), name=name)
    mask = layers.Conv2D(channels, 1, activation="sigmoid", name="mask")(x)
    return keras.Model(inputs, layers.Multiply(name="estimate")([mask, inputs]), name=name)


def _conv_block(x, filters: int, use_bias: bool, name: str):
    """Two 3x3 convolutions, each with batch normalisation (Keras defaults) and ReLU."""
    for index in (1, 2):
        x = layers.Conv2D(
            filters, 3, padding="same", use_bias=use_bias, name=f"{name}_conv_{index}"
        )(x)
        x = layers.BatchNormalization(name=f"{name}_bn_{index}")(x)
        x = layers.ReLU(name=f"{name}_relu_{index}")(x)
    return x


def _check_arguments(
    input_shape: tuple[int, int, int], base_filters: int, depth: int, output: str
) -> None:
    if output not in OUTPUTS:
        raise ConfigError(f"`output` must be one of {OUTPUTS}. Received: output={output!r}")
    if base_filters < 1:
        raise ConfigError(f"`base_filters` must be >= 1. Received: base_filters={base_filters}")
    if not 1 <= depth <= 6:
        raise ConfigError(f"`depth` must be in 1..6. Received: depth={depth}")
    multiple = 2**depth
    if len(input_shape) != 3 or any(n % multiple or n < multiple for n in input_shape[:2]):
        raise ConfigError(
            f"`input_shape` must be (frequency, time, channels) with frequency and time "
            f"multiples of 2**depth = {multiple}. Received: input_shape={tuple(input_shape)}"
        )
