"""Parquet and Arrow IPC: types, nesting, resuming, pipes."""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onlinestack.io import arrow
from onlinestack.io.arrow import ArrowReader, feature_array
from onlinestack.io.reader import SourceError
from onlinestack.io.schema import SchemaError

WHEN = datetime.datetime(2014, 10, 21, 5, tzinfo=datetime.UTC)
TABLE = pa.table(
    {
        "n": pa.array([1, None, 3], pa.int32()),
        "s": pa.array(["a", None, "b"]),
        "d": pa.array(["x", "y", None]).dictionary_encode(),
        "b": pa.array([True, None, False]),
        "f": pa.array([1.5, None, float("nan")]),
        "dec": pa.array([Decimal("1.50"), None, Decimal("-2.00")]),
        "day": pa.array([datetime.date(2024, 2, 29), None, None]),
        "at": pa.array([WHEN, None, WHEN], pa.timestamp("us", "UTC")),
        "l": pa.array([["x", "y"], None, []]),
        "ints": pa.array([[1, 2], None, []], pa.large_list(pa.int16())),
        "o": pa.array([{"p": 1, "q": {"r": "z"}}, None, {"p": None, "q": None}]),
        "nothing": pa.nulls(3),
        "m": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    }
)
KINDS = {
    "n": "number", "s": "category", "d": "category", "b": "category", "f": "number",
    "dec": "number", "day": "category", "at": "category", "l": "text", "ints": "text",
    "o.p": "number", "o.q.r": "category", "nothing": "category",
}  # fmt: skip


def write(table: pa.Table, path: Path, kind: str, rows: int = 1 << 20) -> str:
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=rows)
    else:
        new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with new(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    return str(path)


def drain(
    path: str, format: str, wanted: Sequence[str] | None = None, offset: int | None = None
) -> dict[str, list[Any]]:
    reader = ArrowReader(path, format)
    names = reader.names if wanted is None else wanted
    result: dict[str, list[Any]] = {name: [] for name in names}
    at = offset or 0
    for job in reader.jobs(names, offset):
        stretch = job()
        assert stretch.offset == at
        at += stretch.read
        for name, column in zip(names, stretch.columns, strict=True):
            if column is None:
                result[name] += [None] * stretch.read
            else:
                assert len(column) == stretch.read
                result[name] += column.to_pylist()
    reader.close()
    return result


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_types_and_nesting(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    format = "parquet" if kind == "parquet" else "arrow"
    path = write(TABLE, tmp_path / "a", kind)
    reader = ArrowReader(path, format)
    assert reader.kinds() == KINDS
    assert "left out m (map<string, int64" in caplog.text
    (stretch,) = (job() for job in reader.jobs(reader.names))
    reader.close()
    columns = dict(zip(reader.names, stretch.columns, strict=True))
    found = {n: feature_array(c).to_pylist() for n, c in columns.items() if c is not None}
    assert repr(found) == repr(
        {
            "n": [1, None, 3],
            "s": ["a", None, "b"],
            "d": ["x", "y", None],
            "b": [True, None, False],
            "f": [1.5, None, float("nan")],
            "dec": [1.5, None, -2.0],
            "day": ["2024-02-29", None, None],
            "at": ["2014-10-21 05:00:00.000000Z", None, "2014-10-21 05:00:00.000000Z"],
            "l": [["x", "y"], None, []],
            "ints": [[1, 2], None, []],
            "o.p": [1, None, None],
            "o.q.r": ["z", None, None],
            "nothing": [None] * 3,
        }
    )


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1.0], pa.float16()),
        pa.array(["a"], pa.large_string()),
        pa.array(["a"], pa.string_view()),
        pa.array([b"a"], pa.large_binary()),
        pa.array([b"a"], pa.binary(1)),
        pa.array([1, 1]).dictionary_encode(),
        pa.array(["a"], pa.large_string()).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0], pa.uint8()), ["a"]),
        pa.array([["a"]], pa.list_(pa.large_string(), 1)),
        pa.array([[1.5]], pa.large_list(pa.float32())),
        pa.array([datetime.time(1, 2)]),
        pa.array([datetime.timedelta(1)]),
        pa.array([Decimal("1.5")], pa.decimal256(40, 3)),
        pa.nulls(2),
    ],
    ids=lambda array: str(array.type),
)
def test_every_feature_type_becomes_one_the_encoder_knows(array: pa.Array) -> None:
    plain = {pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary()}
    type_ = feature_array(array).type
    if pa.types.is_dictionary(type_):
        assert type_ == pa.dictionary(pa.int32(), pa.string())
    elif pa.types.is_list(type_):
        assert type_.value_type in plain
    else:
        assert type_ in plain


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
@pytest.mark.parametrize("rows", [7, 100, 1000])
def test_reading_goes_on_at_any_record(
    tmp_path: Path, kind: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "_ROWS", 64)
    format = "parquet" if kind == "parquet" else "arrow"
    table = pa.table({"i": np.arange(300), "s": [f"v{i % 9}" for i in range(300)]})
    path = write(table, tmp_path / "a", kind, rows)
    for offset in (0, 1, 63, 64, 65, 99, 100, 250, 299, 300):
        assert drain(path, format, offset=offset) == table.slice(offset).to_pydict()


def test_some_columns_none_and_missing_ones(tmp_path: Path) -> None:
    for kind in ("parquet", "file", "stream"):
        format = "parquet" if kind == "parquet" else "arrow"
        path = write(TABLE.drop_columns(["m"]), tmp_path / "a", kind)
        assert drain(path, format, ["o.q.r", "zz", "n"]) == {
            "o.q.r": ["z", None, None], "zz": [None] * 3, "n": [1, None, 3],
        }  # fmt: skip
        assert drain(path, format, []) == {}
        reader = ArrowReader(path, format)
        assert [job().read for job in reader.jobs([])] == [3]
        reader.close()


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_compressed_files(tmp_path: Path, kind: str, suffix: str) -> None:
    format = "parquet" if kind == "parquet" else "arrow"
    plain = write(TABLE.select(["n", "s"]), tmp_path / "a", kind)
    path = str(tmp_path / "a") + suffix
    with pa.output_stream(path) as file:
        file.write(Path(plain).read_bytes())
    assert drain(path, format) == TABLE.select(["n", "s"]).to_pydict()


def test_a_stream_through_a_pipe_is_answered_batch_by_batch() -> None:
    source, sink = os.pipe()
    batch = pa.record_batch({"i": [1, 2]})
    more = threading.Event()

    def write_two() -> None:
        with open(sink, "wb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
            writer.write_batch(batch)
            file.flush()
            assert more.wait(30)
            writer.write_batch(batch)

    writer = threading.Thread(target=write_two)
    writer.start()
    reader = ArrowReader(f"/dev/fd/{source}", "arrow")
    assert reader.live
    jobs = reader.jobs(["i"])
    assert next(jobs)().read == 2
    more.set()
    assert [job().offset for job in jobs] == [2]
    reader.close()
    writer.join()
    os.close(source)


def test_parquet_keeps_the_dictionaries_that_are_there(tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(0, 1 << 60, 60_000)
    table = pa.table({"s": [f"v{i % 9}" for i in random], "u": [f"{i:040x}" for i in random]})
    path = write(table, tmp_path / "a", "parquet")
    reader = ArrowReader(path, "parquet")
    columns = next(reader.jobs(["s", "u"]))().columns
    reader.close()
    assert [c and c.type for c in columns] == [pa.dictionary(pa.int32(), pa.string()), pa.string()]


def test_what_can_not_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"a,b\n1,2\n" * 10)
    for format in ("parquet", "arrow"):
        with pytest.raises(SourceError, match=f"can not be read as {format} .*--format"):
            ArrowReader(str(path), format)
    pq.write_table(TABLE, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceError, match="can not be read as parquet"):
        ArrowReader(str(path), "parquet")
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(SchemaError, match="two columns called 'a'"):
        ArrowReader(write(twice, tmp_path / "b", "file"), "arrow")
    source, sink = os.pipe()
    with pytest.raises(SourceError, match="Parquet needs a file that can be read from its end"):
        ArrowReader(f"/dev/fd/{source}", "parquet")
    os.close(source)
    os.close(sink)


def test_empty_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"")
    for format in ("parquet", "arrow"):
        assert drain(str(path), format) == {}
    for kind in ("parquet", "file", "stream"):
        format = "parquet" if kind == "parquet" else "arrow"
        assert drain(write(TABLE.slice(0, 0), path, kind), format)["n"] == []
