"""Keep the command from importing large libraries that it never calls, or not yet.

pyarrow imports pandas, and numba imports ``scipy.linalg``, only because they are installed; each
takes 0.2 to 0.4 seconds, as long as learning half a million records. For the command's own
process, and for no program that imports the package, they are made to look absent.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import mmap
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["absent", "give_back", "laid_aside", "later", "lay_aside", "one_heap", "uncollected"]

_ARENA_MAX = -8
"""The GNU C library's number for how many heaps there may be."""
_STRIDE = 1 << 21
"""Bytes of a large page."""


class _Absent(MetaPathFinder):
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self.names:
            raise ModuleNotFoundError(f"{name} is not used by this command", name=name)
        return None


def one_heap() -> None:
    """Let all threads share one heap of the C library instead of eight a processor.

    Each heap keeps some memory that is free: batches come and go in several threads and many
    sizes, and a long run came to use more and more, 40 MB more at five million records than at
    one. With one heap it finds what it needs. Does nothing where there is no GNU C library.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Let the C library return the memory that is free but not at the end of its heaps.

    Where there are several heaps (see `one_heap`), what messages that come and go leave in between
    would grow a little with every million. Does nothing where there is no GNU C library.
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


class _Aside:
    """Memory of zeros whose pages are being made."""

    def __init__(self, size: int) -> None:
        self.memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):
                self.memory.madvise(mmap.MADV_HUGEPAGE)
        self._taken = threading.Event()
        self._thread = threading.Thread(target=self._make, name="lay aside", daemon=True)
        self._thread.start()

    def _make(self) -> None:
        size = len(self.memory)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for at in range(0, size, _STRIDE):
            if self._taken.is_set():
                return
            ctypes.memset(address + at, 0, min(_STRIDE, size - at))

    def take(self) -> mmap.mmap:
        self._taken.set()
        self._thread.join()
        return self.memory


_aside: list[_Aside] = []


def lay_aside(size: int) -> None:
    """Begin to make memory that will be asked for, while there is only code to load.

    Pages that the system has not at hand take two seconds a GB, one processor's time.

    Parameters
    ----------
    size
        Bytes.
    """
    _aside[:] = [_Aside(size)]


def laid_aside(size: int) -> mmap.mmap | None:
    """Return the memory of zeros that was laid aside, if it has that size, once.

    Parameters
    ----------
    size
        Bytes.

    Examples
    --------
    >>> lay_aside(8192)
    >>> laid_aside(4096), bytes(laid_aside(8192)) == bytes(8192), laid_aside(8192)
    (None, True, None)
    """
    if _aside and len(_aside[0].memory) == size:
        return _aside.pop().take()
    return None
