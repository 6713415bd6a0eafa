"""Quanta, tape and levels: how parts run over the stream, and what may change only in between.

A *part* is anything with ``run(block, tape)``, ``state()`` and ``restore(arrays, meta)``. Parts
say what they need and what they fill; the engine sorts them into levels and runs the levels over
one quantum after another. A part whose frozen side may change (bin edges, a generation) says at
which count of learned records it does, and the quantum ends there, whatever the size of the
blocks the source delivers.
"""

from __future__ import annotations

import functools
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import AHEAD, Block, Tape, immediate_tape

__all__ = ["QUANTUM", "Changing", "Engine", "Part", "State", "levels_of"]

QUANTUM = 4096
"""Most records a quantum holds."""
ENOUGH = 64
"""Records that are worth handing to another thread."""

State = tuple[dict[str, NDArray[Any]], dict[str, Any]]
"""What a part is made of: named arrays, and JSON."""


class Part(Protocol):
    """Something that predicts, learns or fills a namespace, record after record.

    ``fills`` names what it makes (a namespace, a score, or several), ``needs`` what must be there
    before.
    """

    needs: tuple[str, ...]

    @property
    def fills(self) -> str | tuple[str, ...]:
        """What it makes."""

    def run(self, block: Block, tape: Tape) -> None:
        """Take the steps of a quantum: fill at those that predict, learn at those that learn."""

    def state(self) -> State:
        """Return everything needed to go on as if never stopped."""

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned."""


class Changing(Protocol):
    """A part whose frozen side changes between quanta."""

    def next_change(self) -> int | None:
        """Return the count of learned records at which the next change is due, None for never."""

    def change(self) -> None:
        """Make the change; called when exactly that many records have been learned."""


def levels_of(parts: Mapping[str, Part]) -> list[list[str]]:
    """Sort parts into levels; those of one level share nothing and may run side by side.

    What no part fills is taken as given by the block.

    Raises
    ------
    ValueError
        Where parts wait for each other in a circle.

    Examples
    --------
    >>> from types import SimpleNamespace as P
    >>> a, b, c = P(fills="c", needs=("f",)), P(fills="a", needs=("c",)), P(fills="b", needs=("c",))
    >>> levels_of({"statistics": a, "one": b, "two": c})
    [['statistics'], ['one', 'two']]
    >>> levels_of({"pair": P(fills=("a", "b"), needs=()), "last": P(fills="d", needs=("b",))})
    [['pair'], ['last']]
    """
    makers: dict[str, list[str]] = {}
    for name, part in parts.items():
        for made in (part.fills,) if isinstance(part.fills, str) else part.fills:
            makers.setdefault(made, []).append(name)
    graph = {
        name: {m for r in part.needs for m in makers.get(r, ())} for name, part in parts.items()
    }
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise ValueError(
            f"the parts {circle} wait for each other; let one of them need less"
        ) from None
    order = list(parts)
    levels = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=order.index)
        levels.append(ready)
        sorter.done(*ready)
    return levels


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="level")


def _workers() -> ThreadPoolExecutor:
    """Return the threads that parts of a level run in; a forked process has its own."""
    return _pool(os.getpid())


class Engine:
    """Runs parts over quanta and keeps the clock: the count of labelled records learned.

    Parameters
    ----------
    parts
        Parts by name, the registry that snapshots and law tests walk. Those of one level run side
        by side in as many threads as there are processors.

    Attributes
    ----------
    learned
        Labelled records learned.
    seconds
        Processor seconds that each part has taken, by name.

    Examples
    --------
    >>> engine, label = Engine({}), np.zeros(5000, np.float32)
    >>> for start, stop, block, tape in engine.quanta(label, lambda a, b: Block.of([[]] * (b - a))):
    ...     engine.run(block, tape)
    ...     print(start, stop, engine.learned)
    0 4096 4096
    4096 5000 5000
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = dict(parts)
        self.levels = levels_of(self.parts)
        self.learned = 0
        self.seconds = dict.fromkeys(self.parts, 0.0)

    def quanta(
        self, label: NDArray[np.float32], block_of: Callable[[int, int], Block], learn: bool = True
    ) -> Iterator[tuple[int, int, Block, Tape]]:
        """Run the first level over consecutive records, and yield its quanta for `run`.

        The first level (features made from columns) works `AHEAD` quanta ahead in a thread of its
        own where there is more than one quantum. It reads nothing that later levels make, so
        nothing but time depends on it.

        Parameters
        ----------
        label
            ``float32[n]``: labels of the records, NaN where not known.
        block_of
            Makes the block of the records from one row to another; ``AHEAD + 1`` blocks live at a
            time.
        learn
            Whether labels are learned.

        Yields
        ------
        First row, the row behind the last, the block and its tape.
        """
        known = label if learn else np.full(len(label), np.nan, np.float32)
        steps = self._first_level(known, block_of)
        if len(label) <= QUANTUM or any(self._changing(self.levels[1:])):
            yield from steps
            return
        with ThreadPoolExecutor(1, thread_name_prefix="first level") as pool:
            coming = deque(pool.submit(next, steps, None) for _ in range(AHEAD))
            while (quantum := coming.popleft().result()) is not None:
                coming.append(pool.submit(next, steps, None))
                yield quantum

    def _first_level(
        self, label: NDArray[np.float32], block_of: Callable[[int, int], Block]
    ) -> Iterator[tuple[int, int, Block, Tape]]:
        """Cut quanta where a change is due, run the first level over each, make its changes."""
        start, n, learned = 0, len(label), self.learned
        while start < n:
            stop = min(n, start + QUANTUM)
            changes = [part.next_change() for part in self._changing(self.levels)]
            due = min((count for count in changes if count is not None), default=None)
            if due is not None and learned + (stop - start) >= due:
                known = np.flatnonzero(~np.isnan(label[start:stop]))
                if len(known) >= due - learned:
                    stop = start + int(known[due - learned - 1]) + 1
            block, tape = block_of(start, stop), immediate_tape(label[start:stop])
            learned += int(np.count_nonzero(tape.op))
            self._run(self.levels[:1], block, tape, learned)
            yield start, stop, block, tape
            start = stop

    def run(self, block: Block, tape: Tape) -> None:
        """Run the levels behind the first over a quantum, and move the clock."""
        self.learned += int(np.count_nonzero(tape.op))
        self._run(self.levels[1:], block, tape, self.learned)

    def run_one(self, block: Block, tape: Tape) -> None:
        """Run all levels over a block that is no part of a longer stretch: a single record."""
        self.learned += int(np.count_nonzero(tape.op))
        self._run(self.levels, block, tape, self.learned)

    def _run(self, levels: list[list[str]], block: Block, tape: Tape, learned: int) -> None:
        for level in levels:
            if len(level) == 1 or block.n < ENOUGH:
                for name in level:
                    self._step(name, block, tape)
                continue
            # Dearest first, so that no worker is left alone with it at the end.
            ordered = sorted(level, key=lambda name: -self.seconds[name])
            for done in [_workers().submit(self._step, name, block, tape) for name in ordered]:
                done.result()
        for part in self._changing(levels):
            if part.next_change() == learned:
                part.change()

    def _step(self, name: str, block: Block, tape: Tape) -> None:
        before = time.thread_time()
        self.parts[name].run(block, tape)
        self.seconds[name] += time.thread_time() - before

    def _changing(self, levels: list[list[str]]) -> list[Changing]:
        """Return the parts of some levels whose frozen side changes."""
        parts: Any = (self.parts[name] for level in levels for name in level)
        return [part for part in parts if hasattr(part, "next_change")]

    def state(self) -> State:
        """Return the state of every part, arrays under ``part/array``."""
        arrays: dict[str, NDArray[Any]] = {}
        meta: dict[str, Any] = {"learned": self.learned, "parts": {}}
        for name, part in self.parts.items():
            own, meta["parts"][name] = part.state()
            arrays.update({f"{name}/{key}": array for key, array in own.items()})
        return arrays, meta

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back what `state` returned, part by part.

        Raises
        ------
        ValueError
            Where the state is that of other parts.
        """
        if set(meta["parts"]) != set(self.parts):
            theirs, ours = sorted(meta["parts"]), sorted(self.parts)
            raise ValueError(
                f"the state has the parts {theirs}, the learner {ours}; use the same configuration"
            )
        self.learned = meta["learned"]
        for name, part in self.parts.items():
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
            part.restore(own, meta["parts"][name])
