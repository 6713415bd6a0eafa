"""Kill the consumer at random moments, and compare what is left with a run that nobody disturbed.

    python bench/chaos.py --kills 200 --records 200000

fills the topics of a broker (Tansu, in memory) with records and late clicks, runs the consumer over
them once undisturbed, and once in many lives that end with kill -9: at random moments, some while
a snapshot is being written. At the end both must have learned the same, bit for bit, and must have
given the same predictions, apart from repeats; each record is learned once.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH.parent)]

from brokers import Tansu, fill  # noqa: E402

STACK: dict[str, Any] = {
    "members": [
        {"name": "f", "learning_rate": 0.5},
        {"name": "c", "reads": "c"},
        {"name": "trees", "kind": "trees", "rounds": 5, "depth": 3, "leaves": True},
        {"name": "leaves", "reads": "fl"},
        {"name": "bits", "kind": "bits"},
    ],
    "stackers": [{"name": "s", "reads": "s", "constant": False}],
    "bits": 12,
    "random_bits": 64,
    "train_first": 300,
    "train_every": 600,
    "train_lag": 200,
    "train_threads": 1,
    "window_rows": 1000,
    "half_lives": [8.0, 128.0],
}
"""A small stack with a generation every few hundred records, so that lives end at swaps, too."""
LINEAR = {"bits": 18}
WINDOW = 120.0


class Sign:
    """A report that leaves a sign when the first records of a life were learned."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def tick(self, run: Any) -> None:
        """Leave the sign."""
        self.path.touch()

    def __getattr__(self, name: str) -> Any:
        return lambda *heard: None


def consumed(order: Mapping[str, Any], report: Any) -> int:
    """Run a consumer as an order says, in this process."""
    from onlinestack import LinearLearner, OnlineStacker, consume
    from onlinestack.consume import Consumer, Topics

    consume.PIECE = order.get("piece", consume.PIECE)

    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in order["settings"].items()}
    kind = OnlineStacker if order["preset"] == "stack" else LinearLearner
    topics = Topics(
        order["address"],
        "shown",
        labels_topic="clicks",
        predictions_topic=order["predictions"],
        idle=order["idle"],
        roles={"id": "id", "time": "time"},
    )
    consumer = Consumer(
        kind(window=WINDOW, **settings),
        topics,
        order["folder"],
        every=order["every"],
        rejects=f"{order['folder']}.rejects",
        report=report,
    )
    code = consumer.run(drain=True)
    Path(f"{order['folder']}.done").write_text(json.dumps(consumer.accounts()))
    return code


def life(order: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, __file__, "--child", json.dumps(order)],
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}\n{said.decode()[-2000:]}")


def disturb(order: Mapping[str, Any], kills: int, longest: float, seed: int) -> tuple[int, int]:
    """Let a consumer live and die; return its deaths, and how many left a half-written file."""
    draw, folder = random.Random(seed), Path(order["folder"])
    done, sign = Path(f"{folder}.done"), Path(f"{folder}.sign")
    dead = torn = 0
    while dead < kills and not done.exists():
        sign.unlink(missing_ok=True)
        process = life(order | {"piece": draw.choice((100, 777, 4096))})
        # Most of a life is its start, so that now and then one ends there; else work counts.
        while process.poll() is None and not sign.exists() and draw.random() > 0.0005:
            time.sleep(0.005)
        until = time.monotonic() + draw.random() * longest
        torn_wanted = draw.random() < 0.3
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.001)
            if torn_wanted and list(folder.glob("*.tmp")):
                break
        if process.poll() is not None:
            finish(process)
            break
        process.kill()
        process.communicate()
        dead += 1
        torn += bool(list(folder.glob("*.tmp")))
    if not done.exists():
        finish(life(order))
    return dead, torn


def outcome(broker: Tansu, order: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a consumer learned and said."""
    from onlinestack import snapshot

    newest = max(Path(order["folder"]).glob("snapshot-*"))
    arrays, meta = snapshot.load(newest)
    said = broker.read(order["predictions"])
    by_key: dict[str, bytes] = {}
    for key, value in said:
        if by_key.setdefault(key, value) != value:
            raise AssertionError(f"{key} was predicted as {by_key[key]!r} and as {value!r}")
    own = {key: meta["consumer"][key] for key in ("topics", "places", "counts")}
    return {
        "arrays": {name: (array.dtype.str, array.tobytes()) for name, array in arrays.items()},
        "learner": meta["learner"],
        "consumer": own,
        "rejects": Path(f"{order['folder']}.rejects").read_bytes(),
        "predictions": by_key,
        "said": len(said),
        "accounts": json.loads(Path(f"{order['folder']}.done").read_text()),
    }


def compare(
    records: int,
    kills: int,
    *,
    preset: str = "linear",
    every: int = 1000,
    longest: float = 1.0,
    idle: float = 0.3,
    seed: int = 1,
) -> dict[str, Any]:
    """Run both, check that they agree, and return the figures.

    Raises
    ------
    AssertionError
        Where they do not.
    """
    figures: dict[str, Any] = {"records": records, "preset": preset}
    with Tansu() as broker, tempfile.TemporaryDirectory() as place:
        fill(broker, records, seed=seed)
        broker.make(calm=1, wild=1)
        order: dict[str, Any] = {
            "address": broker.address,
            "preset": preset,
            "settings": STACK if preset == "stack" else LINEAR,
            "every": every,
            "idle": idle,
        }
        calm = order | {"predictions": "calm", "folder": f"{place}/calm"}
        wild = order | {"predictions": "wild", "folder": f"{place}/wild"}
        began = time.perf_counter()
        finish(life(calm))
        figures["seconds undisturbed"] = round(time.perf_counter() - began, 1)
        began = time.perf_counter()
        figures["kills"], figures["while a snapshot was written"] = disturb(
            wild, kills, longest, seed
        )
        figures["seconds disturbed"] = round(time.perf_counter() - began, 1)
        one, other = outcome(broker, calm), outcome(broker, wild)
    figures["predictions"], figures["repeats"] = one["said"], other.pop("said") - one.pop("said")
    figures["accounts"] = one["accounts"]
    figures["generations"] = one["consumer"]["counts"]["generations"]
    for what in one:
        assert one[what] == other[what], f"{what} differs after {figures['kills']} kills"
    parts = ("learned", "predicted_only", "pending", "rejected")
    assert sum(one["accounts"][part] for part in parts) == records
    assert len(one["predictions"]) == records - one["accounts"]["rejected"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--preset", choices=("linear", "stack"), default="linear")
    parser.add_argument("--every", type=int, default=2000, help="messages between snapshots")
    parser.add_argument("--longest", type=float, default=1.0, help="seconds of a life's work")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        from onlinestack.spare import absent

        with absent("pandas", "scipy.linalg"):  # as the command does: lives begin sooner
            order = json.loads(given.child)
            sys.exit(consumed(order, Sign(f"{order['folder']}.sign")))
    figures = compare(
        given.records,
        given.kills,
        preset=given.preset,
        every=given.every,
        longest=given.longest,
        seed=given.seed,
    )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
