"""Learners inside other people's programs: frames, pipelines, evaluation, clones."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sklearn.base
from river import compose, evaluate, metrics, preprocessing

from onlinestack import LinearLearner, OnlineStacker

SMALL: dict[str, Any] = {
    "members": (
        {"name": "f", "interactions": ["ff"]},
        {"name": "trees", "kind": "trees", "rounds": 4, "depth": 2},
        {"name": "bits", "kind": "bits"},
    ),
    "stackers": ({"name": "s", "reads": "s", "constant": False},),
    "bits": 10,
    "fields": 8,
    "tree_columns": 20,
    "half_lives": (8.0, 64.0),
    "random_bits": 64,
    "train_first": 100,
    "train_every": 100,
    "train_lag": 20,
}
MODELS = {"linear": (LinearLearner, {"bits": 12}), "stack": (OnlineStacker, SMALL)}


def rows(n: int = 300, seed: int = 0) -> tuple[list[dict[str, Any]], list[bool]]:
    rng = np.random.default_rng(seed)
    x = [
        {
            "site": f"s{rng.integers(5)}",
            "price": float(rng.normal()),
            "count": int(rng.integers(9)),
            "mobile": bool(rng.random() < 0.5),
            "moment": float(i),
        }
        for i in range(n)
    ]
    y = [bool(rng.random() < (0.7 if row["site"] == "s1" else 0.2)) for row in x]
    for row in x[10:]:
        if rng.random() < 0.1:
            row["site"] = None
    return x, y


def states(model: Any) -> dict[str, bytes]:
    arrays, meta = model.state()
    return {k: a.tobytes() for k, a in arrays.items()} | {
        "json": json.dumps(meta, sort_keys=True).encode()
    }


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("form", ["table", "chunks", "batch", "pandas"])
def test_frames_are_learned_as_single_records_are(kind: str, form: str) -> None:
    made, settings = MODELS[kind]
    x, y = rows()
    one, many = made(**settings), made(**settings)
    for row, label in zip(x, y, strict=True):
        one.learn_one(row, label, 0.5)
    table = pa.Table.from_pylist(x)
    frame: Any = table
    labels: Any = pa.array(y)
    if form == "chunks":
        frame = pa.concat_tables([table.slice(0, 7), table.slice(7)])
        labels = pa.chunked_array([labels.slice(0, 100), labels.slice(100)])
    elif form == "batch":
        frame, labels = table.to_batches()[0], y
    elif form == "pandas":
        pd = pytest.importorskip("pandas")
        frame, labels = pd.DataFrame(x), pd.Series(y)
    many.learn_many(frame, labels, w=[0.5] * len(x))
    assert states(one) == states(many)
    before = states(many)
    p = many.predict_proba_many(frame)
    assert type(p) is (pa.Table if form == "batch" else type(frame))
    name: Any = True if form == "pandas" else "True"
    expected = [one.predict_proba_one(row)[True] for row in x]
    assert [float(v) for v in np.asarray(p[name])] == expected
    chosen = [bool(v) for v in np.asarray(many.predict_many(frame))]
    assert chosen == [one.predict_one(row) for row in x]
    assert states(many) == before


def test_arrow_is_not_copied() -> None:
    from onlinestack.frames import batch_of, table_of

    table = pa.table({"price": np.arange(1000.0), "site": ["a"] * 1000})
    model = LinearLearner(bits=8)
    model.learn_many(table, [True, False] * 500)
    none = np.zeros(0, np.float32)
    for given in (table, table.to_batches()[0]):
        batch = batch_of(table_of(given), model._encoding(), none, none)
        for column, name in zip(batch.columns, ("price", "site"), strict=True):
            theirs = table[name].chunk(0).buffers()[1].address
            assert column.buffers()[1].address == theirs


def test_what_is_no_frame_is_said() -> None:
    model = LinearLearner(bits=8)
    with pytest.raises(ValueError, match="X is a list; give an Arrow table or record batch, or"):
        model.learn_many([{"a": 1}], [True])
    with pytest.raises(ValueError, match="X has 2 records and y 1; give one for each"):
        model.learn_many(pa.table({"a": [1, 2]}), [True])
    with pytest.raises(ValueError, match="w=-1 is not a weight"):
        model.learn_many(pa.table({"a": [1]}), [True], w=[-1])


@pytest.mark.parametrize("kind", MODELS)
def test_clones_know_nothing_but_their_settings(kind: str) -> None:
    made, settings = MODELS[kind]
    x, y = rows(40)
    model = made(**settings, window=60.0, seed=3)
    for row, label in zip(x, y, strict=True):
        model.learn_one(row, label)
    for fresh in (model.clone(), sklearn.base.clone(model)):
        assert fresh.get_params() == model.get_params()
        assert fresh.learned == 0
    copies = (copy.deepcopy(model), pickle.loads(pickle.dumps(model)))
    assert [states(same) for same in copies] == [states(model)] * 2
    for row, label in zip(*rows(120, 1), strict=True):
        p = model.predict_proba_one(row)
        model.learn_one(row, label)
        for same in copies:
            assert same.predict_proba_one(row) == p
            same.learn_one(row, label)
    assert [states(same) for same in copies] == [states(model)] * 2


@pytest.mark.parametrize("kind", MODELS)
def test_rivers_pipelines_and_delays(kind: str) -> None:
    """Rivers's delay names no record, so what is learned late is encoded anew."""
    made, settings = MODELS[kind]
    scaled = compose.Select("price", "count") | preprocessing.StandardScaler()
    pipeline = (scaled + compose.Select("site", "mobile")) | made(**settings)
    x, y = rows()
    data = list(zip(x, y, strict=True))
    now = evaluate.progressive_val_score(data, pipeline, metrics.LogLoss())
    assert 0 < now.get() < 0.8
    late = made(**settings)
    score = evaluate.progressive_val_score(data, late, metrics.LogLoss(), moment="moment", delay=20)
    assert late.learned == len(data)
    once = made(**settings)
    at_once = evaluate.progressive_val_score(data, once, metrics.LogLoss())
    assert score.get() != at_once.get()
    assert 0 < score.get() < 0.8
