"""What kind of audio file this is, and whether all of it is there.

Decoders are forgiving: libsndfile reads a WAV file that was cut in half as a shorter one, and an
MP3 file cut in half without a word. Training data and separated songs must not shrink silently,
so the container's own promises are compared with the bytes that are present:

- WAV, AIFF: the length of the sample chunk;
- OGG: a whole last page, marked as the last one;
- MP3: the byte and frame counts of the Xing/Info header, and a whole last frame;
- AAC (ADTS): a whole last frame; MP4: whole boxes and an index (`moov`);
- FLAC: nothing here, its decoder refuses a short file by itself.

MP3 or AAC without a declared length that was cut exactly between two frames cannot be told from a
shorter recording: nothing in it says how long it was.
"""

from __future__ import annotations

import contextlib
import io
import mmap
from collections.abc import Iterator
from typing import BinaryIO

from tfspec.signal import mpeg
from tfspec.signal.mpeg import Buffer

_MAX_OGG_PAGE = 65307  # bytes: 27 + 255 + 255 * 255
_MAGIC = {
    b"OggS": "ogg",
    b"\x1aE\xdf\xa3": "matroska",
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"): "asf",
}


@contextlib.contextmanager
def view(file: BinaryIO) -> Iterator[Buffer]:
    """Yields the bytes of an open file (mapped, not read) or of a `BytesIO`."""
    if isinstance(file, io.BytesIO):
        with file.getbuffer() as whole:
            yield whole
    else:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped


def sniff(data: Buffer) -> str:
    """Names the container by its content, whatever the file is called.

    Returns:
        `"wav"`, `"aiff"`, `"flac"`, `"ogg"`, `"mp3"`, `"mp4"`, `"aac"`, `"matroska"`, `"asf"`,
        or `"other"`, which libsndfile may still know (AU, CAF, W64 ...).
    """
    head = bytes(data[:16])
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "mp4"
    start = mpeg.after_tags(data)
    if bytes(data[start : start + 4]) == b"fLaC":
        return "flac"
    if mpeg.is_chain(data, start, mpeg.parse_adts, 2):
        return "aac"
    return "mp3" if mpeg.first_frame(data) is not None else "other"


def find_damage(data: Buffer, kind: str) -> str | None:
    """Says what of a file is missing; `None` when it is whole or its kind cannot tell.

    MP3 files have `mpeg.mp3_layout` instead, which also counts their samples.
    """
    if kind in ("wav", "aiff"):
        return _chunk_damage(data)
    if kind == "ogg":
        return _ogg_damage(data)
    if kind == "mp4":
        return _mp4_damage(data)
    if kind == "aac":
        return mpeg.walk_frames(data, mpeg.after_tags(data), mpeg.parse_adts).damage
    return None


def _chunk_damage(data: Buffer) -> str | None:
    """Compares the sample chunk's length with the file's (RIFF, RIFX, RF64, AIFF)."""
    magic = bytes(data[:4])
    big_endian = magic in (b"RIFX", b"FORM")
    wanted = b"SSND" if magic == b"FORM" else b"data"
    size64, position = 0, 12
    while position + 8 <= len(data):
        name, field = bytes(data[position : position + 4]), bytes(data[position + 4 : position + 8])
        length = int.from_bytes(field, "big" if big_endian else "little")
        if name == b"ds64":
            size64 = int.from_bytes(data[position + 16 : position + 24], "little")
        if name == wanted:
            if length == 0xFFFFFFFF:  # RF64 keeps it in ds64; a WAV made by a pipe never knew it
                length = size64
            present = len(data) - position - 8
            if length > present:
                return f"its header promises {length} bytes of samples and {present} are there"
            return None
        position += 8 + length + length % 2
    return "it ends before its samples"


def _mp4_damage(data: Buffer) -> str | None:
    """Walks the top-level boxes: each must end within the file, and one must be the index."""
    position, names = 0, set()
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        name = bytes(data[position + 4 : position + 8])
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        elif length == 0:  # up to the end of the file
            length = len(data) - position
        if length < 8 or position + length > len(data):
            return f"its {name.decode('latin-1')!r} box does not end within the file"
        names.add(name)
        position += length
    return None if b"moov" in names else "it has no index ('moov' box)"


def _ogg_damage(data: Buffer) -> str | None:
    """Checks that the last page is whole, and marked as the last."""
    tail = bytes(data[max(0, len(data) - 2 * _MAX_OGG_PAGE) :])
    start = tail.rfind(b"OggS")
    header = tail[start : start + 27]
    if start < 0 or len(header) < 27:
        return "it ends within a page header"
    lacing = tail[start + 27 : start + 27 + header[26]]
    end = start + 27 + len(lacing) + sum(lacing)
    if len(lacing) < header[26] or end > len(tail):
        return "its last page is not whole"
    # RFC 3533: the last page of a stream says that it is the last.
    return None if header[5] & 4 else "it stops before the page that is marked as its last"
