"""Retraining: what serves when, the same whatever the blocks, threads, speeds and stops."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onlinestack import snapshot
from onlinestack.block import MARGIN, Block, Tape, immediate_tape
from onlinestack.engine import Engine
from onlinestack.kernel import KERNELS
from onlinestack.trees import training
from onlinestack.trees.boosted import TrainingError, TreeSettings
from onlinestack.trees.drift import OnDrift, PageHinkley
from onlinestack.trees.forest import flatten, places, score_rows
from onlinestack.trees.inputs import MarginColumns
from onlinestack.trees.retrain import Retrained
from onlinestack.trees.schedule import ByRecords, BySpan
from onlinestack.trees.training import Trainer
from onlinestack.trees.window import Window

F = np.float32
WIDTH = 4
SMALL = TreeSettings(depth=3, rounds=8, eta=0.3, colsample=1.0, min_child_weight=1.0, min_clicks=5)
Flip = Callable[[np.ndarray], np.ndarray]


def nowhere(i: np.ndarray) -> np.ndarray:
    return np.zeros(len(i), bool)


def stream(n: int, flipped: Flip = nowhere, seed: int = 0, unknown: float = 0.05) -> Block:
    """Return records whose clicks follow the first columns, the other way round where flipped."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n, WIDTH + 1)).astype(F)
    way = np.where(flipped(np.arange(n)), -1, 1)
    margin = way * 2.5 * (np.sign(table[:, 0]) + 0.5 * table[:, 1])
    label = (rng.random(n) < 1 / (1 + np.exp(-margin))).astype(F)
    label[rng.random(n) < unknown] = np.nan
    block = Block.of([[]] * n, label=label, weight=rng.choice([0.5, 1.0, 2.0], n))
    block.table = table
    block.table[:, WIDTH] = np.nan
    block.scores = np.zeros((n, 4), F)
    block.dense["l"] = (np.ones((n, SMALL.rounds), np.uint32), np.ones((n, SMALL.rounds), F))
    return block


class Slope:
    """A part that gives a margin which any member could have given: half of a column."""

    fills = "linear"
    needs: tuple[str, ...] = ()

    def run(self, block: Block, tape: Tape) -> None:
        rows = tape.row[tape.op == 0]
        block.scores[rows, 0] = block.table[rows, 1] * F(0.5)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}

    def restore(self, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        pass


def engine_of(
    *,
    background: bool = True,
    schedule: Callable[[], Any] = lambda: ByRecords(200, 400),
    settings: TreeSettings = SMALL,
    keep: int | None = None,
    members: tuple[str, ...] = ("plain", "based", "fed"),
    lag: int = 100,
    **options: Any,
) -> Engine:
    """Return an engine with three tree members: plain, on a base margin, on a margin as input."""
    window = Window(
        WIDTH + 1, ("plain", "based", "fed"), rows=900, slack=300, keep={"linear": 0, "own": 1}
    )
    trainer = Trainer(background, keep=keep, always=[WIDTH], screen=SMALL)
    TRAINERS.append(trainer)
    own: dict[str, dict[str, Any]] = {
        "plain": {"columns": tuple(range(WIDTH)), "leaves": True},
        "based": {"base": "linear", "rows": 500, "columns": tuple(range(WIDTH))},
        "fed": {},
    }
    parts: dict[str, Any] = {
        "window": window,
        "slope": Slope(),
        "inputs": MarginColumns({WIDTH: 0}, ("linear",)),
    }
    for column, name in enumerate(own, 1):
        if name in members:
            parts[name] = Retrained(
                name,
                window,
                settings,
                schedule(),
                column=column,
                needs=("margins",),
                fills=name,
                lag=lag,
                trainer=trainer,
                **(own[name] | options),
            )
    return Engine(parts)


def run(
    engine: Engine, block: Block, start: int = 0, stop: int | None = None, size: int = 500
) -> Block:
    """Run an engine over records of a block, so many at a time; it takes the scores."""
    stop = block.n if stop is None else stop
    for a in range(start, stop, size):
        part = block.rows(a, min(a + size, stop))
        for _ in engine.quanta(part.label, part.rows):
            pass
    return block


def fingerprint(engine: Engine, block: Block) -> tuple[Any, ...]:
    arrays, meta = engine.state()
    served = [block.scores, *block.dense["l"]]
    return (
        {name: a.tobytes() for name, a in arrays.items()},
        json.dumps(meta),
        [array.tobytes() for array in served],
    )


def logs(engine: Engine, *names: str) -> list[dict[str, Any]]:
    """Return the events of members without what differs between runs."""
    events = [e for name in names for e in engine.parts[name].events]  # type: ignore[attr-defined]
    return [{k: v for k, v in event.items() if k != "seconds"} for event in events]


EVERYONE = "plain", "based", "fed"


TRAINERS: list[Trainer] = []


@pytest.fixture(autouse=True)
def undisturbed() -> Iterator[None]:
    """Let no training outlive its test."""
    yield
    while TRAINERS:
        pool = TRAINERS.pop()._pool
        if pool is not None:
            pool.shutdown(wait=True)


@pytest.fixture(scope="module")
def whole() -> tuple[Engine, Block]:
    engine, block = engine_of(), stream(3000)
    return engine, run(engine, block)


def test_generations_follow_the_schedule_and_help(whole: tuple[Engine, Block]) -> None:
    engine, block = whole
    cuts = [200, 300, 450, 675, 1012, 1412, 1812, 2212, 2612]
    for name in EVERYONE:
        events = logs(engine, name)
        assert [e["cut"] for e in events] == [c if c != 300 else 301 for c in cuts]
        assert [e["number"] for e in events] == list(range(1, 10))
        assert events[0]["accepted"] and events[0]["rounds"] == SMALL.rounds
        for event in events:
            assert event["active_from"] == (event["cut"] + 100 if event["accepted"] else None)
            assert ("reason" in event) is not event["accepted"]
    known = ~np.isnan(block.label)
    known[:500] = False
    y = block.label[known]
    for column in (1, 2, 3):
        margin = block.scores[known, column]
        loss = np.mean(np.logaddexp(0, np.where(y > 0, -margin, margin)))
        assert loss < 0.56  # of 0.69 for the click rate, 0.62 for the slope


@pytest.mark.parametrize("size", [1, 7, 1000, 4096])
def test_blocks_do_not_matter(whole: tuple[Engine, Block], size: int) -> None:
    engine, block = engine_of(), stream(3000)
    run(engine, block, size=size)
    assert fingerprint(engine, block) == fingerprint(*whole)
    assert logs(engine, *EVERYONE) == logs(whole[0], *EVERYONE)


def test_background_or_not_does_not_matter(whole: tuple[Engine, Block]) -> None:
    engine, block = engine_of(background=False), stream(3000)
    run(engine, block)
    assert fingerprint(engine, block) == fingerprint(*whole)
    assert logs(engine, *EVERYONE) == logs(whole[0], *EVERYONE)


def test_records_without_a_label_change_nothing(whole: tuple[Engine, Block]) -> None:
    engine, block = engine_of(), stream(3000)
    known = np.flatnonzero(~np.isnan(block.label))
    for start, stop in zip([0, 700, 2000], [700, 2000, len(known)], strict=True):
        rows = known[start:stop]
        part = Block.of([[]] * len(rows), label=block.label[rows], weight=block.weight[rows])
        part.table, part.scores = block.table[rows], block.scores[rows]
        part.dense["l"] = block.dense["l"][0][rows], block.dense["l"][1][rows]
        run(engine, part)
        assert part.scores.tobytes() == whole[1].scores[rows].tobytes()


@pytest.mark.parametrize("stop", [1, 211, 212, 250, 316, 317, 318, 500, 1100, 2900])
def test_stop_and_resume_anywhere(whole: tuple[Engine, Block], stop: int) -> None:
    """In the middle of a training, at a cut, at a swap, before the first generation."""
    head, block = engine_of(background=stop % 2 == 0), stream(3000)
    run(head, block, 0, stop)
    arrays, meta = head.state()
    kept = {name: array.copy() for name, array in arrays.items()}
    tail = engine_of(background=stop % 2 == 1)
    tail.restore(kept, json.loads(json.dumps(meta)))
    run(tail, block, stop)
    assert fingerprint(tail, block) == fingerprint(*whole)


def test_stops_are_met_in_the_middle_of_trainings() -> None:
    engine, block = engine_of(), stream(3000)
    run(engine, block, 0, 250)
    _, meta = engine.state()
    assert meta["parts"]["plain"]["pending"] == [200, 300, None]
    assert meta["parts"]["plain"]["due"] == 300


def test_pickles_hold_no_thread(whole: tuple[Engine, Block]) -> None:
    engine, block = engine_of(), stream(3000)
    run(engine, block, 0, 250)
    again = pickle.loads(pickle.dumps(engine))
    run(again, block, 250)
    assert fingerprint(again, block) == fingerprint(*whole)


def test_labels_change_no_earlier_prediction(whole: tuple[Engine, Block]) -> None:
    reference = whole[1].scores
    for i in (150, 220, 330, 1500):
        engine, block = engine_of(), stream(3000)
        i = int(np.flatnonzero(~np.isnan(block.label[i:]))[0]) + i
        block.label[i] = 1 - block.label[i]
        run(engine, block, 0, min(3000, i + 1000))
        assert block.scores[: i + 1, 1:].tobytes() == reference[: i + 1, 1:].tobytes()
        assert (
            block.scores[i + 1 : i + 1000, 1].tobytes() != reference[i + 1 : i + 1000, 1].tobytes()
        )


@pytest.mark.parametrize("speed", ["slow", "fast"])
def test_a_generation_serves_from_its_record_on(
    speed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly lag records behind the cut, however long its training takes."""
    models = []

    def fit(*args: Any, **options: Any) -> Any:
        if speed == "slow":
            time.sleep(0.5)
        models.append(real(*args, **options))
        return models[-1]

    real = training.fit
    monkeypatch.setattr(training, "fit", fit)
    engine, block = engine_of(members=("plain",)), stream(290, unknown=0.0)
    run(engine, block)
    if speed == "fast":
        time.sleep(0.5)  # trained long before its swap, it waits
    more = stream(500, unknown=0.0, seed=1)
    run(engine, more, 0, 100)
    (event,) = logs(engine, "plain")
    assert (event["cut"], event["active_from"]) == (200, 300)
    forest = flatten(models[0].data)
    expected = np.zeros((500, 1), F)
    rows = np.arange(500, dtype=np.int32)
    op = np.zeros(500, np.uint8)
    score_rows(op, rows, more.table, forest, places(), expected, -1, 0, MARGIN)
    clicks = weight = 0.0
    for part, n in ((block, 290), (more, 100)):
        for i in range(n):
            rate = F(np.log((clicks + 0.5) / (weight - clicks + 0.5)))
            if part is block or i < 10:
                assert part.scores[i, 1] == pytest.approx(rate, abs=1e-6)
                assert not part.dense["l"][1][i].any()
            else:
                assert part.scores[i, 1] == expected[i, 0]
                assert part.dense["l"][1][i].all() and part.dense["l"][0][i].all()
            weight += part.weight[i]
            clicks += part.weight[i] * part.label[i]


@pytest.mark.parametrize(
    ("lag", "first", "swap"),
    [(4096, 1000, 1256), (4096, 2400, 2700), (100, 1000, 1100), (500, 9000, 9500)],
)
def test_early_lags_are_short(lag: int, first: int, swap: int) -> None:
    window = Window(WIDTH + 1)
    member = Retrained("trees", window, SMALL, ByRecords(first), column=1, lag=lag)
    engine = Engine({"trees": member, "window": window})
    block = stream(first + 1, unknown=0.0)
    run(engine, block, 0, first - 1)
    assert member.next_change() == first
    run(engine, block, first - 1)
    assert member.next_change() == swap


def between(start: int, stop: int) -> Flip:
    return lambda i: (start <= i) & (i < stop)


def test_guard_refuses_a_generation_worse_than_the_click_rate() -> None:
    """What it learned no longer holds between its cut and its swap."""
    engine = engine_of(members=("plain",))
    block = run(engine, stream(350, between(200, 350), unknown=0.0))
    (event,) = logs(engine, "plain")
    assert not event["accepted"] and event["active_from"] is None
    assert "above that of what serves" in event["reason"]
    member: Any = engine.parts["plain"]
    assert (member.accepted, member.refused, member.failed, member.active) == (0, 1, 0, 0)
    assert np.abs(block.scores[50:, 1]).max() < 1  # still the click rate


class At(ByRecords):
    """A schedule of given counts."""

    def __init__(self, *counts: int) -> None:
        self.counts = counts

    def after(self, cut: int) -> int:
        return min(count for count in (*self.counts, 10**9) if count > cut)


@pytest.mark.parametrize("back", [True, False])
def test_guard_compares_with_the_generation_in_service(back: bool) -> None:
    """A generation of flipped labels serves if they stay flipped, not if they flip back."""
    engine = engine_of(members=("plain",), rows=250, schedule=lambda: At(200, 600))
    run(engine, stream(710, between(300, 600 if back else 710), unknown=0.0))
    first, second = logs(engine, "plain")
    assert first["accepted"] and (second["cut"], second["rounds"]) == (600, SMALL.rounds)
    assert second["accepted"] is not back
    assert engine.parts["plain"].active == (1 if back else 2)  # type: ignore[attr-defined]


def test_guard_refuses_no_one_on_records_without_weight() -> None:
    engine, block = engine_of(members=("plain",)), stream(350, unknown=0.0)
    block.weight[200:] = 0
    run(engine, block)
    assert [e["accepted"] for e in logs(engine, "plain")] == [True]


def test_a_stream_without_clicks_goes_on() -> None:
    engine, block = engine_of(), stream(3000, unknown=0.0)
    block.label[:700] = 0
    run(engine, block)
    for name in EVERYONE:
        events = logs(engine, name)
        assert [e["accepted"] for e in events[:3]] == [False] * 3
        assert all(e["rounds"] is None and e["reason"] for e in events[:3])
        member: Any = engine.parts[name]
        assert member.failed >= 3 and member.accepted > 0
        assert member.accepted + member.refused + member.failed == member.number == len(events)
    assert np.isfinite(block.scores).all()
    np.testing.assert_array_less(block.scores[600:700, 1], -6)


@pytest.mark.parametrize(
    ("error", "void"),
    [
        (MemoryError(), True),
        (TrainingError("no room"), False),
        ("chained", True),
        (TrainingError("XGBoost could not (std::bad_alloc)"), True),
    ],
)
def test_a_training_that_fails_costs_nothing(
    error: Any, void: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fit(*args: Any, **options: Any) -> Any:
        trained.append(1)
        if len(trained) != 2:
            return real(*args, **options)
        if error != "chained":
            raise error
        try:
            raise MemoryError
        except MemoryError:
            raise TrainingError("no room") from None

    trained: list[int] = []
    real = training.fit
    monkeypatch.setattr(training, "fit", fit)
    engine, block = engine_of(members=("plain",)), stream(700, unknown=0.0)
    run(engine, block)
    events = logs(engine, "plain")
    assert [e["accepted"] for e in events] == [True, False, events[2]["accepted"]]
    assert events[1]["reason"] == (str(error).replace("chained", "no room") or "MemoryError")
    assert ("replay" in events[1]) == void
    assert [r.levelname for r in caplog.records] == ["WARNING"] * void
    assert engine.parts["plain"].failed == 1  # type: ignore[attr-defined]


def test_errors_of_the_program_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: Any, **options: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(training, "fit", fit)
    with pytest.raises(ZeroDivisionError):
        run(engine_of(), stream(400))


def test_trees_on_a_base_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on the margins as served, and before the first generation these are the score."""
    bases, models = [], []

    def fit(*args: Any, **options: Any) -> Any:
        bases.append(options["base"])
        models.append(real(*args, **options))
        return models[-1]

    real = training.fit
    monkeypatch.setattr(training, "fit", fit)
    engine, block = engine_of(members=("based",)), stream(400, unknown=0.0)
    run(engine, block)
    assert bases[0].tobytes() == block.scores[:200, 0].tobytes()
    assert block.scores[:300, 2].tobytes() == block.scores[:300, 0].tobytes()
    scores = block.scores.copy()
    forest = flatten(models[0].data)
    op, row = np.zeros(100, np.uint8), np.arange(300, 400, dtype=np.int32)
    score_rows(op, row, block.table, forest, places(), scores, 0, 2, MARGIN)
    assert scores.tobytes() == block.scores.tobytes()
    assert (scores[300:, 2] != scores[300:, 0]).any()


def test_margins_that_are_not_finite_are_never_served() -> None:
    class Broken(Slope):
        def run(self, block: Block, tape: Tape) -> None:
            super().run(block, tape)
            rows = tape.row[tape.op == 0]
            strange = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], F)
            block.scores[rows, 0] = np.where(rows % 7 < 5, strange[rows % 5], F(0))

    engine, block = engine_of(), stream(2000)
    engine.parts["slope"] = Broken()
    run(engine, block)
    assert all(engine.parts[name].accepted for name in EVERYONE)  # type: ignore[attr-defined]
    assert np.abs(block.scores[:, 1:]).max() <= MARGIN


@pytest.mark.parametrize("background", [True, False])
def test_members_of_one_cut_share_one_binned_window(
    background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    binned, sizes = [], []

    def bin_rows(*args: Any, **options: Any) -> Any:
        binned.append(sum(len(rows.label) for rows in args[0]))
        return real_bin(*args, **options)

    def fit(*args: Any, **options: Any) -> Any:
        time.sleep(0.05)
        sizes.append(len(args[0].click))
        return real_fit(*args, **options)

    real_bin, real_fit = training.bin_rows, training.fit
    monkeypatch.setattr(training, "bin_rows", bin_rows)
    monkeypatch.setattr(training, "fit", fit)
    engine = engine_of(background=background)
    run(engine, stream(780, unknown=0.0))
    # one member trains on 500 rows at most
    assert binned == [200, 301, 450, 675, 500] and sizes == [200] * 3 + [301] * 3 + [450] * 3 + [
        *[675, 675, 500]
    ]
    trainer = engine.parts["plain"].trainer  # type: ignore[attr-defined]
    assert trainer._binned is None


@pytest.mark.parametrize("stop", [250, 1050])
def test_only_columns_that_pay_are_binned(stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ones whether other members are trained from the same window or not."""
    columns = []

    def bin_rows(*args: Any) -> Any:
        columns.append(args[3])
        return real(*args)

    real = training.bin_rows
    monkeypatch.setattr(training, "bin_rows", bin_rows)
    one, block = engine_of(keep=3), stream(1300)
    run(one, block)
    assert columns[0] == (0, 1, WIDTH)
    head, other = engine_of(keep=3), stream(1300)
    run(head, other, 0, stop)
    tail = engine_of(keep=3)
    tail.restore(*head.state())
    run(tail, other, stop)
    assert fingerprint(tail, other) == fingerprint(one, block)
    alone, third = engine_of(keep=3, members=("plain",)), stream(1300)
    run(alone, third)
    assert third.scores[:, 1].tobytes() == block.scores[:, 1].tobytes()
    with pytest.raises(ValueError, match="expected at least 1, or None"):
        Trainer(keep=0)


def test_orders_cancelled_are_ordered_anew(whole: tuple[Engine, Block]) -> None:
    engine, block = engine_of(background=False), stream(3000)
    run(engine, block, 0, 250)
    engine.parts["plain"].trainer.close()  # type: ignore[attr-defined]
    run(engine, block, 250)
    assert fingerprint(engine, block) == fingerprint(*whole)


def by_time() -> Any:
    return BySpan(400.0, lambda block: block.row.astype(np.float64), first=200, check=64)


def on_drift() -> Any:
    detector = PageHinkley(1, least=100, threshold=30.0)
    return OnDrift(ByRecords(200, 5000), detector, check=64, distance=128)


@pytest.mark.parametrize("schedule", [by_time, on_drift])
@pytest.mark.parametrize("stop", [230, 333, 1700])
def test_schedules_that_read_the_data(schedule: Any, stop: int) -> None:
    """Neither blocks nor stops change when they cut; a flip brings a cut."""
    flips = between(1000, 9999)
    # The detector watches the scores of the member whose schedule it is, and no other's.
    alone = {"schedule": schedule, "members": ("plain",)}
    one, two = engine_of(**alone), engine_of(**alone, background=False)
    block, other = stream(2000, flips), stream(2000, flips)
    run(one, block)
    run(two, other, 0, stop, size=7)
    arrays, meta = two.state()
    kept = {name: array.copy() for name, array in arrays.items()}
    two = engine_of(**alone)
    two.restore(kept, json.loads(json.dumps(meta)))
    run(two, other, stop, size=1)
    assert fingerprint(one, block) == fingerprint(two, other)
    cuts = [e["cut"] for e in logs(one, "plain")]
    assert cuts[0] == 200 and any(cut % 64 == 0 and 940 < cut < 1400 for cut in cuts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lag": 301}, "expected 1 to 300"),
        ({"lag": 0}, "expected 1 to 300"),
        ({"rows": 0}, "rows to train on"),
        ({"base": "other"}, "starts from the margin 'other'"),
    ],
)
def test_refused_settings(options: dict[str, Any], message: str) -> None:
    window = Window(WIDTH, slack=300)
    with pytest.raises(ValueError, match=message):
        Retrained("trees", window, SMALL, ByRecords(), column=0, **({"lag": 100} | options))


def test_a_model_that_only_predicts_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    head, block = engine_of(), stream(3000)
    run(head, block, 0, 250)
    tail = engine_of()
    tail.restore(*head.state())
    silent = stream(50)
    silent.label[:] = np.nan
    monkeypatch.setattr(training, "bin_rows", None)  # not to be called
    run(tail, silent)
    assert tail.parts["plain"]._pending.future is None  # type: ignore[attr-defined]


def test_snapshot_of_a_pending_training(whole: tuple[Engine, Block], tmp_path: Path) -> None:
    head, block = engine_of(), stream(3000)
    run(head, block, 0, 740)
    snapshot.save(tmp_path / "model", *head.state())
    arrays, meta = snapshot.load(tmp_path / "model")
    assert meta["parts"]["plain"]["pending"] and len(arrays["plain/generation"])
    tail = engine_of()
    tail.restore(arrays, meta)
    run(tail, block, 740)
    assert fingerprint(tail, block) == fingerprint(*whole)


def test_leaves_are_hashed_anew_in_each_generation() -> None:
    engine = engine_of(members=("plain",), schedule=lambda: At(200, 400))
    block = run(engine, stream(900, unknown=0.0))
    index, value = block.dense["l"]
    assert [e["accepted"] for e in logs(engine, "plain")] == [True, True]
    assert not index[:300].any() and not value[:300].any()
    assert (value[300:] == 1).all()
    first, second = (set(index[a:b].ravel().tolist()) for a, b in [(300, 500), (500, 900)])
    assert len(first & second) <= 2 and 8 < len(first) <= 8 * SMALL.rounds


def test_kernels_and_twins_agree() -> None:
    rng = np.random.default_rng(5)
    block = stream(60)
    tape = immediate_tape(block.label)
    scores = (rng.normal(size=(60, 2)) * 10).astype(F)
    scores[::7, 0] = np.nan
    for source in (-1, 0, 1):
        answers = []
        for function in KERNELS["onlinestack.trees.serving.serve"]:
            own, rate = scores.copy(), np.array([1.0, 3.0])
            function(tape.op, tape.row, block.label, block.weight, own, 1, source, rate)
            answers.append([own.tobytes(), rate.tobytes()])
        assert answers[0] == answers[1]
    answers = []
    for function in KERNELS["onlinestack.trees.serving.mark_leaves"]:
        index, value = np.full((60, 4), 9, np.uint32), np.full((60, 4), 9, F)
        function(tape.op[1:], tape.row[1:], index, value, 3)
        assert index[0].tolist() == [9] * 4 or tape.row[1] == 0
        assert (index[1:] == [9, 9, 9, 0]).all() and (value[1:] == [1, 1, 1, 0]).all()
        answers.append([index.tobytes(), value.tobytes()])
    assert answers[0] == answers[1]
