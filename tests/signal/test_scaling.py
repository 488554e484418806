"""Scalers: against scikit-learn, with constant rows, in tf.data, and backwards."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler

from tfspec.errors import ConfigError
from tfspec.signal.scaling import SCALER_AXES, SCALER_KINDS, Scaler, ScalerState

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
REFERENCES = {"max": MaxAbsScaler, "minmax": MinMaxScaler, "robust": RobustScaler}
EVERY = [(kind, axis) for kind in SCALER_KINDS for axis in SCALER_AXES]
# Of the value's own size; scikit-learn computes in float32 too, in another order.
TOLERANCE = 1e-5


def rows_of(x: np.ndarray, axis: str) -> np.ndarray:
    """One channel (frequency, time) as scikit-learn's (samples, features)."""
    return {"frequency": x.T, "time": x, "segment": x.reshape(-1, 1)}[axis]


def sklearn_transform(kind: str, axis: str, mixture: np.ndarray, *xs: np.ndarray) -> list:
    """The reference, channel by channel, for (frequency, time, channels) arrays."""
    outputs = [np.empty_like(x) for x in xs]
    for c in range(mixture.shape[-1]):
        scaler = REFERENCES[kind]().fit(rows_of(mixture[..., c], axis))
        for x, output in zip(xs, outputs, strict=True):
            scaled = scaler.transform(rows_of(x[..., c], axis))
            output[..., c] = scaled.T if axis == "frequency" else scaled.reshape(x.shape[:2])
    return outputs


def assert_close_to_reference(
    value: tf.Tensor, expected: np.ndarray, x: np.ndarray, state: ScalerState
) -> None:
    # (x - center) / scale cannot be more exact than its operands: 1e-5 of their size.
    size = (np.abs(x) + np.abs(state.center)) / np.abs(state.scale) + 1.0
    assert np.max(np.abs(value.numpy() - expected) / size) < TOLERANCE


@st.composite
def spectrograms(draw: st.DrawFn) -> np.ndarray:
    """Magnitudes with loud, quiet, constant and silent rows and columns."""
    bins, frames, channels = (draw(st.integers(1, top)) for top in (12, 40, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.exponential(size=(bins, frames, channels)) * 10 ** draw(st.floats(-3, 3))
    if draw(st.booleans()):  # many equal values: a zero interquartile range beside a full range
        x[rng.uniform(size=x.shape) < draw(st.floats(0, 1))] = draw(st.sampled_from([0.0, 1.5]))
    x[rng.uniform(size=bins) < draw(st.floats(0, 0.6))] = draw(st.floats(0, 100))
    x[:, rng.uniform(size=frames) < draw(st.floats(0, 0.6))] = draw(st.floats(0, 100))
    x = x.astype(np.float32)
    x[x < 1e-4] = 0  # keep scales clear of the 10 eps rule, which has its own test
    return x


@pytest.mark.parametrize(("kind", "axis"), EVERY)
@QUICK
@given(mixture=spectrograms(), seed=st.integers(0, 99))
def test_agrees_with_scikit_learn(kind: str, axis: str, mixture: np.ndarray, seed: int) -> None:
    target = mixture * np.random.default_rng(seed).uniform(size=mixture.shape).astype(np.float32)
    scaler = Scaler(kind=kind, axis=axis)
    scaled_mixture, scaled_target, state = scaler.fit_transform(mixture, target)
    expected = sklearn_transform(kind, axis, mixture, mixture, target)
    assert_close_to_reference(scaled_mixture, expected[0], mixture, state)
    assert_close_to_reference(scaled_target, expected[1], target, state)
    for x, scaled in ((mixture, scaled_mixture), (target, scaled_target)):
        size = np.abs(x) + np.abs(state.center) + np.finfo(np.float32).tiny
        assert np.max(np.abs(scaler.inverse(scaled, state) - x) / size) < TOLERANCE


@pytest.mark.parametrize("axis", SCALER_AXES)
@QUICK
@given(mixture=spectrograms(), low=st.floats(0, 49), high=st.floats(51, 100))
def test_percentiles_equal_numpy(axis: str, mixture: np.ndarray, low: float, high: float) -> None:
    state = Scaler(kind="robust", axis=axis, quantile_range=(low, high)).fit(mixture)
    reduced = {"frequency": 1, "time": 0, "segment": (0, 1)}[axis]
    percentiles = np.percentile(mixture.astype(np.float64), [low, 50, high], reduced, keepdims=True)
    value_range = percentiles[2] - percentiles[0]
    peak = np.max(mixture, initial=1e-4)
    np.testing.assert_allclose(state.center, percentiles[1], rtol=1e-5, atol=1e-6 * peak)
    regular = value_range > 1e-5 * peak  # below, rounding decides which side of 10 eps it is
    np.testing.assert_allclose(
        state.scale.numpy()[regular], value_range[regular], rtol=1e-4, atol=1e-6 * peak
    )


@pytest.mark.parametrize(
    ("kind", "eps"),
    # RobustScaler takes float32 input's percentiles, and so its rule, in float64.
    [("minmax", np.finfo(np.float32).eps), ("robust", np.finfo(np.float64).eps)],
)
def test_zero_range_rule_is_scikit_learns(kind: str, eps: float) -> None:
    widths = np.asarray([0.0, 5.0, 9.9, 10.1, 19.8, 20.2, 100.0])
    mixture = (widths[:, None] * eps * np.linspace(0, 1, 5)).astype(np.float32)[..., None]
    scaled, state = Scaler(kind=kind).fit_transform(mixture)
    (expected,) = sklearn_transform(kind, "frequency", mixture, mixture)
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-6)
    # The interquartile range of an even row is half its width.
    value_range = widths if kind == "minmax" else widths / 2
    assert (state.scale.numpy().ravel() == 1.0).tolist() == (value_range < 10).tolist()


def test_rule_follows_the_type() -> None:
    mixture = np.linspace(0, 1e-9, 5)[None, :, None]
    assert Scaler(kind="minmax").fit(mixture).scale.dtype == tf.float64
    assert Scaler(kind="minmax").fit(mixture).scale.numpy().item() == pytest.approx(1e-9)
    assert Scaler(kind="minmax").fit(mixture.astype(np.float32)).scale.numpy().item() == 1.0


def test_max_scaler_leaves_silent_bins_untouched() -> None:
    mixture = np.zeros((3, 4, 1), np.float32)
    mixture[1] = 1e-10  # scikit-learn would call this zero; the original code divides by it
    mixture[2] = 1e-42  # subnormal: TensorFlow flushes it to 0, so it must count as 0
    target = np.full((3, 4, 1), 0.5, np.float32)
    scaler = Scaler(kind="max")
    scaled, scaled_target, state = scaler.fit_transform(mixture, target)
    assert state.scale.numpy().ravel().tolist() == [1.0, np.float32(1e-10), 1.0]
    np.testing.assert_array_equal(scaled[0], mixture[0])
    np.testing.assert_allclose(scaled[1], 1.0)
    np.testing.assert_array_equal(scaled_target[0], target[0])
    assert np.all(np.isfinite(scaled_target))
    np.testing.assert_allclose(scaler.inverse(scaled_target, state), target, rtol=1e-6)


def test_statistics_come_from_the_mixture_alone() -> None:
    mixture = np.asarray([[1.0, 2.0, 4.0]], np.float32)[..., None]
    target = np.asarray([[8.0, 0.0, 2.0]], np.float32)[..., None]
    _, scaled, state = Scaler(kind="max").fit_transform(mixture, target)
    assert scaled.numpy().ravel().tolist() == [2.0, 0.0, 0.5]  # targets may exceed 1
    _, scaled, _ = Scaler(kind="minmax").fit_transform(mixture, target)
    np.testing.assert_allclose(scaled.numpy().ravel(), [7 / 3, -1 / 3, 1 / 3], rtol=1e-6)
    assert state.center.numpy().item() == 0.0


@pytest.mark.parametrize(("kind", "axis"), EVERY)
def test_batch_equals_examples_and_round_trips(
    kind: str, axis: str, rng: np.random.Generator
) -> None:
    mixture = rng.exponential(size=(4, 16, 9, 2)).astype(np.float32)
    mixture[1, 3], mixture[2] = 0.0, 2.5  # one silent bin; one example that is constant
    target = (mixture * rng.uniform(size=mixture.shape)).astype(np.float32)
    scaler = Scaler(kind=kind, axis=axis)
    scaled, scaled_target, state = scaler.fit_transform(mixture, target)
    shape = {"frequency": (4, 16, 1, 2), "time": (4, 1, 9, 2), "segment": (4, 1, 1, 2)}[axis]
    assert tuple(state.scale.shape) == tuple(state.center.shape) == shape
    for i in range(4):
        one, one_target, _ = scaler.fit_transform(mixture[i], target[i])
        np.testing.assert_array_equal(scaled[i], one)
        np.testing.assert_array_equal(scaled_target[i], one_target)
    np.testing.assert_allclose(scaler.inverse(scaled, state), mixture, atol=1e-5)
    np.testing.assert_allclose(scaler.inverse(scaled_target, state), target, atol=1e-5)


@pytest.mark.parametrize(("kind", "axis"), EVERY)
@pytest.mark.parametrize("signature", [(16, 9, 2), (None, None, None)])
@pytest.mark.parametrize("batched", [False, True])
def test_runs_in_tf_data(
    kind: str, axis: str, signature: tuple, batched: bool, rng: np.random.Generator
) -> None:
    mixture = rng.exponential(size=(5, 16, 9, 2)).astype(np.float32)
    scaler = Scaler(kind=kind, axis=axis)
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(mixture), output_signature=tf.TensorSpec(signature, tf.float32)
    )
    if batched:
        dataset = dataset.batch(5)

    def scale(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scaled, target, state = scaler.fit_transform(x, 0.5 * x)
        return scaled, scaler.inverse(target, state)

    results = list(dataset.map(scale))
    expected = scaler.transform(mixture, scaler.fit(mixture)).numpy()
    scaled = np.concatenate([np.reshape(r[0], (-1, 16, 9, 2)) for r in results])
    restored = np.concatenate([np.reshape(r[1], (-1, 16, 9, 2)) for r in results])
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(restored, 0.5 * mixture, atol=1e-5)


def test_static_shape_is_kept_in_graphs() -> None:
    for kind, axis in EVERY:
        scaler = Scaler(kind=kind, axis=axis)
        spec = tf.TensorSpec([None, 512, 128, 1])
        dataset = tf.data.Dataset.from_generator(tuple, output_signature=spec)
        scaled, state = dataset.map(scaler.fit_transform).element_spec
        assert scaled.shape.as_list() == [None, 512, 128, 1]
        expected = {"frequency": [512, 1, 1], "time": [1, 128, 1], "segment": [1, 1, 1]}[axis]
        assert state.scale.shape.as_list() == state.center.shape.as_list() == [None, *expected]


def test_one_value_per_statistic() -> None:
    mixture = np.full((2, 1, 1), 3.0, np.float32)
    for kind, axis in EVERY:
        scaler = Scaler(kind=kind, axis=axis)
        scaled, state = scaler.fit_transform(mixture)
        np.testing.assert_allclose(scaler.inverse(scaled, state), mixture, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"kind": "min_max"},
            r"`kind` must be one of \['max', 'minmax', 'robust'\]\. Received: kind='min_max'",
        ),
        (
            {"axis": "freq"},
            r"`axis` must be one of \['frequency', 'time', 'segment'\]\. Received: axis='freq'",
        ),
        ({"axis": 1}, r"`axis` must be one of .*axis=1"),
        ({"quantile_range": (75, 25)}, r"two increasing percentiles.*\(75, 25\)"),
        ({"quantile_range": 50}, r"two increasing percentiles.*quantile_range=50"),
        ({"quantile_range": (25, 101)}, r"two increasing percentiles.*\(25, 101\)"),
    ],
)
def test_config_rejects(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        Scaler(**values)
    assert "\n" not in str(error.value)


def test_scaler_is_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="kind"):
        Scaler().kind = "robust"  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        Scaler("max")  # type: ignore[misc]
    assert Scaler(quantile_range=[25, 75]) == Scaler()  # type: ignore[arg-type]


def test_bad_tensors_are_named() -> None:
    with pytest.raises(ConfigError, match=r"`mixture` must be float32 .*float32 of shape \(4, 4\)"):
        Scaler().fit(np.zeros((4, 4), np.float32))
    with pytest.raises(ConfigError, match=r"`mixture` must be float32 or float64.*int32"):
        Scaler().fit(np.zeros((4, 4, 1), np.int32))
