"""What a consumer takes in: the messages of its topics, read, in one order, none of them twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from onlinestack.io.broker import Broker, BrokerError, Partition
from onlinestack.io.decoder import Decoder
from onlinestack.io.merge import Item, Merge, Places, Round

__all__ = ["Intake"]

FULL, LOW = 20_000, 5_000
"""Messages of one log that wait for their turn, at which no more and again more are fetched."""


class Intake:
    """Fetches messages from a broker and gives them in their order.

    Parameters
    ----------
    broker
        Where they are.
    decoder
        Reads their values.
    records, labels
        The logs of records, and those of labels.
    idle
        Seconds that a log which was read to its end is waited for.
    places
        Where the logs stand, as `state` told; None for their beginnings.
    notes
        What `pass_over` wrote down since, and what `rounds` told then.
    """

    def __init__(
        self,
        broker: Broker,
        decoder: Decoder,
        records: Sequence[Partition],
        labels: Sequence[Partition],
        idle: float,
        places: Mapping[str, Sequence[int]] | None,
        notes: Iterable[Any],
    ) -> None:
        self._broker, self._decoder, self._idle = broker, decoder, idle
        self._first_label = len(records)
        partitions = [*records, *labels]
        self._topics = {partition.topic for partition in partitions}

        def side(told: Mapping[str, int]) -> Places:
            return {partition: told.get(str(partition), 0) for partition in partitions}

        rounds = [Round(side(begin), side(end)) for begin, end in notes]
        self._merge = Merge(partitions, places, rounds)
        self._quiet: dict[Partition, float] = {}
        """Since when there has been nothing to read in a log."""
        self._full: set[Partition] = set()
        broker.assign(self._merge.fetched)

    def is_record(self, item: Item) -> bool:
        """Tell whether a message is one of the records' topic."""
        return item.log < self._first_label

    def release(self, most: int) -> list[Item]:
        """Return the messages whose turn has come, no more than so many."""
        return self._merge.release(most)

    @property
    def rounded(self) -> bool:
        """Whether logs were passed over up to what was returned last."""
        return self._merge.rounded

    def fetch(self, wait: float) -> None:
        """Take in what the broker has, up to what fits, waiting so many seconds for it.

        Raises
        ------
        BrokerError
            Where a log is not, or no longer, what it was.
        """
        messages = self._broker.fetch(wait)
        for topic in self._topics:
            some = [message for message in messages if message.partition.topic == topic]
            if some:
                entries, times = self._decoder.read(some)
                for entry, at in zip(entries, times, strict=True):
                    self._merge.put(entry.message.partition, entry.message.offset, at, entry)
        self._look()
        waiting = self._merge.waiting
        full = {p for p, n in waiting.items() if n >= (LOW if p in self._full else FULL)}
        if full != self._full:
            self._broker.hold(full)
            self._full = full

    def _look(self) -> None:
        """Learn which logs have nothing more to read."""
        now, bound, place = time.monotonic(), self._merge.bound, self._broker.place
        for partition, end in self._broker.ends.items():
            self._merge.reach(partition, end)
            self._quiet.setdefault(partition, now)
            if bound is not None and end < bound[partition]:
                raise BrokerError(
                    f"{partition} ends at {place(end)}, but it was read up to "
                    f"{place(bound[partition])} before: it is not the log that it was; give that "
                    "one back, or start anew with another snapshot folder"
                )
        for partition in self._quiet.keys() - self._broker.ends.keys():
            del self._quiet[partition]
        if self._broker.trouble:
            # Who knows what there is to read.
            self._quiet.clear()

    def _passed(self) -> set[Partition]:
        """Return the logs that were read to their end and have been quiet long enough."""
        before = time.monotonic() - self._idle
        return {partition for partition, since in self._quiet.items() if since <= before}

    def pass_over(self, note: Callable[[Any], None]) -> bool:
        """Begin a round without the logs that are quiet, if that lets something go.

        Parameters
        ----------
        note
            Writes down what must be known to do the same again.
        """
        round = self._merge.pass_over(self._passed())
        if round is None:
            return False
        note(_told(round))
        self._merge.begin(round)
        return True

    def drained(self) -> bool:
        """Tell whether all was returned, and nothing more came for a while."""
        waiting = any(self._merge.waiting.values()) or self._merge.bound is not None
        return not waiting and len(self._passed()) == len(self._merge.partitions)

    @property
    def places(self) -> Places:
        """The offset of the next message of each log that was not returned."""
        return self._merge.places

    def state(self) -> dict[str, list[int]]:
        """Return where the logs stand, as JSON."""
        return self._merge.state()

    def rounds(self) -> list[Any]:
        """Return the rounds that have not ended yet, as JSON."""
        return [_told(round) for round in self._merge.rounds()]


def _told(round: Round) -> list[dict[str, int]]:
    return [{str(partition): offset for partition, offset in side.items()} for side in round]
