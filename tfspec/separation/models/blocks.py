"""Layers that separation models share."""

from __future__ import annotations

import keras
from keras import ops


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
