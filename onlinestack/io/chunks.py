"""Bytes of files and pipes, cut between records.

Files and pipes go the same way: pieces of bytes come in, in whatever sizes, and chunks of whole
records go out. Where a record ends depends on its bytes alone, never on how they arrived.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.io.reader import TEXT_LIMIT, SourceError, called
from onlinestack.kernel import kernel

__all__ = ["RECORD_LIMIT", "ByteStream", "Chunk", "Chunks", "Splitter", "find_records", "is_live"]

RECORD_LIMIT = 1 << 26
"""Bytes a record may have (64 MB); a longer one is rejected, so that memory stays bounded."""

PIECE = 1 << 23
"""Bytes read from a file at once."""
LOOK_UP = 0.5
"""Seconds between two looks at what may have come beside bytes: signals."""

_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
_BOM = b"\xef\xbb\xbf"
_QUOTED = 3


@kernel()
def _scan(text: Any, delimiter: Any, state: Any, start: Any, stop: Any, fields: Any) -> Any:
    """Find the ends of records in CSV text, by the quoting rules of Arrow's parser.

    A quote opens a quoted field only as the field's first byte; inside, two quotes are one and a
    single one ends the quoting, whatever follows. Records end at LF or CR outside quotes, and
    lines without a byte are no records (which also makes one end of CR LF).

    Parameters
    ----------
    text
        ``uint8``, read-only.
    delimiter
        The byte between fields.
    state
        0 at the start of a record, 1 of a field, 2 in a plain field, 3 in quotes, 4 behind a
        quote in quotes.
    start, stop, fields
        ``int64``: receive each record's first byte, the byte behind its last, and its number of
        fields; records beyond their length are only counted.

    Returns
    -------
    Number of records that end in the text, position behind the last line end (0: none), state.
    """
    records = 0
    end = 0
    first = 0
    parts = 1
    highest = max(delimiter, 34)
    for i in range(len(text)):
        byte = text[i]
        if byte > highest:  # nearly always
            if state != 3:
                state = 2
        elif state == 3:
            if byte == 34:
                state = 4
        elif byte == 10 or byte == 13:
            if state != 0:
                if records < len(start):
                    start[records] = first
                    stop[records] = i
                    fields[records] = parts
                records += 1
            state = 0
            end = i + 1
            first = end
            parts = 1
        elif byte == delimiter:
            state = 1
            parts += 1
        elif byte == 34 and (state == 0 or state == 1 or state == 4):
            state = 3
        else:
            state = 2
    return records, end, state


_NONE = np.empty(0, np.int64)


def find_records(
    text: bytes, delimiter: bytes
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    r"""Return first byte, byte behind the last, and number of fields of each record.

    Parameters
    ----------
    text
        Whole records, the last one ended by a line end.
    delimiter
        The byte between fields.

    Examples
    --------
    >>> start, stop, fields = find_records(b'a,"b\n,c"\r\n\nd\n', b",")
    >>> start.tolist(), stop.tolist(), fields.tolist()
    ([0, 11], [8, 12], [2, 1])
    """
    data, comma = np.frombuffer(text, np.uint8), delimiter[0]
    n, _, _ = _scan(data, comma, 0, _NONE, _NONE, _NONE)
    start, stop, fields = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    _scan(data, comma, 0, start, stop, fields)
    return start, stop, fields


@dataclass(slots=True)
class Chunk:
    """Whole records as they were written, or one that has to be rejected.

    Parameters
    ----------
    offset
        Position of the first byte in the decompressed file.
    data
        The bytes, with a line end at the end; of a rejected record the first few.
    stop
        Position behind the last byte.
    reason
        Why the record has to be rejected, None for good chunks.
    """

    offset: int
    data: bytes
    stop: int
    reason: str | None = None


class Splitter:
    r"""Cut arriving bytes between records.

    Parameters
    ----------
    delimiter
        Byte between fields of CSV text, whose quoted fields may hold line ends; None for formats
        whose records end at each LF.
    offset
        Position of the first byte that will arrive.
    limit
        Bytes a record may have.

    Examples
    --------
    >>> splitter = Splitter(b",")
    >>> [chunk.data for chunk in splitter.feed(b'a,"x\n')]
    []
    >>> [chunk.data for chunk in splitter.feed(b'y"\nb,')]
    [b'a,"x\ny"\n']
    >>> [chunk.data for chunk in splitter.finish()]
    [b'b,\n']
    """

    def __init__(self, delimiter: bytes | None, offset: int = 0, limit: int = RECORD_LIMIT) -> None:
        self._delimiter = delimiter
        self._offset = offset
        self._limit = limit
        self._open: list[bytes] = []  # pieces of the record that has not ended yet
        self._size = 0  # its length so far
        self._state = 0
        self._dropped: Chunk | None = None  # a line too long to keep, its end not yet here

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """Take the next bytes and give the chunk of records that are now whole, if any."""
        if self._offset == 0 and self._size < len(_BOM):
            piece = b"".join([*self._open, piece])
            self._open, self._size, self._state = [], 0, 0
            if piece.startswith(_BOM):
                piece, self._offset = piece[len(_BOM) :], len(_BOM)
            elif _BOM.startswith(piece):  # may yet become one
                self._open, self._size, self._state = [piece], len(piece), 2
                return
        while piece:
            if self._dropped is not None:
                piece = yield from self._drop(piece)
                continue
            part, piece = piece[: self._limit - self._size], piece[self._limit - self._size :]
            end = self._scan(part)
            if end:
                yield self._take(b"".join([*self._open, part[:end]]))
                part = part[end:]
            if part:
                self._open.append(part)
                self._size += len(part)
            if self._size >= self._limit:
                yield from self._recover(ended=False)

    def finish(self) -> Iterator[Chunk]:
        """Give what is left when no more bytes will come."""
        if self._dropped is not None:
            self._dropped.stop = self._offset
            yield self._dropped
            self._dropped = None
        if self._open and self._state == _QUOTED:
            yield from self._recover(ended=True)
        if self._open:
            size = self._size
            chunk = self._take(b"".join([*self._open, b"\n"]))
            chunk.stop = self._offset = chunk.offset + size
            yield chunk

    def _scan(self, part: bytes) -> int:
        """Return the position behind the last line end that ends a record, 0 when there is none."""
        if self._delimiter is None:
            self._state = 2
            return part.rfind(b"\n") + 1
        if self._state != _QUOTED and self._state != 4 and part.find(b'"') < 0:
            end = max(part.rfind(b"\n"), part.rfind(b"\r")) + 1
            if end < len(part):
                self._state = 1 if part.endswith(self._delimiter) else 2
            else:
                self._state = 0
            return end
        data = np.frombuffer(part, np.uint8)
        _, end, self._state = _scan(data, self._delimiter[0], self._state, _NONE, _NONE, _NONE)
        return int(end)

    def _take(self, data: bytes) -> Chunk:
        chunk = Chunk(self._offset, data, self._offset + len(data))
        self._offset += len(data)
        self._open, self._size = [], 0
        return chunk

    def _recover(self, ended: bool) -> Iterator[Chunk]:
        """Reject the first line of the open record, which does not end, and take up the rest.

        A line of the rest that leaves a quote open does so at the very place where the record
        before it was inside quotes, too; from there on both are the same, and nothing has to be
        read again. So a file of nothing but open quotes takes no longer than others.
        """
        data = b"".join(self._open)
        before, start = self._state, self._offset
        reason = "longer than 64 MB"
        if before == _QUOTED:
            where = "before the end of the file" if ended else "within 64 MB"
            reason = f"a quoted field does not end {where}"
        self._open, self._size, self._state = [], 0, 0
        at = self._line_end(data, 0)
        if not at and not ended:
            self._offset += len(data)
            self._dropped = Chunk(start, data[: 4 * TEXT_LIMIT], 0, reason)
            return
        good = at = at or len(data)
        yield Chunk(start, data[: min(at, 4 * TEXT_LIMIT)], start + at, reason)
        while at < len(data):
            stop = self._line_end(data, at)
            self._scan(data[at : stop or len(data)])
            if self._state == _QUOTED and ended:
                stop = stop or len(data)
                if good < at:
                    yield Chunk(start + good, data[good:at], start + at)
                head = data[at : min(stop, at + 4 * TEXT_LIMIT)]
                yield Chunk(start + at, head, start + stop, reason)
                good, self._state = stop, 0
            elif self._state != 0:
                self._state = before if stop else self._state
                break
            at = stop
        if good < at:
            yield Chunk(start + good, data[good:at], start + at)
        self._offset = start + at
        if at < len(data):
            self._open, self._size = [data[at:]], len(data) - at

    def _line_end(self, data: bytes, start: int) -> int:
        """Return the position behind the next line end, 0 when there is none."""
        end = data.find(b"\n", start) + 1
        if self._delimiter is not None:
            end = data.find(b"\r", start, end or len(data)) + 1 or end
        return end

    def _drop(self, piece: bytes) -> Generator[Chunk, None, bytes]:
        """Pass over a line that is too long; return the bytes behind it."""
        end = self._line_end(piece, 0)
        self._offset += end or len(piece)
        if end and self._dropped is not None:
            self._dropped.stop = self._offset
            yield self._dropped
            self._dropped = None
        return piece[end:] if end else b""


def is_live(path: str) -> bool:
    """Tell whether records of a source arrive while we wait: standard input, pipes, sockets."""
    return path == "-" or not stat.S_ISREG(os.stat(path).st_mode)


class ByteStream:
    """The decompressed bytes of a file, or of standard input and pipes as they arrive.

    Parameters
    ----------
    path
        File, or ``"-"`` for standard input. Files that end in ``.gz`` or ``.zst`` are decompressed.
    offset
        First byte wanted, counted in decompressed bytes; those before are passed over.

    Raises
    ------
    OSError
        If the file can not be opened.
    SourceError
        If it is shorter than the offset.
    """

    def __init__(self, path: str, offset: int = 0) -> None:
        self.path = path
        self.live = is_live(path)
        self._compression = _COMPRESSION.get(Path(path).suffix)
        self._file: Any = self._standard_input() if path == "-" else open(path, "rb", buffering=0)
        self._stream: Any = self._file
        if self._compression:
            raw = pa.PythonFile(self._file, mode="r")
            self._stream = pa.CompressedInputStream(raw, self._compression)
        try:
            self._pass_over(offset)
        except BaseException:
            self.close()
            raise

    def _pass_over(self, offset: int) -> None:
        skipped = 0
        if not self.live and not self._compression:
            self._stream.seek(offset)
            skipped = min(offset, os.stat(self.path).st_size)
        while skipped < offset and (piece := self._read(min(PIECE, offset - skipped))):
            skipped += len(piece)
        if skipped < offset:
            raise SourceError(
                f"{called(self.path)} ends at byte {skipped:,}, before the position "
                f"{offset:,} to go on from; give the file that was read before."
            )

    @staticmethod
    def _standard_input() -> Any:
        buffer = sys.stdin.buffer
        try:
            return open(buffer.fileno(), "rb", buffering=0, closefd=False)
        except (OSError, ValueError):  # a stand-in without a file behind it
            return buffer

    @property
    def done(self) -> int:
        """Bytes read so far, as they lie on disk."""
        return 0 if self.live else int(self._file.tell())

    def read(self) -> bytes:
        """Return the next bytes; of a pipe those that are there, waiting for at least one.

        The answer is empty at the end.
        """
        if self.live and not self._compression:
            self._wait()
        piece = self._read(PIECE)
        if not self.live or not piece:
            return piece
        pieces, size = [piece], len(piece)
        while size < PIECE and self._ready() and (piece := self._read(PIECE - size)):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def _read(self, size: int) -> bytes:
        try:
            piece = self._stream.read(size)
        except OSError as error:
            if self._compression is None:
                raise
            raise SourceError(
                f"{self.path} is no whole {self._compression} file ({error}); compress it again."
            ) from None
        return bytes(piece)

    def _wait(self) -> None:
        """Wait for bytes, or the end, and look up now and then.

        A signal that comes after Python has looked for signals, and before the system waits for
        bytes, would not be heard before they come.
        """
        with contextlib.suppress(OSError, ValueError, TypeError):  # nothing to ask the system of
            while not select.select([self._file], [], [], LOOK_UP)[0]:
                pass

    def _ready(self) -> bool:
        """Tell whether more bytes (or the end) are there already."""
        if self._compression:
            return False
        try:
            return bool(select.select([self._file], [], [], 0)[0])
        except (OSError, ValueError, TypeError):
            return False

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self._file.close() if self.path != "-" else None


class Chunks:
    """The chunks of a file or pipe, one after the other; some may be looked at beforehand.

    Parameters
    ----------
    path, delimiter
        As for `ByteStream` and `Splitter`.
    """

    def __init__(self, path: str, delimiter: bytes | None) -> None:
        self.path = path
        self._delimiter = delimiter
        self._seen: deque[Chunk] = deque()
        self._open(0)

    def _open(self, offset: int) -> None:
        self._stream = ByteStream(self.path, offset)
        self._coming = self._split(self._stream, Splitter(self._delimiter, offset))

    @staticmethod
    def _split(stream: ByteStream, splitter: Splitter) -> Iterator[Chunk]:
        while piece := stream.read():
            yield from splitter.feed(piece)
        yield from splitter.finish()

    @property
    def live(self) -> bool:
        """Whether the bytes come from a pipe."""
        return self._stream.live

    @property
    def done(self) -> int:
        """Bytes read so far, as they lie on disk."""
        return self._stream.done

    def next(self) -> Chunk | None:
        """Return the next chunk, None at the end."""
        return self._seen.popleft() if self._seen else next(self._coming, None)

    def give_back(self, chunks: Iterable[Chunk]) -> None:
        """Take back chunks that were only looked at; they come again first."""
        self._seen.extendleft(reversed([*chunks]))

    def go_to(self, offset: int) -> None:
        """Let the next chunk begin at a byte where a chunk began before.

        Raises
        ------
        SourceError
            If the bytes end before.
        """
        if not self.live:
            self._stream.close()
            self._seen.clear()
            return self._open(offset)
        while (chunk := self.next()) is not None:
            if chunk.stop > offset:
                cut = max(0, offset - chunk.offset)
                rest = Chunk(chunk.offset + cut, chunk.data[cut:], chunk.stop, chunk.reason)
                return self.give_back([rest])
        raise SourceError(
            f"{called(self.path)} ended before byte {offset:,}, the point to go on from; give what "
            "was read before."
        )

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
