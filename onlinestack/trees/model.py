"""Reads the bytes of an XGBoost model: Universal Binary JSON, or JSON.

References
----------
[^1]: `Universal Binary JSON, draft 12 <https://ubjson.org>`_.
[^2]: XGBoost, `Introduction to Model IO
      <https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html>`_.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson

__all__ = ["COLUMNS", "ForestError", "decode"]

COLUMNS = "onlinestack_columns"
"""Attribute of a model: the table's columns that its features stand for."""

NUMBERS = {
    marker: (struct.Struct(f">{code}"), np.dtype(f">{kind}"))
    for marker, code, kind in [
        (b"i", "b", "i1"),
        (b"U", "B", "u1"),
        (b"I", "h", "i2"),
        (b"l", "i", "i4"),
        (b"L", "q", "i8"),
        (b"d", "f", "f4"),
        (b"D", "d", "f8"),
    ]
}
"""Markers of numbers, all big-endian."""

WORDS = {b"T": True, b"F": False, b"Z": None}


class ForestError(ValueError):
    """A model that cannot be read, or that is of another kind than boosted trees for clicks."""


def decode(model: bytes) -> dict[str, Any]:
    r"""Return the contents of a model's bytes as dictionaries, lists and arrays.

    Use it before `flatten` only: it knows the notation and not what a model is made of.

    Parameters
    ----------
    model
        What ``Booster.save_raw("ubj")`` or ``Booster.save_raw("json")`` gave.

    Raises
    ------
    ForestError
        When the bytes are neither, or damaged.

    Examples
    --------
    >>> decode(b'{"version": [3, 0, 5]}')
    {'version': [3, 0, 5]}
    >>> decode(b"{i\x01a[$l#i\x02\x00\x00\x00\x07\xff\xff\xff\xff}")
    {'a': array([ 7, -1], dtype=int32)}
    """
    try:
        content = orjson.loads(model)
    except orjson.JSONDecodeError:
        try:
            content, end = _value(model, model[:1], 1)
        except (struct.error, KeyError, ValueError, RecursionError):
            end = -1
        if end != len(model):
            raise ForestError(
                f"{len(model)} bytes that begin with {model[:8]!r} were given as a model, expected "
                "the whole of what XGBoost's Booster.save_raw returns; train it again."
            ) from None
    if not isinstance(content, dict):
        raise ForestError(
            f"A {type(content).__name__} was given as a model, expected an object such as "
            "XGBoost's Booster.save_raw returns; train it again."
        )
    return content


def _value(data: bytes, marker: bytes, at: int) -> tuple[Any, int]:
    """Return the value that a marker announces, and the position behind it."""
    if marker in NUMBERS:
        number = NUMBERS[marker][0]
        return number.unpack_from(data, at)[0], at + number.size
    if marker == b"S":
        return _text(data, at)
    if marker == b"{":
        content = {}
        while data[at : at + 1] != b"}":
            key, at = _text(data, at)
            content[key], at = _value(data, data[at : at + 1], at + 1)
        return content, at + 1
    if marker == b"[":
        return _array(data, at)
    return WORDS[marker], at


def _text(data: bytes, at: int) -> tuple[str, int]:
    length, at = _value(data, data[at : at + 1], at + 1)
    return _cut(data, at, length).decode(), at + length


def _array(data: bytes, at: int) -> tuple[Any, int]:
    kind = b""
    if data[at : at + 1] == b"$":
        kind, at = data[at + 1 : at + 2], at + 2
    if data[at : at + 1] == b"#":
        count, at = _value(data, data[at + 1 : at + 2], at + 2)
        if kind:
            dtype = NUMBERS[kind][1]
            size = count * dtype.itemsize
            array = np.frombuffer(_cut(data, at, size), dtype)
            return array.astype(dtype.newbyteorder("=")), at + size
        items = []
        for _ in range(count):
            item, at = _value(data, data[at : at + 1], at + 1)
            items.append(item)
        return items, at
    items = []
    while data[at : at + 1] != b"]":
        item, at = _value(data, data[at : at + 1], at + 1)
        items.append(item)
    return items, at + 1


def _cut(data: bytes, at: int, size: int) -> bytes:
    if not 0 <= size <= len(data) - at:
        raise ValueError("the bytes end too early")
    return data[at : at + size]
