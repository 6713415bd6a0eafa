"""Random bits: which side of many random planes a record lies on.

Notes
-----
What other draws would change: progressive log-loss of the linear learner over the bits, as a ratio
to that of 1024 bits of three inputs drawn after 1000 records, mean of eight streams (the first
50,000 records; rate 1). Other seeds: up to 1.004.

==========================================================  =====
2048 bits                                                   0.997
drawn after 250 records                                     0.995
drawn after 500 records                                     0.996
drawn after 2000 records                                    1.013
two inputs a bit; two and three by turns                    1.001
standardised inputs clipped to +-4                          1.001
all bits drawn anew at doubling counts, weights from 0      1.033
half of them by turns                                       1.015
the half with the smallest weights                          0.995
==========================================================  =====
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import WORD, Block, Tape
from onlinestack.features.bins import NEVER, watch
from onlinestack.features.planes import Planes, Room, bits_of, draw, observe
from onlinestack.kernel import bound

__all__ = ["BITS", "WARM_UP", "RandomBits"]

BITS = 1024
"""Number of bits of a record."""
WARM_UP = 500
"""Labelled records that are learned before the bits are drawn."""
SAMPLE = 1024
"""Records that thresholds are drawn from, a sample of all learned before."""


class RandomBits:
    """The namespace ``r``: random bits of the table's numbers and click-rate statistics.

    Use it so that a linear learner sees products and thresholds of what it reads, at the price of
    one pass over the table. Each bit is the sign of a random plane: three inputs drawn without
    replacement, weights drawn from the standard normal distribution, the threshold that which
    one random past record has. Inputs are the columns of the table that vary, standardised with
    the moments of the records learned; a missing value is 0, the mean.

    A frozen part: planes and moments are drawn in `change`, once, when ``warm_up`` labelled
    records have been learned; no bit is set before. What it writes, ``block.bits``, depends on
    the block's table alone, and it writes them for the rows that are predicted: those that were
    served before keep the bits they were served with.

    The bits travel packed. A learner of hashed features that reads them, alone or in pairs, walks
    those that are set: bit k is the feature of index ``dense_index("r", bits)[k]`` and value 1.

    Parameters
    ----------
    columns
        Columns of the table to read, the first; those behind them are left alone.
    numbers
        How many of them, the first, are plain numbers and read as sign * log(1 + size).
    bits
        Number of bits, a multiple of 32.
    warm_up
        Labelled records learned before the planes are drawn.
    seed
        Seed of all draws.

    Raises
    ------
    ValueError
        When an argument is out of its range, or a block has another table.

    Examples
    --------
    >>> import numpy as np
    >>> from onlinestack.block import immediate_tape
    >>> bits = RandomBits(2, numbers=2, bits=64, warm_up=100)
    >>> block = Block.of([[]] * 100, label=np.ones(100))
    >>> block.table = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    >>> bits.run(block, immediate_tape(block.label))
    >>> bits.next_change(), block.bits.shape, bool(block.bits.any())
    (100, (100, 2), False)
    >>> bits.change()
    >>> bits.run(block, immediate_tape(block.label))
    >>> float(np.unpackbits(block.bits.view(np.uint8)).mean().round(1))
    0.5

    References
    ----------
    Wang et al. 2016, "Random Bits Regression: a Strong General Predictor for Big Data".
    """

    fills = "r"
    needs: tuple[str, ...] = ("c",)

    def __init__(
        self,
        columns: int,
        *,
        numbers: int = 0,
        bits: int = BITS,
        warm_up: int = WARM_UP,
        seed: int = 0,
    ) -> None:
        if not 0 <= numbers <= columns:
            raise ValueError(
                f"columns={columns} and numbers={numbers} were given; the numbers are the first "
                "of the columns."
            )
        if bits < WORD or bits % WORD:
            raise ValueError(f"bits={bits} was given; give a multiple of {WORD}.")
        if warm_up < 2:
            raise ValueError(f"warm_up={warm_up} was given; give at least 2 records.")
        self.columns, self.numbers, self.bits = columns, numbers, bits
        self.warm_up, self.seed = warm_up, seed
        self.learned = 0
        self.planes: Planes | None = None
        self._moments = np.zeros((columns, 3))
        self._sample = np.zeros((min(SAMPLE, warm_up), columns), np.float32)
        self._room = Room.of(0)

    def run(self, block: Block, tape: Tape) -> None:
        """Make the bits of the rows predicted; before the planes are drawn, watch those learned."""
        if block.table.shape[1] < self.columns:
            raise ValueError(
                f"The block's table has {block.table.shape[1]} columns, the random bits were made "
                f"for {self.columns}; lay the block out as they were made for."
            )
        if block.bits.shape != (block.n, self.bits // WORD):
            block.bits = np.zeros((block.n, self.bits // WORD), np.uint32)
        rows = tape.predicted()
        bits = block.bits[:rows]
        if self.planes is not None:
            if len(self.planes.column):
                bits_of(block.table[:rows], self.numbers, self.planes, self._room, bits)
            else:
                bits[:] = 0
            self.learned += tape.learns
            return
        bits[:] = 0
        observe(tape.op, tape.row, block.table, self.numbers, self._moments)
        seed = np.uint64(self.seed % 2**64)
        self.learned = int(watch(self._sample, block.table, tape.op, tape.row, self.learned, seed))

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        planes = self.planes
        if planes is None:
            return [functools.partial(self.run, block, tape)]
        calls: list[Callable[[], object]] = []
        if len(planes.column) and tape.learns < len(tape.op):
            arguments = block.table, self.numbers, planes, self._room, block.bits
            calls.append(bound(bits_of, *arguments))
        if tape.learns:
            calls.append(functools.partial(self._count, tape))
        return calls

    def _count(self, tape: Tape) -> None:
        self.learned += tape.learns

    def next_change(self) -> int:
        """Return the count of labelled records learned at which the planes are drawn."""
        return self.warm_up if self.planes is None else NEVER

    def change(self) -> None:
        """Draw the planes from the records learned so far."""
        sample = self._sample[: self.learned]
        random = np.random.default_rng([self.seed % 2**64, self.learned])
        self._set(draw(self._moments, sample, self.numbers, self.bits, random))

    def _set(self, planes: Planes) -> None:
        self.planes = planes
        self._room = Room.of(len(planes.column))
        self._sample = np.zeros((0, self.columns), np.float32)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state as arrays and JSON: what is watched, or the planes once drawn."""
        meta = {
            "learned": self.learned,
            "drawn": self.planes is not None,
            "columns": self.columns,
            "bits": self.bits,
        }
        if self.planes is not None:
            return {name: array.copy() for name, array in self.planes._asdict().items()}, meta
        sample = self._sample[: self.learned].copy()
        return {"moments": self._moments.copy(), "sample": sample}, meta

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back a state that `state` returned.

        Raises
        ------
        ValueError
            When it is that of another table or number of bits.
        """
        saved, own = (meta["columns"], meta["bits"]), (self.columns, self.bits)
        if saved != own:
            raise ValueError(
                f"The saved random bits have (columns, bits) {saved}, these have {own}; use the "
                "configuration they were saved with."
            )
        self.learned = meta["learned"]
        if meta["drawn"]:
            self._set(Planes(**{name: np.array(arrays[name]) for name in Planes._fields}))
            return
        self.planes = None
        self._moments[:] = arrays["moments"]
        self._sample = np.zeros((min(SAMPLE, self.warm_up), self.columns), np.float32)
        self._sample[: len(arrays["sample"])] = arrays["sample"]
