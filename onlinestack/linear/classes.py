"""One against all: a weight vector for each class, and the probabilities they give together.

Scores and updates are those of Vowpal Wabbit's ``--oaa``, taken as steps of a tape; the vectors of
a feature lie side by side. Where its driver adds books of a whole run, nothing is kept here but
what later predictions need.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN, Block, Tape
from onlinestack.kernel import exp32, kernel
from onlinestack.linear.interactions import Reads, gather, sum_of_squares
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.reductions import _class_score as class_score
from onlinestack.linear.rule import CLOCK, COIN, GD, HIGH, LOW, PISTOL, Rule, finalize
from onlinestack.linear.updates import learn, look_again

__all__ = ["ClassMember", "probabilities", "walk_classes"]

ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
LEAST = np.float32(1e-6)


@kernel()
def walk_classes(
    op: Any,
    tape_row: Any,
    label: Any,
    weight: Any,
    index: Any,
    value: Any,
    names: Any,
    start: Any,
    stop: Any,
    reads: Any,
    weights: Any,
    shared: Any,
    norms: Any,
    rule: Any,
    scratch: Any,
    met: Any,
    now: Any,
    score: Any,
    chosen: Any,
) -> None:
    """Take the steps of a tape: score every class of a row, or teach each whether it was the one.

    Parameters
    ----------
    label
        ``float32[n]``: codes from 1 on.
    norms
        ``float64[vectors, 3]``: state of each weight vector.
    met
        ``int64[1]``: how many classes, from the first on, may be chosen; grows with the labels.
    now
        ``float32[K]``: scratch.
    score
        ``float32[n, K]``: receives the classes' scores, before the link.
    chosen
        ``float32[n]``: receives the code of the class with the highest score, the first of equals
        among those met; 0 where none is.

    The others are those of the walk in ``linear.learner``.
    """
    classes = score.shape[1]
    slots, values = scratch.slots[0], scratch.values[0]
    listed = np.int64(-1)
    fresh = np.int64(-1)
    n = 0
    for step in range(op.shape[0]):
        r = np.int64(tape_row[step])
        if listed != r:
            n = gather(
                r, index, value, names, start, stop, reads, slots, values, scratch.at, weights, rule
            )
            listed = r
        low, high = np.float32(shared[LOW]), np.float32(shared[HIGH])
        # A row learned right after it was predicted keeps its scores: no weight has moved since.
        for c in range(classes if fresh != r else 0):
            raw = class_score(n, slots, values, np.uint64(c), weights, shared, rule)
            now[c] = finalize(raw, low, high)
        fresh = r
        if op[step] != LEARN:
            best = 0
            for c in range(classes):
                score[r, c] = now[c]
                if c < met[0] and (best == 0 or now[c] > now[best - 1]):
                    best = c + 1
            chosen[r] = best
            continue
        fresh = np.int64(-1)
        code = np.int64(label[r])
        met[0] = max(met[0], code)
        shared[CLOCK] += np.float64(weight[r])
        squares = ZERO
        if rule.update == GD and rule.invariant and not rule.adaptive and not rule.normalized:
            squares = sum_of_squares(r, value, names, start, stop, reads, scratch.sums)
        for c in range(classes):
            sign = ONE if c + 1 == code else -ONE
            if rule.track:
                shared[LOW] = min(shared[LOW], np.float64(sign))
                shared[HIGH] = max(shared[HIGH], np.float64(sign))
            if not weight[r] > ZERO:
                continue
            p = now[c]
            if rule.update == PISTOL or rule.update == COIN:
                raw = look_again(
                    n, slots, values, np.uint64(c), p, weight[r], weights, norms[c], rule
                )
                p = finalize(raw, np.float32(shared[LOW]), np.float32(shared[HIGH]))
            learn(
                n,
                slots,
                values,
                np.uint64(c),
                p,
                sign,
                weight[r],
                squares,
                weights,
                shared,
                norms[c],
                rule,
            )


@kernel()
def probabilities(linked: Any, score: Any, out: Any) -> None:
    """Turn the scores of each row into probabilities that add up to 1.

    Each score becomes a probability of its own, by the logistic function or, where scores
    approach the labels -1 and 1 themselves, as (1 + score) / 2; their shares are the result.

    Parameters
    ----------
    linked
        Whether scores are log-odds.
    score, out
        ``float32[n, K]``.

    Examples
    --------
    >>> out = np.empty((1, 2), np.float32)
    >>> probabilities(False, np.array([[0.5, -0.5]], np.float32), out)
    >>> out.tolist()
    [[0.75, 0.25]]
    """
    for i in range(score.shape[0]):
        total = ZERO
        for c in range(score.shape[1]):
            s = score[i, c]
            if linked:
                q = np.float32(ONE / np.float32(ONE + exp32(-s)))
            else:
                q = np.float32(np.float32(ONE + s) * HALF)
            q = min(max(q, LEAST), ONE)
            out[i, c] = q
            total = np.float32(total + q)
        for c in range(score.shape[1]):
            out[i, c] = np.float32(out[i, c] / total)


class ClassMember(LinearMember):
    """A linear learner with a weight vector for each class.

    Parameters
    ----------
    reads
        Which namespaces and interactions it reads; its ``spread`` has room for the classes.
    rule
        How it learns; its loss knows the labels -1 and 1.
    classes
        How many classes there are.
    met
        How many of them may be chosen from the start.
    options
        Those of `LinearMember`.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> from onlinestack.linear.interactions import reads_of
    >>> from onlinestack.linear.losses import Loss
    >>> rule = Rule(loss=Loss(low=np.float32(-1)))
    >>> member = ClassMember(reads_of(spread=4), rule, classes=3, met=0)
    >>> block = Block.of([[("f", [3], [1.0])]] * 3, label=[2, 2, 1])
    >>> member.run(block, immediate_tape(block.label))
    >>> member.chosen[:3].tolist()
    [0.0, 2.0, 2.0]
    """

    def __init__(self, reads: Reads, rule: Rule, *, classes: int, met: int, **options: Any) -> None:
        super().__init__(reads, rule, **options)
        self._classes = classes
        self._walk = walk_classes
        self._now = np.zeros(classes, np.float32)
        self._met = np.array([met], np.int64)
        self.score: NDArray[np.float32] = np.zeros((0, classes), np.float32)
        self.chosen: NDArray[np.float32] = np.zeros(0, np.float32)

    def _make_room(self, rows: int) -> None:
        if len(self.chosen) < rows:
            room = max(1024, rows)
            self.score = np.zeros((room, self._classes), np.float32)
            self.chosen = np.zeros(room, np.float32)

    def _arguments(self, block: Block, tape: Tape) -> tuple[Any, ...]:
        return (
            tape.op,
            tape.row,
            block.label,
            block.weight,
            block.index,
            block.value,
            block.names,
            block.start,
            block.stop,
            self.reads,
            self.weights,
            self.shared,
            self.norms,
            self.rule,
            self._scratch,
            self._met,
            self._now,
            self.score,
            self.chosen,
        )

    def _still(self) -> Self:
        still = super()._still()
        still._met = self._met.copy()
        return still

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state as arrays and JSON."""
        arrays, meta = super().state()
        return arrays, {**meta, "met": int(self._met[0])}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back a state that `state` returned."""
        super().restore(arrays, meta)
        self._met[0] = meta["met"]
