"""What settings ask for, and the codes of classes."""

from __future__ import annotations

import numpy as np
import pytest

from onlinestack import LinearLearner, LinearRegressor, Schema, open_source, progressive_validate
from onlinestack.tasks import Classes, task_of


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((None, None, None), ("click", "logistic")),
        ((None, "hinge", None), ("click", "hinge")),
        ((None, "poisson", None), ("regression", "poisson")),
        (("click", "squared", None), ("click", "squared")),
        (("regression", None, None), ("regression", "squared")),
        ((None, None, 3), ("multiclass", "logistic")),
        (("multiclass", "squared", 3), ("multiclass", "squared")),
    ],
)
def test_the_task_follows_from_settings(settings, expected):
    assert task_of(*settings) == expected


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("clicks", None, None), "task='clicks' is unknown, did you mean 'click'?"),
        ((None, "l2", None), "loss='l2' is unknown; give one of squared"),
        (("click", None, 3), "task='click' has no classes, but oaa=3"),
        (("multiclass", None, None), "needs the number of classes"),
        (("regression", "logistic", None), "loss='logistic' is one of yes and no"),
        ((None, "poisson", 3), "oaa teaches each class yes or no"),
    ],
)
def test_contradictions_are_one_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        task_of(*settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"alpha": 0.1}, "alpha=0.1 belongs to ftrl, pistol and coin"),
        ({"update": "sgd", "beta": 1.0}, "beta=1.0 belongs to ftrl"),
        ({"update": "ftrl", "learning_rate": 0.1}, "learning_rate=0.1 belongs to gradient descent"),
        ({"update": "coin", "initial_t": 1.0}, "initial_t=1.0 belongs to gradient descent"),
        ({"update": "ftrl", "alpha": 0.0}, "alpha=0.0 is out of range"),
        ({"update": "ftrl", "beta": -1.0}, "beta=-1.0 is out of range"),
        ({"update": "ftrl,adaptive"}, "give ftrl alone"),
        ({"update": "ftlr"}, "update='ftlr' is unknown"),
        ({"oaa": 1}, "oaa=1 is out of range"),
        ({"oaa": 5, "bits": 2}, "oaa=5 is out of range"),
        ({"oaa": 3, "link": "logistic"}, "leave it out"),
    ],
)
def test_parameters_that_do_not_go_together(settings, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        LinearLearner(**settings).start()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "target"),
    [({"loss": "squared"}, "click"), ({}, "number"), ({"oaa": 2}, "click"), ({}, "name")],
)
def test_labels_read_for_another_task_are_refused(settings, target):
    with pytest.raises(ValueError, match="open it with target="):
        LinearLearner(**settings).start(Schema(label="y", target=target))


def test_classes_of_python_objects_keep_their_type():
    model = LinearLearner(bits=12, oaa=3)
    assert model.predict_proba_one({"a": 1}) == {}
    assert model.predict_one({"a": 1}) is None
    for _ in range(20):
        for y in (7, "seven", np.int64(8)):
            model.learn_one({"a": str(y)}, y)
    assert [model.predict_one({"a": str(y)}) for y in (7, "seven", 8)] == [7, "seven", 8]
    assert sum(model.predict_proba_one({"a": "7"}).values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="'nine' is a class beyond the 3 met"):
        model.learn_one({"a": "9"}, "nine")
    with pytest.raises(ValueError, match="no name of a class"):
        LinearLearner(oaa=3).learn_one({"a": 1}, (1, 2))


def test_class_numbers_are_codes():
    classes = Classes(3, numbered=True)
    assert [classes.code(y, learn=True) for y in (1, "3", 2.0, 0, 4, 1.5, "x", None)] == [
        *[1, 3, 2, None, None, None, None, None]
    ]
    assert "--categorical" in classes.reason(0)


def test_names_are_equal_as_text_where_files_are_read():
    classes = Classes(3, numbered=False, text=True)
    assert [classes.code(y, learn=True) for y in (3, "3", 3.0, True, "true", None)] == [
        *[1, 1, 1, 2, 2, None]
    ]


def test_predicting_meets_no_class(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,a\n2,b\n3,\n")
    source = open_source(path, label="y", target="class")
    model = LinearLearner(bits=10, oaa=3)
    model.start(source.schema)
    batch = next(iter(source))
    assert model.predict(batch).shape == (3, 3)
    assert model.classes is not None and model.classes.names == []
    unknown = model.admit(batch, learn=False)
    assert [reject.reason for reject in unknown.rejects] == [
        "label 'a' is none of the classes learned",
        "label 'b' is none of the classes learned",
    ]


def test_a_regressor_is_the_learner_of_numbers():
    one, two = LinearRegressor(bits=12), LinearLearner(bits=12, loss="squared")
    for y in (3.5, -2, 10, 4) * 10:
        one.learn_one({"a": str(y)}, y)
        two.learn_one({"a": str(y)}, y)
        assert one.predict_one({"a": "4"}) == two.predict_one({"a": "4"})
    assert -2 <= one.predict_one({"a": "10"}) <= 10
    with pytest.raises(ValueError, match="predict_one"):
        two.predict_proba_one({"a": "10"})
    with pytest.raises(ValueError, match="finite number"):
        one.learn_one({"a": "10"}, float("inf"))


def test_a_number_is_clamped_to_the_labels_before_it():
    model = LinearLearner(bits=12, loss="squared", learning_rate=1e3)
    for y in (1.0, 2.0, 50.0, -3.0):
        known = model.predict_one({"a": "b"})
        model.learn_one({"a": "b"}, y)
        assert {1.0: 0, 2.0: 1, 50.0: 2}.get(y, 50) >= known >= 0


def test_raw_class_numbers_can_not_be_scored(tmp_path):
    path = tmp_path / "a.vw"
    path.write_text("1 |f a\n2 |f b\n")
    source = open_source(path, target="raw")
    with pytest.raises(ValueError, match="leave raw out"):
        next(iter(progressive_validate(source, LinearLearner(raw=True, oaa=2))))
