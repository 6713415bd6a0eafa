from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlinestack.config import SHARED, Config, ConfigError, presets
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


def test_every_setting_stands_in_every_preset():
    for path in presets().values():
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"^(?:# )?([a-z_0-9]+) = ", text, re.MULTILINE)
        assert found == list(SETTINGS), path


def test_option_beats_environment_beats_file_beats_preset(toml):
    file = toml("[learner]\nbits = 20\nseed = 3\nl1 = 1e-6\n[schema]\nlabel = 'y'\n")
    config = resolve({"bits": 24}, file, ONLINESTACK_BITS="22", ONLINESTACK_SEED="4")
    assert (config["bits"], config["seed"], config["l1"], config["label"]) == (24, 4, 1e-6, "y")
    assert config["power_t"] == 0.5
    assert config.given == {
        "bits": "--bits",
        "seed": "ONLINESTACK_SEED",
        "l1": file,
        "label": file,
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
        ("preset = 'liner'", "unknown preset 'liner', did you mean 'linear'"),
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
        ONLINESTACK_CONSTANT="no",
        ONLINESTACK_L2="1e-3",
        ONLINESTACK_POSITIVE="1",
    )
    assert config["categorical"] == ["a", "b"]
    assert (config["constant"], config["l2"], config["positive"]) == (False, 1e-3, "1")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("ONLINESTACK_BITS", "many", "ONLINESTACK_BITS must be a whole number, not 'many'"),
        ("ONLINESTACK_JSON", "perhaps", "must be true or false"),
        ("ONLINESTACK_LABLE", "y", "did you mean ONLINESTACK_LABEL"),
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
    "entries": st.lists(
        st.fixed_dictionaries(
            {"name": st.text(st.characters(codec="utf-8"))},
            optional={"bits": st.integers(1, 30), "interactions": st.lists(st.just("ff"))},
        ),
        max_size=3,
    ),
}


def belongs(preset, row):
    """Tell whether a setting may be given with a preset."""
    if row.table == "learner":
        return preset == "linear" or row.key in SHARED
    return preset == "stack" or not (row.table == "stack" or row.type == "entries")


def settings_of(preset):
    rows = {k: row for k, row in SETTINGS.items() if k != "preset" and belongs(preset, row)}
    optional = {k: VALUES[row.type] for k, row in rows.items()}
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
