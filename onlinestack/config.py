"""What a run is told: TOML file <- environment <- options, merged and checked.

What can be said stands in `settings`. Defaults stand in the preset's own TOML file, which is also
the commented form that `Config.to_toml` fills in.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from onlinestack.recipe import MEMBERS, STACKERS, Linear, RecipeError, entries_of
from onlinestack.settings import SETTINGS, Setting
from onlinestack.words import nearest, nearest_or_all

__all__ = [
    "DEFAULT_PRESET",
    "ENTRY_KINDS",
    "KIND_NAMES",
    "PREFIX",
    "SHARED",
    "Config",
    "ConfigError",
    "presets",
    "toml_value",
]

DEFAULT_PRESET = "stack"
PREFIX = "ONLINESTACK_"
SHARED = {"bits", "names", "seed"}
"""Settings of the linear learner that a stack has too."""
OTHERS = {"CACHE", "TWINS", "CONFIG", "DATA"}
"""Variables with our prefix that are no settings of a run."""

ENTRIES = "# Entries: the experts.\n"
"""The line of a preset behind which its entries stand."""
SPELT = {"paths": "SOURCE", "interactions": "-q"}
"""How the command line spells settings that it builds itself."""
ENTRY_KINDS = {"member": MEMBERS, "stacker": STACKERS}
"""The settings that are entries, and which kinds each may have."""
OWN = {row.name for row in fields(Linear)}
"""What an entry can say for itself."""

KIND_NAMES = {
    "text": "a text",
    "list": "a list of texts",
    "numbers": "a list of numbers",
    "entries": "a list of tables, each with its keys behind a line of [[member]] or [[stacker]]",
    "whole": "a whole number",
    "number": "a number",
    "flag": "true or false",
    "duration": "a time: seconds, or a number and s, m, h or d, such as 30m",
}
SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds in the units of a time."""


class ConfigError(ValueError):
    """A setting that is unknown, of the wrong type, or does not go with another."""


def presets() -> dict[str, Path]:
    """Return the built-in presets: their TOML files by name."""
    folder = Path(__file__).parent / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _checked(setting: Setting, value: Any, where: str) -> Any:
    """Return the value in the setting's own type, or say what is wrong with it."""
    kind, good, given = setting.type, False, value
    if kind == "text":
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, int | float):
            value = str(value)
        good = isinstance(value, str)
    elif kind == "list":
        value = [value] if isinstance(value, str) else value
        good = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        value = list(value) if good else value
    elif kind == "numbers":
        good = isinstance(value, list | tuple) and all(_is_number(v) for v in value)
        value = [float(v) for v in value] if good else value
    elif kind == "entries":
        good = isinstance(value, list | tuple) and all(isinstance(v, dict) for v in value)
        value = [dict(v) for v in value] if good else value
        if good:
            _check_entries(setting.key, value, where)
    elif kind == "flag":
        good = isinstance(value, bool)
    elif kind == "duration":
        value = _seconds(value)
        good = value is not None
    elif kind == "whole":
        good = isinstance(value, int) and not isinstance(value, bool)
    else:
        good = _is_number(value) and math.isfinite(value)
        value = float(value) if good else value
    if not good:
        raise ConfigError(f"{where} must be {KIND_NAMES[kind]}, not {given!r}")
    for word in _words(value) if setting.choices else ():
        if word not in setting.choices:
            hint = nearest_or_all(word, setting.choices)
            raise ConfigError(f"{where} {word!r} is unknown{hint}")
    if setting.least is not None and value < setting.least:
        raise ConfigError(f"{where} must be at least {setting.least:g}, not {value}")
    return value


def _words(value: str | list[str]) -> list[str]:
    """Return the names in a value that consists of them."""
    return re.split(r"\s*[,+]\s*", value.strip()) if isinstance(value, str) else value


def _check_entries(key: str, tables: list[dict[str, Any]], where: str) -> None:
    """Refuse entries that are wrong by themselves; how they go together shows when they meet."""
    try:
        entries_of(tables, key, ENTRY_KINDS[key])
    except RecipeError as error:
        file = where.removeprefix(f"{key} in ")
        raise ConfigError(str(error) if file == where else f"{file}: {error}") from None


def _seconds(value: Any) -> float | None:
    """Return a time in seconds; None where it is none."""
    if _is_number(value):
        return float(value) if 0 <= value < math.inf else None
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([smhd]?)\s*", str(value))
    return None if match is None else float(match[1]) * SECONDS[match[2]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _from_text(setting: Setting, text: str, where: str) -> Any:
    """Read the value of an environment variable."""
    if setting.type == "list":
        return [part.strip() for part in text.split(",") if part.strip()]
    if setting.type == "flag":
        words = {"1": True, "true": True, "yes": True, "on": True}
        words |= {"0": False, "false": False, "no": False, "off": False}
        return _checked(setting, words.get(text.lower(), text), where)
    if setting.type == "entries":
        raise ConfigError(f"{where} can not be a variable: write [[{setting.key}]] in a TOML file")
    if setting.type == "numbers":
        try:
            numbers = [float(part) for part in text.split(",") if part.strip()]
        except ValueError:
            raise ConfigError(f"{where} must be {KIND_NAMES['numbers']}, not {text!r}") from None
        return _checked(setting, numbers, where)
    if setting.type in ("whole", "number"):
        try:
            number = int(text) if setting.type == "whole" else float(text)
        except ValueError:
            raise ConfigError(f"{where} must be {KIND_NAMES[setting.type]}, not {text!r}") from None
        return _checked(setting, number, where)
    return _checked(setting, text, where)


def _from_toml(text: str, name: str) -> dict[str, Any]:
    """Read the settings of a TOML text, strictly."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}") from None
    tables = {row.table for row in SETTINGS.values()} - {""}
    found: dict[str, Any] = {}
    for top, content in document.items():
        if top not in tables:
            content = {top: content}
        elif not isinstance(content, dict):
            raise ConfigError(f"{top} in {name} must be a table, [{top}], not {content!r}")
        table = top if top in tables else ""
        for key, value in content.items():
            setting = SETTINGS.get(key)
            if setting is None or setting.table != table:
                raise ConfigError(_unknown(key, table, setting, name, tables))
            found[key] = _checked(setting, value, f"{_place(setting)} in {name}")
    return found


def _place(setting: Setting) -> str:
    return f"{setting.table}.{setting.key}" if setting.table else setting.key


def _unknown(
    key: str, table: str, elsewhere: Setting | None, name: str, tables: Iterable[str]
) -> str:
    if elsewhere is not None:
        there = f"[{elsewhere.table}]" if elsewhere.table else "the top level"
        return f"{key!r} in {name} belongs to {there}: move it there"
    names = [row.key for row in SETTINGS.values() if row.table == table]
    hint = nearest(key, names if table else [*names, *tables])
    if not hint and not table:
        near = get_close_matches(key, list(SETTINGS), 1)
        hint = f", did you mean {near[0]!r} in [{SETTINGS[near[0]].table}]?" if near else ""
    inside = f"in [{table}] of {name}" if table else f"in {name}"
    return f"unknown key {key!r} {inside}{hint or nearest_or_all(key, names)}"


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable[len(PREFIX) :] in OTHERS:
            continue
        setting = SETTINGS.get(variable[len(PREFIX) :].lower())
        if setting is not None and variable == variable.upper():
            found[setting.key] = _from_text(setting, text, variable)
            continue
        # Orchestrators put variables of their own beside ours (ONLINESTACK_SERVICE_HOST), so only
        # what looks like a misspelt setting is an error.
        known = [PREFIX + key.upper() for key in SETTINGS]
        close = get_close_matches(variable.upper(), known, 1, 0.9)
        if close:
            raise ConfigError(f"unknown variable {variable}, did you mean {close[0]}?")
    return found


@dataclass(slots=True)
class Config:
    """The settings of one run, and where each was given.

    Use `Config.resolve` to make one; read a setting by its key.

    Parameters
    ----------
    values
        Value of every setting by key; None where there is none.
    given
        For each setting that was not left to the preset: who gave it, in words.

    Raises
    ------
    ConfigError
        By `resolve`, for unknown names and wrong types.

    Examples
    --------
    >>> config = Config.resolve({"bits": 24}, environment={"ONLINESTACK_LABEL": "click"})
    >>> config["bits"], config["label"], config["preset"]
    (24, 'click', 'stack')
    >>> config.given
    {'label': 'ONLINESTACK_LABEL', 'bits': '--bits'}
    """

    values: dict[str, Any]
    given: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @classmethod
    def resolve(
        cls,
        options: Mapping[str, Any] | None = None,
        *,
        file: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Config:
        """Merge preset <- TOML file <- environment <- options; None means "not given".

        Parameters
        ----------
        options
            Settings by key, as the command line gave them.
        file
            TOML file; ``ONLINESTACK_CONFIG`` names one where it is None.
        environment
            Environment variables; those of the process by default.
        """
        environment = os.environ if environment is None else environment
        file = file or environment.get(PREFIX + "CONFIG") or None
        values: dict[str, Any] = {}
        given: dict[str, str] = {}
        if file is not None:
            try:
                text = Path(file).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise ConfigError(f"{file} is not TOML: it is not UTF-8 text") from None
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                sentence = f"--config {file} can not be read ({reason}); check its name"
                raise type(error)(sentence) from None
            values |= _from_toml(text, file)
            given |= {key: f"{_place(SETTINGS[key])} in {file}" for key in values}
        here = _from_environment(environment)
        values |= here
        given |= {key: PREFIX + key.upper() for key in here}
        for key, value in (options or {}).items():
            if value is None:
                continue
            setting = SETTINGS[key]
            where = setting.options[0].partition("/")[0] if setting.options else SPELT.get(key, key)
            values[key] = _checked(setting, value, where)
            given[key] = where
        preset = values.get("preset", DEFAULT_PRESET)
        config = cls(_preset(preset) | values, given)
        config._belongs()
        return config

    def _belongs(self) -> None:
        """Refuse settings that were given for another preset's learner."""
        if "preset" not in self.given and (self["load"] or self["resume"]):
            # The preset is that of the model, which is compared with what is given.
            return
        for key, who in self.given.items():
            table = SETTINGS[key].table
            stack = table == "stack" or SETTINGS[key].type == "entries"
            if self["preset"] == "stack" and table == "learner" and key not in SHARED:
                own = ", or give it to a [[member]] of a TOML file" if key in OWN else ""
                raise ConfigError(f"{who} belongs to the linear preset: add --preset linear{own}")
            if self["preset"] != "stack" and stack:
                raise ConfigError(
                    f"{who} belongs to the stack preset, not to {self['preset']}: leave one of "
                    "them out"
                )

    def over(self, base: Mapping[str, Any]) -> Config:
        """Return this configuration with what was not given taken from another's values."""
        taken = {k: v for k, v in base.items() if k in SETTINGS and k not in self.given}
        return Config(self.values | taken, dict(self.given))

    def table(self, name: str) -> dict[str, Any]:
        """Return the settings of one table by key."""
        return {key: self.values[key] for key, row in SETTINGS.items() if row.table == name}

    def to_toml(self, notes: Mapping[str, str] | None = None) -> str:
        """Return the configuration as commented TOML that `resolve` reads back.

        Parameters
        ----------
        notes
            Comment lines to put above a key.
        """
        lines: list[str] = []
        text = presets()[self.values["preset"]].read_text(encoding="utf-8")
        head, mark, entries = text.partition(ENTRIES)
        for line in head.splitlines():
            match = re.match(r"(?:# )?([a-z_0-9]+) = ", line)
            if match is None or match[1] not in SETTINGS:
                lines.append(line)
                continue
            key = match[1]
            lines += [f"# {note}" for note in (notes or {}).get(key, "").splitlines()]
            value = self.values[key]
            lines.append(line if value is None else f"{key} = {toml_value(value)}")
            if key == "preset":
                # Behind a table they would belong to it.
                lines += [f"{none} = []" for none in ENTRY_KINDS if self.values[none] == []]
        text = "\n".join(lines) + "\n"
        if not mark:
            return text
        own = _preset(self.values["preset"])
        if all(self.values[key] == own[key] for key in ENTRY_KINDS):
            return text + mark + entries
        keys = entries[: entries.index("\n\n") + 1]
        return (
            text
            + mark
            + keys
            + "".join(
                f"\n[[{key}]]\n" + "".join(f"{k} = {toml_value(v)}\n" for k, v in table.items())
                for key in ENTRY_KINDS
                for table in self.values[key]
            )
        )


def _preset(name: str) -> dict[str, Any]:
    """Return the preset's value of every setting."""
    path = presets()[name]
    values = dict.fromkeys(SETTINGS, None)
    return values | _from_toml(path.read_text(encoding="utf-8"), path.name)


def toml_value(value: Any) -> str:
    """Write one value; a JSON text is a TOML text, apart from DEL, which must be escaped."""
    if isinstance(value, list | tuple):
        items = [toml_value(item) for item in value]
        line = f"[{', '.join(items)}]"
        if len(line) <= 88:
            return line
        return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
