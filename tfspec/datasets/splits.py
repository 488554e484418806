"""The division of songs into training, validation and test."""

from __future__ import annotations

import dataclasses
import hashlib
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tfspec.errors import ConfigError

if TYPE_CHECKING:
    from tfspec.datasets.tracks import Track

SPLITS = ("train", "validation", "test")


def check_split(split: str) -> None:
    """Raises ConfigError unless `split` is one of `SPLITS`."""
    if split not in SPLITS:
        raise ConfigError(f"`split` must be one of {', '.join(SPLITS)}, received split={split!r}")


def split_by_song(
    tracks: Iterable[Track],
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> dict[str, list[Track]]:
    """Divides songs into train, validation and test, before any augmentation.

    Songs are ordered by a hash of their name and `seed`, so neither the order of `tracks` nor
    the machine matters. Tracks of the same name are one song and stay together. A part whose
    fraction is above zero gets at least one song where there are enough of them: one song is
    all training, of two the second is for validation.

    Args:
        tracks: songs of any split; the result's tracks carry their new split.
        validation_fraction: share of the songs, 0 <= fraction < 1.
        test_fraction: share of the songs; the two together stay below 1.
        seed: another seed gives another division.

    Returns:
        `{"train": [...], "validation": [...], "test": [...]}`, each ordered by name.

    Raises:
        ConfigError: the fractions are negative or leave nothing for training.
    """
    if min(validation_fraction, test_fraction) < 0 or validation_fraction + test_fraction >= 1:
        raise ConfigError(
            "split fractions must be >= 0 and sum to less than 1, received "
            f"validation_fraction={validation_fraction}, test_fraction={test_fraction}"
        )
    tracks = list(tracks)
    songs = sorted({track.name for track in tracks}, key=lambda name: _name_hash(name, seed))
    counts = split_counts(len(songs), validation_fraction, test_fraction)
    names = [name for name in SPLITS[1:] for _ in range(counts[name])]
    split_of = dict(zip(songs, names, strict=False))  # the remaining songs are for training
    parts: dict[str, list[Track]] = {split: [] for split in SPLITS}
    for track in sorted(tracks, key=lambda track: (track.name, track.origin)):
        split = split_of.get(track.name, "train")
        parts[split].append(dataclasses.replace(track, split=split))
    return parts


def split_counts(n: int, validation_fraction: float, test_fraction: float) -> dict[str, int]:
    """How many of `n` songs go to each split; training never ends up empty."""
    validation = max(1, round(n * validation_fraction)) if validation_fraction > 0 else 0
    test = max(1, round(n * test_fraction)) if test_fraction > 0 else 0
    validation = min(validation, max(n - 1, 0))
    test = min(test, max(n - 1 - validation, 0))
    return {"train": n - validation - test, "validation": validation, "test": test}


def _name_hash(name: str, seed: int) -> str:
    """Hash of a song's name; file systems differ in how they compose accents, hence NFC."""
    text = f"{seed}:{unicodedata.normalize('NFC', name)}"
    return hashlib.sha256(text.encode()).hexdigest()
