"""Leaving a training at the user's wish, between two batches."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tfspec.errors import TrainingError


class TrainingInterrupted(TrainingError):
    """Ctrl-C or SIGTERM: the state is saved, and the same call continues.

    Attributes:
        epoch: index of the epoch that the next call continues, from 0.
        step: batches of that epoch already trained on.
    """

    def __init__(self, message: str, epoch: int, step: int) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step


class StopRequest:
    """Whether the user asked to stop."""

    requested = False


@contextlib.contextmanager
def catch_stop(say: Callable[[str], None] | None = None) -> Iterator[StopRequest]:
    """Turns the first Ctrl-C or SIGTERM into a flag that is looked at between batches.

    A KeyboardInterrupt in the midst of a step could leave weights and step count one batch apart.
    Python delivers signals to the main thread only; elsewhere nothing is caught.

    Args:
        say: is told, once, that the request was heard.
    """
    stop = StopRequest()
    previous: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, frame: Any) -> None:
        stop.requested = True
        restore()  # a second signal does what it always does
        if say:
            say("stopping after this batch; press Ctrl-C again to leave at once")

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                previous[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
