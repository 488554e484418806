"""Models that convert and run without any error and are wrong: what a gate must refuse.

Each is written operator by operator, so that the tests need no converter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from tests.deploy.handmade import Graph

INT8, INT16, INT32 = schema.TensorType.INT8, schema.TensorType.INT16, schema.TensorType.INT32
HALF = (1 / 16, 0)  # int8 steps of 1/16: -8 to 7.94


def integers(graph: Graph, name: str, values: Sequence[int] | np.ndarray) -> int:
    """A constant int32 tensor, such as a list of axes."""
    array = np.asarray(values, "<i4")
    index = graph.tensor(name, array.shape, array)
    graph.graph.tensors[index].type = INT32
    graph.model.buffers[-1].data = list(array.tobytes())
    return index


def int8_constant(graph: Graph, name: str, values: np.ndarray, scale: float) -> int:
    """A constant int8 tensor with zero point 0."""
    index = graph.tensor(name, values.shape, values, quantised=(scale, 0))
    graph.model.buffers[-1].data = list(values.astype(np.int8).tobytes())
    return index


def widened(graph: Graph) -> None:
    """Makes the graph's int8 tensors int16 and their operators those for int16."""
    for tensor in graph.graph.tensors:
        if tensor.type == INT8:
            tensor.type = INT16
            tensor.quantization.zeroPoint = [0]


def one_operator(
    name: str,
    shape: Sequence[int],
    result: Sequence[int],
    *,
    scales: tuple[tuple[float, int], tuple[float, int]] | None = (HALF, HALF),
    constant: Sequence[int] | None = None,
    options: tuple[int, object] = (0, None),
    version: int = 1,
    wide: bool = False,
) -> bytes:
    """One operator from `spectrogram` to `mask`; int8, int16 when `wide`, float without scales."""
    graph = Graph()
    before, after = scales or (None, None)
    start = graph.tensor("spectrogram", shape, quantised=before)
    inputs = [start] if constant is None else [start, integers(graph, "parameter", constant)]
    end = graph.tensor("mask", result, quantised=after)
    graph.operator(name, inputs, end, options, version)
    if wide:
        widened(graph)
    return graph.finish(start, end)


def two_inputs(
    name: str, shape: Sequence[int], second: np.ndarray, result: Sequence[int], wide: bool
) -> bytes:
    """An operator on `spectrogram` and a constant; int8, or int16 when `wide`."""
    graph = Graph()
    start = graph.tensor("spectrogram", shape, quantised=(1 / 16, 0))
    inputs = [start]
    if name == "PADV2":
        pads = np.array([[0, 0], [1, 1], [2, 0], [0, 0]])
        inputs.append(integers(graph, "paddings", pads))
    inputs.append(int8_constant(graph, "constant", second, 1 / 16))
    end = graph.tensor("mask", result, quantised=(1 / 16, 0) if name == "PADV2" else (1 / 4, -128))
    graph.operator(name, inputs, end, version=2)
    if wide:
        graph.model.buffers[-1].data = list(second.astype("<i2").tobytes())
        widened(graph)
    return graph.finish(start, end)


def rescaling(name: str, *, scales: bool = True) -> bytes:
    """RELU6 or RELU on its own between tensors of unequal scale, as behind a concatenation."""
    ends = (HALF, (6 / 255, -128)) if scales else None
    return one_operator(name, (1, 64), (1, 64), scales=ends, version=2 if scales else 1)


def tile() -> bytes:
    """What `UpSampling2D(interpolation="nearest")` becomes."""
    options = (schema.BuiltinOptions.TileOptions, schema.TileOptionsT())
    shapes = (1, 4, 4, 2), (1, 8, 8, 2)
    return one_operator("TILE", *shapes, constant=[1, 2, 2, 1], options=options, version=2)


def reduction(name: str, *, wide: bool = False) -> bytes:
    """SUM or MEAN over time, into another scale than the input's."""
    reducer = schema.ReducerOptionsT()
    options = (schema.BuiltinOptions.ReducerOptions, reducer)
    scales = (HALF, (1.0 if name == "SUM" else 1 / 32, 0))
    shapes = (1, 8, 16, 2), (1, 8, 2)
    return one_operator(
        name, *shapes, scales=scales, constant=[2], options=options, version=2, wide=wide
    )


def float_island() -> bytes:
    """An int8 file whose root is taken in float; the converter does this without a word."""
    graph = Graph()
    shape = (1, 64)
    start = graph.tensor("spectrogram", shape, quantised=(1 / 16, -128))
    real, root = graph.tensor("net/scaled/real", shape), graph.tensor("net/compress/Sqrt", shape)
    end = graph.tensor("mask", shape, quantised=(1 / 64, -128))
    graph.operator("DEQUANTIZE", [start], real, version=2)
    graph.operator("SQRT", [real], root)
    graph.operator("QUANTIZE", [root], end)
    return graph.finish(start, end)


def unset_variable() -> bytes:
    """Weights read from a variable that nothing sets: a conversion that lost track of them."""
    graph = Graph()
    start, end = graph.tensor("spectrogram", (1, 8)), graph.tensor("mask", (1, 8))
    handle, weights = graph.tensor("net/gain/handle", ()), graph.tensor("net/gain/read", (1, 8))
    graph.graph.tensors[handle].type = schema.TensorType.RESOURCE
    options = schema.VarHandleOptionsT()
    options.sharedName = "gain"
    kind = schema.BuiltinOptions.VarHandleOptions
    graph.operator("VAR_HANDLE", [], handle, (kind, options))
    graph.operator("READ_VARIABLE", [handle], weights)
    for code in graph.model.operatorCodes:
        code.deprecatedBuiltinCode = 127  # "see the other field", which has more bits
    multiply = (schema.BuiltinOptions.MulOptions, schema.MulOptionsT())
    graph.operator("MUL", [start, weights], end, multiply)
    return graph.finish(start, end)


def int8_convolution() -> bytes:
    """An int8 convolution with fused ReLU6: nothing is wrong with it. 4608 bytes of weights."""
    rng = np.random.default_rng(5)
    graph = Graph()
    start = graph.tensor("spectrogram", (1, 6, 6, 16), quantised=HALF)
    kernel = int8_constant(graph, "kernel", rng.integers(-127, 128, (32, 3, 3, 16)), 1 / 2048)
    bias = integers(graph, "bias", rng.integers(-5000, 5000, 32))
    graph.graph.tensors[bias].quantization = schema.QuantizationParametersT()
    graph.graph.tensors[bias].quantization.scale = [HALF[0] / 2048]
    graph.graph.tensors[bias].quantization.zeroPoint = [0]
    end = graph.tensor("mask", (1, 6, 6, 32), quantised=(6 / 255, -128))
    convolution = schema.Conv2DOptionsT()
    convolution.padding = schema.Padding.SAME
    convolution.strideH = convolution.strideW = 1
    convolution.dilationHFactor = convolution.dilationWFactor = 1
    convolution.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    options = (schema.BuiltinOptions.Conv2DOptions, convolution)
    graph.operator("CONV_2D", [start, kernel, bias], end, options, version=3)
    return graph.finish(start, end)


def edited(content: bytes, edit: Callable[[schema.ModelT], None]) -> bytes:
    """The file after `edit` changed its object tree."""
    tree = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    edit(tree)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(tree))


def with_external_buffers(content: bytes, smallest: int = 1024) -> bytes:
    """The same model with its large buffers behind the flatbuffer, as one quantiser writes it."""
    moved: dict[int, bytes] = {}

    def take_out(tree: schema.ModelT) -> None:
        for index, buffer in enumerate(tree.buffers):
            data = b"" if buffer.data is None else bytes(bytearray(buffer.data))
            if len(data) >= smallest:
                moved[index] = data
                buffer.data, buffer.offset, buffer.size = None, 2, len(data)

    content = edited(content, take_out)
    places, position = {}, -(-len(content) // 16) * 16
    for index, data in moved.items():
        places[index] = position
        position += -(-len(data) // 16) * 16

    def point(tree: schema.ModelT) -> None:
        for index, place in places.items():
            tree.buffers[index].offset = place

    # The reader would pull the buffers in; the tree is built without it.
    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    point(tree)
    packed = bytes(flatbuffer_utils.convert_object_to_bytearray(tree))
    assert len(packed) == len(content)
    file = bytearray(position)
    file[: len(packed)] = packed
    for index, data in moved.items():
        file[places[index] : places[index] + len(data)] = data
    return bytes(file)


def without_weights(content: bytes) -> bytes:
    """The same model with empty weights, as some ways into the converter write it."""

    def empty(tree: schema.ModelT) -> None:
        largest = max(tree.buffers, key=lambda b: 0 if b.data is None else len(b.data))
        largest.data = None

    return edited(content, empty)
