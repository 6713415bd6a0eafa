"""Our own learners as a user runs them: the whole command, from file to file."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from benchtools import ROOT, Failure, environment_of, our_command
from makers import KNOWN, SERVED, late_labels
from numpy.typing import NDArray
from peers.base import versions_of
from tracks import Deadline, Peer, Track

__all__ = ["Command", "ours"]

LISTS = ("categorical", "numeric", "text", "ignore")
LIBRARIES = ("onlinestack", "numpy", "numba", "pyarrow", "xgboost")
STOPPED = 128 + signal.SIGTERM
WARM = 8000
"""Records of a first, unmeasured run, which compiles what the second needs, trees included."""


class Command:
    """``onlinestack learn`` with a preset as it comes, in a process of its own.

    Its wall time holds start, reading, learning and writing. At the deadline it is asked to stop,
    as by any service manager, and leaves the predictions made until then.
    """

    family = "onlinestack"
    marks: tuple[str, ...] = ()

    def __init__(self, preset: str) -> None:
        self.name = f"onlinestack {preset}"
        self.preset = preset
        self.settings: Mapping[str, object] = {
            "command": f"onlinestack learn FILE --label LABEL --preset {preset} -p FILE"
        }

    def versions(self) -> dict[str, str]:
        """Return the version of each library that it needs."""
        return versions_of(LIBRARIES)

    def code(self) -> list[Path]:
        """Return the files that its predictions come from, besides the libraries'."""
        return [
            p for p in sorted((ROOT / "onlinestack").rglob("*")) if p.suffix in (".py", ".toml")
        ]

    def prepare(self, track: Track, folder: Path) -> None:
        """Write labels that come late as the command reads them, and let kernels be compiled."""
        self._folder, self._file = folder, track.path
        if track.delay:
            self._file = folder / "late.parquet"
            late_labels(track, self._file)
        short = replace(track, limit=min(WARM, track.limit or WARM))
        self.run(short, Deadline(None))

    def arguments(self, track: Track, out: Path) -> list[str]:
        """Return the command's arguments for a track."""
        line = ["learn", str(self._file), "--preset", self.preset, "--quiet", "-p", str(out)]
        for key, value in track.options.items():
            text = ",".join(value) if key in LISTS else str(value)
            line += [f"--{key.replace('_', '-')}", text]
        if track.delay:
            line += ["--time", SERVED, "--label-time", KNOWN]
            line += ["--most-pending", str(track.delay + 1)]
        if track.limit is not None:
            line += ["--limit", str(track.limit)]
        return line

    def run(self, track: Track, deadline: Deadline) -> NDArray[np.float64]:
        """Run the command and read what it predicted."""
        out, said = self._folder / "predictions.parquet", self._folder / "said"
        asked = [*our_command(), *self.arguments(track, out)]
        with said.open("wb") as error:
            process = subprocess.Popen(
                asked, stdout=subprocess.DEVNULL, stderr=error, env=environment_of()
            )
            try:
                if not deadline.wait(process):
                    process.terminate()
                process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if process.returncode == -signal.SIGTERM:  # before it heard of signals
            return np.empty(0)
        if process.returncode not in (0, STOPPED):
            told = said.read_text(errors="replace").strip()
            raise Failure(f"exit code {process.returncode}: {told[-500:]}")
        table = pq.read_table(out)
        if not np.array_equal(table["row"].to_numpy(), np.arange(len(table))):
            raise Failure("predictions are not of the first records, in their order")
        return np.asarray(table["p"].to_numpy(), np.float64)


def ours() -> dict[str, Peer]:
    """Return our learners by name."""
    return {learner.name: learner for learner in (Command("linear"), Command("stack"))}
