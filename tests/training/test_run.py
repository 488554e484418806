"""The run folder: records, refusals, lock, and loading a model folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tfspec.errors import ConfigError, ModelError, OutputError, TrainingError
from tfspec.training.run import RunFolder, load_model_folder

RECORD: dict[str, Any] = {
    "recipe": {"learning_rate": 0.01, "epochs": 3, "stft": {"n_fft": 1024}},
    "task": "separation",
    "front_end": {"sample_rate": 11025},
    "targets": ("vocals",),
    "data": {"name": "synth", "licence": "CC0"},
    "seed": 7,
}


def test_create_writes_what_a_model_folder_needs(tmp_path):
    run = RunFolder.create(tmp_path / "a", **RECORD)
    assert run.recipe == RECORD["recipe"]
    metadata = json.loads((tmp_path / "a" / "tfspec.json").read_text())
    assert metadata["task"] == "separation"
    assert metadata["targets"] == ["vocals"]
    assert metadata["data"] == {"name": "synth", "licence": "CC0"}
    assert metadata["seed"] == 7
    assert set(metadata["versions"]) == {"tfspec", "keras", "tensorflow", "numpy", "python"}
    assert metadata["versions"]["numpy"] == np.__version__
    assert metadata["git_commit"] is None or len(metadata["git_commit"]) >= 40
    assert RunFolder.open(tmp_path / "a").metadata == metadata


def test_same_run_returns_and_may_be_prolonged(tmp_path):
    first = RunFolder.create(tmp_path, **RECORD)
    before = first.metadata
    longer = {**RECORD, "recipe": {**RECORD["recipe"], "epochs": 9}}
    again = RunFolder.create(tmp_path, **longer)
    assert again.metadata == before
    assert again.recipe["epochs"] == 9


def test_other_versions_on_resuming_are_recorded_once(tmp_path):
    run = RunFolder.create(tmp_path, **RECORD)
    old = run.metadata
    old["versions"]["keras"] = "3.0.0"
    run.metadata_path.write_text(json.dumps(old))
    for _ in range(2):
        RunFolder.create(tmp_path, **RECORD)
    assert run.metadata["versions"]["keras"] == "3.0.0"
    assert len(run.metadata["resumed_with"]) == 1
    assert run.metadata["resumed_with"][0]["versions"]["keras"] != "3.0.0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": {**RECORD["recipe"], "learning_rate": 1}}, "learning_rate was 0.01, now 1"),
        (
            {"recipe": {**RECORD["recipe"], "stft": {"n_fft": 2048}}},
            r"stft\.n_fft was 1024, now 2048",
        ),
        ({"recipe": {"epochs": 3, "stft": {"n_fft": 1024}}}, r"learning_rate was .*absent"),
        ({"data": {"name": "musdb18", "licence": "CC0"}}, r"data\.name was 'synth'"),
        ({"seed": 8}, "seed was 7, now 8"),
        ({"targets": ("vocals", "bass")}, "targets was"),
    ],
)
def test_another_run_in_the_folder_is_refused(tmp_path, change, message):
    run = RunFolder.create(tmp_path, **RECORD)
    before = run.recipe_path.read_text(), run.metadata_path.read_text()
    with pytest.raises(TrainingError, match=message):
        RunFolder.create(tmp_path, **{**RECORD, **change})
    assert before == (run.recipe_path.read_text(), run.metadata_path.read_text())


def test_foreign_folders_and_files_are_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match=r"'letter\.txt' and no run"):
        RunFolder.create(tmp_path, **RECORD)
    with pytest.raises(OutputError, match="is a file"):
        RunFolder.create(tmp_path / "letter.txt", **RECORD)
    with pytest.raises(OutputError, match="cannot be written"):
        RunFolder.create(tmp_path / "letter.txt" / "run", **RECORD)


def test_missing_licence_and_values_that_json_cannot_hold(tmp_path):
    with pytest.raises(ConfigError, match=r"without \['licence'\]"):
        RunFolder.create(tmp_path / "a", **{**RECORD, "data": {"name": "x"}})
    with pytest.raises(ConfigError, match="recipe: holds a value that JSON cannot"):
        RunFolder.create(tmp_path / "a", **{**RECORD, "recipe": {"rate": float("nan")}})
    assert not (tmp_path / "a").exists()


def test_lock_keeps_another_process_out_and_dies_with_its_owner(tmp_path):
    code = (
        "import sys, time; from tfspec.training.run import RunFolder\n"
        f"with RunFolder({str(tmp_path)!r}).lock():\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert child.stdout.readline() == "held\n"
        with (
            pytest.raises(TrainingError, match=f"process {child.pid} .*trains in this folder"),
            RunFolder(tmp_path).lock(),
        ):
            pass
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    (tmp_path / ".model.abc.partial.keras").touch()
    run = RunFolder(tmp_path)
    with run.lock(), run.lock():
        assert not (tmp_path / ".model.abc.partial.keras").exists()


def test_lock_is_free_for_the_next_object_in_the_same_process(tmp_path):
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    with first.lock(), pytest.raises(TrainingError, match="trains in this folder"), second.lock():
        pass
    with second.lock():
        pass


def test_importing_the_package_leaves_tensorflow_alone():
    code = (
        "import sys, tfspec.training, tfspec.training.run, tfspec.training.state,"
        " tfspec.training.reproducibility; print('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "False"


def test_model_folder_round_trip_is_small_and_uncompiled(tmp_path, tiny: ModuleType):
    run = RunFolder.create(tmp_path, **RECORD)
    model = tiny.tiny_model()
    x, y = tiny.arrays(0)
    model.fit(x, y, verbose=0)
    run.save_model(model)
    loaded, metadata = load_model_folder(tmp_path)
    assert metadata == run.metadata
    assert not loaded.compiled
    assert loaded.name == "tiny"
    assert [v.path for v in loaded.weights] == [v.path for v in model.weights]
    # The same weights through the same operations: equal, not close.
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    model.save(tmp_path / "with_optimizer.keras")
    assert run.model_path.stat().st_size < (tmp_path / "with_optimizer.keras").stat().st_size


def test_broken_model_folders_are_named(tmp_path, tiny: ModuleType):
    with pytest.raises(ModelError, match="no such folder"):
        load_model_folder(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"lacks tfspec\.json"):
        load_model_folder(tmp_path)
    run = RunFolder.create(tmp_path, **RECORD)
    with pytest.raises(ModelError, match=r"lacks model\.keras"):
        load_model_folder(tmp_path)
    run.save_model(tiny.tiny_model())
    whole = run.model_path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        run.model_path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"model\.keras: is damaged") as caught:
            load_model_folder(tmp_path)
        assert "\n" not in str(caught.value)
    run.metadata_path.write_text("{}")
    with pytest.raises(ModelError, match="with a task"):
        load_model_folder(tmp_path)
    run.metadata_path.write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        RunFolder.open(tmp_path)
