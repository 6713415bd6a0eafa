"""Bins of number fields: edges drawn from the records learned so far, at doubling counts only.

Notes
-----
A bin is known by its lower edge, and edges are chosen so that they stay. The doubles are
cut like a binary tree by the bits of their representation (sign, exponent, mantissa): a cell that
holds more than its share of the sample is halved, cells without a value are forgotten. A growing
sample so moves no edge; it splits cells, whose lower half keeps its edge and, with it, all that
was learned about it.

Progressive log-loss of a linear learner at its defaults, one feature a number:

=================================  ======  =====  =====  =======  ========  =======
edges                              criteo  bank   elec2  weather  flights*  covtype*
=================================  ======  =====  =====  =======  ========  =======
this, an eighth of the sample      .4555   .2848  .4212  .4694    .4795     .3254
this, a sixteenth                  .4561   .2863  .4289  .4745    .4803     .3218
this, a 64th                       .4578   .2891  .4507  .4946
quantiles, 8                       .4574   .2850  .4224  .4780
quantiles, 16                      .4583   .2857  .4228  .4810
quantiles, 64                      .4597   .2894  .4443  .5010
powers of two                      .4555   .2838  .4526  .4983    .4800     .3919
powers of two, halved              .4563   .2845  .4355  .4815    .4789     .3412
each value its own                 .4606   .2883  .5320  .5260
=================================  ======  =====  =====  =======  ========  =======

(* the first 120,000 records.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN
from onlinestack.kernel import bound, kernel

__all__ = ["FIRST_CHANGE", "NEVER", "Bins", "lower_edge", "next_doubling", "ordered_key"]

FIRST_CHANGE = 32
"""Number of labelled records after which the first edges are drawn; it doubles from there on."""
NEVER = 2**63 - 1

SIGN = -(2**63)
EXPONENT_BITS = 52
MINUS_INFINITY_KEY = -0x7FF0000000000001
GOLDEN, STIR_1, STIR_2 = (
    np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def ordered_key(values: Any) -> NDArray[np.int64]:
    """Return integers that are ordered as the doubles are, -0.0 counted as 0.0.

    Examples
    --------
    >>> import numpy as np
    >>> ordered_key(np.array([0.0, -0.0, 5e-324, -5e-324])).tolist()
    [0, 0, 1, -2]
    """
    bits = (np.asarray(values, np.float64) + 0.0).view(np.int64)
    return np.where(bits < 0, ~(bits & ~SIGN), bits)


def _from_key(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    keys = np.maximum(keys, MINUS_INFINITY_KEY)
    bits = np.where(keys < 0, ~keys | SIGN, keys)
    return bits.view(np.float64)


def lower_edge(value: float) -> float:
    """Return the edge a number counts from before its field has edges: that of its exponent.

    Examples
    --------
    >>> lower_edge(5.0), lower_edge(0.3), lower_edge(0.0)
    (4.0, 0.25, 0.0)
    """
    key = ordered_key(value) >> EXPONENT_BITS << EXPONENT_BITS
    return float(_from_key(np.atleast_1d(key))[0])


def _cells(keys: Any, share: int, stack: Any, out: Any) -> int:
    """Cut the keys into cells of at most one ``share``-th of them and return how many there are.

    Parameters
    ----------
    keys
        ``int64[n]``, ascending, n > 0.
    share
        A cell with more than n / share keys is halved, unless all its keys are equal.
    stack
        ``int64[4, 80]``: room to work in.
    out
        ``int64``: takes the first key of each cell that is not empty, ascending.

    Returns
    -------
    Number of cells.
    """
    count, found = len(keys), []

    def cut(inside: list[int], base: int, bits: int) -> None:
        if len(inside) * share > count and inside[0] != inside[-1]:
            middle = base + 2 ** (bits - 1)
            cut([key for key in inside if key < middle], base, bits - 1)
            cut([key for key in inside if key >= middle], middle, bits - 1)
        elif inside:
            found.append(base)

    cut(keys.tolist(), SIGN, 64)
    out[: len(found)] = found
    return len(found)


@kernel(_cells)
def cells(keys: Any, share: int, stack: Any, out: Any) -> int:
    """Cut the keys into cells; see `_cells`. A stack takes the place of the recursion."""
    count = len(keys)
    first, last, base, size = stack[0], stack[1], stack[2], stack[3]
    first[0], last[0], base[0], size[0] = 0, count, SIGN, 64
    depth, found = 1, 0
    while depth:
        depth -= 1
        start, stop, low, bits = first[depth], last[depth], base[depth], size[depth]
        if start == stop:
            continue
        if (stop - start) * share <= count or keys[start] == keys[stop - 1]:
            out[found] = low
            found += 1
            continue
        middle = low + (np.int64(1) << (bits - 1)) if bits < 64 else np.int64(0)
        lo, hi = start, stop
        while lo < hi:
            at = (lo + hi) // 2
            if keys[at] < middle:
                lo = at + 1
            else:
                hi = at
        first[depth], last[depth], base[depth], size[depth] = lo, stop, middle, bits - 1
        depth += 1
        first[depth], last[depth], base[depth], size[depth] = start, lo, low, bits - 1
        depth += 1
    return found


@kernel()
def watch(reservoir: Any, numbers: Any, op: Any, row: Any, learned: int, seed: Any) -> int:
    """Show the rows learned to the reservoir, in the order of the tape; return the new count.

    Every row learned so far is in the reservoir with the same probability (Vitter's algorithm
    R). Which row leaves is a hash (splitmix64) of the seed and the count alone, so that neither
    blocks nor resumes matter.

    Parameters
    ----------
    reservoir
        ``float64[rows, k]``, filled from the top.
    numbers
        ``float64[n, k]``: the plain numbers of the block.
    op, row
        The tape.
    learned
        Number of records learned before.
    seed
        ``uint64``.
    """
    rows = len(reservoir)
    for step in range(len(op)):
        if op[step] != LEARN:
            continue
        slot: Any = learned
        if learned >= rows:
            z = np.uint64(seed + np.uint64(learned + 1) * GOLDEN)
            z = np.uint64((z ^ (z >> np.uint64(30))) * STIR_1)
            z = np.uint64((z ^ (z >> np.uint64(27))) * STIR_2)
            slot = np.int64((z ^ (z >> np.uint64(31))) % np.uint64(learned + 1))
        if slot < rows:
            for j in range(reservoir.shape[1]):
                reservoir[slot, j] = numbers[row[step], j]
        learned += 1
    return learned


def next_doubling(learned: int, changed_at: int) -> int:
    """Return the count of records at which what changes at doubling counts is due to change.

    Parameters
    ----------
    learned
        Records learned so far.
    changed_at
        Count of the last change, 0 before the first.

    Examples
    --------
    >>> next_doubling(0, 0), next_doubling(40, 32), next_doubling(64, 32), next_doubling(64, 64)
    (32, 64, 64, 128)
    """
    due = FIRST_CHANGE
    while due < learned or due <= changed_at:
        due *= 2
    return due


class Bins:
    """The edges of the bins of ``count`` number fields.

    A part of the encoder. Edges move in `change` only, which is due when the number of labelled
    records learned reaches `next_change`; what is drawn then depends on records learned before
    alone. Before that, and for a field all of whose values were missing, numbers count from the
    edge of their exponent (`lower_edge`).

    Parameters
    ----------
    count
        Number of number fields.
    share
        A bin holds about one ``share``-th of a field's values, where they are dense.
    rows
        Size of the reservoir in records.
    seed
        Seed of the reservoir's draws.

    Examples
    --------
    >>> import numpy as np
    >>> bins = Bins(1, share=4)
    >>> numbers = np.repeat([[0.0], [1.0], [2.0], [3.0], [700.0]], [4, 6, 3, 3, 16], axis=0)
    >>> bins.observe(numbers, np.ones(32, np.uint8), np.arange(32, dtype=np.int32))
    >>> bins.change()
    >>> np.searchsorted(bins.edges_of(0), [0, 1, 2, 3, 700], side="right").tolist()
    [1, 2, 3, 3, 4]
    """

    def __init__(self, count: int, *, share: int = 8, rows: int = 2048, seed: int = 0) -> None:
        self.share = share
        self.seed = seed
        self.learned = 0
        self.reservoir = np.full((rows, count), np.nan)
        self.edges = np.empty(0)
        self.stops = np.zeros(count + 1, np.int64)
        self._changed_at = 0

    @property
    def count(self) -> int:
        """Number of number fields."""
        return self.reservoir.shape[1]

    def edges_of(self, field: int) -> NDArray[np.float64]:
        """Return the lower edges of a field's bins, ascending; none before the first change."""
        return self.edges[self.stops[field] : self.stops[field + 1]]

    def observe(
        self, numbers: NDArray[np.float64], op: NDArray[np.uint8], row: NDArray[np.int32]
    ) -> None:
        """Count the rows learned on a tape and show them to the reservoir.

        Parameters
        ----------
        numbers
            ``float64[n, k]``, contiguous.
        op, row
            The tape's arrays.
        """
        seed = np.uint64(self.seed % 2**64)
        self.learned = int(watch(self.reservoir, numbers, op, row, self.learned, seed))

    def bind(
        self, numbers: NDArray[np.float64], op: NDArray[np.uint8], row: NDArray[np.int32]
    ) -> Callable[[], None]:
        """Return what does the same as `observe`, for arrays that are filled again and again."""
        seed = np.uint64(self.seed % 2**64)
        watched = bound(watch, self.reservoir, numbers, op, row, more=(self.learned, seed))

        def call() -> None:
            self.learned = watched(self.learned, seed)

        return call

    def next_change(self) -> int:
        """Return the count of labelled records learned at which edges move next."""
        if not self.count:
            return NEVER
        return next_doubling(self.learned, self._changed_at)

    def change(self) -> None:
        """Draw new edges from the reservoir."""
        self._changed_at = self.learned
        sample = np.sort(self.reservoir[: self.learned].T, axis=1)
        known = np.count_nonzero(~np.isnan(sample), axis=1)
        keys = ordered_key(sample)
        out = np.empty(64 * self.share, np.int64)
        stack = np.empty((4, 80), np.int64)
        drawn = []
        for field in range(self.count):
            size = int(known[field])
            found = cells(keys[field, :size], self.share, stack, out) if size else 0
            drawn.append(_from_key(out[:found]))
            self.stops[field + 1] = self.stops[field] + found
        self.edges = np.concatenate([np.empty(0), *drawn])

    def insert(self, field: int) -> None:
        """Add a number field, whose values so far are missing, before the one numbered."""
        self.reservoir = np.insert(self.reservoir, field, np.nan, axis=1)
        self.stops = np.insert(self.stops, field, self.stops[field])

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return arrays and JSON-able values that `restore` takes."""
        arrays = {
            "reservoir": self.reservoir[: self.learned].copy(),
            "edges": self.edges.copy(),
            "edge_stops": self.stops.copy(),
        }
        meta = {
            "share": self.share,
            "seed": self.seed,
            "rows": len(self.reservoir),
            "learned": self.learned,
            "changed_at": self._changed_at,
        }
        return arrays, meta

    @classmethod
    def restored(cls, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> Bins:
        """Return the bins whose `state` this is."""
        sample = arrays["reservoir"]
        self = cls(sample.shape[1], share=meta["share"], rows=meta["rows"], seed=meta["seed"])
        self.reservoir[: len(sample)] = sample
        self.edges = np.array(arrays["edges"], np.float64)
        self.stops = np.array(arrays["edge_stops"], np.int64)
        self.learned = meta["learned"]
        self._changed_at = meta["changed_at"]
        return self
