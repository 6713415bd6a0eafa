"""The window of learned records: what it holds, whatever the blocks, and for how long."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onlinestack.block import LEARN, MARGIN, PREDICT, Block, Tape, immediate_tape
from onlinestack.kernel import KERNELS
from onlinestack.trees.window import Ring, Window

F = np.float32
N = 700


def stream(n: int = N, width: int = 3, seed: int = 0) -> Block:
    rng = np.random.default_rng(seed)
    label = rng.choice([0.0, 1.0, np.nan], n, p=[0.6, 0.3, 0.1])
    block = Block.of([[]] * n, label=label, weight=rng.choice([0.0, 0.5, 1.0], n))
    block.table = rng.normal(size=(n, width)).astype(F)
    block.table[rng.random((n, width)) < 0.1] = np.nan
    block.scores = rng.normal(size=(n, 2)).astype(F) * F(9)
    block.scores[::50, 1] = np.nan
    block.scores[1::50, 1] = np.inf
    return block


def learned_list(block: Block) -> list[tuple[bytes, float, float, float]]:
    """Return what a window must hold of a block, record after record."""
    kept = np.clip(np.nan_to_num(block.scores[:, 1], nan=0.0, posinf=99), -MARGIN, MARGIN)
    return [
        (block.table[i].tobytes(), float(block.label[i]), float(block.weight[i]), float(kept[i]))
        for i in range(block.n)
        if not np.isnan(block.label[i])
    ]


def held(window: Window, cut: int, rows: int) -> list[tuple[bytes, float, float, float]]:
    chunks, kept = window.chunks(cut, rows), window.margins("linear", cut, rows)
    columns = [np.concatenate([c[k] for c in chunks]).tolist() for k in (1, 2) if chunks]
    tables = [each.tobytes() for chunk in chunks for each in chunk.table]
    return list(zip(tables, *columns, kept.tolist(), strict=True)) if chunks else []


def fed(block: Block, size: int, **options: Any) -> Window:
    window = Window(block.table.shape[1], keep={"linear": 1}, **options)
    for start in range(0, block.n, size):
        part = block.rows(start, start + size)
        window.run(part, immediate_tape(part.label))
    return window


def fingerprint(window: Window) -> tuple[Any, ...]:
    arrays, meta = window.state()
    return {name: a.tobytes() for name, a in arrays.items()}, meta


@pytest.mark.parametrize("rows", [1, 40, 250, 5000])
def test_chunks_are_the_rows_learned_last(rows: int) -> None:
    block = stream()
    expected: list[Any] = []
    window = Window(3, keep={"linear": 1}, rows=rows, slack=30)
    wrapped = 0
    for start in range(0, N, 23):
        part = block.rows(start, start + 23)
        window.run(part, immediate_tape(part.label))
        expected += learned_list(part)
        assert window.learned == len(expected)
        for cut in range(max(0, window.learned - 30), window.learned + 1):
            assert held(window, cut, rows) == expected[max(0, cut - rows) : cut]
        wrapped += len(window.chunks(window.learned, rows)) == 2
    assert (wrapped > 0) == (1 < rows < 600)
    assert held(window, window.learned, 0) == []


def test_rows_of_a_cut_stay_until_the_slack_is_used_up() -> None:
    block = stream()
    block.label = np.zeros(N, F)
    window = fed(block.rows(0, 300), 100, rows=200, slack=50)
    views = window.chunks(300, 200)
    before = [chunk.table.copy() for chunk in views]
    late = block.rows(300, 350)
    window.run(late, immediate_tape(late.label))
    for chunk, table in zip(views, before, strict=True):
        assert chunk.table.tobytes() == table.tobytes()
    assert [c.table.tobytes() for c in window.chunks(300, 200)] == [b.tobytes() for b in before]
    one = block.rows(350, 351)
    window.run(one, immediate_tape(one.label))
    with pytest.raises(ValueError, match="were asked for; the window holds 101 to 351"):
        window.chunks(300, 200)


def test_rows_not_learned_yet_and_margins_not_kept_are_refused() -> None:
    window = fed(stream(), 100, rows=50)
    with pytest.raises(ValueError, match="were asked for"):
        window.chunks(window.learned + 1, 1)
    with pytest.raises(ValueError, match="'trees' was asked for"):
        window.margins("trees", window.learned, 1)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_blocks_do_not_matter(size: int) -> None:
    block = stream()
    options = {"rows": 100, "slack": 20}
    assert fingerprint(fed(block, size, **options)) == fingerprint(fed(block, 100, **options))


@pytest.mark.parametrize("stop", [0, 60, 333, 600])
def test_stop_and_resume(stop: int) -> None:
    """The state goes on as the window did, and holds no more than what is filled."""
    block = stream()
    whole = fed(block, 50, rows=200, slack=40)
    head = fed(block.rows(0, stop), 50, rows=200, slack=40)
    arrays, meta = head.state()
    assert len(arrays["table"]) == min(head.learned, 240)
    tail = Window(3, keep={"linear": 1}, rows=200, slack=40)
    tail.restore({name: array.copy() for name, array in arrays.items()}, meta)
    rest = block.rows(stop, N)
    tail.run(rest, immediate_tape(rest.label))
    assert fingerprint(tail) == fingerprint(whole)


def test_a_state_of_another_window_is_refused() -> None:
    arrays, meta = fed(stream(), 100, rows=200, slack=40).state()
    with pytest.raises(ValueError, match="use the same configuration"):
        Window(3, keep={"linear": 1}, rows=201, slack=40).restore(arrays, meta)
    with pytest.raises(ValueError, match="use the same configuration"):
        Window(3, keep={"other": 1}, rows=200, slack=40).restore(arrays, meta)


def test_rows_are_kept_as_predicted_when_labels_come_late() -> None:
    block = stream()
    block.label = np.ones(N, F)
    window = Window(3, keep={"linear": 1})
    tape = Tape(
        np.array([PREDICT, PREDICT, LEARN, PREDICT, LEARN], np.uint8),
        np.array([0, 1, 1, 2, 0], np.int32),
    )
    window.run(block, tape)
    expected = learned_list(block)
    assert held(window, 2, 2) == [expected[1], expected[0]]


def test_bounded_in_bytes() -> None:
    assert Window(300).rows == 200_000
    wide = Window(1000, room=2**24, slack=1000, keep={"linear": 0})
    assert wide.rows == 2**24 // (4 * 1003) - 1000
    arrays = wide._ring
    assert sum(array.nbytes for array in arrays) <= 2**24
    with pytest.raises(ValueError, match="no room for a row of 4,008 bytes"):
        Window(1000, room=2**20, slack=1000)
    with pytest.raises(ValueError, match="expected at least 1 of each"):
        Window(1, slack=0)


def test_memory_is_touched_only_as_records_come() -> None:
    psutil = pytest.importorskip("psutil")
    before = psutil.Process().memory_info().rss
    block = stream(300, width=290)
    window = fed(block, 300)
    arrays, _ = window.state()
    assert sum(array.nbytes for array in arrays.values()) < 300 * 294 * 4
    assert psutil.Process().memory_info().rss - before < 50e6


def test_a_table_of_another_width_is_refused() -> None:
    block = stream()
    with pytest.raises(ValueError, match="table of 3 columns; expected 4"):
        Window(4).run(block, immediate_tape(block.label))


def test_kernel_and_twin_agree() -> None:
    block = stream(100)
    tape = immediate_tape(block.label)
    answers = []
    for function in KERNELS["onlinestack.trees.window.append"]:
        ring = Ring(np.zeros((40, 3), F), np.zeros(40, F), np.zeros(40, F), np.zeros((2, 40), F))
        columns = np.array([1, 0])
        args = block.table, block.label, block.weight, block.scores
        count = function(tape.op, tape.row, *args, columns, ring, 17)
        answers.append([count, *(array.tobytes() for array in ring)])
    assert answers[0] == answers[1]
