"""How audio becomes the network's input, and its output audio: what prediction needs to know."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfspec.errors import ConfigError
from tfspec.signal.stft import StftConfig

TASK = "separation"
OUTPUTS = ("magnitude", "mask")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """The front end of a magnitude U-Net; stored with every model.

    Attributes:
        stft: the transform.
        segment_frames: frames that the network sees at a time.
        scaler_kind: `max`, `minmax` or `robust`.
        scaler_axis: `frequency`, `time` or `segment`.
        output: `magnitude` (scaled magnitudes come out) or `mask` (a ratio mask; the network's
            core takes the square root of the scaled magnitudes).
    """

    stft: StftConfig
    segment_frames: int
    scaler_kind: str
    scaler_axis: str
    output: str

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ConfigError(f"`output` must be one of {OUTPUTS}. Received: {self.output!r}")

    @property
    def is_mask(self) -> bool:
        """Whether the network predicts a mask rather than a magnitude."""
        return self.output == "mask"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(frequency, time, channels)` of the network's input."""
        return (self.stft.n_model_bins, self.segment_frames, 1)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `from_dict` gives an equal front end back."""
        values = dataclasses.asdict(self)
        return {"task": TASK, **values, "stft": self.stft.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FrontEnd:
        """The front end saved by `to_dict`.

        Raises:
            KeyError, TypeError: a field is missing or unknown.
            ConfigError: of another task, or a value outside its range.
        """
        fields = dict(values)
        if (task := fields.pop("task", None)) != TASK:
            raise ConfigError(f"is a model for {task!r}; this needs a {TASK} model")
        return cls(**{**fields, "stft": StftConfig.from_dict(fields["stft"])})
