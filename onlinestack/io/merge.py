"""One order for the messages of several logs, the same however their arrival interleaves.

The rule: messages come by (time, topic, partition, offset), where the time of a message counts as
no earlier than that of the message before it in its own log, and topics come in the order they
were given. A message is let go once no log can hold an earlier one that has not been fetched: each
log has then shown a message that is no earlier. So the order follows from what the logs hold, not
from when it was fetched.

A log in which nothing happens would hold up the others for ever. One that was read to its end, and
in which nothing came for a while, is passed over: what the other logs have shown is let go without
it. When that happens does depend on the clock, so each such *round* is written down (where every
log stands when it begins and when it ends) before anything is made of it. With the rounds, what
was read before is read again in the same order: within a round, and between two, nothing is let
go that the first time was not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any, NamedTuple

from onlinestack.io.broker import Partition

__all__ = ["Item", "Merge", "Places", "Round"]

Places = dict[Partition, int]
"""The offset of the next message of each log."""
BEGINNING = -(2**63)
"""Before all time."""


class Item(NamedTuple):
    """A message in its place of the order.

    Parameters
    ----------
    time
        What it is ordered by first, in microseconds.
    log
        Number of its log, in the order of topics and partitions.
    offset
        Its place there.
    content
        What was put in.
    """

    time: int
    log: int
    offset: int
    content: Any


class Round(NamedTuple):
    """Where the logs stand before and behind what is let go without waiting for all of them."""

    begin: Places
    end: Places


class _Log:
    """One log: what was fetched and not let go, and where it stands."""

    def __init__(self, number: int, place: int, time: int) -> None:
        self.number = number
        self.waiting: deque[Item] = deque()
        self.place, self.time = place, time
        """Where the next message is that was not let go, and the time of the last that was."""
        self.fetched, self.newest = place, time
        """The same for messages that were fetched."""

    @property
    def frontier(self) -> tuple[int, int]:
        """What no message still to be fetched comes before."""
        return self.newest, self.number


class Merge:
    """Puts the messages of several logs into one order.

    Parameters
    ----------
    partitions
        The logs, in the order that counts where times are equal.
    places
        What `state` returned. Default None: every log stands at its beginning.
    rounds
        The rounds that were begun before, in any order; those that lie behind are ignored.

    Examples
    --------
    >>> a, b = Partition("a", 0), Partition("b", 0)
    >>> merge = Merge([a, b])
    >>> for offset, time in enumerate((10, 30)):
    ...     merge.put(a, offset, time, "a")
    >>> merge.put(b, 0, 20, "b")
    >>> [item.time for item in merge.release(9)]
    [10, 20]
    >>> round = merge.pass_over({b})
    >>> merge.begin(round)
    >>> [item.time for item in merge.release(9)]
    [30]
    """

    def __init__(
        self,
        partitions: Sequence[Partition],
        places: Mapping[str, Sequence[int]] | None = None,
        rounds: Iterable[Round] = (),
    ) -> None:
        known = places or {}
        self.partitions = tuple(partitions)
        self._logs = {
            partition: _Log(i, *known.get(str(partition), (0, BEGINNING)))
            for i, partition in enumerate(partitions)
        }
        self.rounded = False
        """Whether what was let go last ended a round."""
        self._bounds: deque[tuple[Places, bool]] = deque()
        """Where all logs stand where rounds to come begin and, marked as such, end."""
        here = _sum(self.places)
        for round in _distinct(rounds):
            if _sum(round.end) > here:
                if _sum(round.begin) > here:
                    self._bounds.append((round.begin, False))
                self._bounds.append((round.end, True))

    @property
    def places(self) -> Places:
        """Where each log stands: the offset of the next message that was not let go."""
        return {partition: log.place for partition, log in self._logs.items()}

    @property
    def fetched(self) -> Places:
        """The offset of the next message to fetch of each log."""
        return {partition: log.fetched for partition, log in self._logs.items()}

    @property
    def waiting(self) -> dict[Partition, int]:
        """Count of messages of each log that were fetched and not let go."""
        return {partition: len(log.waiting) for partition, log in self._logs.items()}

    def put(self, partition: Partition, offset: int, time: int | None, content: Any) -> None:
        """Take in a message; those of one log come in their order.

        Parameters
        ----------
        partition
            Its log.
        offset
            Its place there.
        time
            In microseconds; None for that of the message before.
        content
            What to give back with it.
        """
        log = self._logs[partition]
        if time is not None and time > log.newest:
            log.newest = time
        log.waiting.append(Item(log.newest, log.number, offset, content))
        log.fetched = offset + 1

    def reach(self, partition: Partition, offset: int) -> None:
        """Hear that a log holds no further message before an offset."""
        log = self._logs[partition]
        log.fetched = max(log.fetched, offset)

    def release(self, most: int) -> list[Item]:
        """Return the messages whose turn has come, in order; no more than so many."""
        bound, self.rounded = self.bound, False
        late = [log for p, log in self._logs.items() if bound is None or log.fetched < bound[p]]
        limit = min((log.frontier for log in late), default=None)
        ends = [None if bound is None else bound[partition] for partition in self.partitions]

        def ready(log: _Log) -> bool:
            if not log.waiting:
                return False
            first, end = log.waiting[0], ends[log.number]
            return (end is None or first.offset < end) and (limit is None or first[:2] <= limit)

        logs = list(self._logs.values())
        heads = [log.waiting[0][:2] for log in logs if ready(log)]
        heapify(heads)
        items: list[Item] = []
        while heads and len(items) < most:
            log = logs[heads[0][1]]
            item = log.waiting.popleft()
            items.append(item)
            log.time, log.place = item.time, item.offset + 1
            if ready(log):
                heapreplace(heads, log.waiting[0][:2])
            else:
                heappop(heads)
        if bound is not None and not late and not heads:
            for partition, log in self._logs.items():
                log.place = max(log.place, bound[partition])
            _, self.rounded = self._bounds.popleft()
        return items

    def pass_over(self, quiet: Collection[Partition]) -> Round | None:
        """Return the round that does not wait for some logs; None where nothing can be let go.

        Nothing is let go before `begin` was called with it.

        Parameters
        ----------
        quiet
            Logs that were read to their end and have been quiet since.
        """
        if self._bounds:
            return None
        limit = min((log.frontier for p, log in self._logs.items() if p not in quiet), default=None)
        end = {}
        for partition, log in self._logs.items():
            end[partition] = log.place
            for item in log.waiting:
                if limit is not None and item[:2] > limit:
                    break
                end[partition] = item.offset + 1
        return None if end == self.places else Round(self.places, end)

    def begin(self, round: Round) -> None:
        """Begin a round that has been written down."""
        self._bounds.append((round.end, True))

    @property
    def bound(self) -> Places | None:
        """Where all logs are known to stand together next; None where that is still open."""
        return self._bounds[0][0] if self._bounds else None

    def state(self) -> dict[str, list[int]]:
        """Return where each log stands, and the time of the last message that was let go."""
        return {str(partition): [log.place, log.time] for partition, log in self._logs.items()}

    def rounds(self) -> list[Round]:
        """Return the rounds that have not ended yet, oldest first."""
        here, rounds = self.places, []
        for bound, ends in self._bounds:
            if ends:
                rounds.append(Round(here, bound))
            here = bound
        return rounds


def _sum(places: Places) -> int:
    return sum(places.values())


def _distinct(rounds: Iterable[Round]) -> list[Round]:
    """Return rounds in order without repeats; one that was resumed half way is told by its end."""
    longest: dict[int, Round] = {}
    for round in sorted(rounds, key=lambda round: (_sum(round.end), _sum(round.begin))):
        longest.setdefault(_sum(round.end), round)
    return list(longest.values())
