"""What every reader of a format offers, and how its stretches are decoded ahead of the learner.

A *reader* opens one file and cuts it into *stretches*: consecutive records that can be decoded
without knowing those before them. Cutting is sequential and cheap; decoding is neither, so it is
handed out as jobs, which for files run in background threads while the learner works.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import pyarrow as pa

from onlinestack.io.schema import Kind

__all__ = [
    "TEXT_LIMIT",
    "Bad",
    "Job",
    "Reader",
    "SourceError",
    "Stretch",
    "ahead",
    "called",
    "show",
]

TEXT_LIMIT = 200
"""Characters of a rejected record that are kept."""

BEHIND = 5
"""How much nicer (`nice(2)`) threads are that give way."""

T = TypeVar("T")


class SourceError(ValueError):
    """A source that can not be read as asked; the message is one sentence."""


class Bad(NamedTuple):
    """A record that could not be read: its number in the stretch from 0, why, and its text."""

    number: int
    reason: str
    text: str


@dataclass(slots=True)
class Stretch:
    """Consecutive records of one file, decoded into columns.

    Parameters
    ----------
    offset
        Where the stretch starts: bytes of the decompressed text, or records of an Arrow file.
    read
        Records in the stretch, those in ``bad`` included.
    columns
        The columns asked for, in that order, ``read - len(bad)`` long; None for a column that the
        file does not have.
    bad
        The records that could not be read, in order.
    done
        Bytes of the file behind the stretch, as they lie on disk.
    parsed
        Vowpal Wabbit text: what its parser made of the records, instead of columns.
    text
        Returns the texts of records given by their numbers in the stretch, for the reject file.
    """

    offset: int
    read: int
    columns: list[pa.Array | None]
    bad: list[Bad] = field(default_factory=list)
    done: int = 0
    parsed: Any = None
    text: Callable[[list[int]], list[str]] | None = None


Job = Callable[[], Stretch]


class Reader(Protocol):
    """One file of one format."""

    names: tuple[str, ...]
    """The columns of the file, in its own order."""
    live: bool
    """Whether records arrive while we wait (a pipe): nothing may be read ahead."""

    def kinds(self) -> dict[str, Kind]:
        """Return the kind of every column."""

    def jobs(self, wanted: Sequence[str], offset: int | None = None) -> Iterator[Job]:
        """Return the jobs that decode the file's stretches, in order, from an offset on."""

    def close(self) -> None:
        """Close the file."""


def called(path: str) -> str:
    """Return what to call a source in a sentence."""
    return "standard input" if path == "-" else path


def show(raw: bytes | memoryview) -> str:
    """Return the text of a rejected record for a person to read, cut to `TEXT_LIMIT`."""
    text = bytes(raw[: 4 * TEXT_LIMIT]).decode("utf-8", "replace").rstrip("\r\n")
    return text[:TEXT_LIMIT]


def _give_way() -> None:
    """Let this thread, and those it starts, have the processor a third as often as others.

    Does nothing where threads have no priorities of their own.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND)


def ahead(
    jobs: Iterator[Callable[[], T]], *, workers: int = 2, depth: int = 3, give_way: bool = False
) -> Generator[T, None, None]:
    """Run jobs in background threads and give their results in the order of the jobs.

    Parameters
    ----------
    jobs
        Where jobs come from; asked in a thread of its own.
    workers
        Threads that run jobs.
    depth
        Results that may wait for the consumer; so memory stays bounded.
    give_way
        Whether the threads, and those of Arrow if they start them, give way to others: they are
        ahead of their turn, while the consumer waits for nothing else.

    Raises
    ------
    Whatever a job or ``jobs`` raises, at its place in the order.

    Examples
    --------
    >>> list(ahead(iter([lambda: "a", lambda: "b"])))
    ['a', 'b']
    """
    waiting: queue.Queue[Future[T] | None] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: Future[T] | None) -> None:
        while not stop.is_set():
            try:
                return waiting.put(item, timeout=0.2)
            except queue.Full:
                continue

    def cut(pool: ThreadPoolExecutor) -> None:
        if give_way:
            _give_way()
        try:
            for job in jobs:
                put(pool.submit(job))
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # handed to the consumer, who raises it in its turn
            failed: Future[T] = Future()
            failed.set_exception(error)
            put(failed)

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        cutter = threading.Thread(target=cut, args=(pool,), name="cut", daemon=True)
        cutter.start()
        try:
            while (future := waiting.get()) is not None:
                yield future.result()
        finally:
            stop.set()
            cutter.join()
