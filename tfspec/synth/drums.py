"""Drum kit: one-shot sounds and their placement.

Every sound of the kit is synthesised once per song and added wherever the pattern asks for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfspec.synth.effects import pan_gains, shape_noise

SOUNDS = (
    "kick",
    "snare",
    "clap",
    "rim",
    "hat",
    "open_hat",
    "ride",
    "crash",
    "tom1",
    "tom2",
    "tom3",
    "shaker",
)
_VARIANTS = {"snare": 2, "hat": 3, "shaker": 2, "ride": 3}  # no two strokes of a drummer are equal
# Loudness of a sound at velocity 1 relative to the kick (linear), and its place.
_LEVELS = {
    "kick": 1.0,
    "snare": 0.8,
    "clap": 0.6,
    "rim": 0.4,
    "hat": 0.22,
    "open_hat": 0.28,
    "ride": 0.22,
    "crash": 0.45,
    "tom1": 0.7,
    "tom2": 0.7,
    "tom3": 0.7,
    "shaker": 0.15,
}
_PLATE_RATIOS = np.array([0.297, 0.341, 0.373, 0.418, 0.457, 0.513])
_PANS = {
    "hat": 0.3,
    "open_hat": 0.3,
    "shaker": -0.4,
    "ride": -0.35,
    "crash": 0.4,
    "tom1": 0.35,
    "tom2": 0.0,
    "tom3": -0.4,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit:
    """One stroke.

    Attributes:
        time: Seconds.
        sound: One of `SOUNDS`.
        velocity: Linear gain, 0..1.
    """

    time: float
    sound: str
    velocity: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kit:
    """Character of a drum kit.

    Attributes:
        kick_pitch: Hz at which the kick settles.
        kick_length: Seconds.
        kick_click: 0..1.
        snare_pitch: Hz.
        snare_length: Seconds.
        hat_tone: Hz, centre of hats and cymbals.
        hat_length: Seconds of a closed hat.
        tom_pitch: Hz of the highest tom.
        electronic: 0 (acoustic) .. 1 (drum machine): pure tones, no overtones of the skin.
        room: Seconds of ambience on the kit.
    """

    kick_pitch: float
    kick_length: float
    kick_click: float
    snare_pitch: float
    snare_length: float
    hat_tone: float
    hat_length: float
    tom_pitch: float
    electronic: float
    room: float


def draw_kit(rng: np.random.Generator, *, electronic: bool) -> Kit:
    """Draw a kit."""
    return Kit(
        kick_pitch=float(rng.uniform(42.0, 65.0)),
        kick_length=float(rng.uniform(0.15, 0.5 if electronic else 0.3)),
        kick_click=float(rng.uniform(0.1, 1.0)),
        snare_pitch=float(rng.uniform(150.0, 240.0)),
        snare_length=float(rng.uniform(0.08, 0.25)),
        hat_tone=float(rng.uniform(6500.0, 10500.0)),
        hat_length=float(rng.uniform(0.02, 0.06)),
        tom_pitch=float(rng.uniform(120.0, 180.0)),
        electronic=float(rng.uniform(0.6, 1.0) if electronic else rng.uniform(0.0, 0.3)),
        room=float(rng.uniform(0.1, 0.5)),
    )


def _time(length: float, sample_rate: int) -> np.ndarray:
    return np.arange(round(length * sample_rate), dtype=np.float32) / np.float32(sample_rate)


def _tone(t: np.ndarray, pitch: float, sweep: float, speed: float) -> np.ndarray:
    """Return a sine whose frequency falls from `pitch + sweep` to `pitch` in about `speed` s."""
    cycles = pitch * t + sweep * speed * (1.0 - np.exp(-t / speed))
    return np.sin(2.0 * np.pi * cycles)


def _kick(rng: np.random.Generator, kit: Kit, sample_rate: int) -> np.ndarray:
    t = _time(kit.kick_length * 3.0, sample_rate)
    speed = 0.012 + 0.02 * kit.electronic
    # The sweep stays below 1 kHz, so the tone cannot alias at any supported rate.
    body = _tone(t, kit.kick_pitch, 250.0 + 300.0 * kit.kick_click, speed)
    body *= np.exp(-t / (kit.kick_length * 0.5)) * np.minimum(t / 0.001, 1.0)
    noise = rng.standard_normal(t.size, dtype=np.float32) * np.exp(-t / 0.004)
    click = shape_noise(noise, sample_rate, [(2500.0, 1.0, 1.0), (500.0, 1.2, 1.0)])
    return body + kit.kick_click * 0.7 * click


def _snare(rng: np.random.Generator, kit: Kit, sample_rate: int) -> np.ndarray:
    t = _time(kit.snare_length * 4.0 + 0.05, sample_rate)
    skin = np.zeros_like(t)
    for ratio, gain in ((1.0, 1.0), (1.59, 0.6 * (1.0 - kit.electronic)), (2.14, 0.3)):
        skin += gain * _tone(t, kit.snare_pitch * ratio, 60.0, 0.015) * np.exp(-t / (0.07 / ratio))
    noise = rng.standard_normal(t.size, dtype=np.float32)
    wires = shape_noise(
        noise, sample_rate, [(900.0, 0.7, 0.6), (2200.0, 0.9, 1.0), (5500.0, 0.9, 0.8)]
    )
    wires *= np.exp(-t / (kit.snare_length * 0.6)) + 1.5 * np.exp(-t / 0.006)
    return (0.5 * skin + 0.6 * wires) * np.minimum(t / 0.0008, 1.0)


def _clap(rng: np.random.Generator, kit: Kit, sample_rate: int) -> np.ndarray:
    t = _time(0.4, sample_rate)
    envelope = np.exp(-t / 0.06) * 0.6
    for delay in (0.0, 0.011, 0.023):
        envelope += np.where(t >= delay, np.exp(-np.maximum(t - delay, 0.0) / 0.004), 0.0)
    noise = rng.standard_normal(t.size, dtype=np.float32) * envelope
    return shape_noise(noise, sample_rate, [(1300.0, 0.4, 1.0), (3000.0, 1.2, 0.35)])


def _rim(rng: np.random.Generator, kit: Kit, sample_rate: int) -> np.ndarray:
    t = _time(0.12, sample_rate)
    tone = _tone(t, 480.0, 0.0, 1.0) + _tone(t, 1650.0, 0.0, 1.0)
    return (tone * np.exp(-t / 0.012) * np.minimum(t / 0.0005, 1.0)).astype(np.float32)


def _cymbal(
    rng: np.random.Generator, kit: Kit, sample_rate: int, length: float, ping: float
) -> np.ndarray:
    t = _time(min(6.0 * length, 2.5), sample_rate)
    noise = rng.standard_normal(t.size, dtype=np.float32)
    bands = [(kit.hat_tone, 0.5, 1.0), (kit.hat_tone * 0.55, 0.35, 0.35), (13000.0, 0.4, 0.35)]
    metal = shape_noise(noise, sample_rate, bands) * (np.exp(-t / length) + np.exp(-t / 0.008))
    if ping > 0.0:
        # Overtones of a plate are not harmonic; those above the Nyquist frequency would alias.
        pitches = kit.hat_tone * _PLATE_RATIOS
        for pitch in pitches[pitches < 0.46 * sample_rate]:
            metal += ping * 0.08 * _tone(t, pitch, 0.0, 1.0) * np.exp(-t / (0.4 * length))
    fade = np.minimum((t[-1] - t) / np.float32(0.02), 1.0)
    return (metal * fade * np.minimum(t / 0.0006, 1.0)).astype(np.float32)


def _tom(rng: np.random.Generator, kit: Kit, sample_rate: int, ratio: float) -> np.ndarray:
    t = _time(0.7, sample_rate)
    pitch = kit.tom_pitch * ratio
    body = _tone(t, pitch, 0.5 * pitch, 0.03) + 0.3 * _tone(t, 1.6 * pitch, 0.0, 1.0)
    noise = rng.standard_normal(t.size, dtype=np.float32) * np.exp(-t / 0.01)
    stick = shape_noise(noise, sample_rate, [(1500.0, 1.2, 0.5)])
    return body * np.exp(-t / (0.12 / ratio**0.5)) * np.minimum(t / 0.001, 1.0) + stick


def _shaker(rng: np.random.Generator, kit: Kit, sample_rate: int) -> np.ndarray:
    t = _time(0.14, sample_rate)
    noise = rng.standard_normal(t.size, dtype=np.float32) * np.sin(np.pi * t / 0.14) ** 2
    return shape_noise(noise, sample_rate, [(7500.0, 0.5, 1.0)])


def drum_sound(rng: np.random.Generator, kit: Kit, sound: str, sample_rate: int) -> np.ndarray:
    """Synthesise one stroke at unit peak.

    Args:
        rng: Source of noise.
        kit: The kit.
        sound: One of `SOUNDS`.
        sample_rate: Hz.

    Returns:
        Shape `(samples,)` float32, peak 1.
    """
    if sound.startswith("tom"):
        samples = _tom(rng, kit, sample_rate, {"1": 1.0, "2": 0.75, "3": 0.55}[sound[-1]])
    elif sound in ("hat", "open_hat", "ride", "crash"):
        length = {"hat": kit.hat_length, "open_hat": 0.25, "ride": 0.35, "crash": 0.9}[sound]
        ping = {"ride": 1.0, "crash": 0.15}.get(sound, 0.05 + 0.2 * kit.electronic)
        samples = _cymbal(rng, kit, sample_rate, length, ping)
    else:
        makers = {"kick": _kick, "snare": _snare, "clap": _clap, "rim": _rim, "shaker": _shaker}
        samples = makers[sound](rng, kit, sample_rate)
    return (samples / np.max(np.abs(samples))).astype(np.float32)


def render_drums(
    rng: np.random.Generator, kit: Kit, hits: Sequence[Hit], *, n_samples: int, sample_rate: int
) -> np.ndarray:
    """Place the strokes of a pattern.

    Args:
        rng: Source of noise.
        kit: The kit.
        hits: In order of time.
        n_samples: Length of the result.
        sample_rate: Hz.

    Returns:
        Dry kit, shape `(2, n_samples)` float32.
    """
    output = np.zeros((2, n_samples), dtype=np.float32)
    for sound in SOUNDS:
        strokes = [hit for hit in hits if hit.sound == sound]
        if not strokes:
            continue
        variants = [
            drum_sound(rng, kit, sound, sample_rate) for _ in range(_VARIANTS.get(sound, 1))
        ]
        pan = pan_gains(_PANS.get(sound, 0.0)) * np.float32(_LEVELS[sound])
        for number, hit in enumerate(strokes):
            first = round(hit.time * sample_rate)
            piece = variants[number % len(variants)][: max(n_samples - first, 0)]
            for channel in range(2):
                gain = pan[channel] * np.float32(hit.velocity)
                output[channel, first : first + piece.size] += gain * piece
    return output
