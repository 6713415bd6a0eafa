"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import onlinestack
from onlinestack.config import Config
from onlinestack.io.schema import Schema
from onlinestack.opening import new_learner
from onlinestack.recipe import COMBINERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def without_speed(text: str) -> list[str]:
    """Return the lines without their second column and without times."""
    lines = [re.sub(r"^( *[\d,]+) +[\d,]+ ", r"\1 ", line) for line in text.splitlines()]
    return [line for line in lines if not line.startswith("in ")]


def test_table_is_that_of_the_first_command() -> None:
    if not (ROOT / "streams").exists():
        pytest.skip("the bundled sample is part of the repository, not of the package")
    command = re.search(r"\.venv/bin/onlinestack (learn .*)", README)
    shown = re.search(r"```\n( +records .*?)```", README, re.DOTALL)
    assert command and shown
    result = subprocess.run(
        [sys.executable, "-c", "from onlinestack.cli import main; main()", *command[1].split()],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    printed = without_speed(result.stderr)
    for line in without_speed(shown[1]):
        assert line in printed


@pytest.mark.parametrize("name", sorted(set(onlinestack.__all__) - {"__version__"}))
def test_public_names_have_a_line(name: str) -> None:
    assert f"`{name}`" in README
    assert getattr(onlinestack, name).__doc__


def test_example_in_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example
    # The whole stack runs for the table already.
    small = "OnlineStacker(members=({'name': 'f'},), stackers=({'name': 's', 'reads': 's'},))"
    text = example[1].replace("OnlineStacker()", small)
    assert text != example[1]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_the_stack_shown_is_one(tmp_path: Path) -> None:
    shown = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert shown
    path = tmp_path / "mine.toml"
    path.write_text(shown[1])
    config = Config.resolve({"paths": ["streams/clicks.parquet"]}, file=str(path), environment={})
    assert [entry["name"] for entry in config["member"]][2] == "what pairs leave over"
    learner = new_learner(config, Schema(label="click"))
    assert list(learner.weights())[:3] == [entry["name"] for entry in config["member"]]
    assert list(learner.weights())[-1] == "mean"


def test_every_combiner_is_told() -> None:
    table = re.search(r"^\| combiner .*\n\|[-|]+\n((\|.*\n)+)", README, re.MULTILINE)
    assert table
    assert re.findall(r"^\| `(\w+)`", table[1], re.MULTILINE) == list(COMBINERS)


def test_commands_shown_are_commands() -> None:
    from typer.main import get_command

    from onlinestack.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    shown = set(re.findall(r"^(?:\$|.*\|) onlinestack (\w+)", README, re.MULTILINE))
    assert shown and shown <= known
