"""Update rules: what a prediction sums, and what a label changes.

A rule reads the working list that `interactions.gather` wrote; it knows neither namespaces nor
pairs. Weights are one float32 array, the numbers of one slot side by side, so that a slot is one
cache line.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onlinestack.kernel import kernel
from onlinestack.linear.descent import descend
from onlinestack.linear.leader import bet, learn_coin, learn_ftrl, learn_pistol, refresh
from onlinestack.linear.rule import COIN, FTRL, GAMMA, GD, KAPPA, PISTOL, truncated

__all__ = ["learn", "look_again", "predict"]


@kernel()
def predict(
    n: Any, slots: Any, values: Any, offset: Any, initial: Any, weights: Any, shared: Any, rule: Any
) -> Any:
    """Return the raw sum over a working list, before clamping.

    Parameters
    ----------
    n
        Length of the working list.
    slots, values
        ``uint32[]`` and ``float32[]``: the working list.
    offset
        Which of the weight vectors of each feature.
    initial
        Offset of the record.
    weights
        ``float32[slots * width]``.
    shared
        ``float64[SHARED]``: the state all weight vectors share.
    rule
        The `Rule`.
    """
    raw = np.float32(initial)
    if rule.l1 > 0.0 and rule.update == GD:
        gravity = np.float32(shared[GAMMA])
        for i in range(n):
            w = weights[((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift]
            raw = np.float32(raw + np.float32(truncated(w, gravity) * values[i]))
    else:
        for i in range(n):
            w = weights[((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift]
            raw = np.float32(raw + np.float32(w * values[i]))
    if rule.update == GD:
        raw = np.float32(raw * np.float32(shared[KAPPA]))
    return raw


@kernel()
def look_again(
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    raw: Any,
    importance: Any,
    weights: Any,
    norm: Any,
    rule: Any,
) -> Any:
    """Return the raw sum that learning starts from, given that of `predict`.

    Gradient descent and ftrl start from the prediction itself; pistol and coin bring their
    weights up to date with the record's values first.
    """
    if rule.update == PISTOL:
        return refresh(n, slots, values, offset, weights, rule)
    if rule.update == COIN:
        return bet(n, slots, values, offset, importance, weights, norm, rule)
    return raw


@kernel()
def learn(
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    p: Any,
    y: Any,
    importance: Any,
    squares: Any,
    weights: Any,
    shared: Any,
    norm: Any,
    rule: Any,
) -> None:
    """Learn one label from the prediction that `look_again` led to.

    Parameters
    ----------
    p
        Prediction, finalised.
    y
        Label.
    importance
        Weight of the record, above 0.
    squares
        Sum of squares of the features, read where neither adaptive nor normalized is on.
    norm
        ``float64[3]``: the weight vector's own state.

    The others are those of `predict`.
    """
    if rule.update == FTRL:
        learn_ftrl(n, slots, values, offset, p, y, importance, weights, shared, rule)
    elif rule.update == PISTOL:
        learn_pistol(n, slots, values, offset, p, y, importance, weights, shared, rule)
    elif rule.update == COIN:
        learn_coin(n, slots, values, offset, p, y, importance, weights, shared, norm, rule)
    else:
        descend(n, slots, values, offset, p, y, importance, squares, weights, shared, norm, rule)
