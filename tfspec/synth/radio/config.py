"""What synthetic radio captures look like: rate, length, image, traffic and labels."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping
from typing import Any

from tfspec.errors import ConfigError
from tfspec.synth.radio.images import ImageConfig

# Every cyclic prefix of 15, 30 and 60 kHz is a whole number of samples at multiples of this rate.
RATE_STEP = 7_680_000  # Hz
LABEL_RULES = ("carrier", "resources")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RadioConfig:
    """Setting of synthetic radio captures.

    The defaults give 40 ms at 61.44 MHz as a 256 x 256 image, as in the public set of spectrograms
    that the networks of this field are trained on. What is drawn (carriers, traffic, fading, noise)
    depends on the seed and not on the image: the same seed at another image size shows the same
    signal.

    Args:
        sample_rate: Samples per second of the complex baseband, Hz; a multiple of 7.68 MHz.
        duration: Length of a capture, seconds; at least 5 ms.
        image_height: Rows of the spectrogram (frequency).
        image_width: Columns of the spectrogram (time).
        colour_map: Name of the matplotlib colour map of the RGB form.
        snr_db: Lowest and highest signal to noise ratio of a carrier, dB.
        carriers: Probability of 0, 1, 2, ... carriers in a capture; fewer appear when no more
            fit into the band.
        lte_share: Probability that a carrier is LTE rather than NR.
        fading: Whether carriers pass through tapped-delay fading channels.
        impairments: Whether the receiver adds phase noise, IQ imbalance and a DC offset.
        max_frequency_offset: Largest offset of a carrier from its place, Hz.
        switching: Probability that a carrier starts late or stops early within the capture.
        max_silence: Longest time, seconds, for which an NR carrier that is on schedules nothing.
            None sets no limit: an idle NR carrier then shows its synchronisation blocks alone,
            from which no observer can tell its bandwidth. LTE needs no limit, since its reference
            signals fill the band in every slot.
        labels: Rule of the label map. "carrier": the occupied bandwidth of a carrier for as long
            as it is on, as in the public set, because an operator asks which band is taken by
            whom and an empty slot does not free a band. "resources": only resource blocks that
            carry energy, gaps of up to 0.5 ms bridged.

    Raises:
        ConfigError: A value is of the wrong type or outside its range.
    """

    sample_rate: int = 61_440_000
    duration: float = 0.04
    image_height: int = 256
    image_width: int = 256
    colour_map: str = "viridis"
    snr_db: tuple[float, float] = (-10.0, 40.0)
    carriers: tuple[float, ...] = (0.08, 0.42, 0.35, 0.15)
    lte_share: float = 0.5
    fading: bool = True
    impairments: bool = True
    max_frequency_offset: float = 5000.0
    switching: float = 0.3
    max_silence: float | None = 0.004
    labels: str = "carrier"

    def __post_init__(self) -> None:
        self._check_rate()
        for name in ("snr_db", "carriers"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        low, high = (*self.snr_db, 0.0, 0.0)[:2]
        if len(self.snr_db) != 2 or not -40.0 <= low <= high <= 100.0:
            raise ConfigError(
                "`snr_db` must be the lowest and the highest SNR, -40 <= low <= high <= 100 dB. "
                f"Received: snr_db={self.snr_db}"
            )
        if not self.carriers or min(self.carriers) < 0 or abs(sum(self.carriers) - 1.0) > 1e-6:
            raise ConfigError(
                "`carriers` must be probabilities of 0, 1, 2, ... carriers that add up to 1. "
                f"Received: carriers={self.carriers}"
            )
        for name in ("lte_share", "switching"):
            if not _within(getattr(self, name), 0.0, 1.0):
                raise ConfigError(
                    f"`{name}` must be 0 to 1. Received: {name}={getattr(self, name)!r}"
                )
        if not _within(self.max_frequency_offset, 0.0, 50_000.0):
            raise ConfigError(
                "`max_frequency_offset` must be 0 to 50000 Hz. "
                f"Received: max_frequency_offset={self.max_frequency_offset!r}"
            )
        if self.max_silence is not None and not _within(self.max_silence, 1e-3, 10.0):
            raise ConfigError(
                "`max_silence` must be 0.001 to 10 seconds or None. "
                f"Received: max_silence={self.max_silence!r}"
            )
        if self.labels not in LABEL_RULES:
            raise ConfigError(
                f"`labels` must be one of {list(LABEL_RULES)}. Received: labels={self.labels!r}"
            )
        self.image  # noqa: B018 -- checks the image's size and colour map

    def _check_rate(self) -> None:
        """Sample rate, duration and switches, of which all else is derived."""
        try:
            rate = 0 if isinstance(self.sample_rate, bool) else operator.index(self.sample_rate)
        except TypeError:
            rate = 0
        if rate < RATE_STEP or rate % RATE_STEP:
            raise ConfigError(
                f"`sample_rate` must be a multiple of {RATE_STEP} Hz. "
                f"Received: sample_rate={self.sample_rate!r}"
            )
        if not _within(self.duration, 0.005, 1.0):
            raise ConfigError(
                f"`duration` must be 0.005 to 1 seconds. Received: duration={self.duration!r}"
            )
        for name in ("fading", "impairments"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(
                    f"`{name}` must be True or False. Received: {name}={getattr(self, name)!r}"
                )

    @property
    def n_samples(self) -> int:
        """Complex samples of a capture."""
        return round(self.sample_rate * self.duration)

    @property
    def image(self) -> ImageConfig:
        """How a capture becomes an image."""
        return ImageConfig(
            sample_rate=self.sample_rate,
            n_samples=self.n_samples,
            height=self.image_height,
            width=self.image_width,
            colour_map=self.colour_map,
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dictionary that JSON can hold."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RadioConfig:
        """Inverse of `to_dict`; fields that are missing take their defaults.

        Raises:
            ConfigError: A key is not a field, or a value is not allowed.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(str(key) for key in values if key not in known)
        if unknown:
            raise ConfigError(f"RadioConfig has the fields {known}. Received: unknown {unknown}")
        return cls(**values)


def _within(value: Any, low: float, high: float) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """`values` as a tuple of floats; ConfigError when it is not a sequence of numbers."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(math.isfinite(number) for number in numbers):
        raise ConfigError(f"`{name}` must be numbers. Received: {name}={values!r}")
    return numbers
