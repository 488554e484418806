"""Training end to end: run folders, the paper's log, the best epoch, interrupting, learning."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.segmentation.small_spectrograms import blocks, recipe
from tfspec.errors import ConfigError, TrainingError
from tfspec.segmentation.estimators import load_segmenter
from tfspec.segmentation.evaluate import score_store
from tfspec.segmentation.recipe import SegmentationRecipe
from tfspec.segmentation.stores import open_examples
from tfspec.segmentation.train import build_model, compile_model, learning_rate, train


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "blocks"
    train(
        blocks(48, 16),
        folder,
        recipe(epochs=12, learning_rate=1e-2),
        cache=folder.parent / "cache",
        verbose=False,
    )
    return folder


def test_run_folder_is_complete(run):
    names = {path.name for path in run.iterdir()}
    assert {"recipe.json", "tfspec.json", "model.keras", "history.csv", "metrics.json"} <= names
    assert {"training_log.csv", "calibration.npz"} <= names
    metadata = json.loads((run / "tfspec.json").read_text())
    assert (metadata["task"], metadata["targets"]) == ("segmentation", ["noise", "lte", "nr"])
    own = recipe(epochs=12, learning_rate=1e-2)
    assert metadata["front_end"] == own.picture_front_end.to_dict()
    assert SegmentationRecipe.from_dict(json.loads((run / "recipe.json").read_text())) == own


def test_training_log_has_the_columns_of_the_published_program(run):
    """`csv_writer.writerow(['epoch', 'train_loss', 'val_loss', 'train_iou', 'val_iou'])`."""
    header = (run / "training_log.csv").read_text().splitlines()[0]
    assert header == "epoch,train_loss,val_loss,train_iou,val_iou"
    history, log = rows_of(run / "history.csv"), rows_of(run / "training_log.csv")
    assert [row["epoch"] for row in log] == [str(n) for n in range(1, 13)]
    for ours, theirs in (("mean_iou", "train_iou"), ("val_mean_iou", "val_iou")):
        assert [row[ours] for row in history] == [row[theirs] for row in log]


def test_the_best_validation_iou_is_kept(run, tmp_path):
    history = rows_of(run / "history.csv")
    best = max(float(row["val_mean_iou"]) for row in history)
    training = json.loads((run / "metrics.json").read_text())["training"]
    assert training["monitor"] == "val_mean_iou" and training["best"]["val_mean_iou"] == best
    store = open_examples(blocks(48, 16), recipe(), cache=tmp_path)
    found = score_store(load_segmenter(run), store, "validation")
    # Counted in NumPy from the saved file, and by the Keras metric while training: a pixel on the
    # edge of two classes may round differently.
    assert found.scores.mean_iou == pytest.approx(best, abs=2e-3)


def test_it_learns(run):
    """Boxes of two levels in noise are as easy as it gets; all noise would score 0.25."""
    history = rows_of(run / "history.csv")
    assert max(float(row["val_mean_iou"]) for row in history) > 0.85
    assert float(history[-1]["loss"]) < 0.5 * float(history[0]["loss"])


def test_other_settings_in_the_same_folder_are_refused(run):
    with pytest.raises(TrainingError, match=r"batch_size was 8, now 4"):
        train(blocks(8, 4), run, recipe(epochs=12, batch_size=4), verbose=False)


def test_a_prolonged_run_goes_on(tmp_path):
    options = {"cache": tmp_path / "cache", "verbose": False}
    train(blocks(16, 8), tmp_path / "run", recipe(epochs=1), **options)
    first = rows_of(tmp_path / "run" / "training_log.csv")
    history = train(blocks(16, 8), tmp_path / "run", recipe(epochs=2), **options)
    assert history.resumed and len(history.rows) == 2
    assert rows_of(tmp_path / "run" / "training_log.csv")[:1] == first


def test_nan_names_the_examples(tmp_path, monkeypatch):
    from tfspec.segmentation.data import SegmentationData

    original = SegmentationData._augmented

    def poisoned(self, index, seed):
        image, label = original(self, index, seed)
        return image * float("nan"), label

    monkeypatch.setattr(SegmentationData, "_augmented", poisoned)
    with pytest.raises(TrainingError, match=r"epoch 1, step 1: .*blocks-\d+ \(block seed \d+\)"):
        train(blocks(8, 4), tmp_path / "run", recipe(), cache=tmp_path / "c", verbose=False)


def test_loss_and_optimizer_are_the_recipes():
    own = recipe(loss="dice", l2=3e-4, learning_rate=1e-3)
    model = build_model(own)
    compile_model(model, own, steps_per_epoch=5, class_weights=(1.0, 2.0, 3.0))
    assert (model.loss.cross_entropy, model.loss.dice) == (0.0, 1.0)
    assert model.loss.class_weights == (1.0, 2.0, 3.0)
    assert model.optimizer.l2 == 3e-4


def test_learning_rate_rises_and_falls():
    own = recipe(learning_rate=0.1, schedule="cosine")
    rate = learning_rate(own, 200)
    values = [float(rate(step)) for step in range(201)]
    assert values[0] == 0.0 and max(values) == pytest.approx(0.1)
    assert values.index(max(values)) == 10 and values[200] == pytest.approx(0.0, abs=1e-8)
    assert learning_rate(recipe(schedule="constant", learning_rate=0.1), 200) == 0.1


def test_paper_network_has_its_parameters():
    model = build_model(SegmentationRecipe())
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 295_419


def test_deeplab_is_built_and_checked():
    model = build_model(SegmentationRecipe.preset("deeplab", height=64, width=64))
    assert model.name == "deeplab_v3_plus" and model.output_shape == (None, 64, 64, 3)
    with pytest.raises(ConfigError, match="multiples of output_stride = 16"):
        build_model(SegmentationRecipe.preset("deeplab", height=72, width=64))


def test_an_exported_notebook_model_is_plain_keras(run):
    model = keras.models.load_model(run / "model.keras", compile=False)
    assert model.name == "lightsegnet"
