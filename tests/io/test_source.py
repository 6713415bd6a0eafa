"""Sources: the same records from every format, in any batches, from any point on."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from onlinestack.io import arrow, chunks
from onlinestack.io.batch import Batch, Reject
from onlinestack.io.reader import SourceError
from onlinestack.io.schema import Field, Schema, SchemaError
from onlinestack.io.source import Source, open_source
from onlinestack.io.values import canonical

ROWS = 200
TABLE = pa.table(
    {
        "site": [None if i % 7 == 0 else f'"s,{i % 5}"' for i in range(ROWS)],
        "age": pa.array([None if i % 11 == 0 else i % 50 for i in range(ROWS)], pa.int64()),
        "price": [i / 8 for i in range(ROWS)],
        "when": [1413849600 + 1000 * i for i in range(ROWS)],
        "key": [f"k{i}" for i in range(ROWS)],
        "importance": [1 + i % 3 for i in range(ROWS)],
        "click": pa.array([None if i % 13 == 0 else i % 2 for i in range(ROWS)], pa.int8()),
    }
)
ASKED: dict[str, Any] = {"label": "click", "time": "when", "id": "key", "weight": "importance"}
FORMATS = ["csv", "tsv", "parquet", "arrow", "jsonl"]


@pytest.fixture(autouse=True)
def small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PIECE", 500)
    monkeypatch.setattr(arrow, "_ROWS", 33)


def write(table: pa.Table, path: Path) -> Path:
    plain = path.with_suffix("") if path.suffix in (".gz", ".zst") else path
    if plain.suffix == ".parquet":
        pq.write_table(table, plain, row_group_size=77)
    elif plain.suffix == ".arrow":
        with pa.ipc.new_file(plain, table.schema) as writer:
            writer.write_table(table, max_chunksize=50)
    elif plain.suffix == ".jsonl":
        plain.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        delimiter = "\t" if plain.suffix == ".tsv" else ","
        pa.csv.write_csv(table, plain, pa.csv.WriteOptions(delimiter=delimiter))
    if plain != path:
        with pa.output_stream(path) as file:
            file.write(plain.read_bytes())
    return path


def records(batches: Sequence[Batch] | Source) -> list[tuple[Any, ...]]:
    """Return what batches hold, record by record, missing values and numbers spelled one way."""
    result: list[tuple[Any, ...]] = []
    for batch in batches:
        columns = [[_value(value) for value in column.to_pylist()] for column in batch.columns]
        ids = batch.id.to_pylist() if batch.id is not None else [None] * batch.n
        times = batch.time.tolist() if batch.time is not None else [None] * batch.n
        rows = zip(
            batch.row.tolist(),
            [str(x) for x in batch.label.tolist()],
            batch.weight.tolist(),
            ids,
            times,
            *columns,
            strict=True,
        )
        found = {row[0]: row for row in rows} | {reject.row: reject for reject in batch.rejects}
        assert len(found) == batch.n + len(batch.rejects) == batch.read
        assert sorted(found) == list(
            range(batch.position["row"], batch.position["row"] + batch.read)
        )
        result += [found[row] for row in sorted(found)]
    return result


def _value(value: Any) -> Any:
    text = canonical(value)
    try:
        return float(text) if text is not None else None
    except ValueError:
        return text


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
def test_all_formats_give_the_same_records(tmp_path: Path, compression: str) -> None:
    expected = None
    for format in FORMATS:
        source = open_source(write(TABLE, tmp_path / f"a.{format}{compression}"), **ASKED)
        assert [(f.name, f.kind) for f in source.schema.fields] == [
            ("age", "number"),
            ("price", "number"),
            ("site", "category"),
            ("when.hour", "category"),
            ("when.weekday", "category"),
        ]
        found = records(source)
        assert source.bytes_done == source.size_hint == os.path.getsize(source.paths[0])
        expected = expected or found
        assert found == expected
    assert expected is not None and len(expected) == ROWS
    assert expected[1] == (1, "1.0", 2.0, "k1", 1413850600000000, 1.0, 0.125, '"s,1"', 0.0, 2.0)


@pytest.mark.parametrize("format", FORMATS)
def test_batches_of_any_size_hold_the_same_records(tmp_path: Path, format: str) -> None:
    path = write(TABLE, tmp_path / f"a.{format}")
    expected = records(open_source(path, **ASKED))
    for size in (1, 7, 1000):
        batches = list(open_source(path, batch_size=size, **ASKED))
        assert max(batch.read for batch in batches) <= size
        assert records(batches) == expected


DIRTY = (
    b"click,a,w\n1,x,1\n0,y\nmaybe,z,1\n0,u,-1\n0,v,1\n\n1,1,2,3\n"
    + b"1,t,1\n" * 150
    + b"2,end,1\n"
)


def test_rejects_stand_in_order_with_their_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(DIRTY)
    source = open_source(path, label="click", weight="w")
    found = [r for batch in source for r in batch.rejects]
    assert [(r.row, r.position, r.text) for r in found] == [
        (1, 2, "0,y"),
        (2, 3, "maybe,z,1"),
        (3, 4, "0,u,-1"),
        (5, 6, "1,1,2,3"),
        (156, 157, "2,end,1"),
    ]
    assert {r.source for r in found} == {str(path)}
    assert found[0].reason == "2 fields, expected 3"
    assert "maybe" in found[1].reason and "label" in found[1].reason
    assert "weight" in found[2].reason
    assert sum(batch.read for batch in source) == 157


@pytest.mark.parametrize("format", [*FORMATS, "csv.gz", "dirty"])
def test_reading_goes_on_at_any_record(tmp_path: Path, format: str) -> None:
    paths = []
    for i in range(3):
        path = tmp_path / f"{i}.{'csv' if format == 'dirty' else format}"
        if format == "dirty":
            path.write_bytes(DIRTY)
        else:
            write(TABLE.slice(i * 60, 80), path)
        paths.append(path)
    asked = {"label": "click"} if format == "dirty" else ASKED
    whole = records(open_source(paths, **asked))
    batches = list(open_source(paths, batch_size=50, **asked))[::3]
    assert [r[0] if not isinstance(r, Reject) else r.row for r in whole] == list(range(len(whole)))
    for batch in batches:
        at = batch.position["row"]
        for skip in {0, batch.read // 2, batch.read}:
            source = open_source(paths, **asked)
            source.seek(json.loads(json.dumps(batch.position)), skip)
            assert records(source) == whole[at + skip :]


def test_slices_of_batches_keep_rejects_and_positions(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(DIRTY)
    whole = records(open_source(path, label="click"))
    for batch in open_source(path, label="click"):
        for cut in range(batch.n + 1):
            left, right = batch.rows(0, cut), batch.rows(cut, batch.n)
            assert (left.n, right.n) == (cut, batch.n - cut)
            assert records([left, right]) == records([batch])
            source = open_source(path, label="click")
            source.seek(right.position)
            if cut % 20 == 0:
                assert records(source) == whole[right.position["row"] :]


def test_iterating_twice_reads_twice(tmp_path: Path) -> None:
    source = open_source(write(TABLE, tmp_path / "a.csv"), **ASKED)
    assert records(source) == records(source)


def test_stopping_early_leaves_nothing_running(tmp_path: Path) -> None:
    import threading

    before = threading.active_count()
    source = open_source(write(TABLE, tmp_path / "a.csv"), **ASKED)
    batches = iter(source)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    source.close()
    assert threading.active_count() == before


def test_columns_of_later_files_are_matched_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text("click,a,b\n1,x,1\n")
    (tmp_path / "b.csv").write_text("extra,b,click\n9,2,0\n")
    (tmp_path / "c.jsonl").write_text('{"a": "y", "click": true}\n')
    source = open_source([tmp_path / f for f in ("a.csv", "b.csv", "c.jsonl")], label="click")
    assert [row[5:] for row in records(source)] == [("x", 1.0), (None, 2.0), ("y", None)]
    assert "b.csv: columns that are not in the schema are ignored: extra" in caplog.text
    (tmp_path / "d.csv").write_text("clicked,a\n1,x\n")
    with pytest.raises(SchemaError, match=r"d.csv has no column 'click', given as label, did"):
        open_source([tmp_path / "a.csv", tmp_path / "d.csv"], label="click")


def test_kinds_set_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("click,n,w,t\n1,7,007,a b\n")
    asked: dict[str, Any] = {"categorical": ["n"], "numeric": ["w"], "text": ["t"]}
    source = open_source(path, label="click", **asked)
    assert source.schema.fields == (
        Field("n", "category"),
        Field("t", "text"),
        Field("w", "number"),
    )
    source.close()
    again = open_source(path, schema=source.schema, **asked)
    assert again.schema == source.schema
    again.close()
    with pytest.raises(SchemaError, match="numeric names the column 'n', which the model knows"):
        open_source(path, schema=source.schema, numeric=["n"])


def test_a_model_schema_goes_before_the_file(tmp_path: Path) -> None:
    schema = Schema((Field("a", "category"), Field("b", "number")), label="click", id="id")
    path = tmp_path / "a.csv"
    path.write_text("key,a,c\nk,7,1\n")
    source = open_source(path, schema=schema, id="key", needs_label=False)
    assert source.schema.id == "key" and source.labelled
    assert records(source) == [(0, "nan", 1.0, "k", None, 7.0, None)]
    with pytest.raises(SchemaError, match="no column 'click', given as label"):
        open_source(path, schema=schema, id="key")
    source = open_source(path, schema=schema, id="key", ignore=["a"], needs_label=False)
    assert records(source) == [(0, "nan", 1.0, "k", None, None, None)]


def test_no_label_at_all(tmp_path: Path) -> None:
    source = open_source(write(TABLE, tmp_path / "a.csv"))
    assert not source.labelled
    assert source.names == tuple(TABLE.column_names)
    assert all(np.isnan(batch.label).all() for batch in source)


def test_files_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("0\t1\tab\n1\t\tcd\n")
    source = open_source(path, no_header=True, label="c1")
    assert [row[1:2] + row[5:] for row in records(source)] == [
        ("0.0", 1.0, "ab"),
        ("1.0", None, "cd"),
    ]
    source = open_source(path, columns=["y", "n", "s"], label="y")
    assert source.schema.fields == (Field("n", "number"), Field("s", "category"))
    assert len(records(source)) == 2


def test_vowpal_wabbit_text(tmp_path: Path) -> None:
    path = tmp_path / "a.vw.gz"
    with pa.output_stream(path) as file:
        file.write(
            b"".join(b"%d %d k%d|f a b:%d\n\n" % (i % 2 * 2 - 1, 1 + i, i, i) for i in range(99))
        )
    source = open_source(path)
    assert source.labelled and source.schema == Schema()
    whole = list(source)
    assert len(whole) > 3
    labels = np.concatenate([b.label for b in whole])
    assert labels.tolist() == [i % 2 for i in range(99)]
    row = np.concatenate([b.features.row for b in whole if b.features is not None])
    assert row.tolist() == list(range(99))
    assert [i for b in whole for i in b.id.to_pylist()] == [f"k{i}" for i in range(99)]
    source.seek(whole[2].position, 3)
    rest = [i for b in source for i in b.id.to_pylist()]
    assert rest == [f"k{i}" for i in range(whole[2].position["row"] + 3, 99)]
    raw = open_source(path, target="raw", batch_size=7)
    assert np.concatenate([b.label for b in raw]).tolist() == [i % 2 * 2 - 1 for i in range(99)]
    with pytest.raises(SchemaError, match="label names a column, but Vowpal Wabbit text has none"):
        open_source(path, label="y")


@pytest.mark.parametrize(
    ("data", "read"), [(b"", 0), (b"click,a", 0), (b"click,a\n", 0), (b"click,a\n1,x", 1)]
)
def test_next_to_nothing(tmp_path: Path, data: bytes, read: int) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    source = open_source(path, label="click")
    assert sum(batch.read for batch in source) == read
    (tmp_path / "b.csv").write_bytes(b"click,a\n0,y\n")
    source = open_source([path, tmp_path / "b.csv"], label="click")
    assert len(records(source)) == read + 1
    assert [field.name for field in source.schema.fields] == ["a"]


def test_a_column_of_nulls_and_ten_thousand_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "PIECE", 1 << 20)
    names = [f"c{i}" for i in range(10_000)]
    table = pa.table({"click": [0, 1], "no": pa.nulls(2), **{n: [1, 2] for n in names}})
    for format in ("csv", "parquet"):
        if format == "csv":
            path = tmp_path / "a.csv"
            lines = [",".join(["click", "no", *names])]
            lines += [",".join([str(i), "", *[str(i + 1)] * 10_000]) for i in range(2)]
            path.write_text("\n".join(lines))
        else:
            path = write(table, tmp_path / "a.parquet")
        source = open_source(path, label="click")
        kinds = {field.name: field.kind for field in source.schema.fields}
        assert (len(kinds), kinds["no"], kinds["c9"]) == (10_001, "category", "number")
        (first, *_) = batches = list(source)
        assert sum(batch.read for batch in batches) == 2
        assert len(first.columns) == 10_001


def test_paths_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text("a\n1\n")
    with pytest.raises(FileNotFoundError, match=r"no file .*click.csv, did you mean 'clicks.csv'"):
        open_source(tmp_path / "click.csv")
    with pytest.raises(IsADirectoryError, match=r"is a directory; give the files in it"):
        open_source(tmp_path)
    (tmp_path / "clicks.log").write_text("a\n1\n")
    with pytest.raises(SourceError, match="does not tell its format; give --format, one of csv"):
        open_source(tmp_path / "clicks.log")
    with pytest.raises(SourceError, match="format='cvs' is unknown, did you mean 'csv'"):
        open_source(tmp_path / "clicks.log", format="cvs")
    with pytest.raises(SourceError, match="no source was given"):
        open_source([])
    assert len(records(open_source(tmp_path / "clicks.log", format="csv"))) == 1


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("click,x\n1,1\n")
    source = open_source([tmp_path / "a.csv", tmp_path / "b.csv"], label="click")
    batches = iter(source)
    next(batches)
    (tmp_path / "b.csv").unlink()
    with pytest.raises(FileNotFoundError, match="b.csv can not be read"):
        list(batches)


def test_seeking_where_nothing_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("click,x\n1,1\n")
    source = open_source(path, label="click")
    (batch,) = source
    source.seek(batch.position, 2)
    with pytest.raises(SourceError, match="ends 1 records before the point to go on from"):
        list(source)
    with pytest.raises(SourceError, match="is in file 2, but there are 1"):
        source.seek({**batch.position, "file": 1})
    source.seek({**batch.position, "offset": 1000})
    with pytest.raises(SourceError, match="before the position 1,000"):
        list(source)


def test_fingerprints_tell_files_apart(tmp_path: Path) -> None:
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_text("x\n1\n")
    b.write_text("x\n2\n")
    source = open_source([a, b])
    first, second = source.fingerprint()
    source.close()
    assert (first["path"], first["size"]) == (str(a), 4)
    assert first["hash"] != second["hash"]


PROGRAM = """
from onlinestack.io.source import open_source
source = open_source("-", format={format!r}, label="click")
for batch in source:
    print(batch.row.tolist(), [c.to_pylist() for c in batch.columns], flush=True)
"""


def test_a_typed_line_is_answered_at_once() -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(format="csv")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert program.stdin is not None and program.stdout is not None
    with program.stdin as keys, program.stdout as screen:
        for line, answer in [
            (b"click,x\n1,a\n", b"[0] [[b'a']]\n"),
            (b"0,b\n", b"[1] [[b'b']]\n"),
            (b'0,"c\n', None),
            (b'd"\n1,e\n', b"[2, 3] [[b'c\\nd', b'e']]\n"),
        ]:
            keys.write(line)
            keys.flush()
            if answer is not None:
                assert screen.readline() == answer
        keys.write(b"0,f")
        keys.close()
        assert screen.readline() == b"[4] [[b'f']]\n"
    assert program.wait(30) == 0


@pytest.mark.parametrize("format", ["csv", "arrow"])
def test_standard_input_may_be_a_stand_in(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLE.select(["click", "key"])
    buffer = io.BytesIO()
    if format == "csv":
        pa.csv.write_csv(table, buffer)
    else:
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
    buffer.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
    source = open_source("-", format=format, label="click")
    assert source.live and source.size_hint is None
    assert source.fingerprint() == [{"path": "-", "size": None, "hash": None}]
    assert len(records(source)) == ROWS


def test_a_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = subprocess.Popen(["sh", "-c", f"printf 'click,x\\n1,a\\n0,b\\n' > {path}"])
    source = open_source(path, label="click")
    assert source.live
    assert [row[5] for row in records(source)] == ["a", "b"]
    assert writer.wait(30) == 0


def test_extra_columns_warn_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_text("click,x,y\n1,a,b\n")
    schema = Schema((Field("x", "category"),), label="click")
    with caplog.at_level(logging.WARNING):
        assert len(records(open_source([path, path, path], schema=schema))) == 3
    assert caplog.text.count("ignored") == 1


# ---------------------------------------------------------------------------------------- labels


def test_labels_are_read_for_the_task(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,n,s\n1,2.5,cat\n2,,dog\n3,many,\n4,-1,cat\n")

    def read(label, target, **more):
        source = open_source(path, label=label, target=target, **more)
        (batch,) = source
        return source.schema.target, batch

    target, batch = read("n", "number", categorical=("n",))
    assert target == "number"
    assert np.array_equal(batch.label, np.array([2.5, np.nan, -1], np.float32), equal_nan=True)
    assert [reject.reason for reject in batch.rejects] == ["label 'many' is not a finite number"]
    target, batch = read("s", "class")
    assert target == "name"
    assert batch.classes.to_pylist() == ["cat", "dog", None, "cat"]
    assert batch.rows(1, 3).classes.to_pylist() == ["dog", None]
    assert read("x", "class")[0] == "number"
    target, batch = read("x", "class", categorical=("x",))
    assert (target, batch.classes.to_pylist()) == ("name", ["1", "2", "3", "4"])
    for settings in ({"target": "class", "positive": "1"}, {"target": "raw"}, {"target": "clicks"}):
        with pytest.raises(ValueError, match="positive|target"):
            open_source(path, label="x", **settings)


def test_vowpal_wabbit_labels_are_read_for_the_task(tmp_path):
    path = tmp_path / "a.vw"
    path.write_text("2.5 |f a\n-3 -1 |f a\n|f b\n3 |f c\n")
    (batch,) = open_source(path, target="number")
    assert np.array_equal(batch.label, np.array([2.5, np.nan, 3], np.float32), equal_nan=True)
    assert [reject.text for reject in batch.rejects] == ["-3 -1 |f a"]
    source = open_source(path, target="class")
    (batch,) = source
    assert source.schema.target == "number"
    assert batch.rejects[0].reason == "the label is no class number"
