"""Kinds of columns, roles, and what is said when a name fits none."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack.io.schema import (
    Field,
    Kind,
    Schema,
    SchemaError,
    arrow_kind,
    infer_schema,
    missing_label,
    text_kind,
    unique_names,
)


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2"],
        ["0", "-3", "+4"],
        ["1.5", "-0.25", ".5", "7."],
        ["1", "", "nan", "NaN"],
        ["1e-05", "2.5e+20", "3E-07"],
        [" 1", "2 "],
        ["123456789012345"],
        ["0.30000000000000004"],
        ["-0.0"],
    ],
)
def test_numbers(values: list[str]) -> None:
    assert text_kind(pa.array(values)) == "number"
    assert text_kind(pa.array([v.encode() for v in values])) == "number"


@pytest.mark.parametrize(
    "value",
    ["007", "-01", "00", "1e5", "1E5", "12e+05", "0x1f", "1_000", "1,000", "1234567890123456"]
    + [
        "x",
        "inf",
        "-inf",
        "-",
        "+",
        ".",
        "1 2",
        "1-2",
        "10.0.0.1",
        "true",
        "2024-01-01",
        "٣",
        "\xff",
    ],
)
def test_words(value: str) -> None:
    assert text_kind(pa.array(["1", value])) == "category"
    assert text_kind(pa.array(["1", value], pa.string()).cast(pa.binary())) == "category"


def test_bytes_that_are_no_text_are_a_category() -> None:
    assert text_kind(pa.array([b"1", b"\xff"])) == "category"
    assert text_kind(pa.array([b"1", b"\xc3"])) == "category"


@pytest.mark.parametrize("values", [[], [""], [None], ["", "nan"], [" "]])
def test_nothing_is_a_category(values: list[Any]) -> None:
    assert text_kind(pa.array(values, pa.string())) == "category"


@settings(deadline=None)
@given(st.one_of(st.integers(-(10**15) + 1, 10**15 - 1), st.floats(allow_infinity=False)))
def test_what_python_prints_is_a_number(value: float) -> None:
    kind = text_kind(pa.array(["1", repr(value)]))
    long = isinstance(value, float) and len(repr(abs(value)).split(".")[0]) > 15
    assert kind == "number" or long


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (pa.uint64(), "number"),
        (pa.float16(), "number"),
        (pa.decimal128(10, 2), "number"),
        (pa.bool_(), "category"),
        (pa.string(), "category"),
        (pa.large_string(), "category"),
        (pa.binary(4), "category"),
        (pa.dictionary(pa.int8(), pa.string()), "category"),
        (pa.null(), "category"),
        (pa.date32(), "category"),
        (pa.timestamp("us", "UTC"), "category"),
        (pa.list_(pa.int64()), "text"),
        (pa.large_list(pa.string()), "text"),
        (pa.list_(pa.string(), 3), "text"),
        (pa.list_(pa.list_(pa.string())), None),
        (pa.map_(pa.string(), pa.string()), None),
        (pa.struct([("a", pa.int64())]), None),
    ],
)
def test_kinds_of_arrow(type_: pa.DataType, kind: Kind | None) -> None:
    assert arrow_kind(type_) == kind


KINDS: dict[str, Kind] = {"click": "number", "site": "category", "Age": "number", "t": "number"}


def test_roles_are_no_features_and_fields_are_in_order() -> None:
    schema = infer_schema(KINDS, label="click", time="t", ignore=["site"], categorical=["Age"])
    assert schema.fields == (
        Field("Age", "category"),
        Field("t.hour", "category"),
        Field("t.weekday", "category"),
    )
    assert schema.roles == {"label": "click", "time": "t"}
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"label": "clik"}, "log.csv has no column 'clik', given as label, did you mean 'click'"),
        ({"label": "CLICK"}, "did you mean 'click'"),
        ({"label": "zzz"}, "no column 'zzz', given as label; its columns are click, site, Age, t"),
        ({"ignore": ["sites"]}, "given as ignore, did you mean 'site'"),
        ({"numeric": ["age"]}, "given as number, did you mean 'Age'"),
        ({"label": "click", "id": "click"}, "'click' can not be both label and id"),
        ({"numeric": ["t"], "text": ["t"]}, "'t' can not be both number and text"),
    ],
)  # fmt: skip
def test_names_that_do_not_fit(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        infer_schema(KINDS, source="log.csv", **asked)


def test_a_column_named_like_a_field_of_the_time() -> None:
    kinds: dict[str, Kind] = {"t": "number", "t.hour": "number"}
    with pytest.raises(SchemaError, match="'t.hour' bears the name of a field"):
        infer_schema(kinds, time="t")
    assert len(infer_schema(kinds, time="t", ignore=["t.hour"]).fields) == 2


def test_missing_label_lists_the_columns() -> None:
    assert str(missing_label(KINDS)).endswith("the columns are click, site, Age, t.")
    assert "and 9,980 more" in str(missing_label([f"c{i}" for i in range(10_000)]))


def test_unknown_keys_and_kinds_of_a_stored_schema() -> None:
    with pytest.raises(SchemaError, match="unknown key 'labl'.*'label'"):
        Schema.from_dict({"labl": "x"})
    with pytest.raises(
        SchemaError, match="unknown kind 'word'; give one of number, category, text"
    ):
        Schema.from_dict({"fields": {"a": "word"}})


@given(st.lists(st.sampled_from(["a", "b", "", "a.2", "c1", "c2"]), max_size=8))
def test_names_become_unique(names: list[str]) -> None:
    result = unique_names(names)
    assert len(set(result)) == len(names) and "" not in result
    once = [n for n in names if n and names.count(n) == 1]
    assert [n for n in result if n in once] == once
