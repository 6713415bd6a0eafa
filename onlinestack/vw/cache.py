"""Our own cache of parsed records, for runs that go through them several times."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block
from onlinestack.io.vw_text import VWRecords

__all__ = ["CacheError", "cache_bits", "read_cache", "write_cache"]

_MAGIC = b"onlinestack vw cache 1\n"
_NO_NAMES = np.empty((0, 6), np.int64)
_ARRAYS = ("label", "weight", "initial", "row", "index", "value", "names", "start", "stop")


class CacheError(ValueError):
    """A file that is no cache of ours."""


def _frame(records: VWRecords) -> list[NDArray[Any]]:
    """Return the arrays of a stretch of records, tags as ends and bytes."""
    block = records.block
    tags = [tag or b"" for tag in records.tag.to_pylist()]
    ends = np.zeros(len(tags) + 1, np.int64)
    np.cumsum([len(tag) for tag in tags], out=ends[1:])
    return [
        *(np.ascontiguousarray(getattr(block, name)) for name in _ARRAYS),
        records.line,
        records.offset,
        records.flags,
        ends,
        np.frombuffer(b"".join(tags), np.uint8),
        np.array([records.lines], np.int64),
    ]


def _put(file: BinaryIO, records: VWRecords) -> None:
    arrays = _frame(records)
    head = json.dumps([[array.dtype.str, array.shape] for array in arrays]).encode()
    file.write(len(head).to_bytes(8, "little") + head)
    for array in arrays:
        file.write(np.ascontiguousarray(array).tobytes())


def write_cache(path: str, stretches: Iterable[VWRecords], bits: int) -> Iterator[VWRecords]:
    """Pass records on, writing them to a cache that takes its name when the last one has passed.

    Raises
    ------
    OSError
        Where the file cannot be written.
    """
    draft = f"{path}.writing"
    with open(draft, "wb") as file:
        file.write(_MAGIC + bits.to_bytes(8, "little"))
        for records in stretches:
            _put(file, records)
            yield records
    os.replace(draft, path)


def cache_bits(path: str) -> int:
    """Return the bits of the run that wrote a cache.

    Raises
    ------
    CacheError
        Where the file is no cache of ours.
    """
    with open(path, "rb") as file:
        head = file.read(len(_MAGIC) + 8)
    if not head.startswith(_MAGIC) or len(head) < len(_MAGIC) + 8:
        raise CacheError(f"{path} is no cache of onlinestack: give -k to make one anew")
    return int.from_bytes(head[-8:], "little")


def read_cache(path: str) -> Iterator[VWRecords]:
    """Yield the records of a cache.

    Raises
    ------
    CacheError
        Where the file is no whole cache of ours.
    """
    cache_bits(path)
    with open(path, "rb") as file:
        file.seek(len(_MAGIC) + 8)
        while size := file.read(8):
            try:
                table = json.loads(file.read(int.from_bytes(size, "little")))
                arrays = [_take(file, np.dtype(dtype), tuple(shape)) for dtype, shape in table]
            except (ValueError, EOFError):
                raise CacheError(f"{path} is damaged: give -k to make the cache anew") from None
            yield _records(arrays)


def _take(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    size = dtype.itemsize * math.prod(shape)
    data = file.read(size)
    if len(data) != size:
        raise EOFError
    return np.frombuffer(bytearray(data), dtype).reshape(shape)


def _records(arrays: list[NDArray[Any]]) -> VWRecords:
    import pyarrow as pa

    named: dict[str, Any] = dict(zip(_ARRAYS, arrays, strict=False))
    line, offset, flags, ends, tags, lines = arrays[len(_ARRAYS) :]
    data = tags.tobytes()
    spans = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    tag = pa.array([data[a:b] or None for a, b in spans], pa.binary())
    block = Block(**named, numbers=np.empty((len(line), 0)))
    return VWRecords(block, tag, line, offset, flags, int(lines[0]), b"", _NO_NAMES)
