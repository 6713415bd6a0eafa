"""The values of messages: JSON objects, Arrow tables and Avro records, as records and columns."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from onlinestack.io.arrow import feature_array
from onlinestack.io.jsonl import kinds_of, read_object, values_array
from onlinestack.io.reader import SourceError
from onlinestack.io.schema import Kind, arrow_kind
from onlinestack.io.values import as_text
from onlinestack.words import nearest_or_all

__all__ = ["CODECS", "Codec", "open_codec"]

FRAME = 5
"""Bytes that clients of a schema registry put before a value: a zero and the schema's number."""


class Codec(Protocol):
    """How values are written.

    What `read` returns for a value is handed back to the other verbs as it is.
    """

    def read(self, value: bytes) -> Any:
        """Return what a value holds.

        Raises
        ------
        ValueError
            Where it cannot be read; the text says why, in a few words.
        """

    def count(self, content: Any) -> int:
        """Return how many records there are in a value."""

    def kinds(self, contents: Sequence[Any]) -> dict[str, Kind]:
        """Return the kind of every column there is in some values."""

    def column(self, contents: Sequence[Any], name: str) -> pa.Array:
        """Return a column over all records of some values, null where one does not have it."""


class JsonCodec:
    """One JSON object a value, nested ones flattened to ``a.b``.

    Examples
    --------
    >>> codec = JsonCodec()
    >>> codec.column([codec.read(b'{"a": 1}'), codec.read(b'{"b": 2}')], "a").to_pylist()
    [1, None]
    """

    read = staticmethod(read_object)

    def count(self, content: Mapping[str, Any]) -> int:
        """Return how many records there are in a value: one."""
        return 1

    def kinds(self, contents: Sequence[Mapping[str, Any]]) -> dict[str, Kind]:
        """Return the kind of every key."""
        return kinds_of(contents)

    def column(self, contents: Sequence[Mapping[str, Any]], name: str) -> pa.Array:
        """Return the values of a key, null where there is none."""
        return values_array([content.get(name) for content in contents])


class AvroCodec(JsonCodec):
    """One Avro record a value.

    Parameters
    ----------
    schema
        File with the schema the values were written with, as JSON. Default None: each value is
        an Avro file of its own, schema and one record.
    framed
        Whether five bytes of a schema registry stand before each value.
    """

    def __init__(self, schema: str | None = None, *, framed: bool = False) -> None:
        try:
            import fastavro
        except ModuleNotFoundError:
            raise SourceError(
                "Avro needs the package 'fastavro', which is not installed; install "
                "onlinestack[kafka]"
            ) from None
        self._avro = fastavro
        self._schema: Any = None
        self._skip = FRAME if framed else 0
        if schema is None:
            if framed:
                raise SourceError(
                    "values behind the frame of a registry do not hold their schema; name its "
                    "file with --avro-schema"
                )
            return
        try:
            with open(schema, encoding="utf-8") as file:
                self._schema = fastavro.parse_schema(json.load(file))
        except (ValueError, fastavro.schema.SchemaParseException) as error:
            raise SourceError(
                f"{schema} holds no Avro schema ({error}); give its JSON file"
            ) from None

    def read(self, value: bytes) -> dict[str, Any]:
        """Return the record of a value."""
        file = io.BytesIO(value)
        file.seek(self._skip)
        try:
            if self._schema is not None:
                records = [self._avro.schemaless_reader(file, self._schema, None)]
                if file.read(1):
                    raise ValueError("bytes behind the record")
            else:
                records = list(self._avro.reader(file))
        except Exception as error:  # whatever bytes that are no Avro lead to
            raise ValueError(f"no Avro: {str(error) or type(error).__name__}") from None
        if len(records) != 1 or not isinstance(records[0], dict):
            raise ValueError("not one Avro record")
        return {name: _plain(field) for name, field in records[0].items()}


def _plain(value: Any) -> Any:
    """Return a value of Avro that JSON does not have, such as a time, as its text."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class ArrowCodec:
    """One Arrow IPC stream a value, of one or more records.

    Examples
    --------
    >>> batch = pa.record_batch({"a": [1, 2]})
    >>> sink = pa.BufferOutputStream()
    >>> with pa.ipc.new_stream(sink, batch.schema) as writer:
    ...     writer.write_batch(batch)
    >>> codec = ArrowCodec()
    >>> codec.column([codec.read(sink.getvalue().to_pybytes())], "a").to_pylist()
    [1, 2]
    """

    def read(self, value: bytes) -> pa.Table:
        """Return the records of a value."""
        try:
            table = pa.ipc.open_stream(value).read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"no Arrow stream: {str(error).splitlines()[0]}") from None
        if len(set(table.column_names)) < table.num_columns:
            raise ValueError("two columns of one name")
        return table

    def count(self, content: pa.Table) -> int:
        """Return how many records there are in a value."""
        return int(content.num_rows)

    def kinds(self, contents: Sequence[pa.Table]) -> dict[str, Kind]:
        """Return the kind of every column, as the first value that has it says."""
        kinds: dict[str, Kind] = {}
        for content in contents:
            for field in content.schema:
                kind = arrow_kind(field.type)
                if kind is not None:
                    kinds.setdefault(field.name, kind)
        return kinds

    def column(self, contents: Sequence[pa.Table], name: str) -> pa.Array:
        """Return a column over all values; as text where they write it in different types."""
        parts = [
            content.column(name).combine_chunks() if name in content.column_names else None
            for content in contents
        ]
        types = {part.type for part in parts if part is not None}
        if len(types) > 1:
            parts = [None if part is None else feature_array(part) for part in parts]
            types = {part.type for part in parts if part is not None}
        if len(types) > 1:
            parts = [None if part is None else as_text(part).cast(pa.string()) for part in parts]
            types = {pa.string()}
        kind = types.pop() if types else pa.string()
        arrays = [
            pa.nulls(content.num_rows, kind) if part is None else part
            for content, part in zip(contents, parts, strict=True)
        ]
        return pa.chunked_array(arrays, kind).combine_chunks()


CODECS = ("json", "arrow", "avro", "avro-framed")
"""The ways values may be written."""


def open_codec(format: str | None, *, avro_schema: str | None = None) -> Codec:
    """Return how values of a format are read.

    Parameters
    ----------
    format
        One of `CODECS`; None for JSON.
    avro_schema
        File with the schema of Avro values.

    Raises
    ------
    SourceError
        If the format is unknown, or its library is not installed.
    OSError
        If the file with the schema cannot be read.
    """
    if format is not None and format not in CODECS:
        raise SourceError(f"{format!r} is no format of messages{nearest_or_all(format, CODECS)}")
    if avro_schema is not None and not (format or "").startswith("avro"):
        raise SourceError("a schema of Avro is given, but values are no Avro; leave one out.")
    if format == "arrow":
        return ArrowCodec()
    if format is not None and format.startswith("avro"):
        return AvroCodec(avro_schema, framed=format == "avro-framed")
    return JsonCodec()
