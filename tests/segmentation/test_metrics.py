"""Scores against scikit-learn, boundaries against a search through all pairs of pixels."""

from __future__ import annotations

import itertools
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    jaccard_score,
    recall_score,
)

from tfspec.errors import ConfigError, DataError
from tfspec.segmentation.losses import CrossEntropyDice, resize_to_labels
from tfspec.segmentation.metrics import (
    ConfusionMatrix,
    Scores,
    boundary_f1,
    confusion_matrices,
    snr_curve,
)


def maps(rng, count=4, size=(9, 7), classes=3, ignored=0.2):
    """Labels with ignored pixels, and predictions that are right in most places."""
    labels = rng.integers(0, classes, (count, *size))
    wrong = rng.random(labels.shape) < 0.3
    predictions = np.where(wrong, rng.integers(0, classes, labels.shape), labels)
    labels[rng.random(labels.shape) < ignored] = 255
    return labels.astype(np.uint8), predictions


def kept(labels, predictions):
    """What scikit-learn is given: the pixels that count, in one row."""
    return labels[labels != 255].ravel(), predictions[labels != 255].ravel()


def test_matrices_are_scikit_learns(rng):
    labels, predictions = maps(rng)
    matrices = confusion_matrices(labels, predictions, 3)
    assert (matrices.shape, matrices.dtype) == ((4, 3, 3), np.int64)
    for index in range(4):
        expected = confusion_matrix(*kept(labels[index], predictions[index]), labels=range(3))
        np.testing.assert_array_equal(matrices[index], expected)
    total = confusion_matrix(*kept(labels, predictions), labels=range(3))
    np.testing.assert_array_equal(matrices.sum(axis=0), total)


def test_scores_are_scikit_learns(rng):
    labels, predictions = maps(rng, classes=5)
    scores = Scores.of(confusion_matrices(labels, predictions, 5).sum(axis=0))
    pairs = kept(labels, predictions)
    assert scores.iou == pytest.approx(jaccard_score(*pairs, average=None))
    assert scores.mean_iou == pytest.approx(jaccard_score(*pairs, average="macro"))
    assert scores.pixel_acc == pytest.approx(accuracy_score(*pairs))
    assert scores.class_acc == pytest.approx(recall_score(*pairs, average=None))
    assert scores.mean_class_acc == pytest.approx(balanced_accuracy_score(*pairs))
    assert scores.pixels == len(pairs[0])


def test_scores_of_a_matrix_by_hand():
    scores = Scores.of(np.array([[50, 10, 0], [5, 20, 5], [0, 0, 10]]))
    assert scores.iou == pytest.approx((50 / 65, 20 / 40, 10 / 15))
    assert scores.mean_iou == pytest.approx((50 / 65 + 1 / 2 + 2 / 3) / 3)
    assert scores.pixel_acc == pytest.approx(0.8)
    assert scores.class_acc == pytest.approx((5 / 6, 2 / 3, 1.0))
    assert scores.mean_class_acc == pytest.approx((5 / 6 + 2 / 3 + 1) / 3)
    assert scores.pixels == 100


def test_classes_that_do_not_occur_are_left_out():
    # Class 2 is neither there nor predicted; class 1 is only predicted.
    scores = Scores.of(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]]))
    assert scores.iou[:2] == (0.75, 0.0) and math.isnan(scores.iou[2])
    assert scores.mean_iou == 0.375
    assert scores.class_acc[0] == 0.75 and all(math.isnan(x) for x in scores.class_acc[1:])
    assert scores.mean_class_acc == 0.75
    assert scores.to_dict(["a", "b", "c"]) == {
        "mean_iou": 0.375,
        "pixel_acc": 0.75,
        "mean_class_acc": 0.75,
        "classes": {
            "a": {"iou": 0.75, "acc": 0.75},
            "b": {"iou": 0.0, "acc": None},
            "c": {"iou": None, "acc": None},
        },
        "pixels": 4,
    }


def test_scores_of_nothing_are_undefined():
    scores = Scores.of(np.zeros((2, 2), int))
    values = (scores.mean_iou, scores.pixel_acc, scores.mean_class_acc)
    assert all(math.isnan(value) for value in values)


@settings(max_examples=50, deadline=None)
@given(classes=st.integers(2, 5), seed=st.integers(0, 999))
def test_scores_follow_the_renaming_of_classes(classes, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 4, (classes, classes))
    order = rng.permutation(classes)
    scores, renamed = Scores.of(matrix), Scores.of(matrix[np.ix_(order, order)])
    np.testing.assert_array_equal(renamed.iou, np.array(scores.iou)[order])
    for name in ("mean_iou", "pixel_acc", "mean_class_acc"):
        value = getattr(scores, name)
        assert getattr(renamed, name) == pytest.approx(value, nan_ok=True)
        assert math.isnan(value) or 0 <= value <= 1


# --- The Keras metric ---


def logits_of(predictions: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[predictions]


def test_metric_gives_the_scores_over_its_batches(rng):
    labels, predictions = maps(rng, count=7)
    metric = ConfusionMatrix(3)
    for start in (0, 3, 6):
        batch = slice(start, start + 3)
        metric.update_state(labels[batch], logits_of(predictions[batch], 3))
    matrix = confusion_matrices(labels, predictions, 3).sum(axis=0)
    np.testing.assert_array_equal(metric.matrix, matrix)
    scores, result = Scores.of(matrix), metric.result()
    expected = {f"iou_{c}": value for c, value in enumerate(scores.iou)}
    expected |= {n: getattr(scores, n) for n in ("mean_iou", "pixel_acc", "mean_class_acc")}
    assert set(result) == set(expected)
    for name, value in expected.items():
        assert float(result[name]) == pytest.approx(value, rel=1e-6)  # float32
    metric.reset_state()
    assert metric.matrix.sum() == 0
    assert math.isnan(float(metric.result()["mean_iou"]))


def test_metric_counts_beyond_what_float32_counts(rng):
    # 2**24 + 1 is no float32; a plain sum in float32 would stay at 2**24 for ever.
    metric = ConfusionMatrix(2, ignore_label=None)
    image = np.zeros((5, 2048, 2048), np.uint8)
    logits = np.zeros((5, 8, 8, 2), np.float32)
    logits[..., 0] = 1.0
    metric.update_state(image, logits)
    metric.update_state(image[:1, :8, :8], logits[:1])
    metric.update_state(np.ones((1, 1, 1)), logits[:1, :1, :1])
    np.testing.assert_array_equal(metric.matrix, [[5 * 2**22 + 64, 0], [1, 0]])
    assert float(metric.result()["iou_0"]) == pytest.approx(1.0, abs=1e-6)


def test_metric_interpolates_small_logits_as_the_loss_does(rng):
    logits = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 8, 10))
    metric = ConfusionMatrix(3)
    metric.update_state(labels[..., np.newaxis], logits)
    large = np.asarray(resize_to_labels(logits, labels))
    expected = confusion_matrices(labels, large.argmax(axis=-1), 3).sum(axis=0)
    np.testing.assert_array_equal(metric.matrix, expected)


def test_metric_in_fit_gives_a_column_for_each_score(rng):
    labels, _ = maps(rng, count=6, size=(4, 4))
    images = logits_of(np.where(labels == 255, 0, labels), 3)
    inputs = keras.Input((4, 4, 3))
    layer = keras.layers.Conv2D(3, 1)
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.eye(3)[np.newaxis, np.newaxis], np.zeros(3)])
    model.compile(keras.optimizers.SGD(1e-3), CrossEntropyDice(), metrics=[ConfusionMatrix(3)])
    history = model.fit(
        images, labels, batch_size=2, validation_data=(images, labels), verbose=0
    ).history
    names = {"mean_iou", "pixel_acc", "mean_class_acc", "iou_0", "iou_1", "iou_2"}
    assert set(history) == {"loss", "val_loss", *names, *(f"val_{name}" for name in names)}
    for name in names:  # the network hands on what is right
        assert history[name] == history[f"val_{name}"] == [1.0]


def test_metric_ignores_what_is_no_class(rng):
    labels, predictions = maps(rng, ignored=0.0)
    expected = confusion_matrices(labels, predictions, 3).sum(axis=0)
    odd, guess = np.array([[[3, 255, 254, -1]]]), np.zeros((1, 1, 4), int)
    metric = ConfusionMatrix(3)
    metric.update_state(labels, logits_of(predictions, 3))
    metric.update_state(odd, logits_of(guess, 3))
    np.testing.assert_array_equal(metric.matrix, expected)


def test_metric_with_a_class_as_ignore_label(rng):
    labels, predictions = maps(rng, ignored=0.0)
    metric = ConfusionMatrix(3, ignore_label=1)
    metric.update_state(labels, logits_of(predictions, 3))
    expected = confusion_matrices(labels, predictions, 3, ignore_label=1).sum(axis=0)
    np.testing.assert_array_equal(metric.matrix, expected)
    assert expected[1].sum() == 0 and expected[0].sum() > 0


def test_metric_comes_back_from_its_configuration():
    metric = ConfusionMatrix(4, ignore_label=9, name="scores")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert isinstance(again, ConfusionMatrix)
    assert again.get_config() == metric.get_config()
    assert (again.n_classes, again.ignore_label, again.name) == (4, 9, "scores")


def test_metric_refuses_what_does_not_fit(rng):
    with pytest.raises(ConfigError, match="n_classes=1"):
        ConfusionMatrix(1)
    with pytest.raises(ConfigError, match=r"of 3 classes. Received: shape \(1, 4, 4, 2\)"):
        ConfusionMatrix(3).update_state(np.zeros((1, 4, 4)), np.zeros((1, 4, 4, 2)))


# --- Boundaries ---


def edges_by_search(classes: np.ndarray, counted: np.ndarray, c: int) -> list[tuple[int, int]]:
    """Pixels of class c with a neighbour up, down, left or right in another class."""
    height, width = classes.shape
    found = []
    for i, j in itertools.product(range(height), range(width)):
        for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            inside = 0 <= k < height and 0 <= m < width
            here = classes[i, j] == c and counted[i, j]
            if here and inside and counted[k, m] and classes[k, m] != c:
                found.append((i, j))
                break
    return found


def f1_by_search(label, prediction, c: int, tolerance: float) -> float:
    counted = label != 255
    true, guess = (edges_by_search(m, counted, c) for m in (label, prediction))
    if not true and not guess:
        return math.nan

    def near(here, there):
        close = [any(math.dist(a, b) <= tolerance for b in there) for a in here]
        return sum(close) / len(close) if close else 0.0

    precision, recall = near(guess, true), near(true, guess)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blocks(rng, count=3, size=(11, 9), ignored=0.05):
    """Label maps of a few rectangles, and the same moved by a pixel here and there."""
    labels = np.zeros((count, *size), int)
    predictions = labels.copy()
    for index in range(count):
        for c in (1, 2, 1):
            i, j = rng.integers(0, size[0] - 3), rng.integers(0, size[1] - 3)
            labels[index, i : i + 4, j : j + 5] = c
            di, dj = rng.integers(0, 3, 2)
            predictions[index, i + di : i + 4, j : j + 4 + dj] = c
    labels[rng.random(labels.shape) < ignored] = 255
    return labels, predictions


@settings(max_examples=40, deadline=None)
@given(tolerance=st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0]), seed=st.integers(0, 999))
def test_boundary_f1_is_that_of_a_search(tolerance, seed):
    labels, predictions = blocks(np.random.default_rng(seed))
    scores = boundary_f1(labels, predictions, 3, tolerance=tolerance)
    expected = [
        [f1_by_search(label, prediction, c, tolerance) for c in range(3)]
        for label, prediction in zip(labels, predictions, strict=True)
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


@pytest.mark.parametrize(("shift", "tolerance", "f1"), [(0, 0, 1), (2, 2, 1), (3, 2, 0), (1, 0, 0)])
def test_boundary_f1_of_a_moved_edge(shift, tolerance, f1):
    labels = np.zeros((1, 8, 20), int)
    labels[:, :, 10:] = 1
    predictions = np.roll(labels, shift, axis=2)
    predictions[:, :, :5] = 0
    scores = boundary_f1(labels, predictions, 3, tolerance=tolerance)
    np.testing.assert_array_equal(scores, [[f1, f1, np.nan]])  # class 2 is nowhere


def test_boundary_f1_of_an_edge_that_is_not_there():
    flat, edge = np.zeros((1, 8, 8), int), np.zeros((1, 8, 8), int)
    edge[:, :, 4:] = 1
    for labels, predictions in ((flat, edge), (edge, flat)):
        np.testing.assert_array_equal(boundary_f1(labels, predictions, 2), [[0.0, 0.0]])
    np.testing.assert_array_equal(boundary_f1(flat, flat, 2), [[np.nan, np.nan]])


# --- SNR ---


def test_curve_groups_by_snr():
    matrices = np.array([np.diag([n, n]) + (2**n) * np.eye(2)[::-1] for n in range(1, 7)], int)
    snr_db = [-10.0, 4.9, 0.0, 40.0, 5.0, -3.0]
    curve = snr_curve(matrices, snr_db, [-10, 0, 5, 20, 40])
    groups = [(-10, 0, [0, 5]), (0, 5, [1, 2]), (5, 20, [4]), (20, 40, [3])]
    assert len(curve) == len(groups)
    for found, (low, high, members) in zip(curve, groups, strict=True):
        assert (found.low_db, found.high_db, found.examples) == (low, high, len(members))
        np.testing.assert_array_equal(found.matrix, matrices[members].sum(axis=0))
        assert found.scores == Scores.of(matrices[members].sum(axis=0))


def test_examples_without_signal_are_a_range_of_their_own():
    matrices = np.array([np.diag([n, n]) for n in (1, 2, 4, 8)])
    *ranges, silent = snr_curve(matrices, [np.nan, 3.0, -np.inf, 12.0], [0, 10, 20])
    assert [(r.low_db, r.examples) for r in ranges] == [(0, 1), (10, 1)]
    assert math.isnan(silent.low_db) and math.isnan(silent.high_db)
    np.testing.assert_array_equal(silent.matrix, np.diag([5, 5]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(1, 30))
def test_every_example_is_in_one_range(seed, count):
    rng = np.random.default_rng(seed)
    matrices = rng.integers(1, 9, (count, 3, 3))
    curve = snr_curve(matrices, rng.uniform(-10, 40, count), np.arange(-10, 41, 5))
    assert sum(r.examples for r in curve) == count
    np.testing.assert_array_equal(sum(r.matrix for r in curve), matrices.sum(axis=0))


@pytest.mark.parametrize(
    ("snr_db", "edges", "error", "message"),
    [
        ([0.0, 41.0], [0, 40], DataError, "0..40 dB. Received: 41 in example 1"),
        ([-11.0, 0.0], [-10, 40], DataError, "Received: -11 in example 0"),
        ([0.0, np.inf], [-10, 40], DataError, "Received: inf"),
        ([0.0], [0, 40], DataError, "same examples"),
        ([0.0, 1.0], [0], ConfigError, "rising"),
        ([0.0, 1.0], [0, 5, 5], ConfigError, "rising"),
    ],
)
def test_bad_snr(snr_db, edges, error, message):
    with pytest.raises(error, match=message):
        snr_curve(np.ones((2, 3, 3)), snr_db, edges)


@pytest.mark.parametrize("function", [confusion_matrices, boundary_f1])
@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        (np.zeros((1, 4, 4), int), np.zeros((1, 4, 5), int), r"\(1, 4, 4\) and \(1, 4, 5\)"),
        (np.zeros((4, 4), int), np.zeros((4, 4), int), "one shape"),
        (np.full((1, 2, 2), 3), np.zeros((1, 2, 2), int), "`labels` must be classes 0..2.*: 3"),
        (np.zeros((1, 2, 2), int), np.full((1, 2, 2), 255), "`predictions` must be classes"),
        (np.zeros((1, 2, 2), int), np.full((1, 2, 2), -1), "Received: -1 in image 0"),
        (np.zeros((1, 2, 2)), np.zeros((1, 2, 2), int), "`labels` must be integers"),
    ],
)
def test_bad_maps(function, labels, predictions, message):
    with pytest.raises(DataError, match=message):
        function(labels, predictions, 3)


def test_bad_tolerance_and_matrix():
    flat = np.zeros((1, 4, 4), int)
    with pytest.raises(ConfigError, match="tolerance=-1"):
        boundary_f1(flat, flat, 3, tolerance=-1)
    for matrix in (np.zeros((2, 3)), np.array([[1, -1], [0, 1]])):
        with pytest.raises(DataError, match="square matrix of counts"):
            Scores.of(matrix)
