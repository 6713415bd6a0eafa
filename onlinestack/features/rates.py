"""Decayed counts of clicks in a hashed table, and the walk that turns them into statistics.

A *slot* is one cache line of the table: for each of up to seven half-lives the decayed weight of
clicks and that of the other records, and the clock at which they were last brought up to date.
Values whose hashes lead to one slot share its counts; that is the price of a bounded table. A
slot counts a record once, however many of its values lead there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import PREDICT
from onlinestack.kernel import kernel, prefetch

__all__ = [
    "LANES",
    "LINE",
    "MOST",
    "Book",
    "book_of",
    "fade_tables",
    "log_fast",
    "scale_of",
    "walk",
]

LINE = 16
"""Float32 numbers a slot takes: 64 bytes, a cache line."""
MOST = 7
"""Most half-lives a slot has room for."""
LANES = 8
"""Numbers a row of half-lives takes, so that rows lie on borders of 32 bytes."""
REST = LANES
"""Place within a slot where the weights of records without a click begin."""
STAMP = LINE - 1
"""Place of a slot's clock, when the slot is read as sixteen uint32."""

FADES = 256
FURTHEST = FADES**3 - 1
SMALLEST_FADE = 2.0**-20
GOLDEN = np.uint64(0x9E3779B1)
LOW32 = np.uint64(0xFFFFFFFF)
WRAP = 2**32 - 1
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
FULL = np.float32(2.0**23)
FLOOR = np.float32(2.0**-60)
CLIP = np.float32(4)

ROOT_HALF = np.int32(0x3F3504F3)
MANTISSA = np.int32(0x007FFFFF)
MANTISSA_BITS = np.int32(23)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
P0, P1, P2, P3, P4, P5, P6, P7, P8 = (
    np.float32(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)
CLICKS, OTHERS, FADE, MORE, PLUS, PLUS_OTHERS, ODDS, OUT = range(8)
"""Rows of `Book.room`."""


class Book(NamedTuple):
    """What the walk reads and writes beside the block.

    Parameters
    ----------
    counts
        ``float32[(slots + 1) * 16]``: of each slot, clicks at 0 to 6 and other records at 8 to 14,
        a half-life each. The last slot is that of all records.
    words, stamps
        The same memory as ``int64`` and as ``uint32``: the clock is the last of a slot's sixteen.
    fades
        ``float32[3, 256, 8]``: factors of gaps of 0 to 255 records, 256s and 65536s of records.
    fade_words
        The same memory as ``int64[3, 1024]``.
    shift
        32 less the binary logarithm of the number of slots.
    lives
        Number of half-lives.
    longest
        Which of them is the longest.
    prior
        ``float32``: weight of the overall rate in every other rate.
    clock
        ``int64[1]``: labelled records learned.
    total
        ``float64[1]``: weight of the records that the moments have seen.
    mean, spread
        ``float64[width]``: running means, and weighted sums of squared deviations.
    centre, scale
        ``float32[width]``: the mean, and one over the standard deviation or 0.
    room
        ``float32[8, size]``, size at least 8 for each feature of a record and 8 more, and
        ``width + 8``: to work in.
    room_words
        The same memory as ``int64``.
    seen
        ``float32[size / 8]``: to work in.
    places
        ``int64[size / 8]``: to work in.
    """

    counts: NDArray[np.float32]
    words: NDArray[np.int64]
    stamps: NDArray[np.uint32]
    fades: NDArray[np.float32]
    fade_words: NDArray[np.int64]
    shift: int
    lives: int
    longest: int
    prior: Any
    clock: NDArray[np.int64]
    total: NDArray[np.float64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    room: NDArray[np.float32]
    room_words: NDArray[np.int64]
    seen: NDArray[np.float32]
    places: NDArray[np.int64]

    def with_room(self, features: int) -> Book:
        """Return the same book with room for records of so many features."""
        size = max((features + 1) * LANES, len(self.mean) // LANES * LANES + 2 * LANES)
        room = np.ones((8, size), np.float32)
        return self._replace(
            room=room,
            room_words=room.view(np.int64),
            seen=np.ones(size // LANES, np.float32),
            places=np.zeros(size // LANES, np.int64),
        )


def book_of(width: int, half_lives: tuple[float, ...], bits: int, prior: float) -> Book:
    """Return an empty book for so many statistics."""
    size = (2**bits + 1) * LINE
    memory = np.zeros(size + LINE, np.float32)
    skip = -memory.ctypes.data // memory.itemsize % LINE
    counts = memory[skip : skip + size]
    fades = fade_tables(half_lives)
    book = Book(
        counts,
        counts.view(np.int64),
        counts.view(np.uint32),
        fades,
        fades.view(np.int64).reshape(3, -1),
        32 - bits,
        len(half_lives),
        int(np.argmax(half_lives)),
        np.float32(prior),
        np.zeros(1, np.int64),
        np.zeros(1),
        np.zeros(width),
        np.zeros(width),
        np.zeros(width, np.float32),
        np.zeros(width, np.float32),
        *(np.empty(0) for _ in range(4)),  # type: ignore[arg-type]  # replaced at once
    )
    return book.with_room(0)


def fade_tables(half_lives: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the factors ``2 ** (-gap / half-life)`` as three tables whose entries are multiplied.

    Factors below 2**-20 are 0, so that no product is so small that arithmetic becomes slow.

    Parameters
    ----------
    half_lives
        In records, at most seven; the tables have room for eight, the rest is 0.

    Examples
    --------
    >>> fade_tables((4.0, 256.0))[1, 2, :3].tolist()
    [0.0, 0.25, 0.0]
    """
    gaps = np.arange(FADES)[None, :, None] * np.array([1.0, 256.0, 65536.0])[:, None, None]
    factors = np.exp2(-gaps / np.array(half_lives))
    tables = np.zeros((3, FADES, LANES), np.float32)
    tables[:, :, : len(half_lives)] = np.where(factors < SMALLEST_FADE, 0.0, factors)
    return tables


@kernel()
def log_fast(x: Any) -> Any:
    """Return the natural logarithm of a positive, normal float32 within 2e-7 of its size.

    Without branches or calls, so that a loop over it works on many numbers at once. The number is
    split into ``2**e * m`` with m about 1, and ``log m`` is a polynomial in ``m - 1``, as in
    the Cephes library (Moshier 1989). Exactly 0 at 1.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(log_fast(np.float32(10))), 6)
    2.302585
    """
    bits = np.int32(np.float32(x).view(np.int32) - ROOT_HALF)
    e = np.float32(np.int32(bits >> MANTISSA_BITS))
    f = np.int32((bits & MANTISSA) + ROOT_HALF).view(np.float32) - ONE
    z = f * f
    y = P0 * f + P1
    y = y * f + P2
    y = y * f + P3
    y = y * f + P4
    y = y * f + P5
    y = y * f + P6
    y = y * f + P7
    y = y * f + P8
    y = y * f * z + e * LN2_LOW - HALF * z
    return f + y + e * LN2_HIGH


@kernel()
def slot_of(hashed: Any, shift: Any) -> Any:
    """Return the first place of a feature's slot in the table of counts."""
    mixed = (np.uint64(hashed) * GOLDEN) & LOW32
    return np.int64((mixed >> np.uint64(shift)) * np.uint64(LINE))


def _faded(book: Book, at: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the counts of a slot as they are at present: clicks, and other records."""
    gap = min((int(book.clock[0]) - int(book.stamps[at + STAMP])) & WRAP, FURTHEST)
    low, middle, high = gap & 255, gap >> 8 & 255, gap >> 16
    fade = (book.fades[0, low] * book.fades[2, high] * book.fades[1, middle])[: book.lives]
    clicks, others = (book.counts[at + half :][: book.lives] for half in (0, REST))
    return clicks * fade, others * fade


def _logs(odds: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.array([log_fast(each) for each in odds], np.float32)


def _walk_plain(
    op: Any,
    tape_row: Any,
    label: Any,
    weight: Any,
    index: Any,
    opens: Any,
    closes: Any,
    table: Any,
    first: int,
    standard: Any,
    book: Book,
) -> None:
    """Take the steps of a tape: write the statistics of rows predicted, count rows learned.

    The overall rate at a half-life is ``p = (K + 1/2) / (N + 1)``, the rate of a value is
    ``(k + m p) / (n + m)``. Counts above 2**23 are halved (float32 could not count on), those
    below 2**-60 are 0 (arithmetic would become slow).

    Parameters
    ----------
    op, tape_row
        The tape.
    label, weight
        ``float32[n]``: a label above 0 is a click.
    index, opens, closes
        The pool and where each field's features lie in it.
    table
        ``float32[n, t]``: statistics are written to the columns from ``first`` on; a row learned
        tells there what it was served.
    standard
        ``float32[n, width]``: the same, standardised by the moments of rows learned before.
    book
        Counts and moments.
    """
    fields, lives, counts = opens.shape[1], book.lives, book.counts
    width, overall = len(book.mean), len(counts) - LINE
    for action, r in zip(op, tape_row, strict=True):
        served = table[r, first : first + width]
        slots = [
            [int(slot_of(hashed, book.shift)) for hashed in index[opens[r, f] : closes[r, f]]]
            for f in range(fields)
        ]
        if action == PREDICT:
            clicks, others = _faded(book, overall)
            clicks, others = clicks + HALF, others + HALF
            both = clicks + others
            plus, plus_others = book.prior * (clicks / both), book.prior * (others / both)
            logits = _logs(clicks / others)
            served[fields * lives : (fields + 1) * lives] = logits
            for f in range(fields):
                sums, seen = np.zeros(lives, np.float32), ZERO
                for at in slots[f]:
                    clicks, others = _faded(book, at)
                    sums += _logs((clicks + plus) / (others + plus_others))
                    seen += _logs(clicks + others + ONE)[book.longest]
                share = ONE / np.float32(max(len(slots[f]), 1))
                served[f * lives : (f + 1) * lives] = sums * share if slots[f] else logits
                served[(fields + 1) * lives + f] = seen * share
            standard[r] = np.clip((served - book.centre) * book.scale, -CLIP, CLIP)
            continue
        if weight[r] > ZERO:
            w = min(weight[r], FULL)
            clicked = label[r] > ZERO
            for at in {overall, *(at for field in slots for at in field)}:
                clicks, others = _faded(book, at)
                clicks += w if clicked else ZERO
                others += ZERO if clicked else w
                part = np.where(clicks + others > FULL, HALF, ONE)
                counts[at:][:lives] = np.where(clicks > FLOOR, clicks * part, ZERO)
                counts[at + REST :][:lives] = np.where(others > FLOOR, others * part, ZERO)
                book.stamps[at + STAMP] = int(book.clock[0]) & WRAP
            book.total[0] += np.float64(w)
            off = served.astype(np.float64) - book.mean
            book.mean[:] += off * (np.float64(w) / book.total[0])
            book.spread[:] += np.float64(w) * off * (served - book.mean)
            book.centre[:] = book.mean
            book.scale[:] = scale_of(book.spread, book.total[0])
        book.clock[0] += 1


def scale_of(spread: NDArray[np.float64], total: float) -> NDArray[np.float32]:
    """Return one over the standard deviation, 0 where that is 0."""
    variance = (spread * (1.0 / total)).astype(np.float32)
    with np.errstate(divide="ignore"):
        return np.where(variance > ZERO, ONE / np.sqrt(variance), ZERO)


@kernel()
def _move(source: Any, start: Any, target: Any, place: Any) -> None:
    """Copy 32 bytes; all are read before one is written, so that it is done in one go."""
    a = source[start]
    b = source[start + 1]
    c = source[start + 2]
    d = source[start + 3]
    target[place] = a
    target[place + 1] = b
    target[place + 2] = c
    target[place + 3] = d


@kernel()
def _fetch(r: Any, index: Any, opens: Any, closes: Any, counts: Any, shift: Any) -> None:
    """Ask for the slots of a row ahead of need."""
    for f in range(opens.shape[1]):
        for place in range(opens[r, f], closes[r, f]):
            prefetch(counts, slot_of(index[place], shift))


@kernel()
def _gather(r: Any, index: Any, opens: Any, closes: Any, book: Any) -> Any:
    """Write the counts of a row's slots, as they are at present, to the room; return how many.

    One row of eight half-lives a feature, in the order of the fields; behind them that of all
    records.
    """
    words, stamps, shift, places = book.words, book.stamps, book.shift, book.places
    fades, fade_words = book.fades, book.fade_words
    room, clock = book.room, book.clock[0]
    clicks, others, fade, more = room[CLICKS], room[OTHERS], room[FADE], room[MORE]
    click_words, other_words = book.room_words[CLICKS], book.room_words[OTHERS]
    low_words, middle_words = book.room_words[FADE], book.room_words[MORE]
    fields = opens.shape[1]
    n = 0
    for f in range(fields):
        for place in range(opens[r, f], closes[r, f]):
            places[n] = slot_of(index[place], shift)
            n += 1
    places[n] = len(book.counts) - LINE
    n += 1
    for e in range(n):
        at = places[e]
        gap = min((clock - np.int64(stamps[at + STAMP])) & WRAP, FURTHEST)
        _move(words, at // 2, click_words, e * 4)
        _move(words, at // 2 + 4, other_words, e * 4)
        others[e * LANES + MOST] = ZERO
        _move(fade_words[0], (gap & 255) * 4, low_words, e * 4)
        _move(fade_words[1], ((gap >> 8) & 255) * 4, middle_words, e * 4)
        high = gap >> 16
        if high > 0:
            for j in range(LANES):
                fade[e * LANES + j] *= fades[2, high, j]
    for t in range(n * LANES):
        factor = fade[t] * more[t]
        clicks[t] = clicks[t] * factor
        others[t] = others[t] * factor
    return n


@kernel()
def _serve(
    r: Any, n: Any, opens: Any, closes: Any, table: Any, first: Any, standard: Any, book: Any
) -> None:
    """Write the statistics of a row from the counts in the room."""
    room, room_words, lives, prior = book.room, book.room_words, book.lives, book.prior
    clicks, others, odds, out = room[CLICKS], room[OTHERS], room[ODDS], room[OUT]
    plus, plus_others = room[PLUS], room[PLUS_OTHERS]
    plus_words, plus_other_words = room_words[PLUS], room_words[PLUS_OTHERS]
    seen, centre, scale = book.seen, book.centre, book.scale
    fields = opens.shape[1]
    last = (n - 1) * LANES
    for j in range(MOST):
        k = clicks[last + j] + HALF
        c = others[last + j] + HALF
        both = k + c
        plus[j] = prior * (k / both)
        plus_others[j] = prior * (c / both)
    plus[MOST] = ONE
    plus_others[MOST] = ONE
    for e in range(1, n):
        _move(plus_words, 0, plus_words, e * 4)
        _move(plus_other_words, 0, plus_other_words, e * 4)
    for j in range(LANES):
        plus[last + j] = HALF
        plus_others[last + j] = HALF
    for t in range(n * LANES):
        odds[t] = log_fast((clicks[t] + plus[t]) / (others[t] + plus_others[t]))
    longest = book.longest
    for e in range(n):
        seen[e] = clicks[e * LANES + longest] + others[e * LANES + longest] + ONE
    for e in range(n):
        seen[e] = log_fast(seen[e])
    # Seven at a time whatever their number: what is too much is overwritten by those behind.
    e = 0
    for f in range(fields):
        many = closes[r, f] - opens[r, f]
        source = e * LANES if many > 0 else last
        for j in range(MOST):
            out[f * lives + j] = odds[source + j]
        if many > 1:
            share = ONE / np.float32(many)
            for j in range(MOST):
                total = ZERO
                for m in range(many):
                    total += odds[source + m * LANES + j]
                out[f * lives + j] = total * share
        e += many
    for j in range(MOST):
        out[fields * lives + j] = odds[last + j]
    behind = (fields + 1) * lives
    e = 0
    for f in range(fields):
        many = closes[r, f] - opens[r, f]
        total = ZERO
        for m in range(many):
            total += seen[e + m]
        if many > 1:
            total *= ONE / np.float32(many)
        out[behind + f] = total
        e += many
    for t in range(len(centre)):
        value = out[t]
        table[r, first + t] = value
        standard[r, t] = min(max((value - centre[t]) * scale[t], -CLIP), CLIP)


@kernel()
def _count(n: Any, clicked: Any, w: Any, book: Any) -> None:
    """Add a record to the counts in the room and write them back to its slots."""
    room, room_words, words, places = book.room, book.room_words, book.words, book.places
    stamps = book.stamps
    clicks, others = room[CLICKS], room[OTHERS]
    click_words, other_words = room_words[CLICKS], room_words[OTHERS]
    more = w if clicked else ZERO
    less = ZERO if clicked else w
    for t in range(n * LANES):
        k = clicks[t] + more
        c = others[t] + less
        part = HALF if k + c > FULL else ONE
        clicks[t] = k * part if k > FLOOR else ZERO
        others[t] = c * part if c > FLOOR else ZERO
    stamp = np.uint32(book.clock[0])
    for e in range(n):
        at = places[e]
        _move(click_words, e * 4, words, at // 2)
        _move(other_words, e * 4, words, at // 2 + 4)
        stamps[at + STAMP] = stamp


@kernel()
def _move_moments(r: Any, w: Any, table: Any, first: Any, book: Any) -> None:
    """Let the moments see a row as it was served (West 1979: Welford's updates, weighted)."""
    mean, spread, centre, scale = book.mean, book.spread, book.centre, book.scale
    heavy = np.float64(w)
    total = book.total[0] + heavy
    book.total[0] = total
    share = heavy / total
    inverse = 1.0 / total
    for t in range(len(mean)):
        value = np.float64(table[r, first + t])
        off = value - mean[t]
        moved = mean[t] + off * share
        squares = spread[t] + heavy * off * (value - moved)
        mean[t] = moved
        spread[t] = squares
        centre[t] = np.float32(moved)
        variance = np.float32(squares * inverse)
        scale[t] = ONE / np.sqrt(variance) if variance > ZERO else ZERO


@kernel(_walk_plain)
def walk(
    op: Any,
    tape_row: Any,
    label: Any,
    weight: Any,
    index: Any,
    opens: Any,
    closes: Any,
    table: Any,
    first: int,
    standard: Any,
    book: Any,
) -> None:
    """Take the steps with the slots of the next row on their way from memory; see `_walk_plain`.

    The counts of a row are gathered into rows of eight, so that all arithmetic is done in long
    loops, many numbers at a time. A row learned right after it was predicted has them still.
    """
    held = np.int64(-1)
    n = 0
    steps = len(op)
    for step in range(steps):
        r = np.int64(tape_row[step])
        if op[step] == PREDICT:
            ahead = step + 1
            while ahead < steps and tape_row[ahead] == r:
                ahead += 1
            if ahead < steps:
                following = np.int64(tape_row[ahead])
                _fetch(following, index, opens, closes, book.counts, book.shift)
            n = _gather(r, index, opens, closes, book)
            held = r
            _serve(r, n, opens, closes, table, first, standard, book)
            continue
        if weight[r] > ZERO:
            if held != r:
                n = _gather(r, index, opens, closes, book)
            w = min(weight[r], FULL)
            _count(n, label[r] > ZERO, w, book)
            _move_moments(r, w, table, first, book)
        held = np.int64(-1)
        book.clock[0] += 1
