from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import speed  # noqa: E402
from stack_speed import untrained  # noqa: E402

STUB = """
import json, sys, tomllib
import pyarrow.parquet as pq
assert sys.argv[1] == "learn" and "--quiet" in sys.argv and "--json" in sys.argv
if "--config" in sys.argv:
    config = tomllib.load(open(sys.argv[sys.argv.index("--config") + 1], "rb"))
    assert not any(entry.get("kind") == "trees" for entry in config["member"])
else:
    assert sys.argv[sys.argv.index("--preset") + 1] == "stack"
lines = pq.read_metadata(sys.argv[2]).num_rows
print(json.dumps({"event": "summary", "learned": lines, "log_loss": 0.5}))
"""
PRESET = ROOT / "onlinestack" / "presets" / "stack.toml"
README = (
    "<!-- speed:begin -->\nkept\n<!-- speed:end -->\n<!-- stack:begin -->\n<!-- stack:end -->\n"
)


def test_a_preset_without_trees_keeps_everything_else() -> None:
    text = PRESET.read_text(encoding="utf-8")
    full, less = tomllib.loads(text), tomllib.loads(untrained(text))
    assert any(entry.get("kind") == "trees" for entry in full["member"])
    full["member"] = [entry for entry in full["member"] if entry.get("kind") != "trees"]
    assert less == full


def test_bench_measures_the_stack_and_its_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub, readme = tmp_path / "stub.py", tmp_path / "README.md"
    stub.write_text(STUB)
    readme.write_text(README)
    arguments = ["--rows", "stack,stack_untrained,budget", "--stack-records", "1600"]
    arguments += ["--stack-rounds", "2", "--stack-memory", "100", "--data", str(tmp_path / "d")]
    arguments += ["--results", str(tmp_path), "--readme", str(readme)]
    assert speed.main([*arguments, "--command", f"{sys.executable} {stub}"]) == 0, (
        capsys.readouterr().err
    )

    result = json.loads((tmp_path / "speed_stack.json").read_text())
    assert not (tmp_path / "speed.json").exists()
    for row in ("speed.stack", "speed.stack_untrained"):
        assert [run["records"] for run in result["scenarios"][row]["runs"]] == [1600, 1600]
        assert list(result["memory"][row]) == ["100", "1600"]
    assert str(tmp_path) not in json.dumps(result)

    budget = result["budget"]
    assert budget["records"] == 1600 and budget["generations"] > 0
    assert sum(part["us"] for part in budget["parts"].values()) == pytest.approx(budget["cpu_us"])
    for name, reads in {"statistics": "f", "mixture": "s, stackers", "encoder": "records"}.items():
        assert budget["parts"][name]["reads"] == reads
        assert budget["parts"][name]["us"] > 0
    trained = [part["us"] for name, part in budget["parts"].items() if name.startswith("training:")]
    assert trained and min(trained) > 0

    written = readme.read_text()
    assert "\nkept\n" in written
    assert "| stack, no retraining |" in written and "| training of " in written


def test_numbers_of_records_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speed.main(["--rows", "stack", "--stack-memory", "few"])
    assert "--stack-memory is 'few'" in capsys.readouterr().err
