"""Every rule of Vowpal Wabbit text, one row each; kernels against twins; the reader of streams."""

from __future__ import annotations

import gzip
import io
import os
import threading
from typing import Any

import mmh3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack.io.vw_arrays import BAD_BLOCK, BAD_FEATURE, BAD_LABEL, BAD_NUMBER, FATAL, Lines
from onlinestack.io.vw_float import read_float
from onlinestack.io.vw_stream import VWTextReader
from onlinestack.io.vw_text import VWParser, VWRecords
from onlinestack.kernel import KERNELS, TWINS

NAN = float("nan")


def features(records: VWRecords, row: int) -> list[tuple[str, str, float]]:
    block = records.block
    return [
        (chr(block.names[row, g]), records.feature_name(k).decode("latin1"), float(block.value[k]))
        for g in range(block.names.shape[1])
        for k in range(block.start[row, g], block.stop[row, g])
    ]


def one(line: bytes, **options: Any) -> VWRecords:
    records = VWParser(names=True, **options).parse(line)
    assert records.block.n == 1
    return records


@pytest.mark.parametrize(
    ("line", "label", "weight", "initial", "tag", "flags"),
    [
        (b"|f a", NAN, 1, 0, None, 0),
        (b" |f a", NAN, 1, 0, None, 0),
        (b" ", NAN, 1, 0, None, 0),
        (b"1 |f a", 1, 1, 0, None, 0),
        (b"1 2 |f a", 1, 2, 0, None, 0),
        (b"1 2 3 |f a", 1, 2, 3, None, 0),
        (b"1 2 3 4 |f a", NAN, 1, 0, None, BAD_LABEL),
        (b"1 2 3 4 5 6 't |f a", NAN, 1, 0, b"t", BAD_LABEL),
        (b"1|f a", NAN, 1, 0, b"1", 0),
        (b"1", NAN, 1, 0, b"1", 0),
        (b"1 ", 1, 1, 0, None, 0),
        (b"1 'x |f a", 1, 1, 0, b"x", 0),
        (b"1 x|f a", 1, 1, 0, b"x", 0),
        (b"1 'x|f a", 1, 1, 0, b"x", 0),
        (b"1 ''x|f a", 1, 1, 0, b"'x", 0),
        (b"0.3 'a 'b |f", 0.3, 0, 0, b"b", BAD_NUMBER),
        (b"1 ' |f a", 1, 1, 0, None, 0),
        (b"1\t2 |f a", 2, 1, 0, None, 0),
        (b"1\t2\t3 |f a", 2, 1, 0, None, 0),
        (b"1\t|f a", NAN, 1, 0, None, 0),
        (b"x |f a", 0, 1, 0, None, BAD_NUMBER),
        (b"nan 2 |f a", 0, 2, 0, None, BAD_NUMBER),
        (b"1x |f a", 1, 1, 0, None, 0),
        (b"-1 0x10 +2 |f a", -1, 16, 2, None, 0),
        (b"\xef\xbb\xbf1 |f a", 1, 1, 0, None, 0),
        (b"\xef\xbb\xbf\xef\xbb\xbf1 |f a", 0, 1, 0, None, BAD_NUMBER),
        (b"1 x\r\n", 1, 1, 0, b"x", 0),
        (b"1 x\r\r\n", 1, 1, 0, b"x\r", 0),
        (b"1 x\r", 1, 1, 0, b"x", 0),
    ],
)
def test_label_part(
    line: bytes, label: float, weight: float, initial: float, tag: bytes | None, flags: int
) -> None:
    records = one(line)
    block = records.block
    found = np.array([block.label[0], block.weight[0], block.initial[0]])
    assert np.array_equal(found, np.array([label, weight, initial], np.float32), equal_nan=True)
    assert records.tag.to_pylist() == [tag]
    assert records.flags.tolist() == [flags]


@pytest.mark.parametrize(
    ("line", "label", "weight", "flags"),
    [
        (b"3 |f a", 3, 1, 0),
        (b"|f a", NAN, 1, 0),
        (b"+2 0.5 |f a", 2, 0.5, 0),
        (b"2 -1 |f a", 2, 0, 0),
        (b"2 x |f a", 2, 0, BAD_NUMBER),
        (b"-1 |f a", NAN, 1, 0),
        (b"99999999999999999999 |f a", NAN, 1, 0),
        (b"1.5 |f a", NAN, 1, BAD_LABEL | FATAL),
        (b"a |f a", NAN, 1, BAD_LABEL | FATAL),
        (b"1 2 3 |f a", NAN, 1, BAD_LABEL | FATAL),
    ],
)
def test_multiclass_label(line: bytes, label: float, weight: float, flags: int) -> None:
    records = one(line, labels="multiclass")
    block = records.block
    found = np.array([block.label[0], block.weight[0]])
    assert np.array_equal(found, np.array([label, weight], np.float32), equal_nan=True)
    assert records.flags.tolist() == [flags]


@pytest.mark.parametrize(
    ("line", "expected", "flags"),
    [
        ("|f a b:2", [("f", "f^a", 1), ("f", "f^b", 2)], 0),
        ("| a", [(" ", "a", 1)], 0),
        ("|  a", [(" ", "a", 1)], 0),
        ("|\ta", [(" ", "a", 1)], 0),
        ("||f a", [("f", "f^a", 1)], 0),
        ("|:1 a", [], BAD_BLOCK),
        ("|f a|:1 b|g c", [("f", "f^a", 1)], BAD_BLOCK),
        ("|f:2 a b:3", [("f", "f^a", 2), ("f", "f^b", 6)], 0),
        ("|f:nan a", [("f", "f^a", 1)], BAD_BLOCK),
        ("|f:x a", [], BAD_FEATURE),
        ("|f: a", [], 0),
        ("|f:2", [], BAD_BLOCK),
        ("|f:2|g a", [("g", "g^a", 1)], 0),
        ("|f:2 a:x :3", [("f", "f^a^x", 1), ("f", "f^", 6)], 0),
        ("|f  a \t b ", [("f", "f^a", 1), ("f", "f^b", 1)], 0),
        ("|f a:0 b:0.0 c:-0 d:1e-60", [], 0),
        ("|f a:nan b", [("f", "f^b", 1)], BAD_FEATURE),
        ("|f a:", [("f", "f^a", 1)], 0),
        ("|f a: 3", [("f", "f^a", 3)], 0),
        ("|f a: foo b", [("f", "f^a^foo", 1), ("f", "f^b", 1)], 0),
        ("|f a: ", [], 0),
        ("|f a:\t5 b", [("f", "f^a^5", 1), ("f", "f^b", 1)], 0),
        ("|f a:x|y:z b", [("f", "f^a^x|y:z", 1), ("f", "f^b", 1)], 0),
        ("|f :x :2 :", [("f", "f^^x", 1), ("f", "f^", 2), ("f", "f^", 1)], 0),
        ("|f a:1:2 b", [("f", "f^a", 1)], BAD_FEATURE),
        ("|f a:1,5 b|g c", [("f", "f^a", 1)], BAD_FEATURE),
        ("|f a:0x10 b:+2", [("f", "f^a", 16), ("f", "f^b", 2)], 0),
        ("|f a:3|g b", [("f", "f^a", 3), ("g", "g^b", 1)], 0),
        ("|f a\rb |g c", [("f", "f^a", 1)], 0),
        ("|f a:5\r\n", [("f", "f^a", 5)], 0),
        ("|f a:1e b:1e-", [("f", "f^a", 1), ("f", "f^b", 1)], 0),
        ("|f c:.5 d:5.", [("f", "f^c", 0.5), ("f", "f^d", 5)], 0),
        ("|f a:- b", [("f", "f^b", 1)], 0),
        ("|f a:--1", [("f", "f^a^--1", 1)], 0),
        ("|f a:1e50", [("f", "f^a", np.inf)], 0),
        ("|ab x |ac y", [("a", "ab^x", 1), ("a", "ac^y", 1)], 0),
        ("|a x |b y |a z", [("a", "a^x", 1), ("a", "a^z", 1), ("b", "b^y", 1)], 0),
        ("|a |b y |a z", [("b", "b^y", 1), ("a", "a^z", 1)], 0),
        ("|a x:0 |b y |a z", [("b", "b^y", 1), ("a", "a^z", 1)], 0),
        ("no bar here", [], BAD_NUMBER),
    ],
)  # fmt: skip
def test_features(line: str, expected: list[tuple[str, str, float]], flags: int) -> None:
    records = one(b"1 " + line.encode("latin1"))
    assert features(records, 0) == expected
    assert records.flags.tolist() == [flags]


def vw_hash(text: bytes, seed: int) -> int:
    text = text.strip(bytes(range(33)))
    if not text or text.isdigit():
        return (int(text or b"0") + seed) % 2**32
    return mmh3.hash(text, seed, signed=False)


def test_hashes() -> None:
    line = "|f a 12 été 0012 4294967297 -7 1.5 a:foo :2 :0 :3 \x01a |  b |77 c:12 | :4".encode()
    f, n77 = 728008763, 77
    expected = [
        *(vw_hash(t, f) for t in (b"a", b"12", "été".encode(), b"0012", b"1", b"-7", b"1.5")),
        vw_hash(b"foo", vw_hash(b"a", f)),
        f,
        f + 2,
        vw_hash(b"a", f),
        vw_hash(b"b", 0),
        0,
        vw_hash(b"c", n77),
    ]
    assert expected[:3] == [282867731, 728008775, 349754397]
    index = one(line).block.index.tolist()
    assert index == expected
    assert [index[7] & 0x3FFFF, index[8] & 0x3FFFF] == [217333, 34875]


def test_hash_all_and_seed() -> None:
    block = one(b"|f 12 |33 a | b", hash_all=True, hash_seed=7).block
    f, n33, none = (mmh3.hash(t, 7, signed=False) for t in ("f", "33", ""))
    expected = [mmh3.hash(t, s, signed=False) for t, s in (("12", f), ("a", n33), ("b", none))]
    assert block.index.tolist() == expected
    assert f == 1783764664
    assert one(b"|f :1", hash_seed=7).block.index.tolist() == [f]


def test_redefine_changes_letters_not_hashes() -> None:
    letters = bytearray(range(256))
    letters[ord("b")] = ord("a")
    plain, other = one(b"|a x |c y |bb z"), one(b"|a x |c y |bb z", redefine=bytes(letters))
    assert [name for _, name, _ in features(other, 0)] == ["a^x", "bb^z", "c^y"]
    assert other.block.names.tolist() == [[ord("a"), ord("c")]]
    assert sorted(other.block.index) == sorted(plain.block.index)


def test_lines_are_counted() -> None:
    text = b"1 |f a\n\n\r\n\xef\xbb\xbf\n\xef\xbb\xbf\r\n \n-1 |f b"
    records = VWParser().parse(text, offset=100, line=10, row=5)
    assert records.line.tolist() == [11, 16, 17]
    assert records.offset.tolist() == [100, 119, 121]
    assert records.block.row.tolist() == [5, 6, 7]
    assert records.lines == 17
    assert VWParser().parse(b"").block.n == 0
    assert VWParser().parse(b"\n\n").lines == 2


def test_target() -> None:
    text = b"3 |\n0 |\n-1 |\n|\n0.5 |"
    label = VWParser(target="click").parse(text).block.label
    assert np.array_equal(label, [1, 0, 0, NAN, 1], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "value", "used"),
    [
        ("", 0, 0), ("5", 5, 1), ("  5", 5, 3), ("-5 ", -5, 2), ("16777217", 16777216, 8),
        ("0.1", np.float32(1) / np.float32(10), 3), ("0.1|", np.float32(0.1), 3),
        ("1e3", 1000, 3), ("1E-2", np.float32(0.01), 4), ("1e+3", 1000, 4), ("1e", 1, 2),
        ("1e39", np.inf, 4), ("1e-38", 0, 5), ("1e256", 1, 5), ("x", 0, 0), ("-", 0, 1),
        (".", 0, 1), ("0x1p3", 8, 5), ("inf", np.inf, 3), ("nan(1)", NAN, 6), ("1:2", 1, 1),
        ("\t5", 0, 0), ("\v5", 5, 2), ("\v", 0, 0), ("1\r", 1, 1), ("0e99", NAN, 4),
    ],
)  # fmt: skip
def test_float(text: str, value: float, used: int) -> None:
    data = np.frombuffer(bytearray(text.encode() + b"\n"), np.uint8)
    found = read_float(data, 0, len(text))
    assert np.array_equal(np.float32(found[0]), np.float32(value), equal_nan=True)
    assert found[1] == used


def same(a: Any, b: Any) -> bool:
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return bool(((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))).all())


NUMBERS = st.one_of(
    st.floats(width=32).map(repr),
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.integers(-(10**12), 10**12).map(str),
    st.text("0123456789.-+eE xnif|\t\r", max_size=50),
)


@pytest.mark.skipif(TWINS, reason="nothing is compiled")
@settings(max_examples=2000)
@given(NUMBERS, st.sampled_from(["", " ", "|", ":", "\r", "\t", "e"]))
def test_float_kernel_equals_twin(number: str, behind: str) -> None:
    kernel = KERNELS["onlinestack.io.vw_float.read_float"]
    text = np.frombuffer(bytearray(f"{number}{behind}\n".encode()), np.uint8)
    found, expected = (f(text, 0, len(text) - 1) for f in kernel)
    assert same(found[0], expected[0])
    assert found[1] == expected[1]


def parsed(function: Any, text: bytes, seed: int, every: int, mode: int, names: int) -> list[Any]:
    data = np.frombuffer(bytearray(text), np.uint8)
    out = Lines.room(len(text), len(text), len(text), names=bool(names))
    redefine = np.arange(256, dtype=np.uint8)
    records, groups, size, lines = function(data, seed, every, redefine, mode, names, out)
    extents = [records] * 8 + [records + 1] + [groups] * 3 + [size] * 3
    return [lines, *(array[:n] for array, n in zip(out, extents, strict=False))]


PIECES = st.sampled_from(
    "a b | || : | f |g |f: 1 -1 0.25 0.1234567 'tag ' \t \r \n \n\n \x00 \xff nan inf 0x1 1e5 1e "
    "17 \xef\xbb\xbf \v 12345678 99999999999 -0 . - +".split(" ") + [" ", " ", "  "]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(PIECES, max_size=80).map(lambda pieces: "".join(pieces).encode("latin1")),
    st.binary(max_size=200),
)


@pytest.mark.skipif(TWINS, reason="nothing is compiled")
@settings(max_examples=1500)
@given(TEXTS, st.sampled_from([0, 7]), st.booleans(), st.booleans(), st.booleans())
def test_kernel_equals_twin(text: bytes, seed: int, every: int, mode: int, names: int) -> None:
    kernel = KERNELS["onlinestack.io.vw_lines.parse_lines"]
    found, expected = (
        parsed(f, text + b"\n", seed, int(every), int(mode), int(names)) for f in kernel
    )
    for a, b in zip(found, expected, strict=True):
        assert same(a, b) if getattr(a, "dtype", None) == np.float32 else np.array_equal(a, b)


def columns(records: list[VWRecords]) -> list[Any]:
    """Return all that must not depend on how the bytes arrived."""
    return [
        (
            int(r.line[i]),
            int(r.offset[i]),
            int(r.block.row[i]),
            str(r.block.label[i]),
            float(r.block.weight[i]),
            r.tag[i].as_py(),
            [
                (
                    int(r.block.names[i, g]),
                    r.block.index[r.block.start[i, g] : r.block.stop[i, g]].tolist(),
                    r.block.value[r.block.start[i, g] : r.block.stop[i, g]].tolist(),
                )
                for g in range(r.block.names.shape[1])
                if r.block.names[i, g]
            ],
        )
        for r in records
        for i in range(r.block.n)
    ]


class Drip(io.RawIOBase):
    """A stream that hands out a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size, self.at = data, size, 0

    def read(self, size: int = -1) -> bytes:
        piece = self.data[self.at : self.at + self.size]
        self.at += len(piece)
        return piece


SAMPLE = b"".join(
    b"%d %d 'id%d|a x%d y:%d\r\n%s|b :3 z:foo |a again\n" % (i % 2, i, i, i, i, b"\n" * (i % 3))
    for i in range(300)
)


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("batch_size", [1, 11, 100000])
def test_chunks_do_not_matter(size: int, batch_size: int) -> None:
    whole = columns([VWParser().parse(SAMPLE)])
    found = list(VWTextReader(Drip(SAMPLE, size), batch_size=batch_size))  # type: ignore[arg-type]
    assert columns(found) == whole
    assert max(r.block.n for r in found) <= batch_size
    assert found[-1].lines == SAMPLE.count(b"\n")


def test_going_on_from_an_offset() -> None:
    whole = columns(list(VWTextReader(io.BytesIO(SAMPLE))))
    _, offset, *_ = whole[123]
    reader = VWTextReader(io.BytesIO(SAMPLE[offset:]), offset=offset, line=whole[123][0] - 1)
    rest = columns(list(reader))
    assert [r[:2] + r[3:] for r in rest] == [r[:2] + r[3:] for r in whole[123:]]


def test_files_and_gzip(tmp_path: Any) -> None:
    (tmp_path / "a.vw").write_bytes(SAMPLE)
    (tmp_path / "a.vw.gz").write_bytes(gzip.compress(SAMPLE))
    expected = columns([VWParser().parse(SAMPLE)])
    with open(tmp_path / "a.vw", "rb") as plain, gzip.open(tmp_path / "a.vw.gz") as packed:
        reader = VWTextReader(plain)
        assert reader.read_ahead
        assert columns(list(reader)) == expected
        assert columns(list(VWTextReader(packed))) == expected  # type: ignore[arg-type]


def test_a_pipe_is_answered_line_by_line() -> None:
    ours, theirs = os.pipe()
    with open(ours, "rb") as stream, open(theirs, "wb", buffering=0) as out:
        reader = VWTextReader(stream)
        assert not reader.read_ahead
        records = iter(reader)
        for i in range(5):
            out.write(b"%d |f a\n1 |" % i)
            assert next(records).block.label[0] == (i if i == 0 else 1)
            out.write(b"f b\n")
            next(records)
            out.write(b"1 |f")
        out.close()
        assert next(records).block.n == 1
        assert list(records) == []


def test_a_long_line() -> None:
    count = 17_000 if TWINS else 1_700_000
    line = b"1 |f " + b"a:0.5 " * count + b"\n"
    records = list(VWTextReader(io.BytesIO(b"1 |f b\n" + line + b"1 |f c"), batch_size=1))
    sizes = [(r.block.stop - r.block.start).item() for r in records]
    assert sizes == [1, count, 1]


def test_a_line_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="64 MB"):
        list(VWTextReader(Drip(b"x" * (65 << 20), 1 << 20), read_ahead=True))  # type: ignore[arg-type]


def test_a_reader_left_early_ends_its_thread() -> None:
    records = iter(VWTextReader(Drip(SAMPLE, 100), read_ahead=True))  # type: ignore[arg-type]
    next(records)
    records.close()  # type: ignore[attr-defined]
    assert not any(thread.name == "vw-text" for thread in threading.enumerate())


@pytest.mark.parametrize(
    "options", [{"target": "x"}, {"labels": "x"}, {"redefine": b"abc"}, {"batch_size": 0}]
)
def test_arguments_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give"):
        if "batch_size" in options:
            VWTextReader(io.BytesIO(), **options)
        else:
            VWParser(**options)
