"""Writing WAV and FLAC files: complete or absent, clipped rather than wrapped."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tfspec.errors import AudioError, ConfigError, OutputError
from tfspec.signal.files import atomic_path

SUBTYPES = ("PCM_16", "PCM_24", "FLOAT")
_FORMATS = {".wav": "WAV", ".flac": "FLAC"}
_SAMPLE_BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}
_MAX_WAV_BYTES = (1 << 32) - 4096  # a WAV header counts bytes in 32 bits


def _quantize(block: np.ndarray, subtype: str) -> np.ndarray:
    """Rounds to the nearest step and clips, so that reading gives `round(x * 2**b) / 2**b`.

    libsndfile's own conversion rounds towards minus infinity, which shifts the signal by half a
    step.
    """
    if subtype == "FLOAT":
        return block
    bits = 16 if subtype == "PCM_16" else 24
    top = 1 << (bits - 1)
    # float64: 24 bits and the rounding do not fit float32.
    steps = np.clip(np.rint(block.astype(np.float64) * top), -top, top - 1).astype(np.int32)
    # libsndfile takes the upper 24 bits of an int32.
    return steps.astype(np.int16) if bits == 16 else steps << 8


class AudioWriter:
    """Writes an audio file block by block; use as a context manager.

    The file appears under its name only when the block ends without an error, replacing one that
    was there; otherwise nothing is left behind.

    Args:
        path: `.wav` or `.flac`; the folder is created when missing.
        sample_rate: Hz.
        channels: number of channels.
        subtype: `"PCM_16"`, `"PCM_24"` or `"FLOAT"` (WAV only). PCM samples beyond +-1 are
            clipped; FLOAT keeps them.

    Raises:
        ConfigError: the subtype is unknown or FLAC cannot hold it, or more channels than fit.
        OutputError: the suffix is neither, or the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int,
        channels: int,
        subtype: str = "PCM_16",
    ) -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in _FORMATS:
            raise OutputError(f"{path}: cannot write {suffix or 'no suffix'}; use .wav or .flac")
        if subtype not in SUBTYPES:
            raise ConfigError(f"subtype: must be one of {SUBTYPES}. Received: {subtype!r}")
        if suffix == ".flac" and subtype == "FLOAT":
            raise ConfigError(f"{path}: FLAC has no float samples; use PCM_24, or write .wav")
        if channels < 1 or (suffix == ".flac" and channels > 8):
            raise ConfigError(f"{path}: cannot hold {channels} channels; FLAC holds 1 to 8")
        self.sample_rate = sample_rate
        self.channels = channels
        self.subtype = subtype
        self.n_samples = 0  # written so far
        self._format = _FORMATS[suffix]
        self._file: soundfile.SoundFile | None = None
        self._temporary: Path | None = None
        self._pending = contextlib.ExitStack()

    def __enter__(self) -> AudioWriter:
        present = next((parent for parent in self.path.parents if parent.exists()), Path("."))
        if not present.is_dir():
            raise OutputError(f"{self.path}: {present} is not a folder; choose another place")
        with contextlib.ExitStack() as stack:
            self._temporary = stack.enter_context(atomic_path(self.path))
            try:
                # Opened by Python first: its error says why, libsndfile's does not.
                self._temporary.touch()
                self._file = soundfile.SoundFile(
                    self._temporary,
                    "w",
                    self.sample_rate,
                    self.channels,
                    self.subtype,
                    format=self._format,
                )
            except soundfile.LibsndfileError as error:
                raise self._unwritable(error) from error
            stack.callback(self._file.close)
            self._pending = stack.pop_all()
        return self

    def write(self, block: np.ndarray) -> None:
        """Appends samples.

        Args:
            block: `(samples, channels)`, or `(samples,)` for one channel.

        Raises:
            AudioError: the block has another number of channels, or NaN or infinite samples.
            OutputError: the disk is full, or the file would grow beyond what WAV can hold.
        """
        block = np.asarray(block, dtype=np.float32)
        block = block[:, None] if block.ndim == 1 else block
        if block.ndim != 2 or block.shape[1] != self.channels:
            raise AudioError(
                f"{self.path}: samples must be (samples, {self.channels}). "
                f"Received: shape {block.shape}"
            )
        if not np.isfinite(block).all():
            raise AudioError(f"{self.path}: samples to write are NaN or infinite; nothing is kept")
        if self._file is None:
            raise ValueError("AudioWriter must be entered (`with AudioWriter(...)`) before writing")
        total = (self.n_samples + len(block)) * self.channels * _SAMPLE_BYTES[self.subtype]
        if self._format == "WAV" and total > _MAX_WAV_BYTES:
            raise OutputError(f"{self.path}: WAV holds 4 GiB at most; write .flac or fewer bits")
        try:
            self._file.write(_quantize(block, self.subtype))
        except soundfile.LibsndfileError as error:
            raise self._unwritable(error) from error
        self.n_samples += len(block)

    def __exit__(self, *exception: Any) -> None:
        if exception[0] is None:
            with self._pending:  # closes, then renames; or removes when `_finish` raises
                self._finish()
        else:
            self._pending.__exit__(*exception)

    def _finish(self) -> None:
        """Closes the file and checks that all of it reached the disk."""
        if self.n_samples == 0:
            raise AudioError(f"{self.path}: there are no samples to write")
        if self._file is None or self._temporary is None:
            return
        try:
            self._file.close()
            n_present = soundfile.info(self._temporary).frames
        except soundfile.LibsndfileError as error:
            raise self._unwritable(error) from error
        if n_present != self.n_samples:
            raise OutputError(
                f"{self.path}: only {n_present} of {self.n_samples} samples could be written "
                "(disk full?); free space or choose another place"
            )

    def _unwritable(self, error: soundfile.LibsndfileError) -> OutputError:
        reason = error.error_string.strip().rstrip(".") or f"libsndfile error {error.code}"
        return OutputError(
            f"{self.path}: cannot be written ({reason}; disk full?); free space, or choose "
            "another place or sample rate"
        )


def write_audio(
    path: str | os.PathLike[str],
    waveform: np.ndarray,
    sample_rate: int,
    *,
    subtype: str = "PCM_16",
) -> None:
    """Writes a whole waveform to a WAV or FLAC file; see `AudioWriter`.

    Args:
        path: `.wav` or `.flac`.
        waveform: `(samples, channels)` or `(samples,)`, in [-1, 1].
        sample_rate: Hz.
        subtype: `"PCM_16"`, `"PCM_24"` or `"FLOAT"`.
    """
    waveform = np.asarray(waveform)
    channels = 1 if waveform.ndim == 1 else waveform.shape[-1]
    with AudioWriter(path, sample_rate, channels, subtype) as writer:
        writer.write(waveform)
