from __future__ import annotations

import json
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from onlinestack import writers
from onlinestack.cli import app
from onlinestack.config import ConfigError
from onlinestack.terminal import QuietReport
from onlinestack.writers import Tracked, open_writer

CLICKS = Path(__file__).parents[1] / "streams" / "clicks.parquet"
LEARN = ["learn", str(CLICKS), "--label", "click", "--preset", "linear", "--limit", "4096"]
CHECKPOINT = {
    "records": 8,
    "log_loss": 0.5,
    "auc": None,
    "best": "trees",
    "weights": {"trees": 0.25, "f 2": 0.75},
}
GENERATION = {
    "event": "generation",
    "member": "trees",
    "number": 2,
    "cut": 1000,
    "active_from": 1256,
    "rounds": 60,
    "accepted": True,
}


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the scalars of event files, whose records are framed by lengths and checksums."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            at += size + 16
    return found


def test_tensorboard_gets_every_checkpoint_as_a_point_of_a_curve(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    told = f"tensorboard:{tmp_path / 'runs'}"
    result = CliRunner().invoke(app, [*LEARN, "--json", "--track", told])
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    points = {e["records"]: e["log_loss"] for e in events if e["event"] == "checkpoint"}
    found = curves(tmp_path / "runs")
    assert dict(found["log_loss"]) == pytest.approx(points, abs=1e-6)
    assert len(points) == 13 and 4096 in points
    constant = events[-1]["experts"]["constant"]["log_loss"]
    assert found["expert_log_loss/constant"][-1] == (4096, pytest.approx(constant))
    assert "auc" in found and "kind" not in found


def test_prometheus_reads_gauges_on_loopback() -> None:
    pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
    port = free_port()
    tracked = Tracked(QuietReport(), {"p": open_writer(f"prometheus:{port}")})
    try:
        tracked.checkpoint(CHECKPOINT)
        tracked.generation(GENERATION)
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    finally:
        tracked.end()
    lines = page.splitlines()
    assert "onlinestack_log_loss 0.5" in lines and "onlinestack_records 8.0" in lines
    assert 'onlinestack_weight{of="f 2"} 0.75' in lines
    assert 'onlinestack_generation_rounds{of="trees"} 60.0' in lines
    assert "auc" not in page and "best" not in page
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics")


def test_prometheus_serves_while_a_run_goes_on_and_stops_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
    port, pages = free_port(), list[str]()
    monkeypatch.setattr(writers, "EVERY", 0.0)
    tick = Tracked.tick

    def looked(self: Tracked, run: Any) -> None:
        tick(self, run)
        pages.append(urllib.request.urlopen(f"http://127.0.0.1:{port}").read().decode())

    monkeypatch.setattr(Tracked, "tick", looked)
    result = CliRunner().invoke(app, [*LEARN, "--quiet", "--track", f"prometheus:{port}"])
    assert result.exit_code == 0, result.output
    assert pages and all("onlinestack_log_loss 0." in page for page in pages)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


def test_mlflow_gets_metrics_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    tracked = Tracked(QuietReport(), {"m": open_writer("mlflow:clicks")})
    tracked.checkpoint(CHECKPOINT)
    tracked.end()
    runs = mlflow.MlflowClient(f"file:{tmp_path}")
    experiment = runs.get_experiment_by_name("clicks")
    (run,) = runs.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {
        "records": 8.0,
        "log_loss": 0.5,
        "weight/trees": 0.25,
        "weight/f 2": 0.75,
    }
    (point,) = runs.get_metric_history(run.info.run_id, "log_loss")
    assert point.step == 8


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("tensorbord:x", "did you mean 'tensorboard'"),
        ("prometheus", "give tensorboard:DIR"),
        ("prometheus:nowhere", "has no port"),
        ("prometheus:99999", "has no port"),
    ],
)
def test_what_is_no_tracker_is_told_in_a_sentence(told: str, words: str) -> None:
    if words == "has no port":
        pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
    with pytest.raises(ConfigError, match=words):
        open_writer(told)
    result = CliRunner().invoke(app, [*LEARN, "--track", told])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"onlinestack: --track {told}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "module"),
    [("tensorboard", "tensorboardX"), ("mlflow", "mlflow"), ("prometheus", "prometheus_client")],
)
def test_a_library_that_is_not_there_is_named_with_the_command_that_brings_it(
    kind: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"pip install 'onlinestack\[{kind}\]'"):
        open_writer(f"{kind}:9100")


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        told = f"prometheus:{held.getsockname()[1]}"
        result = CliRunner().invoke(app, [*LEARN, "--track", told])
    assert result.exit_code == 1
    assert result.stderr == f"onlinestack: --track {told}: address already in use\n"


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on() -> None:
    notes, seen = list[str](), list[int]()

    class Report(QuietReport):
        def note(self, text: str) -> None:
            notes.append(text)

        def checkpoint(self, scores: Any) -> None:
            seen.append(scores["records"])

    class Broken:
        def write(self, step: int, values: Any) -> None:
            raise RuntimeError("disk\nfull")

        def close(self) -> None:
            raise AssertionError("closed though it failed")

    tracked = Tracked(Report(), {"broken:x": Broken()})
    tracked.checkpoint(CHECKPOINT)
    tracked.checkpoint(CHECKPOINT)
    tracked.end()
    assert notes == ["--track broken:x is left out from here on: disk full"]
    assert seen == [8, 8]
