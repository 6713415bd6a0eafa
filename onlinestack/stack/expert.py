"""An expert: a part that gives one score a record, served as a margin the others can read."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN, MARGIN, Block, Tape
from onlinestack.kernel import bound, kernel

__all__ = ["Expert", "Scoring", "serve"]

CLICKS, WEIGHT, DUMB = range(3)


class Scoring(Protocol):
    """A part that leaves the scores of the rows it predicted in ``raw``."""

    raw: NDArray[np.float32]

    def run(self, block: Block, tape: Tape) -> None:
        """Take the steps of a quantum."""

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same, for a block that is filled again and again."""

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state as arrays and JSON."""

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned."""


@kernel()
def serve(
    op: Any, row: Any, label: Any, weight: Any, raw: Any, column: Any, totals: Any, scores: Any
) -> None:
    """Write the raw scores of the rows that are predicted, clipped, into a column of margins.

    Where a score is not finite the running click rate speaks, and the case is counted.
    """
    for step in range(len(op)):
        i = row[step]
        if op[step] == LEARN:
            totals[WEIGHT] += np.float64(weight[i])
            totals[CLICKS] += np.float64(weight[i]) if label[i] > 0 else 0.0
            continue
        score = raw[i]
        if not np.isfinite(score):
            totals[DUMB] += 1.0
            rate = (totals[CLICKS] + 0.5) / (totals[WEIGHT] + 1.0)
            score = np.float32(math.log(rate / (1.0 - rate)))
        scores[i, column] = min(max(score, -MARGIN), MARGIN)


class Expert:
    """A part whose score is a margin in a column of ``block.scores``.

    Parameters
    ----------
    part
        What gives the score.
    name
        Its name in the league table; as a part it fills ``score:NAME``.
    column
        Its column of the margins.
    needs
        What must have run before.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace as Fake
    >>> from onlinestack.block import Block, immediate_tape
    >>> fake = Fake(raw=np.array([2, np.nan, 99], np.float32), run=lambda block, tape: None)
    >>> block = Block.of([[]] * 3, label=[1, 1, 0])
    >>> block.scores = np.zeros((3, 1), np.float32)
    >>> Expert(fake, "fake", 0).run(block, immediate_tape(block.label))
    >>> [round(float(score), 2) for score in block.scores[:, 0]]
    [2.0, 1.1, 13.82]
    """

    def __init__(self, part: Scoring, name: str, column: int, needs: tuple[str, ...] = ()) -> None:
        self.part = part
        self.name = name
        self.column = column
        self.needs = needs
        self.fills = f"score:{name}"
        self._totals = np.zeros(3)

    @property
    def dumb(self) -> int:
        """How often its score was not finite."""
        return int(self._totals[DUMB])

    def run(self, block: Block, tape: Tape) -> None:
        """Take the steps of a quantum and serve the scores."""
        self.part.run(block, tape)
        serve(*self._arguments(block, tape))

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        bind = getattr(self.part, "bind", None)
        calls = bind(block, tape) if bind else [functools.partial(self.part.run, block, tape)]
        return [*calls, bound(serve, *self._arguments(block, tape))]

    def _arguments(self, block: Block, tape: Tape) -> tuple[Any, ...]:
        return (
            tape.op,
            tape.row,
            block.label,
            block.weight,
            self.part.raw,
            self.column,
            self._totals,
            block.scores,
        )

    def capture(self) -> Callable[[], tuple[dict[str, NDArray[Any]], dict[str, Any]]]:
        """Return what gives the state of this moment later, in any thread."""
        still = copy.copy(self)
        still._totals = self._totals.copy()
        if hasattr(self.part, "capture"):
            still.part = SimpleNamespace(state=self.part.capture())
        else:
            state = copy.deepcopy(self.part.state())
            still.part = SimpleNamespace(state=lambda: state)
        return still.state

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state of the part and of the running click rate."""
        arrays, meta = self.part.state()
        return {**arrays, "expert totals": self._totals.copy()}, meta

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        arrays = dict(arrays)
        self._totals[:] = arrays.pop("expert totals")
        self.part.restore(arrays, meta)
