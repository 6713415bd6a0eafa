"""One linear learner over the namespaces of a block: the walk over the tape, and its state."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import LEARN, PREDICT, Block, Tape
from onlinestack.kernel import bound, kernel
from onlinestack.linear.descent import descend_swiftly, is_swift, predict_swiftly
from onlinestack.linear.interactions import (
    CONSTANT,
    Reads,
    ask_for,
    count_features,
    expand_wildcards,
    gather,
    sum_of_squares,
    term_table,
)
from onlinestack.linear.rule import (
    CLOCK,
    GD,
    HIGH,
    KAPPA,
    KEPT,
    LOW,
    NORMS,
    PISTOL,
    SCALE,
    SHARED,
    TOTAL,
    Rule,
    finalize,
    weighted_loss,
)
from onlinestack.linear.updates import learn, look_again, predict

__all__ = ["LinearMember", "walk"]

ZERO = np.float32(0)
FIRST = np.uint64(0)


class Scratch(NamedTuple):
    """Memory the walk works in, kept between calls.

    Parameters
    ----------
    slots, values
        ``uint32[2, size]`` and ``float32[2, size]``: working lists of two rows.
    length, held
        ``int64[2]``: length of each list, and the row it belongs to.
    at
        ``int64[w]``: positions within an interaction.
    sums
        ``float32[w]``: sums within an interaction.
    places, adapted, rates
        ``uint64[size]`` and ``float32[size]``: what is kept of a row from predicting to learning.
    """

    slots: NDArray[np.uint32]
    values: NDArray[np.float32]
    length: NDArray[np.int64]
    held: NDArray[np.int64]
    at: NDArray[np.int64]
    sums: NDArray[np.float32]
    places: NDArray[np.uint64]
    adapted: NDArray[np.float32]
    rates: NDArray[np.float32]

    @classmethod
    def of(cls, size: int, width: int) -> Scratch:
        """Make scratch for lists of ``size`` entries and interactions of ``width`` letters."""
        return cls(
            np.empty((2, size), np.uint32),
            np.empty((2, size), np.float32),
            np.empty(2, np.int64),
            np.empty(2, np.int64),
            np.empty(width, np.int64),
            np.empty(width, np.float32),
            np.empty(size, np.uint64),
            np.empty(size, np.float32),
            np.empty(size, np.float32),
        )

    def fit(self, block: Block, reads: Reads) -> Scratch:
        """Return scratch with room for every record of a block: this, or a longer one."""
        if len(reads.terms):
            need = longest_list(block.names, block.start, block.stop, reads)
        else:
            need = int((block.stop - block.start).sum(axis=1).max(initial=0)) + 1
        return self.of_size(need, reads.terms.shape[1])

    def of_size(self, need: int, width: int = 0) -> Scratch:
        """Return scratch for lists of ``need`` entries: this, or one twice as long."""
        if need > self.slots.shape[1] or width > len(self.at):
            return Scratch.of(2 * need, max(width, len(self.at)))
        return self


@kernel()
def longest_list(names: Any, start: Any, stop: Any, reads: Any) -> Any:
    """Return the length of the longest working list of a block's records."""
    longest = 0
    for row in range(names.shape[0]):
        longest = max(longest, count_features(row, names, start, stop, reads))
    return longest


@kernel()
def _put(
    action: Any,
    r: Any,
    now: Any,
    p: Any,
    label: Any,
    weight: Any,
    shared: Any,
    rule: Any,
    raw: Any,
    score: Any,
    loss: Any,
) -> None:
    """Write a row's raw sum and score; as Vowpal Wabbit also its loss.

    There a learning step overwrites what the predicting one wrote: the raw sum and the loss
    always, the score unless the rule is one that predicts and learns in two calls.
    """
    raw[r] = now
    if action == PREDICT or rule.update == GD or rule.update == PISTOL:
        score[r] = p
    if rule.with_label:
        loss[r] = weighted_loss(p, label[r], weight[r], shared, rule)


def _walk_plain(
    op: Any,
    tape_row: Any,
    label: Any,
    weight: Any,
    initial: Any,
    index: Any,
    value: Any,
    names: Any,
    start: Any,
    stop: Any,
    reads: Reads,
    weights: Any,
    shared: Any,
    norm: Any,
    rule: Rule,
    scratch: Scratch,
    raw: Any,
    score: Any,
    loss: Any,
) -> None:
    """Take the steps of a tape: predict rows into ``raw`` and ``score``, learn rows.

    Learning a row first predicts it with the weights of the moment: that is the prediction the
    update starts from. Before it, the clamp range takes in the label, where it tracks labels.
    """
    slots, values = scratch.slots[0], scratch.values[0]
    for action, r in zip(op, tape_row, strict=True):
        n = gather(
            r, index, value, names, start, stop, reads, slots, values, scratch.at, weights, rule
        )
        now = predict(n, slots, values, FIRST, initial[r], weights, shared, rule)
        if action == LEARN and rule.track:
            shared[LOW] = min(shared[LOW], label[r])
            shared[HIGH] = max(shared[HIGH], label[r])
        if action == LEARN:
            shared[CLOCK] += np.float64(weight[r])
        if action == LEARN and weight[r] > ZERO:
            now = look_again(n, slots, values, FIRST, now, weight[r], weights, norm, rule)
        p = finalize(now, np.float32(shared[LOW]), np.float32(shared[HIGH]))
        if action == PREDICT or rule.with_label:
            _put(action, r, now, p, label, weight, shared, rule, raw, score, loss)
        if action == LEARN and weight[r] > ZERO:
            squares = ZERO
            if rule.invariant and not rule.adaptive and not rule.normalized:
                squares = sum_of_squares(r, value, names, start, stop, reads, scratch.sums)
            learn(
                n,
                slots,
                values,
                FIRST,
                p,
                label[r],
                weight[r],
                squares,
                weights,
                shared,
                norm,
                rule,
            )


@kernel(_walk_plain)
def walk(
    op: Any,
    tape_row: Any,
    label: Any,
    weight: Any,
    initial: Any,
    index: Any,
    value: Any,
    names: Any,
    start: Any,
    stop: Any,
    reads: Any,
    weights: Any,
    shared: Any,
    norm: Any,
    rule: Any,
    scratch: Any,
    raw: Any,
    score: Any,
    loss: Any,
) -> None:
    """Take the steps with one row of foresight.

    While a row is worked on, the list of the next one is already written and its weights are on
    their way from memory: lists depend on features only, so nothing changes. A row learned right
    after it was predicted keeps its raw sum: no weight has moved in between. Vowpal Wabbit's
    default rule for clicks takes a short cut where every value is 1.
    """
    held = scratch.held
    held[0] = -1
    held[1] = -1
    here = 0
    fresh = np.int64(-1)
    now = ZERO
    even = False
    swift = is_swift(shared, rule)
    m = op.shape[0]
    for step in range(m):
        r = np.int64(tape_row[step])
        ahead = step + 1
        while ahead < m and tape_row[ahead] == r:
            ahead += 1
        following = np.int64(tape_row[ahead]) if ahead < m else np.int64(-1)
        if held[here] != r:
            here = 1 - here
        if held[here] != r:  # the first row, or one that another tape had read ahead
            scratch.length[here] = gather(
                r,
                index,
                value,
                names,
                start,
                stop,
                reads,
                scratch.slots[here],
                scratch.values[here],
                scratch.at,
                weights,
                rule,
            )
            held[here] = r
        n = scratch.length[here]
        slots = scratch.slots[here]
        values = scratch.values[here]
        if fresh != r and swift:
            now, even = predict_swiftly(
                n, slots, values, initial[r], weights, rule, scratch.places, scratch.adapted
            )
        elif fresh != r:
            now = predict(n, slots, values, FIRST, initial[r], weights, shared, rule)
        # Sums are made one addition behind the other; the processor fills its waits with this.
        if following >= 0 and held[1 - here] != following:
            scratch.length[1 - here] = gather(
                following,
                index,
                value,
                names,
                start,
                stop,
                reads,
                scratch.slots[1 - here],
                scratch.values[1 - here],
                scratch.at,
                weights,
                rule,
            )
            held[1 - here] = following
            while ahead < m and tape_row[ahead] == following:
                ahead += 1
            if ahead < m:
                ask_for(tape_row[ahead], index, names, start, stop, reads, weights, rule)
        fresh = r
        learns = op[step] == LEARN
        if learns and rule.track:
            shared[LOW] = min(shared[LOW], np.float64(label[r]))
            shared[HIGH] = max(shared[HIGH], np.float64(label[r]))
        if learns:
            shared[CLOCK] += np.float64(weight[r])
        if learns and weight[r] > ZERO:
            now = look_again(n, slots, values, FIRST, now, weight[r], weights, norm, rule)
        p = finalize(now, np.float32(shared[LOW]), np.float32(shared[HIGH]))
        if not learns or rule.with_label:
            _put(op[step], r, now, p, label, weight, shared, rule, raw, score, loss)
        if learns and weight[r] > ZERO:
            fresh = np.int64(-1)
            if even and descend_swiftly(
                n,
                p,
                label[r],
                weight[r],
                weights,
                norm,
                rule,
                scratch.places,
                scratch.adapted,
                scratch.rates,
            ):
                continue
            squares = ZERO
            if rule.invariant and not rule.adaptive and not rule.normalized:
                squares = sum_of_squares(r, value, names, start, stop, reads, scratch.sums)
            learn(
                n,
                slots,
                values,
                FIRST,
                p,
                label[r],
                weight[r],
                squares,
                weights,
                shared,
                norm,
                rule,
            )


class LinearMember:
    """A linear learner as a part: reads namespaces of a block, gives one score a record.

    Parameters
    ----------
    reads
        Which namespaces and interactions it reads.
    rule
        How it learns.
    wildcards
        Interactions with ``:`` for any namespace, spelled out as namespaces are met.
    initial_t
        Start of the clock, and of every adaptive sum.
    initial_weight
        Start of every weight.
    constant_weight
        Start of the constant's weight.
    low, high
        Start of the clamp range; the final one too where the rule does not track labels.
    room
        Memory of zeros, writable, for the weights; new memory if not given.

    Examples
    --------
    >>> from onlinestack.block import immediate_tape
    >>> from onlinestack.linear.interactions import reads_of
    >>> member = LinearMember(reads_of(), Rule())
    >>> block = Block.of([[("f", [3], [1.0])]] * 3, label=[1, 1, 1])
    >>> member.run(block, immediate_tape(block.label))
    >>> [round(float(score), 3) for score in member.score[:3]]
    [0.0, 0.597, 0.959]
    """

    def __init__(
        self,
        reads: Reads,
        rule: Rule,
        *,
        wildcards: tuple[bytes, ...] = (),
        initial_t: float = 0.0,
        initial_weight: float = 0.0,
        constant_weight: float = 0.0,
        low: float = -50.0,
        high: float = 50.0,
        room: Any = None,
    ) -> None:
        self.fills = "s"
        self.needs: tuple[str, ...] = ("f",)
        self.reads = reads
        self._wildcards = wildcards if any(b":" in term for term in wildcards) else ()
        self._seen: set[int] = set()
        self.rule = rule
        width = 1 << int(rule.shift)
        count = (int(rule.mask) + 1) * width
        if room is None:
            self.weights = np.zeros(count, np.float32)
        else:
            self.weights = np.frombuffer(room, np.float32, count)
        if initial_weight:
            self.weights[::width] = initial_weight
        if initial_t > 0 and rule.adaptive and rule.update == GD:
            self.weights[1::width] = initial_t
        if constant_weight:
            at = (CONSTANT * reads.spread & int(rule.mask)) * width
            self.weights[at] = constant_weight
        self._copy: NDArray[np.float32] | None = None
        self.shared = np.zeros(SHARED)
        self.shared[[LOW, HIGH, CLOCK, KAPPA]] = low, high, initial_t, 1.0
        self.norms = np.zeros((reads.spread, 3))
        self.norms[0, [NORMS, TOTAL]] = initial_t
        self.norms[:, SCALE] = 1.0
        self._walk: Callable[..., None] = walk
        self._scratch = Scratch.of(256, reads.terms.shape[1])
        self.raw = np.zeros(0, np.float32)
        self.score = np.zeros(0, np.float32)
        self.loss = np.zeros(0, np.float32)

    def run(self, block: Block, tape: Tape) -> None:
        """Walk the tape over a block; `score` and `raw` then hold the rows that were predicted."""
        if self._wildcards:
            self._expand(block)
        self._make_room(block.n)
        self._scratch = self._scratch.fit(block, self.reads)
        self._walk(*self._arguments(block, tape))

    def _make_room(self, rows: int) -> None:
        if len(self.score) < rows:
            self.raw = np.zeros(max(4096, rows), np.float32)
            self.score = np.zeros(max(4096, rows), np.float32)
            self.loss = np.zeros(max(4096, rows), np.float32)

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        if self._wildcards:
            return [functools.partial(self.run, block, tape)]
        if not len(self.reads.terms):
            self._scratch = self._scratch.of_size(len(block.index) + 1)
            return [bound(self._walk, *self._arguments(block, tape))]
        room = self._scratch.slots.shape[1]
        longest = bound(longest_list, block.names, block.start, block.stop, self.reads)
        walked = bound(self._walk, *self._arguments(block, tape))

        def call() -> None:
            if longest() > room:
                self.run(block, tape)
            else:
                walked()

        return [call]

    def _arguments(self, block: Block, tape: Tape) -> tuple[Any, ...]:
        return (
            tape.op,
            tape.row,
            block.label,
            block.weight,
            block.initial,
            block.index,
            block.value,
            block.names,
            block.start,
            block.stop,
            self.reads,
            self.weights,
            self.shared,
            self.norms[0],
            self.rule,
            self._scratch,
            self.raw,
            self.score,
            self.loss,
        )

    def _expand(self, block: Block) -> None:
        """Spell out wildcards over the namespaces seen so far.

        Namespaces a record does not have add nothing to it, so it does not matter that later
        records of the block may have brought them.
        """
        letters = set(np.unique(block.names).tolist()) - {0}
        letters = {letter for letter in letters if self.reads.used[letter]}
        if not letters <= self._seen:
            self._spell_out(self._seen | letters)

    def _spell_out(self, seen: set[int]) -> None:
        self._seen = seen
        terms = term_table(expand_wildcards(self._wildcards, seen))
        self.reads = self.reads._replace(terms=terms)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state as arrays and JSON: only slots that differ from their start."""
        table = self.weights.reshape(-1, 1 << int(self.rule.shift))
        kept = KEPT[self.rule.update]
        used = np.flatnonzero(table[:, :kept].any(axis=1))
        arrays: dict[str, NDArray[Any]] = {
            "slot": used.astype(np.uint32),
            "weight": table[used, :kept],
            "shared": self.shared,
            "norms": self.norms,
        }
        return arrays, {"seen": sorted(self._seen)}

    def capture(self) -> Callable[[], tuple[dict[str, NDArray[Any]], dict[str, Any]]]:
        """Copy the whole table into memory that is kept for it; the state may be made later.

        It must have been made before the next capture.
        """
        return self._still().state

    def _still(self) -> Self:
        """Return a member that stays as this one is now, until it is asked for again."""
        if self._copy is None:
            self._copy = np.empty_like(self.weights)
        np.copyto(self._copy, self.weights)
        still = copy.copy(self)
        still.weights, still.shared, still.norms = self._copy, self.shared.copy(), self.norms.copy()
        return still

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take back a state that `state` returned."""
        table = self.weights.reshape(-1, 1 << int(self.rule.shift))
        table[:] = 0
        table[arrays["slot"], : KEPT[self.rule.update]] = arrays["weight"]
        self.shared[:] = arrays["shared"]
        self.norms[:] = arrays["norms"]
        if meta["seen"]:
            self._spell_out(set(meta["seen"]))
