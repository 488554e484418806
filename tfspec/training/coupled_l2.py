"""Adam with coupled L2, PyTorch's `weight_decay`, which Keras does not have."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from tfspec.errors import ConfigError


@keras.saving.register_keras_serializable(package="tfspec")
class CoupledL2Adam(keras.optimizers.Adam):
    """Adam with coupled L2, which is PyTorch's `Adam(weight_decay=l2)`.

    Adds `l2 * w` to the gradient of every trained variable (kernels, biases, normalisation) before
    the moments are updated. Keras' own `weight_decay` is another method, AdamW's: it shrinks the
    weights beside the gradient step. The penalty is not part of the reported loss, as in PyTorch.

    `epsilon` stands where Keras has it, added to a second moment not yet corrected for its bias;
    PyTorch corrects first. Steps differ by less than `epsilon / 0.03 / gradient`, relative.

    Args:
        learning_rate: number or schedule.
        l2: factor of the penalty's gradient, >= 0.
        epsilon: PyTorch's default, not Keras'.
        **kwargs: of `keras.optimizers.Adam`.

    Raises:
        ConfigError: `l2` is negative, or `weight_decay` is given too.
    """

    def __init__(
        self,
        learning_rate: Any = 5e-4,
        *,
        l2: float = 1e-4,
        epsilon: float = 1e-8,
        name: str = "coupled_l2_adam",
        **kwargs: Any,
    ) -> None:
        if not 0 <= l2 < math.inf:
            raise ConfigError(f"`l2` must be >= 0. Received: l2={l2}")
        if kwargs.get("weight_decay"):
            raise ConfigError(
                "`weight_decay` is decoupled and must be left out beside l2. Received: "
                f"weight_decay={kwargs['weight_decay']}"
            )
        super().__init__(learning_rate=learning_rate, epsilon=epsilon, name=name, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable by its gradient and `l2` times itself."""
        coupled = ops.add(gradient, ops.multiply(variable, ops.cast(self.l2, variable.dtype)))
        super().update_step(coupled, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "l2": self.l2}
