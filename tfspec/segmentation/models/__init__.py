"""Segmentation models as Keras functional models."""

from tfspec.segmentation.models.deeplab import deeplab_v3_plus
from tfspec.segmentation.models.lightsegnet import (
    PRESETS,
    convert_weights,
    device_form,
    lightsegnet,
)

__all__ = ["PRESETS", "convert_weights", "deeplab_v3_plus", "device_form", "lightsegnet"]
