"""Experts: scores served as margins, whatever the part behind them does."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from onlinestack.block import MARGIN, Block, Tape, immediate_tape
from onlinestack.stack.expert import Expert


def expert(raw: list[float], column: int = 0) -> Expert:
    part: Any = SimpleNamespace(
        raw=np.array(raw, np.float32),
        run=lambda block, tape: None,
        state=lambda: ({}, {}),
        restore=lambda arrays, meta: None,
    )
    return Expert(part, "fake", column)


def test_margins_are_clipped_into_the_own_column() -> None:
    block = Block.of([[]] * 3, label=[np.nan] * 3)
    block.scores = np.full((3, 2), 5, np.float32)
    expert([99, -99, 0.25], column=1).run(block, immediate_tape(block.label))
    assert block.scores.tolist() == [[5, MARGIN], [5, -MARGIN], [5, 0.25]]


def test_the_running_click_rate_speaks_for_a_score_that_is_none() -> None:
    block = Block.of([[]] * 4, label=[1, 0, 1, 0], weight=[1, 2, 0, 1])
    block.scores = np.zeros((4, 1), np.float32)
    one = expert([np.nan, np.inf, -np.inf, 1])
    one.run(block, immediate_tape(block.label))
    wanted = [math.log(p / (1 - p)) for p in (0.5, 1.5 / 2, 1.5 / 4)]
    np.testing.assert_allclose(block.scores[:, 0], [*wanted, 1], rtol=1e-6)
    assert one.dumb == 3
    two = expert([])
    two.restore(*one.state())
    assert two.dumb == 3


def test_only_rows_that_are_predicted_are_served() -> None:
    block = Block.of([[]] * 2, label=[1, 1])
    block.scores = np.zeros((2, 1), np.float32)
    tape = Tape(np.array([1, 0], np.uint8), np.array([0, 1], np.int32))
    expert([3, 4]).run(block, tape)
    assert block.scores[:, 0].tolist() == [0, 4]
