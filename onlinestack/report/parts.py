"""The charts of a run's parts: slices of its records, its fields, its rejects, its experts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from onlinestack.report.chart import COLOURS, GREY, INK, Chart, Data, View, bars, line, marks, shown
from onlinestack.report.history import History

__all__ = ["league", "part_charts"]

FIELDS = 30
"""Fields that are drawn."""

Row = dict[str, Any]


def part_charts(history: History) -> list[Chart]:
    """Return the charts of slices, fields and rejects."""
    details, task = history.details, history.start["task"]
    charts = [
        _slice(task, f"slice-{at}", f"By {name}", rows)
        for at, (name, rows) in enumerate(details.get("slices", {}).items())
    ]
    for key, title in (("hours", "By hour of the day"), ("weekdays", "By day of the week")):
        charts.append(_times(task, key, title, details.get(key, [])))
    if len(details.get("dates", [])) > 1:
        charts.append(_times(task, "dates", "By date", details["dates"]))
    charts += [_gains(details.get("gains", {})), _importance(details.get("importance", {}))]
    return [*charts, _rejects(details.get("rejects", {}))]


def _words(task: str) -> tuple[str, str]:
    """Return what labels and losses are called."""
    if task == "regression":
        return "mean", "absolute error"
    return "click rate", "log-loss"


def _table(task: str, rows: Sequence[Row], what: str) -> dict[str, Any]:
    rate, loss = _words(task)
    cells = [
        [
            row["value"],
            f"{row['records']:,}",
            *(shown(row[key]) for key in ("predicted", "observed", "loss")),
            shown(_ratio(row), ".3f"),
        ]
        for row in rows
    ]
    kept = {"multiclass": [0, 1, 4], "regression": [0, 1, 2, 3, 4]}.get(task, [0, 1, 2, 3, 4, 5])
    head = [what, "records", "predicted", f"observed {rate}", loss, "predicted / observed"]
    return {
        "head": [head[at] for at in kept],
        "rows": [[row[at] for at in kept] for row in cells],
    }


def _ratio(row: Row) -> float | None:
    predicted, observed = row["predicted"], row["observed"]
    return predicted / observed if observed and predicted is not None else None


def _listed(names: Sequence[str], title: str, **more: Any) -> Data:
    """Return the layout of a chart with a row for each name, the first at the top."""
    axis = {
        "tickvals": list(range(len(names))),
        "ticktext": [escape(_cut(name, 28)) for name in names],
        "range": [len(names) - 0.4, -0.6],
        "fixedrange": True,
    }
    return {"yaxis": axis, "xaxis": {"title": {"text": title}, **more}, "hovermode": "closest"}


def _rows(names: Sequence[str]) -> Data:
    """Return the ordinates of such a chart, and what is told where the pointer is."""
    texts = [escape(name) for name in names]
    return {
        "y": list(range(len(names))),
        "hovertext": texts,
        "hovertemplate": "%{hovertext}: %{x:.5~g}",
    }


def _slice(task: str, id: str, title: str, rows: Sequence[Row]) -> Chart:
    """Return a chart of a column's values, one below the other."""
    rate, loss = _words(task)
    lead = "The values with the most records: what was predicted for them, and what came."
    names = [row["value"] for row in rows]
    common = _rows(names)

    def column(key: str) -> list[Any]:
        return [row[key] for row in rows]

    views = []
    if task != "multiclass":
        pairs = enumerate(zip(column("predicted"), column("observed"), strict=True))
        joined = [(x, at) for at, (a, b) in pairs for x in (a, b, None)]
        traces = [
            line(
                "difference",
                [x for x, _ in joined],
                [at for _, at in joined],
                GREY,
                hoverinfo="skip",
                showlegend=False,
            ),
            marks("predicted", column("predicted"), COLOURS[0], symbol="circle-open", **common),
            marks("observed", column("observed"), INK, **common),
        ]
        views.append(View(rate.capitalize(), traces, _listed(names, rate)))
    for key, name, colour in (("loss", loss, COLOURS[1]), ("records", "records", COLOURS[2])):
        trace = bars(name, column(key), colour, **common)
        views.append(View(name.capitalize(), [trace], _listed(names, name)))
    height = 110 + 24 * len(rows)
    return Chart(
        id, title, lead, views if rows else [], **_table(task, rows, "value"), height=height
    )


def _times(task: str, id: str, title: str, rows: Sequence[Row]) -> Chart:
    """Return a chart of hours or days, from left to right."""
    rate, loss = _words(task)
    names = [row["value"] for row in rows]
    lead = "What was predicted and what came, by the time of the record in UTC."
    layout: Data = {"xaxis": {"type": "category"}}

    def curve(name: str, key: str, colour: str) -> Data:
        trace = line(name, names, [row[key] for row in rows], colour)
        return trace | {"mode": "lines+markers"}

    def axis(text: str) -> Data:
        return layout | {"yaxis": {"title": {"text": text}, "rangemode": "tozero"}}

    views = []
    if task != "multiclass":
        both = [curve("predicted", "predicted", COLOURS[0]), curve("observed", "observed", INK)]
        views.append(View(rate.capitalize(), both, axis(rate)))
    views += [
        View(loss.capitalize(), [curve(loss, "loss", COLOURS[1])], axis(loss)),
        View("Records", [curve("records", "records", COLOURS[2])], axis("records")),
    ]
    return Chart(id, title, lead, views if rows else [], **_table(task, rows, "time"), height=300)


def _gains(gains: dict[str, dict[str, dict[str, float]]]) -> Chart:
    """Return a chart of what trees gained from each field, all members together."""
    sums: dict[str, dict[str, float]] = {}
    for fields in gains.values():
        for name, kinds in fields.items():
            own = sums.setdefault(name, {"value": 0.0, "rates": 0.0})
            for kind, gain in kinds.items():
                own[kind] += gain
    total = sum(sum(own.values()) for own in sums.values()) or 1.0
    ranked = sorted(sums.items(), key=lambda item: -sum(item[1].values()))[:FIELDS]
    names = [name for name, _ in ranked]
    traces = [
        bars(label, [own[kind] / total for _, own in ranked], colour, **_rows(names))
        for kind, label, colour in (
            ("rates", "by its click-rate statistics", COLOURS[0]),
            ("value", "by its value", COLOURS[1]),
        )
    ]
    share = sum(own["rates"] for own in sums.values()) / total
    rows = [
        [name, f"{own['rates'] / total:.1%}", f"{own['value'] / total:.1%}"] for name, own in ranked
    ]
    layout = _listed(names, "share of the gain", tickformat=".0%") | {"barmode": "stack"}
    return Chart(
        "gains",
        "What the trees in service look at",
        "The share of each field in what the splits of all trees in service gained; "
        f"{share:.0%} came through click-rate statistics.",
        [View("gain", traces, layout)] if ranked else [],
        ["field", "by its click-rate statistics", "by its value"],
        rows,
        110 + 24 * len(ranked),
    )


def _importance(told: dict[str, Any]) -> Chart:
    """Return a chart of permutation importance."""
    found: list[dict[str, Any]] = told.get("fields", [])[:FIELDS]
    names = [row["field"] for row in found]
    errors = [2 * row["error"] for row in found]
    trace = bars(
        "rise of the loss",
        [row["rise"] for row in found],
        COLOURS[0],
        error_x={"type": "data", "array": errors, "color": GREY, "thickness": 1.2},
        **_rows(names),
    )
    layout = _listed(names, "rise of the loss")
    rows = [[row["field"], shown(row["rise"], ".5f"), shown(row["error"], ".5f")] for row in found]
    return Chart(
        "importance",
        "What the whole model relies on",
        f"How much the loss rises on the newest {told.get('rows', 0):,} records when the values of "
        "a field trade places; bars span two standard errors.",
        [View("importance", [trace], layout)] if found else [],
        ["field", "rise of the loss", "standard error"],
        rows,
        110 + 24 * len(found),
        "These records have been learned, so a field that names its record looks more important "
        "than it is.",
    )


def _rejects(reasons: dict[str, int]) -> Chart:
    """Return a chart of the reasons why records were rejected."""
    names = list(reasons)
    trace = bars("rejected", list(reasons.values()), COLOURS[5], **_rows(names))
    layout = _listed(names, "records")
    return Chart(
        "rejects",
        "Rejected records",
        "Why records could not be read; they were neither predicted nor learned.",
        [View("reasons", [trace], layout)] if reasons else [],
        ["reason", "records"],
        [[name, f"{count:,}"] for name, count in reasons.items()],
        110 + 24 * len(reasons),
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def league(history: History) -> tuple[list[str], list[list[str]]]:
    """Return the table of all experts, the best first, below the final prediction."""
    point, start = history.points[-1], history.start
    shares = dict(zip(start["weighed"], point["shares"], strict=True))
    summary = history.summary.get("experts", {})
    keys = {
        "click": ("log_loss", "calibration"),
        "multiclass": ("log_loss", "accuracy", "normalized_entropy"),
        "regression": ("mae", "rmse"),
    }[start["task"]]
    more = ("auc", "normalized_entropy") if start["task"] == "click" and summary else ()
    head = ["expert", "kind", *keys, *more, "weight"]
    rows = []
    for at, (name, kind) in enumerate(zip(start["names"], start["kinds"], strict=True)):
        own = summary.get(name) or (history.summary if at == 0 else {})
        cells = [shown(point[key][at], ".5f" if key == "log_loss" else ".4f") for key in keys]
        cells += [shown(own.get(key)) for key in more]
        weight = shares.get(name) if len(shares) > 1 else None
        rows.append((point[keys[0]][at], [name, kind, *cells, shown(weight)]))
    final, rest = rows[0], sorted(rows[1:], key=lambda row: (row[0] is None, row[0] or 0.0))
    names = {
        "log_loss": "log-loss",
        "normalized_entropy": "norm. entropy",
        "auc": "AUC",
        "mae": "MAE",
        "rmse": "RMSE",
    }
    return [names.get(key, key) for key in head], [final[1], *(row for _, row in rest)]
