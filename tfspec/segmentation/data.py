"""Training data of segmentation networks: batches of scaled images and label maps, all graph ops.

Divided before anything else; then, for training only, shuffled and augmented with randomness that
depends on seed, epoch and example alone; then scaled as prediction scales.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfspec.datasets.spectrum_sensing_folder import class_counts
from tfspec.errors import DataError
from tfspec.segmentation.augment import Augmentation
from tfspec.segmentation.recipe import BALANCED, SegmentationRecipe
from tfspec.segmentation.stores import ExampleStore, Progress, open_examples

if TYPE_CHECKING:
    from tfspec.datasets.spectrum_sensing_folder import LabelledSpectrogram


def training_data(
    data: str | Sequence[LabelledSpectrogram] = "radio",
    recipe: SegmentationRecipe | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Training and validation sets for `model.fit`.

    Args:
        data: `"radio"` or `"radio:N"` synthetic captures, a folder with `input/` and `label/`,
            `"tfds:spectrum_sensing/CONFIG"`, or labelled spectrograms.
        recipe: the recipe; the `micro-64` preset's when None.
        cache: folder for what is made or decoded.

    Returns:
        Two data sets of `(images, label maps)` batches: float32
        `(batch, frequency, time, channels)`, scaled, and uint8 `(batch, frequency, time)`. The
        first is in another random order at every pass.

    Raises:
        ConfigError, DataError: the data cannot be found or used.
    """
    prepared = SegmentationData.open(
        data, recipe or SegmentationRecipe.preset("micro-64"), cache=cache
    )
    return prepared.train(), prepared.validation()


class SegmentationData:
    """Training and validation sets of stored examples.

    Args:
        store: the examples with their splits.
        recipe: decides augmentation, scaling and batches.

    Attributes:
        class_counts: pixels of each class in the training labels.

    Raises:
        DataError: there is nothing to train or to validate on, or the training labels are all of
            one class.
    """

    def __init__(self, store: ExampleStore, recipe: SegmentationRecipe) -> None:
        self.store = store
        self.recipe = recipe
        self.train_indices = store.indices("train")
        self.validation_indices = store.indices("validation")
        for name, indices in (
            ("train", self.train_indices),
            ("validate", self.validation_indices),
        ):
            if not len(indices):
                raise DataError(
                    f"{len(store)} labelled spectrogram(s) leave none to {name} on; give more, or "
                    "another validation_fraction"
                )
        self.class_counts = class_counts(
            store.labels(self.train_indices), recipe.classes, name="training labels"
        )
        self._augmentation = (
            Augmentation.paper() if recipe.augmentation == "paper" else Augmentation()
        )

    @classmethod
    def open(
        cls,
        data: str | Sequence[LabelledSpectrogram],
        recipe: SegmentationRecipe,
        *,
        cache: str | os.PathLike[str] | None = None,
        manual_dir: str | Path | None = None,
        progress: Progress | None = None,
    ) -> SegmentationData:
        """Finds the examples, divides them, checks and prepares them; see `open_examples`."""
        store = open_examples(data, recipe, cache=cache, manual_dir=manual_dir, progress=progress)
        return cls(store, recipe)

    @property
    def n_examples(self) -> int:
        """Training examples."""
        return len(self.train_indices)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of a pass over the training set, the last and smaller one included."""
        return -(-self.n_examples // self.recipe.batch_size)

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """The recipe's weights; balanced ones are inverse to the counts, with mean 1."""
        weights = self.recipe.class_weights
        if weights is None or isinstance(weights, tuple):
            return weights
        missing = [n for n, c in zip(self.recipe.classes, self.class_counts, strict=True) if not c]
        if missing:
            raise DataError(
                f"no training label has the class {missing[0]!r}; {BALANCED} weights need every "
                "class, give weights as numbers"
            )
        inverse = 1.0 / self.class_counts
        return tuple((inverse / inverse.mean()).tolist())

    def train_epoch(self, epoch: int) -> tf.data.Dataset:
        """The batches of one epoch, counted from 0: the same at every call."""
        return self._train(tf.constant([self.recipe.seed, epoch], tf.int32))

    def train(self) -> tf.data.Dataset:
        """A data set that is in another random order, seeded, at every pass."""
        seeds = tf.data.Dataset.random(self.recipe.seed, rerandomize_each_iteration=True)
        seeds = seeds.take(1).map(lambda s: tf.stack([tf.cast(s % 2**31, tf.int32), 0]))
        batches = seeds.flat_map(self._train)
        return batches.apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch))

    def validation(self) -> tf.data.Dataset:
        """The held-out examples, in order, not augmented."""
        return self.batches(self.validation_indices)

    def batches(self, indices: np.ndarray) -> tf.data.Dataset:
        """Batches of the examples with these numbers, in order, scaled and not augmented."""
        examples = tf.data.Dataset.from_tensor_slices(indices).map(self._plain, tf.data.AUTOTUNE)
        return examples.batch(self.recipe.batch_size).prefetch(1)

    def describe_batch(self, epoch: int, step: int) -> list[str]:
        """Names and origins of the examples in one training batch, for error messages."""
        order = self._order(tf.constant([self.recipe.seed, epoch], tf.int32)).numpy()
        size = self.recipe.batch_size
        chosen = [self.store[index] for index in order[step * size : (step + 1) * size]]
        return [f"{example.name} ({example.origin})" for example in chosen]

    def calibration_images(self, count: int = 32) -> np.ndarray:
        """Scaled training images for quantisation, spread over all signal-to-noise ratios.

        Returns:
            float32 `(count or fewer, frequency, time, channels)`.
        """
        return self._spread(self.train_indices, count)[0]

    def held_out_images(self, count: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Scaled images and label maps of validation examples, spread in the same way."""
        return self._spread(self.validation_indices, count)

    def _spread(self, indices: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Some examples, evenly spaced in the order of their signal-to-noise ratio."""
        # NaN, no signal or none known, comes last in the order that a stable sort keeps.
        ordered = indices[np.argsort(self.store.snr_db[indices], kind="stable")]
        rows = np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int))
        pairs = [self._plain(tf.constant(index)) for index in ordered[rows]]
        images, labels = zip(*pairs, strict=True)
        return np.stack(images), np.stack(labels)

    def _order(self, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.stateless_shuffle(tf.constant(self.train_indices), seed)

    def _train(self, seed: tf.Tensor) -> tf.data.Dataset:
        examples = tf.data.Dataset.from_tensor_slices(self._order(seed)).map(
            lambda index: self._augmented(index, seed), tf.data.AUTOTUNE
        )
        return examples.batch(self.recipe.batch_size).prefetch(2)

    def _augmented(self, index: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = self.store.read(index)
        if not self._augmentation.is_off:
            own = tf.random.experimental.stateless_fold_in(seed, index)
            image, label = self._augmentation.apply(image, label, own)
        return self.store.front_end.scaled(image), label

    def _plain(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = self.store.read(index)
        return self.store.front_end.scaled(image), label
