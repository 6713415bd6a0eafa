"""What every update rule shares: how a learner learns, where its state lies, how it clamps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from onlinestack.kernel import kernel
from onlinestack.linear.losses import Loss, loss_of

__all__ = [
    "CLOCK",
    "GAMMA",
    "HIGH",
    "KAPPA",
    "LOW",
    "NORMS",
    "SCALE",
    "SHARED",
    "SHIFTS",
    "TOTAL",
    "UPDATES",
    "Rule",
    "finalize",
    "truncated",
    "weighted_loss",
]

GD, FTRL, PISTOL, COIN = range(4)
UPDATES = {"gd": GD, "ftrl": FTRL, "pistol": PISTOL, "coin": COIN}
"""Families of update rules and their codes."""
SHIFTS = {GD: 2, FTRL: 2, PISTOL: 2, COIN: 3}
"""Base-2 logarithm of the numbers a slot has; the weight comes first."""
KEPT = {GD: 3, FTRL: 3, PISTOL: 4, COIN: 6}
"""How many of them are state; the rest is scratch or padding."""

LOW, HIGH, CLOCK, GAMMA, KAPPA = range(5)
SHARED = 5
"""Places in the shared state: clamp range, labelled weight so far (that of the record being learned
counted in), gravity, contraction."""
NORMS, TOTAL, SCALE = range(3)
"""Places in a weight vector's own state: normalised norms, their weight, their correction."""


ZERO = np.float32(0)


class Rule(NamedTuple):
    """How a linear learner learns.

    Parameters
    ----------
    update
        One of `UPDATES`.
    loss
        The loss and its settings.
    adaptive, normalized, invariant
        Which of the three refinements of gradient descent are on.
    eta
        Learning rate.
    power_t
        Power of the decay of rates; 0.5 takes square roots instead of powers.
    l1, l2
        Regularisation, applied lazily through gravity and contraction.
    alpha, beta
        Settings of ftrl, pistol and coin.
    mask
        Number of slots, less one.
    shift
        Base-2 logarithm of the numbers a slot has.
    track
        Whether the clamp range grows with the labels seen.
    with_label
        Whether the prediction given out is the one of the learning step, clamped to a range that
        includes the label itself, as Vowpal Wabbit prints it; otherwise nothing of the label is
        in it.
    sparse_l2
        Pull of every step against the prediction itself, in gradient descent.
    fade
        What an adaptive sum is multiplied with each time that its weight learns, in gradient
        descent; 1 keeps it as it is, exactly.
    """

    update: int = GD
    loss: Loss = Loss()
    adaptive: bool = True
    normalized: bool = True
    invariant: bool = True
    eta: np.float32 = np.float32(0.5)
    power_t: np.float32 = np.float32(0.5)
    l1: float = 0.0
    l2: float = 0.0
    alpha: np.float32 = np.float32(0.5)
    beta: np.float32 = np.float32(1)
    mask: np.uint64 = np.uint64((1 << 18) - 1)
    shift: np.uint64 = np.uint64(2)
    track: bool = True
    with_label: bool = False
    sparse_l2: np.float32 = np.float32(0)
    fade: np.float32 = np.float32(1)


@kernel()
def finalize(raw: Any, low: Any, high: Any) -> Any:
    """Return a raw sum clamped to a range; not-a-number becomes 0.

    Examples
    --------
    >>> import numpy as np
    >>> float(finalize(np.float32(3), np.float32(0), np.float32(1)))
    1.0
    """
    if np.isnan(raw):
        return ZERO
    if raw > high:
        return high
    if raw < low:
        return low
    return raw


@kernel()
def truncated(w: Any, gravity: Any) -> Any:
    """Return a weight pulled towards zero by the gravity that l1 has gathered so far."""
    if gravity < abs(w):
        if w >= ZERO:
            return np.float32(w - gravity)
        return np.float32(w + gravity)
    return ZERO


@kernel()
def weighted_loss(p: Any, y: Any, importance: Any, shared: Any, rule: Any) -> Any:
    """Return the weighted loss; nothing where there is no label or no weight."""
    if np.isnan(y) or not importance > ZERO:
        return ZERO
    low, high = np.float32(shared[LOW]), np.float32(shared[HIGH])
    return np.float32(loss_of(rule.loss, p, y, low, high) * importance)
