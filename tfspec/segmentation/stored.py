"""Where the bytes of labelled spectrograms lie: shards of synthetic captures, decoded pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfspec.errors import DataError
from tfspec.segmentation.recipe import SegmentationRecipe
from tfspec.signal.files import atomic_path, read_json

if TYPE_CHECKING:
    from tfspec.datasets.spectrum_sensing_folder import LabelledSpectrogram
    from tfspec.synth.radio.config import RadioConfig
    from tfspec.synth.radio.stored import RadioSet


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredExample:
    """Where one labelled spectrogram lies.

    Attributes:
        name: unique within its data.
        split: `train`, `validation` or `test`.
        origin: file, or seed and number of a synthetic capture; for messages.
        snr_db: signal-to-noise ratio of its weakest signal; NaN when there is none, or where it
            is not known.
        image: file with the image, and where its first byte is.
        label: the same of its label map.
    """

    name: str
    split: str
    origin: str
    snr_db: float
    image: tuple[str, int]
    label: tuple[str, int]


def default_cache_folder() -> Path:
    """`$TFSPEC_CACHE`, else `tfspec` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("TFSPEC_CACHE") or Path(base) / "tfspec")


def radio_folder(cache: Path, config: RadioConfig, seed: int) -> Path:
    """Folder of the synthetic captures of a configuration and seed."""
    from tfspec.synth.radio.stored import VERSION

    text = json.dumps([VERSION, seed, config.to_dict()], sort_keys=True)
    mark = hashlib.sha256(text.encode()).hexdigest()[:12]
    return cache / f"radio-{config.image_height}x{config.image_width}-{mark}"


def radio_examples(captures: RadioSet, splits: Sequence[str]) -> list[StoredExample]:
    """Places of the first captures of a set, one for each entry of `splits`."""
    from tfspec.synth.radio.stored import SHARD

    height, width = captures.config.image_height, captures.config.image_width
    examples: list[StoredExample] = []
    for shard in range(-(-len(splits) // SHARD)):
        levels, labels = (
            captures.folder / f"{kind}-{shard:05d}.npy" for kind in ("levels", "labels")
        )
        begins = [np.load(path, mmap_mode="r").offset for path in (levels, labels)]
        facts = read_json(captures.folder / f"shard-{shard:05d}.json")
        first = shard * SHARD
        for place, split in enumerate(splits[first : first + SHARD]):
            pixels = place * height * width
            ratios = [carrier["snr_db"] for carrier in facts[place]["carriers"]]
            examples.append(
                StoredExample(
                    name=f"radio-{captures.seed}-{first + place:06d}",
                    split=split,
                    origin=f"tfspec.synth.radio seed {captures.seed}, capture {first + place}",
                    snr_db=min(ratios, default=math.nan),
                    image=(str(levels), begins[0] + 2 * pixels),  # 16 bits
                    label=(str(labels), begins[1] + pixels),
                )
            )
    return examples


def stored_pictures(
    pictures: Sequence[LabelledSpectrogram],
    recipe: SegmentationRecipe,
    cache: Path,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[StoredExample]:
    """Decodes and checks labelled pictures, each into a file of raw bytes, image before labels.

    What is there already is kept: the file's name changes with the picture.

    Raises:
        DataError: a picture cannot be decoded, its label has a colour of no class, or it is not
            of the recipe's size.
    """
    if not pictures:
        raise DataError("no labelled spectrogram; give at least one")
    folder = cache / "spectrograms"
    done = 0

    def store(picture: LabelledSpectrogram) -> StoredExample:
        nonlocal done
        path = folder / f"{_safe(picture.name)}-{_fingerprint(picture)}.u8"
        size = recipe.height * recipe.width
        if not path.is_file() or path.stat().st_size != size * (recipe.channels + 1):
            _write(path, picture, recipe)
        done += 1
        if progress is not None:
            progress(done, len(pictures), picture.name)
        return StoredExample(
            name=picture.name,
            split=picture.split,
            origin=picture.origin,
            snr_db=math.nan,
            image=(str(path), 0),
            label=(str(path), size * recipe.channels),
        )

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(store, pictures))


def _write(path: Path, picture: LabelledSpectrogram, recipe: SegmentationRecipe) -> None:
    image, label = picture.load()
    wanted = (recipe.height, recipe.width, recipe.channels)
    if image.shape != wanted or label.shape != wanted[:2]:
        raise DataError(
            f"{picture.origin}: its image is {image.shape} and its label {label.shape} (frequency, "
            f"time, channels), the recipe {wanted}; set the recipe's height, width and channels"
        )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(np.ascontiguousarray(image, np.uint8).tobytes())
        file.write(np.ascontiguousarray(label, np.uint8).tobytes())


def _fingerprint(picture: LabelledSpectrogram) -> str:
    """Changes when the files of a picture, or what is made of them, change."""
    loader = picture.loader
    what: list[Any] = [picture.name, picture.origin, picture.shape, repr(loader)]
    if not dataclasses.is_dataclass(loader):  # its text says nothing about what it loads
        what = [array.tobytes() for array in picture.load()]
    for value in getattr(loader, "__dict__", {}).values():
        if isinstance(value, str) and os.path.exists(value):
            status = os.stat(value)
            what.append((value, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:80]
