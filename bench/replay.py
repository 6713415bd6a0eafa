"""Run stackers and mixture again over the margins that the members of one run served.

Members do not hear each other, but for trees that start from another's margin or read some. So
what is left without some members and stackers, as long as nobody who stays leans on one who goes,
gives the very predictions of a run of its own, in seconds. One thing differs: trees keep the
random numbers that they had beside those that are gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Entries = Mapping[str, Sequence[Mapping[str, Any]]]


class Kept:
    """Keeps labels, weights and the members' margins of all that a mixture is run over."""

    def __init__(self, mixture: Any) -> None:
        self._rows: list[tuple[Any, ...]] = []
        run = mixture.run

        def kept(block: Any, tape: Any) -> None:
            run(block, tape)
            margins = block.scores[:, : mixture.members].copy()
            self._rows.append((block.label.copy(), block.weight.copy(), margins))

        mixture.run = kept

    def save(self, path: Path) -> None:
        """Write them to a file that `replay` reads."""
        path.parent.mkdir(parents=True, exist_ok=True)
        label, weight, margins = map(np.concatenate, zip(*self._rows, strict=True))
        np.savez(path, label=label, weight=weight, margins=margins)


def replay(entries: Entries, run: Entries, path: Path) -> dict[str, Any]:
    """Return log-loss, AUC and the names of all parts of a stack, given the margins of a run.

    Parameters
    ----------
    entries
        The members and stackers of the stack.
    run
        Those of the run.
    path
        The file of its margins.
    """
    from onlinestack.block import Block
    from onlinestack.config import Config
    from onlinestack.engine import Engine
    from onlinestack.io.schema import Schema
    from onlinestack.opening import new_learner

    config = Config.resolve({"preset": "stack"}, environment={})
    config.values |= entries
    model: Any = new_learner(config, Schema(()))
    stack, board = model._started(), model.new_board()
    again = ["mixture", *(f"score:{entry['name']}" for entry in entries["stacker"])]
    engine = Engine({name: stack.engine.parts[name] for name in again})
    with np.load(path) as kept:
        label, weight, margins = kept["label"], kept["weight"], kept["margins"]
    margins = margins[:, [run["member"].index(entry) for entry in entries["member"]]]

    def block_of(start: int, stop: int) -> Block:
        none: list[Any] = [[]] * (stop - start)
        block = Block.of(none, label=label[start:stop], weight=weight[start:stop])
        block = stack.layout.lay(block)
        block.scores[:, : margins.shape[1]] = margins[start:stop]
        return block

    for _, _, block, tape in engine.quanta(label, block_of):
        board.update(block, tape, block.p)
    score = board.whole("mixture")
    return {
        "log_loss": score["log_loss"],
        "auc": score["auc"],
        "parts": list(stack.engine.parts),
    }
