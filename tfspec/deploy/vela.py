"""Compiling for Arm Ethos-U with Vela, and what Vela says about the result.

Vela leaves operators that the NPU does not run to the CPU without an error, so they are read off
the compiled file. Cycles are Vela's own estimate. It runs in a process of its own.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Protocol

from tfspec.deploy.inspect import inspect_tflite
from tfspec.deploy.metadata import read_bytes
from tfspec.errors import ExportError

VELA_INSTALL_HINT = 'Vela is not installed; run: pip install "tfspec[micro]"'
_NPU_OPERATOR = "CUSTOM ethos-u"  # a compiled part of the graph, in the compiled file


class NpuConfig(Protocol):
    """An NPU and how Vela compiles for it (`tfspec.deploy.targets.Npu`)."""

    @property
    def accelerator_config(self) -> str:
        """Vela's name of the NPU, such as `ethos-u55-128`."""

    @property
    def system_config(self) -> str:
        """Section of the configuration file: clock and memory speeds."""

    @property
    def memory_mode(self) -> str:
        """Section of the configuration file: what lies in which memory."""

    @property
    def config_file(self) -> str | None:
        """The configuration file; `Arm/vela.ini` comes with Vela. None: none is read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VelaReport:
    """What Vela made of a model.

    Attributes:
        cpu_operators: names of the operators left on the CPU, once for each; empty when all are
            on the NPU.
        npu_operators: number of operators on the NPU, as Vela counts after splitting them.
        sram_bytes: on-chip memory.
        dram_bytes: external RAM.
        flash_bytes: flash of either kind for weights and commands.
        cycles: of the NPU for one inference, estimated; the CPU's operators are not in it.
        milliseconds: the same at the clock of the system configuration.
        optimised: the compiled .tflite.
    """

    cpu_operators: tuple[str, ...]
    npu_operators: int
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int
    cycles: int
    milliseconds: float
    optimised: bytes


def compile_vela(
    model: str | os.PathLike[str] | bytes, npu: NpuConfig, *, time_limit: float = 600.0
) -> VelaReport:
    """Compiles a full-integer .tflite for an Ethos-U.

    Args:
        model: .tflite file or its bytes.
        npu: accelerator, system configuration, memory mode and configuration file.
        time_limit: seconds until the compilation is given up.

    Raises:
        ExportError: Vela is not installed, refuses the model or the configuration, crashes, or
            does not finish.
        ModelError: the file cannot be read.
    """
    if importlib.util.find_spec("ethosu") is None:
        raise ExportError(VELA_INSTALL_HINT)
    data, name = read_bytes(model)
    with tempfile.TemporaryDirectory(prefix="tfspec-vela-") as folder:
        Path(folder, "model.tflite").write_bytes(data)
        log = _run_vela(Path(folder), _options(npu), name, time_limit)
        return _report(Path(folder, "output"), log, name)


def _options(npu: NpuConfig) -> list[str]:
    options = [f"--accelerator-config={npu.accelerator_config}"]
    options += [f"--system-config={npu.system_config}", f"--memory-mode={npu.memory_mode}"]
    if npu.config_file is not None:
        # A user's own file is relative to where the user is, Vela's own to Vela's folder.
        own = Path(npu.config_file)
        options.append(f"--config={own.resolve() if own.is_file() else own}")
    return options


def _run_vela(folder: Path, options: list[str], name: str, time_limit: float) -> str:
    command = [sys.executable, "-m", "ethosu.vela", "model.tflite", "--output-dir=output"]
    try:
        done = subprocess.run(
            [*command, "--show-cpu-operations", *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=time_limit,
        )
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"{name}: Vela did not finish within {time_limit:g} s and was stopped; raise the limit"
        ) from None
    log = done.stdout.decode("utf-8", "replace")
    if done.returncode < 0:
        raise ExportError(f"{name}: Vela crashed ({signal.Signals(-done.returncode).name})")
    if done.returncode != 0:
        raise ExportError(f"{name}: Vela refuses it ({_cause(log)})")
    return log


def _cause(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    last = lines[-1] if lines else "no message"
    # The last line of a traceback: `ethosu.vela.errors.InputFileError: "Error: Reading ..."`.
    return re.sub(r"^[\w.]+: (?=\W?error: )", "", last, flags=re.IGNORECASE).strip("'\"")[:300]


def _report(output: Path, log: str, name: str) -> VelaReport:
    compiled = output / "model_vela.tflite"
    summaries = list(output.glob("model_summary_*.csv"))
    if not compiled.exists() or len(summaries) != 1:
        raise ExportError(f"{name}: Vela wrote no result ({_cause(log)})")
    with summaries[0].open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    optimised = compiled.read_bytes()
    operators = [op.name for op in inspect_tflite(optimised).operators]
    count = re.search(r"NPU operators = (\d+)", log)
    return VelaReport(
        cpu_operators=tuple(op for op in operators if op != _NPU_OPERATOR),
        npu_operators=int(count[1]) if count else operators.count(_NPU_OPERATOR),
        sram_bytes=_bytes(row, "sram"),
        dram_bytes=_bytes(row, "dram"),
        flash_bytes=_bytes(row, "on_chip_flash") + _bytes(row, "off_chip_flash"),
        cycles=round(float(row["cycles_total"])),
        milliseconds=1e3 * float(row["inference_time"]),
        optimised=optimised,
    )


def _bytes(row: dict[str, str], memory: str) -> int:
    return round(1024 * float(row[f"{memory}_memory_used"]))
