"""A ledger of features met: what each hash stands for, first come, first kept.

Weights lie in slots of hashes, which tell nothing to people. Where a learner is asked to keep
names, the encoder shows every record that it encodes for learning to a ledger, which so comes to
hold raw values of records. It is bounded; what is met first is kept, and each occurrence of a
feature that finds no room is counted. Which names are kept depends on the records alone, not on
blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import kernel

__all__ = ["MOST", "Ledger", "enter", "enter_all"]

MOST = 2**18
"""Names that a ledger has room for."""
LONGEST = 80
"""Characters of a name that are kept."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(32)
NONE, ONE = np.uint64(0), np.uint64(1)

ENTERED, LEFT_OUT = range(2)


@kernel()
def _place(key: Any, table: Any) -> Any:
    """Return the place of a key in the table, or the free one where it belongs."""
    mask = np.uint64(len(table) - 1)
    place = ((key * GOLDEN) >> SHIFT) & mask
    while table[place] != NONE and table[place] != key:
        place = (place + ONE) & mask
    return place


@kernel()
def enter(
    index: Any, opens: Any, closes: Any, seeds: Any, most: Any, table: Any, counts: Any, new: Any
) -> Any:
    """Enter the features of records that are not in the table yet; return how many those are.

    Parameters
    ----------
    index
        ``uint32[size]``: hashes of features.
    opens, closes
        ``int64[n, F]``: extent of each field's features in ``index``.
    seeds
        ``uint32[F]``: what tells fields apart.
    most
        How many there is room for.
    table
        ``uint64[2**b]``: keys, seed and hash, of what was entered; 0 where there is none. It is
        larger than ``most``.
    counts
        ``int64[2]``: features entered, and times that one found no room.
    new
        ``int64[k, 3]``: row, field and place within the field of those entered.
    """
    found = 0
    for r in range(opens.shape[0]):
        for f in range(opens.shape[1]):
            for at in range(opens[r, f], closes[r, f]):
                key = (np.uint64(seeds[f]) << SHIFT) | np.uint64(index[at])
                place = _place(key, table)
                if table[place] == key:
                    continue
                if counts[ENTERED] >= most:
                    counts[LEFT_OUT] += 1
                    continue
                table[place] = key
                counts[ENTERED] += 1
                new[found, 0] = r
                new[found, 1] = f
                new[found, 2] = at - opens[r, f]
                found += 1
    return found


@kernel()
def enter_all(keys: Any, table: Any) -> None:
    """Enter keys into an empty table."""
    for key in keys:
        table[_place(key, table)] = key


class Ledger:
    """Names of features by field and hash.

    Parameters
    ----------
    most
        How many names there is room for.

    Attributes
    ----------
    names
        Those kept, in the order they were met.

    Examples
    --------
    >>> ledger = Ledger(2)
    >>> index, opens = np.array([7, 9, 8], np.uint32), np.array([[0], [1], [2]])
    >>> values = [["site=a"], ["site=b"], ["site=c"]]
    >>> ledger.note(index, opens, opens + 1, np.ones(1, np.uint32), lambda row, _: values[row])
    >>> ledger.names, ledger.hashes.tolist(), ledger.left_out
    (['site=a', 'site=b'], [7, 9], 1)
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.names: list[str] = []
        self._keys = np.zeros(most, np.uint64)
        self._table = np.zeros(1 << (2 * most - 1).bit_length(), np.uint64)
        self._counts = np.zeros(2, np.int64)

    @property
    def hashes(self) -> NDArray[np.uint32]:
        """Return the hash of each name."""
        return (self._keys[: len(self.names)] & np.uint64(2**32 - 1)).astype(np.uint32)

    @property
    def seeds(self) -> NDArray[np.uint32]:
        """Return the seed of the field of each name."""
        return (self._keys[: len(self.names)] >> SHIFT).astype(np.uint32)

    @property
    def left_out(self) -> int:
        """How often a feature found no room."""
        return int(self._counts[LEFT_OUT])

    @property
    def collisions(self) -> int:
        """How many names have the hash of a name before them, of another field."""
        return len(self.names) - len(np.unique(self.hashes))

    def note(
        self,
        index: NDArray[np.uint32],
        opens: NDArray[np.int64],
        closes: NDArray[np.int64],
        seeds: NDArray[np.uint32],
        called: Callable[[int, int], list[str]],
    ) -> None:
        """Keep the names of features that are new, in the order of records and fields.

        Parameters
        ----------
        index, opens, closes, seeds
            As in `enter`.
        called
            Returns the names of the features of a row and a field.
        """
        size = min(int((closes - opens).sum()), self.most - len(self.names))
        new = np.empty((size, 3), np.int64)
        table, counts = self._table, self._counts
        first = len(self.names)
        found = enter(index, opens, closes, seeds, self.most, table, counts, new)
        for row, field, at in new[:found].tolist():
            self.names.append(called(row, field)[at][:LONGEST])
        rows, fields, places = new[:found].T
        hashes = index[opens[rows, fields] + places].astype(np.uint64)
        self._keys[first : first + found] = (seeds[fields].astype(np.uint64) << SHIFT) | hashes

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the names and what they are of, as arrays and JSON."""
        texts = [name.encode(errors="surrogatepass") for name in self.names]
        return {
            "key": self._keys[: len(texts)].copy(),
            "end": np.cumsum([len(text) for text in texts], dtype=np.int64),
            "text": np.frombuffer(b"".join(texts), np.uint8),
        }, {"most": self.most, "left_out": self.left_out}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Ledger:
        """Return the ledger whose `state` this is."""
        ledger = cls(meta["most"])
        text, end = arrays["text"].tobytes(), [0, *arrays["end"].tolist()]
        ledger.names = [
            text[a:b].decode(errors="surrogatepass") for a, b in zip(end, end[1:], strict=False)
        ]
        ledger._keys[: len(ledger.names)] = arrays["key"]
        enter_all(ledger._keys[: len(ledger.names)], ledger._table)
        ledger._counts[:] = len(ledger.names), meta["left_out"]
        return ledger
