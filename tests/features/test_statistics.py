"""Click-rate statistics: what they mean, whatever the blocks, and nothing from the future."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack.block import LEARN, PREDICT, Block, Tape, immediate_tape
from onlinestack.features.rates import LINE, fade_tables, log_fast, slot_of, walk
from onlinestack.features.statistics import HALF_LIVES, Statistics
from onlinestack.kernel import KERNELS

AT = 2
"""Columns of the table before the statistics."""

Record = list[list[int]]
"""The feature hashes of each field."""


def block_of(
    records: list[Record], label: Any, weight: Any = None, *, fields: int, lives: int
) -> Block:
    n = len(records)
    weight = np.ones(n) if weight is None else weight
    block = Block.of([[]] * n, label=label, weight=weight)
    ends = np.cumsum([0, *(len(values) for record in records for values in record)])
    block.opens = ends[:-1].reshape(n, fields).copy()
    block.closes = ends[1:].reshape(n, fields).copy()
    block.index = np.array([v for record in records for values in record for v in values], "u4")
    width = fields * (lives + 1) + lives
    block.table = np.full((n, AT + width + 1), 7.0, np.float32)
    block.dense["c"] = (np.zeros((n, width), np.uint32), np.zeros((n, width), np.float32))
    return block


def log(n: int, seed: int = 0, fields: int = 3) -> tuple[list[Record], np.ndarray, np.ndarray]:
    """Return records with missing, single and several values, labels and weights of all kinds."""
    random = np.random.default_rng(seed)
    records = []
    for _ in range(n):
        counts = random.choice(4, fields, p=[0.1, 0.7, 0.1, 0.1])
        records.append(
            [
                [int(10 * random.exponential() ** 2) * 4093 + 977 * f for _ in range(count)]
                for f, count in enumerate(counts)
            ]
        )
    label = random.choice([0.0, 1.0, -1.0, np.nan], n, p=[0.5, 0.3, 0.1, 0.1]).astype(np.float32)
    weight = random.choice([0.0, 1.0, 0.5, 3.0], n, p=[0.1, 0.6, 0.2, 0.1]).astype(np.float32)
    return records, label, weight


def run(
    statistics: Statistics, log: tuple[list[Record], np.ndarray, np.ndarray], size: int = 10**9
) -> tuple[np.ndarray, np.ndarray]:
    """Predict and learn a log in blocks; return the table's statistics and namespace c."""
    records, label, weight = log
    tables, standards = [], []
    for start in range(0, len(records), size):
        rows = slice(start, start + size)
        block = block_of(
            records[rows],
            label[rows],
            weight[rows],
            fields=statistics.fields,
            lives=len(statistics.half_lives),
        )
        block.table[:, :AT] = np.nan
        statistics.run(block, immediate_tape(block.label))
        assert np.isnan(block.table[:, :AT]).all()
        assert (block.table[:, -1] == 7).all()
        tables.append(block.table[:, AT:-1])
        standards.append(block.dense["c"][1])
    return np.concatenate(tables), np.concatenate(standards)


def make(fields: int = 3, bits: int = 12, **options: Any) -> Statistics:
    return Statistics(fields, at=AT, bits=bits, **options)


def same(a: Statistics, b: Statistics) -> None:
    (arrays_a, meta_a), (arrays_b, meta_b) = a.state(), b.state()
    assert meta_a == meta_b
    assert arrays_a.keys() == arrays_b.keys()
    for name, array in arrays_a.items():
        np.testing.assert_array_equal(array, arrays_b[name], strict=True, err_msg=name)


LOGS = st.tuples(st.integers(1, 30), st.integers(0, 2**32 - 1)).map(lambda a: log(*a))
STEPS = st.lists(st.tuples(st.sampled_from([PREDICT, LEARN]), st.integers(0, 29)), max_size=60)


@settings(deadline=None, max_examples=60)
@given(
    LOGS,
    st.lists(STEPS, min_size=1, max_size=3),
    st.lists(st.sampled_from([1.0, 3.5, 60.0, 2.0**20, math.inf]), min_size=1, max_size=7),
    st.integers(1, 12),
    st.sampled_from([0, 100, 70_000, 2**25, 2**32 + 5]),
    st.sampled_from([1.0, 2.0**22, 1e30]),
)
def test_kernel_equals_its_twin(
    log: tuple[list[Record], np.ndarray, np.ndarray],
    tapes: list[list[tuple[int, int]]],
    half_lives: list[float],
    bits: int,
    jump: int,
    heavy: float,
) -> None:
    records, label, weight = log
    results = []
    for version in (walk, KERNELS["onlinestack.features.rates.walk"].twin):
        statistics = make(half_lives=half_lives, bits=bits)
        block = block_of(records, label, weight * heavy, fields=3, lives=len(half_lives))
        for steps in tapes:
            steps = [(op, row) for op, row in steps if row < block.n]
            op = np.array([op for op, _ in steps], np.uint8)
            row = np.array([row for _, row in steps], np.int32)
            # room first: the kernel is called as the part calls it
            statistics.run(block, Tape(op[:0], row[:0]))
            c = block.dense["c"][1]
            version(
                op,
                row,
                block.label,
                block.weight,
                block.index,
                block.opens,
                block.closes,
                block.table,
                AT,
                c,
                statistics._book,
            )
            statistics._book.clock[0] += jump
        results.append((statistics, block.table, c))
    same(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(results[0][2], results[1][2])


def reference(
    log: tuple[list[Record], np.ndarray, np.ndarray], half_lives: tuple[float, ...], prior: float
) -> Iterator[list[float]]:
    """Yield the statistics of each record from the whole history before it, in float64."""
    history: list[tuple[int, float, bool, Record]] = []
    clock = 0
    for record, label, weight in zip(*log, strict=True):
        logits: list[float] = []
        overall, seen = [], []

        def counts(has: Any, life: float) -> tuple[float, float]:
            picked = [
                (w * 2.0 ** (-(clock - then) / life), clicked)  # noqa: B023
                for then, w, clicked, past in history
                if has(past)
            ]
            return sum(w for w, clicked in picked if clicked), sum(w for w, _ in picked)

        rates = []
        for life in half_lives:
            k, n = counts(lambda past: True, life)
            rates.append((k + 0.5) / (n + 1))
            overall.append(math.log(rates[-1] / (1 - rates[-1])))
        for f, values in enumerate(record):
            for life, p, logit in zip(half_lives, rates, overall, strict=True):
                each = []
                for value in values:
                    k, n = counts(lambda past: value in past[f], life)  # noqa: B023
                    rate = (k + prior * p) / (n + prior)
                    each.append(math.log(rate / (1 - rate)))
                logits.append(sum(each) / len(each) if each else logit)
            ns = [counts(lambda past: v in past[f], max(half_lives))[1] for v in values]  # noqa: B023
            seen.append(sum(math.log1p(n) for n in ns) / len(ns) if ns else 0.0)
        yield [*logits, *overall, *seen]
        if not math.isnan(label):
            if weight > 0:
                history.append((clock, float(weight), label > 0, record))
            clock += 1


def test_statistics_are_what_whole_histories_give() -> None:
    stream = log(300, seed=1)
    hashes = {value for record in stream[0] for values in record for value in values}
    assert len({int(slot_of(np.uint32(value), 16)) for value in hashes}) == len(hashes)
    half_lives = (2.0, 40.0, math.inf, 500.0)
    table, c = run(make(half_lives=half_lives, bits=16, prior=5.0), stream)
    expected = np.array(list(reference(stream, half_lives, 5.0)))
    np.testing.assert_allclose(table, expected, atol=1e-4)

    learned = np.flatnonzero(~np.isnan(stream[1]) & (stream[2] > 0))
    for i in (0, 1, 2, 10, 299):
        past = learned[learned < i]
        if len(past) < 2:
            assert not c[i].any()
            continue
        weight = stream[2][past].astype(float)
        mean = np.average(expected[past], axis=0, weights=weight)
        sd = np.sqrt(np.average((expected[past] - mean) ** 2, axis=0, weights=weight))
        varies = sd > 1e-3
        z = np.clip((expected[i] - mean)[varies] / sd[varies], -4, 4)
        np.testing.assert_allclose(c[i][varies], z, atol=2e-2)


def test_blocks_do_not_matter() -> None:
    stream = log(1200, seed=2)
    whole = make()
    table, c = run(whole, stream)
    for size in (1, 7, 1000):
        parts = make()
        table_parts, c_parts = run(parts, stream, size)
        np.testing.assert_array_equal(table, table_parts)
        np.testing.assert_array_equal(c, c_parts)
        same(whole, parts)


@pytest.mark.parametrize("i", [0, 57, 199])
def test_a_label_changes_nothing_up_to_its_record(i: int) -> None:
    records, label, weight = log(200, seed=3)
    label[i], weight[i] = 0.0, 1.0
    other = label.copy()
    other[i] = 1.0
    first, second = run(make(), (records, label, weight)), run(make(), (records, other, weight))
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(before[: i + 1], after[: i + 1])
        assert i == 199 or (before[i + 1 :] != after[i + 1 :]).any()


def test_records_without_a_label_change_nothing() -> None:
    records, label, weight = log(300, seed=4)
    known = np.flatnonzero(~np.isnan(label))
    assert 0 < len(known) < 300
    all_of_them, labelled = make(), make()
    table, c = run(all_of_them, (records, label, weight))
    stream = ([records[i] for i in known], label[known], weight[known])
    table_known, c_known = run(labelled, stream)
    np.testing.assert_array_equal(table[known], table_known)
    np.testing.assert_array_equal(c[known], c_known)
    same(all_of_them, labelled)
    assert all_of_them.learned == len(known)


def test_a_record_of_weight_0_only_moves_the_clock() -> None:
    statistics = make(1, half_lives=(1.0, math.inf))
    stream = [[[5]]] * 6, np.array([1, 0, 1, 1, 1, 0], "f4"), np.array([1, 1, 1, 0, 0, 0], "f4")
    before = make(1, half_lives=(1.0, math.inf))
    run(before, tuple(part[:3] for part in stream))  # type: ignore[arg-type]
    table, _ = run(statistics, stream)
    (a, meta_a), (b, meta_b) = statistics.state(), before.state()
    assert (meta_a.pop("learned"), meta_b.pop("learned")) == (6, 3)
    assert meta_a == meta_b
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    # at half-life "for ever" nothing moves, at half-life 1 the rate falls back to the prior
    np.testing.assert_array_equal(table[3, [1, 3, 4]], table[5, [1, 3, 4]])
    assert table[3, 2] > table[4, 2] > table[5, 2]


def test_late_labels_learn_from_what_was_served() -> None:
    records, label, weight = log(120, seed=5)
    label = np.where(np.isnan(label), 0, label).astype(np.float32)
    weight[:] = 1.0
    block = block_of(records, label, weight, fields=3, lives=len(HALF_LIVES))
    rows, statistics = np.arange(120, dtype=np.int32), make()
    run(statistics, log(80, seed=6))
    statistics.run(block, Tape(np.full(120, PREDICT, np.uint8), rows))
    total, mean = statistics.state()[0]["total"], statistics.state()[0]["mean"]
    served = block.table[:, AT:-1].copy()
    for part in (rows[:50][::-1], rows[50:]):
        statistics.run(block, Tape(np.full(len(part), LEARN, np.uint8), part))
    np.testing.assert_array_equal(block.table[:, AT:-1], served)
    after = statistics.state()[0]
    assert after["total"] == total + 120
    expected = (mean * total + served.astype(float).sum(axis=0)) / (total + 120)
    np.testing.assert_allclose(after["mean"], expected, rtol=1e-9, atol=1e-12)

    # a record learned late counts from the time it is learned
    late = make(1, half_lives=(8.0,))
    one = block_of([[[3]], [[4]], [[3]]], [1, 1, np.nan], fields=1, lives=1)
    late.run(one, Tape(np.array([0, 0, 1, 1, 0], "u1"), np.array([0, 1, 1, 0, 2], "i4")))
    fade = 2 ** (-1 / 8)
    p = (fade * (1 + fade) + 0.5) / (fade * (1 + fade) + 1)
    rate = (fade + 10 * p) / (fade + 10)
    np.testing.assert_allclose(one.table[2, AT], math.log(rate / (1 - rate)), rtol=1e-5)


@pytest.mark.parametrize("cut", [1, 150])
def test_goes_on_from_its_state(cut: int) -> None:
    stream = log(300, seed=7)
    whole, first, second = make(), make(), make()
    run(second, log(100, seed=8))  # what it knew before is forgotten
    table, c = run(whole, stream)
    run(first, tuple(part[:cut] for part in stream))  # type: ignore[arg-type]
    arrays, meta = first.state()
    second.restore(arrays, meta)
    same(first, second)
    rest = run(second, tuple(part[cut:] for part in stream))  # type: ignore[arg-type]
    np.testing.assert_array_equal(table[cut:], rest[0])
    np.testing.assert_array_equal(c[cut:], rest[1])
    same(whole, second)
    # the state is a copy
    fresh = make()
    fresh.restore(arrays, meta)
    same(first, fresh)


def test_a_fresh_state_is_restored_over_an_old_one() -> None:
    old, new = make(), make()
    arrays, meta = new.state()
    run(old, log(50))
    old.restore(arrays, meta)
    stream = log(60, seed=9)
    for a, b in zip(run(old, stream), run(new, stream), strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_is_bounded_and_only_slots_in_use_are_saved() -> None:
    statistics = make(1, bits=6)
    size = statistics._book.counts.nbytes
    assert size == 64 * (2**6 + 1)
    run(statistics, ([[[i * 7919]] for i in range(3000)], np.ones(3000, "f4"), np.ones(3000, "f4")))
    assert statistics._book.counts.nbytes == size
    assert len(statistics.state()[0]["slot"]) == 2**6 + 1
    few = make(2)
    run(few, ([[[1], [2]]] * 9, np.ones(9, "f4"), np.ones(9, "f4")))
    assert len(few.state()[0]["slot"]) == 3
    assert few._book.counts.ctypes.data % (4 * LINE) == 0


def test_counting_never_stops_and_never_becomes_slow() -> None:
    statistics = make(1, half_lives=(1.0, math.inf), bits=4)
    heavy = block_of([[[3]]] * 60, np.arange(60) % 2, [2.0**20] * 60, fields=1, lives=2)
    statistics.run(heavy, immediate_tape(heavy.label))
    counts = statistics.state()[0]["count"]
    assert counts[:, :, 1].sum(axis=1).max() <= 2**23
    np.testing.assert_allclose(heavy.table[50:, AT + 1], 0, atol=0.5)
    no_clicks = block_of([[[3]]] * 300, np.zeros(300), fields=1, lives=2)
    statistics.run(no_clicks, immediate_tape(no_clicks.label))
    counts = statistics.state()[0]["count"]
    assert (counts[:, 0, 0] == 0).all()
    assert np.isfinite(no_clicks.table[:, AT:-1]).all()


def test_fades_are_powers_of_two() -> None:
    lives = (1.0, 8.0, 300.0, 2.0**20, math.inf)
    tables = fade_tables(lives)
    for gap in (0, 1, 255, 256, 777, 65535, 65536, 10**6, 2**24 - 1):
        product = tables[0, gap & 255] * tables[1, gap >> 8 & 255] * tables[2, gap >> 16]
        exact = np.exp2(-gap / np.array(lives))
        np.testing.assert_allclose(product[: len(lives)], exact, rtol=3e-7, atol=1e-6)


def test_logarithm_is_near_and_equals_its_twin() -> None:
    random = np.random.default_rng(0)
    x = np.exp(random.uniform(-60, 60, 20_000)).astype(np.float32)
    near = (1 + random.normal(0, 1e-3, 20_000)).astype(np.float32)
    powers = np.exp2(np.arange(-126, 128)).astype(np.float32)
    edges = np.float32(math.sqrt(0.5)) * powers[1:]
    x = np.concatenate([x, near, powers, edges, np.nextafter(edges, np.float32(0))])
    twin = KERNELS["onlinestack.features.rates.log_fast"].twin
    ours = np.array([log_fast(each) for each in x])
    np.testing.assert_array_equal(ours, np.array([twin(each) for each in x]))
    exact = np.log(x.astype(np.float64))
    assert (np.abs(ours - exact) <= 2e-7 * np.abs(exact)).all()
    assert log_fast(np.float32(1)) == 0


def test_names_of_columns() -> None:
    statistics = Statistics(2, half_lives=(4, 2**20, math.inf))
    names = statistics.columns(["C1", "C2"])
    assert len(names) == statistics.width
    assert names[:4] == ["C1 rate/4", "C1 rate/1048576", "C1 rate/inf", "C2 rate/4"]
    assert names[6:] == ["rate/4", "rate/1048576", "rate/inf", "C1 count", "C2 count"]
    with pytest.raises(ValueError, match="1 names were given for 2 fields"):
        statistics.columns(["C1"])


def test_without_fields_the_overall_rate_remains() -> None:
    statistics = make(0, half_lives=(math.inf,))
    table, _ = run(statistics, ([[], [], []], np.array([1, 1, 0], "f4"), np.ones(3, "f4")))
    np.testing.assert_allclose(table[:, 0], np.log([1, 3, 5]), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": -1}, "fields=-1"),
        ({"at": -1}, "at=-1"),
        ({"half_lives": ()}, "0 half-lives"),
        ({"half_lives": (4.0,) * 8}, "8 half-lives"),
        ({"half_lives": (0.5,)}, "half-life 0.5"),
        ({"half_lives": (math.nan,)}, "half-life nan"),
        ({"half_lives": (2.0**21,)}, "half-life 2.09715e"),
        ({"bits": 0}, "bits=0"),
        ({"bits": 29}, "bits=29"),
        ({"prior": 0.0}, "prior=0.0"),
        ({"prior": math.nan}, "prior=nan"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Statistics(**{"fields": 1, **options})


def test_what_does_not_fit_is_refused() -> None:
    statistics = make(2)
    block = block_of([[[1]]], [1], fields=1, lives=len(HALF_LIVES))
    with pytest.raises(ValueError, match="block has 1 fields, but the statistics are of 2"):
        statistics.run(block, immediate_tape(block.label))
    for other in (make(3), make(2, bits=5), make(2, half_lives=(4, 32, 256, 2048, 16384, 9))):
        with pytest.raises(ValueError, match="saved statistics"):
            statistics.restore(*other.state())
