"""Quanta through parts: each part in order, nobody before what it needs, changes in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack.block import AHEAD, Block, Tape, immediate_tape
from onlinestack.flow import Flow, Quantum

NEEDS: dict[str, list[str]] = {
    "statistics": [],
    "linear": [],
    "trees": ["statistics"],
    "stacker": ["linear", "trees"],
    "mixture": ["linear", "trees", "stacker"],
}
COST = dict.fromkeys(NEEDS, 0.0)


class Log:
    """What happened, in order; parts sleep at random."""

    def __init__(self, seed: int, settling: set[int]) -> None:
        self.random = np.random.default_rng(seed)
        self.settling = settling
        self.events: list[tuple[str, int]] = []
        self.lock = threading.Lock()
        self.most = self.live = 0

    def source(self, count: int) -> Iterator[Quantum]:
        for k in range(count):
            self.live += 1
            self.most = max(self.most, self.live)
            self.note("source", k)
            block = Block.of([[]], label=[1.0])
            block.row[0] = k
            yield Quantum(k, k + 1, block, immediate_tape(block.label), k + 1, k in self.settling)

    def step(self, name: str, block: Block, tape: Tape) -> None:
        with self.lock:
            wait = self.random.choice([0, 0, 1e-4, 1e-3])
        time.sleep(wait)
        self.note(name, int(block.row[0]))

    def settle(self, learned: int) -> None:
        self.note("settle", learned - 1)

    def note(self, name: str, k: int) -> None:
        with self.lock:
            self.events.append((name, k))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 12),
    st.sets(st.integers(0, 11)),
    st.integers(0, 2**31),
    st.sets(st.sampled_from(["linear", "stacker"])),
)
def test_everyone_takes_all_quanta_in_order_behind_what_they_need(
    count: int, settling: set[int], seed: int, told: set[str]
) -> None:
    log = Log(seed, settling)
    got = []
    for quantum in Flow(log.source(count), NEEDS, log.step, log.settle, COST, told):
        k = quantum.start
        # what nobody waits for, or is asked about, stays with the quantum the caller has in hand
        for name in ("mixture", *told):
            assert log.events.count((name, k)) == 1
            assert (name, k + 1) not in log.events
        got.append(k)
        log.live -= 1
    assert got == list(range(count))
    assert log.most <= AHEAD + 1
    at = {event: position for position, event in enumerate(log.events)}
    assert len(at) == len(log.events) == count * (len(NEEDS) + 1) + len(settling & set(got))
    for k in range(count):
        for name, needs in NEEDS.items():
            assert all(at[other, k] < at[name, k] for other in ("source", *needs))
            assert k == 0 or at[name, k - 1] < at[name, k]
            if k in settling:
                assert at[name, k] < at["settle", k]
                assert k + 1 == count or at["settle", k] < at["source", k + 1]


def test_parts_of_the_next_quantum_begin_before_the_last_is_through() -> None:
    begun = threading.Event()

    def step(name: str, block: Block, tape: Tape) -> None:
        if name == "statistics" and block.row[0] == 1:
            begun.set()
        if name == "stacker" and block.row[0] == 0:
            assert begun.wait(10)

    log = Log(0, set())
    assert len(list(Flow(log.source(3), NEEDS, step, log.settle, COST))) == 3


@pytest.mark.parametrize("broken", ["linear", "mixture", "source", "settle"])
def test_an_error_anywhere_reaches_the_caller_and_nothing_goes_on(broken: str) -> None:
    log = Log(0, {2})

    def fail(name: str, k: int) -> None:
        if name == broken and k == 2:
            raise RuntimeError(f"{name} broke")

    def source() -> Iterator[Quantum]:
        for quantum in log.source(9):
            fail("source", quantum.start)
            yield quantum

    def step(name: str, block: Block, tape: Tape) -> None:
        fail(name, int(block.row[0]))
        log.step(name, block, tape)

    def settle(learned: int) -> None:
        fail("settle", learned - 1)

    with pytest.raises(RuntimeError, match=f"{broken} broke"):
        list(Flow(source(), NEEDS, step, settle, COST))
    events = len(log.events)
    assert ("mixture", 3) not in log.events
    time.sleep(0.01)
    assert len(log.events) == events


def test_a_caller_that_leaves_leaves_nothing_running() -> None:
    log = Log(0, set())
    flow = iter(Flow(log.source(100), NEEDS, log.step, log.settle, COST))
    assert next(flow).start == 0
    flow.close()  # type: ignore[attr-defined]
    events = len(log.events)
    time.sleep(0.01)
    assert len(log.events) == events
    assert ("source", AHEAD + 1) not in log.events
