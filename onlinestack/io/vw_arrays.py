"""The arrays that the parser of Vowpal Wabbit text fills, and what is done to them as they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.kernel import kernel

__all__ = [
    "BAD_BLOCK",
    "BAD_FEATURE",
    "BAD_LABEL",
    "BAD_NUMBER",
    "FATAL",
    "Lines",
    "gather",
    "spread",
]

BAD_NUMBER = 1
"""Flag: a number of the label part is none, and was read as 0."""
BAD_LABEL = 2
"""Flag: too many tokens in the label part; the record counts as unlabelled."""
BAD_BLOCK = 4
"""Flag: a namespace without a name, or a multiplier that cannot be used as written."""
BAD_FEATURE = 8
"""Flag: the rest of the line was dropped, or a feature value NaN became 0."""
FATAL = 16
"""Flag: a multiclass label that Vowpal Wabbit refuses to go on with."""


class Lines(NamedTuple):
    """Room for the records of a stretch of text, filled by ``parse_lines``.

    The first axis of the first nine is the record, that of ``letter``, ``first``, ``last`` the
    group (records ``group[i]`` to ``group[i + 1]``), that of the rest the feature. ``seen`` and
    ``marks`` are scratch.
    """

    label: NDArray[np.float32]
    weight: NDArray[np.float32]
    initial: NDArray[np.float32]
    line: NDArray[np.int64]
    offset: NDArray[np.int64]
    tag_start: NDArray[np.int64]
    tag_stop: NDArray[np.int64]
    flags: NDArray[np.uint8]
    group: NDArray[np.int64]
    letter: NDArray[np.uint8]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    hashes: NDArray[np.uint32]
    values: NDArray[np.float32]
    names: NDArray[np.int64]
    seen: NDArray[np.int64]
    marks: NDArray[np.int32]

    @classmethod
    def room(cls, size: int, lines: int, blocks: int, *, names: bool = False) -> Lines:
        """Return arrays for a parse of ``size`` bytes; pages never written to cost nothing.

        A feature takes at least two bytes and a group one; there is twice that room, so that
        a record's groups can be brought in order behind it.
        """
        return cls(
            label=np.empty(lines, np.float32),
            weight=np.empty(lines, np.float32),
            initial=np.empty(lines, np.float32),
            line=np.empty(lines, np.int64),
            offset=np.empty(lines, np.int64),
            tag_start=np.empty(lines, np.int64),
            tag_stop=np.empty(lines, np.int64),
            flags=np.empty(lines, np.uint8),
            group=np.empty(lines + 1, np.int64),
            letter=np.empty(2 * blocks, np.uint8),
            first=np.empty(2 * blocks, np.int64),
            last=np.empty(2 * blocks, np.int64),
            hashes=np.empty(size, np.uint32),
            values=np.empty(size, np.float32),
            names=np.empty((size if names else 0, 6), np.int64),
            seen=np.empty(256, np.int64),
            marks=np.empty(size + 1, np.int32),
        )


@kernel()
def _copy(out: Any, source: Any, target: Any, names: Any) -> Any:
    """Copy one feature."""
    out.hashes[target] = out.hashes[source]
    out.values[target] = out.values[source]
    if names:
        for m in range(6):
            out.names[target, m] = out.names[source, m]


@kernel()
def gather(out: Any, begin: Any, groups: Any, low: Any, features: Any, names: Any) -> Any:
    """Bring a record's groups of one letter together; return where its groups now end.

    The record is first copied behind itself, where ``Lines.room`` keeps as much room again.
    """
    behind = features - low
    for k in range(low, features):
        _copy(out, k, k + behind, names)
    more = groups - begin
    for i in range(begin, groups):
        out.letter[i + more] = out.letter[i]
        out.first[i + more] = out.first[i] + behind
        out.last[i + more] = out.last[i] + behind
    filled, kept = low, begin
    for i in range(groups, groups + more):
        if out.last[i] < 0:
            continue
        letter = out.letter[i]
        out.letter[kept] = letter
        out.first[kept] = filled
        for j in range(i, groups + more):
            if out.letter[j] == letter and out.last[j] >= 0:
                for k in range(out.first[j], out.last[j]):
                    _copy(out, k, filled, names)
                    filled += 1
                out.last[j] = -1
        out.last[kept] = filled
        kept += 1
    return kept


@kernel()
def spread(out: Any, letter: Any, first: Any, last: Any) -> None:
    """Lay the groups out as one row a record."""
    for i in range(len(letter)):
        begin = out.group[i]
        for j in range(begin, out.group[i + 1]):
            letter[i, j - begin] = out.letter[j]
            first[i, j - begin] = out.first[j]
            last[i, j - begin] = out.last[j]
