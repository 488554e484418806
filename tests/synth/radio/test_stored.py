"""Sets in folders: complete, resumable, equal to what is computed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tfspec.errors import ConfigError, DataError
from tfspec.synth.radio import RadioConfig, load_radio, prepare_radio, radio_example
from tfspec.synth.radio import stored as module

TINY = RadioConfig(sample_rate=7_680_000, duration=0.005, image_height=32, image_width=32)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 3)


@pytest.fixture
def folder(tmp_path: Path, small_shards: None) -> Path:
    prepare_radio(tmp_path / "set", 7, TINY, seed=9, workers=1)
    return tmp_path / "set"


def test_stored_examples_equal_computed_ones(folder: Path) -> None:
    found = load_radio(folder)
    assert len(found) == 7 and found.config == TINY and found.seed == 9
    for index, example in enumerate(found):
        made = radio_example(TINY, 9, index)
        np.testing.assert_array_equal(example.spectrogram, made.spectrogram)
        np.testing.assert_array_equal(example.image, made.image)
        np.testing.assert_array_equal(example.labels, made.labels)
        assert example.carriers == made.carriers
        assert example.level_db == made.level_db
    np.testing.assert_array_equal(found[-1].labels, found[6].labels)
    expected = [radio_example(TINY, 9, index).snr_db for index in range(7)]
    np.testing.assert_allclose(found.snr_db, expected, rtol=1e-6)
    with pytest.raises(IndexError):
        found[7]


def test_progress_counts_examples(tmp_path: Path, small_shards: None) -> None:
    calls: list[tuple[int, int]] = []
    prepare_radio(tmp_path, 7, TINY, workers=1, progress=lambda *c: calls.append(c))
    assert calls == [(3, 7), (6, 7), (7, 7)]


def test_an_interrupted_set_goes_on_where_it_stopped(folder: Path) -> None:
    (folder / "shard-00001.json").unlink()  # as if stopped while this shard was written
    with pytest.raises(DataError, match="shard 1 is missing or damaged; run `prepare_radio` again"):
        load_radio(folder)
    kept = (folder / "levels-00000.npy").stat().st_mtime_ns
    calls: list[tuple[int, int]] = []
    found = prepare_radio(folder, 7, TINY, 9, workers=1, progress=lambda *c: calls.append(c))
    assert calls == [(7, 7)] and len(found) == 7
    assert not list(folder.glob(".*"))  # no temporary files are left
    assert (folder / "levels-00000.npy").stat().st_mtime_ns == kept


@pytest.mark.parametrize("damage", ["levels-00002.npy", "labels-00000.npy", "shard-00001.json"])
def test_damaged_files_are_made_again(folder: Path, damage: str) -> None:
    (folder / damage).write_bytes(b"\x93NUMPY damaged")
    with pytest.raises(DataError, match="missing or damaged"):
        load_radio(folder)
    assert len(prepare_radio(folder, 7, TINY, 9, workers=1)) == 7


def test_a_set_grows(folder: Path) -> None:
    before = load_radio(folder)[6].spectrogram
    found = prepare_radio(folder, 11, TINY, 9, workers=1)
    assert len(found) == 11
    np.testing.assert_array_equal(found[6].spectrogram, before)
    np.testing.assert_array_equal(found[10].labels, radio_example(TINY, 9, 10).labels)
    # Asking for fewer gives fewer and removes nothing.
    assert len(prepare_radio(folder, 2, TINY, 9, workers=1)) == 2
    assert len(load_radio(folder)) == 11


def test_processes_make_the_same_set(folder: Path, tmp_path: Path) -> None:
    other = prepare_radio(tmp_path / "other", 7, TINY, 9, workers=2)
    for first, second in zip(load_radio(folder), other, strict=True):
        np.testing.assert_array_equal(first.spectrogram, second.spectrogram)


@pytest.mark.parametrize(
    ("config", "seed", "message"),
    [
        (TINY, 8, "holds a radio set of seed=9; choose another folder. Received: seed=8"),
        (
            dataclasses.replace(TINY, snr_db=(0, 9)),
            9,
            r"a radio set of snr_db=\[-10.0, 40.0\]; .* Received: snr_db=\[0.0, 9.0\]",
        ),
    ],
)
def test_sets_are_not_mixed(folder: Path, config: RadioConfig, seed: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_radio(folder, 7, config, seed, workers=1)


def test_folders_without_a_set_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="no radio set; make one with `prepare_radio`"):
        load_radio(tmp_path / "nothing")
    index = json.loads((folder / "radio.json").read_text())
    (folder / "radio.json").write_text(json.dumps({**index, "version": 0}))
    with pytest.raises(DataError, match="radio set of version 0"):
        load_radio(folder)
    (folder / "radio.json").write_text("{}")
    with pytest.raises(DataError, match=r"lacks \['config', 'n', 'seed', 'version'\]"):
        load_radio(folder)


@pytest.mark.parametrize(("n", "workers"), [(0, 1), (5, 0)])
def test_bad_numbers_are_named(tmp_path: Path, n: int, workers: int) -> None:
    name = "n" if n < 1 else "workers"
    with pytest.raises(ConfigError, match=f"`{name}` must be at least 1. Received: {name}=0"):
        prepare_radio(tmp_path, n, TINY, workers=workers)
