"""The laws of the architecture for the full stack, through the registry of parts."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from onlinestack import open_source
from onlinestack.io.records import records
from onlinestack.progressive import progressive_validate
from onlinestack.recipe import COMBINERS
from onlinestack.stacker import OnlineStacker

N = 3000
CUTS = [300, 557, 814, 1071, 1518, 2218]
ROLES: dict[str, Any] = {"label": "click", "weight": "w", "text": ("tags",)}
MEMBERS: tuple[dict[str, Any], ...] = (
    {"name": "f", "learning_rate": 2.0},
    {"name": "ff", "interactions": ("ff",), "learning_rate": 0.1},
    {"name": "c", "reads": "c"},
    {"name": "trees", "kind": "trees", "rounds": 8, "depth": 3, "leaves": True},
    {"name": "trees on ff", "kind": "trees", "rounds": 8, "depth": 3, "base": "ff"},
    {"name": "trees with", "kind": "trees", "rounds": 8, "depth": 3, "inputs": ("f", "c")},
    {"name": "leaves", "reads": "fl"},
    {"name": "micro", "reads": "ft", "learning_rate": 0.1},
    {"name": "bits", "kind": "bits"},
    {"name": "pairs fast", "kind": "factorisation", "learning_rate": 0.6},
    {"name": "pairs", "kind": "factorisation"},
)
STACKERS: tuple[dict[str, Any], ...] = (
    {"name": "s", "reads": "s", "constant": False},
    {"name": "ss", "reads": "s", "interactions": ("ss",), "constant": False},
    {"name": "fs", "reads": "s", "interactions": ("fs",), "constant": False},
    {"name": "newton", "kind": "newton", "half_life": 500.0},
)
SMALL: dict[str, Any] = {
    "members": MEMBERS,
    "stackers": STACKERS,
    "bits": 12,
    "micro_trees": 512,
    "train_first": 300,
    "train_every": 700,
    "train_lag": 300,
    "window_rows": 900,
    "train_columns": 10,
    "half_lives": (8.0, 128.0, math.inf),
    "combiners": ("all",),
}


def table(n: int = N, seed: int = 3) -> pa.Table:
    """Return a small click log with every kind of column, missing values and missing labels."""
    rng = np.random.default_rng(seed)
    site = rng.zipf(1.4, n) % 40
    price = np.round(rng.lognormal(1, 1, n), 2)
    p = 1 / (1 + np.exp(-(np.sin(site) + 2.0 * ((price > 3) ^ (site % 2 == 0)) - 1.5)))
    label = (rng.random(n) < p).astype(int)
    tags = [" ".join(f"t{t}" for t in rng.integers(0, 9, rng.integers(0, 4))) for _ in range(n)]

    def some(values: Any, share: float) -> list[Any]:
        return [None if rng.random() < share else v for v in values]

    return pa.table(
        {
            "click": pa.array(some(label.tolist(), 0.05), pa.int64()),
            "site": pa.array(some([f"s{s}" for s in site], 0.1)),
            "price": pa.array(some(price.tolist(), 0.1), pa.float64()),
            "mobile": pa.array((site % 2 == 0).tolist()),
            "tags": pa.array(some(tags, 0.1)),
            "w": pa.array(rng.choice([0.0, 0.5, 1.0], n, p=[0.05, 0.15, 0.8])),
        }
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    pa.parquet.write_table(table(), path)
    return path


def fingerprint(model: OnlineStacker) -> dict[str, bytes]:
    """Return every array and the JSON of a stack's state as bytes."""
    arrays, meta = model.state()
    meta["params"] = {k: v for k, v in meta["params"].items() if k != "background"}
    out = {name: np.ascontiguousarray(array).tobytes() for name, array in arrays.items()}
    out["json"] = repr(meta).encode()
    return out


def learned(
    path: Path, batch_size: int = 5000, roles: dict[str, Any] = ROLES, **options: Any
) -> tuple[OnlineStacker, np.ndarray]:
    source = open_source(path, batch_size=batch_size, **roles)
    model = OnlineStacker(**{**SMALL, **options})
    model.start(source.schema)
    p = [model.progress(batch) for batch in source]
    return model, np.concatenate(p) if p else np.empty(0, np.float32)


@pytest.fixture(scope="module")
def whole(log: Path) -> tuple[OnlineStacker, np.ndarray]:
    return learned(log)


def test_generations_are_swapped_in_and_every_expert_takes_part(
    whole: tuple[OnlineStacker, np.ndarray],
) -> None:
    model, p = whole
    events = model.events()
    assert {event["member"] for event in events} == {"trees", "trees on ff", "trees with"}
    assert [e["cut"] for e in events if e["member"] == "trees"] == CUTS
    assert sum(event["accepted"] for event in events) > len(events) / 2
    assert model.events() == []
    assert list(model.weights()) == [e["name"] for e in (*MEMBERS, *STACKERS)] + ["mean"]
    assert sum(model.weights().values()) == pytest.approx(1)
    scores = {name: model.scoreboard.whole(name)["log_loss"] for name in model.scoreboard.names}
    assert scores["mixture"] < scores["constant"] - 0.05
    assert len(set(scores.values())) == len(scores), "two experts say the same"
    assert np.isfinite(p).all()


@pytest.mark.parametrize("i", [0, 299, 300, 601, 1499])
def test_law_1_changing_a_record_changes_no_earlier_prediction(i: int, tmp_path: Path) -> None:
    base, paths = table(1500), []
    rng = np.random.default_rng(4)
    for changes in (False, True):
        label, price = base["click"].to_pylist(), base["price"].to_pylist()
        if changes:
            label[i] = 0 if label[i] else 1
            price[i + 1 :] = rng.lognormal(3, 2, len(price) - i - 1).tolist()
        changed = base.set_column(0, "click", pa.array(label, pa.int64()))
        changed = changed.set_column(2, "price", pa.array(price, pa.float64()))
        paths.append(tmp_path / f"{changes}.parquet")
        pa.parquet.write_table(changed, paths[-1])
    p, q = learned(paths[0])[1], learned(paths[1])[1]
    assert p[: i + 1].tobytes() == q[: i + 1].tobytes()
    assert i == 1499 or p[i + 1 :].tobytes() != q[i + 1 :].tobytes()


@pytest.mark.parametrize("batch_size", [1, 7, 1000, 65536])
def test_law_2_blocks_do_not_matter(
    log: Path, whole: tuple[OnlineStacker, np.ndarray], batch_size: int
) -> None:
    model, p = learned(log, batch_size=batch_size)
    assert p.tobytes() == whole[1].tobytes()
    assert fingerprint(model) == fingerprint(whole[0])


def test_law_2_looking_on_the_way_changes_nothing(
    log: Path, whole: tuple[OnlineStacker, np.ndarray]
) -> None:
    """What is told at a stop is what a learner that goes no further would tell."""
    (batch,) = open_source(log, **ROLES)
    models = [OnlineStacker(**{**SMALL, "combiners": ("all",)}) for _ in range(2)]
    for model in models:
        model.start(open_source(log, **ROLES).schema)
    stops = [1, 2, 3, 4, 8, 70, 299, 300, 301, 700, batch.n]
    told, answers = [], []

    def look(model: OnlineStacker) -> None:
        scores = {name: model.scoreboard.whole(name) for name in model.scoreboard.names}
        told.append((model.learned, model.weights(), scores, model.events()))

    for p in models[0].stretches(batch, stops):
        answers.append(p)
        look(models[0])
    ahead, told = told, []
    for start, stop in itertools.pairwise([0, *stops]):
        models[1].progress(batch.rows(start, stop))
        look(models[1])
    untimed = [
        [(*some, [e | {"seconds": 0} for e in events]) for *some, events in each]
        for each in (ahead, told)
    ]
    assert untimed[0] == untimed[1]
    assert [len(p) for p in answers] == np.diff([0, *stops]).tolist()
    assert np.concatenate(answers).tobytes() == whole[1].tobytes()
    assert fingerprint(models[0]) == fingerprint(models[1])


def test_law_2_learn_one_is_a_block_of_one(
    log: Path, whole: tuple[OnlineStacker, np.ndarray]
) -> None:
    source = open_source(log, **ROLES)
    model = OnlineStacker(**SMALL)
    model.start(source.schema)
    q = []
    for batch in source:
        for x, y, w in records(batch, source.schema.fields):
            q.append(model.predict_proba_one(x)[True])
            if y is not None:
                model.learn_one(x, y, w=w)
    assert np.array(q, np.float32).tobytes() == whole[1].tobytes()
    assert fingerprint(model) == fingerprint(whole[0])


@pytest.mark.parametrize("options", [{"background": False}, {}])
def test_law_3_replay(
    log: Path, whole: tuple[OnlineStacker, np.ndarray], options: dict[str, Any]
) -> None:
    model, p = learned(log, **options)
    assert p.tobytes() == whole[1].tobytes()
    assert fingerprint(model) == fingerprint(whole[0])


@pytest.mark.parametrize("stop", [1, 299, 450, 700, 2999])
def test_law_3_stop_and_resume_even_while_trees_are_trained(
    log: Path, whole: tuple[OnlineStacker, np.ndarray], stop: int
) -> None:
    source = open_source(log, batch_size=4096, **ROLES)
    head = OnlineStacker(**SMALL)
    head.start(source.schema)
    (batch,) = source
    p = [head.progress(batch.rows(0, stop))]
    arrays, meta = head.state()
    pending = meta["engine"]["parts"]["score:trees"]["pending"]
    assert (pending is not None) == (stop in (450, 700))
    tail = OnlineStacker(**SMALL)
    tail.start(source.schema)
    tail.restore({name: array.copy() for name, array in arrays.items()}, meta)
    p.append(tail.progress(batch.rows(stop, batch.n)))
    assert np.concatenate(p).tobytes() == whole[1].tobytes()
    assert fingerprint(tail) == fingerprint(whole[0])


def test_combiners_change_no_prediction(log: Path, whole: tuple[OnlineStacker, np.ndarray]) -> None:
    model, p = learned(log, combiners=())
    assert p.tobytes() == whole[1].tobytes()
    assert model.weights() == whole[0].weights()
    judged = set(whole[0].scoreboard.names) - set(model.scoreboard.names)
    assert judged == set(COMBINERS)


def bound_holds(model: OnlineStacker) -> bool:
    """Tell whether the mixture is as good as its best expert, up to its bound."""
    board = model.scoreboard
    assert board is not None
    names = model.weights()
    figures = {name: board.whole(name) for name in ("mixture", *names)}
    n, weight = figures["mixture"]["records"], figures["mixture"]["weight"]
    if not n:
        return True
    loss = {name: (figure["log_loss"] or 0.0) * weight for name, figure in figures.items()}
    best = min(loss[name] for name in names)
    return loss["mixture"] <= best + math.log(len(names)) - n * math.log1p(-1e-4) + 1e-3 * n**0.5


def test_law_4_the_mixture_bound(log: Path, whole: tuple[OnlineStacker, np.ndarray]) -> None:
    assert bound_holds(whole[0])
    roles = {key: value for key, value in ROLES.items() if key != "weight"}
    assert bound_holds(learned(log, roles={**roles, "ignore": ("w",)})[0])


def test_unlabelled_records_change_nothing(
    log: Path, whole: tuple[OnlineStacker, np.ndarray], tmp_path: Path
) -> None:
    known = pa.parquet.read_table(log).filter(pa.compute.is_valid(pa.compute.field("click")))
    path = tmp_path / "known.parquet"
    pa.parquet.write_table(known, path)
    assert fingerprint(learned(path)[0]) == fingerprint(whole[0])


def streams() -> dict[str, pa.Table]:
    """Return logs that are hard on learners."""
    base, n = table(1200, seed=5).drop_columns(["w"]), 1200
    click = base["click"].fill_null(0).to_numpy()
    flipped = np.where(np.arange(n) < n // 2, click, 1 - click)
    rare = (np.arange(n) % 400 == 7).astype(int)

    def having(label: Any) -> pa.Table:
        return base.set_column(0, "click", pa.array(label, pa.int64()))

    late = [None] * 700 + [f"v{i % 3}" for i in range(500)]
    huge = base["price"].to_numpy().copy()
    huge[5], huge[9], huge[600:610] = np.inf, -1e308, 1e38
    return {
        "no click": having(np.zeros(n)),
        "only clicks": having(np.ones(n)),
        "rare clicks": having(rare),
        "flipped": having(flipped),
        "no label": having([None] * n),
        "short": having(click).slice(0, 300),
        "one": having(click).slice(0, 1),
        "late field": having(click).append_column("late", pa.array(late)),
        "huge numbers": having(click).set_column(2, "price", pa.array(huge)),
        "nothing but labels": pa.table({"click": click, "same": ["x"] * n}),
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", streams())
def test_hard_streams_run_and_keep_the_bound(name: str, tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(streams()[name], path)
    text = {} if name == "nothing but labels" else {"text": ("tags",)}
    model, p = learned(path, roles={"label": "click", **text})
    assert ((p >= 1e-6) & (p <= 1 - 1e-6)).all()
    assert bound_holds(model)


def test_it_changes_its_mind_when_labels_are_flipped(tmp_path: Path) -> None:
    base = table(4000, seed=5).drop_columns(["w"])
    click = base["click"].fill_null(0).to_numpy()
    y = np.where(np.arange(4000) < 2000, click, 1 - click)
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(base.set_column(0, "click", pa.array(y)), path)
    _, p = learned(path, roles={"label": "click", "text": ("tags",)})
    loss = -np.log(np.where(y > 0, p, 1 - p))
    assert loss[2000:2100].mean() > 0.7
    assert loss[3000:].mean() < 0.68


def test_ten_thousand_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    columns = {f"x{j:05}": pa.array(rng.normal(size=40)) for j in range(10_000)}
    path = tmp_path / "wide.parquet"
    pa.parquet.write_table(pa.table({"click": rng.integers(0, 2, 40), **columns}), path)
    plain = [entry for entry in MEMBERS if "interactions" not in entry and "base" not in entry]
    model, p = learned(path, roles={"label": "click"}, members=tuple(plain))
    assert len(p) == 40 and bound_holds(model)
    assert model._started().layout.columns <= 340


def test_vw_text_with_many_values_a_namespace(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    lines = []
    for _ in range(900):
        words = rng.integers(0, 50, rng.integers(0, 30))
        y = 1 if (words < 5).any() else -1
        lines.append(f"{y} |w {' '.join(f't{w}' for w in words)} |x a:{rng.random():.3f} b")
    path = tmp_path / "log.vw"
    path.write_text("\n".join(lines) + "\n")
    model, p = learned(path, roles={})
    other, q = learned(path, roles={}, batch_size=7)
    assert p.tobytes() == q.tobytes()
    assert fingerprint(model) == fingerprint(other)
    assert bound_holds(model)
    board = model.scoreboard
    assert board.whole("mixture")["log_loss"] < 0.8 * board.whole("constant")["log_loss"]


def test_progressive_validation_tells_every_expert(
    log: Path, whole: tuple[OnlineStacker, np.ndarray]
) -> None:
    *_, last = progressive_validate(open_source(log, **ROLES), OnlineStacker(**SMALL), name="all")
    board = whole[0].scoreboard
    assert board is not None
    assert list(last.scores) == ["all", *board.names[1:]]
    assert last.learned == whole[0].learned
    for name, figures in last.scores.items():
        assert figures == board.whole("mixture" if name == "all" else name)
    assert last.log_loss == board.whole("mixture")["log_loss"]
    assert f"log_loss {last.log_loss:.4f}" in str(last)
