"""The kernels that turn CSV text into columns: find the fields, take off quotes, copy.

Quotes follow the rules most programs agree on: one opens a quoted field only as the field's first
byte; inside, two are one and a single one ends the quoting, whatever follows. Records end at LF or
CR outside quotes; lines without a byte are no records (which also makes one end of CR LF).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.kernel import array_at, kernel

__all__ = ["Ragged", "split_columns"]

_TILE = 128  # records copied of one column before the next: their text stays in the cache
_WORD = 8


class Ragged(NamedTuple):
    """A record with too few or too many fields: its number in the text, extent, and fields."""

    number: int
    start: int
    stop: int
    fields: int


@kernel()
def _find_plain(text: Any, delimiter: Any, width: Any, begin: Any, end: Any, ragged: Any) -> Any:
    """Find the fields of text without quotes.

    Parameters
    ----------
    text
        ``uint8``, read-only: whole records, the last one ended by a line end.
    delimiter
        The byte between fields.
    width
        Number of fields a record must have.
    begin
        ``int32``: receives where each good record begins.
    end
        ``int32``: receives the position behind each field, record by record; the next field begins
        one byte later.
    ragged
        ``int64[m, 4]``: receives number, start, stop and number of fields of each other record;
        those beyond m are only counted.

    Returns
    -------
    Number of good records and of ragged ones.
    """
    good = 0
    bad = 0
    first = 0  # where the record begins
    row = 0  # where its ends begin
    at = 0  # where its next end goes
    over = 0  # fields beyond the width
    highest = max(delimiter, 13)
    for i in range(len(text)):
        byte = text[i]
        if byte > highest:
            continue
        if byte == delimiter:
            if at - row < width:
                end[at] = i
                at += 1
            else:
                over += 1
        elif byte == 10 or byte == 13:
            if i > first:
                if at - row == width - 1:
                    end[at] = i
                    at += 1
                    begin[good] = first
                    good += 1
                    row = at
                else:
                    if bad < len(ragged):
                        ragged[bad, 0] = good + bad
                        ragged[bad, 1] = first
                        ragged[bad, 2] = i
                        ragged[bad, 3] = at - row + over + 1
                    bad += 1
                    at = row
                    over = 0
            first = i + 1
    return good, bad


@kernel()
def _find_quoted(
    text: Any, delimiter: Any, width: Any, begin: Any, end: Any, ragged: Any, plain: Any
) -> Any:
    """Find the fields of text with quotes, and write the text without them.

    Parameters
    ----------
    text, delimiter, width, ragged
        As for `_find_plain`.
    begin, end
        The same, but positions in ``plain``.
    plain
        ``uint8``, as long as ``text``: receives the values, one byte apart.

    Returns
    -------
    Number of good records and of ragged ones.
    """
    good = 0
    bad = 0
    first = 0
    row = 0
    at = 0
    over = 0
    begun = 0  # where the record begins in plain
    out = 0
    state = 0  # 0 start of record, 1 of field, 2 in a plain field, 3 in quotes, 4 behind a quote
    highest = max(delimiter, 34)
    for i in range(len(text)):
        byte = text[i]
        if byte > highest:  # nearly always
            plain[out] = byte
            out += 1
            if state != 3:
                state = 2
        elif state == 3:
            if byte == 34:
                state = 4
            else:
                plain[out] = byte
                out += 1
        elif byte == delimiter:
            if at - row < width:
                end[at] = out
                at += 1
            else:
                over += 1
            out += 1
            state = 1
        elif byte == 10 or byte == 13:
            if state != 0:
                if at - row == width - 1:
                    end[at] = out
                    at += 1
                    begin[good] = begun
                    good += 1
                    row = at
                    out += 1
                else:
                    if bad < len(ragged):
                        ragged[bad, 0] = good + bad
                        ragged[bad, 1] = first
                        ragged[bad, 2] = i
                        ragged[bad, 3] = at - row + over + 1
                    bad += 1
                    at = row
                    over = 0
                    out = begun
                begun = out
            first = i + 1
            state = 0
        elif byte == 34 and state != 2:
            if state == 4:
                plain[out] = byte
                out += 1
            state = 3
        else:
            plain[out] = byte
            out += 1
            state = 2
    return good, bad


def _plain_copy(
    text: Any, begin: Any, end: Any, width: Any, wanted: Any, base: Any, offset: Any, out: Any
) -> None:
    """Lay the values of each wanted column one behind the other.

    Parameters
    ----------
    text, begin, end, width
        As `_find_plain` or `_find_quoted` left them.
    wanted
        ``int64[m]``: numbers of the columns.
    base
        ``int64[m]``: receives where each column begins in ``out``.
    offset
        ``int32[m, n + 1]``: receives where each value begins behind the base, and the end.
    out
        ``uint8``: receives the values, with room for 8 bytes more a column, which may be written.
    """
    n = offset.shape[1] - 1
    at = 0
    for k, column in enumerate(wanted):
        base[k], offset[k, 0] = at, 0
        for row in range(n):
            stop = end[row * width + column]
            start = begin[row] if column == 0 else end[row * width + column - 1] + 1
            out[at : at + stop - start] = text[start:stop]
            at += int(stop) - int(start)
            offset[k, row + 1] = at - base[k]
        at += _WORD


@kernel(_plain_copy)
def _copy(
    text: Any, begin: Any, end: Any, width: Any, wanted: Any, base: Any, offset: Any, out: Any
) -> None:
    # Eight bytes at once, most values being short: what is written too much is overwritten by the
    # next value, or falls into the room behind the column. Near the end of the text, where eight
    # bytes may not be there to read, byte by byte.
    n = offset.shape[1] - 1
    at = 0
    for k in range(len(wanted)):
        column = wanted[k]
        base[k] = at
        offset[k, 0] = 0
        for row in range(n):
            start = begin[row] if column == 0 else end[row * width + column - 1] + 1
            at += end[row * width + column] - start
        at += _WORD
    source = text.ctypes.data
    target = out.ctypes.data
    last = len(text) - _WORD
    for tile in range(0, n, _TILE):
        for k in range(len(wanted)):
            column = wanted[k]
            at = base[k] + offset[k, tile]
            for row in range(tile, min(n, tile + _TILE)):
                start = begin[row] if column == 0 else end[row * width + column - 1] + 1
                size = end[row * width + column] - start
                if start + size <= last:
                    for j in range(0, size, _WORD):
                        word = array_at(source + start + j, 1, np.uint64)[0]
                        array_at(target + at + j, 1, np.uint64)[0] = word
                else:
                    for j in range(size):
                        out[at + j] = text[start + j]
                at += size
                offset[k, row + 1] = at - base[k]


def split_columns(
    text: bytes, delimiter: bytes, width: int, wanted: NDArray[np.int64]
) -> tuple[int, list[pa.Array], list[Ragged]]:
    r"""Return columns of CSV text as binary arrays, and the records that do not fit.

    Parameters
    ----------
    text
        Whole records, the last one ended by a line end.
    delimiter
        The byte between fields.
    width
        Number of fields a record must have.
    wanted
        ``int64``: numbers of the columns to return, in that order.

    Returns
    -------
    Number of records that fit, the columns, and the other records.

    Examples
    --------
    >>> n, columns, ragged = split_columns(b'a,"b,""c"" "\nd\ne,f\n', b",", 2, np.array([1, 0]))
    >>> n, columns[0].to_pylist(), ragged
    (2, [b'b,"c" ', b'f'], [Ragged(number=1, start=13, stop=14, fields=1)])
    """
    source = np.frombuffer(text, np.uint8)
    quoted = b'"' in text
    begin = np.empty(len(text) // width + 1, np.int32)
    end = np.empty(len(text) + width, np.int32)
    plain = np.empty(len(text) + _WORD if quoted else 0, np.uint8)
    room, n, bad = 0, 0, 64
    while bad > room:  # once again if there are more than were thought of
        room = bad
        ragged = np.empty((room, 4), np.int64)
        if quoted:
            n, bad = _find_quoted(source, delimiter[0], width, begin, end, ragged, plain)
        else:
            n, bad = _find_plain(source, delimiter[0], width, begin, end, ragged)
    if quoted:
        plain.setflags(write=False)
        source = plain
    base = np.empty(len(wanted), np.int64)
    offset = np.empty((len(wanted), n + 1), np.int32)
    out = np.empty(len(text) + _WORD * (len(wanted) + 1), np.uint8)
    _copy(source, begin, end, width, wanted, base, offset, out)
    data = pa.py_buffer(out)
    offsets = pa.py_buffer(offset)
    stride = offset.strides[0]
    columns = [
        pa.Array.from_buffers(
            pa.binary(), n, [None, offsets.slice(k * stride, stride), data.slice(int(start))]
        )
        for k, start in enumerate(base)
    ]
    return n, columns, [Ragged(*row) for row in ragged[:bad].tolist()]
