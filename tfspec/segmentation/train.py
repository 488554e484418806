"""Training a segmentation network into a run folder, from data to `model.keras`."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from tfspec.segmentation.data import SegmentationData
from tfspec.segmentation.export import save_calibration
from tfspec.segmentation.front_end import TASK
from tfspec.segmentation.losses import CrossEntropyDice
from tfspec.segmentation.metrics import ConfusionMatrix
from tfspec.segmentation.models import deeplab_v3_plus, lightsegnet
from tfspec.segmentation.recipe import LOSSES, SegmentationRecipe
from tfspec.segmentation.stores import Progress, data_info, front_end_for
from tfspec.signal.files import atomic_path
from tfspec.training.coupled_l2 import CoupledL2Adam
from tfspec.training.fit import TrainingHistory, fit
from tfspec.training.reproducibility import set_seeds
from tfspec.training.run import RunFolder

if TYPE_CHECKING:
    from tfspec.datasets.spectrum_sensing_folder import LabelledSpectrogram

MONITOR = "val_mean_iou"
TRAINING_LOG = "training_log.csv"
# Columns of the published code's log, in its order, and ours.
_LOG_COLUMNS = {
    "epoch": "epoch",
    "train_loss": "loss",
    "val_loss": "val_loss",
    "train_iou": "mean_iou",
    "val_iou": MONITOR,
}


def build_model(recipe: SegmentationRecipe) -> keras.Model:
    """The recipe's network, from images to logits.

    Raises:
        ConfigError: size or widths do not fit the network.
    """
    shape = recipe.front_end.input_shape
    stride: dict[str, Any] = (
        {} if recipe.output_stride is None else {"output_stride": recipe.output_stride}
    )
    if recipe.model == "deeplab_v3_plus":
        return deeplab_v3_plus(shape, len(recipe.classes), backbone=recipe.backbone, **stride)
    return lightsegnet(
        shape,
        len(recipe.classes),
        widths=recipe.widths,
        squeeze=recipe.squeeze,
        concatenation=recipe.concatenation,
        dropout=recipe.dropout,
        **stride,
    )


def compile_model(
    model: keras.Model,
    recipe: SegmentationRecipe,
    steps_per_epoch: int,
    class_weights: Sequence[float] | None = None,
) -> None:
    """Compiles a network with the recipe's loss, Adam with coupled L2, and all scores.

    Args:
        model: of `build_model`.
        recipe: hyper-parameters.
        steps_per_epoch: how long an epoch is for the learning rate's schedule.
        class_weights: of the loss, see `SegmentationData.class_weights`.
    """
    cross_entropy, dice = LOSSES[recipe.loss]
    model.compile(
        CoupledL2Adam(learning_rate(recipe, recipe.epochs * steps_per_epoch), l2=recipe.l2),
        loss=CrossEntropyDice(cross_entropy, dice, class_weights=class_weights),
        metrics=[ConfusionMatrix(len(recipe.classes))],
    )


def learning_rate(
    recipe: SegmentationRecipe, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The recipe's learning rate over `steps` steps; a prolonged run follows the longer curve."""
    if recipe.schedule == "constant":
        return recipe.learning_rate
    warm_up = max(1, steps // 20)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=recipe.learning_rate, warmup_steps=warm_up
    )


def train(
    data: str | Sequence[LabelledSpectrogram],
    out: str | os.PathLike[str],
    recipe: SegmentationRecipe,
    *,
    manual_dir: str | Path | None = None,
    cache: str | os.PathLike[str] | None = None,
    deterministic: bool = False,
    checkpoint_seconds: float = 120.0,
    verbose: bool = True,
    progress: Progress | None = None,
) -> TrainingHistory:
    """Trains, or continues the training that `out` holds; the best mean IoU is kept.

    Beside what every run folder holds there is `training_log.csv` with the columns of the paper's
    program.

    Args:
        data: as for `open_examples`.
        out: run folder; an interrupted run with the same recipe is continued.
        recipe: hyper-parameters.
        manual_dir: folder of the pictures for `tfds:NAME`.
        cache: folder for what is made or decoded.
        deterministic: slower operations whose results do not depend on thread timing.
        checkpoint_seconds: longest time between checkpoints.
        verbose: show progress on standard error.
        progress: called while examples are made or decoded, as `progress(done, total, name)`.

    Returns:
        The history of the whole run.

    Raises:
        ConfigError, DataError: the data cannot be found or used.
        OutputError: `out` cannot be written.
        TrainingError: NaN, or `out` holds another run.
        TrainingInterrupted: Ctrl-C; call again to continue.
    """
    set_seeds(recipe.seed, deterministic=deterministic)
    model = build_model(recipe)
    origin = data_info(data)
    run = RunFolder.create(
        out,
        recipe=recipe.to_dict(),
        task=TASK,
        front_end=front_end_for(data, recipe).to_dict(),
        targets=recipe.classes,
        data=origin,
        seed=recipe.seed,
    )
    prepared = SegmentationData.open(
        data, recipe, cache=cache, manual_dir=manual_dir, progress=progress
    )
    save_calibration(run.path, prepared)
    compile_model(model, recipe, prepared.steps_per_epoch, prepared.class_weights)
    try:
        return fit(
            model,
            run=run,
            epoch_data=prepared.train_epoch,
            validation=prepared.validation(),
            epochs=recipe.epochs,
            steps_per_epoch=prepared.steps_per_epoch,
            monitor=MONITOR,
            mode="max",
            describe_batch=prepared.describe_batch,
            checkpoint_seconds=checkpoint_seconds,
            verbose=verbose,
        )
    finally:
        if run.history_path.exists():
            write_training_log(run.path / TRAINING_LOG, run.history_path)


def write_training_log(path: Path, history: Path) -> None:
    """Writes the log of the paper's program from `history.csv`, with the same digits."""
    with history.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_LOG_COLUMNS)
        writer.writerows([row[ours] for ours in _LOG_COLUMNS.values()] for row in rows)
