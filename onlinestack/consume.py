"""The consumer loop: records and their labels from a broker, predictions to it, over and over.

Notes
-----
*Where the loop stands* in each log is part of its snapshot, beside what was learned; the broker is
only told. A process that is killed goes on from its last snapshot: it reads the messages behind it
once more, in the order they were first read in (see `onlinestack.io.merge`), so it learns what it
would have learned, and predicts what it predicted. Each record is learned once in what is kept;
predictions leave once or more, always with the same key (topic/partition/offset of the record)
and the same value. Before a snapshot is written, all predictions made until then were delivered.

*The stall*: between two pieces of work what is learned is copied, plain memory to memory; the
snapshot is made of the copy and written by another thread.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from onlinestack.compiling import announced
from onlinestack.figures import Report, checkpoint_figures, late_figures, summary_figures
from onlinestack.intake import Intake
from onlinestack.io.batch import Batch, Reject
from onlinestack.io.broker import Broker, BrokerError, Outbox, Partition
from onlinestack.io.brokers import open_broker
from onlinestack.io.decoder import Decoder, Entry, Label
from onlinestack.io.merge import Item
from onlinestack.io.messages import open_codec
from onlinestack.io.reader import show
from onlinestack.io.schema import Schema
from onlinestack.io.sink import RejectSink
from onlinestack.io.times import NOT_A_TIME, count_older
from onlinestack.late import LateLabel
from onlinestack.learner import LinearLearner
from onlinestack.signals import Signals
from onlinestack.snapshot import SnapshotError
from onlinestack.snapshots import Snapshots
from onlinestack.spare import give_back
from onlinestack.stacker import OnlineStacker

__all__ = ["Consumer", "Topics"]

log = logging.getLogger(__name__)

PIECE = 4096
"""Most messages between two looks at signals, snapshots and the broker."""
SAMPLE = 1000
"""Records that the kinds of columns are inferred from."""
WAIT = 0.05
"""Seconds to wait for messages at once."""
PATIENCE = 10.0
"""Seconds that the last predictions may take to be delivered."""
TIDY = 1 << 18
"""Records between two times that unused memory is given back."""
OURS = (
    "read",
    "learned",
    "predicted_only",
    "rejected",
    "generations",
    "refused",
    "labels",
    "rejected_labels",
    "out_of_order",
    "newest",
)


@dataclass(frozen=True)
class Topics:
    """What to read, what it means, and where predictions go.

    Parameters
    ----------
    brokers
        ``host:port`` of one or more Kafka brokers with commas between, or a ``redis://`` address.
    topic
        The topic of the records.
    labels_topic
        The topic of their labels: the id of a record, perhaps a time, perhaps the label; without
        one a message says that there was a click. None: records bring their labels.
    predictions_topic
        Where predictions go; None for nowhere.
    group
        Name under which others see where the consumer stands.
    format
        ``json``, ``arrow``, ``avro`` or ``avro-framed``, of both topics.
    avro_schema
        File with the schema of Avro values that do not hold it.
    options
        Further settings of the Kafka client, ``name=value``.
    idle
        Seconds after which a log that was read to its end is passed over: so long do records wait
        where it might still hold an earlier message.
    roles
        ``id``, ``time``, ``time_format``, ``label``, ``positive`` and ``weight``: names of
        columns, as of `open_source`. Without a time column the broker's times count.
    kinds
        ``categorical``, ``numeric``, ``text`` and ``ignore``, as of `open_source`.
    """

    brokers: str
    topic: str
    labels_topic: str | None = None
    predictions_topic: str | None = None
    group: str = "onlinestack"
    format: str | None = None
    avro_schema: str | None = None
    options: Sequence[str] = ()
    idle: float = 1.0
    roles: Mapping[str, str | None] = field(default_factory=dict)
    kinds: Mapping[str, Sequence[str]] = field(default_factory=dict)


class _Silent:
    """A report that says nothing."""

    live = False

    def tick(self, run: Any) -> None: ...
    def checkpoint(self, scores: Mapping[str, Any]) -> None: ...
    def generation(self, event: Mapping[str, Any]) -> None: ...
    def detail(self, event: Mapping[str, Any]) -> None: ...
    def summary(self, scores: Mapping[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...
    def end(self) -> None: ...


class Consumer:
    """Predicts the records of a topic, and learns them when their labels come.

    Use it to run a learner for months beside a broker. One consumer owns all partitions of its
    topics; to scale out, run one, with a model and a snapshot folder of its own, for each set of
    topics.

    Parameters
    ----------
    model
        A learner that has not been started. Where there is a snapshot, it is given back what it
        had learned.
    topics
        What to read.
    snapshots
        Folder of the snapshots; one process uses it at a time.
    every, seconds
        Messages and seconds between two snapshots, whichever passes first; None for no such
        bound.
    keep
        Snapshots kept.
    rejects
        File for messages that cannot be used, with topic, partition, offset and a reason.
    report
        Whom to tell; nobody by default.

    Attributes
    ----------
    stalls
        Seconds that each snapshot of this process held up the stream.

    Raises
    ------
    BrokerError
        By `run`: a topic is missing, or is no longer the one that was read.
    SnapshotError
        By `run`: the snapshot is damaged, or one of another model or other topics.
    OSError
        By `run`: a file cannot be written.
    ValueError
        When topics, roles and model do not go together, or the model can not be saved.

    Notes
    -----
    *One order.* Messages are merged by (time, topic, partition, offset), records before labels. A
    message waits until every partition has shown one that is no earlier; a partition that was read
    to its end and has been quiet for ``Topics.idle`` seconds is passed over, which is noted in the
    folder before anything follows from it. So a record waits up to ``idle`` where labels are rare,
    and the order, once taken, stays.

    *Predictions* leave at least once, under the key topic/partition/offset of the record; repeats
    are equal. *Rejected* messages are counted and go to ``rejects``.

    *A snapshot* is copied between two pieces of work, and written by a thread: the copy takes 11
    ms for ``LinearLearner`` with 2^22 slots, 17 ms with 50,000 records pending, and about 80 ms for
    the stack over 39 fields.

    Examples
    --------
    >>> from onlinestack import LinearLearner
    >>> Consumer(LinearLearner(), Topics("localhost", "shown", labels_topic="clicks"), "state")
    Traceback (most recent call last):
    ValueError: labels find their records by id: name the column in roles
    """

    def __init__(
        self,
        model: LinearLearner | OnlineStacker,
        topics: Topics,
        snapshots: str,
        *,
        every: int | None = 100_000,
        seconds: float | None = 60.0,
        keep: int = 3,
        rejects: str | None = None,
        report: Report | None = None,
    ) -> None:
        if topics.labels_topic is not None and topics.roles.get("id") is None:
            raise ValueError("labels find their records by id: name the column in roles")
        if model.aim != "click":
            raise ValueError(
                f"the loop learns clicks, but the model learns {model.aim}; leave out "
                "task, oaa and losses of numbers"
            )
        if topics.labels_topic == topics.topic:
            raise ValueError("records and labels are in one topic; give each its own")
        model.check_saving()
        self.model = model
        self.topics = topics
        self.counts = dict.fromkeys(OURS, 0) | {"newest": NOT_A_TIME}
        self.messages = 0
        self.stalls: list[float] = []
        self._folder, self._keep = snapshots, keep
        self._every, self._seconds = every, seconds
        self._rejects_to = rejects
        self._report: Report = report or _Silent()
        self._signals = Signals()
        kinds = {
            k: tuple(topics.kinds.get(k, ())) for k in ("categorical", "numeric", "text", "ignore")
        }
        self._decoder = Decoder(
            open_codec(topics.format, avro_schema=topics.avro_schema),
            topics.roles,
            kinds,
            late=topics.labels_topic is not None,
        )
        self._schema: Schema | None = None
        self._held: list[Item] = []
        self._pending: tuple[int, Callable[[], Any], int, dict[Partition, int]] | None = None
        self._writing: Future[None] | None = None
        self._written: dict[Partition, int] = {}
        self._saved = 0
        self._rejects: RejectSink | None = None
        self._started = self._saved_at = time.perf_counter()
        self._resumed_at = 0

    def stop(self, number: int = 15) -> None:
        """Let `run` finish what it is at, save and return, as after a signal of that number."""
        self._signals.number = number

    def run(self, *, drain: bool = False) -> int:
        """Consume until a signal comes, or to the end.

        Parameters
        ----------
        drain
            Whether to stop when all logs were read to their end and have been quiet for the
            seconds of ``idle``.

        Returns
        -------
        0, or 128 and the number of the signal.
        """
        self._started = self._saved_at = time.perf_counter()
        with self._signals, ExitStack() as self._open_things:
            self._open_things.callback(self._report.end)
            self._open()
            while not self._signals.number:
                moved = self._step()
                if drain and not moved and self._drained():
                    break
            self._finish()
        return 128 + self._signals.number if self._signals.number else 0

    # Opening.

    def _open(self) -> None:
        topics = self.topics
        self._snapshots = Snapshots(self._folder, self._keep)
        self._open_things.callback(self._snapshots.close)
        number, arrays, meta, notes = self._snapshots.load()
        opened = open_broker(
            topics.brokers,
            group=topics.group,
            options=topics.options,
            predictions=topics.predictions_topic,
        )
        self._broker: Broker = opened[0]
        self._outbox: Outbox | None = opened[1]
        self._open_things.callback(self._broker.close)
        if self._outbox is not None:
            self._open_things.callback(self._outbox.close)
        records, labels = self._broker.partitions(topics.topic), list[Partition]()
        if topics.labels_topic is not None:
            labels = self._broker.partitions(topics.labels_topic)
        own = meta["consumer"] if meta is not None and "consumer" in meta else {}
        if meta is not None:
            self._resume(number, arrays, meta, own, [*records, *labels])
        notes = [*own.get("rounds", ()), *notes]
        self._intake = Intake(
            self._broker, self._decoder, records, labels, topics.idle, own.get("places"), notes
        )
        self._first = self._intake.state()
        if self._rejects_to is not None:
            self._rejects = RejectSink(self._rejects_to, resume=own.get("rejects"))
            self._open_things.callback(self._rejects.close)

    def _resume(
        self,
        number: int,
        arrays: Mapping[str, Any],
        meta: Mapping[str, Any],
        own: Mapping[str, Any],
        partitions: Sequence[Partition],
    ) -> None:
        """Take back what a snapshot holds."""
        if not own:
            raise SnapshotError(
                f"the snapshots in {self._folder!r} are not a consumer's; give another folder"
            )
        if own["topics"] != self._names():
            before, now = (
                ", ".join(filter(None, names)) for names in (own["topics"], self._names())
            )
            raise SnapshotError(
                f"the snapshots in {self._folder!r} are of the topics {before}, not {now}; give "
                "these, or another folder"
            )
        gone = own["places"].keys() - {str(partition) for partition in partitions}
        if gone:
            raise BrokerError(
                f"{', '.join(sorted(gone))} was read before and is not there any more; start anew "
                "with another snapshot folder"
            )
        self._schema = Schema.from_dict(meta["learner"]["schema"])
        self._start(self._schema)
        _, fresh = self.model.state()
        for name, value in meta["learner"]["params"].items():
            if _canonical(value) != _canonical(fresh["params"].get(name)):
                raise SnapshotError(
                    f"the snapshots in {self._folder!r} were made with {name} other than "
                    f"{fresh['params'].get(name)!r}; leave that as it was, or give another folder"
                )
        self.model.restore(arrays, meta["learner"])
        self.counts.update(own["counts"])
        self.messages = self._saved = number
        self._resumed_at = self.counts["read"]

    def _start(self, schema: Schema) -> None:
        stack = isinstance(self.model, OnlineStacker)
        self._open_things.enter_context(announced(stack, self._report.note))
        self.model.start(schema)
        self.model.warm()

    def _names(self) -> list[str | None]:
        return [self.topics.topic, self.topics.labels_topic]

    # Reading, in order.

    def _step(self) -> bool:
        """Do a piece of work; tell whether there was some."""
        items = self._intake.release(PIECE)
        if items or self._intake.rounded:
            self._take(items)
        elif self._intake.pass_over(self._snapshots.note):
            return True
        self._intake.fetch(0.0 if items else min(WAIT, self.topics.idle or WAIT))
        self._tend()
        return bool(items)

    def _drained(self) -> bool:
        if not self._intake.drained():
            return False
        if self._held:
            self._settle_schema()
        return True

    def _take(self, items: list[Item]) -> None:
        """Learn messages, once it is known what their columns are."""
        if self._schema is not None:
            if items:
                self._learn(items)
            return
        self._held += items
        some = self._legible()
        if len(some) >= SAMPLE or (some and self._intake.rounded):
            self._settle_schema()

    def _legible(self) -> list[Entry]:
        """Return the messages held back whose records could be read."""
        records = (item.content for item in self._held if self._intake.is_record(item))
        return [entry for entry in records if not entry.reason]

    def _settle_schema(self) -> None:
        """Fix the kinds of columns, for good, and learn what was held back until now."""
        some = self._legible()
        if not some:
            return
        self._schema = self._decoder.schema(some[:SAMPLE])
        self._start(self._schema)
        # The kinds are on the disk before the first prediction leaves.
        content = self._content(self._first)
        self._snapshots.save(0, content).result()
        held, self._held = self._held, []
        for first in range(0, len(held), PIECE):
            self._learn(held[first : first + PIECE])

    # Learning.

    def _learn(self, items: list[Item]) -> None:
        """Predict and learn messages whose turn has come, and tell the figures as counts double."""
        first, read = 0, self.counts["read"]
        for behind, item in enumerate(items, 1):
            border = 1 << read.bit_length()
            read += item.content.holds if self._intake.is_record(item) else 0
            if read >= border:
                self._piece(items[first:behind])
                self._checkpoint()
                first = behind
        if first < len(items):
            self._piece(items[first:])

    def _piece(self, items: list[Item]) -> None:
        """Predict and learn messages."""
        assert self._schema is not None  # noqa: S101 - known by now
        counts, before = self.counts, self.counts["read"]
        records: list[Entry] = [item.content for item in items if self._intake.is_record(item)]
        batch = self._decoder.batch(records, self._schema, before)
        if self.topics.labels_topic is None:
            learned = self.model.learned
            p = self.model.progress(batch)
            counts["learned"] += self.model.learned - learned
            counts["predicted_only"] += batch.n - (self.model.learned - learned)
        else:
            labels, bad = self._labels(items, batch)
            p = self.model.follow(batch, labels)
            counts["labels"] += len(labels) + len(bad)
            counts["rejected_labels"] += len(bad)
            batch.rejects = sorted([*batch.rejects, *bad])
            counts["rejected"] -= len(bad)
        counts["read"] += batch.read
        counts["rejected"] += len(batch.rejects)
        self.messages += len(items)
        if batch.time is not None:
            older, counts["newest"] = count_older(batch.time, counts["newest"])
            counts["out_of_order"] += older
        if batch.rejects:
            self._reject(batch.rejects)
        for event in self.model.events():
            counts["generations" if event["accepted"] else "refused"] += 1
            self._report.generation(event)
        if self._outbox is not None:
            self._send(records, batch, p)
        if counts["read"] // TIDY > before // TIDY:
            give_back()
        self._report.tick(self)

    def _labels(self, items: list[Item], batch: Batch) -> tuple[list[LateLabel], list[Reject]]:
        """Return the labels among messages, each behind the records that came before it."""
        messages = [item.content for item in items if not self._intake.is_record(item)]
        found: dict[int, list[Label]] = {}
        for label in self._decoder.labels(messages):
            found.setdefault(id(label.entry), []).append(label)
        number, good, bad = self.counts["read"], list[LateLabel](), list[Reject]()
        for item in items:
            entry: Entry = item.content
            if self._intake.is_record(item):
                number += entry.holds
                continue
            for label in found[id(entry)]:
                if label.reason:
                    place, value = entry.message.partition, entry.message.value or b""
                    bad.append(
                        Reject(number, str(place), entry.message.offset, label.reason, show(value))
                    )
                else:
                    behind = int(np.searchsorted(batch.row, number))
                    good.append(LateLabel(behind, label.id, label.y, label.time))
        return good, bad

    def _reject(self, rejects: list[Any]) -> None:
        if self._rejects is not None:
            self._rejects.write(rejects)

    def _send(self, records: list[Entry], batch: Batch, p: Any) -> None:
        """Give the predictions of a batch to be delivered."""
        keys: list[str] = []
        for entry in records:
            message = entry.message
            key = f"{message.partition}/{self._broker.place(message.offset)}"
            keys += [key] if entry.holds == 1 else [f"{key}/{i}" for i in range(entry.holds)]
        first = batch.begin
        ids = [None] * batch.n if batch.id is None else batch.id.to_pylist()
        assert self._outbox is not None  # noqa: S101 - asked before
        for row, id_, value in zip(batch.row.tolist(), ids, p, strict=True):
            known = {"p": value} if id_ is None else {"id": id_, "p": value}
            self._outbox.send(
                keys[row - first], orjson.dumps(known, option=orjson.OPT_SERIALIZE_NUMPY)
            )

    # Snapshots.

    def _tend(self) -> None:
        """Deliver predictions, and take a snapshot where one is due."""
        outbox = self._outbox
        if outbox is not None:
            outbox.work(0.0)
            while outbox.full() and not self._signals.number:
                outbox.work(WAIT)
        if self._writing is not None and self._writing.done():
            self._writing.result()
            self._writing = None
            self._broker.commit(self._written)
        if self._pending is None and self._writing is None:
            if self._due():
                self._capture()
            return
        self._write()

    def _due(self) -> bool:
        if self._schema is None or self.messages == self._saved:
            return False
        since = self.messages - self._saved
        return (self._every is not None and since >= self._every) or (
            self._seconds is not None and time.perf_counter() >= self._saved_at + self._seconds
        )

    def _capture(self) -> None:
        """Copy what a snapshot is made of."""
        begun = time.perf_counter()
        content = self._content(self._intake.state())
        mark = 0 if self._outbox is None else self._outbox.mark()
        self._pending = self.messages, content, mark, self._intake.places
        self._snapshots.turn(self.messages)
        self._saved, self._saved_at = self.messages, time.perf_counter()
        self.stalls.append(self._saved_at - begun)
        log.info("copied for snapshot %d in %.1f ms", self.messages, 1000 * self.stalls[-1])
        self._write()

    def _write(self) -> None:
        """Have the copy written, once all predictions made before were delivered."""
        if self._pending is None or self._writing is not None:
            return
        number, content, mark, places = self._pending
        if self._outbox is None or self._outbox.settled(mark):
            self._writing, self._written = self._snapshots.save(number, content), places
            self._pending = None

    def _content(self, places: Mapping[str, Any]) -> Callable[[], tuple[dict[str, Any], Any]]:
        """Return what gives the content of a snapshot of this moment."""
        own = {
            "topics": self._names(),
            "places": places,
            "rounds": self._intake.rounds(),
            "counts": dict(self.counts),
            "rejects": None if self._rejects is None else self._rejects.position(),
        }
        captured = self.model.capture()

        def content() -> tuple[dict[str, Any], Any]:
            arrays, learner = captured()
            return arrays, {"learner": learner, "consumer": own}

        return content

    def _finish(self) -> None:
        """Save where the loop stands, and tell how it went."""
        until = time.monotonic() + PATIENCE
        while True:
            settled = self._pending is None and self._writing is None
            if settled and (self._schema is None or self.messages == self._saved):
                break
            if settled:
                self._capture()
            if self._writing is not None:
                self._writing.result()
            if self._outbox is not None:
                self._outbox.work(WAIT)
            if time.monotonic() > until and self._pending is not None:
                self._report.note(
                    "predictions could not be delivered, so the last snapshot was not written: "
                    "what it would have held will be read again"
                )
                break
            self._tend()
        if self._schema is not None:
            self._report.summary(self.summary())

    # Telling.

    def accounts(self) -> dict[str, int]:
        """Return what became of all records, over all runs of these snapshots.

        Returns
        -------
        ``read`` = ``learned`` + ``predicted_only`` + ``pending`` + ``rejected``.
        """
        counts = {name: self.counts[name] for name in OURS[:4]} | {"pending": 0}
        if self._schema is not None and self.topics.labels_topic is not None:
            late = self.model.attributed()
            counts |= {name: late[name] for name in ("learned", "predicted_only", "pending")}
        return counts

    def _labels_told(self) -> dict[str, Any]:
        if self.topics.labels_topic is None:
            return {}
        return late_figures(
            self.model.attributed(), self.counts["labels"], self.counts["rejected_labels"]
        )

    def checkpoint(self) -> dict[str, Any]:
        """Return the figures so far, and since the last checkpoint."""
        board = self.model.scoreboard
        assert board is not None  # noqa: S101 - the learner is started
        figures = checkpoint_figures(self.model, board, self.counts["generations"])
        return {"records": self.counts["read"], **self.accounts(), **figures, **self._speed()}

    def training(self) -> dict[str, int]:
        """Return the numbers of the generations in training at this moment, by member."""
        return self.model.training()

    def _checkpoint(self) -> None:
        if self.model.scoreboard is not None:
            self._report.checkpoint(self.checkpoint())
            self.model.scoreboard.mark()

    def summary(self) -> dict[str, Any]:
        """Return the figures of all runs of these snapshots."""
        board = self.model.scoreboard
        assert board is not None  # noqa: S101 - the learner is started
        return {
            **summary_figures(self.model, board),
            **self.accounts(),
            **self._labels_told(),
            **self._speed(),
            "out_of_order": self.counts["out_of_order"],
            "generations": self.counts["generations"],
            "refused": self.counts["refused"],
            "snapshots": len(self.stalls),
            "longest_stall": max(self.stalls, default=0.0),
            "troubles": self._broker.troubles,
        }

    def _speed(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._started
        speed = (self.counts["read"] - self._resumed_at) / max(seconds, 1e-9)
        return {"seconds": seconds, "records_per_second": speed}

    def size(self) -> tuple[None, int]:
        """Return that the size of what is to come is not known."""
        return None, 0


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
