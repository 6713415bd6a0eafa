"""From settings to a source, a learner, and outputs that are safe to write.

Everything that can be refused is refused here, before the first record.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from onlinestack import snapshot
from onlinestack.config import SHARED, Config, ConfigError
from onlinestack.feeds import LabelColumn, LabelFiles
from onlinestack.io.schema import Schema, SchemaError, list_names, missing_label
from onlinestack.io.source import Source, SourceError, open_source
from onlinestack.learner import LinearLearner
from onlinestack.saved import KINDS, ROLES, kept_settings, same_columns, schema_of
from onlinestack.snapshot import SnapshotError
from onlinestack.tasks import TARGETS, task_of
from onlinestack.words import nearest

if TYPE_CHECKING:
    from onlinestack.stacker import OnlineStacker

__all__ = [
    "check_outputs",
    "check_slices",
    "describe",
    "new_learner",
    "open_labels",
    "open_records",
    "unstarted_learner",
]


def describe(config: Config) -> str:
    """Return the configuration as TOML that reruns the run, with the kinds of the columns.

    Parameters
    ----------
    config
        The configuration; its sources, if it has some, are opened to infer the kinds.

    Raises
    ------
    SchemaError, SnapshotError, OSError
        As a run would.
    """
    schema = None
    path = config["resume"] or config["load"]
    if path:
        _, meta = snapshot.load(path)
        schema = schema_of(meta, path)
        config = config.over(kept_settings(config, meta, path))
    if not config["paths"]:
        return config.to_toml()
    with closing(open_records(config, schema, path)) as source:
        schema = source.schema
    made = {f"{schema.time}.hour", f"{schema.time}.weekday"} if schema.time else set()
    for key, kind in KINDS.items():
        config.values[key] = [
            field.name for field in schema.fields if field.kind == kind and field.name not in made
        ]
    if schema.target == "name" and schema.label:
        config.values["categorical"].append(schema.label)
    return config.to_toml()


def open_records(
    config: Config, schema: Schema | None, path: str | None, *, needs_label: bool = False
) -> Source:
    """Open the sources of a configuration, for the schema of the model at ``path`` if any."""
    asked = {**config.table("source"), **config.table("schema"), "needs_label": needs_label}
    asked["columns"] = asked["columns"] or None
    if config["labels"]:
        # They name columns of the files of labels.
        asked |= {"label": None, "positive": None, "label_time": None}
    try:
        task, _ = task_of(config["task"], config["loss"], config["oaa"])
    except ValueError as error:
        raise ConfigError(str(error)) from None
    asked["target"] = TARGETS[task]
    if schema is not None:
        ignored = dict.fromkeys([*schema.ignore, *asked.pop("ignore")])
        asked["schema"] = replace(schema, ignore=tuple(ignored))
        for key in KINDS:
            del asked[key]
    try:
        source = open_source(asked.pop("paths"), **asked)
    except SourceError as error:
        # What an option would put right is a matter of usage, a damaged file is not.
        raise (ConfigError(str(error)) if "--format" in str(error) else error) from None
    except SchemaError as error:
        if path is None or config.given.keys() & ROLES:
            raise
        raise SnapshotError(f"the model {path!r} does not fit: {error}") from None
    if config["names"] and not source.schema.fields:
        source.close()
        raise ConfigError("--names keeps those of columns, and there are none here: leave it out")
    if schema is not None and path is not None:
        try:
            same_columns(source, schema, path)
        except SnapshotError:
            source.close()
            raise
    return source


def open_labels(config: Config, source: Source) -> LabelColumn | LabelFiles | None:
    """Open what labels come from that come later than their records; None where they do not.

    Raises
    ------
    ConfigError
        Where a column is not named that is needed to join or to merge them.
    """
    files, column = config["labels"], config["label_time"]
    if not files and not column:
        for key in ("window", "correct_late"):
            if config[key]:
                raise ConfigError(
                    f"--{key.replace('_', '-')} is for labels that come later: add --labels FILE "
                    "or --label-time A"
                )
        return None
    schema = source.schema
    if not source.names:
        raise ConfigError("labels that come later need columns, and Vowpal Wabbit text has none")
    if schema.time is None:
        raise ConfigError("labels that come later are merged by time: name the column in --time")
    if not files:
        if schema.label is None:
            raise missing_label(source.names)
        return LabelColumn()
    if config["label"] in {field.name for field in schema.fields}:
        raise ConfigError(
            f"the records have a column {config['label']!r} themselves, which would be learned as "
            "a feature beside --labels: leave it out with --ignore"
        )
    if schema.id is None:
        raise ConfigError("labels find their records by id: name the column in --id")
    time = column or schema.time
    asked = {"format": config["format"], "id": schema.id, "time": time, "needs_label": False}
    asked |= {"time_format": config["time_format"]}
    names = open_source(files, **asked)
    try:
        roles = {schema.id, time}
        if config["label"] in names.names:
            asked |= {"label": config["label"], "positive": config["positive"]}
            roles.add(config["label"])
        others = tuple(name for name in names.names if name not in roles)
    finally:
        names.close()
    return LabelFiles(open_source(files, **asked, ignore=others))


def check_outputs(config: Config, *, learning: bool) -> None:
    """Refuse outputs that would overwrite a source or each other, or can not be written."""
    sources = [path for path in (*config["paths"], *config["labels"]) if path != "-"]
    taken = {os.path.realpath(path): "a source" for path in sources}
    for key in ("predictions", "rejects", "save", "report"):
        path = config[key]
        if path is None or path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
            continue
        other = taken.setdefault(os.path.realpath(path), f"--{key}")
        if other != f"--{key}":
            raise ConfigError(f"--{key} {path} would overwrite {other}: give another name")
    for key in ("save", "report"):
        if config[key] and (learning or key != "save"):
            _can_save(f"--{key} {config[key]}", config[key])


def _can_save(what: str, path: str) -> None:
    """Say before hours of learning, not after, that its result can not be saved."""
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{what}: the folder {folder} does not exist: make it first")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{what}: it is a folder: name a file in it")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{what}: the folder {folder} may not be written to")


def check_slices(config: Config, schema: Schema, *, late: bool) -> None:
    """Refuse columns to slice by that the records do not have.

    Raises
    ------
    ConfigError
        Where one is no field, or labels come later than predictions.
    """
    names = [field.name for field in schema.fields]
    for name in config["slice_by"]:
        if late:
            raise ConfigError(
                "--slice-by needs the label in the record, and here labels come later: leave it out"
            )
        if name not in names:
            known = nearest(name, names) or f", known: {list_names(names)}" if names else ""
            raise ConfigError(
                f"--slice-by {name}: the records have no field of that name{known or ' at all'}"
            )


def new_learner(config: Config, schema: Schema) -> LinearLearner | OnlineStacker:
    """Return a started learner with the settings of a configuration."""
    learner = unstarted_learner(config)
    try:
        learner.start(schema)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return learner


def unstarted_learner(config: Config) -> LinearLearner | OnlineStacker:
    """Return a learner with the settings of a configuration."""
    params, labels = config.table("learner"), config.table("labels")
    del labels["labels"]
    if config["preset"] == "stack":
        params = {key: params[key] for key in sorted(SHARED)} | config.table("stack")
        params["half_lives"] = tuple(params["half_lives"])
        params["combiners"] = tuple(params["combiners"] or ()) or None
        params |= {f"{key}s": tuple(config[key]) for key in ("member", "stacker")}
        # Its parts take a while to import.
        from onlinestack.stacker import OnlineStacker

        return OnlineStacker(**params, **labels)
    params["interactions"] = tuple(params["interactions"] or ()) or None
    return LinearLearner(**params, **labels)
