"""What Vowpal Wabbit says on stdout about single records: malformed lines, odd labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from onlinestack.io.vw_arrays import BAD_LABEL, BAD_NUMBER
from onlinestack.io.vw_float import read_float
from onlinestack.io.vw_label import pieces_of
from onlinestack.io.vw_lines import odd_places
from onlinestack.vw.digits import short

__all__ = ["about_class_labels", "about_importance", "about_line"]

_EXPECTED = {
    "block": "'|',String,space, or EOL expected after",
    "feature": "'|',space, or EOL expected after",
    "multiplier": "Float expected after",
}
_NAN = {"space": ("namespace", 1), "value": ("feature", 0)}


def about_line(line: bytes, number: int, flags: int, classes: bool) -> Iterator[bytes]:
    r"""Yield what there is to say about a line whose flags are set.

    Parameters
    ----------
    line
        The line, without its LF.
    number
        Its number from 0, blank lines counted.
    flags
        What the parser found; the constants of ``io.vw_arrays``.
    classes
        Whether labels are class numbers.

    Examples
    --------
    >>> print(*map(bytes.decode, about_line(b"1 |a:1:2", 3, 8, False)), sep="\n")
    [warning] malformed example! '|',space, or EOL expected after : "|a:1"in Example #3: "|a:1:2"
    [warning] malformed example! '|' or EOL expected after : "|a:1"in Example #3: "|a:1:2"
    """
    line = line.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\r")
    text = np.frombuffer(bytearray(line + b"\n"), np.uint8)
    bar = line.find(b"|")
    bar = len(line) if bar < 0 else bar
    if flags & (BAD_LABEL | BAD_NUMBER):
        pieces, _ = pieces_of(line + b"\n", 0, bar)
        if flags & BAD_LABEL:
            words = b" ".join(line[first:last] for first, last in pieces)
            said = b"[error] Error: %d is too many tokens for a simple label: %s"
            yield said % (len(pieces), words)
        for first, last in () if flags & BAD_LABEL else pieces[int(classes) :]:
            value, used = read_float(text, first, last)
            if used == 0 or np.isnan(value):
                yield b"[warning] '%s' is not a good float, replacing with 0" % line[first:last]
    where = b'in Example #%d: "%s"' % (number, line[bar:])
    for kind, at in odd_places(text, bar, len(line)):
        if kind in _NAN:
            what, instead = _NAN[kind]
            said = b'[warning] Invalid %s value:"%s" read as NaN. Replacing with %d.'
            yield said % (what.encode(), line[at:], instead) + where
        else:
            said = b'[warning] malformed example! %s : "%s"'
            yield said % (_EXPECTED[kind].encode(), line[bar:at]) + where
            if kind != "multiplier":
                yield said % (b"'|' or EOL expected after", line[bar:at]) + where


def about_importance(weight: np.float32) -> bytes:
    """Return what there is to say about an importance below 0."""
    return (
        f"[warning] Example has an invalid importance weight ({short(float(weight))}); importance "
        "weights must be non-negative. Use 0 to hold an example out of training."
    ).encode()


def about_class_labels(
    labels: NDArray[np.float32], classes: int, indexing: float
) -> Iterator[bytes]:
    r"""Yield what there is to say about class labels that were learned, in order.

    Parameters
    ----------
    labels
        The labels.
    classes
        Number of classes.
    indexing
        The number of the first class, -1 where that is not known before the first label.

    Examples
    --------
    >>> print(*map(bytes.decode, about_class_labels(np.float32([1, 3, 0]), 3, -1)), sep="\n")
    [info] label 3 found -- labels are now considered 1-indexed.
    [warning] label 0 is not in {1,3}. This won't work for 1-indexed actions.
    """
    for y in labels[(labels <= 0) | (labels >= classes)].tolist():
        if indexing < 0:
            if y in (0, classes):
                indexing = int(y != 0)
                said = (
                    f"[info] label {y:.0f} found -- labels are now considered {indexing}-indexed."
                )
                yield said.encode()
        elif not indexing <= y < indexing + classes:
            first, last = int(indexing), int(indexing) + classes - 1
            said = f"[warning] label {y:.0f} is not in {{{first},{last}}}. This won't work for "
            yield f"{said}{first}-indexed actions.".encode()
