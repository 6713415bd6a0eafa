from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import compare  # noqa: E402
from scenarios import SCENARIOS, walk  # noqa: E402

EXACT, SPEED = SCENARIOS["acc-synthetic-linear"], SCENARIOS["speed-linear-parquet"]
CHEAP = ["--only", "acc-synthetic-linear"]


def checkout(folder: Path, change: tuple[str, str, str] | None = None) -> str:
    """Copy the package to a folder, a text in one of its files replaced."""
    shutil.copytree(
        ROOT / "onlinestack", folder / "onlinestack", ignore=shutil.ignore_patterns("__pycache__")
    )
    if change is not None:
        name, old, new = change
        path = folder / "onlinestack" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
    return str(folder)


def test_ids_of_scenarios_are_permanent() -> None:
    assert list(SCENARIOS) == [
        "acc-synthetic-linear",
        "acc-synthetic-pairs",
        "acc-synthetic-stack",
        "acc-bundled",
        "speed-linear-parquet",
        "wall-linear-parquet",
        "speed-stack",
        "speed-dict-linear",
        "memory-linear",
        "startup",
        "help-time",
    ]


@pytest.mark.parametrize(
    ("base", "head", "verdict"),
    [
        (0.5, 0.5, "same"),
        (0.5, 0.5 + 1e-9, "WORSE"),
        (0.5, 0.4, "better"),
        (0.5, float("nan"), "WORSE"),
    ],
)
def test_losses_are_judged_exactly(base: float, head: float, verdict: str) -> None:
    assert compare.judge(EXACT, [base], [head])["verdict"] == verdict


def test_speed_is_judged_by_the_median_of_the_ratios_of_rounds() -> None:
    # a noisy machine: rounds differ by far more than the sides do
    base = [1.0, 5.0, 2.0]
    assert compare.judge(SPEED, base, [1.05, 5.1, 8.0])["verdict"] == "same"
    assert compare.judge(SPEED, base, [1.2, 6.0, 2.0])["verdict"] == "WORSE"
    assert compare.judge(SPEED, base, [0.8, 4.0, 2.0])["verdict"] == "better"
    found = compare.judge(SPEED, base, [1.2, 6.0, 2.0])
    assert found["change"] == pytest.approx(0.2) and (found["base"], found["head"]) == (2.0, 2.0)


def test_revision_equals_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    if subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("the files lie in no git repository")
    before = subprocess.check_output(["git", "-C", str(ROOT), "worktree", "list"])
    told = tmp_path / "found.json"
    assert compare.main(["HEAD", "HEAD", *CHEAP, "--json", str(told)]) == 0
    found = json.loads(told.read_text())["scenarios"]["acc-synthetic-linear"]
    assert found["verdict"] == "same" and found["change"] == 0 and 0.3 < found["base"] < 0.7
    assert "acc-synthetic-linear" in capsys.readouterr().out
    assert subprocess.check_output(["git", "-C", str(ROOT), "worktree", "list"]) == before


def test_changed_preset_is_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("presets/linear.toml", "\nbits = 18\n", "\nbits = 6\n")
    doctored = checkout(tmp_path / "doctored", few)
    assert compare.main([str(ROOT), doctored, *CHEAP]) == 1
    assert "WORSE" in capsys.readouterr().out
    assert compare.main([doctored, str(ROOT), *CHEAP]) == 0
    assert "better" in capsys.readouterr().out


def test_failing_where_the_base_does_not_is_a_regression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = checkout(tmp_path / "broken", ("cli.py", "def main(", "def no_main("))
    timed = ["--only", "help-time", "--rounds", "1"]
    assert compare.main([str(ROOT), broken, *timed]) == 1
    said = capsys.readouterr()
    assert "FAILS" in said.out and "head: exit code" in said.err
    assert compare.main([broken, str(ROOT), *timed]) == 0
    assert "not in base" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give a BASE"),
        ([str(ROOT), str(ROOT), "--only", "nothing"], "no scenario begins with 'nothing'"),
        (["no-such-revision", *CHEAP], "'no-such-revision' is neither a revision nor"),
    ],
)
def test_wrong_usage_is_said_in_a_sentence(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        compare.main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["--list"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == list(SCENARIOS)


def test_rounds_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def measured(command: object, environment: dict[str, str], folder: Path) -> dict[str, float]:
        ran.append(environment["side"])
        return {"cpu": 2.0 if environment["side"] == "head" and len(ran) > 2 else 1.0}

    monkeypatch.setattr(compare, "measure", measured)
    timed = dataclasses.replace(SPEED, arguments=lambda files: ())
    sides = [{"side": "base"}, {"side": "head"}]
    found = compare.compare(timed, sides, {}, 3, tmp_path)
    assert ran == ["base", "head", "base", "head", "head", "base", "base", "head"]
    assert found["verdict"] == "WORSE" and found["change"] == 1


def test_dicts_are_predicted_before_they_are_learned() -> None:
    class Told:
        """Predicts what it learned last."""

        last = False

        def predict_proba_one(self, x: dict[str, int]) -> dict[bool, float]:
            return {True: 0.9 if self.last else 0.1}

        def learn_one(self, x: dict[str, int], y: bool) -> None:
            self.last = y

    found = walk(Told(), [({}, True), ({}, True)])
    assert found["learned"] == 2
    assert found["log_loss"] == pytest.approx((2.302585 + 0.105361) / 2)
