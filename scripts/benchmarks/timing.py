"""Comparing two ways of doing the same on a machine that does other things too."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

from benchmarks.report import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed:
    """Speed of one run: items per second of wall time, and processor time per item."""

    per_second: float
    cpu_ms: float


def measure(run: Callable[[], int]) -> Speed:
    """Times `run`, which returns the number of items that it made."""
    cpu, wall = time.process_time(), time.perf_counter()
    n_items = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Speed(per_second=n_items / wall, cpu_ms=1e3 * cpu / n_items)


def compare(
    name: str,
    ours: Callable[[], int],
    theirs: Callable[[], int],
    *,
    repeats: int,
    at_least: float | None,
) -> Row:
    """How many times as fast `ours` is as `theirs`: the ratio of the medians.

    Runs alternate, so that whatever else the machine does slows both alike; the spread is that
    of the ratios of neighbouring runs. One run of ours before them traces and compiles.
    """
    ours()
    pairs = [(measure(theirs), measure(ours)) for _ in range(repeats)]
    ratios = [b.per_second / a.per_second for a, b in pairs]
    old, new = (statistics.median(pair[i].per_second for pair in pairs) for i in (0, 1))
    old_cpu, new_cpu = (statistics.median(pair[i].cpu_ms for pair in pairs) for i in (0, 1))
    return Row(
        name=name,
        value=new / old,
        unit="times",
        low=min(ratios),
        high=max(ratios),
        at_least=at_least,
        details={
            "tfspec examples/s": new,
            "paper's way examples/s": old,
            "tfspec CPU ms/example": new_cpu,
            "paper's way CPU ms/example": old_cpu,
            "repeats": repeats,
        },
    )
