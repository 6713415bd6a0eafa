from __future__ import annotations

import json
import math

import numpy as np
import pytest

from onlinestack.report.curves import Curves, entropy
from onlinestack.report.history import History, ReportError, read_history
from onlinestack.report.watch import KEPT, is_point, next_point
from tests.report.conftest import CLICKS, call


def events(lines, kind):
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_points_are_evenly_spread_and_bounded():
    for resumed in (0, 777, 10**9):
        at, seen = resumed, []
        while at < resumed + 40_000:
            between, at = at + 1, next_point(at)
            assert is_point(at)
            assert not any(map(is_point, range(between, min(at, between + 1000))))
            seen.append(at)
        if not resumed:
            assert seen[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 384]
        assert at // (next_point(at) - at) <= KEPT
    history = History()
    history.add({"event": "start", "resumed_at": 0})
    at = 0
    for _ in range(3000):
        at = next_point(at)
        history.add({"event": "point", "records": at})
        assert len(history.points) <= KEPT
    records = [point["records"] for point in history.points]
    assert records[-1] == at
    assert len(records) >= KEPT // 2
    assert max(np.diff(records)) <= 2 * (next_point(at) - at)


def test_a_run_tells_points_details_and_a_start(lines):
    (start,) = events(lines, "start")
    assert (start["task"], start["resumed_at"]) == ("click", 0)
    assert start["names"][0] == "mixture"
    assert start["names"][-2:] == ["constant", "last label"]
    assert start["weighed"] == ["fields", "trees", "bits", "scores", "mean"]
    points = events(lines, "point")

    early = [1, 2, 4, 8, 16, 32, 64]
    assert [point["records"] for point in points] == [*early, *range(128, 4000, 128), 4000]
    summary = json.loads(lines[-1])
    last = points[-1]
    assert last["log_loss"][0] == pytest.approx(summary["log_loss"], abs=1e-8)
    assert last["calibration"][0] == pytest.approx(summary["calibration"], abs=1e-8)
    for name, loss in zip(start["names"][1:], last["log_loss"][1:], strict=True):
        assert loss == pytest.approx(summary["experts"][name]["log_loss"], abs=1e-8)
    assert sum(last["shares"]) == pytest.approx(1, abs=1e-6)


def test_windows_are_what_the_sums_of_two_points_differ_by(lines):
    history = History()
    for line in lines:
        history.add(json.loads(line))
    curves = Curves(history)
    window, losses = curves.window("log_loss", 0), curves.whole("log_loss", 0)
    weights = curves.values("weight")
    end, begin = len(losses) - 1, curves.begin(len(losses) - 1)
    assert curves.records[begin] <= 4000 - curves.width < curves.records[begin + 1]
    mean = (losses[end] * weights[end] - losses[begin] * weights[begin]) / (
        weights[end] - weights[begin]
    )
    assert window[-1] == pytest.approx(mean)
    assert window[0] == losses[0]
    assert entropy(0.0) is None
    assert entropy(0.25) == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))


def test_details_agree_with_the_account(lines):
    details = events(lines, "details")[-1]
    summary = json.loads(lines[-1])
    click = summary["click_rate"] * summary["learned"]
    groups = details["reliability"]
    assert len(groups) <= 20
    assert sum(group["weight"] for group in groups) == pytest.approx(summary["learned"])
    assert sum(g["weight"] * g["observed"] for g in groups) == pytest.approx(click)
    predicted = sum(g["weight"] * g["predicted"] for g in groups)
    assert predicted == pytest.approx(summary["calibration"] * click, rel=0.02)
    for group in groups:
        assert group["low"] <= group["predicted"] <= group["high"]
    for rows in (*details["slices"].values(), details["hours"], details["weekdays"]):
        assert sum(row["records"] for row in rows) == summary["learned"]
        observed = sum((row["observed"] or 0) * row["weight"] for row in rows)
        assert observed == pytest.approx(click)
        loss = sum((row["loss"] or 0) * row["weight"] for row in rows) / summary["learned"]
        assert loss == pytest.approx(summary["log_loss"], abs=1e-5)
    assert len(details["slices"]["site"]) == 21
    assert details["slices"]["site"][-1]["value"] == "(other values)"
    assert set(details["gains"]) == {"trees"}
    gain = details["gains"]["trees"]
    assert "clicks_before" in gain
    assert all(value > 0 for kinds in gain.values() for value in kinds.values())
    fields = {row["field"] for row in details["importance"]["fields"]}
    assert {"site", "time.hour", "price"} < fields


def test_what_is_told_does_not_change_what_is_learned(folder, tmp_path):
    options = ("--label", "click", "--ignore", "id", "--limit", 1500)
    learn = ("learn", CLICKS, *options, "--config", folder / "small.toml")
    told = ("--json", "--slice-by", "site", "--report", tmp_path / "a.html")
    for more in (("--quiet", "-f", tmp_path / "plain"), (*told, "-f", tmp_path / "told")):
        assert call(*learn, *more).exit_code == 0
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "told").read_bytes()


def test_a_resumed_run_goes_on_in_the_same_file(folder, tmp_path):
    options = ("--label", "click", "--time", "time", "--ignore", "id", "--json")
    learn = ("learn", CLICKS, *options, "--config", folder / "small.toml")
    first = call(*learn, "--limit", 1000, "-f", tmp_path / "m", "--slice-by", "site").stdout
    # It went farther than its snapshot before it died.
    beyond = call(*learn, "--limit", 1500).stdout.splitlines()
    lost = [line for line in beyond if json.loads(line).get("records", 0) > 1000]
    second = call(
        "learn", "--resume", tmp_path / "m", "--limit", 2000, "--slice-by", "site", "--json"
    )
    assert second.exit_code == 0, second.stderr
    path = tmp_path / "both.jsonl"
    path.write_text(first + "\n".join(lost[:-1]) + "\n" + second.stdout)
    history, odd = read_history(str(path))
    assert odd is None
    assert history.parts == [1000]
    records = [point["records"] for point in history.points]
    assert records == sorted(set(records))
    assert (records[0], records[-1]) == (1, 2000)
    assert history.details["since"] == 1000
    assert sum(row["records"] for row in history.details["slices"]["site"]) == 1000
    whole = call(*learn, "--limit", 2000).stdout.splitlines()
    assert history.points[-1]["log_loss"] == events(whole, "point")[-1]["log_loss"]
    alone = tmp_path / "alone.jsonl"
    alone.write_text(second.stdout)
    history, _ = read_history(str(alone))
    assert history.points[0]["records"] == 1000
    window = Curves(history).window("log_loss", 0)
    assert window[0] is None
    assert all(0 < loss < 2 for loss in window[1:])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("click,site\n1,a\n", "line 1 is not JSON"),
        ('{"event": "start", "na', "line 1 is not JSON"),
        ("[1, 2]\n", "line 1 is no event of a run"),
        ('{"a": 1}\n', "line 1 is no event of a run"),
        ('{"event": "point", "records": 9}\n', "line 1, a point, lacks learned, pending"),
        ('{"event": "checkpoint", "records": 1}\n', "has no points that curves could be drawn"),
        ("\x00\xff\xfe\n", "line 1 is not JSON"),
    ],
)
def test_what_is_no_run_is_refused_in_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ReportError, match=sentence):
        read_history(str(path))
    result = call("report", path, "-o", tmp_path / "r.html")
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_a_last_line_that_is_cut_off_is_left_out(lines, tmp_path):
    path = tmp_path / "cut.jsonl"
    path.write_text("\n".join([*lines[:-1], lines[-1][:50]]))
    result = call("report", path, "-o", tmp_path / "r.html")
    assert result.exit_code == 0
    assert "the last line" in result.stderr
    assert "did not end by itself" in (tmp_path / "r.html").read_text()
    path.write_text("\n".join([lines[0][:50], *lines[1:]]))
    assert call("report", path, "-o", tmp_path / "r.html").exit_code == 2


def test_a_file_that_is_not_there():
    result = call("report", "/nowhere/run.jsonl")
    assert result.exit_code == 1
    assert result.stderr == "onlinestack: /nowhere/run.jsonl: No such file or directory\n"
