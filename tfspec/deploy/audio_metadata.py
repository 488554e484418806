"""TFLite Metadata of a waveform classifier: what Android's audio tasks ask a file for.

MediaPipe's and TFLite Task's `AudioClassifier` take a float32 waveform `[1, samples]`, give float32
scores `[1, classes]`, and refuse a file without sample rate, channels and label file. These stand
in a flatbuffer `TFLITE_METADATA` (schema `metadata_schema.fbs` of tflite-support, identifier
`M001`) and in a zip archive behind the model. Both are written here with `flatbuffers` alone.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfspec.deploy.metadata import parse_model
from tfspec.errors import ExportError, ModelError

ENTRY = "TFLITE_METADATA"
IDENTIFIER = b"M001"
LABEL_FILE = "labels.txt"
# The first schema version with AudioProperties; parsers refuse files that need a later one.
MIN_PARSER_VERSION = "1.3.0"

_FLOAT32 = 0  # tflite.TensorType
_TENSOR_AXIS_LABELS = 2  # AssociatedFileType
_FEATURE_PROPERTIES, _AUDIO_PROPERTIES = 1, 4  # ContentProperties
# Names and descriptions that tflite-support's own writer for audio classifiers uses.
_INPUT = ("audio_clip", "Input audio clip to be classified.")
_OUTPUT = ("probability", "Scores of the labels respectively.")
_LABELS_DESCRIPTION = "Labels for categories that the model can recognize."
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # equal calls give equal bytes


def embed_audio_metadata(
    content: bytes,
    *,
    name: str,
    description: str,
    licence: str,
    sample_rate: int,
    channels: int,
    labels: Sequence[str],
    version: str,
    author: str,
) -> bytes:
    """Returns the .tflite with the metadata and the label file of an audio classifier.

    Other metadata entries and zipped files are kept; earlier audio metadata are replaced. Embed
    `tfspec.json` first: rewriting the model drops the archive behind it.

    Args:
        content: bytes of a .tflite, float32 `[1, samples]` in and float32 `[1, classes]` out;
            stereo samples are interleaved.
        name: of the model.
        description: what the model does.
        licence: of the weights.
        sample_rate: Hz of the waveform.
        channels: of the waveform.
        labels: one per class, in the order of the scores.
        version: of the model.
        author: who made it.

    Raises:
        ModelError: `content` is not a readable .tflite.
        ExportError: the file does not keep the contract, or a value is out of range.
    """
    tree = parse_model(content)
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    _check_audio(sample_rate, channels)
    _check_contract(tree, channels, labels)
    texts = {
        "name": name,
        "description": description,
        "version": version,
        "author": author,
        "licence": licence,
    }
    buffer = schema.BufferT()
    buffer.data = list(_build(texts, sample_rate, channels))
    kept = [entry for entry in tree.metadata or [] if _text(entry.name) != ENTRY]
    entry = schema.MetadataT()
    entry.name, entry.buffer = ENTRY, len(tree.buffers)
    tree.buffers.append(buffer)
    tree.metadata = [*kept, entry]
    model = bytes(flatbuffer_utils.convert_object_to_bytearray(tree))
    files = {**zipped_files(content), LABEL_FILE: "".join(f"{x}\n" for x in labels).encode()}
    return _append_zip(model, files)


def read_audio_metadata(content: bytes) -> dict[str, Any]:
    """Reads what `embed_audio_metadata`, or tflite-support, wrote.

    Returns:
        `name`, `description`, `version`, `author`, `licence`, `min_parser_version`, `sample_rate`,
        `channels`, `input_name`, `output_name`, and `labels`; text that is absent is "", labels
        are empty without a label file.

    Raises:
        ModelError: not a .tflite, damaged, or without audio metadata.
    """
    tree = parse_model(content)
    entries = [entry for entry in tree.metadata or [] if _text(entry.name) == ENTRY]
    if not entries:
        raise ModelError(f"the .tflite data: has no {ENTRY}; embed audio metadata first")
    data = bytes(bytearray(tree.buffers[entries[0].buffer].data))
    if data[4:8] != IDENTIFIER:
        raise ModelError(
            f"the .tflite data: its {ENTRY} has the identifier {data[4:8]!r}, not {IDENTIFIER!r}"
        )
    try:
        return _read(data, zipped_files(content))
    except ModelError:
        raise
    except Exception as error:
        # The flatbuffers runtime checks nothing: damage shows as whatever error comes first.
        raise ModelError(f"the .tflite data: its {ENTRY} is damaged; export it again") from error


def zipped_files(content: bytes) -> dict[str, bytes]:
    """The files in the archive behind a .tflite, by name; none when there is no archive."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelError(f"the .tflite data: its archive is damaged ({error})") from error


def _append_zip(model: bytes, files: Mapping[str, bytes]) -> bytes:
    whole = io.BytesIO(model)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            # Stored, not deflated: the C++ task library maps the file where it lies.
            archive.writestr(zipfile.ZipInfo(name, date_time=_ZIP_DATE), data)
    return whole.getvalue()


def _check_audio(sample_rate: int, channels: int) -> None:
    for name, value in (("sample_rate", sample_rate), ("channels", channels)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**32:
            raise ExportError(f"`{name}` must be a positive integer. Received: {name}={value!r}")


def _check_contract(tree: Any, channels: int, labels: Sequence[str]) -> None:
    """Raises ExportError unless an audio task would accept the model with these labels."""
    graph = tree.subgraphs[0]
    for role, indices, rule in (
        ("input", graph.inputs, "one float32 waveform [1, samples]"),
        ("output", graph.outputs, "float32 scores [1, classes]"),
    ):
        ends = [graph.tensors[index] for index in indices]
        found = [(end.type, [int(n) for n in end.shape]) for end in ends]
        plain = len(found) == 1 and found[0][0] == _FLOAT32 and len(found[0][1]) == 2
        if not plain or found[0][1][0] != 1 or found[0][1][1] < 1:
            raise ExportError(
                f"an Android audio classifier must have {rule} as {role}. Received: "
                f"{len(found)} {role}s of (type, shape) {found}"
            )
    samples = int(graph.tensors[graph.inputs[0]].shape[1])
    if samples % channels:
        raise ExportError(f"`channels` must divide the {samples} inputs. Received: {channels}")
    _check_labels(labels, int(graph.tensors[graph.outputs[0]].shape[1]))


def _check_labels(labels: Sequence[str], classes: int) -> None:
    texts = [] if isinstance(labels, str) else list(labels)
    if len(texts) != classes:
        raise ExportError(f"`labels` must be {classes} names, one per score. Received: {labels!r}")
    for label in texts:
        if not isinstance(label, str) or not label.strip() or label.splitlines() != [label]:
            raise ExportError(f"`labels` must be single non-empty lines. Received: {label!r}")
    if len(set(texts)) < len(texts):
        double = next(label for label in texts if texts.count(label) > 1)
        raise ExportError(f"`labels` must differ from each other. Received: {double!r} twice")


def _build(texts: Mapping[str, str], sample_rate: int, channels: int) -> bytes:
    """The metadata flatbuffer; slots are the positions of the fields in metadata_schema.fbs."""
    import flatbuffers

    builder = flatbuffers.Builder(512)
    audio = _table(builder, 2, uints={0: sample_rate, 1: channels})
    content = _table(builder, 3, bytes_={0: _AUDIO_PROPERTIES}, offsets={1: audio})
    clip = _named(builder, 7, *_INPUT, {3: content})
    features = _table(builder, 0)
    content = _table(builder, 3, bytes_={0: _FEATURE_PROPERTIES}, offsets={1: features})
    stats = _table(builder, 2, offsets={0: _floats(builder, 1.0), 1: _floats(builder, 0.0)})
    file = _named(builder, 5, LABEL_FILE, _LABELS_DESCRIPTION, {}, bytes_={2: _TENSOR_AXIS_LABELS})
    files = _vector(builder, [file])
    scores = _named(builder, 7, *_OUTPUT, {3: content, 5: stats, 6: files})
    ends = {2: _vector(builder, [clip]), 3: _vector(builder, [scores])}
    graphs = _vector(builder, [_table(builder, 9, offsets=ends)])
    strings = {
        2: builder.CreateString(texts["version"]),
        4: builder.CreateString(texts["author"]),
        5: builder.CreateString(texts["licence"]),
        7: builder.CreateString(MIN_PARSER_VERSION),
    }
    model = _named(builder, 8, texts["name"], texts["description"], {3: graphs, **strings})
    builder.Finish(model, file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _named(
    builder: Any,
    slots: int,
    name: str,
    description: str,
    offsets: Mapping[int, int],
    bytes_: Mapping[int, int] | None = None,
) -> int:
    """A table whose first two fields are its name and its description."""
    texts = {0: builder.CreateString(name), 1: builder.CreateString(description)}
    return _table(builder, slots, offsets={**texts, **offsets}, bytes_=bytes_)


def _table(
    builder: Any,
    slots: int,
    *,
    offsets: Mapping[int, int] | None = None,
    uints: Mapping[int, int] | None = None,
    bytes_: Mapping[int, int] | None = None,
) -> int:
    """A table with `slots` fields, those given set; returns its position."""
    builder.StartObject(slots)
    for slot, value in (offsets or {}).items():
        builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    for slot, value in (uints or {}).items():
        builder.PrependUint32Slot(slot, value, 0)
    for slot, value in (bytes_ or {}).items():
        builder.PrependUint8Slot(slot, value, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: Any, value: float) -> int:
    builder.StartVector(4, 1, 4)
    builder.PrependFloat32(value)
    return int(builder.EndVector())


class _Node:
    """One table of a flatbuffer, its fields read by their position in the schema."""

    def __init__(self, data: bytes, position: int) -> None:
        from flatbuffers.table import Table

        self._data = data
        self._table = Table(bytearray(data), position)

    @classmethod
    def root(cls, data: bytes) -> _Node:
        return cls(data, int.from_bytes(data[:4], "little"))

    def _field(self, slot: int) -> int:
        offset = self._table.Offset(4 + 2 * slot)
        return self._table.Pos + offset if offset else 0

    def text(self, slot: int) -> str:
        field = self._field(slot)
        return _text(self._table.String(field)) if field else ""

    def number(self, slot: int, flags: Any) -> int:
        field = self._field(slot)
        return int(self._table.Get(flags, field)) if field else 0

    def child(self, slot: int) -> _Node:
        field = self._field(slot)
        if not field:
            raise ModelError(f"the .tflite data: its {ENTRY} lacks a table; export it again")
        return _Node(self._data, self._table.Indirect(field))

    def children(self, slot: int) -> list[_Node]:
        offset = self._table.Offset(4 + 2 * slot)
        if not offset:
            return []
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        return [_Node(self._data, self._table.Indirect(start + 4 * i)) for i in range(count)]


def _read(data: bytes, files: Mapping[str, bytes]) -> dict[str, Any]:
    from flatbuffers.number_types import Uint8Flags, Uint32Flags

    model = _Node.root(data)
    graphs = model.children(3)
    inputs, outputs = (graphs[0].children(2), graphs[0].children(3)) if graphs else ([], [])
    if not inputs or not outputs:
        raise ModelError(f"the .tflite data: its {ENTRY} describes no input and output")
    content = inputs[0].child(3)
    if content.number(0, Uint8Flags) != _AUDIO_PROPERTIES:
        raise ModelError(f"the .tflite data: its {ENTRY} describes no audio input")
    audio = content.child(1)
    return {
        "name": model.text(0),
        "description": model.text(1),
        "version": model.text(2),
        "author": model.text(4),
        "licence": model.text(5),
        "min_parser_version": model.text(7),
        "sample_rate": audio.number(0, Uint32Flags),
        "channels": audio.number(1, Uint32Flags),
        "input_name": inputs[0].text(0),
        "output_name": outputs[0].text(0),
        "labels": _labels(outputs[0], files, lambda node: node.number(2, Uint8Flags)),
    }


def _labels(scores: _Node, files: Mapping[str, bytes], kind: Callable[[_Node], int]) -> list[str]:
    names = [node.text(0) for node in scores.children(6) if kind(node) == _TENSOR_AXIS_LABELS]
    if not names:
        return []
    if names[0] not in files:
        raise ModelError(f"the .tflite data: its label file {names[0]} is missing; export it again")
    return files[names[0]].decode("utf-8").splitlines()


def _text(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else (value or "")
