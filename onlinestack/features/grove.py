"""A grove: many tiny trees over the hash bits of a record's field values, each with a profit.

The hash of a field's value is a word of 32 bits, and each bit cuts the values of the field in two
halves at random. A tree asks up to three such bits, and so has up to eight leaves. A leaf votes
click or none, as more or fewer of its records were clicked than of all records at that time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import PREDICT, WORD
from onlinestack.kernel import kernel
from onlinestack.murmur import stirred

__all__ = ["DEPTH", "LEAVES", "Grove", "varying", "walk"]

DEPTH = 3
"""Most questions of a tree."""
LEAVES = 2**DEPTH
"""Leaves of a tree; those that fewer questions do not lead to stay empty."""

CLICKS, WEIGHT = range(2)
ALL = np.uint32(2**32 - 1)
NONE = np.uint32(0)
BIT = np.uint32(1)
ZERO, ONE = np.float32(0), np.float32(1)
FULL = np.float32(2.0**23)


class Grove(NamedTuple):
    """What the trees ask, what they have learned, and who speaks.

    Parameters
    ----------
    asks
        ``uint32[N, 3]``: the bits a tree asks, bit b of field f being ``32 f + b``; behind the last
        of them the one of a field that is not there, which is always 0.
    excess
        ``float32[N, 8]``: of each leaf, the weight of its clicks less that of the clicks expected.
    profit
        ``float32[N]``: what the tree has won since it was last looked at.
    chosen
        ``int32[k]``: trees that are features, k at most the width of namespace ``t``.
    names
        ``uint32[k, 8]``: indices of their leaves.
    ones, zeros
        ``uint32[F]``: bits of each field that were ever 1, and those that were ever 0, in records
        learned.
    sums
        ``float64[2]``: weight of the clicks and of all records learned.
    word
        ``uint32[F]``: the hash of each field of the record at hand.
    bit
        ``uint32[32 F + 1]``: its bits, one by one; the last is 0.
    """

    asks: NDArray[np.uint32]
    excess: NDArray[np.float32]
    profit: NDArray[np.float32]
    chosen: NDArray[np.int32]
    names: NDArray[np.uint32]
    ones: NDArray[np.uint32]
    zeros: NDArray[np.uint32]
    sums: NDArray[np.float64]
    word: NDArray[np.uint32]
    bit: NDArray[np.uint32]

    @classmethod
    def of(cls, fields: int) -> Grove:
        """Return a grove without trees over so many fields.

        Examples
        --------
        >>> Grove.of(2).bit.shape
        (65,)
        """
        return cls(
            np.empty((0, DEPTH), np.uint32),
            np.empty((0, LEAVES), np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.int32),
            np.empty((0, LEAVES), np.uint32),
            np.zeros(fields, np.uint32),
            np.zeros(fields, np.uint32),
            np.zeros(2),
            np.zeros(fields, np.uint32),
            np.zeros(fields * WORD + 1, np.uint32),
        )


def varying(grove: Grove) -> NDArray[np.uint32]:
    """Return the bits that were 0 in one record learned and 1 in another.

    Examples
    --------
    >>> grove = Grove.of(2)
    >>> grove.ones[1], grove.zeros[1] = 6, 4
    >>> varying(grove).tolist()
    [34]
    """
    both = (grove.ones & grove.zeros).astype("<u4").view(np.uint8)
    return np.flatnonzero(np.unpackbits(both, bitorder="little")).astype(np.uint32)


@kernel()
def _spell(r: Any, index: Any, opens: Any, closes: Any, grove: Any) -> None:
    """Write the hash of each field of a row, and its bits.

    Of several values it is the least of their hashes, whatever their order, so that two lists agree
    in it as often as they have values in common (Broder 1997); of none it is 0.
    """
    word, bit = grove.word, grove.bit
    for f in range(len(word)):
        least = ALL if opens[r, f] < closes[r, f] else NONE
        for i in range(opens[r, f], closes[r, f]):
            least = min(least, stirred(index[i]))
        word[f] = least
    for f in range(len(word)):
        for b in range(WORD):
            bit[f * WORD + b] = (word[f] >> np.uint32(b)) & BIT


@kernel()
def _leaf(tree: Any, grove: Any) -> Any:
    """Return the leaf of a tree that the record at hand is in."""
    asks, bit = grove.asks, grove.bit
    low, middle, high = bit[asks[tree, 0]], bit[asks[tree, 1]], bit[asks[tree, 2]]
    return low | (middle << np.uint32(1)) | (high << np.uint32(2))


@kernel()
def _judge(clicked: Any, w: Any, grove: Any) -> None:
    """Let every tree win or lose by the vote of its leaf, then let the leaf learn the label.

    The stake is what a fair bet at the click rate of the moment wins or loses: a tree that knows
    nothing wins nothing in the long run, however rare clicks are.
    """
    sums = grove.sums
    rate = (sums[CLICKS] + 0.5) / (sums[WEIGHT] + 1.0)
    click = 1.0 if clicked else 0.0
    sums[CLICKS] += np.float64(w) * click
    sums[WEIGHT] += np.float64(w)
    stake = np.float32(np.float64(w) * (click - rate))
    for tree in range(len(grove.profit)):
        leaf = _leaf(tree, grove)
        vote = grove.excess[tree, leaf]
        won = stake if vote > ZERO else ZERO
        lost = stake if vote < ZERO else ZERO
        grove.profit[tree] += won - lost
        grove.excess[tree, leaf] = vote + stake


@kernel()
def walk(
    op: Any,
    row: Any,
    label: Any,
    weight: Any,
    index: Any,
    opens: Any,
    closes: Any,
    grove: Any,
    out_index: Any,
    out_value: Any,
) -> None:
    """Take the steps of a tape: name the leaves of rows predicted, judge the trees by rows learned.

    Parameters
    ----------
    op, row
        The tape.
    label, weight
        ``float32[n]``: a label above 0 is a click; importance.
    index, opens, closes
        The pool and where each field's features lie in it.
    grove
        The trees.
    out_index, out_value
        ``uint32[n, width]`` and ``float32[n, width]``: namespace ``t``. Places of trees that are
        not there have the value 0.
    """
    held = np.int64(-1)
    for step in range(len(op)):
        r = np.int64(row[step])
        if r != held:
            _spell(r, index, opens, closes, grove)
            held = r
        if op[step] == PREDICT:
            for j in range(out_index.shape[1]):
                there = j < len(grove.chosen)
                out_index[r, j] = NONE
                out_value[r, j] = ONE if there else ZERO
                if there:
                    out_index[r, j] = grove.names[j, _leaf(grove.chosen[j], grove)]
            continue
        if weight[r] > ZERO:
            for f in range(len(grove.word)):
                grove.ones[f] |= grove.word[f]
                grove.zeros[f] |= ~grove.word[f]
            _judge(label[r] > ZERO, min(weight[r], FULL), grove)
