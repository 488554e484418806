"""SigMF recordings: `NAME.sigmf-meta` (JSON) beside `NAME.sigmf-data` (samples).

After the SigMF specification, version 1.2 (https://sigmf.org); the names `core:...` are its. Only
what is needed to find the samples is read. The `sigmf` package is not used: it warns where this
reader must refuse (data that were cut off), and validates against a schema in many lines of text.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

from tfspec.errors import ConfigError, DataError
from tfspec.signal.iq_formats import (
    IqSegment,
    Source,
    check_datatype,
    component_dtype,
    file_size,
    needed_rate,
)

META, DATA = ".sigmf-meta", ".sigmf-data"
SIGMF_SUFFIXES = (META, DATA, ".sigmf", ".sigmf-collection")
_HASH_BLOCK = 1 << 20


def sigmf_source(path: str, sample_rate: float | None, datatype: str | None) -> Source:
    """The samples of a SigMF recording; arguments and errors as `tfspec.signal.iq.open_iq`.

    A capture begins a new segment unless it goes on where the last one ended: at the same centre
    frequency, without header bytes, and with no `core:datetime` or `core:global_index` that says
    otherwise. A capture that carries a time of its own but no index is taken for a break, because
    recorders begin one after samples were lost.
    """
    meta_path = _meta_path(path)
    document = _read_meta(meta_path)
    fields = document["global"]
    stored = _stored_datatype(meta_path, fields, datatype)
    rate = _stored_rate(meta_path, fields, sample_rate)
    data_path = _data_path(meta_path, fields)
    first = _count(meta_path, fields, "core:offset")
    captures = _captures(meta_path, document, first)
    headers = [_count(meta_path, capture, "core:header_bytes") for capture in captures]
    size = 2 * component_dtype(stored).itemsize
    n_bytes = file_size(data_path) - _count(meta_path, fields, "core:trailing_bytes") - sum(headers)
    if n_bytes < size or n_bytes % size:
        raise DataError(
            f"{data_path}: its {n_bytes} bytes of samples are no whole number of {size}-byte "
            f"{stored} samples; the file is cut off, copy it again"
        )
    n_samples = n_bytes // size
    starts = [_count(meta_path, capture, "core:sample_start") - first for capture in captures]
    _check_starts(meta_path, data_path, starts, n_samples)
    _check_whole(data_path, fields, document, first, n_samples)
    segments, offsets = _segments(captures, starts, headers, n_samples, size)
    return Source(
        path=data_path, datatype=stored, sample_rate=rate, segments=segments, offsets=offsets
    )


def _meta_path(path: str) -> str:
    """The metadata file of either file of a recording."""
    base, suffix = os.path.splitext(path)
    if suffix.lower() not in (META, DATA):
        raise DataError(
            f"{path}: is a SigMF archive or collection; unpack it and give one {META} file"
        )
    return path if suffix.lower() == META else base + META


def _read_meta(path: str) -> dict[str, Any]:
    """The metadata, of which `global` is an object and the two lists are lists of objects."""
    file_size(path)
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: is no valid JSON ({reason}); it is cut off or damaged, copy it again"
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("global"), dict):
        raise DataError(f"{path}: lacks the object `global` of SigMF metadata")
    for name in ("captures", "annotations"):
        entries = document.setdefault(name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{path}: `{name}` must be a list of objects")
    return document


def _stored_datatype(path: str, fields: dict[str, Any], given: str | None) -> str:
    stated = fields.get("core:datatype")
    if not isinstance(stated, str):
        raise DataError(f"{path}: lacks core:datatype, which SigMF requires; received {stated!r}")
    try:
        stored = check_datatype(stated, where=f"{path}: core:datatype")
    except ConfigError as error:  # not the user's argument: the file is wrong
        raise DataError(str(error)) from error
    if given is not None and check_datatype(given) != stored:
        raise ConfigError(f"{path}: states {stored}, leave `datatype` out. Received: {given!r}")
    channels = _count(path, fields, "core:num_channels", default=1)
    if channels != 1:
        raise DataError(f"{path}: has {channels} interleaved channels; extract one of them first")
    return stored


def _stored_rate(path: str, fields: dict[str, Any], given: float | None) -> float:
    stated = fields.get("core:sample_rate")
    if stated is None:
        return needed_rate(path, given)
    if not _is_number(stated) or stated <= 0:
        raise DataError(f"{path}: core:sample_rate must be more than 0 Hz, received {stated!r}")
    rate = float(stated)
    if given is not None and given != rate:
        raise ConfigError(
            f"{path}: states {rate:g} Hz, leave `sample_rate` out or correct core:sample_rate. "
            f"Received: sample_rate={given!r}"
        )
    return rate


def _data_path(meta_path: str, fields: dict[str, Any]) -> str:
    """The file with the samples."""
    if fields.get("core:metadata_only"):
        raise DataError(f"{meta_path}: is metadata only (core:metadata_only); it has no samples")
    dataset = fields.get("core:dataset")
    if dataset is not None:
        if not isinstance(dataset, str) or not dataset or Path(dataset).name != dataset:
            raise DataError(
                f"{meta_path}: core:dataset must name a file beside it, received {dataset!r}"
            )
        data_path = str(Path(meta_path).with_name(dataset))
    else:
        data_path = meta_path[: -len(META)] + DATA
    if not Path(data_path).is_file():
        raise DataError(f"{data_path}: is missing; a SigMF recording is a {META} and a {DATA} file")
    return data_path


def _captures(path: str, document: dict[str, Any], first: int) -> list[dict[str, Any]]:
    """The captures; samples before the first one are a capture of which nothing is known."""
    captures = document["captures"]
    for capture in captures:
        frequency = capture.get("core:frequency")
        if frequency is not None and not _is_number(frequency):
            raise DataError(f"{path}: core:frequency must be in Hz, received {frequency!r}")
    if not captures or _count(path, captures[0], "core:sample_start") > first:
        captures = [{"core:sample_start": first}, *captures]
    return captures


def _check_starts(meta_path: str, data_path: str, starts: list[int], n_samples: int) -> None:
    """Raises DataError unless the captures begin in order, and inside the data."""
    if starts != sorted(starts) or starts[0] < 0:
        raise DataError(f"{meta_path}: captures must be in order of core:sample_start")
    if starts[-1] >= n_samples:
        raise DataError(
            f"{data_path}: is cut off: a capture starts at sample {starts[-1]} of {n_samples}; "
            "copy the file again"
        )


def _check_whole(
    path: str, fields: dict[str, Any], document: dict[str, Any], first: int, n_samples: int
) -> None:
    """Raises DataError when the data are not those that the metadata describe.

    The checksum decides; without one, annotations that reach beyond the end tell a cut file.
    """
    checksum = fields.get("core:sha512")
    if isinstance(checksum, str):
        if _sha512(path) != checksum.lower():
            raise DataError(
                f"{path}: does not match core:sha512; it is cut off or changed, copy it again"
            )
        return
    for note in document["annotations"]:
        end = sum(_count(path, note, f"core:sample_{part}") for part in ("start", "count")) - first
        if end > n_samples:
            raise DataError(
                f"{path}: is cut off: an annotation reaches sample {end} of {n_samples}; "
                "copy the file again, or correct the annotation"
            )


def _sha512(path: str) -> str:
    digest = hashlib.sha512()
    try:
        with open(path, "rb") as file:
            while block := file.read(_HASH_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def _segments(
    captures: list[dict[str, Any]],
    starts: list[int],
    headers: list[int],
    n_samples: int,
    size: int,
) -> tuple[tuple[IqSegment, ...], tuple[int, ...]]:
    """The segments, and where the first byte of each lies; a sample takes `size` bytes."""
    first = _segment_captures(captures, starts, headers)
    header_bytes = list(itertools.accumulate(headers))
    ends = [starts[position] for position in first[1:]] + [n_samples]
    segments = []
    for position, end in zip(first, ends, strict=True):
        frequency = captures[position].get("core:frequency")
        segments.append(
            IqSegment(
                start=starts[position],
                n_samples=end - starts[position],
                center_frequency=None if frequency is None else float(frequency),
            )
        )
    offsets = [starts[position] * size + header_bytes[position] for position in first]
    return tuple(segments), tuple(offsets)


def _segment_captures(
    captures: list[dict[str, Any]], starts: list[int], headers: list[int]
) -> list[int]:
    """Positions of the captures that begin a new segment, as `sigmf_source` describes."""
    positions = [0]
    for position in range(1, len(captures)):
        capture, previous = captures[position], captures[position - 1]
        if starts[position] == starts[positions[-1]]:
            positions[-1] = position  # no sample lies between the two
            continue
        index: Any = capture.get("core:global_index")
        last: Any = previous.get("core:global_index")
        if _is_number(index) and _is_number(last):
            goes_on = index - last == starts[position] - starts[position - 1]
        else:
            goes_on = "core:datetime" not in capture and index is None
        same = capture.get("core:frequency") == previous.get("core:frequency")
        if headers[position] or not (goes_on and same):
            positions.append(position)
    return positions


def _count(path: str, entry: dict[str, Any], name: str, default: int = 0) -> int:
    """A whole number >= 0 of the metadata; some writers give it as 5.0."""
    value = entry.get(name, default)
    if not _is_number(value) or value < 0 or value != int(value):
        raise DataError(f"{path}: {name} must be a whole number >= 0, received {value!r}")
    return int(value)


def _is_number(value: Any) -> bool:
    """Whether JSON holds a finite number here."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
