"""Members from elsewhere: any river classifier as a part, one record at a time."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import PREDICT, Block, Tape

__all__ = ["RiverMember"]

LEAST = 1e-6


class RiverMember:
    """A classifier of river whose probability of a click is a member's score.

    Use it to see what another learner adds to a stack. It is asked and taught record by record in
    Python, so it is slow, and what it is made of is not known here, so it can not be saved.

    Parameters
    ----------
    model
        A classifier with ``predict_proba_one`` and ``learn_one``. Where ``learn_one`` takes ``w``
        it is given the weight; otherwise records of weight 0 are left out.
    name
        Its name in the league table.

    Examples
    --------
    >>> from river.linear_model import LogisticRegression
    >>> from onlinestack.block import immediate_tape
    >>> block = Block.of([[]] * 3, label=[1, 1, 0])
    >>> block.records = np.array([{"a": 1}, {"a": 1}, {"a": 0}])
    >>> member = RiverMember(LogisticRegression(), "river")
    >>> member.run(block, immediate_tape(block.label))
    >>> [round(float(score), 2) for score in member.raw[:2]]
    [0.0, 0.01]
    """

    needs: tuple[str, ...] = ()

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        self.raw = np.zeros(0, np.float32)
        parameters = inspect.signature(model.learn_one).parameters
        self._weighs = "w" in parameters

    @property
    def unsaved(self) -> str:
        """Why it can not be saved."""
        return (
            f"the member {self.name!r} is a {type(self.model).__name__}, whose state is not known "
            "here: save a stack without it, or ask for no snapshot"
        )

    def run(self, block: Block, tape: Tape) -> None:
        """Ask for each record that the tape predicts, teach each that it learns."""
        assert block.records is not None  # noqa: S101 - the stack gives it to such members
        if len(self.raw) < block.n:
            self.raw = np.zeros(max(4096, block.n), np.float32)
        for op, row in zip(tape.op.tolist(), tape.row.tolist(), strict=True):
            x = block.records[row]
            if op == PREDICT:
                given = self.model.predict_proba_one(x)
                p = given.get(True, 0.0 if given else 0.5)
                p = min(max(p, LEAST), 1.0 - LEAST)
                self.raw[row] = math.log(p / (1.0 - p))
                continue
            w, y = float(block.weight[row]), bool(block.label[row] > 0)
            if self._weighs:
                self.model.learn_one(x, y, w=w)
            elif w > 0:
                self.model.learn_one(x, y)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Refuse to be saved.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(self.unsaved)

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Refuse to be restored, as to be saved.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(self.unsaved)
