"""Serving: margins and leaves of the generation in service, at the rows a tape predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import MARGIN, PREDICT, Block, Tape
from onlinestack.kernel import bound, kernel
from onlinestack.trees.forest import Forest, leaf_hashes, leaf_rows, places, score_rows
from onlinestack.trees.guard import CLICKS, WEIGHT, rate_logit
from onlinestack.trees.model import COLUMNS
from onlinestack.trees.window import clipped

__all__ = ["Generation", "mark_leaves", "serve"]

ZERO = np.float32(0)
ONE = np.float32(1)


@kernel()
def serve(
    op: Any,
    row: Any,
    label: Any,
    weight: Any,
    scores: Any,
    column: Any,
    source: Any,
    rate: Any,
) -> None:
    """Write the member's margin at the rows a tape predicts; count clicks at those it learns.

    Parameters
    ----------
    op, row
        The tape.
    label, weight, scores
        Of the block; a label above 0 is a click.
    column
        The member's column of the scores.
    source
        Column to take the margin from: its own where a generation has just written it, that of
        the base margin before there is one, -1 for none. Where it is not finite, and without
        one, the margin is that of the running click rate.
    rate
        ``float64[2]``: weight of the clicks and of all records learned so far.
    """
    for step in range(len(op)):
        r = row[step]
        if op[step] == PREDICT:
            margin = rate_logit(rate[CLICKS], rate[WEIGHT])
            if source >= 0 and np.isfinite(scores[r, source]):
                margin = clipped(scores[r, source])
            scores[r, column] = margin
            continue
        w = np.float64(weight[r])
        rate[WEIGHT] += w
        if label[r] > ZERO:
            rate[CLICKS] += w


@kernel()
def mark_leaves(op: Any, row: Any, index: Any, value: Any, trees: Any) -> None:
    """Give the leaves of the first trees the value 1 at the rows a tape predicts, others none.

    Parameters
    ----------
    op, row
        The tape.
    index, value
        ``[n, width]``: namespace ``l`` of the block; the index of a tree that is not there is 0.
    trees
        Trees of the generation in service.
    """
    for step in range(len(op)):
        if op[step] != PREDICT:
            continue
        r = row[step]
        for j in range(value.shape[1]):
            if j >= trees:
                index[r, j] = 0
            value[r, j] = ONE if j < trees else ZERO


class Generation:
    """A generation in service, or none yet.

    Parameters
    ----------
    data
        XGBoost's bytes.
    forest
        The same, flattened; None before the first generation.
    salt
        What its leaves are hashed with, so that old leaf weights never speak for new leaves.

    Examples
    --------
    >>> Generation().forest is None
    True
    """

    def __init__(self, data: bytes = b"", forest: Forest | None = None, salt: int = 0) -> None:
        self.data, self.forest = data, forest
        self._places = places()
        self._names = np.empty(0, np.uint32) if forest is None else leaf_hashes(forest, salt)

    def score(self, block: Block, tape: Tape, column: int, base: int) -> None:
        """Write margins into a column of the scores, starting from those in column ``base``.

        Does nothing before the first generation.
        """
        if self.forest is not None:
            score_rows(*self._arguments(block, tape, column, base))

    def bind(self, block: Block, tape: Tape, column: int, base: int) -> list[Callable[[], object]]:
        """Return what does the same as `score`, for a block that is filled again and again."""
        if self.forest is None:
            return []
        return [bound(score_rows, *self._arguments(block, tape, column, base))]

    def _arguments(self, block: Block, tape: Tape, column: int, base: int) -> tuple[Any, ...]:
        return (
            tape.op,
            tape.row,
            block.table,
            self.forest,
            self._places,
            block.scores,
            base,
            column,
            MARGIN,
        )

    def shap(
        self, values: NDArray[np.float32], base: float | None
    ) -> tuple[list[int], list[float], float] | None:
        """Return what each column adds to the margin of one record, by XGBoost's TreeSHAP.

        Parameters
        ----------
        values
            ``float32[t]``: the record's row of the table.
        base
            The margin that the trees start from; None for their own.

        Returns
        -------
        The columns the generation was trained on, what each adds, and what is left for none of
        them: the mean over records, and ``base``. None before the first generation.
        """
        if self.forest is None:
            return None
        import xgboost

        booster = xgboost.Booster(model_file=bytearray(self.data))
        columns = [int(column) for column in booster.attr(COLUMNS).split(",")]
        record = xgboost.DMatrix(values[None, columns], nthread=1)
        if base is not None:
            record.set_base_margin(np.array([base], np.float32))
        adds = booster.predict(record, pred_contribs=True)[0].astype(np.float64).tolist()
        return columns, adds[:-1], adds[-1]

    def gains(self) -> dict[int, float]:
        """Return the total gain of each column that the trees split on; none before the first."""
        if self.forest is None:
            return {}
        import xgboost

        booster = xgboost.Booster(model_file=bytearray(self.data))
        columns = booster.attr(COLUMNS).split(",")
        gains = booster.get_score(importance_type="total_gain")
        return {int(columns[int(name[1:])]): float(gain) for name, gain in gains.items()}

    def fill_leaves(self, block: Block, tape: Tape) -> None:
        """Fill namespace ``l``: one feature a tree, none before the first generation."""
        index, value = block.dense["l"]
        trees = 0
        if self.forest is not None:
            trees = len(self.forest.root)
            leaf_rows(tape.op, tape.row, block.table, self.forest, self._names, self._places, index)
        mark_leaves(tape.op, tape.row, index, value, trees)
