"""CSV and TSV: files, pipes and compressed files agree with each other and with Python's csv."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack.io import chunks
from onlinestack.io.schema import SchemaError
from onlinestack.io.text import TextReader

Found = tuple[tuple[str, ...], list[tuple[int, Any]]]
"""Names of columns, and for each record its number and its values, or the text of the reason."""

ODD: dict[str, bytes] = {
    "plain": b"a,b\n1,2\n3,4\n",
    "no last line end": b"a,b\n1,2\n3,4",
    "CR LF": b"a,b\r\n1,2\r\n3,4\r\n",
    "CR": b"a,b\r1,2\r3,4\r",
    "mixed line ends": b"a,b\r\n1,2\n3,4\r5,6",
    "mark": b"\xef\xbb\xbfa,b\n1,2\n",
    "mark and quotes": b'\xef\xbb\xbf"a\n1",b\n1,2\n',
    "mark later": b"a,b\n1,2\n\xef\xbb\xbf3,4\n\xef\xbb\xbf5,6\n",
    "quotes": b'a,b\n"1,1","2"\n"","""x"""\n',
    "line ends in quotes": b'a,b\n"1\n\n1","2\r\n"\n"\r","\n"\n',
    "quotes inside": b'a,b\nx"1,2"x\nx"",""\n',
    "text behind quotes": b'a,b\n"1"x,"2"y"z"\n"1""",2\n',
    "blank before quotes": b'a,b\n "1, 2"\n',
    "empty": b"",
    "mark alone": b"\xef\xbb\xbf",
    "line ends alone": b"\n\r\n\n",
    "header": b"a,b\n",
    "header without line end": b"a,b",
    "blank lines": b"\n\na,b\n\n1,2\n\r\n\n3,4\n\n",
    "blank fields": b"a,b\n,\n , \n",
    "ragged": b"a,b\n1\n1,2\n1,2,3\n3,4\n,,,\n",
    "ragged alone": b"a,b\n1\n1,2,3\n",
    "ragged over lines": b'a,b\n"1\n2\n3"\n1,2\n"1\n2",3,4\n',
    "ragged and not UTF-8": b"a,b\n\xff\n1,2\n\xff,\xfe,\xfd\n",
    "not UTF-8": b"a,\xff\n\xfe,\x80\n",
    "zero bytes": b"a,b\n\x00,1\x00\n",
    "quote left open": b'a,b\n1,2\n"3,4\n5,6\n7,8\n',
    "quote left open in the last line": b'a,b\n1,2\n3,"4',
    "quotes left open": b'a,b\n"1,2\nx",y,"z\nx",y,"z\n3,4\n',
    "one column": b'a\n1\n""\n\n2\n',
    "one column, mark": b"\xef\xbb\xbfa\n1\n",
    "names twice": b"a,a,,b\n1,2,3,4\n",
    "long line": b"a,b\n" + b"x" * 100_000 + b",y\n1,2\n",
    "wide": b",".join(b"c%d" % i for i in range(3000)) + b"\n" + b",".join([b"1"] * 3000),
}


def drain(reader: TextReader, offset: int | None = None, skip: int = 0) -> Found:
    rows: list[tuple[int, Any]] = []
    before = 0
    for job in reader.jobs(reader.names, offset):
        stretch = job()
        bad = {each.number: each.reason for each in stretch.bad}
        columns = [column.to_pylist() for column in stretch.columns if column is not None]
        values = iter(zip(*columns, strict=True))
        for number in range(stretch.read):
            rows.append((before + number, bad.get(number) or next(values)))
        assert not list(values)
        before += stretch.read
    reader.close()
    return reader.names, rows


def from_file(path: Path, data: bytes, **how: Any) -> Found:
    if path.suffix in (".gz", ".zst"):
        with pa.output_stream(path) as file:
            file.write(data)
    else:
        path.write_bytes(data)
    return drain(TextReader(str(path), **how))


@contextmanager
def pipe(pieces: list[bytes]) -> Iterator[str]:
    """Write pieces into a pipe and give its path."""
    source, sink = os.pipe()

    def write() -> None:
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(sink, view) :]
        except BrokenPipeError:
            pass
        finally:
            os.close(sink)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield f"/dev/fd/{source}"
    finally:
        os.close(source)
        writer.join()


def from_pipe(pieces: list[bytes], **how: Any) -> Found:
    with pipe(pieces) as path:
        return drain(TextReader(path, **how))


@pytest.fixture(params=[64, 1 << 21], ids=["small pieces", "large pieces"])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(chunks, "PIECE", request.param)
    return int(request.param)


@pytest.mark.parametrize("name", ODD)
def test_files_pipes_and_compressed_files_agree(tmp_path: Path, name: str, piece: int) -> None:
    data = ODD[name]
    found = from_file(tmp_path / "a.csv", data)
    assert from_file(tmp_path / "a.csv.gz", data) == found
    assert from_file(tmp_path / "a.csv.zst", data) == found
    assert from_pipe([data]) == found
    if len(data) < 1000:
        assert from_pipe([data[i : i + 1] for i in range(len(data))]) == found


def by_python(data: bytes, delimiter: str = ",") -> list[list[bytes]]:
    """Return the records of text as Python's csv reads it, bytes taken one for one."""
    text = io.StringIO(data.decode("latin-1"), newline="")
    rows = [row for row in csv.reader(text, delimiter=delimiter) if row]
    return [[value.encode("latin-1") for value in row] for row in rows]


@pytest.mark.parametrize("name", [n for n in ODD if "open" not in n and "mark" not in n])
def test_records_are_those_of_python(tmp_path: Path, name: str, piece: int) -> None:
    names, rows = from_file(tmp_path / "a.csv", ODD[name])
    expected = by_python(ODD[name])
    assert len(names) == (len(expected[0]) if expected else 0)
    for (_, row), record in zip(rows, expected[1:], strict=True):
        if len(record) == len(names):
            assert list(row) == record
        else:
            assert row == f"{len(record)} fields, expected {len(names)}"


tokens = st.sampled_from(
    [
        b"a",
        b"7",
        b",",
        b",",
        b'"',
        b'"',
        b'""',
        b"\n",
        b"\r\n",
        b"\r",
        b" ",
        b"\xff",
        b"\xef\xbb\xbf",
    ]
)


@settings(deadline=None, max_examples=200)
@given(st.lists(tokens, max_size=40).map(b"".join), st.lists(st.integers(1, 9), min_size=1))
def test_any_text_in_any_pieces(data: bytes, sizes: list[int]) -> None:
    data = b"x,y\n" + data
    with tempfile.TemporaryDirectory() as folder:
        found = from_file(Path(folder, "a.csv"), data)
    pieces, at = [], 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    assert from_pipe(pieces) == found
    if not any("quoted field" in str(row) for _, row in found[1]):
        expected = [
            tuple(row) if len(row) == 2 else f"{len(row)} fields, expected 2"
            for row in by_python(data)[1:]
        ]
        assert [row for _, row in found[1]] == expected


def test_tabs_and_no_header(tmp_path: Path) -> None:
    data = b'0\t1\t"a\tb"\n1\t\tc,d\n'
    names, rows = from_file(tmp_path / "a.tsv", data, delimiter=b"\t", header=False)
    assert names == ("c1", "c2", "c3")
    assert rows == [(0, (b"0", b"1", b"a\tb")), (1, (b"1", b"", b"c,d"))]
    how: dict[str, Any] = {"delimiter": b"\t", "header": False, "columns": ["y", "n", "s"]}
    assert from_file(tmp_path / "a.tsv", data, **how) == (("y", "n", "s"), rows)
    with pytest.raises(SchemaError, match="2 columns were named, but the first record .* has 3"):
        from_file(tmp_path / "a.tsv", data, delimiter=b"\t", header=False, columns=["a", "b"])


def test_a_header_that_never_ends(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="the header of .* can not be read: a quoted field"):
        from_file(tmp_path / "a.csv", b'a,"b\n1,2\n')


def test_every_stretch_can_be_gone_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PIECE", 50)
    data = b"\xef\xbb\xbfa,b\n" + b"".join(b'%d,"x\n%d"\r\n' % (i, i) for i in range(100)) + b"1\n"
    for name in ("a.csv", "a.csv.gz"):
        path = tmp_path / name
        _, rows = from_file(path, data)
        reader = TextReader(str(path))
        stretches = [job() for job in reader.jobs(reader.names)]
        reader.close()
        assert len(stretches) > 20
        before = 0
        for stretch in stretches:
            _, rest = drain(TextReader(str(path)), stretch.offset)
            assert [row for _, row in rest] == [row for _, row in rows[before:]]
            with pipe([data]) as other:
                _, rest = drain(TextReader(other), stretch.offset)
            assert [row for _, row in rest] == [row for _, row in rows[before:]]
            before += stretch.read


def test_kinds_come_from_the_first_thousand_records(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,1\n" * 999 + b"2,x\n" + b"x,2\n")
    reader = TextReader(str(path))
    assert reader.kinds() == {"a": "number", "b": "category"}
    assert len(drain(reader)[1]) == 1001


def test_kinds_of_a_pipe_come_from_its_first_good_record() -> None:
    source, sink = os.pipe()
    os.write(sink, b"a,b\nbad\n1,x\n")
    reader = TextReader(f"/dev/fd/{source}")
    assert reader.kinds() == {"a": "number", "b": "category"}
    jobs = reader.jobs(reader.names)
    stretch = next(jobs)()
    assert (stretch.read, len(stretch.bad)) == (2, 1)
    os.write(sink, b"y,2\n")  # answered at once, though the pipe stays open
    stretch = next(jobs)()
    assert [c.to_pylist() for c in stretch.columns if c is not None] == [[b"y"], [b"2"]]
    os.close(sink)
    assert list(jobs) == []
    reader.close()
    os.close(source)


def test_some_columns_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b,c\n1,2,3\nx\n4,5,6\n")
    reader = TextReader(str(path))
    (stretch,) = (job() for job in reader.jobs(["c", "zz", "a"]))
    reader.close()
    assert [c and c.to_pylist() for c in stretch.columns] == [[b"3", b"6"], None, [b"1", b"4"]]
    assert stretch.text is not None
    assert stretch.text([0, 2, 1]) == ["1,2,3", "4,5,6", "x"]
    reader = TextReader(str(path))
    (stretch,) = (job() for job in reader.jobs([]))
    reader.close()
    assert (stretch.read, len(stretch.bad), stretch.columns) == (3, 1, [])


def test_ten_thousand_columns(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(10_000)]
    data = "\n".join([",".join(names), *[",".join(["7"] * 10_000)] * 20]).encode()
    found, rows = from_file(tmp_path / "a.csv", data)
    assert (list(found), len(rows)) == (names, 20)
