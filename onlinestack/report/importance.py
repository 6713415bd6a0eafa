"""Permutation importance: how much worse the newest records are predicted with a field permuted.

References
----------
[^1]: Breiman, L. (2001). Random forests. Machine Learning 45.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.report.slices import LOSS, terms_of

if TYPE_CHECKING:
    from onlinestack.io.batch import Batch
    from onlinestack.models import Learner

__all__ = ["permuted"]

CELLS = 100_000
"""Predictions to make, about: with very many fields, fewer rows are permuted."""
FEWEST = 64


def permuted(
    learner: Learner, batches: Iterable[Batch], fields: Sequence[str], rows: int
) -> dict[str, Any]:
    """Return how much the loss of a learner rises when a field's values trade places.

    Use it at the end of a run: nothing is learned and nothing changes. The rows have been learned
    before, so a field that names its record, such as an id, looks more important than it is.

    Parameters
    ----------
    learner
        What predicts.
    batches
        The newest records, oldest first, of fields and not of Vowpal Wabbit text.
    fields
        Names of their columns.
    rows
        Labelled records to take, the newest; fewer where there are very many fields.

    Returns
    -------
    ``rows``, the ``loss`` as they are, and for each of the ``fields`` the ``rise`` of the loss in
    nats a record (of numbers: of the absolute error) with its standard ``error``.
    """
    batch = _newest(list(batches), min(rows, max(FEWEST, CELLS // max(1, len(fields)))))
    if not batch.n:
        return {"rows": 0, "loss": None, "fields": []}

    def losses(own: Batch) -> NDArray[np.float64]:
        terms = terms_of(learner.aim, own.label, own.weight, learner.predict(own))
        return np.asarray(terms[LOSS])

    weight = batch.weight.astype(np.float64)
    total = max(float(weight.sum()), 1e-12)
    plain = losses(batch)
    order = np.random.default_rng(0).permutation(batch.n)
    found: list[dict[str, Any]] = []
    for at, name in enumerate(fields):
        columns = list(batch.columns)
        columns[at] = columns[at].take(_indices(order))
        rise = losses(replace(batch, columns=columns)) - plain
        mean = float(rise.sum()) / total
        error = float(np.sqrt(np.square(rise - weight * mean).sum())) / total
        found.append({"field": name, "rise": mean, "error": error})
    found.sort(key=lambda row: -row["rise"])
    return {"rows": batch.n, "loss": float(plain.sum()) / total, "fields": found}


def _indices(order: NDArray[np.int64]) -> Any:
    import pyarrow as pa

    return pa.array(order)


def _newest(batches: list[Batch], rows: int) -> Batch:
    """Return the newest labelled records as one batch."""
    import pyarrow as pa

    last = batches[-1]
    columns = [
        pa.chunked_array(parts).unify_dictionaries().combine_chunks()
        for parts in zip(*(batch.columns for batch in batches), strict=True)
    ]
    label = np.concatenate([batch.label for batch in batches])
    keep = np.flatnonzero(~np.isnan(label))[-rows:]
    n = len(keep)

    def kept(name: str) -> Any:
        parts = [getattr(batch, name) for batch in batches]
        return None if parts[0] is None else np.concatenate(parts)[keep]

    return replace(
        last,
        row=kept("row"),
        label=label[keep],
        weight=kept("weight"),
        initial=kept("initial"),
        time=kept("time"),
        columns=[column.take(_indices(keep)) for column in columns],
        id=None,
        label_time=None,
        classes=None,
        rejects=[],
        read=n,
        prepared=None,
    )
