"""What is in a model file: configuration, sizes, generations, pending records, league, weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack import snapshot
from onlinestack.config import Config
from onlinestack.figures import summary_figures
from onlinestack.inspection.explain import explain
from onlinestack.inspection.naming import encoder_of
from onlinestack.inspection.weights import largest, top_weights
from onlinestack.models import LEARNERS, Learner, revive
from onlinestack.saved import LEARNERS as PRESETS
from onlinestack.settings import SETTINGS
from onlinestack.snapshot import SnapshotError
from onlinestack.trees.retrain import Retrained

__all__ = ["inspect"]

VW = "vw"
"""What a model of Vowpal Wabbit's command line calls itself."""
OF_RUNS = ("run", "log", "consume")
"""Settings of these tables say how to run, not what was learned."""
HISTORY = ("number", "cut", "active_from", "rounds")


def inspect(path: str, *, top: int = 10, record: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what is in a model file, or why it predicts what it does for a record.

    Parameters
    ----------
    path
        A model that a run, `save` or ``onlinestack vw`` saved.
    top
        How many of the largest weights of each member.
    record
        A record whose prediction is to be explained, instead of all else.

    Returns
    -------
    JSON: of the whole model ``kind``, ``config``, ``changed`` (settings that differ from the
    preset), ``schema``, ``sizes``, ``counts``, ``generations``, ``pending``, ``league``, ``names``
    and ``weights``; of a record what `explain` returns.

    Raises
    ------
    SnapshotError
        Where the file is missing, damaged, or holds no model.
    ValueError
        Where the record has nothing that the model learned from, or the model is one of Vowpal
        Wabbit's command line, which explains predictions itself.

    Examples
    --------
    >>> import tempfile
    >>> from onlinestack import LinearLearner, save
    >>> model = LinearLearner()
    >>> model.learn_one({"site": "news"}, True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, f"{folder}/model")
    ...     told = inspect(f"{folder}/model")
    >>> told["kind"], told["learned"], told["weights"]["linear"]["used"]
    ('LinearLearner', 1, 2)
    """
    arrays, meta = snapshot.load(path)
    if isinstance(meta, dict) and meta.get("kind") == VW:
        if record is not None:
            raise ValueError(
                f"{path!r} is a model of onlinestack vw, which explains predictions itself: "
                f"onlinestack vw -t --audit -i {path}"
            )
        return _of_vw(path, arrays, meta, top)
    known = isinstance(meta, dict) and isinstance(meta.get("learner"), dict)
    if not known or meta["learner"].get("kind") not in LEARNERS:
        raise SnapshotError(
            f"{path!r} holds no model; give a file saved by learn -f, consume, or in Python"
        )
    try:
        learner = revive(arrays, meta, path)
    except (LookupError, TypeError, ValueError) as error:
        raise SnapshotError(f"the model {path!r} does not fit this version: {error}") from None
    if record is not None:
        return explain(learner, record)
    own = meta["learner"]
    return {
        "kind": own["kind"],
        "task": learner.aim,
        "learned": learner.learned,
        **_settings(meta.get("config") or own["params"], PRESETS[own["kind"]]),
        "schema": own["schema"],
        "sizes": _sizes(path, arrays, own["engine"]["parts"]),
        "counts": meta.get("counts"),
        "generations": _generations(learner),
        "pending": _pending(learner, own),
        "league": None
        if learner.scoreboard is None
        else summary_figures(learner, learner.scoreboard),
        "names": _names(learner),
        "weights": top_weights(learner, top),
    }


def _names(learner: Learner) -> dict[str, int] | None:
    """Return how many names of features are kept; None where the learner was asked for none."""
    ledger = encoder_of(learner).ledger
    if ledger is None:
        return None
    return {
        "kept": len(ledger.names),
        "most": ledger.most,
        "left_out": ledger.left_out,
        "collisions": ledger.collisions,
    }


def _settings(values: Mapping[str, Any], preset: str) -> dict[str, Any]:
    """Return the settings of a model, and those of them that differ from its preset's."""
    config = {
        key: value
        for key, value in values.items()
        if value is not None and (key not in SETTINGS or SETTINGS[key].table not in OF_RUNS)
    }
    usual = Config.resolve({"preset": preset}, environment={}).values
    changed = {key: value for key, value in config.items() if value != usual.get(key, value)}
    return {"config": config, "changed": changed}


def _sizes(path: str, arrays: Mapping[str, NDArray[Any]], parts: Sequence[str]) -> dict[str, Any]:
    """Return the bytes of the file, and those of each part in it, the largest first."""
    prefixes = {f"engine/{name}/": name for name in parts}
    prefixes |= {"late/": "pending records", "labels/": "labels", "scoreboard/": "scoreboard"}
    sizes: dict[str, int] = {}
    for key, array in arrays.items():
        name = next((n for prefix, n in prefixes.items() if key.startswith(prefix)), "others")
        sizes[name] = sizes.get(name, 0) + array.nbytes
    ordered = dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))
    return {"file": os.path.getsize(path), "parts": ordered}


def _generations(learner: Learner) -> dict[str, dict[str, Any]]:
    """Return where the trainings of each member of trees stand."""
    found = {}
    for part in learner.parts.values():
        if not isinstance(part, Retrained):
            continue
        forest, under_way = part.generation.forest, part.under_way
        found[part.name] = {
            "accepted": part.accepted,
            "refused": part.refused,
            "failed": part.failed,
            "serving": part.active or None,
            "trees": 0 if forest is None else len(forest.root),
            "nodes": 0 if forest is None else len(forest.child),
            "training": under_way and {"cut": under_way[0], "swap": under_way[1]},
            "next_at": None if under_way else part.next_change(),
            "history": [dict(zip(HISTORY, row, strict=True)) for row in part.history],
        }
    return found


def _pending(learner: Learner, own: Mapping[str, Any]) -> dict[str, int] | None:
    """Return what became of records that wait for labels; None where none ever did."""
    return learner.attributed() if "late" in own else None  # type: ignore[union-attr]


def _of_vw(
    path: str, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], top: int
) -> dict[str, Any]:
    """Return what is in a model of Vowpal Wabbit's command line, which keeps no names."""
    options = {"bit_precision": meta["bits"], **meta["options"]}
    slot, weight = arrays["slot"], arrays["weight"][:, 0]
    return {
        "kind": VW,
        "config": options,
        "changed": options,
        "sizes": _sizes(path, arrays, ()),
        "weights": {
            VW: {
                "of": 1 << meta["bits"],
                "used": int(np.count_nonzero(weight)),
                "top": [
                    {"slot": int(slot[at]), "weight": float(weight[at]), "feature": None}
                    for at in largest(weight, top)
                ],
            }
        },
    }
