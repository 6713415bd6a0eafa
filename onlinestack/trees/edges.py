"""Edges of the bins that trees split between: some values of each column, by their ranks.

Notes
-----
XGBoost can find edges itself, by a sketch made for streams; for rows that lie in memory, sorting
takes a twentieth of its time (m). Edges are handed to it as a small table whose columns hold them:
where a column has no more values than bins, each value is an edge.

A value that fills more than two bins by itself gets one of its own, and the others share what is
left evenly, as LightGBM does: click-rate statistics have many records at the overall rate.

References
----------
[^1]: Guolin Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import kernel

__all__ = ["edges_of", "mark_edges"]

NAN = np.float32(np.nan)


def edges_of(table: NDArray[np.float32], max_bin: int) -> NDArray[np.float32]:
    """Return the least value of each column and the edges of its bins behind it.

    Parameters
    ----------
    table
        ``float32[n, t]``; NaN is missing.
    max_bin
        Most bins a column.

    Returns
    -------
    ``float32[max_bin, t]``: growing; NaN behind the last edge.

    Examples
    --------
    >>> import numpy as np
    >>> table = np.array([[3.0, 1.0, np.nan, 1.0, 2.0]], np.float32).T
    >>> edges_of(table, 4)[:, 0].tolist()
    [1.0, 2.0, 3.0, nan]
    >>> edges_of(np.arange(100, dtype=np.float32)[:, None], 4)[:, 0].tolist()
    [0.0, 25.0, 50.0, 75.0]
    """
    ordered = np.ascontiguousarray(table.T)
    ordered.sort(axis=1)
    edges = np.empty((max_bin, len(ordered)), np.float32)
    mark_edges(ordered, edges)
    return edges


@kernel()
def mark_edges(ordered: Any, edges: Any) -> None:
    """Write the edges of columns whose values are in order.

    Parameters
    ----------
    ordered
        ``float32[t, n]``: a column a row, its values growing, NaN last.
    edges
        ``float32[k, t]``: gets at most k values a column, NaN behind them.
    """
    most = edges.shape[0]
    for column in range(ordered.shape[0]):
        values = ordered[column]
        n = len(values)
        while n > 0 and np.isnan(values[n - 1]):
            n -= 1
        edges[:, column] = NAN
        distinct, heavy, light = 0, 0, n
        start = 0
        for stop in range(1, n + 1):
            if stop == n or values[stop] != values[start]:
                distinct += 1
                if (stop - start) * most >= 2 * n:
                    heavy += 1
                    light -= stop - start
                start = stop
        shared = most - 2 * heavy  # a heavy value and the one behind it are edges
        marked, passed, quantile = 0, 0, 0
        behind_heavy = True
        start = 0
        for stop in range(1, n + 1):
            if stop < n and values[stop] == values[start]:
                continue
            marks = behind_heavy or distinct <= most
            behind_heavy = (stop - start) * most >= 2 * n
            if behind_heavy:
                marks = True
            else:
                passed += stop - start
                while quantile < shared and quantile * light // shared < passed:
                    quantile += 1
                    marks = True
            if marks:
                edges[marked, column] = values[start]
                marked += 1
            start = stop
