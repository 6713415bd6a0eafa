"""When a new generation is due: by records, by stream time, on drift.

A schedule is asked at counts of learned records that it names itself beforehand, so that quanta
can end there: a cut never depends on how records are grouped into blocks. What depends on data
(times, losses) is watched record after record, but decided upon at fixed counts only.

Notes
-----
The rule by records, in integers: the first cut is at ``first``; behind a cut at c the next of the
sequence is at ``c + min(c // 2, max(every, c // share))``. With the defaults: 1,000, 1,500,
2,250, 3,375, 5,062, 7,593, 11,389, 17,083, 25,624, 38,436, 57,654, 77,654, then each 20,000
records until 417,654, from where on each is a twentieth of the records later than the one before.
So the cost of training a record is bounded, however long the stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN, Block, Tape
from onlinestack.kernel import kernel

__all__ = ["NEVER", "ByRecords", "BySpan", "Schedule", "follow_times"]

NEVER = 2**63 - 1
"""Later than any record."""

START, CUT, LATEST = 0, 1, 2


class Schedule(Protocol):
    """Says when the next generation is due."""

    def watch(self, block: Block, tape: Tape) -> None:
        """Take in the rows a tape learns, one after another."""

    def next_check(self, learned: int, cut: int) -> int:
        """Return the count, above ``learned``, to be asked at next, the last cut given (or 0)."""

    def should_retrain(self, learned: int, cut: int) -> bool:
        """Tell whether a generation is due, at a count named before."""

    def note_cut(self, learned: int, cut: int) -> None:
        """Learn that a cut is made now, and where the one before it was."""

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return everything needed to go on as if never stopped."""

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned."""


class ByRecords:
    """A generation at growing distances, counted in records learned: the default.

    A count that passes while a training is still under way comes due one record after its swap.

    Parameters
    ----------
    first
        Count of the first cut.
    every
        Records between cuts, once half of the records seen are more.
    share
        Cuts are at least one ``share``-th of the records seen apart; 0 for no such bound.

    Raises
    ------
    ValueError
        Where a count cannot be met.

    Examples
    --------
    >>> schedule, cuts = ByRecords(), [0]
    >>> while cuts[-1] < 30_000:
    ...     cuts.append(schedule.next_check(learned=cuts[-1], cut=cuts[-1]))
    >>> cuts[1:]
    [1000, 1500, 2250, 3375, 5062, 7593, 11389, 17083, 25624, 38436]
    """

    def __init__(self, first: int = 1000, every: int = 20_000, share: int = 20) -> None:
        if first < 2 or every < 1 or share < 0:
            raise ValueError(
                f"first {first}, every {every} and share {share} were given; expected at least "
                "2, 1 and 0 records"
            )
        self.first, self.every, self.share = first, every, share

    def after(self, cut: int) -> int:
        """Return the first count of the sequence above a cut."""
        due = self.first
        while due <= cut:
            due += min(due // 2, max(self.every, due // self.share if self.share else 0))
        return due

    def watch(self, block: Block, tape: Tape) -> None:
        """Do nothing: the count is all it takes."""

    def next_check(self, learned: int, cut: int) -> int:
        """Return the count of the next cut."""
        return max(self.after(cut), learned + 1)

    def should_retrain(self, learned: int, cut: int) -> bool:
        """Tell whether the count of the next cut has been reached."""
        return learned >= self.after(cut)

    def note_cut(self, learned: int, cut: int) -> None:
        """Do nothing: the sequence does not move."""

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return nothing: the sequence follows from the settings."""
        return {}, {}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back nothing."""


@kernel()
def follow_times(op: Any, row: Any, times: Any, seen: Any) -> None:
    """Follow the time of the stream: the latest time of the rows learned so far.

    Parameters
    ----------
    op, row
        The tape.
    times
        ``float64[n]``: seconds; NaN where not known.
    seen
        ``float64[3]``: the first time, that of the last cut, the latest; NaN before the first.
    """
    for step in range(len(op)):
        if op[step] != LEARN:
            continue
        now = times[row[step]]
        if np.isnan(now):
            continue
        if np.isnan(seen[START]):
            seen[START] = now
            seen[CUT] = now
            seen[LATEST] = now
        seen[LATEST] = max(seen[LATEST], now)


class BySpan:
    """A generation each span of stream time; use it where the days, not the records, count.

    The time of the stream is the latest time of the records learned. It is looked at each
    ``check`` records only. Until the stream is one span long, cuts are made at geometric counts
    (each half again as many), so that a first generation does not have to wait for a day.

    Parameters
    ----------
    span
        Seconds of stream time between cuts.
    times
        Gives the times of a block's records, ``float64[n]`` in seconds, NaN where not known;
        None where the block has none. Best a function that can be pickled, such as
        ``operator.attrgetter("time")``.
    first
        Count of the first cut.
    check
        Records between looks at the time; least distance of cuts.

    Raises
    ------
    ValueError
        Where the span is no positive time.

    Examples
    --------
    >>> schedule = BySpan(86400.0, lambda block: block.row / 10)
    >>> schedule.next_check(learned=0, cut=0), schedule.next_check(learned=1000, cut=1000)
    (1000, 1024)
    """

    def __init__(
        self,
        span: float,
        times: Callable[[Block], NDArray[np.float64] | None],
        *,
        first: int = 1000,
        check: int = 1024,
    ) -> None:
        if not (0 < span < math.inf) or check < 1:
            raise ValueError(
                f"a span of {span} seconds, looked at each {check} records, was given; expected a "
                "positive time and at least 1 record"
            )
        self.span, self.check = span, check
        self._times = times
        self._growing = ByRecords(first, NEVER, 0)
        self._seen = np.full(3, math.nan)

    def watch(self, block: Block, tape: Tape) -> None:
        """Follow the time over the rows that the tape learns.

        Raises
        ------
        ValueError
            Where the block has no times.
        """
        times = self._times(block)
        if times is None or len(times) != block.n:
            raise ValueError(
                "retraining by stream time was asked for, and the records carry no time: name the "
                "time column, or retrain by records"
            )
        follow_times(tape.op, tape.row, times, self._seen)

    def _young(self) -> bool:
        """Tell whether the stream is less than one span long."""
        return not self._seen[LATEST] - self._seen[START] >= self.span

    def next_check(self, learned: int, cut: int) -> int:
        """Return the next count to look at the time, or of a cut while the stream is young."""
        look = learned - learned % self.check + self.check
        return min(look, self._growing.next_check(learned, cut)) if self._young() else look

    def should_retrain(self, learned: int, cut: int) -> bool:
        """Tell whether a span has passed since the last cut."""
        if self._young():
            return self._growing.should_retrain(learned, cut)
        passed = bool(self._seen[LATEST] - self._seen[CUT] >= self.span)
        return passed and learned % self.check == 0

    def note_cut(self, learned: int, cut: int) -> None:
        """Count the span from now on."""
        self._seen[CUT] = self._seen[LATEST]

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the times it goes by."""
        return {"seen": self._seen.copy()}, {}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self._seen[:] = arrays["seen"]
