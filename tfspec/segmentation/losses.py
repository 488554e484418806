"""What a segmentation network minimises: cross-entropy and Dice.

Section 4.3 of `lightsegnet`'s paper as its code computes it. Runs on every Keras backend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfspec.errors import ConfigError

IGNORE_LABEL = 255  # what fits a PNG and is no class


@keras.saving.register_keras_serializable(package="tfspec")
class CrossEntropyDice(keras.losses.Loss):
    """`cross_entropy * CE + dice * Dice` of logits and integer labels.

    CE is the mean over the pixels of `-log softmax(logits)[label]`, weighted by the class of the
    pixel as in `torch.nn.CrossEntropyLoss(weight=...)`. Dice takes each class over the whole
    batch, not per image: with `p = softmax(logits)` and one-hot labels `y`,
    `d_c = (2 sum(p_c y_c) + smooth) / (sum(p_c) + sum(y_c) + smooth)` and `Dice = 1 - mean(d_c)`,
    the mean weighted by class too. Pixels of `ignore_label` count in neither; where there are no
    others, CE and Dice are 0.

    A label that is neither a class nor `ignore_label` makes the loss NaN: a graph cannot raise on
    every backend, and `tfspec.training.fit` stops at NaN and names the files.

    Args:
        cross_entropy: factor of the cross-entropy.
        dice: factor of the Dice loss.
        class_weights: one weight > 0 per class; None: all equal.
        ignore_label: label of pixels that do not count; None: there are none.
        smooth: added to both sides of Dice's fraction.
        name: name of the loss.
        **kwargs: of `keras.losses.Loss`; the result is one number, which `reduction` keeps.

    Input shape:
        labels: `(batch, height, width)` or `(batch, height, width, 1)`, integers in any type.
        logits: `(batch, height / n, width / n, classes)`, n = 1, 2, ...; brought to the size of
        the labels by bilinear interpolation.

    Raises:
        ConfigError: an argument outside its range, sample weights, or shapes that do not fit.
    """

    def __init__(
        self,
        cross_entropy: float = 1.0,
        dice: float = 1.0,
        *,
        class_weights: Sequence[float] | None = None,
        ignore_label: int | None = IGNORE_LABEL,
        smooth: float = 1.0,
        name: str = "cross_entropy_dice",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if cross_entropy < 0 or dice < 0 or not math.isfinite(cross_entropy + dice):
            raise ConfigError(
                "`cross_entropy` and `dice` must be >= 0. Received: "
                f"cross_entropy={cross_entropy}, dice={dice}"
            )
        if cross_entropy == dice == 0:
            raise ConfigError("`cross_entropy` and `dice` must not both be 0: nothing is learned")
        if class_weights is not None and not all(0 < w < math.inf for w in class_weights):
            raise ConfigError(
                f"`class_weights` must be > 0. Received: class_weights={tuple(class_weights)}"
            )
        if not smooth > 0:
            raise ConfigError(f"`smooth` must be > 0. Received: smooth={smooth}")
        self.cross_entropy = cross_entropy
        self.dice = dice
        self.class_weights = None if class_weights is None else tuple(class_weights)
        self.ignore_label = ignore_label
        self.smooth = smooth

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns the loss; sample weights are refused, since Dice has no samples."""
        if sample_weight is not None:
            raise ConfigError(
                f"`sample_weight` is not supported by {self.name}; use class_weights or the label "
                f"{self.ignore_label} for pixels that do not count"
            )
        return super().__call__(y_true, y_pred)

    def call(self, y_true, y_pred):
        """Returns one number for the whole batch."""
        logits = resize_to_labels(y_pred, y_true)
        n_classes = logits.shape[-1]
        weights = self._weights(n_classes)
        labels, counted, wrong = _checked_labels(y_true, n_classes, self.ignore_label)
        one_hot = ops.one_hot(labels, n_classes, dtype=logits.dtype)
        one_hot = one_hot * ops.expand_dims(ops.cast(counted, logits.dtype), -1)
        log_p = ops.log_softmax(logits, axis=-1)
        loss = ops.where(wrong, math.nan, 0.0)
        if self.cross_entropy:
            loss = loss + self.cross_entropy * _cross_entropy(one_hot, log_p, weights)
        if self.dice:
            loss = loss + self.dice * _dice(one_hot, log_p, weights, self.smooth)
        return loss

    def _weights(self, n_classes: int):
        values = self.class_weights or (1.0,) * n_classes
        if len(values) != n_classes:
            raise ConfigError(
                f"`class_weights` must have one weight for each of the {n_classes} classes. "
                f"Received: class_weights={values}"
            )
        return ops.convert_to_tensor(values, dtype=self.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {
            **super().get_config(),
            "cross_entropy": self.cross_entropy,
            "dice": self.dice,
            "class_weights": self.class_weights,
            "ignore_label": self.ignore_label,
            "smooth": self.smooth,
        }


def resize_to_labels(logits, labels):
    """Brings logits of a network with an `output_stride` to the size of the labels.

    Args:
        logits: `(batch, height / n, width / n, classes)`.
        labels: `(batch, height, width)` or with one channel more.

    Returns:
        `(batch, height, width, classes)`, interpolated bilinearly between pixel centres.

    Raises:
        ConfigError: the labels' size is no multiple of the logits'.
    """
    size, wanted = tuple(logits.shape[1:3]), tuple(labels.shape[1:3])
    if size == wanted or None in (*size, *wanted):
        return logits
    if len(wanted) != 2 or any(w % s for s, w in zip(size, wanted, strict=True)):
        raise ConfigError(
            f"labels must have the logits' height and width {size} or a multiple of them. "
            f"Received: {wanted}"
        )
    return ops.image.resize(logits, wanted, interpolation="bilinear", data_format="channels_last")


def _checked_labels(labels, n_classes: int, ignore_label: int | None):
    """Labels as int32 with 0 where they do not count; where they count; whether one is wrong."""
    if len(labels.shape) == 4:
        labels = ops.squeeze(labels, axis=-1)
    labels = ops.cast(labels, "int32")
    counted = ops.logical_and(labels >= 0, labels < n_classes)
    allowed = counted
    if ignore_label is not None:
        ignored = labels == ignore_label
        allowed = ops.logical_or(counted, ignored)
        counted = ops.logical_and(counted, ops.logical_not(ignored))
    return ops.where(counted, labels, 0), counted, ops.logical_not(ops.all(allowed))


def _cross_entropy(one_hot, log_p, weights):
    weighted = one_hot * weights
    # Where every pixel is ignored, zero over next to nothing is zero.
    total = ops.maximum(ops.sum(weighted), keras.config.epsilon())
    return -ops.sum(weighted * log_p) / total


def _dice(one_hot, log_p, weights, smooth: float):
    counted = ops.sum(one_hot, axis=-1, keepdims=True)
    p = ops.exp(log_p) * counted
    axes = (0, 1, 2)
    overlap = 2.0 * ops.sum(p * one_hot, axis=axes) + smooth
    dice = overlap / (ops.sum(p, axis=axes) + ops.sum(one_hot, axis=axes) + smooth)
    return 1.0 - ops.sum(dice * weights) / ops.sum(weights)
