"""What every combiner shares, and the two simplest: the plain mean and the best expert."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import PREDICT, Block, Tape
from onlinestack.kernel import kernel, log32

__all__ = ["Arithmetic", "Best", "Combiner"]

ONE = np.float32(1)


class Combiner:
    """A part that reads what the experts said and writes one prediction more.

    Parameters
    ----------
    members
        How many of the experts are members.
    experts
        How many experts there are, the mean among them.
    column
        Its column of ``block.p``, behind those of the experts.

    Attributes
    ----------
    arrays
        All that it has learned, by name.
    """

    needs: tuple[str, ...] = ("p",)

    def __init__(self, members: int, experts: int, column: int) -> None:
        self.members = members
        self.experts = experts
        self.column = column
        self.fills = f"p {column}"
        self.arrays: dict[str, NDArray[np.float64]] = {}

    def run(self, block: Block, tape: Tape) -> None:
        """Predict into its column the rows the tape predicts, and learn those it learns."""
        raise NotImplementedError

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what it has learned."""
        return {name: array.copy() for name, array in self.arrays.items()}, {}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        for name, array in self.arrays.items():
            array[:] = arrays[name]


@kernel()
def average(op: Any, row: Any, members: Any, column: Any, p: Any) -> None:
    """Predict the mean of the members' probabilities; parameters as for `vote`."""
    for step in range(len(op)):
        i = row[step]
        if op[step] == PREDICT:
            total = 0.0
            for k in range(1, members + 1):
                total += np.float64(p[i, k])
            p[i, column] = np.float32(total / members)


class Arithmetic(Combiner):
    """The plain mean of the members' probabilities.

    Next to the expert ``mean``, their geometric mean, it is less sure of itself where members
    differ: one that says 0.999 counts no more than one that says 0.9.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> block = Block.of([[]], label=[1])
    >>> block.p = np.array([[0, 0.25, 0.75, 0, 0]], np.float32)
    >>> Arithmetic(members=2, experts=3, column=4).run(block, immediate_tape(block.label))
    >>> float(block.p[0, 4])
    0.5
    """

    def run(self, block: Block, tape: Tape) -> None:
        """Predict into its column the rows the tape predicts."""
        average(tape.op, tape.row, self.members, self.column, block.p)


@kernel()
def follow(
    op: Any, row: Any, label: Any, weight: Any, experts: Any, column: Any, losses: Any, p: Any
) -> None:
    """Predict what the expert with the least loss so far does; the first of several.

    Parameters
    ----------
    op, row, label, weight, column, p
        As for `vote`.
    experts
        How many experts there are; their predictions are columns 1 to experts of p.
    losses
        ``float64[experts]``: log-loss of each so far.
    """
    for step in range(len(op)):
        i = row[step]
        if op[step] == PREDICT:
            best = 0
            for k in range(1, experts):
                if losses[k] < losses[best]:
                    best = k
            p[i, column] = p[i, best + 1]
            continue
        for k in range(experts):
            given = p[i, k + 1] if label[i] > 0 else ONE - p[i, k + 1]
            losses[k] -= np.float64(weight[i]) * np.float64(log32(given))


class Best(Combiner):
    """A single expert: whichever has the lowest log-loss so far; model selection.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> block = Block.of([[]] * 2, label=[1, 1])
    >>> block.p = np.tile(np.array([0, 0.25, 0.75, 0.5, 0], np.float32), (2, 1))
    >>> Best(members=2, experts=3, column=4).run(block, immediate_tape(block.label))
    >>> block.p[:, 4].tolist()
    [0.25, 0.75]
    """

    def __init__(self, members: int, experts: int, column: int) -> None:
        super().__init__(members, experts, column)
        self.arrays["losses"] = np.zeros(experts)

    def run(self, block: Block, tape: Tape) -> None:
        """Predict into its column the rows the tape predicts, and learn those it learns."""
        follow(
            tape.op,
            tape.row,
            block.label,
            block.weight,
            self.experts,
            self.column,
            self.arrays["losses"],
            block.p,
        )
