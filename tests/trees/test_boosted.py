"""Training: the same bytes from the same rows, columns and rows that are kept out, and failures."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import xgboost

from onlinestack.block import PREDICT
from onlinestack.trees import boosted
from onlinestack.trees.boosted import (
    Binned,
    Rows,
    TrainingError,
    TreeSettings,
    bin_rows,
    fit,
    paying,
)
from onlinestack.trees.forest import flatten, places, score_rows

QUICK = TreeSettings(rounds=8, depth=4, min_child_weight=1.0)


def window(n: int = 1500, t: int = 9, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n, t)).astype(np.float32)
    table[rng.random((n, t)) < 0.1] = np.nan
    score = np.nan_to_num(table[:, 1]) + np.nan_to_num(table[:, 4]) * np.nan_to_num(table[:, 5])
    click = (rng.random(n) < 1 / (1 + np.exp(1 - 2 * score))).astype(np.float32)
    return Rows(table, click, rng.uniform(0.5, 2, n).astype(np.float32))


def cut(rows: Rows, *inner: int) -> list[Rows]:
    """Cut a stretch into several, each with memory of its own."""
    ends = [0, *inner, len(rows.label)]
    return [
        Rows(*(array[a:b].copy() for array in rows)) for a, b in zip(ends, ends[1:], strict=False)
    ]


def used(data: bytes) -> set[int]:
    forest = flatten(data)
    return set((forest.feature[~np.isnan(forest.threshold)] // 2).tolist())


def margins(data: bytes, rows: Rows, base: np.ndarray | None = None) -> np.ndarray:
    n = len(rows.label)
    scores = np.zeros((n, 2), np.float32)
    if base is not None:
        scores[:, 0] = base
    score_rows(
        np.full(n, PREDICT, np.uint8),
        np.arange(n, dtype=np.int32),
        rows.table,
        flatten(data),
        places(),
        scores,
        -1 if base is None else 0,
        1,
        np.float32(np.inf),
    )
    return scores[:, 1]


def log_loss(margin: np.ndarray, rows: Rows) -> float:
    loss = np.logaddexp(0, np.where(rows.label > 0, -1.0, 1.0) * margin)
    return float(np.average(loss, weights=rows.weight))


def test_same_rows_and_seed_give_the_same_bytes_wherever_chunks_end() -> None:
    rows = window()
    model = fit(bin_rows([rows]), QUICK)
    assert model.rounds == 8 and model.loss is None and model.seconds > 0
    for ends in [(), (1,), (700,), (3, 1499)]:
        assert fit(bin_rows(cut(rows, *ends)), QUICK).data == model.data
    assert fit(bin_rows([rows]), dataclasses.replace(QUICK, seed=1)).data != model.data


def test_trees_do_not_depend_on_threads() -> None:
    rows = window(6000)
    model = fit(bin_rows([rows]), QUICK)
    more = dataclasses.replace(QUICK, nthread=3)
    assert fit(bin_rows([rows], nthread=3), more).data == model.data
    counts = itertools.cycle([1, 3, 2])
    assert fit(bin_rows([rows]), more, threads=lambda: next(counts)).data == model.data
    assert paying([rows], QUICK, 4) == paying([rows], more, 4, threads=lambda: next(counts))


def test_edges_of_some_of_the_rows_serve_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = window(3000)
    whole = fit(bin_rows([rows]), QUICK)
    monkeypatch.setattr(boosted, "SKETCH", 400)
    monkeypatch.setattr(boosted, "BATCH", 130)
    binned = bin_rows(cut(rows, 1111))
    assert binned.matrix.num_row() == 3000
    model = fit(binned, QUICK)
    assert model.data == fit(bin_rows(cut(rows, 5, 2990)), QUICK).data
    assert model.data != whole.data
    one, other = (log_loss(margins(each.data, rows), rows) for each in (whole, model))
    assert one == pytest.approx(other, rel=0.02)


def test_other_threads_and_trainings_change_nothing() -> None:
    rows = window()
    expected = fit(bin_rows([rows]), QUICK).data
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            other = pool.submit(lambda: fit(bin_rows([window(seed=3)]), QUICK))
            mine = fit(bin_rows([rows]), QUICK)
            other.result()
            assert mine.data == expected
            assert pool.submit(lambda: fit(bin_rows([rows]), QUICK)).result().data == expected


def test_members_share_a_window_and_leave_nothing_behind() -> None:
    rows = window()
    base = np.random.default_rng(1).normal(size=len(rows.label)).astype(np.float32)
    stops = dataclasses.replace(QUICK, early_stopping=2, rounds=30)
    members: list[tuple[TreeSettings, dict[str, Any]]] = [
        (QUICK, {}),
        (QUICK, {"base": base}),
        (stops, {}),
        (QUICK, {"columns": [0, 1, 2]}),
        (QUICK, {}),
    ]
    alone = [fit(bin_rows([rows]), settings, **more).data for settings, more in members]
    shared = bin_rows([rows])
    assert [fit(shared, settings, **more).data for settings, more in members] == alone
    assert alone[0] == alone[4] and len(set(alone)) == 4


def test_chunks_may_be_overwritten_after_binning() -> None:
    chunks = cut(window(), 600)
    binned = bin_rows(chunks)
    for rows in chunks:
        for array in rows:
            array[:] = 0
    assert fit(binned, QUICK).data == fit(bin_rows([window()]), QUICK).data


def test_trees_learn_what_base_margins_leave_over() -> None:
    rows = window(4000)
    base = (2 * np.nan_to_num(rows.table[:, 1]) - 1).astype(np.float32)
    settings = dataclasses.replace(QUICK, rounds=40, colsample=1.0)
    model = fit(bin_rows([rows]), settings, base=base)
    margin = margins(model.data, rows, base)
    assert log_loss(margin, rows) < log_loss(base, rows) - 0.05
    matrix = xgboost.DMatrix(rows.table, base_margin=base, nthread=1)
    booster = xgboost.Booster(model_file=bytearray(model.data))
    assert booster.predict(matrix, output_margin=True).tobytes() == margin.tobytes()


@pytest.mark.parametrize("colsample", [0.3, 1.0])
@pytest.mark.parametrize("columns", [[2], [0, 3, 7], [8, 6, 4, 2, 0]])
def test_columns_that_are_out_of_bounds_are_never_split_on(
    colsample: float, columns: list[int]
) -> None:
    settings = dataclasses.replace(QUICK, rounds=30, colsample=colsample, min_child_weight=0.1)
    binned = bin_rows([window()])
    assert used(fit(binned, settings, columns=columns).data) <= set(columns)
    if colsample == 1.0:
        assert used(fit(binned, settings, columns=columns).data) == set(columns)
        assert used(fit(binned, settings).data) == set(range(9))


def test_columns_that_are_not_binned_keep_their_numbers() -> None:
    rows = window()
    binned = bin_rows([rows], columns=[1, 4, 5])
    assert binned.matrix.num_col() == 3
    model = fit(binned, dataclasses.replace(QUICK, colsample=1.0))
    assert used(model.data) == {1, 4, 5}
    booster = xgboost.Booster(model_file=bytearray(model.data))
    chosen = xgboost.DMatrix(rows.table[:, [1, 4, 5]], nthread=1)
    expected = booster.predict(chosen, output_margin=True)
    assert margins(model.data, rows).tobytes() == expected.tobytes()


def test_paying_columns_are_those_that_say_something(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = window(4000)
    free = dataclasses.replace(QUICK, colsample=1.0)
    assert paying([rows], free, keep=3) == [1, 4, 5]
    assert paying([rows], free, keep=4, always=[8]) == [1, 4, 5, 8]
    assert paying([rows], free, keep=9) == paying([rows], free, keep=100) == list(range(9))
    monkeypatch.setattr(boosted, "SKETCH", 500)
    assert paying(cut(rows, 1234), QUICK, keep=5) == paying([rows], QUICK, keep=5)


def test_early_stopping_looks_at_the_newest_rows_and_learns_none_of_them() -> None:
    rows = window(2000)
    rows.weight[1900:1950] = 0
    settings = dataclasses.replace(QUICK, rounds=200, early_stopping=5, eta=0.3, held=0.2)
    model = fit(bin_rows([rows]), settings)
    assert 1 <= model.rounds < 200
    assert len(flatten(model.data).root) == model.rounds
    newest = Rows(*(array[1600:] for array in rows))
    assert model.loss == pytest.approx(log_loss(margins(model.data, newest), newest), rel=1e-6)
    # Other labels in the newest rows stop elsewhere, but the trees themselves do not know them.
    flipped = rows._replace(label=rows.label.copy())
    flipped.label[1600:] = 1 - flipped.label[1600:]
    short = fit(bin_rows([flipped]), settings)
    assert short.rounds < model.rounds
    a, b = flatten(model.data), flatten(short.data)
    assert a.base == b.base
    assert a.value[: len(b.value)].tobytes() == b.value.tobytes()


@pytest.mark.parametrize(
    ("clicks", "weight", "words"),
    [
        (0, 1.0, "0 clicks and 300 non-clicks"),
        (9, 1.0, "9 clicks and 291 non-clicks"),
        (295, 1.0, "295 clicks and 5 non-clicks"),
        (150, 0.0, "0 clicks and 0 non-clicks"),
    ],
)
def test_too_few_of_a_kind(clicks: int, weight: float, words: str) -> None:
    rows = window(300)
    rows.label[:] = np.arange(300) < clicks
    rows.weight[:] = weight
    with pytest.raises(TrainingError, match=words) as caught:
        fit(bin_rows([rows]), QUICK)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_rows_that_are_held_back_do_not_count() -> None:
    rows = window(300)
    rows.label[:] = np.arange(300) >= 280
    fit(bin_rows([rows]), QUICK)
    with pytest.raises(TrainingError, match="0 clicks and 270 non-clicks"):
        fit(bin_rows([rows]), dataclasses.replace(QUICK, early_stopping=3))


@pytest.mark.parametrize("chunks", [[], [window(0)]])
def test_no_rows(chunks: list[Rows]) -> None:
    with pytest.raises(TrainingError, match="0 rows"):
        bin_rows(chunks)


def test_nothing_to_hold_back_of() -> None:
    rows = window(300)
    rows.weight[200:] = 0
    with pytest.raises(TrainingError, match="no finite loss"):
        fit(bin_rows([rows]), dataclasses.replace(QUICK, early_stopping=3))


def test_no_memory_and_refusals_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Any:
        def boost(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(xgboost.Booster, "boost", boost)
        return pytest.raises(TrainingError if not isinstance(error, KeyError) else KeyError)

    binned = bin_rows([window()])
    for error, words in [
        (MemoryError(), "Memory did not suffice"),
        (xgboost.core.XGBoostError("[1:2:3] a.cc:7: Check failed: x > 0\nStack"), "(x > 0)"),
        (xgboost.core.XGBoostError("std::bad_alloc"), "(std::bad_alloc)"),
        (KeyError("mine"), "mine"),
    ]:
        with fail(error) as caught:
            fit(binned, QUICK)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match="XGBoost could not train"):
        fit(Binned(binned.matrix, binned.click[:9], binned.weight[:9], binned.columns, 64), FEW)


FEW = dataclasses.replace(QUICK, min_clicks=1)


def test_infinity_counts_as_the_largest_number() -> None:
    rows = window()
    rows.table[::5, 1], rows.table[1::5, 1] = np.inf, -np.inf
    model = fit(bin_rows([rows]), dataclasses.replace(QUICK, rounds=30, colsample=1.0))
    assert 1 in used(model.data)
    assert np.isfinite(margins(model.data, rows)).all()


def test_other_bins_than_the_window_has() -> None:
    with pytest.raises(ValueError, match="max_bin 32 was given for a window of 64 bins"):
        fit(bin_rows([window()]), dataclasses.replace(QUICK, max_bin=32))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth", 0),
        ("depth", 17),
        ("depth", 2.5),
        ("eta", 0),
        ("eta", 1.1),
        ("rounds", 0),
        ("max_bin", 1),
        ("max_bin", 257),
        ("subsample", 0),
        ("colsample", -0.1),
        ("min_child_weight", -1),
        ("l2", float("nan")),
        ("gamma", float("inf")),
        ("leaves", -1),
        ("early_stopping", -1),
        ("held", 0),
        ("held", 1),
        ("min_clicks", 0),
        ("nthread", 0),
        ("seed", -1),
    ],
)
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} {value} was given .*expected .*; change it"):
        TreeSettings(**{name: value})


def test_leaves_are_limited() -> None:
    model = fit(bin_rows([window()]), dataclasses.replace(QUICK, leaves=3, depth=9))
    forest = flatten(model.data)
    assert len(forest.root) == 8
    assert len(forest.name) <= 8 * 5


SCRIPT = """
import sys, warnings
warnings.simplefilter("error")
from onlinestack.spare import absent
with absent("pandas", "scipy.linalg"):
    import numpy as np
    from onlinestack.trees.boosted import Rows, TreeSettings, bin_rows, fit
    assert "xgboost" not in sys.modules
    table = np.random.default_rng(0).normal(size=(50_000, 4)).astype(np.float32)
    rows = Rows(table, (table[:, 0] > 0).astype(np.float32), np.ones(50_000, np.float32))
    model = fit(bin_rows([rows]), TreeSettings(rounds=3, early_stopping=9))
    assert not {"pandas", "scipy.linalg", "sklearn.base"} & set(sys.modules)
print(len(model.data) > 1000)
"""


def test_training_is_silent_and_needs_no_large_library() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.stdout, result.stderr) == ("True\n", "")
