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
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *error: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False

    def __reduce__(self) -> Any:
        return Gate, ()
