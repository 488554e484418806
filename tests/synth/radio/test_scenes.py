"""Whole captures: the signal is where the ground truth says, and as strong."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests.synth.radio.registers import nr_pss_bit_by_bit
from tfspec.errors import ConfigError
from tfspec.synth.radio import (
    CLASS_NAMES,
    LTE,
    NOISE,
    NR,
    RadioCarrier,
    RadioConfig,
    RadioExample,
    power_spectrogram,
    radio_example,
    radio_examples,
)
from tfspec.synth.radio.plans import LEVEL_RANGE, draw_carriers
from tfspec.synth.radio.scenes import occupied_area, render_carrier

# A quarter of the default rate and half of its length: the same code in an eighth of the time.
SMALL = RadioConfig(
    sample_rate=30_720_000, duration=0.02, image_height=128, image_width=128, snr_db=(20, 30)
)
ONE = dataclasses.replace(SMALL, carriers=(0.0, 1.0), switching=0.0)
CLEAN = dataclasses.replace(ONE, fading=False, impairments=False)


def examples(config: RadioConfig, n: int, seed: int = 0) -> list[RadioExample]:
    return [radio_example(config, seed, index, keep_iq=True) for index in range(n)]


@pytest.fixture(scope="module")
def clean() -> list[RadioExample]:
    return examples(CLEAN, 24)


def lte_pss_by_formula(n_id_2: int) -> np.ndarray:
    n = np.arange(62)
    n = n + (n >= 31)  # the Zadoff-Chu sequence of length 63 without its middle
    return np.exp(-1j * np.pi * (25, 29, 34)[n_id_2] * n * (n + 1) / 63)


def pss_waveform(carrier: RadioCarrier, spacing: int, rate: int) -> np.ndarray:
    """One useful symbol length of the primary signal, centred on 0 Hz."""
    if carrier.technology == "lte":
        sequence = lte_pss_by_formula(carrier.cell_id % 3)
        places = np.concatenate([np.arange(-31, 0), np.arange(1, 32)])
    else:
        sequence = np.array(nr_pss_bit_by_bit(carrier.cell_id % 3))
        places = np.arange(-63, 64)
    time = np.arange(rate // spacing) / rate
    return np.exp(2j * np.pi * spacing * np.outer(time, places)) @ sequence


def peak_offset(example: RadioExample, carrier: RadioCarrier, number: int) -> tuple[int, float]:
    """Samples from the stated to the found place of a PSS, and the peak over the median."""
    assert example.iq is not None
    signal = [s for s in carrier.sync if s.kind == "pss"][number]
    rate, reach = example.config.sample_rate, 1500
    pattern = pss_waveform(carrier, signal.spacing, rate)
    stated = round(signal.time * rate)
    first = max(stated - reach, 0)
    piece = example.iq[first : stated + reach + pattern.size]
    time = (first + np.arange(piece.size)) / rate
    moved = piece * np.exp(-2j * np.pi * signal.frequency * time)
    found = np.abs(np.correlate(moved, pattern, "valid"))
    return first + int(found.argmax()) - stated, float(found.max() / np.median(found))


@pytest.mark.parametrize("technology", ["lte", "nr"])
def test_a_matched_filter_finds_the_signal_where_the_label_says(
    clean: list[RadioExample], technology: str
) -> None:
    tried = 0
    for example in clean:
        for carrier in example.carriers:
            kinds = [signal.kind for signal in carrier.sync]
            if carrier.technology == technology and "pss" in kinds:
                offset, ratio = peak_offset(example, carrier, kinds.count("pss") - 1)
                assert offset == 0
                assert ratio > 4.0
                tried += 1
    assert tried >= 4


def test_a_matched_filter_finds_it_behind_fading_channels() -> None:
    found = []
    for example in examples(ONE, 16, seed=5):
        for carrier in example.carriers:
            count = sum(signal.kind == "pss" for signal in carrier.sync)
            found += [(carrier, *peak_offset(example, carrier, n)) for n in range(min(count, 2))]
    assert len(found) >= 8
    # A correlation of 1 to 4.5 MHz shows the strongest path, at most 5 us (154 samples) late; a
    # symbol may fade altogether, which is why not every one has to be found.
    good = [-8 <= offset <= 160 and ratio > 3.0 for _, offset, ratio in found]
    assert np.mean(good) >= 0.85


def test_synchronisation_signals_come_as_often_as_they_should(clean: list[RadioExample]) -> None:
    for example in clean:
        for carrier in example.carriers:
            times = np.array([signal.time for signal in carrier.sync if signal.kind == "pss"])
            if carrier.technology == "lte":
                # Every 5 ms; 20 ms less the symbol hold four, or three when one is cut.
                np.testing.assert_allclose(np.diff(times), 5e-3, atol=1e-9)
                assert times.size in (3, 4)
            low, high = carrier.band
            for signal in carrier.sync:
                assert low < signal.frequency < high


def test_the_stored_ratio_is_the_measured_one() -> None:
    config = dataclasses.replace(SMALL, carriers=(0, 0, 1), snr_db=(-10, 30))
    for seed in range(6):
        for number, plan in enumerate(draw_carriers(np.random.default_rng([seed, 0, 0]), config)):
            rng = np.random.default_rng([seed, 0, 3 + number])
            samples, grids = render_carrier(rng, plan, config)
            # Energy over the noise energy in the same area of the time-frequency plane: noise of
            # variance 1 has 1 / rate per hertz and second, in both counts.
            area = sum(
                np.count_nonzero(grid.values[row])
                * grid.numerology.spacing
                * max(min(stop, config.n_samples) - max(start, 0), 0)
                / config.sample_rate
                for grid in grids
                for row, (start, stop) in enumerate(
                    zip(grid.starts - plan.delay, grid.stops - plan.delay, strict=True)
                )
            )
            assert area == pytest.approx(occupied_area(grids, plan.delay, config))
            measured = 10 * np.log10(np.sum(np.abs(samples.astype(np.complex128)) ** 2) / area)
            assert measured == pytest.approx(plan.snr_db, abs=0.01)


def test_the_ratio_is_seen_in_the_image() -> None:
    config = dataclasses.replace(CLEAN, lte_share=1.0, snr_db=(15, 15))
    seen = 0
    for example in examples(config, 40, seed=2):
        (carrier,) = example.carriers
        if carrier.load != "full" or carrier.blocks < 25:
            continue
        assert example.iq is not None
        power = power_spectrogram(example.iq, config.image)
        edges = config.image.frequency_edges
        low, high = carrier.band
        rows = (edges[1:] > low + 3e5) & (edges[:-1] < high - 3e5)
        # A full carrier sends all but a few percent of its elements.
        ratio = 10 * np.log10(power[rows].mean() - 1)
        assert ratio == pytest.approx(15.0, abs=0.7)
        seen += 1
    assert seen >= 1


def test_labels_are_where_the_power_is(clean: list[RadioExample]) -> None:
    for example in clean:
        assert example.iq is not None
        power = power_spectrogram(example.iq, CLEAN.image)
        inside = example.labels != NOISE
        (carrier,) = example.carriers
        number = CLASS_NAMES.index(carrier.technology)
        assert set(np.unique(example.labels)) <= {NOISE, number}
        rows = np.flatnonzero(inside.any(axis=1))
        height = CLEAN.image.row_bandwidth
        # The band to within half a row on both sides.
        assert rows.size * height == pytest.approx(carrier.band[1] - carrier.band[0], abs=height)
        top = CLEAN.image.frequency_edges[rows[0]]
        assert top == pytest.approx(carrier.band[1], abs=0.51 * height)
        assert inside[rows].all()  # on from the first to the last column
        # 20 dB and more above the noise on average, and noise beyond two rows from the edge.
        outside = np.ones(power.shape[0], bool)
        outside[max(rows[0] - 2, 0) : rows[-1] + 3] = False
        assert power[rows].mean() > 3 * power[outside].mean()
        assert power[outside].mean() < 1.3


def test_carriers_that_switch_have_edges_in_time() -> None:
    config = dataclasses.replace(CLEAN, switching=1.0, lte_share=1.0)
    found = 0
    for example in examples(config, 6, seed=3):
        assert example.iq is not None
        (carrier,) = example.carriers
        power = power_spectrogram(example.iq, config.image)
        rows = (example.labels == LTE).any(axis=1)
        level = power[rows].mean(axis=0)
        edges = config.image.time_edges
        on = (edges[:-1] >= carrier.on[0]) & (edges[1:] <= carrier.on[1])
        off = (edges[1:] <= carrier.on[0]) | (edges[:-1] >= carrier.on[1])
        assert (example.labels[rows] == LTE).any(axis=0)[on].all()
        assert not (example.labels == LTE)[:, off].any()
        assert level[on].mean() > 2.0 and level[off].max() < 1.2
        # Switched where a subframe of the carrier begins: whole milliseconds from that of a PSS.
        moment = carrier.on[0] or carrier.on[1]
        for signal in carrier.sync:
            if signal.kind == "pss":
                rest = (moment - signal.time + 13312 / 30.72e6) / 1e-3
                assert rest == pytest.approx(round(rest), abs=1e-6)
                found += 1
    assert found >= 6


def test_resource_labels_follow_the_traffic() -> None:
    config = dataclasses.replace(CLEAN, labels="resources", max_silence=None)
    shares = {LTE: [], NR: []}  # type: dict[int, list[float]]
    for index in range(16):
        example = radio_example(config, 1, index, keep_iq=True)
        band = radio_example(dataclasses.replace(config, labels="carrier"), 1, index).labels
        assert example.iq is not None
        used = example.labels != NOISE
        # All within the carrier, but for the rounding of half covered pixels at its edges.
        assert np.mean(used & (band == NOISE)) < 0.02
        if used.any() and (~used & (band != NOISE)).any():
            power = power_spectrogram(example.iq, config.image)
            assert power[used].mean() > 2 * power[~used].mean()
        for carrier in example.carriers:  # one, or none where an idle carrier sends nothing
            share = used.sum() / max((band != NOISE).sum(), 1)
            shares[CLASS_NAMES.index(carrier.technology)].append(float(share))
    # Reference signals keep an LTE carrier covered whatever its traffic; NR has empty slots.
    assert min(shares[LTE]) > 0.97
    assert min(shares[NR]) < 0.9


def test_the_same_seed_gives_the_same_bits() -> None:
    first, again = (radio_example(SMALL, 4, 2, keep_iq=True) for _ in range(2))
    np.testing.assert_array_equal(first.iq, again.iq)
    np.testing.assert_array_equal(first.spectrogram, again.spectrogram)
    assert first.carriers == again.carriers
    other = radio_example(SMALL, 4, 3, keep_iq=True)
    assert not np.array_equal(first.iq, other.iq)
    (third,) = radio_examples(1, SMALL, 4, start=2)
    np.testing.assert_array_equal(third.labels, first.labels)
    np.testing.assert_array_equal(third.image, first.image)


def test_the_signal_does_not_depend_on_the_image_or_the_labels() -> None:
    first = radio_example(SMALL, 4, 2, keep_iq=True)
    changed = dataclasses.replace(SMALL, image_height=64, image_width=64, labels="resources")
    other = radio_example(changed, 4, 2, keep_iq=True)
    np.testing.assert_array_equal(first.iq, other.iq)
    assert other.spectrogram.shape == other.labels.shape == (64, 64)
    # Without fading the plan stays the same, too.
    plain = radio_example(dataclasses.replace(SMALL, fading=False), 4, 2)
    assert [c.band for c in plain.carriers] == [c.band for c in first.carriers]


def test_examples_have_the_documented_form() -> None:
    example = radio_example(SMALL, 0, 1)
    assert example.spectrogram.shape == (128, 128) and example.spectrogram.dtype == np.float32
    assert example.spectrogram.min() == 0.0 and example.spectrogram.max() == 1.0
    assert example.image.shape == (128, 128, 3) and example.image.dtype == np.uint8
    assert example.labels.shape == (128, 128) and example.labels.dtype == np.uint8
    assert example.iq is None
    assert example.level_db[0] < 0.5 < example.level_db[1]  # noise lies at 0 dB
    for carrier in example.carriers:
        back = RadioCarrier.from_dict(json.loads(json.dumps(carrier.to_dict())))
        assert back == carrier


def test_noise_alone_has_no_ratio() -> None:
    example = radio_example(dataclasses.replace(SMALL, carriers=(1.0,)), 0, 0)
    assert example.carriers == () and np.isnan(example.snr_db)
    assert not example.labels.any()


def test_carriers_lie_beside_each_other_and_within_the_range_of_levels() -> None:
    config = dataclasses.replace(RadioConfig(), carriers=(0, 0, 0, 0, 1), snr_db=(-10, 40))
    numbers = []
    for seed in range(200):
        plans = draw_carriers(np.random.default_rng(seed), config)
        numbers.append(len(plans))
        edge = -0.48 * config.sample_rate
        for plan in plans:
            centre = plan.frequency
            # Rounded down to the raster of 100 kHz, and offset by up to 5 kHz.
            assert centre - plan.bandwidth / 2 >= edge - 105e3
            edge = centre + plan.bandwidth / 2
        assert edge <= 0.48 * config.sample_rate + 5e3
        levels = [plan.snr_db for plan in plans]
        assert min(levels) >= -10 and max(levels) <= 40
        assert max(levels) - min(levels) <= LEVEL_RANGE
    assert max(numbers) == 4
    assert {0, 1} <= set(numbers) or min(numbers) >= 1


def test_ratios_are_spread_evenly() -> None:
    config = RadioConfig()
    lowest = []
    for seed in range(1500):
        plans = draw_carriers(np.random.default_rng(seed), config)
        lowest += [min(plan.snr_db for plan in plans)] if plans else []
    counts, _ = np.histogram(lowest, bins=5, range=(-10, 40))
    # About 276 in each fifth: standard deviation 15, four of them.
    assert np.abs(counts - np.mean(counts)).max() < 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "`seed` must be a whole number of at least 0. Received: seed=-1"),
        ({"index": 1.5}, "`index` must be a whole number .*index=1.5"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        radio_example(SMALL, **arguments)
