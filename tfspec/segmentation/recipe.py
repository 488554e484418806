"""Hyper-parameters of a segmentation network; saved as JSON beside the weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tfspec.datasets.spectrum_sensing_images import LAYOUTS, LabelLayout
from tfspec.errors import ConfigError
from tfspec.segmentation.front_end import SCALINGS, FrontEnd
from tfspec.synth.radio.classes import CLASS_NAMES
from tfspec.synth.radio.config import RadioConfig

MODELS = ("lightsegnet", "deeplab_v3_plus")
# Factors of cross-entropy and of Dice.
LOSSES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"ce+dice": (1.0, 1.0), "ce": (1.0, 0.0), "dice": (0.0, 1.0)}
)
# What becomes of pixels whose colour is no class.
UNKNOWN = ("error", "ignore", "legacy")
BALANCED = "balanced"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationRecipe:
    """Everything that decides the result of a training run except the data themselves.

    The defaults are the paper's. `SegmentationRecipe.preset("micro-64")` gives those of a preset.

    Attributes:
        model: `lightsegnet`, or `deeplab_v3_plus` as the reference of the field.
        height: rows of the images (frequency).
        width: columns of the images (time).
        channels: 3 for colours, 1 for levels, as devices compute them.
        widths: filters of LightSegNet's two encoders and its bottleneck.
        squeeze: squeeze-and-excitation in its bottleneck.
        concatenation: False is its decoder without concatenation, the same function in a third
            less memory.
        dropout: its channel dropout behind the two encoders and the bottleneck.
        output_stride: 1, 2 or 4 of LightSegNet, 16 or 8 of DeepLabV3+; None is the default of the
            model: 1 or 16.
        backbone: of DeepLabV3+: `mobilenet_v2` or `resnet50`.
        classes: names of the classes, in the order of the output; labels of all data are brought
            to it by their names. `noise` is what is no signal.
        scaling: `imagenet`, the published code's, or `unit`: levels in [0, 1] as they are.
        augmentation: `none`, or `paper`: what the paper's text describes, and what its code never
            ran; flips and turns of a spectrogram are signals that no radio sends.
        loss: `ce+dice`, `ce` or `dice`.
        class_weights: one weight per class, `"balanced"` for the inverse of how often each occurs
            in the training labels, or None for equal ones.
        l2: factor of the coupled L2 penalty's gradient.
        learning_rate: of Adam, at its highest.
        schedule: `constant` as in the paper, or `cosine`: a linear rise over the first twentieth
            of all steps, then half a cosine down to zero.
        batch_size: examples per step.
        epochs: passes over the training set.
        radio: what synthetic captures look like; height and width are those of the recipe. Of
            pictures, its sample rate and duration say what an image covers.
        layout: how labels of a folder name classes: `paper` or `mathworks`.
        unknown: what becomes of a colour of no class: `error`, `ignore`, or `legacy`: the
            layout's class 0, as in the published code.
        validation_fraction: share of the examples held out to choose the best epoch.
        test_fraction: share of the examples that training never touches.
        seed: of weights, order, dropout and augmentation.
        data_seed: of synthetic captures, and of the division of a folder.

    Raises:
        ConfigError: a value outside its range.
    """

    model: str = "lightsegnet"
    height: int = 256
    width: int = 256
    channels: int = 3
    widths: tuple[int, int, int] = (26, 52, 96)
    squeeze: bool = True
    concatenation: bool = True
    dropout: tuple[float, float, float] = (0.2, 0.2, 0.3)
    output_stride: int | None = None
    backbone: str = "mobilenet_v2"
    classes: tuple[str, ...] = CLASS_NAMES
    scaling: str = "imagenet"
    augmentation: str = "none"
    loss: str = "ce+dice"
    class_weights: tuple[float, ...] | str | None = None
    l2: float = 1e-4
    learning_rate: float = 5e-4
    schedule: str = "constant"
    batch_size: int = 16
    epochs: int = 10
    radio: RadioConfig = dataclasses.field(default_factory=RadioConfig)
    layout: str = "paper"
    unknown: str = "error"
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 42
    data_seed: int = 42

    def __post_init__(self) -> None:
        for field in ("widths", "dropout", "classes", "class_weights"):
            value = getattr(self, field)
            if isinstance(value, list):
                object.__setattr__(self, field, tuple(value))
        for field, allowed in _CHOICES.items():
            _one_of(field, getattr(self, field), allowed)
        for field, low, high in _RANGES:
            value = getattr(self, field)
            if not low <= value <= high:
                raise ConfigError(
                    f"`{field}` must be in {low:g}..{high:g}. Received: {field}={value!r}"
                )
        self._check_classes()
        if self.validation_fraction + self.test_fraction >= 1:
            raise ConfigError(
                "`validation_fraction` and `test_fraction` must leave something to train on. "
                f"Received: {self.validation_fraction} and {self.test_fraction}"
            )
        radio = dataclasses.replace(self.radio, image_height=self.height, image_width=self.width)
        object.__setattr__(self, "radio", radio)
        self.front_end  # noqa: B018  checks what goes with what

    def _check_classes(self) -> None:
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise ConfigError(
                f"`classes` must be two or more different names. Received: {self.classes}"
            )
        weights = self.class_weights
        if weights is None or weights == BALANCED:
            return
        if (
            not isinstance(weights, tuple)
            or len(weights) != len(self.classes)
            or not all(0 < weight < math.inf for weight in weights)
        ):
            raise ConfigError(
                f"`class_weights` must be None, {BALANCED!r}, or a weight > 0 for each of "
                f"{self.classes}. Received: class_weights={weights!r}"
            )

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> SegmentationRecipe:
        """The recipe of a preset, with changes: `SegmentationRecipe.preset("paper", epochs=3)`.

        Raises:
            ConfigError: an unknown preset or field, or a value outside its range.
        """
        _one_of("preset", name, MODEL_PRESETS)
        _check_fields(overrides)
        return cls(**{**MODEL_PRESETS[name], **overrides})

    @property
    def front_end(self) -> FrontEnd:
        """The part of the recipe that prediction needs, for training on synthetic captures."""
        return FrontEnd(
            height=self.height,
            width=self.width,
            channels=self.channels,
            classes=self.classes,
            scaling=self.scaling,
            # As arrays of synthetic captures are shown, and as pictures of signals usually are.
            orientation="frequency_up",
            sample_rate=self.radio.sample_rate,
            duration=self.radio.duration,
            colour_map=self.radio.colour_map,
        )

    @property
    def picture_front_end(self) -> FrontEnd:
        """The same for training on pictures from a folder."""
        orientation = self.label_layout.orientation
        return dataclasses.replace(self.front_end, orientation=orientation, colour_map=None)

    @property
    def label_layout(self) -> LabelLayout:
        """How the labels of a folder name classes, with what becomes of other colours."""
        layout = LAYOUTS[self.layout]
        if self.unknown == "legacy":
            return dataclasses.replace(layout, legacy_unknown=0)
        return dataclasses.replace(layout, unknown=self.unknown)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `from_dict` gives an equal recipe back."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["radio"] = self.radio.to_dict()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SegmentationRecipe:
        """The recipe saved by `to_dict`.

        Raises:
            ConfigError: an unknown field or a value outside its range.
        """
        _check_fields(values)
        return cls(**{**values, "radio": RadioConfig.from_dict(values["radio"])})


# Endless captures need no dropout, and a higher rate that falls learns more in as many epochs.
_TRAINING: dict[str, Any] = {
    "dropout": (0.0, 0.0, 0.0),
    "learning_rate": 4e-3,
    "schedule": "cosine",
}
# Networks for devices see levels: one channel is a third of the input, and a device computes no
# colours.
_DEVICE: dict[str, Any] = {
    **_TRAINING,
    "channels": 1,
    "scaling": "unit",
    "widths": (8, 16, 32),
    "concatenation": False,
    "epochs": 40,
}
MODEL_PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": {},
        # The paper's network. Smaller batches are more steps in as many epochs.
        "lightsegnet": {**_TRAINING, "learning_rate": 2e-3, "batch_size": 4},
        "micro-128": {**_DEVICE, "height": 128, "width": 128, "output_stride": 2},
        "micro-64": {**_DEVICE, "height": 64, "width": 64},
        "nano-64": {**_DEVICE, "height": 64, "width": 64, "output_stride": 2},
        "deeplab": {"model": "deeplab_v3_plus"},
    }
)

_CHOICES: Mapping[str, Any] = MappingProxyType(
    {
        "model": MODELS,
        "backbone": ("mobilenet_v2", "resnet50"),
        "scaling": SCALINGS,
        "augmentation": ("none", "paper"),
        "loss": LOSSES,
        "schedule": ("constant", "cosine"),
        "layout": LAYOUTS,
        "unknown": UNKNOWN,
    }
)
_RANGES = (
    ("height", 4, 4096),
    ("width", 4, 4096),
    ("l2", 0.0, 1.0),
    ("learning_rate", 1e-7, 1.0),
    ("batch_size", 1, 4096),
    ("epochs", 1, 100_000),
    ("validation_fraction", 0.0, 0.9),
    ("test_fraction", 0.0, 0.9),
    ("seed", 0, 2**31 - 1),
    ("data_seed", 0, 2**31 - 1),
)


def _one_of(field: str, value: Any, allowed: Any) -> None:
    if value not in allowed:
        raise ConfigError(f"`{field}` must be one of {sorted(allowed)}. Received: {value!r}")


def _check_fields(values: Mapping[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(SegmentationRecipe)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"unknown recipe fields {unknown}; known are {sorted(known)}")
