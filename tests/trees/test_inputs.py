"""Margins among the columns of the table: as served, at the rows a tape predicts."""

from __future__ import annotations

import numpy as np

from onlinestack.block import MARGIN, Block, Tape
from onlinestack.kernel import KERNELS
from onlinestack.trees.inputs import MarginColumns

F = np.float32


def block_of(n: int = 40) -> Block:
    rng = np.random.default_rng(0)
    block = Block.of([[]] * n, label=np.zeros(n))
    block.table = np.full((n, 5), np.nan, F)
    block.scores = (rng.normal(size=(n, 3)) * 9).astype(F)
    block.scores[::5, 2] = np.nan
    block.scores[1::5, 2] = -np.inf
    return block


def test_only_rows_that_are_predicted_are_written() -> None:
    """A row learned later keeps what trees were served."""
    block = block_of()
    tape = Tape(np.array([0, 1, 0, 1], np.uint8), np.array([3, 7, 5, 3], np.int32))
    part = MarginColumns({4: 2, 1: 0})
    part.run(block, tape)
    written = ~np.isnan(block.table)
    assert np.argwhere(written).tolist() == [[3, 1], [3, 4], [5, 1], [5, 4]]
    clean = np.clip(np.nan_to_num(block.scores, nan=0.0), -MARGIN, MARGIN)
    assert (block.table[[3, 5], 4] == clean[[3, 5], 2]).all()
    assert (block.table[[3, 5], 1] == clean[[3, 5], 0]).all()
    part.restore(*part.state())


def test_kernel_and_twin_agree() -> None:
    answers = []
    for function in KERNELS["onlinestack.trees.inputs.copy_margins"]:
        block = block_of()
        op, row = np.zeros(40, np.uint8), np.arange(40, dtype=np.int32)
        function(op, row, block.scores, block.table, np.array([2, 0]), np.array([4, 1]))
        answers.append(block.table.tobytes())
        assert np.isfinite(block.table[:, [1, 4]]).all()
    assert answers[0] == answers[1]
