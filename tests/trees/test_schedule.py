"""When generations are due: by records and by stream time."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

import numpy as np
import pytest

from onlinestack.block import Block, immediate_tape
from onlinestack.kernel import KERNELS
from onlinestack.trees.schedule import NEVER, ByRecords, BySpan


def cuts_of(schedule: Any, until: int, lag: int = 0, feed: Any = None) -> list[int]:
    """Ask a schedule as a member does, that trains for ``lag`` records; return the cuts."""
    cuts, cut, learned = [], 0, 0
    while True:
        due = schedule.next_check(learned, cut)
        assert due > learned
        if due > until:
            return cuts
        if feed:
            feed(schedule, learned, due)
        learned = due
        if schedule.should_retrain(learned, cut):
            schedule.note_cut(learned, cut)
            cut = learned
            cuts.append(cut)
            if feed and lag:
                feed(schedule, learned, learned + lag)
            learned += lag


def test_by_records_the_rule() -> None:
    cuts = cuts_of(ByRecords(), 700_000)
    assert cuts[:13] == [
        *[1000, 1500, 2250, 3375, 5062, 7593, 11389, 17083, 25624, 38436, 57654, 77654, 97654]
    ]
    gaps = np.diff(cuts)
    assert all(gap == 20_000 for gap, cut in zip(gaps, cuts, strict=False) if 57_000 < cut < 4e5)
    late = [(gap, cut) for gap, cut in zip(gaps, cuts, strict=False) if cut > 4e5]
    assert late[0] == (20_882, 417_654) and all(gap == cut // 20 for gap, cut in late)


def test_by_records_other_settings() -> None:
    assert cuts_of(ByRecords(10, 7, 0), 60) == [10, 15, 22, 29, 36, 43, 50, 57]
    assert cuts_of(ByRecords(2, NEVER, 0), 20) == [2, 3, 4, 6, 9, 13, 19]
    assert cuts_of(ByRecords(100, 1, 20), 200)[:4] == [100, 105, 110, 115]
    for wrong in [(1, 1, 1), (2, 0, 1), (2, 1, -1)]:
        with pytest.raises(ValueError, match="expected at least"):
            ByRecords(*wrong)


def test_a_count_passed_during_a_training_comes_due_behind_it() -> None:
    assert cuts_of(ByRecords(100, 50, 0), 500, lag=60) == [100, 161, 222, 283, 344, 405, 466]
    assert cuts_of(ByRecords(100, 50, 0), 300, lag=20) == [100, 150, 200, 250, 300]


class Timed:
    """A block with times; what `BySpan` needs of it."""

    def __init__(self, time: np.ndarray, label: float = 0.0) -> None:
        self.n = len(time)
        self.time = time
        self.tape = immediate_tape(np.full(self.n, label, np.float32))


def clock(seconds: float) -> Any:
    """Return a feed of records so many seconds apart."""

    def feed(schedule: Any, start: int, stop: int) -> None:
        block: Any = Timed(np.arange(start, stop) * seconds)
        schedule.watch(block, block.tape)

    return feed


def test_by_span_cuts_each_span_at_check_points() -> None:
    schedule = BySpan(1000.0, attrgetter("time"), first=200, check=128)
    cuts = cuts_of(schedule, 6000, feed=clock(0.5))
    young = [cut for cut in cuts if cut <= 2000]
    assert young == [200, 300, 450, 675, 1012, 1518]
    for before, cut in zip(cuts[5:], cuts[6:], strict=False):
        assert cut % 128 == 0 and 2000 <= cut - before < 2000 + 128 + 1
    assert len(cuts) == 8


def test_by_span_never_cuts_without_times_or_more_often_than_it_looks() -> None:
    schedule = BySpan(1000.0, attrgetter("time"), first=200, check=128)
    assert cuts_of(schedule, 1024, feed=clock(math.nan)) == [200, 300, 450, 675, 1012]
    schedule = BySpan(1.0, attrgetter("time"), first=200, check=128)
    assert cuts_of(schedule, 1000, feed=clock(5.0)) == [128 * k for k in range(1, 8)]


def test_by_span_goes_by_the_latest_time_of_the_records_learned() -> None:
    schedule = BySpan(10.0, attrgetter("time"), check=4)
    for times, label in [([5.0, 3.0, math.nan, 9.0], 1.0), ([99.0], math.nan), ([1.0], 0.0)]:
        block: Any = Timed(np.array(times), label)
        schedule.watch(block, block.tape)
    arrays, _ = schedule.state()
    assert arrays["seen"].tolist() == [5.0, 5.0, 9.0]


@pytest.mark.parametrize("size", [1, 7, 300])
def test_by_span_blocks_and_resumes_do_not_matter(size: int) -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.exponential(1.0, 1000)) + rng.normal(0, 3, 1000)
    whole, parts = (BySpan(10.0, attrgetter("time")) for _ in range(2))
    block: Any = Timed(times)
    whole.watch(block, block.tape)
    for start in range(0, 1000, size):
        block = Timed(times[start : start + size])
        parts.watch(block, block.tape)
        state = parts.state()
        parts = BySpan(10.0, attrgetter("time"))
        parts.restore(*state)
    assert parts.state()[0]["seen"].tobytes() == whole.state()[0]["seen"].tobytes()


def test_by_span_is_refused_where_there_is_no_time() -> None:
    block: Any = Timed(np.empty(0))
    block.n = 5
    with pytest.raises(ValueError, match="the records carry no time"):
        BySpan(10.0, attrgetter("time")).watch(block, block.tape)
    with pytest.raises(ValueError, match="the records carry no time"):
        BySpan(10.0, lambda block: None).watch(Block.of([[]]), block.tape)
    for span, check in [(0.0, 1), (math.nan, 1), (math.inf, 1), (1.0, 0)]:
        with pytest.raises(ValueError, match="expected a positive time"):
            BySpan(span, attrgetter("time"), check=check)


def test_kernel_and_twin_agree() -> None:
    rng = np.random.default_rng(2)
    times = np.where(rng.random(200) < 0.2, math.nan, rng.normal(size=200))
    tape = immediate_tape(np.where(rng.random(200) < 0.3, math.nan, 1.0).astype(np.float32))
    answers = []
    for function in KERNELS["onlinestack.trees.schedule.follow_times"]:
        seen = np.full(3, math.nan)
        function(tape.op, tape.row, times, seen)
        answers.append(seen.tobytes())
    assert answers[0] == answers[1]
