"""Songs from a plain folder: one sub-folder of stem files, or one stem MP4, for each song."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfspec.datasets.tracks import SOURCES, SPLITS, Track, TrackList, split_by_song
from tfspec.errors import AudioError, DataError

logger = logging.getLogger(__name__)

LOSSLESS_SUFFIXES = (".wav", ".flac", ".aif", ".aiff")
LOSSY_SUFFIXES = (".ogg", ".opus", ".mp3", ".m4a", ".aac", ".mp4")
STEM_MP4_SUFFIX = ".stem.mp4"
# Order of the streams in a stem MP4, that of Native Instruments' and MUSDB18's files.
STEM_MP4_STREAMS = ("mixture", "drums", "bass", "other", "vocals")

# Stems of a song may differ by one sample (editors round), or by two MP3 frames when a lossy
# coder padded them to whole frames. The song is as long as its shortest stem.
LOSSLESS_TOLERANCE = 1
LOSSY_TOLERANCE = 2 * 1152

_ALIASES = {"mix": "mixture", "instrumental": "accompaniment", "vocal": "vocals"}
_IGNORED = ("linear_mixture",)  # musdbconvert writes it beside the true mixture
_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}


@dataclasses.dataclass(frozen=True)
class StemFilesLoader:
    """Reads the stems of one song, each from its own file.

    Attributes:
        song: name of the song, for messages.
        files: `(stem, path)` pairs.
        n_samples: length of the song; longer files are cut at their end.
        channels: of the song; mono stems of a stereo song are duplicated.
        tolerance: how many samples a file may decode shorter than its header states.
    """

    song: str
    files: tuple[tuple[str, str], ...]
    n_samples: int
    channels: int
    tolerance: int

    def __call__(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Returns the named stems, each `(n_samples, channels)` float32."""
        paths = dict(self.files)
        return {name: self._read(paths[name]) for name in names}

    def _read(self, path: str) -> np.ndarray:
        from tfspec.signal.audio import read_audio

        try:
            waveform, _ = read_audio(path, channels=self.channels)
        except AudioError as error:
            raise DataError(f"track {self.song!r}: {error}") from error
        return fit_length(waveform, self.n_samples, self.tolerance, f"{self.song!r}: {path}")


@dataclasses.dataclass(frozen=True)
class StemMp4Loader:
    """Reads stems of one song from the streams of a stem MP4, decoding only those asked for."""

    path: str
    n_samples: int

    def __call__(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Returns the named stems, each `(n_samples, channels)` float32."""
        from tfspec.signal.audio import read_stems

        streams = [STEM_MP4_STREAMS.index(name) for name in names]
        try:
            stems, _ = read_stems(self.path, stems=streams)
        except AudioError as error:
            raise DataError(f"track {song_name(Path(self.path))!r}: {error}") from error
        return {
            name: fit_length(stem, self.n_samples, LOSSY_TOLERANCE, self.path)
            for name, stem in zip(names, stems, strict=True)
        }


def folder_tracks(
    path: str | Path,
    *,
    seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> TrackList:
    """Lists the songs of a folder; only file headers are read.

    A song is a sub-folder with one audio file for each stem, `vocals.*` and at least one more:
    `mixture.*` (else the sum of the stems is the mixture), `drums.*`, `bass.*`, `other.*` or any
    other name; `accompaniment.*` (or `instrumental.*`) is all but the vocals. A file
    `NAME.stem.mp4` with the streams mixture, drums, bass, other, vocals is a song too.

    Sub-folders `train`, `valid` (or `validation`, `val`) and `test` give the split. Where they
    name no validation songs, those are taken out of `train`. Without such folders
    `split_by_song` divides the songs.

    Args:
        path: the folder.
        seed: of the division.
        validation_fraction: share of the songs for validation, where the folder names none.
        test_fraction: share of the songs for test, where the folder names no split at all.

    Returns:
        The songs by split and name. Songs that cannot be used are named in a warning and in
        `.skipped`.

    Raises:
        DataError: the folder holds no usable song.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder; expected a folder of songs")
    collector = _Collector()
    split_folders = _split_folders(root)
    for split in reversed(SPLITS):  # test first: a song found twice is kept out of training
        for folder in split_folders.get(split, []):
            collector.add_all(folder, split)
    if split_folders:
        inside = {folder for folders in split_folders.values() for folder in folders}
        for entry in _song_entries(root, without=inside):
            collector.skip(song_name(entry), f"{entry} lies outside the split folders")
    else:
        collector.add_all(root, "train")
    tracks = _divided(
        collector.tracks,
        set(split_folders),
        seed=seed,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
    )
    if not tracks:
        first = f"; the first problem: {collector.skipped[0]}" if collector.skipped else ""
        raise DataError(
            f"{root}: holds no usable song; expected {root.name}/SONG/vocals.wav, mixture.wav, ... "
            f"or {root.name}/SONG{STEM_MP4_SUFFIX}{first}"
        )
    if collector.skipped:
        logger.warning("%s: %d songs left out", root, len(collector.skipped))
    return TrackList(tracks, skipped=collector.skipped)


def folder_info(path: str | Path) -> dict[str, str]:
    """Name, licence (text of `LICENSE*.txt` or `LICENCE*.txt` if there) and origin of a folder."""
    root = Path(path).absolute()
    texts = sorted(
        entry
        for entry in root.glob("*.txt")
        if entry.name.lower().startswith(("license", "licence"))
    )
    licence = "\n\n".join(
        text.read_text(encoding="utf-8", errors="replace").strip() for text in texts
    )
    return {
        "name": root.name,
        "licence": licence or "as given by the user",
        "origin": f"folder {root.name}",
    }


def song_track(path: str | Path, split: str) -> Track:
    """The track of one song folder or stem MP4; reads headers only.

    Raises:
        DataError: stems are missing, unreadable, or differ in rate, length or channels.
    """
    path = Path(path)
    try:
        return _stem_mp4_track(path, split) if path.is_file() else _stem_files_track(path, split)
    except AudioError as error:
        raise DataError(str(error)) from error


def song_name(path: Path) -> str:
    """Name of the song that a folder or stem MP4 holds."""
    return path.name[: -len(STEM_MP4_SUFFIX)] if is_stem_mp4(path) else path.name


def is_stem_mp4(path: Path) -> bool:
    """Whether the file name is that of a stem MP4."""
    return path.name.lower().endswith(STEM_MP4_SUFFIX)


def fit_length(waveform: np.ndarray, n_samples: int, tolerance: int, name: str) -> np.ndarray:
    """Cuts a waveform at its end, or pads it with at most `tolerance` zeros.

    Raises:
        DataError: it is shorter than that: the file is truncated.
    """
    missing = n_samples - len(waveform)
    if missing <= 0:
        return waveform[:n_samples]
    if missing > tolerance:
        raise DataError(
            f"track {name}: is truncated, has {len(waveform)} of {n_samples} samples; "
            "copy the file again"
        )
    return np.pad(waveform, [(0, missing), (0, 0)])


class _Collector:
    """Gathers tracks, and the reasons for those that cannot be used."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.skipped: list[str] = []
        self._found: dict[str, Path] = {}

    def add_all(self, folder: Path, split: str) -> None:
        for entry in _song_entries(folder):
            name = song_name(entry)
            if name in self._found:
                self.skip(name, f"{entry} is already there as {self._found[name]}")
                continue
            self._found[name] = entry
            try:
                self.tracks.append(song_track(entry, split))
            except DataError as error:
                self.skip(name, str(error))

    def skip(self, name: str, reason: str) -> None:
        logger.warning("song %r left out: %s", name, reason)
        self.skipped.append(f"{name}: {reason}")


def _divided(
    tracks: list[Track],
    named_splits: set[str],
    *,
    seed: int,
    validation_fraction: float,
    test_fraction: float,
) -> list[Track]:
    """Adds the splits that the folder does not name."""
    kept = [track for track in tracks if track.split != "train"]
    train = [track for track in tracks if track.split == "train"]
    if "validation" not in named_splits:
        parts = split_by_song(
            train,
            validation_fraction=validation_fraction,
            test_fraction=0.0 if named_splits else test_fraction,
            seed=seed,
        )
        train = [track for part in parts.values() for track in part]
    return sorted(kept + train, key=lambda track: (SPLITS.index(track.split), track.name))


def _split_folders(root: Path) -> dict[str, list[Path]]:
    """Sub-folders that name a split; a folder of stems called `test` is a song."""
    found: dict[str, list[Path]] = {}
    for entry in sorted(root.iterdir()):
        split = _SPLIT_FOLDERS.get(entry.name.lower())
        if split and entry.is_dir() and not any(_audio_files(entry)):
            found.setdefault(split, []).append(entry)
    return found


def _song_entries(folder: Path, without: set[Path] | None = None) -> Iterator[Path]:
    """Song folders and stem MP4 files directly inside `folder`."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry in (without or ()):
            continue
        if entry.is_dir() or is_stem_mp4(entry):
            yield entry


def _audio_files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        known = entry.suffix.lower() in LOSSLESS_SUFFIXES + LOSSY_SUFFIXES
        if known and not entry.name.startswith(".") and not is_stem_mp4(entry):
            yield entry


def _stem_files(folder: Path) -> dict[str, Path]:
    """The stem files of a song, mixture first, then the usual sources, then others by name."""
    files: dict[str, Path] = {}
    for path in _audio_files(folder):
        stem = path.stem.lower()
        stem = _ALIASES.get(stem, stem)
        if stem in files:
            raise DataError(f"{folder}: {files[stem].name} and {path.name} are both {stem!r}")
        if stem not in _IGNORED:
            files[stem] = path
    if "vocals" not in files or len(files) < 2:
        there = ", ".join(path.name for path in files.values()) or "no audio file"
        raise DataError(f"{folder}: needs vocals.* and mixture.* or other stems, has {there}")
    order = ("mixture", *SOURCES)
    return {name: files[name] for name in sorted(files, key=lambda name: _rank(name, order))}


def _rank(name: str, order: tuple[str, ...]) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


def _stem_files_track(folder: Path, split: str) -> Track:
    from tfspec.signal.audio import audio_info

    files = _stem_files(folder)
    infos = {path: audio_info(path) for path in files.values()}
    tolerance = LOSSLESS_TOLERANCE
    if any(path.suffix.lower() in LOSSY_SUFFIXES for path in infos):
        tolerance = LOSSY_TOLERANCE
    rates = {path: info.sample_rate for path, info in infos.items()}
    lengths = {path: info.n_samples for path, info in infos.items()}
    # Mono stems are duplicated; any other mixture of channel counts has no clear meaning.
    channels = {path: info.channels for path, info in infos.items() if info.channels > 1}
    _check_spread(folder, rates, 0, "Hz")
    _check_spread(folder, lengths, tolerance, "samples")
    _check_spread(folder, channels, 0, "channels")
    n_samples = min(lengths.values())
    if n_samples == 0:
        raise DataError(f"{folder}: its files hold no samples")
    loader = StemFilesLoader(
        song=folder.name,
        files=tuple((name, str(path)) for name, path in files.items()),
        n_samples=n_samples,
        channels=max(info.channels for info in infos.values()),
        tolerance=tolerance,
    )
    return Track(
        name=folder.name,
        split=split,
        sample_rate=next(iter(rates.values())),
        n_samples=n_samples,
        origin=str(folder),
        loader=loader,
        stems=tuple(files),
    )


def _check_spread(folder: Path, values: dict[Path, int], tolerance: int, unit: str) -> None:
    """Raises DataError naming the two files whose values differ most."""
    if not values:
        return
    low = min(values, key=lambda path: values[path])
    high = max(values, key=lambda path: values[path])
    if values[high] - values[low] > tolerance:
        raise DataError(
            f"{folder}: {low.name} has {values[low]} {unit} but {high.name} has {values[high]}; "
            "the stems of a song must agree"
        )


def _stem_mp4_track(path: Path, split: str) -> Track:
    from tfspec.signal.audio import audio_info
    from tfspec.signal.ffmpeg import probe_streams

    info = audio_info(path)
    if info.format != "mp4":
        raise DataError(f"{path}: is {info.format}, not MP4; rename it or copy it again")
    n_streams = len(probe_streams(str(path), info.format))
    if n_streams != len(STEM_MP4_STREAMS):
        raise DataError(
            f"{path}: has {n_streams} audio streams, expected {len(STEM_MP4_STREAMS)} "
            f"({', '.join(STEM_MP4_STREAMS)})"
        )
    return Track(
        name=song_name(path),
        split=split,
        sample_rate=info.sample_rate,
        n_samples=info.n_samples,
        origin=str(path),
        loader=StemMp4Loader(str(path), info.n_samples),
        stems=STEM_MP4_STREAMS,
    )
