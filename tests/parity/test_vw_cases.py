"""`onlinestack vw` against what Vowpal Wabbit printed for the same command lines.

Left out of the comparison: lines on stdout in square brackets, which are Vowpal Wabbit's log of
single odd records, and the checksum, version and id of model dumps.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from onlinestack.vw.driver import run

HERE = Path(__file__).parents[2] / ".." / "shared" / "parity"
SHARED = Path(os.environ.get("ONLINESTACK_PARITY", HERE))
TOLERANCE = 1e-5 + 5e-7
NUMBER = re.compile(r"[\s:@]+")
LOGGED = re.compile(r"\[(?:warning|error|info)\][^\n]*\n|You can use --leave[^\n]*\n")
DUMPS = {"expected_readable_model": "--readable_model", "expected_invert_hash": "--invert_hash"}


def cases() -> list[Any]:
    file = SHARED / "cases.json"
    if not file.exists():
        return [pytest.param(None, marks=pytest.mark.skip("the parity corpus is not here"))]
    return [pytest.param(case, id=case["id"]) for case in json.loads(file.read_text())["cases"]]


def call(words: list[str], patch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Run a command line in this process; return what it wrote to stderr and stdout."""
    error, data = io.StringIO(), io.BytesIO()
    out = io.TextIOWrapper(data, encoding="utf-8", errors="surrogateescape", newline="")
    with patch.context() as inner:
        inner.setattr(sys, "stderr", error)
        inner.setattr(sys, "stdout", out)
        assert run(words) == 0
        out.flush()
    return error.getvalue(), data.getvalue().decode(errors="surrogateescape")


def read(path: Path | str) -> str:
    return Path(path).read_text(errors="surrogateescape")


def assert_same(mine: str, reference: str) -> None:
    """Compare text, numbers in it within the tolerance."""
    if mine == reference:
        return
    own, other = mine.splitlines(), reference.splitlines()
    assert len(own) == len(other)
    for line, expected in zip(own, other, strict=True):
        a, b = NUMBER.split(line.strip()), NUMBER.split(expected.strip())
        assert len(a) == len(b), (line, expected)
        for x, y in zip(a, b, strict=True):
            if x != y:
                gap = abs(float(x) - float(y)) / max(1.0, abs(float(y)))
                assert gap <= TOLERANCE, (line, expected)


def dump_lines(text: str) -> str:
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if not line.startswith(("Checksum", "Version", "Id")))


@pytest.mark.parametrize("case", cases())
def test_case(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in case["input"]:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SHARED / name, target)
    for line in case["setup"]:
        call(shlex.split(line), monkeypatch)
    words = shlex.split(case["args"])
    added = []
    wanted = {"expected_predictions": "-p", "expected_raw_predictions": "-r"}
    files = {}
    for key, flag in wanted.items():
        if flag in words:
            files[key] = words[words.index(flag) + 1]
        elif case.get(key):
            files[key] = f"out{flag}"
            added += [flag, f"out{flag}"]
    error, out = call(words + added, monkeypatch)
    for key, file in files.items():
        if case.get(key):
            assert_same(read(file), read(SHARED / case[key]))
    tail = case.get("expected_predictions_tail")
    if tail and "expected_predictions" in files:
        assert read(files["expected_predictions"]).splitlines()[-len(tail) :] == tail
    said = [line for line in error.splitlines() if not line.endswith("predictions = out-p")]
    said = [line for line in said if not line.endswith("predictions = out-r")]
    # Vowpal Wabbit names another learner where raw predictions are asked for.
    text = "\n".join(said).replace("oaa-raw", "oaa") + "\n"
    assert_same(text, read(SHARED / case["expected_stderr"]))
    expected = read(SHARED / case["expected_stdout"]) if case["expected_stdout"] else ""
    # Its log goes where it finds the stream, in the middle of other lines, too.
    assert_same(LOGGED.sub("", out), LOGGED.sub("", expected))
    for key, flag in DUMPS.items():
        if case.get(key):
            dump = dump_lines(read(words[words.index(flag) + 1]))
            assert_same(dump, dump_lines(read(SHARED / case[key])))


def test_other_options_are_refused_by_name() -> None:
    for words in (["--bfgs"], ["--nn", "5"], ["--lrq=ab2"], ["-z"]):
        with pytest.raises(ValueError, match=re.escape(words[0].partition("=")[0])):
            run(words)
