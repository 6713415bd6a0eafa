"""What every learner of the benches is given: a stream, its labels, and one progressive loop.

A track is one stream of ``streams/NAME.toml`` with labels that come at once, or, as
``NAME@DELAY``, only when DELAY more records have been predicted. Its columns are decoded by the
product's own sources, so that kinds, ignored columns and labels are the same for every learner.
"""

from __future__ import annotations

import resource
import subprocess
import time
import tomllib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = [
    "Deadline",
    "NotInstalled",
    "Peer",
    "Track",
    "open_track",
    "processor_seconds",
    "progressive",
]

KINDS = {"number": "numeric", "category": "categorical", "text": "text"}
"""Kinds of columns, as the product calls them and as learners are told."""
CHUNK = 4096
"""Records turned into dicts at once."""
X = TypeVar("X")


class NotInstalled(Exception):
    """A learner's library is not there; the message says in one sentence what to install."""


class Deadline:
    """The moment at which a learner is to stop: when it has had its processor seconds.

    They are those of this process and of the processes it has waited for, from its start: what
    runs beside it does not count, threads do.

    >>> Deadline(0).passed, Deadline(3600).passed, Deadline(None).passed
    (True, False, False)
    """

    def __init__(self, seconds: float | None) -> None:
        self.peak_mb = 0.0
        """Most resident memory of a process that was waited for."""
        self._seconds = float("inf") if seconds is None else processor_seconds() + seconds

    @property
    def left(self) -> float:
        """Processor seconds left; infinite without a limit, below 0 behind it."""
        return self._seconds - processor_seconds()

    @property
    def passed(self) -> bool:
        """Whether it is behind us."""
        return processor_seconds() >= self._seconds

    def wait(self, process: subprocess.Popen[Any], share: float = 1.0) -> bool:
        """Wait for a process, which is not to write to pipes; tell whether it came to its end.

        Parameters
        ----------
        process
            What to wait for; it is left running where its time is over.
        share
            How much of the time that is left it may have.
        """
        limit = self.left * share
        with suppress(psutil.NoSuchProcess):
            told = psutil.Process(process.pid)
            while process.poll() is None:
                times = told.cpu_times()
                self.peak_mb = max(self.peak_mb, _peak_mb(process.pid))
                if times.user + times.system >= limit:
                    return False
                time.sleep(0.02)
        process.wait()
        return True


def _peak_mb(pid: int) -> float:
    """Return the most resident memory that a process has had; 0 where it is not told.

    The system's accounts of a process that has ended would hold its parent's memory, too.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def processor_seconds() -> float:
    """Return the processor seconds of this process and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@dataclass(frozen=True)
class Track:
    """One stream in its order, as every learner gets it.

    Parameters
    ----------
    name
        Name of the stream, with ``@DELAY`` where labels come late.
    path
        Its file.
    options
        How `open_source` is to read it: label, kinds, ignored columns.
    task
        What is to be predicted: "click".
    limit
        Only so many records, the first; None for all.
    delay
        Records predicted between a record's prediction and its label.
    """

    name: str
    path: Path
    options: Mapping[str, Any]
    task: str = "click"
    limit: int | None = None
    delay: int = 0

    @property
    def stream(self) -> str:
        """Name of the stream, whatever the delay."""
        return self.name.partition("@")[0]

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.labels)

    @cached_property
    def labels(self) -> NDArray[np.float64]:
        """``float64[n]``: 1 click, 0 none; NaN where unknown: predicted, never learned."""
        return self._decoded[0]

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each column, in the order of the file: numeric, categorical or text."""
        return {f.name: f.metadata[b"kind"].decode() for f in self.columns().schema}

    def columns(self) -> pa.Table:
        """Return the features, columns in the order of the file, null where missing.

        A numeric column is ``float64``, a categorical one ``string`` (numbers as the product writes
        them), text ``string`` of tokens parted by spaces. Each field's metadata has its ``kind``.
        A time column is replaced by hour of day and day of week, at the end.
        """
        return self._decoded[1]

    def known(self, i: int) -> int:
        """Return how many of the first labels are known when record ``i`` is predicted."""
        return max(0, i - self.delay)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each record as a dict of the fields that are not missing."""
        table = self.columns()
        names = table.column_names
        for start in range(0, self.n, CHUNK):
            columns = [column.to_pylist() for column in table.slice(start, CHUNK).columns]
            for values in zip(*columns, strict=True):
                pairs = zip(names, values, strict=True)
                yield {name: value for name, value in pairs if value is not None}

    @cached_property
    def _decoded(self) -> tuple[NDArray[np.float64], pa.Table]:
        from onlinestack.io.source import open_source

        source = open_source(self.path, **self.options)
        fields, labels = source.schema.fields, []
        chunks: list[list[Any]] = [[] for _ in fields]
        room = self.limit
        for batch in source:
            if batch.rejects:
                raise ValueError(f"{self.path.name}: {batch.rejects[0].reason}")
            part = batch if room is None else batch.part(0, min(room, batch.n))
            labels.append(part.label)
            for chunk, column in zip(chunks, part.columns, strict=True):
                chunk.append(column)
            room = None if room is None else room - part.n
            if room == 0:
                break
        place = {name: k for k, name in enumerate(source.names)}
        order = sorted(range(len(fields)), key=lambda k: place.get(fields[k].name, len(place) + k))
        columns = [_plain(pa.chunked_array(chunks[k]), fields[k].kind) for k in order]
        types = [
            pa.field(fields[k].name, column.type, metadata={"kind": KINDS[fields[k].kind]})
            for k, column in zip(order, columns, strict=True)
        ]
        known = np.concatenate(labels).astype(np.float64)
        return known, pa.Table.from_arrays(columns, schema=pa.schema(types))


class Peer(Protocol):
    """A learner as the benches run it.

    ``name`` is unique; ``family`` groups learners of one library or kind; ``settings`` is printed
    in the page; ``marks`` are words to be read with its figures ("chosen afterwards"). One that has
    ``prepare(track, folder)`` is given time before the clock starts, to write files as its library
    reads them.
    """

    name: str
    family: str
    settings: Mapping[str, object]
    marks: tuple[str, ...]

    def versions(self) -> dict[str, str]:
        """Return the version of each library that it needs; raise `NotInstalled` without one."""
        ...

    def run(self, track: Track, deadline: Deadline) -> NDArray[np.float64]:
        """Return the probabilities of the records 0 to m - 1; m < n where the deadline passed."""
        ...


def progressive(
    track: Track,
    predict: Callable[[X], float],
    learn: Callable[[X, float], None],
    deadline: Deadline,
    records: Iterable[X] | None = None,
) -> NDArray[np.float64]:
    """Predict each record before its label is learned, and hold labels back by the track's delay.

    Parameters
    ----------
    track
        The records, unless others are given, the labels and their delay.
    predict
        Called with a record, returns the probability of a click.
    learn
        Called with a record and its label, 0.0 or 1.0, in the order of the records; records without
        a label are left out.
    deadline
        No record is begun behind it.
    records
        What stands for each record (its number, a prepared row); default: `Track.records`.

    Returns
    -------
    ``float64[m]``: probabilities of the records predicted.
    """
    items: Iterable[Any] = track.records() if records is None else records
    labels, p = track.labels, np.empty(track.n)
    waiting: deque[Any] = deque()
    done = 0
    for item in items:
        if deadline.passed:
            break
        p[done] = predict(item)
        waiting.append(item)
        done += 1
        if len(waiting) > track.delay:
            y = float(labels[done - len(waiting)])
            x = waiting.popleft()
            if y == y:
                learn(x, y)
    return p[:done]


def open_track(description: Path, path: Path, *, limit: int | None = None, delay: int = 0) -> Track:
    """Return the track of a stream's TOML file and its file of records."""
    stream = tomllib.loads(description.read_text(encoding="utf-8"))
    options = {key: value for key, value in stream.items() if key not in ("file", "task")}
    name = f"{description.stem}@{delay}" if delay else description.stem
    return Track(name, path, options, stream["task"], limit, delay)


def _plain(column: pa.ChunkedArray, kind: str) -> pa.ChunkedArray:
    """Return a column as float64, or as text the way the product reads it; null where missing."""
    if kind == "number":
        values = pc.cast(column, pa.float64())
        return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if kind == "text" and not pa.types.is_string(column.type):
        column = pc.binary_join(pc.cast(column, pa.list_(pa.string())), " ")
    if pa.types.is_floating(column.type):
        # 3.0 is the category 3
        whole = pc.equal(pc.floor(column), column)
        texts = pc.cast(column, pa.string())
        column = pc.if_else(whole, pc.replace_substring_regex(texts, r"\.0$", ""), texts)
    column = pc.cast(column, pa.string())
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
