"""Throughput and memory of augmentation, scaling and batching as a `tf.data` pipeline."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks import papers_way
from benchmarks.report import Row
from benchmarks.timing import compare
from tfspec.separation.augment import Augmentation
from tfspec.separation.data import song_segments
from tfspec.signal.scaling import Scaler
from tfspec.signal.stft import StftConfig
from tfspec.synth.songs import synthesize_song

_SEGMENT_FRAMES = 128
# What the project promises of the ratio to the paper's way.
_REQUIRED = {"max": 1.0, "minmax": 1.0, "robust": 10.0}
_AXES = ("frequency", "time")

Pair = tuple[np.ndarray, np.ndarray]


def synthetic_songs(n_songs: int, duration: float) -> list[Pair]:
    """Segments of mixture and vocals, `(segments, frequency, time)` each, of synthetic songs."""
    config = StftConfig()
    songs = []
    for seed in range(n_songs):
        song = synthesize_song(seed, duration=duration, sample_rate=config.sample_rate, channels=1)
        waveform = np.concatenate([song.mixture, song.stems["vocals"]], axis=1)
        segments = song_segments(tf.constant(waveform), config, _SEGMENT_FRAMES).numpy()
        mixtures, vocals = np.ascontiguousarray(np.moveaxis(segments, -1, 0))
        songs.append((mixtures, vocals))
    return songs


def pipeline(
    songs: Sequence[Pair], kind: str, axis: str, *, batch_size: int, epochs: int
) -> tf.data.Dataset:
    """The batches of some epochs, each augmented in another random way."""
    scaler = Scaler(kind=kind, axis=axis)
    augmentation = Augmentation()
    owners = np.repeat(np.arange(len(songs)), [len(mixtures) for mixtures, _ in songs])
    song_ids = tf.constant(owners, tf.int32)
    mixtures, vocals = (
        tf.constant(np.concatenate([song[part] for song in songs])[..., np.newaxis])
        for part in (0, 1)
    )

    def scale(mixture: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scaled, scaled_target, _ = scaler.fit_transform(mixture, target)
        return scaled, scaled_target

    def batches(epoch: tf.Tensor) -> tf.data.Dataset:
        return augmentation.apply(
            (mixtures, vocals),
            tf.stack([0, epoch]),
            song_ids,
            batch_size=batch_size,
            then=scale,
            num_parallel_calls=2,
        )

    return tf.data.Dataset.range(epochs, output_type=tf.int32).flat_map(batches).prefetch(2)


def throughput(
    songs: Sequence[Pair], *, batch_size: int, repeats: int, epochs: dict[str, tuple[int, int]]
) -> list[Row]:
    """Examples per second of the pipeline over those of the paper's way, all scalers and axes.

    Args:
        songs: of `synthetic_songs`.
        batch_size: examples per batch.
        repeats: times that the two ways alternate.
        epochs: per scaler, passes over the songs in one run of the paper's way and of ours.
    """
    rows = []
    for kind, axis in itertools.product(_REQUIRED, _AXES):
        theirs, ours = epochs[kind]
        dataset = pipeline(songs, kind, axis, batch_size=batch_size, epochs=ours)

        def run_ours(dataset: tf.data.Dataset = dataset) -> int:
            return sum(mixtures.shape[0] for mixtures, _ in dataset)

        def run_theirs(kind: str = kind, axis: str = axis, epochs: int = theirs) -> int:
            return sum(
                len(mixtures)
                for epoch in range(epochs)
                for mixtures, _ in papers_way.batches(
                    songs, kind, axis, batch_size=batch_size, seed=epoch
                )
            )

        rows.append(
            compare(
                f"pipeline, {kind} scaler along {axis}, over the paper's way",
                run_ours,
                run_theirs,
                repeats=repeats,
                at_least=_REQUIRED[kind],
            )
        )
    return rows


def memory(n_batches: int, *, at_most_mib: float, sample_every: int = 50) -> list[Row]:
    """Resident memory while `n_batches` small batches pass; the first tenth is warm-up.

    Args:
        n_batches: batches to take.
        at_most_mib: growth after warm-up that still counts as flat.
        sample_every: batches between two samples of the memory.
    """
    rng = np.random.default_rng(0)
    # Large enough for the compiled quantiles, small enough to take seconds.
    mixtures = rng.exponential(size=(32, 64, 64)).astype(np.float32)
    songs = [(mixtures, 0.5 * mixtures)]
    batch_size = 8
    per_epoch = Augmentation().count(len(mixtures)) // batch_size
    dataset = pipeline(
        songs, "robust", "frequency", batch_size=batch_size, epochs=n_batches // per_epoch + 1
    )
    taken, resident = [], []
    for i, _ in enumerate(dataset.take(n_batches)):
        if i >= n_batches // 10 and i % sample_every == 0:
            taken.append(i)
            resident.append(resident_mib())
    slope = float(np.polyfit(taken, resident, 1)[0]) * 1000
    return [
        Row(
            name=f"growth of resident memory over {n_batches} batches after warm-up",
            value=max(resident) - resident[0],
            unit="MiB",
            at_most=at_most_mib,
            details={
                "slope MiB per 1000 batches": slope,
                "after warm-up MiB": resident[0],
                "at the end MiB": resident[-1],
                "samples": len(resident),
            },
        )
    ]


def resident_mib() -> float:
    """Resident memory of this process now (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")
