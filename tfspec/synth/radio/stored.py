"""Sets of examples in a folder: made once by several processes, then read at any place.

A set is cut into shards of `SHARD` examples. Shard 3 has four files: `levels-00003.npy` (uint16
`(examples, height, width)`, the spectrogram times 65535), `labels-00003.npy` (uint8, same shape),
and `shard-00003.json` (ground truth of each example), written last: a shard without it is made
again. `radio.json` names configuration, seed and number of examples.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tfspec.errors import ConfigError, DataError, TfspecError
from tfspec.signal.files import atomic_path, read_json, write_json
from tfspec.synth.radio.config import RadioConfig
from tfspec.synth.radio.examples import RadioExample, radio_example
from tfspec.synth.radio.scenes import RadioCarrier

SHARD = 32  # examples
# Grows when the same seed no longer gives the same examples, so that old sets are not mixed in.
VERSION = 1
_LEVELS = 65535

_Shard: TypeAlias = tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]


class RadioSet(Sequence[RadioExample]):
    """The examples of a folder; arrays stay on disk until they are asked for.

    Args:
        folder: A folder that `prepare_radio` has filled.
        limit: Examples to show, the first ones; None shows all.

    Attributes:
        folder: The folder.
        config: What captures look like.
        seed: Seed of the set.

    Raises:
        DataError: The folder holds no complete set.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int | None = None) -> None:
        self.folder = Path(folder)
        found = _read_index(self.folder)
        if found is None:
            raise DataError(f"{folder}: no radio set; make one with `prepare_radio`")
        self.config = RadioConfig.from_dict(found["config"])
        self.seed = int(found["seed"])
        self._n = int(found["n"]) if limit is None else min(limit, int(found["n"]))
        self._shards: dict[int, _Shard] = {}
        if found["version"] != VERSION:
            raise DataError(
                f"{folder}: radio set of version {found['version']}, this tfspec reads {VERSION}; "
                "prepare it again in another folder"
            )
        for shard in range(-(-self._n // SHARD)):
            if not _is_complete(self.folder, shard, min(SHARD, self._n - shard * SHARD)):
                raise DataError(
                    f"{folder}: shard {shard} is missing or damaged; run `prepare_radio` again"
                )

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> RadioExample:  # type: ignore[override]
        """The example of that number; negative numbers count from the end."""
        index = range(self._n)[index]
        shard, place = divmod(index, SHARD)
        if shard not in self._shards:
            self._shards[shard] = _open_shard(self.folder, shard)
        levels, labels, facts = self._shards[shard]
        return RadioExample(
            config=self.config,
            seed=self.seed,
            index=index,
            spectrogram=(levels[place] / _LEVELS).astype(np.float32),
            level_db=tuple(facts[place]["level_db"]),
            labels=np.array(labels[place]),
            carriers=tuple(RadioCarrier.from_dict(c) for c in facts[place]["carriers"]),
        )

    def __iter__(self) -> Iterator[RadioExample]:
        return (self[index] for index in range(self._n))

    @functools.cached_property
    def snr_db(self) -> np.ndarray:
        """Signal to noise ratio of each example's weakest carrier, dB, NaN for noise; `(n,)`."""
        return np.array([example.snr_db for example in self], np.float32)


def load_radio(folder: str | os.PathLike[str]) -> RadioSet:
    """Opens a set; see `RadioSet`."""
    return RadioSet(folder)


def prepare_radio(
    folder: str | os.PathLike[str],
    n: int,
    config: RadioConfig | None = None,
    seed: int = 0,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RadioSet:
    """Fills a folder with examples 0 to `n - 1` of a set, or completes it.

    Shards that are there are kept, so that an interrupted call goes on where it stopped and a
    greater `n` extends a set. Processes are spawned: a script needs the usual
    `if __name__ == "__main__":`.

    Args:
        folder: Where to put them; created when missing.
        n: Examples, at least 1.
        config: What captures look like; None takes the defaults.
        seed: Seed of the set.
        workers: Processes; 1 makes everything in this one, None takes one for each core.
        progress: Called as `progress(done, n)` with numbers of examples.

    Raises:
        ConfigError: A number is out of range, or the folder holds a set of another configuration
            or seed.
        OutputError: The folder cannot be written.
    """
    config = RadioConfig() if config is None else config
    workers = _default_workers() if workers is None else workers
    for name, value in (("n", n), ("workers", workers)):
        if value < 1:
            raise ConfigError(f"`{name}` must be at least 1. Received: {name}={value}")
    path = Path(folder)
    total = n
    wanted = {"version": VERSION, "seed": seed, "config": config.to_dict()}
    found = _read_index(path)
    if found is not None:
        _check_same(path, found, wanted)
        total = max(n, int(found["n"]))
    write_json(path / "radio.json", {**wanted, "n": total})
    parts = [range(first, min(first + SHARD, total)) for first in range(0, n, SHARD)]
    missing = [k for k, part in enumerate(parts) if not _is_complete(path, k, len(part))]
    done = n - sum(len(range(n)[parts[k].start : parts[k].stop]) for k in missing)
    tasks = [(path, k, parts[k], config, seed) for k in missing]
    for size in _run(tasks, min(workers, max(len(tasks), 1))):
        done = min(done + size, n)
        if progress is not None:
            progress(done, n)
    return RadioSet(path, n)


def _run(tasks: list[tuple[Path, int, range, RadioConfig, int]], workers: int) -> Iterator[int]:
    """Makes shards and yields the size of each when it is done."""
    if workers == 1:
        yield from (_make_shard(*task) for task in tasks)
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        for future in as_completed([pool.submit(_make_shard, *task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise TfspecError(
            "a process that makes radio examples died: out of memory, or a script without "
            '`if __name__ == "__main__":`; `workers=1` needs no processes'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _make_shard(folder: Path, shard: int, part: range, config: RadioConfig, seed: int) -> int:
    """Makes and writes one shard of the given examples; returns their number."""
    shape = (len(part), config.image_height, config.image_width)
    levels, labels = np.empty(shape, np.uint16), np.empty(shape, np.uint8)
    facts = []
    for place, index in enumerate(part):
        example = radio_example(config, seed, index)
        levels[place] = np.rint(example.spectrogram.astype(np.float64) * _LEVELS)
        labels[place] = example.labels
        carriers = [carrier.to_dict() for carrier in example.carriers]
        facts.append({"level_db": list(example.level_db), "carriers": carriers})
    paths = _shard_paths(folder, shard)
    arrays: tuple[np.ndarray, np.ndarray] = (levels, labels)
    for path, array in zip(paths[:2], arrays, strict=True):
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
    write_json(paths[2], facts)
    return len(part)


def _shard_paths(folder: Path, shard: int) -> tuple[Path, Path, Path]:
    """Files of a shard: levels, labels, facts."""
    return (
        folder / f"levels-{shard:05d}.npy",
        folder / f"labels-{shard:05d}.npy",
        folder / f"shard-{shard:05d}.json",
    )


def _is_complete(folder: Path, shard: int, size: int) -> bool:
    """Whether a shard is there and has `size` examples or more."""
    try:
        levels, labels, facts = _open_shard(folder, shard)
    except (TfspecError, OSError, ValueError, EOFError):
        return False
    return len(facts) == len(levels) == len(labels) and len(facts) >= size


def _open_shard(folder: Path, shard: int) -> _Shard:
    """Levels and labels, mapped into memory, and facts of a shard."""
    levels, labels, facts = _shard_paths(folder, shard)
    return np.load(levels, mmap_mode="r"), np.load(labels, mmap_mode="r"), read_json(facts)


def _read_index(folder: Path) -> dict[str, Any] | None:
    """Contents of `radio.json`; None when there is none."""
    path = folder / "radio.json"
    if not path.is_file():
        return None
    found = read_json(path)
    missing = {"version", "seed", "n", "config"} - set(found)
    if missing:
        raise DataError(f"{path}: lacks {sorted(missing)}; prepare the set again elsewhere")
    return found


def _check_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuses to mix two sets in one folder."""
    there = RadioConfig.from_dict(found["config"]).to_dict()
    asked = dict(wanted["config"])
    for values, facts in ((there, found), (asked, wanted)):
        values.update(seed=facts["seed"], version=facts["version"])
    for name, value in asked.items():
        if value != there[name]:
            raise ConfigError(
                f"`folder` {folder} holds a radio set of {name}={there[name]!r}; choose another "
                f"folder. Received: {name}={value!r}"
            )


def _default_workers() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
