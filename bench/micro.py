"""Measure kernels alone against what the memory of this machine can do.

    python bench/micro.py

One thread learns a click log of 39 fields with the default stack, quantum after quantum, and its
processor time is taken part by part; linear learners of three sizes learn the same blocks. Beside
each stands the least time that its memory traffic takes (`limits.py`), measured in between. The
share of the limit is that time over the time taken: near 100 % memory is the bound, far below it
arithmetic is. The table goes between the markers of ``README.md``, medians of the quanta behind the
first half; the rest to ``results/micro.json``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from benchtools import (
    BENCH,
    Failure,
    circumstances,
    data_folder,
    make_data,
    save,
    say,
    write_table,
)
from limits import Memory, seconds_of, touched

SIZES = (18, 22, 24)
"""Binary logarithms of the weights of the linear learners measured beside those of the stack."""
SUFFIX, QUANTUM = "snappy.parquet", 4096
WINDOW = 5_000
"""Rows that trees are trained on: their number and depth are what counts here."""
TITLES = {
    "hash": "hash the columns of text",
    "encode": "encode, as Parquet gives it",
    "statistics": "click-rate statistics",
    "random bits": "random bits, made",
    "score:bits 1.4": "random bits, learned",
    "linear 2^18": "linear, 2^18 weights",
    "linear 2^22": "linear, 2^22 weights",
    "linear 2^24": "linear, 2^24 weights",
    "score:ff 0.1": "linear, all pairs, 2^18 weights",
    "factorisation": "factorised pairs, two rates",
    "score:trees": "forest, walked",
    "score:newton 30000": "Newton stacker",
    "mixture": "mixture",
}


def quanta(model: Any, batch: Any) -> Iterator[tuple[Any, Any, dict[str, float]]]:
    """Run a stack in this thread; yield each block, its tape, and seconds of each part."""
    from onlinestack import engine as engines

    stack = model._started()
    encoding: list[float] = []

    def block_of(start: int, stop: int) -> Any:
        before = time.thread_time()
        block = model._block(batch, start, stop, True)
        encoding.append(time.thread_time() - before)
        return stack.layout.lay(block)

    with mock.patch.object(engines, "ENOUGH", sys.maxsize):
        before = dict(stack.engine.seconds)
        for _, _, block, tape in stack.engine.quanta(batch.label, block_of):
            now = dict(stack.engine.seconds)
            parts = {name: now[name] - before[name] for name in now}
            yield block, tape, parts | {"encode": encoding[-1]}
            before = now


def measure(path: Path) -> dict[str, Any]:
    """Run everything over a log and return what the table shows."""
    import pyarrow as pa

    from onlinestack import OnlineStacker, open_source
    from onlinestack.assembly import linear_part
    from onlinestack.features.arrow import hash_values
    from onlinestack.recipe import Linear

    source = open_source(path, label="label")
    model = OnlineStacker(background=False, window_rows=WINDOW, train_threads=1)
    model.start(source.schema)
    model.warm()
    linear = {b: linear_part(Linear("", bits=b), b) for b in SIZES}
    for part in linear.values():
        part.weights.fill(0)  # so that the system has given the pages
    taken: dict[str, list[float]] = defaultdict(list)
    memory: Memory | None = None
    for batch in source:
        number = (pa.types.is_integer, pa.types.is_floating)
        text = [c.cast("string") for c in batch.columns if not any(is_(c.type) for is_ in number)]
        memory = memory or Memory(touched(model, linear, batch, text))
        for at in range(0, batch.n, QUANTUM):
            some = [column.slice(at, QUANTUM) for column in text]
            spent = seconds_of(lambda some=some: [hash_values(column, 1) for column in some])
            taken["hash"].append(spent / len(some[0]))
        for block, tape, parts in quanta(model, batch):
            for bits, part in linear.items():
                parts[f"linear 2^{bits}"] = seconds_of(
                    lambda part=part, b=block, t=tape: part.run(b, t)
                )
            for name in memory.touched.keys() & parts.keys():
                taken[name].append(parts[name] / block.n)
            memory.measure(block)
    if memory is None:
        raise Failure(f"{path} has no records to measure with")
    kernels = {}
    for name, each in memory.touched.items():
        seconds = statistics.median(taken[name][len(taken[name]) // 2 :])
        least = memory.least(name)
        kernels[name] = {
            "ns": 1e9 * seconds,
            "streamed": each.streamed,
            "table": each.table,
            "least_ns": 1e9 * least,
            "share": least / seconds,
        }
    load = os.getloadavg()[0]
    return {
        **circumstances(),
        "load": load,
        "kernels": kernels,
        "copy_gb_s": memory.copy_rate / 1e9,
    }


def table(result: Mapping[str, Any]) -> str:
    """Return what stands in the README."""
    host = result["machine"]
    rows = [
        f"{result['records']:,} records of 39 fields, one thread on {host['cores']} cores of"
        f" {host['cpu']}, where a copy moves {result['copy_gb_s']:.1f} GB/s; {result['date'][:10]},"
        f" commit {result['commit']}. Load of the machine meanwhile, this included:"
        f" {result['load']:.0f}.",
        "",
        "| kernel | ns a record | its memory alone, ns | share of the limit | bytes in a row"
        " | MB of table |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, found in result["kernels"].items():
        size = f"{found['table'] / 2**20:,.0f}" if found["table"] else ""
        rows.append(
            f"| {TITLES[name]} | {found['ns']:,.0f} | {found['least_ns']:,.0f}"
            f" | {found['share']:.0%} | {found['streamed']:,.0f} | {size} |"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--records", type=int, default=80_000)
    parser.add_argument("--data", type=Path, help="folder for the generated log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=BENCH / "results")
    parser.add_argument("--readme", type=Path, default=BENCH / "README.md")
    args = parser.parse_args(arguments)
    with data_folder(args.data) as folder:
        log = make_data(folder, args.records, args.seed, [SUFFIX])[SUFFIX]
        result = {"records": args.records, "seed": args.seed, **measure(log)}
    save(result, args.results / "micro.json")
    write_table(args.readme, table(result), "micro")
    say(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
