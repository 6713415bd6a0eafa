"""What Vowpal Wabbit writes to stderr: start lines, progress table, summary."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

__all__ = ["HEADER", "report_line", "summary"]

HEADER = (
    "average  since         example        example        current        current  current\n"
    "loss     last          counter         weight          label        predict features\n"
)


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
    >>> report_line([0, 0.5, float("nan"), 3, 4.5, 10], "1.0000", "unknown", False)
    '0.500000 n.a.                3            4.5         1.0000        unknown       10\n'
    """
    nothing = "unknown" if held else "n.a."
    average, since = (nothing if math.isnan(v) else f"{v:.6f}" for v in row[1:3])
    cells = (
        _cell(average, 8).ljust(8),
        _cell(since, 8).ljust(8),
        _cell(str(int(row[3])), 12).rjust(12),
        _cell(f"{row[4]:.1f}", 14).rjust(14),
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
) -> str:
    """Return the lines at the end of a run."""
    lines = ["", "finished run"]
    if passes <= 1:
        lines.append(f"number of examples = {examples}")
    else:
        lines += [f"number of examples per pass = {examples // passes}", f"passes used = {passes}"]
    lines += [
        f"weighted example sum = {weight:.6f}",
        f"weighted label sum = {labels:.6f}",
        f"average loss = {loss}",
    ]
    if constant is not None:
        lines.append(f"best constant = {constant:.6f}")
        if constant_loss is not None:
            lines.append(f"best constant's loss = {constant_loss:.6f}")
    lines.append(f"total feature number = {features}")
    return "\n".join(lines) + "\n"
