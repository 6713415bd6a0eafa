"""Layouts of generated click logs: TOML files of fields; ``README.md`` explains the keys."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["load_layout"]

_FIELD_KEYS = {
    "category": frozenset(
        "name kind words values form zipf flat draw parent near life missing missing_with effect"
        " drift".split()
    ),
    "number": frozenset(
        "name kind median sd decimals lowest highest zero missing missing_with effect shape".split()
    ),
}
_LOG_KEYS = frozenset("label id time click_rate per_day start delay_minutes delay_sd".split())
_SHAPES = ("rise", "fall", "hump", "wave")


def load_layout(layout: str | Path) -> dict[str, Any]:
    """Read a layout: the name of one in ``layouts/`` or the path of a TOML file.

    Raises
    ------
    ValueError
        If a key or a field's name is not known.
    OSError
        If there is no such file.
    """
    path = Path(__file__).parent / "layouts" / f"{layout}.toml"
    if not path.exists():
        path = Path(layout)
    with path.open("rb") as file:
        spec = tomllib.load(file)
    _check_keys(f"[log] of {path}", spec["log"], _LOG_KEYS)
    known = {"hour"}
    for field in spec["field"]:
        name = field.get("name", "?")
        kind = field.setdefault("kind", "category")
        if kind not in _FIELD_KEYS:
            raise ValueError(f"field {name!r} of {path}: kind is {kind!r}, not category or number")
        _check_keys(f"field {name!r} of {path}", field, _FIELD_KEYS[kind])
        if field.get("shape", "rise") not in _SHAPES:
            raise ValueError(f"field {name!r} of {path}: shape is none of {', '.join(_SHAPES)}")
        for key in ("draw", "parent", "near", "missing_with"):
            if key in field and field[key] not in known:
                raise ValueError(f"field {name!r} of {path}: {key} names no field above it")
        known.add(name)
    for pair in spec.get("pair", []):
        for name in pair["fields"]:
            if name not in known:
                raise ValueError(f"a pair of {path} names {name!r}, which is no field of it")
    return spec


def _check_keys(place: str, given: Mapping[str, Any], known: frozenset[str]) -> None:
    for key in given:
        if key not in known:
            raise ValueError(f"{place} has the key {key!r}; known are {', '.join(sorted(known))}")
