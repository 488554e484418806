"""Mask estimators with known answers, for tests of what surrounds a network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfspec.separation.front_end import FrontEnd
from tfspec.signal.stft import StftConfig

FRONT_END = FrontEnd(
    stft=StftConfig(),
    segment_frames=128,
    scaler_kind="max",
    scaler_axis="segment",
    output="mask",
)


class FunctionMask:
    """A mask estimator made of a NumPy function of the magnitudes."""

    front_end = FRONT_END

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self.function = function
        self.calls: list[np.ndarray] = []

    def __call__(self, magnitude: np.ndarray) -> np.ndarray:
        """The function's mask; remembers what it was asked."""
        self.calls.append(magnitude)
        return np.broadcast_to(self.function(magnitude), magnitude.shape).astype(np.float32)

    def magnitude(self, magnitude: np.ndarray) -> np.ndarray:
        """Mask times magnitude."""
        return self(magnitude) * magnitude


def constant_mask(value: float) -> FunctionMask:
    """The same mask everywhere."""
    return FunctionMask(lambda magnitude: np.float32(value))
