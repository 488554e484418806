"""M4A, AAC and multi-stream MP4 through the ffmpeg program, in bounded memory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfspec.errors import AudioError
from tfspec.signal import containers
from tfspec.signal.audio_source import AudioSource

# What `containers.sniff` calls a file, and the ffmpeg demuxer: never guessed by ffmpeg itself, so
# that no playlist or script format can reach it.
FORMATS = {"mp4": "mov", "aac": "aac", "matroska": "matroska", "asf": "asf"}
_INSTALL = "`apt-get install ffmpeg` (Debian, Ubuntu) or `brew install ffmpeg` (macOS)"


def _program(tool: str, name: str, audio_format: str) -> str:
    found = shutil.which(tool)
    if found is None:
        raise AudioError(
            f"{name}: {audio_format.upper()} audio needs the {tool} program, which is not "
            f"installed; {_INSTALL}, or convert the file to WAV or FLAC elsewhere"
        )
    return found


def _input(name: str, audio_format: str) -> list[str]:
    # The `file:` prefix keeps names with a colon or a leading dash from meaning something else.
    return ["-f", FORMATS[audio_format], "-i", f"file:{os.path.abspath(name)}"]


def probe_streams(name: str, audio_format: str) -> list[dict[str, Any]]:
    """The audio streams of a file as ffprobe describes them, at least one.

    Raises:
        AudioError: ffprobe is absent, or finds no audio.
    """
    command = [_program("ffprobe", name, audio_format), "-v", "error", "-select_streams", "a"]
    command += ["-show_entries", "stream=sample_rate,channels,duration", "-of", "json"]
    done = subprocess.run(
        command + _input(name, audio_format), capture_output=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise AudioError(f"{name}: cannot be read by ffmpeg ({_first_line(done.stderr)})")
    streams = json.loads(done.stdout).get("streams", [])
    if not streams:
        raise AudioError(f"{name}: has no audio stream; give a file with sound")
    return streams


def _first_line(message: bytes) -> str:
    lines = message.decode("utf-8", "replace").strip().splitlines()
    return lines[0].split("] ")[-1] if lines else "no reason given"


class FfmpegSource(AudioSource):
    """Decodes one audio stream by an ffmpeg process that writes float32 samples to a pipe.

    Args:
        name: path of the file.
        audio_format: a key of `FORMATS`.
        stream: number of the audio stream, from 0.
        padded: whether the padding of the last frame is kept, where the container declares how
            long the sound is. Other tools differ in this, so it is not left to ffmpeg's version.
    """

    slack = 4096  # samples: two frames of HE-AAC, see AudioSource.slack

    def __init__(self, name: str, audio_format: str, stream: int = 0, padded: bool = False) -> None:
        super().__init__(name, audio_format)
        with Path(name).open("rb") as file, containers.view(file) as data:
            damage = containers.find_damage(data, audio_format)
        if damage:
            raise self.damaged(damage)
        described = probe_streams(name, audio_format)[stream]
        self.sample_rate, self.channels = int(described["sample_rate"]), int(described["channels"])
        self._stream = stream
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._limit: int | None = None  # samples left, when the container declares its length
        with contextlib.ExitStack() as opening:
            opening.callback(self._stop)
            if audio_format == "mp4" and "duration" in described:
                self.n_samples = round(float(described["duration"]) * self.sample_rate)
                self._limit = None if padded else self.n_samples
            else:  # the duration of raw AAC is a guess from its bit rate
                self.n_samples = self._count()
            self.check_header()
            self._resources = opening.pop_all()

    def _count(self) -> int:
        total = 0
        while n_new := len(self._decode(1 << 16)):
            total += n_new
        self._stop()
        return total

    def _start(self) -> subprocess.Popen[bytes]:
        command = [_program("ffmpeg", self.name, self.format), "-v", "error", "-nostdin", "-xerror"]
        command += _input(self.name, self.format)
        command += ["-map", f"0:a:{self._stream}", "-c:a", "pcm_f32le", "-f", "f32le"]
        # Said explicitly, so that neither is changed by a default of ffmpeg's.
        command += ["-ar", str(self.sample_rate), "-ac", str(self.channels), "pipe:1"]
        # A file, not a pipe: a full pipe of messages would stop ffmpeg while we wait for samples.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _stop)
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors
        )

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _decode(self, n_samples: int) -> np.ndarray:
        if self._process is None:
            self._process = self._start()
        if self._limit is not None:
            n_samples = min(n_samples, self._limit)
        pipe = self._process.stdout
        if pipe is None or n_samples == 0:
            return np.zeros((0, self.channels), np.float32)
        # A buffered pipe returns fewer bytes than asked only at the end of the stream.
        data = pipe.read(n_samples * self.channels * 4)
        if len(data) < n_samples * self.channels * 4 and self._process.wait():
            raise self.damaged(self._message())
        block = np.frombuffer(data, "<f4").reshape(-1, self.channels).astype(np.float32)
        if self._limit is not None:
            self._limit -= len(block)
        return block

    def _message(self) -> str:
        if self._errors is None:
            return "no reason given"
        self._errors.seek(0)
        return _first_line(self._errors.read())
