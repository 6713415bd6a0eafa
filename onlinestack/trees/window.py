"""The window: the records learned lately, as trees read them, for the next generation.

Notes
-----
The record learned as number i (from 0) lies in row i modulo the capacity of a ring, whatever
blocks it came in; so the ring is the same for any size of blocks, and what lies where after a
resume too. The ring is longer than the window by some slack: the rows of a cut stay where they are
until as many records as the slack holds have been learned behind it, so that a training may read
them in place while the stream goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN, MARGIN, Block, Tape
from onlinestack.kernel import bound, kernel
from onlinestack.trees.boosted import Rows

__all__ = ["Ring", "Window", "append", "clipped"]

ZERO = np.float32(0)
ONE = np.float32(1)


class Ring(NamedTuple):
    """The arrays of a window.

    Parameters
    ----------
    table
        ``float32[capacity, t]``: what trees read of a record.
    label
        ``float32[capacity]``: 1 for a click, 0 for none.
    weight
        ``float32[capacity]``.
    kept
        ``float32[k, capacity]``: margins as served, one row for each that is kept.
    """

    table: NDArray[np.float32]
    label: NDArray[np.float32]
    weight: NDArray[np.float32]
    kept: NDArray[np.float32]


@kernel()
def clipped(margin: Any) -> Any:
    """Return a margin within +-13.815511, a probability of 1e-6 to 1 - 1e-6; 0 for NaN."""
    if np.isnan(margin):
        return ZERO
    return min(max(np.float32(margin), -MARGIN), MARGIN)


@kernel()
def append(
    op: Any,
    row: Any,
    table: Any,
    label: Any,
    weight: Any,
    scores: Any,
    columns: Any,
    ring: Any,
    learned: Any,
) -> Any:
    """Keep the rows a tape learns, in its order; return the new count of records learned.

    Parameters
    ----------
    op, row
        The tape.
    table, label, weight, scores
        Of the block; a label above 0 is a click.
    columns
        ``int64[k]``: columns of ``scores`` whose margins are kept.
    ring
        The arrays of the window.
    learned
        Records learned before.
    """
    capacity = len(ring.label)
    for step in range(len(op)):
        if op[step] != LEARN:
            continue
        r = row[step]
        at = learned % capacity
        for j in range(table.shape[1]):
            ring.table[at, j] = table[r, j]
        ring.label[at] = ONE if label[r] > ZERO else ZERO
        ring.weight[at] = weight[r]
        for k in range(len(columns)):
            ring.kept[k, at] = clipped(scores[r, columns[k]])
        learned += 1
    return learned


class Window:
    """The records learned lately, as trees read them: a part of the learner.

    Use one for all tree members; each may train on fewer rows than it holds. Memory is fixed by
    the settings, and touched only as records come. Records of weight 0 are kept like others: the
    clock counts them, and trees ignore them.

    Parameters
    ----------
    width
        Columns of the table of a block.
    needs
        What must have been filled before a record is kept: the table and the margins.
    rows
        Records the window holds, unless they would take more than ``room``.
    room
        Bytes the window and its slack may take.
    slack
        Records that may be learned behind a cut before its oldest row is written over; at least
        the longest lag of the members.
    keep
        Margins that are kept: names to columns of the scores of a block.

    Raises
    ------
    ValueError
        Where not one row has room beside the slack.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> block = Block.of([[], [], []], label=[1, 0, 1])
    >>> block.table = np.array([[1], [2], [3]], np.float32)
    >>> window = Window(1, rows=2, slack=1)
    >>> window.run(block, immediate_tape(block.label))
    >>> [rows.table.tolist() for rows in window.chunks(cut=3, rows=2)]
    [[[2.0], [3.0]]]
    """

    fills = "window"

    def __init__(
        self,
        width: int,
        needs: tuple[str, ...] = (),
        *,
        rows: int = 200_000,
        room: int = 2**28,
        slack: int = 4096,
        keep: Mapping[str, int] | None = None,
    ) -> None:
        keep = dict(keep or {})
        if rows < 1 or slack < 1:
            raise ValueError(
                f"a window of {rows} rows with {slack} rows of slack was asked for; expected at "
                "least 1 of each: give more"
            )
        one = 4 * (width + 2 + len(keep))
        self.rows = min(rows, room // one - slack)
        """Records the window really holds."""
        if self.rows < 1:
            raise ValueError(
                f"a window of {room:,} bytes has no room for a row of {one:,} bytes beside "
                f"{slack:,} rows of slack; give it more bytes or fewer columns"
            )
        self.needs = needs
        self.slack = slack
        self.capacity = self.rows + slack
        self.learned = 0
        """Records learned so far, whether still held or not."""
        self.keep = keep
        """The margins kept: names to columns of the scores of a block."""
        self._names = list(keep)
        self._columns = np.array(list(keep.values()), np.int64)
        # Not touched yet, so not resident: a short stream does not pay for a long window.
        self._ring = Ring(
            np.empty((self.capacity, width), np.float32),
            np.empty(self.capacity, np.float32),
            np.empty(self.capacity, np.float32),
            np.empty((len(keep), self.capacity), np.float32),
        )

    def run(self, block: Block, tape: Tape) -> None:
        """Keep the rows that the tape learns.

        Raises
        ------
        ValueError
            Where the block's table is not as wide as the window's.
        """
        width = self._ring.table.shape[1]
        if block.table.shape[1] != width:
            raise ValueError(
                f"the block has a table of {block.table.shape[1]} columns; expected {width}: fill "
                "it for the same fields as the window was made for"
            )
        self.learned = append(*(*self._arguments(block, tape), self.learned))

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        if not tape.learns:
            return []
        appended = bound(append, *self._arguments(block, tape), more=(self.learned,))

        def call() -> None:
            self.learned = appended(self.learned)

        return [call]

    def _arguments(self, block: Block, tape: Tape) -> tuple[Any, ...]:
        return (
            tape.op,
            tape.row,
            block.table,
            block.label,
            block.weight,
            block.scores,
            self._columns,
            self._ring,
        )

    def _views(self, cut: int, rows: int) -> list[slice]:
        """Return where the last rows learned before a cut lie, oldest first."""
        first = max(cut - rows, 0)
        if cut > self.learned or first < self.learned - self.capacity:
            raise ValueError(
                f"the rows {first:,} to {cut:,} were asked for; the window holds "
                f"{max(self.learned - self.capacity, 0):,} to {self.learned:,}: give it more slack"
            )
        start, stop = first % self.capacity, first % self.capacity + cut - first
        views = [slice(start, min(stop, self.capacity)), slice(0, max(stop - self.capacity, 0))]
        return [view for view in views if view.stop > view.start]

    def chunks(self, cut: int, rows: int) -> list[Rows]:
        """Return the last rows learned before a cut, oldest first, as one or two views.

        Parameters
        ----------
        cut
            Count of records learned that the rows end at.
        rows
            How many of them, if so many have been learned.

        Raises
        ------
        ValueError
            Where such rows are not held, or not any longer.
        """
        table, label, weight, _ = self._ring
        return [Rows(table[at], label[at], weight[at]) for at in self._views(cut, rows)]

    def margins(self, name: str, cut: int, rows: int) -> NDArray[np.float32]:
        """Return one of the margins kept, of the rows that `chunks` returns, as one new array.

        Parameters
        ----------
        name
            Name of the margin.
        cut, rows
            As for `chunks`.

        Raises
        ------
        ValueError
            Where the margin is not kept, or the rows are not held.
        """
        if name not in self._names:
            raise ValueError(
                f"the window keeps the margins {self._names}; {name!r} was asked for: keep it"
            )
        margin = self._ring.kept[self._names.index(name)]
        views = self._views(cut, rows)
        return np.concatenate([np.empty(0, np.float32), *(margin[at] for at in views)])

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the filled rows and the count of records, from which `restore` goes on.

        The large arrays are views, so that saving takes no second window of memory: copy what
        must outlive the next quantum.
        """
        filled = min(self.learned, self.capacity)
        arrays: dict[str, NDArray[Any]] = {
            "table": self._ring.table[:filled],
            "label": self._ring.label[:filled],
            "weight": self._ring.weight[:filled],
            "kept": np.ascontiguousarray(self._ring.kept[:, :filled]),
        }
        return arrays, {"learned": self.learned, "capacity": self.capacity, "keep": self._names}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned.

        Raises
        ------
        ValueError
            Where it is the state of another window.
        """
        width = self._ring.table.shape[1]
        theirs = [meta["capacity"], arrays["table"].shape[1], list(meta["keep"])]
        if theirs != [self.capacity, width, self._names]:
            raise ValueError(
                f"the state is that of a window of {theirs[0]:,} rows, {theirs[1]} columns and "
                f"margins {theirs[2]}; this one has {self.capacity:,}, {width} and "
                f"{self._names}: use the same configuration"
            )
        self.learned = meta["learned"]
        filled = min(self.learned, self.capacity)
        self._ring.table[:filled] = arrays["table"]
        self._ring.label[:filled] = arrays["label"]
        self._ring.weight[:filled] = arrays["weight"]
        self._ring.kept[:, :filled] = arrays["kept"]
