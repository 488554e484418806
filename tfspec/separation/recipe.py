"""Hyper-parameters of a separation model; saved as JSON beside the weights."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfspec.errors import ConfigError
from tfspec.separation.front_end import FrontEnd
from tfspec.signal.stft import StftConfig

LOSSES = {"mae": "mean_absolute_error", "mse": "mean_squared_error"}
# Shares of originals, splices and blackouts, relative to the originals.
FRACTIONS = {"paper": (1.0, 1.0, 0.5), "code": (1.0, 0.5, 0.25), "none": (1.0, 0.0, 0.0)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeparationRecipe:
    """Everything that decides the result of a training run except the data themselves.

    The defaults are the paper's. `SeparationRecipe.preset("small")` gives those of a preset.

    Attributes:
        model: preset of the network's builder: `paper`, `small`, `tiny`, `micro` or `nano`.
        base_filters: filters of the network's first level; None is the preset's.
        depth: poolings of the network; None is the preset's.
        targets: what the model estimates.
        stft: the front end.
        segment_frames: frames per training segment, a multiple of 16 and of the network's
            reduction: 2 to the power of its depth.
        scaler_kind: `max`, `minmax` or `robust`; fitted on the mixture. Mask models need `max`.
        scaler_axis: `frequency`, `time` or `segment` (one statistic per bin, frame, segment).
        loss: `mae` or `mse` on scaled magnitudes.
        learning_rate: of Adam, at its highest.
        schedule: `constant` as in the paper, or `cosine`: a linear rise over the first twentieth
            of all steps, then half a cosine down to zero.
        batch_size: examples per step.
        epochs: passes over the training set.
        fractions: shares of originals, splices and blackouts: `paper` is 40/40/20 %, `code` what
            the published code does (57/29/14 %), `none` only originals.
        random_gain_db: training examples are lowered by a gain drawn from [0, this] dB.
        min_vocal_level: segments whose target has a smaller mean absolute sample are left out of
            training; the code's threshold is 100 / 32512. 0 keeps them all.
        validation_fraction: share of songs held out when the data have no validation split.
        seed: of everything random.
        legacy_order: scale before augmenting. Wrong for `robust`: a blackout then means "median
            level", not silence.
        legacy_prefix: take the first splices and blackouts. Wrong: only the first songs in the
            folder are augmented.
        legacy_cross_song: splice the end of one song to the start of the next. Wrong: two
            unrelated songs in one segment.
        legacy_split: split into training and validation after augmentation. Wrong: halves and
            blackouts of validation segments are trained on.
    """

    model: str = "paper"
    base_filters: int | None = None
    depth: int | None = None
    targets: tuple[str, ...] = ("vocals",)
    stft: StftConfig = dataclasses.field(default_factory=StftConfig)
    segment_frames: int = 128
    scaler_kind: str = "max"
    scaler_axis: str = "frequency"
    loss: str = "mae"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    batch_size: int = 64
    epochs: int = 20
    fractions: str = "paper"
    random_gain_db: float = 0.0
    min_vocal_level: float = 100 / 32512
    validation_fraction: float = 0.1
    seed: int = 42
    legacy_order: bool = False
    legacy_prefix: bool = False
    legacy_cross_song: bool = False
    legacy_split: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        _one_of("model", self.model, MODEL_PRESETS)
        _one_of("scaler_kind", self.scaler_kind, ("max", "minmax", "robust"))
        _one_of("scaler_axis", self.scaler_axis, ("frequency", "time", "segment"))
        _one_of("loss", self.loss, LOSSES)
        _one_of("schedule", self.schedule, ("constant", "cosine"))
        _one_of("fractions", self.fractions, FRACTIONS)
        for field, low, high in _RANGES:
            value = getattr(self, field)
            if not low <= value <= high:
                raise ConfigError(
                    f"`{field}` must be in {low:g}..{high:g}. Received: {field}={value!r}"
                )
        if self.segment_frames % 16:
            raise ConfigError(
                "`segment_frames` must be a multiple of 16. "
                f"Received: segment_frames={self.segment_frames}"
            )
        if self.targets != ("vocals",):
            raise ConfigError(
                f"the vocal U-Net estimates ('vocals',). Received: targets={self.targets}"
            )
        if self.is_mask and self.scaler_kind != "max":
            raise ConfigError(
                "mask models need scaler_kind='max', since a ratio of scaled magnitudes is a mask "
                f"only when nothing is subtracted. Received: scaler_kind={self.scaler_kind!r}"
            )

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> SeparationRecipe:
        """The recipe of a preset, with changes: `SeparationRecipe.preset("tiny", epochs=3)`.

        Raises:
            ConfigError: an unknown preset or field, or a value outside its range.
        """
        _one_of("preset", name, MODEL_PRESETS)
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise ConfigError(f"unknown recipe fields {unknown}; known are {sorted(known)}")
        return cls(**{"model": name, **MODEL_PRESETS[name], **overrides})

    @property
    def is_mask(self) -> bool:
        """Whether the network predicts a mask rather than a magnitude."""
        return self.model != "paper"

    @property
    def front_end(self) -> FrontEnd:
        """The part of the recipe that prediction needs."""
        return FrontEnd(
            stft=self.stft,
            segment_frames=self.segment_frames,
            scaler_kind=self.scaler_kind,
            scaler_axis=self.scaler_axis,
            output="mask" if self.is_mask else "magnitude",
        )

    @property
    def fraction_values(self) -> tuple[float, float, float]:
        """Shares of originals, splices and blackouts relative to the originals."""
        return FRACTIONS[self.fractions]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `from_dict` gives an equal recipe back."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**values, "targets": list(self.targets), "stft": self.stft.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SeparationRecipe:
        """The recipe saved by `to_dict`.

        Raises:
            ConfigError: an unknown field or a value outside its range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown recipe fields {unknown}; known are {sorted(known)}")
        return cls(**{**values, "stft": StftConfig.from_dict(values["stft"])})


# The mask presets scale by the level of the whole segment, because a device then needs one number
# per segment, and a mask does not depend on it; the paper's network scales each bin.
_MASK_TRAINING = {
    "scaler_axis": "segment",
    "batch_size": 4,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "random_gain_db": 20.0,
    "min_vocal_level": 0.0,
}
# 128 bins of 31 Hz and frames of 16 ms: what fits a microcontroller and still tells voices apart.
# 24 of its segments are as much sound as 4 of the others.
_MICRO_TRAINING = {
    **_MASK_TRAINING,
    "stft": StftConfig(sample_rate=8000, n_fft=256, hop_length=128),
    "segment_frames": 32,
    "batch_size": 24,
}
MODEL_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": _MASK_TRAINING,
    "tiny": _MASK_TRAINING,
    "micro": _MICRO_TRAINING,
    "nano": _MICRO_TRAINING,
}

_RANGES = (
    ("segment_frames", 16, 4096),
    ("learning_rate", 1e-7, 1.0),
    ("batch_size", 1, 4096),
    ("epochs", 1, 100_000),
    ("random_gain_db", 0.0, 60.0),
    ("min_vocal_level", 0.0, 1.0),
    ("validation_fraction", 0.0, 0.9),
    ("seed", 0, 2**31 - 1),
)


def _one_of(field: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise ConfigError(f"`{field}` must be one of {sorted(allowed)}. Received: {value!r}")
