"""Test vectors: what is written, that a correct port passes and a wrong one is named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.deploy import handmade
from tfspec.deploy.metadata import embed_metadata
from tfspec.deploy.vectors import check_vectors, write_vectors
from tfspec.errors import ExportError, ModelError, OutputError

KERNEL = np.array([[0.2, -0.5], [1.0, 0.3]], np.float32)


@pytest.fixture
def write(tmp_path):
    """Writes a handmade model with its precision and returns its path."""

    def build(content: bytes, precision: str) -> Path:
        path = tmp_path / f"model_{precision}.tflite"
        path.write_bytes(embed_metadata(content, {"front_end": {}, "precision": precision}))
        return path

    return build


@pytest.fixture
def mask_file(write):
    return write(handmade.mask_network(KERNEL, -0.5, 6, 4), "float32")


def mask_of(values: np.ndarray) -> np.ndarray:
    """The mask network in NumPy: TensorFlow pads an even kernel at the end."""
    x = np.pad(values[..., 0].astype(np.float64), [(0, 0), (0, 1), (0, 1)])
    logits = -0.5 + sum(
        KERNEL[i, j] * x[:, i : i + values.shape[1], j : j + values.shape[2]]
        for i in range(2)
        for j in range(2)
    )
    return (1 / (1 + np.exp(-logits)))[..., None].astype(np.float32)


def quantised_sigmoid(steps: np.ndarray) -> np.ndarray:
    """What `handmade.int8_sigmoid` computes, exactly rounded."""
    real = (steps.astype(np.float64) - 3) / 16
    return (np.round(256 / (1 + np.exp(-real))) - 128).clip(-128, 127).astype(np.int8)


def test_folder_holds_what_the_index_says(mask_file, tmp_path, rng):
    inputs = rng.random((2, 6, 4, 1))
    index = write_vectors(tmp_path / "vectors", mask_file, inputs)
    assert json.loads((tmp_path / "vectors" / "index.json").read_text()) == index
    vectors = tmp_path / "vectors"
    names = {str(p.relative_to(vectors)) for p in vectors.rglob("*.*")}
    assert names - {"index.json"} == {
        f"testing_{end}/{i}.{suffix}"
        for end in ("input/compressed_magnitude", "output/mask")
        for i in (0, 1)
        for suffix in ("npy", "bin")
    }
    assert index["sha256"] == hashlib.sha256(mask_file.read_bytes()).hexdigest()
    assert index["input"] == {
        "name": "compressed_magnitude",
        "folder": "testing_input/compressed_magnitude",
        "dtype": "float32",
        "shape": [1, 6, 4, 1],
        "scale": None,
        "zero_point": None,
    }
    assert (index["model"], index["precision"]) == ("model_float32.tflite", "float32")
    assert (index["vectors"], index["kernels"]) == (2, "default")


@pytest.mark.parametrize("suffix", ["npy", "bin"])
def test_both_forms_hold_the_values(mask_file, tmp_path, rng, suffix):
    inputs = rng.random((2, 6, 4, 1)).astype(np.float32)
    write_vectors(tmp_path / "vectors", mask_file, inputs)

    def read(name: str) -> np.ndarray:
        path = tmp_path / "vectors" / name
        if suffix == "npy":
            return np.load(path)
        return np.frombuffer(path.read_bytes(), "<f4").reshape(1, 6, 4, 1)

    for number in (0, 1):
        fed = read(f"testing_input/compressed_magnitude/{number}.{suffix}")
        np.testing.assert_array_equal(fed, inputs[number : number + 1])
        # Both sum a few float32 products: rounding only.
        made = read(f"testing_output/mask/{number}.{suffix}")
        np.testing.assert_allclose(made, mask_of(fed), atol=1e-6)


def test_a_right_port_passes_and_a_wrong_one_is_named(mask_file, tmp_path, rng):
    folder = tmp_path / "vectors"
    write_vectors(folder, mask_file, rng.random((3, 6, 4, 1)))
    assert check_vectors(folder, mask_of) == []

    def wrong(values: np.ndarray) -> np.ndarray:
        output = mask_of(values)
        output[0, 2, 1, 0] += 1e-4
        return output

    problems = check_vectors(folder, wrong)
    assert len(problems) == 3
    assert problems[1].startswith("vector 1: mask is off by up to 0.0001 at (0, 2, 1, 0) (at most ")
    transposed = check_vectors(folder, lambda values: np.swapaxes(mask_of(values), 1, 2))
    assert (
        "must be float32 of shape (1, 6, 4, 1). Received: float32 of shape (1, 4, 6, 1)"
        in (transposed[0])
    )
    assert "24 values that are not finite" in check_vectors(folder, lambda x: x * np.nan)[0]


def test_integer_files_carry_their_scales_and_are_judged_in_steps(write, tmp_path):
    path = write(handmade.int8_sigmoid(200, float_ends=False), "full_int8")
    values = np.linspace(-9, 9, 200)[None]
    index = write_vectors(tmp_path / "vectors", path, values)
    assert index["kernels"] == "reference"
    assert (index["input"]["scale"], index["input"]["zero_point"]) == (0.0625, 3)
    assert (index["output"]["scale"], index["output"]["zero_point"]) == (1 / 256, -128)
    fed = np.load(tmp_path / "vectors/testing_input/values/0.npy")
    assert fed.dtype == np.int8
    # Rounded to the nearest step, saturating at the ends of int8.
    expected = np.round(values.astype(np.float32) * 16).astype(int) + 3
    np.testing.assert_array_equal(fed, expected.clip(-128, 127))
    raw = (tmp_path / "vectors/testing_input/values/0.bin").read_bytes()
    np.testing.assert_array_equal(np.frombuffer(raw, np.int8), fed[0])
    assert check_vectors(tmp_path / "vectors", quantised_sigmoid) == []
    nearly = check_vectors(tmp_path / "vectors", lambda x: quantised_sigmoid(x).clip(-120, 127))
    assert nearly[0].startswith("vector 0: scores is off by up to 8 steps at (0, ")
    assert nearly[0].endswith("(at most 6)")


def test_int8_inside_float_ends_allows_steps_of_the_last_tensor(write, tmp_path):
    path = write(handmade.int8_sigmoid(16, float_ends=True), "int8")
    index = write_vectors(tmp_path / "vectors", path, np.linspace(-4, 4, 16)[None])
    assert index["output"]["dtype"] == "float32"
    assert index["tolerance"] == {"steps": None, "absolute": 6 / 256}


def test_label_maps_are_judged_by_the_share_of_equal_numbers(tmp_path, rng):
    path = tmp_path / "map.tflite"
    description = {"precision": "float32", "kind": "labels"}
    path.write_bytes(embed_metadata(handmade.reshaper(2000, (1, 20, 100)), description))
    labels = rng.integers(0, 5, (1, 2000)).astype(np.float32)
    index = write_vectors(tmp_path / "vectors", path, labels)
    assert index["tolerance"] == {"steps": None, "absolute": None, "equal": 0.999}

    def port(wrong: int):
        def predict(x: np.ndarray) -> np.ndarray:
            x = x.copy()
            x[0, :wrong] += 4  # how far off a number is does not matter
            return x.reshape(1, 20, 100)

        return predict

    assert check_vectors(tmp_path / "vectors", port(wrong=2)) == []
    (problem,) = check_vectors(tmp_path / "vectors", port(wrong=3))
    assert problem.startswith("vector 0: ") and "has 99.85% of the labels" in problem
    assert problem.endswith("(at least 99.90%)")


def test_litert_itself_passes(write, tmp_path, rng):
    path = write(handmade.classifier(rng.normal(size=(4, 30)).astype(np.float32)), "float16")
    index = write_vectors(tmp_path / "vectors", path, rng.normal(size=(2, 30)))
    assert index["tolerance"] == {"steps": None, "absolute": 5e-3}
    runner = Interpreter(str(path)).get_signature_runner()
    assert check_vectors(tmp_path / "vectors", lambda x: runner(waveform=x)["scores"]) == []


def test_new_vectors_replace_old_ones_but_nothing_else(mask_file, tmp_path, rng):
    folder = tmp_path / "vectors"
    write_vectors(folder, mask_file, rng.random((3, 6, 4, 1)))
    write_vectors(folder, mask_file, rng.random((1, 6, 4, 1)))
    assert len(list(folder.rglob("*.npy"))) == 2
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.txt").write_text("unique")
    with pytest.raises(OutputError, match="thesis: holds something else than test vectors"):
        write_vectors(foreign, mask_file, rng.random((1, 6, 4, 1)))
    with pytest.raises(OutputError, match=r"chapter\.txt/v: cannot be written \(Not a directory\)"):
        write_vectors(foreign / "chapter.txt" / "v", mask_file, rng.random((1, 6, 4, 1)))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["thesis", "vectors", mask_file.name]
    )


def test_unusable_inputs_and_files_are_one_line(mask_file, tmp_path, rng):
    folder = tmp_path / "vectors"
    for inputs, message in (
        (rng.random((2, 4, 6, 1)), r"`inputs` must have shape \(vectors, 6, 4, 1\), at least one"),
        (rng.random((0, 6, 4, 1)), r"Received: shape \(0, 6, 4, 1\)"),
        (np.full((1, 6, 4, 1), np.nan), "must be finite real values.* 24 that are not finite"),
        (np.ones((1, 6, 4, 1), int), "must be finite real values, also for integer files"),
    ):
        with pytest.raises(ExportError, match=message) as caught:
            write_vectors(folder, mask_file, inputs)
        assert "\n" not in str(caught.value)
    assert not folder.exists()
    with pytest.raises(ModelError, match=r"index\.json: cannot be read"):
        check_vectors(folder, mask_of)
    write_vectors(folder, mask_file, rng.random((1, 6, 4, 1)))
    (folder / "testing_output/mask/0.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ModelError, match=r"mask/0\.npy: cannot be read .*; write the vectors ag"):
        check_vectors(folder, mask_of)
    (folder / "index.json").write_text("{}")
    with pytest.raises(ModelError, match=r"index\.json: lacks the field 'vectors'"):
        check_vectors(folder, mask_of)
