"""Export of a trained separation model: what `tfspec.deploy` needs to know about it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfspec.deploy.convert import cut_model
from tfspec.deploy.export import ExportReport, export
from tfspec.errors import ModelError
from tfspec.separation.estimators import front_end_of
from tfspec.signal.files import atomic_path

CALIBRATION = "calibration.npz"
CALIBRATION_SEGMENTS = 32


def save_calibration(folder: Path, segments: np.ndarray) -> None:
    """Keeps scaled training segments beside the model, since quantisation needs real ones.

    Args:
        folder: run folder.
        segments: `(segments, frequency, time, 1)` scaled mixture magnitudes.
    """
    with atomic_path(folder / CALIBRATION) as temporary:
        # float16: 5e-4 relative, far below an int8 step, at half the size.
        np.savez_compressed(temporary, segments=segments.astype(np.float16))


def load_calibration(folder: Path) -> np.ndarray:
    """The segments saved by `save_calibration`, float32.

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = folder / CALIBRATION
    try:
        with np.load(path) as arrays:
            return arrays["segments"].astype(np.float32)
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); int8 needs the training segments that `tfspec "
            "train` keeps there"
        ) from error


def export_separator(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    precisions: Sequence[str] = ("float32", "float16", "int8"),
) -> ExportReport:
    """Exports the network of a model folder as verified TFLite files.

    Of a mask model the core is exported: square root of scaled magnitudes in, mask out; scaling
    and the product with the magnitudes stay in float, outside.

    Args:
        run: model folder.
        out: folder to write, `RUN/export` when None.
        precisions: any of those `tfspec.deploy.export` knows.

    Raises:
        ModelError: no model folder, or without its calibration segments.
        ExportError: a conversion failed or did not pass its checks.
        OutputError: `out` cannot be written.
    """
    import tfspec.separation.models  # noqa: F401  registers the layers that the file names
    from tfspec.training.run import load_model_folder

    run = Path(run)
    model, metadata = load_model_folder(run)
    front_end = front_end_of(metadata, run)
    segments = load_calibration(run)
    input_name, output_name = "scaled_magnitude", "magnitude"
    weight = None
    if front_end.is_mask:
        model = cut_model(model, first="compress", last="mask")
        segments = np.sqrt(np.maximum(segments, 0.0))
        input_name, output_name = "compressed_magnitude", "mask"
        weight = np.square  # the mask multiplies the magnitude itself
    data = metadata.get("data", {})
    return export(
        model,
        out if out is not None else run / "export",
        front_end=front_end.to_dict(),
        calibration=segments,
        precisions=precisions,
        provenance={
            "licence": "as the training data allow",
            "training_data": f"{data.get('name')} ({data.get('licence')})",
            "run": metadata,
        },
        weight=weight,
        input_name=input_name,
        output_name=output_name,
    )
