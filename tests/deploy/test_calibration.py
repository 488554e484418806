"""Calibration data that would spoil a quantised model are refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from tfspec.deploy.calibration import check_calibration, describe_calibration
from tfspec.errors import ExportError

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
