"""Levels of a mix: loudness of stems, their balance, and how it changes along a song."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfspec.synth.effects import stretch
from tfspec.synth.music import Score

BLOCK = 0.05  # seconds over which levels are measured
VAR_MEAN, VAR_SPREAD, VAR_RANGE = -3.0, 2.5, (-8.0, 3.0)  # dB, voice over accompaniment


def block_power(stem: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the mean power of blocks of `BLOCK` seconds, the incomplete last one included.

    Args:
        stem: Shape `(2, samples)` float32.
        sample_rate: Hz.

    Returns:
        Shape `(blocks,)`.
    """
    starts = np.arange(0, stem.shape[1], max(round(BLOCK * sample_rate), 1))
    sums = np.add.reduceat(np.einsum("cn,cn->n", stem, stem), starts)
    lengths = np.diff(np.append(starts, stem.shape[1]))
    return sums / (lengths * stem.shape[0])


def active_rms(stem: np.ndarray, sample_rate: int, where: np.ndarray | None = None) -> float:
    """Return the level of a stem while it sounds.

    Args:
        stem: Shape `(2, samples)` float32.
        sample_rate: Hz.
        where: Which blocks count, shape `(blocks,)` bool; None for those within 40 dB of the
            loudest.

    Returns:
        Root mean square over channels and the counted blocks; 0 for silence.
    """
    power = block_power(stem, sample_rate)
    if where is None:
        where = power > 1e-4 * power.max()
    chosen = power[where]
    return float(np.sqrt(chosen.mean())) if chosen.size else 0.0


def voice_to_accompaniment(vocals: np.ndarray, band: np.ndarray, sample_rate: int) -> float:
    """Return the level of the voice over the accompaniment while the voice sounds, in dB.

    Args:
        vocals: Shape `(2, samples)` float32, not silent.
        band: Accompaniment of the same shape.
        sample_rate: Hz.

    Returns:
        dB; infinite where the accompaniment is silent.
    """
    power = block_power(vocals, sample_rate)
    sung = power > 1e-3 * power.max()
    below = active_rms(band, sample_rate, sung)
    return (
        float(20.0 * np.log10(active_rms(vocals, sample_rate, sung) / below)) if below else np.inf
    )


def _curve(rng: np.random.Generator, score: Score, spread: float) -> list[tuple[float, float]]:
    """Return `(seconds, gain)` corners: one level per section, changing within 50 ms."""
    corners: list[tuple[float, float]] = []
    for section in score.sections:
        gain = float(10.0 ** (rng.normal(0.0, spread) / 20.0))
        corners += [(section.start + 0.025, gain), (section.end - 0.025, gain)]
    return corners


def automate(
    rng: np.random.Generator, stems: Mapping[str, np.ndarray], score: Score, sample_rate: int
) -> None:
    """Change the levels of the stems along the song, in place.

    Every section has its own balance; some songs stop the band for the beat before a section,
    some fade in or out. No gain changes within less than 10 ms, so nothing clicks.

    Args:
        rng: Source of every choice.
        stems: Waveforms `(2, samples)` float32 by name.
        score: Frame of the song.
        sample_rate: Hz.
    """
    stops = [
        section.start
        for section in score.sections[1:]
        if section.start > 2.0 * score.beat and rng.random() < 0.15
    ]
    fade_in = float(rng.uniform(0.5, 3.0)) if rng.random() < 0.08 else 0.0
    fade_out = float(rng.uniform(1.0, 4.0)) if rng.random() < 0.08 else 0.0
    if score.duration < 10.0:
        fade_in = fade_out = 0.0
    hop = round(0.01 * sample_rate)
    for name, stem in stems.items():
        t = np.arange(stem.shape[1] // hop + 2) * hop / sample_rate
        corners = _curve(rng, score, 1.0 if name == "vocals" else 1.5)
        gain = np.interp(t, [time for time, _ in corners], [level for _, level in corners])
        if name != "vocals":
            for stop in stops:
                gain[(t > stop - score.beat) & (t < stop - 0.02)] = 0.0
        if fade_in:
            gain *= np.minimum(t / fade_in, 1.0)
        if fade_out:
            gain *= np.clip((score.duration - t) / fade_out, 0.0, 1.0)
        stem *= stretch(gain, hop, stem.shape[1])


def balance(
    rng: np.random.Generator, stems: dict[str, np.ndarray], score: Score, sample_rate: int
) -> None:
    """Mix the stems in place: the band, changes along the song, the voice, the master gain.

    Args:
        rng: Source of every choice.
        stems: Waveforms `(2, samples)` float32 with keys vocals, drums, bass and other.
        score: Frame of the song.
        sample_rate: Hz.
    """
    levels = {
        "vocals": 0.0,
        "drums": rng.normal(0.0, 2.5),
        "bass": rng.normal(-2.0, 2.5),
        "other": rng.normal(-0.5, 3.0),
    }
    if rng.random() < 0.08:  # an unplugged song
        levels["drums"] = -np.inf
    ratio = float(np.clip(rng.normal(VAR_MEAN, VAR_SPREAD), *VAR_RANGE))
    peak = 10.0 ** (rng.uniform(-9.0, -0.3) / 20.0)
    for name, level in levels.items():
        rms = active_rms(stems[name], sample_rate)
        stems[name] *= np.float32(10.0 ** (level / 20.0) / rms if rms > 0.0 else 0.0)
    automate(rng, stems, score, sample_rate)
    band = stems["drums"] + stems["bass"]
    band += stems["other"]
    now = voice_to_accompaniment(stems["vocals"], band, sample_rate)
    if np.isfinite(now):
        stems["vocals"] *= np.float32(10.0 ** ((ratio - now) / 20.0))
    band += stems["vocals"]
    # The stems too stay below full scale, so that each can be written to a file unclipped.
    loudest = max(max(float(part.max()), -float(part.min())) for part in (*stems.values(), band))
    for stem in stems.values():
        stem *= np.float32(peak / loudest)
