"""MUSDB18 as a TensorFlow Datasets builder, and its prepared songs as `Track` objects.

Importing this module registers `tfds.builder("musdb18")`. The audio has to be downloaded by hand
(its authors ask every user to accept the terms), so the builder reads a manual folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfspec.datasets.folder import is_stem_mp4, song_name, song_track
from tfspec.datasets.musdb18_lists import OFFICIAL
from tfspec.datasets.prepared import STEMS, PreparedLoader, forget_sources
from tfspec.datasets.tracks import SOURCES, SPLITS, Track, TrackList, check_split
from tfspec.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

SAMPLE_RATE = 44100  # Hz, of every song of every configuration
PREVIEW_SECONDS = 10.0  # previews last 7 s; longer than this is another data set

LICENCE = (
    "MUSDB18: for research and education only, no commercial use. 46 songs are from MedleyDB "
    "(CC BY-NC-SA 4.0), 2 from the Easton Ellises (CC BY-NC-SA 3.0), 2 from Native Instruments, "
    "100 from DSD100 (The 'Mixing Secrets' Free Multitrack Download Library)."
)
_HOMEPAGE = "https://sigsep.github.io/datasets/musdb.html"
_CITATION = """@misc{musdb18,
  author = {Rafii, Zafar and Liutkus, Antoine and St{\\"o}ter, Fabian-Robert and
            Mimilakis, Stylianos Ioannis and Bittner, Rachel},
  title = {The {MUSDB18} corpus for music separation},
  year = 2017, doi = {10.5281/zenodo.1117372}
}"""
_DESCRIPTION = """150 songs (about 10 hours) with their vocals, drums, bass and other
accompaniment, stereo at 44.1 kHz. 86 songs are for training, 14 for validation, 50 for test.

Stems are stored as 16-bit integers; `scale` times them is the waveform, in which an overshoot of
the lossy coder beyond 1.0 is kept. For the 16-bit files of MUSDB18-HQ that is lossless."""


@dataclasses.dataclass(eq=False)
class Musdb18Config(tfds.core.BuilderConfig):
    """A distribution of MUSDB18.

    Attributes:
        stem_mp4: songs are stem MP4 files; else folders of WAV files.
        folders: names that the unpacked distribution may have inside the manual folder.
    """

    stem_mp4: bool = True
    folders: tuple[str, ...] = ()


class Musdb18(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of MUSDB18 from a manual folder with `train/` and `test/`.

    Damaged songs are named in a warning and in `info.metadata["damaged"]`, official songs that
    are not there in `info.metadata["missing"]`; the rest is prepared. Preparing holds one song in
    memory, and up to 1 GiB of records that TensorFlow Datasets gathers before it goes to disk.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012  (the name TFDS reads)
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Ask for access and download one of:
      musdb18/stems    musdb18.zip    https://zenodo.org/records/1117372
      musdb18/hq       musdb18hq.zip  https://zenodo.org/records/3338373
      musdb18/preview  MUSDB18-7-STEMS.zip, a release file of github.com/sigsep/sigsep-mus-db
    and unpack it, so that the manual folder (or musdb18/, musdb18hq/, musdb18-7/ in it)
    holds the folders train/ and test/.
    """
    BUILDER_CONFIGS = [  # noqa: RUF012
        Musdb18Config(
            name="stems", description="MUSDB18, compressed stem MP4", folders=("musdb18",)
        ),
        Musdb18Config(
            name="hq",
            description="MUSDB18-HQ, uncompressed WAV",
            stem_mp4=False,
            folders=("musdb18hq", "musdb18-hq"),
        ),
        Musdb18Config(
            name="preview",
            description="previews of 7 seconds, compressed stem MP4",
            folders=("musdb18-7", "musdb18-7-stems", "musdb18-7-sample"),
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        """Features: see the `doc` of each."""

        def audio(doc: str) -> tfds.features.Tensor:
            # Raw bytes, not `features.Audio`: that cannot encode arrays as bytes (TFDS 4.9.10),
            # and would store every sample as a varint of up to ten bytes.
            return tfds.features.Tensor(
                shape=(None, 2),
                dtype=np.int16,
                encoding=tfds.features.Encoding.BYTES,
                doc=f"{doc}, (samples, channels) at 44,100 Hz",
            )

        features = {
            "name": tfds.features.Text(doc="artist and title, the distribution's file name"),
            "n_samples": tfds.features.Scalar(np.int64, doc="length in samples at 44,100 Hz"),
            "scale": tfds.features.Scalar(np.float32, doc="stem * scale is the waveform"),
            "mixture": audio("the song as mixed by its engineer"),
            **{source: audio(f"the {source} stem") for source in SOURCES},
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("mixture", "vocals"),
            homepage=_HOMEPAGE,
            citation=_CITATION,
            license=LICENCE,
            disable_shuffling=True,  # so that the n-th name of the metadata is the n-th record
            metadata=tfds.core.MetadataDict(tracks={}, damaged=[], missing=[], fingerprint=""),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        """One generator for each split that has a usable song."""
        root = find_root(Path(dl_manager.manual_dir), self.builder_config)
        songs, missing = list_songs(root, self.builder_config)
        missing_lines = [f"{name}: is not in {root / folder}" for folder, name in missing]
        self.info.metadata.update(
            tracks={}, damaged=[], missing=missing_lines, fingerprint=fingerprint(root)
        )
        generators = {}
        for split, paths in songs.items():
            usable = self._from_first_usable(paths, split)
            if usable:  # TFDS cannot write a split without examples
                generators[split] = self._generate_examples(usable, split)
        if not generators:
            raise DataError(
                f"{root}: no song can be used; the first: {self.info.metadata['damaged'][0]}"
            )
        return generators

    def _from_first_usable(self, paths: list[Path], split: str) -> list[Path]:
        """The songs from the first that decodes; decodes them one by one and keeps none."""
        for position, path in enumerate(paths):
            if self._example(path, split) is not None:
                return paths[position:]
        return []

    def _generate_examples(self, paths: list[Path], split: str) -> Iterator[tuple[int, Any]]:
        """Yields the songs that can be decoded, and lists them in the metadata."""
        listed = self.info.metadata["tracks"].setdefault(split, [])
        for position, path in enumerate(paths):
            example = self._example(path, split)
            if example is not None:
                listed.append({"name": example["name"], "n_samples": example["n_samples"]})
                # TFDS sorts records by key, one bucket of the 128-bit key range in memory at a
                # time; keys 0, 1, 2, ... would all fall into the first bucket.
                yield (position << 128) // len(paths), example

    def _example(self, path: Path, split: str) -> dict[str, Any] | None:
        """The features of a song; None, with its reason noted, when it is damaged."""
        try:
            return read_song(path, split, self.builder_config)
        except DataError as error:
            logger.warning("song %r left out: %s", song_name(path), error)
            self.info.metadata["damaged"].append(f"{song_name(path)}: {error}")
            return None


def find_root(manual_dir: Path, config: Musdb18Config) -> Path:
    """The folder that holds `train/` or `test/`: `manual_dir` or a known folder in it.

    Raises:
        DataError: there is none.
    """
    inside = sorted(manual_dir.iterdir()) if manual_dir.is_dir() else []
    for root in [manual_dir, *(entry for entry in inside if entry.name.lower() in config.folders)]:
        if any((root / folder).is_dir() for folder in ("train", "test")):
            return root
    raise DataError(
        f"{manual_dir}: holds neither train/ nor test/; unpack {config.description} there, "
        f"see {_HOMEPAGE}"
    )


def list_songs(
    root: Path, config: Musdb18Config
) -> tuple[dict[str, list[Path]], list[tuple[str, str]]]:
    """Songs of the distribution by split, and `(folder, name)` of the official ones not there.

    Membership of train or test follows the folder; validation songs are taken out of `train/`.

    Raises:
        DataError: there are no songs of the configuration's kind.
    """
    validation = {_same_form(name) for name in OFFICIAL["validation"]}
    songs: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for folder in ("train", "test"):
        entries = sorted((root / folder).iterdir()) if (root / folder).is_dir() else []
        for entry in entries:
            if entry.name.startswith(".") or is_stem_mp4(entry) is not config.stem_mp4:
                continue
            if config.stem_mp4 or entry.is_dir():
                held_out = folder == "train" and _same_form(song_name(entry)) in validation
                songs["validation" if held_out else folder].append(entry)
    if not any(songs.values()):
        kind = "*.stem.mp4 files" if config.stem_mp4 else "song folders with WAV files"
        raise DataError(f"{root}: train/ and test/ hold no {kind} (musdb18/{config.name})")
    _warn_misplaced(songs)
    there = {_same_form(song_name(path)) for paths in songs.values() for path in paths}
    missing = [
        ("test" if split == "test" else "train", name)
        for split, names in OFFICIAL.items()
        for name in names
        if _same_form(name) not in there
    ]
    return songs, missing


def read_song(path: Path, split: str, config: Musdb18Config) -> dict[str, Any]:
    """Decodes a song into the features of `Musdb18`.

    Raises:
        DataError: it is damaged, or not a song of this distribution.
    """
    track = song_track(path, split)
    absent = [stem for stem in STEMS if stem not in track.stems]
    if absent:
        raise DataError(f"{path}: lacks {', '.join(absent)}")
    if track.sample_rate != SAMPLE_RATE:
        raise DataError(f"{path}: has {track.sample_rate} Hz, MUSDB18 has {SAMPLE_RATE}")
    if config.name == "preview" and track.duration > PREVIEW_SECONDS:
        raise DataError(
            f"{path}: lasts {track.duration:.0f} s, previews last 7 s; use tfds:musdb18/stems"
        )
    stems = track.load(STEMS, channels=2)
    highest = max(float(stem.max()) for stem in stems.values())
    lowest = min(float(stem.min()) for stem in stems.values())
    if not np.isfinite(highest - lowest):
        raise DataError(f"{path}: holds NaN or infinite samples")
    # 16-bit files hold multiples of 1/32768; only overshoots of a lossy coder need a larger step.
    scale = np.float32(max(1 / 32768, highest / 32767, -lowest / 32768))
    return {
        "name": song_name(path),
        "n_samples": len(stems["mixture"]),
        "scale": scale,
        **{name: _to_int16(stem, scale) for name, stem in stems.items()},
    }


def fingerprint(root: Path) -> str:
    """Hash of the names and sizes of the files below `root`, to notice a changed folder."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(root).as_posix()}:{path.stat().st_size}\n".encode())
    return digest.hexdigest()


def tfds_tracks(
    name: str,
    *,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    split: str | None = None,
) -> TrackList:
    """Songs of a TensorFlow Datasets data set, prepared first when that has not been done.

    A `manual_dir` whose files changed since is prepared again. Loading a track reads its record
    alone.

    Args:
        name: `"musdb18/stems"`, `"musdb18/hq"` or `"musdb18/preview"`.
        manual_dir: folder of the unpacked download; None is `DATA_DIR/downloads/manual`.
        data_dir: where prepared data are kept; None is `~/tensorflow_datasets`.
        split: `"train"`, `"validation"` or `"test"`; None gives all.

    Raises:
        ConfigError: an unknown name or split.
        DataError: there is nothing to prepare from, or no song is usable.
    """
    if split is not None:
        check_split(split)
    config = _config_name(name)
    builder = _prepared(config, manual_dir, data_dir)
    metadata = builder.info.metadata
    skipped = [*metadata["damaged"], *metadata["missing"]]
    if skipped:
        logger.warning(
            "tfds:musdb18/%s: %d songs damaged, %d missing: %s%s",
            config,
            len(metadata["damaged"]),
            len(metadata["missing"]),
            "; ".join(skipped[:3]),
            "; ... (all in `.skipped`)" if len(skipped) > 3 else "",
        )
    tracks = [
        Track(
            name=song["name"],
            split=own_split,
            sample_rate=SAMPLE_RATE,
            n_samples=song["n_samples"],
            origin=f"tfds:musdb18/{config}",
            loader=PreparedLoader(str(builder.data_dir), own_split, index),
            stems=STEMS,
        )
        for own_split in SPLITS
        if split in (None, own_split)
        for index, song in enumerate(metadata["tracks"].get(own_split, []))
    ]
    return TrackList(tracks, skipped=skipped)


def musdb18_info(name: str) -> dict[str, str]:
    """Name, licence and origin of `musdb18/CONFIG`, for model cards."""
    config = Musdb18.builder_configs[_config_name(name)]
    return {"name": f"MUSDB18 ({config.description})", "licence": LICENCE, "origin": _HOMEPAGE}


def _config_name(name: str) -> str:
    """The configuration of `musdb18[/CONFIG]`."""
    base, slash, config = name.partition("/")
    config = config if slash else "stems"
    if base != "musdb18" or config not in Musdb18.builder_configs:
        allowed = ", ".join(f"tfds:musdb18/{known}" for known in Musdb18.builder_configs)
        raise ConfigError(f"data 'tfds:{name}': unknown data set; allowed: {allowed}")
    return config


def _prepared(config: str, manual_dir: str | Path | None, data_dir: str | Path | None) -> Any:
    """The builder, after preparing it where needed."""
    builder = Musdb18(config=config, data_dir=data_dir)
    exists = Path(builder.data_dir).is_dir()
    if exists and manual_dir is None:
        return builder
    if manual_dir is None:  # DATA_DIR/musdb18/CONFIG/VERSION -> DATA_DIR
        manual_dir = Path(builder.data_dir).parents[2] / "downloads" / "manual"
    root = find_root(Path(manual_dir), builder.builder_config)
    if exists:
        if builder.info.metadata["fingerprint"] == fingerprint(root):
            return builder
        logger.warning("tfds:musdb18/%s: %s has changed, preparing it again", config, root)
        # TFDS refuses to replace data of a builder that has read them; a fresh one finds none.
        shutil.rmtree(builder.data_dir)
        builder = Musdb18(config=config, data_dir=data_dir)
    download = tfds.download.DownloadConfig(manual_dir=str(manual_dir), try_download_gcs=False)
    forget_sources()
    with contextlib.redirect_stdout(sys.stderr):  # TFDS prints; stdout is the user's
        builder.download_and_prepare(download_config=download, file_format="array_record")
    return builder


def _to_int16(waveform: np.ndarray, scale: np.float32) -> np.ndarray:
    rounded = np.rint(waveform / scale)
    return np.clip(rounded, -32768, 32767).astype(np.int16)


def _same_form(name: str) -> str:
    """File systems differ in how they compose accents."""
    return unicodedata.normalize("NFC", name)


def _warn_misplaced(songs: dict[str, list[Path]]) -> None:
    """Names songs that lie in the other folder than the official lists say."""
    official = {_same_form(name): split for split, names in OFFICIAL.items() for name in names}
    for split, paths in songs.items():
        for path in paths:
            expected = official.get(_same_form(song_name(path)), split)
            if expected != split:
                logger.warning(
                    "song %r is in %s/ but officially %s", song_name(path), split, expected
                )
