"""Predictions and raw sums as lines, as Vowpal Wabbit prints them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import kernel
from onlinestack.vw.table import short

__all__ = ["bootstrap_lines", "class_lines", "number", "numbers", "score_lines", "tags_of"]


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


def tags_of(tag: Any, n: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the ends of an Arrow array's tags and their bytes."""
    ends = np.zeros(n + 1, np.int32)
    if n == 0 or tag.null_count == n:
        return ends, np.zeros(1, np.uint8)
    _, offsets, data = tag.buffers()
    ends[:] = np.frombuffer(offsets, np.int32, n + 1, 4 * tag.offset)
    return ends, np.frombuffer(bytearray(data), np.uint8)


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
def _numbers(values: Any, ends: Any, tags: Any, odd: Any, out: Any) -> Any:
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


def numbers(values: NDArray[np.float32], tag: Any) -> bytes:
    r"""Return one line a value: the number, a space and the record's tag.

    Examples
    --------
    >>> import pyarrow as pa
    >>> numbers(np.array([0.5, 2, -0.0], np.float32), pa.array([b"x", None, None]))
    b'0.500000 x\n2\n-0\n'
    """
    n = len(values)
    ends, tags = tags_of(tag, n)
    odd = np.zeros(n, np.uint8)
    out = np.empty(26 * n + int(ends[-1] - ends[0]) + 1, np.uint8)
    size = _numbers(np.ascontiguousarray(values), ends, tags, odd, out)
    if not odd.any():
        return out[:size].tobytes()
    texts = (number(float(v)).encode() for v in values)
    return _lines(texts, tag)


def _lines(texts: Any, tag: Any) -> bytes:
    pairs = zip(texts, tag.to_pylist(), strict=True)
    return b"".join(text + (b" " + t if t else b"") + b"\n" for text, t in pairs)


def class_lines(predictions: NDArray[np.float32], tag: Any) -> bytes:
    """Return one class number a line."""
    return _lines((b"%d" % int(p) for p in predictions), tag)


def score_lines(scores: NDArray[np.float32], tag: Any, *, lead: str = "", first: int = 1) -> bytes:
    """Return lines of ``1:score 2:score``, with something before the first."""
    return _lines(
        (
            (lead + " ".join(f"{c}:{short(s)}" for c, s in enumerate(row, first))).encode()
            for row in scores.tolist()
        ),
        tag,
    )


def bootstrap_lines(predictions: Sequence[float], scores: NDArray[np.float32], tag: Any) -> bytes:
    """Return lines of the prediction, the tag, and the least and greatest round."""
    lines = []
    for p, row, t in zip(predictions, scores, tag.to_pylist(), strict=True):
        name = b" " + t if t else b""
        lines.append(b"%.6f%s %.6f %.6f\n" % (p, name, row.min(), row.max()))
    return b"".join(lines)
