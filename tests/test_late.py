"""Late labels: what is learned, when, and from what; laws 1, 2, 3, 7 and 8 for them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from onlinestack import LinearLearner, OnlineStacker, open_source
from onlinestack.late import LateLabel
from onlinestack.progressive import records

SMALL: dict[str, Any] = {
    "members": (
        {"name": "f", "learning_rate": 2.0},
        {"name": "ff", "interactions": ("ff",), "learning_rate": 0.1},
        {"name": "c", "reads": "c"},
        {"name": "trees", "kind": "trees", "rounds": 8, "depth": 3, "leaves": True},
        {"name": "trees on ff", "kind": "trees", "rounds": 8, "depth": 3, "base": "ff"},
        {"name": "trees with", "kind": "trees", "rounds": 8, "depth": 3, "inputs": ("f", "c")},
        {"name": "leaves", "reads": "fl"},
        {"name": "bits", "kind": "bits"},
        {"name": "pairs", "kind": "factorisation"},
    ),
    "stackers": (
        {"name": "s", "reads": "s", "constant": False},
        {"name": "fs", "reads": "s", "interactions": ("fs",), "constant": False},
    ),
    "bits": 12,
    "train_first": 300,
    "train_every": 700,
    "train_lag": 300,
    "window_rows": 900,
    "train_columns": 10,
    "half_lives": (8.0, 128.0, math.inf),
}
N = 2000
LEARNERS = {"linear": (LinearLearner, {"bits": 12}), "stack": (OnlineStacker, SMALL)}


def table(n: int = N, seed: int = 5) -> pa.Table:
    """Return a click log with ids, times a second or so apart, and times of clicks."""
    rng = np.random.default_rng(seed)
    site = rng.zipf(1.4, n) % 30
    price = np.round(rng.lognormal(1, 1, n), 2)
    p = 1 / (1 + np.exp(-(np.sin(site) + 2.0 * ((price > 3) ^ (site % 2 == 0)) - 1.5)))
    click = rng.random(n) < p
    time = np.cumsum(1 + rng.integers(0, 3, n)).astype(float) + 1e9
    tags = [" ".join(f"t{t}" for t in rng.integers(0, 9, rng.integers(0, 4))) for _ in range(n)]
    return pa.table(
        {
            "click": click.astype(int),
            "id": [f"r{i}" for i in range(n)],
            "time": time,
            "site": [None if rng.random() < 0.1 else f"s{s}" for s in site],
            "price": [None if rng.random() < 0.1 else v for v in price],
            "tags": tags,
            "w": rng.choice([0.5, 1.0], n, p=[0.2, 0.8]),
            "delay": np.where(click, rng.exponential(100, n), np.nan),
        }
    )


ROLES: dict[str, Any] = {
    "label": "click",
    "id": "id",
    "time": "time",
    "weight": "w",
    "text": ("tags",),
    "ignore": ("delay",),
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    pa.parquet.write_table(table(), path)
    return path


def fingerprint(model: Any, late: bool = True) -> dict[str, bytes]:
    """Return every array and the JSON of a learner's state as bytes."""
    arrays, meta = model.state()
    ours = {"window", "learn_at", "correct_late", "most_pending", "background"}
    meta["params"] = {k: v for k, v in meta["params"].items() if k not in ours}
    if not late:
        arrays = {k: v for k, v in arrays.items() if k[:5] != "late/"}
        meta.pop("late", None)
    out = {name: np.ascontiguousarray(array).tobytes() for name, array in arrays.items()}
    out["json"] = repr(meta).encode()
    return out


def clicks(data: pa.Table) -> list[tuple[float, str]]:
    """Return time and id of each click, in order of time."""
    when = (data["time"].to_numpy() + data["delay"].to_numpy()).tolist()
    rows = zip(when, data["id"].to_pylist(), strict=True)
    return sorted((t, id) for t, id in rows if not math.isnan(t))


def followed(
    log: Path, kind: str, batch_size: int = 5000, model: Any = None, **options: Any
) -> tuple[Any, np.ndarray]:
    """Run a log with its clicks as they come through `follow`."""
    made, settings = LEARNERS[kind]
    source = open_source(log, batch_size=batch_size, **ROLES)
    if model is None:
        model = made(**{**settings, **options})
        model.start(source.schema)
    events, at = clicks(pa.parquet.read_table(log)), 0
    out = []
    for batch in source:
        labels = []
        for i, time in enumerate((batch.time / 1e6).tolist()):
            while at < len(events) and events[at][0] < time:
                t, id = events[at]
                labels.append(LateLabel(i, id, True, round(t * 1e6)))
                at += 1
        out.append(model.follow(batch, labels))
    return model, np.concatenate(out)


@pytest.mark.parametrize("kind", LEARNERS)
def test_without_delay_it_is_the_immediate_path(log: Path, kind: str) -> None:
    made, settings = LEARNERS[kind]
    source = open_source(log, batch_size=700, **ROLES)
    now, late = made(**settings), made(**settings)
    now.start(source.schema)
    late.start(source.schema)
    for batch in source:
        labels = [
            LateLabel(i + 1, id, y > 0)
            for i, (id, y) in enumerate(
                zip(batch.id.to_pylist(), batch.label.tolist(), strict=True)
            )
        ]
        assert now.progress(batch).tobytes() == late.follow(batch, labels).tobytes()
    assert fingerprint(late, late=False) == fingerprint(now)
    assert late.attributed()["pending"] == 0


@pytest.mark.parametrize("kind", LEARNERS)
def test_without_delay_one_by_one_too(log: Path, kind: str) -> None:
    made, settings = LEARNERS[kind]
    source = open_source(log, **ROLES)
    now, late, ended = made(**settings), made(**settings), made(**settings, window=0.0)
    for batch in source:
        first = batch.rows(0, 700)
        times = first.time.tolist()
        for i, (x, y, w) in enumerate(records(first, source.schema.fields)):
            now.learn_one(x, y, w)
            late.predict_proba_one(x, id=i, w=w)
            late.label(i, y)
            ended.predict_proba_one(x, id=i, time=times[i] / 1e6, w=w)
            if y:
                ended.label(i, time=times[i] / 1e6)
        ended.pass_to(times[-1] / 1e6 + 1)
    assert fingerprint(late, late=False) == fingerprint(now)
    assert fingerprint(ended, late=False) == fingerprint(now)


@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("learn_at", ["window", "click"])
def test_law_2_blocks_do_not_matter(log: Path, kind: str, batch_size: int, learn_at: str) -> None:
    options = {"window": 150.0, "learn_at": learn_at, "correct_late": 100.0}
    one, p = followed(log, kind, **options)
    two, q = followed(log, kind, batch_size, **options)
    assert p.tobytes() == q.tobytes()
    assert fingerprint(one) == fingerprint(two)
    counts = one.attributed()
    assert counts["late"] > 20
    assert counts["late"] > counts["corrected"] > 10
    assert 20 < counts["pending"] < 200
    assert counts["served"] == N == counts["learned"] + counts["pending"]
