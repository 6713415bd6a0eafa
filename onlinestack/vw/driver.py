"""A run of Vowpal Wabbit's command line, from the first start line to the last of the summary."""

from __future__ import annotations

import gzip
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from onlinestack.io.vw_arrays import BAD_BLOCK, BAD_FEATURE, BAD_LABEL, BAD_NUMBER, FATAL
from onlinestack.io.vw_stream import VWTextReader
from onlinestack.io.vw_text import VWParser, VWRecords
from onlinestack.linear.descent import synchronise
from onlinestack.linear.losses import loss_of
from onlinestack.linear.reductions import (
    EXAMPLES,
    FEATURES,
    FIRST,
    HELD_LOG_LOSS,
    HELD_LOSS_PASS,
    HELD_PASS,
    INDEXING,
    LABELED,
    LABELS,
    LOG_LOSS,
    LOSS,
    MORE,
    SECOND,
    UNLABELED,
    Outcome,
    T,
)
from onlinestack.linear.rule import COIN, FTRL, GD, HIGH, LOW, PISTOL
from onlinestack.vw.cache import cache_bits, read_cache, write_cache
from onlinestack.vw.complaints import about_class_labels, about_importance, about_line
from onlinestack.vw.digits import short
from onlinestack.vw.dumps import Auditor, write_dump
from onlinestack.vw.model import Model, letters
from onlinestack.vw.notices import notices
from onlinestack.vw.options import OptionError, Options, help_text, parse
from onlinestack.vw.output import bootstrap_lines, class_lines, numbers, score_lines
from onlinestack.vw.table import HEADER, fixed, report_line, summary

__all__ = ["run"]

FLT_MAX = float(np.finfo(np.float32).max)
_IN_MEMORY = 1 << 26
_NAMES = {FTRL: "Proximal-FTRL", PISTOL: "PiSTOL", COIN: "Coin Betting"}


def run(words: list[str]) -> int:
    """Do what a command line says; return the exit code.

    Raises
    ------
    OptionError
        For options that are not known or do not fit together.
    OSError
        For files that cannot be read or written.
    ValueError
        For records and models that cannot be used.
    """
    options = parse(words)
    if options["help"]:
        sys.stdout.write(help_text())
        return 0
    with ExitStack() as stack:
        _Run(options, stack).go()
    return 0


class _Run:
    """One run: its files, its model and where it stands."""

    def __init__(self, options: Options, stack: ExitStack) -> None:
        self.own = options
        models = options["initial_regressor"]
        loaded = Model.open(models[0]) if models else None
        if loaded is not None:
            options = options.under(loaded[1]["options"])
            bits = loaded[1]["bits"]
            if options.given.setdefault("bit_precision", bits) != bits:
                raise OptionError(
                    f"--bit_precision (-b) is {options['bit_precision']}, the model has {bits}: "
                    "leave it out"
                )
        options.check()
        self.options = options
        self.stack = stack
        self.model = Model(options)
        if loaded is not None:
            self.model.restore(*loaded)
        if options["testonly"] and self.model.rule.update == GD:
            synchronise(self.model.weights, self.model.shared, self.model.rule)
        self.cache = self._cache_path()
        self.passes = options["passes"]
        self.sourceless = options["data"] is None and options["no_stdin"]
        if self.passes > 1 and self.cache is None:
            raise OptionError("--passes above 1 need a cache: add -c or --cache_file FILE")
        if options["invert_hash"] and self.cache is not None:
            raise OptionError("--invert_hash needs the text of names: leave out the cache")
        after = options["holdout_after"] or 0
        self.holds_out = (self.passes > 1 or after > 0) and not options["holdout_off"]
        self.best = FLT_MAX
        self.stopped = False
        self.misses = 0
        self.predictions = self._sink("predictions")
        self.raw = self._sink("raw_predictions")
        self.log: TextIO | None = None if options["quiet"] else sys.stderr
        audits = bool(options["audit"] or options["invert_hash"])
        self.auditor = Auditor(self.model, print_all=options["audit"]) if audits else None
        self.memory: list[VWRecords] | None = None

    # ------------------------------------------------------------------------------------ files

    def _sink(self, name: str) -> BinaryIO | None:
        path = self.options[name]
        if path is None:
            return None
        if path in ("stdout", "-"):
            return sys.stdout.buffer
        return self.stack.enter_context(open(path, "wb", buffering=1 << 20))

    def _cache_path(self) -> str | None:
        files = self.options["cache_file"]
        if files:
            return str(files[0])
        if not self.options["cache"]:
            return None
        if self.options["data"] is None:
            raise OptionError("--cache (-c) needs a data file: add -d, or --cache_file FILE")
        return f"{self.options['data']}.cache"

    def _cached(self) -> bool:
        """Tell whether there is a cache to read instead of the data."""
        if self.cache is None or self.options["kill_cache"] or not os.path.exists(self.cache):
            return False
        return cache_bits(self.cache) >= int(self.options["bit_precision"])

    def _source(self) -> Iterator[VWRecords]:
        """Return the records of the first pass."""
        path = self.options["data"]
        if path is None and self.options["no_stdin"]:
            return iter(())
        stream: Any
        if path is None:
            stream = sys.stdin.buffer
        elif path.endswith(".gz"):
            stream = self.stack.enter_context(gzip.open(path, "rb"))
        else:
            stream = self.stack.enter_context(open(path, "rb", buffering=0))
        names = self.auditor is not None
        parser = VWParser(
            labels="multiclass" if self.options["oaa"] else "simple",
            hash_all=self.options["hash"] == "all",
            hash_seed=self.options["hash_seed"],
            redefine=_redefined(self.options["redefine"]),
            names=names,
            odd=not self.options["quiet"],
        )
        return iter(VWTextReader(stream, parser))

    # ---------------------------------------------------------------------------------- the run

    def go(self) -> None:
        """Go through the passes, print what there is to print, save."""
        options, cached = self.options, self._cached()
        if self.log is not None:
            sys.stdout.write("".join(f"{line}\n" for line in notices(options, self.model.terms)))
        self._start(cached)
        first: Iterator[VWRecords]
        if cached:
            assert_path = str(self.cache)
            first = read_cache(assert_path)
        else:
            first = self._source()
            if self.cache is not None:
                first = write_cache(self.cache, first, self.options["bit_precision"])
        stretches = self._remembering(first) if self.passes > 1 else first
        for turn in range(self.passes):
            if turn:
                stretches = iter(self.memory) if self.memory else read_cache(str(self.cache))
                stretches = map(_nameless, stretches)
            if not self.sourceless or cached:
                self._go_through(stretches)
                self.model.passes += 1
            self._end_pass()
            if self.stopped:
                break
        if not self.stopped:
            self._save()
        for sink in (self.predictions, self.raw):
            if sink is not None:
                sink.flush()
        sys.stdout.flush()
        self._finish()

    def _remembering(self, stretches: Iterator[VWRecords]) -> Iterator[VWRecords]:
        """Keep the records of the first pass in memory while they are few."""
        self.memory = []
        size = 0
        for records in stretches:
            if self.memory is not None:
                size += records.block.value.nbytes * 2 + records.block.start.nbytes * 3
                self.memory.append(records)
                if size > _IN_MEMORY:
                    self.memory = None
            yield records

    def _go_through(self, stretches: Iterator[VWRecords]) -> None:
        last = self.options["examples"]
        for records in stretches:
            if last >= 0 and records.block.n and int(records.line[-1]) > last:
                records = records.rows(0, int(np.searchsorted(records.line, last, "right")))
                self._learn(records)
                for _ in stretches if self.cache is not None and self.model.passes == 0 else ():
                    pass
                return
            self._learn(records)

    def _learn(self, records: VWRecords) -> None:
        """Take a stretch of records and print what came of it."""
        block = records.block
        if block.n == 0:
            return
        if records.flags.any():
            self._look_at_flags(records)
        if self.log is not None:
            self._complain(records)
        held = self._held(records)
        if self.auditor is None:
            self._take(records, held)
            return
        for i in range(block.n):
            one = records.rows(i, i + 1)
            self.model.look(one.block)
            self.auditor.before(one, named=len(one.text) > 0)
            out = self._take(one, held[i : i + 1])
            self.auditor.after(one, out, bool(held[i]))

    def _take(self, records: VWRecords, held: NDArray[np.uint8]) -> Outcome:
        holding = self.holds_out and self.model.passes >= 1
        indexing = float(self.model.books[INDEXING])
        out, reports = self.model.run(records.block, held, holding)
        if self.model.plan.classes and self.log is not None:
            labels = records.block.label[out.learned[: records.block.n] > 0]
            _say(about_class_labels(labels, self.model.plan.classes, indexing))
        if self.log is not None:
            for row in out.report[:reports]:
                i = int(row[0])
                self._report(row, records.block.label[i], out, holding)
        n = records.block.n
        if self.predictions is not None:
            self.predictions.write(self._prediction_lines(out, n, records.tag))
        if self.raw is not None:
            self.raw.write(self._raw_lines(out, n, records.tag))
        return out

    def _held(self, records: VWRecords) -> NDArray[np.uint8]:
        """Return which records are held out, by their line numbers."""
        if not self.holds_out:
            return np.zeros(records.block.n, np.uint8)
        after = self.options["holdout_after"] or 0
        if after > 0:
            chosen = records.line > after
        else:
            chosen = records.line % self.options["holdout_period"] == 0
        return np.asarray(chosen, np.uint8)

    def _complain(self, records: VWRecords) -> None:
        """Say what is odd about records; malformed text was met in the first pass only."""
        light = records.block.weight < 0
        classes = self.model.plan.classes > 0
        for i in np.flatnonzero(light | (records.flags > 0) & bool(records.odd)).tolist():
            line = int(records.line[i])
            if line in records.odd:
                flags = int(records.flags[i])
                _say(about_line(records.odd[line], line - 1, flags, classes))
            if light[i]:
                _say([about_importance(records.block.weight[i])])

    def _look_at_flags(self, records: VWRecords) -> None:
        if (records.flags & FATAL).any():
            i = int(np.flatnonzero(records.flags & FATAL)[0])
            raise ValueError(
                f"line {records.line[i]} has a label that is no class number: give "
                "whole numbers, and an importance if need be"
            )
        if self.options["strict_parse"]:
            bad = BAD_LABEL | BAD_NUMBER | BAD_BLOCK | BAD_FEATURE
            found = np.flatnonzero(records.flags & bad)
            if len(found):
                raise ValueError(
                    f"line {records.line[found[0]]} is malformed: correct it, or leave out "
                    "--strict_parse"
                )

    # ----------------------------------------------------------------------------------- passes

    def _end_pass(self) -> None:
        model, books = self.model, self.model.books
        if model.rule.update == GD:
            if self.options["predict_only_model"]:
                synchronise(model.weights, model.shared, model.rule)
            decay = np.float32(self.options["decay_learning_rate"])
            model.rule = model.rule._replace(eta=np.float32(model.rule.eta * decay))
        if not self.holds_out:
            return
        this = np.float32(FLT_MAX * 0.5)
        if books[HELD_PASS] > 0:
            this = np.float32(books[HELD_LOSS_PASS] / books[HELD_PASS])
        books[[HELD_PASS, HELD_LOSS_PASS]] = 0.0
        if this < self.best:
            self.best = float(this)
            self.misses = 0
            self._save()
        else:
            self.misses += 1
        self.stopped = self.misses == self.options["early_terminate"]

    def _save(self) -> None:
        options, model = self.options, self.model
        if options["final_regressor"]:
            model.save(options["final_regressor"])
        if options["readable_model"]:
            write_dump(options["readable_model"], model, None)
        if options["invert_hash"]:
            names = self.auditor.names if self.auditor is not None else {}
            write_dump(options["invert_hash"], model, names)

    # ----------------------------------------------------------------------------------- output

    def _prediction_lines(self, out: Outcome, n: int, tag: Any) -> bytes:
        plan = self.model.plan
        if plan.classes:
            if plan.scores:
                return score_lines(out.score[:n, : plan.classes], tag, first=out.base[:n, 1])
            return class_lines(out.prediction[:n], tag)
        if plan.rounds:
            return bootstrap_lines(out.prediction[:n].tolist(), out.score[:n, : plan.rounds], tag)
        return numbers(out.prediction[:n], tag)

    def _raw_lines(self, out: Outcome, n: int, tag: Any) -> bytes:
        plan = self.model.plan
        if plan.classes:
            if plan.rounds:
                return self._nested_lines(out, n, tag)
            return b"" if plan.scores else self._class_lines(out, slice(0, n), tag)
        if plan.rounds:
            return score_lines(out.raw[:n, : plan.rounds], tag)
        return numbers(out.raw[:n, 0], tag)

    def _class_lines(self, out: Outcome, rows: slice, tag: Any) -> bytes:
        """Return the lines of scores of classes; those from 0 on begin with the last one's."""
        scores, base = out.score[rows, : self.model.plan.classes], out.base[rows, 0]
        scores = np.where(base[:, None] == 0, np.roll(scores, 1, axis=1), scores)
        return score_lines(scores, tag, lead=" ", first=base)

    def _nested_lines(self, out: Outcome, n: int, tag: Any) -> bytes:
        """Return the lines of all rounds of all classes, of those that learn, too."""
        plan, lines = self.model.plan, []
        for i in range(n):
            own = tag.slice(i, 1)
            calls = out.raw[i].reshape(2, plan.classes, plan.rounds)
            lines += [score_lines(call[None], own) for call in calls[0]]
            if not plan.scores:
                lines.append(self._class_lines(out, slice(i, i + 1), own))
            if out.learned[i]:
                lines += [score_lines(call[None], own) for call in calls[1]]
        return b"".join(lines)

    def _report(self, row: NDArray[Any], label: Any, out: Outcome, held: bool) -> None:
        if self.log is None:
            return
        i, plan = int(row[0]), self.model.plan
        prediction = out.prediction[i]
        if plan.classes:
            none = str(2**32 - 1) if plan.scores else "unknown"
            texts = [none if math.isnan(label) else str(int(label)), str(int(prediction))]
            if plan.probabilities:
                share = 100 * out.score[i, int(prediction) - int(out.base[i, 1])]
                texts[1] += f"({fixed(float(share), 0):>2}%)"
        else:
            texts = ["unknown" if not label < FLT_MAX else fixed(label, 4), fixed(prediction, 4)]
        self.log.write(report_line(row, texts[0], texts[1], held))

    def _start(self, cached: bool) -> None:
        if self.log is None:
            return
        options, model = self.options, self.model
        say: list[str] = []
        for name, what in (
            ("quadratic", "creating quadratic features for pairs"),
            ("cubic", "creating cubic features for triples"),
            ("interactions", "creating features for following interactions"),
        ):
            if options[name]:
                say.append(f"{what}: {' '.join(options[name])}")
        for name, what in (
            ("ignore", "ignoring namespaces beginning with"),
            ("ignore_linear", "ignoring linear terms for namespaces beginning with"),
            ("keep", "using namespaces beginning with"),
        ):
            if options[name]:
                found = (
                    sorted(letters(options[name]))
                    if name != "ignore_linear"
                    else letters(options[name])
                )
                say.append(f"{what}: {' '.join(chr(c) for c in dict.fromkeys(found))}")
        if options["testonly"]:
            say.append("only testing")
        for name in ("l1", "l2"):
            if options[name] > 0:
                say.append(f"using {name} regularization = {short(options[name])}")
        for name, what in (
            ("final_regressor", "final_regressor"),
            ("predictions", "predictions"),
            ("raw_predictions", "raw predictions"),
        ):
            if options[name]:
                say.append(f"{what} = {options[name]}")
        rule = model.rule
        if rule.update != GD:
            say += [
                "Enabling FTRL based optimization",
                f"Algorithm used: {_NAMES[rule.update]}",
                f"ftrl_alpha = {short(float(rule.alpha))}",
                f"ftrl_beta = {short(float(rule.beta))}",
            ]
        if cached:
            say += [
                f"using cache_file = {self.cache}",
                "ignoring text input in favor of cache input",
            ]
        else:
            if self.cache is None:
                say.append("using no cache")
            else:
                say.append(f"creating cache_file = {self.cache}")
            source = options["data"] or ("none" if options["no_stdin"] else "stdin")
            say.append(f"Reading datafile = {source}")
        count = 0 if self.sourceless and not cached else 1
        say += [
            f"num sources = {count}",
            f"Num weight bits = {options['bit_precision']}",
            f"learning rate = {short(float(rule.eta))}",
            f"initial_t = {short(float(np.float32(model.books[T])))}",
            f"power_t = {short(float(rule.power_t))}",
        ]
        if self.passes > 1:
            say.append(f"decay_learning_rate = {short(options['decay_learning_rate'])}")
        say.append(f"Enabled learners: {self._learners()}")
        if options["oaa"]:
            say += [
                "Input label = MULTICLASS",
                f"Output pred = {'SCALARS' if model.plan.scores else 'MULTICLASS'}",
            ]
        else:
            say += ["Input label = SIMPLE", "Output pred = SCALAR"]
        self.log.write("\n".join(say) + "\n" + HEADER)

    def _learners(self) -> str:
        options, rule = self.options, self.model.rule
        audited = "-audit" if self.auditor is not None else ""
        names = ["gd"] if rule.update == GD else [f"ftrl-{_NAMES[rule.update]}{audited}"]
        if any(
            ":" in term for name in ("quadratic", "cubic", "interactions") for term in options[name]
        ):
            names.append("generate_interactions")
        names.append(f"scorer-{'identity' if self.model.plan.probabilities else options['link']}")
        if options["bootstrap"]:
            names.append("bootstrap")
        if options["oaa"]:
            kind = "-raw" if options["raw_predictions"] else ""
            if self.model.plan.scores:
                kind = "-prob" if self.model.plan.probabilities else "-scores"
            names.append("oaa" + kind)
        else:
            names.append("count_label")
        return ", ".join(names)

    def _finish(self) -> None:
        if self.log is None:
            return
        books = self.model.books
        if self.holds_out:
            loss = f"{fixed(self.best, 6)} h"
            if self.best in (FLT_MAX, float(np.float32(FLT_MAX * 0.5))):
                loss = "undefined (no holdout)"
        elif books[LABELED] > 0:
            with np.errstate(all="ignore"):
                loss = fixed(books[LOSS] / books[LABELED], 6)
        else:
            loss = "n.a."
        log_loss = None
        if self.model.plan.probabilities:
            place = HELD_LOG_LOSS if self.holds_out else LOG_LOSS
            with np.errstate(all="ignore"):
                log_loss = fixed(books[place] / books[LABELED], 6) + " h" * self.holds_out
        constant, constant_loss = self._best_constant()
        self.log.write(
            summary(
                passes=self.model.passes,
                examples=int(books[EXAMPLES]),
                weight=books[LABELED] + books[UNLABELED],
                labels=books[LABELS],
                loss=loss,
                constant=constant,
                constant_loss=constant_loss,
                features=int(books[FEATURES]),
                log_loss=log_loss,
            )
        )
        self.log.flush()

    def _best_constant(self) -> tuple[float | None, float | None]:
        """Return the best constant prediction and its loss, where there is a formula for them."""
        books, rule = self.model.books, self.model.rule
        if self.model.plan.classes or math.isnan(books[FIRST]):
            return None, None
        f = np.float32
        second = 0.0 if math.isnan(books[SECOND]) else books[SECOND]
        y1, y2 = sorted((f(books[FIRST]), f(second)))
        if y1 == y2:
            return None, None
        total = books[LABELED]
        with np.errstate(all="ignore"):
            c1 = f(f(books[LABELS] - np.float64(y2) * total) / f(y1 - y2))
            c2 = f(f(total) - c1)
            if c1 + c2 <= 0:
                return None, None
            name = self.options["loss_function"]
            if name in ("squared", "classic"):
                best = f(f(books[LABELS]) / f(total))
            elif books[MORE]:
                return None, None
            elif name == "hinge":
                best = f(-1 if c2 <= c1 else 1)
            elif name == "logistic":
                y1, y2 = f(-1), f(1)
                best = f(1) if c1 <= 0 else f(-1) if c2 <= 0 else f(math.log(f(c2 / c1)))
            elif name == "quantile":
                best = y2 if rule.loss.tau * f(c1 + c2) < c2 else y1
            else:
                return None, None
            if books[MORE]:
                return float(best), None
            low, high = f(self.model.shared[LOW]), f(self.model.shared[HIGH])
            l1, l2 = (loss_of(rule.loss, best, y, low, high) for y in (y1, y2))
            sum1 = f(c1 * f(l1)) if c1 > 0 else f(0)
            sum2 = f(c2 * f(l2)) if c2 > 0 else f(0)
            lost = f(f(sum1 + sum2) / f(c1 + c2))
        return float(best), float(lost)


def _nameless(records: VWRecords) -> VWRecords:
    """Return records as they come from a cache: without their text."""
    return replace(records, text=b"", odd={}) if records.text or records.odd else records


def _say(lines: Iterable[bytes]) -> None:
    """Write lines to stdout, whatever their bytes are."""
    for line in lines:
        sys.stdout.flush()
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _redefined(parts: list[str]) -> bytes | None:
    """Return the letter each first byte of a namespace stands for."""
    if not parts:
        return None
    table = bytearray(range(256))
    for part in parts:
        target, sign, source = part.partition(":=")
        if not sign:
            raise OptionError(f"--redefine is {part!r}: give N:=S")
        new = (letters([target]) or b" ")[0]
        old = letters([source]) or b" "
        if b":" in old:
            table[:] = bytes([new]) * 256
        for letter in old:
            table[letter] = new
    return bytes(table)
