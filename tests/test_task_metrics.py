"""Boards of classes and of numbers say what plain sums over the records say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlinestack.block import Block, Tape, immediate_tape
from onlinestack.task_metrics import ClassBoard, NumberBoard

CLASSES = 4


def stream(seed, n):
    rng = np.random.default_rng(seed)
    label = rng.choice([1, 1, 2, 3, 4], n).astype(np.float32)
    label[rng.random(n) < 0.1] = np.nan
    weight = rng.choice([0, 0.5, 1, 2], n).astype(np.float32)
    p = rng.dirichlet(np.ones(CLASSES), n).astype(np.float32)
    p[rng.random(n) < 0.05] = np.nan
    return label, weight, p, rng.integers(0, CLASSES + 1, n).astype(np.float32)


def plain_classes(label, weight, p, chosen):
    """Return log-loss and accuracy of the model and both baselines, in plain Python."""
    loss, right, total, last = [0.0] * 3, [0.0] * 3, 0.0, 0
    shares = [0.0] * CLASSES
    known = [i for i in range(len(label)) if not np.isnan(label[i])]
    for i in known:
        c, w = int(label[i]), float(weight[i])
        constant = (shares[c - 1] + 1 / CLASSES) / (total + 1)
        before = 1 / CLASSES if last == 0 else 0.999 if last == c else 0.001 / (CLASSES - 1)
        q = float(p[i, c - 1])
        most = shares.index(max(shares)) + 1 if i != known[0] else 0
        given_ = (q if math.isfinite(q) else constant, constant, before)
        for k, (one, choice) in enumerate(zip(given_, (chosen[i], most, last), strict=True)):
            loss[k] -= w * math.log(min(max(one, 1e-6), 1 - 1e-6))
            right[k] += w * (choice == c)
        total, last = total + w, c
        shares[c - 1] += w
    return [x / total for x in loss], [x / total for x in right]


def fed(board, columns, cuts):
    """Hand a stream to a board in pieces."""
    label, weight, *predicted = columns
    for start, stop in zip(cuts, cuts[1:], strict=False):
        part = label[start:stop]
        block = Block.of([[]] * len(part), label=part, weight=weight[start:stop])
        board.update(block, immediate_tape(part), *(each[start:stop] for each in predicted))
    return board


def test_classes_are_scored_as_written_down():
    columns = stream(1, 400)
    board = fed(ClassBoard("model", "member", CLASSES), columns, [0, 400])
    loss, right = plain_classes(*columns)
    for k, name in enumerate(board.names):
        figures = board.whole(name)
        assert figures["log_loss"] == pytest.approx(loss[k], rel=1e-5)
        assert figures["accuracy"] == pytest.approx(right[k], rel=1e-9)
    assert sum(board.shares()) == pytest.approx(1)
    entropy = -sum(share * math.log(share) for share in board.shares())
    whole = board.whole("constant")
    assert whole["normalized_entropy"] == pytest.approx(whole["log_loss"] / entropy)


def test_numbers_are_measured_as_written_down():
    label, weight, p, _ = stream(2, 400)
    p = p[:, 0] * 5
    board = fed(NumberBoard("model", "member"), (label, weight, p), [0, 400])
    known = np.flatnonzero(~np.isnan(label))
    y, w = label[known].astype(float), weight[known].astype(float)
    with np.errstate(invalid="ignore"):
        before = (np.cumsum(w * y) - w * y) / (np.cumsum(w) - w)
    mean = np.where(np.cumsum(w) - w > 0, before, 0)
    last = np.concatenate([[0], y[:-1]])
    q = np.where(np.isfinite(p[known]), p[known], mean)
    for name, predicted in zip(board.names, (q, mean, last), strict=True):
        figures = board.whole(name)
        gap = predicted - y
        assert figures["mae"] == pytest.approx((w * np.abs(gap)).sum() / w.sum())
        assert figures["rmse"] == pytest.approx(math.sqrt((w * gap**2).sum() / w.sum()))
        assert figures["label_mean"] == pytest.approx((w * y).sum() / w.sum())


@given(st.lists(st.integers(0, 60), max_size=6), st.integers(0, 60))
def test_blocks_and_a_stop_in_between_change_nothing(cuts, stop):
    label, weight, p, chosen = stream(3, 60)
    for columns, make in (
        ((label, weight, p, chosen), lambda: ClassBoard("m", "member", CLASSES)),
        ((label, weight, p[:, 0].copy()), lambda: NumberBoard("m", "member")),
    ):
        whole, broken = make(), make()
        fed(whole, columns, [0, 30])
        whole.mark()
        fed(whole, columns, [30, 60])
        cuts = sorted({0, 30, 60, stop, *cuts})
        for start, end in zip(cuts, cuts[1:], strict=False):
            if start == 30:
                broken.mark()
            fed(broken, columns, [start, end])
            if end == stop:
                arrays, meta = broken.state()
                broken = make()
                broken.restore(arrays, json.loads(json.dumps(meta)))
        for name in whole.names:
            assert broken.whole(name) == whole.whole(name)
            assert broken.since(name) == whole.since(name)


def test_labels_that_come_late_are_scored_with_what_was_served():
    label, weight, p, chosen = (each[:20] for each in stream(4, 40))
    label = np.where(np.isnan(label), 2, label).astype(np.float32)
    block = Block.of([[]] * 20, label=label, weight=weight)
    rows = np.arange(20, dtype=np.int32)
    ahead, behind = Tape(np.zeros(20, np.uint8), rows), Tape(np.ones(20, np.uint8), rows)
    for board, predicted in (
        (ClassBoard("m", "member", CLASSES), (p, chosen)),
        (NumberBoard("m", "member"), (p[:, 0].copy(),)),
    ):
        served = board.update(block, ahead, *predicted)
        assert board.whole("constant")["records"] == 0
        board.update(block, behind, *predicted, served=served)
        figures = board.whole("constant")
        assert figures["records"] == 20
        if isinstance(board, ClassBoard):
            assert figures["log_loss"] == pytest.approx(math.log(CLASSES))
        else:
            assert figures["mae"] == pytest.approx((weight * label).sum() / weight.sum())


def test_boards_without_records_and_of_others():
    board = ClassBoard("m", "member", 3)
    assert board.whole("m")["log_loss"] is None
    assert board.whole("m")["normalized_entropy"] is None
    assert NumberBoard("m", "member").since("m")["rmse"] is None
    with pytest.raises(ValueError, match="No expert is called 'x'"):
        board.whole("x")
    with pytest.raises(ValueError, match="saved scores are of"):
        board.restore(*ClassBoard("other", "member", 3).state())
