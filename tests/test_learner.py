"""The public learners are river estimators."""

from __future__ import annotations

import pytest
from river import checks, datasets, evaluate, metrics

from onlinestack import LinearLearner, LinearRegressor, OnlineStacker, load, save

MODELS = {
    "clicks": LinearLearner(bits=12),
    "coin": LinearLearner(bits=12, update="coin"),
    "classes": LinearLearner(bits=12, oaa=10),
    "numbers": LinearRegressor(bits=12),
    "stack": OnlineStacker(
        members=(
            {"name": "f", "interactions": ["ff"]},
            {"name": "trees", "kind": "trees", "rounds": 4, "depth": 2},
            {"name": "bits", "kind": "bits"},
            {"name": "pairs", "kind": "factorisation"},
        ),
        stackers=({"name": "s", "reads": "s", "constant": False},),
        bits=8,
        fields=8,
        tree_columns=20,
        half_lives=(8.0,),
        random_bits=128,
        window_rows=200,
        train_first=40,
        train_every=100,
        train_lag=20,
    ),
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


def test_a_saved_stack_keeps_the_experts_it_was_made_with(tmp_path):
    model = OnlineStacker(bits=8)
    model.learn_one({"a": "v"}, True)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert model.members is None
    assert [entry["name"] for entry in again.members] == list(model.weights())[: len(again.members)]
    assert again.weights() == model.weights()


def test_what_a_stack_can_not_be_is_said_at_first_use():
    for wrong, sentence in (
        (
            {"members": ({"name": "a", "read": "f"},)},
            "unknown key 'read' in member a, did you",
        ),
        ({"members": ()}, "a stack needs members"),
        ({"bits": 0}, "bits is out of range: 0; give a number from 1 to 32"),
        ({"members": ({"name": "a", "learning_rate": -1},)}, "learning_rate of 'a' is out of"),
    ):
        with pytest.raises(ValueError, match=sentence):
            OnlineStacker(**wrong).learn_one({"a": 1}, True)
