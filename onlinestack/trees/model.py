"""Flat trees: the bytes of an XGBoost model, Universal Binary JSON or JSON, as arrays.

References
----------
[^1]: `Universal Binary JSON, draft 12 <https://ubjson.org>`_.
[^2]: XGBoost, `Introduction to Model IO
      <https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html>`_.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from onlinestack.kernel import log32

__all__ = ["COLUMNS", "Forest", "ForestError", "decode", "flatten", "gains_of"]

COLUMNS = "onlinestack_columns"
"""Attribute of a model: the table's columns that its features stand for."""

MAJOR = 3
"""Major version of XGBoost whose models are known."""

MOST = 2**24
"""Features of a model are fewer: more are damage, and memory is not spent on them."""

ONE = np.float32(1)

NUMBERS = {
    marker: (struct.Struct(f">{code}"), np.dtype(f">{kind}"))
    for marker, code, kind in [
        (b"i", "b", "i1"),
        (b"U", "B", "u1"),
        (b"I", "h", "i2"),
        (b"l", "i", "i4"),
        (b"L", "q", "i8"),
        (b"d", "f", "f4"),
        (b"D", "d", "f8"),
    ]
}
"""Markers of numbers, all big-endian."""

WORDS = {b"T": True, b"F": False, b"Z": None}


class ForestError(ValueError):
    """A model that cannot be read, or that is of another kind than boosted trees for clicks."""


def decode(model: bytes) -> dict[str, Any]:
    r"""Return the contents of a model's bytes as dictionaries, lists and arrays.

    Use it before `flatten` only: it knows the notation and not what a model is made of.

    Parameters
    ----------
    model
        What ``Booster.save_raw("ubj")`` or ``Booster.save_raw("json")`` gave.

    Raises
    ------
    ForestError
        When the bytes are neither, or damaged.

    Examples
    --------
    >>> decode(b'{"version": [3, 0, 5]}')
    {'version': [3, 0, 5]}
    >>> decode(b"{i\x01a[$l#i\x02\x00\x00\x00\x07\xff\xff\xff\xff}")
    {'a': array([ 7, -1], dtype=int32)}
    """
    try:
        content = orjson.loads(model)
    except orjson.JSONDecodeError:
        try:
            content, end = _value(model, model[:1], 1)
        except (struct.error, KeyError, TypeError, ValueError, RecursionError):
            end = -1
        if end != len(model):
            raise ForestError(
                f"{len(model)} bytes that begin with {model[:8]!r} were given as a model, expected "
                "the whole of what XGBoost's Booster.save_raw returns; train it again."
            ) from None
    if not isinstance(content, dict):
        raise ForestError(
            f"A {type(content).__name__} was given as a model, expected an object such as "
            "XGBoost's Booster.save_raw returns; train it again."
        )
    return content


def _value(data: bytes, marker: bytes, at: int) -> tuple[Any, int]:
    """Return the value that a marker announces, and the position behind it."""
    if marker in NUMBERS:
        number = NUMBERS[marker][0]
        return number.unpack_from(data, at)[0], at + number.size
    if marker == b"S":
        return _text(data, at)
    if marker == b"{":
        content = {}
        while data[at : at + 1] != b"}":
            key, at = _text(data, at)
            content[key], at = _value(data, data[at : at + 1], at + 1)
        return content, at + 1
    if marker == b"[":
        return _array(data, at)
    return WORDS[marker], at


def _text(data: bytes, at: int) -> tuple[str, int]:
    length, at = _value(data, data[at : at + 1], at + 1)
    return _cut(data, at, length).decode(), at + length


def _array(data: bytes, at: int) -> tuple[Any, int]:
    kind = b""
    if data[at : at + 1] == b"$":
        kind, at = data[at + 1 : at + 2], at + 2
    if data[at : at + 1] == b"#":
        count, at = _value(data, data[at + 1 : at + 2], at + 2)
        if kind:
            dtype = NUMBERS[kind][1]
            size = count * dtype.itemsize
            array = np.frombuffer(_cut(data, at, size), dtype)
            return array.astype(dtype.newbyteorder("=")), at + size
        items = []
        for _ in range(count):
            item, at = _value(data, data[at : at + 1], at + 1)
            items.append(item)
        return items, at
    items = []
    while data[at : at + 1] != b"]":
        item, at = _value(data, data[at : at + 1], at + 1)
        items.append(item)
    return items, at + 1


def _cut(data: bytes, at: int, size: int) -> bytes:
    if not 0 <= size <= len(data) - at:
        raise ValueError("the bytes end too early")
    return data[at : at + size]


class Forest(NamedTuple):
    """All trees of a generation, one after another, as kernels read them.

    Parameters
    ----------
    feature
        ``uint32[N]``: twice the column a node looks at, and 1 more where missing values go right.
    threshold
        ``float32[N]``: values below it go left; NaN at leaves.
    child
        ``uint32[N]``: position of the left child, the right one lies behind it; leaves: their own.
    value
        ``float32[N]``: what a leaf adds to the margin; 0 where the walk goes on.
    name
        ``uint32[N]``: XGBoost's number of the node in its tree.
    root
        ``uint32[T]``: position of each tree's root.
    depth
        ``int32[T]``: steps from each tree's root to its deepest leaf.
    base
        ``float32``: margin that the trees' leaves are added to where the rows bring none.
    """

    feature: NDArray[np.uint32]
    threshold: NDArray[np.float32]
    child: NDArray[np.uint32]
    value: NDArray[np.float32]
    name: NDArray[np.uint32]
    root: NDArray[np.uint32]
    depth: NDArray[np.int32]
    base: np.float32


def flatten(model: bytes) -> Forest:
    """Turn XGBoost's own bytes of a model into flat arrays.

    Use it once a generation; the arrays then serve any number of rows.

    Parameters
    ----------
    model
        UBJSON or JSON, as ``Booster.save_raw`` gives it. An attribute
        ``onlinestack_columns`` (numbers and commas) tells which of the table's columns each feature
        stands for; without one, features are columns.

    Raises
    ------
    ForestError
        When the bytes are no model of XGBoost 3, or one of another kind than ``gbtree`` with
        ``binary:logistic`` and plain splits.

    Examples
    --------
    >>> import numpy as np, xgboost
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    >>> data = xgboost.DMatrix(x, [0, 0, 1, 1])
    >>> settings = {"objective": "binary:logistic", "base_score": 0.5, "min_child_weight": 0}
    >>> booster = xgboost.train({**settings, "eta": 1, "nthread": 1}, data, 1)
    >>> forest = flatten(bytes(booster.save_raw("ubj")))
    >>> forest.threshold.tolist(), forest.child.tolist(), forest.base.item()
    ([2.0, nan, nan], [1, 1, 2], -0.0)
    """
    content = decode(model)
    try:
        return _forest(content)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        if isinstance(error, ForestError):
            raise
        raise ForestError(
            f"The model given is damaged ({type(error).__name__}: {error}), expected the whole of "
            "what XGBoost's Booster.save_raw returns; train it again."
        ) from None


def _forest(content: Mapping[str, Any]) -> Forest:
    version = ".".join(str(part) for part in content["version"])
    if content["version"][0] != MAJOR:
        raise _refused(f"of XGBoost {version}", f"one of XGBoost {MAJOR}")
    learner = content["learner"]
    booster, objective = learner["gradient_booster"], learner["objective"]["name"]
    parameters = learner["learner_model_param"]
    if booster["name"] != "gbtree":
        raise _refused(f"with booster {booster['name']!r}", "booster 'gbtree'")
    if objective != "binary:logistic":
        raise _refused(f"with objective {objective!r}", "objective 'binary:logistic'")
    if int(parameters.get("num_target", 1)) > 1 or int(parameters["num_class"]) > 1:
        raise _refused("with several targets", "one click or no click")
    features = int(parameters["num_feature"])
    if not 0 <= features < MOST:
        raise _refused(f"over {features} features", f"fewer than {MOST}")
    columns = _columns(learner, features)
    if len(columns) != features:
        raise _refused(f"with {len(columns)} columns for {features} features", "one for each")
    trees = [_Tree(tree, features) for tree in booster["model"]["trees"]]
    sizes = [len(tree.name) for tree in trees]
    root = np.cumsum([0, *sizes])[:-1].astype(np.uint32)

    def joined(name: str, dtype: Any) -> Any:
        parts = [getattr(tree, name).astype(dtype) for tree in trees]
        return np.concatenate([np.empty(0, dtype), *parts])

    feature, right = joined("feature", np.uint32), joined("right", np.uint32)
    return Forest(
        2 * columns[feature] + right,
        joined("threshold", np.float32),
        joined("child", np.uint32) + np.repeat(root, sizes),
        joined("value", np.float32),
        joined("name", np.uint32),
        root,
        np.array([tree.depth for tree in trees], np.int32),
        _margin(parameters["base_score"]),
    )


def _columns(learner: Mapping[str, Any], features: int) -> NDArray[np.uint32]:
    """Return the table's column that each feature stands for."""
    named = learner["attributes"].get(COLUMNS)
    return np.array(named.split(",") if named else range(features), np.uint32)


def gains_of(model: bytes) -> dict[int, float]:
    """Return what the splits on each column of the table gained, over all trees of a model.

    Parameters
    ----------
    model
        Bytes that `flatten` took.

    Examples
    --------
    >>> import numpy as np, xgboost
    >>> x = np.array([[0.0, 7], [1.0, 7], [2.0, 7], [3.0, 7]], np.float32)
    >>> data = xgboost.DMatrix(x, [0, 0, 1, 1])
    >>> settings = {"objective": "binary:logistic", "base_score": 0.5, "min_child_weight": 0}
    >>> booster = xgboost.train({**settings, "eta": 1, "nthread": 1}, data, 1)
    >>> list(gains_of(bytes(booster.save_raw("ubj"))))
    [0]
    """
    learner = decode(model)["learner"]
    columns = _columns(learner, int(learner["learner_model_param"]["num_feature"])).tolist()
    gains: dict[int, float] = {}
    for tree in learner["gradient_booster"]["model"]["trees"]:
        split = np.asarray(tree["left_children"], np.int64) >= 0
        features = np.asarray(tree["split_indices"], np.int64)[split].tolist()
        gained = np.asarray(tree["loss_changes"], np.float64)[split].tolist()
        for feature, gain in zip(features, gained, strict=True):
            gains[columns[feature]] = gains.get(columns[feature], 0.0) + gain
    return gains


def _margin(text: str) -> np.float32:
    """Return the log-odds of ``base_score``, a probability written plainly or as a list of one."""
    base = np.float32(text.strip("[]") if "," not in text else "nan")
    if not 0 < base < 1:
        raise _refused(f"with base_score {text}", "one probability between 0 and 1")
    return np.float32(-np.float32(log32(ONE / base - ONE)))


def _refused(given: str, expected: str) -> ForestError:
    return ForestError(f"A model {given} was given, expected {expected}; train it anew for that.")


class _Tree:
    """One tree in the order of the walk: level by level, children side by side."""

    def __init__(self, tree: Mapping[str, Any], features: int) -> None:
        left, right, feature = (
            np.asarray(tree[key], np.int64).tolist()
            for key in ("left_children", "right_children", "split_indices")
        )
        n = len(left)
        if np.any(np.asarray(tree["split_type"])) or len(tree["categories_nodes"]):
            raise _refused("with categorical splits", "splits of numbers")
        if int(tree["tree_param"]["size_leaf_vector"]) > 1:
            raise _refused("with several values a leaf", "one value a leaf")
        order, child, inner, self.depth, last = [0], [], [], 0, 1
        for at, node in enumerate(order):
            if at == last:
                self.depth, last = self.depth + 1, len(order)
            child.append(at if left[node] < 0 else len(order))
            inner.append(left[node] >= 0)
            if inner[at]:
                order += (left[node], right[node])
                ways = 0 < left[node] < n and 0 < right[node] < n and len(order) <= n
                if not ways or not 0 <= feature[node] < features:
                    raise IndexError(f"node {node} of {n}")
        split = np.array(inner)
        condition = np.asarray(tree["split_conditions"], np.float32)[order]
        missing_left = np.asarray(tree["default_left"], bool)[order]
        self.name = np.array(order)
        self.child = np.array(child)
        self.feature = np.where(split, np.array(feature)[order], 0)
        self.right = split & ~missing_left
        self.threshold = np.where(split, condition, np.float32(np.nan))
        self.value = np.where(split, np.float32(0), condition)
