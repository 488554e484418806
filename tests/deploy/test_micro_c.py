"""The C front end of `tflite/micro` against NumPy, librosa and tfspec, on every target.

Host and QEMU's Cortex-M boards run the same program on vectors made here. Float results are held
to 1e-4 relative by the project; the bounds below are tighter and state what was measured.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.deploy.micro_support import (
    SIZES,
    Command,
    Runner,
    music,
    pack_spectrum,
    round_half_away,
    runner,
    sparse_bank,
    target_params,
    unpack_spectrum,
)
from tfspec.signal.stft import StftConfig, analysis_window, stft

# A transform of n points in float32 errs by a few 2^-24 of the largest bin (measured 1.6e-7).
FFT_BOUND = 5e-7


@pytest.fixture(params=target_params())
def micro(request) -> Runner:
    return runner(request.param)


@pytest.fixture
def host() -> Runner:
    return runner("host")


def _c_stft(micro: Runner, x: np.ndarray, n_fft: int, hop: int, **options) -> np.ndarray:
    """Complex `(n_bins, frames)` from the C code."""
    prime, tail = options.get("prime", n_fft // 2), options.get("tail", n_fft // 2)
    window = options.get("window")
    data = {"shorts": x} if x.dtype == np.int16 else {"floats": x}
    if window is not None:
        data = {"floats": np.concatenate([window, x])}
    ints = [n_fft, hop, prime, options.get("piece", 173), tail, int(window is not None)]
    result = micro.run(Command("stft", ints, **data))[0]
    assert np.frombuffer(result, np.int32, 1)[0] == 0
    return unpack_spectrum(np.frombuffer(result, np.float32, offset=4).reshape(-1, n_fft)).T


class TestFft:
    def test_cosine_tables(self, micro):
        for n in SIZES:
            data = micro.run(Command("cosine", [n]))[0]
            expected = np.cos(2 * np.pi * np.arange(n) / n)
            table = np.frombuffer(data, np.float32, n)
            np.testing.assert_allclose(table, expected, rtol=0, atol=6e-8)
            q15 = np.frombuffer(data, np.int16, n, offset=4 * n)
            assert np.abs(q15 - 32767 * expected).max() <= 0.5 + 1e-9

    def test_forward_against_numpy(self, micro, rng):
        signals = [rng.standard_normal(n).astype(np.float32) for n in SIZES]
        results = micro.run(*(Command("rfft", [n], x) for n, x in zip(SIZES, signals, strict=True)))
        for x, result in zip(signals, results, strict=True):
            expected = np.fft.rfft(x.astype(np.float64))
            got = unpack_spectrum(np.frombuffer(result, np.float32))
            assert np.abs(got - expected).max() <= FFT_BOUND * np.abs(expected).max()

    def test_each_bin_lands_in_its_place(self, host):
        n = 64
        for k in range(n // 2 + 1):
            x = np.cos(2 * np.pi * k * np.arange(n) / n - 0.5)
            expected = np.fft.rfft(x)
            got = unpack_spectrum(host.floats("rfft", [n], x))
            np.testing.assert_allclose(got, expected, atol=1e-5)

    def test_inverse_against_numpy(self, micro, rng):
        spectra = [np.fft.rfft(rng.standard_normal(n)) for n in SIZES]
        commands = [
            Command("irfft", [n], pack_spectrum(s)) for n, s in zip(SIZES, spectra, strict=True)
        ]
        for n, spectrum, result in zip(SIZES, spectra, micro.run(*commands), strict=True):
            expected = np.fft.irfft(spectrum, n)
            got = np.frombuffer(result, np.float32)
            assert np.abs(got - expected).max() <= FFT_BOUND * np.abs(expected).max() * 4


class TestStft:
    @pytest.mark.parametrize(
        ("n_fft", "hop"), [(256, 64), (256, 128), (1024, 256), (512, 100), (128, 128)]
    )
    def test_centred_like_tfspec(self, micro, rng, n_fft, hop):
        x = music(rng, 4000)
        config = StftConfig(sample_rate=8000, n_fft=n_fft, hop_length=hop)
        expected = stft(x, config)
        got = _c_stft(micro, x, n_fft, hop)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()

    def test_centred_like_librosa(self, micro, rng):
        librosa = pytest.importorskip("librosa")
        x = music(rng, 3000)
        expected = librosa.stft(x, n_fft=256, hop_length=64, pad_mode="constant")
        got = _c_stft(micro, x, 256, 64)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()

    def test_without_padding(self, micro, rng):
        x = music(rng, 1500)
        config = StftConfig(sample_rate=8000, n_fft=256, hop_length=64, center=False)
        got = _c_stft(micro, x, 256, 64, prime=0, tail=0)
        expected = stft(x, config)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()

    @pytest.mark.parametrize("piece", [1, 63, 64, 65, 5000])
    def test_pieces_do_not_matter(self, host, rng, piece):
        x = music(rng, 2000)
        whole = _c_stft(host, x, 256, 64, piece=173)
        np.testing.assert_array_equal(_c_stft(host, x, 256, 64, piece=piece), whole)

    def test_16_bit_samples(self, micro, rng):
        x = np.round(music(rng, 2000) * 32767).astype(np.int16)
        config = StftConfig(sample_rate=8000, n_fft=256, hop_length=64)
        expected = stft(x.astype(np.float32) / 32768, config)
        got = _c_stft(micro, x, 256, 64)
        assert np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()

    @pytest.mark.parametrize("options", [{"window": "hamming"}, {"win_length": 200}])
    def test_other_windows(self, host, rng, options):
        x = music(rng, 2000)
        config = StftConfig(sample_rate=8000, n_fft=256, hop_length=64, **options)
        window = analysis_window(config).astype(np.float32)
        expected = stft(x, config)
        got = _c_stft(host, x, 256, 64, window=window)
        assert np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()

    @pytest.mark.parametrize(
        ("n_fft", "hop", "prime", "status"),
        [(256, 0, 0, 3), (256, 257, 0, 3), (256, 64, 256, 5)],
    )
    def test_bad_sizes_are_refused(self, host, n_fft, hop, prime, status):
        for operation in ("stft", "stft_q15"):
            result = host.run(Command(operation, [n_fft, hop, prime, 1, 0, 0]))[0]
            assert np.frombuffer(result, np.int32).tolist() == [status]


def _features(micro: Runner, spectrum, n_bins, kind, compression, constant, bank=None):
    """Status and features of one packed spectrum."""
    n_fft = spectrum.size
    starts, lengths, weights = bank if bank is not None else ([], [], [])
    result = micro.run(
        Command(
            "features",
            [n_fft, n_bins, kind, compression, len(starts)],
            np.concatenate([[constant], spectrum, weights]),
            np.concatenate([starts, lengths]),
        )
    )[0]
    return int(np.frombuffer(result, np.int32, 1)[0]), np.frombuffer(result, np.float32, offset=4)


class TestFeatures:
    """Relative bounds are per value: 1e-4 asked for, about 1e-6 reached."""

    @pytest.mark.parametrize("kind", [0, 1])
    @pytest.mark.parametrize("nyquist", [False, True])
    def test_magnitude_and_power(self, micro, rng, kind, nyquist):
        bins = np.fft.rfft(rng.standard_normal(256))
        n_bins = 128 + nyquist
        status, got = _features(micro, pack_spectrum(bins), n_bins, kind, 0, 0.0)
        assert status == 0
        np.testing.assert_allclose(got, np.abs(bins[:n_bins]) ** (1 + kind), rtol=1e-6)

    @pytest.mark.parametrize(
        ("compression", "constant", "function"),
        [
            (1, 0.0, np.sqrt),
            (2, 1e-3, lambda x: np.log(x + 1e-3)),
            (3, 0.5, lambda x: np.log(np.maximum(x, 0.5))),
            (4, 1000.0, lambda x: np.log1p(1000 * x)),
        ],
    )
    def test_compressions(self, micro, rng, compression, constant, function):
        bins = np.fft.rfft(rng.standard_normal(256)) * 10.0 ** rng.uniform(-6, 0, 129)
        _, got = _features(micro, pack_spectrum(bins), 129, 0, compression, constant)
        expected = function(np.abs(bins))
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)

    @pytest.mark.parametrize("kind", [0, 1])
    def test_log_mel_against_librosa(self, micro, rng, kind):
        librosa = pytest.importorskip("librosa")
        mel = librosa.filters.mel(sr=16000, n_fft=512, n_mels=40, fmin=60.0)
        x = music(rng, 512) * np.hanning(512)
        spectrum = librosa.stft(x, n_fft=512, hop_length=512, center=False)[:, 0]
        power = np.abs(spectrum.astype(np.complex128)) ** (1 + kind)
        expected = librosa.feature.melspectrogram(
            S=power[:, None], sr=16000, n_fft=512, n_mels=40, fmin=60.0
        )[:, 0]
        packed = pack_spectrum(spectrum)
        status, got = _features(micro, packed, 257, kind, 0, 0.0, sparse_bank(mel))
        assert status == 0
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        _, logs = _features(micro, packed, 257, kind, 2, 1e-6, sparse_bank(mel))
        np.testing.assert_allclose(logs, np.log(expected + 1e-6), atol=1e-5)

    def test_empty_band_is_zero(self, host):
        bank = (np.array([0, 3]), np.array([0, 2]), np.array([0.5, 0.25]))
        _, got = _features(host, pack_spectrum(np.arange(17.0) + 0j), 17, 0, 0, 0.0, bank)
        assert got.tolist() == [0.0, 3 * 0.5 + 4 * 0.25]

    @pytest.mark.parametrize(
        ("n_bins", "bank", "status"),
        [
            (0, None, 4),
            (18, None, 4),
            (16, (np.array([15]), np.array([2]), np.array([1.0, 1.0])), 7),
        ],
    )
    def test_bad_descriptions_are_refused(self, host, n_bins, bank, status):
        assert _features(host, np.zeros(32), n_bins, 0, 0, 0.0, bank)[0] == status


class TestQuantize:
    def test_as_tflite(self, micro, rng):
        scale, zero_point = np.float32(0.037), -17
        halves = (np.arange(-200, 200) + 0.5) * float(scale)
        extremes = [0.0, -0.0, np.inf, -np.inf, np.nan, 3e38, -3e38, 0.49999997 * float(scale)]
        values = np.concatenate([rng.normal(0, 3, 500), halves, extremes]).astype(np.float32)
        data = micro.run(Command("quantize", [zero_point, 1], np.concatenate([[scale], values])))[0]
        assert np.frombuffer(data, np.int32, 1)[0] == 0
        got = np.frombuffer(data, np.int8, values.size, offset=4)
        with np.errstate(over="ignore"):
            steps = (values / scale).astype(np.float64)
        expected = np.clip(round_half_away(np.nan_to_num(steps, nan=-1e9)) + zero_point, -128, 127)
        np.testing.assert_array_equal(got, expected)
        back = np.frombuffer(data, np.float32, offset=4 + values.size)
        np.testing.assert_allclose(back, scale * (got.astype(np.float32) + 17), rtol=1e-6)

    def test_stride_leaves_the_other_columns(self, host):
        data = host.run(Command("quantize", [0, 3], [1.0, 5.0, -7.0]))[0]
        assert np.frombuffer(data, np.int8, 6, offset=4).tolist() == [5, 99, 99, -7, 99, 99]

    @pytest.mark.parametrize(("scale", "zero_point"), [(0.0, 0), (-1.0, 0), (1.0, 128)])
    def test_bad_parameters_are_refused(self, host, scale, zero_point):
        data = host.run(Command("quantize", [zero_point, 1], [scale, 1.0]))[0]
        assert np.frombuffer(data, np.int32, 1)[0] == 6
