"""Keep the command from importing large libraries that it never calls.

pyarrow imports pandas, and numba imports ``scipy.linalg``, only because they are installed; each
takes 0.2 to 0.4 seconds, as long as learning half a million records. For the command's own
process, and for no program that imports the package, they are made to look absent.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["absent", "uncollected"]


class _Absent(MetaPathFinder):
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self.names:
            raise ModuleNotFoundError(f"{name} is not used by this command", name=name)
        return None


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


@contextmanager
def uncollected() -> Iterator[None]:
    """Import without looking for garbage: importing makes none, and looking takes 0.1 s.

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
        gc.enable()
