"""What is decided about a capture before its samples are made: carriers, places, levels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfspec.synth.radio import lte, nr
from tfspec.synth.radio.channel import LTE_CHANNELS, NR_CHANNELS
from tfspec.synth.radio.classes import LTE, NR
from tfspec.synth.radio.config import RadioConfig
from tfspec.synth.radio.numerology import LTE_BLOCKS, NR_BLOCKS
from tfspec.synth.radio.traffic import Load, draw_load

# Share of the sampled band in which channels are placed: receivers filter its edges.
USABLE = 0.96
RASTER = 100e3  # Hz, TS 36.104 clause 5.7.2, TS 38.104 table 5.4.2.3-1
# Other carriers may be this much stronger than the weakest one, dB.
LEVEL_RANGE = 15.0
# Subframes until frame number, TDD pattern and the longest period of synchronisation blocks repeat.
_CYCLE = 160
_LTE_LOADS = {"idle": 0.12, "light": 0.18, "partial": 0.35, "bursty": 0.25, "full": 0.1}
_NR_LOADS = {"idle": 0.04, "light": 0.2, "partial": 0.36, "bursty": 0.3, "full": 0.1}
_SPACING_WEIGHTS = {15_000: 0.4, 30_000: 0.5, 60_000: 0.1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CarrierPlan:
    """What is decided about one carrier.

    Attributes:
        label: `LTE` or `NR`.
        bandwidth: Channel bandwidth, Hz.
        cell: Static properties.
        load: Its traffic.
        frequency: Where it lies, its frequency offset included, Hz from the receiver's centre.
        first_subframe: Subframe in which the capture starts, since system frame number 0.
        delay: Samples by which the capture starts after the start of that subframe.
        on: Start and end of its transmission, seconds from the start of the capture.
        channel: Name of its delay profile and largest Doppler frequency in Hz; None for none.
        snr_db: Its signal to noise ratio.
    """

    label: int
    bandwidth: int
    cell: lte.LteCell | nr.NrCell
    load: Load
    frequency: float
    first_subframe: int
    delay: int
    on: tuple[float, float]
    channel: tuple[str, float] | None
    snr_db: float


def draw_carriers(rng: np.random.Generator, config: RadioConfig) -> list[CarrierPlan]:
    """Draws number, kind, place and level of the carriers of a capture, lowest frequency first.

    Channels do not overlap; neighbours may touch, as at the nominal spacing of TS 36.104 clause
    5.7.1. The ratio of the weakest carrier is drawn evenly from `config.snr_db`.
    """
    kinds = _draw_kinds(rng, config)
    room = int(USABLE * config.sample_rate) - sum(bandwidth for _, bandwidth in kinds)
    gaps = rng.dirichlet(np.ones(len(kinds) + 1)) * room
    above = rng.uniform(0.0, LEVEL_RANGE, len(kinds))
    weakest = rng.uniform(*config.snr_db)
    plans = []
    edge = -USABLE * config.sample_rate / 2
    for index, (label, bandwidth) in enumerate(kinds):
        edge += gaps[index]
        centre = np.floor((edge + bandwidth / 2) / RASTER) * RASTER
        edge += bandwidth
        snr = min(weakest + above[index] - above.min(), config.snr_db[1])
        plans.append(_draw_carrier(rng, config, label, bandwidth, float(centre), float(snr)))
    return plans


def _draw_kinds(rng: np.random.Generator, config: RadioConfig) -> list[tuple[int, int]]:
    """Class and channel bandwidth of each carrier; those that do not fit are left out."""
    room = int(USABLE * config.sample_rate)
    kinds: list[tuple[int, int]] = []
    for _ in range(int(rng.choice(len(config.carriers), p=np.array(config.carriers)))):
        label = LTE if rng.random() < config.lte_share else NR
        table = LTE_BLOCKS if label == LTE else NR_BLOCKS[15_000] | NR_BLOCKS[30_000]
        fitting = [bandwidth for bandwidth in table if bandwidth <= room]
        if fitting:
            kinds.append((label, int(rng.choice(fitting))))
            room -= kinds[-1][1]
    return kinds


def _draw_carrier(
    rng: np.random.Generator,
    config: RadioConfig,
    label: int,
    bandwidth: int,
    centre: float,
    snr_db: float,
) -> CarrierPlan:
    """Everything about a carrier but its class, bandwidth, place and level."""
    cell: lte.LteCell | nr.NrCell
    channels: Sequence[tuple[str, float]]
    if label == LTE:
        cell = lte.draw_cell(rng, LTE_BLOCKS[bandwidth])
        load, channels = draw_load(rng, _LTE_LOADS), LTE_CHANNELS
    else:
        spacings = [spacing for spacing in NR_BLOCKS if bandwidth in NR_BLOCKS[spacing]]
        weights = np.array([_SPACING_WEIGHTS[spacing] for spacing in spacings])
        spacing = int(rng.choice(spacings, p=weights / weights.sum()))
        cell = nr.draw_cell(rng, NR_BLOCKS[spacing][bandwidth], spacing)
        load, channels = draw_load(rng, _NR_LOADS), NR_CHANNELS
    offset = float(rng.uniform(-1.0, 1.0)) * config.max_frequency_offset
    channel = channels[int(rng.integers(len(channels)))]
    delay = int(rng.integers(config.sample_rate // 1000))
    return CarrierPlan(
        label=label,
        bandwidth=bandwidth,
        cell=cell,
        load=load,
        frequency=centre + offset,
        first_subframe=int(rng.integers(_CYCLE)),
        delay=delay,
        on=_draw_on(rng, config, delay),
        channel=channel if config.fading else None,
        snr_db=snr_db,
    )


def _draw_on(rng: np.random.Generator, config: RadioConfig, delay: int) -> tuple[float, float]:
    """When a carrier is on: for the whole capture, or from or to the start of a subframe."""
    switched, share, late = rng.random(3)
    if switched >= config.switching:
        return 0.0, config.duration
    # Subframes start `delay` samples before a whole number of milliseconds.
    first = (config.sample_rate // 1000 - delay) / config.sample_rate
    at = first + np.floor((0.2 + 0.6 * share) * config.duration * 1000.0) / 1000.0
    at = min(float(at), config.duration)
    return (at, config.duration) if late < 0.5 else (0.0, at)
