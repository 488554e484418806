"""Decoding in a graph. The reference is libsndfile reading the same file, through soundfile.

Run beside TensorFlow 2.16.2 and tensorflow-io 0.37.1 with TFSPEC_REQUIRE_IO=1 in the environment,
these tests fail unless tensorflow-io's own decoders are used.
"""

from __future__ import annotations

import io
import os
import struct
import wave

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import audio_files
from tests.audio_files import make, noise, tones
from tfspec.errors import AudioError, ConfigError
from tfspec.signal import decode
from tfspec.signal.decode import decode_audio, decoder_backend

FORMATS = ("wav", "flac", "ogg", "mp3")
REQUIRE_IO = os.environ.get("TFSPEC_REQUIRE_IO") == "1"
# WAV and FLAC: integers scaled by a power of two, nothing to round. OGG and MP3: each decoder adds
# float32 products in its own order; 1.2e-6 measured between libsndfile and tensorflow-io.
TOLERANCE = {"wav": 0.0, "flac": 0.0, "ogg": 4e-6, "mp3": 4e-6}


def contents(path) -> tf.Tensor:
    return tf.constant(path.read_bytes())


def reference(path) -> np.ndarray:
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def takes_native(file_format, data) -> bool:
    """Whether the header is of a kind that tensorflow-io is given (`tf.audio`: decoder 1 only)."""
    return int(decode._PLANS[file_format](data).decoder) > 0


def test_tensorflow_io_loads_where_it_is_required():
    if not REQUIRE_IO:
        pytest.skip("TFSPEC_REQUIRE_IO is not 1: this is not the tensorflow-io environment")
    assert {decoder_backend(file_format) for file_format in FORMATS} == {"tensorflow-io"}


def test_backends():
    backends = {file_format: decoder_backend(file_format) for file_format in FORMATS}
    without_io = {"wav": "tf.audio", "flac": "libsndfile", "ogg": "libsndfile", "mp3": "libsndfile"}
    assert backends in (dict.fromkeys(FORMATS, "tensorflow-io"), without_io)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize(("sample_rate", "channels"), [(8000, 1), (22050, 1), (44100, 2)])
@pytest.mark.parametrize("signal", [tones, noise])
def test_samples_equal_libsndfile(tmp_path, file_format, sample_rate, channels, signal):
    path = make(tmp_path / f"a.{file_format}", signal(1.3, sample_rate, channels), sample_rate)
    assert takes_native(file_format, contents(path))
    waveform, rate = decode_audio(contents(path), file_format=file_format, channels=channels)
    expected = reference(path)
    assert (waveform.dtype, rate.dtype, int(rate)) == (tf.float32, tf.int32, sample_rate)
    assert waveform.shape == expected.shape == (round(1.3 * sample_rate), channels)
    np.testing.assert_allclose(waveform, expected, rtol=0, atol=TOLERANCE[file_format])


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("compression", [0.0, 0.4, 0.7])
@pytest.mark.parametrize("sample_rate", [16000, 32000, 48000])
def test_mp3_at_other_bit_rates(tmp_path, mode, compression, sample_rate):
    path = make(
        tmp_path / "a.mp3",
        noise(1.0, sample_rate),
        sample_rate,
        bitrate_mode=mode,
        compression_level=compression,
    )
    assert takes_native("mp3", contents(path))
    waveform, rate = decode_audio(contents(path), file_format="mp3", channels=2)
    assert int(rate) == sample_rate
    np.testing.assert_allclose(waveform, reference(path), rtol=0, atol=TOLERANCE["mp3"])


def test_mp3_with_tags_and_without_a_length_header(tmp_path):
    path = make(tmp_path / "a.mp3", tones(1.0))
    expected = reference(path)
    tagged = audio_files.with_id3(path)
    assert takes_native("mp3", contents(tagged))
    waveform, _ = decode_audio(contents(tagged), file_format="mp3", channels=2)
    np.testing.assert_allclose(waveform, expected, rtol=0, atol=TOLERANCE["mp3"])
    headless = audio_files.without_xing(path)
    assert not takes_native("mp3", contents(headless))
    waveform, rate = decode_audio(contents(headless), file_format="mp3", channels=2)
    assert int(rate) == 44100
    # Delay of encoder and decoder, unknown without the header: 576 + 529 samples.
    np.testing.assert_allclose(waveform[1105 : 1105 + len(expected)], expected, atol=4e-6)


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("wav", "PCM_U8"),
        ("wav", "PCM_24"),
        ("wav", "PCM_32"),
        ("wav", "FLOAT"),
        ("wav", "DOUBLE"),
        ("wav", "ULAW"),
        ("wav", "IMA_ADPCM"),
        ("flac", "PCM_S8"),
        ("flac", "PCM_24"),
        ("ogg", "OPUS"),
    ],
)
def test_every_subtype_equals_libsndfile(tmp_path, suffix, subtype):
    rate = 48000
    path = make(tmp_path / f"a.{suffix}", noise(0.2, rate), rate, subtype=subtype)
    waveform, sample_rate = decode_audio(contents(path), file_format=suffix, channels=2)
    assert int(sample_rate) == rate
    # Opus has one decoder, which starts afresh each time: one float32 rounding.
    atol = 2e-7 if subtype == "OPUS" else 0.0
    np.testing.assert_allclose(waveform, reference(path), rtol=0, atol=atol)


@settings(deadline=None, max_examples=40)
@given(
    steps=st.lists(st.integers(-32768, 32767), min_size=1, max_size=40),
    chunk=st.one_of(st.none(), st.integers(0, 60)),
    sample_rate=st.integers(1000, 384000),
)
def test_wav_with_other_chunks_equals_the_standard_library(steps, chunk, sample_rate):
    """Chunks of even and of odd length before the samples: only the first suit the natives."""
    samples = np.array(steps, "<i2").tobytes()
    chunks = b""
    if chunk is not None:
        chunks = b"LIST" + struct.pack("<I", chunk) + bytes(chunk + chunk % 2)
    data = audio_files.wav_bytes(samples, sample_rate=sample_rate, chunks=chunks)
    with wave.open(io.BytesIO(data)) as reader:
        expected = np.frombuffer(reader.readframes(len(steps)), "<i2") / 32768
    waveform, rate = decode_audio(tf.constant(data), file_format="wav", channels=1)
    assert int(rate) == sample_rate
    np.testing.assert_array_equal(waveform[:, 0], expected)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize(("present", "wanted"), [(1, 2), (2, 1), (2, 2), (1, 1)])
def test_channels(tmp_path, file_format, present, wanted):
    path = make(tmp_path / f"a.{file_format}", tones(0.3, channels=present))
    waveform, _ = decode_audio(contents(path), file_format=file_format, channels=wanted)
    expected = reference(path)
    expected = (
        expected.mean(axis=1, keepdims=True)
        if wanted == 1
        else np.broadcast_to(expected, (len(expected), wanted))
    )
    # The mean rounds once more.
    np.testing.assert_allclose(waveform, expected, rtol=0, atol=TOLERANCE[file_format] + 1e-7)


@pytest.mark.parametrize("file_format", FORMATS)
def test_in_a_dataset(tmp_path, file_format):
    """In a graph, in parallel, with a static number of channels."""
    paths = [
        make(tmp_path / f"{number}.{file_format}", tones(0.1 * (number + 1)), 44100)
        for number in range(4)
    ]

    def load(path):
        return decode_audio(tf.io.read_file(path), file_format=file_format, channels=2)

    dataset = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    dataset = dataset.map(load, num_parallel_calls=2)
    assert dataset.element_spec[0].shape.as_list() == [None, 2]
    assert dataset.element_spec[1].shape.as_list() == []
    decoded = list(dataset.as_numpy_iterator())
    assert len(decoded) == len(paths)
    for (waveform, rate), path in zip(decoded, paths, strict=True):
        assert rate == 44100
        np.testing.assert_allclose(waveform, reference(path), rtol=0, atol=TOLERANCE[file_format])


def bad_contents(folder):
    """Names, formats and contents that are refused, with what the message says."""
    whole = {
        suffix: make(folder / f"whole.{suffix}", tones(1.0)).read_bytes() for suffix in FORMATS
    }
    broken = tones(0.1)
    broken[10] = np.nan
    for suffix, data in whole.items():
        yield f"cut {suffix}", suffix, data[: int(0.7 * len(data))], "damaged"
        yield f"cut by a byte {suffix}", suffix, data[:-1], "damaged"
    for suffix in FORMATS:
        yield f"text {suffix}", suffix, b"only words\n" * 400, "is not audio"
        yield f"empty {suffix}", suffix, b"", "empty"
    nan = make(folder / "nan.wav", broken, subtype="FLOAT").read_bytes()
    yield "not a number", "wav", nan, "NaN or infinite"
    silent = make(folder / "none.wav", tones(0.0)).read_bytes()
    yield "no samples", "wav", silent, "no samples"
    yield "1 Hz", "wav", audio_files.wav_bytes(bytes(8), sample_rate=1), "1 Hz is outside"
    eight = make(folder / "eight.wav", tones(0.1, channels=8)).read_bytes()
    yield "8 channels", "wav", eight, "ask for 1 "


def test_bad_contents(tmp_path):
    for name, file_format, data, message in bad_contents(tmp_path):
        with pytest.raises(AudioError, match=message) as error:
            decode_audio(tf.constant(data), file_format=file_format, channels=2)
        assert "\n" not in str(error.value), name


def test_bad_contents_stop_a_dataset(tmp_path):
    for name, file_format, data, message in bad_contents(tmp_path):
        dataset = tf.data.Dataset.from_tensors(data).map(
            lambda data, kind=file_format: decode_audio(data, file_format=kind, channels=2)
        )
        # TensorFlow raises its own error; a native FLAC decoder says it in its own words.
        with pytest.raises(tf.errors.OpError, match=rf"{message}|unable to read at") as error:
            list(dataset)
        assert error.value.message, name


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(fraction=st.floats(0, 1), file_format=st.sampled_from(FORMATS))
def test_cut_anywhere(tmp_path, fraction, file_format):
    path = tmp_path / f"a.{file_format}"
    if not path.exists():
        make(path, tones(0.5))
    data = path.read_bytes()
    data = data[: min(max(1, round(fraction * len(data))), len(data) - 1)]
    with pytest.raises(AudioError, match=r"damaged|is not audio"):
        decode_audio(tf.constant(data), file_format=file_format, channels=2)


def test_options():
    with pytest.raises(ConfigError, match="file_format: must be one of"):
        decode_audio(tf.constant(b""), file_format="m4a", channels=1)
    with pytest.raises(ConfigError, match="file_format: must be one of"):
        decoder_backend("m4a")
    with pytest.raises(ConfigError, match="channels: must be at least 1"):
        decode_audio(tf.constant(b""), file_format="wav", channels=0)
