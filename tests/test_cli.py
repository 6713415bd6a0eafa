from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onlinestack import __version__, run, terminal
from onlinestack.cli import app
from onlinestack.config import presets
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
    "final": str,
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
    "refused": int,
    "experts": dict,
}
GENERATION = {
    "event": str,
    "member": str,
    "number": int,
    "cut": int,
    "active_from": int,
    "rounds": int,
    "seconds": float,
    "accepted": bool,
}
LINEAR = ("--preset", "linear")
SMALL = """
[learner]
bits = 10
[stack]
train_first = 100
train_every = 150
train_lag = 40
window_rows = 300
half_lives = [8.0, inf]
random_bits = 128

[[member]]
name = "fields"
[[member]]
name = "trees"
kind = "trees"
rounds = 8
depth = 3
[[member]]
name = "bits"
kind = "bits"
[[stacker]]
name = "scores"
reads = "s"
constant = false
"""
"""A stack of every kind of expert, small enough for tests."""


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


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def more(tmp_path):
    """Write a log that trees can learn something from."""
    path = tmp_path / "more.csv"
    draw = random.Random(2)
    rows = []
    for i in range(600):
        price = draw.random()
        rows.append(f"{int(draw.random() < (price > 0.5)) if i % 9 else 0},s{i % 6},{price:.3f}")
    path.write_text("\n".join(["click,site,price", *rows, ""]))
    return path


def test_help_names_every_option():
    for command in COMMANDS:
        result = call(command, "--help")
        assert result.exit_code == 0
        assert "Examples" in result.stdout
        for row in SETTINGS.values():
            if row.table == "consume":
                continue
            left_out = command == "predict" and (
                row.table in ("learner", "stack", "labels")
                or row.key in ("label_time", "resume", "save", "save_every", "preset")
                or row.key in ("dashboard", "port")
            )
            for option in re.findall(r"--?[a-z][\w-]*", " ".join(row.options)):
                found = re.search(rf"(?<![\w-]){option}(?![\w-])", result.stdout)
                assert bool(found) != left_out, (command, option)


def test_help_of_consume_names_its_options_and_no_other_command_does():
    shown = {name: call(name, "--help").stdout for name in ("consume", "learn", "predict")}
    for row in SETTINGS.values():
        files = row.table == "source" or row.key in (
            *("labels", "label_time", "load", "resume", "save", "save_every"),
            *("predictions", "max_bad_rows", "limit"),
            *("report", "slice_by", "dashboard", "port"),
        )
        for option in re.findall(r"--[a-z][\w-]*", " ".join(row.options)):
            found = {n for n, text in shown.items() if re.search(rf"{option}(?![\w-])", text)}
            if option != "--format":  # each has its own
                assert ("consume" in found) != files, option
                assert row.table != "consume" or found == {"consume"}, option
    assert "avro" in shown["consume"] and "avro" not in shown["learn"]


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


def test_options_of_the_linear_learner_have_a_panel_of_their_own():
    panels = re.split(r"^\W*─ ([^─]+) ─.*$", call("learn", "--help").stdout, flags=re.MULTILINE)
    panels = dict(zip(panels[1::2], panels[2::2], strict=True))
    assert "--loss" in panels["Linear learner (--preset linear)"]
    learner = {"--preset", "--bits", "--seed", "--names", "--combiners"}
    assert set(re.findall(r"--\w+", panels["Learner"])) == learner


def test_json_lines(clicks):
    result = call("learn", clicks, "--label", "click", "--json", *LINEAR)
    assert result.exit_code == 0
    events = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-2:]) == ("start", ["details", "summary"])
    assert set(kinds[1:-2]) == {"checkpoint", "point"}
    checkpoints = [e for e in events if e["event"] == "checkpoint"]
    assert [e["records"] for e in checkpoints] == [1, 2, 4, 8, 16, 32, 64]
    for event in checkpoints:
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


def test_json_lines_of_a_stack(more, small):
    result = call("learn", more, "--label", "click", "--json", "--config", small)
    assert result.exit_code == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    names = ["fields", "trees", "bits", "scores", "mean"]
    checkpoints = [e for e in events if e["event"] == "checkpoint"]
    assert [e["records"] for e in checkpoints] == [2**k for k in range(10)]
    league = {"generations": int, "best": str, "weights": dict}
    for event in checkpoints:
        assert set(event) == {*CHECKPOINT, *league, "auc_since", "click_rate_since"}
        for key, kind in league.items():
            assert isinstance(event[key], kind), key
        assert list(event["weights"]) == names
        assert sum(event["weights"].values()) == pytest.approx(1)
        assert event["best"] in names
    generations = [e for e in events if e["event"] == "generation"]
    assert [e["cut"] for e in generations] == [100, 150, 225, 337, 487]
    for event in generations:
        for key, kind in GENERATION.items():
            assert isinstance(event[key], kind) or (event[key] is None and not event["accepted"])
        assert ("reason" in event) != event["accepted"]
        assert event["accepted"] != (event["active_from"] is None)
        assert event["active_from"] in (None, event["cut"] + 40)
    summary = events[-1]
    assert set(summary) == set(SUMMARY)
    assert summary["final"] == "mixture"
    assert summary["generations"] == sum(e["accepted"] for e in generations) > 0
    assert summary["generations"] + summary["refused"] == len(generations)
    kinds = ["member", "member", "member", "stacker", "mean", "baseline", "baseline"]
    experts = summary["experts"]
    assert list(experts) == [*names, "constant", "last label"]
    assert [expert["kind"] for expert in experts.values()] == kinds
    assert sum(experts[name]["weight"] for name in names) == pytest.approx(1)
    assert experts["constant"]["weight"] is None
    assert summary["log_loss"] < experts["constant"]["log_loss"]


def test_the_table_of_a_stack(more, small):
    result = call("learn", more, "--label", "click", "--config", small)
    assert (result.exit_code, result.stdout) == (0, "")
    assert re.search(r"^ +records .* click rate +generations +best of late$", result.stderr, re.M)
    assert re.search(r"^generations of trees \d", result.stderr, re.MULTILINE)
    assert re.search(r"^mixture +final +0\.\d+ +0\.\d+ +- ", result.stderr, re.MULTILINE)
    assert re.search(r"^trees +member +0\.\d+ +0\.\d+ +0\.\d+ ", result.stderr, re.MULTILINE)


def test_combiners_are_judged_beside_the_mixture(more, small, tmp_path):
    options = ("learn", more, "--label", "click", "--json", "--config", small)
    plain = json.loads(call(*options).stdout.splitlines()[-1])
    model = tmp_path / "m"
    result = call(*options, "--combiners", "best,rank", "-f", model)
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout.splitlines()[-1])
    assert list(summary["experts"])[-4:] == ["rank", "best", "constant", "last label"]
    for name in ("rank", "best"):
        assert summary["experts"][name]["kind"] == "combiner"
        assert summary["experts"][name]["weight"] is None
        assert summary["experts"][name]["log_loss"] < summary["experts"]["constant"]["log_loss"]
        del summary["experts"][name]
    for key in ("log_loss", "auc", "experts"):
        assert summary[key] == plain[key]
    predicted = call("predict", more, "-i", model, "--json")
    assert "rank" in json.loads(predicted.stdout.splitlines()[-1])["experts"]
    result = call("learn", more, "-i", model, "--combiners", "all")
    assert result.exit_code == 4
    assert "was made with combiners best,rank, not all: leave out --combiners" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--combiners", "rnak"), "--combiners 'rnak' is unknown, did you mean 'rank'?"),
        (
            ("--combiners", "x"),
            "--combiners 'x' is unknown; give one of arithmetic, majority, weighted",
        ),
        (("--combiners", "all", *LINEAR), "--combiners belongs to the stack preset, not to linear"),
    ],
)
def test_combiners_that_do_not_fit_are_refused(clicks, arguments, sentence):
    result = call("learn", clicks, "--label", "click", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_default_is_the_whole_stack(clicks):
    result = call("learn", clicks, "--label", "click", "--json")
    assert result.exit_code == 0, result.stderr
    experts = json.loads(result.stdout.splitlines()[-1])["experts"]
    shown = tomllib.loads(call("config").stdout)
    assert shown["preset"] == "stack"
    names = [entry["name"] for entry in (*shown["member"], *shown["stacker"])]
    assert list(experts) == [*names, "mean", "constant", "last label"]


def test_a_stack_is_saved_loaded_and_used(more, small, tmp_path):
    model, learned = tmp_path / "m", tmp_path / "p.csv"
    options = ("--label", "click", "--config", small, "-p", learned, "-f", model, "--quiet")
    assert call("learn", more, *options).exit_code == 0
    before = model.read_bytes()
    result = call("predict", more, "-i", model, "-p", "-", "--quiet")
    assert result.exit_code == 0, result.stderr
    rows = result.stdout.splitlines()
    assert len(rows) == 601 and rows != learned.read_text().splitlines()
    assert model.read_bytes() == before
    result = call("learn", more, "-i", model, "--config", small, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["experts"].keys() >= {"fields", "trees"}
    shown = call("config", "-i", model)
    assert tomllib.loads(shown.stdout)["member"][1]["rounds"] == 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-i", "{stack}", *LINEAR), "made with preset stack, not linear: leave out --preset"),
        (("-i", "{linear}", "--preset", "stack"), "made with preset linear, not stack: leave out"),
        (
            ("-i", "{linear}", "--config", "{small}"),
            "prior none, not 4.0: leave out stack.prior",
        ),
        (("-i", "{stack}", "--l2", "1"), "was made with l2 none, not 1.0: leave out --l2"),
        (("-i", "{stack}", "-b", "12"), "was made with bits 10, not 12: leave out --bits"),
        (("-i", "{stack}", "--config", "{fewer}"), "was made with the members fields,trees,bits,"),
        (("-i", "{stack}", "--config", "{other}"), "was made with another member 'fields': leave"),
        (("--resume", "{linear}", "--preset", "stack"), "made with preset linear, not stack"),
    ],
)
def test_a_model_of_another_preset_or_stack_is_refused(models, arguments, sentence):
    result = call("learn", models["clicks"], *(a.format(**models) for a in arguments))
    assert result.exit_code == 4, result.output
    (said,) = result.stderr.splitlines()
    assert said.startswith("onlinestack: the model") and sentence in said


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Save a model of each preset, and write stacks that differ from the one saved."""
    folder = tmp_path_factory.mktemp("models")
    paths = {name: folder / name for name in ("clicks.csv", "stack", "linear")}
    paths["clicks"] = paths["clicks.csv"]
    paths["clicks"].write_text("click,site\n" + "".join(f"{i % 2},s{i % 3}\n" for i in range(40)))
    texts = {
        "saved": SMALL,
        "small": "[stack]\nprior = 4.0\n",
        "fewer": '[[member]]\nname = "fields"\n',
        "other": SMALL.replace('"fields"', '"fields"\nlearning_rate = 0.25'),
    }
    for name, text in texts.items():
        paths[name] = folder / f"{name}.toml"
        paths[name].write_text(text)
    for preset, more in (("stack", ("--config", paths["saved"])), ("linear", LINEAR)):
        options = ("--label", "click", "-f", paths[preset], "--quiet")
        assert call("learn", paths["clicks"], *options, *more).exit_code == 0
    return paths


def test_table_and_summary_go_to_stderr(clicks):
    result = call("learn", clicks, "--label", "click", *LINEAR)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "since last" in result.stderr
    assert "read 101 = learned 100 + predicted_only 0 + pending 0 + rejected 1" in result.stderr
    assert re.search(r"^last label +baseline", result.stderr, re.MULTILINE)
    assert "\x1b" not in result.stderr


def test_quiet_says_nothing(clicks):
    result = call("learn", clicks, "--label", "click", "--quiet", "-v", *LINEAR)
    assert (result.exit_code, result.output) == (0, "")


def test_predictions_on_stdout(clicks, tmp_path):
    result = call("learn", "-", "--format", "csv", "--label", "click", "-p", "-", "--quiet",
                  *LINEAR, input=clicks.read_bytes())  # fmt: skip
    assert result.exit_code == 0
    rows = result.stdout.splitlines()
    assert rows[0] == "row,label,p"
    assert len(rows) == 101
    model = tmp_path / "m"
    options = ("--label", "click", "-f", model, "--quiet", *LINEAR)
    assert call("learn", clicks, *options).exit_code == 0
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
        (("{learn}", "-b", "77"), 2, "bits is out of range: 77; give a number from 1 to 32"),
        (("{learn}", "--loss", "logistic"), 2, "--loss belongs to the linear preset: add --preset"),
        (("{learn}", "-q", "ff"), 2, "-q belongs to the linear preset: add --preset linear, or"),
        (("{learn}", "--oaa", "3"), 2, "--oaa belongs to the linear preset: add --preset linear"),
        (("{linear}", "-b", "77"), 2, "bits"),
        (("{linear}", "--loss", "l2"), 2, "logistic"),
        (("{linear}", "-q", "abc"), 2, "-q takes 2 letters"),
        (("{linear}", "--task", "rank"), 2, "click, regression"),
        (("{linear}", "--oaa", "1"), 2, "oaa=1 is out of range"),
        (("{linear}", "--beta", "1"), 2, "belongs to ftrl"),
        (("{linear}", "--label", "site", "--oaa", "3", "--positive", "s1"), 2, "positive"),
        (("{learn}", "--preset", "stak"), 2, "--preset 'stak' is unknown, did you mean 'stack'"),
        (("{learn}", "--config", "{typo}"), 2, "unknown key 'depht' in member t, did you mean 'd"),
        (("config", "--config", "{typo}"), 2, "unknown key 'depht' in member t, did you mean 'd"),
        (("{learn}", "--config", "{stray}"), 2, "'fs' reads the margin of 'g', which is no member"),
        (("learn", "{clicks}", "--label", "click", "--json", "-p", "-"), 2, "standard output"),
        (("learn", "{clicks}", "--label", "click", "-p", "p.xls"), 2, ".parquet"),
        (("learn", "absent.csv", "--label", "click"), 1, "absent.csv"),
        (("learn", "{folder}", "--label", "click"), (1, 2), "{folder}"),
        (("{linear}", "--max-bad-rows", "0"), 3, "--max-bad-rows"),
        (("{linear}", "--time", "site"), 3, "all 101 records were rejected: mend the source, or"),
        (
            ("learn", "{folder}/junk.parquet", "--label", "click"),
            2,
            "it is damaged, or --format has",
        ),
        (("learn", "{clicks}", "-i", "{clicks}"), 4, "not a snapshot"),
        (("learn", "{clicks}", "--resume", "absent"), 4, "no snapshot 'absent'"),
        (("learn", "{clicks}", "--label", "click", "-f", "no/where/m"), 1, "no/where"),
        (
            ("learn", "{clicks}", "--config", "absent.toml"),
            1,
            "--config absent.toml can not be read (no such file or directory); check its name",
        ),
        (("predict", "{clicks}"), 2, "-i FILE"),
    ],
)
def test_errors_are_one_sentence_and_a_code(clicks, arguments, code, sentence):
    words = {"clicks": clicks, "folder": clicks.parent}
    (clicks.parent / "junk.parquet").write_bytes(b"PAR1")
    for name, text in (("typo", 'name = "t"\ndepht = 3'), ("stray", 'name = "fs"\nbase = "g"')):
        words[name] = clicks.parent / f"{name}.toml"
        words[name].write_text(f'[[member]]\nkind = "trees"\n{text}\n')
    learn = ("learn", "{clicks}", "--label", "click")
    short = {"{learn}": learn, "{linear}": (*learn, *LINEAR)}
    arguments = (*short.get(arguments[0], arguments[:1]), *arguments[1:])
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
    options = ("--format", "csv", "--label", "click", "--json", *LINEAR)
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
    options = ("--label", "click", *LINEAR)
    result = call("learn", clicks, *options)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "Traceback" in call("learn", clicks, *options, "-vv").stderr


def test_the_printed_configuration_reruns_the_run(clicks, tmp_path):
    options = (clicks, "--label", "click", "-b", 12, "-q", "ff", "--l2", "1e-5", "--json", *LINEAR)
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


def test_the_printed_configuration_of_a_stack_reruns_the_run(more, small, tmp_path):
    options = (more, "--label", "click", "--config", small, "--seed", 5, "--json")
    toml = call("config", *options)
    assert toml.exit_code == 0, toml.stderr
    for line in ('categorical = ["site"]', "train_every = 150", "half_lives = [8.0, inf]"):
        assert line in toml.stdout.splitlines()
    # Comments stay, and every knob that was left alone is shown with them.
    assert "# Half-lives of the statistics" in toml.stdout
    assert "#   factorisation  learning_rate" in toml.stdout
    assert tomllib.loads(toml.stdout)["member"][2] == {"name": "bits", "kind": "bits"}
    file = tmp_path / "run.toml"
    file.write_text(toml.stdout)
    first, again = call("learn", *options), call("learn", "--config", file)
    assert again.exit_code == 0, again.stderr
    summaries = [json.loads(r.stdout.splitlines()[-1]) for r in (first, again)]
    assert summaries[0]["experts"] == summaries[1]["experts"]


def test_the_printed_stack_has_its_own_comments():
    shown = call("config", "--preset", "stack").stdout
    assert shown == call("config").stdout
    own = presets()["stack"].read_text(encoding="utf-8")
    assert [line for line in shown.splitlines() if line.startswith("#") and "=" not in line] == [
        line for line in own.splitlines() if line.startswith("#") and "=" not in line
    ]
    assert tomllib.loads(shown) == tomllib.loads(own)


def test_configuration_without_source_needs_no_data():
    result = call("config", "-b", "20")
    assert result.exit_code == 0
    assert "bits = 20" in result.stdout


def test_lists_are_parted_by_commas_and_options_may_be_repeated(clicks):
    result = call("config", "--ignore", "a,b", "--ignore", "c", "-q", "ff", "--cubic", "fff",
                  *LINEAR)  # fmt: skip
    assert 'ignore = ["a", "b", "c"]' in result.stdout
    assert 'interactions = ["ff", "fff"]' in result.stdout


def test_tables_of_numbers_and_classes(clicks):
    numbers = call("learn", clicks, "--label", "price", "--loss", "squared", *LINEAR)
    assert numbers.exit_code == 0, numbers.stderr
    assert re.search(r"^ +records +records/s +MAE +since last +RMSE", numbers.stderr)
    assert re.search(r"^expert +kind +MAE +RMSE$", numbers.stderr, re.MULTILINE)
    assert re.search(r"^mean label 7\.\d+$", numbers.stderr, re.MULTILINE)
    classes = call("learn", clicks, "--label", "site", "--oaa", "6", *LINEAR)
    assert classes.exit_code == 0, classes.stderr
    assert re.search(r"^ +records +records/s +log-loss +since last +accuracy", classes.stderr)
    assert re.search(r"^classes: s1 17\.0%, s0 17\.0%|^classes: s0 17\.0%", classes.stderr, re.M)
    result = call("learn", clicks, "--label", "site", "--oaa", "6", "--json", *LINEAR)
    summary = json.loads(result.stdout.splitlines()[-1])
    assert {"log_loss", "accuracy", "classes"} <= set(summary) and "auc" not in summary
    result = call("learn", clicks, "--label", "price", "--task", "regression", "--json", *LINEAR)
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


FIGURES = {
    "log_loss": 0.28123,
    "generations": 7,
    "best": "newton 30000",
    "weights": {},
}


class Halfway:
    read = 1_234_567

    def checkpoint(self):
        return FIGURES

    def training(self):
        return {"trees": 9, "trees on pairs": 9}

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
    name = "an expert with quite a long name"
    report.checkpoint({"records": 1234567, "log_loss": 0.5, "auc": None, "best": name})
    expert = {"kind": "member", "log_loss": 0.5, "auc": 0.5, "weight": 0.5}
    if columns >= 40:
        scores = {**expert, "final": "mixture", "experts": {name: expert}}
        for line in terminal.league_lines(scores, columns):
            report._line(line)
    drawn = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", out.getvalue())
    assert max(len(line) for line in re.split(r"[\r\n]", drawn)) < columns
    assert "1,234,567" in drawn
    if columns >= 40:
        assert "50%" in drawn
        assert re.search(r"^an expert wi.* member +0\.50000", drawn, re.MULTILINE)


def test_no_colour_where_none_is_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    terminal.TableReport(out).checkpoint({"records": 1})
    assert "\x1b[1m" not in out.getvalue()
