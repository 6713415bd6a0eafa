"""How long a snapshot holds up the stream: the time that copying what is to be saved takes.

    python bench/stall.py

Learners of 39 fields (13 numbers, 26 categories) with many records pending. Between two pieces of
work only `capture` is waited for; the snapshot is made of the copy and written by another thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from typing import Any

import numpy as np

from onlinestack import LinearLearner, OnlineStacker, snapshot


def record(draw: np.random.Generator) -> dict[str, Any]:
    numbers = {f"n{i}": float(v) for i, v in enumerate(draw.integers(0, 50, 13))}
    return numbers | {f"c{i}": f"v{v}" for i, v in enumerate(draw.integers(0, 3000, 26))}


def measured(model: Any, records: int, pending: int, rounds: int) -> dict[str, Any]:
    draw = np.random.default_rng(1)
    for _ in range(records):
        model.learn_one(record(draw), bool(draw.random() < 0.3))
    for i in range(pending):
        model.predict_proba_one(record(draw), id=f"record-{i}", time=float(i))
    member = model._engine.parts.get("linear")
    if member is not None:
        # As after months: every slot is in use.
        member.weights[:] = draw.random(len(member.weights), np.float32)
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        captured = model.capture()
        seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
    arrays, meta = captured()
    with tempfile.NamedTemporaryFile() as file:
        snapshot.save(file.name, arrays, {"learner": meta})
    return {
        "first ms": round(seconds[0] * 1000, 1),
        "median ms": round(statistics.median(seconds[1:]) * 1000, 1),
        "worst ms": round(max(seconds[1:]) * 1000, 1),
        "in the background s": round(time.perf_counter() - began, 2),
        "MB": round(sum(array.nbytes for array in arrays.values()) / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--records", type=int, default=20_000, help="learned by the stack")
    parser.add_argument("--pending", type=int, default=10_000)
    given = parser.parse_args()
    for name, model, records in (
        ("linear, 2^22 slots", LinearLearner(bits=22, window=1e6), 100),
        ("stack", OnlineStacker(window=1e6), given.records),
    ):
        for pending in (0, given.pending):
            if model.learned and pending == 0:
                continue
            told = measured(model, records if not pending else 0, pending, given.rounds)
            print(json.dumps({"learner": name, "pending": pending, **told}), flush=True)


if __name__ == "__main__":
    main()
