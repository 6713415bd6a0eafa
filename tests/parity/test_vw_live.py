"""`onlinestack vw` against Vowpal Wabbit's wheel: random options on random text.

Every draw is a few command lines over the same generated files, run by both in folders of their
own; what they write must agree: predictions, raw predictions, start lines, table, summary, audits
and dumps of models. ``ONLINESTACK_VW_DRAWS`` is how many draws a test makes; as a program
(``python test_vw_live.py DRAWS [FIRST]``) this file runs many and prints those that differ.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from onlinestack.vw.driver import run

pytest.importorskip("vowpalwabbit", reason="the oracle is a dev dependency")

DRAWS = int(os.environ.get("ONLINESTACK_VW_DRAWS", "112"))
TURNS = 3
"""How often a draw may be run until both say the same."""
TOLERANCE = 1e-5 + 5e-7
SPLIT = re.compile(r"[\s:@]+")
SKIPPED = re.compile(r"(Checksum|Version|Id)\b.*")
LOGGED = re.compile(
    r"\[(?:warning|error|info)\][^\n]*\n|You can use --leave[^\n]*\n|^\t\w+\n|^\n", re.MULTILINE
)
SERVER = """
import json, os, sys
import vowpalwabbit
for line in sys.stdin:
    folder, words = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open("stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        code = 0
        try:
            vowpalwabbit.Workspace(arg_list=words).finish()
        except BaseException as error:
            open("error", "w").write(str(error))
            code = 1
        sys.stdout.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
"""


class Draw(NamedTuple):
    """Files by name, command lines in order, and whether labels are classes."""

    files: dict[str, bytes]
    calls: list[list[str]]


# ------------------------------------------------------------------------------------------- text

ODD_NUMBERS = (
    "nan inf -inf 0x1p-3 1e400 1e-400 -0 +3 1e+5 . - .5 5. 1e 1e- 00012 infinity e5 1.2.3 1,5 x "
    "1e-30 3e38 16777217 0.1234567890123 -1e-3 1e10"
).split()


def number(rng: random.Random, odd: float) -> str:
    if rng.random() < odd:
        return rng.choice(ODD_NUMBERS)
    return rng.choice(
        [
            str(rng.randrange(-3, 6)),
            f"{rng.uniform(-2, 2):.{rng.randrange(1, 9)}f}",
            f"{rng.gauss(0, 1):.3g}",
            "1",
            "0.5",
        ]
    )


def label_part(rng: random.Random, kind: str, odd: float, classes: int) -> str:
    if rng.random() < 0.07:
        label = ""
    elif kind == "classes":
        label = str(rng.randint(1, classes))
        if rng.random() < odd / 4:
            label = rng.choice(["0", str(classes + 1), "-1"])
    elif kind == "click":
        label = rng.choice(["1", "-1"])
    elif kind == "yes":
        label = rng.choice(["1", "0"])
    elif kind == "count":
        label = str(rng.randrange(5))
    else:
        label = number(rng, odd)
    if label and rng.random() < 0.2:
        label += " " + rng.choice(["0", "0.5", "2", "7.25", "1", "1"])
        if rng.random() < odd / 4:
            label += "x"
        if rng.random() < 0.3 and kind != "classes":
            label += " " + rng.choice(["-0.5", "0.25", "1.5"])
    if rng.random() < 0.15:
        label += rng.choice([" 'tag", " t1", " 'ü", " ''", " a b" if rng.random() < odd else " q"])
    elif label:
        label += rng.choice([" ", " ", " ", "  "])
    if rng.random() < odd / 4 and kind != "classes":
        label = rng.choice(["1\t", "a b c d e ", "1 2 3 4 "]) + label
    return label


def feature(rng: random.Random, odd: float, names: int) -> str:
    name = rng.choice(
        [
            f"a{min(names, int(rng.paretovariate(0.9)))}",
            f"b{rng.randrange(names)}",
            str(rng.randrange(names)),
        ]
    )
    if rng.random() < odd:
        name = rng.choice(
            ["", "é", "日本", "007", "-7", "x\u00a0y", "4294967297", "a.b", "^", "\x01"]
        )
    kind = rng.random()
    if kind < 0.5:
        return name
    if kind < 0.85:
        return f"{name}:{number(rng, odd)}"
    if kind < 0.92:
        return f":{number(rng, odd)}"
    if kind < 0.92 + odd:
        return f"{name}:" + rng.choice(["", " 3", ":1", "1:2", "a|b", "0", "0.0", " foo"])
    return f"{name}:{rng.choice(['red', 'blue', 'é', 'x12'])}"


def line(rng: random.Random, kind: str, odd: float, classes: int, names: int) -> str:
    if rng.random() < odd / 8:
        return rng.choice(["", " ", "1", "\t", "|", "| ", "1 |", "\r", "garbage without a bar"])
    text = label_part(rng, kind, odd, classes)
    spaces = rng.sample(["a", "b", "c", "ab", "d", ""], rng.randint(1, 4))
    if rng.random() < 0.1:
        spaces.append(rng.choice(spaces))
    for space in spaces:
        if rng.random() < odd / 3:
            space = rng.choice(["é", "12", "Aa", ":", "_x", "~"])
        if space and rng.random() < 0.1:
            space += ":" + number(rng, odd / 2)
        blank = "\t" if rng.random() < odd / 6 else "  " if rng.random() < odd / 6 else " "
        members = [feature(rng, odd, names) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 5]))]
        text += f"|{space}{blank}" + blank.join(members) + rng.choice(["", " "])
    return text


def text(rng: random.Random, kind: str, odd: float, classes: int) -> bytes:
    names = rng.choice([3, 10, 40])
    n = rng.choice([1, 5, 20, 60, 150, 400])
    end = "\r\n" if rng.random() < 0.1 else "\n"
    lines = [line(rng, kind, odd, classes, names) for _ in range(n)]
    whole = end.join(lines) + (end if rng.random() < 0.9 else "")
    data = whole.encode()
    return b"\xef\xbb\xbf" + data if rng.random() < odd / 4 else data


# ---------------------------------------------------------------------------------------- options


def some(rng: random.Random, chance: float, *words: str) -> list[str]:
    return list(words) if rng.random() < chance else []


def pick(rng: random.Random, chance: float, name: str, *values: str) -> list[str]:
    return [name, rng.choice(values)] if rng.random() < chance else []


LABELS = {
    "squared": ("real", "click", "count"),
    "classic": ("real",),
    "hinge": ("click",),
    "logistic": ("click", "click", "real"),
    "quantile": ("real", "click"),
    "expectile": ("real",),
    "poisson": ("count",),
}


def learning(rng: random.Random) -> list[str]:
    """Draw the options that say how to learn."""
    kind = rng.random()
    words: list[str] = []
    if kind < 0.35:
        words += rng.choice([["--ftrl"], ["--pistol"], ["--coin"]])
        words += pick(rng, 0.3, "--ftrl_alpha", "0.1", "1", "3")
        words += pick(rng, 0.3, "--ftrl_beta", "0.1", "1", "0")
        words += pick(rng, 0.1, "-l", "0.1")
    elif kind < 0.7:
        words += some(rng, 0.3, "--sgd") + some(rng, 0.5, "--adaptive")
        words += some(rng, 0.4, "--normalized") + some(rng, 0.4, "--invariant")
        words += pick(rng, 0.7, "-l", "0.1", "0.02", "0.5", "1", "0")
        words += pick(rng, 0.1, "--sparse_l2", "0.01", "1e-3")
    else:
        words += pick(rng, 0.3, "-l", "0.1", "2", "0", "10")
        words += pick(rng, 0.05, "--sparse_l2", "0.01", "1e-3")
    words += pick(rng, 0.2, "--power_t", "0.5", "0", "0.3", "1", "0.7")
    words += pick(rng, 0.15, "--initial_t", "0", "1", "10", "0.5")
    words += pick(rng, 0.1, "--initial_weight", "0.1", "-0.01", "1e-3")
    words += pick(rng, 0.15, "--l1", "1e-3", "1e-6", "0.1", "1")
    words += pick(rng, 0.15, "--l2", "1e-3", "1e-6", "0.1", "1")
    if "--ftrl" not in words and "--pistol" not in words and "--coin" not in words:
        words += pick(rng, 0.03, "--l1_state", "0.001", "0.1")
        words += pick(rng, 0.03, "--l2_state", "0.9", "0.5")
    return words


SPACES = "abcd"


def features(rng: random.Random) -> list[str]:
    """Draw the options that say what features there are."""
    letters = SPACES + rng.choice(["", "", ":"])
    words: list[str] = []

    def term(size: int) -> str:
        return "".join(rng.choice(letters) for _ in range(size))

    if rng.random() < 0.45:
        for _ in range(rng.choice([1, 1, 2, 3])):
            size = rng.choice([2, 2, 3, rng.choice([2, 3, 4])])
            name = {2: "-q", 3: "--cubic"}.get(size, "--interactions")
            if rng.random() < 0.2:
                name = {"-q": "--quadratic"}.get(name, "--interactions")
            words += [name, term(size)]
        words += some(rng, 0.15, "--permutations")
        words += some(rng, 0.15, "--leave_duplicate_interactions")
    words += pick(rng, 0.1, "--ignore", *SPACES, "ab")
    words += pick(rng, 0.07, "--keep", *SPACES, "abc", "\\x20")
    words += pick(rng, 0.1, "--ignore_linear", *SPACES, "ac")
    words += pick(rng, 0.07, "--redefine", "a:=b", ":=ab", "b:=", "c:=:", "d:=a")
    words += some(rng, 0.15, "--noconstant")
    words += pick(rng, 0.08, "-C", "0.5", "-1")
    words += pick(rng, 0.1, "--hash", "all", "strings")
    words += pick(rng, 0.07, "--hash_seed", "7", "123456", "0")
    return words


def call(rng: random.Random, loss: str) -> list[str]:
    words = ["--loss_function", loss] if loss != "squared" or rng.random() < 0.2 else []
    if loss == "quantile":
        words += pick(rng, 0.6, "--quantile_tau", "0.1", "0.9", "0.3")
    if loss == "expectile":
        words += ["--expectile_q", rng.choice(["0.5", "0.1", "0.3"])]
    if loss == "logistic":
        words += some(rng, 0.1, "--logistic_min", "-2", "--logistic_max", "2")
    words += pick(rng, 0.2, "--link", "logistic", "glf1", "poisson", "identity")
    words += ["-b", str(rng.choice([5, 8, 10, 12, 18]))]
    words += pick(rng, 0.07, "--min_prediction", "-1", "0", "0.2")
    words += pick(rng, 0.07, "--max_prediction", "1", "0.7", "10")
    words += learning(rng) + features(rng)
    return words


OUT = ("-p", "p", "-r", "r")


def draw(seed: int) -> Draw:
    """Draw files and command lines."""
    rng = random.Random(seed)
    odd = rng.choice([0, 0, 0.1, 0.3])
    loss = rng.choice(list(LABELS))
    kind = rng.choice(LABELS[loss])
    if loss == "logistic" and kind == "real" and rng.random() < 0.5:
        kind = "yes"
    words, classes = call(rng, loss), 0
    if rng.random() < 0.2:
        classes = rng.choice([2, 3, 5])
        words = [*words, "--oaa", str(classes)]
        words += some(rng, 0.3, "--scores") + pick(rng, 0.1, "--indexing", "0", "1")
        words += some(rng, 0.2, "--probabilities")
        kind = "classes"
    if rng.random() < 0.12:
        words += ["--bootstrap", str(rng.choice([1, 2, 3, 5]))]
        words += pick(rng, 0.5, "--bs_type", "mean", "vote")
        words += pick(rng, 0.2, "--random_seed", "3", "17")
    files = {"a": text(rng, kind, odd, classes), "b": text(rng, kind, odd, classes)}
    words += pick(rng, 0.4, "-P", "1", "1", "10", "3.5", "1.2")
    turn = rng.random()
    out = list(OUT) if rng.random() < 0.85 else ["-p", "p"]
    if turn < 0.35:
        dump = pick(rng, 0.5, rng.choice(["--readable_model", "--invert_hash"]), "dump")
        tail = [*out, *dump, *some(rng, 0.2, "--predict_only_model")]
        tail += (
            some(rng, 0.25, "--audit") + some(rng, 0.1, "-t") + pick(rng, 0.1, "--examples", "7")
        )
        tail += some(rng, 0.05, "--quiet")
        return Draw(files, [["-d", "a", *words, *tail]])
    if turn < 0.65:
        passes = rng.choice(["2", "3", "5", "12"])
        tail = ["--passes", passes, "--cache_file", "cache", "-k", *out]
        tail += some(rng, 0.3, "--holdout_off") + pick(rng, 0.2, "--holdout_period", "2", "3", "5")
        tail += pick(rng, 0.15, "--holdout_after", "10", "50")
        tail += pick(rng, 0.2, "--early_terminate", "1", "2")
        tail += pick(rng, 0.2, "--decay_learning_rate", "0.5", "0.9")
        tail += some(rng, 0.3, "--predict_only_model")
        tail += pick(rng, 0.1, "--examples", "7", "30")
        tail += some(rng, 0.3, "--readable_model", "dump") + some(rng, 0.1, "--audit")
        return Draw(files, [["-d", "a", *words, *tail]])
    first = ["-d", "a", *words, "-f", "model"]
    first += some(rng, 0.2, "--predict_only_model") + some(rng, 0.2, "--save_resume")
    first += some(rng, 0.3, "--per_model_save_load") + some(rng, 0.2, "--readable_model", "dump0")
    again = [*repeated(words)] if rng.random() < 0.6 else []
    second = ["-d", rng.choice("ab"), *again, "-i", "model", *out]
    second += some(rng, 0.4, "-t") + some(rng, 0.2, "--preserve_performance_counters")
    second += some(rng, 0.2, "--audit") + some(rng, 0.4, "--readable_model", "dump")
    second += pick(rng, 0.1, "-l", "0.3") if "-l" not in second else []
    if rng.random() < 0.2:
        second += ["--passes", "3", "--cache_file", "cache", "-k"] + some(rng, 0.5, "--holdout_off")
    calls = [first, second]
    if rng.random() < 0.3:
        # The oracle's own model is damaged where it is saved by a run that only tests.
        calls[1] = [*(word for word in second if word != "-t"), "-f", "model2"]
        calls.append(["-d", "b", *again, "-i", "model2", *out, *some(rng, 0.5, "-t")])
    return Draw(files, calls)


def repeated(words: list[str]) -> Iterator[str]:
    """Yield the options that a model does not carry."""
    wanted = {"--loss_function", "--l1", "--l2", "--ftrl_alpha", "--ftrl_beta", "-P", "--link"}
    wanted |= {"--quantile_tau", "--expectile_q", "--logistic_min", "--logistic_max"}
    wanted |= {"--min_prediction", "--max_prediction"}
    flags = {"--permutations", "--leave_duplicate_interactions", "--scores", "--probabilities"}
    for i, word in enumerate(words):
        if word in flags:
            yield word
        elif word in wanted:
            yield from words[i : i + 2]


# ------------------------------------------------------------------------------------- comparison


class Oracle:
    """Vowpal Wabbit in a process of its own, a fork for each command line."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, folder: Path, words: list[str]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), words]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def ours(folder: Path, words: list[str]) -> int:
    error, data = io.StringIO(), io.BytesIO()
    out = io.TextIOWrapper(data, encoding="utf-8", errors="surrogateescape", newline="")
    before = os.getcwd()
    os.chdir(folder)
    code = 0
    try:
        with redirect_stderr(error), redirect_stdout(out):
            run(words)
    except (ValueError, OSError) as refusal:
        code = 1
        (folder / "error").write_text(str(refusal))
    finally:
        os.chdir(before)
        out.flush()
    (folder / "stderr").write_text(error.getvalue(), errors="surrogateescape")
    (folder / "stdout").write_bytes(data.getvalue())
    return code


def read(path: Path) -> str:
    return path.read_text(errors="surrogateescape") if path.exists() else "(no file)"


def same_line(own: str, other: str) -> bool:
    if own.startswith("\t") and sorted(own.split("\t")) == sorted(other.split("\t")):
        return True  # it sorts by products that may be no numbers, and then in no order
    a, b = SPLIT.split(own.strip()), SPLIT.split(other.strip())
    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        if x != y:
            try:
                u, v = float(x), float(y)
            except ValueError:
                return False
            if u != v and not abs(u - v) <= TOLERANCE * max(1.0, abs(v)):
                return False
    return True


def difference(own: str, other: str) -> str | None:
    """Return the first lines that differ beyond the tolerance."""
    a = [x for x in own.splitlines() if not SKIPPED.match(x)]
    b = [x for x in other.splitlines() if not SKIPPED.match(x)]
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y and not same_line(x, y):
            return f"line {i + 1}: {x!r} is not {y!r}"
    if len(a) != len(b):
        longer = a if len(a) > len(b) else b
        return f"{len(a)} lines are not {len(b)}: {longer[min(len(a), len(b))]!r}"
    return None


def unlogged(text: str) -> str:
    """Leave out the log, which comes from a thread of its own, in the middle of other lines."""
    return LOGGED.sub("", text)


def unsigned(text: str) -> str:
    """Leave out the sign of what is no number: the order of two factors decides it."""
    return text.replace("-nan", "nan")


def compare(seed: int, oracle: Oracle, folder: Path) -> str | None:
    """Run a draw in both; return what differs."""
    files, calls = draw(seed)
    places = folder / "ours", folder / "theirs"
    for place in places:
        place.mkdir()
        for name, data in files.items():
            (place / name).write_bytes(data)
    for words in calls:
        for name in ("p", "r", "dump", "dump0", "stderr", "stdout"):
            for place in places:
                (place / name).unlink(missing_ok=True)
        theirs = oracle(places[1], words)
        mine = ours(places[0], words)
        said = " ".join(words)
        if theirs < 0:
            return None  # it crashed: there is nothing to agree with
        if mine and "is no class number" in read(places[0] / "error"):
            return None  # the oracle drops this record and all that follow
        if (mine != 0) != (theirs != 0):
            why = read(places[0 if mine else 1] / "error").splitlines()[0:1]
            return f"{said}: ended {mine}, not {theirs}: {why}"
        if mine:
            return None
        for name in ("stderr", "p", "r", "stdout", "dump0", "dump"):
            own, other = (read(place / name) for place in places)
            if name == "stdout":
                own, other = unlogged(own), unlogged(other)
            found = difference(unsigned(own), unsigned(other))
            if found:
                return f"{said}: {name}: {found}"
    return None


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    started = Oracle()
    yield started
    started.close()


@pytest.mark.parametrize("part", range(8))
def test_draws(part: int, oracle: Oracle) -> None:
    differences = []
    for seed in range(part, DRAWS, 8):
        # The wheel's parser and learner are threads that write what they say as they come to it.
        for _ in range(TURNS):
            with tempfile.TemporaryDirectory() as folder:
                found = compare(seed, oracle, Path(folder))
            if not found:
                break
        else:
            differences.append(f"{seed}: {found}")
    assert not differences, "\n".join(differences)


def main() -> None:
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    oracle, failed, refused = Oracle(), 0, 0
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = compare(seed, oracle, Path(folder))
            except Exception as error:
                found = f"{draw(seed).calls}: {error!r}"
            refused += (Path(folder) / "ours" / "error").exists()
        if found:
            failed += 1
            print(seed, found, flush=True)
    oracle.close()
    print(f"{count} draws, {failed} differ, {refused} refused by both")


if __name__ == "__main__":
    main()
