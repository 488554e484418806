"""Adam with coupled L2 against PyTorch's algorithm, transcribed in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfspec.errors import ConfigError
from tfspec.training.coupled_l2 import CoupledL2Adam


class PyTorchAdam:
    """`torch.optim.Adam(weight_decay=l2)` as its documentation lists the algorithm."""

    def __init__(self, rate: float, l2: float, eps: float = 1e-8) -> None:
        self.rate, self.l2, self.eps = rate, l2, eps
        self.m = self.v = 0.0
        self.t = 0

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        self.t += 1
        g = g + self.l2 * w
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        m_hat = self.m / (1 - 0.9**self.t)
        v_hat = self.v / (1 - 0.999**self.t)
        return w - self.rate * m_hat / (np.sqrt(v_hat) + self.eps)


@pytest.mark.parametrize("l2", [0.0, 1e-4, 0.3])
def test_steps_are_those_of_pytorchs_adam(rng, l2):
    kernel, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
    variables = [keras.Variable(kernel, name="kernel"), keras.Variable(bias, name="bias")]
    ours = CoupledL2Adam(1e-2, l2=l2)
    ours.build(variables)
    theirs = [PyTorchAdam(1e-2, l2), PyTorchAdam(1e-2, l2)]
    for _ in range(30):
        gradients = [0.1 * rng.normal(size=(4, 3)), 0.1 * rng.normal(size=3)]
        ours.apply([keras.ops.convert_to_tensor(g, "float32") for g in gradients])
        kernel = theirs[0].step(kernel, gradients[0])
        bias = theirs[1].step(bias, gradients[1])
    # 30 steps of 1e-2: float32 adds up to 30 roundings of 1e-7, and epsilon stands elsewhere.
    np.testing.assert_allclose(variables[0].numpy(), kernel, atol=5e-6)
    np.testing.assert_allclose(variables[1].numpy(), bias, atol=5e-6)


def test_penalty_is_not_decoupled(rng):
    # Without any gradient of the loss, coupled L2 makes Adam step by the full learning rate.
    variable = keras.Variable([5.0, -0.5])
    optimizer = CoupledL2Adam(1e-2, l2=1e-2)
    optimizer.build([variable])
    optimizer.apply([keras.ops.zeros(2)])
    np.testing.assert_allclose(variable.numpy(), [4.99, -0.49], atol=1e-5)


def test_penalty_reaches_every_weight_and_not_the_loss(rng):
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(2, 1, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="bn")(x))
    for weight in model.trainable_weights:
        weight.assign(rng.uniform(0.5, 1.0, weight.shape))
    before = [w.numpy() for w in model.trainable_weights]
    model.compile(CoupledL2Adam(1e-3, l2=10.0), lambda y, p: 0.0 * p)
    images = rng.normal(size=(2, 4, 4, 2)).astype(np.float32)
    assert model.train_on_batch(images, images) == 0.0
    assert len(before) == 4  # kernel, bias, gamma, beta
    for weight, old in zip(model.trainable_weights, before, strict=True):
        np.testing.assert_allclose(weight.numpy(), old - 1e-3, atol=1e-6)


def test_optimizer_comes_back_from_its_configuration():
    optimizer = CoupledL2Adam(2e-3, l2=5e-4)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, CoupledL2Adam)
    assert again.get_config() == optimizer.get_config()
    assert (again.l2, again.epsilon) == (5e-4, 1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"l2": -1.0}, "l2=-1.0"), ({"l2": 1e-4, "weight_decay": 0.1}, "weight_decay=0.1")],
)
def test_bad_arguments_of_the_optimizer(arguments, message):
    with pytest.raises(ConfigError, match=message):
        CoupledL2Adam(**arguments)
