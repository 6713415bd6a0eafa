"""Predictions as lines of text, CSV or JSON, a whole block at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.io.values import as_text, flat
from onlinestack.spare import later

pc = later("pyarrow.compute")

__all__ = ["csv_header", "csv_lines", "json_lines"]

_FEW = 16  # up to this many records Arrow's calls cost more than Python's loop
_CSV_ODD = '[",\r\n]'
_JSON_ODD = r'[\x00-\x1f"\\]'


def csv_header(with_id: bool) -> bytes:
    """Return the first line of a CSV file of predictions."""
    return b"row,id,label,p\n" if with_id else b"row,label,p\n"


def csv_lines(
    row: NDArray[np.int64], id: Any, label: NDArray[np.float32], p: NDArray[np.float32]
) -> memoryview:
    """Return one CSV line a record: row, id, label, p.

    Parameters
    ----------
    row
        ``int64[n]``: number of the record in the run.
    id
        Arrow array of length n, or None for no such column. Quoted only where CSV needs it.
    label
        ``float32[n]``: whole ones print as integers, NaN as nothing.
    p
        ``float32[n]``: printed with the fewest digits that give the same float32 back.

    Examples
    --------
    >>> import numpy as np, pyarrow as pa
    >>> label, p = np.array([1, np.nan], np.float32), np.array([0.1, 1e-7], np.float32)
    >>> print(bytes(csv_lines(np.arange(2), pa.array(["a", "b,c"]), label, p)).decode(), end="")
    0,a,1,0.1
    1,"b,c",,1e-7
    """
    if len(row) <= _FEW:
        return _few_csv_lines(row, id, label, p)
    parts = [_integers(row), ","]
    if id is not None:
        parts += [_spelled(id, _CSV_ODD, _quoted).fill_null(""), ","]
    parts += [_floats(label).fill_null(""), ",", _floats(p).fill_null("nan"), "\n"]
    return _joined(parts)


def json_lines(
    row: NDArray[np.int64], id: Any, label: NDArray[np.float32], p: NDArray[np.float32]
) -> memoryview:
    """Return one JSON object a line for each record; parameters as for ``csv_lines``.

    Examples
    --------
    >>> import numpy as np, pyarrow as pa
    >>> label, p = np.array([1, np.nan], np.float32), np.array([0.1, 0.5], np.float32)
    >>> bytes(json_lines(np.arange(2), pa.array([7, 8]), label, p)).splitlines()[0]
    b'{"row":0,"id":7,"label":1,"p":0.1}'
    """
    if len(row) <= _FEW:
        return _few_json_lines(row, id, label, p)
    parts = ['{"row":', _integers(row)]
    if id is not None:
        parts.append(',"id":')
        if pa.types.is_integer(id.type):
            parts.append(flat(id).cast(pa.large_string()).fill_null("null"))
        else:
            text = _spelled(id, _JSON_ODD, lambda value: _json(value)[1:-1])
            parts.append(_concatenated(['"', text, '"']).fill_null("null"))
    parts += [',"label":', _floats(label).fill_null("null")]
    parts += [',"p":', _floats(_finite(p)).fill_null("null"), "}\n"]
    return _joined(parts)


def _few_csv_lines(
    row: NDArray[np.int64], id: Any, label: NDArray[np.float32], p: NDArray[np.float32]
) -> memoryview:
    """Do as ``csv_lines``, record by record: the quicker way for a single one."""
    columns = [[str(number) for number in row.tolist()]]
    if id is not None:
        odd = re.compile(_CSV_ODD)
        texts = [text or "" for text in as_text(flat(id)).to_pylist()]
        columns.append([_quoted(text) if odd.search(text) else text for text in texts])
    columns.append([text or "" for text in _floats(label).to_pylist()])
    columns.append([text or "nan" for text in _floats(p).to_pylist()])
    lines = [",".join(parts) + "\n" for parts in zip(*columns, strict=True)]
    return memoryview("".join(lines).encode())


def _few_json_lines(
    row: NDArray[np.int64], id: Any, label: NDArray[np.float32], p: NDArray[np.float32]
) -> memoryview:
    """Do as ``json_lines``, record by record."""
    columns = {"row": [str(number) for number in row.tolist()]}
    if id is not None:
        whole = pa.types.is_integer(id.type)
        texts = (flat(id).cast(pa.large_string()) if whole else as_text(flat(id))).to_pylist()
        columns["id"] = [_json(text) if text and not whole else text or "null" for text in texts]
    columns["label"] = [text or "null" for text in _floats(label).to_pylist()]
    columns["p"] = [text or "null" for text in _floats(_finite(p)).to_pylist()]
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
