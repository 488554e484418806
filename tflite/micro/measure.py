"""Measures the C front end: code size, stack and instructions on emulated Cortex-M processors.

    python tflite/micro/measure.py [--target cortex-m4 ...] [--json FILE] [--markdown FILE]

Instructions are counted by QEMU, where each takes 1 ns of virtual time (`-icount shift=0`) and the
SysTick timer counts the board's clock; a loop of known length calibrates it. They are
instructions, not cycles: flash wait states, branches and divisions make a real core slower.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolchain import (
    QEMU_FILES,
    TARGETS,
    Target,
    ToolError,
    build_program,
    call,
    library_sources,
    missing_tool,
    run_program,
)

CALIBRATION_INSTRUCTIONS = 2_000_000  # of the loop in bench.c: two per turn
# Per hop, not per call: the separator is measured over one run of the network.
STEP_HOPS = 16
OPERATIONS = {
    "stft_frame": "STFT frame 256, hop 64 (window + FFT)",
    "istft_frame": "inverse STFT frame 256, hop 64",
    "magnitude": "magnitude, 128 bins",
    "log_mel": "power + 40 mel bands + ln",
    "segment_input_int8": "network input 128 x 32, int8 (per run of the network)",
    "mask_frame": "int8 mask applied to one frame",
    "separator_hop": "separator per hop, network not counted (step 16)",
    "rfft_256": "real FFT 256",
    "irfft_256": "inverse real FFT 256",
    "rfft_1024": "real FFT 1024",
    "stft_frame_q15": "Q15: STFT frame 256, hop 64",
    "magnitude_q15": "Q15: magnitude, 128 bins",
    "log_mel_q15": "Q15: power + 40 mel bands + ln",
    "rfft_q15_256": "Q15: real FFT 256",
    "rfft_q15_1024": "Q15: real FFT 1024",
}


@dataclasses.dataclass(frozen=True)
class Operation:
    """Cost of one call: instructions, and bytes of stack with what it calls."""

    instructions: int
    stack: int


def code_sizes(folder: Path, target: Target) -> dict[str, int]:
    """Bytes of code and constants of each library file, from its object file in `folder`.

    Raises:
        ToolError: the tool is missing or fails.
    """
    size = "size" if target.is_host else "arm-none-eabi-size"
    sizes = {}
    for source in library_sources():
        output = call([size, str(folder / f"{source.stem}.o")])
        text, data = output.splitlines()[1].split()[:2]
        sizes[source.name] = int(text) + int(data)
    return sizes


def stack_usage(folder: Path) -> dict[str, int]:
    """Largest stack frame in each library file, bytes, from the compiler's `.su` files."""
    largest = {}
    for source in library_sources():
        lines = (folder / f"{source.stem}.su").read_text().splitlines()
        largest[source.name] = max(int(line.split("\t")[1]) for line in lines)
    return largest


def parse_bench(output: str, target: Target) -> dict[str, Operation]:
    """Operations from the lines that `bench.c` prints.

    Raises:
        ToolError: lines are missing, or the calibration loop took another time than it must.
    """
    rows = {
        name: (int(ticks), int(repeats), int(stack))
        for name, ticks, repeats, stack in re.findall(r"^(\w+) (\d+) (\d+) (\d+)$", output, re.M)
    }
    if not {"calibration", "nothing"} <= rows.keys():
        raise ToolError(f"{target.name}: the measuring program printed {output[:80]!r}")
    per_tick = CALIBRATION_INSTRUCTIONS / rows["calibration"][0]
    if abs(per_tick / target.instructions_per_tick - 1.0) > 1e-3:
        raise ToolError(
            f"{target.board}: {per_tick:.3f} instructions per SysTick tick, expected "
            f"{target.instructions_per_tick}; this QEMU counts differently"
        )
    call_cost = rows["nothing"][0] * per_tick / rows["nothing"][1]
    operations = {}
    for name, (ticks, repeats, stack) in rows.items():
        count = ticks * per_tick / repeats - call_cost
        if name == "separator_step":
            name, count = "separator_hop", count / STEP_HOPS
        if name in OPERATIONS:
            operations[name] = Operation(max(0, round(count)), stack)
    return operations


def measure(target: Target) -> dict[str, Any]:
    """Everything about one target, as JSON values.

    Raises:
        ToolError: a tool is missing or fails, or QEMU counts differently than expected.
    """
    if missing := missing_tool(target):
        raise ToolError(f"{missing}: not installed; see the packages in README.md")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = build_program(QEMU_FILES / "bench.c", folder, target, ["-fstack-usage"])
        operations = parse_bench(run_program(program, target, folder), target)
        return {
            "flags": list(target.flags),
            "board": target.board,
            "code_bytes": code_sizes(folder, target),
            "largest_stack_frame_bytes": stack_usage(folder),
            "operations": {key: dataclasses.asdict(value) for key, value in operations.items()},
        }


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _by_file(results: Mapping[str, Mapping[str, Any]], key: str) -> list[list[str]]:
    """Rows of a figure that each library file has."""
    files = next(iter(results.values()))[key]
    return [[file, *(f"{result[key][file]:,}" for result in results.values())] for file in files]


def to_markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of instructions, stack and code size, one column per target."""
    names = list(results)
    parts = []
    for title, key in (
        ("Instructions per call", "instructions"),
        ("Stack per call with everything below it, measured, bytes", "stack"),
    ):
        rows = [
            [text, *(f"{results[n]['operations'][op][key]:,}" for n in names)]
            for op, text in OPERATIONS.items()
        ]
        parts.append(f"**{title}**\n\n{_table(['operation', *names], rows)}")
    largest = _by_file(results, "largest_stack_frame_bytes")
    parts.append(
        f"**Largest stack frame (-fstack-usage), bytes**\n\n{_table(['file', *names], largest)}"
    )
    totals = ["all", *(f"{sum(results[n]['code_bytes'].values()):,}" for n in names)]
    rows = [*_by_file(results, "code_bytes"), totals]
    parts.append(f"**Code and constants, bytes**\n\n{_table(['file', *names], rows)}")
    return "\n\n".join(parts) + "\n"


def _write(path: Path, text: str) -> None:
    """Writes a whole file or none.

    Raises:
        ToolError: the folder is missing or not writable.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text)
        os.replace(part, path)
    except OSError as error:
        raise ToolError(f"{path}: cannot be written: {error.strerror}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; exit code 0, or 2 with one line of error."""
    emulated = [name for name, target in TARGETS.items() if not target.is_host]
    parser = argparse.ArgumentParser(description="Measure the C front end under QEMU.")
    parser.add_argument(
        "--target", action="append", choices=emulated, help="processor; repeat; default: all"
    )
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument(
        "--markdown", type=Path, help="file for the tables; default: standard output"
    )
    options = parser.parse_args(arguments)
    try:
        results = {name: measure(TARGETS[name]) for name in options.target or emulated}
        text = to_markdown(results)
        if options.json:
            _write(options.json, json.dumps(results, indent=2) + "\n")
        if options.markdown:
            _write(options.markdown, text)
        else:
            sys.stdout.write(text)
    except ToolError as error:
        sys.stderr.write(f"measure.py: error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
