"""Our linear learner over Vowpal Wabbit text against Vowpal Wabbit itself."""

from __future__ import annotations

import json
import random
import shlex
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onlinestack import LinearLearner, open_source

vowpalwabbit = pytest.importorskip("vowpalwabbit", reason="the oracle is a dev dependency")

SHARED = Path(__file__).parents[2] / ".." / "shared" / "parity"
TOLERANCE = 1e-5

OPTIONS = {
    "-q": "interactions",
    "--quadratic": "interactions",
    "--cubic": "interactions",
    "--interactions": "interactions",
    "--l1": "l1",
    "--l2": "l2",
    "--power_t": "power_t",
    "--initial_t": "initial_t",
    "-l": "learning_rate",
    "--learning_rate": "learning_rate",
    "-b": "bits",
    "--bit_precision": "bits",
    "--link": "link",
    "--loss_function": "loss",
    "--quantile_tau": "tau",
    "--expectile_q": "tau",
    "--ftrl_alpha": "alpha",
    "--ftrl_beta": "beta",
    "--oaa": "oaa",
}
FLAGS = {"--adaptive", "--normalized", "--invariant", "--sgd", "--ftrl", "--pistol", "--coin"}
IGNORED = {"-k": 0, "--kill_cache": 0, "--onethread": 0, "-P": 1, "-f": 1, "-p": 1, "-d": 1}


def parameters(arguments: str) -> dict[str, Any] | None:
    """Translate a command line; None where it needs an option the learner does not have."""
    words = shlex.split(arguments.replace("=", " "))
    found: dict[str, Any] = {"loss": "squared", "raw": True}
    update: list[str] = []
    while words:
        word = words.pop(0)
        if word in FLAGS:
            update.append(word[2:])
        elif word == "--noconstant":
            found["constant"] = False
        elif word in IGNORED:
            del words[: IGNORED[word]]
        elif word in OPTIONS:
            name, value = OPTIONS[word], words.pop(0)
            if name == "interactions":
                found[name] = (*found.get(name, ()), value)
            elif name in ("loss", "link"):
                found[name] = value
            else:
                found[name] = int(value) if name in ("bits", "oaa") else float(value)
        else:
            return None
    if update:
        found["update"] = ",".join(update)
    return found


def ours(path: Path, arguments: str, batch_size: int = 1000) -> np.ndarray:
    source = open_source(path, format="vw", target="raw", batch_size=batch_size)
    settings = parameters(arguments)
    assert settings is not None
    model = LinearLearner(**settings)
    model.start(source.schema)
    return np.concatenate([model.progress(batch) for batch in source])


def theirs(path: Path, arguments: str) -> np.ndarray:
    """Return the oracle's predictions, float32, one example at a time."""
    model = vowpalwabbit.Workspace(f"--quiet {arguments}")
    out = []
    for line in path.read_text().splitlines():
        example = model.example(line)
        model.learn(example)
        if "--oaa" in arguments:
            out.append(example.get_multiclass_prediction())
        else:
            out.append(example.get_simplelabel_prediction())
        model.finish_example(example)
    model.finish()
    return np.array(out, np.float32)


def assert_close(mine: np.ndarray, reference: np.ndarray) -> None:
    assert len(mine) == len(reference)
    gap = np.abs(mine - reference) / np.maximum(1, np.abs(reference))
    assert np.nanmax(gap, initial=0) <= TOLERANCE


def cases() -> list[Any]:
    file = SHARED / "cases.json"
    if not file.exists():
        return [pytest.param(None, marks=pytest.mark.skip("the parity corpus is not here"))]
    chosen = []
    for case in json.loads(file.read_text())["cases"]:
        if case.get("expected_predictions_f32") and not case["setup"]:
            if parameters(case["args"]) is not None:
                chosen.append(pytest.param(case, id=case["id"]))
    assert len(chosen) > 30
    return chosen


@pytest.mark.parametrize("case", cases())
def test_recorded_cases(case: dict[str, Any]) -> None:
    words = shlex.split(case["args"])
    mine = ours(SHARED / words[words.index("-d") + 1], case["args"])
    assert_close(mine, np.loadtxt(SHARED / case["expected_predictions_f32"], np.float32, ndmin=1))


def clicks(seed: int, n: int = 250, kind: str = "click") -> str:
    """Return VW text of records with three namespaces, repeats, values, weights and offsets."""
    rng = random.Random(seed)
    lines = []
    for _ in range(n):
        a = [f"a{int(rng.paretovariate(0.8))}" for _ in range(rng.randint(0, 3))]
        b = [f"b{rng.randint(0, 9)}:{rng.choice([0.5, 2, 3.25, -1])}" for _ in range(2)]
        c = [f"{rng.randint(0, 30)}:{rng.uniform(-2, 2):.4f}" for _ in range(rng.randint(0, 2))]
        signal = sum(len(x) % 3 for x in a) + (b[0] > "b5") - 1
        if kind == "click":
            label = "1" if rng.random() < 1 / (1 + 2.0**-signal) else "-1"
        elif kind == "class":
            label = str(1 + int(max(0, signal + 1.5 * rng.random())) % 5)
        elif kind == "count":
            label = str(max(0, round(rng.expovariate(1) + signal / 2)))
        else:
            label = f"{signal + rng.gauss(0, 0.3):.3f}"
        if rng.random() < 0.05:
            label = ""
        elif rng.random() < 0.2:
            label += f" {rng.choice([0, 0.5, 2, 7])}"
            if rng.random() < 0.3 and kind != "class":
                label += f" {rng.choice([-0.5, 0.25])}"
        groups = {"a": a, "b": b, "c": c}
        names = rng.sample(sorted(groups), 3)
        text = " ".join(f"|{name} {' '.join(groups[name])}" for name in names)
        lines.append(f"{label} {text}")
    return "\n".join(lines) + "\n"


UPDATES = ("", "--sgd", "--adaptive", "--normalized", "--invariant", "--adaptive --normalized")
LOSSES = {
    "squared": "real",
    "logistic": "click",
    "hinge": "click",
    "quantile": "real",
    "poisson": "count",
}
EXTRAS = (
    "-q ab",
    "-q aa -q bc --noconstant",
    "--cubic abc -q ab",
    "--interactions abca",
    "-q :: --l2 1e-4",
    "-b 6",
    "-l 0.1 --initial_t 5",
    "--power_t 0.3",
    "--power_t 0 -l 0.05",
    "--l1 1e-4",
    "--l1 1e-3 --l2 1e-3",
    "--link logistic",
    "--adaptive --invariant -l 0.3",
    "--normalized --invariant -l 0.3 --power_t 0.7",
    "--sgd -l 0.01 -q ab",
    "--invariant -l 0.02 -q aa --cubic bbb",
    "-b 20 -q ab -q ac -q bc",
    "-q a: --noconstant",
)
SETTINGS = [f"--loss_function {loss} {update}".strip() for loss, update in product(LOSSES, UPDATES)]
SETTINGS += [f"--loss_function {loss} {extra}" for loss, extra in product(LOSSES, EXTRAS)]


@pytest.mark.parametrize("arguments", SETTINGS)
def test_live(arguments: str, tmp_path: Path) -> None:
    loss = arguments.split()[1]
    if "--sgd" in arguments or "--adaptive" in arguments or "--normalized" in arguments:
        if "-l " not in arguments:
            arguments += " -l 0.05"
    elif "--invariant" in arguments and "-l " not in arguments:
        arguments += " -l 0.05"
    path = tmp_path / "data.vw"
    path.write_text(clicks(len(arguments), kind=LOSSES[loss]))
    assert_close(ours(path, arguments, batch_size=64), theirs(path, arguments))


LEADERS = ("--ftrl", "--pistol", "--coin")
LEADING = ("", "--ftrl_alpha 0.05 --ftrl_beta 0.2", "-q ab -b 12 --noconstant", "--l1 0.3 --l2 0.1")


@pytest.mark.parametrize("extra", LEADING)
@pytest.mark.parametrize(("leader", "loss"), list(product(LEADERS, LOSSES)))
def test_followers_of_the_leader_live(leader: str, loss: str, extra: str, tmp_path: Path) -> None:
    path = tmp_path / "data.vw"
    arguments = f"--loss_function {loss} {leader} {extra}"
    path.write_text(clicks(len(arguments), kind=LOSSES[loss]))
    assert_close(ours(path, arguments, batch_size=64), theirs(path, arguments))


CLASSES = (
    "",
    "-q ab -q cc",
    "--sgd -l 0.02",
    "--adaptive --invariant -l 0.3",
    "--l1 1e-4 --l2 1e-4",
    "-b 8 --noconstant",
    "--power_t 0.3",
)


@pytest.mark.parametrize("extra", CLASSES)
@pytest.mark.parametrize("loss", ["squared", "logistic", "hinge"])
def test_one_against_all_live(loss: str, extra: str, tmp_path: Path) -> None:
    path = tmp_path / "data.vw"
    arguments = f"--oaa 5 --loss_function {loss} {extra}"
    path.write_text(clicks(len(arguments), kind="class"))
    mine, reference = ours(path, arguments, batch_size=64), theirs(path, arguments)
    assert len(set(reference.tolist())) > 2
    assert mine.tolist() == reference.tolist()


@pytest.mark.parametrize("extra", CLASSES)
def test_class_probabilities_live(extra: str, tmp_path: Path) -> None:
    """Predictions without the label are those of ``--probabilities``."""
    path = tmp_path / "data.vw"
    arguments = f"--oaa 5 --loss_function logistic {extra}"
    path.write_text(clicks(len(arguments), kind="class"))
    source = open_source(path, format="vw", target="class", batch_size=64)
    settings = parameters(arguments)
    assert settings is not None
    model = LinearLearner(**{**settings, "raw": False})
    model.start(source.schema)
    mine = np.concatenate([model.progress(batch) for batch in source])
    oracle = vowpalwabbit.Workspace(f"--quiet --probabilities {arguments}")
    reference = []
    for line in path.read_text().splitlines():
        example = oracle.example(line)
        oracle.learn(example)
        reference.append(example.get_scalars())
        oracle.finish_example(example)
    oracle.finish()
    assert_close(mine.ravel(), np.array(reference, np.float32).ravel())


def test_the_oracle_is_asked_often_enough() -> None:
    assert len(SETTINGS) >= 60
