"""The mixture: its bound on any stream, its quickness to change sides, its state."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlinestack.block import Block, immediate_tape
from onlinestack.stack.mixture import Mixture


def block_of(scores: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> Block:
    n = len(label)
    weight = np.ones(n, np.float32) if weight is None else weight
    block = Block.of([[]] * n, label=label, weight=weight)
    block.scores = np.ascontiguousarray(scores, np.float32)
    block.p = np.empty((n, scores.shape[1] + 2), np.float32)
    return block


def losses(p: np.ndarray, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted losses of the columns of p, summed."""
    given_ = np.where(label[:, None] > 0, p.astype(float), 1 - p.astype(float))
    known = ~np.isnan(label)
    return -(np.log(given_) * weight[:, None])[known].sum(axis=0)


def mixed(
    mixture: Mixture, scores: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Run a mixture over records; return what it predicts."""
    block = block_of(scores, label, weight)
    mixture.run(block, immediate_tape(block.label))
    return block.p


margins = st.floats(-13.75, 13.75, width=32)


@st.composite
def streams(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, k = draw(st.integers(1, 60)), draw(st.integers(1, 6))
    scores = draw(hnp.arrays(np.float32, (n, k), elements=margins))
    label = draw(hnp.arrays(np.float32, n, elements=st.sampled_from([0.0, 1.0, np.nan])))
    weight = draw(hnp.arrays(np.float32, n, elements=st.sampled_from([0.0, 0.25, 1.0, 2.0])))
    return scores, label, weight


@settings(max_examples=150)
@given(streams(), st.sampled_from([0.0, 1e-4, 0.1]), st.booleans())
def test_the_loss_is_at_most_that_of_the_best_expert_and_the_bound(
    stream: tuple[np.ndarray, np.ndarray, np.ndarray], alpha: float, weighted: bool
) -> None:
    scores, label, weight = stream
    largest = 2.0 if weighted else 1.0
    weight = weight if weighted else np.ones_like(weight)
    k = scores.shape[1]
    mixture = Mixture([str(i) for i in range(k)], k, alpha=alpha, largest=largest)
    total = losses(mixed(mixture, scores, label, weight), label, weight)
    records = int((~np.isnan(label) & (weight > 0)).sum())
    slack = largest * (math.log(k + 1) - records * math.log1p(-alpha))
    assert total[0] <= total[1:].min() + slack + 1e-4 * (1 + len(label))
    assert mixture.share.sum() == pytest.approx(1)


def test_the_bound_is_nearly_reached_when_one_expert_knows_all() -> None:
    n = 200
    label = (np.arange(n) % 2).astype(np.float32)
    right = np.where(label > 0, 6, -6)
    scores = np.stack([right, -right, -right, -right], axis=1)
    mixture = Mixture(list("abcd"), 4, alpha=0.0)
    total = losses(mixed(mixture, scores, label), label, np.ones(n))
    assert 0.5 * math.log(5) < total[0] - total[1] <= math.log(5) + 1e-3


def test_it_changes_sides_within_a_few_records_after_months() -> None:
    n = 20_000
    label = np.ones(n, np.float32)
    scores = np.zeros((n, 2), np.float32)
    scores[:, 0], scores[:, 1] = 2, -2
    scores[n // 2 :] *= -1
    p = mixed(Mixture(["a", "b"], 2), scores, label)
    assert p[n // 2 - 1, 0] > 0.87 and p[n // 2, 0] < 0.13
    assert p[n // 2 + 8, 0] > 0.85


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_blocks_do_not_matter(size: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(500, 3)).astype(np.float32)
    label = rng.choice([0, 1, np.nan], 500).astype(np.float32)
    whole, pieces = Mixture(list("abc"), 2), Mixture(list("abc"), 2)
    expected = mixed(whole, scores, label)
    p = [mixed(pieces, scores[a:][:size], label[a:][:size]) for a in range(0, 500, size)]
    assert np.concatenate(p).tobytes() == expected.tobytes()
    assert pieces.share.tobytes() == whole.share.tobytes()


def test_labels_change_nothing_before_them() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(50, 3)).astype(np.float32)
    label = rng.integers(0, 2, 50).astype(np.float32)
    other = label.copy()
    other[20:] = 1 - other[20:]
    one, two = (mixed(Mixture(list("abc"), 3), scores, y)[:, 0] for y in (label, other))
    assert (one[:21] == two[:21]).all()
    assert (one[21:] != two[21:]).any()


def test_the_mean_is_of_members_only() -> None:
    label = np.array([np.nan], np.float32)
    mixture = Mixture(["a", "b", "stacker"], 2)
    p = mixed(mixture, np.array([[1, 3, -9]]), label)
    assert p[0, -1] == pytest.approx(1 / (1 + math.exp(-2)))


def test_state_goes_on_where_it_stopped_and_refuses_others() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(40, 2)).astype(np.float32)
    label = rng.integers(0, 2, 40).astype(np.float32)
    one, two = Mixture(["a", "b"], 2), Mixture(["a", "b"], 2)
    mixed(one, scores, label)
    two.restore(*one.state())
    assert two.share.tobytes() == one.share.tobytes()
    with pytest.raises(ValueError, match="the saved weights are of a, b, mean"):
        Mixture(["a", "c"], 2).restore(*one.state())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.0}, "alpha=1.0 is no share"),
        ({"largest": 0.0}, "largest=0.0 is no weight"),
        ({"members": 0}, "0 of 2 experts are members"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(["a", "b"], **{"members": 2, **arguments})  # type: ignore[arg-type]
