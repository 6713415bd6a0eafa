"""Frames of any kind as batches: many records at once, in whatever form the caller has them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # noqa: TID253 (loaded only when frames come)
from numpy.typing import NDArray

from onlinestack.io.arrow import feature_array
from onlinestack.io.batch import Batch

if TYPE_CHECKING:
    from onlinestack.features.encoder import Encoder

__all__ = ["FrameError", "batch_of", "first_values", "in_kind", "series_of", "table_of"]


class FrameError(ValueError):
    """What was given is no frame, or its labels do not go with it."""


def table_of(X: Any) -> pa.Table:
    """Return a frame as an Arrow table; Arrow's own tables and record batches are not copied.

    Parameters
    ----------
    X
        An Arrow table or record batch, or any frame that narwhals wraps: pandas, polars, ...

    Raises
    ------
    FrameError
        Where it is none of these, or a column has no type.
    """
    if isinstance(X, pa.RecordBatch):
        return pa.Table.from_batches([X])
    if isinstance(X, pa.Table):
        return X
    from river.utils import dataframe

    try:
        return dataframe.into_frame(X).to_arrow()
    except TypeError:
        raise FrameError(
            f"X is a {type(X).__name__}; give an Arrow table or record batch, or a frame of "
            "pandas or polars"
        ) from None
    except pa.ArrowInvalid as error:
        raise FrameError(f"a column of X is of no one type ({error}); give it one") from None


def series_of(values: Any, n: int, what: str) -> list[Any]:
    """Return labels or weights as a list.

    Parameters
    ----------
    values
        An Arrow array, any series that narwhals wraps, a numpy array or a list.
    n
        How many there must be.
    what
        What to call them in an error.

    Raises
    ------
    FrameError
        Where there are more or fewer.
    """
    listed: list[Any]
    if isinstance(values, pa.Array | pa.ChunkedArray):
        listed = values.to_pylist()
    else:
        # Every series has this method, as numpy's arrays have it.
        for name in ("to_list", "tolist"):
            if hasattr(values, name):
                listed = list(getattr(values, name)())
                break
        else:
            listed = list(values)
    if len(listed) != n:
        raise FrameError(f"X has {n} records and {what} {len(listed)}; give one for each")
    return listed


def first_values(table: pa.Table) -> dict[Hashable, Any]:
    """Return the first value of each column that is not missing, as a record; None for none."""
    first: dict[Hashable, Any] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        known = column.drop_null()
        first[name] = known[0].as_py() if len(known) else None
    return first


def batch_of(
    table: pa.Table, encoder: Encoder, label: NDArray[np.float32], weight: NDArray[np.float32]
) -> Batch:
    """Return a table as a batch for an encoder; columns it does not know are left out."""
    n = table.num_rows
    names = set(table.column_names)
    columns = []
    for field in encoder.fields:
        if field.name not in names:
            columns.append(pa.nulls(n, pa.string()))
            continue
        column = table.column(field.name)
        chunks = column.chunks
        whole = chunks[0] if len(chunks) == 1 else column.combine_chunks()
        columns.append(feature_array(whole))
    return Batch(
        row=np.arange(n, dtype=np.int64),
        label=label,
        weight=weight,
        initial=np.zeros(n, np.float32),
        columns=columns,
        features=None,
        id=None,
        time=None,
        rejects=[],
        read=n,
        position={"file": 0, "offset": -1, "skip": 0, "record": 0, "row": 0},
    )


def in_kind(columns: Mapping[Any, NDArray[Any]] | list[Any] | NDArray[Any], like: Any) -> Any:
    """Return columns as a frame, or one column as a series, of the kind of another frame.

    Where names must be texts, ``False`` and ``True`` are named so; Arrow's record batches are
    answered with tables.
    """
    from river.utils import dataframe

    own = pa.Table.from_batches([like]) if isinstance(like, pa.RecordBatch) else like
    frame = dataframe.into_frame(own)
    if isinstance(columns, Mapping):
        return dataframe.to_native_frame(columns, like=frame)
    return dataframe.to_native_series(columns, name=None, like=frame)
