"""What field-aware factorisation learns: tables of linear weights and vectors, and their start."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import kernel

__all__ = ["FACTORS", "STRIDE", "Scratch", "Steps", "Tables", "start", "write_start"]

FACTORS = 4
"""Entries of a vector; the kernels spell them out, so that they fill one vector register."""
STRIDE = 8
"""Tables are as many fields wide as a multiple of this, so that no loop has a remainder."""

ONE = np.float32(1)
LOW32 = np.uint64(0xFFFFFFFF)
MIX = (np.uint64(2654435761), np.uint64(2246822519), np.uint64(3266489917))
STEP24 = np.float32(2.0**-23)


class Steps(NamedTuple):
    """How members learn that share one walk.

    Parameters
    ----------
    rates, linear_rates
        ``float32[R]``: AdaGrad's rate for the vectors and for the linear part, of each member.
    start, linear_start
        Start of AdaGrad's sums of squares.
    spread
        Entries of vectors start between minus and plus this.
    l2
        Squared penalty on vectors and linear weights, a step.
    seed
        Of the start.
    """

    rates: NDArray[np.float32]
    linear_rates: NDArray[np.float32]
    start: np.float32
    linear_start: np.float32
    spread: np.float32
    l2: np.float32
    seed: np.uint64


class Tables(NamedTuple):
    """What is learned, for R rates.

    Parameters
    ----------
    linear
        ``float32[slots + 1, 2 * R]``: weight of each rate, then sum of squares of each; the
        constant's in the last row.
    met
        ``uint8[slots]``: 1 where a feature of the slot was learned.
    vectors
        ``float32[rows, R, width * 5]``: of each rate the vectors against all fields, 4 numbers
        each, then one sum of squares for each field.
    started
        ``uint8[rows]``: 0 where the vectors are still those of the start, which nobody has
        written down.
    """

    linear: NDArray[np.float32]
    met: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    started: NDArray[np.uint8]

    @classmethod
    def of(cls, slots: int, rows: int, rates: int, width: int) -> Tables:
        """Make empty tables; memory is taken where something is learned."""
        return cls(
            np.zeros((slots + 1, 2 * rates), np.float32),
            np.zeros(slots, np.uint8),
            np.zeros((rows, rates, width * (FACTORS + 1)), np.float32),
            np.zeros(rows, np.uint8),
        )


class Scratch(NamedTuple):
    """Memory the walk works in: what it knows of the record at hand.

    Parameters
    ----------
    slot, part
        ``int64[size]`` and ``float32[size]``: slots and scaled values of the features.
    first, last
        ``int64[F]``: extent of each field in these lists.
    pairs
        ``float32[1]``: scale of the pairs.
    live
        ``uint8[F]``: whether a field takes part in pairs.
    shrink
        ``float32[4 * F]``: l2 where a field takes part, else 0.
    own
        ``float32[4 * F]``: V[f, g] of one field f, 4 numbers for each g.
    other
        ``float32[R, F * 4 * F]``: V[g, f], for each f 4 numbers for each g; zero where a field
        takes no part and for f itself.
    sums, gradient
        ``float32[4 * F]``: products summed over f; gradient of one feature.
    step
        ``float32[F]``: AdaGrad's step of one feature.
    score
        ``float32[R]``: scores of the record at hand.
    """

    slot: NDArray[np.int64]
    part: NDArray[np.float32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    pairs: NDArray[np.float32]
    live: NDArray[np.uint8]
    shrink: NDArray[np.float32]
    own: NDArray[np.float32]
    other: NDArray[np.float32]
    sums: NDArray[np.float32]
    gradient: NDArray[np.float32]
    step: NDArray[np.float32]
    score: NDArray[np.float32]

    @classmethod
    def of(cls, size: int, rates: int, width: int) -> Scratch:
        """Make scratch for records of up to ``size`` features."""
        return cls(
            np.zeros(size, np.int64),
            np.zeros(size, np.float32),
            np.zeros(width, np.int64),
            np.zeros(width, np.int64),
            np.zeros(1, np.float32),
            np.zeros(width, np.uint8),
            np.zeros(FACTORS * width, np.float32),
            np.zeros(FACTORS * width, np.float32),
            np.zeros((rates, width * FACTORS * width), np.float32),
            np.zeros(FACTORS * width, np.float32),
            np.zeros(FACTORS * width, np.float32),
            np.zeros(width, np.float32),
            np.zeros(rates, np.float32),
        )


def _start_plain(row: Any, entry: Any, steps: Any) -> Any:
    """Return what an entry of a row of vectors starts from: the same for every rate."""
    h = (int(row) * int(MIX[0]) + int(entry) * int(MIX[1]) + int(steps.seed)) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * int(MIX[2])) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * int(MIX[0])) & 0xFFFFFFFF
    return np.float32(np.float32(h >> 8) * STEP24 - ONE) * steps.spread


@kernel(_start_plain)
def start(row: Any, entry: Any, steps: Any) -> Any:
    """Mix in 64 bits, and keep 32 of them."""
    h = (np.uint64(row) * MIX[0] + np.uint64(entry) * MIX[1] + steps.seed) & LOW32
    h = ((h ^ (h >> np.uint64(15))) * MIX[2]) & LOW32
    h = ((h ^ (h >> np.uint64(13))) * MIX[0]) & LOW32
    return np.float32(np.float32(h >> np.uint64(8)) * STEP24 - ONE) * steps.spread


@kernel()
def write_start(row: Any, tables: Any, steps: Any) -> None:
    """Write the start of a row of vectors, for all rates."""
    entries = tables.vectors.shape[2] // 5 * 4
    for entry in range(entries):
        tables.vectors[row, 0, entry] = start(row, entry, steps)
    for rate in range(1, tables.vectors.shape[1]):
        for entry in range(entries):
            tables.vectors[row, rate, entry] = tables.vectors[row, 0, entry]
    tables.started[row] = 1
