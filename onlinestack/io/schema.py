"""What the columns of a source are: features and their kinds, label, time, id and weight.

Kinds are fixed before the first record is learned and never change within a stream, so that a
value met late can not turn a column of numbers into a column of words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import pyarrow as pa

from onlinestack.spare import later
from onlinestack.words import nearest, nearest_or_all

pc = later("pyarrow.compute")

__all__ = [
    "Field",
    "Kind",
    "Schema",
    "SchemaError",
    "Target",
    "arrow_kind",
    "infer_schema",
    "list_names",
    "missing_label",
    "no_column",
    "text_kind",
    "unique_names",
]

Kind = Literal["number", "category", "text"]
Target = Literal["click", "number", "name", "raw"]

# A number as a program prints it. Everything else that could be read as one stays a word: 007,
# 1e5, 0x1f, and digit strings too long for a float to hold, which are identifiers. The exponent
# needs its sign and two digits (1e-05), as printed for very small and very large values.
_WHOLE = r"[+-]?(0|[1-9][0-9]{0,14})"
_PLAIN = rf"({_WHOLE}(\.[0-9]*)?|[+-]?\.[0-9]+|[+-]?[0-9](\.[0-9]+)?[eE][+-][0-9]{{2,3}})"
_NUMBER = rf"^[ \t]*{_PLAIN}[ \t]*$"
_MISSING = r"^[ \t]*([nN][aA][nN])?[ \t]*$"


class SchemaError(ValueError):
    """Columns that do not fit what was asked of them; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Field:
    """One feature column of a source.

    Parameters
    ----------
    name
        Name of the column.
    kind
        ``"number"``, ``"category"`` (one value a record) or ``"text"`` (tokens parted by spaces, or
        a list: as many values as there are).
    """

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Schema:
    """The part every column of a source plays; the same for each file of a run.

    Parameters
    ----------
    fields
        The features in order of their names. A time column adds the two fields ``TIME.hour`` and
        ``TIME.weekday``.
    label
        Name of the label column, None when records carry no label.
    positive
        The label value that is a click; None for the usual spellings of 0 and 1.
    id
        Name of the column that identifies a record.
    time
        Name of the time column.
    time_format
        How to read it, as for ``strptime``; None for epoch seconds, milliseconds and ISO 8601.
    weight
        Name of the column of importance weights.
    ignore
        Names of columns left out.
    target
        What labels are: ``"click"``, any ``"number"``, the ``"name"`` of a class, or, in Vowpal
        Wabbit text, ``"raw"``: whatever was written.
    label_time
        Name of the column with the time at which the label became known, where that was later.

    Examples
    --------
    >>> schema = Schema((Field("age", "number"), Field("site", "category")), label="click")
    >>> Schema.from_dict(schema.to_dict()) == schema
    True
    """

    fields: tuple[Field, ...] = ()
    label: str | None = None
    positive: str | None = None
    id: str | None = None
    time: str | None = None
    time_format: str | None = None
    weight: str | None = None
    ignore: tuple[str, ...] = ()
    target: Target = "click"
    label_time: str | None = None

    @property
    def roles(self) -> dict[str, str]:
        """Names of the columns that are no features, by role: label, id, time and the like."""
        names = ("label", "id", "time", "weight", "label_time")
        roles = {role: getattr(self, role) for role in names}
        return {role: name for role, name in roles.items() if name is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as JSON-able values."""
        values = asdict(self)
        values["fields"] = {field.name: field.kind for field in self.fields}
        values["ignore"] = list(self.ignore)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schema:
        """Return the schema that ``to_dict`` was asked of.

        Raises
        ------
        SchemaError
            If a key or a kind is unknown.
        """
        known = set(cls.__slots__)
        for key in values:
            if key not in known:
                hint = nearest_or_all(key, known)
                raise SchemaError(f"the schema has the unknown key {key!r}{hint}")
        fields = dict(values.get("fields", {}))
        for name, kind in fields.items():
            if kind not in get_args(Kind):
                hint = nearest_or_all(str(kind), get_args(Kind))
                raise SchemaError(f"field {name!r} has the unknown kind {kind!r}{hint}")
        target = values.get("target", "click")
        if target not in get_args(Target):
            hint = nearest_or_all(str(target), get_args(Target))
            raise SchemaError(f"target={target!r} is unknown{hint}")
        ordered = tuple(Field(name, fields[name]) for name in sorted(fields))
        rest = {key: value for key, value in values.items() if key != "fields"}
        return cls(ordered, **{**rest, "ignore": tuple(rest.get("ignore", ()))})


def list_names(names: Iterable[str], limit: int = 20) -> str:
    """Return names as a phrase for an error message, the first ``limit`` of them.

    Examples
    --------
    >>> list_names(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    names = list(names)
    phrase = ", ".join(names[:limit]) or "none"
    return phrase if len(names) <= limit else f"{phrase} and {len(names) - limit:,} more"


def missing_label(names: Iterable[str]) -> SchemaError:
    """Return the error for a command that needs labels and was told of no label column."""
    return SchemaError(
        f"no label column was given; name one with --label, the columns are {list_names(names)}."
    )


def no_column(source: str, name: str, role: str, names: Iterable[str]) -> SchemaError:
    """Return the error for a column that a source does not have."""
    names = list(names)
    hint = nearest(name, names) or f"; its columns are {list_names(names)}"
    return SchemaError(f"{source} has no column {name!r}, given as {role}{hint}")


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return column names that are not empty and differ from each other.

    A column without a name is called by its number (``c3``); the second column called ``a`` is
    called ``a.2``.

    Examples
    --------
    >>> unique_names(["a", "", "a", "a"])
    ('a', 'c2', 'a.2', 'a.3')
    """
    taken = set(names)
    result: list[str] = []
    used: set[str] = set()
    for place, given in enumerate(names, 1):
        name = base = given or f"c{place}"
        number = 2
        while name in used or (name in taken and name != given):
            name, number = f"{base}.{number}", number + 1
        used.add(name)
        result.append(name)
    return tuple(result)


def arrow_kind(type_: pa.DataType) -> Kind | None:
    """Return the kind of a column of an Arrow type, None for types that hold no feature.

    Examples
    --------
    >>> arrow_kind(pa.int16()), arrow_kind(pa.bool_()), arrow_kind(pa.list_(pa.string()))
    ('number', 'category', 'text')
    """
    t = pa.types
    if t.is_integer(type_) or t.is_floating(type_) or t.is_decimal(type_):
        return "number"
    lists: tuple[Callable[[pa.DataType], bool], ...] = (
        t.is_list,
        t.is_large_list,
        t.is_fixed_size_list,
        t.is_list_view,
        t.is_large_list_view,
    )
    if any(check(type_) for check in lists):
        return "text" if arrow_kind(type_.value_type) in ("number", "category") else None
    if t.is_dictionary(type_):
        return "category" if arrow_kind(type_.value_type) in ("number", "category") else None
    if t.is_struct(type_) or t.is_map(type_) or t.is_union(type_):
        return None
    return "category"


def text_kind(values: pa.Array) -> Kind:
    """Return the kind of a column of text from its first values.

    It is a number only if every value that is not missing is a number as programs print them;
    identifiers such as 007, 1e5, 0x1f or twenty digits are categories, and so is an empty column.

    Parameters
    ----------
    values
        String or binary array of any length.

    Examples
    --------
    >>> [text_kind(pa.array(v)) for v in (["1", "-2.5", ""], ["7", "007"], ["1e5"], [""])]
    ['number', 'category', 'category', 'category']
    """
    values = pc.unique(values).drop_null()
    number = pc.match_substring_regex(values, pattern=_NUMBER)
    if not pc.any(number).as_py():
        return "category"
    missing = pc.match_substring_regex(values, pattern=_MISSING)
    return "number" if pc.all(pc.or_(number, missing)).as_py() else "category"


def infer_schema(
    kinds: Mapping[str, Kind],
    *,
    label: str | None = None,
    positive: str | None = None,
    id: str | None = None,
    time: str | None = None,
    time_format: str | None = None,
    weight: str | None = None,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    text: Sequence[str] = (),
    ignore: Sequence[str] = (),
    target: Literal["click", "number", "class"] = "click",
    label_time: str | None = None,
    source: str = "the source",
) -> Schema:
    """Return the schema of columns whose kinds were inferred, after the user's own word.

    Parameters
    ----------
    kinds
        Inferred kind of every column.
    label, positive, id, time, time_format, weight, label_time
        As in `Schema`.
    categorical, numeric, text
        Names of columns whose kind is set, not inferred.
    ignore
        Names of columns left out.
    target
        How the label is read; ``"class"`` is ``"number"`` for a column of numbers, else ``"name"``,
        and the label may be listed in ``categorical``, too.
    source
        What to call the source in an error.

    Raises
    ------
    SchemaError
        If a name is no column (the nearest one is suggested), or has two parts to play.

    Examples
    --------
    >>> schema = infer_schema({"y": "number", "b": "number", "a": "category"}, label="y")
    >>> [(field.name, field.kind) for field in schema.fields]
    [('a', 'category'), ('b', 'number')]
    """
    schema = Schema(
        (), label, positive, id, time, time_format, weight, tuple(ignore), label_time=label_time
    )
    wanted: dict[str, Kind] = {}
    part: dict[str, str] = {}
    for role, name in schema.roles.items():
        if name in part:
            raise SchemaError(f"column {name!r} can not be both {part[name]} and {role}.")
        part[name] = role
    sets: tuple[tuple[Kind, Sequence[str]], ...] = (
        ("category", categorical),
        ("number", numeric),
        ("text", text),
    )
    for kind, names in sets:
        for name in names:
            if wanted.setdefault(name, kind) != kind:
                raise SchemaError(f"column {name!r} can not be both {wanted[name]} and {kind}.")
            part.setdefault(name, kind)
    part.update((name, "ignore") for name in ignore if name not in part)
    for name, role in part.items():
        if name not in kinds:
            raise no_column(source, name, role, kinds)
    left_out = {*schema.roles.values(), *ignore}
    features = {n: wanted.get(n, kind) for n, kind in kinds.items() if n not in left_out}
    if time is not None:
        for name in (f"{time}.hour", f"{time}.weekday"):
            if name in features:
                raise SchemaError(
                    f"column {name!r} bears the name of a field made from the time column "
                    f"{time!r}; rename it or leave it out with --ignore."
                )
            features[name] = "category"
    fields = tuple(Field(name, features[name]) for name in sorted(features))
    labels: Target = "number"
    if target == "click" or (
        target == "class" and label and wanted.get(label, kinds[label]) != "number"
    ):
        labels = "click" if target == "click" else "name"
    return replace(schema, fields=fields, target=labels)
