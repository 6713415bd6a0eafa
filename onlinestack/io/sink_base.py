"""What all sinks share: their verbs, a file that is only appended to, errors as sentences."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from io import FileIO
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.atomic import fsync_file, sentence, write_all

__all__ = ["Position", "Sink", "Tail", "resumes", "worded"]

Position = Mapping[str, Any]
"""What ``position`` returned, perhaps in an earlier process."""


class Sink(ABC):
    """A place for predictions: columns row, id (only if records have one), and those named.

    The first block with records decides whether there is an id column. Sinks are context
    managers; what was written before an error is kept.
    """

    @abstractmethod
    def write(self, row: NDArray[np.int64], id: pa.Array | None, *values: Any) -> None:
        """Append records.

        Parameters
        ----------
        row
            ``int64[n]``: number of the record in the run.
        id
            Arrow array of length n, or None.
        values
            A column for each name the sink was opened with, the label first: ``float32[n]``, NaN
            where a label is not known, or Arrow arrays of texts.

        Raises
        ------
        BrokenPipeError
            When nobody reads standard output any more.
        OSError
            When it cannot be written, with one sentence that names it.
        """

    @abstractmethod
    def position(self) -> dict[str, Any]:
        """Bring all records to the disk and return where the sink stands, as JSON."""

    @abstractmethod
    def close(self) -> None:
        """Finish; a second call does nothing."""

    @abstractmethod
    def flush(self) -> None:
        """Hand all records to the system, where the format lets others read them early."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tail:
    """A file that is only appended to, or standard output (``-``); cut back on resume."""

    def __init__(self, path: str, what: str, resume: Position | None) -> None:
        self.path, self.size, self._what = path, 0, what
        self._file: Any = None
        with worded(self._what, self.path):
            if path == "-":
                self._file = sys.stdout
            elif resumes(path, resume) and os.path.isfile(path):
                self._file = FileIO(path, "r+b")
                with contextlib.ExitStack() as cleanup:
                    cleanup.callback(self._file.close)
                    self._cut(int(resume["size"]) if resume else 0)
                    cleanup.pop_all()
            elif resumes(path, resume) and not os.path.exists(path):
                raise FileNotFoundError(
                    errno.ENOENT, "it is gone; put it back or give another name"
                )
            else:
                self._file = FileIO(path, "wb")

    def _cut(self, size: int) -> None:
        there = os.fstat(self._file.fileno()).st_size
        if there < size:
            raise OSError(
                errno.EINVAL,
                f"it has {there} bytes of the {size} it had; put it back or give another name",
            )
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def write(self, content: Any) -> None:
        """Append bytes; they are with the system when it returns."""
        with worded(self._what, self.path):
            if self.path == "-":
                # Not every standard output of an embedding program takes bytes.
                output = getattr(self._file, "buffer", None)
                if output is None:
                    self._file.write(bytes(content).decode())
                else:
                    output.write(content)
                self._file.flush()  # whoever reads the pipe waits for this very record
            else:
                write_all(self._file, content)
        self.size += len(content)

    def position(self) -> dict[str, Any]:
        """Bring all bytes to the disk and return path and size."""
        if self.path != "-":
            with worded(self._what, self.path):
                fsync_file(self._file.fileno())
        return {"path": self.path, "size": self.size}

    def close(self) -> None:
        """Close the file, but never standard output."""
        with worded(self._what, self.path):
            if self.path != "-":
                self._file.close()


@contextlib.contextmanager
def worded(what: str, path: str) -> Iterator[None]:
    """Turn errors of the system into one sentence; a closed pipe is passed up as it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        place = "standard output" if path == "-" else repr(path)
        raise sentence(error, f"{what} could not be written to {place}") from error


def resumes(path: str, resume: Position | None) -> bool:
    """Tell whether a position is one of this file; if not, the file starts anew."""
    return resume is not None and os.path.abspath(resume["path"]) == os.path.abspath(path)
