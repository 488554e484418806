"""Segmentation of spectrograms: models, data, recipe, training, prediction and evaluation.

Names are imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Augmentation": "tfspec.segmentation.augment",
    "ConfusionMatrix": "tfspec.segmentation.metrics",
    "CoupledL2Adam": "tfspec.training.coupled_l2",
    "CrossEntropyDice": "tfspec.segmentation.losses",
    "PRESETS": "tfspec.segmentation.models",
    "Scores": "tfspec.segmentation.metrics",
    "SegmentationData": "tfspec.segmentation.data",
    "SegmentationRecipe": "tfspec.segmentation.recipe",
    "Segmenter": "tfspec.segmentation.predict",
    "boundary_f1": "tfspec.segmentation.metrics",
    "build_model": "tfspec.segmentation.train",
    "confusion_matrices": "tfspec.segmentation.metrics",
    "deeplab_v3_plus": "tfspec.segmentation.models",
    "lightsegnet": "tfspec.segmentation.models",
    "snr_curve": "tfspec.segmentation.metrics",
    "train": "tfspec.segmentation.train",
    "training_data": "tfspec.segmentation.data",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
