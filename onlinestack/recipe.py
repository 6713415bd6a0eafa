"""The recipe of a stack: its members and stackers, as entries of a TOML file or of Python dicts.

An entry is a table of keys and values; its ``kind`` says what it makes. What an entry leaves out
has the default stated here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from onlinestack.words import nearest_or_all

__all__ = [
    "COMBINERS",
    "KINDS",
    "MEMBERS",
    "STACKERS",
    "TYPE_NAMES",
    "Bits",
    "Entry",
    "Factorisation",
    "Foreign",
    "Linear",
    "Newton",
    "Recipe",
    "RecipeError",
    "Trees",
    "combiners_of",
    "entries_of",
    "table_of",
]


MOST_BITS = 32
"""Most bits of an index of a weight, as in the linear learner."""
LARGEST = 3.4e38
"""Near the largest number that learners compute with."""


class RecipeError(ValueError):
    """An entry that is unknown, incomplete, or does not go with another."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear learner with logistic loss; a stacker where it reads scores (``s``).

    Parameters
    ----------
    name
        Its name in the league table.
    reads
        Letters of the namespaces it reads by themselves: f (hashed fields), c (click-rate
        statistics), l (leaves of trees), t (those of micro-trees), s (scores; stackers only).
    interactions
        Namespaces to multiply on the fly: ``ff`` is every pair of fields, ``fs`` each with a score.
    learning_rate
        Learning rate.
    bits
        Base-2 logarithm of the number of its weights; 0 takes the stack's.
    power_t
        Power of the decay of the learning rate.
    l1, l2
        Regularisation.
    constant
        Whether there is a weight that every record shares.
    half_life
        Labelled records that have a feature until half of what its adaptive sum of squared
        gradients holds is forgotten, so that its steps never become very short; 0 for never.
    """

    name: str
    reads: str = "f"
    interactions: tuple[str, ...] = ()
    learning_rate: float = 0.5
    bits: int = 0
    power_t: float = 0.5
    l1: float = 0.0
    l2: float = 0.0
    constant: bool = True
    half_life: float = 0.0

    def __post_init__(self) -> None:
        where = f" of {self.name!r}"
        _within(f"bits{where}", self.bits, 0, MOST_BITS)
        for key in ("learning_rate", "power_t", "l1", "l2", "half_life"):
            _within(f"{key}{where}", getattr(self, key), 0, LARGEST)

    @property
    def letters(self) -> set[str]:
        """Letters of all namespaces it reads, alone or in interactions."""
        return set(self.reads).union(*self.interactions)


@dataclass(frozen=True, slots=True)
class Trees:
    """Boosted trees, trained again and again on the window of records learned last.

    Parameters
    ----------
    name
        Its name in the league table.
    base
        Member whose margin the trees start from, so that they learn what it leaves over.
    inputs
        Members whose margins the trees read beside numbers and statistics.
    rows
        Records of its own, shorter window; 0 takes all of the common one.
    span
        Seconds of stream time after which it is trained again; 0 counts records instead.
    drift
        Whether it is also trained again when its loss rises.
    leaves
        Whether its leaves are namespace ``l``; of one entry at most.
    depth
        Most splits from root to leaf, 1 to 16.
    eta
        Learning rate, above 0 and at most 1.
    rounds
        Trees of a generation; with early stopping, the most.
    subsample, colsample
        Shares of rows and columns that each tree sees, above 0 and at most 1.
    min_child_weight
        Least sum of p(1-p) in a leaf, weights included.
    early_stopping
        Stop when the loss on the newest rows has not improved for so many rounds; 0 for never.
    """

    name: str
    base: str = ""
    inputs: tuple[str, ...] = ()
    rows: int = 0
    span: float = 0.0
    drift: bool = False
    leaves: bool = False
    depth: int = 6
    eta: float = 0.08
    rounds: int = 60
    subsample: float = 0.8
    colsample: float = 0.3
    min_child_weight: float = 40.0
    early_stopping: int = 0


@dataclass(frozen=True, slots=True)
class Bits:
    """A linear learner over random bits of numbers and statistics (namespace ``r``).

    Parameters
    ----------
    name
        Its name in the league table.
    learning_rate
        Learning rate, in units that do not depend on the number of bits.
    l2
        Penalty on the squares of the weights.
    """

    name: str
    learning_rate: float = 1.4
    l2: float = 0.003


@dataclass(frozen=True, slots=True)
class Factorisation:
    """Field-aware factorisation of the hashed fields.

    All such members of a stack share one walk.

    Parameters
    ----------
    name
        Its name in the league table.
    learning_rate
        Its rate.
    """

    name: str
    learning_rate: float = 0.25


@dataclass(frozen=True, slots=True)
class Newton:
    """A linear learner over the members' scores that takes Newton's steps: a stacker.

    Parameters
    ----------
    name
        Its name in the league table.
    half_life
        Labelled records after which what was learned counts half; inf for ever.
    trust
        How sure the start, the plain mean, is of itself: the inverse variance of each weight.
    """

    name: str
    half_life: float = 30_000.0
    trust: float = 30.0

    def __post_init__(self) -> None:
        _within(f"half_life of {self.name!r}", self.half_life, 1, math.inf)
        _within(f"trust of {self.name!r}", self.trust, 1e-6, LARGEST)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A member that is an object of the caller's, from Python only.

    Parameters
    ----------
    name
        Its name in the league table.
    model
        A classifier of river; or a part, with ``run``, ``state`` and ``restore``, that leaves the
        margins of the rows it predicted in ``raw``. The stack works with a copy.
    """

    name: str
    model: Any

    def __post_init__(self) -> None:
        if not callable(getattr(self.model, "learn_one", getattr(self.model, "run", None))):
            raise RecipeError(
                f"model of {self.name!r} is {self.model!r}; give a river classifier, or an object "
                "with run, state and restore"
            )


Entry = Linear | Trees | Bits | Factorisation | Newton | Foreign
KINDS: dict[str, type[Entry]] = {
    "linear": Linear,
    "trees": Trees,
    "bits": Bits,
    "factorisation": Factorisation,
    "newton": Newton,
}
"""What an entry can make, by its ``kind``."""
COMBINERS = ("arithmetic", "majority", "weighted", "rank", "best")
"""Combiners that can be judged beside the mixture, in the order of the league table."""
TYPE_NAMES = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple[str, ...]": "a list of texts",
}
"""What the values of an entry are, by the type of the field."""
STACKERS = ("linear", "newton")
"""Kinds that stackers can be."""
MEMBERS = tuple(kind for kind in KINDS if kind != "newton")
"""Kinds that members can be."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a stack is made of.

    Parameters
    ----------
    members
        What gives scores from the record.
    stackers
        Learners over the members' scores; they start as the plain mean.
    bits
        Base-2 logarithm of the number of weights of linear learners that do not say.
    fields
        Field slots: fields that have click-rate statistics.
    columns
        Most columns that trees read, about.
    half_lives
        Half-lives of the statistics, in labelled records.
    prior
        Records that the overall click rate counts for in each statistic.
    random_bits
        Random bits, for members that read them.
    micro_trees
        Micro-trees, for entries that read their leaves (``t``).
    share, largest_weight
        As in `Mixture`: alpha and largest.
    combiners
        Names of combiners to judge beside the mixture.
    window_rows, window_bytes
        Records that trees are trained on, and the memory these may take.
    train_first, train_every
        Labelled records at which trees are trained first, and between trainings at last.
    train_lag
        Labelled records between a training's cut and its service.
    train_columns
        Columns that are binned for a training; 0 for all.
    train_threads, background
        Threads of a training, and whether the stream goes on beside it.
    max_bin
        Bins of a column in training.
    seed
        Seed of all that is random.
    names
        Whether the encoder keeps names of features.

    Raises
    ------
    RecipeError
        Where entries do not go together.
    """

    members: tuple[Entry, ...]
    stackers: tuple[Linear | Newton, ...]
    bits: int = 18
    fields: int = 40
    columns: int = 300
    half_lives: tuple[float, ...] = (2.0, 32.0, 256.0, 2048.0, 16384.0, math.inf)
    prior: float = 3.0
    random_bits: int = 1024
    micro_trees: int = 1024
    share: float = 1e-4
    largest_weight: float = 1.0
    combiners: tuple[str, ...] = ()
    window_rows: int = 100_000
    window_bytes: int = 2**29
    train_first: int = 1000
    train_every: int = 20_000
    train_lag: int = 4096
    train_columns: int = 64
    train_threads: int = 2
    max_bin: int = 64
    background: bool = True
    seed: int = 0
    names: bool = False

    def __post_init__(self) -> None:
        _within("bits", self.bits, 1, MOST_BITS)
        if not self.members:
            raise RecipeError("a stack needs members; give at least one")
        names = [entry.name for entry in self.members]
        for entry in (*self.members, *self.stackers):
            if isinstance(entry, Linear):
                self._check_letters(entry, entry in self.stackers)
            if not isinstance(entry, Trees):
                continue
            for name in (entry.base, *entry.inputs):
                if name and name not in names:
                    raise RecipeError(
                        f"{entry.name!r} reads the margin of {name!r}, which is no member"
                        f"{nearest_or_all(name, names)}"
                    )
        if sum(entry.leaves for entry in self.trees) > 1:
            raise RecipeError("several members give leaves; let one of them be namespace l")
        for name in (*(entry.name for entry in self.stackers), *self.combiners):
            if name in names:
                raise RecipeError(f"the name {name!r} is taken twice; give each its own")
            names.append(name)

    def _check_letters(self, entry: Linear, stacker: bool) -> None:
        letters = entry.letters
        known = {"f", "c", "t"} | ({"s"} if stacker else set())
        if any(other.leaves for other in self.trees):
            known.add("l")
        for letter in sorted(letters - known):
            why = "stackers read scores, members make them" if letter == "s" else "nothing fills it"
            raise RecipeError(
                f"{entry.name!r} reads namespace {letter!r}, but {why}; known here: "
                f"{', '.join(sorted(known))}"
            )

    def read(self, letter: str) -> bool:
        """Tell whether an entry reads a namespace."""
        entries = (*self.members, *self.stackers)
        return any(isinstance(entry, Linear) and letter in entry.letters for entry in entries)

    @property
    def trees(self) -> tuple[Trees, ...]:
        """The members that are boosted trees."""
        return tuple(entry for entry in self.members if isinstance(entry, Trees))


def entries_of(
    tables: Sequence[Mapping[str, Any]], where: str, kinds: Sequence[str] = MEMBERS
) -> list[Entry]:
    """Return the entries that tables describe, checked.

    Parameters
    ----------
    tables
        Keys and values of each entry.
    where
        What they are, for errors: "member" or "stacker".
    kinds
        Kinds allowed.

    Raises
    ------
    RecipeError
        For an unknown kind or key, a value of the wrong type, a missing or repeated name.

    Examples
    --------
    >>> entries_of([{"name": "pairs", "interactions": ["ff"]}], "member")[0].interactions
    ('ff',)
    """
    entries: list[Entry] = []
    for number, table in enumerate(tables, 1):
        here = f"{where} {table.get('name') or number}"
        values = dict(table)
        kind = values.pop("kind", "linear")
        if kind not in kinds:
            hint = nearest_or_all(str(kind), kinds)
            raise RecipeError(f"kind={kind!r} of {here} is unknown{hint}")
        made = Foreign if "model" in values and tuple(kinds) != STACKERS else KINDS[kind]
        known = {field.name: field for field in fields(made)}
        for key, value in values.items():
            if key not in known:
                raise RecipeError(f"unknown key {key!r} in {here}{nearest_or_all(str(key), known)}")
            values[key] = _typed(value, str(known[key].type), f"{key} of {here}")
        if not values.get("name"):
            raise RecipeError(f"{here} has no name; give it one for the league table")
        if any(entry.name == values["name"] for entry in entries):
            raise RecipeError(f"the name {values['name']!r} is taken twice; give each its own")
        entries.append(made(**values))
    return entries


def combiners_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the combiners that are named, checked and in the order of the league table.

    Parameters
    ----------
    names
        Names of combiners, or "all".

    Raises
    ------
    RecipeError
        For an unknown name.

    Examples
    --------
    >>> combiners_of(["rank", "arithmetic"])
    ('arithmetic', 'rank')
    """
    known = ("all", *COMBINERS)
    for name in names:
        if name not in known:
            raise RecipeError(f"combiner {name!r} is unknown{nearest_or_all(name, known)}")
    return tuple(name for name in COMBINERS if name in names or "all" in names)


def table_of(entry: Entry) -> dict[str, Any]:
    """Return the table that an entry was made from, without what is left at its default.

    Examples
    --------
    >>> table_of(Linear("fast", learning_rate=2.0))
    {'name': 'fast', 'kind': 'linear', 'learning_rate': 2.0}
    """
    kind = next(kind for kind, made in KINDS.items() if type(entry) is made)
    given = asdict(entry)
    for field in fields(entry):
        if field.default is not MISSING and given[field.name] == field.default:
            del given[field.name]
    name = given.pop("name")
    values = {key: list(v) if isinstance(v, tuple) else v for key, v in given.items()}
    return {"name": name, "kind": kind, **values}


def _within(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise RecipeError(f"{what} is out of range: {value!r}; give a number from {low} to {high}")


def _typed(value: Any, type_name: str, where: str) -> Any:
    """Return a value as the type of its field, or say what is wrong with it."""
    if type_name == "Any":
        return value
    if type_name == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type_name == "tuple[str, ...]":
        value = [value] if isinstance(value, str) else value
        if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
            return tuple(value)
    names = {"str": str, "int": int, "float": float, "bool": bool}
    wanted = names.get(type_name)
    if wanted is not None and isinstance(value, wanted):
        if wanted is bool or not isinstance(value, bool):
            return value
    raise RecipeError(f"{where} must be {TYPE_NAMES[type_name]}, not {value!r}")
