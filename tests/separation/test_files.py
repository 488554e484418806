"""Separation of files: formats, exact sums, names, and files that cannot be separated."""

from __future__ import annotations

import os

import numpy as np
import pytest
import soundfile

from tests.separation.masks import FunctionMask, constant_mask
from tfspec.errors import OutputError
from tfspec.separation.files import separate_file, separate_files
from tfspec.separation.predict import Separator

RATE = 22050


def separator() -> Separator:
    return Separator(FunctionMask(lambda m: m / (m + 1.0)))


def write_noise(path, seconds=2.0, channels=2, subtype="PCM_16", seed=0):
    noise = 0.2 * np.random.default_rng(seed).standard_normal((int(seconds * RATE), channels))
    soundfile.write(path, noise, RATE, subtype=subtype)
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", "PCM_16"), ("wav", "PCM_24"), ("flac", "PCM_16"), ("flac", "PCM_24")],
)
def test_pcm_stems_add_up_exactly(tmp_path, suffix, subtype):
    mixture = write_noise(tmp_path / "song.wav", subtype=subtype)
    files = separate_file(
        tmp_path / "song.wav", separator(), tmp_path / "out", suffix=suffix, subtype=subtype
    )
    stems = {name: soundfile.read(file, dtype="float64")[0] for name, file in files.items()}
    assert soundfile.info(files["vocals"]).subtype == subtype
    # Both lie on the grid of the mixture; float32 blocks limit 24 bits to one step, 2**-23.
    limit = 0 if subtype == "PCM_16" else 2**-23
    assert np.abs(stems["vocals"] + stems["accompaniment"] - mixture).max() <= limit


def test_float_stems(tmp_path):
    mixture = write_noise(tmp_path / "song.wav", subtype="FLOAT")
    files = separate_file(tmp_path / "song.wav", separator(), tmp_path / "out", subtype="FLOAT")
    total = sum(soundfile.read(file, dtype="float64")[0] for file in files.values())
    error_db = 10 * np.log10(np.mean((total - mixture) ** 2) / np.mean(mixture**2))
    assert error_db < -90  # the bound


def test_rate_channels_and_length_are_kept(tmp_path):
    write_noise(tmp_path / "song.wav", seconds=1.2345, channels=1)
    for file in separate_file(tmp_path / "song.wav", separator(), tmp_path / "out").values():
        info = soundfile.info(file)
        assert (info.samplerate, info.channels, info.frames) == (RATE, 1, int(1.2345 * RATE))


def test_a_bad_file_does_not_stop_the_others(tmp_path):
    write_noise(tmp_path / "good.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is no audio " * 50)
    paths = [tmp_path / name for name in ("empty.wav", "good.wav", "text.wav", "missing.wav")]
    written, errors = separate_files(paths, separator(), tmp_path / "out")
    assert list(written) == [str(paths[1])]
    assert sorted(errors) == sorted(str(paths[i]) for i in (0, 2, 3))
    for path, error in errors.items():
        assert path in str(error) and "\n" not in str(error)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good"]


def test_same_names_do_not_overwrite_each_other(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_noise(tmp_path / folder / "song.wav", seed=ord(folder))
    paths = [tmp_path / "a" / "song.wav", tmp_path / "b" / "song.wav"]
    written, errors = separate_files(paths, separator(), tmp_path / "out")
    assert not errors
    assert [files["vocals"].parent.name for files in written.values()] == ["song", "song_2"]


def test_nan_half_way_leaves_nothing_behind(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal((30 * RATE, 1)).astype(np.float32)
    noise[25 * RATE] = np.nan
    soundfile.write(tmp_path / "nan.wav", noise, RATE, subtype="FLOAT")
    written, errors = separate_files([tmp_path / "nan.wav"], separator(), tmp_path / "out")
    assert not written
    assert "nan.wav" in str(next(iter(errors.values())))
    assert not list((tmp_path / "out").rglob("*.wav"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_output_folder(tmp_path):
    write_noise(tmp_path / "song.wav")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="locked"):
        separate_file(tmp_path / "song.wav", separator(), tmp_path / "locked" / "out")


def test_output_folder_that_is_a_file(tmp_path):
    write_noise(tmp_path / "song.wav")
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="taken"):
        separate_file(tmp_path / "song.wav", separator(), tmp_path / "taken" / "out")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_is_an_output_error(tmp_path, monkeypatch):
    write_noise(tmp_path / "song.wav")
    monkeypatch.setattr(soundfile.SoundFile, "write", _no_space)
    with pytest.raises(OutputError, match="cannot be written"):
        separate_file(tmp_path / "song.wav", separator(), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def _no_space(self, data):
    with open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")


def test_clipped_input_and_output_are_limited_not_wrapped(tmp_path):
    square = np.sign(np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE))[:, None]
    soundfile.write(tmp_path / "clipped.wav", square, RATE, subtype="PCM_16")
    files = separate_file(tmp_path / "clipped.wav", Separator(constant_mask(1.0)), tmp_path / "out")
    vocals = soundfile.read(files["vocals"], dtype="float32")[0]
    inner = slice(2000, -2000)
    # Where the input is +1 the output is near +1, never the -1 of an overflow.
    assert np.all(vocals[inner] * square[inner, 0] > 0)


def test_real_music(tmp_path, shared_data):
    song = next((shared_data / "music").glob("*Lets_Go_Fishin*.ogg"))
    written, errors = separate_files([song], separator(), tmp_path / "out", suffix="flac")
    assert not errors
    mixture, _ = soundfile.read(song, dtype="float64", always_2d=True)
    stems = [soundfile.read(f, always_2d=True)[0] for f in next(iter(written.values())).values()]
    # OGG is not on the 16-bit grid: rounding of the accompaniment, half a step.
    assert np.abs(sum(stems) - mixture)[np.abs(mixture).max(axis=1) < 0.9].max() <= 2**-16 + 1e-7
