"""Field-aware factorisation: the score of a record.

Notes
-----
Let field f of a record hold the features i with values x[i]; X[i] = x[i] / |x of the field|, so
that a text of 150 words or a number of any size weighs as much as a single word. The score is::

    c + sum of u[i] X[i] + R * sum over pairs of fields f < g of <V[f, g], V[g, f]>
    V[f, g] = sum over the features i of f of X[i] v[i, g]

with R = 1 / sqrt(number of pairs of fields the record has), so that one rate fits records of 5
fields and of 40. A feature takes part in pairs from the second time it is learned: before, its
vectors are chance and would only stir those of others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onlinestack.kernel import kernel
from onlinestack.linear.factors import FACTORS, STRIDE, start

__all__ = ["live", "score", "score_plain"]

LANES = 8
ZERO = np.float32(0)
# Indices without a sign: those with one are tested for counting from the end, each time.
U1, U2, U3, U4 = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)


def _vector_plain(row: Any, g: Any, rate: Any, tables: Any, steps: Any) -> Any:
    """Return the 4 entries of a row's vector against field g."""
    if tables.started[row]:
        return tables.vectors[row, rate, 4 * g : 4 * g + 4]
    return np.array([start(row, 4 * g + d, steps) for d in range(FACTORS)], np.float32)


def score_plain(
    fields: Any, scale: Any, constant: Any, rate: Any, tables: Any, steps: Any
) -> tuple[Any, Any]:
    """Return the score of a record, and V: pairs of fields (f, g) to 4 numbers.

    ``fields`` holds slots and values of the features of each field. The linear part is summed
    feature by feature; products of pairs for each g and entry d over the later fields f, and
    these in 8 lanes, 4 g + d mod 8.
    """
    total = tables.linear[constant, rate]
    vectors = {}
    known = {
        f: [(slot & (len(tables.started) - 1), x) for slot, x in features if tables.met[slot]]
        for f, features in fields.items()
    }
    live = [f for f in fields if known[f]]
    for features in fields.values():
        for slot, x in features:
            total = total + tables.linear[slot, rate] * x
    for f in live:
        for g in live:
            parts = [x * _vector_plain(row, g, rate, tables, steps) for row, x in known[f]]
            vectors[f, g] = parts[0]
            for part in parts[1:]:
                vectors[f, g] = vectors[f, g] + part
    sums = {(g, d): ZERO for g in live for d in range(FACTORS)}
    for f in live:
        for g in live:
            for d in range(FACTORS if g < f else 0):
                sums[g, d] = sums[g, d] + vectors[f, g][d] * vectors[g, f][d]
    lanes = np.zeros(LANES, np.float32)
    for (g, d), products in sums.items():
        lanes[(4 * g + d) % LANES] += products
    a = (lanes[0] + lanes[4]) + (lanes[1] + lanes[5])
    b = (lanes[2] + lanes[6]) + (lanes[3] + lanes[7])
    return total + scale * (a + b), vectors


@kernel()
def live(tables: Any, steps: Any, scratch: Any) -> Any:
    """Tell which fields take part in pairs; return a place behind the last of them."""
    span = 0
    for f in range(scratch.live.shape[0]):
        scratch.live[f] = 0
        for j in range(scratch.first[f], scratch.last[f]):
            if tables.met[scratch.slot[j]] == 1:
                scratch.live[f] = 1
                span = f + 1
        for d in range(FACTORS):
            scratch.shrink[4 * f + d] = steps.l2 if scratch.live[f] == 1 else ZERO
    return (span + STRIDE - 1) // STRIDE * STRIDE


@kernel()
def _put(own: Any, x: Any, vectors: Any, n: Any) -> None:
    """Write a feature's vectors, times its value."""
    for j in range(np.uint64(n)):
        own[j] = x * vectors[j]


@kernel()
def _add(own: Any, x: Any, vectors: Any, n: Any) -> None:
    """Add a feature's vectors, times its value, to those of its field."""
    for j in range(np.uint64(n)):
        own[j] += x * vectors[j]


@kernel()
def _multiply(sums: Any, own: Any, theirs: Any, n: Any) -> None:
    """Add products entry by entry."""
    for j in range(np.uint64(n)):
        sums[j] += own[j] * theirs[j]


@kernel()
def _scatter(f: Any, own: Any, other: Any, span: Any) -> None:
    """Write V[f, g] where g finds it."""
    length = np.uint64(own.shape[0])
    to = np.uint64(f) * U4
    at = np.uint64(0)
    for _ in range(span):
        # All are read before any is written, so that they may travel together.
        v0, v1, v2, v3 = own[at], own[at + U1], own[at + U2], own[at + U3]
        other[to] = v0
        other[to + U1] = v1
        other[to + U2] = v2
        other[to + U3] = v3
        at += U4
        to += length


@kernel()
def _fill(f: Any, rate: Any, n: Any, tables: Any, steps: Any, scratch: Any) -> None:
    """Write V[f, g] of a field into ``own``."""
    mask = tables.started.shape[0] - 1
    own = scratch.own
    fresh = True
    for j in range(scratch.first[f], scratch.last[f]):
        slot = scratch.slot[j]
        if tables.met[slot] == 0:
            continue
        row = slot & mask
        vectors = tables.vectors[row, rate]
        if tables.started[row] == 0:
            vectors = scratch.gradient
            for entry in range(n):
                vectors[entry] = start(row, entry, steps)
        if fresh:
            _put(own, scratch.part[j], vectors, n)
            fresh = False
        else:
            _add(own, scratch.part[j], vectors, n)


@kernel()
def score(rate: Any, span: Any, tables: Any, steps: Any, scratch: Any) -> Any:
    """Score a record, and leave V[g, f] in scratch for the step that may follow."""
    total = tables.linear[tables.met.shape[0], rate]
    for j in range(scratch.last[scratch.last.shape[0] - 1]):
        total = total + tables.linear[scratch.slot[j], rate] * scratch.part[j]
    own, other, sums = scratch.own, scratch.other[rate], scratch.sums
    n = 4 * span
    for j in range(n):
        sums[j] = ZERO
    length = own.shape[0]
    for f in range(span):
        if scratch.live[f] == 1:
            _fill(f, rate, n, tables, steps, scratch)
            for d in range(FACTORS):
                own[4 * f + d] = ZERO
            _multiply(sums, own, other[f * length : (f + 1) * length], 4 * f)
        else:
            for j in range(n):
                own[j] = ZERO
        _scatter(f, own, other, span)
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = ZERO
    for j in range(0, n, LANES):
        a0 += sums[j]
        a1 += sums[j + 1]
        a2 += sums[j + 2]
        a3 += sums[j + 3]
        a4 += sums[j + 4]
        a5 += sums[j + 5]
        a6 += sums[j + 6]
        a7 += sums[j + 7]
    pairs = ((a0 + a4) + (a1 + a5)) + ((a2 + a6) + (a3 + a7))
    return total + scratch.pairs[0] * pairs
