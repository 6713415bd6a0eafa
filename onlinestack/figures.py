"""The figures that a run tells of a learner: how it stands now, and over the whole run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from onlinestack.estimator import Board
from onlinestack.serving import PREDICTED_ONLY
from onlinestack.task_metrics import ClassBoard

if TYPE_CHECKING:
    from onlinestack.models import Learner

__all__ = [
    "Relay",
    "Report",
    "checkpoint_figures",
    "late_figures",
    "point_figures",
    "start_figures",
    "summary_figures",
]

FIGURES = {
    "click": ("log_loss", "auc", "accuracy", "normalized_entropy", "calibration", "click_rate"),
    "regression": ("mae", "rmse", "label_mean"),
    "multiclass": ("log_loss", "accuracy", "normalized_entropy"),
}
"""What is reported of an expert for each task; rate and mean are the records', not its own."""
SINCE = {
    "click": ("log_loss", "auc", "click_rate"),
    "regression": ("mae", "rmse", "label_mean"),
    "multiclass": ("log_loss", "accuracy"),
}
"""What is also reported since the last checkpoint."""


class Report(Protocol):
    """Where a run says how it goes."""

    @property
    def live(self) -> bool:
        """Whether somebody watches, so that `tick` is to be called every now and then."""

    def tick(self, run: Any) -> None:
        """Hear that some more records were read; called often."""

    def checkpoint(self, scores: Mapping[str, Any]) -> None:
        """Tell the figures at a doubling count of records."""

    def generation(self, event: Mapping[str, Any]) -> None:
        """Tell what became of a training."""

    def detail(self, event: Mapping[str, Any]) -> None:
        """Tell what curves and slices are drawn from: the start, points between checkpoints..."""

    def summary(self, scores: Mapping[str, Any]) -> None:
        """Tell the figures of the whole run."""

    def note(self, text: str) -> None:
        """Say one line to the user."""

    def end(self) -> None:
        """Hear that the run is over, in whatever way."""


class Relay:
    """A report that tells another all it hears; what does more with it inherits from this.

    Parameters
    ----------
    report
        The other report.
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    @property
    def live(self) -> bool:
        """Whether somebody watches."""
        return self._report.live

    def tick(self, run: Any) -> None:
        """Hear that some more records were read."""
        self._report.tick(run)

    def checkpoint(self, scores: Mapping[str, Any]) -> None:
        """Tell the figures at a doubling count of records."""
        self._report.checkpoint(scores)

    def generation(self, event: Mapping[str, Any]) -> None:
        """Tell what became of a training."""
        self._report.generation(event)

    def detail(self, event: Mapping[str, Any]) -> None:
        """Tell what curves and slices are drawn from."""
        self._report.detail(event)

    def summary(self, scores: Mapping[str, Any]) -> None:
        """Tell the figures of the whole run."""
        self._report.summary(scores)

    def note(self, text: str) -> None:
        """Say one line to the user."""
        self._report.note(text)

    def end(self) -> None:
        """Hear that the run is over, in whatever way."""
        self._report.end()


def checkpoint_figures(learner: Learner, board: Board, generations: int) -> dict[str, Any]:
    """Return the figures so far, and since the board's last mark.

    Parameters
    ----------
    learner
        What learns.
    board
        Its scores.
    generations
        Trainings of trees taken into service so far.
    """
    name, task = board.names[0], learner.aim
    whole: Mapping[str, Any] = board.whole(name)
    since: Mapping[str, Any] = board.since(name)
    return {
        **{key: whole[key] for key in FIGURES[task]},
        **{f"{key}_since": since[key] for key in SINCE[task]},
        **_league(learner, board, generations),
    }


def start_figures(learner: Learner, board: Board) -> dict[str, Any]:
    """Return the names that the lists of `point_figures` follow, and what each is."""
    return {
        "task": learner.aim,
        "names": list(board.names),
        "kinds": list(board.kinds),
        "weighed": list(learner.weights()),
    }


def point_figures(learner: Learner, board: Board) -> dict[str, Any]:
    """Return the figures over the whole run of all there is on a board, and what each weighs.

    Two points tell the figures of the records between them, so no window has to be kept.
    """
    figures = board.plain() | {"shares": list(learner.weights().values())}
    return {key: _rounded(value) for key, value in figures.items()}


def _rounded(value: Any) -> Any:
    """Return a number, or a list of them, short enough to be written many times."""
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return None if value is None or not math.isfinite(value) else round(value, 9)


def _league(learner: Learner, board: Board, generations: int) -> dict[str, Any]:
    """Return how the experts stand, where there are several."""
    weights = learner.weights()
    if len(weights) == 1:
        return {}
    since = {name: board.since(name)["log_loss"] for name in weights}  # type: ignore[typeddict-item]
    known = {name: loss for name, loss in since.items() if loss is not None}
    best = min(known, key=known.__getitem__, default=None)
    return {
        "generations": generations,
        "best": best,
        "weights": weights,
    }


def summary_figures(learner: Learner, board: Board) -> dict[str, Any]:
    """Return the figures of the final prediction over the whole run, and of every expert."""
    figures = FIGURES[learner.aim]
    experts: dict[str, dict[str, Any]] = {}
    weights = learner.weights()
    for name, kind in zip(board.names, board.kinds, strict=True):
        whole: Mapping[str, Any] = board.whole(name)
        experts[name] = {"kind": kind, **{key: whole[key] for key in figures}}
        experts[name]["weight"] = weights.get(name)
    final = experts[board.names[0]]
    if board.names[0] not in weights:
        # The mixture is none of the experts it weighs.
        del experts[board.names[0]]
    return {
        "final": board.names[0],
        **{key: final[key] for key in figures},
        **_classes(learner, board),
        "experts": experts,
    }


def _classes(learner: Learner, board: Board) -> dict[str, Any]:
    """Return the share of each class in the records learned or scored, where there are some."""
    classes = learner.classes
    if classes is None or not isinstance(board, ClassBoard):
        return {}
    return {"classes": {str(n): s for n, s in zip(classes.names, board.shares(), strict=False)}}


def late_figures(tally: Mapping[str, int], read: int, rejected: int) -> dict[str, Any]:
    """Return what became of labels that came later.

    Parameters
    ----------
    tally
        What the learner's ``attributed`` returns.
    read, rejected
        Labels read, and of these such that could not be used.
    """
    keys = (*PREDICTED_ONLY, "unknown", "repeated", "late", "corrected")
    return {
        "labels": {"read": read, "rejected": rejected, **{key: tally[key] for key in keys}},
        "pending_bytes_each": tally["bytes_each"],
    }
