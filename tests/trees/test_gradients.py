from __future__ import annotations

import math

import numpy as np
import pytest

from onlinestack.trees.gradients import fill_gradients, grid_of


def gradients(n: int, weight: np.ndarray, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 4, n).astype(np.float32)
    click = (rng.random(n) < 0.3).astype(np.float32)
    gradient, curvature = np.empty(n, np.float32), np.empty(n, np.float32)
    fill_gradients(margin, click, weight, grid_of(weight), gradient, curvature)
    return margin, click, gradient, curvature


@pytest.mark.parametrize("largest", [1.0, 3.7, 1000.0])
def test_sums_are_the_same_in_any_order(largest):
    n = 50_000
    rng = np.random.default_rng(1)
    weight = rng.uniform(0, largest, n).astype(np.float32)
    *_, gradient, curvature = gradients(n, weight)
    for each in (gradient, curvature):
        exact = math.fsum(each.tolist())
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(n)
            assert np.cumsum(each[order], dtype=np.float64)[-1] == exact


def test_they_are_those_of_the_log_loss():
    n = 10_000
    weight = np.random.default_rng(2).uniform(0.5, 4, n).astype(np.float32)
    margin, click, gradient, curvature = gradients(n, weight)
    p = 1 / (1 + np.exp(-margin.astype(np.float64)))
    np.testing.assert_allclose(gradient, (p - click) * weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(curvature, p * (1 - p) * weight, rtol=1e-5, atol=1e-6)


def test_no_rows_of_weight():
    weight = np.zeros(3, np.float32)
    *_, gradient, curvature = gradients(3, weight)
    assert gradient.tolist() == curvature.tolist() == [0, 0, 0]
