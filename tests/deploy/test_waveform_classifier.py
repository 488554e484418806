"""A classifier with its front end inside, from Keras layers to what Android's audio tasks read."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers, ops

from tfspec.deploy.audio_metadata import read_audio_metadata
from tfspec.deploy.export import export
from tfspec.deploy.runner import TfliteModel
from tfspec.errors import ExportError
from tfspec.signal.layers import LogLayer, MagnitudeLayer, MelLayer, StftLayer, fp16_scale
from tfspec.signal.layers_streaming import LevelLayer
from tfspec.signal.stft import StftConfig

STFT = StftConfig(sample_rate=8000, n_fft=256, hop_length=128)
LABELS = ["low", "middle", "high"]
SAMPLES = 4000


def tones(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Half a second of noise with a tone in one of three octaves, loud and quiet."""
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLES) / STFT.sample_rate
    classes = rng.integers(0, 3, count)
    pitch = np.array([300.0, 900.0, 2700.0])[classes] * rng.uniform(0.9, 1.1, count)
    gain = 10 ** (rng.uniform(-30, -6, (count, 1)) / 20)
    sound = np.sin(2 * np.pi * pitch[:, None] * time + rng.uniform(0, 6, (count, 1)))
    noise = 0.1 * rng.standard_normal((count, SAMPLES))
    return (gain * (sound + noise)).astype(np.float32), classes


def log_mel(waveform):
    scale = fp16_scale(STFT)
    power = MagnitudeLayer(power=True, name="power")(StftLayer(STFT, scale=scale)(waveform))
    return LogLayer(offset=1e-6, scale=scale**2)(MelLayer(STFT, n_mels=20)(power))


def filter_bank(waveform):
    """As speech toolkits do: 25 ms without padding, HTK's mel scale, peaks of 1, a floor."""
    config = StftConfig(
        sample_rate=8000, n_fft=256, win_length=200, hop_length=80, window="hamming", center=False
    )
    scale = fp16_scale(config)
    power = MagnitudeLayer(power=True)(StftLayer(config, scale=scale)(waveform))
    mel = MelLayer(config, n_mels=20, fmin=20.0, mel_scale="htk", mel_norm=None)(power)
    return LogLayer(offset=0.0, floor=1e-6, scale=scale**2)(mel)


def scaled_stft(waveform):
    """The input of this package's spectrogram models: magnitudes over their maximum."""
    magnitude = MagnitudeLayer()(StftLayer(STFT, scale=fp16_scale(STFT))(waveform))
    scaled = LevelLayer()(ops.expand_dims(ops.transpose(magnitude, (0, 2, 1)), -1))
    return ops.transpose(ops.sqrt(scaled)[..., 0], (0, 2, 1))


def trained(front_end) -> keras.Model:
    keras.utils.set_random_seed(0)
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = layers.BatchNormalization()(front_end(waveform))
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(waveform, layers.Dense(3, activation="softmax", name="scores")(x))
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    model.fit(*tones(256, seed=1), epochs=6, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    return trained(log_mel)


@pytest.fixture(scope="module")
def options():
    return {
        "front_end": {"task": "classification", "sample_rate": 8000},
        "calibration": tones(24, seed=2)[0],
        "held_out": tones(8, seed=3)[0],
        "labels": LABELS,
        "audio_sample_rate": 8000,
        "provenance": {"licence": "CC0-1.0"},
    }


@pytest.mark.slow
def test_samples_in_scores_out(classifier, options, tmp_path):
    report = export(
        classifier, tmp_path / "out", target="android", precisions=["float32", "float16"], **options
    )
    sounds, classes = tones(32, seed=4)
    for path in report.files.values():
        content = path.read_bytes()
        metadata = read_audio_metadata(content)
        assert metadata["sample_rate"] == 8000 and metadata["channels"] == 1
        assert metadata["labels"] == LABELS
        interpreter = Interpreter(model_content=content)
        (feed,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
        assert list(feed["shape"]) == [1, SAMPLES] and feed["dtype"] == np.float32
        assert list(end["shape"]) == [1, 3] and end["dtype"] == np.float32
        model = TfliteModel(path)
        assert model.metadata["labels"] == LABELS
        # Three octaves apart: whoever hears nothing is right in a third of the cases.
        assert np.mean(model(sounds).argmax(-1) == classes) > 0.9
    page = (report.folder / "CARD.md").read_text(encoding="utf-8")
    assert "feed 4,000 samples (0.50 s) at 8,000 Hz" in page and "low, middle, high" in page


@pytest.mark.slow
@pytest.mark.parametrize("front_end", [filter_bank, scaled_stft])
def test_other_front_ends_go_the_same_way(front_end, options, tmp_path):
    model = trained(front_end)
    report = export(model, tmp_path / "out", target="android", precisions=["float16"], **options)
    sounds, classes = tones(32, seed=4)
    scores = TfliteModel(report.files["float16"])(sounds)
    # float16 keeps the weights to 5e-4, the scores of three classes to 1e-2.
    np.testing.assert_allclose(scores, model(sounds), atol=0.01)
    assert np.mean(scores.argmax(-1) == classes) > 0.9


@pytest.mark.slow
def test_labels_must_fit_the_scores(classifier, options, tmp_path):
    with pytest.raises(ExportError, match="label"):
        export(
            classifier,
            tmp_path / "out",
            precisions=["float32"],
            **{**options, "labels": ["low", "high"]},
        )
    assert list(tmp_path.iterdir()) == []
