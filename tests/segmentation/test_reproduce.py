"""`scripts/reproduce_lightsegnet.py` from end to end, in miniature."""

from __future__ import annotations

import csv
import dataclasses

import pytest

from tests.conftest import ROOT


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_papers_table_is_complete(scripts):
    from lightsegnet.settings import PAPER_TABLE, SETTINGS, table_recipe

    assert len(PAPER_TABLE) == SETTINGS["paper"].epochs == table_recipe(SETTINGS["paper"]).epochs
    assert max(row.val_iou for row in PAPER_TABLE) == PAPER_TABLE[9].val_iou == 0.9584
    # "Steady increase": epochs 3, 8 and 9 fall.
    falls = [n + 2 for n in range(9) if PAPER_TABLE[n + 1].val_iou < PAPER_TABLE[n].val_iou]
    assert falls == [3, 8, 9]


def test_ablation_table_has_mean_and_spread(scripts, tmp_path):
    from lightsegnet.tables import write_ablation

    runs = {
        "a": [{"validation": 0.5, "test": t, "strong": 0.9} for t in (0.4, 0.6, 0.8)],
        "b": [{"validation": 0.5, "test": 0.5, "strong": 0.9}],
    }
    write_ablation(tmp_path, runs, "caption")
    first, second = table(tmp_path / "ablation.csv")
    assert (first["test mean IoU"], first["test mean IoU (spread)"]) == ("0.6000", "0.2000")
    assert second["difference to the first"] == "-0.1000"
    assert second["test mean IoU (spread)"] == "nan"


@pytest.mark.slow
def test_it_goes_on_where_it_stopped(scripts, tmp_path, monkeypatch):
    import reproduce_lightsegnet as script
    from lightsegnet import settings, study
    from lightsegnet.study import Study

    # Each run costs seconds of tracing; two variants are enough to stop among.
    few = dict(list(settings.VARIANTS.items())[:2])
    for module in (script, settings, study):
        monkeypatch.setattr(module, "VARIANTS", few)
    # Tracing DeepLabV3+ takes a minute, and is tested with the network itself.
    monkeypatch.setattr(script, "reference_recipe", settings.own_recipe)

    tiny = dataclasses.replace(
        settings.SETTINGS["short"],
        examples=24,
        test_examples=12,
        size=32,
        epochs=1,
        ablation_size=32,
        ablation_examples=16,
        seeds=2,
        device_epochs=1,
    )
    monkeypatch.setitem(settings.SETTINGS, "short", tiny)
    original, done = Study.ablation_run, []

    def interrupted(self, variant, number):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append((variant, number))
        return original(self, variant, number)

    options = {"data": None, "setting": "short", "cache": tmp_path / "cache", "seed": 1}
    monkeypatch.setattr(Study, "ablation_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        script.main(tmp_path, **options)
    assert (tmp_path / "networks.md").exists() and not (tmp_path / "ablation.md").exists()
    again = []
    monkeypatch.setattr(
        Study,
        "ablation_run",
        lambda self, *run: again.append(run) or original(self, *run),
    )
    script.main(tmp_path, **options)
    assert len(again) == 2 * len(few) - 3 and not set(again) & set(done)
    (epoch,) = table(tmp_path / "epochs.csv")
    assert epoch["paper: val IoU"] == "0.8433" and 0 < float(epoch["ours: val IoU"]) < 1
    rows = {row["network"]: row for row in table(tmp_path / "networks.csv")}
    assert rows["LightSegNet"]["parameters"] == "295,419"
    assert {"DeepLabV3+", "LightSegNet micro-64"} <= set(rows)
    assert [row["variant"] for row in table(tmp_path / "ablation.csv")] == [*few]
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"loss.png", "iou.png", "snr.png", "good_cases.png", "bad_cases.png"}
