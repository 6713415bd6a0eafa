"""Field-aware factorisation: kernel against twin, gradient, laws, memory and what it can learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack.block import LEARN, MARGIN, PREDICT, Block, Tape, immediate_tape
from onlinestack.kernel import KERNELS
from onlinestack.linear.factorisation import Factorisation
from onlinestack.linear.interactions import reads_of
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.rule import Rule

F = np.float32
BOTH = KERNELS["onlinestack.linear.factor_walk.walk"]


def block_of(
    rows: list[list[list[tuple[int, float]]]],
    labels: Any,
    columns: int = 1,
    weights: Any = None,
) -> Block:
    """Return a block of records given as fields, each a list of features (hash, value)."""
    flat = [[feature for field in row for feature in field] for row in rows]
    n, width = len(rows), max([1, *(len(row) for row in rows)])
    block = Block.of(
        [[("f", [i for i, _ in row], [x for _, x in row])] for row in flat],
        label=labels,
        weight=weights if weights is not None else [1.0] * n,
    )
    block.opens, block.closes = np.zeros((n, width), np.int64), np.zeros((n, width), np.int64)
    at = 0
    for i, row in enumerate(rows):
        for f in range(width):
            block.opens[i, f] = at
            at += len(row[f]) if f < len(row) else 0
            block.closes[i, f] = at
    block.scores = np.full((n, columns), 99, F)
    return block


def clicks(n: int, seed: int = 0, width: int = 6, columns: int = 1) -> Block:
    """Return records of categorical fields and a text, whose clicks depend on two fields."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 7, (n, width))
    rows = []
    for row in values.tolist():
        fields = [[(1000 * f + v, 1.0)] if v else [] for f, v in enumerate(row)]
        words = [(9000 + v % 50, 1.0) for v in rng.integers(0, 50, rng.integers(0, 5)).tolist()]
        rows.append([*fields, words])
    truth = 1 / (1 + np.exp(-np.where(values[:, 0] % 2 == values[:, 1] % 2, 1.5, -1.5)))
    labels = (rng.random(n) < truth).astype(float)
    labels[rng.random(n) < 0.05] = np.nan
    return block_of(rows, labels, columns, rng.choice([0.0, 0.5, 1.0, 3.0], n))


def part_of(rates: Any = (0.3,), fields: int = 7, **options: Any) -> Factorisation:
    names = [f"r{rate}" for rate in rates]
    options = {"bits": 8, **options}
    return Factorisation(names, range(len(names)), rates, fields=fields, **options)


def run_twin(part: Factorisation, block: Block, tape: Tape) -> None:
    """Run a part with the twin of its kernel."""
    BOTH.twin(
        tape.op,
        tape.row,
        block.label,
        block.weight,
        block.index,
        block.value,
        block.opens,
        block.closes,
        part.columns,
        part.steps,
        part.tables,
        None,
        part._totals,
        part._counts,
        block.scores,
    )


def fingerprint(part: Factorisation) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in part.state()[0].items()}


def scores_of(part: Factorisation, block: Block) -> np.ndarray:
    part.run(block, immediate_tape(block.label))
    return block.scores.copy()


features = st.tuples(
    st.integers(0, 30),
    st.one_of(st.just(1.0), st.floats(-9, 9, width=32), st.sampled_from([0.0, 1e30, np.inf])),
)
fields = st.lists(st.lists(features, max_size=3), max_size=11)


@given(
    st.lists(fields, min_size=1, max_size=10),
    st.lists(st.sampled_from([0.0, 1.0, 0.25, 7.0, 1e30]), min_size=1, max_size=3),
    st.lists(st.sampled_from([0.1, 1.0, 1e18]), min_size=1, max_size=3),
    st.sampled_from([0.0, 1e-2]),
    st.integers(0, 3),
)
@settings(max_examples=60)
def test_kernel_equals_its_twin(
    rows: Any, weights: list[float], rates: list[float], l2: float, lag: int
) -> None:
    """Absent fields, several values, late learns, learning twice, weight 0: the same bits."""
    rows = rows * 3
    n = len(rows)
    labels = ([0.0, 1.0, 1.0] * n)[:n]
    block = block_of(rows, labels, len(rates), (weights * n)[:n])
    other = block_of(rows, labels, len(rates), (weights * n)[:n])
    steps = [(PREDICT, i) for i in range(n)]
    for i in reversed(range(n)):
        steps.insert(min(len(steps), i + 1 + lag), (LEARN, i))
    steps += [(LEARN, 0), (LEARN, 0), (PREDICT, 0), (PREDICT, n - 1)]
    op, row = (np.array(column) for column in zip(*steps, strict=True))
    tape = Tape(op.astype(np.uint8), row.astype(np.int32))
    one, two = (part_of(rates, block.opens.shape[1], bits=4, l2=l2) for _ in range(2))
    one.run(block, tape)
    run_twin(two, other, tape)
    assert np.isfinite(block.scores).all()
    assert block.scores.tobytes() == other.scores.tobytes()
    assert fingerprint(one) == fingerprint(two)


def test_a_step_follows_the_gradient() -> None:
    """The first step of every weight is AdaGrad's along the numerical gradient of the loss."""
    rows = [[[(1, 1.0)], [(2, 2.0), (3, -1.0)], [], [(4, 1.0)]]] * 3
    block = block_of(rows, [1.0, 0.0, 1.0])
    part = part_of(rates=[0.5], fields=4, spread=0.7, l2=0.0, linear=1.0)
    for i in range(2):
        part.run(block.rows(i, i + 1), immediate_tape(block.label[i : i + 1]))
    before = part.state()[0]
    part.run(block.rows(2, 3), immediate_tape(block.label[2:]))
    after = part.state()[0]
    assert before["row"].tolist() == [1, 2, 3, 4]
    width = part.tables.vectors.shape[2] // 5
    vectors = before["vectors"][:, 0, : 4 * width].astype(float).reshape(4, width, 4)
    linear = before["linear"][:, 0].astype(float)
    x = np.array([1, 2 / 5**0.5, -1 / 5**0.5, 1])
    where = [0, 1, 1, 3]

    def loss(vectors: Any, linear: Any) -> float:
        score = float(before["constant"][0]) + linear @ x
        for i in range(4):
            for j in range(i):
                if where[i] != where[j]:
                    pair = vectors[i, where[j]] @ vectors[j, where[i]]
                    score += pair * x[i] * x[j] / 3**0.5
        return float(np.log1p(np.exp(-score)))

    def slope(at: tuple[int, ...], table: str) -> float:
        out = []
        for h in (1e-6, -1e-6):
            moved = {"vectors": vectors.copy(), "linear": linear.copy()}
            moved[table][at] += h
            out.append(loss(**moved))
        return (out[0] - out[1]) / 2e-6

    for i in range(4):
        total = before["linear"][i, 1] + slope((i,), "linear") ** 2
        move = -0.5 * slope((i,), "linear") / np.sqrt(1 + total)
        assert after["linear"][i, 0] - linear[i] == pytest.approx(move, rel=1e-3)
        for g in range(width):
            gradient = np.array([slope((i, g, d), "vectors") for d in range(4)])
            total = before["vectors"][i, 0, 4 * width + g] + (gradient**2).mean()
            move = -0.5 * gradient / np.sqrt(0.02 + total)
            moved = after["vectors"][i, 0, 4 * g : 4 * g + 4] - vectors[i, g]
            assert moved == pytest.approx(move, rel=1e-3, abs=1e-7)
            assert (g in {0, 1, 3} - {where[i]}) == bool(moved.any())


@pytest.mark.parametrize("size", [1, 7, 64])
def test_law_2_blocks_do_not_matter(size: int) -> None:
    rates = (0.1, 1.0)
    whole, pieces = part_of(rates), part_of(rates)
    one, two = clicks(400, columns=2), clicks(400, columns=2)
    expected = scores_of(whole, one)
    for at in range(0, 400, size):
        rows = two.rows(at, min(400, at + size))
        pieces.run(rows, immediate_tape(rows.label))
    assert two.scores.tobytes() == expected.tobytes()
    assert fingerprint(whole) == fingerprint(pieces)


def test_law_1_a_label_changes_no_prediction_up_to_it() -> None:
    reference = scores_of(part_of(), clicks(300))
    known = np.flatnonzero(~np.isnan(clicks(300).label) & (clicks(300).weight > 0))
    for i in [known[0], known[20], known[100]]:
        changed = clicks(300)
        changed.label[i] = 1 - changed.label[i]
        scores = scores_of(part_of(), changed)
        assert scores[: i + 1].tobytes() == reference[: i + 1].tobytes()
        assert scores[i + 1 :].tobytes() != reference[i + 1 :].tobytes()


def test_records_without_label_or_weight_change_nothing_learned() -> None:
    part = part_of()
    scores_of(part, clicks(200))
    before = fingerprint(part)
    more = clicks(100, seed=5)
    more.label[:50] = np.nan
    more.weight[50:] = 0
    more.label[50:] = 1
    scores_of(part, more)
    assert fingerprint(part) == before
    assert (more.scores != 99).all()


@pytest.mark.parametrize("stop", [1, 77, 399])
def test_state_goes_round(stop: int) -> None:
    rates = (0.1, 1.0)
    block, again = clicks(400, columns=2), clicks(400, columns=2)
    whole, head, tail = part_of(rates), part_of(rates), part_of(rates)
    scores_of(whole, block)
    scores_of(head, again.rows(0, stop))
    arrays, meta = head.state()
    scores_of(tail, clicks(150, seed=9, columns=2))
    tail.restore({name: array.copy() for name, array in arrays.items()}, meta)
    scores_of(tail, again.rows(stop, 400))
    assert again.scores.tobytes() == block.scores.tobytes()
    assert fingerprint(tail) == fingerprint(whole)


def test_members_of_one_walk_are_what_they_are_alone() -> None:
    rates = (0.1, 0.3, 1.0)
    together = scores_of(part_of(rates), clicks(300, columns=3))
    for k, rate in enumerate(rates):
        assert scores_of(part_of([rate]), clicks(300))[:, 0].tobytes() == together[:, k].tobytes()
    assert len({together[:, k].tobytes() for k in range(3)}) == 3


def test_learns_what_only_a_pair_tells() -> None:
    """A click is a = b for two fields of 8 values; a linear learner sees a coin."""
    rng = np.random.default_rng(3)
    a, b, c = rng.integers(0, 8, (3, 6000))
    rows = [
        [[(10 + i, 1.0)], [(30 + j, 1.0)], [(50 + k, 1.0)]] for i, j, k in zip(a, b, c, strict=True)
    ]
    block = block_of(rows, (a % 2 == b % 2).astype(float))
    part, linear = part_of(fields=3), LinearMember(reads_of(), Rule())
    tape = immediate_tape(block.label)
    part.run(block, tape)
    linear.run(block, tape)
    right = (block.scores[:, 0] > 0) == block.label
    guessed = (linear.score[:6000] > 0) == block.label
    assert right[1000:].mean() > 0.99
    assert guessed[1000:].mean() < 0.6


def test_a_rate_beyond_reason_leaves_numbers() -> None:
    block = clicks(500, columns=2)
    block.weight[:] = 1
    part = part_of((0.3, 1e25))
    scores_of(part, block)
    assert np.isfinite(block.scores).all()
    assert (np.abs(block.scores) <= MARGIN).all()
    assert all(np.isfinite(array).all() for array in part.state()[0].values())
    assert part.dropped[0] == part.dumb[0] == 0
    assert part.dropped[1] > 0
    assert part.dumb[1] > 0
    alone = clicks(500)
    alone.weight[:] = 1
    assert scores_of(part_of(), alone)[:, 0].tobytes() == block.scores[:, 0].tobytes()


def test_a_score_that_is_no_number_speaks_with_the_click_rate() -> None:
    rows = [[[(1, 1.0)], [(2, 1.0)]]] * 4 + [[[(1, np.inf)], [(2, 1.0)]]]
    block = block_of(rows, [1.0, 1.0, 0.0, 1.0, 1.0])
    part = part_of(fields=2)
    scores_of(part, block)
    assert block.scores[4, 0] == pytest.approx(np.log(3.5 / 1.5))
    assert (part.dumb[0], part.dropped[0]) == (1, 1)


def test_a_long_text_weighs_as_much_as_a_word() -> None:
    """Unscaled, the first step over 300 words would move the score by 40."""
    part = part_of((1.0,), fields=2, bits=12)
    words = [(f, 1.0) for f in range(300)]
    block = block_of([[words, [(999, 1.0)]]] * 40, [1.0] * 40)
    scores = scores_of(part, block)[:, 0]
    assert np.abs(np.diff(scores)).max() < 3
    assert scores[-1] > 3


def test_memory_is_bounded_and_saved_by_what_was_learned() -> None:
    names = ["a", "b", "c"]
    part = Factorisation(names, range(3), fields=40)
    assert part.bytes < 120_000_000
    assert part.tables.met.shape == (2**17,)
    few = part_of((0.1, 0.3, 1.0), bits=16)
    scores_of(few, clicks(300, columns=3))
    assert sum(array.nbytes for array in few.state()[0].values()) < few.bytes / 50
    small = part_of((0.1,), bits=10, memory=9000)
    before = small.bytes
    scores_of(small, clicks(2000))
    assert (small.bytes, small.tables.vectors.shape[0]) == (before, 32)


def test_start_is_even_and_the_same_both_ways() -> None:
    steps = part_of(spread=0.5, seed=3).steps
    both = KERNELS["onlinestack.linear.factors.start"]
    entries = [(row, entry) for row in (0, 1, 70000) for entry in range(200)]
    values = np.array([both.compiled(*at, steps) for at in entries], F)
    assert values.tobytes() == np.array([both.twin(*at, steps) for at in entries], F).tobytes()
    assert len(set(values.tolist())) > 590
    assert -0.5 <= values.min() < -0.48
    assert 0.48 < values.max() <= 0.5
    assert abs(values.mean()) < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": [0]}, "one of each"),
        ({"rates": [0.1, 0.0]}, "rate of b"),
        ({"spread": -1.0}, "spread"),
        ({"start": 0.0}, "start"),
        ({"bits": 0}, "bits"),
        ({"fields": 0}, "fields"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    given = {"names": ["a", "b"], "columns": [0, 1], "rates": [0.1, 0.2], **options}
    with pytest.raises(ValueError, match=message):
        Factorisation(**given)
