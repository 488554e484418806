"""Separation of audio of any length and sample rate, in bounded memory.

The model sees 0 to 5.5 kHz of a mono mix. Its masks are applied to a transform of the file's own
band whose bins and frames line up (1024/256 at 11,025 Hz is 4096/1024 at 44,100 Hz), so that the
output keeps rate, band and channels of the input.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfspec.errors import AudioError, ConfigError
from tfspec.separation.estimators import MaskEstimator, estimator_of, load_estimator
from tfspec.separation.front_end import FrontEnd
from tfspec.signal.audio import StreamResampler
from tfspec.signal.streaming_stft import StreamingIstft, StreamingStft

if TYPE_CHECKING:
    import keras

HIGH_BANDS = ("extend", "zero", "mixture")
TARGETS = ("vocals", "accompaniment")
MIN_RATE, MAX_RATE, MAX_CHANNELS = 4_000, 192_000, 2
MIN_SECONDS = 0.25
# `extend` continues the average mask of this many top bins (1 kHz) to the end of the band.
EXTENSION_HZ = 1000.0


class Separator:
    """Separates vocals from accompaniment with a trained model.

    Args:
        model: a model folder, a `.tflite` file of tfspec, a Keras model, or a mask estimator.
        front_end: of a Keras model, when it was not trained with its preset's recipe.
        overlap_frames: frames that neighbouring segments share and cross-fade over, up to half a
            segment; a quarter when None.
        high_band: what happens above the model's band: `extend` continues the mask of its top
            1 kHz, `zero` gives the band to the accompaniment, `mixture` to the vocals.
        batch_segments: segments per call of the network. More is faster on long files; 1 gives
            the shortest latency.
        num_threads: of a `.tflite` model; all cores when None.

    Raises:
        ConfigError: an argument outside its range.
        ModelError: the model cannot be loaded.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | keras.Model | MaskEstimator,
        *,
        front_end: FrontEnd | None = None,
        overlap_frames: int | None = None,
        high_band: str = "extend",
        batch_segments: int = 4,
        num_threads: int | None = None,
    ) -> None:
        if high_band not in HIGH_BANDS:
            raise ConfigError(f"`high_band` must be one of {HIGH_BANDS}. Received: {high_band!r}")
        if batch_segments < 1:
            raise ConfigError(f"`batch_segments` must be >= 1. Received: {batch_segments}")
        if isinstance(model, (str, os.PathLike)):
            model = load_estimator(model, num_threads=num_threads)
        elif hasattr(model, "get_layer"):
            model = estimator_of(model, front_end)
        self.estimator: MaskEstimator = model
        self.front_end = model.front_end
        half = self.front_end.segment_frames // 2
        if overlap_frames is None:
            overlap_frames = half // 2
        if not 0 <= overlap_frames <= half:
            raise ConfigError(
                f"`overlap_frames` must be in 0..{half} (half a segment). "
                f"Received: overlap_frames={overlap_frames}"
            )
        self.overlap_frames = overlap_frames
        self.high_band = high_band
        self.batch_segments = batch_segments

    def separate(self, waveform: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Separates a waveform; see `separate`."""
        waveform = np.asarray(waveform)
        if waveform.ndim not in (1, 2) or not np.issubdtype(waveform.dtype, np.floating):
            raise AudioError(
                "`waveform` must be floating point of shape (samples, channels). "
                f"Received: {waveform.dtype} of shape {waveform.shape}"
            )
        signal = waveform[:, None] if waveform.ndim == 1 else waveform
        check_audio(sample_rate, signal.shape[1], len(signal), "`waveform`")
        # Ten seconds at a time: the transforms of a whole song would need ten times its memory.
        step = 10 * sample_rate
        blocks = (signal[start : start + step] for start in range(0, len(signal), step))
        parts = list(self.separate_blocks(blocks, sample_rate, signal.shape[1]))
        stems = {name: np.concatenate([part[name] for part in parts]) for name in TARGETS}
        return {name: stem.reshape(waveform.shape) for name, stem in stems.items()}

    def stream(self, sample_rate: int, channels: int) -> SeparationStream:
        """Starts a block-wise separation; see `SeparationStream`."""
        return SeparationStream(self, sample_rate, channels)

    def separate_blocks(
        self, blocks: Iterable[np.ndarray], sample_rate: int, channels: int
    ) -> Iterator[dict[str, np.ndarray]]:
        """Separates blocks as they come, e.g. from `stream_audio`.

        Yields:
            For each block what became final, which lags behind by up to `latency` samples; all
            together have the length of the input.
        """
        stream = self.stream(sample_rate, channels)
        for block in blocks:
            yield stream.process(block)
        yield stream.finish()


def separate(
    waveform: np.ndarray,
    sample_rate: int,
    model: str | os.PathLike[str] | keras.Model | MaskEstimator,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Separates a waveform; `Separator(model).separate` does it for several.

    Args:
        waveform: `(samples, channels)` or `(samples,)` floating point, mono or stereo.
        sample_rate: Hz, 4,000 to 192,000.
        model: a model folder, a `.tflite` file, a Keras model, or a mask estimator.
        **options: of `Separator`.

    Returns:
        `vocals` and `accompaniment`, float32, shape, rate and band of the input; they add up to
        it.

    Raises:
        AudioError: NaN samples, too short, or channels or rate out of range.
        ModelError: the model cannot be loaded.
    """
    return Separator(model, **options).separate(waveform, sample_rate)


def check_audio(sample_rate: int, channels: int, n_samples: int, name: str) -> None:
    """Checks that audio is something to separate.

    Raises:
        AudioError: one line naming the file or argument, the value and what is allowed.
    """
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise AudioError(
            f"{name}: has a sample rate of {sample_rate} Hz; separation takes {MIN_RATE} to "
            f"{MAX_RATE} Hz: resample it first"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"{name}: has {channels} channels; separation takes mono or stereo: mix it down "
            "first, e.g. with `ffmpeg -i IN -ac 2 OUT.wav`"
        )
    if n_samples < MIN_SECONDS * sample_rate:
        raise AudioError(
            f"{name}: lasts {n_samples / sample_rate:.3f} s; separation needs {MIN_SECONDS} s"
        )


class SeparationStream:
    """Separates audio block by block; made by `Separator.stream`.

    Args:
        separator: the model and its options.
        sample_rate: Hz of the blocks.
        channels: of the blocks, 1 or 2.

    Raises:
        AudioError: sample rate or channels out of range.
    """

    def __init__(self, separator: Separator, sample_rate: int, channels: int) -> None:
        check_audio(sample_rate, channels, sample_rate, "stream")
        config = separator.front_end.stft
        self.sample_rate, self.channels = sample_rate, channels
        self._factor = -(-sample_rate // config.sample_rate)
        self._config = config.scaled(self._factor)
        self._analysis = StreamingStft(self._config, channels)
        self._synthesis = StreamingIstft(self._config, channels)
        self._masks = _MaskStream(separator, self._factor)
        self._to_work = self._to_file = None
        if self._config.sample_rate != sample_rate:
            self._to_work = StreamResampler(sample_rate, self._config.sample_rate, channels)
            self._to_file = StreamResampler(self._config.sample_rate, sample_rate, channels)
        self._spectra: list[np.ndarray] = []
        self._mixture = np.zeros((0, channels), np.float32)
        self._received = self._returned = self._worked = 0

    @property
    def latency(self) -> int:
        """Samples that the output lags behind at most: feed N, and at least N - latency are out.

        One batch of segments and one transform window, and what the resamplers hold back.
        """
        frames = self._masks.latency_frames
        work = frames * self._config.hop_length + self._config.n_fft
        samples = -(-work * self.sample_rate // self._config.sample_rate)
        return samples + (self.sample_rate // 4 if self._to_work else 0)

    def process(self, block: np.ndarray) -> dict[str, np.ndarray]:
        """Adds a block of input and returns the output that became final.

        Args:
            block: `(samples, channels)` floating point, finite, any length.

        Returns:
            `vocals` and `accompaniment`, `(n, channels)` float32 each; n may be 0.

        Raises:
            AudioError: the block has another shape, or NaN or infinite samples.
        """
        return self._advance(np.asarray(block), last=False)

    def finish(self) -> dict[str, np.ndarray]:
        """Ends the signal and returns the rest."""
        return self._advance(np.zeros((0, self.channels), np.float32), last=True)

    def _advance(self, block: np.ndarray, *, last: bool) -> dict[str, np.ndarray]:
        if block.ndim != 2 or block.shape[1] != self.channels:
            raise AudioError(
                f"a block must have shape (samples, {self.channels}). Received: {block.shape}"
            )
        if not np.isfinite(block).all():
            where = self._received + int(np.argmin(np.isfinite(block).all(axis=1)))
            raise AudioError(f"NaN or infinite sample at {where / self.sample_rate:.3f} s")
        block = block.astype(np.float32, copy=False)
        self._received += len(block)
        self._mixture = np.concatenate([self._mixture, block])
        work = self._to_work.process(block, last=last) if self._to_work else block
        self._worked += len(work)
        spectrum = self._analysis.process(work, last=last)
        if spectrum.shape[-1]:
            self._spectra.append(spectrum)
        mask = self._masks.process(spectrum, last=last)
        masked = self._take_spectra(mask.shape[-1]) * mask
        length = self._worked if last else None
        vocals = self._synthesis.process(masked, last=last, length=length)
        if self._to_file:
            vocals = self._to_file.process(vocals, last=last)
        return self._split(vocals, last)

    def _take_spectra(self, count: int) -> np.ndarray:
        """The oldest `count` frames of the mixture's spectrum."""
        shape = (self.channels, self._config.n_bins, 0)
        spectra = np.concatenate([np.zeros(shape, np.complex64), *self._spectra], axis=-1)
        rest = spectra[..., count:]
        self._spectra = [rest] if rest.shape[-1] else []
        return spectra[..., :count]

    def _split(self, vocals: np.ndarray, last: bool) -> dict[str, np.ndarray]:
        """Cuts vocals to the input's length and takes them off the mixture."""
        missing = self._received - self._returned
        if last and len(vocals) < missing:  # resampling rounds the length by a sample or two
            vocals = np.pad(vocals, [(0, missing - len(vocals)), (0, 0)])
        vocals = vocals[:missing]
        mixture = self._mixture[: len(vocals)]
        self._mixture = self._mixture[len(vocals) :]
        self._returned += len(vocals)
        return {"vocals": vocals, "accompaniment": mixture - vocals}


class _MaskStream:
    """Masks for a stream of spectra: overlapping segments, cross-faded with weights that sum to 1.

    Segment k covers frames `k * hop .. k * hop + segment_frames`; in the overlap of two segments
    the weight moves linearly from the earlier to the later one.
    """

    def __init__(self, separator: Separator, factor: int) -> None:
        self._separator = separator
        self._config = separator.front_end.stft
        self._factor = factor
        self._length = separator.front_end.segment_frames
        self._hop = self._length - separator.overlap_frames
        self._pending = np.zeros((self._config.n_model_bins, 0), np.float32)
        self._tail = np.zeros((self._config.n_model_bins, 0), np.float32)
        ramp = np.arange(1, separator.overlap_frames + 1) / (separator.overlap_frames + 1)
        self._fade_in = ramp.astype(np.float32)
        extension = round(EXTENSION_HZ / self._config.bin_width)
        self._top = min(extension, self._config.n_model_bins)

    @property
    def latency_frames(self) -> int:
        """Frames that must arrive before the first of a batch can leave."""
        return self._length + (self._separator.batch_segments - 1) * self._hop

    def process(self, spectrum: np.ndarray, *, last: bool) -> np.ndarray:
        """Adds frames `(channels, bins, n)`; returns final masks `(all bins, m)`."""
        mono = spectrum.mean(axis=0)[: self._config.n_model_bins]
        # A window `factor` times as long sums `factor` times as many samples.
        magnitude = np.abs(mono) / self._factor
        self._pending = np.concatenate([self._pending, magnitude], axis=1)
        masks = [np.zeros((self._config.n_model_bins, 0), np.float32)]
        while self._pending.shape[1] >= self.latency_frames:
            masks += self._run(self._separator.batch_segments)
        if last:
            masks += self._flush()
        return self._extend(np.concatenate(masks, axis=1))

    def _run(self, count: int) -> list[np.ndarray]:
        """Masks of `count` segments, all but the last overlap of them final."""
        starts = [index * self._hop for index in range(count)]
        segments = np.stack([self._pending[:, s : s + self._length] for s in starts])[..., None]
        masks = self._separator.estimator(segments)[..., 0]
        self._pending = self._pending[:, count * self._hop :]
        return [self._join(mask) for mask in masks]

    def _join(self, mask: np.ndarray) -> np.ndarray:
        """Cross-fades a segment's mask with the end of the one before."""
        overlap = self._tail.shape[1]
        head = mask[:, : self._hop].copy()
        if overlap:
            joined = self._tail + self._fade_in * mask[:, :overlap]
            head[:, :overlap] = joined
        self._tail = mask[:, self._hop :] * (1.0 - self._fade_in)
        return head

    def _flush(self) -> list[np.ndarray]:
        """The rest of the signal, padded with silence to whole segments."""
        left = self._pending.shape[1]
        count = max(1, -(-max(left - self._separator.overlap_frames, 0) // self._hop))
        padded = count * self._hop + self._separator.overlap_frames
        self._pending = np.pad(self._pending, [(0, 0), (0, padded - left)])
        masks = np.concatenate(self._run(count), axis=1)
        # The last segment has no successor to fade to: give it back its full weight.
        rest = self._tail / (1.0 - self._fade_in) if self._tail.shape[1] else self._tail
        return [np.concatenate([masks, rest], axis=1)[:, :left]]

    def _extend(self, mask: np.ndarray) -> np.ndarray:
        """Continues the model's mask over the bins above its band."""
        missing = self._config.scaled(self._factor).n_bins - len(mask)
        if self._separator.high_band == "extend":
            fill = mask[-self._top :].mean(axis=0, keepdims=True)
        else:
            fill = np.full((1, mask.shape[1]), float(self._separator.high_band == "mixture"))
        return np.concatenate([mask, np.repeat(fill, missing, axis=0)]).astype(np.float32)
