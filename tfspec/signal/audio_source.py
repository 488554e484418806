"""Open audio files as sources of blocks: the checks are the same whatever decodes the file."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

import numpy as np
import soundfile

from tfspec.errors import AudioError
from tfspec.signal import containers, mpeg

MIN_RATE, MAX_RATE = 1_000, 384_000  # Hz, both readable
_UNKNOWN_LENGTH = 1 << 60  # samples; libsndfile's count for FLAC that was written to a pipe
_ID3V1_BYTES = 128
_BLOCK = 1 << 16  # samples
_REMEDY = "copy or download it again, or keep what is there with `ffmpeg -i IN OUT.wav`"


class AudioSource:
    """A decoder at some position of an audio file; use as a context manager.

    Attributes:
        name: what to call the file in messages.
        format: container or codec name, such as `"wav"`.
        sample_rate: Hz.
        channels: number of channels.
        n_samples: samples per channel in the whole file.
    """

    # A decoder may give this many samples fewer than declared, per channel: some MP3 encoders
    # count the frame that carries the header, and the last AAC frame may not be played out.
    slack = 0

    def __init__(self, name: str, audio_format: str) -> None:
        self.name = name
        self.format = audio_format
        self.sample_rate = 0
        self.channels = 0
        self.n_samples = 0
        self._position = 0
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> AudioSource:
        return self

    def __exit__(self, *exception: object) -> None:
        self._resources.close()

    def _decode(self, n_samples: int) -> np.ndarray:
        """Next float32 `(samples, channels)`: fewer than `n_samples` only at the end."""
        raise NotImplementedError

    def check_header(self) -> None:
        """Refuses sample rates and lengths that nothing downstream can use."""
        if not MIN_RATE <= self.sample_rate <= MAX_RATE:
            raise AudioError(
                f"{self.name}: sample rate {self.sample_rate} Hz is outside {MIN_RATE} to "
                f"{MAX_RATE} Hz; correct its header or resample it first"
            )
        if self.n_samples == 0:
            raise AudioError(f"{self.name}: has a header but no samples; give a file with sound")

    def read(self, n_samples: int) -> np.ndarray:
        """Decodes the next samples.

        Args:
            n_samples: how many at most.

        Returns:
            float32 `(samples, channels)`, shorter than asked only at the end of the file.

        Raises:
            AudioError: the file is damaged, or a sample is NaN or infinite.
        """
        block = self._decode(n_samples)
        finite = np.isfinite(block)
        if not finite.all():
            first = self._position + int(np.argmin(finite.all(axis=1)))
            raise AudioError(
                f"{self.name}: sample {first} ({first / self.sample_rate:.3f} s) is NaN or "
                "infinite; render the file again without it"
            )
        self._position += len(block)
        if len(block) < n_samples and self._position < self.n_samples - self.slack:
            raise self.damaged(f"it declares {self.n_samples} samples, {self._position} decode")
        return block

    def skip(self, n_samples: int) -> None:
        """Moves forward by `n_samples`, by decoding them unless the source can seek."""
        while n_samples > 0:
            block = self.read(min(n_samples, _BLOCK))
            if not len(block):
                return
            n_samples -= len(block)

    def damaged(self, reason: str) -> AudioError:
        """The error for a file of which a part is missing or wrong."""
        return AudioError(f"{self.name}: is cut off or damaged ({reason}); {_REMEDY}")


class _Sequential(soundfile.SoundFile):
    """Reads without seeking.

    soundfile seeks after every read to keep its read and write positions equal. After a seek an
    MP3 decoder lacks the bits that earlier frames keep for later ones, and the samples are wrong
    (by up to 0.4 of full scale on noise at 64 kbit/s).
    """

    def seekable(self) -> bool:
        return False


class SoundFileSource(AudioSource):
    """Decodes by libsndfile: WAV, FLAC, OGG, MP3, AIFF and its other formats.

    Args:
        file: the open file, or its bytes; closed with the source, or when opening fails.
        name: what to call it in messages.
        audio_format: what `containers.sniff` found.
    """

    def __init__(self, file: BinaryIO, name: str, audio_format: str) -> None:
        super().__init__(name, audio_format)
        with contextlib.ExitStack() as opening:
            opening.callback(file.close)
            stream, n_samples = self._prepare(file)
            self._file = self._open(stream)
            opening.callback(lambda: self._file.close())
            self.sample_rate, self.channels = self._file.samplerate, self._file.channels
            if audio_format == "other":
                self.format = self._file.format.lower()
            self.n_samples = self._file.frames if n_samples is None else n_samples
            self._endless = self.n_samples >= _UNKNOWN_LENGTH
            if self._endless:
                self.n_samples = self._count()
                self._file.close()
                self._file = self._open(stream)
            self.check_header()
            self._resources = opening.pop_all()

    def _count(self) -> int:
        total = 0
        while n_new := len(self._decode(_BLOCK)):
            total += n_new
        return total

    def _prepare(self, file: BinaryIO) -> tuple[BinaryIO, int | None]:
        """Checks that the file is whole; returns what to decode, and its length if counted here."""
        with containers.view(file) as data:
            damage = containers.find_damage(data, self.format)
            layout = mpeg.mp3_layout(data) if self.format == "mp3" else None
        damage = damage or (layout.damage if layout else None)
        if damage:
            raise self.damaged(damage)
        if layout is None:
            return file, None
        self.slack = 2 * layout.samples_per_frame  # see AudioSource.slack
        whole = sum(end - begin for begin, end in layout.segments)
        if layout.n_samples is not None:
            # Without a Xing header libsndfile guesses the length from the first frame's, and reads
            # no further than its guess: a longer file makes it guess high enough.
            n_frames = layout.n_samples // layout.samples_per_frame
            whole = (n_frames + 1) * mpeg.MAX_FRAME_BYTES
        elif layout.segments[0][0] == 0:
            return file, None
        return cast(BinaryIO, _Spliced(file, layout.segments, whole)), layout.n_samples

    def _open(self, stream: BinaryIO) -> _Sequential:
        # A descriptor rather than the path: soundfile takes the format from some suffixes.
        try:
            if isinstance(stream, io.BufferedReader):
                os.lseek(stream.fileno(), 0, os.SEEK_SET)
                return _Sequential(stream.fileno(), closefd=False)
            stream.seek(0)
            return _Sequential(stream)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{self.name}: is not audio that can be read ({_reason(error)}); give WAV, FLAC, "
                "OGG, MP3, M4A or MP4"
            ) from error

    def _decode(self, n_samples: int) -> np.ndarray:
        n_samples = min(n_samples, self.n_samples - self._position)
        try:
            return self._file.read(n_samples, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self.damaged(_reason(error)) from error

    def skip(self, n_samples: int) -> None:
        """Seeks where that is exact; MP3, Vorbis and Opus are decoded from the start."""
        if self.format in ("mp3", "ogg") or self._endless:
            super().skip(n_samples)
            return
        try:
            self._position = self._file.seek(self._position + n_samples)
        except soundfile.LibsndfileError as error:
            raise self.damaged(_reason(error)) from error


def _reason(error: soundfile.LibsndfileError) -> str:
    return error.error_string.strip().rstrip(".") or f"libsndfile error {error.code}"


class _Spliced(io.RawIOBase):
    """Segments of a file as one file, which claims another size than it has."""

    def __init__(self, file: BinaryIO, segments: Sequence[tuple[int, int]], size: int) -> None:
        super().__init__()
        self._file, self._segments, self._size = file, segments, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        target, n_read, first = memoryview(buffer), 0, 0  # first: of a segment, in this file
        for begin, end in self._segments:
            inside = self._position + n_read - first
            if 0 <= inside < end - begin and n_read < len(target):
                self._file.seek(begin + inside)
                part = target[n_read : n_read + end - begin - inside]
                n_read += self._file.readinto(part)  # type: ignore[attr-defined]
            first += end - begin
        if not n_read and self._position >= self._size - _ID3V1_BYTES:
            # Decoders look for a tag at the very end first, and give up where nothing can be read.
            n_read = max(0, min(len(target), self._size - self._position))
            target[:n_read] = bytes(n_read)
        self._position += n_read
        return n_read
