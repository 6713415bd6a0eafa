"""The one judge of all learners: figures and a learning curve from probabilities and labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block, immediate_tape
from onlinestack.metrics import Scoreboard

__all__ = ["grid", "judge", "loss_at", "windows"]


def grid(n: int) -> list[int]:
    """Return the counts of records at which curves have a point: sixteen from each power of 2 on.

    They do not depend on how many records there are, so that curves of any lengths can be compared.

    >>> grid(40)[-6:]
    [30, 31, 32, 34, 36, 38]
    """
    return list(itertools.takewhile(lambda at: at <= n, _points()))


def _points() -> Iterator[int]:
    at = 1
    while True:
        yield at
        at += 1 << max(0, at.bit_length() - 5)


def judge(p: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, Any]:
    """Score the predictions of the first records by the product's own scoreboard.

    Parameters
    ----------
    p
        ``float64[m]``: probabilities of the records 0 to m - 1.
    labels
        ``float64[n]``, n >= m: 1, 0, or NaN for records that do not count.

    Returns
    -------
    ``scores``, and ``curve``: the log-loss of all records until each point of the `grid`, in
    records with a label.

    Raises
    ------
    ValueError
        Where a probability is not one.
    """
    if len(p) > len(labels) or not np.all((p >= 0) & (p <= 1)):
        raise ValueError("predictions are to be probabilities, one for each of the first records")
    known = ~np.isnan(labels[: len(p)])
    y, q = labels[: len(p)][known], p[known].astype(np.float32)
    board = Scoreboard(["learner"], ["learner"])
    curve, before = [], 0
    for point in [*grid(len(y)), len(y)]:
        block = Block.of([[]] * (point - before), label=y[before:point])
        if block.n:
            board.update(block, immediate_tape(block.label), q[before:point])
        before = point
        curve.append(board.whole("learner")["log_loss"])
    scores = dict(board.whole("learner"))
    return {"scores": scores, "curve": [value for value in curve[:-1] if value is not None]}


def loss_at(cell: Mapping[str, Any], records: int) -> tuple[int, float]:
    """Return the last point up to some records that a cell's curve has, and the log-loss there."""
    if cell["scores"]["records"] <= records:
        return cell["scores"]["records"], cell["scores"]["log_loss"]
    points = grid(records)
    return points[-1], cell["curve"][len(points) - 1]


def windows(curve: Sequence[float], parts: int) -> list[tuple[int, float]]:
    """Return the log-loss of stretches of records, each about one of so many parts of the curve.

    Parameters
    ----------
    curve
        Log-loss of all records until each point of the grid.
    parts
        How many stretches there are, about; those of the end are longer.

    Returns
    -------
    The record at the end of each stretch, and the log-loss of the stretch.
    """
    found: list[tuple[int, float]] = []
    begin, lost = 0, 0.0
    points = list(itertools.islice(_points(), len(curve)))
    for at, loss in zip(points, curve, strict=True):
        if at - begin >= points[-1] / parts:
            found.append((at, (loss * at - lost) / (at - begin)))
            begin, lost = at, loss * at
    return found
