"""What Vowpal Wabbit writes to stderr: start lines, progress table, summary."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

__all__ = ["HEADER", "fixed", "report_line", "summary"]

HEADER = (
    "average  since         example        example        current        current  current\n"
    "loss     last          counter         weight          label        predict features\n"
)


def fixed(value: float, digits: int) -> str:
    """Return a number with a fixed number of decimals, as C prints it: a NaN has a sign.

    Examples
    --------
    >>> fixed(0.25, 1), fixed(-float("nan"), 1)
    ('0.2', '-nan')
    """
    if math.isnan(value):
        return "-nan" if math.copysign(1.0, value) < 0 else "nan"
    return f"{value:.{digits}f}"


def _cell(text: str, width: int, dots: bool = False) -> str:
    if len(text) > width:
        return text[: width - 3] + "..." if dots else text[:width]
    return text


def report_line(row: NDArray[Any], label: str, prediction: str, held: bool) -> str:
    r"""Return a row of the progress table.

    Parameters
    ----------
    row
        A row of ``Outcome.report``.
    label, prediction
        As texts.
    held
        Whether the losses are those of records held out.

    Examples
    --------
    >>> report_line([0, 0.5, 0, 3, 4.5, 10, 1, 0], "1.0000", "unknown", False)
    '0.500000 n.a.                3            4.5         1.0000        unknown       10\n'
    """
    nothing = "unknown" if held else "n.a."
    average = fixed(row[1], 6) if row[6] else nothing
    since = fixed(row[2], 6) if row[7] else nothing
    cells = (
        _cell(average, 8).ljust(8),
        _cell(since, 8).ljust(8),
        _cell(str(int(row[3])), 12).rjust(12),
        _cell(fixed(row[4], 1), 14).rjust(14),
        _cell(label, 14, True).rjust(14),
        _cell(prediction, 14, True).rjust(14),
        _cell(str(int(row[5])), 8).rjust(8),
    )
    return " ".join(cells) + (" h" if held else "") + "\n"


def summary(
    *,
    passes: int,
    examples: int,
    weight: float,
    labels: float,
    loss: str,
    constant: float | None,
    constant_loss: float | None,
    features: int,
    log_loss: str | None = None,
) -> str:
    """Return the lines at the end of a run."""
    lines = ["", "finished run"]
    if passes <= 1:
        lines.append(f"number of examples = {examples}")
    else:
        lines += [f"number of examples per pass = {examples // passes}", f"passes used = {passes}"]
    lines += [
        f"weighted example sum = {fixed(weight, 6)}",
        f"weighted label sum = {fixed(labels, 6)}",
        f"average loss = {loss}",
    ]
    if log_loss is not None:
        lines.append(f"average multiclass log loss = {log_loss}")
    if constant is not None:
        lines.append(f"best constant = {fixed(constant, 6)}")
        if constant_loss is not None:
            lines.append(f"best constant's loss = {fixed(constant_loss, 6)}")
    lines.append(f"total feature number = {features}")
    return "\n".join(lines) + "\n"
