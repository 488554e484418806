"""Separation models as Keras functional models."""

from tfspec.separation.models.vocal_unet import PRESETS, vocal_unet

__all__ = ["PRESETS", "vocal_unet"]
