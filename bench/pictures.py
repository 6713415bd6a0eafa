"""Two pictures of the cells, as SVG that is the same for the same cells: trade-off and curves."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judge import curve_points

if TYPE_CHECKING:
    from pages import League

__all__ = ["draw_curves", "draw_trade"]

COLOURS = {
    "onlinestack": "#c1272d",
    "Vowpal Wabbit": "#0072b2",
    "XGBoost": "#009e73",
    "LightGBM": "#56b4e9",
    "river": "#e69f00",
    "scikit-learn": "#8a5a00",
    "CapyMOA": "#7a4fa3",
    "baseline": "#888888",
}
OTHER = "#444444"
OURS, FAST = "onlinestack stack", "onlinestack linear"
FEWEST = 500
"""Records before which a learning curve is not shown: it is noise."""
POINTS = 60


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "onlinestack",
            "svg.fonttype": "none",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
        }
    )
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    _pyplot().close(figure)
    # matplotlib leaves blanks at the ends of lines
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def draw_trade(league: League, path: Path) -> None:
    """Draw each learner: what a record costs, and how much higher its log-loss is than ours."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    families: dict[str, list[tuple[float, float, str]]] = {}
    for row in league.rows:
        cost = league.costs(row.name)
        more = 0.0 if row.name == OURS else row.median
        if cost is not None and math.isfinite(more):
            families.setdefault(row.family, []).append((cost, 100 * more, row.name))
    for family, dots in sorted(families.items()):
        colour = COLOURS.get(family, OTHER)
        size = 70 if family == "onlinestack" else 28
        axes.scatter([x for x, _, _ in dots], [y for _, y, _ in dots], s=size, color=colour)
        for x, y, name in dots:
            offset = (5, 4)
            axes.annotate(
                name, (x, y), offset, textcoords="offset points", color=colour, fontsize=7.5
            )
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=10)
    axes.invert_yaxis()
    axes.set_xlabel("processor microseconds a record (median over the long tracks); left is faster")
    axes.set_ylabel("log-loss above ours, %, median over tracks; up is better")
    _save(figure, path)


def _shown(league: League) -> list[str]:
    """Return whose curves are drawn: ours, and of each other family the nearest to ours."""
    chosen, families = [OURS, FAST], set()
    for row in league.others:
        if row.family not in families and len(row.against) >= 3:
            families.add(row.family)
            chosen.append(row.name)
    return [name for name in chosen if league.row(name)]


def draw_curves(league: League, path: Path) -> None:
    """Draw the log-loss of all records so far, track by track."""
    pyplot = _pyplot()
    names = _shown(league)
    tracks = [t for t, cells in league.tracks.items() if _length(cells) >= 2 * FEWEST]
    columns = 4
    rows = max(1, -(-len(tracks) // columns))
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(11, 2.1 * rows + 0.5), layout="constrained", squeeze=False
    )
    drawn: dict[str, Any] = {}
    for axes, track in zip(grid.flat, tracks, strict=False):
        ends = []
        for name in reversed(names):
            cell = league.tracks[track].get(name)
            points = [(n, y) for n, y in curve_points(cell) if n >= FEWEST] if cell else []
            if not points:
                continue
            points = points[:: max(1, len(points) // POINTS)] + points[-1:]
            ours = name == OURS
            colour = COLOURS.get(cell["family"], OTHER)
            (drawn[name],) = axes.plot(
                [n for n, _ in points],
                [y for _, y in points],
                color=colour,
                linewidth=1.8 if ours else 1.0,
                linestyle="--" if name == FAST else "-",
            )
            ends += [points[-1][1]]
        axes.set_xscale("log")
        axes.set_title(track, fontsize=8)
        axes.tick_params(labelsize=6.5)
        if ends:
            middle = statistics.median(ends)
            axes.set_ylim(min(ends) - 0.1 * middle, min(max(ends), 1.6 * middle) + 0.15 * middle)
    for axes in grid.flat[len(tracks) :]:
        axes.set_axis_off()
    order = [name for name in names if name in drawn]
    figure.legend(
        [drawn[name] for name in order], order, loc="outside lower center", ncols=4, fontsize=8
    )
    figure.supxlabel("records", fontsize=8)
    figure.supylabel("log-loss of all records so far", fontsize=8)
    _save(figure, path)


def _length(cells: Any) -> int:
    return max(cell["scores"]["records"] for cell in cells.values())
