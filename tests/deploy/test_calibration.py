"""Calibration data that would spoil a quantised model are refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from tfspec.deploy.calibration import (
    check_calibration,
    describe_calibration,
    refuse_noise,
    structure,
)
from tfspec.errors import ExportError
from tfspec.signal.stft import StftConfig, stft

SHAPE = (4, 3, 1)


def good(count: int = 16) -> np.ndarray:
    return np.random.default_rng(0).random((count, *SHAPE))


def with_value(value: float) -> np.ndarray:
    data = good()
    data[5, 1, 1, 0] = value
    return data


def test_good_data_come_back_as_float32():
    data = good()
    checked = check_calibration(data, SHAPE)
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, data.astype(np.float32))


def test_lists_and_integers_are_accepted():
    integers = np.random.default_rng(0).integers(0, 9, (16, *SHAPE))
    np.testing.assert_array_equal(check_calibration(list(integers), SHAPE), integers)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, *SHAPE)), r"is empty: shape \(0, 4, 3, 1\)"),
        ([], "is empty"),
        (good()[..., 0], r"shape \(segments, 4, 3, 1\). Received: shape \(16, 4, 3\)"),
        (good()[:, :3], r"Received: shape \(16, 3, 3, 1\)"),
        (good(15), "at least 16 segments that are not constant. Received: 15 of 15"),
        (with_value(np.nan), "1 NaN or infinite values, the first in segment 5"),
        (with_value(-np.inf), "1 NaN or infinite values, the first in segment 5"),
        (with_value(1e39), "1 NaN or infinite values"),  # beyond float32
        (np.full((16, *SHAPE), 0.5), "is constant: each of its 16 segments .*0.5"),
        (np.zeros((16, *SHAPE)), "is constant"),
        (good() + 1j, "must hold real numbers. Received: dtype complex128"),
        (good() > 0.5, "must hold real numbers. Received: dtype bool"),
        (np.full((16, *SHAPE), "loud"), "must hold real numbers"),
        ([good()[0], good()[0, :2]], "equally shaped segments"),
        (None, "must hold real numbers. Received: dtype object"),
    ],
)
def test_unusable_data_are_refused_in_one_line(data, message):
    with pytest.raises(ExportError, match=message) as caught:
        check_calibration(data, SHAPE)
    assert "\n" not in str(caught.value)


def test_silent_segments_do_not_count():
    data = np.concatenate([good(16), np.zeros((4, *SHAPE))])
    assert len(check_calibration(data, SHAPE)) == 20
    with pytest.raises(ExportError, match="Received: 16 of 20"):
        check_calibration(data, SHAPE, minimum=17)


def test_description_tells_data_apart_and_states_the_level_spread():
    data = check_calibration(good(), SHAPE)
    data[0] /= 10  # 20 dB down
    described = describe_calibration(data)
    level = np.sqrt((data.reshape(16, -1) ** 2).mean(1))
    expected = 20 * np.log10(level.max() / level.min())
    assert described["level_spread_db"] == pytest.approx(expected, abs=0.01)  # stored to 0.01 dB
    assert described["segments"] == 16 and described["shape"] == [4, 3, 1]
    assert described["sha256"] != describe_calibration(data[::-1])["sha256"]
    assert described == describe_calibration(data.copy())


def test_description_tells_which_of_the_given_segments_served():
    data = check_calibration(good(), SHAPE)
    assert describe_calibration(data)["rows"] == list(range(16))
    assert describe_calibration(data[:3], np.array([4, 1, 9]))["rows"] == [4, 1, 9]


RANDOM = {
    "uniform": lambda rng, shape: rng.random(shape),
    "between -1 and 1": lambda rng, shape: rng.uniform(-1, 1, shape),
    "normal": lambda rng, shape: 0.5 + 0.1 * rng.standard_normal(shape),
    "integers": lambda rng, shape: rng.integers(0, 256, shape) / 255,
    "each divided by its maximum": lambda rng, shape: (
        (x := rng.random(shape)) / x.max(axis=tuple(range(1, len(shape))), keepdims=True)
    ),
}


@pytest.mark.parametrize("shape", [(16, 64, 32, 1), (24, 4000), (50, 16, 16, 3), (100, 400)])
@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_are_refused(rng, name, shape):
    data = RANDOM[name](rng, shape).astype(np.float32)
    with pytest.raises(ExportError, match=r"`calibration` is random: its \d+ values") as caught:
        refuse_noise(data)
    assert "\n" not in str(caught.value)


def test_what_could_be_a_recording_is_not_refused(rng):
    """Noise too, as soon as one thing about it is not pure chance."""
    noise = rng.standard_normal((16, 64, 32))
    louder = np.linspace(0.5, 1.5, 16)[:, None, None]
    spectrum = np.linspace(1, 2, 64)[:, None]
    pulses = np.where(rng.random((16, 64, 4)).repeat(8, axis=2) < 0.1, 3.0, 1.0)
    smooth = noise + 0.2 * np.roll(noise, 1, axis=2)
    assert structure(noise.astype(np.float32)) < 6  # what is refused
    for data in (noise * louder, noise * spectrum, noise * pulses, smooth):
        assert structure(data.astype(np.float32)) > 6
        refuse_noise(data.astype(np.float32))
    # Magnitudes of white noise without overlap are independent, but no random generator's own.
    refuse_noise(np.hypot(noise, rng.standard_normal(noise.shape)).astype(np.float32))
    refuse_noise(rng.random((16, 2047)).astype(np.float32))  # too few values prove nothing


@pytest.mark.parametrize("kind", ["Rain", "Sea waves", "Fire crackling", "Helicopter"])
def test_recordings_of_noise_are_far_from_chance(shared_data, kind):
    """Three seconds of one clip: samples, magnitudes without overlap, and as in training."""
    import soundfile

    config = StftConfig(sample_rate=44100, n_fft=1024, hop_length=1024, window="boxcar")
    (folder,) = (shared_data / "esc10").glob(f"* - {kind}")
    for path in sorted(folder.glob("*.ogg"))[:8]:
        samples = soundfile.read(path, dtype="float32")[0][: 16 * 8192]
        magnitude = np.abs(stft(samples, config))[:512, :128]
        segments = magnitude.reshape(512, 16, -1).swapaxes(0, 1)
        scaled = np.sqrt(segments / segments.max(axis=(1, 2), keepdims=True))
        # Refused below 6; the least of all 400 clips was 97.
        for data in (samples.reshape(16, -1), segments, scaled):
            assert structure(data) > 60, path
            refuse_noise(data)
