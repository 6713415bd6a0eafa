"""Classifiers of river, each one the example of its own page, over inputs as its pages advise.

river's pages "Feature extraction" and "Pipelines", and the examples of `LogisticRegression`,
`FTRLProximal`, `AdPredictor`, `ALMAClassifier`, `HoeffdingTreeClassifier`,
`HoeffdingAdaptiveTreeClassifier`, `ARFClassifier`, `SRPClassifier`, `LeveragingBaggingClassifier`
and `StackingClassifier`: numbers are scaled and categories one-hot encoded without zeros for linear
models; trees read both as they are; `AdPredictor` wants active indicators, so its numbers are
scaled and then bucketed to quarters of a standard deviation. Texts are one feature a token, and not
read by trees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tracks import Deadline, Track, progressive

from peers.base import Described

__all__ = ["RIVER", "RiverPeer"]

LINEAR, BUCKETS, PLAIN = "scaled, one-hot", "scaled and bucketed, one-hot", "as they are"


@dataclass(frozen=True)
class RiverPeer(Described):
    """A river classifier, asked and taught record by record.

    Parameters
    ----------
    model
        The expression that makes it, with river's modules at hand; printed as it is run.
    inputs
        How it is given numbers and categories.
    """

    model: str = ""
    inputs: str = LINEAR

    @classmethod
    def of(cls, name: str, model: str, inputs: str = LINEAR) -> RiverPeer:
        """Return a peer whose settings are its expression and its inputs."""
        return cls(name, "river", ("river",), {"model": model, "inputs": inputs}, (), model, inputs)

    def run(self, track: Track, deadline: Deadline) -> NDArray[np.float64]:
        """Return the probabilities of the records that were predicted before the deadline."""
        self.versions()
        import river.api  # noqa: F401 - the modules that expressions name

        model = pipeline(eval(self.model, vars(river)), self.inputs)

        def predict(x: dict[str, Any]) -> float:
            given = model.predict_proba_one(x)
            p = float(given.get(True, 0.0 if given else 0.5))
            return min(max(p, 0.0), 1.0) if math.isfinite(p) else 0.5

        def learn(x: dict[str, Any], y: float) -> None:
            model.learn_one(x, bool(y))

        return progressive(track, predict, learn, deadline, records_of(track, self.inputs))


def records_of(track: Track, inputs: str) -> Iterator[dict[str, Any]]:
    """Yield the records with texts as lists of tokens, or without them where trees read."""
    texts = [name for name, kind in track.kinds.items() if kind == "text"]
    for record in track.records():
        for name in texts:
            text = record.pop(name, "")
            if inputs != PLAIN:
                record[name] = text.split()
        yield record


def pipeline(classifier: Any, inputs: str) -> Any:
    """Return a classifier behind what makes its inputs."""
    from river import compose, preprocessing

    if inputs == PLAIN:
        return classifier
    scaled = compose.SelectType(Number) | preprocessing.StandardScaler()
    if inputs == BUCKETS:
        scaled |= compose.FuncTransformer(buckets)
    one_hot = compose.SelectType((str, list)) | preprocessing.OneHotEncoder(drop_zeros=True)
    return (scaled + one_hot) | classifier


def buckets(x: Mapping[str, float]) -> dict[str, int]:
    """Return an indicator of each number's bucket, quarters of a deviation up to five of them.

    >>> buckets({"price": 0.3, "age": -9.0})
    {'price_1': 1, 'age_-20': 1}
    """
    return {f"{name}_{math.floor(min(max(4 * z, -20), 20))}": 1 for name, z in x.items()}


STACKED = (
    "ensemble.StackingClassifier([linear_model.LogisticRegression(), "
    "linear_model.PAClassifier(mode=1, C=0.01), linear_model.PAClassifier(mode=2, C=0.01)], "
    "meta_classifier=linear_model.LogisticRegression())"
)
RIVER = (
    RiverPeer.of("river LogisticRegression", "linear_model.LogisticRegression(optim.SGD(0.1))"),
    RiverPeer.of("river FTRL", "linear_model.LogisticRegression(optim.FTRLProximal())"),
    RiverPeer.of("river AdPredictor", "linear_model.AdPredictor(beta=0.1)", BUCKETS),
    RiverPeer.of("river ALMA", "linear_model.ALMAClassifier()"),
    RiverPeer.of("river stacking", STACKED),
    RiverPeer.of(
        "river leveraging bagging",
        "ensemble.LeveragingBaggingClassifier(linear_model.LogisticRegression(), 3, seed=42)",
    ),
    RiverPeer.of("river Hoeffding tree", "tree.HoeffdingTreeClassifier()", PLAIN),
    RiverPeer.of(
        "river adaptive Hoeffding tree", "tree.HoeffdingAdaptiveTreeClassifier(seed=0)", PLAIN
    ),
    RiverPeer.of("river ARF", "forest.ARFClassifier(seed=8)", PLAIN),
    RiverPeer.of(
        "river SRP",
        "ensemble.SRPClassifier(tree.HoeffdingTreeClassifier(50, delta=0.01), seed=42)",
        PLAIN,
    ),
)
