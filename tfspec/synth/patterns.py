"""What the accompaniment plays: drum, bass, chord and lead patterns for a score."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfspec.synth.drums import Hit
from tfspec.synth.music import Note, Score, Section

# Strokes within a bar of four beats, in beats.
_GROOVES: dict[str, tuple[tuple[tuple[float, ...], tuple[float, ...], float], ...]] = {
    "rock": (((0, 2), (1, 3), 0.5), ((0, 1.5, 2), (1, 3), 0.5), ((0, 2, 2.5), (1, 3), 0.5)),
    "pop": (((0, 2.5), (1, 3), 0.5), ((0, 0.5, 2), (1, 3), 0.5), ((0, 1.75, 2.5), (1, 3), 0.25)),
    "ballad": (((0,), (2,), 0.5), ((0, 1.5), (2,), 1.0), ((0, 2.5), (1, 3), 0.5)),
    "dance": (((0, 1, 2, 3), (1, 3), 0.5), ((0, 1, 2, 3), (), 0.25)),
    "funk": (((0, 0.75, 2.5), (1, 3), 0.25), ((0, 1.5, 1.75, 2.5), (1, 2.25, 3), 0.25)),
    "acoustic": (((0, 2), (1, 3), 1.0), ((0,), (), 0.5), ((0, 2), (3,), 0.5)),
    "hiphop": (((0, 1.75, 2.5), (1, 3), 0.5), ((0, 0.75, 2.25), (1, 3), 0.25)),
}
_BASS_RHYTHMS: dict[str, tuple[tuple[float, ...], ...]] = {
    "rock": (tuple(i / 2 for i in range(8)), (0, 1.5, 2, 3)),
    "pop": ((0, 1.5, 2, 3.5), (0, 0.5, 2, 2.5), (0, 1, 2, 3)),
    "ballad": ((0, 2), (0, 1.5, 2), (0,)),
    "dance": ((0.5, 1.5, 2.5, 3.5), tuple(i / 4 for i in range(16) if i % 4)),
    "funk": ((0, 0.75, 1.5, 2.5, 3.25, 3.5), (0, 0.5, 1.75, 2.5, 3.75)),
    "acoustic": ((0, 2), (0, 1, 2, 3)),
    "hiphop": ((0, 1.75, 2.5), (0, 0.75, 2.25)),
}


def _human(rng: np.random.Generator, time: float, spread: float = 0.004) -> float:
    """Return a time as a person plays it, not before the song."""
    return max(time + float(np.clip(rng.normal(0.0, spread), -0.012, 0.012)), 0.0)


def _bars(score: Score) -> Iterator[tuple[Section, int]]:
    for section in score.sections:
        for bar in range(section.first_bar, section.first_bar + section.n_bars):
            yield section, bar


def _fill(rng: np.random.Generator, score: Score, bar: int) -> list[Hit]:
    """Return a fill over the last one or two beats of a bar."""
    beats = float(rng.choice([1.0, 2.0]))
    sounds = rng.permutation(["snare", "tom1", "tom2", "tom3"])
    hits = []
    steps = np.arange(0.0, beats, 0.25)
    for index, step in enumerate(steps):
        if rng.random() < 0.85:
            sound = str(sounds[min(int(index * 4 / len(steps)), 3)])
            time = score.time(bar, score.beats_per_bar - beats + float(step))
            hits.append(Hit(time=time, sound=sound, velocity=float(rng.uniform(0.5, 1.0))))
    return hits


def drum_part(rng: np.random.Generator, score: Score) -> tuple[Hit, ...]:
    """Write the drums: groove, hats, fills before a new section and crashes on its first beat."""
    options = _GROOVES[score.style]
    kicks, snares, grid = options[rng.integers(len(options))]
    timekeeper = str(rng.choice(["hat", "hat", "ride", "shaker"]))
    back = "clap" if score.style in ("dance", "hiphop") and rng.random() < 0.5 else "snare"
    if score.style == "acoustic":
        back = str(rng.choice(["rim", "snare"]))
    silent_intro = rng.random() < 0.5
    open_beat = float(rng.choice([-1.0, 0.5, 2.5, 3.5]))
    hits: list[Hit] = []
    for section, bar in _bars(score):
        first, last = bar == section.first_bar, bar == section.first_bar + section.n_bars - 1
        if section.name == "intro" and silent_intro and not last:
            continue
        meter = score.beats_per_bar
        soft = 0.6 + 0.4 * section.energy
        for beats, sound in ((kicks, "kick"), (snares, back)):
            for beat in beats:
                if beat < meter and not (section.energy < 0.3 and sound != "kick"):
                    velocity = soft * float(rng.uniform(0.85, 1.0))
                    time = _human(rng, score.time(bar, beat))
                    hits.append(Hit(time=time, sound=sound, velocity=velocity))
        for beat in np.arange(0.0, meter, grid):
            strong = 1.0 if beat % 1.0 == 0.0 else 0.65
            sound = "open_hat" if timekeeper == "hat" and beat == open_beat else timekeeper
            time = _human(rng, score.time(bar, float(beat)))
            velocity = soft * strong * float(rng.uniform(0.7, 1.0))
            hits.append(Hit(time=time, sound=sound, velocity=velocity))
        if first and bar and rng.random() < 0.7:
            hits.append(Hit(time=score.time(bar, 0.0), sound="crash", velocity=soft))
        if last and rng.random() < 0.6:
            hits.extend(_fill(rng, score, bar))
    kept = (hit for hit in hits if 0.0 <= hit.time < score.duration)
    return tuple(sorted(kept, key=lambda hit: hit.time))


def _note(
    score: Score, start: float, duration: float, pitch: float, velocity: float
) -> Note | None:
    if not 0.0 <= start < score.duration - 0.02:
        return None
    length = max(min(duration, score.duration - start), 0.02)
    return Note(start=start, duration=length, pitch=float(pitch), velocity=float(velocity))


def _fold(pitch: float, low: float) -> float:
    """Return the pitch moved by octaves into `low <= pitch < low + 12`."""
    return low + (pitch - low) % 12.0


def bass_part(rng: np.random.Generator, score: Score) -> tuple[Note, ...]:
    """Write the bass: roots with fifths, octaves and passing notes in the style's rhythm."""
    options = _BASS_RHYTHMS[score.style]
    rhythm = options[rng.integers(len(options))]
    low = float(rng.integers(28, 34))
    length_share = float(rng.uniform(0.5, 0.98))
    skips_intro = rng.random() < 0.5
    notes: list[Note | None] = []
    for section, bar in _bars(score):
        if section.name == "intro" and skips_intro:
            continue
        beats = [beat for beat in rhythm if beat < score.beats_per_bar]
        root, third, fifth = score.chord_degrees(bar)[:3]
        for index, beat in enumerate(beats):
            following = beats[index + 1] if index + 1 < len(beats) else float(score.beats_per_bar)
            degree = root if index == 0 else int(rng.choice([root, root, root, fifth, third]))
            pitch = _fold(score.degree_pitch(degree), low)
            if index and rng.random() < 0.1:
                pitch += 12.0
            start = score.time(bar, beat)
            duration = (following - beat) * score.beat * length_share
            velocity = float(rng.uniform(0.8, 1.0))
            notes.append(_note(score, _human(rng, start), duration, pitch, velocity))
    return tuple(note for note in notes if note is not None)


def _voicing(score: Score, bar: int, low: float) -> list[float]:
    return sorted(_fold(score.degree_pitch(degree), low) for degree in score.chord_degrees(bar))


def chord_part(
    rng: np.random.Generator, score: Score, *, figure: str, low: float, single: bool = False
) -> tuple[Note, ...]:
    """Write an accompaniment.

    Args:
        rng: Source of every choice.
        score: Frame of the song.
        figure: `"held"` (whole bars), `"strum"`, `"stab"` or `"arpeggio"`.
        low: Lowest MIDI pitch of the voicing.
        single: Only the root (for patches that are chords themselves).

    Returns:
        Notes in order of bars.
    """
    present = {
        name: rng.random() < share
        for name, share in (("intro", 0.7), ("verse", 0.85), ("chorus", 1.0), ("break", 0.7))
    }
    eighths = np.arange(0.0, score.beats_per_bar, 0.5)
    strokes = [float(beat) for beat in eighths if rng.random() < (0.75 if beat % 1 == 0 else 0.4)]
    strokes = strokes or [0.0]
    order = rng.permutation(8)
    notes: list[Note | None] = []
    for section, bar in _bars(score):
        if not present[section.name]:
            continue
        pitches = _voicing(score, bar, low)[: 1 if single else None]
        soft = 0.6 + 0.4 * section.energy
        if figure == "arpeggio":
            ladder = [*pitches, *[pitch + 12.0 for pitch in pitches]]
            for index, beat in enumerate(eighths):
                pitch = ladder[int(order[index % 8]) % len(ladder)]
                start = _human(rng, score.time(bar, float(beat)))
                velocity = soft * float(rng.uniform(0.7, 1.0))
                notes.append(_note(score, start, 0.5 * score.beat, pitch, velocity))
            continue
        beats = [0.0] if figure == "held" else strokes
        for index, beat in enumerate(beats):
            following = beats[index + 1] if index + 1 < len(beats) else float(score.beats_per_bar)
            held = (following - beat) * score.beat * (0.25 if figure == "stab" else 0.97)
            spread = 0.012 * float(rng.choice([-1.0, 1.0])) if figure == "strum" else 0.0
            start = score.time(bar, beat)
            velocity = soft * float(rng.uniform(0.75, 1.0))
            for place, pitch in enumerate(pitches):
                late = spread * (place if spread > 0 else place - len(pitches) + 1)
                notes.append(_note(score, max(start + abs(late), 0.0), held, pitch, velocity))
    return tuple(note for note in notes if note is not None)


def lead_part(
    rng: np.random.Generator, score: Score, *, centre: float, over_vocals: bool
) -> tuple[Note, ...]:
    """Write an instrumental melody: in sections without singing, or as fills over it."""
    degrees = np.arange(-21, 22)
    pitches = np.array([score.degree_pitch(int(degree)) for degree in degrees])
    home = int(degrees[np.argmin(np.abs(pitches - centre))])
    degree = home
    notes: list[Note | None] = []
    for section, bar in _bars(score):
        if section.vocals and not (over_vocals and rng.random() < 0.5):
            continue
        beat = float(rng.choice([0.0, 0.5, 1.0]))
        while beat < score.beats_per_bar:
            length = float(rng.choice([0.5, 0.5, 1.0, 1.5, 2.0]))
            degree += int(rng.integers(-2, 3))
            degree = int(np.clip(degree, home - 6, home + 6))
            if rng.random() < 0.85:
                start = _human(rng, score.time(bar, beat))
                duration = 0.95 * length * score.beat
                pitch = score.degree_pitch(degree)
                notes.append(_note(score, start, duration, pitch, float(rng.uniform(0.7, 1.0))))
            beat += length
    return tuple(note for note in notes if note is not None)
