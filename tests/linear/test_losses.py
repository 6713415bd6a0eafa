"""Losses: gradients are gradients, steps are steps, kernels are their plain twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlinestack.kernel import KERNELS
from onlinestack.linear import losses
from onlinestack.linear.losses import LINKS, LOSSES, Loss

F = np.float32
LOW, HIGH = F(-50), F(50)
LABELS = {"logistic": (0, 1), "hinge": (0, 1), "poisson": (0, 1, 3)}
TAU = {"quantile": 0.3, "expectile": 0.2}


def loss_named(name: str) -> Loss:
    return Loss(LOSSES[name], F(TAU.get(name, 0.5)))


def same(a: float, b: float) -> bool:
    return F(a).tobytes() == F(b).tobytes() or (math.isnan(a) and math.isnan(b))


@pytest.mark.parametrize("name", LOSSES)
def test_derivative_is_the_slope_of_the_loss(name: str) -> None:
    loss = loss_named(name)
    for y in LABELS.get(name, (-1.5, 0, 0.7)):
        for p in np.linspace(-3, 3, 25):
            if name in ("hinge", "quantile", "expectile") and abs(p - y) < 0.1:
                continue
            if name == "hinge" and abs(abs(p) - 1) < 0.1:
                continue
            h = 1 / 128
            up = losses.loss_of(loss, F(p + h), F(y), LOW, HIGH)
            down = losses.loss_of(loss, F(p - h), F(y), LOW, HIGH)
            slope = losses.derivative(loss, F(p), F(y), LOW, HIGH)
            # The poisson loss is the deviance, twice what its derivative belongs to.
            half = 0.5 if name == "poisson" else 1.0
            assert half * (up - down) / (2 * h) == pytest.approx(slope, abs=2e-2, rel=1e-2)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_convex_and_steps_go_downhill(name: str) -> None:
    loss = loss_named(name)
    for y in LABELS.get(name, (-1.5, 0, 0.7)):
        slopes = [losses.derivative(loss, F(p), F(y), LOW, HIGH) for p in np.linspace(-5, 5, 41)]
        assert all(a <= b + 1e-5 for a, b in zip(slopes, slopes[1:], strict=False))
        for p in np.linspace(-4, 4, 17):
            slope = losses.derivative(loss, F(p), F(y), LOW, HIGH)
            plain = losses.plain_update(loss, F(p), F(y), F(0.25))
            aware = losses.importance_update(loss, F(p), F(y), F(0.25), F(0.5))
            assert plain * slope <= 0
            assert aware * slope <= 1e-6
            assert plain == pytest.approx(-0.25 * slope, rel=1e-5, abs=1e-6)
            assert losses.squared_gradient(loss, F(p), F(y), LOW, HIGH) >= 0


@pytest.mark.parametrize("name", ["squared", "logistic", "hinge", "quantile"])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_importance_twice_is_two_steps(name: str, y: float) -> None:
    """An importance of 2 moves the prediction about as far as learning the record twice."""
    loss, scale, p = loss_named(name), F(1.0), F(0.2)
    once = losses.importance_update(loss, p, F(y), F(0.05), scale)
    again = losses.importance_update(loss, F(p + once * scale), F(y), F(0.05), scale)
    both = losses.importance_update(loss, p, F(y), F(0.1), scale)
    assert once + again == pytest.approx(both, rel=2e-3, abs=2e-4)


@pytest.mark.parametrize("name", ["squared", "hinge", "quantile", "expectile"])
def test_no_importance_overshoots_the_label(name: str) -> None:
    loss = loss_named(name)
    for rate in (1.0, 1e3, 1e20):
        step = losses.importance_update(loss, F(0), F(1), F(rate), F(1))
        assert 0 <= step <= 1.0000001


floats = st.floats(width=32, allow_nan=False, min_value=-(2.0**60), max_value=2.0**60)
rates = st.floats(width=32, min_value=2.0**-60, max_value=2.0**40)


@given(
    st.sampled_from(sorted(LOSSES)),
    floats,
    st.one_of(st.sampled_from([0.0, 0.5, 1.0]), floats.map(abs)),
    rates,
    rates,
    st.sampled_from([(0.0, 1.0), (-1.0, 1.0)]),
)
def test_kernels_equal_their_twins(
    name: str, p: float, y: float, rate: float, scale: float, ends: tuple[float, float]
) -> None:
    loss = loss_named(name)._replace(low=F(ends[0]), high=F(ends[1]))
    clamped = min(max(F(p), LOW), HIGH)
    calls = {
        "loss_of": (loss, clamped, F(y), LOW, HIGH),
        "derivative": (loss, clamped, F(y), LOW, HIGH),
        "squared_gradient": (loss, clamped, F(y), LOW, HIGH),
        "plain_update": (loss, clamped, F(y), F(rate)),
        "importance_update": (loss, clamped, F(y), F(rate), F(scale)),
    }
    for function, arguments in calls.items():
        kernel = KERNELS[f"onlinestack.linear.losses.{function}"]
        assert same(kernel.compiled(*arguments), kernel.twin(*arguments)), function


@given(st.sampled_from(sorted(LINKS)), floats)
def test_links_equal_their_twins_and_never_fall(name: str, p: float) -> None:
    kernel = KERNELS["onlinestack.linear.losses.link"]
    code = LINKS[name]
    assert same(kernel.compiled(code, F(p)), kernel.twin(code, F(p)))
    assert kernel.compiled(code, F(p)) <= kernel.compiled(code, F(np.nextafter(F(p), F(np.inf))))
