"""Small songs of noise and tones whose every sample is known."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfspec.datasets.tracks import Track

RATE = 11025


@dataclasses.dataclass(frozen=True)
class NoiseLoader:
    """Loads seeded noise as vocals and another source; picklable."""

    seed: int
    samples: int
    fault: str = ""

    def __call__(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The named stems, `(samples, 1)`."""
        rng = np.random.default_rng(self.seed)
        shape = (self.samples, 1)
        stems = {name: 0.1 * rng.standard_normal(shape) for name in ("vocals", "drums", "bass")}
        stems["other"] = 0.1 * rng.standard_normal(shape)
        # Vocals fall silent after two thirds.
        stems["vocals"][self.samples * 2 // 3 :] = 0
        stems["mixture"] = sum(stems.values())
        if self.fault == "nan":
            stems["vocals"][100] = np.nan
        if self.fault == "silent":
            stems["mixture"] *= 0
        if self.fault == "sum":
            stems["mixture"] = stems["mixture"] * 0.3
        return {name: stems[name].astype(np.float32) for name in names}


def noise_song(index: int, split: str = "train", seconds: float = 10.0, fault: str = "") -> Track:
    """One song; its name and origin tell its index."""
    samples = int(seconds * RATE)
    return Track(
        name=f"song-{index}",
        split=split,
        sample_rate=RATE,
        n_samples=samples,
        origin=f"noise seed {index}",
        loader=NoiseLoader(index, samples, fault),
    )


def noise_songs(train: int = 5, validation: int = 2, seconds: float = 10.0) -> list[Track]:
    """A little data set with a fixed split."""
    return [
        noise_song(i, "train" if i < train else "validation", seconds)
        for i in range(train + validation)
    ]
