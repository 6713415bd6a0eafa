"""Combiners: each against its definition in plain words, its state, and what it may not see."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlinestack.block import MARGIN, Block, Tape, immediate_tape
from onlinestack.kernel import KERNELS
from onlinestack.recipe import COMBINERS as NAMES
from onlinestack.stack import calibration, combiner, mixture, ranks, votes
from onlinestack.stack.calibration import PRIOR
from onlinestack.stack.combiners import COMBINERS
from onlinestack.stack.mixture import Mixture
from onlinestack.stack.ranks import BINS, historical_rank, remember

MEMBERS, SCORES = 3, 4
EXPERTS = SCORES + 1
CHOSEN = pytest.mark.parametrize("name", NAMES)


def stream(n: int, seed: int = 0, labelled: float = 0.9) -> Block:
    """Return records scored by members of unlike worth and by a stacker, with unlike weights."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1, 1.5, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    label[rng.random(n) >= labelled] = np.nan
    weight = rng.choice([0.0, 0.3, 1.0, 2.0], n)
    block = Block.of([[]] * n, label=label, weight=weight)
    noise = rng.normal(size=(n, SCORES)) * [0.5, 1.0, 2.0, 0.4]
    margins = (truth[:, None] + noise) * [1.0, 3.0, 0.1, 1.0]
    block.scores = np.clip(margins, -MARGIN, MARGIN).astype(np.float32)
    return served(block)


def served(block: Block) -> Block:
    """Let the mixture speak for its experts."""
    block.p = np.full((block.n, EXPERTS + 2), np.nan, np.float32)
    names = [str(k) for k in range(block.scores.shape[1])]
    Mixture(names, MEMBERS).run(block, immediate_tape(block.label))
    return block


def new(name: str) -> Any:
    return COMBINERS[name](MEMBERS, EXPERTS, EXPERTS + 1)


def run(name: str, block: Block) -> np.ndarray:
    """Return what a new combiner predicts."""
    new(name).run(block, immediate_tape(block.label))
    return block.p[:, -1].copy()


def known(block: Block) -> np.ndarray:
    return ~np.isnan(block.label)


def test_every_combiner_of_a_recipe_can_be_made() -> None:
    assert tuple(COMBINERS) == NAMES


def test_arithmetic_is_the_mean_of_the_members_probabilities() -> None:
    block = stream(300)
    np.testing.assert_allclose(run("arithmetic", block), block.p[:, 1:4].mean(axis=1), rtol=1e-6)


def test_the_geometric_mean_is_the_expert_that_is_always_there() -> None:
    p = stream(300).p.astype(float)
    yes, no = (np.exp(np.log(q[:, 1:4]).mean(axis=1)) for q in (p, 1 - p))
    np.testing.assert_allclose(p[:, EXPERTS], yes / (yes + no), rtol=1e-4)


def test_majority_is_the_click_rate_of_as_many_votes() -> None:
    block = stream(500)
    weight = clicks = 0.0
    seen = np.zeros((MEMBERS + 1, 2))
    wanted = []
    for p, y, w in zip(block.p[:, 1:4].astype(float), block.label, block.weight, strict=True):
        rate = (clicks + 0.5) / (weight + 1)
        votes = int((p > rate).sum())
        wanted.append((seen[votes, 1] + PRIOR * rate) / (seen[votes, 0] + PRIOR))
        if not np.isnan(y):
            weight, clicks = weight + w, clicks + w * y
            seen[votes] += w, w * y
    np.testing.assert_allclose(run("majority", block), wanted, rtol=1e-6)


def test_weighted_votes_count_by_the_costs_of_votes_before() -> None:
    block = stream(500)
    weight = clicks = 0.0
    costs = np.zeros(MEMBERS)
    seen = np.zeros((33, 2))
    wanted = []
    for p, y, w in zip(block.p[:, 1:4].astype(float), block.label, block.weight, strict=True):
        rate = (clicks + 0.5) / (weight + 1)
        counts = np.exp(-math.sqrt(2 * math.log(3) / (1 + costs.min())) * (costs - costs.min()))
        share = counts[p > rate].sum() / counts.sum()
        near = np.maximum(0, 1 - np.abs(32 * share - np.arange(33)))
        wanted.append(near @ ((seen[:, 1] + PRIOR * rate) / (seen[:, 0] + PRIOR)))
        if not np.isnan(y):
            costs += w * np.where((p > rate) == (y > 0), 0, rate if y == 0 else 1 - rate)
            weight, clicks = weight + w, clicks + w * y
            seen += np.outer(near, [w, w * y])
    np.testing.assert_allclose(run("weighted", block), wanted, rtol=1e-4)


def test_one_who_knows_outvotes_many_who_do_not() -> None:
    rng = np.random.default_rng(3)
    label = rng.integers(0, 2, 2000).astype(np.float32)
    block = Block.of([[]] * 2000, label=label)
    guesses = rng.normal(size=(2000, SCORES))
    guesses[:, 1] = np.where(label > 0, 1, -1)
    block.scores = guesses.astype(np.float32)
    served(block)
    right = {name: ((run(name, block) > 0.5) == (label > 0))[200:] for name in NAMES}
    assert right["weighted"].mean() > 0.99 > 0.85 > right["majority"].mean()


@settings(max_examples=60)
@given(
    hnp.arrays(np.float32, st.integers(1, 80), elements=st.floats(-13.75, 13.75, width=32)),
    st.data(),
)
def test_a_historical_rank_is_the_share_of_margins_below(margins: Any, data: Any) -> None:
    """Counted exactly over the margins themselves, up to those in the same bin."""
    weights = data.draw(
        hnp.arrays(np.float32, len(margins), elements=st.sampled_from([0.25, 1.0, 3.0]))
    )
    margin = data.draw(st.sampled_from(margins.tolist()) | st.floats(-13.75, 13.75, width=32))
    sketch, width = np.zeros(BINS + 1), 2 * float(MARGIN) / BINS
    for each, weight in zip(margins, weights, strict=True):
        remember(sketch, each, weight)
    least = weights[margins < margin - width].sum()
    most = weights[margins < margin + width].sum()
    rank = historical_rank(sketch, np.float32(margin)) * (float(weights.sum()) + 1) - 0.5
    assert least - 1e-9 <= rank <= most + 1e-9


@given(st.floats(-14, 14, width=32), st.floats(-14, 14, width=32))
def test_ranks_rise_with_the_margin(one: float, two: float) -> None:
    sketch = np.zeros(BINS + 1)
    for margin in np.random.default_rng(0).normal(size=50).astype(np.float32):
        remember(sketch, margin, np.float32(0.1))
    low, high = sorted(np.clip([one, two], -MARGIN, MARGIN).astype(np.float32))
    ranks = [historical_rank(sketch, margin) for margin in (low, high)]
    assert 0 < ranks[0] <= ranks[1] + 1e-12 < 1


def test_ranks_do_not_show_how_sure_a_member_is() -> None:
    block = stream(4000)
    before = run("rank", block)
    block.scores[:, 1] /= 8
    after = run("rank", served(block))
    assert np.abs(after - before)[500:].mean() < 0.01
    block.scores[:, 1] *= -1
    assert np.abs(run("rank", served(block)) - before)[500:].mean() > 0.1


def test_best_is_who_lost_least_so_far() -> None:
    block = stream(800)
    p = block.p[:, 1 : EXPERTS + 1].astype(float)
    loss = -np.log(np.where(block.label[:, None] > 0, p, 1 - p)) * block.weight[:, None]
    loss[~known(block)] = 0
    before = np.vstack([np.zeros(EXPERTS), loss.cumsum(axis=0)[:-1]])
    leader = before.argmin(axis=1)
    assert len(set(leader.tolist())) > 1
    assert run("best", block).tolist() == p[np.arange(800), leader].tolist()


@pytest.mark.parametrize("name", ["majority", "weighted", "rank"])
def test_what_is_no_probability_becomes_a_calibrated_one(name: str) -> None:
    block = stream(20_000, labelled=1.0)
    p, y, w = run(name, block).astype(float), block.label, block.weight
    assert p @ w == pytest.approx(y @ w, rel=0.02)
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1)):
        at = (p >= low) & (p < high)
        assert abs((p @ (w * at) - y @ (w * at)) / (w @ at)) < 0.03 or (w @ at) < 500


@CHOSEN
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_blocks_do_not_matter_and_state_is_all_there_is(name: str, size: int) -> None:
    block = stream(1500)
    whole, part = new(name), new(name)
    whole.run(block, immediate_tape(block.label))
    p = block.p[:, -1].copy()
    block.p[:, -1] = np.nan
    for start in range(0, block.n, size):
        rows = block.rows(start, min(block.n, start + size))
        part.run(rows, immediate_tape(rows.label))
        if start % 5 == 0:
            again = new(name)
            again.restore(*part.state())
            part = again
    assert block.p[:, -1].tobytes() == p.tobytes()
    states = [{k: v.tobytes() for k, v in each.state()[0].items()} for each in (whole, part)]
    assert states[0] == states[1]


@CHOSEN
def test_kernels_equal_their_twins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, with twins all the way down."""
    block = stream(150)
    p, fast, plain = run(name, block), new(name), new(name)
    fast.run(block, immediate_tape(block.label))
    twins = {id(compiled): twin for compiled, twin in KERNELS.values()}
    for module in (calibration, combiner, mixture, ranks, votes):
        for attribute, value in list(vars(module).items()):
            if id(value) in twins:
                monkeypatch.setattr(module, attribute, twins[id(value)])
    plain.run(block, immediate_tape(block.label))
    assert block.p[:, -1].tobytes() == p.tobytes()
    for key, array in fast.state()[0].items():
        assert plain.state()[0][key].tobytes() == array.tobytes()


@CHOSEN
def test_labels_change_nothing_before_them(name: str) -> None:
    block = stream(400, labelled=1.0)
    one = run(name, block)
    block.label[200:] = 1 - block.label[200:]
    two = run(name, block)
    assert one[:201].tobytes() == two[:201].tobytes()
    # The mean is of the record alone.
    assert (one[201:] != two[201:]).any() == (name != "arithmetic")


@CHOSEN
def test_records_without_label_or_weight_change_nothing(name: str) -> None:
    block = stream(600)
    some, all_ = new(name), new(name)
    all_.run(block, immediate_tape(block.label))
    tape = immediate_tape(block.label)
    counts = known(block) & (block.weight > 0)
    some.run(block, Tape(tape.op[counts[tape.row]], tape.row[counts[tape.row]]))
    for key, array in all_.state()[0].items():
        assert some.state()[0][key].tobytes() == array.tobytes()


@CHOSEN
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_hard_streams_give_probabilities(name: str, label: float) -> None:
    block = Block.of([[]] * 3000, label=[label] * 3000)
    block.scores = np.tile(np.float32([MARGIN, -MARGIN, 0, MARGIN]), (3000, 1))
    p = run(name, served(block))
    assert ((p >= 1e-6) & (p <= 1 - 1e-6)).all()
    assert name == "arithmetic" or abs(p[-1] - label) < 0.01
