"""Pictures of spectrograms and labels: every kind of PNG, orientations, colours, damage."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tfspec.datasets.spectrum_sensing_images import (
    IGNORE,
    LAYOUTS,
    ORIENTATIONS,
    LabelLayout,
    from_frequency_time,
    picture_size,
    read_image,
    read_label,
    to_frequency_time,
)
from tfspec.errors import ConfigError, DataError

PAPER = LAYOUTS["paper"].colours


def write_png(path: Path, pixels: np.ndarray, *, palette: bytes = b"", alpha: bytes = b"") -> Path:
    """A PNG file made by hand after the PNG specification (ISO/IEC 15948), without filters.

    Args:
        path: the file.
        pixels: uint8 or uint16, `(height, width)` for grey or palette indices, or with 2, 3 or 4
            channels.
        palette: RGB triples; makes it a palette picture.
        alpha: transparency of the palette's first entries.
    """
    height, width, *channels = pixels.shape
    kind = 3 if palette else {(): 0, (2,): 4, (3,): 2, (4,): 6}[tuple(channels)]
    rows = pixels.astype(">u2" if pixels.dtype == np.uint16 else np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, kind, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header)]
    parts += [chunk(b"PLTE", palette)] if palette else []
    parts += [chunk(b"tRNS", alpha)] if alpha else []
    parts += [chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    path.write_bytes(b"".join(parts))
    return path


def paper_pixels(labels: np.ndarray) -> np.ndarray:
    return np.array(PAPER, np.uint8)[labels]


@pytest.fixture
def labels(rng) -> np.ndarray:
    return rng.integers(0, 3, (5, 7))


# --- labels -----------------------------------------------------------------------------------


def test_the_papers_colours_as_its_own_program_maps_them(tmp_path, labels):
    """Transcribed from the published program: a mask of zeros, filled colour by colour."""
    pixels = paper_pixels(labels)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    for rgb, index in {(2, 0, 0): 0, (127, 0, 0): 1, (248, 163, 191): 2}.items():
        mask[np.all(pixels == rgb, axis=-1)] = index
    read = read_label(write_png(tmp_path / "a.png", pixels))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, mask)
    np.testing.assert_array_equal(read, labels)


def test_labels_with_alpha_palette_or_16_bits(tmp_path, labels, rng):
    pixels = paper_pixels(labels)
    alpha = rng.integers(0, 256, (5, 7, 1), np.uint8)
    palette = bytes([9, 9, 9, *PAPER[1], *PAPER[0], *PAPER[2]])
    indices = np.array([2, 1, 3], np.uint8)[labels]
    files = [
        write_png(tmp_path / "alpha.png", np.concatenate([pixels, alpha], axis=2)),
        write_png(tmp_path / "palette.png", indices, palette=palette),
        write_png(tmp_path / "clear.png", indices, palette=palette, alpha=bytes([0, 0, 77])),
        write_png(tmp_path / "deep.png", pixels.astype(np.uint16) * 257),
    ]
    for path in files:
        np.testing.assert_array_equal(read_label(path), labels, err_msg=path.name)


def test_grey_mask_values_of_mathworks(tmp_path, labels):
    grey = np.array([0, 255, 127], np.uint8)[labels]
    layout = dataclasses.replace(LAYOUTS["mathworks"], orientation="frequency_down")
    files = [
        write_png(tmp_path / "grey.png", grey),
        write_png(tmp_path / "rgb.png", np.repeat(grey[..., None], 3, axis=2)),
        write_png(tmp_path / "alpha.png", np.stack([grey, grey // 2], axis=2)),
        write_png(tmp_path / "deep.png", grey.astype(np.uint16) * 257),
        write_png(tmp_path / "low.png", grey.astype(np.uint16)),
    ]
    for path in files:
        np.testing.assert_array_equal(read_label(path, layout), labels, err_msg=path.name)
    # Time goes up and frequency to the right.
    np.testing.assert_array_equal(read_label(files[0], "mathworks"), labels[::-1].T)


def test_one_bit_labels(tmp_path):
    labels = np.array([[0, 1], [1, 0]])
    Image.fromarray(labels.astype(bool)).save(tmp_path / "a.png")
    layout = LabelLayout(colours=((0, 0, 0), (255, 255, 255)), classes=("noise", "signal"))
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", layout), labels)


@pytest.mark.parametrize(
    ("pixels", "layout", "place", "colour"),
    [
        (paper_pixels(np.zeros((4, 6), int)), "paper", (2, 3), (2, 1, 0)),
        (np.zeros((4, 6), np.uint8), "mathworks", (0, 5), (128, 128, 128)),
        (np.zeros((4, 6), np.uint16), "mathworks", (1, 0), (32768, 32768, 32768)),
        (np.zeros((4, 6), np.uint16), "mathworks", (3, 1), (256, 256, 256)),
    ],
    ids=["rgb", "grey", "16 bits", "16 bits, low"],
)
def test_unknown_colour_names_file_pixel_and_colour(tmp_path, pixels, layout, place, colour):
    pixels = pixels.copy()
    pixels[place] = colour if pixels.ndim == 3 else colour[0]
    pixels[3, 5] = pixels[place]  # a later one is counted
    path = write_png(tmp_path / "bad.png", pixels)
    with pytest.raises(DataError) as error:
        read_label(path, layout)
    row, column = place
    message = str(error.value)
    assert message.startswith(f"{path}: pixel (x={column}, y={row}) has colour {colour}, which is")
    assert "2 pixels have such colours" in message and "\n" not in message
    base = LAYOUTS[layout]
    for options, value in (({"unknown": "ignore"}, IGNORE), ({"legacy_unknown": 0}, 0)):
        tolerant = dataclasses.replace(base, orientation="frequency_down", **options)
        read = read_label(path, tolerant)
        assert read[place] == read[3, 5] == value
        assert (np.delete(read.ravel(), [6 * row + column, 23]) == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colours": ((0, 0, 0),)}, "`colours` must differ, one for each of `classes`"),
        ({"colours": ((0, 0, 0),) * 3}, "`colours` must differ"),
        ({"colours": ((0, 0, 0), (1, 1, 1), (256, 0, 0))}, r"`colours` must be 0\.\.255"),
        ({"unknown": "zero"}, "`unknown` must be one of"),
        ({"legacy_unknown": 3}, r"`legacy_unknown` must be a class, 0\.\.2"),
        ({"orientation": "up"}, "`orientation` must be one of"),
    ],
)
def test_layouts_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        LabelLayout(**({"colours": PAPER, "classes": ("a", "b", "c")} | options))
    assert "\n" not in str(error.value)


def test_unknown_layout(tmp_path):
    with pytest.raises(ConfigError, match=r"`layout` must be one of .*Received: 'matlab'"):
        read_label(tmp_path / "a.png", "matlab")


# --- images -----------------------------------------------------------------------------------


def test_images_as_tensorflow_decodes_them(tmp_path, rng):
    import tensorflow as tf

    colour = rng.integers(0, 256, (5, 7, 4), np.uint8)
    palette = rng.integers(0, 256, 30, np.uint8).tobytes()
    for pixels, options in (
        (colour[..., :3], {}),
        (colour, {}),
        (colour[..., 0], {}),
        (colour[..., :2], {}),
        (colour[..., 0] % 10, {"palette": palette}),
        (colour[..., 0] % 10, {"palette": palette, "alpha": bytes([0, 100])}),
    ):
        path = write_png(tmp_path / "a.png", pixels, **options)
        expected = tf.io.decode_png(path.read_bytes(), channels=3).numpy()
        np.testing.assert_array_equal(read_image(path), expected)


def test_sixteen_bits_become_eight(tmp_path, rng):
    deep = rng.integers(0, 65536, (5, 7), np.uint16)
    deep[0, :3] = [0, 65535, 257 * 93]
    image = read_image(write_png(tmp_path / "a.png", deep), channels=1)[..., 0]
    assert image[0, :3].tolist() == [0, 255, 93]
    # Half an 8-bit step, where the value lies in the middle of two.
    np.testing.assert_allclose(image, deep / 257, rtol=0, atol=0.5)
    colour = rng.integers(0, 65536, (5, 7, 3), np.uint16)
    image = read_image(write_png(tmp_path / "b.png", colour))
    np.testing.assert_array_equal(image, colour >> 8)  # the upper byte: Pillow's way


def test_grey_images_become_three_channels_and_back(tmp_path, rng):
    grey = rng.integers(0, 256, (5, 7), np.uint8)
    path = write_png(tmp_path / "a.png", grey)
    assert read_image(path).shape == (5, 7, 3)
    np.testing.assert_array_equal(read_image(path, channels=1)[..., 0], grey)
    three = write_png(tmp_path / "b.png", np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_image(three, channels=1)[..., 0], grey)
    coloured = write_png(tmp_path / "c.png", rng.integers(0, 256, (5, 7, 3), np.uint8))
    with pytest.raises(DataError, match="is coloured; one channel needs grey pictures") as error:
        read_image(coloured, channels=1)
    assert str(coloured) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="`channels` must be 1 or 3"):
        read_image(coloured, channels=4)


def test_resizing(tmp_path, labels, rng):
    import tensorflow as tf

    pixels = rng.integers(0, 256, (5, 7, 3), np.uint8)
    path = write_png(tmp_path / "a.png", pixels)
    for size in ((10, 14), (3, 4), (5, 7)):
        # TensorFlow's anti-aliased bilinear filter is Pillow's, but for the last rounding.
        expected = tf.image.resize(pixels, size, antialias=True).numpy()
        np.testing.assert_allclose(read_image(path, size=size), expected, rtol=0, atol=1.01)
    label = write_png(tmp_path / "b.png", paper_pixels(labels))
    doubled = read_label(label, size=(10, 14))
    np.testing.assert_array_equal(doubled, np.repeat(np.repeat(labels, 2, 0), 2, 1))
    for size in ((0, 5), (5,), (-3, 4)):
        with pytest.raises(ConfigError, match="`size` must be"):
            read_label(label, size=size)


# --- orientation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orientation", "frequency_time"),
    [
        ("frequency_down", [["a", "b"], ["c", "d"]]),
        ("frequency_up", [["c", "d"], ["a", "b"]]),
        ("time_down", [["a", "c"], ["b", "d"]]),
        ("time_up", [["c", "a"], ["d", "b"]]),
    ],
)
def test_orientations(orientation, frequency_time):
    picture = np.array([["a", "b"], ["c", "d"]])
    np.testing.assert_array_equal(to_frequency_time(picture, orientation), frequency_time)


@settings(max_examples=30, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.sampled_from([(), (1,), (3,)]),
)
def test_orientations_have_an_inverse(orientation, shape, channels):
    picture = np.arange(np.prod(shape + channels)).reshape(shape + channels)
    array = to_frequency_time(picture, orientation)
    np.testing.assert_array_equal(from_frequency_time(array, orientation), picture)


# --- damaged files ----------------------------------------------------------------------------


def test_files_that_are_no_png(tmp_path, rng):
    pixels = rng.integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "jpeg.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("jpeg", "is no PNG file; save it as PNG, without loss"),
        ("text", "is no PNG file"),
        ("empty", "is no PNG file"),
        ("folder", "is a folder"),
        ("missing", "cannot be read"),
    ):
        path = tmp_path / f"{name}.png"
        for read in (read_image, read_label, picture_size):
            with pytest.raises(DataError, match=message) as error:
                read(path)
            assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_png_that_is_cut_off(tmp_path, rng, kept):
    path = write_png(tmp_path / "a.png", rng.integers(0, 256, (50, 70, 3), np.uint8))
    contents = path.read_bytes()
    path.write_bytes(contents[: int(kept * len(contents))])
    for read in (read_image, read_label):
        with pytest.raises(DataError, match=r"cannot be decoded .*it is cut off or damaged") as e:
            read(path)
        assert str(path) in str(e.value) and "\n" not in str(e.value)


def test_png_with_a_damaged_chunk(tmp_path, rng):
    path = write_png(tmp_path / "a.png", rng.integers(0, 256, (50, 70, 3), np.uint8))
    contents = bytearray(path.read_bytes())
    contents[60:200] = bytes(140)
    path.write_bytes(contents)
    with pytest.raises(DataError, match=r"a\.png: ") as error:
        read_image(path)
    assert "\n" not in str(error.value)


def test_picture_that_claims_to_be_huge(tmp_path):
    path = write_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
    contents = bytearray(path.read_bytes())
    contents[16:24] = struct.pack(">II", 60000, 60000)
    contents[29:33] = struct.pack(">I", zlib.crc32(contents[12:29]))
    path.write_bytes(contents)
    with pytest.raises(DataError, match=r"a\.png: is no usable PNG") as error:
        read_image(path)
    assert "\n" not in str(error.value)


def test_size_of_a_picture(tmp_path):
    path = write_png(tmp_path / "a.png", np.zeros((5, 7), np.uint8))
    assert picture_size(path) == (5, 7)
