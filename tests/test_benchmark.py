"""`scripts/benchmark.py --quick`: every number is measured, printed and saved.

Whether the numbers are met is not asserted: the machine may be busy with other tests.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A part of the name of each row that carries a requirement.
MEASURED = {
    "pipeline": ("max scaler", "robust scaler", "resident memory", "decode + resample + STFT"),
    "separate": ("peak memory", "forward pass", "training step"),
    "export": (),
    "segment": (),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", MEASURED)
def test_quick_benchmark_measures_everything(command, tmp_path):
    out = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "scripts/benchmark.py", command, "--quick", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(out.read_text(encoding="utf-8"))["results"]
    for row in results:
        assert math.isfinite(row["value"]), row
        assert row["name"] in done.stdout
    required = [row["name"] for row in results if row["met"] is not None]
    for name in MEASURED[command]:
        assert any(name in row for row in required), name


def test_missed_requirement_ends_in_status_1(monkeypatch, capsys):
    import typer

    monkeypatch.syspath_prepend(ROOT / "scripts")
    import benchmark
    from benchmarks.report import Row

    met = Row(name="fast enough", value=2.0, unit="times", at_least=1.0)
    missed = Row(name="too slow", value=0.5, unit="times", at_least=1.0)
    benchmark._finish("Some", [met, missed], None, check=False)
    with pytest.raises(typer.Exit) as stopped:
        benchmark._finish("Some", [met, missed], None, check=True)
    assert stopped.value.exit_code == 1
    assert "missed: too slow\n" in capsys.readouterr().err
