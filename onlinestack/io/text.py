"""CSV and TSV, from files and pipes alike: columns out of chunks of whole records."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from onlinestack.io.chunks import Chunk, Chunks, find_records
from onlinestack.io.fields import split_columns
from onlinestack.io.reader import Bad, Job, Stretch, called, show
from onlinestack.io.schema import Kind, SchemaError, text_kind, unique_names

__all__ = ["SAMPLE", "TextReader"]

SAMPLE = 1000
"""Records of a file that fix the kinds of its columns; of a pipe it is the first one alone."""


class TextReader:
    """Reader of separated text, quoted as in RFC 4180 and encoded in whatever way.

    Values arrive as binary arrays, byte for byte; an empty value is empty, not null. Records with
    too few or too many fields are rejected. Blank lines are no records.

    Parameters
    ----------
    path
        File (also ``.gz`` or ``.zst``), or ``"-"``.
    delimiter
        Byte between fields.
    header
        Whether the first record names the columns.
    columns
        Names of the columns of a file without a header; None: ``c1``, ``c2``, ...

    Raises
    ------
    SchemaError
        If ``columns`` does not fit the first record.
    """

    def __init__(
        self,
        path: str,
        *,
        delimiter: bytes = b",",
        header: bool = True,
        columns: Sequence[str] | None = None,
    ) -> None:
        self.path = path
        self._delimiter = delimiter
        self._chunks = Chunks(path, delimiter)
        self.live = self._chunks.live
        self._first = 0
        try:
            self.names = self._read_names(header, columns)
        except BaseException:
            self.close()
            raise
        self._number = {name: i for i, name in enumerate(self.names)}

    def _read_names(self, header: bool, columns: Sequence[str] | None) -> tuple[str, ...]:
        looked_at: list[Chunk] = []
        while (chunk := self._chunks.next()) is not None:
            if chunk.reason is not None and header:
                raise SchemaError(
                    f"the header of {called(self.path)} can not be read: {chunk.reason}."
                )
            start, stop, fields = find_records(chunk.data, self._delimiter)
            if chunk.reason is not None or not len(fields):
                looked_at.append(chunk)
                continue
            if not header:
                self._chunks.give_back([*looked_at, chunk])
                names = columns or [f"c{i + 1}" for i in range(fields[0])]
                if len(names) != fields[0]:
                    raise SchemaError(
                        f"{len(names)} columns were named, but the first record of "
                        f"{called(self.path)} has {fields[0]}; name them all."
                    )
                return unique_names(names)
            self._first = chunk.offset + int(stop[0])
            header_text = chunk.data[start[0] : stop[0]] + b"\n"
            every = np.arange(fields[0])
            _, values, _ = split_columns(header_text, self._delimiter, len(every), every)
            rest = chunk.data[stop[0] :]
            if rest.strip(b"\r\n"):
                self._chunks.give_back([Chunk(self._first, rest, chunk.stop)])
            return unique_names([v[0].as_py().decode("utf-8", "replace") for v in values])
        self._chunks.give_back(looked_at)
        return unique_names(columns or ())

    def _decode(self, chunk: Chunk, done: int, names: Sequence[str | None]) -> Stretch:
        if chunk.reason is not None or not self.names:
            bad = [Bad(0, chunk.reason, show(chunk.data))] if chunk.reason is not None else []
            empty = [None if name is None else pa.array([], pa.binary()) for name in names]
            return Stretch(chunk.offset, len(bad), empty, bad, done)
        width = len(self.names)
        wanted = [self._number[name] for name in names if name is not None]
        n, columns, ragged = split_columns(
            chunk.data, self._delimiter, width, np.array(wanted, np.int64)
        )
        found = iter(columns)
        bad = [
            Bad(
                r.number, f"{r.fields} fields, expected {width}", show(chunk.data[r.start : r.stop])
            )
            for r in ragged
        ]
        return Stretch(
            chunk.offset,
            n + len(bad),
            [None if name is None else next(found) for name in names],
            bad,
            done,
            text=functools.partial(self._texts, chunk),
        )

    def _texts(self, chunk: Chunk, indices: list[int]) -> list[str]:
        start, stop, _ = find_records(chunk.data, self._delimiter)
        return [show(chunk.data[start[i] : stop[i]]) for i in indices]

    def kinds(self) -> dict[str, Kind]:
        """Return the kind of every column, from the first records."""
        wanted = 1 if self.live else SAMPLE
        tables: list[Stretch] = []
        found = 0
        looked_at: list[Chunk] = []
        while found < wanted and (chunk := self._chunks.next()) is not None:
            looked_at.append(chunk)
            stretch = self._decode(chunk, 0, self.names)
            found += stretch.read - len(stretch.bad)
            tables.append(stretch)
        self._chunks.give_back(looked_at)
        kinds: dict[str, Kind] = {}
        for i, name in enumerate(self.names):
            parts = [column for stretch in tables if (column := stretch.columns[i]) is not None]
            values = pa.concat_arrays(parts) if parts else pa.array([], pa.binary())
            kinds[name] = text_kind(values[:wanted])
        return kinds

    def jobs(self, wanted: Sequence[str], offset: int | None = None) -> Iterator[Job]:
        """Return the jobs that decode the file's stretches, in order.

        Parameters
        ----------
        wanted
            Names of the columns to decode, in the order they are to come.
        offset
            Position of a stretch to go on from; None for the first record. Of a pipe, bytes
            before it are read and dropped.
        """
        names = [name if name in self._number else None for name in wanted]
        if offset is not None and offset > self._first:
            self._chunks.go_to(offset)
        while (chunk := self._chunks.next()) is not None:
            yield functools.partial(self._decode, chunk, self._chunks.done, names)

    def close(self) -> None:
        """Close the file."""
        self._chunks.close()
