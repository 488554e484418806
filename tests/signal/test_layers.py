"""Transforms as Keras layers: against the NumPy transform, librosa, half precision and LiteRT."""

from __future__ import annotations

import keras
import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.separation.waveform_support import (
    LARGEST_FLOAT16,
    Intermediates,
    full_scale_signals,
    run_tflite,
    snr_db,
    to_tflite,
)
from tfspec.deploy.inspect import LITERT_OPS, inspect_tflite
from tfspec.errors import ConfigError
from tfspec.signal.layers import (
    IstftLayer,
    LogLayer,
    MagnitudeLayer,
    MelLayer,
    StftLayer,
    fp16_scale,
)
from tfspec.signal.layers_streaming import (
    CrossFadeLayer,
    ExtendMaskLayer,
    LevelLayer,
    SegmentLayer,
    StreamingCrossFadeLayer,
    StreamingIstftLayer,
    segment_count,
)
from tfspec.signal.scaling import Scaler
from tfspec.signal.stft import StftConfig, istft, stft

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
# Float32 rounding of both transforms is near 1e-7 of the peak; librosa's own is in it too.
TOLERANCE = 1e-6
CONFIGS = {
    "paper": StftConfig(),
    "odd hop, short window": StftConfig(hop_length=171, win_length=800),
    "hamming": StftConfig(n_fft=512, hop_length=100, win_length=301, window="hamming"),
    "not centred": StftConfig(n_fft=256, hop_length=64, window="blackman", center=False),
    "44.1 kHz": StftConfig().scaled(4),
    "twice a prime": StftConfig(n_fft=62, hop_length=20),
    "no overlap": StftConfig(n_fft=64, hop_length=64, window="boxcar"),
}


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def as_complex(parts) -> np.ndarray:
    """`(batch, bins, frames)` as the NumPy transform has it."""
    real, imaginary = (np.asarray(part) for part in parts)
    return np.swapaxes(real + 1j * imaginary, 1, 2)


def as_parts(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    by_frame = np.swapaxes(spectrum, 1, 2)
    return np.ascontiguousarray(by_frame.real), np.ascontiguousarray(by_frame.imag)


@pytest.mark.parametrize("name", CONFIGS)
def test_transform_and_inverse_equal_the_numpy_transform(name):
    config = CONFIGS[name]
    x = noise(0, 2, 9001)
    expected = stft(x, config)
    got = as_complex(StftLayer(config)(x))
    np.testing.assert_allclose(got, expected, atol=TOLERANCE * np.abs(expected).max())
    masked = (expected * np.linspace(0, 1, config.n_bins)[:, None]).astype(np.complex64)
    samples = IstftLayer(config, length=9001)(as_parts(masked))
    reference = istft(masked, config, length=9001)
    # Where windows fade out at an edge both divide rounding by nearly nothing.
    inner = slice(None) if config.center else slice(config.n_fft, -config.n_fft)
    np.testing.assert_allclose(
        np.asarray(samples)[:, inner], reference[:, inner], atol=3e-6 * np.abs(reference).max()
    )


@QUICK
@given(
    samples=st.integers(1, 3000),
    n_fft=st.sampled_from([16, 30, 64, 100, 128]),
    overlap=st.sampled_from([1.5, 2, 3, 4, 7]),
    length=st.integers(1, 3500),
    seed=st.integers(0, 2**16),
)
def test_any_length(samples, n_fft, overlap, length, seed):
    config = StftConfig(n_fft=n_fft, hop_length=int(n_fft / overlap), window="hamming")
    x = noise(seed, 1, samples)
    expected = stft(x, config)
    parts = StftLayer(config)(x)
    # n_fft is the largest magnitude that samples in [-1, 1] can have.
    np.testing.assert_allclose(as_complex(parts), expected, atol=TOLERANCE * n_fft)
    got = np.asarray(IstftLayer(config, length=length)(parts))
    np.testing.assert_allclose(got, istft(expected, config, length=length), atol=1e-5)


def test_magnitude_mel_and_log_equal_librosa():
    config = StftConfig()
    x = noise(1, 1, 20000)
    scale = fp16_scale(config)
    power = MagnitudeLayer(power=True)(StftLayer(config, scale=scale)(x))
    mel = MelLayer(config, n_mels=40, fmin=50.0)(power)
    log_mel = np.asarray(LogLayer(offset=1e-3, scale=scale**2)(mel))[0].T
    bands = librosa.feature.melspectrogram(
        y=x[0], sr=11025, n_fft=1024, hop_length=256, n_mels=40, fmin=50.0, pad_mode="constant"
    )
    np.testing.assert_allclose(np.asarray(mel)[0].T, bands * scale**2, rtol=1e-4)
    # 1e-4 relative before the logarithm is 1e-4 absolute after it.
    np.testing.assert_allclose(log_mel, np.log(bands + 1e-3), atol=1e-4)
    magnitude = np.asarray(MagnitudeLayer()(StftLayer(config)(x)))[0].T
    expected = np.abs(librosa.stft(x[0], n_fft=1024, hop_length=256, pad_mode="constant"))
    np.testing.assert_allclose(magnitude, expected, atol=1e-4)


@pytest.mark.parametrize(("mel_scale", "mel_norm"), [("htk", None), ("slaney", "slaney")])
def test_mel_scales(mel_scale, mel_norm):
    config = StftConfig(n_fft=512, hop_length=128)
    flat = np.ones((1, 3, config.n_bins), np.float32)
    got = MelLayer(config, n_mels=20, fmax=4000.0, mel_scale=mel_scale, mel_norm=mel_norm)(flat)
    filters = librosa.filters.mel(
        sr=11025, n_fft=512, n_mels=20, fmax=4000.0, htk=mel_scale == "htk", norm=mel_norm
    )
    np.testing.assert_allclose(got[0, 0], filters.sum(axis=1), rtol=1e-5)


def analysis_and_synthesis(
    config: StftConfig, samples: int, scale: float | None = None
) -> keras.Model:
    """Everything that a waveform model computes around its network."""
    scale = fp16_scale(config) if scale is None else scale
    x = keras.Input(batch_shape=(1, samples), name="x")
    real, imaginary = StftLayer(config, scale=scale)(x)
    power = MagnitudeLayer(power=True)([real, imaginary])
    mel = LogLayer(scale=scale**2)(MelLayer(config, n_mels=8)(power))
    segments = SegmentLayer(segment_frames=16, overlap_frames=4)(
        MagnitudeLayer()([real, imaginary])
    )
    y = IstftLayer(config, length=samples, scale=scale)([real, imaginary])
    return keras.Model(x, {"mel": mel, "level": LevelLayer()(segments), "y": y})


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")
def test_no_intermediate_overflows_half_precision():
    samples = 6000
    run = Intermediates(to_tflite(analysis_and_synthesis(StftConfig(), samples)))
    for name, signal in full_scale_signals(samples).items():
        values = run(signal[None].astype(np.float32))
        largest = max(values, key=lambda key: float(np.abs(values[key]).max()))
        assert len(values) > 50, name
        assert np.abs(values[largest]).max() < LARGEST_FLOAT16 / 2, (name, largest)
        assert all(np.isfinite(value).all() for value in values.values()), name


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")
def test_without_scaling_the_power_would_overflow():
    """The test above can fail: an unscaled full-scale power is 512**2, four times too large."""
    x = full_scale_signals(6000)["DC"][None].astype(np.float32)
    values = Intermediates(to_tflite(analysis_and_synthesis(StftConfig(), 6000, scale=1.0)))(x)
    largest = max(float(np.abs(value).max()) for value in values.values())
    assert largest == pytest.approx(512.0**2, rel=0.01) and largest > LARGEST_FLOAT16


@pytest.mark.parametrize("n_fft", [256, 1024, 4096])
@pytest.mark.parametrize("window", ["hann", "boxcar"])
def test_scale_is_a_power_of_two_that_bounds_magnitudes(n_fft, window):
    config = StftConfig(n_fft=n_fft, hop_length=n_fft // 4, window=window)
    scale = fp16_scale(config)
    assert np.log2(scale) == int(np.log2(scale))
    ones = np.ones((1, 4 * n_fft), np.float32)
    largest = np.asarray(MagnitudeLayer()(StftLayer(config, scale=scale)(ones))).max()
    assert 64 < largest <= 128.001  # within a factor of two, so that quiet bins stay normal too


def test_half_precision_keeps_quiet_signals():
    """A sine 72 dB below full scale has a power above the smallest normal float16, 6.1e-5."""
    config = StftConfig()
    x = 10 ** (-72 / 20) * full_scale_signals(6000)["sine"]
    power = MagnitudeLayer(power=True)(
        StftLayer(config, scale=fp16_scale(config))(x[None].astype(np.float32))
    )
    assert np.asarray(power).max() > np.finfo(np.float16).tiny


def test_round_trip_keeps_100_db():
    config = StftConfig()
    x = noise(5, 1, 20000)
    scale = fp16_scale(config)
    y = IstftLayer(config, length=20000, scale=scale)(StftLayer(config, scale=scale)(x))
    # Measured 133 dB; the edges are as good, since centred windows cover them.
    assert snr_db(x, np.asarray(y)) > 120


@pytest.mark.parametrize("name", ["paper", "odd hop, short window", "not centred"])
def test_converts_to_builtin_operators(name):
    config = CONFIGS[name]
    model = analysis_and_synthesis(config, 5000)
    content = to_tflite(model)
    report = inspect_tflite(content)
    assert set(report.ops) <= LITERT_OPS - {"GATHER", "TILE", "SELECT_V2"}
    assert not report.dynamic_tensors
    # The point of two stages: one matrix of 1024 x 1026 alone would take 4.2 MB.
    assert len(content) < 500_000
    x = noise(6, 1, 5000)
    expected, got = model(x), run_tflite(content, x=x)
    for key in ("mel", "level", "y"):
        # Another order of float32 sums; logarithms of 1e-6 amplify it most.
        assert snr_db(np.asarray(expected[key]), got[key]) > 100


@pytest.mark.parametrize("kind", ["max", "minmax"])
@pytest.mark.parametrize("axis", ["segment", "frequency", "time"])
def test_level_equals_the_scaler_of_training(kind, axis):
    x = np.abs(noise(7, 3, 8, 16, 1)) * 10
    x[1] *= 1e-3
    expected, _ = Scaler(kind=kind, axis=axis).fit_transform(x)
    # One division against one division, subtraction first: a rounding of 6e-8 each.
    np.testing.assert_allclose(LevelLayer(kind=kind, axis=axis)(x), expected, atol=3e-7)


@pytest.mark.parametrize("kind", ["max", "minmax"])
def test_silence_has_no_level(kind):
    assert not np.any(np.asarray(LevelLayer(kind=kind)(np.zeros((1, 8, 16, 1), np.float32))))


@QUICK
@given(frames=st.integers(1, 90), half=st.integers(1, 8), overlap=st.integers(0, 8))
def test_segments_and_cross_fade_are_inverse(frames, half, overlap):
    """A mask that repeats its segment comes back: weights sum to one wherever segments meet."""
    overlap = min(overlap, half)
    sizes = {"segment_frames": 2 * half, "overlap_frames": overlap}
    x = noise(frames, 2, frames, 3)
    segments = SegmentLayer(**sizes)(x)
    count = segment_count(frames, 2 * half, overlap)
    assert segments.shape == (2 * count, 3, 2 * half, 1)
    joined = CrossFadeLayer(n_frames=frames, **sizes)(segments)
    np.testing.assert_allclose(joined, x, atol=1e-6)


def test_streaming_cross_fade_equals_the_whole():
    sizes = {"segment_frames": 8, "overlap_frames": 3}
    masks = np.abs(noise(8, 6, 4, 8, 1))
    whole = np.asarray(CrossFadeLayer(n_frames=6 * 5 + 3, **sizes)(masks))
    layer, state, parts = StreamingCrossFadeLayer(**sizes), np.zeros((1, 3, 4), np.float32), []
    for mask in masks:
        part, state = layer([mask[None], state])
        parts.append(np.asarray(part))
    joined = np.concatenate(parts, axis=1)
    # The whole gives the first segment full weight at once, the stream fades it in from silence.
    np.testing.assert_allclose(joined[:, 3:], whole[:, 3:30], atol=1e-6)


def test_streaming_inverse_equals_the_whole():
    config = StftConfig(n_fft=64, hop_length=24, center=False)
    spectrum = stft(noise(9, 1, 64 + 24 * 29), config)
    expected = istft(spectrum, config)
    layer = StreamingIstftLayer(config)
    state, parts = np.zeros((1, layer.state_samples(config)), np.float32), []
    for start in range(0, 30, 6):
        part, state = layer([*as_parts(spectrum[..., start : start + 6]), state])
        parts.append(np.asarray(part))
    joined = np.concatenate(parts, axis=1)
    inner = slice(64, 24 * 29)  # away from the edges, which a stream does not have
    np.testing.assert_allclose(joined[:, inner], expected[:, inner], atol=1e-6)


def test_extended_mask_continues_the_mean_of_its_top():
    mask = np.arange(10, dtype=np.float32).reshape(1, 2, 5)
    got = np.asarray(ExtendMaskLayer(n_bins=7, top=2)(mask))
    np.testing.assert_array_equal(got[0, :, 5:], [[3.5, 3.5], [8.5, 8.5]])
    np.testing.assert_array_equal(got[..., :5], mask)


@pytest.mark.parametrize(
    "layer",
    [
        StftLayer(CONFIGS["hamming"], scale=0.5),
        MagnitudeLayer(power=True),
        IstftLayer(CONFIGS["hamming"], length=77, scale=0.25),
        MelLayer(StftConfig(), n_mels=12, fmin=20.0, mel_scale="htk", mel_norm=None),
        LogLayer(offset=0.0, floor=1e-4, scale=2.0),
        SegmentLayer(segment_frames=8, overlap_frames=2),
        CrossFadeLayer(n_frames=20, segment_frames=8, overlap_frames=2),
        StreamingCrossFadeLayer(segment_frames=8, overlap_frames=2),
        LevelLayer(kind="minmax", axis="time"),
        ExtendMaskLayer(n_bins=513, top=93),
        StreamingIstftLayer(StftConfig(), scale=0.25),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_survive_serialisation(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def test_a_saved_model_computes_the_same(tmp_path):
    model = analysis_and_synthesis(StftConfig(n_fft=128, hop_length=32), 2000)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = noise(10, 1, 2000)
    np.testing.assert_array_equal(again(x)["y"], model(x)["y"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StftLayer(StftConfig())(np.zeros((1, 5, 2), np.float32)), "fixed number"),
        (lambda: StftLayer(StftConfig())(keras.Input((None,))), "fixed number"),
        (
            lambda: StftLayer(CONFIGS["not centred"])(np.zeros((1, 255), np.float32)),
            "at least 256 samples. Received: 255",
        ),
        (lambda: IstftLayer(StftConfig(), length=0), "length=0"),
        (lambda: IstftLayer(StftConfig(), length=9)(as_parts(np.zeros((1, 512, 3)))), "513"),
        (lambda: MelLayer(StftConfig(), fmax=6000.0), "<= 5512.5 Hz. Received.*fmax=6000"),
        (lambda: MelLayer(StftConfig(), mel_scale="bark"), "mel_scale='bark'"),
        (lambda: LogLayer(offset=0.0), "not both 0"),
        (lambda: LevelLayer(kind="robust"), "kind='robust'"),
        (lambda: LevelLayer(axis="channels"), "axis='channels'"),
        (lambda: SegmentLayer(segment_frames=8, overlap_frames=5), "0..4"),
    ],
)
def test_errors_are_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
