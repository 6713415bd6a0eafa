"""The run of a command: source -> learner -> sinks, with checkpoints, snapshots and signals.

A run counts records from 0 over all its sources, rejected ones included. Whatever happens "at a
record" (checkpoint, snapshot, limit) happens exactly there: batches are cut, so that their size
shows nowhere. After each piece of a batch the learner, the counts and the place in the source
agree, and only there does a run stop or save.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack import __version__, snapshot
from onlinestack.block import Block, immediate_tape
from onlinestack.compiling import announced
from onlinestack.config import Config, ConfigError
from onlinestack.feeds import LabelColumn, LabelFiles, named
from onlinestack.figures import (
    Report,
    checkpoint_figures,
    late_figures,
    point_figures,
    start_figures,
    summary_figures,
)
from onlinestack.io.schema import Schema, missing_label
from onlinestack.io.sink import RejectSink, open_sink
from onlinestack.io.source import Batch, Position
from onlinestack.io.times import NOT_A_TIME, count_older
from onlinestack.opening import (
    check_outputs,
    check_slices,
    new_learner,
    open_labels,
    open_records,
)
from onlinestack.report.watch import Watch, is_point, next_point
from onlinestack.saved import (
    kept_settings,
    same_sources,
    schema_of,
    settings_of,
)
from onlinestack.signals import Interrupted, Signals
from onlinestack.snapshot import SnapshotError

__all__ = ["BadRowsError", "Run"]

log = logging.getLogger(__name__)

SOON, LATER, FEWEST = 0.5, 3.0, 256
"""Seconds, about, that a piece takes where somebody watches and where only a signal may come, and
its fewest records."""
SHOWN = 3
"""Rejected records whose reasons are told when no file takes them."""


class BadRowsError(ValueError):
    """More records were rejected than the run allows."""


class Run:
    """One run over its sources: learn, or only predict.

    Use it behind a command line; in Python, `progressive_validate` is shorter.

    Parameters
    ----------
    config
        What to do.
    report
        Whom to tell.
    learning
        Whether labels are learned, or only scored.

    Raises
    ------
    SchemaError, ConfigError
        By `go`, when the sources do not have the columns named, or a setting is out of range.
    SnapshotError
        By `go`, when the snapshot is damaged, or not one of this run.
    BadRowsError
        By `go`, when more records are rejected than allowed, or all; no snapshot is saved then.
    OSError
        By `go`, when a file cannot be read or written.
    """

    def __init__(self, config: Config, report: Report, *, learning: bool = True) -> None:
        self.config = config
        self.report = report
        self.learning = learning
        self.read = self.learned = self.predicted_only = self.rejected = 0
        self._resumed_at = 0
        self._place: Position | None = None
        self.out_of_order = self.generations = self.refused = 0
        self._newest = NOT_A_TIME
        self._said = 0
        self._at = 0, 0, 0, 0
        """First record of the batch at hand and the one behind its last, and the same in bytes."""
        self.pending = self.carried = self.labels_rejected = 0
        self._feed: LabelColumn | LabelFiles | None = None
        self._watch: Watch | None = None
        self._signals = Signals()

    def go(self) -> int:
        """Run to the end, a limit or a signal, and return the exit code."""
        self._started = time.perf_counter()
        with self._signals, ExitStack() as self._open_things:
            self._open_things.callback(self.report.end)
            try:
                with self._signals.waiting():
                    self._open()
            except Interrupted:
                return 128 + self._signals.number
            stack = self.config["preset"] == "stack"
            self._open_things.enter_context(announced(stack, self.report.note))
            try:
                with closing(self._batches()) as batches:
                    code = self._learn(batches)
            except BrokenPipeError:
                # Whoever read our output has left; what was learned until now is worth keeping.
                self._save(unless_idle=True)
                raise
            self._finish(code)
            return code

    # Opening.

    def _open(self) -> None:
        config = self.config
        if config["resume"] and config["load"]:
            raise ConfigError("--resume and -i both name a model: give one of them")
        path = config["resume"] or config["load"]
        schema: Schema | None = None
        meta: dict[str, Any] = {}
        arrays: dict[str, NDArray[Any]] = {}
        if path:
            arrays, meta = snapshot.load(path)
            schema = schema_of(meta, path)
            self.config = config = config.over(kept_settings(config, meta, path))
        if config["resume"] and not config["save"]:
            config.values["save"] = config["resume"]
        self.source = open_records(config, schema, path, needs_label=self.learning)
        self._open_things.callback(self.source.close)
        self._feed = open_labels(config, self.source) if self.learning else None
        if self._feed is not None:
            self._open_things.callback(self._feed.close)
        elif self.learning and self.source.names and not self.source.schema.label:
            raise missing_label(self.source.names)
        self.learner = new_learner(config, self.source.schema)
        if path:
            try:
                self.learner.restore(arrays, meta["learner"])
            except (LookupError, ValueError) as error:
                raise SnapshotError(f"the model {path!r} does not fit: {error}") from None
        sinks = {}
        if self._feed is not None:
            try:
                self._tally = self.learner.attributed()
            except ValueError as error:
                raise ConfigError(str(error)) from None
            self.carried = self.pending = self._tally["pending"]
        if config["resume"]:
            self._continue(meta, path, arrays)
            sinks = meta["sinks"]
        elif path:
            self.learner.scoreboard = self.learner.new_board()
        own = self.learner.scoreboard if self.learning else None
        self._board = own or self.learner.new_board()
        self._open_sinks(sinks)
        self._open_watch()

    def _open_watch(self) -> None:
        """Begin to keep what a report is made from, where somebody will read it."""
        config, schema = self.config, self.source.schema
        late = self._feed is not None
        check_slices(config, schema, late=late)
        asked = bool(config["report"] or config["slice_by"] or config["dashboard"])
        if not asked and not config["json"]:
            return
        self._watch = Watch(
            self.learner,
            [field.name for field in schema.fields],
            config["slice_by"],
            resumed_at=self.read,
            sliced=not late,
            permute=asked,
        )
        self.report.detail(
            {
                "event": "start",
                "version": __version__,
                "at": time.time(),
                "preset": config["preset"],
                "learning": self.learning,
                "sources": list(config["paths"]),
                "resumed_at": self.read,
                **start_figures(self.learner, self._board),
            }
        )
        if self.read:  # what the first window of the run begins with
            self._point(self._watch)

    def _continue(
        self, meta: Mapping[str, Any], path: str, arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Stand where the run of a snapshot stood."""
        if "source" not in meta:
            raise SnapshotError(
                f"{path!r} holds a model that no run saved, so there is no place to go on from: "
                "use -i"
            )
        source, counts = meta["source"], meta["counts"]
        same_sources(self.source.fingerprint(), source["fingerprint"], path)
        if source["position"] is not None:
            self.source.seek(source["position"])
            self._place = source["position"]
        self.read = self._resumed_at = counts["read"]
        self.learned, self.predicted_only = counts["learned"], counts["predicted_only"]
        self.rejected = counts["rejected"]
        self.out_of_order, self._newest = counts["out_of_order"], counts["newest"]
        self.generations, self.refused = counts["generations"], counts["refused"]
        self.carried = counts["carried"]
        self.labels_rejected = counts["labels_rejected"]
        if self._feed is not None and "labels" in meta:
            before = meta["labels"].get("fingerprint")
            if before is not None and isinstance(self._feed, LabelFiles):
                same_sources(self._feed.source.fingerprint(), before, path)
            own = {k.removeprefix("labels/"): a for k, a in arrays.items() if k[:7] == "labels/"}
            self._feed.restore(own, meta["labels"])

    def _open_sinks(self, places: Mapping[str, Any]) -> None:
        """Open the outputs; those the snapshot knows go on at their places there."""
        config = self.config
        check_outputs(config, learning=self.learning)
        self._predictions = self._rejects = None
        if config["predictions"]:
            place = places.get("predictions")
            try:
                self._predictions = open_sink(
                    config["predictions"], resume=place, columns=self.learner.columns
                )
            except ValueError as error:
                raise ConfigError(str(error)) from None
            self._open_things.callback(self._predictions.close)
        if config["rejects"]:
            self._rejects = RejectSink(config["rejects"], resume=places.get("rejects"))
            self._open_things.callback(self._rejects.close)

    # Reading, learning, writing.

    def _learn(self, batches: Iterator[Batch]) -> int:
        """Take the records one batch after another; return the exit code."""
        config, signals = self.config, self._signals
        limit, every = config["limit"], config["save_every"] if config["save"] else None
        for batch in batches:
            first = self.read
            end = first + batch.read
            self._at = first, end, self._at[3], self.source.bytes_done
            while self.read < end:
                border = min(end, self.read + self._room())
                if limit is not None:
                    border = min(border, limit)
                if every:
                    border = min(border, (self.read // every + 1) * every)
                self._piece(batch, first, border)
                if every and self.read % every == 0:
                    self.save()
                if signals.number:
                    return 128 + signals.number
                if self.read == limit:
                    return 0
                self.report.tick(self)
        if signals.number:
            return 128 + signals.number
        self._last_labels()
        return 0

    def _room(self) -> int:
        """Return how many records may be taken before there is news again."""
        speed = self._speed()["records_per_second"]
        seconds = SOON if self.report.live else LATER
        return min(self.learner.room, max(FEWEST, int(seconds * speed)))

    def _batches(self) -> Generator[Batch]:
        if self.config["limit"] is not None and self.read >= self.config["limit"]:
            return
        self.source.prepare = self.learner.prepare
        self.source.gives_way = True  # learning takes longer than anything else
        source = iter(self.source)
        with ExitStack() as stack:
            if isinstance(source, Generator):
                stack.callback(source.close)
            # While the first records are read, what will learn them is loaded.
            pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="warm"))
            warm = pool.submit(self.learner.warm)
            while True:
                try:
                    with self._signals.waiting():
                        batch = next(source, None)
                except Interrupted:
                    return
                if batch is None:
                    return
                warm.result()
                yield batch

    def _piece(self, batch: Batch, first: int, border: int) -> None:
        """Learn the records of a batch up to a border, and tell of them on the way."""
        most = self.config["max_bad_rows"]
        piece = batch.part(self.read - first, border - first)
        piece = self.learner.admit(piece, learn=self.learning)
        bad = most is not None and self.rejected + len(piece.rejects) > most
        if bad:
            border = piece.rejects[most - self.rejected].row + 1
            piece = batch.part(self.read - first, border - first)
            piece = self.learner.admit(piece, learn=self.learning)
        if piece.n + len(piece.rejects) != border - self.read:
            raise RuntimeError(f"records were lost behind record {self.read}")
        left = None
        with closing(self._stretches(piece, border)) as stretches:
            for mark, part, p in stretches:
                # From here the learner's figures, the counts and the place agree again.
                self.read = mark
                self._hear_of_generations()
                self.rejected += len(part.rejects)
                self._place = _behind(batch.position, mark - first)
                if part.time is not None:
                    older, self._newest = count_older(part.time, self._newest)
                    self.out_of_order += older
                if left is None:
                    try:
                        self._tell(part, p)
                    except BrokenPipeError as error:
                        left = error  # the learner is whole only behind the piece
        if left is not None:
            raise left
        if bad:
            raise BadRowsError(
                f"{self.rejected:,} of {self.read:,} records were rejected, --max-bad-rows allows "
                f"{most:,}: mend the source or allow more"
            )

    def _stretches(
        self, piece: Batch, border: int
    ) -> Generator[tuple[int, Batch, NDArray[np.float32] | None]]:
        """Learn a piece; yield what lies between the records at which there is something to tell.

        Those are the record behind each stretch, the stretch, and what was predicted.
        """
        read, marks = self.read, self._marks(border)
        stops = np.searchsorted(piece.row, marks).tolist()
        answers = None
        if self._feed is None and piece.n:
            some = sorted(set(stops) - {0})
            answers = self.learner.stretches(piece, some, learn=self.learning)
        start, at = read, 0
        for mark, stop in zip(marks, stops, strict=True):
            part, p = piece.part(start - read, mark - read), None
            if stop > at and answers is not None:
                before = self.learner.learned
                p = next(answers)
                learned = self.learner.learned - before
                self.learned += learned
                self.predicted_only += part.n - learned
            elif stop > at and self._feed is not None:
                part = named(part)
                p = self.learner.follow(part, self._feed.between(part))
                self._count_late()
            yield mark, part, p
            start, at = mark, stop

    def _marks(self, border: int) -> list[int]:
        """Return the records up to a border at which there is something to tell, and that one."""
        marks, read = [], self.read
        while read < border:
            told = next_point(read) if self._watch is not None else 1 << read.bit_length()
            read = min(border, told)
            marks.append(read)
        return marks

    def _tell(self, part: Batch, p: NDArray[np.float32] | None) -> None:
        """Write what became of a stretch, and how things stand behind it."""
        if part.rejects:
            self._reject(part.rejects)
        if p is not None:
            if self._watch is not None:
                self._watch.see(part, p)
            if not self.learning:
                self.learner.keep(self._board, _labels(part), immediate_tape(part.label), p)
            if self._predictions is not None:
                self._predictions.write(part.row, part.id, *self.learner.served(part, p))
        if self.read & (self.read - 1) == 0:
            self.report.checkpoint(self.checkpoint())
            self._board.mark()
        if self._watch is not None and is_point(self.read):
            self._point(self._watch)

    def _last_labels(self) -> None:
        """Take in the labels that come behind the last record."""
        while self._feed is not None and (labels := self._feed.rest()):
            self.learner.hear(labels)
            self._count_late()
            self._hear_of_generations()

    def _count_late(self) -> None:
        """Add up what became of records that were served, and of labels."""
        assert self._feed is not None  # noqa: S101 - narrows a type
        now, before = self.learner.attributed(), self._tally
        self.learned += now["learned"] - before["learned"]
        self.predicted_only += now["predicted_only"] - before["predicted_only"]
        self.pending, self._tally = now["pending"], now
        rejects = self._feed.rejects()
        self.labels_rejected += len(rejects)
        if rejects:
            self._reject(rejects)

    def _hear_of_generations(self) -> None:
        for event in self.learner.events():
            self.generations += event["accepted"]
            self.refused += not event["accepted"]
            self.report.generation(event)

    def _reject(self, rejects: list[Any]) -> None:
        if self._watch is not None:
            self._watch.reject(rejects)
        if self._rejects is not None:
            self._rejects.write(rejects)
            return
        for reject in rejects[: SHOWN - self._said]:
            self._said += 1
            self.report.note(f"{reject.source}, record {reject.position}: {reject.reason}")

    # Saving and telling.

    def save(self) -> None:
        """Write the snapshot: what was learned, and where the run stands."""
        arrays, learner = self.learner.state()
        sinks = {"predictions": self._predictions, "rejects": self._rejects}
        meta = {
            "config": settings_of(self.config),
            "counts": {
                "read": self.read,
                **self._counts(),
                "out_of_order": self.out_of_order,
                "newest": self._newest,
                "generations": self.generations,
                "refused": self.refused,
                "carried": self.carried,
                "labels_rejected": self.labels_rejected,
            },
            "learner": learner,
            "sinks": {key: sink.position() for key, sink in sinks.items() if sink is not None},
            "source": {"fingerprint": self.source.fingerprint(), "position": self._place},
        }
        if self._feed is not None:
            own, meta["labels"] = self._feed.state()
            arrays = {**arrays, **{f"labels/{name}": array for name, array in own.items()}}
        snapshot.save(self.config["save"], arrays, meta)
        log.info("saved %s behind record %d", self.config["save"], self.read)

    def _save(self, *, unless_idle: bool) -> bool:
        """Save if a snapshot is asked for and, after a stop, if there is news; tell whether."""
        if not self.learning or not self.config["save"]:
            return False
        if unless_idle and self.read == self._resumed_at:
            return False
        self.save()
        return True

    def _finish(self, code: int) -> None:
        useless = not code and self.read == self.rejected > 0
        saved = not useless and self._save(unless_idle=code != 0)
        if self.rejected and self._rejects is None:
            self.report.note(
                f"{self.rejected:,} records were rejected; --rejects FILE keeps them with reasons"
            )
        if self._watch is not None:
            self._point(self._watch, last=True)
        self.report.summary(self.summary())
        if useless:
            raise BadRowsError(
                f"all {self.read:,} records were rejected: mend the source, or the options that "
                "name its columns"
            )
        if code:
            name = signal.Signals(code - 128).name
            then = f"go on with --resume {self.config['save']}" if saved else "no model was saved"
            self.report.note(f"stopped by {name} behind record {self.read:,}: {then}")
        elif saved:
            self.report.note(f"model saved to {self.config['save']}")

    def checkpoint(self) -> dict[str, Any]:
        """Return the figures so far, and since the last checkpoint."""
        return {
            "records": self.read,
            **self._counts(),
            **checkpoint_figures(self.learner, self._board, self.generations),
            **self._speed(),
        }

    def _point(self, watch: Watch, *, last: bool = False) -> None:
        """Tell what curves are drawn from; now and then, and at the end, the rest, too."""
        self.report.detail(
            {
                "event": "point",
                "records": self.read,
                **self._counts(),
                "generations": self.generations,
                "seconds": self.seconds(),
                **point_figures(self.learner, self._board),
            }
        )
        if watch.detailed() or last:
            details = {"event": "details", "records": self.read, **watch.details(self._board)}
            self.report.detail(details | (watch.importance() if last else {}))

    def summary(self) -> dict[str, Any]:
        """Return the figures of the whole run, of every expert."""
        return {
            "read": self.read,
            **self._counts(),
            **self._late(),
            "out_of_order": self.out_of_order,
            **self._speed(),
            "generations": self.generations,
            "refused": self.refused,
            **summary_figures(self.learner, self._board),
        }

    def _counts(self) -> dict[str, int]:
        return {
            "learned": self.learned,
            "predicted_only": self.predicted_only,
            "pending": self.pending,
            "rejected": self.rejected,
        }

    def _late(self) -> dict[str, Any]:
        """Return what became of labels that came later, where they did."""
        if self._feed is None:
            return {}
        return {
            "carried": self.carried,
            **late_figures(self._tally, self._feed.read, self.labels_rejected),
        }

    def _speed(self) -> dict[str, float]:
        seconds = self.seconds()
        return {
            "seconds": seconds,
            "records_per_second": (self.read - self._resumed_at) / max(seconds, 1e-9),
        }

    def training(self) -> dict[str, int]:
        """Return the numbers of the generations in training at this moment, by member."""
        return self.learner.training()

    def seconds(self) -> float:
        """Return the wall time since the run began."""
        return time.perf_counter() - self._started

    def size(self) -> tuple[int | None, int]:
        """Return the size of the sources in bytes, None where unknown, and how much is learned."""
        first, end, before, behind = self._at
        done = before + (behind - before) * (self.read - first) // max(1, end - first)
        return self.source.size_hint, done


def _behind(position: Position, count: int) -> Position:
    """Return the position ``count`` records behind another."""
    return {
        "file": position["file"],
        "offset": position["offset"],
        "skip": position["skip"] + count,
        "record": position["record"] + count,
        "row": position["row"] + count,
    }


def _labels(batch: Batch) -> Block:
    """Return what a scoreboard reads of records that no learner learns from."""
    n = batch.n
    groups = np.zeros((n, 1), np.int64)
    return Block(
        batch.label,
        batch.weight,
        batch.initial,
        batch.row,
        np.empty(0, np.uint32),
        np.empty(0, np.float32),
        np.zeros((n, 1), np.uint8),
        groups,
        groups,
    )
