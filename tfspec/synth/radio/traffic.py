"""Which slots and resource blocks a base station schedules."""

from __future__ import annotations

import dataclasses

import numpy as np

KINDS = ("idle", "light", "partial", "bursty", "full")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """Statistics of the traffic of one carrier.

    Attributes:
        kind: One of `KINDS`; a name for the rest.
        active: Share of slots with traffic.
        burst: Mean length of a run of slots with traffic, seconds.
        filling: Least and greatest share of resource blocks that a scheduled slot uses.
    """

    kind: str
    active: float
    burst: float
    filling: tuple[float, float]


def draw_load(rng: np.random.Generator, kinds: dict[str, float]) -> Load:
    """Draws a load; `kinds` gives the probability of each."""
    kind = str(rng.choice(list(kinds), p=list(kinds.values())))
    if kind == "idle":
        return Load(kind=kind, active=0.0, burst=1e-3, filling=(0.0, 0.0))
    if kind == "light":
        active, filling = float(rng.uniform(0.2, 0.6)), (0.1, 0.5)
    elif kind == "partial":
        active, filling = float(rng.uniform(0.8, 1.0)), (0.3, 0.9)
    elif kind == "bursty":
        active, filling = float(rng.uniform(0.3, 0.8)), (0.6, 1.0)
    else:
        active, filling = 1.0, (1.0, 1.0)
    burst = float(rng.uniform(2e-3, 10e-3)) if kind == "bursty" else 1.5e-3
    return Load(kind=kind, active=active, burst=burst, filling=filling)


def schedule(
    rng: np.random.Generator,
    load: Load,
    allowed: np.ndarray,
    slot: float,
    max_silence: float | None,
) -> np.ndarray:
    """Decides which slots have traffic: runs of random length, and pauses between them.

    Args:
        rng: Source of randomness.
        load: Statistics.
        allowed: Slots that may have traffic (downlink), bool `(slots,)`.
        slot: Length of a slot, seconds.
        max_silence: Longest time without traffic, seconds, where slots are allowed; None for no
            limit.

    Returns:
        bool `(slots,)`.
    """
    active = np.zeros(allowed.size, bool)
    if load.active >= 1.0:
        active[:] = True
    elif load.active > 0.0:
        run = max(load.burst / slot, 1.0)
        pause = run * (1.0 - load.active) / load.active
        at, on = 0, bool(rng.random() < load.active)
        while at < active.size:
            length = int(rng.geometric(np.clip(1.0 / (run if on else pause), 1e-6, 1.0)))
            active[at : at + length] = on
            at, on = at + length, not on
    active &= allowed
    if max_silence is not None:
        _end_silences(active, allowed, max(round(max_silence / slot), 1))
    return active


def _end_silences(active: np.ndarray, allowed: np.ndarray, longest: int) -> None:
    """Schedules single slots so that no more than `longest` in a row stay empty, in place."""
    silent = 0
    for index in range(active.size):
        silent = 0 if active[index] else silent + 1
        if silent > longest and allowed[index]:
            active[index], silent = True, 0


def allocate(
    rng: np.random.Generator, load: Load, active: np.ndarray, n_blocks: int, group: int
) -> np.ndarray:
    """Gives each scheduled slot one to four users, each a run of resource block groups.

    An allocation lasts for one to four slots. Slots that must be sent although the load asks for
    none carry one group (system information, paging).

    Args:
        rng: Source of randomness.
        load: Statistics.
        active: Slots with traffic, bool `(slots,)`.
        n_blocks: Resource blocks of the carrier.
        group: Resource blocks in a group.

    Returns:
        bool `(slots, n_blocks)`.
    """
    n_groups = -(-n_blocks // group)
    groups = np.zeros((active.size, n_groups), bool)
    at = 0
    while at < active.size:
        stop = at + int(rng.integers(1, 5))
        filling = rng.uniform(*load.filling)
        groups[at:stop] = _users(rng, max(round(filling * n_groups), 1), n_groups)
        at = stop
    groups[~active] = False
    return np.repeat(groups, group, axis=1)[:, :n_blocks]


def _users(rng: np.random.Generator, n_used: int, n_groups: int) -> np.ndarray:
    """`n_used` of `n_groups` in one to four runs at random places, bool `(n_groups,)`."""
    n_users = min(int(rng.integers(1, 5)), n_used)
    cuts = np.empty(0, int)
    if n_users > 1:
        cuts = np.sort(rng.choice(n_used - 1, n_users - 1, replace=False)) + 1
    lengths = np.diff([0, *cuts, n_used])
    free = n_groups - n_used
    places = np.sort(rng.integers(0, free + 1, n_users))
    used = np.zeros(n_groups, bool)
    before = 0
    for place, length in zip(places, lengths, strict=True):
        used[place + before : place + before + length] = True
        before += length
    return used
