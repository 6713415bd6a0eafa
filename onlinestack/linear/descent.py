"""Gradient descent: adaptive, normalised and importance-aware, each of them on or off.

A slot holds the weight, its adaptive sum, its scale, and a scratch rate.

References
----------
[^1]: Duchi, J., Hazan, E. and Singer, Y. (2011). Adaptive subgradient methods. JMLR.
[^2]: Ross, S., Mineiro, P. and Langford, J. (2013). Normalized online learning. UAI.
[^3]: Karampatziakis, N. and Langford, J. (2011). Online importance weight aware updates. UAI.
[^4]: Langford, J., Li, L. and Zhang, T. (2009). Sparse online learning via truncated gradient.
[^5]: Tieleman, T. and Hinton, G. (2012). Lecture 6.5: RMSProp. Neural networks for ML, Coursera.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onlinestack.kernel import exp32, kernel, pow32
from onlinestack.linear.losses import (
    LOGISTIC,
    derivative,
    importance_update,
    logistic_step,
    loss_of,
    plain_update,
    share_of_yes,
    squared_gradient,
)
from onlinestack.linear.rule import (
    CLOCK,
    GAMMA,
    GD,
    HIGH,
    KAPPA,
    LOW,
    NORMS,
    SCALE,
    TOTAL,
    truncated,
)

__all__ = ["descend", "descend_swiftly", "is_swift", "predict_swiftly", "synchronise"]

G, N, D = (np.uint64(place) for place in (1, 2, 3))
SLOT = np.uint64(2)
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
X_MIN = np.float32(1.084202e-19)
X2_MIN = np.float32(X_MIN * X_MIN)
FLT_MAX = np.float32(np.finfo(np.float32).max)


@kernel()
def _floored(x: Any) -> Any:
    """Return a value and its square, neither so small that the square would vanish."""
    x2 = np.float32(x * x)
    if x2 < X2_MIN:
        return (X_MIN if x > ZERO else -X_MIN), X2_MIN
    return x, x2


@kernel()
def _rescale(at: Any, size: Any, weights: Any, rule: Any) -> None:
    """Raise a slot's scale to a larger value, and shrink its weight to match."""
    old = weights[at + N]
    if size > old:
        if old > ZERO:
            if rule.power_t == HALF:
                r = np.float32(old / size)
                if not rule.adaptive:
                    r = np.float32(r * r)
            else:
                r = np.float32(size / old)
                r = pow32(np.float32(r * r), np.float32(rule.power_t - ONE))
            weights[at] = np.float32(weights[at] * r)
        weights[at + N] = size


@kernel()
def _normalised(x2: Any, scale: Any) -> Any:
    """Return a squared value over its squared scale."""
    if x2 > FLT_MAX:
        return ONE
    return np.float32(x2 / np.float32(scale * scale))


@kernel()
def _rate(sum2: Any, scale: Any, rule: Any) -> Any:
    """Return a slot's own learning rate."""
    root = rule.power_t == HALF
    rate = ONE
    if rule.adaptive:
        if root:
            rate = np.float32(ONE / np.float32(np.sqrt(sum2)))
        else:
            rate = pow32(sum2, -rule.power_t)
    if rule.normalized:
        if root:
            inverse = np.float32(ONE / scale)
            if not rule.adaptive:
                inverse = np.float32(inverse * inverse)
        else:
            inverse = pow32(np.float32(scale * scale), np.float32(rule.power_t - ONE))
        rate = np.float32(rate * inverse)
    return rate


@kernel()
def _correct(importance: Any, norms: Any, norm: Any, rule: Any) -> Any:
    """Advance the average norm and return the correction that it asks of every step."""
    norm[NORMS] += np.float64(importance) * np.float64(norms)
    norm[TOTAL] += np.float64(importance)
    if rule.power_t == HALF:
        scale = np.float32(np.float32(norm[TOTAL]) / np.float32(norm[NORMS]))
        if rule.adaptive:
            scale = np.float32(np.sqrt(scale))
    else:
        ratio = np.float32(np.float32(norm[NORMS]) / np.float32(norm[TOTAL]))
        scale = pow32(ratio, np.float32(rule.power_t - ONE))
    norm[SCALE] = scale
    return scale


def _prepare_plain(
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    gradient2: Any,
    importance: Any,
    weights: Any,
    norm: Any,
    rule: Any,
) -> Any:
    """Advance adaptive sums and scales; return the prediction's change for a step of 1.

    A sum first fades, if the rule says so, then takes in the squared gradient, as in RMSProp [^5]:
    steps then do not become ever shorter. The clock is the weight's own, records that it learned
    from, so that a rare feature keeps what it knows for as many of its records as a frequent one.

    Scales come first: where a feature is larger than ever before its weight shrinks, so that
    what it adds to predictions stays the same. Then each slot's own rate is left in ``D``.
    """
    total = ZERO
    norms = ZERO
    for i in range(n):
        at = ((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift
        x, x2 = _floored(values[i])
        if rule.adaptive:
            kept = np.float32(rule.fade * weights[at + G])
            weights[at + G] = np.float32(kept + np.float32(gradient2 * x2))
        if rule.normalized:
            _rescale(at, abs(x), weights, rule)
            norms = np.float32(norms + _normalised(x2, weights[at + N]))
        rate = _rate(weights[at + G], weights[at + N], rule)
        weights[at + D] = rate
        total = np.float32(total + np.float32(x2 * rate))
    if rule.normalized:
        total = np.float32(total * _correct(importance, norms, norm, rule))
    return total


@kernel(_prepare_plain)
def _prepare(
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    gradient2: Any,
    importance: Any,
    weights: Any,
    norm: Any,
    rule: Any,
) -> Any:
    """Do the same, without the divisions by 1 where a value of 1 meets a scale of 1."""
    total = ZERO
    norms = ZERO
    swift = rule.adaptive and rule.normalized and rule.power_t == HALF
    for i in range(n):
        at = ((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift
        if swift and values[i] == ONE and weights[at + N] == ONE:
            sum2 = np.float32(np.float32(rule.fade * weights[at + G]) + gradient2)
            rate = np.float32(ONE / np.float32(np.sqrt(sum2)))
            weights[at + G] = sum2
            weights[at + D] = rate
            norms = np.float32(norms + ONE)
            total = np.float32(total + rate)
            continue
        x, x2 = _floored(values[i])
        if rule.adaptive:
            kept = np.float32(rule.fade * weights[at + G])
            weights[at + G] = np.float32(kept + np.float32(gradient2 * x2))
        if rule.normalized:
            _rescale(at, abs(x), weights, rule)
            norms = np.float32(norms + _normalised(x2, weights[at + N]))
        rate = _rate(weights[at + G], weights[at + N], rule)
        weights[at + D] = rate
        total = np.float32(total + np.float32(x2 * rate))
    if rule.normalized:
        total = np.float32(total * _correct(importance, norms, norm, rule))
    return total


@kernel()
def descend(
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
) -> Any:
    """Learn one label by gradient descent and return the step made.

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
    loss = rule.loss
    low, high = np.float32(shared[LOW]), np.float32(shared[HIGH])
    step = ZERO
    if loss_of(loss, p, y, low, high) > ZERO:
        scale = squares
        if rule.adaptive or rule.normalized:
            gradient2 = np.float32(importance * squared_gradient(loss, p, y, low, high))
            scale = ONE
            if gradient2 != ZERO:
                scale = _prepare(
                    n, slots, values, offset, gradient2, importance, weights, norm, rule
                )
        rate = np.float32(rule.eta * importance)
        if not rule.adaptive:
            rate = np.float32(rate * pow32(np.float32(shared[CLOCK]), -rule.power_t))
        if rule.invariant:
            step = importance_update(loss, p, y, rate, scale)
        else:
            step = plain_update(loss, p, y, rate)
        if (rule.l1 > 0.0 or rule.l2 > 0.0) and np.float64(abs(step)) > 1e-8:
            slope = np.float64(derivative(loss, p, y, low, high))
            share = 0.0
            if abs(slope) > 1e-8:
                share = -np.float64(step) / slope
                shared[KAPPA] *= 1.0 - rule.l2 * share
            step = np.float32(step / np.float32(shared[KAPPA]))
            shared[GAMMA] += share * rule.l1
    if rule.sparse_l2 > ZERO:
        step = np.float32(step - np.float32(rule.sparse_l2 * p))
    if np.isnan(step):
        step = ZERO
    if step != ZERO:
        _apply(n, slots, values, offset, step, weights, norm, rule)
    if shared[KAPPA] < 1e-9 or shared[GAMMA] > 1e3:
        synchronise(weights, shared, rule)
    return step


@kernel()
def _apply(
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    step: Any,
    weights: Any,
    norm: Any,
    rule: Any,
) -> None:
    """Write the step to the weights; infinite features change nothing."""
    if rule.normalized:
        step = np.float32(step * np.float32(norm[SCALE]))
    rated = rule.adaptive or rule.normalized
    for i in range(n):
        x = values[i]
        if -FLT_MAX < x < FLT_MAX:
            at = ((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift
            if rated:
                x = np.float32(x * weights[at + D])
            weights[at] = np.float32(weights[at] + np.float32(step * x))


@kernel()
def is_swift(shared: Any, rule: Any) -> Any:
    """Tell whether a rule is Vowpal Wabbit's default for clicks, which has a short cut."""
    return (
        rule.update == GD
        and rule.loss.code == LOGISTIC
        and rule.adaptive
        and rule.normalized
        and rule.invariant
        and rule.power_t == HALF
        and rule.l1 == 0.0
        and rule.l2 == 0.0
        and rule.sparse_l2 == ZERO
        and rule.shift == SLOT
        and shared[KAPPA] == 1.0
        and shared[GAMMA] == 0.0
    )


@kernel()
def predict_swiftly(
    n: Any,
    slots: Any,
    values: Any,
    initial: Any,
    weights: Any,
    rule: Any,
    places: Any,
    sums: Any,
) -> Any:
    """Return the raw sum of `updates.predict`, and whether `descend_swiftly` may follow.

    It may where every value is 1 and every scale 1, or 0 because the slot was never learned.
    Places of the weights and their adaptive sums are kept for it, being in the cache now.
    """
    raw = np.float32(initial)
    even = True
    for i in range(n):
        at = (np.uint64(slots[i]) & rule.mask) << SLOT
        x = values[i]
        raw = np.float32(raw + np.float32(weights[at] * x))
        places[i] = at
        sums[i] = weights[at + G]
        scale = weights[at + N]
        even &= (x == ONE) & (np.float32(scale * np.float32(scale - ONE)) == ZERO)
    return raw, even


@kernel()
def descend_swiftly(
    n: Any,
    p: Any,
    y: Any,
    importance: Any,
    weights: Any,
    norm: Any,
    rule: Any,
    places: Any,
    sums: Any,
    rates: Any,
) -> Any:
    """Learn as `descend` does from what `predict_swiftly` kept; False where that cannot be done.

    Nothing is multiplied or divided by values and scales of 1, and square roots and divisions are
    taken of many features at once.

    Parameters
    ----------
    places, sums
        As `predict_swiftly` left them, no weight having moved since: ``uint64[]``, ``float32[]``.
    rates
        ``float32[]``: scratch.
    """
    z = share_of_yes(rule.loss, y)
    if z != ONE and z != ZERO:
        return False
    c = ONE if z == ONE else -ONE
    k = exp32(np.float32(c * p))
    slope = np.float32(ONE / np.float32(ONE + k))
    gradient2 = np.float32(importance * np.float32(slope * slope))
    if gradient2 == ZERO:
        return False
    if not np.float32(ONE + exp32(-np.float32(c * p))) > ONE:
        return True  # the loss is its logarithm, and there is nothing left to learn
    fade = np.float32(rule.fade)
    for i in range(n):
        sum2 = np.float32(np.float32(fade * sums[i]) + gradient2)
        rates[i] = np.float32(ONE / np.float32(np.sqrt(sum2)))
    total = ZERO
    for i in range(n):
        at = places[i]
        rate = rates[i]
        before = weights[at + G]
        sum2 = np.float32(np.float32(fade * before) + gradient2)
        if before != sums[i]:  # another feature of the record has the same slot
            rate = np.float32(ONE / np.float32(np.sqrt(sum2)))
        weights[at + G] = sum2
        weights[at + N] = ONE
        weights[at + D] = rate
        total = np.float32(total + rate)
    scale = np.float32(total * _correct(importance, np.float32(n), norm, rule))
    step = logistic_step(p, c, np.float32(rule.eta * importance), scale, k)
    if step == step and step != ZERO:
        step = np.float32(step * np.float32(norm[SCALE]))
        for i in range(n):
            at = places[i]
            weights[at] = np.float32(weights[at] + np.float32(step * weights[at + D]))
    return True


@kernel()
def synchronise(weights: Any, shared: Any, rule: Any) -> None:
    """Fold gravity and contraction into every weight."""
    if shared[GAMMA] == 0.0 and shared[KAPPA] == 1.0:
        return
    gravity, contraction = np.float32(shared[GAMMA]), np.float32(shared[KAPPA])
    for slot in range(np.int64(rule.mask) + 1):
        at = np.uint64(slot) << rule.shift
        weights[at] = np.float32(truncated(weights[at], gravity) * contraction)
    shared[GAMMA] = 0.0
    shared[KAPPA] = 1.0
