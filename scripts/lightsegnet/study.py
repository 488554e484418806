"""The runs of the reproduction: what is trained, exported and scored, each once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightsegnet.settings import VARIANTS, Setting, variant_recipe
from tfspec.errors import ExportError
from tfspec.segmentation.evaluate import ScoringOptions
from tfspec.segmentation.recipe import SegmentationRecipe
from tfspec.signal.files import read_json, write_json

# Beside the trained networks; made of their exports.
EXPORTS = {"LightSegNet, own rate": ("float32", "int8"), "LightSegNet micro-64": ("full_int8",)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Where everything lies, and on which data.

    Attributes:
        out: folder of everything.
        data: folder of pictures, None for synthetic captures.
        cache: folder for what is made or decoded.
        seed: of data and of the first run; further runs count on.
        setting: sizes and epochs.
    """

    out: Path
    data: str | None
    cache: Path
    seed: int
    setting: Setting

    def training_data(self, examples: int) -> str:
        """What networks are trained on: the folder, or so many captures."""
        return self.data or f"radio:{examples}"

    def train(self, name: str, recipe: SegmentationRecipe, *, examples: int | None = None) -> Path:
        """Trains a network, or goes on, or returns the finished run.

        Args:
            name: of the run.
            recipe: what to train.
            examples: synthetic captures; those of the setting when None.
        """
        from tfspec.segmentation.train import train

        recipe = dataclasses.replace(recipe, data_seed=self.seed)
        if self.data is None:  # tested on another set, of as many captures as wanted
            recipe = dataclasses.replace(recipe, validation_fraction=0.15, test_fraction=0.0)
        folder = self.out / "runs" / "".join(c if c.isalnum() or c in "-/" else "-" for c in name)
        train(
            self.training_data(examples or self.setting.examples),
            folder,
            recipe,
            cache=self.cache,
        )
        return folder

    def score(self, models: dict[str, Path]) -> Any:
        """An `Evaluation` of models on the test set."""
        from tfspec.segmentation.evaluate import score_models

        return score_models(dict(models), self.test_data, self.test_options)

    @property
    def test_data(self) -> str:
        """What networks are scored on: synthetic captures of another seed, or the same folder."""
        return self.data or f"radio:{self.setting.test_examples}"

    @property
    def test_options(self) -> ScoringOptions:
        """Which part of it."""
        if self.data is None:
            return ScoringOptions(split="all", data_seed=self.seed + 1, cache=self.cache)
        return ScoringOptions(cache=self.cache)

    def kept(self, name: str, compute: Callable[[], Any]) -> Any:
        """A JSON value, computed once."""
        path = self.out / "scores" / f"{name}.json"
        if not path.exists():
            write_json(path, compute())
        return read_json(path)

    def exported(self, name: str, run: Path) -> tuple[dict[str, Path], str]:
        """Row -> file of the precisions of `EXPORTS`, or why there are none."""
        from tfspec.segmentation.export import export_segmenter

        precisions = EXPORTS[name]
        files = {p: run / "export" / f"model_{p}.tflite" for p in precisions}
        if not all(path.exists() for path in files.values()):
            try:
                export_segmenter(run, precisions=precisions)
            except ExportError as error:  # a weakly trained network may lose more than allowed
                return {}, f"{name}: {error}"
        return {f"{name}, LiteRT {p}": path for p, path in files.items()}, ""

    def ablation_run(self, variant: str, number: int) -> dict[str, float]:
        """Mean IoU of one run of a variant."""
        recipe = variant_recipe(variant, self.setting, seed=self.seed + number)
        name = f"ablation/{list(VARIANTS).index(variant)}-{number}"
        folder = self.train(name, recipe, examples=self.setting.ablation_examples)
        best = read_json(folder / "metrics.json")["training"]["best"]
        found = self.score({variant: folder}).rows[variant]
        strong = found.strong_iou if found.strong is not None else found.scores.mean_iou
        return {
            "validation": best["val_mean_iou"],
            "test": found.scores.mean_iou,
            "strong": strong,
        }


def network_facts(name: str, path: Path, latency: list[float], scores: Any) -> dict[str, Any]:
    """Size, speed and scores of a network for the table.

    Args:
        name: row of the table.
        path: run folder or `.tflite` file.
        latency: seconds per image.
        scores: of `ModelScores.to_json`.
    """
    import numpy as np

    facts: dict[str, Any] = {"name": name, "latency_ms": 1e3 * float(np.median(latency))}
    facts |= {"parameters": None, "macs": None, "minutes": None, "scores": scores}
    if path.is_dir():
        from tfspec.deploy.complexity import count_macs
        from tfspec.training.run import load_model_folder

        model, _ = load_model_folder(path)
        trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        seconds = read_json(path / "metrics.json")["training"]["seconds"]
        facts |= {"parameters": trainable, "macs": count_macs(model), "minutes": seconds / 60}
    return facts
