"""The one judge of all learners: figures and a learning curve from probabilities and labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block, immediate_tape
from onlinestack.metrics import Scoreboard

__all__ = ["Comparison", "both_saw", "curve_points", "grid", "judge"]

STRETCHES = 40
"""Stretches of records whose losses are compared, to see how far a difference is chance."""


def grid(n: int) -> list[int]:
    """Return the counts of records at which curves have a point: sixteen from each power of 2 on.

    They do not depend on how many records there are, so that curves of any lengths can be compared.

    >>> grid(40)[-6:]
    [31, 32, 34, 36, 38, 40]
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
    points, curve, before = grid(len(y)), [], 0
    for point in [*points, len(y)]:
        if point > before:
            block = Block.of([[]] * (point - before), label=y[before:point])
            board.update(block, immediate_tape(block.label), q[before:point])
            before = point
        curve.append(board.whole("learner")["log_loss"])
    return {"scores": dict(board.whole("learner")), "curve": curve[: len(points)]}


def curve_points(cell: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Return the points of a cell's learning curve: records, and the log-loss of all until then."""
    curve = cell["curve"]
    return list(zip(itertools.islice(_points(), len(curve)), curve, strict=True))


class Comparison:
    """Two cells of one track on the records that both saw.

    Parameters
    ----------
    one, other
        The cells.
    """

    def __init__(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
        a, b = one["scores"], other["scores"]
        if a["records"] == b["records"]:
            self.records, self.one, self.other = a["records"], a["log_loss"], b["log_loss"]
        else:
            common = min(len(one["curve"]), len(other["curve"]))
            self.records = next(itertools.islice(_points(), common - 1, None))
            self.one, self.other = one["curve"][common - 1], other["curve"][common - 1]
        self._curves = one["curve"], other["curve"]

    @property
    def more(self) -> float:
        """How much higher the other's log-loss is, as a share of the first's."""
        return float(self.other / self.one - 1)

    @property
    def clear(self) -> bool:
        """Whether the difference is more than two standard errors over stretches of records."""
        ours, theirs = (_stretches(curve, self.records) for curve in self._curves)
        gaps = [b - a for a, b in zip(ours, theirs, strict=True)]
        if len(gaps) < 2:
            return False
        mean = sum(gaps) / len(gaps)
        spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1))
        return abs(mean) > 2 * spread / math.sqrt(len(gaps))


def both_saw(
    one: Mapping[str, Any], other: Mapping[str, Any], least: int = 500
) -> Comparison | None:
    """Return the comparison of two cells; None where they have too few records in common."""
    if not (one.get("curve") and other.get("curve")):
        return None
    comparison = Comparison(one, other)
    return comparison if comparison.records >= least and comparison.one > 0 else None


def _stretches(curve: Sequence[float], records: int) -> list[float]:
    """Return the log-loss of each of about forty stretches of the first records."""
    found: list[float] = []
    begin, lost = 0, 0.0
    for at, loss in zip(_points(), curve, strict=False):
        if at > records:
            break
        if at - begin >= records / STRETCHES:
            found.append((loss * at - lost) / (at - begin))
            begin, lost = at, loss * at
    return found
