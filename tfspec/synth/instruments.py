"""Pitched instruments: bass, chords and leads from band-limited wavetables.

A patch describes one period of the sound at a few stages between bright and dull (or between the
pluck and the end of a string). The period is computed in the frequency domain with harmonics
below the Nyquist frequency only; a note reads it at its pitch and moves between the stages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import fft

from tfspec.synth.effects import pan_gains
from tfspec.synth.music import Note

TABLE_SIZE = 4096  # points of one period
STAGES = 8  # stages of a patch
_HIGHEST = 0.46  # harmonics reach this fraction of the sample rate
KINDS = ("subtractive", "fm", "plucked", "organ", "bowed", "power")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patch:
    """The sound of an instrument.

    Attributes:
        kind: One of `KINDS`: a filtered oscillator, frequency modulation, a plucked string,
            drawbars, a bowed or blown tone with body resonances, or a distorted power chord.
        bright: Hz, upper corner of the filter, or brightness at the onset.
        dull: Hz, lower corner of the filter.
        colour: 0..1, meaning depends on the kind (pulse width, plucking point, modulation ratio).
        seed: Seed of the fixed random details (body resonances, drawbars, pluck noise).
        attack: Seconds.
        decay: Seconds until the stage has moved half way, and the level falls to `sustain`.
        sustain: Level that is held, 0..1.
        release: Seconds.
        vibrato: Semitones, peak.
        vibrato_rate: Hz.
        detune: Cents between the two layers of a wide patch.
        pan: -1 .. 1.
        width: 0 (one layer) .. 1 (two layers, hard left and right).
    """

    kind: str
    bright: float
    dull: float
    colour: float
    seed: int
    attack: float
    decay: float
    sustain: float
    release: float
    vibrato: float = 0.0
    vibrato_rate: float = 5.5
    detune: float = 0.0
    pan: float = 0.0
    width: float = 0.0


def _lowpass(frequencies: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return 24 dB per octave responses with a small resonance, `(stages, harmonics)`."""
    x = frequencies[None, :] / corners[:, None]
    return 1.0 / np.sqrt((1.0 - x * x) ** 2 + 0.7 * x * x) / np.sqrt(1.0 + x * x)


def _corners(patch: Patch) -> np.ndarray:
    return np.geomspace(patch.bright, patch.dull, STAGES)


def _saw(patch: Patch, h: np.ndarray, frequency: float) -> np.ndarray:
    # A pulse of width w is the difference of two saws; w = 0 leaves the saw itself.
    width = 0.5 * patch.colour
    spectrum = (1.0 - (np.exp(-2j * np.pi * h * width) if patch.colour > 0.3 else 0.0)) / h
    return spectrum * _lowpass(h * frequency, _corners(patch))


def _plucked(patch: Patch, h: np.ndarray, frequency: float) -> np.ndarray:
    rng = np.random.default_rng(patch.seed)
    noise = rng.standard_normal(2048) + 1j * rng.standard_normal(2048)
    pluck = np.sin(np.pi * h * (0.08 + 0.4 * patch.colour)) / h
    strike = pluck * (0.6 + 0.4 * noise[: h.size]) / (1.0 + (h * frequency / patch.bright) ** 2)
    # Each harmonic of a string decays on its own: losses grow with frequency. The stages lie at
    # quadratically growing times, see `_position`.
    times = patch.decay * 4.0 * (np.arange(STAGES) / (STAGES - 1)) ** 2
    loss = (1.0 + (h * frequency / patch.dull) ** 1.2) / patch.decay
    return strike * np.exp(-times[:, None] * loss)


def _organ(patch: Patch, h: np.ndarray, frequency: float) -> np.ndarray:
    rng = np.random.default_rng(patch.seed)
    spectrum = np.zeros(h.size)
    for harmonic in (1, 2, 3, 4, 6, 8, 10, 12, 16):
        if harmonic <= h.size:
            spectrum[harmonic - 1] = rng.uniform(0.0, 1.0) / harmonic**0.5
    spectrum[0] += 0.3
    return np.tile(spectrum / (1.0 + (h * frequency / patch.bright) ** 2), (STAGES, 1))


def _bowed(patch: Patch, h: np.ndarray, frequency: float) -> np.ndarray:
    rng = np.random.default_rng(patch.seed)
    body = np.full(h.size, 0.25)
    for centre in np.geomspace(300.0, 4000.0, 6) * rng.uniform(0.8, 1.25, 6):
        octaves = np.log2(h * frequency / centre) / rng.uniform(0.1, 0.4)
        body += rng.uniform(0.2, 1.0) * np.exp(-0.5 * octaves**2)
    odd = np.where(h % 2 == 0, 1.0 - patch.colour, 1.0)  # a clarinet has few even harmonics
    return body * odd / h * _lowpass(h * frequency, _corners(patch))


def _from_waves(waves: np.ndarray, h: np.ndarray) -> np.ndarray:
    return fft.rfft(waves, axis=1)[:, 1 : h.size + 1]


def _fm(patch: Patch, h: np.ndarray, frequency: float) -> np.ndarray:
    phase = 2.0 * np.pi * np.arange(TABLE_SIZE) / TABLE_SIZE
    ratio = 1 + int(patch.colour * 6.99)
    start = min(patch.bright / frequency / ratio, 6.0)
    index = start * np.geomspace(1.0, 0.08, STAGES)[:, None]
    waves = np.sin(phase + index * np.sin(ratio * phase)) + 0.2 * np.sin(2.0 * phase)
    return _from_waves(waves, h) / (1.0 + (h * frequency / 8000.0) ** 2)


def _power(patch: Patch, h: np.ndarray, frequency: float) -> np.ndarray:
    # Root, fifth and octave are harmonics 2, 3 and 4 of a tone an octave below the root, so the
    # distorted chord is periodic and can be band-limited like any other table.
    phase = 2.0 * np.pi * np.arange(TABLE_SIZE) / TABLE_SIZE
    clean = sum(
        np.sin(k * harmonic * phase + 0.3 * harmonic) / harmonic
        for k in (2, 3, 4)
        for harmonic in range(1, 6)
    )
    drive = (2.0 + 10.0 * patch.colour) * np.geomspace(1.0, 0.4, STAGES)[:, None]
    cabinet = 1.0 / (1.0 + (h * frequency / patch.bright) ** 4)
    return _from_waves(np.tanh(drive * clean), h) * cabinet


_SPECTRA = {
    "subtractive": _saw,
    "plucked": _plucked,
    "organ": _organ,
    "bowed": _bowed,
    "fm": _fm,
    "power": _power,
}


def wavetable(patch: Patch, frequency: float, sample_rate: int) -> np.ndarray:
    """Return the periods of a patch at one pitch.

    Args:
        patch: The instrument.
        frequency: Fundamental of the table in Hz.
        sample_rate: Hz.

    Returns:
        Stages, shape `(STAGES, TABLE_SIZE + 1)` float32; the last point repeats the first. The
        first stage has unit power.
    """
    count = int(np.clip(_HIGHEST * sample_rate / frequency, 1, TABLE_SIZE // 4))
    spectrum = np.zeros((STAGES, TABLE_SIZE // 2 + 1), dtype=np.complex128)
    h = np.arange(1.0, count + 1.0)
    spectrum[:, 1 : count + 1] = _SPECTRA[patch.kind](patch, h, frequency)
    table = fft.irfft(spectrum, TABLE_SIZE, axis=1)
    table /= np.sqrt(np.mean(table[0] ** 2)) + 1e-12
    return np.concatenate([table, table[:, :1]], axis=1).astype(np.float32)


def read_table(table: np.ndarray, cycles: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Read a wavetable with linear interpolation in phase and stage.

    Args:
        table: From `wavetable`.
        cycles: Phase in periods, shape `(samples,)`, >= 0.
        position: Stage, shape `(samples,)` float32 within 0 .. STAGES - 1.

    Returns:
        Samples, float32.
    """
    n = table.shape[1] - 1
    x = ((cycles - np.floor(cycles)) * n).astype(np.float32)
    column = np.minimum(x.astype(np.int32), n - 1)
    x -= column
    row = np.minimum(position.astype(np.int32), STAGES - 2)
    column += row * np.int32(n + 1)
    flat = table.ravel()
    here = flat[column]
    here += x * (flat[column + 1] - here)
    column += np.int32(n + 1)
    there = flat[column]
    there += x * (flat[column + 1] - there)
    there -= here
    there *= position - row
    here += there
    return here


def _position(patch: Patch, t: np.ndarray) -> np.ndarray:
    if patch.kind == "plucked":
        return np.minimum(np.sqrt(t / (4.0 * patch.decay)), 1.0) * np.float32(STAGES - 1)
    opening = np.minimum(t / np.float32(max(2.0 * patch.attack, 1e-3)), 1.0)
    fall = 1.0 - np.exp(-t * np.float32(0.7 / patch.decay))
    return ((1.0 - opening) * np.float32(0.5) + opening * fall) * np.float32(STAGES - 1)


def _level(patch: Patch, t: np.ndarray, held: float) -> np.ndarray:
    level = np.minimum(t / np.float32(max(patch.attack, 0.002)), 1.0)
    if patch.kind != "plucked" and patch.sustain < 1.0:
        fall = np.exp(-t * np.float32(1.0 / patch.decay))
        level *= np.float32(patch.sustain) + np.float32(1.0 - patch.sustain) * fall
    tail = t > held
    level[tail] *= np.clip(1.0 - (t[tail] - held) / np.float32(patch.release), 0.0, 1.0) ** 2
    return level


def render_note(
    patch: Patch, frequency: float, duration: float, *, sample_rate: int, phase: float = 0.0
) -> np.ndarray:
    """Synthesise one note.

    Args:
        patch: The instrument.
        frequency: Fundamental in Hz.
        duration: Seconds that the note is held; its release follows.
        sample_rate: Hz.
        phase: Starting phase in periods.

    Returns:
        Samples, shape `(round((duration + release) * sample_rate),)` float32.
    """
    n_samples = round((duration + patch.release) * sample_rate)
    t = np.arange(n_samples, dtype=np.float32) / np.float32(sample_rate)
    base = 0.5 * frequency if patch.kind == "power" else frequency
    cycles = np.arange(n_samples) * (base / sample_rate) + phase
    top = base
    if patch.vibrato > 0.0:
        # depth * (1 - cos) integrates to a phase that starts smoothly; 0.0577 is ln(2) / 12.
        angular = 2.0 * np.pi * patch.vibrato_rate
        swing = 0.0577 * patch.vibrato * base / angular * np.minimum(t / 0.4, 1.0)
        cycles += swing * np.sin(np.float32(angular) * t)
        top = base * (1.0 + 0.1 * patch.vibrato)
    samples = read_table(wavetable(patch, top, sample_rate), cycles, _position(patch, t))
    samples *= _level(patch, t, duration)
    return samples


def render_part(
    patch: Patch, notes: Sequence[Note], *, n_samples: int, sample_rate: int
) -> np.ndarray:
    """Synthesise the notes of one instrument in stereo.

    Equal notes (pitch and length) are synthesised once and added where they occur.

    Args:
        patch: The instrument.
        notes: In any order.
        n_samples: Length of the result.
        sample_rate: Hz.

    Returns:
        Shape `(2, n_samples)` float32.
    """
    layers = [(0.0, patch.pan)]
    if patch.width > 0.0:
        layers = [
            (-0.5 * patch.detune, patch.pan - patch.width),
            (0.5 * patch.detune, patch.pan + patch.width),
        ]
    output = np.zeros((2, n_samples), dtype=np.float32)
    for number, (cents, pan) in enumerate(layers):
        cache: dict[tuple[float, float], np.ndarray] = {}
        bus = np.zeros(n_samples, dtype=np.float32)
        for note in notes:
            key = (round(note.pitch, 3), round(note.duration, 2))
            if key not in cache:
                frequency = note.frequency * 2.0 ** (cents / 1200.0)
                cache[key] = render_note(
                    patch, frequency, key[1], sample_rate=sample_rate, phase=0.37 * number
                )
            first = round(note.start * sample_rate)
            piece = cache[key][: max(n_samples - first, 0)]
            bus[first : first + piece.size] += piece * np.float32(note.velocity)
        for channel, gain in enumerate(pan_gains(pan)):
            if gain > 1e-3:
                output[channel] += gain * bus
    return output
