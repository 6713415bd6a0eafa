from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from html.parser import HTMLParser

import pytest

from onlinestack.report.charts import stream_charts
from onlinestack.report.history import History, ReportError, read_history
from onlinestack.report.page import page, update
from onlinestack.report.parts import part_charts
from onlinestack.report.recorder import Recorder
from onlinestack.report.words import trust
from onlinestack.terminal import QuietReport
from tests.report.conftest import CLICKS, call

SECTIONS = {
    *("loss", "weights", "generations", "reliability", "calibration", "click-rate", "speed"),
    *("slice-0", "slice-1", "hours", "weekdays", "gains", "importance", "league"),
}


class Ids(HTMLParser):
    """Collects the ids of sections, and complains about tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.sections, self.open = [], []
        self.feed(re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)
        if tag == "section":
            self.sections.append(dict(attributes).get("id"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def history_of(*options):
    result = call("learn", CLICKS, "--json", "--preset", "linear", "--limit", 700, *options)
    assert result.exit_code == 0, result.stderr
    history = History()
    for line in result.stdout.splitlines():
        history.add(json.loads(line))
    return history


def test_the_page_of_a_file_is_that_of_the_run_itself(folder):
    result = call("report", folder / "run.jsonl", "-o", folder / "made.html")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    made = (folder / "made.html").read_text()
    assert made == (folder / "learned.html").read_text()
    assert set(Ids(made).sections) >= SECTIONS
    for sentence in ("The run is finished", "Which part earned its keep?", "clicks.parquet"):
        assert sentence in made
    outside = made.replace(made[made.index("plotly.js v") : made.index("const LIVE")], "")
    assert not re.search(r"(src|href)=\"?(https?:)?//", outside)


def test_plotly_knows_every_property_of_every_chart(folder):
    from plotly.graph_objects import Figure

    history, _ = read_history(str(folder / "run.jsonl"))
    for chart in [*stream_charts(history), *part_charts(history)]:
        for view in chart.views:
            traces = json.loads(json.dumps(view.traces).replace('"ink"', '"black"'))
            assert len(Figure(data=traces, layout=view.layout).data) == len(traces)
            assert all(len(row) == len(chart.head) for row in chart.rows)


def test_names_from_the_log_are_text_and_nothing_else(folder):
    history, _ = read_history(str(folder / "run.jsonl"))
    evil = "</script><img src=x onerror=alert(1)>"
    history.start["sources"] = [evil]
    history.details["slices"][evil] = [{**history.details["slices"]["site"][0], "value": evil}]
    made = page(history)
    assert "<img" not in made.replace(
        made[made.index("plotly.js v") : made.index("const LIVE")], ""
    )
    assert evil not in made


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        (("--label", "click", "--ignore", "id"), {"loss", "reliability", "speed"}, {"weights"}),
        (
            ("--label", "price", "--loss", "squared", "--slice-by", "device"),
            {"loss", "speed", "slice-0", "importance"},
            {"reliability", "calibration", "weights"},
        ),
        (
            ("--label", "device", "--oaa", "8", "--slice-by", "os", "--time", "time"),
            {"loss", "speed", "slice-0", "hours", "importance"},
            {"reliability", "click-rate"},
        ),
    ],
)
def test_pages_of_other_learners_show_what_applies(options, there, absent):
    history = history_of(*options)
    sections = set(Ids(page(history)).sections)
    assert there <= sections
    assert not absent & sections
    assert "NaN" not in json.dumps(update(history)["charts"])


def test_a_model_that_only_predicts_has_a_page(tmp_path):
    learn = ("learn", CLICKS, "--label", "click", "--ignore", "id", "--preset", "linear", "--quiet")
    assert call(*learn, "--limit", 500, "-f", tmp_path / "m").exit_code == 0
    made = tmp_path / "r.html"
    predict = ("predict", CLICKS, "-i", tmp_path / "m", "--limit", 500, "--quiet")
    assert call(*predict, "--report", made, "--slice-by", "site").exit_code == 0
    text = made.read_text()
    assert "Predicted, not learned" in text
    assert set(Ids(text).sections) >= {"loss", "reliability", "slice-0"}


def test_rejects_are_told_by_reason(tmp_path):
    path = tmp_path / "clicks.csv"
    rows = [f"{i % 2},s{i % 3}" if i % 5 else f"x{i},s" for i in range(100)]
    path.write_text("\n".join(["click,site", *rows, "1,a,b", ""]))
    made = tmp_path / "r.html"
    options = ("--label", "click", "--preset", "linear", "--quiet")
    assert call("learn", path, *options, "--report", made).exit_code == 0
    text = made.read_text()
    assert "label … is neither" in text
    assert "3 fields, expected 2" in text
    assert "21 rejected" in text


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--slice-by", "sitee"), 2, "--slice-by sitee: the records have no field of that name"),
        (("--report", "/nowhere/r.html"), 1, "--report /nowhere/r.html: the folder /nowhere does"),
        (("--report", CLICKS), 2, "would overwrite a source"),
    ],
)
def test_what_can_not_be_told_is_refused_at_once(options, code, sentence):
    result = call("learn", CLICKS, "--label", "click", "--preset", "linear", *options)
    assert result.exit_code == code
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_the_libraries_a_sentence_says_how_to_get_them(folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    for command in (
        ("report", folder / "run.jsonl", "-o", folder / "x.html"),
        ("learn", CLICKS, "--label", "click", "--report", folder / "x.html"),
    ):
        result = call(*command)
        assert result.exit_code == 2
        assert "pip install 'onlinestack[report]'" in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (folder / "x.html").exists()


def test_trust_is_not_given_away():
    point = {"calibration": [1.0], "click_rate": 0.1, "weight": 10_000.0, "records": 10_000}
    group = {"low": 0.09, "high": 0.11, "weight": 5000.0, "predicted": 0.1, "observed": 0.1}

    def said(ratio, observed):
        history = History()
        history.start = {"task": "click", "names": ["a"], "kinds": ["member"]}
        history.points = [point | {"calibration": [ratio]}]
        history.details = {"reliability": [group | {"observed": o} for o in observed]}
        return trust(history).split(":")[0]

    assert said(1.0, (0.1, 0.1)) == "Yes"
    assert said(1.0, (0.05, 0.15)) == "Mostly"
    assert said(1.12, (0.1, 0.1)) == "Mostly"
    assert said(1.5, (0.1, 0.1)) == "No"


# The dashboard.


def ask(address, **headers):
    with urllib.request.urlopen(
        urllib.request.Request(address, headers=headers), timeout=10
    ) as got:
        return got.status, got.headers, got.read()


def test_the_dashboard_shows_what_the_run_told_so_far(lines):
    from onlinestack.report.dashboard import Dashboard

    recorder = Recorder(QuietReport())
    with Dashboard(recorder, 0) as dashboard:
        assert dashboard.address.startswith("http://127.0.0.1:")
        status, _, content = ask(dashboard.address)
        assert status == 200
        assert b"const LIVE = true" in content
        assert json.loads(ask(dashboard.address + "news.json")[2]) == {}
        events = [json.loads(line) for line in lines]
        for event in events[: len(events) // 2]:
            recorder.detail(event)
        _, headers, content = ask(dashboard.address + "news.json")
        news = json.loads(content)
        assert not news["finished"]
        assert "under way" in news["content"]
        assert "loss" in news["charts"]
        with pytest.raises(urllib.error.HTTPError, match="304"):
            ask(dashboard.address + "news.json", **{"If-None-Match": headers["ETag"]})
        recorder.detail(events[-1])
        assert json.loads(ask(dashboard.address + "news.json")[2])["finished"]
        for path, more in (("../etc/passwd", {}), ("", {"Host": "evil.example"})):
            with pytest.raises(urllib.error.HTTPError, match="404|403"):
                ask(dashboard.address + path, **more)
        with pytest.raises(urllib.error.HTTPError, match="501"):
            urllib.request.urlopen(dashboard.address, data=b"x", timeout=10)
        with pytest.raises(ReportError, match="can not use port"):
            Dashboard(recorder, int(dashboard.address.rsplit(":")[-1].strip("/")))
    with pytest.raises(urllib.error.URLError):
        ask(dashboard.address)


def test_learn_serves_the_dashboard_and_stops_it_with_the_run(monkeypatch):
    seen = {}

    def during(notes):
        address = re.search(r"http://\S+", notes)[0]
        while "news" not in seen and time.monotonic() < seen["end"]:
            answer = ask(address + "news.json")[2]
            if answer != b"{}":
                seen["news"] = json.loads(answer)

    from onlinestack import terminal

    note = terminal.QuietReport.note

    def listen(self, text):
        if "dashboard" in text:
            seen["end"] = time.monotonic() + 60
            seen["thread"] = threading.Thread(target=during, args=(text,))
            seen["thread"].start()
        return note(self, text)

    def checkpoint(self, scores):
        if scores["records"] == 512:
            seen["thread"].join()

    monkeypatch.setattr(terminal.QuietReport, "note", listen)
    monkeypatch.setattr(terminal.QuietReport, "checkpoint", checkpoint)
    result = call(
        *("learn", CLICKS, "--label", "click", "--ignore", "id", "--preset", "linear", "--quiet"),
        *("--limit", 1000, "--dashboard", "--port", 0),
    )
    assert result.exit_code == 0, result.stderr
    assert "loss" in seen["news"]["charts"]


def test_a_busy_port_is_a_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = call("learn", CLICKS, "--label", "click", "--dashboard", "--port", port)
    assert result.exit_code == 2
    assert result.stderr == (
        f"onlinestack: the dashboard can not use port {port} (address already in use): give "
        "another with --port, or 0 for any free one\n"
    )
