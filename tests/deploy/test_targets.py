"""Targets: the built-in files say where every figure comes from; mistakes in a user's are named."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from tfspec.deploy.convert import PRECISIONS
from tfspec.deploy.fit import parse_size
from tfspec.deploy.inspect import LITERT_OPS
from tfspec.deploy.micro import TFLM_OPS_FLOAT
from tfspec.deploy.targets import (
    FIGURES,
    Npu,
    Target,
    device_folder,
    load_target,
    target_names,
)
from tfspec.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = {  # bytes of RAM and flash that the project promises for each target
    "android": (None, None),
    "linux-arm64": (None, None),
    "cortex-m4": (262_144, 1_048_576),
    "cortex-m7": (524_288, 2_097_152),
    "cortex-m55-ethos-u55-128": (2_097_152, 8_388_608),
    "cortex-m85-ethos-u85-256": (4_194_304, 8_388_608),
    "esp32-s3": (524_288, 8_388_608),
}
GOOD = """
description = "a board"
runtime = "tflm"
cpu = "Cortex-M4F"
clock_hz = 120e6
ram_bytes = "192K"
flash_bytes = 1_000_000
reserved_ram_bytes = 0
precisions = ["full_int8", "float32"]

[sources]
clock_hz = "data sheet"
ram_bytes = "data sheet"
flash_bytes = "data sheet"
reserved_ram_bytes = "map file"
"""
NPU = """
[npu]
accelerator_config = "ethos-u55-64"
system_config = "Mine"
memory_mode = "Shared_Sram"
config_file = "my_vela.ini"
clock_hz = 400e6
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text, encoding="utf-8")
    return path


def mistake(folder: Path, text: str) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(ConfigError) as caught:
        load_target(write(folder, text))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(folder / "board.toml"))
    return message


def test_the_built_in_targets() -> None:
    assert target_names() == tuple(sorted(BUDGETS))
    for name, budget in BUDGETS.items():
        target = load_target(name)
        assert target.name == name
        assert (target.ram_bytes, target.flash_bytes) == budget
        assert set(target.default_precisions) <= set(target.precisions) <= set(PRECISIONS)


@pytest.mark.parametrize("name", sorted(BUDGETS))
def test_every_figure_of_a_built_in_target_has_a_source(name: str) -> None:
    target = load_target(name)
    for field in dataclasses.fields(Target):
        given = getattr(target, field.name) not in (None, 0, 0.0)
        if given and field.name in FIGURES:
            assert len(target.sources[field.name]) > 15, field.name
    assert {"precisions", "operators"} <= set(target.sources)
    # A source must be of use to a stranger: no path, and nothing that only one machine has.
    assert not re.search(r"(^|\s)/\w|shared/|\.md\b", " ".join(target.sources.values()))


def test_numbers_are_figures_or_texts() -> None:
    """A numeric field added to `Target` later cannot escape the demand for a source."""
    numeric = {
        f.name for f in dataclasses.fields(Target) if re.search("int|float|Npu", str(f.type))
    }
    assert numeric == set(FIGURES)


def test_operators_by_precision() -> None:
    assert load_target("android").operators_for("int8") == LITERT_OPS
    micro = load_target("cortex-m7")
    assert set(micro.operators) == TFLM_OPS_FLOAT
    assert micro.operators_for("float32") == TFLM_OPS_FLOAT
    # Measured one layer at a time: bilinear resizing has no 16-bit kernel, an unfused RELU6 is
    # silently wrong in integers, TILE has no kernel at all.
    assert "RESIZE_BILINEAR" in micro.operators_for("full_int8") - micro.operators_for("int16x8")
    assert "RELU6" in micro.operators_for("float32") - micro.operators_for("full_int8")
    assert "TILE" in LITERT_OPS - TFLM_OPS_FLOAT
    assert micro.operators_for("full_int8") == micro.operators_for("int8")
    unet = {"CONV_2D", "TRANSPOSE_CONV", "MAX_POOL_2D", "CONCATENATION", "LOGISTIC"}
    assert unet < micro.operators_for("int16x8") < micro.operators_for("full_int8")


def test_readme_lists_the_operators_and_targets() -> None:
    text = (device_folder() / "targets" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:[A-Z0-9_]+ )+)\| (yes|no) \| (yes|no) \| (yes|no) \|$", text, re.M)
    target = load_target("cortex-m4")
    for column, precision in enumerate(("float32", "full_int8", "int16x8"), start=1):
        in_column = {op for row in rows if row[column] == "yes" for op in row[0].split()}
        assert in_column == target.operators_for(precision)
    cells = r"\| `([a-z0-9-]+)` \| [^|]+ \| ([^|+]+?) (?:\+ [^|]+)?\| ([^|]+) \|"
    listed = {
        name: tuple(None if size == "no limit" else parse_size(size) for size in (ram, flash))
        for name, ram, flash in re.findall(rf"^{cells}$", text, re.M)
    }
    assert listed == BUDGETS


def test_readme_example_is_a_valid_file(tmp_path: Path) -> None:
    text = (device_folder() / "targets" / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", text, re.S)
    assert example is not None
    target = load_target(write(tmp_path, example[1]))
    assert (target.name, target.ram_bytes, target.flash_bytes) == ("board", 196_608, 1_048_576)
    assert target.reserved_ram_bytes == 24_576
    assert target.macs_per_second == {"full_int8": 30e6}


def test_a_users_file(tmp_path: Path) -> None:
    target = load_target(write(tmp_path, GOOD))
    assert target == load_target(str(tmp_path / "board.toml"))
    assert (target.name, target.ram_bytes, target.flash_bytes) == ("board", 196_608, 1_000_000)
    assert target.default_precisions == ("full_int8",)
    assert set(target.operators) == TFLM_OPS_FLOAT
    assert target.npu is None
    json.dumps(dataclasses.asdict(target))  # a card quotes it


def test_a_users_npu(tmp_path: Path) -> None:
    sources = 'npu = "our design"\n'
    target = load_target(write(tmp_path, GOOD + sources + NPU))
    assert target.npu == Npu(
        accelerator_config="ethos-u55-64",
        system_config="Mine",
        memory_mode="Shared_Sram",
        config_file="my_vela.ini",  # not beside the file: left for Vela to find
        clock_hz=400e6,
    )
    (tmp_path / "my_vela.ini").touch()
    again = load_target(tmp_path / "board.toml").npu
    assert again is not None and again.config_file == str((tmp_path / "my_vela.ini").resolve())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cpu =", "ram = 5\ncpu =", "unknown key `ram` (did you mean ram_bytes?)"),
        ("cpu =", "zzz = 5\ncpu =", "unknown key `zzz`; known are description, runtime, cpu"),
        ('cpu = "Cortex-M4F"\n', "", "`cpu` is missing; add it"),
        ('"Cortex-M4F"', "4", "`cpu` must be a text in quotes, not empty. Received: 4"),
        ('"a board"', '" "', "`description` must be a text in quotes, not empty"),
        ('"tflm"', '"tflmicro"', "`runtime` must be of litert, tflm (did you mean tflm?)"),
        ("120e6", '"fast"', "`clock_hz` must be a number without quotes. Received: 'fast'"),
        ("120e6", "true", "`clock_hz` must be a number without quotes. Received: True"),
        ("120e6", "0", "`clock_hz` must be above 0. Received: 0"),
        ("120e6", "nan", "`clock_hz` must be above 0. Received: nan"),
        ('"192K"', "0", "`ram_bytes` is a budget of zero"),
        ('"192K"', "-5", "`ram_bytes` must not be negative"),
        ('"192K"', '"lots"', "`ram_bytes` must be a size such as 262144, 192K or 1.5M"),
        ('"192K"', "1.5", '`ram_bytes` must be bytes, such as 262144 or "256K". Received: 1.5'),
        ('"192K"', "false", "`ram_bytes` must be bytes"),
        ('ram_bytes = "192K"\nfl', "fl", "`ram_bytes` is missing; add it"),
        ("flash_bytes = 1_000_000\n", "", "`flash_bytes` is missing; add it"),
        ("bytes = 0", "bytes = -1", "`reserved_ram_bytes` must not be negative"),
        (
            "bytes = 0",
            'bytes = "192K"',
            "`reserved_ram_bytes` leaves nothing of ram_bytes = 196608",
        ),
        ("cpu =", "arena_margin = 2\ncpu =", "`arena_margin` must be at least 0, at most 1"),
        ('"float32"]', '"int4"]', "`precisions` must be of dynamic_range, float16"),
        ('"float32"]', '"full_int"]', "(did you mean full_int8?). Received: 'full_int'"),
        ('"float32"]', '"float16"]', "`precisions` holds what tflm refuses; it takes float32"),
        ('["full_int8", "float32"]', '"full_int8"', "`precisions` must be a list of texts"),
        ('["full_int8", "float32"]', "[]", "`precisions` must be a list of texts, not empty"),
        (
            "cpu =",
            'default_precisions = ["int8"]\ncpu =',
            "`default_precisions` must be of float32",
        ),
        ("cpu =", 'operators = ["CONV2D"]\ncpu =', "(did you mean CONV_2D?). Received: 'CONV2D'"),
        ("cpu =", "macs_per_second = 5\ncpu =", "`macs_per_second` must be a table: a line [macs"),
        (
            "[sources]",
            "[macs_per_second]\nint8 = 5\n[sources]",
            "unknown key `macs_per_second.int8`",
        ),
        (
            "[sources]",
            "[macs_per_second]\nfloat32 = 5\n[sources]",
            "`macs_per_second` has no source; add to [sources] the line macs_per_second = ",
        ),
        ('ram_bytes = "data sheet"\n', "", "`ram_bytes` has no source; add to [sources] the line"),
        ('clock_hz = "data sheet"', "clock_hz = 5", "`sources.clock_hz` must be a text in quotes"),
        (
            'clock_hz = "data sheet"',
            'clock = "x"',
            "unknown key `sources.clock` (did you mean clock_hz?)",
        ),
        ("[sources]", "[other]", "unknown key `other`"),
        ("120e6", "", "is no valid TOML: Invalid value (at line 5"),
        ("[sources]", "[sources", "is no valid TOML"),
    ],
)
def test_mistakes_in_a_users_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert GOOD.count(old) >= 1, "the test itself is wrong"
    assert message in mistake(tmp_path, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clock_hz = 400e6", "", "`npu.clock_hz` is missing; add it"),
        ("clock_hz = 400e6", "clock_hz = 0", "`npu.clock_hz` must be above 0"),
        ("memory_mode", "memory", "unknown key `npu.memory` (did you mean memory_mode?)"),
        ('"Mine"', "1", "`npu.system_config` must be a text in quotes"),
        ('npu = "our design"\n', "", "`npu` has no source"),
    ],
)
def test_mistakes_in_a_users_npu(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = GOOD + 'npu = "our design"\n' + NPU
    assert message in mistake(tmp_path, text.replace(old, new, 1))


def test_an_npu_needs_the_micro_runtime(tmp_path: Path) -> None:
    text = (GOOD + 'npu = "our design"\n' + NPU).replace('"tflm"', '"litert"')
    assert '`runtime` must be "tflm" when there is an [npu]' in mistake(tmp_path, text)


def test_what_is_no_target_names_the_built_in_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cortex-m3: no such target.*did you mean cortex-m"):
        load_target("cortex-m3")
    with pytest.raises(ConfigError, match=r"gone\.toml: no such target or file; .*linux-arm64"):
        load_target(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match=r"cannot be read.*one of android"):
        load_target(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'cpu = "\xe9"')
    with pytest.raises(ConfigError, match=r"must be UTF-8 text; byte 7 is not"):
        load_target(tmp_path / "latin.toml")


def test_device_folder_of_a_checkout_and_of_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device_folder() == ROOT / "tflite"
    package = tmp_path / "site" / "tfspec"
    (package / "deploy").mkdir(parents=True)
    monkeypatch.setattr("tfspec.deploy.targets.__file__", str(package / "deploy" / "targets.py"))
    with pytest.raises(ConfigError, match="lacks its device files"):
        device_folder()
    shutil.copytree(ROOT / "tflite" / "targets", package / "_tflite" / "targets")
    assert device_folder() == package / "_tflite"
    assert load_target("cortex-m4").flash_bytes == 1_048_576
