"""Labelled spectrograms that graph ops read: synthetic captures, pictures of a folder, TFDS.

Synthetic captures are read from the shards of `tfspec.synth.radio.stored`; pictures are decoded
and checked once and kept as raw bytes in a cache folder. Either way one example is one read at a
known place of a file, so that any order costs the same and decoding never starves training.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfspec.datasets.splits import SPLITS
from tfspec.errors import ConfigError, DataError
from tfspec.segmentation.front_end import FrontEnd
from tfspec.segmentation.recipe import SegmentationRecipe
from tfspec.segmentation.stored import (
    StoredExample,
    default_cache_folder,
    radio_examples,
    radio_folder,
    stored_pictures,
)
from tfspec.synth.radio.classes import CLASS_NAMES
from tfspec.synth.radio.images import colour_image

if TYPE_CHECKING:
    from tfspec.datasets.spectrum_sensing_folder import LabelledSpectrogram

Progress = Callable[[int, int, str], None]
DATA_FORMS = "radio, radio:N, a folder with input/ and label/, tfds:spectrum_sensing/CONFIG"
DEFAULT_RADIO_EXAMPLES = 1000
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_LEVELS = 65535.0  # steps of a stored level
# Fewer missing examples are made before processes for them have started.
_PARALLEL_FROM = 64


class ExampleStore(Sequence[StoredExample]):
    """Labelled spectrograms that graph ops read, brought to the recipe's layout and classes.

    Args:
        examples: where they lie.
        recipe: size, channels and classes of what `read` returns.
        classes: names of the stored class numbers.
        levels: whether images are 16-bit levels of a synthetic capture, highest frequency first,
            rather than 8-bit pixels of `recipe.channels`.

    Attributes:
        front_end: of networks trained on them.

    Raises:
        DataError: a class is none of the recipe's.
    """

    def __init__(
        self,
        examples: Sequence[StoredExample],
        recipe: SegmentationRecipe,
        *,
        classes: Sequence[str],
        levels: bool,
    ) -> None:
        self.examples = list(examples)
        self.recipe = recipe
        self.front_end = recipe.front_end if levels else recipe.picture_front_end
        self._levels = levels
        self._class_table = _class_table(classes, recipe.classes)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> StoredExample:  # type: ignore[override]
        return self.examples[index]

    def indices(self, split: str) -> np.ndarray:
        """Numbers of the examples of a split, or of all with `"all"`; int32.

        Raises:
            ConfigError: there is no such split.
        """
        if split not in (*SPLITS, "all"):
            raise ConfigError(
                f"`split` must be one of {', '.join((*SPLITS, 'all'))}. Received: {split!r}"
            )
        chosen = [i for i, e in enumerate(self.examples) if split in ("all", e.split)]
        return np.array(chosen, np.int32)

    @property
    def snr_db(self) -> np.ndarray:
        """Signal-to-noise ratio of each example's weakest signal, dB, NaN where unknown."""
        return np.array([example.snr_db for example in self.examples])

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads one example, as graph ops.

        Args:
            index: number of the example, int32.

        Returns:
            The image, float32 `(frequency, time, channels)` in [0, 1], not yet scaled, and the
            label map, uint8 `(frequency, time)` of the recipe's classes and the label to ignore.
        """
        return self._image(index), self._label(index)

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """`read` of one example as arrays."""
        image, label = self._compiled_read(tf.constant(index, tf.int32))
        return image.numpy(), label.numpy()

    def labels(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Label maps one by one, as arrays."""
        return (self._compiled_label(tf.constant(i, tf.int32)).numpy() for i in indices)

    @functools.cached_property
    def _compiled_read(self) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        return tf.function(self.read)

    @functools.cached_property
    def _compiled_label(self) -> Callable[[tf.Tensor], tf.Tensor]:
        return tf.function(self._label)

    def _image(self, index: tf.Tensor) -> tf.Tensor:
        recipe = self.recipe
        size = [recipe.height, recipe.width]
        if not self._levels:
            shape = [*size, recipe.channels]
            pixels = tf.io.decode_raw(_record(self._image_places, index, math.prod(shape)), "uint8")
            # Multiplied: a compiled graph would make a division that, and eager code would not.
            return tf.cast(tf.reshape(pixels, shape), tf.float32) * np.float32(1.0 / 255.0)
        stored = _record(self._image_places, index, 2 * math.prod(size))
        # In double precision, as `RadioSet` gives them: the same bits.
        levels = tf.cast(tf.io.decode_raw(stored, tf.uint16), tf.float64) * (1.0 / _LEVELS)
        levels = tf.reverse(tf.reshape(tf.cast(levels, tf.float32), size), [0])
        if recipe.channels == 1:
            return levels[..., tf.newaxis]
        steps = tf.cast(tf.round(levels * 255.0), tf.int32)
        return tf.gather(_colours(recipe.radio.colour_map), steps)

    def _label(self, index: tf.Tensor) -> tf.Tensor:
        size = [self.recipe.height, self.recipe.width]
        stored = _record(self._label_places, index, math.prod(size))
        label = tf.reshape(tf.io.decode_raw(stored, tf.uint8), size)
        label = tf.gather(tf.constant(self._class_table), tf.cast(label, tf.int32))
        return tf.reverse(label, [0]) if self._levels else label

    @functools.cached_property
    def _image_places(self) -> _Places:
        return _Places([example.image for example in self.examples])

    @functools.cached_property
    def _label_places(self) -> _Places:
        return _Places([example.label for example in self.examples])


class _Places:
    """Files and offsets of many records, as tensors; made outside of any graph."""

    def __init__(self, places: Sequence[tuple[str, int]]) -> None:
        sizes = {path: os.path.getsize(path) for path in {path for path, _ in places}}
        with tf.init_scope():
            self.paths = tf.constant([path for path, _ in places])
            self.offsets = tf.constant([offset for _, offset in places], tf.int64)
            self.sizes = tf.constant([sizes[path] for path, _ in places], tf.int64)


def _record(places: _Places, index: tf.Tensor, n_bytes: int) -> tf.Tensor:
    """The bytes of one record, of whose file nothing else is read."""
    offset = places.offsets[index]
    records = tf.data.FixedLengthRecordDataset(
        places.paths[index],
        n_bytes,
        header_bytes=offset,
        footer_bytes=places.sizes[index] - offset - n_bytes,
        buffer_size=n_bytes,
    )
    return records.get_single_element()


@functools.lru_cache(maxsize=8)
def _colours(name: str) -> np.ndarray:
    """Colours in [0, 1] of the 256 steps of a colour map, float32 `(256, 3)`."""
    return colour_image(np.arange(256) / 255.0, name).astype(np.float32) / np.float32(255.0)


def open_examples(
    data: str | Sequence[LabelledSpectrogram],
    recipe: SegmentationRecipe,
    *,
    cache: str | os.PathLike[str] | None = None,
    manual_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> ExampleStore:
    """Finds labelled spectrograms, makes or checks them, and divides them into splits.

    Args:
        data: `"radio"` or `"radio:N"`, synthetic captures, the SNR of each kept with it; a folder
            of the paper's layout; `"tfds:spectrum_sensing/CONFIG"`; or labelled spectrograms.
            Pictures of a folder that have another size than the recipe are resized to it.
        recipe: size, channels, classes, splits and seed.
        cache: folder for what is made or decoded; `default_cache_folder()` when None.
        manual_dir: folder of the pictures for `tfds:NAME`.
        progress: called as `progress(done, total, name)` while examples are made or decoded.

    Raises:
        ConfigError: `data` is none of these forms.
        DataError: the data cannot be used; the message names the file.
    """
    folder = Path(cache) if cache is not None else default_cache_folder()
    if isinstance(data, str) and _is_radio(data):
        return _open_radio(_radio_count(data), recipe, folder, progress)
    found = _open_pictures(data, recipe, manual_dir) if isinstance(data, str) else data
    examples = stored_pictures(found, recipe, folder, progress)
    classes = getattr(found, "classes", recipe.classes)
    return ExampleStore(examples, recipe, classes=classes, levels=False)


def front_end_for(
    data: str | Sequence[LabelledSpectrogram], recipe: SegmentationRecipe
) -> FrontEnd:
    """The front end of networks trained on `data`, before the data are opened."""
    captures = isinstance(data, str) and _is_radio(data)
    return recipe.front_end if captures else recipe.picture_front_end


def data_info(data: str | Sequence[LabelledSpectrogram]) -> dict[str, str]:
    """Name, licence and origin of a data set, for model cards; `data` as for `open_examples`."""
    if not isinstance(data, str):
        return {"name": "spectrograms given in Python", "licence": "as given by the user"}
    if _is_radio(data):
        return {
            "name": f"radio:{_radio_count(data)}",
            "licence": "generated by tfspec; no rights of others",
            "origin": "tfspec.synth.radio",
        }
    if data.startswith("tfds:"):
        from tfspec.datasets.spectrum_sensing import spectrum_sensing_info

        return spectrum_sensing_info(data.removeprefix("tfds:"))
    from tfspec.datasets.folder import folder_info

    _check_folder(data)
    return folder_info(data)


def split_of(index: int, validation_fraction: float, test_fraction: float) -> str:
    """The split of synthetic example `index`: held-out ones are spread evenly over all numbers.

    A set that grows keeps every example where it was, and the test examples do not depend on the
    share of the validation ones, nor the other way round.
    """
    # Multiples of the golden ratio fill the unit interval evenly, however many there are.
    place = (0.5 + index * _GOLDEN) % 1.0
    if place < test_fraction:
        return "test"
    return "validation" if place >= 1.0 - validation_fraction else "train"


def _open_radio(
    n: int, recipe: SegmentationRecipe, cache: Path, progress: Progress | None
) -> ExampleStore:
    from tfspec.synth.radio import prepare_radio

    folder = radio_folder(cache, recipe.radio, recipe.data_seed)
    made = prepare_radio(
        folder,
        n,
        recipe.radio,
        recipe.data_seed,
        workers=1 if n < _PARALLEL_FROM else None,
        progress=progress and (lambda done, total: progress(done, total, "captures")),
    )
    fractions = (recipe.validation_fraction, recipe.test_fraction)
    examples = radio_examples(made, [split_of(index, *fractions) for index in range(n)])
    return ExampleStore(examples, recipe, classes=CLASS_NAMES, levels=True)


def _open_pictures(
    data: str, recipe: SegmentationRecipe, manual_dir: str | Path | None
) -> Sequence[LabelledSpectrogram]:
    if data.startswith("tfds:"):
        from tfspec.datasets.spectrum_sensing import tfds_spectrograms

        return tfds_spectrograms(data.removeprefix("tfds:"), manual_dir=manual_dir)
    from tfspec.datasets.spectrum_sensing_folder import folder_spectrograms

    _check_folder(data)
    return folder_spectrograms(
        data,
        layout=recipe.label_layout,
        channels=recipe.channels,
        size=(recipe.height, recipe.width),
        seed=recipe.data_seed,
        validation_fraction=recipe.validation_fraction,
        test_fraction=recipe.test_fraction,
    )


def _is_radio(data: str) -> bool:
    return data == "radio" or data.startswith("radio:")


def _check_folder(data: str) -> None:
    if not Path(data).is_dir():
        raise ConfigError(f"data {data!r}: no such folder or data set; allowed: {DATA_FORMS}")


def _radio_count(data: str) -> int:
    """The N of `radio:N`."""
    _, colon, number = data.partition(":")
    if not colon:
        return DEFAULT_RADIO_EXAMPLES
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise ConfigError(f"data {data!r}: N of radio:N must be a whole number >= 1")
    return int(number)


def _class_table(stored: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """For each stored class number that of the wanted classes; other numbers stay, uint8."""
    unknown = sorted(set(stored) - set(wanted))
    if unknown:
        raise DataError(
            f"the data have the classes {tuple(stored)}, the recipe {tuple(wanted)}; add {unknown} "
            "to the recipe's `classes`"
        )
    table = np.arange(256, dtype=np.uint8)
    table[: len(stored)] = [wanted.index(name) for name in stored]
    return table
