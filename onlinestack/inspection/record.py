"""One record to be explained: read as the model's own sources were, with names for its features."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onlinestack.block import Block
from onlinestack.features.encoder import Encoder
from onlinestack.io.assemble import assemble
from onlinestack.io.jsonl import read_object, values_array
from onlinestack.io.reader import Stretch
from onlinestack.io.schema import Schema
from onlinestack.io.source import wanted_columns
from onlinestack.models import Learner

__all__ = ["Told", "read_record", "record_of"]


@dataclass(slots=True)
class Told:
    """A record as a model reads it.

    Parameters
    ----------
    block
        Its hashed features, not laid out yet.
    names
        What to call each of them, in their order.
    ignored
        Columns that the model does not know.
    missing
        Columns that it learned from and the record does not have.
    label
        What happened, as the record says; None where it does not.
    """

    block: Block
    names: list[str]
    ignored: list[str]
    missing: list[str]
    label: Any = None


def read_record(path: str) -> dict[str, Any]:
    """Return the JSON object in a file, what is nested in it flattened.

    Parameters
    ----------
    path
        The file, or ``"-"`` for standard input.

    Raises
    ------
    OSError
        Where it cannot be read.
    ValueError
        Where it holds no JSON object.
    """
    if path == "-":
        text = sys.stdin.buffer.read()
    else:
        with open(path, "rb") as file:
            text = file.read()
    try:
        return read_object(text)
    except ValueError as error:
        raise ValueError(
            f"{path} holds no record ({error}): give one JSON object, columns to values"
        ) from None


def record_of(learner: Learner, encoder: Encoder, x: Mapping[str, Any]) -> Told:
    """Return a record as a model reads it.

    Parameters
    ----------
    learner
        The model.
    encoder
        Its encoder.
    x
        Column names to values, as in a line of JSON.

    Raises
    ------
    ValueError
        Where the model learned no columns (Vowpal Wabbit text), the record has none of those it
        learned, or one that cannot be read.
    """
    schema = learner.schema
    if not encoder.fields:
        what = "Vowpal Wabbit text, which has no columns" if learner.learned else "no record yet"
        raise ValueError(f"the model learned {what}: there is nothing to explain a record with")
    fields = [field.name for field in encoder.fields]
    wanted = fields if schema is None else wanted_columns(schema)
    own = set(wanted) if schema is None else {*wanted, *schema.ignore}
    ignored = sorted(x.keys() - own)
    roles = set() if schema is None else set(schema.roles.values())
    features = [name for name in wanted if name not in roles]
    missing = [name for name in features if x.get(name) is None]
    if features and len(missing) == len(features):
        raise ValueError(
            "the record has none of the columns that the model learned from: give some of "
            f"{', '.join(features[:20])}"
        )
    if schema is None:
        known = {name: x.get(name) for name in fields}
        values, label = list(known.values()), None
        block = encoder.block_one(known, None, 1.0)
    else:
        block, values, label = _by_schema(encoder, schema, wanted, x)
    names = [name for field in encoder.called(values) for name in field]
    block.time = np.full(1, np.nan)
    return Told(block, names, ignored, missing, label)


def _by_schema(
    encoder: Encoder, schema: Schema, wanted: list[str], x: Mapping[str, Any]
) -> tuple[Block, list[Any], Any]:
    """Return the block, the fields' values and the label of a record of a schema."""
    columns = [values_array([x.get(name)]) for name in wanted]
    batch, _ = assemble(lambda: Stretch(0, 1, columns, []), schema, wanted, "")
    if batch.rejects:
        raise ValueError(f"the record cannot be used: {batch.rejects[0].reason}")
    label: Any = None if np.isnan(batch.label[0]) else float(batch.label[0])
    if batch.classes is not None:
        label = batch.classes[0].as_py()
    values = [column[0].as_py() for column in batch.columns]
    return encoder.block(batch, 0, 1), values, label
