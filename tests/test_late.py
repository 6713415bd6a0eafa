"""Late labels: what is learned, when, and from what; laws 1, 2, 3, 7 and 8 for them."""

from __future__ import annotations

import json
import math
import pickle
import threading
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import strategies as st
from river import compose, linear_model

from onlinestack import LinearLearner, OnlineStacker, load, open_source, save
from onlinestack.io.records import records
from onlinestack.late import LateLabel

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
        {"name": "micro", "reads": "ft", "learning_rate": 0.2},
    ),
    "combiners": ("all",),
    "stackers": (
        {"name": "s", "reads": "s", "constant": False},
        {"name": "fs", "reads": "s", "interactions": ("fs",), "constant": False},
        {"name": "newton", "kind": "newton"},
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
    out["json"] = json.dumps(meta, sort_keys=True).encode()
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


@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize("stop", [1, 499, 1300])
def test_law_3_stop_and_resume_with_records_pending(
    log: Path, kind: str, stop: int, tmp_path: Path
) -> None:
    """A saved learner goes on with its pending records; so does a pickled one."""
    made, settings = LEARNERS[kind]
    options = {"window": 150.0, "correct_late": 100.0}
    whole = made(**settings, **options)
    events = clicks(pa.parquet.read_table(log))
    source = open_source(log, **ROLES)
    whole.start(source.schema)
    (batch,) = source

    def run(model: Any, start: int, stop: int) -> bytes:
        part = batch.rows(start, stop)
        times = (part.time / 1e6).tolist()
        since = batch.time[start - 1] / 1e6 if start else -math.inf
        labels = [
            LateLabel(int(np.searchsorted(times, t, side="right")), id, True, round(t * 1e6))
            for t, id in events
            if since <= t < times[-1]
        ]
        return bytes(model.follow(part, labels).tobytes())

    parts = made(**settings, **options)
    parts.start(source.schema)
    p = run(whole, 0, N)
    head = run(parts, 0, stop)
    assert parts.attributed()["pending"] > 0
    save(parts, tmp_path / "model")
    for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(parts))):
        assert head + run(again, stop, N) == p
        assert fingerprint(again) == fingerprint(whole)


class Watch:
    """Writes down what each record is served with, and what it is learned from."""

    def __init__(self, model: Any) -> None:
        self.model, self.inner = model, model.take
        self.served: dict[int, dict[str, bytes]] = {}
        self.learned: dict[int, dict[str, bytes]] = {}
        model.take = self

    def __call__(self, block: Any, tape: Any) -> None:
        late, fresh = self.model._late, tape.predicted()
        for row in set(tape.row[tape.op == 1].tolist()):
            if row >= fresh:
                number = late._late[row - fresh]
                self.learned[number] = self.of(block, row)
        self.inner(block, tape)
        for row, number in enumerate(late._numbers):
            self.served[number] = self.of(block, row)

    def of(self, block: Any, row: int) -> dict[str, bytes]:
        seen = {name: array[row].tobytes() for name, array in self.model.kept(block).items()}
        start = int(block.start[row, 0])
        features = slice(start, int(block.stop[row, 0]))
        seen["index"] = block.index[features].tobytes()
        seen["value"] = block.value[features].tobytes()
        if block.opens.shape[1]:
            seen["opens"] = (block.opens[row] - start).tobytes()
            seen["closes"] = (block.closes[row] - start).tobytes()
        return seen


@pytest.mark.parametrize("kind", LEARNERS)
@hypothesis.settings(max_examples=6)
@hypothesis.given(data=st.data())
def test_law_7_what_is_learned_is_what_was_served(log: Path, kind: str, data: Any) -> None:
    """Whatever happens to the model in between: here it becomes another one altogether."""
    made, options = LEARNERS[kind]
    source = open_source(log, **ROLES)
    (batch,) = source
    model, other = made(**options, window=1e9), made(**options)
    for each in (model, other):
        each.start(source.schema)
    first = data.draw(st.integers(0, 900), "records learned before")
    model.progress(batch.rows(0, first))
    other.progress(batch.rows(0, data.draw(st.integers(0, 1500), "records of the other")))
    watch = Watch(model)
    served = batch.rows(first, first + data.draw(st.integers(1, 60), "records served"))
    model.follow(served)
    arrays, meta = other._running().state()
    model._running().restore(arrays, meta)
    ids = served.id.to_pylist()
    for id in data.draw(st.lists(st.sampled_from(ids), unique=True), "clicks"):
        model.label(id)
    model.pass_to(3e9)
    assert model.attributed()["learned"] == len(ids) == len(watch.learned)
    for number, seen in watch.learned.items():
        assert seen == watch.served[number]


def test_bits_are_learned_as_served(log: Path) -> None:
    """A record served before the bits were drawn has none when it is learned."""
    source = open_source(log, **ROLES)
    (batch,) = source
    model = OnlineStacker(**SMALL, window=1e9)
    model.start(source.schema)
    model.progress(batch.rows(0, 490))
    watch = Watch(model)
    model.follow(batch.rows(490, 500))
    model.progress(batch.rows(500, 520))
    model.follow(batch.rows(520, 530))
    assert watch.served[0]["bits"] == bytes(128)
    assert watch.served[10]["bits"] != bytes(128)
    model.pass_to(3e9)
    assert watch.learned[0]["bits"] == bytes(128)
    assert watch.learned[10] == watch.served[10]


@pytest.mark.parametrize("kind", LEARNERS)
def test_law_1_a_click_changes_no_prediction_before_it(log: Path, kind: str) -> None:
    made, options = LEARNERS[kind]
    (batch,) = open_source(log, **ROLES)
    part = batch.rows(0, 600)
    times = part.time.tolist()
    for learn_at in ("window", "click"):
        answers = []
        for clicked in (False, True):
            model = made(**options, window=100.0, learn_at=learn_at)
            model.start(open_source(log, **ROLES).schema)
            label = [LateLabel(320, "r300", True, times[319])] if clicked else []
            answers.append(model.follow(part, label))
        ended = int(np.searchsorted(times, times[300] + 100_000_000, side="right"))
        first = ended if learn_at == "window" else 320
        assert answers[0][:first].tobytes() == answers[1][:first].tobytes()
        assert answers[0][first:].tobytes() != answers[1][first:].tobytes()


def test_the_order_of_clicks_within_a_window_does_not_matter(log: Path) -> None:
    (batch,) = open_source(log, **ROLES)
    part = batch.rows(0, 600)
    prints = []
    for order in (1, -1):
        model = OnlineStacker(**SMALL, window=2000.0)
        model.start(open_source(log, **ROLES).schema)
        model.follow(part, [LateLabel(600, f"r{i}", True) for i in range(0, 600, 3)[::order]])
        model.pass_to(3e9)
        prints.append(fingerprint(model))
    assert model.attributed()["learned"] == 600
    assert prints[0] == prints[1]


def test_law_8_nothing_lost() -> None:
    model = LinearLearner(bits=10, window=10, most_pending=20)
    for i in range(50):
        model.predict_proba_one({"a": i % 7}, id=i, time=i / 100)
    model.predict_proba_one({"a": 1}, id=45, time=1)
    model.label(15)
    model.label("45")
    model.label(45.0)
    model.label("nobody")
    counts = model.attributed()
    assert counts["duplicates"] == 1
    assert counts["evicted"] == 30
    assert (counts["late"], counts["repeated"], counts["unknown"]) == (1, 1, 1)
    assert counts["served"] == 51 == counts["predicted_only"] + counts["pending"]
    model.pass_to(100)
    counts = model.attributed()
    assert counts["learned"] == model.learned == 20
    assert counts["served"] == counts["learned"] + counts["predicted_only"] + counts["pending"]
    assert model.scoreboard.whole("linear")["click_rate"] == 1 / 20
    assert 60 < counts["bytes_each"] < 90


@pytest.mark.parametrize("kind", LEARNERS)
def test_fields_met_meanwhile_leave_pending_records_as_they_were(kind: str) -> None:
    """Fields that dicts bring later do not move the numbers of records that wait."""
    made, options = LEARNERS[kind]
    late, now = made(**options), made(**options)
    rows = [{"m": 1.5 * i, "s": f"v{i % 3}"} for i in range(40)]
    rows += [{"a": i, "m": 2.0, "z": -i, "t": "x"} for i in range(40)]
    for i, x in enumerate(rows):
        now.learn_one(x, i % 3 == 0)
        late.predict_proba_one(x, id=i)
        if i == 31:
            continue
        late.label(i, i % 3 == 0)
    late.label(31, False)
    encoder = late._encoding()
    column = encoder.number_names().index("m")
    assert encoder.number_names() == ["a", "m", "z"]
    assert 46.5 in encoder.bins.reservoir[: late.learned, column].tolist()
    assert late.learned == now.learned == 80


def test_a_late_click_corrects_what_was_learned() -> None:
    """With 40 % of the clicks late, corrections bring the odds back to those of the truth."""
    rng = np.random.default_rng(0)
    means = {}
    for correct in (0.0, 1000.0):
        model = LinearLearner(bits=8, window=10, correct_late=correct, learning_rate=0.05)
        late: list[tuple[float, int]] = []
        given = []
        for i in range(20_000):
            while late and late[0][0] < i:
                when, id = late.pop(0)
                model.label(id, True, when)
            given.append(model.predict_proba_one({"a": 1}, id=i, time=i)[True])
            if rng.random() < 0.3:
                on_time = rng.random() < 0.6
                late.append((i + (5 if on_time else 300), i))
                late.sort()
        means[correct] = np.mean(given[10_000:])
    assert means[0.0] == pytest.approx(0.18, abs=0.02)
    assert means[1000.0] == pytest.approx(0.3, abs=0.02)
    counts = model.attributed()
    assert counts["late"] == counts["corrected"] > 2000
    assert counts["learned"] == 20_000 - counts["pending"]
    assert model.learned == counts["learned"] + counts["corrected"]


def test_what_can_not_be_is_said_in_a_sentence() -> None:
    x = {"a": 1}
    for settings_, sentence in (
        ({"window": -1}, "window=-1 is no time; give seconds, 0 or more"),
        ({"learn_at": "once"}, "learn_at='once' is unknown; give one of window, click"),
        ({"correct_late": 5}, "correct_late needs a window"),
        ({"window": 1, "correct_late": -5}, "correct_late=-5 is no time"),
        ({"most_pending": 0}, "most_pending=0 leaves no room"),
        ({"oaa": 3}, "late labels are clicks"),
        ({"window": 1}, "the record 'a' has no time, which a window is counted from"),
    ):
        with pytest.raises(ValueError, match=sentence):
            LinearLearner(**settings_).predict_proba_one(x, id="a")
    with pytest.raises(ValueError, match="time=nan is no time"):
        LinearLearner().label("a", time=math.nan)


class Counting:
    """A part of somebody's own: the log-odds of the clicks learned so far."""

    def __init__(self) -> None:
        self.raw = np.zeros(4096, np.float32)
        self.counts = np.ones(2)

    def run(self, block: Any, tape: Any) -> None:
        for op, row in zip(tape.op, tape.row, strict=True):
            if op == 0:
                self.raw[row] = np.log(self.counts[1] / self.counts[0])
            else:
                self.counts[int(block.label[row])] += 1

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"counts": self.counts.copy()}, {}

    def restore(self, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        self.counts[:] = arrays["counts"]


def test_a_part_of_somebodys_own_is_a_member(log: Path, tmp_path: Path) -> None:
    own = Counting()
    members = ({"name": "f"}, {"name": "own", "model": own})
    options = {**SMALL, "members": members, "window": 50.0}
    model = OnlineStacker(**options)
    (batch,) = open_source(log, **ROLES)
    model.start(open_source(log, **ROLES).schema)
    model.follow(batch.rows(0, 500))
    model.check_saving()
    assert own.counts.sum() == 2
    assert model._running().parts["score:own"].part.counts.sum() == model.learned + 2 > 100
    for x in (pickle.loads(pickle.dumps(model)), model.clone()):
        x.predict_proba_one({"site": "s1"})


@pytest.mark.parametrize("late", [False, True])
def test_a_classifier_of_river_is_a_member(log: Path, late: bool, tmp_path: Path) -> None:
    """By blocks, late and one by one it sees the same records."""
    from river.naive_bayes import BernoulliNB
    from river.preprocessing import StandardScaler

    theirs = StandardScaler() | linear_model.LogisticRegression()
    members = (
        {"name": "f"},
        {"name": "river", "model": compose.SelectType(float, int) | theirs},
        {"name": "bayes", "model": compose.SelectType(float, int) | BernoulliNB()},
    )
    options = {**SMALL, "members": members, "window": 50.0 if late else None}
    (batch,) = open_source(log, **ROLES)
    schema = open_source(log, **ROLES).schema
    part = batch.rows(0, 400)
    one, two = OnlineStacker(**options), OnlineStacker(**options)
    for model in (one, two):
        model.start(schema)
    p = one.follow(part) if late else one.progress(part)
    q = []
    for i, (x, y, w) in enumerate(records(part, schema.fields)):
        if late:
            time = part.time[i] / 1e6
            q.append(two.predict_proba_one(x, id=f"r{i}", time=time, w=w)[True])
        else:
            q.append(two.predict_proba_one(x)[True])
            two.learn_one(x, y, w)
    assert p.tobytes() == np.array(q, np.float32).tobytes()
    board = one.scoreboard
    assert board.whole("river")["log_loss"] != board.whole("bayes")["log_loss"]
    with pytest.raises(ValueError, match="the member 'river' is a Pipeline, whose state is not"):
        one.check_saving()
    with pytest.raises(ValueError, match="save a stack without it, or ask for no snapshot"):
        save(one, tmp_path / "model")
    with pytest.raises(ValueError, match="give a river classifier, or an object with run"):
        OnlineStacker(members=({"name": "x", "model": 3},)).learn_one({}, True)


@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize("way", ["progress", "follow", "learn_one"])
def test_predictions_between_records_while_others_are_learned(
    log: Path, kind: str, way: str
) -> None:
    """Whatever other threads predict is what the state before or after some record predicts."""
    made, options = LEARNERS[kind]
    (batch,) = open_source(log, **ROLES)
    schema = open_source(log, **ROLES).schema
    stop = 650 if way != "learn_one" else 150
    asked = [x for x, _, _ in records(batch.rows(1000, 1003), schema.fields)]
    lone, shared = made(**options, window=50.0), made(**options, window=50.0)

    def rows() -> list[Any]:
        return list(records(batch.rows(0, stop), schema.fields))

    possible: list[set[float]] = [set() for _ in asked]
    for model in (lone, shared):
        model.start(schema)
    if way == "learn_one":
        for x, y, w in rows():
            for seen, each in zip(possible, asked, strict=True):
                seen.add(lone.predict_proba_one(each)[True])
            lone.learn_one(x, y, w)
    for k in range(stop if way != "learn_one" else 0):
        for seen, each in zip(possible, asked, strict=True):
            seen.add(lone.predict_proba_one(each)[True])
        getattr(lone, way)(batch.rows(k, k + 1))
    for seen, each in zip(possible, asked, strict=True):
        seen.add(lone.predict_proba_one(each)[True])
    answers: list[list[float]] = [[] for _ in asked]
    over = threading.Event()
    shared.serving = True

    def ask(k: int) -> None:
        while not over.is_set() or not answers[k]:
            answers[k].append(shared.predict_proba_one(asked[k])[True])

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(len(asked))]
    for thread in threads:
        thread.start()
    try:
        if way == "learn_one":
            for x, y, w in rows():
                shared.learn_one(x, y, w)
        else:
            getattr(shared, way)(batch.rows(0, stop))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    for seen, given in zip(possible, answers, strict=True):
        assert set(given) <= seen
        assert len(set(given)) > 3
    assert fingerprint(shared) == fingerprint(lone)


def test_some_of_the_non_clicks_are_enough(log: Path) -> None:
    """A tenth of the non-clicks, ten times as heavy, gives true probabilities."""
    rng = np.random.default_rng(1)
    n = 40_000
    site = rng.integers(0, 2, n)
    click = rng.random(n) < np.where(site == 1, 0.08, 0.02)
    frame = pa.table({"site": [f"s{s}" for s in site]})
    model = LinearLearner(bits=8, negatives=0.1, learning_rate=0.1)
    model.learn_many(frame, click)
    assert model.learned == pytest.approx(click.sum() + 0.1 * (~click).sum(), rel=0.03)
    late = LinearLearner(bits=8, negatives=0.1, learning_rate=0.1, window=10)
    for i in range(0, 20_000):
        late.predict_proba_one({"site": f"s{site[i]}"}, id=i, time=i)
        if click[i]:
            late.label(i)
    for each in (model, late):
        p = each.predict_proba_many(pa.table({"site": ["s0", "s1"]}))["True"].to_pylist()
        assert p == pytest.approx([0.02, 0.08], rel=0.25)
    counts = late.attributed()
    assert counts["thinned"] == pytest.approx(0.9 * (~click[:20_000]).sum(), rel=0.02)
    assert counts["served"] == counts["learned"] + counts["predicted_only"] + counts["pending"]
    half = LinearLearner(bits=8, negatives=0.1, learning_rate=0.1)
    for x, y in zip(frame["site"].to_pylist()[:3000], click[:3000].tolist(), strict=True):
        half.learn_one({"site": x}, y)
    whole = LinearLearner(bits=8, negatives=0.1, learning_rate=0.1)
    for start, stop in ((0, 1234), (1234, 3000)):
        whole.learn_many(frame.slice(start, stop - start), click[start:stop])
    assert fingerprint(half) == fingerprint(whole)
    with pytest.raises(ValueError, match="negatives=0 is no share"):
        LinearLearner(negatives=0).learn_one({}, True)
    with pytest.raises(ValueError, match="thins non-clicks"):
        LinearLearner(negatives=0.5, oaa=3).learn_one({}, "a")


def test_a_thinned_stack_weighs_in_full_what_stands_for_others() -> None:
    model = OnlineStacker(**SMALL, negatives=0.25)
    assert model.recipe().largest_weight == 4


@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize("text", [False, True])
def test_law_2_single_records_are_a_batch(log: Path, kind: str, text: bool) -> None:
    """With a value a field they take the way of single records, with a text they can not."""
    made, options = LEARNERS[kind]
    roles = ROLES if text else {**ROLES, "text": (), "ignore": ("delay", "tags")}
    (batch,) = open_source(log, **roles)
    schema = open_source(log, **roles).schema
    part = batch.rows(0, 900)
    times = part.time.tolist()
    events = [e for e in clicks(pa.parquet.read_table(log)) if e[0] * 1e6 < times[-1]]
    labels = [
        LateLabel(int(np.searchsorted(times, t * 1e6)), id, True, round(t * 1e6))
        for t, id in events
    ]
    settings = {"window": 150.0, "correct_late": 100.0, "negatives": 0.5, "learn_at": "click"}
    whole, single = made(**options, **settings), made(**options, **settings)
    for model in (whole, single):
        model.start(schema)
    p = whole.follow(part, labels)
    q, at = [], 0
    for i, (x, _, w) in enumerate(records(part, schema.fields)):
        while at < len(labels) and labels[at].before <= i:
            single.label(labels[at].id, time=labels[at].time / 1e6)
            at += 1
        q.append(single.predict_proba_one(x, id=f"r{i}", time=times[i] / 1e6, w=w)[True])
    assert p.tobytes() == np.array(q, np.float32).tobytes()
    assert fingerprint(whole) == fingerprint(single)
    counts = single.attributed()
    assert min(counts[key] for key in ("thinned", "corrected", "late", "pending")) > 5
