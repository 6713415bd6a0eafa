"""What the command line tells about itself: help by topic, nearest names, completion, the page."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from onlinestack.cli import PANELS, app
from onlinestack.completion import columns_of
from onlinestack.config import Config, presets, toml_value
from onlinestack.io.messages import CODECS
from onlinestack.io.source import FORMATS
from onlinestack.labels.attribution import LEARN_AT
from onlinestack.learner import LEADERS, REFINEMENTS
from onlinestack.linear.losses import LINKS, LOSSES
from onlinestack.manual import explain, words
from onlinestack.recipe import COMBINERS, KINDS
from onlinestack.settings import SETTINGS, TABLES
from onlinestack.tasks import TASKS

ROOT = Path(__file__).parents[1]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
PROGRAM = [sys.executable, "-c", "from onlinestack.cli import main; main()"]


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "100"}).invoke(app, [str(each) for each in arguments])
    return result.exit_code, result.stdout, result.stderr


def complete(*words: str) -> list[str]:
    """Return what bash is offered for the last of some words."""
    asked = {"COMP_WORDS": " ".join(["onlinestack", *words]), "COMP_CWORD": str(len(words))}
    result = subprocess.run(
        PROGRAM,
        env={**os.environ, **asked, "_ONLINESTACK_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.split()


def test_choices_are_those_that_the_library_knows() -> None:
    known = {
        "preset": presets(),
        "format": FORMATS.values(),
        "task": TASKS,
        "loss": LOSSES,
        "update": [*LEADERS, "sgd", *REFINEMENTS],
        "link": LINKS,
        "combiners": [*COMBINERS, "all"],
        "learn_at": LEARN_AT,
        "message_format": CODECS,
    }
    assert known.keys() == {key for key, row in SETTINGS.items() if row.choices}
    for key, names in known.items():
        assert sorted(SETTINGS[key].choices) == sorted(names), key


@pytest.mark.parametrize(
    ("typed", "code", "hint"),
    [
        ("lern", 2, "'learn'"),
        ("learn --lable x", 2, "--label"),
        ("learn --resum x", 2, "--resume"),
        ("predict --prediction x", 2, "--predictions"),
        ("consume --labels-topik x", 2, "--labels-topic"),
        ("learn x.csv --preset stck", 2, "--preset 'stck' is unknown, did you mean 'stack'?"),
        ("learn x.csv --format parket", 2, "--format 'parket' is unknown, did you mean 'parquet'?"),
        ("learn x.csv --loss huber", 2, "--loss 'huber' is unknown; give one of logistic, hinge, "),
        ("learn x.csv --update ftrl,sdg", 2, "--update 'sdg' is unknown, did you mean 'sgd'?"),
        ("learn x.csv --link logit", 2, "--link 'logit' is unknown, did you mean 'logistic'?"),
        ("learn x.csv --learn-at clik", 2, "--learn-at 'clik' is unknown, did you mean 'click'?"),
        ("learn x.csv --combiners bets", 2, "--combiners 'bets' is unknown, did you mean 'best'?"),
        ("consume --format avor", 2, "--format 'avor' is unknown, did you mean 'avro'?"),
        ("learn streams/click.parquet --label x", 1, "did you mean 'clicks.parquet'?"),
        ("learn streams/clicks.parquet --label clik", 2, "given as label, did you mean 'click'?"),
        ("learn streams/clicks.parquet --label click --ignore prise", 2, "did you mean 'price'?"),
        ("help lern", 2, "there is no help about 'lern', did you mean 'learn'?"),
        ("help train_evry", 2, "did you mean 'train_every'?"),
        ("help zzz", 2, "onlinestack help toml tells all"),
    ],
)
def test_what_is_mistyped_gets_the_nearest_name(
    typed: str, code: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    left, out, err = call(*typed.split())
    assert (left, out) == (code, "")
    assert hint in err
    assert "Traceback" not in err


def test_commands_and_options_stand_under_topics() -> None:
    shown = call("--help")[1]
    panels = re.split(r"^╭─ ([^─]+) ─.*$", shown, flags=re.MULTILINE)
    topics = dict(zip(panels[1::2], panels[2::2], strict=True))
    assert "Commands" not in topics
    assert "Examples" in shown
    assert re.search(r"^│ learn ", topics["Learn and predict"], re.MULTILINE)
    found = [name for text in topics.values() for name in re.findall(r"^│ (\w+)", text, re.M)]
    assert sorted(found) == sorted(COMMANDS)
    for name, command in COMMANDS.items():
        if name != "vw":  # its help is that of Vowpal Wabbit
            shown = call(name, "--help")[1]
            assert "Examples" in shown and "onlinestack " + name in shown
        for option in command.params:
            if option.name in SETTINGS and option.param_type_name == "option":
                assert option.rich_help_panel in PANELS.values(), (name, option.name)


def test_help_of_a_command_is_that_of_its_option() -> None:
    assert call("help", "predict")[1] == call("predict", "--help")[1]
    assert call("help")[1] == call("--help")[1]
    assert "--loss_function" in call("help", "vw")[1]


def test_the_page_tells_every_key_with_kind_default_and_meaning() -> None:
    code, page, err = call("help", "toml")
    assert (code, err) == (0, "")
    assert max(map(len, page.splitlines())) <= 80
    plain = " ".join(page.split())
    tables = re.split(
        r"^(?:\[(\w+)\]|(?:\[\[member|\[\[stacker).*of kind '(\w+)')$", page, flags=re.M
    )
    about = {
        table or kind: text
        for table, kind, text in zip(*(tables[i::3] for i in (1, 2, 3)), strict=True)
    }
    assert list(about) == [*filter(None, TABLES), *KINDS]
    for key, row in SETTINGS.items():
        assert " ".join(row.meaning.split()) in plain, key
        if row.type == "entries":
            assert f"[[{key}]]" in page
            continue
        preset = "linear" if row.table == "learner" else "stack"
        value = Config.resolve({"preset": preset}, environment={})[key]
        line = key if value is None else f"{key} = {toml_value(value)}"
        assert f"\n{line}\n    " in (about[row.table] if row.table else page), key
        for name in (*row.options, f"ONLINESTACK_{key.upper()}"):
            assert name in plain, name
    for kind, made in KINDS.items():
        for field in dataclasses.fields(made):
            needed = field.default is dataclasses.MISSING
            line = field.name if needed else f"{field.name} = {toml_value(field.default)}"
            assert f"\n{line}\n    " in about[kind], (kind, field.name)


def test_presets_that_know_a_key_agree_about_it() -> None:
    """The page shows one default."""
    both = [Config.resolve({"preset": name}, environment={}) for name in presets()]
    for key in SETTINGS.keys() - {"preset"}:
        known = {toml_value(each[key]) for each in both if each[key] is not None}
        assert len(known) <= 1, key


@pytest.mark.parametrize("word", words())
def test_help_is_there_for_every_word_known(word: str) -> None:
    assert word in explain(word).lower()


def test_a_setting_is_found_by_option_and_by_table() -> None:
    assert explain("--learning-rate") == explain("learner.learning_rate")


def test_names_are_completed() -> None:
    assert {"learn", "predict", "vw"} <= set(complete(""))
    assert complete("le") == ["learn"]
    assert complete("learn", "--label-") == ["--label-time"]
    assert complete("learn", "--preset", "") == list(SETTINGS["preset"].choices)
    assert complete("learn", "--format", "j") == ["jsonl"]
    assert complete("learn", "--combiners", "rank,a") == ["rank,arithmetic", "rank,all"]
    assert "train_every" in complete("help", "train_")
    assert complete("learn", "--save", "") == []  # files: the shell's own


@pytest.mark.parametrize("name", ["log.csv", "log.tsv.gz", "log.jsonl", "log.parquet"])
def test_columns_of_the_source_are_completed(tmp_path: Path, name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / name
    table = pa.table({"click": [1, 0], "campaign": ["a", "b"], "site, or app": ["c", "d"]})
    if name.endswith("parquet"):
        pq.write_table(table, path)
    else:
        texts = {
            "csv": 'click,campaign,"site, or app"\n1,a,c\n',
            "tsv": "click\tcampaign\tsite, or app\n1\ta\tc\n",
            "jsonl": '{"click": 1, "campaign": {"of": "x"}, "site, or app": "c"}\n',
        }
        with pa.output_stream(path) as stream:
            stream.write(texts[name.split(".")[1]].encode())
    assert columns_of(str(path)) == table.column_names
    assert complete("learn", str(path), "--label", "c") == ["click", "campaign"]
    assert complete("learn", "--time", "x", str(path), "--ignore", "click,ca") == ["click,campaign"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{}", b"PAR1", b'"'])
def test_what_has_no_columns_completes_nothing(tmp_path: Path, content: bytes) -> None:
    for suffix in ("parquet", "jsonl", "vw", "csv.gz"):
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(content)
        assert columns_of(str(path)) == []
    assert columns_of("absent.csv") == []
    assert columns_of(str(tmp_path)) == []


def test_completion_is_installed(tmp_path: Path) -> None:
    """As a user does it, from a shell."""
    command = f"{sys.executable} -c 'from onlinestack.cli import main; main()'"
    env = {**os.environ, "HOME": str(tmp_path)}
    for option in ("--show-completion", "--install-completion"):
        result = subprocess.run(
            ["bash", "-c", f"{command} {option}; exit $?"],
            capture_output=True,
            text=True,
            env=env,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
        assert ("complete -o default" if option[2] == "s" else "installed") in result.stdout
    script = tmp_path / ".bash_completions" / "onlinestack.sh"
    assert str(script) in (tmp_path / ".bashrc").read_text()
    assert subprocess.run(["bash", "-n", str(script)], timeout=60).returncode == 0
