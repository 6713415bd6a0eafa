"""Sources: files and pipes of any format as one run of records."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from onlinestack.io.assemble import assemble
from onlinestack.io.batch import Batch, Position, Reject
from onlinestack.io.reader import Reader, SourceError, ahead, called
from onlinestack.io.schema import (
    Kind,
    Schema,
    SchemaError,
    infer_schema,
    list_names,
    no_column,
)
from onlinestack.words import nearest, nearest_or_all

__all__ = ["FORMATS", "Batch", "Position", "Reject", "Source", "SourceError", "open_source"]

_log = logging.getLogger(__name__)

FORMATS: dict[str, str] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "jsonl",
    ".vw": "vw",
}
"""Format by suffix; each suffix may be followed by ``.gz`` or ``.zst``."""

_ALSO = {
    ".pq": "parquet",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_PREFIX = 1 << 16


class Source:
    """Records of one or several files, in order, as batches; made by `open_source`.

    Iterating reads from the beginning, or from where `seek` was told to, and can be repeated for
    files. Columns are matched by name: a column that a later file lacks is missing there, one it
    has more is ignored with a warning.

    Parameters
    ----------
    paths
        Files, or ``"-"``.
    open_reader
        Opens the file of a path.
    schema
        The part each column plays.
    first
        Readers opened already, by number of their file.
    batch_size
        Most records of a batch.
    needs_label
        Whether a file without the label column is an error.
    own_labels
        Whether records carry labels without a column of them (Vowpal Wabbit text).
    """

    def __init__(
        self,
        paths: Sequence[str],
        open_reader: Callable[[str], Reader],
        schema: Schema,
        first: dict[int, Reader],
        batch_size: int,
        needs_label: bool,
        own_labels: bool = False,
    ) -> None:
        self.paths = tuple(paths)
        self.schema = schema
        self.bytes_done = 0
        """Bytes consumed, as they lie on disk; stays 0 for pipes."""
        self.names: tuple[str, ...] = first[0].names if 0 in first else ()
        """The columns of the first file."""
        self.prepare: Callable[[Batch], None] | None = None
        """What to do with each batch of a file ahead of its turn, in the thread that decodes it."""
        self.gives_way = False
        """Whether threads that decode, Arrow's among them, give way to others of the process."""
        self._open_reader = open_reader
        self._opened = first
        self._batch_size = batch_size
        self._needs_label = needs_label
        self._own_labels = own_labels
        self._start: Position = {"file": 0, "offset": -1, "skip": 0, "record": 0, "row": 0}
        self._warned = False
        weakref.finalize(self, _close, first)

    @property
    def labelled(self) -> bool:
        """Whether records may carry labels."""
        return self.schema.label is not None or self._own_labels

    @property
    def live(self) -> bool:
        """Whether a source is a pipe, whose records are to be answered as they arrive."""
        return any(reader.live for reader in self._opened.values())

    @property
    def size_hint(self) -> int | None:
        """Bytes of all files together, None if a source is a pipe."""
        try:
            sizes = [os.stat(path) for path in self.paths if path != "-"]
        except OSError:
            return None
        if len(sizes) < len(self.paths) or not all(stat.S_ISREG(s.st_mode) for s in sizes):
            return None
        return sum(s.st_size for s in sizes)

    def fingerprint(self) -> list[dict[str, Any]]:
        """Return what tells each file from others: path, size, and hash of its first 64 KiB.

        Size and hash of pipes are None.
        """
        return [_fingerprint(path) for path in self.paths]

    def seek(self, position: Mapping[str, int], skip: int = 0) -> None:
        """Let the next iteration begin at a point reached before.

        Parameters
        ----------
        position
            The ``position`` of a batch of the same source.
        skip
            Records read since, rejected ones counted.

        Raises
        ------
        SourceError
            If the source has no such file; while iterating, if a file ends before the point.
        """
        if not 0 <= position["file"] < len(self.paths):
            raise SourceError(
                f"the position to go on from is in file {position['file'] + 1}, but there are "
                f"{len(self.paths)}; give the same files in the same order."
            )
        self._start = {
            "file": position["file"],
            "offset": position["offset"],
            "skip": position["skip"] + skip,
            "record": position["record"] + skip,
            "row": position["row"] + skip,
        }

    def __iter__(self) -> Iterator[Batch]:
        at = self._start
        row = at["row"] - at["skip"]
        behind = 0
        for i, path in enumerate(self.paths):
            size = 0 if path == "-" else _size(path)
            if i >= at["file"]:
                resumed = i == at["file"] and at["offset"] >= 0
                skip = at["skip"] if resumed else 0
                record = at["record"] - skip if resumed else 0
                before = 0
                for batch, done in self._file(i, at["offset"] if resumed else None):
                    batch.position["file"] = i
                    row, record = self._number(batch, row, record), record + batch.read
                    before, length = done, done - before
                    if skip >= batch.read > 0:
                        skip -= batch.read
                        continue
                    for first in range(skip, batch.read, self._batch_size):
                        last = min(first + self._batch_size, batch.read)
                        self.bytes_done = behind + done - length * (batch.read - last) // batch.read
                        yield batch.part(first, last)
                    skip = 0
                if skip:
                    raise SourceError(
                        f"{called(path)} ends {skip:,} records before the point to go on from; "
                        "give the file that was read before."
                    )
            behind += size
            self.bytes_done = behind

    def _number(self, batch: Batch, row: int, record: int) -> int:
        """Give a batch, whose rows count from 0, its place in the run."""
        batch.position.update({"record": record, "row": row})
        batch.row += row
        batch.begin = row
        batch.rejects = [
            reject._replace(row=reject.row + row, position=reject.position + record)
            for reject in batch.rejects
        ]
        return row + batch.read

    def _file(self, i: int, offset: int | None) -> Iterator[tuple[Batch, int]]:
        reader = self._opened.pop(i, None) or self._open(i)
        self._check(i, reader)
        try:
            wanted = wanted_columns(self.schema)
            work = (
                partial(assemble, job, self.schema, wanted, self.paths[i])
                for job in reader.jobs(wanted, offset)
            )
            if reader.live:
                for decode in work:
                    yield decode()
            else:
                with closing(
                    ahead(map(self._prepared, work), depth=1, give_way=self.gives_way)
                ) as batches:
                    yield from batches
        finally:
            reader.close()

    def _prepared(self, decode: Callable[[], tuple[Batch, int]]) -> Callable[[], tuple[Batch, int]]:
        prepare = self.prepare
        if prepare is None:
            return decode

        def run() -> tuple[Batch, int]:
            batch, done = decode()
            prepare(batch)
            return batch, done

        return run

    def _open(self, i: int) -> Reader:
        return self._open_reader(self.paths[i])

    def _check(self, i: int, reader: Reader) -> None:
        """Refuse a file without the columns that are no features; warn of columns not used."""
        names = reader.names
        if not names:
            return  # an empty file, or Vowpal Wabbit text
        for role, name in self.schema.roles.items():
            if name not in names and (role not in ("label", "label_time") or self._needs_label):
                raise no_column(called(self.paths[i]), name, role, names)
        known = {*wanted_columns(self.schema), *self.schema.ignore, *self.schema.roles.values()}
        extra = [name for name in names if name not in known]
        if extra and not self._warned:
            self._warned = True
            _log.warning(
                "%s: columns that are not in the schema are ignored: %s",
                self.paths[i],
                list_names(extra),
            )

    def close(self) -> None:
        """Close files that were opened and not read to their end."""
        _close(self._opened)

    def check(self) -> None:
        """Look at the columns of every file now, rather than when its turn comes.

        Raises
        ------
        SchemaError
            If a file lacks the label, id, time or weight column.
        """
        for i, path in enumerate(self.paths):
            if i in self._opened:
                self._check(i, self._opened[i])
            elif path != "-" and stat.S_ISREG(os.stat(path).st_mode):
                reader = self._open(i)
                try:
                    self._check(i, reader)
                finally:
                    reader.close()


def wanted_columns(schema: Schema) -> list[str]:
    """Return the columns a reader has to decode: the features first, in order."""
    made = {f"{schema.time}.hour", f"{schema.time}.weekday"} if schema.time else set()
    left_out = {*made, *schema.ignore}
    features = [field.name for field in schema.fields if field.name not in left_out]
    roles = [name for name in schema.roles.values() if name not in features]
    return features + roles


def open_source(
    paths: str | Path | Sequence[str | Path],
    *,
    format: str | None = None,
    label: str | None = None,
    positive: str | None = None,
    time: str | None = None,
    time_format: str | None = None,
    id: str | None = None,
    weight: str | None = None,
    label_time: str | None = None,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    text: Sequence[str] = (),
    ignore: Sequence[str] = (),
    no_header: bool = False,
    columns: Sequence[str] | None = None,
    schema: Schema | None = None,
    target: Literal["click", "number", "class", "raw"] = "click",
    batch_size: int = 1 << 17,
    needs_label: bool = True,
) -> Source:
    r"""Open files or a pipe as one run of records.

    Kinds of columns come from the Arrow schema, from the first 1,000 records of a text file, or
    from the first record of a pipe.

    Parameters
    ----------
    paths
        Files in order, or ``"-"`` for standard input.
    format
        One of the values of ``FORMATS``. Default None: from each file's suffix, and CSV for pipes.
    label, positive, id, time, time_format, weight, label_time
        As in `Schema`. Records of a source without a label column have no label.
    categorical, numeric, text
        Names of columns whose kind is set, not inferred.
    ignore
        Names of columns left out.
    no_header
        Whether CSV files have no header.
    columns
        Names of the columns of files without a header (implies ``no_header``), or the keys of
        JSON lines.
    schema
        The schema of a model to go on with. Roles given here go before its own; kinds are its.
    target
        What labels are. ``"click"``: click or no click; in Vowpal Wabbit text those above 0 are
        clicks. ``"number"``: any finite number. ``"class"``: one of several classes, whole numbers
        from 1 on in a column of numbers and in Vowpal Wabbit text, else names. ``"raw"``, only
        for Vowpal Wabbit text: as written, negative importances included.
    batch_size
        Most records of a batch; results do not depend on it.
    needs_label
        Whether a file without the label column is an error.

    Raises
    ------
    OSError
        If a file is missing, a directory, or may not be read.
    SourceError
        If its format is unknown or wrong.
    SchemaError
        If a name given is no column.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "clicks.csv")
    >>> _ = path.write_text("site,age,click\na,31,1\nb,,0\n")
    >>> source = open_source(path, label="click")
    >>> [(field.name, field.kind) for field in source.schema.fields]
    [('age', 'number'), ('site', 'category')]
    >>> [(batch.label.tolist(), batch.columns[1].to_pylist()) for batch in source]
    [([1.0, 0.0], [b'a', b'b'])]
    """
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    names = [os.fspath(path) for path in listed]
    if not names:
        raise SourceError("no source was given; name a file, or - for standard input.")
    columns = columns or None
    if batch_size < 1:
        raise SourceError(f"batch_size is {batch_size}; give 1 or more.")
    formats = {path: _format(path, format) for path in names}
    kinds = set(formats.values())
    if target not in ("click", "number", "class", "raw"):
        raise SourceError(f"target is {target!r}; give click, number, class or raw.")
    if target == "raw" and kinds != {"vw"}:
        raise SourceError("target 'raw' is for Vowpal Wabbit text; give 'number' or 'class'.")
    if positive is not None and target != "click":
        raise SchemaError(
            f"positive={positive!r} names the label of a click, but labels are read as {target}; "
            "leave positive out."
        )
    if "vw" in kinds and len(kinds) > 1:
        raise SourceError("Vowpal Wabbit text can not be read in one run with other formats.")
    given = {
        "label": label,
        "positive": positive,
        "id": id,
        "time": time,
        "time_format": time_format,
        "weight": weight,
        "label_time": label_time,
    }
    sets = {"categorical": categorical, "numeric": numeric, "text": text, "ignore": ignore}
    open_reader = partial(
        _open_reader, formats=formats, no_header=no_header, columns=columns, target=target
    )
    opened: dict[int, Reader] = {0: open_reader(names[0])}
    if "vw" in kinds:
        for name, value in {**given, **sets}.items():
            if value:
                raise SchemaError(
                    f"{name} names a column, but Vowpal Wabbit text has none: label, weight and "
                    f"tag stand in each line; leave {name} out."
                )
        plain = Schema(target="number" if target == "class" else target)
        return Source(names, open_reader, plain, opened, batch_size, needs_label, True)
    label_target = "click" if target == "raw" else target
    try:
        head = 0
        while not opened[head].names and head + 1 < len(names):
            head += 1
            opened[head] = open_reader(names[head])
        found = opened[head]
        if schema is not None:
            made = _with_roles(schema, given, sets)
        elif not found.names:
            made = infer_schema({}, target=label_target)
            made = replace(made, **given, ignore=tuple(ignore))  # type: ignore[arg-type]
        else:
            made = infer_schema(
                found.kinds(),
                **given,  # type: ignore[arg-type]
                **sets,  # type: ignore[arg-type]
                target=label_target,
                source=called(names[head]),
            )
        source = Source(names, open_reader, made, opened, batch_size, needs_label)
        source.check()
    except BaseException:
        _close(opened)
        raise
    return source


def _close(readers: dict[int, Reader]) -> None:
    while readers:
        readers.popitem()[1].close()


def _with_roles(
    schema: Schema, given: Mapping[str, str | None], sets: Mapping[str, Sequence[str]]
) -> Schema:
    """Return a model's schema with the roles given for this source."""
    fixed = {field.name: field.kind for field in schema.fields}
    kinds: dict[str, Kind] = {"categorical": "category", "numeric": "number", "text": "text"}
    for option, kind in kinds.items():
        for name in sets[option]:
            if fixed.get(name, kind) != kind:
                raise SchemaError(
                    f"{option} names the column {name!r}, which the model knows as "
                    f"{fixed[name]}; kinds are fixed when a model first learns."
                )
    roles = {role: value for role, value in given.items() if value is not None}
    if sets["ignore"]:
        return replace(schema, ignore=tuple(sets["ignore"]), **roles)  # type: ignore[arg-type]
    return replace(schema, **roles)  # type: ignore[arg-type]


def _format(path: str, format: str | None) -> str:
    """Return the format of a path after checking that there is something to read."""
    if path != "-":
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            raise FileNotFoundError(
                f"there is no file {path}{_near_file(path) or '; give an existing one'}"
            ) from None
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(
                f"{path} is a directory; give the files in it, such as {path.rstrip('/')}/*.csv."
            )
    if format is not None:
        if format not in FORMATS.values():
            raise SourceError(f"{format=} is unknown{nearest_or_all(format, FORMATS.values())}")
        return format
    suffixes = Path(path).suffixes
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    suffix = suffixes[-1].lower() if suffixes else ""
    if suffix in FORMATS or suffix in _ALSO:
        return {**FORMATS, **_ALSO}[suffix]
    if path == "-" or not stat.S_ISREG(mode):
        return "csv"
    raise SourceError(
        f"the name {path} does not tell its format; give --format, one of "
        f"{', '.join(FORMATS.values())}."
    )


def _near_file(path: str) -> str:
    try:
        return nearest(os.path.basename(path), os.listdir(os.path.dirname(path) or "."))
    except OSError:
        return ""


def _open_reader(
    path: str,
    *,
    formats: Mapping[str, str],
    no_header: bool,
    columns: Sequence[str] | None,
    target: Literal["click", "number", "class", "raw"],
) -> Reader:
    """Open a file with the reader of its format."""
    format = formats[path]
    try:
        if format in ("csv", "tsv"):
            from onlinestack.io.text import TextReader

            return TextReader(
                path,
                delimiter=b"\t" if format == "tsv" else b",",
                header=not no_header and columns is None,
                columns=columns,
            )
        if format == "jsonl":
            from onlinestack.io.jsonl import JsonReader

            return JsonReader(path, columns=columns)
        if format == "vw":
            from onlinestack.io.vw_reader import VWReader

            return VWReader(path, target)
        from onlinestack.io.arrow import ArrowReader

        return ArrowReader(path, format)
    except OSError as error:
        if error.errno is None:
            raise
        reason = os.strerror(error.errno).lower()
        sentence = f"{path} can not be read ({reason}); check the name and its permissions."
        kind = FileNotFoundError if error.errno == errno.ENOENT else type(error)
        raise kind(sentence) from None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _fingerprint(path: str) -> dict[str, Any]:
    if path == "-" or not stat.S_ISREG(os.stat(path).st_mode):
        return {"path": path, "size": None, "hash": None}
    with open(path, "rb") as file:
        digest = hashlib.blake2b(file.read(_PREFIX), digest_size=16).hexdigest()
    return {"path": path, "size": os.stat(path).st_size, "hash": digest}
