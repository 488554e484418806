"""IQ recordings: every format against the standard library, blocks, segments, damaged files."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfspec.errors import ConfigError, DataError
from tfspec.signal.iq import IqSegment, iq_blocks, iq_info, open_iq

RATE = 61.44e6
# The folder of a test is shared by its examples: each overwrites what the one before wrote.
shared_folder = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# SigMF's letter and bits -> letter of Python's struct module, and value of a stored number.
STRUCT = {"f32": "f", "f64": "d", "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i"}
STRUCT["u32"] = "I"
WIDE = ("f32", "f64", "i16", "u16", "i32", "u32")
DATATYPES = ["ci8", "cu8", *(f"c{kind}_{order}" for kind in WIDE for order in ("le", "be"))]


def stored_numbers(datatype: str, count: int, rng: np.random.Generator) -> list:
    """Numbers that the datatype can hold, its extremes first."""
    kind = datatype[1:].partition("_")[0]
    if kind[0] == "f":
        return [-1.5, 1.0, *(float(np.float32(v)) for v in rng.standard_normal(count - 2))]
    bits = int(kind[1:])
    low, high = (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return [low, high, *(int(v) for v in rng.integers(low, high, count - 2, endpoint=True))]


def packed(datatype: str, numbers: list) -> bytes:
    kind, _, order = datatype[1:].partition("_")
    return struct.pack(f"{'>' if order == 'be' else '<'}{len(numbers)}{STRUCT[kind]}", *numbers)


def scaled(datatype: str, numbers: list) -> np.ndarray:
    """What the numbers mean, one by one in Python's own arithmetic."""
    kind = datatype[1:].partition("_")[0]
    full = 1.0 if kind[0] == "f" else 2.0 ** (int(kind[1:]) - 1)
    middle = full if kind[0] == "u" else 0.0
    values = [(number - middle) / full for number in numbers]
    return np.array([complex(*pair) for pair in zip(values[::2], values[1::2], strict=True)])


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    parts = np.random.default_rng(seed).standard_normal((n_samples, 2)).astype(np.float32)
    return parts.view(np.complex64)[:, 0]


def write_sigmf(folder: Path, samples: np.ndarray, *, name="a", **changes) -> Path:
    """A recording of complex64 samples; `changes` go into `global`, or replace a list."""
    data = samples.astype("<c8").tobytes() if isinstance(samples, np.ndarray) else samples
    document = {
        "global": {"core:datatype": "cf32_le", "core:sample_rate": RATE, "core:version": "1.2.0"},
        "captures": [{"core:sample_start": 0, "core:frequency": 3.5e9}],
        "annotations": [],
    }
    for key, value in changes.items():
        if key in document:
            document[key] = value
        elif value is None:
            del document["global"][f"core:{key}"]
        else:
            document["global"][f"core:{key}"] = value
    (folder / f"{name}.sigmf-data").write_bytes(data)
    path = folder / f"{name}.sigmf-meta"
    path.write_text(json.dumps(document))
    return path


def one_line(error: pytest.ExceptionInfo, path: Path | None = None) -> None:
    assert "\n" not in str(error.value)
    if path is not None:
        assert path.stem in str(error.value)


# --- formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("form", ["raw", "sigmf"])
def test_every_datatype_equals_struct(tmp_path, rng, datatype, form):
    numbers = stored_numbers(datatype, 64, rng)
    if form == "raw":
        path = tmp_path / "a.iq"
        path.write_bytes(packed(datatype, numbers))
        recording = open_iq(path, sample_rate=RATE, datatype=datatype)
    else:
        recording = open_iq(write_sigmf(tmp_path, packed(datatype, numbers), datatype=datatype))
    samples = recording.read()
    assert samples.dtype == np.complex64
    # float32 keeps 24 bits: 32-bit integers are rounded once, u32 once more below its middle.
    tolerance = 2**-23 if "32" in datatype and "f" not in datatype else 0
    np.testing.assert_allclose(samples, scaled(datatype, numbers), rtol=0, atol=tolerance)
    info = recording.info
    assert (info.datatype, info.format, info.n_samples) == (datatype, form, 32)
    assert info.sample_rate == RATE and info.duration == 32 / RATE


@pytest.mark.parametrize("datatype", ["cf32_le", "ci16_be", "cu8", "ci8", "cu16_le"])
def test_sigmf_equals_the_reference_implementation(tmp_path, rng, datatype):
    sigmf = pytest.importorskip("sigmf")
    path = write_sigmf(
        tmp_path, packed(datatype, stored_numbers(datatype, 200, rng)), datatype=datatype
    )
    expected = sigmf.fromfile(str(path)).read_samples()
    np.testing.assert_array_equal(open_iq(path).read(), expected)


@pytest.mark.parametrize(
    ("suffix", "datatype"),
    [(".cf32", "cf32_le"), (".fc32", "cf32_le"), (".cfile", "cf32_le"), (".CS16", "ci16_le"),
     (".sc16", "ci16_le"), (".cs8", "ci8"), (".cu8", "cu8"), (".cf64", "cf64_le")],
)  # fmt: skip
def test_suffixes_of_raw_files(tmp_path, rng, suffix, datatype):
    numbers = stored_numbers(datatype, 20, rng)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(packed(datatype, numbers))
    assert iq_info(path, sample_rate=RATE).datatype == datatype
    np.testing.assert_array_equal(open_iq(path, sample_rate=RATE).read(), scaled(datatype, numbers))


def test_datatype_without_byte_order_is_little_endian(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(struct.pack("<4h", 16384, -32768, 0, 8192))
    samples = open_iq(path, sample_rate=1e6, datatype="ci16").read()
    assert samples.tolist() == [0.5 - 1j, 0.25j]


@pytest.mark.parametrize("dtype", ["<c8", ">c8", "<c16", ">c16"])
@pytest.mark.parametrize("column", [False, True])
def test_npy_of_complex_numbers(tmp_path, dtype, column):
    expected = noise(50)
    np.save(
        tmp_path / "a.npy",
        expected.astype(dtype).reshape(-1, 1) if column else expected.astype(dtype),
    )
    np.testing.assert_array_equal(open_iq(tmp_path / "a.npy", sample_rate=RATE).read(), expected)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "i1", "u1", "<i2", ">i2", "<u2", "<i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_pairs_in_either_order(tmp_path, rng, dtype, order):
    kind = np.dtype(dtype)
    datatype = f"c{kind.kind}{8 * kind.itemsize}"
    numbers = stored_numbers(datatype, 60, rng)
    array = np.array(numbers).reshape(-1, 2).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    recording = open_iq(tmp_path / "a.npy", sample_rate=RATE)
    expected = scaled(datatype, numbers)
    atol = 2**-24 if kind.itemsize == 4 else 0  # one rounding to float32
    np.testing.assert_allclose(recording.read(), expected, rtol=0, atol=atol)
    np.testing.assert_allclose(recording.read(7, 11), expected[7:18], rtol=0, atol=atol)


# --- blocks -----------------------------------------------------------------------------------


@shared_folder
@given(
    n_samples=st.integers(1, 400),
    block=st.integers(1, 450),
    share=st.floats(0, 1),
    cuts=st.lists(st.integers(1, 399), max_size=3, unique=True),
)
def test_blocks_cover_every_segment_and_cross_none(tmp_path, n_samples, block, share, cuts):
    samples = noise(n_samples)
    edges = [0, *sorted(cut for cut in cuts if cut < n_samples), n_samples]
    captures = [
        {"core:sample_start": start, "core:frequency": 1e9 + number}
        for number, start in enumerate(edges[:-1])
    ]
    path = write_sigmf(tmp_path, samples, captures=captures)
    hop = max(1, round(share * block))
    blocks = list(iq_blocks(path, block, hop))
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        own = [item for item in blocks if item.segment == number]
        assert [item.start for item in own] == list(range(begin, own[-1].start + 1, hop))
        assert own[0].start == begin
        assert own[-1].start + len(own[-1].samples) == end
        assert all(len(item.samples) == block for item in own[:-1])
        assert {item.center_frequency for item in own} == {1e9 + number}
    for item in blocks:
        expected = samples[item.start : item.start + len(item.samples)]
        np.testing.assert_array_equal(item.samples, expected)


def test_only_the_last_block_reaches_the_end(tmp_path):
    path = write_sigmf(tmp_path, noise(10))
    starts = [(block.start, len(block.samples)) for block in iq_blocks(path, 4, 2)]
    assert starts == [(0, 4), (2, 4), (4, 4), (6, 4)]
    starts = [(block.start, len(block.samples)) for block in iq_blocks(path, 4, 4)]
    assert starts == [(0, 4), (4, 4), (8, 2)]


@pytest.mark.parametrize("form", ["raw", "npy"])
def test_a_long_recording_needs_little_memory(tmp_path, form):
    n_samples = 10_000_000  # 80 MB that take no disk space
    path = tmp_path / ("a.npy" if form == "npy" else "a.cf32")
    if form == "npy":
        np.save(path, np.zeros(1, np.complex64))
        header = path.read_bytes()[:-8].replace(b"(1,), }" + b" " * 7, b"(10000000,), }")
        path.write_bytes(header)
    else:
        path.touch()
    os.truncate(path, path.stat().st_size + 8 * n_samples)
    tracemalloc.start()
    total = sum(len(b.samples) for b in iq_blocks(path, 1 << 16, 1 << 16, sample_rate=RATE))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == n_samples
    assert peak < 6 * 8 * (1 << 16)  # a few blocks; the whole file is 152 blocks


def test_resident_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "a.cs16"
    path.touch()
    os.truncate(path, 240_000_000)
    program = (
        "import resource, sys\n"
        "from tfspec.signal.iq import iq_blocks\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = used()\n"
        "n = sum(len(b.samples) for b in iq_blocks(sys.argv[1], 2**20, 2**20, sample_rate=1e6))\n"
        "print(n, used() - before)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)], env=environment, capture_output=True, text=True
    )
    n_samples, grown_mb = result.stdout.split()
    assert int(n_samples) == 60_000_000
    assert float(grown_mb) < 80  # one block is 8 MB; the file is 229 MB


def test_reading_a_range(tmp_path):
    samples = noise(30)
    captures = [{"core:sample_start": s, "core:frequency": 1e9 + s} for s in (0, 10, 20)]
    recording = open_iq(write_sigmf(tmp_path, samples, captures=captures))
    np.testing.assert_array_equal(recording.read(5, 20), samples[5:25])
    np.testing.assert_array_equal(recording.read(12), samples[12:])
    for start, n_samples in [(-1, 3), (0, 31), (30, None), (4, 0)]:
        with pytest.raises(ConfigError, match="has samples 0 to 29") as error:
            recording.read(start, n_samples)
        one_line(error)


@pytest.mark.parametrize(("block", "hop"), [(0, 1), (4, 0), (4, 5), (-1, -1)])
def test_refuses_hops_that_lose_samples(tmp_path, block, hop):
    with pytest.raises(ConfigError, match="`hop` 1 to `block_samples`") as error:
        iq_blocks(write_sigmf(tmp_path, noise(10)), block, hop)
    one_line(error)


# --- SigMF: captures and odd files ------------------------------------------------------------


def captures_of(*entries: dict) -> list[dict]:
    return [{f"core:{key}": value for key, value in entry.items()} for entry in entries]


@pytest.mark.parametrize(
    ("captures", "starts"),
    [
        ([], [0]),
        (captures_of({"sample_start": 0}), [0]),
        # The same frequency goes on; another one is a break.
        (captures_of({"sample_start": 0, "frequency": 1e9},
                     {"sample_start": 40, "frequency": 1e9}), [0]),
        (captures_of({"sample_start": 0, "frequency": 1e9},
                     {"sample_start": 40, "frequency": 2e9}), [0, 40]),
        (captures_of({"sample_start": 0, "frequency": 1e9}, {"sample_start": 40}), [0, 40]),
        # A time of its own is a break, unless the index says that nothing was lost.
        (captures_of({"sample_start": 0}, {"sample_start": 40, "datetime": "2026-01-01T00:00:00Z"}),
         [0, 40]),
        (captures_of({"sample_start": 0, "global_index": 100},
                     {"sample_start": 40, "global_index": 140, "datetime": "2026-01-01T00:00:00Z"}),
         [0]),
        (captures_of({"sample_start": 0, "global_index": 100},
                     {"sample_start": 40, "global_index": 141}), [0, 40]),
        # Samples before the first capture, and captures without samples.
        (captures_of({"sample_start": 25, "frequency": 1e9}), [0, 25]),
        (captures_of({"sample_start": 0, "frequency": 1e9}, {"sample_start": 0, "frequency": 2e9},
                     {"sample_start": 50.0, "frequency": 2e9}), [0]),
    ],
)  # fmt: skip
def test_captures_that_go_on_are_one_segment(tmp_path, captures, starts):
    info = iq_info(write_sigmf(tmp_path, noise(100), captures=captures))
    assert [segment.start for segment in info.segments] == starts
    assert sum(segment.n_samples for segment in info.segments) == info.n_samples == 100


def test_segments_carry_their_frequency(tmp_path):
    captures = captures_of(
        {"sample_start": 0, "frequency": 1e9}, {"sample_start": 60, "frequency": -2.5e6}
    )
    assert iq_info(write_sigmf(tmp_path, noise(100), captures=captures)).segments == (
        IqSegment(start=0, n_samples=60, center_frequency=1e9),
        IqSegment(start=60, n_samples=40, center_frequency=-2.5e6),
    )


def test_header_and_trailing_bytes_are_no_samples(tmp_path):
    samples = noise(30)
    first, second = samples[:12].tobytes(), samples[12:].tobytes()
    captures = captures_of(
        {"sample_start": 0, "header_bytes": 5}, {"sample_start": 12, "header_bytes": 11}
    )
    data = b"\xff" * 5 + first + b"\xff" * 11 + second + b"\xff" * 3
    (tmp_path / "radio.dat").write_bytes(data)
    path = write_sigmf(tmp_path, b"", captures=captures, trailing_bytes=3, dataset="radio.dat")
    recording = open_iq(path)
    assert [segment.start for segment in recording.info.segments] == [0, 12]
    np.testing.assert_array_equal(recording.read(), samples)


def test_a_file_that_goes_on_from_another_one(tmp_path):
    """`core:offset`: all indices count from the first file's start."""
    captures = captures_of(
        {"sample_start": 1000, "frequency": 1e9}, {"sample_start": 1040, "frequency": 2e9}
    )
    notes = captures_of({"sample_start": 1050, "sample_count": 50})
    path = write_sigmf(tmp_path, noise(100), offset=1000, captures=captures, annotations=notes)
    assert [segment.start for segment in iq_info(path).segments] == [0, 40]


def test_either_file_of_a_recording_opens_it(tmp_path):
    path = write_sigmf(tmp_path, noise(10))
    assert iq_info(path) == iq_info(path.with_suffix(".sigmf-data"))


def test_sample_rate_that_the_file_lacks_can_be_given(tmp_path):
    path = write_sigmf(tmp_path, noise(10), sample_rate=None)
    with pytest.raises(
        ConfigError, match="does not state its sample rate; give `sample_rate`"
    ) as e:
        iq_info(path)
    one_line(e, path)
    assert iq_info(path, sample_rate=2e6).sample_rate == 2e6


def test_checksum_that_matches_outranks_an_annotation(tmp_path):
    samples = noise(100)
    checksum = hashlib.sha512(samples.tobytes()).hexdigest()
    notes = captures_of({"sample_start": 50, "sample_count": 51})
    path = write_sigmf(tmp_path, samples, sha512=checksum.upper(), annotations=notes)
    assert iq_info(path).n_samples == 100


# --- damaged files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        ({}, noise(100).tobytes()[:-3], r"797 bytes .*no whole number of 8-byte cf32_le.*cut off"),
        ({}, b"", "is empty"),
        ({"sha512": hashlib.sha512(noise(101).tobytes()).hexdigest()}, noise(100),
         "does not match core:sha512; it is cut off or changed"),
        ({"captures": captures_of({"sample_start": 0}, {"sample_start": 100})}, noise(100),
         "is cut off: a capture starts at sample 100 of 100"),
        ({"annotations": captures_of({"sample_start": 90, "sample_count": 11})}, noise(100),
         "is cut off: an annotation reaches sample 101 of 100"),
        ({"captures": captures_of({"sample_start": 9}, {"sample_start": 3})}, noise(100),
         "in order of core:sample_start"),
        ({"captures": captures_of({"sample_start": -1})}, noise(100), "core:sample_start must be"),
        ({"captures": captures_of({"sample_start": 0, "frequency": "3.5 GHz"})}, noise(100),
         "core:frequency must be in Hz, received '3.5 GHz'"),
        ({"captures": {}}, noise(100), "`captures` must be a list"),
        ({"datatype": None}, noise(100), "lacks core:datatype"),
        ({"datatype": "cf32_xe"}, noise(100), "core:datatype must be cf32_le.*Received: 'cf32_xe'"),
        ({"datatype": "rf32_le"}, noise(100), "real samples; only complex baseband"),
        ({"num_channels": 2}, noise(100), "2 interleaved channels; extract one"),
        ({"sample_rate": 0}, noise(100), "core:sample_rate must be more than 0 Hz"),
        ({"sample_rate": float("nan")}, noise(100), "core:sample_rate must be more than 0 Hz"),
        ({"sample_rate": "fast"}, noise(100), "core:sample_rate must be more than 0 Hz"),
        ({"dataset": "../other.dat"}, noise(100), "core:dataset must name a file beside it"),
        ({"dataset": "other.dat"}, noise(100), "other.dat: is missing"),
        ({"metadata_only": True}, noise(100), "is metadata only"),
        ({"trailing_bytes": 1e9}, noise(100), "no whole number of"),
    ],
)  # fmt: skip
def test_damaged_sigmf_is_one_line(tmp_path, changes, data, message):
    path = write_sigmf(tmp_path, data, **changes)
    with pytest.raises(DataError, match=message) as error:
        iq_blocks(path, 16, 16)
    one_line(error)
    assert str(tmp_path) in str(error.value)


def test_truncated_metadata(tmp_path):
    path = write_sigmf(tmp_path, noise(10))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r"no valid JSON .*it is cut off or damaged") as error:
        iq_info(path)
    one_line(error, path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="no valid JSON") as error:
        iq_info(path)
    one_line(error, path)
    path.write_text("[1, 2]")
    with pytest.raises(DataError, match="lacks the object `global`"):
        iq_info(path)


def test_half_a_recording(tmp_path):
    path = write_sigmf(tmp_path, noise(10))
    path.with_suffix(".sigmf-data").unlink()
    with pytest.raises(DataError, match=r"a\.sigmf-data: is missing") as error:
        iq_info(path)
    one_line(error)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.sigmf-meta: cannot be read .*check the name") as error:
        iq_info(path)
    one_line(error)
    for name in ("a.sigmf", "a.sigmf-collection"):
        with pytest.raises(DataError, match="archive or collection; unpack it"):
            iq_info(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "contents", "options", "kind", "message"),
    [
        ("a.cf32", bytes(17), {"sample_rate": 1e6}, DataError,
         "17 bytes are no whole number of 8-byte cf32_le samples; the file is cut off"),
        ("a.cs8", bytes(3), {"sample_rate": 1e6}, DataError, "3 bytes are no whole number of 2"),
        ("a.cu8", b"", {"sample_rate": 1e6}, DataError, r"is empty \(0 bytes\)"),
        ("a.cf32", bytes(16), {}, ConfigError, "does not state its sample rate"),
        ("a.iq", bytes(16), {"sample_rate": 1e6}, ConfigError, "give `datatype` .* or one of"),
        ("a.iq", bytes(16), {"sample_rate": 1e6, "datatype": "int16"}, ConfigError,
         "`datatype` must be cf32_le.*Received: 'int16'"),
        ("a.iq", bytes(16), {"sample_rate": 1e6, "datatype": "ri16_le"}, DataError, "real samples"),
        ("a.cf32", bytes(16), {"sample_rate": 0}, ConfigError, "`sample_rate` must be more than 0"),
        ("a.cf32", bytes(16), {"sample_rate": float("inf")}, ConfigError, "must be more than 0 Hz"),
        ("a.npz", bytes(16), {"sample_rate": 1e6}, DataError, "is a .npz archive"),
        ("a.npy", b"no array at all", {"sample_rate": 1e6}, DataError, "cannot be read as .npy"),
        ("a.npy", b"\x93NUMPY", {"sample_rate": 1e6}, DataError, "cannot be read as .npy"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(tmp_path, name, contents, options, kind, message):
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(kind, match=message) as error:
        iq_info(tmp_path / name, **options)
    one_line(error)
    with pytest.raises(DataError, match=r"missing\.cf32: cannot be read \(No such file") as error:
        iq_info(tmp_path / "missing.cf32", sample_rate=1e6)
    one_line(error)
    with pytest.raises(DataError, match="is a folder"):
        iq_info(tmp_path, sample_rate=1e6, datatype="cf32")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(10),
        np.zeros((10, 3)),
        np.zeros((2, 10), np.float32),
        np.zeros((10, 2), np.int64),
        np.zeros((10, 2), np.float16),
        np.zeros((10, 2), bool),
        np.zeros((10, 2), np.complex64),
        np.complex64(1),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_npy_that_holds_no_baseband(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=r"needs complex64 or complex128 \(samples,\)") as error:
        iq_info(tmp_path / "a.npy", sample_rate=1e6)
    one_line(error)
    assert str(array.dtype) in str(error.value) and str(array.shape) in str(error.value)


def test_npy_that_is_cut_off_empty_or_pickled(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, noise(100))
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(DataError, match=r"cannot be read as \.npy") as error:
        iq_info(path, sample_rate=1e6)
    one_line(error, path)
    np.save(path, noise(0))
    with pytest.raises(DataError, match=r"holds no samples|cannot be read as \.npy") as error:
        iq_info(path, sample_rate=1e6)
    one_line(error, path)
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot be read as \.npy") as error:
        iq_info(path, sample_rate=1e6)
    one_line(error, path)


def test_arguments_that_contradict_the_file(tmp_path):
    path = write_sigmf(tmp_path, noise(10))
    assert iq_info(path, sample_rate=RATE, datatype="cf32").sample_rate == RATE
    with pytest.raises(
        ConfigError, match=r"states 6\.144e\+07 Hz, leave `sample_rate` out"
    ) as error:
        iq_info(path, sample_rate=1e6)
    one_line(error, path)
    with pytest.raises(ConfigError, match="states cf32_le, leave `datatype` out") as error:
        iq_info(path, datatype="ci16")
    one_line(error, path)
    np.save(tmp_path / "a.npy", noise(10))
    with pytest.raises(ConfigError, match="`datatype` is for raw files"):
        iq_info(tmp_path / "a.npy", sample_rate=1e6, datatype="cf32")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_samples_that_are_not_finite_are_named(tmp_path, value):
    samples = noise(100).astype(np.complex128)
    samples[70] = 1j * value
    np.save(tmp_path / "a.npy", samples)
    blocks = iq_blocks(tmp_path / "a.npy", 32, 32, sample_rate=1e6)
    assert len([next(blocks), next(blocks)]) == 2  # the blocks before it are good
    with pytest.raises(DataError, match="sample 70 is NaN, infinite or beyond float32") as error:
        next(blocks)
    one_line(error)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "a.cf32"
    path.write_bytes(noise(100).tobytes())
    blocks = iq_blocks(path, 40, 40, sample_rate=1e6)
    next(blocks)
    os.truncate(path, 8 * 50)
    with pytest.raises(DataError, match="has become shorter"):
        next(blocks)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        next(iq_blocks_of_missing(path))


def iq_blocks_of_missing(path: Path):
    """Blocks of a recording that is deleted after it was opened."""
    path.write_bytes(noise(10).tobytes())
    blocks = iq_blocks(path, 4, 4, sample_rate=1e6)
    path.unlink()
    return blocks


def test_iq_does_not_import_tensorflow():
    program = "import sys, tfspec.signal.iq; sys.exit('tensorflow' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0
