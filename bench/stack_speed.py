"""The rows of `speed.py` that are about the stack: whole commands, and the budget of its parts."""

from __future__ import annotations

import argparse
import re
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchtools import (
    ROOT,
    Failure,
    circumstances,
    environment_of,
    make_data,
    measure,
    our_command,
    read_through,
    say,
    spread,
)
from drive import driven

TITLES = {"stack": "stack", "stack_untrained": "stack, no retraining", "budget": "the budget"}
TARGETS = {"stack": 5_000, "stack_untrained": 20_000}
"""Records a second, of the design's section on speed."""
SUFFIX = "snappy.parquet"
WARM = 5_000
"""Records of the first run, enough for trees to be trained and to serve."""


def untrained(preset: str) -> str:
    """Return the text of a preset without the entries that are trees."""
    head, *entries = re.split(r"^(?=\[\[)", preset, flags=re.M)
    return head + "".join(e for e in entries if not re.search(r'^kind *= *"trees"', e, re.M))


def bench(args: argparse.Namespace, rows: Sequence[str], folder: Path, scratch: Path) -> Any:
    """Measure the rows, each whole process a few times in turns, and the budget once."""
    records, ours = args.stack_records, shlex.split(args.command or "") or our_command()
    environment = environment_of(scratch / "kernels")
    files = {
        n: make_data(folder, n, args.seed, [SUFFIX])[SUFFIX] for n in {records, *args.stack_memory}
    }
    short = {n: make_data(scratch, n, args.seed, [SUFFIX])[SUFFIX] for n in (1, WARM)}
    preset = ROOT / "onlinestack" / "presets" / "stack.toml"
    config = scratch / "untrained.toml"
    config.write_text(untrained(preset.read_text(encoding="utf-8")), encoding="utf-8")
    read_through(list(files.values()))

    def run(row: str, file: Path) -> dict[str, Any]:
        how = ["--config", str(config)] if row == "stack_untrained" else ["--preset", "stack"]
        arguments = [*ours, "learn", str(file), "--label", "label", *how, "--quiet", "--json"]
        return measure(arguments, environment, scratch)

    commands = [row for row in rows if row != "budget"]
    result: dict[str, Any] = {
        **circumstances(),
        "records": records,
        "seed": args.seed,
        "first_run": {},
        "start_up": {},
        "scenarios": {},
        "memory": {},
    }
    for row in commands:
        result["first_run"][row] = run(row, short[WARM])["wall"]
        starts = [run(row, short[1])["wall"] for _ in range(3)]
        result["start_up"][row] = statistics.median(starts)
    runs: dict[str, list[dict[str, Any]]] = {row: [] for row in commands}
    for number in range(args.stack_rounds):
        for row in commands if number % 2 == 0 else commands[::-1]:
            done = run(row, files[records])
            if done["records"] != records:
                raise Failure(f"{TITLES[row]} learned {done['records']} records")
            say(f"round {number + 1}: {TITLES[row]} {done['wall']:.2f} s")
            runs[row].append(done)
    for row, mine in runs.items():
        result["scenarios"][f"speed.{row}"] = {
            "runs": mine,
            "wall": spread([each["wall"] for each in mine]),
            "cpu": spread([each["cpu"] for each in mine]),
            "records_per_second": spread([records / each["wall"] for each in mine]),
            "peak_mb": max(each["peak_mb"] for each in mine),
            "log_loss": mine[0]["log_loss"],
            "target": TARGETS[row],
        }
        peaks = {n: run(row, files[n])["peak_mb"] for n in args.stack_memory if n != records}
        peaks[records] = result["scenarios"][f"speed.{row}"]["peak_mb"]
        result["memory"][f"speed.{row}"] = {str(n): peaks[n] for n in sorted(peaks)}
    if "budget" in rows:
        say("the budget: one run in one process")
        order = {"paths": [str(files[records])], "source": {"label": "label"}}
        result["budget"] = budget(driven(order, environment_of()))
    return result


def budget(answer: dict[str, Any]) -> dict[str, Any]:
    """Turn the answer of `drive.py` into core-microseconds a record, dearest part first."""
    each = 1e6 / max(answer["records"], 1)
    taken = {name: seconds * each for name, seconds in answer["parts"].items()}
    read = dict(answer["reads"])
    for name, seconds in answer["training"].items():
        taken[f"training:{name}"] = seconds * each
        read[f"training:{name}"] = "window"
    rest = "reading, metrics, the rest"
    taken[rest], read[rest] = answer["cpu"] * each - sum(taken.values()), ""
    return {
        "records": answer["records"],
        "generations": answer["generations"],
        "log_loss": answer["log_loss"],
        "cpu_us": answer["cpu"] * each,
        "parts": {
            name: {"reads": read[name], "us": taken[name]}
            for name in sorted(taken, key=lambda name: -taken[name])
        },
    }


def table(result: dict[str, Any]) -> str:
    """Return what stands in the README: whole commands, memory, the budget."""
    host = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    lines = [
        f"{result['records']:,} records; {host['cores']} cores of {host['cpu']}; {versions};"
        f" {result['date'][:10]}, commit {result['commit']}."
    ]
    if result["scenarios"]:
        columns = "records/s min | **median** | max | to reach | wall s | CPU s | start-up s"
        sizes = list(next(iter(result["memory"].values())))
        peaks = " | ".join(f"peak MB at {int(n):,}" for n in sizes)
        lines += ["", f"| | {columns} | {peaks} | log-loss |", "|---|" + "---:|" * (8 + len(sizes))]
    for name, found in result["scenarios"].items():
        row, speed = name.removeprefix("speed."), found["records_per_second"]
        cells = [
            TITLES[row],
            f"{speed['min']:,.0f}",
            f"**{speed['median']:,.0f}**",
            f"{speed['max']:,.0f}",
            f"{found['target']:,}",
            f"{found['wall']['median']:.2f}",
            f"{found['cpu']['median']:.2f}",
            f"{result['start_up'][row]:.2f}",
            *(f"{peak:.0f}" for peak in result["memory"][name].values()),
            "" if found["log_loss"] is None else f"{found['log_loss']:.4f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if result["first_run"]:
        first = ", ".join(f"{TITLES[row]} {s:.1f} s" for row, s in result["first_run"].items())
        lines += ["", f"First run ever, {WARM:,} records, kernels compiled as met: {first}."]
    if "budget" in result:
        lines += ["", *_budget_table(result["budget"])]
    return "\n".join(lines)


def _budget_table(found: dict[str, Any]) -> list[str]:
    total = found["cpu_us"]
    lines = [
        f"Budget: {total:.1f} core-µs a record over {found['records']:,} records,"
        f" {found['generations']} generations trained in the foreground.",
        "",
        "| part | reads | core-µs a record | share |",
        "|---|---|---:|---:|",
    ]
    for name, part in found["parts"].items():
        title = name.removeprefix("score:").replace("training:", "training of ")
        share = part["us"] / max(total, 1e-9)
        lines.append(f"| {title} | {part['reads']} | {part['us']:.2f} | {share:.1%} |")
    return lines
