"""What separation models share: layers, and the check of their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfspec.errors import ConfigError


def check_source_names(targets: Sequence[str], *, least: int = 1) -> None:
    """Raises ConfigError unless `targets` is a list of at least `least` different names."""
    named = not isinstance(targets, str) and all(isinstance(t, str) and t for t in targets)
    if not named or len(targets) < least or len(set(targets)) != len(targets):
        raise ConfigError(
            f"`targets` must list at least {least} different names of sources. "
            f"Received: targets={targets!r}"
        )


@keras.saving.register_keras_serializable(package="tfspec")
class SquareRoot(keras.layers.Layer):
    """Compresses magnitudes, `sqrt(max(x, 0))`, so that int8 keeps quiet bins apart.

    It belongs to the front end on a device: the exported core starts behind it.
    """

    def call(self, inputs):
        """Returns the square root, element by element; same shape."""
        return ops.sqrt(ops.maximum(inputs, 0.0))

    def compute_output_shape(self, input_shape):
        """Same shape as the input."""
        return input_shape


@keras.saving.register_keras_serializable(package="tfspec")
class LeakyGradientReLU(keras.layers.Layer):
    """ReLU, through which training passes a part of the gradient where the output is zero.

    A rectified output that is zero for every input has no gradient and stays so: with squared
    errors this befalls sources that are silent in most bins, such as the bass. Predictions are
    those of ReLU, and so is an exported graph.

    Args:
        slope: share of the gradient that passes where the output is zero, in (0, 1).
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ConfigError: `slope` outside its range.
    """

    def __init__(self, slope: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < slope < 1:
            raise ConfigError(f"`slope` must be in (0, 1). Received: slope={slope}")
        self.slope = slope

    def call(self, inputs, training=None):
        """Returns `max(x, 0)`; same shape."""
        rectified = ops.relu(inputs)
        if not training:
            return rectified
        leak = self.slope * ops.minimum(inputs, 0.0)
        return rectified + leak - ops.stop_gradient(leak)

    def compute_output_shape(self, input_shape):
        """Same shape as the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "slope": self.slope}
