"""The run folder: what one training leaves on disk, and who may write to it.

A folder that holds `model.keras` and `tfspec.json` is a *model folder*: predict, evaluate and
export take it. Everything else in the folder serves the training itself.

    recipe.json      hyper-parameters, as given
    tfspec.json      what the model is: task, front end, targets, data and licence, seed, versions
    model.keras      the best epoch's weights, without optimizer state
    history.csv      one row per epoch; epochs count from 1 in every file and message
    metrics.json     under "training": the best and the last epoch, written when training ends
    checkpoints/     last.npz, the whole training state for resuming
    logs/            TensorBoard
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tfspec.errors import ConfigError, ModelError, OutputError, TrainingError
from tfspec.signal.files import atomic_path, read_json, write_json

if TYPE_CHECKING:
    import keras

# Fields that a second run in the same folder may change: training longer is no other training.
FREE_FIELDS = ("epochs",)
_IDENTITY = ("task", "front_end", "targets", "data", "seed")


class RunFolder:
    """Paths, records and the write lock of one training run.

    Make one with `RunFolder.create` (a new run, or the same run again) or `RunFolder.open`
    (an existing one, unchecked against a recipe).

    Args:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock_file: IO[str] | None = None
        self._lock_depth = 0

    @property
    def recipe_path(self) -> Path:
        """`recipe.json`."""
        return self.path / "recipe.json"

    @property
    def metadata_path(self) -> Path:
        """`tfspec.json`."""
        return self.path / "tfspec.json"

    @property
    def model_path(self) -> Path:
        """`model.keras`, the best epoch."""
        return self.path / "model.keras"

    @property
    def history_path(self) -> Path:
        """`history.csv`."""
        return self.path / "history.csv"

    @property
    def metrics_path(self) -> Path:
        """`metrics.json`."""
        return self.path / "metrics.json"

    @property
    def checkpoint_path(self) -> Path:
        """`checkpoints/last.npz`, what a resumed run starts from."""
        return self.path / "checkpoints" / "last.npz"

    @property
    def logs_path(self) -> Path:
        """`logs/`, for TensorBoard."""
        return self.path / "logs"

    @property
    def report_path(self) -> Path:
        """`report.html`."""
        return self.path / "report.html"

    @property
    def recipe(self) -> dict[str, Any]:
        """The stored recipe."""
        return read_json(self.recipe_path)

    @property
    def metadata(self) -> dict[str, Any]:
        """The stored `tfspec.json`."""
        return read_json(self.metadata_path)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        recipe: Mapping[str, Any],
        task: str,
        front_end: Mapping[str, Any],
        targets: Sequence[str],
        data: Mapping[str, Any],
        seed: int,
    ) -> RunFolder:
        """Makes the folder of a run, or returns to it when it is the same run.

        The same run means: equal recipe (`epochs` apart, so that a run can be prolonged) and
        equal task, front end, targets, data and seed.

        Args:
            path: the folder; made when missing, and otherwise empty or a run folder.
            recipe: every hyper-parameter, as JSON values.
            task: for example `"separation"`.
            front_end: what turns a waveform into the model's input, as JSON values.
            targets: names of the model's outputs, in order.
            data: at least `name` and `licence` of the training data.
            seed: seed of the whole run.

        Raises:
            ConfigError: `data` lacks its name or licence, or a value is not JSON.
            OutputError: the folder holds something else, or cannot be written.
            TrainingError: the folder holds another run; the message lists what differs.
        """
        if missing := [key for key in ("name", "licence") if not data.get(key)]:
            raise ConfigError(
                f"data: must hold name and licence; received {dict(data)} without {missing}"
            )
        values = (task, front_end, targets, data, seed)
        wanted = _as_json(dict(zip(_IDENTITY, values, strict=True)), "tfspec.json")
        new_recipe = _as_json(dict(recipe), "recipe")
        run = cls(path)
        run._check_place()
        with run.lock():
            run._check_same(new_recipe, wanted)
            old = read_json(run.metadata_path) if run.metadata_path.exists() else None
            write_json(run.recipe_path, new_recipe)
            write_json(run.metadata_path, {**(old or {}), **wanted, **_provenance(old)})
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """Opens an existing run folder.

        Raises:
            ModelError: the folder, its recipe.json or its tfspec.json is missing or damaged.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise ModelError(f"{run.path}: no such folder; give a run folder that `train` made")
        for file in (run.metadata_path, run.recipe_path):
            if not isinstance(read_json(file), dict):
                raise ModelError(f"{file}: must hold a JSON object")
        return run

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from training in this folder; re-entrant within this object.

        The operating system holds the lock, so a killed process leaves none behind.

        Raises:
            TrainingError: another process trains in this folder.
            OutputError: the folder cannot be written.
        """
        if self._lock_depth == 0:
            self._lock_file = _locked_file(self.path / ".lock")
            _remove_partial_files(self.path)
        self._lock_depth += 1
        try:
            yield
        finally:
            self._lock_depth -= 1
            if self._lock_depth == 0 and self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None

    def save_model(self, model: keras.Model) -> None:
        """Writes `model.keras` atomically, without optimizer state if the model is functional.

        Adam's state would make the file three times as large, and the checkpoint holds it already.
        """
        with atomic_path(self.model_path) as temporary:
            _without_optimizer(model).save(temporary)

    def _check_place(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path}: is a file; a run needs a folder")
        known = self.recipe_path.exists() or self.metadata_path.exists()
        if self.path.is_dir() and not known:
            others = sorted(p.name for p in self.path.iterdir() if p.name != ".lock")
            if others:
                raise OutputError(
                    f"{self.path}: holds {others[0]!r} and no run; give a new or empty folder"
                )

    def _check_same(self, recipe: dict[str, Any], identity: dict[str, Any]) -> None:
        differences: list[str] = []
        if self.recipe_path.exists():
            differences += _differences(self.recipe, recipe, free=FREE_FIELDS)
        if self.metadata_path.exists():
            stored = {key: self.metadata.get(key) for key in _IDENTITY}
            differences += _differences(stored, identity)
        if differences:
            raise TrainingError(
                f"{self.path}: holds a run with other settings: {'; '.join(differences)};"
                " use these settings again or give another folder"
            )


def model_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a model folder says about its model, without loading it.

    Raises:
        ModelError: a file is missing or damaged.
    """
    folder = RunFolder(path)
    if not folder.path.is_dir():
        raise ModelError(
            f"{folder.path}: no such folder; give one with model.keras and tfspec.json"
        )
    for file, role in ((folder.metadata_path, "describes"), (folder.model_path, "is")):
        if not file.is_file():
            raise ModelError(
                f"{folder.path}: lacks {file.name}, which {role} the model;"
                " give a folder that `train` has finished at least one epoch in"
            )
    metadata = folder.metadata
    if not isinstance(metadata, dict) or not metadata.get("task"):
        raise ModelError(f"{folder.metadata_path}: must be a JSON object with a task")
    return metadata


def load_model_folder(
    path: str | os.PathLike[str], *, custom_objects: Mapping[str, Any] | None = None
) -> tuple[keras.Model, dict[str, Any]]:
    """Loads the model of a run or model folder, uncompiled, with its description.

    Args:
        path: folder with `model.keras` and `tfspec.json`.
        custom_objects: unregistered layers by name, as for `keras.models.load_model`.

    Returns:
        The model (`compile=False`) and the contents of `tfspec.json`.

    Raises:
        ModelError: a file is missing or damaged.
    """
    metadata = model_metadata(path)
    folder = RunFolder(path)

    import keras

    try:
        objects = dict(custom_objects or {})
        model = keras.models.load_model(folder.model_path, custom_objects=objects, compile=False)
    # A broken archive surfaces as any of BadZipFile, OSError, KeyError, ValueError, TypeError, ...
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ModelError(
            f"{folder.model_path}: is damaged or of another Keras version"
            f" ({type(error).__name__}: {reason}); train or copy it again"
        ) from error
    return model, metadata


def _as_json(value: dict[str, Any], name: str) -> dict[str, Any]:
    """`value` as reading it back gives it: tuples become lists, keys strings."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: holds a value that JSON cannot ({error})") from error


def _differences(old: Any, new: Any, *, name: str = "", free: Sequence[str] = ()) -> list[str]:
    """Dotted names of the fields whose values differ, each with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(k for k in new if k not in old)]:
            if key not in free:
                dotted = f"{name}.{key}" if name else key
                absent = "(absent)"
                found += _differences(old.get(key, absent), new.get(key, absent), name=dotted)
        return found
    return [] if old == new else [f"{name} was {old!r}, now {new!r}"]


def _provenance(old: Mapping[str, Any] | None) -> dict[str, Any]:
    """Versions and commit; those of a resumed run are added only when they changed."""
    now = {"versions": _versions(), "git_commit": _git_commit()}
    if old is None or "versions" not in old:
        return now
    resumed = list(old.get("resumed_with", []))
    latest = resumed[-1] if resumed else {key: old.get(key) for key in now}
    if latest != now:
        resumed.append(now)
    return {"resumed_with": resumed} if resumed else {}


def _versions() -> dict[str, str]:
    import importlib.metadata
    import platform

    import keras
    import numpy as np
    import tensorflow as tf

    try:
        own = importlib.metadata.version("tfspec")
    except importlib.metadata.PackageNotFoundError:
        own = "uninstalled"
    return {
        "tfspec": own,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _git_commit() -> str | None:
    """Commit of the source tree that tfspec runs from, `-dirty` if modified; None if installed."""
    root = Path(__file__).resolve().parents[2]
    # An installed copy may lie inside somebody else's repository: that commit says nothing.
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _locked_file(path: Path) -> IO[str]:
    """Opens and locks `path`; closing the file, or dying, releases it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path.parent}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    try:
        _lock(file)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise TrainingError(
            f"{path.parent}: {owner} trains in this folder; wait for it or give another folder"
        ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def _lock(file: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        # A byte far behind the text, so that others can still read who holds the lock.
        file.seek(4096)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_partial_files(folder: Path) -> None:
    """Deletes what a killed process left half-written; the caller holds the lock."""
    for pattern in (".model.*.partial.keras", "checkpoints/.last.*.partial.npz"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def _without_optimizer(model: keras.Model) -> keras.Model:
    """A functional model's layers and weights as an uncompiled model; other models as they are."""
    import keras

    # A subclass may hold state that its graph does not show.
    if not type(model).__module__.startswith("keras.") or isinstance(model, keras.Sequential):
        return model
    return keras.Model(model.input, model.output, name=model.name)
