"""Every option of Vowpal Wabbit's wheel: ours with its spelling, or refused by its name."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from onlinestack.cli import app
from onlinestack.vw.options import OPTIONS, OptionError, parse

pytest.importorskip("vowpalwabbit", reason="the oracle is a dev dependency")


@pytest.fixture(scope="module")
def theirs() -> dict[str, str]:
    """Return the wheel's options by long name, each with its letter."""
    done = subprocess.run(
        [sys.executable, "-m", "vowpalwabbit", "--help"], capture_output=True, text=True, check=True
    )
    found = re.findall(r"^ +(?:-(\w), )?--(\w+)", done.stdout + done.stderr, re.MULTILINE)
    assert len(found) > 300
    return {name: letter for letter, name in found}


def test_ours_are_spelled_as_theirs(theirs: dict[str, str]) -> None:
    # The wheel leaves this one to the program.
    ours = {name: option.short for name, option in OPTIONS.items() if name != "onethread"}
    assert {name: theirs.get(name) for name in ours} == ours


def test_others_are_refused_by_name(theirs: dict[str, str]) -> None:
    others = set(theirs) - set(OPTIONS)
    assert len(others) > 200
    for name in others:
        for word in (f"--{name}", f"--{name}=1"):
            with pytest.raises(OptionError, match=rf"^--{name} is no option") as refusal:
                parse(["-d", "a.vw", word])
            assert str(refusal.value).count(".") == 0


def test_a_refusal_is_one_sentence_and_ends_with_2() -> None:
    result = CliRunner().invoke(app, ["vw", "-d", "a.vw", "--bfgs"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--bfgs" in result.stderr and result.stderr.count("\n") == 1


def test_help_names_every_option() -> None:
    result = CliRunner().invoke(app, ["vw", "--help"])
    assert result.exit_code == 0
    for name in OPTIONS:
        assert re.search(rf"--{name}\b", result.stdout), name
