"""One record at a time, from Python: how many a second, and how long the slowest wait.

    python bench/single.py --data FOLDER

Records of 39 fields (13 integers, 26 categoricals), plain dicts, are predicted and then learned
one by one. The linear learner and river's hashed logistic regression take turns of a thousand
records, and what counts is the median of the ratios of these turns. The stack then takes its time
alone, trainings and the waiting for them included. At last a stack that serves other threads is
asked for predictions while a generation trains, and only these are timed.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH.parent)]

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from benchtools import (  # noqa: E402
    circumstances,
    data_folder,
    make_data,
    save,
    say,
    spread,
    write_table,
)
from river import linear_model, optim, preprocessing  # noqa: E402

from onlinestack import LinearLearner, OnlineStacker  # noqa: E402

TURN = 1000
TARGETS = {"linear": 1.5, "stack": 4000, "p99": 1.0}

Record = tuple[dict[str, Any], bool]


def read(path: Path) -> list[Record]:
    """Return the records of a log as dicts, each with its label."""
    rows = pq.read_table(path).to_pylist()
    return [(row, bool(row.pop("label"))) for row in rows]


def seconds(model: Any, records: Sequence[Record]) -> float:
    """Predict and learn records one by one; return how long it took."""
    began = time.perf_counter()
    for x, y in records:
        model.predict_proba_one(x)
        model.learn_one(x, y)
    return time.perf_counter() - began


def turns(records: Sequence[Record]) -> dict[str, Any]:
    """Let the linear learner and river's take turns over the same records."""
    hashing = preprocessing.FeatureHasher(n_features=2**18, seed=0)
    models = {
        "river": hashing | linear_model.LogisticRegression(optim.SGD(0.1)),
        "linear": LinearLearner(),
    }
    # River's hasher has no way to say that a value is missing, so these are left out for it.
    plain = [({k: v for k, v in x.items() if v is not None}, y) for x, y in records]
    given = {"river": plain, "linear": records}
    took: dict[str, list[float]] = {name: [] for name in models}
    for at in range(0, len(records), TURN):
        for name, model in models.items():
            took[name].append(seconds(model, given[name][at : at + TURN]))
    # The first turns load code and meet each value for the first time.
    pairs = list(zip(took["river"], took["linear"], strict=True))[2:]
    return {
        "ratio": spread([river / ours for river, ours in pairs]),
        "us": {name: statistics.median(times[2:]) / TURN * 1e6 for name, times in took.items()},
    }


def alone(records: Sequence[Record]) -> dict[str, Any]:
    """Run the stack over records, all trainings included."""
    seconds(OnlineStacker(train_first=300, train_lag=100), records[:1000])  # loads its code
    model = OnlineStacker()
    took = [seconds(model, records[at : at + TURN]) for at in range(0, len(records), TURN)]
    return {
        "records": len(records),
        "per_second": len(records) / sum(took),
        "us": statistics.median(took) / TURN * 1e6,
        "generations": sum("cut" in event for event in model.events()),
    }


def waits(records: Sequence[Record], cut: int, lag: int) -> dict[str, Any]:
    """Time predictions asked for while a generation trains on ``cut`` records."""
    model = OnlineStacker(train_first=cut, train_lag=lag)
    model.serving = True
    for x, y in records[: cut - 1]:
        model.learn_one(x, y)
    asked = [x for x, _ in records[cut:]]
    for x in asked[:TURN]:
        model.predict_proba_one(x)
    model.learn_one(*records[cut - 1])  # the cut: training begins
    took = []
    for x in itertools.islice(itertools.cycle(asked), 1_000_000):
        if not model.training():
            break
        began = time.perf_counter()
        model.predict_proba_one(x)
        took.append(time.perf_counter() - began)
    times = np.array(took) * 1e3
    return {
        "predictions": len(times),
        "p50": float(np.quantile(times, 0.5)),
        "p99": float(np.quantile(times, 0.99)),
        "worst": float(times.max()),
    }


def table(result: dict[str, Any]) -> str:
    turn, stack, wait = result["turns"], result["stack"], result["waits"]
    machine, us, ratio = result["machine"], turn["us"], turn["ratio"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"{machine['cores']} cores of {machine['cpu']}; {versions}; {result['date'][:10]}, commit "
        f"{result['commit']}.",
        "",
        "| predict, then learn, one dict of 39 fields | µs | records/s |"
        " to river: min | **median** | max | to reach |",
        "|---|---:|---:|---:|---:|---:|---:|",
        f"| river's FeatureHasher and LogisticRegression | {us['river']:.1f} |"
        f" {1e6 / us['river']:,.0f} | | 1 | | |",
        f"| `LinearLearner` | {us['linear']:.1f} | {1e6 / us['linear']:,.0f} | {ratio['min']:.2f} |"
        f" **{ratio['median']:.2f}** | {ratio['max']:.2f} | {TARGETS['linear']} |",
        f"| `OnlineStacker`, between trainings | {stack['us']:.0f} | {1e6 / stack['us']:,.0f} |"
        " | | | |",
        f"| `OnlineStacker`, {stack['records']:,} records with {stack['generations']} trainings |"
        f" {1e6 / stack['per_second']:.0f} | **{stack['per_second']:,.0f}** | | | |"
        f" {TARGETS['stack']:,} |",
        "",
        "`predict_proba_one` of a stack with `serving = True` while a generation trains: median "
        f"{wait['p50']:.2f} ms, 99th percentile **{wait['p99']:.2f} ms** (to reach: "
        f"{TARGETS['p99']:.0f} ms), worst {wait['worst']:.1f} ms of {wait['predictions']:,}.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=20, help="of river and the linear learner")
    parser.add_argument("--records", type=int, default=100_000, help="of the stack")
    parser.add_argument("--cut", type=int, default=50_000, help="records the generation trains on")
    parser.add_argument("--data", type=Path, help="folder that keeps the log; default: a new one")
    parser.add_argument("--readme", type=Path, default=BENCH / "README.md", help="gets the table")
    parser.add_argument("--json", type=Path, default=BENCH / "results" / "single.json")
    args = parser.parse_args(arguments)
    most = max(args.records, args.cut + 2 * TURN, args.turns * TURN)
    with data_folder(args.data) as folder:
        records = read(make_data(folder, most, 0, ["parquet"])["parquet"])
    say("linear learner and river")
    result: dict[str, Any] = {"turns": turns(records[: args.turns * TURN])}
    say("stack")
    result["stack"] = alone(records[: args.records])
    say("predictions during a training")
    result["waits"] = waits(records, args.cut, min(4096, args.cut))
    result |= circumstances()
    save(result, args.json)
    text = table(result)
    write_table(args.readme, text, "single")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
