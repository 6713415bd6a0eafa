"""From a recipe to the parts of a stack, each knowing its columns and what it waits for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onlinestack.block import WORD
from onlinestack.engine import QUANTUM, Engine, Part
from onlinestack.features.encoder import Encoder
from onlinestack.features.layout import Layout, dense_index
from onlinestack.features.micro_trees import MicroTrees
from onlinestack.features.random_bits import RandomBits
from onlinestack.features.statistics import Statistics
from onlinestack.linear.bits import BitsMember
from onlinestack.linear.factorisation import Factorisation
from onlinestack.linear.interactions import normalise_interactions, reads_of
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.losses import LOSSES, Loss
from onlinestack.linear.newton import NewtonMember
from onlinestack.linear.rule import Rule
from onlinestack.recipe import Bits, Foreign, Linear, Newton, Recipe, Trees
from onlinestack.recipe import Factorisation as FactorisationEntry
from onlinestack.stack.expert import Expert, Scoring
from onlinestack.stack.foreign import RiverMember
from onlinestack.stack.mixture import Mixture

if TYPE_CHECKING:
    from onlinestack.io.schema import Field
    from onlinestack.trees.schedule import Schedule

__all__ = ["Assembly", "assemble", "linear_part"]


OVERALL = "all records"
"""What the click rates that are of no field are called."""


class Assembly(NamedTuple):
    """A stack put together.

    Parameters
    ----------
    engine
        Runs the parts.
    encoder
        Its first part, which makes features of records.
    layout
        Gives their blocks room for the rest.
    mixture
        Its last part, which predicts.
    names, kinds
        Names of all that is judged beside the mixture, in the order of the columns of ``block.p``,
        and what each is: "member", "stacker", "mean" or "combiner".
    trees
        The members that are trained in generations.
    unsaved
        Why the stack can not be saved, a sentence a member; none where it can.
    records
        Whether members read the records themselves.
    margins
        Names of the members whose scores trees read, in the order of their columns.
    """

    engine: Engine
    encoder: Encoder
    layout: Layout
    mixture: Mixture
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    trees: tuple[Any, ...]
    unsaved: tuple[str, ...] = ()
    records: bool = False
    margins: tuple[str, ...] = ()

    def meet(self) -> None:
        """Give the fields that the encoder met in dicts their places."""
        fields = self.encoder.fields
        numbers = [field.name for field in fields if field.kind == "number"]
        self.layout.meet([field.name for field in fields], numbers)

    def table_names(self) -> list[str]:
        """Return what the columns of the table are: numbers, statistics, margins of members."""
        numbers = self.layout.number_names(self.encoder.number_names())
        names = numbers + self.statistic_names()
        return names + [f"score {name}" for name in self.margins]

    def statistic_names(self) -> list[str]:
        """Return what the features of namespace ``c`` are."""
        statistics = self.engine.parts["statistics"]
        assert isinstance(statistics, Statistics)  # noqa: S101 - narrows a type
        fields = [field.name for field in self.encoder.fields]
        return statistics.columns(self.layout.slot_names(fields))

    def gains(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return what trees in service gained from each field, by member and field.

        Each field has its gain by ``value``, the plain number, and by its ``rates`` of clicks;
        "all records" are the overall rates, and names of members are their scores.
        """
        statistics = self.engine.parts["statistics"]
        assert isinstance(statistics, Statistics)  # noqa: S101 - narrows a type
        slots = self.layout.slot_names([field.name for field in self.encoder.fields])
        numbers = self.layout.number_names(self.encoder.number_names())
        owners = [("value", name) for name in numbers]
        owners += [("rates", name or OVERALL) for name in statistics.owners(slots)]
        owners += [("value", name) for name in self.margins]
        told: dict[str, dict[str, dict[str, float]]] = {}
        for part in self.trees:
            own = told.setdefault(part.name, {})
            for column, gain in part.gains().items():
                kind, name = owners[column]
                by = own.setdefault(name, {})
                by[kind] = by.get(kind, 0.0) + gain
        return told

    def events(self) -> list[dict[str, Any]]:
        """Take out what became of each training, in the order of their swaps."""
        events = [event for part in self.trees for event in part.events]
        for part in self.trees:
            part.events.clear()
        return sorted(events, key=lambda event: (event["cut"], event["number"]))


def linear_part(entry: Linear, bits: int) -> LinearMember:
    """Return the linear learner of an entry, with 2**bits weights where it does not say.

    Examples
    --------
    >>> linear_part(Linear("small", bits=4), 18).weights.shape
    (64,)
    """
    rule = Rule(
        loss=Loss(LOSSES["logistic"], np.float32(0.5), np.float32(0), np.float32(1)),
        eta=np.float32(entry.learning_rate),
        power_t=np.float32(entry.power_t),
        l1=float(np.float32(entry.l1)),
        l2=float(np.float32(entry.l2)),
        mask=np.uint64((1 << (entry.bits or bits)) - 1),
        fade=np.float32(0.5 ** (1 / entry.half_life) if entry.half_life else 1),
    )
    interactions = normalise_interactions([term.encode() for term in entry.interactions])
    reads = reads_of(entry.reads.encode(), interactions, constant=entry.constant)
    return LinearMember(reads, rule, low=-50.0, high=50.0)


def _foreign(entry: Foreign) -> Any:
    """Return a part of the stack's own for an object that it was given."""
    if hasattr(entry.model, "learn_one"):
        return RiverMember(entry.model.clone(), entry.name)
    return copy.deepcopy(entry.model)


def _stacker(entry: Linear | Newton, bits: int, members: int) -> Scoring:
    """Return a learner that starts as the mean of the members' scores."""
    if isinstance(entry, Newton):
        return NewtonMember(members, half_life=entry.half_life, trust=entry.trust)
    part = linear_part(entry, bits)
    slots = dense_index("s", members).astype(np.uint64) & part.rule.mask
    part.weights[slots.astype(np.int64) << int(part.rule.shift)] = 1 / members
    return part


def assemble(recipe: Recipe, fields: Sequence[Field] | None) -> Assembly:
    """Put a stack together for records of some fields.

    Parameters
    ----------
    recipe
        What it is made of.
    fields
        The fields of the schema, in order of their names; none for Vowpal Wabbit text, None for
        dicts whose fields are met as they come.
    """
    encoder = Encoder(fields or (), seed=recipe.seed, extents=True, names=recipe.names)
    slots = min(len(fields or ()), recipe.fields) or recipe.fields
    count = recipe.fields if fields is None else encoder.bins.count
    numbers = _numbers(recipe, count, slots)
    statistics = Statistics(slots, at=numbers, half_lives=recipe.half_lives, prior=recipe.prior)
    names = [entry.name for entry in (*recipe.members, *recipe.stackers)]
    column = {name: k for k, name in enumerate(names)}
    members = len(recipe.members)
    read = list(dict.fromkeys(name for entry in recipe.trees for name in entry.inputs))
    width = numbers + statistics.width
    scores = tuple(f"score:{name}" for name in names)
    others = {"l": sum(entry.rounds for entry in recipe.trees if entry.leaves)}
    makers = {"f": ("f",), "c": ("c",), "t": ("t",), "s": scores[:members]}
    makers["l"] = tuple(f"score:{entry.name}" for entry in recipe.trees if entry.leaves)
    parts: dict[str, Part] = {"encoder": encoder, "statistics": statistics}
    for entry in recipe.members:
        if isinstance(entry, Linear):
            needs = _needs(entry, makers)
            part = linear_part(entry, recipe.bits)
            parts[f"score:{entry.name}"] = Expert(part, entry.name, column[entry.name], needs)
        elif isinstance(entry, Bits):
            member = BitsMember(recipe.random_bits, rate=entry.learning_rate, l2=entry.l2)
            parts[f"score:{entry.name}"] = Expert(member, entry.name, column[entry.name], ("r",))
        elif isinstance(entry, Foreign):
            own = _foreign(entry)
            needs = getattr(own, "needs", ("c",))
            parts[f"score:{entry.name}"] = Expert(own, entry.name, column[entry.name], needs)
    if any(isinstance(entry, Bits) for entry in recipe.members):
        parts["random bits"] = RandomBits(
            width, numbers=numbers, bits=recipe.random_bits, seed=recipe.seed
        )
    if recipe.read("t"):
        micro = MicroTrees(slots, trees=recipe.micro_trees, seed=recipe.seed)
        parts["micro-trees"], others["t"] = micro, micro.width
    factorised = [entry for entry in recipe.members if isinstance(entry, FactorisationEntry)]
    if factorised:
        parts["factorisation"] = Factorisation(
            [entry.name for entry in factorised],
            [column[entry.name] for entry in factorised],
            [entry.learning_rate for entry in factorised],
            fields=slots,
            seed=recipe.seed,
        )
    if recipe.trees:
        parts |= _trees(recipe, column, width, read)
    for entry in recipe.stackers:
        stacker = _stacker(entry, recipe.bits, members)
        needs = makers["s"] if isinstance(entry, Newton) else _needs(entry, makers)
        parts[f"score:{entry.name}"] = Expert(stacker, entry.name, column[entry.name], needs)
    mixture = Mixture(
        names, members, needs=scores, alpha=recipe.share, largest=recipe.largest_weight
    )
    parts["mixture"] = mixture
    parts |= _combiners(recipe, members, len(mixture.names))
    layout = Layout(
        QUANTUM,
        fields=slots,
        numbers=numbers,
        statistics=statistics.width,
        scores=len(names),
        members=members,
        margins=len(read),
        others={letter: width for letter, width in others.items() if width},
        combiners=len(recipe.combiners),
        words=-(-recipe.random_bits // WORD) if "random bits" in parts else 0,
    )
    if fields is None:
        layout.meet((), ())
    kinds = ("member",) * members + ("stacker",) * len(recipe.stackers) + ("mean",)
    kinds += ("combiner",) * len(recipe.combiners)
    judged = (*mixture.names, *recipe.combiners)
    trees = tuple(parts[f"score:{entry.name}"] for entry in recipe.trees)
    foreign = [
        part.part
        for part in parts.values()
        if isinstance(part, Expert) and isinstance(part.part, RiverMember)
    ]
    unsaved = tuple(part.unsaved for part in foreign)
    return Assembly(
        Engine(parts),
        encoder,
        layout,
        mixture,
        judged,
        kinds,
        trees,
        unsaved,
        records=bool(foreign),
        margins=tuple(read),
    )


def _trees(
    recipe: Recipe, column: Mapping[str, int], width: int, read: Sequence[str]
) -> dict[str, Part]:
    """Return the members that are trees, the window they share, and what fills its columns."""
    from onlinestack.trees.boosted import TreeSettings
    from onlinestack.trees.inputs import MarginColumns
    from onlinestack.trees.retrain import Retrained
    from onlinestack.trees.training import Trainer
    from onlinestack.trees.window import Window

    parts: dict[str, Part] = {}
    based = list(dict.fromkeys(entry.base for entry in recipe.trees if entry.base))
    needs: tuple[str, ...] = ("c",)
    if read:
        places = {width + j: column[name] for j, name in enumerate(read)}
        parts["margins"] = MarginColumns(places, tuple(f"score:{name}" for name in read))
        needs += ("margins",)
    window = parts["window"] = Window(
        width + len(read),
        needs=(*needs, *(f"score:{name}" for name in based)),
        rows=recipe.window_rows,
        room=recipe.window_bytes,
        slack=recipe.train_lag,
        keep={name: column[name] for name in based},
    )
    screen = TreeSettings(max_bin=recipe.max_bin, nthread=recipe.train_threads, seed=recipe.seed)
    trainer = Trainer(
        recipe.background,
        keep=recipe.train_columns or None,
        always=range(width, width + len(read)),
        screen=screen,
    )
    for number, entry in enumerate(recipe.trees):
        settings = TreeSettings(
            depth=entry.depth,
            eta=entry.eta,
            rounds=entry.rounds,
            max_bin=recipe.max_bin,
            subsample=entry.subsample,
            colsample=entry.colsample,
            min_child_weight=entry.min_child_weight,
            early_stopping=entry.early_stopping,
            nthread=recipe.train_threads,
            seed=recipe.seed + number,
        )
        inputs = [width + read.index(name) for name in entry.inputs]
        allowed = [*range(width), *inputs] if len(inputs) < len(read) else None
        parts[f"score:{entry.name}"] = Retrained(
            entry.name,
            window,
            settings,
            _schedule(recipe, entry, column[entry.name]),
            column=column[entry.name],
            needs=("c", *(("margins",) if inputs else ()), *_scores(entry.base)),
            fills=f"score:{entry.name}",
            lag=recipe.train_lag,
            rows=entry.rows or None,
            base=entry.base or None,
            columns=allowed,
            trainer=trainer,
            leaves=entry.leaves,
        )
    return parts


def _combiners(recipe: Recipe, members: int, experts: int) -> dict[str, Part]:
    """Return what is judged beside the mixture; its code is loaded only where there is some."""
    if not recipe.combiners:
        return {}
    from onlinestack.stack.combiners import COMBINERS

    columns = enumerate(recipe.combiners, experts + 1)
    return {f"combiner:{name}": COMBINERS[name](members, experts, at) for at, name in columns}


def _schedule(recipe: Recipe, entry: Trees, column: int) -> Schedule:
    """Return what says when an entry's generations are due."""
    from onlinestack.trees.drift import OnDrift, PageHinkley
    from onlinestack.trees.schedule import ByRecords, BySpan

    schedule: Schedule = ByRecords(recipe.train_first, recipe.train_every)
    if entry.span:
        schedule = BySpan(entry.span, attrgetter("time"), first=recipe.train_first)
    return OnDrift(schedule, PageHinkley(column)) if entry.drift else schedule


def _scores(*names: str) -> tuple[str, ...]:
    """Return what members of some names fill; nothing for no name."""
    return tuple(f"score:{name}" for name in names if name)


def _numbers(recipe: Recipe, numbers: int, slots: int) -> int:
    """Return how many plain numbers trees read beside the statistics of so many fields."""
    lives = len(recipe.half_lives)
    left = recipe.columns - slots * (lives + 1) - lives
    return min(numbers, max(left, recipe.fields))


def _needs(entry: Linear, makers: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return what must be there before a linear learner runs."""
    return tuple(made for letter in sorted(entry.letters) for made in makers[letter])
