from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onlinestack import __version__, run, terminal
from onlinestack.cli import app
from onlinestack.settings import SETTINGS

ROOT = Path(__file__).parents[1]
# The options of vw are those of Vowpal Wabbit: tests/parity/test_vw_options.py looks at its help.
COMMANDS = ("learn", "predict", "config")

CHECKPOINT = {
    "event": str,
    "records": int,
    "learned": int,
    "predicted_only": int,
    "pending": int,
    "rejected": int,
    "log_loss": float,
    "log_loss_since": float,
    "auc": float,
    "accuracy": float,
    "normalized_entropy": float,
    "calibration": float,
    "click_rate": float,
    "seconds": float,
    "records_per_second": float,
}
SUMMARY = {
    "out_of_order": int,
    "event": str,
    "read": int,
    "learned": int,
    "predicted_only": int,
    "pending": int,
    "rejected": int,
    "log_loss": float,
    "auc": float,
    "accuracy": float,
    "normalized_entropy": float,
    "calibration": float,
    "click_rate": float,
    "seconds": float,
    "records_per_second": float,
    "generations": int,
    "experts": dict,
}


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in list(os.environ):
        if name.startswith("ONLINESTACK_") and name != "ONLINESTACK_TWINS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")


def call(*arguments, **more):
    return CliRunner().invoke(app, [str(a) for a in arguments], **more)


@pytest.fixture
def clicks(tmp_path):
    path = tmp_path / "clicks.csv"
    rows = [f"{int(i % 3 == 0)},s{i % 6},{i / 7:.3f}" for i in range(100)]
    path.write_text("\n".join(["click,site,price", *rows, "1,s1,0.5,too,many", ""]))
    return path


def test_help_names_every_option():
    for command in COMMANDS:
        result = call(command, "--help")
        assert result.exit_code == 0
        assert "Examples" in result.stdout
        for row in SETTINGS.values():
            left_out = command == "predict" and (
                row.table == "learner" or row.key in ("resume", "save", "save_every", "preset")
            )
            for option in re.findall(r"--?[a-z][\w-]*", " ".join(row.options)):
                found = re.search(rf"(?<![\w-]){option}(?![\w-])", result.stdout)
                assert bool(found) != left_out, (command, option)


def test_nothing_heavy_is_loaded_for_help():
    program = (
        "import sys\nimport onlinestack.cli\n"
        "heavy = {'numpy', 'pyarrow', 'numba', 'river', 'xgboost', 'rich', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert out.stdout.strip() == "[]"


def test_version():
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"onlinestack {__version__}\n")


def test_json_lines(clicks):
    result = call("learn", clicks, "--label", "click", "--json")
    assert result.exit_code == 0
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [e["records"] for e in events[:-1]] == [1, 2, 4, 8, 16, 32, 64]
    for event in events[:-1]:
        assert list(event) and event["event"] == "checkpoint"
        for key, kind in CHECKPOINT.items():
            assert event[key] is None or isinstance(event[key], kind), key
    summary = events[-1]
    assert set(summary) == set(SUMMARY)
    assert summary["event"] == "summary"
    for key, kind in SUMMARY.items():
        assert isinstance(summary[key], kind), key
    assert (summary["read"], summary["learned"], summary["rejected"]) == (101, 100, 1)
    for expert in summary["experts"].values():
        assert {"kind", "log_loss", "auc", "weight"} <= set(expert)


def test_table_and_summary_go_to_stderr(clicks):
    result = call("learn", clicks, "--label", "click")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "since last" in result.stderr
    assert "read 101 = learned 100 + predicted_only 0 + pending 0 + rejected 1" in result.stderr
    assert re.search(r"^last label +baseline", result.stderr, re.MULTILINE)
    assert "\x1b" not in result.stderr


def test_quiet_says_nothing(clicks):
    result = call("learn", clicks, "--label", "click", "--quiet", "-v")
    assert (result.exit_code, result.output) == (0, "")


def test_predictions_on_stdout(clicks, tmp_path):
    result = call("learn", "-", "--format", "csv", "--label", "click", "-p", "-", "--quiet",
                  input=clicks.read_bytes())  # fmt: skip
    assert result.exit_code == 0
    rows = result.stdout.splitlines()
    assert rows[0] == "row,label,p"
    assert len(rows) == 101
    model = tmp_path / "m"
    assert call("learn", clicks, "--label", "click", "-f", model, "--quiet").exit_code == 0
    result = call("predict", clicks, "-i", model, "-p", "-", "--quiet")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 101


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("learn", "{clicks}", "--label", "clik"), 2, "did you mean 'click'"),
        (("learn", "{clicks}"), 2, "--label"),
        (("learn", "{clicks}", "--label", "click", "--ignore", "prise"), 2, "price"),
        (("learn", "{clicks}", "--label", "click", "-b", "0"), 2, "--bits must be at least 1"),
        (("learn", "{clicks}", "--label", "click", "-b", "77"), 2, "bits"),
        (("learn", "{clicks}", "--label", "click", "--loss", "l2"), 2, "logistic"),
        (("learn", "{clicks}", "--label", "click", "-q", "abc"), 2, "-q takes 2 letters"),
        (("learn", "{clicks}", "--label", "click", "--task", "rank"), 2, "click, regression"),
        (("learn", "{clicks}", "--label", "click", "--oaa", "1"), 2, "oaa=1 is out of range"),
        (("learn", "{clicks}", "--label", "click", "--beta", "1"), 2, "belongs to ftrl"),
        (("learn", "{clicks}", "--label", "site", "--oaa", "3", "--positive", "s1"), 2, "positive"),
        (("learn", "{clicks}", "--label", "click", "--preset", "stack"), 2, "preset"),
        (("learn", "{clicks}", "--label", "click", "--json", "-p", "-"), 2, "standard output"),
        (("learn", "{clicks}", "--label", "click", "-p", "p.xls"), 2, ".parquet"),
        (("learn", "absent.csv", "--label", "click"), 1, "absent.csv"),
        (("learn", "{folder}", "--label", "click"), (1, 2), "{folder}"),
        (("learn", "{clicks}", "--label", "click", "--max-bad-rows", "0"), 3, "--max-bad-rows"),
        (("learn", "{clicks}", "-i", "{clicks}"), 4, "not a snapshot"),
        (("learn", "{clicks}", "--resume", "absent"), 4, "no snapshot 'absent'"),
        (("learn", "{clicks}", "--label", "click", "-f", "no/where/m"), 1, "no/where"),
        (("learn", "{clicks}", "--config", "absent.toml"), 1, "absent.toml"),
        (("predict", "{clicks}"), 2, "-i FILE"),
    ],
)
def test_errors_are_one_sentence_and_a_code(clicks, arguments, code, sentence):
    words = {"clicks": clicks, "folder": clicks.parent}
    result = call(*(a.format(**words) for a in arguments))
    assert result.exit_code in (code if isinstance(code, tuple) else (code,)), result.output
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert sentence.format(**words) in last
    assert last.startswith("onlinestack: ")
    assert not last.endswith(".")


def test_typers_own_usage_errors_leave_with_2(clicks):
    assert call("learn", clicks, "--bits", "many").exit_code == 2
    assert call("learn", clicks, "--unknown").exit_code == 2


def test_no_source_reads_a_pipe_but_not_a_terminal(clicks, monkeypatch):
    options = ("--format", "csv", "--label", "click", "--json")
    result = call("learn", *options, input=clicks.read_bytes())
    assert json.loads(result.stdout.splitlines()[-1])["read"] == 101
    monkeypatch.setattr("onlinestack.cli._on_terminal", lambda: True)
    result = call("learn", *options)
    assert result.exit_code == 2
    assert "no SOURCE" in result.stderr


@pytest.mark.parametrize("error", [TypeError("odd"), MemoryError(), RecursionError("deep")])
def test_whatever_happens_no_traceback_unless_asked(clicks, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(run.Run, "_learn", fail)
    result = call("learn", clicks, "--label", "click")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "Traceback" in call("learn", clicks, "--label", "click", "-vv").stderr


def test_the_printed_configuration_reruns_the_run(clicks, tmp_path):
    options = (clicks, "--label", "click", "-b", 12, "-q", "ff", "--l2", "1e-5", "--json")
    toml = call("config", *options)
    assert toml.exit_code == 0
    assert 'categorical = ["site"]' in toml.stdout
    assert 'numeric = ["price"]' in toml.stdout
    assert 'interactions = ["ff"]' in toml.stdout
    file = tmp_path / "run.toml"
    file.write_text(toml.stdout)
    first, again = call("learn", *options), call("learn", "--config", file)
    assert again.exit_code == 0, again.stderr
    summaries = [json.loads(r.stdout.splitlines()[-1]) for r in (first, again)]
    assert summaries[0]["experts"] == summaries[1]["experts"]


def test_configuration_without_source_needs_no_data():
    result = call("config", "-b", "20")
    assert result.exit_code == 0
    assert "bits = 20" in result.stdout


def test_lists_are_parted_by_commas_and_options_may_be_repeated(clicks):
    result = call("config", "--ignore", "a,b", "--ignore", "c", "-q", "ff", "--cubic", "fff")
    assert 'ignore = ["a", "b", "c"]' in result.stdout
    assert 'interactions = ["ff", "fff"]' in result.stdout


def test_tables_of_numbers_and_classes(clicks):
    numbers = call("learn", clicks, "--label", "price", "--loss", "squared")
    assert numbers.exit_code == 0, numbers.stderr
    assert re.search(r"^ +records +records/s +MAE +since last +RMSE", numbers.stderr)
    assert re.search(r"^expert +kind +MAE +RMSE$", numbers.stderr, re.MULTILINE)
    assert re.search(r"^mean label 7\.\d+$", numbers.stderr, re.MULTILINE)
    classes = call("learn", clicks, "--label", "site", "--oaa", "6")
    assert classes.exit_code == 0, classes.stderr
    assert re.search(r"^ +records +records/s +log-loss +since last +accuracy", classes.stderr)
    assert re.search(r"^classes: s1 17\.0%, s0 17\.0%|^classes: s0 17\.0%", classes.stderr, re.M)
    result = call("learn", clicks, "--label", "site", "--oaa", "6", "--json")
    summary = json.loads(result.stdout.splitlines()[-1])
    assert {"log_loss", "accuracy", "classes"} <= set(summary) and "auc" not in summary
    result = call("learn", clicks, "--label", "price", "--task", "regression", "--json")
    summary = json.loads(result.stdout.splitlines()[-1])
    assert {"mae", "rmse", "label_mean"} <= set(summary) and "log_loss" not in summary


@pytest.mark.parametrize("value", [0.0, 1.23456789, 12345.678, -3e6, 4.5e9, 1e-7])
def test_errors_of_any_size_fit_their_column(value):
    text = terminal._number("mae", value)
    assert len(text) <= 11
    assert float(text) == pytest.approx(value, rel=1e-4, abs=1e-4)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Halfway:
    read = 1000

    def size(self):
        return 100, 50

    def seconds(self):
        return 10.0


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_lines_fit_the_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Terminal()
    report = terminal.TableReport(out)
    report.tick(Halfway())
    report.checkpoint({"records": 1234567, "log_loss": 0.5, "auc": None})
    drawn = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", out.getvalue())
    assert max(len(line) for line in re.split(r"[\r\n]", drawn)) < columns
    assert "1,234,567" in drawn
    if columns >= 40:
        assert "50%" in drawn


def test_no_colour_where_none_is_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    terminal.TableReport(out).checkpoint({"records": 1})
    assert "\x1b[1m" not in out.getvalue()
