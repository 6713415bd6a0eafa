"""The walk from root to leaf, for the rows a tape predicts.

A booster asked for the score of one record takes 80 microseconds, nearly all of them on the way
to its trees; a kernel that walks the same trees takes a few. It adds the same float32 numbers in
the same order, so that its margins are XGBoost's own, bit for bit.

Notes
-----
Children lie side by side, so that the way down is an addition and not a jump; a leaf is its own
child, so that all trees may go as many steps as the deepest. One row walks many trees at a time:
the ways are independent, and the compiler turns a step in 16 trees into one of vectors where the
processor can gather. Positions are unsigned, because compiled code would first look whether a
signed one counts from the end. (m) 60 trees of
depth 6 on 290 columns, blocks of 4096: 1.8 to 4.6 times as fast as XGBoost's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import PREDICT
from onlinestack.kernel import kernel
from onlinestack.murmur import uniform_hash
from onlinestack.trees.model import Forest, ForestError, flatten

__all__ = [
    "Forest",
    "ForestError",
    "flatten",
    "leaf_hashes",
    "leaf_rows",
    "places",
    "score_rows",
]

ABREAST = 64
"""Trees that are walked side by side."""

EVEN = np.uint32(1)


def leaf_hashes(forest: Forest, salt: int) -> NDArray[np.uint32]:
    """Return the hash of each node as a feature of namespace ``l``.

    Use it once a generation, with a salt of its own, so that weights learned for old leaves never
    speak for new ones.

    Parameters
    ----------
    forest
        The generation's trees.
    salt
        Number of the generation.

    Returns
    -------
    ``uint32[N]``: MurmurHash3 of salt, number of the tree and XGBoost's number of the node, each
    as 4 bytes, the first one first.

    References
    ----------
    [^1]: Xinran He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", 2014.

    Examples
    --------
    >>> at, value = np.zeros(1, np.uint32), np.zeros(1, np.float32)
    >>> leaf = Forest(at, value, at, value, at, at, at.astype(np.int32), np.float32(0))
    >>> leaf_hashes(leaf, 1).item(), leaf_hashes(leaf, 2).item()
    (3563421123, 1536738813)
    """
    sizes = np.diff(forest.root, append=len(forest.name))
    names = np.empty((len(forest.name), 3), "<u4")
    names[:, 0] = salt % 2**32
    names[:, 1] = np.repeat(np.arange(len(sizes)), sizes)
    names[:, 2] = forest.name
    return np.array([uniform_hash(name.tobytes(), 0) for name in names], np.uint32)


def places() -> NDArray[np.uint32]:
    """Return the memory the walks need; one for each thread, for any number of walks.

    Examples
    --------
    >>> places().shape
    (64,)
    """
    return np.zeros(ABREAST, np.uint32)


def _leaf(values: Any, forest: Forest, tree: int) -> int:
    """Return the position of the leaf that a tree sends a row to."""
    at = int(forest.root[tree])
    while forest.child[at] != at:
        x = values[forest.feature[at] // 2]
        missing_right = forest.feature[at] % 2 == 1
        right = missing_right if np.isnan(x) else not x < forest.threshold[at]
        at = int(forest.child[at]) + right
    return at


def _score_rows(
    op: Any,
    row: Any,
    table: Any,
    forest: Forest,
    places: Any,
    scores: Any,
    base: int,
    column: int,
    limit: Any,
) -> None:
    """Write the margins of the rows that the tape predicts.

    A margin is what the row brings, or the forest's own base, and then the leaf of each tree in
    turn, added in float32.

    Parameters
    ----------
    op, row
        The tape.
    table
        ``float32[n, t]``: values by row; NaN is missing. It has every column the forest looks at,
        which nobody checks here: ``forest.feature.max() // 2 < t``.
    forest
        The trees.
    places
        Scratch, of `places`.
    scores
        ``float32[n, K]``: margins of the experts.
    base
        Column of ``scores`` that holds the margin to start from; -1 for the forest's own.
    column
        Column of ``scores`` to write.
    limit
        ``float32``: margins beyond it, above or below 0, are cut to it; infinity cuts none.
    """
    for step in range(len(op)):
        if op[step] == PREDICT:
            r = row[step]
            margin = scores[r, base] if base >= 0 else forest.base
            for tree in range(len(forest.root)):
                margin += forest.value[_leaf(table[r], forest, tree)]
            scores[r, column] = min(max(margin, -limit), limit)


def _leaf_rows(
    op: Any, row: Any, table: Any, forest: Forest, names: Any, places: Any, out: Any
) -> None:
    """Write the names of the leaves that the rows the tape predicts end in.

    Parameters
    ----------
    op, row
        The tape.
    table
        ``float32[n, t]``: values by row; NaN is missing. It has every column the forest looks at,
        which nobody checks here: ``forest.feature.max() // 2 < t``.
    forest
        The trees.
    names
        ``uint32[N]``: what to write for each node: the forest's own names, or `leaf_hashes`.
    places
        Scratch, of `places`.
    out
        ``uint32[n, w]``, w at least the number of trees; columns behind that are left alone.
    """
    for step in range(len(op)):
        if op[step] == PREDICT:
            for tree in range(len(forest.root)):
                out[row[step], tree] = names[_leaf(table[row[step]], forest, tree)]


@kernel()
def _descend(first: int, last: int, values: Any, forest: Forest, places: Any) -> None:
    """Walk a row through some trees, all of them step by step; ``places`` then holds its leaves."""
    steps = 0
    for tree in range(first, last):
        places[tree - first] = forest.root[tree]
        steps = max(steps, forest.depth[tree])
    for _ in range(steps):
        for j in range(last - first):
            at = places[j]
            feature = forest.feature[at]
            x = values[feature >> EVEN]
            # No number is at or above a leaf's threshold, and its feature is even: it stays.
            right = (x >= forest.threshold[at]) | ((x != x) & ((feature & EVEN) != 0))
            places[j] = forest.child[at] + np.uint32(right)


@kernel(_score_rows)
def score_rows(
    op: Any,
    row: Any,
    table: Any,
    forest: Forest,
    places: Any,
    scores: Any,
    base: int,
    column: int,
    limit: Any,
) -> None:
    """Walk several trees side by side, then add their leaves in order."""
    trees = len(forest.root)
    for step in range(len(op)):
        if op[step] == PREDICT:
            r = row[step]
            margin = scores[r, base] if base >= 0 else forest.base
            for first in range(0, trees, len(places)):
                last = min(first + len(places), trees)
                _descend(first, last, table[r], forest, places)
                for j in range(last - first):
                    margin += forest.value[places[j]]
            scores[r, column] = min(max(margin, -limit), limit)


@kernel(_leaf_rows)
def leaf_rows(
    op: Any, row: Any, table: Any, forest: Forest, names: Any, places: Any, out: Any
) -> None:
    """Walk several trees side by side."""
    trees = len(forest.root)
    for step in range(len(op)):
        if op[step] == PREDICT:
            r = row[step]
            for first in range(0, trees, len(places)):
                last = min(first + len(places), trees)
                _descend(first, last, table[r], forest, places)
                for j in range(last - first):
                    out[r, first + j] = names[places[j]]
