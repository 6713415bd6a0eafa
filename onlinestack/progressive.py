"""Progressive validation: predict, score, then learn, so that every record is test data first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from onlinestack.block import Block, immediate_tape
from onlinestack.io.records import records
from onlinestack.io.schema import Schema
from onlinestack.metrics import Scoreboard
from onlinestack.task_metrics import NumberBoard

if TYPE_CHECKING:
    from river.base import Classifier, Regressor

    from onlinestack.io.source import Batch
    from onlinestack.models import Learner

__all__ = ["Checkpoint", "progressive_validate"]


class _Source(Protocol):
    @property
    def schema(self) -> Schema: ...

    def __iter__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How things stand after some records.

    Parameters
    ----------
    records
        Records read so far, rejected ones included.
    learned
        Labelled records learned so far.
    scores
        Figures over the whole run, by name: of the model, of every expert where it has several,
        and of the baselines.
    since
        The same since the last checkpoint.
    """

    records: int
    learned: int
    scores: Mapping[str, Mapping[str, Any]]
    since: Mapping[str, Mapping[str, Any]]

    @property
    def log_loss(self) -> float | None:
        """Log-loss of the model over the whole run, in nats a record; None for numbers."""
        value: float | None = next(iter(self.scores.values())).get("log_loss")
        return value

    def __str__(self) -> str:
        """Return the model's figures in one line."""
        figures = next(iter(self.scores.values()))
        shown = [f"{self.records:,} records"]
        for name in ("log_loss", "auc", "accuracy", "click_rate", "mae", "rmse", "label_mean"):
            if figures.get(name) is not None:
                shown.append(f"{name} {figures[name]:.4f}")
        return "  ".join(shown)


def progressive_validate(
    source: _Source, model: Classifier | Regressor, *, name: str = "model"
) -> Iterator[Checkpoint]:
    """Run a model over a source, each record predicted before it is learned.

    Use it to compare learners on one stream. Learners of this package run block by block, any
    other river classifier or regressor record by record; the scores are those of the same records
    in the same order: of clicks, of numbers where the source was opened with ``target="number"``,
    of classes for a learner with ``oaa``.

    Parameters
    ----------
    source
        What `open_source` returned.
    model
        A learner of this package, any river classifier with probabilities, or, for numbers, any
        regressor.
    name
        What to call the model in the scores.

    Raises
    ------
    ValueError
        Where the source's labels are not of the learner's task, or the learner is raw and has
        classes.

    Yields
    ------
    A `Checkpoint` at every doubling count of records, and one at the end.

    Examples
    --------
    >>> from onlinestack import LinearLearner, open_source, progressive_validate
    >>> source = open_source("streams/clicks.parquet", label="click", ignore=("id",))
    >>> for checkpoint in progressive_validate(source, LinearLearner()):
    ...     pass
    >>> checkpoint.scores["model"]["log_loss"] < checkpoint.scores["constant"]["log_loss"]
    True
    """
    kind = _ByBlocks if hasattr(model, "progress") else _OneByOne
    drive = kind(model, source.schema, name)
    board = drive.board
    read = learned = 0

    def checkpoint() -> Checkpoint:
        names = board.names
        point = Checkpoint(
            read,
            learned,
            {n: dict(board.whole(n)) for n in names},
            {n: dict(board.since(n)) for n in names},
        )
        board.mark()
        return point

    border = 1
    for batch in source:
        start, n, end = 0, len(batch.label), read + batch.read
        while start < n or border <= end:
            stop = int(np.searchsorted(batch.row, border))
            learned += drive.take(batch.rows(start, stop))
            start, read = stop, min(border, end)
            if read == border:
                yield checkpoint()
                border *= 2
        read = end
    if 2 * read != border:
        yield checkpoint()


def _labels(batch: Batch) -> Block:
    """Return what the scoreboard reads of a batch."""
    n = len(batch.label)
    nothing = np.zeros((n, 1), np.int64)
    return Block(
        batch.label,
        batch.weight,
        np.zeros(n, np.float32),
        batch.row,
        np.empty(0, np.uint32),
        np.empty(0, np.float32),
        np.zeros((n, 1), np.uint8),
        nothing,
        nothing,
    )


class _ByBlocks:
    """Drives a learner of this package."""

    def __init__(self, model: Any, schema: Schema, name: str) -> None:
        self._model: Learner = model
        if getattr(model, "raw", False) and model.oaa is not None:
            raise ValueError(
                "a raw learner with oaa gives class numbers, which have no probabilities to score; "
                "leave raw out"
            )
        model.start(schema)
        self.board = model.new_board(name)

    def take(self, batch: Batch) -> int:
        """Predict, learn and score records; return how many were learned."""
        piece = self._model.admit(batch)
        # As many at once as memory has room for.
        for first in range(0, piece.n, self._model.room):
            part = piece.rows(first, min(piece.n, first + self._model.room))
            p = self._model.progress(part)
            self._model.keep(self.board, _labels(part), immediate_tape(part.label), p)
        return int(np.count_nonzero(~np.isnan(piece.label)))


class _OneByOne:
    """Drives any other classifier or regressor of river."""

    def __init__(self, model: Any, schema: Schema, name: str) -> None:
        self._model = model
        self._schema = schema
        self.board: Any = Scoreboard([name], ["member"])
        self._numbers = schema.target in ("number", "raw") and not hasattr(
            model, "predict_proba_one"
        )
        if self._numbers:
            self.board = NumberBoard(name, "member")
        elif schema.target == "name":
            raise ValueError(
                "classes by name are scored for learners of this package, whose oaa says how many "
                "there are; use river.evaluate for others"
            )

    def take(self, batch: Batch) -> int:
        """Predict, learn and score records one by one; return how many were learned."""
        model, p = self._model, np.empty(len(batch.label), np.float32)
        for i, (x, y, w) in enumerate(records(batch, self._schema.fields, self._schema.target)):
            if self._numbers:
                p[i] = model.predict_one(x)
            else:
                p[i] = model.predict_proba_one(x).get(True, 0.0)
            if y is not None:
                if w == 1.0:
                    model.learn_one(x, y)
                else:
                    model.learn_one(x, y, w=w)
        block, tape = _labels(batch), immediate_tape(batch.label)
        self.board.update(block, tape, p)
        return int(np.count_nonzero(~np.isnan(batch.label)))
