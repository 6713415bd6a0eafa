"""The gate: one thread at a time, in the order of asking, and nobody is forgotten."""

from __future__ import annotations

import threading
import time

from onlinestack.gate import Gate


def test_one_at_a_time_and_nobody_is_forgotten() -> None:
    gate, inside, most, done = Gate(), 0, 0, [0] * 4

    def work(k: int) -> None:
        nonlocal inside, most
        for _ in range(3000):
            with gate:
                inside += 1
                most = max(most, inside)
                inside -= 1
                done[k] += 1

    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(len(done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == [3000] * len(done) and most == 1


def test_who_waits_comes_before_who_was_just_inside() -> None:
    gate, let_in = Gate(), threading.Event()

    def ask() -> None:
        with gate:
            let_in.set()

    turns = 0
    gate.__enter__()
    waiting = threading.Thread(target=ask, daemon=True)
    waiting.start()
    deadline = time.monotonic() + 30
    while not gate._waiting and time.monotonic() < deadline:
        time.sleep(0.001)
    gate.__exit__()
    while not let_in.is_set() and time.monotonic() < deadline:
        with gate:  # asks again at once, as a thread that learns without end does
            turns += 1
    assert let_in.is_set() and turns <= 1


def test_an_error_inside_opens_it_again() -> None:
    gate = Gate()
    for _ in range(2):
        try:
            with gate:
                raise KeyError
        except KeyError:
            pass
    with gate:
        pass
