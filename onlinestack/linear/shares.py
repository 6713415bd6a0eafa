"""What each feature adds to the score of a linear learner, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block
from onlinestack.linear.interactions import gather, origins
from onlinestack.linear.learner import LinearMember, Scratch
from onlinestack.linear.rule import GAMMA, GD, KAPPA

__all__ = ["Shares", "effective_weights", "shares_of"]


@dataclass(frozen=True, slots=True)
class Shares:
    """The working list of a record, as a prediction reads it.

    Parameters
    ----------
    origin
        Positions in the block's pool of the features that each entry is the product of; none for
        the constant.
    slot
        ``int64[n]``: the slot of each entry's weight.
    weight
        ``float64[n]``: the weight as it is read, with what l1 and l2 have taken from it.
    value
        ``float32[n]``: the entry's value. The score is the sum of weight times value, which the
        learner adds up in float32, one entry after another.
    """

    origin: list[tuple[int, ...]]
    slot: NDArray[np.int64]
    weight: NDArray[np.float64]
    value: NDArray[np.float32]


def effective_weights(member: LinearMember) -> NDArray[np.float64]:
    """Return the weight of every slot as predictions read it.

    Parameters
    ----------
    member
        The learner.

    Returns
    -------
    ``float64[slots]``: each weight, drawn towards zero by the gravity of l1 and shortened by the
    contraction of l2 that gradient descent applies when it reads.

    Examples
    --------
    >>> from onlinestack.linear.interactions import reads_of
    >>> from onlinestack.linear.rule import Rule
    >>> member = LinearMember(reads_of(), Rule(l1=0.5, mask=np.uint64(1)))
    >>> member.weights[::4], member.shared[GAMMA] = (2, -0.25), 0.5
    >>> effective_weights(member).tolist()
    [1.5, 0.0]
    """
    rule = member.rule
    weight = member.weights[:: 1 << int(rule.shift)]
    if rule.update != GD:
        return weight.astype(np.float64)
    if rule.l1 > 0.0:
        gravity = np.float32(member.shared[GAMMA])
        weight = np.where(gravity < abs(weight), weight - np.sign(weight) * gravity, 0)
    return weight.astype(np.float32) * np.float64(np.float32(member.shared[KAPPA]))


def shares_of(member: LinearMember, block: Block, row: int = 0, vector: int = 0) -> Shares:
    """Return what a record's features are to a learner.

    Use it to explain a prediction: weight times value is what an entry adds to the score.

    Parameters
    ----------
    member
        The learner.
    block, row
        The record.
    vector
        Which of the weight vectors of each feature: the class, from 0 on.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> from onlinestack.linear.interactions import reads_of
    >>> from onlinestack.linear.rule import Rule
    >>> member = LinearMember(reads_of(), Rule())
    >>> block = Block.of([[("f", [3], [2.0])]] * 2, label=[1, np.nan])
    >>> member.run(block, immediate_tape(block.label))
    >>> shares = shares_of(member, block)
    >>> shares.origin, (shares.weight * shares.value).round(3).tolist()
    ([(0,), ()], [0.299, 0.299])
    >>> round(float(member.score[1]), 3)
    0.597
    """
    reads, rule = member.reads, member.rule
    scratch = Scratch.of(0, reads.terms.shape[1]).fit(block, reads)
    slots, values = scratch.slots[0], scratch.values[0]
    group = block.names, block.start, block.stop
    n = gather(
        row,
        block.index,
        block.value,
        *group,
        reads,
        slots,
        values,
        scratch.at,
        member.weights,
        rule,
    )
    slot = (slots[:n].astype(np.int64) + vector) & int(rule.mask)
    weight = effective_weights(member)[slot]
    return Shares(list(origins(row, *group, reads)), slot, weight, values[:n].copy())
