"""Files that are whole or absent, and errors of files as sentences."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from io import FileIO
from typing import Any

try:
    import fcntl
except ImportError:  # not POSIX: two writers of one file are then not told apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["fsync_file", "replacing", "sentence", "temporary_name", "write_all"]


@contextlib.contextmanager
def replacing(path: str) -> Iterator[FileIO]:
    """Give an empty file that takes the place of ``path`` when the block ends well.

    The content goes to ``PATH.tmp`` beside the file, to the disk, and only then takes the name;
    whenever the process dies, ``path`` is the old or the new file, whole. The temporary name is
    always the same, so that a killed process leaves at most one such file, which the next
    writer uses up; a lock, which dies with its process, keeps a second writer out.

    Parameters
    ----------
    path
        The file. A symbolic link is followed; an existing file keeps its mode.

    Raises
    ------
    OSError
        When the file cannot be written. The temporary file is removed, whatever was raised.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a") as file:
    ...         write_all(file, b"whole")
    ...     [p.name for p in pathlib.Path(folder).iterdir()]
    ['a']
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"the folder {folder!r} does not exist")
    mode = None
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(target).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file in it")
        if not stat.S_ISREG(mode):  # a rename would do away with the device or pipe
            raise OSError(errno.EINVAL, "it is not an ordinary file")
    name = temporary_name(target)
    with contextlib.closing(_lock(name)) as file:
        try:
            file.truncate(0)
            if mode is not None:
                os.chmod(name, stat.S_IMODE(mode))
            yield file
            os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    _fsync_folder(folder)


def temporary_name(path: str) -> str:
    """Return the name under which the new content of a file is written."""
    return f"{path}.tmp"


def _lock(name: str) -> FileIO:
    """Open the file for this process alone, unless the file system knows no locks."""
    while True:
        file = FileIO(os.open(name, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(name)):
                return file
        except BlockingIOError as error:
            file.close()
            raise OSError(
                errno.EBUSY, "another process is writing it; wait for that, or give another name"
            ) from error
        except FileNotFoundError:
            pass
        except OSError:
            return file
        file.close()  # it was renamed by its writer before we had the lock


def _fsync_folder(folder: str) -> None:
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            fsync_file(number)
        finally:
            os.close(number)


def fsync_file(number: int) -> None:
    """Bring a file or folder to the disk; nothing on what cannot be, such as a pipe."""
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise


def write_all(file: FileIO, content: Any) -> None:
    """Write bytes to an unbuffered file, in as many parts as the system likes."""
    rest = memoryview(content)
    while len(rest):
        rest = rest[file.write(rest) :]


def sentence(error: OSError, what: str) -> OSError:
    """Return an error of the same class and number whose text is ``what`` and the reason.

    Examples
    --------
    >>> sentence(PermissionError(13, "Permission denied"), "'a' cannot be written")
    PermissionError("'a' cannot be written: permission denied")
    """
    reason = error.strerror or str(error)
    worded = type(error)(f"{what}: {reason[:1].lower()}{reason[1:]}")
    worded.errno = error.errno
    return worded
