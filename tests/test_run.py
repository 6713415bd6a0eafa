from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import onlinestack.opening as opening
from onlinestack import snapshot
from onlinestack.config import Config, ConfigError
from onlinestack.io.schema import SchemaError
from onlinestack.run import BadRowsError, Run
from onlinestack.snapshot import SnapshotError

TIMES = {"seconds", "records_per_second"}


class Listener:
    """A report that keeps what it hears."""

    live = False

    def __init__(self):
        self.checkpoints, self.notes, self.result, self.ended = [], [], None, False
        self.generations, self.details = [], []

    def tick(self, run):
        pass

    def checkpoint(self, scores):
        self.checkpoints.append(dict(scores))

    def detail(self, event):
        self.details.append(dict(event))

    def generation(self, event):
        self.generations.append({k: v for k, v in event.items() if k != "seconds"})

    def summary(self, scores):
        self.result = dict(scores)

    def note(self, text):
        if not text.startswith("compiling"):
            self.notes.append(text)

    def end(self):
        self.ended = True


def go(*paths, learning=True, file=None, **options):
    """Run with the linear learner, unless a file or a model says what with."""
    if learning:
        options = {"label": "click", "bits": 10, **options}
        if file is None and not (options.get("load") or options.get("resume")):
            options = {"preset": "linear", **options}
    if paths:
        options["paths"] = [str(path) for path in paths]
    options = {k: str(v) if isinstance(v, Path) else v for k, v in options.items()}
    config = Config.resolve(options, file=file and str(file))
    listener = Listener()
    code = Run(config, listener, learning=learning).go()
    assert listener.ended
    return code, listener


def untimed(scores):
    return {key: value for key, value in scores.items() if key not in TIMES}


def lines(n, seed=0, *, bad=0.05, unknown=0.05):
    """Make a click log: some lines are malformed, some labels are not known."""
    draw = random.Random(seed)
    yield "click,name,site,price,words"
    for i in range(n):
        site, price = draw.randrange(9), draw.random()
        label = "" if draw.random() < unknown else str(int(draw.random() < (site + price) / 10))
        more = ",too,many" if draw.random() < bad else ""
        yield f"{label},r{i},s{site},{price:.4f},a b{site}{more}"


def write(path, n=300, seed=0, **more):
    path.write_text("\n".join(lines(n, seed, **more)) + "\n")
    return path


@pytest.fixture
def clicks(tmp_path):
    return write(tmp_path / "clicks.csv")


def test_nothing_is_lost(clicks, tmp_path):
    code, heard = go(clicks, rejects=tmp_path / "bad.jsonl", predictions=tmp_path / "p.csv")
    result = heard.result
    parts = ("learned", "predicted_only", "pending", "rejected")
    assert code == 0
    assert result["read"] == 300 == sum(result[part] for part in parts)
    assert min(result["learned"], result["predicted_only"], result["rejected"]) > 0
    bad = (tmp_path / "bad.jsonl").read_text().splitlines()
    assert len(bad) == result["rejected"]
    assert all(json.loads(line)["reason"] for line in bad)
    rows = [int(line.split(",")[0]) for line in (tmp_path / "p.csv").read_text().splitlines()[1:]]
    assert sorted(rows + [json.loads(line)["row"] for line in bad]) == list(range(300))


def test_the_summary_names_every_expert(clicks):
    _, heard = go(clicks)
    experts = heard.result["experts"]
    assert list(experts) == ["linear", "constant", "last label"]
    assert experts["linear"]["kind"] == "member"
    assert experts["constant"]["kind"] == "baseline"
    assert heard.result["log_loss"] == experts["linear"]["log_loss"]
    assert experts["linear"]["log_loss"] < experts["constant"]["log_loss"]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_size_of_batches_shows_nowhere(clicks, tmp_path, monkeypatch, size):
    def outcome(name):
        code, heard = go(
            clicks, save=tmp_path / f"{name}.model", predictions=tmp_path / "p.csv", id="name"
        )
        assert code == 0
        return (
            [untimed(c) for c in heard.checkpoints],
            untimed(heard.result),
            (tmp_path / "p.csv").read_bytes(),
            {k: a.tobytes() for k, a in snapshot.load(tmp_path / f"{name}.model")[0].items()},
        )

    whole = outcome("whole")
    assert [c["records"] for c in whole[0]] == [1 << k for k in range(9)]
    smaller = functools.partial(opening.open_source, batch_size=size)
    monkeypatch.setattr(opening, "open_source", smaller)
    assert outcome("small") == whole


@pytest.mark.parametrize("sink", ["p.csv", "p.jsonl"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_resumed_run_equals_the_unbroken_one(tmp_path, monkeypatch, seed, sink):
    files = [write(tmp_path / "a.csv", 150, 1), write(tmp_path / "b.csv", 150, 2)]
    options = {"predictions": sink, "rejects": "bad.jsonl", "save": "model"}
    outputs = [sink, "bad.jsonl", "model"]
    for name in ("unbroken", "broken"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "unbroken")
    _, unbroken = go(*files, **options)
    expected = {name: Path(name).read_bytes() for name in outputs}

    monkeypatch.chdir(tmp_path / "broken")
    stops = sorted(random.Random(seed).sample(range(1, 300), 3))
    _, heard = go(*files, **options, limit=stops[0])
    assert heard.result["read"] == stops[0]
    checkpoints = heard.checkpoints
    for stop in [*stops[1:], None]:
        # What was written behind the snapshot must go: as after a crash.
        with Path(sink).open("a") as file:
            file.write("half a li")
        _, heard = go(resume="model", limit=stop, label=None, bits=None)
        checkpoints += heard.checkpoints
    assert {name: Path(name).read_bytes() for name in outputs} == expected
    assert untimed(heard.result) == untimed(unbroken.result)
    assert [untimed(c) for c in checkpoints] == [untimed(c) for c in unbroken.checkpoints]


STACK = """
[learner]
bits = 10
[stack]
train_first = 60
train_every = 80
train_lag = 30
window_rows = 150
half_lives = [8.0, inf]
random_bits = 128
combiners = "all"

[[member]]
name = "fields"
[[member]]
name = "trees"
kind = "trees"
rounds = 6
depth = 3
min_child_weight = 1.0
leaves = true
[[member]]
name = "trees on fields"
kind = "trees"
rounds = 6
depth = 3
base = "fields"
[[member]]
name = "leaves"
reads = "fl"
[[member]]
name = "bits"
kind = "bits"
[[member]]
name = "pairs"
kind = "factorisation"
[[stacker]]
name = "scores"
reads = "s"
interactions = ["fs"]
constant = false
"""
"""Every kind of expert, small enough for tests."""


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "stack.toml"
    path.write_text(STACK)
    return path


@pytest.mark.parametrize("name", ["clicks.csv", "x.vw"])
def test_a_resumed_stack_equals_the_unbroken_one(tmp_path, monkeypatch, stack, name):
    """Three stops, some of them while trees are trained: the swap comes at the same record."""
    log = write(tmp_path / name) if name == "clicks.csv" else write_as(tmp_path / name, 300)
    options = {"bits": None, "file": stack, "predictions": "p.csv", "save": "model"}
    if name == "x.vw":
        options["label"] = None
    for folder in ("unbroken", "broken"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "unbroken")
    _, unbroken = go(log, **options)
    expected = {file: Path(file).read_bytes() for file in ("p.csv", "model")}
    assert len(unbroken.generations) >= 4
    assert unbroken.result["generations"] >= 1
    monkeypatch.chdir(tmp_path / "broken")
    _, heard = go(log, **options, limit=75)
    checkpoints, generations = heard.checkpoints, heard.generations
    pending = 0
    for stop in (105, 180, None):
        parts = snapshot.load("model")[1]["learner"]["engine"]["parts"]
        trees = [part for key, part in parts.items() if key.startswith("score:trees")]
        pending += all(part["pending"] is not None for part in trees)
        _, heard = go(resume="model", limit=stop, label=None, bits=None)
        checkpoints += heard.checkpoints
        generations += heard.generations
    assert {file: Path(file).read_bytes() for file in expected} == expected
    assert pending >= 2, "no stop was in the middle of a training"
    assert generations == unbroken.generations
    assert [untimed(c) for c in checkpoints] == [untimed(c) for c in unbroken.checkpoints]
    assert untimed(heard.result) == untimed(unbroken.result)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_size_of_batches_shows_nowhere_in_a_stack(clicks, tmp_path, monkeypatch, stack, size):
    def outcome():
        options = {"bits": None, "file": stack, "predictions": tmp_path / "p.csv"}
        _, heard = go(clicks, save=tmp_path / "m", **options)
        return (
            [untimed(c) for c in heard.checkpoints],
            heard.generations,
            untimed(heard.result),
            (tmp_path / "p.csv").read_bytes(),
            (tmp_path / "m").read_bytes(),
        )

    whole = outcome()
    smaller = functools.partial(opening.open_source, batch_size=size)
    monkeypatch.setattr(opening, "open_source", smaller)
    assert outcome() == whole


def test_a_stack_made_in_python_goes_on_in_a_run(clicks, tmp_path, stack):
    from onlinestack import OnlineStacker, load, open_source, save

    source = open_source(clicks, label="click")
    model = OnlineStacker(members=({"name": "only", "learning_rate": 2.0},), bits=10)
    model.start(source.schema)
    for batch in source:
        model.progress(batch)
    save(model, tmp_path / "m")
    _, heard = go(clicks, load=tmp_path / "m")
    assert list(heard.result["experts"])[:2] == ["only", "newton 30000"]
    go(clicks, load=tmp_path / "m", save=tmp_path / "n")
    assert load(tmp_path / "n").learned == 2 * model.learned
    stack.write_text('[[member]]\nname = "two"\n')
    with pytest.raises(SnapshotError, match="made with the members only, not two: leave out mem"):
        go(clicks, load=tmp_path / "m", file=stack)


def write_as(path, n=400):
    """Write a log in the format that the suffix names."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    draw = random.Random(7)
    site = [f"s{draw.randrange(9)}" for _ in range(n)]
    price = [None if draw.random() < 0.1 else draw.random() for _ in range(n)]
    click = [None if draw.random() < 0.1 else draw.randrange(2) for _ in range(n)]
    table = pa.table({"click": click, "site": site, "price": price})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=150)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=130)
    elif path.name.endswith(".csv.gz"):
        with pa.CompressedOutputStream(str(path), "gzip") as file:
            pyarrow.csv.write_csv(table, file)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        rows = zip(click, site, price, strict=True)
        labels = {None: "", 0: "-1", 1: "1"}
        path.write_text("".join(f"{labels[y]} |f {a} p:{b or 0}\n" for y, a, b in rows))
    return path


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.csv.gz", "x.jsonl", "x.vw"])
def test_every_format_can_be_resumed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    options = {"label": None} if name == "x.vw" else {}
    path = write_as(tmp_path / name)
    _, whole = go(path, predictions="p.csv", save="m", **options)
    expected = [Path(file).read_bytes() for file in ("p.csv", "m")]
    stops = sorted(random.Random(name).sample(range(1, 400), 4))
    go(path, predictions="p.csv", save="m", limit=stops[0], **options)
    for stop in [*stops[1:], None]:
        _, heard = go(resume="m", limit=stop, label=None, bits=None)
    assert untimed(heard.result) == untimed(whole.result)
    assert [Path(file).read_bytes() for file in ("p.csv", "m")] == expected


def test_parquet_predictions_go_on_in_numbered_parts(clicks, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    go(clicks, predictions=tmp_path / "all.parquet")
    go(clicks, predictions=tmp_path / "p.parquet", save=tmp_path / "m", limit=100)
    go(resume=tmp_path / "m", label=None, bits=None)
    parts = [pq.read_table(tmp_path / name) for name in ("p.parquet", "p-1.parquet")]
    whole = pq.read_table(tmp_path / "all.parquet")
    assert pa.concat_tables(parts).to_pylist() == whole.to_pylist()


def test_sources_may_follow_and_grow_but_not_change(tmp_path):
    a, b = write(tmp_path / "a.csv", 100), write(tmp_path / "b.csv", 100, 1)
    model = tmp_path / "m"
    go(a, save=model)
    text = a.read_text()
    a.write_text(text + "1,x,s1,0.5,a\n")
    code, heard = go(a, b, resume=model)
    assert (code, heard.result["read"]) == (0, 201)

    go(a, save=model)
    a.write_text(text[:-200])
    with pytest.raises(SnapshotError, match="a.csv"):
        go(a, resume=model)
    a.write_text(text.replace("s1", "s2", 3) + text)
    with pytest.raises(SnapshotError, match="a.csv"):
        go(a, resume=model)
    with pytest.raises(SnapshotError, match="-i"):
        go(b, resume=model)
    a.unlink()
    with pytest.raises((SnapshotError, FileNotFoundError), match="a.csv"):
        go(resume=model, label=None, bits=None)


def test_a_loaded_model_goes_on_with_other_records(tmp_path):
    a, b = write(tmp_path / "a.csv", 200), write(tmp_path / "b.csv", 200, 1)
    go(a, save=tmp_path / "m")
    code, heard = go(b, load=tmp_path / "m", save=tmp_path / "n", label=None, bits=None)
    assert code == 0
    assert heard.result["read"] == 200
    _, both = go(a, b, save=tmp_path / "both")
    first, second = (snapshot.load(tmp_path / name)[0] for name in ("n", "both"))
    engine = {name for name in first if name.startswith("engine")}
    assert engine
    assert all(first[name].tobytes() == second[name].tobytes() for name in engine)
    _, cold = go(b)
    assert heard.result["log_loss"] < cold.result["log_loss"]


def test_a_model_that_does_not_fit_is_refused(clicks, tmp_path):
    model = tmp_path / "m"
    go(clicks, save=model)
    other = tmp_path / "other.csv"
    other.write_text(clicks.read_text().replace("price", "cost"))
    with pytest.raises((SnapshotError, SchemaError), match="price"):
        go(other, load=model)
    for wrong, word in (
        ({"bits": 12}, "bits 10"),
        ({"label": "name"}, "label"),
        ({"numeric": ["site"]}, "site"),
        ({"ignore": ["price"]}, "price"),
    ):
        with pytest.raises(SnapshotError, match=word):
            go(clicks, load=model, **wrong)
    with pytest.raises(ConfigError):
        go(clicks, load=model, resume=model)
    snapshot.save(tmp_path / "foreign", {}, {"x": 1})
    with pytest.raises(SnapshotError, match="foreign"):
        go(clicks, load=tmp_path / "foreign")


def test_predict_learns_nothing_and_scores_labels(clicks, tmp_path):
    go(clicks, save=tmp_path / "m")
    before = (tmp_path / "m").read_bytes()
    code, heard = go(clicks, learning=False, load=tmp_path / "m", predictions=tmp_path / "p.csv")
    result = heard.result
    assert (code, result["learned"]) == (0, 0)
    assert result["read"] == 300 == result["predicted_only"] + result["rejected"]
    assert 0 < result["log_loss"] < result["experts"]["constant"]["log_loss"]
    assert (tmp_path / "m").read_bytes() == before
    again, _ = go(clicks, learning=False, load=tmp_path / "m", predictions=tmp_path / "q.csv")
    assert (tmp_path / "q.csv").read_bytes() == (tmp_path / "p.csv").read_bytes()


def test_predict_needs_no_label_column(tmp_path):
    clicks = write(tmp_path / "a.csv", 50, bad=0, unknown=0)
    go(clicks, save=tmp_path / "m")
    bare = tmp_path / "bare.csv"
    bare.write_text(
        "".join(f"{line.split(',', 1)[1]}\n" for line in clicks.read_text().splitlines())
    )
    for file, name in ((bare, "p.csv"), (clicks, "q.csv")):
        go(file, learning=False, load=tmp_path / "m", predictions=tmp_path / name)
    p, q = ((tmp_path / name).read_text().splitlines()[1:] for name in ("p.csv", "q.csv"))
    assert [line.split(",")[-1] for line in p] == [line.split(",")[-1] for line in q]


def test_too_many_bad_rows_stop_the_run(clicks, tmp_path):
    with pytest.raises(BadRowsError, match="3 of .* --max-bad-rows allows 2"):
        go(clicks, max_bad_rows=2, rejects=tmp_path / "bad", save=tmp_path / "m")
    assert len((tmp_path / "bad").read_text().splitlines()) == 3
    assert not (tmp_path / "m").exists()
    assert go(clicks, max_bad_rows=300)[0] == 0


def test_rejects_without_a_file_are_told(clicks):
    _, heard = go(clicks)
    assert len(heard.notes) == 4
    assert all("clicks.csv, record " in note for note in heard.notes[:3])
    assert "--rejects" in heard.notes[3]


def test_outputs_may_not_overwrite_a_source_or_each_other(clicks, tmp_path):
    before = clicks.read_bytes()
    for options in (
        {"predictions": clicks},
        {"save": clicks},
        {"rejects": tmp_path / "x.csv", "predictions": tmp_path / "x.csv"},
    ):
        with pytest.raises(ConfigError, match="would overwrite"):
            go(clicks, **options)
    assert clicks.read_bytes() == before


@pytest.mark.parametrize("limits", [(None,), (3, None), (1, 2, 5, None)])
def test_times_out_of_order_are_counted(tmp_path, limits):
    path = tmp_path / "x.csv"
    times = [10, 12, 11, "", 12, 13, 5, 14]
    path.write_text("click,t\n" + "".join(f"{i % 2},{t}\n" for i, t in enumerate(times)))
    for i, limit in enumerate(limits):
        resume = tmp_path / "m" if i else None
        _, heard = go(path, time="t", limit=limit, save=tmp_path / "m", resume=resume)
    assert heard.result["out_of_order"] == 2


def test_a_model_saved_in_python_can_be_loaded_but_not_resumed(clicks, tmp_path):
    from onlinestack import LinearLearner, open_source, save

    source = open_source(clicks, label="click")
    model = LinearLearner(bits=10)
    model.start(source.schema)
    for batch in source:
        model.progress(batch)
    save(model, tmp_path / "m")
    assert go(clicks, load=tmp_path / "m")[0] == 0
    with pytest.raises(SnapshotError, match="no run saved"):
        go(clicks, resume=tmp_path / "m")


@pytest.mark.parametrize("limit", [0, 1, 77, 300, 1000])
def test_a_limit_is_exact(clicks, limit):
    code, heard = go(clicks, limit=limit)
    assert (code, heard.result["read"]) == (0, min(limit, 300))


@pytest.mark.parametrize("text", ["", "click,site\n", "click,site\n1,a\n"])
def test_next_to_no_records(tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(text)
    try:
        code, heard = go(path, save=tmp_path / "m")
    except SchemaError:
        assert not text
        return
    assert (code, heard.result["read"]) == (0, max(0, text.count("\n") - 1))
    assert (tmp_path / "m").exists()


def test_labels_must_be_named_and_settings_in_range(clicks):
    with pytest.raises(SchemaError, match="price"):
        go(clicks, label=None)
    with pytest.raises(SchemaError, match="click"):
        go(clicks, label="clik")
    for wrong in ({"bits": 99}, {"loss": "logstic"}, {"predictions": "p.xls"}):
        with pytest.raises(ConfigError):
            go(clicks, **wrong)
    with pytest.raises(ConfigError, match="bits is out of range: 99"):
        go(clicks, preset="stack", bits=99)


# Real processes: signals, pipes, crashes.

PROGRAM = [sys.executable, "-c", "from onlinestack.cli import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def start(*arguments, **more):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A shell that runs the tests in the background has them, and what they start, ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [*PROGRAM, *map(str, arguments)], env=ENVIRONMENT, text=True, **{**pipes, **more}
        )
    finally:
        signal.signal(signal.SIGINT, before)


def finish(process):
    process.communicate(timeout=120)
    return process.returncode


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "code", "more"),
    [(signal.SIGTERM, 143, ("--preset", "linear")), (signal.SIGINT, 130, ())],
    ids=["term", "int of a stack"],
)
def test_a_signal_stops_a_waiting_pipe_and_saves(tmp_path, number, code, more):
    model = tmp_path / "m"
    options = ("--format", "csv", "--label", "click", "-p", "-", "-f", model, "--quiet")
    process = start("learn", "-", *options, *more)
    with process:
        text = list(lines(20, bad=0))
        process.stdin.write("\n".join(text) + "\n")
        process.stdin.flush()
        # Each record is answered while the pipe stays open.
        answers = [process.stdout.readline() for _ in range(21)]
        assert answers[0] == "row,label,p\n"
        assert answers[20].startswith("19,")
        process.send_signal(number)
        assert process.wait(120) == code
        assert process.stderr.read() == ""
    assert snapshot.load(model)[1]["counts"]["read"] == 20


@pytest.mark.parametrize("preset", ["linear", "stack"])
def test_a_killed_run_leaves_a_whole_snapshot_to_resume(tmp_path, stack, preset):
    clicks = write(tmp_path / "a.csv", 3000 if preset == "linear" else 600)
    options = ("--label", "click", "--quiet", "-p", "p.csv", "--rejects", "bad.jsonl")
    options += ("-b", "12", "--preset", "linear") if preset == "linear" else ("--config", stack)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    here = tmp_path / "whole"
    assert finish(start("learn", clicks, *options, "-f", "m", cwd=here)) == 0
    there = tmp_path / "killed"
    source = (clicks,)
    reached = 0
    for seed in range(3 if preset == "linear" else 2):
        process = start("learn", *source, *options, "-f", "m", "--save-every", 1, cwd=there)
        model, before = there / "m", time.monotonic()
        first = model.stat().st_mtime_ns if model.exists() else 0
        wait_for(lambda: model.exists() and model.stat().st_mtime_ns != first)  # noqa: B023
        time.sleep(random.Random(seed).uniform(0, 0.05))
        assert time.monotonic() > before
        process.kill()
        process.communicate()
        read = snapshot.load(model)[1]["counts"]["read"]
        assert read > reached
        reached, source = read, (clicks, "--resume", "m")
    assert finish(start("learn", "--resume", "m", "--quiet", cwd=there)) == 0
    for name in ("p.csv", "bad.jsonl", "m"):
        assert (there / name).read_bytes() == (here / name).read_bytes(), name


def test_a_pipe_that_is_sent_again_can_be_resumed(tmp_path):
    clicks = write(tmp_path / "a.csv", 200)
    options = ("--label", "click", "--quiet", "--rejects", "bad", "-p", "p.csv")
    options += ("--preset", "linear")
    outputs = []
    for limits in ([200], [77, 150, 200]):
        for i, limit in enumerate(limits):
            more = ("--resume", "m") if i else ("-", *options, "-f", "m")
            with clicks.open() as stdin:
                process = start("learn", *more, "--limit", limit, stdin=stdin, cwd=tmp_path)
                assert finish(process) == 0
        outputs.append([(tmp_path / name).read_bytes() for name in ("p.csv", "bad", "m")])
    assert outputs[0] == outputs[1]


def test_a_reader_that_leaves_ends_the_run_quietly(tmp_path):
    clicks = write(tmp_path / "a.csv", 20000, bad=0)
    options = ("--label", "click", "-p", "-", "--quiet", "--preset", "linear")
    process = start("learn", clicks, *options)
    with process:
        assert process.stdout.readline() == "row,label,p\n"
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


# ------------------------------------------------------------------------- numbers and classes


def tasks(path, n=300):
    """Write a log with a number and a class to predict."""
    draw = random.Random(5)
    rows = ["minutes,kind,size,site,price"]
    for i in range(n):
        site, price = draw.randrange(9), draw.random()
        minutes = "" if draw.random() < 0.05 else f"{3 * site + price:.2f}"
        kind = "" if draw.random() < 0.05 else f"kind {site % 3}" if i % 50 != 49 else f"odd {i}"
        rows.append(f"{minutes if i % 90 else 'many'},{kind},{site % 4},s{site},{price:.3f}")
    path.write_text("\n".join(rows) + "\n")
    return path


TASKS = {
    "numbers": {"label": "minutes", "loss": "squared", "ignore": ["kind", "size"]},
    "names": {"label": "kind", "oaa": 3, "ignore": ["minutes", "size"]},
    "whole": {"label": "size", "oaa": 3, "ignore": ["minutes", "kind"]},
    "ftrl": {"label": "size", "positive": "2", "update": "ftrl", "alpha": 0.1,
             "ignore": ["minutes", "kind"]},
}  # fmt: skip


@pytest.mark.parametrize("sink", ["p.csv", "p.jsonl"])
@pytest.mark.parametrize("task", TASKS)
def test_runs_of_other_tasks_resume_and_lose_nothing(tmp_path, monkeypatch, task, sink):
    log = tasks(tmp_path / "log.csv")
    options = {**TASKS[task], "predictions": sink, "rejects": "bad.jsonl", "save": "model"}
    outputs = [sink, "bad.jsonl", "model"]
    (tmp_path / "unbroken").mkdir()
    monkeypatch.chdir(tmp_path / "unbroken")
    _, unbroken = go(log, **options)
    result = unbroken.result
    expected = {name: Path(name).read_bytes() for name in outputs}
    assert (
        result["read"] == 300 == result["learned"] + result["predicted_only"] + result["rejected"]
    )
    assert len(Path("bad.jsonl").read_text().splitlines()) == result["rejected"]
    assert len(Path(sink).read_text().splitlines()) == 300 - result["rejected"] + (sink == "p.csv")
    (tmp_path / "broken").mkdir()
    monkeypatch.chdir(tmp_path / "broken")
    monkeypatch.setattr(
        opening, "open_source", functools.partial(opening.open_source, batch_size=7)
    )
    go(log, **options, limit=73)
    go(resume="model", limit=211, label=None, bits=None)
    _, heard = go(resume="model", label=None, bits=None)
    assert {name: Path(name).read_bytes() for name in outputs} == expected
    assert untimed(heard.result) == untimed(result)


def test_numbers_are_told_in_units_of_the_label(tmp_path):
    log = tasks(tmp_path / "log.csv")
    _, heard = go(log, **TASKS["numbers"], save=tmp_path / "m", predictions=tmp_path / "p.csv")
    result = heard.result
    assert set(result["experts"]["linear"]) == {"kind", "mae", "rmse", "label_mean", "weight"}
    assert 10 < result["label_mean"] < 15
    assert result["rejected"] == 4
    assert {"mae", "mae_since", "rmse", "rmse_since"} <= set(heard.checkpoints[-1])
    assert "log_loss" not in heard.checkpoints[-1]
    lines_ = (tmp_path / "p.csv").read_text().splitlines()
    assert lines_[0] == "row,label,prediction"
    errors = [abs(float(p) - float(y)) for _, y, p in (row.split(",") for row in lines_[1:]) if y]
    assert result["mae"] == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    _, again = go(log, learning=False, load=tmp_path / "m", bits=None)
    assert again.result["mae"] < result["mae"]
    assert again.result["learned"] == 0


def test_classes_are_told_by_name(tmp_path):
    log = tasks(tmp_path / "log.csv")
    _, heard = go(log, **TASKS["names"], save=tmp_path / "m", predictions=tmp_path / "p.jsonl")
    result = heard.result
    assert list(result["classes"]) and set(result["classes"]) == {"kind 0", "kind 1", "kind 2"}
    assert sum(result["classes"].values()) == pytest.approx(1)
    assert result["rejected"] == 6
    figures = {"kind", "log_loss", "accuracy", "normalized_entropy", "weight"}
    assert set(result["experts"]["constant"]) == figures
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert rows[0]["prediction"] is None and rows[-1]["prediction"] in result["classes"]
    known = [row for row in rows if row["label"] is not None]
    right = sum(row["label"] == row["prediction"] for row in known)
    assert result["accuracy"] == pytest.approx(right / len(known))
    _, again = go(log, learning=False, load=tmp_path / "m", bits=None)
    assert again.result["rejected"] == 6
    assert again.result["accuracy"] > result["accuracy"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"label": "minutes", "loss": "squared", "oaa": 3, "task": "regression"}, "no classes"),
        ({"label": "minutes", "task": "regression", "loss": "logistic"}, "yes and no"),
        ({"label": "kind", "oaa": 3, "positive": "kind 1"}, "leave positive out"),
        ({"label": "minutes", "alpha": 0.5}, "alpha=0.5 belongs to"),
    ],
)
def test_contradictions_are_refused(tmp_path, options, sentence):
    with pytest.raises((ConfigError, SchemaError), match=sentence):
        go(tasks(tmp_path / "log.csv"), **options)


def test_a_model_of_one_task_is_not_one_of_another(tmp_path):
    log = tasks(tmp_path / "log.csv")
    go(log, **TASKS["names"], save=tmp_path / "m")
    for more in ({"oaa": 4}, {"task": "regression"}, {"loss": "squared"}, {"update": "ftrl"}):
        with pytest.raises(SnapshotError, match="leave out|does not"):
            go(log, load=tmp_path / "m", label=None, bits=None, **more)
    go(log, load=tmp_path / "m", label=None, bits=None, loss="logistic", task="multiclass")


def test_vowpal_wabbit_text_of_other_tasks(tmp_path):
    path = tmp_path / "log.vw"
    path.write_text("".join(f"{1 + i % 3} |f s{i % 3} t{i % 5}\n" for i in range(90)) + "9 |f a\n")
    _, heard = go(path, oaa=3, label=None)
    assert heard.result["accuracy"] > 0.8
    assert heard.result["rejected"] == 1
    _, heard = go(path, loss="squared", label=None)
    assert heard.result["label_mean"] == pytest.approx((180 + 9) / 91)
