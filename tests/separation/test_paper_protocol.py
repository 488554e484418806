"""The `paper` protocol against a literal transcription with librosa and mir_eval."""

from __future__ import annotations

import sys
import warnings

import librosa
import mir_eval
import numpy as np
import pytest

from tfspec.errors import AudioError, ConfigError
from tfspec.separation.paper_protocol import (
    PAPER_SILENCE,
    bss_eval_sources,
    paper_group_scores,
    paper_groups,
    paper_mean,
    paper_scores,
    paper_segments,
    paper_waveforms,
)


def random_segments(rng, count, frames):
    """Predicted and true magnitudes and a unit phase, `(count, 512, frames)`."""
    shape = (count, 512, frames)
    true = rng.rayleigh(size=shape).astype(np.float32)
    predicted = true + 0.5 * rng.standard_normal(shape).astype(np.float32)
    phase = np.exp(2j * np.pi * rng.random(shape)).astype(np.complex64)
    return predicted, true, phase


def literal_protocol(predicted, true, phase):
    """Steps 2 to 4 of the paper's evaluation as its code has them, with one mask (papers.md 1.6).

    512 rows and no n_fft: librosa takes 1022. Estimate first. Five segments as five sources.
    """
    predicted_waves, true_waves = [], []
    for i in range(0, len(predicted) - len(predicted) % 5, 5):
        unit = np.concatenate(phase[i : i + 5], axis=1)
        for magnitudes, waves in ((predicted, predicted_waves), (true, true_waves)):
            spectrum = np.concatenate(magnitudes[i : i + 5], axis=1) * unit
            waves.append(librosa.istft(spectrum, hop_length=256, window="hann"))
    p, t = np.array(predicted_waves), np.array(true_waves)
    mask = (np.sum(p, axis=1) != 0) & (np.sum(t, axis=1) != 0) & (np.abs(t).sum(axis=1) >= 100)
    p, t = p[mask], t[mask]
    scores = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for i in range(0, len(p) - len(p) % 5, 5):
            scores.append(
                mir_eval.separation.bss_eval_sources(
                    p[i : i + 5], t[i : i + 5], compute_permutation=False
                )[:3]
            )
    return np.mean(scores, axis=(0, 2)), len(p)


@pytest.mark.slow
def test_scores_equal_a_literal_transcription(rng):
    # 33 segments: 6 excerpts and a rest of 3. One excerpt is silenced, so 5 are scored.
    predicted, true, phase = random_segments(rng, 33, 32)
    true[5:10] = 0.0
    expected, n_scored = literal_protocol(predicted, true, phase)
    scores = paper_scores(predicted, true, phase)
    # Both invert in float32; its rounding is 100 dB below the errors that are scored.
    np.testing.assert_allclose(scores[:3], expected, rtol=0, atol=1e-3)
    assert (scores.n_scored, scores.n_excerpts, n_scored) == (5, 6, 5)


def test_waveforms_are_librosas_inverse_without_n_fft(rng):
    magnitude, _, phase = random_segments(rng, 12, 128)
    waves = paper_waveforms(magnitude, phase)
    assert waves.shape == (2, 163584)  # 14.84 s at 11,025 Hz
    for index in range(2):
        part = slice(5 * index, 5 * index + 5)
        spectrum = np.concatenate(magnitude[part] * phase[part], axis=1)
        expected = librosa.istft(spectrum, hop_length=256)
        # float32 rounding over 1022 terms, relative to the loudest sample; the first samples
        # are divided by the window's small edge, equally in both.
        np.testing.assert_allclose(waves[index], expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.slow
def test_metric_of_a_signal_with_itself_exceeds_100_db(rng):
    true = random_segments(rng, 25, 32)[1:]
    scores = paper_scores(true[0], *true)
    assert min(scores[:3]) > 100.0


@pytest.mark.slow
def test_sir_is_sdr_plus_19_db_for_independent_white_errors(rng):
    # The error's projection on 4 unrelated signals with 512 taps holds 4 * 512 / 163584 of its
    # energy: 19.0 dB, whatever the estimate is worth.
    true = rng.standard_normal((5, 163584))
    predicted = true + 0.5 * rng.standard_normal(true.shape)
    sdr, sir, sar = paper_group_scores(predicted, true)
    np.testing.assert_allclose(sir - sdr, 19.0, atol=2.0)
    np.testing.assert_allclose(sar, sdr, atol=0.2)
    # 6 dB of error; not symmetric, so this also tells which one was passed first.
    np.testing.assert_allclose(sdr, 6.0, atol=0.3)


def test_the_prediction_takes_the_place_of_the_reference(rng, monkeypatch):
    calls = []

    def recorded(reference, estimate, compute_permutation):
        calls.append((reference, estimate, compute_permutation))
        return np.zeros(5), np.ones(5), np.full(5, 2.0), np.arange(5)

    monkeypatch.setattr(mir_eval.separation, "bss_eval_sources", recorded)
    predicted, true = rng.standard_normal((2, 5, 8))
    scores = paper_group_scores(predicted, true)
    ((first, second, permutation),) = calls
    assert first is predicted and second is true and permutation is False
    np.testing.assert_array_equal(scores, np.repeat([[0.0], [1.0], [2.0]], 5, axis=1))


def test_wrapper_keeps_mir_evals_order_and_is_quiet(rng):
    reference = rng.standard_normal((2, 4000))
    estimate = reference + 0.1 * rng.standard_normal(reference.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = bss_eval_sources(reference=reference, estimate=estimate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        expected = mir_eval.separation.bss_eval_sources(reference, estimate, False)
    np.testing.assert_array_equal(values, expected[:3])


def test_groups_drop_silent_excerpts_with_one_mask(rng):
    samples = 1000
    true = rng.choice([-1.0, 1.0], size=(13, samples)) * 2 * PAPER_SILENCE / samples
    predicted = rng.standard_normal((13, samples))
    predicted[1] = 0.0
    true[3] = 0.0
    true[6] *= 0.499  # just below the threshold
    groups = list(paper_groups(predicted, true))
    kept = [0, 2, 4, 5, 7, 8, 9, 10, 11, 12]
    assert len(groups) == 2
    np.testing.assert_array_equal(np.concatenate([group[0] for group in groups]), predicted[kept])
    np.testing.assert_array_equal(np.concatenate([group[1] for group in groups]), true[kept])
    assert list(paper_groups(predicted[:5], true[:5])) == []


def test_mean_over_all_excerpts_and_of_none():
    groups = [np.arange(15.0).reshape(3, 5), np.arange(15.0).reshape(3, 5) + 1]
    assert paper_mean(groups, 11) == (2.5, 7.5, 12.5, 10, 11)
    none = paper_mean([], 3)
    assert np.isnan(none[:3]).all() and none[3:] == (0, 3)


def test_segments_are_librosas_spectrogram_cut_in_order(rng):
    mixture, vocals = rng.standard_normal((2, 256 * 300)).astype(np.float32)
    segments = paper_segments(mixture, vocals)
    assert segments.mixture.shape == (2, 512, 128)  # 301 frames, 45 discarded
    spectra = [
        librosa.stft(x, n_fft=1024, hop_length=256) for x in (mixture, vocals, mixture - vocals)
    ]
    magnitudes = (segments.mixture, segments.vocals, segments.accompaniment)
    for magnitude, spectrum in zip(magnitudes, spectra, strict=True):
        expected = np.abs(spectrum[:512, :256])
        # 1e-4 of the loudest bin: the agreement that the STFT itself is tested for.
        tolerance = 1e-4 * expected.max()
        np.testing.assert_allclose(np.concatenate(magnitude, axis=1), expected, atol=tolerance)
    np.testing.assert_allclose(np.abs(segments.unit_phase), 1.0, atol=1e-6)
    product = np.concatenate(segments.mixture * segments.unit_phase, axis=1)
    np.testing.assert_allclose(product, spectra[0][:512, :256], atol=1e-3)


def test_phase_of_silence_is_one():
    silence = np.zeros(256 * 128, np.float32)
    segments = paper_segments(silence, silence)
    np.testing.assert_array_equal(segments.unit_phase, np.ones((1, 512, 128)))


def test_shapes_that_do_not_fit_are_refused(rng):
    with pytest.raises(AudioError, match=r"same shape \(segments, bins, frames\).*\(2, 3, 4\)"):
        paper_waveforms(np.zeros((2, 3, 4)), np.zeros((2, 3, 5)))
    with pytest.raises(AudioError, match=r"same shape \(samples,\)"):
        paper_segments(np.zeros((4, 1)), np.zeros((4, 1)))


def test_mir_eval_without_separation_is_one_line(monkeypatch, rng):
    # What 0.9 is announced to be.
    monkeypatch.delattr(mir_eval, "separation")
    monkeypatch.setitem(sys.modules, "mir_eval.separation", None)
    with pytest.raises(ConfigError, match=r"needs mir_eval.separation: pip install 'mir_eval<0.9'"):
        bss_eval_sources(reference=np.ones((1, 9)), estimate=np.ones((1, 9)))
