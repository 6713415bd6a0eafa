"""Numbers as Vowpal Wabbit spells them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onlinestack.kernel import kernel

__all__ = ["number", "short", "write_numbers"]


def short(value: float) -> str:
    """Return a number as C++ streams print it by default: six significant digits.

    Examples
    --------
    >>> short(0.30000001), short(1e20), short(0.0), short(1234567)
    ('0.3', '1e+20', '0', '1.23457e+06')
    """
    if math.isnan(value):
        return "-nan" if math.copysign(1.0, value) < 0 else "nan"
    return f"{value:.6g}"


def number(value: float) -> str:
    """Return a number without decimals where it is whole, with six where it is not.

    Examples
    --------
    >>> number(1.0), number(0.25), number(-1e-9)
    ('1', '0.250000', '-0.000000')
    """
    if np.isfinite(value):
        return f"{value:.0f}" if np.floor(value) == value else f"{value:.6f}"
    return short(value)


def _numbers_plain(values: Any, ends: Any, tags: Any, odd: Any, out: Any) -> int:
    """Write one line a value, with its tag; return the bytes written.

    Values that are not finite, or very large, are left to the caller: ``odd`` marks them, and
    their line is left out.
    """
    text = b""
    for i, value in enumerate(values.tolist()):
        odd[i] = not abs(value) < 1e15
        if odd[i]:
            continue
        tag = bytes(tags[ends[i] : ends[i + 1]])
        text += number(value).encode() + (b" " + tag if tag else b"") + b"\n"
    out[: len(text)] = np.frombuffer(text, np.uint8)
    return len(text)


@kernel(_numbers_plain)
def write_numbers(values: Any, ends: Any, tags: Any, odd: Any, out: Any) -> Any:
    """Write the digits; the product with a million is exact in double for every float32."""
    at = 0
    for i in range(len(values)):
        v = np.float64(values[i])
        odd[i] = not abs(v) < 1e15
        if odd[i]:
            continue
        if np.signbit(v):
            out[at] = 45
            at += 1
        v = abs(v)
        fraction = np.int64(0)
        if np.floor(v) == v:
            whole = np.int64(v)
        else:
            scaled = np.int64(np.rint(v * 1e6))
            whole = scaled // 1000000
            fraction = scaled % 1000000
        digits = 1
        top = np.int64(10)
        while whole >= top:
            digits += 1
            top *= 10
        left = whole
        for k in range(digits):
            out[at + digits - 1 - k] = 48 + left % 10
            left //= 10
        at += digits
        if np.floor(v) != v:
            out[at] = 46
            for k in range(6):
                out[at + 6 - k] = 48 + fraction % 10
                fraction //= 10
            at += 7
        if ends[i + 1] > ends[i]:
            out[at] = 32
            at += 1
            for k in range(ends[i], ends[i + 1]):
                out[at] = tags[k]
                at += 1
        out[at] = 10
        at += 1
    return at
