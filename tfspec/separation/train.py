"""Training a separation model into a run folder, from data to `model.keras`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from tfspec.separation.data import SeparationData
from tfspec.separation.export import save_calibration
from tfspec.separation.models import PRESETS, vocal_unet
from tfspec.separation.recipe import LOSSES, SeparationRecipe
from tfspec.training.fit import TrainingHistory, fit
from tfspec.training.reproducibility import set_seeds
from tfspec.training.run import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tfspec.datasets.tracks import Track


def build_model(recipe: SeparationRecipe) -> keras.Model:
    """The recipe's network.

    Raises:
        ConfigError: the segments do not fit the network's depth.
    """
    changes = {"base_filters": recipe.base_filters, "depth": recipe.depth}
    arguments = dict(PRESETS[recipe.model]) | {k: v for k, v in changes.items() if v is not None}
    return vocal_unet(**{**arguments, "input_shape": recipe.front_end.input_shape})


def compile_model(model: keras.Model, recipe: SeparationRecipe, steps_per_epoch: int) -> None:
    """Compiles a network with the recipe's loss and Adam.

    Args:
        model: of `build_model`.
        recipe: hyper-parameters.
        steps_per_epoch: how long an epoch is for the learning rate's schedule.
    """
    rate = learning_rate(recipe, recipe.epochs * steps_per_epoch)
    model.compile(keras.optimizers.Adam(rate), loss=LOSSES[recipe.loss])


def learning_rate(
    recipe: SeparationRecipe, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The recipe's learning rate over `steps` steps; a prolonged run follows the longer curve."""
    if recipe.schedule == "constant":
        return recipe.learning_rate
    warm_up = max(1, steps // 20)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=recipe.learning_rate, warmup_steps=warm_up
    )


def train(
    data: str | Sequence[Track],
    out: str | os.PathLike[str],
    recipe: SeparationRecipe,
    *,
    manual_dir: str | Path | None = None,
    cache: str | os.PathLike[str] | None = None,
    deterministic: bool = False,
    checkpoint_seconds: float = 120.0,
    verbose: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> TrainingHistory:
    """Trains, or continues the training that `out` holds.

    Args:
        data: `synth`, `synth:N`, a folder, `tfds:NAME`, or tracks.
        out: run folder; an interrupted run with the same recipe is continued.
        recipe: hyper-parameters.
        manual_dir: folder of the unpacked data set for `tfds:NAME`.
        cache: folder for prepared songs.
        deterministic: slower operations whose results do not depend on thread timing.
        checkpoint_seconds: longest time between checkpoints.
        verbose: show progress on standard error.
        progress: called while songs are prepared, as `progress(done, total, name)`.

    Returns:
        The history of the whole run.

    Raises:
        ConfigError, DataError: the data cannot be found or used.
        OutputError: `out` cannot be written.
        TrainingError: NaN, or `out` holds another run.
        TrainingInterrupted: Ctrl-C; call again to continue.
    """
    from tfspec.datasets.tracks import dataset_info

    set_seeds(recipe.seed, deterministic=deterministic)
    model = build_model(recipe)
    origin = (
        dataset_info(data)
        if isinstance(data, str)
        else {"name": "tracks given in Python", "licence": "as given by the user"}
    )
    run = RunFolder.create(
        out,
        recipe=recipe.to_dict(),
        task="separation",
        front_end=recipe.front_end.to_dict(),
        targets=recipe.targets,
        data=origin,
        seed=recipe.seed,
    )
    prepared = SeparationData.open(
        data, recipe, cache=cache, manual_dir=manual_dir, progress=progress
    )
    save_calibration(run.path, prepared)
    compile_model(model, recipe, prepared.steps_per_epoch)
    return fit(
        model,
        run=run,
        epoch_data=prepared.train_epoch,
        validation=prepared.validation(),
        epochs=recipe.epochs,
        steps_per_epoch=prepared.steps_per_epoch,
        describe_batch=prepared.describe_batch,
        checkpoint_seconds=checkpoint_seconds,
        verbose=verbose,
    )
