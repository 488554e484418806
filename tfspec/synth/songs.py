"""Endless four-stem songs with exact ground truth.

`synthesize_song(seed)` writes a short piece of music (key, tempo, form, melody, drums, bass,
chords), sings and plays it, and mixes it. The mixture is the float32 sum of the stems, sample by
sample, so a separation of these songs can be scored without any doubt about the reference.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfspec.errors import ConfigError
from tfspec.synth.accompaniment import (
    render_bass_stem,
    render_drum_stem,
    render_other_stem,
)
from tfspec.synth.effects import compress, echo, pan_gains, reverberate, room_response
from tfspec.synth.levels import balance
from tfspec.synth.melody import SungNote, harmony, sung_melody
from tfspec.synth.music import Score, Section, compose
from tfspec.synth.singing import CONTROL_STEP, VoiceType, draw_voice, sing
from tfspec.synth.voice import render_voice

STEMS = ("vocals", "drums", "bass", "other")
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8000, 48000  # Hz
MIN_DURATION = 1.0  # seconds
MIN_SUNG_SHARE = 0.48  # of songs of ten seconds and more, measured on the notes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Song:
    """A synthetic song.

    Attributes:
        seed: The seed it was made from.
        sample_rate: Hz.
        stems: Waveforms `(samples, channels)` float32 in [-1, 1], keys `STEMS` in that order.
        mixture: `((vocals + drums) + bass) + other` in float32, `(samples, channels)`.
        tempo: Beats per minute.
        key: Name of the key, e.g. `"Eb minor"`.
        style: One of `music.STYLES`.
        sections: Form of the song.
        notes: Lead vocal, note by note, the same at every sample rate.
        vocal_f0: Fundamental of the lead voice in Hz, shape `(steps,)` float32, one value every
            `vocal_f0_step` seconds from 0; 0 where the voice does not sound.
        vocal_f0_step: Seconds.
        voice: The lead singer.
    """

    seed: int
    sample_rate: int
    stems: dict[str, np.ndarray]
    mixture: np.ndarray
    tempo: float
    key: str
    style: str
    sections: tuple[Section, ...]
    notes: tuple[SungNote, ...]
    vocal_f0: np.ndarray
    vocal_f0_step: float
    voice: VoiceType

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.mixture.shape[0] / self.sample_rate


def synthesize_song(
    seed: int, *, duration: float = 30.0, sample_rate: int = 44100, channels: int = 2
) -> Song:
    """Make a song.

    The same arguments give the same samples. The same seed and duration at another sample rate
    give the same notes and sounds. A mono song is, stem by stem, the mean of the two channels of
    the stereo song of the same seed.

    Args:
        seed: Any non-negative integer.
        duration: Seconds, at least 1; the song has `round(duration * sample_rate)` samples.
        sample_rate: Hz, 8000 to 48000.
        channels: 1 or 2.

    Returns:
        The song; its mixture and stems stay below 1 in magnitude without clipping.

    Raises:
        ConfigError: An argument is outside its range.
    """
    _check(seed, duration, sample_rate, channels)
    n_samples = round(duration * sample_rate)
    score, voice, notes = _write(seed, duration)
    stems, f0 = _perform(seed, score, voice, notes, n_samples, sample_rate)
    balance(np.random.default_rng([seed, 3]), stems, score, sample_rate)
    if channels == 1:
        stems = {name: stem.mean(axis=0, keepdims=True) for name, stem in stems.items()}
    waveforms = {name: np.ascontiguousarray(stems[name].T) for name in STEMS}
    return Song(
        seed=seed,
        sample_rate=sample_rate,
        stems=waveforms,
        mixture=mix(waveforms),
        tempo=score.tempo,
        key=score.key,
        style=score.style,
        sections=score.sections,
        notes=notes,
        vocal_f0=f0,
        vocal_f0_step=CONTROL_STEP,
        voice=voice,
    )


def mix(stems: dict[str, np.ndarray]) -> np.ndarray:
    """Return `((vocals + drums) + bass) + other`, float32, of the shape of each stem."""
    total = stems["vocals"] + stems["drums"]
    total += stems["bass"]
    total += stems["other"]
    return total


def _check(seed: int, duration: float, sample_rate: int, channels: int) -> None:
    if seed < 0:
        raise ConfigError(f"`seed` must be an integer of at least 0. Received: seed={seed}")
    if not (duration >= MIN_DURATION and np.isfinite(duration)):
        raise ConfigError(
            f"`duration` must be at least {MIN_DURATION} seconds. Received: duration={duration}"
        )
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise ConfigError(
            f"`sample_rate` must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz. "
            f"Received: sample_rate={sample_rate}"
        )
    if channels not in (1, 2):
        raise ConfigError(f"`channels` must be 1 or 2. Received: channels={channels}")


def _write(seed: int, duration: float) -> tuple[Score, VoiceType, tuple[SungNote, ...]]:
    """Draw score, singer and melody; songs with too little singing are drawn again."""
    rng = np.random.default_rng([seed, 0])
    needed = MIN_SUNG_SHARE if duration >= 10.0 else 0.25
    while True:
        score = compose(rng, duration)
        spoken = score.style == "hiphop" and bool(rng.random() < 0.6)
        voice = draw_voice(rng, spoken=spoken)
        notes = sung_melody(rng, score, centre=voice.centre, spoken=spoken)
        if sum(note.duration for note in notes) >= needed * duration:
            return score, voice, notes


def _perform(
    seed: int,
    score: Score,
    voice: VoiceType,
    notes: tuple[SungNote, ...],
    n_samples: int,
    sample_rate: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the stems `(2, n_samples)` at no particular level, and the lead's fundamental."""
    # Music and noise draw from separate generators: how many noise samples a sound needs depends
    # on the sample rate, what is played does not.
    music = [np.random.default_rng([seed, 1, part]) for part in range(4)]
    noise = [np.random.default_rng([seed, 2, part]) for part in range(4)]
    size = {"n_samples": n_samples, "sample_rate": sample_rate}
    vocals, f0 = _vocal_stem(music[0], noise[0], score, voice, notes, n_samples, sample_rate)
    stems = {
        "vocals": vocals,
        "drums": render_drum_stem(music[1], noise[1], score, **size),
        "bass": render_bass_stem(music[2], score, **size),
        "other": render_other_stem(music[3], noise[3], score, **size),
    }
    return stems, f0


def _backing(
    rng: np.random.Generator, score: Score, voice: VoiceType, notes: tuple[SungNote, ...]
) -> list[tuple[tuple[SungNote, ...], VoiceType, float, float]]:
    """Return notes, singer, gain and place of the voices besides the lead."""
    parts: list[tuple[tuple[SungNote, ...], VoiceType, float, float]] = []
    if not voice.spoken and rng.random() < 0.35:
        where = ("chorus",) if rng.random() < 0.7 else ("verse", "chorus")
        steps = int(rng.choice([2, 2, -3, 4, -2]))
        second = dataclasses.replace(
            draw_voice(rng), tract=voice.tract * float(rng.uniform(0.95, 1.1))
        )
        harmony_notes = harmony(score, notes, steps=steps, sections=where)
        gain = 10.0 ** (rng.uniform(-10.0, -3.0) / 20.0)
        parts.append((harmony_notes, second, float(gain), float(rng.uniform(-0.7, 0.7))))
    elif rng.random() < 0.15:  # the lead sung twice
        double = dataclasses.replace(voice, jitter=1.2 * voice.jitter)
        late = tuple(
            dataclasses.replace(note, start=max(note.start + float(rng.normal(0.01, 0.01)), 0.0))
            for note in notes
        )
        parts.append((late, double, float(rng.uniform(0.4, 0.9)), float(rng.uniform(-0.6, 0.6))))
    return [part for part in parts if part[0]]


def _vocal_stem(
    rng: np.random.Generator,
    noise: np.random.Generator,
    score: Score,
    voice: VoiceType,
    notes: tuple[SungNote, ...],
    n_samples: int,
    sample_rate: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return lead and backing voices with echo and room, and the lead's fundamental."""
    lead = sing(rng, notes, voice, score.duration)
    f0 = np.where(lead.voicing > 0.05, lead.frequency, 0.0).astype(np.float32)
    dry = np.zeros((2, n_samples), dtype=np.float32)
    parts = [(lead, voice, 1.0, float(rng.choice([0.0, 0.0, rng.uniform(-0.25, 0.25)])))]
    for part, singer, gain, place in _backing(rng, score, voice, notes):
        parts.append((sing(rng, part, singer, score.duration), singer, gain, place))
    for controls, singer, gain, place in parts:
        sound = render_voice(noise, controls, singer, n_samples=n_samples, sample_rate=sample_rate)
        sound = compress(sound, sample_rate, ratio=2.5)
        dry += np.float32(gain) * pan_gains(place)[:, None] * sound
    if rng.random() < 0.25:
        delay = score.beat * float(rng.choice([0.25, 0.5, 0.75]))
        dry = echo(
            dry, delay=delay, feedback=float(rng.uniform(0.15, 0.4)), sample_rate=sample_rate
        )
    rt60, wet = float(rng.uniform(0.3, 2.2)), float(10.0 ** (rng.uniform(-26.0, -9.0) / 20.0))
    predelay = float(rng.uniform(0.0, 0.04))
    response = room_response(noise, rt60=rt60, predelay=predelay, sample_rate=sample_rate)
    return reverberate(dry, response, wet=wet), f0
