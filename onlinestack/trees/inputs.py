"""Margins among the inputs of trees: columns of the table that hold scores of other members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import PREDICT, Block, Tape
from onlinestack.kernel import bound, kernel
from onlinestack.trees.window import clipped

__all__ = ["MarginColumns", "copy_margins"]


@kernel()
def copy_margins(op: Any, row: Any, scores: Any, table: Any, source: Any, target: Any) -> None:
    """Copy columns of the scores into columns of the table, at the rows a tape predicts.

    Parameters
    ----------
    op, row
        The tape.
    scores, table
        Of the block.
    source, target
        ``int64[k]``: columns of the scores, and those of the table they go to.
    """
    for step in range(len(op)):
        if op[step] == PREDICT:
            r = row[step]
            for j in range(len(source)):
                table[r, target[j]] = clipped(scores[r, source[j]])


class MarginColumns:
    """Writes margins of other members into the table, so that trees can split on them: a part.

    The table must have room for them behind its own columns. Trees that are not to see them name
    the columns they may split on.

    Parameters
    ----------
    columns
        Column of the table to column of the block's scores.
    needs
        What must have been filled before: those margins.
    fills
        What the readers of the table need.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> block = Block.of([[], []], label=[1, 0])
    >>> block.table = np.array([[1, np.nan], [2, np.nan]], np.float32)
    >>> block.scores = np.array([[0.5, -0.5], [0.25, -0.25]], np.float32)
    >>> MarginColumns({1: 0}).run(block, immediate_tape(block.label))
    >>> block.table.tolist()
    [[1.0, 0.5], [2.0, 0.25]]
    """

    def __init__(
        self, columns: Mapping[int, int], needs: tuple[str, ...] = (), *, fills: str = "margins"
    ) -> None:
        self.needs, self.fills = needs, fills
        self._target = np.array(list(columns.keys()), np.int64)
        self._source = np.array(list(columns.values()), np.int64)

    def run(self, block: Block, tape: Tape) -> None:
        """Copy the margins of the rows that the tape predicts."""
        copy_margins(*self._arguments(block, tape))

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        if tape.learns == len(tape.op):
            return []
        return [bound(copy_margins, *self._arguments(block, tape))]

    def _arguments(self, block: Block, tape: Tape) -> tuple[Any, ...]:
        return tape.op, tape.row, block.scores, block.table, self._source, self._target

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return nothing: it learns nothing."""
        return {}, {}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back nothing."""
