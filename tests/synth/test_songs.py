"""Tests of the song generator: exact sums, repeatability, pitch, band limits, statistics."""

from __future__ import annotations

import dataclasses

import librosa
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfspec.errors import ConfigError
from tfspec.synth import songs
from tfspec.synth.drums import SOUNDS, draw_kit, drum_sound
from tfspec.synth.effects import compress, pan_gains, reverberate, room_response, stretch
from tfspec.synth.instruments import KINDS, Patch, render_note, render_part
from tfspec.synth.levels import block_power, voice_to_accompaniment
from tfspec.synth.melody import SungNote, sung_melody
from tfspec.synth.music import SCALES, Note, compose
from tfspec.synth.patterns import drum_part
from tfspec.synth.phonemes import CONSONANTS, VOWELS
from tfspec.synth.singing import CONTROL_STEP, VoiceType, draw_voice, sing
from tfspec.synth.songs import STEMS, Song, synthesize_song
from tfspec.synth.voice import pulse_times, render_voice


@pytest.fixture(scope="module")
def song() -> Song:
    return synthesize_song(3, duration=6.0, sample_rate=22050)


@pytest.fixture(scope="module")
def many() -> list[Song]:
    """Thirty-second songs at the cheapest rate, for statistics."""
    return [synthesize_song(seed, sample_rate=8000) for seed in range(12)]


def steady_voice(**changes: float | bool) -> VoiceType:
    """A voice without random deviations, whose pitch is exactly what the notes say."""
    voice = draw_voice(np.random.default_rng(1))
    plain = {"jitter": 0.0, "shimmer": 0.0, "breathiness": 0.0, "vibrato_depth": 0.0, "scoop": 0.0}
    return dataclasses.replace(voice, **{**plain, "tract": 1.0, "spoken": False, **changes})


def sung(pitch: float, *, start: float = 0.2, duration: float = 1.6, vowel: str = "a") -> SungNote:
    return SungNote(
        start=start,
        duration=duration,
        pitch=pitch,
        velocity=0.8,
        consonant="",
        vowel=vowel,
        end_vowel=vowel,
        connected=False,
        degree=0,
    )


def patch(kind: str, **changes: float) -> Patch:
    values = {
        "bright": 4000.0,
        "dull": 1500.0,
        "colour": 0.6,
        "seed": 5,
        "attack": 0.01,
        "decay": 1.0,
        "sustain": 0.8,
        "release": 0.1,
    }
    return Patch(kind=kind, **{**values, **changes})  # type: ignore[arg-type]


def harmonic_share_db(samples: np.ndarray, frequency: float, sample_rate: int) -> float:
    """Return the power away from multiples of `frequency`, in dB of the whole.

    A Blackman-Harris window has side lobes at -92 dB and a main lobe of 8 bins, so what is left
    beyond 6 bins of every harmonic is not the window's.
    """
    window = librosa.filters.get_window("blackmanharris", samples.size)
    power = np.abs(np.fft.rfft(samples * window)) ** 2
    bins = np.arange(power.size)
    per_bin = sample_rate / samples.size
    nearest = np.round(bins * per_bin / frequency) * frequency / per_bin
    away = np.abs(bins - nearest) > 6
    return float(10.0 * np.log10(power[away].sum() / power.sum()))


# --- the contract ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_mixture_is_bit_equal_to_the_sum_of_the_stems(channels: int) -> None:
    made = synthesize_song(8, duration=2.0, sample_rate=11025, channels=channels)
    stems = made.stems
    assert tuple(stems) == STEMS
    total = ((stems["vocals"] + stems["drums"]) + stems["bass"]) + stems["other"]
    assert total.dtype == made.mixture.dtype == np.float32
    np.testing.assert_array_equal(total, made.mixture)
    assert made.mixture.shape == (22050, channels)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**40),
    duration=st.floats(1.0, 4.0),
    sample_rate=st.sampled_from([8000, 11025, 16000, 22050, 32000, 44100, 48000]),
    channels=st.sampled_from([1, 2]),
)
def test_any_song_is_finite_unclipped_and_of_exact_length(
    seed: int, duration: float, sample_rate: int, channels: int
) -> None:
    made = synthesize_song(seed, duration=duration, sample_rate=sample_rate, channels=channels)
    for waveform in (*made.stems.values(), made.mixture):
        assert waveform.shape == (round(duration * sample_rate), channels)
        assert waveform.dtype == np.float32
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() < 1.0
    assert np.abs(made.stems["vocals"]).max() > 0.0
    assert made.notes


def test_same_seed_gives_the_same_samples_and_another_seed_others(song: Song) -> None:
    again = synthesize_song(3, duration=6.0, sample_rate=22050)
    other = synthesize_song(4, duration=6.0, sample_rate=22050)
    for name in STEMS:
        np.testing.assert_array_equal(song.stems[name], again.stems[name])
    assert np.abs(song.mixture - other.mixture).max() > 0.01


def test_another_sample_rate_gives_the_same_music(song: Song) -> None:
    other = synthesize_song(3, duration=6.0, sample_rate=11025)
    assert other.notes == song.notes
    assert other.sections == song.sections
    assert (other.tempo, other.key, other.voice) == (song.tempo, song.key, song.voice)
    np.testing.assert_array_equal(other.vocal_f0, song.vocal_f0)
    # Decimated by an independent resampler, the pitched stems are nearly the same signal; noise
    # (breath, reverberation) differs, so the bound is a correlation and not an equality.
    for name in ("bass", "vocals"):
        low = librosa.resample(song.stems[name].mean(1), orig_sr=22050, target_sr=11025)
        high = other.stems[name].mean(1)
        correlation = np.corrcoef(low[: high.size], high[: low.size])[0, 1]
        assert correlation > 0.8, name


def test_mono_is_the_mean_of_the_stereo_channels(song: Song) -> None:
    mono = synthesize_song(3, duration=6.0, sample_rate=22050, channels=1)
    for name in STEMS:
        np.testing.assert_array_equal(mono.stems[name][:, 0], song.stems[name].mean(axis=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": 0.5}, r"`duration` must be at least 1.0 seconds. Received: duration=0.5"),
        ({"duration": float("nan")}, "`duration` .* Received: duration=nan"),
        ({"sample_rate": 4000}, "`sample_rate` must be 8000 to 48000 Hz. .*sample_rate=4000"),
        ({"channels": 3}, "`channels` must be 1 or 2. Received: channels=3"),
        ({"seed": -1}, "`seed` must be an integer of at least 0. Received: seed=-1"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        synthesize_song(**{"seed": 0, **changes})  # type: ignore[arg-type]


# --- the voice ------------------------------------------------------------------------------


@pytest.mark.parametrize(("pitch", "sample_rate"), [(48, 11025), (57, 22050), (69, 44100)])
def test_sung_pitch_agrees_with_an_independent_estimator(pitch: int, sample_rate: int) -> None:
    rng = np.random.default_rng(pitch)
    voice = steady_voice(jitter=0.005, shimmer=0.05, vibrato_depth=0.5)
    controls = sing(rng, (sung(pitch),), voice, 2.0)
    samples = render_voice(rng, controls, voice, n_samples=2 * sample_rate, sample_rate=sample_rate)
    frame = {11025: 512, 22050: 1024, 44100: 2048}[sample_rate]  # 46 ms
    estimate = librosa.yin(samples, fmin=80, fmax=700, sr=sample_rate, frame_length=frame)
    times = librosa.times_like(estimate, sr=sample_rate, hop_length=frame // 4)
    inside = (times > 0.35) & (times < 1.65)
    truth = np.interp(times, np.arange(controls.frequency.size) * CONTROL_STEP, controls.frequency)
    cents = 1200.0 * np.log2(estimate[inside] / truth[inside])
    # YIN averages over its window while the vibrato moves by up to 50 cents: 20 cents on average.
    assert np.mean(np.abs(cents)) < 20.0
    assert abs(np.median(cents)) < 10.0


def test_songs_own_fundamental_matches_the_vocal_stem() -> None:
    seed = next(
        seed for seed in range(50) if not (made := songs._write(seed, 6.0))[1].spoken and made[2]
    )
    made = synthesize_song(seed, duration=6.0, sample_rate=22050, channels=1)
    estimate, voiced, _ = librosa.pyin(
        made.stems["vocals"][:, 0], fmin=70, fmax=1000, sr=22050, frame_length=1024
    )
    times = librosa.times_like(estimate, sr=22050, hop_length=256)
    truth = made.vocal_f0[
        np.minimum((times / made.vocal_f0_step).astype(int), made.vocal_f0.size - 1)
    ]
    both = voiced & (truth > 0)
    assert both.sum() > 50
    cents = 1200.0 * np.log2(estimate[both] / truth[both])
    # The median, because echo, room and note changes mislead any estimator in some frames.
    assert np.median(np.abs(cents)) < 20.0


@pytest.mark.parametrize("sample_rate", [8000, 11025, 44100])
@pytest.mark.parametrize("pitch", [60, 79, 84])
def test_a_steady_sung_note_has_no_aliases(pitch: int, sample_rate: int) -> None:
    rng = np.random.default_rng(0)
    voice = steady_voice()
    controls = sing(rng, (sung(pitch, start=0.0, duration=2.0),), voice, 2.0)
    frequency = 440.0 * 2.0 ** ((pitch - 69) / 12)
    controls = dataclasses.replace(
        controls,
        frequency=np.full_like(controls.frequency, frequency),
        formants=np.tile(controls.formants[200], (controls.frequency.size, 1)),
    )
    samples = render_voice(rng, controls, voice, n_samples=2 * sample_rate, sample_rate=sample_rate)
    middle = samples[sample_rate // 2 : 3 * sample_rate // 2].astype(np.float64)
    # Nothing but harmonics: an aliased one would lie between them. What remains comes from the
    # slow change of the level of the note.
    assert harmonic_share_db(middle, frequency, sample_rate) < -50.0


def test_pulses_come_once_per_period() -> None:
    times = pulse_times(np.full(401, 200.0), 2.0)
    np.testing.assert_allclose(np.diff(times), 0.005, atol=1e-12)
    assert times.size in (399, 400)


def test_formants_of_a_low_note_are_where_the_vowel_has_them() -> None:
    voice = steady_voice(ring=0.0)
    rng = np.random.default_rng(0)
    for vowel in ("a", "i"):
        controls = sing(rng, (sung(40, vowel=vowel),), voice, 2.0)
        samples = render_voice(rng, controls, voice, n_samples=20000, sample_rate=10000)
        power = librosa.lpc(
            np.append(samples[6000:9000], 0.0)[1:] - 0.9 * samples[6000:9000], order=12
        )
        roots = np.roots(power)
        peaks = np.sort(np.angle(roots[(roots.imag > 0) & (np.abs(roots) > 0.9)])) * 5000.0 / np.pi
        for formant in VOWELS[vowel][:2]:
            # LPC follows the nearest harmonics, 82 Hz apart.
            assert np.min(np.abs(peaks - formant)) < 90.0, (vowel, formant, peaks)


def test_every_consonant_can_be_sung_and_fricatives_are_high() -> None:
    voice = steady_voice()
    for name in CONSONANTS:
        rng = np.random.default_rng(2)
        note = dataclasses.replace(sung(57, start=0.5, duration=0.8), consonant=name)
        controls = sing(rng, (note,), voice, 1.5)
        samples = render_voice(rng, controls, voice, n_samples=33075, sample_rate=22050)
        assert np.isfinite(samples).all()
        if name in ("s", "sh"):
            hiss = samples[int(0.42 * 22050) : int(0.49 * 22050)]
            centroid = librosa.feature.spectral_centroid(y=hiss, sr=22050, n_fft=1024).mean()
            assert centroid > 3000.0


# --- instruments, drums, room ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sample_rate", [8000, 44100])
@pytest.mark.parametrize("pitch", [33, 64, 88])
def test_instrument_notes_are_harmonic_and_in_tune(kind: str, sample_rate: int, pitch: int) -> None:
    frequency = 440.0 * 2.0 ** ((pitch - 69) / 12)
    samples = render_note(patch(kind), frequency, 1.5, sample_rate=sample_rate)
    assert samples.shape == (round(1.6 * sample_rate),)
    middle = samples[sample_rate // 4 : 5 * sample_rate // 4].astype(np.float64)
    base = frequency / 2 if kind == "power" else frequency
    # Aliases would lie between the harmonics; linear interpolation in a table of 4096 points
    # keeps images below -60 dB, the decay of the note widens the lines a little.
    assert harmonic_share_db(middle, base, sample_rate) < -45.0


def test_equal_notes_are_placed_exactly_and_add_up() -> None:
    sound = patch("plucked", pan=-1.0)
    one = Note(start=0.1, duration=0.2, pitch=60.0, velocity=0.5)
    two = dataclasses.replace(one, start=0.5)
    size = {"n_samples": 8000, "sample_rate": 8000}
    both = render_part(sound, [one, two], **size)
    apart = render_part(sound, [one], **size) + render_part(sound, [two], **size)
    np.testing.assert_allclose(both, apart, atol=1e-6)
    assert np.all(both[1] == 0.0)
    assert np.all(both[0, :800] == 0.0)
    np.testing.assert_allclose(both[0, 800:3000], both[0, 4000:6200], atol=1e-6)


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("sample_rate", [8000, 44100])
def test_drum_sounds_start_at_once_and_die_away(
    sound: str, sample_rate: int, rng: np.random.Generator
) -> None:
    samples = drum_sound(rng, draw_kit(rng, electronic=False), sound, sample_rate)
    assert samples.dtype == np.float32
    assert np.abs(samples).max() == pytest.approx(1.0)
    tenth = samples.size // 10
    assert np.abs(samples[-tenth:]).max() < 0.1
    assert sound == "shaker" or np.abs(samples[: sample_rate // 20]).max() > 0.5


def test_drum_strokes_lie_on_the_grid_of_the_tempo() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        score = dataclasses.replace(compose(rng, 30.0), swing=0.0)
        times = np.array([hit.time for hit in drum_part(rng, score)])
        position = (times - score.offset) / score.beat * 4.0
        # Players deviate by at most 12 ms from the sixteenths.
        error = np.abs(position - np.round(position)) * score.beat / 4.0
        assert error.max() <= 0.0121


def test_tempo_is_heard_in_the_drums() -> None:
    """The onset strength repeats at the beat or a simple multiple of it."""
    good = 0
    for seed in range(5):
        made = synthesize_song(seed, duration=12.0, sample_rate=16000, channels=1)
        if not made.stems["drums"].any():
            good += 1
            continue
        onset = librosa.onset.onset_strength(y=made.stems["drums"][:, 0], sr=16000, hop_length=128)
        heard = float(librosa.feature.tempo(onset_envelope=onset, sr=16000, hop_length=128)[0])
        ratio = made.tempo / heard
        good += (
            min(abs(ratio / r - 1.0) for r in (0.5, 0.75, 1, 1.5, 2, 1 / 3, 2 / 3, 4 / 3)) < 0.04
        )
    assert good >= 4


def test_room_has_the_reverberation_time_asked_for(rng: np.random.Generator) -> None:
    response = room_response(rng, rt60=1.0, predelay=0.01, sample_rate=22050, damping=1.0)
    assert response.shape[0] == 2
    np.testing.assert_allclose(np.sum(response**2, axis=1), 1.0, rtol=1e-4)
    assert np.all(response[:, :200] == 0.0)
    # Schroeder's backward integral falls by 20 dB between 0.2 and 0.533 s of a 1 s room.
    energy = np.cumsum(response[0, ::-1] ** 2)[::-1]
    fall = 10.0 * np.log10(energy[round(0.2 * 22050)] / energy[round(0.533 * 22050)])
    assert fall == pytest.approx(20.0, abs=2.0)


def test_reverberate_agrees_with_direct_convolution(rng: np.random.Generator) -> None:
    dry = rng.standard_normal((2, 500)).astype(np.float32)
    response = rng.standard_normal((2, 60)).astype(np.float32)
    wet = reverberate(dry, response, wet=0.5)
    send = (dry[0] + dry[1]) * 0.5 / np.sqrt(2.0)
    for channel in range(2):
        expected = dry[channel] + np.convolve(send, response[channel])[:500]
        np.testing.assert_allclose(wet[channel], expected, atol=1e-5)


def test_pan_keeps_power_and_stretch_interpolates() -> None:
    for place in (-1.0, -0.3, 0.0, 1.0):
        assert np.sum(pan_gains(place) ** 2) == pytest.approx(1.0, abs=1e-6)
    points = np.array([0.0, 1.0, -1.0, 3.0])
    np.testing.assert_allclose(
        stretch(points, 10, 28), np.interp(np.arange(28), np.arange(4) * 10, points), atol=1e-6
    )


def test_compressor_reduces_the_range_without_new_frequencies() -> None:
    t = np.arange(22050) / 22050
    loud = np.where(t < 0.5, 1.0, 0.25)
    samples = (loud * np.sin(2 * np.pi * 500 * t)).astype(np.float32)
    out = compress(samples, 22050, ratio=2.0)
    before, after = (np.std(x[2000:8000]) / np.std(x[14000:20000]) for x in (samples, out))
    assert before == pytest.approx(4.0, rel=0.01)
    assert after == pytest.approx(2.0, rel=0.05)  # half the decibels
    assert harmonic_share_db(out[2000:8000].astype(np.float64), 500.0, 22050) < -60.0


# --- composition and statistics -------------------------------------------------------------


def test_melody_is_in_key_in_range_and_in_order() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        score = compose(rng, 30.0)
        notes = sung_melody(rng, score, centre=60.0, spoken=False)
        scale = {(score.tonic + step) % 12 for step in SCALES[score.mode]}
        starts = [note.start for note in notes]
        assert starts == sorted(starts)
        assert {round(note.pitch) % 12 for note in notes} <= scale
        assert all(40.0 <= note.pitch <= 82.0 for note in notes)
        assert all(note.start >= 0.0 and note.end <= 30.0 + 1e-9 for note in notes)
        spans = [(part.start, part.end) for part in score.sections if part.vocals]
        assert all(any(a - 0.2 <= note.start < b for a, b in spans) for note in notes)


def test_sections_cover_the_song_without_gaps(many: list[Song]) -> None:
    for made in many:
        assert made.sections[0].start == 0.0
        assert made.sections[-1].end == pytest.approx(30.0)
        for before, after in zip(made.sections, made.sections[1:], strict=False):
            assert before.end == pytest.approx(after.start)


def test_songs_are_sung_for_much_of_the_time_but_not_always(many: list[Song]) -> None:
    shares = []
    for made in many:
        power = block_power(made.stems["vocals"].T, made.sample_rate)
        shares.append(float(np.mean(power > 1e-4 * power.max())))
        assert np.mean(made.vocal_f0 > 0) >= 0.3
    assert min(shares) >= 0.4
    assert np.mean(shares) < 0.95


def test_voice_to_accompaniment_ratio_lies_in_the_documented_range(many: list[Song]) -> None:
    ratios = []
    for made in many:
        band = made.stems["drums"] + made.stems["bass"] + made.stems["other"]
        ratios.append(voice_to_accompaniment(made.stems["vocals"].T, band.T, made.sample_rate))
    assert min(ratios) >= -8.01 and max(ratios) <= 3.01
    assert -5.0 < np.mean(ratios) < -1.0
    assert np.std(ratios) > 1.0


def test_songs_differ_in_level_style_and_singer(many: list[Song]) -> None:
    peaks = [float(np.abs(made.mixture).max()) for made in many]
    assert max(peaks) < 1.0
    assert max(peaks) / min(peaks) > 1.5
    assert len({made.style for made in many}) >= 4
    assert {"male", "female"} <= {made.voice.name for made in many}
    stems = [made.stems["drums"].any() for made in many]
    assert np.mean(stems) > 0.7


def test_stereo_stems_have_width_and_the_voice_is_near_the_centre(song: Song) -> None:
    def side_share(stem: np.ndarray) -> float:
        side, middle = stem[:, 0] - stem[:, 1], stem[:, 0] + stem[:, 1]
        return float(np.sum(side**2) / np.sum(middle**2))

    assert 1e-4 < side_share(song.stems["vocals"]) < 0.5
    assert side_share(song.stems["other"]) > 1e-4
