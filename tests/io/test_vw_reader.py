"""Vowpal Wabbit text through ``open_source``: labels, rejects, tags as ids, going on."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from onlinestack.io.source import open_source

TEXT = b"1 2 'a|f x y\n\n-1 -3 |f z\n0.5 inf 't |f q\n|f a |g b:2\nnan -1 |f\n"


@pytest.mark.parametrize("name", ["a.vw", "a.vw.gz"])
def test_records(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(TEXT) if name.endswith("gz") else TEXT)
    (batch,) = open_source(str(path))
    assert batch.read == 5
    assert batch.row.tolist() == [0, 3]
    assert np.array_equal(batch.label, [1, np.nan], equal_nan=True)
    assert batch.weight.tolist() == [2, 1]
    assert batch.id.to_pylist() == ["a", None]
    assert batch.features is not None
    assert (batch.features.stop - batch.features.start).tolist() == [[2, 0], [1, 1]]
    assert [(r.row, r.position, r.text) for r in batch.rejects] == [
        (1, 2, "-1 -3 |f z"),
        (2, 3, "0.5 inf 't |f q"),
        (4, 5, "nan -1 |f"),
    ]
    assert batch.rejects[0].reason == "importance -3 is no finite number from 0"


def test_raw_labels_and_nothing_but_rejects(tmp_path: Path) -> None:
    path = tmp_path / "a.vw"
    path.write_bytes(b"-1 |f a\n3 |f b\n")
    (batch,) = open_source(str(path), target="raw")
    assert batch.label.tolist() == [-1, 3]
    path.write_bytes(b"1 -1 |f a\n")
    (batch,) = open_source(str(path))
    assert (batch.n, batch.read, len(batch.rejects)) == (0, 1, 1)


def test_a_file_without_records(tmp_path: Path) -> None:
    path = tmp_path / "a.vw"
    path.write_bytes(b"\n\r\n\n")
    assert sum(batch.read for batch in open_source(str(path))) == 0
