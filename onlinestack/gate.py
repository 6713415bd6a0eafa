"""A lock that is handed over in the order it was asked for, so that nobody waits for ever."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

__all__ = ["Gate"]


class Gate:
    """Lets one thread in at a time, first come, first served.

    The plain lock of Python may be taken again by the thread that just gave it back, however many
    others wait: a thread that learns without end would keep all predictions out. A copy or a
    pickle of a gate is a new one.

    Examples
    --------
    >>> gate = Gate()
    >>> with gate:
    ...     print("in")
    in
    """

    def __init__(self) -> None:
        self._lock, self._mutex = threading.Lock(), threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        if self._waiting or not self._lock.acquire(False):
            turn = threading.Lock()
            turn.acquire()
            with self._mutex:
                self._waiting.append(turn)
            self._call()
            turn.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        if self._waiting:
            self._call()

    def _call(self) -> None:
        """Take the lock for the first that waits; whoever holds it now calls again when done."""
        with self._mutex:
            if self._waiting and self._lock.acquire(False):
                self._waiting.popleft().release()

    def __reduce__(self) -> Any:
        return Gate, ()
