"""What int8 costs a trained separation model, at full level and below it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import Row

LEVELS_DB = (0, -20)
# SDR that int8 may cost a mask model, in dB, by the level of the segments.
ALLOWED = {0: 0.1, -20: 0.3}

Estimate = Callable[[np.ndarray], np.ndarray]


def quantisation_rows(run: Path) -> list[Row]:
    """SDR of the magnitudes of validation segments, in Keras and in int8.

    A level below 0 dB means segments that are quieter than what they are scaled by, as with one
    gain for a whole song; `tfspec separate` scales each segment by itself.

    Args:
        run: folder of a trained model.
    """
    from tfspec.deploy.convert import convert, cut_model
    from tfspec.deploy.metadata import embed_metadata
    from tfspec.deploy.runner import TfliteModel
    from tfspec.separation.estimators import front_end_of
    from tfspec.separation.export import compressed, load_calibration
    from tfspec.training.run import load_model_folder

    model, metadata = load_model_folder(run)
    is_mask = front_end_of(metadata, run).is_mask
    prepare: Estimate = compressed if is_mask else np.asarray
    if is_mask:
        model = cut_model(model, first="compress", last="mask")
    data = load_calibration(run)
    # Loud and quiet, as for the levels below.
    gains = 10 ** (-np.linspace(0, 20, len(data["segments"])) / 20)
    calibration = prepare(data["segments"] * gains[:, None, None, None].astype(np.float32))
    content = convert(model, ["int8"], calibration=calibration)["int8"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.tflite"
        path.write_bytes(embed_metadata(content, {"front_end": {}}))
        integer = TfliteModel(path)
        ways: dict[str, Estimate] = {
            "Keras": lambda x: model.predict(prepare(x), batch_size=1, verbose=0),
            "int8": lambda x: integer(prepare(x)),
        }
        return [
            _row(run.name, level, ways, data["mixture"], data["target"], is_mask)
            for level in LEVELS_DB
        ]


def _row(
    name: str,
    level: int,
    ways: dict[str, Estimate],
    mixture: np.ndarray,
    target: np.ndarray,
    is_mask: bool,
) -> Row:
    gain = np.float32(10 ** (level / 20))
    scores = {}
    for way, estimate in ways.items():
        output = estimate(gain * mixture) * (gain * mixture if is_mask else 1.0)
        error = gain * target - output
        scores[way] = float(10 * np.log10(np.sum((gain * target) ** 2) / np.sum(error**2)))
    kind = "square root in, mask out" if is_mask else "linear magnitude in and out"
    return Row(
        name=f"`{name}` ({kind}): SDR that int8 costs at {level} dB",
        value=scores["Keras"] - scores["int8"],
        unit="dB",
        at_most=ALLOWED[level] if is_mask else None,
        details={f"{way} SDR in dB": score for way, score in scores.items()}
        | {"segments": len(mixture)},
    )
