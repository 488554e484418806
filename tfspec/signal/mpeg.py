"""MPEG audio and AAC frames: where they lie in a file, and whether the last one is whole."""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable
from typing import NamedTuple

Buffer = mmap.mmap | memoryview
MAX_FRAME_BYTES = 2881  # layer 3 needs at most 1441, layer 2 at 32 kHz 1729
_SEARCH = 65536  # bytes after the tags in which the first frame must begin

# kbit/s by (version is 1, layer), ISO/IEC 11172-3 and 13818-3; index 0 of the header is 1 here.
_BITRATES = {
    (True, 1): range(32, 449, 32),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


class MpegFrame(NamedTuple):
    """What an MPEG audio frame header says."""

    length: int  # bytes, header included
    kind: tuple[int, int, int]  # (version bits, layer, sample rate): constant within a file
    samples: int  # per channel
    side_info: int  # bytes between the header and a Xing tag


class AdtsFrame(NamedTuple):
    """What an AAC (ADTS) frame header says."""

    length: int
    kind: tuple[int, int]  # the header bytes that are constant within a file


class Walk(NamedTuple):
    """The frames of a file."""

    n_frames: int
    segments: tuple[tuple[int, int], ...]  # (begin, end) in bytes of frames in a row
    damage: str | None  # what is missing, None when nothing is


class Mp3Layout(NamedTuple):
    """What there is to decode in an MP3 file."""

    segments: tuple[tuple[int, int], ...]  # (begin, end) in bytes; tags lie between them
    n_samples: int | None  # per channel, counted; None when a Xing header declares it reliably
    samples_per_frame: int
    damage: str | None  # what is missing, None for a whole file


@functools.lru_cache(maxsize=4096)
def parse_mpeg(header: bytes) -> MpegFrame | None:
    """Reads a 4-byte MPEG audio frame header; `None` when it is not one (or of free format)."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = (header[1] >> 3) & 3, 4 - ((header[1] >> 1) & 3)
    rate_index, rate_code = header[2] >> 4, (header[2] >> 2) & 3
    if version == 1 or layer == 4 or rate_index in (0, 15) or rate_code == 3:
        return None
    rate = _MPEG_RATES[version][rate_code]
    bits = 1000 * _BITRATES[version == 3, layer][rate_index - 1]
    padding = (header[2] >> 1) & 1
    samples = {1: 384, 2: 1152, 3: 1152 if version == 3 else 576}[layer]
    length = (
        (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate + padding
    )
    mono = header[3] >> 6 == 3
    side_info = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return MpegFrame(length, (version, layer, rate), samples, side_info)


@functools.lru_cache(maxsize=4096)
def parse_adts(header: bytes) -> AdtsFrame | None:
    """Reads the first 6 bytes of an AAC (ADTS) frame; `None` when they are not one."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return None
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return AdtsFrame(length, (header[1], header[2] & 0xFC)) if length >= 7 else None


_Parser = Callable[[bytes], MpegFrame | AdtsFrame | None]
_HEADER_BYTES: dict[_Parser, int] = {parse_mpeg: 4, parse_adts: 6}


def _parse_at(data: Buffer, position: int, parse: _Parser) -> MpegFrame | AdtsFrame | None:
    return parse(bytes(data[position : position + _HEADER_BYTES[parse]]))


def walk_frames(data: Buffer, position: int, parse: _Parser) -> Walk:
    """Follows the frames from `position` to the last one, past the tags between joined files."""
    size, n_frames, kind = len(data), 0, None
    segments, begin, damage = [], position, None
    while position < size:
        frame = _parse_at(data, position, parse)
        if frame is not None and kind in (None, frame.kind):
            if position + frame.length > size:
                damage = "its last frame is not whole"
                break
            kind = frame.kind
            position += frame.length
            n_frames += 1
            continue
        behind = after_tags(data, position)
        if behind == position:
            damage = _interruption(data, position, parse)
            break
        segments.append((begin, position))
        begin = position = behind
    segments.append((begin, min(position, size)))
    return Walk(n_frames, tuple(pair for pair in segments if pair[0] < pair[1]), damage)


def _interruption(data: Buffer, position: int, parse: _Parser) -> str | None:
    """Says what is wrong where a frame should begin; `None` when nothing but padding follows."""
    if len(data) - position < _HEADER_BYTES[parse] and data[position] == 0xFF:
        return "it ends within a frame header"
    if _resync(data, position, parse) is None:
        return None
    return f"at byte {position} its frames are interrupted, or of another rate"


def _resync(data: Buffer, position: int, parse: _Parser) -> int | None:
    """Next place where frames follow each other, behind tags and within reach; or `None`."""
    position = after_tags(data, position)
    if is_chain(data, position, parse, 3):
        return position
    window = bytes(data[position : position + _SEARCH])
    found = window.find(b"\xff", 1)
    while found >= 0:
        # Three frames in a row: the sync bits alone occur in any binary data.
        if is_chain(data, position + found, parse, 3):
            return position + found
        found = window.find(b"\xff", found + 1)
    return None


def is_chain(data: Buffer, position: int, parse: _Parser, n_frames: int) -> bool:
    """Whether `n_frames` frame headers of one kind follow each other."""
    kind = None
    for _ in range(n_frames):
        frame = _parse_at(data, position, parse)
        if frame is None or kind not in (None, frame.kind):
            return False
        kind, position = frame.kind, position + frame.length
    return True


def after_tags(data: Buffer, position: int = 0) -> int:
    """The position behind the tags (ID3, APE) that begin at `position`, itself without any."""
    while True:
        head = bytes(data[position : position + 32])
        if head[:3] == b"ID3" and len(head) >= 10:
            length = functools.reduce(lambda total, byte: total << 7 | byte & 127, head[6:10], 0)
            position += 10 + length + (10 if head[5] & 16 else 0)
        elif head[:3] == b"TAG":
            position += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            # The length leaves the header out, and there is one when the highest bit is set.
            position += int.from_bytes(head[12:16], "little") + 32
        else:
            return position


def first_frame(data: Buffer) -> int | None:
    """Offset of the first MPEG audio frame, `None` when there is none near the start."""
    start = after_tags(data)
    frame = _parse_at(data, start, parse_mpeg)
    if frame is not None and (
        start + frame.length >= len(data) or is_chain(data, start, parse_mpeg, 2)
    ):
        return start
    return _resync(data, start, parse_mpeg)


def mp3_layout(data: Buffer) -> Mp3Layout | None:
    """Finds the frames of an MP3 file and checks that all of them are there.

    Returns:
        The layout, or `None` when no MPEG frame is found.
    """
    offset = first_frame(data)
    frame = None if offset is None else parse_mpeg(bytes(data[offset : offset + 4]))
    if offset is None or frame is None:
        return None
    is_xing, promised, n_bytes = _declared(data, offset, frame)
    if is_xing and n_bytes and offset + n_bytes <= len(data):
        if _resync(data, offset + n_bytes, parse_mpeg) is None:
            return Mp3Layout(((offset, len(data)),), None, frame.samples, None)
        promised = None  # joined files: the header speaks for the first of them only
    tagged = is_xing or promised is not None
    walk = walk_frames(data, offset + (frame.length if tagged else 0), parse_mpeg)
    damage = walk.damage
    # An editor may have left a wrong byte count: the frames decide. Some count the tag as one.
    if damage is None and promised is not None and walk.n_frames + 1 < promised:
        damage = f"its header promises {promised} frames and {walk.n_frames} are there"
    if is_xing and promised is not None:
        return Mp3Layout(((offset, len(data)),), None, frame.samples, damage)
    return Mp3Layout(walk.segments, walk.n_frames * frame.samples, frame.samples, damage)


def _declared(data: Buffer, offset: int, frame: MpegFrame) -> tuple[bool, int | None, int | None]:
    """Whether the first frame is a Xing tag, and the frames and bytes that are declared."""
    tag_at = offset + 4 + frame.side_info
    xing, vbri = bytes(data[tag_at : tag_at + 16]), bytes(data[offset + 36 : offset + 54])
    if xing[:4] in (b"Xing", b"Info") and len(xing) == 16:
        promised = int.from_bytes(xing[8:12], "big") if xing[7] & 1 else None
        n_bytes = int.from_bytes(xing[12:16], "big") if xing[7] & 3 == 3 else None
        return True, promised, n_bytes
    if vbri[:4] == b"VBRI":
        return False, int.from_bytes(vbri[14:18], "big"), None
    return False, None, None
