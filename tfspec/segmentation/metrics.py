"""Scores of label maps: all from one confusion matrix, the boundary F1, and curves over SNR.

`confusion_matrices`, `Scores`, `boundary_f1` and `snr_curve` work on NumPy arrays, whatever the
network ran on; `ConfusionMatrix` is the same matrix and the same scores as a Keras metric. Rows of
a matrix are the true classes, columns the predicted ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import ndimage

from tfspec.errors import ConfigError, DataError
from tfspec.segmentation.losses import IGNORE_LABEL, resize_to_labels

_CARRY = 2**20  # float32 counts exactly up to 2**24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one confusion matrix; NaN where a score is not defined.

    Attributes:
        iou: per class, pixels that are of the class in both over those that are in either
            (Jaccard index); NaN for classes in neither.
        mean_iou: mean over the classes that occur in either: the paper's IoU.
        pixel_acc: share of right pixels.
        class_acc: per class, share of its pixels that were found (recall); NaN for classes that
            do not occur.
        mean_class_acc: mean over the classes that occur. The paper's code calls this its pixel
            accuracy.
        pixels: number of pixels scored.
    """

    iou: tuple[float, ...]
    mean_iou: float
    pixel_acc: float
    class_acc: tuple[float, ...]
    mean_class_acc: float
    pixels: int

    @classmethod
    def of(cls, matrix: np.ndarray) -> Scores:
        """Scores of a confusion matrix `(classes, classes)`, rows true, columns predicted.

        Raises:
            DataError: not a square matrix of counts.
        """
        matrix = np.asarray(matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or np.any(matrix < 0):
            raise DataError(
                "`matrix` must be a square matrix of counts >= 0. Received: shape "
                f"{matrix.shape}, smallest {matrix.min(initial=0)}"
            )
        iou, class_acc, pixel_acc = _ratios(matrix.astype(np.float64), np)
        return cls(
            iou=tuple(iou.tolist()),
            mean_iou=float(_defined_mean(iou, np)),
            pixel_acc=float(pixel_acc),
            class_acc=tuple(class_acc.tolist()),
            mean_class_acc=float(_defined_mean(class_acc, np)),
            pixels=int(matrix.sum()),
        )

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """As JSON values, per-class scores by class name, undefined ones as None."""
        by_name = zip(class_names, self.iou, self.class_acc, strict=True)
        return {
            "mean_iou": _json(self.mean_iou),
            "pixel_acc": _json(self.pixel_acc),
            "mean_class_acc": _json(self.mean_class_acc),
            "classes": {n: {"iou": _json(i), "acc": _json(a)} for n, i, a in by_name},
            "pixels": self.pixels,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class SnrBin:
    """Scores of the examples in one range of signal-to-noise ratios.

    Attributes:
        low_db: lower edge, included; NaN for examples without signal.
        high_db: upper edge, excluded except in the last range.
        examples: number of examples.
        matrix: the sum of their confusion matrices.
        scores: scores of that sum.
    """

    low_db: float
    high_db: float
    examples: int
    matrix: np.ndarray
    scores: Scores


@keras.saving.register_keras_serializable(package="tfspec")
class ConfusionMatrix(keras.metrics.Metric):
    """The confusion matrix over an epoch, and the scores that follow from it, under their names.

    Result: `mean_iou`, `pixel_acc`, `mean_class_acc` and `iou_0`, `iou_1`, ..., as defined by
    `Scores`; in `fit`, each is a column of its own. Counts are exact up to 2**44 pixels.

    Args:
        n_classes: classes, at least 2.
        ignore_label: label of pixels that do not count; None: there are none. Any other label
            that is no class is not counted either; the loss reports it.
        name: name of the metric.
        **kwargs: of `keras.metrics.Metric`.

    Input shape:
        labels: `(batch, height, width)` or `(batch, height, width, 1)`, integers in any type.
        logits: `(batch, height / n, width / n, classes)`, n = 1, 2, ...; interpolated as by the
        loss. At most 2**24 pixels per image.

    Raises:
        ConfigError: fewer than two classes, or logits of another number of classes.
    """

    def __init__(
        self,
        n_classes: int,
        *,
        ignore_label: int | None = IGNORE_LABEL,
        name: str = "confusion_matrix",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if n_classes < 2:
            raise ConfigError(f"`n_classes` must be >= 2. Received: n_classes={n_classes}")
        self.n_classes = n_classes
        self.ignore_label = ignore_label
        # Two digits to the base 2**20, because float32 alone would lose counts beyond 2**24 and
        # int32 overflow at 2**31; GPUs keep int32 variables of TensorFlow in host memory.
        shape = (n_classes, n_classes)
        self._units = self.add_weight(
            shape=shape, initializer="zeros", dtype="float32", name="units"
        )
        self._carries = self.add_weight(
            shape=shape, initializer="zeros", dtype="float32", name="carries"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch; sample weights have no meaning here and are not used."""
        logits = resize_to_labels(ops.convert_to_tensor(y_pred), ops.convert_to_tensor(y_true))
        if logits.shape[-1] != self.n_classes:
            raise ConfigError(
                f"{self.name}: the logits must be of {self.n_classes} classes. "
                f"Received: shape {tuple(logits.shape)}"
            )
        pixels = (ops.shape(logits)[0], -1)
        labels = ops.reshape(ops.cast(y_true, "int32"), pixels)
        counted = ops.logical_and(labels >= 0, labels < self.n_classes)
        if self.ignore_label is not None:
            counted = ops.logical_and(counted, labels != self.ignore_label)
        classes = ops.reshape(ops.argmax(logits, axis=-1), pixels)
        rows = ops.one_hot(ops.where(counted, labels, 0), self.n_classes, dtype="float32")
        rows = rows * ops.expand_dims(ops.cast(counted, "float32"), -1)
        columns = ops.one_hot(classes, self.n_classes, dtype="float32")
        # Sums of each image are exact; the batch is added up in integers.
        matrices = ops.matmul(ops.transpose(rows, (0, 2, 1)), columns)
        self._add(ops.sum(ops.cast(matrices, "int32"), axis=0))

    def _add(self, counts):
        counts = counts + ops.cast(self._units, "int32")
        self._units.assign(ops.cast(ops.mod(counts, _CARRY), "float32"))
        self._carries.assign_add(ops.cast(ops.floor_divide(counts, _CARRY), "float32"))

    @property
    def matrix(self) -> np.ndarray:
        """The counts, int64 `(n_classes, n_classes)`."""
        units, carries = (ops.convert_to_numpy(v) for v in (self._units, self._carries))
        return units.astype(np.int64) + _CARRY * carries.astype(np.int64)

    def result(self):
        """Returns the scores by name."""
        matrix = ops.convert_to_tensor(self._units) + _CARRY * self._carries
        iou, class_acc, pixel_acc = _ratios(matrix, ops)
        return {
            "mean_iou": _defined_mean(iou, ops),
            "pixel_acc": pixel_acc,
            "mean_class_acc": _defined_mean(class_acc, ops),
            **{f"iou_{index}": iou[index] for index in range(self.n_classes)},
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        own = {"n_classes": self.n_classes, "ignore_label": self.ignore_label}
        return {**super().get_config(), **own}


def confusion_matrices(
    labels: np.ndarray,
    predictions: np.ndarray,
    n_classes: int,
    *,
    ignore_label: int | None = IGNORE_LABEL,
) -> np.ndarray:
    """Counts pixels by true and predicted class, image by image.

    Args:
        labels: true classes, integers `(images, height, width)`.
        predictions: predicted classes, same shape.
        n_classes: classes.
        ignore_label: label of pixels that do not count; None: there are none.

    Returns:
        int64 `(images, n_classes, n_classes)`, rows true, columns predicted; its sum over the
        images is the matrix of the data set.

    Raises:
        DataError: the shapes differ, or a value is no class.
    """
    labels, predictions = _checked_maps(labels, predictions, n_classes, ignore_label)
    images = np.arange(len(labels))[:, np.newaxis, np.newaxis]
    cells = (images * n_classes + labels) * n_classes + predictions
    counted = slice(None) if ignore_label is None else labels != ignore_label
    counts = np.bincount(cells[counted].ravel(), minlength=len(labels) * n_classes**2)
    return counts.reshape(len(labels), n_classes, n_classes)


def boundary_f1(
    labels: np.ndarray,
    predictions: np.ndarray,
    n_classes: int,
    *,
    tolerance: float = 2.0,
    ignore_label: int | None = IGNORE_LABEL,
) -> np.ndarray:
    """F1 of the boundaries of each class in each image (Csurka et al., BMVC 2013).

    A boundary pixel of a class has one of its four neighbours in another class; neither the edge
    of the image nor an ignored neighbour makes a boundary. Precision is the share of predicted
    boundary pixels within `tolerance` of a true one, recall the share of true ones within
    `tolerance` of a predicted one.

    Args:
        labels: true classes, integers `(images, height, width)`.
        predictions: predicted classes, same shape.
        n_classes: classes.
        tolerance: Euclidean distance in pixels, >= 0. 0.75 % of the diagonal is usual: 2.7 pixels
            of 256 x 256.
        ignore_label: label of pixels that do not count; None: there are none.

    Returns:
        `(images, n_classes)`: 2PR / (P + R), 0 when only one of the two has a boundary or none is
        near, NaN when neither has one. `np.nanmean` over images gives the usual score by class.

    Raises:
        DataError: the shapes differ, or a value is no class.
        ConfigError: a negative tolerance.
    """
    if not tolerance >= 0:
        raise ConfigError(f"`tolerance` must be >= 0 pixels. Received: tolerance={tolerance}")
    labels, predictions = _checked_maps(labels, predictions, n_classes, ignore_label)
    counted = np.ones(labels.shape, bool) if ignore_label is None else labels != ignore_label
    scores = np.empty((len(labels), n_classes))
    for index in range(len(labels)):
        ends = [_inner_edges(m[index], counted[index]) for m in (labels, predictions)]
        for c in range(n_classes):
            true = ends[0] & (labels[index] == c)
            scores[index, c] = _f1(true, ends[1] & (predictions[index] == c), tolerance)
    return scores


def snr_curve(
    matrices: np.ndarray,
    snr_db: Sequence[float] | np.ndarray,
    edges_db: Sequence[float] | np.ndarray,
) -> tuple[SnrBin, ...]:
    """Scores by range of signal-to-noise ratio.

    Args:
        matrices: one confusion matrix per example, `(examples, classes, classes)`.
        snr_db: signal-to-noise ratio of each example in dB; NaN or minus infinity for examples
            without signal, which get a range of their own, the last.
        edges_db: edges of the ranges, rising; a range includes its lower edge, the last range
            both.

    Returns:
        The ranges that have examples, from low to high.

    Raises:
        DataError: the numbers of examples differ, or a ratio lies outside the edges.
        ConfigError: fewer than two edges, or edges that do not rise.
    """
    matrices, snr = np.asarray(matrices), np.asarray(snr_db, np.float64)
    edges = np.asarray(edges_db, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise ConfigError(f"`edges_db` must be rising numbers. Received: {tuple(edges_db)}")
    if snr.ndim != 1 or matrices.ndim != 3 or len(snr) != len(matrices):
        raise DataError(
            "`matrices` and `snr_db` must be of the same examples. Received: shapes "
            f"{matrices.shape} and {snr.shape}"
        )
    silent = np.isnan(snr) | (snr == -np.inf)
    outside = ~silent & ((snr < edges[0]) | (snr > edges[-1]))
    if outside.any():
        raise DataError(
            f"`snr_db` must lie in {edges[0]:g}..{edges[-1]:g} dB. "
            f"Received: {snr[outside][0]:g} in example {np.flatnonzero(outside)[0]}"
        )
    found = np.minimum(np.searchsorted(edges, snr, side="right") - 1, len(edges) - 2)
    found[silent] = len(edges) - 1
    limits = [*zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True), (math.nan, math.nan)]
    return tuple(_snr_bin(limits[number], matrices[found == number]) for number in np.unique(found))


def _snr_bin(limits: tuple[float, float], matrices: np.ndarray) -> SnrBin:
    matrix = matrices.sum(axis=0)
    return SnrBin(
        low_db=limits[0],
        high_db=limits[1],
        examples=len(matrices),
        matrix=matrix,
        scores=Scores.of(matrix),
    )


def _checked_maps(
    labels: np.ndarray, predictions: np.ndarray, n_classes: int, ignore_label: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both as int64, after checking shapes and values."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 3 or labels.shape != predictions.shape:
        raise DataError(
            "`labels` and `predictions` must have one shape (images, height, width). Received: "
            f"{labels.shape} and {predictions.shape}"
        )
    for name, maps in (("labels", labels), ("predictions", predictions)):
        if maps.dtype.kind not in "iu":
            raise DataError(f"`{name}` must be integers. Received: {maps.dtype}")
        wrong = (maps < 0) | (maps >= n_classes)
        if ignore_label is not None and name == "labels":
            wrong &= maps != ignore_label
        if wrong.any():
            raise DataError(
                f"`{name}` must be classes 0..{n_classes - 1}. Received: {maps[wrong][0]} in image "
                f"{np.argwhere(wrong)[0][0]}"
            )
    return labels.astype(np.int64), predictions.astype(np.int64)


def _inner_edges(classes: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Pixels with one of four neighbours in another class, both counted."""
    edges = np.zeros(classes.shape, bool)
    for axis in (0, 1):
        here = tuple(slice(None, -1) if a == axis else slice(None) for a in (0, 1))
        there = tuple(slice(1, None) if a == axis else slice(None) for a in (0, 1))
        differ = (classes[here] != classes[there]) & counted[here] & counted[there]
        edges[here] |= differ
        edges[there] |= differ
    return edges


def _f1(true: np.ndarray, predicted: np.ndarray, tolerance: float) -> float:
    if not true.any() and not predicted.any():
        return math.nan
    if not true.any() or not predicted.any():
        return 0.0
    # Distance to the nearest pixel of the set.
    precision = np.mean(ndimage.distance_transform_edt(~true)[predicted] <= tolerance)
    recall = np.mean(ndimage.distance_transform_edt(~predicted)[true] <= tolerance)
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def _ratios(matrix: Any, xp: Any) -> tuple[Any, Any, Any]:
    """IoU and recall by class and pixel accuracy; `xp` is NumPy or `keras.ops`."""
    hits = xp.diagonal(matrix)
    true, predicted = xp.sum(matrix, axis=1), xp.sum(matrix, axis=0)
    iou = _ratio(hits, true + predicted - hits, xp)
    return iou, _ratio(hits, true, xp), _ratio(xp.sum(hits), xp.sum(true), xp)


def _ratio(part: Any, whole: Any, xp: Any) -> Any:
    """`part / whole`, NaN where the whole is 0."""
    return xp.where(whole > 0, part / xp.maximum(whole, 1.0), math.nan)


def _defined_mean(values: Any, xp: Any) -> Any:
    """Mean of the values that are not NaN."""
    defined = xp.logical_not(xp.isnan(values))
    return _ratio(xp.sum(xp.where(defined, values, 0.0)), xp.sum(defined), xp)


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
