"""Exact quantiles along the first axis, fast enough for an input pipeline.

`tf.sort` sorts indices through a comparison function and is what a robust scaler would spend its
time in. In a graph, quantiles are therefore found by bisection over the bit patterns of the
values: 32 passes that count, which XLA compiles into vector instructions. Both ways return
elements of the input, so they agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# Counts of three quantiles share one int32, which makes one reduction of three.
_COUNT_BITS = 10
_PACKED = 3
# Fewer values are sorted quickly, and their many shapes would each be compiled.
_COMPILED_SIZES = range(64, 1 << _COUNT_BITS)


def percentiles(x: tf.Tensor, wanted: Sequence[float]) -> list[tf.Tensor]:
    """Percentiles over the first axis with NumPy's linear interpolation.

    Compiled by XLA, once per shape, where `x` is a float32 tensor of a graph with 64 to 1023
    values per percentile and at most three percentiles are wanted; sorted otherwise, in eager
    mode above all, where the compilation of about a second would not pay.

    Args:
        x: finite float32 or float64 `(values, ...)`.
        wanted: percentiles, each in [0, 100].

    Returns:
        One float64 tensor `(...)` per percentile.
    """
    size = x.shape[0]
    compiled = (
        not tf.executing_eagerly()
        and x.dtype == tf.float32
        and size in _COMPILED_SIZES
        and len(wanted) <= _PACKED
    )
    if not compiled:
        ordered = tf.sort(x, axis=0)
        last = tf.cast(tf.shape(x)[0] - 1, tf.float64) if size is None else np.float64(size - 1)
        return [_interpolate(ordered, percentile / 100.0 * last) for percentile in wanted]
    positions = [percentile / 100.0 * (size - 1) for percentile in wanted]
    # The last value has none after it: it is the one that follows the last but one.
    ranks = tuple(min(int(position), size - 2) for position in positions)
    lower, upper = _select(x, ranks)
    return [
        _between(lower[i], upper[i], position - rank)
        for i, (position, rank) in enumerate(zip(positions, ranks, strict=True))
    ]


def select_by_bisection(x: tf.Tensor, ranks: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    """Values of some ranks, and those that follow them, without sorting.

    Each pass decides one bit of every wanted value: the bit is set if no more values than the
    rank are below the pattern with it set.

    Args:
        x: finite float32 `(values, ...)`, 2 to 1023 values.
        ranks: at most three ranks, from 0 (the smallest value) to `values - 2`.

    Returns:
        Two `(ranks, ...)` tensors: the values at the ranks, and at the ranks plus 1.
    """
    keys = _flip_negative(tf.bitcast(x, tf.int32))

    def counts(limits: list[tf.Tensor]) -> list[tf.Tensor]:
        """How many keys are below each limit."""
        word = tf.add_n(
            [tf.where(keys < limit, 1 << _COUNT_BITS * i, 0) for i, limit in enumerate(limits)]
        )
        word = tf.reduce_sum(word, axis=0)
        shifted = [tf.bitwise.right_shift(word, _COUNT_BITS * i) for i in range(len(limits))]
        return [tf.bitwise.bitwise_and(part, (1 << _COUNT_BITS) - 1) for part in shifted]

    def decide_bit(bit: tf.Tensor, found: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        # Starting at the smallest int32, adding 1 << 31 wraps to 0: the sign is a bit as well.
        raised = [key + tf.bitwise.left_shift(1, bit) for key in found]
        below = zip(counts(raised), ranks, raised, found, strict=True)
        return bit - 1, [tf.where(n <= rank, high, low) for n, rank, high, low in below]

    lowest = tf.fill(tf.shape(keys)[1:], tf.int32.min)
    _, found = tf.while_loop(
        lambda bit, _: bit >= 0, decide_bit, (tf.constant(31), [lowest] * len(ranks))
    )
    above = [tf.reduce_min(tf.where(keys > key, keys, tf.int32.max), axis=0) for key in found]
    # The value at the rank follows itself where it occurs again.
    not_above = zip(counts([key + 1 for key in found]), ranks, found, above, strict=True)
    following = [tf.where(n > rank + 1, key, next_) for n, rank, key, next_ in not_above]
    lower, upper = (_flip_negative(tf.stack(part)) for part in (found, following))
    return tf.bitcast(lower, tf.float32), tf.bitcast(upper, tf.float32)


_select = tf.function(select_by_bisection, jit_compile=True, reduce_retracing=False)


def _flip_negative(bits: tf.Tensor) -> tf.Tensor:
    """Float32 bit patterns as int32 of the same order, and back: it is its own inverse."""
    magnitude_bits = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, 31), tf.int32.max)
    return tf.bitwise.bitwise_xor(bits, magnitude_bits)


def _interpolate(ordered: tf.Tensor, position: tf.Tensor | np.float64) -> tf.Tensor:
    """Value at a fractional position of values sorted along the first axis."""
    whole = tf.floor(position)
    index = tf.cast(whole, tf.int32)
    following = tf.minimum(index + 1, tf.shape(ordered)[0] - 1)
    return _between(ordered[index], ordered[following], position - whole)


def _between(lower: tf.Tensor, upper: tf.Tensor, weight: tf.Tensor | float) -> tf.Tensor:
    """Linear interpolation in float64, as NumPy does it between float32 values too."""
    lower, upper = tf.cast(lower, tf.float64), tf.cast(upper, tf.float64)
    return lower + (upper - lower) * weight
