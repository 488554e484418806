"""Errors that a user can cause; the command line prints each as one line and exits with 2.

Programming errors are ordinary Python exceptions and keep their traceback.
"""

from __future__ import annotations


class TfspecError(Exception):
    """Base of every error that a user of tfspec can cause and mend."""


class AudioError(TfspecError):
    """An audio file or waveform that cannot be read, decoded or processed."""


class DataError(TfspecError):
    """A data set, track or training example that cannot be used."""


class ConfigError(TfspecError):
    """An option, recipe or configuration value outside what is allowed."""


class ModelError(TfspecError):
    """A model folder or model file that is missing, damaged or of another kind."""


class ExportError(TfspecError):
    """A conversion whose result failed its checks; nothing is written as a success."""


class OutputError(TfspecError):
    """An output file or folder that cannot be written."""


class TrainingError(TfspecError):
    """A training run that had to stop: NaN loss, unusable data, a run that does not match."""
