"""Measure `onlinestack learn` against Vowpal Wabbit on the same generated 39-field click log.

    python bench/speed.py --records 5000000 --rounds 5 --data FOLDER

Every run is a whole process, from start to exit: ours over Parquet, CSV and Vowpal Wabbit's text,
and Vowpal Wabbit over its text, with the driver of its wheel (``python -m vowpalwabbit -d FILE``,
which reads, parses and learns in C++). Each round runs all of them, one round forwards and the next
backwards, and a ratio only compares runs of one round, so that a machine that slows down
slows both sides. Files are read once before the clock starts. Our kernels are compiled before, in a
cache folder of this bench's own; the time that takes is shown apart.

Results go to ``results/speed.json`` and, as tables, between the markers of ``README.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
STREAMS = ROOT / "streams"
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
PACKAGES = ("onlinestack", "vowpalwabbit", "numpy", "numba", "pyarrow")


class Failure(Exception):
    """A run went wrong; the message says which and how."""


def our_command() -> list[str]:
    script = Path(sys.executable).with_name("onlinestack")
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "import sys; from onlinestack.cli import main; sys.exit(main())"]


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


def measure(arguments: Sequence[str], environment: dict[str, str], folder: Path) -> dict[str, Any]:
    """Run one process; wall and CPU seconds, peak resident MB, and what it said of its loss."""
    out_path, error_path = folder / "stdout", folder / "stderr"
    with out_path.open("wb") as out, error_path.open("wb") as error:
        began = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=out, stderr=error, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    said = out_path.read_text(errors="replace")
    complaint = error_path.read_text(errors="replace")
    if process.returncode:
        raise Failure(
            f"exit code {process.returncode} from: {shlex.join(arguments)}\n{complaint[-2000:]}"
        )
    return {
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
        **outcome(said, complaint),
    }


def outcome(said: str, complaint: str) -> dict[str, Any]:
    """Find records and log-loss in the summary of either learner."""
    for line in reversed(said.splitlines()):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "summary":
                return {"records": event["learned"], "log_loss": event["log_loss"]}
    loss = re.search(r"average loss = ([0-9.]+)", complaint + said)
    count = re.search(r"number of examples = (\d+)", complaint + said)
    return {
        "records": int(count[1]) if count else None,
        "log_loss": float(loss[1]) if loss else None,
    }


def make_data(folder: Path, records: int, seed: int, suffixes: Sequence[str]) -> dict[str, Path]:
    """Generate the log once; files of an earlier run of the same generator are used again."""
    sources = [*sorted(STREAMS.glob("clicklog*.py")), STREAMS / "layouts" / "criteo.toml"]
    version = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]
    stem = f"criteo-{records}-seed{seed}-{version}"
    files = {suffix: folder / f"{stem}.{suffix}" for suffix in dict.fromkeys(suffixes)}
    lacking = {s: folder / f"unfinished-{stem}.{s}" for s, f in files.items() if not f.exists()}
    if lacking:
        say(f"generating {records:,} records")
        script = [sys.executable, str(STREAMS / "clicklog.py"), "--layout", "criteo"]
        out = ["--out", *map(str, lacking.values())]
        arguments = [*script, "--records", str(records), "--seed", str(seed), *out]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
        for suffix, path in lacking.items():
            path.replace(files[suffix])
    return files


def read_through(paths: Sequence[Path]) -> None:
    """Bring files into the system's cache, so that no run pays for the disk."""
    for path in paths:
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        model = names[0] if names else model
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": model, "cores": cores, "system": platform.system(), "versions": versions}


def commit() -> str | None:
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        asked = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


@contextlib.contextmanager
def data_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="onlinestack-bench-") as made:
        yield Path(made)


def bench(args: argparse.Namespace, folder: Path, scratch: Path) -> dict[str, Any]:
    rows: list[str] = args.rows
    ours = shlex.split(args.command) if args.command else our_command()
    environment = {**os.environ, "ONLINESTACK_CACHE": str(scratch / "kernels")}
    # an installed package has its bytecode; so has whatever is measured here
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part
    )

    def run(row: str, file: Path) -> dict[str, Any]:
        return measure(command(row, file, args.bits, ours), environment, scratch)

    suffixes = [SUFFIXES[row] for row in rows]
    single = make_data(scratch, 1, args.seed, suffixes)
    files = make_data(folder, args.records, args.seed, suffixes)
    read_through(list(files.values()))
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
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


def write_table(readme: Path, text: str) -> None:
    begin, end = "<!-- speed:begin -->", "<!-- speed:end -->"
    old = readme.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        raise Failure(f"{readme} has no {begin} and {end} to write the table between")
    head, rest = old.split(begin, 1)
    tail = rest.split(end, 1)[1]
    readme.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure speed against Vowpal Wabbit.")
    parser.add_argument("--records", type=int, default=5_000_000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--bits", type=int, default=24, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder that keeps the logs; default: a new one")
    parser.add_argument(
        "--rows",
        default="vw,parquet,csv,vw_text,ours_vw",
        help="which to run; default: %(default)s",
    )
    parser.add_argument(
        "--memory",
        default="",
        metavar="N,N",
        help="also the peak memory over so many records, as in 1000000,10000000",
    )
    parser.add_argument("--command", help="what to run in place of `onlinestack`")
    parser.add_argument(
        "--results", type=Path, default=BENCH / "results", help="folder of speed.json"
    )
    parser.add_argument("--readme", type=Path, default=BENCH / "README.md", help="gets the table")
    args = parser.parse_args(arguments)
    args.rows = args.rows.split(",")
    unknown = [row for row in args.rows if row not in TITLES]
    if unknown:
        parser.error(f"--rows names {unknown[0]!r}; choose from {', '.join(TITLES)}")
    try:
        args.memory = [int(text) for text in args.memory.split(",") if text]
    except ValueError:
        parser.error(f"--memory is {args.memory!r}; give numbers of records with commas between")
    if args.records < 1 or args.rounds < 1:
        parser.error("--records and --rounds must be above 0")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    scratch = Path(tempfile.mkdtemp(prefix="onlinestack-bench-"))
    try:
        with data_folder(args.data) as folder:
            result = bench(args, folder, scratch)
        args.results.mkdir(parents=True, exist_ok=True)
        path = args.results / "speed.json"
        path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        text = table(result)
        write_table(args.readme, text)
    except (Failure, OSError, subprocess.CalledProcessError) as error:
        say(f"speed.py: {error}")
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
