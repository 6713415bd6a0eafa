from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("vowpalwabbit", reason="the other side of the comparison is not installed")

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import speed  # noqa: E402

STUB = """
import json, sys
assert sys.argv[1] == "learn" and "--quiet" in sys.argv and "--json" in sys.argv
lines = sum(1 for line in open(sys.argv[2], "rb")) - sys.argv[2].endswith(".csv")
print(json.dumps({"event": "summary", "learned": lines, "log_loss": 0.5}))
"""


def test_bench_measures_both_sides_and_writes_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = tmp_path / "stub.py"
    stub.write_text(STUB)
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- speed:begin -->\nold\n<!-- speed:end -->\nafter\n")
    arguments = ["--records", "200", "--rounds", "2", "--bits", "10", "--rows", "vw,csv,vw_text"]
    folders = ["--data", str(tmp_path / "d"), "--results", str(tmp_path), "--readme", str(readme)]
    replaced = ["--command", f"{sys.executable} {stub}", "--memory", "100,200"]
    assert speed.main([*arguments, *folders, *replaced]) == 0, capsys.readouterr().err

    result = json.loads((tmp_path / "speed.json").read_text())
    assert set(result["scenarios"]) == {"speed.vw", "speed.csv", "speed.vw_text"}
    for name, found in result["scenarios"].items():
        assert [run["records"] for run in found["runs"]] == [200, 200]
        if name != "speed.vw":
            ratio = found["ratio"]
            assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
    assert 0.2 < result["scenarios"]["speed.vw"]["log_loss"] < 0.8
    assert list(result["memory"]["speed.csv"]) == ["100", "200"]
    assert str(tmp_path) not in json.dumps(result)

    written = readme.read_text()
    assert written.startswith("before\n") and written.endswith("after\n")
    assert "old" not in written
    assert written.count("| onlinestack, CSV |") == 2


def test_bench_reports_a_run_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = f"{sys.executable} {tmp_path / 'nothing.py'}"
    arguments = ["--records", "10", "--rows", "csv", "--command", broken]
    assert speed.main([*arguments, "--results", str(tmp_path)]) == 1
    assert "exit code 2" in capsys.readouterr().err
