"""Run a stack over a stream in this process and tell what each of its parts took.

    echo '{"paths": ["log.parquet"], "source": {"label": "click"}}' | python bench/drive.py

The order is a JSON object on standard input: ``paths``; ``source``, further options of
`open_source`; and, where wanted, ``member`` and ``stacker`` (entries in place of the preset's),
``blank`` (true: click-rate statistics that are always 0), ``limit`` (most records) and ``keep`` (a
file that gets the members' margins, for `replay.py`). The answer is a JSON object on standard
output: records, log-loss, AUC, processor seconds of each part, seconds of training of each member,
and what each part reads.

Trees are trained in the foreground, with the threads that the preset says: results are the same,
and seconds of training are not stretched by what runs beside it. Other benches start this script,
one process a run; `driven` does that for them.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from replay import Kept

WARM = 4000
"""Records of a first, unmeasured pass, which loads or compiles what the second needs."""


def driven(order: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run an order in a process of its own and return its answer.

    Raises
    ------
    RuntimeError
        With the end of what it said, where the process failed.
    """
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve())],
        input=json.dumps(order),
        env=dict(environment),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode} from drive.py\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def preset_entries() -> dict[str, list[dict[str, Any]]]:
    """Return the members and stackers of the default preset."""
    from onlinestack.config import Config

    config = Config.resolve({"preset": "stack"}, environment={})
    return {key: [dict(entry) for entry in config[key]] for key in ("member", "stacker")}


def without_statistics() -> None:
    """Let stacks of this process have statistics that say nothing: all of them 0."""
    from onlinestack import assembly
    from onlinestack.features.statistics import Statistics

    class Blank(Statistics):
        def run(self, block: Any, tape: Any) -> None:
            block.table[:, self.at : self.at + self.width] = 0
            block.dense["c"][1][:] = 0

    mock.patch.object(assembly, "Statistics", Blank).start()


@contextlib.contextmanager
def trainings_timed() -> Iterator[list[float]]:
    """Give a list that gets the processor seconds of each training in the foreground."""
    from onlinestack.trees.training import Trainer

    taken: list[float] = []
    wait = Trainer.wait

    def timed(self: Trainer, future: Any) -> Any:
        before = time.process_time()
        try:
            return wait(self, future)
        finally:
            taken.append(time.process_time() - before)

    Trainer.wait = timed  # type: ignore[method-assign]
    try:
        yield taken
    finally:
        Trainer.wait = wait  # type: ignore[method-assign]


def walk(order: Mapping[str, Any], limit: int | None, keep: str | None = None) -> dict[str, Any]:
    """Run one stack over the stream, from the first record; keep its members' margins in a file."""
    from onlinestack.config import Config
    from onlinestack.io.source import open_source
    from onlinestack.opening import new_learner

    config = Config.resolve({"preset": "stack"}, environment={})
    config.values["background"] = False
    for key in ("member", "stacker"):
        config.values[key] = order.get(key, config[key])
    source = open_source(order["paths"], **order.get("source", {}))
    model: Any = new_learner(config, source.schema)
    model.warm()
    engine = model._running()
    kept = Kept(engine.parts["mixture"]) if keep else None
    before = dict(engine.seconds)
    training: dict[str, float] = {}
    read = generations = 0
    wall, cpu = time.perf_counter(), time.process_time()
    with trainings_timed() as taken:
        for batch in source:
            if limit is not None:
                batch = batch.part(0, min(batch.n, limit - read))
            model.progress(batch)
            read += batch.n
            for event in model.events():
                generations += event["accepted"]
                name = event["member"]
                training[name] = training.get(name, 0.0) + (event["seconds"] or 0.0)
            if read == limit:
                break
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    # Generations tell seconds of wall time, which other processes stretch.
    busy = sum(taken) / max(sum(training.values()), 1e-9)
    source.close()
    if kept and keep:
        kept.save(Path(keep))
    score = model.scoreboard.whole("mixture")
    return {
        "records": read,
        "learned": model.learned,
        "log_loss": score["log_loss"],
        "auc": score["auc"],
        "generations": generations,
        "wall": wall,
        "cpu": cpu,
        "parts": {name: taken - before[name] for name, taken in engine.seconds.items()},
        "training": {name: seconds * busy for name, seconds in training.items()},
        "reads": {
            name: reads(part.needs, [entry["name"] for entry in config["member"]])
            for name, part in engine.parts.items()
        },
    }


def reads(needs: Iterable[str], members: Iterable[str]) -> str:
    """Say what a part reads, in the letters of namespaces and the names of experts.

    >>> reads(("f", "score:one", "score:two"), ("one", "two"))
    'f, s'
    """
    needs, scores = list(dict.fromkeys(needs)), [f"score:{name}" for name in members]
    if len(needs) > 1 and set(scores) <= set(needs):
        rest = [need for need in needs if need not in scores]
        others = [need for need in rest if need.startswith("score:")]
        rest = [need for need in rest if need not in others]
        needs = [*rest, "s", *(["stackers"] if others else [])]
    return ", ".join(need.removeprefix("score:") for need in needs) or "records"


def main() -> int:
    order = json.load(sys.stdin)
    if order.get("blank"):
        without_statistics()
    limit = order.get("limit")
    walk(order, WARM if limit is None else min(WARM, limit))
    json.dump(walk(order, limit, order.get("keep")), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
