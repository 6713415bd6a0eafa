"""A track as one matrix: what batch learners and Java's want instead of dicts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tracks import Track

__all__ = ["Matrix", "coded"]


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


def coded(track: Track) -> Matrix:
    """Return numbers as they are, categories as 0, 1, ... in the order in which they first come.

    So a code says nothing that was not known when the record came. A text is the number of its
    tokens.
    """
    table, kinds = track.columns(), track.kinds
    x = np.full((track.n, len(kinds)), np.nan, np.float32)
    levels: dict[int, int] = {}
    for k, (name, kind) in enumerate(kinds.items()):
        column = table.column(name).combine_chunks()
        if kind == "text":
            column = pc.list_value_length(pc.split_pattern(column, " "))
        elif kind == "categorical":
            column = column.dictionary_encode()
            levels[k] = len(column.dictionary)
            column = column.indices
        values = pc.cast(column, pa.float64())
        x[:, k] = values.to_numpy(zero_copy_only=False)
    return Matrix(x, list(kinds), levels)
