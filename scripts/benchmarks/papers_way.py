"""Training batches the paper's way: Algorithms 1 and 2 in NumPy, scikit-learn per example.

Written from `Algorithm 1` (splice), `Algorithm 2` (blackout) and the description of the scalers,
as the code that tfspec's pipeline is measured against. Arrays are `(examples, frequency, time)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.preprocessing import RobustScaler

Pair = tuple[np.ndarray, np.ndarray]


def splice(mixtures: np.ndarray, vocals: np.ndarray) -> Pair:
    """Algorithm 1: the last half of each example joined to the first half of the next."""
    half = mixtures.shape[2] // 2
    spliced: tuple[list, list] = ([], [])
    for i in range(len(mixtures) - 1):
        for data, output in zip((mixtures, vocals), spliced, strict=True):
            output.append(np.concatenate([data[i][:, half:], data[i + 1][:, :half]], axis=1))
    return np.array(spliced[0]), np.array(spliced[1])


def blackout(mixtures: np.ndarray, vocals: np.ndarray, rng: np.random.Generator) -> Pair:
    """Algorithm 2: half of the frames of every example silent, from a random one on."""
    mixtures, vocals = mixtures.copy(), vocals.copy()
    width = mixtures.shape[2] // 2
    for i in range(len(mixtures)):
        start = rng.integers(0, width)
        mixtures[i][:, start : start + width] = 0
        vocals[i][:, start : start + width] = 0
    return mixtures, vocals


def scale(mixture: np.ndarray, vocals: np.ndarray, kind: str, axis: str) -> Pair:
    """Scales one example `(frequency, time)` by statistics of its mixture."""
    if kind == "robust":
        # scikit-learn takes statistics over rows: those of `frequency` are the time steps.
        turn = np.transpose if axis == "frequency" else np.asarray
        scaler = RobustScaler(quantile_range=(25, 75)).fit(turn(mixture))
        return turn(scaler.transform(turn(mixture))), turn(scaler.transform(turn(vocals)))
    along = {"frequency": 1, "time": 0}[axis]
    low = mixture.min(axis=along, keepdims=True) if kind == "minmax" else np.float32(0)
    size = mixture.max(axis=along, keepdims=True) - low
    size[size == 0] = 1
    if kind == "max":
        return mixture / size, vocals / size
    return (mixture - low) / size, (vocals - low) / size


def batches(
    songs: Sequence[Pair], kind: str, axis: str, *, batch_size: int, seed: int
) -> Iterator[Pair]:
    """Batches `(examples, frequency, time, 1)` of 40 % originals, 40 % splices, 20 % blackouts."""
    rng = np.random.default_rng(seed)
    parts: list[Pair] = []
    for mixtures, vocals in songs:
        chosen = rng.permutation(len(mixtures))[: len(mixtures) // 2]
        parts.append((mixtures, vocals))
        parts.append(splice(mixtures, vocals))
        parts.append(blackout(mixtures[chosen], vocals[chosen], rng))
    all_mixtures = np.concatenate([mixtures for mixtures, _ in parts])
    all_vocals = np.concatenate([vocals for _, vocals in parts])
    order = rng.permutation(len(all_mixtures))
    for start in range(0, len(order), batch_size):
        scaled = [
            scale(all_mixtures[i], all_vocals[i], kind, axis)
            for i in order[start : start + batch_size]
        ]
        yield (
            np.stack([mixture for mixture, _ in scaled])[..., np.newaxis],
            np.stack([vocals for _, vocals in scaled])[..., np.newaxis],
        )
