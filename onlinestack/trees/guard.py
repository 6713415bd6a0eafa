"""The guard: a new generation against what serves, on rows it has not seen."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import MARGIN, PREDICT
from onlinestack.kernel import kernel, log32
from onlinestack.trees.drift import log_loss
from onlinestack.trees.forest import Forest, places, score_rows
from onlinestack.trees.window import Window, clipped

__all__ = ["Verdict", "compare", "judge", "rate_logit"]

ZERO = np.float32(0)

BASE, NEW, OLD = 0, 1, 2
CLICKS, WEIGHT = 0, 1
MASS, MASS_SQUARED, RISE, RISE_TWICE, RISE_SQUARED = 0, 1, 2, 3, 4


class Verdict(NamedTuple):
    """How much worse a new generation is.

    Parameters
    ----------
    rise
        Mean weighted log-loss of the new one, less that of what serves.
    error
        Its standard error.
    """

    rise: float
    error: float

    @property
    def accepted(self) -> bool:
        """Whether it is not worse by more than a standard error."""
        return self.rise <= self.error


@kernel()
def rate_logit(clicks: Any, weight: Any) -> Any:
    """Return the margin of the click rate (clicks + 1/2) / (weight + 1), float32, clipped."""
    return clipped(log32(np.float32((clicks + 0.5) / (weight - clicks + 0.5))))


@kernel()
def compare(label: Any, weight: Any, scores: Any, against: Any, rate: Any, sums: Any) -> None:
    """Add up what a new generation loses more than what serves, row after row.

    Parameters
    ----------
    label, weight
        ``float32[n]``: of rows of the window.
    scores
        ``float32[n, 3]``: margins: base, new generation, old generation.
    against
        Column of the scores that serves; -1 for the running click rate.
    rate
        ``float64[2]``: weight of clicks and of all records before the rows; moves with them.
    sums
        ``float64[5]``: of the weights, of their squares; of the differences of loss times the
        weights, times the squared weights, and squared times the squared weights.
    """
    for i in range(len(label)):
        click = label[i] > ZERO
        served = np.float32(rate_logit(rate[CLICKS], rate[WEIGHT]))
        if against >= 0:
            served = scores[i, against]
        rise = np.float64(log_loss(scores[i, NEW], click)) - np.float64(log_loss(served, click))
        w = np.float64(weight[i])
        rate[WEIGHT] += w
        if click:
            rate[CLICKS] += w
        sums[MASS] += w
        sums[MASS_SQUARED] += w * w
        sums[RISE] += w * rise
        sums[RISE_TWICE] += w * w * rise
        sums[RISE_SQUARED] += w * w * rise * rise


def judge(
    window: Window,
    since: int,
    until: int,
    new: Forest,
    old: Forest | None,
    *,
    base: str | None = None,
    rate: tuple[float, float] = (0.0, 0.0),
) -> Verdict:
    """Compare a new generation with what serves, on the rows learned since its cut.

    What serves is the generation before; or, if there is none, the base margin, or the click rate
    of the records before each row (as if labels came at once).

    Parameters
    ----------
    window
        Holds the rows.
    since, until
        Counts of records learned at the cut and now.
    new, old
        The generations.
    base
        Name of the margin, kept by the window, that they start from.
    rate
        Weight of the clicks and of all records learned before the cut.
    """
    counts, sums = np.array(rate), np.zeros(5)
    against = OLD if old is not None else (BASE if base is not None else -1)
    column = BASE if base is not None else -1
    margins: NDArray[np.float32] | None = None
    if base is not None:
        margins = window.margins(base, until, until - since)
    at = 0
    for rows in window.chunks(until, until - since):
        n = len(rows.label)
        op, row = np.full(n, PREDICT, np.uint8), np.arange(n, dtype=np.int32)
        scores = np.zeros((n, 3), np.float32)
        if margins is not None:
            scores[:, BASE] = margins[at : at + n]
        score_rows(op, row, rows.table, new, places(), scores, column, NEW, MARGIN)
        if old is not None:
            score_rows(op, row, rows.table, old, places(), scores, column, OLD, MARGIN)
        compare(rows.label, rows.weight, scores, against, counts, sums)
        at += n
    if sums[MASS] <= 0:
        return Verdict(0.0, 0.0)
    mean = sums[RISE] / sums[MASS]
    spread = sums[RISE_SQUARED] - 2 * mean * sums[RISE_TWICE] + mean**2 * sums[MASS_SQUARED]
    return Verdict(float(mean), math.sqrt(max(float(spread), 0.0)) / float(sums[MASS]))
