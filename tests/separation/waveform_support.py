"""Conversion, runs and measures for tests of graphs that take samples."""

from __future__ import annotations

import keras
import numpy as np

LARGEST_FLOAT16 = 65504.0


def snr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Power of the reference over power of the error, in dB."""
    reference = np.asarray(reference, np.float64)
    error = np.sum((reference - estimate) ** 2)
    return float(10 * np.log10(np.sum(reference**2) / max(error, 1e-30)))


def to_tflite(model: keras.Model) -> bytes:
    """Float32 conversion in this process, without tfspec: quicker for small graphs."""
    import tensorflow as tf

    function = tf.function(
        lambda *inputs: model(list(inputs) if len(inputs) > 1 else inputs[0]),
        input_signature=[tf.TensorSpec(x.shape, name=x.name) for x in model.inputs],
    )
    module = tf.Module()
    module.values = [variable.value for variable in model.variables]
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def run_tflite(content: bytes, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """One run of the file's only signature."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content).get_signature_runner()
    return runner(**{name: np.asarray(x, np.float32) for name, x in inputs.items()})


def full_scale_signals(n: int) -> dict[str, np.ndarray]:
    time = np.arange(n)
    return {
        "DC": np.ones(n),
        "Nyquist": (-1.0) ** time,
        "sine": np.sin(2 * np.pi * 40 * time / 1024),  # on a bin: the largest peak
        "square": np.sign(np.sin(2 * np.pi * time / 50.3) + 1e-9),
        "noise": np.sign(np.random.default_rng(3).uniform(-1, 1, n)),
        "impulse": (time == n // 2).astype(float),
        "zeros": np.zeros(n),
    }


class Intermediates:
    """Every float tensor of a converted model on an input; no delegate may swallow any."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=content,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
        interpreter = self._interpreter
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        return {
            f"{d['index']} {d['name']}": interpreter.get_tensor(d["index"])
            for d in interpreter.get_tensor_details()
            if d["dtype"] == np.float32 and np.prod(d["shape"])
        }
