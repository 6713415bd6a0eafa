"""A chart of the report: its words, its views as plotly.js takes them, and its table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["COLOURS", "GREY", "INK", "Chart", "View", "bars", "line", "marks", "shown"]

COLOURS = (
    "#3b7dd8",
    "#d9722e",
    "#2a9d6f",
    "#b659c4",
    "#a88400",
    "#d1495b",
    "#3296a8",
    "#7a6ff0",
    "#6b8e23",
    "#8a7f6d",
    "#4f9fe6",
    "#c2185b",
    "#009688",
    "#9c6b3f",
    "#5c7fb0",
    "#e0629c",
)
"""Colours that stand out by 3 to 1 at least from both backgrounds."""
INK = "ink"
"""The colour of text, light or dark: the page puts it in."""
GREY = "#8b8f98"

Data = dict[str, Any]


@dataclass(frozen=True)
class View:
    """One way to look at a chart.

    Parameters
    ----------
    name
        What its button says; a chart of one view has no button.
    traces
        What is drawn, each with a name; those of equal names in several views are switched as one.
    layout
        What differs from the page's own layout.
    """

    name: str
    traces: list[Data]
    layout: Data = field(default_factory=dict)

    def to_json(self) -> Data:
        """Return it as the page's script reads it."""
        return {"name": self.name, "data": self.traces, "layout": self.layout}


@dataclass(frozen=True)
class Chart:
    """What a section of the page shows.

    Parameters
    ----------
    id
        Of the section.
    title
        Its heading.
    lead
        In one sentence, what the chart tells.
    views
        Ways to look at it; none where there is nothing to draw, and the section is then left out.
    head, rows
        The same as a table.
    height
        In pixels.
    note
        What else to know.
    """

    id: str
    title: str
    lead: str
    views: list[View]
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    height: int = 340
    note: str = ""

    def to_json(self) -> Data:
        """Return what is drawn as the page's script reads it."""
        return {"views": [view.to_json() for view in self.views], "height": self.height}


def line(name: str, x: Sequence[Any], y: Sequence[Any], colour: str, **more: Any) -> Data:
    """Return a curve."""
    own = {"color": colour, "width": 2.5 if colour == INK else 1.6, **more.pop("line", {})}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": [short(value) for value in y],
        "line": own,
        **more,
    }


def marks(name: str, x: Sequence[Any], colour: str, *, symbol: str = "circle", **more: Any) -> Data:
    """Return single marks; ``more`` has their ordinates ``y``."""
    marker = {"color": colour, "size": 9, "symbol": symbol}
    own = {"type": "scatter", "mode": "markers", "name": name, "marker": marker}
    return own | {"x": [short(value) for value in x], **more}


def bars(name: str, x: Sequence[Any], colour: str, **more: Any) -> Data:
    """Return horizontal bars of lengths ``x``; ``more`` has their ordinates ``y``."""
    own = {"type": "bar", "orientation": "h", "name": name, "marker": {"color": colour}}
    return own | {"x": [short(value) for value in x], **more}


def short(value: Any) -> Any:
    """Return a number with as many digits as can be seen; None for what JSON has no number for."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def shown(value: Any, style: str = ".4f", none: str = "–") -> str:
    """Return a figure as people read it.

    Examples
    --------
    >>> shown(0.123456), shown(None), shown(12345, ",")
    ('0.1235', '–', '12,345')
    """
    return none if value is None else format(value, style)
