"""Field-aware factorisation machines as a part: several members, one walk over the features."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block, Tape
from onlinestack.kernel import bound
from onlinestack.linear.factor_walk import walk
from onlinestack.linear.factors import FACTORS, STRIDE, Scratch, Steps, Tables

__all__ = ["RATES", "Factorisation"]

RATES = (0.1, 0.25, 0.6)
"""AdaGrad's rates that were best, each somewhere, over nine streams."""
BITS = 17
MEMORY = 100_000_000


class Factorisation:
    """Members that learn how every two fields of a record act together, by vectors.

    Every feature has a vector against each field; what two features add to the score is the inner
    product of their vectors against each other's fields. So it learns of pairs that it never met
    together, which a linear learner over pairs cannot. Use it on records of 3 to 40 fields of many
    values (users, pages, adverts). Members that differ only in rate share one walk.

    Parameters
    ----------
    names
        Names of the members, one a rate; as a part it fills ``score:NAME`` of each.
    columns
        Their columns of ``block.scores``.
    rates
        AdaGrad's rate of each member.
    fields
        Field slots it reads: those of the block up to here.
    linear
        Rate of the linear part, as a share of the member's.
    l2
        Squared penalty, a step.
    spread
        Entries of vectors start between minus and plus this.
    start
        Start of AdaGrad's sums of squares for vectors (1 for the linear part).
    bits
        The linear part has ``2**bits`` slots.
    memory
        Most bytes of all vectors: they have ``2**bits`` rows, or halves thereof until they fit;
        features of the same row share vectors. Only rows that were learned take memory.
    seed
        Of the start of the vectors.
    needs
        What must have run before.

    Attributes
    ----------
    dumb
        Times each member's score was not finite; then the running click rate speaks for it.
    dropped
        Times a part of a member's step was dropped because it would not have been finite.

    Raises
    ------
    ValueError
        Where names, columns and rates differ in number, or a number is out of range.

    Notes
    -----
    Juan, Y., Zhuang, Y., Chin, W.-S. and Lin, C.-J. (2016). Field-aware factorization machines
    for CTR prediction. RecSys. Sharing vectors by hashed features is Fwumious Wabbit's. What
    differs from both stands in `onlinestack.linear.factor_scores` and `factor_steps`.

    Examples
    --------
    Two features that agree on a click, by themselves without meaning:

    >>> from onlinestack.block import immediate_tape
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.integers(0, 2, (2, 2000))
    >>> block = Block.of([[("f", [3 + i, 7 + j], [1, 1])] for i, j in zip(a, b)], label=a == b)
    >>> block.opens = 2 * np.arange(2000)[:, None] + [0, 1]
    >>> block.closes, block.scores = block.opens + 1, np.zeros((2000, 1), np.float32)
    >>> part = Factorisation(["pairs"], [0], [0.3], fields=2)
    >>> part.run(block, immediate_tape(block.label))
    >>> bool(((block.scores[1000:, 0] > 0) == block.label[1000:]).all())
    True
    """

    def __init__(
        self,
        names: Sequence[str],
        columns: Sequence[int],
        rates: Sequence[float] = RATES,
        *,
        fields: int = 40,
        linear: float = 1 / 3,
        l2: float = 1e-6,
        spread: float = 0.2,
        start: float = 0.02,
        bits: int = BITS,
        memory: int = MEMORY,
        seed: int = 0,
        needs: tuple[str, ...] = ("f",),
    ) -> None:
        if not len(names) == len(columns) == len(rates) > 0:
            raise ValueError(
                f"{len(names)} names, {len(columns)} columns and {len(rates)} rates were given; "
                "give one of each for every member"
            )
        positive = {
            "start": start,
            **{f"rate of {n}": r for n, r in zip(names, rates, strict=True)},
        }
        for what, number in positive.items():
            if not 0 < number < math.inf:
                raise ValueError(f"{what}={number!r} is out of range; give a number above 0")
        for what, number in {"linear": linear, "l2": l2, "spread": spread}.items():
            if not 0 <= number < math.inf:
                raise ValueError(f"{what}={number!r} is out of range; give 0 or more")
        if not 1 <= bits <= 30:
            raise ValueError(f"bits={bits!r} is out of range; give a whole number from 1 to 30")
        if fields < 1:
            raise ValueError(f"fields={fields!r} leaves nothing to read; give 1 or more")
        self.names = tuple(names)
        self._fields = fields
        self.fills = tuple(f"score:{name}" for name in names)
        self.needs = needs
        self.columns = np.array(columns, np.int64)
        own = np.array(rates, np.float32)
        self.steps = Steps(
            own,
            own * np.float32(linear),
            np.float32(start),
            np.float32(1),
            np.float32(spread),
            np.float32(l2),
            np.uint64(seed),
        )
        width = -(-fields // STRIDE) * STRIDE
        each = 4 * len(rates) * width * (FACTORS + 1)
        rows = 1 << bits
        while rows > 1 and rows * each > memory:
            rows //= 2
        self._shape = 1 << bits, rows, len(rates), width
        self.tables = Tables.of(*self._shape)
        self._scratch = Scratch.of(256, len(rates), width)
        self._totals = np.zeros(2)
        self._counts = np.zeros((2, len(rates)), np.int64)

    @property
    def dumb(self) -> NDArray[np.int64]:
        """How often each member's score was not finite."""
        dumb: NDArray[np.int64] = self._counts[0]
        return dumb

    @property
    def dropped(self) -> NDArray[np.int64]:
        """How often a part of each member's step was dropped."""
        dropped: NDArray[np.int64] = self._counts[1]
        return dropped

    @property
    def bytes(self) -> int:
        """Most memory the tables can take."""
        return sum(table.nbytes for table in self.tables)

    def run(self, block: Block, tape: Tape) -> None:
        """Walk the tape over a block and serve the members' scores."""
        fields = self._fields
        counts = block.closes[:, :fields] - block.opens[:, :fields]
        self._fit(int(counts.sum(axis=1).max(initial=0)))
        walk(*self._arguments(block, tape))

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        self._fit(len(block.index))
        return [bound(walk, *self._arguments(block, tape))]

    def _fit(self, features: int) -> None:
        """Make room for records of so many features."""
        if features > len(self._scratch.slot):
            self._scratch = Scratch.of(2 * features, *self._shape[2:])

    def _arguments(self, block: Block, tape: Tape) -> tuple[Any, ...]:
        return (
            tape.op,
            tape.row,
            block.label,
            block.weight,
            block.index,
            block.value,
            np.ascontiguousarray(block.opens[:, : self._fields]),
            np.ascontiguousarray(block.closes[:, : self._fields]),
            self.columns,
            self.steps,
            self.tables,
            self._scratch,
            self._totals,
            self._counts,
            block.scores,
        )

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state as arrays and JSON: only slots and rows that were learned."""
        slot, row = np.flatnonzero(self.tables.met), np.flatnonzero(self.tables.started)
        return {
            "slot": slot.astype(np.uint32),
            "linear": self.tables.linear[slot],
            "constant": self.tables.linear[-1].copy(),
            "row": row.astype(np.uint32),
            "vectors": self.tables.vectors[row],
            "totals": self._totals.copy(),
            "counts": self._counts.copy(),
        }, {}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.tables = Tables.of(*self._shape)
        self.tables.linear[arrays["slot"]] = arrays["linear"]
        self.tables.linear[-1] = arrays["constant"]
        self.tables.met[arrays["slot"]] = 1
        self.tables.vectors[arrays["row"]] = arrays["vectors"]
        self.tables.started[arrays["row"]] = 1
        self._totals[:] = arrays["totals"]
        self._counts[:] = arrays["counts"]
