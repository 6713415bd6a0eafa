"""The mixture: one probability from those of all experts, never much worse than the best of them.

Notes
-----
Fixed share. Every expert k has a weight, a probability of being the one to listen to; the
prediction is their weighted mean, p = sum of w[k] p[k]. A label multiplies each weight by the
probability the expert gave to what happened, and then a share of every weight is dealt out
evenly, so that an expert that was wrong for months can lead again within a few records. For
labels that come at once and unit weights, on any stream::

    loss(final) <= min over experts of loss(expert) + ln K - n ln(1 - alpha)

Herbster, M. and Warmuth, M. K. (1998). Tracking the best expert. Machine Learning 32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import PREDICT, Block, Tape
from onlinestack.kernel import bound, exp32, kernel

__all__ = ["CLIP", "MEAN", "TOP", "Mixture", "mix", "probability"]

MEAN = "mean"
"""Name of the expert that is the plain mean of the members' scores."""
CLIP = np.float32(1e-6)
ALPHA = 1e-4
ONE = np.float32(1)
TOP = np.float32(ONE - CLIP)
TINY = 1e-300


@kernel()
def probability(score: Any) -> Any:
    """Return the click probability of a margin, clipped to [1e-6, 1 - 1e-6].

    Examples
    --------
    >>> import numpy as np
    >>> float(probability(np.float32(0))), round(float(probability(np.float32(-99))), 7)
    (0.5, 1e-06)
    """
    p = ONE / (ONE + exp32(-score))
    return min(max(p, CLIP), TOP)


@kernel()
def mix(
    op: Any,
    row: Any,
    label: Any,
    weight: Any,
    scores: Any,
    members: Any,
    alpha: Any,
    largest: Any,
    share: Any,
    p: Any,
) -> None:
    """Predict with the weights of the moment; at a label, shift them to those who were right.

    Parameters
    ----------
    op, row
        The tape.
    label, weight
        ``float32[n]``: a label above 0 is a click.
    scores
        ``float32[n, K]``: margins of the experts as served, members first.
    members
        How many of them are members.
    alpha, largest
        Share that is dealt out at a label, and the weight of a record that counts in full.
    share
        ``float64[K + 1]``: the experts' weights, that of the plain mean last.
    p
        ``float32[n, K + 2]``: the mixture's prediction, then the experts', that of the plain mean
        last; written where the tape predicts a row, read where it learns one.
    """
    experts = scores.shape[1]
    total: Any = 0.0
    for step in range(len(op)):
        i = row[step]
        if op[step] == PREDICT:
            total = 0.0
            mean = np.float32(0)
            for k in range(experts):
                q = probability(scores[i, k])
                p[i, k + 1] = q
                total += share[k] * np.float64(q)
                if k < members:
                    mean += scores[i, k]
            q = probability(mean / np.float32(members))
            p[i, experts + 1] = q
            total += share[experts] * np.float64(q)
            p[i, 0] = min(max(np.float32(total), CLIP), TOP)
            continue
        part = min(np.float64(weight[i]), largest) / largest
        if part <= 0.0:
            continue
        total = 0.0
        for k in range(experts + 1):
            given = p[i, k + 1] if label[i] > 0 else ONE - p[i, k + 1]
            likely: Any = np.float64(given)
            if part != 1.0:
                likely = math.pow(likely, part)
            share[k] *= likely
            total += share[k]
        for k in range(experts + 1):
            share[k] = (1.0 - alpha) * share[k] / total + alpha / (experts + 1)


class Mixture:
    """A part that predicts with all experts, each heard as much as it was right lately.

    Use it on top of members and stackers: it makes the choice among them that nobody can make
    beforehand. Its loss is at most that of the best expert plus ``ln K - n ln(1 - alpha)``.

    Parameters
    ----------
    names
        Names of the K experts in the order of the columns of ``block.scores``, members first.
    members
        How many of them are members; the plain mean of their scores is one more expert.
    needs
        What must have run before.
    alpha
        Share of all weights that is dealt out evenly at each label, 0 or more and below 1.
    largest
        Largest weight of a record that is told apart: a record of weight w moves the experts'
        weights as w / largest of a record, at most as a whole one.

    Attributes
    ----------
    share
        ``float64[K + 1]``: the weights, that of the mean last; their sum is 1.

    Raises
    ------
    ValueError
        Where alpha, largest or the number of members is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from onlinestack.block import Block, immediate_tape
    >>> block = Block.of([[]] * 60, label=[1] * 60)
    >>> block.scores = np.tile(np.array([2, -2], np.float32), (60, 1))
    >>> block.p = np.empty((60, 4), np.float32)
    >>> Mixture(["right", "wrong"], 2).run(block, immediate_tape(block.label))
    >>> [round(float(p), 3) for p in block.p[[0, 1, 9], 0]]
    [0.5, 0.693, 0.878]
    """

    fills = "p"
    told = True

    def __init__(
        self,
        names: Sequence[str],
        members: int,
        *,
        needs: tuple[str, ...] = (),
        alpha: float = ALPHA,
        largest: float = 1.0,
    ) -> None:
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha={alpha!r} is no share; give a number from 0 to below 1")
        if not 0 < largest < math.inf:
            raise ValueError(f"largest={largest!r} is no weight; give a number above 0")
        if not 0 < members <= len(names):
            raise ValueError(
                f"{members} of {len(names)} experts are members; give at least one member"
            )
        self.needs = needs
        self.names = (*names, MEAN)
        self.members = members
        self.alpha = alpha
        self.largest = largest
        self.share = np.full(len(self.names), 1.0 / len(self.names))

    def run(self, block: Block, tape: Tape) -> None:
        """Predict the rows the tape predicts into ``block.p``; weigh experts where it learns."""
        mix(*self._arguments(block, tape))

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        return [bound(mix, *self._arguments(block, tape))]

    def _arguments(self, block: Block, tape: Tape) -> tuple[Any, ...]:
        return (
            tape.op,
            tape.row,
            block.label,
            block.weight,
            block.scores,
            self.members,
            self.alpha,
            self.largest,
            self.share,
            block.p,
        )

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the weights and whose they are."""
        return {"share": self.share.copy()}, {"names": list(self.names)}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned.

        Raises
        ------
        ValueError
            Where the weights are those of other experts.
        """
        if list(self.names) != meta["names"]:
            raise ValueError(
                f"the saved weights are of {', '.join(meta['names'])}, the experts are "
                f"{', '.join(self.names)}; use the configuration they were saved with"
            )
        self.share[:] = arrays["share"]
