"""Augmentation against SciPy's affine maps and NumPy's flips."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tfspec.errors import ConfigError
from tfspec.segmentation.augment import (
    Augmentation,
    affine,
    brightness_contrast,
    imagenet_normalize,
)

SEED = tf.constant([7, 3])


def example(rng, size=(13, 18), channels=2):
    """Values that tell where they came from, with labels 1..5 (0 is what comes in)."""
    image = rng.uniform(0.1, 1.0, (*size, channels)).astype(np.float32)
    return image, rng.integers(1, 6, size).astype(np.int32)


def affine_by_scipy(values, angle_deg, scale, shift, order):
    """Turns and magnifies about the centre, then shifts; zeros come in, sampled as pixels."""
    inverse, offset = inverse_map(values.shape, angle_deg, scale, shift)
    return ndimage.affine_transform(
        values.astype(np.float64), inverse, offset, order=order, mode="grid-constant"
    )


def inverse_map(shape, angle_deg, scale, shift):
    """Matrix and offset that lead from a pixel `(row, column)` to where it came from."""
    angle = math.radians(angle_deg)
    # In (row, column): a turn from rightwards to downwards, magnified.
    forward = scale * np.array(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    )
    inverse = np.linalg.inv(forward)
    centre = (np.array(shape) - 1) / 2
    return inverse, centre - inverse @ (centre + np.array([shift[1], shift[0]]))


def far_from_half_way(shape, angle_deg, scale, shift):
    """Which pixels come from places more than 1e-4 away from the middle between two pixels."""
    inverse, offset = inverse_map(shape, angle_deg, scale, shift)
    places = np.einsum("ij,jrc->irc", inverse, np.indices(shape)) + offset[:, None, None]
    return (np.abs(places % 1.0 - 0.5) > 1e-4).all(axis=0)


@settings(max_examples=60, deadline=None)
@given(
    angle=st.floats(-180, 180),
    scale=st.floats(0.5, 2.0),
    right=st.floats(-9, 9),
    down=st.floats(-9, 9),
    seed=st.integers(0, 99),
)
def test_affine_is_scipys(angle, scale, right, down, seed):
    image, labels = example(np.random.default_rng(seed))
    moved, moved_labels = affine(
        tf.constant(image),
        tf.constant(labels),
        angle_deg=angle,
        scale=scale,
        shift=(right, down),
        label_fill=0,
    )
    for channel in range(image.shape[-1]):
        expected = affine_by_scipy(image[..., channel], angle, scale, (right, down), 1)
        # Positions are float32 of the order of 20: rounding of 2e-6 pixels, slopes below 1.
        np.testing.assert_allclose(moved[..., channel], expected, atol=2e-5)
    expected = affine_by_scipy(labels, angle, scale, (right, down), 0)
    # Positions half-way between two pixels may be rounded to either one.
    stable = far_from_half_way(labels.shape, angle, scale, (right, down))
    np.testing.assert_array_equal(moved_labels.numpy()[stable], expected[stable])


def test_affine_labels_at_whole_steps_are_scipys(rng):
    """No position is half-way here, so that every pixel counts."""
    image, labels = example(rng, size=(13, 17))
    for angle, shift in ((90.0, (2.0, -3.0)), (0.0, (-4.0, 5.0)), (180.0, (0.0, 0.0))):
        _, moved = affine(
            tf.constant(image),
            tf.constant(labels),
            angle_deg=angle,
            scale=1.0,
            shift=shift,
            label_fill=0,
        )
        assert far_from_half_way(labels.shape, angle, 1.0, shift).all()
        np.testing.assert_array_equal(moved, affine_by_scipy(labels, angle, 1.0, shift, 0))


def test_affine_shifts_right_and_down_and_fills(rng):
    image, labels = example(rng)
    moved, moved_labels = affine(
        tf.constant(image),
        tf.constant(labels),
        angle_deg=0.0,
        scale=1.0,
        shift=(3.0, 2.0),
        label_fill=255,
    )
    np.testing.assert_array_equal(moved[2:, 3:], image[:-2, :-3])
    np.testing.assert_array_equal(moved_labels[2:, 3:], labels[:-2, :-3])
    outside = np.ones(labels.shape, bool)
    outside[2:, 3:] = False
    assert (moved.numpy()[outside] == 0).all()
    assert (moved_labels.numpy()[outside] == 255).all()


def test_affine_by_90_degrees_turns_from_right_to_down(rng):
    image, labels = example(rng, size=(8, 8))
    moved, moved_labels = affine(
        tf.constant(image),
        tf.constant(labels),
        angle_deg=90.0,
        scale=1.0,
        shift=(0.0, 0.0),
        label_fill=0,
    )
    # Clockwise to the eye, since rows go down.
    np.testing.assert_allclose(moved, np.rot90(image, -1), atol=1e-5)
    np.testing.assert_array_equal(moved_labels, np.rot90(labels, -1))


@settings(max_examples=30, deadline=None)
@given(brightness=st.floats(-0.2, 0.2), contrast=st.floats(0.8, 1.2))
def test_brightness_and_contrast_are_albumentations_formula(brightness, contrast):
    image = np.linspace(0, 1, 50, dtype=np.float32).reshape(5, 10, 1)
    changed = brightness_contrast(tf.constant(image), brightness=brightness, contrast=contrast)
    # RandomBrightnessContrast with brightness_by_max: img * alpha + beta * max, clipped.
    expected = [min(max(v * contrast + brightness * 1.0, 0.0), 1.0) for v in image.ravel().tolist()]
    np.testing.assert_allclose(changed.numpy().ravel(), expected, atol=1e-6)


def test_imagenet_normalisation():
    image = np.stack([np.full((2, 2), v, np.float32) for v in (0.485, 0.456, 1.0)], axis=-1)
    result = imagenet_normalize(tf.constant(image)).numpy()
    np.testing.assert_allclose(result[..., :2], 0.0, atol=1e-6)
    np.testing.assert_allclose(result[..., 2], (1.0 - 0.406) / 0.225, rtol=1e-6)
    with pytest.raises(ConfigError, match=r"3 channels.*\(4, 4, 1\)"):
        imagenet_normalize(tf.zeros((4, 4, 1)))


def test_off_by_default(rng):
    image, labels = example(rng)
    augmentation = Augmentation()
    assert augmentation.is_off and not Augmentation.paper().is_off
    image, labels = tf.constant(image), tf.constant(labels)
    result = augmentation.apply(image, labels, SEED)
    assert result[0] is image and result[1] is labels


@pytest.mark.parametrize(("option", "axis"), [("horizontal_flip", 1), ("vertical_flip", 0)])
def test_flips_turn_image_and_labels_together(rng, option, axis):
    image, labels = example(rng)
    apply = tf.function(Augmentation(**{option: 0.3}).apply)
    flipped = 0
    for number in range(1000):
        result, result_labels = apply(image, labels, tf.constant([number, 1]))
        turned = not np.array_equal(result, image)
        expected = (np.flip(image, axis), np.flip(labels, axis)) if turned else (image, labels)
        np.testing.assert_array_equal(result, expected[0])
        np.testing.assert_array_equal(result_labels, expected[1])
        flipped += turned
    # Binomial, standard deviation 14.5; five of these.
    assert abs(flipped - 300) < 73


def test_brightness_is_drawn_from_its_range_and_spares_the_labels(rng):
    image = tf.constant([[[0.5], [0.7]]])
    labels = tf.constant([[1, 2]])
    augmentation = Augmentation(brightness_contrast=0.5, brightness_limit=0.1, contrast_limit=0.2)
    apply = tf.function(augmentation.apply)
    drawn = []
    for number in range(600):
        result, result_labels = apply(image, labels, tf.constant([number, 1]))
        np.testing.assert_array_equal(result_labels, labels)
        first, second = result.numpy().ravel()
        contrast = (second - first) / 0.2
        drawn.append((contrast - 1.0, first - 0.5 * contrast))
    contrasts, brightnesses = np.array([d for d in drawn if abs(d[0]) > 1e-5]).T
    assert abs(len(contrasts) - 300) < 62  # standard deviation 12.2; five of these
    for values, limit in ((contrasts, 0.2), (brightnesses, 0.1)):
        # 300 uniform numbers leave more than 5 % at one end free with a probability of 2e-7.
        assert -limit - 1e-5 <= values.min() < -0.9 * limit
        assert 0.9 * limit < values.max() <= limit + 1e-5


def recovered(moved: np.ndarray) -> tuple[float, float, float, float]:
    """Scale, angle and shift of an affine map, from an image of its own coordinates."""
    inside = moved[..., 2] > 0.999
    rows, columns = np.nonzero(inside)
    source = moved[inside][:, :2]  # (column, row) from where each pixel came
    here = np.stack([columns, rows, np.ones(len(rows))], axis=1)
    matrix = np.linalg.lstsq(here, source, rcond=None)[0]  # (3, 2): source = here @ matrix
    inverse, offset = matrix[:2].T, matrix[2]
    forward = np.linalg.inv(inverse)
    centre = (np.array(moved.shape[1::-1]) - 1) / 2
    shift = forward @ (centre - offset) - centre
    scale = math.sqrt(np.linalg.det(forward))
    np.testing.assert_allclose(forward @ forward.T, scale**2 * np.eye(2), atol=1e-3)
    return scale, math.degrees(math.atan2(forward[1, 0], forward[0, 0])), *shift


def test_affine_is_drawn_from_its_ranges():
    size = (40, 60)
    column, row = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    image = np.stack([column, row, np.ones(size)], axis=-1).astype(np.float32)
    apply = tf.function(Augmentation(affine=0.5).apply)
    found = []
    for number in range(400):
        moved, _ = apply(image, row.astype(np.int32), tf.constant([number, 2]))
        if not np.array_equal(moved, image):
            found.append(recovered(moved.numpy()))
    assert abs(len(found) - 200) < 50  # standard deviation 10; five of these
    limits = ((0.8, 1.2), (-15, 15), (-6, 6), (-4, 4))
    for values, (low, high) in zip(np.array(found).T, limits, strict=True):
        span = high - low
        # 200 uniform numbers leave 8 % at one end free with a probability of 6e-8.
        assert low - 1e-3 * span <= values.min() < low + 0.08 * span
        assert high - 0.08 * span < values.max() <= high + 1e-3 * span


@pytest.mark.parametrize(("fill", "label"), [("background", 0), ("ignore", 9)])
def test_fill_of_the_labels(rng, fill, label):
    image, labels = example(rng)
    augmentation = Augmentation(
        affine=1.0, scale=(0.5, 0.5), rotate_deg=0, translate=0, fill=fill, ignore_label=9
    )
    result, result_labels = augmentation.apply(tf.constant(image), tf.constant(labels), SEED)
    assert set(np.unique(result_labels)) == {label, 1, 2, 3, 4, 5}
    assert (result_labels.numpy()[[0, -1]] == label).all()
    assert (result.numpy()[[0, -1]] == 0).all()


def test_labels_of_one_byte(rng):
    image, labels = example(rng)
    augmentation = Augmentation.paper(fill="ignore")
    for number in range(10):
        seed = tf.constant([number, 5])
        _, wide = augmentation.apply(tf.constant(image), tf.constant(labels), seed)
        _, narrow = augmentation.apply(
            tf.constant(image), tf.constant(labels.astype(np.uint8)), seed
        )
        assert narrow.dtype == tf.uint8
        np.testing.assert_array_equal(narrow, wide)


def test_seed_decides_everything(rng):
    image, labels = example(rng)
    augmentation = Augmentation.paper()
    data = tf.data.Dataset.range(40).map(
        lambda n: augmentation.apply(image, labels, tf.stack([n, 1])), num_parallel_calls=2
    )
    first, second = (list(data.as_numpy_iterator()) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    # Identity has a probability of .5 * .8 * .7 * .5 = 0.14: of 40, some 34 differ.
    assert len({one[0].tobytes() for one in first}) > 20
    assert data.element_spec[0].shape == image.shape
    assert data.element_spec[1].shape == labels.shape


def test_paper():
    augmentation = Augmentation.paper()
    probabilities = (
        augmentation.horizontal_flip,
        augmentation.vertical_flip,
        augmentation.brightness_contrast,
        augmentation.affine,
    )
    assert probabilities == (0.5, 0.2, 0.3, 0.5)
    limits = (augmentation.translate, augmentation.scale, augmentation.rotate_deg)
    assert limits == (0.1, (0.8, 1.2), 15.0)
    assert (augmentation.brightness_limit, augmentation.contrast_limit) == (0.2, 0.2)
    assert augmentation.fill == "background"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizontal_flip": 1.5}, "horizontal_flip=1.5"),
        ({"affine": -0.1}, "affine=-0.1"),
        ({"rotate_deg": 200.0}, "rotate_deg=200.0"),
        ({"translate": float("nan")}, "translate=nan"),
        ({"scale": (1.2, 0.8)}, r"scale=\(1.2, 0.8\)"),
        ({"scale": (0.0, 1.0)}, "scale="),
        ({"scale": (1.0,)}, "scale="),
        ({"fill": "mirror"}, "fill='mirror'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(**arguments)
