"""One cell of the benches in a process of its own: one learner over one track.

The order is a JSON object on standard input: ``stream`` (its TOML file), ``path`` (its records),
``limit`` (most records), ``delay``, ``learner`` and ``seconds`` (of the processor, then it is to
stop). The answer, a JSON object on standard output, is what was measured of `Peer.run`, which loads
the learner's library and reads the records, and what the judge says. `run.py` starts this script.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learners import learners
from tracks import Deadline, open_track, processor_seconds

__all__ = ["run"]


def run(order: Mapping[str, Any]) -> dict[str, Any]:
    """Run a learner over a track and score it."""
    learner = learners()[order["learner"]]
    track = open_track(
        Path(order["stream"]), Path(order["path"]), limit=order["limit"], delay=order["delay"]
    )
    with tempfile.TemporaryDirectory(prefix="onlinestack-cell-") as folder:
        if hasattr(learner, "prepare"):
            learner.prepare(track, Path(folder))
        cpu, began = processor_seconds(), time.perf_counter()
        deadline = Deadline(order["seconds"])
        p = learner.run(track, deadline)
        measured = {"wall": time.perf_counter() - began, "cpu": processor_seconds() - cpu}
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured["peak_mb"] = deadline.peak_mb or own

    from judge import judge

    done = {"records": track.n, "done": len(p), "cut": len(p) < track.n}
    answer = {**measured, **done, **judge(p, track.labels)}
    return {**answer, "cpu_all": processor_seconds()}


if __name__ == "__main__":
    # Whatever a learner prints is no answer.
    answer, sys.stdout = sys.stdout, sys.stderr
    json.dump(run(json.load(sys.stdin)), answer)
