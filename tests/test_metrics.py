from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from onlinestack.auc import CLIP
from onlinestack.block import Block, Tape, immediate_tape
from onlinestack.kernel import KERNELS
from onlinestack.metrics import Scoreboard


def logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def block_of(label: NDArray[np.floating], weight: NDArray[np.floating] | None = None) -> Block:
    block = Block.of([[]] * len(label), label=label)
    if weight is not None:
        block.weight[:] = weight
    return block


def scored(
    label: NDArray[np.floating],
    p: NDArray[np.floating],
    weight: NDArray[np.floating] | None = None,
    size: int = 4096,
    mark: int = -1,
) -> Scoreboard:
    """Score one column of predictions in blocks of ``size``, marking at record ``mark``."""
    board = Scoreboard(["final"], ["mixture"])
    whole = block_of(label, weight)
    cuts = sorted({*range(0, len(label), size), max(mark, 0), len(label)})
    for start, stop in zip(cuts, cuts[1:], strict=False):
        if start == mark:
            board.mark()
        block = whole.rows(start, stop)
        board.update(block, immediate_tape(block.label), p[start:stop].astype(np.float32))
    return board


def log_of(seed: int, n: int, bias: float, spread: float = 1.0) -> tuple[NDArray[np.float32], ...]:
    """Labels, and the probabilities a fair (spread 1) or timid (less) learner gives them."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    label = random.random(n) < logistic(bias + x)
    return label.astype(np.float32), logistic(bias + spread * x).astype(np.float32)


@pytest.mark.parametrize("mark", [0, 7000])
def test_figures_equal_their_definitions(mark: int) -> None:
    label, p = log_of(1, 20_000, -2.0)
    weight = np.random.default_rng(2).choice([0.5, 1.0, 3.0], len(p)).astype(np.float32)
    board = scored(label, p, weight, mark=mark)
    figures = board.since("final")
    y, q, w = (np.float64(a[mark:]) for a in (label, p, weight))
    rate = np.average(y, weights=w)
    loss = log_loss(y, q, sample_weight=w)
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    assert figures["records"] == len(y)
    assert figures["weight"] == pytest.approx(w.sum(), rel=1e-12)
    assert figures["click_rate"] == pytest.approx(rate, rel=1e-12)
    assert figures["log_loss"] == pytest.approx(loss, rel=1e-7)
    assert figures["normalized_entropy"] == pytest.approx(loss / entropy, rel=1e-7)
    assert figures["calibration"] == pytest.approx((w * q).sum() / (w * y).sum(), rel=1e-12)
    assert figures["accuracy"] == pytest.approx(accuracy_score(y, q > 0.5, sample_weight=w))
    assert figures["auc"] == pytest.approx(roc_auc_score(y, q, sample_weight=w), abs=5e-4)


@pytest.mark.parametrize("bias", [-6.9, -3.5, 0.0, 2.0])
@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01, 1e-3, 1e-4])
def test_auc_is_near_the_exact_one_however_close_the_scores(bias: float, spread: float) -> None:
    """A bias of -6.9 is a click rate of 0.2 %; a spread of 1e-4 leaves 1e-5 between most scores."""
    label, p = log_of(3, 200_000, bias, spread)
    exact = roc_auc_score(label, p)
    assert scored(label, p).whole("final")["auc"] == pytest.approx(exact, abs=2e-4)


def test_auc_is_near_the_exact_one_while_scores_move() -> None:
    label, p = log_of(4, 100_000, -3.5)
    logit = np.log(p / (1 - p)) * np.minimum(1, np.linspace(0, 4, len(p)))
    p = logistic(logit).astype(np.float32)
    board = scored(label, p, mark=60_000)
    assert board.whole("final")["auc"] == pytest.approx(roc_auc_score(label, p), abs=2e-4)
    exact = roc_auc_score(label[60_000:], p[60_000:])
    assert board.since("final")["auc"] == pytest.approx(exact, abs=5e-4)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 1.0, math.nan]),
            st.floats(0, 1, width=32) | st.sampled_from([math.nan, math.inf]),
            st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        ),
        max_size=40,
    ),
    st.integers(1, 7),
)
@settings(deadline=None)
def test_blocks_do_not_matter(records: list[tuple[float, float, float]], size: int) -> None:
    label, p, weight = np.array(records, np.float32).reshape(-1, 3).T.copy()
    one, other = scored(label, p, weight), scored(label, p, weight, size)
    for name, array in one.state()[0].items():
        assert array.tobytes() == other.state()[0][name].tobytes(), name


def test_state_goes_on_bit_for_bit() -> None:
    label, p = log_of(5, 9_000, -1.0)
    board, tail = scored(label, p, mark=2_000), block_of(label)
    arrays, meta = board.state()
    back = Scoreboard(["final"], ["mixture"])
    back.restore(arrays, json.loads(json.dumps(meta)))
    for each in (board, back):
        each.update(tail, immediate_tape(tail.label), p)
    for name in board.names:
        assert back.whole(name) == board.whole(name)
        assert back.since(name) == board.since(name)
    assert {k: v.tobytes() for k, v in back.state()[0].items()} == {
        k: v.tobytes() for k, v in board.state()[0].items()
    }


def test_scores_of_other_experts_are_refused() -> None:
    arrays, meta = Scoreboard(["a", "b"], ["member"] * 2).state()
    with pytest.raises(ValueError, match="saved scores are of a, b, constant, last label"):
        Scoreboard(["a"], ["member"]).restore(arrays, meta)


def test_baselines_are_progressive() -> None:
    label = np.array([1, 0, np.nan, 1], np.float32)
    served = Scoreboard(["a"], ["member"]).update(
        block_of(label), immediate_tape(label), np.full((4, 1), 0.5, np.float32)
    )
    np.testing.assert_allclose(served[:, 0], [0.5, 1.5 / 2, 1.5 / 3, 1.5 / 3], rtol=1e-6)
    np.testing.assert_allclose(served[:, 1], [0.5, 0.999, 0.001, 0.001], rtol=1e-4)


def test_late_labels_score_the_baselines_as_served() -> None:
    label = np.array([0, 1], np.float32)
    tape = Tape(np.array([0, 1], np.uint8), np.array([1, 1], np.int32))
    p = np.full((2, 1), 0.5, np.float32)
    board = Scoreboard(["a"], ["member"])
    first = board.update(block_of(label), tape, p)
    assert first[1].tolist() == [0.5, 0.5]
    late = Tape(np.array([1], np.uint8), np.array([0], np.int32))
    served = np.array([[0.25, 0.001], [0, 0]], np.float32)
    board.update(block_of(label), late, p, served)
    expected = -math.log(0.5) - math.log(0.75)
    assert board.whole("constant")["log_loss"] == pytest.approx(expected / 2, rel=1e-6)


def test_records_without_label_do_not_count() -> None:
    label, p = log_of(6, 500, -1.0)
    gaps = label.copy()
    gaps[::3] = np.nan
    kept = ~np.isnan(gaps)
    with_gaps, without = scored(gaps, p), scored(label[kept], p[kept])
    assert [with_gaps.whole(n) for n in with_gaps.names] == [
        without.whole(n) for n in without.names
    ]


def test_what_is_not_defined_is_none() -> None:
    empty = Scoreboard(["a"], ["member"]).whole("a")
    assert empty["records"] == 0
    assert [name for name, figure in empty.items() if figure is None] == [
        "click_rate",
        "log_loss",
        "normalized_entropy",
        "auc",
        "accuracy",
        "calibration",
    ]
    zeros = scored(np.zeros(10, np.float32), np.full(10, 0.1, np.float32)).whole("final")
    assert zeros["log_loss"] == pytest.approx(-math.log(0.9), rel=1e-6)
    assert zeros["auc"] is zeros["calibration"] is zeros["normalized_entropy"] is None


def test_probabilities_are_clipped() -> None:
    label = np.array([0, 1], np.float32)
    board = scored(label, 1 - label)
    assert board.whole("final")["log_loss"] == pytest.approx(-math.log(CLIP), rel=5e-3)
    assert board.whole("final")["auc"] == 0.0


def test_an_expert_without_a_score_speaks_with_the_constant() -> None:
    label, p = log_of(7, 300, -1.0)
    board = scored(label, np.full_like(p, np.nan))
    assert board.whole("final") == board.whole("constant")


def test_names() -> None:
    with pytest.raises(ValueError, match="2 names of experts and 1 kinds"):
        Scoreboard(["a", "b"], ["member"])
    for names in (["a", "a"], ["constant", "a"]):
        with pytest.raises(ValueError, match="is taken twice"):
            Scoreboard(names, ["member"] * 2)
    with pytest.raises(ValueError, match="did you mean 'constant'"):
        Scoreboard(["a"], ["member"]).whole("constnat")


@given(
    st.lists(
        st.tuples(
            st.floats(-14, 14, width=32) | st.just(0.125), st.booleans(), st.sampled_from([1, 2.5])
        ),
        max_size=300,
    ),
)
@settings(deadline=None, max_examples=30)
def test_histogram_kernels_equal_their_twins(records: list[tuple[float, bool, float]]) -> None:
    from onlinestack.auc import DEPTH, Histograms

    def run(side: int) -> list[bytes]:
        bins = Histograms.of(1)
        drop, lift, spread, area = (
            KERNELS[f"onlinestack.auc.{name}"][side] for name in ("drop", "lift", "spread", "area")
        )
        for x, y, w in records:
            p = np.float32(np.clip(logistic(np.float64(x)), CLIP, 1 - CLIP))
            drop(bins.mass, bins.child, bins.used, 0, p, int(y), w, 3.0)
        for x, y, w in records[::3]:
            p = np.float32(np.clip(logistic(np.float64(x)), CLIP, 1 - CLIP))
            lift(bins.mass, bins.child, 0, p, int(y), w)
        mass, child = bins.mass[0, : bins.slots], bins.child[0, : bins.slots]
        before = mass.sum()
        spread(mass, child, np.empty_like(mass))
        assert mass.sum() == pytest.approx(before, rel=1e-12, abs=1e-12)
        assert not mass[child != 0].any()
        result = area(mass, child, np.zeros((DEPTH, 2), np.int64))
        return [mass.tobytes(), child.tobytes(), np.float64(result).tobytes()]

    assert run(0) == run(1)


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1, width=32), st.booleans()), max_size=60),
    st.integers(0, 5),
)
@settings(deadline=None, max_examples=30)
def test_score_kernel_equals_its_twin(records: list[tuple[bool, float, bool]], late: int) -> None:
    """Labels come ``late`` records after the prediction; half of the weights are not one."""
    n = len(records)
    label = np.array([y for y, _, _ in records], np.float32)
    weight = np.array([0.3 if odd else 1.0 for _, _, odd in records], np.float32)
    p = np.array([[q, 1 - q] for _, q, _ in records], np.float32).reshape(n, 2)
    steps = sorted([(i, 0, i) for i in range(n)] + [(i + late, 1, i) for i in range(n)])
    op = np.array([kind for _, kind, _ in steps], np.uint8)
    row = np.array([i for _, _, i in steps], np.int32)

    def run(side: int) -> list[bytes]:
        board = Scoreboard(["a", "b"], ["member"] * 2)
        bins = board._histograms
        served = np.zeros((n, 2), np.float32)
        arrays = (served, board._totals, board._sums, bins.mass, bins.child, bins.used)
        KERNELS["onlinestack.metrics.score"][side](op, row, label, weight, p, *arrays)
        return [array.tobytes() for array in arrays]

    assert run(0) == run(1)


def test_river_metric() -> None:
    from river import linear_model, metrics
    from river.utils import Rolling

    from onlinestack.river_metrics import BinnedROCAUC

    label, p = log_of(8, 6_000, -3.4)
    metric = BinnedROCAUC()
    assert metric.get() == 0.5
    for y, q in zip(label > 0, p.tolist(), strict=True):
        metric.update(bool(y), {False: 1 - q, True: q})
    assert metric.get() == pytest.approx(roc_auc_score(label, p), abs=1e-3)
    assert metric.works_with(linear_model.LogisticRegression())
    assert not metric.requires_labels
    assert metric.clone().get() == 0.5
    assert len((metric + metrics.LogLoss()).get()) == 2

    rolling = Rolling(BinnedROCAUC, window_size=1_000)
    for y, q in zip(label > 0, p.tolist(), strict=True):
        rolling.update(bool(y), q)
    exact = roc_auc_score(label[-1_000:], p[-1_000:])
    assert rolling.get() == pytest.approx(exact, abs=1e-2)


def test_river_metric_forgets_what_is_taken_back() -> None:
    from onlinestack.river_metrics import BinnedROCAUC

    label, p = log_of(9, 2_000, -1.0)
    metric = BinnedROCAUC()
    for verb in (metric.update, metric.revert):
        for y, q in zip(label, p.tolist(), strict=True):
            verb(y == 1, q, 2.0)
    assert metric.get() == 0.5
    assert not metric._histogram.mass.any()
