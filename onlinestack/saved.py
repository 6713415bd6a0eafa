"""What a run keeps in its snapshot beside the learner, and whether a snapshot fits a run.

A snapshot made by a run holds, as one JSON object: the learner's own, the schema, the settings
that matter for what is learned, the counts, the sources with the place in them, and the places
of the sinks. No times: equal runs make equal files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from onlinestack.config import Config
from onlinestack.io.schema import Schema, SchemaError, list_names
from onlinestack.io.source import Source, wanted_columns
from onlinestack.recipe import entries_of
from onlinestack.settings import SETTINGS
from onlinestack.snapshot import SnapshotError
from onlinestack.tasks import task_of

__all__ = [
    "KINDS",
    "ROLES",
    "kept_settings",
    "same_columns",
    "same_sources",
    "schema_of",
    "settings_of",
]

FORGOTTEN = {
    *("load", "resume", "save", "save_every", "limit"),
    *("report", "slice_by", "dashboard", "port", "track", "json", "quiet", "verbose"),
}
"""Settings that say how to run, not what is learned."""

ROLES = ("label", "positive", "id", "time", "time_format", "weight", "label_time")

OF_LABELS = ("label", "positive", "label_time")
"""Settings that are about the files of labels, where there are some."""

COLUMNS = ("label", "id", "weight")

ENTRIES = ("member", "stacker")
"""Settings that are lists of experts."""

LEARNERS = {"LinearLearner": "linear", "LinearRegressor": "linear", "OnlineStacker": "stack"}
"""The learners that a run may go on with, and their presets."""

PREFIX = 1 << 16
"""Bytes of a file that its fingerprint hashes."""

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
    if not isinstance(learner, dict) or learner.get("kind") not in LEARNERS:
        raise SnapshotError(f"{path!r} holds no learner; give a file saved by learn -f")
    try:
        return None if learner["schema"] is None else Schema.from_dict(learner["schema"])
    except SchemaError as error:
        raise SnapshotError(
            f"{path!r} does not fit this version ({error}); use the one that saved it, or start "
            "anew"
        ) from None


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
    before["preset"] = LEARNERS[meta["learner"]["kind"]]
    if meta["learner"]["kind"] == "LinearRegressor":
        before["task"] = "regression"
    if before["preset"] == "stack":
        for key in ENTRIES:
            before.setdefault(key, params[f"{key}s"])
        made = dict(before)
    else:
        before["interactions"] = before.get("interactions") or []
        made = dict(before)
        made["task"], made["loss"] = task_of(*(before.get(key) for key in ("task", "loss", "oaa")))
    schema = schema_of(meta, path) or Schema()
    for key in ROLES:
        before.setdefault(key, getattr(schema, key))
    for key, who in config.given.items():
        table = SETTINGS[key].table
        if config["labels"] and key in OF_LABELS:
            continue
        if table == "schema":
            problem = _schema_problem(key, config[key], schema, bool(config["resume"]))
        elif key in ENTRIES:
            problem = _entry_problem(key, config[key], made.get(key))
        elif (table in ("learner", "stack", "labels", "") and key != "labels") and config[
            key
        ] != made.get(key):
            problem = f"was made with {key} {_said(made.get(key))}, not {_said(config[key])}"
        else:
            continue
        if problem:
            raise SnapshotError(f"the model {path!r} {problem}: leave out {who} or start anew")
    if config["resume"]:
        return before
    tables = ("learner", "stack", "schema", "labels", "")
    kept = {k: v for k, v in before.items() if k in SETTINGS and SETTINGS[k].table in tables}
    kept.pop("labels", None)
    return kept


def _said(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _entry_problem(key: str, now: Any, before: Any) -> str | None:
    """Say how given entries contradict the model's, None when they do not."""
    if before is None:
        return f"has no {key}s"
    ours, theirs = ({entry.name: entry for entry in entries_of(t, key)} for t in (now, before))
    if list(ours) != list(theirs):
        return f"was made with the {key}s {_said(list(theirs))}, not {_said(list(ours))}"
    other = [name for name, entry in ours.items() if entry != theirs[name]]
    return f"was made with another {key} {other[0]!r}" if other else None


def _schema_problem(key: str, value: Any, schema: Schema, resumed: bool) -> str | None:
    """Say how a setting of the schema contradicts the model's schema, None when it does not."""
    kinds = {field.name: field.kind for field in schema.fields}
    if key in KINDS:
        for name in value:
            if kinds.get(name, KINDS[key]) != KINDS[key]:
                return f"reads column {name!r} as {kinds[name]}, not as {KINDS[key]}"
        return None
    if key == "ignore":
        used = [name for name in value if name in kinds]
        return f"learned from column {used[0]!r}" if used else None
    before = getattr(schema, key)
    if before == value:
        return None
    # The parts of columns that are no features may change from source to source. The time is
    # one: hour and weekday are learned.
    if resumed or key == "time":
        return f"was made with {key} {_said(before)}, not {value}"
    return f"learned from column {value!r}" if key in COLUMNS and value in kinds else None


def same_columns(source: Source, schema: Schema, path: str) -> None:
    """Check that a source has the columns a model knows, and no others.

    Raises
    ------
    SnapshotError
        When it has not; the sentence names the columns.
    """
    known = set(wanted_columns(schema)) - set(schema.roles.values())
    if not source.names:
        if known and not source.schema.fields:
            raise SnapshotError(
                f"the model {path!r} learned columns ({list_names(sorted(known))}), and "
                "Vowpal Wabbit text has none: give a source with these columns"
            )
        return
    own = source.schema
    there = set(source.names) - set(own.roles.values()) - set(own.ignore)
    missing, more = sorted(known - there), sorted(there - known - set(schema.roles.values()))
    if missing:
        but = f" but {list_names(more)}" if more else ""
        raise SnapshotError(
            f"{source.paths[0]} lacks columns that the model {path!r} learned from: "
            f"{list_names(missing)}; it has{but or ' no others'}: add them or start a new model"
        )
    if more:
        raise SnapshotError(
            f"{source.paths[0]} has columns that the model {path!r} does not know: "
            f"{list_names(more)}; leave them out with --ignore or start a new model"
        )


def same_sources(
    now: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]], path: str
) -> None:
    """Check that the sources begin with those of a snapshot; more may follow, and files may grow.

    Parameters
    ----------
    now, before
        Fingerprints of the sources, in order.
    path
        The snapshot.

    Raises
    ------
    SnapshotError
        When a source is missing, another one, or shorter than it was.
    """
    if len(now) < len(before):
        raise SnapshotError(
            f"the run of {path!r} read {len(before)} sources and {len(now)} were given: give all "
            "of them, in the same order"
        )
    for old, new in zip(before, now, strict=False):
        name = old["path"]
        if new["path"] != name:
            raise SnapshotError(
                f"the run of {path!r} read {name} where {new['path']} is given: give the same "
                "sources to --resume, or use -i to go on learning from others"
            )
        if old["size"] is None:
            continue
        if new["size"] is None or new["size"] < old["size"]:
            raise SnapshotError(
                f"{name} has shrunk from {old['size']:,} to {new['size'] or 0:,} bytes since "
                f"{path!r} was saved: give the file that was read, or use -i"
            )
        if new["hash"] != old["hash"] and not _began_as(name, old):
            raise SnapshotError(
                f"{name} begins otherwise than when {path!r} was saved: give the file that was "
                "read, or use -i"
            )


def _began_as(path: str, old: Mapping[str, Any]) -> bool:
    """Tell whether a file that has grown still begins with what a short file once was."""
    if old["size"] >= PREFIX:
        return False
    with open(path, "rb") as file:
        begin = file.read(old["size"])
    return bool(hashlib.blake2b(begin, digest_size=16).hexdigest() == old["hash"])
