"""Arrangement: which instruments play, how they sound, and the dry stems they make."""

from __future__ import annotations

import numpy as np

from tfspec.synth.drums import draw_kit, render_drums
from tfspec.synth.effects import echo, reverberate, room_response
from tfspec.synth.instruments import Patch, render_part
from tfspec.synth.levels import active_rms
from tfspec.synth.music import Note, Score
from tfspec.synth.patterns import bass_part, chord_part, drum_part, lead_part


def _bass_patch(rng: np.random.Generator) -> Patch:
    kind = str(rng.choice(["subtractive", "plucked", "fm"], p=[0.35, 0.5, 0.15]))
    return Patch(
        kind=kind,
        bright=float(rng.uniform(500.0, 2500.0)),
        dull=float(rng.uniform(120.0, 400.0)),
        colour=float(rng.uniform(0.0, 0.4 if kind == "fm" else 1.0)),
        seed=int(rng.integers(2**31)),
        attack=float(rng.uniform(0.003, 0.012)),
        decay=float(rng.uniform(0.25, 1.2)),
        sustain=float(rng.uniform(0.4, 0.9)),
        release=float(rng.uniform(0.03, 0.08)),
        pan=float(rng.uniform(-0.1, 0.1)),
    )


def _chord_patch(rng: np.random.Generator, kind: str, held: bool) -> Patch:
    soft = held and kind in ("subtractive", "bowed", "organ")
    return Patch(
        kind=kind,
        bright=float(np.exp(rng.uniform(np.log(1500.0), np.log(7000.0)))),
        dull=float(np.exp(rng.uniform(np.log(400.0), np.log(2000.0)))),
        colour=float(rng.uniform(0.0, 1.0)),
        seed=int(rng.integers(2**31)),
        attack=float(rng.uniform(0.05, 0.4) if soft else rng.uniform(0.002, 0.02)),
        decay=float(rng.uniform(0.4, 2.0)),
        sustain=float(rng.uniform(0.6, 1.0) if soft else rng.uniform(0.1, 0.7)),
        release=float(rng.uniform(0.2, 0.8) if soft else rng.uniform(0.05, 0.3)),
        vibrato=float(rng.uniform(0.05, 0.2)) if kind == "organ" and rng.random() < 0.5 else 0.0,
        vibrato_rate=float(rng.uniform(4.0, 7.0)),
        detune=float(rng.uniform(4.0, 18.0)),
        pan=float(rng.uniform(-0.5, 0.5)),
        width=float(rng.choice([0.0, rng.uniform(0.3, 1.0)])),
    )


def _lead_patch(rng: np.random.Generator) -> Patch:
    # Leads often have a singer's vibrato and resonances: neither may be the cue for a voice.
    kind = str(rng.choice(["bowed", "subtractive", "fm", "plucked"], p=[0.45, 0.25, 0.15, 0.15]))
    return Patch(
        kind=kind,
        bright=float(rng.uniform(1800.0, 6000.0)),
        dull=float(rng.uniform(800.0, 2500.0)),
        colour=float(rng.uniform(0.0, 1.0)),
        seed=int(rng.integers(2**31)),
        attack=float(rng.uniform(0.01, 0.1)),
        decay=float(rng.uniform(0.4, 1.5)),
        sustain=float(rng.uniform(0.5, 0.95)),
        release=float(rng.uniform(0.08, 0.25)),
        vibrato=float(rng.choice([0.0, rng.uniform(0.1, 0.6)])),
        vibrato_rate=float(rng.uniform(4.5, 7.0)),
        pan=float(rng.uniform(-0.6, 0.6)),
    )


def _layers(rng: np.random.Generator, score: Score) -> list[tuple[Patch, tuple[Note, ...], float]]:
    """Return patch, notes and gain of every instrument of the "other" stem."""
    kinds = {
        "rock": ["power", "plucked", "organ"],
        "pop": ["subtractive", "plucked", "fm", "bowed"],
        "ballad": ["fm", "bowed", "plucked", "organ"],
        "dance": ["subtractive", "fm"],
        "funk": ["plucked", "fm", "organ"],
        "acoustic": ["plucked", "plucked", "bowed"],
        "hiphop": ["fm", "subtractive", "plucked"],
    }[score.style]
    layers: list[tuple[Patch, tuple[Note, ...], float]] = []
    for _ in range(int(rng.integers(1, 4))):
        kind = str(rng.choice(kinds))
        figures = {
            "power": ["held", "strum"],
            "plucked": ["strum", "arpeggio", "strum"],
            "bowed": ["held"],
            "organ": ["held", "stab"],
        }.get(kind, ["held", "stab", "arpeggio", "strum"])
        figure = str(rng.choice(figures))
        low = float(rng.integers(38, 46) if kind == "power" else rng.integers(48, 61))
        notes = chord_part(rng, score, figure=figure, low=low, single=kind == "power")
        patch = _chord_patch(rng, kind, figure == "held")
        layers.append((patch, notes, float(10.0 ** (rng.uniform(-8.0, 0.0) / 20.0))))
    if rng.random() < 0.65:
        lead = lead_part(
            rng, score, centre=float(rng.uniform(60.0, 79.0)), over_vocals=bool(rng.random() < 0.5)
        )
        layers.append((_lead_patch(rng), lead, float(10.0 ** (rng.uniform(-5.0, 3.0) / 20.0))))
    return layers


def render_drum_stem(
    rng: np.random.Generator,
    noise: np.random.Generator,
    score: Score,
    *,
    n_samples: int,
    sample_rate: int,
) -> np.ndarray:
    """Return the drum stem with its room, shape `(2, n_samples)` float32.

    Args:
        rng: Source of the music and the kit (independent of the sample rate).
        noise: Source of noise samples.
        score: Frame of the song.
        n_samples: Length of the result.
        sample_rate: Hz.
    """
    hits = drum_part(rng, score)
    kit = draw_kit(rng, electronic=score.style in ("dance", "hiphop") or rng.random() < 0.25)
    wet = float(rng.uniform(0.05, 0.3))
    dry = render_drums(noise, kit, hits, n_samples=n_samples, sample_rate=sample_rate)
    response = room_response(
        noise, rt60=kit.room, predelay=0.003, sample_rate=sample_rate, damping=0.7
    )
    return reverberate(dry, response, wet=wet)


def render_bass_stem(
    rng: np.random.Generator, score: Score, *, n_samples: int, sample_rate: int
) -> np.ndarray:
    """Return the bass stem, shape `(2, n_samples)` float32; it has no room."""
    notes = bass_part(rng, score)
    return render_part(_bass_patch(rng), notes, n_samples=n_samples, sample_rate=sample_rate)


def render_other_stem(
    rng: np.random.Generator,
    noise: np.random.Generator,
    score: Score,
    *,
    n_samples: int,
    sample_rate: int,
) -> np.ndarray:
    """Return chords and leads with their room, shape `(2, n_samples)` float32.

    Args:
        rng: Source of the music and the sounds (independent of the sample rate).
        noise: Source of noise samples.
        score: Frame of the song.
        n_samples: Length of the result.
        sample_rate: Hz.
    """
    total = np.zeros((2, n_samples), dtype=np.float32)
    for patch, notes, gain in _layers(rng, score):
        part = render_part(patch, notes, n_samples=n_samples, sample_rate=sample_rate)
        level = active_rms(part, sample_rate)
        if level > 0.0:
            total += part * np.float32(gain / level)
    if rng.random() < 0.2:
        delay = score.beat * float(rng.choice([0.5, 0.75, 1.0]))
        total = echo(total, delay=delay, feedback=0.4, sample_rate=sample_rate)
    rt60, wet = float(rng.uniform(0.4, 2.4)), float(10.0 ** (rng.uniform(-22.0, -7.0) / 20.0))
    response = room_response(noise, rt60=rt60, predelay=0.012, sample_rate=sample_rate)
    return reverberate(total, response, wet=wet)
