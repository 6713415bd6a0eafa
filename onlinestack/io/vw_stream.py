"""Vowpal Wabbit text from files and pipes: the bytes cut at line ends, and parsed ahead."""

from __future__ import annotations

import os
import queue
import stat
import threading
from collections.abc import Iterator
from typing import BinaryIO, TypeVar

from onlinestack.io.vw_text import VWParser, VWRecords

__all__ = ["VWTextReader"]

T = TypeVar("T")

_CHUNK = 1 << 20
_LONGEST = 64 << 20


class VWTextReader:
    r"""Read Vowpal Wabbit text from a binary stream.

    Use it for ``.vw`` files and pipes. The records are the same however the bytes arrive. Reading
    is lazy, and with ``read_ahead`` two chunks ahead in a thread.

    Parameters
    ----------
    stream
        Anything with ``read``, better ``read1`` (then a pipe's complete lines come out at once),
        standing at the beginning of a line.
    parser
        What reads the lines; None for a ``VWParser()``.
    batch_size
        Most records of one ``VWRecords``.
    offset, line
        Where the stream stands: bytes and lines before its next byte.
    read_ahead
        Parse in a background thread; None does so for regular files.

    Raises
    ------
    ValueError
        When a line is longer than 64 MB, or ``batch_size`` is below 1.

    Examples
    --------
    >>> import io
    >>> reader = VWTextReader(io.BytesIO(b"1 |f a b\n\n-1 |f c"), batch_size=1)
    >>> [(records.line.tolist(), records.offset.tolist()) for records in reader]
    [([1], [0]), ([3], [10])]
    """

    def __init__(
        self,
        stream: BinaryIO,
        parser: VWParser | None = None,
        *,
        batch_size: int = 32768,
        offset: int = 0,
        line: int = 0,
        read_ahead: bool | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more.")
        self.stream = stream
        self.parser = parser or VWParser()
        self.batch_size = batch_size
        self.offset = offset
        self.line = line
        self.read_ahead = _is_file(stream) if read_ahead is None else read_ahead

    def __iter__(self) -> Iterator[VWRecords]:
        return _ahead(self._parsed()) if self.read_ahead else self._parsed()

    def _texts(self) -> Iterator[bytes]:
        """Cut the stream behind line ends."""
        read = getattr(self.stream, "read1", self.stream.read)
        waiting: list[bytes] = []
        size = 0
        while chunk := read(_CHUNK):
            cut = chunk.rfind(b"\n") + 1
            if cut:
                yield b"".join([*waiting, chunk[:cut]])
                waiting, size = [], 0
            waiting.append(chunk[cut:])
            size += len(chunk) - cut
            if size > _LONGEST:
                raise ValueError(
                    "A line of the Vowpal Wabbit text has more than 64 MB; "
                    "check that the input is text with one record a line."
                )
        if size:
            yield b"".join(waiting)

    def _parsed(self) -> Iterator[VWRecords]:
        offset, line, row = self.offset, self.line, 0
        for data in self._texts():
            records = self.parser.parse(data, offset=offset, line=line, row=row)
            offset += len(data)
            line = records.lines
            row += records.block.n
            for start in range(0, records.block.n, self.batch_size):
                yield records.rows(start, min(start + self.batch_size, records.block.n))


def _is_file(stream: BinaryIO) -> bool:
    """Tell whether a stream reads from a regular file."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (AttributeError, OSError):
        return False


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Draw items one or two ahead in a thread; its errors surface here."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(2)
    over = threading.Event()

    def put(item: T | None, error: BaseException | None = None) -> None:
        while not over.is_set():
            try:
                return ready.put((item, error), timeout=0.1)
            except queue.Full:
                pass

    def work() -> None:
        try:
            for item in items:
                put(item)
                if over.is_set():
                    return
            put(None)
        except BaseException as error:
            put(None, error)

    worker = threading.Thread(target=work, name="vw-text", daemon=True)
    worker.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        over.set()
        worker.join()
