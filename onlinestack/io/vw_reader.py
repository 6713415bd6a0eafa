"""Vowpal Wabbit text as a source of records for the learner, from files and pipes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from onlinestack.block import Block
from onlinestack.io.chunks import Chunk, Chunks
from onlinestack.io.reader import Bad, Job, Stretch, show
from onlinestack.io.schema import Kind
from onlinestack.io.vw_arrays import FATAL
from onlinestack.io.vw_text import VWParser, VWRecords

__all__ = ["VWReader"]


class VWReader:
    """Reader of Vowpal Wabbit text; it has no columns, its records come as parsed features.

    Malformed lines are records of what could be read of them, as in Vowpal Wabbit. Records whose
    importance is negative or not finite are rejected, like those of any source.

    Parameters
    ----------
    path
        File (also ``.gz`` or ``.zst``), or ``"-"``.
    target
        ``"click"``: labels above 0 become 1 and others 0; ``"number"``: as written; ``"class"``:
        whole numbers, no others; ``"raw"``: as written, whatever the importance.
    """

    def __init__(
        self, path: str, target: Literal["click", "number", "class", "raw"] = "click"
    ) -> None:
        self.path = path
        self.names: tuple[str, ...] = ()
        self._chunks = Chunks(path, None)
        self.live = self._chunks.live
        self._raw = target == "raw"
        self._parser = VWParser(
            target="click" if target == "click" else "raw",
            labels="multiclass" if target == "class" else "simple",
        )

    def kinds(self) -> dict[str, Kind]:
        """Return nothing: there are no columns."""
        return {}

    def jobs(self, wanted: Sequence[str], offset: int | None = None) -> Iterator[Job]:
        """Return the jobs that parse the file's stretches, in order.

        Parameters
        ----------
        wanted
            Names of columns; each comes as None.
        offset
            Position of a stretch to go on from.
        """
        if offset:
            self._chunks.go_to(offset)
        while (chunk := self._chunks.next()) is not None:
            yield functools.partial(self._decode, chunk, self._chunks.done, len(wanted))

    def _decode(self, chunk: Chunk, done: int, wanted: int) -> Stretch:
        columns: list[pa.Array | None] = [None] * wanted
        if chunk.reason is not None:
            bad = [Bad(0, chunk.reason, show(chunk.data))]
            return Stretch(chunk.offset, 1, columns, bad, done, parsed=self._parser.parse(b""))
        records = self._parser.parse(chunk.data)
        n = records.block.n
        # Vowpal Wabbit itself takes any importance and learns nothing from those below 0.
        text = functools.partial(_texts, records, chunk.data)
        bad = [] if self._raw else _bad(records, text)
        if bad:
            records = _without(records, [number for number, _, _ in bad])
        return Stretch(chunk.offset, n, columns, bad, done, parsed=records, text=text)

    def close(self) -> None:
        """Close the file."""
        self._chunks.close()


def _texts(records: VWRecords, data: bytes, numbers: list[int]) -> list[str]:
    """Return the lines of records given by their numbers in the stretch."""
    starts = records.offset[numbers].tolist()
    return [show(data[start : data.find(b"\n", start)]) for start in starts]


def _bad(records: VWRecords, text: Callable[[list[int]], list[str]]) -> list[Bad]:
    """Return the records whose importance or label no learner takes."""
    weight = records.block.weight
    label = records.block.label
    light = ~((weight >= 0) & np.isfinite(weight))
    wrong = (records.flags & FATAL > 0) | np.isinf(label)
    rows = np.flatnonzero(light | wrong).tolist()
    found = []
    for i, line in zip(rows, text(rows), strict=True):
        reason = f"importance {weight[i]:g} is no finite number from 0"
        if wrong[i]:
            reason = "the label is no class number"
            if np.isinf(label[i]):
                reason = "the label is not a finite number"
        found.append(Bad(i, reason, line))
    return found


def _without(records: VWRecords, rows: list[int]) -> VWRecords:
    """Return the records without some; the pool of features stays as it is."""
    keep = np.ones(records.block.n, np.bool_)
    keep[rows] = False
    b = records.block
    block = Block(
        b.label[keep],
        b.weight[keep],
        b.initial[keep],
        b.row[keep],
        b.index,
        b.value,
        b.names[keep],
        b.start[keep],
        b.stop[keep],
        b.numbers[keep],
    )
    return VWRecords(
        block,
        records.tag.filter(pa.array(keep)),
        records.line[keep],
        records.offset[keep],
        records.flags[keep],
        records.lines,
        records.text,
        records.names,
    )
