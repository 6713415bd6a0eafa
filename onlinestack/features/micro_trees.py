"""Micro-trees: tiny random trees whose profit decides which of them the linear learner sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block, Tape
from onlinestack.features.bins import FIRST_CHANGE, NEVER, next_doubling
from onlinestack.features.grove import DEPTH, LEAVES, Grove, varying, walk
from onlinestack.features.layout import dense_index

__all__ = ["FIRST_CHANGE", "TREES", "WIDTH", "MicroTrees"]

TREES = 1024
"""Number of trees."""
WIDTH = 256
"""Trees that are features at a time: half of them the most profitable, half the least."""


class MicroTrees:
    """The namespace ``t``: leaves of the most and of the least profitable of many tiny trees.

    Use it to give a linear learner over the fields products of two or three of them, without
    writing all pairs. Expect something of it where few fields act together; on click logs
    factorisation and random bits do better.

    Each tree asks one to three random bits of the hashes of the field values. Its leaf votes click
    or none, as the sum of what its records had in clicks above the expected ones says. By that vote
    the tree wins ``w (1 - p)`` on a click and loses ``w p`` on none, or the other way round; w is
    the weight of the record and p the running click rate. Votes are cast before the leaf
    learns the label.

    The trees are drawn in `change`, when 32 labelled records have been learned, from the bits that
    varied until then. At 64, 128 and so on they are ranked by profit: the highest and the
    lowest are features until the next change, the middle half is drawn anew with empty leaves, and
    all profits start again from 0, so that old and new trees are judged by the same records. A
    leaf's index goes by a number that the tree has from when it first was a feature, and that no
    other tree is ever given: weights learned for old trees never speak for new ones.

    Parameters
    ----------
    fields
        Number of field slots of a record.
    trees
        Number of trees, at least twice the width.
    width
        Features of a record, an even number.
    seed
        Seed of all draws.

    Raises
    ------
    ValueError
        When an argument is out of its range, or a block has other fields.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> trees = MicroTrees(2, trees=64, width=4)
    >>> random = np.random.default_rng(0)
    >>> block = Block.of([[("f", random.integers(0, 9, 2), [1.0, 1.0])] for _ in range(32)])
    >>> block.opens, block.closes = block.start + [0, 1], block.start + [1, 2]
    >>> block.label = np.ones(32, np.float32)
    >>> block.dense["t"] = (np.zeros((32, 4), np.uint32), np.zeros((32, 4), np.float32))
    >>> for _ in range(3):
    ...     trees.run(block, immediate_tape(block.label))
    ...     if trees.next_change() == trees.learned:
    ...         trees.change()
    >>> trees.next_change(), block.dense["t"][1][0].tolist()
    (128, [1.0, 1.0, 1.0, 1.0])

    References
    ----------
    van Veen, H., Nguyen Le, T. and Segnini, A. 2015, "Kaggle Ensembling Guide", on online stacking.

    Notes
    -----
    Progressive log-loss of a linear learner over ``f`` at rate 0.5, of one over ``t``, and what
    becomes of that of the default preset's mixture when the latter joins it (7 core-us a record, 4
    of them here):

    ============  ======  =======  ======  ======  ======  =======  ===========  ======
    reads         elec2   weather  bank    criteo  kdd12   flights  attribution  movielens
    ============  ======  =======  ======  ======  ======  =======  ===========  ======
    f             .4209   .4690    .2849   .4558   .4282   .4625    .6311        .5750
    t             .3169   .4912    .3032   .4918   .4600   .4586    .6440        .6182
    mixture       -0.33%  +0.03%   +0.01%  +0.02%  0.00%   +0.02%   0.00%        +0.01%
    ============  ======  =======  ======  ======  ======  =======  ===========  ======

    Therefore no member of the preset reads them. 4096 trees in place of 1024, 128 of them features,
    made the learner worse in five of six runs (three streams, two rates): the most profitable ones
    then resemble each other more.
    """

    fills = "t"
    needs: tuple[str, ...] = ("f",)

    def __init__(
        self, fields: int, *, trees: int = TREES, width: int = WIDTH, seed: int = 0
    ) -> None:
        if width < 2 or width % 2 or trees < 2 * width:
            raise ValueError(
                f"trees={trees} and width={width} were given; give an even width, and at least "
                "twice as many trees."
            )
        self.fields, self.trees, self.width, self.seed = fields, trees, width, seed
        self.learned = 0
        self._changed_at = 0
        self._grove = Grove.of(fields)
        self._number = np.empty(0, np.int32)
        """Number of each tree that ever was a feature; -1 for the others."""
        self._numbered = 0
        """How many numbers have been given out."""

    def run(self, block: Block, tape: Tape) -> None:
        """Take the steps of a tape: name leaves of rows predicted, judge trees by rows learned."""
        if block.opens.shape[1] != self.fields:
            raise ValueError(
                f"The block has {block.opens.shape[1]} fields, the micro-trees were made for "
                f"{self.fields}; encode it with the fields they were made for."
            )
        index, value = block.dense["t"]
        walk(
            tape.op,
            tape.row,
            block.label,
            block.weight,
            block.index,
            block.opens,
            block.closes,
            self._grove,
            index,
            value,
        )
        self.learned += tape.learns

    def next_change(self) -> int:
        """Return the count of labelled records learned at which trees are next drawn or ranked."""
        return next_doubling(self.learned, self._changed_at) if self.fields else NEVER

    def change(self) -> None:
        """Draw the trees; when they are there, choose those that speak and draw others anew."""
        self._changed_at = self.learned
        random = np.random.default_rng([self.seed % 2**64, self.learned])
        if not len(self._grove.asks):
            self._plant(random)
            return
        order = np.argsort(self._grove.profit, kind="stable").astype(np.int32)
        half, quarter = self.width // 2, self.trees // 4
        chosen = np.concatenate([order[-half:], order[:half]])
        fresh = chosen[self._number[chosen] < 0]
        self._number[fresh] = np.arange(self._numbered, self._numbered + len(fresh))
        self._numbered += len(fresh)
        anew = order[quarter:-quarter]
        self._number[anew] = -1
        self._grove.asks[anew] = self._questions(len(anew), random)
        self._grove.excess[anew] = 0
        self._grove.profit[:] = 0
        self._choose(chosen)

    def _plant(self, random: np.random.Generator) -> None:
        """Draw all trees, if there is anything to ask."""
        if not len(varying(self._grove)):
            return
        self._number = np.full(self.trees, -1, np.int32)
        self._grove = self._grove._replace(
            asks=self._questions(self.trees, random),
            excess=np.zeros((self.trees, LEAVES), np.float32),
            profit=np.zeros(self.trees, np.float32),
        )

    def _questions(self, trees: int, random: np.random.Generator) -> NDArray[np.uint32]:
        """Return what so many trees ask: one to three of the bits that have varied."""
        bits = varying(self._grove)
        never = np.uint32(len(self._grove.bit) - 1)
        asks = bits[random.integers(0, len(bits), (trees, DEPTH))]
        asks[np.arange(DEPTH) >= random.integers(1, DEPTH + 1, trees)[:, None]] = never
        return asks

    def _choose(self, chosen: NDArray[np.int32]) -> None:
        """Let trees that have numbers be the features."""
        names = dense_index("t", LEAVES * self._numbered).reshape(-1, LEAVES)
        self._grove = self._grove._replace(chosen=chosen, names=names[self._number[chosen]])

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state as arrays and JSON."""
        grove = self._grove
        arrays: dict[str, NDArray[Any]] = {
            "asks": grove.asks.copy(),
            "excess": grove.excess.copy(),
            "profit": grove.profit.copy(),
            "chosen": grove.chosen.copy(),
            "number": self._number.copy(),
            "ones": grove.ones.copy(),
            "zeros": grove.zeros.copy(),
            "sums": grove.sums.copy(),
        }
        meta = {
            "fields": self.fields,
            "trees": self.trees,
            "width": self.width,
            "learned": self.learned,
            "changed_at": self._changed_at,
            "numbered": self._numbered,
        }
        return arrays, meta

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back a state that `state` returned.

        Raises
        ------
        ValueError
            When it is that of other fields, or of another number of trees.
        """
        saved = (meta["fields"], meta["trees"], meta["width"])
        own = (self.fields, self.trees, self.width)
        if saved != own:
            raise ValueError(
                f"The saved micro-trees have (fields, trees, width) {saved}, these have {own}; use "
                "the configuration they were saved with."
            )
        self.learned, self._changed_at = meta["learned"], meta["changed_at"]
        self._numbered = meta["numbered"]
        self._number = np.array(arrays["number"])
        kept = ("asks", "excess", "profit", "ones", "zeros", "sums")
        self._grove = self._grove._replace(**{name: np.array(arrays[name]) for name in kept})
        self._choose(np.array(arrays["chosen"]))
