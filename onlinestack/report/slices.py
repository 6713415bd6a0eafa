"""How well the records of each value of a column, of each hour and day were predicted.

Everything is added up a piece of records at a time, by numpy and Arrow: there is no work a record
in Python. The last digits of the sums, and which values of a column with very many are told
apart, depend on the pieces; no prediction does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.auc import CLIP
from onlinestack.io.patterns import NOT_A_TIME

__all__ = ["MOST", "SHOWN", "Slices", "Table", "Terms", "terms_of"]

MOST = 512
"""Values of a column that are told apart at a time."""
SHOWN = 20
"""Values of a column that are told, those with the most records; the others are put together."""
NEW = 64
"""Values a piece may bring into the table; its others are put together."""
MANY = 4 * MOST
"""Values of a piece that are looked at one by one."""
HOUR = 3_600_000_000
"""Microseconds."""
WEEK = 7 * 24
THURSDAY = 3 * 24
"""Hour of the week at the epoch."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
OTHERS = "(other values)"
MISSING = "(missing)"

RECORDS, WEIGHT, LOSS, PREDICTED, OBSERVED = range(5)

Terms = NDArray[np.float64]
"""``float64[5, n]``: what each record adds to records, weight, loss, predictions and labels."""


def terms_of(
    task: str, label: NDArray[np.float32], weight: NDArray[np.float32], p: NDArray[np.float32]
) -> Terms:
    """Return what labelled records add to the sums of their slices.

    Parameters
    ----------
    task
        ``click``, ``regression`` or ``multiclass``.
    label, weight
        ``float32[n]``, as the scoreboard takes them.
    p
        ``float32[n]``, or ``float32[n, K]`` for K classes: what was predicted.

    Returns
    -------
    The loss is log-loss or, of numbers, the absolute error. Classes have no predictions to add up.

    Examples
    --------
    >>> label, p = np.array([1, 0], np.float32), np.array([0.5, 0.25], np.float32)
    >>> terms_of("click", label, np.ones(2, np.float32), p).round(3).tolist()
    [[1.0, 1.0], [1.0, 1.0], [0.693, 0.288], [0.5, 0.25], [1.0, 0.0]]
    """
    terms = np.ones((5, len(label)))
    terms[WEIGHT] = weight
    if task == "multiclass":
        given = np.nan_to_num(p[np.arange(len(label)), label.astype(np.int64) - 1])
        terms[LOSS] = -np.log(np.clip(given, CLIP, 1.0 - CLIP))
        terms[PREDICTED:] = 0.0
    elif task == "regression":
        terms[LOSS] = np.abs(p - label)
        terms[PREDICTED], terms[OBSERVED] = p, label
    else:
        click = label > 0
        known = np.clip(np.nan_to_num(p, nan=0.5), np.float32(CLIP), np.float32(1.0 - CLIP))
        terms[LOSS] = -np.log(np.where(click, known, 1 - known))
        terms[PREDICTED], terms[OBSERVED] = known, click
    terms[LOSS:] *= terms[WEIGHT]
    return terms


class Table:
    """Sums for the values of a column, those told apart bounded in number.

    Use `add` with the sums of a piece's values. A value new to a full table lets the rarer half of
    all go: their sums move to "other values", and should they come again, they begin anew.

    Examples
    --------
    >>> table = Table()
    >>> table.add(["a", "b"], np.array([[2.0, 1, 1, 1, 0], [9.0, 9, 3, 1, 1]]))
    >>> [row["value"] for row in table.rows()]
    ['b', 'a']
    """

    def __init__(self) -> None:
        self._sums: dict[Any, NDArray[np.float64]] = {}
        self._rest = np.zeros(5)

    def add(self, values: Sequence[Any], sums: NDArray[np.float64]) -> None:
        """Add ``sums``, ``float64[m, 5]``, of m values."""
        order = np.argsort(-sums[:, RECORDS], kind="stable")
        fresh = 0
        for place in order.tolist():
            value = values[place]
            own = self._sums.get(value)
            if own is not None:
                own += sums[place]
            elif fresh < NEW:
                fresh += 1
                self._sums[value] = sums[place].copy()
            else:
                self._rest += sums[place]
        if len(self._sums) > MOST:
            self._let_go()

    def add_others(self, sums: NDArray[np.float64]) -> None:
        """Add ``float64[5]`` to the values that are not told apart."""
        self._rest += sums

    def _let_go(self) -> None:
        ranked = sorted(self._sums.items(), key=lambda item: -item[1][RECORDS])
        self._sums = dict(ranked[: MOST // 2])
        for _, sums in ranked[MOST // 2 :]:
            self._rest += sums

    def rows(self, most: int = SHOWN) -> list[dict[str, Any]]:
        """Return the figures of the most frequent values, and of all others together."""
        ranked = sorted(self._sums.items(), key=lambda item: -item[1][RECORDS])
        rows = [figures(str(value), sums) for value, sums in ranked[:most]]
        rest = sum((sums for _, sums in ranked[most:]), self._rest)
        return [*rows, figures(OTHERS, rest)] if rest[RECORDS] else rows


def figures(value: str, sums: NDArray[np.float64]) -> dict[str, Any]:
    """Return the figures of a slice, means by weight; None where there is no weight."""
    records, weight = int(sums[RECORDS]), float(sums[WEIGHT])
    means = [float(total) / weight if weight > 0 else None for total in sums[LOSS:]]
    row: dict[str, Any] = {"value": value, "records": records, "weight": weight}
    return row | dict(zip(("loss", "predicted", "observed"), means, strict=True))


class Slices:
    """Adds up how each slice of a stream was predicted.

    Parameters
    ----------
    task
        Of the learner.
    columns
        Position of each column to slice by among those of a batch, by name.
    """

    def __init__(self, task: str, columns: Mapping[str, int]) -> None:
        self._task, self._columns = task, dict(columns)
        self._tables = {name: Table() for name in columns}
        self._hours = np.zeros((WEEK, 5))
        """Of each hour of the week, from Monday on, in UTC."""
        self._days = Table()

    def add(self, batch: Any, p: NDArray[np.float32]) -> None:
        """Add the records of a batch that have labels, with what was predicted for them."""
        if batch.time is None and not self._columns:
            return
        known = ~np.isnan(batch.label)
        rows = slice(None) if known.all() else known
        label, weight = batch.label[rows], batch.weight[rows]
        if not len(label):
            return
        terms = terms_of(self._task, label, weight, p[rows])
        if batch.time is not None:
            self._add_times(batch.time[rows], terms)
        for name, column in self._columns.items():
            self._add_values(self._tables[name], batch.columns[column], rows, terms)

    def _add_times(self, time: NDArray[np.int64], terms: Terms) -> None:
        known = time != NOT_A_TIME
        if not known.all():
            time, terms = time[known], terms[:, known]
        hours, sums = _summed(time // HOUR, terms)
        for hour, own in zip(((hours + THURSDAY) % WEEK).tolist(), sums, strict=True):
            self._hours[hour] += own
        days, sums = _summed(hours // 24, sums.T)
        self._days.add([np.datetime64(day, "D") for day in days.tolist()], sums)

    def _add_values(self, table: Table, column: Any, rows: Any, terms: Terms) -> None:
        import pyarrow as pa

        if pa.types.is_nested(column.type):
            texts = (None if v is None else " ".join(map(str, v)) for v in column.to_pylist())
            column = pa.array(texts, pa.string())
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        size = len(column.dictionary)
        code = column.indices.fill_null(size).to_numpy(zero_copy_only=False)[rows]
        codes, sums = _summed(code.astype(np.int64), terms)
        if len(codes) > MANY:
            # Of ids and the like only those that are frequent already here are told apart.
            order = np.argsort(-sums[:, RECORDS], kind="stable")
            table.add_others(sums[order[MANY:]].sum(axis=0))
            codes, sums = codes[order[:MANY]], sums[order[:MANY]]
        values = column.dictionary.take(pa.array(codes, mask=codes == size)).to_pylist()
        table.add([_said(value) for value in values], sums)

    def report(self) -> dict[str, Any]:
        """Return the figures of all slices, as JSON."""
        told: dict[str, Any] = {"slices": {n: table.rows() for n, table in self._tables.items()}}
        if self._hours.any():
            by_hour = self._hours.reshape(7, 24, 5)
            hours = enumerate(by_hour.sum(axis=0))
            told["hours"] = [figures(f"{hour:02}:00", sums) for hour, sums in hours]
            days = zip(WEEKDAYS, by_hour.sum(axis=1), strict=True)
            told["weekdays"] = [figures(day, sums) for day, sums in days]
            dates = self._days.rows(MOST)
            told["dates"] = sorted(dates, key=lambda row: row["value"])
        return told


def _said(value: Any) -> str:
    """Return a value as people read it."""
    if value is None or value != value:
        return MISSING
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _summed(keys: NDArray[np.int64], terms: Terms) -> tuple[NDArray[np.int64], Terms]:
    """Return the distinct keys and the sums of the terms for each, ``float64[m, 5]``."""
    if not len(keys):
        return keys, np.zeros((0, len(terms)))
    low, high = int(keys.min()), int(keys.max())
    if high - low <= 4 * len(keys) + 1024:  # close to each other: no sorting
        distinct, code = np.arange(low, high + 1, dtype=np.int64), keys - low
    else:
        distinct, code = np.unique(keys, return_inverse=True)
    sums: Terms = np.stack([np.bincount(code, each, len(distinct)) for each in terms], axis=1)
    (some,) = np.nonzero(sums[:, RECORDS])
    return distinct[some], sums[some]
