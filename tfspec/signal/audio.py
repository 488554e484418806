"""Reading and writing audio files.

WAV, FLAC, OGG and MP3 are read by libsndfile; M4A, AAC and stem MP4 through the ffmpeg program. The
content decides, not the file name. A file of which a part is missing is an error, never a shorter
waveform. Waveforms are NumPy `(samples, channels)`, float32, in [-1, 1].
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tfspec.errors import AudioError, ConfigError
from tfspec.signal import containers
from tfspec.signal.audio_source import AudioSource, SoundFileSource
from tfspec.signal.audio_writer import AudioWriter, write_audio
from tfspec.signal.ffmpeg import FORMATS, FfmpegSource, probe_streams
from tfspec.signal.resample import StreamResampler, resample

__all__ = [
    "AudioInfo",
    "AudioWriter",
    "StreamResampler",
    "audio_info",
    "decode_bytes",
    "match_channels",
    "read_audio",
    "read_stems",
    "resample",
    "stream_audio",
    "write_audio",
]

_BLOCK = 1 << 16  # samples per decoding step


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What an audio file holds.

    Attributes:
        sample_rate: Hz.
        channels: number of channels.
        n_samples: samples per channel.
        format: container or codec, told from the content: `"wav"`, `"mp3"`, `"mp4"` ...
    """

    sample_rate: int
    channels: int
    n_samples: int
    format: str

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate


def audio_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Reads an audio file's header, and checks that the file is whole.

    Files that do not say how long they are (raw AAC, FLAC written to a pipe) are decoded to count.

    Raises:
        AudioError: as `read_audio`.
    """
    with _open(path) as source:
        return AudioInfo(
            sample_rate=source.sample_rate,
            channels=source.channels,
            n_samples=source.n_samples,
            format=source.format,
        )


def read_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    start: float = 0.0,
    duration: float | None = None,
) -> tuple[np.ndarray, int]:
    """Reads an audio file, or a part of it.

    Args:
        path: WAV, FLAC, OGG, MP3, M4A, MP4 or AAC, from 1 kHz to 384 kHz.
        sample_rate: wanted sample rate in Hz; the file's own when `None`.
        channels: wanted number of channels, see `match_channels`; the file's own when `None`.
        start: where to begin, in seconds.
        duration: how much to read at most, in seconds; up to the end when `None`.

    Returns:
        The waveform, float32 `(samples, channels)`, and its sample rate in Hz.

    Raises:
        AudioError: the file is missing, empty, without samples, not audio, cut off or damaged,
            holds NaN or infinite samples, or ends before `start`.
        ConfigError: `start`, `duration` or `sample_rate` is out of range.
    """
    _check_range(sample_rate, start, duration)
    with _open(path) as source:
        waveform = _read_range(source, channels, start, duration)
        rate = source.sample_rate
    if sample_rate is None or sample_rate == rate:
        return waveform, rate
    return resample(waveform, rate, sample_rate), sample_rate


def stream_audio(
    path: str | os.PathLike[str], *, block_length: int, sample_rate: int | None = None
) -> Iterator[np.ndarray]:
    """Reads an audio file of any length block by block, in memory that does not grow with it.

    Args:
        path: as in `read_audio`; opened when the first block is taken.
        block_length: samples per block, at the rate of the output.
        sample_rate: wanted sample rate in Hz; the file's own when `None`.

    Yields:
        float32 `(block_length, channels)`, the last one possibly shorter. Concatenated they equal
        `read_audio(path, sample_rate=sample_rate)`.

    Raises:
        AudioError: as `read_audio`; damage that only decoding shows is raised where it is met.
    """
    if block_length < 1:
        raise ConfigError(f"block_length: must be at least 1 sample. Received: {block_length!r}")
    _check_range(sample_rate, 0.0, None)
    return _stream(path, block_length, sample_rate)


def read_stems(
    path: str | os.PathLike[str],
    *,
    stems: Sequence[int] | None = None,
    padded: bool = False,
) -> tuple[np.ndarray, int]:
    """Reads the audio streams of a stem MP4 (MUSDB18: mixture, drums, bass, other, vocals).

    Args:
        path: a file with several audio streams of the same rate, channels and length.
        stems: numbers of the streams to decode, from 0; all when `None`.
        padded: keep the padding of the last AAC frame, as the MUSDB18 tools do; published scores
            of that data set include it. Otherwise the length is what the container declares.

    Returns:
        float32 `(stems, samples, channels)`, and the sample rate in Hz.

    Raises:
        AudioError: as `read_audio`, or the file has other streams than asked, or unequal ones.
    """
    name = os.fspath(path)
    with _open_file(path) as file:
        audio_format = _identify(file, name)
    if audio_format not in FORMATS:
        raise AudioError(f"{name}: is {audio_format}, which holds no stems; give a stem MP4")
    wanted = _stem_numbers(name, audio_format, stems)
    waveforms, rates = [], []
    for stream in wanted:
        with FfmpegSource(name, audio_format, stream, padded) as source:
            waveforms.append(_read_range(source, None, 0.0, None))
            rates.append(source.sample_rate)
    found = {(rate, *waveform.shape) for rate, waveform in zip(rates, waveforms, strict=True)}
    if len(found) > 1:
        raise AudioError(
            f"{name}: its stems differ in (rate, samples, channels): {sorted(found)}; "
            "give a file whose streams match"
        )
    return np.stack(waveforms), rates[0]


def _stem_numbers(name: str, audio_format: str, stems: Sequence[int] | None) -> list[int]:
    n_streams = len(probe_streams(name, audio_format))
    wanted = list(range(n_streams) if stems is None else stems)
    if not wanted or min(wanted) < 0 or max(wanted) >= n_streams:
        raise AudioError(
            f"{name}: has audio streams 0 to {n_streams - 1}. Received: stems={wanted}"
        )
    return wanted


def decode_bytes(contents: bytes, *, channels: int | None = None) -> tuple[np.ndarray, int]:
    """Decodes the contents of a WAV, FLAC, OGG or MP3 file by libsndfile.

    Args:
        contents: the file's bytes.
        channels: wanted number of channels, see `match_channels`.

    Returns:
        The waveform, float32 `(samples, channels)`, and its sample rate in Hz.

    Raises:
        AudioError: as `read_audio`.
    """
    name = "audio data"
    file = io.BytesIO(contents)
    audio_format = _identify(file, name)
    if audio_format in FORMATS:
        raise AudioError(f"{name}: is {audio_format.upper()}, which only read_audio reads")
    with SoundFileSource(file, name, audio_format) as source:
        return _read_range(source, channels, 0.0, None), source.sample_rate


def match_channels(waveform: np.ndarray, channels: int, name: str = "waveform") -> np.ndarray:
    """Gives a waveform the wanted number of channels.

    Args:
        waveform: `(samples, channels)`.
        channels: 1 takes the mean of all; any number is made from one channel by repeating it.
        name: what to call the waveform in messages.

    Raises:
        AudioError: another number of channels is asked of several: how to mix is not known.
    """
    present = waveform.shape[1]
    if channels == present:
        return waveform
    if channels == 1:
        return waveform.mean(axis=1, keepdims=True, dtype=np.float32)
    if present == 1 and channels > 1:
        return np.repeat(waveform, channels, axis=1)
    raise AudioError(
        f"{name}: has {present} channels and {channels} are wanted; ask for 1 (the mean) or "
        f"{present}, or mix the file down first"
    )


def _check_range(sample_rate: int | None, start: float, duration: float | None) -> None:
    if sample_rate is not None and sample_rate < 1:
        raise ConfigError(f"sample_rate: must be at least 1 Hz. Received: {sample_rate!r}")
    if not (math.isfinite(start) and start >= 0):
        raise ConfigError(f"start: must be 0 s or more. Received: {start!r}")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise ConfigError(f"duration: must be more than 0 s. Received: {duration!r}")


def _read_range(
    source: AudioSource, channels: int | None, start: float, duration: float | None
) -> np.ndarray:
    """Reads from `start` for `duration` seconds into one array, without a second copy of it."""
    first = round(start * source.sample_rate)
    if first >= source.n_samples:
        seconds = source.n_samples / source.sample_rate
        raise AudioError(f"{source.name}: is {seconds:.3f} s long; start at {start} s is past that")
    source.skip(first)
    # Never ask for more than is declared, except that an MP4's padding comes on top.
    wanted = source.n_samples - first + source.slack
    if duration is not None:
        wanted = min(wanted, max(1, round(duration * source.sample_rate)))
    kept = channels or source.channels
    waveform = np.empty((wanted, kept), np.float32)
    filled = 0
    while filled < wanted:
        asked = min(_BLOCK, wanted - filled)
        block = source.read(asked)
        waveform[filled : filled + len(block)] = match_channels(block, kept, source.name)
        filled += len(block)
        if len(block) < asked:
            break
    return waveform[:filled]


def _stream(
    path: str | os.PathLike[str], block_length: int, sample_rate: int | None
) -> Iterator[np.ndarray]:
    with _open(path) as source:
        target = sample_rate or source.sample_rate
        resampler = StreamResampler(source.sample_rate, target, source.channels)
        waiting: list[np.ndarray] = []  # resampled, less than one block in all
        n_waiting, last = 0, False
        while not last:
            decoded = source.read(_BLOCK)
            last = len(decoded) < _BLOCK
            waiting.append(resampler.process(decoded, last))
            n_waiting += len(waiting[-1])
            if n_waiting < block_length and not last:
                continue
            joined = np.concatenate(waiting)
            n_whole = n_waiting if last else n_waiting - n_waiting % block_length
            for begin in range(0, n_whole, block_length):
                yield joined[begin : begin + block_length]
            waiting = [joined[n_whole:]]
            n_waiting -= n_whole


def _open_file(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        if Path(path).is_dir():
            message = f"{path}: is a folder; give an audio file"
        elif isinstance(error, FileNotFoundError):
            message = f"{path}: does not exist; check the name"
        else:
            message = f"{path}: cannot be opened ({error.strerror}); check its permissions"
        raise AudioError(message) from error


def _identify(file: BinaryIO, name: str) -> str:
    if not file.seek(0, os.SEEK_END):
        raise AudioError(f"{name}: is empty (0 bytes); give a file with sound")
    with containers.view(file) as data:
        return containers.sniff(data)


def _open(path: str | os.PathLike[str]) -> AudioSource:
    """Opens an audio file of any supported format, told by its content."""
    name = os.fspath(path)
    with contextlib.ExitStack() as closing:
        file = closing.enter_context(_open_file(path))
        audio_format = _identify(file, name)
        if audio_format in FORMATS:
            return FfmpegSource(name, audio_format)
        closing.pop_all()
        return SoundFileSource(file, name, audio_format)
