"""The training of generations beside the stream: one thread, one binned window for all members.

Notes
-----
What comes out of a training depends on the rows of the window and the settings alone, never on
when or where it runs, or on how many threads; so the members, which wait for it at a fixed count
of records, do not depend on that either. Threads of one training wait for each other all the time,
and busily: where they share a core with others, they take up to ten times as long (m). So a
training has as many as there are cores that nobody else uses, asked before each tree, and leaves
one to the stream until that waits.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from time import perf_counter
from typing import Any, NamedTuple

from onlinestack.trees.boosted import Binned, Model, TreeSettings, bin_rows, fit, paying
from onlinestack.trees.forest import Forest, flatten
from onlinestack.trees.window import Window

__all__ = ["Order", "Trained", "Trainer"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Order(NamedTuple):
    """What is to be trained.

    Parameters
    ----------
    window, cut, rows
        The last ``rows`` rows learned before the count ``cut``.
    settings
        Of the training.
    base
        Name of the margin, kept by the window, that the trees start from; None for none.
    columns
        The columns of the table that may be split on; None for all.
    paying
        The columns to bin, found lately; None to find them anew.
    """

    window: Window
    cut: int
    rows: int
    settings: TreeSettings
    base: str | None
    columns: tuple[int, ...] | None
    paying: tuple[int, ...] | None = None


class Trained(NamedTuple):
    """A generation: as XGBoost gave it, flattened, the columns binned, the seconds it all took."""

    model: Model
    forest: Forest
    paying: tuple[int, ...]
    seconds: float


class Trainer:
    """Trains the generations that members order, one after another.

    All members of a learner share one, so that a single thread trains beside the stream, and
    members cut at the same record share one binned window.

    Parameters
    ----------
    background
        Whether to train in a thread. Without, a training is run when it is waited for.
    keep
        Most columns to train on: those that pay, found anew at cuts of twice as many records;
        None for all. The time of a training goes with their number.
    always
        Columns that are kept in any case, such as margins of other members.
    screen
        Settings of the few trees that tell which columns pay. They belong to the trainer, so that
        a member gets the same columns whether others are trained with it or not.

    Raises
    ------
    ValueError
        Where no column is to be kept.

    Examples
    --------
    >>> trainer = Trainer(background=False)
    >>> trainer.background
    False
    """

    def __init__(
        self,
        background: bool = True,
        *,
        keep: int | None = None,
        always: Sequence[int] = (),
        screen: TreeSettings | None = None,
    ) -> None:
        if keep is not None and keep < 1:
            raise ValueError(
                f"{keep} columns were to be kept for training; expected at least 1, or None for all"
            )
        self.background = background
        self.keep, self.always = keep, tuple(always)
        self.screen = screen if screen is not None else TreeSettings()
        self._found: tuple[int, tuple[int, ...]] = (0, ())
        self._start()

    def paying(self, cut: int) -> tuple[int, ...] | None:
        """Return the columns found lately that a cut is to use, None where it is to find its own.

        Ask at the cut itself: what is known then does not depend on how long trainings take.
        """
        found_at, columns = self._found
        return columns if self.keep is not None and cut < 2 * found_at else None

    @property
    def found(self) -> list[Any]:
        """The cut at which paying columns were found last, and which they were; as JSON."""
        return [self._found[0], list(self._found[1])]

    @found.setter
    def found(self, value: Sequence[Any]) -> None:
        self._found = int(value[0]), tuple(value[1])

    def _start(self) -> None:
        self._lock = Lock()
        self._queue: list[tuple[Order, Future[Trained]]] = []
        self._pool: ThreadPoolExecutor | None = None
        self._key: tuple[Any, ...] | None = None
        self._binned: Binned | None = None
        self._columns: tuple[int, ...] | None = None
        self._waited = False

    def submit(self, order: Order) -> Future[Trained]:
        """Take an order; the rows must stay in the window until it was waited for."""
        future: Future[Trained] = Future()
        with self._lock:
            self._queue.append((order, future))
        if self.background:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="training")
            self._pool.submit(self._next)
        return future

    def wait(self, future: Future[Trained]) -> Trained:
        """Return what was ordered, or raise what its training raised."""
        self._waited = True
        try:
            while not self.background and not future.done():
                self._next()
            return future.result()
        finally:
            self._waited = False

    def _threads(self, most: int) -> int:
        """Return how many threads may train now."""
        free = CORES if self._waited else CORES - 1
        return max(1, min(most, free, CORES - _others())) if most > 1 else most

    def close(self) -> None:
        """Cancel the orders not begun, so that a program can end; one under way ends by itself.

        A member that goes on all the same orders anew.
        """
        with self._lock:
            for _, future in self._queue:
                future.cancel()
            self._queue.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        self._pool = None

    def _take(self) -> tuple[Order, Future[Trained]] | None:
        """Take the first order for the window that is binned already, or else the first."""
        with self._lock:
            orders = list(self._queue)
            if not orders:
                return None
            same = (each for each in orders if _key_of(each[0]) == self._key)
            chosen = next(same, orders[0])
            self._queue.remove(chosen)
            return chosen

    def _next(self) -> None:
        """Train one of what was ordered. Runs in one thread only."""
        chosen = self._take()
        if chosen is None:  # closed
            return
        order, future = chosen
        _settle(future, lambda: self._train(order))
        if not self._queue:  # nobody is left to share it
            self._key = self._binned = None

    def _train(self, order: Order) -> Trained:
        began, key = perf_counter(), _key_of(order)
        threads = functools.partial(self._threads, order.settings.nthread)
        if self._binned is None or self._key != key:
            self._key = self._binned = None  # before the next is made: there is room for one
            chunks = order.window.chunks(order.cut, order.rows)
            self._columns = order.paying
            if self.keep is not None and self._columns is None:
                found = paying(chunks, self.screen, self.keep, self.always, threads)
                self._columns = tuple(found)
            self._binned = bin_rows(chunks, order.settings.max_bin, threads(), self._columns)
            self._key = key
        base = None
        if order.base is not None:
            base = order.window.margins(order.base, order.cut, order.rows)
        model = fit(self._binned, order.settings, base=base, columns=order.columns, threads=threads)
        forest = flatten(model.data)
        return Trained(model, forest, self._columns or (), perf_counter() - began)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("background", "keep", "always", "screen", "_found")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()


def _others() -> int:
    """Return how many threads, but this one, run or could run at this moment; 0 if not known."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[3].split(b"/")[0]) - 1
    except (OSError, LookupError, ValueError):
        return 0


def _key_of(order: Order) -> tuple[Any, ...]:
    """Return what binned rows are known by: orders of one key may share them."""
    rows = min(order.rows, order.cut)
    return id(order.window), order.cut, rows, order.settings.max_bin, order.paying


def _settle(future: Future[Trained], train: Callable[[], Trained]) -> None:
    """Give a future the result of a training, or what it raised."""
    try:
        trained = train()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(trained)
