"""Label, weight and time columns: every spelling, bulk and single reading alike."""

from __future__ import annotations

import decimal
import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlinestack.io import columns, patterns, times
from onlinestack.io.columns import (
    NOT_A_TIME,
    canonical,
    decode_class,
    decode_label,
    decode_number,
    decode_time,
    decode_weight,
)

TEXTS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()]


def same(a, b):
    return np.array_equal(a, b, equal_nan=True)


def moments(array, pattern=None):
    """Return times as datetimes, and the other results as lists."""
    time, hour, weekday, bad = decode_time(array, pattern)
    assert time.dtype == np.int64 and len(time) == len(hour) == len(weekday) == len(array)
    known = [None if t == NOT_A_TIME else np.datetime64(t, "us") for t in time.tolist()]
    assert [t is None for t in known] == [h is None for h in hour.to_pylist()]
    return known, hour.to_pylist(), weekday.to_pylist(), bad


def stamp(text):
    return np.datetime64(text, "us")


# ---------------------------------------------------------------------------------------- label


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("dictionary", [False, True])
def test_label_words_of_every_text_type(kind, dictionary):
    words = ["1", "0", "-1", "true", "FALSE", "Yes", "no", "T", "f", "y", "N", "1.0", "-1.0", "00"]
    array = pa.array(words).cast(kind)
    if dictionary:
        array = pa.array(words).dictionary_encode()
    label, bad = decode_label(array)
    assert label.dtype == np.float32 and not bad
    assert label.tolist() == [1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, 0, -1, None], pa.int8()),
        pa.array([1, 0, -1, None], pa.int64()),
        pa.array([1.0, 0.0, -1.0, math.nan], pa.float32()),
        pa.array([True, False, False, None]),
        pa.array(["1", "0", "-1", ""]),
        pa.array(["1", " 0 ", "-1.0", " nan "]),
        pa.array([b"1", b"0", b"-1", None]),
        pa.array([decimal.Decimal("1"), decimal.Decimal("0"), decimal.Decimal("-1"), None]),
        pa.chunked_array([["1", "0"], ["-1", None]]),
    ],
)
def test_every_column_type_gives_the_same_labels(array):
    label, bad = decode_label(array)
    assert same(label, np.array([1, 0, 0, np.nan], np.float32)) and not bad


def test_a_bad_label_has_a_reason_and_no_value():
    label, bad = decode_label(pa.array(["1", "maybe", "0", "maybe", "x" * 10_000_000]))
    assert same(label, np.array([1, np.nan, 0, np.nan, np.nan], np.float32))
    assert sorted(bad) == [1, 3, 4]
    assert "'maybe'" in bad[1] and "--positive" in bad[1]
    assert len(bad[4]) < 200
    assert sorted(decode_label(pa.array([2, 1, None]))[1]) == [0]
    assert "'0.5'" in decode_label(pa.array([0.5, 1.0]))[1][0]
    assert sorted(decode_label(pa.array([b"1", b"\xff"]))[1]) == [1]
    assert sorted(decode_label(pa.array([[1], [0]]))[1]) == [0, 1]


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        (["buy", "see", "", None, " buy "], "buy", [1, 0, None, None, 1]),
        ([2, 1, None], "2", [1, 0, None]),
        ([2.0, 1.0, math.nan], "2", [1, 0, None]),
        (["2", "1.0", "2.0"], "2.0", [1, 0, 1]),
        ([True, False, None], "TRUE", [1, 0, None]),
        (["True", "False", "nan"], "true", [1, 0, None]),
        ([b"\xff", b"a"], "a", [0, 1]),
        ([datetime(2020, 1, 1)], "x", [0]),
    ],
)
def test_positive_names_the_click(values, positive, expected):
    label, bad = decode_label(pa.array(values), positive)
    wanted = [math.nan if v is None else v for v in expected]
    assert same(label, np.array(wanted, np.float32)) and not bad


def test_unused_dictionary_values_do_no_harm():
    array = pa.DictionaryArray.from_arrays(
        pa.array([0, None, 2, 0], pa.int8()), pa.array(["1", "maybe", None])
    )
    label, bad = decode_label(array)
    assert same(label, np.array([1, np.nan, np.nan, 1], np.float32)) and not bad


@pytest.mark.parametrize("array", [pa.array([], pa.string()), pa.array([None, None]), pa.array([])])
def test_empty_and_null_columns(array):
    n = len(array)
    assert np.isnan(decode_label(array)[0]).all() and len(decode_label(array)[0]) == n
    assert np.isnan(decode_label(array, "1")[0]).all()
    assert decode_weight(array)[0].tolist() == [1.0] * n
    assert moments(array) == ([None] * n, [None] * n, [None] * n, {})
    assert moments(array, "%y%m%d%H")[0] == [None] * n


# --------------------------------------------------------------------------------------- weight


@pytest.mark.parametrize("kind", TEXTS)
def test_weights_of_text(kind):
    words = ["2", "0", "", None, " 1e-3 ", "+4", "-0.0"]
    weight, bad = decode_weight(pa.array(words).cast(kind))
    assert weight.dtype == np.float32 and not bad
    assert weight.tolist() == [2, 0, 1, 1, np.float32(1e-3), 4, 0]
    assert not np.signbit(weight).any()


def test_bad_weights():
    words = ["1", "-1", "x", "nan", "inf", "1e39", "0x10", "1_0"]
    weight, bad = decode_weight(pa.array(words))
    assert weight.tolist() == [1, 0, 0, 0, 0, 0, 0, 0] and sorted(bad) == [1, 2, 3, 4, 5, 6, 7]
    weight, bad = decode_weight(pa.array([1.5, math.nan, -math.inf, None, -0.5]))
    assert weight.tolist() == [1.5, 1, 0, 1, 0] and sorted(bad) == [2, 4]
    assert "'-0.5'" in bad[4]
    assert decode_weight(pa.array([3, None]))[0].tolist() == [3, 1]
    assert decode_weight(pa.array([decimal.Decimal("1.5")]))[0].tolist() == [1.5]


@given(
    st.lists(st.sampled_from(["1", "2.5", "", "x", "-1", " 3", "1e39", None, "nan"]), max_size=300)
)
def test_weights_do_not_depend_on_the_company_they_keep(words):
    weight, bad = decode_weight(pa.array(words, pa.string()))
    alone = [decode_weight(pa.array([word], pa.string())) for word in words]
    assert weight.tolist() == [one[0] for one, _ in alone]
    assert bad == {row: why[0] for row, (_, why) in enumerate(alone) if why}


# ----------------------------------------------------------------------------------------- time


@pytest.mark.parametrize("text", [False, True])
def test_units_since_the_epoch(text):
    values = [0, 1_700_000_000, 1_700_000_000_123, 1_700_000_000_123_456, 1_700_000_000_123_456_789]
    array = pa.array([*values, -1, None])
    known, hour, weekday, bad = moments(
        array.cast(pa.string()).cast(pa.binary()) if text else array
    )
    assert known == [
        stamp("1970-01-01T00:00:00"),
        stamp("2023-11-14T22:13:20"),
        stamp("2023-11-14T22:13:20.123"),
        stamp("2023-11-14T22:13:20.123456"),
        stamp("2023-11-14T22:13:20.123456"),
        stamp("1969-12-31T23:59:59"),
        None,
    ]
    assert hour == ["0", "22", "22", "22", "22", "23", None]
    assert weekday == ["4", "2", "2", "2", "2", "3", None] and not bad


def test_fractions_and_ends_of_the_range():
    known, _, _, bad = moments(pa.array([1_700_000_000.25, math.inf, None, math.nan, 1e300]))
    assert known == [stamp("2023-11-14T22:13:20.25"), None, None, None, None]
    assert sorted(bad) == [1, 4]
    assert sorted(moments(pa.array([2**64 - 1, 5], pa.uint64()))[3]) == [0]
    words = ["1700000000.25", "9" * 30, "0x10", "inf", "1_0", "17e8"]
    known, _, _, bad = moments(pa.array(words))
    assert known[0] == stamp("2023-11-14T22:13:20.25") and sorted(bad) == [1, 2, 3, 4]
    assert known[5] == stamp("2023-11-14T22:13:20")


@pytest.mark.parametrize(
    ("text", "utc", "hour"),
    [
        ("2014-10-21", "2014-10-21T00:00:00", "0"),
        ("2014-10-21T05", "2014-10-21T05:00:00", "5"),
        ("2014-10-21 05:06", "2014-10-21T05:06:00", "5"),
        ("2014-10-21 05:06:07", "2014-10-21T05:06:07", "5"),
        ("2014-10-21T05:06:07.5", "2014-10-21T05:06:07.5", "5"),
        ("2014-10-21T05:06:07.123456789", "2014-10-21T05:06:07.123456", "5"),
        ("2014-10-21T05:06:07.123456789Z", "2014-10-21T05:06:07.123456", "5"),
        ("2014-10-21T05:06:07Z", "2014-10-21T05:06:07", "5"),
        ("2014-10-21 05:06:07 UTC", "2014-10-21T05:06:07", "5"),
        ("2014-10-21T05:06:07z", "2014-10-21T05:06:07", "5"),
        ("2014-10-21T05:06:07+02:00", "2014-10-21T03:06:07", "5"),
        ("2014-10-21T05:06:07.25-0530", "2014-10-21T10:36:07.25", "5"),
        ("2014-10-21T01+02", "2014-10-20T23:00:00", "1"),
        (" 2014-10-21 23:00:00 ", "2014-10-21T23:00:00", "23"),
        ("1913-01-01T00:00:00.000001", "1913-01-01T00:00:00.000001", "0"),
        ("9999-12-31 23:59:59", "9999-12-31T23:59:59", "23"),
    ],
)
def test_iso_8601(text, utc, hour):
    for words in ([text], [text, None, "x"], [text] * 200 + ["x"]):
        known, hours, weekday, bad = moments(pa.array(words))
        assert known[0] == stamp(utc) and hours[0] == hour
        assert weekday[0] == str(datetime.fromisoformat(text.strip()[:10]).isoweekday())
        assert list(bad) == [len(words) - 1] * ("x" in words)


@pytest.mark.parametrize("text", ["2014-02-30", "2014-10-21T24:30", "yesterday", "2014-13", "5 pm"])
def test_bad_times(text):
    known, _, _, bad = moments(pa.array([text, "2014-10-21"]))
    assert known == [None, stamp("2014-10-21")]
    assert text in bad[0] and "--time-format" in bad[0]


ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
ISO = st.one_of(
    st.datetimes().map(lambda d: d.isoformat()),
    st.datetimes().map(lambda d: str(d)),
    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES).map(str),
    st.integers(-(2**63), 2**63).map(str),
    st.floats(-1e19, 1e19).map(repr),
    st.sampled_from(["", "x", None, "nan", "2014-10-21T05:06:07.123456789Z", "0x10", "2014-10-21"]),
)


@given(st.lists(ISO, max_size=8), st.integers(1, 30))
def test_bulk_and_single_reading_agree(words, times_over):
    array = pa.array(words * times_over, pa.large_string())
    time, hour, weekday, bad = decode_time(array)
    both, reasons = times._times_one_by_one(array)
    assert np.array_equal(time, both[:, 0]) and bad == reasons
    alone = [decode_time(array.slice(i, 1)) for i in range(len(words))]
    assert hour.to_pylist()[: len(words)] == [h[0].as_py() for _, h, _, _ in alone]
    assert weekday.to_pylist()[: len(words)] == [w[0].as_py() for _, _, w, _ in alone]


@given(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=ZONES))
def test_iso_against_datetime(when):
    time, hour, weekday, bad = decode_time(pa.array([when.isoformat()]))
    assert not bad
    assert time[0] == (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert (hour[0].as_py(), weekday[0].as_py()) == (str(when.hour), str(when.isoweekday()))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_arrow_timestamps(unit):
    array = pa.array([1_700_000_000, None], pa.timestamp("s")).cast(pa.timestamp(unit))
    assert moments(array)[:3] == ([stamp("2023-11-14T22:13:20"), None], ["22", None], ["2", None])
    for zone, hour in (("UTC", "22"), ("Asia/Tokyo", "7"), ("-08:00", "14")):
        zoned = array.cast(pa.timestamp(unit, "UTC")).cast(pa.timestamp(unit, zone))
        known, hours, _, bad = moments(zoned, "%Y")  # a pattern is not for these
        assert known[0] == stamp("2023-11-14T22:13:20") and hours[0] == hour and not bad


def test_arrow_dates_and_far_times():
    assert moments(pa.array([1, None], pa.date32()))[0] == [stamp("1970-01-02"), None]
    assert moments(pa.array([86_400_000], pa.date64()))[0] == [stamp("1970-01-02")]
    assert moments(pa.array([-1], pa.timestamp("ns")))[0] == [stamp("1969-12-31T23:59:59.999999")]
    assert sorted(moments(pa.array([2**62, 0], pa.timestamp("s")))[3]) == [0]
    assert sorted(moments(pa.array([2**31 - 1, 0], pa.date32()))[3]) == [0]
    with pytest.raises(ValueError, match="zone 'Mars/Base' is|in the zone 'Mars/Base'"):
        decode_time(pa.array([0], pa.timestamp("s", "Mars/Base")))


# ------------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    "array",
    [
        pa.array([14102105, 9010203, None], pa.int32()),
        pa.array([14102105.0, 9010203.0, None]),
        pa.array(["14102105", "09010203", ""]),
        pa.array([b"14102105", b" 09010203", None]),
        pa.array(["14102105", "09010203", None]).dictionary_encode(),
    ],
)
def test_avazu_hours(array):
    known, hour, weekday, bad = moments(array, "%y%m%d%H")
    assert known == [stamp("2014-10-21T05"), stamp("2009-01-02T03"), None]
    assert hour == ["5", "3", None] and weekday == ["2", "5", None] and not bad


def test_patterns_with_zone_and_names():
    words = ["21/Oct/2014:05:06:07 +0200", "21/Oct/2014", None]
    known, hour, _, bad = moments(pa.array(words), "%d/%b/%Y:%H:%M:%S %z")
    assert known == [stamp("2014-10-21T03:06:07"), None, None] and hour[0] == "5"
    assert list(bad) == [1] and "pattern '%d/%b/%Y:%H:%M:%S %z'" in bad[1]


@pytest.mark.parametrize("pattern", ["%Q", "%", "%Y %Y", "50%"])
def test_a_pattern_that_is_none(pattern):
    with pytest.raises(ValueError, match="no strptime pattern"):
        decode_time(pa.array(["1"]), pattern)


PATTERNS = [
    "%y%m%d%H",
    "%Y-%m-%d %H:%M:%S",
    "%d.%m.%Y",
    "%Y%m%d%H%M%S",
    "at %H:%M%% %Y",
    "%m/%d/%y",
]


@given(
    st.sampled_from(PATTERNS),
    st.lists(
        st.one_of(st.datetimes(), st.from_regex(r"\A[0-9]{8}\Z"), st.text(max_size=9)), max_size=20
    ),
)
def test_fixed_width_patterns_against_strptime(pattern, values):
    words = [v if isinstance(v, str) else v.strftime(pattern) for v in values]
    time, _, _, bad = decode_time(pa.array(words, pa.string()), pattern)
    for row, word in enumerate(words):
        word = word.strip()
        try:
            expected = patterns.moment(datetime.strptime(word, pattern))[0]
        except ValueError:
            expected = NOT_A_TIME
        assert time[row] == expected
        assert (row in bad) == (expected == NOT_A_TIME and word.lower() not in ("", "nan"))


# --------------------------------------------------------------------------------------- common


def test_canonical_text():
    given_values = [
        3,
        3.0,
        0.5,
        -0.0,
        True,
        np.True_,
        np.float32(2),
        "",
        "007",
        b"x",
        math.inf,
        1e22,
    ]
    assert [canonical(v) for v in given_values] == [
        *["3", "3", "0.5", "0", "true", "true", "2", None, "007", "x", "inf"],
        "10000000000000000000000",
    ]


def test_names_are_the_public_ones():
    assert columns.__all__ == [
        "NOT_A_TIME",
        "canonical",
        "decode_class",
        "decode_label",
        "decode_number",
        "decode_time",
        "decode_weight",
    ]


# --------------------------------------------------------------------------- numbers and classes


@pytest.mark.parametrize("kind", TEXTS)
def test_numbers_of_every_text_type(kind):
    words = ["1", "-2.5", " 3e2 ", None, "", "nan", "x", "inf", "1e39", "1_0", "-0"] * 20
    label, bad = decode_number(pa.array(words).cast(kind))
    expected = [1, -2.5, 300, *[math.nan] * 7, 0]
    assert label.dtype == np.float32
    assert same(label, np.array(expected * 20, np.float32))
    assert sorted(bad) == [11 * k + i for k in range(20) for i in (6, 7, 8, 9)]
    assert bad[7] == "label 'inf' is not a finite number"


def test_numbers_of_other_types():
    label, bad = decode_number(pa.array([1.5, None, math.nan, math.inf, 1e300]))
    assert same(label, np.array([1.5, *[math.nan] * 4], np.float32)) and sorted(bad) == [3, 4]
    assert decode_number(pa.array([True, False]))[0].tolist() == [1, 0]
    assert decode_number(pa.array([decimal.Decimal("1.25")]))[0].tolist() == [1.25]
    assert decode_number(pa.array([2**40], pa.int64()))[0].tolist() == [2.0**40]
    assert decode_number(pa.array([], pa.string())) == (pytest.approx([]), {})


def test_names_of_classes():
    words = ["cat", " cat ", "", "  ", None, "NaN", "dog"]
    expected = ["cat", "cat", None, None, None, None, "dog"]
    for kind in TEXTS:
        assert decode_class(pa.array(words).cast(kind)).to_pylist() == expected
    assert decode_class(pa.array(words).dictionary_encode()).to_pylist() == expected
    assert decode_class(pa.array([1.0, 2.5, None])).to_pylist() == ["1", "2.5", None]
    assert decode_class(pa.array([True, None])).to_pylist() == ["true", None]
