"""The bench of single records measures what it says, and writes its table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import single  # noqa: E402


def test_bench_of_single_records_writes_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(single, "TURN", 200)
    readme, results = tmp_path / "README.md", tmp_path / "single.json"
    readme.write_text("before\n<!-- single:begin -->\nold\n<!-- single:end -->\nafter\n")
    arguments = ["--turns", "4", "--records", "1400", "--cut", "900"]
    folders = ["--data", str(tmp_path), "--readme", str(readme), "--json", str(results)]
    assert single.main([*arguments, *folders]) == 0, capsys.readouterr().err

    found = json.loads(results.read_text())
    ratio, stack, wait = found["turns"]["ratio"], found["stack"], found["waits"]
    assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
    assert stack["records"] == 1400 and stack["generations"] == 2 and stack["per_second"] > 0
    assert wait["predictions"] > 0 and 0 < wait["p50"] <= wait["p99"] <= wait["worst"]
    assert str(tmp_path) not in json.dumps(found)
    written = readme.read_text()
    assert written.startswith("before\n") and written.endswith("after\n")
    assert "old" not in written and f"{stack['per_second']:,.0f}" in written
