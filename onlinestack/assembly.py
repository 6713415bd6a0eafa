"""From a recipe to the parts of a stack, each knowing its columns and what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onlinestack.engine import QUANTUM, Engine, Part
from onlinestack.features.encoder import Encoder
from onlinestack.features.layout import Layout, dense_index
from onlinestack.features.statistics import Statistics
from onlinestack.linear.interactions import normalise_interactions, reads_of
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.losses import LOSSES, Loss
from onlinestack.linear.rule import Rule
from onlinestack.recipe import Linear, Recipe, Trees
from onlinestack.stack.expert import Expert
from onlinestack.stack.mixture import Mixture

if TYPE_CHECKING:
    from onlinestack.io.schema import Field

__all__ = ["Assembly", "assemble", "linear_part"]


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
    kinds
        What each expert of the mixture is: "member", "stacker" or "mean".
    """

    engine: Engine
    encoder: Encoder
    layout: Layout
    mixture: Mixture
    kinds: tuple[str, ...]


def linear_part(entry: Linear) -> LinearMember:
    """Return the linear learner of an entry.

    Examples
    --------
    >>> linear_part(Linear("small", bits=4)).weights.shape
    (64,)
    """
    rule = Rule(
        loss=Loss(LOSSES["logistic"], np.float32(0.5), np.float32(0), np.float32(1)),
        eta=np.float32(entry.learning_rate),
        power_t=np.float32(entry.power_t),
        l1=float(np.float32(entry.l1)),
        l2=float(np.float32(entry.l2)),
        mask=np.uint64((1 << entry.bits) - 1),
    )
    interactions = normalise_interactions([term.encode() for term in entry.interactions])
    reads = reads_of(entry.reads.encode(), interactions, constant=entry.constant)
    return LinearMember(reads, rule, low=-50.0, high=50.0)


def _stacker(entry: Linear, members: int) -> LinearMember:
    """Return a linear learner that starts as the mean of the members' scores."""
    part = linear_part(entry)
    slots = dense_index("s", members).astype(np.uint64) & part.rule.mask
    part.weights[slots.astype(np.int64) << int(part.rule.shift)] = 1 / members
    return part


def assemble(recipe: Recipe, fields: Sequence[Field]) -> Assembly:
    """Put a stack together for records of some fields.

    Parameters
    ----------
    recipe
        What it is made of.
    fields
        The fields of the schema, in order of their names; none for Vowpal Wabbit text.
    """
    encoder = Encoder(fields, seed=recipe.seed, extents=True)
    slots = min(len(fields), recipe.fields) or recipe.fields
    numbers = _numbers(recipe, encoder.bins.count, slots)
    statistics = Statistics(
        slots, at=numbers, half_lives=recipe.half_lives, prior=recipe.prior
    )
    names = [entry.name for entry in (*recipe.members, *recipe.stackers)]
    column = {name: k for k, name in enumerate(names)}
    members = len(recipe.members)
    scores = tuple(f"score:{name}" for name in names)
    makers = {"f": ("f",), "c": ("c",), "s": scores[:members]}
    parts: dict[str, Part] = {"encoder": encoder, "statistics": statistics}
    for entry in recipe.members:
        if isinstance(entry, Linear):
            needs = _needs(entry, makers)
            parts[entry.name] = Expert(linear_part(entry), entry.name, column[entry.name], needs)
    for entry in recipe.stackers:
        part = _stacker(entry, members)
        parts[entry.name] = Expert(part, entry.name, column[entry.name], _needs(entry, makers))
    mixture = Mixture(names, members, needs=scores, alpha=recipe.alpha, largest=recipe.largest)
    parts["mixture"] = mixture
    layout = Layout(
        QUANTUM,
        fields=slots,
        numbers=numbers,
        statistics=statistics.width,
        scores=len(names),
        members=members,
    )
    kinds = ("member",) * members + ("stacker",) * len(recipe.stackers) + ("mean",)
    return Assembly(Engine(parts), encoder, layout, mixture, kinds)


def _numbers(recipe: Recipe, numbers: int, slots: int) -> int:
    """Return how many plain numbers trees read beside the statistics of so many fields."""
    lives = len(recipe.half_lives)
    left = recipe.columns - slots * (lives + 1) - lives
    return min(numbers, max(left, recipe.fields))


def _needs(entry: Linear, makers: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return what must be there before a linear learner runs."""
    letters = sorted(set(entry.reads).union(*entry.interactions))
    return tuple(made for letter in letters for made in makers[letter])
