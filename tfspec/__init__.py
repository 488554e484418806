"""tfspec: train spectrogram models in Keras, ship them as verified TFLite."""

__version__ = "0.1.0"
