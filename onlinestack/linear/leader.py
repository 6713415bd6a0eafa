"""Followers of the regularised leader: ftrl, and the parameter-free pistol and coin.

A slot holds the weight, the sum of gradients, their accumulated size and, for pistol and coin,
the largest value met; for coin also the wealth won so far and the largest gradient.

References
----------
[^1]: McMahan, H. B. et al. (2013). Ad click prediction: a view from the trenches. KDD.
[^2]: Orabona, F. (2014). Simultaneous model selection and optimization through parameter-free
    stochastic learning. NeurIPS.
[^3]: Orabona, F. and Tommasi, T. (2017). Training deep networks without learning rates through
    coin betting. NeurIPS.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onlinestack.kernel import exp32, kernel
from onlinestack.linear.losses import derivative
from onlinestack.linear.rule import HIGH, LOW, NORMS, SCALE, TOTAL

__all__ = ["bet", "learn_coin", "learn_ftrl", "learn_pistol", "refresh"]

Z, G2, MX, WE, MG = (np.uint64(place) for place in range(1, 6))
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)


@kernel()
def _slope(p: Any, y: Any, importance: Any, shared: Any, rule: Any) -> Any:
    low, high = np.float32(shared[LOW]), np.float32(shared[HIGH])
    return np.float32(derivative(rule.loss, p, y, low, high) * importance)


@kernel()
def learn_ftrl(
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    p: Any,
    y: Any,
    importance: Any,
    weights: Any,
    shared: Any,
    rule: Any,
) -> None:
    """Learn one label by follow-the-proximally-regularised-leader."""
    slope = _slope(p, y, importance, shared, rule)
    l1, l2 = np.float32(rule.l1), np.float32(rule.l2)
    for i in range(n):
        at = ((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift
        gradient = np.float32(slope * values[i])
        old = weights[at + G2]
        new = np.float32(old + np.float32(gradient * gradient))
        root = np.float32(np.sqrt(new))
        sigma = np.float32(np.float32(root - np.float32(np.sqrt(old))) / rule.alpha)
        z = np.float32(weights[at + Z] + np.float32(gradient - np.float32(sigma * weights[at])))
        weights[at + Z] = z
        weights[at + G2] = new
        sign = ONE if z >= ZERO else -ONE
        size = np.float32(z * sign)
        w = ZERO
        if not size <= l1:
            slack = np.float32(np.float32(rule.beta + root) / rule.alpha)
            step = np.float32(ONE / np.float32(l2 + slack))
            w = np.float32(np.float32(step * sign) * np.float32(l1 - size))
        weights[at] = w


@kernel()
def refresh(n: Any, slots: Any, values: Any, offset: Any, weights: Any, rule: Any) -> Any:
    """Compute pistol's weights anew and return the raw sum over them."""
    raw = ZERO
    for i in range(n):
        at = ((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift
        x = values[i]
        most = max(weights[at + MX], abs(x))
        weights[at + MX] = most
        z, g2 = weights[at + Z], weights[at + G2]
        theta = np.float32(z * z)
        inverse = np.float32(
            ONE / np.float32(np.float32(rule.alpha * most) * np.float32(g2 + most))
        )
        w = np.float32(np.float32(np.float32(np.sqrt(g2)) * rule.beta) * z)
        w = np.float32(w * exp32(np.float32(np.float32(theta / TWO) * inverse)))
        w = np.float32(w * inverse)
        weights[at] = w
        raw = np.float32(raw + np.float32(w * x))
    return raw


@kernel()
def learn_pistol(
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    p: Any,
    y: Any,
    importance: Any,
    weights: Any,
    shared: Any,
    rule: Any,
) -> None:
    """Learn one label by pistol: only sums of gradients move, weights follow at the next look."""
    slope = _slope(p, y, importance, shared, rule)
    for i in range(n):
        at = ((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift
        gradient = np.float32(slope * values[i])
        weights[at + Z] = np.float32(weights[at + Z] - gradient)
        weights[at + G2] = np.float32(weights[at + G2] + abs(gradient))


@kernel()
def _stake(at: Any, most: Any, weights: Any, rule: Any) -> Any:
    """Return the share of the wealth that coin bets on a slot."""
    k = np.float32(weights[at + MG] * most)
    if k > ZERO:
        wealth = np.float32(rule.alpha + weights[at + WE])
        share = np.float32(wealth / np.float32(k * np.float32(k + weights[at + G2])))
        return np.float32(share * weights[at + Z])
    return ZERO


@kernel()
def bet(
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    importance: Any,
    weights: Any,
    norm: Any,
    rule: Any,
) -> Any:
    """Return coin's raw sum: what its stakes add up to, over the average norm."""
    total = ZERO
    norms = ZERO
    for i in range(n):
        at = ((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift
        x = values[i]
        most = max(weights[at + MX], abs(x))
        total = np.float32(total + np.float32(_stake(at, most, weights, rule) * x))
        if most > ZERO:
            part = np.float32(x / most)
            norms = np.float32(norms + np.float32(part * part))
    norm[NORMS] += np.float64(importance) * np.float64(norms)
    norm[TOTAL] += np.float64(importance)
    average = np.float32((norm[NORMS] + 1e-6) / norm[TOTAL])
    norm[SCALE] = average
    return np.float32(total / average)


@kernel()
def learn_coin(
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    p: Any,
    y: Any,
    importance: Any,
    weights: Any,
    shared: Any,
    norm: Any,
    rule: Any,
) -> None:
    """Learn one label by coin betting."""
    slope = _slope(p, y, importance, shared, rule)
    average = np.float32(norm[SCALE])
    for i in range(n):
        at = ((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift
        gradient = np.float32(slope * values[i])
        most = max(weights[at + MX], abs(values[i]))
        weights[at + MX] = most
        if abs(slope) > weights[at + MG]:
            weights[at + MG] = max(abs(slope), rule.beta)
        w = _stake(at, most, weights, rule)
        weights[at + Z] = np.float32(weights[at + Z] - gradient)
        weights[at + G2] = np.float32(weights[at + G2] + abs(gradient))
        won = np.float32(-gradient * w)
        weights[at + WE] = np.float32(weights[at + WE] + won)
        weights[at] = np.float32(w / average)
