"""Parquet files and Arrow IPC files and streams."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from onlinestack.io.chunks import ByteStream, is_live
from onlinestack.io.reader import Job, SourceError, Stretch, called, show
from onlinestack.io.schema import Kind, SchemaError, arrow_kind, list_names
from onlinestack.spare import later

pc = later("pyarrow.compute")
pq = later("pyarrow.parquet")

__all__ = ["ArrowReader", "feature_array"]

_log = logging.getLogger(__name__)

_ROWS = 1 << 17
"""Records of a stretch."""

_GROUP_BYTES = 1 << 27
"""Largest row group of Parquet, decompressed, that is read at once."""

_CODED = 3.5
"""Bytes a value of a Parquet column may take, its share of the dictionary included, for the column
to be read as one. A column that takes more repeats its values too little, or its writer gave its
dictionary up; rebuilding that is slower than reading plain text."""


class ArrowReader:
    """Reader of Parquet and Arrow IPC, file or stream; columns keep their types.

    Structs become columns ``a.b``; columns of types that hold no feature (maps, lists of structs)
    are left out with a warning. Text columns of Parquet come as dictionaries where the file has
    them. Parquet and the Arrow file format are read from their end, so standard input can carry
    only an Arrow stream, and a ``.gz`` or ``.zst`` of them is decompressed into memory as a whole.

    Parameters
    ----------
    path
        File, or ``"-"``.
    format
        ``"parquet"`` or ``"arrow"``; files and streams of the latter are told apart by their head.

    Raises
    ------
    SourceError
        If the file is not of that format, or can not be read from where it is.
    SchemaError
        If two columns have the same name.
    """

    def __init__(self, path: str, format: str) -> None:
        self.path = path
        self.live = is_live(path)
        self._size = 0 if self.live else os.stat(path).st_size
        self._handle: Any = None
        self._parquet: Any = None
        self._file: Any = None
        self._stream: Any = None
        if format == "parquet" and self.live:
            raise SourceError(
                f"Parquet needs a file that can be read from its end, and {called(path)} is none; "
                "give the file's name, or pipe Arrow IPC or CSV."
            )
        self._empty = not self.live and self._size == 0
        try:
            schema = pa.schema([]) if self._empty else self._open(format)
            self._paths, types = _leaves(schema, path)
        except BaseException as error:
            self.close()
            if isinstance(error, pa.ArrowInvalid) or (
                isinstance(error, OSError) and error.errno is None
            ):
                raise SourceError(
                    f"{called(path)} can not be read as {format} ({_first_line(error)}); it is "
                    "damaged, or --format has to name another format."
                ) from None
            raise
        self.names = tuple(self._paths)
        self._kinds = dict(zip(self.names, types, strict=True))

    def _open(self, format: str) -> pa.Schema:
        compressed = Path(self.path).suffix in (".gz", ".zst")
        if self.live:
            self._handle = pa.PythonFile(_Exact(ByteStream(self.path)), mode="r")
        elif compressed:
            self._handle = pa.BufferReader(_all_bytes(self.path))
        elif format == "parquet":
            self._handle = pa.OSFile(self.path)
        else:
            self._handle = pa.memory_map(self.path)
        if format == "parquet":
            self._parquet = pq.ParquetFile(self._handle)
            return self._parquet.schema_arrow
        if not self.live and bytes(self._handle.read(6)) == b"ARROW1":
            self._handle.seek(0)
            self._file = pa.ipc.open_file(self._handle)
            return self._file.schema
        if not self.live:
            self._handle.seek(0)
        self._stream = pa.ipc.open_stream(self._handle)
        return self._stream.schema

    def kinds(self) -> dict[str, Kind]:
        """Return the kind of every column."""
        return dict(self._kinds)

    def jobs(self, wanted: Sequence[str], offset: int | None = None) -> Iterator[Job]:
        """Return the jobs that decode the file's stretches, in order.

        Parameters
        ----------
        wanted
            Names of the columns to decode, in the order they are to come.
        offset
            Number of records to pass over.
        """
        if self._empty:
            return
        paths = [self._paths.get(name) for name in wanted]
        tops = list(dict.fromkeys(path[0] for path in paths if path))
        places = _places(paths, self._schema_of(tops))
        at = 0
        for start, batch in self._batches(tops, offset or 0):
            at = start
            skip = max(0, (offset or 0) - at)
            for first in range(skip, batch.num_rows, _ROWS):
                part = batch.slice(first, _ROWS)
                done = self._done(at + first + part.num_rows)
                yield functools.partial(
                    _decode, part.columns, part.num_rows, places, at + first, done
                )

    def _schema_of(self, tops: list[str]) -> pa.Schema:
        source = self._parquet or self._file or self._stream
        schema = source.schema_arrow if self._parquet else source.schema
        return pa.schema([schema.field(name) for name in tops])

    def _batches(self, tops: list[str], offset: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Return record batches and the number of records before each."""
        at = 0
        if self._parquet is not None:
            metadata = self._parquet.metadata
            group = 0
            while group < metadata.num_row_groups:
                rows = metadata.row_group(group).num_rows
                if at + rows > offset:
                    break
                at, group = at + rows, group + 1
            self._handle.seek(0)
            file = pq.ParquetFile(
                self._handle,
                metadata=metadata,
                read_dictionary=_dictionaries(metadata, self._parquet.schema_arrow, tops),
                pre_buffer=False,  # it would keep every row group until the end of the file
            )
            for batch in _row_groups(file, group, tops):
                yield at, batch
                at += batch.num_rows
            return
        if self._file is not None:
            batches: Iterator[pa.RecordBatch] = (
                self._file.get_batch(i) for i in range(self._file.num_record_batches)
            )
        else:
            batches = iter(self._stream)
        for batch in batches:
            if at + batch.num_rows > offset:
                yield at, batch.select(tops)
            at += batch.num_rows

    def _done(self, rows: int) -> int:
        if self._parquet is not None:
            total: int = self._parquet.metadata.num_rows
            return self._size * rows // max(1, total)
        return 0 if self.live else min(self._size, int(self._handle.tell()))

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None and self.path != "-":
            self._handle.close()


def _row_groups(file: Any, first: int, columns: list[str]) -> Generator[pa.RecordBatch, None, None]:
    """Read row groups at once where they are small enough, for then dictionaries are read once."""
    metadata = file.metadata
    sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    for group in range(first, len(sizes)):
        if sizes[group] > _GROUP_BYTES:
            yield from file.iter_batches(_ROWS, row_groups=[group], columns=columns)
            continue
        yield from file.read_row_group(group, columns).to_batches()


class _Exact:
    """The file interface that Arrow asks of a pipe: reads that return all they were asked for."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._rest = b""
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        pieces, got = [self._rest], len(self._rest)
        while got < size and (piece := self._stream.read()):
            pieces.append(piece)
            got += len(piece)
        data = b"".join(pieces)
        self._rest = data[size:]
        return data[:size]

    def close(self) -> None:
        self.closed = True
        self._stream.close()


def _all_bytes(path: str) -> pa.Buffer:
    stream = ByteStream(path)
    sink = pa.BufferOutputStream()
    try:
        while piece := stream.read():
            sink.write(piece)
    finally:
        stream.close()
    return sink.getvalue()


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


def _leaves(schema: pa.Schema, path: str) -> tuple[dict[str, tuple[str, ...]], list[Kind]]:
    """Return the way to each column that holds a feature, by its name, and the kinds."""
    found: dict[str, tuple[str, ...]] = {}
    kinds: list[Kind] = []
    left_out: list[str] = []

    def walk(field: pa.Field, way: tuple[str, ...]) -> None:
        way = (*way, field.name)
        name = ".".join(way)
        if pa.types.is_struct(field.type):
            for child in field.type:
                walk(child, way)
            return
        kind = arrow_kind(field.type)
        if kind is None:
            left_out.append(f"{name} ({field.type})")
            return
        if name in found:
            raise SchemaError(
                f"{called(path)} has two columns called {name!r}; rename one of them."
            )
        found[name] = way
        kinds.append(kind)

    for field in schema:
        walk(field, ())
    if left_out:
        _log.warning("%s: left out %s, no features can be made of them", path, list_names(left_out))
    return found, kinds


def _places(
    paths: Sequence[tuple[str, ...] | None], schema: pa.Schema
) -> list[tuple[int, ...] | None]:
    """Return the way to each column as numbers: the column, and the field in each struct."""
    number = {name: i for i, name in enumerate(schema.names)}
    places: list[tuple[int, ...] | None] = []
    for path in paths:
        if path is None:
            places.append(None)
            continue
        way = [number[path[0]]]
        type_: Any = schema.field(way[0]).type
        for name in path[1:]:
            way.append(type_.get_field_index(name))
            type_ = type_.field(way[-1]).type
        places.append(tuple(way))
    return places


def _dictionaries(metadata: Any, schema: pa.Schema, tops: Sequence[str]) -> list[str]:
    """Return the text columns that the file holds as dictionaries."""
    wanted = {n for n in tops if pa.types.is_string(schema.field(n).type)}
    if not metadata.num_row_groups:
        return []
    group = metadata.row_group(0)
    found = []
    for i in range(group.num_columns):
        chunk = group.column(i)
        if chunk.path_in_schema in wanted and chunk.has_dictionary_page:
            if chunk.total_uncompressed_size <= _CODED * chunk.num_values:
                found.append(chunk.path_in_schema)
    return found


def _decode(
    arrays: list[pa.Array],
    rows: int,
    places: list[tuple[int, ...] | None],
    offset: int,
    done: int,
) -> Stretch:
    columns: list[pa.Array | None] = []
    for place in places:
        if place is None:
            columns.append(None)
            continue
        array = arrays[place[0]]
        for i in place[1:]:
            array = pc.struct_field(array, [i])  # a null struct has null fields
        columns.append(array)
    return Stretch(offset, rows, columns, done=done, text=functools.partial(_texts, columns))


def _texts(columns: list[pa.Array | None], indices: list[int]) -> list[str]:
    values = [column for column in columns if column is not None]
    return [show(",".join(str(v[i].as_py()) for v in values).encode()) for i in indices]


def feature_array(array: pa.Array) -> pa.Array:
    """Return a feature column in one of the types the encoder knows, values unchanged.

    Those are integers, float32 and float64, booleans, string, binary, dictionaries of string, and
    lists of these. Decimals become float64; dates, times and the rest become text.

    Examples
    --------
    >>> import datetime
    >>> feature_array(pa.array([datetime.date(2024, 2, 29)])).to_pylist()
    ['2024-02-29']
    >>> feature_array(pa.array([1, 2], pa.int8())).type
    DataType(int8)
    """
    target = _target(array.type)
    if target == array.type:
        return array
    if pa.types.is_dictionary(array.type) and not pa.types.is_dictionary(target):
        array = array.dictionary_decode()
    return array.cast(target)


@functools.cache
def _target(type_: pa.DataType) -> pa.DataType:
    """Return the type a column of a type is given to the encoder in."""
    t = pa.types
    if t.is_float16(type_):
        return pa.float32()
    if t.is_integer(type_) or t.is_floating(type_) or t.is_boolean(type_):
        return type_
    if t.is_string(type_) or t.is_binary(type_):
        return type_
    if t.is_decimal(type_):
        return pa.float64()
    if t.is_large_binary(type_) or t.is_fixed_size_binary(type_) or t.is_binary_view(type_):
        return pa.binary()
    if t.is_dictionary(type_):
        value = _target(type_.value_type)
        return pa.dictionary(pa.int32(), value) if value == pa.string() else value
    if arrow_kind(type_) == "text":
        return pa.list_(_target(type_.value_type))
    return pa.string()
