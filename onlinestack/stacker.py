"""The stack as a public learner: a river classifier that also reads blocks."""

from __future__ import annotations

import inspect
import math
import tomllib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from river import base

from onlinestack.assembly import Assembly, assemble
from onlinestack.block import LEARN, PREDICT, Block, Tape
from onlinestack.engine import State
from onlinestack.metrics import Scoreboard
from onlinestack.recipe import Linear, Recipe, entries_of

if TYPE_CHECKING:
    from river.base.typing import ClfTarget

    from onlinestack.io.schema import Schema
    from onlinestack.io.source import Batch

__all__ = ["OnlineStacker"]

MIXTURE = "mixture"


class OnlineStacker(base.Classifier):
    """Online stacking.
    """

    def __init__(
        self,
        members: tuple[Mapping[str, Any], ...] | None = None,
        stackers: tuple[Mapping[str, Any], ...] | None = None,
        fields: int = 40,
        columns: int = 300,
        half_lives: tuple[float, ...] = (4.0, 32.0, 256.0, 2048.0, 16384.0, math.inf),
        prior: float = 10.0,
        alpha: float = 1e-4,
        largest_weight: float = 1.0,
        window: int = 200_000,
        window_bytes: int = 2**29,
        first: int = 1000,
        every: int = 20_000,
        lag: int = 4096,
        max_bin: int = 64,
        nthread: int = 1,
        background: bool = True,
        seed: int = 0,
    ) -> None:
        self.members = members
        self.stackers = stackers
        self.fields = fields
        self.columns = columns
        self.half_lives = half_lives
        self.prior = prior
        self.alpha = alpha
        self.largest_weight = largest_weight
        self.window = window
        self.window_bytes = window_bytes
        self.first = first
        self.every = every
        self.lag = lag
        self.max_bin = max_bin
        self.nthread = nthread
        self.background = background
        self.seed = seed
        self._stack: Assembly | None = None
        self._schema: dict[str, Any] | None = None
        self.scoreboard: Scoreboard | None = None

    @property
    def params(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @property
    def learned(self) -> int:
        return 0 if self._stack is None else self._stack.engine.learned

    def recipe(self) -> Recipe:
        preset = tomllib.loads((Path(__file__).parent / "presets" / "stack.toml").read_text())
        members = preset["member"] if self.members is None else self.members
        stackers = preset["stacker"] if self.stackers is None else self.stackers
        return Recipe(
            tuple(entries_of(members, "member")),
            tuple(e for e in entries_of(stackers, "stacker", ("linear",)) if isinstance(e, Linear)),
            self.fields, self.columns, self.half_lives, self.prior, self.alpha, self.largest_weight,
            self.window, self.window_bytes, self.first, self.every, self.lag, self.max_bin,
            self.nthread, self.background, self.seed)

    def start(self, schema: Schema | None = None) -> None:
        self._schema = None if schema is None else schema.to_dict()
        self._stack = assemble(self.recipe(), () if schema is None else schema.fields)
        self.scoreboard = Scoreboard(
            [MIXTURE, *self._stack.mixture.names], [MIXTURE, *self._stack.kinds]
        )

    def _started(self) -> Assembly:
        if self._stack is None:
            self.start()
            return self._started()
        return self._stack

    def progress(self, batch: Batch) -> NDArray[np.float32]:
        return self._walk(batch, learn=True)

    def predict(self, batch: Batch) -> NDArray[np.float32]:
        return self._walk(batch, learn=False)

    def _walk(self, batch: Batch, learn: bool) -> NDArray[np.float32]:
        stack = self._started()
        out = np.empty(len(batch.label), np.float32)

        def block_of(start: int, stop: int) -> Block:
            return stack.layout.lay(stack.encoder.block(batch, start, stop))

        for start, stop, block, tape in stack.engine.quanta(batch.label, block_of, learn):
            stack.engine.run(block, tape)
            p = stack.mixture.p[: block.n]
            out[start:stop] = p[:, 0]
            if self.scoreboard is not None:
                self.scoreboard.update(block, tape, p)
        return out

    def _one(self, x: Mapping[Hashable, Any], y: Any, w: float, op: list[int]) -> float:
        stack = self._started()
        if LEARN in op:
            stack.encoder.meet(x)
        block = Block(
            np.array([np.nan if y is None else y], np.float32),
            np.array([w], np.float32),
            np.zeros(1, np.float32),
            np.zeros(1, np.int64),
            *stack.encoder.encode_one(x),
        )
        tape = Tape(np.array(op, np.uint8), np.zeros(len(op), np.int32))
        stack.engine.run_one(stack.layout.lay(block), tape)
        p = stack.mixture.p[:1]
        if self.scoreboard is not None:
            self.scoreboard.update(block, tape, p)
        return float(p[0, 0])

    def learn_one(self, x: dict[Hashable, Any], y: ClfTarget, w: float = 1.0) -> None:
        self._one(x, y, w, [PREDICT, LEARN])

    def predict_proba_one(self, x: dict[Hashable, Any], **kwargs: Any) -> dict[ClfTarget, float]:
        p = self._one(x, None, 1.0, [PREDICT])
        return {False: 1.0 - p, True: p}
