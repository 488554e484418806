"""The C segment, mask and inverse transform of `tflite/micro` against tfspec's separation."""

from __future__ import annotations

import numpy as np
import pytest

from tests.deploy.micro_support import (
    Command,
    Runner,
    music,
    pack_spectrum,
    round_half_away,
    runner,
    snr_db,
    target_params,
    unpack_spectrum,
)
from tfspec.separation.estimators import core_input
from tfspec.separation.front_end import FrontEnd
from tfspec.signal.stft import StftConfig, istft, stft

ABOVE = {"extend": 0, "zero": 1, "mixture": 2}


@pytest.fixture(params=target_params())
def micro(request) -> Runner:
    return runner(request.param)


@pytest.fixture
def host() -> Runner:
    return runner("host")


def _front_end(n_fft: int, hop: int, frames: int) -> FrontEnd:
    config = StftConfig(sample_rate=8000, n_fft=n_fft, hop_length=hop, center=False)
    return FrontEnd(
        stft=config,
        segment_frames=frames,
        scaler_kind="max",
        scaler_axis="segment",
        output="mask",
    )


class TestSegment:
    N_FFT, FRAMES = 64, 8

    def _run(self, micro: Runner, spectra, mask, **options):
        """Level, input, masked spectrum and int8 input."""
        n_bins = options.get("n_bins", self.N_FFT // 2)
        channels, channel = options.get("channels", (1, 0))
        ints = [self.N_FFT, n_bins, self.FRAMES, len(spectra), options.get("column", 0)]
        ints += [options.get("mask_column", 0), ABOVE[options.get("policy", "extend")]]
        ints += [channels, channel, -128, options.get("zero_point", -128)]
        floats = [
            np.array([1 / 255, options.get("scale", 1 / 256)]),
            pack_spectrum(spectra).ravel(),
        ]
        shorts = mask.ravel() if mask.dtype == np.int8 else []
        if mask.dtype != np.int8:
            floats.append(mask.ravel())
        data = micro.run(Command("segment", ints, np.concatenate(floats), shorts))[0]
        assert np.frombuffer(data, np.int32, 1)[0] == 0
        values = np.frombuffer(
            data[4 : 4 + 4 * (1 + n_bins * self.FRAMES + self.N_FFT)], np.float32
        )
        network_input = values[1 : 1 + n_bins * self.FRAMES].reshape(n_bins, self.FRAMES)
        masked = unpack_spectrum(values[1 + n_bins * self.FRAMES :])
        quantized = np.frombuffer(data[-n_bins * self.FRAMES :], np.int8).reshape(n_bins, -1)
        return values[0], network_input, masked, quantized

    def _spectra(self, rng, count):
        spectra = np.fft.rfft(rng.standard_normal((count, self.N_FFT)))
        return spectra * 10.0 ** rng.uniform(-3, 0, (count, 1))

    def test_input_as_tfspec_computes_it(self, micro, rng):
        spectra = self._spectra(rng, 21)  # more than fit: the ring has to wrap
        spectra[-5, -1] = 1e3  # the Nyquist bin is the loudest, and not the network's
        mask = np.zeros((32, 8), np.float32)
        level, got, _, quantized = self._run(micro, spectra, mask)
        magnitude = np.abs(spectra[-8:, :32]).T
        front_end = _front_end(64, 16, 8)
        expected = core_input(magnitude[None, :, :, None], front_end)[0, ..., 0]
        np.testing.assert_allclose(level, magnitude.max(), rtol=1e-6)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        steps = round_half_away(expected * 255.0) - 128
        # A value within float rounding of a half may go to the other side.
        assert np.abs(quantized - steps).max() <= 1
        assert np.mean(quantized != steps) < 0.01

    def test_silence_is_zero_and_not_nan(self, micro):
        level, got, _, quantized = self._run(
            micro, np.zeros((3, 33), complex), np.zeros((32, 8), np.float32)
        )
        assert level == 1.0
        assert not got.any()
        assert (quantized == -128).all()

    @pytest.mark.parametrize("policy", list(ABOVE))
    @pytest.mark.parametrize("n_bins", [32, 33, 20])
    def test_mask_and_bins_above_the_network(self, micro, rng, policy, n_bins):
        spectra = self._spectra(rng, 10)
        mask = rng.uniform(0, 1, (n_bins, 8)).astype(np.float32)
        _, _, got, _ = self._run(
            micro, spectra, mask, n_bins=n_bins, policy=policy, column=3, mask_column=5
        )
        fill = {"extend": mask[-1, 5], "zero": 0.0, "mixture": 1.0}[policy]
        gain = np.concatenate([mask[:, 5], np.full(33 - n_bins, fill)])
        expected = spectra[2 + 3] * gain
        assert np.abs(got - expected).max() <= 2e-7 * np.abs(spectra[5]).max()

    def test_int8_mask_with_two_targets(self, micro, rng):
        spectra = self._spectra(rng, 8)
        mask = rng.integers(-128, 128, (32, 8, 2)).astype(np.int8)
        _, _, got, _ = self._run(
            micro, spectra, mask, channels=(2, 1), column=7, mask_column=7, zero_point=-120
        )
        gain = (mask[:, 7, 1].astype(float) + 120) / 256
        expected = spectra[7] * np.append(gain, gain[-1])
        assert np.abs(got - expected).max() <= 2e-7 * np.abs(expected).max()


def _separate(micro: Runner, x, n_fft, hop, n_bins, frames, step, lookahead, **options):
    """Statuses and output of the C separator on whole hops of `x`."""
    ints = [n_fft, hop, n_bins, frames, step, lookahead, ABOVE[options.get("policy", "extend")]]
    ints += [int(options.get("pass_all", True)), options.get("calls", 10**6)]
    data = micro.run(Command("separator", ints, x))[0]
    if np.frombuffer(data, np.int32, 1)[0]:
        return np.frombuffer(data, np.int32), np.zeros(0, np.float32)
    rows = np.frombuffer(data, np.float32, offset=4).reshape(-1, 1 + hop)
    return rows[:, 0].copy().view(np.int32), rows[:, 1:].ravel()


def _reference_separation(x, n_fft, hop, frames, step, lookahead):
    """The same in tfspec: masks equal to the quantised input, used `step` columns at a time."""
    config = StftConfig(sample_rate=8000, n_fft=n_fft, hop_length=hop, center=False)
    spectra = stft(np.concatenate([np.zeros(n_fft - hop, np.float32), x]), config)
    n_bins, front_end = n_fft // 2, _front_end(n_fft, hop, frames)
    padded = np.pad(np.abs(spectra[:n_bins]), [(0, 0), (frames, 0)])
    gains = np.zeros(spectra.shape, np.float32)
    for end in range(step, spectra.shape[1] + 1, step):
        segment = padded[:, end : end + frames]
        mask = core_input(segment[None, :, :, None], front_end)[0, ..., 0]
        mask = np.rint(mask * 255) / 255
        mask = np.concatenate([mask, mask[-1:]])
        first = end - lookahead - step
        for column in range(step):
            if first + column >= 0:
                gains[:, first + column] = mask[:, frames - lookahead - step + column]
    return istft(spectra * gains, config)


class TestSeparator:
    @pytest.mark.parametrize(
        ("n_fft", "hop", "frames", "step", "lookahead"),
        [(256, 64, 32, 32, 0), (256, 128, 32, 16, 8), (256, 64, 16, 1, 15), (64, 48, 4, 2, 1)],
    )
    def test_mask_of_one_gives_the_input_delayed(
        self, micro, rng, n_fft, hop, frames, step, lookahead
    ):
        x = music(rng, hop * 160)
        statuses, y = _separate(micro, x, n_fft, hop, n_fft // 2, frames, step, lookahead)
        delay = n_fft - hop + (step + lookahead - 1) * hop
        assert not statuses.any()
        assert np.abs(y[:delay]).max() <= 1e-6  # zeros, but for the transform's rounding
        # 24-bit arithmetic gives about 138 dB; 100 dB is what the project promises.
        assert snr_db(x[: x.size - delay], y[delay:]) >= 125

    @pytest.mark.parametrize(("step", "lookahead"), [(16, 0), (8, 4), (4, 12)])
    def test_masks_go_to_their_frames(self, micro, rng, step, lookahead):
        n_fft, hop, frames = 128, 32, 16
        x = music(rng, hop * 96)
        _, y = _separate(micro, x, n_fft, hop, n_fft // 2, frames, step, lookahead, pass_all=False)
        expected = _reference_separation(x, n_fft, hop, frames, step, lookahead)
        # Output sample i + delay is sample i of the padded stream less n_fft - hop zeros; the last
        # window of the reference has incomplete sums, the last masks are not known to both.
        delay = (step + lookahead - 1) * hop
        span = slice(n_fft, y.size - delay - n_fft - frames * hop)
        # Measured 137 dB; 96 dB where one value of a mask, near a half, rounds to the other side.
        assert snr_db(expected[span], y[delay:][span]) >= 75

    def test_above_zero_removes_what_the_network_does_not_see(self, host):
        t = np.arange(64 * 100)
        low, high = np.sin(2 * np.pi * 0.0625 * t), np.sin(2 * np.pi * 0.375 * t)
        x = (0.4 * (low + high)).astype(np.float32)
        _, y = _separate(host, x, 256, 64, 64, 16, 16, 0, policy="zero")
        delay = 256 - 64 + 15 * 64
        inside = slice(512, x.size - delay)  # the tones' abrupt start has energy everywhere
        assert snr_db(0.4 * low[inside], y[delay:][inside]) > 80

    def test_failing_network_gives_silence_and_says_so(self, host, rng):
        x = music(rng, 64 * 64)
        statuses, y = _separate(host, x, 256, 64, 128, 16, 16, 0, calls=2)
        assert statuses.nonzero()[0].tolist() == [47, 63]
        assert set(statuses[[47, 63]]) == {8}
        assert y[20 * 64 : 40 * 64].any()
        assert not y[-12 * 64 :].any()

    @pytest.mark.parametrize(
        ("setting", "status"),
        [
            ((48, 16, 24, 8, 8, 0), 2),
            ((16, 8, 8, 8, 8, 0), 2),
            ((8192, 64, 128, 8, 8, 0), 2),
            ((64, 0, 32, 8, 8, 0), 3),
            ((64, 64, 32, 8, 8, 0), 3),  # Hann without overlap: its zero covers nothing
            ((64, 16, 34, 8, 8, 0), 4),
            ((64, 16, 32, 8, 0, 0), 5),
            ((64, 16, 32, 8, 9, 0), 5),
            ((64, 16, 32, 8, 8, 1), 5),
        ],
    )
    def test_bad_settings_are_refused(self, host, setting, status):
        assert _separate(host, np.zeros(16), *setting)[0].tolist() == [status]
