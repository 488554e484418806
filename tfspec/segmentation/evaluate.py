"""Scores segmentation networks on labelled spectrograms, over all and by signal-to-noise ratio."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfspec.errors import ConfigError, DataError
from tfspec.segmentation.estimators import SegmentationEstimator, load_segmenter
from tfspec.segmentation.front_end import TASK, FrontEnd
from tfspec.segmentation.metrics import (
    Scores,
    SnrBin,
    boundary_f1,
    confusion_matrices,
    snr_curve,
)
from tfspec.segmentation.recipe import SegmentationRecipe
from tfspec.segmentation.scores import (
    BOUNDARY,
    STRONG_DB,
    Evaluation,
    ModelScores,
    mean_of_defined,
)
from tfspec.segmentation.stores import ExampleStore, open_examples
from tfspec.signal.files import read_json
from tfspec.synth.radio.config import RadioConfig

if TYPE_CHECKING:
    from tfspec.datasets.spectrum_sensing_folder import LabelledSpectrogram

# `(images scored so far, images in all, row)`.
ScoringProgress = Callable[[int, int, str], None]
_STEP_DB = 5.0
# What the run folder of a model says about its data.
_AS_TRAINED = (
    *("data_seed", "validation_fraction", "test_fraction"),
    *("radio", "layout", "unknown"),
)
_BATCH = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """What networks are scored on; None takes what they were trained with.

    A division that differs from that of the training would score networks on what they have seen.
    It is therefore read from the run folder of a model, or of an export inside it.

    Attributes:
        split: `train`, `validation`, `test` or `all`.
        data_seed: of synthetic captures, and of the division of a folder.
        validation_fraction: share of the examples that chose the best epoch.
        test_fraction: share of the examples that no training touched.
        radio: what synthetic captures look like; their sample rate, duration and colours are
            those of each network.
        layout: how labels of a folder name classes.
        unknown: what becomes of colours of no class, see `SegmentationRecipe`.
        cache: folder for what is made or decoded.
        manual_dir: folder of the pictures for `tfds:NAME`.
    """

    split: str = "test"
    data_seed: int | None = None
    validation_fraction: float | None = None
    test_fraction: float | None = None
    radio: RadioConfig | None = None
    layout: str | None = None
    unknown: str | None = None
    cache: str | os.PathLike[str] | None = None
    manual_dir: str | Path | None = None

    def as_trained(self, models: Iterable[Any]) -> ScoringOptions:
        """These options with what was left out as in the training of the models.

        Args:
            models: of which those count that are paths in or of a run folder.

        Raises:
            ConfigError: they were trained with different values.
        """
        recipes = [recipe for recipe in map(_recipe_near, models) if recipe is not None]
        own = {}
        for field in _AS_TRAINED:
            found = {repr(v): v for v in (_trained_with(r, field) for r in recipes)}
            if getattr(self, field) is None and found:
                if len(found) > 1:
                    raise ConfigError(
                        f"the models were trained with different {field}: {', '.join(found)}; "
                        f"give `{field}`, and test data that none of them has seen"
                    )
                own[field] = next(iter(found.values()))
        return dataclasses.replace(self, **own)

    def recipe(self, front_end: FrontEnd) -> SegmentationRecipe:
        """A recipe whose data are for networks of this front end; the paper's where None."""
        radio = self.radio or RadioConfig()
        chosen = {field: getattr(self, field) for field in _AS_TRAINED if field != "radio"}
        return SegmentationRecipe(
            height=front_end.height,
            width=front_end.width,
            channels=front_end.channels,
            classes=front_end.classes,
            scaling=front_end.scaling,
            radio=dataclasses.replace(
                radio,
                sample_rate=front_end.sample_rate,
                duration=front_end.duration,
                colour_map=front_end.colour_map or radio.colour_map,
            ),
            **{field: value for field, value in chosen.items() if value is not None},
        )


def score_models(
    models: Mapping[str, str | os.PathLike[str] | SegmentationEstimator],
    data: str | Sequence[LabelledSpectrogram] = "radio",
    options: ScoringOptions | None = None,
    *,
    progress: ScoringProgress | None = None,
) -> Evaluation:
    """Scores networks, each on images of its own size.

    Synthetic captures of one seed show the same signals at every size, so that networks for
    different sizes see the same scenes.

    Args:
        models: row name -> model folder, `.tflite` file or estimator.
        data: as for `open_examples`; the same N as in training.
        options: which part of them.
        progress: called after each batch of images.

    Raises:
        ModelError: a model cannot be loaded.
        ConfigError, DataError: the data cannot be found or used, or the split is empty.
    """
    if not models:
        raise ConfigError("`models` must name at least one model. Received: none")
    estimators = {
        row: load_segmenter(model) if isinstance(model, (str, os.PathLike)) else model
        for row, model in models.items()
    }
    options = (options or ScoringOptions()).as_trained(models.values())
    rows: dict[str, ModelScores] = {}
    for row, estimator in estimators.items():
        store = open_scored(data, estimator.front_end, options)
        say = None if progress is None else _for_row(progress, row)
        rows[row] = score_store(estimator, store, options.split, progress=say)
    name = data if isinstance(data, str) else "spectrograms given in Python"
    return Evaluation(data=name, split=options.split, rows=rows)


def open_scored(
    data: str | Sequence[LabelledSpectrogram], front_end: FrontEnd, options: ScoringOptions
) -> ExampleStore:
    """The examples as a network of this front end sees them."""
    recipe = options.recipe(front_end)
    return open_examples(data, recipe, cache=options.cache, manual_dir=options.manual_dir)


def score_store(
    estimator: SegmentationEstimator,
    store: ExampleStore,
    split: str,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> ModelScores:
    """Scores one network on the examples of a split.

    Raises:
        DataError: the split is empty.
    """
    indices = store.indices(split)
    if not len(indices):
        counts = {name: len(store.indices(name)) for name in ("train", "validation", "test")}
        raise DataError(
            f"there is no {split} example; the data have "
            + ", ".join(f"{count} {name}" for name, count in counts.items())
        )
    front_end = estimator.front_end
    n_classes = len(front_end.classes)
    tolerance = max(1.0, BOUNDARY * math.hypot(front_end.height, front_end.width))
    matrices, boundaries = [], []
    for first in range(0, len(indices), _BATCH):
        images, truth = zip(*(store.load(i) for i in indices[first : first + _BATCH]), strict=True)
        labels = estimator(front_end.scaled(np.stack(images))).labels
        matrices.append(confusion_matrices(np.stack(truth), labels, n_classes))
        boundaries.append(boundary_f1(np.stack(truth), labels, n_classes, tolerance=tolerance))
        if progress is not None:
            progress(min(first + _BATCH, len(indices)), len(indices))
    found, edges = np.concatenate(matrices), np.concatenate(boundaries)
    snr = store.snr_db[indices]
    strong = found[snr >= STRONG_DB]
    names = [store[index].name for index in indices]
    return ModelScores(
        classes=front_end.classes,
        size=(front_end.height, front_end.width),
        scores=Scores.of(found.sum(axis=0)),
        boundary_f1=tuple(mean_of_defined(edges[:, number]) for number in range(n_classes)),
        tolerance=tolerance,
        curve=_curve(found, snr),
        strong=Scores.of(strong.sum(axis=0)) if len(strong) else None,
        image_iou={
            name: Scores.of(matrix).mean_iou for name, matrix in zip(names, found, strict=True)
        },
    )


def _curve(matrices: np.ndarray, snr_db: np.ndarray) -> tuple[SnrBin, ...]:
    """Scores in ranges of 5 dB; none where no ratio is known."""
    known = snr_db[np.isfinite(snr_db)]
    if not len(known):
        return ()
    low = math.floor(known.min() / _STEP_DB)
    high = max(math.ceil(known.max() / _STEP_DB), low + 1)
    return snr_curve(matrices, snr_db, _STEP_DB * np.arange(low, high + 1))


def _for_row(progress: ScoringProgress, row: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(done, total, row)


def _recipe_near(model: Any) -> SegmentationRecipe | None:
    """The recipe of a run folder, or of the run folder that an export lies in."""
    if not isinstance(model, (str, os.PathLike)):
        return None
    path = Path(model)
    for folder in (path, path.absolute().parent.parent):
        files = [folder / name for name in ("recipe.json", "tfspec.json")]
        if all(file.is_file() for file in files) and read_json(files[1]).get("task") == TASK:
            return SegmentationRecipe.from_dict(read_json(files[0]))
    return None


def _trained_with(recipe: SegmentationRecipe, field: str) -> Any:
    value = getattr(recipe, field)
    if field != "radio":
        return value
    # What belongs to the network, not to the scenes.
    own = ("image_height", "image_width", "sample_rate", "duration", "colour_map")
    return dataclasses.replace(value, **{name: getattr(RadioConfig, name) for name in own})
