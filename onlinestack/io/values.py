"""Arrow arrays of any type as texts and numbers: what the decoders of single columns share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.spare import later

pc = later("pyarrow.compute")

__all__ = [
    "Bad",
    "as_text",
    "at_rows",
    "canonical",
    "cast",
    "distinct",
    "flat",
    "float64",
    "halve",
    "parse_number",
    "shown",
]

Bad = dict[int, str]
"""Rows that cannot be read, and why."""

_SHOWN = 40
_FEW = 64  # below this many values an attempt in bulk costs more than reading them one by one


def canonical(value: Any) -> str | None:
    """Return the one text that stands for a value, or None when it is missing.

    Use it wherever a value from Python must compare equal to the same value from a file.

    Parameters
    ----------
    value
        Anything a record may hold. Integral numbers print as integers, other floats as Python's
        ``repr``, booleans as ``true`` and ``false``; None, NaN and an empty text are missing.

    Examples
    --------
    >>> [canonical(v) for v in (3.0, 0.5, True, b"a", "007", "", float("nan"), None)]
    ['3', '0.5', 'true', 'a', '007', None, None, None]
    """
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace") or None
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return None
        return str(int(number)) if number.is_integer() else repr(number)
    return str(value) or None


# --------------------------------------------------------------------------------------- common


def shown(text: str | None) -> str:
    """Return a value as an error names it: quoted, cut to 40 characters."""
    text = text or ""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def parse_number(text: str) -> float | None:
    """Return the number a text spells, as Python's ``float`` but without underscores."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def flat(array: Any) -> pa.Array:
    """Return one plain array: no chunks, no extension, no views."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.RunEndEncodedArray):
        array = pc.run_end_decode(array)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return array.dictionary_decode() if not _is_text(kind.value_type) else array
    return array


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def as_text(array: pa.Array) -> pa.Array:
    """Return the values as large_string, each as its canonical text, empty ones null."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if not _is_text(kind) and not pa.types.is_integer(kind):
        return pa.array([canonical(value) for value in array.to_pylist()], pa.large_string())
    if pa.types.is_string_view(kind):
        array = array.cast(pa.string())
    elif pa.types.is_binary_view(kind):
        array = array.cast(pa.binary())
    try:
        text = array.cast(pa.large_string())
    except pa.ArrowInvalid:  # not UTF-8
        return pa.array([canonical(value) for value in array.to_pylist()], pa.large_string())
    empty = pc.equal(pc.binary_length(text), 0)
    return pc.if_else(empty, None, text) if pc.any(empty).as_py() else text


def distinct(array: pa.Array) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the distinct values, and for each row which of them it holds; -1 for null."""
    if pa.types.is_dictionary(array.type) and len(array.dictionary) > len(array):
        array = array.dictionary_decode()  # a slice of something larger
    kind = array.type
    if not pa.types.is_dictionary(kind):
        if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            array = as_text(array)
        try:
            array = array.dictionary_encode()
        except pa.ArrowNotImplementedError:
            array = as_text(array).dictionary_encode()
    codes = array.indices.cast(pa.int64()).fill_null(-1)
    return array.dictionary.to_pylist(), np.asarray(codes)


def at_rows(reasons: Bad, codes: NDArray[np.int64]) -> Bad:
    """Return the reasons by row instead of by code."""
    if not reasons:
        return {}
    rows = np.flatnonzero(np.isin(codes, list(reasons)))
    return {
        row: reasons[code] for row, code in zip(rows.tolist(), codes[rows].tolist(), strict=True)
    }


def float64(array: pa.Array, missing: float = math.nan) -> NDArray[np.float64]:
    """Return numbers or truth values as ``float64[n]``."""
    if not array.null_count and not pa.types.is_boolean(array.type):
        return np.asarray(array).astype(np.float64)
    number = array.cast(pa.float64(), safe=False)
    return np.asarray(number.fill_null(missing) if number.null_count else number)


def cast(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return the array as another type, or None when one of its values does not fit."""
    try:
        return array.cast(kind)
    except pa.ArrowInvalid:
        return None


def halve(
    text: pa.Array,
    at_once: Callable[[pa.Array], tuple[NDArray[Any], Bad] | None],
    one_by_one: Callable[[pa.Array], tuple[NDArray[Any], Bad]],
) -> tuple[NDArray[Any], Bad]:
    """Decode in bulk, in halves where that fails, and value by value where few are left."""
    n = len(text)
    if n == 0:
        return one_by_one(text)
    done = at_once(text)
    if done is not None:
        return done
    if n <= _FEW:
        return one_by_one(text)
    half = n // 2
    left, bad = halve(text.slice(0, half), at_once, one_by_one)
    right, more = halve(text.slice(half), at_once, one_by_one)
    return np.concatenate([left, right]), bad | {row + half: why for row, why in more.items()}
