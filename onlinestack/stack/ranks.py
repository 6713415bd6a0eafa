"""Historical ranks: where a margin stands among all that its member gave before.

The sketch of a member's margins is a histogram of 1024 even bins from -13.8 to 13.8, all that a
margin can be, so nothing has to be merged or moved and equal streams have equal sketches. Within
a bin margins count as evenly spread. A Fenwick tree holds the running sums of the bins: entry b,
counted from 1, is the weight of the b & -b bins that end with bin b.

Fenwick, P. M. (1994). A new data structure for cumulative frequency tables. Software: Practice
and Experience 24.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onlinestack.block import MARGIN, PREDICT, Block, Tape
from onlinestack.kernel import kernel
from onlinestack.stack.calibration import learn_curve, read_curve
from onlinestack.stack.combiner import Combiner

__all__ = ["Rank"]

BINS = 1024
"""Bins of a sketch, a power of two; a sketch is ``float64[BINS + 1]``."""
SCALE = BINS / (2.0 * float(MARGIN))
FAR = 8.0
"""Log-odds of mean ranks beyond which all are one."""
FINE = 2
"""Knots a unit of these log-odds."""


@kernel()
def _place(margin: Any) -> Any:
    """Return where a margin lies on the scale of bins, from 0 to BINS."""
    return (np.float64(margin) + np.float64(MARGIN)) * SCALE


@kernel()
def _below(sketch: Any, bins: Any) -> Any:
    """Return the weight in the first so many bins."""
    weight = 0.0
    while bins > 0:
        weight += sketch[bins]
        bins -= bins & -bins
    return weight


@kernel()
def historical_rank(sketch: Any, margin: Any) -> Any:
    """Return the share of earlier margins that lie below one, never 0 or 1.

    Parameters
    ----------
    sketch
        ``float64[BINS + 1]``: of the margins remembered, by weight.
    margin
        As served, within -13.8 and 13.8.

    Examples
    --------
    >>> sketch = np.zeros(BINS + 1)
    >>> for margin in (-2, -1, -1, 3):
    ...     remember(sketch, np.float32(margin), np.float32(1))
    >>> [float(historical_rank(sketch, np.float32(margin))) for margin in (-9, 0, 9)]
    [0.1, 0.7, 0.9]
    """
    place = _place(margin)
    bin_ = min(int(place), BINS - 1)
    below = _below(sketch, bin_)
    here = _below(sketch, bin_ + 1) - below
    return (below + (place - bin_) * here + 0.5) / (sketch[BINS] + 1.0)


@kernel()
def remember(sketch: Any, margin: Any, weight: Any) -> None:
    """Add a margin to a sketch; see `historical_rank`.

    Parameters
    ----------
    sketch, margin
        As there.
    weight
        How much it counts.
    """
    entry = min(int(_place(margin)), BINS - 1) + 1
    while entry <= BINS:
        sketch[entry] += np.float64(weight)
        entry += entry & -entry


@kernel()
def rank(
    op: Any,
    row: Any,
    label: Any,
    weight: Any,
    members: Any,
    column: Any,
    scores: Any,
    totals: Any,
    sketches: Any,
    curve: Any,
    p: Any,
) -> None:
    """Average the members' historical ranks, and predict the click rate of such averages.

    Parameters
    ----------
    op, row, label, weight, members, column, totals, curve, p
        As for `vote`.
    scores
        ``float32[n, K]``: margins as served, members first.
    sketches
        ``float64[members, BINS + 1]``: of the margins of each member so far.
    """
    for step in range(len(op)):
        i = row[step]
        mean = 0.0
        for k in range(members):
            mean += historical_rank(sketches[k], scores[i, k])
        mean /= members
        odds = math.log(mean / (1.0 - mean))
        at = (min(max(odds, -FAR), FAR) + FAR) * FINE
        if op[step] == PREDICT:
            p[i, column] = read_curve(curve, totals, at)
            continue
        for k in range(members):
            remember(sketches[k], scores[i, k], weight[i])
        learn_curve(curve, totals, at, label[i], weight[i])


class Rank(Combiner):
    """The mean of the members' ranks: where each score stands among those given before.

    Use it where members are sure of themselves to very different degrees, which ranks do not
    show. A rank is no probability; predicted is the click rate so far where the mean rank was
    about as high, on a scale of its log-odds, which is as fine for the highest ranks as in the
    middle.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> block = Block.of([[]] * 60, label=[1, 0] * 30)
    >>> block.scores = np.tile(np.array([[9, 0.1], [8, -0.1]], np.float32), (30, 1))
    >>> block.p = np.empty((60, 5), np.float32)
    >>> Rank(members=2, experts=3, column=4).run(block, immediate_tape(block.label))
    >>> [round(float(p), 2) for p in block.p[-2:, 4]]
    [0.97, 0.03]
    """

    def __init__(self, members: int, experts: int, column: int) -> None:
        super().__init__(members, experts, column)
        self.arrays["totals"] = np.zeros(2)
        self.arrays["sketches"] = np.zeros((members, BINS + 1))
        self.arrays["curve"] = np.zeros((int(2 * FAR) * FINE + 1, 2))

    def run(self, block: Block, tape: Tape) -> None:
        """Predict into its column the rows the tape predicts, and learn those it learns."""
        rank(
            tape.op,
            tape.row,
            block.label,
            block.weight,
            self.members,
            self.column,
            block.scores,
            self.arrays["totals"],
            self.arrays["sketches"],
            self.arrays["curve"],
            block.p,
        )
