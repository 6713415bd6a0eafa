"""From the columns of a stretch to a batch: label, weight and time decoded, bad records out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.block import Block
from onlinestack.io.arrow import feature_array
from onlinestack.io.batch import Batch, Position, Reject
from onlinestack.io.columns import (
    decode_class,
    decode_label,
    decode_number,
    decode_time,
    decode_weight,
)
from onlinestack.io.reader import Bad, Job, Stretch
from onlinestack.io.schema import Schema
from onlinestack.io.values import as_text

__all__ = ["assemble"]


def assemble(job: Job, schema: Schema, wanted: list[str], source: str) -> tuple[Batch, int]:
    """Decode a stretch into a batch whose rows and records count from 0.

    Runs in a background thread, so it looks at nothing but its arguments.

    Parameters
    ----------
    job
        Decodes the stretch.
    schema
        The part each column plays.
    wanted
        Names of the columns the job gives.
    source
        Path of the file, for rejects.

    Returns
    -------
    The batch, and the bytes of the file behind it.
    """
    stretch = job()
    position: Position = {"file": 0, "offset": stretch.offset, "skip": 0, "record": 0, "row": 0}
    if stretch.parsed is not None:
        return _parsed(stretch, position, source), stretch.done
    columns: dict[str, Any] = dict(zip(wanted, stretch.columns, strict=True))
    n = stretch.read - len(stretch.bad)
    row = np.delete(np.arange(stretch.read), [bad.number for bad in stretch.bad])
    reasons: dict[int, str] = {}
    label = np.full(n, np.nan, np.float32)
    weight = np.ones(n, np.float32)
    classes: Any = None
    if schema.target == "name":
        classes = pa.nulls(n, pa.large_string())
    time: NDArray[np.int64] | None = None
    if schema.time is not None and (column := columns[schema.time]) is not None:
        time, hour, weekday, bad = decode_time(column, schema.time_format)
        columns |= {f"{schema.time}.hour": hour, f"{schema.time}.weekday": weekday}
        reasons |= bad
    label_time: NDArray[np.int64] | None = None
    if schema.label_time is not None and (column := columns[schema.label_time]) is not None:
        label_time, _, _, bad = decode_time(column, schema.time_format)
        reasons |= bad
    if schema.weight is not None and (column := columns[schema.weight]) is not None:
        weight, bad = decode_weight(column)
        reasons |= bad
    if schema.label is not None and (column := columns[schema.label]) is not None:
        if schema.target == "name":
            classes = decode_class(column)
        elif schema.target == "number":
            label, bad = decode_number(column)
            reasons |= bad
        else:
            label, bad = decode_label(column, schema.positive)
            reasons |= bad
    id = columns[schema.id] if schema.id is not None else None
    batch = Batch(
        row=row,
        label=label,
        weight=weight,
        initial=np.zeros(n, np.float32),
        columns=[
            pa.nulls(n, pa.string()) if (c := columns.get(f.name)) is None else feature_array(c)
            for f in schema.fields
        ],
        features=None,
        id=None if id is None else as_text(id).cast(pa.string()),
        time=time,
        label_time=label_time,
        rejects=[],
        read=stretch.read,
        position=position,
        classes=classes,
        path=source,
        texts=stretch.text,
    )
    lost = list(stretch.bad)
    if reasons:
        rows = sorted(reasons)
        indices = row[rows].tolist()
        texts = stretch.text(indices) if stretch.text is not None else [""] * len(rows)
        lost += map(Bad, indices, [reasons[i] for i in rows], texts)
        _drop(batch, rows)
    batch.rejects = [
        Reject(bad.number, source, bad.number + 1, bad.reason, bad.text) for bad in sorted(lost)
    ]
    return batch, stretch.done


def _drop(batch: Batch, rows: list[int]) -> None:
    """Take rows out of a batch."""
    keep = np.ones(batch.n, np.bool_)
    keep[rows] = False
    mask = pa.array(keep)
    batch.row = batch.row[keep]
    batch.label = batch.label[keep]
    batch.weight = batch.weight[keep]
    batch.initial = batch.initial[keep]
    batch.columns = [column.filter(mask) for column in batch.columns]
    batch.id = None if batch.id is None else batch.id.filter(mask)
    batch.time = None if batch.time is None else batch.time[keep]
    batch.label_time = None if batch.label_time is None else batch.label_time[keep]
    batch.classes = None if batch.classes is None else batch.classes.filter(mask)


def _parsed(stretch: Stretch, position: Position, source: str) -> Batch:
    """Return the batch of a stretch of Vowpal Wabbit text."""
    block: Block = stretch.parsed.block
    return Batch(
        row=block.row,
        label=block.label,
        weight=block.weight,
        initial=block.initial,
        columns=[],
        features=block,
        id=as_text(stretch.parsed.tag).cast(pa.string()),
        time=None,
        rejects=[Reject(b.number, source, b.number + 1, b.reason, b.text) for b in stretch.bad],
        read=stretch.read,
        position=position,
        path=source,
        texts=stretch.text,
    )
