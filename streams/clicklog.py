"""Write a seeded, realistic click log: Zipf fields, ids that are born and die, drift, late clicks.

``python streams/clicklog.py --records 100000 --seed 0 --out clicks.parquet`` writes a log;
``README.md`` beside this file is its data card and explains the keys of a layout.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from clicklog_model import CLICK_TIME, ClickLog
from clicklog_sinks import Sink, open_sink
from numpy.typing import NDArray

__all__ = ["ClickLog", "main", "split_delayed", "write_log"]


def split_delayed(
    batches: Iterator[pa.RecordBatch], label: str
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Split batches with `click_time` into impressions and the clicks that came meanwhile.

    Yields pairs of batches: the impressions without their label, and the clicks (id, time) up to
    the time of the last of these impressions, in order of time. A last pair of no impressions
    holds the clicks that came after the log's end.
    """
    ids: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    times = ids.copy()
    empty: pa.RecordBatch | None = None
    for batch in batches:
        names = [n for n in batch.schema.names if n not in (label, CLICK_TIME)]
        impressions = batch.select(names)
        empty = impressions.slice(0, 0)
        id_name, time_name = names[:2]
        clicked = pc.is_valid(batch[CLICK_TIME])
        ids = np.concatenate([ids, batch[id_name].filter(clicked).to_numpy()])
        times = np.concatenate([times, batch[CLICK_TIME].filter(clicked).to_numpy()])
        order = np.lexsort((ids, times))
        ids, times = ids[order], times[order]
        due = int(np.searchsorted(times, batch[time_name][-1].as_py(), side="right"))
        yield impressions, _clicks(ids[:due], times[:due], id_name, time_name)
        ids, times = ids[due:], times[due:]
    if empty is not None:
        id_name, time_name = empty.schema.names[:2]
        yield empty, _clicks(ids, times, id_name, time_name)


def _clicks(
    ids: NDArray[np.int64], times: NDArray[np.int64], id_name: str, time_name: str
) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(ids), pa.array(times)], names=[id_name, time_name])


def write_log(
    log: ClickLog, records: int, paths: Sequence[Path], batch_size: int, delayed: bool
) -> dict[str, Any]:
    """Write one log to all paths in a single pass and count what was written."""
    sinks: list[tuple[Sink, ...]] = []
    clicks = written = 0
    try:
        source = log.batches(records, batch_size, delayed=delayed)
        for parts in split_delayed(source, log.label) if delayed else ((b,) for b in source):
            if not sinks:
                names = ("impressions", "clicks") if delayed else ("",)
                sinks = [
                    tuple(
                        open_sink(_named(path, name), part.schema, log.label, (log.id, log.time))
                        for name, part in zip(names, parts, strict=True)
                    )
                    for path in paths
                ]
            for group in sinks:
                for sink, part in zip(group, parts, strict=True):
                    if part.num_rows:
                        sink.write(part)
            written += parts[0].num_rows
            clicks += parts[-1].num_rows if delayed else pc.sum(parts[0][log.label]).as_py()
    finally:
        for group in sinks:
            for sink in group:
                sink.close()
    return {"records": written, "clicks": clicks, "fields": len(log.fields), "seed": log.seed}


def _named(path: Path, what: str) -> Path:
    stem, dot, suffixes = path.name.partition(".")
    if not what:
        return path
    return path.with_name(f"{stem}.{what}{dot}{suffixes}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="clicklog.py", description="Write a seeded click log.")
    parser.add_argument("--records", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, nargs="+", required=True, metavar="FILE",
        help=".parquet, .csv[.gz|.zst] or .vw[.gz|.zst]; several files get the same records",
    )  # fmt: skip
    parser.add_argument(
        "--layout", default="web", help="web, criteo or a TOML file; default: %(default)s"
    )
    parser.add_argument("--click-rate", type=float, help="share of clicks; default: the layout's")
    parser.add_argument("--per-day", type=float, help="records a day; default: the layout's")
    parser.add_argument("--batch-size", type=int, default=131_072, help="default: %(default)s")
    parser.add_argument(
        "--delayed", action="store_true",
        help="two files for each FILE: NAME.impressions.SUFFIX and NAME.clicks.SUFFIX",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    if args.records < 1:
        parser.error(f"--records is {args.records}; give a number above 0")
    if args.delayed and any(".vw" in path.suffixes for path in args.out):
        parser.error("--delayed writes ids and times, which .vw has no place for; use .parquet")
    try:
        log = ClickLog(
            args.layout, seed=args.seed, click_rate=args.click_rate, per_day=args.per_day
        )
        counts = write_log(log, args.records, args.out, args.batch_size, args.delayed)
    except (ValueError, OSError) as error:
        print(f"clicklog.py: {error}", file=sys.stderr)
        return 1
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
