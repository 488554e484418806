"""Resampling: blocks against the whole, and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio_files import make, noise, tones
from tfspec.errors import ConfigError
from tfspec.signal import audio


@settings(deadline=None, max_examples=40)
@given(
    rates=st.sampled_from([(44100, 11025), (11025, 44100), (48000, 44100), (8000, 8000)]),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    channels=st.integers(1, 3),
)
def test_resampling_in_blocks_equals_the_whole(rates, cuts, channels):
    waveform = noise(0.1, 30000, channels)
    edges = [0, *sorted(cuts), len(waveform)]
    stream = audio.StreamResampler(*rates, channels)
    pieces = [
        stream.process(waveform[begin:end], last=number == len(edges) - 2)
        for number, (begin, end) in enumerate(itertools.pairwise(edges))
    ]
    whole = audio.resample(waveform, *rates)
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6)  # float32 rounding


def test_resampled_stream_equals_resampled_file(tmp_path):
    path = make(tmp_path / "a.ogg", noise(3.0))
    whole, rate = audio.read_audio(path, sample_rate=11025)
    assert rate == 11025
    blocks = list(audio.stream_audio(path, block_length=700, sample_rate=11025))
    assert {len(block) for block in blocks[:-1]} == {700}
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)  # float32 rounding


@pytest.mark.parametrize(("source", "target"), [(44100, 11025), (11025, 44100), (48000, 44100)])
def test_resampling_keeps_a_sine_where_it_is(source, target):
    waveform = audio.resample(tones(1.0, source, 1)[:, 0], source, target)
    expected = tones(1.0, target, 1)[:, 0]
    assert waveform.shape == expected.shape
    # soxr's high quality is good for 20 bits; away from the ends, where the sine is switched on.
    np.testing.assert_allclose(waveform[2000:-2000], expected[2000:-2000], atol=2e-5)


def test_resampling_removes_what_would_alias():
    time = np.arange(44100) / 44100
    waveform = audio.resample(np.sin(2 * np.pi * 8000 * time), 44100, 11025)
    assert np.abs(waveform[500:-500]).max() < 1e-4  # -80 dB


def test_resampler_refuses():
    with pytest.raises(ConfigError, match="target_rate: must be at least 1 Hz"):
        audio.resample(tones(0.1), 44100, 0)
    with pytest.raises(ValueError, match=r"must be \(samples, 2\)"):
        audio.StreamResampler(44100, 11025, 2).process(np.zeros((10, 1), np.float32))
