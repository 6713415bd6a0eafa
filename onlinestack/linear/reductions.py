"""Learners made of many weight vectors (one against all, bootstrap), and the walk that scores.

The walk here keeps the books as Vowpal Wabbit does: every record is predicted and learned as its
driver would, and its statistics advance in the order of the records, all sums in double. One
scorer, the classes of ``oaa``, the rounds of ``bootstrap`` and rounds within classes are the same
walk: vector ``v`` of a feature lies ``v`` slots behind the first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import exp32, kernel, log32
from onlinestack.linear.interactions import gather, sum_of_squares
from onlinestack.linear.losses import link
from onlinestack.linear.rule import (
    CLOCK,
    COIN,
    FTRL,
    GAMMA,
    GD,
    HIGH,
    KAPPA,
    LOW,
    SCALE,
    finalize,
    truncated,
    weighted_loss,
)
from onlinestack.linear.updates import learn, look_again, predict

__all__ = ["BOOKS", "Outcome", "Plan", "draw_count", "follow", "next_random"]

ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
TINY = 1e-10

(
    T,
    LABELED,
    UNLABELED,
    HELD,
    HELD_LOSS,
    HELD_SINCE,
    HELD_LOSS_SINCE,
    HELD_PASS,
    HELD_LOSS_PASS,
    LOSS,
    LOSS_SINCE,
    LABELED_BEFORE,
    LABELS,
    EXAMPLES,
    FEATURES,
    DUMP,
    ADDS,
    STEP,
    FIRST,
    SECOND,
    MORE,
    INDEXING,
    LOG_LOSS,
    HELD_LOG_LOSS,
) = range(24)
BOOKS = 24
"""Places in the books of a run: weights and losses of all kinds, when to report next, labels."""


class Plan(NamedTuple):
    """How the walk goes about a record.

    Parameters
    ----------
    classes
        Number of classes of ``oaa``; 0 for a single prediction.
    rounds
        Number of rounds of ``bootstrap``; 0 for none.
    vote
        Whether rounds vote instead of being averaged.
    test
        Whether nothing is learned.
    reports_held
        Whether reports are about the records held out.
    scores
        Whether records without a label count as lost, as they do with ``--scores``.
    probabilities
        Whether scores are made probabilities, and their log loss is kept.
    quiet
        Whether reports are never due.
    link
        Code of the link.
    """

    classes: int = 0
    rounds: int = 0
    vote: bool = False
    test: bool = False
    reports_held: bool = False
    scores: bool = False
    probabilities: bool = False
    quiet: bool = False
    link: int = 0


class Outcome(NamedTuple):
    """What the walk writes for each record.

    Parameters
    ----------
    prediction
        ``float32[n]``: the prediction, linked; a class number with ``oaa``.
    score
        ``float32[n, v]``: each vector's prediction, linked; where classes have rounds, first
        those of classes, then those of rounds.
    raw
        ``float32[n, 2 * v]``: each vector's raw sum; behind them those of a second call, where a
        class of ``oaa`` predicts and learns through ``bootstrap``.
    report
        ``float64[n, 8]``: a row for each report that was due: record, average loss, loss since
        the report before, examples, weight, features, and 1 for each of the two losses that
        there is.
    base
        ``uint8[n, 2]``: the number of the first class, before and after the record.
    learned
        ``uint8[n]``: whether the record was learned.
    pulls
        ``float32[n, 2 * v, 3]``: gravity and contraction as each round of ``bootstrap`` met them,
        and its prediction before the link; that also of a second call of classes.
    votes
        ``int64[v]``: scratch.
    """

    prediction: NDArray[np.float32]
    score: NDArray[np.float32]
    raw: NDArray[np.float32]
    report: NDArray[np.float64]
    base: NDArray[np.uint8]
    learned: NDArray[np.uint8]
    pulls: NDArray[np.float32]
    votes: NDArray[np.int64]

    @classmethod
    def of(cls, n: int, plan: Plan) -> Outcome:
        """Make room for ``n`` records."""
        vectors = max(1, plan.classes) * max(1, plan.rounds)
        return cls(
            np.zeros(n, np.float32),
            np.zeros((n, max(1, plan.classes) * (1 + plan.rounds)), np.float32),
            np.zeros((n, 2 * vectors), np.float32),
            np.zeros((n, 8)),
            np.zeros((n, 2), np.uint8),
            np.zeros(n, np.uint8),
            np.zeros((n, 2 * vectors, 3), np.float32),
            np.zeros(max(1, plan.rounds), np.int64),
        )


@kernel()
def next_random(draw: Any) -> Any:
    """Advance the state of the generator and return a number from 0 up to 1.

    Examples
    --------
    >>> import numpy as np
    >>> draw = np.zeros(1, np.uint64)
    >>> [round(float(next_random(draw)), 6) for _ in range(3)]
    [8e-06, 0.048357, 0.036452]
    """
    draw[0] = np.uint64(0xEECE66D5DEECE66D) * draw[0] + np.uint64(2147483647)
    bits = (draw[0] >> np.uint64(25)) & np.uint64(0x7FFFFF)
    return np.float32(np.float64(bits) / 8388608.0)


@kernel()
def draw_count(draw: Any) -> Any:
    """Return how often a round of ``bootstrap`` sees a record: Poisson numbers of mean 1."""
    r = np.float64(next_random(draw))
    count = 0
    limit = 0.36787944117144233
    term = limit
    while r > limit and count < 20:
        count += 1
        term /= count
        limit += term
    return np.float32(count)


@kernel()
def _call(
    learns: Any,
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    initial: Any,
    y: Any,
    importance: Any,
    squares: Any,
    weights: Any,
    shared: Any,
    norm: Any,
    rule: Any,
    books: Any,
) -> Any:
    """Call one vector's scorer to predict or to learn; return the raw sum and the prediction."""
    if learns and rule.track:
        shared[LOW] = min(shared[LOW], np.float64(y))
        shared[HIGH] = max(shared[HIGH], np.float64(y))
    raw = predict(n, slots, values, offset, initial, weights, shared, rule)
    teaches = learns and importance > ZERO
    if teaches:
        raw = look_again(n, slots, values, offset, raw, importance, weights, norm, rule)
    p = finalize(raw, np.float32(shared[LOW]), np.float32(shared[HIGH]))
    if teaches:
        _advance(importance, shared, books)
        learn(n, slots, values, offset, p, y, importance, squares, weights, shared, norm, rule)
    return raw, p


@kernel()
def _advance(importance: Any, shared: Any, books: Any) -> None:
    """Set the clock that rates decay with: the weight learned, that of this call counted in."""
    t = books[T] + np.float64(importance) - books[HELD] - books[UNLABELED]
    shared[CLOCK] = np.float64(np.float32(t))


@kernel()
def _update(
    n: Any,
    slots: Any,
    values: Any,
    offset: Any,
    p: Any,
    y: Any,
    importance: Any,
    squares: Any,
    weights: Any,
    shared: Any,
    norms: Any,
    rule: Any,
    books: Any,
    pull: Any,
) -> None:
    """Teach a class its label, from the score found when classes were compared.

    The followers of the regularised leader have no such step: they predict anew, and learn
    whatever the importance.
    """
    if rule.track:
        shared[LOW] = min(shared[LOW], np.float64(y))
        shared[HIGH] = max(shared[HIGH], np.float64(y))
    if rule.update == GD:
        norm = norms[offset]
        norm[SCALE] = norms[0, SCALE]
        _advance(importance, shared, books)
        learn(n, slots, values, offset, p, y, importance, squares, weights, shared, norm, rule)
        norms[0, SCALE] = norm[SCALE]
        return
    norm = norms[0]
    raw = predict(n, slots, values, offset, ZERO, weights, shared, rule)
    raw = look_again(n, slots, values, offset, raw, importance, weights, norm, rule)
    p = finalize(raw, np.float32(shared[LOW]), np.float32(shared[HIGH]))
    pull[0], pull[1], pull[2] = ZERO, ONE, p
    learn(n, slots, values, offset, p, y, importance, squares, weights, shared, norm, rule)


@kernel()
def _elect(votes: Any) -> Any:
    """Return the majority of votes, or else one of the most frequent, as Vowpal Wabbit does.

    A candidate is found by counting up for itself and down for others; only where more than two
    different votes were seen is it checked, and others tried in order of size. The largest vote
    is never tried: it ends the list, and only a change of votes ends a run of equal ones.

    Examples
    --------
    >>> int(_elect(np.array([1, 50, -1, 50, 0]))), int(_elect(np.array([1, 2, -1, 1, 0])))
    (0, 1)
    """
    n = len(votes)
    count = 0
    first = current = votes[0]
    many = False
    for i in range(n):
        vote = votes[i]
        if first != current and vote != current and vote != first:
            many = True
        if count == 0:
            count = 1
            current = vote
        elif vote == current:
            count += 1
        else:
            count -= 1
    if not many:
        return current
    agree = 0
    for i in range(n):
        agree += votes[i] == current
    if count > 0 and 2 * agree > n:
        return current
    for i in range(1, n):
        for j in range(i, 0, -1):
            if votes[j - 1] > votes[j]:
                votes[j - 1], votes[j] = votes[j], votes[j - 1]
    most = 1
    run = 1
    for i in range(1, n):
        if votes[i] == votes[i - 1]:
            run += 1
            continue
        if run > most:
            current = votes[i - 1]
            most = run
        run = 1
    return current


@kernel()
def _vote(p: Any) -> Any:
    """Return a prediction rounded to a whole number of 32 bits, the least one for any other."""
    rounded = np.floor(np.float64(p) + 0.5)
    if -2147483648.0 <= rounded <= 2147483647.0:
        return np.int64(rounded)
    return np.int64(-2147483648)


@kernel()
def _rounds(
    learns: Any,
    n: Any,
    slots: Any,
    values: Any,
    first: Any,
    initial: Any,
    y: Any,
    importance: Any,
    squares: Any,
    weights: Any,
    shared: Any,
    norms: Any,
    rule: Any,
    plan: Any,
    draw: Any,
    books: Any,
    score: Any,
    raws: Any,
    pulls: Any,
    votes: Any,
) -> Any:
    """Call every round of a bootstrap; return the prediction and the loss."""
    total = 0.0
    for i in range(plan.rounds):
        drawn = np.float32(importance * draw_count(draw))
        vector = first + i
        norm = norms[vector if rule.update == GD else 0]
        norm[SCALE] = norms[0, SCALE]
        pulls[vector, 0] = np.float32(shared[GAMMA])
        pulls[vector, 1] = np.float32(shared[KAPPA])
        raw, p = _call(
            learns,
            n,
            slots,
            values,
            np.uint64(vector),
            initial,
            y,
            drawn,
            squares,
            weights,
            shared,
            norm,
            rule,
            books,
        )
        norms[0, SCALE] = norm[SCALE]
        pulls[vector, 2] = p
        p = link(plan.link, p)
        raws[vector] = raw
        score[vector] = p
        votes[i] = _vote(p)
        total += np.float64(p)
    if plan.vote:
        elected = np.float32(_elect(votes))
        lost = ZERO if elected == y else importance
        return elected, lost
    mean = np.float32(np.float32(total) / np.float32(plan.rounds))
    return mean, weighted_loss(mean, y, importance, shared, rule)


@kernel()
def _class_score(
    n: Any, slots: Any, values: Any, offset: Any, weights: Any, shared: Any, rule: Any
) -> Any:
    """Return a class's raw sum; values next to nothing are passed over, without l1."""
    raw = ZERO
    gravity = np.float32(shared[GAMMA])
    cut = rule.l1 > 0.0 and rule.update == GD
    for i in range(n):
        x = values[i]
        if not cut and abs(np.float64(x)) < TINY:
            continue
        w = weights[((np.uint64(slots[i]) + offset) & rule.mask) << rule.shift]
        if cut:
            w = truncated(w, gravity)
        raw = np.float32(raw + np.float32(w * x))
    if rule.update == GD:
        raw = np.float32(raw * np.float32(shared[KAPPA]))
    return raw


@kernel()
def _share(score: Any, classes: Any) -> None:
    """Make the scores of classes probabilities that add up to 1."""
    total = ZERO
    for c in range(classes):
        score[c] = np.float32(ONE / np.float32(ONE + exp32(-score[c])))
        total = np.float32(total + score[c])
    share = np.float32(ONE / total)
    for c in range(classes):
        score[c] = np.float32(score[c] * share)


@kernel()
def _classes(
    learns: Any,
    n: Any,
    slots: Any,
    values: Any,
    y: Any,
    importance: Any,
    squares: Any,
    weights: Any,
    shared: Any,
    norms: Any,
    rule: Any,
    plan: Any,
    draw: Any,
    books: Any,
    only: Any,
    known: Any,
    score: Any,
    raws: Any,
    bases: Any,
    pulls: Any,
    votes: Any,
) -> Any:
    """Score every class, then teach each whether it was the one; return prediction and loss."""
    width = max(1, plan.rounds)
    best = 0
    most = ZERO
    for c in range(plan.classes):
        if plan.rounds > 0:
            p, _ = _rounds(
                False,
                n,
                slots,
                values,
                c * width,
                ZERO,
                np.float32(np.nan),
                importance,
                squares,
                weights,
                shared,
                norms,
                rule,
                plan,
                draw,
                books,
                score[plan.classes :],
                raws,
                pulls,
                votes,
            )
        else:
            raw = _class_score(n, slots, values, np.uint64(c), weights, shared, rule)
            raws[c] = raw
            p = finalize(raw, np.float32(shared[LOW]), np.float32(shared[HIGH]))
            p = link(plan.link, p)
        score[c] = p
        if c == 0 or p > most:
            best, most = c, p
    bases[0] = 0 if books[INDEXING] == 0.0 else 1
    if learns and books[INDEXING] < 0.0:
        if y == ZERO:
            books[INDEXING] = 0.0
        elif y == np.float32(plan.classes):
            books[INDEXING] = 1.0
    base = 0 if books[INDEXING] == 0.0 else 1
    bases[1] = base
    if learns:
        for c in range(plan.classes):
            sign = ONE if np.float32(c + base) == y else -ONE
            if plan.rounds > 0:
                _rounds(
                    True,
                    n,
                    slots,
                    values,
                    c * width,
                    ZERO,
                    sign,
                    importance,
                    squares,
                    weights,
                    shared,
                    norms,
                    rule,
                    plan,
                    draw,
                    books,
                    score[plan.classes :],
                    raws[plan.classes * width :],
                    pulls[plan.classes * width :],
                    votes,
                )
                continue
            _update(
                n,
                slots,
                values,
                np.uint64(c),
                score[c],
                sign,
                importance,
                squares,
                weights,
                shared,
                norms,
                rule,
                books,
                pulls[plan.classes + c],
            )
    if plan.probabilities:
        _share(score, plan.classes)
        place = np.int64(y) if known else np.int64(4294967295)
        place = (place if base == 0 else (place - 1) & 4294967295) % plan.classes
        surprise = np.float32(999)
        if score[place] > ZERO:
            surprise = np.float32(-log32(score[place]) * importance)
        books[HELD_LOG_LOSS if only else LOG_LOSS] += np.float64(surprise)
    chosen = np.float32(best + (base if plan.scores else np.int64(bases[0])))
    lost = ZERO
    if chosen != y and (plan.scores or not np.isnan(y)):
        lost = importance
    return chosen, lost


@kernel()
def _count_label(y: Any, books: Any) -> None:
    """Remember the first two labels, and whether there are more."""
    if books[MORE] != 0.0:
        return
    if np.isnan(books[FIRST]):
        books[FIRST] = np.float64(y)
    elif books[FIRST] != np.float64(y):
        if np.isnan(books[SECOND]):
            books[SECOND] = np.float64(y)
        elif books[SECOND] != np.float64(y):
            books[MORE] = 1.0


@kernel()
def _over(a: Any, b: Any) -> Any:
    """Return a quotient as C has it, also over nothing."""
    if b != 0.0:
        return a / b
    if a == 0.0 or np.isnan(a):
        return -np.nan
    return np.inf if a > 0.0 else -np.inf


@kernel()
def _report(r: Any, features: Any, row: Any, books: Any, plan: Any) -> None:
    """Write a report and set when the next is due."""
    average = since = 0.0
    row[6] = row[7] = 0.0
    if plan.reports_held:
        if books[HELD] != 0.0 or books[HELD_LOSS] != 0.0:
            average = _over(books[HELD_LOSS], books[HELD])
            row[6] = 1.0
        if books[HELD_SINCE] != 0.0 or books[HELD_LOSS_SINCE] != 0.0:
            since = _over(books[HELD_LOSS_SINCE], books[HELD_SINCE])
            row[7] = 1.0
        books[HELD_SINCE] = 0.0
        books[HELD_LOSS_SINCE] = 0.0
    else:
        if books[LABELED] > 0.0:
            average = _over(books[LOSS], books[LABELED])
            row[6] = 1.0
        if books[LABELED] != books[LABELED_BEFORE]:
            since = _over(books[LOSS_SINCE], books[LABELED] - books[LABELED_BEFORE])
            row[7] = 1.0
    row[0] = r
    row[1] = average
    row[2] = since
    row[3] = books[EXAMPLES]
    row[4] = books[LABELED] + books[UNLABELED]
    row[5] = features
    books[LOSS_SINCE] = 0.0
    books[LABELED_BEFORE] = books[LABELED]
    now = np.float32(books[LABELED] + books[UNLABELED])
    step = np.float32(books[STEP])
    books[DUMP] = np.float64(np.float32(now + step if books[ADDS] != 0.0 else now * step))


@kernel()
def _only_interacting(row: Any, names: Any, start: Any, stop: Any, reads: Any) -> Any:
    """Count the features that take part in interactions but not by themselves."""
    count = 0
    for g in range(names.shape[1]):
        c = names[row, g]
        if c != 0 and reads.used[c] == 1 and reads.linear[c] == 0:
            count += stop[row, g] - start[row, g]
    return count


@kernel()
def follow(
    label: Any,
    weight: Any,
    initial: Any,
    held: Any,
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
    plan: Any,
    scratch: Any,
    draw: Any,
    books: Any,
    out: Any,
) -> Any:
    """Predict, score and learn records in order; return how many reports were due.

    The list of the next record is written before a record is worked on, so that its weights are
    on their way from memory; lists depend on features only.

    Parameters
    ----------
    held
        ``uint8[n]``: 1 for records that are scored but not learned from.
    norms
        ``float64[vectors, 3]``: state of each weight vector.
    draw
        ``uint64[1]``: state of the random numbers.
    books
        ``float64[BOOKS]``: statistics of the run.
    out
        The `Outcome`.

    The others are those of the walk in ``linear.learner``.
    """
    n_rows = label.shape[0]
    reports = 0
    if n_rows > 0:
        scratch.length[0] = gather(
            0,
            index,
            value,
            names,
            start,
            stop,
            reads,
            scratch.slots[0],
            scratch.values[0],
            scratch.at,
            weights,
            rule,
        )
    for r in range(n_rows):
        here = r & 1
        if r + 1 < n_rows:
            scratch.length[1 - here] = gather(
                r + 1,
                index,
                value,
                names,
                start,
                stop,
                reads,
                scratch.slots[1 - here],
                scratch.values[1 - here],
                scratch.at,
                weights,
                rule,
            )
        n = scratch.length[here]
        slots = scratch.slots[here]
        values = scratch.values[here]
        y, w = label[r], weight[r]
        known = not np.isnan(y)
        only = held[r] == 1 or not known
        learns = not plan.test and not only
        out.learned[r] = 1 if learns else 0
        features = n + _only_interacting(r, names, start, stop, reads)
        squares = ZERO
        if learns and rule.invariant and not rule.adaptive and not rule.normalized:
            squares = sum_of_squares(r, value, names, start, stop, reads, scratch.sums)
        if plan.classes > 0:
            p, lost = _classes(
                learns,
                n,
                slots,
                values,
                y,
                w,
                squares,
                weights,
                shared,
                norms,
                rule,
                plan,
                draw,
                books,
                only,
                known,
                out.score[r],
                out.raw[r],
                out.base[r],
                out.pulls[r],
                out.votes,
            )
        elif plan.rounds > 0:
            p, lost = _rounds(
                learns,
                n,
                slots,
                values,
                0,
                initial[r],
                y,
                w,
                squares,
                weights,
                shared,
                norms,
                rule,
                plan,
                draw,
                books,
                out.score[r],
                out.raw[r],
                out.pulls[r],
                out.votes,
            )
        else:
            norm = norms[0]
            twice = learns and (rule.update == FTRL or rule.update == COIN)
            shown = ZERO
            if twice:
                _, shown = _call(
                    False,
                    n,
                    slots,
                    values,
                    np.uint64(0),
                    initial[r],
                    y,
                    w,
                    squares,
                    weights,
                    shared,
                    norm,
                    rule,
                    books,
                )
            raw, p = _call(
                learns,
                n,
                slots,
                values,
                np.uint64(0),
                initial[r],
                y,
                w,
                squares,
                weights,
                shared,
                norm,
                rule,
                books,
            )
            lost = weighted_loss(p, y, w, shared, rule)
            p = link(plan.link, shown if twice else p)
            out.raw[r, 0] = raw
            out.score[r, 0] = p
        out.prediction[r] = p
        books[T] += np.float64(w)
        if held[r] == 1 and known:
            books[HELD] += np.float64(w)
            books[HELD_SINCE] += np.float64(w)
            books[HELD_PASS] += np.float64(w)
            books[HELD_LOSS] += np.float64(lost)
            books[HELD_LOSS_SINCE] += np.float64(lost)
            books[HELD_LOSS_PASS] += np.float64(lost)
        else:
            books[LABELED if known else UNLABELED] += np.float64(w)
            books[LOSS] += np.float64(lost)
            books[LOSS_SINCE] += np.float64(lost)
            books[EXAMPLES] += 1.0
            books[FEATURES] += np.float64(features)
            if known and plan.classes == 0:
                books[LABELS] += np.float64(y) * np.float64(w)
        if known and plan.classes == 0:
            _count_label(y, books)
        if not plan.quiet and books[LABELED] + books[UNLABELED] >= books[DUMP]:
            _report(r, features, out.report[reports], books, plan)
            reports += 1
    return reports
