"""The example of `tflite/micro` with a stand-in for TFLM, and the script that measures."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.micro_support import (
    MICRO,
    library_objects,
    load_script,
    music,
    toolchain,
)

FAKE_TFLM = Path(__file__).parent / "fake_tflm"
EXAMPLE = tuple(MICRO / "example" / name for name in ("main.cc", "tfspec_model_runner.cc"))
EXAMPLE_FLAGS = (
    *("-std=c++17", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"),
    *(f"-I{folder}" for folder in (MICRO, MICRO / "example", FAKE_TFLM)),
)


@pytest.fixture(scope="session")
def build_example(tmp_path_factory):
    """Builds the example for the host, with some values of its model changed."""
    folder = tmp_path_factory.mktemp("example")

    def build(*defines: str) -> Path:
        program = folder / "example"
        sources = [*EXAMPLE, FAKE_TFLM / "host_board.cc", *library_objects()]
        flags = [*EXAMPLE_FLAGS, *(f"-D{define}" for define in defines)]
        toolchain.call(["g++", *flags, *map(str, sources), "-lm", "-o", str(program)])
        return program

    return build


class TestExample:
    """The example's loop on the host, with a stand-in for TFLM whose network passes everything."""

    def test_passes_audio_with_the_stated_delay(self, build_example, rng):
        x = np.round(music(rng, 16000) * 30000).astype(np.int16)
        done = subprocess.run([build_example()], input=x.tobytes(), capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        y = np.frombuffer(done.stdout, np.int16)
        n_fft, hop, step, lookahead = 256, 64, 16, 8
        # The separator's delay and the silence that playback starts with.
        delay = n_fft - hop + (step + lookahead - 1) * hop + step * hop
        assert y.size == x.size
        assert not y[:delay].any()
        # Float round trip and rounding to 16 bits: the same integers.
        np.testing.assert_array_equal(y[delay:], x[: x.size - delay])

    @pytest.mark.parametrize(
        ("define", "message"),
        [
            ("FAKE_SCHEMA=2", "model: 1"),
            ("TFSPEC_OP_COUNT=1", "model: 2"),
            ("TFSPEC_ARENA_SIZE=8191", "model: 3"),
            ("FAKE_OUTPUT_SCALE=0.0039f", "model: 4"),
            ("FAKE_INVOKE_STATUS=kTfLiteError", "network: 8"),
        ],
    )
    @pytest.mark.slow
    def test_failures_are_reported(self, build_example, define, message):
        done = subprocess.run([build_example(define)], input=bytes(40000), capture_output=True)
        assert done.returncode == 1
        assert done.stderr.decode().strip() == message

    def test_compiles_for_the_board(self, tmp_path):
        compiler = "arm-none-eabi-g++"
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        flags = [*EXAMPLE_FLAGS, *toolchain.CORTEX_M4.flags, "-fno-exceptions", "-fno-rtti"]
        for source in EXAMPLE:
            out = tmp_path / f"{source.stem}.o"
            toolchain.call([compiler, *flags, "-c", str(source), "-o", str(out)])
            # An ELF object whose machine (at byte 18) is EM_ARM, 40.
            header = out.read_bytes()[:20]
            assert header[:4] == b"\x7fELF" and header[18] == 40, source.name

    def test_only_the_runner_uses_tflm(self):
        for source in MICRO.rglob("*.[ch]*"):
            if source.suffix in {".c", ".h", ".cc"} and source.name != "tfspec_model_runner.cc":
                text = source.read_text()
                assert "tflite::" not in text and "tensorflow/lite" not in text, source.name


class TestMeasure:
    """`measure.py` on one board."""

    def test_tables_and_json(self, tmp_path, capsys):
        if missing := toolchain.missing_tool(toolchain.CORTEX_M4):
            pytest.skip(f"{missing} is not installed")
        measure = load_script("measure")
        out = tmp_path / "cost.json"
        assert measure.main(["--target", "cortex-m4", "--json", str(out)]) == 0
        result = json.loads(out.read_text())["cortex-m4"]
        operations = result["operations"]
        assert set(operations) == set(measure.OPERATIONS)
        # A real FFT of 256 points needs about 128 * 7 * 5 operations for its complex core: fewer
        # instructions than half of that, or stacks of zero bytes, would mean it did not run.
        assert 2500 < operations["rfft_256"]["instructions"] < 20000
        assert operations["stft_frame"]["instructions"] > operations["rfft_256"]["instructions"]
        assert 40 < operations["rfft_256"]["stack"] < 500
        assert 400 < result["code_bytes"]["tfspec_fft.c"] < 4000
        assert 0 < result["largest_stack_frame_bytes"]["tfspec_fft.c"] < 400
        assert f"| {operations['rfft_256']['instructions']:,} |" in capsys.readouterr().out

    def test_wrong_calibration_is_refused(self):
        measure = load_script("measure")
        with pytest.raises(measure.ToolError, match=r"80\.000 instructions per SysTick tick"):
            measure.parse_bench("calibration 25000 1 0\nnothing 1 1 0\n", toolchain.CORTEX_M4)

    def test_errors_are_one_line(self, tmp_path, capsys, monkeypatch):
        measure = load_script("measure")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert measure.main(["--target", "cortex-m4"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "arm-none-eabi-gcc: not installed" in error
