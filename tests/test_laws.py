"""The laws of the architecture, for the linear preset, through the registry of parts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from onlinestack import LinearLearner, load, open_source, save
from onlinestack.block import PREDICT_ONE
from onlinestack.engine import Engine, needs_of
from onlinestack.io.records import records
from onlinestack.progressive import progressive_validate

N = 9000
"""Enough for several quanta in one batch, so that the first level works ahead in its thread."""
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"bits": 14},
    "pairs": {"bits": 16, "interactions": ("ff",), "l2": 1e-6},
    "squared": {"bits": 12, "loss": "squared", "update": "adaptive,invariant", "task": "click"},
    "numbers": {"bits": 14, "loss": "squared", "learning_rate": 2.0},
    "quantile": {"bits": 14, "loss": "quantile", "tau": 0.8, "update": "pistol"},
    "names": {"bits": 16, "oaa": 5},
    "few": {"bits": 14, "oaa": 3},
    "whole": {"bits": 16, "oaa": 3, "loss": "squared", "update": "adaptive", "l1": 1e-6},
    "ftrl": {"bits": 14, "update": "ftrl", "l1": 0.5},
    "coin": {"bits": 14, "update": "coin", "alpha": 2.0},
}
LABELS = {
    "numbers": "late",
    "quantile": "late",
    "names": "kind",
    "few": "kind",
    "whole": "size",
}
"""Columns with the labels of some settings; the others predict clicks."""


def table(n: int = N, seed: int = 3) -> pa.Table:
    """Return a small click log with every kind of column, missing values and missing labels."""
    rng = np.random.default_rng(seed)
    site = rng.zipf(1.4, n) % 40
    price = np.round(rng.lognormal(1, 1, n), 2)
    count = rng.integers(0, 30, n)
    p = 1 / (1 + np.exp(-(np.sin(site) + 0.3 * (count > 12) - 1)))
    label = (rng.random(n) < p).astype(int)
    tags = [" ".join(f"t{t}" for t in rng.integers(0, 9, rng.integers(0, 4))) for _ in range(n)]

    def some(values: Any, share: float) -> list[Any]:
        return [None if rng.random() < share else v for v in values]

    return pa.table(
        {
            "click": pa.array(some(label.tolist(), 0.05), pa.int64()),
            "site": pa.array(some([f"s{s}" for s in site], 0.1)),
            "price": pa.array(some(price.tolist(), 0.1), pa.float64()),
            "count": pa.array(some(count.tolist(), 0.1), pa.int64()),
            "mobile": pa.array((site % 2 == 0).tolist()),
            "tags": pa.array(some(tags, 0.1)),
            "w": pa.array(rng.choice([0.5, 1.0, 2.0], n)),
            "late": pa.array(some((site + 3 * label).tolist(), 0.05), pa.float64()),
            "kind": pa.array(some([f"k{s % 3 + 2 * (s > 30)}" for s in site], 0.05)),
            "size": pa.array(some((1 + site % 3).tolist(), 0.05), pa.int8()),
        }
    )


ROLES: dict[str, Any] = {
    "label": "click",
    "weight": "w",
    "text": ("tags",),
    "ignore": ("late", "kind", "size"),
}


def roles(settings: str) -> dict[str, Any]:
    """Return how a source is opened for some settings."""
    if settings not in LABELS:
        return ROLES
    label = LABELS[settings]
    others = {"click", "late", "kind", "size"} - {label}
    target = "number" if label == "late" else "class"
    return {**ROLES, "label": label, "ignore": tuple(sorted(others)), "target": target}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    pa.parquet.write_table(table(), path, row_group_size=8500)
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log for what takes records one by one: past the first change of bins."""
    path = tmp_path_factory.mktemp("log") / "few.parquet"
    pa.parquet.write_table(table(2500), path)
    return path


def fingerprint(model: LinearLearner) -> dict[str, bytes]:
    """Return every array and the JSON of a learner's state as bytes."""
    arrays, meta = model.state()
    out = {name: np.ascontiguousarray(array).tobytes() for name, array in arrays.items()}
    out["json"] = repr(meta).encode()
    return out


def learned(
    paths: Any, settings: str = "default", batch_size: int = 5000, **options: Any
) -> tuple[LinearLearner, np.ndarray]:
    source = open_source(paths, batch_size=batch_size, **{**roles(settings), **options})
    model = LinearLearner(**SETTINGS[settings])
    model.start(source.schema)
    batches = (model.admit(batch) for batch in source)
    return model, np.concatenate([model.progress(batch) for batch in batches])


@functools.cache
def whole(path: Path, settings: str) -> tuple[dict[str, bytes], np.ndarray]:
    """Return what learning a log in one go comes to, for tests that do it otherwise."""
    model, p = learned(path, settings)
    return fingerprint(model), p


@pytest.mark.parametrize("settings", sorted(SETTINGS.keys() - {"few"}))  # rejects depend on labels
def test_law_1_changing_a_record_changes_no_earlier_prediction(
    settings: str, tmp_path: Path
) -> None:
    """A label changes no prediction up to its record, a record none before it."""
    base = table(1500)
    rng = np.random.default_rng(4)
    reference: np.ndarray | None = None
    name = LABELS.get(settings, "click")
    other = {"click": (0, 1), "late": (0, 50), "kind": ("k0", "k1"), "size": (1, 2)}[name]
    for i in [None, 0, 31, 32, 700, 1499]:
        label = base[name].to_pylist()
        price = base["price"].to_pylist()
        if i is not None:
            label[i] = other[0] if label[i] == other[1] else other[1]
            price[i + 1 :] = (rng.lognormal(3, 2, len(price) - i - 1)).tolist()
        at = base.schema.get_field_index(name)
        changed = base.set_column(at, name, pa.array(label, base.schema.field(name).type))
        changed = changed.set_column(2, "price", pa.array(price, pa.float64()))
        path = tmp_path / f"{i}.parquet"
        pa.parquet.write_table(changed, path)
        _, p = learned(path, settings)
        if i is None:
            reference = p
        else:
            assert reference is not None
            assert p[: i + 1].tobytes() == reference[: i + 1].tobytes()
            assert i == 1499 or p[i + 1 :].tobytes() != reference[i + 1 :].tobytes()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("batch_size", [7, 65536])
def test_law_2_blocks_do_not_matter(log: Path, settings: str, batch_size: int) -> None:
    one, p = whole(log, settings)
    two, q = learned(log, settings, batch_size=batch_size)
    assert p.tobytes() == q.tobytes()
    assert fingerprint(two) == one


@pytest.mark.parametrize("settings", ["default", "numbers", "names"])  # one of each task
def test_law_2_a_block_may_be_one_record(few: Path, settings: str) -> None:
    one, p = whole(few, settings)
    two, q = learned(few, settings, batch_size=1)
    assert p.tobytes() == q.tobytes()
    assert fingerprint(two) == one


@pytest.mark.parametrize("settings", SETTINGS)
def test_law_2_looking_on_the_way_changes_nothing(log: Path, settings: str) -> None:
    expected, p = whole(log, settings)
    model = LinearLearner(**SETTINGS[settings])
    source = open_source(log, batch_size=5000, **roles(settings))
    model.start(source.schema)
    q = []
    for batch in map(model.admit, source):
        stops = sorted({1, 2, 3, 31, 32, 33, 100, 1000, batch.n - 1, batch.n})
        for before, part in zip([0, *stops], model.stretches(batch, stops), strict=False):
            assert len(model.scores) == len(part) == min(s for s in stops if s > before) - before
            q.append(part)
    assert np.concatenate(q).tobytes() == p.tobytes()
    assert fingerprint(model) == expected


def test_law_2_files_and_formats_do_not_matter(log: Path, tmp_path: Path) -> None:
    one, p = learned(log)
    whole = pa.parquet.read_table(log)
    paths = []
    for i, (start, stop) in enumerate([(0, 1), (1, 1100), (1100, N)]):
        paths.append(tmp_path / f"{i}.csv")
        pa.csv.write_csv(whole.slice(start, stop - start), paths[-1])
    kinds = {"numeric": ("price", "count"), "categorical": ("site", "mobile")}
    two, q = learned(paths, **kinds)
    assert p.tobytes() == q.tobytes()
    assert fingerprint(one) == fingerprint(two)


@pytest.mark.parametrize("settings", SETTINGS)
def test_law_2_learn_one_is_a_block_of_one(few: Path, settings: str) -> None:
    one, p = whole(few, settings)
    source = open_source(few, **roles(settings))
    two = LinearLearner(**SETTINGS[settings])
    two.start(source.schema)
    q: list[Any] = []
    for batch in source:
        for x, y, w in records(batch, source.schema.fields, source.schema.target):
            if two.aim == "click":
                q.append(two.predict_proba_one(x)[True])
            elif two.aim == "regression":
                q.append(two.predict_one(x))
            else:
                q.append(two._one(x, None, 1.0, PREDICT_ONE).copy())
            if y is not None and two.classes is not None:
                if two.classes.code(y, learn=True) is None:
                    q.pop()
                    continue
            if y is not None:
                two.learn_one(x, y, w=w)
    assert p.tobytes() == np.array(q, np.float32).tobytes()
    assert fingerprint(two) == one


def test_law_3_replay(log: Path) -> None:
    one, p = learned(log, "pairs")
    two, q = learned(log, "pairs")
    assert p.tobytes() == q.tobytes()
    assert fingerprint(one) == fingerprint(two)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("stop", [1, 31, 32, 33, 5777, N - 1])
def test_law_3_stop_and_resume_at_any_record(
    log: Path, settings: str, stop: int, tmp_path: Path
) -> None:
    one, p = whole(log, settings)
    source = open_source(log, **roles(settings))
    head = LinearLearner(**SETTINGS[settings])
    head.start(source.schema)
    pieces = []
    for batch in source:
        inside = min(stop - int(batch.row[0]), len(batch.row))
        pieces.append(head.progress(head.admit(batch.rows(0, inside))))
        if batch.row[0] + inside == stop:
            break
    save(head, tmp_path / "model")
    tail = load(tmp_path / "model")
    again = open_source(log, **roles(settings))
    again.seek(batch.position, inside)
    pieces += [tail.progress(tail.admit(batch)) for batch in again]
    assert np.concatenate(pieces).tobytes() == p.tobytes()
    assert fingerprint(tail) == one


def test_law_8_nothing_lost(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("click,site,w\n1,a,1\nmaybe,b,1\n,c,1\n0,d,-1\n0,e\n0,f,1\n")
    source = open_source(path, label="click", weight="w")
    model = LinearLearner(bits=10)
    model.start(source.schema)
    read = rejected = predicted = 0
    for batch in source:
        model.progress(batch)
        read += batch.read
        rejected += len(batch.rejects)
        predicted += int(np.isnan(batch.label).sum())
    assert (read, rejected, predicted, model.learned) == (6, 3, 1, 2)


def test_law_8_a_class_too_many_is_a_bad_row(log: Path) -> None:
    """Records of a fifth class, or of none that is a whole number, are rejected one by one."""
    for settings, limit in (("names", 4), ("names", 2), ("whole", 2)):
        source = open_source(log, batch_size=700, **roles(settings))
        model = LinearLearner(**{**SETTINGS[settings], "oaa": limit})
        model.start(source.schema)
        column = pa.parquet.read_table(log)[LABELS[settings]].to_pylist()
        met = list(dict.fromkeys(label for label in column if label is not None))
        if settings == "whole":
            met.sort()
        rejects, read, n = [], 0, 0
        for batch in source:
            admitted = model.admit(batch)
            model.progress(admitted)
            read, n = read + admitted.read, n + admitted.n
            rejects += admitted.rejects
        wrong = [i for i, label in enumerate(column) if label in met[limit:]]
        assert len(wrong) > 100
        assert [reject.row for reject in rejects] == wrong
        assert [reject.position for reject in rejects] == [i + 1 for i in wrong]
        assert all(str(column[r.row]) in r.reason and r.text for r in rejects)
        assert (read, n, len(wrong)) == (N, N - len(wrong), len(rejects))
        assert model.learned == sum(label in met[:limit] for label in column)
        with pytest.raises(ValueError, match="admit"):
            model.progress(next(iter(open_source(log, **roles(settings)))))


@pytest.mark.parametrize("settings", ["default", "numbers", "names", "whole", "coin"])
def test_unlabelled_records_change_nothing(log: Path, settings: str, tmp_path: Path) -> None:
    label = LABELS.get(settings, "click")
    known = pa.parquet.read_table(log).filter(pa.compute.is_valid(pa.compute.field(label)))
    path = tmp_path / "known.parquet"
    pa.parquet.write_table(known, path)
    assert fingerprint(learned(log, settings)[0]) == fingerprint(learned(path, settings)[0])


def test_scores_follow_the_records(log: Path) -> None:
    """What progressive validation says is what the predictions and labels say."""
    model, p = learned(log)
    source = open_source(log, **ROLES)
    *_, last = progressive_validate(source, LinearLearner(**SETTINGS["default"]))
    y = pa.parquet.read_table(log)["click"].to_pylist()
    w = pa.parquet.read_table(log)["w"].to_numpy()
    known = np.array([v is not None for v in y])
    truth = np.array([v for v in y if v is not None], float)
    loss = -np.log(np.where(truth == 1, p[known], 1 - p[known]))
    expected = (loss * w[known]).sum() / w[known].sum()
    assert last.scores["model"]["log_loss"] == pytest.approx(expected, abs=1e-6)
    assert last.learned == known.sum() == model.learned


def test_errors_follow_the_records(log: Path) -> None:
    """The errors progressive validation tells are those of predictions and labels."""
    _, p = learned(log, "numbers")
    source = open_source(log, **roles("numbers"))
    *_, last = progressive_validate(source, LinearLearner(**SETTINGS["numbers"]))
    y = pa.parquet.read_table(log)["late"].to_numpy(zero_copy_only=False)
    w = np.where(np.isnan(y), 0, pa.parquet.read_table(log)["w"].to_numpy())
    gap = np.where(np.isnan(y), 0, p - y)
    figures = last.scores["model"]
    assert figures["mae"] == pytest.approx((np.abs(gap) * w).sum() / w.sum(), rel=1e-9)
    assert figures["rmse"] == pytest.approx(np.sqrt((gap**2 * w).sum() / w.sum()), rel=1e-9)
    assert figures["mae"] < 0.8 * last.scores["constant"]["mae"]
    assert last.log_loss is None
    assert "mae" in str(last)


def test_class_scores_follow_the_records(log: Path) -> None:
    model, p = learned(log, "names")
    assert model.classes is not None
    column = pa.parquet.read_table(log)["kind"].to_pylist()
    w = pa.parquet.read_table(log)["w"].to_numpy()
    codes = {name: code for code, name in enumerate(model.classes.names)}
    admitted = [i for i, name in enumerate(column) if name is None or name in codes]
    rows = [(p[k, codes[column[i]]], w[i]) for k, i in enumerate(admitted) if column[i] in codes]
    loss = sum(-np.log(q) * v for q, v in rows) / sum(v for _, v in rows)
    source = open_source(log, **roles("names"))
    *_, last = progressive_validate(source, LinearLearner(**SETTINGS["names"]))
    figures = last.scores["model"]
    assert figures["log_loss"] == pytest.approx(loss, rel=1e-5)
    assert figures["log_loss"] < 0.5 * last.scores["constant"]["log_loss"]
    assert 0.9 < figures["accuracy"] <= 1
    assert np.allclose(p.sum(axis=1), 1, atol=1e-6)


class Source:
    """A source that counts, for any river classifier."""

    def __init__(self, log: Path) -> None:
        self.inner = open_source(log, **ROLES)
        self.schema = self.inner.schema

    def __iter__(self) -> Iterator[Any]:
        return iter(self.inner)


def test_progressive_validation_drives_any_river_classifier(log: Path) -> None:
    from river import compose, linear_model, preprocessing

    numbers = compose.SelectType(float, int) | preprocessing.StandardScaler()
    model = numbers | linear_model.LogisticRegression()
    points = list(progressive_validate(Source(log), model))
    assert [p.records for p in points] == [2**k for k in range(14)] + [N]
    assert 0.4 < points[-1].log_loss < 0.8  # type: ignore[operator]


class Waits:
    def __init__(self, fills: str, *needs: str) -> None:
        self.fills, self.needs = fills, needs


def test_order_and_circles() -> None:
    parts: Any = {"a": Waits("x"), "b": Waits("y", "x"), "c": Waits("z", "x", "y")}
    assert needs_of(parts) == {"a": [], "b": ["a"], "c": ["a", "b"]}
    parts["a"] = Waits("x", "z")
    with pytest.raises(ValueError, match="wait for each other"):
        Engine(parts)
