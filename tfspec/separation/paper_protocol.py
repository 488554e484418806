"""The evaluation of the vocal_unet paper, repeated so that its table can be compared with.

What is odd about it is stated at each step and summed up in `paper_scores`; its numbers never
share a column with those of `metrics`. This module does not import TensorFlow.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfspec.errors import AudioError, ConfigError
from tfspec.signal.stft import StftConfig, drop_nyquist, istft, stft

PAPER_METRICS = ("SDR", "SIR", "SAR")
# The paper's constants: segments of 128 frames, five of them per excerpt, five excerpts per call,
# and the sum of absolute samples below which an excerpt counts as silent.
PAPER_SEGMENT_FRAMES = 128
PAPER_STEP = 5
PAPER_SOURCES = 5
PAPER_SILENCE = 100.0


class PaperScores(NamedTuple):
    """Result of the `paper` protocol: means over all excerpts, dB; NaN when none was scored."""

    sdr: float
    sir: float
    sar: float
    n_scored: int
    n_excerpts: int


class PaperSegments(NamedTuple):
    """Fixed-size segments of one song, each `(segments, bins, frames)`; bins lack Nyquist."""

    mixture: np.ndarray
    vocals: np.ndarray
    accompaniment: np.ndarray
    unit_phase: np.ndarray


def bss_eval_sources(
    *, reference: np.ndarray, estimate: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """BSS eval v3 of mir_eval, without permutation: the only place that calls it.

    `mir_eval.separation` is deprecated and due for removal in 0.9; its warning is silenced here
    and nowhere else.

    Args:
        reference: `(sources, samples)`, none of them silent.
        estimate: same shape.

    Returns:
        SDR, SIR and SAR, `(sources,)` each, dB.

    Raises:
        ConfigError: the installed mir_eval has no `separation` module any more.
    """
    try:
        from mir_eval import separation
    except ImportError as error:
        raise ConfigError(
            "the `paper` protocol needs mir_eval.separation: pip install 'mir_eval<0.9'"
        ) from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)mir_eval\.separation.*Deprecated", FutureWarning)
        sdr, sir, sar, _ = separation.bss_eval_sources(
            reference, estimate, compute_permutation=False
        )
    return sdr, sir, sar


def paper_segments(
    mixture: np.ndarray,
    vocals: np.ndarray,
    config: StftConfig | None = None,
    *,
    segment_frames: int = PAPER_SEGMENT_FRAMES,
) -> PaperSegments:
    """Cuts a song into the model's segments, as the paper's code does.

    Segments do not overlap and start at frame 0; the remainder is discarded.

    Args:
        mixture: `(samples,)` at the rate of `config`.
        vocals: same shape.
        config: the front end; the paper's when None.
        segment_frames: frames per segment.

    Returns:
        Linear magnitudes of mixture, vocals and mixture - vocals, float32, and the mixture's unit
        phase (1 where the mixture is 0), complex64.

    Raises:
        AudioError: shapes differ or are not `(samples,)`.
    """
    if mixture.ndim != 1 or mixture.shape != vocals.shape:
        raise AudioError(
            "`mixture` and `vocals` must have the same shape (samples,). "
            f"Received: {mixture.shape} and {vocals.shape}"
        )
    config = config or StftConfig()
    spectra = stft(np.stack([mixture, vocals, mixture - vocals]), config)
    if config.drop_nyquist:
        spectra = drop_nyquist(spectra)
    count = spectra.shape[-1] // segment_frames
    spectra = spectra[..., : count * segment_frames]
    # (3, bins, count * frames) -> (3, count, bins, frames)
    spectra = spectra.reshape(3, spectra.shape[1], count, segment_frames).transpose(0, 2, 1, 3)
    magnitudes = np.abs(spectra)
    silent = magnitudes[0] == 0
    unit_phase = np.where(silent, 1, spectra[0] / np.where(silent, 1, magnitudes[0]))
    return PaperSegments(
        mixture=magnitudes[0],
        vocals=magnitudes[1],
        accompaniment=magnitudes[2],
        unit_phase=unit_phase.astype(np.complex64),
    )


def paper_waveforms(
    magnitude: np.ndarray, unit_phase: np.ndarray, *, hop_length: int = 256
) -> np.ndarray:
    """Excerpts of five consecutive segments, inverted with the mixture's phase.

    Oddity: the paper's code drops the Nyquist row and does not say so to the inverse, which takes
    512 rows for an n_fft of 1022 although the analysis used 1024. Excerpts come out slightly
    detuned; prediction and reference alike.

    Args:
        magnitude: `(segments, bins, frames)`; may be negative, as a linear head's output.
        unit_phase: complex, same shape: of the mixture, also for the true vocals, so that phase
            errors are invisible.
        hop_length: samples.

    Returns:
        float32 `(segments // 5, (5 * frames - 1) * hop_length)`; segments left over are dropped.

    Raises:
        AudioError: the shapes differ.
    """
    if magnitude.ndim != 3 or magnitude.shape != unit_phase.shape:
        raise AudioError(
            "`magnitude` and `unit_phase` must have the same shape (segments, bins, frames). "
            f"Received: {magnitude.shape} and {unit_phase.shape}"
        )
    n_excerpts = len(magnitude) // PAPER_STEP
    _, n_bins, n_frames = magnitude.shape
    inverse = StftConfig(n_fft=2 * (n_bins - 1), hop_length=hop_length, drop_nyquist=False)
    length = (PAPER_STEP * n_frames - 1) * hop_length
    excerpts = np.empty((n_excerpts, length), np.float32)
    for index in range(n_excerpts):
        part = slice(index * PAPER_STEP, (index + 1) * PAPER_STEP)
        spectrum = np.concatenate(list(magnitude[part] * unit_phase[part]), axis=1)
        excerpts[index] = istft(spectrum, inverse, length=length)
    return excerpts


def paper_groups(
    predicted: np.ndarray, true: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups of five consecutive excerpts that count, for `paper_group_scores`.

    Excerpts go when the prediction or the truth is all zero, or when the absolute samples of the
    truth add up to less than 100. Deviation: the paper's code computes its first mask a second
    time on already filtered predictions, which raises as soon as one is dropped; here one mask is
    computed once.

    Args:
        predicted: `(excerpts, samples)`.
        true: same shape.

    Yields:
        Predicted and true excerpts, `(5, samples)` each; a rest of fewer than five is dropped.
    """
    keep = predicted.any(axis=1) & true.any(axis=1)
    keep &= np.abs(true).sum(axis=1, dtype=np.float64) >= PAPER_SILENCE
    index = np.flatnonzero(keep)
    for start in range(0, len(index) - PAPER_SOURCES + 1, PAPER_SOURCES):
        group = index[start : start + PAPER_SOURCES]
        yield predicted[group], true[group]


def paper_group_scores(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """SDR, SIR and SAR of one group of excerpts, `(3, 5)`, dB.

    Oddities: the prediction is passed where mir_eval expects the reference, and SDR is not
    symmetric; the five excerpts, different times of different songs, are passed as five sources.
    What counts as interference is then the projection of the error on four unrelated signals, so
    that SIR lies about 19 dB above SDR whatever the model does.
    """
    return np.stack(bss_eval_sources(reference=predicted, estimate=true))


def paper_mean(groups: list[np.ndarray], n_excerpts: int) -> PaperScores:
    """Average over all excerpts of all groups, as the paper reports it."""
    scores = np.concatenate(groups, axis=1) if groups else np.full((3, 0), np.nan)
    n_scored = scores.shape[1]
    sdr, sir, sar = scores.mean(axis=1).tolist() if n_scored else [float("nan")] * 3
    return PaperScores(sdr=sdr, sir=sir, sar=sar, n_scored=n_scored, n_excerpts=n_excerpts)


def paper_scores(
    predicted: np.ndarray, true: np.ndarray, unit_phase: np.ndarray, *, hop_length: int = 256
) -> PaperScores:
    """Scores of the vocal_unet paper, only to be compared with its own table.

    Its oddities, reproduced: excerpts are inverted with n_fft 1022 instead of 1024 and the
    reference gets the mixture's phase (`paper_waveforms`); near-silent excerpts are dropped
    (`paper_groups`); prediction and reference change places and five excerpts in a row, across
    song borders, are scored as five sources (`paper_group_scores`).

    Args:
        predicted: vocal magnitudes of the test set in order, `(segments, 512, 128)`.
        true: same shape.
        unit_phase: complex, same shape: the mixture's.
        hop_length: samples.

    Raises:
        AudioError: the shapes differ.
    """
    predicted_waves = paper_waveforms(predicted, unit_phase, hop_length=hop_length)
    true_waves = paper_waveforms(true, unit_phase, hop_length=hop_length)
    groups = [paper_group_scores(*group) for group in paper_groups(predicted_waves, true_waves)]
    return paper_mean(groups, len(true_waves))
