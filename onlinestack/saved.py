"""What a run keeps in its snapshot beside the learner, and whether a snapshot fits a run.

A snapshot made by a run holds, as one JSON object: the learner's own, the schema, the settings
that matter for what is learned, the counts, the sources with the place in them, and the places
of the sinks. No times: equal runs make equal files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onlinestack.config import Config
from onlinestack.io.schema import Schema, SchemaError
from onlinestack.settings import SETTINGS
from onlinestack.snapshot import SnapshotError

__all__ = ["kept_settings", "same_sources", "schema_of", "settings_of"]

FORGOTTEN = {"load", "resume", "save", "save_every", "limit", "json", "quiet", "verbose"}
"""Settings that say how to run, not what is learned."""

ROLES = ("label", "positive", "id", "time", "time_format", "weight")

KINDS = {"categorical": "category", "numeric": "number", "text": "text"}


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings that a snapshot keeps."""
    return {key: value for key, value in config.values.items() if key not in FORGOTTEN}


def schema_of(meta: Any, path: str) -> Schema | None:
    """Return the schema a model was learned with; None for one that met plain dicts or VW text.

    Raises
    ------
    SnapshotError
        When the snapshot holds no model.
    """
    learner = meta.get("learner") if isinstance(meta, dict) else None
    if not isinstance(learner, dict) or learner.get("kind") != "LinearLearner":
        raise SnapshotError(f"{path!r} holds no linear learner; give a file saved by learn -f")
    try:
        return None if learner["schema"] is None else Schema.from_dict(learner["schema"])
    except SchemaError as error:
        raise SnapshotError(f"{path!r} does not fit this version: {error}") from None


def kept_settings(config: Config, meta: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the settings a run takes over from a snapshot.

    A resumed run takes all it was not given; a run that only loads a model takes what the model
    was made with.

    Raises
    ------
    SnapshotError
        When a setting given now contradicts the model.
    """
    params = meta["learner"]["params"]
    before = dict(meta.get("config", {}))
    before |= {key: value for key, value in params.items() if key in SETTINGS}
    schema = schema_of(meta, path) or Schema()
    for key in ROLES:
        before.setdefault(key, getattr(schema, key))
    for key, who in config.given.items():
        table = SETTINGS[key].table
        if table == "schema":
            problem = _schema_problem(key, config[key], schema)
        elif (table == "learner" or key == "preset") and config[key] != before.get(key):
            problem = f"was made with {key} {_said(before.get(key))}, not {_said(config[key])}"
        else:
            continue
        if problem:
            raise SnapshotError(f"the model {path!r} {problem}: leave out {who} or start anew")
    if config["resume"]:
        return before
    tables = ("learner", "schema", "")
    return {k: v for k, v in before.items() if k in SETTINGS and SETTINGS[k].table in tables}


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value) or "none"
    return "none" if value is None else str(value)


def _schema_problem(key: str, value: Any, schema: Schema) -> str | None:
    """Say how a setting of the schema contradicts the model's schema, None when it does not."""
    kinds = {field.name: field.kind for field in schema.fields}
    if key in KINDS:
        for name in value:
            if kinds.get(name, KINDS[key]) != KINDS[key]:
                return f"reads column {name!r} as {kinds[name]}, not as {KINDS[key]}"
        return None
    if key == "ignore":
        used = [name for name in value if name in kinds]
        return f"learned column {used[0]!r}" if used else None
    before = getattr(schema, key)
    return None if before == value else f"was made with {key} {_said(before)}, not {value}"


def same_sources(
    now: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]], path: str
) -> None:
    """Check that the sources begin with those of a snapshot; more may follow, and files may grow.

    Raises
    ------
    SnapshotError
        When a source is missing, another one, or shorter than it was.
    """
    for place, old in enumerate(before):
        if place >= len(now):
            raise SnapshotError(
                f"the run of {path!r} read {len(before)} sources, {len(now)} were given: "
                f"{old['path']!r} is missing"
            )
        new = now[place]
        if new["path"] != old["path"]:
            raise SnapshotError(
                f"the run of {path!r} read {old['path']!r} where {new['path']!r} is given; "
                "use -i to go on learning from other sources"
            )
