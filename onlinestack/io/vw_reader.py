"""Vowpal Wabbit text as stretches: the parser of ``io.vw_text`` over chunks of whole lines."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Literal

from onlinestack.io.chunks import Chunk, Chunks
from onlinestack.io.reader import Bad, Job, Stretch, show
from onlinestack.io.schema import Kind
from onlinestack.io.vw_text import VWParser

__all__ = ["VWReader"]


class VWReader:
    """Reader of Vowpal Wabbit text; its records come parsed, as a block of features.

    Parameters
    ----------
    path
        File (also ``.gz`` or ``.zst``), or ``"-"``.
    target
        ``"click"`` makes labels above 0 a 1 and others a 0, ``"raw"`` keeps them.
    """

    def __init__(self, path: str, target: Literal["raw", "click"] = "click") -> None:
        self.path = path
        self.names: tuple[str, ...] = ()
        self._parser = VWParser(target=target)
        self._chunks = Chunks(path, None)
        self.live = self._chunks.live

    def kinds(self) -> dict[str, Kind]:
        """Return nothing: the text has namespaces, not columns."""
        return {}

    def jobs(self, wanted: Sequence[str], offset: int | None = None) -> Iterator[Job]:
        """Return the jobs that parse the file's stretches, in order."""
        if offset:
            self._chunks.go_to(offset)
        while (chunk := self._chunks.next()) is not None:
            yield functools.partial(self._parse, chunk, self._chunks.done)

    def _parse(self, chunk: Chunk, done: int) -> Stretch:
        good = chunk.reason is None
        records = self._parser.parse(chunk.data if good else b"", offset=chunk.offset)
        bad = [] if chunk.reason is None else [Bad(0, chunk.reason, show(chunk.data))]
        return Stretch(chunk.offset, records.block.n + len(bad), [], bad, done, parsed=records)

    def close(self) -> None:
        """Close the file."""
        self._chunks.close()
