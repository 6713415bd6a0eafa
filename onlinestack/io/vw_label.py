"""The label part of Vowpal Wabbit text: what stands before the first bar of a line."""

from __future__ import annotations

from typing import Any

import numpy as np

from onlinestack.io.vw_arrays import BAD_LABEL, BAD_NUMBER, FATAL
from onlinestack.io.vw_float import read_float
from onlinestack.kernel import kernel

__all__ = ["MULTICLASS", "SIMPLE", "pieces_of", "read_label"]

SIMPLE = 0
MULTICLASS = 1


def pieces_of(data: bytes, start: int, stop: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Return the extents of a label part's words without the tag, and that of the tag.

    Examples
    --------
    >>> pieces_of(b"0.5 2 'a|f", 0, 8)
    ([(0, 3), (4, 5)], (7, 8))
    """
    tab = data.find(b"\t", start, stop)
    start = start if tab < 0 else tab + 1
    pieces: list[tuple[int, int]] = []
    for piece in data[start:stop].split(b" "):
        if piece:
            pieces.append((start, start + len(piece)))
        start += len(piece) + 1
    tag = (0, 0)
    if pieces and (pieces[-1][1] == stop or data[pieces[-1][0]] == 39):
        first, last = pieces.pop()
        tag = (first + (data[first] == 39), last)
    return pieces, tag


def _plain(text: Any, start: int, stop: int, mode: int) -> Any:
    r"""Read the label part: ``label importance initial 'tag``, or ``class importance 'tag``.

    Parameters
    ----------
    text
        ``uint8[size]``: the bytes; behind ``stop`` at least one more that no number contains.
    start, stop
        Extent of the label part.
    mode
        ``SIMPLE`` or ``MULTICLASS``.

    Returns
    -------
    ``(label, weight, initial, tag_start, tag_stop, flags)``; the label is NaN where none is given,
    and the tag's extent is empty where there is none.

    Examples
    --------
    >>> text = np.frombuffer(bytearray(b"0.5 2 'a|f\n"), np.uint8)
    >>> [float(part) for part in read_label(text, 0, 8, SIMPLE)]
    [0.5, 2.0, 0.0, 7.0, 8.0, 0.0]
    """
    data = bytes(text)
    pieces, tag = pieces_of(data, start, stop)
    flags = 0
    known = [np.float32(np.nan), np.float32(1), np.float32(0)]
    if len(pieces) > (3 if mode == SIMPLE else 2):
        return *known, *tag, BAD_LABEL if mode == SIMPLE else BAD_LABEL | FATAL
    for i, (first, last) in enumerate(pieces):
        if mode == MULTICLASS and i == 0:
            digits = data[first:last].lstrip(b"\t\n\v\f\r").split(b"\0")[0]
            sign = -1 if digits[:1] == b"-" else 1
            digits = digits[1:] if digits[:1] in (b"-", b"+") else digits
            if not digits.isdigit():
                return *known, *tag, BAD_LABEL | FATAL
            number = sign * int(digits.lstrip(b"0")[:20] or b"0")
            number = min(max(number, -(2**63)), 2**63 - 1) % 2**32
            known[0] = np.float32(np.nan if number == 2**32 - 1 else number)
            continue
        value, used = read_float(text, first, last)
        if used == 0 or np.isnan(value):
            value = 0
            flags = BAD_NUMBER
        known[i] = np.float32(value)
    if mode == MULTICLASS and known[1] <= 0:
        known[1] = np.float32(0)
    return *known, *tag, flags


@kernel()
def _read_class(text: Any, at: Any, stop: Any) -> Any:
    """Read a class number as the C library's strtol: the number, NaN for "none", and whether."""
    while at < stop and 9 <= text[at] <= 13:
        at += 1
    negative = at < stop and text[at] == 45
    if at < stop and (text[at] == 45 or text[at] == 43):
        at += 1
    begin = at
    number = 0
    over = False
    while at < stop and 48 <= text[at] <= 57:
        digit = text[at] - 48
        if number > (2**63 - 1 - digit) // 10:
            over = True
        else:
            number = number * 10 + digit
        at += 1
    if at == begin or (at < stop and text[at] != 0):
        return np.float32(np.nan), False
    if over:
        number = 0 if negative else -1
    elif negative:
        number = -number
    number &= 2**32 - 1
    return np.float32(np.nan) if number == 2**32 - 1 else np.float32(number), True


@kernel(_plain)
def read_label(text: Any, start: Any, stop: Any, mode: Any) -> Any:
    """Keep the extents of the first three pieces and the last, whatever their number."""
    at = start
    for i in range(at, stop):
        if text[i] == 9:
            at = i + 1
            break
    count = 0
    a0 = b0 = a1 = b1 = a2 = b2 = first = last = 0
    while at < stop:
        if text[at] == 32:
            at += 1
            continue
        first = at
        while at < stop and text[at] != 32:
            at += 1
        last = at
        if count == 0:
            a0, b0 = first, last
        elif count == 1:
            a1, b1 = first, last
        elif count == 2:
            a2, b2 = first, last
        count += 1
    label, weight, initial = np.float32(np.nan), np.float32(1), np.float32(0)
    tag_start = tag_stop = 0
    if count > 0 and (last == stop or text[first] == 39):
        tag_start, tag_stop = first, last
        if text[first] == 39:
            tag_start += 1
        count -= 1
    flags = 0
    if mode == MULTICLASS:
        if count > 2:
            return label, weight, initial, tag_start, tag_stop, BAD_LABEL | FATAL
        if count > 0:
            label, good = _read_class(text, a0, b0)
            if not good:
                return label, weight, initial, tag_start, tag_stop, BAD_LABEL | FATAL
    elif count > 3:
        return label, weight, initial, tag_start, tag_stop, BAD_LABEL
    elif count > 0:
        label, used = read_float(text, a0, b0)
        if used == 0 or np.isnan(label):
            label = np.float32(0)
            flags = BAD_NUMBER
    if count > 1:
        weight, used = read_float(text, a1, b1)
        if used == 0 or np.isnan(weight):
            weight = np.float32(0)
            flags = BAD_NUMBER
        if mode == MULTICLASS and weight <= 0:
            weight = np.float32(0)
    if count > 2:
        initial, used = read_float(text, a2, b2)
        if used == 0 or np.isnan(initial):
            initial = np.float32(0)
            flags = BAD_NUMBER
    return label, weight, initial, tag_start, tag_stop, flags
