"""Predictions as Parquet files that appear whole, in numbered parts."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.atomic import replacing, temporary_name, write_all
from onlinestack.io.lines import COLUMNS
from onlinestack.io.sink_base import Position, Sink, resumes, worded
from onlinestack.io.values import as_text, flat
from onlinestack.spare import later

pq = later("pyarrow.parquet")

__all__ = ["ParquetSink"]

_MARK = b"onlinestack.predictions"
_GROUP = 1 << 16  # records of a row group
_SMALL = 256  # blocks that wait for their row group before they are made one


class ParquetSink(Sink):
    """Predictions as Parquet, in numbered parts: ``p.parquet``, ``p-1.parquet`` and so on.

    A Parquet file can be read only once it is finished. So each call of ``position`` that finds
    new records finishes a part, each part appears under its name when it is whole, and a
    resumed run takes away the parts behind its position and goes on with the next number.
    """

    def __init__(
        self, path: str, *, resume: Position | None = None, columns: Sequence[str] = COLUMNS
    ) -> None:
        self._path = path
        self._columns = tuple(columns)
        self._mark = os.path.basename(path).encode()
        self._parts = int(resume["parts"]) if resume and resumes(path, resume) else 0
        self._schema: pa.Schema | None = None
        self._waiting: list[pa.Table] = []
        self._waits = 0
        self._closed = False
        self._part: _Part | None = None
        with worded("predictions", self._path):
            last = self._name(max(0, self._parts - 1))
            if self._parts and not os.path.exists(last):
                raise FileNotFoundError(
                    errno.ENOENT, f"{last!r} is gone; put it back or give another name"
                )
            self._take_away()
            self._part = self._begin()

    def write(self, row: NDArray[np.int64], id: pa.Array | None, *values: Any) -> None:
        """Append records."""
        if not len(row):
            return
        columns = {"row": pa.array(row, pa.int64())}
        if id is not None:
            plain = flat(id)
            whole = pa.types.is_integer(plain.type)
            columns["id"] = plain if whole else as_text(plain).cast(pa.string())
        for place, (name, value) in enumerate(zip(self._columns, values, strict=True)):
            if isinstance(value, np.ndarray):
                unknown = np.isnan(value) if place == 0 else None
                columns[name] = pa.array(value, pa.float32(), mask=unknown)
            else:
                columns[name] = as_text(flat(value)).cast(pa.string())
        if self._schema is None:
            self._schema = self._marked({name: c.type for name, c in columns.items()})
        if id is None and "id" in self._schema.names:
            columns["id"] = pa.nulls(len(row))
        arrays = [columns[field.name].cast(field.type) for field in self._schema]
        self._waiting.append(pa.Table.from_arrays(arrays, schema=self._schema))
        self._waits += len(row)
        if self._waits >= _GROUP:
            self._put(self._waits // _GROUP * _GROUP)
        elif len(self._waiting) >= _SMALL:
            self._waiting = [pa.concat_tables(self._waiting).combine_chunks()]

    def flush(self) -> None:
        """Do nothing: nobody can read an unfinished part."""

    def position(self) -> dict[str, Any]:
        """Finish the part if there is anything in it and return the number of parts."""
        if self._waits or (self._part is not None and self._part.rows):
            self._finish()
        return {"path": self._path, "parts": self._parts}

    def close(self) -> None:
        """Finish the last part; without any record, an empty file with the columns."""
        if self._closed:
            return
        if not self._parts:
            self._finish()
        else:
            self.position()
        self._closed = True
        if self._part is not None:
            self._part.abandon()

    def _name(self, number: int) -> str:
        stem, suffix = os.path.splitext(self._path)
        return f"{stem}-{number}{suffix}" if number else self._path

    def _marked(self, types: Mapping[str, pa.DataType]) -> pa.Schema:
        return pa.schema(types.items(), {_MARK: self._mark})

    def _ours(self, path: str) -> bool:
        """Tell whether a file is a part of predictions of this name."""
        try:
            return bool((pq.read_schema(path).metadata or {}).get(_MARK) == self._mark)
        except (OSError, pa.ArrowException):
            return False

    def _take_away(self) -> None:
        """Remove the parts behind the position, and those of an earlier run of this name."""
        number = max(1, self._parts)
        while os.path.exists(self._name(number)) and self._ours(self._name(number)):
            os.unlink(self._name(number))
            number += 1
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary_name(self._name(number)))  # the part a killed process was at

    def _begin(self) -> _Part:
        name = self._name(self._parts)
        if self._parts and os.path.exists(name):
            raise FileExistsError(
                errno.EEXIST, f"{name!r} is in the way and no part of them; move it"
            )
        return _Part(name)

    def _put(self, count: int) -> None:
        """Write the first of the waiting records."""
        bare = {"row": pa.int64(), **dict.fromkeys(self._columns, pa.float32())}
        schema = self._schema or self._marked(bare)
        table = pa.concat_tables([schema.empty_table(), *self._waiting])
        with worded("predictions", self._path):
            try:
                if self._part is None:
                    self._part = self._begin()
                self._part.write(table.slice(0, count))
            except BaseException:
                self._give_up()
                raise
        self._waiting = [table.slice(count).combine_chunks()]
        self._waits -= count

    def _finish(self) -> None:
        self._put(self._waits)
        with worded("predictions", self._path):
            try:
                if self._part is not None:
                    self._part.finish()
            except BaseException:
                self._give_up()
                raise
        self._parts += 1
        self._part = None

    def _give_up(self) -> None:
        """Leave the finished parts as they are and take no more."""
        self._closed = True
        if self._part is not None:
            self._part.abandon()


class _Part:
    """One Parquet file in the making."""

    def __init__(self, path: str) -> None:
        self.rows = 0
        self._stack = contextlib.ExitStack()
        self._output = _Output(self._stack.enter_context(replacing(path)))
        self._writer: Any = None

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._output, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=_GROUP)
        self.rows += len(table)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._stack.close()

    def abandon(self) -> None:
        """Drop the file; a second call, or one after ``finish``, does nothing."""
        self._output.dead = True
        stack = self._stack.pop_all()
        with contextlib.suppress(_AbandonedError), stack:
            raise _AbandonedError


class _Output(io.RawIOBase):
    """What Arrow writes to: all of it reaches the file, or nothing once it is dead.

    Arrow writes the end of a Parquet file even when a writer is merely forgotten.
    """

    def __init__(self, file: io.FileIO) -> None:
        self.dead = False
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        if not self.dead:
            write_all(self._file, content)
        return len(content)


class _AbandonedError(Exception):
    """Makes ``replacing`` drop its temporary file."""
