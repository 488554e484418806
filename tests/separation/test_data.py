"""The training pipeline against NumPy, and its promises: splits, seeds, sanity checks."""

from __future__ import annotations

import logging

import librosa
import numpy as np
import pytest
import tensorflow as tf

from tests.separation.songs import RATE, noise_song, noise_songs
from tfspec.errors import DataError
from tfspec.separation.data import SeparationData, song_segments, training_data
from tfspec.separation.export import load_calibration, save_calibration
from tfspec.separation.prepare import check_stems, prepare_songs
from tfspec.separation.recipe import SeparationRecipe
from tfspec.signal.stft import StftConfig


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def recipe(**changes) -> SeparationRecipe:
    return SeparationRecipe(**{"batch_size": 4, "min_vocal_level": 0.0, **changes})


def batches(dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(x, y) for x, y in dataset.as_numpy_iterator()]


def magnitude_segments(waveform: np.ndarray) -> np.ndarray:
    """Segments by librosa: `(segments, 512, 128)`."""
    spectrum = np.abs(librosa.stft(waveform, n_fft=1024, hop_length=256))[:512]
    count = spectrum.shape[1] // 128
    return np.stack([spectrum[:, i * 128 : (i + 1) * 128] for i in range(count)])


def test_segments_equal_librosa(rng):
    waveform = rng.standard_normal((10 * RATE, 2)).astype(np.float32)
    segments = song_segments(tf.constant(waveform), StftConfig(), 128).numpy()
    assert segments.shape == (3, 512, 128, 2)
    for channel in range(2):
        expected = magnitude_segments(waveform[:, channel])
        # The bound: 1e-4 relative (of the largest value).
        np.testing.assert_allclose(segments[..., channel], expected, atol=1e-4 * expected.max())


def test_validation_is_the_scaled_plain_segments_of_held_out_songs(cache):
    data = SeparationData.open(noise_songs(), recipe(), cache=cache)
    x = np.concatenate([x for x, _ in batches(data.validation())])
    y = np.concatenate([y for _, y in batches(data.validation())])
    expected_x, expected_y = [], []
    for index in (5, 6):
        stems = noise_song(index).load(["mixture", "vocals"])
        mixture = magnitude_segments(stems["mixture"][:, 0])
        peak = mixture.max(axis=2, keepdims=True)
        expected_x.append(mixture / peak)
        expected_y.append(magnitude_segments(stems["vocals"][:, 0]) / peak)
    np.testing.assert_allclose(x[..., 0], np.concatenate(expected_x), atol=1e-4)
    np.testing.assert_allclose(y[..., 0], np.concatenate(expected_y), atol=1e-4)


def test_training_and_validation_never_share_a_song(cache):
    """Also when no split is given: it is made by song, before anything is augmented."""
    tracks = [noise_song(i, split="train") for i in range(10)]
    data = SeparationData.open(tracks, recipe(validation_fraction=0.3), cache=cache)
    train = {song.name for song in data.train_songs}
    held_out = {song.name for song in data.validation_songs}
    assert len(train) == 7 and len(held_out) == 3 and not train & held_out


def test_same_seed_and_epoch_give_the_same_batches(cache):
    data = SeparationData.open(noise_songs(), recipe(random_gain_db=20.0), cache=cache)
    first, again, other = (batches(data.train_epoch(epoch)) for epoch in (3, 3, 4))
    for (x, y), (x2, y2) in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(y, y2)
    assert not np.array_equal(first[0][0], other[0][0])
    reseeded = SeparationData.open(noise_songs(), recipe(random_gain_db=20.0, seed=1), cache=cache)
    assert not np.array_equal(first[0][0], batches(reseeded.train_epoch(3))[0][0])


def test_every_pass_of_train_is_another_order(cache):
    train, _ = training_data(noise_songs(), recipe(), cache=cache)
    first, second = batches(train), batches(train)
    assert len(first) == len(second) == len(train)
    assert not np.array_equal(first[0][0], second[0][0])


def test_number_of_examples(cache):
    data = SeparationData.open(noise_songs(), recipe(), cache=cache)
    # 10 s are 431 frames, three segments: 3 originals + 2 splices + 2 blackouts (1.5 rounds to 2).
    assert data.n_examples == 5 * 7
    assert sum(len(x) for x, _ in batches(data.train_epoch(0))) == 5 * 7
    assert data.steps_per_epoch == len(batches(data.train_epoch(0))) == 9


def test_gain_lowers_mixture_and_target_alike(cache):
    """Targets stay below mixtures of the same phase; peaks spread over the gain's range."""
    data = SeparationData.open(
        noise_songs(),
        recipe(random_gain_db=20.0, fractions="none", scaler_axis="segment"),
        cache=cache,
    )
    peaks = np.concatenate(
        [x.max(axis=(1, 2, 3)) for epoch in range(4) for x, _ in batches(data.train_epoch(epoch))]
    )
    assert 0.1 <= peaks.min() < 0.2 and 0.8 < peaks.max() <= 1.0
    plain = SeparationData.open(noise_songs(), recipe(fractions="none"), cache=cache)
    ratio = [y.sum() / x.sum() for d in (data, plain) for x, y in batches(d.train_epoch(0))]
    assert max(ratio) < 1.0


def test_quiet_segments_are_left_out_of_training_only(cache):
    silent_tail = recipe(min_vocal_level=0.05, fractions="none")
    data = SeparationData.open(noise_songs(), silent_tail, cache=cache)
    # The vocals of each song fall silent after 6.7 s: the third segment, from 5.9 s on, goes.
    assert data.n_examples == 5 * 2
    assert sum(len(x) for x, _ in batches(data.train_epoch(0))) == 10
    assert sum(len(x) for x, _ in batches(data.validation())) == 2 * 3


@pytest.mark.parametrize(
    ("switches", "train", "validation"),
    [
        ({"legacy_order": True}, 5 * 7, 6),
        ({"legacy_prefix": True}, 15 + 10 + 8, 6),  # 7.5 blackouts of all 15 segments round to 8
        ({"legacy_cross_song": True}, 15 + 14 + 8, 6),
        # 21 segments of 7 songs: 21 + 14 + 10 examples, of which a tenth validates.
        ({"legacy_split": True}, 45 - 4, 4),
    ],
)
def test_legacy_switches_change_what_they_say(cache, switches, train, validation):
    data = SeparationData.open(noise_songs(), recipe(**switches), cache=cache)
    assert sum(len(x) for x, _ in batches(data.train_epoch(0))) == data.n_examples == train
    assert sum(len(x) for x, _ in batches(data.validation())) == validation


def test_legacy_order_scales_before_blacking_out(cache):
    """With the robust scaler a blackout of the scaled mixture is 0, the median level."""
    for legacy in (False, True):
        chosen = recipe(scaler_kind="robust", fractions="none", legacy_order=legacy)
        data = SeparationData.open(noise_songs(), chosen, cache=cache)
        data._augmentation = type(data._augmentation)(fractions=(0.0, 0.0, 1.0))
        x = np.concatenate([x for x, _ in batches(data.train_epoch(0))])[..., 0]
        zero_columns = np.all(x == 0, axis=1).sum(axis=1)
        assert np.all(zero_columns == (64 if legacy else 0))


def test_batches_are_described_by_their_songs(cache):
    data = SeparationData.open(noise_songs(), recipe(batch_size=64), cache=cache)
    assert data.describe_batch(0, 0) == [f"song-{i} (noise seed {i})" for i in range(5)]


def test_short_segments_are_kept_in_larger_numbers(cache, tmp_path):
    """96 s to calibrate with and 24 s to verify with, whatever a segment lasts."""
    short = SeparationRecipe.preset("micro")
    data = SeparationData.open(noise_songs(seconds=20.0), short, cache=cache)
    save_calibration(tmp_path, data)
    kept = load_calibration(tmp_path)
    assert {name: len(segments) for name, segments in kept.items()} == {
        "segments": 188,  # of 0.512 s
        "mixture": 47,
        "target": 47,
    }


def test_calibration_segments_are_loud_and_quiet(cache):
    data = SeparationData.open(noise_songs(12), SeparationRecipe.preset("tiny"), cache=cache)
    segments = data.calibration_segments(32)
    assert segments.shape == (32, 512, 128, 1)
    peaks_db = 20 * np.log10(segments.max(axis=(1, 2, 3)))
    assert np.count_nonzero(peaks_db > -0.1) == 16
    assert peaks_db.min() == pytest.approx(-20.0, abs=0.1)


def test_cache_is_reused(tmp_path):
    songs = prepare_songs(noise_songs(), recipe(), cache=tmp_path)
    times = {song.path: (tmp_path / song.path).stat().st_mtime_ns for song in songs}
    again = prepare_songs(noise_songs(), recipe(), cache=tmp_path)
    assert again == songs
    assert times == {song.path: (tmp_path / song.path).stat().st_mtime_ns for song in again}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "vocals has 1 NaN or infinite samples"),
        ("silent", "the mixture is silent"),
        ("sum", "mixture and sum of stems differ by"),
    ],
)
def test_a_bad_song_is_named_and_left_out(tmp_path, caplog, fault, message):
    tracks = [*noise_songs(), noise_song(77, fault=fault)]
    with caplog.at_level(logging.WARNING):
        songs = prepare_songs(tracks, recipe(), cache=tmp_path)
    assert len(songs) == 7
    assert "song-77" in caplog.text and message in caplog.text


def test_nothing_usable(tmp_path):
    with pytest.raises(DataError, match=r"none of the 1 tracks .* song-3"):
        prepare_songs([noise_song(3, fault="nan")], recipe(), cache=tmp_path)


def test_songs_shorter_than_a_segment(tmp_path):
    with pytest.raises(DataError, match="no training segment"):
        SeparationData.open(noise_songs(seconds=2.0), recipe(), cache=tmp_path)


def test_one_song_cannot_be_split(tmp_path):
    with pytest.raises(DataError, match="leave none to validate on"):
        SeparationData.open([noise_song(0)], recipe(), cache=tmp_path)


def test_stems_of_lossy_songs_may_differ_a_little(rng):
    stems = {name: rng.standard_normal((1000, 2)) for name in ("vocals", "drums", "bass", "other")}
    mixture = sum(stems.values())
    # AAC leaves the sum of stems at -30 dB or so of the mixture.
    check_stems({"mixture": mixture + 0.03 * rng.standard_normal((1000, 2)), **stems}, "song")
