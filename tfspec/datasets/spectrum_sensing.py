"""Radio spectrograms with label maps, in the layout of the LightSegNet paper.

`folder_spectrograms` reads a folder; importing this module also registers
`tfds.builder("spectrum_sensing")`, which prepares the same folder as a TensorFlow Datasets data
set. The pictures have to be downloaded by hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfspec.datasets import prepared
from tfspec.datasets.musdb18 import fingerprint
from tfspec.datasets.spectrum_sensing_folder import (
    LabelledSpectrogram,
    SpectrogramList,
    class_counts,
    find_root,
    folder_spectrograms,
    load_arrays,
)
from tfspec.datasets.spectrum_sensing_images import IGNORE, LAYOUTS, LabelLayout
from tfspec.datasets.splits import SPLITS, check_split
from tfspec.errors import ConfigError, DataError

__all__ = [
    "IGNORE",
    "LAYOUTS",
    "LabelLayout",
    "LabelledSpectrogram",
    "SpectrogramList",
    "SpectrumSensing",
    "SpectrumSensingConfig",
    "class_counts",
    "folder_spectrograms",
    "load_arrays",
    "spectrum_sensing_info",
    "tfds_spectrograms",
]

logger = logging.getLogger(__name__)

SEED = 0  # of the division that is stored; `folder_spectrograms` divides with any
LICENCE = "not stated by the publisher; ask before publishing anything that was trained on it"
_HOMEPAGES = {
    "paper": "https://www.kaggle.com/datasets/huynhthethien/spectrogramsignal",
    "mathworks": (
        "https://www.mathworks.com/help/comm/ug/"
        "spectrum-sensing-with-deep-learning-to-identify-5g-and-lte-signals.html"
    ),
}
_DESCRIPTION = """Spectrograms of LTE and 5G NR signals in noise, with the class of every pixel.

Images and label maps are (frequency, time), lowest frequency and earliest time first; for the
configurations named `paper` that is the order in which the files are stored. 80 % are for training
and 10 % each for validation and test, by a hash of the file name. Pixels of label 255 have no
class."""


@dataclasses.dataclass(eq=False)
class SpectrumSensingConfig(tfds.core.BuilderConfig):
    """Where the pictures come from, and how their labels name classes.

    Attributes:
        layout: colours, orientation, and what becomes of colours of no class.
        source: `"paper"` or `"mathworks"`.
    """

    layout: LabelLayout = LAYOUTS["paper"]
    source: str = "paper"


class SpectrumSensing(tfds.core.GeneratorBasedBuilder):
    """TFDS builder from a manual folder with `input/*.png` and `label/*.png`.

    Pictures without a partner or of another size than it are named in a warning and in
    `info.metadata["skipped"]`. A label with a colour of no class stops the preparation; the
    configurations `paper_ignore` and `paper_legacy` take it for 255 or, as the original program
    does, for class 0.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012  (the name TFDS reads)
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    spectrum_sensing/paper: download huynhthethien/spectrogramsignal from Kaggle.
    spectrum_sensing/mathworks: download the training data of MathWorks' example "Spectrum Sensing
    with Deep Learning to Identify 5G and LTE Signals", put its pictures into input/, and its
    labels, converted from .hdf to grey PNG under the same names, into label/.
    The manual folder (or the only folder in it) holds input/ and label/.
    """
    BUILDER_CONFIGS = [  # noqa: RUF012
        SpectrumSensingConfig(name="paper", description="colours of the LightSegNet paper"),
        SpectrumSensingConfig(
            name="paper_ignore",
            description="as paper; other colours have no class",
            layout=dataclasses.replace(LAYOUTS["paper"], unknown="ignore"),
        ),
        SpectrumSensingConfig(
            name="paper_legacy",
            description="as paper; other colours are class 0 (lte), as in the original program",
            layout=dataclasses.replace(LAYOUTS["paper"], legacy_unknown=0),
        ),
        SpectrumSensingConfig(
            name="mathworks",
            description="grey values 0 noise, 255 LTE, 127 NR",
            layout=LAYOUTS["mathworks"],
            source="mathworks",
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        """Features: see the `doc` of each."""
        features = {
            "name": tfds.features.Text(doc="file name without its suffix"),
            "image": tfds.features.Image(
                shape=(None, None, 3), encoding_format="png", doc="spectrogram, colour-mapped"
            ),
            "label": tfds.features.LabeledImage(
                labels=list(self.builder_config.layout.classes),
                shape=(None, None, 1),
                encoding_format="png",
                doc="class of every pixel, 255 where it has none",
            ),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=_HOMEPAGES[self.builder_config.source],
            license=LICENCE,
            disable_shuffling=True,  # so that the n-th name of the metadata is the n-th record
            metadata=tfds.core.MetadataDict(
                names={}, shape=[], classes=[], skipped=[], fingerprint="", seed=SEED
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        """One generator for each split that has a spectrogram."""
        layout = self.builder_config.layout
        root = find_root(Path(dl_manager.manual_dir))
        examples = folder_spectrograms(root, layout=layout, seed=SEED)
        parts = {split: examples.only(split) for split in SPLITS}
        self.info.metadata.update(
            names={split: [example.name for example in part] for split, part in parts.items()},
            shape=list(examples[0].shape),
            classes=list(layout.classes),
            skipped=list(examples.skipped),
            fingerprint=fingerprint(root),
        )
        # TFDS cannot write a split without examples.
        return {split: self._generate_examples(part) for split, part in parts.items() if part}

    def _generate_examples(
        self, examples: list[LabelledSpectrogram]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the spectrograms in the order of the list."""
        for position, example in enumerate(examples):
            image, label = example.load()
            record = {
                "name": example.name,
                "image": np.ascontiguousarray(image),
                "label": np.ascontiguousarray(label[..., None]),
            }
            # TFDS sorts records by key, one bucket of the 128-bit key range in memory at a time;
            # keys 0, 1, 2, ... would all fall into the first bucket.
            yield (position << 128) // len(examples), record


@dataclasses.dataclass(frozen=True)
class PreparedSpectrogram:
    """Reads one spectrogram of a prepared data set."""

    directory: str
    split: str
    index: int

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """Image and label map."""
        builder, source = prepared._open_source(self.directory, self.split)
        if source is not None:
            record = source[self.index]
        else:  # TFRecord, as `tfds.load` prepares it: only the shard with the record is read
            instruction = tfds.core.ReadInstruction(
                self.split, from_=self.index, to=self.index + 1, unit="abs"
            )
            record = next(iter(tfds.as_numpy(builder.as_dataset(split=instruction))))
        return record["image"], record["label"][..., 0]


def tfds_spectrograms(
    name: str,
    *,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    split: str | None = None,
) -> SpectrogramList:
    """Spectrograms of a TensorFlow Datasets data set, prepared first when that has not been done.

    A `manual_dir` whose files changed since is prepared again.

    Args:
        name: `"spectrum_sensing/paper"`, `.../paper_ignore`, `.../paper_legacy` or
            `.../mathworks`.
        manual_dir: folder with `input/` and `label/`; None is `DATA_DIR/downloads/manual`.
        data_dir: where prepared data are kept; None is `~/tensorflow_datasets`.
        split: `"train"`, `"validation"` or `"test"`; None gives all.

    Raises:
        ConfigError: an unknown name or split.
        DataError: there is nothing to prepare from, or a label has a colour of no class.
    """
    if split is not None:
        check_split(split)
    builder = _prepared(_config_name(name), manual_dir, data_dir)
    metadata = builder.info.metadata
    examples = [
        LabelledSpectrogram(
            name=own,
            split=part,
            origin=f"tfds:spectrum_sensing/{builder.builder_config.name}",
            shape=(metadata["shape"][0], metadata["shape"][1]),
            loader=PreparedSpectrogram(str(builder.data_dir), part, index),
        )
        for part in SPLITS
        if split in (None, part)
        for index, own in enumerate(metadata["names"].get(part, []))
    ]
    if not examples:
        raise DataError(f"tfds:{name}: has no {split} spectrogram; the folder holds too few pairs")
    return SpectrogramList(examples, classes=metadata["classes"], skipped=metadata["skipped"])


def spectrum_sensing_info(name: str) -> dict[str, str]:
    """Name, licence and origin of `spectrum_sensing/CONFIG`, for model cards."""
    config = SpectrumSensing.builder_configs[_config_name(name)]
    return {
        "name": f"spectrum_sensing/{config.name} ({config.description})",
        "licence": LICENCE,
        "origin": _HOMEPAGES[config.source],
    }


def _config_name(name: str) -> str:
    """The configuration of `spectrum_sensing[/CONFIG]`."""
    base, slash, config = name.partition("/")
    config = config if slash else "paper"
    if base != "spectrum_sensing" or config not in SpectrumSensing.builder_configs:
        allowed = ", ".join(f"tfds:spectrum_sensing/{c}" for c in SpectrumSensing.builder_configs)
        raise ConfigError(f"data 'tfds:{name}': unknown data set; allowed: {allowed}")
    return config


def _prepared(config: str, manual_dir: str | Path | None, data_dir: str | Path | None) -> Any:
    """The builder, after preparing it where needed."""
    builder = SpectrumSensing(config=config, data_dir=data_dir)
    exists = Path(builder.data_dir).is_dir()
    if exists and manual_dir is None:
        return builder
    if manual_dir is None:  # DATA_DIR/spectrum_sensing/CONFIG/VERSION -> DATA_DIR
        manual_dir = Path(builder.data_dir).parents[2] / "downloads" / "manual"
    root = find_root(Path(manual_dir))
    if exists:
        if builder.info.metadata["fingerprint"] == fingerprint(root):
            return builder
        logger.warning("tfds:spectrum_sensing/%s: %s has changed, preparing again", config, root)
        # TFDS refuses to replace data of a builder that has read them; a fresh one finds none.
        shutil.rmtree(builder.data_dir)
        builder = SpectrumSensing(config=config, data_dir=data_dir)
    download = tfds.download.DownloadConfig(manual_dir=str(manual_dir), try_download_gcs=False)
    prepared.forget_sources()
    with contextlib.redirect_stdout(sys.stderr):  # TFDS prints; stdout is the user's
        builder.download_and_prepare(download_config=download, file_format="array_record")
    return builder
