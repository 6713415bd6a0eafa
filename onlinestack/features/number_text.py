"""Numbers written as text: the kernel that reads them, equal to Python's ``float`` bit for bit.

Notes
-----
Up to 15 digits and small powers of ten are exact in one multiplication or division of doubles.
Other numbers of up to 19 digits (what programs print for a double) take the 128-bit product of
Eisel and Lemire. The few that are left, those of more digits and subnormal ones, are reported as
`SLOW`, and the caller asks `number_of`.

References
----------
[^1]: Clinger, W. (1990). How to read floating point numbers accurately. PLDI.
[^2]: Lemire, D. (2021). Number parsing at a gigabyte per second. Software: Practice and
      Experience 51(8).
"""

from __future__ import annotations

import ctypes
import math
import re
from typing import Any

import numpy as np

from onlinestack.kernel import array_at, kernel

__all__ = ["MISSING", "NUMBER", "SLOW", "TEXT", "number_of", "parse_number"]

MISSING, NUMBER, TEXT, SLOW = range(4)
"""What a text in a number field is: blank, a finite number, something else, or not decided."""

_NUMERAL = re.compile(rb"[ \t-\r]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t-\r]*")
_NOTHING = re.compile(rb"[ \t-\r]*(?:[+-]?(?:nan|inf|infinity))?[ \t-\r]*", re.IGNORECASE)


def number_of(text: bytes) -> tuple[int, float]:
    """Tell what a text in a number field is, and its value when it is a number.

    Blanks around it, a sign, digits, a point and an exponent make a number; nothing at all,
    blanks, the words nan, inf and infinity, and numbers beyond the largest double are missing.

    Parameters
    ----------
    text
        The text as written.

    Returns
    -------
    `MISSING`, `NUMBER` or `TEXT`, and the double (NaN unless it is a number).

    Examples
    --------
    >>> number_of(b" -1.50"), number_of(b"n/a"), number_of(b"inf")
    ((1, -1.5), (2, nan), (0, nan))
    """
    if _NUMERAL.fullmatch(text):
        value = float(text)
        return (NUMBER, value) if math.isfinite(value) else (MISSING, math.nan)
    return (MISSING if _NOTHING.fullmatch(text) else TEXT), math.nan


def _powers_of_five() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the high and low halves of 5**q, normalised to 128 bits, for q = -342 to 308.

    Positive powers are cut off, negative ones (reciprocals) rounded up, as the proof wants.
    """
    rows = []
    for q in range(-342, 309):
        power = 5 ** abs(q)
        if q < 0:
            shift = power.bit_length() + 127
            power = (1 << shift) // power + 1
        excess = power.bit_length() - 128
        power = power >> excess if excess >= 0 else power << -excess
        rows.append(divmod(power, 1 << 64))
    high, low = np.array(rows, np.uint64).T.copy()
    return high, low


FIVES_HIGH, FIVES_LOW = _powers_of_five()
TENS = np.array([10.0**i for i in range(23)])
U1, U2, U3, U10, U32, U63 = (np.uint64(x) for x in (1, 2, 3, 10, 32, 63))
HALF, NINE_BITS = np.uint64(0xFFFFFFFF), np.uint64(0x1FF)
HIDDEN = np.uint64(1 << 52)
LARGEST = np.finfo(np.float64).max


@kernel()
def _product_high(a: Any, b: Any) -> Any:
    """Return the upper 64 bits of the 128-bit product of two ``uint64``."""
    ah, al, bh, bl = a >> U32, a & HALF, b >> U32, b & HALF
    low = al * bl
    middle = ah * bl + (low >> U32)
    other = al * bh + (middle & HALF)
    return ah * bh + (middle >> U32) + (other >> U32)


@kernel()
def _scaled(mantissa: Any, power: int) -> Any:
    """Return mantissa * 10**power rounded to a double, or NaN where this way cannot tell.

    The mantissa is a ``uint64`` but not 0. Product and rounding of Lemire 2021, sections 5 to 8.
    """
    if power < -342 or power > 308:
        return np.nan
    zeros = 0
    w = mantissa
    for bits in (32, 16, 8, 4, 2, 1):
        if w >> np.uint64(64 - bits) == np.uint64(0):
            w = w << np.uint64(bits)
            zeros += bits
    five_high, five_low = FIVES_HIGH[power + 342], FIVES_LOW[power + 342]
    high, low = _product_high(w, five_high), w * five_high
    if high & NINE_BITS == NINE_BITS:
        more = _product_high(w, five_low)
        low = low + more
        if low < more:
            high += U1
    upper = np.int64(high >> U63)
    shift = np.uint64(upper + 9)
    digits = high >> shift
    exponent = ((217706 * power) >> 16) + 63 + upper - zeros + 1023
    if exponent <= 0 or exponent >= 2047:
        return np.nan
    # exactly between two doubles: to the even one
    if low <= U1 and -4 <= power <= 23 and digits & U3 == U1 and digits << shift == high:
        digits = digits - U1
    digits = (digits + (digits & U1)) >> U1
    if digits >= U2 * HIDDEN:
        digits = HIDDEN
        exponent += 1
    # digits is an integer below 2**53 and the power of two a normal double: both exact
    value = np.ldexp(np.float64(digits), exponent - 1075)
    return value if value <= LARGEST else np.nan


def _parse_number(address: int, length: int) -> Any:
    """Read the number written in the ``length`` bytes at an address.

    Parameters
    ----------
    address
        Where the text lies.
    length
        Number of bytes.

    Returns
    -------
    `MISSING`, `NUMBER` or `TEXT` and the double as `number_of` gives them, or `SLOW` and NaN.
    """
    return number_of(ctypes.string_at(int(address), int(length)))


@kernel()
def _is_blank(byte: Any) -> Any:
    """Tell whether a byte is ASCII white space."""
    return byte == 32 or 9 <= byte <= 13


@kernel()
def _is_word(text: Any, start: int, stop: int) -> Any:
    """Tell whether ``text[start:stop]`` is nan, inf or infinity, in any case."""
    size = stop - start
    if size != 3 and size != 8:
        return False
    a, b, c = text[start] | 32, text[start + 1] | 32, text[start + 2] | 32
    if size == 3:
        return (a == 110 and b == 97 and c == 110) or (a == 105 and b == 110 and c == 102)
    same = a == 105 and b == 110 and c == 102
    same = same and text[start + 3] | 32 == 105 and text[start + 4] | 32 == 110
    same = same and text[start + 5] | 32 == 105 and text[start + 6] | 32 == 116
    return same and text[start + 7] | 32 == 121


@kernel(_parse_number)
def parse_number(address: int, length: int) -> Any:
    """Read the number written at an address; see `_parse_number`."""
    text = array_at(address, length, np.uint8)
    at, stop = 0, length
    mantissa = np.uint64(0)
    while at < stop and at < 15:
        digit = np.uint64(text[at]) - np.uint64(48)
        if digit >= U10:
            break
        mantissa = mantissa * U10 + digit
        at += 1
    if at == stop and at > 0:  # most numbers of a click log end here
        return NUMBER, np.float64(np.int64(mantissa))
    while at < stop and _is_blank(text[stop - 1]):
        stop -= 1
    negative = False
    start = 0  # of the digits
    if at == 0:
        while at < stop and _is_blank(text[at]):
            at += 1
        if at == stop:
            return MISSING, np.nan
        negative = text[at] == 45
        if negative or text[at] == 43:
            at += 1
        start = at
    seen = at - start
    digits = seen * (mantissa != np.uint64(0))  # in the mantissa, at most 19: no overflow
    power = 0
    cut = False
    while at < stop:
        digit = np.uint64(text[at]) - np.uint64(48)
        if digit >= U10:
            break
        if digits < 19:
            mantissa = mantissa * U10 + digit
            digits += mantissa != np.uint64(0)
        else:
            power += 1
            cut = True
        seen += 1
        at += 1
    if at < stop and text[at] == 46:
        at += 1
        while at < stop:
            digit = np.uint64(text[at]) - np.uint64(48)
            if digit >= U10:
                break
            if digits < 19:
                mantissa = mantissa * U10 + digit
                digits += mantissa != np.uint64(0)
                power -= 1
            else:
                cut = True
            seen += 1
            at += 1
    if seen == 0:
        return (MISSING if _is_word(text, start, stop) else TEXT), np.nan
    if at < stop and text[at] | 32 == 101:
        at += 1
        down = at < stop and text[at] == 45
        if down or (at < stop and text[at] == 43):
            at += 1
        if at == stop:
            return TEXT, np.nan
        exponent: Any = 0
        while at < stop:
            digit = np.uint64(text[at]) - np.uint64(48)
            if digit >= U10:
                break
            if exponent < 1_000_000:
                exponent = 10 * exponent + np.int64(digit)
            at += 1
        power += -exponent if down else exponent
    if at < stop:
        return TEXT, np.nan
    if cut:
        return SLOW, np.nan
    if mantissa == np.uint64(0):
        value = 0.0
    elif mantissa <= U2 * HIDDEN and -22 <= power <= 22:
        value = np.float64(mantissa)
        value = value * TENS[power] if power >= 0 else value / TENS[-power]
    else:
        value = _scaled(mantissa, power)
        if value != value:
            return SLOW, np.nan
    return NUMBER, -value if negative else value
