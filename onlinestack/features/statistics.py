"""Click-rate statistics: how often each value of each field was clicked of late, and ever.

Rates of values have long served click prediction as inputs of boosted trees (He et al. 2014,
"Practical lessons from predicting clicks on ads at Facebook"; Ling et al. 2017, "Model ensemble for
click prediction in Bing search ads"). Decayed at several half-lives they let models that are
trained now and then follow a stream that drifts in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block, Tape
from onlinestack.features.rates import LANES, LINE, MOST, book_of, scale_of, walk
from onlinestack.kernel import bound

__all__ = ["HALF_LIVES", "LONGEST", "Statistics"]

HALF_LIVES = (4.0, 32.0, 256.0, 2048.0, 16384.0, math.inf)
"""Half-lives of the statistics, in labelled records."""

LONGEST = 2.0**20
"""Longest half-life but ``inf``: gaps are told apart up to 2**24 records."""


class Statistics:
    """Click rates of the values of every field at several half-lives, as a part.

    Use it before trees, random bits and linear learners that should see drift. For each field
    and half-life h it gives ``logit((k + m p) / (n + m))``, where n and k are the weights of the
    records and of the clicks that had the field's value, halved with every h records, and p is the
    overall click rate at h, ``(K + 1/2) / (N + 1)``; then ``logit(p)`` for each h, and
    ``log(1 + n)`` at the longest h for each field. An absent field gives ``logit(p)`` and 0, one
    with several values the mean of theirs. A rate is written when a record is predicted and moves
    when it is learned, with the weight of the record; the clock is the count of labelled records
    learned, those of weight 0 too.

    Counts live in a hashed table of fixed size: two values that meet in a slot share it. A slot
    counts a record once, and counts beyond 2**23 are halved. Beside the statistics themselves
    (``block.table``, for trees) the part fills namespace ``c`` with the same numbers standardised
    by the weighted mean and standard deviation of the records learned so far, clipped to +-4; 0
    where there is no deviation yet.

    Parameters
    ----------
    fields
        Number of field slots of a record.
    at
        Column of ``block.table`` where the statistics begin.
    half_lives
        One to seven, in records, between 1 and 2**20, or ``inf``.
    bits
        Binary logarithm of the number of slots, 1 to 28; a slot takes 64 bytes.
    prior
        m, the weight of the overall rate.

    Raises
    ------
    ValueError
        When an argument is out of its range, or a block has other fields.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> statistics = Statistics(1, half_lives=(math.inf,), prior=1.0)
    >>> block = Block.of([[("f", [7], [1.0])]] * 3, label=[1, 1, 0])
    >>> block.opens, block.closes = block.start, block.stop
    >>> block.table = np.zeros((3, statistics.width), np.float32)
    >>> block.dense["c"] = (np.zeros((3, 3), np.uint32), np.zeros((3, 3), np.float32))
    >>> statistics.run(block, immediate_tape(block.label))
    >>> statistics.columns(["site"])
    ['site rate/inf', 'rate/inf', 'site count']
    >>> np.round(block.table.astype(float), 3).tolist()
    [[0.0, 0.0, 0.0], [1.946, 1.099, 0.693], [2.833, 1.609, 1.099]]
    """

    fills = "c"
    needs: tuple[str, ...] = ("f",)

    def __init__(
        self,
        fields: int,
        *,
        at: int = 0,
        half_lives: Sequence[float] = HALF_LIVES,
        bits: int = 19,
        prior: float = 10.0,
    ) -> None:
        self.fields, self.at, self.bits, self.prior = fields, at, bits, prior
        self.half_lives = tuple(float(life) for life in half_lives)
        self._check()
        self.width = fields * (len(self.half_lives) + 1) + len(self.half_lives)
        self._book = book_of(self.width, self.half_lives, bits, prior)

    def _check(self) -> None:
        if self.fields < 0 or self.at < 0:
            raise ValueError(
                f"fields={self.fields} and at={self.at} were given; neither may be negative."
            )
        if not 1 <= len(self.half_lives) <= MOST:
            raise ValueError(f"{len(self.half_lives)} half-lives were given; give one to {MOST}.")
        for life in self.half_lives:
            if not (1 <= life <= LONGEST or life == math.inf):
                raise ValueError(
                    f"The half-life {life:g} was given; give records between 1 and {LONGEST:.0f}, "
                    "or inf."
                )
        if not 1 <= self.bits <= 28:
            raise ValueError(f"bits={self.bits} was given; give a number between 1 and 28.")
        if not 1e-6 <= self.prior <= 1e6:
            raise ValueError(f"prior={self.prior} was given; give a weight between 1e-6 and 1e6.")

    @property
    def learned(self) -> int:
        """Number of labelled records learned."""
        return int(self._book.clock[0])

    def columns(self, names: Sequence[str]) -> list[str]:
        """Return a name for each statistic, given the names of the fields.

        Raises
        ------
        ValueError
            When there is not one name for each field.
        """
        if len(names) != self.fields:
            raise ValueError(
                f"{len(names)} names were given for {self.fields} fields; give one for each."
            )
        lives = [f"{life:.12g}" for life in self.half_lives]
        return [
            *(f"{name} rate/{life}" for name in names for life in lives),
            *(f"rate/{life}" for life in lives),
            *(f"{name} count" for name in names),
        ]

    def owners(self, names: Sequence[str]) -> list[str | None]:
        """Return for each statistic the name of the field it is of; None for the overall rates."""
        lives = len(self.half_lives)
        of_fields = [name for name in names for _ in range(lives)]
        return [*of_fields, *(None for _ in range(lives)), *names]

    def run(self, block: Block, tape: Tape) -> None:
        """Take the steps of a tape: write the statistics of rows predicted, count rows learned."""
        opens, closes = block.opens, block.closes
        if opens.shape[1] != self.fields:
            raise ValueError(
                f"The block has {opens.shape[1]} fields, but the statistics are of {self.fields}; "
                "encode it with the fields they were made for."
            )
        if block.n and self.fields:
            self._fit(int((closes - opens).sum(axis=1).max()))
        walk(*self._arguments(block, tape))

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        self._fit(len(block.index))
        return [bound(walk, *self._arguments(block, tape))]

    def _arguments(self, block: Block, tape: Tape) -> tuple[Any, ...]:
        return (
            tape.op,
            tape.row,
            block.label,
            block.weight,
            block.index,
            block.opens,
            block.closes,
            block.table,
            self.at,
            block.dense["c"][1],
            self._book,
        )

    def _fit(self, features: int) -> None:
        """Make room for records of so many features."""
        if features >= len(self._book.places):
            self._book = self._book.with_room(2 * features)

    def __getstate__(self) -> Any:
        # Counts and clocks share memory, which those of a copy would not.
        made = {name: getattr(self, name) for name in ("at", "half_lives", "bits", "prior")}
        return self.fields, made, self.state()

    def __setstate__(self, saved: Any) -> None:
        fields, made, (arrays, meta) = saved
        self.__init__(fields, **made)  # type: ignore[misc]
        self.restore(arrays, meta)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state as arrays and JSON: only slots in use, the last that of all records."""
        book, lives = self._book, len(self.half_lives)
        slots = book.counts.reshape(-1, 2, LANES)
        used = np.flatnonzero(slots[:, :, :lives].any(axis=(1, 2)))
        arrays: dict[str, NDArray[Any]] = {
            "slot": used.astype(np.uint32),
            "count": slots[used, :, :lives],
            "stamp": book.stamps[used * LINE + LINE - 1],
            "half_lives": np.array(self.half_lives),
            "total": book.total.copy(),
            "mean": book.mean.copy(),
            "spread": book.spread.copy(),
        }
        return arrays, {"learned": self.learned, "fields": self.fields, "bits": self.bits}

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back a state that `state` returned.

        Raises
        ------
        ValueError
            When it is that of other fields, half-lives or bits.
        """
        saved = (meta["fields"], meta["bits"], tuple(arrays["half_lives"].tolist()))
        own = (self.fields, self.bits, self.half_lives)
        if saved != own:
            raise ValueError(
                f"The saved statistics have (fields, bits, half-lives) {saved}, these have {own}; "
                "use the configuration they were saved with."
            )
        book, lives = self._book, len(self.half_lives)
        used = arrays["slot"].astype(np.int64)
        book.counts[:] = 0
        book.counts.reshape(-1, 2, LANES)[used, :, :lives] = arrays["count"]
        book.stamps[used * LINE + LINE - 1] = arrays["stamp"]
        book.clock[0] = meta["learned"]
        book.total[:] = arrays["total"]
        book.mean[:] = arrays["mean"]
        book.spread[:] = arrays["spread"]
        book.centre[:] = book.mean
        total = float(book.total[0])
        book.scale[:] = scale_of(book.spread, total) if total > 0 else 0.0
