"""Runs over files whose labels come later."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from onlinestack.cli import app
from tests.test_late import clicks, table

N = 1200
SMALL = """
preset = "stack"
[stack]
train_first = 200
train_every = 300
train_lag = 40
window_rows = 500
random_bits = 64
half_lives = [8.0, inf]
[learner]
bits = 10
[[member]]
name = "f"
[[member]]
name = "trees"
kind = "trees"
rounds = 5
[[stacker]]
name = "s"
reads = "s"
constant = false
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with records, their clicks, and both in one file."""
    folder = tmp_path_factory.mktemp("late")
    data = table(N)
    late = data["time"].to_numpy() + data["delay"].to_numpy()
    known = pa.array([None if np.isnan(t) else t for t in late], pa.float64())
    records = data.drop(["delay", "click"])
    pa.parquet.write_table(records, folder / "records.parquet", row_group_size=500)
    events = clicks(data)
    columns = {"id": [id for _, id in events], "time": [t for t, _ in events]}
    pa.csv.write_csv(pa.table(columns), folder / "clicks.csv")
    both = data.drop(["delay"]).append_column("known", known)
    pa.parquet.write_table(both, folder / "both.parquet")
    (folder / "small.toml").write_text(SMALL)
    return folder


COMMON = ("--time", "time", "--text", "tags", "--weight", "w", "--window", "2.5m", "--quiet")
LATE = ("--labels", "clicks.csv", "--id", "id", *COMMON)
PRESETS = {"linear": ("--preset", "linear", "-b", "10"), "stack": ("--config", "small.toml")}


def learn(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str, code: int = 0) -> Any:
    """Run the command; return its summary, or what it says is wrong."""
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["learn", *options, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1]) if not code else result.stderr


def column(path: Path, name: str = "p") -> list[str]:
    text = pa.csv.read_csv(
        path, convert_options=pa.csv.ConvertOptions(column_types={"p": "string"})
    )
    return list(text[name].to_pylist())


@pytest.mark.parametrize("preset", PRESETS)
def test_clicks_in_a_file_and_in_a_column_are_the_same(
    files: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    more = (*PRESETS[preset], "--correct-late", "60s")
    two = learn(files, monkeypatch, "records.parquet", *LATE, *more, "-p", "two.csv")
    one = learn(
        files,
        monkeypatch,
        *("both.parquet", "--label", "click", "--label-time", "known", "--id", "id"),
        *(*COMMON, *more, "-p", "one.csv"),
    )
    bare = learn(
        files,
        monkeypatch,
        *("both.parquet", "--label", "click", "--label-time", "known", "--ignore", "id"),
        *(*COMMON, *more, "-p", "bare.csv"),
    )
    assert column(files / "one.csv") == column(files / "two.csv") == column(files / "bare.csv")
    for summary in (one, two, bare):
        counts = [summary[k] for k in ("learned", "predicted_only", "pending", "rejected")]
        assert sum(counts) == summary["read"] == N
        assert summary["labels"]["late"] > summary["labels"]["corrected"] > 5
        assert summary["log_loss"] == two["log_loss"]
        assert summary["pending"] == two["pending"]
    assert two["labels"]["read"] == sum(1 for _ in clicks(table(N)))
    assert 50 < two["pending_bytes_each"] < 1000


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", ["files", "column"])
def test_a_resumed_run_equals_the_unbroken_one(
    files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, preset: str, kind: str
) -> None:
    where = ("records.parquet", *LATE)
    if kind == "column":
        where = ("both.parquet", "--label", "click", "--label-time", "known", "--id", "id", *COMMON)
    more = (*PRESETS[preset], "--correct-late", "60")
    save = str(tmp_path / "whole")
    whole = learn(files, monkeypatch, *where, *more, "-p", "whole.csv", "-f", save)
    stop = random.Random(preset + kind).randint(1, N - 1)
    parts = str(tmp_path / "parts")
    head = (*where, *more, "-p", "parts.csv", "-f", parts, "--limit", str(stop))
    assert learn(files, monkeypatch, *head)["read"] == stop
    last = learn(files, monkeypatch, "--resume", parts, "--limit", str(N))
    last = learn(files, monkeypatch, "--resume", parts, "--limit", str(N + 1))
    assert column(files / "whole.csv") == column(files / "parts.csv")
    for key in ("learned", "pending", "log_loss", "labels", "carried"):
        assert last[key] == whole[key]


def test_labels_that_can_not_be_used_are_told_with_their_place(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (files / "clicks.csv").read_text().splitlines()
    lines.insert(3, ',"1000000010"')
    lines.insert(7, "r5,")
    lines.insert(9, "r6,tomorrow")
    lines.append("nobody,1000009999")
    (files / "odd.csv").write_text("\n".join(lines) + "\n")
    options = ("--labels", "odd.csv", "--id", "id", *COMMON, *PRESETS["linear"])
    summary = learn(files, monkeypatch, "records.parquet", *options, "--rejects", "odd.jsonl")
    rejects = [json.loads(line) for line in (files / "odd.jsonl").read_text().splitlines()]
    assert [reject["position"] for reject in rejects] == [3, 7, 9]
    assert {reject["source"] for reject in rejects} == {"odd.csv"}
    assert ["without an id", "without a time", "tomorrow"] == [
        next(w for w in ("without an id", "without a time", "tomorrow") if w in reject["reason"])
        for reject in rejects
    ]
    assert summary["labels"]["rejected"] == 3
    assert summary["labels"]["unknown"] == 1
    assert summary["rejected"] == 0


def test_a_model_goes_on_with_the_records_that_wait(
    files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A loaded model has records pending, which are counted as carried over."""
    model = str(tmp_path / "model")
    options = ("records.parquet", *LATE, *PRESETS["linear"])
    first = learn(files, monkeypatch, *options, "-f", model, "--limit", "700")
    assert first["pending"] > 0
    again = learn(files, monkeypatch, *LATE, "-i", model, "records.parquet")
    assert again["carried"] == first["pending"]
    assert again["read"] + again["carried"] == sum(
        again[key] for key in ("learned", "predicted_only", "pending", "rejected")
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("records.parquet", "--labels", "clicks.csv", "--id", "id"), "name the column in --time"),
        (("records.parquet", "--labels", "clicks.csv", "--time", "time"), "in --id"),
        (("records.parquet", "--window", "5m"), "add --labels FILE or --label-time A"),
        (("records.parquet", *LATE, "--window", "soon"), "--window must be a time: seconds, or a"),
        (("both.parquet", *LATE, "--label", "click"), "leave it out with --ignore"),
        (("records.parquet", *LATE, "--learn-at", "once"), "give one of window, click"),
        (("records.parquet", *LATE, "--preset", "linear", "--oaa", "3"), "late labels are clicks"),
    ],
)
def test_what_does_not_go_together_is_said(
    files: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], sentence: str
) -> None:
    told = learn(files, monkeypatch, *options, code=2)
    assert sentence in " ".join(told.split())
