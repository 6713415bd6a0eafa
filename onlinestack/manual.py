"""The page about the TOML file: every key, its kind, default and meaning.

All of it comes from where settings and entries are declared and from the presets.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from functools import cache
from textwrap import fill
from typing import Any

from onlinestack.config import ENTRY_KINDS, KIND_NAMES, PREFIX, Config, ConfigError, toml_value
from onlinestack.recipe import KINDS, TYPE_NAMES, Entry
from onlinestack.settings import SETTINGS, TABLES, Setting
from onlinestack.words import listed, nearest

__all__ = ["explain", "words"]

WIDTH = 80

HEAD = f"""\
A TOML file describes a run: onlinestack learn --config FILE. Whatever it leaves out has the \
default of the preset, shown below. Environment variables ({PREFIX}BITS=24) override the file, \
and options of the command line (--bits 24) override both. onlinestack config prints the file \
that describes a run, and ONLINESTACK_CONFIG names one."""


def words() -> list[str]:
    """Return all that `explain` knows: toml, tables, settings and kinds of entries."""
    known = ["toml", *filter(None, TABLES), *SETTINGS, *KINDS]
    return list(dict.fromkeys(known))


def explain(word: str, also: Iterable[str] = ()) -> str:
    """Return what the page says about a word.

    Parameters
    ----------
    word
        "toml" for the whole page; else a table, a setting (also ``table.key`` or its option) or a
        kind of entry.
    also
        Words that others know, to be suggested, too.

    Raises
    ------
    ConfigError
        Where nothing is known by that name.

    Examples
    --------
    >>> print(explain("train_every"))
    [stack]
    <BLANKLINE>
    train_every = 20000
        Labelled records between trainings at last; 5 % of all once that is more.
        A whole number, at least 1; ONLINESTACK_TRAIN_EVERY.
    <BLANKLINE>
    """
    if word == "toml":
        tables = [line for table in TABLES for line in _table(table)]
        kinds = [line for kind in KINDS for line in _kind(kind)]
        return "\n".join([fill(HEAD, WIDTH), "", *tables, *kinds])
    name = word.lstrip("-").replace("-", "_").rpartition(".")[2]
    found = [*_table(name)] if name in TABLES else []
    if name in SETTINGS and name not in TABLES:
        found += [_heading(SETTINGS[name].table), "", *_setting(SETTINGS[name])]
    if name in KINDS:
        found += _kind(name)
    if not found:
        hint = nearest(word, [*also, *words()]) or "; onlinestack help toml tells all there is"
        raise ConfigError(f"there is no help about {word!r}{hint}")
    return "\n".join(found)


def _heading(table: str) -> str:
    return f"[{table}]" if table else "At the top, before any table"


def _table(table: str) -> Iterator[str]:
    """Yield the lines about a table."""
    yield from (_heading(table), *_text(TABLES[table]), "")
    for row in SETTINGS.values():
        if row.table == table:
            yield from _setting(row)


def _setting(row: Setting) -> Iterator[str]:
    """Yield the lines about a setting."""
    if row.type == "entries":
        yield f"[[{row.key}]]"
        kinds = listed(ENTRY_KINDS[row.key])
        yield from _text(f"{row.meaning} The kind of each is {kinds}; see below.")
    else:
        default = _default(row.key)
        yield row.key if default is None else f"{row.key} = {toml_value(default)}"
        yield from _text(row.meaning)
        kind = KIND_NAMES[row.type][0].upper() + KIND_NAMES[row.type][1:]
        least = "" if row.least is None else f", at least {row.least:g}"
        none = "; none by default" if default is None else ""
        names = [*row.options, PREFIX + row.key.upper()]
        yield from _text(f"{kind}{least}{none}; {', '.join(names)}.")
    yield ""


@cache
def _presets() -> list[Config]:
    """Return what holds by default with each preset, the default one first."""
    names = SETTINGS["preset"].choices
    return [Config.resolve({"preset": name}, environment={}) for name in names]


def _default(key: str) -> Any:
    """Return a setting's default; it is the same with each preset that has one."""
    return next((preset[key] for preset in _presets() if preset[key] is not None), None)


def _kind(kind: str) -> Iterator[str]:
    """Yield the lines about a kind of entry."""
    made = KINDS[kind]
    tables = [f"[[{key}]]" for key, kinds in ENTRY_KINDS.items() if kind in kinds]
    yield f"{listed(tables)} of kind {kind!r}"
    yield from _text((inspect.getdoc(made) or "").partition("\n\n")[0])
    yield ""
    meanings = _meanings(made)
    for field in fields(made):
        needed = field.default is MISSING
        yield field.name if needed else f"{field.name} = {toml_value(field.default)}"
        yield from _text(meanings[field.name])
        wanted = TYPE_NAMES[str(field.type)]
        yield from _text(f"{wanted[0].upper()}{wanted[1:]}{', needed' if needed else ''}.")
        yield ""


def _meanings(made: type[Entry]) -> dict[str, str]:
    """Return what a class's docstring says of each parameter."""
    listing = (inspect.getdoc(made) or "").partition("Parameters\n----------\n")[2]
    found: dict[str, str] = {}
    for names, text in re.findall(r"^(\w.*)\n((?: {4}.*\n?)+)", listing, re.MULTILINE):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def _text(text: str) -> list[str]:
    indent = " " * 4
    return fill(
        " ".join(text.replace("``", "").split()),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
    ).splitlines()
