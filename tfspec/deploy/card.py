"""The two JSON files of an export: what the files are, and the proof that they are right."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfspec.deploy.calibration import describe_calibration
from tfspec.deploy.complexity import count_macs, peak_activation
from tfspec.deploy.examine import Plan, Result, file_name
from tfspec.deploy.inspect import TensorInfo

_PACKAGES = (
    *("keras", "tensorflow", "tensorflow-cpu", "ai-edge-litert", "numpy"),
    *("tflite-micro", "ethos-u-vela"),
)


def verification(
    plan: Plan, results: Mapping[str, Result], keras_score: float | None
) -> dict[str, Any]:
    """Content of `verification.json`: every check with its value and bound, and the figures."""
    checks = [dataclasses.asdict(check) for result in results.values() for check in result.checks]
    return {
        "passed": all(check["passed"] for check in checks),
        "kind": plan.kind,
        "held_out_segments": len(plan.held_out),
        "held_out_rows": None if plan.held_out_rows is None else list(plan.held_out_rows),
        "keras_score": keras_score,
        "checks": checks,
        "measured": {precision: result.measured for precision, result in results.items()},
        "device": {p: r.device.to_dict() for p, r in results.items() if r.device is not None},
        "versions": versions(),
    }


def card(
    plan: Plan,
    results: Mapping[str, Result],
    keras_score: float | None,
) -> dict[str, Any]:
    """Content of `card.json`: what the files are, what they cost, and whose they are."""
    model, known = plan.model, ("licence", "training_data")
    return {
        "model": model.name,
        **{key: plan.provenance.get(key, "not stated") for key in known},
        "parameters": int(model.count_params()),
        "macs": count_macs(model),
        "peak_activation_elements": peak_activation(model),
        "front_end": plan.description["front_end"],
        "target": None if plan.target is None else plan.target.name,
        "labels": list(plan.labels),
        "kind": plan.kind,
        "calibration": describe_calibration(plan.calibration, plan.calibration_rows),
        "keras_score": keras_score,
        "files": {p: _file_entry(p, result) for p, result in results.items()},
        "provenance": {k: v for k, v in plan.provenance.items() if k not in known},
        "machine": {"processor": processor(), "threads": 1},
        "versions": versions(),
    }


def _file_entry(precision: str, result: Result) -> dict[str, Any]:
    report = result.report
    return {
        "file": file_name(precision),
        "bytes": report.bytes,
        "weight_bytes": report.weight_bytes,
        "sha256": result.sha256,
        "min_runtime_version": report.min_runtime_version,
        "signature": report.signature,
        "inputs": [end_entry(end) for end in report.inputs],
        "outputs": [end_entry(end) for end in report.outputs],
        "ops": report.ops,
        "tensor_types": report.tensor_types,
        "per_channel": report.per_channel,
        **result.measured,
        **({} if result.device is None else {"device": result.device.to_dict()}),
    }


def end_entry(end: TensorInfo) -> dict[str, Any]:
    """An input or output as JSON values."""
    return {**dataclasses.asdict(end), "shape": list(end.shape)}


def versions() -> dict[str, str]:
    """Versions of what took part in an export."""
    from importlib import metadata

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def processor() -> str:
    """Name of this machine's processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
