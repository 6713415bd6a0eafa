"""Learning only some of the non-clicks, so that probabilities stay true.

Where clicks are rare, most of the work goes into non-clicks that say little. Of these a share q is
kept, each with 1 / q times its weight: every sum over non-clicks stays what it was on average,
and so do the odds that are learned.

References
----------
[^1]: McMahan, H. B. et al. (2013). Ad click prediction: a view from the trenches. KDD, section 3.2.
[^2]: He, X. et al. (2014). Practical lessons from predicting clicks on ads at Facebook. ADKDD.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onlinestack.murmur import uniform_hash

__all__ = ["Negatives"]

RANGE = 2**32
GOLDEN, STIR_1, STIR_2 = (
    np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class Negatives:
    """Chooses the non-clicks that are learned: by their ids, or by their numbers.

    Use it in a loop of your own before ``learn_one``; learners have it as ``negatives``. The same
    ids are chosen on each run and in each process.

    Parameters
    ----------
    share
        Share that is kept, above 0 and at most 1.
    seed
        Other seeds choose others.

    Raises
    ------
    ValueError
        Where the share is none.

    Examples
    --------
    >>> negatives = Negatives(0.25)
    >>> [negatives.weight(id, False) for id in ("a1", "a2", "a3", "a4", "a5")]
    [4.0, 0.0, 0.0, 0.0, 0.0]
    >>> negatives.weight("a2", True)
    1.0
    """

    def __init__(self, share: float, seed: int = 0) -> None:
        if not 0 < share <= 1:
            raise ValueError(
                f"negatives={share!r} is no share; give a number above 0 and at most 1"
            )
        self.share, self.seed = share, seed
        self._below = round(share * RANGE)

    def weight(self, id: str, y: bool, w: float = 1.0) -> float:
        """Return the weight that a record is to be learned with; 0 to leave it out.

        Parameters
        ----------
        id
            Its id.
        y
            Whether it was clicked.
        w
            Its importance.
        """
        if y:
            return w
        return w / self.share if self.keeps(id) else 0.0

    def keeps(self, id: str) -> bool:
        """Tell whether a non-click is learned, by its id."""
        if self.share == 1:
            return True
        text = id.encode("utf-8", "surrogatepass")
        return uniform_hash(text, self.seed % RANGE) < self._below

    def keeps_numbers(self, first: int, count: int) -> NDArray[np.bool_]:
        """Tell for so many non-clicks from a number on whether they are learned (splitmix64)."""
        with np.errstate(over="ignore"):
            z = np.arange(first, first + count, dtype=np.uint64) * GOLDEN
            z = z + GOLDEN + np.uint64(self.seed % 2**64)
            z = (z ^ (z >> np.uint64(30))) * STIR_1
            z = (z ^ (z >> np.uint64(27))) * STIR_2
            z ^= z >> np.uint64(31)
        kept: NDArray[np.bool_] = (z >> np.uint64(32)) < self._below
        return kept
