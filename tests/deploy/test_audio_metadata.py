"""Android audio metadata, read back by a parser that knows flatbuffers but none of our code."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from tests.deploy import handmade
from tfspec.deploy.audio_metadata import (
    LABEL_FILE,
    embed_audio_metadata,
    read_audio_metadata,
    zipped_files,
)
from tfspec.deploy.metadata import embed_metadata, read_metadata
from tfspec.deploy.runner import TfliteModel
from tfspec.errors import ExportError, ModelError

LABELS = ["dog", "Vögel", "rain on a roof"]
DESCRIPTION: dict[str, Any] = {
    "name": "Sounds",
    "description": "Names what is heard — briefly.",
    "licence": "CC-BY-4.0",
    "sample_rate": 16000,
    "channels": 2,
    "labels": LABELS,
    "version": "1.2.0",
    "author": "A. Nother",
}
RESULT = {
    **DESCRIPTION,
    "min_parser_version": "1.3.0",
    "input_name": "audio_clip",
    "output_name": "probability",
}

# Fields of the tables in their order in tflite-support's metadata_schema.fbs (version 1.5.0);
# a union takes two places, the type first.
SCHEMA: dict[str, list[tuple[str, str]]] = {
    "ModelMetadata": [
        ("name", "string"),
        ("description", "string"),
        ("version", "string"),
        ("subgraph_metadata", "[SubGraphMetadata]"),
        ("author", "string"),
        ("license", "string"),
        ("associated_files", "[AssociatedFile]"),
        ("min_parser_version", "string"),
    ],
    "SubGraphMetadata": [
        ("name", "string"),
        ("description", "string"),
        ("input_tensor_metadata", "[TensorMetadata]"),
        ("output_tensor_metadata", "[TensorMetadata]"),
        ("associated_files", "[AssociatedFile]"),
    ],
    "TensorMetadata": [
        ("name", "string"),
        ("description", "string"),
        ("dimension_names", "[string]"),
        ("content", "Content"),
        ("process_units", "[ProcessUnit]"),
        ("stats", "Stats"),
        ("associated_files", "[AssociatedFile]"),
    ],
    "Content": [("type", "byte"), ("properties", "AudioProperties"), ("range", "ValueRange")],
    "AudioProperties": [("sample_rate", "uint"), ("channels", "uint")],
    "Stats": [("max", "[float]"), ("min", "[float]")],
    "AssociatedFile": [
        ("name", "string"),
        ("description", "string"),
        ("type", "byte"),
        ("locale", "string"),
        ("version", "string"),
    ],
    # Of TFLite's own schema.fbs, as much as leads to the metadata.
    "Model": [
        ("version", "uint"),
        ("operator_codes", "skip"),
        ("subgraphs", "skip"),
        ("description", "string"),
        ("buffers", "[Buffer]"),
        ("metadata_buffer", "skip"),
        ("metadata", "[Metadata]"),
    ],
    "Buffer": [("data", "bytes")],
    "Metadata": [("name", "string"), ("buffer", "uint")],
}


def parse(data: bytes, table: str, position: int | None = None) -> dict[str, Any]:
    """A generic flatbuffer reader, by the format's specification: struct and offsets only."""

    def uint(at: int, form: str = "I") -> int:
        return struct.unpack_from(f"<{form}", data, at)[0]

    def indirect(at: int) -> int:
        return at + uint(at)

    def value(kind: str, at: int) -> Any:
        if kind in ("uint", "byte"):
            return uint(at, "I" if kind == "uint" else "B")
        at = indirect(at)
        if kind in ("string", "bytes"):
            text = data[at + 4 : at + 4 + uint(at)]
            return text.decode() if kind == "string" else text
        if kind == "[float]":
            return list(struct.unpack_from(f"<{uint(at)}f", data, at + 4))
        if kind.startswith("["):
            return [parse(data, kind[1:-1], indirect(at + 4 + 4 * i)) for i in range(uint(at))]
        return parse(data, kind, at)

    start = indirect(0) if position is None else position
    vtable = start - uint(start, "i")
    fields = {}
    for slot, (name, kind) in enumerate(SCHEMA[table]):
        within = 4 + 2 * slot
        offset = uint(vtable + within, "H") if within < uint(vtable, "H") else 0
        if offset and kind != "skip":
            fields[name] = value(kind, start + offset)
    return fields


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)


@pytest.fixture(scope="module")
def plain(weights: np.ndarray) -> bytes:
    return embed_metadata(handmade.classifier(weights), {"front_end": {"task": "classification"}})


def test_independent_parser_reads_every_field(plain):
    content = embed_audio_metadata(plain, **DESCRIPTION)
    model = parse(content, "Model")
    entries = {entry["name"]: entry["buffer"] for entry in model["metadata"]}
    data = model["buffers"][entries["TFLITE_METADATA"]]["data"]
    assert data[4:8] == b"M001"
    metadata = parse(data, "ModelMetadata")
    (graph,) = metadata.pop("subgraph_metadata")
    assert metadata == {
        "name": "Sounds",
        "description": "Names what is heard — briefly.",
        "version": "1.2.0",
        "author": "A. Nother",
        "license": "CC-BY-4.0",
        "min_parser_version": "1.3.0",
    }
    (clip,), (scores,) = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
    assert clip["name"] == "audio_clip"
    # ContentProperties: 1 is FeatureProperties, 4 is AudioProperties.
    assert clip["content"] == {"type": 4, "properties": {"sample_rate": 16000, "channels": 2}}
    assert scores["content"] == {"type": 1, "properties": {}}
    assert scores["stats"] == {"max": [1.0], "min": [0.0]}
    (file,) = scores["associated_files"]
    assert (file["name"], file["type"]) == (LABEL_FILE, 2)  # TENSOR_AXIS_LABELS


def test_label_file_is_stored_uncompressed_behind_the_model(plain):
    content = embed_audio_metadata(plain, **DESCRIPTION)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        (info,) = archive.infolist()
        # Task libraries map the file where it lies, hence no compression.
        assert (info.filename, info.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert archive.read(info).decode() == "dog\nVögel\nrain on a roof\n"
    assert content[4:8] == b"TFL3"


def test_file_still_runs_and_keeps_its_other_metadata(plain, weights, tmp_path, rng):
    path = tmp_path / "classifier.tflite"
    path.write_bytes(embed_audio_metadata(plain, **DESCRIPTION))
    model = TfliteModel(path)
    assert model.metadata == {"front_end": {"task": "classification"}}
    waveform = rng.normal(size=(2, 40)).astype(np.float32)
    logits = waveform.astype(np.float64) @ weights.T
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model(waveform), expected, atol=1e-5)


def test_our_reader_returns_what_was_given(plain):
    content = embed_audio_metadata(plain, **DESCRIPTION)
    assert read_audio_metadata(content) == RESULT
    assert embed_audio_metadata(plain, **DESCRIPTION) == content


def test_a_second_embedding_replaces_the_first_and_keeps_foreign_files(plain):
    first = io.BytesIO(embed_audio_metadata(plain, **DESCRIPTION))
    with zipfile.ZipFile(first, "a") as archive:
        archive.writestr("README.txt", "hands off")
    changed = {**DESCRIPTION, "labels": ["a", "b", "c"], "channels": 1}
    content = embed_audio_metadata(first.getvalue(), **changed)
    assert read_audio_metadata(content) == {**RESULT, "labels": ["a", "b", "c"], "channels": 1}
    assert zipped_files(content) == {"README.txt": b"hands off", "labels.txt": b"a\nb\nc\n"}
    names = [entry["name"] for entry in parse(content, "Model")["metadata"]]
    assert sorted(names) == ["TFLITE_METADATA", "tfspec.json"]
    assert read_metadata(content) == read_metadata(plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a", "b"]}, r"`labels` must be 3 names, one per score. Received: \['a', 'b'"),
        ({"labels": "abc"}, "`labels` must be 3 names"),
        ({"labels": ["a", "b", "a"]}, "must differ from each other. Received: 'a' twice"),
        ({"labels": ["a", "b\nc", "d"]}, r"single non-empty lines. Received: 'b\\nc'"),
        ({"labels": ["a", " ", "d"]}, "single non-empty lines. Received: ' '"),
        ({"sample_rate": 0}, "`sample_rate` must be a positive integer. Received: sample_rate=0"),
        ({"sample_rate": 44100.0}, "`sample_rate` must be a positive integer"),
        ({"channels": True}, "`channels` must be a positive integer"),
        ({"channels": 3}, "`channels` must divide the 40 inputs. Received: 3"),
    ],
)
def test_wrong_values_are_refused(plain, change, message):
    with pytest.raises(ExportError, match=message) as caught:
        embed_audio_metadata(plain, **{**DESCRIPTION, **change})
    assert "\n" not in str(caught.value)


def test_files_that_no_audio_task_takes_are_refused():
    spectrogram = handmade.mask_network(np.ones((1, 1)), 0.0, 8, 4)
    with pytest.raises(ExportError, match=r"one float32 waveform \[1, samples\] as input. Receiv"):
        embed_audio_metadata(spectrogram, **DESCRIPTION)
    integer = handmade.int8_sigmoid(3, float_ends=False)
    with pytest.raises(ExportError, match=r"as input. Received: 1 inputs of .* \[\(9, \[1, 3\]\)"):
        embed_audio_metadata(integer, **{**DESCRIPTION, "channels": 1})


def test_reading_what_is_not_there_is_one_line(plain):
    content = embed_audio_metadata(plain, **DESCRIPTION)
    with pytest.raises(ModelError, match="has no TFLITE_METADATA"):
        read_audio_metadata(plain)
    with pytest.raises(ModelError, match=r"is not a \.tflite file"):
        read_audio_metadata(b"PK" * 50)
    with pytest.raises(ModelError, match=r"its label file labels.txt is missing"):
        read_audio_metadata(content[: content.rindex(b"PK\x03\x04")])
    at = content.index(b"M001")
    with pytest.raises(ModelError, match="identifier b'M999'"):
        read_audio_metadata(content[:at] + b"M999" + content[at + 4 :])
    wrecked = content[: at - 4] + b"\xff\xff\xff\x7f" + content[at:]
    with pytest.raises(ModelError, match="TFLITE_METADATA is damaged; export it again"):
        read_audio_metadata(wrecked)
