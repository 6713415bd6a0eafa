"""SIGINT and SIGTERM as a flag that a run asks between two pieces of work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Signals"]


class Interrupted(BaseException):
    """A signal came while the run was waiting for records."""


class Signals:
    """Turn the first SIGINT or SIGTERM into a flag; a second one ends the process as usual."""

    def __init__(self) -> None:
        self.number = 0
        self._waiting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # Whoever started us in the background with signals ignored keeps them so.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for other in self._before:
            signal.signal(other, signal.SIG_DFL)
        if self._waiting:
            raise Interrupted

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let a signal break into what is done inside, which must leave nothing half done."""
        self._waiting = True
        try:
            if self.number:
                raise Interrupted
            yield
        finally:
            self._waiting = False
