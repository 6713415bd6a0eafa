from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from onlinestack.io.patterns import NOT_A_TIME
from onlinestack.report.slices import MOST, Slices, Table, terms_of


def batch(labels, columns, weight=None, time=None):
    label = np.array(labels, np.float32)
    ones = np.ones(len(label), np.float32)
    weight = ones if weight is None else np.array(weight, np.float32)
    columns = [column if isinstance(column, pa.Array) else pa.array(column) for column in columns]
    return SimpleNamespace(label=label, weight=weight, columns=columns, time=time)


def test_slices_are_the_plain_sums():
    rng = np.random.default_rng(0)
    n = 3000
    site = rng.integers(0, 9, n)
    label = np.where(rng.random(n) < 0.1, np.nan, rng.random(n) < 0.3).astype(np.float32)
    weight = rng.integers(0, 4, n).astype(np.float32)
    p = rng.random(n).astype(np.float32)
    time = rng.integers(0, 14 * 24 * 3_600_000_000, n)
    time[::50] = NOT_A_TIME
    slices = Slices("click", {"site": 0})
    for start in range(0, n, 700):
        part = slice(start, start + 700)
        sites = pa.array([f"s{v}" if v else None for v in site[part]])
        if start % 1400:
            sites = sites.dictionary_encode()
        slices.add(batch(label[part], [sites], weight[part], time[part]), p[part])
    told = slices.report()
    known = ~np.isnan(label)
    loss = -np.log(np.where(label > 0, p, 1 - p))
    for row in told["slices"]["site"]:
        own = known & (site == (0 if row["value"] == "(missing)" else int(row["value"][1:])))
        total = weight[own].sum()
        assert row["records"] == own.sum()
        assert row["weight"] == total
        assert row["loss"] == pytest.approx((loss * weight)[own].sum() / total, rel=1e-4)
        assert row["predicted"] == pytest.approx((p * weight)[own].sum() / total, rel=1e-5)
        assert row["observed"] == pytest.approx((label * weight)[own].sum() / total, rel=1e-5)
    dated = known & (time != NOT_A_TIME)
    hour = time // 3_600_000_000
    assert [row["records"] for row in told["hours"]] == [
        int((dated & (hour % 24 == h)).sum()) for h in range(24)
    ]
    # 1970 began on a Thursday.
    assert told["weekdays"][3]["value"] == "Thursday"
    assert told["weekdays"][3]["records"] == (dated & (hour // 24 % 7 == 0)).sum()
    dates = [row["value"] for row in told["dates"]]
    assert dates == sorted(dates)
    assert dates[0] == "1970-01-01"


def test_a_column_of_ids_takes_bounded_memory_and_loses_nothing():
    slices, n = Slices("click", {"id": 0}), 5000
    for start in range(0, 10 * n, n):
        ids = [f"i{k}" for k in range(start, start + n - 500)] + ["often"] * 500
        slices.add(batch([1.0] * n, [ids]), np.full(n, 0.5, np.float32))
    assert len(slices._tables["id"]._sums) <= MOST
    rows = slices.report()["slices"]["id"]
    assert sum(row["records"] for row in rows) == 10 * n
    assert (rows[0]["value"], rows[0]["records"]) == ("often", 5000)
    assert rows[-1]["value"] == "(other values)"


def test_a_table_lets_rare_values_go_and_begins_them_anew():
    table = Table()
    ones = np.ones((64, 5))
    table.add(["frequent"], np.full((1, 5), 1000.0))
    for start in range(0, 2 * MOST, 64):
        table.add([f"v{k}" for k in range(start, start + 64)], ones)
    assert sum(row["records"] for row in table.rows()) == 1000 + 2 * MOST
    assert table.rows()[0]["value"] == "frequent"
    assert len(table._sums) <= MOST


def test_values_of_any_type_have_a_name():
    slices = Slices("click", {"a": 0, "b": 1, "c": 2})
    numbers, lists = (
        pa.array([1.0, 2.5, None, float("nan")]),
        pa.array([["x", "y"], [], None, ["z"]]),
    )
    slices.add(
        batch([1, 0, 1, 0], [numbers, lists, pa.array([True, False, None, True])]),
        np.full(4, 0.5, np.float32),
    )
    names = {
        name: {row["value"] for row in rows} for name, rows in slices.report()["slices"].items()
    }
    assert names["a"] == {"1", "2.5", "(missing)"}
    assert names["b"] == {"x y", "", "z", "(missing)"}
    assert names["c"] == {"True", "False", "(missing)"}


def test_terms_of_numbers_and_classes():
    ones = np.ones(2, np.float32)
    label, p = np.array([3, 5], np.float32), np.array([2, 7], np.float32)
    assert terms_of("regression", label, ones, p).tolist()[2:] == [[1, 2], [2, 7], [3, 5]]
    label, p = np.array([1, 2], np.float32), np.array([[0.5, 0.5], [0.75, 0.25]], np.float32)
    terms = terms_of("multiclass", label, 2 * ones, p)
    assert terms[2] == pytest.approx([2 * np.log(2), 2 * np.log(4)])
    assert not terms[3:].any()
    broken = terms_of("click", np.array([1, 0], np.float32), ones, np.full(2, np.nan, np.float32))
    assert np.isfinite(broken).all()
