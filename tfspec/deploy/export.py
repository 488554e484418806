"""`export`: a Keras model in, a folder of verified .tflite files with their card out.

The folder appears complete or not at all. A file that fails a check is not delivered: the export
raises and leaves only the protocol of the failed checks beside the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import os
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfspec.deploy.calibration import MIN_SEGMENTS, check_calibration, describe_calibration
from tfspec.deploy.card_page import card_page
from tfspec.deploy.complexity import count_macs, peak_activation
from tfspec.deploy.convert import check_precisions, convert, float32_model, static_input_shape
from tfspec.deploy.inspect import TensorInfo, TfliteReport, gate_problems, inspect_tflite
from tfspec.deploy.metadata import embed_metadata
from tfspec.deploy.runner import TfliteModel, latency_ms
from tfspec.deploy.vectors import write_vectors
from tfspec.deploy.verify import (
    KINDS,
    Check,
    Kind,
    compare,
    gate_checks,
    numeric_checks,
    output_kind,
    score_check,
)
from tfspec.errors import ExportError, ModelError, OutputError
from tfspec.signal.files import write_json

if TYPE_CHECKING:
    import keras

Predict = Callable[[np.ndarray], np.ndarray]

MIN_HELD_OUT = 4
MAX_HELD_OUT = 8
CARD, CARD_PAGE, VERIFICATION = "card.json", "CARD.md", "verification.json"
VECTORS, N_VECTORS = "vectors", 2  # folder of inputs and outputs that other runtimes can repeat


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportReport:
    """A finished export: where it lies and what its two JSON files say."""

    folder: Path
    files: dict[str, Path]
    card: dict[str, Any]
    verification: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """Checked arguments of one export."""

    model: keras.Model
    precisions: tuple[str, ...]
    calibration: np.ndarray
    held_out: np.ndarray
    kind: Kind
    score: Callable[[Predict], float] | None
    max_score_loss: float
    weight: Predict | None
    description: dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class _Result:
    """What was found out about one file."""

    report: TfliteReport
    checks: list[Check]
    sha256: str
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)


def export(
    model: keras.Model,
    out_dir: str | os.PathLike[str],
    *,
    front_end: Mapping[str, Any],
    calibration: np.ndarray,
    precisions: Sequence[str] = ("float32", "float16", "int8"),
    provenance: Mapping[str, Any] | None = None,
    held_out: np.ndarray | None = None,
    score: Callable[[Predict], float] | None = None,
    max_score_loss: float = 0.2,
    weight: Predict | None = None,
    kind: Kind | None = None,
    input_name: str | None = None,
    output_name: str | None = None,
    time_limit: float = 1800.0,
) -> ExportReport:
    """Converts, inspects and verifies a model, and writes the folder `out_dir`.

    Writes `model_PRECISION.tflite`, `card.json` and its page `CARD.md`, `verification.json`, and
    in `vectors/PRECISION/` inputs with the outputs that belong to them. An earlier export at
    `out_dir` is replaced when, and only when, the new one passes.

    Args:
        model: functional Keras model, one input and one output, fixed dimensions.
        out_dir: folder to write.
        front_end: how the input is made from audio and the output is used; JSON-serialisable,
            embedded in each file and returned by `TfliteModel.metadata["front_end"]`.
        calibration: real segments `(segments, *model.input_shape[1:])`, scaled as in use, loud
            and quiet; at least 16, and 4 more when `held_out` is not given.
        precisions: of `tfspec.deploy.convert.PRECISIONS`.
        provenance: goes into the card as it is; `licence` and `training_data` are shown first.
        held_out: segments for the numeric comparison, other than those of `calibration`;
            default: up to 8 of `calibration`, which then do not calibrate.
        score: the task's quality measure, higher is better, called with a function from input
            to output batches (float32 arrays): once for Keras and once per file.
        max_score_loss: by how much a file's score may lie below that of Keras.
        weight: from an input batch to what the output is multiplied by in use, e.g. the
            magnitudes of a mask; precisions below float32 are then judged by the products. The
            card states the error of the output itself beside it.
        kind: bounds to apply: `"mask"`, `"classifier"` or `"regression"`; default: by the last
            layer.
        input_name: name of the input in the signature; default: that of the model.
        output_name: likewise.
        time_limit: seconds until the conversion is given up.

    Raises:
        ExportError: unusable arguments, a failed conversion, or a file that failed its checks:
            these are then in `<out_dir>.verification.json`, and no artefact is written.
        OutputError: the folder cannot be written, or holds something else than an export.
    """
    final = Path(out_dir)
    _check_target(final)
    plan = _plan(model, precisions, calibration, held_out, kind, score, max_score_loss, weight)
    plan.description.update(front_end=dict(front_end), format=1)
    files = convert(
        plan.model,
        plan.precisions,
        calibration=plan.calibration,
        input_name=input_name,
        output_name=output_name,
        time_limit=time_limit,
    )
    protocol = final.with_name(f"{final.name}.{VERIFICATION}")
    with _folder(final) as folder:
        results, keras_score = _examine(plan, files, folder)
        verification = _verification(plan, results, keras_score)
        failed = [c for result in results.values() for c in result.checks if not c.passed]
        if failed:
            write_json(protocol, verification)
            raise ExportError(_failure(failed, protocol))
        card = _card(plan, results, keras_score, dict(provenance or {}))
        write_json(folder / VERIFICATION, verification)
        write_json(folder / CARD, card)
        page = card_page(card, verification)
        (folder / CARD_PAGE).write_text(page, encoding="utf-8")
        for precision in plan.precisions:
            vectors = folder / VECTORS / precision
            write_vectors(vectors, folder / _file_name(precision), plan.held_out[:N_VECTORS])
    protocol.unlink(missing_ok=True)
    paths = {p: final / _file_name(p) for p in plan.precisions}
    return ExportReport(folder=final, files=paths, card=card, verification=verification)


def _file_name(precision: str) -> str:
    return f"model_{precision}.tflite"


def _failure(failed: Sequence[Check], protocol: Path) -> str:
    precisions = sorted({check.precision for check in failed})
    shown = "; ".join(map(str, failed[:3]))
    rest = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    return (
        f"export failed: {shown}{rest}; mend the model or leave out {', '.join(precisions)}; "
        f"all checks are in {protocol}"
    )


def _plan(
    model: keras.Model,
    precisions: Sequence[str],
    calibration: np.ndarray,
    held_out: np.ndarray | None,
    kind: Kind | None,
    score: Callable[[Predict], float] | None,
    max_score_loss: float,
    weight: Predict | None,
) -> _Plan:
    check_precisions(precisions)
    if kind is not None and kind not in KINDS:
        raise ExportError(f"`kind` must be one of {', '.join(KINDS)}. Received: kind={kind!r}")
    shape = static_input_shape(model)[1:]
    segments = check_calibration(calibration, shape)
    if held_out is None:
        segments, tested = _hold_out(segments)
    else:
        tested = check_calibration(held_out, shape, minimum=1)
    plain = float32_model(model)
    return _Plan(
        model=plain,
        precisions=tuple(dict.fromkeys(precisions)),
        calibration=segments,
        held_out=tested,
        kind=kind or output_kind(plain),
        score=score,
        max_score_loss=max_score_loss,
        weight=weight,
        description={},
    )


def _hold_out(segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits segments into (calibration, held out), the latter evenly spaced."""
    count = min(MAX_HELD_OUT, len(segments) - MIN_SEGMENTS)
    if count < MIN_HELD_OUT:
        raise ExportError(
            f"`calibration` must have at least {MIN_SEGMENTS + MIN_HELD_OUT} segments, of which "
            f"{MIN_HELD_OUT} only verify, unless `held_out` is given. Received: {len(segments)}"
        )
    chosen = np.linspace(0, len(segments) - 1, count).round().astype(int)
    return np.delete(segments, chosen, axis=0), segments[chosen]


def _examine(
    plan: _Plan, files: Mapping[str, bytes], folder: Path
) -> tuple[dict[str, _Result], float | None]:
    """Writes each file with its description, then inspects, runs and scores what was written."""
    predict = _keras_predict(plan.model)
    reference = predict(plan.held_out)
    keras_score = None if plan.score is None else float(plan.score(predict))
    results = {}
    for precision, content in files.items():
        path = folder / _file_name(precision)
        path.write_bytes(embed_metadata(content, {**plan.description, "precision": precision}))
        results[precision] = _examine_file(plan, precision, path, reference, keras_score)
    return results, keras_score


def _examine_file(
    plan: _Plan, precision: str, path: Path, reference: np.ndarray, keras_score: float | None
) -> _Result:
    report = inspect_tflite(path, layer_names=[layer.name for layer in plan.model.layers])
    checks = gate_checks(precision, gate_problems(report, precision))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    result = _Result(report=report, checks=checks, sha256=digest)
    try:
        runner = TfliteModel(path, num_threads=1)
    except ModelError as error:
        checks += gate_checks(precision, [str(error)])
        return result
    output = runner(plan.held_out)
    comparison = compare(reference, output)
    weighted = None
    if plan.weight is not None:
        factor = plan.weight(plan.held_out)
        weighted = compare(reference * factor, output * factor)
    checks += numeric_checks(precision, plan.kind, comparison, weighted)
    result.measured = {
        "snr_db": round(comparison.snr_db, 2),
        "weighted_snr_db": None if weighted is None else round(weighted.snr_db, 2),
        "max_abs_error": min(comparison.max_abs_error, float(np.finfo(np.float32).max)),
        "agreement": comparison.agreement,
        "latency_ms": round(latency_ms(runner, plan.held_out[:1], seconds=0.2), 3),
    }
    if plan.score is not None and keras_score is not None:
        score = float(plan.score(runner))
        result.measured["score"] = score
        checks.append(score_check(precision, keras_score, score, plan.max_score_loss))
    return result


def _keras_predict(model: keras.Model) -> Predict:
    import keras

    def predict(batch: np.ndarray) -> np.ndarray:
        # One segment at a time: the paper's network needs about 0.5 GB per segment.
        outputs = [model(segment[None], training=False) for segment in np.asarray(batch)]
        return np.concatenate([keras.ops.convert_to_numpy(output) for output in outputs])

    return predict


def _verification(
    plan: _Plan, results: Mapping[str, _Result], keras_score: float | None
) -> dict[str, Any]:
    checks = [dataclasses.asdict(check) for result in results.values() for check in result.checks]
    return {
        "passed": all(check["passed"] for check in checks),
        "kind": plan.kind,
        "held_out_segments": len(plan.held_out),
        "keras_score": keras_score,
        "checks": checks,
        "measured": {precision: result.measured for precision, result in results.items()},
        "versions": _versions(),
    }


def _card(
    plan: _Plan,
    results: Mapping[str, _Result],
    keras_score: float | None,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    model = plan.model
    return {
        "model": model.name,
        "licence": provenance.pop("licence", "not stated"),
        "training_data": provenance.pop("training_data", "not stated"),
        "parameters": int(model.count_params()),
        "macs": count_macs(model),
        "peak_activation_elements": peak_activation(model),
        "front_end": plan.description["front_end"],
        "calibration": describe_calibration(plan.calibration),
        "keras_score": keras_score,
        "files": {p: _file_entry(p, result) for p, result in results.items()},
        "provenance": provenance,
        "machine": {"processor": _processor(), "threads": 1},
        "versions": _versions(),
    }


def _file_entry(precision: str, result: _Result) -> dict[str, Any]:
    report = result.report
    return {
        "file": _file_name(precision),
        "bytes": report.bytes,
        "weight_bytes": report.weight_bytes,
        "sha256": result.sha256,
        "min_runtime_version": report.min_runtime_version,
        "signature": report.signature,
        "inputs": [_end_entry(end) for end in report.inputs],
        "outputs": [_end_entry(end) for end in report.outputs],
        "ops": report.ops,
        "tensor_types": report.tensor_types,
        "per_channel": report.per_channel,
        **result.measured,
    }


def _end_entry(end: TensorInfo) -> dict[str, Any]:
    return {**dataclasses.asdict(end), "shape": list(end.shape)}


def _versions() -> dict[str, str]:
    from importlib import metadata

    versions = {"python": platform.python_version()}
    for package in ("keras", "tensorflow", "tensorflow-cpu", "ai-edge-litert", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _check_target(final: Path) -> None:
    """Refuses, before the long work, a target that is a file or a folder of something else."""
    if final.exists() and not final.is_dir():
        raise OutputError(f"{final}: is a file; name a folder for the export")
    if final.is_dir() and any(final.iterdir()) and not (final / CARD).exists():
        raise OutputError(f"{final}: holds something else than an export; choose another folder")


@contextlib.contextmanager
def _folder(final: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `final`, which takes its place if the block succeeds."""
    mark = uuid.uuid4().hex[:8]
    temporary = final.with_name(f".{final.name}.{mark}.partial")
    replaced = final.with_name(f".{final.name}.{mark}.replaced")
    try:
        for leftover in final.parent.glob(f".{glob.escape(final.name)}.*.partial"):
            shutil.rmtree(leftover)  # of an export that was killed
        temporary.mkdir(parents=True)
        yield temporary
        if final.exists():
            final.rename(replaced)
        try:
            temporary.rename(final)
        except OSError:
            if replaced.exists():
                replaced.rename(final)
            raise
    except OSError as error:
        raise OutputError(
            f"{final}: cannot be written ({error.strerror or error}); choose another place"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
