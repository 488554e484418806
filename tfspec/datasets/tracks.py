"""Songs with their separate sources: one `Track` type for every data set.

A track knows its name, split, rate and length without decoding anything; its samples are read
each time `Track.load` is called, so a list of tracks costs no memory and travels between
processes. `open_tracks` turns what a user writes (`synth:50`, a folder, `tfds:musdb18/hq`) into
such a list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from tfspec.datasets.splits import SPLITS, check_split, split_by_song, split_counts
from tfspec.errors import ConfigError, DataError

SOURCES = ("vocals", "drums", "bass", "other")
DEFAULT_SYNTH_TRACKS = 50
SPEC_FORMS = "synth, synth:N, a folder of songs, tfds:musdb18/stems, .../hq or .../preview"

__all__ = [
    "SOURCES",
    "SPLITS",
    "StemLoader",
    "SynthLoader",
    "Track",
    "TrackList",
    "dataset_info",
    "open_tracks",
    "song_seed",
    "split_by_song",
    "synth_tracks",
]

# Reads the named stems: `(names) -> {name: (samples, channels) float32}`.
StemLoader = Callable[[tuple[str, ...]], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Track:
    """One song of a data set.

    Attributes:
        name: the song's name, unique within its data set and stable between machines.
        split: `"train"`, `"validation"` or `"test"`.
        sample_rate: Hz, of the stored audio.
        n_samples: length at `sample_rate`, samples.
        origin: where it comes from, for messages and model cards (a path or a generator's seed).
        loader: reads stems; a module-level object, so that tracks can be sent to processes.
        stems: names that `loader` can read. What is not there is derived by `load`.
    """

    name: str
    split: str
    sample_rate: int
    n_samples: int
    origin: str
    loader: StemLoader = dataclasses.field(repr=False, compare=False)
    stems: tuple[str, ...] = ("mixture", *SOURCES)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate

    def load(
        self,
        sources: Sequence[str] = ("mixture", "vocals"),
        *,
        sample_rate: int | None = None,
        channels: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Reads sources of the song.

        `"mixture"` is the sum of the stems when the data set has none. `"accompaniment"` is
        mixture minus vocals, also where a file of that name exists, so that the two always add
        up to the mixture; such a file is used when there is no mixture or no vocals.

        Args:
            sources: names to read, `"mixture"`, `"accompaniment"` or one of `stems`.
            sample_rate: Hz to resample to; None keeps the track's own.
            channels: 1 averages the channels, more duplicates a mono song; None keeps them.

        Returns:
            One `(samples, channels)` float32 array for each name, all of the same length.

        Raises:
            DataError: the track has no such source, or its files cannot be read.
        """
        plan = {source: self._signed_stems(source) for source in sources}
        needed = tuple(name for name in self.stems if any(name in part for part in plan.values()))
        stems = self.loader(needed)
        result = {}
        for source, parts in plan.items():
            waveform = _signed_sum(stems, parts)
            waveform = _with_channels(waveform, channels, track=self.name)
            result[source] = _at_rate(waveform, self.sample_rate, sample_rate)
        return result

    def _signed_stems(self, source: str) -> dict[str, int]:
        """The stems, each with its sign, whose sum is `source`."""
        parts = [name for name in self.stems if name not in ("mixture", "accompaniment")]
        if source == "accompaniment" and {"mixture", "vocals"} <= set(self.stems):
            return {"mixture": 1, "vocals": -1}
        if source in self.stems:
            return {source: 1}
        if source == "accompaniment" and "vocals" in parts and len(parts) > 1:
            return {name: 1 for name in parts if name != "vocals"}
        if source == "mixture" and "accompaniment" in self.stems and "vocals" in parts:
            return {"vocals": 1, "accompaniment": 1}
        if source == "mixture" and "accompaniment" not in self.stems and len(parts) > 1:
            return dict.fromkeys(parts, 1)
        raise DataError(
            f"track {self.name!r} ({self.origin}): has no source {source!r}; "
            f"it has {', '.join(self.stems)}"
        )


class TrackList(list[Track]):
    """A list of tracks that remembers which songs had to be left out, and why.

    Attributes:
        skipped: one line `NAME: reason` for each song that is missing or damaged.
    """

    def __init__(self, tracks: Iterable[Track] = (), *, skipped: Iterable[str] = ()) -> None:
        super().__init__(tracks)
        self.skipped: tuple[str, ...] = tuple(skipped)


@dataclasses.dataclass(frozen=True)
class SynthLoader:
    """Generates the stems of one synthetic song; the same seed gives the same samples."""

    seed: int
    duration: float
    sample_rate: int
    channels: int

    def __call__(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Returns the named stems, each `(samples, channels)` float32."""
        from tfspec.synth.songs import synthesize_song

        song = synthesize_song(
            self.seed,
            duration=self.duration,
            sample_rate=self.sample_rate,
            channels=self.channels,
        )
        return {name: song.mixture if name == "mixture" else song.stems[name] for name in names}


def song_seed(seed: int, split: str, index: int) -> int:
    """The generator seed of one synthetic song.

    Bits 0..31 hold the song's index, 32..33 its split, the rest the data set's seed: two songs
    that differ in any of them can never share a generator seed.
    """
    return (seed << 34) | (SPLITS.index(split) << 32) | index


def synth_tracks(
    n: int,
    *,
    seed: int = 0,
    split: str = "train",
    duration: float = 30.0,
    sample_rate: int = 44100,
    channels: int = 2,
) -> TrackList:
    """Synthetic songs, generated when they are loaded.

    The first tracks of a longer list are those of a shorter one. Tracks of different splits
    (or different `seed`) never come from the same generator seed.

    Args:
        n: number of songs, 1 to 2**32.
        seed: of the data set, >= 0.
        split: `"train"`, `"validation"` or `"test"`.
        duration: of each song, seconds.
        sample_rate: Hz.
        channels: 1 or 2.

    Raises:
        ConfigError: a value outside these ranges.
    """
    check_split(split)
    if not 1 <= n <= 2**32:
        raise ConfigError(f"synth: the number of songs must be 1 to 2**32, received n={n}")
    if seed < 0:
        raise ConfigError(f"synth: `seed` must be >= 0, received seed={seed}")
    if not duration > 0:
        raise ConfigError(f"synth: `duration` must be > 0 s, received duration={duration}")
    tracks = []
    for index in range(n):
        own = song_seed(seed, split, index)
        tracks.append(
            Track(
                name=f"synth-{seed}-{split}-{index:05d}",
                split=split,
                sample_rate=sample_rate,
                n_samples=round(duration * sample_rate),
                origin=f"tfspec.synth.songs seed {own}",
                loader=SynthLoader(own, duration, sample_rate, channels),
            )
        )
    return TrackList(tracks)


def open_tracks(
    spec: str | Path,
    *,
    split: str | None = None,
    seed: int = 0,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    synth_duration: float = 30.0,
    synth_sample_rate: int = 44100,
    synth_channels: int = 2,
) -> TrackList:
    """Opens a data set of songs without decoding it.

    Args:
        spec: `"synth"` (50 songs) or `"synth:N"`, generated; a folder, see
            `tfspec.datasets.folder.folder_tracks` (a `Path`, or `./synth`, for a folder of that
            name); or `"tfds:musdb18/CONFIG"` with the configurations `stems`, `hq` and `preview`.
        split: `"train"`, `"validation"` or `"test"`; None gives all tracks.
        seed: of the synthetic songs, and of the division of a folder that states none.
        manual_dir: where MUSDB18 was unpacked; None is TensorFlow Datasets' own manual folder.
        data_dir: where TensorFlow Datasets keeps what it prepared; None is its default.
        validation_fraction: share of validation songs where the data set does not fix them.
        test_fraction: share of test songs where the data set does not fix them.
        synth_duration: length of a generated song, seconds.
        synth_sample_rate: of the generated songs, Hz.
        synth_channels: of the generated songs, 1 or 2.

    Raises:
        ConfigError: `spec` or `split` is none of the allowed forms.
        DataError: nothing usable is there, or nothing in the wanted split.
    """
    if split is not None:
        check_split(split)
    fractions = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    text = _spec_text(spec)
    if text == "synth" or text.startswith("synth:"):
        tracks = _open_synth(
            _synth_count(text),
            seed=seed,
            duration=synth_duration,
            sample_rate=synth_sample_rate,
            channels=synth_channels,
            **fractions,
        )
    elif text.startswith("tfds:"):
        from tfspec.datasets.musdb18 import tfds_tracks

        name = text.removeprefix("tfds:")
        tracks = tfds_tracks(name, manual_dir=manual_dir, data_dir=data_dir)
    elif Path(text).is_dir():
        from tfspec.datasets.folder import folder_tracks

        tracks = folder_tracks(text, seed=seed, **fractions)
    else:
        raise ConfigError(f"data {text!r}: no such folder or data set; allowed: {SPEC_FORMS}")
    return _only_split(tracks, split, text)


def dataset_info(spec: str | Path) -> dict[str, str]:
    """Name, licence and origin of a data set, for model cards.

    Args:
        spec: as for `open_tracks`.

    Returns:
        `{"name": ..., "licence": ..., "origin": ...}`.

    Raises:
        ConfigError: `spec` is none of the allowed forms.
    """
    text = _spec_text(spec)
    if text == "synth" or text.startswith("synth:"):
        return {
            "name": f"synth:{_synth_count(text)}",
            "licence": "generated by tfspec; no rights of others",
            "origin": "tfspec.synth.songs",
        }
    if text.startswith("tfds:"):
        from tfspec.datasets.musdb18 import musdb18_info

        return musdb18_info(text.removeprefix("tfds:"))
    if Path(text).is_dir():
        from tfspec.datasets.folder import folder_info

        return folder_info(text)
    raise ConfigError(f"data {text!r}: no such folder or data set; allowed: {SPEC_FORMS}")


def _spec_text(spec: str | Path) -> str:
    """The specification as text; a `Path` is always a folder, `Path("synth")` too."""
    return str(spec.absolute()) if isinstance(spec, Path) else spec


def _open_synth(
    n: int,
    *,
    seed: int,
    validation_fraction: float,
    test_fraction: float,
    duration: float,
    sample_rate: int,
    channels: int,
) -> TrackList:
    """`n` synthetic songs over the three splits."""
    tracks = TrackList()
    for split, count in split_counts(n, validation_fraction, test_fraction).items():
        if count:
            tracks += synth_tracks(
                count,
                seed=seed,
                split=split,
                duration=duration,
                sample_rate=sample_rate,
                channels=channels,
            )
    return tracks


def _synth_count(spec: str) -> int:
    """The N of `synth:N`."""
    _, colon, number = spec.partition(":")
    if not colon:
        return DEFAULT_SYNTH_TRACKS
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise ConfigError(f"data {spec!r}: N of synth:N must be a whole number >= 1")
    return int(number)


def _only_split(tracks: TrackList, split: str | None, spec: str) -> TrackList:
    if split is None:
        return tracks
    chosen = [track for track in tracks if track.split == split]
    if not chosen:
        there = {name: sum(track.split == name for track in tracks) for name in SPLITS}
        counts = ", ".join(f"{count} {name}" for name, count in there.items())
        raise DataError(f"data {spec!r}: no {split} songs; it has {counts}")
    return TrackList(chosen, skipped=tracks.skipped)


def _signed_sum(stems: dict[str, np.ndarray], parts: dict[str, int]) -> np.ndarray:
    """Sum of stems in float32, in the order of `parts`; the stems stay as they are."""
    total: np.ndarray | None = None
    for name, sign in parts.items():
        if total is None:
            total = stems[name].astype(np.float32)  # a copy; the first sign is always +1
        elif sign > 0:
            total += stems[name]
        else:
            total -= stems[name]
    if total is None:
        raise ValueError("`parts` must name at least one stem. Received: parts={}")
    return total


def _with_channels(waveform: np.ndarray, channels: int | None, *, track: str) -> np.ndarray:
    """Averages to mono, or duplicates mono; the same rule as `signal.audio.read_audio`."""
    present = waveform.shape[1]
    if channels is None or channels == present:
        return waveform
    if channels == 1:
        return waveform.mean(axis=1, keepdims=True, dtype=np.float32)
    if present == 1:
        return np.repeat(waveform, channels, axis=1)
    raise DataError(f"track {track!r}: has {present} channels, cannot become {channels}; use 1")


def _at_rate(waveform: np.ndarray, source_rate: int, target_rate: int | None) -> np.ndarray:
    if target_rate is None or target_rate == source_rate:
        return waveform
    from tfspec.signal.audio import resample

    return resample(waveform, source_rate, target_rate)
