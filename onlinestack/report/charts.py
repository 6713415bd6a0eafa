"""The charts of a run over its stream: losses, weights, generations, reliability and the like."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from html import escape
from textwrap import wrap
from typing import Any

from onlinestack.report.chart import COLOURS, GREY, INK, Chart, Data, View, line, marks, shown
from onlinestack.report.curves import Curve, Curves, entropy
from onlinestack.report.history import History

__all__ = ["stream_charts"]

SOME = 5
"""Experts whose curves are shown at first; the others at a click."""
SMALL = 0.02
"""Share that an expert must have had once to be drawn by itself."""
ROWS = 16
"""Rows of a table, evenly from a curve."""
NAMES = {
    "log_loss": "Log-loss",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "accuracy": "Accuracy",
}
LOSSES = {
    "click": ("log_loss",),
    "multiclass": ("log_loss", "accuracy"),
    "regression": ("mae", "rmse"),
}


def stream_charts(history: History) -> list[Chart]:
    """Return the charts whose abscissa is the stream, and the reliability diagram."""
    curves = Curves(history)
    click = history.start["task"] == "click"
    charts = [_losses(history, curves), _weights(history, curves), _generations(history)]
    if click:
        charts += [_reliability(history), _calibration(curves), _rates(curves)]
    return [*charts, _speed(curves)]


def _some(count: int, most: int = ROWS) -> list[int]:
    """Return positions, evenly from so many, the last among them."""
    if count <= most:
        return list(range(count))
    return [round((i + 1) * count / most) - 1 for i in range(most)]


def _axes(y: str, x: str = "records read", **more: Any) -> Data:
    return {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}, **more}}


def _at_first(curves: Curves, key: str, best: bool = True) -> set[str]:
    """Return the names whose curves are shown at first."""
    last = dict(zip(curves.names, curves.points[-1][key], strict=True))
    ranked = sorted(
        (name for name in curves.names[1:] if last[name] is not None),
        key=lambda name: last[name] if best else -last[name],
    )
    kinds = dict(zip(curves.names, curves.kinds, strict=True))
    chosen = {curves.names[0], "constant"}
    for kind in ("member", "stacker"):
        chosen |= set([name for name in ranked if kinds[name] == kind][:2])
    return chosen | {name for name in ranked if kinds[name] == "mean"}


def _colours(names: Sequence[str], kinds: Sequence[str]) -> dict[str, Data]:
    """Return how the curve of each expert is drawn: the final one in ink, baselines in grey."""
    styles: dict[str, Data] = {}
    for at, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if at == 0:
            styles[name] = {"color": INK}
        elif kind == "baseline":
            styles[name] = {"color": GREY, "dash": "dash" if name == "constant" else "dot"}
        else:
            turn, place = divmod(at - 1, len(COLOURS))
            dash = ("solid", "dash", "dot", "dashdot")[turn % 4]
            styles[name] = {"color": COLOURS[place], "dash": dash}
    return styles


def _losses(history: History, curves: Curves) -> Chart:
    task = history.start["task"]
    styles = _colours(curves.names, curves.kinds)
    at_first = _at_first(curves, LOSSES[task][0])
    marked = _marked(history)
    # The first few records of a stream would flatten all that follows.
    early = min(bisect_left(curves.records, curves.records[-1] // 20), len(curves.records) - 1)
    views = []

    def view(name: str, axis: str, series: Sequence[Curve]) -> None:
        traces = [
            line(
                who,
                curves.records,
                values,
                str(styles[who]["color"]),
                line=styles[who],
                visible=True if who in at_first else "legendonly",
            )
            for who, values in zip(curves.names, series, strict=True)
        ]
        layout = _axes(axis)
        layout["yaxis"] |= _range(
            [trace["y"][early:] for trace in traces if trace["name"] in at_first]
        )
        layout["yaxis2"] = {"overlaying": "y", "range": [0, 1], "visible": False}
        views.append(View(name, [*traces, *marked], layout))

    count = range(len(curves.names))
    for key in LOSSES[task]:
        square, name = key == "rmse", NAMES[key]
        windows = [curves.window(key, at, square=square) for at in count]
        wholes = [curves.whole(key, at) for at in count]
        view(f"{name}, window", name.lower(), windows)
        view(f"{name}, so far", name.lower(), wholes)
        if task == "click":
            for kind, series, rates in (
                ("window", windows, curves.window("click_rate")),
                ("so far", wholes, curves.whole("click_rate")),
            ):
                base = [entropy(rate) for rate in rates]
                scaled = [_over(values, base) for values in series]
                view(f"Normalised entropy, {kind}", "normalised entropy", scaled)
        if key == LOSSES[task][0] and len(history.start["weighed"]) > 1:
            behind = [_less(values, wholes[0]) for values in wholes]
            view("Behind the prediction, so far", f"{name.lower()} above the prediction’s", behind)
    first = views[0].traces
    rows = [
        [
            f"{curves.records[i]:,}",
            *(shown(trace["y"][i]) for trace in first[: len(count)] if trace["name"] in at_first),
        ]
        for i in _some(len(curves.records))
    ]
    head = ["records", *(name for name in curves.names if name in at_first)]
    name = NAMES[LOSSES[task][0]]
    return Chart(
        "loss",
        f"{name} over the stream",
        f"How well each expert predicted; a window holds the last {curves.width:,} records"
        + (", and triangles mark trees that were taken into service." if marked else "."),
        views,
        head,
        rows,
        height=400,
    )


def _range(series: Sequence[Curve]) -> Data:
    """Return a range that single high values do not stretch."""
    known = sorted(v for values in series for v in values if v is not None)
    if not known:
        return {}
    low, high = known[0], known[int(0.99 * (len(known) - 1))]
    room = 0.05 * (high - low) or 0.05 * abs(high)
    return {"range": [low - room, high + room]}


def _over(values: Curve, base: Curve) -> Curve:
    return [v / b if v is not None and b else None for v, b in zip(values, base, strict=True)]


def _less(values: Curve, base: Curve) -> Curve:
    return [
        v - b if v is not None and b is not None else None
        for v, b in zip(values, base, strict=True)
    ]


def _marked(history: History) -> list[Data]:
    """Return marks where generations were taken into service."""
    taken = [each for each in history.generations if each["accepted"]]
    if not taken:
        return []
    return [
        marks(
            "trees taken into service",
            [each["active_from"] for each in taken],
            GREY,
            symbol="triangle-up",
            y=[0.03] * len(taken),
            yaxis="y2",
            text=[escape(f"{each['member']} {each['number']}") for each in taken],
            hovertemplate="%{text}, from record %{x:,}<extra></extra>",
        )
    ]


def _weights(history: History, curves: Curves) -> Chart:
    names: list[str] = history.start["weighed"]
    chart = Chart(
        "weights",
        "Whom the mixture listened to",
        "The share of each expert in the prediction, from the first record to the last; the "
        "shares sum to 1.",
        [],
    )
    if len(names) < 2:
        return chart
    shares = [curves.values("shares", at) for at in range(len(names))]
    large = [at for at, own in enumerate(shares) if max(own) >= SMALL]
    large.sort(key=lambda at: -sum(shares[at]))
    styles = _colours(curves.names, curves.kinds)
    traces = []
    for at in large[: len(COLOURS) + 4]:
        colour = str(styles[names[at]]["color"])
        traces.append(line(names[at], curves.records, shares[at], colour))
    rest = [at for at in range(len(names)) if at not in large[: len(COLOURS) + 4]]
    if rest:
        sums = [sum(shares[at][i] for at in rest) for i in range(len(curves.records))]
        traces.append(line(f"{len(rest)} others", curves.records, sums, GREY))
    for trace in traces:
        trace |= {"stackgroup": "one", "line": {"width": 0.5, "color": trace["line"]["color"]}}
        trace["fillcolor"] = trace["line"]["color"]
    rows = [
        [f"{curves.records[i]:,}", *(shown(trace["y"][i], ".3f") for trace in traces)]
        for i in _some(len(curves.records))
    ]
    layout = _axes("share of the mixture", range=[0, 1])
    head = ["records", *(trace["name"] for trace in traces)]
    return Chart(
        chart.id, chart.title, chart.lead, [View("shares", traces, layout)], head, rows, 360
    )


def _generations(history: History) -> Chart:
    kinds: dict[str, tuple[str, str, list[Data]]] = {
        "accepted": ("#2a9d6f", "circle", []),
        "refused": ("#d1495b", "x", []),
        "failed": ("#a88400", "diamond-open", []),
    }
    for each in history.generations:
        kind = (
            "accepted" if each["accepted"] else "failed" if each["seconds"] is None else "refused"
        )
        kinds[kind][2].append(each)
    traces = [
        marks(
            f"{kind} ({len(events)})",
            [each["cut"] for each in events],
            colour,
            symbol=symbol,
            y=[each["seconds"] or 0.0 for each in events],
            text=[
                escape(f"{each['member']}, generation {each['number']}")
                + (
                    "<br>" + "<br>".join(wrap(escape(each["reason"]), 60))
                    if each.get("reason")
                    else ""
                )
                for each in events
            ],
            hovertemplate="%{text}<br>cut at %{x:,}, trained in %{y:.2f} s<extra></extra>",
        )
        for kind, (colour, symbol, events) in kinds.items()
        if events
    ]
    rows = [
        [
            each["member"],
            f"{each['number']}",
            f"{each['cut']:,}",
            shown(each["active_from"], ","),
            shown(each["seconds"], ".2f"),
            "yes" if each["accepted"] else str(each.get("reason", "no")),
        ]
        for each in history.generations[-24:]
    ]
    taken = sum(each["accepted"] for each in history.generations)
    seconds = sum(each["seconds"] or 0.0 for each in history.generations)
    return Chart(
        "generations",
        "Generations of boosted trees",
        f"Each mark is a training; {taken:,} of {len(history.generations):,} were better than what "
        f"served and were taken into service, and all took {seconds:,.1f} s beside the stream.",
        [View("trainings", traces, _axes("seconds of training", rangemode="tozero"))]
        if traces
        else [],
        ["member", "generation", "cut at", "serves from", "seconds", "accepted"],
        rows,
        280,
        "The newest 24 are in the table." if len(history.generations) > 24 else "",
    )


def _reliability(history: History) -> Chart:
    groups: list[dict[str, Any]] = history.details.get("reliability", [])
    chart = Chart(
        "reliability",
        "Can the probabilities be trusted?",
        "Records are grouped by what was predicted: where a group lies on the line, clicks came as "
        "often as predicted; bars span two standard errors.",
        [],
    )
    if not groups:
        return chart
    predicted = [group["predicted"] for group in groups]
    observed = [group["observed"] for group in groups]
    errors = [2 * (o * (1 - o) / g["weight"]) ** 0.5 for o, g in zip(observed, groups, strict=True)]
    texts = [
        f"predicted {g['low']:.4f} to {g['high']:.4f}<br>{g['weight']:,.0f} records, "
        f"{g['weight'] * g['observed']:,.0f} clicks"
        for g in groups
    ]
    density = [g["weight"] / max(1e-9, g["high"] - g["low"]) for g in groups]
    peak = max(density)
    steps_x = [edge for g in groups for edge in (g["low"], g["high"])]
    steps_y = [d / peak for d in density for _ in range(2)]
    low, high = max(1e-6, min(predicted) / 2), min(1.0, max([*predicted, *observed]) * 1.3)
    traces = [
        line("as predicted", [low, high], [low, high], GREY, line={"dash": "dash"}),
        marks(
            "groups of records",
            predicted,
            COLOURS[0],
            y=observed,
            error_y={"type": "data", "array": errors, "color": COLOURS[0], "thickness": 1.2},
            text=texts,
            hovertemplate="%{text}<br>mean %{x:.4f}, observed %{y:.4f}<extra></extra>",
        ),
        line(
            "how many records",
            steps_x,
            steps_y,
            GREY,
            fill="tozeroy",
            yaxis="y2",
            hoverinfo="skip",
            line={"width": 0.5},
        ),
    ]
    views = []
    for name, kind in (("both axes equal", "linear"), ("logarithmic", "log")):
        layout = _axes("share that clicked", "predicted probability")
        layout["xaxis"]["type"] = layout["yaxis"]["type"] = kind
        layout["yaxis"]["domain"] = [0.26, 1.0]
        if kind == "linear":
            layout["xaxis"]["range"] = layout["yaxis"]["range"] = [0, high]
        layout["xaxis"]["anchor"] = "y2"
        layout["yaxis2"] = {
            "domain": [0, 0.18],
            "showticklabels": False,
            "showgrid": False,
            "fixedrange": True,
        }
        layout["hovermode"] = "closest"
        views.append(View(name, traces, layout))
    rows = [
        [
            f"{g['low']:.4f} – {g['high']:.4f}",
            f"{g['weight']:,.0f}",
            f"{g['weight'] * g['observed']:,.0f}",
            shown(g["predicted"]),
            shown(g["observed"]),
        ]
        for g in groups
    ]
    head = ["predicted", "records", "clicks", "mean prediction", "clicked"]
    note = "The grey area below says how many records lie where."
    return Chart(chart.id, chart.title, chart.lead, views, head, rows, 420, note)


def _calibration(curves: Curves) -> Chart:
    window, whole = curves.calibration(), curves.whole("calibration", 0)
    ends = [curves.records[0], curves.records[-1]]
    traces = [
        line("right", ends, [1.0, 1.0], GREY, line={"dash": "dash"}),
        line("window", curves.records, window, COLOURS[0]),
        line("so far", curves.records, whole, INK),
    ]
    early = len(window) // 8
    known = [v for v in [*window[early:], *whole[early:]] if v is not None]
    layout = _axes("predicted / observed clicks")
    if known:
        layout["yaxis"]["range"] = [min(0.8, *known), min(2.0, max(1.2, *known))]
    rows = [
        [f"{curves.records[i]:,}", shown(window[i], ".3f"), shown(whole[i], ".3f")]
        for i in _some(len(curves.records))
    ]
    return Chart(
        "calibration",
        "Calibration over the stream",
        "Predicted over observed clicks: 1 is right, above it clicks were promised that did not "
        "come.",
        [View("ratio", traces, layout)],
        ["records", "window", "so far"],
        rows,
        300,
    )


def _rates(curves: Curves) -> Chart:
    observed = curves.window("click_rate")
    ratio = curves.calibration()
    predicted = [
        o * r if o is not None and r is not None else None
        for o, r in zip(observed, ratio, strict=True)
    ]
    traces = [
        line("clicked", curves.records, observed, INK),
        line("predicted", curves.records, predicted, COLOURS[0]),
    ]
    rows = [
        [f"{curves.records[i]:,}", shown(observed[i]), shown(predicted[i])]
        for i in _some(len(curves.records))
    ]
    return Chart(
        "click-rate",
        "Click rate",
        "The share of records that were clicked, and the mean of what was predicted for them, in "
        "the moving window.",
        [View("rate", traces, _axes("click rate", rangemode="tozero"))],
        ["records", "clicked", "predicted"],
        rows,
        280,
    )


def _speed(curves: Curves) -> Chart:
    speeds = curves.speed()
    traces = [line("records a second", curves.records, speeds, COLOURS[0])]
    rows = [[f"{curves.records[i]:,}", shown(speeds[i], ",.0f")] for i in _some(len(speeds))]
    return Chart(
        "speed",
        "Records a second",
        "How fast the stream was read, predicted and learned, in the moving window; dips are "
        "trainings that were waited for, snapshots, or other work of the machine.",
        [View("speed", traces, _axes("records/s", rangemode="tozero"))],
        ["records", "records/s"],
        rows,
        260,
    )
