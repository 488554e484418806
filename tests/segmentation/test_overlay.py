"""Pictures of segmentations: what is drawn where, and label files that read back."""

from __future__ import annotations

import dataclasses
import io
import os

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from tfspec.datasets.spectrum_sensing_images import IGNORE, LAYOUTS, read_label
from tfspec.errors import ConfigError, OutputError
from tfspec.report import figures
from tfspec.segmentation.overlay import (
    overlay_png,
    write_label_npy,
    write_label_png,
    write_png,
)
from tfspec.segmentation.regions import ImageAxes, find_regions

CLASSES = ("noise", "lte", "nr")
AXES = ImageAxes(
    start=0.08, seconds_per_column=0.04 / 64, lowest_frequency=3.47e9, hz_per_row=61.44e6 / 64
)


def pixels(png: bytes) -> np.ndarray:
    """The picture as `(height, width, 3)` in 0..255."""
    return np.rint(255 * matplotlib.image.imread(io.BytesIO(png))[..., :3]).astype(int)


def box_of(picture: np.ndarray, colour: np.ndarray, tolerance: int = 2) -> tuple[float, ...]:
    """Left, right, top and bottom of what has this colour, as shares of the picture."""
    rows, columns = np.nonzero(np.abs(picture - colour).max(axis=2) <= tolerance)
    height, width, _ = picture.shape
    return (
        columns.min() / width,
        (columns.max() + 1) / width,
        rows.min() / height,
        (rows.max() + 1) / height,
    )


def tinted(colour: str, background: int, share: float = 0.35) -> np.ndarray:
    own = 255 * np.array(matplotlib.colors.to_rgb(colour))
    return np.rint(share * own + (1 - share) * background)


def test_a_class_is_drawn_at_its_time_and_frequency():
    """Black image, one class in the upper left quarter: low frequencies are at the bottom."""
    labels = np.zeros((64, 64), int)
    labels[32:, :32] = 2
    everything = np.full((64, 64), 1)
    image = np.zeros((64, 64, 3), np.uint8)
    area = box_of(
        pixels(overlay_png(image, everything, AXES, classes=CLASSES)), tinted(figures.ORANGE, 0)
    )
    left, right, top, bottom = box_of(
        pixels(overlay_png(image, labels, AXES, classes=CLASSES)), tinted(figures.BLUE, 0)
    )
    # One pixel of some 1000 by 600, where the axes' lines lie over the edge two.
    assert left == pytest.approx(area[0], abs=3e-3)
    assert right == pytest.approx((area[0] + area[1]) / 2, abs=3e-3)
    assert top == pytest.approx(area[2], abs=5e-3)
    assert bottom == pytest.approx((area[2] + area[3]) / 2, abs=5e-3)


def test_noise_is_not_drawn_and_the_image_shows_through():
    image = np.full((64, 64), 90, np.uint8)
    image[:, 32:] = 200
    labels = np.zeros((64, 64), np.uint8)
    picture = pixels(overlay_png(image, labels, AXES, classes=CLASSES))
    shares = [(np.abs(picture - level).max(axis=2) <= 1).mean() for level in (90, 200)]
    assert min(shares) > 0.25  # half of the axes each, which take most of the picture
    labels[:] = 1
    picture = pixels(overlay_png(image, labels, AXES, classes=CLASSES))
    for level in (90, 200):
        hit = np.abs(picture - tinted(figures.ORANGE, level)).max(axis=2) <= 2
        assert hit.mean() > 0.25


def test_floats_are_drawn_from_their_lowest_to_their_highest():
    image = np.linspace(-120.0, -20.0, 64)[None].repeat(64, axis=0)  # decibels
    labels = np.zeros((64, 64), int)
    levels = np.rint(255 * np.linspace(0, 1, 64)).astype(np.uint8)[None].repeat(64, axis=0)
    drawn = [overlay_png(i, labels, AXES, classes=CLASSES) for i in (image, levels)]
    np.testing.assert_allclose(pixels(drawn[0]), pixels(drawn[1]), atol=1)  # rounded to 8 bits
    overlay_png(np.zeros((64, 64)), labels, AXES, classes=CLASSES)  # all equal: no division by 0


def test_boxes_legend_and_units_change_the_picture():
    labels = np.zeros((64, 64), int)
    labels[20:40, 10:30] = 1
    image = np.zeros((64, 64), np.uint8)
    probs = np.full((64, 64, 3), 0.5)
    regions = find_regions(labels, probs, AXES, classes=CLASSES)
    plain = pixels(overlay_png(image, labels, AXES, classes=CLASSES))
    boxed = pixels(overlay_png(image, labels, AXES, classes=CLASSES, regions=regions))
    full = 255 * np.array(matplotlib.colors.to_rgb(figures.ORANGE))

    def lines(picture):
        return (np.abs(picture - full).max(axis=2) <= 20).sum()

    assert lines(boxed) > lines(plain) + 500  # the outline of some 300 by 160 pixels, and the name
    left, right, top, bottom = box_of(plain, tinted(figures.ORANGE, 0))
    outer = box_of(boxed[:, : int(0.8 * boxed.shape[1])], full, 20)  # without the legend
    scale = 1 / 0.8
    assert outer[0] == pytest.approx(scale * left, abs=0.02)
    assert outer[1] == pytest.approx(scale * right, abs=0.02)
    assert outer[2:] == pytest.approx((top, bottom), abs=0.02)


def test_equal_input_gives_equal_bytes_and_leaves_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    image = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    labels = (np.arange(64 * 64).reshape(64, 64) // 100) % 3
    drawn = [overlay_png(image, labels, AXES, classes=CLASSES, title="a") for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert dict(matplotlib.rcParams) == before
    assert image.max() == 64 * 64 - 1  # the input stays as it is


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        (np.zeros((4, 4, 2)), np.zeros((4, 4)), "`image` must be"),
        (np.zeros(4), np.zeros((4, 4)), "`image` must be"),
        (np.zeros((4, 4)), np.zeros((4, 5)), "must have the same frequency and time"),
    ],
)
def test_shapes_that_do_not_fit(image, labels, message):
    with pytest.raises(ValueError, match=message):
        overlay_png(image, labels, AXES, classes=CLASSES)


# --- label files ------------------------------------------------------------------------------


@pytest.fixture
def labels(rng) -> np.ndarray:
    return rng.choice([0, 1, 2, IGNORE], (5, 7))


@pytest.mark.parametrize("layout", ["paper", "mathworks"])
@pytest.mark.parametrize("orientation", [None, "frequency_up", "time_down"])
def test_label_pictures_read_back_with_the_layouts_numbers(tmp_path, labels, layout, orientation):
    path = tmp_path / "labels.png"
    write_label_png(path, labels, classes=CLASSES, layout=layout, orientation=orientation)
    used = dataclasses.replace(LAYOUTS[layout], unknown="ignore")
    if orientation is not None:
        used = dataclasses.replace(used, orientation=orientation)
    read = read_label(path, used)
    names = {number: name for number, name in enumerate(used.classes)} | {IGNORE: "ignored"}
    expected = {0: "noise", 1: "lte", 2: "nr", IGNORE: "ignored"}
    for place in np.ndindex(labels.shape):
        assert names[read[place]] == expected[labels[place]]


def test_pixel_values_of_a_label_picture_are_the_classes(tmp_path, labels):
    write_label_png(tmp_path / "a.png", labels, classes=CLASSES)
    picture = Image.open(tmp_path / "a.png")
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), labels)


def test_classes_without_a_colour(tmp_path, labels):
    with pytest.raises(ConfigError, match=r"it has lte, nr, noise\. Received: radar") as error:
        write_label_png(tmp_path / "a.png", labels, classes=("noise", "lte", "radar"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "a.png").exists()


def test_label_arrays(tmp_path, labels):
    write_label_npy(tmp_path / "out" / "a.npy", labels)
    read = np.load(tmp_path / "out" / "a.npy")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, labels)
    assert os.listdir(tmp_path / "out") == ["a.npy"]


@pytest.mark.parametrize(
    "bad", [np.zeros(4), np.full((2, 2), -1), np.full((2, 2), 256), np.full((2, 2), 0.5)]
)
def test_maps_that_are_no_labels(tmp_path, bad):
    for write in (
        lambda: write_label_npy(tmp_path / "a", bad),
        lambda: write_label_png(tmp_path / "a.png", bad, classes=CLASSES),
    ):
        with pytest.raises(ValueError, match="`label_map` must be"):
            write()
    with pytest.raises(ValueError, match="class numbers below 3 and 255"):
        write_label_png(tmp_path / "a.png", np.full((2, 2), 3), classes=CLASSES)
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path, labels):
    (tmp_path / "taken").touch()
    for write in (
        lambda path: write_label_npy(path, labels),
        lambda path: write_label_png(path, labels, classes=CLASSES),
        lambda path: write_png(path, b"png"),
    ):
        with pytest.raises(OutputError, match="taken"):
            write(tmp_path / "taken" / "a.png")
    write_png(tmp_path / "a.png", b"png")
    assert (tmp_path / "a.png").read_bytes() == b"png"


def test_ignored_pixels_have_the_number_that_losses_ignore():
    from tfspec.segmentation.losses import IGNORE_LABEL

    assert IGNORE == IGNORE_LABEL
