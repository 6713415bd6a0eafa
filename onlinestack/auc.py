"""A histogram of scored clicks that refines itself where the scores are, and the AUC it gives.

Probabilities are binned on a scale close to their logits: the bits of a float32 are a piecewise
linear logarithm, so the leading bits of p (below one half) and of 1 - p (above) cut the scale
into 304 bins of an eighth of an octave without computing any logarithm. A bin that comes
to hold more than its share of the weight is split into sixteen, up to four times; the weight it
held stays where it was and is later shared out among the sixteen as the weight that came after.
So even scores that all lie within a ten-thousandth of a logit are told apart, in fixed memory.

Splits depend on the records alone, one after the other, never on blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import kernel

__all__ = ["CLIP", "FEW", "SHARE", "Histograms", "area", "drop", "lift", "spread"]

CLIP = 1e-6
"""Probabilities are scored as if clipped to [CLIP, 1 - CLIP], as in the mixture."""

ROOTS = 304
FAN_BITS = 4
FAN = 1 << FAN_BITS
NODES = 256
ROOT_SHIFT = 20
FINEST = 4
DEPTH = 1 + (ROOT_SHIFT - FINEST) // FAN_BITS
SHARE = 1.0 / 256
"""Share of the weight that a bin may hold before it is split..."""
FEW = 64.0
"""... as long as that is the weight of this many records or more."""

HALF = np.float32(0.5)
ONE = np.float32(1)
LOWEST = np.float32(CLIP).view(np.uint32).astype(np.int64)
MIDDLE = HALF.view(np.uint32).astype(np.int64) - LOWEST


@dataclass(slots=True)
class Histograms:
    """One histogram for each of K experts, as arrays that the kernels write.

    Parameters
    ----------
    mass
        ``float64[K, slots, 2]``: weight of the non-clicks and of the clicks in each bin.
    child
        ``int32[K, slots]``: node that a bin was split into (its bins are the sixteen slots from
        sixteen times its number on), 0 for a bin that is whole.
    used
        ``int64[K]``: nodes in use.
    """

    mass: NDArray[np.float64]
    child: NDArray[np.int32]
    used: NDArray[np.int64]

    @classmethod
    def of(cls, experts: int) -> Histograms:
        """Return empty histograms."""
        slots = NODES * FAN
        return cls(
            np.zeros((experts, slots, 2)),
            np.zeros((experts, slots), np.int32),
            np.full(experts, ROOTS // FAN, np.int64),
        )

    @property
    def slots(self) -> int:
        """Number of slots that any expert uses."""
        return int(self.used.max()) * FAN

    def auc(self, expert: int, before: NDArray[np.float64] | None = None) -> float | None:
        """Return the area under the ROC curve of one expert, None while a class is missing.

        Parameters
        ----------
        expert
            Its number.
        before
            ``float64[slots, 2]``: an earlier state of its masses, which does not count.
        """
        size = int(self.used[expert]) * FAN
        mass = self.mass[expert, :size]
        # Rounding may leave a hair's breadth below zero where weights are no whole numbers.
        fresh = mass.copy() if before is None else np.maximum(mass - before[:size], 0.0)
        child = self.child[expert, :size]
        spread(fresh, child, np.empty((size, 2)))
        result = area(fresh, child, np.zeros((DEPTH, 2), np.int64))
        return None if math.isnan(result) else float(result)

    def bins(self, expert: int) -> NDArray[np.float64]:
        """Return the bins of one expert that hold something, by rising probability.

        Parameters
        ----------
        expert
            Its number.

        Returns
        -------
        ``float64[m, 4]``: where a bin begins and ends, weight of its non-clicks and of its clicks.
        """
        size = int(self.used[expert]) * FAN
        mass, child = self.mass[expert, :size].copy(), self.child[expert, :size]
        spread(mass, child, np.empty((size, 2)))
        found: list[tuple[float, float, float, float]] = []

        def collect(slot: int, place: int, width: int) -> None:
            node = int(child[slot])
            if node:
                for part in range(FAN):
                    collect(node * FAN + part, place + part * width // FAN, width // FAN)
            elif mass[slot].any():
                found.append((_at(place), _at(place + width), *mass[slot].tolist()))

        for root in range(ROOTS):
            collect(root, root << ROOT_SHIFT, 1 << ROOT_SHIFT)
        return np.array(found).reshape(-1, 4)


def _at(place: int) -> float:
    """Return the probability at a place of the scale, what `position` would turn into it."""
    if place < MIDDLE:
        return float(np.uint32(LOWEST + place).view(np.float32))
    rest = max(0, int(2 * MIDDLE + LOWEST) - place)
    return 1.0 - float(np.uint32(rest).view(np.float32))


@kernel()
def position(p: Any) -> Any:
    """Return where a clipped probability (float32) lies on the scale, a whole number.

    Below one half it is read off the bits of p, above off those of 1 - p, which is exact there.
    """
    if p < HALF:
        return np.int64(np.float32(p).view(np.uint32)) - LOWEST
    return 2 * MIDDLE + LOWEST - np.int64(np.float32(ONE - p).view(np.uint32))


@kernel()
def drop(mass: Any, child: Any, used: Any, expert: Any, p: Any, y: Any, w: Any, most: Any) -> None:
    """Add weight ``w`` of a record of class ``y`` scored ``p`` (float32, clipped) to a histogram.

    The bin is split when it then holds more than ``most``.
    """
    place = position(p)
    shift = ROOT_SHIFT
    slot = place >> shift
    while child[expert, slot] != 0:
        shift -= FAN_BITS
        slot = child[expert, slot] * FAN + ((place >> shift) & (FAN - 1))
    mass[expert, slot, y] += w
    held = mass[expert, slot, 0] + mass[expert, slot, 1]
    if held > most and shift > FINEST and used[expert] < NODES:
        child[expert, slot] = used[expert]
        used[expert] += 1


@kernel()
def lift(mass: Any, child: Any, expert: Any, p: Any, y: Any, w: Any) -> None:
    """Take back what `drop` added, from the finest bin around p that holds as much.

    That need not be the bin it went to: bins are split, and the weight before a split stays above.
    """
    place = position(p)
    while w > 0.0:
        shift = ROOT_SHIFT
        slot = place >> shift
        best = slot
        while child[expert, slot] != 0:
            shift -= FAN_BITS
            slot = child[expert, slot] * FAN + ((place >> shift) & (FAN - 1))
            if mass[expert, slot, y] > 0.0:
                best = slot
        taken = min(w, mass[expert, best, y])
        mass[expert, best, y] -= taken
        w = w - taken if taken > 0.0 else 0.0


@kernel()
def spread(mass: Any, child: Any, total: Any) -> None:
    """Move the weight that split bins hold down into their parts, each class for itself.

    It is shared out in proportion to the weight that came to the parts later, evenly where none
    did. ``total`` is scratch: the weight of a bin with all its parts.
    """
    # The parts of a bin always have higher numbers than the bin.
    for slot in range(mass.shape[0] - 1, -1, -1):
        for y in range(2):
            total[slot, y] = mass[slot, y]
            if child[slot] != 0:
                for part in range(child[slot] * FAN, child[slot] * FAN + FAN):
                    total[slot, y] += total[part, y]
    for slot in range(mass.shape[0]):
        if child[slot] != 0:
            for y in range(2):
                later = 0.0
                for part in range(child[slot] * FAN, child[slot] * FAN + FAN):
                    later += total[part, y]
                for part in range(child[slot] * FAN, child[slot] * FAN + FAN):
                    share = total[part, y] / later if later > 0.0 else 1.0 / FAN
                    mass[part, y] += mass[slot, y] * share
                mass[slot, y] = 0.0


@kernel()
def area(mass: Any, child: Any, stack: Any) -> Any:
    """Return the area under the ROC curve of whole bins, NaN while a class is missing.

    It is the share of the pairs (click, non-click), by weight, in which the click has the higher
    score; pairs within a bin count one half. ``stack`` is scratch: next slot and end by depth.
    """
    clicks = 0.0
    others = 0.0
    pairs = 0.0
    depth = 0
    stack[0, 0] = 0
    stack[0, 1] = ROOTS
    while depth >= 0:
        slot = stack[depth, 0]
        if slot == stack[depth, 1]:
            depth -= 1
            continue
        stack[depth, 0] += 1
        if child[slot] != 0:
            depth += 1
            stack[depth, 0] = child[slot] * FAN
            stack[depth, 1] = child[slot] * FAN + FAN
            continue
        pairs += mass[slot, 1] * (others + 0.5 * mass[slot, 0])
        clicks += mass[slot, 1]
        others += mass[slot, 0]
    return pairs / (clicks * others) if clicks > 0.0 and others > 0.0 else np.nan
