from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from onlinestack.io.broker import Partition
from onlinestack.io.merge import Merge, Round

LOGS = [Partition("shown", 0), Partition("shown", 1), Partition("clicks", 0)]
Logs = list[list[int | None]]
TIMES = st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=12)


def plain(logs: Logs) -> list[tuple[int, int]]:
    """Return the order as the rule says it: by (time, log, offset), times never going back."""
    items = []
    for log, times in enumerate(logs):
        now = -(2**63)
        for offset, time in enumerate(times):
            now = now if time is None else max(now, time)
            items.append((now, log, offset))
    return [(log, offset) for _, log, offset in sorted(items)]


class Feed:
    """Gives a merge messages in some interleaving, and passes logs over when it has to."""

    def __init__(self, logs: Logs, draw: random.Random, **saved: Any) -> None:
        self.logs, self.draw = logs, draw
        self.merge = Merge(LOGS, **saved)
        self.at = list(self.merge.fetched.values())
        self.order: list[tuple[int, int]] = []
        self.notes: list[Round] = []

    def step(self, visible: list[int]) -> bool:
        """Fetch something, let go of something; tell whether anything happened."""
        ready = [i for i in range(3) if self.at[i] < visible[i]]
        for i in self.draw.sample(ready, self.draw.randint(0, len(ready))):
            for _ in range(self.draw.randint(1, 3)):
                if self.at[i] < visible[i]:
                    self.merge.put(LOGS[i], self.at[i], self.logs[i][self.at[i]], None)
                    self.at[i] += 1
        before = len(self.order)
        self.order += [(i.log, i.offset) for i in self.merge.release(self.draw.randint(1, 9))]
        return bool(ready) or len(self.order) > before

    def pass_over(self, visible: list[int]) -> bool:
        quiet = {LOGS[i] for i in range(3) if self.at[i] == visible[i]}
        round = self.merge.pass_over(quiet)
        if round is not None:
            self.notes.append(round)
            self.merge.begin(round)
        return round is not None

    def drain(self) -> None:
        whole = [len(times) for times in self.logs]
        while self.step(whole) or self.merge.bound is not None or self.pass_over(whole):
            pass


@given(st.lists(TIMES, min_size=3, max_size=3), st.integers(0, 9), st.integers(0, 9))
def test_the_order_does_not_depend_on_arrival(logs: Logs, one: int, other: int) -> None:
    for seed in (one, other):
        feed = Feed(logs, random.Random(seed))
        feed.drain()
        assert feed.order == plain(logs)


@given(st.lists(TIMES, min_size=3, max_size=3), st.integers(0, 99), st.data())
def test_what_was_passed_over_comes_in_the_same_place_again(
    logs: Logs, seed: int, data: st.DataObject
) -> None:
    draw = random.Random(seed)
    feed, visible = Feed(logs, draw), [0, 0, 0]
    stops: list[tuple[int, Any, list[Round]]] = [(0, None, [])]
    while visible != [len(times) for times in logs]:
        # The logs grow while they are read, and now and then one is passed over too soon.
        i = draw.randrange(3)
        visible[i] = min(len(logs[i]), visible[i] + draw.randint(0, 3))
        feed.step(visible)
        if draw.random() < 0.5:
            feed.pass_over(visible)
        stops.append((len(feed.order), feed.merge.state(), feed.merge.rounds()))
    feed.drain()
    assert sorted(feed.order) == sorted(plain(logs))

    at, places, rounds = data.draw(st.sampled_from(stops))
    again = Feed(logs, random.Random(seed + 1), places=places, rounds=[*rounds, *feed.notes])
    again.drain()
    assert again.order == feed.order[at:]


def test_a_message_waits_until_no_log_can_hold_an_earlier_one() -> None:
    merge = Merge(LOGS)
    offsets = [0, 0, 0]
    for log, time, free in (
        (0, 5, []),
        (1, 9, []),
        (2, 7, [5]),  # the first log may still hold a 6
        (0, 6, [6]),
        (0, 10, [7]),  # the clicks may still hold an 8
        (2, 9, [9]),  # of the first three logs at 9 the second comes first ...
        (1, 11, [9]),  # ... and then the third
    ):
        merge.put(LOGS[log], offsets[log], time, None)
        offsets[log] += 1
        assert [item.time for item in merge.release(9)] == free


def test_offsets_may_have_gaps() -> None:
    merge = Merge(LOGS[:1])
    for offset in (3, 2**70):
        merge.put(LOGS[0], offset, None, offset)
    assert [item.offset for item in merge.release(9)] == [3, 2**70]
    assert merge.places == {LOGS[0]: 2**70 + 1}
