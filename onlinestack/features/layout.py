"""Where a stack's namespaces lie: the hashed features of a block, and room for all made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import AHEAD, Block, Dense
from onlinestack.kernel import bound, kernel
from onlinestack.murmur import uniform_hash

__all__ = ["Layout", "dense_index"]

LARGEST = float(np.finfo(np.float32).max)
ODD = np.uint32(2654435761)


def dense_index(letter: str, width: int) -> NDArray[np.uint32]:
    """Return the indices of the features of a dense namespace.

    They are far apart, yet no two of them share a slot of any table with that many slots, since
    multiplying by an odd number permutes the numbers of so many bits.

    Examples
    --------
    >>> len(set((dense_index("c", 256) & 255).tolist()))
    256
    """
    salt = np.uint32(uniform_hash(letter.encode(), 0))
    return np.arange(width, dtype=np.uint32) * ODD + salt


@dataclass(slots=True)
class _Pool:
    """Arrays of one block, filled again block after block."""

    index: NDArray[np.uint32]
    value: NDArray[np.float32]
    table: NDArray[np.float32]
    names: NDArray[np.uint8]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    dense: dict[str, Dense]
    scores: NDArray[np.float32]
    p: NDArray[np.float32]
    bits: NDArray[np.uint32]


@kernel()
def copy(index: Any, numbers: Any, places: Any, hashes: Any, table: Any) -> None:
    """Copy the hashes and plain numbers of one record to where they lie in a laid block.

    Parameters
    ----------
    index, numbers
        Of the block as it came.
    places
        ``int64[k]``: columns of the table for the plain numbers, -1 for none.
    hashes
        ``uint32[size]``: where the hashes go.
    table
        ``float32[1, t]``: the table.
    """
    for j in range(len(index)):
        hashes[j] = index[j]
    for j in range(len(places)):
        if places[j] >= 0:
            number = numbers[0, j]
            if number > LARGEST:
                number = LARGEST
            elif number < -LARGEST:
                number = -LARGEST
            table[0, places[j]] = np.float32(number)


class Layout:
    """Lay out blocks of hashed features with room for statistics, scores and what else is made.

    The pool begins with the dense namespaces, one matrix each, at places that never move, so that
    their indices are written once; the hashed fields follow.

    Use it between the encoder and the parts of a stack.

    Parameters
    ----------
    rows
        Most records a block holds.
    fields
        Field slots: fields beyond them are hashed like all, but have no statistics.
    numbers
        Plain numbers that the table takes.
    statistics
        Columns of click-rate statistics: behind the numbers in the table, and namespace ``c``.
    scores
        Columns of margins.
    members
        How many of these are namespace ``s``.
    margins
        Columns of the table behind the statistics, for margins that trees read.
    others
        Further dense namespaces, letter to width.
    combiners
        Columns of predictions behind those of the experts.
    words
        Words of packed bits.

    Examples
    --------
    >>> layout = Layout(4, fields=1, numbers=0, statistics=2, scores=3, members=2)
    >>> block = layout.lay(Block.of([[("f", [7], [1.0])]]))
    >>> bytes(block.names[0]), block.table.shape, block.scores.shape
    (b'fcs', (1, 2), (1, 3))
    >>> block.scores[0] = 0.5, -0.5, 9
    >>> [block.value[a:b].tolist() for a, b in zip(block.start[0], block.stop[0])]
    [[1.0], [0.0, 0.0], [0.5, -0.5]]
    """

    def __init__(
        self,
        rows: int,
        *,
        fields: int,
        numbers: int,
        statistics: int,
        scores: int,
        members: int,
        margins: int = 0,
        others: Mapping[str, int] | None = None,
        combiners: int = 0,
        words: int = 0,
    ) -> None:
        self.fields = fields
        self.numbers = numbers
        self.columns = numbers + statistics + margins
        self._widths = {"c": statistics, "s": scores, **(others or {})}
        self._members = members
        self._predictions = scores + 2 + combiners
        self._words = words
        self._rows = rows
        self._pools: dict[int, list[_Pool]] = {}
        """Those of a single record and those of as many as there may be, by that number."""
        self._slots: dict[str, int] = {}
        """Field slots of namespaces of Vowpal Wabbit text, or of fields met in dicts."""
        self._places: dict[str, int] = {}
        """Columns of the table of the plain numbers met in dicts."""
        self._given: Block | None = None
        """The record that was laid last, if it was one, as it came; and as it was laid."""
        self._laid: Block | None = None
        self._copy: Callable[[], object] | None = None
        self._growing: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        """Slot of each field and column of each number of the encoder, -1 where none is left."""

    def _pool(self, rows: int) -> _Pool:
        """Make the arrays of a block of so many rows."""
        size = rows * sum(self._widths.values())
        index, value = np.empty(size, np.uint32), np.zeros(size, np.float32)
        names = np.tile(np.array([ord("f"), *map(ord, self._widths)], np.uint8), (rows, 1))
        start = np.zeros((rows, names.shape[1]), np.int64)
        stop = start.copy()
        dense: dict[str, Dense] = {}
        at = 0
        for column, (letter, width) in enumerate(self._widths.items(), 1):
            end = at + rows * width
            matrix = index[at:end].reshape(rows, width), value[at:end].reshape(rows, width)
            matrix[0][:] = dense_index(letter, width)
            dense[letter] = matrix
            start[:, column] = at + np.arange(rows) * width
            stop[:, column] = start[:, column] + (self._members if letter == "s" else width)
            at = end
        table = np.full((rows, self.columns), np.nan, np.float32)
        p = np.empty((rows, self._predictions), np.float32)
        bits = np.zeros((rows, self._words), np.uint32)
        return _Pool(index, value, table, names, start, stop, dense, dense["s"][1], p, bits)

    def _next(self, rows: int) -> _Pool:
        size = 1 if rows == 1 else self._rows
        pools = self._pools.get(size) or [self._pool(size) for _ in range(AHEAD + 1)]
        # By turns, so that blocks can be laid out while those before are learned.
        self._pools[size] = [*pools[1:], pools[0]]
        return pools[0]

    def lay(self, block: Block) -> Block:
        """Return a block of hashed features with room for all that is made of them.

        Parameters
        ----------
        block
            As the encoder or the parser of Vowpal Wabbit text makes it, with at most ``rows``
            records. The result is valid for `AHEAD` more calls. One record in the same block as
            before, filled anew, is in the same block again.
        """
        laid = self._laid
        if laid is None or block is not self._given:
            self._laid = self._copy = None
            laid = self._lay(block)
            if block.n == 1 and block.opens.shape[1]:
                self._given, self._laid = block, laid
            return laid
        if self._copy is None:
            self._copy = bound(copy, *self._arguments(block, laid))
        self._copy()
        laid.time, laid.records = block.time, block.records
        return laid

    def _arguments(self, block: Block, laid: Block) -> tuple[Any, ...]:
        first = laid.start[0, 0] - block.start[0, 0]
        hashes = laid.index[first : first + len(block.index)]
        places = np.arange(min(block.numbers.shape[1], self.numbers))
        if self._growing is not None:
            places = self._growing[1]
        return block.index, block.numbers, places, hashes, laid.table

    def _lay(self, block: Block) -> Block:
        pool, n = self._next(block.n), block.n
        first = pool.dense["s"][0].shape[0] * sum(self._widths.values())
        low, high = _extent(block)
        need = first + high - low
        if need > len(pool.index):
            self._grow(pool, need + (high - low) // 2)
        pool.index[first:need] = block.index[low:high]
        pool.value[first:need] = block.value[low:high]
        shift = first - low
        groups = block.names != 0
        far = np.iinfo(np.int64).max
        start = np.where(groups, block.start, far).min(axis=1, initial=far)
        stop = np.where(groups, block.stop, 0).max(axis=1, initial=0)
        empty = stop == 0
        pool.start[:n, 0] = np.where(empty, first, start + shift)
        pool.stop[:n, 0] = np.where(empty, first, stop + shift)
        opens, closes = self._extents(block)
        table = pool.table[:n]
        # Trees take no infinity, which the largest float64 numbers would become.
        if self._growing is not None:
            (taken,) = np.nonzero(self._growing[1] >= 0)
            table[:, self._growing[1][taken]] = block.numbers[:, taken].clip(-LARGEST, LARGEST)
        elif block.numbers.shape[1]:
            numbers = block.numbers[:, : self.numbers]
            np.clip(numbers, -LARGEST, LARGEST, out=table[:, : self.numbers], casting="same_kind")
        return replace(
            block,
            index=pool.index,
            value=pool.value,
            names=pool.names[:n],
            start=pool.start[:n],
            stop=pool.stop[:n],
            opens=opens + shift,
            closes=closes + shift,
            table=table,
            scores=pool.scores[:n],
            p=pool.p[:n],
            bits=pool.bits[:n],
            dense={letter: (i[:n], v[:n]) for letter, (i, v) in pool.dense.items()},
        )

    def _grow(self, pool: _Pool, size: int) -> None:
        """Make the pool longer; views of its dense part must be taken anew."""
        old = pool.index, pool.value
        pool.index, pool.value = np.empty(size, np.uint32), np.zeros(size, np.float32)
        pool.index[: len(old[0])], pool.value[: len(old[1])] = old
        at = 0
        for letter, (index, _) in pool.dense.items():
            end = at + index.size
            shape = index.shape
            pool.dense[letter] = (
                pool.index[at:end].reshape(shape),
                pool.value[at:end].reshape(shape),
            )
            at = end
        pool.scores = pool.dense["s"][1]

    def _extents(self, block: Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the features of each field slot lie in the block's pool."""
        if block.opens.shape[1] and self._growing is None:
            return block.opens[:, : self.fields], block.closes[:, : self.fields]
        opens = np.zeros((block.n, self.fields), np.int64)
        closes = np.zeros((block.n, self.fields), np.int64)
        if self._growing is not None:
            (taken,) = np.nonzero(self._growing[0] >= 0)
            slots = self._growing[0][taken]
            opens[:, slots], closes[:, slots] = block.opens[:, taken], block.closes[:, taken]
            return opens, closes
        letters, met = np.unique(block.names, return_index=True)
        for letter in letters[np.argsort(met)].tolist():
            slot = _placed(self._slots, chr(letter), self.fields) if letter else -1
            if slot < 0:
                continue
            rows, groups = np.nonzero(block.names == letter)
            opens[rows, slot] = block.start[rows, groups]
            closes[rows, slot] = block.stop[rows, groups]
        return opens, closes

    def meet(self, fields: Sequence[str], numbers: Sequence[str]) -> None:
        """Give fields met in dicts their places; those that have one keep it.

        Parameters
        ----------
        fields
            Names of the fields the encoder knows now, in its order.
        numbers
            Names of those that are numbers.
        """
        slots = [_placed(self._slots, name, self.fields) for name in fields]
        places = [_placed(self._places, name, self.numbers) for name in numbers]
        self._growing = np.array(slots, np.int64), np.array(places, np.int64)
        self._laid = None

    def slot_names(self, fields: Sequence[str]) -> list[str]:
        """Return what each field slot holds, given the names of the encoder's fields."""
        return _names(self._slots or fields, self.fields, "field")

    def number_names(self, numbers: Sequence[str]) -> list[str]:
        """Return what each number of the table is, given the names of the encoder's numbers."""
        return _names(self._places or numbers, self.numbers, "number")

    def __getstate__(self) -> dict[str, Any]:
        # Views of an array would be arrays of their own.
        return self.__dict__ | dict.fromkeys(("_given", "_laid", "_copy")) | {"_pools": {}}

    def state(self) -> dict[str, Any]:
        """Return which names have which places, as JSON."""
        return {"slots": dict(self._slots), "places": dict(self._places)}

    def restore(self, meta: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self._slots, self._places = dict(meta["slots"]), dict(meta["places"])


def _placed(places: dict[str, int], name: str, most: int) -> int:
    """Return the place of a name, the next free one where it is new; -1 when none is free."""
    if name not in places and len(places) < most:
        places[name] = len(places)
    return places.get(name, -1)


def _names(known: Iterable[str], count: int, what: str) -> list[str]:
    """Return so many names, made up where they are not known."""
    names = list(known)[:count]
    return names + [f"{what} {place}" for place in range(len(names), count)]


def _extent(block: Block) -> tuple[int, int]:
    """Return the stretch of the pool that a block's records lie in."""
    groups = block.names != 0
    if not groups.any():
        return 0, 0
    return int(block.start[groups].min()), int(block.stop[groups].max())
