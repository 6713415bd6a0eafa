"""What a value of a record is to its field: the canonical text behind its hash, and its kind."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeGuard

import numpy as np

__all__ = ["canonical", "elements", "is_multiple", "is_number", "kind_of"]

_BOOLEANS = (bool, np.bool_)
_NUMBERS = (int, float, np.integer, np.floating)


def is_number(value: object) -> bool:
    """Tell whether a value is a number; booleans are words."""
    return isinstance(value, _NUMBERS) and not isinstance(value, _BOOLEANS)


def is_multiple(value: object) -> TypeGuard[Iterable[Any]]:
    """Tell whether a value is a list of values, each one a feature."""
    return isinstance(value, (list, tuple, set, frozenset, np.ndarray))


def canonical(value: object) -> bytes:
    """Return the text that stands for a value wherever it comes from; nothing when missing.

    Whole numbers print as integers, other numbers as Python prints them, booleans as true and
    false; text stays as it is.

    Examples
    --------
    >>> [canonical(v) for v in (7, 7.0, -0.5, True, "007", None, float("nan"))]
    [b'7', b'7', b'-0.5', b'true', b'007', b'', b'']
    """
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            pass
        try:
            return value.encode("utf-8", "surrogateescape")  # undoes how Python reads bad bytes
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    if value is None:
        return b""
    if isinstance(value, _BOOLEANS):
        return b"true" if value else b"false"
    if isinstance(value, (int, np.integer)):
        return str(int(value)).encode()
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isnan(number):
            return b""
        return (str(int(number)) if number.is_integer() else repr(number)).encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return str(value).encode()


def elements(value: Iterable[Any]) -> list[bytes]:
    """Return the canonical texts of a list's elements; sets, which have no order, are sorted."""
    texts = [canonical(item) for item in value]
    return sorted(texts) if isinstance(value, (set, frozenset)) else texts


def kind_of(value: object) -> str:
    """Return the kind of field a value asks for, or nothing when it is missing.

    Examples
    --------
    >>> [kind_of(v) for v in (1.5, "a", True, ["a", "b"], None, "")]
    ['number', 'category', 'category', 'text', '', '']
    """
    if is_multiple(value):
        return "text"
    if not canonical(value):
        return ""
    return "number" if is_number(value) else "category"
