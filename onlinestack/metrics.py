"""The scoreboard: how well each expert predicted, over the whole run and since the last report.

Every expert's prediction is scored when the label of its record is learned, always beside two
baselines that need no features. Accumulators are float64 and walk the tape record by record, so
that no figure depends on how records are grouped into blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from onlinestack.auc import CLIP, FEW, SHARE, Histograms, drop
from onlinestack.block import PREDICT, PREDICT_AND_LEARN_ONE, Block, Tape
from onlinestack.kernel import bound, kernel, log32

__all__ = ["BASELINES", "Score", "Scoreboard", "score"]

BASELINES = ("constant", "last label")
"""Names of the two baselines, in the order of their columns."""

REPEAT = np.float32(0.999)
"""Probability that the last-label baseline gives to the last label."""

LOW = np.float32(CLIP)
HIGH = np.float32(1.0 - CLIP)
HALF = np.float32(0.5)
ONE = np.float32(1)

RECORDS, WEIGHT, CLICKS, LAST = 0, 1, 2, 3
LOSS, PREDICTED, CORRECT, PRODUCT = 0, 1, 2, 3
TINY = 1e-200
PREDICTIONS = 4
"""Place of the predictions among the arguments of `score`."""


class Score(TypedDict):
    """Figures of one expert; None where a figure is not defined on the records so far.

    All are weighted by the records' weights. ``log_loss`` is in nats a record, of probabilities
    clipped to [1e-6, 1 - 1e-6]; ``normalized_entropy`` is the log-loss over the entropy of the
    click rate of the same records, below 1 for an expert that knows more than that rate;
    ``calibration`` is predicted over observed clicks; ``accuracy`` counts p > 0.5 as a click.
    """

    records: int
    weight: float
    click_rate: float | None
    log_loss: float | None
    normalized_entropy: float | None
    auc: float | None
    accuracy: float | None
    calibration: float | None


@kernel()
def score(
    op: Any,
    row: Any,
    label: Any,
    weight: Any,
    p: Any,
    served: Any,
    totals: Any,
    sums: Any,
    mass: Any,
    child: Any,
    used: Any,
) -> None:
    """Score the predictions of the rows the tape learns, and serve the baselines' predictions.

    *Constant* predicts the click rate so far, (clicks + 1/2) / (weight + 1); *last label* gives
    0.999 to the label learned last, 1/2 before the first. An expert whose p is not finite speaks
    with the constant for that record.

    Parameters
    ----------
    op, row
        The tape.
    label, weight
        ``float32[n]``: a label above 0 is a click.
    p
        ``float32[n, K]``: the experts' predictions as served.
    served
        ``float32[n, 2]``: the baselines' predictions, written where the tape predicts a row and
        read where it learns one.
    totals
        ``float64[4]``: records, weight, weight of clicks, last label (-1: none yet).
    sums
        ``float64[K + 2, 4]``: losses, predicted clicks, right guesses, all weighted; and the
        product of the probabilities given to what happened since it was last turned into a loss.
    mass, child, used
        Histograms of the K + 2 experts.
    """
    experts = p.shape[1]
    # Locals, because the compiler cannot know that no other array shares their memory.
    records, weights, clicks, last = totals[RECORDS], totals[WEIGHT], totals[CLICKS], totals[LAST]
    for step in range(len(op)):
        i = row[step]
        if op[step] == PREDICT:
            served[i, 0] = (clicks + 0.5) / (weights + 1.0)
            served[i, 1] = HALF if last < 0.0 else (REPEAT if last > 0.0 else ONE - REPEAT)
            continue
        y = 1 if label[i] > 0 else 0
        w = np.float64(weight[i])
        records += 1.0
        weights += w
        clicks += w * y
        last = np.float64(y)
        most = weights * max(SHARE, FEW / records)
        for k in range(experts + 2):
            q = p[i, k] if k < experts else served[i, k - experts]
            if not np.isfinite(q):
                q = served[i, 0]
            q = min(max(q, LOW), HIGH)
            given = q if y == 1 else ONE - q
            if w == 1.0:
                # A product of probabilities saves a logarithm a record.
                sums[k, PRODUCT] *= np.float64(given)
                if sums[k, PRODUCT] < TINY:
                    sums[k, LOSS] -= math.log(sums[k, PRODUCT])
                    sums[k, PRODUCT] = 1.0
            else:
                sums[k, LOSS] -= w * np.float64(log32(given))
            sums[k, PREDICTED] += w * np.float64(q)
            sums[k, CORRECT] += w if (q > HALF) == (y == 1) else 0.0
            drop(mass, child, used, k, q, y, w, most)
    totals[RECORDS], totals[WEIGHT], totals[CLICKS], totals[LAST] = records, weights, clicks, last


class _One(NamedTuple):
    """The scoring of a record that comes alone, bound to arrays that are filled anew."""

    block: Block
    p: NDArray[np.float32]
    served: NDArray[np.float32]
    call: Callable[[], object]


class Scoreboard:
    """Progressive scores of several experts and of two baselines.

    Use it beside a learner: hand it every block with the predictions served for it. Predictions
    of records without a label do not count.

    Parameters
    ----------
    names
        Names of the K experts, in the order of the columns of p; "constant" and "last label" are
        added at the end.
    kinds
        Kind of each expert, as the league table prints it ("member", "stacker", ...); the
        baselines are of kind "baseline".

    Raises
    ------
    ValueError
        When there is not one kind a name, or a name is taken twice.

    Examples
    --------
    >>> import numpy as np
    >>> from onlinestack.block import Block, immediate_tape
    >>> block = Block.of([[]] * 4, label=[1, 0, 1, 1])
    >>> board = Scoreboard(["final"], ["mixture"])
    >>> p = np.array([[0.5], [0.6], [0.7], [0.8]], np.float32)
    >>> served = board.update(block, immediate_tape(block.label), p)
    >>> round(board.whole("final")["log_loss"], 4), round(board.whole("constant")["log_loss"], 4)
    (0.5473, 0.8106)
    >>> board.whole("final")["accuracy"], board.whole("final")["calibration"]
    (0.5, 0.8666666746139526)
    """

    def __init__(self, names: Sequence[str], kinds: Sequence[str]) -> None:
        if len(names) != len(kinds):
            raise ValueError(
                f"{len(names)} names of experts and {len(kinds)} kinds were given; give one kind "
                "for each name."
            )
        self.names = (*names, *BASELINES)
        self.kinds = (*kinds, *("baseline" for _ in BASELINES))
        for name in names:
            if self.names.count(name) > 1:
                raise ValueError(f"The name {name!r} is taken twice; give each expert its own.")
        self._totals = np.array([0.0, 0.0, 0.0, -1.0])
        self._sums = np.zeros((len(self.names), 4))
        self._sums[:, PRODUCT] = 1.0
        self._histograms = Histograms.of(len(self.names))
        self._one: _One | None = None
        self.mark()

    def update(
        self,
        block: Block,
        tape: Tape,
        p: NDArray[np.float32],
        served: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Score the rows that the tape learns.

        Parameters
        ----------
        block
            Labels and weights; a label above 0 is a click.
        tape
            Its steps.
        p
            ``float32[n, K]``, or ``float32[n]`` for one expert: the predictions as served.
        served
            ``float32[n, 2]``: the baselines' predictions for rows that an earlier tape predicted
            and this one learns; they are kept like the scores of a pending record. Not needed
            where one tape does both.

        Returns
        -------
        The baselines' predictions, ``float32[n, 2]``; those of a single record that is predicted
        and learned at once hold until the next.
        """
        if tape is PREDICT_AND_LEARN_ONE and served is None:
            return self._update_one(block, p)
        if served is None:
            served = np.full((block.n, len(BASELINES)), HALF)
        score(*self._arguments(block, tape, p, served))
        return served

    def _update_one(self, block: Block, p: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score a record, quickly where block and p are the objects of the last, filled anew."""
        one = self._one
        if one is not None and one.block is block and one.p is p:
            one.served.fill(HALF)
            one.call()
            return one.served
        served = np.full((1, len(BASELINES)), HALF)
        arguments = self._arguments(block, PREDICT_AND_LEARN_ONE, p, served)
        score(*arguments)
        if np.may_share_memory(p, arguments[PREDICTIONS]):
            self._one = _One(block, p, served, bound(score, *arguments))
        return served

    def _arguments(
        self, block: Block, tape: Tape, p: NDArray[np.float32], served: NDArray[np.float32]
    ) -> tuple[Any, ...]:
        if p.dtype != np.float32 or not p.flags.carray:
            p = np.require(p, np.float32, ("C", "W"))
        bins = self._histograms
        return (
            tape.op,
            tape.row,
            block.label,
            block.weight,
            p.reshape(block.n, len(self.names) - len(BASELINES)),
            served,
            self._totals,
            self._sums,
            bins.mass,
            bins.child,
            bins.used,
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_one": None}

    def mark(self) -> None:
        """Start the figures of `since` anew."""
        self._mark = (self._totals.copy(), self._sums.copy(), self._histograms.mass.copy())

    def whole(self, name: str) -> Score:
        """Return the figures of one expert over the whole run."""
        k = self._number(name)
        return _figures(self._totals, _losses(self._sums[k]), self._histograms.auc(k))

    def since(self, name: str) -> Score:
        """Return the figures of one expert since the last `mark`, or the start."""
        k = self._number(name)
        totals, sums, mass = self._mark
        auc = self._histograms.auc(k, mass[k])
        return _figures(self._totals - totals, _losses(self._sums[k]) - _losses(sums[k]), auc)

    def plain(self) -> dict[str, Any]:
        """Return the figures of all over the whole run that take no time, lists as `names`."""
        scores = [_figures(self._totals, _losses(sums), None) for sums in self._sums]
        return {
            "weight": scores[0]["weight"],
            "click_rate": scores[0]["click_rate"],
            "log_loss": [each["log_loss"] for each in scores],
            "calibration": [each["calibration"] for each in scores],
        }

    def reliability(self, name: str, most: int = 20) -> list[dict[str, float]]:
        """Return how often clicks came where an expert predicted them more or less probable.

        Parameters
        ----------
        name
            The expert.
        most
            Groups of about the same weight that its predictions are cut into, at most.

        Returns
        -------
        A group each, by rising probability: its bounds ``low`` and ``high``, the ``weight`` of its
        records, the mean probability ``predicted`` and the click rate ``observed``. Within one of
        the histogram's bins, which are fine where much lies, the mean is taken to be its middle.
        """
        bins = self._histograms.bins(self._number(name))
        weight = bins[:, 2] + bins[:, 3]
        behind = np.cumsum(weight)
        share = behind[-1] / most if len(bins) else 1.0
        group = np.floor((behind - weight / 2) / share)
        groups: list[dict[str, float]] = []
        for number in np.unique(group):
            part, own = bins[group == number], weight[group == number]
            total = float(own.sum())
            groups.append(
                {
                    "low": float(part[0, 0]),
                    "high": float(part[-1, 1]),
                    "weight": total,
                    "predicted": float(((part[:, 0] + part[:, 1]) / 2 * own).sum()) / total,
                    "observed": float(part[:, 3].sum()) / total,
                }
            )
        return groups

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return all figures as named arrays and JSON."""
        bins = self._histograms
        totals, sums, mass = self._mark
        slots = bins.slots
        arrays = {
            "totals": self._totals,
            "sums": self._sums,
            "mass": bins.mass[:, :slots],
            "child": bins.child[:, :slots],
            "used": bins.used,
            "mark.totals": totals,
            "mark.sums": sums,
            "mark.mass": mass[:, :slots],
        }
        meta = {"names": list(self.names), "kinds": list(self.kinds)}
        return {name: array.copy() for name, array in arrays.items()}, meta

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on from the figures that `state` returned.

        Raises
        ------
        ValueError
            When they are of other experts than this scoreboard's.
        """
        if list(self.names) != list(meta["names"]):
            raise ValueError(
                f"The saved scores are of {', '.join(meta['names'])}, but the experts are "
                f"{', '.join(self.names)}; use the configuration they were saved with."
            )
        slots = arrays["mass"].shape[1]
        fresh = Scoreboard(self.names[: -len(BASELINES)], self.kinds[: -len(BASELINES)])
        fresh._totals[:] = arrays["totals"]
        fresh._sums[:] = arrays["sums"]
        fresh._histograms.mass[:, :slots] = arrays["mass"]
        fresh._histograms.child[:, :slots] = arrays["child"]
        fresh._histograms.used[:] = arrays["used"]
        totals, sums, mass = fresh._mark
        totals[:] = arrays["mark.totals"]
        sums[:] = arrays["mark.sums"]
        mass[:, :slots] = arrays["mark.mass"]
        self.__dict__.update(fresh.__dict__)

    def _number(self, name: str) -> int:
        if name not in self.names:
            near = get_close_matches(name, self.names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(self.names)}."
            raise ValueError(f"No expert is called {name!r}{hint}")
        return self.names.index(name)


def _losses(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums with the loss of the product added."""
    result = sums.copy()
    result[LOSS] -= math.log(sums[PRODUCT])
    return result


def _figures(totals: NDArray[np.float64], sums: NDArray[np.float64], auc: float | None) -> Score:
    weight, clicks = float(totals[WEIGHT]), float(totals[CLICKS])
    rate = clicks / weight if weight > 0 else None
    loss = float(sums[LOSS]) / weight if weight > 0 else None
    entropy = _entropy(rate) if rate is not None else 0.0
    return Score(
        records=int(totals[RECORDS]),
        weight=weight,
        click_rate=rate,
        log_loss=loss,
        normalized_entropy=loss / entropy if loss is not None and entropy > 0 else None,
        auc=auc,
        accuracy=float(sums[CORRECT]) / weight if weight > 0 else None,
        calibration=float(sums[PREDICTED]) / clicks if clicks > 0 else None,
    )


def _entropy(rate: float) -> float:
    return -sum(r * math.log(r) for r in (rate, 1.0 - rate) if r > 0)
