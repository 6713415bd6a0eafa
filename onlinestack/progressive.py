"""Progressive validation: predict, score, then learn, so that every record is test data first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block, immediate_tape
from onlinestack.io.schema import Field, Schema
from onlinestack.metrics import Scoreboard

if TYPE_CHECKING:
    from river.base import Classifier

    from onlinestack.io.source import Batch

__all__ = ["Checkpoint", "progressive_validate", "records"]


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
        Figures over the whole run, for the model and for each baseline, by name.
    since
        The same since the last checkpoint.
    """

    records: int
    learned: int
    scores: Mapping[str, Mapping[str, Any]]
    since: Mapping[str, Mapping[str, Any]]

    @property
    def log_loss(self) -> float | None:
        """Log-loss of the model over the whole run, in nats a record."""
        value: float | None = next(iter(self.scores.values()))["log_loss"]
        return value

    def __str__(self) -> str:
        """Return the model's figures in one line."""
        figures = next(iter(self.scores.values()))
        shown = [f"{self.records:,} records"]
        for name in ("log_loss", "auc", "accuracy", "click_rate"):
            if figures[name] is not None:
                shown.append(f"{name} {figures[name]:.4f}")
        return "  ".join(shown)


def progressive_validate(
    source: _Source, model: Classifier, *, name: str = "model"
) -> Iterator[Checkpoint]:
    """Run a model over a source, each record predicted before it is learned.

    Use it to compare learners on one stream. Learners of this package run block by block, any
    other river classifier record by record; the scores are those of the same records in the same
    order.

    Parameters
    ----------
    source
        What `open_source` returned.
    model
        A learner of this package or any river classifier with probabilities.
    name
        What to call the model in the scores.

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
    board = Scoreboard([name], ["member"])
    progress = _progress(model, source.schema)
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
            piece = batch.rows(start, stop)
            p = progress(piece)
            board.update(_labels(piece), immediate_tape(piece.label), p)
            learned += int(np.count_nonzero(~np.isnan(piece.label)))
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


def _progress(model: Any, schema: Schema) -> Any:
    if hasattr(model, "progress"):
        model.start(schema)
        return model.progress

    def one_by_one(batch: Batch) -> NDArray[np.float32]:
        p = np.empty(len(batch.label), np.float32)
        for i, (x, y, w) in enumerate(records(batch, schema.fields)):
            p[i] = model.predict_proba_one(x).get(True, 0.0)
            if y is not None:
                if w == 1.0:
                    model.learn_one(x, y)
                else:
                    model.learn_one(x, y, w=w)
        return p

    return one_by_one


def records(
    batch: Batch, fields: Sequence[Field]
) -> Iterator[tuple[dict[str, Any], bool | None, float]]:
    """Yield a batch's records as dicts with label and weight, as river's learners take them.

    Parameters
    ----------
    batch
        Records as a source yields them.
    fields
        The fields its columns hold.
    """
    columns: list[Iterable[Any]]
    if batch.features is None:
        columns = [_values(c, f) for c, f in zip(batch.columns, fields, strict=True)]
        names = [field.name for field in fields]
        rows: Iterator[dict[str, Any]] = (
            {n: v for n, v in zip(names, values, strict=True) if v is not None}
            for values in zip(*columns, strict=True)
        )
    else:
        rows = _features(batch.features)
    for x, y, w in zip(rows, batch.label.tolist(), batch.weight.tolist(), strict=True):
        yield x, None if y != y else y > 0, w


def _values(column: Any, field: Field) -> list[Any]:
    values = column.to_pylist()
    out: list[Any] = []
    for value in values:
        if isinstance(value, bytes):
            value = value.decode(errors="surrogateescape")
        if value == "" or value != value:
            value = None
        elif field.kind == "number" and isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                pass
        elif field.kind == "text" and value is not None:
            tokens = value.split() if isinstance(value, str) else map(str, value)
            value = " ".join(tokens)
        out.append(value)
    return out


def _features(block: Block) -> Iterator[dict[str, Any]]:
    for i in range(block.n):
        x: dict[str, Any] = {}
        for letter, a, b in zip(block.names[i], block.start[i], block.stop[i], strict=True):
            for j in range(a, b):
                x[f"{chr(letter)}{block.index[j]}"] = float(block.value[j])
        yield x
