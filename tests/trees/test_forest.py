"""Law 6: our walk of a generation is XGBoost's own, bit for bit; and what is no such model."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from onlinestack.block import LEARN, PREDICT, Tape, immediate_tape
from onlinestack.kernel import KERNELS
from onlinestack.murmur import uniform_hash
from onlinestack.trees.forest import (
    Forest,
    ForestError,
    flatten,
    leaf_hashes,
    leaf_rows,
    places,
    score_rows,
)
from onlinestack.trees.model import decode

UNCUT = np.float32(np.inf)
SCORE = KERNELS["onlinestack.trees.forest.score_rows"]
LEAF = KERNELS["onlinestack.trees.forest.leaf_rows"]


def trained(seed: int, based: bool = False, **more: Any) -> tuple[xgboost.Booster, np.ndarray]:
    """Return a random booster and the rows it was trained on; the last two columns say nothing."""
    rng = np.random.default_rng(seed)
    n, t = int(rng.integers(60, 400)), int(rng.integers(3, 12))
    table = (rng.normal(size=(n, t)) * 10 ** rng.uniform(-3, 3, t)).astype(np.float32)
    table[:, 0] = np.round(table[:, 0])
    table[rng.random((n, t)) < rng.choice([0.0, 0.1, 0.6])] = np.nan
    table[:, -2:] = 0
    click = rng.random(n) < 1 / (1 + np.exp(-np.clip(np.nan_to_num(table[:, 0]), -3, 3)))
    settings = {
        "objective": "binary:logistic",
        "base_score": float(np.float32(rng.uniform(0.01, 0.99))),
        "max_depth": int(rng.integers(1, 9)),
        "eta": float(rng.uniform(0.05, 1)),
        "min_child_weight": 0.0,
        "nthread": 1,
        "verbosity": 0,
        "seed": seed,
    }
    margin = rng.normal(size=n).astype(np.float32) if based else None
    data = xgboost.DMatrix(table, click, base_margin=margin, nthread=1)
    rounds = int(rng.integers(1, 90))
    return xgboost.train({**settings, **more}, data, rounds), table


def strange(table: np.ndarray, forest: Forest, seed: int) -> np.ndarray:
    """Return rows with values no row had, and with the thresholds themselves and their likes."""
    rng = np.random.default_rng(seed)
    rows = np.tile(table, (3, 1))[:300].copy()
    edges = forest.threshold[~np.isnan(forest.threshold)]
    near = [edges, np.nextafter(edges, np.float32(np.inf)), np.nextafter(edges, -np.float32(1e38))]
    odd = [0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, np.nan, 1e-38]
    values = np.concatenate([*near, np.array(odd, np.float32)])
    put = rng.random(rows.shape) < 0.4
    rows[put] = rng.choice(values, put.sum())
    return rows


def every(n: int) -> Tape:
    return Tape(np.full(n, PREDICT, np.uint8), np.arange(n, dtype=np.int32))


def walked(forest: Forest, table: np.ndarray, margin: np.ndarray | None = None) -> np.ndarray:
    tape, scores = every(len(table)), np.full((len(table), 2), 7, np.float32)
    if margin is not None:
        scores[:, 0] = margin
    base = -1 if margin is None else 0
    score_rows(tape.op, tape.row, table, forest, places(), scores, base, 1, UNCUT)
    return scores[:, 1]


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("form", ["ubj", "json"])
def test_margins_and_leaves_are_those_of_xgboost(seed: int, form: str) -> None:
    more = {} if seed % 3 else {"grow_policy": "lossguide", "max_leaves": 25, "max_depth": 0}
    booster, table = trained(seed, based=seed % 2 == 1, **more)
    forest = flatten(bytes(booster.save_raw(form)))
    rows = strange(table, forest, seed)
    data = xgboost.DMatrix(rows, nthread=1)
    assert walked(forest, rows).tobytes() == booster.predict(data, output_margin=True).tobytes()
    margin = np.random.default_rng(seed).normal(size=len(rows)).astype(np.float32)
    # A matrix of its own: a booster keeps what it predicted for the first.
    data = xgboost.DMatrix(rows, base_margin=margin, nthread=1)
    expected = booster.predict(data, output_margin=True)
    assert walked(forest, rows, margin).tobytes() == expected.tobytes()
    tape, out = every(len(rows)), np.zeros((len(rows), len(forest.root) + 1), np.uint32)
    leaf_rows(tape.op, tape.row, rows, forest, forest.name, places(), out)
    assert np.array_equal(out[:, :-1], booster.predict(data, pred_leaf=True).reshape(len(rows), -1))
    assert not out[:, -1].any()


@pytest.mark.parametrize("seed", range(4))
def test_infinity_walks_as_in_xgboost(seed: int) -> None:
    booster, table = trained(seed)
    rows = table.copy()
    rows[::2, 0], rows[1::2, 1] = np.inf, -np.inf
    expected = booster.inplace_predict(rows, predict_type="margin", missing=np.nan)
    assert walked(flatten(bytes(booster.save_raw("ubj"))), rows).tobytes() == expected.tobytes()


@pytest.mark.parametrize("seed", range(3))
def test_one_row_at_a_time_scores_the_same(seed: int) -> None:
    booster, table = trained(seed)
    forest = flatten(bytes(booster.save_raw("ubj")))
    alone = [walked(forest, table[i : i + 1])[0] for i in range(len(table))]
    assert np.array(alone).tobytes() == walked(forest, table).tobytes()


@given(st.integers(0, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_kernels_equal_their_twins(model: int, seed: int, based: bool) -> None:
    forest, table = MODELS[model]
    rng = np.random.default_rng(seed)
    rows = strange(table, forest, seed)[:: int(rng.integers(20, 60))].copy()
    tape = immediate_tape(rng.choice(np.array([0, 1, np.nan], np.float32), len(rows)))
    limit = np.float32(rng.choice([0.5, 13.8, np.inf]))
    start = rng.normal(size=(len(rows), 3)).astype(np.float32)
    results = []
    for score, leaf in zip(SCORE, LEAF, strict=True):
        scores, out = start.copy(), np.zeros((len(rows), len(forest.root)), np.uint32)
        score(tape.op, tape.row, rows, forest, places(), scores, 0 if based else -1, 2, limit)
        leaf(tape.op, tape.row, rows, forest, leaf_hashes(forest, seed), places(), out)
        results.append((scores.tobytes(), out.tobytes()))
    assert results[0] == results[1]
    scores = np.frombuffer(results[0][0], np.float32).reshape(-1, 3)
    assert np.array_equal(scores[:, :2], start[:, :2])
    assert np.abs(scores[:, 2]).max() <= limit


def _models() -> list[tuple[Forest, np.ndarray]]:
    both = (trained(seed) for seed in range(6))
    return [(flatten(bytes(booster.save_raw("ubj"))), table) for booster, table in both]


MODELS = _models()


def test_rows_that_are_learned_only_are_left_alone() -> None:
    forest, table = MODELS[0]
    scores = np.full((3, 1), 5, np.float32)
    tape = Tape(np.array([LEARN, PREDICT, LEARN], np.uint8), np.array([0, 1, 2], np.int32))
    score_rows(tape.op, tape.row, table[:3].copy(), forest, places(), scores, -1, 0, UNCUT)
    assert scores[0] == scores[2] == 5
    assert scores[1] == walked(forest, table[1:2])[0]


def test_a_margin_that_is_no_number_stays_none() -> None:
    forest, table = MODELS[1]
    assert np.isnan(walked(forest, table[:1], np.array([np.nan], np.float32)))[0]


def test_leaf_hashes_are_of_salt_tree_and_leaf() -> None:
    forest, _ = MODELS[2]
    hashes = leaf_hashes(forest, 9)
    tree = np.repeat(np.arange(len(forest.root)), np.diff(forest.root, append=len(hashes)))
    for at in range(0, len(hashes), 7):
        key = b"".join(int(x).to_bytes(4, "little") for x in (9, tree[at], forest.name[at]))
        assert hashes[at] == uniform_hash(key, 0)
    assert len(np.unique(hashes)) == len(hashes)
    assert not np.intersect1d(hashes, leaf_hashes(forest, 10)).size


def edited(path: tuple[Any, ...], value: Any, seed: int = 0) -> bytes:
    """Return a model as JSON with one thing in it replaced."""
    model = json.loads(trained(seed)[0].save_raw("json"))
    inner = model
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(model).encode()


PARAMETERS = ("learner", "learner_model_param")
TREE = ("learner", "gradient_booster", "model", "trees", 0)


def test_both_spellings_of_base_score() -> None:
    for text in ("5E-1", "3.3333334E-1", "1E-6", "9.9999E-1", "0.25"):
        plain, listed = (
            flatten(edited((*PARAMETERS, "base_score"), form)) for form in (text, f"[{text}]")
        )
        base = np.float32(text)
        assert plain.base == listed.base
        assert plain.base == pytest.approx(np.log(base) - np.log1p(-base), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("version",), [2, 1, 4], "XGBoost 2.1.4"),
        (("version",), [4, 0, 0], "XGBoost 4.0.0"),
        (("learner", "gradient_booster", "name"), "dart", "'dart'"),
        (("learner", "objective", "name"), "reg:squarederror", "'reg:squarederror'"),
        ((*PARAMETERS, "num_class"), "3", "several targets"),
        ((*PARAMETERS, "num_target"), "2", "several targets"),
        ((*PARAMETERS, "base_score"), "[5E-1,5E-1]", "base_score"),
        ((*PARAMETERS, "base_score"), "1E0", "base_score"),
        ((*TREE, "split_type"), [1], "categorical"),
        ((*TREE, "categories_nodes"), [0], "categorical"),
        ((*TREE, "tree_param", "size_leaf_vector"), "2", "several values a leaf"),
        ((*TREE, "left_children"), [0], "damaged"),
        ((*TREE, "left_children"), [10**6], "damaged"),
        ((*TREE, "split_indices"), [10**6] * 10**3, "damaged"),
        ((*TREE, "split_conditions"), [], "damaged"),
        ((*TREE, "default_left"), None, "damaged"),
        (("learner", "attributes"), {"onlinestack_columns": "1,x"}, "damaged"),
        (("learner", "attributes"), {"onlinestack_columns": "1"}, "columns"),
        (("learner",), {}, "damaged"),
    ],
)
def test_other_models_are_refused_in_a_sentence(path: Any, value: Any, words: str) -> None:
    with pytest.raises(ForestError) as caught:
        flatten(edited(path, value))
    text = str(caught.value)
    assert words in text and "expected" in text and "\n" not in text and text.endswith(".")


def test_models_xgboost_trains_itself_are_refused() -> None:
    booster, _ = trained(0, objective="binary:hinge", base_score=0.5)
    with pytest.raises(ForestError, match="objective 'binary:hinge'"):
        flatten(bytes(booster.save_raw("ubj")))


def test_columns_of_a_model_stand_for_columns_of_the_table() -> None:
    booster, table = trained(3)
    plain = flatten(bytes(booster.save_raw("ubj")))
    order = np.random.default_rng(0).permutation(table.shape[1])
    booster.set_attr(onlinestack_columns=",".join(str(column) for column in order))
    moved = np.empty_like(table)
    moved[:, order] = table
    forest = flatten(bytes(booster.save_raw("ubj")))
    assert walked(forest, moved).tobytes() == walked(plain, table).tobytes()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b"[1]", b"\x00\x01", b"{}", b"{}x", b"[#i\xff"]
)
def test_other_bytes_are_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(ForestError) as caught:
        flatten(data)
    assert "\n" not in str(caught.value)


def test_cut_or_changed_bytes_never_crash() -> None:
    """Whatever becomes of the bytes: refused, or a forest whose walk stays inside its arrays."""
    model = bytes(trained(5, max_depth=3)[0].save_raw("ubj"))
    table = np.zeros((2, 12), np.float32)
    for cut in range(0, len(model), max(1, len(model) // 60)):
        with pytest.raises(ForestError):
            flatten(model[:cut])
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(model)
        changed[rng.integers(len(model))] = rng.integers(256)
        try:
            forest = flatten(bytes(changed))
        except ForestError:
            continue
        assert forest.child.max() < len(forest.child) and (forest.feature // 2).max() < 12
        walked(forest, table)


def test_every_marker_of_the_notation() -> None:
    values = [-1, 200, -300, 70_000, -(2**40), 0.5, 0.1, "été", True, False, None]
    shapes = "bBhiqfd"
    parts = [
        marker.encode() + np.array(value, np.dtype(f">{shape}")).tobytes()
        for marker, shape, value in zip("iUIlLdD", shapes, values, strict=False)
    ]
    parts += [b"Si\x05" + "été".encode(), b"T", b"F", b"Z"]
    body = b"".join(parts)
    assert decode(b"{i\x01a[" + body + b"]}") == {"a": values}
    assert decode(b"{i\x01a[#i\x0b" + body + b"}") == {"a": values}
    for marker, shape in zip("iUIlLdD", shapes, strict=True):
        array = np.array([1, 2, 3], f">{shape}")
        typed = decode(b"{i\x01a[$" + marker.encode() + b"#i\x03" + array.tobytes() + b"}")["a"]
        assert typed.tolist() == [1, 2, 3] and typed.dtype == array.dtype.newbyteorder("=")


def test_forests_may_have_no_tree_or_many() -> None:
    model = json.loads(trained(0)[0].save_raw("json"))
    trees = model["learner"]["gradient_booster"]["model"]["trees"]
    table = np.zeros((1, 12), np.float32)
    full = flatten(json.dumps(model).encode())
    assert len(full.root) == len(trees)
    for count in itertools.chain(range(3), (63, 64, 65, 200)):
        chosen = [trees[i % len(trees)] for i in range(count)]
        model["learner"]["gradient_booster"]["model"]["trees"] = chosen
        forest = flatten(json.dumps(model).encode())
        kernel, twin = (np.zeros((1, 1), np.float32) for _ in range(2))
        for walk, scores in zip(SCORE, (kernel, twin), strict=True):
            tape = every(1)
            walk(tape.op, tape.row, table, forest, places(), scores, -1, 0, UNCUT)
        assert kernel.tobytes() == twin.tobytes()
