"""What to say about a name that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["listed", "nearest", "nearest_or_all"]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the known name most like another, or nothing.

    Examples
    --------
    >>> nearest("clik", ["click", "site"]), nearest("Site", ["click", "site"]), nearest("x", ["y"])
    (", did you mean 'click'?", ", did you mean 'site'?", '')
    """
    lowered = {other.lower(): other for other in known}
    found = get_close_matches(name.lower(), lowered, 1)
    return f", did you mean {lowered[found[0]]!r}?" if found else ""


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """Return what `nearest` does, or where nothing is near all that there is.

    Examples
    --------
    >>> nearest_or_all("x", ["csv", "tsv", "vw"])
    '; give one of csv, tsv, vw'
    """
    known = list(known)
    return nearest(name, known) or f"; give one of {', '.join(known)}"


def listed(names: Iterable[str]) -> str:
    """Return names as a phrase.

    Examples
    --------
    >>> listed(["csv", "tsv", "vw"])
    'csv, tsv or vw'
    """
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
