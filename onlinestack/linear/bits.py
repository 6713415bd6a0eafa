"""A linear learner over packed bits: every bit a weight, all of them read and moved every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN, PREDICT, WORD, Block, Tape
from onlinestack.kernel import bound, exp32, kernel, log32

__all__ = ["BitsMember", "Weights", "walk"]

ZERO = np.float32(0)
ONE = np.float32(1)
HALF = np.float32(0.5)
NONE = np.uint32(0)
VARIANCES = 6.0
"""A threshold is that of a random record, so the share of records that set a bit is uniform
between 0 and 1: the squares of its distance from the mean are 1/6 on average."""

SQUARES, COUNT, CLICKS, WEIGHT, CONSTANT, STARTED = range(6)


class Weights(NamedTuple):
    """What the learner has learned.

    Parameters
    ----------
    weight
        ``float32[K]``: weight of each bit.
    mean
        ``float32[K]``: share of the records learned that set it.
    sums
        ``float64[6]``: 1 + sum of squared gradients; 1 + records in the means; weight of the
        clicks and of all records; the constant; whether a record with bits was learned (0 or 1).
    """

    weight: NDArray[np.float32]
    mean: NDArray[np.float32]
    sums: NDArray[np.float64]


class Room(NamedTuple):
    """Memory the walk works in.

    Parameters
    ----------
    x
        ``float32[K]``: the record at hand, each bit less its mean.
    lane
        ``float32[32]``: sums over the words.
    """

    x: NDArray[np.float32]
    lane: NDArray[np.float32]


def _centred_plain(word: Any, weights: Weights, room: Room) -> Any:
    """Write the bits of a record less their means, and return their weighted sum.

    Products of bit j of every word are summed in order of the words; then the upper half of these
    32 sums is added to the lower, and so on, until one is left.

    Parameters
    ----------
    word
        ``uint32[K / 32]``: the bits.
    weights
        Weights and means.
    room
        ``x`` takes the result.
    """
    lane = np.zeros(WORD, np.float32)
    for k in range(len(room.x)):
        bit = np.float32(int(word[k // WORD]) >> (k % WORD) & 1)
        room.x[k] = bit - weights.mean[k]
        lane[k % WORD] += weights.weight[k] * room.x[k]
    while len(lane) > 1:
        lane = lane[: len(lane) // 2] + lane[len(lane) // 2 :]
    return lane[0]


@kernel(_centred_plain)
def centred(word: Any, weights: Any, room: Any) -> Any:
    """Write the bits of a record less their means, and return their weighted sum.

    The sums of `_centred_plain` are kept side by side, so that the processor adds many at a time.
    """
    lane = room.lane
    for j in range(WORD):
        lane[j] = ZERO
    for at in range(len(word)):
        bits, first = word[at], at * WORD
        for j in range(WORD):
            set_ = (bits >> np.uint32(j)) & np.uint32(1)
            room.x[first + j] = np.float32(set_) - weights.mean[first + j]
        for j in range(WORD):
            lane[j] += weights.weight[first + j] * room.x[first + j]
    half = WORD // 2
    while half:
        for j in range(half):
            lane[j] += lane[half + j]
        half //= 2
    return lane[0]


@kernel()
def move(gradient: Any, step: Any, shrink: Any, share: Any, weights: Any, x: Any) -> None:
    """Move weights against the gradient, and means towards the record.

    Parameters
    ----------
    gradient
        Derivative of the loss by the score.
    step
        Length of the step.
    shrink
        What weights are multiplied with first.
    share
        Share of the record in the means.
    weights
        Weights and means.
    x
        The record's bits less their means.
    """
    length = step * gradient
    for k in range(len(x)):
        weights.weight[k] = shrink * weights.weight[k] - length * x[k]
        weights.mean[k] += share * x[k]


@kernel()
def walk(
    op: Any,
    row: Any,
    label: Any,
    weight: Any,
    initial: Any,
    bits: Any,
    rate: float,
    l2: float,
    weights: Any,
    room: Any,
    raw: Any,
) -> None:
    """Predict and learn the rows of a tape by logistic loss.

    The step is rate * 6 / (K * G^(1/4)), G one more than the sum of squared gradients, the same
    for all weights: centred random bits all vary about as much.

    Parameters
    ----------
    op, row
        The tape.
    label, weight, initial
        ``float32[n]``: a label above 0 is a click; importance; offset of the score.
    bits
        ``uint32[n, K / 32]``.
    rate, l2
        Rate and penalty.
    weights
        What was learned.
    room
        Room to work in.
    raw
        ``float32[n]``: takes the scores of rows predicted.
    """
    sums, x = weights.sums, room.x
    fresh, score = -1, ZERO
    for step in range(len(op)):
        i = row[step]
        if fresh != i:
            total = centred(bits[i], weights, room)
            score = initial[i] + np.float32(sums[CONSTANT]) + total
            fresh = i
        if op[step] == PREDICT:
            raw[i] = score
        if op[step] != LEARN or weight[i] <= ZERO:
            continue
        fresh = -1
        click = ONE if label[i] > ZERO else ZERO
        if sums[STARTED] == 0.0:
            for word in bits[i]:
                if word != NONE:
                    sums[STARTED] = 1.0
        if sums[STARTED] == 0.0:
            sums[CLICKS] += np.float64(click * weight[i])
            sums[WEIGHT] += np.float64(weight[i])
            odds = (sums[CLICKS] + 0.5) / (sums[WEIGHT] - sums[CLICKS] + 0.5)
            sums[CONSTANT] = np.float64(log32(np.float32(odds)))
            continue
        gradient = weight[i] * (ONE / (ONE + exp32(-score)) - click)
        sums[SQUARES] += np.float64(gradient) * np.float64(gradient)
        sums[COUNT] += 1.0
        length = rate * VARIANCES / (len(x) * np.sqrt(np.sqrt(sums[SQUARES])))
        sums[CONSTANT] -= length * np.float64(gradient)
        move(
            gradient,
            np.float32(length),
            np.float32(1.0 - length * l2),
            np.float32(1.0 / sums[COUNT]),
            weights,
            x,
        )


class BitsMember:
    """A linear learner over a block's bits, the namespace ``r``, as a part.

    Use it to read random bits: with a thousand of them set or not, a list of hashed features would
    be dearer to write than to learn from. It gives one score a record, in ``raw``. As long as it
    has learned no record with bits, this is the log-odds of the running click rate.

    Parameters
    ----------
    bits
        Number K of bits, as many as the block has.
    rate
        Learning rate, in units that do not depend on the number of bits: a first step of rate 1
        moves the score of the record it is made for by about the gradient; later steps shrink with
        the fourth root of the sum of squared gradients.
    l2
        Penalty on the squares of the weights.

    Raises
    ------
    ValueError
        When an argument is out of its range, or a block has another number of bits.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> member = BitsMember(32)
    >>> block = Block.of([[]] * 4, label=[1, 0, 1, 0])
    >>> block.bits = np.array([[1], [2], [1], [2]], np.uint32)
    >>> member.run(block, immediate_tape(block.label))
    >>> [round(float(score), 2) for score in member.raw[:4]]
    [0.0, 0.5, 0.28, -0.04]

    Notes
    -----
    Progressive log-loss over whole streams, 1024 bits of numbers and statistics, drawn after 500
    records:

    ===========  ======  =======  =====  ======  ===========  =====  =========  =======
    rate         elec2   weather  bank   criteo  attribution  kdd12  movielens  flights
    ===========  ======  =======  =====  ======  ===========  =====  =========  =======
    0.5          .2718   .4741    .2829  .4597   .6328        .4246  .5773      .4360
    1            .2521   .4669    .2806  .4593   .6341        .4246  .5753      .4348
    1.4          .2436   .4646    .2799  .4600   .6355        .4255  .5749      .4348
    2            .2354   .4633    .2796  .4618   .6376        .4274  .5750      .4356
    4            .2224   .4665    .2810  .4698   .6455        .4360  .5775      .4400
    1.4, l2 .03  .2498   .4662    .2800  .4600   .6350        .4256  .5749      .4375
    ===========  ======  =======  =====  ======  ===========  =====  =========  =======

    Up to 60,000 records: a constant rate is best where the stream drifts (elec2), one that falls
    with the square root where it does not (attribution); the fourth root is near the better of
    the two on each. Steps of their own for all weights (AdaGrad) are no better than one for all.
    Bits less their means beat 0 and 1, and -1 and 1, at the best rate of each.
    """

    fills = "bits"
    needs: tuple[str, ...] = ("r",)

    def __init__(self, bits: int, *, rate: float = 1.4, l2: float = 0.003) -> None:
        if bits < WORD or bits % WORD:
            raise ValueError(f"bits={bits} was given; give a multiple of {WORD}.")
        if not 0 < rate < np.inf or not 0 <= l2 < np.inf:
            raise ValueError(
                f"rate={rate} and l2={l2} were given; give a rate above 0 and an l2 not below."
            )
        self.bits, self.rate, self.l2 = bits, float(rate), float(l2)
        self.weights = Weights(
            np.zeros(bits, np.float32),
            np.full(bits, HALF),
            np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
        )
        self._room = Room(np.zeros(bits, np.float32), np.zeros(WORD, np.float32))
        self.raw = np.zeros(0, np.float32)

    def run(self, block: Block, tape: Tape) -> None:
        """Walk the tape over a block; ``raw`` then holds the scores of the rows predicted."""
        if block.bits.shape != (block.n, self.bits // WORD):
            raise ValueError(
                f"The block has {block.bits.shape[-1] * WORD} bits for {len(block.bits)} of "
                f"{block.n} records, the learner reads {self.bits}; let a part make them first."
            )
        if len(self.raw) < block.n:
            self.raw = np.zeros(max(4096, block.n), np.float32)
        walk(*self._arguments(block, tape))

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        return [bound(walk, *self._arguments(block, tape))]

    def _arguments(self, block: Block, tape: Tape) -> tuple[Any, ...]:
        return (
            tape.op,
            tape.row,
            block.label,
            block.weight,
            block.initial,
            block.bits,
            self.rate,
            self.l2,
            self.weights,
            self._room,
            self.raw,
        )

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state as arrays and JSON."""
        return {name: array.copy() for name, array in self.weights._asdict().items()}, {}

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back a state that `state` returned.

        Raises
        ------
        ValueError
            When it is that of another number of bits.
        """
        if len(arrays["weight"]) != self.bits:
            raise ValueError(
                f"The saved weights are of {len(arrays['weight'])} bits, the learner reads "
                f"{self.bits}; use the configuration they were saved with."
            )
        for name, array in self.weights._asdict().items():
            array[:] = arrays[name]
