"""What a consumer asks of a broker: logs to read from given places, and one to write to.

A *topic* is one or several *partitions*, each a log of messages that are numbered in their order
by an *offset*: whole numbers that rise, not always by one. Where a consumer stands is the offset
of the next message of each partition. The broker is asked for messages from there on, and keeps
no account of what was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

__all__ = ["Broker", "BrokerError", "Message", "Outbox", "Partition"]


class BrokerError(OSError):
    """A broker that cannot give what is asked for; one sentence says why and what to do."""


class Partition(NamedTuple):
    """One log: a topic, and the number of its partition."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


class Message(NamedTuple):
    """What one place of a log holds.

    Parameters
    ----------
    partition
        The log.
    offset
        Its place there.
    time
        Microseconds since the epoch, as the broker knows it; None where it does not.
    value
        The bytes; None for a message without any.
    """

    partition: Partition
    offset: int
    time: int | None
    value: bytes | None


class Broker(Protocol):
    """Logs to read.

    Attributes
    ----------
    ends
        The offset behind the last message, for each partition that was read to its end; none
        for those that more is to come from, or of which it is not known.
    troubles
        Times the connection was lost or the broker gave an error; it is asked again.
    trouble
        What the last of them was, empty once it is over.
    """

    ends: dict[Partition, int]
    troubles: int
    trouble: str

    def partitions(self, topic: str) -> list[Partition]:
        """Return the partitions of a topic.

        Raises
        ------
        BrokerError
            When there is no such topic, or the broker cannot be reached.
        """

    def assign(self, places: Mapping[Partition, int]) -> None:
        """Read these partitions from now on, each from an offset."""

    def fetch(self, wait: float) -> Sequence[Message]:
        """Return the next messages, waiting so many seconds for the first; none is no error.

        Raises
        ------
        BrokerError
            When a log does not hold the offset it is to be read from (any more).
        """

    def hold(self, partitions: Iterable[Partition]) -> None:
        """Give messages of all partitions but these from now on."""

    def commit(self, places: Mapping[Partition, int]) -> None:
        """Let others see where the consumer stands; nothing depends on it."""

    def place(self, offset: int) -> str:
        """Return an offset as the broker writes it."""

    def close(self) -> None:
        """Leave."""


class Outbox(Protocol):
    """A topic to write to; every message arrives at least once."""

    def send(self, key: str, value: bytes) -> None:
        """Take a message to be delivered."""

    def work(self, wait: float) -> None:
        """Deliver what can be delivered within so many seconds.

        Raises
        ------
        BrokerError
            When the broker refuses a message for good.
        """

    def full(self) -> bool:
        """Tell whether so much waits that no more should be sent now."""

    def mark(self) -> int:
        """Return a mark behind all that was sent until now."""

    def settled(self, mark: int) -> bool:
        """Tell whether all that was sent before a mark has been delivered."""

    def close(self) -> None:
        """Leave; what was not delivered is dropped."""
