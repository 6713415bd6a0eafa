"""One against all as steps of a tape: late labels, state, and the walk without the compiler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onlinestack.block import LEARN, PREDICT, Block, Tape, immediate_tape
from onlinestack.linear import classes
from onlinestack.linear.classes import ClassMember, probabilities
from onlinestack.linear.interactions import reads_of
from onlinestack.linear.losses import Loss
from onlinestack.linear.rule import SHIFTS, UPDATES, Rule

RULES: dict[str, dict[str, Any]] = {
    "gd": {},
    "sgd": {"adaptive": False, "normalized": False, "eta": np.float32(0.1)},
    "l1": {"l1": 1e-4, "l2": 1e-4},
    "ftrl": {"update": UPDATES["ftrl"]},
    "pistol": {"update": UPDATES["pistol"], "alpha": np.float32(1), "beta": np.float32(0.5)},
    "coin": {"update": UPDATES["coin"], "alpha": np.float32(4)},
}


def member(name: str, met: int = 0) -> ClassMember:
    options = {"mask": np.uint64(255), **RULES[name]}
    options["shift"] = np.uint64(SHIFTS[options.get("update", 0)])
    rule = Rule(loss=Loss(low=np.float32(-1)), **options)
    return ClassMember(reads_of(spread=4), rule, classes=3, met=met)


def block(n: int, seed: int = 0) -> Block:
    rng = np.random.default_rng(seed)
    rows = [[("f", rng.integers(0, 30, 3).tolist(), rng.normal(size=3).tolist())] for _ in range(n)]
    label = [1 + sum(group[1]) % 3 for (group,) in rows]
    return Block.of(rows, label=label, weight=rng.choice([0.0, 0.5, 1.0], n))


def outcome(part: ClassMember, n: int) -> list[bytes]:
    arrays, meta = part.state()
    state = [np.ascontiguousarray(arrays[key]).tobytes() for key in sorted(arrays)]
    return [part.score[:n].tobytes(), part.chosen[:n].tobytes(), repr(meta).encode(), *state]


@pytest.mark.parametrize("name", RULES)
def test_compiled_or_not_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, records = member(name), member(name), block(40)
    one.run(records, immediate_tape(records.label))
    plain = getattr(classes.walk_classes, "py_func", classes.walk_classes)
    monkeypatch.setattr(classes, "walk_classes", plain)
    with np.errstate(all="ignore"):
        two.run(records, immediate_tape(records.label))
    assert outcome(one, 40) == outcome(two, 40)


@pytest.mark.parametrize("name", RULES)
def test_late_labels_learn_from_the_scores_of_the_moment(name: str) -> None:
    records = block(30)
    late, blind, again = member(name), member(name), member(name)
    rows = np.arange(30, dtype=np.int32)
    behind = np.concatenate([rows, rows])
    late.run(records, Tape(np.repeat(np.array([PREDICT, LEARN], np.uint8), 30), behind))
    assert not late.score[:30].any() and not late.chosen[:30].any()
    # Predicting in between changes nothing of what is learned.
    again.run(records, immediate_tape(records.label))
    blind.run(records, Tape(np.full(30, LEARN, np.uint8), rows))
    assert outcome(late, 0) == outcome(again, 0) == outcome(blind, 0)
    assert again.chosen[:30].any()


@pytest.mark.parametrize("name", RULES)
def test_state_goes_round(name: str) -> None:
    whole, head, tail = member(name), member(name), member(name)
    first, second = block(25, 1), block(25, 2)
    for part in (whole, head):
        part.run(first, immediate_tape(first.label))
    tail.restore(*head.state())
    for part in (whole, tail):
        part.run(second, immediate_tape(second.label))
    assert outcome(whole, 25) == outcome(tail, 25)


def test_only_classes_met_are_chosen() -> None:
    part = member("gd")
    records = Block.of([[("f", [1], [1.0])]] * 4, label=[np.nan, 2, np.nan, 1])
    part.run(records, immediate_tape(records.label))
    assert part.chosen[:4].tolist() == [0, 0, 2, 2]
    known = member("gd", met=3)
    known.run(records, immediate_tape(records.label))
    assert known.chosen[0] == 1


@pytest.mark.parametrize("linked", [True, False])
def test_probabilities_add_up_to_one(linked: bool) -> None:
    score = np.random.default_rng(0).normal(0, 20, (50, 4)).astype(np.float32)
    score[0] = -50
    out = np.empty_like(score)
    probabilities(linked, score, out)
    assert np.isfinite(out).all() and (out > 0).all()
    assert np.allclose(out.sum(axis=1), 1, atol=1e-6)
    assert out[0].tolist() == [0.25] * 4
