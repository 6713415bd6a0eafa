"""Measure `onlinestack learn` against Vowpal Wabbit on the same generated 39-field click log.

    python bench/speed.py --records 5000000 --rounds 5 --data FOLDER

Every run is a whole process, from start to exit: ours over Parquet, CSV and Vowpal Wabbit's text,
and Vowpal Wabbit over its text, with the driver of its wheel (``python -m vowpalwabbit -d FILE``,
which reads, parses and learns in C++). Each round runs all of them, one round forwards and the next
backwards, and a ratio only compares runs of one round, so that a machine that slows down
slows both sides. Files are read once before the clock starts. Our kernels are compiled before, in a
cache folder of this bench's own; the time that takes is shown apart.

Rows ``stack`` and ``stack_untrained`` are whole processes too, over fewer records of the same log:
the default preset, and the same without its trees. ``budget`` is one more run of the default
preset, from Python, that tells what each part takes.

Results go to ``results/speed.json`` and ``speed_stack.json`` and, as tables, between the markers of
``README.md``; those of rows that are not run stay.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import stack_speed
from benchtools import (
    BENCH,
    Failure,
    circumstances,
    data_folder,
    environment_of,
    make_data,
    measure,
    our_command,
    read_through,
    save,
    say,
    spread,
    write_table,
)

SUFFIXES = {"parquet": "snappy.parquet", "csv": "csv", "vw_text": "vw", "ours_vw": "vw", "vw": "vw"}
TITLES = {
    "parquet": "onlinestack, Parquet",
    "csv": "onlinestack, CSV",
    "vw_text": "onlinestack, VW text",
    "ours_vw": "onlinestack vw, VW text",
    "vw": "Vowpal Wabbit, VW text",
}
# section "speed" of the design: what the median ratio must reach
TARGETS = {"parquet": 3.0, "csv": 1.7, "vw_text": 1.0, "ours_vw": 1.0}
ROWS = ("vw", "parquet", "csv", "vw_text", "ours_vw", *stack_speed.TITLES)


def command(row: str, file: Path, bits: int, ours: Sequence[str]) -> list[str]:
    if row == "vw":
        learner = [sys.executable, "-m", "vowpalwabbit", "-d", str(file), "-b", str(bits)]
        return [*learner, "--loss_function", "logistic"]
    if row == "ours_vw":
        learner = [*ours, "vw", "-d", str(file), "-b", str(bits)]
        return [*learner, "--loss_function", "logistic"]
    options = ["--preset", "linear", "-b", str(bits), "--quiet", "--json"]
    label = [] if row == "vw_text" else ["--label", "label"]
    return [*ours, "learn", str(file), *label, *options]


def bench(
    args: argparse.Namespace, rows: Sequence[str], folder: Path, scratch: Path
) -> dict[str, Any]:
    ours = shlex.split(args.command) if args.command else our_command()
    environment = environment_of(scratch / "kernels")

    def run(row: str, file: Path) -> dict[str, Any]:
        return measure(command(row, file, args.bits, ours), environment, scratch)

    suffixes = [SUFFIXES[row] for row in rows]
    single = make_data(scratch, 1, args.seed, suffixes)
    files = make_data(folder, args.records, args.seed, suffixes)
    read_through(list(files.values()))
    result: dict[str, Any] = {
        **circumstances(),
        "records": args.records,
        "seed": args.seed,
        "bits": args.bits,
        "megabytes": {suffix: file.stat().st_size / 1e6 for suffix, file in files.items()},
        "first_run": {},
        "start_up": {},
        "scenarios": {},
        "memory": {},
    }
    for row in rows:
        # the first process compiles what this source needs; then start-up is measured
        result["first_run"][row] = run(row, single[SUFFIXES[row]])["wall"]
        starts = [run(row, single[SUFFIXES[row]])["wall"] for _ in range(3)]
        result["start_up"][row] = statistics.median(starts)
        say(f"{TITLES[row]}: one record {result['start_up'][row]:.2f} s")
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(args.rounds):
        done: dict[str, dict[str, Any]] = {}
        for row in rows if number % 2 == 0 else rows[::-1]:
            done[row] = run(row, files[SUFFIXES[row]])
            if done[row]["records"] != args.records:
                raise Failure(f"{TITLES[row]} learned {done[row]['records']} records")
            say(f"round {number + 1}: {TITLES[row]} {done[row]['wall']:.2f} s")
        rounds.append(done)
    for row in rows:
        result["scenarios"][f"speed.{row}"] = summary(row, rounds, args.records)
    for records in args.memory:
        sample = make_data(folder, records, args.seed, suffixes)
        for row in rows:
            peak = run(row, sample[SUFFIXES[row]])["peak_mb"]
            result["memory"].setdefault(f"speed.{row}", {})[str(records)] = peak
            say(f"{TITLES[row]}: {records:,} records, {peak:.0f} MB")
    return result


def summary(row: str, rounds: Sequence[dict[str, dict[str, Any]]], records: int) -> dict[str, Any]:
    mine = [done[row] for done in rounds]
    found: dict[str, Any] = {
        "runs": mine,
        "wall": spread([run["wall"] for run in mine]),
        "cpu": spread([run["cpu"] for run in mine]),
        "records_per_second": spread([records / run["wall"] for run in mine]),
        "peak_mb": max(run["peak_mb"] for run in mine),
        "log_loss": mine[0]["log_loss"],
    }
    if row != "vw" and "vw" in rounds[0]:
        found["ratio"] = spread([done["vw"]["wall"] / done[row]["wall"] for done in rounds])
        found["cpu_ratio"] = spread([done["vw"]["cpu"] / done[row]["cpu"] for done in rounds])
        found["target"] = TARGETS[row]
    return found


def table(result: dict[str, Any]) -> str:
    host = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    lines = [
        f"{result['records']:,} records, {len(next(iter(result['scenarios'].values()))['runs'])}"
        f" rounds, 2^{result['bits']} slots; {host['cores']} cores of {host['cpu']};"
        f" {versions}; {result['date'][:10]}, commit {result['commit']}.",
        "",
        "| | records/s | ratio min | **median** | max | to reach | wall s | CPU s | peak MB |"
        " start-up s | log-loss |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in result["scenarios"].items():
        row = name.removeprefix("speed.")
        ratios = ["", "1", "", ""]
        if "ratio" in found:
            low, middle, high = (found["ratio"][key] for key in ("min", "median", "max"))
            ratios = [f"{low:.2f}", f"**{middle:.2f}**", f"{high:.2f}", f"{found['target']:g}"]
        loss = "" if found["log_loss"] is None else f"{found['log_loss']:.4f}"
        cells = [
            TITLES[row],
            f"{found['records_per_second']['median']:,.0f}",
            *ratios,
            f"{found['wall']['median']:.2f}",
            f"{found['cpu']['median']:.2f}",
            f"{found['peak_mb']:.0f}",
            f"{result['start_up'][row]:.2f}",
            loss,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    ours = {row: wall for row, wall in result["first_run"].items() if row != "vw"}
    if ours:
        compiled = ", ".join(f"{TITLES[row]} {wall:.1f} s" for row, wall in ours.items())
        lines += ["", f"First run ever, kernels compiled as met, in this order: {compiled}."]
    if result["memory"]:
        sizes = list(next(iter(result["memory"].values())))
        lines += ["", "| peak MB | " + " | ".join(f"{int(n):,} records" for n in sizes) + " |"]
        lines += ["|---|" + "---:|" * len(sizes)]
        for name, peaks in result["memory"].items():
            cells = [f"{peak:.0f}" for peak in peaks.values()]
            lines.append(f"| {TITLES[name.removeprefix('speed.')]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


SECTIONS = (
    ("speed", "speed.json", bench, table, TITLES),
    ("stack", "speed_stack.json", stack_speed.bench, stack_speed.table, stack_speed.TITLES),
)
"""What stands between which markers, where its figures go, how they come about."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure speed against Vowpal Wabbit.")
    parser.add_argument("--records", type=int, default=5_000_000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--bits", type=int, default=24, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder that keeps the logs; default: a new one")
    parser.add_argument("--rows", default=",".join(ROWS), help="which to run; default: %(default)s")
    parser.add_argument(
        "--memory",
        default="",
        metavar="N,N",
        help="also the peak memory over so many records, as in 1000000,10000000",
    )
    parser.add_argument(
        "--stack-records", type=int, default=1_000_000, help="of its rows; default: %(default)s"
    )
    parser.add_argument("--stack-rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--stack-memory",
        metavar="N,N",
        help="its peak memory over so many records, too; default: a quarter of them",
    )
    parser.add_argument("--command", help="what to run in place of `onlinestack`")
    parser.add_argument(
        "--results", type=Path, default=BENCH / "results", help="folder of speed.json"
    )
    parser.add_argument("--readme", type=Path, default=BENCH / "README.md", help="gets the table")
    args = parser.parse_args(arguments)
    args.rows = args.rows.split(",")
    unknown = [row for row in args.rows if row not in ROWS]
    if unknown:
        parser.error(f"--rows names {unknown[0]!r}; choose from {', '.join(ROWS)}")
    if args.stack_memory is None:
        args.stack_memory = str(max(1, args.stack_records // 4))
    for key in ("memory", "stack_memory"):
        given = getattr(args, key)
        try:
            setattr(args, key, [int(text) for text in given.split(",") if text])
        except ValueError:
            option = "--" + key.replace("_", "-")
            parser.error(f"{option} is {given!r}; give numbers of records with commas between")
    if min(args.records, args.rounds, args.stack_records, args.stack_rounds) < 1:
        parser.error("numbers of records and rounds must be above 0")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    scratch = Path(tempfile.mkdtemp(prefix="onlinestack-bench-"))
    try:
        with data_folder(args.data) as folder:
            for name, file, measured, told, titles in SECTIONS:
                rows = [row for row in args.rows if row in titles]
                if not rows:
                    continue
                result = measured(args, rows, folder, scratch)
                save(result, args.results / file)
                text = told(result)
                write_table(args.readme, text, name)
                print(text, flush=True)
    except (Failure, RuntimeError, OSError, subprocess.CalledProcessError) as error:
        say(f"speed.py: {error}")
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
