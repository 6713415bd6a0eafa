from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from onlinestack import LinearLearner, OnlineStacker, load, open_source, save
from onlinestack.block import PREDICT_ONE
from onlinestack.cli import app
from onlinestack.inspection.explain import explain
from onlinestack.inspection.overview import inspect
from onlinestack.inspection.record import record_of
from onlinestack.linear.shares import shares_of

ROOT = Path(__file__).parents[1]
CLICKS = ROOT / "streams" / "clicks.parquet"
ROLES = {"label": "click", "time": "time", "id": "id"}
EPSILON = float(np.finfo(np.float32).eps)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def learned(model: Any, limit: int = 1500, **roles: str) -> Any:
    source = open_source(CLICKS, batch_size=limit, **(ROLES | roles))
    model.start(source.schema)
    for batch in source:
        model.progress(model.admit(batch))
        break
    return model


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    row = pq.read_table(CLICKS).slice(20_000, 1).to_pylist()[0]
    return {name: value for name, value in row.items() if value is not None}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> str:
    model = OnlineStacker(train_first=600, train_lag=64, window=60)
    learned(model)
    model.predict_proba_one({"site": "news"}, id="a", time=1e9)
    model.label("b", time=1e9)
    path = str(tmp_path_factory.mktemp("models") / "stack")
    save(model, path)
    return path


LINEAR = [
    {},
    {"interactions": ("ff",), "bits": 10},
    {"interactions": ("fff",), "l1": 1e-6, "l2": 1e-6, "bits": 12},
    {"update": "ftrl", "l1": 0.01},
    {"update": "pistol"},
    {"update": "coin", "constant": False},
    {"update": "sgd", "l2": 1e-5},
]


@pytest.mark.parametrize("options", LINEAR, ids=str)
def test_the_parts_of_a_linear_score_add_up_to_it(
    options: dict[str, Any], record: dict[str, Any]
) -> None:
    model = learned(LinearLearner(**options))
    told = explain(model, record)
    terms = [term["adds"] for term in told["score"]["terms"]]
    assert told["score"]["sum"] == math.fsum(terms)
    most = len(terms) * EPSILON * math.fsum(map(abs, terms))
    assert abs(told["score"]["rounding"]) <= most
    assert told["score"]["score"] != 0.0
    assert all(t["weight"] * t["value"] == t["adds"] for t in told["score"]["terms"])
    names = [term["feature"] for term in told["score"]["terms"]]
    assert names.count("constant") == (0 if "constant" in options else 1)
    assert any(name == f"site={record['site']}" for name in names)


def test_added_up_in_float32_in_their_order_they_are_the_score_to_the_bit(
    record: dict[str, Any],
) -> None:
    model = learned(LinearLearner(interactions=("ff",)))
    told = record_of(model, model.parts["encoder"], record)
    member = model.parts["linear"]
    member.run(told.block, PREDICT_ONE)
    shares = shares_of(member, told.block)
    total = np.float32(0)
    for weight, value in zip(shares.weight, shares.value, strict=True):
        total = np.float32(total + np.float32(np.float32(weight) * value))
    assert total == member.raw[0]


def test_an_explained_prediction_is_the_one_that_predict_gives(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    table = pq.read_table(CLICKS)
    train, one = tmp_path / "train.parquet", tmp_path / "one.parquet"
    pq.write_table(table.slice(0, 2500), train)
    pq.write_table(table.slice(20_000, 1), one)
    for preset in ("linear", "stack"):
        model, p = str(tmp_path / preset), tmp_path / "p.csv"
        options = [f"--{role}={name}" for role, name in ROLES.items()]
        assert run("learn", str(train), *options, "--preset", preset, "-f", model).exit_code == 0
        assert run("predict", str(one), "-i", model, "-p", str(p)).exit_code == 0
        given = p.read_text().splitlines()[1].split(",")[-1]
        told = inspect(model, record=record)
        assert np.float32(told["prediction"]) == np.float32(given)
        assert told["label"] == record["click"]


def test_every_score_of_a_stack_adds_up(stack: str, record: dict[str, Any]) -> None:
    told = inspect(stack, record=record)
    experts = told["mixture"]["experts"]
    assert math.fsum(e["weight"] * e["p"] for e in experts.values()) == pytest.approx(
        told["prediction"], abs=1e-7
    )
    assert told["members"].keys() | told["stackers"].keys() | {"mean"} == experts.keys()
    for name, score in (told["members"] | told["stackers"]).items():
        size = sum(abs(term["adds"]) for term in score["terms"])
        assert abs(score["rounding"]) <= 2000 * EPSILON * max(size, 1), name
        assert experts[name]["p"] == pytest.approx(1 / (1 + math.exp(-score["score"])), abs=1e-6)
    trees = [term["feature"] for term in told["members"]["trees on pairs"]["terms"]]
    assert "score pairs 0.25" in trees and "mean of the trees" in trees


def test_the_part_of_a_member_is_the_slope_of_the_prediction(
    stack: str, record: dict[str, Any]
) -> None:
    told = inspect(stack, record=record)
    experts, step = told["mixture"]["experts"], 1e-4
    members = list(told["members"])
    scores = {name: experts[name]["score"] for name in members}

    def predicted(scores: dict[str, float]) -> float:
        p = sum(experts[m]["weight"] / (1 + math.exp(-scores[m])) for m in members)
        mean = sum(scores.values()) / len(scores)
        p += experts["mean"]["weight"] / (1 + math.exp(-mean))
        for name, stacker in told["stackers"].items():
            weights = {t["feature"]: t["weight"] for t in stacker["terms"]}
            own = weights["constant"]
            own += sum(weights[f"score {m}"] * scores[m] for m in members)
            p += experts[name]["weight"] / (1 + math.exp(-own))
        return p

    assert predicted(scores) == pytest.approx(told["prediction"], abs=1e-6)
    for name in members:
        up = predicted(scores | {name: scores[name] + step})
        down = predicted(scores | {name: scores[name] - step})
        slope = (up - down) / (2 * step)
        assert experts[name]["moves"] == pytest.approx(slope * scores[name], abs=1e-5)


def test_numbers_and_classes_are_explained_too(record: dict[str, Any]) -> None:
    model = LinearLearner(loss="squared")
    for i in range(200):
        model.learn_one({"carrier": "abc"[i % 3]}, float(i % 3))
    told = explain(model, {"carrier": "c"})
    assert told["kind"] == "regression"
    assert told["prediction"] == pytest.approx(model.predict_one({"carrier": "c"}))
    model = LinearLearner(oaa=3)
    for i in range(200):
        model.learn_one({"sound": "abc"[i % 3]}, ("cat", "dog", "cow")[i % 3])
    told = explain(model, {"sound": "c"})
    assert told["prediction"] == "cow"
    assert told["classes"]["cow"]["score"] == told["score"]["score"]
    p = model.predict_proba_one({"sound": "c"})
    assert {name: c["p"] for name, c in told["classes"].items()} == pytest.approx(p)
    assert {t["feature"] for t in told["score"]["terms"]} == {"sound=c", "constant"}


def test_an_overview_tells_what_is_in_a_stack(stack: str) -> None:
    told = inspect(stack, top=3)
    assert told["learned"] == 1500
    assert told["changed"] == {"train_first": 600, "train_lag": 64, "window": 60.0}
    assert sum(told["sizes"]["parts"].values()) < told["sizes"]["file"]
    assert told["sizes"]["file"] == Path(stack).stat().st_size
    trees = told["generations"]["trees"]
    assert trees["accepted"] + trees["refused"] == len(trees["history"]) > 0
    assert trees["history"][0]["cut"] == 600
    assert told["pending"]["pending"] == 1 and told["pending"]["unknown"] == 1
    assert told["league"]["experts"]["constant"]["kind"] == "baseline"
    weights = told["weights"]
    assert {row["feature"] for row in weights["newton 300"]["top"]} <= {
        *(f"score {name}" for name in weights),
        "constant",
    }
    for name, own in weights.items():
        sizes = [abs(row.get("weight", row.get("gain"))) for row in own["top"]]
        assert len(sizes) == 3 and sizes == sorted(sizes, reverse=True), name
    assert all(row["feature"] for row in weights["c 0.5"]["top"])


def test_the_history_of_trainings_survives_saving(stack: str, tmp_path: Path) -> None:
    save(load(stack), tmp_path / "again")
    assert inspect(str(tmp_path / "again"))["generations"] == inspect(stack)["generations"]


def test_the_command_prints_text_and_json(
    stack: str, tmp_path: Path, record: dict[str, Any]
) -> None:
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record | {"colour": "red"}, indent=2))
    shown = run("inspect", stack)
    assert shown.exit_code == 0, shown.output
    for text in ("league table", "newton 300", "1 records wait", "trees: ", "window = 60"):
        assert text in shown.stdout
    told = json.loads(run("inspect", stack, "--json").stdout)
    assert told["generations"] == inspect(stack)["generations"]
    shown = run("inspect", stack, "--explain", str(file), "--top", "2")
    assert shown.exit_code == 0
    assert "does not know these columns: colour" in shown.stdout
    assert "the other" in shown.stdout and "member trees" in shown.stdout
    told = json.loads(run("inspect", stack, "--explain", str(file), "--json").stdout)
    assert told["ignored"] == ["colour"]


def one_sentence(result: Any, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("onlinestack: ")
    for word in words:
        assert word in lines[0]


def test_what_can_not_be_inspected_is_told_in_a_sentence(stack: str, tmp_path: Path) -> None:
    text, record = tmp_path / "text", tmp_path / "record.json"
    text.write_text("no model at all, but longer than eight bytes")
    one_sentence(run("inspect", str(tmp_path / "none")), 4, "there is no snapshot", "none")
    one_sentence(run("inspect", str(text)), 4, "is not a snapshot")
    one_sentence(run("inspect", stack, "--explain", str(record)), 1, "record.json")
    record.write_text("[1, 2]")
    one_sentence(run("inspect", stack, "--explain", str(record)), 1, "one JSON object")
    record.write_text('{"colour": "red"}')
    one_sentence(run("inspect", stack, "--explain", str(record)), 1, "none of the columns", "site")
    record.write_text('{"site": "news", "time": "yesterday"}')
    one_sentence(run("inspect", stack, "--explain", str(record)), 1, "cannot be used")
    model = str(tmp_path / "new")
    save(LinearLearner(), model)
    one_sentence(run("inspect", model, "--explain", str(record)), 1, "no record yet")
    assert run("inspect", model).exit_code == 0


def test_models_of_vowpal_wabbit_text_have_weights_and_no_columns(tmp_path: Path) -> None:
    text = tmp_path / "text.vw"
    text.write_text("1 |f a b\n-1 |f c:2 b\n" * 20)
    model, record = str(tmp_path / "model"), tmp_path / "record.json"
    record.write_text('{"a": 1}')
    assert run("learn", str(text), "--preset", "linear", "-f", model).exit_code == 0
    assert inspect(model)["weights"]["linear"]["used"] == 4
    asked = "inspect", model, "--explain", str(record)
    one_sentence(run(*asked), 1, "Vowpal Wabbit text, which has no columns")
    options = ["-d", str(text), "--loss_function", "logistic", "--quiet", "-f", model]
    assert run("vw", *options).exit_code == 0
    told = inspect(model)
    assert told["kind"] == "vw" and told["weights"]["vw"]["used"] == 4
    assert told["config"]["bit_precision"] == 18
    one_sentence(run(*asked), 1, "onlinestack vw -t --audit -i")
    assert "slot" in run("inspect", model).stdout
