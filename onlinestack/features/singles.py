"""The features of a record that comes alone, as a dict: all its values hashed in one call."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.features.columns import (
    COUNT,
    EDGE,
    HASH,
    MISSING_HASH,
    NUMBER_COLUMN,
    SEED,
    bin_hash,
    exponent_hash,
    position,
)
from onlinestack.kernel import bound, kernel
from onlinestack.murmur import murmur, uniform_hash

__all__ = ["Singles", "fill_singles"]

END = 0
"""Byte behind each text. A text with such a byte in it is left to others."""
ROOM = 4096


def _fill_plain(
    text: Any,
    fields: Any,
    edges: Any,
    hashes: Any,
    numbers: Any,
    index: Any,
    scratch: Any,
    size: int,
) -> bool:
    """Write the hashes of a record of one value a field.

    Parameters
    ----------
    text
        ``uint8``: the texts of the fields that are no numbers, a byte ``END`` behind each.
    fields
        ``int64[n, WIDTH]``: the fields, described as columns are.
    edges, hashes
        ``float64``, ``uint32``: of the bins of numbers.
    numbers
        ``float64[k]``: the numbers, NaN where missing; infinity becomes missing.
    index
        ``uint32``: takes the hashes.
    scratch
        ``int64[4]``: room to hash a number in.
    size
        Bytes of the texts.

    Returns
    -------
    Whether there was one text a field; if not, what was written means nothing.
    """
    texts = iter(bytes(text[:size]).split(bytes([END])))
    for j, column in enumerate(fields.tolist()):
        place = column[NUMBER_COLUMN]
        if place < 0:
            index[j] = uniform_hash(next(texts, b""), column[SEED])
        else:
            index[j] = bin_hash(column, float(numbers[place]), edges, hashes)
            if math.isinf(numbers[place]):
                numbers[place] = math.nan
    return list(texts) == [b""]


@kernel(_fill_plain)
def fill_singles(
    text: Any,
    fields: Any,
    edges: Any,
    hashes: Any,
    numbers: Any,
    index: Any,
    scratch: Any,
    size: int,
) -> bool:
    """Write the hashes of a record of one value a field; see `_fill_plain`."""
    at = 0
    for j in range(len(fields)):
        field = fields[j]
        place, seed = field[NUMBER_COLUMN], np.uint32(field[SEED])
        if place < 0:
            first = at
            while at < size and text[at] != END:
                at += 1
            index[j] = murmur(text, first, at, seed)
            at += 1
            continue
        value = numbers[place]
        if not np.isfinite(value):
            numbers[place] = np.nan
            index[j] = np.uint32(field[MISSING_HASH])
        elif field[COUNT] == 0:
            index[j] = exponent_hash(value, seed, scratch)
        else:
            index[j] = hashes[field[HASH] + position(edges, field[EDGE], field[COUNT], value)]
    return at == size


class Singles:
    """Fills the same arrays with one record after another.

    Use it where records come as dicts, one by one; the arrays may be views of a block's.

    Parameters
    ----------
    fields
        ``int64[n, WIDTH]``: the fields, described as columns are.
    edges, hashes
        ``float64``, ``uint32``: of the bins of numbers.
    index
        ``uint32[n]`` or more: takes the hashes.
    numbers
        ``float64[k]``: takes the numbers.

    Examples
    --------
    >>> import numpy as np
    >>> fields = np.full((2, 12), -1, np.int64)
    >>> fields[:, SEED] = 0, 7
    >>> index = np.zeros(2, np.uint32)
    >>> singles = Singles(fields, np.empty(0), np.empty(0, np.uint32), index, np.empty(0))
    >>> singles.fill(["f", "f"], []), index.tolist()
    (True, [728008763, 1783764664])
    >>> singles.fill(["f", "g", "h"], [])
    False
    """

    def __init__(
        self,
        fields: NDArray[np.int64],
        edges: NDArray[np.float64],
        hashes: NDArray[np.uint32],
        index: NDArray[np.uint32],
        numbers: NDArray[np.float64],
    ) -> None:
        self._rest = fields, edges, hashes, numbers, index, np.zeros(4, np.int64)
        self._numbers = numbers
        self._make_room(ROOM)

    def _make_room(self, size: int) -> None:
        text = np.empty(size, np.uint8)
        self._text, self._fill = text.data, bound(fill_singles, text, *self._rest, more=(size,))

    def fill(self, texts: Sequence[str], numbers: Sequence[float]) -> bool:
        """Write a record; return whether it has one text a field, or else it is left to others.

        Parameters
        ----------
        texts
            Of the fields that are no numbers.
        numbers
            NaN where missing.

        Raises
        ------
        OverflowError, UnicodeEncodeError
            Where a number is none for float64, or a text none for UTF-8.
        """
        text = "\0".join((*texts, "")).encode()
        size = len(text)
        if size > len(self._text):
            self._make_room(2 * size)
        # Through memoryviews, which take a third of the time of arrays for so few.
        self._text[:size] = text
        self._numbers.data[:] = array("d", numbers)
        return bool(self._fill(size))
