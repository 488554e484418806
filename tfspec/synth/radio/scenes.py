"""Captures: several carriers at their places, behind their channels, in noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfspec.synth.radio import lte, nr
from tfspec.synth.radio.channel import PROFILES, frequency_response, path_gains
from tfspec.synth.radio.classes import CLASS_NAMES
from tfspec.synth.radio.config import RadioConfig
from tfspec.synth.radio.impairments import complex_noise, draw_impairments, impair
from tfspec.synth.radio.labels import band_cover, label_map, resource_cover
from tfspec.synth.radio.ofdm import ResourceGrid, modulate
from tfspec.synth.radio.plans import CarrierPlan, draw_carriers
from tfspec.synth.radio.sync import SyncSignal, lte_sync, nr_sync


@dataclasses.dataclass(frozen=True, kw_only=True)
class RadioCarrier:
    """Ground truth about a carrier in a capture; frequencies in Hz from the receiver's centre.

    Attributes:
        technology: `"lte"` or `"nr"`.
        bandwidth: Channel bandwidth, Hz.
        blocks: Resource blocks.
        spacing: Subcarrier spacing of the data, Hz.
        cell_id: Physical cell identity.
        frequency: The carrier's frequency, offset included, Hz.
        band: Lowest and highest frequency that it occupies, Hz.
        on: Start and end of its transmission within the capture, seconds.
        snr_db: Mean power density over the resource elements that it sends, as received, over
            the noise's, dB.
        load: Kind of traffic.
        channel: Delay profile and largest Doppler frequency in Hz; None without fading.
        sync: Synchronisation signals in the capture.
    """

    technology: str
    bandwidth: int
    blocks: int
    spacing: int
    cell_id: int
    frequency: float
    band: tuple[float, float]
    on: tuple[float, float]
    snr_db: float
    load: str
    channel: tuple[str, float] | None
    sync: tuple[SyncSignal, ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RadioCarrier:
        """Inverse of `to_dict`, also of a dictionary that was JSON."""
        channel = values["channel"]
        changed = {
            "band": tuple(values["band"]),
            "on": tuple(values["on"]),
            "channel": None if channel is None else tuple(channel),
            "sync": tuple(SyncSignal(**signal) for signal in values["sync"]),
        }
        return cls(**{**values, **changed})


def render_carrier(
    rng: np.random.Generator, plan: CarrierPlan, config: RadioConfig
) -> tuple[np.ndarray, list[ResourceGrid]]:
    """Makes the samples of a carrier as they are received, noise apart.

    Args:
        rng: Source of traffic, data and fading.
        plan: The carrier.
        config: Sample rate, length and the longest silence.

    Returns:
        complex64 `(n_samples,)` at the level of `plan.snr_db` over noise of variance 1, and what
        was sent, data first; the grids start at the start of subframe `plan.first_subframe`.
    """
    per_subframe = config.sample_rate // 1000
    n_subframes = -(-(plan.delay + config.n_samples) // per_subframe)
    size = {
        "sample_rate": config.sample_rate,
        "first_subframe": plan.first_subframe,
        "n_subframes": n_subframes,
    }
    if isinstance(plan.cell, lte.LteCell):
        grids = [lte.lte_grid(rng, plan.cell, plan.load, **size)]
    else:
        grids = nr.nr_grids(rng, plan.cell, plan.load, **size, max_silence=config.max_silence)
    for grid in grids:
        _switch(grid, plan, config)
    whole = np.zeros(n_subframes * per_subframe, np.complex64)
    for grid in _fade(rng, grids, plan):
        modulate(grid, plan.frequency, whole)
    samples = whole[plan.delay : plan.delay + config.n_samples]
    energy = float(np.vdot(samples, samples).real)
    if energy > 0.0:
        area = occupied_area(grids, plan.delay, config)
        samples *= np.float32(np.sqrt(10.0 ** (plan.snr_db / 10.0) * area / energy))
    return samples, grids


def _switch(grid: ResourceGrid, plan: CarrierPlan, config: RadioConfig) -> None:
    """Removes the symbols in which a carrier is not on, in place."""
    first, last = (plan.delay + np.array(plan.on) * config.sample_rate).tolist()
    # Half a sample of tolerance: the times are rounded seconds.
    if plan.on[0] > 0.0:
        grid.values[grid.starts < first - 0.5] = 0.0
    if plan.on[1] < config.duration:
        grid.values[grid.stops > last + 0.5] = 0.0


def _fade(
    rng: np.random.Generator, grids: list[ResourceGrid], plan: CarrierPlan
) -> list[ResourceGrid]:
    """The grids behind the carrier's channel, which is the same for all of them."""
    if plan.channel is None:
        return grids
    profile = PROFILES[plan.channel[0]]
    middles = [(grid.starts + grid.stops) / 2 / grid.numerology.sample_rate for grid in grids]
    gains = path_gains(rng, profile, plan.channel[1], np.concatenate(middles))
    ends = np.cumsum([times.size for times in middles])[:-1]
    received = []
    for grid, part in zip(grids, np.split(gains, ends, axis=1), strict=True):
        response = frequency_response(part, profile, grid.bins * grid.numerology.spacing)
        response *= grid.values
        received.append(dataclasses.replace(grid, values=response))
    return received


def occupied_area(grids: list[ResourceGrid], delay: int, config: RadioConfig) -> float:
    """Bandwidth times time of all resource elements that are sent within the capture."""
    total = 0.0
    for grid in grids:
        start = np.maximum(grid.starts - delay, 0)
        stop = np.minimum(grid.stops - delay, config.n_samples)
        seconds = np.maximum(stop - start, 0) / config.sample_rate
        elements = np.count_nonzero(grid.values, axis=1)
        total += float(seconds @ elements) * grid.numerology.spacing
    return total


def render_scene(
    seed: int, index: int, config: RadioConfig
) -> tuple[np.ndarray, np.ndarray, tuple[RadioCarrier, ...]]:
    """Makes a capture, its label map and its ground truth.

    Args:
        seed: Seed of a set of captures.
        index: Number of the capture within the set.
        config: What captures look like.

    Returns:
        complex64 `(n_samples,)`, in which thermal noise has variance 1; uint8 labels `(height,
        width)`; the carriers, lowest frequency first, less those that send nothing in it.
    """
    # A stream for each purpose, so that what is drawn of one does not change the others.
    plans = draw_carriers(np.random.default_rng([seed, index, 0]), config)
    noise, receiver = (np.random.default_rng([seed, index, part]) for part in (1, 2))
    iq = complex_noise(noise, config.n_samples)
    covers, carriers = [], []
    for number, plan in enumerate(plans):
        rng = np.random.default_rng([seed, index, 3 + number])
        samples, grids = render_carrier(rng, plan, config)
        if samples.any():
            iq += samples
            carriers.append(describe(plan, grids, config))
            covers.append((plan.label, _cover(plan, carriers[-1], grids, config)))
    if config.impairments:
        impair(receiver, iq, draw_impairments(receiver), config.sample_rate)
    return iq, label_map(config.image, covers), tuple(carriers)


def _cover(
    plan: CarrierPlan, carrier: RadioCarrier, grids: list[ResourceGrid], config: RadioConfig
) -> np.ndarray:
    """Share of each pixel that a carrier covers by the label rule of `config`."""
    if config.labels == "carrier":
        return band_cover(config.image, carrier.band, carrier.on)
    return resource_cover(config.image, grids, plan.frequency, plan.delay)


def describe(plan: CarrierPlan, grids: list[ResourceGrid], config: RadioConfig) -> RadioCarrier:
    """Ground truth about a carrier that was rendered; `grids` as `render_carrier` returns them."""
    edges = grids[0].block_edges + plan.frequency
    if isinstance(plan.cell, lte.LteCell):
        sync = lte_sync(grids[0], plan.first_subframe, plan.frequency, plan.delay)
    else:
        sync = nr_sync(grids[1:], plan.frequency, plan.delay)
    return RadioCarrier(
        technology=CLASS_NAMES[plan.label],
        bandwidth=plan.bandwidth,
        blocks=plan.cell.n_blocks,
        spacing=grids[0].numerology.spacing,
        cell_id=plan.cell.cell_id,
        frequency=plan.frequency,
        band=(float(edges[0, 0]), float(edges[-1, 1])),
        on=plan.on,
        snr_db=plan.snr_db,
        load=plan.load.kind,
        channel=plan.channel,
        sync=tuple(
            signal
            for signal in sync
            if signal.time >= 0.0 and signal.time + 1.0 / signal.spacing <= config.duration
        ),
    )
