"""Vowels and consonants of the singing voice.

Vowel formants are the male averages of Peterson and Barney (1952); other voices scale them with
the length of the vocal tract. Consonants are described by what the tract does before the vowel.
"""

from __future__ import annotations

import dataclasses

# First three formants in Hz of a male voice; formants 4 and 5 belong to the voice, not the vowel.
VOWELS: dict[str, tuple[float, float, float]] = {
    "a": (730.0, 1090.0, 2440.0),
    "ae": (660.0, 1720.0, 2410.0),
    "e": (530.0, 1840.0, 2480.0),
    "I": (390.0, 1990.0, 2550.0),
    "i": (270.0, 2290.0, 3010.0),
    "o": (570.0, 840.0, 2410.0),
    "U": (440.0, 1020.0, 2240.0),
    "u": (300.0, 870.0, 2240.0),
    "v": (640.0, 1190.0, 2390.0),
    "r": (490.0, 1350.0, 1690.0),
}

# Centre (Hz) and width (octaves) of the noise made at each place of articulation.
NOISE_BANDS: tuple[tuple[float, float], ...] = (
    (7200.0, 0.42),  # s: jet against the teeth
    (3600.0, 0.55),  # sh
    (5500.0, 1.30),  # f, th: weak and broad
    (1000.0, 1.00),  # p, b burst
    (4300.0, 0.70),  # t, d burst
    (2000.0, 0.55),  # k, g burst
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consonant:
    """What happens in the tract before a vowel.

    Attributes:
        weight: How often it is drawn, relative.
        duration: Seconds before the vowel.
        closure: Seconds of closure (silence or voice bar) before a burst; 0 for continuants.
        band: Index into `NOISE_BANDS`, or -1 for none.
        noise: Gain of the noise.
        breath: Gain of aspiration (noise through the vowel's own formants).
        voicing: Gain of the glottal pulses during the consonant, relative to the vowel.
        formants: Formants in Hz during the consonant, or None to take the vowel's.
    """

    weight: float
    duration: float
    closure: float = 0.0
    band: int = -1
    noise: float = 0.0
    breath: float = 0.0
    voicing: float = 0.0
    formants: tuple[float, float, float] | None = None


CONSONANTS: dict[str, Consonant] = {
    "": Consonant(weight=2.0, duration=0.0, voicing=1.0),
    "s": Consonant(weight=2.5, duration=0.11, band=0, noise=0.75),
    "sh": Consonant(weight=1.2, duration=0.11, band=1, noise=0.6),
    "f": Consonant(weight=1.5, duration=0.09, band=2, noise=0.22),
    "h": Consonant(weight=1.5, duration=0.07, breath=1.0),
    "z": Consonant(weight=0.8, duration=0.08, band=0, noise=0.4, voicing=0.3),
    "v": Consonant(weight=0.9, duration=0.06, band=2, noise=0.1, voicing=0.35),
    "p": Consonant(weight=1.2, duration=0.08, closure=0.05, band=3, noise=0.6, breath=0.5),
    "t": Consonant(weight=2.5, duration=0.085, closure=0.045, band=4, noise=0.65, breath=0.4),
    "k": Consonant(weight=1.8, duration=0.09, closure=0.05, band=5, noise=0.6, breath=0.5),
    "b": Consonant(
        weight=1.3,
        duration=0.06,
        closure=0.05,
        band=3,
        noise=0.3,
        voicing=0.15,
        formants=(250.0, 800.0, 2200.0),
    ),
    "d": Consonant(
        weight=1.8,
        duration=0.06,
        closure=0.05,
        band=4,
        noise=0.3,
        voicing=0.15,
        formants=(250.0, 1700.0, 2600.0),
    ),
    "g": Consonant(
        weight=1.0,
        duration=0.06,
        closure=0.05,
        band=5,
        noise=0.3,
        voicing=0.15,
        formants=(250.0, 1900.0, 2100.0),
    ),
    "m": Consonant(weight=1.6, duration=0.07, voicing=0.45, formants=(250.0, 1050.0, 2200.0)),
    "n": Consonant(weight=2.0, duration=0.07, voicing=0.45, formants=(260.0, 1550.0, 2500.0)),
    "l": Consonant(weight=1.8, duration=0.06, voicing=0.6, formants=(360.0, 1100.0, 2700.0)),
    "r": Consonant(weight=1.3, duration=0.06, voicing=0.6, formants=(320.0, 1150.0, 1600.0)),
    "w": Consonant(weight=1.4, duration=0.07, voicing=0.6, formants=(290.0, 650.0, 2200.0)),
    "y": Consonant(weight=0.9, duration=0.06, voicing=0.6, formants=(270.0, 2250.0, 3000.0)),
}
