"""Names and numbers of the classes that a radio spectrogram is divided into."""

from __future__ import annotations

CLASS_NAMES = ("noise", "lte", "nr")
NOISE, LTE, NR = range(3)
