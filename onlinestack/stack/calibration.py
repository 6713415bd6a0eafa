"""Calibration: from any number that tells clicks from others to the click rate it has stood for.

Votes and ranks are no probabilities. What is predicted for them is the click rate seen so far
where the number was about as large: rates are kept at knots, evenly spaced, and a number between
two of them reads, and is learned by, both in proportion.

Zadrozny, B. and Elkan, C. (2001). Obtaining calibrated probability estimates from decision trees
and naive Bayesian classifiers. ICML 18 (histogram binning; here with bins that overlap).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onlinestack.kernel import kernel
from onlinestack.stack.mixture import CLIP, TOP

__all__ = ["PRIOR", "click_rate", "learn_curve", "read_curve"]

WEIGHT, CLICKS = range(2)
PRIOR = 1.0
"""Records that the overall click rate counts for at each knot."""


@kernel()
def click_rate(totals: Any) -> Any:
    """Return the click rate of ``float64[2]``, weight and weight of clicks, never 0 or 1.

    Examples
    --------
    >>> float(click_rate(np.array([9.0, 2.0])))
    0.25
    """
    return (totals[CLICKS] + 0.5) / (totals[WEIGHT] + 1.0)


@kernel()
def read_curve(curve: Any, totals: Any, at: Any) -> Any:
    """Return the click rate at a place on the curve, as a probability (float32).

    Parameters
    ----------
    curve
        ``float64[knots, 2]``: weight of the records at each knot, and of the clicks; two knots or
        more.
    totals
        ``float64[2]``: the same of all records.
    at
        The place: 0.0 is the first knot, knots - 1 the last.

    Examples
    --------
    >>> curve, totals = np.array([[90.0, 0], [90, 9]]), np.array([179.0, 17.5])
    >>> [round(float(read_curve(curve, totals, at)), 3) for at in (0.0, 0.5, 1.0)]
    [0.001, 0.051, 0.1]
    """
    low = min(int(at), len(curve) - 2)
    overall = click_rate(totals)
    rate = 0.0
    for knot in range(low, low + 2):
        near = 1.0 - abs(at - knot)
        here = (curve[knot, CLICKS] + PRIOR * overall) / (curve[knot, WEIGHT] + PRIOR)
        rate += near * here
    return min(max(np.float32(rate), CLIP), TOP)


@kernel()
def learn_curve(curve: Any, totals: Any, at: Any, label: Any, weight: Any) -> None:
    """Learn a record at a place on the curve; see `read_curve`.

    Parameters
    ----------
    curve, totals, at
        As there.
    label, weight
        The record's; a label above 0 is a click.

    Examples
    --------
    >>> curve, totals = np.zeros((3, 2)), np.zeros(2)
    >>> learn_curve(curve, totals, 1.25, np.float32(1), np.float32(1))
    >>> curve.tolist(), totals.tolist()
    ([[0.0, 0.0], [0.75, 0.75], [0.25, 0.25]], [1.0, 1.0])
    """
    w = np.float64(weight)
    clicks = w if label > 0 else 0.0
    low = min(int(at), len(curve) - 2)
    for knot in range(low, low + 2):
        near = 1.0 - abs(at - knot)
        curve[knot, WEIGHT] += near * w
        curve[knot, CLICKS] += near * clicks
    totals[WEIGHT] += w
    totals[CLICKS] += clicks
