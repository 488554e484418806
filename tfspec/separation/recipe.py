"""Hyper-parameters of a separation model; saved as JSON beside the weights."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfspec.errors import ConfigError
from tfspec.separation.front_end import AnyFrontEnd, FrontEnd, WaveformFrontEnd
from tfspec.separation.presets import (
    DEPTHS,
    FAMILIES,
    MODEL_PRESETS,
    VOCAL_PRESETS,
    WaveOptions,
    one_of,
)
from tfspec.separation.targets import check_targets
from tfspec.signal.stft import StftConfig

LOSSES = ("mae", "mse", "weighted_l1")
# Shares of originals, splices and blackouts, relative to the originals.
FRACTIONS = {"paper": (1.0, 1.0, 0.5), "code": (1.0, 0.5, 0.25), "none": (1.0, 0.0, 0.0)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeparationRecipe:
    """Everything that decides the result of a training run except the data themselves.

    The defaults are the paper's. `SeparationRecipe.preset("small")` gives those of a preset.

    Attributes:
        model: a name of `MODEL_PRESETS`.
        base_filters: filters of the network's first level; None is the preset's.
        depth: poolings of the network; None is the preset's.
        targets: what the model estimates: of vocals, drums, bass, other, and `accompaniment`,
            which is what the others leave of the mixture. The vocal U-Net has vocals only.
        stft: the front end.
        segment_frames: frames per training segment, a multiple of 16 and of the network's
            reduction: 2 to the power of its depth.
        scaler_kind: `max`, `minmax` or `robust`; fitted on the mixture. Mask models need `max`.
        scaler_axis: `frequency`, `time` or `segment` (one statistic per bin, frame, segment).
        loss: `mae` or `mse` of what the network returns, scaled magnitudes or samples, or
            `weighted_l1`: the absolute error of each target times its weight.
        source_weights: of `weighted_l1`, one per target; None computes them from the training
            songs, in inverse proportion to the targets' mean magnitude.
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
        wave: rate, lengths and form of a Wave-U-Net; None for networks on spectrograms.
        mixing_gain: lowest gain of the random mixing of models of several targets; each source
            gets its own between this and 1. 1 leaves the songs as they are.
        swap_channels: random mixing swaps left and right of a source now and then.
        recombine: random mixing adds up sources of different songs.
        head_leak: of the spectrogram channels U-Net; 0.1 keeps sources from falling silent where
            squared errors would silence them, 0 is as published.
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
    source_weights: tuple[float, ...] | None = None
    learning_rate: float = 1e-3
    schedule: str = "constant"
    batch_size: int = 64
    epochs: int = 20
    fractions: str = "paper"
    random_gain_db: float = 0.0
    min_vocal_level: float = 100 / 32512
    validation_fraction: float = 0.1
    wave: WaveOptions | None = None
    mixing_gain: float = 1.0
    swap_channels: bool = False
    recombine: bool = False
    head_leak: float = 0.0
    seed: int = 42
    legacy_order: bool = False
    legacy_prefix: bool = False
    legacy_cross_song: bool = False
    legacy_split: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", check_targets(self.targets))
        if self.source_weights is not None:
            object.__setattr__(self, "source_weights", tuple(self.source_weights))
        one_of("model", self.model, MODEL_PRESETS)
        one_of("scaler_kind", self.scaler_kind, ("max", "minmax", "robust"))
        one_of("scaler_axis", self.scaler_axis, ("frequency", "time", "segment"))
        one_of("loss", self.loss, LOSSES)
        one_of("schedule", self.schedule, ("constant", "cosine"))
        one_of("fractions", self.fractions, FRACTIONS)
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
        if self.is_mask and self.scaler_kind != "max":
            raise ConfigError(
                "mask models need scaler_kind='max', since a ratio of scaled magnitudes is a mask "
                f"only when nothing is subtracted. Received: scaler_kind={self.scaler_kind!r}"
            )
        self._check_family()

    def _check_family(self) -> None:
        """Refuses options that the model's family does not have."""
        if self.is_vocal and self.targets != ("vocals",):
            raise ConfigError(
                f"the vocal U-Net estimates ('vocals',). Received: targets={self.targets}; models "
                f"of other targets are {', '.join(n for n in FAMILIES if n not in VOCAL_PRESETS)}"
            )
        if (self.family == "wave_unet") != (self.wave is not None):
            raise ConfigError(
                f"`wave` is for Wave-U-Nets, and they need it. Received: model={self.model!r}, "
                f"wave={self.wave}"
            )
        legacy = [name for name in LEGACY if getattr(self, name)]
        if not self.is_vocal and (legacy or self.fractions != "none" or self.min_vocal_level):
            raise ConfigError(
                "splices, blackouts, `min_vocal_level` and `legacy_*` are for the vocal U-Net; "
                f"others mix at random. Received: model={self.model!r}, "
                f"fractions={self.fractions!r}, min_vocal_level={self.min_vocal_level}, {legacy}"
            )
        if self.is_vocal and (self.mixing_gain < 1 or self.swap_channels or self.recombine):
            raise ConfigError(
                "random mixing is for models of several targets; the vocal U-Net has `fractions`. "
                f"Received: model={self.model!r}"
            )
        if self.head_leak and self.family != "spectrogram_channels_unet":
            raise ConfigError(
                "`head_leak` is for the spectrogram channels U-Net, whose output is rectified. "
                f"Received: model={self.model!r}, head_leak={self.head_leak}"
            )
        weights = self.source_weights
        if weights is not None and (
            self.loss != "weighted_l1" or len(weights) != len(self.targets)
        ):
            raise ConfigError(
                "`source_weights` are for loss='weighted_l1', one per target. Received: "
                f"loss={self.loss!r}, {len(weights)} weights for {len(self.targets)} targets"
            )

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> SeparationRecipe:
        """The recipe of a preset, with changes: `SeparationRecipe.preset("tiny", epochs=3)`.

        Raises:
            ConfigError: an unknown preset or field, or a value outside its range.
        """
        one_of("preset", name, MODEL_PRESETS)
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise ConfigError(f"unknown recipe fields {unknown}; known are {sorted(known)}")
        return cls(**{"model": name, **MODEL_PRESETS[name], **overrides})

    def with_wave(self, **options: Any) -> SeparationRecipe:
        """The recipe with changes of its `WaveOptions`: `recipe.with_wave(context=True)`.

        Raises:
            ConfigError: the network is no Wave-U-Net, or an option is unknown or out of range.
        """
        if self.wave is None:
            waves = [name for name, family in FAMILIES.items() if family == "wave_unet"]
            raise ConfigError(
                f"{sorted(options)} are options of the presets {' and '.join(waves)}. "
                f"Received: preset {self.model!r}"
            )
        return dataclasses.replace(self, wave=dataclasses.replace(self.wave, **options))

    def with_stft(self, **options: Any) -> SeparationRecipe:
        """The recipe with changes of its `StftConfig`: `recipe.with_stft(n_fft=2048)`.

        Raises:
            ConfigError: the network is a Wave-U-Net, or an option is unknown or out of range.
        """
        if self.wave is not None:
            raise ConfigError(
                f"{sorted(options)} are options of presets on spectrograms. "
                f"Received: preset {self.model!r}"
            )
        return dataclasses.replace(self, stft=dataclasses.replace(self.stft, **options))

    @property
    def family(self) -> str:
        """Name of the network's builder."""
        return FAMILIES[self.model]

    @property
    def is_vocal(self) -> bool:
        """Whether the network is the vocal U-Net, which has data of its own."""
        return self.family == "vocal_unet"

    @property
    def is_mask(self) -> bool:
        """Whether the network predicts masks rather than magnitudes or samples."""
        return self.family == "jansson_unet" or (self.is_vocal and self.model != "paper")

    @property
    def sample_rate(self) -> int:
        """Hz of the audio that the network knows."""
        return self.wave.sample_rate if self.wave else self.stft.sample_rate

    @property
    def channels(self) -> int:
        """Channels of the audio that the network knows."""
        return self.wave.channels if self.wave else 1

    @property
    def segment_samples(self) -> int:
        """Samples of one training segment."""
        if isinstance(self.front_end, WaveformFrontEnd):
            return self.front_end.input_samples
        return self.segment_frames * self.stft.hop_length

    @property
    def front_end(self) -> AnyFrontEnd:
        """The part of the recipe that prediction needs."""
        if self.wave:
            return self._wave_front_end(self.wave)
        return FrontEnd(
            stft=self.stft,
            segment_frames=self.segment_frames,
            scaler_kind=self.scaler_kind,
            scaler_axis=self.scaler_axis,
            output="mask" if self.is_mask else "magnitude",
            targets=self.targets,
        )

    def _wave_front_end(self, wave: WaveOptions) -> WaveformFrontEnd:
        from tfspec.separation.models.wave_unet import context_sizes

        depth = self.network_depth
        input_samples = output_samples = -(-wave.samples // 2**depth) * 2**depth
        if wave.context:
            sizes = context_sizes(wave.samples, depth)
            input_samples, output_samples = sizes.input_samples, sizes.output_samples
        return WaveformFrontEnd(
            sample_rate=wave.sample_rate,
            channels=wave.channels,
            input_samples=input_samples,
            output_samples=output_samples,
            stride=2**depth,
            targets=self.targets,
        )

    @property
    def network_depth(self) -> int:
        """Depth of a network other than the vocal U-Net, whose presets are in its module."""
        return self.depth or DEPTHS[self.family]

    @property
    def fraction_values(self) -> tuple[float, float, float]:
        """Shares of originals, splices and blackouts relative to the originals."""
        return FRACTIONS[self.fractions]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `from_dict` gives an equal recipe back."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            **values,
            "targets": list(self.targets),
            "stft": self.stft.to_dict(),
            "wave": dataclasses.asdict(self.wave) if self.wave else None,
            "source_weights": list(self.source_weights) if self.source_weights else None,
        }

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
        wave = values.get("wave")
        return cls(
            **{
                **values,
                "stft": StftConfig.from_dict(values["stft"]),
                "wave": WaveOptions(**wave) if wave else None,
            }
        )


LEGACY = ("legacy_order", "legacy_prefix", "legacy_cross_song", "legacy_split")

_RANGES = (
    ("segment_frames", 16, 4096),
    ("learning_rate", 1e-7, 1.0),
    ("batch_size", 1, 4096),
    ("epochs", 1, 100_000),
    ("random_gain_db", 0.0, 60.0),
    ("min_vocal_level", 0.0, 1.0),
    ("validation_fraction", 0.0, 0.9),
    ("mixing_gain", 0.0, 1.0),
    ("head_leak", 0.0, 0.9),
    ("seed", 0, 2**31 - 1),
)
