"""Export of a trained segmentation network: what `tfspec.deploy` needs to know about it.

Logits leave the graph, at the resolution of the network: the largest of a pixel's integers is its
class, so that a device needs neither softmax nor floats, and int8 costs nothing more. Files for
apps may end in a label map instead (`output="labels"`), in float precisions only: a converter
quantises class numbers like any other value, after which many of them are wrong.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfspec.deploy.device import Smaller
from tfspec.deploy.export import ExportReport, export
from tfspec.deploy.label_map import LabelMapLayer
from tfspec.errors import ConfigError, ExportError, ModelError
from tfspec.segmentation.estimators import front_end_of, prediction
from tfspec.signal.files import atomic_path, read_json

if TYPE_CHECKING:
    import keras

    from tfspec.deploy.targets import Target
    from tfspec.segmentation.data import SegmentationData
    from tfspec.segmentation.recipe import SegmentationRecipe

CALIBRATION = "calibration.npz"
CALIBRATION_IMAGES = 32
# Small images tell less each, and a mean IoU needs many pixels of every class.
HELD_OUT_PIXELS, HELD_OUT_IMAGES = 2**21, (32, 128)
MAX_SCORE_LOSS = 0.005  # mean IoU that a conversion may cost
OUTPUTS = ("logits", "labels")
_DEVICE_PRESETS = ("micro-128", "micro-64", "nano-64")
# The device form adds in another order than the trained one: float rounding of some ten layers.
_FORM_TOLERANCE = 1e-4


def save_calibration(folder: Path, data: SegmentationData) -> None:
    """Keeps real images beside the model: to quantise with, and to verify with.

    Args:
        folder: run folder.
        data: the run's training data.
    """
    pixels = data.recipe.height * data.recipe.width
    least, most = HELD_OUT_IMAGES
    images, labels = data.held_out_images(max(least, min(most, HELD_OUT_PIXELS // pixels)))
    calibration = data.calibration_images(CALIBRATION_IMAGES)
    with atomic_path(folder / CALIBRATION) as temporary:
        # float16: 5e-4 relative, far below an int8 step, at half the size.
        np.savez_compressed(
            temporary,
            calibration=calibration.astype(np.float16),
            images=images.astype(np.float16),
            labels=labels,
        )


def load_calibration(folder: Path) -> dict[str, np.ndarray]:
    """What `save_calibration` saved.

    Returns:
        `calibration`: scaled training images; `images` and `labels`: scaled validation images and
        their label maps. Images float32 `(n, frequency, time, channels)`, labels uint8
        `(n, frequency, time)`.

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = folder / CALIBRATION
    try:
        with np.load(path) as arrays:
            images = {k: arrays[k].astype(np.float32) for k in ("calibration", "images")}
            return {**images, "labels": arrays["labels"]}
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); int8 needs the training images that `tfspec "
            "train` keeps there"
        ) from error


def export_segmenter(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    output: str = "logits",
    precisions: Sequence[str] | None = None,
    target: str | os.PathLike[str] | Target | None = None,
    max_arena: int | None = None,
    max_flash: int | None = None,
) -> ExportReport:
    """Exports the network of a model folder as verified TFLite files.

    The score of the verification is the mean IoU on validation images.

    Args:
        run: model folder.
        out: folder to write, `RUN/export` when None.
        output: `logits`, or `labels`: class numbers at the size of the image, float precisions
            only.
        precisions: of `tfspec.deploy.convert.PRECISIONS`; those of the target when None.
        target: device to export for, by name or file; see `tfspec.deploy.export.export`.
        max_arena: bytes that the tensor arena may take.
        max_flash: bytes of flash that the model may take.

    Raises:
        ModelError: no model folder, or without its calibration images.
        ExportError: a conversion failed, did not pass its checks, or does not fit the target.
        ConfigError: no such output or target, or a mistake in the target's file.
        OutputError: `out` cannot be written.
    """
    from tfspec.training.run import load_model_folder

    if output not in OUTPUTS:
        raise ConfigError(f"`output` must be one of {OUTPUTS}. Received: output={output!r}")
    run = Path(run)
    trained, metadata = load_model_folder(run)
    front_end = front_end_of(metadata, run)
    arrays = load_calibration(run)
    model = device_model(trained)
    _check_same(trained, model, arrays["images"][:1])
    if output == "labels":
        model = with_label_map(model)
    data = metadata.get("data", {})
    return export(
        model,
        out if out is not None else run / "export",
        front_end=front_end.to_dict(),
        calibration=arrays["calibration"],
        held_out=arrays["images"],
        precisions=precisions,
        target=target,
        max_arena=max_arena,
        max_flash=max_flash,
        smaller=smaller_models(run),
        labels=front_end.classes,
        provenance={
            "licence": "as the training data allow",
            "training_data": f"{data.get('name')} ({data.get('licence')})",
            "run": metadata,
        },
        score=partial(_mean_iou, arrays["images"], arrays["labels"], len(front_end.classes)),
        max_score_loss=MAX_SCORE_LOSS,
        input_name="image",
        output_name=output,
    )


def device_model(model: keras.Model) -> keras.Model:
    """The same function in the form that devices run best; see `device_form` of LightSegNet."""
    from tfspec.segmentation.models import device_form

    try:
        return device_form(model)
    except ModelError:  # another network: exported as it is
        return model


def with_label_map(model: keras.Model) -> keras.Model:
    """The model with class numbers at the size of its input behind its logits."""
    import keras

    logits = model.outputs[0]
    factors = [a // b for a, b in zip(model.input_shape[1:3], logits.shape[1:3], strict=True)]
    if max(factors) > 1:
        layer = keras.layers.UpSampling2D(factors, interpolation="bilinear", name="enlarged")
        logits = layer(logits)
    return keras.Model(model.inputs, LabelMapLayer(name="labels")(logits), name=model.name)


def smaller_models(run: Path) -> list[Smaller]:
    """What to try when a run's model does not fit: smaller images, then the presets.

    Args:
        run: model folder; without its recipe only the presets are tried.
    """
    from tfspec.segmentation.recipe import SegmentationRecipe

    variants: dict[str, SegmentationRecipe] = {}
    if (saved := run / "recipe.json").exists():
        recipe = SegmentationRecipe.from_dict(read_json(saved))
        if recipe.model == "lightsegnet" and recipe.output_stride in (None, 1):
            variants["output_stride=2"] = dataclasses.replace(recipe, output_stride=2)
        height, width = recipe.height // 2, recipe.width // 2
        if not height % 16 and not width % 16:
            half = dataclasses.replace(recipe, height=height, width=width)
            variants[f"height={height}, width={width}"] = half
    variants |= {f"preset {name}": SegmentationRecipe.preset(name) for name in _DEVICE_PRESETS}
    return [Smaller(name=name, build=partial(_built, r)) for name, r in variants.items()]


def _built(recipe: SegmentationRecipe) -> tuple[keras.Model, dict[str, Any]]:
    """A recipe's network as an export holds it, and its front end."""
    from tfspec.segmentation.train import build_model

    return device_model(build_model(recipe)), recipe.front_end.to_dict()


def _check_same(trained: keras.Model, device: keras.Model, images: np.ndarray) -> None:
    """Refuses a device form that computes something else than what was trained."""
    import keras

    reference, found = (
        keras.ops.convert_to_numpy(model(images, training=False)) for model in (trained, device)
    )
    difference = float(np.abs(found - reference).max() / max(np.abs(reference).max(), 1e-12))
    if not difference <= _FORM_TOLERANCE:
        raise ExportError(
            f"{trained.name}: its form for devices differs by {difference:.1e} of the largest "
            f"logit, more than {_FORM_TOLERANCE:g}; train it again"
        )


def _mean_iou(
    images: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    predict: Callable[[np.ndarray], np.ndarray],
) -> float:
    """Mean IoU of a network's answers, logits or class numbers, on labelled images."""
    from tfspec.segmentation.metrics import Scores, confusion_matrices

    output = predict(images)
    if output.ndim == labels.ndim:
        found = np.rint(output).astype(np.uint8)
    else:
        found = prediction(output, labels.shape[1:]).labels
    return Scores.of(confusion_matrices(labels, found, n_classes).sum(axis=0)).mean_iou
