"""What adds up to the score of each kind of member, feature by feature.

Linear learners, random bits, Newton's stackers and factorised pairs are sums, and are taken apart
into exactly these. Trees are not: their part is that of XGBoost's own SHAP values (TreeSHAP), which
add up to the margin, too.

References
----------
Lundberg, S. et al. (2020). From local explanations to global understanding with explainable AI for
trees. Nature Machine Intelligence 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onlinestack.block import WORD, Block
from onlinestack.inspection.naming import CONSTANT_NAME, product_name
from onlinestack.linear.bits import CONSTANT as BITS_CONSTANT
from onlinestack.linear.bits import BitsMember
from onlinestack.linear.factor_scores import score_plain
from onlinestack.linear.factor_walk import list_plain
from onlinestack.linear.factorisation import Factorisation
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.newton import NewtonMember
from onlinestack.linear.shares import shares_of
from onlinestack.trees.retrain import Retrained

__all__ = ["Sum", "of_bits", "of_factors", "of_linear", "of_newton", "of_trees"]


Term = tuple[str, float | None, float | None, float]


@dataclass(slots=True)
class Sum:
    """A score, and what it is the sum of.

    Parameters
    ----------
    score
        As the member added it up in float32.
    terms
        Name, value, weight and what these add, of each; None for a value or a weight that there
        is none of.
    """

    score: float
    terms: list[Term]

    def told(self) -> dict[str, Any]:
        """Return it as JSON: the terms that add most first."""
        total = math.fsum(term[3] for term in self.terms)
        ordered = sorted(self.terms, key=lambda term: -abs(term[3]))
        return {
            "score": self.score,
            "sum": total,
            "rounding": self.score - total,
            "terms": [
                {"feature": name, "value": value, "weight": weight, "adds": adds}
                for name, value, weight, adds in ordered
            ],
        }


def of_linear(
    member: LinearMember, block: Block, names: Mapping[int, str], vector: int = 0
) -> list[Term]:
    """Return what each entry of a record's working list adds: weight times value.

    Parameters
    ----------
    member
        The learner.
    block
        The record.
    names
        Names of its features by position.
    vector
        Which of the weight vectors of each feature.
    """
    shares = shares_of(member, block, vector=vector)
    called = [product_name(names[at] for at in origin) for origin in shares.origin]
    adds = shares.weight * shares.value
    return list(
        zip(called, shares.value.tolist(), shares.weight.tolist(), adds.tolist(), strict=True)
    )


def of_newton(member: NewtonMember, block: Block, names: Sequence[str]) -> Sum:
    """Return what each member's score adds to that of a stacker."""
    values = block.scores[0, : member.inputs].astype(np.float64)
    weights = member.weights
    adds = weights[:-1] * values
    terms: list[Term] = [
        (name, float(value), float(weight), float(each))
        for name, value, weight, each in zip(names, values, weights, adds, strict=False)
    ]
    terms.append((CONSTANT_NAME, 1.0, float(weights[-1]), float(weights[-1])))
    return Sum(float(member.raw[0]), terms)


def of_bits(member: BitsMember, block: Block, names: Sequence[str]) -> Sum:
    """Return what each random bit adds: its weight times its distance from its mean.

    Parameters
    ----------
    member
        The learner.
    block
        The record, run.
    names
        What to call the bits.
    """
    word = block.bits[0][:, None] >> np.arange(WORD, dtype=np.uint32)
    value = (word & np.uint32(1)).ravel().astype(np.float32) - member.weights.mean
    weight = member.weights.weight.astype(np.float64)
    terms: list[Term] = list(
        zip(names, value.tolist(), weight.tolist(), (weight * value).tolist(), strict=True)
    )
    constant = float(np.float32(member.weights.sums[BITS_CONSTANT]))
    return Sum(float(member.raw[0]), [*terms, (CONSTANT_NAME, 1.0, constant, constant)])


def of_factors(
    part: Factorisation, which: int, block: Block, fields: Sequence[str], names: Mapping[int, str]
) -> Sum:
    """Return what each feature by itself, and each pair of fields, adds to a factorised score.

    Parameters
    ----------
    part
        The part that all factorised members share.
    which
        The number of the member among them.
    block
        The record, laid out.
    fields
        Names of the field slots.
    names
        Names of its features by position.
    """
    opens, closes = (np.ascontiguousarray(x[:, : len(fields)]) for x in (block.opens, block.closes))
    slots = len(part.tables.met)
    listed, scale = list_plain(0, block.index, block.value, opens, closes, part.tables)
    score, vectors = score_plain(listed, scale, slots, which, part.tables, part.steps)
    linear = part.tables.linear[:, which]
    terms: list[Term] = []
    for f, features in listed.items():
        for at, (slot, x) in zip(range(opens[0, f], closes[0, f]), features, strict=True):
            weight, value = float(linear[slot]), float(x)
            terms.append((names[at], value, weight, weight * value))
    for f, g in vectors:
        if g < f:
            product = vectors[f, g].astype(np.float64) @ vectors[g, f].astype(np.float64)
            name = product_name((fields[g], fields[f]))
            terms.append((name, None, None, float(scale) * float(product)))
    constant = float(linear[slots])
    return Sum(float(score), [*terms, (CONSTANT_NAME, 1.0, constant, constant)])


def of_trees(member: Retrained, block: Block, columns: Sequence[str], base: str | None) -> Sum:
    """Return what each column of the table adds to the margin of trees, as SHAP values.

    Parameters
    ----------
    member
        The trees.
    block
        The record, laid out and run.
    columns
        Names of the table's columns.
    base
        What to call the margin that the trees start from, if it is that of a member.
    """
    margin = float(block.scores[0, member.column])
    start = None if base is None else float(block.scores[0, member.base_column])
    found = member.generation.shap(block.table[0], start)
    if found is None:
        return Sum(margin, [("before the first generation", None, None, margin)])
    taken, adds, expected = found
    terms: list[Term] = [
        (columns[column], float(block.table[0, column]), None, each)
        for column, each in zip(taken, adds, strict=True)
        if each
    ]
    if start is not None:
        terms.append((f"score {base}", start, 1.0, start))
        expected -= start
    return Sum(margin, [*terms, ("mean of the trees", None, None, expected)])
