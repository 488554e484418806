"""Source-filter synthesis of a singing voice.

Glottal pulses are band-limited impulses at exact (fractional) times; the spectrum of the glottal
flow, the vocal tract and every noise are short-time filters applied frame by frame in the
frequency domain (Hann-windowed frames of 20 ms, half overlapping), so that nothing can alias.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from tfspec.synth.effects import band_shape
from tfspec.synth.phonemes import NOISE_BANDS
from tfspec.synth.singing import CONTROL_STEP, N_FORMANTS, VoiceControls, VoiceType

_FRAMES_PER_SECOND = 100
# Hops in a transform: 20 ms of signal, 5 ms before and 25 ms after it for its echo in the tract.
# A resonance of 70 Hz bandwidth has fallen by 48 dB then, so hardly anything wraps around.
_SPAN = 5
_KERNEL = 32  # samples of the band-limited impulse
_TRACT_RATE = 10000.0  # Hz: an all-pole tract of 5 formants repeats above half of this
_BANDWIDTHS = np.array([70.0, 90.0, 130.0, 190.0, 260.0])  # Hz
_LEAK = np.float32(0.3)  # part of the sound that no formant filters, relative to DC
_SMEAR = 0.004  # seconds between the lowest and the highest frequencies of a pulse
_CHUNK = 64  # frames filtered at a time, which keeps the work in the cache


def pulse_times(frequency: np.ndarray, duration: float) -> np.ndarray:
    """Return the instants at which the phase of `frequency` completes a cycle.

    Args:
        frequency: Hz on the grid of `CONTROL_STEP`, shape `(steps,)`, positive.
        duration: Seconds.

    Returns:
        Instants in seconds, increasing, shape `(pulses,)`.
    """
    middle = 0.5 * (frequency[1:] + frequency[:-1])
    phase = np.concatenate([[0.0], np.cumsum(middle) * CONTROL_STEP])
    cycles = np.arange(1, int(phase[-1]) + 1)
    times = np.interp(cycles, phase, np.arange(phase.size) * CONTROL_STEP)
    return times[times < duration]


def excitation(
    rng: np.random.Generator,
    controls: VoiceControls,
    voice: VoiceType,
    *,
    n_samples: int,
    sample_rate: int,
) -> np.ndarray:
    """Return the flat-spectrum pulse train of the glottis.

    Args:
        rng: Source of jitter and shimmer.
        controls: Curves of the voice.
        voice: The singer.
        n_samples: Length of the result.
        sample_rate: Hz.

    Returns:
        Pulses, shape `(n_samples,)` float32; equal power at every fundamental.
    """
    grid = np.arange(controls.frequency.size) * CONTROL_STEP
    times = pulse_times(controls.frequency, n_samples / sample_rate)
    # Every pulse draws its deviations, also a silent one: the numbers drawn depend on the notes
    # only, never on the sample rate.
    wobble, flutter = rng.standard_normal((2, times.size))
    period = 1.0 / np.interp(times, grid, controls.frequency)
    times = times + voice.jitter * wobble * period
    gain = (1.0 + voice.shimmer * flutter) * np.sqrt(period)
    heard = np.interp(times, grid, controls.voicing) > 1e-4
    position, gain = times[heard] * sample_rate, gain[heard]
    first = np.floor(position).astype(np.int64) - _KERNEL // 2 + 1
    index = first[:, None] + np.arange(_KERNEL)
    distance = index - position[:, None]
    # Cut at 0.46 of the rate: the Kaiser window's transition ends at the Nyquist frequency.
    window = np.i0(8.0 * np.sqrt(np.maximum(1.0 - (2.0 * distance / _KERNEL) ** 2, 0.0)))
    kernel = 0.92 * np.sinc(0.92 * distance) * window * (1.0 / np.i0(8.0))
    index = np.clip(index, -1, n_samples) + 1
    total = np.bincount(index.ravel(), (gain[:, None] * kernel).ravel(), n_samples + 2)
    return (total[1:-1] * sample_rate).astype(np.float32)


def _tract_denominator(formants: np.ndarray, voice: VoiceType, points: np.ndarray) -> np.ndarray:
    """Return the all-pole tract's denominator, complex64 `(frames, bins)`, one at DC."""
    angle = 2.0 * np.pi * formants / (_TRACT_RATE * voice.tract)
    radius = np.exp(-np.pi * _BANDWIDTHS / _TRACT_RATE)
    polynomial = np.ones((formants.shape[0], 1))
    for index in range(N_FORMANTS):
        linear = (-2.0 * radius[index] * np.cos(angle[:, index]))[:, None]
        padded = np.pad(polynomial, ((0, 0), (0, 2)))
        padded[:, 1:-1] += linear * polynomial
        padded[:, 2:] += radius[index] ** 2 * polynomial
        polynomial = padded
    polynomial /= polynomial.sum(axis=1, keepdims=True)
    # Horner's rule instead of a matrix product: BLAS would start threads for so small a job.
    value = np.repeat(polynomial[:, -1:] + 0j, points.size, axis=1)
    for power in range(2 * N_FORMANTS - 1, -1, -1):
        value *= points
        value += polynomial[:, power : power + 1]
    return value.astype(np.complex64)


class _FrameFilters:
    """Filters of one voice at one sample rate, frame by frame."""

    def __init__(self, voice: VoiceType, sample_rate: int, n_fft: int, delay: int) -> None:
        self.voice = voice
        # Sums over bins become independent of the sample rate.
        self.bin_share = sample_rate / n_fft / 22050.0
        frequencies = fft.rfftfreq(n_fft, 1.0 / sample_rate)
        omega = 2.0 * np.pi * frequencies / (_TRACT_RATE * voice.tract)
        # Above its half rate the all-pole model would only mirror its formants: hold its value.
        self.n_resonant = int(np.searchsorted(omega, 0.96 * np.pi))
        self.points = np.exp(-1j * omega[: self.n_resonant])
        corner = 210.0 * 2.0**voice.effort
        # Glottal flow falls by 12 dB per octave above its corner; radiation adds 6 dB.
        flow = (1j * frequencies / corner) / (1.0 + 1j * frequencies / corner) ** 2
        # Above 5 kHz: fixed high resonances of this singer's throat, and the losses of the tract.
        high = 1.0 + voice.air * sum(
            band_shape(frequencies, centre * voice.tract, 0.08)
            for centre in (5400.0, 6600.0, 8200.0)
        )
        loss = high / np.sqrt(1.0 + (frequencies / (5000.0 * voice.tract)) ** 4)
        highpass = (1j * frequencies / (1j * frequencies + 70.0)) ** 2
        # The glottis smears each closure over a few milliseconds, low frequencies last.
        smear = np.exp(2j * np.pi * _SMEAR * 2000.0 * np.exp(-frequencies / 2000.0))
        # The shapes without phase ring before their input too: a delay makes room for that.
        late = loss * np.exp(-2j * np.pi * frequencies * delay / sample_rate)
        self.voiced = (flow * highpass * smear * late).astype(np.complex64)
        breath = 0.35 * highpass * late * frequencies / (frequencies + 1500.0)
        self.breath = breath.astype(np.complex64)
        places = [
            band_shape(frequencies, centre * voice.tract**0.5, width)
            for centre, width in NOISE_BANDS
        ]
        self.places = (np.stack(places) * late / loss).astype(np.complex64)

    def __call__(
        self, pulses: np.ndarray, noise: np.ndarray, curves: np.ndarray, formants: np.ndarray
    ) -> np.ndarray:
        """Filter spectra of pulses and noise, both complex64 `(frames, bins)`."""
        tract = np.empty_like(pulses)
        tract[:, : self.n_resonant] = 1.0 / _tract_denominator(formants, self.voice, self.points)
        tract[:, self.n_resonant :] = tract[:, self.n_resonant - 1 : self.n_resonant]
        tract += _LEAK
        response = tract * self.voiced
        power = np.sum(response.real**2 + response.imag**2, axis=1) * self.bin_share
        # Singers and engineers even out the loudness of vowels, but not fully.
        level = (0.3 * power**-0.35)[:, None].astype(np.float32)
        out = pulses * response
        out *= curves[:, :1] * level
        tract *= self.breath
        tract *= curves[:, 1:2] * level
        for place, shape in enumerate(self.places):
            rows = np.flatnonzero(curves[:, 2 + place] > 1e-5)  # few frames hold a consonant
            tract[rows] += curves[rows, 2 + place, None] * shape
        out += noise * tract
        return out


def _frame_curves(controls: VoiceControls, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return gains `(frames, 2 + places)` float32 and formants `(frames, N_FORMANTS)`."""
    grid = np.arange(controls.frequency.size) * CONTROL_STEP
    gains = np.column_stack([controls.voicing, controls.breath, controls.noise])
    curves = np.stack([np.interp(times, grid, column) for column in gains.T], axis=1)
    formants = np.stack([np.interp(times, grid, column) for column in controls.formants.T], axis=1)
    return curves.astype(np.float32), formants


def render_voice(
    rng: np.random.Generator,
    controls: VoiceControls,
    voice: VoiceType,
    *,
    n_samples: int,
    sample_rate: int,
) -> np.ndarray:
    """Synthesise one voice.

    Args:
        rng: Source of jitter, shimmer and noise.
        controls: Curves from `singing.sing`.
        voice: The singer.
        n_samples: Length of the result.
        sample_rate: Hz.

    Returns:
        Dry voice, shape `(n_samples,)` float32, at no particular level.
    """
    hop = round(sample_rate / _FRAMES_PER_SECOND)
    n_fft, delay = _SPAN * hop, hop // 2
    n_frames = n_samples // hop + 2
    source = np.zeros((n_frames + 1) * hop, dtype=np.float32)
    source[hop : hop + n_samples] = excitation(
        rng, controls, voice, n_samples=n_samples, sample_rate=sample_rate
    )
    curves, formants = _frame_curves(controls, np.arange(n_frames) * hop / sample_rate)
    filters = _FrameFilters(voice, sample_rate, n_fft, delay)
    window = (0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)).astype(np.float32)
    noise_gain = np.float32(np.sqrt(sample_rate))  # noise and pulses of the same spectral density
    output = np.zeros((n_frames + _SPAN - 1, hop), dtype=np.float32)
    active = np.flatnonzero(curves.max(axis=1) > 1e-4)
    for first in range(0, active.size, _CHUNK):
        frames = active[first : first + _CHUNK]
        pieces = source[frames[:, None] * hop + np.arange(2 * hop)] * window
        hiss = rng.standard_normal((frames.size, 2 * hop), dtype=np.float32) * noise_gain
        spectrum = filters(
            fft.rfft(pieces, n_fft),
            fft.rfft(hiss * window, n_fft),
            curves[frames],
            formants[frames],
        )
        sound = fft.irfft(spectrum, n_fft).reshape(frames.size, _SPAN, hop)
        for part in range(_SPAN):  # frames differ, so each sum touches a row once
            output[frames + part] += sound[:, part]
    return output.ravel()[hop + delay : hop + delay + n_samples]
