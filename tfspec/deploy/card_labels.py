"""What a model card says about a label map: its numbers, and their places in Hz and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfspec.errors import TfspecError
from tfspec.signal.stft import StftConfig


def label_map_lines(
    labels: Sequence[str],
    input_shape: Sequence[int],
    map_shape: Sequence[int],
    stft: Mapping[str, Any],
) -> list[str]:
    """Lines of the section on a label map.

    Args:
        labels: names of the classes in the order of their numbers; may be empty.
        input_shape: `(1, samples)` for a waveform model; others get no scales.
        map_shape: `(1, frequency, time)`.
        stft: an `StftConfig` as dictionary; may be empty or incomplete.
    """
    named = "; ".join(f"{number} is {label}" for number, label in enumerate(labels))
    lines = [
        "The output is a label map: for every frequency and time the number of the likeliest "
        f"class, a whole number stored as float32{': ' + named if named else ''}.",
        "Axes: batch, frequency (lowest first), time; last axis fastest.",
    ]
    if len(input_shape) == 2 and len(map_shape) == 3:
        lines += _scales(int(input_shape[1]), map_shape[1], map_shape[2], stft)
    return [f"- {line}" for line in lines]


def _scales(samples: int, rows: int, columns: int, stft: Mapping[str, Any]) -> list[str]:
    """Hz of the rows and seconds of the columns, for a map that keeps bins and frames."""
    if not {"sample_rate", "n_fft", "hop_length"} <= set(stft):
        return []
    try:
        config = StftConfig.from_dict(dict(stft))
    except TfspecError:
        return []
    lines = []
    if rows in (config.n_bins, config.n_bins - 1):
        lines.append(f"Row `b` lies at `{config.bin_width:.4f} b` Hz, `b = 0 .. {rows - 1}`.")
    if columns == config.frames(samples):
        first = 0 if config.center else config.n_fft / 2 / config.sample_rate
        start = f"{first:.6g} + " if first else ""
        lines.append(
            f"Column `i` is centred at `{start}{config.frame_period:.6g} i` seconds, "
            f"`i = 0 .. {columns - 1}`."
        )
    return lines
