"""Data: stored examples against what they are made of, splits, order, weights, bad data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.segmentation.small_spectrograms import RADIO, SIZE, BlockLoader, blocks, recipe
from tfspec.datasets.spectrum_sensing_images import LAYOUTS
from tfspec.errors import ConfigError, DataError
from tfspec.segmentation.data import SegmentationData, training_data
from tfspec.segmentation.stored import radio_folder
from tfspec.segmentation.stores import data_info, front_end_for, open_examples, split_of
from tfspec.synth.radio import CLASS_NAMES, load_radio, prepare_radio


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Forty captures, more than a shard, made once."""
    folder = tmp_path_factory.mktemp("cache")
    config = recipe().radio
    prepare_radio(radio_folder(folder, config, 42), 40, config, 42, workers=1)
    return folder


# The paper's colours of the classes in the order of the recipe; its own numbers are others.
PAPER = dict(zip(LAYOUTS["paper"].classes, LAYOUTS["paper"].colours, strict=True))
COLOURS = np.array([PAPER[name] for name in recipe().classes], np.uint8)


def write_pair(folder, name, image, label):
    """A picture and its label in the paper's colours."""
    for part, pixels in (("input", image), ("label", label)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / part / f"{name}.png")


def picture_folder(folder, count=8):
    """A folder of the paper's layout; returns the images and class maps by name."""
    truth = {}
    for seed in range(count):
        image, label = BlockLoader(seed)()
        image = np.repeat(image, 3, axis=2)
        write_pair(folder, f"p{seed}", image, COLOURS[label])
        truth[f"p{seed}"] = (image, label)
    return truth


@pytest.mark.parametrize("channels", [1, 3])
def test_captures_are_those_of_the_set(cache, channels):
    scaling = "unit" if channels == 1 else "imagenet"
    own = recipe(channels=channels, scaling=scaling, classes=("nr", "noise", "lte"))
    store = open_examples("radio:40", own, cache=cache)
    captures = load_radio(radio_folder(cache, own.radio, 42))
    assert len(store) == 40
    for index in (0, 31, 32, 39):  # both ends of both shards
        image, label = store.load(index)
        capture = captures[index]
        # Captures have the highest frequency first, and here other numbers for the same classes.
        levels = capture.spectrogram[::-1, :, None]
        expected = levels if channels == 1 else capture.image[::-1] / np.float32(255)
        np.testing.assert_array_equal(image, expected)
        names = np.array(own.classes)[label], np.array(CLASS_NAMES)[capture.labels[::-1]]
        np.testing.assert_array_equal(*names)
        assert store.snr_db[index] == pytest.approx(capture.snr_db, nan_ok=True)
        assert f"capture {index}" in store[index].origin
    assert {"lte", "nr"} <= {c.technology for e in captures for c in e.carriers}


def test_a_larger_set_keeps_every_example_in_its_split(cache):
    fractions = {"validation_fraction": 0.2, "test_fraction": 0.1}
    few, many = (open_examples(f"radio:{n}", recipe(**fractions), cache=cache) for n in (20, 40))
    assert [e.split for e in few] == [e.split for e in many][:20]
    assert [len(many.indices(s)) for s in ("train", "validation", "test", "all")] == [28, 8, 4, 40]


@given(n=st.integers(1, 3000), validation=st.floats(0.0, 0.45), test=st.floats(0.0, 0.45))
def test_splits_have_their_shares(n, validation, test):
    splits = [split_of(index, validation, test) for index in range(n)]
    for name, share in (("validation", validation), ("test", test)):
        # Multiples of the golden ratio: of 3000 the count in an interval is off by 3 at most.
        assert abs(splits.count(name) - share * n) <= 3
    # What is for test does not depend on the share of the validation.
    assert [i for i in range(n) if split_of(i, 0.0, test) == "test"] == [
        i for i in range(n) if splits[i] == "test"
    ]


def test_pictures_of_a_folder(tmp_path):
    truth = picture_folder(tmp_path / "set")
    own = recipe(channels=3, scaling="imagenet")
    store = open_examples(str(tmp_path / "set"), own, cache=tmp_path / "cache")
    for index, example in enumerate(store):
        image, label = store.load(index)
        expected, classes = truth[example.name]
        np.testing.assert_array_max_ulp(image, expected / np.float32(255), 1)  # rounded once more
        np.testing.assert_array_equal(label, classes)
        assert np.isnan(example.snr_db)
    assert len(store.indices("validation")) == 2 and len(store.indices("test")) == 1
    assert store.front_end == own.picture_front_end == front_end_for(str(tmp_path), own)
    # A changed picture is read again, the others are not.
    image, label = BlockLoader(99)()
    write_pair(tmp_path / "set", "p0", np.repeat(image, 3, axis=2), COLOURS[label])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.u8")}
    store = open_examples(str(tmp_path / "set"), own, cache=tmp_path / "cache")
    number = [example.name for example in store].index("p0")
    np.testing.assert_array_equal(store.load(number)[1], label)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.u8")}
    assert len(after) == len(before) + 1 and all(after[path] == t for path, t in before.items())


def test_pictures_of_another_size_are_resized(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32] = 200
    label = np.zeros((64, 64, 3), np.uint8)
    label[:], label[:32] = COLOURS[0], COLOURS[2]
    for name in "ab":
        write_pair(tmp_path, name, image, label)
    own = recipe(channels=3, scaling="imagenet")
    _, labels = open_examples(str(tmp_path), own, cache=tmp_path / "cache").load(0)
    np.testing.assert_array_equal(labels, np.repeat([2, 0], 16)[:, None] * np.ones((1, 32)))


def test_unknown_colours_are_an_error_or_ignored(tmp_path):
    picture_folder(tmp_path, count=4)
    path = tmp_path / "label" / "p2.png"
    pixels = np.array(Image.open(path))
    pixels[5, 7] = (1, 2, 3)
    Image.fromarray(pixels).save(path)
    options = {"channels": 3, "scaling": "imagenet"}
    with pytest.raises(DataError, match=r"p2\.png: pixel \(x=7, y=5\) has colour \(1, 2, 3\)"):
        open_examples(str(tmp_path), recipe(**options), cache=tmp_path / "cache")
    # The published program's class 0, which is black in its labels, is LTE.
    for unknown, expected in (("ignore", 255), ("legacy", recipe().classes.index("lte"))):
        own = recipe(unknown=unknown, **options)
        store = open_examples(str(tmp_path), own, cache=tmp_path / "cache")
        number = [example.name for example in store].index("p2")
        assert store.load(number)[1][5, 7] == expected


def test_every_epoch_has_every_example_once_in_another_order(tmp_path):
    data = SegmentationData(open_examples(blocks(20, 4), recipe(), cache=tmp_path), recipe())
    assert (data.n_examples, data.steps_per_epoch) == (20, 3)
    seen = []
    for epoch in (0, 0, 1):
        batches = list(data.train_epoch(epoch).as_numpy_iterator())
        assert [len(x) for x, _ in batches] == [8, 8, 4]
        assert batches[0][0].dtype == np.float32 and batches[0][1].dtype == np.uint8
        seen.append(np.concatenate([x for x, _ in batches]))
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])
    expected = {data.store.load(i)[0].tobytes() for i in data.train_indices}
    assert len(expected) == 20
    assert all({image.tobytes() for image in epoch} == expected for epoch in seen)


def test_describe_batch_names_what_is_in_it(tmp_path):
    data = SegmentationData(open_examples(blocks(20, 4), recipe(), cache=tmp_path), recipe())
    images = list(data.train_epoch(3).as_numpy_iterator())[1][0]
    for image, text in zip(images, data.describe_batch(3, 1), strict=True):
        seed = int(text.split()[0].removeprefix("blocks-"))
        assert text == f"blocks-{seed} (block seed {seed})"
        expected = BlockLoader(seed)()[0] / np.float32(255)
        np.testing.assert_array_max_ulp(image, expected, 1)  # rounded once more


def test_augmentation_changes_training_only(tmp_path):
    own = recipe(augmentation="paper")
    data = SegmentationData(open_examples(blocks(16, 8), own, cache=tmp_path), own)
    plain = np.stack([data.store.load(i)[0] for i in data.validation_indices])
    np.testing.assert_array_equal(
        np.concatenate([x for x, _ in data.validation().as_numpy_iterator()]), plain
    )
    first, again, other = (
        np.concatenate([x for x, _ in data.train_epoch(epoch).as_numpy_iterator()])
        for epoch in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    originals = {data.store.load(i)[0].tobytes() for i in data.train_indices}
    # An example stays as it is with probability 0.5 * 0.8 * 0.7 * 0.5 = 0.14.
    for epoch in (first, other):
        assert sum(image.tobytes() in originals for image in epoch) < 8


def test_notebook_data(tmp_path):
    train, validation = training_data(blocks(16, 8), recipe(), cache=tmp_path)
    assert int(train.cardinality()) == 2 and int(validation.cardinality()) == 1
    first, second = (np.concatenate([x for x, _ in train.as_numpy_iterator()]) for _ in range(2))
    assert first.shape == (16, SIZE, SIZE, 1) and not np.array_equal(first, second)


def test_balanced_weights_are_inverse_to_the_counts(tmp_path):
    own = recipe(class_weights="balanced")
    data = SegmentationData(open_examples(blocks(6, 2), own, cache=tmp_path), own)
    counts = sum(np.bincount(BlockLoader(seed)()[1].ravel(), minlength=3) for seed in range(6))
    np.testing.assert_array_equal(data.class_counts, counts)
    weights = np.array(data.class_weights)
    np.testing.assert_allclose(weights * counts, np.full(3, weights[0] * counts[0]))
    assert weights.mean() == pytest.approx(1.0)


def test_calibration_images_are_spread_over_the_ratios(cache):
    own = recipe()
    data = SegmentationData(open_examples("radio:40", own, cache=cache), own)
    snr = np.sort(data.store.snr_db[data.train_indices])
    images = data.calibration_images(4)
    wanted = snr[np.linspace(0, len(snr) - 1, 4).round().astype(int)]
    found = {data.store.load(i)[0].tobytes(): data.store[i].snr_db for i in data.train_indices}
    np.testing.assert_array_equal([found[image.tobytes()] for image in images], wanted)
    images, labels = data.held_out_images(100)
    assert len(images) == len(labels) == len(data.validation_indices)


def test_bad_data_are_one_line(tmp_path):
    one_class = blocks(4, 2, classes=())
    with pytest.raises(DataError, match="training labels: every labelled pixel is 'noise'"):
        SegmentationData.open(one_class, recipe(), cache=tmp_path)
    with pytest.raises(DataError, match="leave none to validate on"):
        SegmentationData.open(blocks(4, 0), recipe(), cache=tmp_path)
    with pytest.raises(DataError, match="leave none to train on"):
        SegmentationData.open(blocks(0, 4), recipe(), cache=tmp_path)
    no_lte = recipe(classes=("noise", "nr"))
    with pytest.raises(DataError, match=r"add \['lte'\] to the recipe's `classes`"):
        open_examples("radio:2", no_lte, cache=tmp_path)
    with pytest.raises(DataError, match=r"block seed 0: its image is \(32, 32, 1\)"):
        open_examples(blocks(2, 2), recipe(height=64, width=64), cache=tmp_path)
    for spec, message in (
        ("nowhere", "no such folder or data set; allowed: radio"),
        ("radio:x", "N of radio:N must be a whole number"),
        ("radio:0", "N of radio:N must be a whole number"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_examples(spec, recipe(), cache=tmp_path)


def test_missing_class_has_no_balanced_weight(tmp_path):
    own = recipe(class_weights="balanced")
    data = SegmentationData(open_examples(blocks(4, 2, classes=(1,)), own, cache=tmp_path), own)
    with pytest.raises(DataError, match="no training label has the class 'nr'"):
        _ = data.class_weights


def test_data_info_has_name_and_licence(tmp_path):
    assert data_info("radio:7")["name"] == "radio:7"
    picture_folder(tmp_path / "mine", count=1)
    assert data_info(str(tmp_path / "mine"))["name"] == "mine"
    assert data_info(blocks(1, 1))["licence"]
    assert RADIO.n_samples == 76_800
