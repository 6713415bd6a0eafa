"""Where the labels of a run come from, when they come later than its records.

Labels of a run are merged with its records by time, and never read ahead of it: between two
records come the labels whose time lies before that of the second. A label at the time of a record
comes behind it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa  # noqa: TID253 (loaded with the run, whose source has loaded it)
from numpy.typing import NDArray

from onlinestack.io.batch import Batch, Reject
from onlinestack.io.source import Source
from onlinestack.io.times import NOT_A_TIME
from onlinestack.labels.attribution import packed, unpacked
from onlinestack.late import LateLabel

__all__ = ["LabelColumn", "LabelFiles", "named"]

END = 2**63 - 1
"""Behind all time."""


def named(batch: Batch) -> Batch:
    """Return a batch whose records have ids: their numbers in the run where they have none."""
    if batch.id is not None:
        return batch
    return replace(batch, id=pa.array(map(str, batch.row.tolist()), pa.string()))


class LabelFiles:
    """Labels from files of their own: an id and a time a row, in order of time.

    Parameters
    ----------
    source
        The files; rows without a label column are clicks.

    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._batches: Iterator[Batch] | None = None
        self._batch: Batch | None = None
        """The batch at hand, without the rows that can not be used."""
        self._rows: list[tuple[str, bool, int]] = []
        self._at = 0
        self._told = 0
        """Rejects of the batch that were returned."""
        self._skipped: list[Reject] = []
        """Rejects of batches before it that were not."""
        self._before = 0
        """Rows read before it."""

    @property
    def read(self) -> int:
        """Rows read so far, rejected ones counted."""
        return self._before + self._taken()

    def _taken(self) -> int:
        """Return how many rows of the batch at hand are behind us, rejected ones counted."""
        batch = self._batch
        if batch is None or self._at >= len(self._rows):
            return 0 if batch is None else batch.read
        return int(batch.row[self._at]) - batch.position["row"]

    def rejects(self) -> list[Reject]:
        """Return rows that say of no record when it got which label, each once."""
        if self._batch is None:
            return []
        end = self._batch.position["row"] + self._taken()
        lost = [reject for reject in self._batch.rejects[self._told :] if reject.row < end]
        self._told += len(lost)
        lost, self._skipped = self._skipped + lost, []
        return lost

    def between(self, batch: Batch) -> list[LateLabel]:
        """Return the labels that come before the records of a batch, the next of the run."""
        assert batch.time is not None  # noqa: S101 - checked when the run was opened
        labels = []
        for row, time in enumerate(batch.time.tolist()):
            while time != NOT_A_TIME and (label := self._next()) is not None and label[2] < time:
                labels.append(LateLabel(row, *label))
                self._at += 1
        return labels

    def rest(self) -> list[LateLabel]:
        """Return some more labels behind the last record; none at the end."""
        labels = []
        if self._next() is not None:
            labels = [LateLabel(0, *label) for label in self._rows[self._at :]]
            self._at = len(self._rows)
        return labels

    def _next(self) -> tuple[str, bool, int] | None:
        """Return the next label without taking it."""
        while self._at >= len(self._rows):
            if self._batches is None:
                self._batches = iter(self.source)
            batch = next(self._batches, None)
            if batch is None:
                return None
            self._open(batch)
        return self._rows[self._at]

    def _open(self, batch: Batch) -> None:
        """Go on to the next batch of labels."""
        assert batch.time is not None and batch.id is not None  # noqa: S101 - as above
        labelled = self.source.schema.label is not None
        ids, times = batch.id.to_pylist(), batch.time
        reasons = {}
        for row, id in enumerate(ids):
            if not id:
                reasons[row] = "a label without an id belongs to no record"
            elif times[row] == NOT_A_TIME:
                reasons[row] = "a label without a time has no place among the records"
            elif labelled and np.isnan(batch.label[row]):
                reasons[row] = "the label is missing"
        self._skipped += self.rejects()
        self._before = self.read
        self._batch, self._at, self._told = batch.coded(batch.label, reasons), 0, 0
        self._rows = [
            (ids[row], not labelled or bool(batch.label[row] > 0), int(times[row]))
            for row in range(batch.n)
            if row not in reasons
        ]

    # Snapshots.

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return where the labels stand, as arrays and JSON."""
        return {}, {
            "fingerprint": self.source.fingerprint(),
            "position": None if self._batch is None else self._batch.position,
            "skip": self._taken(),
            "read": self.read,
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where `state` was asked for."""
        if meta["position"] is not None:
            self.source.seek(meta["position"], meta["skip"])
        self._before = meta["read"]

    def close(self) -> None:
        """Close the files."""
        self.source.close()


class LabelColumn:
    """Labels of the records themselves, known from the time in another of their columns on.

    The labels of records that were read wait in memory until the run gets there.
    """

    read = 0

    def __init__(self) -> None:
        self._coming: list[tuple[int, int, str, bool]] = []
        """Time, number of the record, id and label: a heap."""

    def between(self, batch: Batch) -> list[LateLabel]:
        """Return the labels that come before or between the records of a batch."""
        assert batch.time is not None and batch.label_time is not None  # noqa: S101 - as above
        assert batch.id is not None  # noqa: S101 - `named` saw to it
        labels: list[LateLabel] = []
        known, ids = batch.label_time.tolist(), batch.id.to_pylist()
        for row, time in enumerate(batch.time.tolist()):
            if time != NOT_A_TIME:
                labels += self._before(row, time)
            y = batch.label[row]
            if known[row] != NOT_A_TIME and not np.isnan(y) and ids[row]:
                number = int(batch.row[row])
                heapq.heappush(self._coming, (known[row], number, ids[row], bool(y > 0)))
        return labels

    def rejects(self) -> list[Reject]:
        """Return nothing: who can not be read is among the rejects of the records."""
        return []

    def rest(self) -> list[LateLabel]:
        """Return the labels behind the last record; none when they were all returned."""
        return list(self._before(0, END))

    def _before(self, row: int, time: int) -> Iterator[LateLabel]:
        while self._coming and self._coming[0][0] < time:
            when, _, id, y = heapq.heappop(self._coming)
            yield LateLabel(row, id, y, when)

    # Snapshots.

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the labels that are to come, as arrays and JSON."""
        coming = sorted(self._coming)
        ids, length = packed(id for _, _, id, _ in coming)
        return {
            "time": np.array([time for time, _, _, _ in coming], np.int64),
            "number": np.array([number for _, number, _, _ in coming], np.int64),
            "click": np.array([y for _, _, _, y in coming], np.bool_),
            "id": ids,
            "length": length,
        }, {}

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        ids = unpacked(arrays["id"], arrays["length"])
        columns = arrays["time"].tolist(), arrays["number"].tolist(), ids, arrays["click"].tolist()
        self._coming = list(zip(*columns, strict=True))

    def close(self) -> None:
        """Do nothing."""
