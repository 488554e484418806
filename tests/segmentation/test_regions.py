"""Detected regions: against a flood fill, joined across images, and as CSV."""

from __future__ import annotations

import csv
import itertools
import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfspec.errors import ConfigError, OutputError
from tfspec.segmentation.regions import (
    CSV_COLUMNS,
    ImageAxes,
    Region,
    RegionFinder,
    find_regions,
    in_order,
    write_regions,
)

CLASSES = ("noise", "lte", "nr")
# 40 ms and 61.44 MHz around 3.5 GHz in 256 x 256 pixels: the paper's pictures.
STEP, HEIGHT, LOWEST = 0.04 / 256, 61.44e6 / 256, 3.5e9 - 30.72e6
AXES = ImageAxes(start=0.0, seconds_per_column=STEP, lowest_frequency=LOWEST, hz_per_row=HEIGHT)


def axes_from(column: int, **changes) -> ImageAxes:
    values = {
        "start": column * STEP,
        "seconds_per_column": STEP,
        "lowest_frequency": LOWEST,
        "hz_per_row": HEIGHT,
    }
    return ImageAxes(**(values | changes))


def flood_fill(labels, probs, connectivity, min_pixels, signals=(1, 2)) -> list[tuple]:
    """Regions by a walk from pixel to pixel: `(class, box in pixels, size, mean probability)`."""
    steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
    if connectivity == 4:
        steps = [(a, b) for a, b in steps if a == 0 or b == 0]
    left = {tuple(map(int, place)) for place in np.argwhere(np.isin(labels, signals))}
    found = []
    while left:
        seed = left.pop()
        members, waiting = [seed], [seed]
        while waiting:
            row, column = waiting.pop()
            for step in steps:
                place = (row + step[0], column + step[1])
                if place in left and labels[place] == labels[seed]:
                    left.remove(place)
                    members.append(place)
                    waiting.append(place)
        if len(members) >= min_pixels:
            rows, columns = zip(*members, strict=True)
            label = int(labels[seed])
            mean = sum(float(probs[place][label]) for place in members) / len(members)
            box = (min(columns), max(columns) + 1, min(rows), max(rows) + 1)
            found.append((label, *box, len(members), mean))
    return sorted(found)


def in_pixels(regions: list[Region]) -> list[tuple]:
    return sorted(
        (
            region.label,
            round(region.start_ms / 1e3 / STEP),
            round(region.stop_ms / 1e3 / STEP),
            round((region.lower_frequency - LOWEST) / HEIGHT),
            round((region.upper_frequency - LOWEST) / HEIGHT),
            region.pixels,
            region.confidence,
        )
        for region in regions
    )


def assert_same(found: list[tuple], expected: list[tuple]) -> None:
    assert [entry[:-1] for entry in found] == [entry[:-1] for entry in expected]
    # Regions of equal box and size may come in either order of their confidence.
    groups = [sorted(entries) for entries in (found, expected)]
    for one, other in zip(*groups, strict=True):
        assert one[-1] == pytest.approx(other[-1], abs=1e-12)  # sums in another order


maps = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 9), st.integers(1, 14)),
    elements=st.sampled_from([0, 1, 1, 2, 255]),
)


@settings(max_examples=150, deadline=None)
@given(
    labels=maps,
    connectivity=st.sampled_from([4, 8]),
    min_pixels=st.integers(1, 4),
    cuts=st.lists(st.integers(1, 13), max_size=4, unique=True),
    seed=st.integers(0, 99),
)
def test_images_in_a_row_give_the_regions_of_the_whole(
    labels, connectivity, min_pixels, cuts, seed
):
    probs = np.random.default_rng(seed).random((*labels.shape, 3))
    expected = flood_fill(labels, probs, connectivity, min_pixels)
    options = {"connectivity": connectivity, "min_pixels": min_pixels}
    whole = find_regions(labels, probs, AXES, classes=CLASSES, **options)
    assert_same(in_pixels(whole), expected)
    finder = RegionFinder(CLASSES, **options)
    regions = []
    edges = [0, *sorted(cut for cut in cuts if cut < labels.shape[1]), labels.shape[1]]
    for begin, end in itertools.pairwise(edges):
        part = slice(begin, end)
        ended = finder.add(labels[:, part], probs[:, part], axes_from(begin))
        assert all(region.stop_ms < 1e3 * STEP * (end - 0.5) for region in ended)
        regions += ended
    assert_same(in_pixels([*regions, *finder.finish()]), expected)
    assert finder.finish() == []


def test_a_carrier_in_time_frequency_and_confidence():
    labels = np.zeros((256, 256), np.uint8)
    labels[100:184, 64:128] = 2  # 20.16 MHz for 10 ms, from 10 ms on
    probs = np.zeros((256, 256, 3))
    probs[..., 2] = 0.25
    probs[100:184, 64:128, 2] = 0.75
    probs[100:184, 64:96, 2] = 0.95
    (region,) = find_regions(labels, probs, AXES, classes=CLASSES)
    assert (region.label, region.name, region.pixels) == (2, "nr", 84 * 64)
    assert region.start_ms == pytest.approx(10.0, abs=1e-9)
    assert region.stop_ms == pytest.approx(20.0, abs=1e-9)
    assert region.lower_frequency == pytest.approx(3.5e9 - 30.72e6 + 100 * 240e3, abs=1e-3)
    assert region.upper_frequency - region.lower_frequency == pytest.approx(20.16e6, abs=1e-3)
    assert region.confidence == pytest.approx((0.95 + 0.75) / 2, abs=1e-12)


def test_regions_that_meet_only_in_the_next_image():
    """A horseshoe: two regions in the first image are one, and two of the second join a third."""
    first = np.array([[1, 1], [0, 0], [1, 1], [0, 0], [2, 2]])
    second = np.array([[1, 1], [0, 1], [1, 1], [0, 0], [2, 0]])
    finder = RegionFinder(CLASSES)
    probs = np.ones((5, 2, 3))
    assert finder.add(first, probs, axes_from(0)) == []
    (ended,) = finder.add(second, 0.5 * probs, axes_from(2))
    assert (ended.label, ended.pixels) == (2, 3)
    assert ended.confidence == pytest.approx((2 + 0.5) / 3)
    (horseshoe,) = finder.finish()
    assert (horseshoe.label, horseshoe.pixels) == (1, 9)
    assert horseshoe.confidence == pytest.approx((4 + 5 * 0.5) / 9)
    assert (horseshoe.start_ms, horseshoe.stop_ms) == pytest.approx((0.0, 4e3 * STEP))


@pytest.mark.parametrize(
    "following",
    [
        axes_from(5),  # a gap in time
        axes_from(3),  # back in time
        axes_from(4, lowest_frequency=LOWEST + HEIGHT),
        axes_from(4, hz_per_row=2 * HEIGHT),
    ],
)
def test_images_that_do_not_go_on_are_not_joined(following):
    finder = RegionFinder(CLASSES)
    labels = np.ones((3, 4), int)
    assert finder.add(labels, None, axes_from(0)) == []
    (ended,) = finder.add(labels, None, following)
    assert ended.pixels == 12 and math.isnan(ended.confidence)
    (last,) = finder.finish()
    assert last.start_ms == pytest.approx(1e3 * following.start)
    finder.add(labels, None, axes_from(0))
    assert len(finder.add(np.ones((2, 4), int), None, axes_from(4))) == 1  # other rows


def test_images_whose_times_were_rounded_go_on():
    finder = RegionFinder(CLASSES)
    labels = np.ones((3, 4), int)
    finder.add(labels, None, axes_from(0))
    assert finder.add(labels, None, axes_from(4, start=(4 + 0.4) * STEP)) == []
    (region,) = finder.finish()
    assert region.pixels == 24


def test_background_is_told_by_name():
    labels = np.array([[0, 1, 2]])
    paper = ("lte", "nr", "noise")
    regions = find_regions(labels, None, AXES, classes=paper)
    assert [region.name for region in regions] == ["lte", "nr"]
    regions = find_regions(labels, None, AXES, classes=paper, background=("noise", "lte"))
    assert [region.name for region in regions] == ["nr"]
    regions = find_regions(labels, None, AXES, classes=("a", "b", "c"), background=())
    assert [region.name for region in regions] == ["a", "b", "c"]
    with pytest.raises(ConfigError, match=r"`background` must name classes of .*Received: noise"):
        find_regions(labels, None, AXES, classes=("a", "b", "c"))


def test_a_map_without_signals():
    finder = RegionFinder(CLASSES)
    assert finder.add(np.zeros((4, 4), int), None, axes_from(0)) == []
    assert finder.add(np.full((4, 4), 255), None, axes_from(4)) == []
    assert finder.finish() == []


def test_long_recordings_keep_only_what_can_grow():
    """A carrier through all images, and a burst in each: one region stays open, no more."""
    finder = RegionFinder(CLASSES)
    labels = np.zeros((16, 8), int)
    labels[2] = 1
    labels[8:10, 3:5] = 2
    count = 0
    for image in range(200):
        ended = finder.add(labels, None, axes_from(8 * image))
        assert [region.name for region in ended] == ["nr"]
        count += len(ended)
        assert len(finder._open) == 1
    (carrier,) = finder.finish()
    assert count == 200 and carrier.pixels == 1600
    assert carrier.stop_ms == pytest.approx(1600e3 * STEP)


# --- options and shapes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"connectivity": 6}, "`connectivity` must be 4 or 8. Received: 6"),
        ({"min_pixels": 0}, "`min_pixels` must be at least 1. Received: 0"),
    ],
)
def test_options_that_are_not_allowed(options, message):
    with pytest.raises(ConfigError, match=message):
        RegionFinder(CLASSES, **options)


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds_per_column": 0.0},
        {"hz_per_row": -1.0},
        {"start": math.nan},
        {"lowest_frequency": math.inf},
    ],
)
def test_axes_that_make_no_sense(changes):
    with pytest.raises(ConfigError, match="image axes must be finite") as error:
        axes_from(0, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "probs", "message"),
    [
        (np.zeros((2, 3, 1)), None, "`label_map` must be"),
        (np.zeros((0, 3)), None, "`label_map` must be"),
        (np.zeros((2, 3)), np.zeros((2, 3)), r"`class_probs` must be \(2, 3, 3\)"),
        (np.zeros((2, 3)), np.zeros((3, 2, 3)), r"`class_probs` must be \(2, 3, 3\)"),
        (np.zeros((2, 3)), np.zeros((2, 3, 2)), r"`class_probs` must be \(2, 3, 3\)"),
    ],
)
def test_shapes_that_do_not_fit(labels, probs, message):
    with pytest.raises(ValueError, match=message):
        find_regions(labels, probs, AXES, classes=CLASSES)


# --- CSV --------------------------------------------------------------------------------------


def test_csv_holds_every_region_in_order(tmp_path, rng):
    labels = rng.integers(0, 3, (20, 30))
    regions = find_regions(labels, rng.random((20, 30, 3)), AXES, classes=CLASSES)
    path = tmp_path / "out" / "regions.csv"
    write_regions(path, reversed(regions))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == len(regions) > 20
    for row, region in zip(rows, in_order(regions), strict=True):
        assert row["class"] == region.name
        # Half of the last decimal, and the rounding of the number itself.
        assert float(row["start_ms"]) == pytest.approx(region.start_ms, abs=0.51e-4)
        assert float(row["stop_ms"]) == pytest.approx(region.stop_ms, abs=0.51e-4)
        assert float(row["lower_frequency_hz"]) == pytest.approx(region.lower_frequency, abs=0.051)
        assert float(row["upper_frequency_hz"]) == pytest.approx(region.upper_frequency, abs=0.051)
        assert float(row["mean_confidence"]) == pytest.approx(region.confidence, abs=0.51e-4)
    starts = [float(row["start_ms"]) for row in rows]
    assert starts == sorted(starts)
    assert os.listdir(path.parent) == ["regions.csv"]


def test_csv_without_regions_or_confidence(tmp_path):
    write_regions(tmp_path / "a.csv", [])
    assert (tmp_path / "a.csv").read_text() == ",".join(CSV_COLUMNS) + "\n"
    regions = find_regions(np.array([[1]]), None, AXES, classes=CLASSES)
    write_regions(tmp_path / "a.csv", regions)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[1] == "lte,0.0000,0.1562,3469280000.0,3469520000.0,"


def test_csv_that_cannot_be_written(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(OutputError, match="taken") as error:
        write_regions(tmp_path / "taken" / "a.csv", [])
    assert "\n" not in str(error.value)
