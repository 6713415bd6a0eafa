"""Attribution: which label belongs to which record, and when each record is to be learned.

Notes
-----
*Time* is stream time in whole microseconds, and only moves on: one that lies before the newest so
far counts as that. A record served at t with a window of w is closed once the time is past
t + w; a click at t + w still counts. Closing is the only way a record is learned as not clicked.

A click that comes after its record was learned as not clicked can be made good (``correct``): the
record is learned once more as served, now as a click, with its weight times 1 / (1 - p), p the
click probability it was served with. Where p is right, this makes the odds of what was learned
those of the truth, however many clicks come late: of records with probability p, of whose clicks
a share s is late, p (1 - s) + p s / (1 - p) were then learned as clicks and 1 - p (1 - s) as none,
and the ratio of these is p / (1 - p). It is the ratio of importance weights of Ktena et al. for
"fake negatives", with the weight of all non-clicks being 1.

References
----------
[^1]: Ktena, S. I. et al. (2019). Addressing delayed feedback for continuous training with neural
    networks in CTR prediction. RecSys.
[^2]: Chapelle, O. (2014). Modeling delayed feedback in display advertising. KDD.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.labels.negatives import Negatives
from onlinestack.labels.pending import DONE, KEPT, OPEN, Pending
from onlinestack.words import nearest_or_all

__all__ = ["LEARN_AT", "Attribution", "Lesson", "Rules", "packed", "unpacked"]

LEARN_AT = ("window", "click")
BEGINNING, NEVER = -(2**63), 2**63 - 1
"""Before all time, and behind it."""
COUNTS = (
    "served",
    "learned",
    "duplicates",
    "evicted",
    "unnamed",
    "thinned",
    "unknown",
    "repeated",
    "late",
    "corrected",
)


@dataclass(frozen=True, slots=True)
class Rules:
    """When labels are learned.

    Parameters
    ----------
    window
        Microseconds that a click may come after its record; None learns labels as they come.
    learn_at
        ``"window"``: clicks and non-clicks are both learned when the window ends. ``"click"``: a
        click is learned when it comes.
    correct
        Microseconds behind the window in which a click still corrects what was learned.
    room
        Most records pending, and most ids of learned ones that are remembered.
    negatives
        Which of the non-clicks are learned.

    Raises
    ------
    ValueError
        Where one of them is out of its range.
    """

    window: int | None = None
    learn_at: str = "window"
    correct: int = 0
    room: int = 100_000
    negatives: Negatives = Negatives(1.0)

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 0:
            raise ValueError(f"window={self.window / 1e6:g} is no time; give seconds, 0 or more")
        if self.learn_at not in LEARN_AT:
            hint = nearest_or_all(self.learn_at, LEARN_AT)
            raise ValueError(f"learn_at={self.learn_at!r} is unknown{hint}")
        if self.correct < 0:
            raise ValueError(
                f"correct_late={self.correct / 1e6:g} is no time; give seconds, 0 or more"
            )
        if self.correct and self.window is None:
            raise ValueError("correct_late needs a window that a click can be late for; give one")
        if self.room < 1:
            raise ValueError(
                f"most_pending={self.room} leaves no room; give a whole number above 0"
            )


@dataclass(slots=True)
class Lesson:
    """A record to be learned now.

    Parameters
    ----------
    number
        Of the record in the store.
    label
        1 for a click, 0 for none.
    correction
        Whether it was learned before, as not clicked.
    """

    number: int
    label: float
    correction: bool = False


class Attribution:
    """Keeps ids, time and labels of the records in a store, and says what is to be learned.

    Parameters
    ----------
    rules
        When labels are learned.
    store
        Where the records are; it has room for more than the rules allow, since what is to be
        learned is read a little later.

    Attributes
    ----------
    counts
        ``served``: records with an id, of these ``learned``, ``duplicates`` (their id was known;
        predicted only), ``evicted`` (no room, or no time yet; predicted only), ``unnamed``
        (without an id; predicted only) and ``thinned`` (non-clicks left out). Of labels:
        ``unknown`` (no such id), ``repeated`` (the record was clicked already), ``late`` (it was
        learned as not clicked), and of these ``corrected``. All others became the label of a
        record.
    now
        The newest time so far.
    first
        Number of the first record that something may still become of.

    Examples
    --------
    >>> at = Attribution(Rules(window=10), Pending(room=100))
    >>> at.serve("a", 1), at.serve("b", 3), at.label("b", True)
    (0, 1, None)
    >>> [(lesson.number, lesson.label) for lesson in at.pass_to(20)]
    [(0, 0.0), (1, 1.0)]
    """

    def __init__(self, rules: Rules, store: Pending) -> None:
        self.rules = rules
        self.store = store
        self.counts = dict.fromkeys(COUNTS, 0)
        self.now = BEGINNING
        self.first = 0
        self._open = 0
        self._next = 0
        """The first record whose window is not known to have ended."""
        self._soonest: int | float = math.inf
        """When it ends."""
        self._numbers: dict[str, int] = {}
        self._ids: deque[str] = deque()
        """Ids of the records from ``first`` on."""
        self._left: dict[str, bool] = {}
        """Ids of the last records before, and whether these were clicked."""
        self._oldest: deque[str] = deque()
        """The same ids, oldest first: to find the first key of a dict that lost many takes long."""

    @property
    def pending(self) -> int:
        """Records that wait to be learned."""
        return self._open

    @property
    def started(self) -> bool:
        """Whether a record can be served now: any, or one with a time if there is a window."""
        return self.rules.window is None or self.now != BEGINNING

    def pass_to(self, time: int | None) -> Iterator[Lesson]:
        """Let time pass, and yield the records whose window has ended, in the order served.

        Parameters
        ----------
        time
            In microseconds; None where it is not known, so that none passes.
        """
        if time is not None and time > self.now:
            self.now = time
        while self._soonest < self.now:
            number, at = self._next, self._next % self.store.size
            self._next += 1
            self._look()
            if self.store.state[at] == OPEN:
                label = 1.0 if self.store.label[at] > 0 else 0.0
                lesson = self._learn(number, label, self._ids[number - self.first])
                if lesson is not None:
                    yield lesson
            self._leave()

    def _look(self) -> None:
        """Find out when the next window ends."""
        self._soonest = math.inf
        if self.rules.window is not None and self._next < self.store.last:
            self._soonest = int(self.store.due[self._next % self.store.size])

    def _learn(self, number: int, label: float, id: str) -> Lesson | None:
        at = number % self.store.size
        self.store.label[at] = label
        self.store.state[at] = KEPT if self.rules.correct and not label else DONE
        self._open -= 1
        if not label and not self.rules.negatives.keeps(id):
            self.counts["thinned"] += 1
            return None
        self.counts["learned"] += 1
        return Lesson(number, label)

    def _leave(self) -> None:
        """Let go of the oldest records that nothing may become of any more."""
        store, gone = self.store, self.now - self.rules.correct
        while self.first < store.last:
            at = self.first % store.size
            state = store.state[at]
            if state == OPEN or (state == KEPT and store.due[at] >= gone):
                return
            self._forget()

    def _forget(self) -> None:
        """Let go of the oldest record; only its id is remembered for a while."""
        id = self._ids.popleft()
        del self._numbers[id]
        self._oldest.append(id)
        self._left[id] = bool(self.store.label[self.first % self.store.size] > 0)
        if len(self._left) > self.rules.room:
            del self._left[self._oldest.popleft()]
        self.first += 1
        if self._next < self.first:
            self._next = self.first
            self._look()

    def serve(self, id: str | None, time: int | None) -> int:
        """Take in a record that is served now; let time pass before.

        Parameters
        ----------
        id
            Its id; None or empty where it has none.
        time
            Its time in microseconds; None for the newest.

        Returns
        -------
        Its number; -1 where it is predicted only: its id is known already, or there is a window
        and no time yet to count it from.
        """
        self.counts["served"] += 1
        if time is not None and time > self.now:
            self.now = time
        if not id:
            self.counts["unnamed"] += 1
            return -1
        if id in self._numbers or id in self._left:
            self.counts["duplicates"] += 1
            return -1
        store, window = self.store, self.rules.window
        if not self.started:
            self.counts["evicted"] += 1
            return -1
        if store.last - self.first >= self.rules.room:
            if store.state[self.first % store.size] == OPEN:
                self.counts["evicted"] += 1
                self._open -= 1
                store.state[self.first % store.size] = DONE
            self._forget()
        number = store.number(NEVER if window is None else self.now + window)
        self._numbers[id] = number
        self._ids.append(id)
        self._open += 1
        if number == self._next:
            self._look()
        return number

    def label(self, id: str, y: bool, time: int | None = None) -> Lesson | None:
        """Take in a label; let time pass before.

        Parameters
        ----------
        id
            Of the record.
        y
            Whether it was clicked.
        time
            When, in microseconds; None for now.

        Returns
        -------
        What is to be learned at once, if anything.
        """
        number = self._numbers.get(id)
        if number is None:
            clicked = self._left.get(id)
            self.counts["unknown" if clicked is None else "repeated" if clicked else "late"] += 1
            return None
        store, rules, at = self.store, self.rules, number % self.store.size
        due = int(store.due[at])
        if store.state[at] == OPEN and (time is None or time <= due):
            if store.label[at] > 0:
                self.counts["repeated"] += 1
                return None
            store.label[at] = 1.0 if y else 0.0
            if rules.window is not None and (rules.learn_at == "window" or not y):
                return None
            lesson = self._learn(number, 1.0 if y else 0.0, id)
            self._leave()
            return lesson
        if store.label[at] > 0:
            self.counts["repeated"] += 1
            return None
        self.counts["late"] += 1
        when = self.now if time is None else time
        if not y or store.state[at] != KEPT or when > due + rules.correct:
            return None
        self.counts["corrected"] += 1
        store.label[at], store.state[at] = 1.0, DONE
        self._leave()
        return Lesson(number, 1.0, correction=True)

    # Snapshots.

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the pending records and all that is known of them, as arrays and JSON."""
        arrays, meta = self.store.save(self.first)
        arrays |= {"left": np.array(list(self._left.values()), np.bool_)}
        for name, ids in (("id", self._ids), ("left id", self._left)):
            arrays[name], arrays[f"{name} length"] = packed(ids)
        return arrays, meta | {"now": self.now, "next": self._next, "counts": dict(self.counts)}

    def capture(self) -> Callable[[], tuple[dict[str, NDArray[Any]], dict[str, Any]]]:
        """Return what gives the state of this moment later, in any thread."""
        still = copy.copy(self)
        still.store, still.counts = self.store.still(), dict(self.counts)
        still._ids, still._left = self._ids.copy(), self._left.copy()
        return still.state

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self.store.load(arrays, meta)
        self.first, self.now, self._next = meta["first"], meta["now"], meta["next"]
        self.counts = dict(meta["counts"])
        self._open = int(np.count_nonzero(arrays["state"] == OPEN))
        ids, left = (unpacked(arrays[n], arrays[f"{n} length"]) for n in ("id", "left id"))
        self._ids = deque(ids)
        self._numbers = {id: self.first + i for i, id in enumerate(ids)}
        self._left = dict(zip(left, arrays["left"].tolist(), strict=True))
        self._oldest = deque(left)
        self._look()


def packed(texts: Iterable[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return texts as bytes one after another, and the length of each.

    Examples
    --------
    >>> unpacked(*packed(["a7", "", "b"]))
    ['a7', '', 'b']
    """
    coded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return np.frombuffer(b"".join(coded), np.uint8), np.array(list(map(len, coded)), np.int64)


def unpacked(data: NDArray[np.uint8], length: NDArray[np.int64]) -> list[str]:
    """Return the texts that `packed` was given."""
    whole, behind = data.tobytes(), np.cumsum(length).tolist()
    return [
        whole[start:stop].decode("utf-8", "surrogatepass")
        for start, stop in zip([0, *behind], behind, strict=False)
    ]
