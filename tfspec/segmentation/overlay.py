"""Pictures of a segmentation: the spectrogram with its classes, and the label map itself."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch, Rectangle
from PIL import Image

from tfspec.datasets.spectrum_sensing_images import (
    IGNORE,
    Colour,
    LabelLayout,
    from_frequency_time,
    label_layout,
)
from tfspec.errors import ConfigError
from tfspec.report import canvas
from tfspec.segmentation.regions import ImageAxes, Region, signal_classes
from tfspec.signal.files import atomic_path

# Of the classes that are drawn, in turn; the line style says the same without colour.
_COLOURS = (canvas.ORANGE, canvas.BLUE, canvas.GREEN, "#CC79A7", "#F0E442", "#56B4E9")
_STYLES = ("-", "--", "-.", ":")
_FILL = 0.35
# Colour of pixels to ignore in a label picture: in no layout, so that a reader notices.
_IGNORED: Colour = (255, 0, 255)


def overlay_png(
    image: np.ndarray,
    label_map: np.ndarray,
    axes: ImageAxes,
    *,
    classes: Sequence[str],
    background: Collection[str] = ("noise",),
    regions: Iterable[Region] = (),
    title: str = "",
) -> bytes:
    """Draws the classes over a spectrogram, with axes and a legend.

    Args:
        image: `(frequency, time)` or `(frequency, time, 1 or 3)`, lowest frequency first: uint8,
            or floats of which the lowest is drawn black and the highest white.
        label_map: `(frequency, time)` class numbers.
        axes: of both.
        classes: names of the classes, by number.
        background: names of the classes that are not drawn.
        regions: boxes to draw, each with its confidence; times and frequencies as in `axes`.
        title: above the picture.

    Returns:
        A PNG image.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    pixels = _rgb(image)
    label_map = np.asarray(label_map)
    if label_map.shape != pixels.shape[:2]:
        raise ValueError(
            "`image` and `label_map` must have the same frequency and time. "
            f"Received: {np.shape(image)} and {label_map.shape}"
        )
    extent, unit, divisor = _extent(axes, label_map.shape)
    drawn = signal_classes(classes, background)
    looks = dict(zip(drawn, _looks(len(drawn)), strict=True))
    tint = np.zeros((*label_map.shape, 4))
    for label, (colour, _) in looks.items():
        tint[label_map == label] = to_rgba(colour, _FILL)
    with matplotlib.rc_context(canvas.STYLE):
        figure = canvas.new_figure(7.2, 4.6)
        axis = figure.subplots()
        options: Any = {"origin": "lower", "aspect": "auto", "extent": extent}
        axis.imshow(pixels, interpolation="nearest", **options)
        axis.imshow(tint, interpolation="nearest", **options)
        for region in regions:
            _draw_box(axis, region, looks[region.label], divisor)
        axis.set_xlim(extent[:2])
        axis.set_ylim(extent[2:])
        axis.set_xlabel("time (ms)")
        axis.set_ylabel(f"frequency ({unit})")
        axis.set_title(title)
        handles = [
            Patch(
                facecolor=to_rgba(colour, 2 * _FILL), edgecolor=colour, ls=style, label=classes[c]
            )
            for c, (colour, style) in looks.items()
        ]
        figure.legend(handles=handles, loc="outside right upper")
        return canvas.png_bytes(figure)


def write_label_npy(path: str | os.PathLike[str], label_map: np.ndarray) -> None:
    """Writes a label map `(frequency, time)` as it is, uint8, for programs.

    Raises:
        OutputError: the file cannot be written.
    """
    labels = _label_bytes(label_map)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, labels, allow_pickle=False)


def write_label_png(
    path: str | os.PathLike[str],
    label_map: np.ndarray,
    *,
    classes: Sequence[str],
    layout: str | LabelLayout = "paper",
    orientation: str | None = None,
) -> None:
    """Writes a label map as a picture with a palette: its values are classes, shown in colours.

    `tfspec.datasets.spectrum_sensing_images.read_label` reads it back, with the layout's numbers
    for the classes of the same names; pixels to ignore are magenta, which is no class of theirs.

    Args:
        path: PNG file.
        label_map: `(frequency, time)` class numbers and `IGNORE`.
        classes: names of the classes, by number.
        layout: that has a colour for each of them: `"paper"`, `"mathworks"` or a `LabelLayout`.
        orientation: what the rows of the picture are to be, see `to_frequency_time`; None is the
            layout's.

    Raises:
        ConfigError: a class has no colour.
        OutputError: the file cannot be written.
    """
    layout = label_layout(layout)
    colours = dict(zip(layout.classes, layout.colours, strict=True))
    lacking = [name for name in classes if name not in colours]
    if lacking:
        raise ConfigError(
            f"`layout` must have a colour for each class, it has {', '.join(colours)}. "
            f"Received: {', '.join(lacking)}"
        )
    labels = _label_bytes(label_map, len(classes))
    palette = np.full((IGNORE + 1, 3), _IGNORED, np.uint8)
    palette[: len(classes)] = [colours[name] for name in classes]
    pixels = from_frequency_time(labels, orientation or layout.orientation)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.putpalette(palette.tobytes())  # makes grey levels indices
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        picture.save(file, format="PNG")


def write_png(path: str | os.PathLike[str], png: bytes) -> None:
    """Writes a picture that `overlay_png` drew.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(png)


def _label_bytes(label_map: np.ndarray, n_classes: int = IGNORE) -> np.ndarray:
    labels = np.asarray(label_map)
    bytes_ = labels.astype(np.uint8)
    if labels.ndim != 2 or ((bytes_ >= n_classes) & (bytes_ != IGNORE) | (bytes_ != labels)).any():
        raise ValueError(
            f"`label_map` must be (frequency, time) of class numbers below {n_classes} and "
            f"{IGNORE}. Received: shape {labels.shape}, type {labels.dtype}"
        )
    return bytes_


def _rgb(image: np.ndarray) -> np.ndarray:
    """Any allowed image as `(frequency, time, 3)`, uint8 or floats in 0..1."""
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(
            f"`image` must be (frequency, time) with 0, 1 or 3 channels. Received: {pixels.shape}"
        )
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = (pixels - low) / ((high - low) or 1.0)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _extent(
    axes: ImageAxes, shape: tuple[int, ...]
) -> tuple[tuple[float, float, float, float], str, float]:
    """Edges of the picture in ms and Hz, kHz or MHz, that unit, and how many Hz it is."""
    high = axes.lowest_frequency + shape[0] * axes.hz_per_row
    largest = max(abs(axes.lowest_frequency), abs(high))
    unit, divisor = (
        ("MHz", 1e6) if largest >= 1e6 else ("kHz", 1e3) if largest >= 1e3 else ("Hz", 1)
    )
    left = 1e3 * axes.start
    right = left + 1e3 * shape[1] * axes.seconds_per_column
    return (left, right, axes.lowest_frequency / divisor, high / divisor), unit, divisor


def _looks(count: int) -> list[tuple[str, str]]:
    """Colour and line style of each drawn class."""
    return [(_COLOURS[i % len(_COLOURS)], _STYLES[i % len(_STYLES)]) for i in range(count)]


def _draw_box(axis: Axes, region: Region, look: tuple[str, str], divisor: float) -> None:
    colour, style = look
    low, high = region.lower_frequency / divisor, region.upper_frequency / divisor
    corner = (region.start_ms, low)
    width, height = region.stop_ms - region.start_ms, high - low
    # White below the colour: the line stays visible on any spectrogram.
    axis.add_patch(Rectangle(corner, width, height, fill=False, ec="white", lw=2.6))
    axis.add_patch(Rectangle(corner, width, height, fill=False, ec=colour, ls=style, lw=1.4))
    if np.isfinite(region.confidence):
        axis.annotate(
            f"{region.name} {region.confidence:.2f}",
            (region.start_ms, high),
            xytext=(3, -3),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color="white",
            annotation_clip=True,
            clip_on=True,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
        )
