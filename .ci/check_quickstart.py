"""What scripts/quickstart.sh must have left in the folder named by TFSPEC_QUICKSTART."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="module")
def folder() -> Path:
    """What the quickstart wrote."""
    return Path(os.environ["TFSPEC_QUICKSTART"])


def _leaves(value: Any) -> list[Any]:
    """All values of a JSON document that are neither lists nor objects."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def test_report_is_one_complete_page(folder: Path) -> None:
    """The page ends, and shows pictures and sounds that it holds itself."""
    pages = sorted(folder.rglob("report.html"))
    assert pages, f"no report.html under {folder}"
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.rstrip().endswith("</html>")
        assert "data:image/png;base64," in text
        assert 'src="http' not in text and 'href="http' not in text
    assert any('src="data:audio/' in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("row", ["mixture", "ideal", "keras", "int8"])
def test_scores_name_every_row(folder: Path, row: str) -> None:
    """Baselines and models are all scored, with finite numbers."""
    files = sorted(folder.rglob("scores.json"))
    assert files, f"no scores.json under {folder}"
    scores = json.loads(files[0].read_text(encoding="utf-8"))
    assert row in json.dumps(scores).lower(), f"{files[0]} has no row for {row}"
    numbers = [leaf for leaf in _leaves(scores) if isinstance(leaf, (int, float))]
    assert numbers and all(math.isfinite(number) for number in numbers)


@pytest.mark.parametrize("stem", ["vocals", "accompaniment"])
def test_stems_hold_sound(folder: Path, stem: str) -> None:
    """Each stem is an audio file of a second or more that is not silent."""
    files = sorted(folder.rglob(f"*{stem}*.wav"))
    assert files, f"no *{stem}*.wav under {folder}"
    for path in files:
        waveform, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
        assert len(waveform) >= sample_rate, f"{path} is shorter than a second"
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() > 1e-3, f"{path} is silent"


def test_int8_model_is_a_tflite_file(folder: Path) -> None:
    """The exported model is a flatbuffer of the right kind."""
    files = sorted(folder.rglob("*int8*.tflite"))
    assert files, f"no *int8*.tflite under {folder}"
    for path in files:
        # The flatbuffer's file identifier.
        assert path.read_bytes()[4:8] == b"TFL3"
