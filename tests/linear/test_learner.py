"""The walk over the tape: interactions, kernels against twins, progressive order."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack.block import LEARN, PREDICT, Block, Tape, immediate_tape
from onlinestack.kernel import KERNELS
from onlinestack.linear.interactions import (
    CONSTANT,
    count_features,
    expand_wildcards,
    gather,
    normalise_interactions,
    reads_of,
    sum_of_squares,
)
from onlinestack.linear.learner import LinearMember, Scratch, walk
from onlinestack.linear.losses import LOSSES, Loss
from onlinestack.linear.rule import SHIFTS, UPDATES, Rule

F = np.float32


def listed(block: Block, reads: Any, row: int = 0, twin: bool = False) -> list[tuple[int, float]]:
    """Return the working list of a row."""
    rule = Rule()
    need = count_features(row, block.names, block.start, block.stop, reads)
    slots, values = np.zeros(need + 1, np.uint32), np.zeros(need + 1, F)
    function = KERNELS["onlinestack.linear.interactions.gather"].twin if twin else gather
    weights = np.zeros(4 * (int(rule.mask) + 1), F)
    at = np.zeros(8, np.int64)
    n = function(
        row,
        block.index,
        block.value,
        block.names,
        block.start,
        block.stop,
        reads,
        slots,
        values,
        at,
        weights,
        rule,
    )
    assert n == need
    return [(int(s), float(v)) for s, v in zip(slots[:n], values[:n], strict=True)]


def test_vowpal_wabbits_documented_pair_slot() -> None:
    """`|f a |g c` with `-q fg` at 18 bits meets slot 133045."""
    block = Block.of([[("f", [282867731], [1.0]), ("g", [148060], [1.0])]])
    pairs = listed(block, reads_of(interactions=[b"fg"]))
    assert [slot & (2**18 - 1) for slot, _ in pairs] == [14355, 148060, CONSTANT % 2**18, 133045]


def test_self_interactions_are_combinations_with_the_diagonal() -> None:
    block = Block.of([[("a", [1, 2], [2.0, 3.0])]])
    values = [v for _, v in listed(block, reads_of(b"", [b"aa"], constant=False))]
    assert values == [4.0, 6.0, 9.0]
    ordered = reads_of(b"", [b"aa"], constant=False, permutations=True)
    assert [v for _, v in listed(block, ordered)] == [4.0, 6.0, 6.0, 9.0]
    assert len(listed(block, reads_of(b"", [b"aaa"], constant=False))) == 4


def test_absent_namespaces_and_ignored_ones() -> None:
    block = Block.of([[("a", [1], [1.0]), ("b", [2], [1.0])]])
    assert listed(block, reads_of(None, [b"ac"], constant=False)) == [(1, 1.0), (2, 1.0)]
    assert listed(block, reads_of(None, [b"ab"], ignore=b"a", constant=False)) == [(2, 1.0)]
    only = reads_of(None, [b"ab"], ignore_linear=b"a", constant=False)
    assert [slot for slot, _ in listed(block, only)] == [2, 16777619 ^ 2]


def test_interactions_are_sorted_and_deduplicated() -> None:
    assert normalise_interactions([b"ba", b"ab", b"ba"]) == [b"ab"]
    assert normalise_interactions([b"ba"]) == [b"ba"]
    assert normalise_interactions([b"aba", b"cab"]) == [b"aab", b"cab"]
    assert normalise_interactions([b"ab", b"ba"], leave_duplicates=True) == [b"ab", b"ba"]
    assert expand_wildcards([b"a:"], b"ba") == [b"aa", b"ab"]
    assert len(expand_wildcards([b":::"], b"abc")) == 10


letters = st.sampled_from("abc")
features = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.one_of(st.just(1.0), st.floats(-8, 8, width=32).filter(lambda v: v != 0)),
    ),
    max_size=4,
)
records = st.lists(
    st.lists(st.tuples(letters, features), max_size=3, unique_by=lambda g: g[0]),
    min_size=1,
    max_size=12,
)
terms = st.lists(st.text("abc", min_size=2, max_size=4).map(str.encode), max_size=4)


def block_of(rows: Any, labels: list[float], weights: list[float] | None = None) -> Block:
    groups = [[(c, [i for i, _ in f], [v for _, v in f]) for c, f in row] for row in rows]
    n = len(rows)
    given_weights = (weights or [1.0]) * n
    return Block.of(groups, label=(labels * n)[:n], weight=given_weights[:n])


@given(records, terms, st.booleans(), st.sampled_from([1, 4]))
@settings(max_examples=60)
def test_gather_equals_its_twin(rows: Any, chosen: Any, permutations: bool, spread: int) -> None:
    block = block_of(rows, [1.0])
    reads = reads_of(None, normalise_interactions(chosen), permutations=permutations, spread=spread)
    counts = KERNELS["onlinestack.linear.interactions.count_features"]
    for row in range(block.n):
        arguments = (row, block.names, block.start, block.stop, reads)
        assert counts.compiled(*arguments) == counts.twin(*arguments)
        assert listed(block, reads, row) == listed(block, reads, row, twin=True)


def test_sum_of_squares_is_that_of_the_list() -> None:
    block = Block.of([[("a", [1, 2, 5], [2.0, 0.5, 1.0]), ("b", [3, 4], [1.0, 3.0])]])
    for chosen in ([b"ab"], [b"aa"], [b"aab"], [b"aaa", b"bb"], []):
        reads = reads_of(None, normalise_interactions(chosen))
        total = sum(v * v for _, v in listed(block, reads))
        sums = np.zeros(4, F)
        arguments = (0, block.value, block.names, block.start, block.stop, reads, sums)
        assert sum_of_squares(*arguments) == pytest.approx(total)


def member(rule: Rule, interactions: Any = (), twin: bool = False, **options: Any) -> LinearMember:
    reads = reads_of(None, normalise_interactions(interactions))
    return LinearMember(reads, rule._replace(mask=np.uint64(255)), **options)


def walk_with(function: Any, part: LinearMember, block: Block, tape: Tape) -> np.ndarray:
    """Walk with a given form of the kernel."""
    raw, score, loss = (np.zeros(block.n, F) for _ in range(3))
    function(
        tape.op,
        tape.row,
        block.label,
        block.weight,
        block.initial,
        block.index,
        block.value,
        block.names,
        block.start,
        block.stop,
        part.reads,
        part.weights,
        part.shared,
        part.norms[0],
        part.rule,
        Scratch.of(512, part.reads.terms.shape[1]),
        raw,
        score,
        loss,
    )
    return np.stack([raw, score, loss])


rules = st.builds(
    lambda update, code, flags, power, l1, l2, inside, fade: Rule(
        update=UPDATES[update],
        shift=np.uint64(SHIFTS[UPDATES[update]]),
        loss=Loss(LOSSES[code], F(0.3)),
        adaptive=flags[0],
        normalized=flags[1],
        invariant=flags[2],
        power_t=F(power),
        l1=l1,
        l2=l2,
        with_label=inside,
        fade=F(fade),
    ),
    st.sampled_from(["gd", "gd", "gd", "ftrl", "pistol", "coin"]),
    st.sampled_from(sorted(LOSSES)),
    st.tuples(*[st.booleans()] * 3),
    st.sampled_from([0.5, 0.3, 0.0, 1.0]),
    st.sampled_from([0.0, 1e-3]),
    st.sampled_from([0.0, 1e-2]),
    st.booleans(),
    st.sampled_from([1.0, 1.0, 0.999, 0.5]),
)


@given(records, terms, rules, st.lists(st.floats(0, 4, width=32), min_size=1, max_size=3))
@settings(max_examples=80, deadline=None)
def test_walk_equals_its_twin(rows: Any, chosen: Any, rule: Rule, weights: list[float]) -> None:
    """The walk with foresight and the plain one leave the same bits everywhere."""
    block = block_of(rows, [1.0, float("nan"), 0.0], weights)
    tape = immediate_tape(block.label)
    both = KERNELS["onlinestack.linear.learner.walk"]
    one, two = member(rule, chosen, initial_t=1.0), member(rule, chosen, initial_t=1.0)
    fast, plain = (
        walk_with(both.compiled, one, block, tape),
        walk_with(both.twin, two, block, tape),
    )
    assert fast.tobytes() == plain.tobytes()
    assert one.weights.tobytes() == two.weights.tobytes()
    assert one.shared.tobytes() == two.shared.tobytes()
    assert one.norms.tobytes() == two.norms.tobytes()


@given(records, rules, st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_late_labels_and_repeats(rows: Any, rule: Rule, lag: int) -> None:
    """Any tape is walked as written: late learning, learning twice, predicting again."""
    block = block_of(rows, [1.0, 0.0, 1.0])
    steps = [(PREDICT, i) for i in range(block.n)]
    for i in reversed(range(block.n)):
        steps.insert(min(len(steps), i + lag), (LEARN, i))
    steps += [(LEARN, 0), (PREDICT, block.n - 1)]
    op, row = (np.array(column) for column in zip(*steps, strict=True))
    tape = Tape(op.astype(np.uint8), row.astype(np.int32))
    both = KERNELS["onlinestack.linear.learner.walk"]
    one, two = member(rule, [b"ab"]), member(rule, [b"ab"])
    fast, plain = (
        walk_with(both.compiled, one, block, tape),
        walk_with(both.twin, two, block, tape),
    )
    assert fast.tobytes() == plain.tobytes()
    assert one.weights.tobytes() == two.weights.tobytes()


plain_rows = st.lists(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from([1.0] * 20 + [2.0])), min_size=1, max_size=40
    ),
    min_size=1,
    max_size=30,
)


@given(
    plain_rows,
    st.lists(st.sampled_from([0.0, 1.0, 0.5]), min_size=1, max_size=5),
    st.lists(st.sampled_from([1.0, 1.0, 0.25, 1e-30, 1e6, 0.0]), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([1.0, 0.999, 0.5]),
)
@settings(max_examples=120, deadline=None)
def test_short_cut_for_plain_values(
    rows: Any,
    labels: list[float],
    weights: list[float],
    inside: bool,
    initial_t: float,
    fade: float,
) -> None:
    """Slots met twice in a record, new slots, odd values, soft labels: the same bits."""
    block = block_of([[("f", row)] for row in rows], labels, weights)
    rule = Rule(loss=Loss(LOSSES["logistic"]), with_label=inside, fade=F(fade))
    both = KERNELS["onlinestack.linear.learner.walk"]
    one, two = member(rule, initial_t=initial_t), member(rule, initial_t=initial_t)
    for part in (one, two):
        part.rule = part.rule._replace(mask=np.uint64(7))
    for _ in range(3):
        tape = immediate_tape(block.label)
        fast = walk_with(both.compiled, one, block, tape)
        assert fast.tobytes() == walk_with(both.twin, two, block, tape).tobytes()
    assert one.weights.tobytes() == two.weights.tobytes()
    assert one.shared.tobytes() == two.shared.tobytes()
    assert one.norms.tobytes() == two.norms.tobytes()


def test_changing_a_label_changes_no_prediction_up_to_it() -> None:
    rng = np.random.default_rng(1)
    rows = [[("a", rng.integers(0, 20, 3).tolist(), [1.0] * 3)] for _ in range(60)]
    labels = rng.integers(0, 2, 60).astype(float).tolist()
    for name, i in product(["logistic", "squared"], [0, 7, 30, 59]):
        changed = labels.copy()
        changed[i] = 1 - changed[i]
        scores = []
        for chosen in (labels, changed):
            block = Block.of(rows, label=chosen)
            part = member(Rule(loss=Loss(LOSSES[name])), low=0.0 if name == "squared" else -50.0)
            part.run(block, immediate_tape(block.label))
            scores.append(part.score[:60].copy())
        assert scores[0][: i + 1].tobytes() == scores[1][: i + 1].tobytes()
        if i < 40:
            assert scores[0][i + 1 :].tobytes() != scores[1][i + 1 :].tobytes()


def test_state_goes_round(tmp_path: Any) -> None:
    rng = np.random.default_rng(2)
    rows = [[("a", rng.integers(0, 90, 3).tolist(), [1.0] * 3)] for _ in range(200)]
    block = Block.of(rows, label=rng.integers(0, 2, 200))
    first, whole = member(Rule(l2=1e-4)), member(Rule(l2=1e-4))
    whole.run(block, immediate_tape(block.label))
    head, tail = block.rows(0, 77), block.rows(77, 200)
    first.run(head, immediate_tape(head.label))
    arrays, meta = first.state()
    second = member(Rule(l2=1e-4))
    second.restore({k: v.copy() for k, v in arrays.items()}, meta)
    second.run(tail, immediate_tape(tail.label))
    assert second.score[:123].tobytes() == whole.score[77:200].tobytes()
    one, two = second.state()[0], whole.state()[0]
    assert all(one[k].tobytes() == two[k].tobytes() for k in one)


def test_infinite_and_vanishing_values_stay_harmless() -> None:
    block = Block.of(
        [[("a", [1, 2, 3], [np.inf, 1e-38, 1e38])]] * 5, label=[1.0, 0.0, 1.0, 0.0, 1.0]
    )
    part = member(Rule())
    part.run(block, immediate_tape(block.label))
    assert np.isfinite(part.score[:5]).all()


def test_a_sum_forgets_half_in_its_half_life() -> None:
    part = member(Rule(fade=F(0.5 ** (1 / 100))))
    block = block_of([[("f", [(3, 1.0)])]] * 101, [1.0, 0.0])
    block.weight[1:] = 1e-20
    sums = []
    for rows in (block.rows(0, 1), block.rows(1, 101)):
        part.run(rows, immediate_tape(rows.label))
        sums.append(float(part.weights[3 * 4 + 1]))
    assert sums[1] == pytest.approx(sums[0] / 2, rel=1e-5)


def flipped(fade: float) -> int:
    """Return how many records after the labels flip it takes to be right most of the time."""
    random, n, flip = np.random.default_rng(5), 120_000, 100_000
    value = random.integers(0, 20, n)
    clicked = (random.random(n) < np.where(value % 3 == 0, 0.9, 0.1)) ^ (np.arange(n) >= flip)
    block = block_of([[("f", [(int(v), 1.0)])] for v in value], [1.0])
    block.label = clicked.astype(F)
    part = member(Rule(fade=F(fade)))
    part.run(block, immediate_tape(block.label))
    right = (part.score[flip:n] > 0) == (value[flip:] % 3 != 0)
    of_late = np.convolve(right, np.ones(200) / 200, "valid")
    return int(np.argmax(of_late > 0.9))


def test_after_a_hundred_thousand_records_it_still_changes_its_mind() -> None:
    """A member whose adaptive sums fade follows flipped labels several times as fast."""
    assert 0 < 4 * flipped(0.5 ** (1 / 64)) < flipped(1.0)


def test_walk_is_the_kernel_or_its_twin() -> None:
    assert walk in KERNELS["onlinestack.linear.learner.walk"]
