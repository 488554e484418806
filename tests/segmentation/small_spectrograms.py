"""Small labelled spectrograms whose every pixel is known, and recipes and networks for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfspec.datasets.spectrum_sensing_folder import LabelledSpectrogram
from tfspec.segmentation.estimators import Prediction
from tfspec.segmentation.front_end import FrontEnd
from tfspec.segmentation.recipe import SegmentationRecipe
from tfspec.synth.radio import RadioConfig

SIZE = 32
# 76,800 samples: a capture is made in milliseconds.
RADIO = RadioConfig(sample_rate=15_360_000, duration=0.005, carriers=(0.2, 0.4, 0.4))
FRONT_END = FrontEnd(
    height=SIZE,
    width=SIZE,
    channels=1,
    scaling="unit",
    orientation="frequency_up",
    sample_rate=RADIO.sample_rate,
    duration=RADIO.duration,
    colour_map="viridis",
)


def recipe(**changes) -> SegmentationRecipe:
    """Small enough for a test: 32 x 32 levels, widths 4, 8, 16, two epochs."""
    small = {
        "height": SIZE,
        "width": SIZE,
        "output_stride": None,
        "widths": (4, 8, 16),
        "batch_size": 8,
        "epochs": 2,
        "radio": RADIO,
        "validation_fraction": 0.25,
    }
    return SegmentationRecipe.preset("micro-64", **{**small, **changes})


@dataclasses.dataclass(frozen=True)
class BlockLoader:
    """Loads a grey image with a bright box of class 1 and a dim box of class 2, in noise."""

    seed: int
    classes: tuple[int, ...] = (1, 2)

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """Image and label map."""
        rng = np.random.default_rng(self.seed)
        image = rng.normal(40.0, 8.0, (SIZE, SIZE))
        label = np.zeros((SIZE, SIZE), np.uint8)
        for number in self.classes:
            low, left = rng.integers(0, SIZE - 12, 2)
            place = (slice(low, low + 10), slice(left, left + 12))
            image[place] = rng.normal({1: 210.0, 2: 125.0}[number], 8.0, (10, 12))
            label[place] = number
        return np.clip(image, 0, 255).astype(np.uint8)[..., None], label


def blocks(train: int = 24, validation: int = 8, test: int = 0, **options):
    """A little data set with a fixed split."""
    splits = ["train"] * train + ["validation"] * validation + ["test"] * test
    return [
        LabelledSpectrogram(
            name=f"blocks-{seed}",
            split=split,
            origin=f"block seed {seed}",
            shape=(SIZE, SIZE),
            loader=BlockLoader(seed, **options),
        )
        for seed, split in enumerate(splits)
    ]


class FunctionSegmenter:
    """An estimator that computes class probabilities from images; keeps what it was given."""

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        front_end: FrontEnd = FRONT_END,
        *,
        labels_only: bool = False,
    ) -> None:
        self.front_end = front_end
        self.calls: list[np.ndarray] = []
        self._function = function
        self._labels_only = labels_only

    def __call__(self, images: np.ndarray) -> Prediction:
        """Classes of a batch."""
        self.calls.append(images)
        class_probs = self._function(images).astype(np.float32)
        labels = class_probs.argmax(axis=-1).astype(np.uint8)
        return Prediction(labels, None if self._labels_only else class_probs)


def bright_is_class_1(threshold: float = 0.9) -> FunctionSegmenter:
    """Levels above the threshold are class 1, for sure, where most of an image is dark.

    In an image of noise alone the strongest pixel is bright too, but so are most others.
    """

    def classes(images: np.ndarray) -> np.ndarray:
        levels = images[..., 0]
        dark = np.median(levels, axis=(1, 2), keepdims=True) < 0.3
        return np.eye(3)[((levels > threshold) & dark).astype(int)]

    return FunctionSegmenter(classes)
