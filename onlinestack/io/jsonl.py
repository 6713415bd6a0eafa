"""JSON lines: one object a line, nested objects flattened to ``a.b``."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from onlinestack.io.chunks import Chunk, Chunks
from onlinestack.io.reader import Bad, Job, Stretch, show
from onlinestack.io.schema import Kind, list_names
from onlinestack.io.values import canonical

__all__ = ["JsonReader", "kinds_of", "read_object", "values_array"]

_log = logging.getLogger(__name__)

_SAMPLE = 1000
_DEEPEST = 100


class JsonReader:
    """Reader of JSON lines; numbers are numbers, strings and booleans categories, arrays text.

    The columns are the keys met in the first 1,000 records of a file, the first record of a pipe,
    or those given. A key met later is ignored, with one warning. Lines that are no object are
    rejected; blank ones are no records.

    Parameters
    ----------
    path
        File (also ``.gz`` or ``.zst``), or ``"-"``.
    columns
        The keys to read, where the first records do not hold them all.
    """

    def __init__(self, path: str, *, columns: Sequence[str] | None = None) -> None:
        self.path = path
        self._chunks = Chunks(path, None)
        self.live = self._chunks.live
        self._warned = False
        self._kinds = self._sample(columns)
        self.names = tuple(self._kinds)

    def _sample(self, columns: Sequence[str] | None) -> dict[str, Kind]:
        wanted = 1 if self.live else _SAMPLE
        records: list[dict[str, Any]] = []
        looked_at: list[Chunk] = []
        while len(records) < wanted and (chunk := self._chunks.next()) is not None:
            looked_at.append(chunk)
            records += _read(chunk)[1]
        self._chunks.give_back(looked_at)
        return kinds_of(records[:wanted], columns)

    def kinds(self) -> dict[str, Kind]:
        """Return the kind of every key."""
        return dict(self._kinds)

    def jobs(self, wanted: Sequence[str], offset: int | None = None) -> Iterator[Job]:
        """Return the jobs that decode the file's stretches, in order.

        Parameters
        ----------
        wanted
            Keys to decode, in the order their columns are to come.
        offset
            Position of a stretch to go on from.
        """
        names = [name if name in self._kinds else None for name in wanted]
        if offset:
            self._chunks.go_to(offset)
        while (chunk := self._chunks.next()) is not None:
            yield functools.partial(self._decode, chunk, self._chunks.done, names)

    def _decode(self, chunk: Chunk, done: int, names: Sequence[str | None]) -> Stretch:
        read, records, bad = _read(chunk)
        columns = [
            None if name is None else values_array([record.get(name) for record in records])
            for name in names
        ]
        if not self._warned:
            known = self._kinds.keys()
            new = set().union(*(r.keys() - known for r in records if not r.keys() <= known))
            if new:
                self._warned = True
                _log.warning(
                    "%s: keys that were not in the first records are ignored: %s",
                    self.path,
                    list_names(sorted(new)),
                )
        return Stretch(
            chunk.offset, read, columns, bad, done, text=functools.partial(_texts, chunk)
        )

    def close(self) -> None:
        """Close the file."""
        self._chunks.close()


def _texts(chunk: Chunk, indices: list[int]) -> list[str]:
    lines = [line for line in chunk.data.split(b"\n") if line and not line.isspace()]
    return [show(lines[i]) for i in indices]


def _read(chunk: Chunk) -> tuple[int, list[dict[str, Any]], list[Bad]]:
    """Return the number of records in a chunk, the good ones flattened, and the bad ones."""
    if chunk.reason is not None:
        return 1, [], [Bad(0, chunk.reason, show(chunk.data))]
    records: list[dict[str, Any]] = []
    bad: list[Bad] = []
    read = 0
    for line in chunk.data.split(b"\n"):
        if not line or line.isspace():
            continue
        try:
            records.append(read_object(line))
        except ValueError as error:
            bad.append(Bad(read, str(error), show(line)))
        read += 1
    return read, records, bad


def read_object(line: bytes) -> dict[str, Any]:
    """Return one JSON object, what is nested in it flattened.

    Raises
    ------
    ValueError
        Where the bytes are none; the text says why, in a few words.

    Examples
    --------
    >>> read_object(b'{"user": {"age": 3}}')
    {'user.age': 3}
    """
    try:
        record = _parse(line)
        if not isinstance(record, dict):
            raise ValueError("no JSON object")
        return _flat(record)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def kinds_of(
    records: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> dict[str, Kind]:
    """Return the kind of every key, as the values met speak for it.

    Parameters
    ----------
    records
        Flat objects.
    columns
        The keys to look at; all by default.
    """
    seen: dict[str, Kind | None] = dict.fromkeys(columns or ())
    for record in records:
        for name, value in record.items():
            if columns is not None and name not in seen:
                continue
            kind = _kind(value)
            before = seen.get(name)
            if kind is not None and before is not None and kind != before:
                kind = "category" if "text" not in (kind, before) else "text"
            seen[name] = kind or before
    return {name: kind or "category" for name, kind in seen.items()}


def _parse(line: bytes) -> Any:
    try:
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError:
            if b"NaN" not in line and b"Infinity" not in line:
                raise
            record = json.loads(line)  # takes them for numbers, as Python writes them
            json.dumps(record, ensure_ascii=False).encode()  # but halves of characters for text
            return record
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from None


def _flat(record: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise RecursionError
    if dict not in set(map(type, record.values())):
        return record
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat.update((f"{key}.{inner}", each) for inner, each in _flat(value, depth + 1).items())
        else:
            flat[key] = value
    return flat


def _kind(value: Any) -> Kind | None:
    """Return the kind a value speaks for; a missing one speaks for none."""
    if value is None or value == "":
        return None
    if isinstance(value, list):
        return "text"
    return (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else "category"
    )


def values_array(values: list[Any]) -> pa.Array:
    """Return values as numbers if all of them are, as lists if any is one, else as text."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {str}:
        return pa.array(values, pa.string())
    if list in kinds:
        return pa.array(
            [
                value
                if value is None
                else [_text(each) for each in value]
                if isinstance(value, list)
                else [_text(value)]
                for value in values
            ],
            pa.list_(pa.string()),
        )
    if kinds == {int}:
        try:
            return pa.array(values, pa.int64())
        except (OverflowError, pa.ArrowInvalid):
            kinds = {int, float}
    if kinds and kinds <= {int, float}:
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array([None if v is None else _text(v) for v in values], pa.string())


def _text(value: Any) -> str | None:
    """Return a value as the encoder would print it; what is nested in a list as JSON."""
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return canonical(value)
