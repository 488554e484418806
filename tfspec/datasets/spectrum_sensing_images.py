"""Pictures of spectrograms and of their labels: PNG files to `(frequency, time)` arrays.

The functions raise DataError with one line that names the file.
"""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from tfspec.errors import ConfigError, DataError

# Class of pixels that belong to none: they count in no loss, metric or class weight.
IGNORE = 255
UNKNOWN = ("error", "ignore")
# What the rows of a picture are, from its top down; see `to_frequency_time`.
ORIENTATIONS = ("frequency_up", "frequency_down", "time_up", "time_down")

Colour = tuple[int, int, int]


def _check_orientation(orientation: str) -> None:
    if orientation not in ORIENTATIONS:
        raise ConfigError(f"`orientation` must be one of {ORIENTATIONS}. Received: {orientation!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelLayout:
    """How label pictures name classes.

    Attributes:
        colours: `(red, green, blue)` of class 0, 1, ...; a grey picture has three equal parts.
        classes: names of the classes.
        orientation: of image and label, one of `ORIENTATIONS`.
        unknown: `"error"` refuses a pixel of any other colour; `"ignore"` gives it `IGNORE`.
        legacy_unknown: class of such pixels instead. 0, a signal, is what the original program
            gives them without saying: its masks start as zeros.
    """

    colours: tuple[Colour, ...]
    classes: tuple[str, ...]
    orientation: str = "frequency_down"
    unknown: str = "error"
    legacy_unknown: int | None = None

    def __post_init__(self) -> None:
        if len(self.colours) != len(self.classes) or len(set(self.colours)) < len(self.colours):
            raise ConfigError(
                "`colours` must differ, one for each of `classes`. "
                f"Received: colours={self.colours}, classes={self.classes}"
            )
        if any(len(c) != 3 or not all(0 <= part <= 255 for part in c) for c in self.colours):
            raise ConfigError(f"`colours` must be 0..255 each. Received: colours={self.colours}")
        _check_orientation(self.orientation)
        if self.unknown not in UNKNOWN:
            raise ConfigError(f"`unknown` must be one of {UNKNOWN}. Received: {self.unknown!r}")
        legacy = self.legacy_unknown
        if legacy is not None and not 0 <= legacy < len(self.classes):
            raise ConfigError(
                f"`legacy_unknown` must be a class, 0..{len(self.classes) - 1}, or None. "
                f"Received: legacy_unknown={legacy!r}"
            )


# The layouts known by name.
LAYOUTS: Mapping[str, LabelLayout] = MappingProxyType(
    {
        # Numbers as in the paper's program. Neither it nor the paper names its classes; the names
        # are those that other programs for the same colours give in comments. Pictures are taken as
        # they are stored.
        "paper": LabelLayout(
            colours=((2, 0, 0), (127, 0, 0), (248, 163, 191)), classes=("lte", "nr", "noise")
        ),
        # Grey values of "Spectrum Sensing with Deep Learning to Identify 5G and LTE Signals": its
        # classes Noise, NR and LTE at floor(255 k / 2); here numbered as in `tfspec.synth.radio`,
        # so that a model of one can be scored on the other. The pictures have frequency to the
        # right and, since they are flipped (helperSpecSenseSpectrogramImage), time upwards.
        "mathworks": LabelLayout(
            colours=((0, 0, 0), (255, 255, 255), (127, 127, 127)),
            classes=("noise", "lte", "nr"),
            orientation="time_up",
        ),
    }
)


def label_layout(layout: str | LabelLayout) -> LabelLayout:
    """A layout by its name; a `LabelLayout` is returned as it is."""
    if isinstance(layout, LabelLayout):
        return layout
    if layout not in LAYOUTS:
        raise ConfigError(f"`layout` must be one of {tuple(LAYOUTS)}. Received: {layout!r}")
    return LAYOUTS[layout]


def read_image(
    path: str | os.PathLike[str],
    *,
    channels: int = 3,
    orientation: str = "frequency_down",
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Reads the picture of a spectrogram.

    Grey pictures are repeated into three channels, 16-bit ones rounded to 8 bits, palettes
    resolved; an alpha channel is dropped.

    Args:
        path: PNG file.
        channels: 3, or 1 for grey pictures.
        orientation: what the rows of the picture are, see `to_frequency_time`.
        size: `(frequency, time)` to resize to, bilinear; None keeps the picture's own.

    Returns:
        uint8 `(frequency, time, channels)`.

    Raises:
        ConfigError: `channels`, `orientation` or `size` is not allowed.
        DataError: the file cannot be read, or is coloured and one channel is wanted: levels
            cannot be told from colours without the colour map.
    """
    if channels not in (1, 3):
        raise ConfigError(f"`channels` must be 1 or 3. Received: channels={channels!r}")
    pixels = _pixels(path)
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257).astype(np.uint8)  # 65535 is 255
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], channels, axis=2)
    elif channels == 1:
        if (pixels != pixels[..., :1]).any():
            raise DataError(f"{path}: is coloured; one channel needs grey pictures, or ask for 3")
        pixels = pixels[..., :1]
    pixels = to_frequency_time(pixels, orientation)
    return pixels if size is None else _resized(pixels, size, Image.Resampling.BILINEAR)


def read_label(
    path: str | os.PathLike[str],
    layout: str | LabelLayout = "paper",
    *,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Reads a label picture.

    Args:
        path: PNG file: RGB, grey or with a palette; an alpha channel is dropped.
        layout: which colour is which class, by name (one of `LAYOUTS`) or a `LabelLayout`.
        size: `(frequency, time)` to resize to, by nearest neighbour; None keeps its own.

    Returns:
        uint8 `(frequency, time)` of class numbers and `IGNORE`.

    Raises:
        DataError: the file cannot be read, or a pixel has a colour of no class and the layout
            does not say what to do with it.
    """
    layout = label_layout(layout)
    pixels = _pixels(path)
    if pixels.dtype == np.uint16:
        pixels = _eight_bits(pixels)
    labels = _classes_of(pixels, layout, str(path))
    labels = to_frequency_time(labels, layout.orientation)
    return labels if size is None else _resized(labels, size, Image.Resampling.NEAREST)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """`(height, width)` of a PNG file, from its header."""
    with _opened(path) as image:
        return image.height, image.width


def to_frequency_time(pixels: np.ndarray, orientation: str) -> np.ndarray:
    """A picture `(height, width, ...)`, row 0 on top, as `(frequency, time, ...)`, lowest first.

    Args:
        pixels: the picture.
        orientation: what its rows are. `"frequency_up"`: the lowest frequency is at the bottom,
            time goes right. `"frequency_down"`: the lowest is on top (nothing changes).
            `"time_down"` and `"time_up"`: time begins on top or at the bottom, and the lowest
            frequency is on the left.
    """
    _check_orientation(orientation)
    if orientation.endswith("_up"):
        pixels = pixels[::-1]
    return pixels.swapaxes(0, 1) if orientation.startswith("time") else pixels


def from_frequency_time(array: np.ndarray, orientation: str) -> np.ndarray:
    """The inverse of `to_frequency_time`."""
    _check_orientation(orientation)
    pixels = array.swapaxes(0, 1) if orientation.startswith("time") else array
    return pixels[::-1] if orientation.endswith("_up") else pixels


def _opened(path: str | os.PathLike[str]) -> Image.Image:
    """A PNG file whose header has been read."""
    if Path(path).is_dir():
        raise DataError(f"{path}: is a folder; give a PNG file")
    try:
        return Image.open(path, formats=("PNG",))
    except Image.UnidentifiedImageError as error:
        raise DataError(f"{path}: is no PNG file; save it as PNG, without loss") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: is no usable PNG file ({_first_line(error)})") from error


def _pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """The decoded picture: `(height, width)` or `(height, width, 3)`, uint8, or uint16 if grey.

    Pillow keeps 16 bits of grey pictures only; of coloured ones it gives the upper 8.
    """
    with _opened(path) as image:
        try:
            # A palette goes through RGBA: its colours are what counts, also where transparent.
            pixels = np.asarray(_CONVERT[image.mode](image))
        except KeyError as error:
            raise DataError(f"{path}: has pixels of kind {image.mode}; save it as RGB") from error
        except (OSError, ValueError, SyntaxError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path}: cannot be decoded ({_first_line(error)}); it is cut off or damaged"
            ) from error
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint16)


def _as_it_is(image: Image.Image) -> Image.Image:
    return image


_CONVERT: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "1": lambda image: image.convert("L"),
    "P": lambda image: image.convert("RGBA"),
    **dict.fromkeys(("L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L"), _as_it_is),
}


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Grey label values of a 16-bit picture: stored as they are, or times 257 (65535 is 255).

    Other values stay above 255, and are a colour of no class.
    """
    if pixels.max() > 255 and not (pixels % 257).any():
        return pixels // 257
    return pixels


def _classes_of(pixels: np.ndarray, layout: LabelLayout, name: str) -> np.ndarray:
    """Class of every pixel, in the picture's own orientation."""
    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    labels = np.full(colours.shape[:2], IGNORE, np.uint8)
    known = np.zeros(labels.shape, bool)
    for number, colour in enumerate(layout.colours):
        here = (colours == np.array(colour, colours.dtype)).all(axis=2)
        labels[here] = number
        known |= here
    if layout.legacy_unknown is not None:
        labels[~known] = layout.legacy_unknown
    elif layout.unknown == "error" and not known.all():
        row, column = (int(index[0]) for index in np.nonzero(~known))
        found = tuple(int(part) for part in colours[row, column])
        raise DataError(
            f"{name}: pixel (x={column}, y={row}) has colour {found}, which is no class; known: "
            f"{', '.join(map(str, layout.colours))}; {np.count_nonzero(~known)} pixels have such "
            "colours; mend the label, or ignore them (`unknown`)"
        )
    return labels


def _resized(pixels: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    """Resizes `(frequency, time)` or `(frequency, time, channels)`."""
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"`size` must be (frequency, time) in pixels. Received: size={size!r}")
    if pixels.shape[:2] == tuple(size):
        return pixels
    planes = pixels.reshape(*pixels.shape[:2], -1)
    height, width = size
    resized = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), resampling))
        for plane in np.moveaxis(planes, 2, 0)
    ]
    return np.stack(resized, axis=2).reshape(*size, *pixels.shape[2:])


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
