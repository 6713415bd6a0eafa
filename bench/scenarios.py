"""What two revisions are compared by, each scenario under an id that never changes its meaning.

Most are the product's own command over one log; two are Python, run by this very file:

    python bench/scenarios.py bundled|dicts

with the revision's package first on the path. Both print a summary as ``onlinestack learn --json``
does.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SCENARIOS", "Scenario"]

Files = Mapping[str, Path]
"""Generated logs, by their number of records."""
COMMAND = ("-c", "import sys; from onlinestack.cli import main; sys.exit(main())")
HERE = str(Path(__file__).resolve())
DICTS = 20_000


@dataclass(frozen=True)
class Scenario:
    """One thing that must not get worse.

    Parameters
    ----------
    says
        What is measured, in a few words.
    arguments
        What Python is to run, given the logs.
    quantity
        ``log_loss``, ``cpu`` and ``wall`` (seconds) or ``peak_mb``; less is better.
    tolerance
        How much more there may be: as a share of the base's, or just so much for a log-loss.
    exact
        Whether one run says it all; otherwise runs of both take turns, and the median of the ratios
        of rounds counts.
    logs
        The logs that it reads.
    """

    says: str
    arguments: Callable[[Files], Sequence[str]]
    quantity: str
    tolerance: float
    exact: bool = False
    logs: tuple[str, ...] = ()


def learn(log: str, preset: str, *more: str) -> Callable[[Files], Sequence[str]]:
    """Return the command that learns a log."""
    return lambda files: (
        *(*COMMAND, "learn", str(files[log]), "--label", "label"),
        *("--preset", preset, "--quiet", "--json", *more),
    )


def exactly(says: str, arguments: Callable[[Files], Sequence[str]], *logs: str) -> Scenario:
    """Return a scenario of a log-loss, the same to 1e-12."""
    return Scenario(says, arguments, "log_loss", 1e-12, exact=True, logs=logs)


LARGE, SMALL, ONE = "300000", "12000", "1"
"""Logs."""
SCENARIOS: dict[str, Scenario] = {
    "acc-synthetic-linear": exactly(
        "log-loss, linear, 12,000 records made", learn(SMALL, "linear"), SMALL
    ),
    "acc-synthetic-pairs": exactly(
        "log-loss, linear with -q ff, 12,000 records made",
        learn(SMALL, "linear", "-q", "ff"),
        SMALL,
    ),
    "acc-synthetic-stack": exactly(
        "log-loss, stack, 12,000 records made", learn(SMALL, "stack"), SMALL
    ),
    "acc-bundled": exactly("log-loss, stack, river's Phishing", lambda _: (HERE, "bundled")),
    "speed-linear-parquet": Scenario(
        "CPU s, linear, 300,000 records of Parquet",
        learn(LARGE, "linear"),
        "cpu",
        0.1,
        logs=(LARGE,),
    ),
    "wall-linear-parquet": Scenario(
        "wall s, linear, 300,000 records of Parquet",
        learn(LARGE, "linear"),
        "wall",
        0.2,
        logs=(LARGE,),
    ),
    "speed-stack": Scenario(
        "CPU s, stack, 12,000 records", learn(SMALL, "stack"), "cpu", 0.15, logs=(SMALL,)
    ),
    "speed-dict-linear": Scenario(
        f"CPU s, linear, {DICTS:,} dicts", lambda _: (HERE, "dicts"), "cpu", 0.1
    ),
    "memory-linear": Scenario(
        "peak MB, linear, 300,000 records", learn(LARGE, "linear"), "peak_mb", 0.05, logs=(LARGE,)
    ),
    "startup": Scenario("CPU s, linear, one record", learn(ONE, "linear"), "cpu", 0.1, logs=(ONE,)),
    "help-time": Scenario("CPU s, onlinestack --help", lambda _: (*COMMAND, "--help"), "cpu", 0.15),
}


def walk(model: Any, records: Any) -> dict[str, Any]:
    """Predict and learn dicts one by one; return a summary."""
    loss, learned = 0.0, 0
    for x, y in records:
        p = model.predict_proba_one(x)[True]
        loss -= math.log(max(p if y else 1 - p, 1e-6))
        model.learn_one(x, y)
        learned += 1
    return {"event": "summary", "learned": learned, "log_loss": loss / learned}


def bundled() -> dict[str, Any]:
    """Walk a stack through river's Phishing, which comes with river."""
    from river.datasets import Phishing

    from onlinestack import OnlineStacker

    return walk(OnlineStacker(background=False), Phishing())


def dicts() -> dict[str, Any]:
    """Walk a linear learner through dicts of ten fields."""
    import random

    from onlinestack import LinearLearner

    draw = random.Random(0)
    fields = [(f"field {k}", 10 ** (1 + k % 4)) for k in range(10)]
    records = (
        ({name: f"v{draw.randrange(levels)}" for name, levels in fields}, draw.random() < 0.2)
        for _ in range(DICTS)
    )
    return walk(LinearLearner(), records)


if __name__ == "__main__":
    print(json.dumps({"bundled": bundled, "dicts": dicts}[sys.argv[1]]()))
