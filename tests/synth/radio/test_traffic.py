"""Scheduling: shares, runs and the longest silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfspec.synth.radio.traffic import Load, allocate, draw_load, schedule

BURSTY = Load(kind="bursty", active=0.4, burst=5e-3, filling=(0.6, 1.0))


def longest_run(values: np.ndarray) -> int:
    best = run = 0
    for value in values:
        run = run + 1 if value else 0
        best = max(best, run)
    return best


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 8), st.integers(1, 200))
def test_silences_end_in_time(seed: int, active: float, longest: int, n_slots: int) -> None:
    load = Load(kind="any", active=active, burst=3e-3, filling=(0.1, 0.2))
    rng = np.random.default_rng(seed)
    got = schedule(rng, load, np.ones(n_slots, bool), 1e-3, longest * 1e-3)
    assert longest_run(~got) <= longest


def test_silences_end_in_the_next_downlink_slot() -> None:
    allowed = np.tile([True, True, True, False, False], 20)
    load = Load(kind="idle", active=0.0, burst=1e-3, filling=(0.0, 0.0))
    got = schedule(np.random.default_rng(0), load, allowed, 1e-3, 2e-3)
    assert not got[~allowed].any()
    assert longest_run(~got) <= 2 + 2
    nothing = schedule(np.random.default_rng(0), load, allowed, 1e-3, None)
    assert not nothing.any()


def test_bursts_have_their_share_and_length() -> None:
    got = schedule(np.random.default_rng(0), BURSTY, np.ones(100_000, bool), 1e-3, None)
    # About 8000 bursts of mean 5: shares are known to 0.5 %, lengths to 1 %.
    assert got.mean() == pytest.approx(0.4, abs=0.02)
    starts = np.count_nonzero(np.diff(got.astype(int)) == 1)
    assert got.sum() / starts == pytest.approx(5.0, rel=0.05)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 273), st.integers(1, 16))
def test_allocations_fill_as_asked(seed: int, n_blocks: int, group: int) -> None:
    rng = np.random.default_rng(seed)
    active = rng.random(40) < 0.7
    load = Load(kind="partial", active=0.7, burst=1e-3, filling=(0.3, 0.6))
    got = allocate(rng, load, active, n_blocks, group)
    assert got.shape == (40, n_blocks)
    assert not got[~active].any()
    n_groups = -(-n_blocks // group)
    for row in got[active]:
        used = row[::group].sum()  # whole groups are given
        assert np.all(row == np.repeat(row[::group], group)[:n_blocks])
        assert max(round(0.3 * n_groups), 1) <= used <= max(round(0.6 * n_groups), 1)


def test_a_full_load_fills_everything() -> None:
    rng = np.random.default_rng(0)
    load = draw_load(rng, {"full": 1.0})
    active = schedule(rng, load, np.ones(30, bool), 1e-3, None)
    assert allocate(rng, load, active, 50, 3).all()


def test_loads_are_drawn_as_often_as_they_should() -> None:
    rng = np.random.default_rng(0)
    kinds = [draw_load(rng, {"idle": 0.25, "bursty": 0.75}).kind for _ in range(2000)]
    assert kinds.count("idle") == pytest.approx(500, abs=80)  # four standard deviations
    drawn = [draw_load(rng, {"light": 0.5, "partial": 0.5}) for _ in range(200)]
    assert all(0.2 <= load.active <= 1.0 for load in drawn)
