"""Scoreboards of classes and of numbers, beside that of clicks in ``metrics``.

They have the verbs of the click scoreboard, the same two baselines, and accumulators that walk
the tape record by record in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from onlinestack.auc import CLIP
from onlinestack.block import PREDICT, Block, Tape
from onlinestack.kernel import kernel, log32
from onlinestack.metrics import BASELINES

__all__ = ["ClassBoard", "ClassScore", "NumberBoard", "NumberScore", "judge", "measure"]

REPEAT = np.float32(0.999)
"""Probability that the last-label baseline gives to the last label."""
LOW = np.float32(CLIP)
HIGH = np.float32(1.0 - CLIP)

RECORDS, WEIGHT, LAST, SUM = 0, 1, 2, 3
LOSS, CORRECT = 0, 1
ABSOLUTE, SQUARE = 0, 1


class ClassScore(TypedDict):
    """Figures of one expert on classes; None where one is not defined on the records so far.

    All are weighted by the records' weights. ``log_loss`` is in nats a record, of the probability
    given to the class that was right, clipped to [1e-6, 1 - 1e-6]; ``normalized_entropy`` is the
    log-loss over the entropy of the shares of the classes.
    """

    records: int
    weight: float
    log_loss: float | None
    accuracy: float | None
    normalized_entropy: float | None


class NumberScore(TypedDict):
    """Figures of one expert on numbers; None where one is not defined on the records so far.

    All are weighted by the records' weights and in units of the label: mean absolute error, root
    of the mean squared error, and the mean of the labels.
    """

    records: int
    weight: float
    mae: float | None
    rmse: float | None
    label_mean: float | None


@kernel()
def judge(
    op: Any,
    row: Any,
    label: Any,
    weight: Any,
    p: Any,
    chosen: Any,
    served: Any,
    totals: Any,
    shares: Any,
    sums: Any,
) -> None:
    """Score the class probabilities of the rows the tape learns, and serve the baselines.

    *Constant* gives class c the probability (weight of c + 1/K) / (weight + 1) and chooses the most
    frequent; *last label* gives 0.999 to the class learned last and shares out the rest. A
    probability that is not finite counts as the constant's.

    Parameters
    ----------
    op, row
        The tape.
    label, weight
        ``float32[n]``: labels are the codes 1 to K.
    p
        ``float32[n, K]``: the probability of each class as served.
    chosen
        ``float32[n]``: code of the class predicted, 0 for none.
    served
        ``float32[n, K + 2]``: the constant's probabilities, its choice and the last label, written
        where the tape predicts a row and read where it learns one.
    totals
        ``float64[3]``: records, weight, last label (0: none yet).
    shares
        ``float64[K]``: weight of each class.
    sums
        ``float64[3, 2]``: losses and right choices, weighted: model, constant, last label.
    """
    classes = p.shape[1]
    for step in range(len(op)):
        i = row[step]
        if op[step] == PREDICT:
            most = 0
            for c in range(classes):
                served[i, c] = (shares[c] + 1.0 / classes) / (totals[WEIGHT] + 1.0)
                if shares[c] > shares[most]:
                    most = c
            served[i, classes] = most + 1 if totals[RECORDS] > 0.0 else 0
            served[i, classes + 1] = totals[LAST]
            continue
        code = np.int64(label[i])
        w = np.float64(weight[i])
        for k in range(3):
            if k == 0:
                q, choice = p[i, code - 1], np.int64(chosen[i])
            elif k == 1:
                q, choice = served[i, code - 1], np.int64(served[i, classes])
            else:
                choice = np.int64(served[i, classes + 1])
                q = np.float32(1.0 / classes)
                if choice > 0:
                    q = REPEAT if choice == code else np.float32((1 - REPEAT) / (classes - 1))
            if not np.isfinite(q):
                q = served[i, code - 1]
            q = min(max(q, LOW), HIGH)
            sums[k, LOSS] -= w * np.float64(log32(q))
            sums[k, CORRECT] += w if choice == code else 0.0
        totals[RECORDS] += 1.0
        totals[WEIGHT] += w
        totals[LAST] = np.float64(code)
        shares[code - 1] += w


@kernel()
def measure(
    op: Any, row: Any, label: Any, weight: Any, p: Any, served: Any, totals: Any, sums: Any
) -> None:
    """Measure how far the predictions of the rows the tape learns are from the labels.

    *Constant* predicts the mean of the labels so far, *last label* the label learned last, both 0
    before the first. A prediction that is not finite counts as the constant's.

    Parameters
    ----------
    op, row
        The tape.
    label, weight
        ``float32[n]``.
    p
        ``float32[n]``: the predictions as served.
    served
        ``float64[n, 2]``: the baselines' predictions, written where the tape predicts a row and
        read where it learns one.
    totals
        ``float64[4]``: records, weight, last label, weighted sum of labels.
    sums
        ``float64[3, 2]``: absolute and squared errors, weighted: model, constant, last label.
    """
    for step in range(len(op)):
        i = row[step]
        if op[step] == PREDICT:
            served[i, 0] = totals[SUM] / totals[WEIGHT] if totals[WEIGHT] > 0.0 else 0.0
            served[i, 1] = totals[LAST]
            continue
        y = np.float64(label[i])
        w = np.float64(weight[i])
        for k in range(3):
            q = np.float64(p[i]) if k == 0 else served[i, k - 1]
            if not np.isfinite(q):
                q = served[i, 0]
            sums[k, ABSOLUTE] += w * abs(q - y)
            sums[k, SQUARE] += w * ((q - y) * (q - y))
        totals[RECORDS] += 1.0
        totals[WEIGHT] += w
        totals[LAST] = y
        totals[SUM] += w * y


class _Board:
    """What boards share: names, state, and figures of the whole and since a mark.

    Parameters
    ----------
    name
        Name of the model.
    kind
        Its kind, as the league table prints it.
    sizes
        Shape of each accumulator, by name.
    """

    def __init__(self, name: str, kind: str, sizes: Mapping[str, tuple[int, ...]]) -> None:
        self.names = (name, *BASELINES)
        self.kinds = (kind, *("baseline" for _ in BASELINES))
        self._arrays = {key: np.zeros(shape) for key, shape in sizes.items()}
        self.mark()

    def mark(self) -> None:
        """Start the figures of `since` anew."""
        self._mark = {key: array.copy() for key, array in self._arrays.items()}

    def _of(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"No expert is called {name!r}; known: {', '.join(self.names)}.")
        return self.names.index(name)

    def _since(self) -> dict[str, NDArray[np.float64]]:
        return {key: array - self._mark[key] for key, array in self._arrays.items()}

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return all figures as named arrays and JSON."""
        arrays = {key: array.copy() for key, array in self._arrays.items()}
        arrays |= {f"mark.{key}": array.copy() for key, array in self._mark.items()}
        return arrays, {"names": list(self.names), "kinds": list(self.kinds)}

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on from the figures that `state` returned.

        Raises
        ------
        ValueError
            When they are of another model, or of another number of classes.
        """
        if list(self.names) != list(meta["names"]):
            raise ValueError(
                f"The saved scores are of {', '.join(meta['names'])}, but the experts are "
                f"{', '.join(self.names)}; use the configuration they were saved with."
            )
        for key, array in self._arrays.items():
            array[:] = arrays[key]
            self._mark[key][:] = arrays[f"mark.{key}"]


class ClassBoard(_Board):
    """Progressive scores of a model that tells classes apart, and of two baselines.

    Parameters
    ----------
    name, kind
        What to call the model.
    classes
        Number of classes, 2 or more.

    Examples
    --------
    >>> from onlinestack.block import Block, immediate_tape
    >>> block = Block.of([[]] * 3, label=[1, 3, 3])
    >>> p = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.1, 0.5, 0.4]], np.float32)
    >>> board = ClassBoard("final", "mixture", 3)
    >>> chosen = np.array([1, 3, 2], np.float32)
    >>> served = board.update(block, immediate_tape(block.label), p, chosen)
    >>> round(board.whole("final")["log_loss"], 4), round(board.whole("final")["accuracy"], 4)
    (0.6109, 0.6667)
    """

    def __init__(self, name: str, kind: str, classes: int) -> None:
        self._classes = classes
        super().__init__(name, kind, {"totals": (3,), "shares": (classes,), "sums": (3, 2)})

    def update(
        self,
        block: Block,
        tape: Tape,
        p: NDArray[np.float32],
        chosen: NDArray[np.float32],
        served: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Score the rows that the tape learns.

        Parameters
        ----------
        block
            Labels, as codes, and weights.
        tape
            Its steps.
        p
            ``float32[n, K]``: the probability of each class as served.
        chosen
            ``float32[n]``: code of the class predicted, 0 for none.
        served
            ``float32[n, K + 2]``: what this returned for rows that an earlier tape predicted and
            this one learns.

        Returns
        -------
        What the baselines served, ``float32[n, K + 2]``.
        """
        if served is None:
            served = np.zeros((block.n, self._classes + 2), np.float32)
        a = self._arrays
        own = np.require(p, np.float32, ("C", "W"))
        choice = np.require(chosen, np.float32, ("C", "W"))
        judge(
            tape.op,
            tape.row,
            block.label,
            block.weight,
            own,
            choice,
            served,
            a["totals"],
            a["shares"],
            a["sums"],
        )
        return served

    def shares(self) -> list[float]:
        """Return the share of each class in the weight of the records so far."""
        weight = float(self._arrays["totals"][WEIGHT])
        return [float(share) / weight if weight > 0 else 0.0 for share in self._arrays["shares"]]

    def whole(self, name: str) -> ClassScore:
        """Return the figures of one expert over the whole run."""
        return self._figures(self._of(name), self._arrays)

    def since(self, name: str) -> ClassScore:
        """Return the figures of one expert since the last `mark`, or the start."""
        return self._figures(self._of(name), self._since())

    def plain(self) -> dict[str, Any]:
        """Return the figures of all over the whole run, lists as `names`."""
        scores = [self.whole(name) for name in self.names]
        return {
            "weight": scores[0]["weight"],
            "log_loss": [each["log_loss"] for each in scores],
            "accuracy": [each["accuracy"] for each in scores],
            "normalized_entropy": [each["normalized_entropy"] for each in scores],
        }

    @staticmethod
    def _figures(k: int, arrays: Mapping[str, NDArray[np.float64]]) -> ClassScore:
        totals, sums = arrays["totals"], arrays["sums"]
        weight = float(totals[WEIGHT])
        loss = float(sums[k, LOSS]) / weight if weight > 0 else None
        rates = (float(share) / weight for share in arrays["shares"] if share > 0)
        entropy = -sum(rate * math.log(rate) for rate in rates)
        return ClassScore(
            records=int(totals[RECORDS]),
            weight=weight,
            log_loss=loss,
            accuracy=float(sums[k, CORRECT]) / weight if weight > 0 else None,
            normalized_entropy=loss / entropy if loss is not None and entropy > 0 else None,
        )


class NumberBoard(_Board):
    """Progressive errors of a model that predicts numbers, and of two baselines.

    Parameters
    ----------
    name, kind
        What to call the model.

    Examples
    --------
    >>> from onlinestack.block import Block, immediate_tape
    >>> block = Block.of([[]] * 3, label=[10, 20, 30])
    >>> board = NumberBoard("final", "mixture")
    >>> served = board.update(block, immediate_tape(block.label), np.array([9, 20, 33], np.float32))
    >>> [board.whole(name)["mae"] for name in board.names]
    [1.3333333333333333, 11.666666666666666, 10.0]
    """

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(name, kind, {"totals": (4,), "sums": (3, 2)})

    def update(
        self,
        block: Block,
        tape: Tape,
        p: NDArray[np.float32],
        served: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Measure the rows that the tape learns.

        Parameters
        ----------
        block
            Labels and weights.
        tape
            Its steps.
        p
            ``float32[n]``: the predictions as served.
        served
            ``float64[n, 2]``: what this returned for rows that an earlier tape predicted and this
            one learns.

        Returns
        -------
        What the baselines served, ``float64[n, 2]``.
        """
        if served is None:
            served = np.zeros((block.n, len(BASELINES)))
        own = np.require(p, np.float32, ("C", "W"))
        totals, sums = self._arrays["totals"], self._arrays["sums"]
        measure(tape.op, tape.row, block.label, block.weight, own, served, totals, sums)
        return served

    def whole(self, name: str) -> NumberScore:
        """Return the figures of one expert over the whole run."""
        return self._figures(self._of(name), self._arrays)

    def since(self, name: str) -> NumberScore:
        """Return the figures of one expert since the last `mark`, or the start."""
        return self._figures(self._of(name), self._since())

    def plain(self) -> dict[str, Any]:
        """Return the figures of all over the whole run, lists as `names`."""
        scores = [self.whole(name) for name in self.names]
        return {
            "weight": scores[0]["weight"],
            "label_mean": scores[0]["label_mean"],
            "mae": [each["mae"] for each in scores],
            "rmse": [each["rmse"] for each in scores],
        }

    @staticmethod
    def _figures(k: int, arrays: Mapping[str, NDArray[np.float64]]) -> NumberScore:
        totals, sums = arrays["totals"], arrays["sums"]
        weight = float(totals[WEIGHT])
        known = weight > 0
        return NumberScore(
            records=int(totals[RECORDS]),
            weight=weight,
            mae=float(sums[k, ABSOLUTE]) / weight if known else None,
            # A difference of two sums may end a hair's breadth below zero.
            rmse=math.sqrt(max(0.0, float(sums[k, SQUARE])) / weight) if known else None,
            label_mean=float(totals[SUM]) / weight if known else None,
        )
