"""Samples in, label map out: front end, scaling, network and arg max in one exported graph."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import layers, ops

from tests.separation.waveform_support import run_tflite, to_tflite
from tfspec.deploy.export import export
from tfspec.deploy.label_map import LabelMapLayer, label_map_layer
from tfspec.deploy.runner import TfliteModel
from tfspec.deploy.vectors import check_vectors
from tfspec.errors import ConfigError, ExportError
from tfspec.signal.layers import MagnitudeLayer, StftLayer, fp16_scale
from tfspec.signal.layers_streaming import LevelLayer
from tfspec.signal.stft import StftConfig

RUNNER = Path(__file__).resolve().parents[2] / "tflite" / "arm" / "run_classifier.py"
STFT = StftConfig(sample_rate=8000, n_fft=128, hop_length=64)
SAMPLES, BINS, FRAMES = 63 * 64, 64, 64
LABELS = ["floor", "rise", "tone"]
# A bin changes its label when its two best classes tie within the rounding of two programs.
EQUAL = 0.999


def sounds(count: int, seed: int) -> np.ndarray:
    """Chirps and tones in noise, loud and quiet; `(count, SAMPLES)` in [-1, 1]."""
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLES) / STFT.sample_rate
    made = []
    for _ in range(count):
        low, high = np.sort(rng.uniform(200, 3600, 2))
        sweep = np.sin(2 * np.pi * (low * time + (high - low) * time**2 / (2 * time[-1])))
        tone = np.sin(2 * np.pi * rng.uniform(200, 3600) * time)
        mix = sweep + rng.uniform(0.3, 1) * tone + 0.03 * rng.standard_normal(SAMPLES)
        made.append(10 ** (rng.uniform(-40, -10) / 20) * mix)
    return np.stack(made).astype(np.float32)


def segmenter(network: keras.Model) -> keras.Model:
    """A network `(1, frequency, time, 1) -> (1, frequency, time, classes)` with both its ends."""
    waveform = keras.Input((SAMPLES,), name="waveform")
    spectrum = StftLayer(STFT, scale=fp16_scale(STFT), name="stft")(waveform)
    magnitude = MagnitudeLayer(name="magnitude")(spectrum)[..., :BINS]
    image = ops.expand_dims(ops.transpose(magnitude, (0, 2, 1)), -1)
    scaled = LevelLayer(name="level")(image)
    return keras.Model(waveform, LabelMapLayer(name="labels")(network(scaled)), name="segmenter")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Random convolutions whose scores are brought to one level, so that every class occurs."""
    keras.utils.set_random_seed(1)
    image = keras.Input((BINS, FRAMES, 1))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(ops.sqrt(image))
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(8, 2, strides=2, activation="relu")(x)
    scores = layers.BatchNormalization(momentum=0.0, name="scores")(layers.Conv2D(3, 1)(x))
    network = keras.Model(image, layers.Softmax()(scores), name="network")
    whole = segmenter(network)
    whole(sounds(16, seed=1), training=True)  # the normalisation takes over this batch
    return whole


@given(
    scores=hnp.arrays(
        np.float32,
        st.tuples(*[st.integers(1, 4)] * 3, st.integers(2, 6)),
        elements=st.integers(-2, 2),
    )
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_layer_gives_the_first_of_the_largest(scores):
    got = np.asarray(LabelMapLayer()(scores))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.argmax(scores, axis=-1))


def test_layer_knows_its_classes_and_survives_saving(model, tmp_path):
    assert label_map_layer(model).classes == 3
    assert label_map_layer(keras.Model(model.inputs, model(model.inputs[0]))).classes == 3
    assert label_map_layer(model.get_layer("network")) is None
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = sounds(2, seed=5)
    np.testing.assert_array_equal(again(x), model(x))
    assert again.output_shape == (None, BINS, FRAMES)


@pytest.mark.parametrize("shape", [(3, 1), (3, None), (4,)])
def test_layer_refuses_what_leaves_no_choice(shape):
    with pytest.raises(ConfigError, match=r"layer labels takes \(batch, \.\.\., classes\) of two"):
        LabelMapLayer(name="labels").build(shape)


ON_JAX = """
import keras, numpy as np, sys
from tfspec.deploy.label_map import LabelMapLayer
assert keras.backend.backend() == "jax"
np.save(sys.argv[2], keras.ops.convert_to_numpy(LabelMapLayer()(np.load(sys.argv[1]))))
"""


@pytest.mark.slow
def test_layer_gives_the_same_on_jax(tmp_path, rng):
    pytest.importorskip("jax", reason="the jax extra is not installed")
    scores = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
    np.save(tmp_path / "in.npy", scores)
    subprocess.run(
        [sys.executable, "-c", ON_JAX, tmp_path / "in.npy", tmp_path / "out.npy"],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        check=True,
    )
    got = np.load(tmp_path / "out.npy")
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, scores.argmax(-1))


def levels_of(x: np.ndarray) -> np.ndarray:
    """Square roots of scaled magnitudes by NumPy's FFT, `(count, BINS, FRAMES)`."""
    padded = np.pad(x.astype(np.float64), [(0, 0), (64, 64)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(128) / 128)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 128, axis=1)[:, ::64]
    magnitude = np.abs(np.fft.rfft(frames * window)).swapaxes(1, 2)[:, :BINS]
    return np.sqrt(magnitude / magnitude.max(axis=(1, 2), keepdims=True))


def test_map_is_that_of_numpy_and_lies_the_right_way():
    """Scores 0, x - 0.1 and 2 x - 0.4: the largest one tells on which side of 0.1 and 0.3 x is."""
    image = keras.Input((BINS, FRAMES, 1))
    scores = layers.Conv2D(3, 1, name="scores")
    network = keras.Model(image, scores(ops.sqrt(image)))
    scores.set_weights([np.array([[[[0.0, 1.0, 2.0]]]]), np.array([0.0, -0.1, -0.4])])
    x = sounds(3, seed=6)
    expected = np.digitize(levels_of(x), [0.1, 0.3])
    assert np.bincount(expected.ravel()).min() > 0.02 * expected.size
    whole = segmenter(network)
    content = to_tflite(keras.Model(whole.inputs, whole.outputs))
    for got in (np.asarray(whole(x)), np.concatenate([run_tflite_map(content, r) for r in x])):
        assert got.shape == (3, BINS, FRAMES)
        # Float32 rounding of x: 1e-6 on either side of two thresholds.
        assert np.mean(got == expected) > EQUAL
    assert np.mean(expected == expected[:, ::-1]) < 0.9  # upside down would be noticed


def run_tflite_map(content: bytes, samples: np.ndarray) -> np.ndarray:
    (result,) = run_tflite(content, waveform=samples[None]).values()
    return result


@pytest.fixture(scope="module")
def options():
    return {
        "front_end": {"task": "segmentation", "stft": STFT.to_dict()},
        "calibration": sounds(20, seed=2),
        "held_out": sounds(8, seed=3),
        "labels": LABELS,
        "provenance": {"licence": "CC0-1.0"},
    }


@pytest.fixture(scope="module")
def exported(model, options, tmp_path_factory):
    precisions = ["float32", "float16", "dynamic_range"]
    folder = tmp_path_factory.mktemp("labels") / "out"
    return export(model, folder, target="android", precisions=precisions, **options)


@pytest.mark.slow
def test_files_hold_builtin_operators_and_end_in_float(exported):
    """What LiteRT itself reads in the files, without tfspec's reader."""
    for path in exported.files.values():
        content = path.read_bytes()
        interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        names = [op["op_name"] for op in interpreter._get_ops_details()]
        assert names[-2:] == ["ARG_MAX", "CAST"]
        assert not any("Flex" in name or "CUSTOM" in name for name in names)
        (feed,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
        assert list(feed["shape"]) == [1, SAMPLES] and feed["dtype"] == np.float32
        assert list(end["shape"]) == [1, BINS, FRAMES] and end["dtype"] == np.float32
        # Android's audio tasks know scores only: neither their metadata nor a label file.
        assert b"TFLITE_METADATA" not in content and not zipfile.is_zipfile(io.BytesIO(content))
        assert b'"labels": ["floor", "rise", "tone"]' in content


@pytest.mark.slow
def test_files_give_the_map_of_keras(exported, model):
    x = sounds(6, seed=4)
    expected = np.asarray(model(x))
    assert np.bincount(expected.astype(int).ravel(), minlength=3).min() > 0.05 * expected.size
    for precision, path in exported.files.items():
        got = TfliteModel(path)(x)
        assert set(np.unique(got)) <= {0.0, 1.0, 2.0}
        # 1, 0.9996 and 0.997 were measured, the worst that random weights can do.
        bound = {"float32": EQUAL, "float16": 0.998, "dynamic_range": 0.97}[precision]
        assert np.mean(got == expected) >= bound


@pytest.mark.slow
def test_proof_and_card_speak_of_labels(exported):
    proof = exported.verification
    assert proof["kind"] == "labels"
    names = {check["name"] for check in proof["checks"]}
    assert names == {"graph", "classes in Keras's label map", "equal labels"}
    for entry in exported.card["files"].values():
        assert 0.97 <= entry["agreement"] <= 1 and entry["snr_db"] is None
    page = (exported.folder / "CARD.md").read_text(encoding="utf-8")
    for text in (
        "Assigns a class to every time-frequency bin",
        "feed 4,032 samples (0.50 s) at 8,000 Hz",
        "0 is floor; 1 is rise; 2 is tone",
        "Row `b` lies at `62.5000 b` Hz, `b = 0 .. 63`",
        "Column `i` is centred at `0.008 i` seconds, `i = 0 .. 63`",
        "Same class",
    ):
        assert text in page, text
    assert "SNR" not in page and "Inverse transform" not in page


@pytest.mark.slow
def test_vectors_allow_ties_and_nothing_else(exported):
    for precision, path in exported.files.items():
        folder = exported.folder / "vectors" / precision
        model = TfliteModel(path)
        assert check_vectors(folder, model) == []
        index = json.loads((folder / "index.json").read_text())
        assert index["tolerance"]["equal"] == (0.999 if precision == "float32" else 0.97)
        problems = check_vectors(folder, lambda x, model=model: model(x)[:, ::-1])
        assert len(problems) == 2 and "of the labels (at least" in problems[0]


@pytest.mark.slow
def test_arm_runner_prints_and_saves_the_map_of_keras(exported, model, tmp_path):
    x = np.concatenate(sounds(3, seed=7))[: int(2.5 * SAMPLES)]
    soundfile.write(tmp_path / "a.wav", x, STFT.sample_rate, subtype="PCM_24")
    command = [sys.executable, RUNNER, exported.files["float32"], tmp_path / "a.wav"]
    result = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "map.npy")], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    got = np.load(tmp_path / "map.npy")
    stored = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    windows = np.pad(stored, (0, 3 * SAMPLES - len(stored))).reshape(3, SAMPLES)
    assert got.shape == (3, BINS, FRAMES)
    assert np.mean(got == np.asarray(model(windows))) >= EQUAL
    for number, label in enumerate(LABELS):
        assert f"{100 * np.mean(got == number):6.2f} %  {label}" in result.stdout


def test_what_makes_no_sense_is_refused_before_the_work(model, options, tmp_path):
    for change, message in (
        (
            {"precisions": ["float32", "int8"]},
            "float precisions only; for int8 leave the label map",
        ),
        ({"target": "cortex-m7"}, "float precisions only; for full_int8 leave"),
        ({"audio_sample_rate": 8000}, "`audio_sample_rate` is for class scores"),
        ({"weight": np.square}, "`weight` is for masks"),
        ({"labels": LABELS[:2]}, r"`labels` must be 3 names.*Received: \['floor', 'rise'\]"),
    ):
        with pytest.raises(ExportError, match=message) as caught:
            export(model, tmp_path / "out", **{**options, **change})
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
