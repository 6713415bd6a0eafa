"""Field-aware factorisation: the walk over the tape, once for all rates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onlinestack.block import LEARN, MARGIN
from onlinestack.kernel import exp32, kernel
from onlinestack.linear.factor_scores import live, score, score_plain
from onlinestack.linear.factor_steps import learn, learn_plain
from onlinestack.linear.factors import FACTORS, write_start

__all__ = ["list_plain", "walk"]

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
    for action, i in zip(op, tape_row, strict=True):
        fields, scale = list_plain(i, index, value, opens, closes, tables)
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


def list_plain(
    i: Any, index: Any, value: Any, opens: Any, closes: Any, tables: Any
) -> tuple[dict[int, list[tuple[int, Any]]], Any]:
    """Return slots and scaled values of a record's features by field, and the scale of pairs."""
    slots = len(tables.met)
    width = tables.vectors.shape[2] // (FACTORS + 1)
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
    return fields, ONE / np.sqrt(np.float32(max(1, n * (n - 1) // 2)))


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
    index: Any,
    value: Any,
    opens: Any,
    closes: Any,
    tables: Any,
    scratch: Any,
) -> None:
    """Write down slots and scaled values of a record's features."""
    slots = np.uint32(tables.met.shape[0] - 1)
    width = min(scratch.first.shape[0], opens.shape[1])
    slot, part = scratch.slot, scratch.part
    n = 0
    present = 0
    for f in range(scratch.first.shape[0]):
        scratch.first[f] = n
        if f < width:
            squares = ZERO
            for j in range(opens[i, f], closes[i, f]):
                squares = squares + value[j] * value[j]
            norm = np.sqrt(squares)
            for j in range(opens[i, f], closes[i, f]):
                slot[n] = np.int64(index[j] & slots)
                part[n] = value[j] / norm if norm > ZERO else ZERO
                n += 1
            if opens[i, f] < closes[i, f]:
                present += 1
        scratch.last[f] = n
    scratch.pairs[0] = ONE / np.sqrt(np.float32(max(1, present * (present - 1) // 2)))


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
    """Take the steps; a row learned right after it was predicted keeps its scores.

    Nothing has moved in between. Asking for the vectors of the next row ahead of time gains
    nothing: a feature's are one long run, which processors foresee by themselves.
    """
    rates = columns.shape[0]
    mask = tables.started.shape[0] - 1
    fresh = np.int64(-1)
    span = np.int64(0)
    for step in range(op.shape[0]):
        i = np.int64(tape_row[step])
        counting = op[step] == LEARN
        learns = counting and weight[i] > ZERO
        if fresh != i and (learns or not counting):
            _list(i, index, value, opens, closes, tables, scratch)
            span = live(tables, steps, scratch)
            for rate in range(rates):
                scratch.score[rate] = score(rate, span, tables, steps, scratch)
            fresh = i
        if not counting:
            for rate in range(rates):
                scores[i, columns[rate]] = _served(scratch.score[rate], totals, counts[0], rate)
            continue
        totals[WEIGHT] += np.float64(weight[i])
        totals[CLICKS] += np.float64(weight[i]) if label[i] > ZERO else 0.0
        if not learns:
            continue
        features = scratch.last[scratch.last.shape[0] - 1]
        for j in range(features):
            slot = scratch.slot[j]
            if tables.met[slot] == 1 and tables.started[slot & mask] == 0:
                write_start(slot & mask, tables, steps)
        target = ONE if label[i] > ZERO else ZERO
        for rate in range(rates):
            p = ONE / (ONE + exp32(-scratch.score[rate]))
            slope = weight[i] * (p - target)
            counts[1, rate] += learn(rate, span, slope, tables, steps, scratch)
        for j in range(features):
            tables.met[scratch.slot[j]] = 1
        fresh = np.int64(-1)
