"""How pictures and IQ samples become the network's input: what prediction needs to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from tfspec.datasets.spectrum_sensing_images import ORIENTATIONS
from tfspec.errors import ConfigError
from tfspec.segmentation.regions import ImageAxes
from tfspec.synth.radio.classes import CLASS_NAMES, NOISE
from tfspec.synth.radio.images import ImageConfig

TASK = "segmentation"
_CAPTURE = ("sample_rate", "duration", "colour_map")
# Mean and deviation that are taken off levels in [0, 1]. `imagenet` is what the published code
# does with colours (its library's default); single-channel levels stay as they are.
SCALINGS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = MappingProxyType(
    {
        "unit": ((0.0,), (1.0,)),
        "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """The front end of a segmentation network; stored with every model.

    Inside tfspec an image is `(frequency, time, channels)`, lowest frequency and earliest time
    first.

    Attributes:
        height: rows of the image (frequency).
        width: columns of the image (time).
        channels: 3 for colours, 1 for levels.
        classes: names of the classes, in the order of the output.
        scaling: what is done to levels in [0, 1], one of `SCALINGS`.
        orientation: what the rows of the pictures were that it was trained on, see
            `tfspec.datasets.spectrum_sensing_images.to_frequency_time`.
        sample_rate: bandwidth of an image, Hz; the sample rate of the baseband it is made of.
        duration: time of an image, seconds.
        colour_map: matplotlib's name of the colour map that made colours of levels; None when it
            is not known, as for pictures from a folder. IQ can then not be turned into images.
    """

    height: int
    width: int
    channels: int
    classes: tuple[str, ...] = CLASS_NAMES
    scaling: str
    orientation: str
    sample_rate: int
    duration: float
    colour_map: str | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.scaling not in SCALINGS:
            raise ConfigError(
                f"`scaling` must be one of {sorted(SCALINGS)}. Received: {self.scaling!r}"
            )
        if self.orientation not in ORIENTATIONS:
            raise ConfigError(
                f"`orientation` must be one of {ORIENTATIONS}. Received: {self.orientation!r}"
            )
        if self.channels not in (1, 3) or (self.channels == 1 and self.scaling == "imagenet"):
            raise ConfigError(
                "`channels` must be 3, or 1 with scaling 'unit'. "
                f"Received: channels={self.channels}, scaling={self.scaling!r}"
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(frequency, time, channels)` of the network's input."""
        return (self.height, self.width, self.channels)

    @property
    def image(self) -> ImageConfig:
        """How samples at `sample_rate` become an image.

        Raises:
            ConfigError: the model's colours have no known colour map.
        """
        if self.colour_map is None:
            raise ConfigError(
                "the model was trained on pictures whose colour map is not known, so IQ cannot be "
                "drawn as it expects; give pictures, or a model trained on radio:N"
            )
        return ImageConfig(
            sample_rate=self.sample_rate,
            n_samples=round(self.sample_rate * self.duration),
            height=self.height,
            width=self.width,
            colour_map=self.colour_map,
        )

    @property
    def background(self) -> tuple[str, ...]:
        """Names of the classes that are no signal."""
        return tuple(name for name in self.classes if name == CLASS_NAMES[NOISE])

    @property
    def axes(self) -> ImageAxes:
        """What the pixels of an image stand for: from 0 s, and around 0 Hz."""
        return ImageAxes(
            start=0.0,
            seconds_per_column=self.duration / self.width,
            lowest_frequency=-self.sample_rate / 2,
            hz_per_row=self.sample_rate / self.height,
        )

    def scaled(self, levels: Any) -> Any:
        """Levels in [0, 1], float32 `(..., channels)`, as the network takes them.

        An array gives an array, a tensor a tensor: training and prediction share this.
        """
        mean, deviation = (np.array(values, np.float32) for values in SCALINGS[self.scaling])
        return (levels - mean) / deviation

    def unscaled(self, inputs: np.ndarray) -> np.ndarray:
        """The inverse of `scaled`."""
        mean, deviation = (np.array(values, np.float32) for values in SCALINGS[self.scaling])
        return inputs * deviation + mean

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `from_dict` gives an equal front end back."""
        values = {**dataclasses.asdict(self), "classes": list(self.classes)}
        # Apart, since a `sample_rate` beside the input's shape means audio elsewhere in tfspec.
        capture = {name: values.pop(name) for name in _CAPTURE}
        return {"task": TASK, **values, "capture": capture}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrontEnd:
        """The front end saved by `to_dict`.

        Raises:
            KeyError, TypeError: a field is missing or unknown.
            ConfigError: of another task, or a value outside its range.
        """
        fields = dict(values)
        if (task := fields.pop("task", None)) != TASK:
            raise ConfigError(f"is a model for {task!r}; this needs a {TASK} model")
        return cls(**fields.pop("capture"), **fields)
