from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlinestack.config import ENTRIES, SHARED, Config, ConfigError, presets
from onlinestack.recipe import KINDS
from onlinestack.settings import SETTINGS


def resolve(options=None, file=None, **environment):
    return Config.resolve(options, file=file, environment=environment)


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_every_setting_of_its_own_stands_in_every_preset():
    for preset, path in presets().items():
        head, _, entries = path.read_text(encoding="utf-8").partition(ENTRIES)
        found = re.findall(r"^(?:# )?([a-z_0-9]+) = ", head, re.MULTILINE)
        own = [key for key, row in SETTINGS.items() if key == "preset" or belongs(preset, row)]
        assert found == [key for key in own if SETTINGS[key].type != "entries"], path
        found = set(re.findall(r"^\[\[([a-z]+)\]\]", entries, re.MULTILINE))
        assert found == {key for key in own if SETTINGS[key].type == "entries"}, path


def test_all_that_an_entry_can_say_stands_in_the_preset():
    _, _, entries = presets()["stack"].read_text(encoding="utf-8").partition(ENTRIES)
    told = re.split(r"^#   (\w+) +", entries.partition("\n\n")[0], flags=re.MULTILINE)
    assert told[1::2] == list(KINDS)
    for text, made in zip(told[2::2], KINDS.values(), strict=True):
        values = dict(re.findall(r'(\w+) = ([\w.]+|"\w*"|\[\])', text))
        defaults = [row for row in dataclasses.fields(made) if row.name != "name"]
        assert list(values) == [row.name for row in defaults]
        for row in defaults:
            value = tomllib.loads(f"x = {values[row.name]}")["x"]
            assert (tuple(value) if isinstance(value, list) else value) == row.default


def test_option_beats_environment_beats_file_beats_preset(toml):
    file = toml("[learner]\nbits = 20\nseed = 3\n[schema]\nlabel = 'y'\n[stack]\nprior = 3\n")
    config = resolve({"bits": 24}, file, ONLINESTACK_BITS="22", ONLINESTACK_SEED="4")
    assert (config["bits"], config["seed"], config["prior"], config["label"]) == (24, 4, 3.0, "y")
    assert config["preset"] == "stack"
    assert config["fields"] == 40
    assert config.given == {
        "bits": "--bits",
        "seed": "ONLINESTACK_SEED",
        "prior": f"stack.prior in {file}",
        "label": f"schema.label in {file}",
    }


def test_the_environment_may_name_the_file(toml):
    assert resolve(ONLINESTACK_CONFIG=toml("[learner]\nbits = 20\n"))["bits"] == 20


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[learner]\nbist = 1", "unknown key 'bist' in [learner] of .*, did you mean 'bits'"),
        ("[lerner]\nbits = 1", "unknown key 'lerner' in .*, did you mean 'learner'"),
        ("bits = 1", r"'bits' in .* belongs to \[learner\]"),
        ("bist = 1", r"did you mean 'bits' in \[learner\]"),
        ("[learner]\nbits = '1'", "learner.bits in .* must be a whole number, not '1'"),
        ("[learner]\nbits = true", "must be a whole number"),
        ("[learner]\nbits = 0", "must be at least 1, not 0"),
        ("[learner]\nl1 = nan", "must be a number"),
        ("[source]\npaths = [1]", "must be a list of texts"),
        ("source = 3", r"must be a table, \[source\]"),
        ("[log]\njson = 1", "must be true or false"),
        ("x =", "is not TOML"),
        ("preset = 'liner'", "preset in .* 'liner' is unknown, did you mean 'linear'"),
        ("[member]\nname = 'a'", r"member in .* must be a list of tables, .*\[\[member\]\]"),
        ("[[membre]]\nname = 'a'", "unknown key 'membre' in .*, did you mean 'member'"),
        ("[[member]]\nname = 'a'\nread = 'f'", "toml: unknown key 'read' in member a, did you"),
        ("[[member]]\nname = 'a'\nkind = 'tree'", "kind='tree' of member a .* mean 'trees'"),
        ("[[member]]\nname = 'a'\nbits = 40", "bits of 'a' is out of range: 40; give a number"),
        ("[[stacker]]\nname = 'a'\nkind = 'trees'", "kind='trees' of stacker a is unknown"),
        ("[[stacker]]\nreads = 's'", "stacker 1 has no name"),
        ("[stack]\nhalf_lives = [1, 'x']", "stack.half_lives in .* must be a list of numbers"),
        (
            "[stack]\nwindow_row = 1",
            r"unknown key 'window_row' in \[stack\] of .*, did you mean 'window_",
        ),
        ("[learner]\nl1 = 0.1", "learner.l1 in .* linear preset: add --preset linear, or give it"),
        ("[learner]\noaa = 3", "learner.oaa in .* belongs to the linear preset: add .* linear$"),
        ("preset = 'linear'\n[stack]\nprior = 1", "stack.prior in .* not to linear: leave one"),
    ],
)
def test_a_wrong_file_is_one_sentence(toml, text, sentence):
    with pytest.raises(ConfigError) as error:
        resolve(file=toml(text))
    message = str(error.value)
    assert re.search(sentence.replace("[learner] of", r"\[learner\] of"), message), message
    assert "\n" not in message


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        resolve(file=str(path))
    with pytest.raises(FileNotFoundError):
        resolve(file=str(tmp_path / "absent.toml"))


def test_environment_values_are_read_by_type():
    config = resolve(
        ONLINESTACK_CATEGORICAL="a, b",
        ONLINESTACK_BACKGROUND="no",
        ONLINESTACK_SHARE="1e-3",
        ONLINESTACK_HALF_LIVES="4, 1e3, inf",
        ONLINESTACK_POSITIVE="1",
    )
    assert config["categorical"] == ["a", "b"]
    assert config["half_lives"] == [4.0, 1000.0, math.inf]
    assert (config["background"], config["share"], config["positive"]) == (False, 1e-3, "1")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("ONLINESTACK_BITS", "many", "ONLINESTACK_BITS must be a whole number, not 'many'"),
        ("ONLINESTACK_JSON", "perhaps", "must be true or false"),
        ("ONLINESTACK_LABLE", "y", "did you mean ONLINESTACK_LABEL"),
        ("ONLINESTACK_MEMBER", "f", r"write \[\[member\]\] in a TOML file"),
        ("ONLINESTACK_HALF_LIVES", "4,x", "ONLINESTACK_HALF_LIVES must be a list of numbers"),
        ("ONLINESTACK_L1", "1", "ONLINESTACK_L1 belongs to the linear preset"),
    ],
)
def test_a_wrong_variable_is_one_sentence(name, value, sentence):
    with pytest.raises(ConfigError, match=sentence):
        resolve(**{name: value})


def test_variables_of_others_are_left_alone():
    resolve(ONLINESTACK_SERVICE_HOST="10.0.0.1", ONLINESTACK_CACHE="/x", ONLINESTACK_TWINS="1")


VALUES = {
    "text": st.text(st.characters(codec="utf-8"), min_size=1),
    "list": st.lists(st.text(st.characters(codec="utf-8")), max_size=4),
    "whole": st.integers(2, 2**62),
    "number": st.floats(0, 1e300),
    "numbers": st.lists(st.floats(1, allow_nan=False), max_size=4),
    "flag": st.booleans(),
    "duration": st.floats(0, 1e12),
    "entries": st.lists(
        st.fixed_dictionaries(
            {"name": st.text(st.characters(codec="utf-8"), min_size=1)},
            optional={
                "bits": st.integers(0, 32),
                "interactions": st.lists(st.just("ff")),
                "learning_rate": st.floats(0, 1e30),
                "kind": st.just("linear"),
                "constant": st.booleans(),
            },
        ),
        max_size=3,
        unique_by=lambda entry: entry["name"],
    ),
}


def belongs(preset, row):
    """Tell whether a setting may be given with a preset."""
    if row.table == "learner":
        return preset == "linear" or row.key in SHARED
    return preset == "stack" or not (row.table == "stack" or row.type == "entries")


def values_of(row):
    if not row.choices:
        return VALUES[row.type]
    chosen = st.sampled_from(row.choices)
    return st.lists(chosen, max_size=4) if row.type == "list" else chosen


def settings_of(preset):
    rows = {k: row for k, row in SETTINGS.items() if k != "preset" and belongs(preset, row)}
    optional = {k: values_of(row) for k, row in rows.items()}
    optional["micro_trees"] = st.integers(512, 2**31)
    optional = {k: values for k, values in optional.items() if k in rows}
    return st.fixed_dictionaries({"preset": st.just(preset)}, optional=optional)


@given(settings_of("linear") | settings_of("stack"))
def test_the_printed_configuration_is_the_configuration(tmp_path_factory, values):
    path = Path(tmp_path_factory.getbasetemp()) / "printed.toml"
    config = resolve(values)
    path.write_bytes(config.to_toml().encode())
    again = resolve(file=str(path))
    assert again.values == config.values
    assert again.to_toml() == config.to_toml()


def test_settings_not_given_are_taken_from_another():
    config = resolve({"bits": 20}).over({"bits": 24, "seed": 7, "unknown": 1})
    assert (config["bits"], config["seed"]) == (20, 7)
