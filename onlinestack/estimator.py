"""What every estimator of the package shares: its arguments, its clock and its state."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.engine import Engine, Part, State, copied
from onlinestack.metrics import Scoreboard
from onlinestack.task_metrics import ClassBoard, NumberBoard
from onlinestack.tasks import Classes

if TYPE_CHECKING:
    from onlinestack.io.batch import Batch
    from onlinestack.io.schema import Schema

__all__ = ["Board", "Estimator", "check_weight"]

Board = Scoreboard | ClassBoard | NumberBoard
"""Progressive scores of any task."""


def check_weight(w: float) -> None:
    """Refuse what is no importance of a record.

    Raises
    ------
    ValueError
        Where w is negative or not finite.

    Examples
    --------
    >>> check_weight(-1.0)
    Traceback (most recent call last):
    ValueError: w=-1.0 is not a weight; give a finite number, 0 or more
    """
    if not w >= 0 or math.isinf(w):
        raise ValueError(f"w={w!r} is not a weight; give a finite number, 0 or more")


class Estimator:
    """Arguments kept as given, parts on an engine, progressive scores, and state as arrays.

    Estimators derive from it and from one of river's classes. They store their arguments under
    their own names and make the engine when they are started.

    Attributes
    ----------
    scoreboard
        Progressive metrics of the records learned so far; None before the start.
    classes
        The classes met so far, where there are several; else None.
    """

    _engine: Engine | None = None
    _schema: dict[str, Any] | None = None
    scoreboard: Board | None = None
    classes: Classes | None = None

    @property
    def params(self) -> dict[str, Any]:
        """Return the arguments the learner was made with."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments the learner was made with, as scikit-learn's ``clone`` asks."""
        return self.params

    @property
    def learned(self) -> int:
        """Count of labelled records learned."""
        return 0 if self._engine is None else self._engine.learned

    @property
    def parts(self) -> dict[str, Part]:
        """The parts it is made of, by name."""
        return self._running().parts

    @property
    def schema(self) -> Schema | None:
        """What it was started for; None for plain dicts and for Vowpal Wabbit text."""
        from onlinestack.io.schema import Schema

        return None if self._schema is None else Schema.from_dict(self._schema)

    def _running(self) -> Engine:
        """Return the engine, started if need be."""
        raise NotImplementedError

    def _stretches(
        self, batch: Batch, learn: bool, stops: Sequence[int]
    ) -> Iterator[NDArray[np.float32]]:
        """Predict the records of a batch, and learn those with labels if asked to.

        What was predicted is handed over whenever a row of ``stops`` is reached; they grow, and
        the last is the number of rows.
        """
        raise NotImplementedError

    def _walk(self, batch: Batch, learn: bool) -> NDArray[np.float32]:
        """Do the same without a stop."""
        (answer,) = self._stretches(batch, learn, (batch.n,))
        return answer

    def stretches(
        self, batch: Batch, stops: Sequence[int], *, learn: bool = True
    ) -> Iterator[NDArray[np.float32]]:
        """Do what `progress`, or `predict`, does, and stop on the way to let the caller look.

        Use it to tell how things stand at certain records: calling `progress` for each stretch
        gives the same, but parts that nobody waits for can not work ahead. Therefore the state of
        the learner is whole only behind the last stop; scores, weights, events and ``learned``
        are those of each.

        Parameters
        ----------
        batch
            Records as a source yields them, at least one.
        stops
            Rows to stop before, growing; the last is the number of rows.
        learn
            Whether to learn labels.

        Yields
        ------
        At each stop, what `progress` returns for the records since the one before.
        """
        return self._stretches(batch, learn, stops)

    def _admitted(self, batch: Batch, learn: bool) -> NDArray[np.float32]:
        """Walk over a batch when nobody else is at it."""
        return self._walk(batch, learn)

    def weights(self) -> dict[str, float]:
        """Return the share that each expert has in the prediction now; the sum is 1."""
        return {"linear": 1.0}

    def events(self) -> list[dict[str, Any]]:
        """Return what became of each training since the last call, oldest first."""
        return []

    def training(self) -> dict[str, int]:
        """Return the numbers of the generations in training now, by member."""
        return {}

    def gains(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return what trees in service gained from each field; see `Assembly.gains`."""
        return {}

    def check_saving(self) -> None:
        """Refuse, before a run that is to be saved begins, what can not be saved.

        Raises
        ------
        ValueError
            Where a member's state is not known to the package.
        """

    def state(self) -> State:
        """Return everything needed to go on as if never stopped, as arrays and JSON."""
        return _joined(self._running().state(), self._beside())

    def capture(self) -> Callable[[], State]:
        """Return what gives the state of this moment later, in any thread.

        Copying what the state is made of takes a moment; making it, and saving it, may then go on
        beside the next records.
        """
        engine, beside = self._running().capture(), copied(self._beside())
        return lambda: _joined(engine(), beside)

    def _beside(self) -> State:
        """Return what a state holds beside the parts."""
        arrays: dict[str, NDArray[Any]] = {}
        meta: dict[str, Any] = {
            "kind": type(self).__name__,
            "params": self.params,
            "schema": self._schema,
        }
        if self.classes is not None:
            meta["classes"] = self.classes.state()
        if self.scoreboard is not None:
            own, meta["scoreboard"] = self.scoreboard.state()
            arrays.update({f"scoreboard/{name}": array for name, array in own.items()})
        return arrays, meta

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back what `state` returned; the learner must be started for the same schema."""

        def of(part: str) -> dict[str, NDArray[Any]]:
            prefix = f"{part}/"
            return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}

        self._running().restore(of("engine"), meta["engine"])
        if self.classes is not None:
            self.classes.restore(meta["classes"])
        if self.scoreboard is not None:
            self.scoreboard.restore(of("scoreboard"), meta["scoreboard"])


def _joined(engine: State, beside: State) -> State:
    """Return the state of a learner: its parts, and what stands beside them."""
    arrays = {f"engine/{name}": array for name, array in engine[0].items()}
    return arrays | beside[0], beside[1] | {"engine": engine[1]}
