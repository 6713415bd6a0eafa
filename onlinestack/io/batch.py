"""Batch: consecutive records of a source, decoded and ready for the encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.block import Block
from onlinestack.io.patterns import NOT_A_TIME

__all__ = ["Batch", "Position", "Reject"]


class Position(TypedDict):
    """Where a source stands, as JSON-able numbers; `Source.seek` goes there.

    ``file`` is the file's number from 0, ``record`` and ``row`` the records of that file and of
    the run before this point. ``offset`` is the nearest point a reader can start from, and
    ``skip`` the number of records between there and here.
    """

    file: int
    offset: int
    skip: int
    record: int
    row: int


class Reject(NamedTuple):
    """A record that was read but can not be learned.

    Parameters
    ----------
    row
        Number of the record in the run, from 0.
    source
        Path of its file.
    position
        Number of the record in its file, from 1.
    reason
        Why, in a few words.
    text
        The record as it was written, cut to 200 characters.
    """

    row: int
    source: str
    position: int
    reason: str
    text: str


@dataclass(slots=True)
class Batch:
    """Consecutive records of a source.

    Parameters
    ----------
    row
        ``int64[n]``: number of the record in the run, from 0, rejected ones counted.
    label
        ``float32[n]``: 1 for a click, 0 for none, or the number that was to be read; NaN for no
        label.
    weight
        ``float32[n]``: importance.
    initial
        ``float32[n]``: offset of the raw prediction (Vowpal Wabbit text).
    columns
        One Arrow array of length n for each field of the schema; empty for Vowpal Wabbit text.
    features
        The parsed features of Vowpal Wabbit text, else None.
    id
        ``string[n]``, or None without an id column.
    time
        ``int64[n]``: microseconds since the epoch, or None without a time column.
    rejects
        The records of this stretch of the source that are not in the batch, in order.
    read
        Records of the source consumed: ``n + len(rejects)``. The batch may hold rejects alone.
    position
        Where the source stands before the batch.
    classes
        Names of classes instead of labels, ``string[n]``, null for no label; else None.
    path
        File the records are from.
    texts
        Returns the texts of records given by their numbers from ``begin`` on; None if not known.
    begin
        Number in the run of the first record of the stretch that the batch is cut from.
    label_time
        ``int64[n]``: when each label became known, in microseconds since the epoch; None where
        that was at once.
    prepared
        What an encoder made of the columns ahead of its turn, None where none did.
    ahead
        Rows of what was prepared that come before the first of the batch, which was cut from it.
    """

    row: NDArray[np.int64]
    label: NDArray[np.float32]
    weight: NDArray[np.float32]
    initial: NDArray[np.float32]
    columns: list[Any]
    features: Block | None
    id: pa.Array | None
    time: NDArray[np.int64] | None
    rejects: list[Reject]
    read: int
    position: Position
    classes: pa.Array | None = None
    path: str = ""
    texts: Callable[[list[int]], list[str]] | None = None
    begin: int = 0
    label_time: NDArray[np.int64] | None = None
    prepared: Any = None
    ahead: int = 0

    @property
    def n(self) -> int:
        """Number of records in the batch."""
        return len(self.row)

    def rows(self, start: int, stop: int) -> Batch:
        """Return the records ``start`` to ``stop`` as a view.

        Each rejected record goes with the record before it, those before the first with that;
        so consecutive slices together hold what the batch holds.
        """
        base = self.position["row"]
        first = 0 if start <= 0 else int(self.row[start]) - base if start < self.n else self.read
        last = int(self.row[stop]) - base if stop < self.n else self.read
        return self.part(first, max(first, last))

    def part(self, first: int, last: int) -> Batch:
        """Return what was read from the ``first`` record to the ``last``, rejected ones counted."""
        if first <= 0 and last >= self.read:
            return self
        base = self.position["row"]
        start, stop = np.searchsorted(self.row, [base + first, base + last]).tolist()
        size = stop - start
        position: Position = {
            "file": self.position["file"],
            "offset": self.position["offset"],
            "skip": self.position["skip"] + first,
            "record": self.position["record"] + first,
            "row": base + first,
        }
        return replace(
            self,
            row=self.row[start:stop],
            label=self.label[start:stop],
            weight=self.weight[start:stop],
            initial=self.initial[start:stop],
            columns=[column.slice(start, size) for column in self.columns],
            features=None if self.features is None else self.features.rows(start, stop),
            id=None if self.id is None else self.id.slice(start, size),
            time=None if self.time is None else self.time[start:stop],
            label_time=None if self.label_time is None else self.label_time[start:stop],
            classes=None if self.classes is None else self.classes.slice(start, size),
            rejects=[r for r in self.rejects if base + first <= r.row < base + last],
            read=last - first,
            position=position,
            ahead=self.ahead + start,
        )

    def seconds(self, start: int, stop: int) -> NDArray[np.float64] | None:
        """Return the times of some records in seconds, NaN where missing; None without times."""
        if self.time is None:
            return None
        time = self.time[start:stop]
        return np.where(time == NOT_A_TIME, np.nan, time / 1e6)

    def coded(self, label: NDArray[np.float32], reasons: Mapping[int, str]) -> Batch:
        """Return the batch with other labels, some of its records moved to the rejects.

        Parameters
        ----------
        label
            ``float32[n]``: the labels.
        reasons
            Why a record can not be learned, by its place in the batch.
        """
        if not reasons:
            return replace(self, label=label, classes=None)
        rows = sorted(reasons)
        numbers = self.row[rows].tolist()
        texts = [""] * len(rows)
        if self.texts is not None:
            texts = self.texts([number - self.begin for number in numbers])
        to_file = self.position["record"] - self.position["row"] + 1
        lost = [
            Reject(number, self.path, number + to_file, reasons[row], text)
            for row, number, text in zip(rows, numbers, texts, strict=True)
        ]
        keep = np.ones(self.n, np.bool_)
        keep[rows] = False
        mask = pa.array(keep)
        return replace(
            self,
            row=self.row[keep],
            label=label[keep],
            weight=self.weight[keep],
            initial=self.initial[keep],
            columns=[column.filter(mask) for column in self.columns],
            features=None if self.features is None else _only(self.features, keep),
            id=None if self.id is None else self.id.filter(mask),
            time=None if self.time is None else self.time[keep],
            label_time=None if self.label_time is None else self.label_time[keep],
            classes=None,
            rejects=sorted([*self.rejects, *lost]),
            prepared=None,
        )


def _only(block: Block, keep: NDArray[np.bool_]) -> Block:
    """Return the records of Vowpal Wabbit text that a mask keeps, over the same pool."""
    return Block(
        block.label[keep],
        block.weight[keep],
        block.initial[keep],
        block.row[keep],
        block.index,
        block.value,
        block.names[keep],
        block.start[keep],
        block.stop[keep],
        block.numbers[keep],
    )
