"""The number reader equals Python's float() bit for bit, or says that it cannot tell."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onlinestack.features.number_text import (
    MISSING,
    NUMBER,
    SLOW,
    TEXT,
    number_of,
    parse_number,
)

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NUMERALS = st.one_of(
    FLOATS.map(repr),
    FLOATS.map("{:.17e}".format),
    FLOATS.map("{:.6g}".format),
    st.floats(-1e6, 1e6).map("{:.3f}".format),
    st.integers(-(2**70), 2**70).map(str),
    st.from_regex(r"\A[ \t]{0,2}[+-]?[0-9]{0,21}\.?[0-9]{0,21}([eE][+-]?[0-9]{0,4})?[ \n]?\Z"),
    st.tuples(st.integers(0, 2**64 - 1), st.integers(-345, 310)).map(lambda t: f"{t[0]}e{t[1]}"),
)
ANYTHING = st.one_of(st.binary(max_size=12), st.text("0123456789.eE+- \t_naif", max_size=9))


def parse(text: bytes) -> tuple[int, float]:
    raw = np.frombuffer(bytearray(b"7" + text + b"7"), np.uint8)
    return parse_number(raw.ctypes.data + 1, len(text))


def same(text: bytes) -> int:
    status, value = parse(text)
    if status != SLOW:
        expected: Any = number_of(text)
        assert status == expected[0]
        assert struct.pack("d", value) == struct.pack("d", expected[1])
    return status


@settings(deadline=None)  # the first call compiles
@given(NUMERALS)
@example("9007199254740993")
@example("9007199254740992.5")
@example("1e23")
@example("8.5e-05")
@example("2.2250738585072011e-308")
@example("1.7976931348623157e308")
@example("1.7976931348623159e308")
@example("0e999999999999")
@example("-0")
def test_equals_float(text: str) -> None:
    same(text.encode())


@settings(deadline=None)  # the first call compiles
@given(ANYTHING)
def test_anything(text: str | bytes) -> None:
    same(text if isinstance(text, bytes) else text.encode())


@settings(deadline=None)  # the first call compiles
@given(FLOATS.filter(lambda x: abs(x) > 1e-300 or x == 0))
def test_printed_doubles_are_never_slow(value: float) -> None:
    assert same(repr(value).encode()) == NUMBER


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"", MISSING),
        (b"  ", MISSING),
        (b"NaN", MISSING),
        (b"-Infinity", MISSING),
        (b"1e999", MISSING),
        (b"1_000", TEXT),
        (b"0x1f", TEXT),
        (b"1e", TEXT),
        (b".", TEXT),
        (b"-", TEXT),
        (b"1 2", TEXT),
        (b"na", TEXT),
        (b" 1. ", NUMBER),
        (b".5", NUMBER),
    ],
)
def test_kinds(text: bytes, status: int) -> None:
    assert number_of(text)[0] == status
    assert parse(text)[0] in (status, SLOW)
    assert math.isnan(number_of(text)[1]) == (status != NUMBER)
