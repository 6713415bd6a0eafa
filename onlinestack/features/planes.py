"""Random planes: what the bits of a record depend on, how they are drawn, and the bits made."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN, WORD
from onlinestack.kernel import kernel, log1p32

__all__ = ["TILE", "Planes", "Room", "bits_of", "draw", "observe", "standard"]

INPUTS = 3
"""Inputs of a bit."""
TILE = 64
"""Records that the kernel works on at a time."""
FLAT = 1e-6
"""A column whose spread is less than this share of its mean does not vary, but for rounding."""

ZERO = np.float32(0)
NONE = np.uint32(0)
COUNT, MEAN, SQUARES = range(3)


class Planes(NamedTuple):
    """Everything the bits of a record depend on, besides its row of the table.

    Parameters
    ----------
    column
        ``int32[m]``: columns of the table that vary, the inputs.
    mean, scale
        ``float32[m]``: mean of each input and one over its standard deviation.
    input
        ``int32[K, 3]``: inputs of each bit, all different while there are three.
    weight
        ``float32[K, 3]``: their weights; 0 for those there are too few inputs for.
    threshold
        ``float32[K]``: where the bit turns.
    """

    column: NDArray[np.int32]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    input: NDArray[np.int32]
    weight: NDArray[np.float32]
    threshold: NDArray[np.float32]


class Room(NamedTuple):
    """Memory the bits are made in.

    Parameters
    ----------
    z
        ``float32[m, 64]``: inputs of the records of a tile, an input a row.
    word
        ``uint32[64]``: a word of each of these records.
    """

    z: NDArray[np.float32]
    word: NDArray[np.uint32]

    @classmethod
    def of(cls, inputs: int) -> Room:
        """Make room for so many inputs."""
        return cls(np.zeros((inputs, TILE), np.float32), np.zeros(TILE, np.uint32))


@kernel()
def squashed(value: Any, number: bool) -> Any:
    """Return a statistic as it is, and a plain number as sign * log(1 + size)."""
    if not number:
        return value
    size = log1p32(abs(value))
    return size if value >= ZERO else -size


@kernel()
def standard(value: Any, number: bool, mean: Any, scale: Any) -> Any:
    """Return an input of the bits, float32: standardised, 0 where it is missing or not finite."""
    z = (squashed(value, number) - mean) * scale
    return z if np.isfinite(z) else ZERO


@kernel()
def observe(op: Any, row: Any, table: Any, numbers: int, moments: Any) -> None:
    """Add the rows learned to the moments of every column (Welford's recurrence).

    Parameters
    ----------
    op, row
        The tape.
    table
        ``float32[n, t]``, the first ``numbers`` columns plain numbers.
    moments
        ``float64[t, 3]``: count of finite values, their mean, sum of squared deviations from it.
    """
    for step in range(len(op)):
        if op[step] != LEARN:
            continue
        i = row[step]
        for column in range(len(moments)):
            value = np.float64(squashed(table[i, column], column < numbers))
            if not np.isfinite(value):
                continue
            moments[column, COUNT] += 1.0
            off = value - moments[column, MEAN]
            moments[column, MEAN] += off / moments[column, COUNT]
            moments[column, SQUARES] += off * (value - moments[column, MEAN])


def _bits_plain(table: Any, numbers: int, planes: Planes, room: Room, out: Any) -> None:
    """Write the bits of all rows of a table: 1 where the projection reaches the threshold.

    Parameters
    ----------
    table
        ``float32[n, t]``, the first ``numbers`` columns plain numbers.
    planes
        What the bits depend on.
    room
        Room to work in.
    out
        ``uint32[n, K / 32]``.
    """
    for i in range(len(table)):
        z = [
            standard(table[i, column], column < numbers, mean, scale)
            for column, mean, scale in zip(planes.column, planes.mean, planes.scale, strict=True)
        ]
        out[i] = 0
        for k, ((a, b, c), (u, v, w)) in enumerate(zip(planes.input, planes.weight, strict=True)):
            if u * z[a] + v * z[b] + w * z[c] >= planes.threshold[k]:
                out[i, k // WORD] |= np.uint32(1) << np.uint32(k % WORD)


@kernel()
def _bits_of_one(z: Any, planes: Any, out: Any) -> None:
    """Write the bits of one record."""
    for at in range(out.shape[0]):
        word = NONE
        for bit in range(WORD):
            k = at * WORD + bit
            total = planes.weight[k, 0] * z[planes.input[k, 0]]
            total += planes.weight[k, 1] * z[planes.input[k, 1]]
            total += planes.weight[k, 2] * z[planes.input[k, 2]]
            word |= np.uint32(total >= planes.threshold[k]) << np.uint32(bit)
        out[at] = word


@kernel(_bits_plain)
def bits_of(table: Any, numbers: int, planes: Any, room: Any, out: Any) -> None:
    """Write the bits of all rows of a table; see `_bits_plain`.

    Takes 64 records at a time, their values of an input side by side, so that the processor
    takes many records in one step. What is computed for a record is the same.
    """
    n, words = out.shape
    word, tile = room.word, room.z
    if n == 1:  # side by side, they stay within the fastest memory
        tile = tile.reshape(-1)[: len(tile)].reshape(len(tile), 1)
    for first in range(0, n, TILE):
        rows = min(TILE, n - first)
        for j in range(len(planes.column)):
            column, mean, scale = planes.column[j], planes.mean[j], planes.scale[j]
            z = tile[j]
            number = column < numbers
            for r in range(rows):
                z[r] = table[first + r, column]
            if number:
                for r in range(rows):
                    z[r] = squashed(z[r], number)
            for r in range(rows):
                standardised = (z[r] - mean) * scale
                z[r] = standardised if np.isfinite(standardised) else ZERO
        if n == 1:
            _bits_of_one(tile[:, 0], planes, out[0])
            return
        for at in range(words):
            for r in range(rows):
                word[r] = NONE
            for bit in range(WORD):
                k = at * WORD + bit
                a, b, c = planes.input[k, 0], planes.input[k, 1], planes.input[k, 2]
                u, v, w = planes.weight[k, 0], planes.weight[k, 1], planes.weight[k, 2]
                za, zb, zc = tile[a], tile[b], tile[c]
                threshold, here = planes.threshold[k], np.uint32(1) << np.uint32(bit)
                for r in range(rows):
                    reached = u * za[r] + v * zb[r] + w * zc[r] >= threshold
                    word[r] |= here if reached else NONE
            for r in range(rows):
                out[first + r, at] = word[r]


def draw(
    moments: NDArray[np.float64],
    sample: NDArray[np.float32],
    numbers: int,
    bits: int,
    random: np.random.Generator,
) -> Planes:
    """Return random planes over the columns that vary; none where no column does.

    Parameters
    ----------
    moments
        As `observe` keeps them.
    sample
        ``float32[m, t]``: rows of tables seen; each threshold is the projection of one of them.
    numbers
        How many columns, the first, are plain numbers.
    bits
        Number of bits.
    random
        Source of chance.
    """
    count, mean, squares = moments.T
    spread = np.sqrt(squares / np.maximum(count, 1.0))
    column = np.flatnonzero(spread > FLAT * np.abs(mean)).astype(np.int32)
    few = min(INPUTS, len(column))
    bits = bits if few else 0
    inputs = np.zeros((bits, INPUTS), np.int32)
    inputs[:, :few] = np.argsort(random.random((bits, len(column))), axis=1)[:, :few]
    weight = random.standard_normal((bits, INPUTS)).astype(np.float32)
    weight[:, few:] = 0
    threshold = np.empty(bits, np.float32)
    scale = (1.0 / spread[column]).astype(np.float32)
    planes = Planes(column, mean[column].astype(np.float32), scale, inputs, weight, threshold)
    for k, past in enumerate(random.integers(0, max(1, len(sample)), bits)):
        z = [_input(sample[past], numbers, planes, j) for j in inputs[k]]
        threshold[k] = weight[k, 0] * z[0] + weight[k, 1] * z[1] + weight[k, 2] * z[2]
    return planes


def _input(record: NDArray[np.float32], numbers: int, planes: Planes, j: int) -> np.float32:
    column = planes.column[j]
    number = bool(column < numbers)
    return np.float32(standard(record[column], number, planes.mean[j], planes.scale[j]))
