"""Where the samples of NumPy and raw IQ files lie, and how their bytes become complex numbers."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from pathlib import Path

import numpy as np

from tfspec.errors import ConfigError, DataError

# Suffixes that say how a raw file is stored. GNU Radio writes `.cfile`; UHD, gqrx and rtl_sdr use
# the others.
RAW_SUFFIXES = {
    ".cf32": "cf32_le",
    ".fc32": "cf32_le",
    ".cfile": "cf32_le",
    ".cf64": "cf64_le",
    ".fc64": "cf64_le",
    ".cs16": "ci16_le",
    ".sc16": "ci16_le",
    ".cs8": "ci8",
    ".sc8": "ci8",
    ".cu8": "cu8",
}
_DATATYPE = re.compile(r"([cr])(f32|f64|i32|u32|i16|u16|i8|u8)(_le|_be)?")
_DATATYPE_FORMS = "cf32_le, cf64_le, ci8, cu8, ci16_le, cu16_le, ci32_le, cu32_le or _be"


@dataclasses.dataclass(frozen=True, kw_only=True)
class IqSegment:
    """Samples that were recorded without a break at one centre frequency.

    Attributes:
        start: number of the first sample in the file.
        n_samples: length.
        center_frequency: Hz that baseband 0 Hz stands for; None where the file does not say.
    """

    start: int
    n_samples: int
    center_frequency: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where the samples of a recording lie.

    Attributes:
        path: file with the samples.
        datatype: of a sample, as SigMF names it, always with its byte order where it has one.
        sample_rate: Hz.
        segments: stretches without a break.
        offsets: position of each segment's first byte in the file.
        planar: all real parts of a segment stand before its imaginary parts, not in turn with
            them.
    """

    path: str
    datatype: str
    sample_rate: float
    segments: tuple[IqSegment, ...]
    offsets: tuple[int, ...]
    planar: bool = False

    def read(self, segment: int, start: int, n_samples: int) -> np.ndarray:
        """Samples of one segment from its `start` on, complex64 `(n_samples,)`.

        Raises:
            DataError: the file can no longer be read, or has become shorter.
        """
        component = component_dtype(self.datatype)
        offset, size = self.offsets[segment], component.itemsize
        if self.planar:
            step = self.segments[segment].n_samples * size
            parts = [
                self._numbers(component, n_samples, offset + start * size + part * step)
                for part in (0, 1)
            ]
            pairs = np.stack(parts, axis=1)
        else:
            flat = self._numbers(component, 2 * n_samples, offset + 2 * start * size)
            pairs = flat.reshape(n_samples, 2)
        return _complex(pairs)

    def _numbers(self, dtype: np.dtype, count: int, offset: int) -> np.ndarray:
        try:
            numbers = np.fromfile(self.path, dtype, count, offset=offset)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        if len(numbers) < count:
            raise DataError(f"{self.path}: has become shorter while it was read; copy it again")
        return numbers


def npy_source(path: str, sample_rate: float | None, datatype: str | None) -> Source:
    """The samples of a NumPy file; arguments and errors as `tfspec.signal.iq.open_iq`."""
    file_size(path)
    if datatype is not None:
        raise ConfigError(
            f"{path}: states its own datatype; `datatype` is for raw files. "
            f"Received: datatype={datatype!r}"
        )
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as .npy ({_first_line(error)})") from error
    is_complex = array.dtype.kind == "c"
    shape = array.shape[:1] if is_complex and array.shape[1:] == (1,) else array.shape
    stored = _npy_datatype(array.dtype)
    expected = shape[:1] if is_complex else (*shape[:1], 2)
    if stored is None or not shape or shape != expected:
        raise DataError(
            f"{path}: holds {array.dtype} of shape {array.shape}; needs complex64 or complex128 "
            "(samples,), or real numbers of 8 to 32 bits, float32 or float64 (samples, 2)"
        )
    if not shape[0]:
        raise DataError(f"{path}: holds no samples; give a file with samples")
    return Source(
        path=path,
        datatype=stored,
        sample_rate=needed_rate(path, sample_rate),
        segments=(IqSegment(start=0, n_samples=shape[0]),),
        offsets=(array.offset,),
        planar=not is_complex and not array.flags.c_contiguous,
    )


def raw_source(path: str, sample_rate: float | None, datatype: str | None) -> Source:
    """The samples of a raw file; arguments and errors as `tfspec.signal.iq.open_iq`."""
    n_bytes = file_size(path)
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        raise DataError(f"{path}: is a .npz archive; save the one array with numpy.save as .npy")
    if datatype is None and suffix not in RAW_SUFFIXES:
        raise ConfigError(
            f"{path}: how its samples are stored is not known; give `datatype` ({_DATATYPE_FORMS}) "
            f"or one of the suffixes {', '.join(RAW_SUFFIXES)}, .npy, .sigmf-meta"
        )
    stored = check_datatype(RAW_SUFFIXES[suffix] if datatype is None else datatype)
    size = 2 * component_dtype(stored).itemsize
    if n_bytes % size:
        raise DataError(
            f"{path}: its {n_bytes} bytes are no whole number of {size}-byte {stored} samples; the "
            "file is cut off, or stored in another datatype"
        )
    return Source(
        path=path,
        datatype=stored,
        sample_rate=needed_rate(path, sample_rate),
        segments=(IqSegment(start=0, n_samples=n_bytes // size),),
        offsets=(0,),
    )


def component_dtype(datatype: str) -> np.dtype:
    """NumPy type of the real part of a checked datatype."""
    kind, _, order = datatype[1:].partition("_")
    return np.dtype(f"{'>' if order == 'be' else '<'}{kind[0]}{int(kind[1:]) // 8}")


def check_datatype(datatype: str, where: str = "`datatype`") -> str:
    """The datatype with its byte order where it has one.

    Args:
        datatype: as SigMF names it; little-endian when it does not say.
        where: what to call it in messages.

    Raises:
        ConfigError: it is unknown.
        DataError: it is one of real samples.
    """
    match = _DATATYPE.fullmatch(datatype)
    if match is None:
        raise ConfigError(f"{where} must be {_DATATYPE_FORMS}. Received: {datatype!r}")
    if match[1] == "r":
        raise DataError(f"{where} is {datatype}: real samples; only complex baseband can be read")
    order = "" if match[2].endswith("8") else match[3] or "_le"
    return f"c{match[2]}{order}"


def check_rate(sample_rate: float, where: str = "`sample_rate`") -> float:
    """Raises ConfigError unless the sample rate is a positive finite number."""
    if not (math.isfinite(sample_rate) and sample_rate > 0):
        raise ConfigError(f"{where} must be more than 0 Hz. Received: {sample_rate!r}")
    return float(sample_rate)


def needed_rate(path: str, sample_rate: float | None) -> float:
    """Raises ConfigError when nobody says what the sample rate is."""
    if sample_rate is None:
        raise ConfigError(f"{path}: does not state its sample rate; give `sample_rate` in Hz")
    return float(sample_rate)


def file_size(path: str) -> int:
    """Bytes of a file.

    Raises:
        DataError: it is missing, a folder or empty.
    """
    try:
        n_bytes = os.stat(path).st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    if Path(path).is_dir():
        raise DataError(f"{path}: is a folder; give an IQ file")
    if not n_bytes:
        raise DataError(f"{path}: is empty (0 bytes); give a file with samples")
    return n_bytes


def _npy_datatype(dtype: np.dtype) -> str | None:
    """SigMF name of a NumPy type of samples or of their parts; None for others."""
    bits = dtype.itemsize * 8 // (2 if dtype.kind == "c" else 1)
    kind = "f" if dtype.kind == "c" else dtype.kind
    order = "_be" if dtype.newbyteorder("=") != dtype else "_le"
    name = f"c{kind}{bits}{'' if bits == 8 else order}"
    return name if _DATATYPE.fullmatch(name) else None


def _complex(pairs: np.ndarray) -> np.ndarray:
    """Real and imaginary parts `(samples, 2)` as complex64, integers divided by full scale."""
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is reported
        values = pairs.astype(np.float32)
    if pairs.dtype.kind != "f":
        full_scale = np.float32(2 ** (8 * pairs.dtype.itemsize - 1))
        if pairs.dtype.kind == "u":
            values -= full_scale
        values /= full_scale
    return values.view(np.complex64)[:, 0]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
