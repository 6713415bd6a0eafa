"""What every peer is made of: a name, what is printed of it, and the versions of its libraries."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tracks import NotInstalled

__all__ = ["Described", "versions_of"]

ALSO = {"xgboost": ("xgboost", "xgboost-cpu"), "lightgbm": ("lightgbm", "lightgbm-cpu")}
"""Distributions that bring the same import."""


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each package.

    Raises
    ------
    NotInstalled
        Where one is not installed.
    """
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    for name in ALSO.get(package, (package,)):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise NotInstalled(f"{package} is not installed here; `pip install {package}` brings it.")


@dataclass(frozen=True)
class Described:
    """What a page says of a peer.

    Parameters
    ----------
    name
        Its row.
    family
        The library or kind it is listed with.
    packages
        What must be installed.
    settings
        What is printed in the page.
    marks
        Words to be read with its figures.
    """

    name: str
    family: str
    packages: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    marks: tuple[str, ...] = ()

    def versions(self) -> dict[str, str]:
        """Return the version of each library that it needs; raise `NotInstalled` without one."""
        return versions_of(self.packages)
