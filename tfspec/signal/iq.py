"""Reading complex baseband (IQ) recordings of any length, block by block.

SigMF recordings, NumPy arrays and raw interleaved files. Samples become complex64. Integers are
divided by their full scale: 8-bit signed by 128, 16-bit by 32768; unsigned ones lose their middle
(128 of 8 bits) first, as the reference implementation of SigMF does it. Floats stay as they are.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfspec.errors import ConfigError, DataError
from tfspec.signal.iq_formats import IqSegment, Source, check_rate, npy_source, raw_source
from tfspec.signal.iq_sigmf import SIGMF_SUFFIXES, sigmf_source

__all__ = ["IqBlock", "IqInfo", "IqRecording", "IqSegment", "iq_blocks", "iq_info", "open_iq"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class IqInfo:
    """What a recording holds.

    Attributes:
        sample_rate: Hz, of the complex samples.
        n_samples: number of complex samples.
        datatype: how a sample is stored, as SigMF names it: `cf32_le`, `ci16_be`, `cu8` ...
        format: `"sigmf"`, `"npy"` or `"raw"`.
        segments: stretches without a break, in order; one that covers all where none are known.
    """

    sample_rate: float
    n_samples: int
    datatype: str
    format: str
    segments: tuple[IqSegment, ...]

    @property
    def duration(self) -> float:
        """Length in seconds of the samples in the file; a recorder's pauses are not in it."""
        return self.n_samples / self.sample_rate


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class IqBlock:
    """Consecutive samples of one segment.

    Attributes:
        start: number of the first sample in the file.
        samples: complex64 `(samples,)`.
        segment: number of the segment it belongs to, from 0.
        center_frequency: Hz that baseband 0 Hz stands for; None where the file does not say.
    """

    start: int
    samples: np.ndarray
    segment: int
    center_frequency: float | None


class IqRecording:
    """An opened recording; holds no file open and no samples.

    Attributes:
        path: the file, as given.
        info: what it holds.
    """

    def __init__(self, path: str, info: IqInfo, source: Source) -> None:
        self.path = path
        self.info = info
        self._source = source

    def read(self, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """Samples `start` to `start + n_samples` (to the end when None), complex64.

        Segments are joined without a gap; `blocks` keeps them apart.

        Raises:
            ConfigError: the range lies outside the recording.
            DataError: as `iq_blocks`.
        """
        total = self.info.n_samples
        n_samples = total - start if n_samples is None else n_samples
        if start < 0 or n_samples < 1 or start + n_samples > total:
            raise ConfigError(
                f"{self.path}: has samples 0 to {total - 1}. "
                f"Received: start={start}, n_samples={n_samples}"
            )
        parts = []
        for number, segment in enumerate(self.info.segments):
            first = max(start, segment.start)
            stop = min(start + n_samples, segment.start + segment.n_samples)
            if first < stop:
                parts.append(self._read(number, first, stop - first))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def blocks(self, block_samples: int, hop: int) -> Iterator[IqBlock]:
        """Blocks as `iq_blocks` gives them."""
        if block_samples < 1 or not 1 <= hop <= block_samples:
            raise ConfigError(
                "`block_samples` must be at least 1 and `hop` 1 to `block_samples`, so that no "
                f"sample is left out. Received: block_samples={block_samples}, hop={hop}"
            )
        return self._blocks(block_samples, hop)

    def _blocks(self, block_samples: int, hop: int) -> Iterator[IqBlock]:
        for number, segment in enumerate(self.info.segments):
            end = segment.start + segment.n_samples
            start = segment.start
            while True:
                length = min(block_samples, end - start)
                samples = self._read(number, start, length)
                yield IqBlock(
                    start=start,
                    samples=samples,
                    segment=number,
                    center_frequency=segment.center_frequency,
                )
                if start + length >= end:
                    break
                start += hop

    def _read(self, number: int, start: int, n_samples: int) -> np.ndarray:
        samples = self._source.read(number, start - self.info.segments[number].start, n_samples)
        finite = np.isfinite(samples)
        if not finite.all():
            first = start + int(np.argmin(finite))
            raise DataError(
                f"{self.path}: sample {first} is NaN, infinite or beyond float32; "
                "check the datatype, or remove such samples"
            )
        return samples


def open_iq(
    path: str | os.PathLike[str],
    *,
    sample_rate: float | None = None,
    datatype: str | None = None,
) -> IqRecording:
    """Opens a recording; the content decides what is wrong with it, the suffix what it is.

    Args:
        path: `NAME.sigmf-meta` or `NAME.sigmf-data` (both must be there); `.npy` with complex
            numbers `(samples,)` or real and imaginary parts `(samples, 2)`; anything else is raw:
            real and imaginary parts in turn, `.cf32`, `.fc32`, `.cfile`, `.cf64`, `.cs16`,
            `.sc16`, `.cs8`, `.cu8`, or any suffix with `datatype` given.
        sample_rate: Hz; needed unless a SigMF file states it.
        datatype: of a raw file, as SigMF names it: `c`, then `f32`, `f64`, `i8`, `u8`, `i16`,
            `u16`, `i32` or `u32`, then `_le` or `_be`; little-endian when left out.

    Raises:
        DataError: the file is missing, empty, of no known kind, cut off, or no complex baseband;
            a SigMF checksum does not match.
        ConfigError: the sample rate or datatype is missing, impossible, or not what the file says.
    """
    name = os.fspath(path)
    if sample_rate is not None:
        check_rate(sample_rate)
    suffix = Path(name).suffix.lower()
    if suffix in SIGMF_SUFFIXES:
        kind, source = "sigmf", sigmf_source(name, sample_rate, datatype)
    elif suffix == ".npy":
        kind, source = "npy", npy_source(name, sample_rate, datatype)
    else:
        kind, source = "raw", raw_source(name, sample_rate, datatype)
    info = IqInfo(
        sample_rate=source.sample_rate,
        n_samples=sum(segment.n_samples for segment in source.segments),
        datatype=source.datatype,
        format=kind,
        segments=source.segments,
    )
    return IqRecording(name, info, source)


def iq_info(
    path: str | os.PathLike[str],
    *,
    sample_rate: float | None = None,
    datatype: str | None = None,
) -> IqInfo:
    """What a recording holds; arguments and errors as for `open_iq`."""
    return open_iq(path, sample_rate=sample_rate, datatype=datatype).info


def iq_blocks(
    path: str | os.PathLike[str],
    block_samples: int,
    hop: int,
    sample_rate: float | None = None,
    datatype: str | None = None,
) -> Iterator[IqBlock]:
    """Reads a recording of any length block by block, in memory that does not grow with it.

    In each segment blocks start at its samples 0, `hop`, 2 `hop` ... until one reaches the
    segment's end; that last one may be shorter than `block_samples`. Every sample is in a block,
    and no block crosses from one segment into the next.

    Args:
        path: as for `open_iq`; opened and checked at once.
        block_samples: samples per block, at least 1.
        hop: samples from one block's start to the next one's, 1 to `block_samples`.
        sample_rate: Hz; needed unless a SigMF file states it.
        datatype: of a raw file.

    Raises:
        ConfigError: a wrong block length or hop; else as `open_iq`.
        DataError: as `open_iq`; samples that are not finite are reported where they are met.
    """
    recording = open_iq(path, sample_rate=sample_rate, datatype=datatype)
    return recording.blocks(block_samples, hop)
