"""Random bits and the linear learner over them: what they mean, and nothing from the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onlinestack.block import LEARN, PREDICT, WORD, Block, Tape, immediate_tape
from onlinestack.engine import Engine
from onlinestack.features.planes import TILE, Planes, bits_of, observe
from onlinestack.features.planes import Room as PlaneRoom
from onlinestack.features.random_bits import RandomBits
from onlinestack.kernel import KERNELS
from onlinestack.linear.bits import BitsMember, Room, Weights, centred, move, walk
from onlinestack.linear.interactions import reads_of
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.rule import Rule
from onlinestack.stack.expert import Expert

FLOATS = st.floats(width=32)
FINITE = st.floats(-100, 100, width=32)
NUMBERS = 2
WARM = 60
BITS = 64


def twin(name: str) -> Any:
    return KERNELS[f"onlinestack.{name}"].twin


def log(n: int, seed: int = 0, columns: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tables with all that is not a number, labels and weights of all kinds."""
    random = np.random.default_rng(seed)
    table = random.normal(size=(n, columns)).astype(np.float32)
    if columns:
        table[:, 0] = np.sign(table[:, 0]) * np.exp(3 * np.abs(table[:, 0]))
    odd = np.array([np.nan, np.inf, -np.inf, 0.0], np.float32)
    where = random.random(table.shape) < 0.1
    table[where] = random.choice(odd, int(where.sum()))
    label = random.choice([0.0, 1.0, -1.0, np.nan], n, p=[0.4, 0.3, 0.1, 0.2]).astype(np.float32)
    weight = random.choice([0.0, 1.0, 0.5, 3.0], n, p=[0.1, 0.6, 0.2, 0.1]).astype(np.float32)
    return table, label, weight


def engine_of(columns: int = 5, **settings: Any) -> Engine:
    bits = RandomBits(columns, numbers=min(NUMBERS, columns), bits=BITS, warm_up=WARM, **settings)
    return Engine({"bits": bits, "member": Expert(BitsMember(BITS), "bits", 0, ("r",))})


def block_of(table: np.ndarray, label: np.ndarray, weight: np.ndarray) -> Block:
    block = Block.of([[]] * len(label), label=label, weight=weight)
    block.table = np.array(table)
    block.scores = np.zeros((len(label), 1), np.float32)
    return block


def progress(
    engine: Engine, log: tuple[np.ndarray, np.ndarray, np.ndarray], size: int = 10**9
) -> tuple[np.ndarray, np.ndarray]:
    """Predict and learn a log in blocks; return scores and bits as served."""
    table, label, weight = log
    scores, bits = [], []
    for start in range(0, len(label), size):
        a, b, c = table[start:][:size], label[start:][:size], weight[start:][:size]
        for _, _, block, _ in engine.quanta(
            b, lambda i, j, a=a, b=b, c=c: block_of(a[i:j], b[i:j], c[i:j])
        ):
            scores.append(block.scores[:, 0].copy())
            bits.append(block.bits.copy())
    return np.concatenate(scores), np.concatenate(bits)


def same_state(a: Any, b: Any) -> None:
    (arrays_a, meta_a), (arrays_b, meta_b) = a.state(), b.state()
    assert meta_a == meta_b
    assert arrays_a.keys() == arrays_b.keys()
    for name, array in arrays_a.items():
        np.testing.assert_array_equal(array, arrays_b[name], strict=True, err_msg=name)


@st.composite
def planes(draw: st.DrawFn, inputs: int, columns: int) -> Planes:
    """Draw planes, their values from the whole of float32."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    return Planes(
        np.sort(random.choice(columns, inputs, replace=False)).astype(np.int32),
        draw(arrays(np.float32, inputs, elements=FINITE)),
        draw(arrays(np.float32, inputs, elements=st.floats(0, 2.0**100, width=32))),
        random.integers(0, inputs, (BITS, 3)).astype(np.int32),
        random.normal(size=(BITS, 3)).astype(np.float32),
        draw(arrays(np.float32, BITS, elements=FINITE)),
    )


@settings(deadline=None, max_examples=30)
@given(st.data(), st.integers(1, 5), st.sampled_from([1, 3, TILE - 1, TILE, TILE + 1]))
def test_bits_equal_their_twin(data: st.DataObject, inputs: int, n: int) -> None:
    drawn = data.draw(planes(inputs, 6))
    table = data.draw(arrays(np.float32, (n, 6), elements=FLOATS))
    out, expected = np.full((2, n, BITS // WORD), 7, np.uint32)
    bits_of(table, 2, drawn, PlaneRoom.of(inputs), out)
    twin("features.planes.bits_of")(table, 2, drawn, PlaneRoom.of(inputs), expected)
    np.testing.assert_array_equal(out, expected)


@settings(deadline=None, max_examples=30)
@given(arrays(np.float32, (20, 3), elements=FLOATS))
def test_moments_equal_their_twin(table: np.ndarray) -> None:
    tape = immediate_tape(np.where(np.arange(20) % 3, 1, np.nan).astype(np.float32))
    results = [np.zeros((3, 3)), np.zeros((3, 3))]
    for version, moments in zip((observe, twin("features.planes.observe")), results, strict=True):
        version(tape.op, tape.row, table, 1, moments)
    np.testing.assert_array_equal(*results)


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.uint32, 3),
    arrays(np.float32, 96, elements=FINITE),
    arrays(np.float32, 96, elements=st.floats(0, 1, width=32)),
    FINITE,
)
def test_sum_and_step_equal_their_twins(
    word: np.ndarray, weight: np.ndarray, mean: np.ndarray, gradient: float
) -> None:
    rooms = [Room(np.zeros(96, np.float32), np.zeros(32, np.float32)) for _ in range(2)]
    learned = [Weights(weight.copy(), mean.copy(), np.zeros(6)) for _ in range(2)]
    arguments = [np.float32(x) for x in (gradient, 0.013, 0.999, 0.25)]
    sums = [
        np.float32(version(word, weights, room))
        for version, weights, room in zip(
            (centred, twin("linear.bits.centred")), learned, rooms, strict=True
        )
    ]
    assert sums[0].tobytes() == sums[1].tobytes()
    move(*arguments, learned[0], rooms[0].x)
    twin("linear.bits.move")(*arguments, learned[1], rooms[1].x)
    np.testing.assert_array_equal(rooms[0].x, rooms[1].x)
    np.testing.assert_array_equal(learned[0].weight, learned[1].weight)
    np.testing.assert_array_equal(learned[0].mean, learned[1].mean)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60),
    st.integers(0, 2**32),
    st.integers(0, 9),
)
def test_walk_equals_its_twin(steps: list[tuple[bool, int]], seed: int, empty: int) -> None:
    """Rows are predicted and learned in any order, the first of them without bits."""
    random = np.random.default_rng(seed)
    op = np.array([LEARN if learns else PREDICT for learns, _ in steps], np.uint8)
    row = np.array([r for _, r in steps], np.int32)
    label = random.choice([-1, 0, 1], 10).astype(np.float32)
    weight = random.choice([0, 0.3, 1, 1000], 10).astype(np.float32)
    initial = random.choice([0, 0.7], 10).astype(np.float32)
    bits = random.integers(0, 2**32, (10, 2)).astype(np.uint32)
    bits[:empty] = 0
    members = BitsMember(64), BitsMember(64)
    raws = np.zeros(10, np.float32), np.zeros(10, np.float32)
    for version, member, raw in zip((walk, twin("linear.bits.walk")), members, raws, strict=True):
        room = Room(np.zeros(64, np.float32), np.zeros(32, np.float32))
        columns = label, weight, initial, bits
        version(op, row, *columns, member.rate, member.l2, member.weights, room, raw)
    np.testing.assert_array_equal(*raws)
    same_state(*members)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_blocks_do_not_matter(size: int) -> None:
    records = log(400)
    whole, parts = engine_of(), engine_of()
    for one, other in zip(progress(whole, records), progress(parts, records, size), strict=True):
        np.testing.assert_array_equal(one, other)
    same_state(whole, parts)


@pytest.mark.parametrize("size", [1, 50, 10**6])
def test_bits_begin_behind_the_last_record_of_the_warm_up(size: int) -> None:
    table, label, weight = log(200)
    last = int(np.flatnonzero(~np.isnan(label))[WARM - 1])
    engine = engine_of()
    _, bits = progress(engine, (table, label, weight), size)
    assert not bits[: last + 1].any()
    assert bits[last + 1 :].any(axis=1).all()
    later = table.copy()
    later[last + 1 :] = 3
    other = engine_of()
    progress(other, (later, label, weight), size)
    for a, b in zip(engine.parts["bits"].planes, other.parts["bits"].planes, strict=True):
        np.testing.assert_array_equal(a, b)
    later[last] = 3
    progress(another := engine_of(), (later, label, weight), size)
    assert (engine.parts["bits"].planes.mean != another.parts["bits"].planes.mean).any()


def test_scores_are_log_odds_of_the_click_rate_before_there_are_bits() -> None:
    table, label, weight = log(200)
    scores, bits = progress(engine_of(), (table, label, weight))
    clicks = total = 0.0
    for i in range(int(np.argmax(bits.any(axis=1)))):
        odds = np.log((clicks + 0.5) / (total - clicks + 0.5))
        assert scores[i] == pytest.approx(odds, abs=1e-6)
        if not np.isnan(label[i]):
            clicks, total = clicks + weight[i] * (label[i] > 0), total + weight[i]


@pytest.mark.parametrize("changed", [0, WARM, 150, 299])
def test_a_label_changes_nothing_up_to_its_record(changed: int) -> None:
    table, label, weight = log(300)
    label[changed], weight[changed] = 1, 1
    before = progress(engine_of(), (table, label, weight))[0]
    label[changed] = 0
    after = progress(engine_of(), (table, label, weight))[0]
    np.testing.assert_array_equal(before[: changed + 1], after[: changed + 1])
    assert changed == 299 or before[changed + 1] != after[changed + 1]


@pytest.mark.parametrize("stop", [0, 20, 85, 250])
def test_goes_on_from_its_state(stop: int) -> None:
    records = log(400)
    whole, first, second = engine_of(seed=3), engine_of(seed=3), engine_of(seed=3)
    scores, _ = progress(whole, records)
    if stop:
        progress(first, tuple(column[:stop] for column in records))
    arrays_, meta = first.state()
    second.restore({name: array.copy() for name, array in arrays_.items()}, meta)
    rest, _ = progress(second, tuple(column[stop:] for column in records))
    np.testing.assert_array_equal(rest, scores[stop:])
    same_state(whole, second)


def test_a_state_is_a_copy() -> None:
    records = log(300)
    engine = engine_of()
    for part in (0, 100):
        progress(engine, tuple(column[part : part + 100] for column in records))
        arrays_, _ = engine.state()
        kept = {name: array.copy() for name, array in arrays_.items()}
        progress(engine, tuple(column[200:] for column in records))
        for name, array in arrays_.items():
            np.testing.assert_array_equal(array, kept[name], err_msg=name)


def test_late_labels_learn_on_the_bits_served() -> None:
    """A row learned in a later block, with table and bits, is learned as if it lay in the first."""
    table, label, weight = log(100)
    label = np.nan_to_num(label)
    results = []
    for late in (False, True):
        bits, member = RandomBits(5, bits=BITS, warm_up=WARM), BitsMember(BITS)
        warm = block_of(table[:WARM], label[:WARM], weight[:WARM])
        for part in (bits, member):
            part.run(warm, immediate_tape(warm.label))
        bits.change()
        rest = [table[WARM:], label[WARM:], weight[WARM:]]
        n = len(rest[0])
        op, row = np.repeat(np.array([PREDICT, LEARN], np.uint8), n), np.tile(np.arange(n), 2)
        cuts = [0, n, 2 * n] if late else [0, 2 * n]
        served = []
        for start, stop in zip(cuts, cuts[1:], strict=False):
            block = block_of(*rest)
            if served:
                block.bits = served[0]
            for part in (bits, member):
                part.run(block, Tape(op[start:stop], row[start:stop].astype(np.int32)))
            served.append(block.bits.copy())
        np.testing.assert_array_equal(served[0], served[-1])
        results.append((bits, member, member.raw[:n].copy()))
    np.testing.assert_array_equal(results[0][2], results[1][2])
    for k in range(2):
        same_state(results[0][k], results[1][k])


def test_blocks_that_are_read_later_keep_their_bits() -> None:
    table, label, weight = log(200)
    bits = RandomBits(5, bits=BITS, warm_up=20)
    first = block_of(table[:20], np.ones(20), weight[:20])
    bits.run(first, immediate_tape(first.label))
    bits.change()
    blocks = [block_of(table[i : i + 50], label[i : i + 50], weight[i : i + 50]) for i in (0, 50)]
    for block in blocks:
        bits.run(block, immediate_tape(block.label))
    kept = blocks[0].bits.copy()
    again = block_of(table[:50], label[:50], weight[:50])
    bits.run(again, immediate_tape(again.label))
    np.testing.assert_array_equal(blocks[0].bits, kept)
    np.testing.assert_array_equal(again.bits, kept)
    np.testing.assert_array_equal(again.rows(3, 9).bits, kept[3:9])


def test_planes_are_drawn_from_the_records_learned() -> None:
    table, label, weight = log(200)
    learned = ~np.isnan(label)
    bits = RandomBits(5, numbers=NUMBERS, bits=256, warm_up=int(learned.sum()))
    block = block_of(table, label, weight)
    bits.run(block, immediate_tape(label))
    assert bits.next_change() == bits.learned == learned.sum()
    bits.change()
    assert bits.next_change() > 10**12
    drawn = bits.planes
    assert drawn is not None
    inputs = table.astype(np.float64)
    inputs[:, :NUMBERS] = np.sign(inputs[:, :NUMBERS]) * np.log1p(np.abs(inputs[:, :NUMBERS]))
    inputs[~np.isfinite(inputs)] = np.nan
    np.testing.assert_allclose(drawn.mean, np.nanmean(inputs[learned], axis=0), 1e-4, 1e-6)
    np.testing.assert_allclose(1 / drawn.scale, np.nanstd(inputs[learned], axis=0), 1e-4)
    assert all(len(set(row)) == 3 for row in drawn.input.tolist())
    assert set(drawn.input.ravel().tolist()) == set(range(5))
    assert abs(drawn.weight.mean()) < 0.15
    assert abs(drawn.weight.std() - 1) < 0.15
    z = np.nan_to_num((inputs - drawn.mean) * drawn.scale)
    projections = (z[:, drawn.input] * drawn.weight).sum(axis=2)
    assert (np.abs(projections[learned] - drawn.threshold).min(axis=0) < 1e-4).all()
    bits.run(block, immediate_tape(label))
    known = np.unpackbits(block.bits.view(np.uint8), axis=1, bitorder="little").astype(bool)
    clear = np.abs(projections - drawn.threshold) > 1e-4
    assert (known == (projections >= drawn.threshold))[clear].all()
    shares = known.mean(axis=0)
    assert shares.min() < 0.1 < 0.9 < shares.max()  # all thresholds are as likely


def test_another_seed_draws_other_planes() -> None:
    records = log(200)
    one, other = engine_of(seed=0), engine_of(seed=-1)
    progress(one, records)
    progress(other, records)
    assert (one.parts["bits"].planes.threshold != other.parts["bits"].planes.threshold).any()


@pytest.mark.parametrize("columns", [0, 1, 2])
def test_few_columns(columns: int) -> None:
    records = log(300, columns=columns)
    engine = engine_of(columns)
    scores, bits = progress(engine, records)
    assert np.isfinite(scores).all()
    assert bits[200:].any() == (columns > 0)
    restored = engine_of(columns)
    restored.restore(*engine.state())
    np.testing.assert_array_equal(progress(restored, records)[0], progress(engine, records)[0])
    if columns == 2:
        used = engine.parts["bits"].planes
        assert (used.input[:, 0] != used.input[:, 1]).all()
        assert not used.weight[:, 2].any()
        assert used.weight[:, :2].all()


def test_columns_that_do_not_vary_are_no_inputs() -> None:
    table, label, weight = log(300)
    table[:, 1] = 0.1
    table[:, 3] = np.nan
    table[:, 4] = np.where(np.arange(300) == 7, np.inf, 1e20)
    engine = engine_of()
    progress(engine, (table, label, weight))
    assert engine.parts["bits"].planes.column.tolist() == [0, 2]
    table[:] = 5
    dull = engine_of()
    scores, bits = progress(dull, (table, label, weight))
    assert not bits.any()
    assert np.isfinite(scores).all()


def test_learns_as_the_formulas_say() -> None:
    random = np.random.default_rng(5)
    n, k, rate, l2 = 80, 64, 0.8, 0.1
    block = block_of(np.zeros((n, 1)), random.integers(0, 2, n), random.choice([0.5, 1, 2], n))
    block.bits = random.integers(0, 2**32, (n, 2)).astype(np.uint32)
    block.initial[:] = random.normal(size=n)
    member = BitsMember(k, rate=rate, l2=l2)
    op = np.tile(np.array([PREDICT, LEARN, PREDICT], np.uint8), n)
    row = np.repeat(np.arange(n, dtype=np.int32), 3)
    bits = np.unpackbits(block.bits.view(np.uint8), axis=1, bitorder="little")
    w, mean, constant, squares = np.zeros(k), np.full(k, 0.5), 0.0, 1.0
    expected = []
    for i in range(n):
        x = bits[i] - mean
        p = 1 / (1 + np.exp(-block.initial[i] - constant - w @ x))
        gradient = float(block.weight[i]) * (p - float(block.label[i]))
        squares += gradient**2
        step = 6 * rate / k / squares**0.25
        w = w - step * (gradient * x + l2 * w)
        constant -= step * gradient
        mean += x / (i + 2)
        expected.append(block.initial[i] + constant + w @ (bits[i] - mean))
    member.run(block, Tape(op, row))
    np.testing.assert_allclose(member.raw[:n], expected, atol=1e-5)
    np.testing.assert_allclose(member.weights.weight, w, atol=1e-5)


def test_records_of_weight_zero_teach_nothing() -> None:
    member = BitsMember(64)
    block = block_of(np.zeros((3, 1)), np.ones(3), np.zeros(3))
    block.bits = np.full((3, 2), 9, np.uint32)
    member.run(block, immediate_tape(block.label))
    same_state(member, BitsMember(64))
    assert not member.raw[:3].any()


def test_a_weight_is_as_much_as_its_gradient() -> None:
    """Of two records, one weighs three times as much: so does its first step."""
    steps = []
    for weight in (0.001, 0.003):
        member = BitsMember(64, l2=0.0)
        block = block_of(np.zeros((1, 1)), np.ones(1), np.full(1, weight))
        block.bits = np.full((1, 2), 9, np.uint32)
        member.run(block, immediate_tape(block.label))
        steps.append(member.weights.weight.copy())
    np.testing.assert_allclose(3 * steps[0], steps[1], rtol=1e-4)


def test_learns_xor_of_two_numbers_which_a_linear_learner_cannot() -> None:
    random = np.random.default_rng(0)
    n = 4000
    table = random.normal(size=(n, 2)).astype(np.float32)
    label = ((table[:, 0] > 0) != (table[:, 1] > 0)).astype(np.float32)
    bits = RandomBits(2, bits=512, warm_up=500)
    engine = Engine({"bits": bits, "member": Expert(BitsMember(512), "bits", 0, ("r",))})
    scores, _ = progress(engine, (table, label, np.ones(n, np.float32)))
    linear = LinearMember(reads_of(), Rule())
    records = [[("f", [1, 2], row)] for row in table.tolist()]
    block = Block.of(records, label=2 * label - 1)
    linear.run(block, immediate_tape(block.label))
    click = label[n // 2 :] > 0

    def loss(scores: np.ndarray) -> float:
        return float(np.log1p(np.exp(np.where(click, -scores, scores))).mean())

    assert loss(scores[n // 2 :]) < 0.3
    assert loss(linear.raw[n // 2 : n]) > 0.69


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="first of the columns"):
        RandomBits(1, numbers=2)
    with pytest.raises(ValueError, match="multiple of 32"):
        RandomBits(1, bits=33)
    with pytest.raises(ValueError, match="at least 2"):
        RandomBits(1, warm_up=1)
    with pytest.raises(ValueError, match="multiple of 32"):
        BitsMember(0)
    with pytest.raises(ValueError, match="rate above 0"):
        BitsMember(32, rate=0)
    block = block_of(np.zeros((2, 3)), np.ones(2), np.ones(2))
    tape = immediate_tape(block.label)
    with pytest.raises(ValueError, match="3 columns, the random bits were made for 4"):
        RandomBits(4).run(block, tape)
    with pytest.raises(ValueError, match="reads 32"):
        BitsMember(32).run(block, tape)
    with pytest.raises(ValueError, match="configuration"):
        RandomBits(2).restore(*RandomBits(3).state())
    with pytest.raises(ValueError, match="configuration"):
        BitsMember(32).restore(*BitsMember(64).state())
