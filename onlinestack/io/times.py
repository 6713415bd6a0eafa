"""Decoding of a time column: numbers since the epoch, ISO 8601, strptime patterns, Arrow times."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.io.patterns import (
    DAY,
    HOUR,
    NOT_A_TIME,
    Times,
    check_pattern,
    moment,
    pattern_times,
)
from onlinestack.io.values import (
    Bad,
    as_text,
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

__all__ = ["NOT_A_TIME", "count_older", "decode_time"]

_EXACT = 2.0**53
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d(?::\d\d(?::\d\d(?:\.(\d+))?)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_ZONE = re.compile(r"([+-])(\d\d):?(\d\d)?$", re.ASCII)
_ZONE_NAME = re.compile(r"(?i:\s*(?:z|utc|gmt))$")
_HOURS = pa.array([str(hour) for hour in range(24)])
_WEEKDAYS = pa.array([str(day) for day in range(1, 8)])


def count_older(time: NDArray[np.int64], newest: int) -> tuple[int, int]:
    """Count the records that are older than one before them.

    Parameters
    ----------
    time
        ``int64[n]``: their times, ``NOT_A_TIME`` where missing.
    newest
        The newest time before them.

    Returns
    -------
    How many, and the newest time by now.

    Examples
    --------
    >>> count_older(np.array([5, 3, NOT_A_TIME, 9, 8]), 4)
    (2, 9)
    """
    if not len(time):
        return 0, newest
    before = np.maximum(np.concatenate([[newest], np.maximum.accumulate(time)[:-1]]), newest)
    older = int(np.count_nonzero((time != NOT_A_TIME) & (time < before)))
    return older, max(int(time.max()), newest)


def decode_time(
    array: Any, time_format: str | None = None
) -> tuple[NDArray[np.int64], pa.Array, pa.Array, Bad]:
    """Read a time column, and the hour and the day of the week where the event took place.

    Numbers and numeric text are seconds, milliseconds, microseconds or nanoseconds since the
    epoch, told apart value by value by their size: below 1e11, 1e14 and 1e17. Other text is
    ISO 8601, with or without a zone; without one it is UTC.

    Parameters
    ----------
    array
        Arrow array of any type, length n. Text columns may be binary.
    time_format
        A ``strptime`` pattern that numbers and texts are written in, such as ``%y%m%d%H``.
        Default None. Arrow timestamps and dates need none and ignore it.

    Returns
    -------
    ``int64[n]`` microseconds since the epoch (``NOT_A_TIME`` where missing or bad), the hour as
    text "0" to "23", the day of the week as text "1" (Monday) to "7", both local to the zone
    written in the value or held by the column, else UTC, and the reason for each row that is bad.

    Raises
    ------
    ValueError
        When ``time_format`` is no pattern, or the column's time zone is not known here.

    Examples
    --------
    >>> import pyarrow as pa
    >>> time, hour, weekday, bad = decode_time(pa.array(["2014-10-21T23:30:00-05:00", "0"]))
    >>> time.tolist(), hour.to_pylist(), weekday.to_pylist()
    ([1413952200000000, 0], ['23', '0'], ['2', '4'])
    """
    array = flat(array)
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        (time, ahead), bad = _arrow_times(array)
    elif time_format is not None:
        check_pattern(time_format)
        (time, ahead), bad = pattern_times(array, time_format)
    elif pa.types.is_integer(kind):
        time, bad = _whole_times(array)
        ahead = np.zeros(len(time), np.int64)
    elif pa.types.is_floating(kind):
        number = float64(array)
        time, good = _from_float(number)
        ahead = np.zeros(len(time), np.int64)
        rows = np.flatnonzero(~good & ~np.isnan(number)).tolist()
        bad = {row: _bad_time(canonical(number[row])) for row in rows}
    else:
        (time, ahead), bad = _halve_times(as_text(array))
    known = time != NOT_A_TIME
    local = np.where(known, time + ahead, 0)
    hour = _HOURS.take(pa.array(local // HOUR % 24, mask=~known))
    weekday = _WEEKDAYS.take(pa.array((local // DAY + 3) % 7, mask=~known))
    return time, hour, weekday, bad


def _scaled(count: NDArray[np.int64], multiple: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return ``count * multiple`` and whether it fits; ``NOT_A_TIME`` where it does not."""
    limit = (2**63 - 1 - DAY) // multiple  # a day to spare for the zone
    good = (count <= limit) & (count >= -limit)
    return np.where(good, np.where(good, count, 0) * multiple, NOT_A_TIME), good


def _from_whole(count: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read whole numbers since the epoch, their unit told by their size."""
    size = np.where(count == NOT_A_TIME, 2**63 - 1, np.abs(count))
    seconds, seconds_fit = _scaled(count, 1_000_000)
    millis, millis_fit = _scaled(count, 1_000)
    time = np.select(
        [size < 10**11, size < 10**14, size < 10**17], [seconds, millis, count], count // 1_000
    )
    return time, np.select([size < 10**11, size < 10**14], [seconds_fit, millis_fit], True)


def _from_float(number: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read numbers since the epoch; whole ones exactly as ``_from_whole`` does."""
    good = np.abs(number) < 2.0**63  # False for NaN
    number = np.where(good, number, 0.0)
    floor = np.floor(number)
    whole = floor.astype(np.int64)
    size = np.abs(number)
    time, _ = _from_whole(whole)
    # The unit follows the number itself; its floor may lie on the other side of a bound.
    for unit, low, high in ((1_000_000, 0.0, 1e11), (1_000, 1e11, 1e14), (1, 1e14, 1e17)):
        here = (size >= low) & (size < high)
        part = np.rint((number[here] - floor[here]) * unit) if unit > 1 else 0.0
        time[here] = whole[here] * unit + np.asarray(part, np.int64)
    return np.where(good, time, NOT_A_TIME), good


def _whole_times(array: pa.Array) -> tuple[NDArray[np.int64], Bad]:
    there = np.asarray(array.is_valid())
    if pa.types.is_uint64(array.type):
        wide = np.asarray(array.fill_null(0))
        fits = wide < 2**63
        count = np.where(fits, wide, 0).astype(np.int64)
    else:
        count = np.asarray(array.cast(pa.int64()).fill_null(0))
        fits = np.ones(len(count), np.bool_)
    time, good = _from_whole(count)
    good &= fits
    bad = {row: _bad_time(str(array[row])) for row in np.flatnonzero(there & ~good).tolist()}
    return np.where(there & good, time, NOT_A_TIME), bad


def _arrow_times(array: pa.Array) -> tuple[Times, Bad]:
    there = np.asarray(array.is_valid())
    if pa.types.is_date(array.type):
        array = array.cast(pa.date32() if pa.types.is_date32(array.type) else pa.timestamp("ms"))
    if pa.types.is_date32(array.type):
        count, unit = array.view(pa.int32()).cast(pa.int64()), "D"
    else:
        count, unit = array.view(pa.int64()), array.type.unit
    time, good = _to_micros(np.asarray(count.fill_null(0)), unit)
    bad = {row: _bad_time(str(count[row])) for row in np.flatnonzero(there & ~good).tolist()}
    time = np.where(there & good, time, NOT_A_TIME)
    zone = getattr(array.type, "tz", None)
    ahead = np.zeros(len(time), np.int64)
    if zone not in (None, "UTC"):
        try:
            stamps = pa.array(np.where(there & good, time, 0), pa.timestamp("us", zone))
            local = pc.local_timestamp(stamps).view(pa.int64())
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise ValueError(
                f"the time column is in the zone {zone!r}, which is not known here; "
                "install the time zone data (tzdata) or write the column in UTC"
            ) from error
        ahead = np.where(there & good, np.asarray(local) - np.where(there & good, time, 0), 0)
    return (time, ahead), bad


def _to_micros(count: NDArray[np.int64], unit: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    if unit == "ns":
        return count // 1_000, np.ones(len(count), np.bool_)
    return _scaled(count, {"D": DAY, "s": 1_000_000, "ms": 1_000, "us": 1}[unit])


def _halve_times(text: pa.Array) -> tuple[Times, Bad]:
    both, bad = halve(text, _times_at_once, _times_one_by_one)
    return (both[:, 0], both[:, 1]), bad


def _times_at_once(text: pa.Array) -> tuple[NDArray[np.int64], Bad] | None:
    """Read texts that are all alike in bulk; None when they are not or one of them is odd.

    The longest text tells which kind they are. Only that one is tried: Arrow words an error for
    every value that fails, so trying in vain costs as much as reading the values one by one.
    """
    length = pc.binary_length(text)
    longest = pc.max(length).as_py()
    both = np.zeros((len(text), 2), np.int64)
    if longest is None:
        both[:, 0] = NOT_A_TIME
        return both, {}
    example = text[pc.index(length, longest).as_py()].as_py()
    good: NDArray[np.bool_]
    if _WHOLE.fullmatch(example):
        # Arrow reads 0x10 as a whole number; Python does not.
        if pc.any(pc.match_substring(text, "x", ignore_case=True)).as_py():
            return None
        whole = cast(text, pa.int64())
        if whole is None:
            return None
        both[:, 0], good = _from_whole(np.asarray(whole.fill_null(0)))
    elif parse_number(example) is not None:
        decimal = cast(text, pa.float64())
        if decimal is None:
            return None
        count = float64(decimal, 0.0)
        both[:, 0], good = _from_float(count)
        good &= np.abs(count) < _EXACT
    elif found := _ISO.fullmatch(example):
        unit = "us" if len(found[1] or "") <= 6 else "ns"
        stamps = cast(text, pa.timestamp(unit, "UTC" if found[2] else None))
        if stamps is None:
            return None
        both[:, 0], good = _to_micros(np.asarray(stamps.view(pa.int64()).fill_null(0)), unit)
        if found[2]:
            both[:, 1] = _ahead(text)
    else:
        return None
    there = np.asarray(text.is_valid())
    both[~there] = NOT_A_TIME, 0
    return (both, {}) if good[there].all() else None


def _ahead(text: pa.Array) -> NDArray[np.int64]:
    """Return how far the zones written at the end of the texts are ahead of UTC."""
    ends = pc.utf8_slice_codeunits(text, -6)
    values, codes = distinct(ends)
    ahead = np.zeros(len(values) + 1, np.int64)
    for code, value in enumerate(values):
        found = _ZONE.search(value)
        if found and found[1]:
            minutes = 60 * int(found[2]) + int(found[3] or 0)
            ahead[code] = (-1 if found[1] == "-" else 1) * minutes * 60_000_000
    return ahead[codes]


def _times_one_by_one(text: pa.Array) -> tuple[NDArray[np.int64], Bad]:
    both = np.zeros((len(text), 2), np.int64)
    both[:, 0] = NOT_A_TIME
    bad: Bad = {}
    for row, word in enumerate(text.to_pylist()):
        word = (word or "").strip()
        if not word or word.lower() == "nan":
            continue
        number = parse_number(word)
        try:
            if number is None:
                both[row] = moment(datetime.fromisoformat(_ZONE_NAME.sub("+00:00", word)))
                continue
            if re.fullmatch(r"[+-]?\d+", word, re.ASCII):
                time, good = _from_whole(np.array([int(word)], np.int64))
            else:
                time, good = _from_float(np.array([number]))
        except (ValueError, OverflowError):
            bad[row] = _bad_time(word)
            continue
        if good[0]:
            both[row, 0] = time[0]
        else:
            bad[row] = _bad_time(word)
    return both, bad


def _bad_time(text: str | None) -> str:
    return (
        f"time {shown(text)} is neither a number since the epoch nor ISO 8601; "
        "name its pattern with --time-format"
    )
