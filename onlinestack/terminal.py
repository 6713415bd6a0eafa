"""What a run says: a table, a live line and a summary on stderr, or JSON lines on stdout.

Everything drawn here is fixed-width text of our own; columns that do not fit a narrow terminal
are left out from the right.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from onlinestack.run import Run

__all__ = ["JsonReport", "QuietReport", "TableReport"]

TICK = 0.1
"""Seconds between two drawings of the live line."""

UNLIMITED = 1 << 16

Columns = tuple[tuple[str, str, int], ...]
"""Columns of a table: key, heading, width."""

COUNTS: Columns = (("records", "records", 13), ("records_per_second", "records/s", 11))

CHECKPOINT: dict[str, Columns] = {
    "click": (
        *COUNTS,
        ("log_loss", "log-loss", 10),
        ("log_loss_since", "since last", 12),
        ("auc", "AUC", 8),
        ("click_rate", "click rate", 12),
        ("generations", "generations", 13),
        ("best", "best of late", 18),
    ),
    "multiclass": (
        *COUNTS,
        ("log_loss", "log-loss", 10),
        ("log_loss_since", "since last", 12),
        ("accuracy", "accuracy", 10),
        ("accuracy_since", "since last", 12),
    ),
    "regression": (
        *COUNTS,
        ("mae", "MAE", 11),
        ("mae_since", "since last", 12),
        ("rmse", "RMSE", 11),
        ("rmse_since", "since last", 12),
        ("label_mean", "mean label", 12),
    ),
}
"""Columns of the progress table for each task."""

EXPERT: dict[str, Columns] = {
    "click": (
        ("log_loss", "log-loss", 10),
        ("auc", "AUC", 8),
        ("weight", "weight", 9),
        ("accuracy", "accuracy", 10),
        ("normalized_entropy", "norm. entropy", 15),
        ("calibration", "calibration", 13),
    ),
    "multiclass": (
        ("log_loss", "log-loss", 10),
        ("accuracy", "accuracy", 10),
        ("normalized_entropy", "norm. entropy", 15),
    ),
    "regression": (("mae", "MAE", 11), ("rmse", "RMSE", 11)),
}
"""Columns of the table of experts for each task, behind name and kind."""

LEAGUE = ("generations", "best")
"""Columns of the progress table where there are several experts."""

ERRORS = ("mae", "mae_since", "rmse", "rmse_since", "label_mean", "label_mean_since")
"""Figures in units of the label, of any size."""

SOME = 10
"""Classes whose shares are told."""


def _task(scores: Mapping[str, Any]) -> str:
    """Return the task that figures are of."""
    if "mae" in scores:
        return "regression"
    return "multiclass" if "classes" in scores or "accuracy_since" in scores else "click"


def _number(key: str, value: Any) -> str:
    """Return a figure as people read it; a dash where there is none yet."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, str):
        return value
    if key in ("records", "records_per_second", "generations"):
        return f"{value:,.0f}"
    if key in ERRORS:
        # Six digits and no more: minutes, prices and populations in one width.
        return (
            f"{value:.{max(0, min(4, 5 - _digits(value)))}f}"
            if abs(value) < 1e7
            else f"{value:.4e}"
        )
    if key == "log_loss" or key == "log_loss_since":
        return f"{value:.5f}"
    return f"{value:.4f}"


def _cell(key: str, value: Any, width: int) -> str:
    """Return a figure or a name at the right of its column, a long name cut short."""
    text = _number(key, value)
    if isinstance(value, str) and len(text) >= width:
        text = f"{text[: width - 2]}~"
    return f"{text:>{width}}"


def _digits(value: float) -> int:
    """Return the number of digits before the point, less one."""
    return max(0, math.floor(math.log10(max(abs(value), 1.0))))


class QuietReport:
    """Say nothing but what must be known: the notes about things that went wrong."""

    def tick(self, run: Run) -> None:
        """Say nothing."""

    def checkpoint(self, scores: Mapping[str, Any]) -> None:
        """Say nothing."""

    def generation(self, event: Mapping[str, Any]) -> None:
        """Say nothing."""

    def detail(self, event: Mapping[str, Any]) -> None:
        """Say nothing."""

    def summary(self, scores: Mapping[str, Any]) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def end(self) -> None:
        """Say nothing."""


class JsonReport(QuietReport):
    """Write one JSON object a line on stdout: checkpoints, points between them, the summary."""

    def checkpoint(self, scores: Mapping[str, Any]) -> None:
        """Write a checkpoint."""
        self._write({"event": "checkpoint", **scores})

    def generation(self, event: Mapping[str, Any]) -> None:
        """Write what became of a training."""
        self._write(event)

    def detail(self, event: Mapping[str, Any]) -> None:
        """Write what curves and slices are drawn from."""
        self._write(event)

    def summary(self, scores: Mapping[str, Any]) -> None:
        """Write the summary."""
        self._write({"event": "summary", **scores})

    def note(self, text: str) -> None:
        """Say a line on stderr."""
        print(f"onlinestack: {text}", file=sys.stderr)

    @staticmethod
    def _write(values: Mapping[str, Any]) -> None:
        print(json.dumps(_finite(values), allow_nan=False), flush=True)


def _finite(value: Any) -> Any:
    """Return the value with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class TableReport:
    """Draw the progress table and the summary, and on a terminal a live line below.

    Parameters
    ----------
    stream
        Where to draw; stderr by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._out = sys.stderr if stream is None else stream
        self._live = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = self._live and not os.environ.get("NO_COLOR")
        self._headed = False
        self._drawn = False
        self._next = 0.0

    def note(self, text: str) -> None:
        """Say a line."""
        self._line(text)

    def checkpoint(self, scores: Mapping[str, Any]) -> None:
        """Draw a line of the table."""
        columns = CHECKPOINT[_task(scores)]
        columns = tuple(row for row in columns if row[0] not in LEAGUE or row[0] in scores)
        columns = _fitting(columns, self._width())
        if not self._headed:
            self._headed = True
            head = "".join(f"{heading:>{width}}" for _, heading, width in columns)
            self._line(self._bold(head))
        self._line("".join(_cell(key, scores.get(key), width) for key, _, width in columns))

    def tick(self, run: Run) -> None:
        """Redraw the live line, where there is one and its time has come."""
        if not self._live:
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + TICK
        size, done = run.size()
        if not size:
            return
        part = min(1.0, done / size)
        seconds = run.seconds()
        left = "" if part < 0.01 else f"  {_clock(seconds / part - seconds)} left"
        text = f"  {run.read:,} records{left}"
        room = min(30, self._width() - len(text) - 10)
        full = int(part * room)
        bar = f" [{'#' * full}{'.' * (room - full)}]" if room >= 5 else ""
        text = f"  {part:4.0%}{bar}{text}"
        self._out.write(f"\r{text[: self._width() - 1]}\x1b[K")
        self._out.flush()
        self._drawn = True

    def generation(self, event: Mapping[str, Any]) -> None:
        """Say nothing; the table counts generations."""

    def detail(self, event: Mapping[str, Any]) -> None:
        """Say nothing; the table has checkpoints."""

    def summary(self, scores: Mapping[str, Any]) -> None:
        """Draw the account of records and the table of experts."""
        speed = _number("records_per_second", scores["records_per_second"])
        counts = " + ".join(
            f"{name} {scores[name]:,}"
            for name in ("learned", "predicted_only", "pending", "rejected")
        )
        self._line("")
        carried = f" + carried over {scores['carried']:,}" if scores.get("carried") else ""
        self._line(f"read {scores['read']:,}{carried} = {counts}")
        if "labels" in scores:
            told = ", ".join(f"{name} {count:,}" for name, count in scores["labels"].items())
            each = scores["pending_bytes_each"]
            self._line(f"late labels: {told}; a pending record takes {each:,} bytes")
        self._line(f"in {scores['seconds']:.1f} s, {speed} records/s")
        if scores["out_of_order"]:
            self._line(f"{scores['out_of_order']:,} records are older than one before them")
        task = _task(scores)
        key = EXPERT[task][0][0]
        if not scores["experts"] or _number("", scores[key]) == "-":
            return
        self._line(_of_labels(task, scores))
        if scores["generations"] or scores["refused"]:
            refused = f", {scores['refused']:,} not taken" if scores["refused"] else ""
            self._line(f"generations of trees {scores['generations']:,}{refused}")
        self._experts(scores)

    def _experts(self, scores: Mapping[str, Any]) -> None:
        """Draw the league table: the final prediction, then everything beside it."""
        task = _task(scores)
        # The mixture is none of the experts, a lone learner is one.
        rows = {scores["final"]: {"kind": "final", **scores}} | scores["experts"]
        names = max(len("expert"), *(len(name) for name in rows))
        names = min(names, max(len("expert"), self._width() - 13 - EXPERT[task][0][2]))
        columns = _fitting(EXPERT[task], self._width() - names - 12)
        head = f"{'expert':{names}}  {'kind':10}"
        self._line("")
        self._line(self._bold(head + "".join(f"{h:>{width}}" for _, h, width in columns)))
        for name, expert in rows.items():
            short = name if len(name) <= names else f"{name[: names - 1]}~"
            line = f"{short:{names}}  {expert['kind']:10}"
            line += "".join(_cell(key, expert.get(key), width) for key, _, width in columns)
            self._line(line.rstrip())

    def end(self) -> None:
        """Wipe the live line."""
        if self._drawn:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._drawn = False

    def _line(self, text: str) -> None:
        self.end()
        self._out.write(text + "\n")
        self._out.flush()

    def _bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._colour else text

    def _width(self) -> int:
        if not self._out.isatty():
            return UNLIMITED
        try:
            return os.get_terminal_size(self._out.fileno()).columns or 80
        except (OSError, ValueError):
            return shutil.get_terminal_size().columns


def _of_labels(task: str, scores: Mapping[str, Any]) -> str:
    """Return a line about the labels, whatever predicts them."""
    if task == "click":
        return f"click rate {_number('click_rate', scores['click_rate'])}"
    if task == "regression":
        return f"mean label {_number('label_mean', scores['label_mean'])}"
    shares = sorted(scores["classes"].items(), key=lambda item: -item[1])
    told = ", ".join(f"{name} {share:.1%}" for name, share in shares[:SOME])
    more = f" and {len(shares) - SOME} more" if len(shares) > SOME else ""
    return f"classes: {told}{more}"


def _fitting(columns: Columns, room: int) -> Columns:
    """Return the columns from the left that fit into ``room`` characters, one at least."""
    end = 0
    for count, (_, _, width) in enumerate(columns):
        end += width
        if end > room:
            return columns[: max(1, count)]
    return columns


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
