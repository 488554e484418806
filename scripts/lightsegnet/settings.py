"""The paper's table, the variants of the ablation, and how long and how large everything is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tfspec.segmentation.recipe import SegmentationRecipe


@dataclasses.dataclass(frozen=True)
class PaperEpoch:
    """A row of the paper's table."""

    train_loss: float
    val_loss: float
    train_iou: float
    val_iou: float


PAPER_TABLE = (
    PaperEpoch(0.6119, 0.3076, 0.6910, 0.8433),
    PaperEpoch(0.2477, 0.1579, 0.8742, 0.9226),
    PaperEpoch(0.1794, 0.1532, 0.9088, 0.9195),
    PaperEpoch(0.1466, 0.1133, 0.9258, 0.9408),
    PaperEpoch(0.1294, 0.1023, 0.9339, 0.9491),
    PaperEpoch(0.1164, 0.0928, 0.9403, 0.9520),
    PaperEpoch(0.1062, 0.0904, 0.9452, 0.9540),
    PaperEpoch(0.0970, 0.0902, 0.9499, 0.9530),
    PaperEpoch(0.0984, 0.0899, 0.9487, 0.9516),
    PaperEpoch(0.0952, 0.0801, 0.9510, 0.9584),
)

# What each variant of the ablation changes in the paper's recipe.
VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "as published": {},
        "without squeeze-and-excitation": {"squeeze": False},
        "cross-entropy only": {"loss": "ce"},
        "Dice only": {"loss": "dice"},
        "augmentation of the paper's text": {"augmentation": "paper"},
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """How long and how large. The short one differs from the paper's in everything named here.

    Attributes:
        examples: synthetic captures to train and validate on, when no data are given.
        test_examples: synthetic captures of another seed to score on.
        size: rows and columns of the images of the table.
        epochs: of the table and of the ablation; the paper has 10.
        ablation_size: rows and columns of the images of the ablation; the network is the paper's.
        ablation_examples: captures of the ablation, the first of all, when no data are given.
        seeds: runs of each variant.
        device_epochs: of the microcontroller's preset, which takes less time each.
    """

    examples: int
    test_examples: int
    size: int = 256
    epochs: int = 10
    ablation_size: int = 256
    ablation_examples: int
    seeds: int = 3
    device_epochs: int = 40


SETTINGS = {
    "short": Setting(
        examples=1280, test_examples=200, size=64, ablation_size=64, ablation_examples=240
    ),
    # As many pictures as the public set has.
    "paper": Setting(examples=2700, test_examples=1000, ablation_examples=2700),
}


def table_recipe(setting: Setting, **changes: Any) -> SegmentationRecipe:
    """The paper's recipe."""
    return SegmentationRecipe.preset(
        "paper", height=setting.size, width=setting.size, epochs=setting.epochs, **changes
    )


def own_recipe(setting: Setting, **changes: Any) -> SegmentationRecipe:
    """The same network and as many epochs, trained as tfspec does."""
    return SegmentationRecipe.preset(
        "lightsegnet", height=setting.size, width=setting.size, epochs=setting.epochs, **changes
    )


def reference_recipe(setting: Setting, **changes: Any) -> SegmentationRecipe:
    """DeepLabV3+, trained as the paper trains."""
    return SegmentationRecipe.preset(
        "deeplab", height=setting.size, width=setting.size, epochs=setting.epochs, **changes
    )


def device_recipe(setting: Setting, **changes: Any) -> SegmentationRecipe:
    """The microcontroller's preset."""
    return SegmentationRecipe.preset("micro-64", epochs=setting.device_epochs, **changes)


def variant_recipe(name: str, setting: Setting, **changes: Any) -> SegmentationRecipe:
    """A variant of the ablation."""
    size = setting.ablation_size
    return SegmentationRecipe.preset(
        "paper", height=size, width=size, epochs=setting.epochs, **VARIANTS[name], **changes
    )
