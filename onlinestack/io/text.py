"""CSV and TSV, from files and pipes alike: Arrow's parser over chunks of whole records."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from onlinestack.io.chunks import Chunk, Chunks, find_records
from onlinestack.io.reader import Bad, Job, Stretch, show
from onlinestack.io.schema import Kind, SchemaError, text_kind, unique_names

__all__ = ["SAMPLE", "TextReader"]

SAMPLE = 1000
"""Records of a file that fix the kinds of its columns; of a pipe it is the first one alone."""

_BOM = b"\xef\xbb\xbf"


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
        self._all = self._options(self.names)

    def _read_names(self, header: bool, columns: Sequence[str] | None) -> tuple[str, ...]:
        looked_at: list[Chunk] = []
        while (chunk := self._chunks.next()) is not None:
            if chunk.reason is not None and header:
                raise SchemaError(f"the header of {self.path} can not be read: {chunk.reason}.")
            start, stop, fields = find_records(chunk.data, self._delimiter)
            if chunk.reason is not None or not len(fields):
                looked_at.append(chunk)
                continue
            if not header:
                self._chunks.give_back([*looked_at, chunk])
                names = columns or [f"c{i + 1}" for i in range(fields[0])]
                if len(names) != fields[0]:
                    raise SchemaError(
                        f"{len(names)} columns were named, but the first record of {self.path} has "
                        f"{fields[0]}; name them all."
                    )
                return unique_names(names)
            self._first = chunk.offset + int(stop[0])
            record = self._table(chunk.data[start[0] : stop[0]] + b"\n", int(fields[0]))
            rest = chunk.data[stop[0] :]
            if rest.strip(b"\r\n"):
                self._chunks.give_back([Chunk(self._first, rest, chunk.stop)])
            return unique_names([c[0].as_py().decode("utf-8", "replace") for c in record.columns])
        self._chunks.give_back(looked_at)
        return unique_names(columns or ())

    def _table(self, data: bytes, width: int) -> pa.Table:
        return self._parse(data, self._options([str(i) for i in range(width)]))

    @staticmethod
    def _options(
        names: Sequence[str], wanted: Sequence[str] | None = None
    ) -> tuple[csv.ReadOptions, csv.ConvertOptions]:
        # One block, however long the data: a chunk is parsed by one thread, in one go.
        read = csv.ReadOptions(use_threads=False, column_names=list(names), block_size=1 << 30)
        types = {name: pa.binary() for name in (names if wanted is None else wanted)}
        convert = csv.ConvertOptions(
            column_types=types, strings_can_be_null=False, include_columns=list(types)
        )
        return read, convert

    def _parse(self, data: bytes, options: tuple[csv.ReadOptions, csv.ConvertOptions]) -> pa.Table:
        if data.startswith(_BOM):  # not at the start of the file, so it belongs to the value
            data = b"\n" + data
        return csv.read_csv(
            pa.BufferReader(data),
            read_options=options[0],
            parse_options=csv.ParseOptions(
                delimiter=self._delimiter.decode("latin-1"), newlines_in_values=True
            ),
            convert_options=options[1],
        )

    def _decode(
        self,
        chunk: Chunk,
        done: int,
        names: Sequence[str | None],
        options: tuple[csv.ReadOptions, csv.ConvertOptions],
    ) -> Stretch:
        bad: list[Bad] = []
        data = chunk.data
        if chunk.reason is not None or not self.names:
            empty = [None if name is None else pa.array([], pa.binary()) for name in names]
            if chunk.reason is not None:
                bad.append(Bad(0, chunk.reason, show(data)))
            return Stretch(chunk.offset, len(bad), empty, bad, done)
        try:
            table = self._parse(data, options)
        except pa.ArrowInvalid:
            data, bad = self._without_ragged(data)
            table = self._parse(data or b"\n", options)
        columns = [None if name is None else _one_chunk(table.column(name)) for name in names]
        text = functools.partial(self._texts, chunk)
        return Stretch(chunk.offset, table.num_rows + len(bad), columns, bad, done, text=text)

    def _texts(self, chunk: Chunk, indices: list[int]) -> list[str]:
        start, stop, _ = find_records(chunk.data, self._delimiter)
        return [show(chunk.data[start[i] : stop[i]]) for i in indices]

    def _without_ragged(self, data: bytes) -> tuple[bytes, list[Bad]]:
        """Cut out the records that have not as many fields as there are columns."""
        start, stop, fields = find_records(data, self._delimiter)
        bad = [
            Bad(
                i, f"{fields[i]} fields, expected {len(self.names)}", show(data[start[i] : stop[i]])
            )
            for i in np.flatnonzero(fields != len(self.names)).tolist()
        ]
        kept: list[bytes] = []
        behind = 0
        for i, _, _ in bad:
            kept.append(data[behind : start[i]])
            behind = int(stop[i])
        return b"".join([*kept, data[behind:]]), bad

    def kinds(self) -> dict[str, Kind]:
        """Return the kind of every column, from the first records."""
        wanted = 1 if self.live else SAMPLE
        tables: list[Stretch] = []
        found = 0
        looked_at: list[Chunk] = []
        while found < wanted and (chunk := self._chunks.next()) is not None:
            looked_at.append(chunk)
            stretch = self._decode(chunk, 0, self.names, self._all)
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
        known = set(self.names)
        names = [name if name in known else None for name in wanted]
        # Arrow takes "no columns" for "all of them"; one is enough to count records.
        present = [name for name in names if name is not None] or self.names[:1]
        options = self._options(self.names, present)
        if offset is not None and offset > self._first:
            self._chunks.go_to(offset)
        while (chunk := self._chunks.next()) is not None:
            yield functools.partial(self._decode, chunk, self._chunks.done, names, options)

    def close(self) -> None:
        """Close the file."""
        self._chunks.close()


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
