"""`export`: a Keras model in, a folder of verified .tflite files with their card out.

The folder appears complete or not at all. A file that fails a check is not delivered: the export
raises and leaves only the protocol of the failed checks beside the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfspec.deploy.calibration import MIN_SEGMENTS, check_calibration, refuse_noise
from tfspec.deploy.card import card, verification
from tfspec.deploy.card_page import card_page
from tfspec.deploy.convert import (
    INTEGER,
    check_precisions,
    convert,
    float32_model,
    static_input_shape,
)
from tfspec.deploy.device import Smaller, check_fit, device_files, examine_on_device
from tfspec.deploy.examine import (
    Plan,
    Predict,
    Result,
    described,
    file_name,
    inspect_file,
    keras_predict,
    measure_file,
)
from tfspec.deploy.targets import Target, load_target
from tfspec.deploy.vectors import write_vectors
from tfspec.deploy.verify import KINDS, Check, Kind, output_kind
from tfspec.errors import ConfigError, ExportError, OutputError
from tfspec.signal.files import write_json

if TYPE_CHECKING:
    import keras

DEFAULT_PRECISIONS = ("float32", "float16", "int8")
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


def export(
    model: keras.Model,
    out_dir: str | os.PathLike[str],
    *,
    front_end: Mapping[str, Any],
    calibration: np.ndarray,
    precisions: Sequence[str] | None = None,
    target: str | os.PathLike[str] | Target | None = None,
    max_arena: int | None = None,
    max_flash: int | None = None,
    smaller: Sequence[Smaller] = (),
    labels: Sequence[str] = (),
    audio_sample_rate: int | None = None,
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
    in `vectors/PRECISION/` inputs with the outputs that belong to them; for a microcontroller
    also `c/`: the model as C++ source, its tables, and the C front end. An earlier export at
    `out_dir` is replaced when, and only when, the new one passes.

    Args:
        model: functional Keras model, one input and one output, fixed dimensions.
        out_dir: folder to write.
        front_end: how the input is made from audio and the output is used; JSON-serialisable,
            embedded in each file and returned by `TfliteModel.metadata["front_end"]`.
        calibration: real segments `(segments, *model.input_shape[1:])`, scaled as in use, loud
            and quiet, no random numbers; at least 16, and 4 more when `held_out` is not given.
            The card records which of them served.
        precisions: of `tfspec.deploy.convert.PRECISIONS`; default: those of the target, else
            `DEFAULT_PRECISIONS`. Label maps come in float precisions only.
        target: device to export for: a name of `tfspec.deploy.targets.target_names()`, or a
            file like those. The files must then hold its operators only and fit its memory; those
            for microcontrollers are run by TensorFlow Lite Micro and, for an Ethos-U, compiled.
        max_arena: bytes that the tensor arena may take, below what the target has.
        max_flash: bytes of flash that model and front end may take.
        smaller: what to try, smallest change first, when the model does not fit: the error then
            names those that do.
        labels: names of the classes in the order of the output, or of a label map's numbers.
        audio_sample_rate: for a classifier of waveforms `[1, samples]` with its front end inside:
            the rate in Hz. Its float files then carry the metadata and the label file that
            Android's audio tasks read. Those know scores only: no label maps.
        provenance: goes into the card as it is; `licence` and `training_data` are shown first.
        held_out: segments for the numeric comparison, other than those of `calibration`;
            default: up to 8 of `calibration`, which then do not calibrate.
        score: the task's quality measure, higher is better, called with a function from input
            to output batches (float32 arrays): once for Keras and once per file.
        max_score_loss: by how much a file's score may lie below that of Keras.
        weight: from an input batch to what the output is multiplied by in use, e.g. the
            magnitudes of a mask; precisions below float32 are then judged by the products. The
            card states the error of the output itself beside it.
        kind: bounds to apply: `"mask"`, `"classifier"`, `"regression"`, or `"labels"` for maps of
            class numbers; default: by the last layer, see `tfspec.deploy.label_map`.
        input_name: name of the input in the signature; default: that of the model.
        output_name: likewise.
        time_limit: seconds until the conversion is given up.

    Raises:
        ExportError: unusable arguments, a failed conversion, a model that does not fit the
            target, or a file that failed its checks: these are then in
            `<out_dir>.verification.json`, and no artefact is written.
        ConfigError: no such target, or a mistake in its file.
        OutputError: the folder cannot be written, or holds something else than an export.
    """
    final = Path(out_dir)
    check_folder(final)
    device = _target(target, max_arena, max_flash)
    chosen = _kind(model, kind, labels, audio_sample_rate, weight)
    plan = Plan(
        **_checked(model, _precisions(precisions, device, chosen), calibration, held_out),
        kind=chosen,
        score=score,
        max_score_loss=max_score_loss,
        weight=weight,
        description={"front_end": dict(front_end), "format": 1, **_meaning(chosen, labels)},
        target=device,
        max_arena=max_arena,
        max_flash=max_flash,
        labels=tuple(labels),
        audio_sample_rate=audio_sample_rate,
        provenance=dict(provenance or {}),
    )
    files = convert(
        plan.model,
        plan.precisions,
        calibration=plan.calibration,
        input_name=input_name,
        output_name=output_name,
        time_limit=time_limit,
    )
    protocol = final.with_name(f"{final.name}.{VERIFICATION}")
    with export_folder(final) as folder:
        results, keras_score = _examine(plan, files, folder, smaller)
        proof = verification(plan, results, keras_score)
        if failed := [c for r in results.values() for c in r.checks if not c.passed]:
            write_json(protocol, proof)
            raise ExportError(_failure(failed, protocol))
        facts = card(plan, results, keras_score)
        _write_folder(folder, plan, results, facts, proof)
    protocol.unlink(missing_ok=True)
    paths = {p: final / file_name(p) for p in plan.precisions}
    return ExportReport(folder=final, files=paths, card=facts, verification=proof)


def _meaning(kind: Kind, labels: Sequence[str]) -> dict[str, Any]:
    """What a file's description says about its output."""
    names = {"labels": list(labels)} if labels else {}
    return {"kind": kind, **names} if kind == "labels" else names


def _target(
    target: str | os.PathLike[str] | Target | None, max_arena: int | None, max_flash: int | None
) -> Target | None:
    """The target itself; refuses limits that nothing would be held against."""
    if isinstance(target, (str, os.PathLike)):
        target = load_target(target)
    for name, limit in (("max_arena", max_arena), ("max_flash", max_flash)):
        if limit is not None and limit < 1:
            raise ConfigError(f"`{name}` is a budget of zero; give at least 1 byte")
    if max_arena is not None and (target is None or target.runtime != "tflm"):
        raise ExportError("`max_arena` needs a target of TensorFlow Lite Micro, such as cortex-m7")
    if max_flash is not None and target is None:
        raise ExportError("`max_flash` needs a target, such as cortex-m7")
    return target


def _precisions(
    precisions: Sequence[str] | None, target: Target | None, kind: Kind
) -> tuple[str, ...]:
    """Those asked for, or what the target, or any app, usually needs."""
    if precisions is None:
        usual = DEFAULT_PRECISIONS if target is None else target.default_precisions
        precisions = [p for p in usual if kind != "labels" or p not in INTEGER] or usual
    check_precisions(precisions)
    integer = [p for p in precisions if p in INTEGER]
    if kind == "labels" and integer:
        # The converter quantises class numbers like any value: 22 % of them stayed right. With
        # float ends a front end in 8 bits leaves 90 %.
        raise ExportError(
            f"a label map comes in float precisions only; for {integer[0]} leave the label map "
            "layer out and take the arg max of the class probabilities outside"
        )
    return tuple(dict.fromkeys(precisions))


def _check_label_map(
    model: keras.Model,
    labels: Sequence[str],
    audio_sample_rate: int | None,
    weight: Predict | None,
) -> None:
    """Refuses what would make no sense, or fail late, for a model that ends in a label map."""
    from tfspec.deploy.label_map import label_map_layer

    if audio_sample_rate is not None:
        raise ExportError(
            "`audio_sample_rate` is for class scores: Android's audio tasks read no label map; "
            "leave it out and state the rate in `front_end`. "
            f"Received: audio_sample_rate={audio_sample_rate}"
        )
    if weight is not None:
        raise ExportError("`weight` is for masks; class numbers are not multiplied; leave it out")
    layer = label_map_layer(model)
    if labels and layer is not None and len(labels) != layer.classes:
        raise ExportError(
            f"`labels` must be {layer.classes} names, one per class of the label map. "
            f"Received: {list(labels)}"
        )


def _checked(
    model: keras.Model,
    precisions: tuple[str, ...],
    calibration: np.ndarray,
    held_out: np.ndarray | None,
) -> dict[str, Any]:
    """The arguments that say what is converted, checked, as fields of the plan."""
    shape = static_input_shape(model)[1:]
    segments = check_calibration(calibration, shape)
    refuse_noise(segments)
    rows = np.arange(len(segments))
    if held_out is None:
        chosen = _held_out_rows(len(segments))
        rows, tested = np.delete(rows, chosen), segments[chosen]
    else:
        chosen, tested = None, check_calibration(held_out, shape, minimum=1)
    return {
        "model": float32_model(model),
        "precisions": precisions,
        "calibration": segments[rows],
        "calibration_rows": tuple(rows.tolist()),
        "held_out": tested,
        "held_out_rows": None if chosen is None else tuple(chosen.tolist()),
    }


def _kind(
    model: keras.Model,
    kind: Kind | None,
    labels: Sequence[str],
    audio_sample_rate: int | None,
    weight: Predict | None,
) -> Kind:
    """The kind of the output; refuses what does not go with it."""
    if kind is not None and kind not in KINDS:
        raise ExportError(f"`kind` must be one of {', '.join(KINDS)}. Received: kind={kind!r}")
    found = kind or output_kind(model)
    if found == "labels":
        _check_label_map(model, labels, audio_sample_rate, weight)
    return found


def _examine(
    plan: Plan, files: Mapping[str, bytes], folder: Path, smaller: Sequence[Smaller]
) -> tuple[dict[str, Result], float | None]:
    """Writes each file with its description, then inspects, runs and scores what was written."""
    results = {}
    for precision, content in files.items():
        path = folder / file_name(precision)
        path.write_bytes(described(plan, precision, content))
        results[precision] = result = inspect_file(plan, precision, path)
        # What the gate refused need not be tried on the device.
        if plan.target is not None and all(check.passed for check in result.checks):
            device = examine_on_device(plan, plan.target, precision, path, result.report)
            result.device = device
            result.checks += device.checks
            check_fit(plan, plan.target, device.fit, smaller)
    predict = keras_predict(plan.model)
    reference = predict(plan.held_out)
    keras_score = None if plan.score is None else float(plan.score(predict))
    for precision, result in results.items():
        path = folder / file_name(precision)
        measure_file(plan, precision, path, result, reference, keras_score)
    return results, keras_score


def _write_folder(
    folder: Path,
    plan: Plan,
    results: Mapping[str, Result],
    facts: Mapping[str, Any],
    proof: Mapping[str, Any],
) -> None:
    """Writes everything beside the .tflite files."""
    write_json(folder / VERIFICATION, proof)
    write_json(folder / CARD, facts)
    (folder / CARD_PAGE).write_text(card_page(facts, proof), encoding="utf-8")
    for precision, result in results.items():
        path = folder / file_name(precision)
        write_vectors(folder / VECTORS / precision, path, plan.held_out[:N_VECTORS])
        if result.device is not None:
            device_files(folder, plan, precision, result, result.device)


def _failure(failed: Sequence[Check], protocol: Path) -> str:
    precisions = sorted({check.precision for check in failed})
    shown = "; ".join(map(str, failed[:3]))
    rest = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    return (
        f"export failed: {shown}{rest}; mend the model or leave out {', '.join(precisions)}; "
        f"all checks are in {protocol}"
    )


def _held_out_rows(given: int) -> np.ndarray:
    """Which of the given segments only verify: evenly spaced ones."""
    count = min(MAX_HELD_OUT, given - MIN_SEGMENTS)
    if count < MIN_HELD_OUT:
        raise ExportError(
            f"`calibration` must have at least {MIN_SEGMENTS + MIN_HELD_OUT} segments, of which "
            f"{MIN_HELD_OUT} only verify, unless `held_out` is given. Received: {given}"
        )
    return np.linspace(0, given - 1, count).round().astype(int)


def check_folder(final: Path) -> None:
    """Refuses, before the long work, a target that is a file or a folder of something else."""
    if final.exists() and not final.is_dir():
        raise OutputError(f"{final}: is a file; name a folder for the export")
    if final.is_dir() and any(final.iterdir()) and not (final / CARD).exists():
        raise OutputError(f"{final}: holds something else than an export; choose another folder")


@contextlib.contextmanager
def export_folder(final: Path) -> Iterator[Path]:
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
