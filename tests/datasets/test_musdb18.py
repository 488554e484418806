"""MUSDB18 through TensorFlow Datasets: lists, splits, damage, and the samples that come out."""

from __future__ import annotations

import importlib.resources
import logging
import pickle
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import stempeg
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from tfspec.datasets import prepared
from tfspec.datasets.folder import STEM_MP4_STREAMS
from tfspec.datasets.musdb18 import STEMS, Musdb18, tfds_tracks
from tfspec.datasets.musdb18_lists import OFFICIAL, TEST, TRAIN, VALIDATION
from tfspec.datasets.tracks import open_tracks
from tfspec.errors import DataError

HQ_SONGS = {
    f"train/{TRAIN[0]}": 0,
    f"train/{TRAIN[1]}": 1,
    "train/Unheard Of - Bonus": 2,
    f"train/{VALIDATION[3]}": 3,
    f"test/{TEST[7]}": 4,
    f"test/{TEST[8]}": 5,
}


def write_hq_song(folder: Path, seed: int, rate: int = 44100) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for name in STEMS:
        # The whole 16-bit range: the lowest value has no positive counterpart.
        samples = rng.integers(-32768, 32768, (500 + seed, 2)).astype(np.int16)
        soundfile.write(folder / f"{name}.wav", samples, rate)


@pytest.fixture
def hq(tmp_path) -> Path:
    manual = tmp_path / "manual"
    for name, seed in HQ_SONGS.items():
        write_hq_song(manual / "musdb18hq" / name, seed)
    return manual


def shorten(source: str | Path, target: Path, seconds: float = 0.5) -> None:
    command = ["ffmpeg", "-v", "error", "-i", str(source), "-map", "0:a", "-c", "copy"]
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, "-t", str(seconds), str(target)], check=True)


# --- the official lists -----------------------------------------------------------------------


def test_official_lists_have_their_known_sizes_and_are_disjoint():
    assert {split: len(names) for split, names in OFFICIAL.items()} == {
        "train": 86, "validation": 14, "test": 50,
    }  # fmt: skip
    assert len({name for names in OFFICIAL.values() for name in names}) == 150


def test_validation_tracks_are_those_of_the_musdb_package():
    pytest.importorskip("musdb")
    yaml = pytest.importorskip("yaml")
    text = importlib.resources.files("musdb").joinpath("configs/mus.yaml").read_text("utf-8")
    assert set(VALIDATION) == set(yaml.safe_load(text)["validation_tracks"])


def test_the_excerpts_at_hand_are_in_the_lists(shared_data):
    folder = shared_data / "musdb18-7-sample" / "train"
    assert {path.name.removesuffix(".stem.mp4") for path in folder.iterdir()} <= set(TRAIN)
    assert Path(stempeg.example_stem_path()).name.removesuffix(".stem.mp4") in TEST


# --- MUSDB18-HQ: exact samples ----------------------------------------------------------------


def test_hq_is_lossless_and_every_track_is_its_own_record(hq, tmp_path):
    tracks = open_tracks("tfds:musdb18/hq", manual_dir=hq, data_dir=tmp_path / "data")
    assert {track.name: track.split for track in tracks} == {
        Path(name).name: "validation" if Path(name).name in VALIDATION else name.split("/")[0]
        for name in HQ_SONGS
    }
    for track in reversed(tracks):  # random access: not the order of the records
        loaded = pickle.loads(pickle.dumps(track)).load(STEMS)
        folder = "test" if track.split == "test" else "train"
        for name in STEMS:
            path = hq / "musdb18hq" / folder / track.name / f"{name}.wav"
            expected, _ = soundfile.read(path, dtype="float32")
            np.testing.assert_array_equal(loaded[name], expected)
            assert loaded[name].dtype == np.float32 and len(expected) == track.n_samples


def test_overshoots_beyond_full_scale_are_kept(hq, tmp_path, rng):
    path = hq / "musdb18hq" / "test" / TEST[7] / "mixture.wav"
    loud = rng.uniform(-1.4, 1.2, (504, 2)).astype(np.float32)
    soundfile.write(path, loud, 44100, subtype="FLOAT")
    track = tfds_tracks("musdb18/hq", manual_dir=hq, data_dir=tmp_path / "data", split="test")[0]
    mixture = track.load(("mixture",))["mixture"]
    # Half a step: the lowest sample sets the step to 1.4 / 32768, the rest is float32 rounding.
    np.testing.assert_allclose(mixture, loud, rtol=0, atol=1.01 * 0.5 * 1.4 / 32768)


def test_second_opening_prepares_nothing_and_needs_no_manual_folder(hq, tmp_path, monkeypatch):
    first = tfds_tracks("musdb18/hq", manual_dir=hq, data_dir=tmp_path / "data")
    monkeypatch.setattr(Musdb18, "download_and_prepare", None)
    assert tfds_tracks("musdb18/hq", manual_dir=hq, data_dir=tmp_path / "data") == first
    shutil.rmtree(hq)
    again = tfds_tracks("musdb18/hq", data_dir=tmp_path / "data", split="test")
    assert again == [track for track in first if track.split == "test"]
    again[0].load()


def test_changed_manual_folder_is_prepared_again(hq, tmp_path, caplog):
    before = tfds_tracks("musdb18/hq", manual_dir=hq, data_dir=tmp_path / "data")
    before[0].load()  # opens the files that are about to be replaced
    shutil.rmtree(hq / "musdb18hq" / "test" / TEST[7])
    write_hq_song(hq / "musdb18hq" / "test" / TEST[9], 9)
    with caplog.at_level(logging.WARNING, logger="tfspec"):
        after = tfds_tracks("musdb18/hq", manual_dir=hq, data_dir=tmp_path / "data")
    assert "has changed, preparing it again" in caplog.text
    assert {track.name for track in after if track.split == "test"} == {TEST[8], TEST[9]}
    assert len(after) == len(before) == len({track.name for track in after})
    expected, _ = soundfile.read(hq / "musdb18hq" / "test" / TEST[9] / "vocals.wav")
    (track,) = (track for track in after if track.name == TEST[9])
    np.testing.assert_array_equal(track.load(("vocals",))["vocals"], expected)


def test_damaged_and_missing_songs_are_named_and_the_rest_is_prepared(hq, tmp_path, caplog):
    train = hq / "musdb18hq" / "train"
    (train / TRAIN[0] / "bass.wav").write_bytes(b"RIFF")
    (train / "Unheard Of - Bonus" / "mixture.wav").unlink()
    broken = np.zeros((501, 2), np.float32)
    broken[7] = np.nan
    soundfile.write(train / TRAIN[1] / "vocals.wav", broken, 44100, subtype="FLOAT")
    write_hq_song(hq / "musdb18hq" / "test" / TEST[0], 3, rate=48000)
    with caplog.at_level(logging.WARNING, logger="tfspec"):
        tracks = tfds_tracks("musdb18/hq", manual_dir=hq, data_dir=tmp_path / "data")
    # No usable training song is left, so the data set has no such split.
    assert [track.name for track in tracks] == [VALIDATION[3], TEST[7], TEST[8]]
    damaged = dict(line.split(": ", 1) for line in tracks.skipped[:4])
    assert "bass.wav" in damaged[TRAIN[0]]
    assert "NaN" in damaged[TRAIN[1]]
    assert "lacks mixture" in damaged["Unheard Of - Bonus"]
    assert "48000 Hz" in damaged[TEST[0]]
    for name in damaged:
        assert f"song {name!r} left out" in caplog.text
    # The official songs that are not there; one of the damaged ones is not official.
    assert len(tracks.skipped) == 4 + 150 - 6
    assert f"{TRAIN[5]}: is not in {hq / 'musdb18hq' / 'train'}" in tracks.skipped
    assert "4 songs damaged, 144 missing" in caplog.text
    for track in tracks:
        track.load(STEMS)


def test_song_in_the_wrong_folder_is_reported(hq, tmp_path, caplog):
    write_hq_song(hq / "musdb18hq" / "train" / TEST[1], 3)
    with caplog.at_level(logging.WARNING, logger="tfspec"):
        tfds_tracks("musdb18/hq", manual_dir=hq, data_dir=tmp_path / "data")
    assert f"song {TEST[1]!r} is in train/ but officially test" in caplog.text


def test_only_the_wanted_stems_of_one_record_are_decoded(hq, tmp_path, monkeypatch):
    track = tfds_tracks("musdb18/hq", manual_dir=hq, data_dir=tmp_path / "data")[2]
    loader = track.loader
    record = prepared._read_record(loader.directory, loader.split, loader.index, ("vocals",))
    assert record["vocals"].dtype == np.int16
    assert all(isinstance(record[name], bytes) for name in STEMS if name != "vocals")
    assert record["name"].decode() == track.name


def test_records_that_outgrow_memory_are_sorted_one_at_a_time(hq, tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 0)  # as if each song were a gigabyte
    lengths = []
    finish = shuffle.Shuffler._iter_buckets

    def spy(self):
        lengths.extend(len(bucket) for bucket in self._buckets)
        return finish(self)

    monkeypatch.setattr(shuffle.Shuffler, "_iter_buckets", spy)
    tracks = tfds_tracks("musdb18/hq", manual_dir=hq, data_dir=tmp_path / "data")
    assert sum(lengths) == len(HQ_SONGS) and max(lengths) == 1
    for track in tracks:
        folder = "test" if track.split == "test" else "train"
        path = hq / "musdb18hq" / folder / track.name / "drums.wav"
        np.testing.assert_array_equal(track.load(("drums",))["drums"], soundfile.read(path)[0])


def test_data_set_that_tfds_load_prepared_as_tfrecord(hq, tmp_path):
    data_sets = tfds.load(
        "musdb18/hq",
        data_dir=tmp_path / "data",
        download_and_prepare_kwargs={
            "download_config": tfds.download.DownloadConfig(manual_dir=str(hq))
        },
    )
    assert {split: len(data) for split, data in data_sets.items()} == {
        "train": 3, "validation": 1, "test": 2,
    }  # fmt: skip
    tracks = tfds_tracks("musdb18/hq", data_dir=tmp_path / "data", split="train")
    for track, example in zip(tracks, tfds.as_numpy(data_sets["train"]), strict=True):
        assert example["name"].decode() == track.name
        assert example["n_samples"] == track.n_samples
        loaded = track.load(("vocals",))["vocals"]
        np.testing.assert_array_equal(loaded, example["vocals"] * example["scale"])


# --- previews: stem MP4 -----------------------------------------------------------------------


def test_previews_agree_with_stempeg(shared_data, tmp_path):
    excerpt = next((shared_data / "musdb18-7-sample" / "train").glob("*.stem.mp4"))
    example = Path(stempeg.example_stem_path())
    manual = tmp_path / "manual"
    (manual / "train").mkdir(parents=True)
    (manual / "train" / excerpt.name).symlink_to(excerpt)
    shorten(example, manual / "test" / example.name)
    (manual / "train" / f"{TRAIN[4]}.stem.mp4").write_bytes(excerpt.read_bytes()[:100_000])
    data_dir = tmp_path / "data"
    tracks = open_tracks("tfds:musdb18/preview", manual_dir=manual, data_dir=data_dir)
    assert [track.split for track in tracks] == ["train", "test"]
    assert tracks.skipped[0].startswith(f"{TRAIN[4]}: ")
    for track in tracks:
        path = manual / track.split / f"{track.name}.stem.mp4"
        expected, rate = stempeg.read_stems(str(path))
        assert track.sample_rate == rate
        loaded = track.load(STEM_MP4_STREAMS)
        half_step = 0.5 * max(1 / 32768, np.abs(expected).max() / 32767)  # of 16 bits
        for name, reference in zip(STEM_MP4_STREAMS, expected, strict=True):
            reference = reference[: track.n_samples]
            np.testing.assert_allclose(loaded[name], reference, rtol=0, atol=1.01 * half_step)


def test_full_song_is_no_preview(tmp_path):
    song = tmp_path / "manual" / "test" / f"{TEST[0]}.stem.mp4"
    song.parent.mkdir(parents=True)
    command = ["ffmpeg", "-v", "error", "-stream_loop", "1", "-i", stempeg.example_stem_path()]
    subprocess.run([*command, "-map", "0:a", "-c", "copy", str(song)], check=True)
    with pytest.raises(DataError, match=r"no song can be used.*lasts 12 s, previews last 7 s"):
        tfds_tracks("musdb18/preview", manual_dir=song.parents[1], data_dir=tmp_path / "data")


# --- nothing to prepare from ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("stems", r"holds neither train/ nor test/; unpack MUSDB18, compressed stem MP4 there"),
        ("hq", r"train/ and test/ hold no song folders with WAV files \(musdb18/hq\)"),
    ],
)
def test_manual_folder_without_the_data(tmp_path, config, message):
    manual = tmp_path / "manual"
    (manual / "musdb18hq" / "train").mkdir(parents=True)
    (manual / "musdb18hq" / "train" / "a.stem.mp4").touch()
    with pytest.raises(DataError, match=message) as caught:
        tfds_tracks(f"musdb18/{config}", manual_dir=manual, data_dir=tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_default_manual_folder_is_that_of_tfds(tmp_path, hq):
    with pytest.raises(DataError, match="downloads/manual: holds neither train/ nor test/"):
        tfds_tracks("musdb18/hq", data_dir=tmp_path / "data")
    (tmp_path / "data" / "downloads").mkdir(parents=True, exist_ok=True)
    hq.rename(tmp_path / "data" / "downloads" / "manual")
    assert len(tfds_tracks("musdb18/hq", data_dir=tmp_path / "data")) == len(HQ_SONGS)
