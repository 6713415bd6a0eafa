"""The tree member: one generation of boosted trees serves while the next is trained.

Notes
-----
A cut at count c (records learned) starts a training on the rows of the window up to there. It is
waited for, and judged, at exactly ``c + min(lag, max(256, c // 8))``: soon in a short stream,
``lag`` records behind from 8 x lag on. One training at a time is under way in a member; a
schedule is not asked before its swap.

The guard compares the log-loss of the new generation with that of what serves, on the records
between cut and swap, which it has not seen. It is refused where the mean of the differences,
weighted, is above their standard error.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block, Tape
from onlinestack.kernel import bound
from onlinestack.murmur import uniform_hash
from onlinestack.trees.boosted import TrainingError, TreeSettings
from onlinestack.trees.forest import ForestError, flatten
from onlinestack.trees.guard import CLICKS, WEIGHT, judge
from onlinestack.trees.model import gains_of
from onlinestack.trees.schedule import Schedule
from onlinestack.trees.serving import Generation, serve
from onlinestack.trees.training import Order, Trained, Trainer
from onlinestack.trees.window import Window

__all__ = ["EARLY_LAG", "Retrained"]

EARLY_LAG = 256
"""Least lag, unless a smaller one is set: records a new generation is judged on."""

REMEMBERED = 200
"""Trainings whose outcome is kept."""

LOG = logging.getLogger(__name__)


def _for_want_of_memory(error: BaseException) -> bool:
    """Tell whether a training failed because the machine had no memory left for it."""
    known = isinstance(error, MemoryError) or isinstance(error.__context__, MemoryError)
    return known or "bad_alloc" in str(error)  # XGBoost's own


@dataclass(slots=True)
class _Pending:
    """A training that is under way."""

    cut: int
    swap: int
    rate: tuple[float, float]
    """Weight of the clicks and of all records at the cut."""
    paying: tuple[int, ...] | None
    """The columns to train on; None to find them."""
    future: Future[Trained] | None = None
    """None until it is ordered (again)."""


class Retrained:
    """Boosted trees, trained again and again on the recent past: a member, as a part.

    Before the first generation its score is the base margin, where there is one, or else the
    margin of the running click rate. A training that fails, or whose generation is refused by
    the guard, leaves everything as it was until the next is due.

    Parameters
    ----------
    name
        Of the member.
    window
        The window it learns from.
    settings
        Of each training.
    schedule
        Says when generations are due.
    column
        Its column of the block's scores.
    needs, fills
        What must have been filled before, and what it fills, for the order of parts.
    lag
        Records from a cut to its swap, fewer early in the stream; see the module.
    rows
        Records to train on; all that the window holds if not given.
    base
        Name of a margin kept by the window, which the trees start from.
    columns
        The columns of the table that may be split on; all if not given.
    trainer
        Shared by the members of a learner; one in the background of its own if not given.
    leaves
        Whether to fill namespace ``l`` with the leaves, one feature a tree, hashed anew in each
        generation.

    Raises
    ------
    ValueError
        Where the window is too small for the lag or the rows, or does not keep the base margin.

    Examples
    --------
    >>> from onlinestack.trees.schedule import ByRecords
    >>> window = Window(width=2)
    >>> trees = Retrained("trees", window, TreeSettings(), ByRecords(), column=0)
    >>> trees.next_change()
    1000
    """

    def __init__(
        self,
        name: str,
        window: Window,
        settings: TreeSettings,
        schedule: Schedule,
        *,
        column: int,
        needs: tuple[str, ...] = (),
        fills: str = "s",
        lag: int = 4096,
        rows: int | None = None,
        base: str | None = None,
        columns: Sequence[int] | None = None,
        trainer: Trainer | None = None,
        leaves: bool = False,
    ) -> None:
        if not 1 <= lag <= window.slack:
            raise ValueError(
                f"{name} was given a lag of {lag} records; expected 1 to {window.slack}: give the "
                "window more slack or the member less lag"
            )
        if rows is not None and rows < 1:
            raise ValueError(f"{name} was given {rows} rows to train on; expected at least 1")
        if base is not None and base not in window.keep:
            raise ValueError(
                f"{name} starts from the margin {base!r}; the window keeps {list(window.keep)}: "
                "keep it there"
            )
        self.name, self.column, self.needs, self.fills = name, column, needs, fills
        self.window, self.settings, self.schedule = window, settings, schedule
        self.lag, self.rows = lag, min(rows or window.rows, window.rows)
        self.base, self.leaves = base, leaves
        self.columns = None if columns is None else tuple(columns)
        self.trainer = trainer if trainer is not None else Trainer()
        self.events: list[dict[str, Any]] = []
        """What became of each training, oldest first; the caller takes them out."""
        self.learned = self.number = self.active = 0
        """Records learned; trainings begun, which number generations; the one in service."""
        self.accepted = self.refused = self.failed = 0
        self.history: list[list[Any]] = []
        """Of the trainings judged lately, oldest first: number, cut, record it serves from (None:
        it never did), rounds (None: it failed)."""
        self.base_column = -1 if base is None else window.keep[base]
        self._rate = np.zeros(2)
        self.generation = Generation()
        self._pending: _Pending | None = None
        self._cut = 0
        self._due = schedule.next_check(0, 0)

    def run(self, block: Block, tape: Tape) -> None:
        """Score the rows that the tape predicts, count clicks at those that it learns."""
        self.generation.score(block, tape, self.column, self.base_column)
        serve(*self._arguments(block, tape))
        if self.leaves:
            self.generation.fill_leaves(block, tape)
        if tape.learns:
            self._count(block, tape)

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        calls: list[Callable[[], object]] = []
        if tape.learns < len(tape.op):
            calls += self.generation.bind(block, tape, self.column, self.base_column)
            if self.leaves:
                calls.append(functools.partial(self.generation.fill_leaves, block, tape))
        calls.append(bound(serve, *self._arguments(block, tape)))
        if tape.learns:
            calls.append(functools.partial(self._count, block, tape))
        return calls

    def _arguments(self, block: Block, tape: Tape) -> tuple[Any, ...]:
        source = self.base_column if self.generation.forest is None else self.column
        return (
            tape.op,
            tape.row,
            block.label,
            block.weight,
            block.scores,
            self.column,
            source,
            self._rate,
        )

    def _count(self, block: Block, tape: Tape) -> None:
        """Count what is learned; order the training that was under way when restored."""
        if self._pending is not None:
            self._order(self._pending)
        self.schedule.watch(block, tape)
        self.learned += tape.learns

    # retraining

    def next_change(self) -> int:
        """Return the count of learned records at which `change` is due: a swap, or a question."""
        return self._due

    @property
    def under_way(self) -> tuple[int, int] | None:
        """Cut and swap of the training under way, if there is one."""
        return None if self._pending is None else (self._pending.cut, self._pending.swap)

    def change(self) -> None:
        """Swap what was trained, or begin a training if one is due; called between quanta."""
        if self._pending is not None:
            self._swap(self._pending)
            self._pending = None
        elif self.schedule.should_retrain(self.learned, self._cut):
            self._begin()
        if self._pending is not None:
            self._due = self._pending.swap
        else:
            self._due = self.schedule.next_check(self.learned, self._cut)

    @property
    def training(self) -> bool:
        """Whether a training is under way that has not ended by itself yet."""
        pending = self._pending
        return pending is not None and not (pending.future is not None and pending.future.done())

    def _begin(self) -> None:
        self.number += 1
        self.schedule.note_cut(self.learned, self._cut)
        self._cut = self.learned
        swap = self._cut + min(self.lag, max(EARLY_LAG, self._cut // 8))
        rate = float(self._rate[CLICKS]), float(self._rate[WEIGHT])
        self._pending = _Pending(self._cut, swap, rate, self.trainer.paying(self._cut))
        self._order(self._pending)

    def _order(self, pending: _Pending) -> Future[Trained]:
        """Order a training, unless it is ordered already, and was not cancelled."""
        if pending.future is None or pending.future.cancelled():
            pending.future = self.trainer.submit(
                Order(
                    self.window,
                    pending.cut,
                    self.rows,
                    self.settings,
                    self.base,
                    self.columns,
                    pending.paying,
                )
            )
        return pending.future

    def _swap(self, pending: _Pending) -> None:
        """Wait for the training, judge what came of it, let it serve if it may."""
        event: dict[str, Any] = {
            "event": "generation",
            "member": self.name,
            "number": self.number,
            "cut": pending.cut,
            "active_from": None,
            "rounds": None,
            "seconds": None,
            "accepted": False,
        }
        self.events.append(event)
        self._judge(pending, event)
        told = (event[key] for key in ("number", "cut", "active_from", "rounds"))
        self.history = [*self.history, list(told)][-REMEMBERED:]

    def _judge(self, pending: _Pending, event: dict[str, Any]) -> None:
        """Fill in the event of a training."""
        try:
            trained = self.trainer.wait(self._order(pending))
        except (TrainingError, ForestError, MemoryError) as error:
            self._fail(event, error)
            return
        event |= {"rounds": trained.model.rounds, "seconds": trained.seconds}
        if pending.paying is None and self.trainer.keep is not None:
            self.trainer.found = pending.cut, trained.paying
        verdict = judge(
            self.window,
            pending.cut,
            self.learned,
            trained.forest,
            self.generation.forest,
            base=self.base,
            rate=pending.rate,
        )
        if not verdict.accepted:
            self.refused += 1
            event["reason"] = (
                f"its log-loss is {verdict.rise:.4g} above that of what serves, with a standard "
                f"error of {verdict.error:.2g}, on {self.learned - pending.cut:,} new records"
            )
            LOG.info("%s: generation %d refused: %s", self.name, self.number, event["reason"])
            return
        self.accepted += 1
        self.active = self.number
        event |= {"active_from": self.learned, "accepted": True}
        self.generation = Generation(trained.model.data, trained.forest, self._salt())
        LOG.info(
            "%s: generation %d of %d rounds, cut at %d, serves from %d on (trained in %.1f s)",
            self.name,
            self.number,
            trained.model.rounds,
            pending.cut,
            self.learned,
            trained.seconds,
        )

    def _fail(self, event: dict[str, Any], error: Exception) -> None:
        self.failed += 1
        event["reason"] = str(error) or type(error).__name__
        if _for_want_of_memory(error):
            event["replay"] = "void"
            LOG.warning(
                "%s: generation %d failed for want of memory, so a replay may differ: %s",
                self.name,
                self.number,
                event["reason"],
            )
        else:
            LOG.info("%s: generation %d failed: %s", self.name, self.number, event["reason"])

    def _salt(self) -> int:
        return uniform_hash(self.name.encode(), self.active % 2**32)

    def gains(self) -> dict[int, float]:
        """Return what splits on each column gained in the generation in service."""
        return gains_of(self.generation.data) if self.generation.data else {}

    # snapshots

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the generation in service, the schedule, and what is needed to train anew."""
        arrays, schedule = self.schedule.state()
        arrays = {f"schedule/{name}": array for name, array in arrays.items()}
        arrays["generation"] = np.frombuffer(self.generation.data, np.uint8)
        arrays["rate"] = self._rate.copy()
        meta: dict[str, Any] = {
            "learned": self.learned,
            "number": self.number,
            "active": self.active,
            "accepted": self.accepted,
            "refused": self.refused,
            "failed": self.failed,
            "cut": self._cut,
            "due": self._due,
            "paying": self.trainer.found,
            "pending": None,
            "schedule": schedule,
            "history": self.history,
        }
        if self._pending is not None:
            columns = self._pending.paying
            meta["pending"] = [self._pending.cut, self._pending.swap, columns and list(columns)]
            arrays["rate_at_cut"] = np.array(self._pending.rate)
        return arrays, meta

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back what `state` returned; a training under way is run anew.

        It is ordered with the next record learned: by then the window must have been restored,
        and a model that only predicts trains nothing.
        """
        own = {k.removeprefix("schedule/"): a for k, a in arrays.items() if k[:9] == "schedule/"}
        self.schedule.restore(own, meta["schedule"])
        self._rate[:] = arrays["rate"]
        self.learned, self.number, self.active = meta["learned"], meta["number"], meta["active"]
        self.accepted, self.refused = meta["accepted"], meta["refused"]
        self.failed, self._cut, self._due = meta["failed"], meta["cut"], meta["due"]
        data = arrays["generation"].tobytes()
        self.generation = Generation()
        if data:
            self.generation = Generation(data, flatten(data), self._salt())
        self.trainer.found = meta["paying"]
        self.history = meta.get("history", [])
        self._pending = None
        if meta["pending"] is not None:
            clicks, weight = arrays["rate_at_cut"].tolist()
            cut, swap, columns = meta["pending"]
            self._pending = _Pending(cut, swap, (clicks, weight), columns and tuple(columns))

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._pending is not None:
            pending = self._pending
            state["_pending"] = replace(pending, future=None)
        return state
