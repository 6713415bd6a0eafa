"""The learner of Newton's steps: what its steps are, and that nothing throws it off."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onlinestack.block import LEARN, PREDICT, Block, Tape, immediate_tape
from onlinestack.kernel import KERNELS
from onlinestack.linear.newton import NewtonMember, factor, solve, walk

INPUTS = 3
SCORES = st.floats(-13.75, 13.75, width=32)


def log(n: int, seed: int = 0) -> Block:
    """Return records whose scores say nearly the same, with labels and weights of all kinds."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=(n, 1))
    label = (random.random(n) < 1 / (1 + np.exp(-2 * truth[:, 0]))).astype(np.float32)
    weight = random.choice([0.0, 1.0, 0.5, 3.0], n, p=[0.1, 0.6, 0.2, 0.1]).astype(np.float32)
    label[random.random(n) < 0.1] = np.nan
    block = Block.of([[]] * n, label=label, weight=weight)
    block.scores = (truth + random.normal(size=(n, INPUTS + 1)) / 4).astype(np.float32)
    return block


def run(member: NewtonMember, block: Block, size: int) -> np.ndarray:
    """Run a member over a block in pieces; return the scores."""
    out = []
    for at in range(0, block.n, size):
        n = min(size, block.n - at)
        part = Block.of([[]] * n, label=block.label[at : at + n], weight=block.weight[at : at + n])
        part.scores = np.ascontiguousarray(block.scores[at : at + n])
        member.run(part, immediate_tape(part.label))
        out.append(member.raw[:n].copy())
    return np.concatenate(out)


@given(arrays(np.float64, (6, 4), elements=st.floats(-9, 9)), arrays(np.float64, 4))
def test_solving_is_that_of_the_library(points: np.ndarray, right: np.ndarray) -> None:
    right = np.nan_to_num(np.clip(right, -1e6, 1e6))
    curvature = points.T @ points + np.eye(4)
    rows, step = np.full((4, 4), np.nan), right.copy()
    factor(np.triu(curvature), rows)
    solve(rows, step)
    np.testing.assert_allclose(step, np.linalg.solve(curvature, right), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("half_life", [50.0, math.inf])
def test_every_step_is_that_of_the_formula(half_life: float) -> None:
    block, trust = log(300), 7.0
    member = NewtonMember(INPUTS, half_life=half_life, trust=trust)
    scores = run(member, block, block.n)
    weights = np.array([*[1 / INPUTS] * INPUTS, 0.0])
    curvature, keep = np.eye(INPUTS + 1) * trust, 2 ** (-1 / half_life)
    for i in range(block.n):
        x = np.append(block.scores[i, :INPUTS].astype(float), 1.0)
        assert scores[i] == pytest.approx(weights @ x, abs=1e-4)
        w, y = float(block.weight[i]), float(block.label[i])
        if math.isnan(y) or w == 0:
            continue
        curvature = keep * curvature + (1 - keep) * trust * np.eye(len(x))
        step = np.linalg.solve(curvature, x)
        p = 1 / (1 + math.exp(-weights @ x))
        weights = weights + step * w * (y - p) / (1 + w * (x @ step) / 4)
        curvature = curvature + w * p * (1 - p) * np.outer(x, x)
    np.testing.assert_allclose(member.weights, weights, atol=1e-4)


def test_it_ends_where_the_loss_is_least() -> None:
    block = log(4000)
    block.label[np.isnan(block.label)] = 0
    member = NewtonMember(INPUTS, half_life=math.inf, trust=1.0)
    run(member, block, block.n)
    x = np.column_stack([block.scores[:, :INPUTS].astype(float), np.ones(block.n)])
    weights = np.zeros(INPUTS + 1)
    for _ in range(20):
        p = 1 / (1 + np.exp(-x @ weights))
        curvature = (x * (block.weight * p * (1 - p))[:, None]).T @ x
        weights += np.linalg.solve(curvature, x.T @ (block.weight * (block.label - p)))
    near = np.sqrt(np.diag(np.linalg.inv(curvature)))
    assert (abs(member.weights - weights) < near / 4).all()


def test_blocks_do_not_matter_and_a_state_goes_on() -> None:
    block = log(700)
    whole, parts = NewtonMember(INPUTS), NewtonMember(INPUTS)
    scores = run(whole, block, 700)
    np.testing.assert_array_equal(scores, run(parts, block, 1))
    np.testing.assert_array_equal(whole.weights, parts.weights)
    other = NewtonMember(INPUTS)
    other.restore(*parts.state())
    np.testing.assert_array_equal(run(other, block, 7), run(whole, block, 700))


def test_what_was_learned_fades() -> None:
    block = log(4000)
    block.label[2000:] = 1 - block.label[2000:]
    right = {}
    for half_life in (30.0, math.inf):
        score = run(NewtonMember(INPUTS, half_life=half_life), block, block.n)[2100:2400]
        known = ~np.isnan(block.label[2100:2400])
        right[half_life] = np.mean((score > 0)[known] == block.label[2100:2400][known])
    assert right[30.0] > 0.7 and right[math.inf] < 0.5


@given(
    arrays(np.float32, (30, INPUTS), elements=SCORES),
    arrays(np.float32, 30, elements=st.sampled_from([0.0, 1.0, 1e-30, 1e6, 3e38])),
    arrays(np.bool_, 30),
    st.floats(1, 1e6) | st.just(math.inf),
    st.floats(1e-3, 1e6),
)
def test_nothing_throws_it_off(
    scores: np.ndarray, weight: np.ndarray, clicked: np.ndarray, half_life: float, trust: float
) -> None:
    member = NewtonMember(INPUTS, half_life=half_life, trust=trust)
    for i in range(30):
        block = Block.of([[]], label=clicked[i : i + 1], weight=weight[i : i + 1])
        block.scores = scores[i : i + 1].copy()
        member.run(block, immediate_tape(block.label))
        before = float(member.raw[0])
        member.run(block, Tape(np.array([PREDICT], np.uint8), np.zeros(1, np.int32)))
        assert abs(float(member.raw[0]) - before) <= 4.001
        assert np.isfinite(member.weights).all()


@settings(max_examples=20)
@given(st.integers(0, 99), st.lists(st.tuples(st.booleans(), st.integers(0, 19)), max_size=30))
def test_kernel_and_twin_agree(seed: int, steps: list[tuple[bool, int]]) -> None:
    block = log(20, seed)
    block.label[np.isnan(block.label)] = 0
    op = np.array([LEARN if learn else PREDICT for learn, _ in steps], np.uint8)
    row = np.array([i for _, i in steps], np.int32)
    results: list[Any] = []
    for version in (walk, KERNELS["onlinestack.linear.newton.walk"].twin):
        member, raw = NewtonMember(INPUTS), np.zeros(20, np.float32)
        version(op, row, block.label, block.weight, block.scores, 0.99, 30.0, member._curve, raw)
        results.append((raw, member.weights, np.triu(member.state()[0]["curvature"])))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="inputs=0 leaves nothing to read"):
        NewtonMember(0)
    with pytest.raises(ValueError, match="half_life=0.5 and trust=30"):
        NewtonMember(2, half_life=0.5)
    with pytest.raises(ValueError, match="trust=0"):
        NewtonMember(2, trust=0)
    with pytest.raises(ValueError, match="weights are of 3 scores, the learner reads 2"):
        NewtonMember(2).restore(*NewtonMember(3).state())
