"""From points to curves: figures so far, and over a window that moves along."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from onlinestack.report.history import History

__all__ = ["Curve", "Curves", "entropy"]

WINDOWS = 20
"""A window holds one part of so many of the records."""

Curve = list[float | None]


class Curves:
    """The curves of a history, over its record counts.

    Parameters
    ----------
    history
        With one point at least.

    Attributes
    ----------
    names, kinds
        Of all that was judged: the final prediction first, baselines last.
    records
        Record counts: the abscissa of every curve.
    width
        Records of a window; it is a little wider where no point is at its beginning.

    Examples
    --------
    >>> history = History()
    >>> history.add({"event": "start", "resumed_at": 0, "names": ["a"], "kinds": ["member"]})
    >>> for n, loss in (1, 0.5), (2, 0.4), (4, 0.3):
    ...     history.add({"event": "point", "records": n, "weight": n, "log_loss": [loss]})
    >>> curves = Curves(history)
    >>> curves.whole("log_loss", 0), [round(x, 3) for x in curves.window("log_loss", 0)]
    ([0.5, 0.4, 0.3], [0.5, 0.3, 0.2])
    """

    def __init__(self, history: History) -> None:
        self.points = history.points
        self.names: list[str] = history.start["names"]
        self.kinds: list[str] = history.start["kinds"]
        self.records = [point["records"] for point in self.points]
        self.width = max(1, self.records[-1] // WINDOWS)
        self._resumed = bool(history.parts) and self.records[0] == history.parts[0]

    def begin(self, end: int) -> int:
        """Return the point at which the window that ends at a point begins; -1 for the start."""
        return bisect_right(self.records, self.records[end] - self.width, hi=end) - 1

    def values(self, key: str, at: int | None = None) -> list[Any]:
        """Return a figure of each point, or one of a list of figures."""
        if at is None:
            return [point.get(key) for point in self.points]
        return [point[key][at] for point in self.points]

    def whole(self, key: str, at: int | None = None) -> Curve:
        """Return a figure over all records so far."""
        return self.values(key, at)

    def window(self, key: str, at: int | None = None, *, square: bool = False) -> Curve:
        """Return a mean over a moving window: what the sums of two points differ by.

        Parameters
        ----------
        key, at
            The figure, weighted by the points' ``weight``.
        square
            Whether it is the root of a mean of squares.
        """
        values = self.values(key, at)
        if square:
            values = [None if value is None else value * value for value in values]
        means = self._means(values, self.values("weight"))
        return [None if m is None else math.sqrt(max(0.0, m)) for m in means] if square else means

    def calibration(self) -> Curve:
        """Return predicted over observed clicks of the final prediction in each window."""
        rates, ratios = self.values("click_rate"), self.values("calibration", 0)
        clicks = [
            rate and rate * weight
            for rate, weight in zip(rates, self.values("weight"), strict=True)
        ]
        return self._means(ratios, clicks)

    def speed(self) -> Curve:
        """Return records a second in each window of one part of the run."""
        seconds, parts = self.values("seconds"), self.values("part")
        speeds: Curve = []
        for end, records in enumerate(self.records):
            begin = max(0, self.begin(end))
            while parts[begin] != parts[end]:
                begin += 1
            took = seconds[end] - seconds[begin]
            if begin == end:
                speeds.append(records / seconds[end] if end == 0 and seconds[end] else None)
            else:
                speeds.append((records - self.records[begin]) / took if took > 0 else None)
        return speeds

    def _means(self, values: Sequence[Any], weights: Sequence[Any]) -> Curve:
        """Return the weighted means over windows from weighted means so far."""
        sums = [(v or 0.0) * (w or 0.0) for v, w in zip(values, weights, strict=True)]
        means: Curve = []
        for end in range(len(sums)):
            begin = self.begin(end)
            if begin < 0 and self._resumed:
                begin = 0  # what was before it is not known
            before = (sums[begin], weights[begin] or 0.0) if begin >= 0 else (0.0, 0.0)
            weight = (weights[end] or 0.0) - before[1]
            means.append((sums[end] - before[0]) / weight if weight > 0 else None)
        return means


def entropy(rate: float | None) -> float | None:
    """Return the log-loss of always predicting a rate, None where it is 0 or not known.

    Examples
    --------
    >>> round(entropy(0.5), 4), entropy(-1e-17)
    (0.6931, None)
    """
    # A window's rate is a difference of sums, which may be a little less than 0.
    if rate is None or not 0 < rate < 1:
        return None
    return -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
