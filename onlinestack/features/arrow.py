"""Arrow arrays as rows of the descriptor table: addresses and codes instead of objects.

Types that the kernel does not read itself are cast once a batch. What must stay alive as long as
the addresses are used is appended to ``keep``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa  # noqa: TID253 (loaded only when columns come)
from numpy.typing import NDArray

from onlinestack.features.columns import (
    BYTES,
    CODES,
    FLOAT32,
    FLOAT64,
    FLOATS,
    HOW,
    INT8,
    INT16,
    INT32,
    INT64,
    INTEGERS,
    LIST,
    MISSING_HASH,
    NOTHING,
    NUMBER_COLUMN,
    NUMBER_TEXT,
    NUMBERS,
    OFFSETS,
    SCRATCH,
    SEED,
    TOKENS,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    VALUES,
    WIDTH,
    encode_rows,
)
from onlinestack.features.values import canonical
from onlinestack.murmur import uniform_hash
from onlinestack.spare import later

pc = later("pyarrow.compute")

__all__ = ["DESCRIBED", "Dictionaries", "describe", "hash_values"]

DESCRIBED = 6
"""How many columns of the descriptor table come from the array; the rest from its field."""

Dictionaries = dict[int, tuple[Any, NDArray[np.uint32]]]
"""The dictionary last seen of each field (by seed) and the hashes of its values."""

_INTEGERS = {
    pa.types.lib.Type_INT8: INT8,
    pa.types.lib.Type_INT16: INT16,
    pa.types.lib.Type_INT32: INT32,
    pa.types.lib.Type_INT64: INT64,
    pa.types.lib.Type_UINT8: UINT8,
    pa.types.lib.Type_UINT16: UINT16,
    pa.types.lib.Type_UINT32: UINT32,
    pa.types.lib.Type_UINT64: UINT64,
}
_FLOATS = {
    pa.types.lib.Type_HALF_FLOAT: None,
    pa.types.lib.Type_FLOAT: FLOAT32,
    pa.types.lib.Type_DOUBLE: FLOAT64,
}
_NARROW = {pa.types.lib.Type_STRING, pa.types.lib.Type_BINARY}
_WIDE = {pa.types.lib.Type_LARGE_STRING, pa.types.lib.Type_LARGE_BINARY}
_BYTES = {"category": BYTES, "text": TOKENS, "number": NUMBER_TEXT}
_BOOLEANS = pa.StringArray.from_buffers(  # from values would import pandas, or masked arrays
    2, pa.py_buffer(np.array([0, 5, 9], np.int32)), pa.py_buffer(b"falsetrue")
)
_INT32, _INT64, _FLOAT64 = pa.int32(), pa.int64(), pa.float64()


def describe(
    array: pa.Array, kind: str, seed: int, dictionaries: Dictionaries, keep: list[Any]
) -> list[int]:
    """Return what the kernel must know of an array, the first columns of the descriptor table.

    Parameters
    ----------
    array
        The column: any Arrow type but struct, map and union.
    kind
        Kind of the field: ``"number"``, ``"category"`` or ``"text"``.
    seed
        Seed of the field.
    dictionaries
        Dictionaries hashed before; kept up to date.
    keep
        Takes what must outlive the addresses.

    Raises
    ------
    ValueError
        When values of the type cannot be features.
    """
    while True:
        type_id = array.type.id
        if array.null_count == len(array):
            return [NOTHING, 0, 0, 0, 0, 0]
        if type_id in _NARROW:
            return _flat(array, _BYTES[kind], keep)
        if type_id in _WIDE:
            return _narrowed(array, _BYTES[kind], keep)
        if type_id in _INTEGERS or type_id in _FLOATS:
            if kind == "number":
                width = _INTEGERS.get(type_id, _FLOATS.get(type_id))
                if width is None:
                    array, width = array.cast(_FLOAT64), FLOAT64
                return [*_flat(array, NUMBERS, keep)[:-1], width]
            if type_id in _FLOATS:
                return _flat(array.cast(_FLOAT64), FLOATS, keep)
            try:
                return _flat(array.cast(_INT64), INTEGERS, keep)
            except pa.ArrowInvalid:  # beyond 2**63
                array = array.cast(pa.string())
        elif type_id == pa.types.lib.Type_DICTIONARY:
            hashes = None
            if kind == "category":
                hashes = _dictionary_hashes(array.dictionary, len(array), seed, dictionaries)
            if hashes is None:
                array = array.dictionary_decode()
                continue
            codes = array.indices
            return _coded(codes if codes.type == _INT32 else codes.cast(_INT32), hashes, keep)
        elif type_id == pa.types.lib.Type_BOOL:
            return _coded(array.cast(pa.int8()).cast(_INT32), hash_values(_BOOLEANS, seed), keep)
        elif isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif isinstance(array, pa.RunEndEncodedArray):
            array = pc.run_end_decode(array)
        elif pa.types.is_nested(array.type):
            return _list(array, seed, keep)
        elif pa.types.is_fixed_size_binary(array.type):
            array = array.cast(pa.binary())
        elif array.type == pa.binary_view():
            array = array.cast(pa.large_binary())
        elif array.type == pa.string_view():
            array = array.cast(pa.large_string())
        else:  # decimals, dates, times, durations
            array = _cast(array, pa.string())


def _flat(array: pa.Array, how: int, keep: list[Any]) -> list[int]:
    keep.append(array)
    valid, *others = array.buffers()
    known = 0 if valid is None or array.null_count == 0 else valid.address
    values = 0 if others[-1] is None else others[-1].address
    offsets = others[0].address if len(others) > 1 else 0
    return [how, values, offsets, known, array.offset, 0]


def _narrowed(array: pa.Array, how: int, keep: list[Any]) -> list[int]:
    """Describe text whose offsets are 64 bits wide, giving it narrow ones from its first byte."""
    row = _flat(array, how, keep)
    wide = np.frombuffer(array.buffers()[1], np.int64)
    wide = wide[array.offset : array.offset + len(array) + 1]
    if wide[-1] - wide[0] >= 2**31:
        raise ValueError(
            f"A batch of {len(array)} rows has 2 GiB of text or more in one column; expected less: "
            "read it in smaller batches."
        )
    narrow = (wide - wide[0]).astype(np.int32)
    keep.append(narrow)
    row[VALUES] += int(wide[0])
    row[OFFSETS] = narrow.ctypes.data - 4 * array.offset  # where row 0 would find its own
    return row


def _coded(codes: pa.Array, hashes: NDArray[np.uint32], keep: list[Any]) -> list[int]:
    keep.append(hashes)
    return [*_flat(codes, CODES, keep)[:-1], hashes.ctypes.data]


def _cast(array: pa.Array, target: pa.DataType) -> pa.Array:
    try:
        return array.cast(target)
    except pa.ArrowException:
        raise ValueError(
            f"A column of type {array.type} cannot be a feature; expected numbers, text, "
            "booleans or lists of them: flatten it or ignore it."
        ) from None


def _list(array: pa.Array, seed: int, keep: list[Any]) -> list[int]:
    # what is no list has no type of elements, and fails to become one
    array = _cast(array, pa.large_list(getattr(array.type, "value_type", pa.null())))
    keep.append(array)
    valid, offsets = array.buffers()[:2]
    extent = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    first, last = int(extent[0]), int(extent[-1])
    # hashes of the elements in use, addressed as if those before them were there too
    hashes = hash_values(array.values[first:last], seed)
    keep.append(hashes)
    known = 0 if valid is None else valid.address
    address = hashes.ctypes.data + 4 * (1 - first)
    return [LIST, 0, offsets.address, known, array.offset, address]


def hash_values(array: pa.Array, seed: int) -> NDArray[np.uint32]:
    """Return the hash of "missing" and, behind it, those of the values as of a category field.

    Parameters
    ----------
    array
        Values of any type that a category field may have.
    seed
        Seed of the field.

    Returns
    -------
    ``uint32[len(array) + 1]``.
    """
    missing = uniform_hash(b"", seed)
    hashes = np.full(len(array) + 1, missing, np.uint32)
    keep: list[Any] = []
    row = np.zeros((1, WIDTH), np.int64)
    row[0, :DESCRIBED] = describe(array, "category", seed, {}, keep)
    if row[0, HOW] == LIST:
        raise ValueError(
            f"Values of type {array.type} inside lists or dictionaries cannot be features; "
            "expected numbers, text or booleans: flatten the column or ignore it."
        )
    row[0, [SEED, MISSING_HASH, NUMBER_COLUMN]] = seed, missing, -1
    place = np.arange(1, len(hashes))
    flagged = np.empty((len(array), 3), np.int64)
    nothing = np.empty((0, 0))
    no_edges, no_hashes = np.empty(0), np.empty(0, np.uint32)
    left = encode_rows(
        row,
        no_edges,
        no_hashes,
        0,
        len(array),
        place,
        hashes,
        nothing,
        flagged,
        np.empty(SCRATCH, np.int64),
    )
    for at in flagged[:left, 0].tolist():
        hashes[at + 1] = uniform_hash(canonical(array[at].as_py()), seed)
    return hashes


def _dictionary_hashes(
    dictionary: pa.Array, rows: int, seed: int, dictionaries: Dictionaries
) -> NDArray[np.uint32] | None:
    """Return the hashes of a dictionary's values, or None when hashing the rows is cheaper.

    Batches of one file mostly share a dictionary, or bring an equal or a longer one.
    """
    if pa.types.is_nested(dictionary.type):
        return None
    start = 0
    if seed in dictionaries:
        known, hashes = dictionaries[seed]
        if len(known) <= len(dictionary) and dictionary.slice(0, len(known)).equals(known):
            start = len(known)
            if start == len(dictionary):
                return hashes
    if len(dictionary) - start > 2 * rows:
        return None
    fresh = hash_values(dictionary.slice(start), seed)
    if start:
        fresh = np.concatenate([hashes, fresh[1:]])
    dictionaries[seed] = dictionary, fresh
    return fresh
