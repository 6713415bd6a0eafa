"""Vowpal Wabbit's own options: how they are spelled, which travel in a model, what help says."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from onlinestack.words import nearest_or_all

__all__ = ["OPTIONS", "Option", "OptionError", "Options", "help_text", "kept_text", "parse"]


class OptionError(ValueError):
    """An option that is not known, or a value that cannot be one of it."""


class Option(NamedTuple):
    """One option of the command line.

    Parameters
    ----------
    kind
        Type of the value; lists are of text and may be given several times.
    help
        What it does, in a few words.
    short
        Its letter, or nothing.
    default
        Value when it is not given.
    kept
        Whether it travels in a model.
    choices
        Values allowed; all when empty.
    """

    kind: Literal["flag", "whole", "number", "text", "list"]
    help: str
    short: str = ""
    default: Any = None
    kept: bool = False
    choices: tuple[str, ...] = ()


OPTIONS: dict[str, Option] = {
    # records
    "data": Option("text", "File of records, plain or .gz; standard input without it.", "d"),
    "cache": Option("flag", "Keep the parsed records in DATA.cache.", "c"),
    "cache_file": Option("list", "Keep them in this file."),
    "kill_cache": Option("flag", "Make the cache anew.", "k"),
    "passes": Option("whole", "Times to go through the records; needs a cache.", "", 1),
    "examples": Option("whole", "Stop each pass after so many lines.", "", -1),
    "no_stdin": Option("flag", "Read nothing where no file is named."),
    "testonly": Option("flag", "Predict only.", "t"),
    "holdout_off": Option("flag", "Learn every record of several passes."),
    "holdout_period": Option("whole", "Hold out every n-th line.", "", 10),
    "holdout_after": Option("whole", "Hold out all lines behind the n-th."),
    "early_terminate": Option("whole", "Stop after so many passes without gain.", "", 3),
    "strict_parse": Option("flag", "Stop at a malformed line."),
    # features
    "bit_precision": Option("whole", "Base-2 logarithm of the number of weights.", "b", 18),
    "hash": Option("text", "How names are hashed.", "", "strings", True, ("all", "strings")),
    "hash_seed": Option("whole", "Seed of the hashes.", "", 0, True),
    "ignore": Option("list", "Leave out namespaces that begin with these letters.", kept=True),
    "ignore_linear": Option("list", "Leave them out of all but interactions.", kept=True),
    "keep": Option("list", "Leave out all others.", kept=True),
    "redefine": Option("list", "N:=S puts namespaces that begin with S under N.", kept=True),
    "noconstant": Option("flag", "No constant feature.", kept=True),
    "constant": Option("number", "Start of the constant's weight.", "C", 0.0),
    "quadratic": Option("list", "Pairs of two namespaces; : is any.", "q", kept=True),
    "cubic": Option("list", "Triples.", kept=True),
    "interactions": Option("list", "Interactions of any length.", kept=True),
    "permutations": Option("flag", "All orders of features of one namespace."),
    "leave_duplicate_interactions": Option("flag", "Keep interactions that are named twice."),
    # learning
    "loss_function": Option(
        "text",
        "The loss.",
        "",
        "squared",
        False,
        ("squared", "classic", "hinge", "logistic", "quantile", "expectile", "poisson"),
    ),
    "quantile_tau": Option("number", "Which quantile.", "", 0.5),
    "expectile_q": Option("number", "Which expectile, above 0 up to 0.5."),
    "logistic_min": Option("number", "Label that means no.", "", -1.0),
    "logistic_max": Option("number", "Label that means yes.", "", 1.0),
    "link": Option(
        "text",
        "What predictions are passed through.",
        "",
        "identity",
        True,
        ("identity", "logistic", "glf1", "poisson"),
    ),
    "learning_rate": Option("number", "Learning rate.", "l", 0.5, True),
    "power_t": Option("number", "Power of the decay of rates.", "", 0.5, True),
    "decay_learning_rate": Option("number", "Factor of the rate between passes.", "", 1.0),
    "initial_t": Option("number", "Start of the clock."),
    "initial_weight": Option("number", "Start of every weight.", "", 0.0),
    "sgd": Option("flag", "Plain gradient descent.", kept=True),
    "adaptive": Option("flag", "Rates by feature.", kept=True),
    "normalized": Option("flag", "Rates by scale.", kept=True),
    "invariant": Option("flag", "Importance-aware steps.", kept=True),
    "ftrl": Option("flag", "Follow the proximally regularised leader.", kept=True),
    "pistol": Option("flag", "Parameter-free learning.", kept=True),
    "coin": Option("flag", "Coin betting.", kept=True),
    "ftrl_alpha": Option("number", "Rate of these three."),
    "ftrl_beta": Option("number", "Smoothing of these three."),
    "l1": Option("number", "Pull of weights to zero.", "", 0.0),
    "l2": Option("number", "Shrinking of weights.", "", 0.0),
    "l1_state": Option("number", "Pull gathered so far.", "", 0.0),
    "l2_state": Option("number", "Shrinking gathered so far.", "", 1.0),
    "sparse_l2": Option("number", "Shrinking of the weights of present features.", "", 0.0),
    "min_prediction": Option("number", "Least prediction."),
    "max_prediction": Option("number", "Greatest prediction."),
    "oaa": Option("whole", "One against all, of so many classes.", kept=True),
    "scores": Option("flag", "Print the scores of all classes."),
    "probabilities": Option("flag", "Print the probabilities of all classes."),
    "indexing": Option("whole", "Number of the first class, 0 or 1.", kept=True),
    "bootstrap": Option("whole", "Rounds of resampling.", kept=True),
    "bs_type": Option("text", "How rounds agree.", "", "mean", True, ("mean", "vote")),
    "random_seed": Option("whole", "Seed of random numbers.", "", 0),
    "per_model_save_load": Option("flag", "Save the state of every class and round.", kept=True),
    # models and output
    "final_regressor": Option("text", "Save the model: one of our snapshots.", "f"),
    "initial_regressor": Option("list", "Start from a model saved with -f.", "i"),
    "predict_only_model": Option("flag", "Save weights only."),
    "save_resume": Option("flag", "Save everything; the default."),
    "preserve_performance_counters": Option("flag", "Go on counting where the model stopped."),
    "id": Option("text", "Name to keep in text dumps.", "", ""),
    "predictions": Option("text", "Print predictions to this file.", "p"),
    "raw_predictions": Option("text", "Print raw sums to this file.", "r"),
    "readable_model": Option("text", "Dump the model as text."),
    "invert_hash": Option("text", "Dump it with the names of features."),
    "audit": Option("flag", "Print every feature of every record.", "a"),
    "progress": Option("text", "Report every n, or with a point every n times as many.", "P"),
    "quiet": Option("flag", "No reports."),
    # accepted, without effect
    "onethread": Option("flag", "Without effect."),
    "sparse_weights": Option("flag", "Without effect."),
    "help": Option("flag", "Show this list.", "h"),
}
"""Every option, by its long name."""

_SHORT = {option.short: name for name, option in OPTIONS.items() if option.short}
_LAST = ("ignore", "ignore_linear", "keep")
_ANEW = ("learning_rate", "power_t")
_NEEDS = {
    "scores": ("oaa",),
    "probabilities": ("oaa",),
    "indexing": ("oaa",),
    "bs_type": ("bootstrap",),
    "ftrl_alpha": ("ftrl", "pistol", "coin"),
    "ftrl_beta": ("ftrl", "pistol", "coin"),
    "per_model_save_load": ("gd",),
}
# What Vowpal Wabbit names where one of these is missing, learners that we do not have included.
_NAMED = {
    "indexing": ("csoaa", "oaa"),
    "probabilities": ("csoaa_ldf", "plt", "multilabel_oaa", "oaa"),
    "per_model_save_load": ("cb_adf",),
}
_EXCLUDES = {
    name: ("ftrl", "pistol", "coin")
    for name in ("sgd", "adaptive", "normalized", "invariant", "l1_state", "l2_state", "sparse_l2")
}


@dataclass(slots=True)
class Options:
    """The options of one run.

    Parameters
    ----------
    given
        Values by long name, only of those that were given or came with a model.
    """

    given: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """Return an option's value, or its default."""
        option = OPTIONS[name]
        if name in self.given:
            return self.given[name]
        if option.kind == "flag":
            return False
        return [] if option.kind == "list" else option.default

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def check(self) -> None:
        """Refuse options that mean nothing beside the others.

        Raises
        ------
        OptionError
            For the first such option.
        """
        for name, others in _EXCLUDES.items():
            for other in others:
                if name in self.given and other in self.given:
                    raise OptionError(f"--{name} means nothing with --{other}: leave one out")

    def idle(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the options that do nothing, each with those that one of would make it work."""
        on = set(self.given)
        if not on & {"ftrl", "pistol", "coin"}:
            on.add("gd")
        return [
            (name, _NAMED.get(name, others))
            for name, others in _NEEDS.items()
            if name in on and not on.intersection(others)
        ]

    def kept(self) -> dict[str, Any]:
        """Return the options that travel in a model; letters of namespaces as one sorted text."""
        kept = {name: value for name, value in self.given.items() if OPTIONS[name].kept}
        for name in _LAST:
            if name in kept:
                kept[name] = ["".join(sorted(set("".join(kept[name]))))]
        return kept

    def under(self, kept: dict[str, Any]) -> Options:
        """Return these options with those of a model; rates may be given anew.

        Raises
        ------
        OptionError
            Where the two say different things.
        """
        merged = dict(self.given)
        for name, value in kept.items():
            if OPTIONS[name].kind == "list":
                own = merged.get(name, [])
                merged[name] = [*own, *(part for part in value if part not in own)]
            elif merged.setdefault(name, value) != value and name not in _ANEW:
                raise OptionError(
                    f"{_spelled(name)} is {merged[name]}, the model has {value}: leave it out"
                )
        return Options(merged)


def parse(words: Sequence[str]) -> Options:
    """Read a command line as Vowpal Wabbit does.

    Raises
    ------
    OptionError
        For an option that is not known, a value that does not fit, or two different ones.

    Examples
    --------
    >>> parse(["-d", "a.vw", "-b14", "-q", "ab", "ac", "--l2=0.5", "--noconstant"]).given
    {'data': 'a.vw', 'bit_precision': 14, 'quadratic': ['ab', 'ac'], 'l2': 0.5, 'noconstant': True}
    """
    given: dict[str, Any] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, value = _named(word)
        if name is None:
            name, value = "data", word
        option = OPTIONS[name]
        if option.kind == "flag":
            if value is not None and value.lower() not in ("true", "false"):
                raise OptionError(
                    f"{_spelled(name)} is a switch and takes no value: drop {value!r}"
                )
            if value is None or value.lower() == "true":
                given[name] = True
            continue
        values = [] if value is None else [value]
        if value is None:
            if not queue:
                raise OptionError(f"{_spelled(name)} needs a value: give one behind it")
            values.append(queue.pop(0))
            while option.kind == "list" and queue and not queue[0].startswith("-"):
                values.append(queue.pop(0))
        for text in values:
            read = _read(name, option, text)
            if option.kind == "list":
                given.setdefault(name, []).append(read)
            elif given.setdefault(name, read) != read:
                raise OptionError(
                    f"{_spelled(name)} was given as {given[name]} and as {read}: give it once"
                )
    return Options(given)


def _named(word: str) -> tuple[str | None, str | None]:
    """Return the option a word names, and the value that is part of the word."""
    if word.startswith("--") and len(word) > 2:
        name, equals, value = word[2:].partition("=")
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, 1)
            hint = f", did you mean --{near[0]}?" if near else ": leave it out"
            raise OptionError(f"--{name} is no option that onlinestack vw has{hint}")
        return name, value if equals else None
    if word.startswith("-") and len(word) > 1:
        if word[1] not in _SHORT:
            raise OptionError(f"-{word[1]} is no option that onlinestack vw has: leave it out")
        name, rest = _SHORT[word[1]], word[2:]
        if rest and OPTIONS[name].kind == "flag":
            raise OptionError(f"-{word[1]} is a switch and takes no value: drop {rest!r}")
        return name, rest.removeprefix("=") if rest else None
    return None, None


def _spelled(name: str) -> str:
    short = OPTIONS[name].short
    return f"--{name} (-{short})" if short else f"--{name}"


def _read(name: str, option: Option, text: str) -> Any:
    """Return an option's value of its own type."""
    if option.choices and text not in option.choices:
        hint = nearest_or_all(text, option.choices)
        raise OptionError(f"--{name} {text!r} is unknown{hint}")
    try:
        if option.kind == "whole":
            return int(text)
        if option.kind == "number":
            return float(np.float32(text))
    except ValueError:
        kind = "a whole number" if option.kind == "whole" else "a number"
        raise OptionError(f"{_spelled(name)} is {text!r}: give {kind}") from None
    return text


def kept_text(kept: dict[str, Any]) -> str:
    """Return the options of a model as text dumps print them.

    Examples
    --------
    >>> kept_text({"ignore": ["a"], "quadratic": ["ab"], "noconstant": True, "power_t": 0.5})
    '--noconstant --power_t 0.5 --quadratic ab --ignore a'
    """
    words = []
    for name in sorted(kept, key=lambda name: (name == "random_seed", name in _LAST, name)):
        value = kept[name]
        if value is True:
            words.append(f"--{name}")
            continue
        for part in value if isinstance(value, list) else [value]:
            text = f"{part:.15g}" if isinstance(part, float) else str(part)
            words.append(f"--{name} {text}")
    return " ".join(words)


def help_text() -> str:
    """Return the list of options for ``--help``."""
    lines = [
        "Usage: onlinestack vw [OPTIONS]",
        "",
        "Vowpal Wabbit's linear learners on its own text format, with its own options: the same",
        "predictions, progress table and losses. Models (-f, -i) are snapshots of onlinestack, not",
        "files of Vowpal Wabbit; caches are our own, too. Text dumps follow Vowpal Wabbit's.",
        "",
    ]
    for name, option in OPTIONS.items():
        flags = f"-{option.short}, --{name}" if option.short else f"    --{name}"
        metavar = {"flag": "", "whole": " N", "number": " X", "text": " TEXT", "list": " TEXT..."}
        text = option.help
        if option.choices:
            text += f" One of {', '.join(option.choices)}."
        if option.default not in (None, "", -1):
            text += f" [{option.default}]"
        head = f"  {flags}{metavar[option.kind]}"
        lines.append(f"{head:<40}{text}" if len(head) < 39 else f"{head}\n{'':40}{text}")
    return "\n".join(lines) + "\n"
