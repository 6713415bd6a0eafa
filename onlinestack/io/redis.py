"""Streams of Redis and Valkey: a topic is one stream, its offsets are the ids of the entries.

An entry's field ``value`` holds the message; its id, which begins with milliseconds, gives the
time. As whole numbers ids are milliseconds times 2**64 plus the number behind the dash.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis

from onlinestack.io.broker import BrokerError, Message, Partition

__all__ = ["RedisBroker", "RedisOutbox", "connect"]

MOST = 5_000
"""Entries of a stream fetched at once."""
MANY = 10_000
"""Entries to be added at once, and most that may wait."""
PATIENCE = 10.0
"""Seconds that the server may take to answer first."""
PAUSE = 0.2
"""Seconds between two attempts."""


def connect(
    brokers: str, *, group: str, options: Sequence[str], predictions: str | None
) -> tuple[RedisBroker, RedisOutbox | None]:
    """Return the streams of a server, and the one to write to if one is named."""
    if options:
        raise BrokerError(
            f"{options[0]!r} is a setting of the Kafka client; for Redis all is in the address"
        )
    try:
        client = redis.Redis.from_url(brokers, socket_timeout=5, socket_connect_timeout=5)
    except ValueError as error:
        raise BrokerError(f"{brokers!r} is no address ({error}); write redis://host:port") from None
    broker = RedisBroker(client, group)
    return broker, None if predictions is None else RedisOutbox(client, predictions)


def _number(id: bytes) -> int:
    milliseconds, _, rest = id.partition(b"-")
    return int(milliseconds) << 64 | int(rest or 0)


class RedisBroker:
    """Streams as logs; each is a topic of one partition.

    Parameters
    ----------
    client
        A connection.
    group
        Where the consumer stands is kept in the hash ``onlinestack:GROUP``, for monitoring.
    """

    def __init__(self, client: Any, group: str) -> None:
        self.ends: dict[Partition, int] = {}
        self.troubles = 0
        self.trouble = ""
        self._client = client
        self._group = group
        self._places: dict[Partition, int] = {}
        self._held: set[Partition] = set()

    def partitions(self, topic: str) -> list[Partition]:
        """Return the stream; one that does not exist yet is empty."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                kind = self._client.type(topic)
                break
            except redis.ConnectionError as error:
                if time.monotonic() > until:
                    raise BrokerError(
                        f"the server does not answer ({error}); check its address"
                    ) from None
                time.sleep(PAUSE)
            except redis.RedisError as error:
                raise BrokerError(
                    f"the server refuses ({error}); look at the user and password in the address"
                ) from None
        if kind not in (b"stream", b"none"):
            raise BrokerError(
                f"{topic!r} is a {kind.decode()}, not a stream; give the key of a stream"
            )
        return [Partition(topic, 0)]

    def assign(self, places: Mapping[Partition, int]) -> None:
        """Read these streams from now on, each from an offset."""
        self._places = dict(places)

    def fetch(self, wait: float) -> list[Message]:
        """Return the next messages, waiting so many seconds for the first."""
        wanted = {p: self._before(o) for p, o in self._places.items() if p not in self._held}
        if not wanted:
            return []
        try:
            found = self._read(wanted, None)
            if not found:
                self._look(wanted)
                found = self._read(wanted, max(1, round(wait * 1000)))
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self.troubles += 1
            self.trouble = str(error)
            time.sleep(min(wait, PAUSE))
            return []
        except redis.RedisError as error:
            raise BrokerError(
                f"the streams cannot be read ({error}); mend that and start again"
            ) from None
        self.trouble = ""
        messages: list[Message] = []
        for name, entries in found:
            partition = Partition(name.decode(), 0)
            for id, fields in entries:
                offset = _number(id)
                value = fields.get(b"value") if fields else None
                messages.append(Message(partition, offset, (offset >> 64) * 1000, value))
                self._places[partition] = offset + 1
            self.ends.pop(partition, None)
        return messages

    def _read(self, wanted: Mapping[Partition, str], block: int | None) -> Any:
        streams = {partition.topic: id for partition, id in wanted.items()}
        return self._client.xread(streams, count=MOST, block=block)

    def _look(self, wanted: Iterable[Partition]) -> None:
        """Learn where streams end in which there was nothing to read."""
        for partition in wanted:
            place, last = self._places[partition], -1
            try:
                last = _number(self._client.xinfo_stream(partition.topic)["last-generated-id"])
            except redis.ResponseError:
                pass  # there is no such stream yet, or no longer
            if last + 1 < place:
                raise BrokerError(
                    f"{partition.topic} ends at {self.place(max(last, 0))}, but it was read up to "
                    f"{self.place(place - 1)} before: it is not the stream that it was; give that "
                    "one back, or start anew with another snapshot folder"
                )
            if last <= max(0, place - 1):
                self.ends[partition] = place

    def hold(self, partitions: Iterable[Partition]) -> None:
        """Give messages of all streams but these from now on."""
        self._held = set(partitions)

    def commit(self, places: Mapping[Partition, int]) -> None:
        """Let others see where the consumer stands; nothing depends on it."""
        shown = {p.topic: self.place(offset - 1) for p, offset in places.items() if offset}
        try:
            if shown:
                self._client.hset(f"onlinestack:{self._group}", mapping=shown)
        except redis.RedisError as error:
            self.troubles += 1
            self.trouble = str(error)

    def place(self, offset: int) -> str:
        """Return an offset as the broker writes it."""
        return f"{offset >> 64}-{offset & (1 << 64) - 1}"

    def _before(self, offset: int) -> str:
        """Return the id that the next entry comes behind."""
        return self.place(max(0, offset - 1))

    def close(self) -> None:
        """Leave."""
        self._client.close()


class RedisOutbox:
    """A stream to write to; entries have the fields ``key`` and ``value``.

    Parameters
    ----------
    client
        A connection.
    stream
        Its key.
    """

    def __init__(self, client: Any, stream: str) -> None:
        self._client = client
        self._stream = stream
        self._waiting: list[tuple[str, bytes]] = []
        self._sent = self._done = 0

    def send(self, key: str, value: bytes) -> None:
        """Take a message to be delivered."""
        self._waiting.append((key, value))
        self._sent += 1

    def work(self, wait: float) -> None:
        """Deliver what can be delivered; where nothing can, wait so many seconds."""
        while self._waiting:
            part = self._waiting[:MANY]
            pipe = self._client.pipeline(transaction=False)
            for key, value in part:
                pipe.xadd(self._stream, {"key": key, "value": value})
            try:
                pipe.execute()
            except (redis.ConnectionError, redis.TimeoutError):
                time.sleep(min(wait, PAUSE))
                return
            except redis.RedisError as error:
                raise BrokerError(
                    f"predictions cannot be written to {self._stream!r} ({error}); mend that and "
                    "start again"
                ) from None
            del self._waiting[: len(part)]
            self._done += len(part)

    def full(self) -> bool:
        """Tell whether so much waits that no more should be sent now."""
        return len(self._waiting) >= MANY

    def mark(self) -> int:
        """Return a mark behind all that was sent until now."""
        return self._sent

    def settled(self, mark: int) -> bool:
        """Tell whether all that was sent before a mark has been delivered."""
        return self._done >= mark

    def close(self) -> None:
        """Leave; what was not delivered is dropped."""
        self._waiting.clear()
