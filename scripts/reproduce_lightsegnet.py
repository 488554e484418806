"""The ten-epoch table of "Semantic Segmentation of Spectrogram Signals with LightSegNet".

    python scripts/reproduce_lightsegnet.py --out results/lightsegnet        # short, synthetic
    python scripts/reproduce_lightsegnet.py --setting paper --data KAGGLE_FOLDER \\
        --out results/lightsegnet_kaggle

With what the paper lacks: the ablation of squeeze-and-excitation, loss and augmentation over
three seeds, DeepLabV3+ trained the same way, the microcontroller's preset, int8, and scores by
SNR. Writes `epochs`, `networks` and `ablation` as .md and .csv, scores by SNR, curves, and
pictures of good and bad cases. Interrupt and rerun it freely: what is done is kept.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from lightsegnet.settings import (
    SETTINGS,
    VARIANTS,
    device_recipe,
    own_recipe,
    reference_recipe,
    table_recipe,
)
from lightsegnet.study import EXPORTS, Study, network_facts
from lightsegnet.tables import write_ablation, write_epochs, write_networks

from tfspec.errors import ConfigError, TfspecError
from tfspec.signal.files import atomic_path


def main(
    out: Annotated[Path, typer.Option(help="Folder for runs, tables and pictures.")],
    data: Annotated[
        str | None, typer.Option(help="Folder of the Kaggle set; synthetic captures if none.")
    ] = None,
    setting: Annotated[str, typer.Option(help="short or paper.")] = "short",
    cache: Annotated[Path | None, typer.Option(help="Folder for captures and pictures.")] = None,
    seed: Annotated[int, typer.Option(help="Of data, weights and order.")] = 42,
) -> None:
    """Trains, scores and tabulates everything; see the module's text."""
    if setting not in SETTINGS:
        raise ConfigError(f"--setting must be one of {sorted(SETTINGS)}. Received: {setting!r}")
    chosen = SETTINGS[setting]
    study = Study(
        out=out,
        data=data,
        cache=cache or out / "cache",
        seed=seed,
        setting=chosen,
    )
    runs = {"LightSegNet": study.train("LightSegNet", table_recipe(chosen, seed=seed))}
    _write_table(study, runs["LightSegNet"])
    own = study.train("own-rate", own_recipe(chosen, seed=seed))
    runs["LightSegNet, own rate"] = own
    runs["DeepLabV3+"] = study.train("DeepLabV3+", reference_recipe(chosen, seed=seed))
    # Levels cannot be told from the colours of pictures.
    device = device_recipe(chosen, seed=seed, channels=1 if data is None else 3)
    runs["LightSegNet micro-64"] = study.train("micro-64", device)
    _compare(study, runs)
    found = {variant: _ablated(study, variant) for variant in VARIANTS}
    write_ablation(out, found, _ablation_caption(study))
    for name in ("epochs", "networks", "ablation"):
        typer.echo((out / f"{name}.md").read_text(encoding="utf-8"))


def _ablated(study: Study, variant: str) -> list[dict[str, float]]:
    """The runs of a variant."""
    index = list(VARIANTS).index(variant)
    return [
        study.kept(f"ablation-{index}-{number}", partial(study.ablation_run, variant, number))
        for number in range(study.setting.seeds)
    ]


def _write_table(study: Study, run: Path) -> None:
    """The ten-epoch table and its curves."""
    from tfspec.report.figures import loss_curves
    from tfspec.segmentation.report import history, iou_curves

    rows = history(run / "history.csv")
    write_epochs(study.out, rows, _caption(study))
    _write(study.out / "loss.png", loss_curves(rows))
    _write(study.out / "iou.png", iou_curves({"": rows}))


def _compare(study: Study, runs: dict[str, Path]) -> None:
    """Networks and their exports beside each other: scores, size, speed, good and bad cases."""
    models, failures = dict(runs), []
    for name in EXPORTS:
        files, failure = study.exported(name, runs[name])
        models |= files
        failures += [failure] * bool(failure)
    found = study.kept("networks", partial(_examined, study, models))
    options = study.test_options
    where = f"{options.split} of {study.test_data}"
    if options.data_seed is not None:
        where += f", seed {options.data_seed}"
    missing = "".join(f" Not exported: {failure}." for failure in failures)
    write_networks(
        study.out,
        found["rows"],
        f"{_caption(study)} Scored on {where}. Times: one image, all cores, network with softmax, "
        f"median of 15 alternating calls; Keras where nothing else is said.{missing}",
    )


def _examined(study: Study, models: dict[str, Path]) -> dict[str, Any]:
    from tfspec.segmentation.report import examine

    examined = examine(dict(models), study.test_data, study.test_options)
    examined.evaluation.save(study.out)
    _write(study.out / "good_cases.png", examined.good)
    _write(study.out / "bad_cases.png", examined.bad)
    found = examined.to_json()["rows"]
    return {
        "rows": [
            network_facts(name, path, examined.latencies[name], found[name])
            for name, path in models.items()
        ]
    }


def _caption(study: Study) -> str:
    """What the tables were made from."""
    setting = study.setting
    if study.data is None:
        made = f"SYNTHETIC captures (tfspec.synth.radio, {setting.examples}, seed {study.seed})"
    else:
        made = f"`{study.data}`"
    return (
        f"Ours: {made}, images of {setting.size} x {setting.size}, LightSegNet as published "
        "(295,419 parameters, batch 16, Adam 5e-4, coupled L2 1e-4, cross-entropy + Dice, no "
        "augmentation, which the published code never ran either). The paper's numbers belong to "
        "its own pictures, of 256 x 256, and are no bound for other data. `own rate`: the same "
        "network and epochs without dropout, in batches of 4, with a rate that rises to 2e-3 and "
        "falls to zero (`--preset lightsegnet`)."
    )


def _ablation_caption(study: Study) -> str:
    size, examples = study.setting.ablation_size, study.setting.ablation_examples
    made = f" on the first {examples} captures" if study.data is None else ""
    return (
        f"{_caption(study)} Ablation at {size} x {size} with the paper's widths{made}, "
        f"{study.setting.epochs} epochs each; the epoch with the best validation mean IoU is "
        "scored."
    )


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    try:
        typer.run(main)
    except TfspecError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
