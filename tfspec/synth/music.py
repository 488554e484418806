"""Composition for the song generator: key, tempo, form, chords and the sung melody.

Everything is in seconds, beats and MIDI numbers: no sample rate appears here, so that the same
seed gives the same music at any rate.
"""

from __future__ import annotations

import dataclasses

import numpy as np

NOTE_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
# Scale degrees (0 = tonic) of common progressions, one chord per bar, repeated.
PROGRESSIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 4), (5, 3, 0, 4), (0, 2, 3, 4), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 6, 5, 4), (0, 3, 4, 0), (0, 2, 6, 3), (0, 5, 3, 4), (0, 0, 5, 6)),
    "dorian": ((0, 3, 0, 3), (0, 2, 3, 0), (0, 6, 3, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 0), (0, 4, 6, 3)),
}
STYLES = ("rock", "pop", "ballad", "dance", "funk", "acoustic", "hiphop")
TEMPO_RANGES: dict[str, tuple[float, float]] = {
    "rock": (95.0, 165.0),
    "pop": (85.0, 130.0),
    "ballad": (58.0, 85.0),
    "dance": (112.0, 136.0),
    "funk": (88.0, 118.0),
    "acoustic": (70.0, 120.0),
    "hiphop": (72.0, 100.0),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """One note of one part: what was played, when and how strongly.

    Attributes:
        start: Onset, seconds from the start of the song.
        duration: Seconds.
        pitch: MIDI number (69 is 440 Hz); fractions are allowed.
        velocity: Linear gain, 0..1.
    """

    start: float
    duration: float
    pitch: float
    velocity: float

    @property
    def end(self) -> float:
        """End of the note in seconds."""
        return self.start + self.duration

    @property
    def frequency(self) -> float:
        """Fundamental frequency in Hz (equal temperament, A4 = 440 Hz)."""
        return 440.0 * 2.0 ** ((self.pitch - 69.0) / 12.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the form, e.g. a verse.

    Attributes:
        name: `"intro"`, `"verse"`, `"chorus"` or `"break"`.
        first_bar: Number of its first bar.
        n_bars: Length in bars.
        start: Seconds.
        end: Seconds.
        vocals: Whether the singer may sing here.
        energy: 0..1, how full the arrangement is.
    """

    name: str
    first_bar: int
    n_bars: int
    start: float
    end: float
    vocals: bool
    energy: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """The frame every part is written in.

    Attributes:
        style: One of `STYLES`.
        tempo: Beats per minute, constant.
        tonic: Pitch class of the key, 0 = C.
        mode: Key of `SCALES`.
        beats_per_bar: 3 or 4.
        swing: Delay of off-beat eighths as a fraction of a beat, 0 = straight.
        offset: Time of the first downbeat in seconds.
        sections: In order, without gaps, covering the song.
        chords: Scale degree of the chord of each bar.
        seventh: Whether chords have four notes.
        duration: Length of the song in seconds.
    """

    style: str
    tempo: float
    tonic: int
    mode: str
    beats_per_bar: int
    swing: float
    offset: float
    sections: tuple[Section, ...]
    chords: tuple[int, ...]
    seventh: bool
    duration: float

    @property
    def beat(self) -> float:
        """Length of a beat in seconds."""
        return 60.0 / self.tempo

    @property
    def key(self) -> str:
        """Name of the key, e.g. `"Eb minor"`."""
        return f"{NOTE_NAMES[self.tonic]} {self.mode}"

    def time(self, bar: int, beat: float) -> float:
        """Return the time in seconds of a beat of a bar, with the swing of off-beats."""
        fraction = beat % 1.0
        late = self.swing if abs(fraction - 0.5) < 1e-6 else 0.0
        return self.offset + (bar * self.beats_per_bar + beat + late) * self.beat

    def degree_pitch(self, degree: int) -> int:
        """Return the MIDI number of a scale degree; degree 0 is the tonic in octave 4 (60..71)."""
        scale = SCALES[self.mode]
        return 60 + self.tonic + 12 * (degree // len(scale)) + scale[degree % len(scale)]

    def chord_degrees(self, bar: int) -> tuple[int, ...]:
        """Return the scale degrees of the chord of a bar, root first."""
        root = self.chords[min(max(bar, 0), len(self.chords) - 1)]
        return tuple(root + step for step in ((0, 2, 4, 6) if self.seventh else (0, 2, 4)))


_ENERGY = {"intro": 0.35, "verse": 0.6, "chorus": 1.0, "break": 0.5}


def _form(rng: np.random.Generator, n_bars: int) -> list[tuple[str, int]]:
    """Return section names and lengths that cover `n_bars`; most of them are sung."""
    if n_bars <= 4:
        return [("chorus" if rng.random() < 0.5 else "verse", n_bars)]
    plan: list[tuple[str, int]] = []
    left = n_bars
    if rng.random() < 0.7:
        plan.append(("intro", int(rng.integers(1, 2 + (n_bars >= 12)))))
    order = ["verse", "chorus"] if rng.random() < 0.75 else ["chorus", "verse"]
    left -= sum(length for _, length in plan)
    turn = 0
    while left > 0:
        if turn and turn % 2 == 0:
            length = min(int(rng.integers(1, 3)), left)
            plan.append(("break", length))
            left -= length
        length = min(4 if n_bars < 24 or rng.random() < 0.5 else 8, left)
        if length:
            plan.append((order[turn % 2], length))
        left -= length
        turn += 1
    return plan


def _sections(
    rng: np.random.Generator,
    mode: str,
    n_bars: int,
    *,
    bar: float,
    offset: float,
    duration: float,
) -> tuple[list[Section], list[int]]:
    """Return the sections and the chord of every bar; `bar` is the length of a bar in seconds."""
    progressions = PROGRESSIONS[mode]
    chosen = {name: progressions[rng.integers(len(progressions))] for name in ("verse", "chorus")}
    sections: list[Section] = []
    chords: list[int] = []
    for name, length in _form(rng, n_bars):
        first = len(chords)
        progression = chosen["chorus" if name == "chorus" else "verse"]
        chords.extend(progression[index % len(progression)] for index in range(length))
        energy = _ENERGY[name]
        sections.append(
            Section(
                name=name,
                first_bar=first,
                n_bars=length,
                start=offset + first * bar if first else 0.0,
                end=min(offset + (first + length) * bar, duration),
                vocals=name in ("verse", "chorus"),
                energy=float(np.clip(energy + rng.normal(0.0, 0.12), 0.1, 1.0)),
            )
        )
    return sections, chords


def compose(rng: np.random.Generator, duration: float) -> Score:
    """Draw style, key, tempo, form and chords of a song of `duration` seconds."""
    style = str(rng.choice(STYLES))
    tempo = float(rng.uniform(*TEMPO_RANGES[style]))
    beats_per_bar = 3 if style in ("ballad", "acoustic") and rng.random() < 0.2 else 4
    mode = str(rng.choice(list(SCALES), p=[0.45, 0.4, 0.08, 0.07]))
    swing = float(rng.uniform(0.05, 0.17)) if rng.random() < 0.25 else 0.0
    bar = beats_per_bar * 60.0 / tempo
    offset = float(rng.uniform(0.0, 60.0 / tempo)) if duration > 4.0 else 0.0
    n_bars = int(np.ceil((duration - offset) / bar))
    sections, chords = _sections(rng, mode, n_bars, bar=bar, offset=offset, duration=duration)
    return Score(
        style=style,
        tempo=tempo,
        tonic=int(rng.integers(12)),
        mode=mode,
        beats_per_bar=beats_per_bar,
        swing=swing,
        offset=offset,
        sections=tuple(sections),
        chords=tuple(chords),
        seventh=bool(rng.random() < (0.6 if style == "funk" else 0.2)),
        duration=duration,
    )
