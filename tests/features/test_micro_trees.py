"""Micro-trees: what they mean, whatever the blocks, and nothing from the future."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack import open_source
from onlinestack.block import LEARN, PREDICT, Block, Tape, immediate_tape
from onlinestack.engine import Engine
from onlinestack.features.grove import LEAVES, Grove, varying, walk
from onlinestack.features.micro_trees import MicroTrees
from onlinestack.kernel import KERNELS
from onlinestack.stacker import OnlineStacker

FIELDS = 3
WIDTH = 8
Log = tuple[list[list[list[int]]], np.ndarray, np.ndarray]
"""Hashes of each field of each record, labels and weights."""


def log(n: int, seed: int = 0) -> Log:
    """Return records with none, one and several values, labels and weights of all kinds."""
    random = np.random.default_rng(seed)
    records = [
        [random.integers(0, 9, random.choice(4, p=[0.1, 0.7, 0.1, 0.1])).tolist() for _ in "abc"]
        for _ in range(n)
    ]
    label = random.choice([0.0, 1.0, -1.0, np.nan], n, p=[0.5, 0.3, 0.1, 0.1]).astype(np.float32)
    weight = random.choice([0.0, 1.0, 0.5, 3e38], n, p=[0.1, 0.6, 0.2, 0.1]).astype(np.float32)
    return records, label, weight


def block_of(log: Log) -> Block:
    records, label, weight = log
    n = len(records)
    block = Block.of([[]] * n, label=label, weight=weight)
    ends = np.cumsum([0, *(len(values) for record in records for values in record)])
    block.opens = ends[:-1].reshape(n, FIELDS).copy()
    block.closes = ends[1:].reshape(n, FIELDS).copy()
    block.index = np.array([v for record in records for values in record for v in values], "u4")
    block.dense["t"] = (np.full((n, WIDTH), 7, np.uint32), np.full((n, WIDTH), 7, np.float32))
    return block


def make(**options: Any) -> MicroTrees:
    return MicroTrees(FIELDS, trees=32, width=WIDTH, **options)


def run(trees: MicroTrees, log: Log, size: int = 10**9) -> tuple[np.ndarray, np.ndarray]:
    """Predict and learn a log in blocks; return indices and values as served."""
    engine = Engine({"trees": trees})
    engine.learned = trees.learned
    indices, values = [], []
    for start in range(0, len(log[0]), size):
        records, label, weight = (column[start : start + size] for column in log)

        def block_of_rows(i: int, j: int, log: Any = (records, label, weight)) -> Block:
            return block_of(tuple(column[i:j] for column in log))  # type: ignore[arg-type]

        for _, _, block, _ in engine.quanta(label, block_of_rows):
            indices.append(block.dense["t"][0].copy())
            values.append(block.dense["t"][1].copy())
    return np.concatenate(indices), np.concatenate(values)


def same(a: MicroTrees, b: MicroTrees) -> None:
    (arrays_a, meta_a), (arrays_b, meta_b) = a.state(), b.state()
    assert meta_a == meta_b
    assert arrays_a.keys() == arrays_b.keys()
    for name, array in arrays_a.items():
        np.testing.assert_array_equal(array, arrays_b[name], strict=True, err_msg=name)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.sampled_from([PREDICT, LEARN]), st.integers(0, 19)), max_size=60),
)
def test_kernel_equals_its_twin(seed: int, steps: list[tuple[int, int]]) -> None:
    records, label, weight = log(20, seed)
    results = []
    for version in (walk, KERNELS["onlinestack.features.grove.walk"].twin):
        trees = make(seed=seed)
        run(trees, log(150, seed + 1))
        block = block_of((records, label, weight))
        op = np.array([op for op, _ in steps], np.uint8)
        row = np.array([row for _, row in steps], np.int32)
        version(
            op,
            row,
            block.label,
            block.weight,
            block.index,
            block.opens,
            block.closes,
            trees._grove,
            *block.dense["t"],
        )
        results.append([*block.dense["t"], *trees.state()[0].values()])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two, strict=True)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_law_2_blocks_do_not_matter(size: int) -> None:
    one, two = make(), make()
    whole, pieces = run(one, log(700)), run(two, log(700), size)
    np.testing.assert_array_equal(whole, pieces, strict=True)
    same(one, two)
    assert (whole[1][-1] == 1).all(), "the trees never spoke"


@pytest.mark.parametrize("stop", [0, 1, 35, 36, 300, 699])
def test_law_3_stop_and_resume(stop: int) -> None:
    records, label, weight = log(700)
    one, head, tail = make(), make(), make()
    whole = run(one, (records, label, weight))[0]
    before = [whole[:0]]
    if stop:
        before.append(run(head, (records[:stop], label[:stop], weight[:stop]))[0])
    tail.restore(*head.state())
    after = run(tail, (records[stop:], label[stop:], weight[stop:]))[0]
    np.testing.assert_array_equal(np.concatenate([*before, after]), whole)
    same(one, tail)


@pytest.mark.parametrize("i", [0, 31, 100, 500])
def test_law_1_a_label_changes_nothing_served_up_to_its_record(i: int) -> None:
    records, label, weight = log(700)
    label[i], weight[i] = 1, 1
    other = label.copy()
    other[i] = 0
    one, two = make(), make()
    p, q = run(one, (records, label, weight)), run(two, (records, other, weight))
    np.testing.assert_array_equal(p[0][: i + 1], q[0][: i + 1])
    assert one._grove.sums[0] == two._grove.sums[0] + 1


def test_records_without_label_or_weight_teach_nothing() -> None:
    records, label, weight = log(700)
    one, two = make(), make()
    run(one, (records, label, weight))
    known = np.flatnonzero(~np.isnan(label))
    run(two, ([records[i] for i in known], label[known], weight[known]))
    same(one, two)
    three = make()
    run(three, (records, label, np.zeros(700, np.float32)))
    assert not len(three._grove.asks) and not varying(three._grove).size


def test_the_order_of_several_values_does_not_matter() -> None:
    records, label, weight = log(700)
    turned = [[values[::-1] for values in record] for record in records]
    one, two = run(make(), (records, label, weight)), run(make(), (turned, label, weight))
    np.testing.assert_array_equal(one, two)


def test_a_tree_wins_when_right_and_nothing_when_it_can_know_nothing() -> None:
    """A tree that asks the bit that is the label wins each time, one that asks another does not."""
    n, random = 4000, np.random.default_rng(1)
    click, other = random.random((2, n)) < 0.1
    grove = Grove.of(2)._replace(
        asks=np.array([[0, 64, 64], [32, 64, 64]], np.uint32),
        excess=np.zeros((2, LEAVES), np.float32),
        profit=np.zeros(2, np.float32),
    )
    # the lowest bit of the hash of 1 is 1, that of 0 is 0
    block = block_of(([[[0], [0], []]] * n, click.astype(np.float32), np.ones(n, np.float32)))
    block.index = np.stack([click, other], axis=1).ravel().astype(np.uint32)
    block.opens = np.arange(2 * n).reshape(n, 2).copy()
    block.closes = block.opens + 1
    tape = immediate_tape(block.label)
    walk(
        tape.op,
        tape.row,
        block.label,
        block.weight,
        block.index,
        block.opens,
        block.closes,
        grove,
        *block.dense["t"],
    )
    fair = 2 * 0.1 * 0.9 * n
    assert grove.profit[0] == pytest.approx(fair, rel=0.1)
    assert abs(grove.profit[1]) < 0.1 * fair


def test_leaves_of_a_new_tree_have_indices_that_no_other_tree_ever_had() -> None:
    trees, owner = make(), {}
    for seed in range(12):
        run(trees, log(500, seed))
        for tree, names in zip(trees._grove.chosen, trees._grove.names, strict=True):
            asks = trees._grove.asks[tree].tobytes()
            for name in (names & 0xFFFF).tolist():
                assert owner.setdefault(name, (tree, asks)) == (tree, asks)
    assert len({tree for tree, _ in owner.values()}) > WIDTH, "no tree was ever replaced"


def test_nothing_to_ask() -> None:
    records, label, weight = log(300)
    one, two = make(), MicroTrees(0, trees=32, width=WIDTH)
    same_values = [[[1], [2], []]] * 300
    assert not run(one, (same_values, label, weight))[1].any()
    run(one, (records, label, weight))
    assert len(one._grove.asks), "fields that vary late are never asked"
    block = block_of((records, label, weight))
    block.opens = block.closes = np.zeros((300, 0), np.int64)
    two.run(block, immediate_tape(label))
    assert not block.dense["t"][1].any() and two.next_change() > 2**60


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="trees=8 and width=8 were given"):
        MicroTrees(1, trees=8, width=8)
    with pytest.raises(ValueError, match="The block has 3 fields, the micro-trees were made for 2"):
        MicroTrees(2).run(block_of(log(1)), Tape(np.zeros(0, np.uint8), np.zeros(0, np.int32)))
    with pytest.raises(ValueError, match=r"have \(fields, trees, width\) \(3, 32, 8\)"):
        MicroTrees(2, trees=32, width=8).restore(*make().state())


@pytest.fixture
def xor(tmp_path: Path) -> Iterator[Path]:
    """Write a log whose click is whether two of six fields differ."""
    random = np.random.default_rng(2)
    fields = random.integers(0, 2, (6, 4000))
    columns = {
        f"v{j}": pa.array([f"s{value}" for value in field]) for j, field in enumerate(fields)
    }
    path = tmp_path / "xor.parquet"
    pyarrow.parquet.write_table(pa.table({"click": fields[1] ^ fields[4], **columns}), path)
    yield path


def test_a_linear_learner_over_them_learns_xor(xor: Path) -> None:
    """It does, and over the fields alone it is no better than the click rate, ln 2."""
    source = open_source(xor, label="click")
    members = ({"name": "fields"}, {"name": "trees", "reads": "t"})
    model = OnlineStacker(members=members, stackers=())
    model.start(source.schema)
    for batch in source:
        model.progress(batch)
    board = model.scoreboard
    assert board is not None
    assert board.whole("trees")["log_loss"] < 0.05
    assert board.whole("fields")["log_loss"] > 0.69


def test_they_are_there_only_where_an_entry_reads_them(xor: Path) -> None:
    schema = open_source(xor, label="click").schema
    for reads, stackers, there in (("f", (), False), ("f", ({"name": "s", "reads": "st"},), True)):
        model = OnlineStacker(members=({"name": "m", "reads": reads},), stackers=stackers)
        model.start(schema)
        stack = model._started()
        assert ("micro-trees" in stack.engine.parts) == there
        assert ("t" in stack.layout.lay(Block.of([])).dense) == there
