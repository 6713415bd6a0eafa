"""The page: one HTML file with everything in it, made from the history of a run."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from onlinestack.atomic import replacing, sentence, write_all
from onlinestack.report.chart import Chart
from onlinestack.report.charts import stream_charts
from onlinestack.report.history import History, ReportError
from onlinestack.report.parts import league, part_charts
from onlinestack.report.words import earned, standing, tiles, trust

__all__ = ["check_libraries", "page", "update", "write_page"]


def check_libraries() -> None:
    """Refuse to begin where the libraries of the page are not installed.

    Raises
    ------
    ReportError
        With what to do.
    """
    try:
        import jinja2  # noqa: F401
        import plotly.offline  # noqa: F401
    except ModuleNotFoundError as error:
        raise ReportError(
            f"the report page needs {error.name}, which is not installed: "
            "pip install 'onlinestack[report]'"
        ) from None


@cache
def _template(name: str) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _text(name: str) -> str:
    return (files("onlinestack.report") / name).read_text(encoding="utf-8")


def _facts(history: History, live: bool) -> dict[str, Any]:
    """Return what the template of the content needs."""
    start = history.start
    head, rows = league(history)
    names = [
        os.path.basename(path) if path != "-" else "standard input" for path in start["sources"]
    ]
    return {
        "title": ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else ""),
        "began": datetime.fromtimestamp(start["at"], UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "preset": start["preset"],
        "version": start["version"],
        "learning": start["learning"],
        "standing": standing(history, live=live),
        "tiles": tiles(history),
        "earned": earned(history),
        "trust": trust(history),
        "league_head": head,
        "league_rows": rows,
    }


def _charts(history: History) -> list[Chart]:
    return [*stream_charts(history), *part_charts(history)]


def update(history: History, *, live: bool = True) -> dict[str, Any]:
    """Return what changes in the page while a run goes on: its content and its charts.

    Parameters
    ----------
    history
        With a point at least.
    live
        Whether the run goes on.
    """
    charts = _charts(history)
    facts = _facts(history, live)
    return {
        "content": _template("content.html").render(facts, charts=charts),
        "charts": {chart.id: chart.to_json() for chart in charts if chart.views},
        "finished": bool(history.summary),
    }


def page(history: History | None, *, live: bool = False) -> str:
    """Return the page as HTML that needs no network.

    Parameters
    ----------
    history
        Of the run; None for a page that waits for the first figures.
    live
        Whether the page asks its server for news.
    """
    from plotly.offline import get_plotlyjs

    now = {"content": "", "charts": {}, "finished": False}
    if history is not None:
        now = update(history, live=live)
    return str(
        _template("page.html").render(
            now,
            live=live,
            plotly=get_plotlyjs(),
            style=_text("style.css"),
            script=_text("page.js"),
        )
    )


def write_page(history: History, path: str) -> None:
    """Write the page of a run to a file, whole or not at all.

    Raises
    ------
    OSError
        Where it can not be written.
    """
    content = page(history).encode()
    try:
        with replacing(path) as file:
            write_all(file, content)
    except OSError as error:
        raise sentence(error, f"{path!r} cannot be written") from None
