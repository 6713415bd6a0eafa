"""Cutting bytes between records: the same records however the bytes arrive."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack.io import chunks as module
from onlinestack.io.chunks import ByteStream, Chunk, Chunks, Splitter, find_records
from onlinestack.io.reader import SourceError
from onlinestack.kernel import KERNELS

text = st.lists(
    st.sampled_from([b"a", b"b", b",", b",", b'"', b'"', b'""', b"\n", b"\n", b"\r", b"\r\n", b" "])
).map(b"".join)


def records(found: Iterable[Chunk]) -> list[tuple[bytes, str | None]]:
    """Return the records of chunks, and why a record is to be rejected."""
    result: list[tuple[bytes, str | None]] = []
    for chunk in found:
        if chunk.reason is not None:
            result.append((chunk.data.rstrip(b"\r\n"), chunk.reason))
            continue
        start, stop, _ = find_records(chunk.data, b",")
        result += [(chunk.data[a:b], None) for a, b in zip(start, stop, strict=True)]
    return result


def feed(pieces: Iterable[bytes], limit: int = 1 << 20) -> list[Chunk]:
    splitter = Splitter(b",", limit=limit)
    found = [chunk for piece in pieces for chunk in splitter.feed(piece)]
    return found + list(splitter.finish())


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in zip(places, places[1:], strict=False) if a < b]


def plain(data: bytes) -> list[tuple[bytes, str | None]]:
    """Return the records of CSV text by the rules as one would say them."""
    result: list[tuple[bytes, str | None]] = []
    start = 0
    while start < len(data):
        if data[start : start + 1] in (b"\n", b"\r"):
            start += 1
            continue
        at, field_start, ended = start, True, False
        while at < len(data):
            c = data[at : at + 1]
            at += 1
            if field_start and c == b'"':  # to the quote that is not doubled
                while True:
                    end = data.find(b'"', at)
                    if end < 0:
                        at = -1
                        break
                    at = end + 1
                    if data[at : at + 1] != b'"':
                        break
                    at += 1
                if at < 0:
                    break
                field_start = False
            elif c in (b"\n", b"\r"):
                ended = True
                break
            else:
                field_start = c == b","
        if at < 0:  # the quote never ends: the first line alone is lost
            line = data[start:].splitlines(keepends=True)[0]
            result.append((line.rstrip(b"\r\n"), "open"))
            start += len(line)
            continue
        result.append((data[start : at - 1 if ended else at], None))
        start = at
    return result


@settings(deadline=None)
@given(text, st.lists(st.integers(0, 1000), max_size=6))
def test_any_pieces_give_the_records_the_rules_give(data: bytes, cuts: list[int]) -> None:
    found = records(feed(cut(data, cuts)))
    assert [(r, "open" if why else None) for r, why in found] == plain(data)


@settings(deadline=None)
@given(text, st.integers(3, 12), st.lists(st.integers(0, 1000), max_size=6))
def test_a_limit_does_not_depend_on_pieces(data: bytes, limit: int, cuts: list[int]) -> None:
    whole = records(feed([data], limit)) if data else []
    parts = records(feed([data[i : i + 1] for i in range(len(data))], limit))
    other = records(feed(cut(data, cuts), limit))
    # CR LF parted between two pieces counts one byte more towards the limit.
    if b"\r" not in data:
        assert whole == parts == other


@settings(deadline=None)
@given(text, st.lists(st.integers(0, 1000), max_size=6))
def test_offsets_lead_back_to_the_bytes(data: bytes, cuts: list[int]) -> None:
    found = feed(cut(data, cuts))
    assert [c.offset for c in found[1:]] == [c.stop for c in found[:-1]]
    assert not found or (found[0].offset, found[-1].stop) == (0, len(data))
    for chunk in found:
        again = Splitter(b",", offset=chunk.offset)
        rest = [*again.feed(data[chunk.offset :])] + [*again.finish()]
        behind = [c for c in found if c.offset >= chunk.offset]
        assert records(rest) == records(behind)


@settings(deadline=None)
@given(st.binary(max_size=40) | text, st.sampled_from([44, 9]))
def test_kernel_and_twin_agree(data: bytes, delimiter: int) -> None:
    compiled, twin = KERNELS["onlinestack.io.chunks._scan"]
    bytes_ = np.frombuffer(data, np.uint8)
    for state in range(5):
        for room in (0, 2, 50):
            a, b = (tuple(np.zeros(room, np.int64) for _ in range(3)) for _ in range(2))
            left = compiled(bytes_, delimiter, state, *a)
            right = twin(bytes_, delimiter, state, *b)
            assert tuple(map(int, left)) == tuple(map(int, right))
            assert np.array_equal(a, b)


def test_mark_of_utf8_is_dropped_at_the_start_only() -> None:
    mark = b"\xef\xbb\xbf"
    data = mark + b'"a\n",b\n' + mark + b"c,d\n"
    for size in (1, 2, 3, 4, 100):
        found = feed(data[i : i + size] for i in range(0, len(data), size))
        assert records(found) == [(b'"a\n",b', None), (mark + b"c,d", None)]
    assert records(feed([mark])) == []
    assert records(feed([mark[:2]])) == [(mark[:2], None)]


def test_a_line_without_end_is_rejected_in_bounded_memory() -> None:
    for size in (1, 7, 1000):
        data = b"a,b\n" + b"x" * 5000 + b"\nc,d\n" + b"y" * 3000
        found = feed((data[i : i + size] for i in range(0, len(data), size)), limit=2000)
        good = [r for r, why in records(found) if why is None]
        bad = [(r, why) for r, why in records(found) if why is not None]
        assert good == [b"a,b", b"c,d"]
        assert [(set(r), why) for r, why in bad] == [
            (set(b"x"), "longer than 64 MB"),
            (set(b"y"), "longer than 64 MB"),
        ]
        assert all(len(r) <= 2000 for r, _ in bad)
        assert found[-1].stop == len(data)


def test_a_quote_left_open_costs_one_line() -> None:
    data = b'a,b\n"c,d\n' + b"e,f\n" * 1000
    found = records(feed([data]))
    assert found[1] == (b'"c,d', "a quoted field does not end before the end of the file")
    assert len(found) == 1002
    found = records(feed([data], limit=100))
    assert found[1] == (b'"c,d', "a quoted field does not end within 64 MB")
    assert len(found) == 1002


def test_nothing_but_open_quotes_takes_no_longer() -> None:
    line = b'a",b,"c\n'  # leaves a quote open whether it began inside one or not
    data = b'"\n' + line * 50_000
    found = feed([data], limit=1 << 30)
    assert len(found) == 50_001
    assert {chunk.reason for chunk in found} == {
        "a quoted field does not end before the end of the file"
    }
    found = feed([data[i : i + 5000] for i in range(0, len(data), 5000)], limit=5000)
    assert sum(chunk.reason is not None for chunk in found) == 50_001


def test_ten_megabytes_in_quotes(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    field = b'"' + b"line\n" * 2_000_000 + b'"'
    path.write_bytes(b"a," + field + b"\nb,c\n")
    with closing(Chunks(str(path), b",")) as found_chunks:
        found = records(iter(found_chunks.next, None))
    assert found == [(b"a," + field, None), (b"b,c", None)]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst"])
def test_streams_start_at_any_decompressed_byte(tmp_path: Path, name: str) -> None:
    data = os.urandom(1000) * 3
    path = tmp_path / name
    with pa.output_stream(path) if name != "a.csv" else open(path, "wb") as file:
        file.write(data)
    for offset in (0, 1, 1500, 3000):
        with closing(ByteStream(str(path), offset)) as stream:
            assert b"".join(iter(stream.read, b"")) == data[offset:]
            assert stream.done == path.stat().st_size
    with pytest.raises(SourceError, match="ends at byte 3,000, before the position 3,001"):
        ByteStream(str(path), 3001)


def test_members_of_gzip_and_zstd_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    with closing(ByteStream(str(path))) as stream:
        assert b"".join(iter(stream.read, b"")) == b"one\ntwo\n"
    path = tmp_path / "a.zst"
    path.write_bytes(b"".join(pa.compress(x, "zstd", asbytes=True) for x in (b"one\n", b"two\n")))
    with closing(ByteStream(str(path))) as stream:
        assert b"".join(iter(stream.read, b"")) == b"one\ntwo\n"


@pytest.mark.parametrize("damage", ["cut", "foreign"])
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_damaged_compression_is_one_sentence(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / ("a.csv" + suffix)
    with pa.output_stream(path) as file:
        file.write(os.urandom(100_000))
    whole = path.read_bytes()
    path.write_bytes(whole[:50_000] if damage == "cut" else b"a,b\n" * 100)
    with pytest.raises(SourceError, match=r"is no whole (gzip|zstd) file"):
        with closing(ByteStream(str(path))) as stream:
            while stream.read():
                pass


def test_a_pipe_gives_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    source, sink = os.pipe()
    stream = ByteStream(f"/dev/fd/{source}")
    assert stream.live
    os.write(sink, b"a\nb")
    assert stream.read() == b"a\nb"
    os.write(sink, b"c\n")
    os.write(sink, b"d\n")
    assert stream.read() == b"c\nd\n"
    monkeypatch.setattr(module, "PIECE", 1 << 16)
    data = os.urandom(1 << 18)
    writer = threading.Thread(target=lambda: (os.write(sink, data), os.close(sink)))
    writer.start()
    assert b"".join(iter(stream.read, b"")) == data
    writer.join()
    stream.close()
    os.close(source)
