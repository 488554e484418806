"""Labelled spectrograms from a folder with `input/*.png` and `label/*.png`."""

from __future__ import annotations

import dataclasses
import logging
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from tfspec.datasets.spectrum_sensing_images import (
    IGNORE,
    LabelLayout,
    label_layout,
    picture_size,
    read_image,
    read_label,
)
from tfspec.datasets.splits import SPLITS, split_by_song
from tfspec.errors import DataError

logger = logging.getLogger(__name__)

INPUT, LABEL = "input", "label"

# `() -> (image (frequency, time, channels) uint8, label (frequency, time) uint8)`.
SpectrogramLoader = Callable[[], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class LabelledSpectrogram:
    """One spectrogram with its label map.

    Attributes:
        name: file name without its suffix; unique within its data set.
        split: `"train"`, `"validation"` or `"test"`.
        origin: where it comes from, for messages.
        shape: `(frequency, time)` in pixels.
        loader: reads it; a module-level object, so that it can be sent to processes.
    """

    name: str
    split: str
    origin: str
    shape: tuple[int, int]
    loader: SpectrogramLoader = dataclasses.field(repr=False, compare=False)

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Reads the pair.

        Returns:
            The image, uint8 `(frequency, time, channels)`, and the label map, uint8
            `(frequency, time)` of class numbers and `IGNORE`.

        Raises:
            DataError: a file is damaged, or its label has a colour of no class.
        """
        return self.loader()


class SpectrogramList(list[LabelledSpectrogram]):
    """Labelled spectrograms, and which had to be left out.

    Attributes:
        classes: names of the classes.
        skipped: one line `NAME: reason` for each picture that has no partner or does not fit it.
    """

    def __init__(
        self,
        examples: Iterable[LabelledSpectrogram] = (),
        *,
        classes: Sequence[str],
        skipped: Iterable[str] = (),
    ) -> None:
        super().__init__(examples)
        self.classes = tuple(classes)
        self.skipped = tuple(skipped)

    def only(self, split: str) -> SpectrogramList:
        """Those of one split."""
        chosen = [example for example in self if example.split == split]
        return SpectrogramList(chosen, classes=self.classes, skipped=self.skipped)


@dataclasses.dataclass(frozen=True)
class PngPairLoader:
    """Reads one pair of PNG files."""

    image: str
    label: str
    layout: LabelLayout
    channels: int
    size: tuple[int, int] | None

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """Image and label map."""
        image = read_image(
            self.image,
            channels=self.channels,
            orientation=self.layout.orientation,
            size=self.size,
        )
        return image, read_label(self.label, self.layout, size=self.size)


def folder_spectrograms(
    path: str | Path,
    *,
    layout: str | LabelLayout = "paper",
    channels: int = 3,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> SpectrogramList:
    """Lists the labelled spectrograms of a folder; only file headers are read.

    An image `input/NAME.png` belongs to the label `label/NAME.png`. The original pairs the two
    sorted lists instead, so that one missing file shifts every later pair.

    The original divides 80 / 20 at random and both picks its best epoch and reports its score on
    the 20 %. Here 80 % are for training too, and the rest is halved into validation and test;
    `validation_fraction=0.2, test_fraction=0` is the original's division with a seed. Each file
    falls into its part by a hash of its name and `seed`: neither the order of the folder nor the
    machine matters.

    Args:
        path: the folder.
        layout: how labels name classes: `"paper"`, `"mathworks"` or a `LabelLayout`.
        channels: of the images, 3, or 1 for grey pictures.
        size: `(frequency, time)` to resize all to; None requires that all are equal.
        seed: of the division.
        validation_fraction: share for validation.
        test_fraction: share for test.

    Returns:
        The spectrograms by split and name. Pictures without a partner, pairs of unequal size and
        files that are no PNG are named in a warning and in `.skipped`. Labels are not decoded:
        colours of no class are met by `load`.

    Raises:
        DataError: the folder holds no usable pair, or pairs of different sizes.
        ConfigError: the layout or a fraction is not allowed.
    """
    layout = label_layout(layout)
    root = find_root(Path(path))
    pairs, skipped = _pairs(root)
    examples = []
    for name, image, label in pairs:
        try:
            shape = _common_shape(image, label, layout)
        except DataError as error:
            skipped.append(f"{name}: {error}")
            continue
        loader = PngPairLoader(str(image), str(label), layout, channels, size)
        origin = f"{INPUT}/{image.name}"
        examples.append(LabelledSpectrogram(name, "train", origin, size or shape, loader))
    if not examples:
        first = f"; the first problem: {skipped[0]}" if skipped else ""
        raise DataError(f"{root}: holds no labelled spectrogram{first}")
    _check_shapes(examples)
    if skipped:
        more = "; ... (all in `.skipped`)" if len(skipped) > 3 else ""
        shown = "; ".join(skipped[:3])
        logger.warning("%s: %d pictures left out: %s%s", root, len(skipped), shown, more)
    divided = _divided(examples, seed, validation_fraction, test_fraction)
    return SpectrogramList(divided, classes=layout.classes, skipped=skipped)


def find_root(path: Path) -> Path:
    """The folder that holds `input/`: `path`, or the only folder in it.

    Raises:
        DataError: there is none, or it has no `label/`.
    """
    if not path.is_dir():
        raise DataError(f"{path}: is not a folder; expected {INPUT}/ and {LABEL}/ in a folder")
    folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir()]
    for root in [path, *(folders if len(folders) == 1 else ())]:
        if (root / INPUT).is_dir():
            if (root / LABEL).is_dir():
                return root
            raise DataError(
                f"{root}: has no labels; expected {LABEL}/NAME.png for {INPUT}/NAME.png"
            )
    raise DataError(f"{path}: holds no folder {INPUT}/; expected {INPUT}/*.png and {LABEL}/*.png")


def load_arrays(examples: Sequence[LabelledSpectrogram]) -> tuple[np.ndarray, np.ndarray]:
    """Reads spectrograms into memory: 256 KiB for each colour picture of 256 x 256.

    Returns:
        Images, uint8 `(examples, frequency, time, channels)`, and label maps, uint8
        `(examples, frequency, time)`.

    Raises:
        DataError: as `LabelledSpectrogram.load`; there is no example.
    """
    if not examples:
        raise DataError("no labelled spectrogram to load; give at least one")
    first, _ = examples[0].load()
    images = np.empty((len(examples), *first.shape), np.uint8)
    labels = np.empty(images.shape[:3], np.uint8)
    for index, example in enumerate(examples):
        images[index], labels[index] = example.load()
    return images, labels


def class_counts(
    labels: Iterable[np.ndarray], classes: Sequence[str], *, name: str = "labels"
) -> np.ndarray:
    """Counts the pixels of each class, for class weights, and refuses what cannot be learnt.

    Args:
        labels: label maps of any shape.
        classes: names of the classes.
        name: of the data, for messages.

    Returns:
        int64 `(classes,)`; pixels to ignore are not counted.

    Raises:
        DataError: all pixels are of one class, or none has a class.
    """
    counts = np.zeros(IGNORE + 1, np.int64)
    for label in labels:
        counts += np.bincount(np.asarray(label, np.uint8).ravel(), minlength=IGNORE + 1)
    counts = counts[: len(classes)]
    present = [name for name, count in zip(classes, counts, strict=True) if count]
    if len(present) < 2:
        found = f"every labelled pixel is {present[0]!r}" if present else "no pixel has a class"
        raise DataError(f"{name}: {found}; training needs at least two classes, check the layout")
    return counts


def _pairs(root: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """`(name, image, label)` by name, and a line for each file that has no partner."""
    skipped: list[str] = []
    images = _pictures(root / INPUT, skipped)
    labels = _pictures(root / LABEL, skipped)
    if not images:
        raise DataError(f"{root / INPUT}: holds no .png file")
    if not labels:
        hdf = any(entry.suffix.lower() == ".hdf" for entry in (root / LABEL).iterdir())
        hint = "; convert the .hdf files to PNG first (hdftor8 of the HDF4 tools)" if hdf else ""
        raise DataError(f"{root / LABEL}: has no labels, no .png file{hint}")
    skipped += [f"{name}: has no {LABEL}/{name}.png" for name in sorted(set(images) - set(labels))]
    skipped += [f"{name}: has no {INPUT}/{name}.png" for name in sorted(set(labels) - set(images))]
    both = sorted(set(images) & set(labels))
    return [(name, images[name], labels[name]) for name in both], skipped


def _pictures(folder: Path, skipped: list[str]) -> dict[str, Path]:
    """PNG files by name; file systems differ in how they compose accents, hence NFC."""
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.suffix.lower() != ".png":
            continue
        name = unicodedata.normalize("NFC", entry.stem)
        if name in found:
            skipped.append(f"{name}: {entry} is already there as {found[name]}")
        else:
            found[name] = entry
    return found


def _common_shape(image: Path, label: Path, layout: LabelLayout) -> tuple[int, int]:
    """`(frequency, time)` of a pair."""
    size, other = picture_size(image), picture_size(label)
    if size != other:
        raise DataError(
            f"{label}: is {other[1]} x {other[0]} pixels, its image {size[1]} x {size[0]}; "
            "make them equal"
        )
    return size[::-1] if layout.orientation.startswith("time") else size


def _check_shapes(examples: list[LabelledSpectrogram]) -> None:
    first = examples[0]
    for example in examples:
        if example.shape != first.shape:
            raise DataError(
                f"{example.origin}: is {example.shape[0]} x {example.shape[1]} (frequency x time), "
                f"{first.origin} {first.shape[0]} x {first.shape[1]}; give `size` to resize all"
            )


def _divided(
    examples: list[LabelledSpectrogram], seed: int, validation: float, test: float
) -> list[LabelledSpectrogram]:
    """The spectrograms with their split, ordered by it and by name."""
    # It needs what songs and spectrograms have in common: `name`, `origin` and `split`.
    parts = split_by_song(
        cast(Any, examples), validation_fraction=validation, test_fraction=test, seed=seed
    )
    return cast(
        list[LabelledSpectrogram], [example for split in SPLITS for example in parts[split]]
    )
