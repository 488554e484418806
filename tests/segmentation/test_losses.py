"""Loss and optimizer against transcriptions in NumPy and scikit-learn's log loss."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from tfspec.datasets.spectrum_sensing_images import IGNORE
from tfspec.errors import ConfigError
from tfspec.segmentation.losses import (
    IGNORE_LABEL,
    CrossEntropyDice,
    resize_to_labels,
)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cross_entropy(labels, logits, weights=None, ignore=255) -> float:
    """As `torch.nn.CrossEntropyLoss(weight, ignore_index)` is documented, pixel by pixel."""
    p = softmax(logits.astype(np.float64))
    above = below = 0.0
    for where in zip(*np.nonzero(labels != ignore), strict=True):
        label = labels[where]
        weight = 1.0 if weights is None else weights[label]
        above += -weight * np.log(p[where][label])
        below += weight
    return above / below


def dice(labels, logits, ignore=255, smooth=1.0) -> list[float]:
    """`d_c` of each class over the whole batch, from the specification's formula."""
    p = softmax(logits.astype(np.float64))[labels != ignore]
    found = labels[labels != ignore]
    return [
        (2 * p[found == c, c].sum() + smooth) / (p[:, c].sum() + np.sum(found == c) + smooth)
        for c in range(logits.shape[-1])
    ]


def example(rng, shape=(3, 6, 5), classes=4, ignored=0.2):
    labels = rng.integers(0, classes, shape)
    labels[rng.random(shape) < ignored] = 255
    return labels.astype(np.uint8), rng.normal(0, 2, (*shape, classes)).astype(np.float32)


def value(loss: CrossEntropyDice, labels, logits) -> float:
    return float(loss(labels, logits))


def test_sum_of_cross_entropy_and_dice(rng):
    labels, logits = example(rng)
    expected = cross_entropy(labels, logits), 1 - np.mean(dice(labels, logits))
    # float32 sums of a hundred values.
    assert value(CrossEntropyDice(1, 0), labels, logits) == pytest.approx(expected[0], rel=1e-5)
    assert value(CrossEntropyDice(0, 1), labels, logits) == pytest.approx(expected[1], rel=1e-5)
    total = 0.5 * expected[0] + 2 * expected[1]
    assert value(CrossEntropyDice(0.5, 2), labels, logits) == pytest.approx(total, rel=1e-5)


def test_cross_entropy_is_scikit_learns_log_loss(rng):
    labels, logits = example(rng, ignored=0.0)
    p = softmax(logits.astype(np.float64)).reshape(-1, 4)
    expected = log_loss(labels.ravel(), p, labels=range(4))
    assert value(CrossEntropyDice(1, 0), labels, logits) == pytest.approx(expected, rel=1e-5)


def test_class_weights(rng):
    labels, logits = example(rng)
    weights = (0.5, 1.0, 2.0, 4.0)
    ce = CrossEntropyDice(1, 0, class_weights=weights)
    expected = cross_entropy(labels, logits, weights)
    assert value(ce, labels, logits) == pytest.approx(expected, rel=1e-5)
    only_dice = CrossEntropyDice(0, 1, class_weights=weights)
    expected = 1 - np.average(dice(labels, logits), weights=weights)
    assert value(only_dice, labels, logits) == pytest.approx(expected, rel=1e-5)


def test_dice_takes_classes_over_the_batch_not_per_image():
    # Image 0 is all class 0 and right, image 1 all class 1 and wrong. Over the batch:
    # d_0 = (2*4 + 1) / (8 + 4 + 1), d_1 = (0 + 1) / (0 + 4 + 1); per image it would be 0.55.
    labels = np.repeat([0, 1], 4).reshape(2, 2, 2)
    logits = np.zeros((2, 2, 2, 2), np.float32)
    logits[..., 0] = 60.0
    loss = value(CrossEntropyDice(0, 1), labels, logits)
    assert loss == pytest.approx(1 - (9 / 13 + 1 / 5) / 2, abs=1e-6)


def test_dice_of_right_and_of_wrong_everywhere(rng):
    labels, _ = example(rng, (2, 32, 32), 3, ignored=0.0)
    right = 100.0 * np.eye(3, dtype=np.float32)[labels]
    assert value(CrossEntropyDice(0, 1), labels, right) == pytest.approx(0.0, abs=1e-6)
    # Each d_c is 1 / (some 1400 pixels + 1).
    wrong = 100.0 * np.eye(3, dtype=np.float32)[(labels + 1) % 3]
    assert value(CrossEntropyDice(0, 1), labels, wrong) == pytest.approx(1.0, abs=1e-3)
    # Cross-entropy of a wrong pixel is the distance of its logits.
    assert value(CrossEntropyDice(1, 0), labels, wrong) == pytest.approx(100.0, rel=1e-6)


def test_ignored_pixels_have_no_gradient(rng):
    import tensorflow as tf

    labels, logits = example(rng)
    logits = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = CrossEntropyDice()(labels, logits)
    gradient = tape.gradient(loss, logits).numpy()
    np.testing.assert_array_equal(gradient[labels == 255], 0.0)
    assert (np.abs(gradient[labels != 255]).max(axis=-1) > 0).all()


def test_nothing_but_ignored_pixels(rng):
    logits = rng.normal(size=(1, 4, 4, 3)).astype(np.float32)
    assert value(CrossEntropyDice(), np.full((1, 4, 4), 255), logits) == 0.0


@pytest.mark.parametrize(("label", "ignore"), [(3, 255), (-1, 255), (254, 255), (255, None)])
def test_label_that_is_no_class_makes_the_loss_nan(rng, label, ignore):
    labels, logits = example(rng, classes=3, ignored=0.0)
    labels = labels.astype(np.int32)
    loss = CrossEntropyDice(ignore_label=ignore)
    assert np.isfinite(value(loss, labels, logits))
    labels[1, 2, 3] = label
    assert np.isnan(value(loss, labels, logits))


def test_ignore_label_is_the_data_sets():
    assert CrossEntropyDice().ignore_label == IGNORE_LABEL == IGNORE


def test_another_ignore_label(rng):
    labels, logits = example(rng)
    expected = value(CrossEntropyDice(), labels, logits)
    renamed = np.where(labels == 255, -1, labels.astype(int))
    assert value(CrossEntropyDice(ignore_label=-1), renamed, logits) == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32])
def test_labels_in_any_type_and_with_a_channel(rng, dtype):
    labels, logits = example(rng)
    expected = value(CrossEntropyDice(), labels, logits)
    assert value(CrossEntropyDice(), labels.astype(dtype)[..., np.newaxis], logits) == expected


@settings(max_examples=30, deadline=None)
@given(
    classes=st.integers(2, 6),
    size=st.integers(1, 6),
    level=st.sampled_from([1e-3, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_loss_is_finite_not_negative_and_blind_to_a_constant(classes, size, level, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (2, size, size))
    logits = (level * rng.normal(size=(2, size, size, classes))).astype(np.float32)
    loss = value(CrossEntropyDice(), labels, logits)
    assert np.isfinite(loss) and loss >= 0
    shifted = value(CrossEntropyDice(), labels, logits + np.float32(level))
    # Adding the constant rounds the logits themselves by 1e-7 of the level.
    assert shifted == pytest.approx(loss, rel=1e-4, abs=1e-5 * level)


def test_smaller_logits_are_interpolated_between_pixel_centres():
    small = np.zeros((1, 2, 2, 1), np.float32)
    small[0, :, :, 0] = [[0.0, 1.0], [2.0, 3.0]]
    large = np.asarray(resize_to_labels(small, np.zeros((1, 4, 4))))[0, :, :, 0]
    # Half-pixel centres: positions -0.25, 0.25, 0.75, 1.25, clamped to [0, 1].
    steps = np.array([0.0, 0.25, 0.75, 1.0])
    np.testing.assert_allclose(large, steps + 2 * steps[:, np.newaxis], atol=1e-6)
    labels = np.zeros((1, 4, 4, 1), np.uint8)
    both = np.stack([large, -large], axis=-1)[np.newaxis]
    halved = np.concatenate([small, -small], axis=-1)
    assert value(CrossEntropyDice(), labels, halved) == pytest.approx(
        value(CrossEntropyDice(), labels, both), rel=1e-6
    )


def test_labels_smaller_than_the_logits_are_refused():
    with pytest.raises(ConfigError, match=r"\(8, 8\) or a multiple.*Received: \(12, 8\)"):
        CrossEntropyDice()(np.zeros((1, 12, 8)), np.zeros((1, 8, 8, 3), np.float32))


def test_loss_comes_back_from_its_configuration(rng):
    loss = CrossEntropyDice(0.5, 2.0, class_weights=[1, 2, 3, 4], ignore_label=7, smooth=0.1)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    labels, logits = example(rng, ignored=0.0)
    labels[0, 0] = 7
    assert value(again, labels, logits) == value(loss, labels, logits)
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cross_entropy": -1.0}, "cross_entropy=-1.0"),
        ({"cross_entropy": 0.0, "dice": 0.0}, "both be 0"),
        ({"dice": float("nan")}, "dice=nan"),
        ({"class_weights": (1.0, 0.0)}, "class_weights="),
        ({"smooth": 0.0}, "smooth=0.0"),
    ],
)
def test_bad_arguments_of_the_loss(arguments, message):
    with pytest.raises(ConfigError, match=message):
        CrossEntropyDice(**arguments)


def test_weights_that_do_not_fit(rng):
    labels, logits = example(rng)
    with pytest.raises(ConfigError, match="each of the 4 classes"):
        CrossEntropyDice(class_weights=(1, 2, 3))(labels, logits)
    with pytest.raises(ConfigError, match="sample_weight"):
        CrossEntropyDice()(labels, logits, sample_weight=np.ones(3))
