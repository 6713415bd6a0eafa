"""Keep the command from importing large libraries that it never calls, or not yet.

pyarrow imports pandas, and numba imports ``scipy.linalg``, only because they are installed; each
takes 0.2 to 0.4 seconds, as long as learning half a million records. For the command's own
process, and for no program that imports the package, they are made to look absent.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["absent", "few_heaps", "give_back", "later", "populate", "uncollected"]

_POPULATE_WRITE = 23
"""Linux's number for madvise: make these pages now, as writing to each would."""
_ARENA_MAX = -8
"""The GNU C library's number for how many heaps there may be."""
_HEAPS = 2
_PAGE = 1 << 12
_STRIDE = 1 << 24
"""Bytes made at once, for others that ask for memory wait as long."""
_LARGEST = 1 << 29
"""Bytes of a table that may be made before it is known whether all of it will be used."""


class _Absent(MetaPathFinder):
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self.names:
            raise ModuleNotFoundError(f"{name} is not used by this command", name=name)
        return None


def few_heaps() -> None:
    """Let all threads share two heaps of the C library instead of eight a processor.

    Each heap keeps some memory that is free, and a long run comes to use more and more of them:
    40 MB more at five million records than at one. Does nothing where there is no GNU C library.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _HEAPS)


def give_back() -> None:
    """Let the C library return the memory that is free but not at the end of its heaps.

    Batches come and go in two threads and many sizes; what they leave in between would grow a
    little with every million records. Does nothing where there is no GNU C library.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """Let modules that are not imported yet look as if they were not installed.

    Parameters
    ----------
    names
        Full names of the modules.

    Examples
    --------
    >>> with absent("this"):
    ...     import this
    Traceback (most recent call last):
    ModuleNotFoundError: this is not used by this command
    """
    finder = _Absent(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Later:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self._name), name)
        setattr(self, name, value)
        return value


def later(name: str) -> Any:
    """Return what stands for a module that is imported when something of it is first used.

    Parameters
    ----------
    name
        Full name of the module.

    Examples
    --------
    >>> later("math").sqrt(4.0)
    2.0
    """
    return _Later(name)


@contextmanager
def uncollected() -> Iterator[None]:
    """Import without looking for garbage: importing makes none, and looking takes 0.1 s.

    What was imported stays for good, so it is not looked at later either.

    Examples
    --------
    >>> with uncollected():
    ...     print(gc.isenabled())
    False
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def populate(table: Any) -> None:
    """Let the system make the zero pages of a table in the background.

    Otherwise they are made one by one as the first records touch them. Nothing is done for
    tables of more than half a GiB, and on systems that cannot.

    Parameters
    ----------
    table
        A contiguous array; may be used at once.
    """
    if not sys.platform.startswith("linux") or table.nbytes > _LARGEST:
        return

    def make() -> None:
        madvise = ctypes.CDLL(None).madvise
        first = -(-table.ctypes.data // _PAGE) * _PAGE
        last = (table.ctypes.data + table.nbytes) // _PAGE * _PAGE
        for start in range(first, last, _STRIDE):
            size = min(_STRIDE, last - start)
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _POPULATE_WRITE)

    threading.Thread(target=make, name="populate", daemon=True).start()
