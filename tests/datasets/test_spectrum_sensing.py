"""Labelled spectrograms as a TFDS data set: the same pixels as in the folder, and bad folders."""

from __future__ import annotations

import logging
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tfspec.datasets.spectrum_sensing import (
    IGNORE,
    LAYOUTS,
    SpectrumSensing,
    folder_spectrograms,
    load_arrays,
    spectrum_sensing_info,
    tfds_spectrograms,
)
from tfspec.errors import ConfigError, DataError
from tfspec.synth.radio.classes import CLASS_NAMES

COLOURS = np.array(LAYOUTS["paper"].colours, np.uint8)


def write_pair(root: Path, name: str, seed: int, *, grey: bool = False) -> None:
    """A random image and label of 6 x 8 pixels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (6, 8))
    picture = np.array([0, 127, 255], np.uint8)[labels] if grey else COLOURS[labels]
    for folder, pixels in (
        ("input", rng.integers(0, 256, (6, 8, 3), np.uint8)),
        ("label", picture),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / folder / f"{name}.png")


@pytest.fixture
def manual(tmp_path) -> Path:
    for number in range(20):
        write_pair(tmp_path / "manual", f"frame_{number}", number)
    return tmp_path / "manual"


def test_prepared_pixels_are_those_of_the_folder(manual, tmp_path):
    examples = tfds_spectrograms(
        "spectrum_sensing/paper", manual_dir=manual, data_dir=tmp_path / "data"
    )
    assert examples == [
        # The origin alone differs.
        type(example)(**{**vars(example), "origin": "tfds:spectrum_sensing/paper"})
        for example in folder_spectrograms(manual)
    ]
    assert examples.classes == ("lte", "nr", "noise") and examples.skipped == ()
    expected = load_arrays(folder_spectrograms(manual))
    loaded = load_arrays(pickle.loads(pickle.dumps(list(examples))))
    for array, reference in zip(loaded, expected, strict=True):
        np.testing.assert_array_equal(array, reference)
    counts = {split: len(examples.only(split)) for split in ("train", "validation", "test")}
    assert counts == {"train": 16, "validation": 2, "test": 2}
    only = tfds_spectrograms("spectrum_sensing", data_dir=tmp_path / "data", split="test")
    assert only == examples.only("test")


def test_mathworks_pictures_are_turned(tmp_path):
    root = tmp_path / "manual" / "TrainingData"  # one folder deeper is found too
    for number in range(6):
        write_pair(root, f"LTE_frame_{number}", number, grey=True)
    examples = tfds_spectrograms(
        "spectrum_sensing/mathworks", manual_dir=tmp_path / "manual", data_dir=tmp_path / "data"
    )
    assert examples[0].shape == (8, 6)
    assert examples.classes == CLASS_NAMES  # as the generator numbers them
    for example in examples:
        image, label = example.load()
        stored = np.asarray(Image.open(root / "input" / f"{example.name}.png"))
        grey = np.asarray(Image.open(root / "label" / f"{example.name}.png"))
        for frequency in range(8):
            for time in range(6):  # time goes up, frequency to the right
                np.testing.assert_array_equal(image[frequency, time], stored[5 - time, frequency])
                assert grey[5 - time, frequency] == {0: 0, 1: 255, 2: 127}[label[frequency, time]]


def test_data_set_that_tfds_load_prepared_as_tfrecord(manual, tmp_path):
    options = {"download_config": tfds.download.DownloadConfig(manual_dir=str(manual))}
    data, info = tfds.load(
        "spectrum_sensing/paper",
        data_dir=tmp_path / "data",
        download_and_prepare_kwargs=options,
        with_info=True,
    )
    assert info.features["label"].names == ["lte", "nr", "noise"]
    examples = tfds_spectrograms("spectrum_sensing/paper", data_dir=tmp_path / "data")
    for split, records in data.items():
        own = examples.only(split)
        for example, record in zip(own, tfds.as_numpy(records), strict=True):
            image, label = example.load()
            assert record["name"].decode() == example.name
            np.testing.assert_array_equal(record["image"], image)
            np.testing.assert_array_equal(record["label"][..., 0], label)


@pytest.mark.parametrize(("config", "value"), [("paper_ignore", IGNORE), ("paper_legacy", 0)])
def test_colours_of_no_class(manual, tmp_path, config, value):
    path = manual / "label" / "frame_3.png"
    pixels = np.array(Image.open(path))
    pixels[4, 5] = (1, 2, 3)
    Image.fromarray(pixels).save(path)
    options = {"manual_dir": manual, "data_dir": tmp_path / "data"}
    message = r"frame_3\.png: pixel \(x=5, y=4\) has colour \(1, 2, 3\), which is no class"
    with pytest.raises(DataError, match=message) as error:
        tfds_spectrograms("spectrum_sensing/paper", **options)
    assert "\n" not in str(error.value)
    # Nothing half-prepared is taken for the data set.
    with pytest.raises(DataError, match=message):
        tfds_spectrograms("spectrum_sensing/paper", **options)
    examples = tfds_spectrograms(f"spectrum_sensing/{config}", **options)
    (example,) = (example for example in examples if example.name == "frame_3")
    assert example.load()[1][4, 5] == value


def test_second_opening_prepares_nothing_and_a_changed_folder_again(
    manual, tmp_path, monkeypatch, caplog
):
    first = tfds_spectrograms("spectrum_sensing", manual_dir=manual, data_dir=tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr(SpectrumSensing, "download_and_prepare", None)
        again = tfds_spectrograms("spectrum_sensing", manual_dir=manual, data_dir=tmp_path / "data")
        assert again == first
    first[0].load()  # opens the files that are about to be replaced
    write_pair(manual, "another", 99)
    (manual / "label" / "frame_0.png").unlink()
    with caplog.at_level(logging.WARNING, logger="tfspec"):
        after = tfds_spectrograms("spectrum_sensing", manual_dir=manual, data_dir=tmp_path / "data")
    assert "has changed, preparing again" in caplog.text
    names = {example.name for example in after}
    assert "another" in names and "frame_0" not in names and len(names) == len(after) == 20
    assert after.skipped == ("frame_0: has no label/frame_0.png",)
    shutil.rmtree(manual)
    assert len(load_arrays(after)[0]) == 20


def test_folders_that_cannot_be_prepared(tmp_path):
    data_dir = tmp_path / "data"
    with pytest.raises(DataError, match="downloads/manual: is not a folder; expected input/"):
        tfds_spectrograms("spectrum_sensing", data_dir=data_dir)
    write_pair(tmp_path / "one", "a", 0)
    with pytest.raises(DataError, match="has no test spectrogram"):
        tfds_spectrograms(
            "spectrum_sensing", manual_dir=tmp_path / "one", data_dir=data_dir, split="test"
        )
    for name in ("spectrum_sensing/other", "musdb18"):
        with pytest.raises(ConfigError, match="allowed: tfds:spectrum_sensing/paper, ") as error:
            tfds_spectrograms(name)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="`split` must be one of"):
        tfds_spectrograms("spectrum_sensing", split="training")


def test_model_cards_say_that_the_licence_is_unknown():
    info = spectrum_sensing_info("spectrum_sensing/mathworks")
    assert "not stated" in info["licence"] and "mathworks.com" in info["origin"]
    assert "kaggle.com" in spectrum_sensing_info("spectrum_sensing")["origin"]
