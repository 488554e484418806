"""Scores of known answers, by signal-to-noise ratio too; tables, files, good and bad cases."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from tests.segmentation.small_spectrograms import FRONT_END, FunctionSegmenter, blocks, recipe
from tfspec.errors import ConfigError, DataError
from tfspec.report.curves import line_chart
from tfspec.segmentation.charts import Case, case_panel
from tfspec.segmentation.evaluate import ScoringOptions, score_models, score_store
from tfspec.segmentation.report import good_and_bad
from tfspec.segmentation.stores import open_examples
from tfspec.signal.files import write_json

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Sixty captures from -10 to 40 dB."""
    return open_examples("radio:60", recipe(), cache=tmp_path_factory.mktemp("cache"))


class Oracle(FunctionSegmenter):
    """Knows the truth of every image of a store, and tells it where `believes` says so."""

    def __init__(self, store, believes=lambda snr: True) -> None:
        super().__init__(self._classes, FRONT_END)
        self._truth = {}
        for number, example in enumerate(store):
            image, label = store.load(number)
            told = label if believes(example.snr_db) else np.zeros_like(label)
            self._truth[FRONT_END.scaled(image).tobytes()] = told

    def _classes(self, images: np.ndarray) -> np.ndarray:
        return np.eye(3)[np.stack([self._truth[image.tobytes()] for image in images])]


def test_the_truth_scores_one_at_every_ratio(store):
    found = score_store(Oracle(store), store, "all")
    assert found.scores.mean_iou == found.scores.pixel_acc == 1.0
    assert found.boundary_f1 == (1.0, 1.0, 1.0)
    assert sum(part.examples for part in found.curve) == 60
    assert all(part.scores.mean_iou == 1.0 for part in found.curve)
    known = np.isfinite(store.snr_db)
    silent = [part for part in found.curve if math.isnan(part.low_db)]
    assert sum(part.examples for part in silent) == np.count_nonzero(~known) > 0
    edges = [(part.low_db, part.high_db) for part in found.curve if not math.isnan(part.low_db)]
    assert all(high - low == 5 and low % 5 == 0 for low, high in edges)


def test_weak_signals_that_are_missed_show_in_their_range_only(store):
    estimator = Oracle(store, believes=lambda snr: not snr < 10)
    found = score_store(estimator, store, "all")
    assert found.strong_iou == 1.0 and found.scores.mean_iou < 1.0
    for part in found.curve:
        # Where a class occurs and is never found, its IoU is 0: two of three classes at most.
        assert (part.scores.mean_iou == 1.0) == (not part.high_db <= 10)
    truth = np.concatenate([store.load(i)[1].ravel() for i in range(60)])
    told = np.concatenate(
        [estimator._truth[FRONT_END.scaled(store.load(i)[0]).tobytes()].ravel() for i in range(60)]
    )
    assert found.scores.mean_iou == pytest.approx(jaccard_score(truth, told, average="macro"))
    missed = [e.name for e in store if e.snr_db < 10]
    assert all(found.image_iou[name] < 1.0 for name in missed)
    _, bad = good_and_bad(found.image_iou, store, count=3)
    assert {store[number].name for number in bad} <= set(missed)


def test_good_cases_are_the_weakest_signals_of_the_best_quarter(store):
    iou = {example.name: float(index) for index, example in enumerate(store)}
    good, bad = good_and_bad(iou, store, count=3)
    assert bad == [0, 1, 2]
    ratios = [store.snr_db[number] for number in range(45, 60)]
    assert list(store.snr_db[good]) == sorted(r for r in ratios if math.isfinite(r))[:3]


def test_networks_of_other_sizes_see_the_same_scenes(tmp_path):
    small = FRONT_END
    large = dataclasses.replace(FRONT_END, height=64, width=64)
    seen = {}
    for name, front_end in (("small", small), ("large", large)):
        own = ScoringOptions(radio=recipe().radio).recipe(front_end)
        assert own.front_end.input_shape == front_end.input_shape
        seen[name] = open_examples("radio:4", own, cache=tmp_path)
    np.testing.assert_array_equal(seen["small"].snr_db, seen["large"].snr_db)
    for number in range(4):
        labels = [seen[name].load(number)[1] for name in ("small", "large")]
        # Pixels that a carrier covers half belong to it at one size only: along its edges.
        assert np.mean(labels[0] == labels[1][::2, ::2]) > 0.85


def test_tables_and_files(store, tmp_path):
    cache = store.examples[0].image[0].rsplit("/", 2)[0]
    options = ScoringOptions(split="all", radio=recipe().radio, cache=cache)
    models = {"truth": Oracle(store), "deaf": Oracle(store, believes=lambda snr: False)}
    done = []
    evaluation = score_models(models, "radio:60", options, progress=lambda *at: done.append(at))
    assert done[-1] == (60, 60, "deaf")
    rows = list(csv.DictReader(io.StringIO(evaluation.table().csv)))
    assert [row["row"] for row in rows] == ["truth", "deaf"]
    assert rows[0]["mean IoU"] == "1.000000" and rows[1]["IoU nr"] == "0.000000"
    markdown = evaluation.table().markdown.splitlines()
    assert len({line.count("|") for line in markdown if line.startswith("|")}) == 1
    curve = list(csv.DictReader(io.StringIO(evaluation.curve_table().csv)))
    assert sum(int(row["images"]) for row in curve) == 120
    paths = evaluation.save(tmp_path / "out")
    assert {path.name for path in paths} == {p.name for p in (tmp_path / "out").iterdir()}
    assert (tmp_path / "out" / "snr.png").read_bytes().startswith(PNG)
    found = json.loads((tmp_path / "out" / "scores.json").read_text())["rows"]["deaf"]
    assert found["classes"]["lte"]["iou"] == 0.0
    assert found["images"] == sum(part["images"] for part in found["by_snr"]) == 60
    assert found["boundary_tolerance_pixels"] == 1.0


def test_pictures_have_no_curve(tmp_path):
    evaluation = score_models(
        {"noise": FunctionSegmenter(lambda x: np.eye(3)[np.zeros(x.shape[:3], int)])},
        blocks(2, 2, 3),
        ScoringOptions(cache=tmp_path),
    )
    row = evaluation.rows["noise"]
    assert len(row.image_iou) == 3 and row.curve == () and row.strong is None
    assert evaluation.curve_chart() is None and "n/a" in evaluation.table().markdown
    assert {path.name for path in evaluation.save(tmp_path / "out")} == {
        *("scores.json", "scores.csv", "scores.md")
    }


def test_wrong_requests(store, tmp_path):
    estimator = Oracle(store)
    with pytest.raises(DataError, match=r"there is no test example; the data have \d+ train"):
        score_models({"x": estimator}, blocks(3, 1), ScoringOptions(cache=tmp_path))
    with pytest.raises(ConfigError, match=r"`split` must be one of .*'tests'"):
        score_models({"x": estimator}, blocks(3, 1), ScoringOptions(split="tests", cache=tmp_path))
    with pytest.raises(ConfigError, match="at least one model"):
        score_models({})


def test_charts_refuse_what_they_cannot_draw():
    with pytest.raises(ValueError, match="as many x as y"):
        line_chart({"a": ([1.0], [1.0, 2.0])}, x_label="", y_label="")
    case = Case(
        title="x",
        image=np.zeros((4, 4, 3), np.uint8),
        truth=np.zeros((4, 4), np.uint8),
        labels=np.zeros((4, 5), np.uint8),
    )
    with pytest.raises(ValueError, match="must be of one size"):
        case_panel([case], FRONT_END.axes, classes=("a", "b"))
    with pytest.raises(ValueError, match="at least one case"):
        case_panel([], FRONT_END.axes, classes=("a", "b"))


def test_case_panel_shows_every_class_and_ignored_pixels(rng):
    labels = np.arange(4, dtype=np.uint8).repeat(4).reshape(4, 4)
    labels[0, 0] = 255
    image = rng.integers(0, 255, (4, 4, 3)).astype(np.uint8)
    case = Case(title="12 dB", image=image, truth=labels, labels=labels)
    one, two = (
        case_panel([case] * count, FRONT_END.axes, classes=("a", "b", "c", "d")) for count in (1, 2)
    )
    assert one.startswith(PNG) and len(two) > len(one)


def test_networks_are_scored_on_the_division_of_their_training(tmp_path):
    """Else a test split would hold what the network was trained on."""
    own = recipe(validation_fraction=0.3, test_fraction=0.2, data_seed=7, unknown="ignore")
    metadata = {"task": "segmentation"}
    for name, changed in (("a", own), ("b", dataclasses.replace(own, data_seed=8))):
        (tmp_path / name / "export").mkdir(parents=True)
        write_json(tmp_path / name / "recipe.json", changed.to_dict())
        write_json(tmp_path / name / "tfspec.json", metadata)
    run, exported = tmp_path / "a", tmp_path / "a" / "export" / "model_int8.tflite"
    for models in ([run], [exported], [run, exported, Oracle([])]):
        options = ScoringOptions().as_trained(models)
        made = options.recipe(dataclasses.replace(FRONT_END, height=64))
        fields = ("validation_fraction", "test_fraction", "data_seed", "unknown")
        assert [getattr(made, f) for f in fields] == [getattr(own, f) for f in fields]
        # The scenes are those of the training at the network's own size.
        assert made.radio == dataclasses.replace(own.radio, image_height=64)
    assert ScoringOptions(test_fraction=0.5).as_trained([run]).test_fraction == 0.5
    with pytest.raises(ConfigError, match="trained with different data_seed: 7, 8; give"):
        ScoringOptions().as_trained([run, tmp_path / "b"])
    assert ScoringOptions(data_seed=9).as_trained([run, tmp_path / "b"]).data_seed == 9
    assert ScoringOptions().as_trained([tmp_path / "nowhere"]) == ScoringOptions()
