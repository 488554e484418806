"""From label maps to detected signals: where in time and frequency, and how sure.

A region is a connected set of pixels of one class. Recordings longer than one image give a row of
label maps; `RegionFinder` joins regions across the seams between them, so that the result is that
of one long label map, in memory of one image and of the regions found.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tfspec.errors import ConfigError
from tfspec.signal.files import atomic_path

CSV_COLUMNS = (
    "class",
    "start_ms",
    "stop_ms",
    "lower_frequency_hz",
    "upper_frequency_hz",
    "mean_confidence",
)
# Pixels that touch: at a side (4), or at a corner too (8).
_NEIGHBOURS = {4: ndimage.generate_binary_structure(2, 1), 8: np.ones((3, 3), bool)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageAxes:
    """What the pixels of a label map stand for; a pixel covers its time and frequency wholly.

    Attributes:
        start: time of the left edge of column 0, seconds.
        seconds_per_column: width of a column.
        lowest_frequency: lower edge of row 0, Hz.
        hz_per_row: height of a row.
    """

    start: float
    seconds_per_column: float
    lowest_frequency: float
    hz_per_row: float

    def __post_init__(self) -> None:
        values = dataclasses.astuple(self)
        if (
            not all(map(math.isfinite, values))
            or min(self.seconds_per_column, self.hz_per_row) <= 0
        ):
            raise ConfigError(
                "image axes must be finite, `seconds_per_column` and `hz_per_row` above 0. "
                f"Received: {self}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region:
    """A detected signal: the box around the pixels of one region.

    Attributes:
        label: class number.
        name: of the class.
        start_ms: time at which it begins, milliseconds.
        stop_ms: time at which it ends.
        lower_frequency: lower edge, Hz.
        upper_frequency: upper edge, Hz.
        confidence: mean probability of the class over the region's pixels, 0..1; NaN when no
            probabilities were given.
        pixels: size of the region, not of the box.
    """

    label: int
    name: str
    start_ms: float
    stop_ms: float
    lower_frequency: float
    upper_frequency: float
    confidence: float
    pixels: int


def find_regions(
    label_map: np.ndarray,
    class_probs: np.ndarray | None,
    axes: ImageAxes,
    *,
    classes: Sequence[str],
    background: Collection[str] = ("noise",),
    min_pixels: int = 1,
    connectivity: int = 8,
) -> list[Region]:
    """Regions of one image; arguments as for `RegionFinder` and its `add`.

    Returns:
        The regions by start, then by lower frequency.
    """
    finder = RegionFinder(
        classes, background=background, min_pixels=min_pixels, connectivity=connectivity
    )
    return in_order([*finder.add(label_map, class_probs, axes), *finder.finish()])


class RegionFinder:
    """Finds regions in consecutive images of one recording.

    Each `add` returns the regions that can no longer grow; `finish` returns the rest. An image
    goes on from the one before when it begins where that ended (to half a column) and has the same
    rows; otherwise all open regions end before it.

    Args:
        classes: names of the classes, by number.
        background: names of classes that are no signal. Numbers without a name, such as the one
            for pixels to ignore, are none either.
        min_pixels: smaller regions are left out; counted after joining images.
        connectivity: 4 joins pixels at their sides, 8 at their corners too.

    Raises:
        ConfigError: an option is not allowed.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        background: Collection[str] = ("noise",),
        min_pixels: int = 1,
        connectivity: int = 8,
    ) -> None:
        if connectivity not in _NEIGHBOURS:
            raise ConfigError(f"`connectivity` must be 4 or 8. Received: {connectivity!r}")
        if min_pixels < 1:
            raise ConfigError(f"`min_pixels` must be at least 1. Received: {min_pixels!r}")
        self._classes = tuple(classes)
        self._signals = signal_classes(self._classes, background)
        self._min_pixels = min_pixels
        self._connectivity = connectivity
        self._open: list[_Part] = []
        self._edge = np.empty(0, np.int64)  # number in `_open` of each row's last pixel, or -1
        self._last: tuple[ImageAxes, float] | None = None  # axes of the last image, its end

    def add(
        self, label_map: np.ndarray, class_probs: np.ndarray | None, axes: ImageAxes
    ) -> list[Region]:
        """Takes the next image.

        Args:
            label_map: `(frequency, time)` class numbers, lowest frequency and earliest time first.
            class_probs: `(frequency, time, classes)` probabilities; None where a model gives
                labels only.
            axes: of this image.

        Returns:
            Regions that end before this image's last column, in no particular order.

        Raises:
            ValueError: the shapes do not fit each other.
        """
        label_map = np.asarray(label_map)
        if class_probs is not None:
            class_probs = np.asarray(class_probs)
        _check_shapes(label_map, class_probs, len(self._classes))
        before = [] if self._goes_on(axes, len(label_map)) else self.finish()
        parts, numbers = self._parts(label_map, class_probs, axes)
        joined, group = self._join(parts, numbers[:, 0])
        # The parts in the last column stay open; the others end here.
        edge = np.append(group, -1)[numbers[:, -1]]  # the last entry serves rows without a part
        still_open = np.unique(edge[edge >= 0])
        renumber = np.full(len(joined) + 1, -1)
        renumber[still_open] = np.arange(len(still_open))
        self._edge = renumber[edge]
        ended = np.delete(np.arange(len(joined)), still_open)
        self._open = [joined[index] for index in still_open]
        self._last = (axes, axes.start + label_map.shape[1] * axes.seconds_per_column)
        return before + self._regions(joined[index] for index in ended)

    def finish(self) -> list[Region]:
        """The regions that reach the end; another recording can be added afterwards."""
        regions = self._regions(self._open)
        self._open, self._edge, self._last = [], np.empty(0, np.int64), None
        return regions

    def _goes_on(self, axes: ImageAxes, n_rows: int) -> bool:
        if self._last is None:
            return False
        last, end = self._last
        return (
            n_rows == len(self._edge)
            and abs(axes.start - end) <= axes.seconds_per_column / 2
            and axes.hz_per_row == last.hz_per_row
            and axes.lowest_frequency == last.lowest_frequency
        )

    def _parts(
        self, label_map: np.ndarray, class_probs: np.ndarray | None, axes: ImageAxes
    ) -> tuple[list[_Part], np.ndarray]:
        """Connected parts of this image, and the number of the part of each pixel, or -1."""
        parts: list[_Part] = []
        numbers = np.full(label_map.shape, -1, np.int64)
        for label in self._signals:
            components, count = ndimage.label(
                label_map == label, structure=_NEIGHBOURS[self._connectivity]
            )
            sizes = np.bincount(components.ravel(), minlength=count + 1)
            sums = np.full(count + 1, math.nan)
            if class_probs is not None:
                own = class_probs[..., label].astype(np.float64).ravel()
                sums = np.bincount(components.ravel(), weights=own, minlength=count + 1)
            inside = components > 0
            numbers[inside] = components[inside] + (len(parts) - 1)
            for index, (rows, columns) in enumerate(ndimage.find_objects(components), start=1):
                step = axes.seconds_per_column
                parts.append(
                    _Part(
                        label=label,
                        start=axes.start + columns.start * step,
                        stop=axes.start + columns.stop * step,
                        lower=axes.lowest_frequency + rows.start * axes.hz_per_row,
                        upper=axes.lowest_frequency + rows.stop * axes.hz_per_row,
                        pixels=int(sizes[index]),
                        probability=float(sums[index]),
                    )
                )
        return parts, numbers

    def _join(self, parts: list[_Part], first: np.ndarray) -> tuple[list[_Part], np.ndarray]:
        """Joins open regions and parts that touch at the seam.

        Args:
            parts: of the new image.
            first: number of the part of each pixel in its first column, or -1.

        Returns:
            The joined regions, and the number of the region of each part.
        """
        nodes = [*self._open, *parts]
        if not nodes:
            return [], np.empty(0, np.int64)
        n_open = len(self._open)
        pairs = []
        if n_open:
            reach = (0,) if self._connectivity == 4 else (-1, 0, 1)
            for shift in reach:
                old = self._edge[max(0, -shift) : len(first) - max(0, shift)]
                new = first[max(0, shift) : len(first) - max(0, -shift)]
                pairs += [
                    (a, n_open + b)
                    for a, b in zip(old.tolist(), new.tolist(), strict=True)
                    if a >= 0 and b >= 0 and nodes[a].label == parts[b].label
                ]
        rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
        graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(nodes), len(nodes)))
        count, group = connected_components(graph, directed=False)
        members: list[list[_Part]] = [[] for _ in range(count)]
        for node, number in zip(nodes, group, strict=True):
            members[number].append(node)
        return [_merged(own) for own in members], group[n_open:]

    def _regions(self, parts: Iterable[_Part]) -> list[Region]:
        return [
            Region(
                label=part.label,
                name=self._classes[part.label],
                start_ms=1e3 * part.start,
                stop_ms=1e3 * part.stop,
                lower_frequency=part.lower,
                upper_frequency=part.upper,
                confidence=part.probability / part.pixels,
                pixels=part.pixels,
            )
            for part in parts
            if part.pixels >= self._min_pixels
        ]


def signal_classes(classes: Sequence[str], background: Collection[str]) -> list[int]:
    """Numbers of the classes that are signals.

    Raises:
        ConfigError: a name in `background` is no class.
    """
    unknown = sorted(set(background) - set(classes))
    if unknown:
        raise ConfigError(
            f"`background` must name classes of {tuple(classes)}. Received: {', '.join(unknown)}"
        )
    return [number for number, name in enumerate(classes) if name not in background]


def in_order(regions: Iterable[Region]) -> list[Region]:
    """Regions by start, then by lower frequency, then by class."""
    return sorted(regions, key=lambda r: (r.start_ms, r.lower_frequency, r.label))


def write_regions(path: str | os.PathLike[str], regions: Iterable[Region]) -> None:
    """Writes regions as CSV with the columns `CSV_COLUMNS`, in order of their start.

    Times have 0.1 microseconds, frequencies 0.1 Hz, confidences 4 decimals; a confidence that is
    not known is left empty.

    Raises:
        OutputError: the file cannot be written.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for region in in_order(regions):
            known = math.isfinite(region.confidence)
            writer.writerow(
                [
                    region.name,
                    f"{region.start_ms:.4f}",
                    f"{region.stop_ms:.4f}",
                    f"{region.lower_frequency:.1f}",
                    f"{region.upper_frequency:.1f}",
                    f"{region.confidence:.4f}" if known else "",
                ]
            )


@dataclasses.dataclass(frozen=True)
class _Part:
    """A region as far as it is known; times in seconds, frequencies in Hz."""

    label: int
    start: float
    stop: float
    lower: float
    upper: float
    pixels: int
    probability: float  # sum over the pixels


def _merged(parts: Sequence[_Part]) -> _Part:
    return _Part(
        label=parts[0].label,
        start=min(part.start for part in parts),
        stop=max(part.stop for part in parts),
        lower=min(part.lower for part in parts),
        upper=max(part.upper for part in parts),
        pixels=sum(part.pixels for part in parts),
        probability=sum(part.probability for part in parts),
    )


def _check_shapes(label_map: np.ndarray, class_probs: np.ndarray | None, n_classes: int) -> None:
    wanted = (*label_map.shape, n_classes)
    if label_map.ndim != 2 or 0 in label_map.shape:
        raise ValueError(
            f"`label_map` must be (frequency, time) with pixels. Received: {label_map.shape}"
        )
    if class_probs is not None and class_probs.shape != wanted:
        raise ValueError(f"`class_probs` must be {wanted}. Received: {class_probs.shape}")
