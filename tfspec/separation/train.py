"""Training a separation model into a run folder, from data to `model.keras`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from tfspec.errors import ConfigError
from tfspec.separation import models
from tfspec.separation.data import open_data
from tfspec.separation.export import save_calibration
from tfspec.separation.front_end import FrontEnd, WaveformFrontEnd
from tfspec.separation.losses import WeightedSourceL1, mean_magnitudes, source_weights
from tfspec.separation.recipe import SeparationRecipe
from tfspec.separation.song_data import SongData
from tfspec.separation.stem_data import StemData
from tfspec.training.fit import TrainingHistory, fit
from tfspec.training.reproducibility import set_seeds
from tfspec.training.run import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tfspec.datasets.tracks import Track

# Where the targets are in a network's output.
TARGET_AXES = {FrontEnd.kind: -1, WaveformFrontEnd.kind: -2}


def build_model(recipe: SeparationRecipe) -> keras.Model:
    """The recipe's network.

    Raises:
        ConfigError: the segments do not fit the network's depth.
    """
    changes = {"base_filters": recipe.base_filters, "depth": recipe.depth}
    arguments: dict[str, Any] = {k: v for k, v in changes.items() if v is not None}
    front_end = recipe.front_end
    if isinstance(front_end, WaveformFrontEnd):
        return models.wave_unet(
            front_end.input_samples,
            channels=front_end.channels,
            targets=recipe.targets,
            output="difference" if recipe.wave and recipe.wave.difference else "direct",
            context=recipe.wave is not None and recipe.wave.context,
            upsampling=recipe.wave.upsampling if recipe.wave else "linear",
            **arguments,
        )
    if recipe.is_vocal:
        preset = dict(models.PRESETS[recipe.model])
        return models.vocal_unet(**{**preset, **arguments, "input_shape": front_end.input_shape})
    if recipe.is_mask:
        arguments["compress"] = True  # as the mask presets of the vocal U-Net: it survives int8
    if recipe.head_leak:
        arguments["head_leak"] = recipe.head_leak
    builder = getattr(models, recipe.family)
    return builder(front_end.input_shape, targets=recipe.targets, **arguments)


def compile_model(model: keras.Model, recipe: SeparationRecipe, steps_per_epoch: int) -> None:
    """Compiles a network with the recipe's loss and Adam.

    Args:
        model: of `build_model`.
        recipe: hyper-parameters; `source_weights` given when its loss needs them.
        steps_per_epoch: how long an epoch is for the learning rate's schedule.
    """
    rate = learning_rate(recipe, recipe.epochs * steps_per_epoch)
    model.compile(keras.optimizers.Adam(rate), loss=loss_of(recipe))


def loss_of(recipe: SeparationRecipe) -> str | keras.losses.Loss:
    """The recipe's loss, as `model.compile` takes it.

    Raises:
        ConfigError: `weighted_l1` without weights; `with_source_weights` computes them.
    """
    if recipe.loss != "weighted_l1":
        return {"mae": "mean_absolute_error", "mse": "mean_squared_error"}[recipe.loss]
    if recipe.source_weights is None:
        raise ConfigError("`source_weights` must be given or computed: `with_source_weights`")
    return WeightedSourceL1(recipe.source_weights, target_axis=TARGET_AXES[recipe.front_end.kind])


def with_source_weights(recipe: SeparationRecipe, data: SongData) -> SeparationRecipe:
    """The recipe with the weights of its loss, computed from the training songs if it has none."""
    if recipe.loss != "weighted_l1" or recipe.source_weights is not None:
        return recipe
    if not isinstance(data, StemData):
        return dataclasses.replace(recipe, source_weights=(1.0,))
    axis = TARGET_AXES[recipe.front_end.kind]
    means = mean_magnitudes((y for _, y in data.plain_epoch()), target_axis=axis)
    weights = source_weights(means, recipe.targets)
    return dataclasses.replace(recipe, source_weights=tuple(round(float(w), 6) for w in weights))


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
    steps_per_epoch: int | None = None,
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
        steps_per_epoch: batches after which an epoch ends; when the songs have none left if None.
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
    prepared = open_data(data, recipe, cache=cache, manual_dir=manual_dir, progress=progress)
    save_calibration(run.path, prepared)
    steps = min(steps_per_epoch or prepared.steps_per_epoch, prepared.steps_per_epoch)
    compile_model(model, with_source_weights(recipe, prepared), steps)
    return fit(
        model,
        run=run,
        epoch_data=prepared.train_epoch,
        validation=prepared.validation(),
        epochs=recipe.epochs,
        steps_per_epoch=steps,
        describe_batch=prepared.describe_batch,
        checkpoint_seconds=checkpoint_seconds,
        verbose=verbose,
    )
