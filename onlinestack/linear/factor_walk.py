"""Field-aware factorisation: the walk over the tape, once for all rates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onlinestack.block import LEARN
from onlinestack.kernel import exp32, kernel, prefetch
from onlinestack.linear.factor_scores import live, score, score_plain
from onlinestack.linear.factor_steps import learn, learn_plain
from onlinestack.linear.factors import FACTORS, write_start

__all__ = ["MARGIN", "walk"]

MARGIN = np.float32(13.815511)
"""Scores are clipped to this: a probability of 1e-6, or of all but 1e-6."""
CLICKS, WEIGHT = range(2)
ZERO, ONE = np.float32(0), np.float32(1)


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
            raw, vectors = score_plain(fields, scale, slots, rate, tables, steps)
            if not counting:
                scores[i, columns[rate]] = _served(raw, totals, counts[0], rate)
            elif learns:
                p = ONE / (ONE + exp32(-raw))
                slope = weight[i] * (p - (ONE if label[i] > ZERO else ZERO))
                counts[1, rate] += learn_plain(
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
                write_start(row, tables, steps)


@kernel()
def _served(raw: Any, totals: Any, dumb: Any, rate: Any) -> Any:
    """Return a score as it is served: clipped, and never other than a number."""
    if not np.isfinite(raw):
        dumb[rate] += 1
        mean = (totals[CLICKS] + 0.5) / (totals[WEIGHT] + 1.0)
        raw = np.float32(math.log(mean / (1.0 - mean)))
    return min(max(raw, -MARGIN), MARGIN)


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
            span = live(here, tables, steps, scratch)
            for rate in range(rates):
                scratch.score[rate] = score(
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
                write_start(slot & mask, tables, steps)
        target = ONE if label[i] > ZERO else ZERO
        for rate in range(rates):
            p = ONE / (ONE + exp32(-scratch.score[rate]))
            slope = weight[i] * (p - target)
            counts[1, rate] += learn(rate, here, span, slope, tables, steps, scratch)
        for j in range(features):
            tables.met[scratch.slot[here, j]] = 1
        fresh = np.int64(-1)
