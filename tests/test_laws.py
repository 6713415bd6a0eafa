"""The laws of the architecture, for the linear preset, through the registry of parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from onlinestack import LinearLearner, load, open_source, save
from onlinestack.engine import Engine, levels_of
from onlinestack.progressive import progressive_validate, records

N = 9000
"""Enough for several quanta in one batch, so that the first level works ahead in its thread."""
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"bits": 14},
    "pairs": {"bits": 16, "interactions": ("ff",), "l2": 1e-6},
    "squared": {"bits": 12, "loss": "squared", "update": "adaptive,invariant"},
}


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
        }
    )


ROLES: dict[str, Any] = {"label": "click", "weight": "w", "text": ("tags",)}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    pa.parquet.write_table(table(), path, row_group_size=8500)
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
    source = open_source(paths, batch_size=batch_size, **{**ROLES, **options})
    model = LinearLearner(**SETTINGS[settings])
    model.start(source.schema)
    return model, np.concatenate([model.progress(batch) for batch in source])


@pytest.mark.parametrize("settings", SETTINGS)
def test_law_1_changing_a_record_changes_no_earlier_prediction(
    settings: str, tmp_path: Path
) -> None:
    """A label changes no prediction up to its record, a record none before it."""
    base = table(1500)
    rng = np.random.default_rng(4)
    reference: np.ndarray | None = None
    for i in [None, 0, 31, 32, 700, 1499]:
        label = base["click"].to_pylist()
        price = base["price"].to_pylist()
        if i is not None:
            label[i] = 0 if label[i] else 1
            price[i + 1 :] = (rng.lognormal(3, 2, len(price) - i - 1)).tolist()
        changed = base.set_column(0, "click", pa.array(label, pa.int64()))
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
@pytest.mark.parametrize("batch_size", [1, 7, 65536])
def test_law_2_blocks_do_not_matter(log: Path, settings: str, batch_size: int) -> None:
    one, p = learned(log, settings)
    two, q = learned(log, settings, batch_size=batch_size)
    assert p.tobytes() == q.tobytes()
    assert fingerprint(one) == fingerprint(two)


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
def test_law_2_learn_one_is_a_block_of_one(log: Path, settings: str) -> None:
    one, p = learned(log, settings)
    source = open_source(log, **ROLES)
    two = LinearLearner(**SETTINGS[settings])
    two.start(source.schema)
    q = []
    for batch in source:
        for x, y, w in records(batch, source.schema.fields):
            q.append(two.predict_proba_one(x)[True])
            if y is not None:
                two.learn_one(x, y, w=w)
    assert p.tobytes() == np.array(q, np.float32).tobytes()
    assert fingerprint(one) == fingerprint(two)


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
    whole, p = learned(log, settings)
    source = open_source(log, **ROLES)
    head = LinearLearner(**SETTINGS[settings])
    head.start(source.schema)
    pieces = []
    for batch in source:
        inside = min(stop - int(batch.row[0]), len(batch.row))
        pieces.append(head.progress(batch.rows(0, inside)))
        if batch.row[0] + inside == stop:
            break
    save(head, tmp_path / "model")
    tail = load(tmp_path / "model")
    again = open_source(log, **ROLES)
    again.seek(batch.position, inside)
    pieces += [tail.progress(batch) for batch in again]
    assert np.concatenate(pieces).tobytes() == p.tobytes()
    assert fingerprint(tail) == fingerprint(whole)


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


def test_unlabelled_records_change_nothing(log: Path, tmp_path: Path) -> None:
    known = pa.parquet.read_table(log).filter(pa.compute.is_valid(pa.compute.field("click")))
    path = tmp_path / "known.parquet"
    pa.parquet.write_table(known, path)
    assert fingerprint(learned(log)[0]) == fingerprint(learned(path)[0])


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


def test_levels_and_circles() -> None:
    parts: Any = {"a": Waits("x"), "b": Waits("y", "x"), "c": Waits("z", "x", "y")}
    assert levels_of(parts) == [["a"], ["b"], ["c"]]
    parts["a"] = Waits("x", "z")
    with pytest.raises(ValueError, match="wait for each other"):
        Engine(parts)
