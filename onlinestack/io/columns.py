"""Decoding of the columns that are no features: label and weight here, time in ``io/times.py``.

A label is read as a click, as a number or as the name of a class, whichever the task asks for.

Whole Arrow columns become numpy arrays. Numbers and well-formed text are decoded in bulk;
whatever refuses that is split in halves until only the odd values remain, and those are read one
by one. Both ways give the same result, so the size of a block changes nothing.

Notes
-----
``null``, NaN, an empty and a blank text are *missing* and never an error: no label means
"predict, do not learn", no weight means 1, no time means ``NOT_A_TIME``. Everything else that
cannot be read is *bad*: its row and the reason are handed back, and the caller rejects the record.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.io.times import NOT_A_TIME, decode_time
from onlinestack.io.values import (
    Bad,
    as_text,
    at_rows,
    canonical,
    cast,
    distinct,
    flat,
    float64,
    halve,
    parse_number,
    shown,
)
from onlinestack.spare import later

pc = later("pyarrow.compute")

__all__ = [
    "NOT_A_TIME",
    "canonical",
    "decode_class",
    "decode_label",
    "decode_number",
    "decode_time",
    "decode_weight",
]

_CLICK = {"1": 1.0, "true": 1.0, "t": 1.0, "yes": 1.0, "y": 1.0}
_NO_CLICK = {"0": 0.0, "-1": 0.0, "false": 0.0, "f": 0.0, "no": 0.0, "n": 0.0}
_LABEL_WORDS = _CLICK | _NO_CLICK
_MISSING = r"^([nN][aA][nN])?$"


# ---------------------------------------------------------------------------------------- label


def decode_label(array: Any, positive: str | None = None) -> tuple[NDArray[np.float32], Bad]:
    """Read a label column as clicks (1) and no clicks (0).

    Use it where clicks are to be predicted, on any source but Vowpal Wabbit text, whose parser
    reads labels itself.

    Parameters
    ----------
    array
        Arrow array of any type, length n. Text columns may be binary.
    positive
        The value that means a click; every other value that is not missing means none. Compared
        by value: ``"1"`` also names 1.0, ``"true"`` also a boolean. Default None: 1, true, t,
        yes, y (any case) mean a click, 0, -1, false, f, no, n none.

    Returns
    -------
    ``float32[n]``, NaN where there is no label, and the reason for each row that is bad.

    Examples
    --------
    >>> import pyarrow as pa
    >>> decode_label(pa.array(["1", "-1", "Yes", None, "maybe"]))[0].tolist()
    [1.0, 0.0, 1.0, nan, nan]
    >>> decode_label(pa.array(["buy", "see", ""]), positive="buy")[0].tolist()
    [1.0, 0.0, nan]
    """
    array = flat(array)
    kind = array.type
    if positive is None and (
        pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    ):
        number = float64(array)
        label = np.where(np.isnan(number), np.nan, number == 1.0).astype(np.float32)
        odd = ~np.isin(number, (-1.0, 0.0, 1.0)) & ~np.isnan(number)
        label[odd] = np.nan
        rows = np.flatnonzero(odd).tolist()
        return label, {row: _bad_label(canonical(number[row])) for row in rows}
    values, codes = distinct(array)
    click = None if positive is None else _name(positive)
    meaning = np.empty(len(values) + 1, np.float32)
    meaning[-1] = np.nan  # code -1, a null
    reasons: Bad = {}
    for code, value in enumerate(values):
        known = _label(canonical(value), click)
        meaning[code] = np.nan if known is None else known
        if known is None:
            reasons[code] = _bad_label(canonical(value))
    return meaning[codes], at_rows(reasons, codes)


def _label(text: str | None, click: str | None) -> float | None:
    """Return the label one text stands for: 0, 1, NaN for missing, None for bad."""
    word = (text or "").strip().lower()
    if not word or word == "nan":
        return math.nan
    if click is not None:
        return float(_name(text or "") == click)
    known = _LABEL_WORDS.get(word)
    return _LABEL_WORDS.get(_name(word)) if known is None else known


def _name(text: str) -> str:
    """Return one spelling for all texts of a number or truth value: 01 and 1.0 are both 1."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    number = parse_number(text)
    return text if number is None or not math.isfinite(number) else canonical(number) or text


def _bad_label(text: str | None) -> str:
    return (
        f"label {shown(text)} is neither 0/1, -1/1, true/false nor yes/no; "
        "name the value of a click with --positive"
    )


def decode_number(array: Any) -> tuple[NDArray[np.float32], Bad]:
    """Read a label column as numbers: whatever a float32 can hold.

    Parameters
    ----------
    array
        Arrow array of any type, length n. Text columns may be binary; truth values are 0 and 1.

    Returns
    -------
    ``float32[n]``, NaN where there is no label, and the reason for each row that is bad.

    Examples
    --------
    >>> import pyarrow as pa
    >>> label, bad = decode_number(pa.array(["-2.5", "", "many"]))
    >>> label.tolist(), bad
    ([-2.5, nan, nan], {2: "label 'many' is not a finite number"})
    """
    array = flat(array)
    kind = array.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        number = float64(array)
        label, good = _finite(number)
        rows = np.flatnonzero(~good).tolist()
        return label, {row: _bad_number(canonical(number[row])) for row in rows}
    return halve(as_text(array), _numbers_at_once, _numbers_one_by_one)


def _finite(number: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return numbers as float32, NaN for those that are bad, and which are not."""
    with np.errstate(over="ignore"):
        label = number.astype(np.float32)
    good = np.isfinite(label) | np.isnan(number)
    return np.where(good, label + np.float32(0), np.float32(np.nan)), good


def _numbers_at_once(text: pa.Array) -> tuple[NDArray[np.float32], Bad] | None:
    number = cast(text, pa.float64())
    if number is None:
        return None
    label, good = _finite(float64(number))
    return (label, {}) if good.all() else None


def _numbers_one_by_one(text: pa.Array) -> tuple[NDArray[np.float32], Bad]:
    number = np.full(len(text), np.nan)
    for row, word in enumerate(text.to_pylist()):
        if word is not None and word.strip():
            known = parse_number(word)
            number[row] = math.inf if known is None else known
    label, good = _finite(number)
    return label, {row: _bad_number(text[row].as_py()) for row in np.flatnonzero(~good).tolist()}


def _bad_number(text: str | None) -> str:
    return f"label {shown(text)} is not a finite number"


def decode_class(array: Any) -> pa.Array:
    """Return a label column as names of classes: one spelling a value, null where there is none.

    Parameters
    ----------
    array
        Arrow array of any type, length n. Blanks around a name do not count.

    Examples
    --------
    >>> import pyarrow as pa
    >>> decode_class(pa.array(["cat", " dog ", "", None])).to_pylist()
    ['cat', 'dog', None, None]
    """
    text = pc.utf8_trim_whitespace(as_text(flat(array)))
    return pc.if_else(pc.match_substring_regex(text, _MISSING), None, text)


# --------------------------------------------------------------------------------------- weight


def decode_weight(array: Any) -> tuple[NDArray[np.float32], Bad]:
    """Read a weight column: finite numbers that are not negative.

    Parameters
    ----------
    array
        Arrow array of any type, length n. Text columns may be binary.

    Returns
    -------
    ``float32[n]``, 1 where the weight is missing and 0 where it is bad, and the reason for each
    row that is bad. A NaN in a column of numbers is missing; the text "nan" is bad.

    Examples
    --------
    >>> import pyarrow as pa
    >>> weight, bad = decode_weight(pa.array(["2", "", "-1"]))
    >>> weight.tolist(), bad
    ([2.0, 1.0, 0.0], {2: "weight '-1' is not a finite number of 0 or more"})
    """
    array = flat(array)
    kind = array.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        number = float64(array)
        weight, good = _weight(np.where(np.isnan(number), 1.0, number))
        rows = np.flatnonzero(~good).tolist()
        return weight, {row: _bad_weight(canonical(number[row])) for row in rows}
    return halve(as_text(array), _weights_at_once, _weights_one_by_one)


def _weight(number: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    with np.errstate(over="ignore"):
        weight = number.astype(np.float32)
    good = np.isfinite(weight) & (weight >= 0)
    return np.where(good, np.abs(weight), np.float32(0)), good


def _weights_at_once(text: pa.Array) -> tuple[NDArray[np.float32], Bad] | None:
    number = cast(text, pa.float64())
    if number is None:
        return None
    weight, good = _weight(float64(number, 1.0))
    return (weight, {}) if good.all() else None


def _weights_one_by_one(text: pa.Array) -> tuple[NDArray[np.float32], Bad]:
    number = np.ones(len(text))
    for row, word in enumerate(text.to_pylist()):
        if word is not None and word.strip():
            known = parse_number(word)
            number[row] = math.nan if known is None else known
    weight, good = _weight(number)
    return weight, {row: _bad_weight(text[row].as_py()) for row in np.flatnonzero(~good).tolist()}


def _bad_weight(text: str | None) -> str:
    return f"weight {shown(text)} is not a finite number of 0 or more"
