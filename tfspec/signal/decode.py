"""Decoding audio inside a TensorFlow graph: the same samples whichever decoder is installed.

Three decoders, the first that can is used:

1. tensorflow-io, where its native operations load (extra `io`, TensorFlow 2.16);
2. `tf.audio`, for 16-bit PCM WAV;
3. libsndfile through `tf.numpy_function`, for everything.

The first two are handed only files whose header, read by graph operations, is of the kind that
they decode as libsndfile does. Anything else in a file (24-bit WAV for `tf.audio`, an MP3 file
without a length, a file that is cut off) goes to libsndfile, whose checks say what is wrong.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from tfspec.errors import AudioError, ConfigError
from tfspec.signal.audio import decode_bytes
from tfspec.signal.audio_source import MAX_RATE, MIN_RATE

FileFormat = Literal["wav", "flac", "ogg", "mp3"]
Backend = Literal["tensorflow-io", "tf.audio", "libsndfile"]

_FORMATS = ("wav", "flac", "ogg", "mp3")
_HEAD = 4096  # bytes in which a header must lie for a native decoder to be used
_MAX_OGG_PAGE = 65307  # bytes
# A WAV file of one 16-bit sample, to see whether tensorflow-io's operations work.
_PROBE = (
    b"RIFF\x26\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0"
    b"data\x02\0\0\0\0\x40"
)


class _Plan(NamedTuple):
    """What the header says."""

    decoder: tf.Tensor  # int32: 0 for libsndfile, otherwise 1 + the number of a native decoder
    sample_rate: tf.Tensor  # int32, Hz


def decoder_backend(file_format: FileFormat) -> Backend:
    """Names the decoder that ordinary files of a format take here.

    Args:
        file_format: `"wav"`, `"flac"`, `"ogg"` or `"mp3"`.
    """
    _check_format(file_format)
    if _tensorflow_io() is not None:
        return "tensorflow-io"
    return "tf.audio" if file_format == "wav" else "libsndfile"


def decode_audio(
    contents: tf.Tensor, *, file_format: FileFormat, channels: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes the contents of an audio file; usable in `tf.data` maps.

    Integers are scaled by their full range, so that the samples equal
    `soundfile.read(dtype="float32")`: exactly for WAV and FLAC; within 4e-6 for OGG and MP3, whose
    decoders round differently. Encoder delay and padding that an MP3 header declares are removed.

    Args:
        contents: scalar string, the whole file.
        file_format: `"wav"`, `"flac"`, `"ogg"` or `"mp3"`.
        channels: 1 takes the mean of all channels; any number is made from one by repeating it.

    Returns:
        The waveform, float32 `(samples, channels)` with a static number of channels, and the
        sample rate in Hz, scalar int32.

    Raises:
        ConfigError: `file_format` or `channels` is not among the possible ones.
        AudioError: the contents are empty, not audio, cut off, or have other channels. Within a
            graph TensorFlow raises its own error that carries the same line.
    """
    _check_format(file_format)
    if channels < 1:
        raise ConfigError(f"channels: must be at least 1. Received: {channels!r}")
    try:
        waveform, sample_rate = _decode(tf.convert_to_tensor(contents), file_format, channels)
    except tf.errors.OpError as error:
        reason = str(error.message).splitlines()[0] if error.message else type(error).__name__
        raise AudioError(
            f"audio data: is damaged or not {file_format.upper()} ({reason}); read the file "
            "with read_audio to see what is wrong"
        ) from error
    waveform.set_shape([None, channels])
    sample_rate.set_shape([])
    return waveform, sample_rate


def _check_format(file_format: str) -> None:
    if file_format not in _FORMATS:
        raise ConfigError(f"file_format: must be one of {_FORMATS}. Received: {file_format!r}")


@tf.autograph.experimental.do_not_convert  # its conditions on tensors are explicit
def _decode(
    contents: tf.Tensor, file_format: FileFormat, channels: int
) -> tuple[tf.Tensor, tf.Tensor]:
    backend = decoder_backend(file_format)
    if backend == "libsndfile":
        return _by_libsndfile(contents, channels)
    if backend == "tf.audio":
        natives: Sequence[Callable[[tf.Tensor], tf.Tensor]] = [_tf_audio_wav]
    else:
        natives = _tensorflow_io_decoders(_tensorflow_io())[file_format]
    plan = _PLANS[file_format](contents)

    def native(decode: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return _match_channels(_checked(decode(contents)), channels), plan.sample_rate

    # A decoder number beyond the list is a subtype that this backend lacks: libsndfile, too.
    known = (plan.decoder <= len(natives)) & _in_range(plan.sample_rate)
    return tf.switch_case(
        tf.where(known, plan.decoder, 0),
        [
            functools.partial(_by_libsndfile, contents, channels),
            *(functools.partial(native, decode) for decode in natives),
        ],
    )


def _in_range(sample_rate: tf.Tensor) -> tf.Tensor:
    return (sample_rate >= MIN_RATE) & (sample_rate <= MAX_RATE)


# ----------------------------------------------------------------------------------- decoders


def _by_libsndfile(contents: tf.Tensor, channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    def decode(data: bytes) -> tuple[np.ndarray, np.int32]:
        waveform, sample_rate = decode_bytes(data, channels=channels)
        return waveform, np.int32(sample_rate)

    if tf.executing_eagerly():  # keeps the AudioError as it is
        waveform, sample_rate = decode(contents.numpy())
        return tf.convert_to_tensor(waveform), tf.convert_to_tensor(sample_rate)
    waveform, sample_rate = tf.numpy_function(
        decode, [contents], (tf.float32, tf.int32), stateful=False
    )
    return tf.ensure_shape(waveform, [None, channels]), tf.ensure_shape(sample_rate, [])


def _tf_audio_wav(contents: tf.Tensor) -> tf.Tensor:
    return tf.audio.decode_wav(contents).audio


def _tensorflow_io_decoders(tfio: Any) -> dict[str, list[Callable[[tf.Tensor], tf.Tensor]]]:
    """Decoders by format, in the order that the plans number them from 1."""
    audio = tfio.audio

    def scaled(decode: Callable[..., tf.Tensor], dtype: tf.DType, full_scale: int) -> Any:
        return lambda contents: tf.cast(decode(contents, dtype=dtype), tf.float32) / full_scale

    return {
        # 24-bit samples come in the upper bits of int32.
        "wav": [
            scaled(audio.decode_wav, tf.int16, 1 << 15),
            scaled(audio.decode_wav, tf.int32, 1 << 31),
            scaled(audio.decode_wav, tf.float32, 1),
        ],
        "flac": [
            scaled(audio.decode_flac, tf.int16, 1 << 15),
            scaled(audio.decode_flac, tf.int32, 1 << 31),
        ],
        "ogg": [audio.decode_vorbis],
        "mp3": [audio.decode_mp3],
    }


@functools.lru_cache(maxsize=1)
def _tensorflow_io() -> Any:
    """The tensorflow_io module when its native operations work, else `None`."""
    try:
        with warnings.catch_warnings(), tf.init_scope():
            warnings.simplefilter("ignore")
            import tensorflow_io

            tensorflow_io.audio.decode_wav(tf.constant(_PROBE), dtype=tf.int16)
    except Exception:
        # Beside another TensorFlow the library fails in ways that differ by version: missing
        # symbols, operations without a kernel, attributes that are not there.
        return None
    return tensorflow_io


def _require(condition: tf.Tensor, tensor: tf.Tensor, message: str) -> tf.Tensor:
    """Returns `tensor`; raises when the condition is false."""
    if tf.executing_eagerly():
        if not condition:
            raise AudioError(f"audio data: {message}")
        return tensor
    with tf.control_dependencies([tf.debugging.Assert(condition, [f"audio data: {message}"])]):
        return tf.identity(tensor)


def _checked(waveform: tf.Tensor) -> tf.Tensor:
    message = "has a header but no samples; give a file with sound"
    waveform = _require(tf.size(waveform) > 0, waveform, message)
    message = "holds samples that are NaN or infinite; render the file again without them"
    return _require(tf.reduce_all(tf.math.is_finite(waveform)), waveform, message)


def _match_channels(waveform: tf.Tensor, channels: int) -> tf.Tensor:
    """Graph form of `audio.match_channels`."""
    if channels == 1:
        return tf.reduce_mean(waveform, axis=1, keepdims=True)
    present = tf.shape(waveform)[1]
    message = f"has neither 1 nor {channels} channels; ask for 1 (the mean) or mix it down first"
    waveform = _require((present == channels) | (present == 1), waveform, message)
    return tf.broadcast_to(waveform, [tf.shape(waveform)[0], channels])


# -------------------------------------------------------------- headers, by graph operations


def _head(contents: tf.Tensor, start: tf.Tensor | int = 0) -> tf.Tensor:
    """The first bytes from `start` on as int64, zeros beyond the end."""
    start = tf.minimum(start, tf.strings.length(contents))
    data = tf.io.decode_raw(tf.strings.substr(contents, start, _HEAD), tf.uint8)
    # Twice as long: numbers may be read at any position within the header.
    return tf.cast(tf.pad(data, [[0, 2 * _HEAD - tf.shape(data)[0]]]), tf.int64)


def _number(
    head: tf.Tensor, position: tf.Tensor | int, n_bytes: int, *, big_endian: bool = False
) -> tf.Tensor:
    shifts = [8 * index for index in range(n_bytes)]
    weights = tf.constant([1 << shift for shift in shifts[:: -1 if big_endian else 1]], tf.int64)
    return tf.reduce_sum(head[position : position + n_bytes] * weights)


def _is_text(head: tf.Tensor, position: tf.Tensor | int, text: bytes) -> tf.Tensor:
    expected = tf.constant(list(text), tf.int64)
    return tf.reduce_all(head[position : position + len(text)] == expected)


def _plan(cases: Sequence[tf.Tensor], sample_rate: tf.Tensor) -> _Plan:
    """Numbers the first true case from 1; 0 when none is."""
    decoder = tf.constant(0)
    for number, case in reversed(list(enumerate(cases, start=1))):
        decoder = tf.where(case, number, decoder)
    return _Plan(decoder, tf.cast(sample_rate, tf.int32))


def _plan_wav(contents: tf.Tensor) -> _Plan:
    """Whole RIFF files of 16-bit, 24-bit or float32 samples with a plain format chunk."""
    head = _head(contents)
    format_bytes = _number(head, 16, 4)
    plain = (
        _is_text(head, 0, b"RIFF")
        & _is_text(head, 8, b"WAVEfmt ")
        & ((format_bytes == 16) | (format_bytes == 18))
    )

    def is_before_data(position: tf.Tensor) -> tf.Tensor:
        return (position < _HEAD) & ~_is_text(head, position, b"data")

    def next_chunk(position: tf.Tensor) -> tf.Tensor:
        length = _number(head, position + 4, 4)
        # tf.audio and tensorflow-io lose their place after a chunk of odd length; one without
        # contents means that this is no chunk but zeros.
        regular = (length > 0) & (length % 2 == 0)
        length = tf.where(regular, tf.minimum(length, _HEAD), _HEAD)
        return position + 8 + tf.cast(length, tf.int32)

    (position,) = tf.while_loop(is_before_data, lambda at: (next_chunk(at),), (tf.constant(12),))
    n_bytes = _number(head, tf.minimum(position, _HEAD) + 4, 4)
    code, channels, bits = _number(head, 20, 2), _number(head, 22, 2), _number(head, 34, 2)
    frame_bytes = channels * bits // 8
    present = tf.cast(tf.strings.length(contents) - position - 8, tf.int64)
    whole = (position < _HEAD) & (n_bytes > 0) & (n_bytes <= present) & (frame_bytes > 0)
    usable = plain & whole & (n_bytes % tf.maximum(frame_bytes, 1) == 0)
    pcm = usable & (code == 1)
    cases = [pcm & (bits == 16), pcm & (bits == 24), usable & (code == 3) & (bits == 32)]
    return _plan(cases, _number(head, 24, 4))


def _plan_flac(contents: tf.Tensor) -> _Plan:
    """Files of 16 or 24 bits that say how many samples they hold."""
    head = _head(contents)
    # STREAMINFO, always first: 20 bits of rate, 3 of channels, 5 of bits - 1, 36 of samples.
    fields = _number(head, 18, 4, big_endian=True)
    rate, bits = fields // (1 << 12), fields // (1 << 4) % 32 + 1
    n_samples = (fields % 16) * (1 << 32) + _number(head, 22, 4, big_endian=True)
    usable = _is_text(head, 0, b"fLaC") & (head[4] % 128 == 0) & (n_samples > 0)
    return _plan([usable & (bits == 16), usable & (bits == 24)], rate)


def _plan_ogg(contents: tf.Tensor) -> _Plan:
    """Files of a single Vorbis stream whose last page is there, whole and marked as the last."""
    head = _head(contents)
    vorbis = _is_text(head, 0, b"OggS") & _is_text(head, 28, b"\x01vorbis")
    length = tf.strings.length(contents)
    tail = tf.strings.substr(contents, tf.maximum(length - _MAX_OGG_PAGE, 0), _MAX_OGG_PAGE)
    data = tf.cast(tf.io.decode_raw(tail, tf.uint8), tf.int32)
    size = tf.shape(data)[0]
    padded = tf.pad(data, [[0, 27 + 255]])
    starts = functools.reduce(
        tf.logical_and,
        (padded[index : index + size] == byte for index, byte in enumerate(b"OggS")),
    )
    start = tf.maximum(tf.reduce_max(tf.where(starts, tf.range(size), 0)), 0)  # of none: lowest
    n_segments = padded[start + 26]
    end = start + 27 + n_segments + tf.reduce_sum(padded[start + 27 : start + 27 + n_segments])
    is_last = padded[start + 5] // 4 % 2 == 1
    same_stream = tf.reduce_all(tf.cast(padded[start + 14 : start + 18], tf.int64) == head[14:18])
    return _plan([vorbis & is_last & (end == size) & same_stream], _number(head, 40, 4))


def _plan_mp3(contents: tf.Tensor) -> _Plan:
    """Layer 3 files whose Xing header declares their length, delay and padding, and are whole."""
    tag = _head(contents)
    id3_bytes = 10 + functools.reduce(
        lambda total, at: total * 128 + tag[at] % 128, range(6, 10), 0
    )
    start = tf.cast(tf.where(_is_text(tag, 0, b"ID3"), id3_bytes, 0), tf.int32)
    head = _head(contents, start)
    version, layer = head[1] // 8 % 4, 4 - head[1] // 2 % 4
    mono = head[3] // 64 == 3
    is_first = version == 3
    side_info = tf.where(is_first, tf.where(mono, 17, 32), tf.where(mono, 9, 17))
    at = 4 + side_info
    tagged = _is_text(head, at, b"Xing") | _is_text(head, at, b"Info")
    # Flags 15: frames, bytes, table and quality are there, so the encoder's fields are at 120.
    declared = tagged & (_number(head, at + 4, 4, big_endian=True) == 15) & (head[at + 120] > 0)
    n_bytes = _number(head, at + 12, 4, big_endian=True)
    beyond = tf.cast(tf.strings.length(contents) - start, tf.int64) - n_bytes
    # A tag or a frame that was not counted may follow, but no second file.
    whole = (beyond >= 0) & (beyond < 2048)
    rates = tf.constant(
        [11025, 12000, 8000, 0] + [0] * 4 + [22050, 24000, 16000, 0] + [44100, 48000, 32000, 0]
    )
    rate = tf.gather(rates, version * 4 + head[2] // 4 % 4)
    synced = (head[0] == 255) & (head[1] >= 224) & (layer == 3)
    return _plan([synced & declared & whole & (n_bytes > 0)], rate)


_PLANS: dict[str, Callable[[tf.Tensor], _Plan]] = {
    "wav": _plan_wav,
    "flac": _plan_flac,
    "ogg": _plan_ogg,
    "mp3": _plan_mp3,
}
