"""The public learners are river estimators."""

from __future__ import annotations

import pytest
from river import checks, datasets, evaluate, metrics

from onlinestack import LinearLearner, LinearRegressor, load, save

MODELS = {
    "clicks": LinearLearner(bits=12),
    "coin": LinearLearner(bits=12, update="coin"),
    "classes": LinearLearner(bits=12, oaa=10),
    "numbers": LinearRegressor(bits=12),
}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(name, check, id=f"{name}-{check.__name__}")
        for name, model in MODELS.items()
        for check in checks.yield_checks(model)
    ],
)
def test_river(name, check):
    check(MODELS[name].clone())


def test_rivers_evaluation_of_classes_and_numbers():
    model = LinearLearner(bits=18, oaa=7)
    right = evaluate.progressive_val_score(datasets.ImageSegments(), model, metrics.Accuracy())
    assert right.get() > 0.85
    numbers = LinearRegressor(learning_rate=10.0)
    error = evaluate.progressive_val_score(datasets.TrumpApproval(), numbers, metrics.MAE())
    assert error.get() < 2


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name, tmp_path):
    model = MODELS[name].clone()
    for i in range(50):
        y = {"classes": f"class {i % 7}", "numbers": i % 5}.get(name, i % 3 == 0)
        model.learn_one({"a": f"v{i % 7}", "b": i}, y)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert type(again) is type(model)
    assert again.params == model.params
    for i in range(7):
        assert again.predict_one({"a": f"v{i}"}) == model.predict_one({"a": f"v{i}"})
    again.learn_one({"a": "v1"}, {"classes": "class 1"}.get(name, 1))
