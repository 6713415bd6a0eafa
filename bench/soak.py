"""Whether the consumer's memory stays as it is: millions of records with late labels, one process.

    python bench/soak.py --records 5000000

fills the topics of a broker (Tansu, in memory) and runs a consumer over them, which tells its
resident memory as it goes. After the first million records it must not grow any more: the figure
is the largest memory in the last fifth of the run over the largest in the second million.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from brokers import Tansu, fill  # noqa: E402
from chaos import LINEAR, STACK, consumed  # noqa: E402

LOOKS = 100
"""Looks at memory over the run."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class Memory:
    """A report that notes the resident memory of the process."""

    def __init__(self, step: int) -> None:
        self.next, self.step = 0, step

    def tick(self, run: Any) -> None:
        """Note it, if it is time."""
        read = run.counts["read"]
        if read >= self.next:
            self.next = read + self.step
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(json.dumps({"read": read, "bytes": pages * PAGE}), flush=True)

    def __getattr__(self, name: str) -> Any:
        return lambda *heard: None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=5_000_000)
    parser.add_argument("--preset", choices=("linear", "stack"), default="linear")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        sys.exit(consumed(json.loads(given.child), Memory(given.records // LOOKS)))
    with Tansu() as broker, tempfile.TemporaryDirectory() as place:
        fill(broker, given.records)
        broker.make(predictions=1)
        order = {
            "address": broker.address,
            "preset": given.preset,
            "settings": STACK if given.preset == "stack" else LINEAR,
            "every": 100_000,
            "idle": 1.0,
            "predictions": "predictions",
            "folder": f"{place}/state",
        }
        began = time.perf_counter()
        child = [sys.executable, __file__, "--child", json.dumps(order)]
        child += ["--records", str(given.records)]
        done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - began
        accounts = json.loads(Path(f"{place}/state.done").read_text())
    seen = [(row["read"], row["bytes"]) for row in map(json.loads, done.stdout.splitlines())]
    whole = accounts["read"]
    first, last = min(1_000_000, whole // 5), whole - whole // 5
    early = max(size for read, size in seen if first <= read < 2 * first)
    late = max(size for read, size in seen if read >= last)
    figures = {
        "preset": given.preset,
        "accounts": accounts,
        "seconds": round(seconds, 1),
        "records a second": round(whole / seconds),
        "MB in the second million": round(early / 1e6, 1),
        "MB at the end": round(late / 1e6, 1),
        "ratio": round(late / early, 4),
        "MB by records": {read: round(size / 1e6, 1) for read, size in seen},
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
