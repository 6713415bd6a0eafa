from __future__ import annotations

import io
import json

import fastavro
import pyarrow as pa
import pytest

from onlinestack.io.messages import open_codec
from onlinestack.io.reader import SourceError

RECORDS = [{"site": "a", "price": 1.5, "n": 3}, {"site": None, "price": 2.0, "n": 4}]
AVRO = {
    "type": "record",
    "name": "shown",
    "fields": [
        {"name": "site", "type": ["null", "string"]},
        {"name": "price", "type": "double"},
        {"name": "n", "type": "long"},
    ],
}


def arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def avro(record: dict, frame: bytes = b"") -> bytes:
    file = io.BytesIO()
    fastavro.schemaless_writer(file, AVRO, record)
    return frame + file.getvalue()


def avro_file(record: dict) -> bytes:
    file = io.BytesIO()
    fastavro.writer(file, AVRO, [record])
    return file.getvalue()


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "shown.avsc"
    path.write_text(json.dumps(AVRO))
    return str(path)


@pytest.mark.parametrize("format", ["json", "arrow", "avro", "avro file", "avro-framed"])
def test_all_formats_say_the_same(format, schema):
    codec = open_codec(
        format.removesuffix(" file"),
        avro_schema=schema if format in ("avro", "avro-framed") else None,
    )
    write = {
        "json": lambda record: json.dumps(record).encode(),
        "arrow": lambda record: arrow(pa.Table.from_pylist([record])),
        "avro": avro,
        "avro file": avro_file,
        "avro-framed": lambda record: avro(record, b"\0\0\0\0\7"),
    }[format]
    contents = [codec.read(write(record)) for record in RECORDS]
    assert codec.kinds(contents) == {"site": "category", "price": "number", "n": "number"}
    for name in RECORDS[0]:
        found = codec.column(contents, name).to_pylist()
        assert [v or None for v in found] == [record[name] for record in RECORDS]
    assert codec.column(contents, "none").to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("format", "value"),
    [
        ("json", b"{"),
        ("json", b"[1]"),
        ("arrow", b"no"),
        ("arrow", b""),
        ("arrow", arrow(pa.table({"a": [1]}))[:-9]),
        ("avro", avro_file(RECORDS[0])[:-5]),
        ("avro", b"no"),
    ],
)
def test_what_can_not_be_read_is_a_value_error(format, value):
    with pytest.raises(ValueError, match=r"^(no|not one) (JSON|Arrow|Avro)"):
        open_codec(format).read(value)


def test_avro_with_a_schema_is_read_to_its_end(schema):
    codec = open_codec("avro", avro_schema=schema)
    for value in (avro(RECORDS[0]) + b"x", avro(RECORDS[0])[:-1], b""):
        with pytest.raises(ValueError, match="no Avro"):
            codec.read(value)


def test_arrow_columns_of_several_types_become_one():
    codec = open_codec("arrow")
    tables = [
        pa.table({"a": column}) for column in (pa.array([1]), pa.array([2.5]), pa.array(["x"]))
    ]
    column = codec.column([codec.read(arrow(table)) for table in tables], "a")
    assert column.to_pylist() == ["1", "2.5", "x"]
    ids = [
        pa.table({"a": pa.array(["x"], pa.large_string())}),
        pa.table({"a": pa.array(["y"]).dictionary_encode()}),
    ]
    assert codec.column([codec.read(arrow(table)) for table in ids], "a").to_pylist() == ["x", "y"]


def test_formats_that_make_no_sense_are_refused(schema, tmp_path):
    with pytest.raises(SourceError, match="did you mean 'json'"):
        open_codec("jsn")
    with pytest.raises(SourceError, match="--avro-schema"):
        open_codec("avro-framed")
    with pytest.raises(SourceError, match="no Avro"):
        open_codec("json", avro_schema=schema)
    (tmp_path / "bad.avsc").write_text('{"type": "recrd"}')
    with pytest.raises(SourceError, match="no Avro schema"):
        open_codec("avro", avro_schema=str(tmp_path / "bad.avsc"))
