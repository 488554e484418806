"""From sung notes to the control curves of the voice: pitch, effort, tract shape and noise.

The curves lie on a fixed time grid that does not depend on the sample rate; `voice.py` turns them
into sound.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from tfspec.synth.melody import SungNote
from tfspec.synth.phonemes import CONSONANTS, NOISE_BANDS, VOWELS, Consonant

CONTROL_STEP = 0.005  # seconds between points of every curve
N_FORMANTS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class VoiceType:
    """A singer.

    Attributes:
        name: `"male"`, `"female"` or `"child"`.
        tract: Formant scale relative to an adult male tract of 17.5 cm.
        centre: Comfortable MIDI pitch.
        vibrato_rate: Hz.
        vibrato_depth: Semitones, peak.
        glide: Seconds that a connected change of pitch takes.
        scoop: Semitones below the target at which a phrase begins.
        breathiness: Aspiration noise relative to the pulses.
        effort: -1 (soft) .. 1 (loud): how little the glottal spectrum falls.
        air: 0..2.5, strength of the resonances above 5 kHz.
        ring: 0..1, strength of the singer's formant (formants 3 to 5 drawn together).
        jitter: Relative deviation of each period.
        shimmer: Relative deviation of each pulse's amplitude.
        spoken: Rhythmic speech instead of singing.
    """

    name: str
    tract: float
    centre: float
    vibrato_rate: float
    vibrato_depth: float
    glide: float
    scoop: float
    breathiness: float
    effort: float
    air: float
    ring: float
    jitter: float
    shimmer: float
    spoken: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class VoiceControls:
    """Control curves of one voice; all share the grid of `CONTROL_STEP` seconds.

    Attributes:
        frequency: Fundamental, Hz, shape `(steps,)`; defined everywhere, also where unvoiced.
        voicing: Gain of the pulses, shape `(steps,)`.
        breath: Gain of the noise through the tract, shape `(steps,)`.
        noise: Gain of the noise at each place of articulation, shape `(steps, places)`.
        formants: Hz, shape `(steps, N_FORMANTS)`.
    """

    frequency: np.ndarray
    voicing: np.ndarray
    breath: np.ndarray
    noise: np.ndarray
    formants: np.ndarray


def draw_voice(rng: np.random.Generator, *, spoken: bool = False) -> VoiceType:
    """Draw a singer: man, woman or child, with a personal manner."""
    name = str(rng.choice(["male", "female", "child"], p=[0.5, 0.42, 0.08]))
    tract = {"male": 1.0, "female": 1.16, "child": 1.3}[name] * rng.uniform(0.94, 1.06)
    centre = {"male": 57.0, "female": 65.0, "child": 68.0}[name] + rng.uniform(-4.0, 4.0)
    return VoiceType(
        name=name,
        tract=float(tract),
        centre=float(centre) - (7.0 if spoken else 0.0),
        vibrato_rate=float(rng.uniform(4.6, 6.6)),
        vibrato_depth=0.0 if spoken else float(rng.choice([0.08, rng.uniform(0.2, 0.8)])),
        glide=float(rng.uniform(0.04, 0.14)),
        scoop=float(rng.uniform(0.0, 2.0)),
        breathiness=float(10.0 ** (rng.uniform(-40.0, -22.0) / 20.0)),
        effort=float(rng.uniform(-1.0, 1.0)),
        air=float(rng.uniform(0.0, 2.5)),
        ring=float(rng.uniform(0.0, 1.0)) if name != "child" else 0.0,
        jitter=float(rng.uniform(0.002, 0.008)),
        shimmer=float(rng.uniform(0.02, 0.10)),
        spoken=spoken,
    )


def _smooth_noise(rng: np.random.Generator, size: int, seconds: float) -> np.ndarray:
    """Return unit-variance noise that wanders on a scale of `seconds`, shape `(size,)`."""
    noise = ndimage.gaussian_filter1d(
        rng.standard_normal(size), max(seconds / CONTROL_STEP / 2.0, 1.0), mode="wrap"
    )
    return noise / max(float(noise.std()), 1e-9)


def _slice(start: float, stop: float, size: int) -> slice:
    first = min(max(round(start / CONTROL_STEP), 0), size)
    return slice(first, min(max(round(stop / CONTROL_STEP), first), size))


def _vibrato(note: SungNote, voice: VoiceType, t: np.ndarray, depth: float) -> np.ndarray:
    """Return the vibrato's envelope in semitones: it begins late and grows."""
    delay = min(0.25, 0.4 * note.duration)
    ramp = np.clip((t - note.start - delay) / 0.3, 0.0, 1.0)
    return depth * ramp * (1.0 if note.duration > 0.3 else 0.3)


def _pitch_curve(
    rng: np.random.Generator, notes: tuple[SungNote, ...], voice: VoiceType, size: int
) -> np.ndarray:
    """Return the sung pitch in MIDI numbers, shape `(size,)`: glides, scoops, vibrato, drift."""
    grid = np.arange(size) * CONTROL_STEP
    pitch = np.full(size, notes[0].pitch)
    vibrato = np.zeros(size)
    previous = notes[0].pitch
    for index, note in enumerate(notes):
        # The curve holds the last pitch until the next onset, so that releases stay in tune.
        following = notes[index + 1].start if index + 1 < len(notes) else size * CONTROL_STEP
        span = _slice(note.start - 0.5 * voice.glide, following - 0.5 * voice.glide, size)
        t = grid[span]
        depth = voice.vibrato_depth * float(rng.uniform(0.5, 1.3))
        scoop = voice.scoop * float(rng.choice([0.0, 0.3, 1.0]))
        fall = float(rng.uniform(0.5, 3.0)) if voice.spoken else 0.0
        if note.connected:
            x = np.clip((t - note.start) / voice.glide + 0.5, 0.0, 1.0)
            curve = previous + (note.pitch - previous) * x * x * (3.0 - 2.0 * x)
        else:
            curve = note.pitch - scoop * np.exp(-np.maximum(t - note.start, 0.0) / 0.05)
        pitch[span] = curve - fall * np.clip((t - note.start) / note.duration, 0.0, 1.0)
        vibrato[span] = _vibrato(note, voice, t, depth)
        previous = note.pitch - fall
    rate = voice.vibrato_rate * (1.0 + 0.04 * _smooth_noise(rng, size, 0.8))
    phase = 2.0 * np.pi * np.cumsum(rate) * CONTROL_STEP + rng.uniform(0.0, 2.0 * np.pi)
    drift = 0.10 * _smooth_noise(rng, size, 0.5) + 0.04 * _smooth_noise(rng, size, 0.08)
    return pitch + vibrato * np.sin(phase) + drift


def _vowel_formants(vowel: str, voice: VoiceType) -> np.ndarray:
    f1, f2, f3 = VOWELS[vowel]
    # The singer's formant draws F3..F5 together near 2.9 kHz (before scaling by the tract).
    f4, f5 = 3500.0 - 500.0 * voice.ring, 4500.0 - 900.0 * voice.ring
    f3 = f3 + (2700.0 - f3) * 0.5 * voice.ring
    return np.array([f1, f2, f3, f4, f5])


def _envelope(rng: np.random.Generator, note: SungNote, last: bool, size: int) -> np.ndarray:
    """Return the loudness of a syllable, shape `(size,)`."""
    x = np.linspace(0.0, 1.0, size) if size > 1 else np.ones(size)
    swell = 1.0 + float(rng.normal(0.0, 0.2)) * np.sin(np.pi * x) - float(rng.uniform(0.0, 0.3)) * x
    attack = 0.02 if note.connected else float(rng.uniform(0.02, 0.08))
    t = np.arange(size) * CONTROL_STEP
    envelope = note.velocity * swell
    if note.consonant or not note.connected:
        envelope = envelope * np.minimum(t / attack + 0.1, 1.0)
    if last:
        envelope = envelope * np.minimum((t[-1:] + CONTROL_STEP - t) / 0.09, 1.0)
    return envelope


class _Tracks:
    """Curves under construction."""

    def __init__(self, size: int, voice: VoiceType) -> None:
        self.voice = voice
        self.voicing = np.zeros(size)
        self.breath = np.zeros(size)
        self.noise = np.zeros((size, len(NOISE_BANDS)))
        self.formants = np.tile(_vowel_formants("v", voice), (size, 1))
        self.size = size

    def syllable(self, rng: np.random.Generator, note: SungNote, last: bool, gap: float) -> None:
        """Write one note: its vowel, and its consonant before it (or into it, without room)."""
        consonant = CONSONANTS[note.consonant]
        length = consonant.duration * float(rng.uniform(0.8, 1.3))
        # In fast syllables the consonant takes at most a third of the time around it.
        length = min(length, 0.35 * note.duration + max(gap, 0.0))
        span = _slice(note.start, note.end, self.size)
        vowel_level = _envelope(rng, note, last, span.stop - span.start)
        self.voicing[span] = vowel_level
        self.breath[span] = vowel_level * self.voice.breathiness
        x = np.linspace(0.0, 1.0, span.stop - span.start)[:, None]
        start, end = (_vowel_formants(v, self.voice) for v in (note.vowel, note.end_vowel))
        self.formants[span] = start + (end - start) * np.clip(2.0 * x - 0.8, 0.0, 1.0)
        if length > 0.015 and note.consonant:
            self._consonant(rng, consonant, note, length)

    def _consonant(
        self, rng: np.random.Generator, consonant: Consonant, note: SungNote, length: float
    ) -> None:
        whole = _slice(note.start - length, note.start, self.size)
        level = note.velocity * float(rng.uniform(0.7, 1.3))
        self.voicing[whole] = level * consonant.voicing
        self.breath[whole] = 0.0
        target = _vowel_formants(note.vowel, self.voice)
        if consonant.formants is not None:
            target[:3] = consonant.formants
        self.formants[whole] = target
        closed = min(consonant.closure, 0.7 * length)
        open_span = _slice(note.start - length + closed, note.start, self.size)
        n_open = open_span.stop - open_span.start
        if n_open == 0:
            return
        if consonant.closure:  # a burst that dies at once
            shape = np.exp(-np.arange(n_open) * CONTROL_STEP / 0.012)
        else:
            shape = np.sin(np.pi * (np.arange(n_open) + 0.5) / n_open) ** 0.5
        if consonant.band >= 0:
            self.noise[open_span, consonant.band] += level * consonant.noise * shape
        self.breath[open_span] += 0.35 * level * consonant.breath

    def inhale(self, rng: np.random.Generator, stop: float, length: float) -> None:
        """Write a breath that ends just before a phrase begins."""
        span = _slice(stop - length, stop, self.size)
        n = span.stop - span.start
        if n > 4:
            x = (np.arange(n) + 0.5) / n
            self.breath[span] += 0.05 * float(rng.uniform(0.3, 1.0)) * np.sin(np.pi * x) * x


def sing(
    rng: np.random.Generator, notes: tuple[SungNote, ...], voice: VoiceType, duration: float
) -> VoiceControls:
    """Turn notes into control curves.

    Args:
        rng: Source of the personal variation.
        notes: Melody in order of time, at least one note.
        voice: The singer.
        duration: Seconds the curves cover.

    Returns:
        Curves with `ceil(duration / CONTROL_STEP) + 1` steps.
    """
    size = int(np.ceil(duration / CONTROL_STEP)) + 1
    pitch = _pitch_curve(rng, notes, voice, size)
    tracks = _Tracks(size, voice)
    for index, note in enumerate(notes):
        gap = note.start - notes[index - 1].end if index else note.start
        following = notes[index + 1] if index + 1 < len(notes) else None
        last = following is None or not following.connected
        if not note.connected and gap > 0.35 and rng.random() < 0.7:
            lead = CONSONANTS[note.consonant].duration * 1.3 + 0.03
            tracks.inhale(rng, note.start - lead, min(0.45, gap - lead))
        tracks.syllable(rng, note, last, gap if not note.connected else 0.0)
    frequency = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
    # Articulators move in about 60 ms; gains of pulses in about 15 ms, of bursts at once.
    formants = ndimage.gaussian_filter1d(tracks.formants, 0.022 / CONTROL_STEP, axis=0)
    formants *= voice.tract
    # Singers open the jaw so that the first formant does not fall below the fundamental.
    formants[:, 0] = np.maximum(formants[:, 0], 1.02 * frequency)
    formants[:, 1] = np.maximum(formants[:, 1], formants[:, 0] + 150.0)
    return VoiceControls(
        frequency=frequency,
        voicing=ndimage.gaussian_filter1d(tracks.voicing, 0.006 / CONTROL_STEP),
        breath=ndimage.gaussian_filter1d(tracks.breath, 0.006 / CONTROL_STEP),
        noise=tracks.noise,
        formants=formants,
    )
