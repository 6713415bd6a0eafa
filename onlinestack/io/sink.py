"""Where predictions and rejected records go.

Every sink can say where it stands and, in a later process, go back there: what was written
behind that position is taken away, so that a resumed run leaves the files of an unbroken one.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.io.lines import COLUMNS, csv_header, csv_lines, json_lines
from onlinestack.io.parquet_sink import ParquetSink
from onlinestack.io.sink_base import Position, Sink, Tail

__all__ = [
    "SINKS",
    "CsvSink",
    "JsonlSink",
    "ParquetSink",
    "RejectLike",
    "RejectSink",
    "Sink",
    "open_sink",
]


class CsvSink(Sink):
    """Predictions as CSV with a header line, in a file or on standard output."""

    def __init__(
        self, path: str, *, resume: Position | None = None, columns: Sequence[str] = COLUMNS
    ) -> None:
        self._tail = Tail(path, "predictions", resume)
        self._columns = tuple(columns)
        # A new process's standard output is a new stream, and starts with a header.
        self._id: bool | None = resume["id"] if resume and self._tail.size else None

    def write(self, row: NDArray[np.int64], id: pa.Array | None, *values: Any) -> None:
        """Append records."""
        if not len(row):
            return
        if self._id is None:
            self._id = id is not None
            if self._header(self._id):
                self._tail.write(self._header(self._id))
        if not self._id:
            id = None
        elif id is None:
            id = pa.nulls(len(row), pa.large_string())
        self._tail.write(self._lines(row, id, *values))

    def flush(self) -> None:
        """Do nothing: each block goes to the system at once."""

    def position(self) -> dict[str, Any]:
        """Bring all records to the disk and return the length of the file in bytes."""
        return {**self._tail.position(), "id": self._id}

    def close(self) -> None:
        """Finish; a file without records gets its header."""
        if self._id is None:
            self._id = False
            if self._header(False):
                self._tail.write(self._header(False))
        self._tail.close()

    def _header(self, with_id: bool) -> bytes:
        return csv_header(with_id, self._columns)

    def _lines(self, *columns: Any) -> memoryview:
        return csv_lines(*columns)


class JsonlSink(CsvSink):
    """Predictions as one JSON object a line."""

    def _header(self, with_id: bool) -> bytes:
        return b""

    def _lines(self, *columns: Any) -> memoryview:
        return json_lines(*columns, columns=self._columns)


SINKS: dict[str, type[Sink]] = {".csv": CsvSink, ".jsonl": JsonlSink, ".parquet": ParquetSink}
"""Class of each suffix; ``-`` and devices are CSV."""


def open_sink(
    path: str | os.PathLike[str],
    *,
    resume: Position | None = None,
    columns: Sequence[str] = COLUMNS,
) -> Sink:
    """Open a place for predictions, in the format its suffix names.

    Parameters
    ----------
    path
        A file ending in ``.csv``, ``.jsonl`` or ``.parquet``; ``-`` is CSV on standard output.
    resume
        What ``position`` returned in the run to go on with. Default None: the file starts anew;
        so it does when the position is one of another file.
    columns
        Names of what is written beside row and id, the label first.

    Raises
    ------
    ValueError
        When the suffix is none of these.
    OSError
        When the file cannot be written, or is no longer there to go on with.

    Examples
    --------
    >>> import numpy as np
    >>> with open_sink("-") as sink:
    ...     sink.write(np.arange(1), None, np.ones(1, np.float32), np.array([0.25], np.float32))
    row,label,p
    0,1,0.25
    """
    name = os.fspath(path)
    suffix = Path(name).suffix.lower()
    if name == "-" or (os.path.exists(name) and not (os.path.isfile(name) or os.path.isdir(name))):
        return CsvSink(name, resume=resume, columns=columns)
    if suffix not in SINKS:
        near = difflib.get_close_matches(suffix, SINKS, 1)
        hint = f" (did you mean {Path(name).with_suffix(near[0]).name!r}?)" if near else ""
        raise ValueError(
            f"predictions cannot be written to {name!r}: its name must end in "
            f".csv, .jsonl or .parquet{hint}, or be - for standard output"
        )
    return SINKS[suffix](name, resume=resume, columns=columns)  # type: ignore[call-arg]


class RejectLike(Protocol):
    """A rejected record, as sources hand it on."""

    row: int
    source: str
    position: int
    reason: str
    text: str


class RejectSink:
    """The reject file: one JSON object a line for each record that could not be used.

    Parameters
    ----------
    path
        The file; ``-`` is standard output.
    resume
        What ``position`` returned in the run to go on with. Default None: the file starts anew.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: Position | None = None) -> None:
        self._tail = Tail(os.fspath(path), "rejected records", resume)

    def write(self, rejects: Iterable[RejectLike]) -> None:
        """Append rejected records in their order."""
        names = ("row", "source", "position", "reason", "text")
        lines = [
            json.dumps({name: getattr(reject, name) for name in names}, ensure_ascii=False) + "\n"
            for reject in rejects
        ]
        if lines:
            self._tail.write("".join(lines).encode("utf-8", "replace"))

    def flush(self) -> None:
        """Do nothing: each write goes to the system at once."""

    def position(self) -> dict[str, Any]:
        """Bring all lines to the disk and return the length of the file in bytes."""
        return self._tail.position()

    def close(self) -> None:
        """Finish; a second call does nothing."""
        self._tail.close()

    def __enter__(self) -> RejectSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
