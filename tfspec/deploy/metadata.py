"""The description `tfspec.json` inside a .tflite file, in the flatbuffer's own metadata table.

A .tflite travels without its model folder, so sample rate, STFT and scaling travel inside it.
Needs NumPy and the LiteRT wheel only; never TensorFlow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfspec.errors import ModelError

METADATA_NAME = "tfspec.json"
INSTALL_HINT = "LiteRT is not installed; run: pip install ai-edge-litert"


def read_bytes(source: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """Returns a .tflite's bytes and the name that errors call it by.

    Raises:
        ModelError: the file is missing, empty, or does not begin as a .tflite does.
    """
    if isinstance(source, bytes):
        data, name = source, "the .tflite data"
    else:
        name = os.fspath(source)
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ModelError(f"{name}: cannot be read ({error.strerror})") from error
    if not data:
        raise ModelError(f"{name}: is empty; a .tflite file was expected")
    if data[4:8] != b"TFL3":
        raise ModelError(f"{name}: is not a .tflite file (it has no TFL3 identifier)")
    return data, name


def parse_model(source: str | os.PathLike[str] | bytes) -> Any:
    """Parses a .tflite into LiteRT's `ModelT` object tree.

    Raises:
        ModelError: missing, not a .tflite, or damaged.
    """
    data, name = read_bytes(source)
    try:
        from ai_edge_litert.tools import flatbuffer_utils
    except ImportError as error:
        raise ModelError(INSTALL_HINT) from error
    try:
        return flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    except Exception as error:
        # The generated reader checks nothing: damage shows as whatever Python error comes first.
        raise ModelError(
            f"{name}: is damaged (its tables do not parse); export it again"
        ) from error


def embed_metadata(model: bytes, description: Mapping[str, Any]) -> bytes:
    """Returns the .tflite with `description` embedded; replaces an earlier description.

    Args:
        model: bytes of a .tflite.
        description: JSON-serialisable mapping; equal mappings give equal bytes.

    Raises:
        ModelError: `model` is not a readable .tflite.
    """
    tree = parse_model(model)
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    payload = json.dumps(description, sort_keys=True, allow_nan=False).encode("utf-8")
    buffer = schema.BufferT()
    buffer.data = list(payload)
    entries = tree.metadata or []
    kept = [entry for entry in entries if _text(entry.name) != METADATA_NAME]
    entry = schema.MetadataT()
    entry.name = METADATA_NAME
    entry.buffer = len(tree.buffers)
    tree.buffers.append(buffer)
    tree.metadata = [*kept, entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(tree))


def read_metadata(source: str | os.PathLike[str] | bytes) -> dict[str, Any]:
    """Reads the description that `tfspec export` embedded.

    Raises:
        ModelError: not a .tflite, damaged, or without a tfspec description.
    """
    data, name = read_bytes(source)
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise ModelError(INSTALL_HINT) from error
    try:
        payload = _find_payload(schema.Model.GetRootAs(data, 0))
    except Exception as error:
        raise ModelError(
            f"{name}: is damaged (its tables do not parse); export it again"
        ) from error
    if payload is None:
        raise ModelError(
            f"{name}: has no tfspec metadata, so its front end is unknown; use a file that "
            "`tfspec export` wrote"
        )
    try:
        description = json.loads(payload)
    except ValueError as error:
        raise ModelError(f"{name}: its tfspec metadata is damaged ({error})") from error
    if not isinstance(description, dict):
        raise ModelError(f"{name}: its tfspec metadata is not a JSON object")
    return description


def _find_payload(model: Any) -> bytes | None:
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if _text(entry.Name()) == METADATA_NAME:
            return model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    return None


def _text(name: bytes | str | None) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else (name or "")
