"""Segmentation of pictures and of IQ recordings of any length and sample rate, in bounded memory.

A recording is looked at window after window, each made into an image exactly as the captures of
training were: same transform, same pixels, same stretching of levels from its weakest to its
strongest pixel. `tfspec.segmentation.grid` says what happens at other sample rates.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfspec.datasets.spectrum_sensing_images import picture_size, read_image
from tfspec.errors import DataError
from tfspec.segmentation.estimators import SegmentationEstimator, load_segmenter, segmenter_of
from tfspec.segmentation.front_end import FrontEnd
from tfspec.segmentation.grid import IqGrid, Window
from tfspec.segmentation.regions import ImageAxes
from tfspec.synth.radio.images import colour_image, scale_power

if TYPE_CHECKING:
    import keras

    from tfspec.signal.iq import IqRecording, IqSegment

_DEFAULT_COLOURS = "viridis"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SegmentedImage:
    """An image with the classes of its pixels; lowest frequency and earliest time first.

    Attributes:
        image: what to show, uint8 `(frequency, time, 3)`.
        labels: class numbers, uint8 `(frequency, time)`.
        class_probs: float32 `(frequency, time, classes)`; None of models that give labels only.
        axes: what the pixels stand for.
        segment: of a recording, number of the stretch without a break that it belongs to.
    """

    image: np.ndarray
    labels: np.ndarray
    class_probs: np.ndarray | None
    axes: ImageAxes
    segment: int = 0


class Segmenter:
    """Finds the classes of spectrograms with a trained network.

    Args:
        model: a model folder, a `.tflite` file of tfspec, a Keras model, or an estimator.
        front_end: of a Keras model, when it was not trained with its preset's recipe.
        num_threads: of a `.tflite` model; all cores when None.

    Raises:
        ConfigError: a Keras model of unknown front end.
        ModelError: the model cannot be loaded.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | keras.Model | SegmentationEstimator,
        *,
        front_end: FrontEnd | None = None,
        num_threads: int | None = None,
    ) -> None:
        if isinstance(model, (str, os.PathLike)):
            model = load_segmenter(model, num_threads=num_threads)
        elif hasattr(model, "get_layer"):
            model = segmenter_of(model, front_end)
        self.estimator: SegmentationEstimator = model
        self.front_end = model.front_end

    def picture(
        self,
        path: str | os.PathLike[str],
        *,
        orientation: str | None = None,
        resize: bool = False,
        axes: ImageAxes | None = None,
    ) -> SegmentedImage:
        """Segments a picture.

        A grey picture is taken for levels: it is coloured as the network's training images were.

        Args:
            path: PNG file.
            orientation: what its rows are, see
                `tfspec.datasets.spectrum_sensing_images.to_frequency_time`; as in training when
                None.
            resize: stretch a picture of another size to that of the network; its pixels then
                stand for other times and frequencies than those of training.
            axes: what the picture shows; what training images show, from 0 s and around 0 Hz,
                when None.

        Raises:
            ConfigError: `orientation` is not allowed.
            DataError: the file cannot be read, has another size than the network, or has colours
                where the network sees levels.
        """
        wanted = (self.front_end.height, self.front_end.width)
        turn = orientation or self.front_end.orientation
        if not resize:
            self._check_size(path, turn, wanted)
        pixels = read_image(path, channels=self.front_end.channels, orientation=turn, size=wanted)
        colour_map = self.front_end.colour_map
        grey = pixels.shape[2] == 3 and bool((pixels == pixels[..., :1]).all())
        if grey and colour_map is not None:
            pixels = colour_image(pixels[..., 0] / np.float32(255.0), colour_map)
        return self.image(pixels, axes=axes)

    def image(self, pixels: np.ndarray, *, axes: ImageAxes | None = None) -> SegmentedImage:
        """Segments one image of the network's size.

        Args:
            pixels: `(frequency, time, channels)`, lowest frequency first; uint8, or floats in
                [0, 1].
            axes: as for `picture`.

        Raises:
            DataError: another shape, or values that are not finite.
        """
        pixels = np.asarray(pixels)
        if pixels.shape != self.front_end.input_shape:
            raise DataError(
                f"`pixels` must be {self.front_end.input_shape} (frequency, time, channels). "
                f"Received: {pixels.shape}"
            )
        levels = pixels / np.float32(255.0) if pixels.dtype == np.uint8 else pixels
        if not np.isfinite(levels).all():
            raise DataError("`pixels` must be finite. Received: NaN or infinite values")
        labels, class_probs = self.estimator(self._input(levels)[None])
        shown = np.rint(255.0 * np.clip(levels, 0.0, 1.0)).astype(np.uint8)
        return SegmentedImage(
            image=np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown,
            labels=labels[0],
            class_probs=None if class_probs is None else class_probs[0],
            axes=axes or self.front_end.axes,
        )

    def recording(self, recording: IqRecording) -> Iterator[SegmentedImage]:
        """Segments a recording, window after window, in memory of one window.

        Args:
            recording: of `tfspec.signal.iq.open_iq`.

        Yields:
            The windows in order; each begins where the one before ended, or a new stretch of the
            recording. Less than a column at the end of a stretch is left out.

        Raises:
            ConfigError: the network's images cannot be drawn from IQ.
            DataError: the sample rate or the length does not fit the network, or samples are not
                finite.
        """
        grid = self.grid(recording)
        for number, segment in enumerate(recording.info.segments):
            for window in grid.windows(segment.n_samples):
                yield self._window(grid, recording, segment, number, window)

    def grid(self, recording: IqRecording) -> IqGrid:
        """Rows and columns of a recording's spectrogram; errors as for `recording`."""
        grid = IqGrid.of(self.front_end, recording.info.sample_rate, recording.path)
        longest = max(segment.n_samples for segment in recording.info.segments)
        if not grid.columns(longest):
            raise DataError(
                f"{recording.path}: has {longest} samples without a break; one column of the "
                f"model's images takes {grid.column_samples}"
            )
        return grid

    def _window(
        self,
        grid: IqGrid,
        recording: IqRecording,
        segment: IqSegment,
        number: int,
        window: Window,
    ) -> SegmentedImage:
        samples = recording.read(segment.start + window.start, window.columns * grid.column_samples)
        power = grid.power(samples, window.columns)
        labels, class_probs = self._labels(grid, power)
        old = window.columns - window.new
        start = segment.start + window.start + old * grid.column_samples
        colours = colour_image(scale_power(power)[0], self.front_end.colour_map or _DEFAULT_COLOURS)
        return SegmentedImage(
            image=colours[:, old:],
            labels=labels[:, old:],
            class_probs=None if class_probs is None else class_probs[:, old:],
            axes=grid.axes(start, segment.center_frequency),
            segment=number,
        )

    def _labels(self, grid: IqGrid, power: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Classes of a window, put together from the images that show it."""
        images, places = grid.tiles(power)
        inputs = [self._input(self._levels(image)) for image in images]
        found, probabilities = self.estimator(np.stack(inputs))
        columns = power.shape[1]
        labels = np.empty(power.shape, np.uint8)
        class_probs = None
        if probabilities is not None:
            class_probs = np.empty((*power.shape, probabilities.shape[-1]), np.float32)
        for tile, (rows, inside) in enumerate(places):
            labels[rows] = found[tile, inside, :columns]
            if class_probs is not None and probabilities is not None:
                class_probs[rows] = probabilities[tile, inside, :columns]
        return labels, class_probs

    def _levels(self, power: np.ndarray) -> np.ndarray:
        """Powers of one image as training has them, `(frequency, time, channels)` in [0, 1]."""
        levels, _, _ = scale_power(power)
        if self.front_end.channels == 1:
            return levels[..., None]
        colours = colour_image(levels, self.front_end.colour_map or _DEFAULT_COLOURS)
        return colours / np.float32(255.0)

    def _input(self, levels: np.ndarray) -> np.ndarray:
        return self.front_end.scaled(levels.astype(np.float32, copy=False))

    def _check_size(
        self, path: str | os.PathLike[str], orientation: str, wanted: tuple[int, int]
    ) -> None:
        size = picture_size(path)
        found = size[::-1] if orientation.startswith("time") else size
        if found != wanted:
            raise DataError(
                f"{Path(path)}: is {found[0]} x {found[1]} pixels (frequency x time), the model "
                f"sees {wanted[0]} x {wanted[1]}; draw it in that size, or have it stretched "
                "(resize)"
            )
