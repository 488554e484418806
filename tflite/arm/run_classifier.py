"""Names what is heard, or maps it: WAV in, class scores or a label map out, NumPy and LiteRT alone.

    python run_classifier.py model_int8.tflite sound.wav

For models with their front end inside: waveform `[1, samples]` in; out come scores `[1, classes]`,
a label map `[1, frequency, time]`, or class probabilities `[1, frequency, time, classes]`. A file
at a whole multiple of the model's rate is brought down to it by a polyphase filter.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from tfspec_arm import Model, RunnerError, WavReader, figures, main_of

TASKS = ("classification", "segmentation", None)
# Anti-aliasing filter: zero crossings on each side, Kaiser's beta (100 dB of stop band), and the
# share of the new band that passes unharmed.
HALF_WIDTH, BETA, PASSED = 64, 10.0, 0.9
_BLOCK = 1 << 14


def decimate(signal: np.ndarray, factor: int) -> np.ndarray:
    """Lowers the sample rate by a whole factor.

    A polyphase filter: only the samples that are kept are computed, each a product of the filter
    (sinc with a Kaiser window, unit gain) with the input around it; zeros beyond the ends.

    Args:
        signal: `(samples,)`.
        factor: 1 returns the signal as it is.

    Returns:
        float32 `(ceil(samples / factor),)`.
    """
    if factor == 1:
        return signal.astype(np.float32)
    half = HALF_WIDTH * factor
    times = np.arange(-half, half + 1) / factor
    cutoff = (1 + PASSED) / 2
    taps = np.sinc(cutoff * times) * np.kaiser(2 * half + 1, BETA)
    taps = (taps / taps.sum()).astype(np.float32)
    count = -(-len(signal) // factor)
    padded = np.pad(signal.astype(np.float32), (half, half + factor))
    view = np.lib.stride_tricks.sliding_window_view(padded, len(taps))[::factor]
    blocks = [view[i : min(i + _BLOCK, count)] @ taps for i in range(0, count, _BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def windows(model: Model, reader: WavReader, hop: float | None) -> tuple[np.ndarray, float]:
    """Cuts a file into inputs of the model; the last is filled up with zeros.

    Returns:
        float32 `(windows, samples)`, and the seconds from one window to the next.

    Raises:
        RunnerError: the model takes no waveform, or the rates do not fit.
    """
    rate = _sample_rate(model)
    if reader.sample_rate % rate:
        raise RunnerError(
            f"{reader.path}: has {reader.sample_rate} Hz, which is no multiple of the model's "
            f"{rate} Hz; convert it: ffmpeg -i IN -ar {rate} OUT.wav"
        )
    if reader.n_samples == 0:
        raise RunnerError(f"{reader.path}: holds no samples")
    length = int(np.prod(model.input_shape))
    mono = reader.read(0, reader.n_samples).mean(axis=1)
    signal = decimate(mono, reader.sample_rate // rate)
    step = length if hop is None else round(hop * rate)
    if step < 1:
        raise RunnerError(f"--hop must be at least one sample. Received: {hop} s")
    count = 1 + max(0, -(-(len(signal) - length) // step))
    signal = np.pad(signal, (0, max(0, (count - 1) * step + length - len(signal))))
    return np.stack([signal[i * step : i * step + length] for i in range(count)]), step / rate


def _sample_rate(model: Model) -> int:
    shape = model.input_shape
    if model.task not in TASKS:
        raise RunnerError(f"{model.path}: is a model for {model.task!r}; this runner classifies")
    if max(shape) != int(np.prod(shape)):
        raise RunnerError(
            f"{model.path}: must take one waveform [1, samples]. Received: input shape {shape}; "
            "export it as a waveform model"
        )
    stft = model.front_end.get("stft")
    rate = model.front_end.get("sample_rate") or (stft or {}).get("sample_rate")
    if not isinstance(rate, int) or rate < 1:
        raise RunnerError(f"{model.path}: its description lacks the sample rate; export it again")
    return rate


def label(model: Model, index: int) -> str:
    """Name of a class, or its number when the model names none."""
    return model.labels[index] if index < len(model.labels) else f"class {index}"


def report_scores(model: Model, scores: np.ndarray, step: float, top: int) -> list[str]:
    """Lines for `(windows, classes)` scores: the best of each window, and the mean."""

    def best(row: np.ndarray) -> str:
        order = np.argsort(-row, kind="stable")[:top]
        return ", ".join(f"{label(model, int(i))} {row[i]:.3f}" for i in order)

    lines = [f"{index * step:8.2f} s  {best(row)}" for index, row in enumerate(scores)]
    return lines if len(scores) == 1 else [*lines, f"    mean    {best(scores.mean(axis=0))}"]


def report_map(model: Model, classes: np.ndarray) -> list[str]:
    """Lines for label maps `(windows, frequency, time)`: the share of every class."""
    numbers, counts = np.unique(classes, return_counts=True)
    return [
        f"{100 * count / classes.size:6.2f} %  {label(model, int(number))}"
        for number, count in zip(numbers, counts, strict=True)
    ]


def run(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Classify or map sound.")
    parser.add_argument("model", help=".tflite that `tfspec export` wrote, waveform in")
    parser.add_argument("audio", help="PCM WAV")
    parser.add_argument("--out", help=".npy file for the scores or label maps of all windows")
    parser.add_argument("--hop", type=float, help="seconds between windows (one window)")
    parser.add_argument("--top", type=int, default=3, help="classes printed per window (3)")
    parser.add_argument("--threads", type=int, default=2, help="of the network (2)")
    options = parser.parse_args(arguments)
    if options.top < 1:
        raise RunnerError(f"--top must be at least 1. Received: {options.top}")
    model = Model(options.model, options.threads)
    start = time.perf_counter()
    with WavReader(options.audio) as reader:
        seconds = reader.n_samples / reader.sample_rate
        inputs, step = windows(model, reader, options.hop)
    results = np.concatenate([model(row.reshape(model.input_shape)) for row in inputs])
    if results.ndim == 2:
        lines = report_scores(model, results, step, options.top)
    else:
        # Probabilities have the classes behind; maps already hold their numbers.
        results = results.argmax(-1) if results.ndim == 4 else np.round(results)
        results = results.astype(np.int32)
        lines = report_map(model, results)
    print("\n".join(lines))
    if options.out:
        _save(Path(options.out), results)
    print(figures(model, seconds, time.perf_counter() - start))


def _save(path: Path, results: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.save(file, results)
    except OSError as error:
        raise RunnerError(f"{path}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(main_of(run))
