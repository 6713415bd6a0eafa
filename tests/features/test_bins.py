"""Edges: drawn at doubling counts from records learned before, whatever the blocks."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onlinestack.block import immediate_tape
from onlinestack.features.bins import (
    FIRST_CHANGE,
    NEVER,
    Bins,
    cells,
    lower_edge,
    ordered_key,
    watch,
)
from onlinestack.kernel import KERNELS

VALUES = st.floats(allow_nan=False, allow_infinity=False)


def learn(bins: Bins, numbers: np.ndarray, borders: list[int], label: np.ndarray) -> None:
    """Walk the rows in blocks, changing edges when due."""
    start = 0
    for stop in sorted({*borders, len(numbers)}):
        while start < stop:
            ahead = np.flatnonzero(~np.isnan(label[start:stop]))
            due = bins.next_change() - bins.learned
            if due == 0:
                bins.change()
                continue
            end = start + int(ahead[due - 1]) + 1 if len(ahead) >= due else stop
            tape = immediate_tape(label[start:end])
            bins.observe(np.ascontiguousarray(numbers[start:end]), tape.op, tape.row)
            start = end
    if bins.learned == bins.next_change():
        bins.change()


def log(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    numbers = np.stack(
        [
            random.integers(0, 4, n).astype(float),
            np.exp(random.normal(0, 3, n)),
            np.full(n, np.nan),
            np.where(random.random(n) < 0.3, np.nan, random.normal(50, 2, n)),
        ],
        axis=1,
    )
    label = np.where(random.random(n) < 0.2, np.nan, 1.0).astype(np.float32)
    return numbers, label


def same(a: Bins, b: Bins) -> None:
    (arrays_a, meta_a), (arrays_b, meta_b) = a.state(), b.state()
    assert meta_a == meta_b
    for name, array in arrays_a.items():
        np.testing.assert_array_equal(array, arrays_b[name], strict=True)


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=80), st.integers(1, 9))
def test_cells_equal_their_twin(values: list[float], share: int) -> None:
    keys = np.sort(ordered_key(values))
    stack, (out, expected) = np.empty((4, 80), np.int64), np.empty((2, 640), np.int64)
    count = KERNELS["onlinestack.features.bins.cells"].twin(keys, share, stack, expected)
    assert cells(keys, share, stack, out) == count
    np.testing.assert_array_equal(out[:count], expected[:count])
    assert (out[1:count] > out[: count - 1]).all()
    counts = np.diff([*np.searchsorted(keys, out[:count]), len(keys)])
    assert (counts > 0).all()


@settings(deadline=None, max_examples=30)
@given(arrays(np.float64, (60, 2), elements=VALUES), st.integers(0, 2**64 - 1))
def test_watch_equals_its_twin(numbers: np.ndarray, seed: int) -> None:
    tape = immediate_tape(np.where(np.arange(60) % 5, 1, np.nan).astype(np.float32))
    samples = [np.full((16, 2), np.nan), np.full((16, 2), np.nan)]
    twin = KERNELS["onlinestack.features.bins.watch"].twin
    for version, sample in zip((watch, twin), samples, strict=True):
        assert version(sample, numbers, tape.op, tape.row, 7, np.uint64(seed)) == 7 + 48
    np.testing.assert_array_equal(*samples)


@given(VALUES, VALUES)
def test_keys_are_ordered_as_the_doubles(a: float, b: float) -> None:
    keys = ordered_key([a, b]).tolist()
    assert (keys[0] < keys[1]) == (a < b)
    assert (keys[0] == keys[1]) == (a == b)


@given(VALUES)
def test_lower_edge_is_below(value: float) -> None:
    edge = lower_edge(value)
    assert edge <= value
    assert value == 0 or edge == 0 or 0.5 <= abs(value / edge) < 2 or abs(value) < 1e-307


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 700), max_size=30))
def test_blocks_do_not_matter(borders: list[int]) -> None:
    numbers, label = log(700)
    whole, parts = Bins(4, rows=100), Bins(4, rows=100)
    learn(whole, numbers, [], label)
    learn(parts, numbers, borders, label)
    same(whole, parts)


def test_goes_on_from_its_state() -> None:
    numbers, label = log(900)
    whole, first = Bins(4, rows=100, seed=3), Bins(4, rows=100, seed=3)
    learn(whole, numbers, [], label)
    learn(first, numbers[:400], [], label[:400])
    second = Bins.restored(*first.state())
    same(first, second)
    learn(second, numbers[400:], [], label[400:])
    same(whole, second)


def test_edges_know_nothing_of_later_records() -> None:
    numbers, label = log(200)
    other = numbers.copy()
    other[150:] = 12345.0
    seen, changed = Bins(4), Bins(4)
    learn(seen, numbers[:150], [], label[:150])
    learn(changed, other[:150], [], label[:150])
    same(seen, changed)
    # the edges in force come from the count of the last doubling, not from records since
    before = Bins(4)
    count = int(np.flatnonzero(np.cumsum(~np.isnan(label)) == 64)[0]) + 1
    learn(before, numbers[:count], [], label[:count])
    np.testing.assert_array_equal(before.edges, seen.edges)


def test_changes_are_due_at_doubling_counts() -> None:
    bins, due = Bins(1), []
    for _ in range(5):
        due.append(bins.next_change())
        rows = due[-1] - bins.learned
        bins.observe(np.zeros((rows, 1)), np.ones(rows, np.uint8), np.arange(rows, dtype=np.int32))
        assert bins.learned == bins.next_change()
        bins.change()
    assert due == [FIRST_CHANGE * 2**i for i in range(5)]
    assert Bins(0).next_change() == NEVER


def test_few_values_have_bins_of_their_own_and_edges_stay() -> None:
    numbers, label = log(2000)
    bins = Bins(4)
    learn(bins, numbers[:500], [], label[:500])
    before = [bins.edges_of(j) for j in range(4)]
    learn(bins, numbers[500:], [], label[500:])
    position = np.searchsorted(bins.edges_of(0), [0, 1, 2, 3], side="right")
    assert len(set(position.tolist())) == 4
    assert not len(bins.edges_of(2))
    for j in (0, 1, 3):
        after = bins.edges_of(j)
        assert len(after) < 40
        assert np.isin(before[j], after).mean() > 0.7


def test_new_field_before_others() -> None:
    numbers, label = log(100)
    bins = Bins(3)
    learn(bins, numbers[:, 1:], [], label)
    edges = [bins.edges_of(j) for j in range(3)]
    bins.insert(0)
    assert bins.count == 4
    assert not len(bins.edges_of(0))
    for j in range(3):
        np.testing.assert_array_equal(bins.edges_of(j + 1), edges[j])
    assert math.isnan(bins.reservoir[0, 0])
