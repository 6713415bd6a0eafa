"""Times written in a ``strptime`` pattern, read in bulk where the pattern has a fixed width."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.io.values import Bad, as_text, shown
from onlinestack.spare import later

pc = later("pyarrow.compute")

__all__ = ["DAY", "HOUR", "NOT_A_TIME", "Times", "check_pattern", "moment", "pattern_times"]

NOT_A_TIME: int = -(2**63)
"""What ``decode_time`` gives for a missing or a bad time."""

DAY: int = 86_400_000_000
HOUR: int = 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}

Times = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Microseconds since the epoch in UTC, and how far the written zone is ahead of UTC."""


def moment(when: datetime) -> tuple[int, int]:
    """Return microseconds since the epoch and how far the zone is ahead of UTC, likewise."""
    ahead = when.utcoffset() or timedelta()
    naive = when.replace(tzinfo=UTC) - _EPOCH
    return (naive - ahead) // _MICROSECOND, ahead // _MICROSECOND


@functools.lru_cache
def check_pattern(pattern: str) -> None:
    """Raise ValueError when ``strptime`` would refuse the pattern whatever the text."""
    try:
        datetime.strptime("", pattern)
    except ValueError as error:
        if "does not match" in str(error):
            return
    except re.error:
        pass
    else:
        return
    raise ValueError(
        f"time format {pattern!r} is no strptime pattern; write one such as '%Y-%m-%d %H:%M:%S'"
    )


@functools.lru_cache
def _layout(pattern: str) -> tuple[dict[str, int], dict[int, str], int] | None:
    """Return where the digits and the other characters stand, if that is fixed, and the width."""
    digits: dict[str, int] = {}
    others: dict[int, str] = {}
    width = 0
    for token in re.findall(r"%.|[^%]", pattern, re.DOTALL):
        if token == "%%" or len(token) == 1:
            if not token.isascii() or token.isspace():
                return None
            others[width] = token[-1]
            width += 1
        elif token[1] in _WIDTHS and token[1] not in digits:
            digits[token[1]] = width
            width += _WIDTHS[token[1]]
        else:
            return None
    return (digits, others, width) if width else None


def pattern_times(array: pa.Array, pattern: str) -> tuple[Times, Bad]:
    """Read times written in a ``strptime`` pattern; without a zone they are UTC."""
    layout = _layout(pattern)
    number = pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
    text = as_text(array)
    if number and layout is not None and not layout[1]:
        # A number has lost the zeros in front: 9102100 was 09102100.
        text = pc.utf8_lpad(text, layout[2], "0")
    n = len(text)
    time = np.full(n, NOT_A_TIME)
    ahead = np.zeros(n, np.int64)
    rest = np.asarray(text.is_valid())
    if layout is not None:
        same = np.asarray(pc.equal(pc.binary_length(text), layout[2]).fill_null(False))
        rows = np.flatnonzero(same)
        found, good = _fixed_times(text if same.all() else text.filter(pa.array(same)), layout)
        time[rows[good]] = found[good]
        rest[rows[good]] = False
    bad: Bad = {}
    seen: dict[str, tuple[int, int] | None] = {}
    for row in np.flatnonzero(rest).tolist():
        word = text[row].as_py().strip()
        if not word or word.lower() == "nan":
            continue
        if word not in seen:
            try:
                seen[word] = moment(datetime.strptime(word, pattern))
            except (ValueError, OverflowError):
                seen[word] = None
        both = seen[word]
        if both is None:
            bad[row] = f"time {shown(word)} does not fit the pattern {pattern!r}"
        else:
            time[row], ahead[row] = both
    return (time, ahead), bad


def _fixed_times(
    text: pa.Array, layout: tuple[dict[str, int], dict[int, str], int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read texts of one width by the place of their digits; tell which of them were readable."""
    places, others, width = layout
    n = len(text)
    _, offsets, data = text.buffers()
    if n == 0 or data is None:
        return np.full(n, NOT_A_TIME), np.zeros(n, np.bool_)
    begin = int(np.frombuffer(offsets, np.int64)[text.offset])
    table = np.frombuffer(data, np.uint8, n * width, begin).reshape(n, width)
    good = np.ones(n, np.bool_)
    for place, character in others.items():
        good &= table[:, place] == ord(character)
    part = {"Y": np.full(n, 1900), "m": np.ones(n, np.int64), "d": np.ones(n, np.int64)}
    for name, place in places.items():
        value = np.zeros(n, np.int64)
        for digit in range(place, place + _WIDTHS[name]):
            figure = table[:, digit] - np.uint8(48)  # wraps round below "0"
            good &= figure < 10
            value = value * 10 + figure
        part[name] = value
    if "y" in part:
        part["Y"] = part["y"] + np.where(part["y"] < 69, 2000, 1900)
    good &= (part["Y"] >= 1) & (part["m"] >= 1) & (part["m"] <= 12) & (part["d"] >= 1)
    month = (np.where(good, part["Y"] - 1970, 0) * 12 + part["m"] - 1).astype("M8[M]")
    first = month.astype("M8[D]").astype(np.int64)
    good &= part["d"] <= (month + 1).astype("M8[D]").astype(np.int64) - first
    time = (first + part["d"] - 1) * DAY
    for name, unit, limit in (("H", HOUR, 24), ("M", 60_000_000, 60), ("S", 1_000_000, 60)):
        if name in part:
            good &= part[name] < limit
            time += part[name] * unit
    return time, good
