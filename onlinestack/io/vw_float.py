"""The number reader of Vowpal Wabbit text, which is not correctly rounded and must stay so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import array_at, kernel, strtof

__all__ = ["read_float", "read_short"]

_SPACES = (9, 10, 11, 12, 13, 32)
_DECIMALS = 35

# Eight bytes at a time, the first in the lowest place
_ZEROS = np.uint64(0x3030303030303030)
_ONES = np.uint64(0x0101010101010101)
_TOPS = np.uint64(0x8080808080808080)
_POINTS = np.uint64(0x2E2E2E2E2E2E2E2E)
_PLACES = np.uint64(0x0706050403020100)
_HIGH = np.uint64(0xF0F0F0F0F0F0F0F0)
_LOW = np.uint64(0x0F0F0F0F0F0F0F0F)
_SIXES = np.uint64(0x0606060606060606)
_THREES = np.uint64(0x3333333333333333)
_PAIRS = np.uint64(0x000000FF000000FF)
_UPPER = np.uint64(0x000F424000000064)
_LOWER = np.uint64(0x0000271000000001)


def _powers() -> NDArray[np.float32]:
    """Return the powers of ten by exponent modulo 256, each from its neighbour in float32."""
    power = np.zeros(256, np.float32)
    power[0] = 1
    for k in range(1, 39):
        power[k] = power[k - 1] * np.float32(10)
    for k in range(1, 38):
        power[-k % 256] = power[(1 - k) % 256] / np.float32(10)
    power[39:128] = np.inf
    return power


_POWER = _powers()
"""Powers of ten as Vowpal Wabbit has them, by exponent modulo 256."""


def _plain(text: Any, start: int, stop: int) -> Any:
    r"""Read the number at the start of ``text[start:stop]`` as Vowpal Wabbit 9.11 does.

    Decimal digits are gathered in float32, one rounding an operation, and the power of ten comes
    from a table of 256 exponents, so that most numbers of six or more digits differ from the
    nearest float32. What does not end at a blank or the end is read again by the C library.

    Parameters
    ----------
    text
        ``uint8[size]``: the bytes; behind ``stop`` at least one more that no number contains.
    start, stop
        Extent to read from.

    Returns
    -------
    ``(value, used)``: the float32 and the count of bytes it takes; 0 bytes when there is none.

    Examples
    --------
    >>> text = np.frombuffer(bytearray(b"0.1 0.1|\n"), np.uint8)
    >>> [float(number) for number in read_float(text, 0, 8)]
    [0.10000000149011612, 3.0]
    >>> read_float(text, 4, 8)[1], read_float(text, 7, 8)[1]
    (3, 0)
    """
    ten, digits = np.float32(10), range(48, 58)

    def byte(at: int) -> int:
        return int(text[at]) if at < stop else 10

    if start >= stop:
        return np.float32(0), 0
    at = start
    while byte(at) == 32:
        at += 1
    negative = byte(at) == 45
    at += negative
    total = np.float32(0)
    while byte(at) in digits:
        total = total * ten + np.float32(byte(at)) - np.float32(48)
        at += 1
    decimals = 0
    if byte(at) == 46:
        at += 1
        while byte(at) in digits:
            if decimals < _DECIMALS:
                total = total * ten + np.float32(byte(at) - 48)
                decimals += 1
            at += 1
    exponent = 0
    if byte(at) in (69, 101):
        at += 1
        sign = 1
        if byte(at) == 45:
            sign = -1
            at += 1
        while byte(at) in digits:
            exponent = exponent * 10 + byte(at) - 48
            at += 1
        exponent *= sign
    if byte(at) in (9, 10, 32):
        value = total * _POWER[(exponent - decimals) % 256]
        return -value if negative else value, at - start
    at = start
    while at < stop and text[at] in _SPACES:
        at += 1
    if at == stop:
        return np.float32(0), 0
    value, end = strtof(text.ctypes.data + at)
    used = end - text.ctypes.data - at
    return np.float32(value), used + at - start if used else 0


@kernel()
def _read_exact(text: Any, start: Any, stop: Any) -> Any:
    """Read what the C library reads; the byte behind ``stop`` ends a number, but not blanks."""
    at = start
    while at < stop and (text[at] == 32 or 9 <= text[at] <= 13):
        at += 1
    if at >= stop:
        return np.float32(0), 0
    base = text.ctypes.data + at
    value, end = strtof(base)
    if end == base:
        return np.float32(0), 0
    return np.float32(value), at - start + (end - base)


@kernel()
def _read_long(text: Any, start: Any, stop: Any) -> Any:
    """Read a number of many digits or with an exponent, one float32 operation at a time."""
    at = start
    while at < stop and text[at] == 32:
        at += 1
    negative = at < stop and text[at] == 45
    if negative:
        at += 1
    total = np.float32(0)
    while at < stop and 48 <= text[at] <= 57:
        total = total * np.float32(10) + np.float32(text[at]) - np.float32(48)
        at += 1
    decimals = 0
    if at < stop and text[at] == 46:
        at += 1
        while at < stop and 48 <= text[at] <= 57:
            if decimals < _DECIMALS:
                total = total * np.float32(10) + np.float32(text[at] - 48)
                decimals += 1
            at += 1
    exponent = 0
    if at < stop and (text[at] == 101 or text[at] == 69):
        at += 1
        below = at < stop and text[at] == 45
        if below:
            at += 1
        while at < stop and 48 <= text[at] <= 57:
            exponent = exponent * 10 + (text[at] - 48)
            at += 1
        if below:
            exponent = -exponent
    if at < stop and text[at] != 32 and text[at] != 9 and text[at] != 10:
        return _read_exact(text, start, stop)
    value = total * _POWER[(exponent - decimals) & 255]
    return -value if negative else value, at - start


@kernel(_plain)
def read_float(text: Any, start: Any, stop: Any) -> Any:
    """Gather up to seven digits as an integer: below 2**24 float32 makes the same steps exactly."""
    at = start
    while at < stop and text[at] == 32:
        at += 1
    negative = at < stop and text[at] == 45
    if negative:
        at += 1
    whole = 0
    decimals = 0
    limit = min(stop, at + 7)
    while at < limit and 48 <= text[at] <= 57:
        whole = whole * 10 + (text[at] - 48)
        at += 1
    if at < stop and text[at] == 46:
        at += 1
        limit = min(stop, limit + 1)
        while at < limit and 48 <= text[at] <= 57:
            whole = whole * 10 + (text[at] - 48)
            decimals += 1
            at += 1
    if at < stop and (48 <= text[at] <= 57 or text[at] == 101 or text[at] == 69):
        return _read_long(text, start, stop)
    if at < stop and text[at] != 32 and text[at] != 9 and text[at] != 10:
        return _read_exact(text, start, stop)
    value = np.float32(whole) * _POWER[-decimals & 255]
    return -value if negative else value, at - start


@kernel()
def read_short(text: Any, start: Any, stop: Any) -> Any:
    """Read a decimal of up to seven digits that ends before a blank or LF at ``stop``.

    Its bytes are taken at once, the point is closed up, and the digits are joined in pairs of
    pairs of pairs, without a branch that depends on their number. For anything else the count of
    bytes is 0, and ``read_float`` must read it.
    """
    negative = text[start] == 45
    begin = start + 1 if negative else start
    size = stop - begin
    end = text[stop]
    if size < 1 or size > 8 or stop < 8 or (end != 32 and end != 10 and end != 9):
        return np.float32(0), 0
    x = array_at(text.ctypes.data + stop - 8, 1, np.uint64)[0]
    others = (np.uint64(1) << np.uint64(64 - 8 * size)) - np.uint64(1)
    x = (x & ~others) | (_ZEROS & others)
    decimals = np.int64(0)
    point = ((x ^ _POINTS) - _ONES) & ~(x ^ _POINTS) & _TOPS
    if point:
        place = (point & (~point + np.uint64(1))) >> np.uint64(7)  # lowest bit of its byte
        before = place - np.uint64(1)
        behind = ~(before | place * np.uint64(255))
        x = (x & behind) | ((x & before) << np.uint64(8)) | np.uint64(48)
        decimals = np.int64(place * _PLACES >> np.uint64(56))
    elif size > 7:
        return np.float32(0), 0
    if ((x & _HIGH) | (((x + _SIXES) & _HIGH) >> np.uint64(4))) != _THREES:
        return np.float32(0), 0
    x = (x & _LOW) * np.uint64(10) + ((x & _LOW) >> np.uint64(8))
    x = (x & _PAIRS) * _UPPER + ((x >> np.uint64(16)) & _PAIRS) * _LOWER
    value = np.float32(np.int64(x >> np.uint64(32))) * _POWER[-decimals & 255]
    return -value if negative else value, stop - start
