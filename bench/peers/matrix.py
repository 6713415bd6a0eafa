"""A track as one matrix: what batch learners and Java's want instead of dicts."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tracks import Track

__all__ = ["Matrix", "coded"]

TOKENS = 1024
"""Columns of a text."""


class Matrix(NamedTuple):
    """Records as rows of numbers.

    Parameters
    ----------
    x
        ``float32[n, k]``, NaN where missing.
    names
        Names of the columns.
    levels
        Number of distinct values of each categorical column, by its place.
    """

    x: NDArray[np.float32]
    names: list[str]
    levels: dict[int, int]


def coded(track: Track, *, texts: bool = True) -> Matrix:
    """Return numbers as they are, categories as 0, 1, ... in the order in which they first come.

    So a code says nothing that was not known when the record came. A text is how often each of
    `TOKENS` groups of tokens comes in it, grouped by their hash, or is left out.
    """
    table, kinds = track.columns(), track.kinds
    columns: list[NDArray[np.float32]] = []
    names: list[str] = []
    levels: dict[int, int] = {}
    for name, kind in kinds.items():
        column = table.column(name).combine_chunks()
        if kind == "text":
            if texts:
                columns += list(counted(column).T)
                names += [f"{name} {k}" for k in range(TOKENS)]
            continue
        if kind == "categorical":
            column = column.dictionary_encode()
            levels[len(names)] = len(column.dictionary)
            column = column.indices
        values = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        columns.append(values.astype(np.float32))
        names.append(name)
    return Matrix(np.array(columns, np.float32).reshape(-1, track.n).T.copy(), names, levels)


def counted(texts: pa.Array) -> NDArray[np.float32]:
    """Return how many tokens of each group a text has.

    >>> counted(pa.array(["to be or not to be", None])).sum(axis=1).tolist()
    [6.0, 0.0]
    """
    counts = np.zeros((len(texts), TOKENS), np.float32)
    for row, text in enumerate(texts.to_pylist()):
        for token in (text or "").split():
            counts[row, zlib.crc32(token.encode()) % TOKENS] += 1
    return counts
