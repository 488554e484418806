"""Settings are checked, named and kept."""

from __future__ import annotations

import json

import pytest

from tfspec.errors import ConfigError
from tfspec.synth.radio import RadioConfig


def test_defaults_are_those_of_the_public_set() -> None:
    config = RadioConfig()
    assert (config.sample_rate, config.n_samples) == (61_440_000, 2_457_600)
    assert (config.image.height, config.image.width) == (256, 256)


def test_settings_survive_json() -> None:
    config = RadioConfig(snr_db=(0, 5), carriers=(0.5, 0.5), max_silence=None, labels="resources")
    assert RadioConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match=r"unknown \['snr'\]"):
        RadioConfig.from_dict({"snr": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate": 20_000_000}, "`sample_rate` must be a multiple of 7680000 Hz.*20000000"),
        ({"sample_rate": "61.44M"}, "`sample_rate` must be a multiple .*'61.44M'"),
        ({"duration": 0.001}, "`duration` must be 0.005 to 1 seconds. Received: duration=0.001"),
        ({"duration": float("nan")}, "`duration` must be .*nan"),
        ({"snr_db": (10, 0)}, r"`snr_db` must be the lowest .*\(10.0, 0.0\)"),
        ({"snr_db": (1, 2, 3)}, "`snr_db` must be the lowest"),
        ({"snr_db": 3}, "`snr_db` must be numbers. Received: snr_db=3"),
        ({"carriers": (0.5, 0.4)}, "`carriers` must be probabilities .* add up to 1"),
        ({"carriers": ()}, "`carriers` must be probabilities"),
        ({"carriers": (1.5, -0.5)}, "`carriers` must be probabilities"),
        ({"lte_share": 1.1}, "`lte_share` must be 0 to 1. Received: lte_share=1.1"),
        ({"switching": None}, "`switching` must be 0 to 1. Received: switching=None"),
        ({"fading": 1}, "`fading` must be True or False. Received: fading=1"),
        ({"max_frequency_offset": -1.0}, "`max_frequency_offset` must be 0 to 50000 Hz"),
        ({"max_silence": 0.0}, "`max_silence` must be 0.001 to 10 seconds or None"),
        ({"labels": "boxes"}, r"`labels` must be one of \['carrier', 'resources'\].*'boxes'"),
        ({"image_height": 33}, "`height` must be even"),
        ({"colour_map": "nope"}, "`colour_map` must be a colour map"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RadioConfig(**changes)  # type: ignore[arg-type]
