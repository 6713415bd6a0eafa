"""What the members of a model listen to most: the largest weights, and the columns of trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.inspection.naming import (
    CONSTANT_NAME,
    bit_names,
    dense_features,
    dense_names,
    slot_names,
)
from onlinestack.linear.bits import BitsMember
from onlinestack.linear.factorisation import Factorisation
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.newton import NewtonMember
from onlinestack.linear.shares import effective_weights
from onlinestack.models import Learner
from onlinestack.stack.expert import Expert
from onlinestack.stacker import OnlineStacker
from onlinestack.trees.retrain import Retrained

__all__ = ["largest", "top_weights"]


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
        return {"linear": _of_linear(member, {}, count, classes)}
    stack, dense = learner.assembly, dense_names(learner)
    known = dense_features(learner)
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
    member: LinearMember,
    known: Mapping[str, tuple[Sequence[str], NDArray[np.uint32]]],
    count: int,
    classes: Sequence[Any] = (),
) -> dict[str, Any]:
    """Return the largest weights of hashed features, with the names known of their slots."""
    weight = effective_weights(member)
    names = slot_names(member.reads, int(member.rule.mask), known)
    top: list[dict[str, Any]] = []
    for slot in largest(weight, count):
        told: dict[str, Any] = {"slot": slot, "weight": float(weight[slot])}
        vector = slot % member.reads.spread
        if classes:
            told["class"] = str(classes[vector]) if vector < len(classes) else None
        called = names.get(slot - vector)
        told["feature"] = None if called is None else " or ".join(called)
        top.append(told)
    return {"of": len(weight), "used": int(np.count_nonzero(weight)), "top": top}


def _of_factors(
    part: Factorisation,
    which: int,
    known: Mapping[str, tuple[Sequence[str], NDArray[np.uint32]]],
    count: int,
) -> dict[str, Any]:
    """Return the largest weights of the linear part; vectors have no meaning one by one."""
    weight = part.tables.linear[:, which]
    slots = len(weight) - 1
    names: dict[int, list[str]] = {slots: [CONSTANT_NAME]}
    called, hashes = known.get("f", ((), np.empty(0, np.uint32)))
    for name, slot in zip(called, (hashes & np.uint32(slots - 1)).tolist(), strict=True):
        names.setdefault(slot, []).append(name)
    top = [
        {
            "slot": slot,
            "weight": float(weight[slot]),
            "feature": " or ".join(names[slot]) if slot in names else None,
        }
        for slot in largest(weight, count)
    ]
    return {"of": len(weight), "used": int(np.count_nonzero(weight)), "top": top}
