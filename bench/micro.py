"""Measure kernels alone against what the memory of this machine can do.

    python bench/micro.py

One thread learns a click log of 39 fields with the default stack, quantum after quantum, and its
processor time is taken part by part; linear learners of three sizes learn the same blocks. Beside
each stands the least time that its memory traffic takes: what it reads and writes in a row at the
bandwidth of a copy, and the cache lines that it changes somewhere in its table at the rate at which
this machine changes random lines in a table of that size. Both are measured in between. The share
of the limit is that time over the time taken: near 100 % memory is the bound, far below it
arithmetic is. The table goes between the markers of ``README.md``, medians of all quanta behind the
first half; the rest to ``results/micro.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from benchtools import BENCH, circumstances, data_folder, make_data, save, say, write_table

from onlinestack.kernel import kernel

LINE = 64
SIZES = (18, 22, 24)
"""Binary logarithms of the weights of the linear learners measured beside those of the stack."""
SUFFIX, QUANTUM = "snappy.parquet", 4096
COPIED = 1 << 26
VISITS = 1 << 18
TITLES = {
    "hash": "hash the columns of text",
    "encode": "encode, as Parquet gives it",
    "statistics": "click-rate statistics",
    "random bits": "random bits, made",
    "score:bits 1.4": "random bits, learned",
    "score:ff 0.1": "linear, all pairs, 2^18",
    "factorisation": "factorised pairs, two rates",
    "score:trees": "forest, walked",
    "score:newton 30000": "Newton stacker",
    "mixture": "mixture",
}


class Traffic(NamedTuple):
    """Memory that a kernel touches a record.

    Parameters
    ----------
    streamed
        Bytes read and written in a row.
    lines
        Cache lines changed at random places.
    table
        Bytes of the table they lie in.
    """

    streamed: float
    lines: float = 0.0
    table: int = 0


@kernel()
def change_lines(places: Any, table: Any) -> None:
    """Add 1 to four numbers of each line named."""
    for k in range(len(places)):
        at = places[k] * 16
        for j in range(4):
            table[at + j] += np.float32(1)


def seconds_of(call: Callable[[], object]) -> float:
    """Return the processor seconds that this thread spends in a call."""
    before = time.thread_time()
    call()
    return time.thread_time() - before


class Memory:
    """Measures the memory, again and again between the kernels; medians are what counts."""

    def __init__(self, tables: Iterable[int], seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self._one, self._two = np.ones(COPIED, np.uint8), np.zeros(COPIED, np.uint8)
        self._lines = {size: np.zeros(size // 4, np.float32) for size in {*tables} - {0}}
        self._places = {s: random.integers(0, s // LINE, VISITS) for s in self._lines}
        self._copy: list[float] = []
        self._each: dict[int, list[float]] = defaultdict(list)

    def measure(self) -> None:
        """Take one turn."""
        self._copy.append(seconds_of(lambda: np.copyto(self._two, self._one)) / (2 * COPIED))
        for size, table in self._lines.items():
            places = self._places[size]
            taken = seconds_of(lambda p=places, t=table: change_lines(p, t))
            self._each[size].append(taken / VISITS)

    def floor(self, traffic: Traffic) -> float:
        """Return the least seconds that a record's traffic takes."""
        lines = statistics.median(self._each[traffic.table]) if traffic.table else 0.0
        return traffic.streamed * statistics.median(self._copy) + traffic.lines * lines

    def result(self) -> dict[str, Any]:
        """Return GB/s of a copy, and nanoseconds of a changed line by the bytes of its table."""
        lines = {
            str(size): 1e9 * statistics.median(self._each[size]) for size in sorted(self._each)
        }
        return {"copy_gb_s": 1e-9 / statistics.median(self._copy), "line_ns": lines}


def quanta(model: Any, batches: Any) -> Iterator[tuple[Any, Any, dict[str, float]]]:
    """Run a stack in this thread; yield each block, its tape, and seconds of each part."""
    from onlinestack import engine as engines

    stack = model._started()
    with mock.patch.object(engines, "ENOUGH", sys.maxsize):
        for batch in batches:
            taken: dict[str, float] = {}

            def block_of(start: int, stop: int, batch: Any = batch, taken: Any = taken) -> Any:
                before = time.thread_time()
                block = model._block(batch, start, stop)
                taken["encode"] = time.thread_time() - before
                return stack.layout.lay(block)

            parts = dict(stack.engine.seconds)
            for _, _, block, tape in stack.engine.quanta(batch.label, block_of):
                now = dict(stack.engine.seconds)
                yield block, tape, taken | {name: now[name] - parts[name] for name in now}
                parts = now


def traffic(
    model: Any, linear: Mapping[str, Any], batch: Any, text: list[Any]
) -> dict[str, Traffic]:
    """Return what each kernel touches; what stays in the processor's caches is not counted."""
    stack = model._started()
    parts = stack.engine.parts
    block = stack.layout.lay(model._block(batch, 0, min(batch.n, QUANTUM)))
    fields, numbers = block.opens.shape[1], block.numbers.shape[1]
    members, judged, words = block.scores.shape[1], block.p.shape[1], block.bits.shape[1]
    table, rates = block.table.shape[1], block.dense["c"][1].shape[1]
    read = sum(column.nbytes for column in batch.columns) / batch.n
    vectors, weights = parts["factorisation"].tables.vectors, parts["score:ff 0.1"].part.weights
    pairs = fields * (fields - 1) // 2
    every = {
        "hash": Traffic(sum(column.nbytes for column in text) / batch.n + 4 * len(text)),
        "encode": Traffic(read + 24 * fields + 8 * numbers),
        "statistics": Traffic(12 * rates, fields + 1, parts["statistics"]._book.counts.nbytes),
        "random bits": Traffic(4 * table + 4 * words),
        "score:bits 1.4": Traffic(4 * words),
        **{n: Traffic(8 * fields, fields + 1, p.weights.nbytes) for n, p in linear.items()},
        "score:ff 0.1": Traffic(8 * fields, fields + 1 + pairs, weights.nbytes),
        "factorisation": Traffic(8 * fields + 2 * fields * vectors[0].nbytes),
        "score:trees": Traffic(4 * table),
        "score:newton 30000": Traffic(4 * members),
        "mixture": Traffic(4 * members + 4 * judged),
    }
    return every


def measure(path: Path) -> dict[str, Any]:
    """Run everything over a log and return what the table shows."""
    import pyarrow as pa

    from onlinestack import OnlineStacker, open_source
    from onlinestack.assembly import linear_part
    from onlinestack.features.arrow import hash_values
    from onlinestack.recipe import Linear

    source = open_source(path, label="label")
    model = OnlineStacker(background=False)
    model.start(source.schema)
    model.warm()
    linear = {f"linear, 2^{b}": linear_part(Linear("", bits=b), b) for b in SIZES}
    for part in linear.values():
        part.weights.fill(0)  # so that the system has given the pages
    taken: dict[str, list[float]] = defaultdict(list)
    touched: dict[str, Traffic] = {}
    for batch in source:
        number = (pa.types.is_integer, pa.types.is_floating)
        text = [c.cast("string") for c in batch.columns if not any(is_(c.type) for is_ in number)]
        if not touched:
            touched = traffic(model, linear, batch, text)
            memory = Memory([each.table for each in touched.values()])
        for at in range(0, batch.n, QUANTUM):
            some = [column.slice(at, QUANTUM) for column in text]
            spent = seconds_of(lambda some=some: [hash_values(column, 1) for column in some])
            taken["hash"].append(spent / len(some[0]))
        for block, tape, parts in quanta(model, [batch]):
            for name, part in linear.items():
                parts[name] = seconds_of(lambda part=part, b=block, t=tape: part.run(b, t))
            for name in touched.keys() & parts.keys():
                taken[name].append(parts[name] / block.n)
            memory.measure()
    kernels = {}
    for name, each in touched.items():
        seconds = statistics.median(taken[name][len(taken[name]) // 2 :])
        kernels[name] = {
            **each._asdict(),
            "ns": 1e9 * seconds,
            "share": memory.floor(each) / seconds,
        }
    return {**circumstances(), "kernels": kernels, "memory": memory.result()}


def table(result: Mapping[str, Any]) -> str:
    """Return what stands in the README."""
    host, memory = result["machine"], result["memory"]
    lines = ", ".join(
        f"{ns:.1f} in {int(n) / 2**20:,.0f} MB" for n, ns in memory["line_ns"].items()
    )
    rows = [
        f"{result['records']:,} records of 39 fields, one thread of {host['cores']} cores of"
        f" {host['cpu']}; {result['date'][:10]}, commit {result['commit']}. A copy moves"
        f" {memory['copy_gb_s']:.1f} GB/s; to change a random line takes, in ns: {lines}.",
        "",
        "| kernel | ns a record | bytes in a row | lines at random | of MB | share of the limit |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, found in result["kernels"].items():
        size = f"{found['table'] / 2**20:,.0f}" if found["table"] else ""
        title = TITLES.get(name, name)
        rows.append(
            f"| {title} | {found['ns']:,.0f} | {found['streamed']:,.0f} | {found['lines']:,.0f}"
            f" | {size} | {found['share']:.1%} |"
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
