from __future__ import annotations

import os

import numpy as np
import pytest

from onlinestack import snapshot
from onlinestack.snapshot import SnapshotError
from onlinestack.snapshots import Snapshots


def save(snapshots, number):
    snapshots.turn(number)
    snapshots.save(number, lambda: ({"w": np.arange(number)}, {"read": number})).result()


def test_the_last_few_are_kept_with_the_notes_behind_them(tmp_path):
    with Snapshots(tmp_path, keep=2) as snapshots:
        assert snapshots.load() == (0, {}, None, [])
        snapshots.note("a")
        for number in (3, 5, 8):
            save(snapshots, number)
            snapshots.note(f"behind {number}")
    assert sorted(int(path.name[-3:]) for path in tmp_path.glob("*-*")) == [5, 5, 8, 8]
    with Snapshots(tmp_path) as snapshots:
        number, arrays, meta, notes = snapshots.load()
        assert (number, meta, notes) == (8, {"read": 8}, ["behind 8"])
        assert arrays["w"].tolist() == list(range(8))


def test_notes_are_kept_though_their_snapshot_never_came(tmp_path):
    with Snapshots(tmp_path) as snapshots:
        save(snapshots, 3)
        snapshots.note("behind 3")
        snapshots.turn(5)
        snapshots.note("behind 5")
    with Snapshots(tmp_path) as snapshots:
        assert snapshots.load()[0] == 3
        assert snapshots.load()[3] == ["behind 3", "behind 5"]


def test_a_note_that_was_cut_short_is_none(tmp_path):
    with Snapshots(tmp_path) as snapshots:
        save(snapshots, 3)
        snapshots.note("whole")
    journal = max(tmp_path.glob("journal-*"))
    journal.write_bytes(journal.read_bytes() + b'"cut sh')
    with Snapshots(tmp_path) as snapshots:
        assert snapshots.load()[3] == ["whole"]
        snapshots.note("next")
    with Snapshots(tmp_path) as snapshots:
        assert snapshots.load()[3] == ["whole", "next"]


def test_an_older_one_stands_in_for_a_damaged_one(tmp_path, caplog):
    with Snapshots(tmp_path) as snapshots:
        for number in (3, 5):
            save(snapshots, number)
            snapshots.note(f"behind {number}")
    newest = max(tmp_path.glob("snapshot-*"))
    os.truncate(newest, 60)
    (tmp_path / "snapshot-9.tmp").write_bytes(b"half")
    with Snapshots(tmp_path) as snapshots:
        assert not list(tmp_path.glob("*.tmp"))
        number, _, _, notes = snapshots.load()
        assert (number, notes) == (3, ["behind 3", "behind 5"])
        assert "damaged" in caplog.text
    for path in tmp_path.glob("snapshot-*"):
        os.truncate(path, 60)
    with Snapshots(tmp_path) as snapshots, pytest.raises(SnapshotError, match="damaged"):
        snapshots.load()


def test_one_process_at_a_time(tmp_path):
    with Snapshots(tmp_path), pytest.raises(OSError, match="another process"):
        Snapshots(tmp_path)
    Snapshots(tmp_path).close()
    with pytest.raises(OSError, match="cannot hold snapshots"):
        Snapshots(tmp_path / "none" / "here")


def test_a_full_disk_is_told_by_whoever_waits(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with Snapshots(tmp_path) as snapshots:
        monkeypatch.setattr(snapshot, "save", full)
        with pytest.raises(OSError, match="No space"):
            save(snapshots, 3)
