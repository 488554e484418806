"""Segmentation from file to files: overlay, label map and regions of pictures and recordings."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfspec.datasets.spectrum_sensing_images import LAYOUTS, Colour, LabelLayout
from tfspec.errors import ConfigError, DataError, OutputError, TfspecError
from tfspec.segmentation.overlay import overlay_png, write_label_npy, write_label_png, write_png
from tfspec.segmentation.predict import SegmentedImage, Segmenter
from tfspec.segmentation.regions import (
    ImageAxes,
    Region,
    RegionFinder,
    find_regions,
    write_regions,
)

logger = logging.getLogger(__name__)

# What this module writes; whatever of it an earlier run left is replaced.
_OUTPUTS = ("overlay*.png", "labels*.png", "labels*.npy", "regions.csv")
_PAGE_WINDOWS = 8  # a picture of a recording shows so many images side by side
# Of classes without a colour of their own.
_MORE_COLOURS: tuple[Colour, ...] = ((0, 114, 178), (0, 158, 115), (204, 121, 167), (240, 228, 66))
_OTHER_PICTURES = (".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How files are read and what is written.

    Attributes:
        sample_rate: Hz, of NumPy and raw IQ files, which do not state it.
        datatype: of raw IQ files whose suffix does not say it, as SigMF names it.
        orientation: what the rows of pictures are, read and written; as in the network's training
            when None.
        resize: stretch pictures of another size.
        picture_duration: time that a picture shows, seconds; that of training images when None.
        picture_bandwidth: bandwidth that a picture shows, Hz; likewise.
        center_frequency: frequency in the middle of pictures, and of recordings that state none,
            Hz.
        min_pixels: smaller regions are left out.
        pictures: write overlays and label maps as PNG; a recording's come in pages.

    Raises:
        ConfigError: a value outside its range.
    """

    sample_rate: float | None = None
    datatype: str | None = None
    orientation: str | None = None
    resize: bool = False
    picture_duration: float | None = None
    picture_bandwidth: float | None = None
    center_frequency: float = 0.0
    min_pixels: int = 8
    pictures: bool = True

    def __post_init__(self) -> None:
        for field in ("picture_duration", "picture_bandwidth"):
            value = getattr(self, field)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"`{field}` must be more than 0. Received: {field}={value!r}")
        if self.min_pixels < 1:
            raise ConfigError(f"`min_pixels` must be at least 1. Received: {self.min_pixels!r}")


def segment_files(
    paths: Sequence[str | os.PathLike[str]],
    segmenter: Segmenter,
    out: str | os.PathLike[str],
    options: SegmentOptions | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[dict[str, list[Path]], dict[str, TfspecError]]:
    """Segments files into `OUT/NAME/`; a bad file does not stop the others.

    Args:
        paths: pictures and recordings; two of the same name go to `NAME` and `NAME_2`.
        segmenter: the model.
        out: folder of the results.
        options: how files are read and what is written.
        progress: called as `progress(path, columns_done, columns)`.

    Returns:
        The written files and the errors, by path.
    """
    written: dict[str, list[Path]] = {}
    errors: dict[str, TfspecError] = {}
    for path, folder in zip(paths, _folders(paths, Path(out)), strict=True):
        name = str(path)
        report = None if progress is None else _bound(progress, name)
        try:
            written[name] = segment_file(path, segmenter, folder, options, progress=report)
        except TfspecError as error:
            errors[name] = error
    return written, errors


def segment_file(
    path: str | os.PathLike[str],
    segmenter: Segmenter,
    out: str | os.PathLike[str],
    options: SegmentOptions | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Segments a picture (`.png`) or an IQ recording (SigMF, `.npy`, raw) of any length.

    Writes `overlay.png`, `labels.png`, `labels.npy` (uint8 `(frequency, time)`, lowest frequency
    first) and `regions.csv`. Pictures of a long recording come in pages, `overlay_00001.png` and
    so on; each stretch of an interrupted recording has label maps of its own, `labels_1.npy`.

    Args:
        path: the file.
        segmenter: the model.
        out: folder of the results, made when missing; what else is in it stays.
        options: how the file is read and what is written.
        progress: called as `progress(columns_done, columns)`.

    Returns:
        The written files; none is left when the file fails half-way.

    Raises:
        DataError, ConfigError: the file cannot be read or does not fit the model.
        OutputError: the results cannot be written.
    """
    options = options or SegmentOptions()
    suffix = Path(path).suffix.lower()
    if suffix in _OTHER_PICTURES:
        raise DataError(f"{path}: is a {suffix[1:]} picture; save it as PNG, without loss")
    with _replaced(Path(out)) as folder:
        if suffix == ".png":
            _segment_picture(path, segmenter, folder, options)
            if progress is not None:
                progress(1, 1)
        else:
            _segment_recording(path, segmenter, folder, options, progress)
        names = sorted(entry.name for entry in folder.iterdir())
    return [Path(out) / name for name in names]


def _segment_picture(
    path: str | os.PathLike[str], segmenter: Segmenter, folder: Path, options: SegmentOptions
) -> None:
    found = segmenter.picture(
        path,
        orientation=options.orientation,
        resize=options.resize,
        axes=_picture_axes(segmenter, options),
    )
    write_label_npy(folder / "labels.npy", found.labels)
    write_regions(folder / "regions.csv", _regions(found, segmenter, options))
    if options.pictures:
        _Pages(folder, segmenter, options, single=True).add(found).close()


def _picture_axes(segmenter: Segmenter, options: SegmentOptions) -> ImageAxes:
    front_end = segmenter.front_end
    bandwidth = options.picture_bandwidth or front_end.sample_rate
    return ImageAxes(
        start=0.0,
        seconds_per_column=(options.picture_duration or front_end.duration) / front_end.width,
        lowest_frequency=options.center_frequency - bandwidth / 2,
        hz_per_row=bandwidth / front_end.height,
    )


def _segment_recording(
    path: str | os.PathLike[str],
    segmenter: Segmenter,
    folder: Path,
    options: SegmentOptions,
    progress: Callable[[int, int], None] | None,
) -> None:
    from tfspec.signal.iq import open_iq

    recording = open_iq(path, sample_rate=options.sample_rate, datatype=options.datatype)
    grid = segmenter.grid(recording)
    columns = [grid.columns(segment.n_samples) for segment in recording.info.segments]
    if not all(columns):
        logger.warning(
            "%s: %d stretches are shorter than a column and left out", path, columns.count(0)
        )
    single = sum(columns) <= _PAGE_WINDOWS * segmenter.front_end.width and len(columns) == 1
    finder = RegionFinder(
        segmenter.front_end.classes,
        background=segmenter.front_end.background,
        min_pixels=options.min_pixels,
    )
    pages = _Pages(folder, segmenter, options, single=single)
    maps = _LabelMaps(folder, grid.rows, columns)
    regions: list[Region] = []
    done, segment = 0, 0
    for found in segmenter.recording(recording):
        found = _shifted(found, recording.info.segments[found.segment].center_frequency, options)
        if found.segment != segment:  # nothing goes on over a break
            regions += finder.finish()
            pages.close()
            segment = found.segment
        regions += finder.add(found.labels, found.class_probs, found.axes)
        maps.add(found)
        if options.pictures:
            pages.add(found)
        done += found.labels.shape[1]
        if progress is not None:
            progress(done, sum(columns))
    pages.close()
    maps.close()
    write_regions(folder / "regions.csv", [*regions, *finder.finish()])


def _shifted(
    found: SegmentedImage, stated: float | None, options: SegmentOptions
) -> SegmentedImage:
    """With the frequency of the options where the recording states none."""
    if stated is not None or not options.center_frequency:
        return found
    lowest = found.axes.lowest_frequency + options.center_frequency
    axes = dataclasses.replace(found.axes, lowest_frequency=lowest)
    return dataclasses.replace(found, axes=axes)


def _regions(found: SegmentedImage, segmenter: Segmenter, options: SegmentOptions) -> list[Region]:
    return find_regions(
        found.labels,
        found.class_probs,
        found.axes,
        classes=segmenter.front_end.classes,
        background=segmenter.front_end.background,
        min_pixels=options.min_pixels,
    )


class _LabelMaps:
    """Label maps of a recording's stretches, on disk from the start."""

    def __init__(self, folder: Path, rows: int, columns: Sequence[int]) -> None:
        self._folder, self._rows, self._columns = folder, rows, columns
        self._map: np.ndarray | None = None
        self._segment, self._done = -1, 0

    def add(self, found: SegmentedImage) -> None:
        if found.segment != self._segment:
            self._segment, self._done = found.segment, 0
            number = f"_{found.segment + 1}" if len(self._columns) > 1 else ""
            self._map = np.lib.format.open_memmap(
                self._folder / f"labels{number}.npy",
                mode="w+",
                dtype=np.uint8,
                shape=(self._rows, self._columns[found.segment]),
            )
        stop = self._done + found.labels.shape[1]
        if self._map is not None:
            self._map[:, self._done : stop] = found.labels
        self._done = stop

    def close(self) -> None:
        """Closes the file; no more can be added."""
        self._map = None


class _Pages:
    """Pictures of consecutive images, several side by side on a page."""

    def __init__(
        self, folder: Path, segmenter: Segmenter, options: SegmentOptions, *, single: bool
    ) -> None:
        self._folder, self._segmenter, self._options = folder, segmenter, options
        self._single = single
        self._number = 0
        self._open: list[SegmentedImage] = []

    def add(self, found: SegmentedImage) -> _Pages:
        self._open.append(found)
        if len(self._open) == _PAGE_WINDOWS:
            self.close()
        return self

    def close(self) -> None:
        """Writes the page that is open."""
        if not self._open:
            return
        page = _joined(self._open)
        self._open = []
        self._number += 1
        end = ".png" if self._single else f"_{self._number:05d}.png"
        front_end = self._segmenter.front_end
        picture = overlay_png(
            page.image,
            page.labels,
            page.axes,
            classes=front_end.classes,
            background=front_end.background,
            regions=_regions(page, self._segmenter, self._options),
        )
        write_png(self._folder / f"overlay{end}", picture)
        write_label_png(
            self._folder / f"labels{end}",
            page.labels,
            classes=front_end.classes,
            layout=class_layout(front_end.classes),
            orientation=self._options.orientation or front_end.orientation,
        )


def class_layout(classes: Sequence[str]) -> LabelLayout:
    """Colours of label pictures: the paper's, so that readers of its data read ours.

    Raises:
        ConfigError: more classes than colours.
    """
    paper = LAYOUTS["paper"]
    colours = dict(zip(paper.classes, paper.colours, strict=True))
    others = [name for name in classes if name not in colours]
    if len(others) > len(_MORE_COLOURS):
        raise ConfigError(
            f"label pictures have colours for {len(_MORE_COLOURS)} classes beside "
            f"{', '.join(colours)}, the model has {len(others)}; leave the pictures out"
        )
    colours |= dict(zip(others, _MORE_COLOURS, strict=False))
    return LabelLayout(
        classes=tuple(colours), colours=tuple(colours.values()), orientation=paper.orientation
    )


def _joined(images: Sequence[SegmentedImage]) -> SegmentedImage:
    """Consecutive images as one."""
    probabilities = [image.class_probs for image in images if image.class_probs is not None]
    return dataclasses.replace(
        images[0],
        image=np.concatenate([image.image for image in images], axis=1),
        labels=np.concatenate([image.labels for image in images], axis=1),
        class_probs=np.concatenate(probabilities, axis=1) if probabilities else None,
    )


@contextlib.contextmanager
def _replaced(final: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `final`, whose files replace those in it on success."""
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        final.mkdir(exist_ok=True)
        for pattern in _OUTPUTS:
            for old in final.glob(pattern):
                old.unlink()
        for file in sorted(temporary.iterdir()):
            os.replace(file, final / file.name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{final}: cannot be written ({reason}); choose another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _bound(progress: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _folders(paths: Sequence[str | os.PathLike[str]], out: Path) -> list[Path]:
    """One folder per file, told apart by a number where names repeat."""
    taken: set[str] = set()
    folders = []
    for path in paths:
        stem = Path(path).stem
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        folders.append(out / name)
    return folders
