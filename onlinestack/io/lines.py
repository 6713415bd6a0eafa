"""Predictions as lines of text, CSV or JSON, a whole block at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.io.values import as_text, flat
from onlinestack.spare import later

pc = later("pyarrow.compute")

__all__ = ["COLUMNS", "csv_header", "csv_lines", "json_lines"]

COLUMNS = ("label", "p")
"""Names of the values of a prediction, unless others are given."""

_FEW = 16  # up to this many records Arrow's calls cost more than Python's loop
_CSV_ODD = '[",\r\n]'
_JSON_ODD = r'[\x00-\x1f"\\]'


def csv_header(with_id: bool, columns: Sequence[str] = COLUMNS) -> bytes:
    """Return the first line of a CSV file of predictions."""
    return ",".join(["row", *(["id"] if with_id else []), *columns]).encode() + b"\n"


def csv_lines(row: NDArray[np.int64], id: Any, *values: Any) -> memoryview:
    """Return one CSV line a record: row, id, then the values: label, p or the like.

    Parameters
    ----------
    row
        ``int64[n]``: number of the record in the run.
    id
        Arrow array of length n, or None for no such column. Quoted only where CSV needs it.
    values
        Columns of length n, the label first. ``float32[n]``: printed with the fewest digits that
        give the same float32 back, whole ones as integers, NaN as nothing for a label. Arrow
        arrays are texts; null prints as nothing.

    Examples
    --------
    >>> import numpy as np, pyarrow as pa
    >>> label, p = np.array([1, np.nan], np.float32), np.array([0.1, 1e-7], np.float32)
    >>> print(bytes(csv_lines(np.arange(2), pa.array(["a", "b,c"]), label, p)).decode(), end="")
    0,a,1,0.1
    1,"b,c",,1e-7
    """
    if len(row) <= _FEW:
        return _few_csv_lines(row, id, values)
    parts = [_integers(row)]
    if id is not None:
        parts += [",", _spelled(id, _CSV_ODD, _quoted).fill_null("")]
    for place, value in enumerate(values):
        parts.append(",")
        if isinstance(value, np.ndarray):
            parts.append(_floats(value).fill_null("" if place == 0 else "nan"))
        else:
            parts.append(_spelled(value, _CSV_ODD, _quoted).fill_null(""))
    return _joined([*parts, "\n"])


def json_lines(
    row: NDArray[np.int64], id: Any, *values: Any, columns: Sequence[str] = COLUMNS
) -> memoryview:
    """Return one JSON object a line for each record.

    Parameters
    ----------
    row, id, values
        As for ``csv_lines``.
    columns
        Names of the values.

    Examples
    --------
    >>> import numpy as np, pyarrow as pa
    >>> label, p = np.array([1, np.nan], np.float32), np.array([0.1, 0.5], np.float32)
    >>> bytes(json_lines(np.arange(2), pa.array([7, 8]), label, p)).splitlines()[0]
    b'{"row":0,"id":7,"label":1,"p":0.1}'
    """
    if len(row) <= _FEW:
        return _few_json_lines(row, id, values, columns)
    parts = ['{"row":', _integers(row)]
    if id is not None:
        parts.append(',"id":')
        if pa.types.is_integer(id.type):
            parts.append(flat(id).cast(pa.large_string()).fill_null("null"))
        else:
            parts.append(_json_texts(id))
    for name, value in zip(columns, values, strict=True):
        parts.append(f',"{name}":')
        if isinstance(value, np.ndarray):
            parts.append(_floats(_finite(value)).fill_null("null"))
        else:
            parts.append(_json_texts(value))
    return _joined([*parts, "}\n"])


def _json_texts(values: Any) -> pa.Array:
    text = _spelled(values, _JSON_ODD, lambda value: _json(value)[1:-1])
    return _concatenated(['"', text, '"']).fill_null("null")


def _few_csv_lines(row: NDArray[np.int64], id: Any, values: Sequence[Any]) -> memoryview:
    """Do as ``csv_lines``, record by record: the quicker way for a single one."""
    columns = [[str(number) for number in row.tolist()]]
    odd = re.compile(_CSV_ODD)
    for place, value in enumerate([id, *values]):
        if isinstance(value, np.ndarray):
            nothing = "" if place == 1 else "nan"
            columns.append([text or nothing for text in _floats(value).to_pylist()])
        elif value is not None:
            texts = [text or "" for text in as_text(flat(value)).to_pylist()]
            columns.append([_quoted(text) if odd.search(text) else text for text in texts])
    lines = [",".join(parts) + "\n" for parts in zip(*columns, strict=True)]
    return memoryview("".join(lines).encode())


def _few_json_lines(
    row: NDArray[np.int64], id: Any, values: Sequence[Any], names: Sequence[str]
) -> memoryview:
    """Do as ``json_lines``, record by record."""
    columns = {"row": [str(number) for number in row.tolist()]}
    for name, value in zip(["id", *names], [id, *values], strict=True):
        if isinstance(value, np.ndarray):
            texts = _floats(_finite(value)).to_pylist()
            columns[name] = [text or "null" for text in texts]
        elif value is not None:
            whole = name == "id" and pa.types.is_integer(value.type)
            texts = flat(value).cast(pa.large_string()) if whole else as_text(flat(value))
            columns[name] = [
                _json(text) if text and not whole else text or "null" for text in texts.to_pylist()
            ]
    lines = [
        "{"
        + ",".join(f'"{name}":{part}' for name, part in zip(columns, parts, strict=True))
        + "}\n"
        for parts in zip(*columns.values(), strict=True)
    ]
    return memoryview("".join(lines).encode())


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _finite(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(np.isfinite(numbers), numbers, np.float32(np.nan))


def _integers(numbers: NDArray[np.int64]) -> pa.Array:
    return pa.array(numbers, pa.int64()).cast(pa.large_string())


def _floats(numbers: NDArray[np.float32]) -> pa.Array:
    """Return the shortest texts that give the numbers back, null for NaN."""
    numbers = numbers + np.float32(0)  # -0 becomes 0
    return pa.array(numbers, pa.float32(), mask=np.isnan(numbers)).cast(pa.large_string())


def _spelled(values: Any, odd: str, spell: Callable[[str], str]) -> pa.Array:
    """Return the values as text, those that match ``odd`` spelled one by one."""
    text = as_text(flat(values))
    if not pa.types.is_large_string(text.type):
        text = text.cast(pa.large_string())
    mask = pc.match_substring_regex(text, odd).fill_null(False)
    if not pc.any(mask).as_py():
        return text
    spelled = [spell(value) for value in text.filter(mask).to_pylist()]
    return pc.replace_with_mask(text, mask, pa.array(spelled, pa.large_string()))


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _concatenated(parts: list[Any]) -> pa.Array:
    """Return each row's parts as one text; null where one of them is."""
    large = pa.large_string()
    texts = [pa.scalar(part, large) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*texts, pa.scalar("", large))


def _joined(parts: list[Any]) -> memoryview:
    """Return the bytes of all rows, one after the other."""
    lines = _concatenated(parts)
    _, offsets, data = lines.buffers()
    where = np.frombuffer(offsets, np.int64, len(lines) + 1, 8 * lines.offset)
    return memoryview(data if data is not None else b"")[int(where[0]) : int(where[-1])]
