"""The grammar of Vowpal Wabbit text: from bytes of whole lines to labels, namespaces, features."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.io.vw_float import read_float
from onlinestack.kernel import array_at, kernel
from onlinestack.murmur import murmur, vw_hash

__all__ = [
    "BAD_BLOCK",
    "BAD_FEATURE",
    "BAD_LABEL",
    "BAD_NUMBER",
    "FATAL",
    "MULTICLASS",
    "SIMPLE",
    "Lines",
    "parse_at",
    "parse_lines",
]

SIMPLE = 0
MULTICLASS = 1

BAD_NUMBER = 1
"""Flag: a number of the label part is none, and was read as 0."""
BAD_LABEL = 2
"""Flag: too many tokens in the label part; the record counts as unlabelled."""
BAD_BLOCK = 4
"""Flag: a namespace without a name, or a multiplier that cannot be used as written."""
BAD_FEATURE = 8
"""Flag: the rest of the line was dropped, or a feature value NaN became 0."""
FATAL = 16
"""Flag: a multiclass label that Vowpal Wabbit refuses to go on with."""

_ZEROS = np.uint64(0x3030303030303030)
_HIGH = np.uint64(0xF0F0F0F0F0F0F0F0)
_LOW = np.uint64(0x0F0F0F0F0F0F0F0F)
_SIXES = np.uint64(0x0606060606060606)
_THREES = np.uint64(0x3333333333333333)
_PAIRS = np.uint64(0x000000FF000000FF)
_UPPER = np.uint64(0x000F424000000064)
_LOWER = np.uint64(0x0000271000000001)
_MARK = np.zeros(256, np.uint8)
_MARK[[9, 10, 13, 32, 58, 124]] = 1


class Lines(NamedTuple):
    """Room for the records of a stretch of text, filled by ``parse_lines``.

    The first axis of the first nine is the record, that of ``letter``, ``first``, ``last`` the
    group (records ``group[i]`` to ``group[i + 1]``), that of the rest the feature. ``seen`` and
    ``marks`` are scratch.
    """

    label: NDArray[np.float32]
    weight: NDArray[np.float32]
    initial: NDArray[np.float32]
    line: NDArray[np.int64]
    offset: NDArray[np.int64]
    tag_start: NDArray[np.int64]
    tag_stop: NDArray[np.int64]
    flags: NDArray[np.uint8]
    group: NDArray[np.int64]
    letter: NDArray[np.uint8]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    hashes: NDArray[np.uint32]
    values: NDArray[np.float32]
    names: NDArray[np.int64]
    seen: NDArray[np.int64]
    marks: NDArray[np.int32]

    @classmethod
    def room(cls, size: int, lines: int, blocks: int, *, names: bool = False) -> Lines:
        """Return arrays for a parse of ``size`` bytes; pages never written to cost nothing.

        A feature takes at least two bytes and a group one; there is twice that room, so that
        a record's groups can be brought in order behind it.
        """
        return cls(
            label=np.empty(lines, np.float32),
            weight=np.empty(lines, np.float32),
            initial=np.empty(lines, np.float32),
            line=np.empty(lines, np.int64),
            offset=np.empty(lines, np.int64),
            tag_start=np.empty(lines, np.int64),
            tag_stop=np.empty(lines, np.int64),
            flags=np.empty(lines, np.uint8),
            group=np.empty(lines + 1, np.int64),
            letter=np.empty(2 * blocks, np.uint8),
            first=np.empty(2 * blocks, np.int64),
            last=np.empty(2 * blocks, np.int64),
            hashes=np.empty(size, np.uint32),
            values=np.empty(size, np.float32),
            names=np.empty((size if names else 0, 6), np.int64),
            seen=np.empty(256, np.int64),
            marks=np.empty(size + 1, np.int32),
        )


def _plain(text: Any, seed: int, every: int, redefine: Any, mode: int, names: int, out: Any) -> Any:
    """Parse whole lines of Vowpal Wabbit text, as its version 9.11 does.

    Parameters
    ----------
    text
        ``uint8[size]``: lines, each ended by LF.
    seed
        ``--hash_seed``: the seed of namespace names.
    every
        1 for ``--hash all``, 0 for ``--hash strings``.
    redefine
        ``uint8[256]``: the namespace letter to use for the first byte of a namespace as written.
    mode
        ``SIMPLE`` or ``MULTICLASS``: how labels are read.
    names
        1 to fill ``out.names`` with the extents of namespace, feature and text value.
    out
        A ``Lines`` with room for everything; its ``group`` needs one more than there are lines.
        Lines are numbered from 0, blank ones counted; offsets are those of the lines' first
        bytes; a record without a tag has an empty extent.

    Returns
    -------
    ``(records, groups, features, lines)``: how much of ``out`` is filled; lines with blank ones.
    """
    records = groups = features = 0
    out.group[0] = 0
    data = bytes(text)
    at = 0
    for line, whole in enumerate(data.split(b"\n")[:-1]):
        start, stop = at, at + len(whole)
        at = stop + 1
        out_offset = start
        if data[start:stop].startswith(b"\xef\xbb\xbf"):
            start += 3
        if data[start:stop].endswith(b"\r"):
            stop -= 1
        if start == stop:
            continue
        bar = data.find(b"|", start, stop)
        bar = stop if bar < 0 else bar
        label, weight, initial, tag, flags = _plain_label(text, data, start, bar, mode)
        found, more = _plain_blocks(text, data, bar, stop, (seed, every, redefine))
        out.label[records] = label
        out.weight[records] = weight
        out.initial[records] = initial
        out.line[records] = line
        out.offset[records] = out_offset
        out.tag_start[records], out.tag_stop[records] = tag
        out.flags[records] = flags | more
        for letter, members in found.items():
            out.letter[groups] = letter
            out.first[groups] = features
            for index, value, extents in members:
                out.hashes[features] = index
                out.values[features] = value
                if names:
                    out.names[features] = extents
                features += 1
            out.last[groups] = features
            groups += 1
        records += 1
        out.group[records] = groups
    return records, groups, features, len(data.split(b"\n")) - 1


def _plain_label(text: Any, data: bytes, start: int, stop: int, mode: int) -> Any:
    """Read the label part: label, weight, initial, extent of the tag, flags."""
    tab = data.find(b"\t", start, stop)
    start = start if tab < 0 else tab + 1
    pieces: list[tuple[int, int]] = []
    for piece in data[start:stop].split(b" "):
        if piece:
            pieces.append((start, start + len(piece)))
        start += len(piece) + 1
    tag = (0, 0)
    if pieces and (pieces[-1][1] == stop or data[pieces[-1][0]] == 39):
        first, last = pieces.pop()
        tag = (first + (data[first] == 39), last)
    flags = 0
    known = [np.float32(np.nan), np.float32(1), np.float32(0)]
    if len(pieces) > (3 if mode == SIMPLE else 2):
        return *known, tag, BAD_LABEL if mode == SIMPLE else BAD_LABEL | FATAL
    for i, (first, last) in enumerate(pieces):
        if mode == MULTICLASS and i == 0:
            digits = data[first:last].lstrip(b"\t\n\v\f\r").split(b"\0")[0]
            sign = -1 if digits[:1] == b"-" else 1
            digits = digits[1:] if digits[:1] in (b"-", b"+") else digits
            if not digits.isdigit():
                return *known, tag, BAD_LABEL | FATAL
            number = sign * int(digits.lstrip(b"0")[:20] or b"0")
            number = min(max(number, -(2**63)), 2**63 - 1) % 2**32
            known[0] = np.float32(np.nan if number == 2**32 - 1 else number)
            continue
        value, used = read_float(text, first, last)
        if used == 0 or np.isnan(value):
            value = 0
            flags = BAD_NUMBER
        known[i] = np.float32(value)
    if mode == MULTICLASS and known[1] <= 0:
        known[1] = np.float32(0)
    return *known, tag, flags


def _plain_blocks(text: Any, data: bytes, at: int, stop: int, how: Any) -> Any:
    """Read the blocks from a bar on: features by letter in order of appearance, and flags."""
    seed, every, redefine = how

    def hashed(start: int, stop: int, seed: Any) -> Any:
        hash_ = murmur if every else vw_hash
        return np.uint32(hash_(text, start, stop, np.uint32(seed)))

    def name_end(at: int) -> int:
        while at < stop and data[at] not in b" :\t|\r":
            at += 1
        return at

    found: dict[int, list[Any]] = {}
    flags = 0
    while at < stop and data[at] == 124:
        at += 1
        counted, multiplier = 0, np.float32(1)
        space = (at, name_end(at))
        if space[1] > at:
            letter = int(redefine[data[at]])
            base = hashed(*space, seed)
            at = space[1]
            if at < stop and data[at] == 58:
                at += 1
                value, used = read_float(text, at, stop)
                multiplier = np.float32(value)
                if at + used >= stop:
                    flags |= BAD_BLOCK
                if np.isnan(multiplier):
                    multiplier = np.float32(1)
                    flags |= BAD_BLOCK
                at += used
        elif at < stop and data[at] == 58:
            return found, flags | BAD_BLOCK
        else:
            letter = 32
            base = np.uint32(0) if seed == 0 else murmur(text, at, at, np.uint32(seed))
        while at < stop and data[at] in b" \t":
            at += 1
            if at == stop or data[at] in b" \t|\r":
                continue
            name, word = (at, name_end(at)), (0, 0)
            at = name[1]
            value = multiplier
            if at < stop and data[at] == 58:
                at += 1
                number, used = read_float(text, at, stop)
                at += used
                if used:
                    if np.isnan(number):
                        number = 0
                        flags |= BAD_FEATURE
                    with np.errstate(all="ignore"):
                        value = multiplier * np.float32(number)
                else:
                    value = np.float32(1)
                    while at < stop and data[at] in b" \t\r\n":
                        at += 1
                    begin = at
                    while at < stop and data[at] not in b" \t\r\n":
                        at += 1
                    word = (begin, at)
            if word[1] > word[0]:
                index = hashed(*word, hashed(*name, base))
            elif name[1] > name[0]:
                index = hashed(*name, base)
            else:
                index = np.uint32((int(base) + counted) % 2**32)
                counted += 1
            if value != 0:
                found.setdefault(letter, []).append((index, value, (*space, *name, *word)))
        if at < stop and data[at] not in b"|\r":
            flags |= BAD_FEATURE
    return found, flags


@kernel()
def _is_blank(c: Any) -> Any:
    """Tell whether a byte ends a text value."""
    return c == 32 or c == 9 or c == 10 or c == 13


@kernel()
def _read_short(text: Any, start: Any, stop: Any) -> Any:
    """Read an integer of one to seven digits that ends before a blank or LF at ``stop``.

    Eight digits are read at once, in pairs of pairs of pairs, without a branch that depends on
    their number. For anything else the count of bytes is 0, and ``read_float`` must read it.
    """
    negative = text[start] == 45
    begin = start + 1 if negative else start
    digits = stop - begin
    end = text[stop]
    if digits < 1 or digits > 7 or stop < 8 or (end != 32 and end != 10 and end != 9):
        return np.float32(0), 0
    x = array_at(text.ctypes.data + stop - 8, 1, np.uint64)[0]
    others = (np.uint64(1) << np.uint64(64 - 8 * digits)) - np.uint64(1)
    x = (x & ~others) | (_ZEROS & others)
    if x & _HIGH | (x + _SIXES & _HIGH) >> np.uint64(4) != _THREES:
        return np.float32(0), 0
    x = (x & _LOW) * np.uint64(10) + ((x & _LOW) >> np.uint64(8))
    x = (x & _PAIRS) * _UPPER + (x >> np.uint64(16) & _PAIRS) * _LOWER
    value = np.float32(np.int64(x >> np.uint64(32)))
    return -value if negative else value, stop - start


@kernel()
def _read_class(text: Any, at: Any, stop: Any) -> Any:
    """Read a class number as the C library's strtol: the number, NaN for "none", and whether."""
    while at < stop and 9 <= text[at] <= 13:
        at += 1
    negative = at < stop and text[at] == 45
    if at < stop and (text[at] == 45 or text[at] == 43):
        at += 1
    begin = at
    number = 0
    over = False
    while at < stop and 48 <= text[at] <= 57:
        digit = text[at] - 48
        if number > (2**63 - 1 - digit) // 10:
            over = True
        else:
            number = number * 10 + digit
        at += 1
    if at == begin or (at < stop and text[at] != 0):
        return np.float32(np.nan), False
    if over:
        number = 0 if negative else -1
    elif negative:
        number = -number
    number &= 2**32 - 1
    return np.float32(np.nan) if number == 2**32 - 1 else np.float32(number), True


@kernel()
def _read_label(text: Any, at: Any, stop: Any, mode: Any) -> Any:
    """Read the label part, keeping the extents of the first three pieces and the last."""
    for i in range(at, stop):
        if text[i] == 9:
            at = i + 1
            break
    count = 0
    a0 = b0 = a1 = b1 = a2 = b2 = first = last = 0
    while at < stop:
        if text[at] == 32:
            at += 1
            continue
        first = at
        while at < stop and text[at] != 32:
            at += 1
        last = at
        if count == 0:
            a0, b0 = first, last
        elif count == 1:
            a1, b1 = first, last
        elif count == 2:
            a2, b2 = first, last
        count += 1
    label, weight, initial = np.float32(np.nan), np.float32(1), np.float32(0)
    tag_start = tag_stop = 0
    if count > 0 and (last == stop or text[first] == 39):
        tag_start, tag_stop = first, last
        if text[first] == 39:
            tag_start += 1
        count -= 1
    flags = 0
    if mode == MULTICLASS:
        if count > 2:
            return label, weight, initial, tag_start, tag_stop, BAD_LABEL | FATAL
        if count > 0:
            label, good = _read_class(text, a0, b0)
            if not good:
                return label, weight, initial, tag_start, tag_stop, BAD_LABEL | FATAL
    elif count > 3:
        return label, weight, initial, tag_start, tag_stop, BAD_LABEL
    elif count > 0:
        label, used = read_float(text, a0, b0)
        if used == 0 or np.isnan(label):
            label = np.float32(0)
            flags = BAD_NUMBER
    if count > 1:
        weight, used = read_float(text, a1, b1)
        if used == 0 or np.isnan(weight):
            weight = np.float32(0)
            flags = BAD_NUMBER
        if mode == MULTICLASS and weight <= 0:
            weight = np.float32(0)
    if count > 2:
        initial, used = read_float(text, a2, b2)
        if used == 0 or np.isnan(initial):
            initial = np.float32(0)
            flags = BAD_NUMBER
    return label, weight, initial, tag_start, tag_stop, flags


@kernel()
def _copy(out: Any, source: Any, target: Any, names: Any) -> Any:
    """Copy one feature."""
    out.hashes[target] = out.hashes[source]
    out.values[target] = out.values[source]
    if names:
        for m in range(6):
            out.names[target, m] = out.names[source, m]


@kernel()
def _gather(out: Any, begin: Any, groups: Any, low: Any, features: Any, names: Any) -> Any:
    """Bring a record's groups of one letter together; return where its groups now end.

    The record is first copied behind itself, where ``Lines.room`` keeps as much room again.
    """
    behind = features - low
    for k in range(low, features):
        _copy(out, k, k + behind, names)
    more = groups - begin
    for i in range(begin, groups):
        out.letter[i + more] = out.letter[i]
        out.first[i + more] = out.first[i] + behind
        out.last[i + more] = out.last[i] + behind
    filled, kept = low, begin
    for i in range(groups, groups + more):
        if out.last[i] < 0:
            continue
        letter = out.letter[i]
        out.letter[kept] = letter
        out.first[kept] = filled
        for j in range(i, groups + more):
            if out.letter[j] == letter and out.last[j] >= 0:
                for k in range(out.first[j], out.last[j]):
                    _copy(out, k, filled, names)
                    filled += 1
                out.last[j] = -1
        out.last[kept] = filled
        kept += 1
    return kept


@kernel()
def _mark(text: Any, marks: Any) -> Any:
    """Write where the bytes lie that end a name or a line, without a branch a byte."""
    count = 0
    for i in range(len(text)):
        marks[count] = i
        count += _MARK[text[i]]
    return count


@kernel()
def _line_stop(text: Any, at: Any) -> Any:
    """Return where the line around ``at`` stops: before LF and one CR."""
    stop = at
    while text[stop] != 10:
        stop += 1
    return stop - 1 if stop > at and text[stop - 1] == 13 else stop


@kernel(_plain)
def parse_lines(
    text: Any, seed: Any, every: Any, redefine: Any, mode: Any, names: Any, out: Any
) -> Any:
    """Mark all ends first, so that names need no search; write features as they come.

    At each name, ``marks[k]`` is the first end not before ``at``. LF is an end, so only numbers
    outside the common form, integers of up to seven digits, ask where the line stops.
    """
    marks, seen = out.marks, out.seen
    _mark(text, marks)
    for i in range(256):
        seen[i] = -1
    records = groups = features = lines = 0
    out.group[0] = 0
    at = k = 0
    size = len(text)
    while at < size:
        offset = at
        if text[at] == 0xEF and at + 3 < size and text[at + 1] == 0xBB and text[at + 2] == 0xBF:
            at += 3
        while text[marks[k]] != 124 and text[marks[k]] != 10:
            k += 1
        bar = int(marks[k])
        stop = -1
        if text[bar] == 10:
            if bar > at and text[bar - 1] == 13:
                bar -= 1
            if bar == at:
                at = int(marks[k]) + 1
                k += 1
                lines += 1
                continue
        label, weight, initial, tag_start, tag_stop, flags = _read_label(text, at, bar, mode)
        low, begin = features, groups
        scattered = False
        at = bar
        while text[at] == 124:
            at += 1
            k += 1
            counted = 0
            multiplier = np.float32(1)
            block = features
            space_start = at
            space_stop = int(marks[k])
            if space_stop > space_start:
                letter = redefine[text[space_start]]
                if every:
                    base = murmur(text, space_start, space_stop, np.uint32(seed))
                else:
                    base = vw_hash(text, space_start, space_stop, np.uint32(seed))
                at = space_stop
                if text[at] == 58:
                    at += 1
                    if stop < 0:
                        stop = _line_stop(text, at)
                    multiplier, used = read_float(text, at, stop)
                    if at + used >= stop:
                        flags |= BAD_BLOCK
                    if np.isnan(multiplier):
                        multiplier = np.float32(1)
                        flags |= BAD_BLOCK
                    at += used
                    while marks[k] < at:
                        k += 1
            elif text[at] == 58:
                flags |= BAD_BLOCK
                break
            else:
                letter = np.uint8(32)
                base = np.uint32(0)
                if seed != 0:
                    base = murmur(text, at, at, np.uint32(seed))
            while text[at] == 32 or text[at] == 9:
                at += 1
                k += 1
                name_start = at
                name_stop = int(marks[k])
                word_start = word_stop = 0
                value = multiplier
                at = name_stop
                if text[at] == 58:
                    at += 1
                    number, used = _read_short(text, at, int(marks[k + 1]))
                    if used == 0:
                        if stop < 0:
                            stop = _line_stop(text, at)
                        number, used = read_float(text, at, stop)
                    at += used
                    if used > 0:
                        if np.isnan(number):
                            number = np.float32(0)
                            flags |= BAD_FEATURE
                        value = multiplier * number
                    else:
                        value = np.float32(1)
                        while at < stop and _is_blank(text[at]):
                            at += 1
                        word_start = at
                        while at < stop and not _is_blank(text[at]):
                            at += 1
                        word_stop = at
                    while marks[k] < at:
                        k += 1
                elif name_stop == name_start:
                    continue
                if name_stop > name_start or word_stop > word_start:
                    if every or (text[name_start] > 57 and text[name_stop - 1] > 32):
                        index = murmur(text, name_start, name_stop, base)
                    else:
                        index = vw_hash(text, name_start, name_stop, base)
                    if word_stop > word_start:
                        if every:
                            index = murmur(text, word_start, word_stop, index)
                        else:
                            index = vw_hash(text, word_start, word_stop, index)
                else:
                    index = np.uint32(base + counted)
                    counted += 1
                if value != 0:
                    out.hashes[features] = index
                    out.values[features] = value
                    if names:
                        out.names[features, 0] = space_start
                        out.names[features, 1] = space_stop
                        out.names[features, 2] = name_start
                        out.names[features, 3] = name_stop
                        out.names[features, 4] = word_start
                        out.names[features, 5] = word_stop
                    features += 1
            if features > block:
                if groups > begin and out.letter[groups - 1] == letter:
                    out.last[groups - 1] = features
                else:
                    scattered |= seen[letter] == records
                    seen[letter] = records
                    out.letter[groups] = letter
                    out.first[groups] = block
                    out.last[groups] = features
                    groups += 1
            if text[at] != 124 and text[at] != 13 and text[at] != 10:
                flags |= BAD_FEATURE
        while text[marks[k]] != 10:
            k += 1
        if scattered:
            groups = _gather(out, begin, groups, low, features, names)
        out.label[records] = label
        out.weight[records] = weight
        out.initial[records] = initial
        out.line[records] = lines
        out.offset[records] = offset
        out.tag_start[records] = tag_start
        out.tag_stop[records] = tag_stop
        out.flags[records] = flags
        records += 1
        out.group[records] = groups
        lines += 1
        at = int(marks[k]) + 1
        k += 1
    return records, groups, features, lines


def _plain_at(
    address: int, size: int, seed: int, every: int, redefine: Any, mode: int, names: int, out: Any
) -> Any:
    """Parse the ``size`` bytes of whole lines at an address; see ``parse_lines``."""
    text = np.frombuffer(bytearray(ctypes.string_at(address, size)), np.uint8)
    return parse_lines(text, seed, every, redefine, mode, names, out)


@kernel(_plain_at)
def parse_at(
    address: Any, size: Any, seed: Any, every: Any, redefine: Any, mode: Any, names: Any, out: Any
) -> Any:
    """Read where the bytes lie; bytes objects are read-only, another type of array to numba."""
    text = array_at(address, size, np.uint8)
    return parse_lines(text, seed, every, redefine, mode, names, out)
