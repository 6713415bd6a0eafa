"""The kernels of field-aware factorisation: what a record scores, and what its label changes.

A block of records is walked step by step, once for all rates: where a record's features lie is
worked out once, then every rate has tables of its own.

Notes
-----
Let field f of a record hold the features i with values x[i]; X[i] = x[i] / |x of the field|, so
that a text of 150 words or a number of any size weighs as much as a single word. The score is::

    c + sum of u[i] X[i] + R * sum over pairs of fields f < g of <V[f, g], V[g, f]>
    V[f, g] = sum over the features i of f of X[i] v[i, g]

with R = 1 / sqrt(number of pairs of fields the record has), so that one rate fits records of 5
fields and of 40. A feature takes part in pairs from the second time it is learned: before, its
vectors are chance and would only stir those of others.

Steps are AdaGrad's with one sum of squares for each vector, the mean of its entries'. Against one
sum for each entry (as in libffm) no loss moved in its third digit on any of nine streams, for
four times fewer divisions and roots and five eighths of the memory.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN
from onlinestack.kernel import exp32, kernel, prefetch

__all__ = ["FACTORS", "MARGIN", "STRIDE", "Scratch", "Steps", "Tables", "walk"]

FACTORS = 4
"""Entries of a vector; the kernels spell them out, so that they fill one vector register."""
LANES = 8
MARGIN = np.float32(13.815511)
"""Scores are clipped to this: a probability of 1e-6, or of all but 1e-6."""
LINE = 16
"""Numbers in a cache line."""
STRIDE = 8
"""Tables are as many fields wide as a multiple of this, so that no loop has a remainder."""

CLICKS, WEIGHT = range(2)
ZERO, ONE, QUARTER = np.float32(0), np.float32(1), np.float32(0.25)
ENDLESS = np.float32(np.inf)
LOW32 = np.uint64(0xFFFFFFFF)
# Indices without a sign: those with one are tested for counting from the end, each time.
U1, U2, U3, U4 = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
MIX = (np.uint64(2654435761), np.uint64(2246822519), np.uint64(3266489917))
STEP24 = np.float32(2.0**-23)


class Steps(NamedTuple):
    """How members learn that share one walk.

    Parameters
    ----------
    rates, linear_rates
        ``float32[R]``: AdaGrad's rate for the vectors and for the linear part, of each member.
    start, linear_start
        Start of AdaGrad's sums of squares.
    spread
        Entries of vectors start between minus and plus this.
    l2
        Squared penalty on vectors and linear weights, a step.
    seed
        Of the start.
    """

    rates: NDArray[np.float32]
    linear_rates: NDArray[np.float32]
    start: np.float32
    linear_start: np.float32
    spread: np.float32
    l2: np.float32
    seed: np.uint64


class Tables(NamedTuple):
    """What is learned, for R rates.

    Parameters
    ----------
    linear
        ``float32[slots + 1, 2 * R]``: weight of each rate, then sum of squares of each; the
        constant's in the last row.
    met
        ``uint8[slots]``: 1 where a feature of the slot was learned.
    vectors
        ``float32[rows, R, width * 5]``: of each rate the vectors against all fields, 4 numbers
        each, then one sum of squares for each field.
    started
        ``uint8[rows]``: 0 where the vectors are still those of the start, which nobody has
        written down.
    """

    linear: NDArray[np.float32]
    met: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    started: NDArray[np.uint8]

    @classmethod
    def of(cls, slots: int, rows: int, rates: int, width: int) -> Tables:
        """Make empty tables; memory is taken where something is learned."""
        return cls(
            np.zeros((slots + 1, 2 * rates), np.float32),
            np.zeros(slots, np.uint8),
            np.zeros((rows, rates, width * (FACTORS + 1)), np.float32),
            np.zeros(rows, np.uint8),
        )


class Scratch(NamedTuple):
    """Memory the walk works in, kept between calls.

    Parameters
    ----------
    slot, part
        ``int64[2, size]`` and ``float32[2, size]``: slots and scaled values of the features of
        this record and of the next.
    first, last
        ``int64[2, F]``: extent of each field in these lists.
    held, pairs
        ``int64[2]``: row each list belongs to. ``float32[2]``: scale of its pairs.
    live
        ``uint8[F]``: whether a field takes part in pairs.
    shrink
        ``float32[4 * F]``: l2 where a field takes part, else 0.
    own
        ``float32[4 * F]``: V[f, g] of one field f, 4 numbers for each g.
    other
        ``float32[R, F * 4 * F]``: V[g, f], for each f 4 numbers for each g; zero where a field
        takes no part and for f itself.
    sums, gradient, step
        ``float32[4 * F]``: products summed over f; gradient and step of one feature.
    score
        ``float32[R]``: scores of the record at hand.
    """

    slot: NDArray[np.int64]
    part: NDArray[np.float32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    held: NDArray[np.int64]
    pairs: NDArray[np.float32]
    live: NDArray[np.uint8]
    shrink: NDArray[np.float32]
    own: NDArray[np.float32]
    other: NDArray[np.float32]
    sums: NDArray[np.float32]
    gradient: NDArray[np.float32]
    step: NDArray[np.float32]
    score: NDArray[np.float32]

    @classmethod
    def of(cls, size: int, rates: int, width: int) -> Scratch:
        """Make scratch for records of up to ``size`` features."""
        return cls(
            np.zeros((2, size), np.int64),
            np.zeros((2, size), np.float32),
            np.zeros((2, width), np.int64),
            np.zeros((2, width), np.int64),
            np.zeros(2, np.int64),
            np.zeros(2, np.float32),
            np.zeros(width, np.uint8),
            np.zeros(FACTORS * width, np.float32),
            np.zeros(FACTORS * width, np.float32),
            np.zeros((rates, width * FACTORS * width), np.float32),
            np.zeros(FACTORS * width, np.float32),
            np.zeros(FACTORS * width, np.float32),
            np.zeros(FACTORS * width, np.float32),
            np.zeros(rates, np.float32),
        )


def _start_plain(row: Any, entry: Any, steps: Any) -> Any:
    """Return what an entry of a row of vectors starts from: the same for every rate."""
    h = (int(row) * int(MIX[0]) + int(entry) * int(MIX[1]) + int(steps.seed)) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * int(MIX[2])) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * int(MIX[0])) & 0xFFFFFFFF
    return np.float32(np.float32(h >> 8) * STEP24 - ONE) * steps.spread


@kernel(_start_plain)
def start(row: Any, entry: Any, steps: Any) -> Any:
    """Mix in 64 bits, and keep 32 of them."""
    h = (np.uint64(row) * MIX[0] + np.uint64(entry) * MIX[1] + steps.seed) & LOW32
    h = ((h ^ (h >> np.uint64(15))) * MIX[2]) & LOW32
    h = ((h ^ (h >> np.uint64(13))) * MIX[0]) & LOW32
    return np.float32(np.float32(h >> np.uint64(8)) * STEP24 - ONE) * steps.spread


def _vector_plain(row: Any, g: Any, rate: Any, tables: Any, steps: Any) -> Any:
    """Return the 4 entries of a row's vector against field g."""
    if tables.started[row]:
        return tables.vectors[row, rate, 4 * g : 4 * g + 4]
    return np.array([start(row, 4 * g + d, steps) for d in range(FACTORS)], np.float32)


def _score_plain(
    fields: Any, scale: Any, constant: Any, rate: Any, tables: Any, steps: Any
) -> tuple[Any, Any]:
    """Return the score of a record, and V: pairs of fields (f, g) to 4 numbers.

    ``fields`` holds slots and values of the features of each field. The linear part is summed
    feature by feature; products of pairs for each g and entry d over the later fields f, and
    these in 8 lanes, 4 g + d mod 8.
    """
    score = tables.linear[constant, rate]
    vectors = {}
    known = {
        f: [(slot & (len(tables.started) - 1), x) for slot, x in features if tables.met[slot]]
        for f, features in fields.items()
    }
    live = [f for f in fields if known[f]]
    for features in fields.values():
        for slot, x in features:
            score = score + tables.linear[slot, rate] * x
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
    return score + scale * (a + b), vectors


def _adagrad_plain(weights: Any, total: Any, gradient: Any, rate: Any, start: Any) -> Any:
    """Take AdaGrad's step; return the new sum of squares, or None where it is not finite.

    ``gradient`` has one entry or four; the sum takes in the mean of their squares.
    """
    squares = [g * g for g in gradient]
    if len(squares) == 1:
        total = total + squares[0]
    else:
        total = total + (((squares[0] + squares[1]) + squares[2]) + squares[3]) * QUARTER
    if not total < ENDLESS:
        return None
    step = rate / np.sqrt(start + total)
    for d, g in enumerate(gradient):
        weights[d] = weights[d] - step * g
    return total


def _learn_plain(
    fields: Any,
    scale: Any,
    constant: Any,
    slope: Any,
    rate: Any,
    vectors: Any,
    tables: Any,
    steps: Any,
) -> bool:
    """Take the step of a rate at a label; return whether any part of it was dropped.

    ``slope`` is the derivative of the loss by the score. Vectors of a feature that was never
    learned are left alone; those of any other step against each field that takes part.
    """
    if not np.isfinite(slope):
        return True
    dropped = False
    sums = tables.linear.shape[1] // 2 + rate
    linear = [(constant, ONE)] + [feature for features in fields.values() for feature in features]
    for slot, x in linear:
        weights = tables.linear[slot, rate : rate + 1]
        pull = ZERO if slot == constant else steps.l2 * weights[0]
        total = _adagrad_plain(
            weights,
            tables.linear[slot, sums],
            [slope * x + pull],
            steps.linear_rates[rate],
            steps.linear_start,
        )
        dropped = dropped or total is None
        if total is not None:
            tables.linear[slot, sums] = total
    width = tables.vectors.shape[2] // (FACTORS + 1)
    for f, features in fields.items():
        for slot, x in features:
            row = slot & (len(tables.started) - 1)
            for g in [g for h, g in vectors if h == f and g != f and tables.met[slot]]:
                weights = tables.vectors[row, rate, 4 * g : 4 * g + 4]
                c = np.float32(np.float32(slope * scale) * x)
                gradient = [c * vectors[g, f][d] + steps.l2 * weights[d] for d in range(FACTORS)]
                total = _adagrad_plain(
                    weights,
                    tables.vectors[row, rate, 4 * width + g],
                    gradient,
                    steps.rates[rate],
                    steps.start,
                )
                dropped = dropped or total is None
                if total is not None:
                    tables.vectors[row, rate, 4 * width + g] = total
    return dropped


def _walk_plain(
    op: Any,
    tape_row: Any,
    label: Any,
    weight: Any,
    index: Any,
    value: Any,
    opens: Any,
    closes: Any,
    columns: Any,
    steps: Any,
    tables: Any,
    scratch: Any,
    totals: Any,
    counts: Any,
    scores: Any,
) -> None:
    """Take the steps of a tape: predict rows into columns of ``scores``, learn rows.

    Learning a row first predicts it with the weights of the moment: that is the prediction the
    step starts from. A score that is not finite is served as the log-odds of the click rate so
    far (``totals``: clicks, weight) and counted in ``counts[0]``; dropped steps in ``counts[1]``.
    """
    slots = len(tables.met)
    width = tables.vectors.shape[2] // (FACTORS + 1)
    for action, i in zip(op, tape_row, strict=True):
        fields = {}
        for f in range(min(width, opens.shape[1])):
            extent = slice(opens[i, f], closes[i, f])
            squares = ZERO
            for x in value[extent]:
                squares = squares + x * x
            norm = np.sqrt(squares)
            if len(index[extent]):
                fields[f] = [
                    (int(h) & (slots - 1), x / norm if norm > ZERO else ZERO)
                    for h, x in zip(index[extent], value[extent], strict=True)
                ]
        n = len(fields)
        scale = ONE / np.sqrt(np.float32(max(1, n * (n - 1) // 2)))
        counting = action == LEARN
        learns = counting and weight[i] > ZERO
        if learns:
            _begin(fields, tables, steps)
        for rate in range(len(columns)):
            score, vectors = _score_plain(fields, scale, slots, rate, tables, steps)
            if not counting:
                scores[i, columns[rate]] = _served(score, totals, counts[0], rate)
            elif learns:
                p = ONE / (ONE + exp32(-score))
                slope = weight[i] * (p - (ONE if label[i] > ZERO else ZERO))
                counts[1, rate] += _learn_plain(
                    fields, scale, slots, slope, rate, vectors, tables, steps
                )
        if counting:
            totals[WEIGHT] += np.float64(weight[i])
            totals[CLICKS] += np.float64(weight[i]) if label[i] > ZERO else 0.0
        if learns:
            for features in fields.values():
                for slot, _ in features:
                    tables.met[slot] = 1


def _begin(fields: Any, tables: Any, steps: Any) -> None:
    """Write down the start of vectors that are about to learn."""
    for features in fields.values():
        for slot, _ in features:
            row = slot & (len(tables.started) - 1)
            if tables.met[slot] and not tables.started[row]:
                _write_start(row, tables, steps)


@kernel()
def _write_start(row: Any, tables: Any, steps: Any) -> None:
    """Write the start of a row of vectors, for all rates."""
    entries = tables.vectors.shape[2] // 5 * 4
    for entry in range(entries):
        tables.vectors[row, 0, entry] = start(row, entry, steps)
    for rate in range(1, tables.vectors.shape[1]):
        for entry in range(entries):
            tables.vectors[row, rate, entry] = tables.vectors[row, 0, entry]
    tables.started[row] = 1


@kernel()
def _served(score: Any, totals: Any, dumb: Any, rate: Any) -> Any:
    """Return a score as it is served: clipped, and never other than a number."""
    if not np.isfinite(score):
        dumb[rate] += 1
        mean = (totals[CLICKS] + 0.5) / (totals[WEIGHT] + 1.0)
        score = np.float32(math.log(mean / (1.0 - mean)))
    return min(max(score, -MARGIN), MARGIN)


@kernel()
def _list(
    i: Any,
    place: Any,
    index: Any,
    value: Any,
    opens: Any,
    closes: Any,
    tables: Any,
    scratch: Any,
) -> None:
    """Write down slots and scaled values of a record's features."""
    slots = np.uint32(tables.met.shape[0] - 1)
    width = min(scratch.first.shape[1], opens.shape[1])
    slot, part = scratch.slot[place], scratch.part[place]
    n = 0
    present = 0
    for f in range(scratch.first.shape[1]):
        scratch.first[place, f] = n
        if f < width:
            squares = ZERO
            for j in range(opens[i, f], closes[i, f]):
                squares = squares + value[j] * value[j]
            norm = np.sqrt(squares)
            for j in range(opens[i, f], closes[i, f]):
                slot[n] = np.int64(index[j] & slots)
                part[n] = value[j] / norm if norm > ZERO else ZERO
                prefetch(tables.linear, slot[n] * tables.linear.shape[1])
                prefetch(tables.met, slot[n])
                n += 1
            if opens[i, f] < closes[i, f]:
                present += 1
        scratch.last[place, f] = n
    scratch.pairs[place] = ONE / np.sqrt(np.float32(max(1, present * (present - 1) // 2)))
    scratch.held[place] = i


@kernel()
def _ask(f: Any, rate: Any, place: Any, tables: Any, scratch: Any) -> None:
    """Have the vectors of a field of the next record on their way from memory."""
    rates, length = tables.vectors.shape[1], tables.vectors.shape[2]
    mask = tables.started.shape[0] - 1
    # A long text would only push out what was asked for before.
    last = min(scratch.last[place, f], scratch.first[place, f] + 4)
    for j in range(scratch.first[place, f], last):
        slot = scratch.slot[place, j]
        if tables.met[slot] == 1:
            at = ((slot & mask) * rates + rate) * length
            for line in range(0, length, LINE):
                prefetch(tables.vectors, at + line)


@kernel()
def _live(place: Any, tables: Any, steps: Any, scratch: Any) -> Any:
    """Tell which fields take part in pairs; return a place behind the last of them."""
    span = 0
    for f in range(scratch.live.shape[0]):
        scratch.live[f] = 0
        for j in range(scratch.first[place, f], scratch.last[place, f]):
            if tables.met[scratch.slot[place, j]] == 1:
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
def _fill(f: Any, rate: Any, place: Any, n: Any, tables: Any, steps: Any, scratch: Any) -> None:
    """Write V[f, g] of a field into ``own``."""
    mask = tables.started.shape[0] - 1
    own = scratch.own
    fresh = True
    for j in range(scratch.first[place, f], scratch.last[place, f]):
        slot = scratch.slot[place, j]
        if tables.met[slot] == 0:
            continue
        row = slot & mask
        vectors = tables.vectors[row, rate]
        if tables.started[row] == 0:
            vectors = scratch.gradient
            for entry in range(n):
                vectors[entry] = start(row, entry, steps)
        if fresh:
            _put(own, scratch.part[place, j], vectors, n)
            fresh = False
        else:
            _add(own, scratch.part[place, j], vectors, n)


@kernel()
def _score(
    rate: Any, place: Any, span: Any, ahead: Any, tables: Any, steps: Any, scratch: Any
) -> Any:
    """Score a record, and leave V[g, f] in scratch for the step that may follow."""
    score = tables.linear[tables.met.shape[0], rate]
    for j in range(scratch.last[place, scratch.last.shape[1] - 1]):
        score = score + tables.linear[scratch.slot[place, j], rate] * scratch.part[place, j]
    own, other, sums = scratch.own, scratch.other[rate], scratch.sums
    n = 4 * span
    for j in range(n):
        sums[j] = ZERO
    length = own.shape[0]
    for f in range(scratch.live.shape[0]):
        if ahead:
            _ask(f, rate, 1 - place, tables, scratch)
        if f >= span:
            continue
        if scratch.live[f] == 1:
            _fill(f, rate, place, n, tables, steps, scratch)
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
    return score + scratch.pairs[place] * pairs


@kernel()
def _step(
    weights: Any,
    totals: Any,
    theirs: Any,
    shrink: Any,
    gradient: Any,
    move: Any,
    c: Any,
    rate: Any,
    start: Any,
    span: Any,
) -> Any:
    """Step a feature's vectors against all fields; return how many steps were dropped.

    Three plain loops, since one that does all is not vectorised as well. Fields that take no part
    have gradient zero, and a step of zero changes nothing.
    """
    n = np.uint64(4 * span)
    for j in range(n):
        g = c * theirs[j] + shrink[j] * weights[j]
        gradient[j] = g
        move[j] = g * g
    dropped = np.int32(0)
    for k in range(np.uint64(span)):
        j = k * U4
        squares = ((move[j] + move[j + U1]) + move[j + U2]) + move[j + U3]
        total = totals[k] + squares * QUARTER
        fits = total < ENDLESS
        step = rate / np.sqrt(start + total) if fits else ZERO
        totals[k] = total if fits else totals[k]
        move[j] = step
        move[j + U1] = step
        move[j + U2] = step
        move[j + U3] = step
        dropped += np.int32(0) if fits else np.int32(1)
    if dropped > 0:
        for j in range(n):
            gradient[j] = gradient[j] if move[j] > ZERO else ZERO
    for j in range(n):
        weights[j] -= move[j] * gradient[j]
    return dropped


@kernel()
def _step_linear(slot: Any, rate: Any, gradient: Any, tables: Any, steps: Any) -> Any:
    """Step a linear weight; return 1 where the step was dropped."""
    at = tables.linear.shape[1] // 2 + rate
    total = tables.linear[slot, at] + gradient * gradient
    if not total < ENDLESS:
        return 1
    step = steps.linear_rates[rate] / np.sqrt(steps.linear_start + total)
    tables.linear[slot, rate] = tables.linear[slot, rate] - step * gradient
    tables.linear[slot, at] = total
    return 0


@kernel()
def _learn(
    rate: Any, place: Any, span: Any, slope: Any, tables: Any, steps: Any, scratch: Any
) -> Any:
    """Take the step of a rate; return 1 where any part of it was dropped."""
    if not np.isfinite(slope):
        return 1
    constant = tables.met.shape[0]
    dropped = np.int64(_step_linear(constant, rate, slope, tables, steps))
    for j in range(scratch.last[place, scratch.last.shape[1] - 1]):
        slot = scratch.slot[place, j]
        gradient = slope * scratch.part[place, j] + steps.l2 * tables.linear[slot, rate]
        dropped += _step_linear(slot, rate, gradient, tables, steps)
    mask = tables.started.shape[0] - 1
    width = scratch.live.shape[0]
    shrink = scratch.shrink
    scaled = slope * scratch.pairs[place]
    for f in range(span):
        at = 4 * width * f
        theirs = scratch.other[rate, at : at + 4 * width]
        for d in range(FACTORS if scratch.live[f] == 1 else 0):
            shrink[4 * f + d] = ZERO
        for j in range(scratch.first[place, f], scratch.last[place, f]):
            slot = scratch.slot[place, j]
            if tables.met[slot] == 0:
                continue
            vectors = tables.vectors[slot & mask, rate]
            dropped += _step(
                vectors[: 4 * width],
                vectors[4 * width :],
                theirs,
                shrink,
                scratch.gradient,
                scratch.step,
                scaled * scratch.part[place, j],
                steps.rates[rate],
                steps.start,
                span,
            )
        for d in range(FACTORS if scratch.live[f] == 1 else 0):
            shrink[4 * f + d] = steps.l2
    return 1 if dropped > 0 else 0


@kernel(_walk_plain)
def walk(
    op: Any,
    tape_row: Any,
    label: Any,
    weight: Any,
    index: Any,
    value: Any,
    opens: Any,
    closes: Any,
    columns: Any,
    steps: Any,
    tables: Any,
    scratch: Any,
    totals: Any,
    counts: Any,
    scores: Any,
) -> None:
    """Take the steps with one row of foresight.

    While a row is worked on, the features of the next are listed and its vectors are on their way
    from memory. A row learned right after it was predicted keeps its scores: nothing has moved.
    """
    rates = columns.shape[0]
    mask = tables.started.shape[0] - 1
    held = scratch.held
    held[0] = -1
    held[1] = -1
    here = 0
    fresh = np.int64(-1)
    span = np.int64(0)
    m = op.shape[0]
    for step in range(m):
        i = np.int64(tape_row[step])
        ahead = step + 1
        while ahead < m and tape_row[ahead] == i:
            ahead += 1
        following = np.int64(tape_row[ahead]) if ahead < m else np.int64(-1)
        if held[here] != i:
            here = 1 - here
        for turn in range(2):
            wanted = i if turn == 0 else following
            place = here if turn == 0 else 1 - here
            if wanted >= 0 and held[place] != wanted:
                _list(wanted, place, index, value, opens, closes, tables, scratch)
        counting = op[step] == LEARN
        learns = counting and weight[i] > ZERO
        features = scratch.last[here, scratch.last.shape[1] - 1]
        if fresh != i and (learns or not counting):
            span = _live(here, tables, steps, scratch)
            for rate in range(rates):
                scratch.score[rate] = _score(
                    rate, here, span, following >= 0, tables, steps, scratch
                )
            fresh = i
        if not counting:
            for rate in range(rates):
                scores[i, columns[rate]] = _served(scratch.score[rate], totals, counts[0], rate)
            continue
        totals[WEIGHT] += np.float64(weight[i])
        totals[CLICKS] += np.float64(weight[i]) if label[i] > ZERO else 0.0
        if not learns:
            continue
        for j in range(features):
            slot = scratch.slot[here, j]
            if tables.met[slot] == 1 and tables.started[slot & mask] == 0:
                _write_start(slot & mask, tables, steps)
        target = ONE if label[i] > ZERO else ZERO
        for rate in range(rates):
            p = ONE / (ONE + exp32(-scratch.score[rate]))
            slope = weight[i] * (p - target)
            counts[1, rate] += _learn(rate, here, span, slope, tables, steps, scratch)
        for j in range(features):
            tables.met[scratch.slot[here, j]] = 1
        fresh = np.int64(-1)
