"""What `inspect` prints: a model, or the explanation of a prediction, as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from onlinestack.terminal import labels_line, league_lines

__all__ = ["explained_lines", "model_lines"]

OWN_LINE = ("pending", "bytes_each")
"""Counts of late labels that are told apart from the others."""


def model_lines(path: str, told: Mapping[str, Any], width: int) -> list[str]:
    """Return what is in a model as text.

    Parameters
    ----------
    path
        Its file.
    told
        What `inspect` returned.
    width
        Characters in a line.
    """
    sizes = told["sizes"]
    learned = f", {told['learned']:,} records learned" if "learned" in told else ""
    lines = [f"{path}: {told['kind']}{learned}, {_bytes(sizes['file'])}"]
    lines += _section("settings that differ from the preset", _settings(told["changed"]))
    total = max(1, sum(sizes["parts"].values()))
    lines += _section(
        "bytes of each part in the file",
        (f"{_bytes(n):>9} {n / total:5.0%}  {name}" for name, n in sizes["parts"].items()),
    )
    lines += _section("generations of trees", _generations(told.get("generations") or {}))
    lines += _section("late labels", _pending(told.get("pending")))
    league = told.get("league")
    if league and told["learned"]:
        lines += _section(f"league table ({labels_line(league)})", league_lines(league, width - 2))
    for name, weights in told["weights"].items():
        gains = any("gain" in row for row in weights["top"])
        what = "columns split on" if gains else "weights used"
        head = f"{name}: {weights['used']:,} of {weights['of']:,} {what}"
        if told.get("names") and weights.get("sharing"):
            head += f", {weights['sharing']:,} of {weights['names']:,} names share one"
        lines += _section(head, map(_weight, weights["top"]))
    lines += _names(told)
    return [_cut(line, width) for line in lines]


def explained_lines(told: Mapping[str, Any], width: int, top: int) -> list[str]:
    """Return the explanation of a prediction as text.

    Parameters
    ----------
    told
        What `explain` returned.
    width
        Characters in a line.
    top
        Most features of each score; the others are summed up.
    """
    label = "" if told["label"] is None else f", the label is {_short(told['label'])}"
    lines = [f"prediction {_short(told['prediction'])}{label}"]
    for key, text in (
        ("ignored", "ignored, since the model does not know these columns"),
        ("missing", "missing"),
    ):
        if told[key]:
            lines.append(f"{text}: {', '.join(told[key])}")
    if "mixture" in told:
        lines += _section("mixture: weight x p of each expert", _mixture(told))
    if "classes" in told:
        classes = sorted(told["classes"].items(), key=lambda item: -item[1]["p"])
        lines += _section(
            "classes, p and score",
            (f"{c['p']:8.4f}  {c['score']:+9.4f}  {name}" for name, c in classes[:top]),
        )
    if "score" in told:
        lines += _section("score", _score(told["score"], top))
    for kind in ("stackers", "members"):
        for name, score in told.get(kind, {}).items():
            lines += _section(f"{kind[:-1]} {name}", _score(score, top))
    return [_cut(line, width) for line in lines]


def _section(title: str, lines: Iterable[str]) -> list[str]:
    """Return a title and indented lines; nothing where there are none."""
    body = [f"  {line}" for line in lines]
    return ["", title, *body] if body else []


def _names(told: Mapping[str, Any]) -> list[str]:
    """Return a line about the names of features, or how to have them."""
    names = told.get("names")
    if names:
        out = f"; {names['left_out']:,} times there was no room" if names["left_out"] else ""
        return [
            "",
            f"names of {names['kept']:,} features are kept, {names['collisions']:,} of which have "
            f"the hash of another field's{out}",
        ]
    unnamed = any(row["feature"] is None for own in told["weights"].values() for row in own["top"])
    if unnamed and told.get("learned"):
        return ["", "weights of slots: learn with --names to see what they are of"]
    return []


def _settings(changed: Mapping[str, Any]) -> Iterator[str]:
    for key, value in changed.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            value = ", ".join(str(entry.get("name")) for entry in value)
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        yield f"{key} = {value}"


def _generations(members: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, at in members.items():
        yield (
            f"{name}: {at['accepted']:,} accepted, {at['refused']:,} refused, {at['failed']:,} "
            f"failed; number {at['serving'] or 'none'} serves with {at['trees']:,} trees of "
            f"{at['nodes']:,} nodes"
        )
        if at["training"]:
            yield f"  in training since record {at['training']['cut']:,}"
        for row in at["history"][-5:]:
            served = "refused" if row["rounds"] else "failed"
            if row["active_from"]:
                served = f"serves from {row['active_from']:,} on"
            rounds = f", {row['rounds']} rounds" if row["rounds"] else ""
            yield f"  number {row['number']}, cut at {row['cut']:,}{rounds}: {served}"


def _pending(counts: Mapping[str, int] | None) -> Iterator[str]:
    if counts is None:
        return
    size = counts["pending"] * counts["bytes_each"]
    yield f"{counts['pending']:,} records wait for theirs, {_bytes(size)} in memory"
    rest = (f"{name} {count:,}" for name, count in counts.items() if name not in OWN_LINE)
    yield ", ".join(rest)


def _weight(row: Mapping[str, Any]) -> str:
    number = f"{row['gain']:12,.1f}" if "gain" in row else f"{row['weight']:+12.5f}"
    name = row["feature"] or f"slot {row['slot']}"
    return f"{number}  {name}" + (f"  (class {row['class']})" if row.get("class") else "")


def _mixture(told: Mapping[str, Any]) -> Iterator[str]:
    experts = told["mixture"]["experts"]
    names = max(len("expert"), *(len(name) for name in experts))
    pulls = any("moves" in expert for expert in experts.values())
    last = "  moves p by" if pulls else ""
    yield f"{'expert':{names}}    score        p   weight  weight x p{last}"
    for name, at in experts.items():
        score = f"{at['score']:+8.4f}" if "score" in at else f"{'':8}"
        moves = f"  {at['moves']:+10.4f}" if "moves" in at else ""
        yield (
            f"{name:{names}} {score} {at['p']:8.4f} {at['weight']:8.4f}  {at['adds']:10.4f}{moves}"
        )
    yield f"{'sum':{names}} {'':26}  {told['mixture']['sum']:10.4f}"
    if pulls:
        yield "moves p by: slope of p along the score, times the score, by all ways through"
        yield "stackers and mixture"


def _score(score: Mapping[str, Any], top: int) -> Iterator[str]:
    terms = score["terms"]
    for term in terms[:top]:
        how = ""
        if term["weight"] is not None:
            how = f"{term['weight']:+9.4f} x {term['value']:<8.4g}"
        elif term["value"] is not None:
            how = f"{'at':>9} {term['value']:<10.4g}"
        yield f"{term['adds']:+9.4f}  {how:20}  {term['feature']}"
    if len(terms) > top:
        rest = sum(term["adds"] for term in terms[top:])
        yield f"{rest:+9.4f}  {'':20}  the other {len(terms) - top:,}"
    clipped = f", clipped to {score['clipped_to']:.6g}" if "clipped_to" in score else ""
    rounding = f"float32 adds up to {score['score']:.6f}{clipped}"
    yield f"{score['sum']:+9.4f}  sum; {rounding}, {score['rounding']:+.1e} off by rounding"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}~"
