"""Songs that TensorFlow Datasets has prepared: random access to single stems."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfspec.datasets.tracks import SOURCES

STEMS = ("mixture", *SOURCES)


@dataclasses.dataclass(frozen=True)
class PreparedLoader:
    """Reads one song of a prepared data set, decoding only the stems that are asked for."""

    directory: str
    split: str
    index: int

    def __call__(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Returns the named stems, each `(samples, 2)` float32."""
        record = _read_record(self.directory, self.split, self.index, names)
        return {name: record[name].astype(np.float32) * record["scale"] for name in names}


def forget_sources() -> None:
    """Closes the files of data sets that are about to be prepared again."""
    _open_source.cache_clear()


def _read_record(
    directory: str, split: str, index: int, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """The wanted features of one record."""
    wanted = (*names, "scale")
    skip = {name: tfds.decode.SkipDecoding() for name in STEMS if name not in wanted}
    builder, source = _open_source(directory, split)
    if source is not None:
        record = source.data_source[index]
        features = builder.info.features
        return features.deserialize_example_np(record, decoders=skip)
    # TFRecord, as `tfds.load` prepares it: only the shard that holds the record is read.
    instruction = tfds.core.ReadInstruction(split, from_=index, to=index + 1, unit="abs")
    return next(iter(tfds.as_numpy(builder.as_dataset(split=instruction, decoders=skip))))


@functools.lru_cache(maxsize=8)
def _open_source(directory: str, split: str) -> tuple[Any, Any]:
    """The builder and, where its files allow random access, its data source."""
    builder = tfds.builder_from_directory(directory)
    if str(builder.info.file_format.value) == "array_record":
        return builder, builder.as_data_source(split)
    return builder, None
