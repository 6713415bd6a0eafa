"""What a run keeps for its report while it goes on: when points are due, slices, rejects, rows.

Nothing here is part of the model or of its snapshot: a run that is resumed counts slices, rejects
and newest rows from where it goes on, and says so.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.metrics import Scoreboard
from onlinestack.report.importance import permuted
from onlinestack.report.slices import Slices

if TYPE_CHECKING:
    from onlinestack.estimator import Board
    from onlinestack.io.batch import Batch, Reject
    from onlinestack.models import Learner

__all__ = ["FIRST", "KEPT", "Watch", "is_point", "next_point"]

FIRST = 128
"""Records between points at first, those at doubling counts not counted."""
KEPT = 128
"""Points that are kept: when there are more, every other is dropped and the next are farther."""
DETAILS = 32
"""Points between two tellings of slices and the like."""
NEWEST = 1024
"""Labelled records, the newest, that fields are permuted over."""
REASONS = 40
"""Reasons of rejects that are told apart."""


def next_point(read: int) -> int:
    """Return the record of the next point behind others: 64 to 128 in all, evenly, and doublings.

    Examples
    --------
    >>> [next_point(read) for read in (0, 5, 128, 16384, 16640)]
    [1, 8, 256, 16640, 16896]
    """
    every = _every(read + 1)
    return min((read // every + 1) * every, 1 << read.bit_length())


def is_point(read: int) -> bool:
    """Tell whether there is a point at a record above 0.

    Examples
    --------
    >>> [is_point(read) for read in (1, 256, 300, 16384, 16512)]
    [True, True, False, True, False]
    """
    return read % _every(read) == 0 or read & (read - 1) == 0


def _every(read: int) -> int:
    """Return how far the points around a record are from each other."""
    return FIRST << max(0, (read - 1) // (FIRST * KEPT)).bit_length()


class Watch:
    """Keeps what the report of a run tells beside its scores.

    Parameters
    ----------
    learner
        What learns.
    fields
        Names of the source's fields, in the order of a batch's columns.
    slice_by
        Which of them to slice by.
    resumed_at
        Records read before.
    sliced
        Whether predictions meet their labels in a batch, so that slices can be kept.
    permute
        Whether fields are to be permuted at the end.

    Raises
    ------
    ValueError
        Where there is no such field.
    """

    def __init__(
        self,
        learner: Learner,
        fields: Sequence[str],
        slice_by: Sequence[str] = (),
        *,
        resumed_at: int = 0,
        sliced: bool = True,
        permute: bool = False,
    ) -> None:
        self._learner, self._fields = learner, tuple(fields)
        self._since = resumed_at
        columns = {name: self._fields.index(name) for name in slice_by}
        self._slices = Slices(learner.aim, columns) if sliced else None
        self._newest: deque[Batch] | None = deque() if permute else None
        self._reasons: Counter[str] = Counter()
        self._points = 0

    def see(self, batch: Batch, p: NDArray[np.float32]) -> None:
        """Hear what was predicted for a batch."""
        if self._slices is not None:
            self._slices.add(batch, p)
        if self._newest is not None and batch.features is None:
            self._newest.append(batch)
            while sum(each.n for each in self._newest) - self._newest[0].n >= NEWEST:
                self._newest.popleft()

    def reject(self, rejects: Iterable[Reject]) -> None:
        """Hear of records that could not be learned."""
        for reject in rejects:
            kind = _kind(reject.reason)
            if kind not in self._reasons and len(self._reasons) >= REASONS:
                kind = "other reasons"
            self._reasons[kind] += 1

    def detailed(self) -> bool:
        """Count a point; tell whether the details are due with it."""
        self._points += 1
        return self._points % DETAILS == 0

    def details(self, board: Board) -> dict[str, Any]:
        """Return reliability, slices, rejects and gains as they stand."""
        told: dict[str, Any] = {"since": self._since}
        if isinstance(board, Scoreboard):
            told["reliability"] = board.reliability(board.names[0])
        if self._slices is not None:
            told |= self._slices.report()
        told["rejects"] = dict(self._reasons.most_common())
        told["gains"] = self._learner.gains()
        return told

    def importance(self) -> dict[str, Any]:
        """Return how much worse the newest rows are predicted with each field permuted."""
        if not self._newest:
            return {}
        return {"importance": permuted(self._learner, self._newest, self._fields, NEWEST)}


def _kind(reason: str) -> str:
    """Return a reason without the values it quotes, so that equal kinds are counted together.

    Examples
    --------
    >>> _kind("label 'x y' is not a finite number")
    'label … is not a finite number'
    """
    return re.sub(r"'[^']*'|\"[^\"]*\"", "…", reason)
