"""Predictions and raw sums as lines, as Vowpal Wabbit prints them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.vw.digits import number, short, write_numbers

__all__ = ["bootstrap_lines", "class_lines", "numbers", "score_lines", "tags_of"]


def tags_of(tag: Any, n: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the ends of an Arrow array's tags and their bytes."""
    ends = np.zeros(n + 1, np.int32)
    if n == 0 or tag.null_count == n:
        return ends, np.zeros(1, np.uint8)
    _, offsets, data = tag.buffers()
    ends[:] = np.frombuffer(offsets, np.int32, n + 1, 4 * tag.offset)
    return ends, np.frombuffer(bytearray(data), np.uint8)


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
    size = write_numbers(np.ascontiguousarray(values), ends, tags, odd, out)
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


def score_lines(
    scores: NDArray[np.float32], tag: Any, *, lead: str = "", first: NDArray[np.uint8] | None = None
) -> bytes:
    """Return lines of ``1:score 2:score``, with something before the first.

    Parameters
    ----------
    scores
        ``float32[n, k]``.
    tag
        The records' tags.
    lead
        What every line begins with.
    first
        ``uint8[n]``: the number of each line's first score; None for 1.
    """
    firsts = [1] * len(scores) if first is None else first.tolist()
    return _lines(
        (
            (lead + " ".join(f"{c}:{short(s)}" for c, s in enumerate(row, start))).encode()
            for row, start in zip(scores.tolist(), firsts, strict=True)
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
