"""Quanta, tape and parts: how parts run over the stream, and what may change only in between.

A *part* is anything with ``run(block, tape)``, ``state()`` and ``restore(arrays, meta)``. Parts
say what they need and what they fill; the engine works out who waits for whom and runs them over
one quantum after another. A part whose frozen side may change (bin edges, a generation) says at
which count of learned records it does, and the quantum ends there, whatever the size of the
blocks the source delivers.
"""

from __future__ import annotations

import bisect
import copy
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN_ONE, PREDICT_AND_LEARN_ONE, Block, Tape, immediate_tape
from onlinestack.flow import Flow, Quantum

__all__ = ["QUANTUM", "Changing", "Engine", "Part", "State", "copied", "needs_of"]

QUANTUM = 4096
"""Most records a quantum holds."""
ENOUGH = 64
"""Records that are worth handing to another thread."""

State = tuple[dict[str, NDArray[Any]], dict[str, Any]]
"""What a part is made of: named arrays, and JSON."""


class Part(Protocol):
    """Something that predicts, learns or fills a namespace, record after record.

    ``fills`` names what it makes (a namespace, a score, or several), ``needs`` what must be there
    before. A part may have `Bound.bind` besides, and ``told`` set where callers ask between quanta
    what it holds: it then does not work ahead.
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


Calls = list[Callable[[], object]]


class Bound(Protocol):
    """A part that is quicker over a block of one record that is filled again and again."""

    def bind(self, block: Block, tape: Tape) -> Calls:
        """Return what does the same as ``run(block, tape)``, for the arrays these have now.

        What is returned is called until the part was changed or restored; nothing of it need be
        done where a tape asks nothing of the part.
        """


class Changing(Protocol):
    """A part whose frozen side changes between quanta."""

    def next_change(self) -> int | None:
        """Return the count of learned records at which the next change is due, None for never.

        The answer is the same until `change` was called: quanta are cut by it before they run.
        """

    def change(self) -> None:
        """Make the change; called when exactly that many records have been learned."""


def needs_of(parts: Mapping[str, Part]) -> dict[str, list[str]]:
    """Return for each part those it waits for, parts sorted so that these come before it.

    What no part fills is taken as given by the block.

    Raises
    ------
    ValueError
        Where parts wait for each other in a circle.

    Examples
    --------
    >>> from types import SimpleNamespace as P
    >>> a, b = P(fills="c", needs=("f",)), P(fills=("a", "d"), needs=("c",))
    >>> c = P(fills="b", needs=("d",))
    >>> needs_of({"last": c, "statistics": a, "pair": b})
    {'statistics': [], 'pair': ['statistics'], 'last': ['pair']}
    """
    makers: dict[str, list[str]] = {}
    for name, part in parts.items():
        for made in (part.fills,) if isinstance(part.fills, str) else part.fills:
            makers.setdefault(made, []).append(name)
    needs = {
        name: sorted({m for r in part.needs for m in makers.get(r, ())})
        for name, part in parts.items()
    }
    try:
        return {name: needs[name] for name in TopologicalSorter(needs).static_order()}
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise ValueError(
            f"the parts {circle} wait for each other; let one of them need less"
        ) from None


class Engine:
    """Runs parts over quanta and keeps the clock: the count of labelled records learned.

    Parameters
    ----------
    parts
        Parts by name, the registry that snapshots and law tests walk. Those that do not wait for
        each other run side by side, in as many threads as there are processors.

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
    ...     print(start, stop, engine.learned)
    0 4096 4096
    4096 5000 5000
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = dict(parts)
        self.learned = 0
        self.seconds = dict.fromkeys(self.parts, 0.0)
        self._needs = needs_of(self.parts)
        self._changing: list[Any] = [p for p in parts.values() if hasattr(p, "next_change")]
        self.forget()

    def forget(self) -> None:
        """Bind parts anew; to be called where one was changed by others than the engine."""
        self._block: Block | None = None
        """The record run last, if it was one."""
        self._calls: list[tuple[Tape, Calls]] = []
        """What running it means, for each tape."""
        self._due: int | None = None
        self._served: Block | None = None
        """The same, if it was only predicted."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_block": None, "_calls": [], "_served": None}

    def due(self) -> int | None:
        """Return the count of labelled records learned at which a quantum must end, if any."""
        counts = [part.next_change() for part in self._changing]
        return min((count for count in counts if count is not None), default=None)

    def quanta(
        self,
        label: NDArray[np.float32],
        block_of: Callable[[int, int], Block],
        learn: bool = True,
        stops: Sequence[int] = (),
    ) -> Iterator[tuple[int, int, Block, Tape]]:
        """Run all parts over consecutive records, and yield the quanta that they are through.

        Parameters
        ----------
        label
            ``float32[n]``: labels of the records, NaN where not known.
        block_of
            Makes the block of the records from one row to another, in any thread, ahead of those
            that run; ``AHEAD + 1`` blocks live at a time.
        learn
            Whether labels are learned.
        stops
            Rows, growing, that a quantum is to end before, whatever comes of the others.

        Yields
        ------
        First row, the row behind the last, the block and its tape.
        """
        known = label if learn else np.full(len(label), np.nan, np.float32)
        for quantum in self._through(self._cut(known, block_of, stops), len(label)):
            yield quantum.start, quantum.stop, quantum.block, quantum.tape

    def run(self, block: Block, tape: Tape, *, again: bool = False) -> bool:
        """Run all parts over one block that is no part of a longer stretch.

        One record is quick from the third time on, if its block and tape are the same objects,
        their arrays filled anew.

        Parameters
        ----------
        block
            The records.
        tape
            Its steps; they may learn up to the count that `due` returns, no further.
        again
            Whether it is one record, the same as the last time: what was predicted then, and not
            learned since, need not be predicted again.

        Returns
        -------
        Whether rows were predicted.
        """
        if block is self._block or block.n == 1:
            if again and block is self._served:
                if tape.learns:
                    self._run_one(block, LEARN_ONE if tape is PREDICT_AND_LEARN_ONE else tape)
                return False
            self._run_one(block, tape)
            return tape.learns < len(tape.op)
        learned = self.learned + tape.learns
        quantum = Quantum(0, block.n, block, tape, learned, learned == self.due())
        for _ in self._through(iter([quantum]), block.n):
            pass
        return tape.learns < len(tape.op)

    def _run_one(self, block: Block, tape: Tape) -> None:
        learned = self.learned + tape.learns
        if block is not self._block:
            self.forget()
            self._block, self._due = block, self.due()
            for name in self._needs:
                self._step(name, block, tape)
        else:
            for call in self._bound(block, tape):
                call()
        self.learned = learned
        self._served = None if tape.learns else block
        if learned == self._due:
            self._settle(learned)

    def _bound(self, block: Block, tape: Tape) -> Calls:
        for known, calls in self._calls:
            if known is tape:
                return calls
        calls = []
        for name in self._needs:
            part: Any = self.parts[name]
            bind = getattr(part, "bind", None)
            calls += bind(block, tape) if bind else [functools.partial(part.run, block, tape)]
        self._calls.append((tape, calls))
        return calls

    def _cut(
        self,
        label: NDArray[np.float32],
        block_of: Callable[[int, int], Block],
        stops: Sequence[int],
    ) -> Iterator[Quantum]:
        """Cut records into quanta that end where they are to stop, and where a change is due."""
        start, n, learned = 0, len(label), self.learned
        while start < n:
            at = bisect.bisect_right(stops, start)
            border = stops[at] if at < len(stops) else n
            stop, due = min(n, start + QUANTUM, border), self.due()
            if due is not None and learned + (stop - start) >= due:
                known = np.flatnonzero(~np.isnan(label[start:stop]))
                if len(known) >= due - learned:
                    stop = start + int(known[due - learned - 1]) + 1
            tape = immediate_tape(label[start:stop])
            learned += tape.learns
            yield Quantum(start, stop, block_of(start, stop), tape, learned, learned == due)
            start = stop

    def _through(self, quanta: Iterator[Quantum], records: int) -> Iterator[Quantum]:
        """Run all parts over quanta, in other threads too if they have records enough."""
        self.forget()
        if records >= ENOUGH:
            told = [name for name, part in self.parts.items() if getattr(part, "told", False)]
            quanta = iter(Flow(quanta, self._needs, self._step, self._settle, self.seconds, told))
        for quantum in quanta:
            if records < ENOUGH:
                for name in self._needs:
                    self._step(name, quantum.block, quantum.tape)
                if quantum.settles:
                    self._settle(quantum.learned)
            self.learned = quantum.learned
            yield quantum

    def _settle(self, learned: int) -> None:
        for part in self._changing:
            if part.next_change() == learned:
                part.change()
        self.forget()

    def _step(self, name: str, block: Block, tape: Tape) -> None:
        before = time.thread_time()
        self.parts[name].run(block, tape)
        self.seconds[name] += time.thread_time() - before

    def state(self) -> State:
        """Return the state of every part, arrays under ``part/array``."""
        return _joined(self.learned, {name: part.state() for name, part in self.parts.items()})

    def capture(self) -> Callable[[], State]:
        """Return what gives the state of this moment later, in any thread.

        A part may have a ``capture`` of its own, which copies what `state` is made of where that
        is quicker than making it.
        """
        learned = self.learned
        later = {name: _capture(part) for name, part in self.parts.items()}
        return lambda: _joined(learned, {name: state() for name, state in later.items()})

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
        self.forget()
        for name, part in self.parts.items():
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
            part.restore(own, meta["parts"][name])


def copied(state: State) -> State:
    """Return a state that shares nothing with what it was taken of."""
    arrays, meta = state
    return {name: array.copy() for name, array in arrays.items()}, copy.deepcopy(meta)


def _capture(part: Any) -> Callable[[], State]:
    if hasattr(part, "capture"):
        own: Callable[[], State] = part.capture()
        return own
    state = copied(part.state())
    return lambda: state


def _joined(learned: int, states: Mapping[str, State]) -> State:
    """Return the states of parts as one."""
    arrays = {f"{name}/{key}": a for name, (own, _) in states.items() for key, a in own.items()}
    return arrays, {"learned": learned, "parts": {name: meta for name, (_, meta) in states.items()}}
