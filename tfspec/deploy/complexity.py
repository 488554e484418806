"""Multiply-adds and peak activation of a Keras model, before any conversion.

Counting rules: one MAC is one multiply-add; convolution `out_positions * kernel * Cin/groups *
Cout`, transposed convolution `in_positions * kernel * Cin * Cout`; biases, norms, activations,
resizing, pooling and concatenation count nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tfspec.errors import ModelError

if TYPE_CHECKING:
    import keras


def count_macs(model: keras.Model) -> int:
    """Returns the multiply-adds of one example.

    Args:
        model: functional model with fixed dimensions; nested models and layers used several
            times count each time.

    Raises:
        ModelError: the model is not functional, or a dimension is not fixed.
    """
    total = 0
    for layer, inputs, outputs in _calls(model):
        if _graph(layer) is not None:
            total += count_macs(layer)
        else:
            total += _layer_macs(layer, inputs[0].shape, outputs[0].shape) if inputs else 0
    return total


def peak_activation(model: keras.Model) -> int:
    """Returns the most elements alive at once: in int8 the same number of bytes.

    The maximum over the layers, in the model's order, of the running layer's inputs and output
    plus the tensors that later layers still need. Batch normalisation, activations and dropout
    work in place. A lower bound of the interpreter's arena; plan 25 % more.

    Args:
        model: functional model with fixed dimensions.

    Raises:
        ModelError: the model is not functional, or a dimension is not fixed.
    """
    calls = list(_calls(model))
    graph = _graph(model)
    uses = Counter(id(t) for _, inputs, _ in calls for t in inputs)
    uses.update(id(t) for t in graph.outputs)
    alive = {id(t): _elements(model, t) for t in graph.inputs}
    peak = 0
    for layer, inputs, outputs in calls:
        if _graph(layer) is not None:
            inside = peak_activation(layer) - sum(_elements(model, t) for t in inputs)
            peak = max(peak, sum(alive.values()) + inside)
        in_place = _works_in_place(layer) and all(uses[id(t)] == 1 for t in inputs)
        alive.update({id(t): _elements(model, t) for t in outputs})
        freed = sum(alive[id(t)] for t in inputs) if in_place else 0
        peak = max(peak, sum(alive.values()) - freed)
        for tensor in inputs:
            uses[id(tensor)] -= 1
            if uses[id(tensor)] == 0:
                alive.pop(id(tensor), None)
    return peak


def _graph(layer: Any) -> Any:
    """Returns the functional graph of a model, `None` for a plain layer."""
    graph = getattr(layer, "_functional", None) or layer  # a Sequential keeps its graph inside
    return graph if hasattr(graph, "_nodes_by_depth") else None


def _calls(model: keras.Model) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """Yields (layer, inputs, outputs) of each layer call in the order in which Keras runs them.

    Keras has no public name for the calls of a layer that is used several times.
    """
    graph = _graph(model)
    if graph is None:
        raise ModelError(f"model {model.name} must be functional to be counted")
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.is_input:
                yield node.operation, list(node.arguments.keras_tensors), list(node.output_tensors)


def _works_in_place(layer: Any) -> bool:
    from keras import layers

    kinds = (
        layers.BatchNormalization,
        layers.Activation,
        layers.ReLU,
        layers.LeakyReLU,
        layers.PReLU,
        layers.ELU,
        layers.Softmax,
        layers.Dropout,
        layers.SpatialDropout1D,
        layers.SpatialDropout2D,
        layers.GaussianNoise,
        layers.GaussianDropout,
    )
    return isinstance(layer, kinds)


def _elements(model: keras.Model, tensor: Any) -> int:
    if any(n is None for n in tensor.shape[1:]):
        raise ModelError(
            f"model {model.name} must have fixed dimensions to be counted. Received: "
            f"{tensor.name} of shape {tuple(tensor.shape)}"
        )
    return math.prod(tensor.shape[1:])


def _layer_macs(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    name = layer.name
    for kinds, rule in _rules():
        if isinstance(layer, kinds):
            if any(n is None for n in (*inputs[1:], *outputs[1:])):
                raise ModelError(
                    f"layer {name} must have fixed dimensions to be counted. Received: "
                    f"output shape {tuple(outputs)}"
                )
            return rule(layer, inputs, outputs)
    return 0


def _rules() -> list[tuple[tuple[type, ...], Callable[[Any, Any, Any], int]]]:
    """Rules by layer class, the more special class first (Keras derives some from others)."""
    from keras import layers

    return [
        ((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
        ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise),
        ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed),
        ((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
        ((layers.Dense,), _dense),
    ]


def _positions(layer: Any, shape: tuple[int, ...]) -> int:
    first = layer.data_format == "channels_first"
    return math.prod(shape[2:] if first else shape[1:-1])


def _channels(layer: Any, shape: tuple[int, ...]) -> int:
    return shape[1] if layer.data_format == "channels_first" else shape[-1]


def _convolution(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    kernel = math.prod(layer.kernel_size)
    return (
        _positions(layer, outputs)
        * kernel
        * (_channels(layer, inputs) // layer.groups)
        * layer.filters
    )


def _transposed(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    kernel = math.prod(layer.kernel_size)
    return _positions(layer, inputs) * kernel * _channels(layer, inputs) * layer.filters


def _depthwise(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    return _positions(layer, outputs) * math.prod(layer.kernel_size) * _channels(layer, outputs)


def _separable(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    middle = _channels(layer, inputs) * layer.depth_multiplier
    per_position = math.prod(layer.kernel_size) * middle + middle * layer.filters
    return _positions(layer, outputs) * per_position


def _dense(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    return math.prod(outputs[1:]) * inputs[-1]
