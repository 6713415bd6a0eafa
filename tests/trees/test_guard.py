"""The guard: differences of loss, weighted, against their standard error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlinestack.block import MARGIN, Block, immediate_tape
from onlinestack.kernel import KERNELS
from onlinestack.trees.forest import Forest
from onlinestack.trees.guard import judge
from onlinestack.trees.window import Window

F = np.float32
N = 400


def stump(low: float, high: float) -> Forest:
    """Return a forest of one tree: ``low`` below 0 in column 0, ``high`` from there on."""
    return Forest(
        np.array([0, 0, 0], np.uint32),
        np.array([0, np.nan, np.nan], F),
        np.array([1, 1, 2], np.uint32),
        np.array([0, low, high], F),
        np.arange(3, dtype=np.uint32),
        np.zeros(1, np.uint32),
        np.ones(1, np.int32),
        F(0.25),
    )


def window(seed: int = 0) -> Window:
    rng = np.random.default_rng(seed)
    block = Block.of([[]] * N, label=np.zeros(N), weight=rng.choice([0.0, 0.5, 2.0], N))
    block.table = rng.normal(size=(N, 1)).astype(F)
    block.scores = rng.normal(size=(N, 1)).astype(F)
    block.label = (rng.random(N) < 1 / (1 + np.exp(-3 * block.table[:, 0]))).astype(F)
    held = Window(1, rows=150, slack=150, keep={"base": 0})
    held.run(block, immediate_tape(block.label))
    return held


def loss(margin: np.ndarray, label: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp(0, np.where(label > 0, -margin, margin)))


@pytest.mark.parametrize("against", ["old", "base", "rate"])
@pytest.mark.parametrize("start", [0.0, 0.4])
def test_what_it_compares(against: str, start: float) -> None:
    """As plainly with numpy: over the rows behind the cut, in both halves of the ring."""
    held = window()
    since, until = 250, 400  # the ring of 300 rows turns over at 300
    chunks = held.chunks(until, until - since)
    assert len(chunks) == 2
    x = np.concatenate([rows.table[:, 0] for rows in chunks])
    y, w = (np.concatenate([rows[k] for rows in chunks]).astype(float) for k in (1, 2))
    base = held.margins("base", until, until - since).astype(float)
    based = against == "base" or (against == "old" and start > 0)
    from_ = base if based else 0.25
    new = np.where(x < 0, -1.0, 1.5) + from_
    rate = (30.0, 70.0)
    if against == "old":
        served = np.where(x < 0, -2.0, 0.5) + from_
    elif against == "base":
        served = base
    else:
        clicks, total = rate[0] + np.cumsum(w * y) - w * y, rate[1] + np.cumsum(w) - w
        served = np.log((clicks + 0.5) / (total - clicks + 0.5))
    rise = loss(new, y) - loss(served, y)
    mean = (w * rise).sum() / w.sum()
    error = np.sqrt((w**2 * (rise - mean) ** 2).sum()) / w.sum()
    verdict = judge(
        held,
        since,
        until,
        stump(-1.0, 1.5),
        stump(-2.0, 0.5) if against == "old" else None,
        base="base" if based else None,
        rate=rate,
    )
    assert verdict.rise == pytest.approx(mean, abs=1e-5)
    assert verdict.error == pytest.approx(error, rel=1e-4)
    assert verdict.accepted == (mean <= error)


def test_better_worse_and_the_same() -> None:
    held, good, bad = window(), stump(-1.5, 1.5), stump(1.5, -1.5)
    assert judge(held, 250, 400, good, bad).accepted
    assert not judge(held, 250, 400, bad, good).accepted
    assert not judge(held, 250, 400, bad, None, rate=(50.0, 100.0)).accepted
    same = judge(held, 250, 400, good, good)
    assert same.accepted and same == (0.0, 0.0)


def test_a_little_worse_is_within_the_error() -> None:
    held = window()
    verdict = judge(held, 250, 400, stump(-2.0, 1.5), stump(-1.5, 1.5))
    assert 0 < verdict.rise < verdict.error and verdict.accepted


def test_no_rows_or_no_weight_is_no_reason_to_refuse() -> None:
    held = window()
    assert judge(held, 400, 400, stump(9, -9), None).accepted
    for rows in held.chunks(400, 10):
        rows.weight[:] = 0
    assert judge(held, 390, 400, stump(9, -9), None).accepted


def test_kernels_and_twins_agree() -> None:
    rng = np.random.default_rng(3)
    label, weight = (rng.random(60) < 0.3).astype(F), rng.random(60).astype(F)
    scores = (rng.normal(size=(60, 3)) * 6).astype(F)
    for against in (-1, 0, 2):
        answers = []
        for function in KERNELS["onlinestack.trees.guard.compare"]:
            rate, sums = np.array([2.0, 7.0]), np.zeros(5)
            function(label, weight, scores, against, rate, sums)
            answers.append([rate.tobytes(), sums.tobytes()])
        assert answers[0] == answers[1]


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_rate_logit(clicks: float, others: float) -> None:
    one, two = (f(clicks, clicks + others) for f in KERNELS["onlinestack.trees.guard.rate_logit"])
    assert F(one).tobytes() == F(two).tobytes()
    rate: Any = (clicks + 0.5) / (clicks + others + 1)
    expected = np.clip(np.log(rate) - np.log1p(-rate), -MARGIN, MARGIN)
    assert float(one) == pytest.approx(expected, rel=1e-4, abs=1e-4)
