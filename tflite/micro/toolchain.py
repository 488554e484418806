"""Compilers and emulated boards that the C front end is tested and measured with.

Used by `measure.py` and by the tests; needs only the standard library. Debian packages:
gcc, gcc-arm-none-eabi, libnewlib-arm-none-eabi, qemu-system-arm.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

MICRO = Path(__file__).resolve().parent
QEMU_FILES = MICRO.parents[1] / "tests" / "deploy" / "qemu"
ARM_GCC, QEMU = "arm-none-eabi-gcc", "qemu-system-arm"

# What the library promises to compile with; -Wdouble-promotion because a double on a Cortex-M4
# is emulated in software and easy to write by accident.
WARNINGS = (
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wdouble-promotion",
    "-Werror",
)
# Without errno a square root is one instruction; contraction lets products and sums fuse.
OPTIMISE = (
    "-O2",
    "-fno-math-errno",
    "-ffp-contract=fast",
    "-ffunction-sections",
    "-fdata-sections",
)


class ToolError(Exception):
    """A compiler or emulator that is missing or failed; the message is one line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A processor to compile for, and the emulated board that runs it.

    Attributes:
        name: as printed.
        flags: of the compiler; empty for the host.
        board: QEMU machine; empty for the host.
        linker_script: file in `tests/deploy/qemu`; empty for the host.
        instructions_per_tick: of SysTick under `-icount shift=0`, where each instruction takes
            1 ns: the board's clock period in ns. `measure.py` checks it with a known loop.
    """

    name: str
    flags: tuple[str, ...] = ()
    board: str = ""
    linker_script: str = ""
    instructions_per_tick: float = 0.0

    @property
    def is_host(self) -> bool:
        """Whether programs run directly."""
        return not self.board

    @property
    def compiler(self) -> str:
        """Name of the C compiler."""
        return "gcc" if self.is_host else ARM_GCC


HOST = Target(name="host")
CORTEX_M3 = Target(
    name="cortex-m3",
    flags=("-mcpu=cortex-m3", "-mthumb", "-mfloat-abi=soft"),
    board="mps2-an385",
    linker_script="mps2.ld",
    instructions_per_tick=40.0,
)
CORTEX_M4 = Target(
    name="cortex-m4",
    flags=("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    board="mps2-an386",
    linker_script="mps2.ld",
    instructions_per_tick=40.0,
)
CORTEX_M7 = Target(
    name="cortex-m7",
    flags=("-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
    board="mps2-an500",
    linker_script="mps2.ld",
    instructions_per_tick=40.0,
)
CORTEX_M55 = Target(
    name="cortex-m55",
    flags=("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"),
    board="mps3-an547",
    linker_script="mps3_an547.ld",
    instructions_per_tick=31.25,
)
TARGETS = {t.name: t for t in (HOST, CORTEX_M3, CORTEX_M4, CORTEX_M7, CORTEX_M55)}


def library_sources() -> list[Path]:
    """All C files of the library."""
    return sorted(MICRO.glob("*.c"))


def missing_tool(target: Target, *, run: bool = True) -> str | None:
    """Name of the first program that is needed for a target and not installed."""
    needed = [target.compiler] + ([QEMU] if run and not target.is_host else [])
    return next((name for name in needed if shutil.which(name) is None), None)


def call(command: Sequence[str], *, cwd: Path | None = None, timeout: float = 120.0) -> str:
    """Standard output of a command.

    Raises:
        ToolError: it is not installed, took longer than `timeout` seconds, or failed.
    """
    try:
        done = subprocess.run(command, cwd=cwd, timeout=timeout, capture_output=True, text=True)
    except FileNotFoundError:
        raise ToolError(f"{command[0]}: not installed; see the packages in README.md") from None
    except subprocess.TimeoutExpired:
        raise ToolError(f"{command[0]}: no result within {timeout:g} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ToolError(f"{command[0]}: exit code {done.returncode}: {' | '.join(lines[:6])}")
    return done.stdout


def compile_object(
    source: Path, folder: Path, target: Target, extra: Iterable[str] = (), warn: bool = True
) -> Path:
    """Compiles one C file into `folder`; returns the object file."""
    out = folder / f"{source.stem}.o"
    flags = [*(WARNINGS if warn else ("-std=c99",)), *OPTIMISE, *target.flags, *extra]
    call([target.compiler, *flags, f"-I{MICRO}", "-c", str(source), "-o", str(out)])
    return out


def build_program(source: Path, folder: Path, target: Target, extra: Iterable[str] = ()) -> Path:
    """Compiles a program with the whole library; start-up code is added for a board."""
    folder.mkdir(parents=True, exist_ok=True)
    extra = list(extra)
    objects = [compile_object(file, folder, target, extra) for file in library_sources()]
    objects.append(compile_object(source, folder, target, extra))
    link = ["-lm"]
    if not target.is_host:
        startup = QEMU_FILES / "startup.c"
        objects.append(compile_object(startup, folder, target, extra, warn=False))
        script = f"-T{target.linker_script}"
        link = ["-nostartfiles", "--specs=rdimon.specs", f"-L{QEMU_FILES}", script, *link]
    out = folder / f"{source.stem}.elf"
    names = [str(path) for path in objects]
    flags = [*target.flags, *extra]
    call([target.compiler, *flags, *names, *link, "-Wl,--gc-sections", "-o", str(out)])
    return out


def run_program(program: Path, target: Target, folder: Path, timeout: float = 120.0) -> str:
    """Runs a program in `folder`, on the host or on the emulated board; returns its output."""
    if target.is_host:
        return call([str(program)], cwd=folder, timeout=timeout)
    command = [QEMU, "-M", target.board, "-display", "none", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", "-icount", "shift=0"]
    return call([*command, "-kernel", str(program)], cwd=folder, timeout=timeout)
