"""Separates vocals from accompaniment: WAV in, two WAVs out, with NumPy and LiteRT alone.

    python run_separator.py model_int8.tflite song.wav out/

Takes the file's own sample rate when it is a whole multiple of the model's (11,025 Hz: also
22,050 and 44,100 Hz). Mask models only see their own band; above it the mean mask of the top
1 kHz is used. Memory does not grow with the length of the song.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tfspec_arm import Model, RunnerError, WavReader, figures, main_of, wav_writers

Read = Callable[[int, int], np.ndarray]

MIN_SECONDS = 0.25
EXTENSION_HZ = 1000.0
# Cosine sums, periodic: w[k] = a0 - a1 cos(2 pi k / W) + a2 cos(4 pi k / W).
WINDOWS = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "boxcar": (1.0,),
}
SCALER_AXES = {"segment": (0, 1), "frequency": (1,), "time": (0,)}


class Separator:
    """Estimates the vocals of a signal, segment by segment.

    Args:
        model: core of a mask model: square root of scaled magnitudes in, mask out.
        sample_rate: Hz of the audio, a whole multiple of the model's.
        overlap: frames that neighbouring segments share; a quarter of a segment when None.

    Raises:
        RunnerError: a model of another kind, or a rate that does not fit.
    """

    def __init__(self, model: Model, sample_rate: int, overlap: int | None = None) -> None:
        self._model = model
        stft = _mask_front_end(model)
        rate = int(stft["sample_rate"])
        if sample_rate % rate:
            raise RunnerError(
                f"sample rate {sample_rate} Hz is not a multiple of the model's {rate} Hz; "
                f"convert the file: ffmpeg -i IN -ar {4 * rate} OUT.wav"
            )
        # Bins and frames of a transform `factor` times as long line up with the model's.
        self._factor = sample_rate // rate
        self.n_fft, self.hop = stft["n_fft"] * self._factor, stft["hop_length"] * self._factor
        self._pad = self.n_fft // 2 if stft.get("center", True) else 0
        self._window = _window(stft, self._factor, self.n_fft)
        _, self._bins, self._length, _ = model.input_shape
        self._axes = SCALER_AXES[model.front_end.get("scaler_axis", "segment")]
        self._top = min(round(EXTENSION_HZ * stft["n_fft"] / rate), self._bins)
        self._overlap = self._length // 2 // 2 if overlap is None else overlap
        if not 0 <= self._overlap <= self._length // 2:
            raise RunnerError(
                f"--overlap must be in 0..{self._length // 2} frames. Received: {self._overlap}"
            )
        ramp = np.arange(1, self._overlap + 1) / (self._overlap + 1)
        self._fade_in = ramp.astype(np.float32)

    def vocals(self, read: Read, n_samples: int) -> Iterator[np.ndarray]:
        """Yields blocks `(samples, channels)`, together `n_samples` long.

        Args:
            read: returns samples `start .. stop` of the mixture, zeros outside of it.
            n_samples: length of the mixture.
        """
        frames = 1 + (n_samples + 2 * self._pad - self.n_fft) // self.hop
        step = self._length - self._overlap
        count = max(1, -(-max(frames - self._overlap, 0) // step))
        synthesis = _OverlapAdd(self.n_fft, self.hop, self._window)
        spectra, tail = self._transform(read, 0, 0), np.zeros((self._bins, 0), np.float32)
        written = -self._pad
        for index in range(count):
            first, last = index * step, index == count - 1
            stop = min(first + self._length, frames)
            new = self._transform(read, first + spectra.shape[-1], stop)
            spectra = np.concatenate([spectra, new], axis=-1)
            mask, tail = self._join(self._mask(spectra), tail, last)
            mask = mask[:, : stop - first] if last else mask
            masked = spectra[..., : mask.shape[1]] * self._extend(mask)
            spectra = spectra[..., mask.shape[1] :]
            block = synthesis.add(masked, last=last)
            skip, written = max(0, -written), written + len(block)
            yield block[skip : len(block) - max(0, written - n_samples)]
        if written < n_samples:
            yield np.zeros((n_samples - written, block.shape[1]), np.float32)

    def _transform(self, read: Read, first: int, stop: int) -> np.ndarray:
        """Frames `first .. stop` as complex64 `(channels, bins, frames)`."""
        start = first * self.hop - self._pad
        end = start + (self.n_fft + (stop - first - 1) * self.hop if stop > first else 0)
        signal = read(start, end).T
        if stop <= first:
            return np.zeros((len(signal), self.n_fft // 2 + 1, 0), np.complex64)
        view = np.lib.stride_tricks.sliding_window_view(signal, self.n_fft, axis=-1)
        frames = view[:, :: self.hop] * self._window
        return np.swapaxes(np.fft.rfft(frames, axis=-1).astype(np.complex64), 1, 2)

    def _mask(self, spectra: np.ndarray) -> np.ndarray:
        """Mask of one segment `(model bins, segment frames)`; missing frames count as silent."""
        # A window `factor` times as long sums `factor` times as many samples.
        magnitude = np.abs(spectra.mean(axis=0)[: self._bins]) / np.float32(self._factor)
        magnitude = np.pad(magnitude, [(0, 0), (0, self._length - magnitude.shape[1])])
        level = magnitude.max(axis=self._axes, keepdims=True)
        scaled = np.sqrt(magnitude / np.where(level == 0.0, 1.0, level)).astype(np.float32)
        return self._model(scaled[None, :, :, None])[0, :, :, 0]

    def _join(
        self, mask: np.ndarray, tail: np.ndarray, last: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cross-fades with the end of the segment before; what is final, and the new end."""
        step = self._length - self._overlap
        head, rest = mask[:, :step].copy(), mask[:, step:]
        if tail.shape[1]:
            head[:, : self._overlap] = tail + self._fade_in * mask[:, : self._overlap]
        if last:  # without a successor to fade to
            return np.concatenate([head, rest], axis=1), rest
        return head, rest * (1.0 - self._fade_in)

    def _extend(self, mask: np.ndarray) -> np.ndarray:
        """Continues the mask to all bins of the file's band."""
        missing = self.n_fft // 2 + 1 - len(mask)
        fill = mask[-self._top :].mean(axis=0, keepdims=True)
        return np.concatenate([mask, np.repeat(fill, missing, axis=0)]).astype(np.float32)


class _OverlapAdd:
    """Inverse transform of frames that arrive in blocks, divided by the summed squared window."""

    def __init__(self, n_fft: int, hop: int, window: np.ndarray) -> None:
        self._n_fft, self._hop, self._window = n_fft, hop, window
        self._rest: np.ndarray | None = None
        self._energy = np.zeros(n_fft - hop)

    def add(self, spectra: np.ndarray, *, last: bool) -> np.ndarray:
        """Adds `(channels, bins, frames)`; returns the samples no later frame reaches."""
        channels, _, count = spectra.shape
        frames = np.fft.irfft(np.swapaxes(spectra, 1, 2), n=self._n_fft, axis=-1)
        frames = frames.astype(np.float32) * self._window
        overlap = self._n_fft - self._hop
        signal = np.zeros((channels, count * self._hop + overlap), np.float32)
        energy = np.zeros(signal.shape[1])
        if self._rest is not None:
            signal[:, :overlap] = self._rest
        energy[:overlap] = self._energy
        for index in range(count):
            place = slice(index * self._hop, index * self._hop + self._n_fft)
            signal[:, place] += frames[:, index]
            energy[place] += np.square(self._window.astype(np.float64))
        done = signal.shape[1] if last else count * self._hop
        self._rest, self._energy = signal[:, done:], energy[done:]
        covered = energy[:done] > np.finfo(np.float32).tiny
        return (signal[:, :done] / np.where(covered, energy[:done], 1.0)).astype(np.float32).T


def _mask_front_end(model: Model) -> dict[str, Any]:
    """The STFT of a mask model's description, checked."""
    front_end = model.front_end
    if model.task != "separation":
        raise RunnerError(f"{model.path}: is a model for {model.task!r}, not for separation")
    if front_end.get("output") != "mask" or front_end.get("scaler_kind", "max") != "max":
        raise RunnerError(
            f"{model.path}: predicts {front_end.get('output')!r} with the scaler "
            f"{front_end.get('scaler_kind')!r}; this runner needs a mask model (scaler 'max')"
        )
    if len(model.input_shape) != 4 or model.input_shape != model.output_shape:
        raise RunnerError(
            f"{model.path}: must map (1, bins, frames, 1) to the same shape. Received: "
            f"{model.input_shape} to {model.output_shape}"
        )
    stft = front_end.get("stft")
    wanted = {"sample_rate", "n_fft", "hop_length"}
    if not isinstance(stft, dict) or not wanted <= set(stft):
        raise RunnerError(f"{model.path}: its description lacks the transform; export it again")
    if stft.get("window", "hann") not in WINDOWS:
        raise RunnerError(f"{model.path}: has the unknown window {stft['window']!r}")
    return stft


def _window(stft: dict[str, Any], factor: int, n_fft: int) -> np.ndarray:
    """Float32 window of one frame, centred in zeros when shorter."""
    length = (stft.get("win_length") or stft["n_fft"]) * factor
    phase = 2.0 * np.pi * np.arange(length) / length
    terms = enumerate(WINDOWS[stft.get("window", "hann")])
    window = sum((-1) ** k * weight * np.cos(k * phase) for k, weight in terms)
    left = (n_fft - length) // 2
    return np.pad(np.asarray(window), (left, n_fft - length - left)).astype(np.float32)


def separate_wav(
    model: Model, source: str, out: str, *, overlap: int | None = None, bits: int = 16
) -> float:
    """Separates a file into `OUT/vocals.wav` and `OUT/accompaniment.wav`; seconds of audio.

    The vocals are rounded first and taken off the mixture afterwards, so that the two files of a
    mixture of the same resolution add up to it exactly.
    """
    with WavReader(source) as reader:
        rate, channels = reader.sample_rate, reader.channels
        if reader.n_samples < MIN_SECONDS * rate:
            raise RunnerError(
                f"{source}: lasts {reader.n_samples / rate:.3f} s; separation needs {MIN_SECONDS} s"
            )
        separator = Separator(model, rate, overlap)
        paths = [Path(out, "vocals.wav"), Path(out, "accompaniment.wav")]
        with wav_writers(paths, rate, channels, bits) as (vocals, accompaniment):
            done = 0
            for block in separator.vocals(reader.read, reader.n_samples):
                mixture = reader.read(done, done + len(block))
                accompaniment.write(mixture - vocals.write(block))
                done += len(block)
        return reader.n_samples / rate


def run(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Separate vocals from accompaniment.")
    parser.add_argument("model", help=".tflite that `tfspec export` wrote")
    parser.add_argument("audio", help="PCM WAV, mono or stereo")
    parser.add_argument("out", help="folder for vocals.wav and accompaniment.wav")
    parser.add_argument("--threads", type=int, default=2, help="of the network (2)")
    parser.add_argument("--overlap", type=int, help="frames shared by segments (a quarter)")
    parser.add_argument("--bits", type=int, choices=(16, 24), default=16, help="of the WAVs (16)")
    options = parser.parse_args(arguments)
    model = Model(options.model, options.threads)
    start = time.perf_counter()
    seconds = separate_wav(
        model, options.audio, options.out, overlap=options.overlap, bits=options.bits
    )
    print(figures(model, seconds, time.perf_counter() - start))


if __name__ == "__main__":
    sys.exit(main_of(run))
