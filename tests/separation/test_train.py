"""Training end to end: the README's notebook, run folders, the SIGKILL promise on real data."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from tests.separation.songs import noise_songs
from tfspec.errors import TrainingError
from tfspec.separation.estimators import load_estimator
from tfspec.separation.export import load_calibration
from tfspec.separation.recipe import SeparationRecipe


def tiny(**changes) -> SeparationRecipe:
    """Small enough for a test: 4 base filters, 32 frames, two pools."""
    small = {"base_filters": 4, "depth": 2, "segment_frames": 32, "batch_size": 8, "epochs": 2}
    return SeparationRecipe.preset("tiny", **{**small, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    from tfspec.separation.train import train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(noise_songs(3, 1, 4.0), folder, tiny(), cache=folder.parent / "cache", verbose=False)
    return folder


def test_run_folder_is_complete(run):
    names = {path.name for path in run.iterdir()}
    assert {"recipe.json", "tfspec.json", "model.keras", "history.csv", "metrics.json"} <= names
    metadata = json.loads((run / "tfspec.json").read_text())
    assert metadata["task"] == "separation"
    assert metadata["front_end"] == tiny().front_end.to_dict()
    assert metadata["data"]["licence"] and metadata["seed"] == 42
    assert SeparationRecipe.from_dict(json.loads((run / "recipe.json").read_text())) == tiny()
    assert len((run / "history.csv").read_text().splitlines()) == 3
    arrays = load_calibration(run)
    # Less than 96 s: all examples of three songs of 4 s, each 5 segments, 4 splices, 2 blackouts.
    assert arrays["segments"].shape == (33, 512, 32, 1)
    assert arrays["mixture"].shape == arrays["target"].shape == (5, 512, 32, 1)


def test_model_folder_estimates_masks(run, rng):
    estimator = load_estimator(run)
    magnitude = rng.random((2, 512, 32, 1)).astype(np.float32)
    mask = estimator(magnitude)
    assert mask.shape == magnitude.shape and mask.min() >= 0 and mask.max() <= 1
    # Masks depend on the shape of a segment, not on its level.
    np.testing.assert_allclose(estimator(100 * magnitude), mask, atol=1e-5)
    np.testing.assert_allclose(estimator.magnitude(magnitude), mask * magnitude, rtol=1e-5)


def test_other_settings_in_the_same_folder_are_refused(run):
    from tfspec.separation.train import train

    with pytest.raises(TrainingError, match=r"batch_size was 8, now 4"):
        train(noise_songs(3, 1, 4.0), run, tiny(batch_size=4), verbose=False)


def test_nan_names_the_songs(tmp_path):
    from tfspec.separation.train import train

    # A learning rate of 1 with a squared error diverges within a few steps on the linear head.
    recipe = SeparationRecipe(
        base_filters=4, depth=2, segment_frames=32, batch_size=4, epochs=5, learning_rate=1.0
    )
    songs = noise_songs(3, 1, 4.0)
    import tfspec.separation.data as data_module

    original = data_module.SeparationData._finish

    def poisoned(self, batch, names, seed, *, gain):
        x, y, names = original(self, batch, names, seed, gain=gain)
        return (x * float("nan") if gain else x), y, names

    data_module.SeparationData._finish = poisoned
    try:
        with pytest.raises(TrainingError, match=r"epoch 1, step 1: .*song-\d \(noise seed \d\)"):
            train(songs, tmp_path / "run", recipe, cache=tmp_path / "cache", verbose=False)
    finally:
        data_module.SeparationData._finish = original


CHILD = """
import sys
from tests.separation.songs import noise_songs
from tests.separation.test_train import tiny
from tfspec.separation.train import train
train(noise_songs(4, 1, 6.0), sys.argv[1], tiny(epochs=2), cache=sys.argv[2],
      deterministic=True, checkpoint_seconds=0.0, verbose=False)
"""


@pytest.mark.slow
def test_sigkill_inside_an_epoch_changes_nothing(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1"}

    def start(name):
        command = [sys.executable, "-c", CHILD, str(tmp_path / name), str(tmp_path / "cache")]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    assert start("whole").wait() == 0
    checkpoint = tmp_path / "killed" / "checkpoints" / "last.npz"
    child = start("killed")
    while not (checkpoint.exists() and _step(checkpoint) > 2):
        assert child.poll() is None, "the child ended before it could be killed"
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    assert start("killed").wait() == 0
    import keras

    import tfspec.separation.models  # noqa: F401

    first, second = (
        keras.saving.load_model(tmp_path / name / "model.keras") for name in ("whole", "killed")
    )
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    rows = [(tmp_path / name / "history.csv").read_text() for name in ("whole", "killed")]
    # All but the column of seconds.
    assert [r.rsplit(",", 1)[0] for r in rows[0].splitlines()] == [
        r.rsplit(",", 1)[0] for r in rows[1].splitlines()
    ]


def _step(checkpoint: Path) -> int:
    from tfspec.training.state import SavedState

    return SavedState(checkpoint).position.step


@pytest.mark.slow
def test_readme_notebook(tmp_path):
    """The README's example, word for word but for fewer songs and epochs."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL).group(1)
    assert "synth:40" in code and "epochs=4" in code
    code = code.replace("synth:40", "synth:3").replace("epochs=4", "epochs=1")
    noise = 0.1 * np.random.default_rng(0).standard_normal((3 * 22050, 2))
    soundfile.write(tmp_path / "song.mp3", noise, 22050, format="MP3")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFSPEC_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    info = soundfile.info(tmp_path / "vocals.wav")
    assert (info.samplerate, info.channels) == (22050, 2)
