"""The whole export: what is written, what is refused, and what an interruption leaves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from tfspec.deploy import export as export_module
from tfspec.deploy.complexity import count_macs
from tfspec.deploy.export import export
from tfspec.deploy.metadata import embed_metadata
from tfspec.deploy.runner import TfliteModel
from tfspec.deploy.vectors import check_vectors
from tfspec.errors import ExportError, OutputError

PROVENANCE = {"licence": "CC0-1.0", "training_data": "synthetic", "seed": 3}


@pytest.fixture(scope="module")
def exported(unet, segments, held_out, front_end, tmp_path_factory):
    """One real export, through the converter, with scores."""
    reference = np.asarray(unet(held_out, training=False))

    def score(predict) -> float:
        # The "task": how far, in dB, the output stands above its distance from 0.98 x Keras.
        error = predict(held_out) - 0.98 * reference
        return float(10 * np.log10(np.sum(reference**2) / np.sum(error**2)))

    folder = tmp_path_factory.mktemp("run") / "export"
    return export(
        unet,
        folder,
        front_end=front_end,
        calibration=segments,
        precisions=("float32", "float16", "int8"),
        provenance=PROVENANCE,
        score=score,
        max_score_loss=3.0,
    )


@pytest.fixture
def fast_convert(monkeypatch, converted):
    """Conversion from the cache: these tests are about the folder."""

    def cached(model, precisions, **_):
        return {p: converted[p] for p in precisions}

    monkeypatch.setattr(export_module, "convert", cached)


@pytest.fixture
def options(segments, held_out, front_end):
    return {
        "front_end": front_end,
        "calibration": segments,
        "held_out": held_out,
        "precisions": ("float32", "int8"),
    }


def test_folder_holds_the_files_the_card_and_the_protocol(exported):
    assert sorted(path.name for path in exported.folder.iterdir()) == [
        "CARD.md",
        "card.json",
        "model_float16.tflite",
        "model_float32.tflite",
        "model_int8.tflite",
        "vectors",
        "verification.json",
    ]
    assert list(exported.folder.parent.iterdir()) == [exported.folder]
    card = json.loads((exported.folder / "card.json").read_text())
    verification = json.loads((exported.folder / "verification.json").read_text())
    assert card == exported.card and verification == exported.verification
    assert exported.card["files"]["int8"]["sha256"] in (exported.folder / "CARD.md").read_text()


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_vectors_are_what_the_files_compute(exported, precision):
    model = TfliteModel(exported.files[precision])
    assert check_vectors(exported.folder / "vectors" / precision, model) == []
    other = check_vectors(exported.folder / "vectors" / precision, lambda x: 0 * model(x))
    assert len(other) == 2


def test_card_describes_the_files_truly(exported, unet, segments, front_end):
    card = exported.card
    assert (card["licence"], card["training_data"]) == ("CC0-1.0", "synthetic")
    assert card["provenance"] == {"seed": 3}
    assert card["macs"] == count_macs(unet)
    assert card["front_end"] == front_end
    assert card["calibration"]["segments"] == 24 - 8  # the others were held out
    tested = exported.verification["held_out_rows"]
    assert tested == [0, 3, 7, 10, 13, 16, 20, 23]  # evenly spaced
    assert card["calibration"]["rows"] == [row for row in range(24) if row not in tested]
    served = np.delete(segments, tested, axis=0)
    assert card["calibration"]["sha256"] == hashlib.sha256(served.tobytes()).hexdigest()
    for precision, entry in card["files"].items():
        content = exported.files[precision].read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["inputs"][0] == {
            "name": "spectrogram",
            "shape": [1, 64, 32, 1],
            "dtype": "float32",
            "scale": None,
            "zero_point": None,
        }
        assert entry["latency_ms"] > 0
        assert entry["ops"]["CONV_2D"] == 6
    assert card["files"]["float32"]["max_abs_error"] <= 1e-5
    assert card["files"]["float16"]["snr_db"] >= 60
    assert 35 <= card["files"]["int8"]["snr_db"] <= 60
    scores = [card["files"][p]["score"] for p in ("float32", "int8")]
    assert card["keras_score"] == pytest.approx(scores[0], abs=1e-3)
    assert card["keras_score"] > scores[1]


def test_another_conversion_gives_the_same_bytes(exported, converted):
    description = TfliteModel(exported.files["float32"]).metadata
    again = embed_metadata(converted["float32"], description)
    assert hashlib.sha256(again).hexdigest() == exported.card["files"]["float32"]["sha256"]


def test_protocol_lists_every_check(exported):
    verification = exported.verification
    assert verification["passed"] and verification["kind"] == "mask"
    assert verification["held_out_segments"] == 8
    names = {(check["precision"], check["name"]) for check in verification["checks"]}
    assert {
        ("float32", "graph"),
        ("float32", "largest error"),
        ("float16", "SNR in dB"),
        ("int8", "SNR in dB"),
        ("int8", "score loss"),
    } <= names


def test_exported_file_runs_and_carries_its_front_end(exported, unet, held_out, front_end):
    model = TfliteModel(exported.files["int8"])
    assert model.metadata["front_end"] == front_end
    assert model.metadata["precision"] == "int8"
    expected = np.asarray(unet(held_out, training=False))
    assert np.abs(model(held_out) - expected).mean() < 1 / 256


def test_failed_verification_delivers_nothing_but_the_protocol(
    build_unet, options, tmp_path, fast_convert
):
    """Files that hold other weights than the model pass the gate, not the comparison."""
    keras.utils.set_random_seed(5)
    unet = build_unet()
    out = tmp_path / "export"
    with pytest.raises(ExportError, match="export failed: float32 largest error: ") as caught:
        export(unet, out, **options)
    message = str(caught.value)
    assert "\n" not in message and "export.verification.json" in message
    assert [path.name for path in tmp_path.iterdir()] == ["export.verification.json"]
    verification = json.loads((tmp_path / "export.verification.json").read_text())
    assert not verification["passed"]
    failed = {c["precision"] for c in verification["checks"] if not c["passed"]}
    assert failed == {"float32", "int8"}


def test_gate_findings_fail_the_export(unet, options, tmp_path, monkeypatch, converted):
    files = {"float32": converted["float32"], "int8": converted["float32"]}
    monkeypatch.setattr(export_module, "convert", lambda *_, **__: files)
    with pytest.raises(ExportError, match=r"int8 graph: layer .* stays in float"):
        export(unet, tmp_path / "export", **options)


def test_score_loss_fails_the_export(unet, options, tmp_path, fast_convert):
    scores = iter([6.0, 6.0, 5.5])
    with pytest.raises(ExportError, match=r"int8 score loss: 0.5 \(must be <= 0.2\)"):
        export(unet, tmp_path / "export", **options, score=lambda predict: next(scores))


def test_failure_keeps_the_earlier_export_and_success_replaces_it(
    unet, options, tmp_path, fast_convert
):
    out = tmp_path / "export"
    first = export(unet, out, **options)
    with pytest.raises(ExportError):
        worse = iter([1.0, 0.0, 0.0])
        export(unet, out, **options, score=lambda predict: next(worse))
    assert json.loads((out / "card.json").read_text()) == first.card
    assert (tmp_path / "export.verification.json").exists()
    export(unet, out, **{**options, "precisions": ["float32"]})
    assert not (out / "model_int8.tflite").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_weighted_export_reports_both_errors(unet, options, held_out, tmp_path, fast_convert):
    report = export(unet, tmp_path / "export", **options, weight=np.square)
    entry = report.card["files"]["int8"]
    got = TfliteModel(report.files["int8"])(held_out).astype(np.float64)
    expected = np.asarray(unet(held_out, training=False)).astype(np.float64)
    for key, factor in (("snr_db", 1.0), ("weighted_snr_db", held_out.astype(np.float64) ** 2)):
        signal_power = np.sum((expected * factor) ** 2)
        error_power = np.sum(((got - expected) * factor) ** 2)
        # Keras runs single segments there and the batch here: 1e-7 apart, far below int8.
        assert entry[key] == pytest.approx(10 * np.log10(signal_power / error_power), abs=0.02)
    assert report.verification["measured"]["int8"]["snr_db"] == entry["snr_db"]
    names = {c["name"] for c in report.verification["checks"] if c["precision"] == "int8"}
    kernels = "SNR in dB of XNNPACK against the reference"
    assert names == {"graph", "output is finite", "weighted SNR in dB", kernels}


@pytest.mark.parametrize("place", ["described", "inspect_file", "card"])
def test_interruption_leaves_nothing(unet, options, tmp_path, fast_convert, monkeypatch, place):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, place, interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(unet, tmp_path / "export", **options)
    assert list(tmp_path.iterdir()) == []


def test_foreign_folders_and_files_are_not_touched(unet, options, tmp_path, fast_convert):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("unique")
    with pytest.raises(OutputError, match="thesis: holds something else than an export"):
        export(unet, tmp_path / "thesis", **options)
    with pytest.raises(OutputError, match=r"chapter.txt: is a file"):
        export(unet, tmp_path / "thesis" / "chapter.txt", **options)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "unique"
    with pytest.raises(OutputError, match=r"chapter.txt/export: cannot be written \(Not a dir"):
        export(unet, tmp_path / "thesis" / "chapter.txt" / "export", **options)


def test_arguments_are_checked_before_any_work(unet, options, tmp_path, segments):
    out, noise = tmp_path / "export", np.random.default_rng(0).random(segments.shape)
    for change, message in (
        ({"precisions": []}, "must list some of"),
        ({"kind": "speech"}, "`kind` must be one of mask, classifier, regression"),
        ({"calibration": segments * np.nan}, "NaN or infinite"),
        ({"calibration": segments * 0}, "is constant"),
        ({"calibration": segments[:0]}, "is empty"),
        ({"calibration": noise}, "`calibration` is random: its 49152 values"),
        ({"held_out": segments[:0]}, "is empty"),
        ({"held_out": None, "calibration": segments[:19]}, "at least 20 segments"),
    ):
        with pytest.raises(ExportError, match=message):
            export(unet, out, **{**options, **change})
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import sys, time
import keras, numpy as np
from keras import layers
from tfspec.deploy.export import export

inputs = keras.Input((8, 8, 1), name="spectrogram")
outputs = layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="mask")(inputs)
data = np.random.default_rng(0).random((20, 8, 8, 1))

def score(predict):
    predict(data)
    if sys.argv[2] == "wait":
        open(sys.argv[1] + ".waiting", "w").close()
        time.sleep(60)
    return 1.0

export(keras.Model(inputs, outputs), sys.argv[1], front_end={{}}, calibration=data,
       precisions=["float32"], score=score)
"""


@pytest.mark.slow
def test_killed_export_leaves_no_folder_and_the_next_one_cleans_up(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).replace("{{}}", "{}"))
    place = tmp_path / "out"
    place.mkdir()
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, str(script), str(place / "export")]
    process = subprocess.Popen([*command, "wait"], env=environment)
    deadline = time.monotonic() + 400
    while not (place / "export.waiting").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (place / "export.waiting").unlink()
    left = [path.name for path in place.iterdir()]
    assert all(name.startswith(".export.") and name.endswith(".partial") for name in left)
    subprocess.run([*command, "finish"], env=environment, check=True, timeout=400)
    assert [path.name for path in place.iterdir()] == ["export"]
