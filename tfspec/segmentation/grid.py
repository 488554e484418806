"""How IQ of any sample rate becomes images whose pixels are those of training.

A row has the bandwidth and a column the time that the network was trained on, as nearly as whole
rows and samples allow. A lower sample rate therefore gives fewer rows, which are mirrored until
they fill an image; a higher one more rows, which are cut into several images.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfspec.errors import DataError
from tfspec.segmentation.front_end import FrontEnd
from tfspec.segmentation.regions import ImageAxes
from tfspec.synth.radio.images import ImageConfig, power_spectrogram

# Of fewer rows nothing can be recognised; the narrowest LTE carrier takes 1.08 MHz.
MIN_ROWS = 8
MAX_ROWS = 4096


class Window(NamedTuple):
    """A stretch of a segment that one image shows.

    Attributes:
        start: its first sample.
        columns: columns of its image.
        new: how many of the last of these no earlier window had.
    """

    start: int
    columns: int
    new: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class IqGrid:
    """Rows and columns of the spectrogram of a recording, and the images it is cut into.

    Attributes:
        front_end: of the network.
        sample_rate: of the recording, Hz.
        rows: of the recording's spectrogram.
        column_samples: samples of a column.
    """

    front_end: FrontEnd
    sample_rate: float
    rows: int
    column_samples: int

    @classmethod
    def of(cls, front_end: FrontEnd, sample_rate: float, name: str) -> IqGrid:
        """The grid of a recording.

        Args:
            front_end: of the network.
            sample_rate: of the recording, Hz.
            name: of the recording, for messages.

        Raises:
            ConfigError: the network's images cannot be drawn from IQ.
            DataError: the sample rate is too low or too high for the network.
        """
        image = front_end.image
        rows = 2 * round(sample_rate / image.row_bandwidth / 2)
        if not MIN_ROWS <= rows <= MAX_ROWS:
            low, high = (n * image.row_bandwidth / 1e6 for n in (MIN_ROWS, MAX_ROWS))
            raise DataError(
                f"{name}: has a sample rate of {sample_rate / 1e6:g} MHz; a row of the model's "
                f"images is {image.row_bandwidth / 1e3:g} kHz, so it takes {low:g} to {high:g} MHz"
            )
        own = dataclasses.replace(
            image,
            sample_rate=sample_rate,
            n_samples=max(round(sample_rate * front_end.duration), front_end.width),
            height=rows,
        )
        column = own.n_samples // own.width
        # Columns of a whole number of equal hops; cutting off the rest may change their number.
        while own.frames_per_column * own.hop_length != column:
            column = own.frames_per_column * own.hop_length
            own = dataclasses.replace(own, n_samples=column * own.width)
        return cls(front_end=front_end, sample_rate=sample_rate, rows=rows, column_samples=column)

    def columns(self, n_samples: int) -> int:
        """Columns of so many samples; what is less than a column is left out."""
        return n_samples // self.column_samples

    def windows(self, n_samples: int) -> Iterator[Window]:
        """Windows over a segment: one after the other, the last one moved back to be a whole one.

        Args:
            n_samples: length of the segment.
        """
        total, width = self.columns(n_samples), self.front_end.width
        for done in range(0, total, width):
            columns = min(width, total)
            start = min(done, total - columns)
            yield Window(start * self.column_samples, columns, start + columns - done)

    def power(self, samples: np.ndarray, columns: int) -> np.ndarray:
        """Mean power of each pixel, `(rows, columns)`, lowest frequency first.

        Args:
            samples: complex `(columns * column_samples,)`.
            columns: of the window.
        """
        config = ImageConfig(
            sample_rate=self.sample_rate,
            n_samples=columns * self.column_samples,
            height=self.rows,
            width=columns,
        )
        return power_spectrogram(samples, config)[::-1]

    def tiles(self, power: np.ndarray) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
        """Images of the network's size that together show a window.

        Args:
            power: `(rows, columns)`, at most as many columns as the network's images have.

        Returns:
            Powers `(images, height, width)`, and for each image which of the window's rows it
            decides, and where they lie in the image. Where two images overlap, each decides up
            to the middle; mirrored rows and columns decide nothing.
        """
        height, width = self.front_end.height, self.front_end.width
        rows, columns = power.shape
        below = max(0, height - rows) // 2
        around = ((below, max(0, height - rows) - below), (0, width - columns))
        padded = np.pad(power, around, mode="symmetric")
        count = -(-rows // height)
        starts = np.linspace(0, len(padded) - height, count).round().astype(int).tolist()
        images = np.stack([padded[start : start + height] for start in starts])
        middles = [(a + height + b) // 2 for a, b in itertools.pairwise(starts)]
        edges = [0, *middles, rows]
        places = []
        for start, (low, high) in zip(starts, itertools.pairwise(edges), strict=True):
            first = low - start + below
            places.append((slice(low, high), slice(first, first + high - low)))
        return images, places

    def axes(self, start: int, center_frequency: float | None) -> ImageAxes:
        """Axes of an image whose first sample is number `start` of the recording."""
        return ImageAxes(
            start=start / self.sample_rate,
            seconds_per_column=self.column_samples / self.sample_rate,
            lowest_frequency=(center_frequency or 0.0) - self.sample_rate / 2,
            hz_per_row=self.sample_rate / self.rows,
        )
