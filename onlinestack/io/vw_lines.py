"""The grammar of Vowpal Wabbit text: from bytes of whole lines to labels, namespaces, features."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from onlinestack.io.vw_arrays import BAD_BLOCK, BAD_FEATURE, gather
from onlinestack.io.vw_float import read_float, read_short
from onlinestack.io.vw_label import read_label
from onlinestack.kernel import array_at, kernel
from onlinestack.murmur import murmur, vw_hash

__all__ = ["odd_places", "parse_at", "parse_lines"]

_MARK = np.zeros(256, np.uint8)
_MARK[[9, 10, 13, 32, 58, 124]] = 1


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
        label, weight, initial, tag_start, tag_stop, flags = read_label(text, start, bar, mode)
        found, odd = _plain_blocks(text, data, bar, stop, (seed, every, redefine))
        more = 0
        for kind, _ in odd:
            more |= BAD_FEATURE if kind in ("feature", "value") else BAD_BLOCK
        out.label[records] = label
        out.weight[records] = weight
        out.initial[records] = initial
        out.line[records] = line
        out.offset[records] = out_offset
        out.tag_start[records] = tag_start
        out.tag_stop[records] = tag_stop
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


def _plain_blocks(text: Any, data: bytes, at: int, stop: int, how: Any) -> Any:
    """Read the blocks from a bar on: features by letter in order of appearance, and what is odd."""
    seed, every, redefine = how

    def hashed(start: int, stop: int, seed: Any) -> Any:
        hash_ = murmur if every else vw_hash
        return np.uint32(hash_(text, start, stop, np.uint32(seed)))

    def name_end(at: int) -> int:
        while at < stop and data[at] not in b" :\t|\r":
            at += 1
        return at

    found: dict[int, list[Any]] = {}
    odd: list[tuple[str, int]] = []
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
                    odd.append(("multiplier", at))
                if np.isnan(multiplier):
                    multiplier = np.float32(1)
                    odd.append(("space", at))
                at += used
        elif at < stop and data[at] == 58:
            return found, [*odd, ("block", at)]
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
                        odd.append(("value", at - used))
                    with np.errstate(all="ignore"):
                        value = multiplier * np.float32(number)
                else:
                    value = np.float32(1)
                    while at < stop and data[at] in b" \t\r\n":
                        at += 1
                    begin = at
                    while at < stop and data[at] not in b" \t\r\n":
                        at += 1
                    word = (begin, at) if at > begin else (0, 0)
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
            odd.append(("feature", at))
    return found, odd


def odd_places(text: Any, bar: int, stop: int) -> list[tuple[str, int]]:
    r"""Return what is malformed in the features of a line, and where.

    It is for the few lines about which something is to be said.

    Parameters
    ----------
    text
        ``uint8[size]``: the line, ended by LF.
    bar, stop
        Where its first bar is, and where it ends.

    Returns
    -------
    Kinds and places in order: ``"multiplier"``, the line ends with a multiplier; ``"space"`` and
    ``"value"``, a multiplier or value is not a number; ``"block"`` and ``"feature"``, the rest of
    the line is dropped, because it goes on as neither does.

    Examples
    --------
    >>> odd_places(np.frombuffer(bytearray(b"|f a:nan b:1:2\n"), np.uint8), 0, 14)
    [('value', 5), ('feature', 12)]
    """
    as_written = np.arange(256, dtype=np.uint8)
    return list(_plain_blocks(text, bytes(text), bar, stop, (0, 1, as_written))[1])


@kernel()
def _is_blank(c: Any) -> Any:
    """Tell whether a byte ends a text value."""
    return c == 32 or c == 9 or c == 10 or c == 13


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


@kernel()
def _read_common(
    text: Any,
    marks: Any,
    at: Any,
    k: Any,
    base: Any,
    multiplier: Any,
    hashes: Any,
    values: Any,
    features: Any,
) -> Any:
    """Read features in common form, as long as they are: a name, perhaps with a short number.

    The name begins with no digit and nothing of it is trimmed. Returns where the rest begins,
    the mark that is there, and the number of features. A loop of its own, because it keeps in
    registers what the whole grammar could not.
    """
    while text[at] == 32:
        start = at + 1
        stop = int(marks[k + 1])
        if stop == start or text[start] <= 57 or text[stop - 1] <= 32:
            break
        value = multiplier
        behind = stop
        k += 1
        if text[stop] == 58:
            behind = int(marks[k + 1])
            number, used = read_short(text, stop + 1, behind)
            if used == 0:
                k -= 1
                break
            value = multiplier * number
            k += 1
        if value != 0:
            hashes[features] = murmur(text, start, stop, base)
            values[features] = value
            features += 1
        at = behind
    return at, k, features


@kernel(_plain)
def parse_lines(
    text: Any, seed: Any, every: Any, redefine: Any, mode: Any, names: Any, out: Any
) -> Any:
    """Mark all ends first, so that names need no search; write features as they come.

    ``marks[k]`` is the first end not before ``at``. LF is one, so that nothing but odd numbers
    asks where the line stops.
    """
    marks, seen = out.marks, out.seen
    _mark(text, marks)
    for i in range(256):
        seen[i] = -1
    records = groups = features = lines = 0
    out.group[0] = 0
    at = k = 0
    size = len(text)
    plain = not names and not every
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
        label, weight, initial, tag_start, tag_stop, flags = read_label(text, at, bar, mode)
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
                if plain:
                    at, k, features = _read_common(
                        text, marks, at, k, base, multiplier, out.hashes, out.values, features
                    )
                    if text[at] != 32 and text[at] != 9:
                        break
                at += 1
                k += 1
                name_start = at
                name_stop = int(marks[k])
                word_start = word_stop = 0
                value = multiplier
                at = name_stop
                if text[at] == 58:
                    at += 1
                    end = int(marks[k + 1])
                    c = text[end]
                    if end == at or text[at] <= 13 or (c == 13 and text[end + 1] != 10):
                        c = np.uint8(58)
                    if c == 58 or c == 124:
                        # The C library may read on, at most up to where the line stops.
                        if stop < 0:
                            stop = _line_stop(text, at)
                        end = stop
                    number, used = read_float(text, at, end)
                    at += used
                    if used > 0:
                        if np.isnan(number):
                            number = np.float32(0)
                            flags |= BAD_FEATURE
                        value = multiplier * number
                    else:
                        value = np.float32(1)
                        while text[at] == 32 or text[at] == 9 or text[at] == 13:
                            at += 1
                        word_start = at
                        while not _is_blank(text[at]):
                            at += 1
                        word_stop = at
                        if word_start == word_stop:
                            word_start = word_stop = 0
                    while marks[k] < at:
                        k += 1
                elif name_stop == name_start:
                    continue
                if name_stop > name_start or word_stop > word_start:
                    if every:
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
            groups = gather(out, begin, groups, low, features, names)
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
