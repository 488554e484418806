"""Training examples: spectrogram, label map and ground truth of synthetic captures."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Iterator

import numpy as np

from tfspec.errors import ConfigError
from tfspec.synth.radio.config import RadioConfig
from tfspec.synth.radio.images import colour_image, power_spectrogram, scale_power
from tfspec.synth.radio.scenes import RadioCarrier, render_scene


@dataclasses.dataclass(frozen=True, kw_only=True)
class RadioExample:
    """One capture as an image with its label map; axes as in `tfspec.synth.radio.images`.

    Attributes:
        config: What captures of the set look like.
        seed: Seed of the set.
        index: Number within the set.
        spectrogram: float32 `(height, width)`, decibels stretched to 0..1.
        level_db: Levels that became 0 and 1, dB over thermal noise of variance 1.
        labels: uint8 `(height, width)`, indices into `CLASS_NAMES`.
        carriers: Ground truth, lowest frequency first.
        iq: complex64 `(n_samples,)` if it was asked for; thermal noise has variance 1.
    """

    config: RadioConfig
    seed: int
    index: int
    spectrogram: np.ndarray
    level_db: tuple[float, float]
    labels: np.ndarray
    carriers: tuple[RadioCarrier, ...]
    iq: np.ndarray | None = None

    @property
    def snr_db(self) -> float:
        """Signal to noise ratio of the weakest carrier, dB; NaN when there is none."""
        return min((carrier.snr_db for carrier in self.carriers), default=math.nan)

    @functools.cached_property
    def image(self) -> np.ndarray:
        """The RGB form of the spectrogram, uint8 `(height, width, 3)`."""
        return colour_image(self.spectrogram, self.config.colour_map)


def radio_example(
    config: RadioConfig | None = None, seed: int = 0, index: int = 0, *, keep_iq: bool = False
) -> RadioExample:
    """Makes one example. The same arguments give the same bits.

    Args:
        config: What captures look like; None takes the defaults.
        seed: Seed of a set, at least 0.
        index: Number within the set, at least 0.
        keep_iq: Whether to keep the samples, 20 MB with the defaults.

    Raises:
        ConfigError: A seed or index is not a whole number of at least 0.
    """
    config = RadioConfig() if config is None else config
    seed, index = _whole("seed", seed), _whole("index", index)
    iq, labels, carriers = render_scene(seed, index, config)
    spectrogram, low, high = scale_power(power_spectrogram(iq, config.image))
    return RadioExample(
        config=config,
        seed=seed,
        index=index,
        spectrogram=spectrogram,
        level_db=(low, high),
        labels=labels,
        carriers=carriers,
        iq=iq if keep_iq else None,
    )


def radio_examples(
    n: int, config: RadioConfig | None = None, seed: int = 0, *, start: int = 0
) -> Iterator[RadioExample]:
    """Makes examples `start` to `start + n - 1` of a set, one after another.

    Args:
        n: Examples to make.
        config: What captures look like; None takes the defaults.
        seed: Seed of the set.
        start: Number of the first one.

    Raises:
        ConfigError: A count or seed is not a whole number of at least 0.
    """
    n, start = _whole("n", n), _whole("start", start)
    for index in range(start, start + n):
        yield radio_example(config, seed, index)


def _whole(name: str, value: int) -> int:
    """`value` as an int of at least 0; ConfigError otherwise."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise ConfigError(
            f"`{name}` must be a whole number of at least 0. Received: {name}={value!r}"
        )
    return number
