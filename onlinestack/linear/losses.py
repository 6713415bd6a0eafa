"""Losses, their gradients and importance-aware updates, and links.

Every loss is a code and one branch in five small functions; the training loop is written once
and takes any of them. All arithmetic is float32 with one rounding an operation, in the order
written, unless a value is named double: a different order is a different learner.

References
----------
[^1]: Karampatziakis, N. and Langford, J. (2011). Online importance weight aware updates. UAI.
[^2]: Vowpal Wabbit 9.11, whose float32 behaviour these functions follow to the operation.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from onlinestack.block import MARGIN
from onlinestack.kernel import exp32, expm132, kernel, log1p32, log32

__all__ = [
    "LINKS",
    "LOSSES",
    "Loss",
    "derivative",
    "importance_update",
    "link",
    "link_all",
    "logistic_step",
    "loss_of",
    "plain_update",
    "share_of_yes",
    "squared_gradient",
]

SQUARED, CLASSIC, HINGE, LOGISTIC, QUANTILE, EXPECTILE, POISSON = range(7)
LOSSES = {
    "squared": SQUARED,
    "classic": CLASSIC,
    "hinge": HINGE,
    "logistic": LOGISTIC,
    "quantile": QUANTILE,
    "expectile": EXPECTILE,
    "poisson": POISSON,
}
"""Loss names and their codes, Vowpal Wabbit's own names."""

IDENTITY, LOGISTIC_LINK, GLF1, POISSON_LINK = range(4)
LINKS = {"identity": IDENTITY, "logistic": LOGISTIC_LINK, "glf1": GLF1, "poisson": POISSON_LINK}
"""Link names and their codes; a link changes what is returned, never what is learned."""

ZERO, ONE, TWO, FOUR = np.float32(0), np.float32(1), np.float32(2), np.float32(4)
EXP_LIMIT = np.float32(44)
POISSON_OFFSET = np.float32(1e-6)
FAR = np.float32(80)
LEAST, MOST = np.float32(1e-6), np.float32(1 - 1e-6)
"""Where a logistic loss of no weight may still be infinite, and nothing times it no number."""


class Loss(NamedTuple):
    """What a kernel must know of a loss.

    Parameters
    ----------
    code
        One of `LOSSES`.
    tau
        Quantile of ``quantile``, or q of ``expectile``.
    low
        Label that means "no" for ``logistic`` and ``hinge``.
    high
        Label that means "yes"; labels between the two are soft labels for ``logistic``.
    """

    code: int = LOGISTIC
    tau: np.float32 = np.float32(0.5)
    low: np.float32 = np.float32(0)
    high: np.float32 = np.float32(1)


@kernel()
def share_of_yes(loss: Any, y: Any) -> Any:
    """Return the share of the label that is a yes: 0 for ``low``, 1 for ``high``."""
    return np.float32(np.float32(y - loss.low) / np.float32(loss.high - loss.low))


@kernel()
def _sign(loss: Any, y: Any) -> Any:
    """Return the label as the hinge loss reads it: -1 for ``low``, 1 for ``high``."""
    if loss.low == -ONE and loss.high == ONE:
        return np.float32(y)
    return np.float32(np.float32(TWO * share_of_yes(loss, y)) - ONE)


@kernel()
def loss_of(loss: Any, p: Any, y: Any, low: Any, high: Any) -> Any:
    """Return the loss of predicting p (finalised, before the link) where the label was y.

    ``low`` and ``high`` are the range predictions are clamped to, beyond which the squared loss
    goes on as a straight line.

    Examples
    --------
    >>> import numpy as np
    >>> from onlinestack.linear.losses import LOSSES, Loss, loss_of
    >>> f = np.float32
    >>> float(loss_of(Loss(LOSSES["squared"]), f(0.5), f(1), f(0), f(1)))
    0.25
    >>> round(float(loss_of(Loss(LOSSES["logistic"]), f(0), f(1), f(-50), f(50))), 4)
    0.6931
    """
    code = loss.code
    if code == LOGISTIC:
        z = share_of_yes(loss, y)
        if z == ONE and p < FAR:
            return log32(ONE + exp32(-p))
        if z == ZERO and p > -FAR:
            return log32(ONE + exp32(p))
        yes, no = log32(ONE + exp32(-p)), log32(ONE + exp32(p))
        return np.float32(np.float32(z * yes) + np.float32(np.float32(ONE - z) * no))
    if code == HINGE:
        return max(ZERO, np.float32(ONE - np.float32(_sign(loss, y) * p)))
    if code == QUANTILE:
        error = np.float32(y - p)
        if error > ZERO:
            return np.float32(loss.tau * error)
        return np.float32(-(ONE - loss.tau) * error)
    if code == POISSON:
        x = min(max(p, -EXP_LIMIT), EXP_LIMIT)
        gap = np.float32(log32(np.float32(y + POISSON_OFFSET)) - x)
        return np.float32(TWO * np.float32(np.float32(y * gap) - np.float32(y - exp32(x))))
    error = np.float32(p - y)
    value = np.float32(error * error)
    if code != CLASSIC:
        if p < low:
            edge = np.float32(y - low)
            value = ZERO
            if edge != ZERO:
                slope = 2.0 * np.float64(edge) * np.float64(np.float32(low - p))
                value = np.float32(np.float64(np.float32(edge * edge)) + slope)
        elif p > high:
            edge = np.float32(high - y)
            value = ZERO
            if edge != ZERO:
                slope = 2.0 * np.float64(edge) * np.float64(np.float32(p - high))
                value = np.float32(np.float64(np.float32(edge * edge)) + slope)
    if code == EXPECTILE:
        value = np.float32(value * _expectile_rate(loss, p, y))
    return value


@kernel()
def _expectile_rate(loss: Any, p: Any, y: Any) -> Any:
    if np.float32(y - p) < ZERO:
        return loss.tau
    return np.float32(ONE - loss.tau)


@kernel()
def derivative(loss: Any, p: Any, y: Any, low: Any, high: Any) -> Any:
    """Return the first derivative of the loss by the prediction.

    Examples
    --------
    >>> import numpy as np
    >>> f = np.float32
    >>> float(derivative(Loss(LOSSES["logistic"]), f(0), f(1), f(-50), f(50)))
    -0.5
    """
    code = loss.code
    if code == LOGISTIC:
        z = share_of_yes(loss, y)
        if z == ONE:
            return np.float32(-ONE / np.float32(ONE + exp32(p)))
        if z == ZERO:
            return np.float32(ONE / np.float32(ONE + exp32(-p)))
        yes = np.float32(-ONE / np.float32(ONE + exp32(p)))
        no = np.float32(ONE / np.float32(ONE + exp32(-p)))
        return np.float32(np.float32(z * yes) + np.float32(np.float32(ONE - z) * no))
    if code == HINGE:
        sign = _sign(loss, y)
        if np.float32(sign * p) >= ONE:
            return ZERO
        return -sign
    if code == QUANTILE:
        error = np.float32(y - p)
        if error == ZERO:
            return ZERO
        if error > ZERO:
            return -loss.tau
        return np.float32(ONE - loss.tau)
    if code == POISSON:
        return np.float32(exp32(min(max(p, -EXP_LIMIT), EXP_LIMIT)) - y)
    x = p
    if code != CLASSIC:
        # One bound or the other: a range may be given whose ends are the wrong way round.
        if p < low:
            x = low
        elif p > high:
            x = high
    slope = np.float32(TWO * np.float32(x - y))
    if code == EXPECTILE:
        slope = np.float32(slope * _expectile_rate(loss, p, y))
    return slope


@kernel()
def squared_gradient(loss: Any, p: Any, y: Any, low: Any, high: Any) -> Any:
    """Return the squared derivative, as the adaptive rule accumulates it.

    Examples
    --------
    >>> import numpy as np
    >>> f = np.float32
    >>> float(squared_gradient(Loss(LOSSES["logistic"]), f(0), f(1), f(-50), f(50)))
    0.25
    """
    code = loss.code
    if code == SQUARED or code == CLASSIC or code == EXPECTILE:
        error = np.float32(p - y)
        value = np.float32(np.float32(FOUR * error) * error)
        if code == EXPECTILE:
            rate = _expectile_rate(loss, p, y)
            value = np.float32(value * np.float32(rate * rate))
        return value
    slope = derivative(loss, p, y, low, high)
    return np.float32(slope * slope)


@kernel()
def plain_update(loss: Any, p: Any, y: Any, rate: Any) -> Any:
    """Return the plain gradient step at a rate: rate times minus the derivative.

    Examples
    --------
    >>> import numpy as np
    >>> f = np.float32
    >>> float(plain_update(Loss(LOSSES["squared"]), f(0), f(1), f(0.5)))
    1.0
    """
    code = loss.code
    if code == LOGISTIC:
        z = share_of_yes(loss, y)
        yes = np.float32(rate / np.float32(ONE + exp32(p)))
        no = np.float32(-rate / np.float32(ONE + exp32(-p)))
        if z == ONE:
            return yes
        if z == ZERO:
            return no
        return np.float32(np.float32(z * yes) + np.float32(np.float32(ONE - z) * no))
    if code == HINGE:
        sign = _sign(loss, y)
        if np.float32(sign * p) >= ONE:
            return ZERO
        return np.float32(sign * rate)
    if code == QUANTILE:
        error = np.float32(y - p)
        if error == ZERO:
            return ZERO
        if error > ZERO:
            return np.float32(loss.tau * rate)
        return np.float32(-(ONE - loss.tau) * rate)
    if code == POISSON:
        x = exp32(min(max(p, -EXP_LIMIT), EXP_LIMIT))
        return np.float32(np.float32(y - x) * rate)
    if code == EXPECTILE:
        rate = np.float32(_expectile_rate(loss, p, y) * rate)
    return np.float32(np.float32(TWO * np.float32(y - p)) * rate)


@kernel()
def _wexpmx(x: Any) -> Any:
    """Return W(e^x) - x, W being Lambert's function, by one Halley-like step in double.

    The step's error of up to 9e-5 is part of the learner: an exact solver learns differently.
    """
    x = np.float64(x)
    if x >= 1.0:
        w = 0.86 * x + 0.01
        r = x - np.float64(math.log(w)) - w
    else:
        w = np.float64(math.exp(0.8 * x - 0.65))
        r = 0.2 * x + 0.65 - w
    t = 1.0 + w
    u = 2.0 * t * (t + 2.0 * r / 3.0)
    return np.float32(w * (1.0 + (r / t) * (u - r) / (u - 2.0 * r)) - x)


@kernel()
def logistic_step(p: Any, c: Any, rate: Any, scale: Any, k: Any) -> Any:
    """Return the closed form of infinitely many infinitely small logistic steps, for label c.

    ``k`` is e to the power c p.
    """
    h = np.float32(rate * scale)
    if np.float64(h) < 1e-6:
        return np.float32(np.float32(c * rate) / np.float32(ONE + k))
    x = np.float32(np.float32(h + np.float32(c * p)) + k)
    return np.float32(-np.float32(np.float32(c * _wexpmx(x)) + p) / scale)


@kernel()
def importance_update(loss: Any, p: Any, y: Any, rate: Any, scale: Any) -> Any:
    """Return the importance-aware step: as if the record were learned in infinitely small parts.

    ``rate`` is learning rate times importance; ``scale`` is the change of the prediction that a
    step of 1 makes (a sum of squares). Never overshoots the label, whatever the importance.

    Examples
    --------
    >>> import numpy as np
    >>> f = np.float32
    >>> round(float(importance_update(Loss(LOSSES["squared"]), f(0), f(1), f(100), f(1))), 4)
    1.0
    """
    code = loss.code
    if code == LOGISTIC:
        z = share_of_yes(loss, y)
        if z == ONE and abs(p) < FAR:
            return logistic_step(p, ONE, rate, scale, exp32(p))
        if z == ZERO and abs(p) < FAR:
            return logistic_step(p, -ONE, rate, scale, exp32(-p))
        yes = logistic_step(p, ONE, rate, scale, exp32(p))
        no = logistic_step(p, -ONE, rate, scale, exp32(-p))
        return np.float32(np.float32(z * yes) + np.float32(np.float32(ONE - z) * no))
    if code == CLASSIC:
        return plain_update(loss, p, y, rate)
    h = np.float32(rate * scale)
    if code == HINGE:
        sign = _sign(loss, y)
        error = np.float32(ONE - np.float32(sign * p))
        if np.float32(sign * p) >= ONE:
            return ZERO
        return np.float32(sign * (rate if h < error else np.float32(error / scale)))
    if code == QUANTILE:
        error = np.float32(y - p)
        other = np.float32(ONE - loss.tau)
        if error == ZERO:
            return ZERO
        if error > ZERO:
            if np.float32(loss.tau * h) < error:
                return np.float32(loss.tau * rate)
            return np.float32(error / scale)
        if np.float32(-other * h) > error:
            return np.float32(np.float32(loss.tau - ONE) * rate)
        return np.float32(error / scale)
    if code == POISSON:
        x = min(max(p, -EXP_LIMIT), EXP_LIMIT)
        e = exp32(x)
        if y > ZERO:
            yr = np.float32(y * rate)
            a = np.float32(yr * scale)
            if a > EXP_LIMIT:
                return np.float32(-np.float32(x - log32(y)) / scale)
            inner = np.float32(np.float32(e * expm132(a)) / y)
            return np.float32(yr - np.float32(log1p32(inner) / scale))
        inner = np.float32(np.float32(e * rate) * scale)
        if np.isfinite(inner):
            return np.float32(-log1p32(inner) / scale)
        return np.float32(-np.float32(x + log32(h)) / scale)
    if code == EXPECTILE:
        rate = np.float32(_expectile_rate(loss, p, y) * rate)
        h = np.float32(rate * scale)
    if np.float64(h) < 1e-6:
        return np.float32(np.float32(TWO * np.float32(y - p)) * rate)
    shrink = np.float32(ONE - exp32(np.float32(np.float32(-TWO * rate) * scale)))
    return np.float32(np.float32(np.float32(y - p) * shrink) / scale)


@kernel()
def link(code: Any, p: Any) -> Any:
    """Return the prediction as it is shown to the outside.

    Examples
    --------
    >>> import numpy as np
    >>> float(link(LINKS["logistic"], np.float32(0))), float(link(LINKS["glf1"], np.float32(0)))
    (0.5, 0.0)
    """
    if code == LOGISTIC_LINK:
        return np.float32(ONE / np.float32(ONE + exp32(-p)))
    if code == GLF1:
        return np.float32(np.float32(TWO / np.float32(ONE + exp32(-p))) - ONE)
    if code == POISSON_LINK:
        return exp32(p)
    return p


@kernel()
def link_all(code: Any, scores: Any, out: Any) -> None:
    """Write the linked predictions of many scores to ``out``."""
    for i in range(scores.shape[0]):
        out[i] = link(code, scores[i])


@kernel()
def click_all(code: Any, scores: Any, out: Any) -> None:
    """Clip scores to margins, and write the click probabilities they are linked to to ``out``."""
    for i in range(scores.shape[0]):
        scores[i] = min(max(scores[i], -MARGIN), MARGIN)
        out[i] = min(max(np.float32(link(code, scores[i])), LEAST), MOST)
