"""Prediction around the network: the images of training from IQ, windows, other rates, files."""

from __future__ import annotations

import csv
import dataclasses
import json
import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.segmentation.small_spectrograms import (
    FRONT_END,
    RADIO,
    SIZE,
    FunctionSegmenter,
    bright_is_class_1,
    recipe,
)
from tfspec.datasets.spectrum_sensing_images import LAYOUTS, read_label
from tfspec.errors import ConfigError, DataError, ModelError, OutputError
from tfspec.segmentation.estimators import load_segmenter, prediction, resized
from tfspec.segmentation.files import SegmentOptions, segment_file, segment_files
from tfspec.segmentation.grid import IqGrid
from tfspec.segmentation.predict import Segmenter
from tfspec.signal.iq import open_iq
from tfspec.synth.radio import radio_example

RATE = float(RADIO.sample_rate)
WINDOW = RADIO.n_samples


def noise(n: int, seed: int = 0, scale: float = 0.01) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return scale * (rng.standard_normal(n) + 1j * rng.standard_normal(n)).astype(np.complex64)


def tone(n: int, frequency: float, rate: float = RATE) -> np.ndarray:
    return np.exp(2j * np.pi * frequency * np.arange(n) / rate).astype(np.complex64)


def write_raw(path, samples: np.ndarray):
    samples.astype("<c8").tofile(path)
    return path


def rows_of(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("channels", [1, 3])
def test_iq_becomes_the_image_of_training(tmp_path, channels):
    """What the network sees of a recording is what training made of the same samples."""
    front_end = recipe(channels=channels, scaling="unit" if channels == 1 else "imagenet").front_end
    config = recipe().radio
    captures = [radio_example(config, 5, index, keep_iq=True) for index in range(2)]
    path = write_raw(tmp_path / "two.cf32", np.concatenate([c.iq for c in captures]))
    estimator = FunctionSegmenter(lambda x: np.eye(3)[np.zeros(x.shape[:3], int)], front_end)
    found = list(Segmenter(estimator).recording(open_iq(path, sample_rate=RATE)))
    assert len(found) == 2
    for capture, seen, window in zip(captures, estimator.calls, found, strict=True):
        levels = capture.spectrogram[::-1, :, None]
        colours = capture.image[::-1] / np.float32(255)
        expected = front_end.scaled(levels if channels == 1 else colours)
        np.testing.assert_array_equal(seen[0], expected)
        np.testing.assert_array_equal(window.image, capture.image[::-1])
    assert found[1].axes.start == pytest.approx(RADIO.duration)


@given(
    rate=st.floats(2e6, 500e6),
    windows=st.floats(0.0, 4.0),
    size=st.sampled_from([(32, 32), (64, 48)]),
)
@settings(deadline=None)
def test_windows_cover_every_column_once(rate, windows, size):
    front_end = dataclasses.replace(FRONT_END, height=size[0], width=size[1])
    assume(rate / front_end.image.row_bandwidth >= 8)
    grid = IqGrid.of(front_end, rate, "x")
    # Rows and columns stand for what they stood for in training, as far as whole ones can.
    assert abs(RATE / size[0] - rate / grid.rows) * grid.rows <= 2 * RATE / size[0]
    # Half a sample of rounding; hops of equal length cost a fraction of a hop.
    ratio = grid.column_samples / rate / (RADIO.duration / size[1])
    assert 0.98 < ratio < 1 + 0.5 / (rate * RADIO.duration)
    n = int(windows * rate * RADIO.duration)
    end = 0
    for window in grid.windows(n):
        assert 1 <= window.new <= window.columns <= size[1]
        assert window.columns == min(size[1], grid.columns(n))
        last = window.start + window.columns * grid.column_samples
        assert window.start >= 0 and last <= n
        assert last == (end + window.new) * grid.column_samples
        end += window.new
    assert end == grid.columns(n) and n - end * grid.column_samples < grid.column_samples


@given(rows=st.integers(4, 120).map(lambda half: 2 * half), columns=st.integers(1, SIZE))
@settings(deadline=None)
def test_tiles_decide_every_row_once(rows, columns):
    grid = IqGrid(front_end=FRONT_END, sample_rate=RATE, rows=rows, column_samples=100)
    power = np.arange(1.0, rows * columns + 1).reshape(rows, columns)
    images, places = grid.tiles(power)
    assert images.shape[1:] == (SIZE, SIZE)
    again = np.zeros_like(power)
    count = np.zeros(rows, int)
    for image, (own, inside) in zip(images, places, strict=True):
        again[own] = image[inside, :columns]
        count[own] += 1
    np.testing.assert_array_equal(again, power)
    assert (count == 1).all()
    # What fills an image are mirrored pixels: levels are stretched by what was received.
    assert images.min() >= 1.0 and set(np.unique(images)) <= set(np.unique(power))


@pytest.mark.parametrize("rate", [5_000_000, 15_360_000, 20_000_000, 61_440_000])
def test_a_tone_is_found_at_its_frequency_and_time(tmp_path, rate):
    """A burst of a tone lies at one row and two times; rows of 480 kHz, columns of 156 us."""
    n = int(0.012 * rate)
    frequency = 0.2 * rate
    samples = noise(n, scale=0.001)
    # Switched within 0.1 ms: a sudden start would splash over the whole band.
    time = np.arange(n) / rate
    on = np.clip(np.minimum(time - 0.00395, 0.00905 - time) / 1e-4, 0.0, 1.0)
    samples += tone(n, frequency, rate) * np.sin(0.5 * np.pi * on).astype(np.float32) ** 2
    path = write_raw(tmp_path / "burst.cf32", samples)
    options = SegmentOptions(sample_rate=rate, center_frequency=2.4e9, min_pixels=1, pictures=False)
    segment_file(path, Segmenter(bright_is_class_1()), tmp_path / "out", options)
    rows = rows_of(tmp_path / "out" / "regions.csv")
    # An image of nothing but noise is stretched to full brightness, as in training: at higher rates
    # some of the images that show other parts of the band are such, and this rule sees signals.
    assert len(rows) == 1 or rate > RATE
    row = max(rows, key=lambda found: float(found["stop_ms"]) - float(found["start_ms"]))
    assert row["class"] == "lte" and float(row["mean_confidence"]) == 1.0
    width = rate / (2 * round(rate / 480e3 / 2))
    lower, upper = float(row["lower_frequency_hz"]), float(row["upper_frequency_hz"])
    # The skirts of the window may light up the neighbouring row of a tone near an edge.
    assert lower <= 2.4e9 + frequency <= upper and upper - lower <= 2 * width + 1
    # A column is bright when the burst covers some of it.
    assert float(row["start_ms"]) == pytest.approx(4.0, abs=0.16)
    assert float(row["stop_ms"]) == pytest.approx(9.0, abs=0.16)


def test_logits_are_enlarged_as_in_training(rng):
    logits = rng.normal(0, 3, (2, 8, 6, 3)).astype(np.float32)
    for size in ((16, 12), (32, 24)):
        expected = keras.ops.image.resize(
            logits, size, interpolation="bilinear", data_format="channels_last"
        )
        # float32 sums of two products in another order
        np.testing.assert_allclose(resized(logits, size), np.asarray(expected), atol=1e-5)
    assert resized(logits, (8, 6)) is logits


def test_probabilities_are_softmax_and_labels_the_largest(rng):
    logits = rng.normal(0, 30, (2, 4, 4, 5)).astype(np.float32)
    found = prediction(logits, (4, 4))
    np.testing.assert_array_equal(found.labels, logits.argmax(-1))
    np.testing.assert_allclose(found.class_probs.sum(-1), 1.0, atol=1e-6)
    likely = found.class_probs.min(-1) > 1e-20
    assert likely.any()
    first, second = np.log(found.class_probs[likely].astype(np.float64)).T[:2]
    expected = (logits[..., 0] - logits[..., 1])[likely]
    np.testing.assert_allclose(first - second, expected, rtol=1e-4, atol=1e-4)


def test_regions_go_on_across_windows(tmp_path):
    """A carrier over 2.5 windows is one region, and the label map that of one long image."""
    n = int(2.5 * WINDOW)
    samples = noise(n) + tone(n, 3e6)
    path = write_raw(tmp_path / "long.cf32", samples)
    options = SegmentOptions(sample_rate=RATE, min_pixels=1)
    written = segment_file(path, Segmenter(bright_is_class_1()), tmp_path / "out", options)
    assert [p.name for p in written] == ["labels.npy", "labels.png", "overlay.png", "regions.csv"]
    labels = np.load(tmp_path / "out" / "labels.npy")
    assert labels.shape == (SIZE, 80) and labels.dtype == np.uint8
    (row,) = rows_of(tmp_path / "out" / "regions.csv")
    assert (float(row["start_ms"]), float(row["stop_ms"])) == (0.0, 12.5)
    # The picture has the highest frequency on top, in the paper's colours.
    layout = dataclasses.replace(LAYOUTS["paper"], orientation="frequency_up")
    again = read_label(tmp_path / "out" / "labels.png", layout)
    names = np.array(layout.classes)[again], np.array(FRONT_END.classes)[labels]
    np.testing.assert_array_equal(*names)


def test_long_recordings_have_pages_and_bounded_memory(tmp_path):
    peaks = []
    for windows in (10, 40):
        path = write_raw(tmp_path / f"{windows}.cf32", noise(windows * WINDOW))
        segmenter = Segmenter(bright_is_class_1(0.999))
        options = SegmentOptions(sample_rate=RATE, pictures=False)
        tracemalloc.start()
        segment_file(path, segmenter, tmp_path / str(windows), options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        segmenter.estimator.calls.clear()
    # Only the list of what the fake network saw grows, by 4 KiB a window.
    assert peaks[1] < peaks[0] + 30 * 8192
    options = SegmentOptions(sample_rate=RATE)
    segment_file(tmp_path / "10.cf32", Segmenter(bright_is_class_1()), tmp_path / "10", options)
    names = sorted(path.name for path in (tmp_path / "10").glob("*.png"))
    assert names == [f"{kind}_0000{n}.png" for kind in ("labels", "overlay") for n in (1, 2)]
    sizes = [Image.open(tmp_path / "10" / f"labels_0000{n}.png").size for n in (1, 2)]
    assert sizes == [(8 * SIZE, SIZE), (2 * SIZE, SIZE)]
    # A shorter recording in the same place leaves no page of the longer one.
    path = write_raw(tmp_path / "short.cf32", noise(WINDOW))
    segment_file(path, Segmenter(bright_is_class_1()), tmp_path / "10", options)
    assert [path.name for path in (tmp_path / "10").glob("overlay*")] == ["overlay.png"]


def test_less_than_an_image(tmp_path):
    path = write_raw(tmp_path / "short.cf32", noise(WINDOW // 4) + tone(WINDOW // 4, 1e6))
    options = SegmentOptions(sample_rate=RATE)
    segment_file(path, Segmenter(bright_is_class_1()), tmp_path / "out", options)
    assert np.load(tmp_path / "out" / "labels.npy").shape == (SIZE, SIZE // 4)
    write_raw(path, noise(100))
    with pytest.raises(DataError, match=r"has 100 samples .* one column .* takes 2400"):
        segment_file(path, Segmenter(bright_is_class_1()), tmp_path / "out", options)


def sigmf(folder, samples, captures, **fields):
    """A SigMF recording."""
    samples.astype("<c8").tofile(folder / "rec.sigmf-data")
    document = {
        "global": {
            "core:datatype": "cf32_le",
            "core:version": "1.2.0",
            "core:sample_rate": RATE,
            **fields,
        },
        "captures": captures,
        "annotations": [],
    }
    path = folder / "rec.sigmf-meta"
    path.write_text(json.dumps(document))
    return path


def test_stretches_of_a_recording_stay_apart(tmp_path):
    samples = noise(2 * WINDOW) + tone(2 * WINDOW, 1e6)
    captures = [
        {"core:sample_start": 0, "core:frequency": 1e9},
        {"core:sample_start": WINDOW, "core:frequency": 2e9},
    ]
    path = sigmf(tmp_path, samples, captures)
    segment_file(path, Segmenter(bright_is_class_1()), tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "regions.csv")
    assert [float(row["start_ms"]) for row in rows] == [0.0, 5.0]
    assert [round(float(row["lower_frequency_hz"]) / 1e9) for row in rows] == [1, 2]
    for number in (1, 2):
        assert np.load(tmp_path / "out" / f"labels_{number}.npy").shape == (SIZE, SIZE)


def test_pictures(tmp_path, rng):
    pixels = rng.integers(0, 100, (SIZE, SIZE), np.uint8)
    pixels[2:6, 8:24] = 255  # near the top: high frequencies
    Image.fromarray(pixels).save(tmp_path / "p.png")
    segmenter = Segmenter(bright_is_class_1())
    segment_file(tmp_path / "p.png", segmenter, tmp_path / "out")
    (row,) = rows_of(tmp_path / "out" / "regions.csv")
    # 32 rows of 480 kHz from 7.68 MHz down, 32 columns of 156.25 us.
    assert float(row["upper_frequency_hz"]) == 7.68e6 - 2 * 480e3
    assert float(row["lower_frequency_hz"]) == 7.68e6 - 6 * 480e3
    assert (float(row["start_ms"]), float(row["stop_ms"])) == (1.25, 3.75)
    turned = SegmentOptions(
        orientation="frequency_down", picture_duration=0.032, picture_bandwidth=32e3
    )
    segment_file(tmp_path / "p.png", segmenter, tmp_path / "out", turned)
    (row,) = rows_of(tmp_path / "out" / "regions.csv")
    assert float(row["lower_frequency_hz"]) == -16e3 + 2e3
    assert float(row["start_ms"]) == 8.0


def test_grey_pictures_get_the_colours_of_training(tmp_path):
    from tfspec.synth.radio import colour_image

    front_end = dataclasses.replace(FRONT_END, channels=3)
    levels = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 256
    for name, picture in (
        ("grey8", Image.fromarray(levels.astype(np.uint8))),
        ("grey16", Image.fromarray((257 * levels).astype(np.uint16))),
        ("coloured", Image.fromarray(colour_image(levels / 255.0))),
    ):
        picture.save(tmp_path / f"{name}.png")
        estimator = FunctionSegmenter(lambda x: np.eye(3)[np.zeros(x.shape[:3], int)], front_end)
        Segmenter(estimator).picture(tmp_path / f"{name}.png")
        expected = colour_image(levels / 255.0)[::-1] / np.float32(255)
        np.testing.assert_array_equal(estimator.calls[0][0], expected)


def test_label_maps_only_have_no_confidence(tmp_path):
    estimator = bright_is_class_1()
    estimator._labels_only = True
    path = write_raw(tmp_path / "t.cf32", noise(WINDOW) + tone(WINDOW, 1e6))
    segment_file(path, Segmenter(estimator), tmp_path / "out", SegmentOptions(sample_rate=RATE))
    (row,) = rows_of(tmp_path / "out" / "regions.csv")
    assert row["mean_confidence"] == ""


def bad_wrong_size(folder):
    Image.fromarray(np.zeros((40, 32), np.uint8)).save(folder / "bad.png")
    return "bad.png", {}


def bad_coloured(folder):
    Image.fromarray(np.full((32, 32, 3), (9, 8, 7), np.uint8)).save(folder / "bad.png")
    return "bad.png", {}


def bad_odd_length(folder):
    (folder / "bad.cf32").write_bytes(bytes(8 * WINDOW + 3))
    return "bad.cf32", {}


def bad_nan(folder):
    samples = noise(3 * WINDOW)
    samples[int(2.5 * WINDOW)] = np.nan
    write_raw(folder / "bad.cf32", samples)
    return "bad.cf32", {}


def bad_truncated(folder):
    captures = [{"core:sample_start": 0}, {"core:sample_start": 4 * WINDOW}]
    sigmf(folder, noise(2 * WINDOW), captures)
    return "rec.sigmf-meta", {"sample_rate": None}


def bad_low_rate(folder):
    write_raw(folder / "bad.cf32", noise(WINDOW))
    return "bad.cf32", {"sample_rate": 1e6}


def bad_no_rate(folder):
    write_raw(folder / "bad.cf32", noise(WINDOW))
    return "bad.cf32", {"sample_rate": None}


def bad_jpeg(folder):
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(folder / "bad.jpg")
    return "bad.jpg", {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bad_wrong_size, "is 40 x 32 pixels"),
        (bad_coloured, "is coloured"),
        (bad_odd_length, "no whole number of 8-byte cf32_le samples"),
        (bad_nan, "is NaN, infinite"),
        (bad_truncated, "is cut off"),
        (bad_low_rate, "sample rate of 1 MHz; a row of the model's images is 480 kHz"),
        (bad_no_rate, "does not state its sample rate"),
        (bad_jpeg, "save it as PNG"),
    ],
)
def test_a_bad_file_is_one_line_and_the_others_go_on(tmp_path, make, message):
    name, changes = make(tmp_path)
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(tmp_path / "good.png")
    options = dataclasses.replace(SegmentOptions(sample_rate=RATE), **changes)
    out = tmp_path / "out"
    written, errors = segment_files(
        [tmp_path / name, tmp_path / "good.png"], Segmenter(bright_is_class_1()), out, options
    )
    text = str(errors[str(tmp_path / name)])
    assert message in text and name.split(".")[0] in text and "\n" not in text
    assert list(written) == [str(tmp_path / "good.png")]
    # Nothing of the bad file is left, no half-written folder either.
    assert [path.name for path in out.iterdir()] == ["good"]


def test_files_of_one_name_go_to_folders_of_their_own(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(tmp_path / folder / "p.png")
    paths = [tmp_path / "a" / "p.png", tmp_path / "b" / "p.png"]
    written, errors = segment_files(paths, Segmenter(bright_is_class_1()), tmp_path / "out")
    assert not errors
    assert {path.parent.name for files in written.values() for path in files} == {"p", "p_2"}
    assert (tmp_path / "out" / "p_2" / "regions.csv").read_text().count("\n") == 1


def test_resizing_is_asked_for(tmp_path):
    pixels = np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
    pixels[:, : SIZE // 2] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    options = SegmentOptions(resize=True)
    segment_file(tmp_path / "p.png", Segmenter(bright_is_class_1()), tmp_path / "out", options)
    labels = np.load(tmp_path / "out" / "labels.npy")
    # The edge is blurred by a pixel at most.
    assert (labels[:, : SIZE // 4 - 1] == 1).all() and (labels[:, SIZE // 4 + 1 :] == 0).all()


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(tmp_path / "p.png")
    with pytest.raises(OutputError, match="cannot be written"):
        segment_file(tmp_path / "p.png", Segmenter(bright_is_class_1()), tmp_path / "file")


def test_models_that_cannot_be_used(tmp_path):
    with pytest.raises(ModelError, match="no such model"):
        load_segmenter(tmp_path / "missing")
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(ModelError, match="is not a model"):
        load_segmenter(tmp_path / "text.txt")
    model = keras.Sequential([keras.Input((7, 7, 1)), keras.layers.Conv2D(3, 1)])
    with pytest.raises(ConfigError, match="no preset has the model's input shape"):
        Segmenter(model)
    with pytest.raises(DataError, match=r"`pixels` must be \(32, 32, 1\)"):
        Segmenter(bright_is_class_1()).image(np.zeros((8, 8, 1)))
    from_pictures = dataclasses.replace(FRONT_END, channels=3, colour_map=None)
    estimator = FunctionSegmenter(lambda x: x, from_pictures)
    path = write_raw(tmp_path / "t.cf32", noise(WINDOW))
    with pytest.raises(ConfigError, match="colour map is not known"):
        next(Segmenter(estimator).recording(open_iq(path, sample_rate=RATE)))
