"""How quanta flow through parts: each part takes them in order, as soon as what it needs is there.

A part that waits for nobody works on the next quantum while those behind it still work on the one
before, so that processors stay busy though one part takes as long as all others together. Who runs
when depends on the machine; what each part sees does not, since it takes the quanta one after
another, each behind everything it needs.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple, TypeVar

from onlinestack.block import AHEAD, Block, Tape

__all__ = ["Flow", "Quantum"]

SOURCE, SETTLE = "source", "settle"
T = TypeVar("T")


class Quantum(NamedTuple):
    """Consecutive records that all parts run over.

    Parameters
    ----------
    start, stop
        First row, and the one behind the last.
    block, tape
        The records, and the steps over them.
    learned
        Labelled records learned behind it.
    settles
        Whether a part changes behind it, so that nobody begins the next one before.
    """

    start: int
    stop: int
    block: Block
    tape: Tape
    learned: int
    settles: bool


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="parts")


class Flow:
    """Take quanta through parts that wait for each other; iterate over those that are through.

    At most ``AHEAD + 1`` quanta are under way, the one the caller holds among them. The caller's
    thread works as well while it waits. Parts that nobody waits for, and those it asks about,
    begin the next quantum only once the caller has come back for it, so what they hold belongs to
    the quantum it was given.

    Parameters
    ----------
    source
        The quanta, in order; made one ahead of the other in any thread.
    needs
        For each part, those that must be through a quantum before it begins.
    step
        Runs a part over a block and its tape.
    settle
        Called with the count of labelled records learned behind a quantum that settles, when
        all parts are through it.
    cost
        What parts have cost so far; the dearest goes first.
    told
        Parts that the caller asks about between quanta.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> import numpy as np
    >>> seen = []
    >>> def quantum(k):
    ...     block = Block.of([[]])
    ...     return Quantum(k, k + 1, block, immediate_tape(block.label), k + 1, False)
    >>> step = lambda name, block, tape: seen.append(name)
    >>> needs = {"first": [], "second": ["first"]}
    >>> flow = Flow(map(quantum, range(2)), needs, step, print, {"first": 0, "second": 0})
    >>> [quantum.start for quantum in flow], sorted(seen)
    ([0, 1], ['first', 'first', 'second', 'second'])
    """

    def __init__(
        self,
        source: Iterator[Quantum],
        needs: Mapping[str, Sequence[str]],
        step: Callable[[str, Block, Tape], None],
        settle: Callable[[int], None],
        cost: Mapping[str, float],
        told: Collection[str] = (),
    ) -> None:
        self._source, self._step, self._settle, self._cost = source, step, settle, cost
        self._needs = needs
        self._held = set(needs).difference(*needs.values()).union(told)
        self._through = dict.fromkeys(needs, 0)
        """How many quanta each part is through."""
        self._live: deque[Quantum] = deque()
        """Quanta made that the caller has not done with."""
        self._done = 0
        self._busy: set[str] = set()
        self._settling = self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._news = threading.Condition()

    def __iter__(self) -> Iterator[Quantum]:
        pool = _pool(os.getpid())
        helpers = [pool.submit(self._work) for _ in range((os.cpu_count() or 1) - 1)]
        try:
            while (quantum := self._await()) is not None:
                yield quantum
                with self._news:
                    self._live.popleft()
                    self._done += 1
                    self._news.notify_all()
        finally:
            with self._news:
                self._stopped = True
                self._news.notify_all()
            wait(helpers)

    def _await(self) -> Quantum | None:
        """Work until the oldest quantum is through, and return it; None behind the last."""
        with self._news:
            while True:
                if self._error is not None:
                    raise self._error
                made = self._done + len(self._live)
                through = min(self._through.values(), default=made)
                if self._live and through > self._done and not (self._settling and made == through):
                    return self._live[0]
                if self._ended and not self._live:
                    return None
                self._turn()

    def _work(self) -> None:
        with self._news:
            while not self._stopped:
                self._turn()

    def _turn(self) -> None:
        """Do one thing that can be done now, or wait for news; called with the lock held."""
        chosen = self._choose()
        if chosen is None:
            self._news.wait()
            return
        self._busy.add(chosen)
        try:
            self._do(chosen)
        except BaseException as error:
            self._error, self._stopped = self._error or error, True
        self._busy.discard(chosen)
        self._news.notify_all()

    def _choose(self) -> str | None:
        """Return what can be done now: of the oldest quantum the dearest part."""
        if self._stopped:
            return None
        made = self._done + len(self._live)
        able = [
            (k, -self._cost[name], name)
            for name, k in self._through.items()
            if k < made
            and name not in self._busy
            and (name not in self._held or k == self._done)
            and all(self._through[other] > k for other in self._needs[name])
        ]
        if able:
            return min(able)[2]
        if self._settling:
            over = SETTLE not in self._busy and min(self._through.values(), default=made) == made
            return SETTLE if over else None
        free = SOURCE not in self._busy and not self._ended and len(self._live) <= AHEAD
        return SOURCE if free else None

    def _do(self, chosen: str) -> None:
        """Do what was chosen, without the lock."""
        if chosen == SOURCE:
            quantum = self._unlocked(lambda: next(self._source, None))
            if quantum is None:
                self._ended = True
            else:
                self._live.append(quantum)
                self._settling = quantum.settles
        elif chosen == SETTLE:
            self._unlocked(self._settle, self._live[-1].learned)
            self._settling = False
        else:
            quantum = self._live[self._through[chosen] - self._done]
            self._unlocked(self._step, chosen, quantum.block, quantum.tape)
            self._through[chosen] += 1

    def _unlocked(self, call: Callable[..., T], *arguments: object) -> T:
        self._news.release()
        try:
            return call(*arguments)
        finally:
            self._news.acquire()
