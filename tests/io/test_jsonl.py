"""JSON lines: kinds, nesting, odd lines."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from onlinestack.io import chunks
from onlinestack.io.jsonl import JsonReader
from onlinestack.io.reader import Stretch


def read(path: Path, data: bytes, **how: Any) -> tuple[JsonReader, list[Stretch]]:
    path.write_bytes(data)
    reader = JsonReader(str(path), **how)
    stretches = [job() for job in reader.jobs(reader.names)]
    reader.close()
    return reader, stretches


def test_kinds_nesting_and_lists(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"n": 1, "s": "007", "b": True, "l": ["x", 2, None], "o": {"n": 1.5, "o": {"s": "y"}}},
        {"n": 2.5, "s": "", "l": [], "o": None, "late": 1},
        {"late": "word"},
    ]
    data = b"\xef\xbb\xbf" + "".join(json.dumps(line) + "\r\n\n" for line in lines).encode()
    reader, (stretch,) = read(tmp_path / "a.jsonl", data)
    assert reader.kinds() == {
        "n": "number", "s": "category", "b": "category", "l": "text",
        "o.n": "number", "o.o.s": "category", "o": "category", "late": "category",
    }  # fmt: skip
    values = {n: c.to_pylist() for n, c in zip(reader.names, stretch.columns, strict=True) if c}
    assert values["n"] == [1.0, 2.5, None]
    assert values["s"] == ["007", None, None] or values["s"] == ["007", "", None]
    assert values["b"] == ["true", None, None]
    assert values["l"] == [["x", "2", None], [], None]
    assert values["o.n"] == [1.5, None, None]
    assert values["late"] == [None, "1", "word"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "no JSON: "),
        (b"[1]", "no JSON object"),
        (b"7", "no JSON object"),
        (b'{"a": Na}', "no JSON: "),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nested too deeply"),
        (b'{"a":' * 9000 + b"1" + b"}" * 9000, "no JSON: "),
        (b'{"a": "\xff"}', "no JSON: "),
        (b"null", "no JSON object"),
        (b'{"a": "\\ud800"}', "no JSON: "),
        (b'{"a": "\\ud800", "b": NaN}', "no JSON: "),
    ],
)
def test_odd_lines_are_rejected(tmp_path: Path, line: bytes, reason: str) -> None:
    _, (stretch,) = read(tmp_path / "a.jsonl", b'{"a": 1}\n' + line + b'\n  \n{"a": 2}\n')
    assert stretch.read == 3
    assert [bad.number for bad in stretch.bad] == [1]
    assert stretch.bad[0].reason.startswith(reason)
    (column,) = stretch.columns
    assert column is not None and column.to_pylist() == [1, 2]
    assert stretch.text is not None and stretch.text([2]) == ['{"a": 2}']


def test_numbers_of_any_size_and_words_among_them(tmp_path: Path) -> None:
    _, (stretch,) = read(tmp_path / "a.jsonl", b'{"a": 18446744073709551615}\n{"a": -1}\n')
    assert stretch.columns[0] == pa.array([18446744073709551615.0, -1.0])
    _, (stretch,) = read(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": 2.50}\n{"a": 3.0}\n{"a": "x"}\n')
    assert stretch.columns[0] == pa.array(["1", "2.5", "3", "x"])


def test_not_a_number_is_missing(tmp_path: Path) -> None:
    _, (stretch,) = read(tmp_path / "a.jsonl", b'{"a": 1.5}\n{"a": NaN}\n{"a": null}\n')
    assert stretch.columns[0] is not None
    assert stretch.columns[0].null_count == 1 and stretch.columns[0][1].as_py() != 0


def test_keys_met_late_are_ignored_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "PIECE", 100)
    data = b'{"a": 1}\n' * 1000 + b'{"a": 2, "b": 1}\n' * 50
    with caplog.at_level(logging.WARNING):
        reader, stretches = read(tmp_path / "a.jsonl", data)
    assert reader.names == ("a",)
    assert sum(stretch.read for stretch in stretches) == 1050
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path}/a.jsonl: keys that were not in the first records are ignored: b"
    ]
    reader = JsonReader(str(tmp_path / "a.jsonl"), columns=["b", "zz"])
    assert reader.kinds() == {"b": "category", "zz": "category"}
    reader.close()


def test_a_pipe_is_answered_line_by_line() -> None:
    source, sink = os.pipe()
    os.write(sink, b'{"a": 1, "b": "x"}\n')
    reader = JsonReader(f"/dev/fd/{source}")
    assert reader.kinds() == {"a": "number", "b": "category"}
    jobs = reader.jobs(["b"])
    assert next(jobs)().columns[0] == pa.array(["x"])
    os.write(sink, b'{"b": "y"}\n{"b":')
    assert next(jobs)().columns[0] == pa.array(["y"])
    os.close(sink)
    assert next(jobs)().bad[0].reason.startswith("no JSON")
    assert list(jobs) == []
    reader.close()
    os.close(source)


def test_nothing_at_all(tmp_path: Path) -> None:
    for data in (b"", b"\n\n", b"{}\n"):
        reader, stretches = read(tmp_path / "a.jsonl", data)
        assert reader.names == ()
        assert sum(stretch.read for stretch in stretches) == data.count(b"{}")
