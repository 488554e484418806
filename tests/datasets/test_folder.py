"""Plain folders of songs: what is read, what is left out and why."""

from __future__ import annotations

import logging
import pickle
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import stempeg

from tfspec.datasets.folder import LOSSY_TOLERANCE, STEM_MP4_STREAMS, folder_tracks, song_track
from tfspec.datasets.tracks import SOURCES, dataset_info, open_tracks
from tfspec.errors import DataError

RATE = 8000


def write_song(folder: Path, stems: dict[str, np.ndarray], suffix: str = ".wav", rate=RATE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, waveform in stems.items():
        kind = {"subtype": "FLOAT"} if suffix == ".wav" else {}
        soundfile.write(folder / f"{name}{suffix}", waveform, rate, **kind)
    return folder


@pytest.fixture
def stems(rng) -> dict[str, np.ndarray]:
    return {name: rng.uniform(-0.2, 0.2, (800, 2)).astype(np.float32) for name in SOURCES}


@pytest.fixture
def songs(tmp_path, stems) -> Path:
    for index in range(10):
        write_song(tmp_path / "songs" / f"song {index}", stems)
    return tmp_path / "songs"


def test_song_without_mixture_is_the_sum_of_its_stems(tmp_path, stems):
    track = song_track(write_song(tmp_path / "a", stems), "train")
    assert (track.name, track.sample_rate, track.n_samples) == ("a", RATE, 800)
    loaded = pickle.loads(pickle.dumps(track)).load(("mixture", "vocals", "accompaniment"))
    vocals, drums, bass, other = (stems[name] for name in SOURCES)
    np.testing.assert_array_equal(loaded["mixture"], vocals + drums + bass + other)
    np.testing.assert_array_equal(loaded["vocals"], vocals)
    np.testing.assert_array_equal(loaded["accompaniment"], drums + bass + other)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_other_formats_agree_with_libsndfile(tmp_path, suffix):
    seconds = np.arange(44100)[:, None] / 44100
    stems = {
        name: (0.2 * np.sin(2 * np.pi * pitch * seconds) * [[1.0, 0.5]]).astype(np.float32)
        for name, pitch in (("vocals", 440), ("instrumental", 220))
    }
    folder = write_song(tmp_path / "a", stems, suffix, rate=44100)
    track = song_track(folder, "train")
    loaded = track.load(("mixture", "vocals", "accompaniment"))
    for name, file in (("vocals", "vocals"), ("accompaniment", "instrumental")):
        expected, _ = soundfile.read(folder / f"{file}{suffix}", dtype="float32", always_2d=True)
        assert loaded[name].shape == (track.n_samples, 2)
        assert abs(len(expected) - track.n_samples) <= LOSSY_TOLERANCE
        shared = min(len(expected), track.n_samples)
        # The same decoder; 1e-4 leaves room for another build of an MP3 decoder.
        np.testing.assert_allclose(loaded[name][:shared], expected[:shared], atol=1e-4)
    np.testing.assert_array_equal(loaded["mixture"], loaded["vocals"] + loaded["accompaniment"])


def test_mono_stems_of_a_stereo_song_are_duplicated(tmp_path, stems):
    own = {"mixture": stems["drums"], "vocals": stems["vocals"][:, :1]}
    loaded = song_track(write_song(tmp_path / "a", own), "train").load(("vocals", "accompaniment"))
    np.testing.assert_array_equal(loaded["vocals"], np.repeat(own["vocals"], 2, axis=1))
    np.testing.assert_array_equal(loaded["accompaniment"], own["mixture"] - own["vocals"])


def test_one_sample_more_is_cut(tmp_path, stems):
    stems["drums"] = np.concatenate([stems["drums"], np.ones((1, 2), np.float32)])
    track = song_track(write_song(tmp_path / "a", stems), "train")
    assert track.n_samples == 800
    assert {len(waveform) for waveform in track.load(SOURCES).values()} == {800}


def test_linear_mixture_of_musdbconvert_does_not_count_as_a_stem(tmp_path, stems):
    track = song_track(
        write_song(tmp_path / "a", stems | {"linear_mixture": stems["bass"]}), "test"
    )
    assert track.stems == SOURCES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"vocals": None},
            r"a: needs vocals\.\* and mixture\.\* or other stems, has bass\.wav, drums",
        ),
        (
            {"drums": None, "bass": None, "other": None},
            r"needs vocals.* has vocals\.wav",
        ),
        ({"bass": np.zeros((798, 2))}, r"bass\.wav has 798 samples but \S+ has 800; the stems"),
        ({"bass": np.zeros((800, 3))}, r"\S+ has 2 channels but bass\.wav has 3"),
        ({"vocal": np.zeros((800, 2))}, r"vocal\.wav and vocals\.wav are both 'vocals'"),
    ],
)
def test_unusable_songs_name_their_files(tmp_path, stems, change, message):
    stems = {name: array for name, array in (stems | change).items() if array is not None}
    with pytest.raises(DataError, match=message):
        song_track(write_song(tmp_path / "a", stems), "train")


def test_stems_of_two_sample_rates(tmp_path, stems):
    folder = write_song(tmp_path / "a", stems)
    soundfile.write(folder / "bass.wav", stems["bass"], 11025)
    with pytest.raises(DataError, match=r"has 8000 Hz but bass\.wav has 11025"):
        song_track(folder, "train")


def test_damaged_songs_are_named_and_the_rest_is_there(songs, caplog):
    (songs / "song 3" / "drums.wav").write_bytes(b"")
    (songs / "song 5" / "vocals.wav").write_text("this is no sound")
    (songs / "song 7" / "vocals.wav").unlink()
    whole = (songs / "song 8" / "bass.wav").read_bytes()
    (songs / "song 8" / "bass.wav").write_bytes(whole[: len(whole) // 2])
    (songs / "notes").mkdir()
    with caplog.at_level(logging.WARNING, logger="tfspec"):
        tracks = folder_tracks(songs)
    assert {track.name for track in tracks} == {f"song {i}" for i in (0, 1, 2, 4, 6, 9)}
    assert [line.split(":")[0] for line in tracks.skipped] == [
        "notes", "song 3", "song 5", "song 7", "song 8",
    ]  # fmt: skip
    for name in ("notes", "song 3", "song 5", "song 7", "song 8"):
        assert f"song {name!r} left out" in caplog.text
    assert "5 songs left out" in caplog.text
    for track in tracks:
        track.load()


def test_file_that_shrinks_after_listing_is_a_data_error(songs):
    track = folder_tracks(songs)[0]
    soundfile.write(Path(track.origin) / "vocals.wav", np.zeros((400, 2)), RATE)
    with pytest.raises(DataError, match=r"vocals\.wav: is truncated, has 400 of 800 samples"):
        track.load()


def test_folder_without_songs(tmp_path):
    with pytest.raises(DataError, match=r"holds no usable song; expected .*/SONG/vocals\.wav"):
        folder_tracks(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"the first problem: a: .*has no audio file"):
        open_tracks(tmp_path)


def test_flat_folder_is_divided_by_song(songs):
    tracks = open_tracks(songs, seed=1, validation_fraction=0.2, test_fraction=0.3)
    by_split = {
        s: {t.name for t in tracks if t.split == s} for s in ("train", "validation", "test")
    }
    assert [len(by_split[s]) for s in ("train", "validation", "test")] == [5, 2, 3]
    assert tracks == open_tracks(songs, seed=1, validation_fraction=0.2, test_fraction=0.3)
    assert len(open_tracks(songs, split="test", test_fraction=0.3)) == 3


def test_split_folders_are_obeyed(tmp_path, stems):
    for name in ("train/a", "train/b", "Valid/c", "test/d", "test/e"):
        write_song(tmp_path / name, stems)
    found = {track.name: track.split for track in folder_tracks(tmp_path)}
    assert found == {
        "a": "train", "b": "train", "c": "validation", "d": "test", "e": "test",
    }  # fmt: skip


def test_validation_is_taken_out_of_train_and_test_never(tmp_path, stems):
    for index in range(10):
        write_song(tmp_path / "train" / str(index), stems)
    splits = [track.split for track in folder_tracks(tmp_path, validation_fraction=0.2)]
    assert splits == ["train"] * 8 + ["validation"] * 2


def test_song_in_two_splits_stays_out_of_training(tmp_path, stems):
    for name in ("train/a", "train/b", "train/c", "test/a", "d"):
        write_song(tmp_path / name, stems)
    tracks = folder_tracks(tmp_path)
    assert {track.name: track.split for track in tracks if track.name == "a"} == {"a": "test"}
    assert len(tracks) == 3
    assert "train/a is already there as" in tracks.skipped[0].replace("\\", "/")
    assert "outside the split folders" in tracks.skipped[1]


def test_song_called_test_is_a_song(tmp_path, stems):
    for name in ("test", "another"):
        write_song(tmp_path / name, stems)
    assert {track.name for track in folder_tracks(tmp_path)} == {"test", "another"}


def test_folder_info_gives_the_licence_text(songs):
    assert dataset_info(songs)["licence"] == "as given by the user"
    (songs / "LICENSE-music.txt").write_text("CC BY 4.0\n")
    assert dataset_info(songs) == {
        "name": "songs", "licence": "CC BY 4.0", "origin": "folder songs",
    }  # fmt: skip


def check_against_stempeg(track, path):
    expected, rate = stempeg.read_stems(str(path))
    assert track.sample_rate == rate
    # stempeg keeps the padding of the last AAC frame, which is no part of the song.
    assert 0 <= expected.shape[1] - track.n_samples < 1024
    loaded = track.load(STEM_MP4_STREAMS)
    for name, reference in zip(STEM_MP4_STREAMS, expected, strict=True):
        assert loaded[name].shape == (track.n_samples, 2)
        # Both decode with ffmpeg; stempeg by way of the same float samples.
        np.testing.assert_allclose(loaded[name], reference[: track.n_samples], atol=1e-6)


def test_stem_mp4_agrees_with_stempeg(tmp_path):
    source = Path(stempeg.example_stem_path())
    shutil.copy(source, tmp_path)
    (track,) = folder_tracks(tmp_path)
    assert track.name == "The Easton Ellises - Falcon 69"
    check_against_stempeg(track, source)


def test_musdb18_excerpt_agrees_with_stempeg(shared_data):
    (track,) = folder_tracks(shared_data / "musdb18-7-sample")
    assert (track.name, track.split) == ("Music Delta - 80s Rock", "train")
    check_against_stempeg(track, track.origin)


def test_stem_mp4_with_one_stream_is_left_out(tmp_path, stems):
    write_song(tmp_path / "good", stems)
    source, target = stempeg.example_stem_path(), tmp_path / "mono.stem.mp4"
    command = ["ffmpeg", "-v", "error", "-i", source, "-map", "0:a:0", "-c", "copy", str(target)]
    subprocess.run(command, check=True)
    (tmp_path / "renamed.stem.mp4").write_bytes((tmp_path / "good" / "bass.wav").read_bytes())
    tracks = folder_tracks(tmp_path)
    assert [track.name for track in tracks] == ["good"]
    assert "mono.stem.mp4: has 1 audio streams, expected 5 (mixture, drums" in tracks.skipped[0]
    assert "renamed.stem.mp4: is wav, not MP4" in tracks.skipped[1]


def test_truncated_stem_mp4_is_left_out(tmp_path, stems):
    whole = Path(stempeg.example_stem_path()).read_bytes()
    (tmp_path / "half.stem.mp4").write_bytes(whole[: len(whole) // 2])
    write_song(tmp_path / "good", stems)
    tracks = folder_tracks(tmp_path)
    assert [track.name for track in tracks] == ["good"]
    assert tracks.skipped[0].startswith("half: ")
