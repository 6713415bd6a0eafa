"""The arrays every kernel reads: a block of records, and the tape of steps over it.

A block holds up to a quantum of records. Features lie in one pool (``index``, ``value``); where
a record's namespace lies in the pool is given by the group table (``names``, ``start``,
``stop``), one row a record, one column a namespace in the record's own order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AHEAD",
    "LEARN",
    "LEARN_ONE",
    "MARGIN",
    "PREDICT",
    "PREDICT_AND_LEARN_ONE",
    "PREDICT_ONE",
    "WORD",
    "Block",
    "Dense",
    "Tape",
    "immediate_tape",
]

AHEAD = 2
"""Blocks that may be filled while one is learned."""

PREDICT = 0
LEARN = 1

MARGIN = np.float32(13.815511)
"""Margins are clipped to this: a probability of 1e-6, or of all but 1e-6."""

WORD = 32
"""Bits of a word of the packed namespace."""

Dense = tuple[NDArray[np.uint32], NDArray[np.float32]]
"""Indices and values of a namespace that every record has the same number of features in."""


@dataclass(slots=True)
class Block:
    """Consecutive records as flat arrays, ready for the kernels.

    Parameters
    ----------
    label
        ``float32[n]``: the target as the learner reads it; NaN where it is not known.
    weight
        ``float32[n]``: importance, finite and not negative.
    initial
        ``float32[n]``: offset added to the raw prediction (Vowpal Wabbit's *initial*).
    row
        ``int64[n]``: number of the record in the run, from 0, rejected ones counted.
    index
        ``uint32[size]``: feature hashes before masking.
    value
        ``float32[size]``: feature values.
    names
        ``uint8[n, g]``: namespace letter of each group of the record, 0 for "no group here".
    start
        ``int64[n, g]``: first position in the pool of each group.
    stop
        ``int64[n, g]``: position behind the last one of each group.
    numbers
        ``float64[n, k]``: the plain numbers, NaN where missing; k may be 0.
    opens, closes
        ``int64[n, F]``: first position in the pool of each field's features, and the one behind
        the last; equal where the record has nothing in that place. F may be 0.
    table
        ``float32[n, t]``: what boosted trees read: plain numbers, NaN where missing, then
        click-rate statistics. t may be 0.
    scores
        ``float32[n, K]``: the margin of every expert that has one, members first; as namespace
        ``s`` of the pool the members' columns are read by stackers.
    time
        ``float64[n]``: stream time in seconds, NaN where not known; None where records have none.
    dense
        Namespaces that have the same number of features in every record: their letter to views
        of the pool, ``(index, value)``, each ``[n, width]``.
    bits
        ``uint32[n, words]``: namespace ``r``, packed: bit k of a record is bit ``k % 32`` of its
        word ``k // 32``. words may be 0.
    p
        ``float32[n, K + 2 + C]``: click probabilities as served: the mixture's, those of the K
        experts that have a margin, of their plain mean, and of C combiners.

    records
        ``object[n]``: the records as dicts, where a member reads them; else None.

    Examples
    --------
    >>> import numpy as np
    >>> block = Block.of([[("f", [3, 5], [1.0, 1.0])], []], label=[1, np.nan])
    >>> block.n, block.names[0].tobytes(), block.index[block.start[0, 0] : block.stop[0, 0]]
    (2, b'f', array([3, 5], dtype=uint32))
    """

    label: NDArray[np.float32]
    weight: NDArray[np.float32]
    initial: NDArray[np.float32]
    row: NDArray[np.int64]
    index: NDArray[np.uint32]
    value: NDArray[np.float32]
    names: NDArray[np.uint8]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    numbers: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    opens: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))
    closes: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))
    table: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    scores: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    dense: dict[str, Dense] = field(default_factory=dict)
    bits: NDArray[np.uint32] = field(default_factory=lambda: np.empty((0, 0), np.uint32))
    time: NDArray[np.float64] | None = None
    p: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    records: NDArray[np.object_] | None = None

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.label)

    def rows(self, start: int, stop: int) -> Block:
        """Return the records ``start`` to ``stop`` as a view over the same pool."""
        return Block(
            self.label[start:stop],
            self.weight[start:stop],
            self.initial[start:stop],
            self.row[start:stop],
            self.index,
            self.value,
            self.names[start:stop],
            self.start[start:stop],
            self.stop[start:stop],
            self.numbers[start:stop],
            self.opens[start:stop],
            self.closes[start:stop],
            self.table[start:stop],
            self.scores[start:stop],
            {letter: (i[start:stop], v[start:stop]) for letter, (i, v) in self.dense.items()},
            self.bits[start:stop],
            None if self.time is None else self.time[start:stop],
            self.p[start:stop],
            None if self.records is None else self.records[start:stop],
        )

    @classmethod
    def of(cls, records: list[list[tuple[str, Any, Any]]], **columns: Any) -> Block:
        """Build a block from ``(namespace, indices, values)`` groups; for tests and examples."""
        n, groups = len(records), max([1, *(len(groups) for groups in records)])
        names = np.zeros((n, groups), np.uint8)
        start, stop = np.zeros((n, groups), np.int64), np.zeros((n, groups), np.int64)
        index: list[int] = []
        value: list[float] = []
        for i, record in enumerate(records):
            for j, (name, indices, values) in enumerate(record):
                names[i, j] = ord(name)
                start[i, j] = len(index)
                index += list(indices)
                value += list(values)
                stop[i, j] = len(index)
        return cls(
            np.array(columns.get("label", [np.nan] * n), np.float32),
            np.array(columns.get("weight", [1.0] * n), np.float32),
            np.array(columns.get("initial", [0.0] * n), np.float32),
            np.arange(n, dtype=np.int64),
            np.array(index, np.uint32),
            np.array(value, np.float32),
            names,
            start,
            stop,
        )


@dataclass(slots=True)
class Tape:
    """The steps of a quantum, in order: predict this row, learn that row.

    Parameters
    ----------
    op
        ``uint8[m]``: ``PREDICT`` or ``LEARN``.
    row
        ``int32[m]``: row of the block the step is about.

    Attributes
    ----------
    learns
        How many steps learn.
    """

    op: NDArray[np.uint8]
    row: NDArray[np.int32]
    learns: int = field(init=False)

    def __post_init__(self) -> None:
        self.learns = int(np.count_nonzero(self.op))

    def predicted(self) -> int:
        """Return how many rows, from the first on, hold all that it predicts.

        Rows behind them were served before and are only learned.
        """
        return int(self.row[self.op == PREDICT].max(initial=-1)) + 1


def _steps_of_one(*op: int) -> Tape:
    return Tape(np.array(op, np.uint8), np.zeros(len(op), np.int32))


PREDICT_ONE = _steps_of_one(PREDICT)
LEARN_ONE = _steps_of_one(LEARN)
PREDICT_AND_LEARN_ONE = _steps_of_one(PREDICT, LEARN)


def immediate_tape(label: NDArray[np.float32]) -> Tape:
    """Return the tape of records whose labels come at once: predict i, learn i, predict i+1 ...

    Records without a label (NaN) are predicted only.

    Examples
    --------
    >>> import numpy as np
    >>> tape = immediate_tape(np.array([1, np.nan, 0], np.float32))
    >>> tape.op.tolist(), tape.row.tolist()
    ([0, 1, 0, 0, 1], [0, 0, 1, 2, 2])
    """
    known = ~np.isnan(label)
    if known.all():
        return _tape_of_labelled(len(label))
    row = np.repeat(np.arange(len(label), dtype=np.int32), 1 + known)
    op = np.zeros(len(row), np.uint8)
    op[1:] = row[1:] == row[:-1]
    return Tape(op, row)


@lru_cache(maxsize=2)
def _tape_of_labelled(n: int) -> Tape:
    """Return the tape of n records that all have labels, the same object for most quanta."""
    row = np.repeat(np.arange(n, dtype=np.int32), 2)
    op = np.zeros(len(row), np.uint8)
    op[1::2] = 1
    return Tape(op, row)
