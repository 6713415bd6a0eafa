"""Runs that pages are made of: a small stack and a linear learner over the bundled stream."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onlinestack.cli import app

ROOT = Path(__file__).parents[2]
CLICKS = ROOT / "streams" / "clicks.parquet"
SMALL = """
[learner]
bits = 12
[stack]
train_first = 500
train_every = 1000
train_lag = 100
window_rows = 2000
half_lives = [32.0, inf]
random_bits = 64

[[member]]
name = "fields"
[[member]]
name = "trees"
kind = "trees"
rounds = 8
depth = 4
[[member]]
name = "bits"
kind = "bits"
[[stacker]]
name = "scores"
reads = "s"
constant = false
"""


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in list(os.environ):
        if name.startswith("ONLINESTACK_") and name not in (
            "ONLINESTACK_TWINS",
            "ONLINESTACK_CACHE",
        ):
            monkeypatch.delenv(name)


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Hold a stack's run: its configuration, its JSON lines and the page of the same run."""
    path = tmp_path_factory.mktemp("report")
    (path / "small.toml").write_text(SMALL)
    options = ("--label", "click", "--time", "time", "--ignore", "id", "--limit", 4000)
    result = call(
        *("learn", CLICKS, *options, "--config", path / "small.toml", "--slice-by", "site,device"),
        *("--json", "--report", path / "learned.html"),
    )
    assert result.exit_code == 0, result.stderr
    (path / "run.jsonl").write_text(result.stdout)
    return path


@pytest.fixture(scope="session")
def lines(folder):
    """Return the JSON lines of the stack's run."""
    return (folder / "run.jsonl").read_text().splitlines()
