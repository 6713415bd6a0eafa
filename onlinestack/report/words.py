"""The report in words: figures at the top, and the answers to the two questions people ask."""

from __future__ import annotations

import math
from typing import Any

from onlinestack.report.chart import shown
from onlinestack.report.curves import Curves, entropy
from onlinestack.report.history import History

__all__ = ["earned", "standing", "tiles", "trust"]

CLOSE = 0.05
"""A calibration ratio this near to 1 is good..."""
FAR = 0.15
"""... and one farther from 1 than this is not."""


def _last(history: History) -> dict[str, Any]:
    return history.points[-1]


def tiles(history: History) -> list[tuple[str, str, str]]:
    """Return the figures at the top: what each is, its value, what it means."""
    point, task = _last(history), history.start["task"]
    figures = history.summary or history.checkpoint
    speed = point["records"] - (history.parts[-1] if history.parts else 0)
    told = [("Records", f"{point['records']:,}", _account(point))]
    if task == "regression":
        told += [
            ("Mean absolute error", shown(point["mae"][0], ".4g"), "in units of the label"),
            ("RMSE", shown(point["rmse"][0], ".4g"), "large errors weigh more"),
            ("Mean label", shown(point["label_mean"], ".4g"), "of all records"),
        ]
    else:
        told.append(("Log-loss", shown(point["log_loss"][0]), "nats a record; lower is better"))
        told.append(
            ("Normalised entropy", shown(_normalised(history)), "below 1 knows more than the rate")
        )
    if task == "multiclass":
        told.append(
            ("Accuracy", shown(point["accuracy"][0], ".1%"), "share of classes guessed right")
        )
    if task == "click":
        told += [
            ("AUC", shown(figures.get("auc")), "0.5 is guessing, 1 is perfect"),
            (
                "Calibration",
                shown(point["calibration"][0], ".3f"),
                "predicted / observed; 1 is right",
            ),
            ("Click rate", shown(point["click_rate"], ".2%"), "share of records clicked"),
        ]
    seconds = point["seconds"]
    told.append(
        ("Records a second", f"{speed / max(seconds, 1e-9):,.0f}", f"{_clock(seconds)} in all")
    )
    return told


def _account(point: dict[str, Any]) -> str:
    told = [f"{point['learned']:,} learned"]
    for key, name in (
        ("predicted_only", "predicted only"),
        ("pending", "pending"),
        ("rejected", "rejected"),
    ):
        if point[key]:
            told.append(f"{point[key]:,} {name}")
    return ", ".join(told)


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _normalised(history: History) -> float | None:
    point = _last(history)
    if "normalized_entropy" in point:
        value: float | None = point["normalized_entropy"][0]
        return value
    base, loss = entropy(point["click_rate"]), point["log_loss"][0]
    return loss / base if base and loss is not None else None


def standing(history: History, *, live: bool) -> str:
    """Return how the run stands: under way, finished or broken off; and whether resumed."""
    if history.summary:
        text = "The run is finished."
    elif live:
        text = "The run is under way; this page renews itself."
    else:
        text = "The run did not end by itself: what is here is what it told until then."
    if history.parts:
        at = ", ".join(f"{part:,}" for part in history.parts)
        text += f" It was resumed behind record {at}."
        since = history.details.get("since")
        if since:
            text += (
                f" Slices, rejects by reason and importance count from record {since:,} on; all "
                "other figures are of the whole run."
            )
    return text


def earned(history: History) -> str:
    """Return which part of the stack earned its keep."""
    start, point = history.start, _last(history)
    key = "mae" if start["task"] == "regression" else "log_loss"
    name = "mean absolute error" if key == "mae" else "log-loss"
    losses = dict(zip(start["names"], point[key], strict=True))
    kinds = dict(zip(start["names"], start["kinds"], strict=True))
    final, constant = losses[start["names"][0]], losses["constant"]
    if final is None or not constant:
        return "No record had a label, so nothing is known about the parts."
    less = "below" if final <= constant else "above"
    what = "the mean so far" if key == "mae" else "the running rate"
    text = (
        f"The prediction’s {name} is {final:.4f}, {abs(1 - final / constant):.1%} {less} that of "
        f"always predicting {what}."
    )
    parts = {
        n: v
        for n, v in losses.items()
        if kinds[n] in ("member", "stacker", "mean") and v is not None
    }
    if len(start["weighed"]) < 2:
        return text + " One learner made it, so there are no parts to compare."
    best = min(parts, key=parts.__getitem__)
    member = min((n for n in parts if kinds[n] == "member"), key=parts.__getitem__)
    gap = parts[best] / final - 1
    text += f" The best single part is {best} ({kinds[best]}, {parts[best]:.4f}): "
    text += (
        f"the mixture is {gap:.2%} better"
        if gap >= 0.00005
        else f"the mixture is {max(0.0, -gap):.2%} behind"
    )
    text += f"; the best member alone is {member} ({parts[member]:.4f})." if member != best else "."
    shares = _late_shares(history)
    most = sorted(shares, key=lambda n: -shares[n])[:3]
    told = ", ".join(f"{n} ({shares[n]:.0%})" for n in most if shares[n] >= 0.01)
    return f"{text} Over the newest quarter the mixture listened most to {told}."


def _late_shares(history: History) -> dict[str, float]:
    """Return the mean share of each expert over the newest quarter of the records."""
    border = 0.75 * _last(history)["records"]
    late = [point["shares"] for point in history.points if point["records"] >= border]
    means = [sum(own) / len(late) for own in zip(*late, strict=True)]
    return dict(zip(history.start["weighed"], means, strict=True))


def trust(history: History) -> str:
    """Return whether the probabilities can be trusted."""
    point = _last(history)
    if history.start["task"] != "click":
        return ""
    ratio, rate = point["calibration"][0], point["click_rate"]
    if ratio is None or not rate:
        return "Not known: there has been no click yet."
    clicks = rate * point["weight"]
    chance = 2 / math.sqrt(clicks)
    window = Curves(history).calibration()[-1]
    groups = history.details.get("reliability", [])
    near = sum(_near(group) for group in groups)
    off = abs(ratio - 1)
    if off <= max(CLOSE, chance) and near >= 0.7 * len(groups):
        answer = "Yes"
    elif off <= max(FAR, chance):
        answer = "Mostly"
    else:
        answer = "No"
    text = (
        f"{answer}: {clicks * ratio:,.0f} clicks were predicted and {clicks:,.0f} came (ratio "
        f"{ratio:.3f}"
    )
    text += f"; {window:.3f} of late)" if window is not None else ")"
    if groups:
        text += (
            f"; in {near} of {len(groups)} groups of records the click rate was as predicted, "
            "within two standard errors or a twentieth"
        )
    return f"{text}."


def _near(group: dict[str, float]) -> bool:
    """Tell whether a group clicked as often as predicted, give or take chance."""
    p, o = group["predicted"], group["observed"]
    error = 2 * math.sqrt(max(p * (1 - p), 0.0) / group["weight"])
    return abs(o - p) <= max(error, CLOSE * p)
