"""Small .tflite files written operator by operator: no converter, hence no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

FLOAT32, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8


class Graph:
    """Collects the tensors and operators of a model with one input and one output."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        values: np.ndarray | None = None,
        quantised: tuple[float, int] | None = None,
    ) -> int:
        """Adds a tensor: float32, int8 when `quantised` (scale, zero point); constant if valued."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, list(shape)
        tensor.type = FLOAT32 if quantised is None else INT8
        tensor.buffer = 0
        if quantised is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [quantised[0]]
            tensor.quantization.zeroPoint = [quantised[1]]
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = list(values.astype("<f4").tobytes())
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(
        self,
        name: str,
        inputs: Sequence[int],
        output: int,
        options: tuple[int, object] = (0, None),
        version: int = 1,
    ) -> None:
        """Adds an operator by its name in the schema."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = code.builtinCode
        code.version = version
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        operator.inputs, operator.outputs = list(inputs), [output]
        operator.builtinOptionsType, operator.builtinOptions = options
        self.model.operatorCodes.append(code)
        self.graph.operators.append(operator)

    def finish(self, start: int, end: int) -> bytes:
        """The .tflite, with the signature `serving_default` by the names of its ends."""
        self.graph.inputs, self.graph.outputs = [start], [end]
        self.model.subgraphs = [self.graph]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [self._map(start)], [self._map(end)]
        self.model.signatureDefs = [signature]
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))

    def _map(self, index: int) -> object:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = self.graph.tensors[index].name, index
        return entry


def classifier(weights: np.ndarray) -> bytes:
    """Softmax of a linear map; `weights` (classes, samples), `waveform` in, `scores` out."""
    graph = Graph()
    classes, samples = weights.shape
    start = graph.tensor("waveform", (1, samples))
    kernel = graph.tensor("weights", weights.shape, weights)
    bias = graph.tensor("bias", (classes,), np.zeros(classes))
    logits = graph.tensor("logits", (1, classes))
    end = graph.tensor("scores", (1, classes))
    dense = schema.FullyConnectedOptionsT()
    options = schema.BuiltinOptions
    graph.operator(
        "FULLY_CONNECTED", [start, kernel, bias], logits, (options.FullyConnectedOptions, dense)
    )
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    graph.operator("SOFTMAX", [logits], end, (options.SoftmaxOptions, softmax))
    return graph.finish(start, end)


def mask_network(kernel: np.ndarray, bias: float, bins: int, frames: int) -> bytes:
    """Sigmoid of one convolution: `compressed_magnitude` in, `mask` out, (1, bins, frames, 1).

    Args:
        kernel: (height, width), applied as TensorFlow does, without flipping.
        bias: of the one output channel.
        bins: frequencies.
        frames: times.
    """
    graph = Graph()
    shape = (1, bins, frames, 1)
    start = graph.tensor("compressed_magnitude", shape)
    weights = graph.tensor("kernel", (1, *kernel.shape, 1), kernel)
    offset = graph.tensor("bias", (1,), np.array([bias]))
    logits, end = graph.tensor("logits", shape), graph.tensor("mask", shape)
    convolution = schema.Conv2DOptionsT()
    convolution.padding = schema.Padding.SAME
    convolution.strideH = convolution.strideW = 1
    convolution.dilationHFactor = convolution.dilationWFactor = 1
    options = (schema.BuiltinOptions.Conv2DOptions, convolution)
    graph.operator("CONV_2D", [start, weights, offset], logits, options)
    graph.operator("LOGISTIC", [logits], end)
    return graph.finish(start, end)


def int8_sigmoid(samples: int, *, float_ends: bool) -> bytes:
    """An int8 sigmoid of `values` (1, samples) with output scale 1/256, int8 or float32 ends."""
    graph = Graph()
    shape = (1, samples)
    inside = ((1 / 16, 3), (1 / 256, -128))
    names = ("inside_in", "inside_out") if float_ends else ("values", "scores")
    first, last = (graph.tensor(n, shape, quantised=q) for n, q in zip(names, inside, strict=True))
    if not float_ends:
        graph.operator("LOGISTIC", [first], last, version=2)
        return graph.finish(first, last)
    start, end = graph.tensor("values", shape), graph.tensor("scores", shape)
    graph.operator("QUANTIZE", [start], first)
    graph.operator("LOGISTIC", [first], last, version=2)
    graph.operator("DEQUANTIZE", [last], end, version=2)
    return graph.finish(start, end)


def reshaper(samples: int, shape: Sequence[int]) -> bytes:
    """`waveform` (1, samples) in, the same values as `map` of another shape out."""
    graph = Graph()
    start = graph.tensor("waveform", (1, samples))
    wanted = graph.tensor("shape", (len(shape),), np.zeros(len(shape)))
    graph.graph.tensors[wanted].type = schema.TensorType.INT32
    graph.model.buffers[-1].data = list(np.array(shape, "<i4").tobytes())
    end = graph.tensor("map", shape)
    graph.operator("RESHAPE", [start, wanted], end)
    return graph.finish(start, end)
