"""Exported waveform models: the files, their card, and the runner that apps can copy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.separation.waveform_support import snr_db
from tfspec.errors import AudioError, ConfigError, ModelError
from tfspec.separation import Separator
from tfspec.separation.recipe import SeparationRecipe
from tfspec.separation.waveform_export import export_waveform
from tfspec.separation.waveform_runner import WaveformFile
from tfspec.signal.stft import StftConfig
from tfspec.synth.songs import synthesize_song


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A few steps of a small network."""
    from tfspec.separation.train import train

    folder = tmp_path_factory.mktemp("runs") / "nano"
    recipe = SeparationRecipe.preset(
        "nano", epochs=1, stft=StftConfig(sample_rate=8000, n_fft=256, hop_length=128)
    )
    train("synth:4", folder, recipe, verbose=False)
    return folder


@pytest.fixture(scope="module")
def streaming(run_folder):
    return export_waveform(run_folder, form="streaming")


@pytest.fixture(scope="module")
def song():
    """Two seconds; the end is silent, since `Separator` ends with the signal and a stream not."""
    mixture = synthesize_song(7, duration=2.0, sample_rate=8000, channels=1).mixture[:, 0]
    mixture[-2000:] = 0
    return mixture


@pytest.mark.slow
def test_stems_are_those_of_separator(streaming, run_folder, song):
    model = WaveformFile(streaming.files["float32"])
    lead = model.latency_samples - 128  # half a window, see WaveformPlan.lead_samples
    padded = np.concatenate([np.zeros(lead, np.float32), song])
    expected = Separator(run_folder).separate(padded, 8000)
    # 60 dB are promised; float32 sums in another order cost less than 1e-5.
    for name, stem in model.separate(song).items():
        assert snr_db(expected[name][lead:], stem) > 90
    mixed = sum(model.separate(song).values())
    assert snr_db(song, mixed) > 90


@pytest.mark.slow
def test_integer_network_is_smaller_and_close(streaming, song):
    exact = WaveformFile(streaming.files["float32"]).separate(song)["vocals"]
    model = WaveformFile(streaming.files["int8"])
    assert snr_db(exact, model.separate(song)["vocals"]) > 20  # as the network alone in int8
    sizes = {p: path.stat().st_size for p, path in streaming.files.items()}
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]
    # A second signal starts anew.
    np.testing.assert_array_equal(model.separate(song)["vocals"], model.separate(song)["vocals"])


@pytest.mark.slow
def test_card_says_how_to_call_it(streaming):
    card = json.loads((streaming.folder / "card.json").read_text(encoding="utf-8"))
    model = WaveformFile(streaming.files["float32"])
    assert card["waveform"]["latency_samples"] == model.latency_samples == 8 * 128 + 256 - 128
    named = {end["name"]: end["shape"] for end in card["files"]["float32"]["inputs"]}
    assert named.pop("mixture") == [1, model.block_samples]
    assert named == card["waveform"]["states"]
    page = (streaming.folder / "CARD.md").read_text(encoding="utf-8")
    assert f"feed {model.block_samples:,} samples" in page
    assert f"lag by {model.latency_samples:,} samples" in page
    proof = json.loads((streaming.folder / "verification.json").read_text(encoding="utf-8"))
    assert proof["passed"] and len(proof["checks"]) == 3 * 3


@pytest.mark.slow
def test_fixed_form_takes_one_segment(run_folder, song, tmp_path):
    report = export_waveform(run_folder, tmp_path / "out", precisions=["float32"])
    model = WaveformFile(report.files["float32"])
    part = song[: model.block_samples]
    expected = Separator(run_folder).separate(part, 8000)["vocals"]
    assert snr_db(expected, model.separate(part)["vocals"]) > 60
    with pytest.raises(AudioError, match=rf"of at most {model.block_samples} samples"):
        model.separate(np.zeros(model.block_samples + 1, np.float32))
    with pytest.raises(AudioError, match=r"`block` must have the shape"):
        model.process(np.zeros(3, np.float32))


def test_mistakes_are_one_line(run_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"`form` must be one of .* Received: 'endless'"):
        export_waveform(run_folder, form="endless")
    with pytest.raises(ConfigError, match=r"come in float32, float16, int8. Received: \['int4'\]"):
        export_waveform(run_folder, precisions=["int4"])
    with pytest.raises(ModelError, match=r"nothing.tflite: "):
        WaveformFile(tmp_path / "nothing.tflite")
