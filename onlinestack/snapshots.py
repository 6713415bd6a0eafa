"""A folder of snapshots that one process writes while it works: the last few, and a journal.

A snapshot has a number that rises. ``snapshot-N`` appears whole or not at all. Notes that must not
be lost between two snapshots go to ``journal-N``, N the snapshot they follow, and are on the disk
when `note` returns. Whatever moment the process dies at, the newest whole snapshot and the notes
behind it are there to go on from.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onlinestack import snapshot
from onlinestack.atomic import fsync_file, sentence, write_all
from onlinestack.snapshot import SnapshotError

try:
    import fcntl
except ImportError:  # not POSIX: two processes are then not told apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["Snapshots"]

log = logging.getLogger(__name__)

DIGITS = 20


class Snapshots:
    """The snapshots of one process, in a folder of their own.

    Parameters
    ----------
    folder
        Where they are; made where it is missing.
    keep
        How many are kept, 1 or more; a second one is there should the newest be damaged.

    Raises
    ------
    OSError
        When another process uses the folder, or it cannot be written to.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Snapshots(folder) as snapshots:
    ...         snapshots.turn(7)
    ...         snapshots.save(7, lambda: ({"w": np.arange(3)}, {"read": 7})).result()
    ...         snapshots.note({"seen": 8})
    ...     with Snapshots(folder) as snapshots:
    ...         snapshots.load()
    (7, {'w': array([0, 1, 2])}, {'read': 7}, [{'seen': 8}])
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3) -> None:
        self.folder = Path(folder)
        self._keep = max(1, keep)
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = _locked(self.folder / "lock")
        except OSError as error:
            raise sentence(error, f"{os.fspath(folder)!r} cannot hold snapshots") from None
        self._journal: FileIO | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        for stray in self.folder.glob("snapshot-*.tmp"):
            stray.unlink()

    def _numbers(self, kind: str) -> list[int]:
        names = (path.name.removeprefix(f"{kind}-") for path in self.folder.glob(f"{kind}-*"))
        return sorted(int(name) for name in names if name.isdigit())

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number:0{DIGITS}}"

    def load(self) -> tuple[int, dict[str, NDArray[Any]], Any, list[Any]]:
        """Return the newest whole snapshot, and begin the journal behind it.

        Returns
        -------
        Its number, arrays and object as they were saved, and the notes made since, oldest first.
        Where there is none, number 0, no arrays and None.

        Raises
        ------
        SnapshotError
            When there are snapshots, but none is whole.
        """
        number, arrays, meta = self._newest()
        notes = [
            note
            for journal in self._numbers("journal")
            if journal >= number
            for note in _notes(self._path("journal", journal))
        ]
        self._open(number)
        return number, arrays, meta, notes

    def _newest(self) -> tuple[int, dict[str, NDArray[Any]], Any]:
        failed: SnapshotError | None = None
        for number in reversed(self._numbers("snapshot")):
            try:
                return number, *snapshot.load(self._path("snapshot", number))
            except SnapshotError as error:
                log.warning("%s", error)
                failed = error
        if failed is not None:
            raise failed
        return 0, {}, None

    def _open(self, number: int) -> None:
        """Go on with the journal behind a snapshot."""
        path = self._path("journal", number)
        if self._journal is not None:
            self._journal.close()
        whole = sum(len(line) for line in _lines(path))
        self._journal = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        self._journal.truncate(whole)
        self._journal.seek(whole)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fsync_file(folder)
        finally:
            os.close(folder)

    def note(self, note: Any) -> None:
        """Write a note, as JSON, to the disk.

        Raises
        ------
        OSError
            When it cannot be written.
        """
        if self._journal is None:
            self._open(0)
        assert self._journal is not None  # noqa: S101 - narrows a type
        try:
            write_all(self._journal, json.dumps(note, separators=(",", ":")).encode() + b"\n")
            fsync_file(self._journal.fileno())
        except OSError as error:
            raise sentence(error, f"the journal in {str(self.folder)!r} cannot be kept") from error

    def turn(self, number: int) -> None:
        """Let notes from now on follow the snapshot of a number, which is still to be saved."""
        self._open(number)

    def save(
        self, number: int, content: Callable[[], tuple[Mapping[str, NDArray[Any]], Any]]
    ) -> Future[None]:
        """Save a snapshot in the background, and let go of those that are one too many.

        Parameters
        ----------
        number
            Higher than that of those before.
        content
            Returns the arrays and the object; called in the thread that writes.
        """
        return self._pool.submit(self._write, number, content)

    def _write(
        self, number: int, content: Callable[[], tuple[Mapping[str, NDArray[Any]], Any]]
    ) -> None:
        snapshot.save(self._path("snapshot", number), *content())
        kept = self._numbers("snapshot")[-self._keep :]
        for kind in ("snapshot", "journal"):
            for old in self._numbers(kind):
                if old < kept[0]:
                    self._path(kind, old).unlink()

    def __enter__(self) -> Snapshots:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is being written, and leave the folder to others."""
        self._pool.shutdown()
        if self._journal is not None:
            self._journal.close()
        self._lock.close()


def _locked(path: Path) -> FileIO:
    """Open a file for this process alone."""
    file = FileIO(path, "a")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise OSError(
            error.errno, "another process uses it; stop that, or give another folder"
        ) from None
    return file


def _lines(path: Path) -> list[bytes]:
    """Return the whole lines of a journal; a last one that was cut short is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return content[: content.rfind(b"\n") + 1].splitlines(keepends=True)


def _notes(path: Path) -> list[Any]:
    return [json.loads(line) for line in _lines(path)]
