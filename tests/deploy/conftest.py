"""A small U-Net trained on spectrogram-like data, and its conversions, made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

SHAPE = (64, 32, 1)
FRONT_END = {"sample_rate": 11025, "n_fft": 1024, "hop_length": 256, "scaler": "max"}


def spectrograms(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Square roots of scaled mixture magnitudes, and the vocal masks; loud and quiet segments.

    "Vocals" are harmonics that glide, the accompaniment is steady lines and broadband noise.
    """
    rng = np.random.default_rng(seed)
    bins, frames = np.arange(SHAPE[0])[:, None], np.arange(SHAPE[1])[None]
    mixtures, masks = [], []
    for _ in range(count):
        pitch = rng.uniform(6, 12) * (1 + 0.1 * np.sin(frames / rng.uniform(3, 9)))
        glide = sum(np.exp(-((bins - k * pitch) ** 2)) / k for k in range(1, 5))
        steady = sum(
            np.exp(-((bins - rng.uniform(0, SHAPE[0])) ** 2) / 0.5) * rng.uniform(0.2, 1)
            for _ in range(5)
        )
        vocals = glide * (rng.random() + 0.3 * np.sin(frames / 4) ** 2)
        backing = steady + 0.05 * rng.random(SHAPE[:2])
        mixture = vocals + backing
        mixtures.append(np.sqrt(mixture / mixture.max() * 10 ** rng.uniform(-1, 0)))
        masks.append(vocals / mixture)
    as_float = [np.stack(x)[..., None].astype(np.float32) for x in (mixtures, masks)]
    return as_float[0], as_float[1]


@pytest.fixture(scope="session")
def front_end() -> Mapping[str, Any]:
    return FRONT_END


@pytest.fixture(scope="session")
def segments() -> np.ndarray:
    """Segments for calibration."""
    return spectrograms(24, seed=1)[0]


@pytest.fixture(scope="session")
def held_out() -> np.ndarray:
    """Segments that no training or calibration saw."""
    return spectrograms(8, seed=2)[0]


@pytest.fixture(scope="session")
def build_unet() -> Callable[..., Any]:
    """Builds the test's own small U-Net (two levels, mask output)."""
    import keras
    from keras import layers

    def block(x, filters, name, norm):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
        return layers.ReLU(name=f"{name}_relu")(norm(name=f"{name}_norm")(x))

    def build(norm=layers.BatchNormalization, dtype=None, name="unet", shape=SHAPE):
        with_dtype = keras.dtype_policies.get(dtype) if dtype else None
        previous = keras.config.dtype_policy()
        if with_dtype is not None:
            keras.config.set_dtype_policy(with_dtype)
        try:
            inputs = keras.Input(shape, name="spectrogram")
            first = block(inputs, 8, "encoder_1", norm)
            second = block(layers.MaxPooling2D(name="pool_1")(first), 16, "encoder_2", norm)
            x = block(layers.MaxPooling2D(name="pool_2")(second), 32, "bottleneck", norm)
            for level, (filters, skip) in enumerate(((16, second), (8, first))):
                x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"up_{level}")(x)
                x = layers.Concatenate(name=f"concat_{level}")([x, skip])
                x = block(x, filters, f"decoder_{level}", norm)
            mask = layers.Conv2D(1, 1, activation="sigmoid", name="mask", dtype="float32")(x)
            return keras.Model(inputs, mask, name=name)
        finally:
            keras.config.set_dtype_policy(previous)

    return build


@pytest.fixture(scope="session")
def unet(build_unet: Callable[..., Any]) -> Any:
    """The U-Net after some steps of training, so that its ranges are not those of a fresh one."""
    import keras

    keras.utils.set_random_seed(0)
    model = build_unet()
    model.compile(keras.optimizers.Adam(5e-3), "mae")
    mixtures, masks = spectrograms(64, seed=3)
    model.fit(mixtures, masks, batch_size=8, epochs=8, verbose=0)
    return model


@pytest.fixture(scope="session")
def converted(unet: Any, segments: np.ndarray) -> dict[str, bytes]:
    """The U-Net in every precision."""
    from tfspec.deploy.convert import PRECISIONS, convert

    return convert(unet, PRECISIONS, calibration=segments)


@pytest.fixture(scope="session")
def described(converted: dict[str, bytes], front_end: Mapping[str, Any]) -> dict[str, bytes]:
    """The same files with their description."""
    from tfspec.deploy.metadata import embed_metadata

    return {p: embed_metadata(b, {"front_end": front_end}) for p, b in converted.items()}
