"""What holds for the C code of `tflite/micro` whatever it computes, and host against boards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.micro_support import (
    MICRO,
    Command,
    Runner,
    hard_signals,
    library_objects,
    music,
    runner,
    target_params,
    toolchain,
)


def _mixed_commands(rng: np.random.Generator) -> list[Command]:
    """The paths that firmware takes, float and fixed point."""
    x = music(rng, 6400)
    shorts = np.round(x * 32767).astype(np.int16)
    return [
        Command("stft", [256, 64, 128, 100, 128, 0], x),
        Command("separator", [256, 64, 128, 32, 16, 8, 0, 1, 10**6], x),
        Command("separator", [64, 48, 33, 4, 2, 1, 2, 1, 10**6], x),
        Command("stft_q15", [256, 64, 128, 100], shorts=shorts),
    ]


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path, rng):
    """No access outside a buffer and no undefined arithmetic, whatever the signal."""
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
    checked = Runner(toolchain.HOST, tmp_path, flags)
    commands = _mixed_commands(rng)
    for n_fft in (32, 64, 4096):
        commands.append(Command("rfft", [n_fft], rng.standard_normal(n_fft)))
        commands.append(Command("irfft", [n_fft], rng.standard_normal(n_fft)))
    for x in hard_signals(rng, 4 * 512).values():
        commands.append(Command("stft_q15", [512, 128, 0, 77], shorts=x))
        commands.append(Command("magnitude_q15", [512, 257], shorts=x[:512]))
    commands.append(Command("quantize", [0, 1], [1e-30, np.nan, np.inf, -np.inf, 3e38, 1.0]))
    assert all(checked.run(*commands))


@pytest.mark.parametrize("name", target_params(host=False))
def test_boards_equal_the_host(rng, name):
    """Same C, another processor: float up to fused products and libm, integers exactly."""
    board, host = runner(name), runner("host")
    commands = _mixed_commands(rng)
    for command, a, b in zip(commands, board.run(*commands), host.run(*commands), strict=True):
        if command.operation == "stft_q15":
            assert a == b
        else:
            one, two = np.frombuffer(a, np.float32), np.frombuffer(b, np.float32)
            assert np.abs(one - two).max() <= 1e-6 * np.abs(two).max()


class TestSources:
    """What holds for the code itself, whatever it computes."""

    def test_no_heap_and_no_writable_globals(self):
        for compiled in library_objects():
            for line in toolchain.call(["nm", str(compiled)]).splitlines():
                kind, symbol = line.split()[-2:]
                assert kind not in "bBdDcCsS", f"{compiled.name} has the variable {symbol}"
                assert symbol not in {"malloc", "calloc", "realloc", "free"}, compiled.name

    def test_headers_stand_alone_in_c_and_cpp(self, tmp_path):
        for header in sorted(MICRO.glob("*.h")):
            for compiler, standard, suffix in (("gcc", "c99", "c"), ("g++", "c++17", "cc")):
                source = tmp_path / f"use.{suffix}"
                source.write_text(f'#include "{header.name}"\n')
                flags = [f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
                command = [compiler, *flags, "-fsyntax-only", f"-I{MICRO}", str(source)]
                done = subprocess.run(command, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr

    def test_failures_of_tools_are_one_line(self, tmp_path):
        bad = Path(tmp_path) / "bad.c"
        bad.write_text("int main(void) { return x; }\n")
        with pytest.raises(toolchain.ToolError, match=r"gcc: exit code 1: .*bad\.c") as error:
            toolchain.compile_object(bad, tmp_path, toolchain.HOST)
        assert "\n" not in str(error.value)
