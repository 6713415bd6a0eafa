"""One record at a time: the kernels' calls are kept, and nothing but time depends on it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from onlinestack import LinearLearner, OnlineStacker

N = 700
ODD = ("n/a", True, np.inf, np.nan, 10**400, np.float32(0.5))


def records(seed: int = 0) -> list[tuple[dict[str, Any], bool]]:
    """Records of all kinds of values; most have one value a field, some a list or a new field."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(N):
        x: dict[str, Any] = {
            "site": f"s{rng.integers(30)}",
            "device": ("a", "b", None)[rng.integers(3)],
            "price": float(np.round(rng.normal(), 2)),
            "clicks": int(rng.integers(5)),
        }
        if i % 50 == 17:
            x["price"] = ODD[i // 50 % len(ODD)]
        if i % 60 == 20:
            x["site"] = ["s1", "s2"]
        if i > 300:
            x["late"] = "uv"[rng.integers(2)]
        if i % 70 == 30:
            del x["clicks"]
        made.append((x, bool(rng.random() < (0.3 if x["device"] == "a" else 0.6))))
    return made


RECORDS = records()


def learners() -> list[Any]:
    return [
        LinearLearner(bits=12, interactions=["ff"]),
        LinearLearner(bits=12, oaa=2),
        OnlineStacker(bits=12, train_first=200, window_rows=1000, background=False),
    ]


def forgetful(model: Any) -> Any:
    """Make a learner bind nothing and predict anew each time."""
    model.start()
    model._engine.run = lambda block, tape, again=False, run=model._engine.run: (
        model._engine.forget(),
        run(block, tape),
    )[1]
    return model


def same(a: Any, b: Any) -> None:
    (arrays, meta), (others, other_meta) = a.state(), b.state()
    assert meta["engine"] == other_meta["engine"]
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)


@pytest.mark.parametrize("number", range(3))
def test_kept_calls_change_nothing(number: int) -> None:
    quick, plain = learners()[number], forgetful(learners()[number])
    for x, y in RECORDS:
        assert quick.predict_proba_one(x) == plain.predict_proba_one(x)
        quick.learn_one(x, y)
        plain.learn_one(x, y)
    same(quick, plain)


@pytest.mark.parametrize("number", range(3))
def test_predicting_before_learning_changes_nothing(number: int) -> None:
    asked, silent = learners()[number], learners()[number]
    for x, y in RECORDS:
        for _ in range(2):
            asked.predict_proba_one(x)
        asked.learn_one(x, y)
        silent.learn_one(x, y)
    same(asked, silent)


def test_a_record_changed_in_place_is_another() -> None:
    model = LinearLearner(bits=12)
    x = {"a": "u", "b": 1.0}
    for _ in range(20):
        model.learn_one({"a": "u", "b": 1.0}, True)
        model.learn_one({"a": "v", "b": 2.0}, False)
    before = model.predict_proba_one(x)[True]
    x["a"], x["b"] = "v", 2.0
    assert model.predict_proba_one(x)[True] < before
    # the same values under each other's names
    swapped = {"b": "u", "a": 1.0}
    assert model.predict_proba_one(swapped) != model.predict_proba_one({"a": "u", "b": 1.0})


@pytest.mark.parametrize("number", range(3))
def test_copies_go_on_alike(number: int) -> None:
    model = learners()[number]
    for x, y in RECORDS[:400]:
        model.predict_proba_one(x)
        model.learn_one(x, y)
    model.predict_proba_one(RECORDS[400][0])
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for x, y in RECORDS[400:]:
        for each in (model, *twins):
            each.learn_one(x, y)
    for twin in twins:
        same(model, twin)
