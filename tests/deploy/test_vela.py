"""Vela on small networks; the figures of its report against its own summary file."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import numpy as np
import pytest

import tfspec.deploy.vela as vela
from tests.deploy.reject_models import float_island, int8_convolution
from tfspec.deploy.inspect import inspect_tflite
from tfspec.deploy.vela import VELA_INSTALL_HINT, compile_vela
from tfspec.errors import ExportError, ModelError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Npu:
    accelerator_config: str = "ethos-u55-128"
    system_config: str = "Ethos_U55_High_End_Embedded"
    memory_mode: str = "Shared_Sram"
    config_file: str | None = "Arm/vela.ini"


U55 = Npu()
U85 = Npu(
    accelerator_config="ethos-u85-256",
    system_config="Ethos_U85_SYS_DRAM_Mid",
    memory_mode="Dedicated_Sram_384KB",
)
needs_vela = pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None, reason="ethos-u-vela is not installed"
)


@needs_vela
def test_a_convolution_goes_to_the_npu_whole():
    report = compile_vela(int8_convolution(), U55)
    assert report.cpu_operators == ()
    assert report.npu_operators == 2  # the convolution and its ReLU6
    assert inspect_tflite(report.optimised).ops == {"CUSTOM ethos-u": 1}
    # Input 6 x 6 x 16 and output 6 x 6 x 32, both in SRAM; weights 4608 bytes in flash, which
    # random numbers do not let Vela compress.
    assert report.sram_bytes == 6 * 6 * (16 + 32)
    assert report.dram_bytes == 0
    assert 4608 <= report.flash_bytes <= 2 * 4608
    # 500 MHz, and no faster than the flash can deliver: 0.5 GB/s, one byte per cycle.
    assert report.cycles >= 4608
    assert report.milliseconds == pytest.approx(report.cycles / 500e3)


@needs_vela
def test_float_operators_stay_on_the_cpu_by_name():
    report = compile_vela(float_island(), U85)
    assert report.cpu_operators == ("DEQUANTIZE", "SQRT", "QUANTIZE")
    assert report.npu_operators == report.cycles == 0


@needs_vela
def test_a_configuration_file_of_ones_own_is_found_where_one_is(tmp_path, monkeypatch):
    names = ("System_Config.mine", "Memory_Mode.all")
    ports = "core_clock=100e6\naxi0_port=Sram\naxi1_port=OffChipFlash\nSram_clock_scale=1.0\n"
    modes = "const_mem_area=Axi1\narena_mem_area=Axi0\ncache_mem_area=Axi0\n"
    flash = "OffChipFlash_clock_scale=0.125\n"
    text = f"[{names[0]}]\n{ports}{flash}[{names[1]}]\n{modes}"
    (tmp_path / "board.ini").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    mine = Npu(system_config="mine", memory_mode="all", config_file="board.ini")
    report = compile_vela(int8_convolution(), mine)
    assert report.milliseconds == pytest.approx(report.cycles / 100e3)  # 100 MHz
    assert list(tmp_path.iterdir()) == [tmp_path / "board.ini"]  # and nothing is left behind


@needs_vela
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system_config": "Nope"}, r"Error: .*Section System_Config.Nope not found"),
        ({"accelerator_config": "ethos-u99"}, r"error: argument --accelerator-config: invalid"),
        ({"config_file": "no/where.ini"}, r"Error: Reading input file '.*no/where.ini'"),
    ],
)
def test_wrong_configurations_are_one_line(change, message):
    with pytest.raises(ExportError, match=rf"Vela refuses it \({message}") as caught:
        compile_vela(int8_convolution(), dataclasses.replace(U55, **change))
    assert "\n" not in str(caught.value)


@needs_vela
def test_crashes_and_time_limit_are_one_line(tmp_path):
    path = tmp_path / "half.tflite"
    path.write_bytes(int8_convolution()[:1500])
    with pytest.raises(ExportError, match=r"half.tflite: Vela (crashed|refuses it|wrote no)"):
        compile_vela(path, U55)
    with pytest.raises(ExportError, match=r"Vela did not finish within 0.01 s"):
        compile_vela(int8_convolution(), U55, time_limit=0.01)
    with pytest.raises(ModelError, match=r"none.tflite: cannot be read"):
        compile_vela(tmp_path / "none.tflite", U55)


def test_absent_vela_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(vela.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError) as caught:
        compile_vela(b"", U55)
    assert str(caught.value) == VELA_INSTALL_HINT
    assert 'pip install "tfspec[micro]"' in VELA_INSTALL_HINT


@pytest.fixture(scope="module")
def tiny_core() -> bytes:
    """The mask network of the preset `tiny` for segments of 128 x 64, full int8."""
    from tfspec.deploy.convert import convert, cut_model
    from tfspec.separation.models.vocal_unet import PRESETS, vocal_unet

    kwargs: dict[str, Any] = {**PRESETS["tiny"], "input_shape": (128, 64, 1)}
    core = cut_model(vocal_unet(**kwargs), first="compress", last="mask")
    segments = np.random.default_rng(0).random((16, 128, 64, 1)) ** 2
    return convert(core, ["full_int8"], calibration=segments)["full_int8"]


@needs_vela
@pytest.mark.slow
@pytest.mark.parametrize(("npu", "external"), [(U55, False), (U85, True)])
def test_the_vocal_unet_leaves_nothing_on_the_cpu(tiny_core, npu, external):
    report = compile_vela(tiny_core, npu)
    assert report.cpu_operators == ()
    assert report.npu_operators >= 25  # those of the file, some of them split
    # Measured 289 KiB on both; U85 keeps 147 KiB of weights and commands in DRAM, U55 124 in flash.
    assert report.sram_bytes < 300 * 1024
    assert (report.dram_bytes > 0) == external
    assert (report.flash_bytes > 0) != external
    # 82 million multiply-adds at no more than 128 or 256 per cycle.
    assert 81e6 / (256 if external else 128) < report.cycles < 1.2e6
