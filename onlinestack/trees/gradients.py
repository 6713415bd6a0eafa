"""Gradients of the log-loss whose sums are exact, so that trees do not depend on threads.

Notes
-----
XGBoost adds gradients up in float64, each thread its own rows; where a sum is rounded, it depends
on how many threads there are, and so may a tree. Gradients that are multiples of one power of two,
small enough that no sum of them needs more than 53 bits, give the same sums in any order. What
that changes of a gradient is at most 2^-31 of the largest weight, for a million rows 2^-33.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import exp32, kernel

__all__ = ["fill_gradients", "grid_of"]

ONE = np.float32(1)
BITS = 53
"""Of a float64's sums."""


def grid_of(weight: NDArray[np.float32]) -> float:
    """Return the power of two that gradients of rows of these weights are multiples of.

    Examples
    --------
    >>> import math, numpy as np
    >>> math.log2(grid_of(np.ones(1000, np.float32)))
    -42.0
    """
    largest = float(weight.max(initial=0.0))
    return math.ldexp(1.0, math.frexp(largest)[1] + len(weight).bit_length() - BITS)


@kernel()
def fill_gradients(
    margin: Any, click: Any, weight: Any, grid: Any, gradient: Any, curvature: Any
) -> None:
    """Fill first and second derivatives of the log-loss by the margin.

    Parameters
    ----------
    margin, click, weight
        ``float32[n]``: of the rows; 1 is a click.
    grid
        float64: what both are rounded to multiples of, see `grid_of`.
    gradient, curvature
        ``float32[n]``: get (p - y)w and p(1 - p)w.
    """
    for i in range(len(margin)):
        p = ONE / (ONE + exp32(-margin[i]))
        w = np.float64(weight[i])
        slope = np.float64(p - click[i]) * w
        bend = np.float64(p * (ONE - p)) * w
        gradient[i] = np.float32(math.floor(slope / grid + 0.5) * grid)
        curvature[i] = np.float32(math.floor(bend / grid + 0.5) * grid)
