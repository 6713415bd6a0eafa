"""What a learner must beat: predictions that read no feature at all.

Both are those of the product's own league table: the click rate so far, and the label seen last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tracks import Deadline, Track

from peers.base import Described

__all__ = ["LastLabel", "RunningRate"]

REPEAT = 0.999
"""Probability that the label comes again, as in the product's league table."""


def _known(track: Track) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the labels and how many of the first are known when each record is predicted."""
    return track.labels, np.maximum(np.arange(track.n) - track.delay, 0)


@dataclass(frozen=True)
class RunningRate(Described):
    """The click rate of all labels known, (clicks + 1/2) / (records + 1)."""

    def run(self, track: Track, deadline: Deadline) -> NDArray[np.float64]:
        """Return the probabilities of all records."""
        labels, known = _known(track)
        clicks = np.concatenate([[0.0], np.cumsum(np.nan_to_num(labels))])
        records = np.concatenate([[0.0], np.cumsum(~np.isnan(labels))])
        p: NDArray[np.float64] = (clicks[known] + 0.5) / (records[known] + 1.0)
        return p


@dataclass(frozen=True)
class LastLabel(Described):
    """0.999 for the label known last, 1/2 before the first."""

    def run(self, track: Track, deadline: Deadline) -> NDArray[np.float64]:
        """Return the probabilities of all records."""
        labels, known = _known(track)
        said = np.where(labels > 0, REPEAT, 1.0 - REPEAT)
        at = np.where(np.isnan(labels), -1, np.arange(track.n))
        last = np.concatenate([[-1], np.maximum.accumulate(at)])[known]
        return np.where(last < 0, 0.5, said[last])
