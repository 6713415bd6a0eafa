"""Fields of CSV text: the kernels against their twins, Python's csv, and Arrow."""

from __future__ import annotations

import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack.io.chunks import Splitter
from onlinestack.io.fields import Ragged, split_columns
from onlinestack.kernel import KERNELS, TWINS

tokens = st.sampled_from(
    [b"a", b"word", b"0123456789abcdef0", b",", b",", b"\t", b'"', b'""', b"\n", b"\n", b"\r\n"]
    + [b"\r", b" ", b"\xff", b"\x00"]
)
texts = st.lists(tokens, max_size=60).map(b"".join)


def whole(data: bytes) -> bytes:
    """Return the records of text up to the first one that does not end."""
    splitter = Splitter(b",", offset=1)
    chunks = [*splitter.feed(data), *splitter.finish()]
    good = [chunk.data for chunk in chunks if chunk.reason is None]
    return b"".join(good)


@settings(deadline=None, max_examples=300)
@given(texts, st.integers(1, 4), st.booleans())
def test_columns_are_those_of_python(data: bytes, width: int, tabs: bool) -> None:
    delimiter = "\t" if tabs else ","
    splitter = Splitter(delimiter.encode(), offset=1)
    chunks = [*splitter.feed(data), *splitter.finish()]
    for chunk in chunks:
        if chunk.reason is not None:
            continue
        text = io.StringIO(chunk.data.decode("latin-1"), newline="")
        rows = [row for row in csv.reader(text, delimiter=delimiter) if row]
        good = [row for row in rows if len(row) == width]
        wanted = np.arange(width)[::-1].copy()
        n, columns, ragged = split_columns(chunk.data, delimiter.encode(), width, wanted)
        for column in columns:
            column.validate(full=True)
        found = list(zip(*(c.to_pylist() for c in columns[::-1]), strict=True))
        assert found == [tuple(v.encode("latin-1") for v in row) for row in good]
        assert n == len(good)
        bad = [(i, len(row)) for i, row in enumerate(rows) if len(row) != width]
        assert [(r.number, r.fields) for r in ragged] == bad


@pytest.mark.skipif(TWINS, reason="every kernel is its twin")
@settings(deadline=None, max_examples=300)
@given(texts, st.integers(1, 4), st.integers(0, 3))
def test_kernels_and_twins_agree(data: bytes, width: int, room: int) -> None:
    text = np.frombuffer(whole(data), np.uint8)
    results = []
    for which in ("compiled", "twin"):
        begin, end = np.zeros(len(text) + 1, np.int32), np.zeros(len(text) + width, np.int32)
        ragged = np.zeros((room, 4), np.int64)
        plain = np.zeros(len(text) + 8, np.uint8)
        find = getattr(KERNELS["onlinestack.io.fields._find_plain"], which)
        first = tuple(map(int, find(text, 44, width, begin, end, ragged)))
        results.append([first, begin.copy(), end.copy(), ragged.copy()])
        find = getattr(KERNELS["onlinestack.io.fields._find_quoted"], which)
        n, bad = map(int, find(text, 44, width, begin, end, ragged, plain))
        results[-1] += [(n, bad), begin.copy(), end.copy(), ragged.copy(), plain.copy()]
        plain.setflags(write=False)
        wanted = np.arange(0, width, 2)
        base, offset = np.zeros(len(wanted), np.int64), np.zeros((len(wanted), n + 1), np.int32)
        out = np.zeros(len(text) + 8 * len(wanted) + 8, np.uint8)
        copy = getattr(KERNELS["onlinestack.io.fields._copy"], which)
        copy(plain, begin, end, width, wanted, base, offset, out)
        values = [out[b : b + o[-1]].tobytes() for b, o in zip(base, offset, strict=True)]
        results[-1] += [base, offset, values]
    for left, right in zip(*results, strict=True):
        assert np.array_equal(left, right)


@pytest.mark.parametrize("quoted", [False, True])
def test_more_ragged_records_than_thought_of(quoted: bool) -> None:
    line = b'"a"\n' if quoted else b"a\n"
    n, columns, ragged = split_columns((line + b"x,y\n") * 1000, b",", 2, np.array([1]))
    assert (n, len(ragged)) == (1000, 1000)
    assert columns[0].to_pylist() == [b"y"] * 1000
    size = len(line)
    assert ragged[999] == Ragged(1998, 999 * (size + 4), 999 * (size + 4) + size - 1, 1)


def test_arrow_reads_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    random = np.random.default_rng(0)
    alphabet = np.array(list('abc",\n\r \t'))
    columns = {
        name: ["".join(random.choice(alphabet, random.integers(0, 30))) for _ in range(2000)]
        for name in "xyz"
    }
    sink = io.BytesIO()
    pa.csv.write_csv(pa.table(columns), sink, pa.csv.WriteOptions(include_header=False))
    n, found, ragged = split_columns(sink.getvalue(), b",", 3, np.arange(3))
    assert (n, ragged) == (2000, [])
    for column, values in zip(found, columns.values(), strict=True):
        assert column.cast(pa.string()).to_pylist() == values
