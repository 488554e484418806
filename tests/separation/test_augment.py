"""Splice and blackout against a literal NumPy transcription of the paper's algorithms."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfspec.errors import ConfigError
from tfspec.separation.augment import (
    Augmentation,
    blackout,
    blackout_starts,
    random_gain,
    splice,
)

SEED = tf.constant([7, 3])


def splice_as_printed(data: np.ndarray) -> np.ndarray:
    """Algorithm 1: for i in 0..N-2, last half of i followed by first half of i + 1."""
    half = data.shape[2] // 2
    output = []
    for i in range(len(data) - 1):
        joined = np.zeros_like(data[i])
        joined[:, : data.shape[2] - half] = data[i][:, half:]
        joined[:, data.shape[2] - half :] = data[i + 1][:, :half]
        output.append(joined)
    return np.array(output)


def blackout_as_printed(segment: np.ndarray, start: int, width: int) -> np.ndarray:
    """Algorithm 2: columns start .. start + width - 1 of mixture and vocals become zero."""
    result = segment.copy()
    for column in range(start, start + width):
        result[:, column] = 0
    return result


def segments(count: int, frames: int = 128, bins: int = 3) -> np.ndarray:
    """Segments in which every value tells where it came from (none is zero)."""
    shape = (count, bins, frames, 2)
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def kinds_of(examples: np.ndarray, data: np.ndarray) -> list[tuple[str, int]]:
    """Recognises each example by comparing it with every possibility."""
    spliced = splice_as_printed(data)
    width = data.shape[2] // 2
    found = []
    for example in examples:
        for i, segment in enumerate(data):
            if np.array_equal(example, segment):
                found.append(("original", i))
            elif i < len(spliced) and np.array_equal(example, spliced[i]):
                found.append(("splice", i))
            elif any(
                np.array_equal(example, blackout_as_printed(segment, start, width))
                for start in range(width + 1)
            ):
                found.append(("blackout", i))
    assert len(found) == len(examples), "an example is none of original, splice, blackout"
    return found


def test_splice_of_the_specification():
    first, second = np.arange(4.0), np.arange(10.0, 14.0)
    joined = splice(tf.constant(first[None, :, None]), tf.constant(second[None, :, None]))
    assert joined.numpy().ravel().tolist() == [2, 3, 10, 11]


def test_splice_equals_algorithm_1():
    data = segments(5)
    result = splice(tf.constant(data[:-1]), tf.constant(data[1:]))
    np.testing.assert_array_equal(result, splice_as_printed(data))


def test_splice_of_consecutive_segments_is_the_song_half_a_segment_later():
    song = segments(1, frames=256)[0]
    joined = splice(tf.constant(song[:, :128]), tf.constant(song[:, 128:]))
    np.testing.assert_array_equal(joined, song[:, 64:192])


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 64))
def test_blackout_equals_algorithm_2(start):
    segment = segments(1)[0]
    result = blackout(tf.constant(segment), start, 64)
    np.testing.assert_array_equal(result, blackout_as_printed(segment, start, 64))


@pytest.mark.parametrize(("inclusive", "last"), [(False, 63), (True, 64)])
def test_blackout_starts_cover_the_stated_range(inclusive, last):
    starts = blackout_starts([2000], SEED, 64, inclusive=inclusive).numpy()
    # 2000 draws from 65 values miss a given one with probability 3e-14.
    assert set(starts) == set(range(last + 1))


def test_random_gain_keeps_the_ratio_of_mixture_and_target():
    example = tf.constant(segments(1)[0])
    gains = []
    for i in range(200):
        scaled = random_gain(example, tf.constant([i, 1]), 20.0).numpy()
        ratio = scaled / example.numpy()
        np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-6)
        gains.append(20 * np.log10(ratio.flat[0]))
    assert -20.0 <= min(gains) < -19.0
    assert -1.0 < max(gains) <= 0.0


def test_composition_of_the_paper():
    data = segments(10, frames=8)
    augmentation = Augmentation()
    examples = np.stack(list(augmentation.apply(tf.constant(data), SEED).as_numpy_iterator()))
    names = [kind for kind, _ in kinds_of(examples, data)]
    # 1 : 1 : 0.5 of ten segments, of which one has no successor to be spliced with.
    assert (names.count("original"), names.count("splice"), names.count("blackout")) == (10, 9, 5)
    assert augmentation.count(10) == len(examples)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 9), fractions=st.sampled_from([(1.0, 1.0, 0.5), (1.0, 0.5, 0.25)]))
def test_count_is_what_apply_makes(count, fractions):
    augmentation = Augmentation(fractions=fractions)
    made = augmentation.apply(tf.constant(segments(max(count, 1), frames=8)[:count]), SEED)
    assert augmentation.count(count) == sum(1 for _ in made)


def test_order_and_choice_are_random_but_seeded():
    data = tf.constant(segments(12, frames=8))
    augmentation = Augmentation()

    def run(seed):
        return np.stack(list(augmentation.apply(data, tf.constant(seed)).as_numpy_iterator()))

    np.testing.assert_array_equal(run([1, 2]), run([1, 2]))
    assert not np.array_equal(run([1, 2]), run([1, 3]))
    picked = {
        row
        for i in range(20)
        for kind, row in kinds_of(run([i, 0]), data.numpy())
        if kind == "blackout"
    }
    assert picked == set(range(12))  # any segment can be chosen, not only the first ones


@settings(max_examples=10, deadline=None)
@given(frames=st.integers(1, 9), bins=st.integers(1, 4), seed=st.integers(0, 99))
def test_any_size_of_segment(frames, bins, seed):
    data = segments(5, frames=frames, bins=bins)
    made = Augmentation().apply(tf.constant(data), tf.constant([seed, 0]))
    names = [kind for kind, _ in kinds_of(np.stack(list(made.as_numpy_iterator())), data)]
    # The half of an odd segment is the smaller one; that of one frame is none.
    expected = (5, 4, 2) if frames > 1 else (11, 0, 0)
    assert tuple(names.count(kind) for kind in ("original", "splice", "blackout")) == expected


def test_batches_made_at_once_hold_the_same_examples():
    data = segments(8, frames=8)
    augmentation, pair = Augmentation(), (tf.constant(data[..., :1]), tf.constant(data[..., 1:]))
    singly = augmentation.apply(pair, SEED).batch(8)
    at_once = augmentation.apply(pair, SEED, batch_size=8)
    assert at_once.element_spec == singly.element_spec
    for one, other in zip(singly, at_once, strict=True):
        for expected, made in zip(one, other, strict=True):
            np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_then_is_mapped_over_what_is_made(batch_size):
    data = segments(8, frames=8)
    augmentation, pair = Augmentation(), (tf.constant(data[..., :1]), tf.constant(data[..., 1:]))
    plain = augmentation.apply(pair, SEED, batch_size=batch_size)
    mapped = augmentation.apply(
        pair, SEED, batch_size=batch_size, then=lambda x, y: x - y, num_parallel_calls=2
    )
    for (mixture, vocals), difference in zip(plain, mapped, strict=True):
        np.testing.assert_array_equal(difference, mixture - vocals)


def test_splices_stay_within_a_song():
    data = segments(6, frames=8)
    songs = tf.constant([0, 0, 0, 1, 1, 1])
    examples = np.stack(
        list(Augmentation().apply(tf.constant(data), SEED, songs).as_numpy_iterator())
    )
    assert {row for kind, row in kinds_of(examples, data) if kind == "splice"} == {0, 1, 3, 4}


def test_legacy_prefix_takes_the_first_ones():
    data = segments(8, frames=8)
    augmentation = Augmentation(fractions=(1.0, 0.5, 0.25), legacy_prefix=True)
    examples = np.stack(list(augmentation.apply(tf.constant(data), SEED).as_numpy_iterator()))
    expected = [("original", i) for i in range(8)]
    expected += [("splice", i) for i in range(4)] + [("blackout", i) for i in range(2)]
    assert kinds_of(examples, data) == expected


def test_mixture_and_vocals_are_blacked_out_alike():
    data = segments(8, frames=8)
    augmentation = Augmentation(fractions=(0.0, 0.0, 1.0))
    for example in augmentation.apply(tf.constant(data), SEED).as_numpy_iterator():
        silent = example == 0
        assert silent[..., 0].any()
        np.testing.assert_array_equal(silent[..., 0], silent[..., 1])


def test_tuple_of_tensors_is_cut_like_their_channels():
    data = segments(8, frames=8)
    pair = (tf.constant(data[..., :1]), tf.constant(data[..., 1:]))
    together = list(Augmentation().apply(tf.constant(data), SEED).as_numpy_iterator())
    apart = list(Augmentation().apply(pair, SEED).as_numpy_iterator())
    for whole, (mixture, vocals) in zip(together, apart, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate([mixture, vocals], axis=-1))


@pytest.mark.parametrize("fractions", [(1.0, 1.0), (1.0, 1.5, 0.0), (-0.1, 1.0, 1.0)])
def test_bad_fractions(fractions):
    with pytest.raises(ConfigError, match="fractions="):
        Augmentation(fractions=fractions)
