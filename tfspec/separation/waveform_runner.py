"""Running an exported waveform model, block by block, with NumPy and LiteRT alone."""

from __future__ import annotations

import os

import numpy as np

from tfspec.deploy.metadata import INSTALL_HINT, read_bytes, read_metadata
from tfspec.errors import AudioError, ModelError

MIXTURE, STEMS = "mixture", ("vocals", "accompaniment")
NEXT = "next_"  # the output `next_NAME` is the input `NAME` of the next call


class WaveformFile:
    """A waveform .tflite of `tfspec export --waveform`: samples in, stems out.

    Args:
        path: the file.
        num_threads: of LiteRT; its own choice when None.

    Attributes:
        sample_rate: Hz of all samples.
        block_samples: samples of one call.
        latency_samples: by how much the stems lag behind; 0 for the fixed form.
        streaming: whether calls belong together.

    Raises:
        ModelError: missing, damaged, or no waveform model of tfspec.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int | None = None) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ModelError(INSTALL_HINT) from error
        content, name = read_bytes(path)
        plan = read_metadata(path).get("waveform")
        if plan is None:
            raise ModelError(f"{name}: is no waveform model; export one with --waveform")
        self.streaming = bool(plan["states"])
        self.latency_samples = int(plan["latency_samples"]) if self.streaming else 0
        self.sample_rate = int(plan["front_end"]["stft"]["sample_rate"])
        self._states = {key: tuple(shape) for key, shape in plan["states"].items()}
        self._runner = Interpreter(
            model_content=content, num_threads=num_threads
        ).get_signature_runner()
        self.block_samples = int(self._runner.get_input_details()[MIXTURE]["shape"][1])
        self.reset()

    def reset(self) -> None:
        """Starts a new signal."""
        self._state = {name: np.zeros(shape, np.float32) for name, shape in self._states.items()}

    def process(self, block: np.ndarray) -> dict[str, np.ndarray]:
        """Stems of one block, `(block_samples,)` each; lagging by `latency_samples`.

        Args:
            block: mono samples `(block_samples,)` in [-1, 1].

        Raises:
            AudioError: another shape.
        """
        if block.shape != (self.block_samples,):
            raise AudioError(
                f"`block` must have the shape ({self.block_samples},). Received: {block.shape}"
            )
        fed = block.astype(np.float32)[None]
        outputs = self._runner(**{MIXTURE: fed}, **self._state)
        self._state = {name: outputs[NEXT + name] for name in self._states}
        return {name: outputs[name][0] for name in STEMS}

    def separate(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Stems of a whole signal, aligned with it; it starts a new one.

        Args:
            waveform: mono samples `(samples,)`; for the fixed form at most `block_samples`.

        Raises:
            AudioError: another shape, or too long for the fixed form.
        """
        if waveform.ndim != 1 or not (self.streaming or len(waveform) <= self.block_samples):
            raise AudioError(
                f"`waveform` must be mono, of at most {self.block_samples} samples unless the "
                f"model streams. Received: shape {waveform.shape}"
            )
        self.reset()
        length, block = len(waveform), self.block_samples
        calls = max(1, -(-(length + self.latency_samples) // block))
        padded = np.zeros(calls * block, np.float32)
        padded[:length] = waveform
        parts = [self.process(padded[i : i + block]) for i in range(0, len(padded), block)]
        start = self.latency_samples
        return {
            name: np.concatenate([part[name] for part in parts])[start : start + length]
            for name in STEMS
        }
