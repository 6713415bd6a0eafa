"""Why a model predicts what it does for one record: a sum for every score, down to the features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from onlinestack.block import PREDICT_ONE, Block
from onlinestack.inspection.contributions import (
    Sum,
    of_bits,
    of_factors,
    of_linear,
    of_newton,
    of_trees,
)
from onlinestack.inspection.naming import bit_names, dense_names, encoder_of, position_names
from onlinestack.inspection.record import Told, record_of
from onlinestack.linear.bits import BitsMember
from onlinestack.linear.classes import ClassMember
from onlinestack.linear.factorisation import Factorisation
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.newton import NewtonMember
from onlinestack.models import Learner
from onlinestack.recipe import Newton
from onlinestack.stack.expert import Expert
from onlinestack.stack.mixture import MEAN
from onlinestack.stacker import OnlineStacker
from onlinestack.trees.retrain import Retrained

__all__ = ["explain"]


def explain(learner: Learner, x: Mapping[str, Any]) -> dict[str, Any]:
    """Take the prediction for one record apart; the model stays as it is.

    Use it to see which features speak for a click and which against, by how much, and in a stack
    whom the mixture listens to. Every score is a sum: of weight times value for linear learners,
    of which the float32 score differs by rounding alone (told beside it). Trees are told by SHAP
    values, which XGBoost computes.

    Parameters
    ----------
    learner
        A model that has learned.
    x
        The record: column names to values, as in a line of JSON.

    Returns
    -------
    JSON: ``kind``, ``prediction``, ``ignored``, ``missing``, ``label``; of a linear learner
    ``score``, of a stack ``mixture``, ``stackers`` and ``members``.

    Raises
    ------
    ValueError
        Where the record has none of the columns that the model learned from.

    Examples
    --------
    >>> from onlinestack import LinearLearner
    >>> from onlinestack.inspection.explain import explain
    >>> model = LinearLearner()
    >>> for clicked in (True, False, True) * 40:
    ...     model.learn_one({"site": "news" if clicked else "mail"}, clicked)
    >>> told = explain(model, {"site": "news", "age": 3})
    >>> [(term["feature"], round(term["adds"], 1)) for term in told["score"]["terms"]]
    [('site=news', 3.0), ('constant', 0.2)]
    >>> told["ignored"], round(told["prediction"], 2)
    (['age'], 0.96)
    """
    encoder = encoder_of(learner)
    told = record_of(learner, encoder, x)
    common = {"ignored": told.ignored, "missing": told.missing, "label": told.label}
    if isinstance(learner, OnlineStacker):
        return {"kind": "stack", **_of_stack(learner, told), **common}
    return {"kind": learner.aim, **_of_linear(learner, told), **common}


def _of_linear(learner: Any, told: Told) -> dict[str, Any]:
    """Explain a linear learner of any task."""
    member = learner.parts["linear"]
    assert isinstance(member, LinearMember)  # noqa: S101 - narrows a type
    member.run(told.block, PREDICT_ONE)
    prediction, scores, chosen = learner.linked()
    names = position_names(told.block, told.names, {})
    if not isinstance(member, ClassMember):
        terms = of_linear(member, told.block, names)
        return {
            "prediction": float(prediction[0]),
            "score": _clamped(Sum(float(member.raw[0]), terms), float(scores[0])),
        }
    best = int(chosen[0])
    classes = {
        str(name): {"p": float(prediction[0, code]), "score": float(scores[0, code])}
        for code, name in enumerate(learner.classes.names)
    }
    told_best: dict[str, Any] = {}
    if best:
        terms = of_linear(member, told.block, names, best - 1)
        score = float(scores[0, best - 1])
        told_best = {"score": _clamped(Sum(score, terms), score)}
    return {"prediction": learner.classes.name(best), "classes": classes, **told_best}


def _clamped(found: Sum, served: float) -> dict[str, Any]:
    """Return a sum as JSON, and what of it was served where that was clipped."""
    told = found.told()
    return told if served == found.score else {**told, "clipped_to": served}


def _of_stack(learner: OnlineStacker, told: Told) -> dict[str, Any]:
    """Explain members, stackers and the mixture of a stack."""
    stack = learner.assembly
    block = learner.lay(told.block)
    learner.take(block, PREDICT_ONE)
    mixture, p = stack.mixture, block.p[0]
    experts = {
        name: {
            "weight": float(share),
            "p": float(q),
            "adds": float(share) * float(q),
            **({} if name == MEAN else {"score": float(block.scores[0, column])}),
        }
        for column, (name, share, q) in enumerate(
            zip(mixture.names, mixture.share, p[1:], strict=False)
        )
    }
    total = math.fsum(expert["adds"] for expert in experts.values())
    scores = {
        name: _clamped(found, float(block.scores[0, column]))
        for column, (name, found) in enumerate(_scores(learner, block, told))
    }
    members = mixture.names[: mixture.members]
    for name, pull in _pulls(learner, block, experts).items():
        experts[name]["moves"] = pull
    return {
        "prediction": float(p[0]),
        "mixture": {"sum": total, "rounding": float(p[0]) - total, "experts": experts},
        "stackers": {name: found for name, found in scores.items() if name not in members},
        "members": {name: scores[name] for name in members},
    }


def _scores(learner: OnlineStacker, block: Block, told: Told) -> list[tuple[str, Sum]]:
    """Return the score of every member and stacker taken apart, in the order of their columns."""
    stack, parts = learner.assembly, learner.parts
    dense = dense_names(learner)
    names, columns = position_names(block, told.names, dense), stack.table_names()
    fields = stack.layout.slot_names([field.name for field in stack.encoder.fields])
    bits = bit_names(learner, columns)
    factors: Any = parts.get("factorisation")
    bases = {entry.name: entry.base for entry in learner.recipe().trees}
    found: list[tuple[str, Sum]] = []
    for name in stack.mixture.names[:-1]:
        part = parts.get(f"score:{name}", factors)
        if isinstance(part, Expert):
            part = part.part
        if isinstance(part, LinearMember):
            terms = of_linear(part, block, names)
            found.append((name, Sum(float(part.raw[0]), terms)))
        elif isinstance(part, NewtonMember):
            found.append((name, of_newton(part, block, dense["s"])))
        elif isinstance(part, BitsMember):
            found.append((name, of_bits(part, block, bits)))
        elif isinstance(part, Factorisation):
            which = part.names.index(name)
            found.append((name, of_factors(part, which, block, fields, names)))
        elif isinstance(part, Retrained):
            found.append((name, of_trees(part, block, columns, bases[name] or None)))
        else:
            score = float(block.scores[0, len(found)])
            found.append((name, Sum(score, [("not known to the package", None, None, score)])))
    return found


def _pulls(
    learner: OnlineStacker, block: Block, experts: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Return by how much the prediction would rise with each member's score, times that score.

    That is the member's part in the prediction to first order, through the mixture itself, through
    the stackers and through the mean; nothing where a stacker is no plain sum of scores.
    """
    stack = learner.assembly
    recipe = learner.recipe()
    if not all(isinstance(entry, Newton) for entry in recipe.stackers):
        return {}
    members = stack.mixture.members
    slope = {name: e["weight"] * e["p"] * (1 - e["p"]) for name, e in experts.items()}
    rise = np.array([slope[entry.name] for entry in recipe.members]) + slope[MEAN] / members
    for entry in recipe.stackers:
        part: Any = learner.parts[f"score:{entry.name}"]
        rise += slope[entry.name] * part.part.weights[:-1]
    moved = rise * block.scores[0, :members]
    return {entry.name: float(m) for entry, m in zip(recipe.members, moved, strict=True)}
