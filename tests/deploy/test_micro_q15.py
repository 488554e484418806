"""The 16-bit front end of `tflite/micro` against float64, within the bounds its header states."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.deploy.micro_support import (
    MICRO,
    SIZES,
    Command,
    Runner,
    hard_signals,
    round_half_away,
    runner,
    sparse_bank,
    target_params,
    unpack_spectrum,
)


@pytest.fixture(params=target_params())
def micro(request) -> Runner:
    return runner(request.param)


def _bound(name: str) -> float:
    """A bound that the fixed-point header states."""
    header = (MICRO / "tfspec_frontend_q15.h").read_text()
    return float(re.search(rf"#define TFSPEC_Q15_{name}_BOUND (\S+)f", header)[1])


def _frames(x: np.ndarray, n_fft: int) -> np.ndarray:
    """Spectra `(frames, bins)` in float64 without padding, hop n_fft / 4."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    view = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), n_fft)
    return np.fft.rfft(view[:: n_fft // 4] * window)


def _q15_frames(result: bytes, n_fft: int) -> tuple[np.ndarray, np.ndarray]:
    """int16 packed spectra `(frames, n_fft)` and their exponents."""
    assert np.frombuffer(result, np.int32, 1)[0] == 0
    records = np.frombuffer(result, np.uint8, offset=4).reshape(-1, 4 + 2 * n_fft)
    exponents = np.ascontiguousarray(records[:, :4]).view(np.int32)[:, 0]
    return np.ascontiguousarray(records[:, 4:]).view(np.int16), exponents


class TestFixedPoint:
    """The bounds stated in `tfspec_frontend_q15.h`, against float64."""

    @pytest.mark.parametrize("n_fft", SIZES)
    def test_spectrum_and_magnitude(self, micro, rng, n_fft):
        bound = _bound("MAGNITUDE")
        signals = hard_signals(rng, 5 * n_fft)
        commands = [
            Command("stft_q15", [n_fft, n_fft // 4, 0, 100], shorts=x) for x in signals.values()
        ]
        magnitudes = []
        for (name, x), result in zip(signals.items(), micro.run(*commands), strict=True):
            data, exponents = _q15_frames(result, n_fft)
            expected = _frames(x, n_fft)
            got = unpack_spectrum(data) * 2.0 ** exponents[:, None]
            assert got.shape == expected.shape, name
            peak = np.abs(expected).max(axis=1, keepdims=True)
            view = np.lib.stride_tricks.sliding_window_view(np.abs(x.astype(float)), n_fft)
            loudest = view[:: n_fft // 4].max(axis=1, keepdims=True)
            peak = np.maximum(peak, loudest / 64)
            assert (np.abs(got - expected) <= bound * peak).all(), name
            magnitudes.append((name, data[2], np.abs(got[2]) / 2.0 ** exponents[2]))
        n_bins = n_fft // 2 + 1
        commands = [
            Command("magnitude_q15", [n_fft, n_bins], shorts=data) for _, data, _ in magnitudes
        ]
        for (name, _, expected), result in zip(magnitudes, micro.run(*commands), strict=True):
            got = np.frombuffer(result, np.uint16)
            # The square root is rounded to the nearest integer.
            np.testing.assert_array_equal(got, np.floor(expected + 0.5), err_msg=name)

    @pytest.mark.parametrize("kind", [0, 1])
    @pytest.mark.parametrize(("n_fft", "bands"), [(256, 40), (1024, 64)])
    def test_log_mel(self, micro, rng, n_fft, bands, kind):
        librosa = pytest.importorskip("librosa")
        mel = librosa.filters.mel(sr=16000, n_fft=n_fft, n_mels=bands, fmin=60.0).astype(float)
        starts, lengths, weights = sparse_bank(mel)
        unit = weights.max() / 65535
        log_scale, floor = round(65536 * np.log(65536 * unit)), -12.0
        for name in ("full-scale noise", "noise at -60 dB", "harmonics", "silence"):
            x = hard_signals(rng, 5 * n_fft)[name]
            stft_result = micro.run(Command("stft_q15", [n_fft, n_fft // 4, 0, 100], shorts=x))[0]
            data, exponents = _q15_frames(stft_result, n_fft)
            tables = np.concatenate([starts, lengths, np.round(weights / unit)])
            ints = [n_fft, kind, 0, int(floor * 65536), bands, log_scale]
            commands = [
                Command(
                    "log_mel_q15",
                    [*ints[:2], exponent, *ints[3:]],
                    shorts=np.concatenate([frame, tables]),
                )
                for frame, exponent in zip(data, exponents, strict=True)
            ]
            got = np.stack([np.frombuffer(r, np.int32) for r in micro.run(*commands)]) / 65536
            linear = np.abs(_frames(x / 32768, n_fft)) ** (1 + kind) @ mel.T
            error = np.abs(got - np.log(np.maximum(linear, np.exp(floor))))
            below = linear / np.maximum(linear.max(axis=1, keepdims=True), 1e-30)
            per_db = 10.0 if kind else 20.0
            strong = (below > 10 ** (-40 / per_db)) | (linear == 0)
            assert error[strong].max() <= _bound("LOG_MEL"), name
            assert error[below > 10 ** (-30 / per_db)].max(initial=0) <= 0.01, name

    def test_logarithm(self, micro, rng):
        values = [1, 2, 3, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
        values += [int(2 ** rng.uniform(0, 63.9)) for _ in range(120)]
        exponents = rng.integers(-60, 20, len(values))
        ints = [
            part
            for value, e in zip(values, exponents, strict=True)
            for part in (value & 0xFFFFFFFF, value >> 32, int(e))
        ]
        zero, *rest = np.frombuffer(micro.run(Command("ln_q16", [0, 0, 0, *ints]))[0], np.int32)
        expected = np.log(np.array(values, np.float64)) + exponents * np.log(2)
        assert zero == np.iinfo(np.int32).min
        assert np.abs(np.array(rest) / 65536 - expected).max() <= _bound("LN")

    def test_quantisation(self, micro, rng):
        scale, zero_point = 0.0625, 4  # a power of two, so that halves are exact
        values = np.concatenate([rng.integers(-(2**20), 2**20, 300), np.arange(-9, 9) * 2048])
        data = micro.run(Command("quantize_q16", [round(65536 / scale), zero_point, *values]))[0]
        steps = round_half_away(values / 65536 / scale) + zero_point
        np.testing.assert_array_equal(np.frombuffer(data, np.int8), np.clip(steps, -128, 127))
