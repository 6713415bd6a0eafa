"""Two pictures of the cells, as SVG that is the same for the same cells: trade-off and curves."""

from __future__ import annotations

import math
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
BASELINES = "baseline"
OURS, FAST = "onlinestack stack", "onlinestack linear"
CONSTANT = "running rate"
FEWEST, CLICKS = 500, 100
"""Records before which, and clicks of a track below which, a learning curve is noise."""
POINTS = 40
TICKS = (0, 5, 10, 20, 50, 100, 200, 500, 1000)


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
        size = 70 if family == "onlinestack" else 28
        colour = COLOURS.get(family, OTHER)
        axes.scatter([x for x, _, _ in dots], [y for _, y, _ in dots], s=size, color=colour)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=10)
    axes.margins(x=0.12, y=0.08)
    low, high = axes.get_ylim()
    axes.set_yticks([t for t in TICKS if low <= t <= high], minor=False)
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.invert_yaxis()
    figure.draw_without_rendering()  # lays out, so that places are known
    every = sorted((dot, family) for family, dots in families.items() for dot in dots)
    places = [axes.transData.transform((x, y)) for (x, y, _), _ in every]
    taken = [(across - 5, up - 4, 10.0) for across, up in places]
    for ((x, y, name), family), (across, up) in zip(every, places, strict=True):
        width = 5.4 * len(name)
        heights = (4.0, -11.0, 15.0, -22.0, 26.0)
        spots = [(side, height) for height in heights for side in (7.0, -7.0 - width)]
        free = [
            (dx, dy)
            for dx, dy in spots
            if not any(
                abs(up + dy - b) < 11 and across + dx < a + w and a < across + dx + width
                for a, b, w in taken
            )
        ]
        dx, dy = (free or spots)[0]
        taken.append((across + dx, up + dy, width))
        axes.annotate(
            name,
            (x, y),
            (math.copysign(7, dx), dy),
            textcoords="offset pixels",
            ha="left" if dx > 0 else "right",
            color=COLOURS.get(family, OTHER),
            fontsize=7.5,
        )
    axes.set_xlabel("processor microseconds a record (median over the long tracks); left is faster")
    axes.set_ylabel("log-loss above ours, %, median over tracks; up is better")
    _save(figure, path)


def _shown(league: League) -> list[str]:
    """Return whose curves are drawn: ours, and of each library what ran most, nearest to ours."""
    chosen, families = [OURS, FAST], {BASELINES}
    for row in sorted(league.others, key=lambda row: (-len(row.against), row.median)):
        if row.family not in families:
            families.add(row.family)
            chosen.append(row.name)
    return [name for name in chosen if league.row(name)]


def draw_curves(league: League, path: Path) -> None:
    """Draw the log-loss so far as a share of the running rate's, track by track."""
    pyplot = _pyplot()
    names = _shown(league)
    tracks = [t for t, cells in league.tracks.items() if _tells(cells)]
    columns = 4
    rows = max(1, -(-len(tracks) // columns))
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(11, 2.1 * rows + 0.6), layout="constrained", squeeze=False
    )
    drawn: dict[str, Any] = {}
    for axes, track in zip(grid.flat, tracks, strict=False):
        cells = league.tracks[track]
        constant = dict(curve_points(cells[CONSTANT]))
        seen = []
        for name in reversed([name for name in names if name in cells]):
            shares = [
                (n, y / constant[n])
                for n, y in curve_points(cells[name])
                if n >= FEWEST and n in constant
            ]
            if not shares:
                continue
            shares = [*shares[:-1][:: max(1, len(shares) // POINTS)], shares[-1]]
            (drawn[name],) = axes.plot(
                [n for n, _ in shares],
                [y for _, y in shares],
                color=COLOURS.get(cells[name]["family"], OTHER),
                linewidth=1.8 if name == OURS else 1.0,
                linestyle="--" if name == FAST else "-",
            )
            seen += [y for _, y in shares]
        axes.set_xscale("log")
        axes.set_title(track, fontsize=8)
        axes.tick_params(labelsize=6.5)
        axes.minorticks_off()
        if seen:
            axes.set_ylim(max(0.0, min(seen) - 0.04), min(max(seen), 1.1) + 0.04)
    for axes in grid.flat[len(tracks) :]:
        axes.set_axis_off()
    order = [name for name in names if name in drawn]
    figure.legend(
        [drawn[name] for name in order], order, loc="outside upper center", ncols=4, fontsize=8
    )
    figure.supxlabel("records", fontsize=8)
    figure.supylabel("log-loss so far, as a share of the running click rate's", fontsize=8)
    _save(figure, path)


def _tells(cells: Any) -> bool:
    """Tell whether a track has enough records and clicks, and the click rate's own curve."""
    most = max((cell["scores"] for cell in cells.values()), key=lambda each: each["records"])
    rate = min(most["click_rate"], 1 - most["click_rate"])
    return CONSTANT in cells and most["records"] >= 2 * FEWEST and most["records"] * rate >= CLICKS
