"""The records of a batch as dicts, the way river's learners take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block
from onlinestack.io.batch import Batch
from onlinestack.io.schema import Field

__all__ = ["objects", "records"]


def objects(items: Sequence[Any]) -> NDArray[np.object_]:
    """Return things as an array of them, whatever they are.

    Examples
    --------
    >>> objects([{"a": 1}, {}]).shape
    (2,)
    """
    out = np.empty(len(items), np.object_)
    out[:] = items
    return out


def records(
    batch: Batch, fields: Sequence[Field], target: str = "click"
) -> Iterator[tuple[dict[str, Any], Any, float]]:
    """Yield a batch's records as dicts with label and weight, as river's learners take them.

    Parameters
    ----------
    batch
        Records as a source yields them.
    fields
        The fields its columns hold.
    target
        What its labels are, as the schema says: clicks come as truth values, numbers as numbers,
        names of classes as text; None where there is no label.
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
    labels = batch.label.tolist() if batch.classes is None else batch.classes.to_pylist()
    for x, y, w in zip(rows, labels, batch.weight.tolist(), strict=True):
        known = y is not None and y == y
        yield x, None if not known else y > 0 if target == "click" else y, w


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
