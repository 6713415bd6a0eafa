"""What the benches share: processes measured whole, logs generated, tables in ``README.md``."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
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
PACKAGES = ("onlinestack", "vowpalwabbit", "xgboost", "numpy", "numba", "pyarrow")


class Failure(Exception):
    """A run went wrong; the message says which and how."""


def our_command() -> list[str]:
    script = Path(sys.executable).with_name("onlinestack")
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "import sys; from onlinestack.cli import main; sys.exit(main())"]


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


def circumstances() -> dict[str, Any]:
    """Say when, of what and where something is measured."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"date": now, "commit": commit(), "machine": machine()}


def environment_of(cache: Path | None = None) -> dict[str, str]:
    """Return the environment of a measured process, with a folder for kernels of its own."""
    environment = dict(os.environ)
    if cache is not None:
        environment["ONLINESTACK_CACHE"] = str(cache)
    # an installed package has its bytecode; so has whatever is measured here
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    paths = (str(ROOT), os.environ.get("PYTHONPATH"))
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment


def save(result: dict[str, Any], path: Path) -> None:
    """Write results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


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


def write_table(readme: Path, text: str, name: str) -> None:
    """Put a text between the markers of its name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    old = readme.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        raise Failure(f"{readme} has no {begin} and {end} to write the table between")
    head, rest = old.split(begin, 1)
    tail = rest.split(end, 1)[1]
    readme.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
