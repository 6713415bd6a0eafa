"""Keeps the history of a run while another report tells it."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from onlinestack.figures import Relay, Report
from onlinestack.report.history import History

__all__ = ["Recorder"]


class Recorder(Relay):
    """Tells everything to another report, and keeps what a page is made of.

    Parameters
    ----------
    report
        Whom to tell.

    Attributes
    ----------
    news
        Count of events kept so far; equal counts mean equal pages.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self._history = History()
        self._lock = Lock()
        self.news = 0

    def history(self) -> History | None:
        """Return the history so far, in any thread; None before the first point."""
        with self._lock:
            return self._history.copy() if self._history.points else None

    def _keep(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            self._history.add(event)
            self.news += 1

    def checkpoint(self, scores: Mapping[str, Any]) -> None:
        """Tell the figures at a doubling count of records."""
        self._keep({"event": "checkpoint", **scores})
        super().checkpoint(scores)

    def generation(self, event: Mapping[str, Any]) -> None:
        """Tell what became of a training."""
        self._keep(event)
        super().generation(event)

    def detail(self, event: Mapping[str, Any]) -> None:
        """Tell what curves and slices are drawn from."""
        self._keep(event)
        super().detail(event)

    def summary(self, scores: Mapping[str, Any]) -> None:
        """Tell the figures of the whole run."""
        self._keep({"event": "summary", **scores})
        super().summary(scores)
