"""Learning from late labels: what is predicted now is learned when its label is known, as served.

The driver turns a stream of records, labels and time into quanta for the engine. The rows that a
quantum predicts come first in its block; behind them lie those that were served in an earlier one
and are learned now, copied back from the store of pending records. A record whose label is known
within the quantum that predicts it is learned from the row it has there, so that labels that come
at once make the same tape as the immediate path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN, LEARN_ONE, PREDICT, PREDICT_ONE, Block, Tape
from onlinestack.engine import QUANTUM, Engine
from onlinestack.features.values import canonical
from onlinestack.labels.attribution import Attribution, Lesson, Rules
from onlinestack.labels.pending import DONE, Pending
from onlinestack.metrics import BASELINES, Scoreboard

__all__ = ["Late", "LateLabel", "Served", "key_of", "microseconds"]

LIKELY = np.float32(0.9)
"""A correction counts p up to here, so that it weighs no more than ten records."""
ONE = np.float32(1)
FEW = 8
"""Records that are learned one by one, since the kernels' calls for one are kept."""
MOST = 2.0**62 / 1e6
"""Seconds that still fit into 64 bits in microseconds, with room for windows."""


@dataclass(slots=True)
class LateLabel:
    """A label, and where it comes in a stretch of records.

    Parameters
    ----------
    before
        How many records of the stretch come before it.
    id
        Of its record.
    y
        Whether that was clicked.
    time
        When, in microseconds; None where not known.
    """

    before: int
    id: str
    y: bool
    time: int | None = None


class Served(Protocol):
    """What the driver asks of a learner."""

    scoreboard: Any

    def nothing(self) -> Block:
        """Return a block of no records."""

    def lend(self) -> Block | None:
        """Return the laid block that single records are filled into; None while there is none."""

    def lay(self, block: Block) -> Block:
        """Return a block of hashed features with room for all that is made of them."""

    def kept(self, block: Block) -> dict[str, NDArray[Any]]:
        """Return the arrays of such a block that learning reads, by name, a row a record."""

    def take(self, block: Block, tape: Tape) -> None:
        """Run the engine; ``block.p`` then holds what was predicted for the rows predicted."""


class Late:
    """Predicts records and learns each when its label is known, from what was served.

    Use it through a learner's ``predict_proba_one``, ``label`` and ``follow``.

    Parameters
    ----------
    learner
        What predicts and learns.
    engine
        Its engine.
    rules
        When labels are learned.

    Attributes
    ----------
    store
        The pending records.
    attribution
        Time, ids and counts.
    """

    def __init__(self, learner: Served, engine: Engine, rules: Rules) -> None:
        self._learner, self._engine = learner, engine
        # What is learned in a quantum is read at its end only.
        self.store = Pending(rules.room + QUANTUM)
        self.attribution = Attribution(rules, self.store)
        self._block_of: Callable[[int, int], Block] | None = None
        self._start = 0
        self._answers: list[NDArray[np.float32]] = []
        self._clear()

    def _clear(self) -> None:
        """Begin a quantum."""
        self._op: list[int] = []
        self._row: list[int] = []
        """Of rows that were served before as -1, -2, ..."""
        self._numbers: list[int] = []
        """Numbers of the records predicted in the quantum, -1 for those not kept."""
        self._lessons: list[Lesson] = []
        self._late: list[int] = []
        """Numbers of the records served before that are learned in the quantum."""
        self._row_of: dict[int, int] = {}
        self._left: float = math.inf
        """Records that may be learned before the quantum must end."""

    def serve_one(self, block: Block, id: str, time: int | None) -> NDArray[np.float32]:
        """Predict one record, whose time `pass_to` was told before; return its row of ``p``."""
        self._begin(lambda start, stop: block, 0)
        self._predict(self.attribution.serve(id, time))
        answer: NDArray[np.float32] = self._end()[0]
        return answer

    def pass_to(self, time: int | None) -> None:
        """Let time pass, and note what is due by then, to be learned with what comes next."""
        for lesson in self.attribution.pass_to(time):
            self._learn(lesson)

    def label(self, id: str, y: bool, time: int | None) -> None:
        """Take in a label, and note what is to be learned."""
        self.pass_to(time)
        lesson = self.attribution.label(id, y, time)
        if lesson is not None:
            self._learn(lesson)

    def follow(
        self,
        block_of: Callable[[int, int], Block],
        rows: range,
        ids: Sequence[str | None],
        times: Sequence[int | None],
        labels: Iterable[LateLabel],
    ) -> NDArray[np.float32]:
        """Predict records and take in labels, in their order.

        Parameters
        ----------
        block_of
            Encodes the records from one row to another.
        rows
            The records to take.
        ids, times
            Of all rows; times in microseconds, None where not known.
        labels
            What comes between them, or behind the last.

        Returns
        -------
        ``float32[n, K]``: what was predicted for each record.
        """
        self._begin(block_of, rows.start)
        coming = iter(labels)
        label = next(coming, None)
        for row in rows:
            while label is not None and label.before <= row:
                self.label(label.id, label.y, label.time)
                label = next(coming, None)
            self.pass_to(times[row])
            self._predict(self.attribution.serve(ids[row], times[row]))
        while label is not None:
            self.label(label.id, label.y, label.time)
            label = next(coming, None)
        return self._end()

    def _begin(self, block_of: Callable[[int, int], Block], start: int) -> None:
        self._block_of, self._start, self._answers = block_of, start, []

    def _end(self) -> NDArray[np.float32]:
        self.flush()
        answers = self._answers
        self._block_of, self._answers = None, []
        return np.concatenate(answers) if answers else np.empty((0, 1), np.float32)

    # Steps.

    def _predict(self, number: int) -> None:
        row = len(self._numbers)
        self._op.append(PREDICT)
        self._row.append(row)
        self._numbers.append(number)
        if number >= 0:
            self._row_of[number] = row
        if len(self._op) == QUANTUM:
            self.flush()

    def _learn(self, lesson: Lesson) -> None:
        row = self._row_of.get(lesson.number)
        if row is not None and lesson.correction:
            # Its row has the label that it was learned with before.
            self.flush(lesson.number)
            row = None
        if row is None:
            self._late.append(lesson.number)
            row = -len(self._late)
        if not self._lessons and (due := self._engine.due()) is not None:
            self._left = due - self._engine.learned
        self._op.append(LEARN)
        self._row.append(row)
        self._lessons.append(lesson)
        self._left -= 1
        if self._left <= 0 or len(self._op) == QUANTUM:
            self.flush()

    def widen(self, before: Sequence[str], now: Sequence[str]) -> None:
        """Give the pending records room for plain numbers that were met.

        Parameters
        ----------
        before, now
            Names of the plain numbers, each in their order.
        """
        if len(before) < len(now):
            places = np.array([now.index(name) for name in before], np.int64)
            self.store.widen("numbers", places, len(now), np.nan)

    # Quanta.

    def flush(self, wanted: int | None = None) -> None:
        """Take the steps gathered so far; keep the record wanted, which is not done with."""
        if not self._op:
            return
        if self._op == [PREDICT]:
            self._predict_one(wanted)
        elif self._numbers or len(self._late) > FEW or not self._learn_one_by_one():
            self._quantum(wanted)
        self._clear()

    def _predict_one(self, wanted: int | None) -> None:
        """Take a single step, which predicts."""
        assert self._block_of is not None  # noqa: S101 - narrows a type
        block = self._block_of(self._start, self._start + 1)
        if block.time is None:
            block.time = np.full(1, np.nan)
        block = self._learner.lay(block)
        kept = self._kept(block)
        self._learner.take(block, PREDICT_ONE)
        self._score(block, PREDICT_ONE, kept)
        self._keep(block, kept, wanted)
        self._answers.append(block.p.copy())
        self._start += 1

    def _learn_one_by_one(self) -> bool:
        """Learn a few records served before; tell whether the block of one has been made yet."""
        block = self._learner.lend()
        if block is None:
            return False
        kept = self._kept(block)
        for done, lesson in enumerate(self._lessons):
            if not self.store.refill(lesson.number, block, kept):
                del self._late[:done], self._lessons[:done], self._op[:done], self._row[:done]
                self._row = [-1 - place for place in range(len(self._late))]
                self._quantum(None)
                return True
            self._teach(block, 0, lesson)
            self._learner.take(block, LEARN_ONE)
            if not lesson.correction:
                self._score(block, LEARN_ONE, kept)
        self.store.release(self.attribution.first)
        return True

    def _teach(self, block: Block, row: int, lesson: Lesson) -> None:
        """Give a row the label of its lesson, and the weight that it is learned with."""
        block.label[row] = lesson.label
        if lesson.correction:
            block.weight[row] /= ONE - min(block.p[row, 0], LIKELY)
        elif not lesson.label:
            block.weight[row] /= np.float32(self.attribution.rules.negatives.share)

    def _kept(self, block: Block) -> dict[str, NDArray[Any]]:
        """Return all arrays with a row a record that are kept, those of the board among them."""
        kept = self._learner.kept(block)
        kept["baselines"] = np.full((block.n, len(BASELINES)), 0.5, np.float32)
        return kept

    def _score(self, block: Block, tape: Tape, kept: dict[str, NDArray[Any]]) -> None:
        board: Scoreboard | None = self._learner.scoreboard
        if board is not None:
            board.update(block, tape, block.p, kept["baselines"])

    def _quantum(self, wanted: int | None) -> None:
        """Take the steps as one quantum."""
        fresh, late = len(self._numbers), np.array(self._late, np.int64)
        op, row = np.array(self._op, np.uint8), np.array(self._row, np.int32)
        row[row < 0] = fresh - 1 - row[row < 0]
        block = self._learner.lay(self._joined(fresh, late))
        kept = self._kept(block)
        if len(late):
            self.store.fill(late, fresh, block, kept)
        learned = row[op == LEARN]
        block.weight = block.weight.copy()  # what is kept is that served
        for place, lesson in zip(learned.tolist(), self._lessons, strict=True):
            self._teach(block, place, lesson)
        self._learner.take(block, Tape(op, row))
        scored = np.ones(len(op), np.bool_)
        scored[op == LEARN] = [not lesson.correction for lesson in self._lessons]
        self._score(block, Tape(op[scored], row[scored]), kept)
        self._keep(block, kept, wanted)
        if fresh:
            self._answers.append(block.p[:fresh].copy())
        self._start += fresh

    def _joined(self, fresh: int, late: NDArray[np.int64]) -> Block:
        """Return the rows that are predicted, and behind them room for those served before."""
        n = fresh + len(late)
        if fresh and self._block_of is not None:
            block = self._block_of(self._start, self._start + fresh)
        else:
            block = self._learner.nothing()
        index, value = block.index, block.value
        start, stop = block.start[:, :1], block.stop[:, :1]
        if len(late):
            more, count = self.store.features(late)
            behind = len(index) + np.cumsum(count)[:, None]
            index = np.concatenate([index, more])
            value = np.concatenate([value, np.ones(len(more), np.float32)])
            start = np.concatenate([start, behind - count[:, None]])
            stop = np.concatenate([stop, behind])
        return Block(
            label=np.full(n, np.nan, np.float32),
            weight=_longer(block.weight, n),
            initial=np.zeros(n, np.float32),
            row=np.zeros(n, np.int64),
            index=index,
            value=value,
            names=np.full((n, 1), ord("f"), np.uint8),
            start=start,
            stop=stop,
            numbers=_longer(block.numbers, n),
            opens=_longer(block.opens, n),
            closes=_longer(block.closes, n),
            records=None if block.records is None else _longer(block.records, n),
            time=_longer(np.full(fresh, np.nan) if block.time is None else block.time, n),
        )

    def _keep(self, block: Block, kept: dict[str, NDArray[Any]], wanted: int | None) -> None:
        """Put the rows just served that are still to be learned into the store."""
        numbers, store = np.array(self._numbers, np.int64), self.store
        known = numbers >= self.attribution.first
        known[known] = store.state[numbers[known] % max(1, store.size)] != DONE
        first = self.attribution.first
        if wanted is not None:
            known |= numbers == wanted
            first = min(first, wanted)
        if known.any():
            store.put(numbers[known], np.flatnonzero(known), block, kept)
        store.release(first)


def _longer(array: NDArray[Any], n: int) -> NDArray[Any]:
    """Return a copy of an array with n rows, those behind its own 0."""
    out = np.zeros((n, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out


def key_of(id: object) -> str:
    """Return an id as text, the same for 7, 7.0 and "7"."""
    return id if type(id) is str else canonical(id).decode("utf-8", "surrogateescape")


def microseconds(time: float | datetime) -> int:
    """Return a time given in seconds, or as a datetime, in whole microseconds.

    Raises
    ------
    ValueError
        Where it is none.

    Examples
    --------
    >>> from datetime import timezone
    >>> microseconds(1.5), microseconds(datetime(1970, 1, 2, tzinfo=timezone.utc))
    (1500000, 86400000000)
    """
    seconds = time.timestamp() if isinstance(time, datetime) else float(time)
    if not abs(seconds) < MOST:
        raise ValueError(f"time={time!r} is no time; give seconds, or a datetime")
    return round(seconds * 1e6)
