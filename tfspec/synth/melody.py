"""The sung melody: phrases of syllables on the notes of a key.

A phrase is a row of connected syllables followed by a rest. Each syllable has a pitch, an opening
consonant and a vowel; a melisma keeps the vowel over several pitches.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfspec.synth.music import Note, Score, Section
from tfspec.synth.phonemes import CONSONANTS, VOWELS

_RHYTHMS = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0])  # beats
_STEPS = np.array([-4, -3, -2, -1, 0, 1, 2, 3, 4])  # scale degrees between neighbours
_STEP_WEIGHTS = np.array([1, 2, 5, 12, 7, 12, 6, 2, 1]) / 48.0
SHORTEST_SYLLABLE = 0.11  # seconds; faster than this nobody articulates


@dataclasses.dataclass(frozen=True, kw_only=True)
class SungNote(Note):
    """A note with its syllable.

    Attributes:
        consonant: Key of `phonemes.CONSONANTS`; empty for a pure vowel or a melisma.
        vowel: Key of `phonemes.VOWELS`.
        end_vowel: Vowel at the end (differs from `vowel` in a diphthong).
        connected: Whether the voice comes from the note before without a rest.
        degree: Scale degree, for harmony voices.
    """

    consonant: str
    vowel: str
    end_vowel: str
    connected: bool
    degree: int


def _rhythm(rng: np.random.Generator, beats: float, beat: float, density: float) -> list[float]:
    """Return note lengths in beats that fill `beats`; the last one is long."""
    weights = np.array([0.4, 2.2, 0.5, 1.6, 0.5, 0.5, 0.1])
    weights = weights * np.where(_RHYTHMS < 1.0, density, 1.0 / density)
    weights[_RHYTHMS * beat < SHORTEST_SYLLABLE] = 0.0
    lengths: list[float] = []
    left = beats
    while left > 1e-6:
        fits = weights * (left + 1e-6 > _RHYTHMS)
        if fits.sum() <= 0.0:
            break
        lengths.append(float(rng.choice(_RHYTHMS, p=fits / fits.sum())))
        left -= lengths[-1]
    return lengths or [beats]


def _nearest_chord_degree(score: Score, bar: int, degree: int) -> int:
    chord = {value % 7 for value in score.chord_degrees(bar)[:3]}
    return min(
        (degree + step for step in range(-3, 4) if (degree + step) % 7 in chord),
        key=lambda candidate: abs(candidate - degree),
    )


def _syllable(rng: np.random.Generator, previous: str) -> tuple[str, str, str]:
    """Return consonant, vowel and end vowel; a consonant never follows itself."""
    names = list(CONSONANTS)
    weights = np.array([CONSONANTS[name].weight for name in names])
    weights = weights * np.array([name != previous for name in names])
    consonant = str(rng.choice(names, p=weights / weights.sum()))
    vowel = str(rng.choice(list(VOWELS)))
    end = vowel
    if rng.random() < 0.25:
        end = str(rng.choice(["i", "u", "I", "U"]))
    return consonant, vowel, end


class _Singer:
    """State that runs through a song: the current degree and the motifs already sung."""

    def __init__(self, rng: np.random.Generator, score: Score, centre: float, spoken: bool) -> None:
        self.rng = rng
        self.score = score
        self.spoken = spoken
        self.density = float(rng.uniform(0.6, 1.6)) * (2.5 if spoken else 1.0)
        degrees = np.arange(-28, 29)
        pitches = np.array([score.degree_pitch(int(degree)) for degree in degrees])
        self.centre = int(degrees[np.argmin(np.abs(pitches - centre))])
        self.degree = self.centre
        self.motifs: dict[tuple[str, int], tuple[list[float], list[int]]] = {}

    def _motif(self, section: Section, place: int, beats: float) -> tuple[list[float], list[int]]:
        """Return rhythm and steps of a phrase; verses and choruses repeat theirs."""
        known = self.motifs.get((section.name, place))
        if known is not None and self.rng.random() < 0.65 and sum(known[0]) <= beats + 1e-6:
            return known
        lengths = _rhythm(self.rng, beats, self.score.beat, self.density)
        steps = [int(self.rng.choice(_STEPS, p=_STEP_WEIGHTS)) for _ in lengths]
        self.motifs[section.name, place] = (lengths, steps)
        return lengths, steps

    def _next_degree(self, bar: int, strong: bool, step: int, lift: int) -> int:
        degree = self.degree + step
        # Singers stay in their range: beyond a fifth from the centre the line turns back.
        if abs(degree - self.centre - lift) > 4:
            degree -= 2 * step if step else 2 * int(np.sign(degree - self.centre - lift))
        degree = int(np.clip(degree, self.centre + lift - 6, self.centre + lift + 6))
        self.degree = _nearest_chord_degree(self.score, bar, degree) if strong else degree
        return self.degree

    def phrase(self, section: Section, bar: int, n_bars: int, place: int) -> list[SungNote]:
        """Return the notes of a phrase that starts in `bar` and lasts `n_bars` with its rest."""
        rng, score = self.rng, self.score
        begin = float(rng.choice([0.0, 0.0, 0.5, 1.0]))
        rest = float(rng.choice([0.25, 0.5, 1.0, 1.5], p=[0.2, 0.35, 0.3, 0.15]))
        total = n_bars * score.beats_per_bar - begin - rest
        lengths, steps = self._motif(section, place, max(total, 0.5))
        lift = 2 if section.name == "chorus" else 0
        notes: list[SungNote] = []
        position, consonant, vowel, end = begin, "", "a", "a"
        for index, (length, step) in enumerate(zip(lengths, steps, strict=True)):
            now = bar + int(position // score.beats_per_bar)
            melisma = index > 0 and not self.spoken and rng.random() < 0.12
            if melisma:
                consonant, vowel = "", end
            else:
                consonant, vowel, end = _syllable(rng, consonant)
            degree = self._next_degree(now, position % 1.0 == 0.0 and length >= 0.5, step, lift)
            start = score.time(bar, position)
            stop = score.time(bar, position + length)
            pitch = score.degree_pitch(degree) + (rng.normal(0.0, 2.0) if self.spoken else 0.0)
            notes.append(
                SungNote(
                    start=start,
                    duration=(stop - start) * (1.0 if index + 1 < len(lengths) else 0.95),
                    pitch=float(pitch),
                    velocity=float(np.clip(rng.normal(0.75 + 0.1 * (lift > 0), 0.1), 0.35, 1.0)),
                    consonant=consonant,
                    vowel=vowel,
                    end_vowel=end,
                    connected=index > 0,
                    degree=degree,
                )
            )
            position += length
        return notes


def sung_melody(
    rng: np.random.Generator, score: Score, *, centre: float, spoken: bool
) -> tuple[SungNote, ...]:
    """Write the lead vocal of a song.

    Args:
        rng: Source of every choice.
        score: Frame of the song.
        centre: Comfortable MIDI pitch of the singer.
        spoken: Rhythmic speech (fast syllables off the scale) instead of singing.

    Returns:
        Notes in order of time, all within the song.
    """
    singer = _Singer(rng, score, centre, spoken)
    bar_length = score.beat * score.beats_per_bar
    notes: list[SungNote] = []
    for section in score.sections:
        if not section.vocals:
            continue
        # A phrase lasts as long as a breath: two bars, four if they are short, one if long.
        size = 4 if bar_length < 1.6 else 2 if bar_length < 3.2 else 1
        bar, last = section.first_bar, section.first_bar + section.n_bars
        while bar < last:
            length = min(size, last - bar)
            notes.extend(singer.phrase(section, bar, length, (bar - section.first_bar) // size % 2))
            bar += length
    return _fit(notes, score.duration)


def _fit(notes: list[SungNote], duration: float) -> tuple[SungNote, ...]:
    """Drop notes beyond the end and shorten the last one."""
    kept = [note for note in notes if note.start < duration - SHORTEST_SYLLABLE]
    return tuple(
        dataclasses.replace(note, duration=min(note.duration, duration - note.start))
        for note in kept
    )


def harmony(
    score: Score, notes: tuple[SungNote, ...], *, steps: int, sections: tuple[str, ...]
) -> tuple[SungNote, ...]:
    """Return a second voice `steps` scale degrees from the lead in the named sections."""
    spans = [(part.start, part.end) for part in score.sections if part.name in sections]
    voice: list[SungNote] = []
    for note in notes:
        if any(start - 1e-6 <= note.start < end for start, end in spans):
            pitch = score.degree_pitch(note.degree + steps)
            connected = note.connected and bool(voice)
            voice.append(
                dataclasses.replace(
                    note, pitch=float(pitch), degree=note.degree + steps, connected=connected
                )
            )
    return tuple(voice)
