"""The process that runs the TFLite converter: `python -m tfspec.deploy.convert_worker REQUEST`.

A process of its own because the converter is native code that was seen to crash and to hang.
Writes one file per precision into the request's folder; on failure `error.json` instead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfspec.deploy.convert import INTEGER
from tfspec.deploy.workers import end_with


def main(request_path: str) -> int:
    """Converts as the JSON file at `request_path` says; returns the exit status."""
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    folder = Path(request["folder"])
    end_with(request["parent"])
    for precision in request["precisions"]:
        (folder / "current").write_text(precision, encoding="utf-8")
        try:
            model = _convert(request, precision)
        except Exception as error:
            report = {"precision": precision, "message": f"{type(error).__name__}: {error}"}
            (folder / "error.json").write_text(json.dumps(report), encoding="utf-8")
            return 1
        (folder / f"{precision}.tflite").write_bytes(model)
    return 0


def _convert(request: dict[str, Any], precision: str) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        request["saved_model"], signature_keys=[request["signature"]]
    )
    # Never Flex (SELECT_TF_OPS): it needs a second runtime on the device.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int16x8":
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    if precision in INTEGER:
        segments = np.load(request["calibration"])["segments"]

        def representative() -> Iterator[dict[str, np.ndarray]]:
            for segment in segments:
                yield {request["input_name"]: segment[None]}

        converter.representative_dataset = representative
        converter.inference_input_type = getattr(tf, INTEGER[precision])
        converter.inference_output_type = getattr(tf, INTEGER[precision])
    return converter.convert()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
