"""Running described files: what comes out, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tfspec.deploy.convert import PRECISIONS
from tfspec.deploy.inspect import inspect_tflite
from tfspec.deploy.metadata import embed_metadata, read_metadata
from tfspec.deploy.runner import TfliteModel, latency_ms
from tfspec.errors import ModelError


@pytest.fixture
def file(described, tmp_path):
    def write(precision: str = "float32", content: bytes | None = None):
        path = tmp_path / f"model_{precision}.tflite"
        path.write_bytes(described[precision] if content is None else content)
        return path

    return write


@pytest.mark.parametrize("precision", PRECISIONS)
def test_runs_batches_in_every_precision(file, unet, held_out, precision, front_end):
    model = TfliteModel(file(precision), num_threads=1)
    assert model.input_shape == model.output_shape == (1, 64, 32, 1)
    assert model.metadata == {"front_end": front_end}
    assert (model.input_name, model.output_name) == ("spectrogram", "mask")
    got = model(held_out)
    assert got.shape == held_out.shape and got.dtype == np.float32
    # A sigmoid's int8 step is 1/256; the network in front adds a few steps (measured 4).
    expected = np.asarray(unet(held_out, training=False))
    np.testing.assert_allclose(
        got, expected, atol=5e-3 if precision.startswith("float") else 10 / 256
    )
    assert np.sqrt(np.mean((got - expected) ** 2)) < 2 / 256


def test_integer_input_beyond_the_range_saturates(file, held_out):
    model = TfliteModel(file("full_int8"))
    np.testing.assert_array_equal(model(held_out[:1] * 0 + 1e6), model(held_out[:1] * 0 + 1e5))


def test_metadata_survive_a_round_trip_and_change_nothing_else(converted, held_out, file):
    description = {"front_end": {"labels": ["Gesang", "Übung"], "rate": 11025}, "n": [1, 2.5, None]}
    content = embed_metadata(converted["int8"], {"old": True})
    content = embed_metadata(content, description)
    assert read_metadata(content) == description
    assert read_metadata(file("int8", content)) == description
    before, after = inspect_tflite(converted["int8"]), inspect_tflite(content)
    assert (before.ops, before.inputs, before.min_runtime_version) == (
        after.ops,
        after.inputs,
        after.min_runtime_version,
    )
    assert after.external_buffers == 0
    assert embed_metadata(converted["int8"], description) == embed_metadata(
        converted["int8"], dict(reversed(description.items()))
    )


def test_batch_of_another_shape_is_refused(file, held_out):
    model = TfliteModel(file())
    for batch in (held_out[0], held_out[:, :32], held_out[..., 0]):
        with pytest.raises(ModelError, match=r"expects segments of shape \(64, 32, 1\)"):
            model(batch)
    assert model(held_out[:0]).shape == (0, 64, 32, 1)


def test_file_of_somebody_else_is_refused(file, converted):
    with pytest.raises(ModelError, match=r"model_float32\.tflite: has no tfspec metadata"):
        TfliteModel(file(content=converted["float32"]))


def test_metadata_that_are_no_description_are_refused(file, converted):
    with pytest.raises(ModelError, match="tfspec metadata is not a JSON object"):
        TfliteModel(file(content=embed_metadata(converted["float32"], ["a", "list"])))


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.01, 0.5, 0.9, 0.9999])
def test_truncated_file_is_one_line(file, described, fraction):
    content = described["float32"][: int(fraction * len(described["float32"]))]
    with pytest.raises(ModelError, match=r"model_float32.tflite: ") as caught:
        TfliteModel(file(content=content))
    assert "\n" not in str(caught.value)


def test_damaged_bytes_never_show_a_traceback(file, described):
    rng = np.random.default_rng(1)
    for _ in range(20):
        data = bytearray(described["float32"])
        for place in rng.integers(8, len(data), 500):
            data[place] = rng.integers(256)
        with pytest.raises(ModelError):
            TfliteModel(file(content=bytes(data)))


def test_missing_file_folder_and_bad_thread_count(tmp_path, file):
    with pytest.raises(ModelError, match=r"none.tflite: cannot be read \(No such file"):
        TfliteModel(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="cannot be read"):
        TfliteModel(tmp_path)
    with pytest.raises(ModelError, match="Received: num_threads=0"):
        TfliteModel(file(), num_threads=0)


def test_running_imports_neither_tensorflow_nor_keras(file, tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from tfspec.deploy.runner import TfliteModel\n"
        f"model = TfliteModel({str(file('int8'))!r})\n"
        "model(np.zeros(model.input_shape, np.float32))\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_latency_is_that_of_the_fastest_call():
    import time

    pauses = iter([0.05, 0.03, 0.01, 0.03])
    result = latency_ms(lambda _: time.sleep(next(pauses)), np.zeros(1), seconds=0.0)
    assert 10 <= result < 30  # the first call is not measured; sleeping lasts at least as long
