"""Endless spectrograms of noise, LTE and 5G NR carriers with exact label maps.

`radio_example(config, seed, index)` makes a capture from complex baseband: OFDM resource grids with
the standards' numerologies, synchronisation, broadcast, reference and control signals at their real
places, bursty traffic, fading, receiver faults and noise. `prepare_radio` fills a folder with many.

Standards: LTE is 3GPP TS 36.211 (signals), 36.213 (procedures) and 36.104 (bandwidths, channels);
NR is TS 38.211, 38.213, 38.214 and 38.104.
"""

from __future__ import annotations

from tfspec.synth.radio.classes import CLASS_NAMES, LTE, NOISE, NR
from tfspec.synth.radio.config import LABEL_RULES, RadioConfig
from tfspec.synth.radio.examples import RadioExample, radio_example, radio_examples
from tfspec.synth.radio.images import ImageConfig, colour_image, power_spectrogram, scale_power
from tfspec.synth.radio.scenes import RadioCarrier
from tfspec.synth.radio.stored import RadioSet, load_radio, prepare_radio
from tfspec.synth.radio.sync import SyncSignal

__all__ = [
    "CLASS_NAMES",
    "LABEL_RULES",
    "LTE",
    "NOISE",
    "NR",
    "ImageConfig",
    "RadioCarrier",
    "RadioConfig",
    "RadioExample",
    "RadioSet",
    "SyncSignal",
    "colour_image",
    "load_radio",
    "power_spectrogram",
    "prepare_radio",
    "radio_example",
    "radio_examples",
    "scale_power",
]
