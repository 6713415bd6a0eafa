"""Learners and their files: which kinds there are, saving one and loading it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onlinestack import snapshot
from onlinestack.learner import LinearLearner, LinearRegressor
from onlinestack.stacker import OnlineStacker

__all__ = ["LEARNERS", "Learner", "load", "revive", "save"]

Learner = LinearLearner | LinearRegressor | OnlineStacker
"""Any learner of the package."""

LEARNERS: dict[str | None, type[Learner]] = {
    "LinearLearner": LinearLearner,
    "LinearRegressor": LinearRegressor,
    "OnlineStacker": OnlineStacker,
}
"""The learners by name."""


def save(model: Learner, path: str | Path) -> None:
    """Save a learner to one file, whole or not at all.

    Parameters
    ----------
    model
        The learner.
    path
        Where to.

    Raises
    ------
    OSError
        Where the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from onlinestack import LinearLearner, load, save
    >>> model = LinearLearner()
    >>> model.learn_one({"site": "news"}, True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, f"{folder}/model")
    ...     again = load(f"{folder}/model")
    >>> again.predict_proba_one({"site": "news"}) == model.predict_proba_one({"site": "news"})
    True
    """
    arrays, meta = model.state()
    snapshot.save(path, arrays, {"learner": meta})


def load(path: str | Path) -> Learner:
    """Load a learner that `save` or a run of the command line saved.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    SnapshotError
        Where the file is missing, damaged or not one of ours.
    """
    return revive(*snapshot.load(path), path)


def revive(
    arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], path: str | Path
) -> Learner:
    """Return the learner of a snapshot that was read.

    Parameters
    ----------
    arrays, meta
        What `snapshot.load` returned.
    path
        The file, for the error.

    Raises
    ------
    SnapshotError
        Where it is not one of ours.
    """
    from onlinestack.io.schema import Schema

    learner = meta.get("learner", {})
    kind = LEARNERS.get(learner.get("kind"))
    if kind is None:
        raise snapshot.SnapshotError(f"{path} holds no learner; give a file saved by `save`")
    params: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in learner["params"].items()
    }
    model = kind(**params)
    model.start(None if learner["schema"] is None else Schema.from_dict(learner["schema"]))
    model.restore(arrays, learner)
    return model
