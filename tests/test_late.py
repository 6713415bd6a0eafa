"""Late labels: what is learned, when, and from what; laws 1, 2, 3, 7 and 8 for them."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import strategies as st

from onlinestack import LinearLearner, OnlineStacker, load, open_source, save
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
        seen["index"], seen["value"] = block.index[features].tobytes(), b""
        seen["value"] = block.value[features].tobytes()
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
