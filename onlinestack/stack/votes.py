"""Votes of the members on a record, counted alike or by how well each voted before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onlinestack.block import PREDICT, Block, Tape
from onlinestack.kernel import exp32, kernel
from onlinestack.stack.calibration import click_rate, learn_curve, read_curve
from onlinestack.stack.combiner import Combiner

__all__ = ["Majority", "Weighted"]

STEPS = 32
"""Steps between the knots of the curve of weighted votes."""


@kernel()
def vote(
    op: Any,
    row: Any,
    label: Any,
    weight: Any,
    members: Any,
    column: Any,
    lesson: Any,
    totals: Any,
    costs: Any,
    curve: Any,
    p: Any,
) -> None:
    """Let the members vote, and predict the click rate of as many votes; see `Weighted`.

    Parameters
    ----------
    op, row
        The tape.
    label, weight
        ``float32[n]``: a label above 0 is a click.
    members
        How many members vote.
    column
        Where the prediction goes.
    lesson
        What a wrong vote costs: 1.0, or 0.0 where all votes count the same for ever.
    totals
        ``float64[2]``: weight of the records so far, and of the clicks.
    costs
        ``float64[members]``: costs of each member's votes so far.
    curve
        ``float64[knots, 2]``: see `read_curve`.
    p
        ``float32[n, K + 2 + C]``: predictions; those of the members are columns 1 to members.
    """
    for step in range(len(op)):
        i = row[step]
        rate = click_rate(totals)
        least = costs[0]
        for k in range(members):
            least = min(least, costs[k])
        eta = math.sqrt(2.0 * math.log(members) / (1.0 + least))
        votes = 0.0
        total = 0.0
        for k in range(members):
            counts = np.float64(exp32(np.float32(eta * (least - costs[k]))))
            total += counts
            if np.float64(p[i, k + 1]) > rate:
                votes += counts
        at = votes / total * (len(curve) - 1)
        if op[step] == PREDICT:
            p[i, column] = read_curve(curve, totals, at)
            continue
        for k in range(members):
            votes_yes = np.float64(p[i, k + 1]) > rate
            if votes_yes != (label[i] > 0):
                costs[k] += lesson * np.float64(weight[i]) * (rate if votes_yes else 1.0 - rate)
        learn_curve(curve, totals, at, label[i], weight[i])


class Majority(Combiner):
    """A majority vote of the members, each for or against more clicks than usual.

    A member votes for a click where its probability is above the click rate so far: where clicks
    are rare, hardly any is ever above one half. A vote is no probability; predicted is the click
    rate so far of records with as many votes.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> block = Block.of([[]] * 60, label=[1, 0] * 30)
    >>> block.p = np.tile(np.array([[0, 0.9, 0.7, 0, 0], [0, 0.1, 0.8, 0, 0]], np.float32), (30, 1))
    >>> Majority(members=2, experts=3, column=4).run(block, immediate_tape(block.label))
    >>> [round(float(p), 2) for p in block.p[-2:, 4]]
    [0.98, 0.02]
    """

    lesson = 0.0

    def __init__(self, members: int, experts: int, column: int) -> None:
        super().__init__(members, experts, column)
        self.arrays["totals"] = np.zeros(2)
        self.arrays["costs"] = np.zeros(members)
        self.arrays["curve"] = np.zeros((self.knots(members), 2))

    @staticmethod
    def knots(members: int) -> int:
        """Return how many knots the curve has: one for each number of votes."""
        return members + 1

    def run(self, block: Block, tape: Tape) -> None:
        """Predict into its column the rows the tape predicts, and learn those it learns."""
        vote(
            tape.op,
            tape.row,
            block.label,
            block.weight,
            self.members,
            self.column,
            self.lesson,
            self.arrays["totals"],
            self.arrays["costs"],
            self.arrays["curve"],
            block.p,
        )


class Weighted(Majority):
    """A majority vote in which members count by how well they voted before.

    A wrong vote costs the click rate where there was no click and 1 less the click rate where
    there was one: then to vote above the click rate is right. A member with costs c counts
    exp(-eta (c - c')), c' the least costs of all and eta = sqrt(2 ln M / (1 + c')) for M members:
    the weighted majority, at a rate that needs no choice. Predicted is the click rate so far where
    the share of votes was about as large.

    Littlestone, N. and Warmuth, M. K. (1994). The weighted majority algorithm. Information and
    Computation 108.
    Auer, P., Cesa-Bianchi, N. and Gentile, C. (2002). Adaptive and self-confident on-line learning
    algorithms. Journal of Computer and System Sciences 64.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> block = Block.of([[]] * 60, label=[1, 0] * 30)
    >>> block.p = np.tile(np.array([[0, 0.9, 0.2, 0, 0], [0, 0.1, 0.8, 0, 0]], np.float32), (30, 1))
    >>> Weighted(members=2, experts=3, column=4).run(block, immediate_tape(block.label))
    >>> [round(float(p), 2) for p in block.p[-2:, 4]]
    [0.98, 0.02]
    """

    lesson = 1.0

    @staticmethod
    def knots(members: int) -> int:
        """Return how many knots the curve has, whatever the number of members."""
        return STEPS + 1
