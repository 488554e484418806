"""Tracks, their derived sources, the division by song, and the forms of `--data`."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from tfspec.datasets.tracks import (
    SOURCES,
    SPLITS,
    Track,
    TrackList,
    dataset_info,
    open_tracks,
    song_seed,
    split_by_song,
    synth_tracks,
)
from tfspec.errors import ConfigError, DataError


def memory_track(stems: dict[str, np.ndarray], asked: list | None = None, **fields) -> Track:
    def loader(names):
        if asked is not None:
            asked.append(names)
        return {name: stems[name] for name in names}

    first = next(iter(stems.values()))
    values = {"name": "song", "split": "train", "sample_rate": 44100, "origin": "memory"} | fields
    return Track(**values, n_samples=len(first), loader=loader, stems=tuple(stems))


@pytest.fixture
def stems(rng) -> dict[str, np.ndarray]:
    return {name: rng.uniform(-0.2, 0.2, (4410, 2)).astype(np.float32) for name in SOURCES}


def named(names) -> list[Track]:
    return [Track(name, "train", 44100, 1, "memory", dict) for name in names]


# --- Track.load -------------------------------------------------------------------------------


def test_mixture_is_the_sum_of_the_stems_when_there_is_none(stems):
    loaded = memory_track(stems).load(("mixture", "vocals", "accompaniment"))
    np.testing.assert_array_equal(
        loaded["mixture"], stems["vocals"] + stems["drums"] + stems["bass"] + stems["other"]
    )
    np.testing.assert_array_equal(
        loaded["accompaniment"], stems["drums"] + stems["bass"] + stems["other"]
    )
    np.testing.assert_array_equal(loaded["vocals"], stems["vocals"])
    assert {array.dtype for array in loaded.values()} == {np.dtype(np.float32)}


def test_accompaniment_is_mixture_minus_vocals_even_beside_its_own_file(stems, rng):
    mixture = rng.uniform(-1, 1, (4410, 2)).astype(np.float32)
    own = {"mixture": mixture, **stems, "accompaniment": stems["drums"]}
    loaded = memory_track(own).load(("accompaniment",))
    np.testing.assert_array_equal(loaded["accompaniment"], mixture - stems["vocals"])


def test_accompaniment_file_and_vocals_make_the_mixture(stems):
    own = {"vocals": stems["vocals"], "drums": stems["drums"], "accompaniment": stems["other"]}
    loaded = memory_track(own).load(("mixture", "accompaniment"))
    np.testing.assert_array_equal(loaded["mixture"], stems["vocals"] + stems["other"])
    np.testing.assert_array_equal(loaded["accompaniment"], stems["other"])


def test_load_reads_only_the_stems_it_needs_and_changes_none(stems):
    asked: list = []
    mixture = sum(stems.values())
    before = {name: array.copy() for name, array in stems.items()}
    track = memory_track({"mixture": mixture, **stems}, asked)
    track.load(("mixture", "accompaniment"))
    assert asked == [("mixture", "vocals")]
    for name, array in stems.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("sources", [("piano",), ("mixture", "piano")])
def test_a_source_that_is_not_there_names_track_and_source(stems, sources):
    with pytest.raises(DataError, match=r"'song' \(memory\): has no source 'piano'; it has vocals"):
        memory_track(stems).load(sources)


def test_a_single_stem_is_not_taken_for_the_mixture(stems):
    with pytest.raises(DataError, match="no source 'mixture'"):
        memory_track({"vocals": stems["vocals"]}).load(("mixture",))


def test_load_resamples_like_soxr_and_averages_channels(stems):
    loaded = memory_track(stems).load(("vocals",), sample_rate=11025, channels=1)["vocals"]
    expected = soxr.resample(stems["vocals"].mean(axis=1), 44100, 11025)
    assert loaded.shape == (len(expected), 1)
    # Same resampler; the order of averaging and resampling differs by float32 rounding.
    np.testing.assert_allclose(loaded[:, 0], expected, atol=1e-6)


def test_mono_is_duplicated_and_stereo_cannot_become_three_channels(stems):
    mono = {name: array[:, :1] for name, array in stems.items()}
    loaded = memory_track(mono).load(("vocals",), channels=2)["vocals"]
    np.testing.assert_array_equal(loaded, np.repeat(mono["vocals"], 2, axis=1))
    with pytest.raises(DataError, match="'song': has 2 channels, cannot become 3"):
        memory_track(stems).load(("vocals",), channels=3)


def test_track_is_frozen_and_knows_its_duration(stems):
    track = memory_track(stems)
    assert track.duration == pytest.approx(0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        track.name = "other"


# --- split_by_song ----------------------------------------------------------------------------

names_lists = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40)
fractions = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45))


@settings(deadline=None, max_examples=60)
@given(names_lists, fractions, st.integers(0, 2**40), st.randoms(use_true_random=False))
def test_split_is_disjoint_complete_and_independent_of_order(names, shares, seed, random):
    arguments = {"validation_fraction": shares[0], "test_fraction": shares[1], "seed": seed}
    parts = split_by_song(named(names), **arguments)
    found = {split: {track.name for track in tracks} for split, tracks in parts.items()}
    assert sorted(name for tracks in parts.values() for name in (t.name for t in tracks)) == sorted(
        names
    )
    assert sum(len(part) for part in found.values()) == len(set(names))  # no song in two parts
    assert found["train"]
    assert all(track.split == split for split, tracks in parts.items() for track in tracks)
    shuffled = list(names)
    random.shuffle(shuffled)
    again = split_by_song(named(shuffled), **arguments)
    assert {split: [t.name for t in part] for split, part in again.items()} == {
        split: [t.name for t in part] for split, part in parts.items()
    }


@pytest.mark.parametrize(
    ("n", "counts"),
    [
        (1, (1, 0, 0)),
        (2, (1, 1, 0)),
        (3, (1, 1, 1)),
        (10, (8, 1, 1)),
        (50, (40, 5, 5)),
        (100, (80, 10, 10)),
    ],
)
def test_split_counts_with_the_default_fractions(n, counts):
    parts = split_by_song(named(f"song {i}" for i in range(n)))
    assert tuple(len(parts[split]) for split in SPLITS) == counts


def test_split_depends_on_the_seed_and_not_on_unicode_composition():
    songs = [f"song {i}" for i in range(40)]
    assert [t.name for t in split_by_song(named(songs), seed=0)["test"]] != [
        t.name for t in split_by_song(named(songs), seed=1)["test"]
    ]
    composed, decomposed = "Bj\u00f6rk", "Bjo\u0308rk"  # as Linux and macOS store it
    for seed in range(20):
        parts = [split_by_song(named([*songs, name]), seed=seed) for name in (composed, decomposed)]
        where = [
            {s: [t.name for t in p if t.name in songs] for s, p in part.items()} for part in parts
        ]
        assert where[0] == where[1]


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (0.5, 0.5), (0.0, 1.0)])
def test_fractions_that_leave_no_training_songs(shares):
    with pytest.raises(ConfigError, match=f"test_fraction={shares[1]}"):
        split_by_song(named("abc"), validation_fraction=shares[0], test_fraction=shares[1])


# --- synthetic songs --------------------------------------------------------------------------

song_keys = st.tuples(st.integers(0, 2**40), st.sampled_from(SPLITS), st.integers(0, 2**32 - 1))


@given(song_keys, song_keys)
def test_song_seeds_never_collide(one, other):
    assert (song_seed(*one) == song_seed(*other)) == (one == other)


def test_longer_synth_lists_begin_with_the_shorter_one():
    few, many = synth_tracks(3, seed=5), synth_tracks(8, seed=5)
    assert few == many[:3]
    assert len({track.name for track in many}) == 8
    assert {track.split for track in many} == {"train"}


def test_synth_track_is_the_generated_song():
    from tfspec.synth.songs import synthesize_song

    (track,) = synth_tracks(1, seed=3, split="test", duration=2.0, sample_rate=11025, channels=1)
    song = synthesize_song(song_seed(3, "test", 0), duration=2.0, sample_rate=11025, channels=1)
    loaded = pickle.loads(pickle.dumps(track)).load(("mixture", *SOURCES))
    np.testing.assert_array_equal(loaded["mixture"], song.mixture)
    for name in SOURCES:
        np.testing.assert_array_equal(loaded[name], song.stems[name])
        assert loaded[name].shape == (track.n_samples, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 1, "seed": -1}, "seed=-1"),
        ({"n": 1, "duration": 0.0}, "duration=0.0"),
        ({"n": 1, "split": "dev"}, "split='dev'"),
    ],
)
def test_synth_tracks_refuses(arguments, message):
    with pytest.raises(ConfigError, match=message):
        synth_tracks(**arguments)


# --- open_tracks and dataset_info -------------------------------------------------------------


def test_open_synth_divides_n_songs_over_the_splits():
    tracks = open_tracks("synth:20", seed=7, synth_duration=4.0)
    assert isinstance(tracks, TrackList) and tracks.skipped == ()
    assert [sum(t.split == split for t in tracks) for split in SPLITS] == [16, 2, 2]
    assert {track.n_samples for track in tracks} == {4 * 44100}
    assert open_tracks("synth:20", seed=7, synth_duration=4.0, split="test") == [
        track for track in tracks if track.split == "test"
    ]
    assert len(open_tracks("synth")) == 50


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("synth:0", r"'synth:0': N of synth:N must be a whole number >= 1"),
        ("synth:many", "'synth:many': N of synth:N"),
        ("synth:", "'synth:': N of synth:N"),
        (
            "no/such/folder",
            r"'no/such/folder': no such folder or data set; allowed: synth, synth:N",
        ),
        ("tfds:mnist", r"'tfds:mnist': unknown data set; allowed: tfds:musdb18/stems, tfds:mus"),
        ("tfds:musdb18/4k", "'tfds:musdb18/4k': unknown data set"),
    ],
)
def test_unknown_specs_are_one_line_config_errors(spec, message):
    for function in (open_tracks, dataset_info):
        with pytest.raises(ConfigError, match=message) as caught:
            function(spec)
        assert "\n" not in str(caught.value)


def test_a_path_is_a_folder_even_when_it_is_called_synth(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("synth").mkdir()
    for spec in (Path("synth"), "./synth"):
        assert dataset_info(spec)["name"] == "synth"
        with pytest.raises(DataError, match="holds no usable song"):
            open_tracks(spec)


def test_open_tracks_names_the_split_that_is_empty_or_unknown():
    with pytest.raises(DataError, match="'synth:2': no test songs; it has 1 train, 1 validation"):
        open_tracks("synth:2", split="test")
    with pytest.raises(ConfigError, match="one of train, validation, test, received split='dev'"):
        open_tracks("synth:2", split="dev")


@pytest.mark.parametrize(
    ("spec", "name", "licence"),
    [
        ("synth:8", "synth:8", "generated by tfspec"),
        ("tfds:musdb18/hq", "MUSDB18 (MUSDB18-HQ, uncompressed WAV)", "research and education"),
        ("tfds:musdb18", "MUSDB18 (MUSDB18, compressed stem MP4)", "no commercial use"),
    ],
)
def test_dataset_info_of_synth_and_musdb18(spec, name, licence):
    info = dataset_info(spec)
    assert set(info) == {"name", "licence", "origin"}
    assert info["name"] == name
    assert licence in info["licence"]
