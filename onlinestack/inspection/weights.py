"""What the members of a model listen to most: the largest weights, and the columns of trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.inspection.naming import (
    CONSTANT_NAME,
    Known,
    bit_names,
    dense_names,
    known_features,
    pair_names,
    slot_names,
)
from onlinestack.linear.bits import BitsMember
from onlinestack.linear.factorisation import Factorisation
from onlinestack.linear.interactions import reads_of
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.newton import NewtonMember
from onlinestack.linear.shares import effective_weights
from onlinestack.models import Learner
from onlinestack.stack.expert import Expert
from onlinestack.stacker import OnlineStacker
from onlinestack.trees.retrain import Retrained

__all__ = ["largest", "top_weights"]

ALIKE = 3
"""Names of one slot that are told."""


def largest(weight: NDArray[Any], count: int) -> list[int]:
    """Return the places of the largest weights, by size, the first of equals first; none of 0."""
    size = abs(weight)
    order = np.argsort(-size, kind="stable")[:count]
    return [int(at) for at in order if size[at] > 0]


def top_weights(learner: Learner, count: int) -> dict[str, dict[str, Any]]:
    """Return the largest weights of each member and stacker, by its name.

    Parameters
    ----------
    learner
        The model.
    count
        How many of each.

    Returns
    -------
    Of each: how many weights it has (``of``) and uses (``used``), and ``top``: dicts of
    ``feature``, ``weight``, for hashed ones ``slot``. Trees have the total gain of columns instead
    of weights.
    """
    parts = learner.parts
    if not isinstance(learner, OnlineStacker):
        member: Any = parts["linear"]
        classes = [] if learner.classes is None else learner.classes.names
        return {"linear": _of_linear(member, known_features(learner), count, classes)}
    stack, dense = learner.assembly, dense_names(learner)
    known = known_features(learner)
    columns = stack.table_names()
    factors: Any = parts.get("factorisation")
    found: dict[str, dict[str, Any]] = {}
    for name in stack.mixture.names[:-1]:
        part = parts.get(f"score:{name}", factors)
        if isinstance(part, Expert):
            part = part.part
        if isinstance(part, LinearMember):
            found[name] = _of_linear(part, known, count)
        elif isinstance(part, NewtonMember):
            found[name] = _of(part.weights, [*dense["s"], CONSTANT_NAME], count)
        elif isinstance(part, BitsMember):
            found[name] = _of(part.weights.weight, bit_names(learner, columns), count)
        elif isinstance(part, Factorisation):
            found[name] = _of_factors(part, part.names.index(name), known, count)
        elif isinstance(part, Retrained):
            gains = part.generation.gains()
            ordered = sorted(gains.items(), key=lambda item: (-item[1], item[0]))
            found[name] = {
                "of": len(columns),
                "used": len(gains),
                "top": [{"feature": columns[c], "gain": gain} for c, gain in ordered[:count]],
            }
    return found


def _of(weight: NDArray[Any], names: Sequence[str], count: int) -> dict[str, Any]:
    """Return the largest of weights that each have a name."""
    top = [{"feature": names[at], "weight": float(weight[at])} for at in largest(weight, count)]
    return {"of": len(weight), "used": int(np.count_nonzero(weight)), "top": top}


def _of_linear(
    member: LinearMember, known: Known, count: int, classes: Sequence[Any] = ()
) -> dict[str, Any]:
    """Return the largest weights of hashed features, with the names known of their slots."""
    weight, mask, spread = effective_weights(member), int(member.rule.mask), member.reads.spread
    names = slot_names(member.reads, mask, known)
    slots = largest(weight, count)
    if "f" in known:
        bases = [slot // spread * spread for slot in slots]
        for slot, pairs in pair_names(member.reads, mask, *known["f"], bases).items():
            names.setdefault(slot, []).extend(pairs)
    top: list[dict[str, Any]] = []
    for slot in slots:
        vector = slot % spread
        told = _named(slot, weight[slot], names.get(slot - vector))
        if classes:
            told["class"] = str(classes[vector]) if vector < len(classes) else None
        top.append(told)
    return {**_counts(weight, names), "top": top}


def _of_factors(part: Factorisation, which: int, known: Known, count: int) -> dict[str, Any]:
    """Return the largest weights of the linear part; vectors have no meaning one by one."""
    weight = part.tables.linear[:, which]
    slots = len(weight) - 1
    names = slot_names(reads_of(b"f", constant=False), slots - 1, known)
    names[slots] = [CONSTANT_NAME]
    top = [_named(slot, weight[slot], names.get(slot)) for slot in largest(weight, count)]
    return {**_counts(weight, names), "top": top}


def _counts(weight: NDArray[Any], names: Mapping[int, Sequence[str]]) -> dict[str, int]:
    """Return how many weights there are, are used, and how many names share one with others."""
    shared = sum(len(called) for called in names.values() if len(called) > 1)
    return {
        "of": len(weight),
        "used": int(np.count_nonzero(weight)),
        "names": sum(map(len, names.values())),
        "sharing": shared,
    }


def _named(slot: int, weight: Any, names: Sequence[str] | None) -> dict[str, Any]:
    """Return a weight with all that is known to have its slot, or None."""
    told = None
    if names:
        told = " or ".join(names[:ALIKE])
        told += f" or {len(names) - ALIKE:,} more" if len(names) > ALIKE else ""
    return {"slot": slot, "weight": float(weight), "feature": told}
