"""The history of a run: what its JSON lines told, in memory that does not grow with the stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from onlinestack.report.watch import KEPT

__all__ = ["History", "ReportError", "read_history"]

TRAININGS = 2000
"""Generations that are kept, the newest."""
NEEDED = {
    "start": {"task", "names", "kinds", "weighed", "sources", "at", "preset", "version"}
    | {"learning", "resumed_at"},
    "point": {"records", "learned", "pending", "rejected", "weight", "seconds", "shares"},
    "generation": {"member", "number", "cut", "accepted", "active_from", "seconds"},
}
"""What events must have that pages are made of."""
HINT = "give a file written by learn --json"


class ReportError(ValueError):
    """A file that no report can be made from."""


class History:
    """Keeps the events of a run as they come: from its JSON lines, or while it goes on.

    Use `add` for every event. When there are more than 128 points about every other is dropped;
    points tell sums over the whole run, so nothing is lost but detail.

    Attributes
    ----------
    start
        What the run is: task, names, sources; empty before it is known.
    points
        Figures over the whole run, at rising counts of records.
    generations
        What became of each training.
    details
        Reliability, slices, rejects and importance, as told last.
    checkpoint, summary
        As told last; the summary is empty while the run goes on, or where it never ended.
    parts
        Record counts at which the run was resumed.

    Examples
    --------
    >>> history = History()
    >>> history.add({"event": "start", "resumed_at": 0})
    >>> for records in range(1000):
    ...     history.add({"event": "point", "records": records})
    >>> len(history.points) <= 128, history.points[-1]["records"]
    (True, 999)
    """

    def __init__(self) -> None:
        self._clear({})

    def _clear(self, start: Mapping[str, Any]) -> None:
        self.start = dict(start)
        self.points: list[dict[str, Any]] = []
        self.generations: list[dict[str, Any]] = []
        self.details: dict[str, Any] = {}
        self.checkpoint: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.parts: list[int] = []

    def add(self, event: Mapping[str, Any]) -> None:
        """Hear of an event; those of no use here are passed over."""
        kind = event.get("event")
        if kind == "start":
            self._begin(event)
        elif kind == "point":
            if self.points and self.points[-1]["records"] >= event["records"]:
                self.points.pop()
            self.points.append({**event, "part": len(self.parts)})
            if len(self.points) > KEPT:
                self._thin()
        elif kind == "generation":
            self.generations = [*self.generations[1 - TRAININGS :], dict(event)]
        elif kind in ("details", "checkpoint", "summary"):
            setattr(self, kind, dict(event))

    def _thin(self) -> None:
        """Keep about half of the points, the newest and those that lie evenly before it."""
        kept = [self.points[-1]]
        gap = 1.5 * (kept[0]["records"] - self.points[0]["records"]) / KEPT
        for point in reversed(self.points):
            if kept[-1]["records"] - point["records"] >= gap:
                kept.append(point)
        self.points = kept[::-1]

    def _begin(self, event: Mapping[str, Any]) -> None:
        """Begin anew, or go on where a run is resumed."""
        at = event["resumed_at"]
        same = all(self.start.get(key) == event.get(key) for key in ("task", "names"))
        if not at or not same:
            self._clear(event)
            self.parts = [at] if at else []
            return
        # What a run did behind its last snapshot is done again by the one that goes on.
        self.start = dict(event)
        self.parts.append(at)
        self.points = [point for point in self.points if point["records"] <= at]
        self.generations = [each for each in self.generations if each["cut"] <= at]
        self.summary = {}

    def copy(self) -> History:
        """Return what further events do not change."""
        twin = History()
        twin.__dict__.update(self.__dict__)
        twin.points, twin.parts = list(self.points), list(self.parts)
        return twin


def read_history(path: str) -> tuple[History, str | None]:
    """Return the history of a run from its JSON lines.

    Parameters
    ----------
    path
        What ``learn --json`` wrote. Where several runs are in one file, the last is taken, with
        those before it that it goes on from.

    Returns
    -------
    The history, and a sentence about what is odd, None where nothing is.

    Raises
    ------
    ReportError
        Where it is no such file, or holds no points.
    OSError
        Where it can not be read.
    """
    history, odd, events = History(), None, 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
                if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                    raise ReportError(f"{path}: line {number} is no event of a run: {HINT}")
                missing = sorted(NEEDED.get(event["event"], set()) - event.keys())
                if missing:
                    raise ReportError(
                        f"{path}: line {number}, a {event['event']}, lacks {', '.join(missing)}: "
                        f"{HINT}"
                    )
                history.add(event)
            except (UnicodeDecodeError, json.JSONDecodeError):
                if line.endswith(b"\n") or not events:
                    raise ReportError(f"{path}: line {number} is not JSON: {HINT}") from None
                odd = f"the last line of {path} is cut off and was left out"
                break
            events += 1
    if not events:
        raise ReportError(f"{path} is empty: {HINT}")
    if not history.points or not history.start:
        raise ReportError(
            f"{path} has no points that curves could be drawn from, as runs of older versions and "
            "of consume have none: make it anew with learn --json, or use learn --report"
        )
    return history, odd
