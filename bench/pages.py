"""The pages of the benches, made of nothing but the cells: tables, pictures, and short answers.

`write_pages` puts the answers, the league and the table of tracks between the markers of
``README.md``, every figure of every cell into ``DETAILS.md`` beside it, and two pictures into
``pictures/``. The same cells give the same files, byte for byte.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchtools import STREAMS, Failure, write_table
from judge import Comparison, both_saw

__all__ = ["League", "load_cells", "short_table", "write_pages"]

OURS = "onlinestack stack"
FAST = "onlinestack linear"
FAMILY = "onlinestack"
BASELINES = "baseline"
LONG = 100_000
"""Records of a track from which on its speed counts: start and the first training weigh little."""
Cell = Mapping[str, Any]


def load_cells(folder: Path) -> list[Cell]:
    """Return the cells of a folder, in order of track and learner."""
    cells = [json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("*.json")]
    return sorted(cells, key=lambda cell: (cell["track"], cell["learner"]))


@dataclass(frozen=True)
class Row:
    """A learner beside the default preset.

    ``more`` is how much higher its log-loss is on each track, as a share, on the records both saw.
    """

    name: str
    cells: Mapping[str, Cell]
    against: Mapping[str, Comparison]

    @property
    def more(self) -> dict[str, float]:
        """Return by track how much higher the log-loss is."""
        return {track: each.more for track, each in self.against.items()}

    @property
    def median(self) -> float:
        """Return the median of `more`, infinite where nothing is compared."""
        return statistics.median(self.more.values()) if self.against else float("inf")

    def count(self, clear: bool, better: bool) -> int:
        """Return on how many tracks it is better, or worse, than the default preset."""
        found = [each for each in self.against.values() if (each.more < 0) == better]
        return sum(not clear or each.clear for each in found)

    @property
    def family(self) -> str:
        """Return the library or kind it is listed with."""
        return str(next(iter(self.cells.values()))["family"])


@dataclass(frozen=True)
class League:
    """All cells that were measured, learner by learner.

    Parameters
    ----------
    cells
        What `load_cells` returned; cells that failed are told of elsewhere.
    """

    cells: Sequence[Cell]

    @cached_property
    def good(self) -> list[Cell]:
        """Return the cells that have a log-loss."""
        return [cell for cell in self.cells if cell.get("scores", {}).get("log_loss") is not None]

    @cached_property
    def tracks(self) -> dict[str, dict[str, Cell]]:
        """Return the cells by track and learner."""
        found: dict[str, dict[str, Cell]] = {}
        for cell in self.good:
            found.setdefault(cell["track"], {})[cell["learner"]] = cell
        return found

    @cached_property
    def rows(self) -> list[Row]:
        """Return the learners, nearest to the default preset or best first."""
        names = sorted({cell["learner"] for cell in self.good})
        rows = [self._row(name) for name in names]
        return sorted(rows, key=lambda row: (row.name != OURS, row.median, row.name))

    @property
    def others(self) -> list[Row]:
        """Return the rows of learners that are not this package's."""
        return [row for row in self.rows if row.family != FAMILY]

    def row(self, name: str) -> Row | None:
        """Return the row of a learner."""
        return next((row for row in self.rows if row.name == name), None)

    def _row(self, name: str) -> Row:
        cells = {t: found[name] for t, found in self.tracks.items() if name in found}
        pairs = {
            t: both_saw(self.tracks[t][OURS], cell)
            for t, cell in cells.items()
            if OURS in self.tracks[t]
        }
        return Row(name, cells, {t: each for t, each in pairs.items() if each is not None})

    def best_others(self) -> dict[str, tuple[str, Comparison]]:
        """Return on each track the learner of others with the lowest log-loss beside ours."""
        found: dict[str, tuple[str, Comparison]] = {}
        for row in self.others:
            for track, each in row.against.items():
                if track not in found or each.more < found[track][1].more:
                    found[track] = row.name, each
        return dict(sorted(found.items()))

    def cost(self, name: str, track: str) -> float | None:
        """Return the processor microseconds a record of a cell; None without the cell."""
        cell = self.tracks.get(track, {}).get(name)
        return cell["cpu"] * 1e6 / cell["done"] if cell else None

    @cached_property
    def long(self) -> list[str]:
        """Return the tracks whose speed counts; all of them where none is long."""
        length = {t: max(c["records"] for c in cells.values()) for t, cells in self.tracks.items()}
        return [t for t, n in length.items() if n >= LONG] or list(length)

    def costs(self, name: str, than: str | None = None) -> float | None:
        """Return the median cost over the long tracks, or how many times another learner's."""
        found = []
        for track in self.long:
            mine, theirs = self.cost(name, track), self.cost(than, track) if than else 1.0
            if mine and theirs:
                found.append(mine / theirs)
        return statistics.median(found) if found else None

    def peak(self, name: str) -> float:
        """Return the highest peak memory of a learner, in MB."""
        return max(c["peak_mb"] for c in self.good if c["learner"] == name)


def percent(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.2f}" if ratio < 1 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Return the lines of a table whose first columns are words."""
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "---|" * left + "---:|" * (len(head) - left))
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def answers(league: League) -> list[str]:
    """Return the three answers of the first screen: how much better, how much faster, where not."""
    best = league.best_others()
    if not best:
        raise Failure(f"there are no cells of {OURS!r} and of others to compare; run them first")
    ahead = [each for _, each in best.values() if each.more > 0]
    over = [each.more for _, each in best.values()]
    middle = f"{100 * statistics.median(over):.1f}".replace("-", "−")
    lines = [
        f"**How much better?** `{OURS}`, the default, has the lowest log-loss of {_more(league)} "
        f"on {len(ahead)} of {len(best)} tracks, clearly so on {sum(c.clear for c in ahead)}. The "
        f"best of the others on each track, chosen afterwards, is {middle} % above it "
        f"in the median, from {percent(min(over))} % to {percent(max(over))} %.",
        "",
        _faster(league),
        "",
    ]
    behind = sorted((c.more, t, name, c.clear) for t, (name, c) in best.items() if c.more <= 0)
    each = [
        f"{track} ({name}, {percent(more)} %{'' if clear else ', which may be chance'})"
        for more, track, name, clear in behind
    ]
    lost = f"Another has a lower log-loss on {'; '.join(each)}." if each else ""
    lines.append(f"**Where not?** {lost or 'None of the others has a lower log-loss anywhere.'}")
    for name in (OURS, FAST):
        cheaper = [other for ratio, other in _ratios(league, name) if ratio < 1]
        if cheaper:
            lines[-1] += f" Less processor time than `{name}` take {_and(cheaper)}."
    return lines


def _more(league: League) -> str:
    """Say how many learners there are besides the default preset, and in how many libraries."""
    families = {row.family for row in league.others if row.family != BASELINES}
    return f"{len(league.rows)} learners of {len(families) + 1} libraries"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _ratios(league: League, name: str) -> list[tuple[float, str]]:
    """Return how many times the cost of one of ours each other learner takes, cheapest first."""
    ratios = [
        (league.costs(row.name, name), row.name) for row in league.others if row.family != BASELINES
    ]
    return sorted((ratio, other) for ratio, other in ratios if ratio is not None)


def _faster(league: League) -> str:
    """Say what a record costs each of ours, and how that compares."""
    words = []
    for name in (FAST, OURS):
        cost, ratios = league.costs(name), _ratios(league, name)
        if cost is None:
            continue
        dearer = [(ratio, other) for ratio, other in ratios if ratio >= 1]
        text = f"`{name}` takes {cost:,.0f} processor microseconds a record"
        if dearer:
            least, most = (
                f"{other} {times(ratio)} times" for ratio, other in (dearer[0], dearer[-1])
            )
            text += f"; {len(dearer)} of {len(ratios)} others take more: {least} that"
            text += f", {most}" if len(dearer) > 1 else ""
        words.append(text + ".")
    return f"**How much faster?** {' '.join(words)}"


def standing(league: League) -> list[str]:
    """Return the table of learners: each beside the default preset."""
    head = [
        "learner",
        "log-loss over ours, median %",
        "best and worst track",
        "tracks",
        "better than ours on",
    ]
    head += ["worse on", "core-µs a record", "times ours", "peak MB"]
    rows = []
    for row in league.rows:
        cost, ratio = league.costs(row.name), league.costs(row.name, OURS)
        marks = sorted({mark for cell in row.cells.values() for mark in cell["marks"]})
        name = row.name + (f" ({', '.join(marks)})" if marks else "")
        more = row.more.values()
        mine = row.name == OURS
        compared = bool(row.against) and not mine
        rows.append(
            [
                f"**{name}**" if mine else name,
                percent(row.median) if compared else "",
                f"{percent(min(more))} … {percent(max(more))}" if compared else "",
                f"{len(row.against)}" if compared else "",
                _counted(row, better=True) if compared else "",
                _counted(row, better=False) if compared else "",
                "" if cost is None else f"{cost:,.0f}",
                times(ratio),
                f"{league.peak(row.name):,.0f}",
            ]
        )
    return table(head, rows)


def _counted(row: Row, better: bool) -> str:
    every, clear = row.count(False, better), row.count(True, better)
    return f"{every} ({clear})" if every else "0"


def by_track(league: League) -> list[str]:
    """Return the table of learners and tracks: how much higher each log-loss is than ours."""
    tracks = [track for track, cells in league.tracks.items() if OURS in cells]
    best = {t: min([0.0, *(row.more[t] for row in league.rows if t in row.more)]) for t in tracks}
    rows = []
    for row in league.rows:
        line = [row.name]
        for track in tracks:
            if row.name == OURS:
                text = f"{row.cells[track]['scores']['log_loss']:.4f}"
                shown, first = text, best[track] == 0
            elif track in row.more:
                text = percent(row.more[track])
                cut = row.cells[track]["cut"] or league.tracks[track][OURS]["cut"]
                shown, first = text + ("†" if cut else ""), row.more[track] == best[track] < 0
            else:
                shown, first = "", False
            line.append(f"**{shown}**" if first else shown)
        rows.append(line)
    return table(["log-loss of ours, others over it in %", *tracks], rows)


def circumstances(cells: Sequence[Cell]) -> list[str]:
    """Say where, when and beside what the cells were measured."""
    learners, tracks = ({cell[key] for cell in cells} for key in ("learner", "track"))
    machines = sorted({f"{c['machine']['cores']} cores of {c['machine']['cpu']}" for c in cells})
    dates = sorted({cell["date"][:10] for cell in cells})
    commits = sorted({str(cell["commit"]) for cell in cells})
    limits = sorted({cell["seconds"] for cell in cells})
    versions = sorted({f"{n} {v}" for c in cells for n, v in c.get("versions", {}).items()})
    every = len(learners) * len(tracks)
    part = f" of {every:,}, the others were not run" if len(cells) < every else ""
    told = f"commit {', '.join(commits)}"
    if len(commits) > 3:
        told = f"{len(commits)} commits, each cell's in its file"
    lines = [
        f"{len(cells):,} cells{part}; {'; '.join(machines)}; "
        f"{' to '.join(sorted({dates[0], dates[-1]}))}; {told}; time limit of a cell "
        f"{' or '.join(f'{limit:g}' for limit in limits)} processor seconds. {', '.join(versions)}."
    ]
    jobs = max(cell["jobs"] for cell in cells)
    if jobs > 1:
        lines[0] += f" Learners of one thread ran {jobs} side by side, the others alone."
    busy = [max(0.0, c["others"] - c["jobs"] + 1) for c in cells if "others" in c]
    if busy and statistics.median(busy) > 0.1:
        lines[0] += (
            f" **Measured beside other work**: while a cell ran, other processes kept "
            f"{statistics.median(busy):.1f} cores busy in the median, {max(busy):.1f} at most. So "
            "times told here are processor time, which that stretches least."
        )
    return lines


def missing(league: League) -> list[str]:
    """Say which cells have no figures, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in league.cells:
        for key in ("not_installed", "failed"):
            if key in cell:
                reasons.setdefault((cell["learner"], cell[key]), []).append(cell["track"])
    return [
        f"- {name}, {len(tracks)} track{'s' if len(tracks) > 1 else ''}"
        f"{' (' + ', '.join(tracks) + ')' if len(tracks) < 4 else ''}: {why}"
        for (name, why), tracks in sorted(reasons.items())
    ]


FIGURES: dict[str, tuple[Callable[[Cell], float | None], str, int]] = {
    "log-loss": (lambda c: c["scores"]["log_loss"], ".4f", -1),
    "normalised entropy": (lambda c: c["scores"]["normalized_entropy"], ".4f", -1),
    "AUC": (lambda c: c["scores"]["auc"], ".4f", 1),
    "accuracy": (lambda c: c["scores"]["accuracy"], ".4f", 1),
    "calibration": (lambda c: c["scores"]["calibration"], ".3f", 0),
    "records/s": (lambda c: c["done"] / c["wall"], ",.0f", 1),
    "core-µs a record": (lambda c: c["cpu"] * 1e6 / c["done"], ",.1f", -1),
    "peak MB": (lambda c: c["peak_mb"], ",.0f", -1),
}
"""Figures of a cell: how to read and print each, and whether more is better (1), or less (-1)."""


def details(league: League) -> list[str]:
    """Return the page of all figures: a table a track, then what each learner was told."""
    lines = ["# Every figure", "", "Made by `python bench/run.py`; see [README.md](README.md).", ""]
    lines += [
        "The best of a column is in bold, among the learners that came to the end of the track. A "
        "learner that was cut has figures of the records it saw. *Records/s* is by the clock on "
        "the wall, *core-µs* by the processor's, of all threads and child processes.",
        "",
    ]
    for track, cells in league.tracks.items():
        every = sorted(cells.values(), key=lambda c: (c["cut"], c["scores"]["log_loss"]))
        whole = [cell for cell in every if not cell["cut"]] or every
        about = whole[0]
        lines += [f"## {track}", "", _about(track), ""]
        rate = about["scores"]["click_rate"]
        lines += [f"{about['records']:,} records, {100 * rate:.2f} % positive.", ""]
        ideal = {key: _best(key, whole) for key in FIGURES}
        rows = []
        for cell in every:
            cut = f"{cell['done']:,}, {cell['seconds']:g} s" if cell["cut"] else ""
            row = [cell["learner"]]
            for key, (read, form, _) in FIGURES.items():
                value = read(cell)
                text = "" if value is None else format(value, form)
                best = (
                    value is not None
                    and value == ideal[key]
                    and not (cell["cut"] and whole != every)
                )
                row.append(f"**{text}**" if best else text)
            rows.append([*row, cut])
        lines += [*table(["learner", *FIGURES, "cut at record"], rows), ""]
    lines += ["## Learners", "", *settings(league), ""]
    return lines


def _best(key: str, cells: Sequence[Cell]) -> float | None:
    read, _, sign = FIGURES[key]
    values = [value for cell in cells if (value := read(cell)) is not None]
    if not values or not sign:
        return min(values, key=lambda value: abs(value - 1)) if values else None
    return max(values) if sign > 0 else min(values)


def _about(track: str) -> str:
    stream, _, delay = track.partition("@")
    path = STREAMS / f"{stream}.toml"
    text = ""
    if path.exists():
        head = path.read_text(encoding="utf-8").split("file =", 1)[0]
        text = " ".join(line.lstrip("# ") for line in head.splitlines())
    return text + (f" Labels come {int(delay):,} records late." if delay else "")


def settings(league: League) -> list[str]:
    """Return the table of what each learner was told."""
    rows = []
    for row in league.rows:
        cell = next(iter(row.cells.values()))
        told = "; ".join(f"{key}: `{value}`" for key, value in cell["settings"].items())
        versions = ", ".join(f"{n} {v}" for n, v in sorted(cell["versions"].items()))
        rows.append([row.name, row.family, told.replace("|", "\\|"), versions])
    return table(["learner", "family", "settings", "versions"], rows, left=4)


def write_pages(cells: Sequence[Cell], page: Path) -> None:
    """Write the pages and pictures of some cells; ``page`` has the markers."""
    from pictures import draw_curves, draw_trade

    league = League(cells)
    text = [*answers(league), "", *standing(league), ""]
    text += ["![speed against quality](pictures/trade.svg)", ""]
    text += ["![learning curves](pictures/curves.svg)", "", *by_track(league), ""]
    text += [*circumstances(cells), ""]
    gone = missing(league)
    text += ["Without figures:", "", *gone, ""] if gone else []
    write_table(page, "\n".join(text).strip(), "learners")
    page.with_name("DETAILS.md").write_text("\n".join(details(league)), encoding="utf-8")
    folder = page.parent / "pictures"
    folder.mkdir(exist_ok=True)
    draw_trade(league, folder / "trade.svg")
    draw_curves(league, folder / "curves.svg")


def short_table(cells: Sequence[Cell]) -> str:
    """Return the log-loss and the cost of each cell as text."""
    lines = []
    for cell in sorted(cells, key=lambda c: (c["track"], c.get("scores", {}).get("log_loss") or 9)):
        head = f"{cell['track']:20} {cell['learner']:28}"
        if "scores" not in cell:
            lines.append(f"{head} {cell.get('failed') or cell.get('not_installed')}")
            continue
        cost = cell["cpu"] * 1e6 / max(cell["done"], 1)
        loss = cell["scores"]["log_loss"]
        shown = "" if loss is None else f"{loss:.4f}"
        lines.append(f"{head} {shown:>8} {cost:10,.0f} core-µs {cell['done']:>8,} records")
    return "\n".join(lines)
