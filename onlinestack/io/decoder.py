"""From the contents of messages to batches of records, and to labels that come later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onlinestack.io.assemble import assemble
from onlinestack.io.batch import Batch
from onlinestack.io.broker import Message
from onlinestack.io.columns import decode_label, decode_time
from onlinestack.io.messages import Codec
from onlinestack.io.patterns import NOT_A_TIME
from onlinestack.io.reader import Bad, Stretch, show
from onlinestack.io.schema import Schema, SchemaError, infer_schema
from onlinestack.io.source import wanted_columns
from onlinestack.io.values import as_text

__all__ = ["Decoder", "Entry", "Label"]


class Entry(NamedTuple):
    """A message, and what was read from it.

    Parameters
    ----------
    message
        As the broker gave it.
    content
        What its codec made of the value; None where that could not be read.
    holds
        How many records it holds; one that cannot be read counts as one.
    reason
        Why it could not be read.
    """

    message: Message
    content: Any
    holds: int
    reason: str = ""


class Label(NamedTuple):
    """A label as it came, or why it is none.

    Parameters
    ----------
    entry
        Its message.
    id
        Of its record.
    y
        Whether that was clicked.
    time
        When, in microseconds; None where not known.
    reason
        Why it can not be used; empty where it can.
    """

    entry: Entry
    id: str
    y: bool
    time: int | None
    reason: str = ""


class Decoder:
    """Reads the messages of records, and those of labels.

    Parameters
    ----------
    codec
        How values are written.
    roles
        ``id``, ``time``, ``time_format``, ``label``, ``positive`` and ``weight``, as in `Schema`.
    kinds
        ``categorical``, ``numeric``, ``text`` and ``ignore``, as of `infer_schema`.
    late
        Whether labels come in messages of their own: the label is then a column of these, and
        where it is missing its message says that there was a click.
    """

    def __init__(
        self,
        codec: Codec,
        roles: Mapping[str, str | None],
        kinds: Mapping[str, Sequence[str]],
        *,
        late: bool,
    ) -> None:
        self._codec, self._roles, self._kinds, self._late = codec, dict(roles), dict(kinds), late

    def read(self, messages: Sequence[Message]) -> tuple[list[Entry], list[int | None]]:
        """Read the values of messages, and when each took place.

        Returns
        -------
        The entries, and their times in microseconds: those of their first records where there is
        a time column, else those of the broker; None where not known.
        """
        entries = [self._entry(message) for message in messages]
        times = [message.time for message in messages]
        name = self._roles.get("time")
        good = [i for i, entry in enumerate(entries) if not entry.reason]
        if name is not None and good:
            contents = [entries[i].content for i in good]
            column = self._codec.column(contents, name)
            found, _, _, _ = decode_time(column, self._roles.get("time_format"))
            first = 0
            for i in good:
                if found[first] != NOT_A_TIME:
                    times[i] = int(found[first])
                first += entries[i].holds
        return entries, times

    def _entry(self, message: Message) -> Entry:
        if message.value is None:
            return Entry(message, None, 1, "no value")
        try:
            content = self._codec.read(message.value)
        except ValueError as error:
            return Entry(message, None, 1, str(error))
        count = self._codec.count(content)
        return Entry(message, content, count) if count else Entry(message, None, 1, "no record")

    def schema(self, entries: Sequence[Entry]) -> Schema:
        """Return the schema of records, inferred from some of them.

        Raises
        ------
        SchemaError
            Where a column that was named is not there.
        """
        kinds = self._codec.kinds([entry.content for entry in entries if not entry.reason])
        roles, sets = dict(self._roles), dict(self._kinds)
        if self._late:
            # The label is a column of other messages; here it would be no feature either.
            label = roles.pop("label", None)
            roles.pop("positive", None)
            if label in kinds:
                sets["ignore"] = [*sets["ignore"], label]
        partition = entries[0].message.partition
        schema = infer_schema(kinds, **roles, **sets, source=f"topic {partition.topic}")  # type: ignore[arg-type]
        if not schema.fields:
            raise SchemaError(f"the records of topic {partition.topic} have no features")
        return schema

    def batch(self, entries: Sequence[Entry], schema: Schema, first: int) -> Batch:
        """Return the records of messages, in order, as a batch.

        Parameters
        ----------
        entries
            The messages.
        schema
            The part each column plays.
        first
            Number in the run of the first record.
        """
        wanted = wanted_columns(schema)
        bad: list[Bad] = []
        number = 0
        of: list[Entry] = []
        for entry in entries:
            of += [entry] * entry.holds
            if entry.reason:
                bad.append(Bad(number, entry.reason, _shown(entry)))
            number += entry.holds
        contents = [entry.content for entry in entries if not entry.reason]
        columns = [self._codec.column(contents, name) for name in wanted]
        stretch = Stretch(0, number, columns, bad, text=lambda rows: [_shown(of[i]) for i in rows])
        batch, _ = assemble(lambda: stretch, schema, wanted, "")
        times = np.array(
            [NOT_A_TIME if (t := of[row].message.time) is None else t for row in batch.row],
            np.int64,
        )
        if batch.time is None:
            batch.time = times
        else:
            batch.time = np.where(batch.time == NOT_A_TIME, times, batch.time)
        batch.rejects = [
            reject._replace(
                row=reject.row + first,
                source=str(of[reject.row].message.partition),
                position=of[reject.row].message.offset,
            )
            for reject in batch.rejects
        ]
        batch.row = batch.row + first
        batch.begin = batch.position["row"] = first
        return batch

    def labels(self, entries: Sequence[Entry]) -> list[Label]:
        """Return the labels of messages, in order; those that cannot be used with a reason."""
        good = [entry for entry in entries if not entry.reason]
        of = [entry for entry in good for _ in range(entry.holds)]
        ids, times, clicks = [], list[int | None](), np.ones(len(of), np.float32)
        reasons: dict[int, str] = {}
        if good:
            contents = [entry.content for entry in good]
            ids = as_text(self._codec.column(contents, self._roles["id"] or "")).to_pylist()
            times, reasons = self._times(contents, of)
            if self._roles.get("label"):
                column = self._codec.column(contents, self._roles["label"] or "")
                clicks, wrong = decode_label(column, self._roles.get("positive"))
                reasons |= wrong
        labels: list[Label] = []
        number = 0
        for entry in entries:
            if entry.reason:
                labels.append(Label(entry, "", True, None, entry.reason))
                continue
            for i in range(number, number + entry.holds):
                reason = reasons.get(i, "" if ids[i] else "no id, so no record is meant")
                labels.append(Label(entry, ids[i] or "", bool(clicks[i] != 0), times[i], reason))
            number += entry.holds
        return labels

    def _times(
        self, contents: Sequence[Any], of: Sequence[Entry]
    ) -> tuple[list[int | None], dict[int, str]]:
        times = [entry.message.time for entry in of]
        name = self._roles.get("time")
        if name is None:
            return times, {}
        column = self._codec.column(contents, name)
        found, _, _, reasons = decode_time(column, self._roles.get("time_format"))
        for i, time in enumerate(found.tolist()):
            if time != NOT_A_TIME:
                times[i] = time
        return times, dict(reasons)


def _shown(entry: Entry) -> str:
    return show(entry.message.value or b"")
