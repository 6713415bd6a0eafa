"""Recipes: entries from tables, and every way they can be wrong told in one sentence."""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest

from onlinestack import OnlineStacker, recipe
from onlinestack.assembly import linear_part
from onlinestack.recipe import (
    COMBINERS,
    STACKERS,
    Linear,
    Newton,
    Recipe,
    RecipeError,
    Trees,
    combiners_of,
    entries_of,
    table_of,
)


def test_entries_come_back_from_their_tables() -> None:
    tables: list[dict[str, Any]] = [
        {"name": "pairs", "kind": "linear", "interactions": ["ff"], "learning_rate": 1},
        {"name": "trees", "kind": "trees", "base": "pairs", "depth": 4},
    ]
    entries = entries_of(tables, "member")
    assert entries == [
        Linear("pairs", interactions=("ff",), learning_rate=1.0),
        Trees("trees", base="pairs", depth=4),
    ]
    assert entries_of([table_of(entry) for entry in entries], "member") == entries


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "a", "kind": "tree"}, "kind='tree' of member a is unknown, did you mean 'trees'"),
        (
            {"name": "a", "kind": "newton"},
            "kind='newton' of member a is unknown; give one of linear",
        ),
        ({"name": "a", "rate": 1.0}, "unknown key 'rate' in member a; give one of name, reads"),
        ({"name": "a", "read": "f"}, "unknown key 'read' in member a, did you mean 'reads'"),
        ({"reads": "f"}, "member 1 has no name"),
        ({"name": "a", "bits": 3.5}, "bits of member a must be a whole number, not 3.5"),
        ({"name": "a", "bits": True}, "bits of member a must be a whole number, not True"),
        ({"name": "a", "constant": 1}, "constant of member a must be true or false, not 1"),
        ({"name": "a", "interactions": [1]}, "interactions of member a must be a list of texts"),
        ({"name": "a", "learning_rate": "x"}, "learning_rate of member a must be a number"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(table: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        entries_of([table], "member")


def test_names_are_taken_once() -> None:
    with pytest.raises(RecipeError, match="'a' is taken twice"):
        entries_of([{"name": "a"}, {"name": "a"}], "member")
    with pytest.raises(RecipeError, match="'a' is taken twice"):
        Recipe((Linear("a"),), (Linear("a", reads="s"),))
    with pytest.raises(RecipeError, match="'rank' is taken twice"):
        Recipe((Linear("rank"),), (), combiners=("rank",))
    with pytest.raises(RecipeError, match="'best' is taken twice"):
        Recipe((Linear("a"),), (Linear("best", reads="s"),), combiners=("rank", "best"))


def test_combiners_are_named_or_all() -> None:
    assert combiners_of(()) == ()
    assert combiners_of(["all", "rank"]) == COMBINERS
    assert combiners_of(["best", "rank", "best"]) == ("rank", "best")
    with pytest.raises(
        RecipeError, match="combiner 'mean' is unknown; give one of all, arithmetic"
    ):
        combiners_of(["mean"])


@pytest.mark.parametrize(
    ("members", "stackers", "message"),
    [
        ((), (), "a stack needs members"),
        ((Linear("a", reads="s"),), (), "'a' reads namespace 's', but stackers read scores"),
        ((Linear("a", reads="l"),), (), "'a' reads namespace 'l', but nothing fills it"),
        ((Linear("a"),), (Linear("b", interactions=("zs",)),), "'b' reads namespace 'z'"),
        ((Linear("a"), Trees("t", base="aa")), (), "'aa', which is no member, did you mean 'a'"),
        ((Trees("t", inputs=("u",)),), (), "'t' reads the margin of 'u', which is no member"),
        ((Trees("t", leaves=True), Trees("u", leaves=True)), (), "several members give leaves"),
    ],
)
def test_entries_that_do_not_go_together_are_refused(
    members: tuple[Any, ...], stackers: tuple[Linear, ...], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(members, stackers)


def test_namespaces_are_read_alone_or_in_interactions() -> None:
    recipe = Recipe((Linear("a"), Linear("b", interactions=("ct",))), (Linear("c", reads="s"),))
    assert [letter for letter in "cfrst" if recipe.read(letter)] == ["c", "f", "s", "t"]


def test_a_half_life_fades_and_none_keeps() -> None:
    fades = [linear_part(Linear("a", half_life=life), 4).rule.fade for life in (0.0, 1.0, 4096.0)]
    assert fades[:2] == [1.0, 0.5] and fades[2] ** 4096 == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(RecipeError, match="half_life of 'a' is out of range: -1"):
        Linear("a", half_life=-1.0)


def test_stackers_are_linear_or_take_newtons_steps() -> None:
    made = entries_of([{"name": "a", "kind": "newton", "half_life": 1}], "stacker", STACKERS)
    assert made == [Newton("a", half_life=1.0)]
    with pytest.raises(
        RecipeError, match="kind='trees' of stacker a is unknown; give one of linear"
    ):
        entries_of([{"name": "a", "kind": "trees"}], "stacker", STACKERS)
    with pytest.raises(RecipeError, match="half_life of 'a' is out of range: 0.5"):
        Newton("a", half_life=0.5)
    with pytest.raises(RecipeError, match="trust of 'a' is out of range: 0.0"):
        Newton("a", trust=0.0)


def test_leaves_may_be_read_where_there_are_some() -> None:
    recipe = Recipe((Trees("t", leaves=True), Linear("a", reads="l")), ())
    assert [entry.name for entry in recipe.trees] == ["t"]


def test_the_preset_and_python_have_the_same_defaults() -> None:
    path = Path(recipe.__file__).parent / "presets" / "stack.toml"
    preset = tomllib.loads(path.read_text(encoding="utf-8"))
    parameters = inspect.signature(OnlineStacker).parameters
    own = {name: parameters[name].default for name in preset["stack"]}
    own["combiners"] = own["combiners"] or ()  # river takes no empty tuple for an argument
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()} == preset["stack"]
    made, fields = OnlineStacker().recipe(), dataclasses.fields(Recipe)
    plain = Recipe(made.members, made.stackers)
    assert [getattr(made, f.name) for f in fields] == [getattr(plain, f.name) for f in fields]
