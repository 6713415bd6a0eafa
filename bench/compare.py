"""Compare two revisions of the product, and fail where one is worse than the other.

    python bench/compare.py v0.1
    python bench/compare.py main HEAD --only acc-,speed-linear-parquet --json compared.json

BASE and HEAD (default: ``HEAD``) are whatever git calls a revision, checked out beside each other
for the time being, or folders that hold a checkout, ``.`` say. The scenarios (`scenarios.py`) are
those of this file's own checkout; nothing is installed, each side's package is first on the path.
Losses are compared exactly; times and memory by the median of ratios between runs that take turns.
The exit code is 1 where something is worse by more than its tolerance, or fails where it did not.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchtools import (
    ROOT,
    Failure,
    circumstances,
    data_folder,
    environment_of,
    make_data,
    measure,
    save,
    say,
)
from scenarios import SCENARIOS, Scenario

WORSE, BETTER, SAME = "WORSE", "better", "same"
NEW, FAILS, LACKING = "not in base", "FAILS", "in neither"
SIDES = ("base", "head")
SUFFIX = "snappy.parquet"


class UsageError(Exception):
    """What was asked for does not exist; the message says what."""


@contextlib.contextmanager
def checkouts(*revisions: str) -> Iterator[list[Path]]:
    """Check revisions out into folders that are there for the time being."""
    git = ["git", "-C", str(ROOT)]
    with tempfile.TemporaryDirectory(prefix="onlinestack-compare-") as made:
        folders: list[Path] = []
        added: list[Path] = []
        try:
            for number, revision in enumerate(revisions):
                if Path(revision, "onlinestack").is_dir():
                    folders.append(Path(revision).resolve())
                    continue
                folder = Path(made) / f"{number}"
                done = subprocess.run(
                    [*git, "worktree", "add", "--detach", "--quiet", str(folder), revision],
                    capture_output=True,
                    text=True,
                )
                if done.returncode:
                    raise UsageError(f"{revision!r} is neither a revision nor a checkout's folder")
                added.append(folder)
                folders.append(folder)
            yield folders
        finally:
            for folder in added:
                subprocess.run([*git, "worktree", "remove", "--force", str(folder)], check=False)


def side(folder: Path, scratch: Path) -> dict[str, str]:
    """Return the environment of one side, and make sure that its package is what is imported."""
    environment = environment_of()
    environment |= {"PYTHONPATH": str(folder), "OMP_WAIT_POLICY": "passive"}
    asked = [sys.executable, "-P", "-c", "import onlinestack; print(onlinestack.__file__)"]
    found = subprocess.run(asked, env=environment, capture_output=True, text=True, cwd=scratch)
    if not Path(found.stdout.strip() or "/").resolve().is_relative_to(folder.resolve()):
        raise Failure(f"{folder} has no package that can be imported: {found.stderr[-500:]}")
    return environment


def ratio(head: float, base: float) -> float:
    """Return head over base; both are seconds, megabytes or losses."""
    return head / base if base else float(head > 0) + 1.0


def judge(scenario: Scenario, base: Sequence[float], head: Sequence[float]) -> dict[str, Any]:
    """Say whether the head is worse, given the figures of each round.

    Returns
    -------
    ``base`` and ``head`` (medians), ``change`` (a difference for losses, else the median of the
    ratios, less 1) and the ``verdict``.
    """
    if scenario.exact:
        change = statistics.median(head) - statistics.median(base)
    else:
        change = statistics.median(map(ratio, head, base)) - 1
    verdict = SAME
    if not change <= scenario.tolerance:  # not a number is no better
        verdict = WORSE
    elif change < -scenario.tolerance:
        verdict = BETTER
    middles = {"base": statistics.median(base), "head": statistics.median(head)}
    return {**middles, "change": change, "verdict": verdict}


def compare(
    scenario: Scenario,
    sides: Sequence[Mapping[str, str]],
    files: Mapping[str, Path],
    rounds: int,
    scratch: Path,
) -> dict[str, Any]:
    """Run a scenario on both sides, in turns, and judge it; say what failed where one fails."""
    command = [sys.executable, "-P", *scenario.arguments(files)]
    figures: list[list[float]] = [[], []]
    failures = ["", ""]

    def run(which: int) -> None:
        try:
            done = measure(command, dict(sides[which]), scratch)
            figures[which].append(float(done[scenario.quantity]))
        except Failure as reason:
            failures[which] = str(reason)

    run(0), run(1)
    if not any(failures) and not scenario.exact:
        for each in figures:
            each.clear()  # kernels were compiled, and files read for the first time
        for number in range(rounds):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                run(which)
    if not any(failures):
        return judge(scenario, *figures)
    verdict = NEW if failures[0] and not failures[1] else FAILS
    if all(failures):
        verdict = LACKING
    return {"verdict": verdict, "failures": failures}


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the findings as lines of text."""
    lines = [f"{'scenario':<22}{'base':>14}{'head':>14}{'change':>11}{'allowed':>10}  verdict"]
    for name, each in found.items():
        exact = SCENARIOS[name].exact
        if "change" in each:
            figures = [f"{each[key]:.10f}" if exact else f"{each[key]:.3f}" for key in SIDES]
            change = f"{each['change']:+.1e}" if exact else f"{each['change']:+.1%}"
        else:
            figures, change = ["", ""], ""
        allowed = f"{each['tolerance']:.0e}" if exact else f"{each['tolerance']:+.0%}"
        lines.append(
            f"{name:<22}{figures[0]:>14}{figures[1]:>14}{change:>11}{allowed:>10}"
            f"  {each['verdict']}  ({each['says']})"
        )
    return "\n".join(lines)


def choose(only: str | None) -> dict[str, Scenario]:
    """Return the scenarios whose ids begin with one of some words, or all."""
    if only is None:
        return SCENARIOS
    chosen = {}
    for word in only.split(","):
        some = {name: each for name, each in SCENARIOS.items() if name.startswith(word)}
        if not some:
            raise UsageError(f"no scenario begins with {word!r}; --list names them")
        chosen |= some
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("base", nargs="?", metavar="BASE", help="a revision, or a folder with a checkout")
    add("head", nargs="?", metavar="HEAD", default="HEAD", help="the same; default: HEAD")
    add("--only", help="ids of scenarios, or how they begin, with commas between")
    add("--rounds", type=int, default=5, help="runs of each side, where one does not say it all")
    add("--data", type=Path, help="folder for generated logs")
    add("--json", type=Path, help="file for the findings")
    add("--list", action="store_true", help="name the scenarios and stop")
    args = parser.parse_args(arguments)
    if args.list:
        for name, each in SCENARIOS.items():
            print(f"{name:<22}{each.says}")
        return 0
    if args.base is None or args.rounds < 1:
        parser.error("give a BASE to compare with, and at least one round")
    found: dict[str, dict[str, Any]] = {}
    try:
        chosen = choose(args.only)
        with checkouts(args.base, args.head) as folders, data_folder(args.data) as data:
            sides = [side(folder, data) for folder in folders]
            logs = sorted({log for each in chosen.values() for log in each.logs}, key=int)
            files = {log: make_data(data, int(log), 0, [SUFFIX])[SUFFIX] for log in logs}
            for name, each in chosen.items():
                say(f"{name}: {each.says}")
                judged = compare(each, sides, files, args.rounds, data)
                found[name] = {"says": each.says, "tolerance": each.tolerance, **judged}
    except UsageError as error:
        parser.error(str(error))
    except Failure as error:
        say(str(error))
        return 1
    for each in found.values():
        for which, failure in zip(SIDES, each.get("failures", ()), strict=False):
            if failure:
                say(f"{which}: {failure}")
    print(table(found))
    if args.json:
        revisions = {"base": args.base, "head": args.head}
        save({**circumstances(), **revisions, "scenarios": found}, args.json)
    return int(any(each["verdict"] in (WORSE, FAILS) for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
