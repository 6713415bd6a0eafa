"""The product's own click-rate statistics as a matrix, for learners of other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tracks import Deadline, Track, progressive

from peers.matrix import Matrix

__all__ = ["statistics"]


class Tap:
    """A member of a stack that scores nothing and keeps what trees of the stack would read."""

    needs = ("c",)

    def __init__(self) -> None:
        self.raw = np.zeros(0, np.float32)
        self.kept: list[NDArray[np.float32]] = []

    def __deepcopy__(self, memo: object) -> Tap:
        return self  # a stack copies what it is given

    def run(self, block: Any, tape: Any) -> None:
        """Keep the rows of a block."""
        self.raw = np.zeros(block.n, np.float32)
        self.kept.append(block.table.copy())

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return nothing: it is never saved."""
        return {}, {}

    def restore(self, arrays: Any, meta: Any) -> None:
        """Take back nothing."""


def statistics(track: Track, deadline: Deadline) -> Matrix:
    """Return plain numbers and click-rate statistics of each record, as before its label.

    Rows behind the deadline are left out.
    """
    from onlinestack import OnlineStacker, open_source

    tap = Tap()
    model = OnlineStacker(members=({"name": "tap", "model": tap},), stackers=(), background=False)
    source = open_source(track.path, **track.options)
    model.start(source.schema)
    if track.delay:

        def look(x: dict[str, Any]) -> float:
            model.predict_proba_one(x)
            rows.append(tap.kept.pop())
            return 0.0

        def learn(x: dict[str, Any], y: float) -> None:
            model.learn_one(x, bool(y))
            tap.kept.clear()

        rows: list[NDArray[np.float32]] = []
        progressive(track, look, learn, deadline)
    else:
        seen = 0
        for batch in source:
            if seen >= track.n or deadline.passed:
                break
            model.progress(batch.part(0, min(track.n - seen, batch.n)))
            seen = sum(map(len, tap.kept))
        rows = tap.kept
    source.close()
    x = np.concatenate(rows) if rows else np.empty((0, 0), np.float32)
    return Matrix(x, [f"c{k}" for k in range(x.shape[1])], {})
