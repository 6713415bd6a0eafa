"""Drift: found where the loss rises, not found where it does not, whatever the blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river.drift import ADWIN

from onlinestack.block import Block, immediate_tape
from onlinestack.kernel import KERNELS, TWINS
from onlinestack.trees.drift import OnDrift, PageHinkley, RiverDetector
from onlinestack.trees.schedule import ByRecords

F = np.float32


def stream(n: int, flip: int | None = None, rate: float = 0.0, seed: int = 0) -> Block:
    """Return clicks and the margins that made them, with the wrong sign from ``flip`` on."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(rate, 1.5, n)
    label = rng.random(n) < 1 / (1 + np.exp(-margin))
    if flip is not None:
        margin[flip:] *= -1
    block = Block.of([[]] * n, label=label, weight=rng.choice([0.5, 1.0, 3.0], n))
    block.scores = np.zeros((n, 3), F)
    block.scores[:, 1] = margin
    return block


def found_at(detector: Any, block: Block, step: int = 64) -> int | None:
    for start in range(0, block.n, step):
        part = block.rows(start, start + step)
        detector.watch(part, immediate_tape(part.label))
        if detector.detected:
            return start + step
    return None


@pytest.mark.parametrize("rate", [0.0, -3.0, -7.0])
@pytest.mark.parametrize("seed", range(4))
def test_quiet_on_a_steady_stream(rate: float, seed: int) -> None:
    records = 5000 if TWINS else 100_000
    assert found_at(PageHinkley(1), stream(records, rate=rate, seed=seed), 4096) is None


@pytest.mark.parametrize("flip", [3000, 40_000])
@pytest.mark.parametrize("rate", [0.0, -3.0])
def test_a_flip_is_found_soon(flip: int, rate: float) -> None:
    at = found_at(PageHinkley(1), stream(flip + 2048, flip, rate))
    assert at is not None and flip < at <= flip + 1024


def test_a_fall_of_the_loss_is_no_drift() -> None:
    block = stream(20_000)
    block.scores[10_000:, 1] = np.where(block.label[10_000:] > 0, 5, -5)
    assert found_at(PageHinkley(1), block) is None


def test_a_loss_that_stays_high_is_found_again_until_it_is_normal() -> None:
    detector, block = PageHinkley(1), stream(60_000, 3000)
    at = found_at(detector, block)
    assert at is not None
    detector.reset()
    assert not detector.detected
    assert found_at(detector, block.rows(at, 30_000)) is not None
    detector.reset()
    steady = block.rows(30_000, 60_000)
    detector.watch(steady, immediate_tape(steady.label))
    detector.reset()
    assert found_at(detector, stream(20_000, 0, seed=1)) is None


def test_passes_over_what_cannot_be_judged() -> None:
    block = stream(900)
    strange = stream(900)
    strange.scores[:, 1] = [np.nan, np.inf, -np.inf] * 300
    nothing = stream(900)
    nothing.weight[:] = 0
    unknown = stream(900)
    unknown.label[:] = np.nan
    detector = PageHinkley(1)
    detector.watch(block, immediate_tape(block.label))
    before = detector.state()[0]["sums"].tobytes()
    for other in (strange, nothing, unknown):
        detector.watch(other, immediate_tape(other.label))
    assert detector.state()[0]["sums"].tobytes() == before


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_blocks_and_resumes_do_not_matter(size: int) -> None:
    block = stream(3000, 2000)
    whole, parts = PageHinkley(1), PageHinkley(1)
    whole.watch(block, immediate_tape(block.label))
    for start in range(0, 3000, size):
        part = block.rows(start, start + size)
        parts.watch(part, immediate_tape(part.label))
        state = parts.state()
        parts = PageHinkley(1)
        parts.restore(*state)
    assert parts.detected
    assert parts.state()[0]["sums"].tobytes() == whole.state()[0]["sums"].tobytes()


@given(st.floats(-30, 30, width=32), st.booleans())
def test_log_loss(margin: float, click: bool) -> None:
    expected = np.logaddexp(0.0, -margin if click else margin)
    for function in KERNELS["onlinestack.trees.drift.log_loss"]:
        assert float(function(F(margin), click)) == pytest.approx(expected, rel=1e-5)
    one, two = KERNELS["onlinestack.trees.drift.log_loss"]
    assert F(one(F(margin), click)).tobytes() == F(two(F(margin), click)).tobytes()


def test_kernel_and_twin_agree() -> None:
    block = stream(1500, 800)
    block.weight[::9] = 0
    block.scores[::11, 1] = np.nan
    tape = immediate_tape(block.label)
    answers = []
    for function in KERNELS["onlinestack.trees.drift.watch_loss"]:
        sums = np.zeros(5)
        args = block.label, block.weight, block.scores, 1, 0.05, 50.0, 100.0, 700.0, sums
        function(tape.op, tape.row, *args)
        answers.append(sums.tobytes())
        assert sums[4] == 1
    assert answers[0] == answers[1]


def run(schedule: Any, block: Block) -> list[int]:
    """Ask a schedule as a member does that is trained at once; return its cuts."""
    cuts, cut, learned = [], 0, 0
    while (due := schedule.next_check(learned, cut)) <= block.n:
        part = block.rows(learned, due)
        schedule.watch(part, immediate_tape(part.label))
        learned = due
        if schedule.should_retrain(learned, cut):
            schedule.note_cut(learned, cut)
            cut = learned
            cuts.append(cut)
    return cuts


def test_cuts_on_drift_come_in_addition() -> None:
    plain = run(ByRecords(), stream(80_000))
    drifts = OnDrift(ByRecords(), PageHinkley(1))
    assert run(drifts, stream(80_000)) == plain
    more = run(OnDrift(ByRecords(), PageHinkley(1)), stream(80_000, flip=45_000))
    assert set(plain) <= set(more)
    # and, because here the score never gets better, once again
    assert sorted(set(more) - set(plain)) == [46_080, 50_176]


def test_cuts_on_drift_keep_their_distance() -> None:
    flip = 39_000
    near = run(OnDrift(ByRecords(), PageHinkley(1), distance=4096), stream(50_000, flip))
    assert [cut for cut in near if cut > 38_436] == [43_008, 47_104]
    far = run(OnDrift(ByRecords(), PageHinkley(1), distance=20_000), stream(50_000, flip))
    assert [cut for cut in far if cut > 38_436] == []


def test_state_of_schedule_and_detector() -> None:
    block = stream(3000, 2000)
    one = OnDrift(ByRecords(), PageHinkley(1))
    one.watch(block, immediate_tape(block.label))
    two = OnDrift(ByRecords(), PageHinkley(1))
    two.restore(*one.state())
    assert two.detector.detected
    assert two.state()[0]["detector/sums"].tobytes() == one.state()[0]["detector/sums"].tobytes()


def test_rivers_detectors_plug_in() -> None:
    block = stream(12_000, 8000)
    schedule = OnDrift(ByRecords(), RiverDetector(ADWIN(), 1), check=512, distance=512)
    extra = set(run(schedule, block)) - set(run(ByRecords(), block))
    assert extra and min(extra) <= 9216 and min(extra) % 512 == 0
    with pytest.raises(ValueError, match="use PageHinkley"):
        schedule.state()


def test_refused_settings() -> None:
    with pytest.raises(ValueError, match="at least 1 record"):
        OnDrift(ByRecords(), PageHinkley(1), check=0)
