"""Measure what each part of the default preset is worth: the mixture with it, and without it.

    python bench/ablation.py --data FOLDER
    python bench/ablation.py --streams elec2,weather_ne --without bits,trees

A stream is one small TOML file in ``streams/`` (``file``, ``task``, options of `open_source`). A
cell is the mixture's progressive log-loss over one stream, with the default preset or without one
of its members, stackers or groups. The preset runs in a process of its own (`drive.py`); so does
what others lean on being gone, while all else is replayed from the margins that the members served
(`replay.py`). Cells are JSON files in ``results/ablation/``, margins lie beside them in
``margins/``; those that are there are used again, unless preset, stream or limit differ. The table
goes between the markers of ``README.md``, from all cells of the streams chosen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import statistics
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchtools import (
    BENCH,
    ROOT,
    STREAMS,
    Failure,
    commit,
    environment_of,
    save,
    say,
    write_table,
)
from drive import driven, preset_entries
from replay import replay

RULE = 0.05
"""Per cent that the mixture must be worse without a default member, over all streams."""
BASE = "nothing"
"""What the default preset is without."""
KEPT = ("records", "log_loss", "auc", "generations", "wall", "cpu", "parts", "training", "replayed")
"""What a cell keeps of what a run or replay says."""
Entries = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Variant:
    """The default preset without something.

    ``blank`` tells whether its statistics are, ``shares`` which parts have less to do.
    """

    name: str
    entries: Entries
    blank: bool = False
    note: str = ""
    shares: tuple[str, ...] = ()


def kind(entry: Mapping[str, Any]) -> str:
    return str(entry.get("kind", "linear"))


def letters(entry: Mapping[str, Any]) -> str:
    """Return the namespaces that an entry reads; nothing where it is no linear learner."""
    if kind(entry) != "linear":
        return ""
    return "".join([entry.get("reads", "f"), *entry.get("interactions", ())])


def variants(entries: Entries) -> list[Variant]:
    """Return the preset, the preset without each group, member and stacker, in this order."""
    members, stackers = entries["member"], entries["stacker"]
    made = [Variant(BASE, entries)]
    groups = {
        "statistics": [e["name"] for e in members if "c" in letters(e)],
        "all linear members": [e["name"] for e in members if kind(e) == "linear"],
        "all pairs ff": [e["name"] for e in members if "ff" in e.get("interactions", ())],
        "all bits": [e["name"] for e in members if kind(e) == "bits"],
        "all factorisation": [e["name"] for e in members if kind(e) == "factorisation"],
        "all trees": [e["name"] for e in members if kind(e) == "trees"],
        "all stackers": [e["name"] for e in stackers],
    }
    for name, gone in groups.items():
        if len(gone) > 1 or name == "statistics":
            made.append(without(name, entries, gone, blank=name == "statistics"))
    return made + [without(e["name"], entries, [e["name"]]) for e in (*members, *stackers)]


def without(name: str, entries: Entries, gone: Sequence[str], *, blank: bool = False) -> Variant:
    """Leave entries out; what leans on them leans on the next like it, or is left out too."""
    was = {entry["name"]: entry for entry in entries["member"]}
    kept = [dict(entry) for entry in entries["member"] if entry["name"] not in gone]
    notes = []
    for entry in list(kept):
        base = entry.get("base", "")
        inputs = [each for each in entry.get("inputs", ()) if each not in gone]
        if inputs != list(entry.get("inputs", ())):
            entry["inputs"] = inputs
            notes.append(f"{entry['name']} reads less")
        if base not in gone:
            continue
        same = (e["name"] for e in kept if _like(e, was[base]))
        entry["base"] = next(same, "")
        notes.append(f"{entry['name']} on {entry['base']}" if entry["base"] else "")
        if not entry["base"]:
            kept.remove(entry)
            notes[-1] = f"{entry['name']} gone too"
    stackers = [entry for entry in entries["stacker"] if entry["name"] not in gone]
    shares = ["statistics"] if blank else []
    if any(kind(was[each]) == "factorisation" for each in gone if each in was):
        shares.append("factorisation")
    left = {"member": kept, "stacker": stackers}
    return Variant(name, left, blank, "; ".join(notes), tuple(shares))


def can_replay(variant: Variant, base: Variant) -> bool:
    """Tell whether the members left serve what they do in the preset, and stackers read no more."""
    alone = all(set(letters(entry)) <= {"s"} for entry in variant.entries["stacker"])
    same = all(entry in base.entries["member"] for entry in variant.entries["member"])
    return alone and same and not variant.blank


def _like(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return kind(one) == kind(other) and letters(one) == letters(other)


def load_streams(folder: Path, data: Path, wanted: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read the descriptions of streams whose file the data folder has; all, or those wanted."""
    wanted = list(wanted)
    found: dict[str, dict[str, Any]] = {}
    known = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    for name in wanted or known:
        if name not in known:
            raise Failure(f"no stream {name!r} in {folder.name}/; known: {', '.join(known)}")
        stream = tomllib.loads(known[name].read_text(encoding="utf-8"))
        path = data / stream["file"]
        if path.exists() and stream["task"] == "click":
            found[name] = {**stream, "path": str(path)}
        elif wanted:
            why = "is no stream of clicks" if path.exists() else f"needs {stream['file']}"
            raise Failure(f"stream {name!r} {why}; see --data")
    if not found:
        raise Failure(f"the data folder has no file of the streams {', '.join(known)}; see --data")
    return found


def order_of(stream: Mapping[str, Any], variant: Variant, limit: int | None) -> dict[str, Any]:
    options = {k: v for k, v in stream.items() if k not in ("file", "path", "task")}
    return {
        "paths": [stream["path"]],
        "source": options,
        **variant.entries,
        "blank": variant.blank,
        "limit": limit,
    }


def cell_path(folder: Path, stream: str, variant: str) -> Path:
    return folder / f"{stream}--{re.sub(r'[^a-z0-9.]+', '-', variant.lower())}.json"


def key_of(order: Mapping[str, Any], stream: Mapping[str, Any]) -> str:
    """Return what a cell depends on, the code apart: a digest of its order and the preset."""
    preset = (ROOT / "onlinestack" / "presets" / "stack.toml").read_text(encoding="utf-8")
    settings = {k: v for k, v in tomllib.loads(preset).items() if k in ("learner", "stack")}
    asked = {**order, "paths": [stream["file"]], "settings": settings}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def known_cell(path: Path, key: str) -> dict[str, Any] | None:
    """Return the cell of a file, None where there is none or it is of something else."""
    try:
        cell: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cell if cell.get("key") == key else None


def fill(
    args: argparse.Namespace, name: str, stream: Mapping[str, Any], chosen: Sequence[Variant]
) -> None:
    """Replay or run what is not there yet of a stream: the preset first, then without things."""
    orders = {each.name: order_of(stream, each, args.limit) for each in chosen}
    keys = {each: key_of(order, stream) for each, order in orders.items()}
    paths = {each: cell_path(args.results, name, each) for each in orders}
    margins = args.results / "margins" / f"{name}-{keys[BASE]}.npz"
    base = chosen[0]
    lacking = [v for v in chosen if args.again or not known_cell(paths[v.name], keys[v.name])]
    again = [v for v in lacking if v != base and can_replay(v, base)]
    if again and base not in lacking and not margins.exists():
        lacking.insert(0, base)
    say(f"{name}: {len(lacking)} of {len(chosen)} cells to make, {len(again)} of them replays")
    for variant in lacking:
        if variant in again:
            answer = replayed(variant, base, known_cell(paths[BASE], keys[BASE]) or {}, margins)
        else:
            keep = {"keep": str(margins)} if variant == base else {}
            answer = driven(orders[variant.name] | keep, environment_of())
        cell = {"stream": name, "without": variant.name, "commit": commit()}
        cell |= {key: answer[key] for key in KEPT if key in answer}
        save(_rounded(cell | {"key": keys[variant.name]}), paths[variant.name])
        say(f"{name} without {variant.name}: {answer['log_loss']:.5f}")


def replayed(
    variant: Variant, base: Variant, cell: Mapping[str, Any], margins: Path
) -> dict[str, Any]:
    """Return a cell of members that served what they did in the preset's cell, as long as there.

    Factorisation, which all its members share, takes in proportion to their number.
    """
    answer = replay(variant.entries, base.entries, margins)
    parts = {name: cell["parts"][name] for name in answer["parts"]}
    if "factorisation" in parts:
        left, all_ = (
            sum(kind(entry) == "factorisation" for entry in each.entries["member"])
            for each in (variant, base)
        )
        parts["factorisation"] *= left / all_
    names = {entry["name"] for entry in variant.entries["member"]}
    training = {name: taken for name, taken in cell["training"].items() if name in names}
    timed = {"records": cell["records"], "parts": parts, "training": training}
    return {**answer, **timed, "replayed": True}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.7g}") if isinstance(value, float) else value


def saved_us(base: Mapping[str, Any], less: Mapping[str, Any], shares: Iterable[str]) -> float:
    """Return the processor microseconds a record that a variant saves.

    Those of the parts that are gone, and what shared ones take less; other parts differ by chance.
    """
    one, other = base["parts"], less["parts"]
    saved = sum(
        one[name] - other.get(name, 0) for name in one if name in shares or name not in other
    )
    if set(base["training"]) != set(less["training"]):
        saved += sum(base["training"].values()) - sum(less["training"].values())
    return float(saved * 1e6 / base["records"])


def compare(
    args: argparse.Namespace, streams: Mapping[str, Any], every: Sequence[Variant]
) -> list[dict[str, Any]]:
    """Return what the preset reaches, then a row for each variant that has cells, best first."""
    base_cells: dict[str, dict[str, Any]] = {}
    rows = []
    for variant in every:
        changes, saved, records = {}, 0.0, 0
        for name, stream in streams.items():
            key = key_of(order_of(stream, variant, args.limit), stream)
            cell = known_cell(cell_path(args.results, name, variant.name), key)
            if cell is None or not cell["log_loss"]:
                continue
            if variant.name == BASE:
                base_cells[name] = cell
            elif name in base_cells:
                base = base_cells[name]
                changes[name] = 100 * (cell["log_loss"] / base["log_loss"] - 1)
                saved += saved_us(base, cell, variant.shares) * base["records"]
                records += base["records"]
        if changes:
            row: dict[str, Any] = {
                "without": variant.name,
                "note": variant.note,
                "changes": changes,
            }
            row |= {"mean": statistics.mean(changes.values()), "us": saved / records}
            rows.append(row | {"median": statistics.median(changes.values())})
    rows.sort(key=lambda row: -row["mean"])
    return [{"base": base_cells}, *rows]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    base, rows = found[0]["base"], found[1:]
    if not base:
        raise Failure(f"no cell of the default preset is there; run --without {BASE}")
    commits = sorted({str(cell["commit"]) for cell in base.values()})
    records = sum(cell["records"] for cell in base.values())
    seconds = sum(cell["cpu"] for cell in base.values())
    lines = [
        f"{len(base)} streams, {records:,} records, {seconds * 1e6 / records:.0f} core-µs a record"
        f" with everything; commit {', '.join(commits)}. Per cent of log-loss.",
        "",
        "| without | core-µs | worse, mean | median | | " + " | ".join(base) + " |",
        "|---|---:|---:|---:|---|" + "---:|" * len(base),
    ]
    losses = [f"{cell['log_loss']:.4f}" for cell in base.values()]
    lines.append("| nothing: log-loss | | | | | " + " | ".join(losses) + " |")
    for row in rows:
        changes = row["changes"]
        verdict = "stays" if row["mean"] >= RULE else "out"
        if len(changes) < len(base):
            verdict = f"{len(changes)} of {len(base)}"
        name = f"{row['without']} ({row['note']})" if row["note"] else row["without"]
        cells = [name, f"{row['us']:.1f}", f"**{row['mean']:+.3f}**", f"{row['median']:+.3f}"]
        each = [f"{changes[s]:+.3f}" if s in changes else "" for s in base]
        lines.append("| " + " | ".join([*cells, verdict, *each]) + " |")
    return "\n".join(lines)


def default_data() -> Path:
    return Path(os.environ.get("ONLINESTACK_DATA") or ROOT.parent / "shared" / "data")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what each part of the stack is worth.")
    add = parser.add_argument
    add("--data", type=Path, default=default_data(), help="folder of the streams' files")
    add("--streams", default="", metavar="NAME,NAME", help="default: all that the data has")
    add("--without", default="", metavar="NAME,NAME", help="default: everything, one by one")
    add("--limit", type=int, help="records of each stream; default: all")
    add("--jobs", type=int, default=1, help="streams side by side; default: %(default)s")
    add("--again", action="store_true", help="run cells that are there, too")
    add("--list", action="store_true", help="say what can be left out, and run nothing")
    add("--descriptions", type=Path, default=STREAMS, help="folder of the streams' TOML files")
    add("--results", type=Path, default=BENCH / "results" / "ablation", help="folder of the cells")
    add("--readme", type=Path, default=BENCH / "README.md", help="gets the table")
    args = parser.parse_args(arguments)
    if args.jobs < 1 or (args.limit is not None and args.limit < 1):
        parser.error("--jobs and --limit must be above 0")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    try:
        every = variants(preset_entries())
        names = [variant.name for variant in every]
        if args.list:
            print("\n".join(names))
            return 0
        wanted = [text for text in args.without.split(",") if text] or names
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise Failure(f"nothing is called {unknown[0]!r}; choose from {', '.join(names)}")
        chosen = [v for v in every if v.name in wanted or v.name == BASE]
        wanted_streams = [text for text in args.streams.split(",") if text]
        streams = load_streams(args.descriptions, args.data, wanted_streams)
        with ThreadPoolExecutor(args.jobs) as pool:
            for _ in pool.map(lambda name: fill(args, name, streams[name], chosen), streams):
                pass
        text = table(compare(args, streams, every))
        write_table(args.readme, text, "ablation")
    except (Failure, RuntimeError, OSError) as error:
        say(f"ablation.py: {error}")
        return 1
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
