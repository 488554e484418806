"""From a trained network, Keras or TFLite, to label maps: one interface for prediction."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from tfspec.errors import ConfigError, ModelError
from tfspec.segmentation.front_end import FrontEnd

if TYPE_CHECKING:
    import keras

_MAX_BATCH = 4  # images per call of Keras; the paper's network needs some 0.1 GB for each


class Prediction(NamedTuple):
    """What a network says about a batch of images.

    Attributes:
        labels: uint8 `(batch, frequency, time)`, class numbers.
        class_probs: float32 `(batch, frequency, time, classes)`; None of models that give label
            maps only.
    """

    labels: np.ndarray
    class_probs: np.ndarray | None


class SegmentationEstimator(Protocol):
    """Estimates the class of every pixel."""

    front_end: FrontEnd

    def __call__(self, images: np.ndarray) -> Prediction:
        """Classes of scaled images `(batch, frequency, time, channels)`."""


class KerasSegmenter:
    """Label maps from a Keras model.

    Args:
        model: scaled images to logits, which may be smaller than the images by whole factors.
        front_end: what it was trained with.
    """

    def __init__(self, model: keras.Model, front_end: FrontEnd) -> None:
        import tensorflow as tf

        self.front_end = front_end
        self.model = model
        self._network = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def __call__(self, images: np.ndarray) -> Prediction:
        """Classes of scaled images `(batch, frequency, time, channels)`."""
        images = images.astype(np.float32, copy=False)
        batches = [
            self._network(images[i : i + _MAX_BATCH]).numpy()
            for i in range(0, len(images), _MAX_BATCH)
        ]
        return prediction(np.concatenate(batches), images.shape[1:3])


class TfliteSegmenter:
    """Label maps from an exported model; needs LiteRT but not TensorFlow.

    Args:
        path: a `.tflite` file that `tfspec export` wrote.
        num_threads: of the interpreter; all cores when None.

    Raises:
        ModelError: not a tfspec file, damaged, or of another task.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int | None = None) -> None:
        from tfspec.deploy.runner import TfliteModel

        self._model = TfliteModel(path, num_threads=num_threads or os.cpu_count())
        self.front_end = front_end_of(self._model.metadata, path)

    def __call__(self, images: np.ndarray) -> Prediction:
        """Classes of scaled images `(batch, frequency, time, channels)`."""
        output = self._model(images)
        if self._model.metadata.get("kind") == "labels":
            return Prediction(np.rint(output).astype(np.uint8), None)
        return prediction(output, images.shape[1:3])


def prediction(logits: np.ndarray, size: tuple[int, ...]) -> Prediction:
    """Labels and probabilities at the size of the images.

    Args:
        logits: `(batch, height, width, classes)`.
        size: `(frequency, time)` of the images, whole multiples of the logits' size.
    """
    logits = resized(logits, size)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    class_probs = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return Prediction(logits.argmax(axis=-1).astype(np.uint8), class_probs.astype(np.float32))


def resized(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """`(batch, height, width, classes)` enlarged bilinearly between the centres of its pixels.

    What training does with the logits of a network with an output stride, in NumPy.
    """
    if values.shape[1:3] == tuple(size):
        return values
    rows, columns = (_interpolation(n, m) for n, m in zip(values.shape[1:3], size, strict=True))
    enlarged = np.einsum("fh,bhwc->bfwc", rows, values, optimize=True)
    return np.einsum("tw,bfwc->bftc", columns, enlarged, optimize=True)


@functools.lru_cache(maxsize=8)
def _interpolation(n: int, wanted: int) -> np.ndarray:
    """Weights of `n` values in each of `wanted` places between them, float32 `(wanted, n)`."""
    places = np.clip((np.arange(wanted) + 0.5) * n / wanted - 0.5, 0.0, n - 1.0)
    weights = 1.0 - np.abs(places[:, None] - np.arange(n))
    return np.maximum(weights, 0.0).astype(np.float32)


def load_segmenter(
    path: str | os.PathLike[str], *, num_threads: int | None = None
) -> SegmentationEstimator:
    """Opens a model folder (`model.keras` and `tfspec.json`) or a `.tflite` file of tfspec.

    Raises:
        ModelError: neither of these, damaged, or a model of another task.
    """
    path = Path(path)
    if path.suffix == ".tflite":
        return TfliteSegmenter(path, num_threads=num_threads)
    if not path.exists():
        raise ModelError(f"{path}: no such model; give a model folder or a .tflite file")
    if not path.is_dir():
        raise ModelError(f"{path}: is not a model; give a model folder or a .tflite file")
    from tfspec.training.run import load_model_folder

    model, metadata = load_model_folder(path)
    return KerasSegmenter(model, front_end_of(metadata, path))


def segmenter_of(model: keras.Model, front_end: FrontEnd | None = None) -> KerasSegmenter:
    """The estimator of a model in memory.

    Args:
        model: images to logits.
        front_end: what it was trained with; that of the preset recipe with the same shape of
            input when None.

    Raises:
        ConfigError: no preset has such an input.
    """
    return KerasSegmenter(model, front_end or _preset_front_end(model))


def front_end_of(metadata: dict[str, Any], path: str | os.PathLike[str]) -> FrontEnd:
    """The front end in a model's metadata.

    Raises:
        ModelError: the model is of another task or lacks its front end.
    """
    try:
        return FrontEnd.from_dict(metadata["front_end"])
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: its metadata lacks the front end ({error!r}); train or export it again"
        ) from error


def _preset_front_end(model: keras.Model) -> FrontEnd:
    from tfspec.segmentation.recipe import MODEL_PRESETS, SegmentationRecipe

    shape = tuple(model.inputs[0].shape[1:])
    for name in MODEL_PRESETS:
        recipe = SegmentationRecipe.preset(name)
        if recipe.front_end.input_shape == shape:
            return recipe.front_end
    raise ConfigError(
        f"`front_end` must be given: no preset has the model's input shape. Received: {shape}"
    )
