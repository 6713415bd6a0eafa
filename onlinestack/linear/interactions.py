"""Which pairs: the namespaces a linear learner reads, and their products, generated on the fly.

`gather` writes the working list of one record, slots before masking and values, in the order
Vowpal Wabbit walks them. Update rules read that list; neither side knows the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations_with_replacement, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import kernel, prefetch

__all__ = [
    "CONSTANT",
    "PRIME",
    "Reads",
    "ask_for",
    "count_features",
    "expand_wildcards",
    "gather",
    "normalise_interactions",
    "origins",
    "reads_of",
    "sum_of_squares",
    "term_table",
]

CONSTANT = 11650396
"""Hash of the constant feature (the bias), Vowpal Wabbit's own."""

PRIME = np.uint64(16777619)
LOW32 = np.uint64(0xFFFFFFFF)
ZERO, ONE = np.float32(0), np.float32(1)
HOLE = ord(":")


class Reads(NamedTuple):
    """What a linear learner reads of a record.

    Parameters
    ----------
    linear
        ``uint8[256]``: 1 where the namespace takes part by itself.
    used
        ``uint8[256]``: 1 where the namespace takes part at all.
    terms
        ``uint8[t, w]``: namespace letters of each interaction, 0 behind its end.
    permutations
        Whether interactions of a namespace with itself are all ordered tuples.
    constant
        Whether the constant feature is appended.
    spread
        Number of weight vectors a feature has (a power of two).
    """

    linear: NDArray[np.uint8]
    used: NDArray[np.uint8]
    terms: NDArray[np.uint8]
    permutations: bool
    constant: bool
    spread: int


def normalise_interactions(
    interactions: Iterable[bytes], *, leave_duplicates: bool = False
) -> list[bytes]:
    """Sort interactions by length and letters, drop duplicates, as Vowpal Wabbit does.

    Two entries are duplicates when equal as multisets of letters; the first in sorted order
    stays. An entry with a repeated letter and another one is replaced by its sorted form.

    Examples
    --------
    >>> normalise_interactions([b"ba", b"abc", b"ab", b"aba"])
    [b'ab', b'aab', b'abc']
    """
    ordered = sorted(interactions, key=lambda term: (len(term), term))
    if not leave_duplicates:
        first: dict[bytes, bytes] = {}
        for term in ordered:
            first.setdefault(bytes(sorted(term)), term)
        ordered = list(first.values())
    return [bytes(sorted(t)) if 1 < len(set(t)) < len(t) else t for t in ordered]


def expand_wildcards(
    interactions: Sequence[bytes], seen: Iterable[int], *, leave_duplicates: bool = False
) -> list[bytes]:
    """Replace ``:`` by the namespaces seen so far (printable ones), and normalise.

    Terms are normalised before, too: several ``:``, or a letter that is repeated, sort a term.
    Then each ``:`` is replaced in its place; three or more fall from letter to letter where two
    rise. So it is in Vowpal Wabbit, and the order decides about hashes and sums.

    Examples
    --------
    >>> expand_wildcards([b"::"], b"ba")
    [b'aa', b'ab', b'bb']
    >>> expand_wildcards([b":c:"], b"ba")
    [b'aac', b'abc', b'bbc']
    """
    letters = sorted(letter for letter in set(seen) if 32 <= letter <= 126)
    out: list[bytes] = []
    for term in normalise_interactions(interactions, leave_duplicates=leave_duplicates):
        holes = term.count(b":")
        if not holes:
            out.append(term)
            continue
        fills: Iterable[tuple[int, ...]]
        if leave_duplicates:
            fills = product(letters, repeat=holes)
        else:
            fills = combinations_with_replacement(letters, holes)
        rising = holes <= 2 or leave_duplicates
        for fill in fills:
            letters_left = iter(fill if rising else fill[::-1])
            out.append(bytes(next(letters_left) if c == HOLE else c for c in term))
    return normalise_interactions(out, leave_duplicates=leave_duplicates)


def reads_of(
    linear: bytes | None = None,
    interactions: Sequence[bytes] = (),
    *,
    ignore: bytes = b"",
    keep: bytes | None = None,
    ignore_linear: bytes = b"",
    permutations: bool = False,
    constant: bool = True,
    spread: int = 1,
) -> Reads:
    """Build `Reads` from namespace letters.

    Parameters
    ----------
    linear
        Letters of the namespaces to read; None reads all of them.
    interactions
        Normalised interactions without wildcards.
    ignore, keep, ignore_linear
        Vowpal Wabbit's options of these names, as strings of letters.
    """
    used = np.ones(256, np.uint8)
    if keep is not None:
        used[:] = 0
        used[list(keep)] = 1
    used[list(ignore)] = 0
    alone = used.copy()
    if linear is not None:
        alone[:] = 0
        alone[list(linear)] = used[list(linear)]
    alone[list(ignore_linear)] = 0
    return Reads(alone, used, term_table(interactions), permutations, constant, spread)


def term_table(interactions: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return interactions as the table of letters that kernels read.

    Examples
    --------
    >>> term_table([b"ab", b"abc"]).tolist()
    [[97, 98, 0], [97, 98, 99]]
    """
    width = max([2, *(len(term) for term in interactions)])
    table = np.zeros((len(interactions), width), np.uint8)
    for i, term in enumerate(interactions):
        table[i, : len(term)] = list(term)
    return table


@kernel()
def _group(letter: Any, names: Any, row: Any) -> Any:
    """Return the column of the record's group of a namespace, or -1."""
    for g in range(names.shape[1]):
        if names[row, g] == letter:
            return g
    return -1


def origins(row: Any, names: Any, start: Any, stop: Any, reads: Reads) -> Iterator[tuple[int, ...]]:
    """Yield what the entries of a record's working list are made of, in their order.

    First the namespaces read by themselves, in the record's order, each feature in its order;
    then the constant; then the interactions.

    Parameters
    ----------
    row
        The record.
    names, start, stop
        The group table of its block.
    reads
        What is read of it.

    Yields
    ------
    Positions in the block's pool of the features that are multiplied; none for the constant.

    Examples
    --------
    >>> from onlinestack.block import Block
    >>> block = Block.of([[("f", [3, 5], [1.0, 1.0])]])
    >>> list(origins(0, block.names, block.start, block.stop, reads_of(b"f", [b"ff"])))
    [(0,), (1,), (), (0, 0), (0, 1), (1, 1)]
    """
    groups = {}
    for c, a, b in zip(names[row], start[row], stop[row], strict=True):
        if not c or not reads.used[c] or a == b:
            continue
        groups[int(c)] = range(int(a), int(b))
        if reads.linear[c]:
            yield from ((at,) for at in groups[int(c)])
    if reads.constant:
        yield ()
    for term in reads.terms:
        letters = [int(c) for c in term if c]
        if all(c in groups for c in letters):
            yield from _tuples([groups[c] for c in letters], letters, reads)


def _count_plain(row: Any, names: Any, start: Any, stop: Any, reads: Reads) -> int:
    """Return how many entries the working list of a record has, constant included."""
    return sum(1 for _ in origins(row, names, start, stop, reads))


def _tuples(groups: Any, letters: list[int], reads: Reads) -> Iterable[tuple[int, ...]]:
    """Yield positions: outermost letter slowest, a repeated letter never running backwards."""
    for positions in product(*groups):
        steps = zip(letters, letters[1:], positions, positions[1:], strict=False)
        if reads.permutations or all(a != b or i <= j for a, b, i, j in steps):
            yield positions


@kernel(_count_plain)
def count_features(row: Any, names: Any, start: Any, stop: Any, reads: Any) -> Any:
    """Count the working list by formula: a letter repeated m times gives C(size+m-1, m) tuples."""
    total = 1 if reads.constant else 0
    for g in range(names.shape[1]):
        c = names[row, g]
        if c != 0 and reads.linear[c] == 1:
            total += stop[row, g] - start[row, g]
    for t in range(reads.terms.shape[0]):
        count = 1
        run = 0
        for k in range(reads.terms.shape[1]):
            c = reads.terms[t, k]
            if c == 0:
                break
            g = _group(c, names, row)
            if g < 0 or reads.used[c] == 0:
                count = 0
                break
            size = stop[row, g] - start[row, g]
            if k > 0 and c == reads.terms[t, k - 1] and not reads.permutations:
                run += 1
                count = count * (size + run) // (run + 1)
            else:
                run = 0
                count *= size
        total += count
    return total


def _gather_plain(
    row: Any,
    index: Any,
    value: Any,
    names: Any,
    start: Any,
    stop: Any,
    reads: Reads,
    slots: Any,
    values: Any,
    at: Any,
    weights: Any,
    rule: Any,
) -> int:
    """Write the working list of a record into ``slots`` and ``values`` and return its length.

    Its entries are those of `origins`. The slot of a tuple of features is ``h = i1``, then ``h =
    (P * h) xor i`` for each further one, its value the product. Slots are scaled by ``spread`` and
    not yet masked. Duplicates and collisions stay separate entries. ``at`` (``int64``, as long as
    the longest interaction) is scratch of the compiled form.
    """
    n = 0
    for positions in origins(row, names, start, stop, reads):
        slot, x = CONSTANT * reads.spread, ONE
        for place, i in enumerate(positions):
            scaled = int(index[i]) * reads.spread
            slot = (int(PRIME) * slot) ^ scaled if place else scaled
            x = np.float32(x * value[i]) if place else value[i]
        slots[n], values[n] = slot & 0xFFFFFFFF, x
        n += 1
    return n


@kernel(_gather_plain)
def gather(
    row: Any,
    index: Any,
    value: Any,
    names: Any,
    start: Any,
    stop: Any,
    reads: Any,
    slots: Any,
    values: Any,
    at: Any,
    weights: Any,
    rule: Any,
) -> Any:
    """Write the list with plain loops, asking for each weight's cache line as it goes.

    Hashes stay below 2^32 at every step: the low bits of products and xors depend on low bits
    only. Pairs have a loop of their own; longer tuples walk an odometer of positions.
    """
    n = 0
    spread = np.uint64(reads.spread)
    mask, shift = rule.mask, rule.shift
    for g in range(names.shape[1]):
        c = names[row, g]
        if c == 0 or reads.linear[c] == 0:
            continue
        first = np.uint64(start[row, g])
        size = stop[row, g] - start[row, g]
        base = np.uint64(n)
        for j in range(size):
            nth = np.uint64(j)
            h = np.uint64(index[first + nth]) * spread
            slots[base + nth] = h & LOW32
            values[base + nth] = value[first + nth]
        n += size
    if reads.constant:
        slots[n] = (np.uint64(CONSTANT) * spread) & LOW32
        values[n] = ONE
        n += 1
    width = reads.terms.shape[1]
    for t in range(reads.terms.shape[0]):
        length = 0
        whole = True
        for k in range(width):
            c = reads.terms[t, k]
            if c == 0:
                break
            g = _group(c, names, row)
            whole = whole and g >= 0 and reads.used[c] == 1 and start[row, g] < stop[row, g]
            length += 1
        if not whole:
            continue
        if length == 2:
            g1 = _group(reads.terms[t, 0], names, row)
            g2 = _group(reads.terms[t, 1], names, row)
            own = g1 == g2 and not reads.permutations
            for i in range(start[row, g1], stop[row, g1]):
                h1 = PRIME * (np.uint64(index[i]) * spread)
                x1 = value[i]
                begin = i if own else start[row, g2]
                first = np.uint64(begin)
                size = stop[row, g2] - begin
                base = np.uint64(n)
                for j in range(size):
                    nth = np.uint64(j)
                    h = h1 ^ (np.uint64(index[first + nth]) * spread)
                    slots[base + nth] = h & LOW32
                    values[base + nth] = x1 * value[first + nth]
                    prefetch(weights, (h & mask) << shift)
                n += size
            continue
        n = _gather_long(
            row, index, value, names, start, stop, reads, slots, values, at, n, t, length
        )
    return n


@kernel()
def ask_for(
    row: Any, index: Any, names: Any, start: Any, stop: Any, reads: Any, weights: Any, rule: Any
) -> None:
    """Ask for the cache lines of a later row's weights, but for those of interactions."""
    spread = np.uint64(reads.spread)
    for g in range(names.shape[1]):
        c = names[row, g]
        if c == 0 or reads.linear[c] == 0:
            continue
        first = np.uint64(start[row, g])
        for j in range(stop[row, g] - start[row, g]):
            h = np.uint64(index[first + np.uint64(j)]) * spread
            prefetch(weights, (h & rule.mask) << rule.shift)


@kernel()
def _gather_long(
    row: Any,
    index: Any,
    value: Any,
    names: Any,
    start: Any,
    stop: Any,
    reads: Any,
    slots: Any,
    values: Any,
    at: Any,
    n: Any,
    t: Any,
    length: Any,
) -> Any:
    """Write the tuples of one interaction of any length by an odometer of positions."""
    spread = np.uint64(reads.spread)
    for k in range(length):
        at[k] = start[row, _group(reads.terms[t, k], names, row)]
    while True:
        h = np.uint64(index[at[0]]) * spread
        x = value[at[0]]
        for k in range(1, length):
            h = ((PRIME * h) ^ (np.uint64(index[at[k]]) * spread)) & LOW32
            x = np.float32(x * value[at[k]])
        slots[n] = h & LOW32
        values[n] = x
        n += 1
        k = length - 1
        while k >= 0 and at[k] + 1 >= stop[row, _group(reads.terms[t, k], names, row)]:
            k -= 1
        if k < 0:
            return n
        at[k] += 1
        for m in range(k + 1, length):
            c = reads.terms[t, m]
            own = c == reads.terms[t, m - 1] and not reads.permutations
            at[m] = at[m - 1] if own else start[row, _group(c, names, row)]


@kernel()
def _square_sum(value: Any, start: Any, stop: Any) -> Any:
    total = ZERO
    for i in range(start, stop):
        total = np.float32(total + np.float32(value[i] * value[i]))
    return total


@kernel()
def _combination_sum(value: Any, start: Any, stop: Any, m: Any, sums: Any) -> Any:
    """Return the sum of squared products over all m-combinations with repetition."""
    sums[:m] = ZERO
    for i in range(start, stop):
        x2 = np.float32(value[i] * value[i])
        sums[0] = np.float32(sums[0] + x2)
        for j in range(1, m):
            sums[j] = np.float32(sums[j] + np.float32(sums[j - 1] * x2))
    return sums[m - 1]


@kernel()
def sum_of_squares(
    row: Any, value: Any, names: Any, start: Any, stop: Any, reads: Any, sums: Any
) -> Any:
    """Return the sum of squares of all a record's features, by groups and their products.

    Plain gradient descent with the invariant update reads it. Namespaces left out of the linear
    part count all the same. The rounding is that of sums by group, and of interactions summed
    apart, not of one long sum.
    """
    total = ZERO
    products = ZERO
    for g in range(names.shape[1]):
        c = names[row, g]
        if c != 0 and reads.used[c] == 1:
            total = np.float32(total + _square_sum(value, start[row, g], stop[row, g]))
    if reads.constant:
        total = np.float32(total + ONE)
    for t in range(reads.terms.shape[0]):
        product_sum = ONE
        k = 0
        while k < reads.terms.shape[1] and reads.terms[t, k] != 0:
            c = reads.terms[t, k]
            g = _group(c, names, row)
            if g < 0 or reads.used[c] == 0 or start[row, g] == stop[row, g]:
                product_sum = ZERO
                break
            m = 1
            while (
                not reads.permutations
                and k + m < reads.terms.shape[1]
                and reads.terms[t, k + m] == c
            ):
                m += 1
            if m == 1:
                part = _square_sum(value, start[row, g], stop[row, g])
            else:
                part = _combination_sum(value, start[row, g], stop[row, g], m, sums)
            product_sum = np.float32(product_sum * part)
            k += m
        products = np.float32(products + product_sum)
    return np.float32(total + products)
