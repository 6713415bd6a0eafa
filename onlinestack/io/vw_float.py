"""The number reader of Vowpal Wabbit text, which is not correctly rounded and must stay so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import kernel, strtof

__all__ = ["read_float"]

_SPACES = (9, 10, 11, 12, 13, 32)
_DECIMALS = 35


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
