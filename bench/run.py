"""Measure learners over streams: quality, speed and memory, each cell in a process of its own.

    python bench/run.py                          # everything that is not there yet, then the pages
    python bench/run.py --quick                  # a few learners and short streams, in minutes
    python bench/run.py --streams elec2 criteo_dac@5000 --learners "VW" "onlinestack stack"

A cell is one learner over one track: the records of a stream in their order, each predicted before
its label is learned; ``NAME@DELAY`` holds labels back until DELAY more records are predicted. Cells
are JSON files in ``results/cells/``; those that are there are used again, unless what they depend
on has changed: the stream, its length, the learner's settings and code, versions of libraries, or,
where a cell was cut, a longer time limit. The pages are made from all cells (`pages.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchtools import BENCH, ROOT, STREAMS, Failure, circumstances, environment_of, save, say
from learners import learners
from makers import MAKERS, make
from tracks import NotInstalled, Peer, Track, open_track

LATE = ("criteo_attribution_1pct@5000", "bank_marketing@1000")
"""Tracks whose labels come late, besides all streams with labels at once."""
QUICK_STREAMS = ("phishing", "bananas@200", "image_segments", "clicklog")
QUICK_LEARNERS = (
    "onlinestack linear",
    "onlinestack stack",
    "running rate",
    "VW",
    "XGBoost",
    "river LogisticRegression",
)
QUICK = {"records": 5000, "limit": 10.0}
THREADED = ("onlinestack", "Vowpal Wabbit", "XGBoost", "LightGBM")
"""Families of learners that keep more than one core busy: nothing runs beside their cells."""
QUIET = {"OMP_WAIT_POLICY": "passive"}
"""Threads of XGBoost, LightGBM and the like that wait for others take no processor time."""
GRACE = 300.0
"""Seconds that a cell may take besides ten times its limit; then it is killed."""


def default_data() -> Path:
    return Path(os.environ.get("ONLINESTACK_DATA") or ROOT.parent / "shared" / "data")


def find_tracks(args: argparse.Namespace, wanted: Sequence[str]) -> list[Track]:
    """Return the tracks wanted, or all whose records are there or can be made."""
    known = {path.stem: path for path in sorted(args.descriptions.glob("*.toml"))}
    found = []
    for name in wanted or [*known, *LATE]:
        stream, _, late = name.partition("@")
        if wanted and stream not in known:
            raise Failure(f"no stream {stream!r} in {args.descriptions}; known: {', '.join(known)}")
        if late and not late.isdecimal():
            raise Failure(f"{name!r}: behind @ comes a number of records, as in {stream}@1000")
        path = _records(args, stream) if stream in known else None
        if path is not None:
            delay = int(late or 0)
            found.append(open_track(known[stream], path, limit=args.records, delay=delay))
        elif wanted:
            raise Failure(f"stream {stream!r} needs {stream}.parquet; see --data")
    return [track for track in found if track.task == "click"]


def _records(args: argparse.Namespace, stream: str) -> Path | None:
    """Return the file of a stream, which may be made now; None where there is none."""
    for path in (args.data / f"{stream}.parquet", args.made / f"{stream}.parquet"):
        if path.exists():
            return path
    if stream not in MAKERS:
        return None
    say(f"making {path.name}")
    try:
        make(stream, path)
    except NotInstalled as error:
        say(f"{stream}: {error}")
        return None
    return path


def _here(module: str) -> bool:
    """Tell whether a module is one of the benches'."""
    path = getattr(sys.modules[module], "__file__", None)
    return path is not None and BENCH in Path(path).parents


def digest(path: Path) -> str:
    """Return what tells a file from what it was."""
    now = path.stat()
    return _digest(path, now.st_mtime_ns, now.st_size)


@lru_cache
def _digest(path: Path, changed: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def key_of(track: Track, learner: Peer) -> str:
    """Return a digest of what a cell depends on, the time limit and the machine apart."""
    code = set(learner.code()) if hasattr(learner, "code") else set()
    for one in vars(sys.modules[type(learner).__module__]).values():
        if (inspect.isclass(one) or inspect.isfunction(one)) and _here(one.__module__):
            code.add(Path(inspect.getfile(one)))
    parts: list[Any] = [track.name, dict(track.options), digest(track.path), track.limit]
    parts += [learner.name, dict(learner.settings), learner.versions()]
    parts += [digest(path) for path in sorted(code)]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def cell_path(folder: Path, track: Track, learner: Peer) -> Path:
    slug = re.sub(r"[^a-z0-9.]+", "-", learner.name.lower()).strip("-")
    return folder / f"{track.name}--{slug}.json"


def known_cell(path: Path) -> dict[str, Any]:
    """Return the cell of a file; an empty one where there is none."""
    try:
        cell: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cell


def lacking(args: argparse.Namespace, track: Track, learner: Peer) -> bool:
    """Tell whether a cell is to be made: not there, of something else, or cut too early."""
    cell = known_cell(cell_path(args.results, track, learner))
    try:
        same = cell.get("key") == key_of(track, learner)
    except NotInstalled:
        return True
    return args.again or not same or (cell.get("cut", False) and cell["seconds"] < args.limit)


def make_cell(args: argparse.Namespace, track: Track, learner: Peer, jobs: int) -> dict[str, Any]:
    """Run one cell and return it; what goes wrong is told in it, and how many run side by side."""
    cell = {
        "track": track.name,
        "learner": learner.name,
        "family": learner.family,
        "settings": dict(learner.settings),
        "marks": list(learner.marks),
        "seconds": args.limit,
        "jobs": jobs,
        **circumstances(),
    }
    cell["machine"].pop("versions")
    try:
        cell |= {"versions": learner.versions(), "key": key_of(track, learner)}
    except NotInstalled as error:
        return cell | {"not_installed": str(error)}
    order = {
        "stream": str(args.descriptions / f"{track.stream}.toml"),
        "path": str(track.path.resolve()),
        "limit": track.limit,
        "delay": track.delay,
        "learner": learner.name,
        "seconds": args.limit,
    }
    try:
        return cell | answer_of(order)
    except Failure as error:
        return cell | {"failed": str(error)}


def answer_of(order: dict[str, Any]) -> dict[str, Any]:
    """Run `cell.py` and return what it measured, with the cores that others kept busy meanwhile."""
    patience = 10 * order["seconds"] + GRACE
    with tempfile.TemporaryFile() as said:
        before, began = _busy(), time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(BENCH / "cell.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment_of() | QUIET,
            start_new_session=True,
        )
        try:
            text, _ = process.communicate(json.dumps(order).encode(), patience)
        except subprocess.TimeoutExpired:
            raise Failure(f"did not stop within {patience:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        wall, busy = time.monotonic() - began, _busy()
        said.seek(0)
        complaint = said.read().decode(errors="replace").strip()
    if process.returncode:
        raise Failure((complaint.splitlines() or [f"exit code {process.returncode}"])[-1][-300:])
    answer: dict[str, Any] = json.loads(text)
    own = answer.pop("cpu_all")
    if before is not None and busy is not None:
        answer["others"] = max(0.0, (busy - before - own) / wall)
    return answer


def _busy() -> float | None:
    """Return the processor seconds of all processes since the system's start; None if not told."""
    try:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, *rest = map(int, words[:8])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def fill(args: argparse.Namespace, tracks: Sequence[Track], chosen: Iterable[Peer]) -> None:
    """Make the cells that are lacking: learners of several threads first, nothing beside them."""
    todo = [(t, each) for each in chosen for t in tracks if lacking(args, t, each)]
    alone = [job for job in todo if job[1].family in THREADED]
    beside = [job for job in todo if job[1].family not in THREADED]
    say(f"{len(todo)} cells to make")
    for jobs, some in ((1, alone), (args.jobs, beside)):
        _fill(args, some, jobs)


def _fill(args: argparse.Namespace, todo: Sequence[tuple[Track, Peer]], jobs: int) -> None:
    """Make cells, so many side by side."""

    def one(job: tuple[Track, Peer]) -> None:
        track, learner = job
        cell = make_cell(args, track, learner, jobs)
        save(rounded(cell), cell_path(args.results, track, learner))
        say(f"{track.name}, {learner.name}: {told(cell)}")

    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(one, todo):
            pass


def told(cell: dict[str, Any]) -> str:
    for key in ("not_installed", "failed"):
        if key in cell:
            return f"{key.replace('_', ' ')}: {cell[key]}"
    cut = f" of {cell['records']:,}" if cell["cut"] else ""
    loss = cell["scores"]["log_loss"]
    shown = "no label" if loss is None else f"log-loss {loss:.5f}"
    return f"{shown}, {cell['done']:,}{cut} records in {cell['wall']:.1f} s"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure learners over streams.")
    add = parser.add_argument
    add("--data", type=Path, default=default_data(), help="folder of the streams' files")
    add("--made", type=Path, default=BENCH / "made", help="folder for streams that are made here")
    add("--streams", nargs="+", default=[], metavar="NAME[@DELAY]", help="default: all there are")
    add("--learners", nargs="+", default=[], metavar="NAME", help="default: all there are")
    add("--records", type=int, help="records of each stream, the first; default: all")
    add(
        "--limit",
        type=float,
        default=15.0,
        help="processor seconds a cell may take; default: %(default)s",
    )
    add(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="cells of learners of one thread side by side; default: as many as cores",
    )
    add("--again", action="store_true", help="make cells that are there, too")
    add("--quick", action="store_true", help="short streams, few learners; leaves the pages alone")
    add("--list", action="store_true", help="name streams and learners, and run nothing")
    add("--pages", action="store_true", help="write the pages, and run nothing")
    add("--descriptions", type=Path, default=STREAMS, help="folder of the streams' TOML files")
    add("--results", type=Path, default=BENCH / "results" / "cells", help="folder of the cells")
    add("--page", type=Path, default=BENCH / "README.md", help="gets the tables and pictures")
    args = parser.parse_args(arguments)
    if args.jobs < 1 or args.limit <= 0 or (args.records is not None and args.records < 1):
        parser.error("--jobs, --limit and --records must be above 0")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    try:
        if args.pages:
            return write(args)
        known = learners()
        streams, chosen = args.streams, args.learners
        if args.quick:
            args.records, args.limit = args.records or QUICK["records"], QUICK["limit"]
            args.results = args.made / "quick"
            streams, chosen = streams or list(QUICK_STREAMS), chosen or list(QUICK_LEARNERS)
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise Failure(f"no learner is called {unknown[0]!r}; choose from {', '.join(known)}")
        tracks = find_tracks(args, streams)
        if args.list:
            print("\n".join(["streams:", *(track.name for track in tracks)]))
            print("\n".join(["learners:", *known]))
            return 0
        fill(args, tracks, [known[name] for name in chosen or known])
        return write(args)
    except (Failure, OSError) as error:
        say(f"run.py: {error}")
        return 1


def write(args: argparse.Namespace) -> int:
    """Write the pages from all cells; print the short table alone after a quick run."""
    from pages import load_cells, short_table, write_pages

    cells = load_cells(args.results)
    if args.quick:
        print(short_table(cells))
    else:
        write_pages(cells, args.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
