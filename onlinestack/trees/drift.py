"""Retraining on drift: a detector on the loss of a score, and a schedule that listens to it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN, Block, Tape
from onlinestack.kernel import exp32, kernel, log1p32
from onlinestack.trees.schedule import Schedule

__all__ = ["Detector", "OnDrift", "PageHinkley", "RiverDetector", "log_loss", "watch_loss"]

ZERO = np.float32(0)

MOST = 10.0
"""Standard deviations that one loss may add: a few rare clicks that crowd together are no drift."""
COUNT, MEAN, VARIANCE, EXCESS, FOUND = 0, 1, 2, 3, 4


class Detector(Protocol):
    """Watches the loss of a score, and remembers that it has risen until told to forget."""

    @property
    def detected(self) -> bool:
        """Whether the loss has risen since `reset`."""

    def watch(self, block: Block, tape: Tape) -> None:
        """Take in the rows a tape learns, one after another."""

    def reset(self) -> None:
        """Forget what was found."""

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return everything needed to go on as if never stopped."""

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned."""


@kernel()
def log_loss(margin: Any, click: Any) -> Any:
    """Return the log-loss of a margin, float32, for a click or none; without overflow."""
    against = -margin if click else margin
    return max(against, ZERO) + log1p32(exp32(-abs(margin)))


@kernel()
def watch_loss(
    op: Any,
    row: Any,
    label: Any,
    weight: Any,
    scores: Any,
    column: Any,
    tolerance: Any,
    threshold: Any,
    least: Any,
    memory: Any,
    sums: Any,
) -> None:
    """Test the losses of the rows a tape learns, in its order; see `PageHinkley`.

    Parameters
    ----------
    op, row
        The tape.
    label, weight, scores
        Of the block.
    column
        Column of the scores; margins that are not finite are passed over.
    tolerance, threshold, least, memory
        Settings of the test, float64.
    sums
        ``float64[5]``: losses seen, ``memory`` at most; their mean and variance; the excess; and
        1 once the excess has passed the threshold.
    """
    for step in range(len(op)):
        r = row[step]
        if op[step] != LEARN or weight[r] <= ZERO or not np.isfinite(scores[r, column]):
            continue
        loss = np.float64(log_loss(scores[r, column], label[r] > ZERO))
        above = loss - sums[MEAN]
        if sums[COUNT] >= least and sums[VARIANCE] > 0.0:
            deviations = min(above / np.sqrt(sums[VARIANCE]), MOST)
            sums[EXCESS] = max(0.0, sums[EXCESS] + deviations - tolerance)
            if sums[EXCESS] > threshold:
                sums[FOUND] = 1.0
        sums[COUNT] = min(sums[COUNT] + 1.0, memory)
        sums[MEAN] += above / sums[COUNT]
        sums[VARIANCE] += (above * (loss - sums[MEAN]) - sums[VARIANCE]) / sums[COUNT]


class PageHinkley:
    """Page's and Hinkley's test on the log-loss, in units of its own standard deviation.

    Each loss is compared with the mean of those before it. What it is above,
    in standard deviations (10 at most) and less a tolerance, adds up; the sum never falls below 0,
    and above the threshold it is a drift. In these units the same settings do for rare clicks and
    for frequent ones. Records of weight 0 are not looked at, and other weights do not matter.

    Parameters
    ----------
    column
        Column of the block's scores that is watched.
    tolerance
        Rise of the mean loss, in standard deviations, that is no drift.
    threshold
        Sum at which a drift is told: a rise by s deviations is found after about
        threshold / (s - tolerance) records, and a steady loss that is not too heavy-tailed gives a
        false alarm each exp(2 tolerance threshold) / (2 tolerance²) records or so.
    least
        Losses seen before the test begins.
    memory
        Losses that their mean and variance go back to, about: all of them up to so many, from
        then on decaying. So the mean follows a learner that still gets better.

    References
    ----------
    E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954; D. V. Hinkley, "Inference
    about the change-point from cumulative sum tests", Biometrika 58, 1971.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> block = Block.of([[]] * 3000, label=[0, 1] * 1000 + [1, 0] * 500)
    >>> block.scores = np.tile(np.array([[-1], [2]], np.float32), (1500, 1))
    >>> detector = PageHinkley(column=0)
    >>> detector.watch(block.rows(0, 2000), immediate_tape(block.label[:2000]))
    >>> detector.detected
    False
    >>> detector.watch(block.rows(2000, 3000), immediate_tape(block.label[2000:]))
    >>> detector.detected
    True
    """

    def __init__(
        self,
        column: int,
        *,
        tolerance: float = 0.05,
        threshold: float = 150.0,
        least: int = 500,
        memory: int = 10_000,
    ) -> None:
        self.column = column
        self.tolerance, self.threshold = tolerance, threshold
        self.least, self.memory = least, memory
        self._sums = np.zeros(5)

    @property
    def detected(self) -> bool:
        """Whether the loss has risen since `reset`."""
        return bool(self._sums[FOUND])

    def watch(self, block: Block, tape: Tape) -> None:
        """Test the losses of the rows a tape learns."""
        watch_loss(
            tape.op,
            tape.row,
            block.label,
            block.weight,
            block.scores,
            self.column,
            float(self.tolerance),
            float(self.threshold),
            float(self.least),
            float(self.memory),
            self._sums,
        )

    def reset(self) -> None:
        """Add up anew, from a mean that counts for few losses from now on.

        So a loss that stays high is found again, once or twice.
        """
        self._sums[[EXCESS, FOUND]] = 0
        self._sums[COUNT] = min(self._sums[COUNT], 2 * self.least)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the sums of the test."""
        return {"sums": self._sums.copy()}, {}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self._sums[:] = arrays["sums"]


class RiverDetector:
    """One of river's drift detectors on the log-loss of a score; for learners never saved.

    Use `PageHinkley` instead where snapshots are wanted: what a detector from elsewhere is made
    of is not known here.

    Parameters
    ----------
    detector
        Anything with ``update(loss)`` and ``drift_detected``.
    column
        Column of the block's scores that is watched.

    Examples
    --------
    >>> from river.drift import ADWIN
    >>> RiverDetector(ADWIN(), column=0).state()
    Traceback (most recent call last):
    ValueError: an ADWIN detector was to be saved; use PageHinkley, ...
    """

    def __init__(self, detector: Any, column: int) -> None:
        self.detector, self.column = detector, column
        self._found = False

    @property
    def detected(self) -> bool:
        """Whether the loss has risen since `reset`."""
        return self._found

    def watch(self, block: Block, tape: Tape) -> None:
        """Give the detector the losses of the rows a tape learns."""
        for r in tape.row[tape.op == LEARN]:
            margin = block.scores[r, self.column]
            if block.weight[r] > 0 and np.isfinite(margin):
                self.detector.update(float(log_loss(margin, block.label[r] > 0)))
                self._found = self._found or bool(self.detector.drift_detected)

    def reset(self) -> None:
        """Forget what was found; what to remember of the losses is the detector's own affair."""
        self._found = False

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Refuse to be saved.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(
            f"an {type(self.detector).__name__} detector was to be saved; use PageHinkley, whose "
            "state is plain arrays, or ask for no snapshot"
        )

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Refuse to be restored, as to be saved.

        Raises
        ------
        ValueError
            Always.
        """
        self.state()


class OnDrift:
    """A generation on drift, in addition to those of another schedule.

    The detector sees every record, and is asked each ``check`` records whether it found a drift.
    What it found is forgotten at a cut for drift. At another cut it is not, for little of what is
    trained on then may be from behind the drift; and if the loss stays high behind a cut for drift,
    the next one follows at ``distance``, with more of the new to train on, until the detector takes
    the loss for the normal one.

    Parameters
    ----------
    schedule
        The other schedule; its cuts are made as without drifts.
    detector
        What tells drifts.
    check
        Records between questions.
    distance
        Least distance of a cut for drift from the cut before it; until then it waits.

    Raises
    ------
    ValueError
        Where a count is below 1.

    Examples
    --------
    >>> from onlinestack.trees.schedule import ByRecords
    >>> OnDrift(ByRecords(), PageHinkley(0)).next_check(learned=25_624, cut=25_624)
    26624
    """

    def __init__(
        self, schedule: Schedule, detector: Detector, *, check: int = 1024, distance: int = 4096
    ) -> None:
        if check < 1 or distance < 1:
            raise ValueError(
                f"check {check} and distance {distance} were given; expected at least 1 record"
            )
        self.schedule, self.detector = schedule, detector
        self.check, self.distance = check, distance

    def watch(self, block: Block, tape: Tape) -> None:
        """Show the rows a tape learns to the other schedule and to the detector."""
        self.schedule.watch(block, tape)
        self.detector.watch(block, tape)

    def next_check(self, learned: int, cut: int) -> int:
        """Return the next count to ask the detector or the other schedule at."""
        look = learned - learned % self.check + self.check
        return min(look, self.schedule.next_check(learned, cut))

    def should_retrain(self, learned: int, cut: int) -> bool:
        """Tell whether the other schedule is due, or a drift was found."""
        return self.schedule.should_retrain(learned, cut) or self._drifted(learned, cut)

    def _drifted(self, learned: int, cut: int) -> bool:
        asked = learned % self.check == 0 and learned - cut >= self.distance
        return asked and self.detector.detected

    def note_cut(self, learned: int, cut: int) -> None:
        """Let the detector forget what it found, if the cut is for that."""
        if self._drifted(learned, cut):
            self.detector.reset()
        self.schedule.note_cut(learned, cut)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the states of the other schedule and of the detector."""
        arrays, meta = self.schedule.state()
        found, known = self.detector.state()
        both = {f"schedule/{name}": array for name, array in arrays.items()}
        both |= {f"detector/{name}": array for name, array in found.items()}
        return both, {"schedule": meta, "detector": known}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        for name, part in (("schedule", self.schedule), ("detector", self.detector)):
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
            part.restore(own, meta[name])
