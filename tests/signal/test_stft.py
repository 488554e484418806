"""STFT: against librosa, against itself backwards, and block by block."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import librosa
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfspec.errors import AudioError, ConfigError
from tfspec.signal.stft import (
    StftConfig,
    analysis_window,
    drop_nyquist,
    istft,
    restore_nyquist,
    stft,
)
from tfspec.signal.stft_graph import (
    drop_nyquist_graph,
    istft_graph,
    restore_nyquist_graph,
    stft_graph,
)
from tfspec.signal.streaming_stft import StreamingIstft, StreamingStft

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
# float32 rounding through two transforms of 1024 points stays near 1e-6; 1e-4 is the promise.
LIBROSA_TOLERANCE = 1e-4
CONFIGS = [
    StftConfig(),
    StftConfig(hop_length=171, win_length=800),
    StftConfig(n_fft=512, hop_length=100, win_length=301, window="hamming"),
    StftConfig(n_fft=256, hop_length=64, window="blackman", center=False),
    StftConfig().scaled(4),
]


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def signals(n: int = 9001) -> dict[str, np.ndarray]:
    time = np.arange(n) / 11025
    impulse = np.zeros(n)
    impulse[n // 3] = 1.0
    named = {
        "noise": noise(0, n),
        "sine": np.sin(2 * np.pi * 440 * time),
        "chirp": scipy.signal.chirp(time, 20, time[-1], 5500),
        "impulse": impulse,
        "zeros": np.zeros(n),
    }
    return {name: signal.astype(np.float32) for name, signal in named.items()}


def relative_error(value: np.ndarray, reference: np.ndarray) -> float:
    peak = np.max(np.abs(reference), initial=0.0)
    error = np.max(np.abs(value - reference), initial=0.0)
    return float(error / peak) if peak > 0 else float(error)


def snr_db(value: np.ndarray, reference: np.ndarray) -> float:
    error = np.sum(np.square(value.astype(np.float64) - reference))
    return float(10 * np.log10(np.sum(np.square(reference, dtype=np.float64)) / max(error, 1e-300)))


def librosa_arguments(config: StftConfig) -> dict:
    return {
        "n_fft": config.n_fft,
        "hop_length": config.hop_length,
        "win_length": config.win_length,
        "window": config.window,
        "center": config.center,
    }


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", ["noise", "sine", "chirp", "impulse", "zeros"])
def test_forward_agrees_with_librosa(config: StftConfig, name: str) -> None:
    waveform = signals()[name]
    reference = librosa.stft(waveform, **librosa_arguments(config))
    result = stft(waveform, config)
    graph = stft_graph(tf.constant(waveform), config).numpy()
    assert result.dtype == graph.dtype == np.complex64
    assert result.shape == graph.shape == reference.shape
    assert result.shape == (config.n_bins, config.frames(len(waveform)))
    assert relative_error(result, reference) < LIBROSA_TOLERANCE
    assert relative_error(graph, reference) < LIBROSA_TOLERANCE


@pytest.mark.parametrize("config", [config for config in CONFIGS if config.center])
@pytest.mark.parametrize("name", ["noise", "sine", "chirp", "impulse", "zeros"])
@pytest.mark.parametrize("length", [None, 9001, 5000])
def test_inverse_agrees_with_librosa(config: StftConfig, name: str, length: int | None) -> None:
    spectrogram = librosa.stft(signals()[name], **librosa_arguments(config))
    # A mask makes the spectrogram inconsistent, as a separated one is.
    spectrogram = spectrogram * noise(3, *spectrogram.shape) ** 2
    reference = librosa.istft(
        spectrogram,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        window=config.window,
        length=length,
    )
    result = istft(spectrogram, config, length=length)
    graph = istft_graph(tf.constant(spectrogram), config, length=length).numpy()
    assert result.dtype == graph.dtype == np.float32
    assert result.shape == graph.shape == reference.shape
    assert relative_error(result, reference) < LIBROSA_TOLERANCE
    assert relative_error(graph, reference) < LIBROSA_TOLERANCE


def test_uncentred_inverse_agrees_with_librosa_where_windows_overlap() -> None:
    config = CONFIGS[3]
    spectrogram = stft(noise(1, 5000), config)
    reference = librosa.istft(
        spectrogram, n_fft=256, hop_length=64, window="blackman", center=False, length=5000
    )
    inner = slice(256, config.samples_for(spectrogram.shape[1]) - 256)
    result = istft(spectrogram, config, length=5000)
    graph = istft_graph(tf.constant(spectrogram), config, length=5000).numpy()
    assert relative_error(result[inner], reference[inner]) < LIBROSA_TOLERANCE
    assert relative_error(graph[inner], reference[inner]) < LIBROSA_TOLERANCE


@QUICK
@given(
    length=st.integers(1, 6000),
    n_fft=st.sampled_from([64, 256, 1000, 1024]),
    overlap=st.floats(2.0, 9.0),
    factor=st.sampled_from([1, 4]),
    seed=st.integers(0, 2**16),
)
def test_round_trip_has_100_db_snr(
    length: int, n_fft: int, overlap: float, factor: int, seed: int
) -> None:
    hop = int(n_fft / overlap) - (1 - int(n_fft / overlap) % 2)  # odd hops
    config = StftConfig(n_fft=n_fft, hop_length=max(1, hop)).scaled(factor)
    waveform = noise(seed, length)
    spectrogram = stft(waveform, config)
    result = istft(spectrogram, config, length=length)
    graph = istft_graph(stft_graph(waveform, config), config, length=length).numpy()
    assert result.shape == graph.shape == (length,)
    # After the last frame's centre fewer windows overlap: that hop is the edge.
    inner = slice(0, config.samples_for(spectrogram.shape[-1]))
    assert inner.stop > length - config.hop_length
    if inner.stop > 0:
        assert snr_db(result[inner], waveform[inner]) >= 100
        assert snr_db(graph[inner], waveform[inner]) >= 100


@pytest.mark.parametrize("length", [1, 255, 256, 257, 1023, 11025, 32513])
@pytest.mark.parametrize("factor", [1, 4])
def test_papers_setting_is_exact_up_to_the_last_sample(length: int, factor: int) -> None:
    config = StftConfig().scaled(factor)
    waveform = noise(length, length)
    assert snr_db(istft(stft(waveform, config), config, length=length), waveform) >= 100


def test_stereo_and_batches_are_transformed_along_the_last_axis() -> None:
    config, waveform = StftConfig(), noise(2, 3, 2, 3000)
    spectrogram = stft(waveform, config)
    assert spectrogram.shape == (3, 2, 513, 12)
    np.testing.assert_array_equal(spectrogram[1, 1], stft(waveform[1, 1], config))
    restored = istft(spectrogram, config, length=3000)
    assert restored.shape == waveform.shape
    graph = istft_graph(stft_graph(waveform, config), config, length=3000).numpy()
    np.testing.assert_allclose(graph, waveform, atol=1e-5)
    np.testing.assert_allclose(restored, waveform, atol=1e-5)


def test_long_signals_are_transformed_in_blocks_with_the_same_result() -> None:
    config, waveform = StftConfig(n_fft=64, hop_length=16), noise(4, 100_000)  # 6251 frames
    reference = librosa.stft(waveform, n_fft=64, hop_length=16)
    assert relative_error(stft(waveform, config), reference) < LIBROSA_TOLERANCE
    assert snr_db(istft(stft(waveform, config), config, length=100_000), waveform) >= 100


def test_length_beyond_the_frames_is_zero() -> None:
    config = StftConfig()
    spectrogram = stft(noise(5, 2048), config)
    for result in (
        istft(spectrogram, config, length=9000),
        istft_graph(spectrogram, config, length=9000).numpy(),
    ):
        assert result.shape == (9000,)
        assert np.all(np.isfinite(result))
        assert not np.any(result[2048 + 512 :])
    assert istft(spectrogram, config, length=0).shape == (0,)
    assert istft(spectrogram[:, :0], config, length=10).tolist() == [0.0] * 10
    assert istft_graph(spectrogram[:, :0], config, length=10).numpy().tolist() == [0.0] * 10


def test_nyquist_is_restored_exactly_or_costs_exactly_its_energy() -> None:
    config, waveform = StftConfig(), noise(6, 8192)
    spectrogram = stft(waveform, config)
    model_input = drop_nyquist(spectrogram)
    assert model_input.shape[0] == config.n_model_bins == 512
    exact = restore_nyquist(model_input, spectrogram[-1:])
    np.testing.assert_array_equal(exact, spectrogram)
    assert snr_db(istft(exact, config, length=8192), waveform) >= 100
    zeroed = restore_nyquist(model_input)
    assert zeroed.shape == spectrogram.shape and not np.any(zeroed[-1])
    # By linearity the loss is the inverse of the Nyquist row alone, and nothing else.
    only_nyquist = spectrogram - zeroed
    loss = waveform - istft(zeroed, config, length=8192)
    expected = istft(only_nyquist, config, length=8192)
    np.testing.assert_allclose(loss, expected, atol=1e-5)
    assert np.sum(loss**2) == pytest.approx(np.sum(expected**2), rel=1e-3)
    lost = np.sum(np.abs(spectrogram) ** 2) - np.sum(np.abs(zeroed) ** 2)
    assert lost == pytest.approx(np.sum(np.abs(spectrogram[-1]) ** 2), rel=1e-2)


def test_loss_of_a_nyquist_tone_has_the_tones_energy() -> None:
    config = StftConfig()
    tone = (0.25 * (-1.0) ** np.arange(8192)).astype(np.float32)
    spectrogram = stft(tone, config)
    loss = tone - istft(restore_nyquist(drop_nyquist(spectrogram)), config, length=8192)
    inner = slice(1024, -1024)
    # The periodic Hann window puts the tone's amplitude times sum(w) = n_fft / 2 into the Nyquist
    # bin; its inverse is tone / 2, constant over the overlap: sum(w) / sum(w^2) / 2 = 2 / 3.
    np.testing.assert_allclose(loss[inner], tone[inner] * 2 / 3, atol=1e-6)


def test_graph_nyquist_forms_equal_numpy_on_both_layouts() -> None:
    spectrogram = stft(noise(7, 2, 3000), StftConfig())
    np.testing.assert_array_equal(drop_nyquist_graph(spectrogram), drop_nyquist(spectrogram))
    model = np.abs(spectrogram).transpose(1, 2, 0)[None]
    dropped = drop_nyquist(model, axis=-3)
    assert dropped.shape == (1, 512, 12, 2)
    np.testing.assert_array_equal(drop_nyquist_graph(model, axis=-3), dropped)
    for nyquist in (None, model[:, -1:]):
        np.testing.assert_array_equal(
            restore_nyquist_graph(dropped, nyquist, axis=-3),
            restore_nyquist(dropped, nyquist, axis=-3),
        )
    with pytest.raises(AudioError, match=r"`nyquist` must have the shape \(1, 1, 12, 2\)"):
        restore_nyquist(dropped, model[:, 0], axis=-3)
    with pytest.raises(AudioError, match=r"`nyquist` must have the shape \(1, 1, 12, 2\)"):
        restore_nyquist_graph(dropped, model[:, :2], axis=-3)


def test_graph_versions_run_in_tf_data_with_unknown_lengths() -> None:
    config = StftConfig()
    lengths = [1, 700, 5001]
    waveforms = [noise(n, n) for n in lengths]

    def round_trip(waveform: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        spectrogram = stft_graph(waveform, config)
        restored = restore_nyquist_graph(drop_nyquist_graph(spectrogram), spectrogram[-1:])
        return spectrogram, istft_graph(restored, config, length=tf.shape(waveform)[0])

    dataset = tf.data.Dataset.from_generator(
        lambda: iter(waveforms), output_signature=tf.TensorSpec([None], tf.float32)
    )
    results = list(dataset.map(round_trip))
    assert len(results) == 3
    for waveform, (spectrogram, restored) in zip(waveforms, results, strict=True):
        np.testing.assert_allclose(spectrogram, stft(waveform, config), atol=1e-4)
        np.testing.assert_allclose(restored, waveform, atol=1e-5)


def stream_forward(waveform: np.ndarray, config: StftConfig, cuts: list[int]) -> np.ndarray:
    stream = StreamingStft(config, waveform.shape[1])
    blocks = np.split(waveform, cuts)
    return np.concatenate(
        [stream.process(block, last=i == len(blocks) - 1) for i, block in enumerate(blocks)], axis=2
    )


@QUICK
@given(data=st.data(), config=st.sampled_from([*CONFIGS[:4], StftConfig(n_fft=64, hop_length=63)]))
def test_streaming_equals_whole_signal(data: st.DataObject, config: StftConfig) -> None:
    n = data.draw(st.integers(0, 4000))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=6)))
    waveform = noise(n, n, 2)
    whole = stft(waveform.T, config)
    streamed = stream_forward(waveform, config, cuts)
    assert streamed.shape == whole.shape == (2, config.n_bins, config.frames(n))
    np.testing.assert_allclose(streamed, whole, atol=1e-4)  # float32 rounding of sums near 100

    length = data.draw(st.sampled_from([None, n, n + 3000]))
    early = data.draw(st.booleans())
    frame_cuts = sorted(data.draw(st.lists(st.integers(0, whole.shape[2]), max_size=6)))
    blocks = np.split(whole, frame_cuts, axis=2)
    stream, parts = StreamingIstft(config, 2), []
    for i, block in enumerate(blocks):
        last = i == len(blocks) - 1
        parts.append(stream.process(block, last=last, length=length if last or early else None))
    expected = istft(whole, config, length=length)
    result = np.concatenate(parts).T
    assert result.shape == expected.shape
    assert result.dtype == np.float32
    # Both round the same sums; where the window is near 0 the division magnifies the last bit.
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_streaming_latency_is_one_frame() -> None:
    config = StftConfig()
    stream = StreamingStft(config, 1)
    assert stream.process(noise(0, 511, 1)).shape == (1, 513, 0)
    assert stream.process(noise(0, 1, 1)).shape == (1, 513, 1)
    inverse = StreamingIstft(config, 1)
    frame = np.zeros((1, 513, 1), np.complex64)
    assert [len(inverse.process(frame)) for _ in range(4)] == [0, 0, 256, 256]


def test_streaming_rejects_wrong_blocks() -> None:
    stream = StreamingStft(StftConfig(), 2)
    with pytest.raises(AudioError, match=r"of shape \(samples, 2\). Received: float32 .*\(5, 1\)"):
        stream.process(noise(0, 5, 1))
    stream.process(noise(0, 5, 2), last=True)
    with pytest.raises(RuntimeError, match="has ended"):
        stream.process(noise(0, 5, 2))
    stream.reset()
    assert stream.process(noise(0, 5, 2), last=True).shape == (2, 513, 1)
    inverse = StreamingIstft(StftConfig(), 2)
    with pytest.raises(AudioError, match=r"must have the shape \(2, 513, frames\)"):
        inverse.process(np.zeros((1, 513, 4), np.complex64))
    inverse.process(np.zeros((2, 513, 10), np.complex64))
    with pytest.raises(ConfigError, match=r"at least the 2048 samples .* length=5"):
        inverse.process(np.zeros((2, 513, 0), np.complex64), last=True, length=5)
    with pytest.raises(ConfigError, match=r"`channels` must be a positive integer.*channels=0"):
        StreamingIstft(StftConfig(), 0)


def test_config_derives_sizes() -> None:
    config = StftConfig()
    assert (config.n_bins, config.n_model_bins, config.window_length) == (513, 512, 1024)
    assert config.bin_width == pytest.approx(10.7666, abs=1e-4)
    assert config.frame_period == pytest.approx(0.02322, abs=1e-5)
    assert config.frames(32512) == 128
    assert config.samples_for(128) == 32512  # papers.md 1.1
    assert StftConfig(drop_nyquist=False).n_model_bins == 513
    full = config.scaled(4)
    assert (full.sample_rate, full.n_fft, full.hop_length) == (44100, 4096, 1024)
    assert (full.bin_width, full.frame_period) == (config.bin_width, config.frame_period)
    assert StftConfig(win_length=400).scaled(2).win_length == 800
    assert full.frames(4 * 32512) == 128


@given(
    n=st.integers(0, 10**6),
    hop=st.integers(1, 256),
    center=st.booleans(),
    frames=st.integers(1, 99),
)
@QUICK
def test_frames_and_samples_for_agree(n: int, hop: int, center: bool, frames: int) -> None:
    config = StftConfig(n_fft=256, hop_length=hop, center=center)
    assert config.frames(config.samples_for(frames)) == frames
    if config.samples_for(frames):
        assert config.frames(config.samples_for(frames) - 1) == frames - 1
    assert config.samples_for(config.frames(n)) <= n or config.frames(n) == 0


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "boxcar"])
@pytest.mark.parametrize("length", [1, 2, 255, 256])
def test_windows_equal_scipy(name: str, length: int) -> None:
    config = StftConfig(n_fft=256, hop_length=1, win_length=length, window=name)
    expected = scipy.signal.get_window(name, length, fftbins=True)
    np.testing.assert_allclose(
        analysis_window(config), librosa.util.pad_center(expected, size=256), atol=1e-15
    )


def test_config_round_trips_through_json() -> None:
    for config in [*CONFIGS, StftConfig(drop_nyquist=False, sample_rate=1)]:
        assert StftConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert StftConfig(n_fft=np.int64(512), hop_length=np.int32(128)).to_dict()["n_fft"] == 512
    assert StftConfig.from_dict({}) == StftConfig()
    with pytest.raises(ConfigError, match=r"has the fields .*unknown \['n_ftt'\]"):
        StftConfig.from_dict({"n_ftt": 1024})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sample_rate": 0}, r"`sample_rate` must be a positive integer\. .*sample_rate=0"),
        ({"sample_rate": 11025.0}, r"`sample_rate` must be a positive .*sample_rate=11025\.0"),
        ({"n_fft": 1023}, r"`n_fft` must be even\. Received: n_fft=1023"),
        ({"n_fft": True}, r"`n_fft` must be a positive integer\. Received: n_fft=True"),
        ({"hop_length": None}, r"`hop_length` must be a positive .*hop_length=None"),
        ({"hop_length": 1025}, r"`hop_length` must be at most the window .*hop_length=1025"),
        ({"hop_length": 256, "win_length": 200}, r"at most the window length 200.*hop_length=256"),
        ({"win_length": 2048}, r"`win_length` must be at most n_fft=1024\. .*win_length=2048"),
        ({"win_length": -1}, r"`win_length` must be a positive integer.*win_length=-1"),
        ({"window": "han"}, r"`window` must be one of \['blackman', .*window='han'"),
        ({"window": ["hann"]}, r"`window` must be one of .*window=\['hann'\]"),
        ({"center": "no"}, r"`center` must be True or False\. Received: center='no'"),
    ],
)
def test_config_rejects(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        StftConfig(**values)
    assert "\n" not in str(error.value)


def test_bad_arrays_are_named() -> None:
    config = StftConfig()
    for function in (stft, stft_graph):
        with pytest.raises(AudioError, match=r"`waveform` must be floating point.*int16"):
            function(np.zeros(10, np.int16), config)
    for inverse in (istft, istft_graph):
        with pytest.raises(AudioError, match=r"\(\.\.\., 513, frames\); restore.*\(512, 4\)"):
            inverse(np.zeros((512, 4), np.complex64), config)
        with pytest.raises(AudioError, match=r"must be complex .*float32 of shape \(513, 4\)"):
            inverse(np.zeros((513, 4), np.float32), config)
    with pytest.raises(ConfigError, match=r"`length` must not be negative.*length=-1"):
        istft(np.zeros((513, 4), np.complex64), config, length=-1)
    with pytest.raises(ConfigError, match="`n_samples` must not be negative"):
        config.frames(-1)
    with pytest.raises(ConfigError, match="`n_frames` must not be negative"):
        config.samples_for(-1)
    with pytest.raises(ConfigError, match=r"`factor` must be a positive integer.*factor=0"):
        config.scaled(0)


def test_numpy_modules_do_not_import_tensorflow() -> None:
    code = (
        "import sys, tfspec.signal.stft, tfspec.signal.streaming_stft;"
        "sys.exit('tensorflow' in sys.modules or 'librosa' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
