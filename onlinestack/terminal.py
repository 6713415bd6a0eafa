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
import textwrap
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from onlinestack.run import Run

__all__ = [
    "JsonReport",
    "QuietReport",
    "TableReport",
    "finite",
    "labels_line",
    "league_lines",
    "live_line",
    "width_of",
]

TICK = 0.1
"""Seconds between two drawings of the live line."""
FRESH = 1.0
"""Seconds that the figures in it are good for."""
WIDE = 100
"""Characters from which on the live line spells things out."""
BAR = 10, 40
"""Fewest and most characters of its bar."""

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

    live = False

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
        print(json.dumps(finite(values), allow_nan=False), flush=True)


def finite(value: Any) -> Any:
    """Return the value with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
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
        self.live = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = self.live and not os.environ.get("NO_COLOR")
        self._headed = False
        self._drawn = False
        self._next = self._stale = 0.0
        self._figures: Mapping[str, Any] = {}
        self._looked = 0.0, 0
        """When the run was looked at last, and how many records it had read."""
        self._rate: float | None = None
        self._begun: int | None = None
        """Bytes that lay behind the run when it was looked at first: it may go on with another."""

    def note(self, text: str) -> None:
        """Say a line."""
        self._say(text)

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
        if not self.live:
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + TICK
        if now >= self._stale and run.read:
            self._look(run, now)
        if self._begun is None:
            self._begun = run.size()[1]
        line = live_line(run, self._begun, self._figures, self._rate, self._width() - 1)
        self._out.write(f"\r{line}\x1b[K")
        self._out.flush()
        self._drawn = True

    def _look(self, run: Run, now: float) -> None:
        """Take in how the run stands, and how fast it has been since it was looked at last."""
        before, read = self._looked
        self._rate = (run.read - read) / max(now - before, 1e-9) if before else None
        self._looked = now, run.read
        self._figures = {**run.checkpoint(), "training": run.training()}
        self._stale = now + FRESH

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
        self._say(f"read {scores['read']:,}{carried} = {counts}")
        if "labels" in scores:
            told = ", ".join(f"{name} {count:,}" for name, count in scores["labels"].items())
            each = scores["pending_bytes_each"]
            self._say(f"late labels: {told}; a pending record takes {each:,} bytes")
        self._say(f"in {scores['seconds']:.1f} s, {speed} records/s")
        if scores["out_of_order"]:
            self._say(f"{scores['out_of_order']:,} records are older than one before them")
        key = EXPERT[_task(scores)][0][0]
        if not scores["experts"] or _number("", scores[key]) == "-":
            return
        self._say(labels_line(scores))
        if scores["generations"] or scores["refused"]:
            refused = f", {scores['refused']:,} not taken" if scores["refused"] else ""
            self._say(f"generations of trees {scores['generations']:,}{refused}")
        head, *rows = league_lines(scores, self._width())
        self._line("")
        self._line(self._bold(head))
        for row in rows:
            self._line(row)

    def end(self) -> None:
        """Wipe the live line."""
        if self._drawn:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._drawn = False

    def _say(self, text: str) -> None:
        """Write a sentence, broken between words where it does not fit a terminal."""
        width = self._width()
        lines = [text]
        if len(text) >= width:
            lines = textwrap.wrap(
                text,
                max(2, width - 1),
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        for line in lines:
            self._line(line)

    def _line(self, text: str) -> None:
        self.end()
        self._out.write(text + "\n")
        self._out.flush()

    def _bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._colour else text

    def _width(self) -> int:
        return width_of(self._out)


def league_lines(scores: Mapping[str, Any], width: int) -> list[str]:
    """Return the league table: the final prediction, then everything beside it.

    Parameters
    ----------
    scores
        What `summary_figures` returned.
    width
        Of the terminal; columns that do not fit are left out from the right.
    """
    task = _task(scores)
    # The mixture is none of the experts, a lone learner is one.
    rows = {scores["final"]: {"kind": "final", **scores}} | scores["experts"]
    names = max(len("expert"), *(len(name) for name in rows))
    names = min(names, max(len("expert"), width - 13 - EXPERT[task][0][2]))
    columns = _fitting(EXPERT[task], width - names - 12)
    head = f"{'expert':{names}}  {'kind':10}"
    lines = [head + "".join(f"{heading:>{size}}" for _, heading, size in columns)]
    for name, expert in rows.items():
        short = name if len(name) <= names else f"{name[: names - 1]}~"
        line = f"{short:{names}}  {expert['kind']:10}"
        line += "".join(_cell(key, expert.get(key), size) for key, _, size in columns)
        lines.append(line.rstrip())
    return lines


def labels_line(scores: Mapping[str, Any]) -> str:
    """Return a line about the labels, whatever predicts them."""
    task = _task(scores)
    if task == "click":
        return f"click rate {_number('click_rate', scores['click_rate'])}"
    if task == "regression":
        return f"mean label {_number('label_mean', scores['label_mean'])}"
    shares = sorted(scores["classes"].items(), key=lambda item: -item[1])
    told = ", ".join(f"{name} {share:.1%}" for name, share in shares[:SOME])
    more = f" and {len(shares) - SOME} more" if len(shares) > SOME else ""
    return f"classes: {told}{more}"


def live_line(
    run: Run, begun: int, figures: Mapping[str, Any], rate: float | None, room: int
) -> str:
    """Return how a run stands in one line; what matters least is left out where it is narrow.

    Parameters
    ----------
    run
        The run.
    begun
        Bytes that were read when it began.
    figures
        Its figures of late; empty before the first.
    rate
        Records a second of late; None where not known yet.
    room
        Most characters of the line.
    """
    size, done = run.size()
    part = min(1.0, done / size) if size else None
    key = EXPERT[_task(figures)][0][0]
    training, generations = figures.get("training"), figures.get("generations")
    told = {
        "percent": "" if part is None else f"{part:4.0%}",
        "bar": "" if part is None else "#" * BAR[0],
        "records": f"{run.read:,}{' records' if room >= WIDE or part is None else ''}",
        "rate": "" if rate is None else f"{rate:,.0f}/s",
        "loss": "" if figures.get(key) is None else f"{HEADS[key]} {_number('', figures[key])}",
        "best": f"best {figures['best']}" if figures.get("best") else "",
        "trees": f"generations {generations:,}" if generations else "",
        "left": _left(size, done, begun, run.seconds()),
    }
    if training:
        (member, number), *others = training.items()
        told["trees"] = f"training {member} {number}{f' +{len(others)}' if others else ''}"
    for name in DISPENSABLE:
        if _length(told) > room:
            told[name] = ""
    if told["bar"] and part is not None:
        width = min(BAR[1], BAR[0] + room - _length(told))
        full = int(part * (width - 2))
        told["bar"] = f"[{'#' * full}{'.' * (width - 2 - full)}]"
    return "  ".join(filter(None, told.values()))[:room]


HEADS = {"log_loss": "log-loss", "mae": "MAE"}
DISPENSABLE = ("best", "left", "trees", "bar", "rate", "loss", "percent")
"""Pieces of the live line, in the order in which a narrow terminal does without them."""


def _length(pieces: Mapping[str, str]) -> int:
    """Return how long a line of pieces is."""
    return len("  ".join(filter(None, pieces.values())))


def _left(size: int | None, done: int, begun: int, seconds: float) -> str:
    """Return how long a run will still take; nothing while that is a guess."""
    if size is None or done - begun < size / 100:
        return ""
    return f"{_clock(max(0, size - done) * seconds / (done - begun))} left"


def width_of(stream: TextIO) -> int:
    """Return how many characters fit into a line of a stream: as good as any but on a terminal."""
    if not stream.isatty():
        return UNLIMITED
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return shutil.get_terminal_size().columns


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
