"""The last layer of a model that answers with a label map: arg max over the classes, in the graph.

A trained segmentation network becomes a model from samples to class numbers by putting the front
end of `tfspec.signal.layers` before it and this layer behind it:

    waveform = keras.Input((16000,), name="waveform")
    magnitude = MagnitudeLayer()(StftLayer(stft)(waveform))  # (batch, frames, bins)
    image = ops.expand_dims(ops.transpose(magnitude, (0, 2, 1)), -1)  # frequency before time
    labels = LabelMapLayer(name="labels")(network(image))
    export(keras.Model(waveform, labels), ...)
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfspec.errors import ConfigError


@keras.saving.register_keras_serializable(package="tfspec")
class LabelMapLayer(keras.layers.Layer):
    """Number of the likeliest class in every bin.

    The numbers are float32, not integers: every file for apps then has float32 ends, so that its
    runners, test vectors and readers on other platforms treat it like any other. Of equal scores
    the lowest class wins.

    Input shape:
        `(batch, ..., classes)`; probabilities or logits, at least two classes.

    Output shape:
        `(batch, ...)`; whole numbers in 0..classes - 1.

    Attributes:
        classes: number of classes, known once the layer is built.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("dtype", "float32")
        super().__init__(**options)
        self.classes: int | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Refuses inputs that leave nothing to choose from."""
        if len(input_shape) < 2 or input_shape[-1] is None or input_shape[-1] < 2:
            raise ConfigError(
                f"layer {self.name} takes (batch, ..., classes) of two or more classes. "
                f"Received: {tuple(input_shape)}"
            )
        self.classes = int(input_shape[-1])
        self.built = True

    def call(self, scores: Any) -> Any:
        """Class numbers as float32."""
        return ops.cast(_arg_max(scores), "float32")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape without the classes."""
        return tuple(input_shape[:-1])


def _arg_max(scores: Any) -> Any:
    if keras.backend.backend() != "tensorflow":
        return ops.argmax(scores, axis=-1)
    # On TensorFlow Keras tells -0.0 from 0.0 bit by bit, for which TFLite has no built-in operator.
    import tensorflow as tf

    return tf.argmax(scores, axis=-1, output_type=tf.int32)


def label_map_layer(model: keras.Model) -> LabelMapLayer | None:
    """The model's last layer when it is a label map, also inside a nested model; None otherwise."""
    layer: Any = model.outputs[0]._keras_history.operation
    if isinstance(layer, keras.Model):
        return label_map_layer(layer)
    return layer if isinstance(layer, LabelMapLayer) else None
