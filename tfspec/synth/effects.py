"""Room, panning and equalisation for the song generator.

Everything here is linear, so a processed stem stays an exact part of the mixture, and nothing
creates energy above the Nyquist frequency.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage, signal

EARLY_REFLECTIONS = 7  # discrete echoes before the diffuse tail


def pan_gains(position: float) -> np.ndarray:
    """Return the constant-power gains of a position between the loudspeakers.

    Args:
        position: -1 (left) .. 0 (centre) .. +1 (right).

    Returns:
        Gains, shape `(2,)` float32 for left and right; their squares sum to one.
    """
    angle = (np.clip(position, -1.0, 1.0) + 1.0) * np.pi / 4.0
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


def room_response(
    rng: np.random.Generator,
    *,
    rt60: float,
    predelay: float,
    sample_rate: int,
    damping: float = 0.4,
) -> np.ndarray:
    """Return a stereo room impulse response: early echoes, then decaying noise.

    The tail is white noise that dies fast plus low-passed noise that dies slowly, because air and
    walls absorb high frequencies first. The two channels are independent (a diffuse field).

    Args:
        rng: Source of the noise.
        rt60: Time until the low-frequency tail has fallen by 60 dB, in seconds.
        predelay: Time before the first reflection, in seconds.
        sample_rate: Hz.
        damping: Decay time of the high frequencies relative to `rt60`, in (0, 1].

    Returns:
        Impulse response, shape `(2, samples)` float32, each channel of unit energy.
    """
    # Drawn before the noise, whose length depends on the sample rate.
    times = predelay + rng.uniform(0.0, 0.05, EARLY_REFLECTIONS)
    places = rng.uniform(-1.0, 1.0, EARLY_REFLECTIONS)
    signs = rng.choice([-1.0, 1.0], EARLY_REFLECTIONS)
    n_delay = round(predelay * sample_rate)
    n_tail = max(round(0.9 * rt60 * sample_rate), 16)
    t = np.arange(n_tail, dtype=np.float32) / sample_rate
    decay = np.float32(-6.908 / rt60)  # ln(10**3): amplitude falls by 60 dB in rt60
    noise = rng.standard_normal((2, n_tail), dtype=np.float32)
    pole = np.exp(-2.0 * np.pi * 2500.0 / sample_rate)
    low = signal.lfilter([1.0 - pole], [1.0, -pole], noise, axis=1).astype(np.float32)
    tail = noise * np.exp(decay / damping * t) * 0.35 + low * np.exp(decay * t)
    # The diffuse field builds up over about 20 ms while the early echoes carry the onset.
    tail *= 1.0 - np.exp(-t / 0.02)
    response = np.zeros((2, n_delay + n_tail), dtype=np.float32)
    response[:, n_delay:] = tail
    positions = np.minimum((times * sample_rate).astype(int), response.shape[1] - 1)
    level = np.sqrt(np.sum(tail**2, axis=1).mean() / EARLY_REFLECTIONS)
    for position, place, sign in zip(positions, places, signs, strict=True):
        response[:, position] += level * sign * pan_gains(place)
    return response / np.sqrt(np.sum(response**2, axis=1, keepdims=True))


def reverberate(dry: np.ndarray, response: np.ndarray, *, wet: float) -> np.ndarray:
    """Add a room to a stereo signal; the room hears the sum of both channels.

    Args:
        dry: Signal, shape `(2, samples)` float32.
        response: Impulse response, shape `(2, taps)` float32.
        wet: Gain of the room relative to the direct sound (linear).

    Returns:
        Signal of the shape of `dry`, float32; the tail beyond the end is cut.
    """
    n_samples = dry.shape[1]
    size = fft.next_fast_len(n_samples + response.shape[1] - 1, real=True)
    send = fft.rfft((dry[0] + dry[1]) * np.float32(wet / np.sqrt(2.0)), size)
    room = fft.irfft(send * fft.rfft(response, size, axis=1), size, axis=1)[:, :n_samples]
    return dry + room.astype(np.float32, copy=False)


def echo(dry: np.ndarray, *, delay: float, feedback: float, sample_rate: int) -> np.ndarray:
    """Add three decaying repeats that alternate between the channels (a ping-pong delay).

    Args:
        dry: Signal, shape `(2, samples)` float32.
        delay: Time between repeats, in seconds.
        feedback: Gain of each repeat relative to the one before, in [0, 1).
        sample_rate: Hz.

    Returns:
        Signal of the shape of `dry`, float32.
    """
    wet = dry.copy()
    source = dry[0] + dry[1]
    for repeat in range(1, 4):
        lag = round(repeat * delay * sample_rate)
        if 0 < lag < dry.shape[1]:
            gains = pan_gains(0.6 * (-1.0) ** repeat) * np.float32(0.7 * feedback**repeat)
            wet[0, lag:] += gains[0] * source[:-lag]
            wet[1, lag:] += gains[1] * source[:-lag]
    return wet


def compress(samples: np.ndarray, sample_rate: int, *, ratio: float) -> np.ndarray:
    """Even out the level as a studio compressor does: a slow gain, no distortion.

    Args:
        samples: Shape `(samples,)` float32.
        sample_rate: Hz.
        ratio: Input change in dB per dB of output change above -20 dB of the loudest moment.

    Returns:
        Signal of the same shape, float32.
    """
    hop = round(0.01 * sample_rate)
    edges = np.arange(0, samples.size, hop)
    power = np.add.reduceat(samples * samples, edges).astype(np.float64) / hop
    level = np.sqrt(ndimage.gaussian_filter1d(power, 2.0))
    threshold = 0.1 * float(level.max())
    if threshold <= 0.0:
        return samples
    gain = np.maximum(level / threshold, 1.0) ** (1.0 / ratio - 1.0)
    return samples * stretch(np.append(gain, gain[-1]), hop, samples.size)


def stretch(points: np.ndarray, hop: int, n_samples: int) -> np.ndarray:
    """Interpolate a curve linearly to the sample rate.

    Args:
        points: Values at samples 0, hop, 2 hop ..., shape `(points,)`.
        hop: Samples between points.
        n_samples: Length of the result, at most `(points - 1) * hop`.

    Returns:
        Shape `(n_samples,)` float32.
    """
    ramp = (np.arange(hop) / hop).astype(np.float32)
    points = points.astype(np.float32)
    return (points[:-1, None] + np.diff(points)[:, None] * ramp).ravel()[:n_samples]


def band_shape(frequencies: np.ndarray, centre: float, octaves: float) -> np.ndarray:
    """Return a bell-shaped amplitude response on a logarithmic frequency axis.

    Args:
        frequencies: Hz, any shape, >= 0.
        centre: Frequency of the maximum, Hz.
        octaves: Distance in octaves at which the amplitude has fallen to exp(-1/2).

    Returns:
        Amplitudes in (0, 1], shape of `frequencies`, float32.
    """
    distance = np.log2(np.maximum(frequencies, 1.0) / centre) / octaves
    return np.exp(-0.5 * distance**2).astype(np.float32)


def shape_noise(
    noise: np.ndarray, sample_rate: int, bands: list[tuple[float, float, float]]
) -> np.ndarray:
    """Filter white noise to a sum of bell-shaped bands.

    Args:
        noise: White noise, shape `(samples,)` float32.
        sample_rate: Hz.
        bands: `(centre Hz, width octaves, gain)` of each band.

    Returns:
        Filtered noise of the same shape, float32.
    """
    # The bands have no phase, so they ring before an onset: the padding takes what would
    # otherwise wrap around to the end.
    size = fft.next_fast_len(noise.size + sample_rate // 20, real=True)
    frequencies = fft.rfftfreq(size, 1.0 / sample_rate)
    response = np.zeros(frequencies.size, dtype=np.float32)
    for centre, octaves, gain in bands:
        response += np.float32(gain) * band_shape(frequencies, centre, octaves)
    return fft.irfft(fft.rfft(noise, size) * response, size)[: noise.size].astype(np.float32)
