"""What the memory of this machine takes for what kernels touch, with no arithmetic at all.

A kernel's traffic has two sides: bytes that it reads and writes in a row, which go at the speed of
a copy, and places of its table that it changes, as the values of the records have them. The same
places are changed here, in a table as large, by a kernel that only adds 1.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import kernel, prefetch

__all__ = ["Memory", "Traffic", "seconds_of", "touched"]

COPIED = 1 << 26
ASKED = 64
"""Places ahead that the processor is asked to fetch."""
GOLDEN, FNV = np.uint64(0x9E3779B1), np.uint64(16777619)
LOW32 = np.uint64(0xFFFFFFFF)
Places = Callable[[NDArray[np.uint64]], NDArray[np.int64]]


class Traffic(NamedTuple):
    """Memory that a kernel touches a record.

    Parameters
    ----------
    streamed
        Bytes read and written in a row.
    places
        Gives the floats of its table, four or more at each, that it changes for hashed records.
    table
        Bytes of the table; 0 for none.
    """

    streamed: float
    places: Places | None = None
    table: int = 0


@kernel()
def change(places: Any, table: Any) -> None:
    """Add 1 to the four numbers at each place, asking for the lines of later ones ahead."""
    for k in range(len(places)):
        if k + ASKED < len(places):
            prefetch(table, places[k + ASKED])
        at = places[k]
        for j in range(4):
            table[at + j] += np.float32(1)


def seconds_of(call: Callable[[], object]) -> float:
    """Return the processor seconds that this thread spends in a call."""
    before = time.thread_time()
    call()
    return time.thread_time() - before


def weights(bits: int) -> Places:
    """Return what gives the places of a linear learner's weights: four floats a slot."""
    return lambda hashed: slots(hashed, bits, 4)


def slots(hashed: NDArray[np.uint64], bits: int, floats: int) -> NDArray[np.int64]:
    """Return where slots of so many floats begin, a hash's lowest bits naming its slot."""
    return (hashed & np.uint64((1 << bits) - 1)).astype(np.int64).ravel() * floats


def rates(bits: int) -> Places:
    """Return what gives the places of click-rate statistics: a cache line a value."""
    return lambda hashed: slots((hashed * GOLDEN & LOW32) >> np.uint64(32 - bits), bits, 16)


def pairs(bits: int) -> Places:
    """Return what gives the places of the weights of all pairs of fields."""

    def places(hashed: NDArray[np.uint64]) -> NDArray[np.int64]:
        one, two = np.triu_indices(hashed.shape[1], 1)
        return slots(hashed[:, one] * FNV ^ hashed[:, two], bits, 4)

    return places


class Memory:
    """Takes the times of a copy and of changing places, block after block."""

    def __init__(self, touched: Mapping[str, Traffic]) -> None:
        self.touched = touched
        self._one, self._two = np.ones(COPIED, np.uint8), np.zeros(COPIED, np.uint8)
        sizes = {each.table for each in touched.values()} - {0}
        self._tables = {size: np.full(size // 4, 0, np.float32) for size in sizes}
        self._copies: list[float] = []
        self._changes: dict[str, list[float]] = defaultdict(list)

    def measure(self, block: Any) -> None:
        """Take one turn with the hashed values of a block."""
        self._copies.append(seconds_of(lambda: np.copyto(self._two, self._one)) / (2 * COPIED))
        hashed = block.index[block.opens].astype(np.uint64)
        for name, each in self.touched.items():
            if each.places is not None:
                places, table = each.places(hashed), self._tables[each.table]
                spent = seconds_of(lambda p=places, t=table: change(p, t))
                self._changes[name].append(spent / block.n)

    @property
    def copy_rate(self) -> float:
        """Bytes that a copy reads and writes in a second."""
        return 1 / statistics.median(self._copies)

    def least(self, name: str) -> float:
        """Return the seconds that a kernel's traffic takes a record, medians of the later half."""
        changes = self._changes.get(name, [0.0])
        late = statistics.median(changes[len(changes) // 2 :])
        return self.touched[name].streamed / self.copy_rate + late


def touched(
    model: Any, linear: Mapping[int, Any], batch: Any, text: list[Any]
) -> dict[str, Traffic]:
    """Return what each kernel touches; what stays in the processor's caches is not counted."""
    stack = model._started()
    parts = stack.engine.parts
    block = stack.layout.lay(model._block(batch, 0, min(batch.n, 4096), True))
    fields, numbers, columns = block.opens.shape[1], block.numbers.shape[1], block.table.shape[1]
    scores, words, dense = block.scores.shape[1], block.bits.shape[1], block.dense["c"][1].shape[1]
    read = sum(column.nbytes for column in batch.columns) / batch.n
    vectors, paired = parts["factorisation"].tables.vectors, parts["score:ff 0.1"].part.weights
    counted = parts["statistics"]
    return {
        "hash": Traffic(sum(column.nbytes for column in text) / batch.n + 4 * len(text)),
        "encode": Traffic(read + 24 * fields + 8 * numbers),
        "statistics": Traffic(12 * dense, rates(counted.bits), 64 << counted.bits),
        "random bits": Traffic(4 * columns + 4 * words),
        "score:bits 1.4": Traffic(4 * words),
        **{
            f"linear 2^{b}": Traffic(8 * fields, weights(b), p.weights.nbytes)
            for b, p in linear.items()
        },
        "score:ff 0.1": Traffic(8 * fields, pairs(model.bits), paired.nbytes),
        "factorisation": Traffic(8 * fields + 2 * fields * vectors[0].nbytes),
        "score:trees": Traffic(4 * columns),
        "score:newton 30000": Traffic(4 * scores),
        "mixture": Traffic(8 * scores),
    }
