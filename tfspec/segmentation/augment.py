"""What changes a training example: flips, brightness and contrast, affine maps, as graph ops.

All randomness is stateless: the same seed gives the same example, on any number of threads. An
example is an image `(height, width, channels)`, float32 in [0, 1], and its label map
`(height, width)`, uint8 or int32.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from tfspec.errors import ConfigError
from tfspec.segmentation.losses import IGNORE_LABEL

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FILLS = ("background", "ignore")

_HORIZONTAL, _VERTICAL, _BRIGHTNESS, _AFFINE = range(4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Probabilities and ranges of the paper's augmentation; all off by default.

    Off, because none of it happens to a radio: a vertical flip puts lower frequencies above higher
    ones, a horizontal flip turns time round, and a carrier rotated by 15 degrees is a chirp that
    neither LTE nor 5G NR sends. Brightness and contrast of a spectrogram are levels, which random
    gain and SNR vary where they arise, in the synthesizer. The published code never ran its
    augmentation either: training and validation share one data set object, and the validation's
    transform is assigned last. `Augmentation.paper()` is what the paper's text describes.

    Attributes:
        horizontal_flip: probability.
        vertical_flip: probability.
        brightness_contrast: probability of a random brightness and contrast.
        affine: probability of a random affine map.
        brightness_limit: brightness is drawn from [-limit, limit] of full scale.
        contrast_limit: contrast is drawn from [1 - limit, 1 + limit].
        translate: shifts are drawn from [-translate, translate] of width and of height.
        scale: range of the magnification, the same for both axes.
        rotate_deg: angles are drawn from [-rotate_deg, rotate_deg], degrees.
        fill: label of what an affine map brings in from outside the image: `background` is class
            0, as in the paper's code, `ignore` is `ignore_label`. The image is black there.
        ignore_label: label of pixels that do not count.

    Raises:
        ConfigError: a value outside its range.
    """

    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    brightness_contrast: float = 0.0
    affine: float = 0.0
    brightness_limit: float = 0.2
    contrast_limit: float = 0.2
    translate: float = 0.1
    scale: tuple[float, float] = (0.8, 1.2)
    rotate_deg: float = 15.0
    fill: str = "background"
    ignore_label: int = IGNORE_LABEL

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(self.scale))
        for field, high in _RANGES.items():
            value = getattr(self, field)
            if not 0.0 <= value <= high:
                raise ConfigError(f"`{field}` must be in 0..{high:g}. Received: {field}={value!r}")
        if len(self.scale) != 2 or not 0.0 < self.scale[0] <= self.scale[1] < math.inf:
            raise ConfigError(
                f"`scale` must be (low, high) with 0 < low <= high. Received: scale={self.scale}"
            )
        if self.fill not in FILLS:
            raise ConfigError(f"`fill` must be one of {FILLS}. Received: fill={self.fill!r}")

    @classmethod
    def paper(cls, fill: str = "background") -> Augmentation:
        """What the paper's text describes, with the limits of its code."""
        return cls(
            horizontal_flip=0.5, vertical_flip=0.2, brightness_contrast=0.3, affine=0.5, fill=fill
        )

    @property
    def is_off(self) -> bool:
        """Whether examples stay as they are."""
        return not any(
            (self.horizontal_flip, self.vertical_flip, self.brightness_contrast, self.affine)
        )

    def apply(
        self, image: tf.Tensor, label_map: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Changes one example; what has probability 0 adds nothing to the graph.

        Args:
            image: float32 `(height, width, channels)`, in [0, 1].
            label_map: uint8 or int32 `(height, width)`.
            seed: int32 `(2,)`; another one for each example and epoch.

        Returns:
            Image and label map, same shapes and types.
        """
        if self.horizontal_flip:
            flip = _drawn(self.horizontal_flip, seed, _HORIZONTAL)
            image, label_map = _flipped(image, label_map, 1, flip)
        if self.vertical_flip:
            flip = _drawn(self.vertical_flip, seed, _VERTICAL)
            image, label_map = _flipped(image, label_map, 0, flip)
        if self.brightness_contrast:
            image = self._random_brightness_contrast(image, seed)
        if self.affine:
            image, label_map = tf.cond(
                _drawn(self.affine, seed, _AFFINE),
                lambda: self._random_affine(image, label_map, seed),
                lambda: (image, label_map),
            )
        return image, label_map

    def _random_brightness_contrast(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        change = _uniform([2], seed, _BRIGHTNESS)
        change = tf.where(
            _drawn(self.brightness_contrast, seed, _BRIGHTNESS), change, tf.zeros_like(change)
        )
        brightness, contrast = self.brightness_limit * change[0], self.contrast_limit * change[1]
        return brightness_contrast(image, brightness=brightness, contrast=1.0 + contrast)

    def _random_affine(
        self, image: tf.Tensor, label_map: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        x, y, magnify, turn = tf.unstack(_uniform([4], seed, _AFFINE))
        low, high = self.scale
        size = tf.cast(tf.shape(label_map), tf.float32)
        return affine(
            image,
            label_map,
            angle_deg=self.rotate_deg * turn,
            scale=(low + high) / 2 + (high - low) / 2 * magnify,
            shift=(self.translate * x * size[1], self.translate * y * size[0]),
            label_fill=self.ignore_label if self.fill == "ignore" else 0,
        )


def brightness_contrast(
    image: tf.Tensor, *, brightness: tf.Tensor | float, contrast: tf.Tensor | float
) -> tf.Tensor:
    """`contrast * image + brightness`, cut to [0, 1], as albumentations does it."""
    return tf.clip_by_value(image * contrast + brightness, 0.0, 1.0)


def affine(
    image: tf.Tensor,
    label_map: tf.Tensor,
    *,
    angle_deg: tf.Tensor | float,
    scale: tf.Tensor | float,
    shift: tuple[tf.Tensor | float, tf.Tensor | float],
    label_fill: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Magnifies and turns about the centre, then shifts: image bilinear, labels by nearest pixel.

    Args:
        image: float32 `(height, width, channels)`; 0 comes in from outside.
        label_map: uint8 or int32 `(height, width)`.
        angle_deg: degrees, from rightwards to downwards: clockwise to the eye.
        scale: magnification, > 0.
        shift: to the right and down, pixels.
        label_fill: label that comes in from outside.

    Returns:
        Image and label map, same shapes and types.
    """
    matrix = _inverse_map(tf.shape(label_map), angle_deg, scale, shift)

    def sample(values: tf.Tensor, interpolation: str, fill: float) -> tf.Tensor:
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=values[tf.newaxis],
            transforms=matrix,
            output_shape=tf.shape(values)[:2],
            fill_value=fill,
            interpolation=interpolation,
            fill_mode="CONSTANT",
        )
        return tf.ensure_shape(moved[0], values.shape)

    labels = sample(label_map[..., tf.newaxis], "NEAREST", float(label_fill))
    return sample(image, "BILINEAR", 0.0), labels[..., 0]


def imagenet_normalize(image: tf.Tensor) -> tf.Tensor:
    """Subtracts ImageNet's mean colour and divides by its deviation.

    Args:
        image: float32 `(..., 3)`, RGB in [0, 1].

    Returns:
        The same shape, roughly in [-2.1, 2.6].

    Raises:
        ConfigError: not three channels.
    """
    if image.shape[-1] != len(IMAGENET_MEAN):
        raise ConfigError(
            "`image` must have 3 channels, since ImageNet's statistics are of RGB. Received: "
            f"shape {tuple(image.shape)}"
        )
    return (image - tf.constant(IMAGENET_MEAN)) / tf.constant(IMAGENET_STD)


def _inverse_map(
    size: tf.Tensor,
    angle_deg: tf.Tensor | float,
    scale: tf.Tensor | float,
    shift: tuple[tf.Tensor | float, tf.Tensor | float],
) -> tf.Tensor:
    """Where each pixel of the result comes from: `(1, 8)`, as the op wants it."""
    angle = tf.convert_to_tensor(angle_deg, tf.float32) * (math.pi / 180)
    cosine, sine = tf.cos(angle) / scale, tf.sin(angle) / scale
    centre = (tf.cast(size, tf.float32) - 1.0) / 2.0
    x, y = centre[1] + shift[0], centre[0] + shift[1]  # where the centre goes
    zero = tf.zeros_like(angle)
    rows = [cosine, sine, centre[1] - cosine * x - sine * y]
    rows += [-sine, cosine, centre[0] + sine * x - cosine * y, zero, zero]
    return tf.stack(rows)[tf.newaxis]


def _flipped(
    image: tf.Tensor, label_map: tf.Tensor, axis: int, flip: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    return (
        tf.where(flip, tf.reverse(image, [axis]), image),
        tf.where(flip, tf.reverse(label_map, [axis]), label_map),
    )


def _drawn(probability: float, seed: tf.Tensor, kind: int) -> tf.Tensor:
    """True with the given probability, independently for each kind of change."""
    seed = tf.random.experimental.stateless_fold_in(seed, 2 * kind)
    return tf.random.stateless_uniform([], seed) < probability


def _uniform(shape: list[int], seed: tf.Tensor, kind: int) -> tf.Tensor:
    """Values in [-1, 1), independent of whether the change is drawn."""
    seed = tf.random.experimental.stateless_fold_in(seed, 2 * kind + 1)
    return tf.random.stateless_uniform(shape, seed, -1.0, 1.0)


_RANGES = {
    "horizontal_flip": 1.0,
    "vertical_flip": 1.0,
    "brightness_contrast": 1.0,
    "affine": 1.0,
    "brightness_limit": 1.0,
    "contrast_limit": 1.0,
    "translate": 1.0,
    "rotate_deg": 180.0,
}
