"""Vowpal Wabbit text as blocks: whole lines in, arrays for the linear learner out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onlinestack.block import Block
from onlinestack.io.vw_arrays import Lines, spread
from onlinestack.io.vw_label import MULTICLASS, SIMPLE
from onlinestack.io.vw_lines import parse_at
from onlinestack.kernel import array_at, kernel

__all__ = ["VWParser", "VWRecords"]

_ROOM = 3 << 20


@dataclass(slots=True)
class VWRecords:
    """Consecutive records of Vowpal Wabbit text, parsed.

    Parameters
    ----------
    block
        Labels, weights and hashed features; ``row`` counts the records of this reading from 0.
    tag
        ``binary[n]``: the records' tags, null where there is none.
    line
        ``int64[n]``: line numbers from 1, blank lines counted.
    offset
        ``int64[n]``: where in the stream each record's line begins, in bytes.
    flags
        ``uint8[n]``: what was odd about the line; the constants of ``io.vw_arrays``.
    lines
        Lines read up to the end of this stretch, blank ones counted.
    text
        The bytes that were parsed; empty unless names were asked for.
    names
        ``int64[size, 6]``: for each feature of the block the extents in ``text`` of namespace,
        name and text value; no rows unless names were asked for.
    odd
        Lines with flags by their numbers; empty unless they were asked for.
    """

    block: Block
    tag: Any
    line: NDArray[np.int64]
    offset: NDArray[np.int64]
    flags: NDArray[np.uint8]
    lines: int
    text: bytes
    names: NDArray[np.int64]
    odd: dict[int, bytes] = field(default_factory=dict)

    def rows(self, start: int, stop: int) -> VWRecords:
        """Return the records ``start`` to ``stop`` as a view over the same features."""
        return VWRecords(
            self.block.rows(start, stop),
            self.tag.slice(start, stop - start),
            self.line[start:stop],
            self.offset[start:stop],
            self.flags[start:stop],
            self.lines if stop == self.block.n else int(self.line[stop - 1]),
            self.text,
            self.names,
            self.odd,
        )

    def feature_name(self, feature: int) -> bytes:
        """Return a feature's name as ``--audit`` prints it: ``space^name^text``.

        The default namespace is left out; an anonymous feature has an empty name.
        """
        space, name, word = (
            self.text[start:stop] for start, stop in self.names[feature].reshape(3, 2)
        )
        return (space + b"^" if space else b"") + name + (b"^" + word if word else b"")


class VWParser:
    r"""Parse stretches of Vowpal Wabbit text, as its version 9.11 understands it.

    Use it where whole lines are at hand; a ``VWTextReader`` cuts them out of a stream. One parser
    may be used by several threads at once.

    Parameters
    ----------
    target
        ``"raw"`` keeps labels as written, ``"click"`` makes those above 0 a 1 and others a 0.
    labels
        ``"simple"``: ``label importance initial``; ``"multiclass"``: ``class importance``.
    hash_all
        Hash names of digits only like any other (``--hash all``).
    hash_seed
        Seed of the hashes of namespace names (``--hash_seed``).
    redefine
        256 bytes: the namespace letter to use for each first byte; None keeps all.
    names
        Keep the text and the extents of feature names in it, for audits.
    odd
        Keep the lines that are malformed in some way.

    Raises
    ------
    ValueError
        When an argument is out of its range.

    Examples
    --------
    >>> records = VWParser(names=True).parse(b"1 2 first|f a b:0.5\n\n-1 |f 12 |g c:x")
    >>> records.block.label.tolist(), records.block.weight.tolist(), records.line.tolist()
    ([1.0, -1.0], [2.0, 1.0], [1, 3])
    >>> records.tag.to_pylist(), [records.feature_name(i).decode() for i in range(4)]
    ([b'first', None], ['f^a', 'f^b', 'f^12', 'g^c^x'])
    """

    def __init__(
        self,
        *,
        target: Literal["raw", "click"] = "raw",
        labels: Literal["simple", "multiclass"] = "simple",
        hash_all: bool = False,
        hash_seed: int = 0,
        redefine: bytes | None = None,
        names: bool = False,
        odd: bool = False,
    ) -> None:
        if target not in ("raw", "click"):
            raise ValueError(f"target is {target!r}; give 'raw' or 'click'.")
        if labels not in ("simple", "multiclass"):
            raise ValueError(f"labels is {labels!r}; give 'simple' or 'multiclass'.")
        if redefine is not None and len(redefine) != 256:
            raise ValueError(f"redefine has {len(redefine)} bytes; give one for each of 256.")
        self.target = target
        self.labels = labels
        self.hash_all = hash_all
        self.hash_seed = hash_seed % 2**32
        self.redefine = np.frombuffer(bytearray(redefine or range(256)), np.uint8)
        self.names = names
        self.odd = odd
        self._idle: deque[Lines] = deque()  # room not in use, at most one for each thread

    def parse(self, data: bytes, *, offset: int = 0, line: int = 0, row: int = 0) -> VWRecords:
        """Parse whole lines; a last one without a line end is whole, too.

        Parameters
        ----------
        data
            The lines.
        offset, line, row
            Bytes, lines and records that came before.
        """
        if data and not data.endswith(b"\n"):
            data += b"\n"
        out = self._room(data)
        n, groups, features, lines = parse_at(
            pa.py_buffer(data).address,
            len(data),
            self.hash_seed,
            int(self.hash_all),
            self.redefine,
            MULTICLASS if self.labels == "multiclass" else SIMPLE,
            int(self.names),
            out,
        )
        label = out.label[:n].copy()
        if self.target == "click":
            known = ~np.isnan(label)
            label[known] = label[known] > 0
        width = int(np.diff(out.group[: n + 1]).max(initial=1))
        letter = np.zeros((n, width), np.uint8)
        first, last = np.zeros((n, width), np.int64), np.zeros((n, width), np.int64)
        spread(out, letter, first, last)
        records = VWRecords(
            Block(
                label,
                out.weight[:n].copy(),
                out.initial[:n].copy(),
                np.arange(row, row + n, dtype=np.int64),
                out.hashes[:features].copy(),
                out.values[:features].copy(),
                letter,
                first,
                last,
                np.empty((n, 0)),
            ),
            _tags(data, out, n),
            out.line[:n] + (line + 1),
            out.offset[:n] + offset,
            out.flags[:n].copy(),
            line + lines,
            data if self.names else b"",
            out.names[: features if self.names else 0].copy(),
            _odd(data, out, n, line + 1) if self.odd else {},
        )
        if len(out.hashes) <= _ROOM:
            self._idle.append(out)
        return records

    def _room(self, data: bytes) -> Lines:
        """Return room for a parse, used before if possible: its pages are there already."""
        if len(data) > _ROOM:
            # Counted, because guesses would reserve gigabytes.
            return Lines.room(len(data), data.count(b"\n"), data.count(b"|"), names=self.names)
        try:
            return self._idle.pop()
        except IndexError:
            return Lines.room(_ROOM, _ROOM // 2 + 1, _ROOM, names=self.names)


def _odd(data: bytes, out: Lines, n: int, line: int) -> dict[int, bytes]:
    """Return the lines with flags, by their numbers."""
    rows = np.flatnonzero(out.flags[:n])
    places = zip((out.line[rows] + line).tolist(), out.offset[rows].tolist(), strict=True)
    return {number: data[start : data.find(b"\n", start)] for number, start in places}


@kernel()
def _copy_tags(address: Any, size: Any, out: Any, ends: Any, data: Any) -> None:
    """Write the tags one behind the other."""
    text = array_at(address, size, np.uint8)
    for i in range(len(ends) - 1):
        start = out.tag_start[i] - ends[i]
        for k in range(ends[i], ends[i + 1]):
            data[k] = text[start + k]


def _tags(text: bytes, out: Lines, n: int) -> Any:
    """Return the tags as an Arrow array, null for an empty one."""
    sizes = out.tag_stop[:n] - out.tag_start[:n]
    if not sizes.any():
        return pa.nulls(n, pa.binary())
    ends = np.zeros(n + 1, np.int32)
    np.cumsum(sizes, out=ends[1:])
    data = np.empty(ends[-1], np.uint8)
    _copy_tags(pa.py_buffer(text).address, len(text), out, ends, data)
    valid = np.packbits(sizes > 0, bitorder="little")
    return pa.Array.from_buffers(
        pa.binary(), n, [pa.py_buffer(valid), pa.py_buffer(ends), pa.py_buffer(data)]
    )
