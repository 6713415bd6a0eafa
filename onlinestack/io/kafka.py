"""Kafka's protocol, through confluent-kafka: partitions are assigned, never subscribed to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

from onlinestack.io.broker import BrokerError, Message, Partition

__all__ = ["KafkaBroker", "KafkaOutbox", "connect"]

CONSUMER = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "fetch.wait.max.ms": 100,
    "queued.max.messages.kbytes": 16_384,
}
"""What makes a consumer of ours; its memory is bounded by the last."""
PRODUCER = {"linger.ms": 20, "delivery.timeout.ms": 0, "queue.buffering.max.kbytes": 65_536}
"""Delivery is tried for ever."""
BOTH = {"log_level": 0, "reconnect.backoff.max.ms": 1000}
MOST = 10_000
"""Messages fetched at once."""
MANY = 50_000
"""Messages on their way at which no more are sent."""
PATIENCE = 10.0
"""Seconds that the broker may take to name the partitions of a topic."""
LOST = {
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError._AUTO_OFFSET_RESET,
}
GONE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}


def connect(
    brokers: str, *, group: str, options: Sequence[str], predictions: str | None
) -> tuple[KafkaBroker, KafkaOutbox | None]:
    """Return the logs of some brokers, and the topic to write to if one is named."""
    settings: dict[str, Any] = {"bootstrap.servers": brokers, **BOTH}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise BrokerError(f"{option!r} is no setting of the Kafka client; write name=value")
        settings[name.strip()] = value.strip()
    try:
        broker = KafkaBroker(settings, group)
        return broker, None if predictions is None else KafkaOutbox(settings, predictions)
    except KafkaException as error:
        raise BrokerError(
            f"the Kafka client cannot be set up ({_text(error.args[0])}); look at --brokers and at "
            "each --broker-option"
        ) from None


class KafkaBroker:
    """Partitions of Kafka topics.

    Parameters
    ----------
    settings
        Of the Kafka client, ``bootstrap.servers`` among them.
    group
        Name under which `commit` shows where the consumer stands.
    """

    def __init__(self, settings: Mapping[str, Any], group: str) -> None:
        self.ends: dict[Partition, int] = {}
        self.troubles = 0
        self.trouble = ""
        self._places: dict[Partition, int] = {}
        self._held: set[Partition] = set()
        self._checked = 0.0
        self._consumer = Consumer(
            {**CONSUMER, **settings, "group.id": group, "error_cb": self._troubled}
        )

    def _troubled(self, error: KafkaError) -> None:
        if error.fatal():
            raise BrokerError(
                f"the Kafka client gave up ({_text(error)}); mend that and start again"
            )
        self.troubles += 1
        self.trouble = _text(error)

    def partitions(self, topic: str) -> list[Partition]:
        """Return the partitions of a topic."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                found = self._consumer.list_topics(topic, timeout=2.0).topics[topic]
            except KafkaException as error:
                if time.monotonic() < until:
                    continue
                raise BrokerError(
                    f"the broker does not answer ({_text(error.args[0])}); check its address"
                ) from None
            if found.error is None and found.partitions:
                return [Partition(topic, number) for number in sorted(found.partitions)]
            if found.error is None or found.error.code() in GONE:
                raise BrokerError(f"the broker has no topic {topic!r}; make it, or check its name")
            if time.monotonic() > until:
                raise BrokerError(
                    f"topic {topic!r} cannot be read ({_text(found.error)}); mend that and start "
                    "again"
                )

    def assign(self, places: Mapping[Partition, int]) -> None:
        """Read these partitions from now on, each from an offset."""
        self._places = dict(places)
        self._consumer.assign(
            [TopicPartition(*partition, offset) for partition, offset in places.items()]
        )

    def fetch(self, wait: float) -> list[Message]:
        """Return the next messages, waiting so many seconds for the first."""
        first = self._consumer.poll(wait)
        if first is None:
            self._check()
            return []
        messages: list[Message] = []
        for message in [first, *self._consumer.consume(MOST, 0)]:
            partition = Partition(message.topic() or "", message.partition() or 0)
            if (error := message.error()) is not None:
                self._hear(partition, error, message.offset())
                continue
            offset = message.offset()
            if offset is None or offset < self._places[partition]:
                continue
            kind, milliseconds = message.timestamp()
            known = kind != TIMESTAMP_NOT_AVAILABLE
            messages.append(
                Message(partition, offset, milliseconds * 1000 if known else None, message.value())
            )
            self._places[partition] = offset + 1
            self.ends.pop(partition, None)
        if messages:
            self.trouble = ""
        return messages

    def _hear(self, partition: Partition, error: KafkaError, offset: int | None) -> None:
        """Take in what is no message: the end of a partition, or trouble."""
        code = error.code()
        if code == KafkaError._PARTITION_EOF and offset is not None:
            if offset < self._places[partition]:
                raise self._shorter(partition, offset)
            self.ends[partition] = offset
            self.trouble = ""
        elif code in LOST:
            low, high = self._marks(partition)
            if low > self._places[partition]:
                raise BrokerError(
                    f"{partition} begins at offset {low:,} by now, and what stood at offset "
                    f"{self._places[partition]:,} was not read; start anew with another snapshot "
                    "folder"
                )
            raise self._shorter(partition, high)
        elif code in GONE:
            raise BrokerError(f"the broker has no {partition} any more; start anew, or mend it")
        else:
            self._troubled(error)

    def _check(self) -> None:
        """Look for partitions that are shorter than they were, for not every broker says so.

        And look whether trouble is over: where there are no messages, nothing else tells.
        """
        now = time.monotonic()
        if now < self._checked + 1:
            return
        self._checked = now
        if self.trouble:
            with contextlib.suppress(KafkaException):
                self._consumer.list_topics(timeout=0.5)
                self.trouble = ""
        for partition, place in self._places.items():
            if partition not in self.ends:
                _, high = self._marks(partition)
                if 0 <= high < place:
                    raise self._shorter(partition, high)

    def _marks(self, partition: Partition) -> tuple[int, int]:
        """Return where a partition begins and ends as far as is known; below 0 if it is not."""
        return self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)

    def _shorter(self, partition: Partition, end: int) -> BrokerError:
        return BrokerError(
            f"{partition} ends at offset {end:,}, but it was read up to offset "
            f"{self._places[partition]:,} before: it is not the log that it was; give that one "
            "back, or start anew with another snapshot folder"
        )

    def hold(self, partitions: Iterable[Partition]) -> None:
        """Give messages of all partitions but these from now on."""
        wanted = set(partitions)
        for change, act in (
            (wanted - self._held, self._consumer.pause),
            (self._held - wanted, self._consumer.resume),
        ):
            if change:
                act([TopicPartition(*partition) for partition in change])
        self._held = wanted

    def commit(self, places: Mapping[Partition, int]) -> None:
        """Let others see where the consumer stands; nothing depends on it."""
        offsets = [TopicPartition(*partition, offset) for partition, offset in places.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._troubled(error.args[0])

    def place(self, offset: int) -> str:
        """Return an offset as the broker writes it."""
        return str(offset)

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


class KafkaOutbox:
    """A Kafka topic to write to.

    Parameters
    ----------
    settings
        Of the Kafka client, ``bootstrap.servers`` among them.
    topic
        Its name.
    """

    def __init__(self, settings: Mapping[str, Any], topic: str) -> None:
        self._topic = topic
        self._producer = Producer({**PRODUCER, **settings})
        self._mark = 0
        self._open = {0: 0}
        """Count of messages on their way, by the mark before them."""
        self._failed: KafkaError | None = None
        self._delivered = self._callback(0)

    def _callback(self, mark: int) -> Callable[[KafkaError | None, Any], None]:
        def delivered(error: KafkaError | None, message: Any) -> None:
            self._open[mark] -= 1
            if error is not None:
                self._failed = error

        return delivered

    def send(self, key: str, value: bytes) -> None:
        """Take a message to be delivered."""
        while True:
            try:
                self._producer.produce(
                    self._topic, key=key, value=value, on_delivery=self._delivered
                )
                break
            except BufferError:
                self.work(0.1)
        self._open[self._mark] += 1

    def work(self, wait: float) -> None:
        """Deliver what can be delivered within so many seconds."""
        self._producer.poll(wait)
        if self._failed is not None:
            raise BrokerError(
                f"predictions cannot be written to topic {self._topic!r} ({_text(self._failed)}); "
                "mend that and start again"
            )

    def full(self) -> bool:
        """Tell whether so much waits that no more should be sent now."""
        return len(self._producer) >= MANY

    def mark(self) -> int:
        """Return a mark behind all that was sent until now."""
        self._mark += 1
        self._open[self._mark] = 0
        self._delivered = self._callback(self._mark)
        return self._mark

    def settled(self, mark: int) -> bool:
        """Tell whether all that was sent before a mark has been delivered."""
        for before in sorted(self._open):
            if before >= mark:
                return True
            if self._open[before]:
                return False
            del self._open[before]
        return True

    def close(self) -> None:
        """Leave; what was not delivered is dropped."""
        self._producer.purge()
        self._producer.poll(0)


def _text(error: KafkaError) -> str:
    text = " ".join(str(error.str()).split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}"
