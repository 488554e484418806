"""Folders of labelled spectrograms: pairs, divisions, sizes, classes."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tfspec.datasets.spectrum_sensing_folder import (
    LabelledSpectrogram,
    _divided,
    class_counts,
    folder_spectrograms,
    load_arrays,
)
from tfspec.datasets.spectrum_sensing_images import IGNORE, LAYOUTS
from tfspec.errors import ConfigError, DataError

COLOURS = np.array(LAYOUTS["paper"].colours, np.uint8)
CLASSES = LAYOUTS["paper"].classes


def write_pair(root: Path, name: str, labels: np.ndarray, *, image: np.ndarray | None = None):
    if image is None:
        image = np.random.default_rng(len(name)).integers(0, 256, (*labels.shape, 3), np.uint8)
    for folder, pixels in (("input", image), ("label", COLOURS[labels])):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / folder / f"{name}.png")
    return image


@pytest.fixture
def folder(tmp_path, rng) -> Path:
    for name in "abcdefghij":
        write_pair(tmp_path, name, rng.integers(0, 3, (4, 6)))
    return tmp_path


def one_line(error) -> None:
    assert "\n" not in str(error.value)


def test_images_and_labels_are_paired_by_name(tmp_path, rng, caplog):
    expected = {}
    for name in ("b", "a", "é", "frame 10", "frame 9"):
        labels = rng.integers(0, 3, (4, 6))
        expected[name] = (write_pair(tmp_path, name, labels), labels)
    # A missing file in the middle does not shift the others.
    (tmp_path / "label" / "b.png").unlink()
    (tmp_path / "input" / "frame 9.png").unlink()
    (tmp_path / "input" / "notes.txt").touch()
    (tmp_path / "label" / ".hidden.png").touch()
    (tmp_path / "label" / "a.png").rename(tmp_path / "label" / "a.PNG")
    with caplog.at_level(logging.WARNING, logger="tfspec"):
        examples = folder_spectrograms(tmp_path)
    assert sorted(example.name for example in examples) == ["a", "frame 10", "é"]
    for example in pickle.loads(pickle.dumps(list(examples))):
        image, labels = example.load()
        np.testing.assert_array_equal(image, expected[example.name][0])
        np.testing.assert_array_equal(labels, expected[example.name][1])
        assert example.shape == labels.shape == (4, 6)
    assert examples.skipped == ("b: has no label/b.png", "frame 9: has no input/frame 9.png")
    assert "2 pictures left out: b: has no label/b.png" in caplog.text


def test_pairs_that_do_not_fit_or_cannot_be_read_are_left_out(folder):
    Image.new("RGB", (6, 5)).save(folder / "label" / "c.png")
    (folder / "input" / "d.png").write_bytes(b"no picture")
    examples = folder_spectrograms(folder)
    assert len(examples) == 8
    assert len(examples.skipped) == 2
    assert "c.png: is 6 x 5 pixels, its image 6 x 4; make them equal" in examples.skipped[0]
    assert "d.png: is no PNG file" in examples.skipped[1]
    assert not any("\n" in line for line in examples.skipped)


def test_sizes_must_be_equal_or_are_made_so(folder, rng):
    write_pair(folder, "z", rng.integers(0, 3, (8, 8)))
    message = r"(is 8 x 8 \(frequency x time\).*4 x 6|is 4 x 6.*8 x 8); give `size` to resize all"
    with pytest.raises(DataError, match=message) as error:
        folder_spectrograms(folder)
    one_line(error)
    examples = folder_spectrograms(folder, size=(8, 12))
    assert {example.shape for example in examples} == {(8, 12)}
    images, labels = load_arrays(examples)
    assert images.shape == (11, 8, 12, 3) and labels.shape == (11, 8, 12)
    assert set(np.unique(labels)) <= {0, 1, 2}  # nearest neighbour makes no new class


def test_turned_layouts(folder):
    layout = dataclasses.replace(LAYOUTS["paper"], orientation="time_down")
    plain = folder_spectrograms(folder)
    turned = folder_spectrograms(folder, layout=layout)
    assert turned[0].shape == (6, 4)
    for one, other in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(one.load()[0].swapaxes(0, 1), other.load()[0])
        np.testing.assert_array_equal(one.load()[1].T, other.load()[1])


# --- division ---------------------------------------------------------------------------------


def named(names) -> list[LabelledSpectrogram]:
    return [LabelledSpectrogram(name, "train", name, (1, 1), dict) for name in names]


def test_eighty_percent_are_for_training_and_the_rest_is_halved():
    examples = _divided(named(str(number) for number in range(1000)), 0, 0.1, 0.1)
    counts = {split: sum(e.split == split for e in examples) for split in ("train", "validation")}
    assert counts == {"train": 800, "validation": 100} and len(examples) == 1000
    original = _divided(named(str(number) for number in range(1000)), 0, 0.2, 0.0)
    assert sum(example.split == "train" for example in original) == 800
    assert {example.split for example in original} == {"train", "validation"}


@settings(max_examples=25, deadline=None)
@given(
    names=st.sets(st.text("abcé 1", min_size=1, max_size=5), min_size=3),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_division_does_not_know_the_order_of_the_folder(names, seed, data):
    shuffled = data.draw(st.permutations(sorted(names)))
    assert _divided(named(shuffled), seed, 0.1, 0.1) == _divided(
        named(sorted(names)), seed, 0.1, 0.1
    )


def test_seed_changes_the_division(folder):
    def parts(seed):
        return {(e.name, e.split) for e in folder_spectrograms(folder, seed=seed)}

    assert parts(0) == parts(0)
    assert len({frozenset(parts(seed)) for seed in range(8)}) > 3  # of 90 possible ones
    with pytest.raises(ConfigError, match="split fractions must be >= 0"):
        folder_spectrograms(folder, validation_fraction=0.8, test_fraction=0.3)


# --- folders and sets that cannot be used ------------------------------------------------------


def test_folders_without_pairs(tmp_path, rng):
    for path, message in (
        (tmp_path / "missing", "is not a folder; expected input/ and label/"),
        (tmp_path, "holds no folder input/"),
    ):
        with pytest.raises(DataError, match=message) as error:
            folder_spectrograms(path)
        one_line(error)
    (tmp_path / "input").mkdir()
    with pytest.raises(DataError, match=r"has no labels; expected label/NAME\.png") as error:
        folder_spectrograms(tmp_path)
    one_line(error)
    (tmp_path / "label").mkdir()
    with pytest.raises(DataError, match=r"input: holds no \.png file") as error:
        folder_spectrograms(tmp_path)
    one_line(error)
    Image.new("RGB", (4, 4)).save(tmp_path / "input" / "a.png")
    with pytest.raises(DataError, match=r"label: has no labels, no \.png file$") as error:
        folder_spectrograms(tmp_path)
    (tmp_path / "label" / "a.hdf").touch()
    with pytest.raises(DataError, match=r"convert the \.hdf files to PNG first") as error:
        folder_spectrograms(tmp_path)
    one_line(error)
    Image.new("RGB", (4, 4)).save(tmp_path / "label" / "b.png")
    with pytest.raises(
        DataError, match=r"no labelled spectrogram; the first problem: a: has no"
    ) as e:
        folder_spectrograms(tmp_path)
    one_line(e)


def test_class_counts(rng):
    labels = [rng.integers(0, 3, (4, 6)) for _ in range(5)]
    labels[0][:2] = IGNORE
    counts = class_counts(labels, CLASSES)
    assert counts.tolist() == [sum(int((label == c).sum()) for label in labels) for c in range(3)]
    assert counts.sum() == 5 * 24 - 12
    np.testing.assert_array_equal(class_counts(np.stack(labels), CLASSES), counts)


def test_sets_of_one_class_are_refused():
    one = np.ones((3, 4, 4), np.uint8)
    with pytest.raises(
        DataError, match=r"train: every labelled pixel is 'nr'; training needs"
    ) as e:
        class_counts(one, CLASSES, name="train")
    one_line(e)
    with pytest.raises(DataError, match="labels: no pixel has a class"):
        class_counts(np.full((2, 2), IGNORE, np.uint8), CLASSES)
    one[0, 0, 0] = 2
    assert class_counts(one, CLASSES).tolist() == [0, 47, 1]


def test_nothing_to_load():
    with pytest.raises(DataError, match="no labelled spectrogram to load"):
        load_arrays([])
