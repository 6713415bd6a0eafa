"""The kernel that turns rows of columns into feature hashes, straight from Arrow's buffers.

One call does all columns of a stretch of rows. What it must know of a column is a row of the
descriptor table, ``int64[columns, WIDTH]``; Python fills the table once a batch (`arrow.py`).
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from onlinestack.features.bins import lower_edge
from onlinestack.features.number_text import NUMBER, SLOW, TEXT, number_of, parse_number
from onlinestack.kernel import array_at, kernel
from onlinestack.murmur import murmur_at, uniform_hash

__all__ = [
    "BYTES",
    "CODES",
    "COUNT",
    "EDGE",
    "FLOAT32",
    "FLOAT64",
    "FLOATS",
    "HASH",
    "HASHES",
    "HOW",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "INTEGERS",
    "LIST",
    "MISSING_HASH",
    "NOTHING",
    "NUMBERS",
    "NUMBER_COLUMN",
    "NUMBER_TEXT",
    "OFFSETS",
    "PADDING",
    "SCRATCH",
    "SEED",
    "SHIFT",
    "TOKENS",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "VALID",
    "VALUES",
    "WIDTH",
    "bin_hash",
    "count_features",
    "encode_rows",
    "exponent_hash",
    "plain_numbers",
    "position",
]

(
    NOTHING,  # all missing
    CODES,  # int32 codes into uint32 hashes, whose first is that of "missing"
    BYTES,  # bytes with int32 offsets
    INTEGERS,  # int64, hashed as printed
    FLOATS,  # float64, hashed as printed
    NUMBERS,  # of any of the types below, in bins
    NUMBER_TEXT,  # numbers as text with int32 offsets, in bins
    TOKENS,  # bytes with int32 offsets, split at white space: several features
    LIST,  # int64 offsets into uint32 hashes of the elements: several features
) = range(9)
"""How the values of a column are read."""

(
    HOW,  # one of the above
    VALUES,  # address of the values, codes or bytes
    OFFSETS,  # address of the offsets
    VALID,  # address of the validity bitmap, 0 when all are valid
    SHIFT,  # Arrow's offset: elements before the first row
    HASHES,  # address of the hashes; of NUMBERS the type
    SEED,  # seed of the field
    MISSING_HASH,  # hash of "missing"
    NUMBER_COLUMN,  # column of the numbers matrix, -1 for none
    EDGE,  # where the field's edges begin
    COUNT,  # how many there are, padded; 0 when the field has none yet
    HASH,  # where the hashes of its bins begin; the first is that of "below all edges"
) = range(12)
"""Columns of the descriptor table."""

(FLOAT64, FLOAT32, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64) = range(10)
"""Types of NUMBERS."""
TYPES = (
    np.float64,
    np.float32,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
)

WIDTH = 12
PADDING = 8
"""The edges of a field are padded with infinity to a multiple of this, for the vector unit."""
TILE = 256
"""Rows done of one column before the next, so that the rows' features stay in the cache."""
PRINTED = 4
"""Of the scratch, for a number that is printed and hashed."""
SCRATCH = PRINTED + 2 * TILE
"""Numbers of 64 bits of scratch: those, and the values and the bins of a tile of numbers."""


def _item(address: int, at: int, dtype: Any) -> Any:
    size = np.dtype(dtype).itemsize
    return np.frombuffer(ctypes.string_at(address + at * size, size), dtype)[0].item()


def _features(
    column: list[int], row: int, edges: Any, hashes: Any
) -> tuple[list[int], float, bool]:
    """Return the hashes of a value, its number (NaN if none) and whether it is left to Python."""
    how, seed, at = column[HOW], column[SEED], column[SHIFT] + row
    missing = [column[MISSING_HASH]], math.nan, False
    if how == NOTHING:
        return missing
    if column[VALID] and not _item(column[VALID], at // 8, np.uint8) >> at % 8 & 1:
        return missing
    if how == CODES:
        code = _item(column[VALUES], at, np.int32)
        return [_item(column[HASHES], code + 1, np.uint32)], math.nan, False
    if how == INTEGERS:
        text = str(_item(column[VALUES], at, np.int64)).encode()
        return [uniform_hash(text, seed)], math.nan, False
    if how == NUMBERS:
        value = float(_item(column[VALUES], at, TYPES[column[HASHES]]))
        return [bin_hash(column, value, edges, hashes)], _finite(value), False
    if how == FLOATS:
        value = _item(column[VALUES], at, np.float64)
        if value.is_integer() and abs(value) < 2**63:
            return [uniform_hash(str(int(value)).encode(), seed)], math.nan, False
        return missing if math.isnan(value) else ([0], math.nan, True)
    wide = np.int64 if how == LIST else np.int32
    start = _item(column[OFFSETS], at, wide)
    stop = _item(column[OFFSETS], at + 1, wide)
    if how == LIST:
        elements = [_item(column[HASHES], i, np.uint32) for i in range(start, stop)]
        return elements or missing[0], math.nan, False
    text = ctypes.string_at(column[VALUES] + start, stop - start) if stop > start else b""
    if how == BYTES:
        return [uniform_hash(text, seed)], math.nan, False
    if how == TOKENS:
        return [uniform_hash(token, seed) for token in text.split() or [b""]], math.nan, False
    status, value = number_of(text)
    if status == TEXT:
        return [uniform_hash(text, seed)], math.nan, False
    return [bin_hash(column, value, edges, hashes)], value, False


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def bin_hash(column: list[int], value: float, edges: Any, hashes: Any) -> int:
    """Return the hash of the bin a number lies in: of its lower edge, as eight bytes."""
    if not math.isfinite(value):
        return column[MISSING_HASH]
    if not column[COUNT]:
        return uniform_hash(np.float64(lower_edge(value)).tobytes(), column[SEED])
    own = edges[column[EDGE] : column[EDGE] + column[COUNT]]
    return int(hashes[column[HASH] + np.count_nonzero(own <= value)])


def _count_features(table: Any, start: int, stop: int, counts: Any) -> None:
    """Count the features of each row.

    Parameters
    ----------
    table
        The descriptor table.
    start, stop
        First row and the one behind the last.
    counts
        ``int64[stop - start]``: takes the counts.
    """
    columns = table.tolist()
    empty = np.empty(0)
    for row in range(start, stop):
        counts[row - start] = sum(
            len(_features(column, row, empty, empty)[0]) if column[HOW] >= TOKENS else 1
            for column in columns
        )


def _encode_rows(
    table: Any,
    edges: Any,
    hashes: Any,
    start: int,
    stop: int,
    place: Any,
    index: Any,
    numbers: Any,
    flagged: Any,
    scratch: Any,
) -> int:
    """Write the features of each row, column after column.

    Parameters
    ----------
    table
        The descriptor table.
    edges
        ``float64``: edges of the bins of all number fields, those of a field padded with
        infinity.
    hashes
        ``uint32``: hashes of the bins.
    start, stop
        First row and the one behind the last.
    place
        ``int64[stop - start]``: position of each row's first feature. Spoiled when a column has
        several features a row.
    index
        ``uint32``: takes the hashes.
    numbers
        ``float64[stop - start, k]``: takes the plain numbers, NaN where missing.
    flagged
        ``int64[room, 3]``: takes row (from 0), column and position of the values that are left
        to Python: numbers of many digits, and floats that are no integers in category fields.
    scratch
        ``int64[SCRATCH]``: room to work in.

    Returns
    -------
    Number of values left to Python, also when there was no room for all.
    """
    found = 0
    columns = table.tolist()
    for row in range(start, stop):
        at = int(place[row - start])
        for j, column in enumerate(columns):
            features, number, left = _features(column, row, edges, hashes)
            index[at : at + len(features)] = features
            if column[NUMBER_COLUMN] >= 0:
                numbers[row - start, column[NUMBER_COLUMN]] = number
            if left:
                if found < len(flagged):
                    flagged[found] = row - start, j, at
                found += 1
            at += len(features)
    return found


@kernel(_count_features)
def count_features(table: Any, start: int, stop: int, counts: Any) -> None:
    """Count the features of each row; see `_count_features`. One, but for tokens and lists."""
    counts[:] = len(table)
    for j in range(len(table)):
        column = table[j]
        how, shift = column[HOW], column[SHIFT]
        if how == TOKENS:
            _count_tokens(column, start, stop, counts)
        elif how == LIST:
            offsets = array_at(column[OFFSETS], shift + stop + 1, np.int64)
            for i in range(start, stop):
                size = offsets[shift + i + 1] - offsets[shift + i]
                size *= _is_valid(column[VALID], shift + i)
                counts[i - start] += max(size, 1) - 1


@kernel()
def _is_valid(bitmap: int, at: int) -> Any:
    """Return 1 when the element is not null, else 0."""
    if bitmap == 0:
        return 1
    return (array_at(bitmap, (at >> 3) + 1, np.uint8)[at >> 3] >> (at & 7)) & 1


@kernel()
def _next_token(text: Any, at: Any, stop: Any) -> Any:
    """Return where the next token begins and ends; both are ``stop`` when there is none."""
    while at < stop and (text[at] == 32 or 9 <= text[at] <= 13):
        at += 1
    start = at
    while at < stop and not (text[at] == 32 or 9 <= text[at] <= 13):
        at += 1
    return start, at


@kernel()
def _count_tokens(column: Any, start: int, stop: int, counts: Any) -> None:
    shift = column[SHIFT]
    offsets = array_at(column[OFFSETS], shift + stop + 1, np.int32)
    text = array_at(column[VALUES], np.int64(offsets[shift + stop]), np.uint8)
    for i in range(start, stop):
        if _is_valid(column[VALID], shift + i) == 0:
            continue
        last: Any = np.int64(offsets[shift + i + 1])
        tokens = 0
        first, at = _next_token(text, np.int64(offsets[shift + i]), last)
        while first < at:
            tokens += 1
            first, at = _next_token(text, at, last)
        counts[i - start] += max(tokens, 1) - 1


@kernel()
def _print_integer(value: int, digits: Any) -> int:
    """Print an ``int64`` at the end of ``digits`` (``uint8[24]``); return where it begins."""
    at = len(digits)
    rest = np.uint64(value)
    if value < 0:
        rest = np.uint64(0) - rest
    while True:
        quotient = rest // np.uint64(10)
        at -= 1
        digits[at] = np.uint8(48) + np.uint8(rest - quotient * np.uint64(10))
        rest = quotient
        if rest == np.uint64(0):
            break
    if value < 0:
        at -= 1
        digits[at] = 45
    return at


@kernel()
def position(edges: Any, at: int, count: int, value: float) -> int:
    """Return how many of a field's edges are not above a value.

    Counting all of the few there are takes a fifth of the time of halving, whose branches the
    processor cannot foresee.
    """
    found = 0
    for i in range(at, at + count):
        found += edges[i] <= value
    return found


@kernel()
def _positions(edges: Any, at: int, count: int, values: Any, rows: int, found: Any) -> None:
    """Do the same for many values, side by side: a third of the time.

    Parameters
    ----------
    edges, at, count
        As of `position`; the count is a multiple of four.
    values
        ``float64``: NaN is above no edge.
    rows
        How many there are.
    found
        ``int64``: takes the counts.
    """
    for i in range(rows):
        found[i] = 0
    for first in range(at, at + count, 4):
        a, b, c, d = edges[first], edges[first + 1], edges[first + 2], edges[first + 3]
        for i in range(rows):
            value = values[i]
            found[i] += np.int64(a <= value) + np.int64(b <= value)
            found[i] += np.int64(c <= value) + np.int64(d <= value)


@kernel()
def exponent_hash(value: float, seed: Any, scratch: Any) -> Any:
    """Return the hash of the edge that `lower_edge` gives; ``scratch`` is ``int64``."""
    array_at(scratch.ctypes.data, 1, np.float64)[0] = value + 0.0
    key = scratch[0]
    if key < 0:
        key = ~(key & np.int64(0x7FFFFFFFFFFFFFFF))
    key = (key >> 52) << 52
    if key < 0:
        key = ~key | np.int64(-0x8000000000000000)
    scratch[0] = key
    return murmur_at(scratch.ctypes.data, 8, seed)


@kernel()
def _fill_codes(
    column: Any, start: int, stop: int, j: int, place: Any, index: Any, base: int
) -> None:
    shift, valid = column[SHIFT], column[VALID]
    codes = array_at(column[VALUES], shift + stop, np.int32)
    hashes = array_at(column[HASHES], 1, np.uint32)
    if valid == 0:
        for i in range(start, stop):
            index[place[i - base] + j] = hashes[np.uint64(codes[shift + i] + 1)]
    else:
        bits = array_at(valid, ((shift + stop) >> 3) + 1, np.uint8)
        for i in range(start, stop):
            at = shift + i
            known = (np.int64(bits[at >> 3]) >> (at & 7)) & 1
            index[place[i - base] + j] = hashes[np.uint64((codes[at] + 1) * known)]


@kernel()
def _fill_bytes(
    column: Any, start: int, stop: int, j: int, place: Any, index: Any, base: int
) -> None:
    shift, valid, text = column[SHIFT], column[VALID], column[VALUES]
    offsets = array_at(column[OFFSETS], shift + stop + 1, np.int32)
    seed = np.uint32(column[SEED])
    for i in range(start, stop):
        first: Any = np.int64(offsets[shift + i])
        size = np.int64(offsets[shift + i + 1]) - first
        if valid:
            # the hash of nothing is the hash of "missing"
            size *= _is_valid(valid, shift + i)
        index[place[i - base] + j] = murmur_at(text + first, size, seed)


@kernel()
def _fill_number_text(
    column: Any,
    edges: Any,
    hashes: Any,
    start: int,
    stop: int,
    j: int,
    place: Any,
    index: Any,
    base: int,
    numbers: Any,
    flagged: Any,
    scratch: Any,
    found: int,
) -> int:
    shift, valid, text = column[SHIFT], column[VALID], column[VALUES]
    offsets = array_at(column[OFFSETS], shift + stop + 1, np.int32)
    seed, missing = np.uint32(column[SEED]), np.uint32(column[MISSING_HASH])
    values = array_at(scratch.ctypes.data + 8 * PRINTED, TILE, np.float64)
    for i in range(start, stop):
        first: Any = np.int64(offsets[shift + i])
        size = np.int64(offsets[shift + i + 1]) - first
        if valid:
            size *= _is_valid(valid, shift + i)
        at = place[i - base] + j
        index[at] = missing
        values[i - start] = np.nan
        if size == 0:
            continue
        status, value = parse_number(text + first, size)
        if status == NUMBER:
            values[i - start] = value
        elif status == TEXT:
            index[at] = murmur_at(text + first, size, seed)
        elif status == SLOW:
            if found < len(flagged):
                flagged[found, 0] = i - base
                flagged[found, 1] = j
                flagged[found, 2] = at
            found += 1
    _fill_bins(column, edges, hashes, start, stop, j, place, index, base, numbers, scratch)
    return found


@kernel()
def _widen(column: Any, start: int, stop: int, values: Any) -> None:
    """Write the values of a column of any type of number, NaN where null."""
    address, shift, kind = column[VALUES], column[SHIFT], column[HASHES]
    last = shift + stop
    if kind == FLOAT64:
        f64 = array_at(address, last, np.float64)
        for i in range(start, stop):
            values[i - start] = np.float64(f64[shift + i])
    elif kind == FLOAT32:
        f32 = array_at(address, last, np.float32)
        for i in range(start, stop):
            values[i - start] = np.float64(f32[shift + i])
    elif kind == INT8:
        i8 = array_at(address, last, np.int8)
        for i in range(start, stop):
            values[i - start] = np.float64(i8[shift + i])
    elif kind == INT16:
        i16 = array_at(address, last, np.int16)
        for i in range(start, stop):
            values[i - start] = np.float64(i16[shift + i])
    elif kind == INT32:
        i32 = array_at(address, last, np.int32)
        for i in range(start, stop):
            values[i - start] = np.float64(i32[shift + i])
    elif kind == INT64:
        i64 = array_at(address, last, np.int64)
        for i in range(start, stop):
            values[i - start] = np.float64(i64[shift + i])
    elif kind == UINT8:
        u8 = array_at(address, last, np.uint8)
        for i in range(start, stop):
            values[i - start] = np.float64(u8[shift + i])
    elif kind == UINT16:
        u16 = array_at(address, last, np.uint16)
        for i in range(start, stop):
            values[i - start] = np.float64(u16[shift + i])
    elif kind == UINT32:
        u32 = array_at(address, last, np.uint32)
        for i in range(start, stop):
            values[i - start] = np.float64(u32[shift + i])
    elif kind == UINT64:
        u64 = array_at(address, last, np.uint64)
        for i in range(start, stop):
            values[i - start] = np.float64(u64[shift + i])
    valid = column[VALID]
    if valid:
        bits = array_at(valid, (last >> 3) + 1, np.uint8)
        for i in range(start, stop):
            at, value = shift + i, values[i - start]
            known = (np.int64(bits[at >> 3]) >> (at & 7)) & 1
            values[i - start] = value if known else np.nan


@kernel()
def _fill_bins(
    column: Any,
    edges: Any,
    hashes: Any,
    start: int,
    stop: int,
    j: int,
    place: Any,
    index: Any,
    base: int,
    numbers: Any,
    scratch: Any,
) -> None:
    """Write the bins of the finite values in scratch, and all of them to the matrix."""
    seed, count = np.uint32(column[SEED]), column[COUNT]
    bins, k = column[HASH], column[NUMBER_COLUMN]
    values = array_at(scratch.ctypes.data + 8 * PRINTED, TILE, np.float64)
    found = array_at(scratch.ctypes.data + 8 * (PRINTED + TILE), TILE, np.int64)
    if count == 0:
        for i in range(start, stop):
            value = values[i - start]
            if value - value == 0.0:
                index[place[i - base] + j] = exponent_hash(value, seed, scratch)
            numbers[i - base, k] = value if value - value == 0.0 else np.nan
        return
    _positions(edges, column[EDGE], count, values, stop - start, found)
    for i in range(start, stop):
        value, at = values[i - start], place[i - base] + j
        known = value - value == 0.0
        hashed, left = hashes[np.uint64(bins + found[i - start])], index[at]
        index[at] = hashed if known else left
        numbers[i - base, k] = value if known else np.nan


@kernel()
def _fill_numbers(
    column: Any,
    edges: Any,
    hashes: Any,
    start: int,
    stop: int,
    j: int,
    place: Any,
    index: Any,
    base: int,
    numbers: Any,
    scratch: Any,
) -> None:
    missing = np.uint32(column[MISSING_HASH])
    for i in range(start, stop):
        index[place[i - base] + j] = missing
    values = array_at(scratch.ctypes.data + 8 * PRINTED, TILE, np.float64)
    _widen(column, start, stop, values)
    _fill_bins(column, edges, hashes, start, stop, j, place, index, base, numbers, scratch)


@kernel()
def _fill_printed(
    column: Any,
    start: int,
    stop: int,
    j: int,
    place: Any,
    index: Any,
    base: int,
    flagged: Any,
    scratch: Any,
    found: int,
) -> int:
    how, shift = column[HOW], column[SHIFT]
    integers = array_at(column[VALUES], shift + stop, np.int64)
    floats = array_at(column[VALUES], shift + stop, np.float64)
    seed, missing = np.uint32(column[SEED]), np.uint32(column[MISSING_HASH])
    digits = array_at(scratch.ctypes.data, 24, np.uint8)
    for i in range(start, stop):
        at = place[i - base] + j
        index[at] = missing
        if _is_valid(column[VALID], shift + i) == 0:
            continue
        if how == INTEGERS:
            whole = integers[shift + i]
        else:
            value = floats[shift + i]
            if value != value:
                continue
            if not (abs(value) < 9223372036854775808.0 and np.floor(value) == value):
                if found < len(flagged):
                    flagged[found, 0] = i - base
                    flagged[found, 1] = j
                    flagged[found, 2] = at
                found += 1
                continue
            whole = np.int64(value)
        begin = _print_integer(whole, digits)
        index[at] = murmur_at(scratch.ctypes.data + begin, 24 - begin, seed)
    return found


@kernel()
def _fill_tokens(
    column: Any, start: int, stop: int, j: int, place: Any, index: Any, base: int
) -> None:
    shift, seed = column[SHIFT], np.uint32(column[SEED])
    offsets = array_at(column[OFFSETS], shift + stop + 1, np.int32)
    text = array_at(column[VALUES], np.int64(offsets[shift + stop]), np.uint8)
    for i in range(start, stop):
        last: Any = np.int64(offsets[shift + i + 1])
        first = at = last
        if _is_valid(column[VALID], shift + i):
            first, at = _next_token(text, np.int64(offsets[shift + i]), last)
        tokens = 0
        while first < at:
            hashed = murmur_at(column[VALUES] + first, at - first, seed)
            index[place[i - base] + j + tokens] = hashed
            tokens += 1
            first, at = _next_token(text, at, last)
        if tokens == 0:
            index[place[i - base] + j] = np.uint32(column[MISSING_HASH])
            tokens = 1
        place[i - base] += tokens - 1


@kernel()
def _fill_list(
    column: Any, start: int, stop: int, j: int, place: Any, index: Any, base: int
) -> None:
    shift = column[SHIFT]
    offsets = array_at(column[OFFSETS], shift + stop + 1, np.int64)
    hashes = array_at(column[HASHES], offsets[shift + stop], np.uint32)
    for i in range(start, stop):
        first = offsets[shift + i]
        size = (offsets[shift + i + 1] - first) * _is_valid(column[VALID], shift + i)
        at = place[i - base] + j
        if size == 0:
            index[at] = np.uint32(column[MISSING_HASH])
            continue
        for element in range(size):
            index[at + element] = hashes[first + element]
        place[i - base] += size - 1


@kernel(_encode_rows)
def encode_rows(
    table: Any,
    edges: Any,
    hashes: Any,
    start: int,
    stop: int,
    place: Any,
    index: Any,
    numbers: Any,
    flagged: Any,
    scratch: Any,
) -> int:
    """Write the features of each row; see `_encode_rows`.

    Columns are walked in tiles of rows, each by a loop for its own way of being read. A column
    with several features a row moves the row's place, so that column j always writes at j.
    """
    found = 0
    for low in range(start, stop, TILE):
        high = min(low + TILE, stop)
        for j in range(len(table)):
            column = table[j]
            how = column[HOW]
            if how == CODES:
                _fill_codes(column, low, high, j, place, index, start)
            elif how == BYTES:
                _fill_bytes(column, low, high, j, place, index, start)
            elif how == NUMBERS:
                _fill_numbers(
                    column, edges, hashes, low, high, j, place, index, start, numbers, scratch
                )
            elif how == NUMBER_TEXT:
                found = _fill_number_text(
                    column, edges, hashes, low, high, j, place, index, start, numbers, flagged,
                    scratch, found,
                )  # fmt: skip
            elif how == INTEGERS or how == FLOATS:
                found = _fill_printed(
                    column, low, high, j, place, index, start, flagged, scratch, found
                )
            elif how == TOKENS:
                _fill_tokens(column, low, high, j, place, index, start)
            elif how == LIST:
                _fill_list(column, low, high, j, place, index, start)
            else:
                missing = np.uint32(column[MISSING_HASH])
                for i in range(low, high):
                    index[place[i - start] + j] = missing
            if column[NUMBER_COLUMN] >= 0 and (how < NUMBERS or how > NUMBER_TEXT):
                for i in range(low, high):
                    numbers[i - start, column[NUMBER_COLUMN]] = np.nan
    return found


@kernel()
def plain_numbers(
    numbers: Any, seeds: Any, at: int, index: Any, value: Any, start: Any, stop: Any
) -> None:
    """Write the numbers of each row that are not missing as features of their own value.

    Parameters
    ----------
    numbers
        ``float64[n, k]``.
    seeds
        ``uint32[k]``: the hash of each number field in its namespace.
    at
        First position to write at.
    index, value
        ``uint32`` and ``float32``: the pool; takes k features a row at most.
    start, stop
        ``int64[n]``: take the extents of each row.
    """
    for i in range(len(numbers)):
        start[i] = at
        for k in range(numbers.shape[1]):
            if numbers[i, k] == numbers[i, k]:
                index[at] = seeds[k]
                value[at] = np.float32(numbers[i, k])
                at += 1
        stop[i] = at
