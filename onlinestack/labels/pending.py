"""The store of pending records: what was served for each, in flat arrays, until it is learned.

Notes
-----
Records are numbered as they are served, and lie in rings: the record numbered i in place i modulo
the size of the ring. Rings start small and double as far as they may, so that memory follows the
most that were ever pending at once. The hashed features, of which records have any number, lie
in a ring of their own in the same order.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block

__all__ = ["DONE", "KEPT", "OPEN", "Pending", "stretches"]

DONE, OPEN, KEPT = range(3)
"""What may become of a record: nothing any more; it will be learned; it may be corrected."""
SMALL = 256
"""Records that the rings have room for at first."""
EXTENTS = ("opens", "closes")


def stretches(begin: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of several stretches one after another.

    Examples
    --------
    >>> stretches(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    behind = np.cumsum(count)
    total = int(behind[-1]) if len(count) else 0
    return np.repeat(begin - (behind - count), count) + np.arange(total)


class Pending:
    """Records as served, oldest first: all of their rows that learning reads.

    What is kept of a record is decided by the first block that is put in: every array handed over
    keeps one row a record. Nothing is computed anew, so what is learned at last does not depend
    on what happened in between.

    Parameters
    ----------
    room
        Most records held at once, 1 or more.

    Attributes
    ----------
    first, last
        The records held are those numbered ``first`` to ``last - 1``.
    due, label, state
        ``int64``, ``float32`` and ``uint8``: when each is to be learned, its label (NaN while not
        known), and one of ``OPEN``, ``KEPT`` and ``DONE``; at the record's number modulo `size`.

    Examples
    --------
    >>> block = Block.of([[("f", [3, 5], [1, 1])], [("f", [7], [1])]])
    >>> store = Pending(room=100)
    >>> numbers = np.array([store.number(due=9), store.number(due=9)])
    >>> store.put(numbers, np.array([0, 1]), block, {"weight": block.weight})
    >>> index, count = store.features(numbers[::-1])
    >>> index.tolist(), count.tolist(), store.bytes_each
    ([7, 3, 5], [1, 2], 39)
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.first = self.last = self.size = 0
        self.due = np.empty(0, np.int64)
        self.label = np.empty(0, np.float32)
        self.state = np.empty(0, np.uint8)
        self._columns: dict[str, NDArray[Any]] = {}
        self._begin = np.empty(0, np.int64)
        self._count = np.empty(0, np.int64)
        self._index = np.empty(0, np.uint32)
        self._start = self._end = 0
        self._kept = 0
        """Records whose features ever lay in the ring, which has taken ``_end`` of them."""

    @property
    def bytes_each(self) -> int:
        """Bytes a record takes, with as many features as one has on average."""
        arrays = (self._begin, self._count, self.due, self.label, self.state)
        fixed = sum(array.itemsize for array in arrays)
        for column in self._columns.values():
            fixed += column.itemsize * int(np.prod(column.shape[1:]))
        features = self._end / max(1, self._kept)
        return fixed + round(self._index.itemsize * features)

    # Records in, records out.

    def number(self, due: int) -> int:
        """Return the number of the next record, to be learned when time is past ``due``.

        Raises
        ------
        ValueError
            Where there is no room left; release the oldest before.
        """
        number = self.last
        if number - self.first >= self.size:
            if self.size >= self.room:
                raise ValueError(f"{self.room} records are held already; release the oldest before")
            self._grow(min(self.room, max(SMALL, 2 * self.size)))
        at = number % self.size
        self.due[at], self.label[at], self.state[at] = due, np.nan, OPEN
        self._begin[at], self._count[at] = self._end, 0
        self.last += 1
        return number

    def put(
        self,
        numbers: NDArray[np.int64],
        rows: NDArray[np.int64],
        block: Block,
        columns: Mapping[str, NDArray[Any]],
    ) -> None:
        """Keep rows of a block for records that were numbered before.

        Parameters
        ----------
        numbers
            ``int64[m]``: the records, in ascending order, behind those put in before.
        rows
            ``int64[m]``: their rows.
        block
            Their hashed features, which all have the value 1: the first group of each row, and
            the extents of its fields.
        columns
            Further arrays with a row for each of the block's.
        """
        at = numbers % self.size
        start = block.start[rows, 0]
        count = block.stop[rows, 0] - start
        for name, values in columns.items():
            self._column(name, values.shape[1:], values.dtype)[at] = values[rows]
        for name, values in zip(EXTENTS, (block.opens, block.closes), strict=True):
            if not values.shape[1]:
                continue
            column = self._column(name, values.shape[1:], np.dtype(np.uint32))
            column[at] = values[rows] - start[:, None]
        end = self._end + int(count.sum())
        if end - self._start > len(self._index):
            self._lengthen(end - self._start)
        self._begin[at] = self._end + np.cumsum(count) - count
        self._count[at] = count
        if end > self._end:
            place = np.arange(self._end, end) % len(self._index)
            self._index[place] = block.index[stretches(start, count)]
        self._end = end
        self._kept += len(numbers)

    def _column(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        if name not in self._columns:
            self._columns[name] = np.zeros((self.size, *shape), dtype)
        return self._columns[name]

    def features(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Return the hashed features of some records one after another, and how many each has."""
        at = numbers % self.size
        count = self._count[at]
        place = stretches(self._begin[at], count)
        return self._index[place % max(1, len(self._index))], count

    def fill(
        self,
        numbers: NDArray[np.int64],
        first: int,
        block: Block,
        columns: Mapping[str, NDArray[Any]],
    ) -> None:
        """Write what is kept of some records into the rows of a block from ``first`` on.

        Parameters
        ----------
        numbers
            ``int64[m]``: the records.
        first
            Row of the first of them.
        block
            Takes the extents of their fields; their features lie in it already.
        columns
            The arrays to write to, by the names they were put in under.
        """
        at, rows = numbers % self.size, slice(first, first + len(numbers))
        for name, target in columns.items():
            target[rows] = self._columns[name][at]
        for name, target in zip(EXTENTS, (block.opens, block.closes), strict=True):
            if target.shape[1]:
                target[rows] = self._columns[name][at] + block.start[rows, :1]

    def refill(self, number: int, block: Block, columns: Mapping[str, NDArray[Any]]) -> bool:
        """Write a record over the only one of a block; tell whether its fields lie there alike.

        Parameters
        ----------
        number
            The record.
        block
            Takes its features.
        columns
            The arrays to write to, by the names they were put in under.
        """
        at, start, stop = number % self.size, int(block.start[0, 0]), int(block.stop[0, 0])
        if self._count[at] != stop - start:
            return False
        for name, extents in zip(EXTENTS, (block.opens, block.closes), strict=True):
            if extents.shape[1] and not (self._columns[name][at] + start == extents[0]).all():
                return False
        first = int(self._begin[at]) % max(1, len(self._index))
        behind = first + stop - start
        if behind > len(self._index):
            return False
        block.index[start:stop] = self._index[first:behind]
        for name, target in columns.items():
            target[0] = self._columns[name][at]
        return True

    def release(self, first: int) -> None:
        """Let go of the records before one."""
        if first > self.first:
            at = np.arange(self.first, first) % self.size
            self._start = max(self._start, int((self._begin[at] + self._count[at]).max()))
            self.first = first

    # Rings that grow.

    def widen(self, name: str, places: NDArray[np.int64], width: int, empty: Any) -> None:
        """Give a column more entries a record, as when fields are met.

        Parameters
        ----------
        name
            The column.
        places
            ``int64``: where its entries so far go.
        width
            Entries from now on.
        empty
            What the new ones hold.
        """
        before = self._columns.get(name)
        if before is not None:
            self._columns[name] = np.full((len(before), width), empty, before.dtype)
            self._columns[name][:, places] = before

    def _grow(self, size: int) -> None:
        """Make the rings longer; each record goes to its place there."""
        held = np.arange(self.first, self.last)

        def longer(old: NDArray[Any]) -> NDArray[Any]:
            new = np.zeros((size, *old.shape[1:]), old.dtype)
            if len(held):
                new[held % size] = old[held % self.size]
            return new

        self._columns = {name: longer(column) for name, column in self._columns.items()}
        self._begin, self._count = longer(self._begin), longer(self._count)
        self.due, self.label, self.state = longer(self.due), longer(self.label), longer(self.state)
        self.size = size

    def _lengthen(self, need: int) -> None:
        """Make the ring of features longer."""
        longer = np.zeros(max(SMALL, 2 * need), np.uint32)
        place = np.arange(self._start, self._end)
        if len(place):
            longer[place % len(longer)] = self._index[place % len(self._index)]
        self._index = longer

    # Snapshots.

    def still(self) -> Pending:
        """Return a store that stays as this one is now; its arrays are plain copies."""
        still = copy.copy(self)
        for name in ("due", "label", "state", "_begin", "_count", "_index"):
            setattr(still, name, getattr(self, name).copy())
        still._columns = {name: column.copy() for name, column in self._columns.items()}
        return still

    def save(self, first: int) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the records from ``first`` on as arrays and JSON.

        Of those that nothing may become of any more only the place is kept.
        """
        held = np.arange(first, self.last)
        at = held % max(1, self.size)
        live = held[self.state[at] != DONE]
        index, count = self.features(live) if len(live) else (self._index[:0], self._count[:0])
        arrays = {f"column/{name}": c[live % self.size] for name, c in self._columns.items()}
        arrays |= {"due": self.due[at], "label": self.label[at], "state": self.state[at]}
        return arrays | {"index": index, "count": count}, {"first": first, "last": self.last}

    def load(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back what `save` returned."""
        self.__init__(self.room)  # type: ignore[misc]
        self.first = self.last = meta["first"]
        for due in arrays["due"].tolist():
            self.number(due)
        if not self.size:
            return
        at = np.arange(self.first, self.last) % self.size
        self.label[at], self.state[at] = arrays["label"], arrays["state"]
        live = np.arange(self.first, self.last)[arrays["state"] != DONE]
        for key, values in arrays.items():
            if key.startswith("column/"):
                name = key.removeprefix("column/")
                self._column(name, values.shape[1:], values.dtype)[live % self.size] = values
        count = arrays["count"]
        self._end, self._kept = len(arrays["index"]), len(live)
        self._index = np.array(arrays["index"], np.uint32)
        self._begin[:] = self._end
        self._begin[live % self.size], self._count[live % self.size] = (
            np.cumsum(count) - count,
            count,
        )
