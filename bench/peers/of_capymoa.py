"""Ensembles of MOA through CapyMOA: what its page "Using the API" and each class's example set up.

Categories of up to 1,000 values are nominal attributes of CapyMOA's schema, which has to name all
values of a stream beforehand; with more they are numbers, coded in the order in which they come,
since a split gives every value of a nominal attribute a branch. Texts are not read, as by trees of
river. Ensembles have the size of river's, 10 trees, not CapyMOA's 100. CapyMOA brings its own MOA,
but needs Java.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tracks import Deadline, NotInstalled, Track, progressive

from peers.base import Described
from peers.matrix import coded

__all__ = ["CAPYMOA", "CapyMOAPeer"]

MOST_LEVELS = 1_000


@dataclass(frozen=True)
class CapyMOAPeer(Described):
    """A classifier of CapyMOA, by the name of its class."""

    classifier: str = ""
    trees: int = 10

    @classmethod
    def of(cls, name: str, classifier: str, trees: int = 10) -> CapyMOAPeer:
        """Return a peer whose settings are its class and its size."""
        settings = {"class": classifier, "ensemble_size": trees, "random_seed": 1}
        return cls(name, "CapyMOA", ("capymoa",), settings, (), classifier, trees)

    def versions(self) -> dict[str, str]:
        """Return the version of CapyMOA; raise `NotInstalled` without it, or without Java."""
        found = super().versions()
        if shutil.which("java") is None:
            raise NotInstalled("Java is not installed here, which CapyMOA runs on.")
        return found

    def run(self, track: Track, deadline: Deadline) -> NDArray[np.float64]:
        """Return the probabilities of the records that were predicted before the deadline."""
        self.versions()
        from capymoa import classifier
        from capymoa.core import Instance, LabeledInstance
        from capymoa.stream import Schema

        matrix = coded(track, texts=False)
        names = [f"f{k}" for k in range(len(matrix.names))]
        nominal = {
            names[k]: [str(v) for v in range(n)]
            for k, n in matrix.levels.items()
            if 0 < n <= MOST_LEVELS
        }
        schema = Schema.from_custom(
            [*names, "label"], "label", {**nominal, "label": ["0", "1"]}, name=track.name
        )
        made = getattr(classifier, self.classifier)
        model: Any = made(schema, random_seed=1, ensemble_size=self.trees)
        rows = matrix.x.astype(np.float64)

        def predict(row: NDArray[np.float64]) -> float:
            p = model.predict_proba(Instance.from_array(schema, row))
            return 0.5 if p is None or not math.isfinite(p[1]) else float(p[1])

        def learn(row: NDArray[np.float64], y: float) -> None:
            model.train(LabeledInstance.from_array(schema, row, int(y)))

        return progressive(track, predict, learn, deadline, rows)


CAPYMOA = (
    CapyMOAPeer.of("CapyMOA ARF", "AdaptiveRandomForestClassifier"),
    CapyMOAPeer.of("CapyMOA SRP", "StreamingRandomPatches"),
    CapyMOAPeer.of("CapyMOA online bagging", "OnlineBagging"),
)
