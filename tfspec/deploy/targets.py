"""What a device offers: memory, precisions, operators, speed; read from `tflite/targets/*.toml`.

A user's own file has the same form. Every figure names its source, so that a budget can be
traced to a data sheet or a measurement.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tfspec.deploy.convert import PRECISIONS
from tfspec.deploy.fit import parse_size
from tfspec.deploy.inspect import LITERT_OPS
from tfspec.deploy.micro import TFLM_OPS_BY_PRECISION, TFLM_OPS_FLOAT
from tfspec.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RUNTIMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"litert": PRECISIONS, "tflm": tuple(TFLM_OPS_BY_PRECISION)}
)
_DEFAULT_OPERATORS: Mapping[str, tuple[str, ...] | None] = MappingProxyType(
    {"litert": None, "tflm": tuple(sorted(TFLM_OPS_FLOAT))}
)
# Keys whose values need an entry in [sources].
FIGURES = (
    "clock_hz",
    "ram_bytes",
    "external_ram_bytes",
    "flash_bytes",
    "macs_per_second",
    "reserved_flash_bytes",
    "reserved_ram_bytes",
    "arena_margin",
    "npu",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Npu:
    """An Ethos-U and how Vela compiles for it.

    Attributes:
        accelerator_config: Vela's name of the NPU, such as `ethos-u55-128`.
        system_config: section of the configuration file: clock and memory speeds.
        memory_mode: section of the configuration file: what lies in which memory.
        config_file: the configuration file; `Arm/vela.ini` comes with Vela. None: Vela's default.
        clock_hz: of the NPU, Hz.
    """

    accelerator_config: str
    system_config: str
    memory_mode: str
    config_file: str | None
    clock_hz: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A device to export for.

    Attributes:
        name: file name without `.toml`.
        description: one line for people.
        runtime: `litert` or `tflm` (TensorFlow Lite Micro).
        cpu: processor core.
        clock_hz: of the processor, Hz; None when it differs from device to device.
        ram_bytes: on-chip RAM; None when it is no limit.
        flash_bytes: flash memory; None when it is no limit.
        precisions: that the runtime takes.
        default_precisions: exported when none is asked for.
        operators: built-in TFLite operators that run; None: `LITERT_OPS`. Use `operators_for`.
        macs_per_second: multiply-adds per second by precision; None when unknown.
        reserved_flash_bytes: taken by interpreter and kernels.
        reserved_ram_bytes: taken by stack, heap and application.
        arena_margin: added to the arena measured on the host, relative.
        external_ram_bytes: second RAM, in which an NPU's arena lies; None when there is none.
        npu: the NPU, if there is one.
        sources: where each figure comes from.
    """

    name: str
    description: str
    runtime: str
    cpu: str
    precisions: tuple[str, ...]
    default_precisions: tuple[str, ...]
    operators: tuple[str, ...] | None
    clock_hz: float | None = None
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    macs_per_second: Mapping[str, float] | None = None
    reserved_flash_bytes: int = 0
    reserved_ram_bytes: int = 0
    arena_margin: float = 0.0
    external_ram_bytes: int | None = None
    npu: Npu | None = None
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def operators_for(self, precision: str) -> frozenset[str]:
        """Operators that run and were found right in one of the precisions."""
        if self.operators is None:
            return LITERT_OPS
        named = frozenset(self.operators)
        return named & TFLM_OPS_BY_PRECISION[precision] if self.runtime == "tflm" else named


def device_folder() -> Path:
    """Folder of what leaves Python: targets, C sources, programs for devices.

    Raises:
        ConfigError: this installation lacks it.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_tflite", package.parent / "tflite"):
        if (folder / "targets").is_dir():
            return folder
    raise ConfigError(
        f"{package}: this installation of tfspec lacks its device files (the folder `tflite`); "
        "install it again from a wheel or a checkout"
    )


def target_names() -> tuple[str, ...]:
    """Names of the built-in targets, sorted."""
    return tuple(sorted(path.stem for path in (device_folder() / "targets").glob("*.toml")))


def load_target(name_or_path: str | os.PathLike[str]) -> Target:
    """Reads a built-in target by its name, or a user's file.

    Args:
        name_or_path: such as `cortex-m7`, or a path.

    Raises:
        ConfigError: no such target or file, or a mistake in the file: file, key, what is wrong
            and what would be right.
    """
    text = os.fspath(name_or_path)
    names = target_names()
    if isinstance(name_or_path, str) and text in names:
        path = device_folder() / "targets" / f"{text}.toml"
        return _target(_Table(path.name, _read(path, path.name)), path)
    return _target(_Table(text, _read(Path(text), text or "''")), Path(text))


def _read(path: Path, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{place}: is no valid TOML: {error}; write `key = value`") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: must be UTF-8 text; byte {error.start} is not") from None
    except FileNotFoundError:
        what = "no such target or file"
    except (OSError, ValueError) as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    names = target_names()
    raise ConfigError(
        f"{place}: {what}; name a .toml file or one of {', '.join(names)}"
        + _did_you_mean(place, names)
    )


def _target(table: _Table, path: Path) -> Target:
    keys = [field.name for field in dataclasses.fields(Target) if field.name != "name"]
    table.check_keys(keys)
    runtime = table.word("runtime", RUNTIMES)
    precisions = table.words("precisions", PRECISIONS)
    for precision in precisions:
        if precision not in RUNTIMES[runtime]:
            allowed = ", ".join(RUNTIMES[runtime])
            raise table.error(
                "precisions", f"holds what {runtime} refuses; it takes {allowed}", precision
            )
    operators = table.words("operators", LITERT_OPS.union(TFLM_OPS_FLOAT), required=False)
    target = Target(
        name=path.stem,
        description=table.text("description"),
        runtime=runtime,
        cpu=table.text("cpu"),
        precisions=precisions,
        default_precisions=table.words("default_precisions", precisions, required=False)
        or precisions[:1],
        operators=operators or _DEFAULT_OPERATORS[runtime],
        clock_hz=table.number("clock_hz"),
        ram_bytes=table.size("ram_bytes"),
        flash_bytes=table.size("flash_bytes"),
        macs_per_second=_macs_per_second(table, precisions),
        reserved_flash_bytes=table.size("reserved_flash_bytes", zero=True) or 0,
        reserved_ram_bytes=table.size("reserved_ram_bytes", zero=True) or 0,
        arena_margin=table.number("arena_margin", zero=True, most=1.0) or 0.0,
        external_ram_bytes=table.size("external_ram_bytes"),
        npu=_npu(table, path),
        sources=_sources(table, keys),
    )
    _check(table, target)
    return target


def _check(table: _Table, target: Target) -> None:
    """What one key says about another."""
    if target.runtime == "tflm":
        table.need("ram_bytes")
        table.need("flash_bytes")
    elif target.npu is not None:
        raise table.error("runtime", 'must be "tflm" when there is an [npu]', target.runtime)
    for memory in ("ram", "flash"):
        budget, taken = (getattr(target, f"{kind}{memory}_bytes") for kind in ("", "reserved_"))
        if budget is not None and taken >= budget:
            rule = f"leaves nothing of {memory}_bytes = {budget}; it must be smaller"
            raise table.error(f"reserved_{memory}_bytes", rule, taken)


def _macs_per_second(table: _Table, precisions: Collection[str]) -> Mapping[str, float] | None:
    inner = table.table("macs_per_second")
    if inner is None:
        return None
    inner.check_keys(precisions)
    return {key: inner.number(key) or 0.0 for key in inner.values}


def _npu(table: _Table, path: Path) -> Npu | None:
    inner = table.table("npu")
    if inner is None:
        return None
    inner.check_keys([field.name for field in dataclasses.fields(Npu)])
    inner.need("clock_hz")
    config = inner.text("config_file") if "config_file" in inner.values else None
    if config is not None and (beside := path.parent / config).is_file():
        config = str(beside.resolve())  # a user's own; Vela finds those that it brings by itself
    return Npu(
        accelerator_config=inner.text("accelerator_config"),
        system_config=inner.text("system_config"),
        memory_mode=inner.text("memory_mode"),
        config_file=config,
        clock_hz=inner.number("clock_hz") or 0.0,
    )


def _sources(table: _Table, keys: Collection[str]) -> Mapping[str, str]:
    inner = table.table("sources") or _Table(table.place, {}, "sources.")
    inner.check_keys([key for key in keys if key != "sources"])
    for key in FIGURES:
        if key in table.values and key not in inner.values:
            raise ConfigError(
                f"{table.place}: `{key}` has no source; add to [sources] the line "
                f'{key} = "data sheet, page"'
            )
    return {key: inner.text(key) for key in inner.values}


@dataclasses.dataclass(frozen=True)
class _Table:
    """A table of the file, its values checked as they are read."""

    place: str
    values: Mapping[str, Any]
    prefix: str = ""

    def error(self, key: str, rule: str, value: Any) -> ConfigError:
        return ConfigError(f"{self.place}: `{self.prefix}{key}` {rule}. Received: {value!r}")

    def need(self, key: str) -> Any:
        if key not in self.values:
            raise ConfigError(f"{self.place}: `{self.prefix}{key}` is missing; add it")
        return self.values[key]

    def check_keys(self, known: Collection[str]) -> None:
        for key in self.values:
            if key not in known:
                hint = _did_you_mean(key, known) or f"; known are {', '.join(known)}"
                raise ConfigError(f"{self.place}: unknown key `{self.prefix}{key}`{hint}")

    def text(self, key: str) -> str:
        value = self.need(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, "must be a text in quotes, not empty", value)
        return value

    def word(self, key: str, known: Collection[str]) -> str:
        return self._known(key, self.text(key), known)

    def words(self, key: str, known: Collection[str], *, required: bool = True) -> tuple[str, ...]:
        if key not in self.values and not required:
            return ()
        value = self.need(key)
        if not isinstance(value, list) or not value:
            raise self.error(key, "must be a list of texts, not empty", value)
        return tuple(dict.fromkeys(self._known(key, item, known) for item in value))

    def _known(self, key: str, item: Any, known: Collection[str]) -> str:
        if not isinstance(item, str) or item not in known:
            rule = f"must be of {', '.join(sorted(known))}{_did_you_mean(item, known)}"
            raise self.error(key, rule, item)
        return item

    def number(self, key: str, *, zero: bool = False, most: float = math.inf) -> float | None:
        value = self.values.get(key)
        if key not in self.values:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(key, "must be a number without quotes", value)
        if not math.isfinite(value) or value < 0 or value > most or (value == 0 and not zero):
            least = "at least 0" if zero else "above 0"
            raise self.error(
                key, f"must be {least}" + (f", at most {most:g}" * (most < math.inf)), value
            )
        return float(value)

    def size(self, key: str, *, zero: bool = False) -> int | None:
        if key not in self.values:
            return None
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise self.error(key, 'must be bytes, such as 262144 or "256K"', value)
        if zero and value == 0:
            return 0
        try:
            return parse_size(str(value))
        except ConfigError as error:
            raise ConfigError(f"{self.place}: `{self.prefix}{key}` {error}") from None

    def table(self, key: str) -> _Table | None:
        if key not in self.values:
            return None
        if not isinstance(self.values[key], dict):
            raise self.error(
                key, f"must be a table: a line [{key}] with its keys below", self.values[key]
            )
        return _Table(self.place, self.values[key], f"{key}.")


def _did_you_mean(word: Any, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(word).lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    match = next((k for k in known if near and k.lower() == near[0]), None)
    return f" (did you mean {match}?)" if match else ""
