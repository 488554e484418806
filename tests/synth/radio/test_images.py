"""Images against a direct complex transform, and where tones and bursts appear in them."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from tfspec.errors import ConfigError, DataError
from tfspec.synth.radio.images import ImageConfig, colour_image, power_spectrogram, scale_power


def image(**changes: object) -> ImageConfig:
    options: dict[str, object] = {
        "sample_rate": 15_360_000,
        "n_samples": 153_600,
        "height": 128,
        "width": 64,
    }
    return ImageConfig(**{**options, **changes})  # type: ignore[arg-type]


def noise(n: int, seed: int = 0) -> np.ndarray:
    parts = np.random.default_rng(seed).standard_normal((n, 2)) * np.sqrt(0.5)
    return (parts[:, 0] + 1j * parts[:, 1]).astype(np.complex64)


def test_defaults_of_the_paper_are_cut_without_a_rest() -> None:
    config = ImageConfig(sample_rate=61_440_000, n_samples=2_457_600)
    assert (config.n_fft, config.hop_length, config.frames_per_column) == (1024, 640, 15)
    assert config.row_bandwidth == 240e3
    assert config.column_period == pytest.approx(156.25e-6, rel=1e-12)
    assert config.time_edges[-1] == pytest.approx(0.04, rel=1e-12)
    assert config.frequency_edges[[0, 128, 256]].tolist() == [30.72e6, 0.0, -30.72e6]


@pytest.mark.parametrize(("height", "width", "n"), [(128, 64, 153_600), (64, 10, 99_999)])
def test_power_equals_a_direct_complex_transform(height: int, width: int, n: int) -> None:
    config = image(height=height, width=width, n_samples=n)
    iq = noise(n) + np.exp(2j * np.pi * 0.1234 * np.arange(n))
    window = scipy.signal.get_window("hann", config.n_fft)
    hop, per_column = config.hop_length, config.frames_per_column
    lead = (config.n_fft - hop) // 2
    padded = np.pad(iq, (lead, config.n_fft))
    expected = np.zeros((width, config.n_fft))
    for frame in range(width * per_column):
        spectrum = np.fft.fft(padded[frame * hop :][: config.n_fft] * window)
        expected[frame // per_column] += np.abs(np.fft.fftshift(spectrum)) ** 2
    expected /= per_column * np.sum(window**2)
    # Each row is the integral of the bins, taken as straight lines between them, over its band.
    bins = config.n_fft // height
    around = np.concatenate([expected, expected[:, :1]], axis=1)
    rows = [np.trapezoid(around[:, r * bins : (r + 1) * bins + 1]) / bins for r in range(height)]
    # Single precision.
    np.testing.assert_allclose(power_spectrogram(iq, config)[::-1], rows, rtol=2e-3, atol=1e-4)


def test_white_noise_has_mean_one_everywhere() -> None:
    config = image()
    power = power_spectrogram(noise(config.n_samples), config)
    assert power.shape == (128, 64) and power.dtype == np.float32
    assert power[:, 1:-1].mean() == pytest.approx(1.0, rel=0.01)  # 8000 pixels of 20 % spread
    rows, columns = power[:, 1:-1].mean(axis=1), power.mean(axis=0)
    assert np.abs(rows - 1).max() < 0.15
    # The first and the last frame reach beyond the signal by a part of a window's skirt.
    assert np.abs(columns - 1).max() < 0.12


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.49, 0.49), st.floats(0.02, 0.9))
def test_a_burst_appears_at_its_frequency_and_time(frequency: float, start: float) -> None:
    config = image(height=64, width=32, n_samples=65_536)
    n = np.arange(config.n_samples)
    on = (n >= start * n.size) & (n < (start + 0.08) * n.size)
    iq = (np.exp(2j * np.pi * frequency * n) * on).astype(np.complex64)
    power = power_spectrogram(iq, config)
    rows, columns = power.sum(axis=1), power.sum(axis=0)
    edges = config.frequency_edges / config.sample_rate
    row = int(rows.argmax())
    # Frequency descends with the row; a tone near an edge may show in the neighbour.
    assert edges[row] + 0.002 >= frequency >= edges[row + 1] - 0.002
    assert rows[row] > 0.45 * rows.sum()
    middle = (columns @ (config.time_edges[:-1] + config.column_period / 2)) / columns.sum()
    assert middle == pytest.approx((start + 0.04) * n.size / config.sample_rate, abs=4e-5)


def test_a_smaller_image_averages_a_larger_one() -> None:
    iq = noise(153_600, 3)
    large = power_spectrogram(iq, image(height=256, width=64))
    small = power_spectrogram(iq, image(height=128, width=32))
    expected = large.reshape(128, 2, 32, 2).mean(axis=(1, 3))
    # Columns of 2400 samples and of 4800 samples are cut into equal hops of 600.
    np.testing.assert_allclose(small, expected, rtol=1e-4)


def test_scaling_stretches_decibels_to_the_unit_interval() -> None:
    power = np.array([[1.0, 10.0], [100.0, 1000.0]], np.float32)
    scaled, low, high = scale_power(power)
    np.testing.assert_allclose(scaled, np.array([[0, 1], [2, 3]]) / 3, atol=1e-5)
    assert (low, high) == pytest.approx((0.0, 30.0), abs=1e-4)
    # Stored as 16-bit integers and read back, nothing changes.
    stored = np.rint(scaled.astype(np.float64) * 65535).astype(np.uint16)
    np.testing.assert_array_equal((stored / 65535).astype(np.float32), scaled)
    assert not scale_power(np.zeros((4, 4)))[0].any()


def test_colours_are_those_of_the_map() -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    got = colour_image(values)
    assert got.shape == (16, 16, 3) and got.dtype == np.uint8
    expected = np.array(matplotlib.colormaps["viridis"].colors) * 255
    np.testing.assert_allclose(got.reshape(-1, 3), expected, atol=0.501)  # rounded to whole steps
    assert got[0, 0].tolist() == [68, 1, 84]  # viridis begins with dark violet
    assert np.unique(colour_image(values, "gray")[..., 0]).size == 256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 127}, "`height` must be even, .*height=127"),
        ({"height": 0}, "`height` must be an integer from 2 to 4096. Received: height=0"),
        ({"width": 0}, "`width` must be an integer from 1 to 4096"),
        ({"width": 2.5}, "`width` must be an integer .*width=2.5"),
        ({"sample_rate": 0.0}, "`sample_rate` must be positive. Received: sample_rate=0.0"),
        ({"n_samples": 10}, "`n_samples` must be at least the width, 64. .*n_samples=10"),
        ({"colour_map": "jetset"}, "`colour_map` must be a colour map .*'jetset'"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        image(**changes)


@pytest.mark.parametrize(
    ("iq", "message"),
    [
        (noise(1000), r"`iq` must be 153600 complex samples or more. .*\(1000,\)"),
        (np.zeros(153_600), "complex samples .* float64"),
        (np.full(153_600, np.nan + 0j), "`iq` must be finite"),
    ],
)
def test_bad_samples_are_named(iq: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        power_spectrogram(iq, image())
