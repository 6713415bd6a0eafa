from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from onlinestack import LinearLearner, OnlineStacker, load, open_source, save
from onlinestack.cli import app
from onlinestack.features.names import Ledger
from onlinestack.inspection.overview import inspect
from onlinestack.io.records import records

CLICKS = Path(__file__).parents[2] / "streams" / "clicks.parquet"
ROLES = {"label": "click", "time": "time", "id": "id"}
RECORDS = 400


def ledger_of(model: Any) -> Ledger:
    ledger = model.parts["encoder"].ledger
    assert isinstance(ledger, Ledger)
    return ledger


def same(one: Ledger, other: Ledger) -> bool:
    (arrays, meta), (others, other_meta) = one.state(), other.state()
    equal = all(np.array_equal(arrays[name], others[name]) for name in arrays)
    return equal and meta == other_meta


def learned(model: Any, size: int) -> Any:
    source = open_source(CLICKS, **ROLES)
    model.start(source.schema)
    batch = next(iter(source))
    for start in range(0, RECORDS, size):
        model.progress(batch.rows(start, min(start + size, RECORDS)))
    return model


@pytest.mark.parametrize("kind", [LinearLearner, OnlineStacker])
def test_which_names_are_kept_does_not_depend_on_blocks(kind: Any) -> None:
    whole = learned(kind(names=True), RECORDS)
    assert len(ledger_of(whole).names) > 1000
    for size in (1, 7, 100):
        assert same(ledger_of(learned(kind(names=True), size)), ledger_of(whole)), size


def test_records_as_dicts_give_the_same_names() -> None:
    whole = learned(LinearLearner(names=True), RECORDS)
    source = open_source(CLICKS, **ROLES)
    model = LinearLearner(names=True)
    model.start(source.schema)
    batch = next(iter(source)).rows(0, RECORDS)
    for x, y, _ in records(batch, source.schema.fields):
        model.predict_proba_one(x)
        model.learn_one(x, y)
    assert same(ledger_of(model), ledger_of(whole))


def test_what_is_only_predicted_is_not_kept() -> None:
    model = LinearLearner(names=True)
    model.learn_one({"site": "news"}, True)
    model.predict_proba_one({"site": "mail"})
    assert ledger_of(model).names == ["site=news"]


def test_records_that_wait_for_their_labels_are_kept_with_what_they_were() -> None:
    model = LinearLearner(names=True)
    for site in ("news", "mail"):
        model.predict_proba_one({"site": site}, id=site)
    assert ledger_of(model).names == ["site=news", "site=mail"]


def test_names_of_every_kind_of_value() -> None:
    model = LinearLearner(names=True)
    model.learn_one({"tags": ["a", "b"], "price": 3.5, "site": "x", "ok": True, 7: "odd"}, True)
    model.learn_one({"tags": [], "price": None, "site": "", "new": "é"}, False)
    names = ledger_of(model).names
    assert set(names) == {
        *("tags=a", "tags=b", "price>=2", "site=x", "ok=true", "7=odd", "new=é"),
        *("tags missing", "price missing", "site missing", "ok missing", "7 missing"),
    }
    assert len(set(ledger_of(model).hashes.tolist())) == len(names)


def test_a_full_ledger_counts_what_it_leaves_out_and_keeps_what_came_first() -> None:
    ledger = Ledger(3)
    index = np.array([5, 6, 5, 7, 8, 5, 9], np.uint32)
    opens = np.arange(7)[:, None]
    seeds = np.array([1], np.uint32)
    ledger.note(index, opens, opens + 1, seeds, lambda row, field: [f"a={index[row]}"])
    assert ledger.names == ["a=5", "a=6", "a=7"] and ledger.left_out == 2
    again = Ledger.restored(*ledger.state())
    for each in (ledger, again):
        each.note(index, opens, opens + 1, seeds, lambda row, field: ["never"])
    assert same(ledger, again) and ledger.left_out == 4


def test_two_fields_with_one_hash_are_a_collision() -> None:
    ledger = Ledger(8)
    index, opens = np.array([5, 5, 6], np.uint32), np.array([[0, 1, 2]])
    seeds = np.array([1, 2, 3], np.uint32)
    ledger.note(index, opens, opens + 1, seeds, lambda row, field: ["abc"[field]])
    assert ledger.names == ["a", "b", "c"] and ledger.collisions == 1


def test_a_run_that_is_resumed_keeps_the_same_names(tmp_path: Path) -> None:
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    options = ["learn", str(CLICKS), *(f"--{role}={name}" for role, name in ROLES.items())]
    options += ["--preset", "linear", "--names", "--quiet"]
    runner = CliRunner()
    assert runner.invoke(app, [*options, "--limit", "3000", "-f", whole]).exit_code == 0
    assert runner.invoke(app, [*options, "--limit", "1234", "-f", parts]).exit_code == 0
    more = ["learn", "--resume", parts, "--limit", "3000", "--quiet"]
    assert runner.invoke(app, more).exit_code == 0
    assert same(ledger_of(load(whole)), ledger_of(load(parts)))
    assert Path(whole).read_bytes() == Path(parts).read_bytes()


def test_values_are_in_a_model_only_if_asked_for(tmp_path: Path) -> None:
    for names in (False, True):
        model = LinearLearner(names=names)
        model.learn_one({"site": "very-private"}, True)
        save(model, tmp_path / "model")
        assert (b"very-private" in (tmp_path / "model").read_bytes()) == names
        told = inspect(str(tmp_path / "model"))
        assert (told["names"] is not None) == names
        found = {row["feature"] for row in told["weights"]["linear"]["top"]}
        assert found == {"constant", "site=very-private" if names else None}


def test_pairs_are_named_while_names_are_few(tmp_path: Path) -> None:
    model = LinearLearner(names=True, interactions=("ff",), bits=22)
    for i in range(200):
        clicked = i % 2 == 0
        model.learn_one({"a": f"x{clicked}", "b": f"y{i % 5}"}, clicked)
    save(model, tmp_path / "model")
    rows = inspect(str(tmp_path / "model"), top=100)["weights"]["linear"]["top"]
    names = {row["feature"] for row in rows}
    assert None not in names
    assert {"a=xTrue", "b=y0", "a=xTrue x b=y0", "a=xTrue x a=xTrue", "constant"} <= names


def test_text_without_columns_has_no_names(tmp_path: Path) -> None:
    text = tmp_path / "text.vw"
    text.write_text("1 |f a\n")
    result = CliRunner().invoke(app, ["learn", str(text), "--preset", "linear", "--names"])
    assert result.exit_code == 2
    assert result.stderr == (
        "onlinestack: --names keeps those of columns, and there are none here: leave it out\n"
    )


def test_names_are_told_by_the_command(tmp_path: Path) -> None:
    model = OnlineStacker(names=True)
    for i in range(50):
        model.learn_one({"site": f"s{i % 3}", "hour": i % 24}, i % 3 == 0)
    path = str(tmp_path / "model")
    save(model, path)
    shown = CliRunner().invoke(app, ["inspect", path]).stdout
    assert "site=s0" in shown and "names of" in shown and "learn with --names" not in shown
    told = json.loads(CliRunner().invoke(app, ["inspect", path, "--json"]).stdout)
    assert {row["feature"] for row in told["weights"]["pairs 0.25"]["top"]} > {"site=s0"}
