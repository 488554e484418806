"""What changes a training example: splice, blackout and random gain, as graph ops.

Algorithms 1 and 2 of "Spectral Mapping of Singing Voices". All randomness is stateless: the same
seed gives the same examples, on any number of threads. `segments` are magnitudes of one song,
`(segments, frequency, time, channels)`, with mixture and targets as channels or as a tuple of
tensors (faster: neither has to be cut out later), so that whatever happens to the mixture happens
to its targets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfspec.errors import ConfigError
from tfspec.separation.recipe import FRACTIONS

# One tensor, or a tuple of tensors that are cut alike.
Segments: TypeAlias = tf.Tensor | tuple[tf.Tensor, ...]

_SPLICE, _BLACKOUT = 1, 2  # kinds of a plan; 0 is an original


def splice(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Joins the last half of one segment to the first half of the next (Algorithm 1).

    Neighbours in time join without a seam: the result is real audio, half a segment later.

    Args:
        first: `(..., frequency, time, channels)`.
        second: the segment that follows, same shape.

    Returns:
        One segment of the same shape.
    """
    half = tf.shape(first)[-2] // 2
    joined = tf.concat([first[..., half:, :], second[..., :half, :]], axis=-2)
    return tf.ensure_shape(joined, first.shape)


def blackout(segment: tf.Tensor, start: tf.Tensor | int, width: int) -> tf.Tensor:
    """Zeroes `width` frames from `start` in all bins and channels (Algorithm 2).

    Args:
        segment: `(..., frequency, time, channels)`.
        start: first silent frame, int scalar or `(...)`.
        width: silent frames (64 in the paper).

    Returns:
        The segment with the frames set to zero.
    """
    frames = tf.range(tf.shape(segment)[-2])
    start = tf.cast(start, tf.int32)[..., tf.newaxis]
    keep = tf.logical_or(frames < start, frames >= start + width)
    return segment * tf.cast(keep, segment.dtype)[..., tf.newaxis, :, tf.newaxis]


def blackout_starts(
    shape: tf.Tensor | list[int], seed: tf.Tensor, width: int, *, inclusive: bool = False
) -> tf.Tensor:
    """Draws first silent frames: 0..width-1 as in the code, or 0..width if `inclusive`.

    With the exclusive bound of the published code, column `width - 1` is always silent and the
    last column never is; the paper's text, "0 to 64", may mean the inclusive one.
    """
    top = width + 1 if inclusive else max(width, 1)
    return tf.random.stateless_uniform(shape, seed, 0, top, dtype=tf.int32)


def random_gain(example: tf.Tensor, seed: tf.Tensor, range_db: float) -> tf.Tensor:
    """Scales mixture and targets together by a gain drawn from [-range_db, 0] dB.

    Models that only ever see segments at full level get worse as the level falls.
    """
    gain_db = tf.random.stateless_uniform([], seed, -range_db, 0.0)
    return example * 10.0 ** (gain_db / 20.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How originals, splices and blackouts make up the training set.

    `fractions` are relative to the number of originals: (1, 1, 0.5) is the paper's 40/40/20.

    Attributes:
        fractions: shares of originals, splices, blackouts, each in [0, 1].
        blackout_inclusive: blackouts may start at frame 64 as well.
        legacy_prefix: takes the *first* splices and blackouts instead of a random subset. Wrong
            because only the songs that come first in the folder are augmented.
    """

    fractions: tuple[float, float, float] = FRACTIONS["paper"]
    blackout_inclusive: bool = False
    legacy_prefix: bool = False

    def __post_init__(self) -> None:
        if len(self.fractions) != 3 or not all(0.0 <= f <= 1.0 for f in self.fractions):
            raise ConfigError(
                "`fractions` must be three shares (originals, splices, blackouts) in [0, 1]. "
                f"Received: fractions={self.fractions}"
            )

    def plan(self, song_ids: tf.Tensor, seed: tf.Tensor, n_frames: int) -> tf.Tensor:
        """Decides which examples are made of which segments; numbers exact, choice random.

        Args:
            song_ids: `(segments,)`, the song of each segment, in order of time. A splice joins
                segment i and i + 1 only where these are equal.
            seed: int32 `(2,)`.
            n_frames: frames of a segment.

        Returns:
            int32 `(examples, 3)`: kind (0 original, 1 splice, 2 blackout), segment and the first
            silent frame of a blackout, in random order (with `legacy_prefix` in order).
        """
        count = tf.shape(song_ids)[0]
        everything = tf.range(count)
        joinable = tf.cast(tf.where(song_ids[:-1] == song_ids[1:])[:, 0], tf.int32)
        parts = []
        for kind, share in enumerate(self.fractions):
            rows = joinable if kind == _SPLICE else everything
            wanted = tf.cast(tf.round(tf.cast(count, tf.float32) * share), tf.int32)
            if not self.legacy_prefix:
                rows = tf.random.experimental.stateless_shuffle(rows, _fold(seed, kind))
            rows = rows[:wanted]
            parts.append(tf.stack([tf.fill(tf.shape(rows), kind), rows], axis=1))
        plan = tf.concat(parts, 0)
        starts = blackout_starts(
            tf.shape(plan)[:1], _fold(seed, 4), n_frames // 2, inclusive=self.blackout_inclusive
        )
        plan = tf.concat([plan, starts[:, tf.newaxis]], 1)
        if self.legacy_prefix:
            return plan
        return tf.random.experimental.stateless_shuffle(plan, _fold(seed, 3))

    def make(self, segments: Segments, plan: tf.Tensor) -> Segments:
        """Makes examples of a plan.

        Args:
            segments: `(segments, frequency, time, channels)`, one tensor or a tuple; frequency,
                time and channels known.
            plan: rows of `plan`, `(3,)` or `(examples, 3)`.

        Returns:
            `(frequency, time, channels)` or `(examples, frequency, time, channels)`, one tensor
            or a tuple as `segments`.
        """
        kind, row, start = plan[..., 0], plan[..., 1], plan[..., 2]

        def make_one(x: tf.Tensor) -> tf.Tensor:
            width = x.shape[2] // 2
            # A blackout that ends before the first frame leaves the others as they are: cheaper
            # than a branch, as is the copy by index.
            silent_from = tf.where(kind == _BLACKOUT, start, -width)
            return blackout(_cut(x, row, kind == _SPLICE), silent_from, width)

        return tf.nest.map_structure(make_one, segments)

    def apply(
        self,
        segments: Segments,
        seed: tf.Tensor,
        song_ids: tf.Tensor | None = None,
        *,
        batch_size: int | None = None,
        then: Callable[..., Any] | None = None,
        num_parallel_calls: int | None = None,
    ) -> tf.data.Dataset:
        """The examples of one song (or of several, with `song_ids`) as a data set.

        Args:
            segments: `(segments, frequency, time, channels)`, in order of time; one tensor or a
                tuple; frequency, time and channels known.
            seed: int32 `(2,)`.
            song_ids: `(segments,)`; None when all are of one song.
            batch_size: examples that are made at once, which takes half the time of making and
                batching them one by one.
            then: what to map over the examples or batches, such as a scaler. As a step of its own
                it takes longer: the memory of large batches would not be used again.
            num_parallel_calls: as of `tf.data.Dataset.map`; the order stays the same.

        Returns:
            Dataset of what `then` returns; without it, of `(frequency, time, channels)` or, with
            `batch_size`, of batches of them, one tensor or a tuple as `segments`.
        """
        first = tf.nest.flatten(segments)[0]
        if song_ids is None:
            song_ids = tf.zeros(tf.shape(first)[:1], tf.int32)
        plan = tf.data.Dataset.from_tensor_slices(self.plan(song_ids, seed, first.shape[2]))
        if batch_size is not None:
            plan = plan.batch(batch_size)

        def make(rows: tf.Tensor) -> Any:
            made = self.make(segments, rows)
            if then is None:
                return made
            return then(*made) if isinstance(made, tuple) else then(made)

        return plan.map(make, num_parallel_calls)

    def count(self, n_segments: int) -> int:
        """Number of examples made of a song of `n_segments` segments."""
        original, spliced, blacked_out = (round(n_segments * share) for share in self.fractions)
        return original + min(spliced, max(n_segments - 1, 0)) + blacked_out


def _cut(segments: tf.Tensor, row: tf.Tensor, late: tf.Tensor) -> tf.Tensor:
    """Segment `row`, or the splice of it and its successor if `late`, by one copy.

    `row` and `late` are scalars, or `(...)` for segments `(..., frequency, time, channels)`. The
    splice is `splice(segments[row], segments[row + 1])`: the same number of frames, half a
    segment later. The copy moves half rows of the spectrogram (frames, if their number is odd).
    """
    n_bins, n_frames, n_channels = segments.shape[1:]
    half = n_frames // 2
    unit = half if n_frames % 2 == 0 and half else 1
    # Where the units of an example lie, counted from the segment's first.
    frames = np.arange(0, n_frames, unit)
    bins = np.arange(n_bins)[:, np.newaxis]
    offsets = []
    for shift in (0, half):
        following, frame = np.divmod(frames + shift, n_frames)
        offsets.append(((following * n_bins + bins) * n_frames + frame) // unit)
    here, later = (tf.constant(x.ravel(), tf.int32) for x in offsets)
    units = tf.reshape(segments, [-1, unit * n_channels])
    first = row[..., tf.newaxis] * (n_bins * n_frames // unit)
    examples = tf.gather(units, first + tf.where(late[..., tf.newaxis], later, here))
    shape = tf.concat([tf.shape(row), [n_bins, n_frames, n_channels]], 0)
    return tf.ensure_shape(tf.reshape(examples, shape), [*row.shape, n_bins, n_frames, n_channels])


def _fold(seed: tf.Tensor, number: tf.Tensor | int) -> tf.Tensor:
    """A new stateless seed from a seed and a number."""
    return tf.random.experimental.stateless_fold_in(seed, number)
