from __future__ import annotations

import numpy as np
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from onlinestack.trees.edges import edges_of


def column_of(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def shares(column: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count the values between an edge and the next."""
    known = column[~np.isnan(column)]
    return np.bincount(np.searchsorted(edges, known, side="right") - 1, minlength=len(edges))


some = st.one_of(
    st.integers(-5, 5).map(float), st.floats(-1e3, 1e3, width=32), st.just(float("nan"))
)


@given(st.lists(some, min_size=1, max_size=300), st.integers(2, 16))
def test_edges_are_values_in_order_and_no_bin_is_too_full(values, most):
    column = column_of(values)
    edges = edges_of(column, most)[:, 0]
    edges, rest = edges[~np.isnan(edges)], edges[np.count_nonzero(~np.isnan(edges)) :]
    assert np.isnan(rest).all()
    known = column[~np.isnan(column)]
    distinct, counts = np.unique(known, return_counts=True)
    assert np.isin(edges, distinct).all()
    assert (np.diff(edges) > 0).all()
    assert not len(known) or edges[0] == distinct[0]
    if len(distinct) <= most:
        assert edges.tolist() == distinct.tolist()
        return
    heavy = counts * most >= 2 * len(known)
    bins = shares(column, edges)
    for value, count in zip(distinct[heavy], counts[heavy], strict=True):
        assert bins[edges.tolist().index(value)] == count, "a heavy value shares its bin"
    shared = most - 2 * np.count_nonzero(heavy)
    limit = counts[~heavy].sum() / shared + counts[~heavy].max()
    assert bins[~np.isin(edges, distinct[heavy])].max() <= limit


def test_columns_do_not_hear_each_other():
    table = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    table[:, 2] = np.nan
    alone = np.concatenate([edges_of(table[:, [j]], 8) for j in range(4)], axis=1)
    np.testing.assert_array_equal(edges_of(table, 8), alone)


def test_xgboost_takes_each_edge_for_a_cut():
    column = np.random.default_rng(1).exponential(size=(4000, 1)).astype(np.float32)
    edges = edges_of(column, 32)
    matrix = xgboost.QuantileDMatrix(edges, max_bin=32, nthread=1)
    bounds, cuts = matrix.get_quantile_cut()
    assert bounds.tolist() == [0, len(cuts)]
    # the first edge is the least value, below which there is no bin
    assert set(edges[1:, 0].tolist()) <= set(cuts.tolist())
